/* Tests of rm_cache.h without threads: all of it works, and what would have to wait says so. */
#define RM_NO_THREADS
#define RM_IMPLEMENTATION
#include "rm_cache.h"
#include "rm_test.h"

typedef struct world {
    rm_virtual_clock hands;
    rm_clock clock;
    rm_env env;
    rm_cache *cache;
    int removed[6], loads;
    rm_status inner; /* what the loader got when it asked for its own key */
} world;

static void world_removed(const void *key, size_t key_size, const void *value, size_t size,
                          rm_cache_cause cause, void *user) {
    world *w = (world *)user;
    (void)key, (void)key_size, (void)value, (void)size;
    w->removed[cause]++;
    (void)rm_cache_get(w->cache, "any", 3, NULL, 0, NULL); /* may call back */
}

static bool world_open(world *w) {
    rm_cache_desc desc = rm_cache_desc_default();
    memset(w, 0, sizeof *w);
    CHECK_EQ(RM_OK, rm_virtual_clock_init(&w->hands, RM_SEC(1000), false));
    w->clock = rm_virtual_clock_clock(&w->hands);
    w->env.clock = &w->clock;
    desc.env = &w->env;
    desc.max_entries = 3;
    desc.ttl_ns = RM_SEC(10);
    desc.removed_fn = world_removed;
    desc.user = w;
    return CHECK_EQ(RM_OK, rm_cache_create(&desc, &w->cache, NULL));
}

static void world_close(world *w) {
    CHECK_EQ(RM_OK, rm_cache_destroy(w->cache));
    rm_virtual_clock_destroy(&w->hands);
}

static rm_status put(world *w, const char *key, const char *value) {
    return rm_cache_set(w->cache, key, strlen(key), value, strlen(value) + 1, 0, NULL);
}

TEST(cache_no_threads, sets_gets_evicts_and_expires) {
    char buffer[8];
    rm_cache_pin pin;
    world w;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, put(&w, "a", "1"));
    CHECK_EQ(RM_OK, put(&w, "b", "2"));
    CHECK_EQ(RM_OK, put(&w, "c", "3"));
    CHECK_EQ(RM_OK, rm_cache_get(w.cache, "a", 1, buffer, sizeof buffer, NULL));
    CHECK_STR("1", buffer);
    CHECK_EQ(RM_OK, put(&w, "d", "4"));
    CHECK_EQ(RM_E_NOT_FOUND, rm_cache_get(w.cache, "b", 1, buffer, sizeof buffer, NULL));
    CHECK_EQ(1, w.removed[RM_CACHE_CAUSE_EVICTED]);
    CHECK_EQ(RM_OK, rm_cache_acquire(w.cache, "a", 1, &pin));
    CHECK_EQ(RM_OK, rm_cache_delete(w.cache, "a", 1));
    CHECK_EQ(RM_E_BUSY, rm_cache_destroy(w.cache));
    CHECK_STR("1", (const char *)pin.value);
    CHECK_EQ(RM_OK, rm_cache_release(w.cache, &pin));
    CHECK_EQ(RM_E_STALE, rm_cache_release(w.cache, &pin));
    CHECK_EQ(1, w.removed[RM_CACHE_CAUSE_DELETED]);
    rm_virtual_clock_advance(&w.hands, RM_SEC(10));
    CHECK_EQ(2, rm_cache_maintain(w.cache, 0));
    CHECK_EQ(2, w.removed[RM_CACHE_CAUSE_EXPIRED]);
    world_close(&w);
}

static rm_status load_fn(rm_cache_load *load, const void *key, size_t key_size,
                         rm_deadline deadline, rm_error *error, void *user) {
    world *w = (world *)user;
    const rm_cache_loader loader = rm_cache_loader_make(load_fn, w);
    rm_cache_pin pin;
    (void)deadline;
    if (++w->loads < 3)
        w->inner = rm_cache_get_or_load(w->cache, key, key_size, &loader, RM_FOREVER, &pin, error);
    return rm_cache_load_set(load, "v", 2);
}

TEST(cache_no_threads, loads_and_never_waits_for_itself) {
    world w;
    const rm_cache_loader loader = rm_cache_loader_make(load_fn, &w);
    rm_cache_stats stats;
    rm_cache_pin pin;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, rm_cache_get_or_load(w.cache, "a", 1, &loader, 0, &pin, NULL));
    CHECK_STR("v", (const char *)pin.value);
    CHECK_EQ(RM_E_DEADLOCK, w.inner);
    CHECK_EQ(1, w.loads);
    CHECK_EQ(RM_OK, rm_cache_release(w.cache, &pin));
    CHECK_EQ(RM_OK, rm_cache_get_or_load(w.cache, "a", 1, &loader, 0, &pin, NULL));
    CHECK_EQ(RM_OK, rm_cache_release(w.cache, &pin));
    CHECK_EQ(1, w.loads);
    CHECK_EQ(RM_OK, rm_cache_stats_get(w.cache, &stats));
    CHECK_EQ(1, stats.hits);
    CHECK_EQ(2, stats.misses);
    CHECK_EQ(0, stats.load_waits);
    CHECK_EQ(1, rm_cache_clear(w.cache));
    CHECK_EQ(1, w.removed[RM_CACHE_CAUSE_CLEARED]);
    world_close(&w);
}

TEST_MAIN

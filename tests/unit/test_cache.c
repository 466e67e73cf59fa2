/* Tests of rm_cache.h: every time is a virtual clock's, nothing sleeps. */
#define RM_IMPLEMENTATION
#include "rm_cache.h"
#include "rm_test.h"

#include <stdlib.h>

#define LOAD(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
#define STORE(p, v) __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)
#define ADD(p, v) __atomic_add_fetch((p), (v), __ATOMIC_SEQ_CST)

/* ---- a gate that threads wait at ---- */

typedef struct gate {
    rm_mutex mutex;
    rm_cond cond;
    uint32_t arrived;
    bool open;
} gate;

static void gate_init(gate *g) {
    memset(g, 0, sizeof *g);
    CHECK_EQ(RM_OK, rm_mutex_init(&g->mutex));
    CHECK_EQ(RM_OK, rm_cond_init(&g->cond));
}

static void gate_end(gate *g) {
    rm_cond_destroy(&g->cond);
    rm_mutex_destroy(&g->mutex);
}

static void gate_pass(gate *g) {
    rm_mutex_lock(&g->mutex);
    g->arrived++;
    rm_cond_broadcast(&g->cond);
    while (!g->open)
        rm_cond_wait(&g->cond, &g->mutex, INT64_MAX);
    rm_mutex_unlock(&g->mutex);
}

static void gate_await(gate *g, uint32_t count) {
    rm_mutex_lock(&g->mutex);
    while (g->arrived < count)
        rm_cond_wait(&g->cond, &g->mutex, INT64_MAX);
    rm_mutex_unlock(&g->mutex);
}

static void gate_open(gate *g) {
    rm_mutex_lock(&g->mutex);
    g->open = true;
    rm_cond_broadcast(&g->cond);
    rm_mutex_unlock(&g->mutex);
}

/* ---- a world that can be driven: clock, random numbers, memory, removals ---- */

typedef struct removal {
    char key[24], value[40]; /* as text, cut */
    size_t size;
    rm_cache_cause cause;
} removal;

typedef struct world {
    rm_virtual_clock hands;
    rm_clock moved; /* by hands */
    int64_t lag;    /* of the coarse clock */
    gate *hold;     /* a wait until hold_until passes this gate before it goes on */
    int64_t hold_until;
    int64_t out;         /* bytes allocated */
    int64_t allocations; /* so far */
    int fail_at;         /* this allocation fails; 0 = none */
    bool threads;        /* more than one uses the cache */
    rm_rng rng;
    rm_clock clock;
    rm_random random;
    rm_allocator memory;
    rm_env env;
    rm_cache *cache;
    removal removals[64];
    int removed;
    char text[1024];
} world;

static int64_t world_now(void *user) {
    return rm_now(&((world *)user)->moved);
}

static int64_t world_coarse(void *user) {
    return rm_now(&((world *)user)->moved) - ((world *)user)->lag;
}

static void world_wait(rm_cond *cond, rm_mutex *mutex, int64_t until_ns, void *user) {
    world *w = (world *)user;
    w->moved.wait_fn(cond, mutex, until_ns, w->moved.user);
    if (w->hold == NULL || until_ns != w->hold_until) return;
    rm_mutex_unlock(mutex);
    gate_pass(w->hold);
    rm_mutex_lock(mutex);
}

enum { HEAD = 16 }; /* before every block, for its size */

static void *world_alloc(size_t size, void *user) {
    world *w = (world *)user;
    unsigned char *block;
    if (w->fail_at > 0 && --w->fail_at == 0) return NULL;
    block = (unsigned char *)malloc(size + HEAD);
    if (block == NULL) return NULL;
    memcpy(block, &size, sizeof size);
    ADD(&w->allocations, 1);
    ADD(&w->out, (int64_t)size);
    return memset(block + HEAD, 0xA5, size); /* nobody may count on zeros */
}

static void world_free(void *pointer, size_t size, void *user) {
    world *w = (world *)user;
    unsigned char *block = (unsigned char *)pointer - HEAD;
    size_t was;
    memcpy(&was, block, sizeof was);
    CHECK_EQ(was, size);
    ADD(&w->out, -(int64_t)size);
    free(block);
}

static uint64_t world_random(void *user) {
    return rm_rng_next(&((world *)user)->rng);
}

/* A look behind the curtain, so that a callback under the lock is a failed check and no hang. */
static bool lock_is_free(rm_cache *cache) {
    if (!rm_mutex_try_lock(&cache->queue.mutex)) return false;
    rm_mutex_unlock(&cache->queue.mutex);
    return true;
}

static void copy_text(char *to, size_t capacity, const void *from, size_t size) {
    if (size > capacity - 1) size = capacity - 1;
    memcpy(to, from, size);
    to[size] = '\0';
}

static void world_removed(const void *key, size_t key_size, const void *value, size_t size,
                          rm_cache_cause cause, void *user) {
    world *w = (world *)user;
    const int i = ADD(&w->removed, 1) - 1;
    if (!LOAD(&w->threads)) CHECK(lock_is_free(w->cache));
    if (i >= (int)(sizeof w->removals / sizeof *w->removals)) return;
    copy_text(w->removals[i].key, sizeof w->removals[i].key, key, key_size);
    copy_text(w->removals[i].value, sizeof w->removals[i].value, value, size);
    w->removals[i].size = size;
    w->removals[i].cause = cause;
}

static void world_init(world *w) {
    memset(w, 0, sizeof *w);
    CHECK_EQ(RM_OK, rm_virtual_clock_init(&w->hands, RM_SEC(1000), false));
    w->moved = rm_virtual_clock_clock(&w->hands);
    w->clock = w->moved;
    w->clock.now_fn = world_now;
    w->clock.coarse_fn = world_coarse;
    w->clock.wall_fn = world_now;
    w->clock.wait_fn = world_wait;
    w->clock.user = w;
    rm_rng_seed(&w->rng, 7);
    w->random.next_fn = world_random;
    w->random.user = w;
    w->memory.alloc_fn = world_alloc;
    w->memory.free_fn = world_free;
    w->memory.user = w;
    w->env.clock = &w->clock;
    w->env.random = &w->random;
    w->env.allocator = &w->memory;
}

/* Three entries, for ever. */
static rm_cache_desc small(void) {
    rm_cache_desc desc = rm_cache_desc_default();
    desc.name = "small";
    desc.max_entries = 3;
    desc.ttl_ns = RM_NONE;
    desc.max_pins = 8;
    return desc;
}

/* A bound in bytes: room for so many entries of an 1-byte key and a 9-byte value. */
static rm_cache_desc tens(int64_t count) {
    rm_cache_desc desc = small();
    desc.max_entries = 100;
    desc.max_bytes = count * (RM_CACHE_OVERHEAD + 10);
    return desc;
}

static bool world_make(world *w, rm_cache_desc desc) {
    desc.env = &w->env;
    if (desc.removed_fn == NULL) {
        desc.removed_fn = world_removed;
        desc.user = w;
    }
    return CHECK_EQ(RM_OK, rm_cache_create(&desc, &w->cache, NULL));
}

static bool world_open(world *w, rm_cache_desc desc) {
    world_init(w);
    return world_make(w, desc);
}

static void world_close(world *w) {
    CHECK_EQ(RM_OK, rm_cache_destroy(w->cache));
    CHECK_EQ(0, w->out);
    rm_virtual_clock_destroy(&w->hands);
}

static void pass(world *w, int64_t ns) {
    rm_virtual_clock_advance(&w->hands, ns);
}

/* ---- keys and values as text ---- */

static rm_status put_for(world *w, const char *key, const char *value, int64_t ttl_ns) {
    return rm_cache_set(w->cache, key, strlen(key), value, strlen(value), ttl_ns, NULL);
}

static rm_status put(world *w, const char *key, const char *value) {
    return put_for(w, key, value, 0);
}

static rm_status drop(world *w, const char *key) {
    return rm_cache_delete(w->cache, key, strlen(key));
}

static rm_status pin(world *w, const char *key, rm_cache_pin *out) {
    memset(out, 0, sizeof *out);
    return rm_cache_acquire(w->cache, key, strlen(key), out);
}

static rm_status unpin(world *w, rm_cache_pin *p) {
    return rm_cache_release(w->cache, p);
}

/* The value of a key; NULL when there is none. Counts as use. */
static const char *look(world *w, const char *key) {
    char buffer[256];
    size_t size = 0;
    const rm_status status = rm_cache_get(w->cache, key, strlen(key), buffer, sizeof buffer, &size);
    if (status != RM_OK) {
        CHECK_EQ(RM_E_NOT_FOUND, status);
        return NULL;
    }
    copy_text(w->text, sizeof w->text, buffer, size);
    return w->text;
}

static const char *pinned(world *w, const rm_cache_pin *p) {
    copy_text(w->text, sizeof w->text, p->value, p->size);
    return w->text;
}

/* What has gone since the last question, such as "a=1 evicted, b=2 deleted", sorted. */
static const char *gone(world *w) {
    char lines[64][80];
    const int count = w->removed;
    w->text[0] = '\0';
    for (int i = 0; i < count && i < 64; i++) {
        int at = i;
        char line[80];
        snprintf(line, sizeof line, "%s=%s %s", w->removals[i].key, w->removals[i].value,
                 rm_cache_cause_name(w->removals[i].cause));
        for (; at > 0 && strcmp(lines[at - 1], line) > 0; at--)
            memcpy(lines[at], lines[at - 1], sizeof *lines);
        memcpy(lines[at], line, sizeof line);
    }
    for (int i = 0; i < count && i < 64; i++) {
        const size_t used = strlen(w->text);
        snprintf(w->text + used, sizeof w->text - used, "%s%s", i == 0 ? "" : ", ", lines[i]);
    }
    w->removed = 0;
    return w->text;
}

static rm_cache_stats stats_of(world *w) {
    rm_cache_stats stats;
    memset(&stats, 0, sizeof stats);
    CHECK_EQ(RM_OK, rm_cache_stats_get(w->cache, &stats));
    return stats;
}

/* ---- set, get, delete, clear ---- */

TEST(cache, reads_back_what_was_set) {
    world w;
    REQUIRE(world_open(&w, small()));
    CHECK_EQ(RM_OK, put(&w, "tea", "green"));
    CHECK_EQ(RM_OK, put(&w, "tee", "black"));
    CHECK_STR("green", look(&w, "tea"));
    CHECK_STR("black", look(&w, "tee"));
    CHECK_STR(NULL, look(&w, "te"));
    CHECK_STR(NULL, look(&w, "teas"));
    CHECK_EQ(2, stats_of(&w).entries);
    world_close(&w);
    CHECK_STR("tea=green cleared, tee=black cleared", gone(&w));
}

TEST(cache, keeps_its_own_copy_of_key_and_value) {
    world w;
    char key[] = "tea", value[] = "green";
    REQUIRE(world_open(&w, small()));
    CHECK_EQ(RM_OK, put(&w, key, value));
    key[0] = value[0] = 'x';
    CHECK_STR("green", look(&w, "tea"));
    world_close(&w);
}

TEST(cache, replaces_a_value) {
    world w;
    REQUIRE(world_open(&w, small()));
    CHECK_EQ(RM_OK, put(&w, "a", "1"));
    CHECK_EQ(RM_OK, put(&w, "a", "two"));
    CHECK_STR("a=1 replaced", gone(&w));
    CHECK_STR("two", look(&w, "a"));
    CHECK_EQ(1, stats_of(&w).entries);
    CHECK_EQ(2, stats_of(&w).sets);
    world_close(&w);
}

TEST(cache, deletes_a_value) {
    world w;
    REQUIRE(world_open(&w, small()));
    CHECK_EQ(RM_E_NOT_FOUND, drop(&w, "a"));
    CHECK_EQ(RM_OK, put(&w, "a", "1"));
    CHECK_EQ(RM_OK, drop(&w, "a"));
    CHECK_STR("a=1 deleted", gone(&w));
    CHECK_EQ(RM_E_NOT_FOUND, drop(&w, "a"));
    CHECK_STR(NULL, look(&w, "a"));
    CHECK_EQ(0, stats_of(&w).bytes);
    world_close(&w);
    CHECK_STR("", gone(&w));
}

TEST(cache, clears_everything_and_says_how_much) {
    world w;
    REQUIRE(world_open(&w, small()));
    CHECK_EQ(0, rm_cache_clear(w.cache));
    CHECK_EQ(RM_OK, put(&w, "a", "1"));
    CHECK_EQ(RM_OK, put(&w, "b", "2"));
    CHECK_EQ(2, rm_cache_clear(w.cache));
    CHECK_STR("a=1 cleared, b=2 cleared", gone(&w));
    CHECK_STR(NULL, look(&w, "a"));
    CHECK_EQ(0, stats_of(&w).entries);
    CHECK_EQ(0, stats_of(&w).bytes);
    CHECK_EQ(RM_OK, put(&w, "a", "3"));
    CHECK_STR("3", look(&w, "a"));
    world_close(&w);
}

TEST(cache, takes_empty_keys_and_empty_values) {
    world w;
    rm_cache_pin p;
    size_t size = 9;
    REQUIRE(world_open(&w, small()));
    CHECK_EQ(RM_OK, put(&w, "", "nothing"));
    CHECK_STR("nothing", look(&w, ""));
    CHECK_EQ(RM_OK, put(&w, "a", ""));
    CHECK_STR("", look(&w, "a"));
    CHECK_EQ(RM_OK, rm_cache_get(w.cache, "a", 1, NULL, 0, &size));
    CHECK_EQ(0, size);
    CHECK_EQ(RM_OK, pin(&w, "a", &p));
    CHECK(p.value != NULL);
    CHECK_EQ(0, p.size);
    CHECK_EQ(RM_OK, unpin(&w, &p));
    CHECK_EQ(RM_OK, drop(&w, ""));
    CHECK_STR("=nothing deleted", gone(&w));
    world_close(&w);
}

TEST(cache, takes_null_where_the_size_is_zero) {
    world w;
    rm_cache_pin p;
    size_t size = 9;
    REQUIRE(world_open(&w, small()));
    CHECK_EQ(RM_OK, rm_cache_set(w.cache, NULL, 0, NULL, 0, 0, NULL));
    CHECK_EQ(RM_OK, rm_cache_get(w.cache, NULL, 0, NULL, 0, &size));
    CHECK_EQ(0, size);
    CHECK_STR("", look(&w, "")); /* it is the empty key */
    memset(&p, 0, sizeof p);
    CHECK_EQ(RM_OK, rm_cache_acquire(w.cache, NULL, 0, &p));
    CHECK_EQ(RM_OK, unpin(&w, &p));
    CHECK_EQ(RM_OK, rm_cache_delete(w.cache, NULL, 0));
    CHECK_EQ(RM_E_NOT_FOUND, rm_cache_delete(w.cache, NULL, 0));
    world_close(&w);
}

TEST(cache, tells_binary_keys_of_every_length_apart) {
    enum { LENGTHS = 200 };
    rm_cache_desc desc = small();
    unsigned char key[2][LENGTHS]; /* zeros; zeros that end in 255 */
    world w;
    desc.max_entries = 2 * LENGTHS;
    REQUIRE(world_open(&w, desc));
    memset(key, 0, sizeof key);
    for (size_t i = 1; i < LENGTHS; i++) {
        const size_t other = i + 1000;
        key[1][i - 1] = 255;
        CHECK_EQ(RM_OK, rm_cache_set(w.cache, key[0], i, &i, sizeof i, 0, NULL));
        CHECK_EQ(RM_OK, rm_cache_set(w.cache, key[1], i, &other, sizeof other, 0, NULL));
        key[1][i - 1] = 0;
    }
    CHECK_EQ(2 * (LENGTHS - 1), stats_of(&w).entries);
    for (size_t i = 1; i < LENGTHS; i++) {
        size_t a = 0, b = 0;
        key[1][i - 1] = 255;
        CHECK_EQ(RM_OK, rm_cache_get(w.cache, key[0], i, &a, sizeof a, NULL));
        CHECK_EQ(RM_OK, rm_cache_get(w.cache, key[1], i, &b, sizeof b, NULL));
        CHECK_EQ(i, a);
        CHECK_EQ(i + 1000, b);
        key[1][i - 1] = 0;
    }
    world_close(&w);
}

TEST(cache, keeps_keys_of_one_bucket_apart) {
    rm_cache_desc desc = small();
    world w;
    desc.max_entries = RM_NONE;
    desc.max_bytes = 25 * (RM_CACHE_OVERHEAD + 8); /* so few that there are 16 buckets */
    REQUIRE(world_open(&w, desc));
    CHECK_EQ(16, w.cache->bucket_count);
    for (uint32_t i = 0; i < 25; i++)
        CHECK_EQ(RM_OK, rm_cache_set(w.cache, &i, sizeof i, &i, sizeof i, 0, NULL));
    for (uint32_t i = 0; i < 25; i += 2)
        CHECK_EQ(RM_OK, rm_cache_delete(w.cache, &i, sizeof i));
    for (uint32_t i = 0; i < 25; i++) {
        uint32_t value = 99;
        CHECK_EQ(i % 2 == 0 ? RM_E_NOT_FOUND : RM_OK,
                 rm_cache_get(w.cache, &i, sizeof i, &value, sizeof value, NULL));
        CHECK_EQ(i % 2 == 0 ? 99 : i, value);
    }
    world_close(&w);
}

/* Nobody can make two keys with one hash; so the comparison is asked directly. */
TEST(cache, does_not_trust_the_hash_alone) {
    rm_cache_load load;
    rmi_cache_entry *entry;
    uint64_t hash;
    world w;
    REQUIRE(world_open(&w, small()));
    put(&w, "abc", "1");
    entry = w.cache->newest;
    hash = entry->hash;
    CHECK(rmi_cache_is(entry, hash, "abc", 3));
    CHECK(!rmi_cache_is(entry, hash, "abd", 3));
    CHECK(!rmi_cache_is(entry, hash, "ab", 2));
    CHECK(!rmi_cache_is(entry, hash + 1, "abc", 3));
    memset(&load, 0, sizeof load);
    load.hash = hash;
    load.key = "abc";
    load.key_size = 3;
    CHECK(rmi_cache_load_is(&load, hash, "abc", 3));
    CHECK(!rmi_cache_load_is(&load, hash, "abd", 3));
    CHECK(!rmi_cache_load_is(&load, hash, "ab", 2));
    CHECK(!rmi_cache_load_is(&load, hash + 1, "abc", 3));
    world_close(&w);
}

TEST(cache, takes_values_of_a_megabyte) {
    const size_t size = (size_t)1 << 20;
    unsigned char *value = (unsigned char *)malloc(2 * size), *copy = value + size;
    rm_cache_pin p;
    size_t told = 0;
    world w;
    REQUIRE(value != NULL);
    REQUIRE(world_open(&w, small()));
    for (size_t i = 0; i < size; i++)
        value[i] = (unsigned char)(i * 2654435761u >> 13);
    CHECK_EQ(RM_OK, rm_cache_set(w.cache, "big", 3, value, size, 0, NULL));
    CHECK_EQ(RM_OK, rm_cache_get(w.cache, "big", 3, copy, size, &told));
    CHECK_EQ(size, told);
    CHECK_EQ(0, memcmp(value, copy, size));
    CHECK_EQ(RM_OK, pin(&w, "big", &p));
    CHECK_EQ(0, memcmp(value, p.value, size));
    CHECK_EQ(RM_OK, unpin(&w, &p));
    CHECK_EQ(size + 3 + RM_CACHE_OVERHEAD, stats_of(&w).bytes);
    world_close(&w);
    free(value);
}

TEST(cache, tells_the_size_when_the_buffer_is_too_small) {
    char buffer[8] = "-------";
    size_t size = 0;
    world w;
    REQUIRE(world_open(&w, small()));
    CHECK_EQ(RM_OK, put(&w, "a", "12345"));
    CHECK_EQ(RM_E_TOO_LARGE, rm_cache_get(w.cache, "a", 1, buffer, 4, &size));
    CHECK_EQ(5, size);
    CHECK_STR("-------", buffer);
    CHECK_EQ(RM_E_TOO_LARGE, rm_cache_get(w.cache, "a", 1, NULL, 0, NULL));
    CHECK_EQ(RM_OK, rm_cache_get(w.cache, "a", 1, buffer, 5, &size));
    CHECK_STR("12345--", buffer);
    CHECK_EQ(3, stats_of(&w).hits); /* it was there every time */
    world_close(&w);
}

TEST(cache, leaves_the_outputs_alone_on_a_miss) {
    char buffer[4] = "abc";
    size_t size = 77;
    rm_cache_pin p, before;
    world w;
    REQUIRE(world_open(&w, small()));
    CHECK_EQ(RM_E_NOT_FOUND, rm_cache_get(w.cache, "a", 1, buffer, sizeof buffer, &size));
    CHECK_STR("abc", buffer);
    CHECK_EQ(77, size);
    memset(&p, 0x5A, sizeof p);
    before = p;
    CHECK_EQ(RM_E_NOT_FOUND, rm_cache_acquire(w.cache, "a", 1, &p));
    CHECK_EQ(0, memcmp(&p, &before, sizeof p));
    world_close(&w);
}

/* ---- the bounds ---- */

TEST(cache, evicts_the_least_recently_used) {
    world w;
    rm_cache_pin p;
    REQUIRE(world_open(&w, small()));
    put(&w, "a", "1");
    put(&w, "b", "2");
    put(&w, "c", "3");
    CHECK_STR("1", look(&w, "a")); /* a get is use */
    put(&w, "d", "4");
    CHECK_STR("b=2 evicted", gone(&w));
    put(&w, "c", "5"); /* a set is use */
    gone(&w);
    put(&w, "e", "6");
    CHECK_STR("a=1 evicted", gone(&w));
    CHECK_EQ(RM_OK, pin(&w, "d", &p)); /* a pin is use, its release too */
    CHECK_STR("5", look(&w, "c"));
    CHECK_EQ(RM_OK, unpin(&w, &p));
    put(&w, "f", "7");
    CHECK_STR("e=6 evicted", gone(&w));
    put(&w, "g", "8");
    CHECK_STR("c=5 evicted", gone(&w));
    CHECK_EQ(3, stats_of(&w).entries);
    world_close(&w);
}

TEST(cache, of_one_entry_keeps_the_last) {
    rm_cache_desc desc = small();
    world w;
    desc.max_entries = 1;
    REQUIRE(world_open(&w, desc));
    put(&w, "a", "1");
    put(&w, "b", "2");
    CHECK_STR("a=1 evicted", gone(&w));
    put(&w, "b", "3");
    CHECK_STR("b=2 replaced", gone(&w));
    CHECK_STR("3", look(&w, "b"));
    world_close(&w);
}

TEST(cache, charges_header_key_and_value) {
    world w;
    REQUIRE(world_open(&w, small()));
    put(&w, "key", "value");
    CHECK_EQ(RM_CACHE_OVERHEAD + 8, stats_of(&w).bytes);
    put(&w, "key", "a longer value");
    CHECK_EQ(RM_CACHE_OVERHEAD + 17, stats_of(&w).bytes);
    put(&w, "", "");
    CHECK_EQ(2 * RM_CACHE_OVERHEAD + 17, stats_of(&w).bytes);
    drop(&w, "key");
    CHECK_EQ(RM_CACHE_OVERHEAD, stats_of(&w).bytes);
    world_close(&w);
}

TEST(cache, makes_room_by_bytes) {
    world w;
    REQUIRE(world_open(&w, tens(3)));
    put(&w, "a", "123456789");
    put(&w, "b", "123456789");
    put(&w, "c", "123456789");
    CHECK_EQ(0, w.removed);
    put(&w, "d", "1"); /* one is enough */
    CHECK_STR("a=123456789 evicted", gone(&w));
    CHECK_EQ(3 * (RM_CACHE_OVERHEAD + 10) - 8, stats_of(&w).bytes);
    put(&w, "d", "123456789"); /* takes what is left, to the byte */
    CHECK_STR("d=1 replaced", gone(&w));
    CHECK_EQ(3 * (RM_CACHE_OVERHEAD + 10), stats_of(&w).bytes);
    world_close(&w);
}

TEST(cache, evicts_as_many_as_it_takes) {
    char value[2 * RM_CACHE_OVERHEAD + 29];
    world w;
    memset(value, 'x', sizeof value);
    REQUIRE(world_open(&w, tens(3)));
    put(&w, "a", "123456789");
    put(&w, "b", "123456789");
    put(&w, "c", "123456789");
    CHECK_EQ(RM_OK, rm_cache_set(w.cache, "d", 1, value, sizeof value, 0, NULL));
    CHECK_STR("a=123456789 evicted, b=123456789 evicted, c=123456789 evicted", gone(&w));
    CHECK_EQ(3 * (RM_CACHE_OVERHEAD + 10), stats_of(&w).bytes); /* to the byte */
    world_close(&w);
}

TEST(cache, a_replacement_uses_the_room_of_what_it_replaces) {
    world w;
    REQUIRE(world_open(&w, tens(2)));
    put(&w, "a", "123456789");
    put(&w, "b", "123456789");
    CHECK_EQ(RM_OK, put(&w, "a", "987654321"));
    CHECK_STR("a=123456789 replaced", gone(&w));
    CHECK_EQ(RM_OK, put(&w, "b", "9876543210")); /* one byte more than there is: a goes, not b */
    CHECK_STR("a=987654321 evicted, b=123456789 replaced", gone(&w));
    world_close(&w);
}

TEST(cache, refuses_what_is_above_max_bytes_and_stays_as_it_was) {
    char value[2 * (RM_CACHE_OVERHEAD + 10) - RM_CACHE_OVERHEAD];
    rm_error error;
    world w;
    memset(value, 'x', sizeof value);
    REQUIRE(world_open(&w, tens(2)));
    put(&w, "a", "1");
    put(&w, "b", "2");
    CHECK_EQ(RM_E_TOO_LARGE, rm_cache_set(w.cache, "a", 1, value, sizeof value, 0, &error));
    CHECK_EQ(RM_E_TOO_LARGE, error.status);
    CHECK_STR("small", error.where);
    CHECK_EQ(RM_E_TOO_LARGE, rm_cache_set(w.cache, value, sizeof value, "", 1, 0, NULL));
    CHECK_STR("", gone(&w));
    CHECK_STR("1", look(&w, "a"));
    CHECK_STR("2", look(&w, "b"));
    CHECK_EQ(2, stats_of(&w).sets);
    CHECK_EQ(RM_OK, rm_cache_set(w.cache, "a", 1, value, sizeof value - 1, 0, NULL));
    CHECK_STR("a=1 replaced, b=2 evicted", gone(&w));
    world_close(&w);
}

TEST(cache, without_a_bound_on_entries_keeps_all_that_fits) {
    rm_cache_desc desc = tens(1000);
    world w;
    desc.max_entries = RM_NONE;
    REQUIRE(world_open(&w, desc));
    for (uint32_t i = 0; i < 2000; i++)
        CHECK_EQ(RM_OK, rm_cache_set(w.cache, &i, sizeof i, "123456", 6, 0, NULL));
    CHECK_EQ(1000, stats_of(&w).entries);
    CHECK_EQ(1000, stats_of(&w).evicted);
    CHECK_EQ(desc.max_bytes, stats_of(&w).bytes);
    world_close(&w);
}

TEST(cache, without_a_bound_on_bytes_keeps_to_the_entries) {
    rm_cache_desc desc = small();
    world w;
    desc.max_bytes = RM_NONE;
    REQUIRE(world_open(&w, desc));
    for (uint32_t i = 0; i < 5; i++)
        CHECK_EQ(RM_OK, rm_cache_set(w.cache, &i, sizeof i, w.text, sizeof w.text, 0, NULL));
    CHECK_EQ(3, stats_of(&w).entries);
    world_close(&w);
}

/* ---- exact LRU, request for request ---- */

enum { STREAM_KEYS = 500 };

typedef struct lru { /* the plain model: when each key was used last; 0 = not in it */
    uint64_t used[STREAM_KEYS];
    size_t charge[STREAM_KEYS];
    bool expected[STREAM_KEYS]; /* evicted by the model, not yet told */
    uint64_t tick, entries, bytes;
    int64_t max_entries, max_bytes;
    int outstanding;
} lru;

static void lru_removed(const void *key, size_t key_size, const void *value, size_t size,
                        rm_cache_cause cause, void *user) {
    lru *m = (lru *)user;
    uint32_t k = 0;
    (void)value, (void)size;
    memcpy(&k, key, key_size);
    if (cause == RM_CACHE_CAUSE_CLEARED) return;
    CHECK_EQ(RM_CACHE_CAUSE_EVICTED, cause);
    CHECK(m->expected[k]);
    m->expected[k] = false;
    m->outstanding--;
}

static bool lru_over(const lru *m, size_t charge) {
    return (m->max_entries != RM_NONE && m->entries + 1 > (uint64_t)m->max_entries) ||
           (m->max_bytes != RM_NONE && m->bytes + charge > (uint64_t)m->max_bytes);
}

/* Puts a missing key in. */
static void lru_set(lru *m, uint32_t key, size_t charge) {
    while (lru_over(m, charge)) {
        uint32_t victim = STREAM_KEYS;
        for (uint32_t k = 0; k < STREAM_KEYS; k++) {
            if (m->used[k] != 0 && (victim == STREAM_KEYS || m->used[k] < m->used[victim]))
                victim = k;
        }
        m->used[victim] = 0;
        m->entries--;
        m->bytes -= m->charge[victim];
        m->expected[victim] = true;
        m->outstanding++;
    }
    m->used[key] = ++m->tick;
    m->charge[key] = charge;
    m->entries++;
    m->bytes += charge;
}

typedef enum stream_kind { STREAM_UNIFORM, STREAM_ZIPF, STREAM_SCAN, STREAM_KINDS } stream_kind;

/* Keys of one kind of stream: even, by 1 / rank, or hot keys between scans. */
static uint32_t stream_next(stream_kind kind, const rm_random *random, uint32_t i) {
    uint64_t at;
    uint32_t k = 0;
    if (kind == STREAM_UNIFORM) return (uint32_t)rm_random_below(random, STREAM_KEYS);
    if (kind == STREAM_SCAN)
        return i % 3 == 0 ? (uint32_t)rm_random_below(random, 20) : i / 3 % STREAM_KEYS;
    at = rm_random_below(random, 6790); /* about 1000 times the sum of 1 / rank over the keys */
    while (k + 1 < STREAM_KEYS && at >= 1000 / (k + 1))
        at -= 1000 / (k + 1), k++;
    return k;
}

static void lru_follow(stream_kind kind, int64_t max_entries, int64_t max_bytes) {
    static unsigned char value[300];
    rm_cache_desc desc = small();
    lru m;
    world w;
    uint64_t hits = 0;
    memset(&m, 0, sizeof m);
    m.max_entries = desc.max_entries = max_entries;
    m.max_bytes = desc.max_bytes = max_bytes;
    desc.removed_fn = lru_removed;
    desc.user = &m;
    REQUIRE(world_open(&w, desc));
    for (uint32_t i = 0; i < 6000; i++) {
        const uint32_t key = stream_next(kind, &w.random, i);
        const size_t size = (size_t)rm_random_below(&w.random, sizeof value);
        const bool hit = m.used[key] != 0;
        rm_cache_stats stats;
        REQUIRE(CHECK_EQ(hit ? RM_OK : RM_E_NOT_FOUND,
                         rm_cache_get(w.cache, &key, sizeof key, value, sizeof value, NULL)));
        if (hit) {
            m.used[key] = ++m.tick;
            hits++;
        } else {
            lru_set(&m, key, size + sizeof key + RM_CACHE_OVERHEAD);
            CHECK_EQ(RM_OK, rm_cache_set(w.cache, &key, sizeof key, value, size, 0, NULL));
        }
        REQUIRE(CHECK_EQ(0, m.outstanding));
        stats = stats_of(&w);
        REQUIRE(CHECK_EQ(m.entries, stats.entries) && CHECK_EQ(m.bytes, stats.bytes));
        REQUIRE(CHECK_EQ(hits, stats.hits));
    }
    CHECK(stats_of(&w).evicted > 500);
    CHECK(kind == STREAM_SCAN || hits > 500);
    world_close(&w);
}

TEST(cache, equals_a_plain_lru_with_a_bound_on_entries) {
    for (int kind = 0; kind < STREAM_KINDS; kind++)
        lru_follow((stream_kind)kind, 100, RM_NONE);
}

TEST(cache, equals_a_plain_lru_with_a_bound_on_bytes) {
    for (int kind = 0; kind < STREAM_KINDS; kind++)
        lru_follow((stream_kind)kind, RM_NONE, 20000);
}

TEST(cache, equals_a_plain_lru_with_both_bounds) {
    for (int kind = 0; kind < STREAM_KINDS; kind++)
        lru_follow((stream_kind)kind, 90, 22000);
}

/* ---- time to live ---- */

TEST(cache, forgets_a_value_at_the_nanosecond_of_its_expiry) {
    world w;
    REQUIRE(world_open(&w, small()));
    CHECK_EQ(RM_OK, put_for(&w, "a", "1", RM_SEC(10)));
    pass(&w, RM_SEC(10) - 1);
    CHECK_STR("1", look(&w, "a"));
    pass(&w, 1);
    CHECK_STR(NULL, look(&w, "a"));
    CHECK_STR("a=1 expired", gone(&w));
    CHECK_EQ(1, stats_of(&w).hits);
    CHECK_EQ(1, stats_of(&w).misses);
    CHECK_EQ(0, stats_of(&w).bytes);
    world_close(&w);
}

TEST(cache, gives_every_entry_its_own_time) {
    rm_cache_desc desc = small();
    world w;
    desc.max_entries = 10;
    desc.ttl_ns = RM_SEC(60);
    REQUIRE(world_open(&w, desc));
    put_for(&w, "short", "1", RM_SEC(1));
    put_for(&w, "usual", "2", 0);
    put_for(&w, "long", "3", RM_SEC(3600));
    put_for(&w, "ever", "4", RM_NONE);
    put_for(&w, "huge", "5", INT64_MAX);
    pass(&w, RM_SEC(1));
    CHECK_STR(NULL, look(&w, "short"));
    CHECK_STR("2", look(&w, "usual"));
    pass(&w, RM_SEC(59));
    CHECK_STR(NULL, look(&w, "usual"));
    CHECK_STR("3", look(&w, "long"));
    pass(&w, RM_SEC(3540));
    CHECK_STR(NULL, look(&w, "long"));
    pass(&w, INT64_MAX);
    CHECK_STR("4", look(&w, "ever"));
    CHECK_STR("5", look(&w, "huge"));
    CHECK_EQ(0, rm_cache_maintain(w.cache, 0));
    CHECK_EQ(RM_OK, drop(&w, "huge"));
    world_close(&w);
}

TEST(cache, lives_an_hour_by_default_and_for_ever_if_told) {
    world w;
    rm_cache_desc desc = small();
    desc.ttl_ns = 0;
    REQUIRE(world_open(&w, desc));
    put(&w, "a", "1");
    pass(&w, RM_SEC(3600) - 1);
    CHECK_STR("1", look(&w, "a")); /* reading does not renew */
    pass(&w, 1);
    CHECK_STR(NULL, look(&w, "a"));
    world_close(&w);
    REQUIRE(world_open(&w, small()));
    put(&w, "a", "1");
    pass(&w, INT64_MAX);
    CHECK_STR("1", look(&w, "a"));
    world_close(&w);
}

TEST(cache, an_overwrite_renews_the_time_or_cuts_it) {
    world w;
    REQUIRE(world_open(&w, small()));
    put_for(&w, "a", "1", RM_SEC(10));
    pass(&w, RM_SEC(9));
    put_for(&w, "a", "2", RM_SEC(10));
    pass(&w, RM_SEC(9));
    CHECK_STR("2", look(&w, "a"));
    put_for(&w, "a", "3", RM_SEC(1));
    pass(&w, RM_SEC(1));
    CHECK_STR(NULL, look(&w, "a"));
    put_for(&w, "a", "4", RM_SEC(1));
    put_for(&w, "a", "5", RM_NONE);
    pass(&w, RM_SEC(1000000));
    CHECK_STR("5", look(&w, "a"));
    world_close(&w);
}

TEST(cache, goes_by_the_coarse_clock) {
    world w;
    REQUIRE(world_open(&w, small()));
    w.lag = RM_MS(3);
    put_for(&w, "a", "1", RM_SEC(1));
    pass(&w, RM_SEC(1) - 1);
    CHECK_STR("1", look(&w, "a"));
    w.lag = RM_MS(3) + 1; /* the coarse clock stands still for a while */
    pass(&w, 1);
    CHECK_STR("1", look(&w, "a"));
    CHECK_EQ(0, rm_cache_maintain(w.cache, 0));
    w.lag = RM_MS(3);
    CHECK_STR(NULL, look(&w, "a"));
    world_close(&w);
}

TEST(cache, an_expired_value_can_be_neither_pinned_nor_deleted) {
    rm_cache_pin p;
    world w;
    REQUIRE(world_open(&w, small()));
    put_for(&w, "a", "1", RM_SEC(1));
    put_for(&w, "b", "2", RM_SEC(1));
    pass(&w, RM_SEC(1));
    CHECK_EQ(RM_E_NOT_FOUND, pin(&w, "a", &p));
    CHECK_STR("a=1 expired", gone(&w));
    CHECK_EQ(RM_E_NOT_FOUND, drop(&w, "b"));
    CHECK_STR("b=2 expired", gone(&w));
    CHECK_EQ(2, stats_of(&w).expired);
    CHECK_EQ(0, stats_of(&w).deleted);
    world_close(&w);
}

TEST(cache, sets_sweep_expired_memory_away) {
    rm_cache_desc desc = small();
    world w;
    desc.max_entries = 1024;
    REQUIRE(world_open(&w, desc));
    for (uint32_t i = 0; i < 1000; i++)
        CHECK_EQ(RM_OK, rm_cache_set(w.cache, &i, sizeof i, "12345678", 8, RM_SEC(1), NULL));
    pass(&w, RM_SEC(1));
    for (int i = 0; i < 256; i++) /* 4 of 1024 buckets each */
        put(&w, "k", "v");
    CHECK_EQ(1, stats_of(&w).entries);
    CHECK_EQ(1000, stats_of(&w).expired);
    CHECK_EQ(0, stats_of(&w).evicted);
    CHECK_EQ(RM_CACHE_OVERHEAD + 2, stats_of(&w).bytes);
    world_close(&w);
}

TEST(cache, maintain_brings_all_expired_memory_back) {
    rm_cache_desc desc = small();
    uint64_t swept = 0;
    world w;
    desc.max_entries = 1024;
    REQUIRE(world_open(&w, desc));
    CHECK_EQ(0, rm_cache_maintain(w.cache, 0));
    for (uint32_t i = 0; i < 500; i++)
        CHECK_EQ(RM_OK, rm_cache_set(w.cache, &i, sizeof i, "", 0,
                                     i % 2 == 0 ? RM_SEC(1) : RM_SEC(2), NULL));
    pass(&w, RM_SEC(1));
    CHECK_EQ(250, rm_cache_maintain(w.cache, 0));
    CHECK_EQ(250, stats_of(&w).entries);
    CHECK_EQ(250, w.removed);
    CHECK_EQ(0, rm_cache_maintain(w.cache, UINT32_MAX));
    pass(&w, RM_SEC(1));
    for (int i = 0; i < 16; i++) /* in slices, all around */
        swept += rm_cache_maintain(w.cache, 64);
    CHECK_EQ(250, swept);
    CHECK_EQ(0, stats_of(&w).bytes);
    world_close(&w);
}

/* ---- pins ---- */

TEST(cache, a_pin_outlives_every_kind_of_removal) {
    rm_cache_pin p[5];
    world w;
    REQUIRE(world_open(&w, small()));
    put(&w, "a", "replaced");
    CHECK_EQ(RM_OK, pin(&w, "a", &p[0]));
    put(&w, "a", "deleted");
    CHECK_EQ(RM_OK, pin(&w, "a", &p[1]));
    CHECK_EQ(RM_OK, drop(&w, "a"));
    put_for(&w, "a", "expired", RM_SEC(1));
    CHECK_EQ(RM_OK, pin(&w, "a", &p[2]));
    pass(&w, RM_SEC(1));
    CHECK_STR(NULL, look(&w, "a"));
    put(&w, "a", "cleared");
    CHECK_EQ(RM_OK, pin(&w, "a", &p[3]));
    CHECK_EQ(1, rm_cache_clear(w.cache));
    put(&w, "a", "kept");
    CHECK_EQ(RM_OK, pin(&w, "a", &p[4]));
    CHECK_STR("", gone(&w)); /* none has been told yet */
    CHECK_STR("replaced", pinned(&w, &p[0]));
    CHECK_STR("deleted", pinned(&w, &p[1]));
    CHECK_STR("expired", pinned(&w, &p[2]));
    CHECK_STR("cleared", pinned(&w, &p[3]));
    CHECK_STR("kept", pinned(&w, &p[4]));
    CHECK_EQ(5 * (RM_CACHE_OVERHEAD + 1) + 8 + 7 + 7 + 7 + 4, stats_of(&w).bytes);
    for (int i = 0; i < 5; i++)
        CHECK_EQ(RM_OK, unpin(&w, &p[i]));
    CHECK_STR("a=cleared cleared, a=deleted deleted, a=expired expired, a=replaced replaced",
              gone(&w));
    CHECK_EQ(RM_CACHE_OVERHEAD + 5, stats_of(&w).bytes);
    world_close(&w);
}

TEST(cache, a_pinned_value_is_not_evicted) {
    rm_cache_pin p;
    world w;
    REQUIRE(world_open(&w, small()));
    put(&w, "a", "1");
    CHECK_EQ(RM_OK, pin(&w, "a", &p));
    for (uint32_t i = 0; i < 10; i++)
        CHECK_EQ(RM_OK, rm_cache_set(w.cache, &i, sizeof i, "", 0, 0, NULL));
    CHECK_STR("1", look(&w, "a"));
    CHECK_EQ(8, stats_of(&w).evicted);
    CHECK_EQ(RM_OK, unpin(&w, &p)); /* now it is the youngest */
    gone(&w);
    put(&w, "b", "2");
    put(&w, "c", "3");
    CHECK_STR("1", look(&w, "a"));
    world_close(&w);
}

TEST(cache, is_full_when_all_is_pinned_and_leaves_what_is_there) {
    rm_cache_pin p[3];
    rm_error error;
    world w;
    memset(&error, 0, sizeof error);
    REQUIRE(world_open(&w, small()));
    put(&w, "a", "1");
    put(&w, "b", "2");
    put(&w, "c", "3");
    CHECK_EQ(RM_OK, pin(&w, "a", &p[0]));
    CHECK_EQ(RM_OK, pin(&w, "b", &p[1]));
    CHECK_EQ(RM_OK, pin(&w, "c", &p[2]));
    CHECK_EQ(RM_E_FULL, rm_cache_set(w.cache, "d", 1, "4", 1, 0, &error));
    CHECK_EQ(RM_E_FULL, error.status);
    CHECK_STR("small", error.where);
    CHECK_EQ(3, stats_of(&w).sets);
    CHECK_EQ(RM_OK, put(&w, "c", "5")); /* takes its own place */
    CHECK_STR("5", look(&w, "c"));
    CHECK_STR("3", pinned(&w, &p[2]));
    CHECK_EQ(RM_OK, unpin(&w, &p[0]));
    CHECK_EQ(RM_OK, put(&w, "d", "4"));
    CHECK_STR("c=5 evicted", gone(&w)); /* a=1 is younger since its release */
    CHECK_EQ(RM_OK, unpin(&w, &p[1]));
    CHECK_EQ(RM_OK, unpin(&w, &p[2]));
    world_close(&w);
}

TEST(cache, a_set_that_finds_no_room_evicts_nothing) {
    char value[RM_CACHE_OVERHEAD + 20];
    rm_cache_pin p;
    world w;
    memset(value, 'x', sizeof value);
    REQUIRE(world_open(&w, tens(3)));
    put(&w, "a", "123456789");
    put(&w, "b", "123456789");
    put(&w, "c", "123456789");
    CHECK_EQ(RM_OK, pin(&w, "b", &p));
    CHECK_EQ(RM_E_FULL, rm_cache_set(w.cache, "d", 1, value, sizeof value, 0, NULL));
    CHECK_EQ(RM_E_FULL, rm_cache_set(w.cache, "a", 1, value, sizeof value, 0, NULL));
    CHECK_EQ(RM_E_FULL, rm_cache_set(w.cache, "b", 1, value, sizeof value, 0, NULL));
    CHECK_STR("", gone(&w));
    CHECK_EQ(3, stats_of(&w).entries);
    CHECK_EQ(RM_OK, rm_cache_set(w.cache, "d", 1, value, sizeof value - 1, 0, NULL));
    CHECK_STR("a=123456789 evicted, c=123456789 evicted", gone(&w));
    CHECK_EQ(RM_OK, unpin(&w, &p));
    world_close(&w);
}

TEST(cache, what_only_a_pin_keeps_is_charged) {
    rm_cache_pin p;
    world w;
    REQUIRE(world_open(&w, tens(2)));
    put(&w, "a", "123456789");
    CHECK_EQ(RM_OK, pin(&w, "a", &p));
    CHECK_EQ(RM_OK, drop(&w, "a"));
    CHECK_EQ(0, stats_of(&w).entries);
    CHECK_EQ(RM_CACHE_OVERHEAD + 10, stats_of(&w).bytes);
    CHECK_EQ(RM_OK, put(&w, "b", "123456789"));
    CHECK_EQ(RM_OK, put(&w, "c", "123456789"));
    CHECK_STR("b=123456789 evicted", gone(&w));
    CHECK_EQ(RM_OK, unpin(&w, &p));
    CHECK_STR("a=123456789 deleted", gone(&w));
    CHECK_EQ(RM_CACHE_OVERHEAD + 10, stats_of(&w).bytes);
    world_close(&w);
}

TEST(cache, gives_out_max_pins_and_no_more) {
    rm_cache_desc desc = small();
    rm_cache_pin p[3];
    world w;
    desc.max_pins = 2;
    REQUIRE(world_open(&w, desc));
    put(&w, "a", "1");
    CHECK_EQ(RM_OK, pin(&w, "a", &p[0]));
    CHECK_EQ(RM_OK, pin(&w, "a", &p[1])); /* twice the same is two pins */
    CHECK_EQ(2, stats_of(&w).pins);
    memset(&p[2], 0, sizeof p[2]);
    CHECK_EQ(RM_E_FULL, rm_cache_acquire(w.cache, "a", 1, &p[2]));
    CHECK(p[2].value == NULL);
    CHECK_EQ(RM_OK, drop(&w, "a"));
    CHECK_EQ(RM_OK, unpin(&w, &p[0]));
    CHECK_STR("", gone(&w)); /* the other one has it still */
    CHECK_EQ(RM_OK, unpin(&w, &p[1]));
    CHECK_STR("a=1 deleted", gone(&w));
    put(&w, "b", "2");
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(RM_OK, pin(&w, "b", &p[0]));
        CHECK_EQ(RM_OK, pin(&w, "b", &p[1]));
        CHECK_EQ(RM_E_FULL, pin(&w, "b", &p[2]));
        CHECK_EQ(RM_OK, unpin(&w, &p[i % 2]));
        CHECK_EQ(RM_OK, unpin(&w, &p[1 - i % 2]));
    }
    CHECK_EQ(0, stats_of(&w).pins);
    world_close(&w);
}

TEST(cache, a_second_release_is_a_status) {
    rm_cache_pin p, copy, again;
    world w;
    REQUIRE(world_open(&w, small()));
    put(&w, "a", "1");
    CHECK_EQ(RM_OK, pin(&w, "a", &p));
    copy = p;
    CHECK_EQ(RM_OK, unpin(&w, &p));
    CHECK(p.value == NULL && p.size == 0 && p.sequence == 0);
    CHECK_EQ(RM_E_STALE, unpin(&w, &p));
    CHECK_EQ(RM_E_STALE, unpin(&w, &copy));
    CHECK_EQ(RM_OK, pin(&w, "a", &again)); /* the slot is in use again */
    CHECK_EQ(copy.slot, again.slot);
    CHECK_EQ(RM_E_STALE, unpin(&w, &copy));
    CHECK_EQ(1, stats_of(&w).pins);
    CHECK_EQ(RM_OK, unpin(&w, &again));
    world_close(&w);
}

TEST(cache, a_foreign_or_forged_pin_is_a_status) {
    rm_cache_pin p, forged;
    world w, other;
    REQUIRE(world_open(&w, small()) && world_open(&other, small()));
    put(&w, "a", "1");
    put(&other, "a", "1");
    CHECK_EQ(RM_OK, pin(&w, "a", &p));
    CHECK_EQ(RM_E_FOREIGN, unpin(&other, &p));
    CHECK(p.value != NULL); /* still good for its own cache */
    forged = p;
    forged.slot = 8;
    CHECK_EQ(RM_E_FOREIGN, unpin(&w, &forged));
    forged.slot = UINT32_MAX;
    CHECK_EQ(RM_E_FOREIGN, unpin(&w, &forged));
    forged = p;
    forged.sequence++;
    CHECK_EQ(RM_E_STALE, unpin(&w, &forged));
    for (uint32_t slot = 0; slot < 8; slot++) { /* slots that were never out */
        forged = p;
        forged.slot = slot;
        forged.sequence = 0;
        CHECK_EQ(RM_E_STALE, unpin(&w, &forged));
    }
    for (int i = 0; i < 20000; i++) {
        unsigned char bytes[sizeof forged];
        rm_status status;
        for (size_t k = 0; k < sizeof bytes; k++)
            bytes[k] = (unsigned char)rm_rng_next(&w.rng);
        memcpy(&forged, bytes, sizeof forged);
        if (i % 2 == 0) forged.cache = p.cache;
        if (i % 4 == 0) forged.slot %= 8;
        status = unpin(&w, &forged);
        CHECK(status == RM_E_STALE || status == RM_E_FOREIGN);
    }
    CHECK_EQ(1, stats_of(&w).pins);
    CHECK_EQ(RM_OK, unpin(&w, &p));
    world_close(&w);
    world_close(&other);
}

TEST(cache, aligns_values_as_malloc_does) {
    rm_cache_desc desc = small();
    world w;
    desc.max_entries = 100;
    REQUIRE(world_open(&w, desc));
    for (size_t size = 0; size < 40; size++) {
        rm_cache_pin p;
        CHECK_EQ(RM_OK, rm_cache_set(w.cache, w.text, size, w.text, 39 - size, 0, NULL));
        CHECK_EQ(RM_OK, rm_cache_acquire(w.cache, w.text, size, &p));
        CHECK_EQ(0, (uintptr_t)p.value % (2 * sizeof(void *)));
        CHECK_EQ(RM_OK, unpin(&w, &p));
    }
    world_close(&w);
}

TEST(cache, stays_while_a_pin_is_out) {
    rm_cache_pin p;
    world w;
    REQUIRE(world_open(&w, small()));
    put(&w, "a", "1");
    put(&w, "b", "2");
    CHECK_EQ(RM_OK, pin(&w, "a", &p));
    CHECK_EQ(RM_E_BUSY, rm_cache_destroy(w.cache));
    CHECK_STR("", gone(&w));
    CHECK_STR("2", look(&w, "b"));
    CHECK_EQ(RM_OK, drop(&w, "a"));
    CHECK_EQ(RM_E_BUSY, rm_cache_destroy(w.cache)); /* out of the cache, but pinned */
    CHECK_EQ(RM_OK, unpin(&w, &p));
    world_close(&w);
}

/* ---- loading ---- */

typedef struct source { /* what load_fn does */
    world *w;
    const char *value;   /* handed over; NULL = nothing */
    const char *message; /* left in the error record; NULL = nothing */
    rm_status status;    /* returned */
    gate *gate;          /* passed first; NULL = none */
    uint32_t await;      /* waits until so many threads wait on the clock */
    const char *before;  /* handed over before value */
    const char *drops;   /* deletes this key */
    const char *asks;    /* loads this key from inside, with the same source */
    rm_status asked;     /* what came of it */
    int64_t takes;       /* moves the clock on */
    int calls;
    int64_t left; /* until its deadline */
} source;

static rm_status load_text(rm_cache_load *load, const void *key, size_t key_size,
                           rm_deadline deadline, rm_error *error, void *user) {
    source *s = (source *)user;
    world *w = s->w;
    const int call = ADD(&s->calls, 1);
    CHECK(LOAD(&w->threads) || lock_is_free(w->cache));
    CHECK(error != NULL && (key != NULL || key_size == 0));
    s->left = rm_deadline_left(&w->clock, deadline);
    if (s->gate != NULL) gate_pass(s->gate);
    rm_virtual_clock_await(&w->hands, s->await);
    pass(w, s->takes);
    if (s->drops != NULL) (void)drop(w, s->drops);
    if (s->asks != NULL && call < 5) {
        const rm_cache_loader loader = rm_cache_loader_make(load_text, s);
        rm_cache_pin p;
        s->asked =
            rm_cache_get_or_load(w->cache, s->asks, strlen(s->asks), &loader, RM_SEC(1), &p, error);
        if (s->asked == RM_OK)
            CHECK_EQ(RM_OK, unpin(w, &p));
        else if (s->message == NULL)
            return s->asked;
    }
    if (s->before != NULL) CHECK_EQ(RM_OK, rm_cache_load_set(load, s->before, strlen(s->before)));
    if (s->value != NULL) {
        const rm_status status = rm_cache_load_set(load, s->value, strlen(s->value));
        if (status != RM_OK) return status;
    }
    if (s->message != NULL) return rm_error_set(error, s->status, 61, "origin", "%s", s->message);
    return s->status;
}

static source source_of(world *w, const char *value) {
    source s;
    memset(&s, 0, sizeof s);
    s.w = w;
    s.value = value;
    return s;
}

/* One call of rm_cache_get_or_load, and what came of it. */
typedef struct caller {
    rm_thread thread;
    world *w;
    source *source;
    const char *key;
    int64_t timeout_ns;
    rm_status status;
    rm_error error;
    char text[64];
    bool silent; /* passes no error record */
} caller;

static void caller_run(void *user) {
    caller *c = (caller *)user;
    const rm_cache_loader loader = rm_cache_loader_make(load_text, c->source);
    rm_cache_pin p;
    memset(&p, 0, sizeof p);
    c->status = rm_cache_get_or_load(c->w->cache, c->key, strlen(c->key), &loader, c->timeout_ns,
                                     &p, c->silent ? NULL : &c->error);
    if (c->status != RM_OK) {
        CHECK(p.value == NULL);
        return;
    }
    copy_text(c->text, sizeof c->text, p.value, p.size);
    CHECK_EQ(RM_OK, unpin(c->w, &p));
}

static caller caller_of(source *s, const char *key, int64_t timeout_ns) {
    caller c;
    memset(&c, 0, sizeof c);
    c.w = s->w;
    c.source = s;
    c.key = key;
    c.timeout_ns = timeout_ns;
    return c;
}

static void caller_start(caller *c) {
    STORE(&c->w->threads, true);
    CHECK_EQ(RM_OK, rm_thread_start(&c->thread, caller_run, c));
}

/* Loads in this thread. */
static caller ask(source *s, const char *key) {
    caller c = caller_of(s, key, 0);
    caller_run(&c);
    return c;
}

TEST(cache, loads_what_is_missing_and_keeps_it) {
    world w;
    source s = source_of(&w, "green");
    caller c;
    REQUIRE(world_open(&w, small()));
    c = ask(&s, "tea");
    CHECK_EQ(RM_OK, c.status);
    CHECK_STR("green", c.text);
    CHECK_EQ(RM_SEC(30), s.left);
    CHECK_STR("green", look(&w, "tea"));
    CHECK_STR("green", ask(&s, "tea").text);
    CHECK_EQ(1, s.calls);
    CHECK_EQ(RM_CACHE_OVERHEAD + 8, stats_of(&w).bytes);
    CHECK_STR("green", ask(&s, "").text); /* the empty key too */
    CHECK_STR("green", look(&w, ""));
    world_close(&w);
}

TEST(cache, hands_its_deadline_to_the_loader) {
    world w;
    source s = source_of(&w, NULL);
    caller c = caller_of(&s, "a", RM_MS(70));
    s.status = RM_E_NOT_FOUND;
    REQUIRE(world_open(&w, small()));
    caller_run(&c);
    CHECK_EQ(RM_MS(70), s.left);
    c.timeout_ns = RM_FOREVER;
    caller_run(&c);
    CHECK_EQ(RM_FOREVER, s.left);
    c.timeout_ns = RM_NOWAIT;
    caller_run(&c);
    CHECK_EQ(RM_NOWAIT, s.left);
    CHECK_EQ(3, s.calls); /* a deadline bounds waits; it does not keep from loading */
    world_close(&w);
}

TEST(cache, sixty_four_threads_on_a_cold_key_load_it_once) {
    enum { THREADS = 64 };
    static caller callers[THREADS];
    rm_cache_desc desc = small();
    world w;
    source s = source_of(&w, "worth it");
    desc.max_pins = THREADS;
    s.await = THREADS - 1;
    REQUIRE(world_open(&w, desc));
    for (int i = 0; i < THREADS; i++) {
        callers[i] = caller_of(&s, "cold", RM_FOREVER);
        caller_start(&callers[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        rm_thread_join(&callers[i].thread);
        CHECK_EQ(RM_OK, callers[i].status);
        CHECK_STR("worth it", callers[i].text);
    }
    CHECK_EQ(1, s.calls);
    CHECK_EQ(1, stats_of(&w).loads);
    CHECK_EQ(THREADS - 1, stats_of(&w).load_waits);
    CHECK_EQ(THREADS, stats_of(&w).misses);
    CHECK_EQ(0, stats_of(&w).pins);
    CHECK_STR("worth it", look(&w, "cold"));
    world_close(&w);
    CHECK_STR("cold=worth it cleared", gone(&w));
}

TEST(cache, a_failure_ends_all_waits_in_one_round) {
    enum { THREADS = 8 };
    static caller callers[THREADS];
    world w;
    source s = source_of(&w, "half a value"); /* must not be kept */
    s.await = THREADS - 1;
    s.status = RM_E_REFUSED;
    s.message = "the origin said no";
    REQUIRE(world_open(&w, small()));
    for (int i = 0; i < THREADS; i++) {
        callers[i] = caller_of(&s, "cold", RM_FOREVER);
        callers[i].silent = i >= THREADS / 2; /* one of each kind waits */
        caller_start(&callers[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        rm_thread_join(&callers[i].thread);
        CHECK_EQ(RM_E_REFUSED, callers[i].status);
        if (callers[i].silent) continue;
        CHECK_EQ(RM_E_REFUSED, callers[i].error.status);
        CHECK_EQ(61, callers[i].error.native);
        CHECK_STR("origin", callers[i].error.where);
        CHECK_STR("the origin said no", callers[i].error.message);
    }
    CHECK_EQ(1, s.calls);
    CHECK_EQ(1, stats_of(&w).load_failures);
    CHECK_EQ(0, stats_of(&w).entries);
    CHECK_STR(NULL, look(&w, "cold"));
    s.await = 0;
    s.status = RM_OK;
    s.message = NULL;
    CHECK_STR("half a value", ask(&s, "cold").text); /* a failure is not remembered */
    CHECK_EQ(2, s.calls);
    world_close(&w);
}

TEST(cache, the_end_of_a_load_ends_the_waits_for_it_and_no_others) {
    gate gates[2];
    world w;
    source sources[2] = {source_of(&w, "good"), source_of(&w, "bad")};
    caller callers[4]; /* two for "good", two for "bad" */
    REQUIRE(world_open(&w, small()));
    sources[1].status = RM_E_AUTH;
    for (int i = 0; i < 2; i++) {
        gate_init(&gates[i]);
        sources[i].gate = &gates[i];
        callers[2 * i] = caller_of(&sources[i], sources[i].value, RM_FOREVER);
        callers[2 * i + 1] = callers[2 * i];
        caller_start(&callers[2 * i]);
        gate_await(&gates[i], 1);
        caller_start(&callers[2 * i + 1]);
    }
    rm_virtual_clock_await(&w.hands, 2);
    gate_open(&gates[1]);
    for (int i = 2; i < 4; i++) {
        rm_thread_join(&callers[i].thread);
        CHECK_EQ(RM_E_AUTH, callers[i].status);
    }
    rm_virtual_clock_await(&w.hands, 1);
    gate_open(&gates[0]);
    for (int i = 0; i < 2; i++) {
        rm_thread_join(&callers[i].thread);
        CHECK_EQ(RM_OK, callers[i].status);
        CHECK_STR("good", callers[i].text);
        gate_end(&gates[i]);
    }
    world_close(&w);
}

TEST(cache, says_something_when_the_loader_does_not) {
    world w;
    source s = source_of(&w, NULL);
    REQUIRE(world_open(&w, small()));
    for (int status = RM_E_INVALID; status <= RM_E_INTERNAL; status++) {
        caller c;
        s.status = (rm_status)status;
        c = ask(&s, "a");
        CHECK_EQ(status, c.status);
        CHECK_EQ(status, c.error.status);
        CHECK_STR("small", c.error.where);
        CHECK(strstr(c.error.message, rm_status_name(s.status)) != NULL);
    }
    s.message = "what is returned counts, not what the record says";
    s.status = RM_OK;
    s.value = "fine";
    CHECK_EQ(RM_OK, ask(&s, "a").status);
    world_close(&w);
}

TEST(cache, a_load_without_a_value_has_failed) {
    world w;
    source s = source_of(&w, NULL);
    caller c;
    REQUIRE(world_open(&w, small()));
    c = ask(&s, "a");
    CHECK_EQ(RM_E_FAILED, c.status);
    CHECK_EQ(RM_E_FAILED, c.error.status);
    CHECK(strstr(c.error.message, "rm_cache_load_set") != NULL);
    CHECK_EQ(1, stats_of(&w).load_failures);
    CHECK_STR(NULL, look(&w, "a"));
    world_close(&w);
}

static rm_status load_empty(rm_cache_load *load, const void *key, size_t key_size,
                            rm_deadline deadline, rm_error *error, void *user) {
    (void)key, (void)deadline, (void)error, (void)user;
    CHECK_EQ(0, key_size);
    return rm_cache_load_set(load, NULL, 0);
}

TEST(cache, loads_an_empty_value_for_an_empty_key) {
    world w;
    const rm_cache_loader loader = rm_cache_loader_make(load_empty, NULL);
    rm_cache_pin p;
    size_t size = 9;
    REQUIRE(world_open(&w, small()));
    CHECK_EQ(RM_OK, rm_cache_get_or_load(w.cache, NULL, 0, &loader, 0, &p, NULL));
    CHECK(p.value != NULL && p.size == 0);
    CHECK_EQ(RM_OK, unpin(&w, &p));
    CHECK_EQ(RM_OK, rm_cache_get(w.cache, NULL, 0, NULL, 0, &size));
    CHECK_EQ(0, size);
    world_close(&w);
}

TEST(cache, of_two_values_handed_over_the_second_counts) {
    world w;
    source s = source_of(&w, "second");
    s.before = "first, and longer";
    REQUIRE(world_open(&w, small()));
    CHECK_STR("second", ask(&s, "a").text);
    CHECK_EQ(RM_CACHE_OVERHEAD + 7, stats_of(&w).bytes);
    world_close(&w);
    CHECK_STR("a=second cleared", gone(&w));
}

TEST(cache, a_loaded_value_lives_as_its_loader_says) {
    rm_cache_desc desc = small();
    world w;
    source s = source_of(&w, "v");
    rm_cache_loader loader = rm_cache_loader_make(load_text, &s);
    rm_cache_pin p;
    desc.ttl_ns = RM_SEC(10);
    REQUIRE(world_open(&w, desc));
    CHECK_EQ(0, loader.ttl_ns);
    s.takes = RM_SEC(5); /* the time counts from the end of the load */
    CHECK_EQ(RM_OK, rm_cache_get_or_load(w.cache, "a", 1, &loader, 0, &p, NULL));
    CHECK_EQ(RM_OK, unpin(&w, &p));
    loader.ttl_ns = RM_SEC(1);
    CHECK_EQ(RM_OK, rm_cache_get_or_load(w.cache, "b", 1, &loader, 0, &p, NULL));
    CHECK_EQ(RM_OK, unpin(&w, &p));
    loader.ttl_ns = RM_NONE;
    s.takes = 0;
    CHECK_EQ(RM_OK, rm_cache_get_or_load(w.cache, "c", 1, &loader, 0, &p, NULL));
    CHECK_EQ(RM_OK, unpin(&w, &p));
    pass(&w, RM_SEC(1));
    CHECK_STR(NULL, look(&w, "b"));
    CHECK_STR("v", look(&w, "a"));
    pass(&w, RM_SEC(4));
    CHECK_STR(NULL, look(&w, "a"));
    pass(&w, RM_SEC(10000));
    CHECK_STR("v", look(&w, "c"));
    world_close(&w);
}

TEST(cache, an_expired_value_is_loaded_anew) {
    world w;
    source s = source_of(&w, "new");
    REQUIRE(world_open(&w, small()));
    put_for(&w, "a", "old", RM_SEC(1));
    pass(&w, RM_SEC(1));
    CHECK_STR("new", ask(&s, "a").text);
    CHECK_STR("a=old expired", gone(&w));
    world_close(&w);
}

TEST(cache, a_waiter_keeps_its_own_deadline) {
    gate g;
    world w;
    source s = source_of(&w, "late");
    caller leader = caller_of(&s, "a", RM_SEC(60)), hasty = caller_of(&s, "a", RM_SEC(1)),
           patient = caller_of(&s, "a", RM_FOREVER), never = caller_of(&s, "a", RM_NOWAIT);
    s.gate = &g;
    gate_init(&g);
    REQUIRE(world_open(&w, small()));
    caller_start(&leader);
    gate_await(&g, 1);
    caller_run(&never);
    CHECK_EQ(RM_E_TIMEOUT, never.status);
    caller_start(&hasty);
    caller_start(&patient);
    rm_virtual_clock_await(&w.hands, 2);
    pass(&w, RM_SEC(1) - 1);
    rm_virtual_clock_await(&w.hands, 2);
    pass(&w, 1);
    rm_thread_join(&hasty.thread);
    CHECK_EQ(RM_E_TIMEOUT, hasty.status);
    CHECK_EQ(RM_E_TIMEOUT, hasty.error.status);
    CHECK_STR("small", hasty.error.where);
    gate_open(&g);
    rm_thread_join(&leader.thread);
    rm_thread_join(&patient.thread);
    CHECK_STR("late", leader.text);
    CHECK_STR("late", patient.text);
    CHECK_EQ(1, s.calls);
    CHECK_EQ(3, stats_of(&w).load_waits);
    world_close(&w);
    gate_end(&g);
}

/* The waiter's time is over and another ends its wait; before it runs again, the load ends too. */
TEST(cache, a_waiter_whose_time_was_over_first_hears_of_its_own_timeout) {
    for (int failing = 0; failing < 2; failing++) {
        gate g, hold;
        world w;
        source s = source_of(&w, "late");
        caller leader = caller_of(&s, "a", RM_SEC(60)), waiter = caller_of(&s, "a", RM_SEC(1)),
               other = caller_of(&s, "a", RM_NOWAIT);
        s.status = failing ? RM_E_AUTH : RM_OK;
        s.message = "not for the waiter";
        s.gate = &g;
        gate_init(&g);
        gate_init(&hold);
        REQUIRE(world_open(&w, small()));
        w.hold = &hold;
        w.hold_until = rm_now(&w.clock) + RM_SEC(1);
        caller_start(&leader);
        gate_await(&g, 1);
        caller_start(&waiter);
        rm_virtual_clock_await(&w.hands, 1);
        pass(&w, RM_SEC(1));
        gate_await(&hold, 1);
        caller_run(&other); /* finds the head of the queue overdue */
        CHECK_EQ(RM_E_TIMEOUT, other.status);
        gate_open(&g);
        rm_thread_join(&leader.thread);
        CHECK_EQ(s.status, leader.status);
        gate_open(&hold);
        rm_thread_join(&waiter.thread);
        CHECK_EQ(RM_E_TIMEOUT, waiter.status);
        CHECK_EQ(RM_E_TIMEOUT, waiter.error.status);
        CHECK_STR("small", waiter.error.where);
        CHECK_EQ(0, stats_of(&w).pins);
        world_close(&w);
        gate_end(&hold);
        gate_end(&g);
    }
}

/* A load of "a" runs and has a waiter; then `change` happens; both get "old", and nobody else. */
static void overtaken_by(void (*change)(world *w), const char *then, const char *told) {
    gate g;
    world w;
    source old = source_of(&w, "old"), fresh = source_of(&w, "new");
    caller leader = caller_of(&old, "a", RM_FOREVER), waiter = caller_of(&old, "a", RM_FOREVER),
           late = caller_of(&fresh, "a", RM_FOREVER);
    old.gate = &g;
    gate_init(&g);
    REQUIRE(world_open(&w, small()));
    caller_start(&leader);
    gate_await(&g, 1);
    caller_start(&waiter);
    rm_virtual_clock_await(&w.hands, 1);
    change(&w);
    caller_run(&late); /* at once: it does not wait for what is out of date */
    CHECK_EQ(RM_OK, late.status);
    CHECK_STR(then, late.text);
    gate_open(&g);
    rm_thread_join(&leader.thread);
    rm_thread_join(&waiter.thread);
    CHECK_STR("old", leader.text);
    CHECK_STR("old", waiter.text);
    CHECK_STR(then, look(&w, "a"));
    CHECK_STR(told, gone(&w));
    CHECK_EQ(1, stats_of(&w).refused);
    CHECK_EQ(1, stats_of(&w).entries);
    world_close(&w);
    gate_end(&g);
}

static void change_by_set(world *w) {
    CHECK_EQ(RM_OK, put(w, "a", "set"));
}

static void change_by_delete(world *w) {
    CHECK_EQ(RM_E_NOT_FOUND, drop(w, "a"));
}

static void change_by_clear(world *w) {
    CHECK_EQ(0, rm_cache_clear(w->cache));
}

static void change_by_set_and_delete(world *w) {
    CHECK_EQ(RM_OK, put(w, "a", "set"));
    CHECK_EQ(RM_OK, drop(w, "a"));
}

TEST(cache, a_write_during_a_load_wins) {
    overtaken_by(change_by_set, "set", "a=old refused");
    overtaken_by(change_by_delete, "new", "a=old refused");
    overtaken_by(change_by_clear, "new", "a=old refused");
    overtaken_by(change_by_set_and_delete, "new", "a=old refused, a=set deleted");
}

TEST(cache, what_does_not_touch_the_key_does_not_disturb_a_load) {
    gate g;
    world w;
    source s = source_of(&w, "v");
    caller leader = caller_of(&s, "a", RM_FOREVER);
    rm_cache_pin p[3];
    s.gate = &g;
    gate_init(&g);
    REQUIRE(world_open(&w, small()));
    caller_start(&leader);
    gate_await(&g, 1);
    put(&w, "b", "1");
    drop(&w, "b");
    CHECK_EQ(RM_OK, rm_cache_set(w.cache, NULL, 0, "2", 1, 0, NULL));
    CHECK_EQ(RM_OK, rm_cache_delete(w.cache, NULL, 0));
    rm_cache_maintain(w.cache, 0);
    for (uint32_t i = 0; i < 3; i++) {
        CHECK_EQ(RM_OK, rm_cache_set(w.cache, &i, 1, "", 0, 0, NULL));
        CHECK_EQ(RM_OK, rm_cache_acquire(w.cache, &i, 1, &p[i]));
    }
    CHECK_EQ(RM_E_FULL, put(&w, "a", "no room")); /* a write that failed is none */
    for (uint32_t i = 0; i < 3; i++)
        CHECK_EQ(RM_OK, unpin(&w, &p[i]));
    gate_open(&g);
    rm_thread_join(&leader.thread);
    CHECK_STR("v", look(&w, "a"));
    CHECK_EQ(0, stats_of(&w).refused);
    world_close(&w);
    gate_end(&g);
}

TEST(cache, a_set_from_inside_the_loader_wins_too) {
    world w;
    source s = source_of(&w, "old");
    s.drops = "a";
    REQUIRE(world_open(&w, small()));
    CHECK_STR("old", ask(&s, "a").text);
    CHECK_STR(NULL, look(&w, "a"));
    CHECK_STR("a=old refused", gone(&w));
    world_close(&w);
}

TEST(cache, a_load_that_asks_for_itself_is_a_deadlock) {
    world w;
    source s = source_of(&w, NULL);
    caller c;
    s.asks = "a";
    REQUIRE(world_open(&w, small()));
    c = ask(&s, "a");
    CHECK_EQ(RM_E_DEADLOCK, c.status);
    CHECK_EQ(RM_E_DEADLOCK, c.error.status);
    CHECK_EQ(1, s.calls);
    CHECK_EQ(0, stats_of(&w).load_waits);
    s.drops = "a"; /* even when the load that it would wait for is out of date */
    c = ask(&s, "a");
    CHECK_EQ(RM_E_DEADLOCK, c.status);
    CHECK_EQ(2, s.calls);
    world_close(&w);
}

TEST(cache, a_load_may_load_other_keys) {
    world w;
    source s = source_of(&w, "v");
    caller c;
    s.asks = "b";
    s.message = "";
    REQUIRE(world_open(&w, small()));
    c = ask(&s, "a"); /* a asks for b; b asks for b, and gets no answer */
    CHECK_EQ(RM_OK, c.status);
    CHECK_EQ(2, s.calls);
    CHECK_STR("v", look(&w, "a"));
    CHECK_STR("v", look(&w, "b"));
    world_close(&w);
}

TEST(cache, too_large_a_result_is_handed_out_but_not_kept) {
    static char value[2 * (RM_CACHE_OVERHEAD + 10) + 1];
    world w;
    source s = source_of(&w, value);
    rm_cache_loader loader = rm_cache_loader_make(load_text, &s);
    rm_cache_pin p;
    memset(value, 'x', sizeof value);
    value[sizeof value - 1] = '\0';
    REQUIRE(world_open(&w, tens(2)));
    put(&w, "a", "123456789");
    put(&w, "b", "123456789");
    CHECK_EQ(RM_OK, rm_cache_get_or_load(w.cache, "c", 1, &loader, 0, &p, NULL));
    CHECK_EQ(sizeof value - 1, p.size);
    CHECK_EQ(0, memcmp(p.value, value, p.size));
    CHECK_STR("", gone(&w)); /* nothing had to go for it */
    CHECK_EQ(2 * (RM_CACHE_OVERHEAD + 10), stats_of(&w).bytes);
    CHECK_EQ(RM_OK, put(&w, "d", "123456789")); /* and while it is out, the cache works */
    CHECK_STR("a=123456789 evicted", gone(&w));
    CHECK_EQ(RM_E_NOT_FOUND, rm_cache_get(w.cache, "c", 1, NULL, 0, NULL));
    CHECK_EQ(RM_OK, unpin(&w, &p));
    CHECK_EQ(1, w.removed);
    CHECK_EQ(RM_CACHE_CAUSE_REFUSED, w.removals[0].cause);
    CHECK_EQ(1, stats_of(&w).refused);
    CHECK_EQ(2, stats_of(&w).entries);
    world_close(&w);
}

TEST(cache, a_result_without_room_is_handed_out_but_not_kept) {
    world w;
    source s = source_of(&w, "v");
    rm_cache_pin p[3];
    REQUIRE(world_open(&w, small()));
    for (uint32_t i = 0; i < 3; i++) {
        CHECK_EQ(RM_OK, rm_cache_set(w.cache, &i, 1, "", 0, 0, NULL));
        CHECK_EQ(RM_OK, rm_cache_acquire(w.cache, &i, 1, &p[i]));
    }
    CHECK_STR("v", ask(&s, "a").text);
    CHECK_STR("a=v refused", gone(&w));
    CHECK_EQ(3 * (RM_CACHE_OVERHEAD + 1), stats_of(&w).bytes);
    for (uint32_t i = 0; i < 3; i++)
        CHECK_EQ(RM_OK, unpin(&w, &p[i]));
    world_close(&w);
}

TEST(cache, a_load_that_gets_no_pin_is_full_but_keeps_the_value) {
    rm_cache_desc desc = small();
    rm_cache_pin p;
    caller c;
    world w;
    source s = source_of(&w, "v");
    desc.max_pins = 1;
    REQUIRE(world_open(&w, desc));
    put(&w, "a", "1");
    CHECK_EQ(RM_OK, pin(&w, "a", &p));
    c = ask(&s, "b");
    CHECK_EQ(RM_E_FULL, c.status);
    CHECK_EQ(RM_E_FULL, c.error.status);
    c = ask(&s, "a");
    CHECK_EQ(RM_E_FULL, c.status);
    CHECK_EQ(RM_E_FULL, c.error.status);
    CHECK_EQ(1, s.calls);
    CHECK_STR("v", look(&w, "b"));
    s.drops = "c"; /* neither a pin nor a place in the cache */
    CHECK_EQ(RM_E_FULL, ask(&s, "c").status);
    CHECK_STR("c=v refused", gone(&w));
    CHECK_EQ(RM_OK, unpin(&w, &p));
    world_close(&w);
}

TEST(cache, waiters_without_a_pin_are_told_that_it_is_full) {
    rm_cache_desc desc = small();
    caller callers[4];
    int full = 0;
    world w;
    source s = source_of(&w, "v");
    rm_cache_pin p;
    desc.max_pins = 1;
    s.await = 3;
    REQUIRE(world_open(&w, desc));
    put(&w, "a", "1");
    CHECK_EQ(RM_OK, pin(&w, "a", &p));
    for (int i = 0; i < 4; i++) {
        callers[i] = caller_of(&s, "cold", RM_FOREVER);
        caller_start(&callers[i]);
    }
    for (int i = 0; i < 4; i++) {
        rm_thread_join(&callers[i].thread);
        full += callers[i].status == RM_E_FULL && callers[i].error.status == RM_E_FULL;
    }
    CHECK_EQ(4, full);
    CHECK_EQ(RM_OK, unpin(&w, &p));
    put(&w, "b", "2"); /* the value is not held by anybody: it can be evicted */
    put(&w, "c", "3");
    put(&w, "d", "4");
    CHECK_STR(NULL, look(&w, "cold"));
    world_close(&w);
}

static rm_status load_and_destroy(rm_cache_load *load, const void *key, size_t key_size,
                                  rm_deadline deadline, rm_error *error, void *user) {
    world *w = (world *)user;
    (void)key, (void)key_size, (void)deadline, (void)error;
    CHECK_EQ(RM_E_BUSY, rm_cache_destroy(w->cache));
    return rm_cache_load_set(load, "v", 1);
}

TEST(cache, stays_while_a_load_runs) {
    world w;
    const rm_cache_loader loader = rm_cache_loader_make(load_and_destroy, &w);
    rm_cache_pin p;
    REQUIRE(world_open(&w, small()));
    put(&w, "b", "2");
    CHECK_EQ(RM_OK, rm_cache_get_or_load(w.cache, "a", 1, &loader, 0, &p, NULL));
    CHECK_EQ(RM_OK, unpin(&w, &p));
    CHECK_STR("2", look(&w, "b"));
    CHECK_STR("v", look(&w, "a"));
    world_close(&w);
}

TEST(cache, stays_while_a_waiter_has_not_left) {
    gate g, hold;
    world w;
    source s = source_of(&w, "v");
    caller leader = caller_of(&s, "a", RM_SEC(60)), waiter = caller_of(&s, "a", RM_FOREVER);
    s.gate = &g;
    gate_init(&g);
    gate_init(&hold);
    REQUIRE(world_open(&w, small()));
    w.hold = &hold;
    w.hold_until = INT64_MAX;
    caller_start(&leader);
    gate_await(&g, 1);
    caller_start(&waiter);
    rm_virtual_clock_await(&w.hands, 1);
    gate_open(&g);
    rm_thread_join(&leader.thread);
    gate_await(&hold, 1); /* the load has ended; the waiter has not taken its result */
    CHECK_EQ(RM_E_BUSY, rm_cache_destroy(w.cache));
    CHECK_STR("v", look(&w, "a")); /* nothing was done */
    drop(&w, "a");
    CHECK_STR("", gone(&w));
    gate_open(&hold);
    rm_thread_join(&waiter.thread);
    CHECK_STR("v", waiter.text);
    CHECK_STR("a=v deleted", gone(&w));
    world_close(&w);
    gate_end(&hold);
    gate_end(&g);
}

/* ---- the guard ---- */

typedef struct guarded {
    int admits, reports;
    int outcomes[3];
    rm_status answer;
    const char *message; /* NULL = none */
    gate *gate;
    uint64_t owner;
    rm_cache *cache;
} guarded;

static rm_status guarded_admit(rm_permit *permit, rm_error *error, void *user) {
    guarded *g = (guarded *)user;
    CHECK_EQ(0, permit->word);
    CHECK_EQ(0, permit->owner);
    ADD(&g->admits, 1);
    if (g->gate != NULL)
        gate_pass(g->gate);
    else
        CHECK(lock_is_free(g->cache));
    if (g->answer == RM_OK)
        permit->word = 77;
    else if (g->message != NULL)
        return rm_error_set(error, g->answer, 5, "breaker", "%s", g->message);
    return g->answer;
}

static void guarded_report(rm_permit *permit, rm_outcome outcome, void *user) {
    guarded *g = (guarded *)user;
    CHECK_EQ(77, permit->word);
    ADD(&g->reports, 1);
    ADD(&g->outcomes[outcome], 1);
    CHECK(lock_is_free(g->cache));
}

static bool guarded_open(world *w, guarded *g) {
    rm_cache_desc desc = small();
    rm_guard guard;
    bool ok;
    guard.admit_fn = guarded_admit;
    guard.report_fn = guarded_report;
    guard.user = g;
    desc.guard = &guard; /* copied */
    memset(g, 0, sizeof *g);
    ok = world_open(w, desc);
    memset(&guard, 0, sizeof guard);
    g->cache = w->cache;
    return ok;
}

TEST(cache, asks_and_tells_the_guard_once_for_every_load) {
    world w;
    guarded g;
    source s = source_of(&w, "v");
    REQUIRE(guarded_open(&w, &g));
    put(&w, "b", "1");
    CHECK_STR("v", ask(&s, "a").text);
    CHECK_STR("v", ask(&s, "a").text); /* a hit asks nobody */
    CHECK_STR("1", ask(&s, "b").text);
    CHECK_EQ(1, g.admits);
    CHECK_EQ(1, g.reports);
    CHECK_EQ(1, g.outcomes[RM_OUTCOME_OK]);
    s.value = NULL;
    CHECK_EQ(RM_E_FAILED, ask(&s, "c").status); /* RM_OK without a value */
    CHECK_EQ(1, g.outcomes[RM_OUTCOME_FAILURE]);
    CHECK_EQ(2, g.reports);
    world_close(&w);
}

TEST(cache, tells_the_guard_what_counts_as_failure) {
    world w;
    guarded g;
    source s = source_of(&w, NULL);
    REQUIRE(guarded_open(&w, &g));
    for (int status = RM_E_INVALID; status <= RM_E_INTERNAL; status++) {
        const bool fine = status == RM_E_NOT_FOUND;
        const bool ignored = status == RM_E_CANCELLED || status == RM_E_INVALID;
        memset(g.outcomes, 0, sizeof g.outcomes);
        s.status = (rm_status)status;
        CHECK_EQ(status, ask(&s, "a").status);
        CHECK_EQ(fine, g.outcomes[RM_OUTCOME_OK]);
        CHECK_EQ(ignored, g.outcomes[RM_OUTCOME_IGNORE]);
        CHECK_EQ(!fine && !ignored, g.outcomes[RM_OUTCOME_FAILURE]);
    }
    CHECK_EQ(RM_E_INTERNAL, g.admits);
    CHECK_EQ(RM_E_INTERNAL, g.reports);
    world_close(&w);
}

TEST(cache, a_refusal_of_the_guard_goes_to_all_who_wait) {
    gate hold;
    world w;
    guarded g;
    source s = source_of(&w, "v");
    caller callers[5];
    gate_init(&hold);
    REQUIRE(guarded_open(&w, &g));
    g.gate = &hold;
    g.answer = RM_E_REJECTED;
    g.message = "the circuit is open";
    for (int i = 0; i < 5; i++) {
        callers[i] = caller_of(&s, "a", RM_FOREVER);
        caller_start(&callers[i]);
    }
    gate_await(&hold, 1);
    rm_virtual_clock_await(&w.hands, 4);
    gate_open(&hold);
    for (int i = 0; i < 5; i++) {
        rm_thread_join(&callers[i].thread);
        CHECK_EQ(RM_E_REJECTED, callers[i].status);
        CHECK_EQ(RM_E_REJECTED, callers[i].error.status);
        CHECK_STR("the circuit is open", callers[i].error.message);
    }
    CHECK_EQ(1, g.admits);
    CHECK_EQ(0, g.reports);
    CHECK_EQ(0, s.calls);
    CHECK_EQ(0, stats_of(&w).loads); /* load_fn was not called, so it took no time either */
    CHECK_EQ(0, stats_of(&w).load_failures);
    CHECK_EQ(0, w.cache->load_times.count);
    world_close(&w);
    gate_end(&hold);
}

TEST(cache, passes_on_whatever_the_guard_answers) {
    world w;
    guarded g;
    source s = source_of(&w, "v");
    REQUIRE(guarded_open(&w, &g));
    for (int status = RM_E_INVALID; status <= RM_E_INTERNAL; status++) {
        caller c;
        g.answer = (rm_status)status;
        c = ask(&s, "a");
        CHECK_EQ(status, c.status);
        CHECK_EQ(status, c.error.status);
        CHECK(strstr(c.error.message, rm_status_name(g.answer)) != NULL);
    }
    CHECK_EQ(0, g.reports);
    CHECK_EQ(0, s.calls);
    g.answer = RM_OK;
    CHECK_STR("v", ask(&s, "a").text);
    world_close(&w);
}

/* ---- the removal callback ---- */

typedef struct reentrant {
    world w;
    int calls, loads;
    bool inside;
} reentrant;

static rm_status load_one(rm_cache_load *load, const void *key, size_t key_size,
                          rm_deadline deadline, rm_error *error, void *user) {
    (void)key, (void)key_size, (void)deadline, (void)error;
    ((reentrant *)user)->loads++;
    return rm_cache_load_set(load, "1", 1);
}

static void count_stat(const rm_stat *stat, void *user) {
    CHECK(stat->name != NULL);
    ++*(int *)user;
}

/* Calls everything there is. */
static void reentrant_removed(const void *key, size_t key_size, const void *value, size_t size,
                              rm_cache_cause cause, void *user) {
    reentrant *r = (reentrant *)user;
    rm_cache *cache = r->w.cache;
    const rm_cache_loader loader = rm_cache_loader_make(load_one, r);
    rm_resource resource = rm_cache_resource(cache);
    rm_cache_stats stats;
    rm_cache_desc desc;
    rm_cache_pin p, q;
    char buffer[8];
    int visited = 0;
    (void)key, (void)key_size, (void)value, (void)size, (void)cause;
    r->calls++;
    CHECK(lock_is_free(cache));
    if (r->inside || !lock_is_free(cache)) /* once deep is enough */
        return;
    r->inside = true;
    CHECK_EQ(RM_OK, rm_cache_set(cache, "in", 2, "1", 1, 0, NULL));
    CHECK_EQ(RM_OK, rm_cache_get(cache, "in", 2, buffer, sizeof buffer, NULL));
    CHECK_EQ(RM_OK, rm_cache_acquire(cache, "in", 2, &p));
    CHECK_EQ(RM_E_BUSY, rm_cache_destroy(cache));
    CHECK_EQ(RM_OK, rm_cache_release(cache, &p));
    CHECK_EQ(RM_OK, rm_cache_get_or_load(cache, "loaded", 6, &loader, 0, &q, NULL));
    CHECK_EQ(RM_OK, rm_cache_release(cache, &q));
    CHECK_EQ(RM_OK, rm_cache_delete(cache, "in", 2));
    CHECK_EQ(0, rm_cache_maintain(cache, 0));
    CHECK_EQ(RM_OK, rm_cache_stats_get(cache, &stats));
    CHECK_EQ(RM_OK, rm_cache_desc_get(cache, &desc));
    resource.stats_fn(resource.user, count_stat, &visited);
    CHECK(visited > 10);
    (void)rm_cache_clear(cache);
    r->inside = false;
}

TEST(cache, a_removal_callback_may_call_anything) {
    rm_cache_desc desc = small();
    reentrant r;
    rm_cache_pin p;
    memset(&r, 0, sizeof r);
    desc.removed_fn = reentrant_removed;
    desc.user = &r;
    REQUIRE(world_open(&r.w, desc));
    put(&r.w, "a", "1");
    put(&r.w, "a", "2");  /* replaced */
    CHECK_EQ(4, r.calls); /* the one above, and in, loaded and a=2 inside */
    CHECK_EQ(0, stats_of(&r.w).entries);
    for (uint32_t i = 0; i < 4; i++) /* evicted */
        CHECK_EQ(RM_OK, rm_cache_set(r.w.cache, &i, sizeof i, "", 0, 0, NULL));
    put(&r.w, "a", "3");
    drop(&r.w, "a"); /* deleted */
    put_for(&r.w, "a", "4", RM_SEC(1));
    pass(&r.w, RM_SEC(1));
    CHECK_STR(NULL, look(&r.w, "a")); /* expired */
    put_for(&r.w, "a", "5", RM_SEC(1));
    pass(&r.w, RM_SEC(1));
    CHECK_EQ(1, rm_cache_maintain(r.w.cache, 0));
    put(&r.w, "a", "6");
    (void)rm_cache_clear(r.w.cache); /* cleared */
    put(&r.w, "a", "7");
    CHECK_EQ(RM_OK, pin(&r.w, "a", &p));
    drop(&r.w, "a");
    CHECK_EQ(RM_OK, unpin(&r.w, &p)); /* at its release */
    CHECK_EQ(7, r.loads);
    CHECK_EQ(0, stats_of(&r.w).pins);
    r.inside = true;
    world_close(&r.w);
}

static void filling_removed(const void *key, size_t key_size, const void *value, size_t size,
                            rm_cache_cause cause, void *user) {
    reentrant *r = (reentrant *)user;
    const rm_cache_loader loader = rm_cache_loader_make(load_one, r);
    rm_error error;
    rm_cache_pin p;
    r->calls++;
    if (!r->inside) return;
    CHECK_EQ(RM_CACHE_CAUSE_CLEARED, cause);
    CHECK_EQ(RM_E_CLOSED, rm_cache_set(r->w.cache, key, key_size, value, size, 0, &error));
    CHECK_EQ(RM_E_CLOSED, error.status);
    CHECK_EQ(RM_E_CLOSED, rm_cache_get_or_load(r->w.cache, key, key_size, &loader, 0, &p, &error));
    CHECK_EQ(RM_E_NOT_FOUND, rm_cache_acquire(r->w.cache, key, key_size, &p));
}

TEST(cache, takes_nothing_in_while_it_is_destroyed) {
    rm_cache_desc desc = small();
    reentrant r;
    memset(&r, 0, sizeof r);
    desc.removed_fn = filling_removed;
    desc.user = &r;
    REQUIRE(world_open(&r.w, desc));
    put(&r.w, "a", "1");
    put(&r.w, "b", "2");
    r.inside = true;
    world_close(&r.w);
    CHECK_EQ(2, r.calls);
    CHECK_EQ(0, r.loads);
}

TEST(cache, tells_of_removals_before_the_call_returns) {
    rm_cache_pin p;
    world w;
    REQUIRE(world_open(&w, small()));
    put(&w, "a", "1");
    CHECK_EQ(RM_OK, pin(&w, "a", &p));
    put(&w, "a", "2");
    CHECK_EQ(0, w.removed);
    CHECK_EQ(1, stats_of(&w).replaced); /* counted when it leaves the cache */
    CHECK_EQ(RM_OK, unpin(&w, &p));
    CHECK_EQ(1, w.removed);
    world_close(&w);
    CHECK_EQ(2, w.removed);
}

TEST(cache, works_without_a_removal_callback) {
    rm_cache_desc desc = small();
    world w;
    world_init(&w);
    desc.env = &w.env;
    REQUIRE(CHECK_EQ(RM_OK, rm_cache_create(&desc, &w.cache, NULL)));
    for (uint32_t i = 0; i < 10; i++)
        CHECK_EQ(RM_OK, rm_cache_set(w.cache, &i, sizeof i, "", 0, 0, NULL));
    CHECK_EQ(7, stats_of(&w).evicted);
    world_close(&w);
}

TEST(cache, names_its_causes) {
    CHECK_STR("evicted", rm_cache_cause_name(RM_CACHE_CAUSE_EVICTED));
    CHECK_STR("expired", rm_cache_cause_name(RM_CACHE_CAUSE_EXPIRED));
    CHECK_STR("replaced", rm_cache_cause_name(RM_CACHE_CAUSE_REPLACED));
    CHECK_STR("deleted", rm_cache_cause_name(RM_CACHE_CAUSE_DELETED));
    CHECK_STR("cleared", rm_cache_cause_name(RM_CACHE_CAUSE_CLEARED));
    CHECK_STR("refused", rm_cache_cause_name(RM_CACHE_CAUSE_REFUSED));
    CHECK_STR("unknown", rm_cache_cause_name((rm_cache_cause)6));
    CHECK_STR("unknown", rm_cache_cause_name((rm_cache_cause)(-1)));
}

/* ---- statistics and the resource ---- */

TEST(cache, counts_every_look_up_once) {
    world w;
    source s = source_of(&w, "v");
    rm_cache_pin p;
    rm_cache_stats stats;
    REQUIRE(world_open(&w, small()));
    put(&w, "a", "1");
    look(&w, "a");                                                         /* hit */
    look(&w, "b");                                                         /* miss */
    ask(&s, "a");                                                          /* hit */
    ask(&s, "b");                                                          /* miss, then loaded */
    (void)pin(&w, "b", &p);                                                /* hit */
    (void)unpin(&w, &p);                                                   /* no look-up */
    (void)pin(&w, "c", &p);                                                /* miss */
    (void)drop(&w, "c");                                                   /* no look-up */
    put(&w, "a", "2");                                                     /* no look-up */
    CHECK_EQ(RM_E_INVALID, rm_cache_get(w.cache, NULL, 1, NULL, 0, NULL)); /* no look-up */
    stats = stats_of(&w);
    CHECK_EQ(3, stats.hits);
    CHECK_EQ(3, stats.misses);
    CHECK_EQ(2, stats.sets);
    CHECK_EQ(1, stats.loads);
    CHECK_EQ(0, stats.load_failures);
    CHECK_EQ(0, stats.load_waits);
    CHECK_EQ(1, stats.replaced);
    CHECK_EQ(2, stats.entries);
    CHECK_EQ(0, stats.pins);
    world_close(&w);
}

TEST(cache, measures_its_loads) {
    world w;
    source s = source_of(&w, "v");
    rm_cache_stats stats;
    REQUIRE(world_open(&w, small()));
    CHECK_EQ(0, stats_of(&w).load_max_ns);
    CHECK_EQ(0, stats_of(&w).load_p99_ns);
    for (uint32_t i = 0; i < 10; i++) {
        const char key[2] = {(char)('a' + (int)i), '\0'};
        s.takes = i < 9 ? RM_MS(10) : RM_SEC(2);
        s.status = i % 2 == 0 ? RM_OK : RM_E_FAILED; /* failed ones take time too */
        ask(&s, key);
    }
    stats = stats_of(&w);
    CHECK_EQ(10, stats.loads);
    CHECK_EQ(5, stats.load_failures);
    CHECK(stats.load_p50_ns >= RM_MS(9) && stats.load_p50_ns <= RM_MS(10));
    CHECK(stats.load_p99_ns > RM_SEC(1) && stats.load_p99_ns <= RM_SEC(2));
    CHECK_EQ(RM_SEC(2), stats.load_max_ns);
    world_close(&w);
}

typedef struct shown { /* what a visitor of the statistics saw */
    rm_cache *cache;
    int64_t hits, misses, sets, loads, failures, waits, entries, bytes, pins;
    int64_t removed[6];
    uint64_t timed;
    int64_t p50, p99;
    int others;
} shown;

static void show_stat(const rm_stat *stat, void *user) {
    shown *s = (shown *)user;
    const char *const names[] = {"rm_cache_hits_total",
                                 "rm_cache_misses_total",
                                 "rm_cache_sets_total",
                                 "rm_cache_loads_total",
                                 "rm_cache_load_failures_total",
                                 "rm_cache_load_waits_total",
                                 "rm_cache_entries",
                                 "rm_cache_bytes",
                                 "rm_cache_pins"};
    int64_t *const values[] = {&s->hits,  &s->misses,  &s->sets,  &s->loads, &s->failures,
                               &s->waits, &s->entries, &s->bytes, &s->pins};
    CHECK(lock_is_free(s->cache)); /* a visitor may call anything */
    CHECK(stat->help != NULL);
    if (strcmp(stat->name, "rm_cache_load_seconds") == 0) {
        CHECK_EQ(RM_STAT_HISTOGRAM, stat->type);
        CHECK_EQ(9, stat->decimals);
        s->timed = rm_hist_count_le(stat->hist, RM_SEC(1000));
        s->p50 = rm_hist_quantile(stat->hist, 0.5);
        s->p99 = rm_hist_quantile(stat->hist, 0.99);
        return;
    }
    for (int i = 0; i < 9; i++) {
        if (strcmp(stat->name, names[i]) == 0) {
            CHECK_EQ(i < 6 ? RM_STAT_COUNTER : RM_STAT_GAUGE, stat->type);
            *values[i] = stat->value;
            return;
        }
    }
    for (int i = 0; i < 6; i++) {
        if (strcmp(stat->name, "rm_cache_removed_total") == 0 &&
            strcmp(stat->label_value, rm_cache_cause_name((rm_cache_cause)i)) == 0) {
            CHECK_STR("cause", stat->label);
            s->removed[i] = stat->value;
            return;
        }
    }
    s->others++;
}

TEST(cache, is_a_resource_with_statistics) {
    shown s;
    world w;
    source from = source_of(&w, "v");
    rm_resource resource;
    rm_cache_pin p;
    memset(&s, 0, sizeof s);
    REQUIRE(world_open(&w, small()));
    s.cache = w.cache;
    put(&w, "a", "1");
    put(&w, "a", "2");
    ask(&from, "b");
    look(&w, "a");
    CHECK_EQ(RM_OK, pin(&w, "a", &p));
    drop(&w, "b");
    resource = rm_cache_resource(w.cache);
    CHECK_STR("small", resource.name);
    CHECK_STR("cache", resource.kind);
    CHECK(resource.start_fn == NULL);
    resource.stats_fn(resource.user, show_stat, &s);
    CHECK_EQ(2, s.hits);
    CHECK_EQ(1, s.misses);
    CHECK_EQ(2, s.sets);
    CHECK_EQ(1, s.loads);
    CHECK_EQ(0, s.failures);
    CHECK_EQ(0, s.waits);
    CHECK_EQ(1, s.entries);
    CHECK_EQ(RM_CACHE_OVERHEAD + 2, s.bytes);
    CHECK_EQ(1, s.pins);
    CHECK_EQ(1, s.removed[RM_CACHE_CAUSE_REPLACED]);
    CHECK_EQ(1, s.removed[RM_CACHE_CAUSE_DELETED]);
    CHECK_EQ(1, s.timed);
    CHECK_EQ(0, s.others);
    resource.stats_fn(resource.user, NULL, NULL);
    CHECK_EQ(RM_OK, unpin(&w, &p));
    world_close(&w);
    CHECK(rm_cache_resource(NULL).name == NULL);
}

/* The visitor sees what stats_get says. */
static rm_cache_stats check_shown(world *w) {
    const rm_cache_stats now = stats_of(w);
    const rm_resource resource = rm_cache_resource(w->cache);
    const uint64_t removed[6] = {now.evicted, now.expired, now.replaced,
                                 now.deleted, now.cleared, now.refused};
    shown s;
    memset(&s, 77, sizeof s);
    s.cache = w->cache;
    s.others = 0;
    resource.stats_fn(resource.user, show_stat, &s);
    CHECK_EQ(now.hits, s.hits);
    CHECK_EQ(now.misses, s.misses);
    CHECK_EQ(now.sets, s.sets);
    CHECK_EQ(now.loads, s.loads);
    CHECK_EQ(now.load_failures, s.failures);
    CHECK_EQ(now.load_waits, s.waits);
    CHECK_EQ(now.entries, s.entries);
    CHECK_EQ(now.bytes, s.bytes);
    CHECK_EQ(now.pins, s.pins);
    for (int i = 0; i < 6; i++)
        CHECK_EQ(removed[i], s.removed[i]);
    CHECK_EQ(w->cache->load_times.count, s.timed);
    CHECK_EQ(now.load_p50_ns, s.p50);
    CHECK_EQ(now.load_p99_ns, s.p99);
    CHECK_EQ(0, s.others);
    return now;
}

static void put_many(world *w, char first, int count, int64_t ttl_ns) {
    for (int i = 0; i < count; i++) {
        const char key[2] = {(char)(first + i), '\0'};
        CHECK_EQ(RM_OK, put_for(w, key, "v", ttl_ns));
    }
}

/* Loads that succeed, that are not kept, and that fail, the last one before two others. */
static void load_many(world *w) {
    gate g;
    caller leader, waiters[2];
    source from = source_of(w, "v");
    for (int i = 0; i < 9; i++) {
        const char key[2] = {(char)('0' + i), '\0'};
        from.drops = i < 5 ? NULL : key;
        CHECK_EQ(RM_OK, ask(&from, key).status);
    }
    from.drops = NULL;
    from.status = RM_E_FAILED;
    CHECK_EQ(RM_E_FAILED, ask(&from, "x").status);
    CHECK_EQ(RM_E_FAILED, ask(&from, "x").status);
    gate_init(&g);
    from.gate = &g;
    leader = caller_of(&from, "x", 0);
    caller_start(&leader);
    gate_await(&g, 1);
    for (uint32_t i = 0; i < 2; i++) {
        waiters[i] = caller_of(&from, "x", 0);
        caller_start(&waiters[i]);
        rm_virtual_clock_await(&w->hands, i + 1);
    }
    gate_open(&g);
    rm_thread_join(&leader.thread);
    for (int i = 0; i < 2; i++)
        rm_thread_join(&waiters[i].thread);
    STORE(&w->threads, false);
    gate_end(&g);
}

TEST(cache, shows_every_count_under_its_own_name) {
    world w;
    rm_cache_pin p;
    rm_cache_stats now;
    rm_cache_desc desc = small();
    desc.max_entries = 10;
    REQUIRE(world_open(&w, desc));
    put_many(&w, 'a', 9, 0);
    CHECK_EQ(9, rm_cache_clear(w.cache));
    put_many(&w, 'a', 6, RM_SEC(1));
    pass(&w, RM_SEC(2));
    CHECK_EQ(6, rm_cache_maintain(w.cache, 0));
    for (int i = 0; i < 8; i++) {
        put_many(&w, 'a', 1, 0);
        put_many(&w, 'z', 1, 0);
        CHECK_EQ(RM_OK, drop(&w, "z"));
    }
    load_many(&w);
    put_many(&w, 'A', 9, 0);
    for (int i = 0; i < 12; i++)
        CHECK_STR("v", look(&w, "A"));
    CHECK_EQ(RM_OK, pin(&w, "A", &p));
    now = check_shown(&w);
    CHECK_EQ(13, now.hits);
    CHECK_EQ(14, now.misses);
    CHECK_EQ(40, now.sets);
    CHECK_EQ(12, now.loads);
    CHECK_EQ(12, w.cache->load_times.count);
    CHECK_EQ(3, now.load_failures);
    CHECK_EQ(2, now.load_waits);
    CHECK_EQ(5, now.evicted);
    CHECK_EQ(6, now.expired);
    CHECK_EQ(7, now.replaced);
    CHECK_EQ(8, now.deleted);
    CHECK_EQ(9, now.cleared);
    CHECK_EQ(4, now.refused);
    CHECK_EQ(10, now.entries);
    CHECK_EQ(1, now.pins);
    CHECK_EQ(10 * (RM_CACHE_OVERHEAD + 2), now.bytes);
    CHECK_EQ(RM_OK, unpin(&w, &p));
    world_close(&w);
}

TEST(cache, tells_the_middle_and_the_end_of_its_loads) {
    world w;
    rm_cache_stats now;
    REQUIRE(world_open(&w, small()));
    for (int i = 1; i <= 100; i++)
        CHECK_EQ(RM_OK, rm_hist_record(&w.cache->load_times, RM_MS(i)));
    now = check_shown(&w);
    CHECK(now.load_p50_ns > RM_MS(45) && now.load_p50_ns < RM_MS(55));
    CHECK(now.load_p99_ns > RM_MS(95) && now.load_p99_ns < RM_MS(100));
    CHECK_EQ(RM_MS(100), now.load_max_ns);
    world_close(&w);
}

/* ---- why a load failed, and that the cache's health is another matter ---- */

static rm_error failure; /* of the loads; its status is RM_OK when they succeed */

static rm_status load_as_told(rm_cache_load *load, const void *key, size_t key_size,
                              rm_deadline deadline, rm_error *error, void *user) {
    (void)key, (void)key_size, (void)deadline, (void)user;
    if (failure.status == RM_OK) return rm_cache_load_set(load, "v", 1);
    if (failure.message[0] != '\0') *error = failure; /* else it says nothing */
    return failure.status;
}

static void check_load(world *w, rm_status status, int32_t native, const char *message) {
    const rm_cache_loader loader = rm_cache_loader_make(load_as_told, NULL);
    rm_cache_pin p;
    rm_error error;
    (void)rm_error_set(&failure, status, native, "wire", "%s", message);
    memset(&error, 77, sizeof error); /* left by an earlier call */
    CHECK_EQ(status, rm_cache_get_or_load(w->cache, "a", 1, &loader, 0, &p, &error));
    if (status == RM_OK) {
        CHECK_EQ(RM_OK, unpin(w, &p));
        CHECK_EQ(RM_OK, drop(w, "a"));
        return;
    }
    CHECK_EQ(status, error.status);
    CHECK_EQ(native, error.native);
    CHECK_STR(message[0] == '\0' ? "small" : "wire", error.where);
    CHECK_STR(message[0] == '\0' ? "the load failed: RM_E_TIMEOUT" : message, error.message);
}

static void check_status(rm_manager *manager, rm_state state, rm_health health) {
    rm_resource_status now;
    uint32_t count;
    CHECK_EQ(RM_OK, rm_manager_status(manager, &now, 1, &count));
    CHECK_EQ(state, now.state);
    CHECK_EQ(health, now.health);
    CHECK_EQ(RM_OK, now.last_error.status);
    CHECK_STR("", now.last_error.message);
}

TEST(cache, tells_why_the_latest_load_failed_and_stays_healthy) {
    char long_text[160];
    rm_manager *manager = NULL;
    rm_resource resource;
    world w;
    memset(long_text, 'x', sizeof long_text);
    long_text[159] = '\0';
    REQUIRE(world_open(&w, small()));
    resource = rm_cache_resource(w.cache);
    REQUIRE(CHECK_EQ(RM_OK, rm_manager_create(NULL, &manager, NULL)));
    CHECK_EQ(RM_OK, rm_manager_add(manager, &resource, NULL));
    check_status(manager, RM_STATE_REGISTERED, RM_HEALTH_UNKNOWN);
    CHECK_EQ(RM_OK, rm_manager_start(manager, 0, NULL));
    check_load(&w, RM_E_REFUSED, 111, "nobody listens");
    check_load(&w, RM_E_AUTH, -9, long_text);
    check_status(manager, RM_STATE_READY, RM_HEALTH_HEALTHY);
    check_load(&w, RM_OK, 0, "");
    check_load(&w, RM_E_TIMEOUT, 0, ""); /* one that says nothing shows nothing from before */
    CHECK_EQ(RM_OK, rm_manager_stop(manager, 0, NULL));
    check_status(manager, RM_STATE_STOPPED, RM_HEALTH_UNKNOWN);
    CHECK_EQ(RM_OK, rm_manager_destroy(manager));
    world_close(&w);
}

TEST(cache, is_cleared_when_its_manager_stops) {
    rm_manager *manager = NULL;
    rm_resource resource, same;
    world w;
    REQUIRE(world_open(&w, small()));
    resource = rm_cache_resource(w.cache);
    REQUIRE(CHECK_EQ(RM_OK, rm_manager_create(NULL, &manager, NULL)));
    CHECK_EQ(RM_OK, rm_manager_add(manager, &resource, NULL));
    CHECK_EQ(RM_OK, rm_manager_start(manager, RM_SEC(1), NULL));
    CHECK_EQ(RM_OK, rm_manager_get(manager, "small", &same));
    CHECK_EQ(RM_OK, rm_cache_set((rm_cache *)same.user, "a", 1, "1", 1, 0, NULL));
    CHECK_EQ(RM_OK, rm_manager_stop(manager, RM_SEC(1), NULL));
    CHECK_STR("a=1 cleared", gone(&w));
    CHECK_EQ(RM_OK, rm_manager_destroy(manager));
    world_close(&w);
}

/* ---- memory, faults and misuse ---- */

TEST(cache, allocates_nothing_on_a_hit) {
    char buffer[64];
    world w;
    source s = source_of(&w, "v");
    const rm_cache_loader loader = rm_cache_loader_make(load_text, &s);
    rm_cache_pin p;
    int64_t before;
    REQUIRE(world_open(&w, small()));
    put(&w, "a", "1");
    put_for(&w, "b", "2", RM_SEC(1));
    before = w.allocations;
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(RM_OK, rm_cache_get(w.cache, "a", 1, buffer, sizeof buffer, NULL));
        CHECK_EQ(RM_E_NOT_FOUND, rm_cache_get(w.cache, "x", 1, buffer, sizeof buffer, NULL));
        CHECK_EQ(RM_OK, pin(&w, "a", &p));
        CHECK_EQ(RM_OK, unpin(&w, &p));
        CHECK_EQ(RM_OK, rm_cache_get_or_load(w.cache, "a", 1, &loader, 0, &p, NULL));
        CHECK_EQ(RM_OK, unpin(&w, &p));
        CHECK_EQ(RM_E_NOT_FOUND, drop(&w, "x"));
        stats_of(&w);
    }
    pass(&w, RM_SEC(1));
    CHECK_EQ(1, rm_cache_maintain(w.cache, 0));
    CHECK_EQ(1, rm_cache_clear(w.cache));
    CHECK_EQ(before, w.allocations);
    put(&w, "a", "1");
    CHECK_EQ(before + 1, w.allocations); /* an entry is one block */
    world_close(&w);
}

TEST(cache, a_set_without_memory_leaves_the_old_value) {
    rm_error error;
    world w;
    REQUIRE(world_open(&w, small()));
    put(&w, "a", "1");
    w.fail_at = 1;
    CHECK_EQ(RM_E_NOMEM, rm_cache_set(w.cache, "a", 1, "2", 1, 0, &error));
    CHECK_EQ(RM_E_NOMEM, error.status);
    CHECK_STR("1", look(&w, "a"));
    w.fail_at = 1;
    CHECK_EQ(RM_E_NOMEM, put(&w, "b", "2"));
    CHECK_EQ(1, stats_of(&w).entries);
    CHECK_EQ(1, stats_of(&w).sets);
    CHECK_STR("", gone(&w));
    CHECK_EQ(RM_OK, put(&w, "b", "2"));
    world_close(&w);
}

TEST(cache, a_load_without_memory_fails_whole) {
    caller c;
    world w;
    source s = source_of(&w, "v");
    s.before = NULL;
    REQUIRE(world_open(&w, small()));
    put(&w, "b", "2");
    w.fail_at = 1; /* the load itself */
    c = ask(&s, "a");
    CHECK_EQ(RM_E_NOMEM, c.status);
    CHECK_EQ(RM_E_NOMEM, c.error.status);
    CHECK_EQ(0, s.calls);
    CHECK_EQ(0, stats_of(&w).loads);
    w.fail_at = 2; /* the value that is handed over */
    c = ask(&s, "a");
    CHECK_EQ(RM_E_NOMEM, c.status);
    CHECK_EQ(RM_E_NOMEM, c.error.status);
    CHECK_EQ(1, stats_of(&w).load_failures);
    CHECK_STR("", gone(&w));
    CHECK_STR("2", look(&w, "b"));
    CHECK_STR("v", ask(&s, "a").text);
    world_close(&w);
}

static rm_status load_twice_short_of_memory(rm_cache_load *load, const void *key, size_t key_size,
                                            rm_deadline deadline, rm_error *error, void *user) {
    world *w = (world *)user;
    (void)key, (void)key_size, (void)deadline, (void)error;
    CHECK_EQ(RM_OK, rm_cache_load_set(load, "first", 5));
    w->fail_at = 1;
    CHECK_EQ(RM_E_NOMEM, rm_cache_load_set(load, "second", 6));
    CHECK_EQ(RM_E_INVALID, rm_cache_load_set(load, NULL, 1));
    return RM_OK;
}

TEST(cache, a_value_that_found_no_memory_leaves_the_one_before) {
    world w;
    const rm_cache_loader loader = rm_cache_loader_make(load_twice_short_of_memory, &w);
    rm_cache_pin p;
    REQUIRE(world_open(&w, small()));
    CHECK_EQ(RM_OK, rm_cache_get_or_load(w.cache, "a", 1, &loader, 0, &p, NULL));
    CHECK_STR("first", pinned(&w, &p));
    CHECK_EQ(RM_OK, unpin(&w, &p));
    world_close(&w);
}

TEST(cache, is_not_created_when_any_allocation_fails) {
    for (int fail = 1; fail <= 4; fail++) {
        rm_cache_desc desc = small();
        rm_error error;
        world w;
        rm_status status;
        world_init(&w);
        memset(&error, 0, sizeof error);
        desc.env = &w.env;
        w.fail_at = fail;
        status = rm_cache_create(&desc, &w.cache, &error);
        CHECK_EQ(fail < 4 ? RM_E_NOMEM : RM_OK, status);
        CHECK_EQ(status, error.status);
        CHECK((w.cache != NULL) == (status == RM_OK));
        world_close(&w);
    }
}

TEST(cache, has_no_more_buckets_than_its_bytes_can_fill) {
    rm_cache_desc desc = small();
    world w;
    desc.max_entries = INT64_C(1) << 31;
    desc.max_bytes = 1 << 20;
    REQUIRE(world_open(&w, desc));
    CHECK(w.out < 1 << 20);
    world_close(&w);
    world_init(&w); /* and never more than 2^24, which this test does not allocate */
    desc.env = &w.env;
    desc.max_bytes = RM_NONE;
    w.fail_at = 2;
    CHECK_EQ(RM_E_NOMEM, rm_cache_create(&desc, &w.cache, NULL));
    world_close(&w);
}

static rm_status refused_desc(world *w, const rm_cache_desc *desc, const char *field) {
    rm_cache *cache = NULL;
    rm_error error;
    rm_status status;
    memset(&error, 0, sizeof error);
    status = rm_cache_create(desc, &cache, &error);
    CHECK(cache == NULL);
    CHECK_EQ(status, error.status);
    CHECK_STR(field, error.where);
    CHECK(strncmp(error.message, "must be ", 8) == 0);
    CHECK_EQ(0, w->out);
    return status;
}

TEST(cache, refuses_a_bad_desc_and_names_the_field) {
    const char *const long_name = "123456789012345678901234567890123456789012345678";
    rm_guard guard;
    rm_cache_desc desc;
    world w;
    world_init(&w);
    memset(&guard, 0, sizeof guard);
#define REFUSED(member, bad)                                      \
    do {                                                          \
        desc = small();                                           \
        desc.env = &w.env;                                        \
        desc.member = (bad);                                      \
        CHECK_EQ(RM_E_INVALID, refused_desc(&w, &desc, #member)); \
    } while (0)
    REFUSED(name, "");
    REFUSED(max_entries, -1);
    REFUSED(max_entries, INT64_MIN);
    REFUSED(max_entries, (INT64_C(1) << 31) + 1);
    REFUSED(max_bytes, -1);
    REFUSED(max_bytes, RM_FOREVER);
    REFUSED(ttl_ns, -1);
    REFUSED(ttl_ns, RM_FOREVER);
    REFUSED(ttl_ns, INT64_MIN);
    REFUSED(max_pins, (1u << 24) + 1);
    REFUSED(guard, &guard);
    guard.admit_fn = guarded_admit;
    REFUSED(guard, &guard);
    guard.admit_fn = NULL;
    guard.report_fn = guarded_report;
    REFUSED(guard, &guard);
#undef REFUSED
    desc = small();
    desc.env = &w.env;
    desc.max_entries = desc.max_bytes = RM_NONE;
    CHECK_EQ(RM_E_INVALID, refused_desc(&w, &desc, "max_entries"));
    desc = small();
    desc.env = &w.env;
    desc.name = long_name;
    CHECK_EQ(RM_E_TOO_LARGE, refused_desc(&w, &desc, "name"));
}

TEST(cache, keeps_its_own_copy_of_the_name) {
    char name[] = "12345678901234567890123456789012345678901234567";
    rm_cache_desc desc = small();
    world w;
    desc.name = name;
    REQUIRE(world_open(&w, desc));
    name[0] = 'x';
    CHECK_EQ(RM_OK, rm_cache_desc_get(w.cache, &desc));
    CHECK_STR("12345678901234567890123456789012345678901234567", desc.name);
    CHECK_STR(desc.name, rm_cache_resource(w.cache).name);
    world_close(&w);
}

TEST(cache, refuses_an_incomplete_environment) {
    rm_cache_desc desc = small();
    rm_cache *cache = NULL;
    rm_error error;
    world w;
    world_init(&w);
    desc.env = &w.env;
    w.memory.free_fn = NULL;
    CHECK_EQ(RM_E_INVALID, rm_cache_create(&desc, &cache, &error));
    CHECK_STR("env.allocator", error.where);
    w.memory.free_fn = world_free;
    w.clock.coarse_fn = NULL;
    CHECK_EQ(RM_E_INVALID, rm_cache_create(&desc, &cache, &error));
    CHECK_STR("env.clock", error.where);
    w.clock.coarse_fn = world_coarse;
    w.random.next_fn = NULL;
    CHECK_EQ(RM_E_INVALID, rm_cache_create(&desc, &cache, &error));
    CHECK_STR("env.random", error.where);
    CHECK(cache == NULL);
    rm_virtual_clock_destroy(&w.hands);
}

TEST(cache, shows_the_desc_in_force) {
    rm_cache_desc desc, standard = rm_cache_desc_default();
    rm_cache *cache = NULL;
    rm_cache_desc zero;
    memset(&desc, 0xFF, sizeof desc);
    REQUIRE(CHECK_EQ(RM_OK, rm_cache_create(NULL, &cache, NULL)));
    CHECK_EQ(RM_OK, rm_cache_desc_get(cache, &desc));
    CHECK_STR("cache", desc.name);
    CHECK_EQ(10000, desc.max_entries);
    CHECK_EQ(64 * 1024 * 1024, desc.max_bytes);
    CHECK_EQ(RM_SEC(3600), desc.ttl_ns);
    CHECK_EQ(1024, desc.max_pins);
    CHECK_EQ(RM_OK, rm_cache_destroy(cache));
    memset(&zero, 0, sizeof zero); /* zeros are the defaults */
    REQUIRE(CHECK_EQ(RM_OK, rm_cache_create(&zero, &cache, NULL)));
    CHECK_EQ(RM_OK, rm_cache_desc_get(cache, &desc));
    CHECK_STR(standard.name, desc.name);
    CHECK_EQ(standard.max_entries, desc.max_entries);
    CHECK_EQ(standard.max_bytes, desc.max_bytes);
    CHECK_EQ(standard.ttl_ns, desc.ttl_ns);
    CHECK_EQ(standard.max_pins, desc.max_pins);
    CHECK(desc.env != NULL && desc.guard == NULL);
    CHECK_EQ(RM_OK, rm_cache_destroy(cache));
}

TEST(cache, answers_null_and_nonsense_with_a_status) {
    char buffer[4];
    rm_error error;
    rm_cache_pin p;
    rm_cache_stats stats;
    rm_cache_desc desc;
    rm_cache_loader loader = rm_cache_loader_make(load_text, NULL);
    world w;
    REQUIRE(world_open(&w, small()));
    CHECK_EQ(RM_E_INVALID, rm_cache_create(NULL, NULL, &error));
    CHECK_EQ(RM_E_INVALID, error.status);
    CHECK_EQ(RM_OK, rm_cache_destroy(NULL));
    CHECK_EQ(RM_E_INVALID, rm_cache_get(NULL, "a", 1, buffer, 1, NULL));
    CHECK_EQ(RM_E_INVALID, rm_cache_get(w.cache, NULL, 1, buffer, 1, NULL));
    CHECK_EQ(RM_E_INVALID, rm_cache_get(w.cache, "a", 1, NULL, 1, NULL));
    CHECK_EQ(RM_E_INVALID, rm_cache_acquire(NULL, "a", 1, &p));
    CHECK_EQ(RM_E_INVALID, rm_cache_acquire(w.cache, NULL, 1, &p));
    CHECK_EQ(RM_E_INVALID, rm_cache_acquire(w.cache, "a", 1, NULL));
    memset(&p, 0, sizeof p);
    CHECK_EQ(RM_E_INVALID, rm_cache_release(NULL, &p));
    CHECK_EQ(RM_E_INVALID, rm_cache_release(w.cache, NULL));
    CHECK_EQ(RM_E_STALE, rm_cache_release(w.cache, &p)); /* zeroed = none */
    CHECK_EQ(RM_E_INVALID, rm_cache_set(NULL, "a", 1, "b", 1, 0, &error));
    CHECK_EQ(RM_E_INVALID, rm_cache_set(w.cache, NULL, 1, "b", 1, 0, NULL));
    CHECK_EQ(RM_E_INVALID, rm_cache_set(w.cache, "a", 1, NULL, 1, 0, NULL));
    for (int64_t ttl = -4; ttl < 0; ttl++) {
        const rm_status expected = ttl == RM_NONE ? RM_OK : RM_E_INVALID;
        CHECK_EQ(expected, rm_cache_set(w.cache, "a", 1, "b", 1, ttl, NULL));
    }
    CHECK_EQ(RM_E_INVALID, rm_cache_set(w.cache, "a", 1, "b", 1, INT64_MIN, &error));
    CHECK_STR("ttl_ns", error.where);
    CHECK_EQ(RM_E_INVALID, rm_cache_delete(NULL, "a", 1));
    CHECK_EQ(RM_E_INVALID, rm_cache_delete(w.cache, NULL, 1));
    CHECK_EQ(0, rm_cache_clear(NULL));
    CHECK_EQ(0, rm_cache_maintain(NULL, 0));
    CHECK_EQ(RM_E_INVALID, rm_cache_stats_get(NULL, &stats));
    CHECK_EQ(RM_E_INVALID, rm_cache_stats_get(w.cache, NULL));
    CHECK_EQ(RM_E_INVALID, rm_cache_desc_get(NULL, &desc));
    CHECK_EQ(RM_E_INVALID, rm_cache_desc_get(w.cache, NULL));
    CHECK_EQ(RM_E_INVALID, rm_cache_load_set(NULL, "a", 1));
    CHECK_EQ(RM_E_INVALID, rm_cache_get_or_load(NULL, "a", 1, &loader, 0, &p, NULL));
    CHECK_EQ(RM_E_INVALID, rm_cache_get_or_load(w.cache, NULL, 1, &loader, 0, &p, NULL));
    CHECK_EQ(RM_E_INVALID, rm_cache_get_or_load(w.cache, "a", 1, NULL, 0, &p, NULL));
    CHECK_EQ(RM_E_INVALID, rm_cache_get_or_load(w.cache, "a", 1, &loader, 0, NULL, NULL));
    CHECK_EQ(RM_E_INVALID, rm_cache_get_or_load(w.cache, "a", 1, &loader, RM_NONE, &p, NULL));
    loader.ttl_ns = -1;
    CHECK_EQ(RM_E_INVALID, rm_cache_get_or_load(w.cache, "a", 1, &loader, 0, &p, &error));
    loader = rm_cache_loader_make(NULL, NULL);
    CHECK_EQ(RM_E_INVALID, rm_cache_get_or_load(w.cache, "a", 1, &loader, 0, &p, &error));
    CHECK_EQ(0, stats_of(&w).hits + stats_of(&w).misses);
    CHECK_EQ(1, stats_of(&w).entries);
    world_close(&w);
}

static rm_status load_enormous(rm_cache_load *load, const void *key, size_t key_size,
                               rm_deadline deadline, rm_error *error, void *user) {
    (void)key, (void)key_size, (void)deadline, (void)error, (void)user;
    CHECK_EQ(RM_E_NOMEM, rm_cache_load_set(load, "", SIZE_MAX));
    CHECK_EQ(RM_E_NOMEM, rm_cache_load_set(load, "", SIZE_MAX - RM_CACHE_OVERHEAD));
    return rm_cache_load_set(load, "", SIZE_MAX / 2 + 1);
}

TEST(cache, refuses_sizes_that_no_memory_has) {
    const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 1, SIZE_MAX - RM_CACHE_OVERHEAD,
                            SIZE_MAX - RM_CACHE_OVERHEAD - 1, SIZE_MAX / 2 + 1};
    rm_cache_desc desc = small();
    const rm_cache_loader loader = rm_cache_loader_make(load_enormous, NULL);
    rm_cache_pin p;
    world w;
    desc.max_bytes = RM_NONE;
    REQUIRE(world_open(&w, desc));
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const rm_status status = rm_cache_set(w.cache, "a", 1, "", sizes[i], 0, NULL);
        CHECK_EQ(i < 3 ? RM_E_TOO_LARGE : RM_E_NOMEM, status);
    }
    CHECK_EQ(RM_E_NOMEM, rm_cache_get_or_load(w.cache, "a", 1, &loader, 0, &p, NULL));
    CHECK_EQ(0, stats_of(&w).entries);
    world_close(&w);
    REQUIRE(world_open(&w, small()));
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        CHECK_EQ(RM_E_TOO_LARGE, rm_cache_set(w.cache, "a", 1, "", sizes[i], 0, NULL));
    world_close(&w);
}

/* ---- everything at random, against a plain model ---- */

/* A value is its number, its key and bytes that follow from the number, so that whoever reads one
   can tell whether it is whole and belongs to its key. */
enum { VALUE_KEYS = 64, VALUE_LONGEST = 300 };

static size_t value_key(uint32_t key, unsigned char *out) { /* key bytes of the number key */
    memset(out, (int)key, VALUE_KEYS);
    return key;
}

static void value_fill(unsigned char *out, uint32_t key, uint32_t number, size_t size) {
    memcpy(out, &number, 4);
    memcpy(out + 4, &key, 4);
    for (size_t i = 8; i < size; i++)
        out[i] = (unsigned char)(number * 31 + i);
}

/* The number of a value; 0 when it is not whole or not of this key. */
static uint32_t value_read(uint32_t key, const void *data, size_t size) {
    unsigned char expected[VALUE_LONGEST];
    uint32_t number = 0;
    if (size < 8 || size > sizeof expected) return 0;
    memcpy(&number, data, 4);
    value_fill(expected, key, number, size);
    return memcmp(expected, data, size) == 0 ? number : 0;
}

enum { MODEL_KEYS = 40, MODEL_STEPS = 12000, MODEL_PINS = 6 };

typedef struct model_value {
    size_t size, charge;
    uint64_t used;
    int64_t expires; /* INT64_MAX = never */
    uint32_t key, refs;
    bool live, refused, owed; /* owed: its removal is to be told, once */
    rm_cache_cause cause, told;
} model_value;

typedef struct model {
    world w;
    model_value values[MODEL_STEPS + 1];
    uint32_t count;            /* of values; numbers start at 1 */
    uint32_t live[MODEL_KEYS]; /* the value of each key; 0 = none */
    uint64_t tick, bytes, refused_bytes, entries;
    rm_cache_stats expected;
    int64_t max_entries, max_bytes, base;
    rm_cache_pin pins[MODEL_PINS];
    uint32_t pinned[MODEL_PINS]; /* the value of each pin; 0 = none */
    uint32_t told[64];           /* removals of this step that are not yet explained */
    uint32_t told_count;
    rm_status load_status;
} model;

static uint32_t model_below(model *m, uint32_t bound) {
    return (uint32_t)rm_random_below(&m->w.random, bound);
}

static void model_removed(const void *key, size_t key_size, const void *value, size_t size,
                          rm_cache_cause cause, void *user) {
    model *m = (model *)user;
    const uint32_t number = value_read((uint32_t)key_size, value, size);
    CHECK(key_size == 0 || *(const unsigned char *)key == key_size);
    if (!CHECK(number > 0 && number <= m->count)) return;
    CHECK_EQ(m->values[number].size, size);
    CHECK(m->values[number].owed);
    m->values[number].owed = false;
    m->values[number].told = cause;
    if (CHECK(m->told_count < 64)) m->told[m->told_count++] = number;
}

/* The value has no place and no pin any more: its removal was told in this step. */
static void model_ends(model *m, uint32_t number) {
    const model_value *v = &m->values[number];
    uint32_t i = 0;
    *(v->refused ? &m->refused_bytes : &m->bytes) -= v->charge;
    while (i < m->told_count && m->told[i] != number)
        i++;
    if (!CHECK(i < m->told_count)) return;
    CHECK_EQ(v->cause, v->told);
    m->told[i] = m->told[--m->told_count];
}

static void model_unlink(model *m, uint32_t number, rm_cache_cause cause) {
    model_value *v = &m->values[number];
    uint64_t *const counts[] = {&m->expected.evicted, &m->expected.expired, &m->expected.replaced,
                                &m->expected.deleted, &m->expected.cleared, &m->expected.refused};
    ++*counts[cause];
    v->live = false;
    v->cause = cause;
    m->live[v->key] = 0;
    m->entries--;
    if (v->refs == 0) model_ends(m, number);
}

static void model_unref(model *m, uint32_t number) {
    model_value *v = &m->values[number];
    if (--v->refs > 0) return;
    v->used = ++m->tick;
    if (!v->live) model_ends(m, number);
}

/* When the cache drops what has expired is its own business; that it had expired is not. */
static void model_expiries(model *m) {
    uint32_t i = 0;
    while (i < m->told_count) {
        const uint32_t number = m->told[i];
        const model_value *v = &m->values[number];
        if (v->told != RM_CACHE_CAUSE_EXPIRED) {
            i++;
            continue;
        }
        if (!CHECK(v->live && v->refs == 0 && v->expires <= rm_now(&m->w.clock))) return;
        model_unlink(m, number, RM_CACHE_CAUSE_EXPIRED);
        i = 0;
    }
}

/* The value that a look-up must find; 0 = none. */
static uint32_t model_look_up(model *m, uint32_t key) {
    const uint32_t number = m->live[key];
    model_expiries(m);
    if (m->live[key] == 0) {
        m->expected.misses++;
        return 0;
    }
    CHECK(m->values[number].expires > rm_now(&m->w.clock));
    m->values[number].used = ++m->tick;
    m->expected.hits++;
    return number;
}

/* Is there room for a charge beside what is pinned? Then makes it, oldest first. */
static bool model_room(model *m, uint32_t key, size_t charge) {
    const uint32_t old = m->live[key];
    const bool old_idle = old != 0 && m->values[old].refs == 0;
    const size_t freed = old_idle ? m->values[old].charge : 0;
    uint64_t entries = m->entries + (old == 0), bytes = m->bytes + charge - freed;
    uint32_t victims[MODEL_KEYS], count = 0;
    while ((m->max_entries != RM_NONE && entries > (uint64_t)m->max_entries) ||
           (m->max_bytes != RM_NONE && bytes > (uint64_t)m->max_bytes)) {
        uint32_t victim = 0;
        for (uint32_t k = 0; k < MODEL_KEYS; k++) {
            const uint32_t v = m->live[k];
            bool taken = v == 0 || v == old || m->values[v].refs > 0;
            for (uint32_t i = 0; i < count; i++)
                taken = taken || victims[i] == v;
            if (!taken && (victim == 0 || m->values[v].used < m->values[victim].used)) victim = v;
        }
        if (victim == 0) return false;
        victims[count++] = victim;
        entries--;
        bytes -= m->values[victim].charge;
    }
    for (uint32_t i = 0; i < count; i++)
        model_unlink(m, victims[i], RM_CACHE_CAUSE_EVICTED);
    return true;
}

/* A new value, not yet in the cache; sometimes far too large. */
static uint32_t model_make(model *m, uint32_t key, unsigned char *out) {
    const uint32_t number = ++m->count;
    model_value *v = &m->values[number];
    memset(v, 0, sizeof *v);
    v->key = key;
    v->size = 8 + model_below(m, model_below(m, 8) == 0 ? VALUE_LONGEST - 8 : 80);
    v->charge = v->size + key + RM_CACHE_OVERHEAD;
    v->expires = INT64_MAX;
    v->owed = true;
    value_fill(out, key, number, v->size);
    return number;
}

/* Puts a value in, in place of the old one. */
static bool model_link(model *m, uint32_t number) {
    model_value *v = &m->values[number];
    if ((m->max_bytes != RM_NONE && v->charge > (uint64_t)m->max_bytes) ||
        !model_room(m, v->key, v->charge))
        return false;
    if (m->live[v->key] != 0) model_unlink(m, m->live[v->key], RM_CACHE_CAUSE_REPLACED);
    v->live = true;
    v->used = ++m->tick;
    m->live[v->key] = number;
    m->entries++;
    m->bytes += v->charge;
    return true;
}

static void model_set(model *m) {
    const uint32_t key = model_below(m, MODEL_KEYS);
    unsigned char name[VALUE_KEYS], data[VALUE_LONGEST];
    const uint32_t number = model_make(m, key, data);
    model_value *v = &m->values[number];
    const int64_t ttl = model_below(m, 3) == 0 ? 1 + model_below(m, 30) : RM_NONE;
    rm_status status;
    if (ttl != RM_NONE) v->expires = rm_now(&m->w.clock) + ttl;
    status = rm_cache_set(m->w.cache, name, value_key(key, name), data, v->size, ttl, NULL);
    model_expiries(m);
    if (model_link(m, number)) {
        CHECK_EQ(RM_OK, status);
        m->expected.sets++;
        return;
    }
    v->owed = false;
    CHECK_EQ(m->max_bytes != RM_NONE && v->charge > (uint64_t)m->max_bytes ? RM_E_TOO_LARGE
                                                                           : RM_E_FULL,
             status);
}

static void model_get(model *m) {
    const uint32_t key = model_below(m, MODEL_KEYS);
    unsigned char name[VALUE_KEYS], data[VALUE_LONGEST];
    const size_t capacity = model_below(m, 2) == 0 ? sizeof data : model_below(m, 40);
    size_t size = 0;
    const rm_status status =
        rm_cache_get(m->w.cache, name, value_key(key, name), data, capacity, &size);
    const uint32_t number = model_look_up(m, key);
    if (number == 0) {
        CHECK_EQ(RM_E_NOT_FOUND, status);
        return;
    }
    CHECK_EQ(m->values[number].size, size);
    CHECK_EQ(size > capacity ? RM_E_TOO_LARGE : RM_OK, status);
    if (status == RM_OK) CHECK_EQ(number, value_read(key, data, size));
}

/* Keeps a pin that came out, or gives it back: what will expire is not kept, so that the model
   need not know when it left. */
static void model_keep(model *m, uint32_t number, rm_cache_pin *p) {
    uint32_t slot = 0;
    CHECK_EQ(number, value_read(m->values[number].key, p->value, p->size));
    while (slot < MODEL_PINS && m->pinned[slot] != 0)
        slot++;
    if (!CHECK(slot < MODEL_PINS)) return;
    if (m->values[number].expires != INT64_MAX || model_below(m, 3) == 0) {
        CHECK_EQ(RM_OK, rm_cache_release(m->w.cache, p));
        model_unref(m, number);
        return;
    }
    m->pins[slot] = *p;
    m->pinned[slot] = number;
    m->expected.pins++;
}

/* A pin of a value, which may be full. */
static void model_pin(model *m, uint32_t number, rm_status status, rm_cache_pin *p) {
    m->values[number].refs++;
    if (m->expected.pins < MODEL_PINS) {
        if (CHECK_EQ(RM_OK, status)) model_keep(m, number, p);
        return;
    }
    CHECK_EQ(RM_E_FULL, status);
    model_unref(m, number);
}

static void model_acquire(model *m) {
    const uint32_t key = model_below(m, MODEL_KEYS);
    unsigned char name[VALUE_KEYS];
    rm_cache_pin p;
    const rm_status status = rm_cache_acquire(m->w.cache, name, value_key(key, name), &p);
    const uint32_t number = model_look_up(m, key);
    if (number == 0)
        CHECK_EQ(RM_E_NOT_FOUND, status);
    else
        model_pin(m, number, status, &p);
}

static void model_release(model *m) {
    const uint32_t slot = model_below(m, MODEL_PINS), number = m->pinned[slot];
    rm_cache_pin copy = m->pins[slot];
    if (number == 0) return;
    CHECK_EQ(number, value_read(m->values[number].key, copy.value, copy.size));
    CHECK_EQ(RM_OK, rm_cache_release(m->w.cache, &m->pins[slot]));
    CHECK_EQ(RM_E_STALE, rm_cache_release(m->w.cache, &copy));
    m->pinned[slot] = 0;
    m->expected.pins--;
    model_unref(m, number);
}

static void model_delete(model *m) {
    const uint32_t key = model_below(m, MODEL_KEYS);
    unsigned char name[VALUE_KEYS];
    const rm_status status = rm_cache_delete(m->w.cache, name, value_key(key, name));
    model_expiries(m);
    CHECK_EQ(m->live[key] != 0 ? RM_OK : RM_E_NOT_FOUND, status);
    if (m->live[key] != 0) model_unlink(m, m->live[key], RM_CACHE_CAUSE_DELETED);
}

static void model_clear(model *m) {
    CHECK_EQ(m->entries, rm_cache_clear(m->w.cache));
    for (uint32_t k = 0; k < MODEL_KEYS; k++) {
        if (m->live[k] != 0) model_unlink(m, m->live[k], RM_CACHE_CAUSE_CLEARED);
    }
}

static void model_maintain(model *m) {
    const uint64_t before = m->expected.expired;
    const uint32_t buckets = model_below(m, 2) == 0 ? 0 : 1 + model_below(m, 40);
    const uint64_t count = rm_cache_maintain(m->w.cache, buckets);
    model_expiries(m);
    CHECK_EQ(m->expected.expired - before, count);
    for (uint32_t k = 0; buckets == 0 && k < MODEL_KEYS; k++)
        CHECK(m->live[k] == 0 || m->values[m->live[k]].expires > rm_now(&m->w.clock));
}

static rm_status model_load_fn(rm_cache_load *load, const void *key, size_t key_size,
                               rm_deadline deadline, rm_error *error, void *user) {
    model *m = (model *)user;
    unsigned char data[VALUE_LONGEST];
    const uint32_t number = model_make(m, (uint32_t)key_size, data);
    (void)key, (void)deadline, (void)error;
    if (model_below(m, 4) != 0)
        CHECK_EQ(RM_OK, rm_cache_load_set(load, data, m->values[number].size));
    else if (m->load_status == RM_OK)
        m->load_status = RM_E_FAILED; /* RM_OK, but without a value */
    m->values[number].owed = m->load_status == RM_OK;
    return m->load_status == RM_E_FAILED ? RM_OK : m->load_status;
}

static void model_load(model *m) {
    const uint32_t key = model_below(m, MODEL_KEYS), made = m->count;
    rm_cache_loader loader = rm_cache_loader_make(model_load_fn, m);
    unsigned char name[VALUE_KEYS];
    rm_cache_pin p;
    rm_status status;
    uint32_t number;
    model_value *v;
    m->load_status = model_below(m, 6) == 0 ? RM_E_PROTOCOL : RM_OK;
    loader.ttl_ns = model_below(m, 3) == 0 ? 1 + model_below(m, 30) : RM_NONE;
    status =
        rm_cache_get_or_load(m->w.cache, name, value_key(key, name), &loader, RM_SEC(1), &p, NULL);
    number = model_look_up(m, key);
    if (number != 0) {
        CHECK_EQ(made, m->count);
        model_pin(m, number, status, &p);
        return;
    }
    m->expected.loads++;
    if (m->load_status != RM_OK) {
        m->expected.load_failures++;
        CHECK_EQ(m->load_status, status);
        return;
    }
    if (!CHECK_EQ(made + 1, m->count)) return;
    v = &m->values[m->count];
    if (loader.ttl_ns != RM_NONE) v->expires = rm_now(&m->w.clock) + loader.ttl_ns;
    if (!model_link(m, m->count)) {
        v->refused = true;
        v->cause = RM_CACHE_CAUSE_REFUSED;
        m->refused_bytes += v->charge;
        m->expected.refused++;
    }
    model_pin(m, m->count, status, &p);
}

static void model_step(model *m) {
    const uint32_t dice = model_below(m, 1000);
    if (dice < 300)
        model_get(m);
    else if (dice < 550)
        model_set(m);
    else if (dice < 650)
        model_acquire(m);
    else if (dice < 800)
        model_release(m);
    else if (dice < 930)
        model_load(m);
    else if (dice < 960)
        model_delete(m);
    else if (dice < 975)
        model_maintain(m);
    else if (dice < 977)
        model_clear(m);
    else
        pass(&m->w, 1 + model_below(m, 20));
}

/* All that can be seen is as the model has it, to the byte that was allocated. */
static bool model_agrees(model *m) {
    const rm_cache_stats s = stats_of(&m->w), *e = &m->expected;
    bool ok = CHECK_EQ(0, m->told_count) && CHECK_EQ(m->entries, s.entries) &&
              CHECK_EQ(m->bytes, s.bytes) && CHECK_EQ(e->pins, s.pins) &&
              CHECK_EQ(e->hits, s.hits) && CHECK_EQ(e->misses, s.misses);
    ok = ok && CHECK_EQ(e->sets, s.sets) && CHECK_EQ(e->loads, s.loads) &&
         CHECK_EQ(e->load_failures, s.load_failures) && CHECK_EQ(e->evicted, s.evicted) &&
         CHECK_EQ(e->expired, s.expired) && CHECK_EQ(e->replaced, s.replaced);
    ok = ok && CHECK_EQ(e->deleted, s.deleted) && CHECK_EQ(e->cleared, s.cleared) &&
         CHECK_EQ(e->refused, s.refused) &&
         CHECK_EQ(m->base + (int64_t)(m->bytes + m->refused_bytes), m->w.out);
    ok = ok && CHECK(m->max_bytes == RM_NONE || s.bytes <= (uint64_t)m->max_bytes);
    return ok && CHECK(m->max_entries == RM_NONE || s.entries <= m->max_entries);
}

static void model_run(uint64_t seed, int64_t max_entries, int64_t max_bytes, rm_cache_stats *sum) {
    static model m;
    rm_cache_desc desc = small();
    memset(&m, 0, sizeof m);
    m.max_entries = desc.max_entries = max_entries;
    m.max_bytes = desc.max_bytes = max_bytes;
    desc.max_pins = MODEL_PINS;
    desc.removed_fn = model_removed;
    desc.user = &m;
    REQUIRE(world_open(&m.w, desc));
    rm_rng_seed(&m.w.rng, seed);
    m.base = m.w.out;
    for (int step = 0; step < MODEL_STEPS; step++) {
        model_step(&m);
        if (!model_agrees(&m)) {
            printf("# seed %d, step %d\n", (int)seed, step);
            return;
        }
    }
    sum->evicted += m.expected.evicted;
    sum->expired += m.expected.expired;
    sum->replaced += m.expected.replaced;
    sum->refused += m.expected.refused;
    sum->hits += m.expected.hits;
    sum->loads += m.expected.loads;
    for (uint32_t i = 0; i < MODEL_PINS; i++) {
        if (m.pinned[i] != 0) CHECK_EQ(RM_OK, rm_cache_release(m.w.cache, &m.pins[i]));
    }
    m.told_count = 0;
    world_close(&m.w);
    for (uint32_t i = 1; i <= m.count; i++)
        CHECK(!m.values[i].owed);
}

TEST(cache, agrees_with_a_plain_model_on_any_sequence_of_calls) {
    rm_cache_stats sum;
    memset(&sum, 0, sizeof sum);
    for (uint64_t seed = 1; seed <= 3; seed++) {
        model_run(seed, 12, RM_NONE, &sum);
        model_run(seed, 4, RM_NONE, &sum);
        model_run(seed, RM_NONE, 12 * (RM_CACHE_OVERHEAD + 60), &sum);
        model_run(seed, 11, 12 * (RM_CACHE_OVERHEAD + 60), &sum);
        model_run(seed, 5, 5 * (RM_CACHE_OVERHEAD + 20), &sum);
    }
    CHECK(sum.evicted > 10000 && sum.expired > 1000 && sum.replaced > 1000); /* all of it happens */
    CHECK(sum.refused > 500 && sum.hits > 10000 && sum.loads > 10000);
}

/* ---- many threads ---- */

enum { FRESH_KEYS = 4, FRESH_WRITES = 1200, FRESH_READERS = 3 };

typedef struct fresh {
    world w;
    uint64_t truth[FRESH_KEYS];     /* the newest version of each key, where loads come from */
    uint64_t published[FRESH_KEYS]; /* a write of this version has returned */
    bool over;
    rm_mutex mutex; /* of the rest */
    rm_cond moved;
    uint32_t writes, reads, loading;
} fresh;

typedef struct fresh_reader {
    rm_thread thread;
    fresh *f;
} fresh_reader;

static void fresh_count(fresh *f, uint32_t *count) {
    rm_mutex_lock(&f->mutex);
    ++*count;
    if (count == &f->writes) f->loading = 0; /* they all go on */
    rm_cond_broadcast(&f->moved);
    rm_mutex_unlock(&f->mutex);
}

/* Reads the truth and comes back with it after the next write. */
static rm_status fresh_load(rm_cache_load *load, const void *key, size_t key_size,
                            rm_deadline deadline, rm_error *error, void *user) {
    fresh *f = (fresh *)user;
    uint64_t version;
    uint32_t k, seen;
    (void)deadline, (void)error;
    memcpy(&k, key, key_size);
    rm_mutex_lock(&f->mutex);
    seen = f->writes;
    version = LOAD(&f->truth[k]);
    f->loading++;
    rm_cond_broadcast(&f->moved);
    while (f->writes == seen && !LOAD(&f->over))
        rm_cond_wait(&f->moved, &f->mutex, INT64_MAX);
    rm_mutex_unlock(&f->mutex);
    return rm_cache_load_set(load, &version, sizeof version);
}

static void fresh_read(void *user) {
    fresh *f = ((fresh_reader *)user)->f;
    const rm_cache_loader loader = rm_cache_loader_make(fresh_load, f);
    for (uint32_t i = 0; !LOAD(&f->over); i++) {
        const uint32_t k = i % FRESH_KEYS;
        const uint64_t least = LOAD(&f->published[k]);
        uint64_t version = UINT64_MAX;
        rm_cache_pin p;
        if (i % 3 == 0) {
            (void)rm_cache_get(f->w.cache, &k, sizeof k, &version, sizeof version, NULL);
        } else if (CHECK_EQ(RM_OK, rm_cache_get_or_load(f->w.cache, &k, sizeof k, &loader,
                                                        RM_FOREVER, &p, NULL))) {
            memcpy(&version, p.value, sizeof version);
            CHECK_EQ(RM_OK, rm_cache_release(f->w.cache, &p));
        }
        CHECK(version >= least);
        fresh_count(f, &f->reads);
    }
}

/* Writes, whenever a load is in progress, or the readers found all they wanted. */
static void fresh_write(fresh *f) {
    uint32_t reads = 0;
    for (uint32_t i = 0; i < FRESH_WRITES; i++) {
        const uint32_t k = i % FRESH_KEYS; /* every kind of write meets every key */
        uint64_t version;
        rm_mutex_lock(&f->mutex);
        while (f->loading == 0 && f->reads - reads < 20)
            rm_cond_wait(&f->moved, &f->mutex, INT64_MAX);
        reads = f->reads;
        rm_mutex_unlock(&f->mutex);
        version = ADD(&f->truth[k], 1);
        if (i % 3 == 0)
            CHECK_EQ(RM_OK,
                     rm_cache_set(f->w.cache, &k, sizeof k, &version, sizeof version, 0, NULL));
        else if (i % 3 == 1)
            (void)rm_cache_delete(f->w.cache, &k, sizeof k);
        else
            (void)rm_cache_clear(f->w.cache);
        STORE(&f->published[k], version);
        fresh_count(f, &f->writes);
    }
    STORE(&f->over, true);
    fresh_count(f, &f->writes);
}

TEST(cache, shows_nothing_older_than_the_last_write_that_returned) {
    static fresh f;
    fresh_reader readers[FRESH_READERS];
    memset(&f, 0, sizeof f);
    REQUIRE(world_open(&f.w, rm_cache_desc_default()));
    CHECK_EQ(RM_OK, rm_mutex_init(&f.mutex));
    CHECK_EQ(RM_OK, rm_cond_init(&f.moved));
    f.w.threads = true;
    for (int i = 0; i < FRESH_READERS; i++) {
        readers[i].f = &f;
        CHECK_EQ(RM_OK, rm_thread_start(&readers[i].thread, fresh_read, &readers[i]));
    }
    fresh_write(&f);
    for (int i = 0; i < FRESH_READERS; i++)
        rm_thread_join(&readers[i].thread);
    CHECK(stats_of(&f.w).refused > FRESH_WRITES / 10);
    rm_cond_destroy(&f.moved);
    rm_mutex_destroy(&f.mutex);
    world_close(&f.w);
}

enum { STRESS_THREADS = 8, STRESS_OPS = 4000, STRESS_KEYS = 40, STRESS_PINS = 4 };
enum { STRESS_VALUES = STRESS_THREADS * STRESS_OPS * 3 };

typedef struct stress {
    world w;
    int owed[STRESS_VALUES], told[STRESS_VALUES]; /* removals by number of the value */
    uint64_t causes[6], lookups, sets, loads, failures, steps;
    uint64_t outcomes[RM_E_INTERNAL + 1]; /* of rm_cache_get_or_load */
    rm_cache_desc desc;
    gate start;
} stress;

typedef struct stress_worker {
    rm_thread thread;
    stress *s;
    rm_rng rng;
    rm_random random;
    uint32_t next, depth; /* number of its next value; of its loads */
    rm_cache_pin pins[STRESS_PINS];
    uint32_t keys[STRESS_PINS];
} stress_worker;

static uint32_t stress_below(stress_worker *t, uint32_t bound) {
    return (uint32_t)rm_random_below(&t->random, bound);
}

static void stress_removed(const void *key, size_t key_size, const void *value, size_t size,
                           rm_cache_cause cause, void *user) {
    stress *s = (stress *)user;
    const uint32_t number = value_read((uint32_t)key_size, value, size);
    const uint32_t other = (number + (uint32_t)key_size) % STRESS_KEYS;
    unsigned char name[VALUE_KEYS];
    CHECK(key_size == 0 || *(const unsigned char *)key == key_size);
    if (!CHECK(number > 0 && number < STRESS_VALUES)) return;
    ADD(&s->told[number], 1);
    ADD(&s->causes[cause], 1);
    ADD(&s->lookups, 1);
    (void)rm_cache_get(s->w.cache, name, value_key(other, name), NULL, 0, NULL);
}

/* A new value, which will be told of once. */
static uint32_t stress_make(stress_worker *t, uint32_t key, unsigned char *data, size_t *size) {
    const uint32_t number = t->next++;
    *size = 8 + stress_below(t, stress_below(t, 50) == 0 ? VALUE_LONGEST - 8 : 60);
    value_fill(data, key, number, *size);
    STORE(&t->s->owed[number], 1);
    return number;
}

static void stress_set(stress_worker *t, uint32_t key) {
    unsigned char name[VALUE_KEYS], data[VALUE_LONGEST];
    const int64_t ttl = stress_below(t, 2) == 0 ? 0 : 1 + stress_below(t, 40);
    size_t size = 0;
    const uint32_t number = stress_make(t, key, data, &size);
    const rm_status status =
        rm_cache_set(t->s->w.cache, name, value_key(key, name), data, size, ttl, NULL);
    if (status == RM_OK) {
        ADD(&t->s->sets, 1);
        return;
    }
    CHECK(status == RM_E_FULL || status == RM_E_TOO_LARGE);
    STORE(&t->s->owed[number], 0);
}

static void stress_get(stress_worker *t, uint32_t key) {
    unsigned char name[VALUE_KEYS], data[VALUE_LONGEST];
    size_t size = 0;
    const rm_status status =
        rm_cache_get(t->s->w.cache, name, value_key(key, name), data, sizeof data, &size);
    ADD(&t->s->lookups, 1);
    CHECK(status == RM_OK || status == RM_E_NOT_FOUND);
    if (status == RM_OK) CHECK(value_read(key, data, size) != 0);
}

/* Keeps a pin, in place of another that is whole still. */
static void stress_keep(stress_worker *t, uint32_t key, const rm_cache_pin *p) {
    const uint32_t slot = stress_below(t, STRESS_PINS);
    rm_cache_pin *old = &t->pins[slot];
    if (old->value != NULL) {
        CHECK(value_read(t->keys[slot], old->value, old->size) != 0);
        CHECK_EQ(RM_OK, rm_cache_release(t->s->w.cache, old));
    }
    if (p == NULL) return;
    CHECK(value_read(key, p->value, p->size) != 0);
    t->pins[slot] = *p;
    t->keys[slot] = key;
}

static void stress_acquire(stress_worker *t, uint32_t key) {
    unsigned char name[VALUE_KEYS];
    rm_cache_pin p;
    const rm_status status = rm_cache_acquire(t->s->w.cache, name, value_key(key, name), &p);
    ADD(&t->s->lookups, 1);
    CHECK(status == RM_OK || status == RM_E_NOT_FOUND || status == RM_E_FULL);
    if (status == RM_OK) stress_keep(t, key, &p);
}

static void stress_load(stress_worker *t, uint32_t key);

/* Lets the others go on for a while, so that they meet a load in progress. */
static void stress_linger(stress_worker *t) {
    const uint64_t until = LOAD(&t->s->steps) + 30;
    for (int i = 0; i < 2000 && LOAD(&t->s->steps) < until; i++)
        (void)stats_of(&t->s->w);
}

/* Loads a value; fails at times; loads other keys first, higher ones, so that no ring can close. */
static rm_status stress_load_fn(rm_cache_load *load, const void *key, size_t key_size,
                                rm_deadline deadline, rm_error *error, void *user) {
    stress_worker *t = (stress_worker *)user;
    const uint32_t k = (uint32_t)key_size;
    unsigned char data[VALUE_LONGEST];
    uint32_t number;
    size_t size = 0;
    (void)deadline;
    ADD(&t->s->loads, 1);
    if (t->depth < 3 && k + 1 < STRESS_KEYS && stress_below(t, 4) == 0)
        stress_load(t, k + 1 + stress_below(t, STRESS_KEYS - k - 1));
    if (stress_below(t, 4) == 0) stress_linger(t);
    if (stress_below(t, 10) == 0) (void)rm_cache_delete(t->s->w.cache, key, key_size);
    number = stress_make(t, k, data, &size);
    CHECK_EQ(RM_OK, rm_cache_load_set(load, data, size));
    if (stress_below(t, 8) != 0) return RM_OK;
    STORE(&t->s->owed[number], 0);
    ADD(&t->s->failures, 1);
    return rm_error_set(error, RM_E_PROTOCOL, (int32_t)key_size, "stress", "%u", (unsigned)k);
}

static void stress_load(stress_worker *t, uint32_t key) {
    const int64_t timeouts[] = {0, RM_FOREVER, RM_NOWAIT, 5, 20};
    const int64_t timeout = timeouts[stress_below(t, 5)];
    rm_cache_loader loader = rm_cache_loader_make(stress_load_fn, t);
    unsigned char name[VALUE_KEYS];
    rm_error error;
    rm_cache_pin p;
    rm_status status;
    memset(&error, 0, sizeof error);
    loader.ttl_ns = stress_below(t, 2) == 0 ? 0 : 1 + stress_below(t, 40);
    t->depth++;
    status = rm_cache_get_or_load(t->s->w.cache, name, value_key(key, name), &loader, timeout, &p,
                                  &error);
    t->depth--;
    ADD(&t->s->lookups, 1);
    ADD(&t->s->outcomes[status], 1);
    CHECK_EQ(status, error.status);
    CHECK(status == RM_OK || status == RM_E_PROTOCOL || status == RM_E_FULL ||
          (status == RM_E_TIMEOUT && timeout != RM_FOREVER));
    if (status == RM_OK) stress_keep(t, key, &p);
    if (status == RM_E_PROTOCOL) CHECK_EQ(key, error.native);
}

static void stress_look(stress_worker *t) {
    const rm_cache_stats s = stats_of(&t->s->w);
    CHECK(s.bytes <= (uint64_t)t->s->desc.max_bytes);
    CHECK(s.entries <= t->s->desc.max_entries);
    CHECK(s.pins <= t->s->desc.max_pins);
}

static void stress_run(void *user) {
    stress_worker *t = (stress_worker *)user;
    gate_pass(&t->s->start);
    for (int i = 0; i < STRESS_OPS; i++) {
        const uint32_t key = stress_below(t, stress_below(t, 2) == 0 ? 4 : STRESS_KEYS);
        const uint32_t dice = stress_below(t, 1000);
        unsigned char name[VALUE_KEYS];
        ADD(&t->s->steps, 1);
        if (dice < 300)
            stress_get(t, key);
        else if (dice < 450)
            stress_set(t, key);
        else if (dice < 550)
            stress_acquire(t, key);
        else if (dice < 650)
            stress_keep(t, 0, NULL);
        else if (dice < 850)
            stress_load(t, key);
        else if (dice < 900)
            (void)rm_cache_delete(t->s->w.cache, name, value_key(key, name));
        else if (dice < 950)
            stress_look(t);
        else if (dice < 995)
            pass(&t->s->w, 1 + stress_below(t, 5));
        else if (dice < 999)
            (void)rm_cache_maintain(t->s->w.cache, 16);
        else
            (void)rm_cache_clear(t->s->w.cache);
    }
    for (int i = 0; i < STRESS_PINS; i++) {
        if (t->pins[i].value != NULL) CHECK_EQ(RM_OK, rm_cache_release(t->s->w.cache, &t->pins[i]));
    }
}

/* Everything that came in has gone once or is there; every look-up and every load was counted. */
static void stress_add_up(stress *s) {
    const rm_cache_stats stats = stats_of(&s->w);
    const uint64_t counts[] = {stats.evicted, stats.expired, stats.replaced,
                               stats.deleted, stats.cleared, stats.refused};
    uint64_t removed = 0;
    for (int i = 0; i < 6; i++) {
        CHECK_EQ(s->causes[i], counts[i]);
        CHECK(counts[i] > 0);
        removed += counts[i];
    }
    CHECK_EQ(s->sets, stats.sets);
    CHECK_EQ(s->loads, stats.loads);
    CHECK_EQ(s->failures, stats.load_failures);
    CHECK_EQ(s->lookups, stats.hits + stats.misses);
    CHECK_EQ(stats.sets + stats.loads - stats.load_failures, removed + stats.entries);
    CHECK_EQ(0, stats.pins);
    CHECK(s->outcomes[RM_OK] > 0 && s->outcomes[RM_E_PROTOCOL] > 0);
}

TEST(cache, tells_of_every_entry_once_under_threads) {
    static stress s;
    static stress_worker workers[STRESS_THREADS];
    rm_cache_desc desc = small();
    memset(&s, 0, sizeof s);
    memset(workers, 0, sizeof workers);
    desc.max_entries = 24;
    desc.max_bytes = 24 * (RM_CACHE_OVERHEAD + 50);
    desc.max_pins = 20;
    desc.removed_fn = stress_removed;
    desc.user = &s;
    s.desc = desc;
    REQUIRE(world_open(&s.w, desc));
    s.w.threads = true;
    gate_init(&s.start);
    for (uint32_t i = 0; i < STRESS_THREADS; i++) {
        stress_worker *t = &workers[i];
        t->s = &s;
        t->next = 1 + i * STRESS_OPS * 3;
        rm_rng_seed(&t->rng, 1000 + i);
        t->random = rm_rng_random(&t->rng);
        CHECK_EQ(RM_OK, rm_thread_start(&t->thread, stress_run, t));
    }
    gate_await(&s.start, STRESS_THREADS);
    gate_open(&s.start);
    for (uint32_t i = 0; i < STRESS_THREADS; i++) {
        rm_thread_join(&workers[i].thread);
        CHECK(workers[i].next <= 1 + (i + 1) * STRESS_OPS * 3);
    }
    stress_add_up(&s);
    gate_end(&s.start);
    world_close(&s.w);
    for (uint32_t i = 0; i < STRESS_VALUES; i++)
        CHECK_EQ(s.owed[i], s.told[i]);
}

TEST_MAIN

/* The memory driver: typed values in and out, loading, time, room, failing allocations. */
#define RM_IMPLEMENTATION
#include "rm.h"
#include "rm_cache.h"
#include "examples/drivers/memory.h"
#include "rm_test.h"
#include "purse.h"

/* >>tools --------------------------------------------------------------------------------- */

typedef struct quote {
    double price;
    int64_t as_of;
} quote;
RMX_MEMORY_TYPE(quotes, quote)

/* A memory of quotes on a virtual clock, and what its loader saw. */
typedef struct world {
    rmx_memory *memory;
    purse purse;
    rm_allocator allocator;
    rm_virtual_clock time;
    rm_clock clock;
    rm_env env;
    uint32_t loads;
    rm_deadline deadline;
    rm_status destroyed; /* what rmx_memory_destroy said during a load */
    rm_thread second;
    quote second_quote;
} world;

/* Loads every key but "no"; its length is the time. */
static rm_status load_quote(const char *key, void *value, rm_deadline deadline, rm_error *error,
                            void *user) {
    world *w = (world *)user;
    quote *q = (quote *)value;
    ++w->loads;
    w->deadline = deadline;
    CHECK(q->price == 0.0 && q->as_of == 0);
    if (strcmp(key, "no") == 0)
        return rm_error_set(error, RM_E_NOT_FOUND, 7, "exchange", "%s is not traded", key);
    q->price = 1.5;
    q->as_of = (int64_t)strlen(key);
    return RM_OK;
}

static rmx_memory_desc world_desc(world *w) {
    rmx_memory_desc desc;
    memset(w, 0, sizeof *w);
    w->allocator = purse_open(&w->purse, 0);
    CHECK_EQ(RM_OK, rm_virtual_clock_init(&w->time, RM_SEC(1), false));
    w->clock = rm_virtual_clock_clock(&w->time);
    w->env.allocator = &w->allocator;
    w->env.clock = &w->clock;
    memset(&desc, 0, sizeof desc);
    desc.env = &w->env;
    desc.value_size = sizeof(quote);
    desc.load_fn = load_quote;
    desc.user = w;
    return desc;
}

static void world_begin(world *w, const rmx_memory_desc *desc) {
    CHECK_EQ(RM_OK, rmx_memory_create(desc, &w->memory, NULL));
    if (w->memory == NULL) exit(1);
}

static void world_end(world *w) {
    CHECK_EQ(RM_OK, rmx_memory_destroy(w->memory));
    CHECK_EQ(0, w->purse.out);
    rm_virtual_clock_destroy(&w->time);
}

static void set(world *w, const char *key, double price, int64_t ttl_ns) {
    const quote q = {price, 0};
    CHECK_EQ(RM_OK, quotes_set(w->memory, key, &q, ttl_ns, NULL));
}

/* The price of a key that is there, else 0. */
static double price_of(world *w, const char *key) {
    quote q = {0.0, 0};
    const rm_status status = quotes_get(w->memory, key, &q);
    CHECK(status == RM_OK || status == RM_E_NOT_FOUND);
    return q.price;
}

/* >>values -------------------------------------------------------------------------------- */

TEST(memory, gives_back_what_was_put_in) {
    world w;
    rmx_memory_desc desc = world_desc(&w);
    const quote tea = {9.95, INT64_MIN};
    quote q = {1.0, 1};
    world_begin(&w, &desc);
    CHECK_EQ(RM_E_NOT_FOUND, quotes_get(w.memory, "tea", &q));
    CHECK(q.price == 1.0 && q.as_of == 1); /* left alone */
    CHECK_EQ(RM_OK, quotes_set(w.memory, "tea", &tea, 0, NULL));
    CHECK_EQ(RM_OK, quotes_get(w.memory, "tea", &q));
    CHECK(q.price == 9.95 && q.as_of == INT64_MIN);
    set(&w, "tea", 2.0, 0);
    CHECK(price_of(&w, "tea") == 2.0);
    set(&w, "", 3.0, 0); /* an empty key is a key */
    CHECK(price_of(&w, "") == 3.0);
    CHECK(price_of(&w, "te") == 0.0);
    world_end(&w);
}

TEST(memory, deletes_one_key) {
    world w;
    rmx_memory_desc desc = world_desc(&w);
    world_begin(&w, &desc);
    set(&w, "tea", 1.0, 0);
    set(&w, "salt", 2.0, 0);
    CHECK_EQ(RM_OK, rmx_memory_delete(w.memory, "tea"));
    CHECK_EQ(RM_E_NOT_FOUND, rmx_memory_delete(w.memory, "tea"));
    CHECK(price_of(&w, "tea") == 0.0);
    CHECK(price_of(&w, "salt") == 2.0);
    world_end(&w);
}

TEST(memory, the_value_used_least_recently_makes_room) {
    world w;
    rmx_memory_desc desc = world_desc(&w);
    desc.max_entries = 2;
    world_begin(&w, &desc);
    set(&w, "a", 1.0, 0);
    set(&w, "b", 2.0, 0);
    CHECK(price_of(&w, "a") == 1.0);
    set(&w, "c", 3.0, 0);
    CHECK(price_of(&w, "a") == 1.0);
    CHECK(price_of(&w, "b") == 0.0);
    CHECK(price_of(&w, "c") == 3.0);
    world_end(&w);
}

TEST(memory, values_live_for_their_time) {
    world w;
    rmx_memory_desc desc = world_desc(&w);
    desc.ttl_ns = RM_SEC(5);
    world_begin(&w, &desc);
    set(&w, "tea", 1.0, 0);
    set(&w, "milk", 2.0, RM_SEC(1));
    set(&w, "salt", 3.0, RM_NONE);
    rm_virtual_clock_advance(&w.time, RM_SEC(1));
    CHECK(price_of(&w, "tea") == 1.0);
    CHECK(price_of(&w, "milk") == 0.0);
    rm_virtual_clock_advance(&w.time, RM_SEC(4));
    CHECK(price_of(&w, "tea") == 0.0);
    rm_virtual_clock_advance(&w.time, RM_SEC(1000000));
    CHECK(price_of(&w, "salt") == 3.0);
    world_end(&w);
}

TEST(memory, lives_for_an_hour_and_holds_10000_by_default) {
    world w;
    rmx_memory_desc desc = world_desc(&w);
    rm_cache_stats stats;
    char key[16];
    world_begin(&w, &desc);
    for (int i = 0; i < 10001; ++i) {
        (void)snprintf(key, sizeof key, "%d", i);
        set(&w, key, 1.0, 0);
    }
    CHECK_EQ(RM_OK, rmx_memory_stats_get(w.memory, &stats, NULL));
    CHECK_EQ(10000, stats.entries);
    CHECK_EQ(1, stats.evicted);
    rm_virtual_clock_advance(&w.time, RM_SEC(3600) - 1);
    CHECK(price_of(&w, "10000") == 1.0);
    rm_virtual_clock_advance(&w.time, 1);
    CHECK(price_of(&w, "10000") == 0.0);
    world_end(&w);
}

TEST(memory, counts_its_hits) {
    world w;
    rmx_memory_desc desc = world_desc(&w);
    rm_cache_stats stats;
    double ratio = -1.0;
    world_begin(&w, &desc);
    CHECK_EQ(RM_OK, rmx_memory_stats_get(w.memory, &stats, &ratio));
    CHECK(ratio == 0.0);
    set(&w, "tea", 1.0, 0);
    for (int i = 0; i < 3; ++i)
        (void)price_of(&w, "tea");
    (void)price_of(&w, "milk");
    CHECK_EQ(RM_OK, rmx_memory_stats_get(w.memory, &stats, &ratio));
    CHECK_EQ(3, stats.hits);
    CHECK_EQ(1, stats.misses);
    CHECK(ratio == 0.75);
    world_end(&w);
}

/* >>loading ------------------------------------------------------------------------------- */

TEST(memory, loads_what_is_missing_once) {
    world w;
    rmx_memory_desc desc = world_desc(&w);
    rm_cache_stats stats;
    quote q = {0.0, 0};
    world_begin(&w, &desc);
    for (int i = 0; i < 3; ++i) {
        q.price = 0.0;
        CHECK_EQ(RM_OK, quotes_get_or_load(w.memory, "milk", RM_SEC(3), &q, NULL));
        CHECK(q.price == 1.5 && q.as_of == 4);
    }
    CHECK_EQ(1, w.loads);
    CHECK_EQ(rm_now(&w.clock) + RM_SEC(3), w.deadline.at_ns);
    CHECK(price_of(&w, "milk") == 1.5);
    CHECK_EQ(RM_OK, rmx_memory_stats_get(w.memory, &stats, NULL));
    CHECK_EQ(0, stats.pins);
    world_end(&w);
}

TEST(memory, a_failed_load_says_why_and_is_not_kept) {
    world w;
    rmx_memory_desc desc = world_desc(&w);
    quote q = {8.0, 8};
    rm_error error;
    world_begin(&w, &desc);
    for (uint32_t i = 1; i <= 2; ++i) {
        memset(&error, 0, sizeof error);
        CHECK_EQ(RM_E_NOT_FOUND, quotes_get_or_load(w.memory, "no", 0, &q, &error));
        CHECK_STR("exchange", error.where);
        CHECK_STR("no is not traded", error.message);
        CHECK_EQ(7, error.native);
        CHECK_EQ(i, w.loads);
    }
    CHECK(q.price == 8.0 && q.as_of == 8); /* left alone */
    world_end(&w);
}

TEST(memory, loads_again_when_the_time_is_over) {
    world w;
    rmx_memory_desc desc = world_desc(&w);
    quote q;
    desc.ttl_ns = RM_SEC(5);
    world_begin(&w, &desc);
    CHECK_EQ(RM_OK, quotes_get_or_load(w.memory, "tea", 0, &q, NULL));
    rm_virtual_clock_advance(&w.time, RM_SEC(5));
    CHECK_EQ(RM_OK, quotes_get_or_load(w.memory, "tea", 0, &q, NULL));
    CHECK_EQ(2, w.loads);
    world_end(&w);
}

static void ask_too(void *user) {
    world *w = (world *)user;
    CHECK_EQ(RM_OK, quotes_get_or_load(w->memory, "tea", RM_SEC(9), &w->second_quote, NULL));
}

/* Loads only when a second caller waits for the same key. */
static rm_status load_for_two(const char *key, void *value, rm_deadline deadline, rm_error *error,
                              void *user) {
    world *w = (world *)user;
    CHECK_EQ(RM_OK, rm_thread_start(&w->second, ask_too, w));
    rm_virtual_clock_await(&w->time, 1);
    return load_quote(key, value, deadline, error, user);
}

TEST(memory, one_load_serves_two_callers) {
    world w;
    rmx_memory_desc desc = world_desc(&w);
    rm_cache_stats stats;
    quote q = {0.0, 0};
    desc.load_fn = load_for_two;
    world_begin(&w, &desc);
    CHECK_EQ(RM_OK, quotes_get_or_load(w.memory, "tea", RM_SEC(9), &q, NULL));
    rm_thread_join(&w.second);
    CHECK_EQ(1, w.loads);
    CHECK(q.price == 1.5 && q.as_of == 3);
    CHECK(w.second_quote.price == 1.5 && w.second_quote.as_of == 3);
    CHECK_EQ(RM_OK, rmx_memory_stats_get(w.memory, &stats, NULL));
    CHECK_EQ(1, stats.load_waits);
    CHECK_EQ(0, stats.pins);
    world_end(&w);
}

static rm_status load_and_destroy(const char *key, void *value, rm_deadline deadline,
                                  rm_error *error, void *user) {
    world *w = (world *)user;
    w->destroyed = rmx_memory_destroy(w->memory);
    return load_quote(key, value, deadline, error, user);
}

TEST(memory, is_not_destroyed_while_it_loads) {
    world w;
    rmx_memory_desc desc = world_desc(&w);
    quote q = {0.0, 0};
    desc.load_fn = load_and_destroy;
    world_begin(&w, &desc);
    CHECK_EQ(RM_OK, quotes_get_or_load(w.memory, "tea", 0, &q, NULL));
    CHECK_EQ(RM_E_BUSY, w.destroyed);
    CHECK(q.price == 1.5);
    CHECK(price_of(&w, "tea") == 1.5); /* nothing was done */
    world_end(&w);
}

TEST(memory, without_a_loader_nothing_is_loaded) {
    world w;
    rmx_memory_desc desc = world_desc(&w);
    quote q;
    rm_error error;
    desc.load_fn = NULL;
    world_begin(&w, &desc);
    CHECK_EQ(RM_E_UNSUPPORTED, quotes_get_or_load(w.memory, "tea", 0, &q, &error));
    CHECK_STR("load_fn", error.where);
    world_end(&w);
}

/* >>failures ------------------------------------------------------------------------------ */

TEST(memory, names_the_field_that_is_wrong) {
    world w;
    rmx_memory_desc desc = world_desc(&w);
    rmx_memory *memory = NULL;
    rm_error error;
    desc.value_size = 0;
    CHECK_EQ(RM_E_INVALID, rmx_memory_create(&desc, &memory, &error));
    CHECK_STR("value_size", error.where);
    desc.value_size = sizeof(quote);
    desc.max_entries = -7;
    CHECK_EQ(RM_E_INVALID, rmx_memory_create(&desc, &memory, &error));
    CHECK_STR("max_entries", error.where);
    desc.max_entries = 0;
    desc.ttl_ns = -7;
    CHECK_EQ(RM_E_INVALID, rmx_memory_create(&desc, &memory, &error));
    CHECK_STR("ttl_ns", error.where);
    desc.ttl_ns = 0;
    CHECK_EQ(RM_E_INVALID, rmx_memory_create(&desc, NULL, &error));
    CHECK_EQ(RM_E_INVALID, rmx_memory_create(NULL, &memory, &error));
    CHECK(memory == NULL);
    CHECK_EQ(0, w.purse.out);
    rm_virtual_clock_destroy(&w.time);
}

TEST(memory, refuses_null) {
    world w;
    rmx_memory_desc desc = world_desc(&w);
    rm_cache_stats stats;
    quote q = {0.0, 0};
    world_begin(&w, &desc);
    CHECK_EQ(RM_E_INVALID, rmx_memory_get(NULL, "a", &q));
    CHECK_EQ(RM_E_INVALID, rmx_memory_get(w.memory, NULL, &q));
    CHECK_EQ(RM_E_INVALID, rmx_memory_get(w.memory, "a", NULL));
    CHECK_EQ(RM_E_INVALID, rmx_memory_set(NULL, "a", &q, 0, NULL));
    CHECK_EQ(RM_E_INVALID, rmx_memory_set(w.memory, NULL, &q, 0, NULL));
    CHECK_EQ(RM_E_INVALID, rmx_memory_set(w.memory, "a", NULL, 0, NULL));
    CHECK_EQ(RM_E_INVALID, rmx_memory_get_or_load(NULL, "a", 0, &q, NULL));
    CHECK_EQ(RM_E_INVALID, rmx_memory_get_or_load(w.memory, NULL, 0, &q, NULL));
    CHECK_EQ(RM_E_INVALID, rmx_memory_get_or_load(w.memory, "a", 0, NULL, NULL));
    CHECK_EQ(RM_E_INVALID, rmx_memory_delete(NULL, "a"));
    CHECK_EQ(RM_E_INVALID, rmx_memory_delete(w.memory, NULL));
    CHECK_EQ(RM_E_INVALID, rmx_memory_stats_get(NULL, &stats, NULL));
    CHECK_EQ(RM_E_INVALID, rmx_memory_stats_get(w.memory, NULL, NULL));
    CHECK(rmx_memory_cache(NULL) == NULL);
    CHECK(rmx_memory_cache(w.memory) != NULL);
    CHECK_EQ(RM_OK, rmx_memory_destroy(NULL));
    CHECK_EQ(0, w.loads);
    world_end(&w);
}

/* Makes, fills and loads; true if no allocation failed. */
static bool use_all(world *w, const rmx_memory_desc *desc) {
    const quote q = {2.5, 0};
    quote loaded;
    rm_error error;
    rm_status status;
    memset(&error, 0, sizeof error);
    status = rmx_memory_create(desc, &w->memory, &error);
    if (status == RM_OK) status = quotes_set(w->memory, "tea", &q, 0, &error);
    if (status == RM_OK) status = quotes_get_or_load(w->memory, "milk", 0, &loaded, &error);
    if (status == RM_OK) {
        CHECK(price_of(w, "tea") == 2.5);
        CHECK(loaded.as_of == 4);
        return true;
    }
    CHECK_EQ(RM_E_NOMEM, status);
    CHECK_EQ(RM_E_NOMEM, error.status);
    CHECK(error.message[0] != '\0');
    return false;
}

TEST(memory, survives_every_failing_allocation) {
    bool done = false;
    int64_t fails_at;
    for (fails_at = 1; !done && fails_at < 100; ++fails_at) {
        world w;
        rmx_memory_desc desc = world_desc(&w);
        w.purse.fails_at = fails_at;
        done = use_all(&w, &desc);
        world_end(&w);
    }
    CHECK(done);
    CHECK(fails_at > 5); /* the memory, its cache, two entries and a value at least */
}

TEST_MAIN

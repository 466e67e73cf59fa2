/* Tests of rm_pool.h in a program without threads: what would have to wait says RM_E_BUSY. */
#define RM_NO_THREADS
#define RM_IMPLEMENTATION
#include "rm_pool.h"
#include "rm_test.h"

#include <stdlib.h>

static int live;
static rm_status create_status;

static rm_status make(void **resource, rm_deadline deadline, rm_error *error, void *user) {
    (void)deadline, (void)error, (void)user;
    if (create_status != RM_OK) return create_status;
    *resource = malloc(1);
    live += *resource != NULL;
    return *resource != NULL ? RM_OK : RM_E_NOMEM;
}

static void end(void *resource, void *user) {
    (void)user;
    free(resource);
    --live;
}

static rm_pool *open_pool(rm_virtual_clock *time, rm_clock *clock, rm_env *env) {
    rm_pool *pool = NULL;
    rm_pool_desc desc = rm_pool_desc_default();
    CHECK_EQ(RM_OK, rm_virtual_clock_init(time, RM_SEC(1000), false));
    *clock = rm_virtual_clock_clock(time);
    memset(env, 0, sizeof *env);
    env->clock = clock;
    desc.env = env;
    desc.create_fn = make;
    desc.destroy_fn = end;
    desc.max = 2;
    desc.min_idle = 1;
    desc.create_backoff_ns = RM_NONE;
    create_status = RM_OK;
    live = 0;
    CHECK_EQ(RM_OK, rm_pool_create(&desc, &pool, NULL));
    return pool;
}

static void end_pool(rm_pool *pool, rm_virtual_clock *time) {
    CHECK_EQ(RM_OK, rm_pool_destroy(pool));
    CHECK_EQ(0, live);
    rm_virtual_clock_destroy(time);
}

TEST(pool_no_threads, lends_and_takes_back) {
    rm_virtual_clock time;
    rm_clock clock;
    rm_env env;
    rm_lease a, b, copy;
    rm_pool_stats stats;
    rm_pool *pool = open_pool(&time, &clock, &env);
    REQUIRE(pool != NULL);
    REQUIRE(rm_pool_acquire(pool, 0, &a, NULL) == RM_OK);
    REQUIRE(rm_pool_acquire(pool, RM_FOREVER, &b, NULL) == RM_OK);
    CHECK(a.resource != b.resource);
    copy = a;
    CHECK_EQ(RM_OK, rm_pool_release(pool, &a, RM_RELEASE_OK));
    CHECK_EQ(RM_E_STALE, rm_pool_release(pool, &copy, RM_RELEASE_OK));
    CHECK_EQ(RM_OK, rm_pool_release(pool, &b, RM_RELEASE_BROKEN));
    REQUIRE(rm_pool_stats_get(pool, &stats) == RM_OK);
    CHECK_EQ(1, stats.idle);
    CHECK_EQ(1, stats.empty);
    CHECK_EQ(2, stats.acquired);
    CHECK_EQ(1, live);
    end_pool(pool, &time);
}

TEST(pool_no_threads, says_busy_where_it_would_have_to_wait) {
    static const int64_t timeouts[] = {RM_NOWAIT, 0, 1, RM_SEC(1), RM_FOREVER, INT64_MAX};
    rm_virtual_clock time;
    rm_clock clock;
    rm_env env;
    rm_cancel token;
    rm_lease a, b, c;
    rm_error error;
    rm_pool_stats stats;
    rm_deadline none = {0};
    size_t i;
    rm_pool *pool = open_pool(&time, &clock, &env);
    REQUIRE(pool != NULL);
    CHECK_EQ(RM_OK, rm_cancel_init(&token));
    REQUIRE(rm_pool_acquire(pool, 0, &a, NULL) == RM_OK);
    REQUIRE(rm_pool_acquire(pool, 0, &b, NULL) == RM_OK);
    for (i = 0; i < sizeof timeouts / sizeof *timeouts; ++i) {
        error.status = RM_OK;
        CHECK_EQ(RM_E_BUSY, rm_pool_acquire(pool, timeouts[i], &c, &error));
        CHECK_EQ(RM_E_BUSY, error.status);
    }
    CHECK_EQ(RM_E_BUSY, rm_pool_acquire_until(pool, none, &token, &c, NULL));
    rm_cancel_request(&token);
    CHECK_EQ(RM_E_CANCELLED, rm_pool_acquire_until(pool, none, &token, &c, NULL));
    CHECK_EQ(RM_OK, rm_cancel_destroy(&token));
    CHECK_EQ(RM_E_BUSY, rm_pool_close(pool, RM_FOREVER, &error));
    CHECK_EQ(RM_E_BUSY, error.status);
    CHECK_EQ(RM_E_BUSY, rm_pool_destroy(pool));
    CHECK_EQ(RM_E_CLOSED, rm_pool_acquire(pool, RM_FOREVER, &c, NULL));
    REQUIRE(rm_pool_stats_get(pool, &stats) == RM_OK);
    CHECK_EQ(2, stats.in_use);
    CHECK_EQ(0, stats.waiting);
    CHECK_EQ(0, stats.timeouts);
    CHECK_EQ(RM_OK, rm_pool_release(pool, &a, RM_RELEASE_OK));
    CHECK_EQ(RM_OK, rm_pool_release(pool, &b, RM_RELEASE_OK));
    CHECK_EQ(RM_OK, rm_pool_close(pool, RM_FOREVER, NULL));
    end_pool(pool, &time);
}

TEST(pool_no_threads, keeps_its_minimum_and_ends_the_rest) {
    rm_virtual_clock time;
    rm_clock clock;
    rm_env env;
    rm_lease a, b;
    rm_deadline none = {0};
    rm_pool *pool = open_pool(&time, &clock, &env);
    REQUIRE(pool != NULL);
    create_status = RM_E_REFUSED;
    CHECK_EQ(RM_E_REFUSED, rm_pool_maintain(pool, 0, none, NULL));
    CHECK_EQ(RM_E_REFUSED, rm_pool_acquire(pool, 0, &a, NULL));
    create_status = RM_OK;
    CHECK_EQ(RM_OK, rm_pool_maintain(pool, 0, none, NULL));
    CHECK_EQ(1, live);
    REQUIRE(rm_pool_acquire(pool, 0, &a, NULL) == RM_OK);
    REQUIRE(rm_pool_acquire(pool, 0, &b, NULL) == RM_OK);
    CHECK_EQ(RM_OK, rm_pool_release(pool, &a, RM_RELEASE_OK));
    CHECK_EQ(RM_OK, rm_pool_release(pool, &b, RM_RELEASE_OK));
    rm_virtual_clock_advance(&time, RM_MINUTES(10));
    CHECK_EQ(RM_OK, rm_pool_maintain(pool, 0, none, NULL));
    CHECK_EQ(1, live);
    end_pool(pool, &time);
}

/* ---- callbacks can wait where no thread can */

typedef struct asker {
    rm_pool_request request;
    rm_lease lease;
    rm_status status;
    unsigned calls;
} asker;

static void asker_told(rm_status status, const rm_lease *lease, const rm_error *error, void *user) {
    asker *a = (asker *)user;
    (void)error;
    ++a->calls;
    a->status = status;
    if (status == RM_OK) a->lease = *lease;
}

static void asker_asks(asker *a, rm_pool *pool, rm_deadline deadline, rm_cancel *cancel) {
    memset(a, 0, sizeof *a);
    CHECK_EQ(RM_OK,
             rm_pool_acquire_async(pool, &a->request, deadline, cancel, asker_told, NULL, a));
}

static rm_pool_stats stats_of(rm_pool *pool) {
    rm_pool_stats stats;
    memset(&stats, 0, sizeof stats);
    CHECK_EQ(RM_OK, rm_pool_stats_get(pool, &stats));
    return stats;
}

TEST(pool_no_threads, a_release_grants_to_the_callback_that_waits_longest) {
    rm_virtual_clock time;
    rm_clock clock;
    rm_env env;
    rm_lease a, b;
    rm_deadline none = {0};
    void *first;
    asker asks[3];
    rm_pool *pool = open_pool(&time, &clock, &env);
    REQUIRE(pool != NULL);
    asker_asks(&asks[0], pool, none, NULL);
    CHECK_EQ(1, asks[0].calls); /* at once: it is made in the call */
    REQUIRE(asks[0].status == RM_OK);
    a = asks[0].lease;
    REQUIRE(rm_pool_acquire(pool, 0, &b, NULL) == RM_OK);
    asker_asks(&asks[1], pool, none, NULL);
    rm_virtual_clock_advance(&time, 1);
    asker_asks(&asks[2], pool, none, NULL);
    CHECK_EQ(0, asks[1].calls + asks[2].calls);
    CHECK_EQ(2, stats_of(pool).waiting);
    first = a.resource;
    CHECK_EQ(RM_OK, rm_pool_release(pool, &a, RM_RELEASE_OK));
    CHECK_EQ(1, asks[1].calls);
    CHECK_EQ(0, asks[2].calls);
    REQUIRE(asks[1].status == RM_OK);
    CHECK(asks[1].lease.resource == first);
    CHECK_EQ(RM_OK, rm_pool_release(pool, &b, RM_RELEASE_BROKEN)); /* another is made for it */
    CHECK_EQ(1, asks[2].calls);
    REQUIRE(asks[2].status == RM_OK);
    CHECK_EQ(3, stats_of(pool).created);
    CHECK_EQ(RM_OK, rm_pool_release(pool, &asks[1].lease, RM_RELEASE_OK));
    CHECK_EQ(RM_OK, rm_pool_release(pool, &asks[2].lease, RM_RELEASE_OK));
    end_pool(pool, &time);
}

TEST(pool_no_threads, maintain_ends_the_callbacks_whose_time_is_up) {
    rm_virtual_clock time;
    rm_clock clock;
    rm_env env;
    rm_lease a, b;
    rm_deadline none = {0};
    asker early, late;
    rm_pool *pool = open_pool(&time, &clock, &env);
    REQUIRE(pool != NULL);
    REQUIRE(rm_pool_acquire(pool, 0, &a, NULL) == RM_OK);
    REQUIRE(rm_pool_acquire(pool, 0, &b, NULL) == RM_OK);
    asker_asks(&late, pool, rm_deadline_after(&clock, RM_MS(20)), NULL);
    asker_asks(&early, pool, rm_deadline_after(&clock, RM_MS(10)), NULL);
    rm_virtual_clock_advance(&time, RM_MS(10) - 1);
    CHECK_EQ(RM_OK, rm_pool_maintain(pool, 0, none, NULL));
    CHECK_EQ(0, early.calls);
    rm_virtual_clock_advance(&time, 1);
    CHECK_EQ(0, early.calls); /* nobody looks by himself */
    CHECK_EQ(RM_OK, rm_pool_maintain(pool, 0, none, NULL));
    CHECK_EQ(1, early.calls);
    CHECK_EQ(RM_E_TIMEOUT, early.status);
    CHECK_EQ(0, late.calls);
    rm_virtual_clock_advance(&time, RM_MS(10));
    CHECK_EQ(RM_OK, rm_pool_release(pool, &a, RM_RELEASE_OK)); /* looks, and lends it nothing */
    CHECK_EQ(1, late.calls);
    CHECK_EQ(RM_E_TIMEOUT, late.status);
    CHECK_EQ(2, stats_of(pool).timeouts);
    CHECK_EQ(1, stats_of(pool).idle);
    CHECK_EQ(RM_OK, rm_pool_release(pool, &b, RM_RELEASE_OK));
    end_pool(pool, &time);
}

TEST(pool_no_threads, a_callback_that_is_cancelled_leaves_its_place_to_the_next) {
    rm_virtual_clock time;
    rm_clock clock;
    rm_env env;
    rm_lease a, b;
    rm_cancel token;
    rm_deadline none = {0};
    asker asks[3];
    rm_pool *pool = open_pool(&time, &clock, &env);
    REQUIRE(pool != NULL);
    CHECK_EQ(RM_OK, rm_cancel_init(&token));
    REQUIRE(rm_pool_acquire(pool, 0, &a, NULL) == RM_OK);
    REQUIRE(rm_pool_acquire(pool, 0, &b, NULL) == RM_OK);
    asker_asks(&asks[0], pool, none, NULL);
    asker_asks(&asks[1], pool, none, &token);
    asker_asks(&asks[2], pool, none, NULL);
    CHECK_EQ(RM_OK, rm_pool_request_cancel(&asks[0].request));
    CHECK_EQ(1, asks[0].calls);
    CHECK_EQ(RM_E_CANCELLED, asks[0].status);
    CHECK_EQ(RM_E_STALE, rm_pool_request_cancel(&asks[0].request));
    rm_cancel_request(&token);
    CHECK_EQ(1, asks[1].calls);
    CHECK_EQ(RM_E_CANCELLED, asks[1].status);
    CHECK_EQ(1, stats_of(pool).waiting);
    CHECK_EQ(2, stats_of(pool).cancelled);
    CHECK_EQ(RM_OK, rm_pool_release(pool, &a, RM_RELEASE_OK));
    CHECK_EQ(1, asks[2].calls);
    REQUIRE(asks[2].status == RM_OK);
    CHECK_EQ(RM_E_STALE, rm_pool_request_cancel(&asks[2].request));
    CHECK_EQ(RM_OK, rm_pool_release(pool, &asks[2].lease, RM_RELEASE_OK));
    CHECK_EQ(RM_OK, rm_pool_release(pool, &b, RM_RELEASE_OK));
    CHECK_EQ(RM_OK, rm_cancel_destroy(&token));
    end_pool(pool, &time);
}

/* ---- the rest of a pool's life */

TEST(pool_no_threads, prewarms_one_after_the_other) {
    rm_virtual_clock time;
    rm_clock clock;
    rm_env env;
    rm_deadline none = {0};
    uint32_t made = 9;
    rm_pool *pool = open_pool(&time, &clock, &env);
    REQUIRE(pool != NULL);
    create_status = RM_E_REFUSED;
    CHECK_EQ(RM_E_REFUSED, rm_pool_prewarm(pool, 2, none, &made, NULL));
    CHECK_EQ(0, made);
    create_status = RM_OK;
    CHECK_EQ(RM_OK, rm_pool_prewarm(pool, 9, none, &made, NULL));
    CHECK_EQ(2, made); /* max */
    CHECK_EQ(2, live);
    CHECK_EQ(2, stats_of(pool).idle);
    end_pool(pool, &time);
}

TEST(pool_no_threads, changes_its_sizes_beside_a_callback_that_waits) {
    rm_virtual_clock time;
    rm_clock clock;
    rm_env env;
    rm_lease a;
    rm_deadline none = {0};
    rm_pool_sizes sizes;
    asker asks;
    rm_pool *pool = open_pool(&time, &clock, &env);
    REQUIRE(pool != NULL);
    memset(&sizes, 0, sizeof sizes);
    sizes.max = 1;
    REQUIRE(rm_pool_prewarm(pool, 2, none, NULL, NULL) == RM_OK);
    CHECK_EQ(RM_OK, rm_pool_resize(pool, &sizes, NULL));
    CHECK_EQ(1, live); /* what is idle above it is ended now */
    REQUIRE(rm_pool_acquire(pool, 0, &a, NULL) == RM_OK);
    asker_asks(&asks, pool, none, NULL);
    CHECK_EQ(0, asks.calls);
    sizes.max = 3;
    CHECK_EQ(RM_E_INVALID, rm_pool_resize(pool, &sizes, NULL)); /* above capacity */
    CHECK_EQ(0, asks.calls);
    sizes.max = 2;
    CHECK_EQ(RM_OK, rm_pool_resize(pool, &sizes, NULL));
    CHECK_EQ(1, asks.calls); /* there is room for it */
    REQUIRE(asks.status == RM_OK);
    CHECK_EQ(RM_OK, rm_pool_release(pool, &a, RM_RELEASE_OK));
    CHECK_EQ(RM_OK, rm_pool_release(pool, &asks.lease, RM_RELEASE_OK));
    end_pool(pool, &time);
}

TEST(pool_no_threads, lends_nothing_while_it_is_suspended) {
    rm_virtual_clock time;
    rm_clock clock;
    rm_env env;
    rm_lease a;
    rm_deadline none = {0};
    asker asks;
    rm_pool *pool = open_pool(&time, &clock, &env);
    REQUIRE(pool != NULL);
    REQUIRE(rm_pool_acquire(pool, 0, &a, NULL) == RM_OK);
    CHECK_EQ(RM_OK, rm_pool_suspend(pool));
    CHECK_EQ(RM_OK, rm_pool_release(pool, &a, RM_RELEASE_OK));
    CHECK_EQ(RM_E_BUSY, rm_pool_acquire(pool, RM_FOREVER, &a, NULL));
    asker_asks(&asks, pool, none, NULL);
    CHECK_EQ(RM_OK, rm_pool_maintain(pool, 0, none, NULL));
    CHECK_EQ(0, asks.calls);
    CHECK_EQ(RM_OK, rm_pool_resume(pool));
    CHECK_EQ(1, asks.calls);
    REQUIRE(asks.status == RM_OK);
    CHECK_EQ(RM_OK, rm_pool_release(pool, &asks.lease, RM_RELEASE_OK));
    end_pool(pool, &time);
}

TEST(pool_no_threads, evicts_what_is_idle_at_once_and_what_is_lent_at_its_release) {
    rm_virtual_clock time;
    rm_clock clock;
    rm_env env;
    rm_lease a, b;
    rm_deadline none = {0};
    const void *one;
    rm_pool *pool = open_pool(&time, &clock, &env);
    REQUIRE(pool != NULL);
    REQUIRE(rm_pool_prewarm(pool, 2, none, NULL, NULL) == RM_OK);
    REQUIRE(rm_pool_acquire(pool, 0, &a, NULL) == RM_OK);
    CHECK_EQ(RM_OK, rm_pool_evict_all(pool));
    CHECK_EQ(1, live);
    CHECK_EQ(RM_OK, rm_pool_release(pool, &a, RM_RELEASE_OK));
    CHECK_EQ(0, live);
    CHECK_EQ(2, stats_of(pool).ended[RM_POOL_CAUSE_EVICTED]);
    REQUIRE(rm_pool_acquire(pool, 0, &a, NULL) == RM_OK);
    REQUIRE(rm_pool_acquire(pool, 0, &b, NULL) == RM_OK);
    one = a.resource;
    CHECK_EQ(RM_OK, rm_pool_release(pool, &a, RM_RELEASE_OK));
    CHECK_EQ(RM_OK, rm_pool_evict(pool, one)); /* this one only */
    CHECK_EQ(1, live);
    CHECK_EQ(RM_OK, rm_pool_release(pool, &b, RM_RELEASE_OK));
    CHECK_EQ(1, stats_of(pool).idle);
    end_pool(pool, &time);
}

/* ---- pools by key */

typedef struct house {
    rm_virtual_clock time;
    rm_clock clock;
    rm_env env;
    rm_pools *pools;
} house;

static bool house_open(house *h, uint32_t max_total) {
    rm_pools_desc desc;
    memset(&desc, 0, sizeof desc);
    memset(h, 0, sizeof *h);
    CHECK_EQ(RM_OK, rm_virtual_clock_init(&h->time, RM_SEC(1000), false));
    h->clock = rm_virtual_clock_clock(&h->time);
    h->env.clock = &h->clock;
    desc.pool = rm_pool_desc_default();
    desc.pool.env = &h->env;
    desc.pool.create_fn = make;
    desc.pool.destroy_fn = end;
    desc.pool.max = 2;
    desc.max_total = max_total;
    create_status = RM_OK;
    live = 0;
    return CHECK_EQ(RM_OK, rm_pools_create(&desc, &h->pools, NULL));
}

static void house_end(house *h) {
    CHECK_EQ(RM_OK, rm_pools_close(h->pools, RM_NOWAIT, NULL));
    CHECK_EQ(RM_OK, rm_pools_destroy(h->pools));
    CHECK_EQ(0, live);
    rm_virtual_clock_destroy(&h->time);
}

static rm_status lend(house *h, const char *key, rm_pools_lease *lease) {
    const rm_deadline none = {0};
    return rm_pools_acquire(h->pools, key, 1, none, NULL, lease, NULL);
}

TEST(pool_no_threads, keys_end_what_is_idle_under_another_for_the_common_bound) {
    house h;
    rm_pools_lease a, b, c;
    REQUIRE(house_open(&h, 2));
    REQUIRE(lend(&h, "a", &a) == RM_OK);
    REQUIRE(lend(&h, "b", &b) == RM_OK);
    CHECK_EQ(RM_E_BUSY, lend(&h, "c", &c)); /* it would have to wait */
    CHECK_EQ(RM_OK, rm_pools_release(h.pools, &a, RM_RELEASE_OK));
    CHECK_EQ(2, live);
    REQUIRE(lend(&h, "c", &c) == RM_OK); /* in the place of what is idle under a */
    CHECK_EQ(2, live);
    CHECK_EQ(RM_OK, rm_pools_release(h.pools, &b, RM_RELEASE_OK));
    CHECK_EQ(RM_OK, rm_pools_release(h.pools, &c, RM_RELEASE_OK));
    house_end(&h);
}

TEST(pool_no_threads, keys_say_busy_where_their_close_would_have_to_wait) {
    static const int64_t timeouts[] = {RM_NOWAIT, 0, 1, RM_SEC(1), RM_FOREVER};
    house h;
    rm_pools_lease a;
    rm_error error;
    size_t i;
    REQUIRE(house_open(&h, 0));
    REQUIRE(lend(&h, "a", &a) == RM_OK);
    for (i = 0; i < sizeof timeouts / sizeof *timeouts; ++i) {
        error.status = RM_OK;
        CHECK_EQ(RM_E_BUSY, rm_pools_close(h.pools, timeouts[i], &error));
        CHECK_EQ(RM_E_BUSY, error.status);
    }
    CHECK_EQ(RM_OK, rm_pools_release(h.pools, &a, RM_RELEASE_OK));
    house_end(&h);
}

typedef struct guest {
    rm_pools_request request;
    rm_pools_lease lease;
    rm_status status;
    unsigned calls;
} guest;

static void guest_told(rm_status status, const rm_pools_lease *lease, const rm_error *error,
                       void *user) {
    guest *g = (guest *)user;
    (void)error;
    ++g->calls;
    g->status = status;
    if (status == RM_OK) g->lease = *lease;
}

TEST(pool_no_threads, keys_whose_callbacks_wait_get_what_another_gives_back) {
    house h;
    rm_pools_lease a;
    guest guests[2];
    const rm_deadline none = {0};
    REQUIRE(house_open(&h, 1));
    memset(guests, 0, sizeof guests);
    REQUIRE(lend(&h, "a", &a) == RM_OK);
    CHECK_EQ(RM_OK, rm_pools_acquire_async(h.pools, &guests[0].request, "b", 1,
                                           rm_deadline_after(&h.clock, RM_MS(10)), NULL, guest_told,
                                           NULL, &guests[0]));
    CHECK_EQ(RM_OK, rm_pools_acquire_async(h.pools, &guests[1].request, "c", 1, none, NULL,
                                           guest_told, NULL, &guests[1]));
    rm_virtual_clock_advance(&h.time, RM_MS(10));
    CHECK_EQ(0, guests[0].calls);
    CHECK_EQ(RM_OK, rm_pools_maintain(h.pools, 0, none, NULL));
    CHECK_EQ(1, guests[0].calls);
    CHECK_EQ(RM_E_TIMEOUT, guests[0].status);
    CHECK_EQ(0, guests[1].calls);
    CHECK_EQ(RM_OK, rm_pools_release(h.pools, &a, RM_RELEASE_OK));
    CHECK_EQ(1, guests[1].calls);
    REQUIRE(guests[1].status == RM_OK);
    CHECK_EQ(1, live);
    CHECK_EQ(RM_OK, rm_pools_release(h.pools, &guests[1].lease, RM_RELEASE_OK));
    house_end(&h);
}

TEST_MAIN

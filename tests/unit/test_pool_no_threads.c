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

TEST_MAIN

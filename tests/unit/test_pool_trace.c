/* Tests of rm_pool.h with RM_POOL_TRACE: acquires note where they are. */
#define RM_IMPLEMENTATION
#define RM_POOL_TRACE
#include "rm_pool.h"
#include "rm_test.h"

#include "pool_fixture.h"

static bool listing_add(const rm_pool_lease_info *info, void *user) {
    copy((char *)user, 80, info->where);
    return true;
}

TEST(pool_trace, an_acquire_notes_its_file_and_line) {
    world w;
    rm_lease lease;
    rm_error error;
    char where[80] = "", expected[32];
    int line;
    world_init(&w, 1);
    w.desc.leak_after_ns = RM_SEC(1);
    REQUIRE(world_open(&w));
    line = __LINE__ + 1;
    CHECK_EQ(RM_OK, rm_pool_acquire(w.pool, RM_NOWAIT, &lease, &error));
    CHECK_EQ(1, rm_pool_leases(w.pool, listing_add, where));
    (void)snprintf(expected, sizeof expected, "test_pool_trace.c:%d", line);
    CHECK(strstr(where, expected) != NULL);
    pass(&w, RM_SEC(1));
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK(strstr(w.log_message, expected) != NULL);
    CHECK_EQ(RM_E_BUSY, rm_pool_acquire(w.pool, RM_NOWAIT, &lease, &error)); /* nothing to note */
    CHECK_EQ(1, stats_of(&w).in_use);
    give(&w, &lease, RM_RELEASE_OK);
    world_end(&w);
}

TEST(pool_trace, the_function_itself_notes_nothing) {
    world w;
    rm_lease lease;
    char where[80] = "x";
    world_init(&w, 1);
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, (rm_pool_acquire)(w.pool, RM_NOWAIT, &lease, NULL));
    CHECK_EQ(1, rm_pool_leases(w.pool, listing_add, where));
    CHECK_STR("", where);
    give(&w, &lease, RM_RELEASE_OK);
    world_end(&w);
}

TEST_MAIN

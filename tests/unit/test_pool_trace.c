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

/* Was what is lent noted in this line of this file? */
static void check_noted(world *w, int line) {
    char where[80] = "", expected[32];
    CHECK_EQ(1, rm_pool_leases(w->pool, listing_add, where));
    (void)snprintf(expected, sizeof expected, "test_pool_trace.c:%d", line);
    if (CHECK(strlen(where) >= strlen(expected)))
        CHECK_STR(expected, where + strlen(where) - strlen(expected));
}

TEST(pool_trace, an_acquire_with_a_deadline_notes_its_file_and_line) {
    world w;
    rm_lease lease, other;
    rm_deadline soon;
    world_init(&w, 1);
    REQUIRE(world_open(&w));
    soon = rm_deadline_after(&w.clock, RM_NOWAIT);
    CHECK_EQ(RM_OK, rm_pool_acquire_until(w.pool, soon, NULL, &lease, NULL));
    check_noted(&w, __LINE__ - 1);
    CHECK_EQ(RM_E_TIMEOUT, rm_pool_acquire_until(w.pool, soon, NULL, &other, NULL));
    check_noted(&w, __LINE__ - 3); /* nothing to note */
    give(&w, &lease, RM_RELEASE_OK);
    world_end(&w);
}

TEST(pool_trace, a_scope_notes_its_file_and_line) {
    world w;
    rm_error error;
    uint32_t entered = 0;
    world_init(&w, 1);
    REQUIRE(world_open(&w));
    RM_POOL_SCOPE(scope, w.pool, RM_NOWAIT, &error) {
        check_noted(&w, __LINE__ - 1);
        RM_POOL_SCOPE(inner, w.pool, RM_NOWAIT, &error)
        ++entered; /* there is no other */
        CHECK_EQ(RM_E_BUSY, error.status);
        ++entered;
    }
    CHECK_EQ(1, entered);
    CHECK_EQ(1, stats_of(&w).idle);
    world_end(&w);
}

TEST(pool_trace, a_scope_of_a_variable_notes_its_file_and_line) {
    world w;
    world_init(&w, 1);
    REQUIRE(world_open(&w));
    {
        RM_POOL_AUTO rm_pool_scope scope = rm_pool_scope_open(w.pool, RM_NOWAIT, NULL);
        CHECK_EQ(RM_OK, scope.status);
        check_noted(&w, __LINE__ - 2);
        rm_pool_scope_close(&scope);
    }
    CHECK_EQ(1, stats_of(&w).idle);
    world_end(&w);
}

/* Their arguments are evaluated once, and an expression is one argument. */
TEST(pool_trace, evaluates_what_it_is_given_once) {
    world w;
    rm_lease leases[2];
    rm_pool *pools[2];
    const rm_deadline none = {0};
    int at = 0;
    world_init(&w, 2);
    REQUIRE(world_open(&w));
    pools[0] = pools[1] = w.pool;
    CHECK_EQ(RM_OK, rm_pool_acquire(pools[at++], RM_NOWAIT, leases, NULL));
    CHECK_EQ(1, at);
    CHECK_EQ(RM_OK, rm_pool_acquire_until(pools[at++], none, NULL, leases + 1, NULL));
    CHECK_EQ(2, at);
    give(&w, &leases[0], RM_RELEASE_OK);
    give(&w, &leases[1], RM_RELEASE_OK);
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

TEST(pool_trace, the_functions_have_addresses) {
    rm_status (*const acquire)(rm_pool *, int64_t, rm_lease *, rm_error *) = rm_pool_acquire;
    rm_status (*const until)(rm_pool *, rm_deadline, rm_cancel *, rm_lease *, rm_error *) =
        rm_pool_acquire_until;
    rm_pool_scope (*const open)(rm_pool *, int64_t, rm_error *) = &rm_pool_scope_open;
    const rm_deadline none = {0};
    world w;
    rm_lease a, b;
    rm_pool_scope scope;
    char where[80] = "x";
    world_init(&w, 3);
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, acquire(w.pool, RM_NOWAIT, &a, NULL));
    CHECK_EQ(RM_OK, until(w.pool, none, NULL, &b, NULL));
    scope = open(w.pool, RM_NOWAIT, NULL);
    CHECK_EQ(RM_OK, scope.status);
    CHECK_EQ(3, rm_pool_leases(w.pool, listing_add, where));
    CHECK_STR("", where); /* none of them notes */
    rm_pool_scope_close(&scope);
    give(&w, &a, RM_RELEASE_OK);
    give(&w, &b, RM_RELEASE_OK);
    world_end(&w);
}

TEST_MAIN

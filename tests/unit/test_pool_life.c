/* Tests of rm_pool.h: sizes, ages, checks, backoff, operations and insight.  A virtual clock;
   threads only where somebody has to wait. */
#include "rm_pool.h"
#include "rm_test.h"

#include "pool_fixture.h"

#include <stddef.h>

static const rm_deadline never = {0};

static rm_status resize(world *w, uint32_t max, uint32_t overflow, uint32_t min_idle,
                        uint32_t max_idle) {
    rm_pool_sizes sizes;
    rm_error error;
    sizes.max = max;
    sizes.overflow = overflow;
    sizes.min_idle = min_idle;
    sizes.max_idle = max_idle;
    return rm_pool_resize(w->pool, &sizes, &error);
}

static uint64_t ended(world *w, rm_pool_cause cause) {
    return stats_of(w).ended[cause];
}

/* ---- sizes ---- */

TEST(pool_sizes, overflow_is_made_when_all_are_taken_and_ended_on_release) {
    world w;
    rm_lease a, b, c, d;
    world_init(&w, 1);
    w.desc.overflow = 2;
    REQUIRE(world_open(&w));
    CHECK_EQ(3, stats_of(&w).capacity);
    CHECK_EQ(RM_OK, take(&w, &a));
    CHECK_EQ(RM_OK, take(&w, &b));
    CHECK_EQ(RM_OK, take(&w, &c));
    CHECK_EQ(RM_E_BUSY, take(&w, &d));
    give(&w, &b, RM_RELEASE_OK); /* two are left, which is still above max */
    CHECK_EQ(1, ended(&w, RM_POOL_CAUSE_SURPLUS));
    CHECK_EQ(0, stats_of(&w).idle);
    give(&w, &a, RM_RELEASE_OK);
    CHECK_EQ(2, ended(&w, RM_POOL_CAUSE_SURPLUS));
    give(&w, &c, RM_RELEASE_OK); /* the last one is within it */
    CHECK_EQ(2, ended(&w, RM_POOL_CAUSE_SURPLUS));
    CHECK_EQ(1, stats_of(&w).idle);
    CHECK_EQ(3, borrow(&w));
    world_end(&w);
}

TEST(pool_sizes, no_more_are_idle_than_max_idle) {
    world w;
    world_init(&w, 4);
    w.desc.max_idle = 2;
    REQUIRE(world_open(&w));
    fill(&w, 4);
    CHECK_EQ(2, stats_of(&w).idle);
    CHECK_EQ(2, ended(&w, RM_POOL_CAUSE_SURPLUS));
    world_end(&w);
}

TEST(pool_sizes, capacity_bounds_what_a_resize_may_ask_for) {
    world w;
    rm_pool_sizes sizes = {4, 1, 0, 0};
    rm_error error;
    world_init(&w, 2);
    w.desc.capacity = 4;
    REQUIRE(world_open(&w));
    CHECK_EQ(4, stats_of(&w).capacity);
    CHECK_EQ(RM_E_INVALID, rm_pool_resize(w.pool, &sizes, &error));
    CHECK_STR("max", error.where);
    CHECK_EQ(2, stats_of(&w).max); /* nothing was changed */
    CHECK_EQ(RM_OK, resize(&w, 3, 1, 0, 0));
    CHECK_EQ(RM_OK, resize(&w, 4, 0, 0, 0));
    fill(&w, 4);
    CHECK_EQ(4, stats_of(&w).idle);
    world_end(&w);
    w.desc.capacity = 1; /* less than max */
    CHECK_EQ(RM_E_INVALID, rm_pool_create(&w.desc, &w.pool, &error));
    CHECK_STR("max", error.where);
    w.desc.capacity = 65536;
    CHECK_EQ(RM_E_INVALID, rm_pool_create(&w.desc, &w.pool, &error));
    CHECK_STR("capacity", error.where);
}

TEST(pool_sizes, bad_ones_are_named) {
    static const struct {
        rm_pool_sizes sizes;
        const char *where;
    } bad[] = {{{65536, 0, 0, 0}, "max"},      {{9, 0, 0, 0}, "max"},
               {{8, 1, 0, 0}, "max"},          {{0, 0, 0, 0}, "max"}, /* 10 by default */
               {{1, 65535, 0, 0}, "overflow"}, {{1, UINT32_MAX, 0, 0}, "overflow"},
               {{4, 0, 5, 0}, "min_idle"},     {{4, 0, 0, 5}, "max_idle"},
               {{4, 0, 3, 2}, "max_idle"},     {{8, 65528, 0, 1}, "overflow"}};
    world w;
    rm_error error;
    size_t i;
    REQUIRE(world_begin(&w, 8));
    for (i = 0; i < sizeof bad / sizeof *bad; ++i) {
        CHECK_EQ(RM_E_INVALID, rm_pool_resize(w.pool, &bad[i].sizes, &error));
        CHECK_EQ(RM_E_INVALID, error.status);
        CHECK_STR(bad[i].where, error.where);
    }
    CHECK_EQ(8, stats_of(&w).max);
    CHECK_EQ(RM_E_INVALID, rm_pool_resize(NULL, &bad[0].sizes, &error));
    CHECK_EQ(RM_E_INVALID, rm_pool_resize(w.pool, NULL, &error));
    CHECK_EQ(RM_OK, resize(&w, 4, 4, 3, 3));
    CHECK_EQ(RM_OK, resize(&w, 4, 0, 2, 0)); /* max_idle 0 = max */
    CHECK_EQ(4, stats_of(&w).max_idle);
    CHECK_EQ(RM_OK, rm_pool_desc_get(w.pool, &w.desc));
    CHECK_EQ(4, w.desc.max);
    CHECK_EQ(0, w.desc.overflow);
    CHECK_EQ(2, w.desc.min_idle);
    CHECK_EQ(4, w.desc.max_idle);
    CHECK_EQ(8, w.desc.capacity);
    world_end(&w);
}

TEST(pool_sizes, shrinking_ends_the_idle_now_and_the_leased_at_their_release) {
    world w;
    rm_lease leases[4];
    REQUIRE(world_begin(&w, 4));
    take_many(&w, leases, 4);
    give(&w, &leases[3], RM_RELEASE_OK);
    CHECK_EQ(RM_OK, resize(&w, 2, 0, 0, 0));
    CHECK_EQ(1, ended(&w, RM_POOL_CAUSE_SURPLUS)); /* the idle one; three are still above max */
    CHECK_EQ(3, stats_of(&w).in_use);
    give(&w, &leases[2], RM_RELEASE_OK);
    CHECK_EQ(2, ended(&w, RM_POOL_CAUSE_SURPLUS));
    CHECK_EQ(RM_E_BUSY, take(&w, &leases[2])); /* no room for another */
    give(&w, &leases[0], RM_RELEASE_OK);
    give(&w, &leases[1], RM_RELEASE_OK);
    CHECK_EQ(2, stats_of(&w).idle);
    CHECK_EQ(2, ended(&w, RM_POOL_CAUSE_SURPLUS));
    CHECK_EQ(RM_OK, resize(&w, 2, 0, 0, 1)); /* less idle */
    CHECK_EQ(1, stats_of(&w).idle);
    world_end(&w);
}

TEST(pool_sizes, shrinking_comes_before_those_who_wait) {
    world w;
    caller a;
    rm_lease x, y, z;
    world_init(&w, 3);
    w.desc.barge_ns = RM_STRICT; /* whoever waits is served by the release itself */
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &x));
    CHECK_EQ(RM_OK, take(&w, &y));
    CHECK_EQ(RM_OK, take(&w, &z));
    caller_queue(&a, &w, RM_FOREVER, 1);
    CHECK_EQ(RM_OK, resize(&w, 1, 0, 0, 0));
    give(&w, &z, RM_RELEASE_OK);
    CHECK_EQ(1, ended(&w, RM_POOL_CAUSE_SURPLUS));
    CHECK_EQ(1, stats_of(&w).waiting);
    give(&w, &x, RM_RELEASE_OK);
    CHECK_EQ(2, ended(&w, RM_POOL_CAUSE_SURPLUS));
    give(&w, &y, RM_RELEASE_OK); /* the one that may stay */
    CHECK_EQ(RM_OK, caller_join(&a));
    CHECK_EQ(2, number_of(&a.lease));
    CHECK_EQ(3, w.created);
    give(&w, &a.lease, RM_RELEASE_OK);
    world_end(&w);
}

TEST(pool_sizes, overflow_is_handed_to_those_who_wait) {
    world w;
    caller a;
    rm_lease x, y;
    world_init(&w, 1);
    w.desc.overflow = 1;
    w.desc.barge_ns = RM_STRICT;
    REQUIRE(world_open(&w));
    take_both(&w, &x, &y);
    caller_queue(&a, &w, RM_FOREVER, 1);
    give(&w, &y, RM_RELEASE_OK); /* not ended to be made again */
    CHECK_EQ(RM_OK, caller_join(&a));
    CHECK_EQ(2, number_of(&a.lease));
    give(&w, &a.lease, RM_RELEASE_OK);
    CHECK_EQ(1, ended(&w, RM_POOL_CAUSE_SURPLUS));
    give(&w, &x, RM_RELEASE_OK);
    CHECK_EQ(2, w.created);
    world_end(&w);
}

TEST(pool_sizes, growing_serves_those_who_wait) {
    world w;
    caller a, b;
    rm_lease lease;
    world_init(&w, 1);
    w.desc.capacity = 3;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease));
    caller_queue(&a, &w, RM_FOREVER, 1);
    caller_queue(&b, &w, RM_FOREVER, 2);
    CHECK_EQ(RM_OK, resize(&w, 3, 0, 0, 0));
    CHECK_EQ(RM_OK, caller_join(&a));
    CHECK_EQ(RM_OK, caller_join(&b));
    CHECK_EQ(3, stats_of(&w).in_use);
    give(&w, &a.lease, RM_RELEASE_OK);
    give(&w, &b.lease, RM_RELEASE_OK);
    give(&w, &lease, RM_RELEASE_OK);
    world_end(&w);
}

TEST(pool_sizes, min_idle_is_made_by_maintain_and_follows_a_resize) {
    world w;
    rm_lease lease;
    world_init(&w, 4);
    w.desc.min_idle = 2;
    REQUIRE(world_open(&w));
    CHECK_EQ(0, w.creates);
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(2, stats_of(&w).idle);
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK_EQ(RM_OK, maintain(&w)); /* idle ones, not all */
    CHECK_EQ(2, stats_of(&w).idle);
    CHECK_EQ(RM_OK, resize(&w, 4, 0, 4, 0));
    CHECK_EQ(RM_OK, maintain(&w)); /* within max */
    CHECK_EQ(3, stats_of(&w).idle);
    CHECK_EQ(4, w.created);
    give(&w, &lease, RM_RELEASE_OK);
    world_end(&w);
}

TEST(pool_sizes, overflow_is_not_used_for_min_idle) {
    world w;
    rm_lease a, b;
    world_init(&w, 2);
    w.desc.overflow = 2;
    w.desc.min_idle = 1;
    REQUIRE(world_open(&w));
    take_both(&w, &a, &b);
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(2, w.creates);
    give_both(&w, &a, &b);
    world_end(&w);
}

TEST(pool_sizes, max_creating_bounds_the_creates_at_once) {
    world w;
    caller a, b;
    gate g;
    rm_lease lease;
    world_init(&w, 4);
    w.desc.max_creating = 1;
    REQUIRE(world_open(&w));
    caller_at_gate(&a, &w, &w.at_create, &g);
    caller_queue(&b, &w, RM_FOREVER, 1); /* there is room, but one is being made */
    CHECK_EQ(RM_E_BUSY, take(&w, &lease));
    CHECK_EQ(1, GET(w.creates));
    gate_open(&g);
    CHECK_EQ(RM_OK, caller_join(&a));
    CHECK_EQ(RM_OK, caller_join(&b)); /* a is not given back: it made one of its own */
    CHECK_EQ(2, w.creates);
    give_both(&w, &a.lease, &b.lease);
    gate_done(&g);
    world_end(&w);
}

TEST(pool_sizes, it_grows_only_after_an_acquire_has_waited) {
    world w;
    caller a, b;
    rm_lease lease, second;
    world_init(&w, 4);
    w.desc.grow_after_ns = RM_MS(5);
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease)); /* the first at once */
    CHECK_EQ(RM_E_BUSY, take(&w, &second));
    caller_queue(&a, &w, RM_FOREVER, 1);
    pass(&w, RM_MS(2));
    caller_queue(&b, &w, RM_FOREVER, 2);
    pass(&w, RM_MS(3) - 1);
    CHECK_EQ(1, GET(w.creates));
    pass(&w, 1); /* it wakes by itself */
    CHECK_EQ(RM_OK, caller_join(&a));
    CHECK_EQ(2, GET(w.creates));
    rm_virtual_clock_await(&w.time, 1); /* the second is now the head, and has its own time */
    give(&w, &a.lease, RM_RELEASE_OK);  /* a burst is ridden out */
    CHECK_EQ(RM_OK, caller_join(&b));
    CHECK_EQ(2, w.creates);
    give_both(&w, &b.lease, &lease);
    world_end(&w);
}

TEST(pool_sizes, each_waiter_has_a_growing_time_of_its_own) {
    world w;
    caller a, b;
    rm_lease lease;
    world_init(&w, 4);
    w.desc.grow_after_ns = RM_MS(5);
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease));
    caller_queue(&a, &w, RM_FOREVER, 1);
    pass(&w, RM_MS(2));
    caller_queue(&b, &w, RM_FOREVER, 2);
    pass(&w, RM_MS(3));
    CHECK_EQ(RM_OK, caller_join(&a));
    rm_virtual_clock_await(&w.time, 1);
    pass(&w, RM_MS(2) - 1);
    CHECK_EQ(2, GET(w.creates));
    pass(&w, 1);
    CHECK_EQ(RM_OK, caller_join(&b));
    CHECK_EQ(3, w.creates);
    give(&w, &a.lease, RM_RELEASE_OK);
    give(&w, &b.lease, RM_RELEASE_OK);
    give(&w, &lease, RM_RELEASE_OK);
    world_end(&w);
}

TEST(pool_sizes, up_to_min_idle_it_grows_at_once) {
    world w;
    rm_lease a, b, c;
    world_init(&w, 4);
    w.desc.grow_after_ns = RM_MS(5);
    w.desc.min_idle = 2;
    REQUIRE(world_open(&w));
    take_both(&w, &a, &b);
    CHECK_EQ(RM_E_BUSY, take(&w, &c));
    give_both(&w, &a, &b);
    world_end(&w);
}

/* ---- maintain ---- */

TEST(pool_maintain, stops_after_its_budget_and_goes_on_there) {
    world w;
    rm_error error;
    uint32_t i;
    world_init(&w, 6);
    w.desc.idle_timeout_ns = RM_NONE;
    w.desc.validate_fn = thing_validate;
    w.desc.keepalive_ns = RM_SEC(1);
    REQUIRE(world_open(&w));
    fill(&w, 6);
    pass(&w, RM_SEC(1));
    for (i = 1; i <= 3; ++i) {
        CHECK_EQ(RM_OK, rm_pool_maintain(w.pool, 2, never, &error));
        CHECK_EQ(2 * i, w.validates); /* other ones each time: those are not due again */
    }
    CHECK_EQ(RM_OK, rm_pool_maintain(w.pool, 2, never, &error));
    CHECK_EQ(6, w.validates);
    for (i = 1; i <= 6; ++i) { /* also when all are due every time, each has its turn */
        pass(&w, RM_SEC(1));
        CHECK_EQ(RM_OK, rm_pool_maintain(w.pool, 1, never, &error));
    }
    pass(&w, RM_SEC(1) - 1); /* only the last one was checked less than 1 s ago */
    CHECK_EQ(12, w.validates);
    CHECK_EQ(RM_OK, rm_pool_maintain(w.pool, 0, never, &error));
    CHECK_EQ(17, w.validates);
    world_end(&w);
}

TEST(pool_maintain, counts_what_it_makes_and_ends_towards_its_budget) {
    world w;
    rm_error error;
    world_init(&w, 4);
    w.desc.min_idle = 3;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, rm_pool_maintain(w.pool, 2, never, &error));
    CHECK_EQ(2, w.created);
    CHECK_EQ(RM_OK, rm_pool_maintain(w.pool, 2, never, &error));
    CHECK_EQ(3, w.created);
    CHECK_EQ(RM_OK, resize(&w, 4, 0, 0, 0));
    pass(&w, RM_MINUTES(10));
    CHECK_EQ(RM_OK, rm_pool_maintain(w.pool, 2, never, &error));
    CHECK_EQ(2, w.destroyed);
    CHECK_EQ(RM_OK, rm_pool_maintain(w.pool, 2, never, &error));
    CHECK_EQ(3, w.destroyed);
    world_end(&w);
}

TEST(pool_maintain, checks_nothing_without_keepalive) {
    world w;
    world_init(&w, 1);
    w.desc.validate_fn = thing_validate;
    REQUIRE(world_open(&w));
    fill(&w, 1);
    pass(&w, RM_SEC(60));
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(0, w.validates);
    world_end(&w);
}

TEST(pool_maintain, clears_with_its_check_what_was_under_suspicion) {
    world w;
    world_init(&w, 2);
    w.desc.validate_fn = thing_validate;
    w.desc.keepalive_ns = RM_SEC(1);
    REQUIRE(world_open(&w));
    fill(&w, 2);
    release_one(&w, RM_RELEASE_BROKEN);
    pass(&w, RM_SEC(1));
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(1, w.validates);
    CHECK(borrow(&w) != 0);
    CHECK_EQ(1, w.validates); /* just now */
    world_end(&w);
}

static void evict_all_inside(world *w) {
    w->inside_all = NULL;
    CHECK_EQ(RM_OK, rm_pool_evict_all(w->pool));
}

static void suspend_inside(world *w) {
    w->inside_all = NULL;
    CHECK_EQ(RM_OK, rm_pool_suspend(w->pool));
}

TEST(pool_acquire, that_meets_a_suspension_tells_the_guard_of_the_endpoint) {
    watch seen;
    rm_pool_endpoint endpoint;
    rm_lease lease;
    world w;
    world_init(&w, 1);
    desc_guard_endpoint(&w.desc, &endpoint, &seen);
    w.inside_all = suspend_inside; /* while it is made */
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_E_BUSY, take(&w, &lease));
    CHECK_EQ(1, stats_of(&w).idle);
    CHECK_REPORTS(seen, 0, 0, 1);
    CHECK_EQ(1, seen.admitted);
    world_end(&w);
}

static void close_inside(world *w) {
    w->inside_all = NULL;
    CHECK_EQ(RM_E_BUSY, rm_pool_close(w->pool, RM_NOWAIT, NULL));
}

TEST(pool_acquire, does_not_lend_what_was_evicted_while_it_was_checked) {
    uint32_t i;
    for (i = 0; i < 2; ++i) { /* or the pool was closed */
        rm_lease lease;
        world w;
        world_init(&w, 1);
        w.desc.validate_fn = thing_validate;
        w.desc.validate_after_ns = RM_STRICT;
        REQUIRE(world_open(&w));
        fill(&w, 1);
        w.inside_all = i == 0 ? evict_all_inside : close_inside;
        CHECK_EQ(i == 0 ? RM_OK : RM_E_CLOSED, take(&w, &lease));
        CHECK_EQ(1, stats_of(&w).ended[i == 0 ? RM_POOL_CAUSE_EVICTED : RM_POOL_CAUSE_CLOSED]);
        CHECK_EQ(1, w.destroyed);
        if (i == 0) CHECK_EQ(2, number_of(&lease));
        if (i == 0) give(&w, &lease, RM_RELEASE_OK);
        world_end(&w);
    }
}

static void take_a_second(world *w) {
    pass(w, RM_SEC(1));
}

TEST(pool_maintain, stops_at_its_deadline) {
    world w;
    rm_error error;
    world_init(&w, 8);
    w.desc.min_idle = 8;
    w.inside = take_a_second;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, rm_pool_maintain(w.pool, 0, rm_deadline_after(&w.clock, RM_SEC(3)), &error));
    CHECK_EQ(3, w.created);
    CHECK_EQ(RM_OK, rm_pool_maintain(w.pool, 0, rm_deadline_after(&w.clock, RM_NOWAIT), &error));
    CHECK_EQ(3, w.created);
    world_end(&w);
}

TEST(pool_maintain, idle_timeout_stops_at_min_idle_and_makes_nothing_again) {
    world w;
    uint32_t i;
    world_init(&w, 5);
    w.desc.min_idle = 2;
    w.desc.idle_timeout_ns = RM_SEC(10);
    REQUIRE(world_open(&w));
    fill(&w, 5);
    pass(&w, RM_SEC(10) - 1);
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(5, stats_of(&w).idle);
    pass(&w, 1);
    for (i = 0; i < 10; ++i) {
        CHECK_EQ(RM_OK, maintain(&w));
        CHECK_EQ(2, stats_of(&w).idle);
        pass(&w, RM_SEC(10));
    }
    CHECK_EQ(3, ended(&w, RM_POOL_CAUSE_IDLE));
    CHECK_EQ(5, w.created); /* none was ended to be made again */
    world_end(&w);
}

TEST(pool_maintain, keepalive_reaches_cold_slots) {
    world w;
    uint32_t i;
    world_init(&w, 4);
    w.desc.idle_timeout_ns = RM_NONE;
    w.desc.validate_fn = thing_validate;
    w.desc.keepalive_ns = RM_SEC(2);
    REQUIRE(world_open(&w));
    fill(&w, 4);
    for (i = 0; i < 3; ++i) { /* the lowest slot is in use all the time */
        pass(&w, RM_SEC(1));
        CHECK_EQ(1, borrow(&w));
    }
    CHECK_EQ(3, w.validates); /* by borrow */
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(3 + 3, w.validates);
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(3 + 3, w.validates); /* not again so soon */
    pass(&w, RM_SEC(2));
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(3 + 3 + 4, w.validates);
    w.validate_status = RM_E_FAILED;
    pass(&w, RM_SEC(2));
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(4, ended(&w, RM_POOL_CAUSE_INVALID));
    CHECK_EQ(0, stats_of(&w).idle);
    world_end(&w);
}

TEST(pool_maintain, keepalive_does_not_postpone_the_idle_timeout) {
    world w;
    uint32_t i;
    world_init(&w, 1);
    w.desc.idle_timeout_ns = RM_SEC(5);
    w.desc.validate_fn = thing_validate;
    w.desc.keepalive_ns = RM_SEC(1);
    REQUIRE(world_open(&w));
    fill(&w, 1);
    for (i = 1; i <= 4; ++i) {
        pass(&w, RM_SEC(1));
        CHECK_EQ(RM_OK, maintain(&w));
        CHECK_EQ(i, w.validates);
    }
    pass(&w, RM_SEC(1));
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(1, ended(&w, RM_POOL_CAUSE_IDLE));
    world_end(&w);
}

TEST(pool_maintain, says_that_another_finds_out_whether_creates_go_well) {
    world w;
    caller c;
    gate g;
    rm_lease lease;
    rm_error error;
    world_init(&w, 4);
    w.desc.min_idle = 2;
    REQUIRE(world_open(&w));
    w.create_status = RM_E_REFUSED;
    CHECK_EQ(RM_E_REFUSED, take(&w, &lease));
    w.create_status = RM_OK;
    pass(&w, RM_MINUTES(1));
    caller_at_gate(&c, &w, &w.next_create, &g);
    CHECK_EQ(RM_E_REFUSED, rm_pool_maintain(w.pool, 0, never, &error));
    CHECK_STR("nobody listens (60000 ms ago; another call tries now whether it is well again)",
              error.message);
    gate_open(&g);
    CHECK_EQ(RM_OK, caller_join(&c));
    gate_done(&g);
    give(&w, &c.lease, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(2, stats_of(&w).idle);
    world_end(&w);
}

TEST(pool_maintain, a_thread_of_the_pool_does_it) {
    world w;
    world_init(&w, 4);
    w.desc.min_idle = 1;
    w.desc.maintain_every_ns = RM_SEC(1);
    REQUIRE(world_open(&w));
    rm_virtual_clock_await(&w.time, 1);
    CHECK_EQ(0, GET(w.creates)); /* not before it is time */
    pass(&w, RM_SEC(1));
    rm_virtual_clock_await(&w.time, 1); /* it sleeps again */
    CHECK_EQ(1, stats_of(&w).idle);
    fill(&w, 4);
    pass(&w, RM_MINUTES(10));
    rm_virtual_clock_await(&w.time, 1);
    CHECK_EQ(1, stats_of(&w).idle);
    CHECK_EQ(3, ended(&w, RM_POOL_CAUSE_IDLE));
    world_end(&w); /* which joins it */
}

TEST(pool_maintain, its_thread_survives_failures_and_a_close) {
    world w;
    world_init(&w, 4);
    w.desc.min_idle = 1;
    w.desc.maintain_every_ns = RM_SEC(1);
    w.create_status = RM_E_REFUSED;
    REQUIRE(world_open(&w));
    rm_virtual_clock_await(&w.time, 1);
    pass(&w, RM_SEC(1));
    rm_virtual_clock_await(&w.time, 1);
    CHECK_EQ(1, GET(w.creates));
    SET(w.create_status, RM_OK);
    pass(&w, RM_SEC(1));
    rm_virtual_clock_await(&w.time, 1);
    CHECK_EQ(1, stats_of(&w).idle);
    CHECK_EQ(RM_OK, rm_pool_close(w.pool, RM_NOWAIT, NULL));
    pass(&w, RM_SEC(1));
    rm_virtual_clock_await(&w.time, 1);
    CHECK_EQ(0, stats_of(&w).idle);
    world_end(&w);
}

/* ---- ages ---- */

TEST(pool_age, the_old_are_ended_on_acquire) {
    world w;
    world_init(&w, 1);
    w.desc.max_lifetime_ns = RM_MINUTES(1);
    REQUIRE(world_open(&w));
    CHECK_EQ(1, borrow(&w));
    pass(&w, RM_MINUTES(1) - 1);
    CHECK_EQ(1, borrow(&w));
    pass(&w, 1);
    CHECK_EQ(2, borrow(&w)); /* replaced in place */
    CHECK_EQ(1, ended(&w, RM_POOL_CAUSE_LIFETIME));
    world_end(&w);
}

TEST(pool_age, the_old_are_ended_on_release) {
    world w;
    rm_lease lease;
    world_init(&w, 1);
    w.desc.max_lifetime_ns = RM_MINUTES(1);
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease));
    pass(&w, RM_MINUTES(1));
    CHECK_EQ(RM_OK, maintain(&w)); /* not while it is lent */
    CHECK_EQ(0, w.destroyed);
    give(&w, &lease, RM_RELEASE_OK);
    CHECK_EQ(1, ended(&w, RM_POOL_CAUSE_LIFETIME));
    CHECK_EQ(0, stats_of(&w).idle);
    world_end(&w);
}

TEST(pool_age, the_old_are_ended_by_maintain) {
    world w;
    world_init(&w, 2);
    w.desc.max_lifetime_ns = RM_MINUTES(1);
    w.desc.idle_timeout_ns = RM_NONE;
    w.desc.min_idle = 1;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, maintain(&w));
    pass(&w, RM_MINUTES(1) - 1);
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(0, w.destroyed);
    pass(&w, 1);
    CHECK_EQ(RM_OK, maintain(&w)); /* below min_idle too, and makes a new one */
    CHECK_EQ(1, ended(&w, RM_POOL_CAUSE_LIFETIME));
    CHECK_EQ(1, stats_of(&w).idle);
    CHECK_EQ(2, w.created);
    world_end(&w);
}

/* A hundred things that end by their age only. */
static void world_init_to_age(world *w) {
    world_init(w, 100);
    w->desc.max_lifetime_ns = RM_MINUTES(30);
    w->desc.idle_timeout_ns = RM_NONE;
}

/* The ages in percent of a lifetime at which the things of a pool end, of all that were made
   together; leased once a step if `used`. */
static void ages(world *w, bool used, uint32_t at[101]) {
    const int64_t slice = w->desc.max_lifetime_ns / 100;
    uint32_t i, before = 0;
    memset(at, 0, 101 * sizeof *at);
    CHECK_EQ(RM_OK, rm_pool_prewarm(w->pool, w->desc.max, never, NULL, NULL));
    SET(w->create_status, RM_E_REFUSED); /* no others */
    for (i = 1; i <= 100; ++i) {
        rm_lease leases[100];
        uint32_t n = 0;
        pass(w, slice);
        CHECK_EQ(RM_OK, maintain(w));
        at[i] = w->destroyed - before;
        before = w->destroyed;
        while (used && n < 100 && take(w, &leases[n]) == RM_OK)
            ++n;
        while (n > 0)
            give(w, &leases[--n], RM_RELEASE_OK);
    }
    CHECK_EQ(w->created, before);
}

TEST(pool_age, what_was_born_together_does_not_end_together) {
    static const uint64_t lucks[] = {0, UINT64_C(1) << 63, UINT64_MAX,
                                     UINT64_C(0x123456789ABCDEF0)};
    size_t i;
    for (i = 0; i < sizeof lucks / sizeof *lucks; ++i) {
        world w;
        uint32_t at[101], slice;
        world_init_to_age(&w);
        w.luck = lucks[i];
        REQUIRE(world_open(&w));
        ages(&w, false, at);
        for (slice = 0; slice <= 100; ++slice) {
            CHECK(at[slice] <= 5);
            if (slice < 75) CHECK_EQ(0, at[slice]); /* 25 % shorter at most */
        }
        world_end(&w);
    }
}

TEST(pool_age, a_lifetime_is_drawn_once) {
    world w;
    uint32_t unused[101], used[101];
    world_init_to_age(&w);
    REQUIRE(world_open(&w));
    ages(&w, false, unused);
    world_end(&w);
    world_init_to_age(&w);
    w.desc.reset_fn = thing_reset; /* a release has something to do */
    REQUIRE(world_open(&w));
    ages(&w, true, used);
    CHECK(memcmp(unused, used, sizeof used) == 0);
    world_end(&w);
}

static void takes_5_s(world *w) {
    pass(w, RM_SEC(5));
}

TEST(pool_age, the_time_to_end_the_old_is_of_the_acquire) {
    world w;
    rm_lease lease;
    int64_t began;
    world_init(&w, 1);
    w.desc.max_lifetime_ns = RM_SEC(60);
    REQUIRE(world_open(&w));
    CHECK_EQ(1, borrow(&w));
    pass(&w, RM_SEC(60));
    began = rm_now(&w.clock);
    w.inside_all = takes_5_s; /* destroy_fn, then create_fn */
    CHECK_EQ(RM_OK, take_for(&w, RM_SEC(8), &lease));
    CHECK_EQ(2, number_of(&lease));
    CHECK_EQ(began + RM_SEC(8), w.deadline.at_ns);
    give(&w, &lease, RM_RELEASE_OK);
    world_end(&w);
}

TEST(pool_age, jitter_can_be_none_or_all) {
    world w;
    uint32_t at[101], slice, first = 0;
    world_init_to_age(&w);
    w.desc.lifetime_jitter = (int32_t)RM_NONE;
    REQUIRE(world_open(&w));
    ages(&w, false, at);
    CHECK_EQ(100, at[100]);
    world_end(&w);
    world_init_to_age(&w);
    w.desc.lifetime_jitter = 100;
    REQUIRE(world_open(&w));
    ages(&w, false, at);
    for (slice = 1; slice <= 50; ++slice)
        first += at[slice];
    CHECK(first >= 48 && first <= 52);
    world_end(&w);
}

/* ---- checks ---- */

TEST(pool_check, runs_after_a_time_without_use) {
    world w;
    world_init(&w, 1);
    w.desc.validate_fn = thing_validate;
    w.desc.validate_after_ns = RM_MS(20);
    REQUIRE(world_open(&w));
    CHECK_EQ(1, borrow(&w)); /* just made */
    pass(&w, RM_MS(20) - 1);
    CHECK_EQ(1, borrow(&w));
    CHECK_EQ(0, w.validates);
    pass(&w, RM_MS(20));
    CHECK_EQ(1, borrow(&w));
    CHECK_EQ(1, w.validates);
    w.validate_status = RM_E_FAILED;
    pass(&w, RM_MS(20));
    CHECK_EQ(2, borrow(&w));
    CHECK_EQ(1, ended(&w, RM_POOL_CAUSE_INVALID));
    world_end(&w);
}

TEST(pool_check, runs_every_time_or_only_after_failures) {
    world w;
    world_init(&w, 1);
    w.desc.validate_fn = thing_validate;
    w.desc.validate_after_ns = RM_STRICT;
    REQUIRE(world_open(&w));
    fill(&w, 1);
    CHECK_EQ(1, borrow(&w));
    CHECK_EQ(1, borrow(&w));
    CHECK_EQ(2, w.validates);
    world_end(&w);
    world_init(&w, 2);
    w.desc.validate_fn = thing_validate;
    w.desc.validate_after_ns = RM_NONE;
    REQUIRE(world_open(&w));
    fill(&w, 2);
    pass(&w, RM_MINUTES(100));
    fill(&w, 2);
    CHECK_EQ(0, w.validates);
    release_one(&w, RM_RELEASE_BROKEN);
    CHECK(borrow(&w) != 0);
    CHECK_EQ(1, w.validates);
    world_end(&w);
}

TEST(pool_check, runs_on_release_when_asked_to) {
    world w;
    rm_lease lease;
    world_init(&w, 1);
    w.desc.validate_fn = thing_validate;
    w.desc.reset_fn = thing_reset;
    w.desc.validate_on_release = true;
    REQUIRE(world_open(&w));
    CHECK_EQ(1, borrow(&w));
    CHECK_EQ(1, w.validates);
    CHECK_EQ(1, w.resets);
    CHECK_EQ(RM_OK, take(&w, &lease));
    thing_of(&lease)->dirty = true;
    give(&w, &lease, RM_RELEASE_OK); /* what cannot be reset is not even checked */
    CHECK_EQ(1, w.validates);
    CHECK_EQ(1, ended(&w, RM_POOL_CAUSE_RESET));
    CHECK_EQ(RM_OK, take(&w, &lease));
    thing_of(&lease)->sick = true;
    give(&w, &lease, RM_RELEASE_OK);
    CHECK_EQ(1, ended(&w, RM_POOL_CAUSE_INVALID));
    CHECK_EQ(0, stats_of(&w).idle);
    release_one(&w, RM_RELEASE_BROKEN); /* nor is what is broken */
    CHECK_EQ(2, w.validates);
    CHECK_EQ(3, w.resets);
    world_end(&w);
}

TEST(pool_check, no_reset_for_what_will_not_be_lent_again) {
    world w;
    rm_lease lease;
    world_init(&w, 1);
    w.desc.reset_fn = thing_reset;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK_EQ(RM_OK, rm_pool_evict_all(w.pool));
    give(&w, &lease, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK_EQ(RM_E_BUSY, rm_pool_close(w.pool, RM_NOWAIT, NULL));
    give(&w, &lease, RM_RELEASE_OK);
    CHECK_EQ(0, w.resets);
    world_end(&w);
}

/* How a resource turns out to be bad. */
static void breaks(world *w) {
    release_one(w, RM_RELEASE_BROKEN);
}

static void fails_its_reset(world *w) {
    rm_lease lease;
    CHECK_EQ(RM_OK, take(w, &lease));
    thing_of(&lease)->dirty = true;
    give(w, &lease, RM_RELEASE_OK);
}

static void fails_its_check_on_release(world *w) {
    rm_lease lease;
    CHECK_EQ(RM_OK, take(w, &lease));
    thing_of(&lease)->sick = true;
    give(w, &lease, RM_RELEASE_OK);
}

TEST(pool_check, after_one_failure_all_are_checked_once_however_fresh) {
    static void (*const failures[])(world *) = {breaks, fails_its_reset,
                                                fails_its_check_on_release};
    size_t i;
    for (i = 0; i < sizeof failures / sizeof *failures; ++i) {
        world w;
        rm_lease out;
        uint32_t before;
        world_init(&w, 4);
        w.desc.validate_fn = thing_validate;
        w.desc.reset_fn = thing_reset;
        w.desc.validate_on_release = failures[i] == fails_its_check_on_release;
        REQUIRE(world_open(&w));
        fill(&w, 4);
        CHECK_EQ(RM_OK, take(&w, &out)); /* one is lent meanwhile */
        failures[i](&w);
        CHECK_EQ(1, w.destroyed);
        give(&w, &out, RM_RELEASE_OK);
        before = w.validates;
        w.desc.validate_on_release = false;
        {
            rm_lease leases[4];
            uint32_t at;
            take_many(&w, leases, 4);
            /* the two that were idle, and the one that was lent unless its release checked it; not
               the one that was made since */
            CHECK_EQ(failures[i] == fails_its_check_on_release ? 2 : 3, w.validates - before);
            for (at = 0; at < 4; ++at)
                detach(&w, &leases[at]);
        }
        world_end(&w);
    }
}

TEST(pool_check, once_only) {
    world w;
    uint32_t i;
    world_init(&w, 3);
    w.desc.validate_fn = thing_validate;
    REQUIRE(world_open(&w));
    fill(&w, 3);
    breaks(&w);
    for (i = 0; i < 3; ++i)
        fill(&w, 3); /* two old ones and a new one */
    CHECK_EQ(2, w.validates);
    CHECK_EQ(4, w.created);
    world_end(&w);
}

TEST(pool_check, a_failed_check_raises_doubt_too) {
    world w;
    rm_lease a, b, c;
    world_init(&w, 3);
    w.desc.validate_fn = thing_validate;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &a));
    CHECK_EQ(RM_OK, take(&w, &b));
    CHECK_EQ(RM_OK, take(&w, &c));
    thing_of(&a)->sick = true;
    thing_of(&c)->sick = true;
    give(&w, &a, RM_RELEASE_OK);
    pass(&w, RM_SEC(1));
    give(&w, &b, RM_RELEASE_OK); /* both are fresh */
    give(&w, &c, RM_RELEASE_OK);
    pass(&w, RM_MS(20)); /* the thread looks from the lowest slot on */
    CHECK_EQ(RM_OK, take(&w, &a));
    CHECK_EQ(4, number_of(&a)); /* 1 failed its check */
    CHECK_EQ(RM_OK, take(&w, &b));
    CHECK_EQ(2, number_of(&b)); /* checked, though fresh */
    CHECK_EQ(RM_OK, take(&w, &c));
    CHECK_EQ(5, number_of(&c)); /* checked, and it failed */
    CHECK_EQ(3, w.validates);
    give(&w, &a, RM_RELEASE_OK);
    give(&w, &b, RM_RELEASE_OK);
    give(&w, &c, RM_RELEASE_OK);
    world_end(&w);
}

TEST(pool_check, what_was_being_made_when_another_failed_is_of_that_age) {
    world w;
    gate g;
    caller a;
    rm_lease lease;
    world_init(&w, 2);
    w.desc.validate_fn = thing_validate;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease));
    caller_at_gate(&a, &w, &w.at_create, &g);
    give(&w, &lease, RM_RELEASE_BROKEN);
    gate_open(&g);
    CHECK_EQ(RM_OK, caller_join(&a));
    CHECK_EQ(0, w.validates);
    give(&w, &a.lease, RM_RELEASE_OK);
    CHECK_EQ(2, borrow(&w));
    CHECK_EQ(1, w.validates);
    gate_done(&g);
    world_end(&w);
}

TEST(pool_check, a_failed_operation_raises_no_doubt) {
    world w;
    world_init(&w, 2);
    w.desc.validate_fn = thing_validate;
    REQUIRE(world_open(&w));
    fill(&w, 2);
    release_one(&w, RM_RELEASE_FAILED);
    fill(&w, 2);
    CHECK_EQ(0, w.validates);
    CHECK_EQ(2, w.created);
    world_end(&w);
}

/* ---- failing creates ---- */

/* A pool whose creates fail, with this backoff, at most `cap`. */
static bool failing(world *w, uint32_t max, int64_t backoff, int64_t cap) {
    world_init(w, max);
    w->desc.create_backoff_ns = backoff;
    w->desc.create_backoff_max_ns = cap;
    w->create_status = RM_E_REFUSED;
    return world_open(w);
}

/* That a create is tried after exactly ns. */
static void check_retry(world *w, int64_t ns) {
    const uint32_t creates = w->creates;
    rm_lease lease;
    pass(w, ns - 1);
    CHECK_EQ(RM_E_REFUSED, take(w, &lease));
    CHECK_EQ(creates, w->creates);
    pass(w, 1);
    CHECK_EQ(RM_E_REFUSED, take(w, &lease));
    CHECK_EQ(creates + 1, w->creates);
}

TEST(pool_backoff, doubles_up_to_its_cap) {
    world w;
    rm_lease lease;
    REQUIRE(failing(&w, 4, RM_MS(10), RM_MS(70)));
    CHECK_EQ(RM_E_REFUSED, take(&w, &lease));
    check_retry(&w, RM_MS(10));
    check_retry(&w, RM_MS(20));
    check_retry(&w, RM_MS(40));
    check_retry(&w, RM_MS(70));
    check_retry(&w, RM_MS(70));
    w.create_status = RM_OK;
    pass(&w, RM_MS(70));
    CHECK_EQ(1, borrow(&w));
    w.create_status = RM_E_REFUSED; /* it begins anew after a success */
    CHECK_EQ(RM_OK, rm_pool_evict_all(w.pool));
    CHECK_EQ(RM_E_REFUSED, take(&w, &lease));
    check_retry(&w, RM_MS(10));
    check_retry(&w, RM_MS(20));
    world_end(&w);
}

TEST(pool_backoff, has_defaults) {
    world w;
    rm_lease lease;
    uint32_t i;
    REQUIRE(failing(&w, 4, 0, 0));
    CHECK_EQ(RM_E_REFUSED, take(&w, &lease));
    for (i = 0; i < 9; ++i)
        check_retry(&w, RM_MS(10) << i);
    check_retry(&w, RM_SEC(5));
    check_retry(&w, RM_SEC(5));
    world_end(&w);
}

TEST(pool_backoff, is_shorter_by_up_to_half_at_random) {
    world w;
    rm_lease lease;
    REQUIRE(failing(&w, 4, RM_MS(10), RM_MS(40)));
    w.luck = UINT64_MAX;
    CHECK_EQ(RM_E_REFUSED, take(&w, &lease));
    check_retry(&w, RM_MS(5));
    check_retry(&w, RM_MS(10));
    check_retry(&w, RM_MS(20));
    w.luck = UINT64_C(1) << 63;
    check_retry(&w, RM_MS(20)); /* of the draw before */
    check_retry(&w, RM_MS(30));
    world_end(&w);
}

TEST(pool_backoff, gives_the_last_error_with_its_age_at_once) {
    world w;
    rm_lease lease;
    rm_error error;
    REQUIRE(failing(&w, 4, RM_MS(100), RM_SEC(1)));
    CHECK_EQ(RM_E_REFUSED, rm_pool_acquire(w.pool, RM_FOREVER, &lease, &error));
    CHECK_STR("nobody listens", error.message);
    pass(&w, RM_MS(42));
    CHECK_EQ(RM_E_REFUSED, rm_pool_acquire(w.pool, RM_FOREVER, &lease, &error));
    CHECK(strstr(error.message, "nobody listens (42 ms ago") == error.message);
    CHECK_STR("server", error.where);
    CHECK_EQ(111, error.native);
    CHECK_EQ(1, stats_of(&w).failed_fast);
    CHECK_EQ(1, stats_of(&w).create_failures);
    CHECK_EQ(1, w.creates);
    CHECK_EQ(RM_E_REFUSED, rm_pool_acquire(w.pool, RM_FOREVER, &lease, NULL));
    CHECK_EQ(2, stats_of(&w).failed_fast);
    world_end(&w);
}

TEST(pool_backoff, lets_one_call_at_a_time_find_out) {
    world w;
    gate g;
    caller a, b;
    rm_lease lease;
    REQUIRE(failing(&w, 4, RM_MS(10), RM_SEC(1)));
    CHECK_EQ(RM_E_REFUSED, take(&w, &lease));
    pass(&w, RM_MS(10));
    SET(w.create_status, RM_OK);
    caller_at_gate(&a, &w, &w.at_create, &g);
    caller_queue(&b, &w, RM_FOREVER, 1); /* waits for what comes out */
    CHECK_EQ(RM_E_BUSY, take(&w, &lease));
    CHECK_EQ(2, GET(w.creates));
    gate_open(&g);
    CHECK_EQ(RM_OK, caller_join(&a));
    CHECK_EQ(RM_OK, caller_join(&b)); /* well again: all may create */
    CHECK_EQ(3, w.creates);
    give_both(&w, &a.lease, &b.lease);
    gate_done(&g);
    world_end(&w);
}

TEST(pool_backoff, tells_those_who_wait_for_one_that_fails_again) {
    world w;
    gate g;
    caller a, b;
    rm_lease lease;
    REQUIRE(failing(&w, 4, RM_MS(10), RM_SEC(1)));
    CHECK_EQ(RM_E_REFUSED, take(&w, &lease));
    pass(&w, RM_MS(10));
    caller_at_gate(&a, &w, &w.at_create, &g);
    caller_queue(&b, &w, RM_FOREVER, 1);
    gate_open(&g);
    CHECK_EQ(RM_E_REFUSED, caller_join(&a));
    CHECK_EQ(RM_E_REFUSED, caller_join(&b)); /* without a try of its own */
    CHECK_EQ(2, w.creates);
    CHECK_EQ(1, stats_of(&w).failed_fast);
    gate_done(&g);
    world_end(&w);
}

TEST(pool_backoff, a_burst_that_fails_together_is_one_failure) {
    world w;
    gate g;
    caller callers[6];
    uint32_t i;
    REQUIRE(failing(&w, 6, RM_MS(10), RM_SEC(5)));
    gate_init(&g);
    SET(w.at_create, &g);
    for (i = 0; i < 6; ++i)
        caller_start(&callers[i], &w, RM_FOREVER);
    gate_await(&g, 6);
    gate_open(&g);
    for (i = 0; i < 6; ++i)
        CHECK_EQ(RM_E_REFUSED, caller_join(&callers[i]));
    CHECK_EQ(6, stats_of(&w).create_failures);
    SET(w.at_create, NULL);
    check_retry(&w, RM_MS(10));
    check_retry(&w, RM_MS(20));
    gate_done(&g);
    world_end(&w);
}

TEST(pool_backoff, those_who_wait_try_again_by_themselves) {
    world w;
    caller a, b;
    rm_lease lease, other;
    REQUIRE(failing(&w, 2, RM_MS(10), RM_SEC(1)));
    w.create_status = RM_OK;
    CHECK_EQ(RM_OK, take(&w, &lease));
    SET(w.create_status, RM_E_REFUSED);
    CHECK_EQ(RM_E_REFUSED, take(&w, &other));
    CHECK_EQ(RM_E_BUSY, take(&w, &other)); /* there is one that may come back */
    caller_queue(&a, &w, RM_FOREVER, 1);
    caller_queue(&b, &w, RM_MS(500), 2);
    pass(&w, RM_MS(10));
    CHECK_EQ(RM_E_REFUSED, caller_join(&a)); /* its own try failed */
    CHECK_EQ(3, GET(w.creates));
    rm_virtual_clock_await(&w.time, 1);
    SET(w.create_status, RM_OK);
    pass(&w, RM_MS(20) - 1);
    CHECK_EQ(3, GET(w.creates));
    pass(&w, 1);
    CHECK_EQ(RM_OK, caller_join(&b));
    CHECK_EQ(4, w.creates);
    give_both(&w, &b.lease, &lease);
    world_end(&w);
}

TEST(pool_backoff, those_who_wait_for_a_lease_still_get_it) {
    world w;
    caller a, b;
    rm_lease lease, other;
    REQUIRE(failing(&w, 2, RM_SEC(5), RM_SEC(5)));
    w.create_status = RM_OK;
    CHECK_EQ(RM_OK, take(&w, &lease));
    SET(w.create_status, RM_E_REFUSED);
    CHECK_EQ(RM_E_REFUSED, take(&w, &other));
    caller_queue(&a, &w, RM_SEC(1), 1);
    give(&w, &lease, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, caller_join(&a));
    caller_queue(&b, &w, RM_SEC(1), 1); /* or a timeout that says why, before the next try */
    pass(&w, RM_SEC(1));
    CHECK_EQ(RM_E_TIMEOUT, caller_join(&b));
    CHECK(strstr(b.error.message, "1000 ms ago: nobody listens") != NULL);
    CHECK_EQ(2, w.creates);
    give(&w, &a.lease, RM_RELEASE_OK);
    world_end(&w);
}

TEST(pool_backoff, can_be_switched_off) {
    world w;
    rm_lease lease;
    uint32_t i;
    REQUIRE(failing(&w, 4, RM_NONE, 0));
    for (i = 1; i <= 5; ++i) {
        CHECK_EQ(RM_E_REFUSED, take(&w, &lease));
        CHECK_EQ(i, w.creates);
    }
    CHECK_EQ(0, stats_of(&w).failed_fast);
    world_end(&w);
}

TEST(pool_backoff, knows_clocks_below_zero) {
    static const int64_t backoffs[] = {RM_MS(10), RM_NONE};
    size_t i;
    for (i = 0; i < 2; ++i) {
        world w;
        rm_lease lease;
        world_init(&w, 4);
        rm_virtual_clock_destroy(&w.time);
        CHECK_EQ(RM_OK, rm_virtual_clock_init(&w.time, -RM_SEC(1000), false));
        w.desc.create_backoff_ns = backoffs[i];
        w.create_status = RM_E_REFUSED;
        REQUIRE(world_open(&w));
        CHECK_EQ(RM_E_REFUSED, take(&w, &lease));
        w.create_status = RM_OK;
        if (backoffs[i] != RM_NONE) {
            CHECK_EQ(0, borrow(&w));
            CHECK_EQ(1, stats_of(&w).failed_fast);
            pass(&w, backoffs[i]);
        }
        CHECK_EQ(1, borrow(&w));
        world_end(&w);
    }
}

TEST(pool_backoff, keeps_maintain_from_storming) {
    world w;
    rm_error error;
    world_init(&w, 4);
    w.desc.min_idle = 3;
    w.create_status = RM_E_REFUSED;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_E_REFUSED, maintain(&w));
    CHECK_EQ(1, w.creates); /* not three */
    CHECK_EQ(RM_E_REFUSED, rm_pool_maintain(w.pool, 0, never, &error));
    CHECK(strstr(error.message, "nobody listens (0 ms ago") == error.message);
    CHECK_EQ(1, w.creates);
    w.create_status = RM_OK;
    pass(&w, RM_MS(10));
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(3, stats_of(&w).idle);
    world_end(&w);
}

/* ---- who waits while a destroy_fn hangs ---- */

/* Somebody who is told when there is something, or when there will not be. */
typedef struct asker {
    rm_pool_request request;
    rm_lease lease;
    rm_status status;
    bool told;
} asker;

static void asker_told(rm_status status, const rm_lease *lease, const rm_error *error, void *user) {
    asker *a = (asker *)user;
    (void)error;
    a->told = true;
    a->status = status;
    if (lease != NULL) a->lease = *lease;
}

static void ask(asker *a, world *w) {
    memset(a, 0, sizeof *a);
    CHECK_EQ(RM_OK, rm_pool_acquire_async(w->pool, &a->request, never, NULL, asker_told, NULL, a));
}

/* Somebody waits, and the only resource is given back broken: its destroy_fn hangs. */
static void hang_beside(asker *a, world *w, rm_lease *lease, job *j, gate *g) {
    ask(a, w);
    CHECK(!a->told);
    gate_init(g);
    SET(w->next_destroy, g);
    job_start_release(j, w, lease, RM_RELEASE_BROKEN);
    gate_await(g, 1);
}

static void hang_no_more(job *j, gate *g) {
    gate_open(g);
    (void)job_join(j);
    gate_done(g);
}

TEST(pool_hang, lets_who_waits_to_grow_have_the_first_at_once) {
    rm_lease lease;
    asker a;
    gate g;
    job j;
    world w;
    world_init(&w, 2);
    w.desc.grow_after_ns = RM_MINUTES(60);
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease));
    hang_beside(&a, &w, &lease, &j, &g);
    CHECK(a.told);
    CHECK_EQ(0, GET(w.destroyed));
    hang_no_more(&j, &g);
    CHECK_EQ(RM_OK, a.status);
    CHECK_EQ(2, number_of(&a.lease));
    give(&w, &a.lease, RM_RELEASE_OK);
    world_end(&w);
}

TEST(pool_hang, tells_who_waits_that_none_will_come_back) {
    rm_lease lease, other;
    asker a;
    gate g;
    job j;
    world w;
    REQUIRE(world_begin(&w, 2));
    CHECK_EQ(RM_OK, take(&w, &lease));
    SET(w.create_status, RM_E_REFUSED);
    CHECK_EQ(RM_E_REFUSED, take(&w, &other)); /* it backs off */
    hang_beside(&a, &w, &lease, &j, &g);
    CHECK(a.told);
    CHECK_EQ(RM_E_REFUSED, take(&w, &other)); /* as one that comes now is */
    CHECK_EQ(0, GET(w.destroyed));
    hang_no_more(&j, &g);
    CHECK_EQ(RM_E_REFUSED, a.status);
    CHECK_EQ(2, w.creates);
    world_end(&w);
}

/* ---- health ---- */

static rm_health health_of(world *w, rm_error *reason) {
    const rm_resource resource = rm_pool_resource(w->pool);
    memset(reason, 0, sizeof *reason);
    return resource.health_fn(resource.user, reason);
}

TEST(pool_health, is_degraded_for_a_minute_after_a_failed_create_that_hurts_nobody) {
    rm_lease lease, more;
    rm_error reason;
    world w;
    REQUIRE(world_begin(&w, 2));
    CHECK_EQ(RM_OK, take(&w, &lease));
    w.create_status = RM_E_REFUSED;
    CHECK_EQ(RM_E_REFUSED, take(&w, &more));
    CHECK_EQ(RM_HEALTH_DEGRADED, health_of(&w, &reason));
    CHECK_STR("nobody listens", reason.message);
    pass(&w, RM_MINUTES(1) - 1);
    CHECK_EQ(RM_HEALTH_DEGRADED, health_of(&w, &reason));
    pass(&w, 1);
    CHECK_EQ(RM_HEALTH_HEALTHY, health_of(&w, &reason));
    CHECK_EQ(RM_OK, reason.status);
    CHECK_EQ(RM_E_REFUSED, take(&w, &more)); /* another failure begins another minute */
    CHECK_EQ(RM_HEALTH_DEGRADED, health_of(&w, &reason));
    pass(&w, RM_MINUTES(1));
    CHECK_EQ(RM_HEALTH_HEALTHY, health_of(&w, &reason));
    give(&w, &lease, RM_RELEASE_OK);
    CHECK_EQ(RM_HEALTH_HEALTHY, health_of(&w, &reason)); /* something is idle */
    CHECK_EQ(RM_OK, rm_pool_evict_all(w.pool));
    CHECK_EQ(RM_HEALTH_DEGRADED, health_of(&w, &reason)); /* nothing is left */
    CHECK_EQ(RM_E_REFUSED, reason.status);
    pass(&w, RM_MINUTES(60));
    CHECK_EQ(RM_HEALTH_DEGRADED, health_of(&w, &reason));
    w.create_status = RM_OK;
    CHECK(borrow(&w) != 0);
    CHECK_EQ(RM_HEALTH_HEALTHY, health_of(&w, &reason));
    world_end(&w);
}

TEST(pool_health, is_degraded_by_a_failed_create_as_long_as_somebody_waits) {
    rm_lease lease, more;
    rm_error reason;
    caller a;
    world w;
    world_init(&w, 2);
    w.desc.create_backoff_ns = w.desc.create_backoff_max_ns = RM_MINUTES(60);
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease));
    w.create_status = RM_E_REFUSED;
    CHECK_EQ(RM_E_REFUSED, take(&w, &more));
    caller_queue(&a, &w, RM_FOREVER, 1);
    pass(&w, RM_MINUTES(2));
    CHECK_EQ(RM_HEALTH_DEGRADED, health_of(&w, &reason));
    CHECK_EQ(RM_E_REFUSED, reason.status); /* that is why it waits */
    give(&w, &lease, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, caller_join(&a));
    CHECK_EQ(RM_HEALTH_HEALTHY, health_of(&w, &reason));
    give(&w, &a.lease, RM_RELEASE_OK);
    world_end(&w);
}

/* ---- prewarm ---- */

typedef struct warming {
    world *w;
    uint32_t count, made;
    rm_deadline deadline;
    rm_error error;
    rm_status status;
    rm_thread thread;
} warming;

static void warming_run(void *user) {
    warming *m = (warming *)user;
    m->status = rm_pool_prewarm(m->w->pool, m->count, m->deadline, &m->made, &m->error);
}

static void warming_start(warming *m, world *w, uint32_t count) {
    memset(m, 0, sizeof *m);
    m->w = w;
    m->count = count;
    CHECK_EQ(RM_OK, rm_thread_start(&m->thread, warming_run, m));
}

TEST(pool_prewarm, makes_all_at_once) {
    world w;
    gate g;
    warming m;
    REQUIRE(world_begin(&w, 20));
    gate_init(&g);
    w.at_create = &g;
    warming_start(&m, &w, 20);
    gate_await(&g, 16); /* as many threads as it takes at most */
    CHECK_EQ(16, GET(w.creates));
    CHECK_EQ(16, stats_of(&w).creating);
    gate_open(&g);
    rm_thread_join(&m.thread);
    CHECK_EQ(RM_OK, m.status);
    CHECK_EQ(20, m.made);
    CHECK_EQ(20, stats_of(&w).idle);
    gate_done(&g);
    world_end(&w);
}

TEST(pool_prewarm, keeps_to_max_creating) {
    world w;
    uint32_t made = 0;
    world_init(&w, 8);
    w.desc.max_creating = 1;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, rm_pool_prewarm(w.pool, 8, never, &made, NULL));
    CHECK_EQ(8, made);
    world_end(&w);
}

TEST(pool_prewarm, makes_what_is_missing_within_max) {
    world w;
    rm_lease lease;
    rm_error error;
    uint32_t made = 7;
    world_init(&w, 4);
    w.desc.overflow = 2;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, rm_pool_prewarm(w.pool, 0, never, &made, NULL));
    CHECK_EQ(0, made);
    CHECK_EQ(RM_OK, rm_pool_prewarm(w.pool, 2, never, &made, NULL));
    CHECK_EQ(2, made);
    CHECK_EQ(RM_OK, rm_pool_prewarm(w.pool, 2, never, &made, NULL));
    CHECK_EQ(0, made);
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK_EQ(RM_OK, rm_pool_prewarm(w.pool, 2, never, &made, NULL)); /* idle ones */
    CHECK_EQ(1, made);
    CHECK_EQ(RM_OK, rm_pool_prewarm(w.pool, 100, never, NULL, NULL));
    CHECK_EQ(3, stats_of(&w).idle); /* 4 in all: overflow is for acquires */
    give(&w, &lease, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, rm_pool_close(w.pool, RM_NOWAIT, NULL));
    CHECK_EQ(RM_E_CLOSED, rm_pool_prewarm(w.pool, 1, never, &made, &error));
    CHECK_EQ(RM_E_CLOSED, error.status);
    CHECK_EQ(RM_E_INVALID, rm_pool_prewarm(NULL, 1, never, &made, &error));
    CHECK_EQ(0, made);
    world_end(&w);
}

TEST(pool_prewarm, stops_at_its_deadline_and_says_what_it_made) {
    world w;
    rm_error error;
    uint32_t made = 0;
    world_init(&w, 8);
    w.desc.max_creating = 1; /* one thread, one after the other */
    w.inside = take_a_second;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_E_TIMEOUT,
             rm_pool_prewarm(w.pool, 8, rm_deadline_after(&w.clock, RM_SEC(3)), &made, &error));
    CHECK_EQ(RM_E_TIMEOUT, error.status);
    CHECK_EQ(3, made);
    CHECK_EQ(3, stats_of(&w).idle);
    CHECK_EQ(RM_SEC(1003), w.deadline.at_ns); /* create_fn knows it too */
    world_end(&w);
}

static void fail_from_now_on(world *w) {
    if (GET(w->creates) == 3) SET(w->create_status, RM_E_AUTH);
}

TEST(pool_prewarm, stops_at_the_first_failed_create_and_says_what_it_made) {
    world w;
    rm_error error;
    uint32_t made = 0;
    world_init(&w, 8);
    w.desc.max_creating = 1;
    w.inside = fail_from_now_on;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_E_AUTH, rm_pool_prewarm(w.pool, 8, never, &made, &error));
    CHECK_EQ(RM_E_AUTH, error.status);
    CHECK_STR("nobody listens", error.message);
    CHECK_EQ(2, made);
    CHECK_EQ(3, w.creates);
    CHECK_EQ(RM_E_AUTH, rm_pool_prewarm(w.pool, 8, never, &made, &error)); /* fails fast */
    CHECK_EQ(0, made);
    CHECK_EQ(3, w.creates);
    world_end(&w);
}

/* The first create finds out alone. Its threads, if it had any, would meet an endpoint that is
   tried by another, and give up with what was wrong before. */
TEST(pool_prewarm, of_a_server_that_is_well_again_makes_all) {
    world w;
    gate g;
    warming m;
    uint32_t i;
    world_init(&w, 8);
    w.create_status = RM_E_REFUSED;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_E_REFUSED, rm_pool_prewarm(w.pool, 4, never, NULL, NULL));
    w.create_status = RM_OK;
    w.creates = 0;
    pass(&w, RM_MINUTES(1)); /* the backoff is over */
    gate_init(&g);
    w.at_create = &g;
    warming_start(&m, &w, 4);
    gate_await(&g, 1);
    for (i = 0; i < 10000; ++i)
        relax(); /* lets them come and go */
    CHECK_EQ(1, GET(w.creates));
    gate_open(&g);
    rm_thread_join(&m.thread);
    CHECK_EQ(RM_OK, m.status);
    CHECK_EQ(4, m.made);
    CHECK_EQ(4, w.creates);
    gate_done(&g);
    world_end(&w);
}

TEST(pool_prewarm, serves_those_who_wait) {
    world w;
    caller a;
    rm_lease lease;
    world_init(&w, 2);
    w.desc.grow_after_ns = RM_SEC(1);
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease));
    caller_queue(&a, &w, RM_FOREVER, 1);
    CHECK_EQ(RM_OK, rm_pool_prewarm(w.pool, 1, never, NULL, NULL));
    caller_served(&a);
    give(&w, &lease, RM_RELEASE_OK);
    world_end(&w);
}

TEST(pool_prewarm, counts_what_another_one_makes) {
    world w;
    gate g;
    warming m;
    uint32_t made = 7;
    REQUIRE(world_begin(&w, 6));
    gate_init(&g);
    w.at_create = &g;
    warming_start(&m, &w, 4);
    gate_await(&g, 4);
    CHECK_EQ(RM_OK, rm_pool_prewarm(w.pool, 4, never, &made, NULL)); /* there will be four */
    CHECK_EQ(0, made);
    CHECK_EQ(4, GET(w.creates));
    gate_open(&g);
    rm_thread_join(&m.thread);
    CHECK_EQ(4, m.made);
    CHECK_EQ(4, stats_of(&w).idle);
    gate_done(&g);
    world_end(&w);
}

TEST(pool_prewarm, tells_the_guard_of_an_endpoint_how_it_went) {
    rm_error error;
    watch seen;
    rm_pool_endpoint endpoint;
    world w;
    world_init(&w, 1);
    desc_guard_endpoint(&w.desc, &endpoint, &seen);
    w.create_status = RM_E_REFUSED;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_E_REFUSED, rm_pool_prewarm(w.pool, 1, never, NULL, &error));
    CHECK_REPORTS(seen, 0, 1, 0);
    w.create_status = RM_OK;
    pass(&w, RM_SEC(1));
    CHECK_EQ(RM_OK, rm_pool_prewarm(w.pool, 1, never, NULL, &error));
    CHECK_REPORTS(seen, 1, 1, 0);
    world_end(&w);
}

TEST(pool_prewarm, of_a_full_pool_is_done_whenever) {
    rm_lease a, b;
    uint32_t made = 7;
    world w;
    REQUIRE(world_begin(&w, 2));
    take_both(&w, &a, &b);
    CHECK_EQ(RM_OK,
             rm_pool_prewarm(w.pool, 2, rm_deadline_after(&w.clock, RM_NOWAIT), &made, NULL));
    CHECK_EQ(0, made);
    give_both(&w, &a, &b);
    world_end(&w);
}

TEST(pool_prewarm, is_no_acquire_that_failed) {
    rm_error error;
    watch seen;
    rm_pool_endpoint endpoint;
    rm_lease lease;
    world w;
    world_init(&w, 2);
    w.desc.min_idle = 1;
    desc_guard_endpoint(&w.desc, &endpoint, &seen);
    REQUIRE(world_open(&w));
    w.create_status = RM_E_REFUSED;
    CHECK_EQ(RM_E_REFUSED, maintain(&w)); /* it tries, ... */
    CHECK_EQ(RM_E_REFUSED, maintain(&w)); /* ... and the backoff is not over */
    CHECK_EQ(RM_E_REFUSED, rm_pool_prewarm(w.pool, 1, never, NULL, &error));
    CHECK_EQ(1, w.creates);
    CHECK_EQ(0, stats_of(&w).failed_fast);
    CHECK_EQ(RM_E_REFUSED, take(&w, &lease));
    CHECK_EQ(1, stats_of(&w).failed_fast);
    w.create_status = RM_OK;
    pass(&w, RM_SEC(1));
    seen.refuses = true;
    CHECK_EQ(RM_E_REJECTED, maintain(&w)); /* the guard refuses, ... */
    CHECK_EQ(RM_E_REJECTED, maintain(&w)); /* ... and is not asked again yet */
    CHECK_EQ(RM_E_REJECTED, rm_pool_prewarm(w.pool, 1, never, NULL, &error));
    CHECK_EQ(0, stats_of(&w).rejected);
    CHECK_EQ(RM_E_REJECTED, take(&w, &lease));
    CHECK_EQ(1, stats_of(&w).rejected);
    world_end(&w);
}

/* ---- eviction, suspension, detaching ---- */

TEST(pool_evict, all_ends_the_idle_now_and_the_leased_at_release) {
    world w;
    rm_lease a, b;
    REQUIRE(world_begin(&w, 3));
    fill(&w, 3);
    CHECK_EQ(RM_OK, take(&w, &a));
    CHECK_EQ(RM_OK, rm_pool_evict_all(w.pool));
    CHECK_EQ(2, ended(&w, RM_POOL_CAUSE_EVICTED));
    CHECK_EQ(0, stats_of(&w).idle);
    CHECK_EQ(1, stats_of(&w).in_use);
    CHECK_EQ(RM_OK, take(&w, &b));
    CHECK_EQ(4, number_of(&b));
    give(&w, &a, RM_RELEASE_OK);
    CHECK_EQ(3, ended(&w, RM_POOL_CAUSE_EVICTED));
    give(&w, &b, RM_RELEASE_OK); /* of the new generation */
    CHECK_EQ(1, stats_of(&w).idle);
    CHECK_EQ(RM_E_INVALID, rm_pool_evict_all(NULL));
    world_end(&w);
}

TEST(pool_evict, all_makes_what_is_being_made_once_more) {
    world w;
    gate g;
    caller a;
    REQUIRE(world_begin(&w, 3));
    caller_at_gate(&a, &w, &w.at_create, &g);
    CHECK_EQ(RM_OK, rm_pool_evict_all(w.pool));
    gate_open(&g);
    CHECK_EQ(RM_OK, caller_join(&a));
    CHECK_EQ(2, number_of(&a.lease)); /* with the new credentials, say */
    CHECK_EQ(1, ended(&w, RM_POOL_CAUSE_EVICTED));
    give(&w, &a.lease, RM_RELEASE_OK);
    CHECK_EQ(1, stats_of(&w).idle);
    gate_done(&g);
    world_end(&w);
}

TEST(pool_evict, one_that_is_idle_ends_now) {
    world w;
    rm_lease a, b;
    const void *resource;
    REQUIRE(world_begin(&w, 2));
    take_both(&w, &a, &b);
    resource = b.resource;
    give_both(&w, &a, &b);
    CHECK_EQ(RM_OK, rm_pool_evict(w.pool, resource));
    CHECK_EQ(1, ended(&w, RM_POOL_CAUSE_EVICTED));
    CHECK_EQ(RM_E_NOT_FOUND, rm_pool_evict(w.pool, resource));
    CHECK_EQ(RM_E_NOT_FOUND, rm_pool_evict(w.pool, &w));
    CHECK_EQ(RM_E_INVALID, rm_pool_evict(w.pool, NULL));
    CHECK_EQ(RM_E_INVALID, rm_pool_evict(NULL, resource));
    CHECK_EQ(1, stats_of(&w).idle);
    CHECK_EQ(1, borrow(&w));
    world_end(&w);
}

TEST(pool_evict, one_that_is_lent_ends_at_its_release) {
    world w;
    rm_lease a, b;
    REQUIRE(world_begin(&w, 2));
    take_both(&w, &a, &b);
    CHECK_EQ(RM_OK, rm_pool_evict(w.pool, a.resource));
    CHECK_EQ(RM_OK, rm_pool_evict(w.pool, a.resource));
    CHECK_EQ(0, w.destroyed);
    give(&w, &b, RM_RELEASE_OK);
    CHECK_EQ(0, w.destroyed);
    give(&w, &a, RM_RELEASE_OK);
    CHECK_EQ(1, ended(&w, RM_POOL_CAUSE_EVICTED));
    CHECK_EQ(1, stats_of(&w).idle);
    world_end(&w);
}

static rm_status inside_status; /* of what a hook asked for */

static rm_status thing_reset_evicts(void *resource, void *user) {
    inside_status = rm_pool_evict(((world *)user)->pool, resource);
    return RM_OK;
}

TEST(pool_evict, one_that_is_between_two_states_is_busy) {
    world w;
    world_init(&w, 1);
    w.desc.reset_fn = thing_reset_evicts;
    REQUIRE(world_open(&w));
    CHECK_EQ(1, borrow(&w));
    CHECK_EQ(RM_E_BUSY, inside_status);
    CHECK_EQ(1, stats_of(&w).idle);
    world_end(&w);
}

TEST(pool_suspend, lets_acquires_wait_and_leaves_the_leases) {
    world w;
    caller a, b;
    rm_lease lease, other;
    rm_error error;
    REQUIRE(world_begin(&w, 3));
    fill(&w, 3);
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK_EQ(RM_OK, rm_pool_suspend(w.pool));
    CHECK_EQ(RM_OK, rm_pool_suspend(w.pool)); /* which it is already */
    CHECK_EQ(RM_E_BUSY, rm_pool_acquire(w.pool, RM_NOWAIT, &other, &error));
    CHECK_STR("no resource: 1 in use, 2 idle, 0 creating, 0 checking, 0 closing, 0 waiting, max 3; "
              "suspended, rm_pool_resume lends again",
              error.message);
    caller_queue(&a, &w, RM_FOREVER, 1);
    caller_queue(&b, &w, RM_SEC(1), 2);
    CHECK_EQ(1, stats_of(&w).in_use);
    give(&w, &lease, RM_RELEASE_OK); /* serves nobody */
    CHECK_EQ(3, stats_of(&w).idle);
    CHECK_EQ(2, stats_of(&w).waiting);
    pass(&w, RM_SEC(1));
    CHECK_EQ(RM_E_TIMEOUT, caller_join(&b));
    CHECK_STR("no resource: 0 in use, 3 idle, 0 creating, 0 checking, 0 closing, 1 waiting, max 3; "
              "suspended, rm_pool_resume lends again",
              b.error.message);
    CHECK_EQ(RM_OK, rm_pool_resume(w.pool));
    CHECK_EQ(RM_OK, caller_join(&a));
    CHECK_EQ(3, w.created); /* none was made meanwhile, none was ended */
    CHECK_EQ(0, w.destroyed);
    give(&w, &a.lease, RM_RELEASE_OK);
    CHECK_EQ(RM_E_INVALID, rm_pool_suspend(NULL));
    CHECK_EQ(RM_E_INVALID, rm_pool_resume(NULL));
    world_end(&w);
}

TEST(pool_suspend, serves_all_who_waited_when_it_is_over) {
    world w;
    caller callers[3];
    uint32_t i;
    REQUIRE(world_begin(&w, 3));
    CHECK_EQ(RM_OK, rm_pool_suspend(w.pool));
    for (i = 0; i < 3; ++i)
        caller_queue(&callers[i], &w, RM_FOREVER, i + 1);
    CHECK_EQ(0, GET(w.creates));
    CHECK_EQ(RM_OK, rm_pool_resume(w.pool));
    for (i = 0; i < 3; ++i)
        CHECK_EQ(RM_OK, caller_join(&callers[i]));
    for (i = 0; i < 3; ++i)
        give(&w, &callers[i].lease, RM_RELEASE_OK);
    world_end(&w);
}

TEST(pool_suspend, keeps_what_is_made_or_checked_meanwhile) {
    static const bool checks[] = {false, true};
    size_t i;
    for (i = 0; i < 2; ++i) {
        world w;
        gate g;
        caller a;
        rm_lease lease;
        world_init(&w, 2);
        w.desc.validate_fn = thing_validate;
        w.desc.validate_after_ns = RM_STRICT;
        REQUIRE(world_open(&w));
        if (checks[i]) fill(&w, 1);
        caller_at_gate(&a, &w, checks[i] ? &w.at_validate : &w.at_create, &g);
        CHECK_EQ(RM_OK, rm_pool_suspend(w.pool));
        gate_open(&g);
        rm_virtual_clock_await(&w.time, 1); /* it is not lent */
        CHECK_EQ(1, stats_of(&w).idle);
        CHECK_EQ(1, stats_of(&w).waiting);
        CHECK_EQ(RM_E_BUSY, take(&w, &lease));
        CHECK_EQ(RM_OK, rm_pool_resume(w.pool));
        CHECK_EQ(RM_OK, caller_join(&a));
        CHECK_EQ(1, number_of(&a.lease));
        give(&w, &a.lease, RM_RELEASE_OK);
        gate_done(&g);
        world_end(&w);
    }
}

TEST(pool_suspend, can_be_closed_and_is_degraded) {
    world w;
    caller a;
    rm_error reason;
    REQUIRE(world_begin(&w, 3));
    CHECK_EQ(RM_HEALTH_HEALTHY, health_of(&w, &reason));
    CHECK_EQ(RM_OK, rm_pool_suspend(w.pool));
    caller_queue(&a, &w, RM_FOREVER, 1);
    CHECK_EQ(RM_HEALTH_DEGRADED, health_of(&w, &reason));
    CHECK_STR("the pool is suspended, 1 wait", reason.message);
    CHECK_EQ(RM_OK, rm_pool_close(w.pool, RM_NOWAIT, NULL));
    CHECK_EQ(RM_E_CLOSED, caller_join(&a));
    CHECK_EQ(RM_HEALTH_UNHEALTHY, health_of(&w, &reason));
    world_end(&w);
}

TEST(pool_detach, leaves_the_resource_to_its_holder) {
    world w;
    watch seen;
    caller a;
    rm_lease lease, copied;
    void *mine = NULL;
    REQUIRE(world_begin_guarded(&w, 1, &seen));
    CHECK_EQ(RM_OK, take(&w, &lease));
    copied = lease;
    caller_queue(&a, &w, RM_FOREVER, 1);
    CHECK_EQ(RM_E_INVALID, rm_pool_detach(w.pool, &lease, NULL));
    CHECK_EQ(RM_E_INVALID, rm_pool_detach(NULL, &lease, &mine));
    CHECK_EQ(RM_OK, rm_pool_detach(w.pool, &lease, &mine));
    CHECK(mine == copied.resource && lease.resource == NULL && lease.sequence == 0);
    CHECK_EQ(RM_OK, caller_join(&a)); /* there is room for another */
    CHECK_REPORTS(seen, 1, 0, 0);
    CHECK_EQ(RM_E_STALE, rm_pool_detach(w.pool, &copied, &mine));
    CHECK_EQ(RM_E_STALE, rm_pool_release(w.pool, &copied, RM_RELEASE_OK));
    CHECK_EQ(1, stats_of(&w).detached);
    CHECK_EQ(0, w.destroyed);
    free(mine);
    w.leaves = 1;
    give(&w, &a.lease, RM_RELEASE_OK);
    world_end(&w);
}

/* What leaves does not count any more when the hook is told of it: another one that comes back in
   there is not one too many, although overflow was used. */
static rm_lease *comes_back;

static void give_the_other(world *w) {
    rm_lease *lease = comes_back;
    comes_back = NULL;
    if (lease != NULL) give(w, lease, RM_RELEASE_OK);
}

static void event_detached(const rm_pool_event *event, void *user) {
    if (event->kind == RM_POOL_EVENT_DETACHED) give_the_other((world *)user);
}

static void reclaims_beside_another(void *resource, void *user) {
    thing_reclaim(resource, user);
    give_the_other((world *)user);
}

TEST(pool_detach, leaves_nothing_that_is_too_much_behind) {
    world w;
    rm_lease lease, other;
    void *mine = NULL;
    world_init(&w, 1);
    w.desc.overflow = 1;
    w.desc.event_fn = event_detached;
    REQUIRE(world_open(&w));
    take_both(&w, &lease, &other);
    comes_back = &other;
    CHECK_EQ(RM_OK, rm_pool_detach(w.pool, &lease, &mine));
    CHECK(comes_back == NULL);
    CHECK_EQ(0, ended(&w, RM_POOL_CAUSE_SURPLUS));
    CHECK_EQ(1, stats_of(&w).idle);
    free(mine);
    w.leaves = 1;
    world_end(&w);
}

TEST(pool_leak, leaves_nothing_that_is_too_much_behind) {
    world w;
    rm_lease lease, other;
    thing *t;
    world_init(&w, 1);
    w.desc.overflow = 1;
    w.desc.reclaim_after_ns = RM_SEC(30);
    w.desc.reclaim_fn = reclaims_beside_another;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease));
    t = thing_of(&lease);
    pass(&w, RM_SEC(30));
    CHECK_EQ(RM_OK, take(&w, &other));
    comes_back = &other;
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK(comes_back == NULL);
    CHECK_EQ(1, w.reclaims);
    CHECK_EQ(0, ended(&w, RM_POOL_CAUSE_SURPLUS));
    CHECK_EQ(1, stats_of(&w).idle);
    free(t);
    w.leaves = 1;
    world_end(&w);
}

/* ---- who holds what ---- */

typedef struct listing {
    uint32_t count, most;
    rm_pool_lease_info lines[4];
} listing;

static bool listing_add(const rm_pool_lease_info *info, void *user) {
    listing *l = (listing *)user;
    l->lines[l->count++ % 4] = *info;
    return l->count < l->most;
}

TEST(pool_leases, are_listed_with_their_holders) {
    world w;
    rm_lease a, b, c;
    listing l = {0, 9, {{0}}};
    REQUIRE(world_begin(&w, 3));
    CHECK_EQ(0, rm_pool_leases(w.pool, listing_add, &l));
    take_both(&w, &a, &b);
    CHECK_EQ(RM_OK, rm_pool_note(w.pool, &b, "report"));
    pass(&w, RM_MS(30));
    CHECK_EQ(RM_OK, take(&w, &c));
    give(&w, &c, RM_RELEASE_OK); /* not out any more */
    CHECK_EQ(2, rm_pool_leases(w.pool, listing_add, &l));
    CHECK_EQ(2, l.count);
    CHECK_STR("", l.lines[0].where);
    CHECK_STR("report", l.lines[1].where);
    CHECK_STR("", l.lines[0].endpoint);
    CHECK_EQ(a.slot, l.lines[0].slot);
    CHECK_EQ(b.slot, l.lines[1].slot);
    CHECK_EQ(RM_MS(30), l.lines[0].held_ns);
    CHECK_EQ(rm_thread_number(), l.lines[0].thread);
    l.count = 0;
    l.most = 1;
    CHECK_EQ(1, rm_pool_leases(w.pool, listing_add, &l)); /* it stops when told to */
    CHECK_EQ(0, rm_pool_leases(NULL, listing_add, &l));
    CHECK_EQ(0, rm_pool_leases(w.pool, NULL, &l));
    give(&w, &b, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, take(&w, &b));
    l.count = 0;
    l.most = 9;
    CHECK_EQ(2, rm_pool_leases(w.pool, listing_add, &l));
    CHECK_STR("", l.lines[1].where); /* a note is of one lease */
    give_both(&w, &a, &b);
    world_end(&w);
}

TEST(pool_leases, take_a_note_from_their_holder_only) {
    world w, v;
    rm_lease lease, copied;
    world_init(&w, 1);
    world_init(&v, 1);
    REQUIRE(world_open(&w));
    REQUIRE(world_open(&v));
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK_EQ(RM_E_FOREIGN, rm_pool_note(v.pool, &lease, "x"));
    CHECK_EQ(RM_E_FOREIGN, rm_pool_data_set(v.pool, &lease, &v));
    CHECK_EQ(RM_E_INVALID, rm_pool_note(NULL, &lease, "x"));
    CHECK_EQ(RM_E_INVALID, rm_pool_note(w.pool, NULL, "x"));
    copied = lease;
    CHECK_EQ(RM_OK, rm_pool_note(w.pool, &lease, NULL)); /* not known again */
    give(&w, &lease, RM_RELEASE_OK);
    CHECK_EQ(RM_E_STALE, rm_pool_note(w.pool, &copied, "x"));
    CHECK_EQ(RM_E_STALE, rm_pool_data_set(w.pool, &copied, &w));
    CHECK(rm_pool_data_get(w.pool, &copied) == NULL);
    world_end(&w);
    world_end(&v);
}

TEST(pool_leases, here_is_file_and_line) {
    char line[16];
    const int before = __LINE__;
    const char *here = RM_HERE;
    (void)snprintf(line, sizeof line, ".c:%d", before + 1);
    CHECK(strstr(here, "test_pool_life") != NULL);
    CHECK(strstr(here, line) != NULL);
}

TEST(pool_leases, data_stays_with_the_resource) {
    world w;
    rm_lease lease;
    int session;
    REQUIRE(world_begin(&w, 1));
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK(rm_pool_data_get(w.pool, &lease) == NULL); /* zero at birth */
    CHECK_EQ(RM_OK, rm_pool_data_set(w.pool, &lease, &session));
    CHECK(rm_pool_data_get(w.pool, &lease) == &session);
    give(&w, &lease, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK(rm_pool_data_get(w.pool, &lease) == &session);
    give(&w, &lease, RM_RELEASE_BROKEN);
    CHECK_EQ(RM_OK, take(&w, &lease)); /* another in the same slot */
    CHECK(rm_pool_data_get(w.pool, &lease) == NULL);
    CHECK_EQ(RM_OK, rm_pool_data_set(w.pool, &lease, &session));
    detach(&w, &lease);
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK(rm_pool_data_get(w.pool, &lease) == NULL);
    give(&w, &lease, RM_RELEASE_OK);
    world_end(&w);
}

TEST(pool_leases, data_does_not_outlive_its_resource) {
    uint32_t i;
    for (i = 0; i < 2; ++i) { /* what was reclaimed, and the parent's in the child of a fork */
        world w;
        rm_lease lease, next;
        int session;
        world_init(&w, 1);
        w.desc.reclaim_after_ns = RM_SEC(1);
        w.desc.reclaim_fn = thing_reclaim;
        REQUIRE(world_open(&w));
        CHECK_EQ(RM_OK, take(&w, &lease));
        CHECK_EQ(RM_OK, rm_pool_data_set(w.pool, &lease, &session));
        pass(&w, RM_SEC(1));
        CHECK_EQ(RM_OK, i == 0 ? maintain(&w) : rm_pool_after_fork_child(w.pool));
        CHECK_EQ(RM_OK, take(&w, &next));
        CHECK_EQ(lease.slot, next.slot);
        CHECK(rm_pool_data_get(w.pool, &next) == NULL);
        give(&w, &next, RM_RELEASE_OK);
        free(lease.resource);
        w.leaves = 1;
        world_end(&w);
    }
}

static rm_status slow_check(void *resource, void *user) {
    pass((world *)user, RM_SEC(5));
    return thing_validate(resource, user);
}

TEST(pool_leases, are_held_from_the_time_on_that_they_are_lent) {
    world w;
    rm_lease lease;
    listing l = {0, 9, {{0}}};
    world_init(&w, 1);
    w.create_takes_ns = RM_SEC(20);
    w.desc.validate_fn = slow_check;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK_EQ(1, rm_pool_leases(w.pool, listing_add, &l));
    CHECK_EQ(0, l.lines[0].held_ns); /* a slow create is not the holder's */
    give(&w, &lease, RM_RELEASE_OK);
    pass(&w, RM_SEC(1));
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK_EQ(1, w.validates);
    CHECK_EQ(1, rm_pool_leases(w.pool, listing_add, &l));
    CHECK_EQ(0, l.lines[1].held_ns); /* nor is a slow check */
    give(&w, &lease, RM_RELEASE_OK);
    world_end(&w);
}

static int64_t (*fine_fn)(void *user);

static int64_t some_ms_behind(void *user) {
    return fine_fn(user) - RM_MS(4);
}

TEST(pool_leases, are_held_for_no_negative_time) {
    world w;
    rm_lease lease;
    rm_error error;
    listing l = {0, 9, {{0}}};
    world_init(&w, 1);
    fine_fn = w.clock.now_fn;
    w.clock.coarse_fn = some_ms_behind;
    w.desc.time_uses = true; /* which notes the fine time */
    w.desc.event_fn = world_event;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK_EQ(1, rm_pool_leases(w.pool, listing_add, &l));
    CHECK_EQ(0, l.lines[0].held_ns);
    CHECK_EQ(RM_E_BUSY, rm_pool_close(w.pool, RM_NOWAIT, &error));
    CHECK(strstr(error.message, "the oldest for 0 ms") != NULL);
    give(&w, &lease, RM_RELEASE_OK);
    CHECK_EQ(RM_POOL_EVENT_RELEASED, w.notes[w.noted - 2].kind);
    CHECK_EQ(0, w.notes[w.noted - 2].ns);
    CHECK_EQ(0, stats_of(&w).use_max_ns); /* by the fine clock, which stood still */
    world_end(&w);
}

TEST(pool_leases, close_names_the_oldest_and_where_it_is) {
    world w;
    rm_lease a, b, c;
    rm_error error;
    char expected[160];
    REQUIRE(world_begin(&w, 3));
    take_both(&w, &a, &b);
    give(&w, &a, RM_RELEASE_OK);
    pass(&w, RM_MS(20));
    CHECK_EQ(RM_OK, take(&w, &a)); /* one in a lower slot, one in a higher, both younger */
    CHECK_EQ(RM_OK, take(&w, &c));
    CHECK_EQ(RM_OK, rm_pool_note(w.pool, &a, "a"));
    pass(&w, RM_MS(10));
    CHECK_EQ(RM_E_BUSY, rm_pool_close(w.pool, RM_NOWAIT, &error));
    (void)snprintf(expected, sizeof expected,
                   "closed, but 3 resources are still out, the oldest for 30 ms by thread %u; "
                   "close again to wait on",
                   (unsigned)rm_thread_number());
    CHECK_STR(expected, error.message);
    CHECK_EQ(RM_OK, rm_pool_note(w.pool, &b, "report.c:7"));
    CHECK_EQ(RM_E_BUSY, rm_pool_close(w.pool, RM_NOWAIT, &error));
    CHECK(strstr(error.message, " at report.c:7; close") != NULL);
    give(&w, &a, RM_RELEASE_OK);
    give(&w, &b, RM_RELEASE_OK);
    give(&w, &c, RM_RELEASE_OK);
    world_end(&w);
}

TEST(pool_close, says_that_something_is_being_made) {
    world w;
    caller c;
    rm_error error;
    gate g;
    REQUIRE(world_begin(&w, 2));
    caller_at_gate(&c, &w, &w.at_create, &g);
    CHECK_EQ(RM_E_BUSY, rm_pool_close(w.pool, RM_NOWAIT, &error));
    CHECK_STR("closed, but 1 resources are still being made or ended; close again to wait on",
              error.message);
    CHECK_EQ(0, error.native);
    gate_open(&g);
    CHECK_EQ(RM_E_CLOSED, caller_join(&c));
    CHECK_STR("closed while creating", c.error.message);
    gate_done(&g);
    world_end(&w);
}

/* ---- leaks ---- */

TEST(pool_leak, without_event_fn_is_no_hook_call) {
    world w;
    rm_lease a, b;
    uint32_t i;
    for (i = 0; i < 2; ++i) {
        world_init(&w, 2);
        w.desc.leak_after_ns = RM_SEC(30);
        w.desc.event_fn = i == 0 ? NULL : world_event;
        REQUIRE(world_open(&w));
        take_both(&w, &a, &b);
        pass(&w, RM_SEC(30));
        CHECK_EQ(RM_OK, rm_pool_maintain(w.pool, 1, never, NULL));
        CHECK_EQ(2 - i, stats_of(&w).leaks);
        give_both(&w, &a, &b);
        world_end(&w);
    }
}

static note *last_note(world *w) {
    return &w->notes[(w->noted - 1) % 64];
}

TEST(pool_leak, is_reported_once_with_where_and_who) {
    world w;
    rm_lease lease;
    uint32_t noted;
    char expected[80];
    world_init(&w, 2);
    w.desc.leak_after_ns = RM_SEC(30);
    w.desc.event_fn = world_event;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK_EQ(RM_OK, rm_pool_note(w.pool, &lease, "import.c:42"));
    pass(&w, RM_SEC(30) - 1);
    noted = w.noted;
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(0, stats_of(&w).leaks);
    CHECK_EQ(noted, w.noted);
    pass(&w, 1);
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(1, stats_of(&w).leaks);
    CHECK_EQ(noted + 1, w.noted);
    CHECK_EQ(RM_POOL_EVENT_LEAKED, last_note(&w)->kind);
    CHECK_STR("import.c:42", last_note(&w)->where);
    CHECK_STR("db", last_note(&w)->pool);
    CHECK_EQ(RM_SEC(30), last_note(&w)->ns);
    CHECK_EQ(rm_thread_number(), last_note(&w)->thread);
    (void)snprintf(expected, sizeof expected, "held for 30000 ms by thread %u at import.c:42",
                   (unsigned)rm_thread_number());
    CHECK_STR(expected, last_note(&w)->message);
    CHECK_STR("leak", w.log_event);
    CHECK_STR(expected, w.log_message);
    CHECK_EQ(1, w.logged);
    pass(&w, RM_SEC(300));
    CHECK_EQ(RM_OK, maintain(&w)); /* once */
    CHECK_EQ(1, stats_of(&w).leaks);
    give(&w, &lease, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, take(&w, &lease)); /* the next holder of the same slot */
    pass(&w, RM_SEC(30));
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(2, stats_of(&w).leaks);
    CHECK_STR("", last_note(&w)->where);
    give(&w, &lease, RM_RELEASE_OK);
    world_end(&w);
}

TEST(pool_leak, is_reclaimed_from_its_holder) {
    world w;
    watch seen;
    caller a;
    rm_lease lease;
    thing *t;
    world_init(&w, 1);
    w.desc.leak_after_ns = RM_SEC(10);
    w.desc.reclaim_after_ns = RM_SEC(30);
    w.desc.reclaim_fn = thing_reclaim;
    w.desc.event_fn = world_event;
    w.desc.guard = watch_init(&seen);
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK_EQ(RM_OK, rm_pool_note(w.pool, &lease, "x"));
    CHECK_EQ(RM_OK, rm_pool_data_set(w.pool, &lease, &seen));
    t = thing_of(&lease);
    pass(&w, RM_SEC(29));
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(0, w.reclaims);
    CHECK_EQ(1, stats_of(&w).leaks);
    caller_queue(&a, &w, RM_FOREVER, 1);
    pass(&w, RM_SEC(1));
    w.inside = NULL;
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(1, w.reclaims);
    CHECK_EQ(1, stats_of(&w).reclaimed);
    CHECK_EQ(0, w.destroyed); /* its holder may be using it */
    CHECK_STR("reclaimed", w.log_event);
    CHECK_STR("db", w.log_pool);
    CHECK_EQ(RM_OK, caller_join(&a)); /* its room is free */
    CHECK_EQ(2, number_of(&a.lease));
    CHECK_REPORTS(seen, 0, 1, 0);
    CHECK_EQ(RM_E_STALE, rm_pool_release(w.pool, &lease, RM_RELEASE_OK));
    CHECK_EQ(0, w.destroyed);
    {
        const note *n = w.notes;
        while (n->kind != RM_POOL_EVENT_RECLAIMED)
            ++n;
        CHECK(n->resource == t && n->data == &seen);
        CHECK_STR("x", n->where);
        CHECK_EQ(RM_SEC(30), n->ns);
    }
    free(t);
    w.leaves = 1;
    give(&w, &a.lease, RM_RELEASE_OK);
    world_end(&w);
}

/* ---- events ---- */

static void check_note(const note *n, rm_pool_event_kind kind, uint32_t number, void *data,
                       int64_t ns) {
    CHECK_EQ(kind, n->kind);
    CHECK_EQ(number, n->thing);
    CHECK(n->data == data);
    CHECK_EQ(ns, n->ns);
    CHECK_STR("db", n->pool);
    CHECK_STR("", n->endpoint);
    CHECK(n->status == RM_OK || kind == RM_POOL_EVENT_CREATE_FAILED ||
          kind == RM_POOL_EVENT_LEAKED || kind == RM_POOL_EVENT_TIMEOUT);
}

TEST(pool_events, tell_each_step_in_order) {
    world w;
    rm_lease lease;
    rm_error error;
    const uint32_t self = rm_thread_number();
    const note *n = w.notes;
    int session;
    void *first;
    world_init(&w, 1);
    w.desc.validate_fn = thing_validate;
    w.desc.event_fn = world_event;
    w.create_takes_ns = RM_MS(3);
    REQUIRE(world_open(&w));

    w.create_status = RM_E_REFUSED;
    CHECK_EQ(RM_E_REFUSED, take(&w, &lease));
    w.create_status = RM_OK;
    pass(&w, RM_MS(10));
    CHECK_EQ(RM_OK, take(&w, &lease));
    first = lease.resource;
    CHECK_EQ(RM_E_TIMEOUT, rm_pool_acquire_until(w.pool, rm_deadline_after(&w.clock, RM_NOWAIT),
                                                 NULL, &lease, &error));
    CHECK_EQ(RM_OK, rm_pool_note(w.pool, &lease, "here"));
    CHECK_EQ(RM_OK, rm_pool_data_set(w.pool, &lease, &session));
    pass(&w, RM_MS(7));
    give(&w, &lease, RM_RELEASE_OK);
    pass(&w, RM_SEC(1));
    CHECK_EQ(RM_OK, take(&w, &lease)); /* checked */
    give(&w, &lease, RM_RELEASE_BROKEN);
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK_EQ(RM_OK, rm_pool_data_set(w.pool, &lease, &session));
    detach(&w, &lease);

    check_note(n, RM_POOL_EVENT_CREATE_FAILED, 0, NULL, RM_MS(3));
    CHECK_EQ(RM_E_REFUSED, n->status);
    CHECK_STR("nobody listens", n->message);
    check_note(++n, RM_POOL_EVENT_CREATED, 1, NULL, 0);
    check_note(++n, RM_POOL_EVENT_ACQUIRED, 1, NULL, 0);
    CHECK_EQ(self, n->thread);
    check_note(++n, RM_POOL_EVENT_TIMEOUT, 0, NULL, 0);
    CHECK_EQ(RM_E_TIMEOUT, n->status);
    check_note(++n, RM_POOL_EVENT_RELEASED, 1, &session, RM_MS(7));
    CHECK_EQ(self, n->thread);
    CHECK_STR("here", n->where);
    check_note(++n, RM_POOL_EVENT_CHECKED, 1, &session, 0);
    check_note(++n, RM_POOL_EVENT_ACQUIRED, 1, &session, 0);
    CHECK_STR("", n->where);
    check_note(++n, RM_POOL_EVENT_RELEASED, 1, &session, 0);
    check_note(++n, RM_POOL_EVENT_DESTROYED, 0, &session, RM_MS(7) + RM_SEC(1)); /* its age */
    CHECK(n->resource == first);
    CHECK_EQ(RM_POOL_CAUSE_BROKEN, n->cause);
    check_note(++n, RM_POOL_EVENT_CREATED, 2, NULL, 0);
    check_note(++n, RM_POOL_EVENT_ACQUIRED, 2, NULL, 0);
    check_note(++n, RM_POOL_EVENT_DETACHED, 2, &session, 0);
    CHECK_EQ(w.noted, n - w.notes + 1);
    world_end(&w);
}

TEST(pool_events, of_a_timeout_has_its_error_though_the_caller_wants_none) {
    world w;
    rm_lease lease, other;
    world_init(&w, 1);
    w.desc.event_fn = world_event;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK_EQ(RM_E_TIMEOUT, rm_pool_acquire_until(w.pool, rm_deadline_after(&w.clock, RM_NOWAIT),
                                                 NULL, &other, NULL));
    check_note(&w.notes[w.noted - 1], RM_POOL_EVENT_TIMEOUT, 0, NULL, 0);
    CHECK_EQ(RM_E_TIMEOUT, w.notes[w.noted - 1].status);
    CHECK(w.notes[w.noted - 1].message[0] != '\0');
    give(&w, &lease, RM_RELEASE_OK);
    world_end(&w);
}

static void event_frees(const rm_pool_event *event, void *user) {
    world_event(event, user);
    if (event->kind == RM_POOL_EVENT_DESTROYED) free(event->data);
}

TEST(pool_events, data_is_freed_at_the_end_whatever_it_is) {
    world w;
    rm_lease lease;
    uint32_t i;
    world_init(&w, 1);
    w.desc.event_fn = event_frees;
    REQUIRE(world_open(&w));
    for (i = 0; i < 3; ++i) {
        CHECK_EQ(RM_OK, take(&w, &lease));
        CHECK_EQ(RM_OK, rm_pool_data_set(w.pool, &lease, malloc(8)));
        give(&w, &lease, i == 0 ? RM_RELEASE_BROKEN : RM_RELEASE_OK);
        if (i == 1) CHECK_EQ(RM_OK, rm_pool_evict_all(w.pool));
    }
    world_end(&w); /* the address sanitizer knows the rest */
}

TEST(pool_events, name_every_cause) {
    static const char *const names[] = {"broken",   "reset",   "invalid", "idle",
                                        "lifetime", "evicted", "surplus", "closed"};
    uint32_t i;
    for (i = 0; i < RM_POOL_CAUSES; ++i)
        CHECK_STR(names[i], rm_pool_cause_name((rm_pool_cause)i));
    CHECK_STR("unknown", rm_pool_cause_name((rm_pool_cause)RM_POOL_CAUSES));
    CHECK_STR("unknown", rm_pool_cause_name((rm_pool_cause)-1));
}

/* ---- settings ---- */

TEST(pool_settings, times_that_are_none_are_named) {
    static const struct {
        size_t at;
        int64_t value;
        const char *where;
    } bad[] = {
        {offsetof(rm_pool_desc, grow_after_ns), -1, "grow_after_ns"},
        {offsetof(rm_pool_desc, grow_after_ns), RM_NONE, "grow_after_ns"},
        {offsetof(rm_pool_desc, create_backoff_ns), -1, "create_backoff_ns"},
        {offsetof(rm_pool_desc, create_backoff_ns), RM_STRICT, "create_backoff_ns"},
        {offsetof(rm_pool_desc, max_lifetime_ns), -1, "max_lifetime_ns"},
        {offsetof(rm_pool_desc, keepalive_ns), -1, "keepalive_ns"},
        {offsetof(rm_pool_desc, keepalive_ns), 1, "validate_fn"}, /* it has nothing to call */
        {offsetof(rm_pool_desc, leak_after_ns), -1, "leak_after_ns"},
        {offsetof(rm_pool_desc, reclaim_after_ns), -1, "reclaim_after_ns"},
        {offsetof(rm_pool_desc, reclaim_after_ns), 1, "reclaim_fn"},
        {offsetof(rm_pool_desc, maintain_every_ns), -1, "maintain_every_ns"},
    };
    world w;
    rm_error error;
    size_t i;
    world_init(&w, 4);
    for (i = 0; i < sizeof bad / sizeof *bad; ++i) {
        rm_pool_desc desc = w.desc;
        memcpy((char *)&desc + bad[i].at, &bad[i].value, sizeof bad[i].value);
        CHECK_EQ(RM_E_INVALID, rm_pool_create(&desc, &w.pool, &error));
        CHECK_EQ(RM_E_INVALID, error.status);
        CHECK_STR(bad[i].where, error.where);
    }
    REQUIRE(world_open(&w));
    world_end(&w);
}

TEST(pool_settings, jitter_is_a_percentage) {
    static const int32_t bad[] = {-1, -2, -4, 101, INT32_MAX, INT32_MIN};
    world w;
    rm_error error;
    size_t i;
    world_init(&w, 4);
    for (i = 0; i < sizeof bad / sizeof *bad; ++i) {
        w.desc.lifetime_jitter = bad[i];
        CHECK_EQ(RM_E_INVALID, rm_pool_create(&w.desc, &w.pool, &error));
        CHECK_STR("lifetime_jitter", error.where);
    }
    w.desc.lifetime_jitter = 100;
    REQUIRE(world_open(&w));
    world_end(&w);
}

TEST(pool_settings, defaults_are_filled_in) {
    world w;
    rm_pool_desc got, standard = rm_pool_desc_default();
    world_init(&w, 4);
    w.desc.overflow = 3;
    w.desc.create_backoff_ns = w.desc.create_backoff_max_ns = w.desc.lifetime_jitter = 0;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, rm_pool_desc_get(w.pool, &got));
    CHECK_EQ(4, got.max_idle);
    CHECK_EQ(7, got.capacity);
    CHECK_EQ(RM_MS(10), got.create_backoff_ns);
    CHECK_EQ(RM_SEC(5), got.create_backoff_max_ns);
    CHECK_EQ(25, got.lifetime_jitter);
    CHECK_EQ(RM_MS(10), standard.create_backoff_ns);
    CHECK_EQ(RM_SEC(5), standard.create_backoff_max_ns);
    CHECK_EQ(25, standard.lifetime_jitter);
    CHECK_EQ(0, got.grow_after_ns + got.max_lifetime_ns + got.keepalive_ns + got.leak_after_ns +
                    got.reclaim_after_ns + got.maintain_every_ns);
    world_end(&w);
    world_init(&w, 4);
    w.desc.create_backoff_ns = RM_SEC(60); /* above the default cap */
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, rm_pool_desc_get(w.pool, &got));
    CHECK_EQ(RM_SEC(60), got.create_backoff_max_ns);
    world_end(&w);
}

/* ---- acquire and release ---- */

TEST(pool_nested, is_refused_only_where_it_would_wait) {
    world w;
    caller a;
    rm_lease lease, other, second;
    rm_error error;
    world_init(&w, 2);
    w.desc.refuse_nested = true;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK_EQ(RM_OK, rm_pool_acquire(w.pool, RM_FOREVER, &other, &error)); /* there is another */
    CHECK_EQ(RM_E_DEADLOCK, rm_pool_acquire(w.pool, RM_FOREVER, &second, &error));
    CHECK_EQ(RM_E_DEADLOCK, error.status);
    CHECK_STR("this thread holds one of 2 and would wait for itself; release it first, or raise "
              "max",
              error.message);
    CHECK_EQ(RM_E_DEADLOCK, rm_pool_acquire_until(w.pool, never, NULL, &second, &error));
    CHECK_EQ(RM_E_BUSY, take(&w, &second)); /* which does not wait */
    caller_queue(&a, &w, RM_FOREVER, 1);    /* another thread may */
    give(&w, &other, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, caller_join(&a));
    give(&w, &lease, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, rm_pool_acquire(w.pool, RM_FOREVER, &lease, &error));
    give_both(&w, &lease, &a.lease);
    world_end(&w);
}

TEST(pool_nested, is_no_deadlock_for_a_deadline_that_does_not_wait) {
    world w;
    rm_lease lease, other;
    rm_error error;
    world_init(&w, 1);
    w.desc.refuse_nested = true;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK_EQ(RM_E_TIMEOUT, rm_pool_acquire_until(w.pool, rm_deadline_after(&w.clock, RM_NOWAIT),
                                                 NULL, &other, &error));
    give(&w, &lease, RM_RELEASE_OK);
    world_end(&w);
}

TEST(pool_nested, is_allowed_by_default) {
    world w;
    rm_lease lease, other;
    rm_error error;
    REQUIRE(world_begin(&w, 1));
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK_EQ(RM_E_TIMEOUT, rm_pool_acquire_until(w.pool, rm_deadline_after(&w.clock, RM_NOWAIT),
                                                 NULL, &other, &error));
    give(&w, &lease, RM_RELEASE_OK);
    world_end(&w);
}

TEST(pool_release, failed_is_a_failure_for_the_guard_and_keeps_the_resource) {
    world w;
    watch seen;
    rm_lease lease;
    REQUIRE(world_begin_guarded(&w, 1, &seen));
    release_one(&w, RM_RELEASE_FAILED);
    CHECK_REPORTS(seen, 0, 1, 0);
    CHECK_EQ(1, stats_of(&w).idle);
    release_one(&w, RM_RELEASE_BROKEN);
    CHECK_REPORTS(seen, 0, 2, 0);
    CHECK_EQ(1, ended(&w, RM_POOL_CAUSE_BROKEN));
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK_EQ(RM_E_INVALID, rm_pool_release(w.pool, &lease, (rm_release)3));
    CHECK_EQ(RM_E_INVALID, rm_pool_release(w.pool, &lease, (rm_release)-1));
    CHECK_EQ(RM_E_INVALID, rm_pool_release(w.pool, NULL, RM_RELEASE_OK));
    give(&w, &lease, RM_RELEASE_OK);
    CHECK_REPORTS(seen, 1, 2, 0);
    world_end(&w);
}

TEST(pool_release, by_result_knows_which_statuses_break_a_resource) {
    static const rm_class broken[] = {RM_CLASS_TIMEOUT, RM_CLASS_CANCELLED, RM_CLASS_REFUSED,
                                      RM_CLASS_PROTOCOL, RM_CLASS_INTERNAL};
    world w;
    watch seen;
    int status;
    REQUIRE(world_begin_guarded(&w, 1, &seen));
    for (status = RM_OK; status <= RM_E_INTERNAL; ++status) {
        const uint64_t before = ended(&w, RM_POOL_CAUSE_BROKEN);
        const uint32_t failures = seen.failures;
        const rm_class cls = rm_status_class((rm_status)status);
        bool breaks_it = false;
        rm_lease lease;
        rm_error result;
        size_t i;
        for (i = 0; i < sizeof broken / sizeof *broken; ++i)
            breaks_it = breaks_it || cls == broken[i];
        CHECK_EQ(RM_OK, take(&w, &lease));
        (void)rm_error_set(&result, (rm_status)status, 0, "test", "query");
        CHECK_EQ(RM_OK, rm_pool_release_result(w.pool, &lease, &result));
        CHECK(lease.resource == NULL);
        CHECK_EQ(before + breaks_it, ended(&w, RM_POOL_CAUSE_BROKEN));
        CHECK_EQ(failures + (status != RM_OK), seen.failures);
    }
    CHECK(ended(&w, RM_POOL_CAUSE_BROKEN) >= 4);
    CHECK_EQ(1, seen.ok);
    world_end(&w);
}

TEST(pool_release, by_result_takes_nothing_for_a_success) {
    world w;
    watch seen;
    rm_lease lease, copied;
    REQUIRE(world_begin_guarded(&w, 1, &seen));
    CHECK_EQ(RM_OK, take(&w, &lease));
    copied = lease;
    CHECK_EQ(RM_OK, rm_pool_release_result(w.pool, &lease, NULL));
    CHECK_REPORTS(seen, 1, 0, 0);
    CHECK_EQ(RM_E_STALE, rm_pool_release_result(w.pool, &copied, NULL));
    CHECK_EQ(RM_E_INVALID, rm_pool_release_result(w.pool, NULL, NULL));
    CHECK_EQ(RM_E_INVALID, rm_pool_release_result(NULL, &copied, NULL));
    world_end(&w);
}

static rm_release judge_says; /* what the next hook answers */

static rm_release judge(void *resource, const rm_error *result, void *user) {
    CHECK(((thing *)resource)->number != 0);
    CHECK_EQ(RM_E_TIMEOUT, result->status);
    CHECK_EQ(7, result->native);
    CHECK(((world *)user)->pool != NULL);
    return judge_says;
}

TEST(pool_release, by_result_asks_who_knows_better) {
    world w;
    watch seen;
    rm_lease lease;
    rm_error result;
    static const rm_release says[] = {RM_RELEASE_OK, RM_RELEASE_FAILED, RM_RELEASE_BROKEN,
                                      (rm_release)3, (rm_release)-1};
    static const uint32_t failures[] = {0, 1, 2, 3, 4}, broken[] = {0, 0, 1, 2, 3};
    size_t i;
    world_init(&w, 1);
    w.desc.guard = watch_init(&seen);
    w.desc.classify_fn = judge;
    REQUIRE(world_open(&w));
    (void)rm_error_set(&result, RM_E_TIMEOUT, 7, "test", "slow");
    for (i = 0; i < sizeof says / sizeof *says; ++i) { /* what is no answer means the worst */
        judge_says = says[i];
        CHECK_EQ(RM_OK, take(&w, &lease));
        CHECK_EQ(RM_OK, rm_pool_release_result(w.pool, &lease, &result));
        CHECK_EQ(failures[i], seen.failures);
        CHECK_EQ(broken[i], ended(&w, RM_POOL_CAUSE_BROKEN));
    }
    CHECK_EQ(RM_OK, take(&w, &lease)); /* it is not asked about a success */
    (void)rm_error_set(&result, RM_OK, 0, "test", "fine");
    CHECK_EQ(RM_OK, rm_pool_release_result(w.pool, &lease, &result));
    world_end(&w);
}

static rm_status use(void *resource, rm_error *error, void *user) {
    const rm_status status = *(rm_status *)user;
    CHECK(((thing *)resource)->number != 0);
    if (status == RM_E_REFUSED) return rm_error_set(error, status, 5, "query", "went away");
    return status;
}

TEST(pool_with, uses_and_gives_back) {
    world w;
    rm_error error;
    rm_status status = RM_OK;
    rm_lease lease;
    REQUIRE(world_begin(&w, 1));
    CHECK_EQ(RM_OK, rm_pool_with(w.pool, never, use, &error, &status));
    CHECK_EQ(1, stats_of(&w).idle);
    status = RM_E_NOT_FOUND; /* which breaks nothing */
    CHECK_EQ(RM_E_NOT_FOUND, rm_pool_with(w.pool, never, use, &error, &status));
    CHECK_EQ(RM_E_NOT_FOUND, error.status);
    CHECK_STR("use_fn failed: RM_E_NOT_FOUND", error.message);
    CHECK_EQ(1, stats_of(&w).idle);
    status = RM_E_REFUSED;
    CHECK_EQ(RM_E_REFUSED, rm_pool_with(w.pool, never, use, &error, &status));
    CHECK_STR("went away", error.message);
    CHECK_EQ(5, error.native);
    CHECK_EQ(1, ended(&w, RM_POOL_CAUSE_BROKEN));
    CHECK_EQ(RM_E_REFUSED, rm_pool_with(w.pool, never, use, NULL, &status));
    CHECK_EQ(RM_E_INVALID, rm_pool_with(w.pool, never, NULL, &error, NULL));
    CHECK_EQ(RM_E_INVALID, rm_pool_with(NULL, never, use, &error, &status));
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK_EQ(RM_E_TIMEOUT,
             rm_pool_with(w.pool, rm_deadline_after(&w.clock, RM_NOWAIT), use, &error, &status));
    CHECK_EQ(RM_E_TIMEOUT, error.status);
    give(&w, &lease, RM_RELEASE_OK);
    world_end(&w);
}

TEST(pool_scope, gives_back_at_its_end) {
    world w;
    rm_error error;
    uint32_t runs = 0;
    REQUIRE(world_begin(&w, 1));
    RM_POOL_SCOPE(scope, w.pool, RM_NOWAIT, &error) {
        CHECK_EQ(1, number_of(&scope.lease));
        CHECK_EQ(1, stats_of(&w).in_use);
        ++runs;
    }
    CHECK_EQ(1, runs);
    CHECK_EQ(1, stats_of(&w).idle);
    RM_POOL_SCOPE(scope, w.pool, RM_NOWAIT, &error) {
        scope.how = RM_RELEASE_BROKEN;
    }
    CHECK_EQ(1, ended(&w, RM_POOL_CAUSE_BROKEN));
    CHECK_EQ(2, stats_of(&w).acquired);
    world_end(&w);
}

TEST(pool_scope, is_not_entered_without_a_resource) {
    world w;
    rm_lease lease;
    rm_error error;
    uint32_t runs = 0;
    REQUIRE(world_begin(&w, 1));
    CHECK_EQ(RM_OK, take(&w, &lease));
    RM_POOL_SCOPE(scope, w.pool, RM_NOWAIT, &error)
    ++runs;
    CHECK_EQ(0, runs);
    CHECK_EQ(RM_E_BUSY, error.status);
    give(&w, &lease, RM_RELEASE_OK);
    world_end(&w);
}

TEST(pool_scope, closes_once) {
    world w;
    rm_pool_scope scope;
    rm_error error;
    REQUIRE(world_begin(&w, 1));
    scope = rm_pool_scope_open(w.pool, RM_NOWAIT, &error);
    CHECK_EQ(RM_OK, scope.status);
    CHECK_EQ(RM_RELEASE_OK, scope.how);
    rm_pool_scope_close(&scope);
    rm_pool_scope_close(&scope);
    rm_pool_scope_close(NULL);
    memset(&scope, 0, sizeof scope);
    rm_pool_scope_close(&scope);
    CHECK_EQ(1, stats_of(&w).idle);
    scope = rm_pool_scope_open(w.pool, RM_NOWAIT, &error);
    CHECK_EQ(RM_OK, rm_pool_detach(w.pool, &scope.lease, &scope.lease.resource));
    free(scope.lease.resource); /* it is stale: the scope forgets it all the same */
    w.leaves = 1;
    rm_pool_scope_close(&scope);
    CHECK(scope.lease.resource == NULL);
    world_end(&w);
}

#if defined(__GNUC__) || defined(__clang__)
static uint32_t returns_early(world *w, uint32_t at) {
    rm_error error;
    RM_POOL_SCOPE(scope, w->pool, RM_NOWAIT, &error) {
        if (at == 1) return number_of(&scope.lease);
        if (at == 2) break;
        if (at == 3) goto out;
        if (at == 4) continue;
        CHECK(false);
    }
out:
    return stats_of(w).idle;
}

TEST(pool_scope, gives_back_on_every_way_out) {
    world w;
    uint32_t at;
    REQUIRE(world_begin(&w, 1));
    for (at = 1; at <= 4; ++at) {
        CHECK_EQ(1, returns_early(&w, at));
        CHECK_EQ(1, stats_of(&w).idle);
        CHECK_EQ(at, stats_of(&w).acquired);
    }
    {
        rm_error error;
        RM_POOL_AUTO rm_pool_scope scope = rm_pool_scope_open(w.pool, RM_NOWAIT, &error);
        CHECK_EQ(1, number_of(&scope.lease));
    }
    CHECK_EQ(1, stats_of(&w).idle);
    world_end(&w);
}
#endif

/* ---- memory ---- */

static uint32_t allocations;

static void *counted_alloc(size_t size, void *user) {
    (void)user;
    ++allocations;
    return malloc(size);
}

static void counted_free(void *pointer, size_t size, void *user) {
    (void)size, (void)user;
    free(pointer);
}

TEST(pool_memory, may_be_the_callers) {
    world w;
    rm_error error;
    rm_allocator counted;
    size_t size, offset;
    char *memory;
    memset(&counted, 0, sizeof counted);
    counted.alloc_fn = counted_alloc;
    counted.free_fn = counted_free;
    world_init(&w, 3);
    w.env.allocator = &counted;
    allocations = 0;
    size = rm_pool_footprint(&w.desc);
    memory = (char *)malloc(size + 9);
    REQUIRE(memory != NULL);
    for (offset = 0; offset < 9; offset += 3) { /* aligned or not */
        memset(memory, 0x5A, size + 9);
        w.desc.memory = memory + offset;
        w.desc.memory_size = size - 1;
        CHECK_EQ(RM_E_TOO_LARGE, rm_pool_create(&w.desc, &w.pool, &error));
        CHECK_STR("memory_size", error.where);
        w.desc.memory_size = size;
        REQUIRE(world_open(&w));
        fill(&w, 3);
        CHECK_EQ(RM_OK, rm_pool_destroy(w.pool));
        CHECK_EQ(0x5A, memory[size + offset]); /* not a byte more */
        if (offset > 0) CHECK_EQ(0x5A, memory[offset - 1]);
    }
    CHECK_EQ(0, allocations);
    w.desc.memory = NULL;
    CHECK_EQ(RM_E_INVALID, rm_pool_create(&w.desc, &w.pool, &error));
    CHECK_STR("memory", error.where);
    w.desc.memory_size = 0;
    REQUIRE(world_open(&w));
    CHECK_EQ(1, allocations);
    free(memory);
    world_end(&w);
}

TEST(pool_memory, grows_with_slots_and_endpoints) {
    rm_pool_endpoint endpoints[2] = {{"a", NULL, NULL}, {"b", NULL, NULL}};
    rm_pool_desc desc = rm_pool_desc_default();
    const size_t ten = rm_pool_footprint(&desc);
    CHECK_EQ(ten, rm_pool_footprint(NULL));
    CHECK(ten < 8192);
    desc.capacity = 11;
    CHECK(rm_pool_footprint(&desc) > ten);
    CHECK(rm_pool_footprint(&desc) <= ten + 256);
    desc.capacity = 0;
    desc.overflow = 1;
    CHECK(rm_pool_footprint(&desc) > ten);
    desc.overflow = 0;
    desc.endpoints = endpoints;
    desc.endpoint_count = 2;
    CHECK(rm_pool_footprint(&desc) > ten);
    desc.endpoint_count = 64;
    CHECK(rm_pool_footprint(&desc) > ten);
    desc.endpoint_count = 65;
    CHECK_EQ(0, rm_pool_footprint(&desc));
    desc.endpoint_count = 0;
    desc.max = 65536;
    CHECK_EQ(0, rm_pool_footprint(&desc));
    desc.max = 0;
    CHECK_EQ(ten, rm_pool_footprint(&desc));
}

/* ---- statistics ---- */

TEST(pool_stats, say_everything) {
    world w;
    rm_lease a, b;
    rm_pool_stats s;
    world_init(&w, 4);
    w.desc.overflow = 2;
    w.desc.capacity = 8;
    w.desc.max_idle = 3;
    w.desc.min_idle = 1;
    w.desc.time_uses = true;
    w.create_takes_ns = RM_MS(2);
    REQUIRE(world_open(&w));
    take_both(&w, &a, &b);
    pass(&w, RM_MS(50));
    give(&w, &a, RM_RELEASE_OK);
    s = stats_of(&w);
    CHECK_EQ(8, s.capacity);
    CHECK_EQ(1, s.in_use);
    CHECK_EQ(1, s.idle);
    CHECK_EQ(0, s.creating + s.checking + s.closing);
    CHECK_EQ(6, s.empty);
    CHECK_EQ(4, s.max);
    CHECK_EQ(2, s.overflow);
    CHECK_EQ(1, s.min_idle);
    CHECK_EQ(3, s.max_idle);
    CHECK_EQ(0, s.waiting);
    CHECK_EQ(2, s.acquired);
    CHECK_EQ(2, s.created);
    CHECK_EQ(RM_MS(2), s.create_max_ns);
    CHECK(s.create_p50_ns >= RM_MS(2) && s.create_p50_ns <= s.create_p99_ns);
    CHECK_EQ(RM_MS(52), s.use_max_ns); /* the other was made meanwhile */
    give(&w, &b, RM_RELEASE_OK);
    s = stats_of(&w);
    CHECK_EQ(RM_MS(52), s.use_max_ns);
    CHECK(s.use_p50_ns >= RM_MS(45) && s.use_p50_ns <= s.use_p99_ns);
    CHECK_EQ(0, s.wait_max_ns);
    CHECK_EQ(RM_E_INVALID, rm_pool_stats_get(NULL, &s));
    CHECK_EQ(RM_E_INVALID, rm_pool_stats_get(w.pool, NULL));
    world_end(&w);
}

TEST(pool_stats, say_whether_it_lends) {
    world w;
    REQUIRE(world_begin(&w, 1));
    CHECK(!stats_of(&w).suspended && !stats_of(&w).closed);
    CHECK_EQ(RM_OK, rm_pool_suspend(w.pool));
    CHECK(stats_of(&w).suspended && !stats_of(&w).closed);
    CHECK_EQ(RM_OK, rm_pool_resume(w.pool));
    CHECK(!stats_of(&w).suspended && !stats_of(&w).closed);
    CHECK_EQ(RM_OK, rm_pool_close(w.pool, RM_NOWAIT, NULL));
    CHECK(!stats_of(&w).suspended && stats_of(&w).closed);
    world_end(&w);
}

TEST(pool_resize, shows_in_the_desc_and_in_the_statistics) {
    world w;
    rm_pool_desc desc;
    rm_pool_stats s;
    world_init(&w, 4);
    w.desc.capacity = 9;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, resize(&w, 6, 3, 1, 2));
    REQUIRE(rm_pool_desc_get(w.pool, &desc) == RM_OK);
    s = stats_of(&w);
    CHECK(desc.max == 6 && s.max == 6);
    CHECK(desc.overflow == 3 && s.overflow == 3);
    CHECK(desc.min_idle == 1 && s.min_idle == 1);
    CHECK(desc.max_idle == 2 && s.max_idle == 2);
    CHECK_EQ(9, desc.capacity);
    CHECK_EQ(RM_E_INVALID, resize(&w, 6, 4, 1, 2));
    CHECK_EQ(RM_E_INVALID, resize(&w, 6, 65530, 1, 2));
    world_end(&w);
}

TEST(pool_stats, count_every_way_a_wait_can_end) {
    world w;
    caller a, b;
    rm_cancel token;
    rm_lease lease, other;
    rm_pool_stats s;
    rm_error error;
    world_init(&w, 1);
    w.desc.max_waiters = 1;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, rm_cancel_init(&token));
    CHECK_EQ(RM_OK, take(&w, &lease));
    caller_queue(&a, &w, RM_MS(100), 1);
    CHECK_EQ(1, stats_of(&w).waiting);
    CHECK_EQ(RM_E_FULL, rm_pool_acquire(w.pool, RM_FOREVER, &other, &error));
    CHECK_STR("1 wait already for 1 resources; raise max_waiters or max", error.message);
    CHECK_EQ(0, error.native);
    pass(&w, RM_MS(100));
    CHECK_EQ(RM_E_TIMEOUT, caller_join(&a));
    rm_cancel_request(&token);
    CHECK_EQ(RM_E_CANCELLED, rm_pool_acquire_until(w.pool, never, &token, &other, &error));
    caller_queue(&b, &w, RM_FOREVER, 1);
    give(&w, &lease, RM_RELEASE_OK);
    caller_served(&b);
    s = stats_of(&w);
    CHECK_EQ(2, s.waits);
    CHECK_EQ(1, s.timeouts);
    CHECK_EQ(1, s.refused);
    CHECK_EQ(0, s.cancelled); /* before it began to wait */
    CHECK_EQ(RM_MS(100), s.wait_max_ns);
    CHECK(s.wait_p99_ns >= RM_MS(100) - RM_MS(20));
    CHECK_EQ(0, s.rejected + s.failed_fast + s.create_failures + s.detached + s.reclaimed);
    CHECK_EQ(0, s.use_max_ns); /* nobody asked for it */
    CHECK_EQ(RM_OK, rm_cancel_destroy(&token));
    world_end(&w);
}

TEST_MAIN

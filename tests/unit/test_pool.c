/* Tests of rm_pool.h: every time is a virtual clock's, nothing sleeps. */
#include <stddef.h>
static void *counted_malloc(size_t size);
static void counted_free(void *pointer);
#define RM_MALLOC(size) counted_malloc(size)
#define RM_FREE(pointer) counted_free(pointer)
#define RM_IMPLEMENTATION
#include "rm_pool.h"
#include "rm_test.h"

#include "pool_fixture.h"

static int64_t mallocs, frees; /* of everything that has no allocator of its own */

static void *counted_malloc(size_t size) {
    ADD(mallocs, 1);
    return malloc(size);
}

static void counted_free(void *pointer) {
    ADD(frees, 1);
    free(pointer);
}

/* ---- the fixture's world, with a clock that can be moved without waking who waits on it ---- */

static int64_t skew_ns;  /* on top of what it shows */
static gate *next_stamp; /* the next read of the coarse clock, for a stamp, goes through it */

static int64_t skewed_now(void *user) {
    const rm_clock plain = rm_virtual_clock_clock((rm_virtual_clock *)user);
    return plain.now_fn(user) + GET(skew_ns);
}

static int64_t skewed_coarse(void *user) {
    gate *g = SWAP(next_stamp, NULL);
    if (g != NULL) gate_pass(g);
    return skewed_now(user);
}

/* A world whose desc has `max` things, which checks and resets nothing yet, and tries what failed
   again at once. */
static void world_start(world *w, uint32_t max) {
    world_init(w, max);
    w->clock.now_fn = w->clock.wall_fn = skewed_now;
    w->clock.coarse_fn = skewed_coarse;
    w->env.random = NULL;
    w->env.log = NULL;
    w->desc.create_backoff_ns = RM_NONE;
    w->create_says = NULL;
    w->watches = true;
    SET(skew_ns, 0);
}

/* A pool of `max` things with default settings. */
static bool world_plain(world *w, uint32_t max) {
    world_start(w, max);
    return world_open(w);
}

/* How many threads wait on the clock. */
static uint32_t sleepers(world *w) {
    uint32_t count;
    rm_mutex_lock(&w->time.mutex);
    count = w->time.sleeping;
    rm_mutex_unlock(&w->time.mutex);
    return count;
}

/* ---- basics ---- */

TEST(pool, fills_in_its_defaults) {
    world w;
    rm_pool_desc desc, got, standard = rm_pool_desc_default();
    world_start(&w, 0);
    CHECK(w.desc.max == 0);
    memset(&desc, 0, sizeof desc);
    desc.create_fn = thing_create;
    REQUIRE(rm_pool_create(&desc, &w.pool, NULL) == RM_OK);
    REQUIRE(rm_pool_desc_get(w.pool, &got) == RM_OK);
    CHECK_STR("pool", got.name);
    CHECK_STR("pool", standard.name);
    CHECK_EQ(10, got.max);
    CHECK_EQ(10, standard.max);
    CHECK_EQ(0, got.min_idle);
    CHECK_EQ(0, got.max_waiters);
    CHECK_EQ(RM_SEC(30), got.acquire_timeout_ns);
    CHECK_EQ(RM_SEC(30), standard.acquire_timeout_ns);
    CHECK_EQ(RM_MINUTES(10), got.idle_timeout_ns);
    CHECK_EQ(RM_MINUTES(10), standard.idle_timeout_ns);
    CHECK_EQ(RM_MS(500), got.validate_after_ns);
    CHECK_EQ(RM_MS(500), standard.validate_after_ns);
    CHECK_EQ(RM_US(50), got.barge_ns);
    CHECK_EQ(RM_US(50), standard.barge_ns);
    CHECK(got.create_fn == thing_create && standard.create_fn == NULL);
    CHECK(got.guard == NULL && got.destroy_fn == NULL && got.reset_fn == NULL);
    CHECK(got.endpoints == NULL && got.endpoint_count == 0);
    CHECK(got.memory == NULL && got.memory_size == 0);
    CHECK(got.env != NULL && got.env->clock == rm_clock_system());
    CHECK_EQ(RM_OK, rm_pool_destroy(w.pool));
    rm_virtual_clock_destroy(&w.time);
}

static rm_status admit_all(rm_permit *permit, rm_error *error, void *user) {
    (void)permit, (void)error, (void)user;
    return RM_OK;
}

static void report_none(rm_permit *permit, rm_outcome outcome, void *user) {
    (void)permit, (void)outcome, (void)user;
}

TEST(pool, keeps_copies_of_its_settings) {
    world w;
    char name[48];
    rm_guard guard = {admit_all, report_none, NULL};
    rm_pool_desc got;
    rm_env env;
    world_start(&w, 1);
    env = w.env;
    memset(name, 'n', 47);
    name[47] = '\0';
    w.desc.name = name;
    w.desc.guard = &guard;
    w.desc.env = &env;
    REQUIRE(world_open(&w));
    memset(name, 0, sizeof name);
    memset(&guard, 0, sizeof guard);
    memset(&env, 0, sizeof env);
    memset(&w.desc, 0, sizeof w.desc);
    REQUIRE(rm_pool_desc_get(w.pool, &got) == RM_OK);
    CHECK_EQ(47, strlen(got.name));
    CHECK(got.env->clock == &w.clock);
    CHECK(got.guard->admit_fn == admit_all && got.guard->report_fn == report_none);
    CHECK(got.user == &w);
    world_end(&w);
}

/* A setting of one field, or a change that takes more than a number. */
typedef struct setting {
    const char *word;
    size_t at, size;
    int64_t value;
    void (*spoil)(rm_pool_desc *desc, rm_env *env, rm_guard *guard, int64_t value);
} setting;

#define FIELD(name, value) \
    { #name, offsetof(rm_pool_desc, name), sizeof((rm_pool_desc *)0)->name, value, NULL }

static void setting_make(const setting *s, rm_pool_desc *desc, rm_env *env, rm_guard *guard) {
    const uint32_t small = (uint32_t)s->value;
    if (s->spoil != NULL)
        s->spoil(desc, env, guard, s->value);
    else
        memcpy((char *)desc + s->at, s->size == 4 ? (const void *)&small : &s->value, s->size);
}

static void spoil_create(rm_pool_desc *desc, rm_env *env, rm_guard *guard, int64_t value) {
    (void)env, (void)guard, (void)value;
    desc->create_fn = NULL;
}

static void spoil_name(rm_pool_desc *desc, rm_env *env, rm_guard *guard, int64_t value) {
    static char name[64];
    (void)env, (void)guard;
    memset(name, 'n', (size_t)value);
    name[value] = '\0';
    desc->name = name;
}

static void spoil_guard(rm_pool_desc *desc, rm_env *env, rm_guard *guard, int64_t value) {
    (void)env;
    if (value == 0) guard->admit_fn = NULL;
    if (value == 1) guard->report_fn = NULL;
    desc->guard = guard;
}

static void spoil_env(rm_pool_desc *desc, rm_env *env, rm_guard *guard, int64_t value) {
    static const rm_allocator half = {NULL, NULL, NULL};
    (void)guard, (void)value;
    env->allocator = &half;
    desc->env = env;
}

TEST(pool, refuses_bad_settings_by_name) {
    static const setting bad[] = {{"create_fn", 0, 0, 0, spoil_create},
                                  {"name", 0, 0, 0, spoil_name},
                                  {"name", 0, 0, 48, spoil_name},
                                  FIELD(max, 65536),
                                  FIELD(max, UINT32_MAX),
                                  FIELD(min_idle, 11),
                                  FIELD(min_idle, UINT32_MAX),
                                  FIELD(acquire_timeout_ns, -3),
                                  FIELD(acquire_timeout_ns, INT64_MIN),
                                  FIELD(idle_timeout_ns, RM_NOWAIT),
                                  FIELD(idle_timeout_ns, RM_FOREVER),
                                  FIELD(idle_timeout_ns, RM_STRICT),
                                  FIELD(idle_timeout_ns, INT64_MIN),
                                  FIELD(validate_after_ns, RM_NOWAIT),
                                  FIELD(validate_after_ns, INT64_MIN),
                                  FIELD(barge_ns, RM_NONE),
                                  FIELD(barge_ns, INT64_MIN),
                                  {"guard", 0, 0, 0, spoil_guard},
                                  {"guard", 0, 0, 1, spoil_guard},
                                  {"env.allocator", 0, 0, 0, spoil_env}};
    size_t i;
    for (i = 0; i < sizeof bad / sizeof *bad; ++i) {
        world w;
        rm_pool *pool = NULL;
        rm_guard guard = {admit_all, report_none, NULL};
        rm_error error;
        rm_env env;
        const bool too_long = bad[i].spoil == spoil_name && bad[i].value > 47;
        const rm_status status = too_long ? RM_E_TOO_LARGE : RM_E_INVALID;
        world_start(&w, 10);
        env = w.env;
        setting_make(&bad[i], &w.desc, &env, &guard);
        memset(&error, 0, sizeof error);
        CHECK_EQ(status, rm_pool_create(&w.desc, &pool, &error));
        CHECK_EQ(status, error.status);
        CHECK_STR(bad[i].word, error.where);
        CHECK(pool == NULL);
        CHECK_EQ(status, rm_pool_create(&w.desc, &pool, NULL));
        rm_virtual_clock_destroy(&w.time);
    }
}

TEST(pool, accepts_settings_at_their_limits) {
    static const setting good[] = {{"name", 0, 0, 47, spoil_name},
                                   FIELD(max, 1),
                                   FIELD(max, 65535),
                                   FIELD(min_idle, 10),
                                   FIELD(acquire_timeout_ns, RM_NOWAIT),
                                   FIELD(acquire_timeout_ns, RM_FOREVER),
                                   FIELD(acquire_timeout_ns, INT64_MAX),
                                   FIELD(idle_timeout_ns, RM_NONE),
                                   FIELD(idle_timeout_ns, INT64_MAX),
                                   FIELD(validate_after_ns, RM_STRICT),
                                   FIELD(validate_after_ns, 1),
                                   FIELD(validate_after_ns, INT64_MAX),
                                   FIELD(barge_ns, RM_STRICT),
                                   FIELD(barge_ns, INT64_MAX),
                                   {"guard", 0, 0, 2, spoil_guard}};
    size_t i;
    for (i = 0; i < sizeof good / sizeof *good; ++i) {
        world w;
        rm_lease lease;
        rm_guard guard = {admit_all, report_none, NULL};
        world_start(&w, 10);
        setting_make(&good[i], &w.desc, &w.env, &guard);
        REQUIRE(world_open(&w));
        CHECK_EQ(RM_OK, take_for(&w, 0, &lease));
        give(&w, &lease, RM_RELEASE_OK);
        CHECK_EQ(RM_OK, maintain(&w));
        world_end(&w);
    }
}

/* Past the time for which a thread goes back to the slot it had. */
static void forget_the_slot(world *w) {
    pass(w, RM_MS(10));
}

TEST(pool, lends_the_lowest_idle_slot_and_makes_only_without_one) {
    world w;
    rm_lease lease[4], again;
    uint32_t i;
    REQUIRE(world_plain(&w, 4));
    for (i = 0; i < 4; ++i) {
        CHECK_EQ(RM_OK, take(&w, &lease[i]));
        CHECK_EQ(i, lease[i].slot);
    }
    give(&w, &lease[3], RM_RELEASE_OK);
    give(&w, &lease[1], RM_RELEASE_OK);
    give(&w, &lease[2], RM_RELEASE_OK);
    for (i = 1; i < 4; ++i) {
        forget_the_slot(&w);
        CHECK_EQ(RM_OK, take(&w, &lease[i]));
        CHECK_EQ(i, lease[i].slot);
        CHECK_EQ(i + 1, number_of(&lease[i]));
    }
    give(&w, &lease[0], RM_RELEASE_BROKEN); /* an empty slot below an idle one */
    give(&w, &lease[2], RM_RELEASE_OK);
    CHECK_EQ(RM_OK, take(&w, &again));
    CHECK_EQ(2, again.slot);
    CHECK_EQ(4, w.created);
    CHECK_EQ(RM_OK, take(&w, &lease[0]));
    CHECK_EQ(0, lease[0].slot);
    CHECK_EQ(5, number_of(&lease[0]));
    give(&w, &again, RM_RELEASE_OK);
    for (i = 0; i < 4; ++i)
        if (i != 2) give(&w, &lease[i], RM_RELEASE_OK);
    world_end(&w);
}

/* ---- waiting ---- */

TEST(pool, serves_waiters_in_the_order_of_their_coming) {
    static const int64_t policies[] = {RM_STRICT, RM_US(50)};
    size_t p;
    for (p = 0; p < 2; ++p) {
        world w;
        caller c[6];
        rm_lease lease, other;
        uint32_t i, order = 0;
        world_start(&w, 1);
        w.desc.barge_ns = policies[p];
        memset(c, 0, sizeof c);
        REQUIRE(world_open(&w));
        CHECK_EQ(RM_OK, take(&w, &lease));
        for (i = 0; i < 6; ++i) {
            c[i].order = &order;
            c[i].gives_back = true;
            caller_go(&c[i], &w, RM_FOREVER, i + 1);
        }
        CHECK_EQ(6, stats_of(&w).waiting);
        CHECK_EQ(RM_E_BUSY, take(&w, &other));
        give(&w, &lease, RM_RELEASE_OK);
        for (i = 0; i < 6; ++i) {
            CHECK_EQ(RM_OK, caller_join(&c[i]));
            CHECK_EQ(i + 1, c[i].place);
        }
        CHECK_EQ(6, stats_of(&w).waits);
        CHECK_EQ(1, w.created);
        world_end(&w);
    }
}

TEST(pool, hands_over_to_a_head_that_has_waited_long_enough) {
    static const int64_t policies[] = {RM_STRICT, RM_US(50)};
    size_t p;
    for (p = 0; p < 2; ++p) {
        world w;
        caller c;
        rm_lease lease, other;
        rm_pool_stats s;
        world_start(&w, 1);
        w.desc.barge_ns = policies[p];
        REQUIRE(world_open(&w));
        CHECK_EQ(RM_OK, take(&w, &lease));
        caller_queue(&c, &w, RM_FOREVER, 1);
        if (policies[p] != RM_STRICT) pass(&w, RM_US(50));
        give(&w, &lease, RM_RELEASE_OK);
        CHECK_EQ(RM_E_BUSY, take(&w, &other)); /* it is the head's already */
        s = stats_of(&w); /* one snapshot: the head may check it, or use it already */
        CHECK_EQ(1, s.in_use + s.checking);
        caller_served(&c);
        world_end(&w);
    }
}

/* The queue's lock, held here, stops the hand-over between giving back and granting. */
TEST(pool, lets_no_newcomer_overtake_a_head_that_has_waited_long_enough) {
    world w;
    caller c;
    job back;
    rm_lease lease, other;
    world_start(&w, 1);
    w.desc.barge_ns = RM_STRICT;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease));
    caller_queue(&c, &w, RM_FOREVER, 1);
    rm_waitq_lock(&w.pool->queue);
    job_start_release(&back, &w, &lease, RM_RELEASE_OK);
    while (rmi_pool_counted(w.pool).states[RMI_SLOT_IDLE] == 0)
        relax();
    CHECK_EQ(RM_E_BUSY, rm_pool_acquire(w.pool, RM_NOWAIT, &other, NULL));
    rm_waitq_unlock(&w.pool->queue);
    CHECK_EQ(RM_OK, job_join(&back));
    caller_served(&c);
    world_end(&w);
}

TEST(pool, gives_up_at_its_deadline_and_not_before) {
    world w;
    caller c;
    rm_lease lease;
    rm_pool_stats s;
    REQUIRE(world_plain(&w, 1));
    CHECK_EQ(RM_OK, take(&w, &lease));
    caller_queue(&c, &w, RM_MS(10), 1);
    pass(&w, RM_MS(10) - 1);
    CHECK_EQ(1, stats_of(&w).waiting);
    CHECK_EQ(0, GET(c.finished));
    pass(&w, 1);
    CHECK_EQ(RM_E_TIMEOUT, caller_join(&c));
    CHECK_EQ(RM_E_TIMEOUT, c.error.status);
    CHECK(c.lease.resource == NULL);
    s = stats_of(&w);
    CHECK_EQ(1, s.waits);
    CHECK_EQ(1, s.timeouts);
    CHECK_EQ(0, s.waiting);
    CHECK_EQ(1, s.acquired);
    CHECK_EQ(RM_MS(10), s.wait_max_ns); /* a wait that timed out is a wait */
    CHECK_EQ(RM_MS(10), s.wait_p99_ns);
    CHECK_EQ(RM_MS(10), s.wait_p50_ns);
    give(&w, &lease, RM_RELEASE_OK);
    CHECK_EQ(1, stats_of(&w).idle);
    world_end(&w);
}

TEST(pool, gives_nothing_to_a_waiter_past_its_deadline) {
    static const int64_t policies[] = {RM_STRICT, RM_US(50)};
    size_t p;
    for (p = 0; p < 2; ++p) {
        world w;
        caller late, next;
        rm_lease lease;
        world_start(&w, 1);
        w.desc.barge_ns = policies[p];
        REQUIRE(world_open(&w));
        CHECK_EQ(RM_OK, take(&w, &lease));
        caller_queue(&late, &w, RM_MS(1), 1);
        caller_queue(&next, &w, RM_MS(100), 2);
        ADD(skew_ns, RM_MS(1)); /* its time is over, and it does not know yet */
        give(&w, &lease, RM_RELEASE_OK);
        CHECK_EQ(RM_E_TIMEOUT, caller_join(&late));
        CHECK_EQ(RM_OK, caller_join(&next));
        CHECK_EQ(2, stats_of(&w).acquired);
        give(&w, &next.lease, RM_RELEASE_OK);
        world_end(&w);
    }
}

TEST(pool, serves_those_in_time_among_many_who_are_not) {
    world w;
    caller c[32];
    rm_lease lease;
    uint32_t i, order = 0;
    memset(c, 0, sizeof c);
    REQUIRE(world_plain(&w, 1));
    CHECK_EQ(RM_OK, take(&w, &lease));
    for (i = 0; i < 32; ++i) {
        c[i].order = &order;
        c[i].gives_back = true;
        caller_go(&c[i], &w, i % 2 ? RM_FOREVER : RM_MS(1), i + 1);
    }
    ADD(skew_ns, RM_MS(1));
    give(&w, &lease, RM_RELEASE_OK);
    for (i = 1; i < 32; i += 2) {
        CHECK_EQ(RM_OK, caller_join(&c[i]));
        CHECK_EQ((i + 1) / 2, c[i].place);
    }
    for (i = 0; i < 32; i += 2)
        CHECK_EQ(RM_E_TIMEOUT, caller_join(&c[i]));
    CHECK_EQ(16, stats_of(&w).timeouts);
    CHECK_EQ(17, stats_of(&w).acquired);
    world_end(&w);
}

TEST(pool, waits_as_long_as_its_settings_say_when_the_caller_does_not) {
    world w;
    caller c;
    rm_lease lease, other;
    world_start(&w, 1);
    w.desc.acquire_timeout_ns = RM_MS(20);
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take_for(&w, 0, &lease));
    caller_queue(&c, &w, 0, 1);
    pass(&w, RM_MS(20) - 1);
    CHECK_EQ(1, stats_of(&w).waiting);
    pass(&w, 1);
    CHECK_EQ(RM_E_TIMEOUT, caller_join(&c));
    give(&w, &lease, RM_RELEASE_OK);
    world_end(&w);
    world_start(&w, 1);
    w.desc.acquire_timeout_ns = RM_NOWAIT;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take_for(&w, 0, &lease));
    CHECK_EQ(RM_E_BUSY, take_for(&w, 0, &other));
    give(&w, &lease, RM_RELEASE_OK);
    world_end(&w);
}

TEST(pool, says_busy_at_once_when_it_may_not_wait) {
    world w;
    rm_lease lease, other;
    rm_pool_stats s;
    REQUIRE(world_plain(&w, 1));
    CHECK_EQ(RM_OK, take(&w, &lease)); /* it may make one, though */
    CHECK_EQ(RM_E_BUSY, take(&w, &other));
    s = stats_of(&w);
    CHECK_EQ(0, s.waits);
    CHECK_EQ(0, s.timeouts);
    give(&w, &lease, RM_RELEASE_OK);
    world_end(&w);
}

TEST(pool, waits_for_ever_when_told_to) {
    static const int64_t timeouts[] = {RM_FOREVER, INT64_MAX};
    size_t i;
    for (i = 0; i < 2; ++i) {
        world w;
        caller c;
        rm_lease lease;
        REQUIRE(world_plain(&w, 1));
        CHECK_EQ(RM_OK, take(&w, &lease));
        caller_queue(&c, &w, timeouts[i], 1);
        pass(&w, RM_SEC(INT64_C(3600) * 24 * 365 * 100));
        CHECK_EQ(1, stats_of(&w).waiting);
        CHECK_EQ(0, GET(c.finished));
        give(&w, &lease, RM_RELEASE_OK);
        caller_served(&c);
        world_end(&w);
    }
}

TEST(pool, takes_a_deadline_instead_of_a_timeout) {
    world w;
    rm_lease lease, other;
    rm_deadline none = {0}, passed;
    rm_error error;
    REQUIRE(world_plain(&w, 1));
    memset(&other, 0, sizeof other);
    CHECK_EQ(RM_OK, rm_pool_acquire_until(w.pool, none, NULL, &lease, NULL));
    passed = rm_deadline_after(&w.clock, RM_NOWAIT);
    CHECK_EQ(RM_E_TIMEOUT, rm_pool_acquire_until(w.pool, passed, NULL, &other, &error));
    CHECK_EQ(RM_E_TIMEOUT, error.status);
    passed.at_ns = rm_now(&w.clock); /* this very nanosecond counts as passed */
    CHECK_EQ(RM_E_TIMEOUT, rm_pool_acquire_until(w.pool, passed, NULL, &other, NULL));
    CHECK(other.resource == NULL);
    CHECK_EQ(2, stats_of(&w).timeouts);
    CHECK_EQ(RM_OK, rm_pool_release(w.pool, &lease, RM_RELEASE_OK));
    CHECK_EQ(RM_E_TIMEOUT, rm_pool_acquire_until(w.pool, passed, NULL, &other, NULL)); /* idle */
    CHECK_EQ(3, stats_of(&w).timeouts);
    world_end(&w);
}

TEST(pool, ends_a_wait_that_is_cancelled) {
    world w;
    caller c, next;
    rm_cancel token;
    rm_lease lease;
    rm_error error;
    rm_deadline none = {0};
    memset(&c, 0, sizeof c);
    REQUIRE(world_plain(&w, 1));
    CHECK_EQ(RM_OK, rm_cancel_init(&token));
    CHECK_EQ(RM_OK, take(&w, &lease));
    c.cancel = &token;
    caller_go(&c, &w, RM_FOREVER, 1);
    caller_queue(&next, &w, RM_FOREVER, 2);
    rm_cancel_request(&token);
    CHECK_EQ(RM_E_CANCELLED, caller_join(&c));
    CHECK_EQ(RM_E_CANCELLED, c.error.status);
    CHECK_EQ(1, stats_of(&w).waiting);
    CHECK_EQ(0, stats_of(&w).timeouts);
    give(&w, &lease, RM_RELEASE_OK);
    caller_served(&next);
    memset(&lease, 0, sizeof lease); /* a token that was requested before gets nothing */
    CHECK_EQ(RM_E_CANCELLED, rm_pool_acquire_until(w.pool, none, &token, &lease, &error));
    CHECK_EQ(RM_E_CANCELLED, error.status);
    CHECK(lease.resource == NULL);
    CHECK_EQ(1, stats_of(&w).idle);
    CHECK_EQ(RM_OK, rm_cancel_destroy(&token));
    world_end(&w);
}

/* The token's lock, held here, stops the waiter between its try and its sleep. */
TEST(pool, keeps_a_wake_up_that_comes_before_the_sleep) {
    world w;
    caller c;
    rm_cancel token;
    rm_lease lease;
    memset(&c, 0, sizeof c);
    REQUIRE(world_plain(&w, 1));
    CHECK_EQ(RM_OK, rm_cancel_init(&token));
    CHECK_EQ(RM_OK, take(&w, &lease));
    rm_mutex_lock(&token.mutex);
    c.cancel = &token;
    caller_go(&c, &w, RM_SEC(1), 0);
    while (stats_of(&w).waiting == 0)
        relax();
    give(&w, &lease, RM_RELEASE_OK);
    rm_mutex_unlock(&token.mutex);
    while (!GET(c.finished)) {
        if (!CHECK(sleepers(&w) == 0)) pass(&w, RM_SEC(1));
    }
    CHECK_EQ(RM_OK, caller_join(&c));
    if (c.status == RM_OK) give(&w, &c.lease, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, rm_cancel_destroy(&token));
    world_end(&w);
}

TEST(pool, turns_away_who_would_be_one_waiter_too_many) {
    world w;
    caller c[2];
    rm_lease lease, other;
    rm_pool_stats s;
    world_start(&w, 1);
    w.desc.max_waiters = 2;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease));
    caller_queue(&c[0], &w, RM_FOREVER, 1);
    caller_queue(&c[1], &w, RM_FOREVER, 2);
    CHECK_EQ(RM_E_FULL, take_for(&w, RM_FOREVER, &other));
    CHECK_EQ(RM_E_BUSY, take(&w, &other));
    s = stats_of(&w);
    CHECK_EQ(1, s.refused);
    CHECK_EQ(2, s.waiting);
    CHECK_EQ(2, s.waits);
    give(&w, &lease, RM_RELEASE_OK);
    caller_served(&c[0]);
    caller_served(&c[1]);
    world_end(&w);
}

TEST(pool, says_in_a_timeout_what_is_going_on) {
    world w;
    rm_lease lease, other;
    rm_error error;
    rm_deadline passed;
    REQUIRE(world_plain(&w, 2));
    CHECK_EQ(RM_OK, take(&w, &lease));
    passed.at_ns = rm_now(&w.clock);
    CHECK_EQ(RM_E_TIMEOUT, rm_pool_acquire_until(w.pool, passed, NULL, &other, &error));
    CHECK_STR("db", error.where);
    CHECK(strstr(error.message, "1 in use") != NULL);
    CHECK(strstr(error.message, "0 idle") != NULL);
    CHECK(strstr(error.message, "0 creating") != NULL);
    CHECK(strstr(error.message, "0 waiting") != NULL);
    CHECK(strstr(error.message, "max 2") != NULL);
    CHECK_EQ(0, error.native);
    w.create_status = RM_E_REFUSED;
    w.create_says = "port 5432: nobody listens";
    CHECK_EQ(RM_E_REFUSED, take(&w, &other));
    pass(&w, RM_MS(7));
    CHECK_EQ(RM_E_TIMEOUT, rm_pool_acquire_until(w.pool, passed, NULL, &other, &error));
    CHECK(strstr(error.message, "1 in use") != NULL);
    CHECK(strstr(error.message, "max 2") != NULL);
    CHECK(strstr(error.message, "; 7 ms ago: port 5432: nobody listens") != NULL);
    CHECK_EQ(111, error.native);
    w.create_status = RM_OK; /* an error that is over explains nothing */
    fill(&w, 1);
    CHECK_EQ(RM_E_TIMEOUT, rm_pool_acquire_until(w.pool, passed, NULL, &other, &error));
    CHECK(strstr(error.message, "nobody listens") == NULL);
    CHECK_EQ(0, error.native);
    give(&w, &lease, RM_RELEASE_OK);
    world_end(&w);
}

static char said[160]; /* to who asked while a resource was checked */

static void ask_beside_a_check(world *w) {
    rm_lease other;
    rm_error error;
    CHECK_EQ(RM_E_BUSY, rm_pool_acquire(w->pool, RM_NOWAIT, &other, &error));
    copy(said, sizeof said, error.message);
}

TEST(pool, says_that_what_is_not_there_is_checked) {
    world w;
    rm_lease lease;
    world_start(&w, 1);
    w.desc.validate_fn = thing_validate;
    w.desc.validate_after_ns = RM_STRICT;
    REQUIRE(world_open(&w));
    fill(&w, 1);
    w.inside_all = ask_beside_a_check;
    CHECK_EQ(RM_OK, take(&w, &lease));
    w.inside_all = NULL;
    CHECK_STR("no resource: 0 in use, 0 idle, 0 creating, 1 checking, 0 closing, 0 waiting, max 1",
              said);
    give(&w, &lease, RM_RELEASE_OK);
    world_end(&w);
}

/* The head goes away, by its token or its deadline, in the moment that its unit comes. */
TEST(pool, passes_on_what_came_for_a_waiter_that_is_going) {
    world w;
    uint32_t round;
    REQUIRE(world_plain(&w, 1));
    for (round = 0; round < 300; ++round) {
        caller head, next;
        job back;
        rm_cancel token;
        rm_lease lease;
        memset(&head, 0, sizeof head);
        memset(&next, 0, sizeof next);
        CHECK_EQ(RM_OK, rm_cancel_init(&token));
        REQUIRE(take(&w, &lease) == RM_OK);
        head.cancel = &token;
        head.gives_back = next.gives_back = true;
        caller_go(&head, &w, RM_MS(1), 1);
        caller_go(&next, &w, RM_FOREVER, 2);
        job_start_release(&back, &w, &lease, RM_RELEASE_OK);
        if (round % 2 == 0)
            rm_cancel_request(&token);
        else
            pass(&w, RM_MS(1));
        CHECK_EQ(RM_OK, job_join(&back));
        (void)caller_join(&head);
        CHECK(head.status == RM_OK ||
              head.status == (round % 2 == 0 ? RM_E_CANCELLED : RM_E_TIMEOUT));
        CHECK_EQ(RM_OK, caller_join(&next));
        CHECK_EQ(RM_OK, rm_cancel_destroy(&token));
    }
    world_end(&w);
}

/* The head is woken, and cancelled before it runs: its wake-up must not count as in flight. */
TEST(pool, forgets_the_wake_up_of_a_waiter_that_was_cancelled) {
    world w;
    uint32_t round, i;
    REQUIRE(world_plain(&w, 1));
    for (round = 0; round < 50; ++round) {
        caller c[3];
        rm_cancel token;
        rm_lease lease;
        memset(c, 0, sizeof c);
        CHECK_EQ(RM_OK, rm_cancel_init(&token));
        REQUIRE(take(&w, &lease) == RM_OK);
        c[0].cancel = &token;
        for (i = 0; i < 3; ++i)
            caller_go(&c[i], &w, RM_FOREVER, i + 1);
        give(&w, &lease, RM_RELEASE_OK);
        rm_cancel_request(&token);
        if (caller_join(&c[0]) == RM_OK) give(&w, &c[0].lease, RM_RELEASE_OK);
        for (i = 1; i < 3; ++i) {
            caller_served(&c[i]);
        }
        CHECK_EQ(RM_OK, rm_cancel_destroy(&token));
    }
    world_end(&w);
}

/* ---- creating ---- */

TEST(pool, passes_on_why_a_resource_could_not_be_made) {
    world w;
    rm_lease lease;
    rm_error error;
    REQUIRE(world_plain(&w, 2));
    w.create_status = RM_E_AUTH;
    w.create_says = "password refused";
    CHECK_EQ(RM_E_AUTH, rm_pool_acquire(w.pool, RM_NOWAIT, &lease, &error));
    CHECK_EQ(RM_E_AUTH, error.status);
    CHECK_EQ(111, error.native);
    CHECK_STR("server", error.where);
    CHECK_STR("password refused", error.message);
    CHECK_EQ(RM_E_AUTH, rm_pool_acquire(w.pool, RM_NOWAIT, &lease, NULL));
    w.create_says = NULL; /* a hook that says nothing */
    CHECK_EQ(RM_E_AUTH, rm_pool_acquire(w.pool, RM_NOWAIT, &lease, &error));
    CHECK_EQ(RM_E_AUTH, error.status);
    CHECK_STR("db", error.where);
    CHECK(strstr(error.message, "RM_E_AUTH") != NULL);
    CHECK_EQ(2, stats_of(&w).empty);
    CHECK_EQ(3, stats_of(&w).create_failures);
    CHECK_EQ(0, stats_of(&w).acquired);
    world_end(&w);
}

static rm_status create_nothing(void **resource, rm_deadline deadline, rm_error *error,
                                void *user) {
    (void)resource, (void)deadline, (void)error, (void)user;
    return RM_OK;
}

static rm_status create_and_fail(void **resource, rm_deadline deadline, rm_error *error,
                                 void *user) {
    static int something;
    (void)deadline, (void)user;
    *resource = &something;
    (void)rm_error_set(error, RM_E_AUTH, 0, "test", "another status than it returns");
    return RM_E_REFUSED;
}

TEST(pool, fails_when_a_create_brings_no_resource) {
    world w;
    rm_lease lease;
    rm_error error;
    world_start(&w, 1);
    w.desc.create_fn = create_nothing;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_E_FAILED, rm_pool_acquire(w.pool, RM_NOWAIT, &lease, &error));
    CHECK_STR("create_fn returned RM_OK without a resource", error.message);
    CHECK_EQ(0, error.native);
    CHECK_EQ(1, stats_of(&w).empty);
    CHECK_EQ(1, stats_of(&w).create_failures);
    CHECK_EQ(RM_OK, rm_pool_destroy(w.pool));
    w.desc.create_fn = create_and_fail; /* what it wrote is not looked at */
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_E_REFUSED, rm_pool_acquire(w.pool, RM_NOWAIT, &lease, &error));
    CHECK_EQ(RM_E_REFUSED, error.status);
    CHECK_EQ(1, stats_of(&w).empty);
    CHECK_EQ(RM_OK, rm_pool_destroy(w.pool));
    CHECK_EQ(0, w.destroyed);
    rm_virtual_clock_destroy(&w.time);
}

TEST(pool, loses_no_slot_whichever_create_fails) {
    uint32_t fails, i;
    for (fails = 1; fails <= 8; ++fails) {
        world w;
        rm_lease lease[4];
        uint32_t errors = 0;
        world_start(&w, 4);
        w.desc.validate_fn = thing_validate;
        w.desc.validate_after_ns = RM_STRICT;
        w.create_fails_at = fails;
        REQUIRE(world_open(&w));
        for (i = 0; i < 4; ++i)
            errors += take(&w, &lease[i]) == RM_E_REFUSED;
        for (i = 0; i < 4; ++i)
            if (lease[i].resource != NULL)
                give(&w, &lease[i], i % 2 ? RM_RELEASE_BROKEN : RM_RELEASE_OK);
        w.validate_status = RM_E_FAILED; /* what is left is replaced in place */
        for (i = 0; i < 4; ++i)
            errors += take(&w, &lease[i]) == RM_E_REFUSED;
        CHECK_EQ(1, errors);
        CHECK_EQ(4, stats_of(&w).in_use + stats_of(&w).empty);
        w.validate_status = RM_OK;
        for (i = 0; i < 4; ++i)
            if (lease[i].resource == NULL) CHECK_EQ(RM_OK, take(&w, &lease[i]));
        CHECK_EQ(4, stats_of(&w).in_use);
        for (i = 0; i < 4; ++i)
            give(&w, &lease[i], RM_RELEASE_OK);
        world_end(&w);
    }
}

TEST(pool, serves_the_next_waiter_when_a_create_fails) {
    world w;
    caller first, next;
    gate g;
    REQUIRE(world_plain(&w, 1));
    gate_init(&g);
    w.create_fails_at = 1;
    w.next_create = &g;
    caller_start(&first, &w, RM_FOREVER);
    gate_await(&g, 1);
    CHECK_EQ(1, stats_of(&w).creating);
    caller_queue(&next, &w, RM_FOREVER, 1);
    gate_open(&g);
    CHECK_EQ(RM_E_REFUSED, caller_join(&first));
    caller_served(&next);
    gate_done(&g);
    world_end(&w);
}

TEST(pool, tells_every_caller_that_nothing_can_be_made) {
    world w;
    caller c[8];
    uint32_t i;
    REQUIRE(world_plain(&w, 2));
    w.create_status = RM_E_REFUSED;
    for (i = 0; i < 8; ++i)
        caller_start(&c[i], &w, RM_FOREVER);
    for (i = 0; i < 8; ++i) {
        CHECK_EQ(RM_E_REFUSED, caller_join(&c[i]));
        CHECK_EQ(RM_E_REFUSED, c[i].error.status);
    }
    CHECK_EQ(2, stats_of(&w).empty);
    CHECK_EQ(8, w.creates);
    CHECK(w.live_most <= 2);
    world_end(&w);
}

/* Who may wait goes on to another server; a try hears of the first that fails. */
TEST(pool, goes_on_to_another_endpoint_when_a_create_fails) {
    uint32_t tries, broken;
    for (tries = 0; tries < 2; ++tries) {
        for (broken = 1; broken <= 2; ++broken) { /* of the two */
            world w;
            rm_lease lease;
            const rm_pool_endpoint endpoints[] = {{"one", NULL, &w}, {"two", NULL, &w}};
            const rm_status status = tries != 0 || broken == 2 ? RM_E_REFUSED : RM_OK;
            world_start(&w, 2);
            w.desc.endpoints = endpoints;
            w.desc.endpoint_count = 2;
            w.desc.create_backoff_ns = RM_SEC(1);
            w.desc.event_fn = world_event;
            if (broken == 2) w.create_status = RM_E_REFUSED;
            w.create_fails_at = 1;
            REQUIRE(world_open(&w));
            CHECK_EQ(status, take_for(&w, tries != 0 ? RM_NOWAIT : RM_SEC(1), &lease));
            CHECK_EQ(tries != 0 ? 1 : 2, w.creates);
            CHECK_EQ(RM_POOL_EVENT_CREATE_FAILED, w.notes[0].kind);
            CHECK_STR("one", w.notes[0].endpoint);
            if (tries == 0) CHECK_STR("two", w.notes[1].endpoint);
            if (status == RM_OK) give(&w, &lease, RM_RELEASE_OK);
            world_end(&w);
        }
    }
}

static void five_seconds(world *w) {
    (void)w;
    ADD(skew_ns, RM_SEC(5));
}

/* What the check takes is of the time that the acquire has. */
TEST(pool, makes_another_in_the_time_that_the_check_has_left) {
    world w;
    rm_lease lease;
    world_start(&w, 1);
    w.desc.validate_fn = thing_validate;
    if (!CHECK(world_open(&w))) return;
    CHECK_EQ(RM_OK, rm_pool_acquire(w.pool, 0, &lease, NULL));
    CHECK_EQ(RM_OK, rm_pool_release(w.pool, &lease, RM_RELEASE_OK));
    ADD(skew_ns, RM_SEC(60));
    w.validate_status = RM_E_FAILED;
    w.inside_all = five_seconds;
    const int64_t begins = w.clock.now_fn(w.clock.user);
    CHECK_EQ(RM_OK, rm_pool_acquire(w.pool, RM_SEC(7), &lease, NULL));
    CHECK_EQ(begins + RM_SEC(7), w.deadline.at_ns);
    w.inside_all = NULL;
    CHECK_EQ(RM_OK, rm_pool_release(w.pool, &lease, RM_RELEASE_OK));
    world_end(&w);
}

/* From one end of int64_t to the other, an age does not fit. */
TEST(pool, tells_an_age_that_no_number_holds) {
    world w;
    rm_lease lease;
    rm_error error;
    world_start(&w, 1);
    if (!CHECK(world_open(&w))) return;
    skew_ns = -RM_SEC(1000) - RM_SEC(1); /* one second before the zero of the clock */
    w.create_status = RM_E_REFUSED;
    CHECK_EQ(RM_E_REFUSED, rm_pool_acquire(w.pool, RM_SEC(1), &lease, &error));
    skew_ns = INT64_MAX - RM_SEC(1000);
    rm_pool_close(w.pool, RM_NOWAIT, NULL);
    CHECK_EQ(RM_E_CLOSED, rm_pool_acquire(w.pool, RM_NOWAIT, &lease, &error));
    world_end(&w);
}

TEST(pool, makes_a_resource_with_the_deadline_of_its_acquire) {
    world w;
    caller c;
    rm_lease lease;
    rm_deadline deadline = {RM_SEC(5000)};
    world_start(&w, 1);
    w.desc.acquire_timeout_ns = RM_SEC(3);
    w.desc.min_idle = 1;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take_for(&w, 0, &lease));
    CHECK_EQ(RM_SEC(1003), w.deadline.at_ns);
    give(&w, &lease, RM_RELEASE_BROKEN);
    CHECK_EQ(RM_OK, take_for(&w, RM_MS(5), &lease));
    CHECK_EQ(RM_SEC(1000) + RM_MS(5), w.deadline.at_ns);
    give(&w, &lease, RM_RELEASE_BROKEN);
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK_EQ(RM_SEC(1003), w.deadline.at_ns); /* a try does not wait, but making takes time */
    give(&w, &lease, RM_RELEASE_BROKEN);
    CHECK_EQ(RM_OK, rm_pool_acquire_until(w.pool, rm_deadline_after(&w.clock, RM_NOWAIT), NULL,
                                          &lease, NULL));
    CHECK_EQ(RM_SEC(1003), w.deadline.at_ns);
    CHECK_EQ(RM_OK, rm_pool_release(w.pool, &lease, RM_RELEASE_BROKEN));
    CHECK_EQ(RM_OK, take_for(&w, RM_FOREVER, &lease));
    CHECK_EQ(RM_FOREVER, rm_deadline_left(&w.clock, w.deadline));
    give(&w, &lease, RM_RELEASE_BROKEN);
    CHECK_EQ(RM_OK, rm_pool_acquire_until(w.pool, deadline, NULL, &lease, NULL));
    CHECK_EQ(RM_SEC(5000), w.deadline.at_ns);
    caller_queue(&c, &w, RM_SEC(60), 1); /* time that was spent waiting is not given twice */
    pass(&w, RM_SEC(20));
    CHECK_EQ(RM_OK, rm_pool_release(w.pool, &lease, RM_RELEASE_BROKEN));
    CHECK_EQ(RM_OK, caller_join(&c));
    CHECK_EQ(RM_SEC(1060), w.deadline.at_ns);
    give(&w, &c.lease, RM_RELEASE_BROKEN);
    CHECK_EQ(RM_OK, rm_pool_maintain(w.pool, 0, deadline, NULL));
    CHECK_EQ(RM_SEC(5000), w.deadline.at_ns);
    world_end(&w);
}

/* Whichever hook hangs, others get their resources, and the hanging one counts towards max. */
TEST(pool, is_held_up_by_no_slow_hook) {
    uint32_t hook;
    for (hook = 0; hook < 4; ++hook) {
        world w;
        caller c;
        job back;
        gate g;
        rm_lease lease, other, third;
        rm_pool_stats s;
        world_start(&w, 2);
        w.desc.validate_fn = thing_validate;
        w.desc.validate_after_ns = RM_STRICT;
        w.desc.reset_fn = thing_reset;
        REQUIRE(world_open(&w));
        gate_init(&g);
        CHECK_EQ(RM_OK, take(&w, &lease));
        if (hook == 1) give(&w, &lease, RM_RELEASE_OK);
        SET(w.next_create, hook == 0 ? &g : NULL);
        SET(w.next_validate, hook == 1 ? &g : NULL);
        SET(w.next_reset, hook == 2 ? &g : NULL);
        SET(w.next_destroy, hook == 3 ? &g : NULL);
        if (hook < 2) {
            caller_start(&c, &w, RM_FOREVER);
        } else {
            job_start_release(&back, &w, &lease, hook == 3 ? RM_RELEASE_BROKEN : RM_RELEASE_OK);
        }
        gate_await(&g, 1);
        s = stats_of(&w);
        CHECK_EQ(hook == 0, s.creating);
        CHECK_EQ(hook == 1 || hook == 2, s.checking);
        CHECK_EQ(hook == 3, s.closing);
        CHECK_EQ(hook == 0, s.in_use);
        if (hook == 0) give(&w, &lease, RM_RELEASE_OK);
        CHECK_EQ(RM_OK, take(&w, &other)); /* the other slot works */
        CHECK_EQ(RM_E_BUSY, take(&w, &third));
        give(&w, &other, RM_RELEASE_OK);
        CHECK_EQ(RM_OK, take(&w, &other));
        give(&w, &other, RM_RELEASE_BROKEN);
        CHECK_EQ(RM_OK, maintain(&w));
        gate_open(&g);
        if (hook < 2) {
            caller_served(&c);
        } else {
            CHECK_EQ(RM_OK, job_join(&back));
        }
        CHECK(w.live_most <= 2);
        gate_done(&g);
        world_end(&w);
    }
}

TEST(pool, gives_a_waiter_the_slot_of_a_resource_that_broke) {
    world w;
    caller c;
    rm_lease lease;
    REQUIRE(world_plain(&w, 1));
    CHECK_EQ(RM_OK, take(&w, &lease));
    caller_queue(&c, &w, RM_FOREVER, 1);
    give(&w, &lease, RM_RELEASE_BROKEN);
    CHECK_EQ(RM_OK, caller_join(&c));
    CHECK_EQ(2, number_of(&c.lease));
    CHECK_EQ(1, w.live_most);
    give(&w, &c.lease, RM_RELEASE_OK);
    world_end(&w);
}

/* ---- checking and resetting ---- */

TEST(pool, checks_every_time_when_strict) {
    world w;
    rm_lease lease;
    uint32_t i;
    world_start(&w, 1);
    w.desc.validate_fn = thing_validate;
    w.desc.validate_after_ns = RM_STRICT;
    REQUIRE(world_open(&w));
    for (i = 0; i < 5; ++i) {
        CHECK_EQ(RM_OK, take(&w, &lease));
        CHECK_EQ(i, w.validates);
        give(&w, &lease, RM_RELEASE_OK);
    }
    world_end(&w);
}

TEST(pool, empties_the_slot_when_a_replacement_cannot_be_made) {
    world w;
    rm_lease lease;
    world_start(&w, 1);
    w.desc.validate_fn = thing_validate;
    w.desc.validate_after_ns = RM_STRICT;
    REQUIRE(world_open(&w));
    fill(&w, 1);
    w.validate_status = RM_E_FAILED;
    w.create_fails_at = 2;
    CHECK_EQ(RM_E_REFUSED, take(&w, &lease));
    CHECK_EQ(1, stats_of(&w).empty);
    CHECK_EQ(1, stats_of(&w).acquired);
    CHECK_EQ(1, stats_of(&w).ended[RM_POOL_CAUSE_INVALID]);
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK_EQ(2, stats_of(&w).acquired);
    give(&w, &lease, RM_RELEASE_OK);
    world_end(&w);
}

TEST(pool, destroys_what_cannot_be_reset) {
    world w;
    rm_lease lease;
    world_start(&w, 1);
    w.desc.reset_fn = thing_reset;
    REQUIRE(world_open(&w));
    fill(&w, 1);
    CHECK_EQ(1, w.resets);
    CHECK_EQ(1, stats_of(&w).idle);
    w.reset_status = RM_E_PROTOCOL;
    CHECK_EQ(RM_OK, take(&w, &lease));
    give(&w, &lease, RM_RELEASE_OK); /* that it broke is the pool's business */
    CHECK_EQ(2, w.resets);
    CHECK_EQ(1, w.destroyed);
    CHECK_EQ(1, stats_of(&w).empty);
    CHECK_EQ(1, stats_of(&w).ended[RM_POOL_CAUSE_RESET]);
    CHECK_EQ(RM_OK, take(&w, &lease));
    give(&w, &lease, RM_RELEASE_BROKEN); /* not reset first */
    CHECK_EQ(2, w.resets);
    CHECK_EQ(1, stats_of(&w).ended[RM_POOL_CAUSE_BROKEN]);
    world_end(&w);
}

/* ---- leases ---- */

TEST(pool, tells_a_second_release_and_a_stale_copy) {
    world w;
    rm_lease lease, copy, old;
    REQUIRE(world_plain(&w, 1));
    CHECK_EQ(RM_OK, take(&w, &lease));
    copy = old = lease;
    give(&w, &lease, RM_RELEASE_OK);
    CHECK_EQ(RM_E_STALE, rm_pool_release(w.pool, &lease, RM_RELEASE_OK));
    CHECK_EQ(RM_E_STALE, rm_pool_release(w.pool, &copy, RM_RELEASE_BROKEN));
    CHECK(copy.resource != NULL);      /* left alone */
    CHECK_EQ(RM_OK, take(&w, &lease)); /* the same slot, another lease */
    CHECK_EQ(RM_E_STALE, rm_pool_release(w.pool, &old, RM_RELEASE_BROKEN));
    CHECK_EQ(1, stats_of(&w).in_use);
    CHECK_EQ(0, w.destroyed);
    copy = lease;
    give(&w, &lease, RM_RELEASE_BROKEN);
    CHECK_EQ(RM_E_STALE, rm_pool_release(w.pool, &copy, RM_RELEASE_OK));
    CHECK_EQ(RM_OK, take(&w, &lease)); /* the same slot, another resource */
    CHECK_EQ(RM_E_STALE, rm_pool_release(w.pool, &copy, RM_RELEASE_OK));
    give(&w, &lease, RM_RELEASE_OK);
    world_end(&w);
}

TEST(pool, tells_another_pools_lease) {
    world w, v;
    rm_lease lease, other, copy;
    REQUIRE(world_plain(&w, 1));
    REQUIRE(world_plain(&v, 1));
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK_EQ(RM_OK, take(&v, &other));
    CHECK_EQ(RM_E_FOREIGN, rm_pool_release(v.pool, &lease, RM_RELEASE_BROKEN));
    CHECK_EQ(RM_E_FOREIGN, rm_pool_release(w.pool, &other, RM_RELEASE_BROKEN));
    copy = lease;
    copy.slot = 1; /* there is only one */
    CHECK_EQ(RM_E_FOREIGN, rm_pool_release(w.pool, &copy, RM_RELEASE_BROKEN));
    CHECK_EQ(1, stats_of(&w).in_use);
    CHECK_EQ(1, stats_of(&v).in_use);
    give(&w, &lease, RM_RELEASE_OK);
    give(&v, &other, RM_RELEASE_OK);
    world_end(&w);
    world_end(&v);
}

TEST(pool, is_not_harmed_by_forged_leases) {
    world w;
    rm_lease lease;
    uint32_t i, byte;
    REQUIRE(world_plain(&w, 3));
    CHECK_EQ(RM_OK, take(&w, &lease));
    fill(&w, 1);
    for (i = 0; i < 100000; ++i) {
        rm_lease forged = lease;
        unsigned char *bytes = (unsigned char *)&forged;
        rm_status status;
        if (i % 2 == 0) {
            for (byte = 0; byte < sizeof forged; ++byte)
                bytes[byte] = (unsigned char)rm_rng_next(&w.rng);
        } else {
            byte = (uint32_t)offsetof(rm_lease, sequence) +
                   (uint32_t)rm_rng_next(&w.rng) %
                       (uint32_t)(sizeof forged - offsetof(rm_lease, sequence));
            bytes[byte] = (unsigned char)rm_rng_next(&w.rng);
            if (memcmp(&forged, &lease, sizeof forged) == 0) continue;
            if (rmi_slot_word(forged.sequence, 0) == rmi_slot_word(lease.sequence, 0) &&
                forged.slot == lease.slot && forged.pool == lease.pool)
                continue; /* only bits above the word differ */
        }
        status = rm_pool_release(w.pool, &forged, i % 3 ? RM_RELEASE_OK : RM_RELEASE_BROKEN);
        CHECK(status == RM_E_STALE || status == RM_E_FOREIGN);
    }
    CHECK_EQ(1, stats_of(&w).in_use);
    CHECK_EQ(1, stats_of(&w).idle);
    CHECK_EQ(0, w.destroyed);
    give(&w, &lease, RM_RELEASE_OK);
    world_end(&w);
}

static void release_copy(void *user) {
    job *j = (job *)user;
    rm_lease copy = *j->lease;
    j->status = rm_pool_release(j->w->pool, &copy, j->how);
}

TEST(pool, lets_one_of_two_releases_at_the_same_time_win) {
    world w;
    uint32_t round;
    REQUIRE(world_plain(&w, 1));
    for (round = 0; round < 200; ++round) {
        job a, b;
        rm_lease lease;
        memset(&a, 0, sizeof a);
        memset(&b, 0, sizeof b);
        REQUIRE(rm_pool_acquire(w.pool, RM_NOWAIT, &lease, NULL) == RM_OK);
        a.lease = b.lease = &lease;
        b.how = RM_RELEASE_BROKEN;
        job_go(&a, &w, release_copy);
        job_go(&b, &w, release_copy);
        (void)job_join(&a);
        (void)job_join(&b);
        CHECK(a.status != b.status);
        CHECK_EQ(RM_E_STALE, a.status == RM_OK ? b.status : a.status);
    }
    world_end(&w);
}

TEST(pool, hands_overflow_to_one_who_has_just_begun_to_wait) {
    world w;
    rm_lease lease[2];
    caller c;
    world_start(&w, 1);
    w.desc.overflow = 1;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease[0]));
    CHECK_EQ(RM_OK, take(&w, &lease[1]));
    caller_queue(&c, &w, RM_FOREVER, 1);
    give(&w, &lease[1], RM_RELEASE_OK); /* not ended, for another to be made */
    CHECK_EQ(RM_OK, caller_join(&c));
    CHECK_EQ(0, w.destroyed);
    give(&w, &c.lease, RM_RELEASE_OK);
    CHECK_EQ(1, w.destroyed);
    give(&w, &lease[0], RM_RELEASE_OK);
    CHECK_EQ(2, w.created);
    world_end(&w);
}

TEST(pool, lends_nothing_evicted_that_a_sweep_has_not_come_to) {
    world w;
    rm_lease lease;
    REQUIRE(world_plain(&w, 1));
    CHECK_EQ(1, borrow(&w));
    w.pool->slots[0].epoch = RMI_EPOCH_EVICTED; /* as rm_pool_evict does */
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK_EQ(2, number_of(&lease));
    CHECK_EQ(1, stats_of(&w).ended[RM_POOL_CAUSE_EVICTED]);
    give(&w, &lease, RM_RELEASE_OK);
    world_end(&w);
}

TEST(pool, takes_the_short_way_where_nobody_is_asked_or_told) {
    uint32_t i;
    world w;
    REQUIRE(world_plain(&w, 1));
    CHECK(w.pool->direct && w.pool->plain);
    world_end(&w);
    for (i = 0; i < 4; ++i) {
        world_start(&w, 1);
        w.desc.time_uses = i == 0;
        w.desc.validate_on_release = i == 1;
        if (i == 2) w.desc.reset_fn = thing_reset;
        if (i == 3) w.desc.event_fn = world_event;
        REQUIRE(world_open(&w));
        CHECK(w.pool->direct && !w.pool->plain);
        world_end(&w);
    }
}

/* ---- upkeep ---- */

TEST(pool, ends_what_is_idle_for_too_long) {
    world w;
    rm_lease lease[4];
    uint32_t i;
    world_start(&w, 4);
    w.desc.idle_timeout_ns = RM_SEC(60);
    REQUIRE(world_open(&w));
    for (i = 0; i < 4; ++i)
        CHECK_EQ(RM_OK, take(&w, &lease[i]));
    for (i = 0; i < 3; ++i)
        give(&w, &lease[i], RM_RELEASE_OK);
    pass(&w, RM_SEC(60) - 1);
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(0, stats_of(&w).ended[RM_POOL_CAUSE_IDLE]);
    CHECK_EQ(RM_OK, take(&w, &lease[0])); /* used again: its time begins anew */
    give(&w, &lease[0], RM_RELEASE_OK);
    pass(&w, 1);
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(2, stats_of(&w).ended[RM_POOL_CAUSE_IDLE]);
    CHECK_EQ(2, w.destroyed);
    CHECK_EQ(1, stats_of(&w).idle);
    CHECK_EQ(1, stats_of(&w).in_use); /* what is used is not idle, however long */
    pass(&w, RM_SEC(3600));
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(3, stats_of(&w).ended[RM_POOL_CAUSE_IDLE]);
    CHECK_EQ(1, stats_of(&w).in_use);
    give(&w, &lease[3], RM_RELEASE_OK);
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(3, stats_of(&w).ended[RM_POOL_CAUSE_IDLE]);
    CHECK_EQ(4, w.created);
    world_end(&w);
}

TEST(pool, counts_the_idle_time_of_what_was_never_used_from_its_birth) {
    const rm_deadline never = {0};
    world w;
    REQUIRE(world_plain(&w, 2));
    CHECK_EQ(RM_OK, rm_pool_prewarm(w.pool, 1, never, NULL, NULL));
    pass(&w, RM_MINUTES(10) - 1);
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(1, stats_of(&w).idle);
    pass(&w, 1);
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(0, stats_of(&w).idle);
    world_end(&w);
}

TEST(pool, never_ends_what_is_idle_when_told_so) {
    world w;
    world_start(&w, 1);
    w.desc.idle_timeout_ns = RM_NONE;
    REQUIRE(world_open(&w));
    fill(&w, 1);
    pass(&w, INT64_MAX / 2);
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(1, stats_of(&w).idle);
    world_end(&w);
}

TEST(pool, keeps_its_minimum_without_closing_and_reopening) {
    world w;
    rm_lease lease[5];
    uint32_t i;
    world_start(&w, 5);
    w.desc.min_idle = 2;
    w.desc.idle_timeout_ns = RM_SEC(60);
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(2, w.created);
    CHECK_EQ(2, stats_of(&w).idle);
    CHECK_EQ(0, stats_of(&w).acquired);
    for (i = 0; i < 5; ++i)
        CHECK_EQ(RM_OK, take(&w, &lease[i]));
    CHECK_EQ(5, w.created);
    for (i = 0; i < 5; ++i)
        give(&w, &lease[i], RM_RELEASE_OK);
    for (i = 0; i < 10; ++i) {
        pass(&w, RM_SEC(60));
        CHECK_EQ(RM_OK, maintain(&w));
        CHECK_EQ(2, stats_of(&w).idle);
    }
    CHECK_EQ(5, w.created);
    CHECK_EQ(3, w.destroyed);
    CHECK_EQ(RM_OK, take(&w, &lease[0])); /* the warm ones are those that stayed */
    CHECK_EQ(0, lease[0].slot);
    give(&w, &lease[0], RM_RELEASE_BROKEN);
    CHECK_EQ(RM_OK, maintain(&w)); /* what broke is made again */
    CHECK_EQ(2, stats_of(&w).idle);
    CHECK_EQ(6, w.created);
    world_end(&w);
}

TEST(pool, counts_what_is_closing_as_gone_when_others_expire) {
    world w;
    job back;
    gate g;
    rm_lease lease[3];
    uint32_t i;
    world_start(&w, 3);
    w.desc.min_idle = 2;
    w.desc.idle_timeout_ns = RM_SEC(60);
    REQUIRE(world_open(&w));
    gate_init(&g);
    for (i = 0; i < 3; ++i)
        CHECK_EQ(RM_OK, take(&w, &lease[i]));
    give(&w, &lease[0], RM_RELEASE_OK);
    give(&w, &lease[1], RM_RELEASE_OK);
    pass(&w, RM_SEC(60));
    SET(w.next_destroy, &g);
    job_start_release(&back, &w, &lease[2], RM_RELEASE_BROKEN);
    gate_await(&g, 1);
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(2, stats_of(&w).idle);
    CHECK_EQ(0, stats_of(&w).ended[RM_POOL_CAUSE_IDLE]);
    gate_open(&g);
    CHECK_EQ(RM_OK, job_join(&back));
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(3, w.created);
    gate_done(&g);
    world_end(&w);
}

TEST(pool, takes_what_maintaining_made_for_fresh) {
    world w;
    rm_lease lease;
    world_start(&w, 2);
    w.desc.min_idle = 1;
    w.desc.validate_fn = thing_validate;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK_EQ(1, number_of(&lease));
    CHECK_EQ(0, w.validates);
    give(&w, &lease, RM_RELEASE_OK);
    world_end(&w);
}

TEST(pool, stops_maintaining_at_the_first_failed_create) {
    world w;
    rm_error error;
    rm_deadline none = {0};
    world_start(&w, 4);
    w.desc.min_idle = 3;
    REQUIRE(world_open(&w));
    w.create_fails_at = 2;
    w.create_says = "no route";
    CHECK_EQ(RM_E_REFUSED, rm_pool_maintain(w.pool, 0, none, &error));
    CHECK_STR("no route", error.message);
    CHECK_EQ(2, w.creates);
    CHECK_EQ(1, stats_of(&w).idle);
    CHECK_EQ(3, stats_of(&w).empty);
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(3, stats_of(&w).idle);
    world_end(&w);
}

TEST(pool, is_maintained_by_one_thread_at_a_time) {
    world w;
    job first;
    gate g;
    rm_lease lease;
    world_start(&w, 2);
    w.desc.min_idle = 1;
    REQUIRE(world_open(&w));
    gate_init(&g);
    w.next_create = &g;
    job_start(&first, &w, job_maintain);
    gate_await(&g, 1);
    CHECK_EQ(RM_E_BUSY, maintain(&w));
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK_EQ(1, lease.slot);
    give(&w, &lease, RM_RELEASE_OK);
    gate_open(&g);
    CHECK_EQ(RM_OK, job_join(&first));
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(2, w.created);
    gate_done(&g);
    world_end(&w);
}

TEST(pool, serves_a_waiter_with_what_maintaining_makes) {
    world w;
    job first;
    caller c;
    gate g;
    world_start(&w, 1);
    w.desc.min_idle = 1;
    REQUIRE(world_open(&w));
    gate_init(&g);
    w.next_create = &g;
    job_start(&first, &w, job_maintain);
    gate_await(&g, 1);
    caller_queue(&c, &w, RM_FOREVER, 1);
    gate_open(&g);
    CHECK_EQ(RM_OK, job_join(&first));
    CHECK_EQ(RM_OK, caller_join(&c));
    CHECK_EQ(1, number_of(&c.lease));
    give(&w, &c.lease, RM_RELEASE_OK);
    gate_done(&g);
    world_end(&w);
}

/* ---- closing ---- */

TEST(pool, ends_idle_resources_and_waits_when_closed) {
    world w;
    caller c[3];
    rm_lease lease[2], other;
    rm_error error;
    uint32_t i;
    REQUIRE(world_plain(&w, 2));
    CHECK_EQ(RM_OK, take(&w, &lease[0]));
    CHECK_EQ(RM_OK, take(&w, &lease[1]));
    for (i = 0; i < 3; ++i)
        caller_queue(&c[i], &w, RM_FOREVER, i + 1);
    CHECK_EQ(RM_E_BUSY, rm_pool_close(w.pool, RM_NOWAIT, &error));
    CHECK_EQ(RM_E_BUSY, error.status);
    CHECK_STR("db", error.where);
    CHECK(strstr(error.message, "but 2 resources are still out") != NULL);
    for (i = 0; i < 3; ++i) {
        CHECK_EQ(RM_E_CLOSED, caller_join(&c[i]));
        CHECK_EQ(RM_E_CLOSED, c[i].error.status);
    }
    CHECK_EQ(RM_E_CLOSED, take(&w, &other));
    CHECK_EQ(RM_E_CLOSED, take_for(&w, RM_FOREVER, &other));
    CHECK_EQ(RM_E_CLOSED, maintain(&w));
    give(&w, &lease[0], RM_RELEASE_OK); /* too late to be kept */
    CHECK_EQ(1, w.destroyed);
    CHECK_EQ(RM_E_BUSY, rm_pool_close(w.pool, RM_NOWAIT, NULL));
    CHECK_EQ(RM_E_BUSY, rm_pool_destroy(w.pool)); /* closed and not freed */
    give(&w, &lease[1], RM_RELEASE_OK);
    CHECK_EQ(2, stats_of(&w).empty);
    CHECK_EQ(0, stats_of(&w).ended[RM_POOL_CAUSE_BROKEN]);
    CHECK_EQ(0, stats_of(&w).timeouts);
    world_end(&w);
}

TEST(pool, ends_idle_ones_at_once_when_closed) {
    world w;
    REQUIRE(world_plain(&w, 3));
    fill(&w, 3);
    CHECK_EQ(RM_OK, rm_pool_close(w.pool, RM_NOWAIT, NULL));
    CHECK_EQ(3, w.destroyed);
    CHECK_EQ(RM_OK, rm_pool_close(w.pool, 0, NULL)); /* as often as you like */
    CHECK_EQ(3, w.destroyed);
    world_end(&w);
}

TEST(pool, waits_for_its_leases_when_closed) {
    world w;
    job closing[2];
    rm_lease lease[2];
    REQUIRE(world_plain(&w, 2));
    CHECK_EQ(RM_OK, take(&w, &lease[0]));
    CHECK_EQ(RM_OK, take(&w, &lease[1]));
    job_start_close(&closing[0], &w, RM_FOREVER); /* two that close get the same answer */
    job_start_close(&closing[1], &w, RM_FOREVER);
    rm_virtual_clock_await(&w.time, 2);
    give(&w, &lease[0], RM_RELEASE_OK);
    CHECK_EQ(0, GET(closing[0].finished) + GET(closing[1].finished));
    give(&w, &lease[1], RM_RELEASE_BROKEN);
    CHECK_EQ(RM_OK, job_join(&closing[0]));
    CHECK_EQ(RM_OK, job_join(&closing[1]));
    world_end(&w);
}

TEST(pool, can_be_closed_again_after_a_timeout) {
    static const int64_t timeouts[] = {RM_SEC(1), 0}; /* 0 = 8 s */
    static const int64_t waits[] = {RM_SEC(1), RM_SEC(8)};
    size_t i;
    for (i = 0; i < 2; ++i) {
        world w;
        job closing;
        rm_lease lease;
        REQUIRE(world_plain(&w, 3));
        CHECK_EQ(RM_OK, take(&w, &lease));
        job_start_close(&closing, &w, timeouts[i]);
        rm_virtual_clock_await(&w.time, 1);
        pass(&w, waits[i] - 1);
        CHECK_EQ(1, sleepers(&w));
        CHECK_EQ(0, GET(closing.finished));
        pass(&w, 1);
        CHECK_EQ(RM_E_TIMEOUT, job_join(&closing));
        CHECK_EQ(RM_E_TIMEOUT, closing.error.status);
        CHECK(strstr(closing.error.message, "1 resources are still out") != NULL);
        job_start_close(&closing, &w, timeouts[i]);
        rm_virtual_clock_await(&w.time, 1);
        give(&w, &lease, RM_RELEASE_OK);
        CHECK_EQ(RM_OK, job_join(&closing));
        world_end(&w);
    }
}

TEST(pool, waits_for_a_create_that_is_under_way_when_closed) {
    world w;
    caller c;
    job closing;
    gate g;
    REQUIRE(world_plain(&w, 1));
    gate_init(&g);
    w.next_create = &g;
    caller_start(&c, &w, RM_FOREVER);
    gate_await(&g, 1);
    CHECK_EQ(RM_E_BUSY, rm_pool_close(w.pool, RM_NOWAIT, NULL));
    CHECK_EQ(RM_E_BUSY, rm_pool_destroy(w.pool));
    job_start_close(&closing, &w, RM_FOREVER);
    rm_virtual_clock_await(&w.time, 1);
    gate_open(&g);
    CHECK_EQ(RM_E_CLOSED, caller_join(&c));
    CHECK_EQ(RM_E_CLOSED, c.error.status);
    CHECK_EQ(RM_OK, job_join(&closing));
    CHECK_EQ(1, w.created); /* made, and ended at once */
    CHECK_EQ(1, w.destroyed);
    CHECK_EQ(0, stats_of(&w).acquired);
    gate_done(&g);
    world_end(&w);
}

TEST(pool, waits_for_a_release_that_is_under_way_when_closed) {
    uint32_t hook;
    for (hook = 0; hook < 2; ++hook) {
        world w;
        job back, closing;
        gate g;
        rm_lease lease;
        world_start(&w, 1);
        w.desc.reset_fn = thing_reset;
        REQUIRE(world_open(&w));
        gate_init(&g);
        CHECK_EQ(RM_OK, take(&w, &lease));
        if (hook == 0)
            w.next_reset = &g;
        else
            w.next_destroy = &g;
        job_start_release(&back, &w, &lease, hook == 0 ? RM_RELEASE_OK : RM_RELEASE_BROKEN);
        gate_await(&g, 1);
        job_start_close(&closing, &w, RM_FOREVER);
        rm_virtual_clock_await(&w.time, 1);
        gate_open(&g);
        CHECK_EQ(RM_OK, job_join(&back));
        CHECK_EQ(RM_OK, job_join(&closing));
        CHECK_EQ(1, w.destroyed);
        gate_done(&g);
        world_end(&w);
    }
}

/* The release looked at the pool, found it open, and is stopped there. */
TEST(pool, ends_what_is_given_back_while_it_closes) {
    world w;
    job back;
    gate g;
    rm_lease lease;
    REQUIRE(world_plain(&w, 1));
    gate_init(&g);
    CHECK_EQ(RM_OK, take(&w, &lease));
    SET(next_stamp, &g);
    job_start_release(&back, &w, &lease, RM_RELEASE_OK);
    gate_await(&g, 1);
    CHECK_EQ(RM_E_BUSY, rm_pool_close(w.pool, RM_NOWAIT, NULL));
    gate_open(&g);
    CHECK_EQ(RM_OK, job_join(&back));
    CHECK_EQ(1, w.destroyed);
    CHECK_EQ(1, stats_of(&w).empty);
    gate_done(&g);
    world_end(&w);
}

static void close_inside(world *w) {
    if (w->depth++ == 0) CHECK_EQ(RM_E_BUSY, rm_pool_close(w->pool, RM_NOWAIT, NULL));
}

TEST(pool, makes_nothing_once_it_is_closed) {
    world w;
    rm_lease lease[2];
    world_start(&w, 2);
    w.desc.min_idle = 1;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease[0]));
    CHECK_EQ(RM_OK, take(&w, &lease[1]));
    give(&w, &lease[0], RM_RELEASE_OK);
    give(&w, &lease[1], RM_RELEASE_OK);
    pass(&w, RM_MINUTES(10));
    w.inside_all = close_inside; /* the destroy hook of what expires closes the pool */
    CHECK_EQ(RM_E_CLOSED, maintain(&w));
    CHECK_EQ(2, w.creates);
    CHECK_EQ(2, w.destroyed);
    world_end(&w);
}

TEST(pool, destroys_both_queues_or_none) {
    world w;
    world_start(&w, 1);
    REQUIRE(world_open(&w));
    ++w.pool->drain.inside; /* as if a thread were on its way out of rm_pool_close */
    CHECK_EQ(RM_E_BUSY, rm_pool_destroy(w.pool));
    if (CHECK(rm_mutex_try_lock(&w.pool->queue.mutex))) rm_mutex_unlock(&w.pool->queue.mutex);
    CHECK_EQ(RM_E_BUSY, rm_pool_destroy(w.pool));
    --w.pool->drain.inside;
    ++w.pool->queue.inside;
    CHECK_EQ(RM_E_BUSY, rm_pool_destroy(w.pool));
    --w.pool->queue.inside;
    CHECK_EQ(RM_OK, rm_pool_destroy(w.pool));
    rm_virtual_clock_destroy(&w.time);
}

/* ---- closing the pools of many keys */

typedef struct visitor {
    rm_pools *pools;
    const char *key; /* NULL: it closes them all */
    rm_pools_lease lease;
    rm_status status;
    rm_thread thread;
} visitor;

static void visitor_run(void *user) {
    visitor *v = (visitor *)user;
    const rm_deadline never = {0};
    if (v->key == NULL)
        v->status = rm_pools_close(v->pools, RM_FOREVER, NULL);
    else
        v->status = rm_pools_acquire(v->pools, v->key, 1, never, NULL, &v->lease, NULL);
}

static bool is_waited_for(rm_pool *pool) {
    bool waits;
    rm_waitq_lock(&pool->drain);
    waits = pool->drain.head != NULL;
    rm_waitq_unlock(&pool->drain);
    return waits;
}

/* While the close waits for one key, nobody is served under another. */
TEST(pool, closes_all_keys_before_it_waits_for_one) {
    world w;
    rm_pools_desc desc;
    visitor holders[2], waiters[2], closer;
    uint32_t i, last;
    world_start(&w, 1);
    memset(&desc, 0, sizeof desc);
    memset(holders, 0, sizeof holders);
    memset(&closer, 0, sizeof closer);
    desc.pool = w.desc;
    REQUIRE(rm_pools_create(&desc, &closer.pools, NULL) == RM_OK);
    for (i = 0; i < 2; ++i) {
        holders[i].pools = closer.pools;
        holders[i].key = &"ab"[i];
        waiters[i] = holders[i];
        visitor_run(&holders[i]);
        REQUIRE(holders[i].status == RM_OK);
        CHECK_EQ(RM_OK, rm_thread_start(&waiters[i].thread, visitor_run, &waiters[i]));
        rm_virtual_clock_await(&w.time, i + 1);
    }
    CHECK_EQ(RM_OK, rm_thread_start(&closer.thread, visitor_run, &closer));
    while (!is_waited_for(holders[0].lease.pool) && !is_waited_for(holders[1].lease.pool))
        relax();
    last = is_waited_for(holders[0].lease.pool) ? 0 : 1;
    CHECK_EQ(RM_OK, rm_pools_release(closer.pools, &holders[1 - last].lease, RM_RELEASE_OK));
    for (i = 0; i < 2; ++i) {
        rm_thread_join(&waiters[i].thread);
        if (!CHECK_EQ(RM_E_CLOSED, waiters[i].status))
            (void)rm_pools_release(closer.pools, &waiters[i].lease, RM_RELEASE_OK);
    }
    CHECK_EQ(RM_OK, rm_pools_release(closer.pools, &holders[last].lease, RM_RELEASE_OK));
    rm_thread_join(&closer.thread);
    CHECK_EQ(RM_OK, closer.status);
    CHECK_EQ(2, w.destroyed);
    CHECK_EQ(RM_OK, rm_pools_destroy(closer.pools));
    rm_mutex_destroy(&w.mutex);
    rm_virtual_clock_destroy(&w.time);
}

/* ---- the guard ---- */

static watch watched;
static uint32_t watched_permits[1 << 14]; /* too large for a stack */

static const rm_guard *watch_start(void) {
    const rm_guard *guard = watch_init(&watched);
    memset(watched_permits, 0, sizeof watched_permits);
    watched.reported = watched_permits;
    watched.room = sizeof watched_permits / sizeof *watched_permits;
    return guard;
}

TEST(pool, reports_how_a_lease_ended_to_its_guard) {
    world w;
    rm_lease lease, copy;
    world_start(&w, 1);
    w.desc.guard = watch_start();
    w.desc.reset_fn = thing_reset;
    w.desc.validate_fn = thing_validate;
    w.desc.validate_after_ns = RM_STRICT;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK_EQ(1, watched.admitted);
    CHECK_REPORTS(watched, 0, 0, 0); /* not before it is over */
    copy = lease;
    give(&w, &lease, RM_RELEASE_OK);
    CHECK_REPORTS(watched, 1, 0, 0);
    CHECK_EQ(RM_E_STALE, rm_pool_release(w.pool, &copy, RM_RELEASE_OK));
    CHECK_REPORTS(watched, 1, 0, 0);
    CHECK_EQ(RM_OK, take(&w, &lease));
    give(&w, &lease, RM_RELEASE_BROKEN);
    CHECK_REPORTS(watched, 1, 1, 0);
    CHECK_EQ(RM_OK, take(&w, &lease));
    w.reset_status = RM_E_FAILED;
    give(&w, &lease, RM_RELEASE_OK); /* its use was fine */
    CHECK_REPORTS(watched, 2, 1, 0);
    w.reset_status = RM_OK;
    fill(&w, 1);
    w.validate_status = RM_E_FAILED;
    CHECK_EQ(RM_OK, take(&w, &lease)); /* replaced in place */
    CHECK_REPORTS(watched, 3, 1, 0);
    give(&w, &lease, RM_RELEASE_OK);
    CHECK_REPORTS(watched, 4, 1, 0);
    w.create_status = RM_E_REFUSED;
    CHECK_EQ(RM_E_REFUSED, take(&w, &lease)); /* neither checked nor replaced */
    CHECK_REPORTS(watched, 4, 2, 0);
    CHECK_EQ(watched.admitted, watched.ok + watched.failures + watched.ignored);
    world_end(&w);
}

TEST(pool, reports_a_failed_create_to_its_guard_whatever_its_status) {
    world w;
    rm_lease lease;
    uint32_t status, count = 0;
    world_start(&w, 1);
    w.desc.guard = watch_start();
    REQUIRE(world_open(&w));
    for (status = RM_OK + 1; status <= RM_E_INTERNAL; ++status) {
        w.create_status = (rm_status)status;
        CHECK_EQ(status, take(&w, &lease));
        CHECK_REPORTS(watched, 0, ++count, 0);
    }
    world_end(&w);
}

TEST(pool, reports_a_wait_without_a_result_as_neither) {
    world w;
    caller c, d;
    gate g;
    rm_cancel token;
    rm_lease lease, other;
    rm_deadline none = {0};
    world_start(&w, 2);
    w.desc.guard = watch_start();
    w.desc.max_waiters = 1;
    memset(&c, 0, sizeof c);
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, rm_cancel_init(&token));
    gate_init(&g);
    CHECK_EQ(RM_OK, take(&w, &lease));
    SET(w.next_create, &g);
    caller_start(&d, &w, RM_FOREVER); /* in the other slot */
    gate_await(&g, 1);
    CHECK_EQ(RM_E_BUSY, take(&w, &other));
    CHECK_REPORTS(watched, 0, 0, 1);
    caller_go(&c, &w, RM_MS(1), 1);
    CHECK_EQ(RM_E_FULL, take_for(&w, RM_FOREVER, &other));
    CHECK_REPORTS(watched, 0, 0, 2);
    pass(&w, RM_MS(1));
    CHECK_EQ(RM_E_TIMEOUT, caller_join(&c));
    CHECK_REPORTS(watched, 0, 0, 3);
    c.cancel = &token;
    caller_go(&c, &w, RM_FOREVER, 1);
    rm_cancel_request(&token);
    CHECK_EQ(RM_E_CANCELLED, caller_join(&c));
    CHECK_REPORTS(watched, 0, 0, 4);
    CHECK_EQ(RM_E_CANCELLED, rm_pool_acquire_until(w.pool, none, &token, &other, NULL));
    CHECK_EQ(RM_E_INVALID, rm_pool_acquire(w.pool, RM_STRICT, &other, NULL));
    CHECK_EQ(6, watched.admitted); /* these two did not even ask */
    c.cancel = NULL;
    caller_go(&c, &w, RM_FOREVER, 1);
    CHECK_EQ(RM_E_BUSY, rm_pool_close(w.pool, RM_NOWAIT, NULL));
    CHECK_EQ(RM_E_CLOSED, caller_join(&c));
    CHECK_REPORTS(watched, 0, 0, 5);
    gate_open(&g);
    CHECK_EQ(RM_E_CLOSED, caller_join(&d)); /* made, but for a closed pool */
    CHECK_REPORTS(watched, 0, 0, 6);
    CHECK_EQ(RM_E_CLOSED, take(&w, &other));
    CHECK_REPORTS(watched, 0, 0, 7);
    give(&w, &lease, RM_RELEASE_OK); /* late, but well */
    CHECK_REPORTS(watched, 1, 0, 7);
    CHECK_EQ(watched.admitted, watched.ok + watched.failures + watched.ignored);
    CHECK_EQ(RM_OK, rm_cancel_destroy(&token));
    gate_done(&g);
    world_end(&w);
}

TEST(pool, is_turned_away_by_its_guard) {
    world w;
    rm_lease lease;
    rm_error error;
    world_start(&w, 1);
    w.desc.guard = watch_start();
    REQUIRE(world_open(&w));
    watched.refuses = watched.says = true;
    CHECK_EQ(RM_E_REJECTED, rm_pool_acquire(w.pool, RM_FOREVER, &lease, &error));
    CHECK_EQ(RM_E_REJECTED, error.status);
    CHECK_EQ(7, error.native);
    CHECK_STR("breaker", error.where);
    watched.says = false;
    CHECK_EQ(RM_E_REJECTED, take_for(&w, RM_FOREVER, &lease)); /* which looks at the error */
    CHECK_EQ(RM_E_REJECTED, rm_pool_acquire(w.pool, RM_FOREVER, &lease, NULL));
    CHECK_EQ(3, stats_of(&w).rejected);
    CHECK_EQ(0, w.creates);
    CHECK_EQ(0, watched.ok + watched.failures + watched.ignored);
    watched.refuses = false;
    fill(&w, 1);
    world_end(&w);
}

/* ---- the pool as a resource: why it is not healthy ---- */

static rm_error failure; /* of the next creates; its status is RM_OK when they succeed */

static rm_status create_as_told(void **resource, rm_deadline deadline, rm_error *error,
                                void *user) {
    world *w = (world *)user;
    if (failure.status == RM_OK) return thing_create(resource, deadline, error, user);
    ADD(w->creates, 1);
    *error = failure;
    return failure.status;
}

/* A pool of `max` whose creates fail as `failure` says. */
static bool world_failing(world *w, uint32_t max) {
    world_start(w, max);
    w->desc.create_fn = create_as_told;
    memset(&failure, 0, sizeof failure);
    return world_open(w);
}

static void fails_with(world *w, rm_status status, int32_t native, const char *message) {
    rm_lease lease;
    (void)rm_error_set(&failure, status, native, "wire", "%s", message);
    CHECK_EQ(status, take(w, &lease));
}

static void check_health(world *w, rm_health health, const rm_error *expected) {
    const rm_resource resource = rm_pool_resource(w->pool);
    rm_error reason;
    memset(&reason, 77, sizeof reason); /* left by whoever asked before */
    CHECK_EQ(health, resource.health_fn(resource.user, &reason));
    if (expected == NULL) return;
    CHECK_EQ(expected->status, reason.status);
    CHECK_EQ(expected->native, reason.native);
    CHECK_STR(expected->where, reason.where);
    CHECK_STR(expected->message, reason.message);
}

TEST(pool, shows_the_latest_cause_until_it_is_over) {
    world w;
    rm_lease lease;
    REQUIRE(world_failing(&w, 1));
    check_health(&w, RM_HEALTH_HEALTHY, NULL);
    fails_with(&w, RM_E_REFUSED, 111, "nobody listens");
    check_health(&w, RM_HEALTH_DEGRADED, &failure);
    fails_with(&w, RM_E_AUTH, -9, "password refused");
    check_health(&w, RM_HEALTH_DEGRADED, &failure);
    failure.status = RM_OK;
    CHECK_EQ(RM_OK, take(&w, &lease));
    check_health(&w, RM_HEALTH_HEALTHY, NULL);
    give(&w, &lease, RM_RELEASE_BROKEN);
    check_health(&w, RM_HEALTH_HEALTHY, NULL);
    w.create_status = RM_E_TIMEOUT; /* one that says nothing shows nothing from before */
    CHECK_EQ(RM_E_TIMEOUT, take(&w, &lease));
    (void)rm_error_set(&failure, RM_E_TIMEOUT, 0, "db", "create_fn failed: RM_E_TIMEOUT");
    check_health(&w, RM_HEALTH_DEGRADED, &failure);
    world_end(&w);
}

TEST(pool, shows_the_worst_of_what_is_wrong) {
    world w;
    gate g;
    caller c[2];
    rm_error closed;
    gate_init(&g);
    REQUIRE(world_failing(&w, 1));
    fails_with(&w, RM_E_REFUSED, 111, "nobody listens");
    const rm_error refused = failure;
    failure.status = RM_OK;
    SET(w.next_create, &g);
    caller_start(&c[0], &w, RM_FOREVER); /* is at it, so the last create is still the failed one */
    gate_await(&g, 1);
    caller_queue(&c[1], &w, RM_FOREVER, 1); /* waiting alone would be RM_E_BUSY */
    check_health(&w, RM_HEALTH_DEGRADED, &refused);
    CHECK_EQ(RM_E_BUSY, rm_pool_close(w.pool, RM_NOWAIT, NULL));
    (void)rm_error_set(&closed, RM_E_CLOSED, 0, "db", "the pool is closed");
    check_health(&w, RM_HEALTH_UNHEALTHY, &closed);
    gate_open(&g);
    CHECK_EQ(RM_E_CLOSED, caller_join(&c[0]));
    CHECK_EQ(RM_E_CLOSED, caller_join(&c[1]));
    world_end(&w);
    gate_done(&g);
}

TEST(pool, shows_a_long_cause_whole_and_quotes_what_fits_of_it) {
    world w;
    rm_error error;
    rm_lease lease, other;
    const char *quote;
    char text[sizeof error.message + 2] = "1"; /* and 79 characters of two bytes: 159 */
    const rm_deadline passed = {1};
    for (int i = 0; i < 79; ++i)
        strcat(text, "\xC3\xA9");
    REQUIRE(world_failing(&w, 2));
    CHECK_EQ(RM_OK, take(&w, &lease));
    fails_with(&w, RM_E_REFUSED, 111, "nobody listens");
    pass(&w, RM_SEC(5));
    fails_with(&w, RM_E_AUTH, -9, text);
    CHECK_STR(text, failure.message);
    check_health(&w, RM_HEALTH_DEGRADED, &failure);
    pass(&w, RM_MS(7));
    CHECK_EQ(RM_E_TIMEOUT, rm_pool_acquire_until(w.pool, passed, NULL, &other, &error));
    CHECK_EQ(-9, error.native);
    quote = strstr(error.message, "; 7 ms ago: ");
    if (CHECK(quote != NULL)) {
        quote += strlen("; 7 ms ago: ");
        CHECK_EQ(1, strlen(quote) % 2); /* no half of a character */
        CHECK(strncmp(quote, text, strlen(quote)) == 0);
        CHECK(strlen(error.message) >= sizeof error.message - 2);
    }
    give(&w, &lease, RM_RELEASE_OK);
    world_end(&w);
}

TEST(pool, starts_and_stops_with_a_manager) {
    world w;
    rm_lease lease;
    rm_manager *manager = NULL;
    rm_resource resource;
    rm_errors errors;
    world_start(&w, 3);
    w.desc.min_idle = 2;
    REQUIRE(world_open(&w));
    resource = rm_pool_resource(w.pool);
    REQUIRE(rm_manager_create(NULL, &manager, NULL) == RM_OK);
    CHECK_EQ(RM_OK, rm_manager_add(manager, &resource, NULL));
    CHECK_EQ(RM_OK, rm_manager_start(manager, RM_FOREVER, &errors));
    CHECK_EQ(2, stats_of(&w).idle);
    fill(&w, 1);
    CHECK_EQ(RM_OK, rm_manager_stop(manager, RM_FOREVER, &errors));
    CHECK_EQ(2, w.destroyed);
    CHECK_EQ(RM_E_CLOSED, take(&w, &lease));
    CHECK_EQ(RM_OK, rm_manager_destroy(manager));
    world_end(&w);
}

TEST(pool, starts_again_after_a_manager_has_stopped_it) {
    world w;
    rm_manager *manager = NULL;
    rm_manager_desc desc;
    rm_resource resource;
    rm_errors errors;
    rm_lease lease;
    REQUIRE(world_plain(&w, 2));
    memset(&desc, 0, sizeof desc);
    desc.env = &w.env;
    resource = rm_pool_resource(w.pool);
    REQUIRE(rm_manager_create(&desc, &manager, NULL) == RM_OK);
    CHECK_EQ(RM_OK, rm_manager_add(manager, &resource, NULL));
    CHECK_EQ(RM_OK, rm_manager_start(manager, 0, &errors));
    CHECK_EQ(RM_OK, rm_pool_acquire(w.pool, RM_NOWAIT, &lease, NULL));
    CHECK_EQ(RM_E_BUSY, rm_manager_stop(manager, RM_NOWAIT, &errors)); /* one is out */
    CHECK_EQ(RM_E_BUSY, resource.start_fn(resource.user, rm_deadline_after(NULL, 1), NULL));
    CHECK_EQ(RM_OK, rm_pool_release(w.pool, &lease, RM_RELEASE_OK));
    CHECK_EQ(RM_OK, rm_manager_stop(manager, 0, &errors));
    CHECK_EQ(RM_E_CLOSED, rm_pool_acquire(w.pool, RM_NOWAIT, &lease, NULL));
    CHECK_EQ(RM_OK, rm_manager_start(manager, 0, &errors));
    CHECK_EQ(RM_OK, rm_pool_acquire(w.pool, 0, &lease, NULL));
    CHECK_EQ(RM_OK, rm_pool_release(w.pool, &lease, RM_RELEASE_OK));
    CHECK_EQ(RM_OK, rm_manager_stop(manager, 0, &errors));
    CHECK_EQ(RM_OK, rm_manager_destroy(manager));
    world_end(&w);
}

TEST(pool, starts_beside_a_timer_but_not_without_its_minimum) {
    world w;
    job timer;
    gate g;
    rm_error error;
    rm_resource resource;
    rm_deadline none = {0};
    world_start(&w, 1);
    w.desc.min_idle = 1;
    memset(&error, 0, sizeof error);
    REQUIRE(world_open(&w));
    gate_init(&g);
    resource = rm_pool_resource(w.pool);
    w.next_create = &g;
    job_start(&timer, &w, job_maintain);
    gate_await(&g, 1);
    CHECK_EQ(RM_OK, resource.start_fn(resource.user, none, &error)); /* it is being made */
    CHECK_EQ(RM_OK, error.status);
    gate_open(&g);
    CHECK_EQ(RM_OK, job_join(&timer));
    CHECK_EQ(RM_OK, resource.stop_fn(resource.user, none, NULL));
    w.create_status = RM_E_BUSY; /* the hook's status, not the pool's */
    CHECK_EQ(RM_E_BUSY, resource.start_fn(resource.user, none, &error));
    CHECK_EQ(RM_E_BUSY, error.status);
    gate_done(&g);
    world_end(&w);
}

TEST(pool, stops_within_the_deadline_that_it_is_given) {
    world w;
    rm_lease lease;
    rm_error error;
    rm_resource resource;
    rm_deadline none = {0};
    REQUIRE(world_plain(&w, 1));
    resource = rm_pool_resource(w.pool);
    w.create_status = RM_E_REFUSED;
    CHECK_EQ(RM_OK, resource.start_fn(resource.user, none, &error)); /* the minimum is none */
    w.create_status = RM_OK;
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK_EQ(RM_E_BUSY,
             resource.stop_fn(resource.user, rm_deadline_after(&w.clock, RM_NOWAIT), &error));
    CHECK_EQ(RM_E_BUSY, error.status);
    give(&w, &lease, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, resource.stop_fn(resource.user, none, &error));
    CHECK_EQ(RM_OK, resource.start_fn(resource.user, none, &error)); /* it opens again */
    world_end(&w);
    CHECK(rm_pool_resource(NULL).name == NULL);
    CHECK(rm_pool_resource(NULL).start_fn == NULL);
}

typedef struct reading {
    char name[48];
    char state[16];
    int64_t value;
    rm_stat_type type;
} reading;

typedef struct readings {
    reading items[32];
    uint32_t count;
    uint64_t waits; /* of the histogram */
    int64_t longest;
    world *w;
} readings;

static void read_stat(const rm_stat *stat, void *user) {
    readings *r = (readings *)user;
    reading *item = &r->items[r->count];
    CHECK(stat->name != NULL && strncmp(stat->name, "rm_pool_", 8) == 0);
    CHECK(stat->help != NULL && stat->help[0] != '\0');
    CHECK((stat->label == NULL) == (stat->label_value == NULL));
    (void)stats_of(r->w); /* a visitor may call anything */
    if (stat->type == RM_STAT_HISTOGRAM) {
        CHECK_EQ(9, stat->decimals);
        if (strcmp(stat->name, "rm_pool_wait_seconds") != 0) return;
        r->waits = stat->hist->count;
        r->longest = rm_hist_quantile(stat->hist, 1.0);
        return;
    }
    CHECK_EQ(0, stat->decimals);
    CHECK(stat->hist == NULL);
    if (!CHECK(r->count < sizeof r->items / sizeof *r->items)) return;
    (void)snprintf(item->name, sizeof item->name, "%s", stat->name);
    (void)snprintf(item->state, sizeof item->state, "%s", stat->label ? stat->label_value : "");
    if (stat->label != NULL)
        CHECK_STR(strcmp(stat->name, "rm_pool_destroyed_total") == 0 ? "cause" : "state",
                  stat->label);
    item->value = stat->value;
    item->type = stat->type;
    ++r->count;
}

static int64_t value_of(const readings *r, const char *name, const char *state, rm_stat_type type) {
    uint32_t i;
    for (i = 0; i < r->count; ++i) {
        const reading *item = &r->items[i];
        if (strcmp(item->name, name) != 0 || strcmp(item->state, state) != 0) continue;
        CHECK_EQ(type, item->type);
        return item->value;
    }
    printf("# no %s %s\n", name, state);
    return -1;
}

/* Are these the times of 1 to 100 ms, so many times? */
static void check_times(int64_t times, int64_t p50, int64_t p99, int64_t max) {
    CHECK(p50 > times * RM_MS(45) && p50 < times * RM_MS(55));
    CHECK(p99 > times * RM_MS(95) && p99 < times * RM_MS(100));
    CHECK_EQ(times * RM_MS(100), max);
}

TEST(pool, tells_the_middle_and_the_end_of_its_times) {
    world w;
    rm_pool_stats s;
    if (!CHECK(world_plain(&w, 1))) return;
    for (int i = 1; i <= 100; ++i) {
        CHECK_EQ(RM_OK, rm_hist_record(&w.pool->times[RMI_POOL_WAITS], RM_MS(i)));
        CHECK_EQ(RM_OK, rm_hist_record(&w.pool->times[RMI_POOL_CREATES], 3 * RM_MS(i)));
        CHECK_EQ(RM_OK, rm_hist_record(&w.pool->times[RMI_POOL_USES], 9 * RM_MS(i)));
    }
    CHECK_EQ(RM_OK, rm_pool_stats_get(w.pool, &s));
    check_times(1, s.wait_p50_ns, s.wait_p99_ns, s.wait_max_ns);
    check_times(3, s.create_p50_ns, s.create_p99_ns, s.create_max_ns);
    check_times(9, s.use_p50_ns, s.use_p99_ns, s.use_max_ns);
    world_end(&w);
}

TEST(pool, shows_its_statistics_to_a_visitor) {
    static readings r;
    world w;
    caller c;
    rm_lease lease[3], other;
    rm_resource resource;
    const rm_stat_type gauge = RM_STAT_GAUGE, counter = RM_STAT_COUNTER;
    const char *by_state = "rm_pool_resources";
    world_start(&w, 3);
    w.desc.guard = watch_start();
    w.desc.max_waiters = 1;
    memset(&r, 0, sizeof r);
    r.w = &w;
    REQUIRE(world_open(&w));
    w.create_fails_at = 3;
    CHECK_EQ(RM_OK, take(&w, &lease[0]));
    CHECK_EQ(RM_OK, take(&w, &lease[1]));
    CHECK_EQ(RM_E_REFUSED, take(&w, &lease[2]));
    CHECK_EQ(RM_OK, take(&w, &lease[2]));
    for (int i = 0; i < 7; ++i) { /* every count is another number */
        caller_queue(&c, &w, RM_MS(3), 1);
        if (i < 5) CHECK_EQ(RM_E_FULL, take_for(&w, 0, &other));
        pass(&w, RM_MS(3));
        CHECK_EQ(RM_E_TIMEOUT, caller_join(&c));
    }
    give(&w, &lease[1], RM_RELEASE_OK);
    CHECK_EQ(RM_OK, take_for(&w, 0, &lease[1]));
    watched.refuses = true;
    for (int i = 0; i < 6; ++i)
        CHECK_EQ(RM_E_REJECTED, take_for(&w, 0, &other));
    give(&w, &lease[0], RM_RELEASE_BROKEN);
    give(&w, &lease[1], RM_RELEASE_BROKEN);
    resource = rm_pool_resource(w.pool);
    resource.stats_fn(resource.user, NULL, NULL); /* nobody looks */
    resource.stats_fn(resource.user, read_stat, &r);
    CHECK_EQ(26, r.count);
    CHECK_EQ(1, value_of(&r, by_state, "in_use", gauge));
    CHECK_EQ(0, value_of(&r, by_state, "idle", gauge));
    CHECK_EQ(0, value_of(&r, by_state, "creating", gauge));
    CHECK_EQ(0, value_of(&r, by_state, "closing", gauge));
    CHECK_EQ(3, value_of(&r, "rm_pool_max", "", gauge));
    CHECK_EQ(0, value_of(&r, "rm_pool_waiting", "", gauge));
    CHECK_EQ(4, value_of(&r, "rm_pool_acquired_total", "", counter));
    CHECK_EQ(7, value_of(&r, "rm_pool_timeouts_total", "", counter));
    CHECK_EQ(5, value_of(&r, "rm_pool_refused_total", "", counter));
    CHECK_EQ(6, value_of(&r, "rm_pool_rejected_total", "", counter));
    CHECK_EQ(3, value_of(&r, "rm_pool_created_total", "", counter));
    CHECK_EQ(1, value_of(&r, "rm_pool_create_failures_total", "", counter));
    CHECK_EQ(2, value_of(&r, "rm_pool_destroyed_total", "broken", counter));
    CHECK_EQ(7, r.waits);
    CHECK_EQ(RM_MS(3), r.longest);
    give(&w, &lease[2], RM_RELEASE_OK);
    world_end(&w);
}

typedef struct diary {
    rm_log log;
    uint32_t failed, invalid, others;
    char line[512];
} diary;

static void diary_write(const rm_log_event *event, void *user) {
    diary *d = (diary *)user;
    size_t length = rm_log_format(event, d->line, sizeof d->line - 1);
    d->line[length] = '\0';
    if (strcmp(event->event, "create_failed") == 0 && event->level == RM_LOG_WARN)
        ++d->failed;
    else if (strcmp(event->event, "invalid") == 0 && event->level == RM_LOG_INFO)
        ++d->invalid;
    else
        ++d->others;
}

TEST(pool, logs_what_fails) {
    world w;
    diary d;
    rm_lease lease;
    world_start(&w, 1);
    memset(&d, 0, sizeof d);
    d.log.log_fn = diary_write;
    d.log.user = &d;
    w.env.log = &d.log;
    w.desc.validate_fn = thing_validate;
    w.desc.validate_after_ns = RM_STRICT;
    REQUIRE(world_open(&w));
    w.create_fails_at = 1;
    w.create_says = "nobody \"listens\"";
    CHECK_EQ(RM_E_REFUSED, take(&w, &lease));
    CHECK_EQ(1, d.failed);
    CHECK(strstr(d.line, "\"pool\":\"db\"") != NULL);
    CHECK(strstr(d.line, "\"status\":\"RM_E_REFUSED\"") != NULL);
    CHECK(strstr(d.line, "nobody \\\"listens\\\"") != NULL);
    fill(&w, 1);
    w.validate_status = RM_E_FAILED;
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK_EQ(1, d.invalid);
    give(&w, &lease, RM_RELEASE_OK);
    CHECK_EQ(1, d.failed);
    CHECK_EQ(0, d.others);
    world_end(&w);
}

/* ---- hooks that call back ---- */

static void visit_nothing(const rm_stat *stat, void *user) {
    (void)stat, (void)user;
}

/* Every public function of the pool that a hook stands in, without waiting. */
static void call_everything(world *w) {
    const rm_deadline passed = rm_deadline_after(NULL, RM_NOWAIT);
    rm_resource resource = rm_pool_resource(w->pool);
    rm_pool_desc desc;
    rm_lease lease;
    rm_error error;
    rm_status status;
    if (w->depth != 0) return;
    ++w->depth;
    memset(&lease, 0, sizeof lease);
    CHECK_EQ(RM_E_STALE, rm_pool_release(w->pool, &lease, RM_RELEASE_OK));
    status = rm_pool_acquire(w->pool, RM_NOWAIT, &lease, &error);
    CHECK(status == RM_OK || status == RM_E_BUSY || status == RM_E_CLOSED ||
          status == RM_E_REFUSED);
    if (status == RM_OK) CHECK_EQ(RM_OK, rm_pool_release(w->pool, &lease, RM_RELEASE_OK));
    status = rm_pool_acquire_until(w->pool, passed, NULL, &lease, &error);
    CHECK(status == RM_OK || status == RM_E_TIMEOUT || status == RM_E_CLOSED ||
          status == RM_E_REFUSED);
    if (status == RM_OK) CHECK_EQ(RM_OK, rm_pool_release(w->pool, &lease, RM_RELEASE_BROKEN));
    status = rm_pool_maintain(w->pool, 0, passed, &error);
    CHECK(status == RM_OK || status == RM_E_BUSY || status == RM_E_CLOSED ||
          status == RM_E_REFUSED);
    CHECK_EQ(RM_OK, rm_pool_desc_get(w->pool, &desc));
    CHECK(resource.health_fn(resource.user, &error) != RM_HEALTH_UNKNOWN);
    resource.stats_fn(resource.user, visit_nothing, NULL);
    (void)stats_of(w);
    --w->depth;
}

static void call_everything_and_close(world *w) {
    call_everything(w);
    if (w->depth != 0) return;
    ++w->depth;
    (void)rm_pool_close(w->pool, RM_NOWAIT, NULL);
    --w->depth;
    call_everything(w);
}

static rm_status guard_admits(rm_permit *permit, rm_error *error, void *user) {
    world *w = (world *)user;
    if (w->inside_all != NULL) w->inside_all(w);
    return watch_admit(permit, error, &watched);
}

static void guard_reports(rm_permit *permit, rm_outcome outcome, void *user) {
    world *w = (world *)user;
    watch_report(permit, outcome, &watched);
    if (w->inside_all != NULL) w->inside_all(w);
}

TEST(pool, may_be_called_by_its_hooks) {
    static void (*const inside[])(world * w) = {call_everything, call_everything_and_close};
    uint32_t i, max, chance;
    for (i = 0; i < 2 * 3 * 3; ++i) {
        world w;
        rm_lease lease[3];
        rm_guard guard = {guard_admits, guard_reports, NULL};
        uint32_t turn, k;
        max = 1 + i / 2 % 3;
        chance = i / 6 * 3; /* no hook fails, one in 3, one in 6 */
        world_start(&w, max);
        (void)watch_start();
        guard.user = &w;
        w.desc.guard = &guard;
        w.desc.validate_fn = thing_validate;
        w.desc.validate_after_ns = RM_STRICT;
        w.desc.reset_fn = thing_reset;
        w.desc.min_idle = 1;
        w.desc.idle_timeout_ns = 1;
        REQUIRE(world_open(&w));
        for (turn = 0; turn < 40; ++turn) {
            w.inside_all = i % 2 == 0 || turn > 20 ? inside[i % 2] : call_everything;
            w.chance = chance;
            w.validate_status = turn % 3 == 0 ? RM_E_FAILED : RM_OK;
            w.reset_status = turn % 5 == 0 ? RM_E_FAILED : RM_OK;
            w.create_status = turn % 7 == 0 ? RM_E_REFUSED : RM_OK;
            for (k = 0; k < max; ++k)
                (void)take(&w, &lease[k]);
            pass(&w, 1);
            (void)rm_pool_maintain(w.pool, 0, rm_deadline_after(NULL, RM_FOREVER), NULL);
            for (k = 0; k < max; ++k)
                if (lease[k].resource != NULL)
                    give(&w, &lease[k], (turn + k) % 4 == 0 ? RM_RELEASE_BROKEN : RM_RELEASE_OK);
        }
        CHECK(w.live_most <= max);
        CHECK_EQ(watched.admitted, watched.ok + watched.failures + watched.ignored);
        w.inside_all = NULL;
        world_end(&w);
    }
}

static void destroy_inside(world *w) {
    if (w->depth++ == 0) CHECK_EQ(RM_E_BUSY, rm_pool_destroy(w->pool));
}

TEST(pool, cannot_be_destroyed_by_its_hooks) {
    uint32_t hook;
    for (hook = 0; hook < 4; ++hook) {
        world w;
        rm_lease lease;
        rm_status status;
        world_start(&w, 2);
        w.desc.validate_fn = thing_validate;
        w.desc.validate_after_ns = RM_STRICT;
        w.desc.reset_fn = thing_reset;
        REQUIRE(world_open(&w));
        if (hook == 0) w.inside_all = destroy_inside;
        status = take(&w, &lease);
        CHECK_EQ(hook == 0 ? RM_E_CLOSED : RM_OK, status);
        if (hook == 1) { /* in validate */
            give(&w, &lease, RM_RELEASE_OK);
            w.inside_all = destroy_inside;
            CHECK_EQ(RM_E_CLOSED, take(&w, &lease));
        } else if (hook >= 2) { /* in reset, in destroy */
            w.inside_all = destroy_inside;
            give(&w, &lease, hook == 2 ? RM_RELEASE_OK : RM_RELEASE_BROKEN);
        }
        CHECK(w.depth > 0);
        CHECK_EQ(RM_E_CLOSED, take(&w, &lease)); /* it is closed, though */
        CHECK_EQ(2, stats_of(&w).empty);
        world_end(&w);
    }
}

/* ---- memory ---- */

typedef struct purse {
    rm_allocator allocator;
    int64_t calls, fails_at; /* this call fails; 0 = none */
    size_t out;              /* bytes */
    size_t last;
} purse;

static void *purse_alloc(size_t size, void *user) {
    purse *p = (purse *)user;
    if (++p->calls == p->fails_at) return NULL;
    p->out += size;
    p->last = size;
    return malloc(size);
}

static void purse_free(void *pointer, size_t size, void *user) {
    purse *p = (purse *)user;
    p->out -= size;
    if (pointer != NULL) memset(pointer, 0xDD, size); /* all of it is ours */
    free(pointer);
}

static void purse_init(purse *p, world *w) {
    memset(p, 0, sizeof *p);
    p->allocator.alloc_fn = purse_alloc;
    p->allocator.free_fn = purse_free;
    p->allocator.user = p;
    w->env.allocator = &p->allocator;
}

TEST(pool, survives_every_failing_allocation) {
    int64_t fails_at;
    rm_status status = RM_E_NOMEM;
    for (fails_at = 1; status != RM_OK && fails_at < 10; ++fails_at) {
        world w;
        purse p;
        rm_error error;
        world_start(&w, 2);
        purse_init(&p, &w);
        p.fails_at = fails_at;
        w.pool = NULL;
        status = rm_pool_create(&w.desc, &w.pool, &error);
        if (status == RM_OK) {
            fill(&w, 1);
            world_end(&w);
        } else {
            CHECK_EQ(RM_E_NOMEM, status);
            CHECK_EQ(RM_E_NOMEM, error.status);
            CHECK_STR("db", error.where);
            CHECK(w.pool == NULL);
            rm_virtual_clock_destroy(&w.time);
        }
        CHECK_EQ(0, p.out);
    }
    CHECK_EQ(RM_OK, status);
    CHECK_EQ(3, fails_at); /* it makes one allocation */
}

static void told_once(rm_status status, const rm_lease *lease, const rm_error *error, void *user) {
    (void)error;
    CHECK_EQ(RM_OK, status);
    if (status == RM_OK) *(rm_lease *)user = *lease;
}

static bool sees_a_lease(const rm_pool_lease_info *info, void *user) {
    (void)user;
    CHECK_STR("told.c:1", info->where);
    return true;
}

TEST(pool, allocates_nothing_once_it_is_made) {
    world w;
    purse p;
    caller c;
    job closing;
    rm_cancel token;
    rm_lease lease, granted;
    rm_pool_request request;
    rm_pool_sizes sizes;
    const rm_deadline none = {0};
    int64_t before;
    world_start(&w, 2);
    purse_init(&p, &w);
    w.desc.validate_fn = thing_validate;
    w.desc.validate_after_ns = RM_STRICT;
    w.desc.reset_fn = thing_reset;
    w.desc.event_fn = world_event;
    w.desc.min_idle = 1;
    w.watches = false; /* callbacks hold some */
    memset(&c, 0, sizeof c);
    memset(&sizes, 0, sizeof sizes);
    memset(&granted, 0, sizeof granted);
    before = GET(mallocs);
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, rm_cancel_init(&token));
    CHECK_EQ(RM_OK, maintain(&w));
    sizes.max = 1;
    CHECK_EQ(RM_OK, rm_pool_resize(w.pool, &sizes, NULL));
    w.validate_status = RM_E_FAILED;
    CHECK_EQ(RM_OK, take(&w, &lease));
    w.validate_status = RM_OK;
    CHECK_EQ(RM_OK, rm_pool_note(w.pool, &lease, "told.c:1"));
    CHECK_EQ(1, rm_pool_leases(w.pool, sees_a_lease, NULL));
    c.cancel = &token;
    caller_go(&c, &w, RM_MS(1), 1);
    pass(&w, RM_MS(1));
    CHECK_EQ(RM_E_TIMEOUT, caller_join(&c));
    CHECK_EQ(RM_OK, rm_pool_acquire_async(w.pool, &request, none, &token, told_once, NULL,
                                          &granted)); /* waits */
    CHECK_EQ(RM_OK, rm_pool_suspend(w.pool));
    give(&w, &lease, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, rm_pool_resume(w.pool));
    REQUIRE(granted.resource != NULL);
    CHECK_EQ(RM_OK, rm_pool_evict(w.pool, granted.resource));
    give(&w, &granted, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, rm_pool_acquire_async(w.pool, &request, none, NULL, told_once, NULL,
                                          &lease)); /* at once */
    CHECK_EQ(RM_OK, rm_pool_evict_all(w.pool));
    job_start_close(&closing, &w, RM_FOREVER);
    rm_virtual_clock_await(&w.time, 1);
    give(&w, &lease, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, job_join(&closing));
    CHECK(w.noted > 8);
    CHECK_EQ(1, p.calls);
    CHECK_EQ(before, GET(mallocs));
    CHECK_EQ(RM_OK, rm_cancel_destroy(&token));
    world_end(&w);
    CHECK_EQ(0, p.out);
}

TEST(pool, takes_its_memory_from_malloc_without_an_allocator) {
    world w;
    const int64_t before = mallocs;
    REQUIRE(world_plain(&w, 1));
    CHECK_EQ(before + 1, mallocs);
    CHECK_EQ(mallocs - 1, frees);
    world_end(&w);
    CHECK_EQ(mallocs, frees);
}

TEST(pool, takes_as_much_memory_as_it_says) {
    static const uint32_t max[] = {1, 1000, 65535};
    size_t small = 0, i;
    for (i = 0; i < 3; ++i) {
        world w;
        purse p;
        world_start(&w, max[i]);
        purse_init(&p, &w);
        REQUIRE(world_open(&w));
        if (i == 0) small = p.last;
        CHECK_EQ(small + 128 * (max[i] - 1), p.last);
        CHECK_EQ(rm_pool_footprint(&w.desc), p.last);
        CHECK(p.last <= 6000 + 128 * (size_t)max[i]);
        world_end(&w);
        CHECK_EQ(0, p.out);
    }
}

/* ---- misuse ---- */

TEST(pool, refuses_what_makes_no_sense) {
    world w;
    rm_lease lease, before;
    rm_error error;
    rm_pool_stats s;
    rm_pool_desc desc;
    rm_deadline none = {0};
    static const int64_t bad[] = {RM_NONE, RM_STRICT, -5, INT64_MIN};
    size_t i;
    memset(&lease, 0xAA, sizeof lease);
    before = lease;
    CHECK_EQ(RM_E_INVALID, rm_pool_acquire(NULL, 0, &lease, &error));
    CHECK_EQ(RM_E_INVALID, error.status);
    CHECK_EQ(RM_E_INVALID, rm_pool_acquire_until(NULL, none, NULL, &lease, NULL));
    CHECK_EQ(RM_E_INVALID, rm_pool_release(NULL, &lease, RM_RELEASE_OK));
    CHECK_EQ(RM_E_INVALID, rm_pool_maintain(NULL, 0, none, NULL));
    CHECK_EQ(RM_E_INVALID, rm_pool_close(NULL, 0, &error));
    CHECK_EQ(RM_E_INVALID, rm_pool_stats_get(NULL, &s));
    CHECK_EQ(RM_E_INVALID, rm_pool_desc_get(NULL, &desc));
    CHECK_EQ(RM_OK, rm_pool_destroy(NULL));
    REQUIRE(world_plain(&w, 1));
    CHECK_EQ(RM_E_INVALID, rm_pool_create(NULL, &w.pool, &error));
    CHECK_EQ(RM_E_INVALID, error.status);
    CHECK_EQ(RM_E_INVALID, rm_pool_create(NULL, NULL, NULL));
    desc = rm_pool_desc_default();
    desc.create_fn = thing_create;
    CHECK_EQ(RM_E_INVALID, rm_pool_create(&desc, NULL, NULL));
    CHECK_EQ(RM_E_INVALID, rm_pool_acquire(w.pool, 0, NULL, NULL));
    CHECK_EQ(RM_E_INVALID, rm_pool_acquire_until(w.pool, none, NULL, NULL, NULL));
    CHECK_EQ(RM_E_INVALID, rm_pool_release(w.pool, NULL, RM_RELEASE_OK));
    CHECK_EQ(RM_E_INVALID, rm_pool_stats_get(w.pool, NULL));
    CHECK_EQ(RM_E_INVALID, rm_pool_desc_get(w.pool, NULL));
    for (i = 0; i < sizeof bad / sizeof *bad; ++i) {
        memset(&error, 0, sizeof error);
        CHECK_EQ(RM_E_INVALID, rm_pool_acquire(w.pool, bad[i], &lease, &error));
        CHECK_STR("timeout_ns", error.where);
        memset(&error, 0, sizeof error);
        CHECK_EQ(RM_E_INVALID, rm_pool_close(w.pool, bad[i], &error)); /* and does not close */
        CHECK_STR("timeout_ns", error.where);
    }
    CHECK_EQ(0, w.creates);
    w.create_status = RM_E_REFUSED;
    CHECK_EQ(RM_E_REFUSED, rm_pool_acquire(w.pool, 0, &lease, NULL));
    CHECK(memcmp(&lease, &before, sizeof lease) == 0); /* written on success only */
    w.create_status = RM_OK;
    CHECK_EQ(RM_OK, take_for(&w, INT64_MAX, &lease));
    CHECK_EQ(RM_E_INVALID, rm_pool_release(w.pool, &lease, (rm_release)3));
    CHECK_EQ(1, stats_of(&w).in_use);
    give(&w, &lease, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, rm_pool_close(w.pool, INT64_MAX, NULL));
    world_end(&w);
}

/* ---- many threads ---- */

enum { THREADS = 8, TOKENS = 64 };

typedef struct crowd crowd;

/* One of many threads that use a pool. */
typedef struct member {
    crowd *all;
    uint32_t number; /* from 1 */
    rm_rng rng;
    rm_cancel tokens[TOKENS];
    uint32_t token; /* that it waits with now; TOKENS = none */
    uint32_t tokens_used;
    uint64_t got;
    rm_thread thread;
} member;

struct crowd {
    world w;
    member members[THREADS];
    void (*run)(member *m);
    gate start; /* nobody begins before all are there */
    uint32_t rounds;
    uint32_t done;          /* of THREADS * rounds */
    uint32_t out, out_most; /* leases at the same time */
    uint32_t closing, closed;
    uint32_t creates; /* when the pool was closed */
};

static void member_hold(member *m, rm_lease *lease) {
    crowd *all = m->all;
    thing *t = (thing *)lease->resource;
    raise_to(&all->out_most, ADD(all->out, 1));
    CHECK_EQ(0, SWAP(t->hands, m->number));
    CHECK(t->number != 0);
    ++m->got;
}

static void member_give(member *m, rm_lease *lease, rm_release how) {
    CHECK_EQ(m->number, SWAP(((thing *)lease->resource)->hands, 0));
    ADD(m->all->out, -1u);
    CHECK_EQ(RM_OK, rm_pool_release(m->all->w.pool, lease, how));
}

static void member_run(void *user) {
    member *m = (member *)user;
    gate_pass(&m->all->start);
    m->all->run(m);
}

static void crowd_start(crowd *all, void (*run)(member *m)) {
    uint32_t i, k;
    all->run = run;
    all->done = 0;
    gate_init(&all->start);
    all->out = all->out_most = all->closing = all->closed = 0;
    for (i = 0; i < THREADS; ++i) {
        member *m = &all->members[i];
        m->all = all;
        m->number = i + 1;
        m->got = 0;
        m->token = TOKENS;
        m->tokens_used = 0;
        rm_rng_seed(&m->rng, i);
        for (k = 0; k < TOKENS; ++k)
            CHECK_EQ(RM_OK, rm_cancel_init(&m->tokens[k]));
    }
    for (i = 0; i < THREADS; ++i)
        CHECK_EQ(RM_OK, rm_thread_start(&all->members[i].thread, member_run, &all->members[i]));
    gate_await(&all->start, THREADS);
    gate_open(&all->start);
}

static uint64_t crowd_join(crowd *all) {
    uint64_t got = 0;
    uint32_t i, k;
    for (i = 0; i < THREADS; ++i) {
        rm_thread_join(&all->members[i].thread);
        got += all->members[i].got;
    }
    gate_done(&all->start);
    for (i = 0; i < THREADS; ++i)
        for (k = 0; k < TOKENS; ++k)
            CHECK_EQ(RM_OK, rm_cancel_destroy(&all->members[i].tokens[k]));
    return got;
}

static crowd everybody; /* too large for a stack */

/* Acquires in one of many ways. */
static rm_status member_acquire(member *m, uint64_t dice, rm_lease *lease) {
    world *w = &m->all->w;
    const int64_t ns = 1 + (int64_t)(dice >> 32) % RM_US(200);
    rm_status status;
    uint32_t token;
    switch (dice % 8) {
    case 0:
    case 1: return rm_pool_acquire(w->pool, RM_NOWAIT, lease, NULL);
    case 2:
    case 3: return rm_pool_acquire(w->pool, RM_FOREVER, lease, NULL);
    case 4: return rm_pool_acquire(w->pool, 0, lease, NULL);
    case 5: return rm_pool_acquire(w->pool, ns, lease, NULL);
    default: break;
    }
    token = m->tokens_used;
    if (token == TOKENS) return rm_pool_acquire(w->pool, RM_FOREVER, lease, NULL);
    SET(m->token, token);
    status = rm_pool_acquire_until(w->pool,
                                   rm_deadline_after(&w->clock, dice % 8 == 6 ? ns : RM_FOREVER),
                                   &m->tokens[token], lease, NULL);
    SET(m->token, TOKENS);
    if (rm_cancel_requested(&m->tokens[token])) ++m->tokens_used;
    return status;
}

static void member_cancels_another(member *m, uint64_t dice) {
    member *other = &m->all->members[dice / 64 % THREADS];
    const uint32_t token = GET(other->token);
    if (token < TOKENS) rm_cancel_request(&other->tokens[token]);
}

/* What a member does with its lease. */
static void member_uses(member *m, uint64_t dice, rm_lease *lease) {
    world *w = &m->all->w;
    rm_lease copy = *lease, second;
    member_hold(m, lease);
    if (dice >> 8 & 1) relax(); /* somebody else will want it */
    if (dice % 8 == 0 && rm_pool_acquire(w->pool, RM_NOWAIT, &second, NULL) == RM_OK) {
        member_hold(m, &second);
        member_give(m, &second, RM_RELEASE_OK);
    }
    member_give(m, lease, dice % 16 == 1 ? RM_RELEASE_BROKEN : RM_RELEASE_OK);
    if (dice % 4 == 0) CHECK_EQ(RM_E_STALE, rm_pool_release(w->pool, &copy, RM_RELEASE_BROKEN));
}

/* Until the pool is closed: everything, at random. */
static void member_does_anything(member *m) {
    crowd *all = m->all;
    world *w = &all->w;
    rm_status status = RM_OK;
    while (status != RM_E_CLOSED) {
        const uint64_t dice = rm_rng_next(&m->rng);
        rm_lease lease;
        if (ADD(all->done, 1) >= THREADS * all->rounds && SWAP(all->closing, 1) == 0) {
            CHECK_EQ(RM_OK, rm_pool_close(w->pool, RM_FOREVER, NULL));
            SET(all->creates, GET(w->creates));
            SET(all->closed, 1);
            return;
        }
        if (dice >> 8 & 1) pass(w, (int64_t)(dice >> 40) % RM_US(100));
        if ((dice >> 9) % 4 == 0) member_cancels_another(m, dice >> 11);
        if ((dice >> 17) % 16 == 0)
            (void)rm_pool_maintain(w->pool, 0, rm_deadline_after(NULL, RM_FOREVER), NULL);
        status = member_acquire(m, rm_rng_next(&m->rng), &lease);
        if (status == RM_E_FULL) {
            relax();
            ADD(all->done, -1u); /* it would fill the whole test */
        }
        if (status == RM_OK)
            member_uses(m, rm_rng_next(&m->rng), &lease);
        else
            CHECK(status == RM_E_BUSY || status == RM_E_TIMEOUT || status == RM_E_CANCELLED ||
                  status == RM_E_CLOSED || status == RM_E_FULL || status == RM_E_REFUSED);
    }
}

/* Looks on: every snapshot adds up and no total goes back. */
static void watch_the_crowd(void *user) {
    crowd *all = (crowd *)user;
    rm_resource resource = rm_pool_resource(all->w.pool);
    rm_pool_stats last;
    memset(&last, 0, sizeof last);
    while (GET(all->closed) == 0) {
        const rm_pool_stats s = stats_of(&all->w);
        CHECK(s.acquired >= last.acquired && s.waits >= last.waits && s.created >= last.created);
        CHECK(s.destroyed >= last.destroyed && s.timeouts >= last.timeouts);
        CHECK(s.ended[RM_POOL_CAUSE_BROKEN] >= last.ended[RM_POOL_CAUSE_BROKEN] &&
              s.ended[RM_POOL_CAUSE_INVALID] >= last.ended[RM_POOL_CAUSE_INVALID] &&
              s.ended[RM_POOL_CAUSE_IDLE] >= last.ended[RM_POOL_CAUSE_IDLE]);
        CHECK(s.create_failures >= last.create_failures && s.refused >= last.refused);
        CHECK(s.wait_max_ns >= last.wait_max_ns && s.waiting < THREADS);
        last = s;
        (void)resource.health_fn(resource.user, NULL);
        resource.stats_fn(resource.user, visit_nothing, NULL);
        relax();
    }
}

TEST(pool, survives_everything_at_once) {
    static const int64_t policies[] = {RM_US(50), RM_STRICT, RM_US(1)};
    static const uint32_t max[] = {1, 3, 6};
    uint32_t p;
    for (p = 0; p < 3; ++p) {
        crowd *all = &everybody;
        rm_thread watcher;
        uint64_t got;
        world_start(&all->w, max[p]);
        all->w.desc.barge_ns = policies[p];
        all->w.desc.min_idle = p == 2 ? 2 : 0;
        all->w.desc.max_waiters = p == 1 ? 4 : 0;
        all->w.desc.acquire_timeout_ns = RM_US(500);
        all->w.desc.idle_timeout_ns = RM_US(10);
        all->w.desc.validate_after_ns = RM_US(10);
        all->w.desc.validate_fn = thing_validate;
        all->w.desc.reset_fn = thing_reset;
        all->w.desc.guard = watch_start();
        all->rounds = 2000;
        REQUIRE(world_open(&all->w));
        all->w.chance = 16;
        crowd_start(all, member_does_anything);
        CHECK_EQ(RM_OK, rm_thread_start(&watcher, watch_the_crowd, all));
        got = crowd_join(all);
        rm_thread_join(&watcher);
        CHECK_EQ(got, stats_of(&all->w).acquired);
        CHECK(watched.ok + watched.failures >= got); /* failed creates are reported, too */
        CHECK_EQ(watched.admitted, watched.ok + watched.failures + watched.ignored);
        CHECK_EQ(all->creates, all->w.creates); /* none after the close */
        CHECK_EQ(all->w.created, all->w.destroyed);
        CHECK(all->w.live_most <= max[p] && all->out_most <= max[p]);
        CHECK(got > 0);
        CHECK(all->w.creates > all->w.created);
        CHECK(stats_of(&all->w).ended[RM_POOL_CAUSE_INVALID] > 0);
        CHECK(stats_of(&all->w).waits > 0);
        all->w.chance = 0;
        world_end(&all->w);
    }
}

typedef struct racer {
    world *w;
    uint32_t kind;
    rm_thread thread;
} racer;

static void race_until_closed(void *user) {
    racer *r = (racer *)user;
    rm_status status = RM_OK;
    while (status != RM_E_CLOSED) {
        rm_lease lease;
        relax();
        if (r->kind == 2) {
            status = rm_pool_maintain(r->w->pool, 0, rm_deadline_after(NULL, RM_FOREVER), NULL);
            continue;
        }
        status = rm_pool_acquire(r->w->pool, r->kind == 0 ? RM_FOREVER : RM_NOWAIT, &lease, NULL);
        if (status != RM_OK) continue;
        thing_take((thing *)lease.resource);
        thing_leave((thing *)lease.resource);
        CHECK_EQ(RM_OK,
                 rm_pool_release(r->w->pool, &lease, r->kind ? RM_RELEASE_OK : RM_RELEASE_BROKEN));
    }
}

#ifdef _WIN32 /* where threads take long to start */
enum { CLOSED_BESIDE = 200 };
#else
enum { CLOSED_BESIDE = 2000 };
#endif

TEST(pool, leaves_nothing_when_closed_beside_creates) {
    uint32_t round;
    for (round = 0; round < CLOSED_BESIDE; ++round) {
        world w;
        racer r[3];
        uint32_t i, creates;
        world_start(&w, 2);
        w.desc.min_idle = 2;
        REQUIRE(world_open(&w));
        for (i = 0; i < 3; ++i) {
            r[i].w = &w;
            r[i].kind = (i + round) % 3;
            CHECK_EQ(RM_OK, rm_thread_start(&r[i].thread, race_until_closed, &r[i]));
        }
        for (i = 0; i < round % 32; ++i)
            (void)stats_of(&w);
        CHECK_EQ(RM_OK, rm_pool_close(w.pool, RM_FOREVER, NULL));
        creates = GET(w.creates);
        CHECK_EQ(GET(w.created), GET(w.destroyed));
        for (i = 0; i < 3; ++i)
            rm_thread_join(&r[i].thread);
        CHECK_EQ(creates, w.creates);
        CHECK(w.live_most <= 2);
        world_end(&w);
    }
}

static void job_start_resource(void *user) {
    job *j = (job *)user;
    rm_resource resource = rm_pool_resource(j->w->pool);
    j->status = resource.start_fn(resource.user, rm_deadline_after(NULL, RM_FOREVER), NULL);
}

/* Closed and opened at the same time: one of them wins, for the flag and for the queue. */
TEST(pool, is_wholly_open_or_closed_after_both_at_once) {
    world w;
    uint32_t round;
    world_start(&w, 2);
    w.desc.min_idle = 1;
    REQUIRE(world_open(&w));
    for (round = 0; round < 500; ++round) {
        job opening, closing;
        rm_lease lease;
        CHECK_EQ(RM_OK, rm_pool_close(w.pool, RM_FOREVER, NULL));
        job_start(&opening, &w, job_start_resource);
        job_start_close(&closing, &w, RM_NOWAIT);
        (void)take(&w, &lease);
        (void)job_join(&opening);
        (void)job_join(&closing);
        CHECK_EQ(w.pool->epoch & 1, w.pool->queue.closed);
        if (lease.resource != NULL) give(&w, &lease, RM_RELEASE_OK);
    }
    world_end(&w);
}

/* Opened again beside calls that found it closed: nobody waits for a slot that is free. */
TEST(pool, strands_nobody_when_it_opens_again) {
    world w;
    uint32_t round, i;
    rm_resource resource;
    rm_lease lease;
    REQUIRE(world_plain(&w, 1));
    resource = rm_pool_resource(w.pool);
    for (round = 0; round < 500; ++round) {
        caller c[2];
        rm_deadline none = {0};
        memset(c, 0, sizeof c);
        CHECK_EQ(RM_OK, rm_pool_close(w.pool, RM_FOREVER, NULL));
        for (i = 0; i < 2; ++i) {
            c[i].gives_back = true;
            caller_go(&c[i], &w, i == 0 ? RM_FOREVER : RM_NOWAIT, 0);
        }
        CHECK_EQ(RM_OK, resource.start_fn(resource.user, none, NULL));
        if (take_for(&w, RM_FOREVER, &lease) == RM_OK) give(&w, &lease, RM_RELEASE_BROKEN);
        CHECK(caller_join(&c[0]) == RM_OK || c[0].status == RM_E_CLOSED);
        CHECK(caller_join(&c[1]) != RM_E_TIMEOUT);
        CHECK_EQ(0, stats_of(&w).waiting);
    }
    world_end(&w);
}

TEST_MAIN

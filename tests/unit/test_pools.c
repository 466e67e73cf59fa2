/* Several servers behind one pool, and one pool for each of many keys. Every time is a virtual
   clock's; nothing sleeps. */
#include "rm_pool.h"
#include "rm_test.h"

#include <stdlib.h>
#ifndef _WIN32
#include <sched.h>
#endif

#include "pool_fixture.h"

static const rm_deadline never = {0};

/* ---- endpoints ---- */

/* One server, as the hooks see it. */
typedef struct server {
    world *w;
    watch seen;
    uint32_t creates, created, destroyed, validates, resets, classified, reclaimed, discarded;
    rm_status status; /* of its creates */
    int64_t takes_ns; /* each of them */
} server;

typedef struct cluster {
    world w;
    server servers[3];
    rm_pool_endpoint endpoints[3];
} cluster;

static rm_status server_create(void **resource, rm_deadline deadline, rm_error *error, void *user) {
    server *s = (server *)user;
    thing *t;
    (void)deadline;
    ADD(s->creates, 1);
    pass(s->w, s->takes_ns);
    if (s->status != RM_OK) return rm_error_set(error, s->status, 0, "server", "nobody listens");
    t = (thing *)calloc(1, sizeof *t);
    if (t == NULL) return RM_E_NOMEM;
    t->number = ADD(s->w->created, 1);
    ADD(s->created, 1);
    *resource = t;
    return RM_OK;
}

static void server_destroy(void *resource, void *user) {
    server *s = (server *)user;
    ADD(s->destroyed, 1);
    ADD(s->w->destroyed, 1);
    free(resource);
}

static rm_status server_validate(void *resource, void *user) {
    server *s = (server *)user;
    ADD(s->validates, 1);
    return ((thing *)resource)->sick ? RM_E_FAILED : RM_OK;
}

static rm_status server_reset(void *resource, void *user) {
    ADD(((server *)user)->resets, 1);
    return ((thing *)resource)->dirty ? RM_E_FAILED : RM_OK;
}

static rm_release server_classify(void *resource, const rm_error *result, void *user) {
    (void)resource, (void)result;
    ADD(((server *)user)->classified, 1);
    return RM_RELEASE_FAILED;
}

/* The holders of these tests do not use what is taken from them. */
static void server_reclaim(void *resource, void *user) {
    server *s = (server *)user;
    ADD(s->reclaimed, 1);
    ADD(s->w->leaves, 1);
    free(resource);
}

static void server_discard(void *resource, void *user) {
    server *s = (server *)user;
    ADD(s->discarded, 1);
    ADD(s->w->leaves, 1);
    free(resource);
}

/* `count` servers "one", "two", "three" behind a pool of `max`; without guards. */
static void cluster_init(cluster *c, uint32_t count, uint32_t max) {
    static const char *const names[] = {"one", "two", "three"};
    uint32_t i;
    memset(c, 0, sizeof *c);
    world_init(&c->w, max);
    for (i = 0; i < count; ++i) {
        c->servers[i].w = &c->w;
        c->endpoints[i].name = names[i];
        c->endpoints[i].user = &c->servers[i];
    }
    c->w.desc.create_fn = server_create;
    c->w.desc.destroy_fn = server_destroy;
    c->w.desc.endpoints = c->endpoints;
    c->w.desc.endpoint_count = count;
}

static void cluster_guard(cluster *c, uint32_t count) {
    uint32_t i;
    for (i = 0; i < count; ++i)
        c->endpoints[i].guard = watch_init(&c->servers[i].seen);
}

/* Without guards, and nothing else that is special; open. */
static bool cluster_begin(cluster *c, uint32_t count, uint32_t max) {
    cluster_init(c, count, max);
    return world_open(&c->w);
}

static bool cluster_begin_guarded(cluster *c, uint32_t count, uint32_t max) {
    cluster_init(c, count, max);
    cluster_guard(c, count);
    return world_open(&c->w);
}

/* Each permit has come back, once. */
static void check_permits(cluster *c, uint32_t count) {
    uint32_t i;
    for (i = 0; i < count; ++i) {
        const watch *seen = &c->servers[i].seen;
        CHECK_EQ(seen->admitted, seen->ok + seen->failures + seen->ignored);
    }
}

typedef struct seeker {
    const rm_lease *lease;
    char endpoint[16];
} seeker;

static bool seek(const rm_pool_lease_info *lease, void *user) {
    seeker *s = (seeker *)user;
    if (lease->slot == s->lease->slot) copy(s->endpoint, sizeof s->endpoint, lease->endpoint);
    return lease->slot != s->lease->slot;
}

/* The endpoint that a lease is of. */
static uint32_t slot_server(cluster *c, const rm_lease *lease) {
    seeker s = {lease, ""};
    uint32_t i = 0;
    rm_pool_leases(c->w.pool, seek, &s);
    while (i < c->w.desc.endpoint_count && strcmp(c->endpoints[i].name, s.endpoint) != 0)
        ++i;
    return i;
}

/* Takes one, which must be of this server. */
static void take_at(cluster *c, rm_lease *lease, uint32_t which) {
    CHECK_EQ(RM_OK, take(&c->w, lease));
    CHECK_EQ(which, slot_server(c, lease));
}

TEST(endpoints, lend_where_the_least_is_in_use) {
    static const uint32_t order[] = {0, 1, 2, 0, 1, 2};
    rm_lease leases[6];
    uint32_t i;
    cluster c;
    REQUIRE(cluster_begin(&c, 3, 6));
    for (i = 0; i < 6; ++i)
        take_at(&c, &leases[i], order[i]);
    give(&c.w, &leases[4], RM_RELEASE_OK); /* two of the second server are idle now */
    give(&c.w, &leases[1], RM_RELEASE_OK);
    give(&c.w, &leases[5], RM_RELEASE_OK); /* and one of the third */
    take_at(&c, &leases[1], 1);            /* 2, 0 and 1 in use */
    take_at(&c, &leases[4], 2);            /* 2, 1 and 1: of equal ones the next in turn */
    take_at(&c, &leases[5], 1);
    give_many(&c.w, leases, 6);
    world_end(&c.w);
    CHECK_EQ(2, c.servers[0].destroyed);
    CHECK_EQ(2, c.servers[1].destroyed);
    CHECK_EQ(2, c.servers[2].destroyed);
}

TEST(endpoints, make_where_the_fewest_are_among_those_with_equal_use) {
    rm_lease a, b;
    cluster c;
    REQUIRE(cluster_begin(&c, 2, 3));
    take_both(&c.w, &a, &b);
    give(&c.w, &b, RM_RELEASE_BROKEN); /* one in use at the first, nothing at the second */
    give(&c.w, &a, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, rm_pool_prewarm(c.w.pool, 2, rm_deadline_after(NULL, RM_FOREVER), NULL, NULL));
    CHECK_EQ(2, c.servers[1].creates);
    CHECK_EQ(1, c.servers[0].creates);
    world_end(&c.w);
}

TEST(endpoints, take_turns) {
    rm_lease leases[6];
    uint32_t count, i, got[3];
    for (count = 2; count <= 3; ++count) {
        cluster c;
        cluster_init(&c, count, 2 * count);
        c.w.desc.balance = RM_POOL_ROUND_ROBIN;
        REQUIRE(world_open(&c.w));
        memset(got, 0, sizeof got);
        for (i = 0; i < 2 * count; ++i) {
            CHECK_EQ(RM_OK, take(&c.w, &leases[i]));
            ++got[slot_server(&c, &leases[i])];
        }
        for (i = 0; i < count; ++i)
            CHECK_EQ(2, got[i]); /* made in turn */
        give_many(&c.w, leases, 2 * count);
        memset(got, 0, sizeof got);
        for (i = 0; i < 30; ++i) {
            CHECK_EQ(RM_OK, take(&c.w, &leases[0]));
            ++got[slot_server(&c, &leases[0])];
            give(&c.w, &leases[0], RM_RELEASE_OK);
        }
        for (i = 0; i < count; ++i)
            CHECK_EQ(30 / count, got[i]); /* lent in turn */
        world_end(&c.w);
    }
}

TEST(endpoints, take_turns_past_one_that_refuses) {
    static const uint32_t order[] = {1, 2, 1, 2};
    rm_lease leases[4];
    uint32_t i;
    cluster c;
    cluster_init(&c, 3, 6);
    cluster_guard(&c, 3);
    c.w.desc.balance = RM_POOL_ROUND_ROBIN;
    REQUIRE(world_open(&c.w));
    c.servers[0].seen.refuses = true;
    for (i = 0; i < 4; ++i)
        take_at(&c, &leases[i], order[i]);
    give_many(&c.w, leases, 4);
    world_end(&c.w);
}

TEST(endpoints, rotate_for_one_user_although_something_is_idle) {
    static const uint32_t order[] = {0, 1, 2, 0, 1, 2, 0};
    rm_lease lease;
    uint32_t i;
    cluster c;
    cluster_init(&c, 3, 3);
    c.w.desc.balance = RM_POOL_ROUND_ROBIN;
    REQUIRE(world_open(&c.w));
    for (i = 0; i < 7; ++i) {
        take_at(&c, &lease, order[i]);
        give(&c.w, &lease, RM_RELEASE_OK);
    }
    CHECK_EQ(3, c.w.created);
    world_end(&c.w);
}

/* Of those with equally many in use: with something idle, with the fewest, the next in turn. */
TEST(endpoints, break_ties_by_what_is_idle_then_by_what_is_kept) {
    rm_lease a, b, d;
    cluster c;
    REQUIRE(cluster_begin(&c, 3, 6));
    CHECK_EQ(RM_OK, take(&c.w, &a));
    CHECK_EQ(RM_OK, take(&c.w, &b));
    CHECK_EQ(RM_OK, take(&c.w, &d));
    give(&c.w, &a, RM_RELEASE_BROKEN);
    give(&c.w, &d, RM_RELEASE_BROKEN);
    give(&c.w, &b, RM_RELEASE_OK);
    take_at(&c, &b, 1); /* nothing in use: the second has something idle */
    take_at(&c, &a, 2); /* then the next in turn of those without any */
    give(&c.w, &a, RM_RELEASE_OK);
    take_at(&c, &a, 2); /* the first and the third are not in use: what is idle */
    take_at(&c, &d, 0);
    CHECK_EQ(5, c.w.created);
    give_both(&c.w, &a, &b);
    give(&c.w, &d, RM_RELEASE_OK);
    world_end(&c.w);
}

TEST(endpoints, make_anew_where_the_balance_says_what_is_not_fit) {
    uint32_t old;
    for (old = 0; old < 2; ++old) {
        rm_lease a;
        cluster c;
        cluster_init(&c, 2, 1);
        c.w.desc.balance = RM_POOL_ROUND_ROBIN;
        c.w.desc.validate_fn = server_validate;
        c.w.desc.validate_after_ns = RM_STRICT;
        c.w.desc.max_lifetime_ns = RM_SEC(10);
        REQUIRE(world_open(&c.w));
        take_at(&c, &a, 0);
        thing_of(&a)->sick = old == 0;
        give(&c.w, &a, RM_RELEASE_OK);
        if (old != 0) pass(&c.w, RM_SEC(10));
        take_at(&c, &a, 1); /* it is found at the first, and not replaced there */
        CHECK_EQ(1, c.servers[0].destroyed);
        CHECK_EQ(1, c.servers[0].creates);
        give(&c.w, &a, RM_RELEASE_OK);
        world_end(&c.w);
    }
}

TEST(endpoints, get_new_resources_when_they_recover) {
    uint32_t balance;
    for (balance = 0; balance < 2; ++balance) {
        rm_lease leases[4], more;
        cluster c;
        cluster_init(&c, 2, 4);
        c.w.desc.balance = (rm_pool_balance)balance;
        REQUIRE(world_open(&c.w));
        c.servers[0].status = RM_E_REFUSED;
        CHECK_EQ(RM_E_REFUSED, take(&c.w, &more));
        CHECK_EQ(RM_OK, take(&c.w, &leases[0]));
        CHECK_EQ(RM_OK, take(&c.w, &leases[1]));
        CHECK_EQ(2, c.servers[1].created);
        give(&c.w, &leases[0], RM_RELEASE_OK);
        give(&c.w, &leases[1], RM_RELEASE_OK);
        c.servers[0].status = RM_OK;
        pass(&c.w, RM_MS(10));
        take_many(&c.w, leases, 4);
        CHECK_EQ(2, c.servers[0].created); /* although two were idle at the other */
        CHECK_EQ(2, c.servers[1].created);
        give_many(&c.w, leases, 4);
        world_end(&c.w);
    }
}

TEST(endpoints, are_passed_over_for_a_millisecond_without_a_backoff_and_with_a_shorter_one) {
    uint32_t how;
    for (how = 0; how < 2; ++how) {
        rm_lease a;
        cluster c;
        cluster_init(&c, 2, 2);
        cluster_guard(&c, 2);
        c.w.desc.create_backoff_ns = how == 0 ? RM_NONE : RM_US(1);
        REQUIRE(world_open(&c.w));
        c.servers[0].seen.refuses = true;
        take_at(&c, &a, 1);
        give(&c.w, &a, RM_RELEASE_BROKEN);
        c.servers[0].seen.refuses = false;
        pass(&c.w, RM_MS(1) - 1);
        c.servers[1].seen.refuses = true;
        CHECK_EQ(RM_E_REJECTED, take(&c.w, &a));
        pass(&c.w, 1);
        take_at(&c, &a, 0);
        give(&c.w, &a, RM_RELEASE_OK);
        world_end(&c.w);
    }
}

TEST(endpoints, are_passed_over_while_their_creates_fail) {
    rm_lease leases[4], more;
    uint32_t i;
    cluster c;
    REQUIRE(cluster_begin(&c, 2, 4));
    c.servers[0].status = RM_E_REFUSED;
    CHECK_EQ(RM_E_REFUSED, take(&c.w, &leases[0])); /* the first to find out */
    for (i = 0; i < 2; ++i)
        take_at(&c, &leases[i], 1);
    CHECK_EQ(1, c.servers[0].creates);
    pass(&c.w, RM_MS(20)); /* 10 ms, doubled, less some */
    c.servers[0].status = RM_OK;
    for (; i < 4; ++i)
        take_at(&c, &leases[i], 0); /* it is back, and has the least in use */
    CHECK_EQ(RM_E_BUSY, take(&c.w, &more));
    give_many(&c.w, leases, 4);
    world_end(&c.w);
}

/* Time passes with each call, so that one that is made again and again comes to an end. */
static rm_status server_create_in_a_while(void **resource, rm_deadline deadline, rm_error *error,
                                          void *user) {
    pass(((server *)user)->w, RM_US(100));
    return server_create(resource, deadline, error, user);
}

TEST(endpoints, that_fail_without_a_backoff_are_passed_over_by_an_acquire) {
    rm_lease a, b;
    cluster c;
    cluster_init(&c, 2, 4);
    c.w.desc.create_fn = server_create_in_a_while;
    c.w.desc.create_backoff_ns = RM_NONE;
    REQUIRE(world_open(&c.w));
    take_both(&c.w, &a, &b);
    give(&c.w, &a, RM_RELEASE_BROKEN); /* of the first, which has the least in use now */
    c.servers[0].status = RM_E_REFUSED;
    CHECK_EQ(RM_OK, take_for(&c.w, RM_MS(100), &a));
    CHECK_EQ(2, c.servers[0].creates); /* the one that failed, and the one before */
    CHECK_EQ(2, c.servers[1].creates);
    if (a.resource != NULL) give(&c.w, &a, RM_RELEASE_OK);
    give(&c.w, &b, RM_RELEASE_OK);
    world_end(&c.w);
}

/* Upkeep and prewarming make what they are to where they may. */
static bool open_with_one_well(cluster *c, bool guarded, uint32_t min_idle) {
    cluster_init(c, 2, 4);
    c->w.desc.min_idle = min_idle;
    if (guarded) cluster_guard(c, 2);
    if (guarded) c->servers[0].seen.refuses = true;
    if (!guarded) c->servers[0].status = RM_E_REFUSED;
    return world_open(&c->w);
}

TEST(endpoints, that_are_well_get_the_minimum_beside_others) {
    uint32_t guarded;
    for (guarded = 0; guarded < 2; ++guarded) {
        cluster c;
        REQUIRE(open_with_one_well(&c, guarded != 0, 3));
        CHECK_EQ(guarded != 0 ? RM_E_REJECTED : RM_E_REFUSED, maintain(&c.w)); /* it tells, too */
        CHECK_EQ(3, stats_of(&c.w).idle);
        CHECK_EQ(3, c.servers[1].created);
        CHECK_EQ(RM_OK, maintain(&c.w));
        world_end(&c.w);
    }
}

TEST(endpoints, that_are_well_are_prewarmed_beside_others) {
    uint32_t guarded, count;
    for (guarded = 0; guarded < 2; ++guarded) {
        for (count = 1; count <= 4; ++count) {
            uint32_t made = 0;
            cluster c;
            REQUIRE(open_with_one_well(&c, guarded != 0, 0));
            CHECK_EQ(RM_OK, rm_pool_prewarm(c.w.pool, count, never, &made, NULL));
            CHECK_EQ(count, made);
            CHECK_EQ(count, c.servers[1].created);
            world_end(&c.w);
        }
    }
}

/* Refuses, and may take longer for it than an endpoint is passed over. */
typedef struct sluggard {
    world *w;
    rm_guard guard;
    int64_t takes_ns;
    uint32_t asked;
    bool admits;
} sluggard;

static rm_status sluggard_admit(rm_permit *permit, rm_error *error, void *user) {
    sluggard *s = (sluggard *)user;
    (void)permit;
    if (s->admits) return RM_OK;
    pass(s->w, s->takes_ns);
    if (ADD(s->asked, 1) > 100) return RM_OK; /* else it would never end */
    return rm_error_set(error, RM_E_REJECTED, 0, "guard", "no");
}

static void sluggard_report(rm_permit *permit, rm_outcome outcome, void *user) {
    (void)permit, (void)outcome, (void)user;
}

/* The first `count` servers have such guards. */
static void cluster_guard_slowly(cluster *c, sluggard *guards, uint32_t count, int64_t takes_ns) {
    uint32_t i;
    memset(guards, 0, count * sizeof *guards);
    for (i = 0; i < count; ++i) {
        guards[i].w = &c->w;
        guards[i].guard.admit_fn = sluggard_admit;
        guards[i].guard.report_fn = sluggard_report;
        guards[i].guard.user = &guards[i];
        guards[i].takes_ns = takes_ns;
        c->endpoints[i].guard = &guards[i].guard;
    }
}

static rm_status took_in_vain;

static void note_in_vain(rm_status status, const rm_lease *lease, const rm_error *error,
                         void *user) {
    (void)lease, (void)error, (void)user;
    took_in_vain = status;
}

static rm_status take_async(cluster *c) {
    rm_pool_request request;
    took_in_vain = RM_E_INTERNAL;
    CHECK_EQ(RM_OK,
             rm_pool_acquire_async(c->w.pool, &request, never, NULL, note_in_vain, NULL, NULL));
    return took_in_vain;
}

TEST(endpoints, are_asked_once_each_however_long_their_guards_take) {
    uint32_t how;
    for (how = 0; how < 5; ++how) {
        sluggard guards[2];
        rm_lease lease;
        cluster c;
        cluster_init(&c, 2, 2);
        c.w.desc.min_idle = 1;
        cluster_guard_slowly(&c, guards, 2, RM_MS(20));
        REQUIRE(world_open(&c.w));
        memset(&lease, 0, sizeof lease);
        CHECK_EQ(RM_E_REJECTED, how == 0   ? take(&c.w, &lease)
                                : how == 1 ? take_for(&c.w, RM_SEC(1), &lease)
                                : how == 2 ? take_async(&c)
                                : how == 3 ? maintain(&c.w)
                                           : rm_pool_prewarm(c.w.pool, 1, never, NULL, NULL));
        CHECK_EQ(1, guards[0].asked);
        CHECK_EQ(1, guards[1].asked);
        CHECK_EQ(how < 3, stats_of(&c.w).rejected);
        if (lease.resource != NULL) give(&c.w, &lease, RM_RELEASE_OK);
        world_end(&c.w);
    }
}

static rm_status slow_validate(void *resource, void *user) {
    pass(((server *)user)->w, RM_MS(20));
    return server_validate(resource, user);
}

static void note_lease(rm_status status, const rm_lease *lease, const rm_error *error, void *user) {
    (void)error;
    took_in_vain = status;
    if (status == RM_OK) *(rm_lease *)user = *lease;
}

/* The first refuses; what is idle at the second is not fit, which takes its time to show. */
TEST(endpoints, that_refuse_are_not_all_while_others_end_what_is_not_fit) {
    uint32_t i, how;
    for (how = 0; how < 2; ++how) {
        rm_pool_request request;
        rm_lease leases[7], got;
        cluster c;
        cluster_init(&c, 2, 12);
        cluster_guard(&c, 2);
        c.w.desc.validate_fn = slow_validate;
        c.w.desc.validate_after_ns = RM_MS(1);
        REQUIRE(world_open(&c.w));
        c.servers[0].seen.refuses = true;
        take_many(&c.w, leases, 7);
        for (i = 1; i < 7; ++i) {
            thing_of(&leases[i])->sick = true;
            give(&c.w, &leases[i], RM_RELEASE_OK);
        }
        pass(&c.w, RM_SEC(1));
        memset(&got, 0, sizeof got);
        if (how == 0) CHECK_EQ(RM_OK, take_for(&c.w, RM_SEC(10), &got));
        if (how == 1)
            CHECK_EQ(RM_OK, rm_pool_acquire_async(c.w.pool, &request, never, NULL, note_lease, NULL,
                                                  &got));
        if (how == 1) CHECK_EQ(RM_OK, took_in_vain);
        if (got.resource != NULL) give(&c.w, &got, RM_RELEASE_OK);
        give(&c.w, &leases[0], RM_RELEASE_OK);
        world_end(&c.w);
    }
}

static rm_status late_create(void **resource, rm_deadline deadline, rm_error *error, void *user) {
    pass(((server *)user)->w, RM_MS(20));
    return server_create(resource, deadline, error, user);
}

/* Not that the time was over then, nor what the next one said. */
TEST(endpoints, that_fail_are_told_by_prewarm_as_the_first_of_them_did) {
    uint32_t i;
    for (i = 0; i < 2; ++i) {
        rm_error error;
        cluster c;
        cluster_init(&c, 2, 2);
        cluster_guard(&c, 2);
        if (i == 0) c.w.desc.create_fn = late_create;
        REQUIRE(world_open(&c.w));
        c.servers[0].status = RM_E_AUTH;
        c.servers[1].status = RM_E_AUTH;
        c.servers[1].seen.refuses = i == 1;
        CHECK_EQ(RM_E_AUTH,
                 rm_pool_prewarm(c.w.pool, 1,
                                 i == 0 ? rm_deadline_after(&c.w.clock, RM_MS(10)) : never, NULL,
                                 &error));
        CHECK_EQ(RM_E_AUTH, error.status);
        world_end(&c.w);
    }
}

TEST(endpoints, fail_together_only_when_none_is_left) {
    rm_lease lease;
    cluster c;
    REQUIRE(cluster_begin(&c, 2, 4));
    c.servers[0].status = RM_E_REFUSED;
    c.servers[1].status = RM_E_SYSTEM;
    CHECK_EQ(RM_E_REFUSED, take(&c.w, &lease));
    CHECK_EQ(RM_E_SYSTEM, take(&c.w, &lease));
    CHECK_EQ(RM_E_SYSTEM, take(&c.w, &lease)); /* the last error, at once */
    CHECK_EQ(1, stats_of(&c.w).failed_fast);
    CHECK_EQ(2, c.servers[0].creates + c.servers[1].creates);
    CHECK_EQ(4, stats_of(&c.w).empty);
    world_end(&c.w);
}

TEST(endpoints, are_passed_over_while_their_guard_refuses) {
    rm_lease a, b, d;
    cluster c;
    REQUIRE(cluster_begin_guarded(&c, 2, 4));
    c.servers[0].seen.refuses = true;
    take_at(&c, &a, 1);
    c.servers[0].seen.refuses = false;
    pass(&c.w, RM_MS(10) - 1); /* create_backoff_ns */
    take_at(&c, &b, 1);        /* it is not asked again yet */
    pass(&c.w, 1);
    take_at(&c, &d, 0);
    give(&c.w, &a, RM_RELEASE_OK);
    give(&c.w, &b, RM_RELEASE_OK);
    give(&c.w, &d, RM_RELEASE_OK);
    check_permits(&c, 2);
    world_end(&c.w);
}

TEST(endpoints, wake_who_waits_when_a_guard_may_admit_again) {
    rm_lease a, b;
    caller waiter;
    cluster c;
    REQUIRE(cluster_begin_guarded(&c, 2, 2));
    CHECK_EQ(RM_OK, take(&c.w, &a));
    c.servers[1].status = RM_E_REFUSED; /* from now on nothing is made there */
    CHECK_EQ(RM_OK, rm_pool_acquire(c.w.pool, RM_SEC(1), &b, NULL));
    give(&c.w, &a, RM_RELEASE_OK); /* idle, and its guard refuses: nobody may have it */
    c.servers[0].seen.refuses = true;
    caller_queue(&waiter, &c.w, RM_FOREVER, 1);
    CHECK_EQ(1, stats_of(&c.w).idle);
    pass(&c.w, RM_MS(10) - 1);
    CHECK_EQ(1, stats_of(&c.w).waiting);
    c.servers[0].seen.refuses = false;
    pass(&c.w, 1); /* nobody tells it: it looks by itself */
    CHECK_EQ(RM_OK, caller_join(&waiter));
    CHECK_EQ(0, slot_server(&c, &waiter.lease));
    give_both(&c.w, &waiter.lease, &b);
    check_permits(&c, 2);
    world_end(&c.w);
}

/* The first of two that are as good refuses, once: it is passed over for create_backoff_ns. */
static void lend_past_a_refusal(cluster *c, rm_lease *lease) {
    c->servers[0].seen.refuses = true;
    take_at(c, lease, 1);
    c->servers[0].seen.refuses = false;
}

TEST(endpoints, are_tried_long_after_a_refusal_when_another_fails) {
    rm_lease a, b, d;
    cluster c;
    REQUIRE(cluster_begin_guarded(&c, 2, 3));
    take_both(&c.w, &a, &b);
    lend_past_a_refusal(&c, &d);
    give(&c.w, &b, RM_RELEASE_BROKEN);
    give(&c.w, &d, RM_RELEASE_BROKEN); /* the first has more in use from now on */
    pass(&c.w, RM_MINUTES(9));
    c.servers[1].status = RM_E_REFUSED;
    REQUIRE(take_for(&c.w, RM_SEC(1), &b) == RM_OK); /* nobody has asked the first since */
    CHECK_EQ(0, slot_server(&c, &b));
    CHECK_EQ(3, c.servers[1].creates); /* the last one failed */
    give_both(&c.w, &a, &b);
    check_permits(&c, 2);
    world_end(&c.w);
}

TEST(endpoints, have_way_made_for_them_long_after_a_refusal) {
    rm_lease a;
    cluster c;
    REQUIRE(cluster_begin_guarded(&c, 2, 1));
    lend_past_a_refusal(&c, &a);
    give(&c.w, &a, RM_RELEASE_OK);
    pass(&c.w, RM_MINUTES(9));
    c.servers[1].seen.refuses = true; /* where the only place is taken by what is idle */
    REQUIRE(take(&c.w, &a) == RM_OK);
    CHECK_EQ(0, slot_server(&c, &a));
    CHECK_EQ(1, c.servers[1].destroyed);
    give(&c.w, &a, RM_RELEASE_OK);
    check_permits(&c, 2);
    world_end(&c.w);
}

static void show_first(const rm_stat *stat, void *user) {
    if (strcmp(stat->name, "rm_pool_endpoint_up") == 0 && strcmp(stat->label_value, "one") == 0)
        *(int64_t *)user = stat->value;
}

/* Is the first endpoint up? */
static int64_t first_is_up(cluster *c) {
    const rm_resource resource = rm_pool_resource(c->w.pool);
    int64_t up = -1;
    resource.stats_fn(resource.user, show_first, &up);
    return up;
}

TEST(endpoints, are_up_when_they_may_be_asked_again) {
    rm_lease a;
    cluster c;
    REQUIRE(cluster_begin_guarded(&c, 2, 1));
    CHECK_EQ(1, first_is_up(&c));
    lend_past_a_refusal(&c, &a);
    CHECK_EQ(0, first_is_up(&c));
    pass(&c.w, RM_MS(10) - 1); /* create_backoff_ns */
    CHECK_EQ(0, first_is_up(&c));
    pass(&c.w, 1);
    CHECK_EQ(1, first_is_up(&c));
    give(&c.w, &a, RM_RELEASE_OK);
    world_end(&c.w);
}

TEST(endpoints, reject_when_all_their_guards_refuse) {
    rm_lease lease;
    rm_error error;
    cluster c;
    REQUIRE(cluster_begin_guarded(&c, 2, 2));
    c.servers[0].seen.refuses = c.servers[1].seen.refuses = true;
    CHECK_EQ(RM_E_REJECTED, rm_pool_acquire(c.w.pool, RM_FOREVER, &lease, &error));
    CHECK_STR("db", error.where);
    CHECK(strstr(error.message, "refuse") != NULL);
    CHECK_EQ(RM_E_REJECTED, take(&c.w, &lease));
    CHECK_EQ(2, stats_of(&c.w).rejected);
    c.servers[0].seen.refuses = c.servers[1].seen.refuses = false;
    CHECK_EQ(RM_E_REJECTED, take(&c.w, &lease));
    pass(&c.w, RM_MS(100));
    CHECK(borrow(&c.w) != 0);
    check_permits(&c, 2);
    world_end(&c.w);
}

TEST(endpoints, reject_also_who_waits_already) {
    rm_lease a, b;
    caller waiter;
    cluster c;
    REQUIRE(cluster_begin_guarded(&c, 1, 1));
    CHECK_EQ(RM_OK, take(&c.w, &a));
    caller_queue(&waiter, &c.w, RM_FOREVER, 1);
    c.servers[0].seen.refuses = true;
    give(&c.w, &a, RM_RELEASE_OK);
    CHECK_EQ(RM_E_REJECTED, caller_join(&waiter));
    CHECK_EQ(RM_E_REJECTED, take(&c.w, &b));
    check_permits(&c, 1);
    world_end(&c.w);
}

/* Released fit, failed, dirty, broken; replaced after a check, or not. */
static void permits_of_releases(cluster *c) {
    rm_lease a, b;
    take_both(&c->w, &a, &b);
    give(&c->w, &a, RM_RELEASE_OK);
    give(&c->w, &b, RM_RELEASE_FAILED);
    take_both(&c->w, &a, &b);
    thing_of(&a)->dirty = true;
    give(&c->w, &a, RM_RELEASE_OK);
    give(&c->w, &b, RM_RELEASE_BROKEN);
    CHECK_EQ(RM_OK, take(&c->w, &a));
    thing_of(&a)->sick = true; /* replaced at the next acquire, ... */
    give(&c->w, &a, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, take(&c->w, &a));
    thing_of(&a)->sick = true;
    give(&c->w, &a, RM_RELEASE_OK);
    c->servers[0].status = c->servers[1].status = RM_E_REFUSED; /* ... or not */
    CHECK_EQ(RM_E_REFUSED, take(&c->w, &a));
    CHECK_EQ(RM_E_REFUSED, take(&c->w, &a));
    c->servers[0].status = c->servers[1].status = RM_OK;
}

/* Evicted, detached, reclaimed, prewarmed, released by result. */
static void permits_of_others(cluster *c) {
    rm_error failed;
    rm_lease a, b;
    pass(&c->w, RM_SEC(5));
    CHECK_EQ(RM_OK, take(&c->w, &a));
    CHECK_EQ(RM_OK, rm_pool_evict_all(c->w.pool));
    give(&c->w, &a, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, take(&c->w, &a));
    detach(&c->w, &a);
    take_both(&c->w, &a, &b);
    pass(&c->w, RM_SEC(10));
    CHECK_EQ(RM_OK, maintain(&c->w)); /* takes both */
    CHECK_EQ(RM_E_STALE, rm_pool_release(c->w.pool, &a, RM_RELEASE_OK));
    CHECK_EQ(RM_E_STALE, rm_pool_release(c->w.pool, &b, RM_RELEASE_OK));
    CHECK_EQ(RM_OK, rm_pool_prewarm(c->w.pool, 2, never, NULL, NULL));
    take_both(&c->w, &a, &b);
    (void)rm_error_set(&failed, RM_E_TIMEOUT, 0, "server", "no answer");
    CHECK_EQ(RM_OK, rm_pool_release_result(c->w.pool, &a, &failed));
    CHECK_EQ(RM_OK, rm_pool_release_result(c->w.pool, &b, NULL));
    check_permits(c, 2);
}

/* Every way on which a permit may go, for every server. */
TEST(endpoints, report_each_permit_once) {
    uint32_t i;
    cluster c;
    cluster_init(&c, 2, 2);
    cluster_guard(&c, 2);
    c.w.desc.validate_fn = server_validate;
    c.w.desc.validate_after_ns = RM_STRICT;
    c.w.desc.reset_fn = server_reset;
    c.w.desc.reclaim_fn = server_reclaim;
    c.w.desc.reclaim_after_ns = RM_SEC(10);
    c.w.desc.max_lifetime_ns = RM_SEC(100);
    c.w.desc.max_creating = 1; /* prewarm makes one after the other, so that each has one */
    REQUIRE(world_open(&c.w));
    for (i = 0; i < 2; ++i) {
        permits_of_releases(&c);
        permits_of_others(&c);
    }
    CHECK(c.servers[0].seen.admitted > 10 && c.servers[1].seen.admitted > 10);
    CHECK(c.servers[0].seen.failures > 0 && c.servers[1].seen.failures > 0);
    world_end(&c.w);
    check_permits(&c, 2);
}

/* A resource fails its check, and its server is not to be asked for another yet. */
TEST(endpoints, report_the_permit_of_what_is_not_replaced) {
    rm_lease a, b;
    cluster c;
    cluster_init(&c, 1, 2);
    cluster_guard(&c, 1);
    c.w.desc.validate_fn = server_validate;
    c.w.desc.validate_after_ns = RM_STRICT;
    REQUIRE(world_open(&c.w));
    CHECK_EQ(RM_OK, take(&c.w, &a));
    c.servers[0].status = RM_E_REFUSED;
    CHECK_EQ(RM_E_REFUSED, take(&c.w, &b));
    thing_of(&a)->sick = true;
    give(&c.w, &a, RM_RELEASE_OK);
    CHECK_EQ(RM_E_REFUSED, take(&c.w, &a));
    CHECK_EQ(2, c.servers[0].creates);
    CHECK_EQ(1, c.servers[0].destroyed);
    CHECK_REPORTS(c.servers[0].seen, 1, 1, 1);
    check_permits(&c, 1);
    world_end(&c.w);
}

TEST(endpoints, give_their_user_to_the_hooks) {
    rm_lease a, b;
    rm_error failed;
    cluster c;
    uint32_t i;
    cluster_init(&c, 2, 2);
    c.w.desc.validate_fn = server_validate;
    c.w.desc.validate_after_ns = RM_STRICT;
    c.w.desc.reset_fn = server_reset;
    c.w.desc.classify_fn = server_classify;
    c.w.desc.discard_fn = server_discard;
    c.w.desc.reclaim_fn = server_reclaim;
    c.w.desc.reclaim_after_ns = RM_SEC(10);
    REQUIRE(world_open(&c.w));
    (void)rm_error_set(&failed, RM_E_TIMEOUT, 0, "server", "no answer");
    take_both(&c.w, &a, &b);
    CHECK_EQ(RM_OK, rm_pool_release_result(c.w.pool, &a, &failed));
    CHECK_EQ(RM_OK, rm_pool_release_result(c.w.pool, &b, &failed));
    take_both(&c.w, &a, &b);
    for (i = 0; i < 2; ++i) {
        CHECK_EQ(1, c.servers[i].created);
        CHECK_EQ(1, c.servers[i].resets);
        CHECK_EQ(1, c.servers[i].classified);
        CHECK_EQ(1, c.servers[i].validates);
    }
    pass(&c.w, RM_SEC(10));
    CHECK_EQ(RM_OK, maintain(&c.w));
    CHECK_EQ(1, c.servers[0].reclaimed);
    CHECK_EQ(1, c.servers[1].reclaimed);
    take_both(&c.w, &a, &b);
    give(&c.w, &a, RM_RELEASE_BROKEN);
    CHECK_EQ(1, c.servers[0].destroyed);
    CHECK_EQ(0, c.servers[1].destroyed);
    CHECK_EQ(RM_OK, rm_pool_after_fork_child(c.w.pool));
    CHECK_EQ(1, c.servers[1].discarded);
    CHECK_EQ(0, c.servers[0].discarded);
    world_end(&c.w);
}

static bool sees_lease(const rm_pool_lease_info *lease, void *user) {
    char *names = (char *)user;
    (void)snprintf(names + strlen(names), 64 - strlen(names), "%s;", lease->endpoint);
    return true;
}

TEST(endpoints, are_named_in_events_and_leases) {
    char names[64] = "";
    rm_lease a, b;
    uint32_t i;
    cluster c;
    cluster_init(&c, 2, 2);
    c.w.desc.event_fn = world_event;
    c.w.desc.leak_after_ns = RM_SEC(1);
    REQUIRE(world_open(&c.w));
    c.endpoints[0].name = c.endpoints[1].name = "gone"; /* they were copied */
    take_both(&c.w, &a, &b);
    CHECK_EQ(2, rm_pool_leases(c.w.pool, sees_lease, names));
    CHECK_STR("one;two;", names);
    pass(&c.w, RM_SEC(1));
    CHECK_EQ(RM_OK, maintain(&c.w));
    give(&c.w, &a, RM_RELEASE_OK);
    give(&c.w, &b, RM_RELEASE_BROKEN);
    CHECK_EQ(9, c.w.noted); /* created, acquired, leaked, released: each twice; destroyed */
    for (i = 0; i < c.w.noted; ++i)
        CHECK(strcmp(c.w.notes[i].endpoint, "one") == 0 ||
              strcmp(c.w.notes[i].endpoint, "two") == 0);
    CHECK_STR("two", c.w.notes[8].endpoint);
    world_end(&c.w);
}

TEST(endpoints, are_checked) {
    static rm_pool_endpoint many[65];
    const rm_guard half[] = {{watch_admit, NULL, NULL}, {NULL, watch_report, NULL}};
    rm_pool *pool = NULL;
    rm_error error;
    uint32_t i;
    cluster c;
    cluster_init(&c, 2, 2);
    for (i = 0; i < 65; ++i)
        many[i].name = "x";
    for (i = 0; i < 9; ++i) {
        rm_pool_desc desc = c.w.desc;
        rm_pool_endpoint endpoints[2];
        memcpy(endpoints, c.endpoints, sizeof endpoints);
        desc.endpoints = endpoints;
        if (i == 0) desc.endpoints = many, desc.endpoint_count = 65;
        if (i == 1) desc.endpoints = NULL;
        if (i == 2) desc.endpoint_count = 0;
        if (i == 3) endpoints[1].name = NULL;
        if (i == 4) endpoints[1].name = "";
        if (i == 5) endpoints[1].name = "a name that is longer than forty-seven bytes, ...";
        if (i == 6) endpoints[1].guard = &half[0];
        if (i == 7) endpoints[1].guard = &half[1];
        if (i == 8) desc.balance = (rm_pool_balance)2;
        memset(&error, 0, sizeof error);
        CHECK_EQ(RM_E_INVALID, rm_pool_create(&desc, &pool, &error));
        CHECK_STR(i == 0 ? "endpoint_count" : i == 8 ? "balance" : "endpoints", error.where);
    }
    c.w.desc.endpoints = many;
    c.w.desc.endpoint_count = 64;
    REQUIRE(world_open(&c.w));
    world_end(&c.w);
}

/* ---- endpoints that take longer to fail than their backoff lasts ---- */

/* All but the last of `count` servers are down; of that one two are lent. */
static bool begin_with_one_well(cluster *c, uint32_t count, rm_lease leases[2]) {
    uint32_t i;
    cluster_init(c, count, 8);
    c->w.desc.min_idle = 2; /* for upkeep, where there is any */
    if (!world_open(&c->w)) return false;
    for (i = 0; i + 1 < count; ++i)
        c->servers[i].status = RM_E_REFUSED;
    for (i = 0; i < 2; ++i) {
        if (!CHECK_EQ(RM_OK, take_for(&c->w, RM_SEC(1), &leases[i]))) return false;
        CHECK_EQ(count - 1, slot_server(c, &leases[i]));
    }
    return true;
}

/* Two of three are down, and take so long to say so; at the third one is lent and one is idle. */
static bool begin_with_two_down(cluster *c, int64_t takes_ns, rm_lease *lease) {
    rm_lease leases[2];
    uint32_t i;
    if (!begin_with_one_well(c, 3, leases)) return false;
    *lease = leases[0];
    give(&c->w, &leases[1], RM_RELEASE_OK);
    pass(&c->w, RM_SEC(20)); /* their backoffs are over */
    for (i = 0; i < 3; ++i)
        c->servers[i].creates = 0;
    c->servers[0].takes_ns = c->servers[1].takes_ns = takes_ns;
    return true;
}

static void check_creates(const cluster *c, uint32_t one, uint32_t two, uint32_t three) {
    CHECK_EQ(one, c->servers[0].creates);
    CHECK_EQ(two, c->servers[1].creates);
    CHECK_EQ(three, c->servers[2].creates);
}

/* Gives back what was lent by the third server, if there is any. */
static void give_of_third(cluster *c, rm_lease *lease) {
    if (!CHECK(lease->resource != NULL)) return;
    CHECK_EQ(2, slot_server(c, lease));
    give(&c->w, lease, RM_RELEASE_OK);
}

TEST(endpoints, that_are_down_are_asked_once_each_by_an_acquire) {
    uint32_t how;
    for (how = 0; how < 2; ++how) { /* a second for each, or more than the longest backoff */
        rm_lease lease, more;
        cluster c;
        REQUIRE(begin_with_two_down(&c, how == 0 ? RM_SEC(1) : RM_SEC(6), &lease));
        CHECK_EQ(RM_OK, take_for(&c.w, RM_SEC(600), &more)); /* what is idle at the third */
        check_creates(&c, 1, 1, 0);
        give_of_third(&c, &more);
        give(&c.w, &lease, RM_RELEASE_OK);
        world_end(&c.w);
    }
}

TEST(endpoints, that_are_down_are_asked_once_each_by_an_asynchronous_acquire) {
    rm_pool_request request;
    rm_lease lease, more;
    cluster c;
    REQUIRE(begin_with_two_down(&c, RM_SEC(6), &lease));
    memset(&more, 0, sizeof more);
    took_in_vain = RM_E_INTERNAL;
    CHECK_EQ(RM_OK,
             rm_pool_acquire_async(c.w.pool, &request, rm_deadline_after(&c.w.clock, RM_SEC(600)),
                                   NULL, note_lease, NULL, &more));
    CHECK_EQ(RM_OK, took_in_vain);
    check_creates(&c, 1, 1, 0); /* in the thread that asks */
    give_of_third(&c, &more);
    give(&c.w, &lease, RM_RELEASE_OK);
    world_end(&c.w);
}

TEST(endpoints, that_are_down_are_asked_once_each_for_the_minimum_and_by_prewarm) {
    uint32_t how;
    for (how = 0; how < 2; ++how) {
        rm_lease lease;
        cluster c;
        REQUIRE(begin_with_two_down(&c, RM_SEC(1), &lease));
        if (how == 0) CHECK_EQ(RM_E_REFUSED, maintain(&c.w)); /* it tells the first failure */
        if (how == 1) CHECK_EQ(RM_OK, rm_pool_prewarm(c.w.pool, 2, never, NULL, NULL));
        check_creates(&c, 1, 1, 1);
        CHECK_EQ(2, stats_of(&c.w).idle);
        give(&c.w, &lease, RM_RELEASE_OK);
        world_end(&c.w);
    }
}

/* A create cancels the acquire that it is for. */
static struct {
    rm_cancel token;
    uint32_t at, calls; /* in which of its calls */
} cancelling;

static rm_status server_create_cancelled(void **resource, rm_deadline deadline, rm_error *error,
                                         void *user) {
    if (++cancelling.calls == cancelling.at) rm_cancel_request(&cancelling.token);
    if (cancelling.calls > 100) ((server *)user)->status = RM_OK; /* else it would never end */
    return server_create(resource, deadline, error, user);
}

static void cancelling_begin(cluster *c, uint32_t at) {
    CHECK_EQ(RM_OK, rm_cancel_init(&cancelling.token));
    cancelling.at = at;
    cancelling.calls = 0;
    c->w.desc.create_fn = server_create_cancelled;
}

TEST(endpoints, that_are_down_hold_no_acquire_that_was_cancelled) {
    uint32_t at;
    for (at = 1; at <= 2; ++at) { /* at the first that is down, or at the second */
        rm_lease lease;
        rm_error error;
        cluster c;
        cluster_init(&c, 3, 8);
        cancelling_begin(&c, at);
        REQUIRE(world_open(&c.w));
        c.servers[0].status = c.servers[1].status = RM_E_REFUSED;
        c.servers[0].takes_ns = c.servers[1].takes_ns = RM_SEC(6);
        memset(&lease, 0, sizeof lease);
        CHECK_EQ(RM_E_CANCELLED,
                 rm_pool_acquire_until(c.w.pool, never, &cancelling.token, &lease, &error));
        check_creates(&c, 1, at - 1, 0); /* it goes on to no other */
        if (lease.resource != NULL) give(&c.w, &lease, RM_RELEASE_OK);
        CHECK_EQ(RM_OK, rm_cancel_destroy(&cancelling.token));
        world_end(&c.w);
    }
}

/* The first two of three refuse, and take so long for it from now on; one of the third is lent. */
static bool begin_with_two_slow_guards(cluster *c, sluggard guards[2], rm_lease *lease) {
    cluster_guard_slowly(c, guards, 2, 0);
    if (!world_open(&c->w) || !CHECK_EQ(RM_OK, take(&c->w, lease))) return false;
    CHECK_EQ(2, slot_server(c, lease));
    guards[0].takes_ns = guards[1].takes_ns = RM_MS(20);
    guards[0].asked = guards[1].asked = 0;
    return true;
}

/* With something idle there, or with room for one. */
TEST(endpoints, that_refuse_slowly_do_not_keep_an_acquire_from_a_third) {
    uint32_t how;
    for (how = 0; how < 2; ++how) {
        sluggard guards[2];
        rm_lease leases[2], more;
        cluster c;
        cluster_init(&c, 3, how == 0 ? 8 : 1);
        c.w.desc.overflow = how; /* overflow comes after all that may be idle: a second round */
        REQUIRE(begin_with_two_slow_guards(&c, guards, &leases[0]));
        if (how == 0) CHECK_EQ(RM_OK, take(&c.w, &leases[1]));
        if (how == 0) give(&c.w, &leases[1], RM_RELEASE_OK);
        pass(&c.w, RM_SEC(1));
        CHECK_EQ(RM_OK, take_for(&c.w, RM_SEC(5), &more));
        CHECK_EQ(2, c.servers[2].created);
        give_of_third(&c, &more);
        give(&c.w, &leases[0], RM_RELEASE_OK);
        world_end(&c.w);
    }
}

/* The third, which may not grow, is all lent; what is idle at the others is refused, slowly. */
static bool begin_with_refused_idle_ones(cluster *c, sluggard guards[2], rm_lease *lease) {
    rm_lease others[2];
    cluster_init(c, 3, 8);
    cluster_guard_slowly(c, guards, 2, 0);
    guards[0].admits = guards[1].admits = true;
    c->w.desc.grow_after_ns = RM_SEC(36000);
    c->w.desc.max_creating = 1; /* one after the other, so that each has one */
    if (!world_open(&c->w) || !CHECK_EQ(RM_OK, rm_pool_prewarm(c->w.pool, 3, never, NULL, NULL)))
        return false;
    take_at(c, &others[0], 0);
    take_at(c, &others[1], 1);
    take_at(c, lease, 2);
    give_both(&c->w, &others[0], &others[1]);
    guards[0].admits = guards[1].admits = false;
    guards[0].takes_ns = guards[1].takes_ns = RM_SEC(4);
    guards[0].asked = guards[1].asked = 0;
    return true;
}

static uint32_t asked_both(sluggard guards[2]) {
    return GET(guards[0].asked) + GET(guards[1].asked);
}

/* 4 s each, and not for 12 s, which all three would take: 8 s between the second and the first. */
TEST(endpoints, that_refuse_slowly_are_asked_again_after_a_pause) {
    sluggard guards[2];
    rm_lease lease;
    caller waiter;
    cluster c;
    uint32_t i;
    REQUIRE(begin_with_refused_idle_ones(&c, guards, &lease));
    caller_start(&waiter, &c.w, RM_SEC(600));
    for (i = 1; i < 4; ++i) {
        while ((asked_both(guards) < 2 * i || stats_of(&c.w).waiting == 0) && !GET(waiter.finished))
            relax();
        CHECK_EQ(2 * i, asked_both(guards));
        pass(&c.w, RM_SEC(8) - 1);
        CHECK_EQ(1, stats_of(&c.w).waiting);
        pass(&c.w, 1);
    }
    give(&c.w, &lease, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, caller_join(&waiter));
    give(&c.w, &waiter.lease, RM_RELEASE_OK);
    world_end(&c.w);
}

TEST(endpoints, that_refuse_slowly_hold_a_call_that_serves_once_however_many_wait) {
    sluggard guards[2];
    rm_pool_request requests[3];
    rm_lease lease;
    cluster c;
    uint32_t i;
    REQUIRE(begin_with_refused_idle_ones(&c, guards, &lease));
    for (i = 0; i < 3; ++i)
        CHECK_EQ(RM_OK, rm_pool_acquire_async(c.w.pool, &requests[i], never, NULL, note_in_vain,
                                              NULL, NULL));
    for (i = 1; i < 4; ++i) {
        CHECK_EQ(2 * i, asked_both(guards));
        pass(&c.w, RM_SEC(8) - 1);
        CHECK_EQ(RM_OK, maintain(&c.w));
        CHECK_EQ(2 * i, asked_both(guards));
        pass(&c.w, 1);
        CHECK_EQ(RM_OK, maintain(&c.w));
    }
    for (i = 0; i < 3; ++i)
        CHECK_EQ(RM_OK, rm_pool_request_cancel(&requests[i]));
    CHECK_EQ(RM_E_CANCELLED, took_in_vain);
    give(&c.w, &lease, RM_RELEASE_OK);
    world_end(&c.w);
}

/* For longer than they may take once more, however long that is. */
TEST(endpoints, that_all_refuse_very_slowly_reject_an_asynchronous_acquire) {
    sluggard guards[3];
    cluster c;
    uint32_t i;
    cluster_init(&c, 3, 3);
    cluster_guard_slowly(&c, guards, 3, RM_SEC(55));
    REQUIRE(world_open(&c.w));
    CHECK_EQ(RM_E_REJECTED, take_async(&c));
    for (i = 0; i < 3; ++i)
        CHECK_EQ(1, guards[i].asked);
    world_end(&c.w);
}

static int64_t tick(void *user) {
    const rm_clock exact = rm_virtual_clock_clock((rm_virtual_clock *)user);
    const int64_t now = rm_now(&exact);
    return now - now % RM_MS(4);
}

/* What they take is measured, although it is less than the coarse clock shows. */
TEST(endpoints, that_all_refuse_within_a_tick_of_the_clock_are_asked_once_each) {
    sluggard guards[3];
    rm_lease lease;
    cluster c;
    uint32_t i;
    cluster_init(&c, 3, 3);
    cluster_guard_slowly(&c, guards, 3, RM_US(900));
    c.w.desc.create_backoff_ns = RM_NONE;
    c.w.clock.coarse_fn = tick;
    REQUIRE(world_open(&c.w));
    CHECK_EQ(RM_E_REJECTED, take(&c.w, &lease));
    for (i = 0; i < 3; ++i)
        CHECK_EQ(1, guards[i].asked);
    world_end(&c.w);
}

/* What it took may have been a halt of the machine. */
TEST(endpoints, that_refuse_after_an_hour_are_passed_over_for_a_minute) {
    sluggard guard;
    rm_lease lease;
    cluster c;
    cluster_init(&c, 1, 1);
    cluster_guard_slowly(&c, &guard, 1, RM_MINUTES(60));
    REQUIRE(world_open(&c.w));
    CHECK_EQ(RM_E_REJECTED, take(&c.w, &lease));
    guard.admits = true;
    pass(&c.w, RM_MINUTES(1) - 1);
    CHECK_EQ(RM_E_REJECTED, take(&c.w, &lease));
    pass(&c.w, 1);
    CHECK_EQ(RM_OK, take(&c.w, &lease));
    give(&c.w, &lease, RM_RELEASE_OK);
    world_end(&c.w);
}

/* The guard of the first refuses slowly; the second, whose create fails, has one that is lent. */
TEST(endpoints, that_refuse_slowly_are_not_all_when_another_fails) {
    sluggard guard;
    rm_lease lease, more;
    cluster c;
    cluster_init(&c, 2, 4);
    cluster_guard_slowly(&c, &guard, 1, 0);
    REQUIRE(world_open(&c.w));
    take_at(&c, &lease, 1);
    guard.takes_ns = RM_MS(50);
    c.servers[1].status = RM_E_REFUSED;
    c.servers[1].takes_ns = RM_SEC(1);
    pass(&c.w, RM_SEC(1));
    CHECK_EQ(RM_E_REFUSED, take_for(&c.w, RM_SEC(30), &more));
    CHECK_EQ(0, stats_of(&c.w).rejected);
    give(&c.w, &lease, RM_RELEASE_OK);
    world_end(&c.w);
}

/* ---- what is idle at one endpoint while another fails, refuses or has the balance ---- */

/* The first refuses at once, the second takes longer to fail than the first is passed over. */
TEST(endpoints, that_are_well_are_prewarmed_and_get_the_minimum_beside_two_that_are_not) {
    uint32_t how;
    for (how = 0; how < 2; ++how) {
        uint32_t made = 0;
        cluster c;
        cluster_init(&c, 3, 8);
        cluster_guard(&c, 1);
        c.w.desc.max_creating = 1; /* in this thread */
        c.w.desc.min_idle = 4;
        REQUIRE(world_open(&c.w));
        c.servers[0].seen.refuses = true;
        c.servers[1].status = RM_E_REFUSED;
        c.servers[1].takes_ns = RM_SEC(5);
        c.servers[2].takes_ns = RM_MS(20);
        if (how == 0) CHECK_EQ(RM_E_REJECTED, maintain(&c.w)); /* it tells the first failure */
        if (how == 1) CHECK_EQ(RM_OK, rm_pool_prewarm(c.w.pool, 4, never, &made, NULL));
        if (how == 1) CHECK_EQ(4, made);
        CHECK_EQ(4, c.servers[2].created);
        world_end(&c.w);
    }
}

TEST(endpoints, that_are_well_get_the_minimum_although_each_upkeep_makes_one_call_only) {
    uint32_t i;
    cluster c;
    cluster_init(&c, 2, 8);
    cluster_guard(&c, 1);
    c.w.desc.min_idle = 4;
    REQUIRE(world_open(&c.w));
    c.servers[0].seen.refuses = true;
    for (i = 0; i < 4; ++i) {
        (void)rm_pool_maintain(c.w.pool, 1, never, NULL);
        pass(&c.w, RM_SEC(1));
    }
    CHECK_EQ(4, c.servers[1].created);
    world_end(&c.w);
}

TEST(endpoints, that_fail_use_up_the_calls_of_an_upkeep) {
    uint32_t i;
    cluster c;
    cluster_init(&c, 2, 8);
    c.w.desc.min_idle = 2;
    REQUIRE(world_open(&c.w));
    c.servers[0].status = RM_E_REFUSED;
    CHECK_EQ(RM_E_REFUSED, rm_pool_maintain(c.w.pool, 1, never, NULL));
    CHECK_EQ(1, c.servers[0].creates);
    CHECK_EQ(0, c.servers[1].creates);
    for (i = 1; i < 3; ++i) {
        CHECK_EQ(RM_OK, rm_pool_maintain(c.w.pool, 1, never, NULL));
        CHECK_EQ(i, c.servers[1].created);
    }
    world_end(&c.w);
}

/* Refuses the one that waits at its gate. */
typedef struct doorkeeper {
    rm_guard guard;
    gate *hold;
} doorkeeper;

static rm_status doorkeeper_admit(rm_permit *permit, rm_error *error, void *user) {
    gate *g = SWAP(((doorkeeper *)user)->hold, NULL);
    (void)permit;
    if (g == NULL) return RM_OK;
    gate_pass(g);
    return rm_error_set(error, RM_E_REJECTED, 0, "guard", "no");
}

static struct {
    server *at;
    gate *next; /* of its creates */
} gated;

static rm_status create_through_gate(void **resource, rm_deadline deadline, rm_error *error,
                                     void *user) {
    gate *g = user == gated.at ? SWAP(gated.next, NULL) : NULL;
    if (g != NULL) gate_pass(g);
    return server_create(resource, deadline, error, user);
}

/* Its create failed, and the pool was full; when it comes to the head, nobody may make one. */
TEST(endpoints, that_failed_do_not_end_the_wait_of_one_that_waited_behind_another) {
    rm_pool_request ahead[2];
    rm_lease a, b;
    rm_lease got;
    caller failed, refused;
    gate at_create, at_guard;
    doorkeeper keeper;
    cluster c;
    memset(&keeper, 0, sizeof keeper);
    memset(&got, 0, sizeof got);
    keeper.guard.admit_fn = doorkeeper_admit;
    keeper.guard.report_fn = sluggard_report;
    keeper.guard.user = &keeper;
    cluster_init(&c, 2, 3);
    c.endpoints[1].guard = &keeper.guard;
    c.w.desc.create_fn = create_through_gate;
    gated.at = &c.servers[0];
    gated.next = NULL;
    c.w.desc.create_backoff_ns = c.w.desc.create_backoff_max_ns = RM_SEC(10);
    REQUIRE(world_open(&c.w));
    take_at(&c, &a, 0);
    take_at(&c, &b, 1);
    give(&c.w, &b, RM_RELEASE_OK);
    gate_init(&at_create);
    gate_init(&at_guard);
    SET(keeper.hold, &at_guard);
    caller_start(&refused, &c.w, RM_SEC(600)); /* has claimed what is idle at the second */
    gate_await(&at_guard, 1);
    SET(gated.next, &at_create);
    c.servers[0].status = RM_E_REFUSED;
    give(&c.w, &a, RM_RELEASE_BROKEN);
    caller_start(&failed, &c.w, RM_SEC(600));
    gate_await(&at_create, 1);
    take_at(&c, &b, 1); /* it is full now */
    CHECK_EQ(RM_OK,
             rm_pool_acquire_async(c.w.pool, &ahead[0], never, NULL, note_lease, NULL, &got));
    CHECK_EQ(RM_OK,
             rm_pool_acquire_async(c.w.pool, &ahead[1], never, NULL, note_in_vain, NULL, NULL));
    gate_open(&at_create); /* the room goes to the first of them */
    rm_virtual_clock_await(&c.w.time, 1);
    CHECK(got.resource != NULL);
    CHECK_EQ(2, stats_of(&c.w).waiting);
    gate_open(&at_guard); /* the second is shut, the first is in its backoff */
    rm_virtual_clock_await(&c.w.time, 2);
    CHECK_EQ(3, stats_of(&c.w).waiting);
    CHECK_EQ(RM_OK, rm_pool_request_cancel(&ahead[1]));
    CHECK_EQ(2, stats_of(&c.w).waiting); /* some may come back */
    c.servers[0].status = RM_OK;
    pass(&c.w, RM_SEC(10));
    CHECK_EQ(RM_OK, caller_join(&failed));
    give(&c.w, &failed.lease, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, caller_join(&refused));
    give(&c.w, &refused.lease, RM_RELEASE_OK);
    give_both(&c.w, &b, &got);
    gate_done(&at_create);
    gate_done(&at_guard);
    world_end(&c.w);
}

static cluster *closing; /* by the next guard that is asked; NULL = not */

static rm_status admit_and_close(rm_permit *permit, rm_error *error, void *user) {
    (void)permit, (void)error, (void)user;
    if (closing != NULL) (void)rm_pool_close(closing->w.pool, RM_NOWAIT, NULL);
    return RM_OK;
}

TEST(endpoints, tell_the_guard_of_the_pool_of_a_failed_create_before_one_that_a_close_ends) {
    const rm_guard guard = {admit_and_close, sluggard_report, NULL};
    watch seen;
    rm_lease lease;
    cluster c;
    cluster_init(&c, 2, 4);
    c.w.desc.guard = watch_init(&seen);
    c.endpoints[1].guard = &guard;
    REQUIRE(world_open(&c.w));
    c.servers[0].status = RM_E_REFUSED;
    closing = &c;
    CHECK_EQ(RM_E_CLOSED, take_for(&c.w, RM_SEC(5), &lease));
    closing = NULL;
    CHECK_EQ(1, c.servers[0].creates);
    CHECK_REPORTS(seen, 0, 1, 0);
    world_end(&c.w);
}

static struct {
    cluster *of;
    caller taker;
    gate g;
} beside;

static rm_status admit_any(rm_permit *permit, rm_error *error, void *user) {
    (void)permit, (void)error, (void)user;
    return RM_OK;
}

/* The room that a failed create leaves is another's. */
static void take_the_room(rm_permit *permit, rm_outcome outcome, void *user) {
    (void)permit, (void)user;
    if (outcome != RM_OUTCOME_FAILURE) return;
    caller_start(&beside.taker, &beside.of->w, RM_SEC(600));
    gate_await(&beside.g, 1);
}

/* By a thread, or for a request. */
TEST(endpoints, that_failed_are_tried_again_after_a_wait_for_room) {
    const rm_guard guard = {admit_any, take_the_room, NULL};
    uint32_t how;
    for (how = 0; how < 2; ++how) {
        rm_pool_request request;
        rm_lease got;
        caller waiter;
        cluster c;
        beside.of = &c;
        gate_init(&beside.g);
        memset(&got, 0, sizeof got);
        cluster_init(&c, 2, 1);
        c.w.desc.create_fn = create_through_gate;
        gated.at = &c.servers[1];
        SET(gated.next, &beside.g);
        c.endpoints[0].guard = &guard;
        c.servers[0].status = c.servers[1].status = RM_E_REFUSED;
        REQUIRE(world_open(&c.w));
        if (how == 0) caller_queue(&waiter, &c.w, RM_SEC(600), 1);
        if (how == 1)
            CHECK_EQ(RM_OK, rm_pool_acquire_async(c.w.pool, &request, never, NULL, note_lease, NULL,
                                                  &got));
        CHECK_EQ(1, stats_of(&c.w).waiting);
        c.servers[0].status = RM_OK;
        pass(&c.w, RM_SEC(1));
        gate_open(&beside.g);
        if (how == 0 && CHECK_EQ(RM_OK, caller_join(&waiter))) got = waiter.lease; /* of one */
        if (how == 1) rm_virtual_clock_await(&c.w.time, 1); /* the other one waits now */
        CHECK(got.resource != NULL);
        if (got.resource != NULL) give(&c.w, &got, RM_RELEASE_OK);
        if (caller_join(&beside.taker) == RM_OK) give(&c.w, &beside.taker.lease, RM_RELEASE_OK);
        gate_done(&beside.g);
        world_end(&c.w);
    }
}

TEST(endpoints, that_refuse_are_not_asked_again_at_once_when_another_fails) {
    sluggard guard;
    rm_lease lease;
    cluster c;
    cluster_init(&c, 2, 2);
    cluster_guard_slowly(&c, &guard, 1, 0);
    guard.admits = true;
    c.w.desc.create_backoff_ns = c.w.desc.create_backoff_max_ns = RM_MINUTES(1);
    REQUIRE(world_open(&c.w));
    take_at(&c, &lease, 0);
    give(&c.w, &lease, RM_RELEASE_OK);
    guard.admits = false;
    c.servers[1].status = RM_E_REFUSED;
    c.servers[1].takes_ns = RM_SEC(10); /* nothing is left, not even time */
    CHECK_EQ(RM_E_REFUSED, take_for(&c.w, RM_SEC(5), &lease));
    CHECK_EQ(1, guard.asked);
    world_end(&c.w);
}

TEST(endpoints, lend_what_is_idle_at_another_when_a_create_fails) {
    uint32_t how;
    for (how = 0; how < 2; ++how) { /* by a try, or after the other one failed, too, long ago */
        rm_lease leases[2], more;
        cluster c;
        REQUIRE(begin_with_one_well(&c, 2, leases));
        pass(&c.w, RM_SEC(10));
        c.servers[1].status = how == 1 ? RM_E_FAILED : RM_OK;
        if (how == 1) CHECK(take_for(&c.w, RM_MS(1), &more) != RM_OK);
        c.servers[1].status = RM_OK;
        give(&c.w, &leases[1], RM_RELEASE_OK);
        pass(&c.w, RM_MINUTES(5));
        c.servers[0].creates = 0;
        CHECK_EQ(RM_OK, take_for(&c.w, how == 0 ? RM_NOWAIT : RM_SEC(30), &more));
        CHECK_EQ(1, c.servers[0].creates);
        CHECK_EQ(2, c.servers[1].created);
        if (more.resource != NULL) give(&c.w, &more, RM_RELEASE_OK);
        give(&c.w, &leases[0], RM_RELEASE_OK);
        world_end(&c.w);
    }
}

TEST(endpoints, make_no_overflow_while_something_is_idle_at_another) {
    rm_lease leases[2];
    cluster c;
    cluster_init(&c, 2, 2);
    c.w.desc.overflow = 1;
    REQUIRE(world_open(&c.w));
    c.servers[0].status = RM_E_REFUSED;
    CHECK_EQ(RM_OK, take_for(&c.w, RM_SEC(1), &leases[0]));
    CHECK_EQ(RM_OK, take_for(&c.w, RM_SEC(1), &leases[1]));
    give_many(&c.w, leases, 2);
    c.servers[0].status = RM_OK; /* it is back, and has the least in use */
    pass(&c.w, RM_SEC(10));
    take_many(&c.w, leases, 2);
    CHECK_EQ(2, c.servers[1].created);
    CHECK_EQ(0, c.servers[0].created); /* it would be ended with its lease, each time */
    give_many(&c.w, leases, 2);
    world_end(&c.w);
}

TEST(endpoints, make_no_overflow_in_turn_while_something_is_idle) {
    uint32_t i;
    rm_lease kept, lease, more, none;
    cluster c;
    cluster_init(&c, 2, 2);
    c.w.desc.balance = RM_POOL_ROUND_ROBIN;
    c.w.desc.overflow = 1;
    REQUIRE(world_open(&c.w));
    take_at(&c, &kept, 0);
    for (i = 0; i < 4; ++i) { /* the first has its turn, but nothing idle, in every second */
        take_at(&c, &lease, 1);
        give(&c.w, &lease, RM_RELEASE_OK);
    }
    CHECK_EQ(2, c.w.created);
    take_at(&c, &lease, 1);
    CHECK_EQ(RM_OK, take(&c.w, &more)); /* now all are taken */
    CHECK_EQ(RM_E_BUSY, take(&c.w, &none));
    give_both(&c.w, &lease, &more);
    give(&c.w, &kept, RM_RELEASE_OK);
    world_end(&c.w);
}

/* The guard of the second refuses: there is nothing to try after the create of the first. */
TEST(endpoints, tell_the_guard_of_the_pool_of_a_failed_create_beside_one_that_refuses) {
    uint32_t how;
    for (how = 0; how < 2; ++how) {
        uint32_t i;
        rm_lease lease;
        watch all;
        cluster c;
        cluster_init(&c, 2, 2);
        cluster_guard(&c, 2);
        c.w.desc.guard = watch_init(&all);
        REQUIRE(world_open(&c.w));
        c.servers[0].status = RM_E_REFUSED;
        c.servers[0].takes_ns = RM_SEC(1);
        c.servers[1].seen.refuses = true;
        for (i = 1; i <= 3; ++i) {
            CHECK_EQ(RM_E_REFUSED, how == 0 ? take_for(&c.w, RM_SEC(30), &lease) : take_async(&c));
            CHECK_EQ(i, c.servers[0].creates);
            CHECK_REPORTS(all, 0, i, 0);
            pass(&c.w, RM_SEC(10));
        }
        CHECK_EQ(0, stats_of(&c.w).failed_fast); /* each was tried */
        world_end(&c.w);
    }
}

static void slow_destroy(void *resource, void *user) {
    pass(((server *)user)->w, RM_SEC(10));
    server_destroy(resource, user);
}

/* The first refuses and its idle resource makes way, which takes more time than there is. */
TEST(endpoints, make_way_in_the_time_that_the_acquire_has) {
    rm_lease lease;
    cluster c;
    cluster_init(&c, 2, 1);
    cluster_guard(&c, 2);
    c.w.desc.destroy_fn = slow_destroy;
    REQUIRE(world_open(&c.w));
    take_at(&c, &lease, 0);
    give(&c.w, &lease, RM_RELEASE_OK);
    c.servers[0].seen.refuses = true;
    c.servers[1].status = RM_E_REFUSED;
    CHECK_EQ(RM_E_TIMEOUT, take_for(&c.w, RM_SEC(5), &lease));
    CHECK_EQ(1, c.servers[0].destroyed);
    CHECK_EQ(0, c.servers[1].creates);
    world_end(&c.w);
}

/* The second has one lent and one idle; the first and the third, which have none, are down. */
static bool cluster_two_of_the_second(cluster *c, rm_lease *lent,
                                      rm_status (*validate_fn)(void *resource, void *user)) {
    rm_lease l[5];
    cluster_init(c, 3, 8);
    c->w.desc.validate_fn = validate_fn;
    c->w.desc.validate_after_ns = RM_STRICT;
    if (!world_open(&c->w)) return false;
    take_at(c, &l[0], 0);
    take_at(c, &l[1], 1);
    take_at(c, &l[2], 2);
    take_at(c, &l[3], 0);
    take_at(c, &l[4], 1);
    give(&c->w, &l[0], RM_RELEASE_BROKEN);
    give(&c->w, &l[2], RM_RELEASE_BROKEN);
    give(&c->w, &l[3], RM_RELEASE_BROKEN);
    give(&c->w, &l[4], RM_RELEASE_OK);
    *lent = l[1];
    c->servers[0].status = c->servers[2].status = RM_E_REFUSED;
    c->servers[0].creates = c->servers[1].creates = c->servers[2].creates = 0;
    return true;
}

TEST(endpoints, that_are_down_are_tried_once_by_one_that_tries) {
    uint32_t how;
    for (how = 0; how < 2; ++how) {
        rm_lease lent, more;
        cluster c;
        REQUIRE(cluster_two_of_the_second(&c, &lent, NULL));
        memset(&more, 0, sizeof more);
        CHECK_EQ(RM_OK, how == 0 ? take(&c.w, &more)
                                 : rm_pool_acquire_until(c.w.pool,
                                                         rm_deadline_after(&c.w.clock, RM_NOWAIT),
                                                         NULL, &more, NULL));
        CHECK_EQ(1, c.servers[0].creates + c.servers[1].creates + c.servers[2].creates);
        if (more.resource != NULL) give(&c.w, &more, RM_RELEASE_OK);
        give(&c.w, &lent, RM_RELEASE_OK);
        world_end(&c.w);
    }
}

static struct {
    cluster *of;
    rm_lease *lent; /* not NULL: it ends this one too, and the second server is down */
    bool armed;
} thieving;

/* While what is idle at the second is looked at, which is sick, another acquire fails otherwise. */
static rm_status validate_beside_another(void *resource, void *user) {
    cluster *c = thieving.of;
    rm_lease lease;
    uint32_t i;
    (void)resource, (void)user;
    if (!thieving.armed) return RM_OK;
    thieving.armed = false;
    for (i = 0; i < 3; ++i)
        c->servers[i].status = i != 1 || thieving.lent != NULL ? RM_E_NOMEM : RM_OK;
    if (thieving.lent != NULL) give(&c->w, thieving.lent, RM_RELEASE_BROKEN);
    for (i = 0; i < (thieving.lent != NULL ? 2u : 1u); ++i)
        CHECK(take(&c->w, &lease) != RM_OK); /* at each that has not failed yet */
    return RM_E_FAILED;
}

/* By one that tries, or that may wait but has nothing to wait for. */
TEST(endpoints, that_are_down_are_told_as_an_acquire_found_them) {
    uint32_t how;
    for (how = 0; how < 3; ++how) {
        rm_lease lent, more;
        rm_error error;
        cluster c;
        REQUIRE(cluster_two_of_the_second(&c, &lent, validate_beside_another));
        thieving.of = &c;
        thieving.lent = how != 0 ? &lent : NULL;
        thieving.armed = true;
        CHECK_EQ(RM_E_REFUSED,
                 rm_pool_acquire(c.w.pool, how == 2 ? RM_SEC(5) : RM_NOWAIT, &more, &error));
        CHECK_EQ(RM_E_REFUSED, error.status);
        CHECK(!thieving.armed);
        if (how == 0) give(&c.w, &lent, RM_RELEASE_OK);
        world_end(&c.w);
    }
}

static rm_status validate_slowly(void *resource, void *user) {
    server *s = (server *)user;
    pass(s->w, RM_MS(100));
    return server_validate(resource, user);
}

/* Each sick one takes longer to find out than a backoff lasts. */
TEST(endpoints, that_are_down_are_asked_once_beside_another_with_sick_ones) {
    rm_lease leases[12], more;
    uint32_t i, before;
    cluster c;
    cluster_init(&c, 2, 16);
    c.w.desc.validate_fn = validate_slowly;
    c.w.desc.validate_after_ns = RM_SEC(1);
    REQUIRE(world_open(&c.w));
    c.servers[0].status = RM_E_REFUSED;
    CHECK_EQ(RM_E_REFUSED, take(&c.w, &more));
    for (i = 0; i < 12; ++i) {
        CHECK_EQ(RM_OK, take(&c.w, &leases[i]));
        thing_of(&leases[i])->sick = i >= 1;
    }
    give_many(&c.w, leases + 1, 11);
    pass(&c.w, RM_SEC(20));
    c.servers[0].takes_ns = RM_SEC(1);
    before = c.servers[0].creates;
    CHECK_EQ(RM_OK, take_for(&c.w, RM_SEC(30), &more));
    CHECK_EQ(before + 1, c.servers[0].creates);
    give_both(&c.w, &more, &leases[0]);
    world_end(&c.w);
}

static rm_status fail_and_suspend(void **resource, rm_deadline deadline, rm_error *error,
                                  void *user) {
    server *s = (server *)user;
    const rm_status status = server_create(resource, deadline, error, user);
    if (status != RM_OK) CHECK_EQ(RM_OK, rm_pool_suspend(s->w->pool));
    return status;
}

/* There was something idle at another, but it was not to be had any more. */
TEST(endpoints, tell_the_guard_of_the_pool_of_a_failed_create_and_one_that_tries_of_its_error) {
    watch seen;
    rm_lease l[4];
    cluster c;
    cluster_init(&c, 2, 4);
    c.w.desc.guard = watch_init(&seen);
    c.w.desc.create_fn = fail_and_suspend;
    REQUIRE(world_open(&c.w));
    take_at(&c, &l[0], 0);
    take_at(&c, &l[1], 1);
    take_at(&c, &l[2], 0);
    take_at(&c, &l[3], 1);
    give(&c.w, &l[3], RM_RELEASE_OK);
    give(&c.w, &l[0], RM_RELEASE_BROKEN);
    give(&c.w, &l[2], RM_RELEASE_BROKEN);
    c.servers[0].status = RM_E_REFUSED;
    seen.failures = 0;
    CHECK_EQ(RM_E_REFUSED, take(&c.w, &l[0]));
    CHECK_EQ(1, seen.failures);
    CHECK_EQ(0, stats_of(&c.w).failed_fast);
    CHECK_EQ(RM_OK, rm_pool_resume(c.w.pool));
    give(&c.w, &l[1], RM_RELEASE_OK);
    world_end(&c.w);
}

/* It waits for the pool to be resumed, and the pool is closed. */
TEST(endpoints, tell_the_guard_of_the_pool_of_a_failed_create_before_a_close) {
    watch seen;
    rm_pool_request request;
    rm_lease l[2];
    cluster c;
    cluster_init(&c, 2, 4);
    c.w.desc.guard = watch_init(&seen);
    c.w.desc.create_fn = fail_and_suspend;
    c.w.desc.balance = RM_POOL_ROUND_ROBIN;
    REQUIRE(world_open(&c.w));
    take_at(&c, &l[0], 0);
    take_at(&c, &l[1], 1);
    give(&c.w, &l[1], RM_RELEASE_OK);
    give(&c.w, &l[0], RM_RELEASE_BROKEN);
    c.servers[0].status = RM_E_REFUSED;
    seen.failures = 0;
    CHECK_EQ(RM_OK,
             rm_pool_acquire_async(c.w.pool, &request, never, NULL, note_in_vain, NULL, NULL));
    CHECK_EQ(1, stats_of(&c.w).waiting);
    CHECK_EQ(RM_OK, rm_pool_close(c.w.pool, RM_NOWAIT, NULL));
    CHECK_EQ(RM_E_CLOSED, took_in_vain);
    CHECK_EQ(1, seen.failures);
    world_end(&c.w);
}

/* ---- keys ---- */

typedef struct house {
    rm_pools_desc desc;
    rm_pools *pools;
    world w; /* its pool is not used */
    uint32_t opened, shut;
    rm_status open_status;
    uint32_t open_max;          /* 0 = as the desc says */
    int64_t open_grow_after_ns; /* likewise */
    void *shut_user;
} house;

static uint32_t destroying; /* calls of destroy_through_gate */

static rm_status house_open_key(const void *key, size_t size, rm_pool_desc *desc, rm_error *error,
                                void *user) {
    house *h = (house *)user;
    (void)key, (void)size, (void)error;
    CHECK_EQ(0, GET(destroying)); /* a key that went is gone, with all that it had */
    if (h->open_status != RM_OK) return h->open_status;
    ++h->opened;
    if (h->open_max != 0) desc->max = h->open_max;
    if (h->open_grow_after_ns != 0) desc->grow_after_ns = h->open_grow_after_ns;
    return RM_OK;
}

static void house_shut_key(void *pool_user, void *user) {
    house *h = (house *)user;
    ++h->shut;
    h->shut_user = pool_user;
}

static void house_init(house *h, uint32_t max, uint32_t max_total) {
    memset(h, 0, sizeof *h);
    world_init(&h->w, max);
    h->desc.name = "tenants";
    h->desc.pool = h->w.desc;
    h->desc.pool.name = NULL;
    h->desc.max_total = max_total;
    h->desc.open_fn = house_open_key;
    h->desc.shut_fn = house_shut_key;
    h->desc.user = h;
}

static bool house_open(house *h) {
    rm_error error;
    return CHECK_EQ(RM_OK, rm_pools_create(&h->desc, &h->pools, &error));
}

static bool house_begin(house *h, uint32_t max, uint32_t max_total) {
    house_init(h, max, max_total);
    return house_open(h);
}

static void house_end(house *h) {
    CHECK_EQ(RM_OK, rm_pools_destroy(h->pools));
    CHECK_EQ(h->w.created, h->w.destroyed + h->w.leaves);
    CHECK_EQ(h->opened, h->shut);
    rm_mutex_destroy(&h->w.mutex);
    rm_virtual_clock_destroy(&h->w.time);
}

static rm_status get(house *h, const char *key, int64_t timeout_ns, rm_pools_lease *lease,
                     rm_error *error) {
    memset(lease, 0, sizeof *lease);
    memset(error, 0, sizeof *error);
    return rm_pools_acquire(h->pools, key, strlen(key), rm_deadline_after(&h->w.clock, timeout_ns),
                            NULL, lease, error);
}

static rm_status lend(house *h, const char *key, rm_pools_lease *lease) {
    rm_error error;
    const rm_status status = get(h, key, RM_NOWAIT, lease, &error);
    CHECK_EQ(status, error.status);
    return status;
}

static void back(house *h, rm_pools_lease *lease, rm_release how) {
    CHECK_EQ(RM_OK, rm_pools_release(h->pools, lease, how));
    CHECK(lease->pool == NULL && lease->lease.resource == NULL && lease->ref.value == NULL);
}

static void back_both(house *h, rm_pools_lease *a, rm_pools_lease *b) {
    back(h, a, RM_RELEASE_OK);
    back(h, b, RM_RELEASE_OK);
}

static rm_status maintain_all(house *h) {
    return rm_pools_maintain(h->pools, 0, never, NULL);
}

/* Takes and gives back: the number of the thing that was lent; 0 = none. */
static uint32_t visit(house *h, const char *key) {
    rm_pools_lease lease;
    uint32_t number;
    if (lend(h, key, &lease) != RM_OK) return 0;
    number = number_of(&lease.lease);
    back(h, &lease, RM_RELEASE_OK);
    return number;
}

TEST(pools, keep_one_pool_for_each_key) {
    static const char zeros[] = {0, 0, 0};
    rm_pools_lease a, b, c, d;
    rm_error error;
    house h;
    REQUIRE(house_begin(&h, 2, 0));
    CHECK_EQ(RM_OK, lend(&h, "a", &a));
    CHECK_EQ(RM_OK, lend(&h, "b", &b));
    CHECK_EQ(RM_OK, lend(&h, "a", &c));
    CHECK(a.pool == c.pool && a.pool != b.pool);
    CHECK_EQ(2, h.opened);
    back(&h, &b, RM_RELEASE_OK);
    CHECK_EQ(RM_E_TIMEOUT, lend(&h, "a", &d)); /* its max is 2 */
    back(&h, &a, RM_RELEASE_OK);
    back(&h, &c, RM_RELEASE_BROKEN);
    CHECK_EQ(1, visit(&h, "a"));
    CHECK_EQ(RM_OK, rm_pools_acquire(h.pools, zeros, 2, never, NULL, &a, &error));
    CHECK_EQ(RM_OK, rm_pools_acquire(h.pools, zeros, 3, never, NULL, &b, &error));
    CHECK_EQ(RM_OK, rm_pools_acquire(h.pools, NULL, 0, never, NULL, &c, &error));
    CHECK(a.pool != b.pool && a.pool != c.pool && b.pool != c.pool);
    back(&h, &a, RM_RELEASE_OK);
    back(&h, &b, RM_RELEASE_OK);
    back(&h, &c, RM_RELEASE_OK);
    CHECK_EQ(5, h.opened);
    house_end(&h);
}

TEST(pools, name_each_pool_after_its_key_if_that_is_text) {
    static const struct {
        const char *key, *given, *name;
    } cases[] = {
        {"db-7", NULL, "db-7"},
        {"a b~", NULL, "a b~"},
        {"\x1f", NULL, "pool"},
        {"\x7f", NULL, "pool"},
        {"", NULL, "pool"},
        {"12345678901234567890123456789012345678901234567", NULL,
         "12345678901234567890123456789012345678901234567"},
        {"123456789012345678901234567890123456789012345678", NULL, "pool"},
        {"db-7", "all", "all"},
    };
    size_t i;
    for (i = 0; i < sizeof cases / sizeof *cases; ++i) {
        rm_pools_lease lease;
        rm_pool_desc desc;
        house h;
        house_init(&h, 1, 0);
        h.desc.pool.name = cases[i].given;
        REQUIRE(house_open(&h));
        CHECK_EQ(RM_OK, lend(&h, cases[i].key, &lease));
        CHECK_EQ(RM_OK, rm_pool_desc_get(lease.pool, &desc));
        CHECK_STR(cases[i].name, desc.name);
        back(&h, &lease, RM_RELEASE_OK);
        house_end(&h);
    }
}

TEST(pools, let_open_fn_change_what_is_made_for_a_key) {
    rm_pools_lease a, b;
    rm_error error;
    house h;
    house_init(&h, 1, 0);
    h.open_max = 2;
    REQUIRE(house_open(&h));
    CHECK_EQ(RM_OK, lend(&h, "a", &a));
    CHECK_EQ(RM_OK, lend(&h, "a", &b));
    back_both(&h, &a, &b);
    h.open_status = RM_E_FAILED;
    CHECK_EQ(RM_E_FAILED, get(&h, "b", RM_NOWAIT, &b, &error));
    CHECK_EQ(RM_E_FAILED, error.status);
    CHECK_EQ(0, h.shut); /* what did not open is not shut */
    h.open_status = RM_OK;
    h.open_max = 65536;
    CHECK_EQ(RM_E_INVALID, get(&h, "c", RM_NOWAIT, &b, &error));
    CHECK_STR("max", error.where);
    CHECK_EQ(1, h.shut); /* what did, is */
    CHECK(h.shut_user == &h.w);
    house_end(&h);
}

TEST(pools, make_room_for_a_key_by_ending_an_unused_one) {
    rm_pools_lease a, b, c;
    rm_error error;
    house h;
    house_init(&h, 1, 0);
    h.desc.max_keys = 2;
    REQUIRE(house_open(&h));
    CHECK_EQ(RM_OK, lend(&h, "a", &a));
    CHECK_EQ(2, visit(&h, "b"));
    CHECK_EQ(RM_OK, lend(&h, "c", &c)); /* b goes, with what was idle */
    CHECK_EQ(1, h.shut);
    CHECK_EQ(1, h.w.destroyed);
    CHECK_EQ(RM_E_FULL, get(&h, "b", RM_NOWAIT, &b, &error));
    CHECK_EQ(RM_E_FULL, error.status);
    back(&h, &a, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, lend(&h, "b", &b));
    back_both(&h, &b, &c);
    house_end(&h);
}

/* The gate in a destroy_fn, once; after it, others have time to go wrong. */

typedef struct visitor {
    house *h;
    const char *key;
    int64_t timeout_ns;
    rm_pools_lease lease;
    rm_error error;
    rm_status status;
    rm_thread thread;
} visitor;

static void visitor_run(void *user) {
    visitor *v = (visitor *)user;
    v->status = get(v->h, v->key, v->timeout_ns, &v->lease, &v->error);
}

static void visitor_start(visitor *v, house *h, const char *key, int64_t timeout_ns) {
    memset(v, 0, sizeof *v);
    v->h = h;
    v->key = key;
    v->timeout_ns = timeout_ns;
    CHECK_EQ(RM_OK, rm_thread_start(&v->thread, visitor_run, v));
}

/* Starts a visitor that will wait, as the nth on the clock. */
static void visitor_queue(visitor *v, house *h, const char *key, int64_t timeout_ns, uint32_t nth) {
    visitor_start(v, h, key, timeout_ns);
    rm_virtual_clock_await(&h->w.time, nth);
}

static rm_status visitor_join(visitor *v) {
    rm_thread_join(&v->thread);
    return v->status;
}

TEST(pools, never_have_more_than_all_may_together) {
    rm_pools_lease a, b, c;
    house h;
    REQUIRE(house_begin(&h, 2, 2));
    CHECK_EQ(RM_OK, lend(&h, "a", &a));
    CHECK_EQ(RM_OK, lend(&h, "b", &b));
    CHECK_EQ(RM_E_TIMEOUT, lend(&h, "a", &c));
    CHECK_EQ(RM_E_TIMEOUT, lend(&h, "c", &c));
    CHECK_EQ(2, h.w.creates);
    back(&h, &a, RM_RELEASE_BROKEN);
    CHECK_EQ(RM_OK, lend(&h, "c", &c));
    back_both(&h, &b, &c);
    house_end(&h);
}

static bool remember_pool(const void *key, size_t size, rm_pool *pool, void *user) {
    if (size == 1 && *(const char *)key == 'b') *(rm_pool **)user = pool;
    return true;
}

TEST(pools, make_room_at_once_for_who_may_wait) {
    rm_pool *of_b = NULL;
    rm_pools_lease a, b;
    rm_pool_stats s;
    rm_error error;
    house h;
    REQUIRE(house_begin(&h, 2, 2));
    CHECK_EQ(RM_OK, lend(&h, "a", &a));
    CHECK_EQ(2, visit(&h, "b"));
    rm_pools_each(h.pools, remember_pool, &of_b);
    CHECK_EQ(RM_OK, get(&h, "c", RM_SEC(1), &b, &error)); /* what b had is ended for it */
    CHECK_EQ(RM_OK, rm_pool_stats_get(of_b, &s));
    CHECK_EQ(1, s.ended[RM_POOL_CAUSE_SURPLUS]);
    CHECK_EQ(1, h.w.destroyed);
    back_both(&h, &a, &b);
    house_end(&h);
}

TEST(pools, yield_what_is_released_to_who_waits_under_another_key) {
    rm_pools_lease a;
    visitor v;
    house h;
    REQUIRE(house_begin(&h, 1, 1));
    CHECK_EQ(RM_OK, lend(&h, "a", &a));
    visitor_queue(&v, &h, "b", RM_FOREVER, 1);
    back(&h, &a, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, visitor_join(&v));
    CHECK_EQ(2, number_of(&v.lease.lease));
    CHECK_EQ(1, h.w.destroyed);
    back(&h, &v.lease, RM_RELEASE_OK);
    house_end(&h);
}

TEST(pools, serve_in_turn_where_more_keys_wait_than_there_are_places) {
    static const char *const keys[] = {"a", "b"};
    uint32_t first;
    for (first = 0; first < 2; ++first) {
        rm_pools_lease a;
        visitor v[2];
        house h;
        REQUIRE(house_begin(&h, 1, 1));
        CHECK_EQ(RM_OK, lend(&h, "a", &a));
        visitor_queue(&v[0], &h, keys[first], RM_FOREVER, 1);
        visitor_queue(&v[1], &h, keys[1 - first], RM_FOREVER, 2);
        back(&h, &a, RM_RELEASE_OK);
        CHECK_EQ(RM_OK, visitor_join(&v[0]));
        CHECK_EQ(1 + first, number_of(&v[0].lease.lease)); /* under "a" the same one */
        back(&h, &v[0].lease, RM_RELEASE_OK);
        CHECK_EQ(RM_OK, visitor_join(&v[1]));
        back(&h, &v[1].lease, RM_RELEASE_OK);
        house_end(&h);
    }
}

/* Whoever waits for the one resource of its own key needs a place as soon as that is gone. */
TEST(pools, starve_nobody_whose_own_resource_broke) {
    rm_pools_lease a, b;
    rm_error error;
    visitor v;
    house h;
    REQUIRE(house_begin(&h, 1, 2));
    CHECK_EQ(RM_OK, lend(&h, "a", &a));
    CHECK_EQ(2, visit(&h, "b"));
    visitor_queue(&v, &h, "a", RM_FOREVER, 1);
    CHECK_EQ(0, h.w.destroyed); /* no place would help it now */
    back(&h, &a, RM_RELEASE_BROKEN);
    CHECK_EQ(RM_OK, visitor_join(&v));
    CHECK_EQ(RM_OK, get(&h, "c", RM_SEC(1), &b, &error));
    CHECK_EQ(2, h.w.created - h.w.destroyed);
    back_both(&h, &b, &v.lease);
    house_end(&h);
}

TEST(pools, pass_on_timeouts_and_cancellation) {
    rm_pools_lease a, b;
    rm_error error;
    rm_cancel token;
    visitor v;
    house h;
    REQUIRE(house_begin(&h, 1, 1));
    CHECK_EQ(RM_OK, lend(&h, "a", &a));
    visitor_queue(&v, &h, "b", RM_MS(5), 1);
    pass(&h.w, RM_MS(5));
    CHECK_EQ(RM_E_TIMEOUT, visitor_join(&v));
    CHECK_STR("b", v.error.where);
    CHECK_EQ(RM_OK, rm_cancel_init(&token));
    rm_cancel_request(&token);
    CHECK_EQ(RM_E_CANCELLED, rm_pools_acquire(h.pools, "b", 1, never, &token, &b, &error));
    CHECK_EQ(RM_OK, rm_cancel_destroy(&token));
    back(&h, &a, RM_RELEASE_OK);
    CHECK_EQ(1, visit(&h, "a")); /* nobody wants its place any more */
    house_end(&h);
}

TEST(pools, close_says_what_is_out_under_whichever_key) {
    static const char *const keys[] = {"a", "b", "c"};
    uint32_t out, i;
    for (out = 0; out < 3; ++out) {
        rm_pools_lease lease[3];
        rm_error error;
        house h;
        REQUIRE(house_begin(&h, 1, 0));
        for (i = 0; i < 3; ++i)
            CHECK_EQ(RM_OK, lend(&h, keys[i], &lease[i]));
        for (i = 0; i < 3; ++i)
            if (i != out) back(&h, &lease[i], RM_RELEASE_OK);
        CHECK_EQ(RM_E_BUSY, rm_pools_close(h.pools, RM_NOWAIT, &error));
        CHECK_STR(keys[out], error.where);
        back(&h, &lease[out], RM_RELEASE_OK);
        CHECK_EQ(RM_OK, rm_pools_close(h.pools, RM_NOWAIT, NULL));
        house_end(&h);
    }
}

TEST(pools, close_all_and_make_no_more) {
    rm_pools_lease a, b;
    rm_error error;
    visitor v;
    house h;
    REQUIRE(house_begin(&h, 1, 0));
    CHECK_EQ(RM_OK, lend(&h, "a", &a));
    CHECK_EQ(2, visit(&h, "b"));
    visitor_queue(&v, &h, "a", RM_FOREVER, 1);
    CHECK_EQ(RM_E_BUSY, rm_pools_close(h.pools, RM_NOWAIT, &error));
    CHECK_EQ(RM_E_BUSY, error.status);
    CHECK_STR("a", error.where);
    CHECK_EQ(RM_E_CLOSED, visitor_join(&v));
    CHECK_EQ(1, h.w.destroyed);
    CHECK_EQ(RM_E_CLOSED, get(&h, "b", RM_FOREVER, &b, &error));
    CHECK_EQ(RM_E_CLOSED, get(&h, "c", RM_FOREVER, &b, &error));
    CHECK_EQ(RM_E_CLOSED, error.status);
    CHECK_EQ(RM_E_BUSY, rm_pools_destroy(h.pools));
    back(&h, &a, RM_RELEASE_OK);
    CHECK_EQ(2, h.w.destroyed);
    CHECK_EQ(RM_OK, rm_pools_close(h.pools, RM_NOWAIT, &error));
    house_end(&h);
}

static void closes_pools(void *user) {
    visitor *v = (visitor *)user;
    v->status = rm_pools_close(v->h->pools, v->timeout_ns, &v->error);
}

TEST(pools, close_in_one_time_for_all) {
    rm_pools_lease a, b;
    visitor v;
    house h;
    REQUIRE(house_begin(&h, 1, 0));
    CHECK_EQ(RM_OK, lend(&h, "a", &a));
    CHECK_EQ(RM_OK, lend(&h, "b", &b));
    memset(&v, 0, sizeof v);
    v.h = &h;
    CHECK_EQ(RM_OK, rm_thread_start(&v.thread, closes_pools, &v)); /* 0 = 8 s */
    rm_virtual_clock_await(&h.w.time, 1);
    pass(&h.w, RM_SEC(8));
    CHECK_EQ(RM_E_TIMEOUT, visitor_join(&v)); /* not 8 s for each */
    CHECK(strstr(v.error.message, "still out") != NULL);
    back_both(&h, &a, &b);
    house_end(&h);
}

static void takes_5_s(world *w) {
    pass(w, RM_SEC(5));
}

TEST(pools, close_without_a_rest_of_time_for_what_is_out) {
    rm_pools_lease a;
    rm_error error;
    house h;
    REQUIRE(house_begin(&h, 1, 0));
    CHECK_EQ(RM_OK, lend(&h, "a", &a));
    CHECK_EQ(2, visit(&h, "b"));
    h.w.inside_all = takes_5_s; /* the destroy_fn of "b" */
    CHECK_EQ(RM_E_TIMEOUT, rm_pools_close(h.pools, RM_SEC(1), &error));
    CHECK_EQ(RM_E_TIMEOUT, error.status);
    CHECK_STR("a", error.where);
    CHECK_EQ(RM_E_BUSY, rm_pools_close(h.pools, RM_NOWAIT, &error)); /* it asks for none */
    CHECK_EQ(RM_E_BUSY, error.status);
    back(&h, &a, RM_RELEASE_OK);
    house_end(&h);
}

TEST(pools, release_once) {
    rm_pools_lease a;
    house h;
    REQUIRE(house_begin(&h, 1, 0));
    CHECK_EQ(RM_OK, lend(&h, "a", &a));
    CHECK_EQ(RM_E_INVALID, rm_pools_release(h.pools, &a, (rm_release)3));
    CHECK(a.pool != NULL);
    back(&h, &a, RM_RELEASE_OK);
    CHECK_EQ(RM_E_STALE, rm_pools_release(h.pools, &a, RM_RELEASE_OK));
    CHECK_EQ(1, visit(&h, "a"));
    house_end(&h);
}

/* However a lease ends, its key is free; and a copy of it is stale, also when its pool is gone. */
TEST(pools, give_a_key_back_whose_resource_left_otherwise) {
    void *resource = NULL;
    rm_pools_lease a, b, copy, old;
    house h;
    house_init(&h, 1, 1);
    h.desc.max_keys = 1;
    h.desc.pool.reclaim_fn = thing_reclaim;
    h.desc.pool.reclaim_after_ns = RM_SEC(10);
    REQUIRE(house_open(&h));
    CHECK_EQ(RM_OK, lend(&h, "a", &a));
    old = a;
    CHECK_EQ(RM_E_FULL, lend(&h, "b", &b)); /* the key is in use */
    CHECK_EQ(RM_OK, rm_pool_detach(a.pool, &a.lease, &resource));
    free(resource);
    ++h.w.leaves;
    CHECK_EQ(RM_E_STALE, rm_pools_release(h.pools, &a, RM_RELEASE_OK)); /* its pool is there */
    CHECK_EQ(RM_OK, lend(&h, "b", &b));
    CHECK_EQ(RM_E_STALE, rm_pools_release(h.pools, &old, RM_RELEASE_OK)); /* its pool is gone */
    CHECK_EQ(RM_OK, rm_pool_release_result(b.pool, &b.lease, NULL));
    CHECK_EQ(RM_OK, lend(&h, "c", &a));
    copy = a;
    pass(&h.w, RM_SEC(10));
    CHECK_EQ(RM_OK, maintain_all(&h));
    CHECK_EQ(1, h.w.reclaims);
    free(copy.lease.resource);
    ++h.w.leaves;
    CHECK_EQ(RM_E_STALE, rm_pools_release(h.pools, &a, RM_RELEASE_OK));
    CHECK_EQ(RM_OK, lend(&h, "c", &b));
    CHECK_EQ(RM_E_STALE, rm_pools_release(h.pools, &copy, RM_RELEASE_OK)); /* takes nothing away */
    CHECK_EQ(RM_E_FULL, lend(&h, "d", &a));                                /* from who holds it */
    back(&h, &b, RM_RELEASE_OK);
    CHECK(visit(&h, "d") != 0);
    house_end(&h);
}

TEST(pools, refuse_the_leases_of_others) {
    rm_pools_lease a;
    house h, other;
    house_init(&h, 1, 0);
    house_init(&other, 1, 0);
    REQUIRE(house_open(&h) && house_open(&other));
    CHECK_EQ(RM_OK, lend(&h, "a", &a));
    CHECK_EQ(RM_E_FOREIGN, rm_pools_release(other.pools, &a, RM_RELEASE_OK));
    CHECK_EQ(RM_E_FOREIGN, rm_pools_release_result(other.pools, &a, NULL));
    back(&h, &a, RM_RELEASE_OK);
    house_end(&h);
    house_end(&other);
}

static rm_release classify_as_broken(void *resource, const rm_error *result, void *user) {
    (void)resource, (void)result, (void)user;
    return RM_RELEASE_BROKEN;
}

TEST(pools, end_what_is_released_with_a_result_that_breaks_it) {
    static const struct {
        rm_release (*classify_fn)(void *resource, const rm_error *result, void *user);
        rm_status status;
        uint32_t ended;
    } cases[] = {{NULL, RM_OK, 0},
                 {NULL, RM_E_NOT_FOUND, 0},
                 {NULL, RM_E_SYSTEM, 1},
                 {classify_as_broken, RM_E_NOT_FOUND, 1}};
    size_t i;
    for (i = 0; i < sizeof cases / sizeof *cases; ++i) {
        rm_pools_lease a;
        rm_error result;
        house h;
        house_init(&h, 1, 0);
        h.desc.pool.classify_fn = cases[i].classify_fn;
        REQUIRE(house_open(&h));
        CHECK_EQ(RM_OK, lend(&h, "a", &a));
        (void)rm_error_set(&result, cases[i].status, 0, "query", "so it ended");
        CHECK_EQ(RM_OK, rm_pools_release_result(h.pools, &a, &result));
        CHECK(a.pool == NULL && a.lease.resource == NULL && a.ref.value == NULL);
        CHECK_EQ(cases[i].ended, h.w.destroyed);
        CHECK_EQ(RM_E_STALE, rm_pools_release_result(h.pools, &a, &result));
        house_end(&h);
    }
}

TEST(pools, take_no_result_of_what_was_reclaimed_once_its_key_went) {
    rm_pools_lease a, b, before;
    void *reclaimed;
    house h;
    house_init(&h, 1, 0);
    h.desc.max_keys = 1;
    h.desc.pool.reclaim_fn = thing_reclaim;
    h.desc.pool.reclaim_after_ns = RM_SEC(10);
    REQUIRE(house_open(&h));
    CHECK_EQ(RM_OK, lend(&h, "a", &a));
    before = a;
    reclaimed = a.lease.resource;
    pass(&h.w, RM_SEC(10));
    CHECK_EQ(RM_OK, maintain_all(&h));
    free(reclaimed);
    ++h.w.leaves;
    CHECK_EQ(RM_OK, lend(&h, "b", &b)); /* the pool of "a" goes */
    CHECK_EQ(1, h.shut);
    CHECK_EQ(RM_E_STALE, rm_pools_release_result(h.pools, &a, NULL));
    CHECK(a.pool == before.pool && a.lease.resource == before.lease.resource);
    back(&h, &b, RM_RELEASE_OK);
    CHECK_EQ(2, visit(&h, "b")); /* it was not taken for what "b" had */
    house_end(&h);
}

TEST(pools, maintain_every_one_of_them) {
    rm_pools_lease a, b;
    rm_error error;
    house h;
    house_init(&h, 2, 0);
    h.desc.pool.min_idle = 1;
    h.desc.pool.idle_timeout_ns = RM_SEC(1);
    REQUIRE(house_open(&h));
    CHECK_EQ(RM_OK, lend(&h, "a", &a));
    CHECK_EQ(RM_OK, lend(&h, "b", &b));
    CHECK_EQ(RM_OK, rm_pools_maintain(h.pools, 0, never, &error));
    CHECK_EQ(4, h.w.created);
    back_both(&h, &a, &b);
    pass(&h.w, RM_SEC(1));
    CHECK_EQ(RM_OK, rm_pools_maintain(h.pools, 0, never, &error));
    CHECK_EQ(2, h.w.destroyed);
    CHECK_EQ(RM_OK, lend(&h, "a", &a));
    h.w.create_status = RM_E_REFUSED;
    CHECK_EQ(RM_E_REFUSED, rm_pools_maintain(h.pools, 0, never, &error));
    CHECK_EQ(RM_E_REFUSED, error.status);
    CHECK_EQ(RM_E_REFUSED, rm_pools_maintain(h.pools, 0, never, NULL));
    back(&h, &a, RM_RELEASE_OK);
    house_end(&h);
}

typedef struct tour {
    char keys[16];
    uint32_t count, stop_after;
} tour;

static bool tour_visit(const void *key, size_t size, rm_pool *pool, void *user) {
    tour *t = (tour *)user;
    rm_pool_stats s;
    CHECK_EQ(1, size);
    CHECK_EQ(RM_OK, rm_pool_stats_get(pool, &s));
    t->keys[t->count++] = *(const char *)key;
    return t->count != t->stop_after;
}

TEST(pools, show_each_key) {
    tour t;
    house h;
    REQUIRE(house_begin(&h, 1, 0));
    memset(&t, 0, sizeof t);
    rm_pools_each(h.pools, tour_visit, &t);
    CHECK_EQ(0, t.count);
    CHECK(visit(&h, "a") != 0 && visit(&h, "b") != 0 && visit(&h, "c") != 0);
    rm_pools_each(h.pools, tour_visit, &t);
    CHECK_EQ(3, t.count);
    CHECK(strchr(t.keys, 'a') != NULL && strchr(t.keys, 'b') != NULL);
    CHECK(strchr(t.keys, 'c') != NULL);
    memset(&t, 0, sizeof t);
    t.stop_after = 2;
    rm_pools_each(h.pools, tour_visit, &t);
    CHECK_EQ(2, t.count);
    rm_pools_each(h.pools, NULL, NULL);
    house_end(&h);
}

typedef struct shown {
    uint32_t count;
    int64_t keys, resources, waiting;
} shown;

static void show(const rm_stat *stat, void *user) {
    shown *s = (shown *)user;
    ++s->count;
    if (strcmp(stat->name, "rm_pools_keys") == 0) s->keys = stat->value;
    if (strcmp(stat->name, "rm_pools_resources") == 0) {
        s->resources = stat->value;
        CHECK_STR("Resources of all keys.", stat->help);
    }
    if (strcmp(stat->name, "rm_pools_waiting") == 0) s->waiting = stat->value;
}

TEST(pools, are_one_resource) {
    rm_pools_lease a;
    rm_resource resource;
    rm_error reason;
    visitor v;
    shown s;
    house h;
    REQUIRE(house_begin(&h, 1, 1));
    resource = rm_pools_resource(h.pools);
    CHECK_STR("tenants", resource.name);
    CHECK_STR("pool", resource.kind);
    CHECK_EQ(RM_HEALTH_HEALTHY, resource.health_fn(resource.user, &reason));
    CHECK_EQ(RM_OK, lend(&h, "a", &a));
    visitor_queue(&v, &h, "b", RM_FOREVER, 1);
    CHECK_EQ(RM_HEALTH_DEGRADED, resource.health_fn(resource.user, &reason));
    CHECK_STR("b", reason.where);
    memset(&s, 0, sizeof s);
    resource.stats_fn(resource.user, show, &s);
    CHECK_EQ(3, s.count);
    CHECK_EQ(2, s.keys);
    CHECK_EQ(1, s.resources);
    CHECK_EQ(1, s.waiting);
    resource.stats_fn(resource.user, NULL, NULL);
    back(&h, &a, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, visitor_join(&v));
    back(&h, &v.lease, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, resource.stop_fn(resource.user, never, &reason));
    CHECK_EQ(RM_HEALTH_UNHEALTHY, resource.health_fn(resource.user, &reason));
    CHECK_EQ(RM_HEALTH_UNHEALTHY, resource.health_fn(resource.user, NULL));
    CHECK_EQ(RM_E_CLOSED, lend(&h, "a", &a));
    CHECK(rm_pools_resource(NULL).name == NULL);
    house_end(&h);
}

TEST(pools, are_checked_when_they_are_made) {
    rm_guard half = {watch_admit, NULL, NULL};
    char memory[16];
    rm_pools *pools = NULL;
    rm_error error;
    uint32_t i;
    house h;
    house_init(&h, 1, 0);
    for (i = 0; i < 7; ++i) {
        static const char *const where[] = {"create_fn", "max",  "memory",  "guard",
                                            "min_idle",  "name", "max_keys"};
        rm_pools_desc desc = h.desc;
        if (i == 0) desc.pool.create_fn = NULL;
        if (i == 1) desc.pool.max = 65536;
        if (i == 2) desc.pool.memory = memory, desc.pool.memory_size = sizeof memory;
        if (i == 3) desc.pool.guard = &half;
        if (i == 4) desc.pool.min_idle = 2;
        if (i == 5) desc.name = "";
        if (i == 6) desc.max_keys = (1u << 24) + 1;
        memset(&error, 0, sizeof error);
        CHECK_EQ(RM_E_INVALID, rm_pools_create(&desc, &pools, &error));
        CHECK_STR(where[i], error.where);
    }
    h.desc.name = "a name that is longer than forty-seven bytes, ...";
    CHECK_EQ(RM_E_TOO_LARGE, rm_pools_create(&h.desc, &pools, &error));
    h.desc.name = NULL;
    CHECK_EQ(RM_E_INVALID, rm_pools_create(NULL, &pools, &error));
    CHECK_EQ(RM_E_INVALID, rm_pools_create(&h.desc, NULL, NULL));
    CHECK(pools == NULL);
    REQUIRE(house_open(&h));
    CHECK_STR("pools", rm_pools_resource(h.pools).name);
    house_end(&h);
}

TEST(pools, refuse_what_makes_no_sense) {
    static const char key[256];
    rm_pools_lease lease, before;
    rm_error error;
    house h;
    CHECK_EQ(RM_OK, rm_pools_destroy(NULL));
    CHECK_EQ(RM_E_INVALID, rm_pools_close(NULL, 0, &error));
    CHECK_EQ(RM_E_INVALID, rm_pools_acquire(NULL, "a", 1, never, NULL, &lease, &error));
    CHECK_EQ(RM_E_INVALID, rm_pools_release(NULL, &lease, RM_RELEASE_OK));
    CHECK_EQ(RM_E_INVALID, rm_pools_release_result(NULL, &lease, NULL));
    CHECK_EQ(RM_E_INVALID, rm_pools_request_cancel(NULL));
    CHECK_EQ(RM_E_INVALID, rm_pools_maintain(NULL, 0, never, &error));
    CHECK_EQ(RM_E_INVALID, rm_pools_after_fork_child(NULL));
    rm_pools_each(NULL, tour_visit, NULL);
    REQUIRE(house_begin(&h, 1, 0));
    CHECK_EQ(RM_E_INVALID, rm_pools_acquire(h.pools, "a", 1, never, NULL, NULL, &error));
    CHECK_EQ(RM_E_INVALID, rm_pools_acquire(h.pools, NULL, 1, never, NULL, &lease, &error));
    memset(&before, 0x55, sizeof before);
    lease = before;
    CHECK_EQ(RM_E_TOO_LARGE, rm_pools_acquire(h.pools, key, 256, never, NULL, &lease, &error));
    CHECK(memcmp(&lease, &before, sizeof lease) == 0);
    CHECK_EQ(RM_OK, rm_pools_acquire(h.pools, key, 255, never, NULL, &lease, &error));
    CHECK_EQ(RM_E_INVALID, rm_pools_release(h.pools, NULL, RM_RELEASE_OK));
    CHECK_EQ(RM_E_INVALID, rm_pools_release_result(h.pools, NULL, NULL));
    back(&h, &lease, RM_RELEASE_OK);
    CHECK_EQ(RM_E_INVALID, rm_pools_close(h.pools, -7, &error));
    CHECK_STR("timeout_ns", error.where);
    CHECK(visit(&h, "a") != 0); /* it is not closed */
    house_end(&h);
}

TEST(pools, need_the_env_of_their_desc_only_to_be_made) {
    const rm_clock none = {NULL, NULL, NULL, NULL, NULL, NULL}; /* it would be refused */
    rm_pools_lease lease;
    rm_env env;
    house h;
    house_init(&h, 1, 1);
    env = h.w.env;
    h.desc.pool.env = &env;
    REQUIRE(house_open(&h));
    env.clock = &none;
    CHECK_EQ(RM_OK, lend(&h, "a", &lease));
    back(&h, &lease, RM_RELEASE_OK);
    house_end(&h);
}

TEST(pools, are_empty_in_a_forked_child) {
    rm_pools_lease a, b;
    house h;
    shown s;
    rm_resource resource;
    house_init(&h, 1, 1);
    h.desc.pool.env = &h.w.env;
    REQUIRE(house_open(&h));
    resource = rm_pools_resource(h.pools);
    memset(&s, 0, sizeof s);
    resource.stats_fn(resource.user, show, &s);
    CHECK_EQ(0, s.keys);
    CHECK_EQ(RM_OK, rm_pools_close(h.pools, RM_NOWAIT, NULL));
    CHECK_EQ(RM_E_CLOSED, lend(&h, "a", &a));
    CHECK_EQ(RM_OK, rm_pools_after_fork_child(h.pools)); /* as the child would */
    CHECK_EQ(RM_OK, lend(&h, "a", &a));                  /* open again, and the bound is free */
    CHECK_EQ(RM_E_TIMEOUT, lend(&h, "b", &b));
    back(&h, &a, RM_RELEASE_OK);
    house_end(&h);
}

/* ---- keys that wait for places: with callbacks, so that each step is known ---- */

/* Somebody who asks for a resource of a key, again and again. */
typedef struct guest {
    house *h;
    const char *key;
    rm_pools_request request;
    rm_pools_lease lease;
    rm_status status;
    char message[160];
    bool waits, holds;
    uint32_t served; /* how often */
    uint32_t order;  /* of all guests that were served, the n-th was the last of this one */
} guest;

static uint32_t guests_served;

static void guest_got(rm_status status, const rm_pools_lease *lease, const rm_error *error,
                      void *user) {
    guest *g = (guest *)user;
    CHECK(g->waits && !g->holds);
    CHECK((status == RM_OK) == (lease != NULL) && (status == RM_OK) == (error == NULL));
    g->waits = false;
    g->status = status;
    if (error != NULL) copy(g->message, sizeof g->message, error->message);
    if (lease == NULL) return;
    g->lease = *lease;
    g->holds = true;
    ++g->served;
    g->order = ++guests_served;
}

static void guest_init(guest *g, house *h, const char *key) {
    memset(g, 0, sizeof *g);
    g->h = h;
    g->key = key;
}

static rm_status ask_for(guest *g, int64_t timeout_ns, rm_cancel *cancel, rm_error *error) {
    rm_status status;
    g->waits = true;
    status = rm_pools_acquire_async(g->h->pools, &g->request, g->key, strlen(g->key),
                                    rm_deadline_after(&g->h->w.clock, timeout_ns), cancel,
                                    guest_got, error, g);
    if (status != RM_OK) g->waits = false;
    return status;
}

static void ask(guest *g) {
    CHECK_EQ(RM_OK, ask_for(g, RM_FOREVER, NULL, NULL));
}

static void guest_ask(guest *g, house *h, const char *key) {
    guest_init(g, h, key);
    ask(g);
}

static void leave(guest *g) {
    if (!CHECK(g->holds)) return;
    g->holds = false;
    back(g->h, &g->lease, RM_RELEASE_OK);
}

/* Who holds something for the longest; NULL = nobody does. */
static guest *oldest(guest *guests, uint32_t count) {
    guest *first = NULL;
    uint32_t i;
    for (i = 0; i < count; ++i) {
        if (guests[i].holds && (first == NULL || guests[i].order < first->order))
            first = &guests[i];
    }
    return first;
}

/* Steps of constant demand: who holds something for the longest gives it back and asks again. */
static void go_round(guest *guests, uint32_t count, uint32_t steps) {
    while (steps-- > 0) {
        guest *g = oldest(guests, count);
        REQUIRE(g != NULL);
        leave(g);
        ask(g);
    }
}

static void all_leave(guest *guests, uint32_t count) {
    uint32_t i;
    for (i = 0; i < count; ++i) {
        if (guests[i].waits) CHECK_EQ(RM_OK, rm_pools_request_cancel(&guests[i].request));
    }
    for (i = 0; i < count; ++i) {
        if (guests[i].holds) leave(&guests[i]);
    }
}

/* How many resources are held under a key. */
static uint32_t share_of(const guest *guests, uint32_t count, const char *key) {
    uint32_t i, share = 0;
    for (i = 0; i < count; ++i)
        share += guests[i].holds && strcmp(guests[i].key, key) == 0;
    return share;
}

TEST(pools, serve_who_waits_with_nothing_before_a_busy_key) {
    uint32_t places, i;
    for (places = 1; places <= 4; ++places) {
        guest busy[8], other;
        house h;
        REQUIRE(house_begin(&h, 8, places));
        for (i = 0; i < 8; ++i) {
            guest_ask(&busy[i], &h, "busy");
        }
        go_round(busy, 8, 10);
        guest_init(&other, &h, "other");
        for (i = 0; i < 10; ++i) { /* now and every time */
            uint32_t steps = 0;
            pass(&h.w, RM_MS(1)); /* all of them wait for longer than anybody may overtake */
            ask(&other);
            while (!other.holds && steps < 100) {
                go_round(busy, 8, 1);
                ++steps;
            }
            CHECK(other.holds && steps <= 2); /* with one place it may be the busy key's turn */
            go_round(busy, 8, places > 1 ? 5 : 0);
            leave(&other);
        }
        all_leave(busy, 8);
        house_end(&h);
    }
}

TEST(pools, converge_to_equal_shares_and_stay_there) {
    static const char *const keys[] = {"a", "b", "c"};
    uint32_t places, i, k;
    for (places = 3; places <= 11; ++places) {
        guest guests[33];
        uint32_t creates, share[3];
        house h;
        REQUIRE(house_begin(&h, 11, places));
        for (i = 0; i < 33; ++i) { /* the first key has all places when the others come */
            guest_ask(&guests[i], &h, keys[i / 11]);
        }
        CHECK_EQ(places, share_of(guests, 33, "a"));
        go_round(guests, 33, 10 * places);
        for (k = 0; k < 3; ++k) {
            share[k] = share_of(guests, 33, keys[k]);
            CHECK(share[k] == places / 3 || share[k] == (places + 2) / 3);
        }
        creates = h.w.creates;
        CHECK(creates <= 2 * places);
        go_round(guests, 33, 20 * places);
        CHECK_EQ(creates, h.w.creates); /* places do not move to and fro */
        for (k = 0; k < 3; ++k)
            CHECK_EQ(share[k], share_of(guests, 33, keys[k]));
        all_leave(guests, 33);
        house_end(&h);
    }
}

TEST(pools, take_turns_where_keys_are_more_than_places) {
    static const char *const keys[] = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j",
                                       "k", "l", "m", "n", "o", "p", "q", "r", "s", "t"};
    guest guests[40];
    uint32_t round, i;
    house h;
    REQUIRE(house_begin(&h, 10, 10));
    for (i = 0; i < 40; ++i) {
        guest_ask(&guests[i], &h, keys[i % 20]);
    }
    for (round = 1; round <= 10; ++round) {
        uint32_t least = UINT32_MAX, most = 0;
        go_round(guests, 40, 20);
        for (i = 0; i < 20; ++i) {
            const uint32_t served = guests[i].served + guests[i + 20].served;
            if (served < least) least = served;
            if (served > most) most = served;
        }
        CHECK(least >= round && most <= least + 2);
    }
    all_leave(guests, 40);
    house_end(&h);
}

/* A key that could not use a place keeps it from nobody. */
TEST(pools, lend_what_who_waits_could_not_use) {
    rm_pools_lease a, b;
    guest own_max, failing;
    house h;
    REQUIRE(house_begin(&h, 1, 3));
    CHECK_EQ(RM_OK, lend(&h, "a", &a));
    guest_ask(&own_max, &h, "a");
    CHECK(own_max.waits);
    CHECK_EQ(RM_OK, lend(&h, "b", &b)); /* "a" may have one only */
    back(&h, &b, RM_RELEASE_OK);
    CHECK_EQ(0, h.w.destroyed);
    back(&h, &a, RM_RELEASE_OK);
    leave(&own_max);
    house_end(&h);
    REQUIRE(house_begin(&h, 2, 3));
    CHECK_EQ(RM_OK, lend(&h, "a", &a));
    h.w.create_status = RM_E_REFUSED;
    CHECK_EQ(RM_E_REFUSED, lend(&h, "a", &b));
    h.w.create_status = RM_OK;
    guest_ask(&failing, &h, "a");
    CHECK(failing.waits);
    CHECK_EQ(RM_OK, lend(&h, "b", &b)); /* "a" backs off */
    back(&h, &b, RM_RELEASE_BROKEN);
    CHECK(failing.waits);
    back(&h, &a, RM_RELEASE_OK);
    leave(&failing);
    house_end(&h);
}

/* Nor does one that will be allowed to grow, while its time has not come. */
TEST(pools, lend_a_place_that_who_waits_may_not_use_yet) {
    rm_pools_lease x, y[3];
    guest first, next;
    uint32_t i;
    house h;
    REQUIRE(house_begin(&h, 3, 5));
    h.open_grow_after_ns = RM_SEC(10);
    CHECK_EQ(RM_OK, lend(&h, "x", &x));
    h.open_grow_after_ns = 0;
    for (i = 0; i < 3; ++i)
        CHECK_EQ(RM_OK, lend(&h, "y", &y[i]));
    CHECK_EQ(5, visit(&h, "z"));
    guest_init(&first, &h, "x");
    guest_init(&next, &h, "x");
    ask(&first);
    pass(&h.w, RM_SEC(9));
    ask(&next);
    pass(&h.w, RM_SEC(1));
    CHECK_EQ(RM_OK, maintain_all(&h));
    CHECK(first.holds && next.waits); /* the time of the first has come */
    CHECK_EQ(1, h.w.destroyed);
    back(&h, &y[0], RM_RELEASE_OK); /* it does not end for the next, ... */
    CHECK_EQ(1, h.w.destroyed);
    CHECK_EQ(RM_OK, lend(&h, "y", &y[0]));
    back(&h, &y[0], RM_RELEASE_BROKEN);
    CHECK_EQ(RM_OK, lend(&h, "y", &y[0])); /* ... nor is a free place kept for it ... */
    pass(&h.w, RM_SEC(9));
    CHECK_EQ(RM_OK, maintain_all(&h));
    CHECK(next.waits);
    back(&h, &y[0], RM_RELEASE_OK); /* ... until its time has come, too */
    CHECK(next.holds);
    CHECK_EQ(3, h.w.destroyed);
    leave(&first);
    leave(&next);
    back(&h, &x, RM_RELEASE_OK);
    back(&h, &y[1], RM_RELEASE_OK);
    back(&h, &y[2], RM_RELEASE_OK);
    house_end(&h);
}

/* Nor does one whose first waiter gave up when its time had come: the next speaks for itself. */
TEST(pools, lend_a_place_past_a_key_whose_next_may_not_use_it_yet) {
    uint32_t cancelled;
    for (cancelled = 0; cancelled < 2; ++cancelled) {
        rm_pools_lease a, b, c;
        guest gives_up, next, other;
        house h;
        REQUIRE(house_begin(&h, 2, 3));
        h.open_grow_after_ns = RM_SEC(10);
        CHECK_EQ(RM_OK, lend(&h, "a", &a));
        h.open_grow_after_ns = 0;
        CHECK_EQ(RM_OK, lend(&h, "b", &b));
        CHECK_EQ(RM_OK, lend(&h, "c", &c));
        guest_init(&gives_up, &h, "a");
        guest_init(&next, &h, "a");
        guest_init(&other, &h, "b");
        CHECK_EQ(RM_OK, ask_for(&gives_up, RM_SEC(11), NULL, NULL));
        pass(&h.w, RM_SEC(9));
        ask(&next);
        pass(&h.w, RM_SEC(1));
        CHECK_EQ(RM_OK, maintain_all(&h)); /* it may use a place, ... */
        ask(&other);
        if (cancelled != 0) CHECK_EQ(RM_OK, rm_pools_request_cancel(&gives_up.request));
        pass(&h.w, RM_SEC(1));
        CHECK_EQ(RM_OK, maintain_all(&h)); /* ... and has given up */
        CHECK_EQ(cancelled != 0 ? RM_E_CANCELLED : RM_E_TIMEOUT, gives_up.status);
        CHECK(next.waits && other.waits);
        back(&h, &c, RM_RELEASE_BROKEN);
        CHECK(next.waits && other.holds);
        all_leave(&next, 1);
        all_leave(&other, 1);
        back_both(&h, &a, &b);
        house_end(&h);
    }
}

/* In destroy_fn: others come back meanwhile. */
static house *ending_in;
static guest *comes_back;

static void destroy_beside_others(void *resource, void *user) {
    guest *g = comes_back;
    comes_back = NULL;
    if (g != NULL) leave(g);
    thing_destroy(resource, user);
}

TEST(pools, end_one_resource_for_one_that_waits) {
    guest busy[3], full[3], other;
    uint32_t i;
    house h;
    house_init(&h, 3, 4);
    h.open_max = 0;
    h.desc.pool.destroy_fn = destroy_beside_others;
    REQUIRE(house_open(&h));
    ending_in = &h;
    h.open_max = 1;
    for (i = 0; i < 3; ++i) {
        guest_ask(&full[i], &h, "full"); /* two wait for what their key may have */
    }
    h.open_max = 3;
    for (i = 0; i < 3; ++i) {
        guest_ask(&busy[i], &h, "busy");
    }
    guest_ask(&other, &h, "other");
    comes_back = &busy[1]; /* while the first is being ended */
    leave(&busy[0]);
    CHECK(other.holds);
    CHECK_EQ(1, h.w.destroyed);
    CHECK_EQ(5, h.w.created);
    leave(&busy[2]);
    leave(&other);
    all_leave(full, 3);
    all_leave(full, 3);
    all_leave(full, 3);
    house_end(&h);
}

/* In the destroy_fn of what makes way: another asks, and then a place becomes free. */
static rm_pools_lease *breaks_meanwhile;

static void destroy_beside_a_free_place(void *resource, void *user) {
    guest *g = comes_back;
    comes_back = NULL;
    thing_destroy(resource, user);
    if (g == NULL) return;
    ask(g);
    CHECK(g->waits);
    back(g->h, breaks_meanwhile, RM_RELEASE_BROKEN);
    CHECK(g->holds);
}

TEST(pools, lend_a_place_to_the_next_while_the_first_is_not_in_its_queue_yet) {
    rm_pools_lease broken, first;
    rm_error error;
    guest next;
    house h;
    house_init(&h, 2, 2);
    h.desc.pool.destroy_fn = destroy_beside_a_free_place;
    REQUIRE(house_open(&h));
    CHECK_EQ(1, visit(&h, "idle"));
    CHECK_EQ(RM_OK, lend(&h, "broken", &broken));
    guest_init(&next, &h, "next");
    breaks_meanwhile = &broken;
    comes_back = &next;
    CHECK_EQ(RM_OK, get(&h, "first", RM_FOREVER, &first, &error)); /* what is idle ends for it */
    CHECK(next.holds);
    CHECK_EQ(4, h.w.created);
    back(&h, &first, RM_RELEASE_OK);
    all_leave(&next, 1);
    house_end(&h);
}

/* Called by other pools: what it brings about is told after it has returned. */
static void two_come_back(rm_status status, const rm_pools_lease *lease, const rm_error *error,
                          void *user) {
    guest *guests = (guest *)user;
    CHECK(status == RM_OK && error == NULL);
    guests[2].lease = *lease;
    leave(&guests[0]);
    leave(&guests[1]);
}

/* Who has been served needs nothing any more, although it does not know yet. */
TEST(pools, end_nothing_for_one_that_was_served) {
    rm_pools_request request;
    guest busy[3], other;
    uint32_t i;
    house h, elsewhere;
    house_init(&h, 2, 2);
    house_init(&elsewhere, 1, 1);
    REQUIRE(house_open(&h) && house_open(&elsewhere));
    for (i = 0; i < 2; ++i) {
        guest_ask(&busy[i], &h, "busy");
    }
    guest_ask(&other, &h, "other");
    CHECK(other.waits);
    CHECK_EQ(RM_OK, rm_pools_acquire_async(elsewhere.pools, &request, "x", 1, never, NULL,
                                           two_come_back, NULL, busy));
    CHECK(other.holds);
    CHECK_EQ(1, h.w.destroyed);
    back(&elsewhere, &busy[2].lease, RM_RELEASE_OK);
    leave(&other);
    house_end(&h);
    house_end(&elsewhere);
}

TEST(pools, end_nothing_elsewhere_for_who_finds_something_idle) {
    guest g;
    uint32_t i;
    house h;
    REQUIRE(house_begin(&h, 2, 2));
    CHECK(visit(&h, "a") == 1 && visit(&h, "b") == 2);
    guest_init(&g, &h, "a");
    for (i = 0; i < 3; ++i) {
        ask(&g);
        CHECK_EQ(1, number_of(&g.lease.lease));
        leave(&g);
    }
    CHECK_EQ(0, h.w.destroyed);
    CHECK_EQ(2, visit(&h, "b"));
    house_end(&h);
}

/* A key that fails has no use for a place until its backoff is over. */
TEST(pools, make_room_for_who_may_create_again) {
    rm_pools_lease a, b;
    guest g;
    house h;
    REQUIRE(house_begin(&h, 2, 2));
    CHECK_EQ(RM_OK, lend(&h, "a", &a));
    h.w.create_status = RM_E_REFUSED;
    CHECK_EQ(RM_E_REFUSED, lend(&h, "a", &b));
    h.w.create_status = RM_OK;
    CHECK_EQ(2, visit(&h, "b"));
    guest_ask(&g, &h, "a");
    CHECK_EQ(RM_OK, maintain_all(&h));
    CHECK(g.waits);
    CHECK_EQ(0, h.w.destroyed);
    pass(&h.w, RM_MS(10));
    CHECK_EQ(RM_OK, maintain_all(&h));
    CHECK(g.holds);
    CHECK_EQ(1, h.w.destroyed);
    back(&h, &a, RM_RELEASE_OK);
    leave(&g);
    house_end(&h);
}

/* ---- a destroy_fn that hangs holds up who called it ---- */

static void breaks_a_lease(void *user) {
    visitor *v = (visitor *)user;
    back(v->h, &v->lease, RM_RELEASE_BROKEN);
}

static void shrinks_to_one(void *user) {
    const rm_pool_sizes one = {1, 0, 0, 1};
    CHECK_EQ(RM_OK, rm_pool_resize(((visitor *)user)->lease.pool, &one, NULL));
}

/* Has a thread do something with a copy of a lease, up to the first destroy_fn. */
static void up_to_a_gate(visitor *v, house *h, const rm_pools_lease *lease, gate *g,
                         void (*fn)(void *user)) {
    memset(v, 0, sizeof *v);
    v->h = h;
    v->lease = *lease;
    gate_init(g);
    SET(h->w.next_destroy, g);
    CHECK_EQ(RM_OK, rm_thread_start(&v->thread, fn, v));
    gate_await(g, 1);
}

static void through_the_gate(visitor *v, gate *g) {
    gate_open(g);
    rm_thread_join(&v->thread);
    gate_done(g);
}

TEST(pools, have_what_is_idle_make_way_while_a_destroy_fn_hangs) {
    rm_pools_lease a, c;
    guest other;
    visitor v;
    gate g;
    house h;
    REQUIRE(house_begin(&h, 2, 2));
    CHECK_EQ(RM_OK, lend(&h, "a", &a));
    CHECK_EQ(RM_OK, lend(&h, "c", &c));
    back(&h, &c, RM_RELEASE_OK);
    up_to_a_gate(&v, &h, &a, &g, breaks_a_lease);
    guest_ask(&other, &h, "b");
    CHECK(other.holds); /* in the place of what was idle under "c" */
    CHECK_EQ(1, GET(h.w.destroyed));
    through_the_gate(&v, &g);
    CHECK_EQ(2, h.w.destroyed);
    leave(&other);
    house_end(&h);
}

TEST(pools, have_what_is_idle_make_way_while_a_resize_hangs) {
    rm_pools_lease a[3], first;
    guest other;
    uint32_t i;
    visitor v;
    gate g;
    house h;
    REQUIRE(house_begin(&h, 3, 3));
    for (i = 0; i < 3; ++i)
        CHECK_EQ(RM_OK, lend(&h, "a", &a[i]));
    first = a[0];
    for (i = 0; i < 3; ++i)
        back(&h, &a[i], RM_RELEASE_OK);
    up_to_a_gate(&v, &h, &first, &g, shrinks_to_one);
    guest_ask(&other, &h, "b");
    CHECK(other.holds); /* in the place of the one that stayed idle */
    through_the_gate(&v, &g);
    leave(&other);
    house_end(&h);
}

TEST(pools, say_that_the_common_bound_is_reached) {
    rm_pools_lease a, b;
    rm_error error;
    house h;
    REQUIRE(house_begin(&h, 2, 1));
    CHECK_EQ(RM_OK, lend(&h, "a", &a));
    CHECK_EQ(RM_E_TIMEOUT, get(&h, "b", RM_NOWAIT, &b, &error));
    CHECK_STR("no resource: 0 in use, 0 idle, 0 creating, 0 checking, 0 closing, 0 waiting, max 2; "
              "all 1 of max_total are taken by this and other keys",
              error.message);
    back(&h, &a, RM_RELEASE_OK);
    house_end(&h);
    REQUIRE(house_begin(&h, 1, 2));
    CHECK_EQ(RM_OK, lend(&h, "a", &a));
    CHECK_EQ(RM_E_TIMEOUT, get(&h, "a", RM_NOWAIT, &b, &error)); /* its own, not the common one */
    CHECK_STR("no resource: 1 in use, 0 idle, 0 creating, 0 checking, 0 closing, 0 waiting, max 1",
              error.message);
    back(&h, &a, RM_RELEASE_OK);
    house_end(&h);
}

static uint32_t idle_under(rm_pool *pool) {
    rm_pool_stats s;
    CHECK_EQ(RM_OK, rm_pool_stats_get(pool, &s));
    return s.idle;
}

/* One that is about to wait under a ends what is idle under c, which hangs: it stands in no queue,
   and what comes back under a meanwhile is not for it alone. */
TEST(pools, share_what_is_idle_under_a_key_that_a_hook_holds_up) {
    uint32_t first;
    for (first = 0; first < 2; ++first) {
        rm_pools_lease a[4];
        guest other;
        visitor v;
        gate g;
        uint32_t i;
        rm_pool *of_a;
        house h;
        REQUIRE(house_begin(&h, 5, 5));
        CHECK_EQ(1, visit(&h, "c"));
        for (i = 0; i < 4; ++i)
            CHECK_EQ(RM_OK, lend(&h, "a", &a[i]));
        of_a = a[0].pool;
        gate_init(&g);
        SET(h.w.next_destroy, &g);
        visitor_start(&v, &h, "a", RM_SEC(1));
        gate_await(&g, 1);
        if (first) guest_ask(&other, &h, "b");
        for (i = 0; i < 4; ++i)
            back(&h, &a[i], RM_RELEASE_OK);
        if (!first) guest_ask(&other, &h, "b");
        CHECK(other.holds);
        CHECK_EQ(3, idle_under(of_a));
        gate_open(&g);
        CHECK_EQ(RM_OK, visitor_join(&v));
        gate_done(&g);
        back(&h, &v.lease, RM_RELEASE_OK);
        leave(&other);
        house_end(&h);
    }
}

/* ... but not for one that has as many, nor for one that has its own max. */
TEST(pools, keep_what_is_idle_under_a_key_that_a_hook_holds_up_from_the_rich) {
    rm_pools_lease a[4], b, d;
    guest poor, rich, full;
    visitor v;
    gate g;
    uint32_t i;
    rm_pool *of_a;
    house h;
    REQUIRE(house_begin(&h, 5, 7));
    h.open_max = 1;
    CHECK_EQ(RM_OK, lend(&h, "d", &d));
    h.open_max = 0;
    CHECK_EQ(2, visit(&h, "c"));
    CHECK_EQ(RM_OK, lend(&h, "b", &b));
    for (i = 0; i < 4; ++i)
        CHECK_EQ(RM_OK, lend(&h, "a", &a[i]));
    of_a = a[0].pool;
    gate_init(&g);
    SET(h.w.next_destroy, &g);
    visitor_start(&v, &h, "a", RM_SEC(1));
    gate_await(&g, 1);
    back_both(&h, &a[0], &a[1]);
    guest_ask(&full, &h, "d");
    guest_ask(&poor, &h, "b");
    CHECK(poor.holds);
    CHECK_EQ(1, idle_under(of_a)); /* 3 of a and 2 of b */
    guest_ask(&rich, &h, "b");
    CHECK(full.waits && rich.waits);
    CHECK_EQ(1, idle_under(of_a));
    gate_open(&g);
    CHECK_EQ(RM_OK, visitor_join(&v));
    gate_done(&g);
    back(&h, &v.lease, RM_RELEASE_OK);
    back_both(&h, &a[2], &a[3]);
    back_both(&h, &b, &d);
    leave(&full);
    leave(&poor);
    leave(&rich);
    house_end(&h);
}

/* x makes room, and on its way comes to make what y waits for, which takes its time. */
TEST(pools, lend_a_free_place_while_one_that_wants_it_is_held_up) {
    rm_pools_lease leases[4], none;
    static const char *const keys[] = {"y", "x", "d", "z"};
    uint32_t i;
    guest y, d;
    visitor x;
    gate g;
    house h;
    REQUIRE(house_begin(&h, 2, 5));
    for (i = 0; i < 4; ++i)
        CHECK_EQ(RM_OK, lend(&h, keys[i], &leases[i]));
    h.w.create_status = RM_E_REFUSED;
    CHECK_EQ(RM_E_REFUSED, lend(&h, "y", &none));
    h.w.create_status = RM_OK;
    guest_ask(&y, &h, "y");
    CHECK(y.waits);
    pass(&h.w, RM_MS(20)); /* its backoff is over, and nobody has looked */
    gate_init(&g);
    SET(h.w.next_create, &g);
    visitor_start(&x, &h, "x", RM_FOREVER);
    gate_await(&g, 1);
    guest_ask(&d, &h, "d");
    back(&h, &leases[3], RM_RELEASE_BROKEN);
    CHECK(d.holds);
    gate_open(&g);
    leave(&d); /* for x */
    CHECK_EQ(RM_OK, visitor_join(&x));
    gate_done(&g);
    back(&h, &x.lease, RM_RELEASE_OK);
    for (i = 0; i < 3; ++i)
        back(&h, &leases[i], RM_RELEASE_OK);
    leave(&y);
    house_end(&h);
}

static rm_status open_with_endpoints_but_b(const void *key, size_t size, rm_pool_desc *desc,
                                           rm_error *error, void *user) {
    house *h = (house *)user;
    if (*(const char *)key == 'b') {
        desc->endpoints = NULL;
        desc->endpoint_count = 0;
    }
    return house_open_key(key, size, desc, error, h);
}

/* Two servers with guards, for all keys but b. */
static void house_init_guarded(house *h, rm_pool_endpoint endpoints[2], watch seen[2],
                               uint32_t max) {
    uint32_t i;
    house_init(h, max, max);
    for (i = 0; i < 2; ++i) {
        endpoints[i].name = i == 0 ? "one" : "two";
        endpoints[i].guard = watch_init(&seen[i]);
        endpoints[i].user = &h->w;
    }
    h->desc.pool.endpoints = endpoints;
    h->desc.pool.endpoint_count = 2;
    h->desc.open_fn = open_with_endpoints_but_b;
}

/* Under a there is one that its guard refuses, and somebody waits for another. */
TEST(pools, end_what_nobody_may_have_for_another_key) {
    watch seen[2];
    rm_pool_endpoint endpoints[2];
    rm_pools_lease a[2], x;
    guest y, b;
    house h;
    house_init_guarded(&h, endpoints, seen, 2);
    REQUIRE(house_open(&h));
    seen[1].refuses = true;
    CHECK_EQ(RM_OK, lend(&h, "a", &a[0]));
    CHECK_EQ(RM_OK, lend(&h, "a", &a[1]));
    back_both(&h, &a[0], &a[1]);
    pass(&h.w, RM_SEC(1));
    seen[0].refuses = true;
    seen[1].refuses = false;
    CHECK_EQ(RM_OK, lend(&h, "a", &x)); /* of two; one of one's made way */
    guest_ask(&y, &h, "a");
    CHECK(y.waits);
    CHECK_EQ(1, idle_under(x.pool));
    guest_ask(&b, &h, "b");
    CHECK(b.holds);
    CHECK_EQ(0, idle_under(x.pool));
    back(&h, &x, RM_RELEASE_OK);
    leave(&b);
    all_leave(&y, 1);
    house_end(&h);
}

static guest *comes_meanwhile[2]; /* while something is reset */

static rm_status reset_meanwhile(void *resource, void *user) {
    uint32_t i;
    (void)resource, (void)user;
    for (i = 0; i < 2 && comes_meanwhile[i] != NULL; ++i) {
        ask(comes_meanwhile[i]);
        comes_meanwhile[i] = NULL;
    }
    return RM_OK;
}

/* Under a one is refused and one is lent; two that have none come before it is idle. */
TEST(pools, end_what_nobody_may_have_beside_what_is_lent) {
    watch seen[2];
    rm_pool_endpoint endpoints[2];
    rm_pools_lease a[2], x;
    guest y, b, d;
    house h;
    house_init_guarded(&h, endpoints, seen, 3);
    h.desc.pool.reset_fn = reset_meanwhile;
    REQUIRE(house_open(&h));
    CHECK_EQ(RM_OK, lend(&h, "a", &a[0])); /* of one */
    CHECK_EQ(RM_OK, lend(&h, "a", &a[1])); /* of two */
    seen[0].refuses = true;
    h.w.create_fails_at = 3;
    CHECK_EQ(RM_E_REFUSED, lend(&h, "a", &x)); /* by two: it is not well */
    CHECK_EQ(RM_OK, lend(&h, "x", &x));
    guest_ask(&y, &h, "a");
    guest_init(&b, &h, "b");
    guest_init(&d, &h, "d");
    comes_meanwhile[0] = &b;
    comes_meanwhile[1] = &d;
    back(&h, &a[0], RM_RELEASE_OK);
    CHECK(b.holds && d.waits && y.waits);
    CHECK_EQ(1, h.w.destroyed);
    back(&h, &x, RM_RELEASE_OK);
    CHECK(d.holds);
    back(&h, &a[1], RM_RELEASE_OK);
    CHECK(y.holds);
    leave(&b);
    leave(&d);
    leave(&y);
    house_end(&h);
}

TEST(pools, end_what_is_idle_elsewhere_for_one_that_tries) {
    rm_pools_lease b, c;
    house h;
    REQUIRE(house_begin(&h, 2, 1));
    CHECK_EQ(1, visit(&h, "a"));
    CHECK_EQ(RM_OK, lend(&h, "b", &b));
    CHECK_EQ(1, h.w.destroyed);
    CHECK_EQ(RM_E_TIMEOUT, lend(&h, "c", &c)); /* nothing is idle */
    back(&h, &b, RM_RELEASE_OK);
    house_end(&h);
}

TEST(pools, let_nobody_try_before_one_that_has_waited_for_long) {
    rm_pools_lease a, another;
    guest g;
    house h;
    REQUIRE(house_begin(&h, 1, 2));
    CHECK_EQ(RM_OK, lend(&h, "a", &a));
    guest_ask(&g, &h, "a");
    pass(&h.w, RM_MS(1));
    CHECK_EQ(RM_OK, maintain_all(&h)); /* which looks at the queue */
    CHECK_EQ(RM_E_TIMEOUT, lend(&h, "a", &another));
    back(&h, &a, RM_RELEASE_OK);
    leave(&g);
    house_end(&h);
}

static rm_status slow_check(void *resource, void *user) {
    (void)resource;
    pass((world *)user, RM_MS(10));
    return RM_OK;
}

TEST(pools, come_to_every_key_when_upkeep_has_little_time) {
    rm_pools_lease a[4];
    uint32_t i;
    house h;
    house_init(&h, 4, 0);
    h.desc.pool.validate_fn = slow_check;
    h.desc.pool.keepalive_ns = RM_MS(30);
    h.desc.pool.min_idle = 4;
    REQUIRE(house_open(&h));
    for (i = 0; i < 4; ++i)
        CHECK_EQ(RM_OK, lend(&h, "a", &a[i]));
    for (i = 0; i < 4; ++i)
        back(&h, &a[i], RM_RELEASE_OK);
    CHECK_EQ(5, visit(&h, "b"));
    pass(&h.w, RM_MS(100));
    for (i = 0; i < 4; ++i) { /* a's checks alone take longer */
        CHECK_EQ(RM_OK,
                 rm_pools_maintain(h.pools, 0, rm_deadline_after(&h.w.clock, RM_MS(20)), NULL));
        pass(&h.w, RM_MS(5));
    }
    CHECK_EQ(8, h.w.created);
    house_end(&h);
}

static bool evict_one(const void *key, size_t size, rm_pool *pool, void *user) {
    (void)key, (void)size, (void)user;
    CHECK_EQ(RM_OK, rm_pool_evict_all(pool));
    return true;
}

TEST(pools, come_to_each_key_once_in_an_upkeep) {
    house h;
    house_init(&h, 1, 0);
    h.desc.pool.min_idle = 1;
    h.desc.pool.create_backoff_ns = RM_NONE; /* each time it comes to one it tries */
    REQUIRE(house_open(&h));
    CHECK(visit(&h, "a") != 0 && visit(&h, "b") != 0 && visit(&h, "c") != 0);
    rm_pools_each(h.pools, evict_one, NULL);
    h.w.create_status = RM_E_REFUSED;
    h.w.creates = 0;
    CHECK_EQ(RM_E_REFUSED, maintain_all(&h));
    CHECK_EQ(3, h.w.creates);
    h.w.create_takes_ns = RM_MS(10);
    CHECK_EQ(RM_E_REFUSED,
             rm_pools_maintain(h.pools, 0, rm_deadline_after(&h.w.clock, RM_MS(5)), NULL));
    CHECK_EQ(4, h.w.creates);
    CHECK_EQ(RM_E_REFUSED, maintain_all(&h)); /* from the second on */
    CHECK_EQ(7, h.w.creates);
    house_end(&h);
}

TEST(pools, refuse_nested_beyond_a_key_only_when_all_is_taken) {
    rm_pools_lease a, b;
    rm_error error;
    house h;
    house_init(&h, 1, 2);
    h.desc.pool.refuse_nested = true;
    REQUIRE(house_open(&h));
    CHECK_EQ(RM_OK, lend(&h, "a", &a));
    CHECK_EQ(RM_E_DEADLOCK, get(&h, "a", RM_SEC(1), &b, &error));
    CHECK_STR("this thread holds one of 1 and would wait for itself; release it first, or raise "
              "max or max_total",
              error.message);
    CHECK_EQ(RM_E_TIMEOUT, lend(&h, "a", &b)); /* a try does not wait */
    CHECK_EQ(RM_OK, get(&h, "b", RM_SEC(1), &b, &error));
    back(&h, &b, RM_RELEASE_BROKEN);
    back(&h, &a, RM_RELEASE_OK);
    house_end(&h);
    house_init(&h, 2, 1);
    h.desc.pool.refuse_nested = true;
    REQUIRE(house_open(&h));
    CHECK_EQ(RM_OK, lend(&h, "a", &a));
    CHECK_EQ(RM_E_DEADLOCK, get(&h, "b", RM_SEC(1), &b, &error));
    CHECK_STR("this thread holds a lease of another key and would wait for itself; release it "
              "first, or raise max_total",
              error.message);
    back(&h, &a, RM_RELEASE_OK);
    house_end(&h);
}

TEST(pools, refuse_nested_only_where_nothing_idle_makes_way) {
    static const char *const asked[] = {"a", "b"};
    uint32_t i;
    for (i = 0; i < 2; ++i) {
        rm_pools_lease a, b;
        rm_error error;
        house h;
        house_init(&h, 2, 2);
        h.desc.pool.refuse_nested = true;
        REQUIRE(house_open(&h));
        CHECK_EQ(RM_OK, lend(&h, "a", &a));
        CHECK_EQ(2, visit(&h, "z"));
        CHECK_EQ(RM_OK, get(&h, asked[i], RM_SEC(1), &b, &error));
        CHECK_EQ(1, h.w.destroyed);
        back_both(&h, &a, &b);
        house_end(&h);
    }
}

static rm_cancel regretted;

static rm_status refuse_and_cancel(rm_permit *permit, rm_error *error, void *user) {
    (void)permit;
    if (!*(bool *)user) return RM_OK;
    rm_cancel_request(&regretted);
    return rm_error_set(error, RM_E_REJECTED, 0, "guard", "no");
}

static void hear_nothing(rm_permit *permit, rm_outcome outcome, void *user) {
    (void)permit, (void)outcome, (void)user;
}

/* Cancelled while it was asked for at one endpoint, it goes on to nothing. */
TEST(pools, end_nothing_elsewhere_for_one_that_was_cancelled) {
    bool refuses = false;
    const rm_guard guard = {refuse_and_cancel, hear_nothing, &refuses};
    rm_pool_endpoint endpoints[2] = {{"one", &guard, NULL}, {"two", NULL, NULL}};
    rm_pools_lease a, b;
    rm_error error;
    house h;
    house_init(&h, 4, 3);
    endpoints[0].user = endpoints[1].user = &h.w;
    h.desc.pool.endpoints = endpoints;
    h.desc.pool.endpoint_count = 2;
    REQUIRE(house_open(&h));
    CHECK_EQ(RM_OK, lend(&h, "x", &a)); /* of one */
    CHECK_EQ(RM_OK, lend(&h, "x", &b)); /* of two, so that none is in the way of the other */
    CHECK_EQ(3, visit(&h, "z"));
    back_both(&h, &a, &b);
    refuses = true;
    CHECK_EQ(RM_OK, rm_cancel_init(&regretted));
    CHECK_EQ(RM_E_CANCELLED, rm_pools_acquire(h.pools, "x", 1, never, &regretted, &a, &error));
    CHECK_EQ(0, h.w.destroyed);
    CHECK_EQ(RM_OK, rm_cancel_destroy(&regretted));
    house_end(&h);
}

static house *filling; /* by the next report of an operation that came to nothing; NULL = not */

static void fill_up(rm_permit *permit, rm_outcome outcome, void *user) {
    house *h = filling;
    (void)permit, (void)user;
    if (outcome != RM_OUTCOME_IGNORE || h == NULL) return;
    filling = NULL;
    CHECK(visit(h, "z") != 0 && visit(h, "w") != 0);
}

/* Its create failed, and what was idle at another endpoint was sick. */
TEST(pools, end_nothing_elsewhere_for_one_that_tries_and_failed) {
    const rm_guard guard = {admit_any, fill_up, NULL};
    rm_pool_endpoint endpoints[2] = {{"one", NULL, NULL}, {"two", &guard, NULL}};
    rm_pools_lease x;
    house h;
    house_init(&h, 4, 2);
    endpoints[0].user = endpoints[1].user = &h.w;
    h.desc.pool.endpoints = endpoints;
    h.desc.pool.endpoint_count = 2;
    h.desc.pool.balance = RM_POOL_ROUND_ROBIN;
    h.desc.pool.validate_fn = thing_validate;
    h.desc.pool.validate_after_ns = RM_STRICT;
    REQUIRE(house_open(&h));
    h.w.create_fails_at = 1;
    CHECK_EQ(RM_E_REFUSED, lend(&h, "x", &x)); /* at one */
    CHECK_EQ(1, visit(&h, "x"));               /* at two */
    pass(&h.w, RM_MINUTES(1));
    h.w.create_fails_at = 3;
    h.w.validate_status = RM_E_FAILED;
    filling = &h;
    CHECK_EQ(RM_E_REFUSED, lend(&h, "x", &x));
    CHECK(filling == NULL);
    CHECK_EQ(1, h.w.destroyed);
    house_end(&h);
}

static void hold_b_and_ask_for_a(void *user) {
    visitor *v = (visitor *)user;
    rm_pools_lease b;
    CHECK_EQ(RM_OK, lend(v->h, "b", &b));
    v->status = get(v->h, "a", RM_SEC(1), &v->lease, &v->error);
    back(v->h, &b, RM_RELEASE_OK);
}

TEST(pools, let_one_with_another_key_wait_for_a_key_of_others) {
    rm_pools_lease a;
    visitor v;
    house h;
    house_init(&h, 1, 3);
    h.desc.pool.refuse_nested = true;
    REQUIRE(house_open(&h));
    CHECK_EQ(RM_OK, lend(&h, "a", &a));
    memset(&v, 0, sizeof v);
    v.h = &h;
    CHECK_EQ(RM_OK, rm_thread_start(&v.thread, hold_b_and_ask_for_a, &v));
    rm_virtual_clock_await(&h.w.time, 1);
    back(&h, &a, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, visitor_join(&v));
    back(&h, &v.lease, RM_RELEASE_OK);
    house_end(&h);
}

TEST(pools, say_that_all_keys_are_in_use) {
    rm_pools_lease a, b;
    rm_error error;
    house h;
    house_init(&h, 1, 0);
    h.desc.max_keys = 1;
    REQUIRE(house_open(&h));
    CHECK_EQ(RM_OK, lend(&h, "a", &a));
    CHECK_EQ(RM_E_FULL, get(&h, "b", RM_NOWAIT, &b, &error));
    CHECK_STR("tenants", error.where);
    CHECK_STR("all 1 keys are in use or being made; raise max_keys", error.message);
    back(&h, &a, RM_RELEASE_OK);
    house_end(&h);
}

TEST(pools, are_as_healthy_as_the_worst_and_not_at_all_when_closed) {
    rm_resource resource;
    rm_pools_lease lease;
    rm_error error;
    house h;
    REQUIRE(house_begin(&h, 1, 1));
    resource = rm_pools_resource(h.pools);
    CHECK_EQ(RM_HEALTH_HEALTHY, resource.health_fn(resource.user, &error));
    CHECK_EQ(RM_OK, lend(&h, "a", &lease));
    CHECK_EQ(RM_OK, rm_pool_suspend(lease.pool));
    CHECK_EQ(RM_HEALTH_DEGRADED, resource.health_fn(resource.user, NULL));
    back(&h, &lease, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, rm_pools_close(h.pools, RM_NOWAIT, NULL));
    CHECK_EQ(RM_HEALTH_UNHEALTHY, resource.health_fn(resource.user, &error));
    CHECK_STR("the pools are closed", error.message);
    CHECK_EQ(RM_HEALTH_UNHEALTHY, resource.health_fn(resource.user, NULL));
    house_end(&h);
}

/* ---- what a release costs where many wait: counted by its readings of the clock ---- */

static int64_t (*uncounted_now)(void *user);
static void (*uncounted_wait)(rm_cond *cond, rm_mutex *mutex, int64_t until_ns, void *user);
static uint32_t counted_thread, readings; /* the thread's of that number */

static int64_t counted_now(void *user) {
    if (rm_thread_number() == GET(counted_thread)) ++readings;
    return uncounted_now(user);
}

/* Who is woken goes on when the count is over. */
static void wait_longer(rm_cond *cond, rm_mutex *mutex, int64_t until_ns, void *user) {
    uncounted_wait(cond, mutex, until_ns, user);
    rm_mutex_unlock(mutex);
    while (GET(counted_thread) != 0)
        relax();
    rm_mutex_lock(mutex);
}

static void visits(void *user) {
    visitor *v = (visitor *)user;
    visitor_run(user);
    CHECK_EQ(RM_OK, v->status);
    back(v->h, &v->lease, RM_RELEASE_OK);
}

enum { MANY_KEYS = 100 };

/* With so many keys that wait for the same place. Each was refused by its guard long ago, so that
   whoever looks at it reads the clock. */
static uint32_t readings_of_a_release(uint32_t keys) {
    static char names[MANY_KEYS][12];
    static visitor visitors[MANY_KEYS];
    rm_pool_endpoint endpoint;
    rm_pools_lease held;
    uint32_t i;
    watch seen;
    house h;
    house_init(&h, 1, 1);
    desc_guard_endpoint(&h.desc.pool, &endpoint, &seen);
    uncounted_now = h.w.clock.now_fn;
    uncounted_wait = h.w.clock.wait_fn;
    h.w.clock.now_fn = counted_now;
    h.w.clock.wait_fn = wait_longer;
    if (!house_open(&h)) return 0;
    seen.refuses = true;
    for (i = 0; i < keys; ++i) {
        (void)snprintf(names[i], sizeof names[i], "%u", (unsigned)i);
        CHECK_EQ(RM_E_REJECTED, lend(&h, names[i], &held));
    }
    seen.refuses = false;
    pass(&h.w, RM_MINUTES(9));
    CHECK_EQ(RM_OK, lend(&h, "held", &held));
    for (i = 0; i < keys; ++i) {
        memset(&visitors[i], 0, sizeof visitors[i]);
        visitors[i].h = &h;
        visitors[i].key = names[i];
        visitors[i].timeout_ns = RM_FOREVER;
        CHECK_EQ(RM_OK, rm_thread_start(&visitors[i].thread, visits, &visitors[i]));
        rm_virtual_clock_await(&h.w.time, i + 1);
    }
    readings = 0;
    SET(counted_thread, rm_thread_number());
    back(&h, &held, RM_RELEASE_OK);
    SET(counted_thread, 0);
    for (i = 0; i < keys; ++i)
        rm_thread_join(&visitors[i].thread);
    house_end(&h);
    return readings;
}

TEST(pools, look_at_all_that_wait_a_few_times_for_one_release) {
    const uint32_t few = readings_of_a_release(MANY_KEYS / 4);
    const uint32_t many = readings_of_a_release(MANY_KEYS);
    CHECK(few >= MANY_KEYS / 4); /* it does look at each */
    CHECK(many <= 8 * few);      /* four times as many: not sixteen times the looks */
}

/* ---- keys, asynchronously ---- */

TEST(pools, lend_asynchronously) {
    guest a, b;
    rm_pools_lease copy;
    house h;
    REQUIRE(house_begin(&h, 1, 0));
    guest_init(&a, &h, "a");
    guest_init(&b, &h, "a");
    ask(&a);
    CHECK(a.holds && a.lease.pool != NULL);
    ask(&b);
    CHECK(b.waits);
    copy = a.lease;
    leave(&a);
    CHECK(b.holds);
    CHECK_EQ(1, number_of(&b.lease.lease));
    CHECK_EQ(RM_E_STALE, rm_pools_release(h.pools, &copy, RM_RELEASE_OK));
    leave(&b);
    house_end(&h);
}

/* In acquired_fn: the key goes, since another is needed. */
static void goes_on_to_another(rm_status status, const rm_pools_lease *lease, const rm_error *error,
                               void *user) {
    house *h = (house *)user;
    rm_pools_lease mine = *lease;
    CHECK(status == RM_OK && error == NULL);
    back(h, &mine, RM_RELEASE_OK);
    CHECK_EQ(2, visit(h, "b"));
    CHECK_EQ(1, h->shut);
}

static rm_status destroy_inside; /* what rm_pools_destroy said in acquired_fn */

static void destroys_all(rm_status status, const rm_pools_lease *lease, const rm_error *error,
                         void *user) {
    house *h = (house *)user;
    rm_pools_lease mine = *lease;
    CHECK(status == RM_OK && error == NULL);
    back(h, &mine, RM_RELEASE_OK);
    destroy_inside = rm_pools_destroy(h->pools);
}

static void *counting_alloc(size_t size, void *user) {
    ADD(*(uint32_t *)user, 1);
    return malloc(size);
}

static void counting_free(void *pointer, size_t size, void *user) {
    (void)size;
    ADD(*(uint32_t *)user, UINT32_MAX);
    free(pointer);
}

TEST(pools, free_a_key_that_goes_inside_its_own_acquired_fn) {
    uint32_t blocks = 0;
    rm_allocator counting = {counting_alloc, counting_free, NULL};
    rm_pools_request request;
    house h;
    house_init(&h, 1, 0);
    counting.user = &blocks;
    h.w.env.allocator = &counting;
    h.desc.max_keys = 1;
    REQUIRE(house_open(&h));
    CHECK_EQ(RM_OK, rm_pools_acquire_async(h.pools, &request, "a", 1, never, NULL,
                                           goes_on_to_another, NULL, &h));
    CHECK(blocks != 0);
    house_end(&h);
    CHECK_EQ(0, blocks);
}

#ifndef RM_NO_TLS /* without it nobody knows who destroys from inside */
TEST(pools, are_busy_inside_an_acquired_fn) {
    rm_pools_request request;
    rm_pools_lease lease;
    house h;
    REQUIRE(house_begin(&h, 1, 0));
    CHECK_EQ(RM_OK, rm_pools_acquire_async(h.pools, &request, "a", 1, never, NULL, destroys_all,
                                           NULL, &h));
    REQUIRE(destroy_inside == RM_E_BUSY); /* closed, but not gone */
    CHECK_EQ(RM_E_CLOSED, lend(&h, "a", &lease));
    CHECK_EQ(0, h.shut);
    house_end(&h);
}
#endif

/* However an asynchronous acquire fails, its key is free after it. */
static void check_key_is_free(house *h) {
    CHECK(visit(h, "other") != 0); /* the only key there may be */
    CHECK(visit(h, "a") != 0);
}

TEST(pools, give_the_key_back_when_an_asynchronous_acquire_fails) {
    rm_pools_lease held, other;
    rm_cancel token;
    rm_error error;
    watch seen;
    guest g;
    house h;
    house_init(&h, 1, 0);
    h.desc.max_keys = 1;
    h.desc.pool.guard = watch_init(&seen);
    REQUIRE(house_open(&h));
    CHECK_EQ(RM_OK, rm_cancel_init(&token));
    guest_init(&g, &h, "a");
    CHECK_EQ(RM_OK, lend(&h, "a", &held));
    CHECK_EQ(RM_OK, ask_for(&g, RM_MS(5), NULL, &error)); /* it times out, ... */
    pass(&h.w, RM_MS(5));
    CHECK_EQ(RM_OK, maintain_all(&h));
    CHECK_EQ(RM_E_TIMEOUT, g.status);
    CHECK_EQ(RM_OK, ask_for(&g, RM_FOREVER, NULL, &error)); /* ... is given up, ... */
    CHECK_EQ(RM_OK, rm_pools_request_cancel(&g.request));
    CHECK_EQ(RM_E_CANCELLED, g.status);
    CHECK_EQ(RM_OK, ask_for(&g, RM_FOREVER, &token, &error)); /* ... cancelled, ... */
    rm_cancel_request(&token);
    CHECK_EQ(RM_E_CANCELLED, g.status);
    CHECK_EQ(RM_E_CANCELLED, ask_for(&g, RM_FOREVER, &token, &error)); /* ... did not begin, ... */
    CHECK_STR("a", error.where);
    CHECK_EQ(RM_E_FULL, lend(&h, "other", &other)); /* its key is in use: by the lease only */
    back(&h, &held, RM_RELEASE_OK);
    check_key_is_free(&h);
    seen.refuses = true;
    CHECK_EQ(RM_E_REJECTED, ask_for(&g, RM_FOREVER, NULL, &error)); /* ... is refused, ... */
    seen.refuses = false;
    check_key_is_free(&h);
    h.w.create_status = RM_E_REFUSED;
    guest_init(&g, &h, "new");
    CHECK_EQ(RM_OK, ask_for(&g, RM_FOREVER, NULL, &error)); /* ... or its create fails */
    CHECK_EQ(RM_E_REFUSED, g.status);
    h.w.create_status = RM_OK;
    check_key_is_free(&h);
    CHECK_EQ(RM_OK, rm_cancel_destroy(&token));
    house_end(&h);
}

TEST(pools, cancel_a_request_until_it_has_ended) {
    rm_pools_lease held, other;
    guest g;
    house h;
    house_init(&h, 1, 0);
    h.desc.max_keys = 1;
    REQUIRE(house_open(&h));
    CHECK_EQ(RM_OK, lend(&h, "a", &held));
    guest_ask(&g, &h, "a");
    CHECK_EQ(RM_OK, rm_pools_request_cancel(&g.request));
    CHECK(!g.waits && !g.holds);
    CHECK_EQ(RM_E_CANCELLED, g.status);
    CHECK_EQ(RM_E_STALE, rm_pools_request_cancel(&g.request));
    CHECK_EQ(RM_OK, ask_for(&g, RM_SEC(1), NULL, NULL));
    pass(&h.w, RM_SEC(1));
    CHECK_EQ(RM_OK, maintain_all(&h));
    CHECK_EQ(RM_E_TIMEOUT, g.status);
    CHECK_EQ(RM_E_STALE, rm_pools_request_cancel(&g.request));
    back(&h, &held, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, lend(&h, "b", &other)); /* the pool of "a" goes */
    CHECK_EQ(1, h.shut);
    CHECK_EQ(RM_E_STALE, rm_pools_request_cancel(&g.request));
    back(&h, &other, RM_RELEASE_OK);
    house_end(&h);
}

TEST(pools, keep_a_key_that_somebody_waits_for) {
    rm_pools_lease held, other;
    rm_error error;
    guest g;
    house h;
    house_init(&h, 1, 1);
    h.desc.max_keys = 2;
    REQUIRE(house_open(&h));
    CHECK_EQ(RM_OK, lend(&h, "a", &held));
    guest_ask(&g, &h, "b");
    CHECK(g.waits);
    CHECK_EQ(RM_E_FULL, lend(&h, "c", &other)); /* neither makes room */
    back(&h, &held, RM_RELEASE_OK);
    CHECK(g.holds);
    leave(&g);
    CHECK_EQ(RM_OK, get(&h, "c", RM_SEC(1), &other, &error));
    back(&h, &other, RM_RELEASE_OK);
    house_end(&h);
}

TEST(pools, refuse_asynchronous_acquires_that_make_no_sense) {
    static const char key[256];
    rm_pools_request request;
    rm_error error;
    guest g;
    house h;
    REQUIRE(house_begin(&h, 1, 0));
    guest_init(&g, &h, "a");
    CHECK_EQ(RM_E_INVALID,
             rm_pools_acquire_async(NULL, &request, "a", 1, never, NULL, guest_got, &error, &g));
    CHECK_STR("pools", error.where);
    CHECK_EQ(RM_E_INVALID,
             rm_pools_acquire_async(h.pools, NULL, "a", 1, never, NULL, guest_got, &error, &g));
    CHECK_EQ(RM_E_INVALID,
             rm_pools_acquire_async(h.pools, &request, "a", 1, never, NULL, NULL, &error, &g));
    CHECK_EQ(RM_E_TOO_LARGE, rm_pools_acquire_async(h.pools, &request, key, 256, never, NULL,
                                                    guest_got, &error, &g));
    CHECK_EQ(RM_OK, rm_pools_close(h.pools, RM_NOWAIT, NULL));
    CHECK_EQ(RM_E_CLOSED, ask_for(&g, RM_FOREVER, NULL, &error));
    CHECK_EQ(0, g.served);
    house_end(&h);
}

/* ---- keys: upkeep, and a second life ---- */

TEST(pools, have_one_thread_for_all_keys) {
    rm_pools_lease a, b;
    house h;
    house_init(&h, 2, 0);
    h.desc.pool.min_idle = 1;
    h.desc.pool.maintain_every_ns = RM_SEC(1);
    REQUIRE(house_open(&h));
    rm_virtual_clock_await(&h.w.time, 1);
    CHECK_EQ(RM_OK, lend(&h, "a", &a));
    CHECK_EQ(RM_OK, lend(&h, "b", &b));
    CHECK_EQ(2, GET(h.w.creates));
    pass(&h.w, RM_SEC(1));
    rm_virtual_clock_await(&h.w.time, 1); /* it sleeps again, and no other does */
    CHECK_EQ(4, GET(h.w.creates));
    back_both(&h, &a, &b);
    pass(&h.w, RM_MINUTES(10));
    rm_virtual_clock_await(&h.w.time, 1);
    CHECK_EQ(2, GET(h.w.destroyed));
    house_end(&h);
}

TEST(pools, open_again_after_a_stop) {
    rm_pools_lease a, b;
    rm_resource resource;
    rm_error error;
    house h;
    house_init(&h, 2, 2);
    h.desc.pool.min_idle = 1;
    REQUIRE(house_open(&h));
    resource = rm_pools_resource(h.pools);
    CHECK_EQ(RM_OK, lend(&h, "a", &a));
    CHECK_EQ(RM_E_BUSY,
             resource.stop_fn(resource.user, rm_deadline_after(&h.w.clock, RM_NOWAIT), &error));
    CHECK_EQ(RM_E_BUSY, resource.start_fn(resource.user, never, &error)); /* it is still out */
    CHECK_STR("a", error.where);
    CHECK_EQ(RM_E_BUSY, resource.start_fn(resource.user, never, NULL));
    back(&h, &a, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, resource.stop_fn(resource.user, never, &error));
    CHECK_EQ(RM_E_CLOSED, lend(&h, "a", &a));
    CHECK_EQ(RM_OK, resource.start_fn(resource.user, never, &error));
    CHECK_EQ(RM_HEALTH_HEALTHY, resource.health_fn(resource.user, &error));
    CHECK_EQ(2, h.w.creates); /* min_idle of "a" */
    CHECK_EQ(RM_OK, lend(&h, "a", &a));
    CHECK_EQ(2, number_of(&a.lease));
    CHECK_EQ(RM_OK, lend(&h, "b", &b)); /* the bound is free again, and new keys open */
    back_both(&h, &a, &b);
    house_end(&h);
}

#ifndef RM_NO_TLS
/* ---- the thread finds what it used last, also with a deadline ---- */

static rm_status use_number(void *resource, rm_error *error, void *user) {
    (void)error;
    *(uint32_t *)user = ((thing *)resource)->number;
    return RM_OK;
}

/* The number of the thing that a call with this deadline lends. */
static uint32_t until(world *w, int64_t timeout_ns) {
    const rm_deadline deadline = rm_deadline_after(&w->clock, timeout_ns);
    uint32_t number = 0;
    rm_lease lease;
    CHECK_EQ(RM_OK, rm_pool_acquire_until(w->pool, deadline, NULL, &lease, NULL));
    give(w, &lease, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, rm_pool_with(w->pool, deadline, use_number, NULL, &number));
    CHECK_EQ(number, number_of(&lease) == 0 ? number : 0);
    return number;
}

/* Two are idle, and this thread used the second last. */
static void prefer_second(world *w) {
    rm_lease a, b;
    take_both(w, &a, &b);
    give_both(w, &a, &b);
}

TEST(hints, hold_for_deadlines_that_are_far_off) {
    static const struct {
        int64_t timeout_ns;
        uint32_t number;
    } cases[] = {{RM_FOREVER, 2},    {RM_SEC(1), 2}, {RM_MS(20), 2},
                 {RM_MS(20) - 1, 1}, {RM_MS(1), 1},  {RM_NOWAIT, 1}};
    size_t i;
    for (i = 0; i < sizeof cases / sizeof *cases; ++i) {
        world w;
        REQUIRE(world_begin(&w, 2));
        prefer_second(&w);
        CHECK_EQ(cases[i].number, until(&w, cases[i].timeout_ns));
        world_end(&w);
    }
}

TEST(hints, do_not_hold_for_what_was_cancelled) {
    rm_cancel token;
    rm_lease lease;
    rm_error error;
    world w;
    REQUIRE(world_begin(&w, 2));
    prefer_second(&w);
    CHECK_EQ(RM_OK, rm_cancel_init(&token));
    CHECK_EQ(RM_OK, rm_pool_acquire_until(w.pool, never, &token, &lease, &error));
    CHECK_EQ(2, number_of(&lease));
    give(&w, &lease, RM_RELEASE_OK);
    rm_cancel_request(&token);
    CHECK_EQ(RM_E_CANCELLED, rm_pool_acquire_until(w.pool, never, &token, &lease, &error));
    CHECK_EQ(0, error.native);
    CHECK_EQ(RM_OK, rm_cancel_destroy(&token));
    world_end(&w);
}

/* A lease that the hint found is a key's all the same. */
TEST(hints, hold_for_keys) {
    rm_pools_lease a, b, c;
    rm_error error;
    house h;
    house_init(&h, 2, 0);
    h.desc.max_keys = 1;
    REQUIRE(house_open(&h));
    CHECK_EQ(RM_OK, get(&h, "a", RM_FOREVER, &a, &error));
    CHECK_EQ(RM_OK, get(&h, "a", RM_FOREVER, &b, &error));
    back_both(&h, &a, &b);
    CHECK_EQ(RM_OK, get(&h, "a", RM_FOREVER, &a, &error));
    CHECK_EQ(2, number_of(&a.lease));
    CHECK_EQ(RM_E_FULL, lend(&h, "b", &c)); /* the key is in use */
    back(&h, &a, RM_RELEASE_OK);
    CHECK(visit(&h, "b") != 0);
    house_end(&h);
}
#endif

TEST_MAIN

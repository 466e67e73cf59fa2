/* Corners of rm_pool.h that other tests meet by chance or never: another thread that comes in
   between any two steps of a call, a platform that has nothing more to give, and settings that are
   seldom combined. The first two are done by macros around what the header calls. */
#ifndef _WIN32
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#else
#include <windows.h>
#endif
#include <stdbool.h>

/* ---- what the header calls */

static void corner_step(void);
static void corner_locked(int change);

#define __atomic_load_n(p, order) (corner_step(), __atomic_load_n(p, order))
#define __atomic_exchange_n(p, v, order) (corner_step(), __atomic_exchange_n(p, v, order))
#define __atomic_fetch_add(p, v, order) (corner_step(), __atomic_fetch_add(p, v, order))
#define __atomic_compare_exchange_n(p, e, v, weak, order, failed) \
    (corner_step(), __atomic_compare_exchange_n(p, e, v, weak, order, failed))

#ifdef _WIN32
#define AcquireSRWLockExclusive(m) (corner_step(), corner_locked(1), AcquireSRWLockExclusive(m))
#define ReleaseSRWLockExclusive(m) (corner_locked(-1), ReleaseSRWLockExclusive(m))
#else
enum { LOCK = 1, THREAD };
static bool corner_refused(int kind);

#define pthread_mutex_lock(m) (corner_step(), corner_locked(1), pthread_mutex_lock(m))
#define pthread_mutex_unlock(m) (corner_locked(-1), pthread_mutex_unlock(m))
#define pthread_mutex_init(m, a) (corner_refused(LOCK) ? 1 : pthread_mutex_init(m, a))
#define pthread_create(t, a, fn, user) (corner_refused(THREAD) ? 1 : pthread_create(t, a, fn, user))
#endif

#define RM_IMPLEMENTATION
#include "rm_pool.h"
#include "rm_test.h"

#include "pool_fixture.h"

/* ---- a visitor, who comes at a step of this thread */

static __thread int locks_held;
static __thread int steps_left; /* until the visitor comes; 0 = none will */
static bool in_locks;           /* also while this thread holds a lock */
static void (*visitor)(void);
static bool visited;

static void corner_locked(int change) {
    locks_held += change;
}

static void corner_step(void) {
    if (steps_left == 0 || (locks_held > 0 && !in_locks) || --steps_left > 0) return;
    visited = true;
    visitor();
}

/* The visitor is of the same thread: there is little that a sanitizer or another system adds. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(_WIN32)
enum { STRIDE = 7 };
#else
enum { STRIDE = 1 };
#endif

/* Plays begin, act and end for every step of act (elsewhere every 7th) at which visit can come, and
   once with visit after act. */
static void at_every_step(void (*begin)(void), void (*act)(void), void (*visit)(void),
                          void (*end)(void)) {
    int n = 1;
    do {
        begin();
        visitor = visit;
        visited = false;
        steps_left = n;
        n += STRIDE;
        act();
        steps_left = 0;
        if (!visited) visit();
        end();
    } while (visited);
}

#ifndef _WIN32
/* ---- a platform that refuses the n-th call of one kind, on this thread only */

static __thread int refused_kind, calls_left;

static bool corner_refused(int kind) {
    return kind == refused_kind && calls_left > 0 && --calls_left == 0;
}

static void refuse(int kind, int nth) {
    refused_kind = kind;
    calls_left = nth;
}

static bool was_refused(void) {
    const bool was = calls_left == 0;
    calls_left = 0;
    return was;
}
#endif

/* ---- one world, two leases, and what two calls returned */

static world w;
static rm_lease mine, other;
static rm_status acted, said;

static void open_world(void) {
    memset(&mine, 0, sizeof mine);
    memset(&other, 0, sizeof other);
    acted = said = RM_E_INTERNAL;
    CHECK(world_open(&w));
}

static void give_all(void) {
    if (mine.resource != NULL) give(&w, &mine, RM_RELEASE_OK);
    if (other.resource != NULL) give(&w, &other, RM_RELEASE_OK);
}

static void end_world(void) {
    give_all();
    world_end(&w);
}

static void act_take(void) {
    acted = take(&w, &mine);
}

static void act_give(void) {
    acted = rm_pool_release(w.pool, &mine, RM_RELEASE_OK);
}

static void act_maintain(void) {
    acted = maintain(&w);
}

static void visit_take(void) {
    said = take(&w, &other);
}

static void visit_give(void) {
    said = rm_pool_release(w.pool, &other, RM_RELEASE_OK);
}

static void visit_evict_all(void) {
    said = rm_pool_evict_all(w.pool);
}

static void visit_later(void) {
    pass(&w, RM_MS(10));
}

/* ---- room */

static void begin_one(void) {
    world_init(&w, 1);
    open_world();
}

static void end_with_one_lent(void) {
    CHECK_EQ(1, (mine.resource != NULL) + (other.resource != NULL));
    CHECK_EQ(1, (acted == RM_OK) + (said == RM_OK));
    CHECK_EQ(1, w.created);
    CHECK_EQ(1, stats_of(&w).in_use);
    end_world();
}

TEST(room, for_one_is_given_to_one) {
    at_every_step(begin_one, act_take, visit_take, end_with_one_lent);
}

static void begin_three(void) {
    world_init(&w, 3);
    open_world();
}

static void end_with_two_lent(void) {
    CHECK_EQ(RM_OK, acted);
    CHECK_EQ(RM_OK, said);
    CHECK_EQ(2, w.created);
    end_world();
}

TEST(room, for_all_is_found_by_all) {
    at_every_step(begin_three, act_take, visit_take, end_with_two_lent);
}

/* Two may be made and one is out; the last create failed, and its backoff is over. */
static void begin_probe(void) {
    world_init(&w, 2);
    open_world();
    CHECK_EQ(RM_OK, take(&w, &other));
    w.create_status = RM_E_FAILED;
    CHECK_EQ(RM_E_FAILED, take(&w, &mine));
    w.create_status = RM_OK;
    pass(&w, RM_MS(10));
}

static void resize_to(uint32_t max) {
    rm_pool_sizes sizes;
    memset(&sizes, 0, sizeof sizes);
    sizes.max = max;
    said = rm_pool_resize(w.pool, &sizes, NULL);
}

static void visit_shrink(void) {
    resize_to(1);
}

static void end_probe(void) {
    CHECK(acted == RM_OK || acted == RM_E_BUSY);
    resize_to(2);
    if (acted != RM_OK) CHECK_EQ(RM_OK, take(&w, &mine)); /* the probe was given back */
    CHECK_EQ(2, w.created);
    end_world();
}

TEST(room, that_goes_before_a_probe_leaves_the_probe_to_the_next) {
    at_every_step(begin_probe, act_take, visit_shrink, end_probe);
}

static void begin_backoff(void) {
    begin_probe();
    CHECK_EQ(RM_OK, rm_pool_release(w.pool, &other, RM_RELEASE_BROKEN));
    w.create_status = RM_E_FAILED;
    CHECK_EQ(RM_E_FAILED, take(&w, &mine));
    w.create_status = RM_OK;
    pass(&w, RM_MS(10)); /* of 20 */
}

static void end_backoff(void) {
    CHECK(acted == RM_OK || acted == RM_E_FAILED || acted == RM_E_BUSY);
    CHECK(acted == RM_OK || borrow(&w) != 0);
    end_world();
}

TEST(room, that_opens_while_it_is_looked_for_is_found_at_the_next_call) {
    at_every_step(begin_backoff, act_take, visit_later, end_backoff);
}

/* One is idle, and will fail its check. */
static void begin_sick(void) {
    world_init(&w, 3);
    w.desc.validate_fn = thing_validate;
    w.desc.validate_after_ns = RM_STRICT;
    open_world();
    CHECK_EQ(RM_OK, take(&w, &mine));
    thing_of(&mine)->sick = true;
    give(&w, &mine, RM_RELEASE_OK);
}

TEST(room, for_a_replacement_is_counted_beside_other_creates) {
    at_every_step(begin_sick, act_take, visit_take, end_world);
}

static void act_prewarm(void) {
    const rm_deadline none = {0};
    uint32_t made = 7;
    acted = rm_pool_prewarm(w.pool, 1, none, &made, NULL);
    CHECK_EQ(RM_OK, acted);
    CHECK_EQ(1, w.created);
    CHECK(made <= 1);
}

static void end_prewarm(void) {
    CHECK(said == RM_OK || said == RM_E_BUSY); /* it may be on its way */
    CHECK_EQ(1, w.created);
    end_world();
}

TEST(room, that_is_taken_during_a_prewarm_ends_it_well) {
    at_every_step(begin_one, act_prewarm, visit_take, end_prewarm);
}

/* ---- leases and idle resources, which two calls want */

static void begin_lent(void) {
    world_init(&w, 2);
    open_world();
    CHECK_EQ(RM_OK, take(&w, &mine));
    other = mine;
}

static void begin_lent_and_told(void) {
    world_init(&w, 2);
    w.desc.event_fn = world_event;
    open_world();
    CHECK_EQ(RM_OK, take(&w, &mine));
    other = mine;
}

static void end_released_once(void) {
    CHECK_EQ(1, (acted == RM_OK) + (said == RM_OK));
    CHECK_EQ(1, (acted == RM_E_STALE) + (said == RM_E_STALE));
    CHECK_EQ(1, stats_of(&w).idle);
    world_end(&w);
}

TEST(lease, is_released_once_by_two_threads) {
    at_every_step(begin_lent, act_give, visit_give, end_released_once);
    at_every_step(begin_lent_and_told, act_give, visit_give, end_released_once);
}

/* One is idle for too long. */
static void begin_unneeded(void) {
    world_init(&w, 2);
    w.desc.idle_timeout_ns = RM_SEC(1);
    open_world();
    fill(&w, 1);
    pass(&w, RM_SEC(1));
}

static void end_unneeded(void) {
    CHECK_EQ(RM_OK, acted);
    CHECK_EQ(RM_OK, said);
    CHECK_EQ(w.created - 1, w.destroyed); /* one, unless it was lent before it was ended */
    end_world();
}

TEST(idle_resource, is_ended_by_upkeep_or_lent) {
    at_every_step(begin_unneeded, act_maintain, visit_take, end_unneeded);
}

/* Two are; upkeep may end one, and the other goes to a visitor. */
static void begin_two_unneeded(void) {
    world_init(&w, 2);
    w.desc.idle_timeout_ns = RM_SEC(1);
    open_world();
    fill(&w, 2);
    pass(&w, RM_SEC(1));
    w.pool->cursor = 1; /* the visitor comes for the one that upkeep looks at first */
}

static void act_maintain_one(void) {
    acted = rm_pool_maintain(w.pool, 1, rm_deadline_after(&w.clock, RM_FOREVER), NULL);
}

static void end_two_unneeded(void) {
    CHECK_EQ(RM_OK, acted);
    CHECK_EQ(RM_OK, said);
    CHECK_EQ(1, w.destroyed);
    end_world();
}

TEST(idle_resource, that_was_lent_meanwhile_is_not_of_the_budget) {
    at_every_step(begin_two_unneeded, act_maintain_one, visit_take, end_two_unneeded);
}

static void begin_reclaim(void) {
    world_init(&w, 2);
    w.desc.reclaim_after_ns = RM_SEC(1);
    w.desc.reclaim_fn = thing_reclaim;
    open_world();
    CHECK_EQ(RM_OK, take(&w, &mine));
    other = mine;
    pass(&w, RM_SEC(1));
}

static void end_reclaim(void) {
    CHECK_EQ(RM_OK, acted);
    CHECK_EQ(said == RM_OK ? 0 : 1, w.reclaims);
    CHECK(said == RM_OK || said == RM_E_STALE);
    w.leaves = w.reclaims;
    if (w.leaves == 1) free(mine.resource);
    world_end(&w);
}

TEST(lease, is_reclaimed_or_released) {
    at_every_step(begin_reclaim, act_maintain, visit_give, end_reclaim);
}

static void *told; /* by rm_pool_data_get */
static rm_lease second_lease;

static void act_get_data(void) {
    told = rm_pool_data_get(w.pool, &mine);
}

static int others_data;

/* It is reclaimed, and the next in its place keeps something else. */
static void visit_maintain_and_take(void) {
    said = maintain(&w);
    CHECK_EQ(RM_OK, take(&w, &second_lease));
    CHECK_EQ(RM_OK, rm_pool_data_set(w.pool, &second_lease, &others_data));
}

static void begin_data(void) {
    begin_reclaim();
    CHECK_EQ(RM_OK, rm_pool_data_set(w.pool, &mine, &told));
}

static void end_data(void) {
    CHECK_EQ(RM_OK, said);
    CHECK(told == &told || told == NULL);
    CHECK_EQ(1, w.reclaims);
    w.leaves = 1;
    free(other.resource);
    give(&w, &second_lease, RM_RELEASE_OK);
    world_end(&w);
}

TEST(lease, has_its_data_until_it_is_reclaimed) {
    at_every_step(begin_data, act_get_data, visit_maintain_and_take, end_data);
}

static void begin_leak(void) {
    world_init(&w, 2);
    w.desc.leak_after_ns = RM_SEC(1);
    w.desc.event_fn = world_event;
    open_world();
    CHECK_EQ(RM_OK, take(&w, &other));
    CHECK_EQ(RM_OK, rm_pool_note(w.pool, &other, "old"));
    pass(&w, RM_SEC(1));
}

static void visit_give_and_take(void) {
    visit_give();
    CHECK_EQ(RM_OK, take(&w, &other));
    CHECK_EQ(RM_OK, rm_pool_note(w.pool, &other, "new"));
}

static void end_leak(void) {
    const uint64_t leaks = stats_of(&w).leaks;
    uint32_t i;
    CHECK(leaks <= 1);
    for (i = 0; i < w.noted; ++i) {
        if (w.notes[i].kind == RM_POOL_EVENT_LEAKED) CHECK_STR("old", w.notes[i].where);
    }
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(leaks, stats_of(&w).leaks); /* the second lease is young */
    end_world();
}

TEST(lease, that_has_just_ended_is_not_reported) {
    at_every_step(begin_leak, act_maintain, visit_give_and_take, end_leak);
}

static void begin_idle(void) {
    world_init(&w, 2);
    open_world();
    fill(&w, 1);
    CHECK_EQ(RM_OK, take(&w, &mine));
    give(&w, &mine, RM_RELEASE_OK);
}

static void *evicted; /* the resource to evict */

static void begin_idle_to_evict(void) {
    begin_lent();
    evicted = mine.resource;
    give(&w, &mine, RM_RELEASE_OK);
    memset(&other, 0, sizeof other);
}

static void begin_lent_to_evict(void) {
    begin_lent();
    evicted = mine.resource;
    memset(&mine, 0, sizeof mine);
}

static void act_evict(void) {
    acted = rm_pool_evict(w.pool, evicted);
}

/* Nothing is lent again that was evicted. */
static void end_evict(void) {
    CHECK(acted == RM_OK || acted == RM_E_BUSY || acted == RM_E_NOT_FOUND);
    CHECK_EQ(RM_OK, said);
    give_all();
    CHECK_EQ(acted == RM_OK ? 1 : 0, w.destroyed);
    end_world();
}

TEST(eviction, of_what_is_lent_or_released_meanwhile_happens_or_says_busy) {
    at_every_step(begin_idle_to_evict, act_evict, visit_take, end_evict);
    at_every_step(begin_lent_to_evict, act_evict, visit_give, end_evict);
}

static void end_evicted_all(void) {
    CHECK_EQ(RM_OK, acted);
    CHECK_EQ(RM_OK, said);
    give_all();
    CHECK_EQ(1, w.destroyed);
    end_world();
}

static void visit_evict(void) {
    said = rm_pool_evict(w.pool, evicted);
}

static void end_evicted_twice(void) {
    CHECK(acted == RM_OK || acted == RM_E_BUSY);
    CHECK_EQ(RM_OK, said);
    give_all();
    CHECK_EQ(1, w.destroyed);
    end_world();
}

TEST(eviction, of_one_by_two_threads_happens_once) {
    at_every_step(begin_lent_to_evict, act_evict, visit_evict, end_evicted_twice);
}

TEST(eviction, of_all_that_has_only_begun_is_seen_by_upkeep) {
    begin_idle();
    rmi_pool_turn(w.pool, 0, 0, RMI_EPOCH_GENERATION); /* its thread has come so far */
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(1, stats_of(&w).ended[RM_POOL_CAUSE_EVICTED]);
    end_world();
}

TEST(eviction, of_all_comes_before_or_after_a_lease) {
    at_every_step(begin_idle, act_take, visit_evict_all, end_evicted_all);
}

/* ---- what is asked for while it waits */

typedef struct arrival {
    rm_pool_request request;
    rm_lease lease;
    rm_status status;
    uint32_t calls;
} arrival;

static void arrive(rm_status status, const rm_lease *lease, const rm_error *error, void *user) {
    arrival *a = (arrival *)user;
    (void)error;
    ++a->calls;
    a->status = status;
    if (status == RM_OK) a->lease = *lease;
}

static rm_status ask(rm_pool *pool, arrival *a) {
    const rm_deadline never = {0};
    memset(a, 0, sizeof *a);
    memset(&a->request, 1, sizeof a->request); /* it is for the pool to fill in */
    return rm_pool_acquire_async(pool, &a->request, never, NULL, arrive, NULL, a);
}

static void resume_run(void *user) {
    CHECK_EQ(RM_OK, rm_pool_resume((rm_pool *)user));
}

static rm_thread resumer;
static arrival asked;

static void begin_suspended(void) {
    world_init(&w, 1);
    open_world();
    CHECK_EQ(RM_OK, rm_pool_suspend(w.pool));
    in_locks = true;
}

static void act_ask(void) {
    acted = ask(w.pool, &asked);
}

/* Begins to resume; what follows may have to wait for a lock that the acquire has. */
static void visit_resume(void) {
    CHECK_EQ(RM_OK, rm_thread_start(&resumer, resume_run, w.pool));
    while ((GET(w.pool->epoch) & RMI_EPOCH_SUSPENDED) != 0)
        relax();
}

static void end_resumed(void) {
    in_locks = false;
    rm_thread_join(&resumer);
    CHECK_EQ(RM_OK, acted);
    CHECK_EQ(1, asked.calls);
    CHECK_EQ(RM_OK, asked.status);
    mine = asked.lease;
    end_world();
}

TEST(waiter, is_served_by_a_resume_at_any_step) {
    at_every_step(begin_suspended, act_ask, visit_resume, end_resumed);
}

TEST(waiter, that_waits_twice_counts_from_its_first_wait_for_growth) {
    gate g;
    caller c;
    world_init(&w, 1);
    gate_init(&g);
    w.desc.grow_after_ns = RM_SEC(1);
    w.desc.validate_fn = thing_validate;
    w.desc.validate_after_ns = RM_STRICT;
    open_world();
    CHECK_EQ(RM_OK, take(&w, &mine));
    SET(w.at_validate, &g);
    caller_queue(&c, &w, RM_SEC(10), 1);
    give(&w, &mine, RM_RELEASE_OK);
    gate_await(&g, 1);
    CHECK_EQ(RM_OK, rm_pool_suspend(w.pool));
    gate_open(&g);
    rm_virtual_clock_await(&w.time, 1);
    CHECK_EQ(1, stats_of(&w).waits); /* for one resource */
    CHECK_EQ(RM_OK, rm_pool_resume(w.pool));
    CHECK_EQ(RM_OK, caller_join(&c));
    give(&w, &c.lease, RM_RELEASE_OK);
    CHECK_EQ(1, w.created);
    gate_done(&g);
    end_world();
}

TEST(waiter, that_holds_one_of_several_is_refused_if_that_was_asked_for) {
    const rm_deadline over = {RM_SEC(1000)};
    world_init(&w, 2);
    w.desc.refuse_nested = true;
    open_world();
    CHECK_EQ(RM_OK, take(&w, &other));
    CHECK_EQ(RM_OK, take(&w, &mine));
    give(&w, &other, RM_RELEASE_OK); /* the first slot is idle */
    CHECK_EQ(RM_OK, rm_pool_suspend(w.pool));
    CHECK_EQ(RM_E_DEADLOCK, rm_pool_acquire(w.pool, RM_SEC(1), &other, NULL));
    CHECK_EQ(RM_E_TIMEOUT, rm_pool_acquire_until(w.pool, over, NULL, &other, NULL)); /* no wait */
    give(&w, &mine, RM_RELEASE_OK);
    pass(&w, 1);
    CHECK_EQ(RM_E_TIMEOUT, rm_pool_acquire_until(w.pool, over, NULL, &other, NULL));
    CHECK_EQ(RM_OK, rm_pool_resume(w.pool));
    end_world();
}

TEST(waiter, that_gives_up_leaves_the_others_of_its_token) {
    const rm_deadline never = {0};
    rm_cancel token;
    arrival waiting[3];
    uint32_t i;
    memset(waiting, 0, sizeof waiting);
    begin_lent();
    resize_to(1);
    CHECK_EQ(RM_OK, rm_cancel_init(&token));
    for (i = 0; i < 3; ++i)
        CHECK_EQ(RM_OK, rm_pool_acquire_async(w.pool, &waiting[i].request, never, &token, arrive,
                                              NULL, &waiting[i]));
    CHECK_EQ(RM_OK, rm_pool_request_cancel(&waiting[1].request));
    CHECK_EQ(RM_OK, rm_pool_request_cancel(&waiting[0].request));
    rm_cancel_request(&token);
    for (i = 0; i < 3; ++i)
        CHECK(waiting[i].calls == 1 && waiting[i].status == RM_E_CANCELLED);
    CHECK_EQ(RM_OK, rm_cancel_destroy(&token));
    memset(&other, 0, sizeof other);
    end_world();
}

/* ---- endpoints */

static watch seen[3];
static rm_pool_endpoint endpoints[3];

static void open_endpoints(uint32_t count, uint32_t max) {
    static const char *const names[] = {"one", "two", "three"};
    uint32_t i;
    world_init(&w, max);
    for (i = 0; i < count; ++i) {
        endpoints[i].name = names[i];
        endpoints[i].guard = watch_init(&seen[i]);
        endpoints[i].user = &w;
    }
    w.desc.endpoints = endpoints;
    w.desc.endpoint_count = count;
    open_world();
}

TEST(endpoint, that_refuses_rejects_and_one_that_fails_lets_wait_for_what_is_lent) {
    open_endpoints(1, 2);
    CHECK_EQ(RM_OK, take(&w, &mine));
    seen[0].refuses = true;
    CHECK_EQ(RM_E_REJECTED, take(&w, &other));
    seen[0].refuses = false;
    pass(&w, RM_MS(100));
    w.create_status = RM_E_FAILED;
    CHECK_EQ(RM_E_FAILED, take(&w, &other));
    CHECK_EQ(RM_E_BUSY, take(&w, &other));
    end_world();
}

TEST(endpoint, that_refuses_for_longer_than_it_backs_off_is_left_alone) {
    open_endpoints(1, 2);
    w.create_status = RM_E_FAILED;
    CHECK_EQ(RM_E_FAILED, take(&w, &mine));
    pass(&w, RM_MS(10));
    w.create_status = RM_OK;
    seen[0].refuses = true;
    CHECK_EQ(RM_E_REJECTED, take(&w, &mine));
    seen[0].refuses = false;
    pass(&w, RM_MS(9));
    CHECK_EQ(RM_E_REJECTED, take(&w, &mine));
    pass(&w, RM_MS(1));
    CHECK_EQ(RM_OK, take(&w, &mine));
    end_world();
}

TEST(endpoint, that_opens_first_is_the_one_to_look_at) {
    open_endpoints(3, 1);
    seen[0].refuses = seen[1].refuses = true;
    CHECK_EQ(RM_OK, take(&w, &mine)); /* of the third */
    CHECK_EQ(RM_OK, ask(w.pool, &asked));
    CHECK_EQ(0, asked.calls);
    w.pool->endpoints[1].shut_ns += 1;
    CHECK_EQ(RM_SEC(1000) + RM_MS(10), rmi_pool_look_at(w.pool, &asked.request.wish, RM_SEC(1000)));
    give(&w, &mine, RM_RELEASE_OK);
    CHECK_EQ(1, asked.calls);
    CHECK_EQ(RM_OK, asked.status);
    mine = asked.lease;
    end_world();
}

TEST(endpoint, that_refuses_makes_way_for_one_that_does_not) {
    open_endpoints(2, 1);
    CHECK_EQ(RM_OK, take(&w, &mine));
    give(&w, &mine, RM_RELEASE_OK);
    seen[0].refuses = true;
    CHECK_EQ(RM_OK, take(&w, &mine)); /* what is idle at the first has the only place */
    CHECK_EQ(1, w.destroyed);
    CHECK_EQ(2, w.created);
    end_world();
}

TEST(endpoint, that_refuses_keeps_what_is_idle_while_there_is_room_or_no_other) {
    uint32_t count;
    for (count = 1; count <= 2; ++count) {
        open_endpoints(count, count);
        CHECK_EQ(RM_OK, take(&w, &mine));
        give(&w, &mine, RM_RELEASE_OK);
        seen[0].refuses = true;
        CHECK_EQ(count == 1 ? RM_E_REJECTED : RM_OK, take(&w, &mine));
        CHECK_EQ(0, w.destroyed);
        end_world();
        seen[0].refuses = false;
    }
}

TEST(endpoint, that_refuses_keeps_what_is_idle_while_another_has_something) {
    open_endpoints(2, 2);
    CHECK_EQ(RM_OK, take(&w, &mine));
    CHECK_EQ(RM_OK, take(&w, &other));
    give(&w, &mine, RM_RELEASE_OK);
    give(&w, &other, RM_RELEASE_OK);
    seen[0].refuses = true;
    CHECK_EQ(RM_OK, take(&w, &mine));
    CHECK_EQ(0, w.destroyed);
    give(&w, &mine, RM_RELEASE_OK);
    seen[1].refuses = true;
    CHECK_EQ(RM_E_REJECTED, take(&w, &mine));
    CHECK_EQ(0, w.destroyed);
    seen[0].refuses = seen[1].refuses = false;
    end_world();
}

TEST(endpoint, that_refuses_until_a_clock_reads_zero_is_left_alone_until_then) {
    const rm_deadline soon = {RM_MS(-5)};
    open_endpoints(1, 1);
    rm_virtual_clock_destroy(&w.time);
    CHECK_EQ(RM_OK, rm_virtual_clock_init(&w.time, RM_MS(-10), false));
    seen[0].refuses = true;
    CHECK_EQ(RM_E_REJECTED, rm_pool_acquire_until(w.pool, soon, NULL, &mine, NULL));
    seen[0].refuses = false;
    pass(&w, RM_MS(10) + 1);
    CHECK_EQ(RM_OK, take(&w, &mine));
    end_world();
}

/* Its guard refused long ago. */
static void begin_refused(void) {
    open_endpoints(1, 1);
    SET(w.pool->endpoints[0].shut_ns, 1);
}

static void act_look(void) {
    const rmi_pool_wish wish = rmi_pool_wish_of(INT64_MAX);
    uint64_t grant = 0;
    acted = rmi_pool_blocked(w.pool, &wish, &grant) ? RM_E_REJECTED : RM_OK;
    if (acted != RM_OK) CHECK_EQ(RMI_POOL_SHUT, grant); /* nothing failed */
}

static void visit_refuse(void) {
    SET(w.pool->endpoints[0].shut_ns, RM_SEC(1001));
}

TEST(endpoint, that_refuses_while_it_is_looked_at_has_not_failed) {
    at_every_step(begin_refused, act_look, visit_refuse, end_world);
}

TEST(endpoint, that_has_failed_before_the_error_is_noted_says_so) {
    rm_error error;
    open_endpoints(1, 1);
    CHECK_EQ(RM_E_FAILED, rmi_pool_gave_up(w.pool, RMI_POOL_FAILS, &error));
    CHECK_STR("a create has just failed", error.message);
    end_world();
}

/* ---- settings */

TEST(settings, with_a_backoff_for_ever_fail_fast_for_ever) {
    world_init(&w, 1);
    w.desc.create_backoff_ns = INT64_MAX;
    w.create_status = RM_E_REFUSED;
    open_world();
    CHECK_EQ(RM_E_REFUSED, take(&w, &mine));
    pass(&w, RM_MINUTES(24 * 60));
    CHECK_EQ(RM_E_REFUSED, rm_pool_acquire(w.pool, RM_SEC(1), &mine, NULL));
    CHECK_EQ(1, w.creates);
    end_world();
}

TEST(settings, with_a_backoff_above_its_bound_raise_the_bound) {
    const int64_t bounds[] = {RM_MS(20), RM_MS(5), -1};
    uint32_t i;
    for (i = 0; i < 3; ++i) {
        rm_pool_desc desc;
        rm_error error;
        world_init(&w, 1);
        w.desc.create_backoff_max_ns = bounds[i];
        CHECK_EQ(i == 2 ? RM_E_INVALID : RM_OK, rm_pool_create(&w.desc, &w.pool, &error));
        if (i == 2) break;
        CHECK_EQ(RM_OK, rm_pool_desc_get(w.pool, &desc));
        CHECK_EQ(i == 0 ? RM_MS(20) : RM_MS(10), desc.create_backoff_max_ns);
        end_world();
    }
    rm_mutex_destroy(&w.mutex);
    rm_virtual_clock_destroy(&w.time);
}

TEST(settings, of_a_thread_need_a_clock_that_sleeps) {
    rm_error error;
    world_init(&w, 1);
    w.desc.maintain_every_ns = RM_SEC(1);
    w.clock.sleep_fn = NULL;
    CHECK_EQ(RM_E_INVALID, rm_pool_create(&w.desc, &w.pool, &error));
    CHECK_STR("maintain_every_ns", error.where);
    CHECK_STR("must be 0 without a sleep_fn in env.clock", error.message);
    w.desc.maintain_every_ns = 0;
    open_world();
    end_world();
}

TEST(settings, say_when_a_check_is_due) {
    const int64_t times[] = {RM_STRICT, RM_NONE, RM_SEC(1)};
    rm_error error;
    uint32_t i;
    for (i = 0; i < 3; ++i) {
        world_init(&w, 1);
        w.desc.validate_fn = thing_validate;
        w.desc.validate_after_ns = times[i];
        open_world();
        fill(&w, 1);
        pass(&w, RM_SEC(1) - 1);
        CHECK_EQ(1, borrow(&w));
        CHECK_EQ(i == 0, w.validates);
        end_world();
    }
    world_init(&w, 1);
    w.desc.validate_after_ns = -5;
    CHECK_EQ(RM_E_INVALID, rm_pool_create(&w.desc, &w.pool, &error));
    CHECK_STR("validate_after_ns", error.where);
    rm_mutex_destroy(&w.mutex);
    rm_virtual_clock_destroy(&w.time);
}

TEST(settings, of_a_check_on_release_need_something_that_checks) {
    uint32_t i;
    for (i = 0; i < 3; ++i) {
        world_init(&w, 1);
        w.desc.validate_on_release = i > 0;
        w.desc.validate_fn = i > 1 ? thing_validate : NULL;
        open_world();
        fill(&w, 1);
        CHECK_EQ(i > 1, w.validates);
        CHECK_EQ(RM_OK, take(&w, &mine));
        thing_of(&mine)->sick = true;
        give(&w, &mine, RM_RELEASE_OK);
        CHECK_EQ(i > 1, w.destroyed);
        end_world();
    }
}

TEST(settings, of_upkeep_that_has_checked_save_the_check_on_acquire) {
    world_init(&w, 1);
    w.desc.validate_fn = thing_validate;
    w.desc.keepalive_ns = RM_SEC(1);
    open_world();
    fill(&w, 1);
    pass(&w, RM_SEC(1));
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(1, w.validates);
    CHECK_EQ(1, borrow(&w));
    CHECK_EQ(1, w.validates);
    pass(&w, RM_MS(500));
    CHECK_EQ(1, borrow(&w));
    CHECK_EQ(2, w.validates);
    end_world();
}

static void find_uses(const rm_stat *stat, void *user) {
    if (strcmp(stat->name, "rm_pool_use_seconds") == 0) *(bool *)user = true;
}

TEST(settings, to_time_uses_show_the_times) {
    uint32_t i;
    for (i = 0; i < 2; ++i) {
        bool found = false;
        rm_resource resource;
        world_init(&w, 1);
        w.desc.time_uses = i == 1;
        open_world();
        fill(&w, 1);
        resource = rm_pool_resource(w.pool);
        resource.stats_fn(resource.user, find_uses, &found);
        CHECK_EQ(i == 1, found);
        end_world();
    }
}

static void log_component(const rm_log_event *event, void *user) {
    (void)user;
    CHECK_STR("rm_pool", event->component);
    CHECK_STR("create_failed", event->event);
    ++w.logged;
}

TEST(settings, of_a_log_make_it_hear_of_the_pool) {
    const rm_log log = {log_component, NULL, RM_LOG_DEBUG};
    world_init(&w, 1);
    w.env.log = &log;
    w.create_status = RM_E_FAILED;
    open_world();
    CHECK_EQ(RM_E_FAILED, take(&w, &mine));
    CHECK_EQ(1, w.logged);
    end_world();
}

static uint32_t discards;

static void discard(void *resource, void *user) {
    (void)user;
    ++discards;
    free(resource);
}

TEST(settings, without_discard_fn_forget_what_the_parent_has) {
    uint32_t i;
    for (i = 0; i < 2; ++i) {
        discards = 0;
        world_init(&w, 2);
        w.desc.discard_fn = i == 1 ? discard : NULL;
        open_world();
        fill(&w, 1);
        CHECK_EQ(RM_OK, take(&w, &mine));
        CHECK_EQ(RM_OK, rm_pool_after_fork_child(w.pool));
        CHECK_EQ(i, discards);
        ++w.leaves;
        if (i == 0) free(mine.resource);
        CHECK_EQ(RM_E_STALE, rm_pool_release(w.pool, &mine, RM_RELEASE_OK));
        CHECK_EQ(RM_OK, take(&w, &other)); /* in the same slot */
        CHECK_EQ(RM_E_STALE, rm_pool_release(w.pool, &mine, RM_RELEASE_OK));
        memset(&mine, 0, sizeof mine);
        end_world();
    }
}

/* What an error says. Those of the pool itself have no native code. */
static const char *text_of(rm_status status, const rm_error *error) {
    static char text[sizeof error->where + sizeof error->message + 2];
    CHECK(status != RM_OK);
    CHECK_EQ(status, error->status);
    CHECK_EQ(0, error->native);
    (void)snprintf(text, sizeof text, "%s: %s", error->where, error->message);
    return text;
}

#define CHECK_SAYS(text, call) CHECK_STR(text, text_of(call, &error))

TEST(errors, of_an_acquire_say_what_was_refused) {
    const rm_deadline never = {0};
    rm_pool_endpoint endpoint;
    rm_pool_request request;
    watch heard;
    rm_cancel token;
    rm_error error;
    CHECK_EQ(RM_OK, rm_cancel_init(&token));
    rm_cancel_request(&token);
    world_init(&w, 1);
    endpoint.name = "one";
    endpoint.guard = watch_init(&heard);
    endpoint.user = &w;
    w.desc.endpoints = &endpoint;
    w.desc.endpoint_count = 1;
    w.desc.min_idle = 1;
    open_world();
    heard.refuses = true;
    CHECK_SAYS("db: refused by the guard of one", rm_pool_maintain(w.pool, 0, never, &error));
    CHECK_SAYS("db: the guards of all endpoints refuse",
               rm_pool_acquire(w.pool, RM_SEC(1), &mine, &error));
    CHECK_SAYS("db: cancelled before it began",
               rm_pool_acquire_until(w.pool, never, &token, &mine, &error));
    CHECK_SAYS("db: cancelled before it began",
               rm_pool_acquire_async(w.pool, &request, never, &token, arrive, &error, NULL));
    end_world();
    world_init(&w, 1);
    w.desc.guard = watch_init(&heard);
    open_world();
    heard.refuses = true;
    CHECK_SAYS("db: refused by the guard", rm_pool_acquire(w.pool, 0, &mine, &error));
    end_world();
    CHECK_EQ(RM_OK, rm_cancel_destroy(&token));
}

static rm_error inner_error;

static void maintain_inside(world *that) {
    const rm_deadline never = {0};
    that->inside = NULL;
    said = rm_pool_maintain(that->pool, 0, never, &inner_error);
}

TEST(errors, of_upkeep_say_what_is_in_the_way) {
    const rm_deadline never = {0};
    rm_resource resource;
    rm_error error;
    world_init(&w, 2);
    w.desc.min_idle = 1;
    w.inside = maintain_inside;
    open_world();
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_STR("db: another thread maintains the pool", text_of(said, &inner_error));
    CHECK_SAYS("db: the time was over before 1 resources were made",
               rm_pool_prewarm(w.pool, 2, rm_deadline_after(&w.clock, RM_NOWAIT), NULL, &error));
    CHECK_EQ(RM_OK, take(&w, &mine));
    CHECK_EQ(RM_OK, rm_pool_suspend(w.pool));
    CHECK_EQ(RM_HEALTH_DEGRADED, rm_pool_resource(w.pool).health_fn(w.pool, &error));
    CHECK_STR("db: the pool is suspended, 0 wait", text_of(error.status, &error));
    CHECK_EQ(RM_OK, rm_pool_resume(w.pool));
    CHECK_EQ(RM_E_BUSY, rm_pool_close(w.pool, RM_NOWAIT, NULL));
    CHECK_SAYS("db: the pool is closed", rm_pool_maintain(w.pool, 0, never, &error));
    CHECK_SAYS("db: the pool is closed; nothing more is lent",
               rm_pool_prewarm(w.pool, 1, never, NULL, &error));
    resource = rm_pool_resource(w.pool);
    CHECK_EQ(RM_HEALTH_UNHEALTHY, resource.health_fn(w.pool, &error));
    CHECK_STR("db: the pool is closed", text_of(error.status, &error));
    CHECK_SAYS("db: resources from before it was closed are still out",
               resource.start_fn(w.pool, never, &error));
    end_world();
}

TEST(errors, are_left_alone_when_all_goes_well) {
    const rm_deadline never = {0};
    rm_pools_desc desc;
    rm_resource resource;
    rm_pools *set;
    rm_error error;
    world_init(&w, 1);
    memset(&desc, 0, sizeof desc);
    desc.pool = w.desc;
    REQUIRE(rm_pools_create(&desc, &set, NULL) == RM_OK);
    resource = rm_pools_resource(set);
    memset(&error, 77, sizeof error);
    CHECK_EQ(RM_OK, rm_pools_maintain(set, 0, never, &error));
    CHECK_EQ(RM_OK, rm_pools_close(set, 0, &error));
    CHECK_EQ(RM_OK, resource.start_fn(resource.user, never, &error));
    CHECK_EQ(RM_HEALTH_HEALTHY, resource.health_fn(resource.user, &error));
    CHECK_EQ(77, error.message[0]);
    CHECK_EQ(RM_OK, rm_pools_destroy(set));
    CHECK_EQ(0, w.created);
    open_world();
    CHECK_EQ(RM_OK, rm_pool_prewarm(w.pool, 1, never, NULL, &error));
    CHECK_EQ(RM_OK, rm_pool_maintain(w.pool, 0, never, &error));
    CHECK_EQ(RM_OK, rm_pool_acquire(w.pool, 0, &mine, &error));
    CHECK_EQ(77, error.message[0]);
    end_world();
}

TEST(settings, the_child_of_a_fork_counts_from_zero) {
    rm_pool_stats s;
    uint32_t i;
    world_init(&w, 3);
    open_world();
    w.pool->created = w.pool->create_failures = w.pool->rejected = 1;
    w.pool->failed_fast = w.pool->detached = w.pool->reclaimed = w.pool->leaks = 1;
    for (i = 0; i < RM_POOL_CAUSES; ++i)
        w.pool->ended[i] = 1;
    CHECK_EQ(RM_OK, rm_pool_after_fork_child(w.pool));
    s = stats_of(&w);
    CHECK_EQ(0, s.created | s.create_failures | s.rejected | s.failed_fast);
    CHECK_EQ(0, s.detached | s.reclaimed | s.leaks | s.destroyed);
    end_world();
}

/* Does a suspended pool say in an error that something went wrong before? */
static bool tells_of_before(void) {
    rm_error error;
    CHECK_EQ(RM_OK, rm_pool_suspend(w.pool));
    CHECK_EQ(RM_E_BUSY, rm_pool_acquire(w.pool, RM_NOWAIT, &mine, &error));
    CHECK_EQ(RM_OK, rm_pool_resume(w.pool));
    return strstr(error.message, " ms ago: ") != NULL;
}

TEST(settings, the_child_of_a_fork_does_not_tell_what_failed_before) {
    uint32_t i;
    for (i = 0; i < 2; ++i) { /* a check, or a create */
        world_init(&w, 1);
        w.desc.validate_fn = thing_validate;
        w.desc.keepalive_ns = RM_MS(1);
        open_world();
        fill(&w, 1);
        w.validate_status = RM_E_FAILED;
        pass(&w, RM_MS(1));
        CHECK(!tells_of_before());
        CHECK_EQ(RM_OK, maintain(&w));
        w.create_status = i == 0 ? RM_OK : RM_E_REFUSED;
        if (i == 1) CHECK_EQ(RM_E_REFUSED, take(&w, &mine));
        CHECK(tells_of_before());
        CHECK_EQ(RM_OK, rm_pool_after_fork_child(w.pool));
        CHECK(!tells_of_before());
        CHECK_EQ(RM_HEALTH_HEALTHY, rm_pool_resource(w.pool).health_fn(w.pool, NULL));
        end_world();
    }
}

TEST(settings, of_a_backoff_of_a_nanosecond_double_it_too) {
    int64_t i;
    world_init(&w, 1);
    w.desc.create_backoff_ns = 1;
    w.create_status = RM_E_REFUSED;
    open_world();
    for (i = 1; i <= 64; i *= 2) {
        CHECK_EQ(RM_E_REFUSED, take(&w, &mine));
        CHECK_EQ(i, (int64_t)w.pool->endpoints[0].retry_ns - rm_now(&w.clock));
        pass(&w, i);
    }
    end_world();
}

/* In destroy_fn, and then in create_fn. */
static void look_at_the_state(world *that) {
    rm_pool_stats s;
    CHECK_EQ(RM_OK, rm_pool_stats_get(that->pool, &s));
    CHECK_EQ(that->depth == 0, s.closing);
    CHECK_EQ(that->depth == 1, s.creating);
    ++that->depth;
}

TEST(settings, of_a_lifetime_replace_what_is_too_old_in_its_place) {
    world_init(&w, 1);
    w.desc.max_lifetime_ns = RM_SEC(1);
    open_world();
    fill(&w, 1);
    pass(&w, RM_SEC(1));
    w.inside_all = look_at_the_state;
    CHECK_EQ(RM_OK, take(&w, &mine));
    CHECK_EQ(2, w.depth);
    w.inside_all = NULL;
    end_world();
}

/* ---- what the platform does not give */

#ifndef _WIN32
static void take_inside(world *that) {
    that->inside = NULL;
    act_take();
}

TEST(warming, leaves_overflow_to_those_who_want_something) {
    world_init(&w, 2);
    w.desc.overflow = 2;
    w.inside = take_inside;
    open_world();
    refuse(THREAD, 1);
    CHECK_EQ(RM_OK, rm_pool_prewarm(w.pool, 2, rm_deadline_after(&w.clock, RM_SEC(1)), NULL, NULL));
    CHECK(was_refused());
    CHECK_EQ(RM_OK, acted);
    CHECK_EQ(2, w.created);
    end_world();
}

/* How many threads does a prewarm start, besides the caller's? */
static uint32_t threads_of_prewarm(uint32_t count, uint32_t max_creating) {
    const rm_deadline none = {0};
    const uint32_t many = 1000;
    uint32_t started;
    world_init(&w, 40);
    w.desc.max_creating = max_creating;
    open_world();
    refuse(THREAD, (int)many);
    CHECK_EQ(RM_OK, rm_pool_prewarm(w.pool, count, none, NULL, NULL));
    started = many - (uint32_t)calls_left;
    calls_left = 0;
    CHECK_EQ(count, w.created);
    end_world();
    return started;
}

TEST(warming, starts_as_many_threads_as_there_is_work_for) {
    CHECK_EQ(0, threads_of_prewarm(1, 0));
    CHECK_EQ(1, threads_of_prewarm(2, 0));
    CHECK_EQ(15, threads_of_prewarm(16, 0));
    CHECK_EQ(15, threads_of_prewarm(40, 0));
    CHECK_EQ(0, threads_of_prewarm(40, 1));
    CHECK_EQ(2, threads_of_prewarm(40, 3));
}

TEST(platform, without_a_thread_warms_up_in_the_callers) {
    const rm_deadline none = {0};
    uint32_t made = 0;
    world_init(&w, 3);
    open_world();
    refuse(THREAD, 1);
    CHECK_EQ(RM_OK, rm_pool_prewarm(w.pool, 3, none, &made, NULL));
    CHECK(was_refused());
    CHECK_EQ(3, made);
    end_world();
}

TEST(platform, without_a_mutex_does_not_warm_up) {
    const rm_deadline none = {0};
    uint32_t made = 7;
    rm_error error;
    world_init(&w, 3);
    open_world();
    refuse(LOCK, 1);
    CHECK_EQ(RM_E_SYSTEM, rm_pool_prewarm(w.pool, 3, none, &made, &error));
    CHECK(was_refused());
    CHECK_STR("the platform has no mutex to give", error.message);
    CHECK_EQ(0, error.native);
    CHECK_EQ(0, made);
    end_world();
}

static void pool_without(int kind) {
    int n = 0;
    for (;;) {
        rm_error error;
        rm_status status;
        world_init(&w, 1);
        w.desc.maintain_every_ns = RM_SEC(1);
        refuse(kind, ++n);
        status = rm_pool_create(&w.desc, &w.pool, &error);
        if (!was_refused()) {
            CHECK_EQ(RM_OK, status);
            break;
        }
        CHECK_EQ(RM_E_SYSTEM, status);
        CHECK_STR("the platform has no mutex or thread to give", error.message);
        CHECK_EQ(0, error.native);
        rm_mutex_destroy(&w.mutex);
        rm_virtual_clock_destroy(&w.time);
    }
    CHECK(n > 1);
    end_world();
}

TEST(platform, without_a_mutex_or_thread_makes_no_pool) {
    pool_without(LOCK);
    pool_without(THREAD);
}

static void refuse_the_next_lock(world *in) {
    (void)in;
    refuse(LOCK, 1);
}

TEST(platform, without_a_mutex_for_a_moment_does_not_end_the_thread_that_maintains) {
    world_init(&w, 1);
    w.desc.maintain_every_ns = RM_SEC(1);
    w.desc.min_idle = 1;
    w.inside = refuse_the_next_lock;
    open_world();
    rm_virtual_clock_await(&w.time, 1);
    pass(&w, RM_SEC(1));
    rm_virtual_clock_await(&w.time, 1); /* it sleeps, but cannot be told to stop */
    CHECK_EQ(1, stats_of(&w).idle);
    w.inside = NULL;
    pass(&w, RM_MS(100));
    rm_virtual_clock_await(&w.time, 1); /* now it can */
    CHECK_EQ(RM_OK, rm_pool_evict_all(w.pool));
    pass(&w, RM_SEC(1) - 1);
    rm_virtual_clock_await(&w.time, 1);
    CHECK_EQ(0, stats_of(&w).idle); /* it began to sleep anew */
    pass(&w, 1);
    rm_virtual_clock_await(&w.time, 1);
    CHECK_EQ(1, stats_of(&w).idle);
    end_world();
}

TEST(platform, without_a_thread_does_not_start_again) {
    const rm_deadline none = {0};
    rm_resource resource;
    rm_error error;
    world_init(&w, 1);
    w.desc.maintain_every_ns = RM_SEC(1);
    open_world();
    resource = rm_pool_resource(w.pool);
    CHECK_EQ(RM_OK, resource.start_fn(resource.user, none, NULL)); /* its thread is there */
    CHECK_EQ(RM_OK, take(&w, &mine));
    CHECK_EQ(RM_E_BUSY, rm_pool_destroy(w.pool)); /* but for its thread, which has ended */
    give(&w, &mine, RM_RELEASE_OK);
    refuse(THREAD, 1);
    CHECK_EQ(RM_E_SYSTEM, resource.start_fn(resource.user, none, &error));
    CHECK(was_refused());
    CHECK_STR("the platform has no thread to give", error.message);
    CHECK_EQ(0, error.native);
    refuse(THREAD, 5);
    CHECK_EQ(RM_OK, resource.start_fn(resource.user, none, NULL));
    CHECK_EQ(4, calls_left);
    calls_left = 0;
    CHECK_EQ(2, borrow(&w));
    end_world();
}
#endif

/* ---- scopes */

static uint32_t scoped(rm_pool *pool) {
    uint32_t runs = 0;
    RM_POOL_SCOPE(scope, pool, RM_NOWAIT, NULL) {
        runs += scope.lease.resource != NULL;
        continue; /* it runs once all the same */
    }
    return runs;
}

TEST(scope, with_a_release_that_is_none_breaks_what_it_lent) {
    rm_pool_scope scope;
    world_init(&w, 1);
    open_world();
    scope = rm_pool_scope_open(w.pool, RM_NOWAIT, NULL);
    CHECK_EQ(RM_OK, scope.status);
    scope.how = (rm_release)77;
    rm_pool_scope_close(&scope);
    CHECK_EQ(1, w.destroyed);
    end_world();
}

TEST(scope, runs_once_or_not_at_all) {
    world_init(&w, 1);
    open_world();
    CHECK_EQ(1, scoped(w.pool));
    CHECK_EQ(1, scoped(w.pool));
    CHECK_EQ(RM_OK, take(&w, &mine));
    CHECK_EQ(0, scoped(w.pool));
    CHECK_EQ(1, w.created);
    end_world();
}

TEST(warming, counts_what_there_may_be) {
    const rm_deadline over = {RM_SEC(999)};
    rm_error error;
    world_init(&w, 4);
    open_world();
    CHECK_EQ(RM_OK, take(&w, &mine));
    CHECK_EQ(RM_E_TIMEOUT, rm_pool_prewarm(w.pool, 4, over, NULL, &error));
    CHECK_STR("the time was over before 3 resources were made", error.message);
    end_world();
}

/* ---- a destroy_fn in which others go on */

static void (*while_it_ends)(void);

static void end_beside_others(void *resource, void *user) {
    void (*const others)(void) = while_it_ends;
    while_it_ends = NULL;
    if (others != NULL) others();
    thing_destroy(resource, user);
}

static void begin_four_idle(void) {
    world_init(&w, 4);
    open_world();
    fill(&w, 4);
}

static void resize_to_three(void) {
    resize_to(3);
}

static void resize_to_two(void) {
    resize_to(2);
}

static void end_with_two_or_three(void) {
    const rm_pool_stats s = stats_of(&w);
    CHECK_EQ(s.max, s.idle); /* whichever came last */
    end_world();
}

TEST(surplus, is_seen_to_by_one_who_looks_again) {
    at_every_step(begin_four_idle, resize_to_three, resize_to_two, end_with_two_or_three);
}

TEST(surplus, is_told_as_such) {
    uint32_t i, ends = 0;
    world_init(&w, 4);
    w.desc.event_fn = world_event;
    open_world();
    fill(&w, 4);
    resize_to(1);
    for (i = 0; i < w.noted; ++i) {
        if (w.notes[i].kind != RM_POOL_EVENT_DESTROYED) continue;
        CHECK_EQ(RM_POOL_CAUSE_SURPLUS, w.notes[i].cause);
        ++ends;
    }
    CHECK_EQ(3, ends);
    end_world();
}

static uint32_t still_idle;

static void take_one_that_is_idle(void) {
    CHECK_EQ(still_idle, stats_of(&w).idle);
    act_take();
}

/* Shrinks to these sizes what is all idle; in the first destroy_fn so many are so still, and one of
   them is taken. */
static void shrink(uint32_t count, const rm_pool_sizes *sizes, uint32_t still, uint32_t ended) {
    world_init(&w, count);
    w.desc.destroy_fn = end_beside_others;
    open_world();
    fill(&w, count);
    still_idle = still;
    while_it_ends = take_one_that_is_idle;
    CHECK_EQ(RM_OK, rm_pool_resize(w.pool, sizes, NULL));
    CHECK_EQ(RM_OK, acted);
    CHECK_EQ(ended, w.destroyed);
    end_world();
}

TEST(surplus, above_max_idle_is_ended_one_by_one) {
    const rm_pool_sizes one_idle = {4, 0, 0, 1};
    shrink(4, &one_idle, 3, 2); /* since one was taken meanwhile */
}

TEST(surplus, above_max_is_taken_out_before_the_first_of_it_ends) {
    const rm_pool_sizes two = {2, 0, 0, 0};
    shrink(5, &two, 2, 3);
}

/* ---- a pool that is destroyed from inside */

static uint32_t tried; /* to destroy it */

static void destroy_it(world *that) {
    const uint32_t helping = GET(that->pool->helper.helping);
    CHECK_EQ(RM_E_BUSY, rm_pool_destroy(that->pool));
    CHECK_EQ(helping, GET(that->pool->helper.helping));
    ADD(tried, 1);
}

static void destroy_at_event(const rm_pool_event *event, void *user) {
    if (event->kind == RM_POOL_EVENT_RELEASED) destroy_it((world *)user);
}

TEST(destroy, from_a_hook_says_busy) {
    tried = 0;
    world_init(&w, 1);
    w.desc.event_fn = destroy_at_event;
    open_world();
    fill(&w, 1);
    CHECK_EQ(1, tried);
    end_world();
}

TEST(destroy, from_the_pools_own_thread_says_busy) {
    tried = 0;
    world_init(&w, 1);
    w.inside = destroy_it;
    w.desc.min_idle = 1;
    w.desc.maintain_every_ns = RM_SEC(1);
    open_world();
    rm_virtual_clock_await(&w.time, 1);
    pass(&w, RM_SEC(1));
    while (GET(tried) == 0)
        relax();
    CHECK_EQ(RM_OK, rm_pool_destroy(w.pool));
    CHECK_EQ(w.created, w.destroyed);
    rm_mutex_destroy(&w.mutex);
    rm_virtual_clock_destroy(&w.time);
}

/* ---- pools under a common bound */

static rm_pools_desc keys;
static rm_pools *pools;
static rm_pools_lease a_lease, b_lease;

static void pools_init(uint32_t max, uint32_t max_total) {
    world_init(&w, max);
    memset(&keys, 0, sizeof keys);
    memset(&a_lease, 0, sizeof a_lease);
    memset(&b_lease, 0, sizeof b_lease);
    keys.pool = w.desc;
    keys.max_total = max_total;
}

static rm_status pools_take(const char *key, rm_pools_lease *lease) {
    return rm_pools_acquire(pools, key, strlen(key), rm_deadline_after(&w.clock, RM_NOWAIT), NULL,
                            lease, NULL);
}

/* ... and asks for one, whose lease is to come. */
typedef struct key_arrival {
    rm_pools_request request;
    rm_pools_lease lease;
    rm_status status;
    uint32_t calls;
} key_arrival;

static key_arrival wanted;

static void key_arrive(rm_status status, const rm_pools_lease *lease, const rm_error *error,
                       void *user) {
    key_arrival *a = (key_arrival *)user;
    (void)error;
    ++a->calls;
    a->status = status;
    if (status == RM_OK) a->lease = *lease;
}

static rm_status pools_ask(const char *key, key_arrival *a) {
    const rm_deadline never = {0};
    memset(a, 0, sizeof *a);
    return rm_pools_acquire_async(pools, &a->request, key, strlen(key), never, NULL, key_arrive,
                                  NULL, a);
}

static void pools_give(rm_pools_lease *lease) {
    if (lease->pool != NULL) CHECK_EQ(RM_OK, rm_pools_release(pools, lease, RM_RELEASE_OK));
}

static void world_done(void) {
    rm_mutex_destroy(&w.mutex);
    rm_virtual_clock_destroy(&w.time);
}

/* What was wanted has come. */
static void give_wanted(void) {
    CHECK_EQ(1, wanted.calls);
    CHECK_EQ(RM_OK, wanted.status);
    pools_give(&wanted.lease);
}

static void pools_end(void) {
    pools_give(&a_lease);
    pools_give(&b_lease);
    CHECK_EQ(RM_OK, rm_pools_destroy(pools));
    CHECK_EQ(w.created, w.destroyed);
    world_done();
}

static void take_a(void) {
    acted = pools_take("a", &a_lease);
}

static void take_b(void) {
    said = pools_take("b", &b_lease);
}

/* Gives back what is lent, and leaves nothing idle. */
static void empty_keys(void) {
    if (a_lease.pool != NULL) CHECK_EQ(RM_OK, rm_pool_evict_all(a_lease.pool));
    if (b_lease.pool != NULL) CHECK_EQ(RM_OK, rm_pool_evict_all(b_lease.pool));
    pools_give(&a_lease);
    pools_give(&b_lease);
    memset(&a_lease, 0, sizeof a_lease);
    memset(&b_lease, 0, sizeof b_lease);
}

static void begin_keys(uint32_t max_total) {
    pools_init(1, max_total);
    CHECK_EQ(RM_OK, rm_pools_create(&keys, &pools, NULL));
    take_a(); /* both keys are there, with nothing */
    take_b();
    empty_keys();
}

static void begin_keys_for_one(void) {
    begin_keys(1);
}

static void begin_keys_for_two(void) {
    begin_keys(2);
}

static void end_keys_for_one(void) {
    CHECK_EQ(1, (acted == RM_OK) + (said == RM_OK));
    CHECK_EQ(1, w.created - w.destroyed);
    empty_keys();
    if (acted != RM_OK) take_a(); /* nothing is left of what it tried */
    if (said != RM_OK) take_b();
    CHECK_EQ(RM_OK, acted);
    CHECK_EQ(RM_OK, said);
    pools_end();
}

static void end_keys_for_two(void) {
    CHECK_EQ(RM_OK, acted);
    CHECK_EQ(RM_OK, said);
    pools_end();
}

TEST(keys, share_a_bound_whichever_comes_first) {
    at_every_step(begin_keys_for_one, take_a, take_b, end_keys_for_one);
    at_every_step(begin_keys_for_two, take_a, take_b, end_keys_for_two);
}

static key_arrival second;

TEST(keys, that_wait_for_the_bound_may_be_refused_too) {
    uint32_t i;
    for (i = 0; i < 2; ++i) {
        rm_pool *pool;
        pools_init(2, i == 0 ? 1 : 0);
        keys.pool.max = 2 - i;
        keys.pool.max_waiters = 1;
        REQUIRE(rm_pools_create(&keys, &pools, NULL) == RM_OK);
        REQUIRE(pools_take("a", &a_lease) == RM_OK);
        pool = a_lease.pool;
        CHECK_EQ(RM_OK, pools_ask("a", &wanted));
        CHECK_EQ(RM_E_FULL, pools_ask("a", &second));
        pools_give(&a_lease);
        CHECK_EQ(0, second.calls);
        give_wanted();
        CHECK_EQ(RM_OK, rm_pool_evict_all(pool));
        CHECK_EQ(RM_OK, pools_take("b", &b_lease));
        pools_give(&b_lease);
        CHECK_EQ(1, w.destroyed); /* what is idle stays, since nobody waits */
        CHECK_EQ(RM_OK, rm_pools_close(pools, RM_NOWAIT, NULL));
        pools_end();
    }
}

/* b holds the only place, and there is nothing under a. */
static void begin_keys_with_b(void) {
    begin_keys(1);
    take_b();
    CHECK_EQ(RM_OK, said);
}

static void ask_a(void) {
    CHECK_EQ(RM_OK, pools_ask("a", &wanted));
}

static void give_b(void) {
    pools_give(&b_lease);
}

static void end_with_a_served(void) {
    give_wanted();
    pools_end();
}

TEST(keys, that_wait_get_what_comes_back_at_any_step) {
    at_every_step(begin_keys_with_b, ask_a, give_b, end_with_a_served);
}

static int64_t grow_after_ns;

static void begin_beside_a(void) {
    pools_init(2, 1);
    keys.pool.grow_after_ns = grow_after_ns;
    REQUIRE(rm_pools_create(&keys, &pools, NULL) == RM_OK);
    take_a();
    empty_keys();
    take_b();
    ask_a();
    CHECK_EQ(0, wanted.calls);
}

static void take_c(void) {
    said = pools_take("c", &a_lease);
}

static void end_beside_a(void) {
    CHECK_EQ(RM_E_TIMEOUT, said);
    end_with_a_served();
}

TEST(keys, that_wait_come_before_newcomers) {
    grow_after_ns = 0;
    at_every_step(begin_beside_a, give_b, take_c, end_beside_a);
}

/* a waits for what it has lent itself, since it may not have more. */
static void b_gets_the_next(uint32_t max) {
    pools_init(max, 3);
    keys.pool.grow_after_ns = grow_after_ns;
    REQUIRE(rm_pools_create(&keys, &pools, NULL) == RM_OK);
    take_a();
    ask_a();
    take_b();
    CHECK_EQ(RM_OK, said);
    CHECK_EQ(0, wanted.calls);
    pools_give(&a_lease);
    end_with_a_served();
}

static void begin_beside_a_and_e(void) {
    begin_beside_a();
    CHECK_EQ(RM_OK, pools_ask("e", &second));
}

static void end_beside_a_and_e(void) {
    CHECK_EQ(RM_E_TIMEOUT, said);
    CHECK_EQ(0, second.calls);
    give_wanted();
    CHECK_EQ(RM_OK, second.status);
    CHECK_EQ(1, second.calls);
    pools_give(&second.lease);
    pools_end();
}

TEST(keys, that_wait_come_before_newcomers_one_after_the_other) {
    grow_after_ns = 0;
    at_every_step(begin_beside_a_and_e, give_b, take_c, end_beside_a_and_e);
}

TEST(keys, need_no_more_places_than_they_could_use) {
    uint64_t empty;
    world_init(&w, 3);
    w.desc.overflow = 2;
    w.desc.max_creating = 3;
    open_world();
    empty = w.pool->slots[4].word;
    w.pool->wanting = 9;
    CHECK_EQ(3, rmi_pools_need(w.pool));
    w.pool->slots[4].word = rmi_slot_word(1, RMI_SLOT_CREATING);
    CHECK_EQ(2, rmi_pools_need(w.pool));
    w.pool->slots[4].word = rmi_slot_word(1, RMI_SLOT_CLOSING);
    CHECK_EQ(3, rmi_pools_need(w.pool));
    CHECK_EQ(RM_OK, take(&w, &mine));
    CHECK_EQ(RM_OK, take(&w, &other));
    CHECK_EQ(2, rmi_pools_need(w.pool));
    w.pool->wanting = 1;
    CHECK_EQ(1, rmi_pools_need(w.pool));
    CHECK_EQ(RM_OK, rm_pool_suspend(w.pool));
    CHECK_EQ(0, rmi_pools_need(w.pool));
    CHECK_EQ(RM_OK, rm_pool_resume(w.pool));
    w.pool->slots[4].word = empty;
    w.pool->wanting = 0;
    end_world();
}

TEST(keys, that_shrink_tell_how_many_places_will_be_free) {
    rm_pool_sizes sizes = {1, 0, 0, 0};
    rm_pool *a;
    pools_init(3, 3);
    REQUIRE(rm_pools_create(&keys, &pools, NULL) == RM_OK);
    take_a();
    REQUIRE(pools_take("a", &b_lease) == RM_OK);
    REQUIRE(pools_take("a", &second.lease) == RM_OK);
    a = a_lease.pool;
    pools_give(&a_lease);
    pools_give(&b_lease);
    pools_give(&second.lease);
    CHECK_EQ(RM_OK, rm_pool_resize(a, &sizes, NULL));
    CHECK_EQ(2, w.destroyed);
    CHECK_EQ(0, pools->budget.leaving);
    CHECK_EQ(1, pools->budget.used);
    pools_end();
}

static rm_pool *idle_pool;

/* While the first of what is idle ends, somebody looks whether more is needed. */
static void look_for_more(void) {
    CHECK_EQ(RM_OK, rm_pool_resume(idle_pool));
    CHECK_EQ(0, w.destroyed); /* not of the second */
}

/* Two wait under a, which may have `max` and make so many at a time; two are idle under b. */
static void two_wait_beside_two_idle(uint32_t max, uint32_t max_creating, uint32_t served) {
    pools_init(max, 3);
    keys.pool.max_creating = max_creating;
    keys.pool.destroy_fn = end_beside_others;
    REQUIRE(rm_pools_create(&keys, &pools, NULL) == RM_OK);
    take_b();
    REQUIRE(pools_take("b", &second.lease) == RM_OK);
    idle_pool = b_lease.pool;
    pools_give(&second.lease);
    pools_give(&b_lease);
    take_a();
    while_it_ends = look_for_more;
    CHECK_EQ(RM_OK, rm_pool_suspend(a_lease.pool));
    CHECK_EQ(RM_OK, pools_ask("a", &wanted));
    CHECK_EQ(RM_OK, pools_ask("a", &second));
    CHECK_EQ(RM_OK, rm_pool_resume(a_lease.pool));
    CHECK_EQ(served, wanted.calls + second.calls);
    CHECK_EQ(served, w.destroyed);
    pools_give(&a_lease);
    CHECK_EQ(1, second.calls);
    pools_give(&second.lease);
    end_with_a_served();
}

/* a has both places and asks first, for a third; b has none. */
TEST(keys, with_two_make_way_for_those_with_none) {
    pools_init(3, 2);
    REQUIRE(rm_pools_create(&keys, &pools, NULL) == RM_OK);
    take_a();
    REQUIRE(pools_take("a", &b_lease) == RM_OK);
    CHECK_EQ(RM_OK, pools_ask("a", &wanted));
    CHECK_EQ(RM_OK, pools_ask("b", &second));
    pools_give(&b_lease);
    CHECK_EQ(0, wanted.calls);
    CHECK_EQ(1, second.calls);
    pools_give(&second.lease);
    CHECK_EQ(1, wanted.calls);
    pools_give(&wanted.lease);
    pools_give(&a_lease);
    pools_end();
}

TEST(keys, that_may_have_less_than_they_want_end_no_more_elsewhere) {
    two_wait_beside_two_idle(2, 0, 1);
    two_wait_beside_two_idle(3, 1, 2);
}

TEST(keys, that_may_not_have_more_leave_places_to_newcomers) {
    grow_after_ns = 0;
    b_gets_the_next(1);
}

TEST(keys, that_wait_to_grow_get_their_first_place_and_leave_the_next) {
    grow_after_ns = RM_SEC(1);
    at_every_step(begin_beside_a, give_b, take_c, end_beside_a);
    b_gets_the_next(2);
}

static void begin_bound(uint32_t max_total) {
    pools_init(2, max_total);
    keys.pool.max_creating = 1;
    REQUIRE(rm_pools_create(&keys, &pools, NULL) == RM_OK);
    REQUIRE(pools_take("a", &a_lease) == RM_OK);
    REQUIRE(pools_take("b", &b_lease) == RM_OK);
}

static rm_pools_lease c_leases[3];

static uint32_t places; /* of c's */

static void free_places_and_take_one(void) {
    void *resource;
    for (w.leaves = 0; w.leaves < places; ++w.leaves) {
        rm_pools_lease *lease = &c_leases[w.leaves];
        CHECK_EQ(RM_OK, rm_pool_detach(lease->pool, &lease->lease, &resource));
        free(resource);
    }
    CHECK_EQ(RM_OK, pools_take("d", &a_lease));
}

TEST(keys, that_make_others_end_something_leave_them_what_is_free_meanwhile) {
    uint32_t i;
    for (places = 1; places <= 3; ++places) {
        pools_init(3, 4);
        keys.pool.destroy_fn = end_beside_others;
        REQUIRE(rm_pools_create(&keys, &pools, NULL) == RM_OK);
        for (i = 0; i < 3; ++i)
            REQUIRE(pools_take("c", &c_leases[i]) == RM_OK);
        take_a();
        pools_give(&a_lease);
        while_it_ends = free_places_and_take_one;
        CHECK_EQ(RM_OK, rm_pools_acquire(pools, "b", 1, rm_deadline_after(&w.clock, RM_SEC(1)),
                                         NULL, &b_lease, NULL));
        CHECK_EQ(1, w.destroyed);
        for (i = places; i < 3; ++i)
            pools_give(&c_leases[i]);
        pools_give(&a_lease);
        pools_give(&b_lease);
        CHECK_EQ(RM_OK, rm_pools_destroy(pools));
        CHECK_EQ(w.created, w.destroyed + w.leaves);
        world_done();
    }
}

static void ask_inside_and_fail(world *that) {
    that->inside = NULL;
    CHECK_EQ(RM_OK, pools_ask("a", &wanted));
    CHECK_EQ(0, wanted.calls);
}

TEST(keys, that_fail_tell_all_who_wait_there) {
    pools_init(1, 2);
    w.inside = ask_inside_and_fail;
    w.create_status = RM_E_REFUSED;
    REQUIRE(rm_pools_create(&keys, &pools, NULL) == RM_OK);
    CHECK_EQ(RM_E_REFUSED, pools_take("a", &a_lease));
    CHECK_EQ(1, wanted.calls);
    CHECK_EQ(RM_E_REFUSED, wanted.status);
    pools_end();
}

TEST(keys, with_all_at_an_endpoint_that_refuses_make_way_for_another) {
    static const char *const names[] = {"one", "two"};
    uint32_t i, total;
    for (total = 1; total <= 2; ++total) {
        pools_init(2, total);
        for (i = 0; i < 2; ++i) {
            endpoints[i].name = names[i];
            endpoints[i].guard = watch_init(&seen[i]);
            endpoints[i].user = &w;
        }
        keys.pool.endpoints = endpoints;
        keys.pool.endpoint_count = 2;
        REQUIRE(rm_pools_create(&keys, &pools, NULL) == RM_OK);
        take_a();
        pools_give(&a_lease);
        seen[0].refuses = true;
        CHECK_EQ(RM_OK, pools_ask("a", &wanted));
        give_wanted();
        CHECK_EQ(total == 1, w.destroyed);
        seen[0].refuses = false;
        pools_end();
    }
}

TEST(keys, that_are_late_end_nothing_elsewhere_and_those_that_try_do) {
    const rm_deadline over = {1};
    begin_bound(2);
    pools_give(&a_lease);
    CHECK_EQ(RM_E_TIMEOUT, rm_pools_acquire(pools, "b", 1, over, NULL, &second.lease, NULL));
    CHECK_EQ(0, w.destroyed);
    CHECK_EQ(RM_OK, pools_take("b", &second.lease));
    CHECK_EQ(1, w.destroyed);
    pools_give(&second.lease);
    pools_end();
}

TEST(keys, that_are_suspended_give_what_is_idle_away) {
    rm_pool *a;
    begin_bound(2);
    a = a_lease.pool;
    CHECK_EQ(RM_OK, rm_pool_suspend(a));
    pools_give(&a_lease);
    CHECK_EQ(RM_OK, pools_ask("a", &second));
    CHECK_EQ(RM_OK, pools_ask("b", &wanted));
    give_wanted();
    CHECK_EQ(0, second.calls);
    pools_give(&b_lease);
    CHECK_EQ(RM_OK, rm_pool_resume(a));
    CHECK_EQ(RM_OK, second.status);
    CHECK_EQ(1, second.calls);
    pools_give(&second.lease);
    pools_end();
}

/* A thread waits under a for what it may not make yet; b has something idle. */
static void wait_for_a(void *user) {
    const rm_deadline never = {0};
    *(rm_status *)user = rm_pools_acquire(pools, "a", 1, never, NULL, &second.lease, NULL);
}

static void looks_again_when_its_time_has_come(void) {
    rm_status status = RM_E_INTERNAL;
    rm_thread thread;
    pools_give(&b_lease);
    REQUIRE(rm_thread_start(&thread, wait_for_a, &status) == RM_OK);
    rm_virtual_clock_await(&w.time, 1);
    pass(&w, RM_MS(10) - 1);
    rm_virtual_clock_await(&w.time, 1);
    CHECK_EQ(0, GET(w.destroyed));
    pass(&w, 1);
    rm_thread_join(&thread);
    CHECK_EQ(RM_OK, status);
    CHECK_EQ(1, w.destroyed);
    pools_give(&second.lease);
    pools_end();
}

TEST(keys, that_back_off_have_a_place_made_free_when_that_is_over) {
    begin_bound(2);
    w.create_status = RM_E_FAILED;
    CHECK_EQ(RM_E_TIMEOUT, pools_take("a", &second.lease)); /* all is taken */
    CHECK_EQ(RM_OK, rm_pool_evict_all(b_lease.pool));
    pools_give(&b_lease);
    CHECK_EQ(RM_E_FAILED, pools_take("a", &second.lease));
    w.create_status = RM_OK;
    take_b();
    w.destroyed = 0;
    w.created -= 1;
    looks_again_when_its_time_has_come();
}

TEST(keys, that_may_grow_later_have_a_place_made_free_then) {
    pools_init(2, 2);
    keys.pool.grow_after_ns = RM_MS(10);
    REQUIRE(rm_pools_create(&keys, &pools, NULL) == RM_OK);
    take_a();
    take_b();
    looks_again_when_its_time_has_come();
}

static void begin_stopped(void) {
    begin_keys_for_one();
    CHECK_EQ(RM_OK, rm_pools_close(pools, RM_NOWAIT, NULL));
}

static void start_again(void) {
    const rm_deadline never = {0};
    const rm_resource resource = rm_pools_resource(pools);
    said = resource.start_fn(resource.user, never, NULL);
}

static void end_started(void) {
    CHECK_EQ(RM_OK, said);
    CHECK(acted == RM_OK || acted == RM_E_CLOSED);
    if (acted != RM_OK) take_a();
    CHECK_EQ(RM_OK, acted);
    pools_end();
}

TEST(keys, open_again_also_beside_an_acquire_that_found_them_closed) {
    at_every_step(begin_stopped, take_a, start_again, end_started);
}

TEST(keys, of_the_parent_are_not_touched_in_a_forked_child) {
    rm_lease parents;
    rm_pool *pool;
    void *key;
    pools_init(1, 2);
    REQUIRE(rm_pools_create(&keys, &pools, NULL) == RM_OK);
    take_a();
    ask_a();
    parents = a_lease.lease;
    pool = a_lease.pool;
    key = pools->registry->entries[a_lease.ref.slot].key;
    CHECK_EQ(RM_OK, rm_pools_after_fork_child(pools));
    CHECK_EQ(RM_E_FOREIGN, rm_pool_release(a_lease.pool, &a_lease.lease, RM_RELEASE_OK));
    CHECK_EQ(RM_E_STALE, rm_pools_request_cancel(&wanted.request));
    CHECK_EQ(0, w.destroyed);
    free(parents.resource); /* all this is the parent's; here they are one process */
    free(pool->memory);
    free(key);
    memset(&a_lease, 0, sizeof a_lease);
    w.created = 0;
    take_b();
    CHECK_EQ(RM_OK, said);
    pools_end();
}

static void destroy_them(world *that) {
    if (rm_thread_number() != GET(pools->helper.number)) return;
    CHECK_EQ(RM_E_BUSY, rm_pools_destroy(pools));
    CHECK_EQ(1, GET(pools->helper.helping));
    that->inside = NULL;
    ADD(tried, 1);
}

TEST(destroy, from_the_thread_of_all_keys_says_busy) {
    tried = 0;
    pools_init(2, 0);
    w.inside = destroy_them;
    keys.pool.min_idle = 1;
    keys.pool.maintain_every_ns = RM_SEC(1);
    keys.pool.user = &w;
    REQUIRE(rm_pools_create(&keys, &pools, NULL) == RM_OK);
    rm_virtual_clock_await(&w.time, 1);
    take_a();
    CHECK_EQ(RM_OK, acted);
    pass(&w, RM_SEC(1));
    while (GET(tried) == 0)
        relax();
    pools_end();
}

TEST(keys, that_are_suspended_get_no_place_before_they_are_resumed) {
    rm_pool *a;
    begin_bound(2);
    a = a_lease.pool;
    CHECK_EQ(RM_OK, rm_pool_suspend(a));
    CHECK_EQ(RM_OK, pools_ask("a", &wanted));
    pools_give(&b_lease);
    CHECK_EQ(0, w.destroyed);
    CHECK_EQ(RM_OK, rm_pool_resume(a));
    CHECK_EQ(1, w.destroyed); /* b's */
    end_with_a_served();
}

TEST(keys, that_may_grow_again_get_a_place) {
    rm_pool_sizes sizes = {1, 0, 0, 0};
    rm_pool *a;
    begin_bound(2);
    a = a_lease.pool;
    CHECK_EQ(RM_OK, rm_pool_resize(a, &sizes, NULL));
    CHECK_EQ(RM_OK, pools_ask("a", &wanted));
    pools_give(&b_lease);
    CHECK_EQ(0, w.destroyed);
    sizes.max = 2;
    CHECK_EQ(RM_OK, rm_pool_resize(a, &sizes, NULL));
    CHECK_EQ(1, w.destroyed); /* b's */
    end_with_a_served();
}

TEST(keys, that_wait_with_places_left_end_nothing_elsewhere) {
    rm_pool *a;
    begin_bound(3);
    a = a_lease.pool;
    CHECK_EQ(RM_OK, rm_pool_suspend(a));
    CHECK_EQ(RM_OK, pools_ask("a", &wanted));
    pools_give(&b_lease);
    CHECK_EQ(0, w.destroyed);
    CHECK_EQ(RM_OK, rm_pool_resume(a));
    CHECK_EQ(0, w.destroyed);
    CHECK_EQ(3, w.created);
    end_with_a_served();
}

TEST(keys, that_back_off_wait_for_their_own_places) {
    rm_pool *a;
    begin_bound(3);
    a = a_lease.pool;
    w.create_status = RM_E_FAILED;
    CHECK_EQ(RM_E_FAILED, pools_take("a", &wanted.lease));
    w.create_status = RM_OK;
    CHECK_EQ(RM_OK, pools_ask("a", &wanted));
    CHECK_EQ(0, wanted.calls);
    pools_give(&b_lease);
    CHECK_EQ(0, w.destroyed);
    pass(&w, RM_MS(10));
    CHECK_EQ(RM_OK, rm_pool_maintain(a, 0, rm_deadline_after(&w.clock, RM_SEC(1)), NULL));
    pools_give(&a_lease);
    end_with_a_served();
}

static void ask_inside(world *that) {
    that->inside = NULL;
    CHECK_EQ(RM_OK, pools_ask("c", &wanted));
    CHECK_EQ(0, wanted.calls);
    CHECK_EQ(0, that->destroyed); /* it may not create now */
}

TEST(keys, that_create_all_they_may_at_once_end_nothing_elsewhere) {
    rm_pools_lease c_lease;
    begin_bound(3);
    pools_give(&b_lease); /* one that is idle */
    w.inside = ask_inside;
    CHECK_EQ(RM_OK, pools_take("c", &c_lease));
    CHECK_EQ(1, wanted.calls);
    pools_give(&c_lease);
    end_with_a_served();
}

TEST(keys, name_their_pools_unless_a_name_is_given) {
    const char *const names[] = {NULL, "pool", "db"};
    uint32_t i;
    for (i = 0; i < 3; ++i) {
        rm_pool_desc desc;
        pools_init(1, 0);
        keys.pool.name = names[i];
        REQUIRE(rm_pools_create(&keys, &pools, NULL) == RM_OK);
        REQUIRE(pools_take("a", &a_lease) == RM_OK);
        REQUIRE(pools_take("\1", &b_lease) == RM_OK);
        CHECK_EQ(RM_OK, rm_pool_desc_get(a_lease.pool, &desc));
        CHECK_STR(i == 2 ? "db" : "a", desc.name);
        CHECK_EQ(RM_OK, rm_pool_desc_get(b_lease.pool, &desc));
        CHECK_STR(i == 2 ? "db" : "pool", desc.name);
        pools_end();
    }
}

static uint32_t shut;

static void count_shut(void *pool_user, void *user) {
    (void)pool_user, (void)user;
    ++shut;
}

static rm_status open_too_many(const void *key, size_t size, rm_pool_desc *desc, rm_error *error,
                               void *user) {
    (void)key, (void)size, (void)error, (void)user;
    desc->max = 70000;
    return RM_OK;
}

TEST(keys, that_cannot_be_opened_are_shut_if_there_is_something_to_shut) {
    uint32_t i;
    for (i = 0; i < 2; ++i) {
        pools_init(1, 0);
        keys.open_fn = open_too_many;
        keys.shut_fn = i == 1 ? count_shut : NULL;
        shut = 0;
        REQUIRE(rm_pools_create(&keys, &pools, NULL) == RM_OK);
        CHECK_EQ(RM_E_INVALID, pools_take("a", &a_lease));
        CHECK_EQ(i, shut);
        pools_end();
    }
}

TEST(keys, lend_through_their_pools_only) {
    const rm_deadline never = {0};
    rm_error error;
    rm_pool *a;
    pools_init(2, 0);
    keys.max_keys = 1;
    REQUIRE(rm_pools_create(&keys, &pools, NULL) == RM_OK);
    REQUIRE(pools_take("a", &a_lease) == RM_OK);
    a = a_lease.pool;
    CHECK_SAYS("db: the pool of a key: borrow with rm_pools_acquire",
               rm_pool_acquire(a, RM_NOWAIT, &mine, &error));
    CHECK_EQ(RM_E_INVALID, rm_pool_acquire_until(a, never, NULL, &mine, NULL));
    CHECK_EQ(RM_E_INVALID, ask(a, &asked));
    CHECK_EQ(RM_E_FULL, pools_take("b", &b_lease));
    CHECK_EQ(RM_OK, rm_pool_release(a, &a_lease.lease, RM_RELEASE_OK));
    CHECK_EQ(RM_OK, pools_take("b", &b_lease));
    memset(&a_lease, 0, sizeof a_lease);
    pools_end();
}

/* The pools close while one for another key is opened. */
static rm_status close_and_open(const void *key, size_t size, rm_pool_desc *desc, rm_error *error,
                                void *user) {
    (void)key, (void)size, (void)desc, (void)error, (void)user;
    CHECK_EQ(RM_OK, rm_pools_close(pools, RM_NOWAIT, NULL));
    return RM_OK;
}

TEST(keys, that_are_closed_say_so) {
    const rm_deadline never = {0};
    rm_pools_lease none;
    rm_error error;
    pools_init(1, 0);
    keys.open_fn = close_and_open;
    REQUIRE(rm_pools_create(&keys, &pools, NULL) == RM_OK);
    CHECK_SAYS("pools: the pools are closed", /* what was opened is shut again */
               rm_pools_acquire(pools, "a", 1, never, NULL, &none, &error));
    CHECK_SAYS("pools: the pools are closed",
               rm_pools_acquire(pools, "b", 1, never, NULL, &none, &error));
    pools_end();
}

TEST(keys, are_maintained_and_started_until_the_deadline) {
    const rm_deadline none = {0};
    rm_resource resource;
    pools_init(2, 0);
    keys.pool.min_idle = 2;
    REQUIRE(rm_pools_create(&keys, &pools, NULL) == RM_OK);
    take_a();
    CHECK_EQ(RM_OK, rm_pools_maintain(pools, 0, rm_deadline_after(&w.clock, RM_NOWAIT), NULL));
    CHECK_EQ(1, w.created);
    CHECK_EQ(RM_OK, rm_pools_maintain(pools, 0, none, NULL));
    CHECK_EQ(2, w.created);
    pools_give(&a_lease);
    CHECK_EQ(RM_OK, rm_pools_close(pools, 0, NULL));
    resource = rm_pools_resource(pools);
    CHECK_EQ(RM_E_TIMEOUT,
             resource.start_fn(resource.user, rm_deadline_after(&w.clock, RM_NOWAIT), NULL));
    CHECK_EQ(2, w.created);
    CHECK_EQ(RM_OK, resource.start_fn(resource.user, none, NULL));
    CHECK_EQ(4, w.created);
    pools_end();
}

TEST(keys, have_pools_by_the_name_that_was_given) {
    char name[] = "tenant";
    rm_pool_desc desc;
    pools_init(1, 0);
    keys.pool.name = name;
    REQUIRE(rm_pools_create(&keys, &pools, NULL) == RM_OK);
    memset(name, 'x', sizeof name - 1);
    take_a();
    CHECK_EQ(RM_OK, rm_pool_desc_get(a_lease.pool, &desc));
    CHECK_STR("tenant", desc.name);
    pools_give(&a_lease);
    pools_end();
}

TEST(keys, are_as_ill_as_the_worst_of_them) {
    uint32_t i;
    for (i = 0; i < 2; ++i) {
        rm_error reason;
        rm_resource resource;
        pools_init(1, 0);
        REQUIRE(rm_pools_create(&keys, &pools, NULL) == RM_OK);
        take_a();
        take_b();
        resource = rm_pools_resource(pools);
        CHECK_EQ(RM_OK, rm_pool_suspend(i == 0 ? a_lease.pool : b_lease.pool));
        CHECK_EQ(RM_HEALTH_DEGRADED, resource.health_fn(resource.user, &reason));
        CHECK_EQ(RM_E_BUSY, rm_pool_close(i == 0 ? b_lease.pool : a_lease.pool, RM_NOWAIT, NULL));
        CHECK_EQ(RM_HEALTH_UNHEALTHY, resource.health_fn(resource.user, &reason));
        CHECK_STR("the pool is closed", reason.message);
        pools_give(&a_lease);
        pools_give(&b_lease);
        pools_end();
    }
}

TEST(keys, take_a_result_once) {
    rm_pools_lease copy;
    pools_init(1, 0);
    REQUIRE(rm_pools_create(&keys, &pools, NULL) == RM_OK);
    take_a();
    copy = a_lease;
    CHECK_EQ(RM_OK, rm_pools_release_result(pools, &a_lease, NULL));
    CHECK(a_lease.pool == NULL);
    CHECK_EQ(RM_E_STALE, rm_pools_release_result(pools, &copy, NULL));
    CHECK(copy.pool != NULL); /* it is left alone */
    pools_end();
}

TEST(keys, are_held_by_reference) {
    rm_registry_ref ref;
    pools_init(1, 0);
    REQUIRE(rm_pools_create(&keys, &pools, NULL) == RM_OK);
    REQUIRE(pools_take("a", &a_lease) == RM_OK);
    CHECK_EQ(RM_E_INVALID, rm_registry_hold(NULL, &a_lease.ref, &ref));
    CHECK_EQ(RM_E_INVALID, rm_registry_hold(pools->registry, NULL, &ref));
    CHECK_EQ(RM_E_INVALID, rm_registry_hold(pools->registry, &a_lease.ref, NULL));
    REQUIRE(rm_registry_hold(pools->registry, &a_lease.ref, &ref) == RM_OK);
    CHECK_EQ(RM_OK, rm_registry_put(pools->registry, &ref));
    pools_end();
}

/* ---- an allocator that fails the n-th time */

static uint32_t allocs_left;
static int blocks;

static void *meagre_alloc(size_t size, void *user) {
    (void)user;
    if (allocs_left == 0) return NULL;
    --allocs_left;
    ++blocks;
    return malloc(size);
}

static void meagre_free(void *pointer, size_t size, void *user) {
    (void)size, (void)user;
    --blocks;
    free(pointer);
}

TEST(pools, without_memory_are_not_made) {
    const rm_allocator meagre = {meagre_alloc, meagre_free, NULL};
    uint32_t n;
    blocks = 0;
    for (n = 0;; ++n) {
        rm_error error;
        rm_status status;
        pools_init(1, 0);
        w.env.allocator = &meagre;
        allocs_left = n;
        status = rm_pools_create(&keys, &pools, &error);
        if (status == RM_OK) break;
        CHECK_EQ(RM_E_NOMEM, status);
        CHECK_EQ(RM_E_NOMEM, error.status);
        CHECK_EQ(0, blocks);
        world_done();
    }
    CHECK(n >= 2);
    pools_end();
    CHECK_EQ(0, blocks);
}

TEST(pools, with_a_clock_that_is_none_are_not_made) {
    rm_error error;
    pools_init(1, 0);
    keys.pool.maintain_every_ns = RM_SEC(1);
    w.clock.now_fn = NULL;
    CHECK_EQ(RM_E_INVALID, rm_pools_create(&keys, &pools, &error));
    world_done();
}

#ifndef _WIN32
TEST(pools, without_locks_or_a_thread_are_not_made) {
    static const int kinds[] = {LOCK, THREAD};
    uint32_t k;
    for (k = 0; k < 2; ++k) {
        int n;
        bool refused = true;
        for (n = 1; refused; ++n) {
            rm_error error;
            rm_status status;
            pools_init(1, 1);
            keys.pool.maintain_every_ns = RM_SEC(1);
            refuse(kinds[k], n);
            status = rm_pools_create(&keys, &pools, &error);
            refused = was_refused();
            CHECK_EQ(refused ? RM_E_SYSTEM : RM_OK, status);
            if (refused) CHECK_EQ(RM_E_SYSTEM, error.status);
            if (refused) world_done();
        }
        CHECK(n > 2);
        pools_end();
    }
}

TEST(pools, without_a_lock_in_a_forked_child_can_be_tried_again) {
    bool refused = true;
    int n;
    pools_init(1, 1);
    REQUIRE(rm_pools_create(&keys, &pools, NULL) == RM_OK);
    for (n = 1; refused; ++n) {
        rm_status status;
        refuse(LOCK, n);
        status = rm_pools_after_fork_child(pools);
        refused = was_refused();
        CHECK_EQ(refused ? RM_E_SYSTEM : RM_OK, status);
    }
    CHECK(n > 3);
    CHECK_EQ(RM_OK, pools_take("a", &a_lease));
    pools_end();
}

TEST(pools, without_a_thread_do_not_start_again) {
    const rm_deadline never = {0};
    rm_error error;
    rm_resource resource;
    pools_init(1, 1);
    keys.pool.maintain_every_ns = RM_SEC(1);
    REQUIRE(rm_pools_create(&keys, &pools, NULL) == RM_OK);
    resource = rm_pools_resource(pools);
    CHECK_EQ(RM_OK, pools_take("a", &a_lease));
    CHECK_EQ(RM_E_BUSY, rm_pools_destroy(pools)); /* which has ended their thread */
    pools_give(&a_lease);
    refuse(THREAD, 1);
    CHECK_EQ(RM_E_SYSTEM, resource.start_fn(resource.user, never, &error));
    CHECK(was_refused());
    CHECK_EQ(RM_E_SYSTEM, error.status);
    CHECK_EQ(RM_OK, resource.start_fn(resource.user, never, &error));
    CHECK_EQ(RM_OK, pools_take("b", &b_lease));
    pools_end();
}
#endif

TEST_MAIN

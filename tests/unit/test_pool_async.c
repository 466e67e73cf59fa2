/* Tests of asynchronous acquires, and of what they need of the wait queue: completions that become
   due inside others, and a head that looks by itself. */
#include "rm_pool.h"
#include "rm_test.h"

#include "pool_fixture.h"

static const rm_deadline never = {0};

/* ---- a request that remembers its end ---- */

typedef struct request {
    rm_pool_request pending;
    world *w;
    uint32_t calls;
    uint32_t place; /* which of all it was; 1 = the first */
    rm_status status;
    rm_lease lease;
    rm_error error;
    bool gives_back;
    void (*then)(struct request *r); /* called by it at the end */
    struct request *other;           /* for that */
} request;

static uint32_t places; /* ends so far */

static void request_done(rm_status status, const rm_lease *lease, const rm_error *error,
                         void *user) {
    request *r = (request *)user;
    ++r->calls;
    r->place = ADD(places, 1);
    r->status = status;
    CHECK((lease != NULL) == (status == RM_OK));
    CHECK((error != NULL) == (status != RM_OK));
    if (lease != NULL) r->lease = *lease;
    if (error != NULL) {
        r->error = *error;
        CHECK_EQ(status, error->status);
        CHECK(error->where[0] != '\0' && error->message[0] != '\0');
    }
    if (lease != NULL && r->gives_back)
        CHECK_EQ(RM_OK, rm_pool_release(r->w->pool, &r->lease, RM_RELEASE_OK));
    if (r->then != NULL) r->then(r);
}

static void request_init(request *r, world *w) {
    memset(r, 0, sizeof *r);
    r->w = w;
}

static rm_status request_start(request *r, rm_deadline deadline, rm_cancel *cancel) {
    rm_error error;
    rm_status status;
    memset(&error, 0, sizeof error);
    status =
        rm_pool_acquire_async(r->w->pool, &r->pending, deadline, cancel, request_done, &error, r);
    CHECK_EQ(status, error.status);
    return status;
}

/* Asks without a deadline. */
static void ask(request *r, world *w) {
    request_init(r, w);
    CHECK_EQ(RM_OK, request_start(r, never, NULL));
}

static void answer(request *r) {
    give(r->w, &r->lease, RM_RELEASE_OK);
}

/* ---- how it is served ---- */

TEST(pool_async, is_served_before_it_returns_when_there_is_one) {
    world w;
    request a, b;
    REQUIRE(world_begin(&w, 2));
    ask(&a, &w); /* which makes one */
    CHECK_EQ(1, a.calls);
    CHECK_EQ(RM_OK, a.status);
    CHECK_EQ(1, number_of(&a.lease));
    CHECK_EQ(INT64_C(0), w.deadline.at_ns);
    answer(&a);
    request_init(&b, &w);
    CHECK_EQ(RM_OK, request_start(&b, rm_deadline_after(&w.clock, RM_SEC(7)), NULL));
    CHECK_EQ(1, b.calls);
    CHECK_EQ(1, number_of(&b.lease)); /* the idle one */
    ask(&a, &w);
    answer(&b);
    answer(&a);
    CHECK_EQ(3, stats_of(&w).acquired);
    world_end(&w);
}

TEST(pool_async, hands_its_deadline_to_create) {
    world w;
    request a;
    REQUIRE(world_begin(&w, 1));
    request_init(&a, &w);
    CHECK_EQ(RM_OK, request_start(&a, rm_deadline_after(&w.clock, RM_SEC(7)), NULL));
    CHECK_EQ(RM_SEC(1007), w.deadline.at_ns);
    answer(&a);
    world_end(&w);
}

TEST(pool_async, is_served_by_a_release) {
    world w;
    rm_lease lease;
    request a, b;
    REQUIRE(world_begin(&w, 1));
    CHECK_EQ(RM_OK, take(&w, &lease));
    ask(&a, &w);
    ask(&b, &w);
    CHECK_EQ(0, a.calls + b.calls);
    CHECK_EQ(2, stats_of(&w).waiting);
    give(&w, &lease, RM_RELEASE_OK);
    CHECK_EQ(1, a.calls);
    CHECK_EQ(0, b.calls);
    give(&w, &a.lease, RM_RELEASE_BROKEN); /* the next one is made by who releases */
    CHECK_EQ(1, b.calls);
    CHECK_EQ(2, number_of(&b.lease));
    answer(&b);
    world_end(&w);
}

TEST(pool_async, stands_in_one_queue_with_threads) {
    world w;
    caller b;
    rm_lease lease;
    request a, c;
    world_init(&w, 1);
    w.desc.barge_ns = RM_STRICT;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease));
    ask(&a, &w);
    caller_queue(&b, &w, RM_FOREVER, 1);
    ask(&c, &w);
    give(&w, &lease, RM_RELEASE_OK);
    CHECK_EQ(1, a.calls);
    CHECK_EQ(2, stats_of(&w).waiting);
    answer(&a);
    CHECK_EQ(RM_OK, caller_join(&b));
    CHECK_EQ(0, c.calls);
    give(&w, &b.lease, RM_RELEASE_OK);
    CHECK_EQ(1, c.calls);
    answer(&c);
    world_end(&w);
}

/* ---- whose lease it is ---- */

typedef struct asker {
    request r;
    uint32_t number; /* of its thread */
    rm_thread thread;
} asker;

static void asker_run(void *user) {
    asker *a = (asker *)user;
    a->number = rm_thread_number();
    CHECK_EQ(RM_OK, request_start(&a->r, never, NULL));
}

static bool see_holder(const rm_pool_lease_info *lease, void *user) {
    *(uint32_t *)user = lease->thread;
    return true;
}

/* The thread that has the only lease. */
static uint32_t holder_of(world *w) {
    uint32_t holder = 0;
    CHECK_EQ(1, rm_pool_leases(w->pool, see_holder, &holder));
    return holder;
}

TEST(pool_async, lends_to_the_thread_that_asked) {
    world w;
    rm_lease lease, second;
    request r;
    job j;
    world_init(&w, 1);
    w.desc.refuse_nested = true;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease));
    ask(&r, &w);
    job_start_release(&j, &w, &lease, RM_RELEASE_OK);
    (void)job_join(&j);
    CHECK_EQ(1, r.calls);
    REQUIRE(holder_of(&w) == rm_thread_number());
    CHECK_EQ(RM_E_DEADLOCK, take_for(&w, RM_FOREVER, &second));
    answer(&r);
    world_end(&w);
}

TEST(pool_async, lends_nothing_to_the_thread_that_delivers) {
    world w;
    rm_lease lease, second;
    asker a;
    world_init(&w, 1);
    w.desc.env = NULL; /* the system's clock: the wait ends by itself */
    w.desc.refuse_nested = true;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease));
    request_init(&a.r, &w);
    REQUIRE(rm_thread_start(&a.thread, asker_run, &a) == RM_OK);
    rm_thread_join(&a.thread);
    give(&w, &lease, RM_RELEASE_OK);
    CHECK_EQ(1, a.r.calls);
    CHECK_EQ(a.number, holder_of(&w));
    CHECK_EQ(RM_E_TIMEOUT, take_for(&w, RM_MS(1), &second));
    answer(&a.r);
    world_end(&w);
}

/* ---- how it ends otherwise ---- */

TEST(pool_async, its_deadline_is_kept_by_maintain) {
    world w;
    watch seen;
    rm_lease lease;
    request a, b;
    world_init(&w, 1);
    w.desc.guard = watch_init(&seen);
    w.desc.event_fn = world_event;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease));
    request_init(&a, &w);
    CHECK_EQ(RM_OK, request_start(&a, rm_deadline_after(&w.clock, RM_SEC(1)), NULL));
    ask(&b, &w);
    pass(&w, RM_SEC(1) - 1);
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(0, a.calls);
    pass(&w, 1);
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(1, a.calls);
    CHECK_EQ(RM_E_TIMEOUT, a.status);
    CHECK_STR("no resource: 1 in use, 0 idle, 0 creating, 0 checking, 0 closing, 1 waiting, max 1",
              a.error.message);
    CHECK_EQ(RM_POOL_EVENT_TIMEOUT, w.notes[w.noted - 1].kind);
    CHECK_EQ(RM_E_TIMEOUT, w.notes[w.noted - 1].status);
    CHECK_REPORTS(seen, 0, 0, 1);
    CHECK_EQ(0, b.calls);
    CHECK_EQ(1, stats_of(&w).timeouts);
    give(&w, &lease, RM_RELEASE_OK);
    answer(&b);
    CHECK_REPORTS(seen, 2, 0, 1);
    CHECK_EQ(3, seen.admitted);
    world_end(&w);
}

TEST(pool_async, its_deadline_is_kept_by_a_release) {
    world w;
    rm_lease lease;
    request a, b;
    REQUIRE(world_begin(&w, 1));
    CHECK_EQ(RM_OK, take(&w, &lease));
    request_init(&a, &w);
    CHECK_EQ(RM_OK, request_start(&a, rm_deadline_after(&w.clock, RM_SEC(1)), NULL));
    ask(&b, &w);
    pass(&w, RM_SEC(1));
    give(&w, &lease, RM_RELEASE_OK);
    CHECK_EQ(RM_E_TIMEOUT, a.status); /* too late for it */
    CHECK_EQ(RM_OK, b.status);
    CHECK_EQ(1, b.calls);
    answer(&b);
    world_end(&w);
}

TEST(pool_async, its_token_ends_it) {
    world w;
    watch seen;
    rm_lease lease;
    rm_cancel token;
    request a, b;
    REQUIRE(world_begin_guarded(&w, 1, &seen));
    CHECK_EQ(RM_OK, rm_cancel_init(&token));
    CHECK_EQ(RM_OK, take(&w, &lease));
    request_init(&a, &w);
    CHECK_EQ(RM_OK, request_start(&a, never, &token));
    CHECK_EQ(RM_E_BUSY, rm_cancel_destroy(&token));
    rm_cancel_request(&token);
    CHECK_EQ(1, a.calls);
    CHECK_EQ(RM_E_CANCELLED, a.status);
    CHECK_REPORTS(seen, 0, 0, 1);
    request_init(&b, &w);
    CHECK_EQ(RM_E_CANCELLED, request_start(&b, never, &token));
    CHECK_EQ(0, b.calls); /* the status says it */
    CHECK_EQ(seen.admitted, 1 + seen.ok + seen.failures + seen.ignored);
    CHECK_EQ(1, stats_of(&w).cancelled);
    give(&w, &lease, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, rm_cancel_destroy(&token));
    world_end(&w);
}

TEST(pool_async, can_be_given_up_until_it_is_served) {
    world w;
    rm_lease lease;
    request a, b;
    REQUIRE(world_begin(&w, 1));
    CHECK_EQ(RM_OK, take(&w, &lease));
    ask(&a, &w);
    ask(&b, &w);
    CHECK_EQ(RM_OK, rm_pool_request_cancel(&a.pending));
    CHECK_EQ(1, a.calls);
    CHECK_EQ(RM_E_CANCELLED, a.status);
    CHECK_EQ(RM_E_STALE, rm_pool_request_cancel(&a.pending));
    give(&w, &lease, RM_RELEASE_OK);
    CHECK_EQ(1, b.calls);
    CHECK_EQ(RM_E_STALE, rm_pool_request_cancel(&b.pending)); /* too late */
    CHECK_EQ(1, b.calls);
    answer(&b);
    CHECK_EQ(RM_E_INVALID, rm_pool_request_cancel(NULL));
    memset(&a.pending, 0, sizeof a.pending);
    CHECK_EQ(RM_E_INVALID, rm_pool_request_cancel(&a.pending));
    world_end(&w);
}

TEST(pool_async, reports_a_failed_create_whatever_its_status) {
    world w;
    watch seen;
    request a;
    REQUIRE(world_begin_guarded(&w, 1, &seen));
    w.create_status = RM_E_CLOSED; /* of the server, not of the pool */
    ask(&a, &w);
    CHECK_EQ(RM_E_CLOSED, a.status);
    CHECK_REPORTS(seen, 0, 1, 0);
    world_end(&w);
}

TEST(pool_async, gets_the_error_of_a_create_that_fails) {
    world w;
    watch seen;
    rm_lease lease;
    request a, b, c;
    REQUIRE(world_begin_guarded(&w, 1, &seen));
    CHECK_EQ(RM_OK, take(&w, &lease));
    ask(&a, &w);
    ask(&b, &w);
    w.create_status = RM_E_AUTH;
    give(&w, &lease, RM_RELEASE_BROKEN);
    CHECK_EQ(RM_E_AUTH, a.status);
    CHECK_STR("nobody listens", a.error.message);
    CHECK_EQ(111, a.error.native);
    CHECK_EQ(1, b.calls); /* nor is there one for the next, whom it tells without a try */
    CHECK_EQ(RM_E_AUTH, b.status);
    CHECK(strstr(b.error.message, "nobody listens (0 ms ago") == b.error.message);
    CHECK_EQ(2, w.creates);
    ask(&c, &w);
    CHECK_EQ(RM_E_AUTH, c.status);
    CHECK_REPORTS(seen, 0, 2, 2); /* broken and failed to create; two never tried */
    CHECK_EQ(1, stats_of(&w).empty);
    world_end(&w);
}

TEST(pool_async, tries_again_when_the_backoff_is_over) {
    world w;
    rm_lease lease;
    request a, b;
    REQUIRE(world_begin(&w, 2));
    CHECK_EQ(RM_OK, take(&w, &lease));
    w.create_status = RM_E_REFUSED;
    ask(&a, &w);
    CHECK_EQ(RM_E_REFUSED, a.status);
    ask(&b, &w); /* there is one that may come back */
    CHECK_EQ(0, b.calls);
    w.create_status = RM_OK;
    pass(&w, RM_MS(10) - 1);
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(0, b.calls);
    pass(&w, 1);
    CHECK_EQ(RM_OK, maintain(&w)); /* a timer, as for its deadline */
    CHECK_EQ(RM_OK, b.status);
    CHECK_EQ(1, b.calls);
    answer(&b);
    give(&w, &lease, RM_RELEASE_OK);
    world_end(&w);
}

TEST(pool_async, lets_the_pool_grow_after_a_time) {
    world w;
    rm_lease lease;
    request a;
    world_init(&w, 2);
    w.desc.grow_after_ns = RM_MS(5);
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease));
    ask(&a, &w);
    pass(&w, RM_MS(5) - 1);
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(0, a.calls);
    pass(&w, 1);
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(RM_OK, a.status);
    CHECK_EQ(2, number_of(&a.lease));
    answer(&a);
    give(&w, &lease, RM_RELEASE_OK);
    world_end(&w);
}

TEST(pool_async, gets_another_for_one_that_fails_its_check) {
    world w;
    request a;
    world_init(&w, 1);
    w.desc.validate_fn = thing_validate;
    w.desc.validate_after_ns = RM_STRICT;
    REQUIRE(world_open(&w));
    fill(&w, 1);
    w.validate_status = RM_E_FAILED;
    ask(&a, &w);
    CHECK_EQ(1, a.calls);
    CHECK_EQ(2, number_of(&a.lease));
    CHECK_EQ(1, stats_of(&w).ended[RM_POOL_CAUSE_INVALID]);
    answer(&a);
    w.create_status = RM_E_REFUSED;
    ask(&a, &w);
    CHECK_EQ(RM_E_REFUSED, a.status);
    CHECK_EQ(1, stats_of(&w).empty);
    world_end(&w);
}

TEST(pool_async, waits_again_when_another_may_not_be_made_now) {
    world w;
    gate g;
    watch seen;
    caller c;
    rm_lease lease;
    request a;
    world_init(&w, 2);
    w.desc.max_creating = 1;
    w.desc.validate_fn = thing_validate;
    w.desc.guard = watch_init(&seen);
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease));
    caller_at_gate(&c, &w, &w.at_create, &g);
    thing_of(&lease)->sick = true;
    give(&w, &lease, RM_RELEASE_OK);
    pass(&w, RM_SEC(1));
    ask(&a, &w); /* its resource is ended, and one is being made already */
    CHECK_EQ(0, a.calls);
    CHECK_EQ(1, stats_of(&w).ended[RM_POOL_CAUSE_INVALID]);
    CHECK_EQ(1, stats_of(&w).waiting);
    gate_open(&g);
    CHECK_EQ(RM_OK, caller_join(&c)); /* it makes the second for the request, too */
    CHECK_EQ(1, a.calls);
    CHECK_EQ(RM_OK, a.status);
    give(&w, &c.lease, RM_RELEASE_OK);
    answer(&a);
    CHECK_REPORTS(seen, 3, 0, 0);
    CHECK_EQ(3, seen.admitted);
    gate_done(&g);
    world_end(&w);
}

TEST(pool_async, is_told_when_the_pool_closes) {
    world w;
    watch seen;
    rm_lease lease;
    request a, b;
    REQUIRE(world_begin_guarded(&w, 1, &seen));
    CHECK_EQ(RM_OK, take(&w, &lease));
    ask(&a, &w);
    CHECK_EQ(RM_E_BUSY, rm_pool_close(w.pool, RM_NOWAIT, NULL));
    CHECK_EQ(1, a.calls);
    CHECK_EQ(RM_E_CLOSED, a.status);
    request_init(&b, &w);
    CHECK_EQ(RM_E_CLOSED, request_start(&b, never, NULL));
    CHECK_EQ(0, b.calls);
    give(&w, &lease, RM_RELEASE_OK);
    CHECK_REPORTS(seen, 1, 0, 2);
    world_end(&w);
}

TEST(pool_async, waits_while_the_pool_is_suspended) {
    world w;
    request a, b;
    REQUIRE(world_begin(&w, 2));
    fill(&w, 1);
    CHECK_EQ(RM_OK, rm_pool_suspend(w.pool));
    ask(&a, &w);
    ask(&b, &w);
    CHECK_EQ(0, a.calls + b.calls);
    CHECK_EQ(RM_OK, rm_pool_resume(w.pool));
    CHECK_EQ(RM_OK, a.status);
    CHECK_EQ(RM_OK, b.status);
    CHECK_EQ(1, number_of(&a.lease));
    answer(&a);
    answer(&b);
    world_end(&w);
}

TEST(pool_async, is_refused_by_the_guard_or_reported_once) {
    world w;
    watch seen;
    request a;
    REQUIRE(world_begin_guarded(&w, 1, &seen));
    seen.refuses = true;
    request_init(&a, &w);
    CHECK_EQ(RM_E_REJECTED, request_start(&a, never, NULL));
    CHECK_EQ(0, a.calls);
    CHECK_REPORTS(seen, 0, 0, 0);
    CHECK_EQ(1, stats_of(&w).rejected);
    seen.refuses = false;
    ask(&a, &w);
    CHECK_REPORTS(seen, 0, 0, 0); /* not before it is over */
    answer(&a);
    CHECK_REPORTS(seen, 1, 0, 0);
    CHECK_EQ(1, seen.admitted);
    world_end(&w);
}

TEST(pool_async, counts_towards_max_waiters) {
    world w;
    watch seen;
    rm_lease lease;
    request a, b;
    world_init(&w, 1);
    w.desc.max_waiters = 1;
    w.desc.guard = watch_init(&seen);
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease));
    ask(&a, &w);
    request_init(&b, &w);
    CHECK_EQ(RM_E_FULL, request_start(&b, never, NULL));
    CHECK_EQ(0, b.calls);
    CHECK_REPORTS(seen, 0, 0, 1);
    CHECK_EQ(1, stats_of(&w).refused);
    give(&w, &lease, RM_RELEASE_OK);
    answer(&a);
    world_end(&w);
}

TEST(pool_async, needs_all_its_arguments) {
    world w;
    request a;
    rm_error error;
    REQUIRE(world_begin(&w, 1));
    CHECK_EQ(RM_E_INVALID,
             rm_pool_acquire_async(NULL, &a.pending, never, NULL, request_done, &error, &a));
    CHECK_EQ(RM_E_INVALID,
             rm_pool_acquire_async(w.pool, NULL, never, NULL, request_done, &error, &a));
    CHECK_EQ(RM_E_INVALID,
             rm_pool_acquire_async(w.pool, &a.pending, never, NULL, NULL, &error, &a));
    world_end(&w);
}

/* ---- inside the callback ---- */

static void acquire_inside(request *r) {
    rm_lease lease;
    rm_error error;
    CHECK_EQ(RM_OK, rm_pool_acquire(r->w->pool, RM_FOREVER, &lease, &error));
    give(r->w, &lease, RM_RELEASE_OK);
}

typedef struct helper {
    world *w;
    rm_lease *lease;
    rm_thread thread;
} helper;

/* Gives back once somebody waits. */
static void helper_run(void *user) {
    helper *h = (helper *)user;
    rm_virtual_clock_await(&h->w->time, 1);
    give(h->w, h->lease, RM_RELEASE_OK);
}

TEST(pool_async, a_callback_may_wait) {
    world w;
    helper h;
    rm_lease lease;
    request a;
    REQUIRE(world_begin(&w, 2));
    CHECK_EQ(RM_OK, take(&w, &lease));
    h.w = &w;
    h.lease = &lease;
    CHECK_EQ(RM_OK, rm_thread_start(&h.thread, helper_run, &h));
    request_init(&a, &w);
    a.then = acquire_inside; /* while it has the other one */
    CHECK_EQ(RM_OK, request_start(&a, never, NULL));
    CHECK_EQ(1, a.calls);
    rm_thread_join(&h.thread);
    answer(&a);
    world_end(&w);
}

#ifndef RM_NO_TLS /* without it callbacks nest, and nobody knows who destroys from inside */
typedef struct chain {
    request r;
    rm_pool_request next; /* the other request in turn */
    uint32_t left;
    uintptr_t lowest, highest; /* of a local's address */
} chain;

static void chain_done(rm_status status, const rm_lease *lease, const rm_error *error, void *user) {
    chain *c = (chain *)user;
    world *w = c->r.w;
    volatile char local = 0;
    rm_lease own;
    (void)error;
    if (c->lowest == 0 || (uintptr_t)&local < c->lowest) c->lowest = (uintptr_t)&local;
    if ((uintptr_t)&local > c->highest) c->highest = (uintptr_t)&local;
    if (!CHECK_EQ(RM_OK, status)) return;
    own = *lease;
    if (--c->left > 0) {
        rm_pool_request *mine = c->left % 2 == 0 ? &c->r.pending : &c->next;
        CHECK_EQ(RM_OK, rm_pool_acquire_async(w->pool, mine, never, NULL, chain_done, NULL, c));
    }
    CHECK_EQ(RM_OK, rm_pool_release(w->pool, &own, RM_RELEASE_OK));
}

TEST(pool_async, a_chain_of_callbacks_does_not_grow_the_stack) {
    world w;
    chain c;
    REQUIRE(world_begin(&w, 1));
    memset(&c, 0, sizeof c);
    c.r.w = &w;
    c.left = 100000;
    CHECK_EQ(RM_OK, rm_pool_acquire_async(w.pool, &c.r.pending, never, NULL, chain_done, NULL, &c));
    CHECK_EQ(0, c.left);
    CHECK(c.highest - c.lowest < 4096);
    CHECK_EQ(100000, stats_of(&w).acquired);
    world_end(&w);
}

static void ask_other(request *r) {
    ask(r->other, r->w);
    CHECK_EQ(0, r->other->calls); /* not inside this one */
}

TEST(pool_async, what_is_due_inside_a_callback_comes_after_it) {
    world w;
    request a, b;
    REQUIRE(world_begin(&w, 2));
    request_init(&a, &w);
    a.then = ask_other;
    a.other = &b;
    CHECK_EQ(RM_OK, request_start(&a, never, NULL));
    CHECK_EQ(1, b.calls); /* but before that call returned */
    answer(&a);
    answer(&b);
    world_end(&w);
}

static void ask_other_and_acquire(request *r) {
    r->other->gives_back = true;
    CHECK_EQ(RM_OK, request_start(r->other, never, NULL));
    CHECK_EQ(0, r->other->calls); /* it has the last resource, but does not know yet */
    acquire_inside(r);
    CHECK_EQ(1, r->other->calls);
}

TEST(pool_async, what_is_due_comes_before_the_thread_waits) {
    world w;
    request a, b;
    REQUIRE(world_begin(&w, 2));
    request_init(&b, &w);
    request_init(&a, &w);
    places = 0;
    a.then = ask_other_and_acquire;
    a.other = &b;
    CHECK_EQ(RM_OK, request_start(&a, never, NULL)); /* else it would wait for itself */
    CHECK_EQ(2, b.place);
    answer(&a);
    world_end(&w);
}

static rm_status destroy_status;

static void destroy_inside(request *r) {
    destroy_status = rm_pool_destroy(r->w->pool);
}

TEST(pool_async, a_callback_cannot_destroy_its_pool) {
    world w;
    rm_lease lease;
    request a;
    REQUIRE(world_begin(&w, 1));
    CHECK_EQ(RM_OK, take(&w, &lease));
    request_init(&a, &w);
    a.then = destroy_inside;
    CHECK_EQ(RM_OK, request_start(&a, never, NULL));
    destroy_status = RM_OK;
    CHECK_EQ(RM_OK, rm_pool_request_cancel(&a.pending));
    CHECK_EQ(RM_E_BUSY, destroy_status); /* a resource is out */
    give(&w, &lease, RM_RELEASE_OK);
    world_end(&w);
    REQUIRE(world_begin(&w, 1));
    CHECK_EQ(RM_OK, rm_pool_suspend(w.pool));
    request_init(&a, &w);
    a.then = destroy_inside;
    CHECK_EQ(RM_OK, request_start(&a, never, NULL));
    destroy_status = RM_OK;
    CHECK_EQ(RM_OK, rm_pool_request_cancel(&a.pending));
    CHECK_EQ(RM_E_BUSY, destroy_status); /* nothing is out, but it is inside */
    world_end(&w);
}

static void destroy_the_others(request *r) {
    CHECK_EQ(RM_E_BUSY, rm_pool_destroy(r->other->w->pool));
    CHECK_EQ(0, r->other->calls);
}

TEST(pool_async, a_pool_is_not_destroyed_before_its_callbacks_have_come) {
    world w, v;
    request a, b;
    world_init(&w, 1);
    world_init(&v, 1);
    REQUIRE(world_open(&w));
    REQUIRE(world_open(&v));
    CHECK_EQ(RM_OK, rm_pool_suspend(v.pool));
    ask(&b, &v);
    request_init(&a, &w);
    a.then = destroy_the_others; /* the callback of b is due, but comes after this one */
    a.other = &b;
    CHECK_EQ(RM_OK, request_start(&a, never, NULL));
    CHECK_EQ(1, b.calls);
    CHECK_EQ(RM_E_CLOSED, b.status);
    world_end(&v);
    answer(&a);
    world_end(&w);
}

static rm_cancel *token_of_other;

static void cancel_the_other(request *r) {
    rm_cancel_request(token_of_other);
    CHECK_EQ(0, r->other->calls);
    CHECK_EQ(RM_OK, rm_cancel_destroy(token_of_other)); /* nobody waits with it any more */
    free(token_of_other);
}

TEST(pool_async, a_token_may_go_once_it_has_ended_its_requests) {
    world w;
    request a, b, c;
    REQUIRE(world_begin(&w, 1));
    CHECK_EQ(RM_OK, rm_pool_suspend(w.pool));
    token_of_other = (rm_cancel *)malloc(sizeof *token_of_other);
    REQUIRE(token_of_other != NULL);
    CHECK_EQ(RM_OK, rm_cancel_init(token_of_other));
    request_init(&b, &w);
    CHECK_EQ(RM_OK, request_start(&b, never, token_of_other));
    request_init(&c, &w); /* which makes way when b goes */
    CHECK_EQ(RM_OK, request_start(&c, never, token_of_other));
    request_init(&a, &w);
    a.then = cancel_the_other;
    a.other = &b;
    CHECK_EQ(RM_OK, request_start(&a, never, NULL));
    CHECK_EQ(RM_OK, rm_pool_request_cancel(&a.pending));
    CHECK_EQ(RM_E_CANCELLED, b.status);
    CHECK_EQ(RM_E_CANCELLED, c.status);
    CHECK_EQ(1, b.calls);
    CHECK_EQ(1, c.calls);
    world_end(&w);
}
#endif

/* ---- who waits on keeps its place ---- */

/* Lets a thread that comes to the gate pass, and waits until so many wait on the clock again. */
static void through(gate *g, world *w, uint32_t waiting) {
    gate_await(g, 1);
    gate_open(g);
    rm_virtual_clock_await(&w->time, waiting);
}

/* Two are to be made at most, one at a time; the first is lent, and the second is being made by a
   thread that stands at a gate. */
typedef struct busy {
    world w;
    gate g;
    caller maker;
    rm_lease lease;
} busy;

static bool busy_begin(busy *b, uint32_t max_waiters) {
    world_init(&b->w, 2);
    b->w.desc.max_creating = 1;
    b->w.desc.max_waiters = max_waiters;
    b->w.desc.validate_fn = thing_validate;
    b->w.desc.validate_after_ns = RM_STRICT;
    if (!world_open(&b->w)) return false;
    CHECK_EQ(RM_OK, take(&b->w, &b->lease));
    thing_of(&b->lease)->sick = true;
    gate_init(&b->g);
    SET(b->w.at_create, &b->g);
    caller_start(&b->maker, &b->w, RM_FOREVER);
    gate_await(&b->g, 1);
    return true;
}

static void busy_made(busy *b) {
    SET(b->w.at_create, NULL);
    gate_open(&b->g);
    CHECK_EQ(RM_OK, caller_join(&b->maker));
    CHECK_EQ(2, number_of(&b->maker.lease));
}

static void busy_end(busy *b) {
    give(&b->w, &b->maker.lease, RM_RELEASE_OK);
    gate_done(&b->g);
    world_end(&b->w);
}

TEST(pool_on, a_thread_whose_resource_fails_its_check_keeps_its_place) {
    busy b;
    gate check;
    caller first, second;
    REQUIRE(busy_begin(&b, 0));
    caller_queue(&first, &b.w, RM_FOREVER, 1);
    pass(&b.w, RM_SEC(1));
    caller_queue(&second, &b.w, RM_FOREVER, 2);
    pass(&b.w, RM_SEC(1));
    gate_init(&check);
    SET(b.w.at_validate, &check);
    give(&b.w, &b.lease, RM_RELEASE_OK); /* which is not fit, and another may not be made */
    through(&check, &b.w, 2);
    CHECK_EQ(1, stats_of(&b.w).ended[RM_POOL_CAUSE_INVALID]);
    CHECK_EQ(2, stats_of(&b.w).waiting);
    CHECK_EQ(2, stats_of(&b.w).waits);
    SET(b.w.at_validate, NULL);
    busy_made(&b);
    CHECK_EQ(RM_OK, caller_join(&first));
    CHECK_EQ(3, number_of(&first.lease));
    CHECK_EQ(1, stats_of(&b.w).waiting);
    give(&b.w, &first.lease, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, caller_join(&second));
    give(&b.w, &second.lease, RM_RELEASE_OK);
    CHECK_EQ(2, stats_of(&b.w).waits);
    CHECK_EQ(4, stats_of(&b.w).acquired);
    gate_done(&check);
    busy_end(&b);
}

TEST(pool_on, a_request_whose_resource_fails_its_check_keeps_its_place) {
    busy b;
    request first, second;
    REQUIRE(busy_begin(&b, 0));
    ask(&first, &b.w);
    pass(&b.w, RM_SEC(1));
    ask(&second, &b.w);
    pass(&b.w, RM_SEC(1));
    give(&b.w, &b.lease, RM_RELEASE_OK);
    CHECK_EQ(1, stats_of(&b.w).ended[RM_POOL_CAUSE_INVALID]);
    CHECK_EQ(0, first.calls + second.calls);
    CHECK_EQ(2, stats_of(&b.w).waiting);
    busy_made(&b);
    CHECK_EQ(1, first.calls);
    CHECK_EQ(0, second.calls);
    answer(&first);
    CHECK_EQ(1, second.calls);
    answer(&second);
    CHECK_EQ(2, stats_of(&b.w).waits);
    CHECK_EQ(4, stats_of(&b.w).acquired);
    busy_end(&b);
}

TEST(pool_on, a_thread_that_waits_on_is_not_one_too_many) {
    busy b;
    gate check;
    caller first;
    request second, third;
    REQUIRE(busy_begin(&b, 1));
    caller_queue(&first, &b.w, RM_FOREVER, 1);
    gate_init(&check);
    SET(b.w.at_validate, &check);
    pass(&b.w, RM_SEC(1));
    give(&b.w, &b.lease, RM_RELEASE_OK);
    gate_await(&check, 1); /* while it looks at its resource, another waits */
    ask(&second, &b.w);
    through(&check, &b.w, 1);
    CHECK_EQ(1, stats_of(&b.w).ended[RM_POOL_CAUSE_INVALID]);
    CHECK_EQ(2, stats_of(&b.w).waiting);
    CHECK_EQ(0, stats_of(&b.w).refused);
    request_init(&third, &b.w);
    CHECK_EQ(RM_E_FULL, request_start(&third, never, NULL)); /* a newcomer is */
    SET(b.w.at_validate, NULL);
    busy_made(&b);
    CHECK_EQ(RM_OK, caller_join(&first));
    CHECK_EQ(0, second.calls);
    give(&b.w, &first.lease, RM_RELEASE_OK);
    CHECK_EQ(1, second.calls);
    answer(&second);
    CHECK_EQ(2, stats_of(&b.w).waits);
    gate_done(&check);
    busy_end(&b);
}

TEST(pool_on, a_request_that_waits_on_is_not_one_too_many) {
    busy b;
    request first;
    REQUIRE(busy_begin(&b, 1));
    ask(&first, &b.w);
    give(&b.w, &b.lease, RM_RELEASE_OK);
    CHECK_EQ(0, first.calls);
    CHECK_EQ(1, stats_of(&b.w).waiting);
    busy_made(&b);
    CHECK_EQ(RM_OK, first.status);
    CHECK_EQ(1, first.calls);
    CHECK_EQ(0, stats_of(&b.w).refused);
    CHECK_EQ(1, stats_of(&b.w).waits);
    answer(&first);
    busy_end(&b);
}

/* Two of three are lent, the first is sick, and the server does not let us in for 10 ms. */
static bool refused_begin(world *w, rm_lease leases[2]) {
    rm_lease none;
    uint32_t i;
    world_init(w, 3);
    w->desc.max_creating = 1;
    w->desc.validate_fn = thing_validate;
    w->desc.validate_after_ns = RM_STRICT;
    if (!world_open(w)) return false;
    for (i = 0; i < 2; ++i)
        CHECK_EQ(RM_OK, take(w, &leases[i]));
    thing_of(&leases[0])->sick = true;
    w->create_status = RM_E_REFUSED;
    CHECK_EQ(RM_E_REFUSED, take(w, &none));
    SET(w->create_status, RM_OK);
    return true;
}

TEST(pool_on, a_thread_keeps_its_place_while_an_endpoint_backs_off) {
    world w;
    gate check;
    caller first, second;
    rm_lease leases[2];
    REQUIRE(refused_begin(&w, leases));
    caller_queue(&first, &w, RM_FOREVER, 1);
    pass(&w, RM_MS(1));
    caller_queue(&second, &w, RM_FOREVER, 2);
    pass(&w, RM_MS(1));
    gate_init(&check);
    SET(w.at_validate, &check);
    give(&w, &leases[0], RM_RELEASE_OK);
    through(&check, &w, 2);
    CHECK_EQ(1, stats_of(&w).ended[RM_POOL_CAUSE_INVALID]);
    SET(w.at_validate, NULL);
    CHECK_EQ(2, stats_of(&w).waiting);
    pass(&w, RM_MS(8)); /* nobody maintains */
    CHECK_EQ(RM_OK, caller_join(&first));
    CHECK_EQ(3, number_of(&first.lease));
    CHECK_EQ(RM_OK, caller_join(&second));
    CHECK_EQ(4, number_of(&second.lease));
    CHECK_EQ(2, stats_of(&w).waits);
    give_both(&w, &first.lease, &second.lease);
    give(&w, &leases[1], RM_RELEASE_OK);
    gate_done(&check);
    world_end(&w);
}

#ifndef RM_NO_TLS /* without it they nest */
TEST(pool_on, a_request_keeps_its_place_while_an_endpoint_backs_off) {
    world w;
    request first, second;
    rm_lease leases[2];
    REQUIRE(refused_begin(&w, leases));
    places = 0;
    ask(&first, &w);
    pass(&w, RM_MS(1));
    ask(&second, &w);
    pass(&w, RM_MS(1));
    give(&w, &leases[0], RM_RELEASE_OK);
    CHECK_EQ(0, first.calls + second.calls);
    CHECK_EQ(2, stats_of(&w).waiting);
    pass(&w, RM_MS(8));
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(1, first.place);
    CHECK_EQ(2, second.place);
    CHECK_EQ(3, number_of(&first.lease));
    CHECK_EQ(2, stats_of(&w).waits);
    answer(&first);
    answer(&second);
    give(&w, &leases[1], RM_RELEASE_OK);
    world_end(&w);
}
#endif

static void release_sick(void *user) {
    helper *h = (helper *)user;
    give(h->w, h->lease, RM_RELEASE_OK);
}

/* A request between two waits: what it got is looked at, and is not fit. */
static void between_two_waits(bool closes) {
    world w;
    gate check;
    helper h;
    request first;
    rm_lease leases[2];
    REQUIRE(refused_begin(&w, leases));
    gate_init(&check);
    SET(w.at_validate, &check);
    ask(&first, &w);
    h.w = &w;
    h.lease = &leases[0];
    CHECK_EQ(RM_OK, rm_thread_start(&h.thread, release_sick, &h));
    gate_await(&check, 1);
    if (closes)
        CHECK_EQ(RM_E_BUSY, rm_pool_close(w.pool, RM_NOWAIT, NULL));
    else
        CHECK_EQ(RM_E_STALE, rm_pool_request_cancel(&first.pending)); /* too late, for that one */
    CHECK_EQ(0, GET(first.calls));
    gate_open(&check);
    rm_thread_join(&h.thread);
    CHECK_EQ(1, first.calls);
    CHECK_EQ(closes ? RM_E_CLOSED : RM_E_CANCELLED, first.status);
    CHECK_EQ(1, stats_of(&w).waits);
    CHECK_EQ(closes ? 0 : 1, stats_of(&w).cancelled);
    CHECK_EQ(0, stats_of(&w).waiting);
    SET(w.at_validate, NULL);
    give(&w, &leases[1], RM_RELEASE_OK);
    gate_done(&check);
    world_end(&w);
}

TEST(pool_on, a_request_ends_when_it_is_cancelled_between_two_waits) {
    between_two_waits(false);
}

TEST(pool_on, a_request_ends_when_the_pool_closes_between_two_waits) {
    between_two_waits(true);
}

TEST(pool_on, a_cancel_in_between_comes_too_late_for_what_is_fit) {
    world w;
    gate check;
    helper h;
    request first;
    rm_lease leases[2];
    REQUIRE(refused_begin(&w, leases));
    thing_of(&leases[0])->sick = false;
    gate_init(&check);
    SET(w.at_validate, &check);
    ask(&first, &w);
    h.w = &w;
    h.lease = &leases[0];
    CHECK_EQ(RM_OK, rm_thread_start(&h.thread, release_sick, &h));
    gate_await(&check, 1);
    CHECK_EQ(RM_E_STALE, rm_pool_request_cancel(&first.pending));
    gate_open(&check);
    rm_thread_join(&h.thread);
    CHECK_EQ(RM_OK, first.status);
    CHECK_EQ(0, stats_of(&w).cancelled);
    SET(w.at_validate, NULL);
    answer(&first);
    give(&w, &leases[1], RM_RELEASE_OK);
    gate_done(&check);
    world_end(&w);
}

/* ---- a thread looks out for the requests before it ---- */

TEST(pool_look, a_thread_wakes_when_the_backoff_of_a_request_before_it_is_over) {
    world w;
    gate g;
    caller thread;
    request first;
    rm_lease leases[2];
    REQUIRE(refused_begin(&w, leases));
    ask(&first, &w);
    caller_queue(&thread, &w, RM_FOREVER, 1);
    pass(&w, RM_MS(10) - 1);
    CHECK_EQ(2, stats_of(&w).waiting);
    gate_init(&g);
    SET(w.at_create, &g);
    pass(&w, 1);        /* and nobody maintains */
    through(&g, &w, 1); /* it waits again: there are three */
    CHECK_EQ(1, first.calls);
    CHECK_EQ(RM_OK, first.status);
    CHECK_EQ(3, number_of(&first.lease));
    answer(&first);
    caller_served(&thread);
    thing_of(&leases[0])->sick = false;
    give(&w, &leases[0], RM_RELEASE_OK);
    give(&w, &leases[1], RM_RELEASE_OK);
    gate_done(&g);
    world_end(&w);
}

TEST(pool_look, a_thread_wakes_when_the_pool_may_grow_for_a_request_before_it) {
    world w;
    gate g;
    caller thread;
    rm_lease lease;
    request first;
    world_init(&w, 3);
    w.desc.grow_after_ns = RM_MS(5);
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease));
    ask(&first, &w);
    pass(&w, RM_MS(2));
    caller_queue(&thread, &w, RM_FOREVER, 1);
    pass(&w, RM_MS(3) - 1);
    CHECK_EQ(2, stats_of(&w).waiting);
    gate_init(&g);
    SET(w.at_create, &g);
    pass(&w, 1);
    through(&g, &w, 1);
    CHECK_EQ(1, first.calls);
    CHECK_EQ(2, number_of(&first.lease));
    CHECK_EQ(1, stats_of(&w).waiting); /* the thread itself came later */
    pass(&w, RM_MS(2));
    CHECK_EQ(RM_OK, caller_join(&thread));
    CHECK_EQ(3, number_of(&thread.lease));
    answer(&first);
    give_both(&w, &thread.lease, &lease);
    gate_done(&g);
    world_end(&w);
}

/* ---- a queue whose head looks by itself ---- */

typedef struct shop {
    rm_virtual_clock time;
    rm_clock clock;
    rm_waitq queue;
    int64_t opens_ns; /* units are there from then on */
    int64_t next_ns;  /* what look_at says, if it is not 0: opens_ns */
    void *patient;    /* for this request it says never */
    uint32_t units, tries, looks;
    void *looked_for; /* the request of the last look */
} shop;

static bool shop_try(void *owner, void *who, uint64_t *grant) {
    shop *s = (shop *)owner;
    (void)who;
    ++s->tries;
    if (s->units == 0 || rm_now(&s->clock) < s->opens_ns) return false;
    *grant = s->units--;
    return true;
}

static int64_t shop_look_at(void *owner, void *who, int64_t now) {
    shop *s = (shop *)owner;
    (void)now;
    ++s->looks;
    s->looked_for = who;
    if (who == s->patient) return INT64_MAX;
    return s->next_ns != 0 ? s->next_ns : s->opens_ns;
}

static void shop_init(shop *s, uint32_t units, int64_t opens_in_ns) {
    rm_waitq_desc desc;
    memset(s, 0, sizeof *s);
    CHECK_EQ(RM_OK, rm_virtual_clock_init(&s->time, RM_SEC(1000), false));
    s->clock = rm_virtual_clock_clock(&s->time);
    s->units = units;
    s->opens_ns = RM_SEC(1000) + opens_in_ns;
    memset(&desc, 0, sizeof desc);
    desc.clock = &s->clock;
    desc.owner = s;
    desc.try_fn = shop_try;
    desc.look_at_fn = shop_look_at;
    CHECK_EQ(RM_OK, rm_waitq_init(&s->queue, &desc));
}

static void shop_end(shop *s) {
    CHECK_EQ(RM_OK, rm_waitq_destroy(&s->queue));
    rm_virtual_clock_destroy(&s->time);
}

typedef struct customer {
    shop *s;
    rm_deadline deadline;
    rm_waiter waiter;
    uint64_t grant;
    uint32_t calls;
    rm_status status;
    rm_thread thread;
} customer;

static void customer_run(void *user) {
    customer *c = (customer *)user;
    c->status = rm_waitq_wait(&c->s->queue, c, c->deadline, NULL, &c->grant);
}

static void customer_queue(customer *c, shop *s, uint32_t nth) {
    memset(c, 0, sizeof *c);
    c->s = s;
    CHECK_EQ(RM_OK, rm_thread_start(&c->thread, customer_run, c));
    rm_virtual_clock_await(&s->time, nth);
}

static rm_status customer_join(customer *c) {
    rm_thread_join(&c->thread);
    return c->status;
}

static void customer_done(rm_status status, uint64_t grant, void *user) {
    customer *c = (customer *)user;
    ++c->calls;
    c->status = status;
    c->grant = grant;
}

static void customer_add(customer *c, shop *s, rm_deadline deadline) {
    memset(c, 0, sizeof *c);
    c->s = s;
    CHECK_EQ(RM_OK, rm_waitq_add(&s->queue, &c->waiter, c, deadline, NULL, customer_done, c));
}

TEST(waitq_look, the_head_tries_by_itself_at_that_time) {
    shop s;
    customer a;
    shop_init(&s, 1, RM_SEC(5));
    customer_queue(&a, &s, 1);
    CHECK(s.looked_for == &a);
    CHECK_EQ(1, s.tries); /* at its coming */
    rm_virtual_clock_advance(&s.time, RM_SEC(5) - 1);
    CHECK_EQ(1, s.tries);
    rm_virtual_clock_advance(&s.time, 1);
    CHECK_EQ(RM_OK, customer_join(&a));
    CHECK_EQ(1, a.grant);
    shop_end(&s);
}

TEST(waitq_look, it_sleeps_on_when_that_was_in_vain) {
    shop s;
    customer a;
    shop_init(&s, 1, RM_SEC(5));
    s.next_ns = RM_SEC(1002);
    customer_queue(&a, &s, 1);
    rm_waitq_lock(&s.queue);
    s.next_ns = 0;
    rm_waitq_unlock(&s.queue);
    rm_virtual_clock_advance(&s.time, RM_SEC(2));
    rm_virtual_clock_await(&s.time, 1); /* it sleeps again */
    rm_waitq_lock(&s.queue);
    CHECK_EQ(2, s.tries);
    rm_waitq_unlock(&s.queue);
    rm_virtual_clock_advance(&s.time, RM_SEC(3));
    CHECK_EQ(RM_OK, customer_join(&a));
    CHECK_EQ(3, s.tries);
    shop_end(&s);
}

TEST(waitq_look, a_time_that_is_over_is_none) {
    shop s;
    customer a;
    shop_init(&s, 0, 0);
    s.next_ns = RM_SEC(1000); /* it would spin */
    customer_queue(&a, &s, 1);
    rm_virtual_clock_advance(&s.time, RM_SEC(1));
    rm_waitq_lock(&s.queue);
    CHECK_EQ(1, s.tries);
    ++s.units;
    rm_waitq_unlock(&s.queue);
    rm_waitq_notify(&s.queue);
    CHECK_EQ(RM_OK, customer_join(&a));
    shop_end(&s);
}

TEST(waitq_look, a_deadline_before_it_comes_first) {
    shop s;
    customer a;
    shop_init(&s, 1, RM_SEC(5));
    memset(&a, 0, sizeof a);
    a.s = &s;
    a.deadline.at_ns = RM_SEC(1003);
    CHECK_EQ(RM_OK, rm_thread_start(&a.thread, customer_run, &a));
    rm_virtual_clock_await(&s.time, 1);
    rm_virtual_clock_advance(&s.time, RM_SEC(3));
    CHECK_EQ(RM_E_TIMEOUT, customer_join(&a));
    CHECK_EQ(1, s.tries);
    shop_end(&s);
}

TEST(waitq_look, only_the_head_looks_and_the_next_head_after_it) {
    shop s;
    customer a, b;
    shop_init(&s, 2, RM_SEC(5));
    customer_queue(&a, &s, 1);
    customer_queue(&b, &s, 2);
    CHECK(s.looked_for == &a);
    rm_waitq_lock(&s.queue);
    CHECK_EQ(1, rm_waitq_complete(&s.queue, &a, RM_E_STALE, 0));
    CHECK(s.looked_for == &b);
    rm_waitq_unlock(&s.queue);
    CHECK_EQ(RM_E_STALE, customer_join(&a));
    rm_virtual_clock_advance(&s.time, RM_SEC(5));
    CHECK_EQ(RM_OK, customer_join(&b));
    CHECK_EQ(1, s.units);
    shop_end(&s);
}

TEST(waitq_look, a_new_head_misses_no_time_before_it_is_awake) {
    shop s;
    customer a, b;
    shop_init(&s, 1, RM_SEC(5));
    s.patient = &a;
    customer_add(&a, &s, never);
    customer_queue(&b, &s, 1);
    rm_waitq_lock(&s.queue);
    CHECK_EQ(1, rm_waitq_complete(&s.queue, &a, RM_E_STALE, 0));
    rm_virtual_clock_advance(&s.time, RM_SEC(5)); /* b is signalled, but has not got the lock */
    rm_waitq_unlock(&s.queue);
    CHECK_EQ(RM_OK, customer_join(&b));
    CHECK_EQ(RM_E_STALE, a.status);
    shop_end(&s);
}

TEST(waitq_look, expire_says_when_a_callback_at_the_head_may_be_served) {
    shop s;
    customer a, b;
    shop_init(&s, 2, RM_SEC(5));
    customer_add(&a, &s, never);
    CHECK_EQ(RM_SEC(1005), rm_waitq_expire(&s.queue));
    CHECK_EQ(0, a.calls);
    customer_add(&b, &s, rm_deadline_after(&s.clock, RM_SEC(4)));
    CHECK_EQ(RM_SEC(1004), rm_waitq_expire(&s.queue));
    rm_virtual_clock_advance(&s.time, RM_SEC(4));
    CHECK_EQ(RM_SEC(1005), rm_waitq_expire(&s.queue));
    CHECK_EQ(RM_E_TIMEOUT, b.status);
    rm_virtual_clock_advance(&s.time, RM_SEC(1));
    CHECK_EQ(INT64_MAX, rm_waitq_expire(&s.queue));
    CHECK_EQ(1, a.calls);
    CHECK_EQ(RM_OK, a.status);
    shop_end(&s);
}

/* ---- completions that become due inside others ---- */

typedef struct one_link {
    shop *s;
    customer own; /* its waiter */
    uint32_t calls, place;
    struct one_link *next, *last; /* what its end brings about, in this order */
    bool inside;
} one_link;

static void link_done(rm_status status, uint64_t grant, void *user) {
    one_link *l = (one_link *)user;
    (void)status, (void)grant;
    ++l->calls;
    l->place = ADD(places, 1);
    l->inside = true;
    if (l->next != NULL) {
        CHECK_EQ(RM_OK, rm_waitq_remove(&l->s->queue, &l->next->own.waiter));
        CHECK_EQ(RM_OK, rm_waitq_remove(&l->s->queue, &l->last->own.waiter));
        CHECK_EQ(0, l->next->calls + l->last->calls);
    }
    l->inside = false;
}

static void link_add(one_link *l, shop *s) {
    memset(l, 0, sizeof *l);
    l->s = s;
    CHECK_EQ(RM_OK, rm_waitq_add(&s->queue, &l->own.waiter, l, never, NULL, link_done, l));
}

#ifndef RM_NO_TLS /* without it they nest */
TEST(waitq_due, completions_inside_a_completion_come_after_it_in_order) {
    shop s;
    one_link first, second, third, inner;
    shop_init(&s, 0, 0);
    link_add(&first, &s);
    link_add(&second, &s);
    link_add(&third, &s);
    link_add(&inner, &s);
    first.next = &third;
    first.last = &second;
    places = 0;
    CHECK_EQ(RM_OK, rm_waitq_remove(&s.queue, &first.own.waiter));
    CHECK_EQ(1, first.place);
    CHECK_EQ(2, third.place);
    CHECK_EQ(3, second.place);
    CHECK_EQ(0, inner.calls);
    CHECK_EQ(RM_OK, rm_waitq_remove(&s.queue, &inner.own.waiter));
    CHECK_EQ(4, inner.place);
    shop_end(&s);
}
#endif

TEST(waitq_due, a_batch_keeps_the_order_of_the_queue) {
    shop s;
    one_link links[5];
    uint32_t i;
    shop_init(&s, 0, 0);
    for (i = 0; i < 5; ++i)
        link_add(&links[i], &s);
    links[0].next = NULL;
    places = 0;
    rm_waitq_close(&s.queue);
    for (i = 0; i < 5; ++i)
        CHECK_EQ(i + 1, links[i].place);
    shop_end(&s);
}

#ifndef RM_NO_TLS /* without it they nest */
static void wait_inside(rm_status status, uint64_t grant, void *user) {
    one_link *l = (one_link *)user;
    (void)status, (void)grant;
    ++l->calls;
    CHECK_EQ(RM_OK, rm_waitq_remove(&l->s->queue, &l->next->own.waiter));
    CHECK_EQ(0, l->next->calls);
    CHECK_EQ(RM_E_TIMEOUT,
             rm_waitq_wait(&l->s->queue, NULL, rm_deadline_after(&l->s->clock, 1), NULL, &grant));
    CHECK_EQ(1, l->next->calls);
}

/* Ends the wait once what was due has come. */
static void pass_when_waiting(void *user) {
    shop *s = (shop *)user;
    rm_virtual_clock_await(&s->time, 1);
    CHECK_EQ(2, GET(places));
    rm_virtual_clock_advance(&s->time, 1);
}

TEST(waitq_due, they_come_before_their_thread_waits) {
    shop s;
    one_link first, second;
    rm_thread thread;
    shop_init(&s, 0, 0);
    s.next_ns = INT64_MAX;
    memset(&first, 0, sizeof first);
    first.s = &s;
    first.next = &second;
    CHECK_EQ(RM_OK,
             rm_waitq_add(&s.queue, &first.own.waiter, &first, never, NULL, wait_inside, &first));
    link_add(&second, &s);
    SET(places, 1);
    CHECK_EQ(RM_OK, rm_thread_start(&thread, pass_when_waiting, &s));
    CHECK_EQ(RM_OK, rm_waitq_remove(&s.queue, &first.own.waiter));
    CHECK_EQ(1, first.calls);
    CHECK_EQ(1, second.calls);
    rm_thread_join(&thread);
    shop_end(&s);
}
#endif

TEST_MAIN

/* Pool operations against a ledger: what each resource is, since when, and what was asked of it.

   The model knows no slots, queues or words.  Every hook looks up in the ledger whether it may be
   called now, and writes down what it answers; after each operation the ledger says whether its
   status can be true, what the statistics are, and that nothing is left undone: nobody waits beside
   what is free, nothing is kept that should have ended.  While an acquire or a close waits, and
   inside some hooks, the input may do one more thing, as another thread would. */
#define RM_IMPLEMENTATION
#include "rm_pool.h"
#include "fuzz.h"

enum { CAPACITY = 6, LEASES = 256, MADE = 1024, REQUESTS = 96, LONGEST = 1024 };

typedef enum where { NOT_MADE, MOVING, IDLE, HELD, ENDED, OURS } where;

/* A resource. */
typedef struct thing {
    where where;
    int depth; /* of the operation in whose hands it is, while MOVING */
    int64_t born_ns, used_ns, checked_ns;
    uint32_t generation, doubt; /* the pool's when it was made; when it was made or checked */
    bool evicted, refused;      /* refused by validate_fn or reset_fn */
    bool returned;              /* given back for the pool to end it */
    int cause;                  /* why it may end then; RM_POOL_CAUSES = it may not */
    int lease, permit;
} thing;

/* A wait of its own kind: an asynchronous acquire. */
typedef struct request {
    rm_pool_request request;
    int permit;
    int64_t deadline_ns;
    bool waits, cancelled, cancellable;
} request;

/* An operation that is running. */
typedef struct frame {
    struct frame *outer;
    uint32_t generation; /* of the pool, when it began */
    int64_t looked_ns;   /* when it began, or its last wait ended */
    bool makes_idle;     /* a create may be called beside what is idle */
    bool upkeep;
    bool waited, failed; /* a create has failed */
    uint32_t ended;      /* resources, in it */
} frame;

static struct world {
    fuzz_input *in;
    fuzz_clock time;
    rm_clock clock;
    rm_random random;
    rm_env env;
    rm_guard guard;
    rm_cancel cancel;
    rm_pool *pool;
    rm_pool_desc desc; /* as handed in */
    rm_pool_sizes sizes;
    rm_lease leases[LEASES];
    thing things[MADE]; /* the address is the resource */
    request requests[REQUESTS];
    int outcome[MADE]; /* of each permit: 0 = admitted, -1 = refused or none, else 1 + outcome */
    int lease_count, last_made, last_permit, last_request;
    frame *top;
    int depth, making;
    bool closed, suspended, maintaining;
    uint32_t generation, doubt;
    uint32_t failures;            /* creates in vain, one after the other */
    int64_t retry_ns, doubled_ns; /* doubled: if the last failure counts */
    int64_t failed_ns;            /* when a create failed last */
    rm_status last_error;
    uint32_t unclaimed; /* failed creates whose status nobody has got yet */
    rm_pool_stats stats;
} w;

static void nested(int choice);
static void do_release(int index, uint32_t forged, rm_release how);

/* >>the ledger */

static int number_of(const void *resource) {
    return (int)((const thing *)resource - w.things);
}

static uint32_t count(where what) {
    uint32_t n = 0;
    for (int i = 1; i <= w.last_made; ++i)
        n += w.things[i].where == what;
    return n;
}

static uint32_t alive(void) {
    return count(MOVING) + count(IDLE) + count(HELD);
}

static uint32_t waiting(void) {
    uint32_t n = 0;
    for (int i = 0; i < w.last_request; ++i)
        n += w.requests[i].waits;
    return n;
}

/* Of creates that fail side by side the first counts, which one was is the pool's to know. */
static void learn_backoff(void) {
    const rmi_endpoint *e = w.pool->endpoints;
    if (w.doubled_ns == 0 || e->failures == w.failures) return;
    CHECK_EQ(w.failures + 1, e->failures);
    if (e->retry_ns != RMI_POOL_PROBED) CHECK_EQ(w.doubled_ns, e->retry_ns);
    w.failures = e->failures;
    w.retry_ns = w.doubled_ns;
    w.doubled_ns = 0;
}

static bool backing_off(void) {
    learn_backoff();
    return w.failures > 0 && w.time.now < w.retry_ns;
}

static int64_t fresh_ns(void) {
    const int64_t after = w.desc.validate_after_ns;
    return after == 0 ? RM_MS(500) : after == RM_STRICT ? 0 : after == RM_NONE ? INT64_MAX : after;
}

static bool fresh(const thing *t, int64_t now) {
    return t->doubt == w.doubt &&
           (now - t->used_ns < fresh_ns() || now - t->checked_ns < fresh_ns());
}

static bool old(const thing *t, int64_t now) {
    return w.desc.max_lifetime_ns != 0 && now - t->born_ns >= w.desc.max_lifetime_ns;
}

static bool superseded(const thing *t) {
    return t->evicted || t->generation != w.generation;
}

static int64_t idle_timeout(void) {
    return w.desc.idle_timeout_ns == 0 ? RM_MINUTES(10) : w.desc.idle_timeout_ns;
}

/* May this resource end, for this cause? */
static bool may_end(const thing *t, rm_pool_cause cause) {
    switch (cause) {
    case RM_POOL_CAUSE_BROKEN:
    case RM_POOL_CAUSE_RESET: return t->returned && t->cause == (int)cause;
    case RM_POOL_CAUSE_INVALID:
        return t->refused && !(t->returned && t->cause != RM_POOL_CAUSE_INVALID);
    case RM_POOL_CAUSE_IDLE:
        return w.top->upkeep && idle_timeout() != RM_NONE &&
               w.top->looked_ns - t->used_ns >= idle_timeout() && count(IDLE) > w.sizes.min_idle;
    case RM_POOL_CAUSE_LIFETIME: return old(t, w.time.now);
    case RM_POOL_CAUSE_EVICTED: return superseded(t);
    case RM_POOL_CAUSE_SURPLUS:
        /* those who are told next that they may make one have a place, too */
        return alive() + (uint32_t)(w.making + w.depth - 1) + waiting() > w.sizes.max ||
               count(IDLE) + count(MOVING) > w.sizes.max_idle;
    default: return w.closed;
    }
}

/* >>hooks: the input decides what they answer */

static rm_status answer(void) {
    static const rm_status no[] = {RM_E_FAILED, RM_E_REFUSED, RM_E_CLOSED};
    const uint32_t byte = fuzz_byte(w.in);
    return byte % 8 > 4 ? no[byte % 8 - 5] : RM_OK;
}

/* Fixed random numbers: always the same share of the wait is taken away. */
static uint64_t half(void *user) {
    (void)user;
    return UINT64_C(1) << 63;
}

static void create_has_failed(rm_status status) {
    const int64_t most = w.desc.create_backoff_max_ns;
    int64_t wait = w.desc.create_backoff_ns;
    ++w.stats.create_failures;
    ++w.unclaimed;
    w.last_error = status;
    w.failed_ns = w.time.now;
    for (uint32_t i = 0; wait != RM_NONE && i < w.failures && wait < most; ++i)
        wait *= 2;
    if (wait > most) wait = most;
    if (wait == RM_NONE)
        wait = -w.time.now; /* retry_ns is 0 then */
    else
        wait -= (int64_t)rm_random_below(&w.random, (uint64_t)wait / 2 + 1);
    w.doubled_ns = w.time.now + wait;
    if (w.failures > 0) return; /* perhaps; see learn_backoff */
    w.retry_ns = w.doubled_ns;
    w.failures = 1;
    w.doubled_ns = 0;
}

static rm_status create_fn(void **resource, rm_deadline deadline, rm_error *error, void *user) {
    const rm_status status = answer();
    const uint32_t more = fuzz_below(w.in, 8), generation = w.generation, doubt = w.doubt;
    thing *t;
    (void)error, (void)deadline;
    CHECK(user == &w && !w.closed);
    CHECK(!backing_off() || (w.top->failed && w.last_request > 0)); /* or promised before */
    CHECK(alive() + (uint32_t)w.making < w.sizes.max + w.sizes.overflow || alive() == 0);
    if (w.desc.max_creating != 0) CHECK((uint32_t)w.making < w.desc.max_creating);
    if (!w.top->makes_idle && !w.top->waited) CHECK(count(IDLE) == 0 || w.top->ended > 0);
    ++w.making;
    if (more == 1) w.time.now += RM_MS(2);
    if (more >= 2 && more <= 3 && w.depth == 1) nested(more == 2 ? 1 : 5);
    --w.making;
    if (status != RM_OK || more == 4) { /* 4: no resource, yet RM_OK */
        create_has_failed(status == RM_OK ? RM_E_FAILED : status);
        for (frame *f = w.top; f != NULL; f = f->outer)
            f->failed = true;
        return status;
    }
    CHECK(w.last_made < MADE - 1);
    t = &w.things[++w.last_made];
    t->where = MOVING;
    t->depth = w.depth;
    t->born_ns = t->used_ns = t->checked_ns = w.time.now;
    t->generation = generation;
    t->evicted = generation != w.generation; /* while it was being made */
    t->doubt = doubt;
    w.failures = 0;
    w.doubled_ns = 0;
    ++w.stats.created;
    *resource = t;
    return RM_OK;
}

static void destroy_fn(void *resource, void *user) {
    thing *t = (thing *)resource;
    bool may = false;
    CHECK(user == &w);
    CHECK(t->where == IDLE || t->where == MOVING); /* once, and only what nobody holds */
    for (int cause = 0; cause < RM_POOL_CAUSES; ++cause)
        may = may || may_end(t, (rm_pool_cause)cause);
    CHECK(may);
    ++w.top->ended;
    if (w.desc.event_fn != NULL) return; /* which says why */
    t->where = ENDED;
    ++w.stats.destroyed;
}

static rm_status validate_fn(void *resource, void *user) {
    thing *t = (thing *)resource;
    const bool returns = t->where == MOVING && t->returned && w.desc.validate_on_release;
    const int64_t keep = w.desc.keepalive_ns, now = w.top->looked_ns;
    const rm_status status = answer();
    bool due;
    CHECK(user == &w && (t->where == IDLE || t->where == MOVING) && !t->refused);
    due = keep != 0 && now - t->used_ns >= keep && now - t->checked_ns >= keep;
    if (returns)
        CHECK_EQ(RM_POOL_CAUSES, t->cause);
    else if (!w.top->upkeep || !due)
        CHECK(!fresh(t, w.time.now) && !old(t, now) && !superseded(t) &&
              !(w.top->upkeep && waiting() == 0));
    t->depth = w.depth;
    t->returned = returns && status != RM_OK;
    t->where = MOVING;
    t->refused = status != RM_OK;
    if (status == RM_OK) {
        t->checked_ns = w.time.now;
        t->doubt = w.doubt;
    } else {
        ++w.doubt;
        t->cause = RM_POOL_CAUSE_INVALID;
    }
    return status;
}

static rm_status reset_fn(void *resource, void *user) {
    thing *t = (thing *)resource;
    const rm_status status = answer();
    CHECK(user == &w && t->where == MOVING && t->returned && t->cause == RM_POOL_CAUSES);
    CHECK(!superseded(t) && !old(t, w.time.now) && !w.closed);
    if (status != RM_OK) {
        t->cause = RM_POOL_CAUSE_RESET;
        t->refused = true;
        if (w.desc.validate_fn != NULL) ++w.doubt;
    }
    return status;
}

static void event_fn(const rm_pool_event *event, void *user) {
    thing *t = (thing *)event->resource;
    CHECK(user == &w && strcmp(event->pool, "pool") == 0);
    if (event->kind != RM_POOL_EVENT_DESTROYED) return;
    CHECK(t->where == IDLE || t->where == MOVING);
    CHECK(may_end(t, event->cause));
    CHECK_EQ(w.time.now - t->born_ns, event->ns);
    t->where = ENDED;
    ++w.stats.destroyed;
    ++w.stats.ended[event->cause];
}

static rm_status admit_fn(rm_permit *permit, rm_error *error, void *user) {
    const rm_status status = fuzz_below(w.in, 8) == 1 ? RM_E_REJECTED : RM_OK;
    (void)error;
    CHECK(user == &w && ++w.last_permit < MADE);
    permit->word = (uint64_t)w.last_permit;
    w.outcome[w.last_permit] = status == RM_OK ? 0 : -1;
    w.stats.rejected += status != RM_OK;
    return status;
}

static void report_fn(rm_permit *permit, rm_outcome outcome, void *user) {
    CHECK(user == &w && permit->word > 0 && permit->word < MADE);
    CHECK_EQ(0, w.outcome[permit->word]); /* every permit is reported once */
    w.outcome[permit->word] = 1 + (int)outcome;
}

static void check_outcome(int permit, rm_outcome outcome) {
    if (permit != 0) CHECK_EQ(1 + (int)outcome, w.outcome[permit]);
}

/* >>operations */

static void enter(frame *f) {
    memset(f, 0, sizeof *f);
    f->outer = w.top;
    f->looked_ns = w.time.now;
    f->generation = w.generation;
    w.top = f;
    ++w.depth;
}

/* What is still in its hands and has not ended is idle. */
static void leave(frame *f) {
    for (int i = 1; i <= w.last_made; ++i) {
        thing *t = &w.things[i];
        if (t->where != MOVING || t->depth != w.depth) continue;
        CHECK(!t->refused && !(t->returned && t->cause < RM_POOL_CAUSES));
        t->where = IDLE;
        t->lease = t->permit = 0;
        t->returned = false;
    }
    w.top = f->outer;
    --w.depth;
}

static void check_error(rm_status status, const rm_error *error) {
    CHECK_EQ(status, error->status); /* RM_OK = 0: left alone */
    CHECK((status == RM_OK) == (error->message[0] == '\0'));
}

/* Somebody gets a resource. */
static void lend(const rm_lease *lease, int permit) {
    thing *t = (thing *)lease->resource;
    CHECK(number_of(t) > 0 && number_of(t) <= w.last_made);
    CHECK(t->where == IDLE || t->where == MOVING);
    CHECK(!t->refused && !t->evicted && t->generation >= w.top->generation);
    if (t->where == IDLE) { /* it was not checked */
        CHECK(!old(t, w.top->looked_ns));
        if (w.desc.validate_fn != NULL) CHECK(fresh(t, w.top->looked_ns));
    }
    CHECK(w.lease_count < LEASES);
    t->where = HELD;
    t->permit = permit;
    t->returned = false;
    t->lease = w.lease_count++;
    w.leases[t->lease] = *lease;
    if (permit != 0) CHECK_EQ(0, w.outcome[permit]);
    ++w.stats.acquired;
}

/* Is there a resource that is lent, or will be? Not one that is about to be ended. */
static bool some_left(void) {
    for (uint32_t i = 0; i < w.pool->capacity; ++i) {
        const thing *t = (const thing *)rmi_pool_resource_of(&w.pool->slots[i]);
        const bool ends = rmi_slot_state(w.pool->slots[i].word) == RMI_SLOT_CLOSING;
        if (t != NULL && (t->where == HELD || (t->where == IDLE && !ends))) return true;
    }
    return false;
}

/* Somebody gets none: can that be? */
static void refuse(rm_status status, bool over, bool cancelled, int permit) {
    const bool ours = w.closed && status == RM_E_CLOSED;
    bool failed = false;
    w.stats.timeouts += status == RM_E_TIMEOUT;
    if (status == RM_E_TIMEOUT) {
        CHECK(over);
    } else if (status == RM_E_CANCELLED) {
        CHECK(cancelled);
    } else if (!(ours && w.unclaimed == 0)) {
        failed = w.unclaimed > 0;
        if (!ours) CHECK_EQ(w.last_error, status);
        if (!failed) CHECK(backing_off() && !some_left());
        w.unclaimed -= failed;
        w.stats.failed_fast += !failed;
    }
    check_outcome(permit, failed && !ours ? RM_OUTCOME_FAILURE : RM_OUTCOME_IGNORE);
}

/* What the next acquire must lend if it need not check or wait: the slot of its thread, for a
   while and if its deadline is not near, else the lowest. */
static thing *expected(bool hinted) {
    const bool direct = w.desc.guard == NULL;
    const rmi_pool_hint *hint = &rmi_pool_hints[w.pool->number % RMI_POOL_HINTS];
    thing *lowest = NULL;
    for (uint32_t i = 0; i < w.pool->capacity; ++i) {
        thing *t = (thing *)rmi_pool_resource_of(&w.pool->slots[i]);
        if (t == NULL || t->where != IDLE) continue;
        if (lowest == NULL) lowest = t;
        if (direct && hinted && hint->pool == w.pool->number && i == hint->slot &&
            w.time.now - hint->since_ns < RM_MS(10) && !old(t, w.time.now) &&
            (w.desc.validate_fn == NULL ||
             (w.time.now - t->used_ns < fresh_ns() && t->doubt == w.doubt)))
            return t;
    }
    return lowest;
}

static bool passed(int64_t deadline_ns) {
    return deadline_ns != 0 && w.time.now >= deadline_ns;
}

/* Why a try may find nothing. */
static bool may_be_busy(void) {
    return w.suspended || waiting() > 0 || backing_off() ||
           (count(IDLE) == 0 &&
            (alive() + (uint32_t)w.making >= w.sizes.max + w.sizes.overflow ||
             (w.desc.max_creating != 0 && (uint32_t)w.making >= w.desc.max_creating)));
}

static void do_acquire(bool timed) {
    const int64_t timeout = FUZZ_CHOOSE(w.in, 0, RM_NOWAIT, RM_FOREVER, 1000, RM_MS(1), RM_SEC(1),
                                        INT64_MAX, RM_NONE, RM_STRICT, INT64_MIN);
    const int64_t at = FUZZ_CHOOSE(w.in, 0, INT64_MIN, INT64_MAX, w.time.now - 1, w.time.now,
                                   w.time.now + 1, w.time.now + RM_MS(3));
    const rm_deadline deadline = {timed ? 0 : at == 0 && !timed ? 0 : at};
    const int64_t usual = w.desc.acquire_timeout_ns == 0 ? RM_SEC(30) : w.desc.acquire_timeout_ns;
    const int64_t asked = timeout == 0 ? usual : timeout;
    const int64_t until = !timed                ? at
                          : asked == RM_FOREVER ? 0
                          : asked < 0           ? INT64_MIN
                                                : rm_time_add(w.time.now, asked);
    const bool cancelled = !timed && rm_cancel_requested(&w.cancel);
    const bool was_full = w.desc.max_waiters != 0 && waiting() >= w.desc.max_waiters;
    const bool was_closed = w.closed, busy = may_be_busy();
    const int permits = w.last_permit, made = w.last_made;
    const bool far_off = at == 0 || (at > 0 && at >= w.time.now + RM_MS(20));
    thing *const likely = expected(timed || far_off);
    rm_lease lease = {NULL, 77, 0, 0};
    rm_error error = {0, RM_OK, "", ""};
    int permit;
    rm_status status;
    frame f;
    enter(&f);
    status = timed ? rm_pool_acquire(w.pool, timeout, &lease, &error)
                   : rm_pool_acquire_until(w.pool, deadline, &w.cancel, &lease, &error);
    check_error(status, &error);
    permit = w.last_permit > permits ? permits + 1 : 0;
    if (status != RM_OK) CHECK(lease.resource == NULL && lease.sequence == 77);
    if (timed && !rm_timeout_valid(timeout)) {
        CHECK_EQ(RM_E_INVALID, status);
    } else if (cancelled) {
        CHECK_EQ(RM_E_CANCELLED, status);
    } else if (permit != 0 && w.outcome[permit] < 0) {
        CHECK_EQ(RM_E_REJECTED, status);
    } else if (status == RM_OK) {
        CHECK(!was_closed && (!w.suspended || f.waited));
        if (likely != NULL && !f.waited && f.ended == 0 && made == w.last_made &&
            w.time.now == f.looked_ns && !old(likely, w.time.now))
            CHECK_EQ(number_of(likely), number_of(lease.resource));
        lend(&lease, permit);
    } else if (status == RM_E_BUSY) {
        CHECK(timed && asked == RM_NOWAIT && busy);
        check_outcome(permit, RM_OUTCOME_IGNORE);
    } else if (status == RM_E_FULL) {
        CHECK(was_full);
        ++w.stats.refused;
        check_outcome(permit, RM_OUTCOME_IGNORE);
    } else {
        refuse(status, passed(until), !timed && rm_cancel_requested(&w.cancel), permit);
    }
    leave(&f);
}

static void acquired_fn(rm_status status, const rm_lease *lease, const rm_error *error,
                        void *user) {
    request *r = (request *)user;
    CHECK(r->waits);
    r->waits = false;
    if (status == RM_OK) {
        CHECK(error == NULL && !w.closed);
        w.top->looked_ns = w.time.now;
        lend(lease, r->permit);
        if (fuzz_below(w.in, 8) != 1) return;
        w.top->makes_idle = true; /* beside others, who have been promised a place */
        do_release(w.lease_count - 1, 0, RM_RELEASE_OK);
        return;
    }
    CHECK(lease == NULL);
    check_error(status, error);
    refuse(status, passed(r->deadline_ns),
           r->cancelled || (r->cancellable && rm_cancel_requested(&w.cancel)), r->permit);
}

static void do_async(void) {
    const rm_deadline deadline = {
        FUZZ_CHOOSE(w.in, 0, INT64_MIN, w.time.now + 1, w.time.now + RM_MS(3))};
    const bool cancellable = fuzz_below(w.in, 2) == 1;
    const bool was_cancelled = cancellable && rm_cancel_requested(&w.cancel);
    const bool was_full = w.desc.max_waiters != 0 && waiting() >= w.desc.max_waiters;
    const int permits = w.last_permit;
    rm_error error = {0, RM_OK, "", ""};
    request *r = &w.requests[w.last_request];
    rm_status status;
    frame f;
    if (w.last_request == REQUESTS - 1) return;
    ++w.last_request;
    enter(&f);
    memset(r, 0, sizeof *r);
    r->deadline_ns = deadline.at_ns;
    r->cancellable = cancellable;
    r->permit = w.desc.guard == NULL ? 0 : permits + 1;
    r->waits = true;
    status = rm_pool_acquire_async(w.pool, &r->request, deadline, cancellable ? &w.cancel : NULL,
                                   acquired_fn, &error, r);
    check_error(status, &error);
    if (status != RM_OK) {
        CHECK(r->waits);
        r->waits = false;
        if (w.last_permit == permits) r->permit = 0; /* it was refused before the guard was asked */
        CHECK(status == RM_E_REJECTED ? w.outcome[r->permit] < 0
              : status == RM_E_CLOSED ? w.closed
              : status == RM_E_FULL   ? was_full
                                      : status == RM_E_CANCELLED && was_cancelled);
        w.stats.refused += status == RM_E_FULL;
        if (status != RM_E_REJECTED) check_outcome(r->permit, RM_OUTCOME_IGNORE);
    }
    leave(&f);
}

static void do_request_cancel(void) {
    request *r;
    bool waited;
    frame f;
    if (w.last_request == 0) return;
    r = &w.requests[fuzz_below(w.in, (uint32_t)w.last_request)];
    if (r->request.pool == NULL) return; /* it was rejected */
    enter(&f);
    waited = r->waits;
    r->cancelled = true;
    CHECK_EQ(waited ? RM_OK : RM_E_STALE, rm_pool_request_cancel(&r->request));
    CHECK(!r->waits);
    leave(&f);
}

/* Which resource has a lease; NULL = it was given back. */
static thing *leased(int index) {
    for (int i = 1; i <= w.last_made; ++i)
        if (w.things[i].where == HELD && w.things[i].lease == index) return &w.things[i];
    return NULL;
}

/* What a lease that was misused is; RM_OK = it may be given back. */
static rm_status forge(rm_lease *lease, uint32_t how, bool out) {
    if (how == 1) ++lease->pool;
    if (how == 2) lease->sequence += 2 * LEASES; /* of a lease to come */
    if (how == 3) lease->resource = NULL;
    if (how == 4) lease->slot = CAPACITY;
    if (lease->resource == NULL) return RM_E_STALE;
    if (how == 1 || how == 4) return RM_E_FOREIGN;
    return how == 2 || !out ? RM_E_STALE : RM_OK;
}

static void do_release(int index, uint32_t forged, rm_release how) {
    static const rm_lease none = {NULL, 0, 0, 0};
    rm_lease lease = w.leases[index];
    thing *t = leased(index);
    const rm_status wanted = forge(&lease, forged, t != NULL);
    const rm_lease before = lease;
    const int permit = t == NULL ? 0 : t->permit;
    const bool valid = (unsigned)how <= RM_RELEASE_BROKEN;
    rm_status status;
    frame f;
    enter(&f);
    if (valid && wanted == RM_OK) {
        t->where = MOVING;
        t->depth = w.depth;
        t->returned = true;
        t->refused = false;
        t->cause = how == RM_RELEASE_BROKEN ? RM_POOL_CAUSE_BROKEN : RM_POOL_CAUSES;
        t->used_ns = w.time.now;
        if (how == RM_RELEASE_BROKEN && w.desc.validate_fn != NULL) ++w.doubt;
    }
    status = rm_pool_release(w.pool, &lease, how);
    CHECK_EQ(valid ? wanted : RM_E_INVALID, status);
    CHECK_SAME(&lease, status == RM_OK ? &none : &before);
    if (status == RM_OK)
        check_outcome(permit, how == RM_RELEASE_OK ? RM_OUTCOME_OK : RM_OUTCOME_FAILURE);
    leave(&f);
}

/* Any lease that ever was, or one that is out. */
static int some_lease(void) {
    const uint32_t byte = fuzz_byte(w.in);
    uint32_t skip = byte % 8;
    if (byte >= 192 || count(HELD) == 0)
        return w.lease_count == 1 ? 0 : 1 + (int)byte % (w.lease_count - 1);
    for (;;)
        for (int i = 1; i <= w.last_made; ++i)
            if (w.things[i].where == HELD && skip-- == 0) return w.things[i].lease;
}

static void release_some(void) {
    static const rm_release hows[] = {RM_RELEASE_OK,     RM_RELEASE_OK,     RM_RELEASE_OK,
                                      RM_RELEASE_FAILED, RM_RELEASE_BROKEN, (rm_release)3};
    const int index = some_lease();
    const uint32_t how = fuzz_below(w.in, 6), forged = fuzz_below(w.in, 16);
    if (index > 0) do_release(index, forged, hows[how]);
}

static void do_detach(void) {
    const int index = some_lease();
    thing *t = leased(index);
    rm_lease lease = w.leases[index];
    const rm_status wanted = forge(&lease, fuzz_below(w.in, 16), t != NULL);
    const int permit = t == NULL ? 0 : t->permit;
    void *out = NULL;
    frame f;
    enter(&f);
    if (wanted == RM_OK) t->where = OURS; /* at once: its place is given to who waits */
    CHECK_EQ(wanted, rm_pool_detach(w.pool, &lease, &out));
    if (wanted == RM_OK) {
        CHECK(out == t);
        check_outcome(permit, RM_OUTCOME_OK);
        ++w.stats.detached;
    }
    leave(&f);
}

static void do_close(int64_t timeout, bool as_resource) {
    const rm_resource resource = rm_pool_resource(w.pool);
    const int64_t bound = timeout == 0 ? RM_SEC(8) : timeout;
    const int64_t until = bound == RM_FOREVER ? INT64_MAX : rm_time_add(w.time.now, bound);
    const rm_deadline deadline = rm_deadline_after(&w.clock, bound);
    rm_error error = {0, RM_OK, "", ""};
    rm_status status;
    frame f;
    enter(&f);
    w.closed = true; /* from now on: what is released while it waits is destroyed */
    status = as_resource ? resource.stop_fn(resource.user, deadline, &error)
                         : rm_pool_close(w.pool, timeout, &error);
    check_error(status, &error);
    if (w.depth == 1) CHECK_EQ(0, waiting() + count(IDLE)); /* else some may be promised */
    if (status == RM_OK)
        CHECK(alive() == 0 && w.making == 0);
    else
        CHECK_EQ(timeout == RM_NOWAIT ? RM_E_BUSY : RM_E_TIMEOUT, status);
    if (status == RM_E_TIMEOUT) CHECK(w.time.now >= until);
    if (status != RM_OK) CHECK(alive() > 0 || w.making > 0);
    leave(&f);
}

static void check_upkeep_done(int64_t began_ns);

/* rm_pool_maintain, or the start of the pool's resource. */
static void do_upkeep(bool starts) {
    const rm_deadline deadline = {FUZZ_CHOOSE(w.in, 0, INT64_MIN, w.time.now + 5)};
    const uint32_t budget = starts ? 0 : fuzz_below(w.in, 4);
    const rm_resource resource = rm_pool_resource(w.pool);
    const bool nested_here = w.maintaining, closed = w.closed;
    const bool out = alive() > 0 || w.making > 0;
    const uint32_t failures = (uint32_t)w.stats.create_failures;
    rm_error error = {0, RM_OK, "", ""};
    rm_status status;
    frame f;
    enter(&f);
    f.makes_idle = true;
    f.upkeep = !starts;
    if (starts && closed && !out) {
        w.closed = false; /* a hook may close it again */
        ++w.generation;
    }
    w.maintaining = !starts || nested_here;
    status = starts ? resource.start_fn(resource.user, deadline, &error)
                    : rm_pool_maintain(w.pool, budget, deadline, &error);
    w.maintaining = nested_here;
    check_error(status, &error);
    if (starts && closed && out) {
        CHECK_EQ(RM_E_BUSY, status);
    } else if (!starts && closed) {
        CHECK_EQ(RM_E_CLOSED, status);
    } else if (!starts && nested_here) {
        CHECK_EQ(RM_E_BUSY, status);
    } else if (status == RM_E_TIMEOUT) {
        CHECK(starts && passed(deadline.at_ns));
    } else if (status != RM_OK && !(w.closed && status == RM_E_CLOSED)) {
        CHECK_EQ(w.last_error, status);
        if (w.unclaimed > 0) --w.unclaimed;
    }
    if (w.closed && w.unclaimed > 0) --w.unclaimed; /* it failed, and the pool was closed */
    leave(&f);
    if (!starts && status == RM_OK && !nested_here && budget == 0 && !passed(deadline.at_ns) &&
        failures == (uint32_t)w.stats.create_failures)
        check_upkeep_done(f.looked_ns);
}

/* Nothing is left to do for an upkeep with time. */
static void check_upkeep_done(int64_t began_ns) {
    for (int i = 1; i <= w.last_made; ++i) {
        const thing *t = &w.things[i];
        if (t->where != IDLE) continue;
        CHECK(!old(t, began_ns));
        CHECK(idle_timeout() == RM_NONE || began_ns - t->used_ns < idle_timeout() ||
              count(IDLE) <= w.sizes.min_idle);
        CHECK(w.desc.validate_fn == NULL || w.desc.keepalive_ns == 0 ||
              began_ns - t->used_ns < w.desc.keepalive_ns ||
              began_ns - t->checked_ns < w.desc.keepalive_ns);
    }
    if (!backing_off() && w.depth == 0)
        CHECK(count(IDLE) >= w.sizes.min_idle || alive() >= w.sizes.max);
}

static void do_resize(void) {
    const rm_pool_sizes sizes = {fuzz_below(w.in, CAPACITY + 2), fuzz_below(w.in, 3),
                                 fuzz_below(w.in, 3), fuzz_below(w.in, 5)};
    rm_pool_sizes full = sizes;
    const char *bad = NULL;
    rm_error error = {0, RM_OK, "", ""};
    rm_status status;
    frame f;
    if (full.max == 0) full.max = 10;
    if (full.max_idle == 0) full.max_idle = full.max;
    if (full.max_idle < full.min_idle || full.max_idle > full.max) bad = "max_idle";
    if (full.min_idle > full.max) bad = "min_idle";
    if (full.max + full.overflow > CAPACITY) bad = "max";
    enter(&f);
    if (bad == NULL) w.sizes = full;
    status = rm_pool_resize(w.pool, &sizes, &error);
    check_error(status, &error);
    CHECK_EQ(bad == NULL ? RM_OK : RM_E_INVALID, status);
    if (bad != NULL) CHECK(strcmp(bad, error.where) == 0);
    leave(&f);
}

static void do_suspend(bool suspend) {
    frame f;
    enter(&f);
    w.suspended = suspend;
    CHECK_EQ(RM_OK, suspend ? rm_pool_suspend(w.pool) : rm_pool_resume(w.pool));
    leave(&f);
}

static void do_evict_all(void) {
    frame f;
    enter(&f);
    ++w.generation;
    CHECK_EQ(RM_OK, rm_pool_evict_all(w.pool));
    leave(&f);
}

static void do_evict(void) {
    thing *t = &w.things[w.last_made == 0 ? 0 : 1 + (int)fuzz_below(w.in, (uint32_t)w.last_made)];
    const where before = t->where;
    rm_status status;
    frame f;
    enter(&f);
    if (before == IDLE || before == HELD) t->evicted = true;
    status = rm_pool_evict(w.pool, t);
    CHECK_EQ(before == IDLE || before == HELD ? RM_OK : RM_E_NOT_FOUND, status);
    if (before == IDLE) CHECK(w.desc.destroy_fn == NULL || t->where == ENDED);
    leave(&f);
}

/* The child forgets what the parent has; its leases and requests are stale. */
static void do_fork(void) {
    const rm_pool_sizes sizes = w.sizes;
    CHECK_EQ(RM_OK, rm_pool_after_fork_child(w.pool));
    CHECK_EQ(RM_OK, rm_cancel_init(&w.cancel)); /* the parent's waits are on it */
    for (int i = 1; i <= w.last_made; ++i)
        if (w.things[i].where != ENDED) w.things[i].where = OURS;
    for (int i = 0; i < w.last_request; ++i) {
        if (w.requests[i].waits)
            CHECK_EQ(RM_E_STALE, rm_pool_request_cancel(&w.requests[i].request));
        w.requests[i].waits = false;
    }
    memset(&w.stats, 0, sizeof w.stats);
    w.sizes = sizes;
    w.closed = w.suspended = false;
    w.failures = w.unclaimed = 0;
    w.doubled_ns = 0;
}

/* What runs inside a hook or a wait. */
static void nested(int choice) {
    if (choice == 1 && !w.closed) do_close(RM_NOWAIT, false);
    if (choice == 2) release_some();
    if (choice == 3) do_upkeep(false);
    if (choice == 4) rm_cancel_request(&w.cancel);
    if (choice == 5) do_evict_all();
    if (choice == 6) do_resize();
}

static void release_one(void) {
    for (int i = 1; i <= w.last_made; ++i) {
        if (w.things[i].where != HELD) continue;
        do_release(w.things[i].lease, 0, RM_RELEASE_OK);
        return;
    }
}

/* A wait: another thread does one thing, or time passes.  Whoever waits for ever gets his way. */
static void wait_fn(int64_t until_ns) {
    const uint32_t choice = fuzz_below(w.in, 8);
    if (w.time.now >= until_ns) return;                /* a hook has taken the time */
    CHECK(w.closed ? count(HELD) > 0 : may_be_busy()); /* else why wait? */
    w.top->waited = true;
    if (choice == 1 || choice == 2 || choice == 4 || choice == 6)
        nested((int)choice);
    else if (choice == 5)
        w.time.now += 700;
    else if (until_ns != INT64_MAX)
        w.time.now = until_ns;
    else if (w.suspended && !w.closed)
        do_suspend(false);
    else if (count(HELD) > 0)
        release_one();
    else
        CHECK(fuzz_more(w.in)); /* who waits for ever? */
    w.top->looked_ns = w.time.now;
}

/* >>statistics, and what must hold between operations */

static void count_samples(const rm_stat *stat, void *user) {
    CHECK(stat->value >= 0 && stat->name != NULL && stat->help != NULL);
    if (strcmp(stat->name, "rm_pool_resources") == 0) *(int64_t *)user += stat->value;
}

static void check_state(void) {
    CHECK(!w.closed || count(IDLE) == 0);
    CHECK(count(IDLE) <= w.sizes.max_idle);
    CHECK(alive() <= w.sizes.max || count(IDLE) == 0);
    CHECK_EQ(0, w.unclaimed);
    for (int i = 1; i <= w.last_made; ++i)
        CHECK(w.things[i].where != IDLE || !superseded(&w.things[i]));
    if (waiting() > 0 && !w.suspended) {
        CHECK_EQ(0, count(IDLE));
        CHECK(w.failures > 0 || alive() >= w.sizes.max + w.sizes.overflow);
    }
}

/* Statistics that the ledger does not keep are believed. */
static void believe(rm_pool_stats *s) {
    w.stats.waits = s->waits;
    w.stats.cancelled = s->cancelled;
    w.stats.wait_p50_ns = s->wait_p50_ns;
    w.stats.wait_p99_ns = s->wait_p99_ns;
    w.stats.wait_max_ns = s->wait_max_ns;
    w.stats.create_p50_ns = s->create_p50_ns;
    w.stats.create_p99_ns = s->create_p99_ns;
    w.stats.create_max_ns = s->create_max_ns;
    w.stats.use_p50_ns = s->use_p50_ns;
    w.stats.use_p99_ns = s->use_p99_ns;
    w.stats.use_max_ns = s->use_max_ns;
    CHECK(s->wait_p50_ns <= s->wait_p99_ns && s->wait_p99_ns <= s->wait_max_ns);
    CHECK(s->timeouts + s->cancelled + s->waiting <= s->waits);
    CHECK(s->create_max_ns <= RM_SEC(3600) && s->use_max_ns >= 0);
    if (w.desc.event_fn == NULL) memcpy(w.stats.ended, s->ended, sizeof s->ended);
    if (w.desc.destroy_fn == NULL && w.desc.event_fn == NULL) w.stats.destroyed = s->destroyed;
}

/* Has the last create failed, and does it matter? For a minute, if there is something to lend. */
static bool fails(void) {
    return w.failures > 0 && (alive() == 0 || w.time.now - w.failed_ns < RM_MINUTES(1));
}

static void compare(void) {
    const rm_resource resource = rm_pool_resource(w.pool);
    rm_pool_stats s;
    rm_error reason = {0, RM_OK, "", ""};
    const rm_health health = resource.health_fn(resource.user, &reason);
    uint64_t ended = 0;
    int64_t shown = 0;
    learn_backoff();
    check_state();
    CHECK_EQ(RM_OK, rm_pool_stats_get(w.pool, &s));
    for (int i = 0; i < RM_POOL_CAUSES; ++i)
        ended += s.ended[i];
    CHECK_EQ(s.destroyed, ended);
    believe(&s);
    w.stats.capacity = CAPACITY;
    w.stats.in_use = count(HELD);
    w.stats.idle = count(IDLE);
    w.stats.empty = CAPACITY - alive();
    w.stats.closed = w.closed;
    w.stats.suspended = w.suspended;
    w.stats.waiting = waiting();
    w.stats.max = w.sizes.max;
    w.stats.overflow = w.sizes.overflow;
    w.stats.min_idle = w.sizes.min_idle;
    w.stats.max_idle = w.sizes.max_idle;
    CHECK_SAME(&s, &w.stats);
    CHECK_EQ(w.closed                                  ? RM_HEALTH_UNHEALTHY
             : w.suspended || waiting() > 0 || fails() ? RM_HEALTH_DEGRADED
                                                       : RM_HEALTH_HEALTHY,
             health);
    CHECK((reason.status == RM_OK) == (health == RM_HEALTH_HEALTHY));
    resource.stats_fn(resource.user, count_samples, &shown);
    CHECK_EQ(alive(), shown);
}

static void new_token(void) {
    if (rm_cancel_destroy(&w.cancel) == RM_OK) CHECK_EQ(RM_OK, rm_cancel_init(&w.cancel));
}

static void cancel_all(void) {
    frame f;
    enter(&f);
    rm_cancel_request(&w.cancel);
    leave(&f);
}

static void step(void) {
    static const int64_t timeouts[] = {0, RM_NOWAIT, RM_FOREVER, 500, RM_SEC(1)};
    switch (fuzz_below(w.in, 24)) {
    case 0: do_acquire(false); break;
    case 1:
    case 2: do_upkeep(false); break;
    case 3: do_upkeep(w.sizes.min_idle <= 1 || w.desc.max_creating == 1); break; /* no threads */
    case 4: do_close(timeouts[fuzz_below(w.in, 5)], false); break;
    case 5: do_close(timeouts[fuzz_below(w.in, 5)], true); break;
    case 6: do_fork(); break;
    case 7: w.time.now += (int64_t)fuzz_below(w.in, 8) * RM_MS(1); break;
    case 8: w.time.now += FUZZ_CHOOSE(w.in, 1, 999, RM_MS(499), RM_MS(500), RM_MINUTES(10)); break;
    case 9: new_token(); break;
    case 10: cancel_all(); break;
    case 11: do_async(); break;
    case 12: do_async(); break;
    case 13: do_request_cancel(); break;
    case 14: do_resize(); break;
    case 15: do_suspend(fuzz_below(w.in, 3) == 1); break;
    case 16: do_evict_all(); break;
    case 17: do_evict(); break;
    case 18: do_detach(); break;
    case 19:
    case 20:
    case 21: release_some(); break;
    default: do_acquire(true); break;
    }
    compare();
}

static void describe_hooks(fuzz_input *in) {
    const uint32_t hooks = fuzz_byte(in);
    w.guard = (rm_guard){admit_fn, report_fn, &w};
    w.desc.create_fn = create_fn;
    w.desc.destroy_fn = destroy_fn;
    w.desc.validate_fn = hooks & 2 ? validate_fn : NULL;
    w.desc.reset_fn = hooks & 4 ? reset_fn : NULL;
    w.desc.guard = hooks & 8 ? &w.guard : NULL;
    w.desc.event_fn = hooks & 16 ? event_fn : NULL;
    w.desc.validate_on_release = hooks & 32;
    w.desc.time_uses = hooks & 64;
    w.desc.user = &w;
}

static void describe_sizes(fuzz_input *in) {
    w.desc.capacity = CAPACITY;
    w.desc.max = 1 + fuzz_below(in, 4);
    w.desc.overflow = fuzz_below(in, 3);
    w.desc.max_idle = fuzz_below(in, w.desc.max + 1);
    w.desc.min_idle = fuzz_below(in, (w.desc.max_idle == 0 ? w.desc.max : w.desc.max_idle) + 1);
    w.desc.max_creating = fuzz_below(in, 3);
    w.desc.max_waiters = fuzz_below(in, 3);
    w.sizes = (rm_pool_sizes){w.desc.max, w.desc.overflow, w.desc.min_idle,
                              w.desc.max_idle == 0 ? w.desc.max : w.desc.max_idle};
}

static void describe(fuzz_input *in) {
    memset(&w, 0, sizeof w);
    w.in = in;
    w.lease_count = 1; /* 0 is none */
    w.time.now = FUZZ_CHOOSE(in, RM_SEC(1), 1, RM_SEC(INT64_C(1) << 31));
    w.time.wait_fn = wait_fn;
    w.clock = fuzz_clock_make(&w.time);
    w.random = (rm_random){half, NULL};
    w.env.clock = &w.clock;
    w.env.random = &w.random;
    w.desc.env = &w.env;
    describe_hooks(in);
    describe_sizes(in);
    w.desc.acquire_timeout_ns = FUZZ_CHOOSE(in, 0, RM_NOWAIT, RM_MS(5));
    w.desc.idle_timeout_ns = FUZZ_CHOOSE(in, 0, RM_NONE, 1, RM_MS(1));
    w.desc.validate_after_ns = FUZZ_CHOOSE(in, 0, RM_STRICT, RM_NONE, RM_MS(1));
    w.desc.barge_ns = FUZZ_CHOOSE(in, 0, RM_STRICT, RM_SEC(1));
    w.desc.max_lifetime_ns = FUZZ_CHOOSE(in, 0, 1, RM_MS(4), RM_SEC(1));
    w.desc.lifetime_jitter = (int32_t)RM_NONE;
    w.desc.keepalive_ns = w.desc.validate_fn == NULL ? 0 : FUZZ_CHOOSE(in, 0, RM_MS(2));
    w.desc.create_backoff_ns = FUZZ_CHOOSE(in, RM_NONE, RM_MS(1), 1);
    w.desc.create_backoff_max_ns = FUZZ_CHOOSE(in, RM_MS(3), RM_SEC(1));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_input in = {data, data + size};
    fuzz_memory memory;
    const rm_allocator allocator = fuzz_memory_make(&memory);
    if (size > LONGEST) return 0;
    describe(&in);
    w.env.allocator = &allocator;
    CHECK_EQ(RM_OK, rm_cancel_init(&w.cancel));
    CHECK_EQ(RM_OK, rm_pool_create(&w.desc, &w.pool, NULL));
    for (int i = 0; i < 60 && fuzz_more(&in); ++i)
        step();
    in.at = in.end; /* from here on every hook succeeds */
    if (count(HELD) > 0) {
        do_close(RM_NOWAIT, false);
        CHECK_EQ(RM_E_BUSY, rm_pool_destroy(w.pool));
    }
    while (count(HELD) > 0)
        release_one();
    do_close(RM_FOREVER, false);
    compare();
    CHECK_EQ(RM_OK, rm_pool_destroy(w.pool));
    CHECK_EQ(RM_OK, rm_cancel_destroy(&w.cancel));
    CHECK_EQ(0, memory.blocks);
    CHECK_EQ(memory.calls, 1); /* nothing is allocated after create */
    return 0;
}

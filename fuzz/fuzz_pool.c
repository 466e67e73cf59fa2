/* Pool operations against a model: a plain array of slots.

   What rm_pool.h promises and the model does: an acquire takes the idle resource of the lowest
   slot, else makes one in the lowest empty slot, else waits.  Every call of a hook is written down
   with its answer; the model then says which calls it expects, in order.  While an acquire or a
   close waits, the input may do one more thing, as another thread would. */
#define RM_IMPLEMENTATION
#include "rm_pool.h"
#include "fuzz.h"

enum { SLOTS = 4, LEASES = 64, CALLS = 8192, MADE = 2048, LONGEST = 1024 };

typedef enum kind { ADMIT, REPORT, CREATE, DESTROY, VALIDATE, RESET, WAIT } kind;

/* A call of a hook as it happened. */
typedef struct call {
    kind what;
    int resource; /* or permit */
    int64_t result;
    int64_t at_ns, deadline_ns;
} call;

typedef struct slot {
    int resource; /* 0 = empty */
    bool held;
    int64_t used_ns;
    int permit;
    int lease; /* index of the lease that is valid, while held */
} slot;

static struct world {
    fuzz_input *in;
    fuzz_clock time;
    rm_clock clock;
    rm_env env;
    rm_guard guard;
    rm_cancel cancel;
    rm_pool *pool;
    rm_pool_desc desc; /* as handed in */
    rm_lease leases[LEASES];
    bool admitted[MADE];
    char made[MADE]; /* 1 = alive; the address is the resource */
    int base, count; /* the calls of the operation that runs: from base to count */
    int lease_count, last_made, last_permit;
    int busy; /* operations inside a hook or a wait */
    bool maintaining;
    /* the model */
    slot slots[SLOTS];
    bool closed, failing;
    rm_pool_stats stats;
    int64_t wait_max_ns;
} w;

static call calls[CALLS];

static void nested(int choice);

/* >>hooks: the input decides what they answer */

static call *note(kind what, int resource, int64_t result) {
    call *c = &calls[w.count++];
    CHECK(w.count < CALLS);
    c->what = what;
    c->resource = resource;
    c->result = result;
    c->at_ns = w.time.now;
    return c;
}

static int number_of(const void *resource) {
    return (int)((const char *)resource - w.made);
}

static rm_status answer(void) {
    static const rm_status no[] = {RM_E_FAILED, RM_E_REFUSED, RM_E_CLOSED};
    const uint32_t byte = fuzz_byte(w.in);
    return byte % 8 > 4 ? no[byte % 8 - 5] : RM_OK;
}

static rm_status create_fn(void **resource, rm_deadline deadline, rm_error *error, void *user) {
    const rm_status status = answer();
    const bool first = w.count == w.base || calls[w.count - 1].what == ADMIT;
    const uint32_t more = fuzz_below(w.in, 8);
    call *c;
    (void)error;
    CHECK(user == &w);
    if (more == 1) w.time.now += RM_MS(2);
    if (more == 2 && first) nested(1); /* closed meanwhile */
    if (more == 3 && w.maintaining) nested(3);
    if (status == RM_OK && more != 4) { /* 4: no resource, yet RM_OK */
        w.made[++w.last_made] = 1;
        *resource = &w.made[w.last_made];
    }
    c = note(CREATE, *resource == NULL ? 0 : w.last_made, status);
    c->deadline_ns = deadline.at_ns;
    return status;
}

static void destroy_fn(void *resource, void *user) {
    CHECK(user == &w);
    CHECK(*(char *)resource == 1); /* once, and only what was made */
    *(char *)resource = 2;
    (void)note(DESTROY, number_of(resource), 0);
}

static rm_status validate_fn(void *resource, void *user) {
    CHECK(user == &w && *(char *)resource == 1);
    return (rm_status)note(VALIDATE, number_of(resource), answer())->result;
}

static rm_status reset_fn(void *resource, void *user) {
    const rm_status status = answer();
    CHECK(user == &w && *(char *)resource == 1);
    if (fuzz_below(w.in, 8) == 1 && !w.closed) nested(1);
    return (rm_status)note(RESET, number_of(resource), status)->result;
}

static rm_status admit_fn(rm_permit *permit, rm_error *error, void *user) {
    const rm_status status = fuzz_below(w.in, 8) == 1 ? RM_E_REJECTED : RM_OK;
    (void)error;
    CHECK(user == &w);
    CHECK(++w.last_permit < MADE);
    permit->word = (uint64_t)w.last_permit;
    w.admitted[w.last_permit] = status == RM_OK;
    return (rm_status)note(ADMIT, w.last_permit, status)->result;
}

static void report_fn(rm_permit *permit, rm_outcome outcome, void *user) {
    CHECK(user == &w);
    CHECK(permit->word > 0 && permit->word < MADE && w.admitted[permit->word]);
    w.admitted[permit->word] = false; /* every permit is reported once */
    (void)note(REPORT, (int)permit->word, outcome);
}

/* >>model */

static int find(bool idle) {
    for (int i = 0; i < (int)w.stats.max; ++i)
        if (idle ? w.slots[i].resource != 0 && !w.slots[i].held : w.slots[i].resource == 0)
            return i;
    return -1;
}

static int held(void) {
    int count = 0;
    for (int i = 0; i < SLOTS; ++i)
        count += w.slots[i].held;
    return count;
}

static int there(void) {
    int count = 0;
    for (int i = 0; i < SLOTS; ++i)
        count += w.slots[i].resource != 0;
    return count;
}

/* The next call of a hook: the model expects this one. */
static call expect(kind what, int resource) {
    call next;
    CHECK(w.base < w.count);
    next = calls[w.base++];
    CHECK_EQ(what, next.what);
    if (resource != 0) CHECK_EQ(resource, next.resource);
    return next;
}

static void model_report(int permit, rm_outcome outcome) {
    if (permit != 0) CHECK_EQ(outcome, expect(REPORT, permit).result);
}

static void model_end(slot *s) {
    if (w.desc.destroy_fn != NULL) (void)expect(DESTROY, s->resource);
    memset(s, 0, sizeof *s);
    ++w.stats.destroyed;
}

static void model_sweep(void) {
    for (int i = find(true); i >= 0; i = find(true))
        model_end(&w.slots[i]);
}

/* Makes a resource in an empty slot. */
static rm_status model_make(slot *s, int64_t deadline_ns) {
    const call c = expect(CREATE, 0);
    CHECK_EQ(deadline_ns, c.deadline_ns);
    w.failing = c.resource == 0;
    if (c.resource == 0) {
        ++w.stats.create_failures;
        return c.result == RM_OK ? RM_E_FAILED : (rm_status)c.result;
    }
    ++w.stats.created;
    s->resource = c.resource;
    s->used_ns = c.at_ns;
    if (!w.closed) return RM_OK;
    model_end(s);
    return RM_E_CLOSED;
}

static bool model_fit(const slot *s, int64_t now) {
    const int64_t after = w.desc.validate_after_ns == 0 ? RM_MS(500) : w.desc.validate_after_ns;
    if (w.desc.validate_fn == NULL) return true;
    if (after != RM_STRICT && now - s->used_ns < after) return true;
    return expect(VALIDATE, s->resource).result == RM_OK;
}

/* Makes slot i ready to be lent. */
static rm_status model_ready(int i, int64_t now, int64_t deadline_ns) {
    slot *s = &w.slots[i];
    if (s->resource != 0) {
        if (model_fit(s, now)) return RM_OK;
        ++w.stats.invalid;
        model_end(s);
    }
    return model_make(s, deadline_ns);
}

/* The waits of an operation.  Returns when the last one ended, or `began` without any. */
static int64_t expect_waits(int64_t began) {
    for (; w.base < w.count && calls[w.base].what == WAIT; ++w.base)
        began = calls[w.base].at_ns;
    return began;
}

/* What ended a wait from `since` to `now` first. */
static rm_status model_waited(int64_t since, int64_t now, int64_t until, bool cancelled) {
    if (now - since > w.wait_max_ns) w.wait_max_ns = now - since;
    ++w.stats.waits;
    if (cancelled) return RM_E_CANCELLED;
    if (w.closed) return RM_E_CLOSED;
    if (now >= until) ++w.stats.timeouts;
    return now >= until ? RM_E_TIMEOUT : RM_OK;
}

/* What one acquire knows: `timed` is a relative timeout, else an absolute deadline. */
typedef struct ask {
    int64_t timeout_ns, deadline_ns, began_ns;
    bool timed, closed, cancelled;
} ask;

static int64_t until_of(const ask *a) {
    int64_t until = rm_time_add(a->began_ns, a->timeout_ns);
    if (!a->timed) return a->deadline_ns;
    if (a->timeout_ns == RM_FOREVER) return 0;
    if (until == 0) until = 1; /* 0 is the word for never */
    return a->timeout_ns == RM_NOWAIT ? INT64_MIN : until;
}

static rm_status model_get(const ask *a, int *i) {
    const int64_t until = until_of(a);
    const bool never = until == 0 || until == INT64_MAX;
    const bool over = until != INT64_MIN && !never && a->began_ns >= until;
    const int before = w.base;
    const int64_t now = expect_waits(a->began_ns);
    const bool waited = w.base > before;
    rm_status status;
    *i = find(true) >= 0 ? find(true) : find(false);
    if (!waited && !over && !a->closed && *i >= 0) return RM_OK;
    if (a->closed) return RM_E_CLOSED;
    if (a->timed && until == INT64_MIN) return RM_E_BUSY;
    status = model_waited(a->began_ns, now, never ? INT64_MAX : until,
                          !a->timed && rm_cancel_requested(&w.cancel));
    CHECK(status != RM_OK || *i >= 0);
    return status;
}

/* What an acquire must have done.  *i is the slot that was lent. */
static rm_status model_acquire(const ask *a, int *i) {
    const int64_t usual = w.desc.acquire_timeout_ns == 0 ? RM_SEC(30) : w.desc.acquire_timeout_ns;
    const int64_t until = until_of(a);
    ask try = *a;
    int permit = 0;
    rm_status status;
    if (a->cancelled && !a->timed) return RM_E_CANCELLED;
    if (w.desc.guard != NULL) {
        const call c = expect(ADMIT, 0);
        permit = c.resource;
        w.stats.rejected += c.result != RM_OK;
        if (c.result != RM_OK) return (rm_status)c.result;
    }
    status = model_get(a, i);
    if (status != RM_OK) {
        model_report(permit, RM_OUTCOME_IGNORE);
        return status;
    }
    /* making one takes time even for who does not wait: that of an ordinary acquire */
    try.timed = true;
    try.timeout_ns = usual == RM_NOWAIT ? RM_SEC(30) : usual;
    status = model_ready(*i, a->began_ns, until == INT64_MIN ? until_of(&try) : until);
    if (status != RM_OK)
        model_report(permit,
                     status == RM_E_CLOSED && w.closed ? RM_OUTCOME_IGNORE : RM_OUTCOME_FAILURE);
    if (status != RM_OK) return status;
    w.slots[*i].permit = permit;
    w.slots[*i].held = true;
    ++w.stats.acquired;
    return RM_OK;
}

static rm_status model_upkeep(int64_t began_ns, int64_t deadline_ns) {
    const int64_t idle = w.desc.idle_timeout_ns == 0 ? RM_MINUTES(10) : w.desc.idle_timeout_ns;
    for (int i = (int)w.stats.max - 1; i >= 0 && there() > (int)w.desc.min; --i) {
        slot *s = &w.slots[i];
        if (idle == RM_NONE || s->resource == 0 || s->held || began_ns - s->used_ns < idle)
            continue;
        model_end(s);
        ++w.stats.expired;
    }
    while (there() < (int)w.desc.min) {
        const rm_status status = model_make(&w.slots[find(false)], deadline_ns);
        if (status != RM_OK) return status;
    }
    return w.closed ? RM_E_CLOSED : RM_OK;
}

/* >>operations: each on the pool, then on the model */

/* An operation that runs inside a hook or a wait has its own part of the calls. */
static int enter(void) {
    const int outer = w.base;
    w.base = w.count;
    ++w.busy;
    return outer;
}

static void leave(int outer, int begin) {
    CHECK_EQ(w.base, w.count); /* no call that the model does not know of */
    w.count = begin;
    w.base = outer;
    --w.busy;
}

static void check_error(rm_status status, const rm_error *error) {
    CHECK_EQ(status, error->status); /* RM_OK = 0: left alone */
    CHECK((status == RM_OK) == (error->message[0] == '\0'));
}

static void do_acquire(bool timed) {
    const int64_t timeout = FUZZ_CHOOSE(w.in, 0, RM_NOWAIT, RM_FOREVER, 1000, RM_MS(1), RM_SEC(1),
                                        INT64_MAX, RM_NONE, RM_STRICT, INT64_MIN);
    const int64_t at = FUZZ_CHOOSE(w.in, 0, INT64_MIN, INT64_MAX, w.time.now - 1, w.time.now,
                                   w.time.now + 1, w.time.now + RM_MS(3));
    const rm_deadline deadline = {timed ? 0 : at};
    const int64_t usual = w.desc.acquire_timeout_ns == 0 ? RM_SEC(30) : w.desc.acquire_timeout_ns;
    const int begin = w.count, outer = enter();
    ask a = {timeout == 0 ? usual : timeout, at, w.time.now, timed, w.closed,
             rm_cancel_requested(&w.cancel)};
    rm_lease lease = {NULL, 77, 0, 0};
    rm_error error = {0, RM_OK, "", ""};
    rm_status status = timed ? rm_pool_acquire(w.pool, timeout, &lease, &error)
                             : rm_pool_acquire_until(w.pool, deadline, &w.cancel, &lease, &error);
    int i = 0;
    check_error(status, &error);
    if (timed && !rm_timeout_valid(timeout))
        CHECK_EQ(RM_E_INVALID, status);
    else
        CHECK_EQ(model_acquire(&a, &i), status);
    if (status == RM_OK) {
        CHECK_EQ(w.slots[i].resource, number_of(lease.resource));
        CHECK_EQ(i, lease.slot);
        CHECK(*(char *)lease.resource == 1);
        w.slots[i].lease = w.lease_count++;
        w.leases[w.slots[i].lease] = lease;
    } else {
        CHECK(lease.resource == NULL && lease.sequence == 77); /* written on success only */
    }
    leave(outer, begin);
}

/* What releasing lease number `index` must do; forged: 1 foreign, 2 and 3 stale. */
static rm_status model_release(int index, uint32_t forged, rm_release how) {
    slot *s = NULL;
    bool fit = how == RM_RELEASE_OK;
    int permit;
    if ((unsigned)how > RM_RELEASE_BROKEN) return RM_E_INVALID;
    if (w.leases[index].resource == NULL || forged == 3) return RM_E_STALE;
    if (forged == 1 || forged == 4) return RM_E_FOREIGN;
    for (int i = 0; i < SLOTS; ++i)
        if (w.slots[i].held && w.slots[i].lease == index) s = &w.slots[i];
    if (s == NULL || forged == 2) return RM_E_STALE;
    permit = s->permit;
    if (fit && w.desc.reset_fn != NULL) fit = expect(RESET, s->resource).result == RM_OK;
    w.stats.broken += !fit;
    s->held = false;
    s->used_ns = w.time.now;
    if (!fit || w.closed) model_end(s);
    model_report(permit, how == RM_RELEASE_OK ? RM_OUTCOME_OK : RM_OUTCOME_FAILURE);
    return RM_OK;
}

static void do_release(int index, uint32_t forged, rm_release how) {
    const int begin = w.count, outer = enter();
    rm_lease lease = w.leases[index], before;
    const rm_lease none = {NULL, 0, 0, 0};
    rm_status status;
    if (forged == 1) ++lease.pool;
    if (forged == 2) lease.sequence += 2 * LEASES; /* of a lease to come */
    if (forged == 3) lease.resource = NULL;
    if (forged == 4) lease.slot = w.stats.max;
    before = lease;
    status = rm_pool_release(w.pool, &lease, how);
    CHECK_EQ(model_release(index, forged, how), status);
    CHECK_SAME(&lease, status == RM_OK ? &none : &before);
    leave(outer, begin);
}

/* Any lease that ever was, or the one of a slot. */
static void release_some(void) {
    const uint32_t byte = fuzz_byte(w.in), how = fuzz_below(w.in, 5), forged = fuzz_below(w.in, 16);
    const slot *s = &w.slots[byte % SLOTS];
    if (w.lease_count == 0) return;
    do_release(byte < 128 && s->held ? s->lease : (int)byte % w.lease_count, forged,
               how < 3 ? RM_RELEASE_OK : (rm_release)(how - 2));
}

static rm_status model_close(int64_t timeout, int64_t began_ns) {
    const int64_t bound = timeout == 0 ? RM_SEC(8) : timeout;
    const int64_t until = bound == RM_FOREVER ? INT64_MAX : rm_time_add(began_ns, bound);
    int before;
    model_sweep();
    before = w.base;
    began_ns = expect_waits(began_ns);
    if (w.base == before && held() == 0 && w.busy == 1) return RM_OK;
    if (timeout == RM_NOWAIT) return RM_E_BUSY;
    return began_ns >= until ? RM_E_TIMEOUT : RM_OK;
}

static void do_close(int64_t timeout, bool as_resource) {
    const rm_resource resource = rm_pool_resource(w.pool);
    const int64_t began_ns = w.time.now;
    const int begin = w.count, outer = enter();
    const rm_deadline deadline = rm_deadline_after(&w.clock, timeout == 0 ? RM_SEC(8) : timeout);
    rm_error error = {0, RM_OK, "", ""};
    rm_status status;
    w.closed = true; /* from now on: what is released while it waits is destroyed */
    status = as_resource ? resource.stop_fn(resource.user, deadline, &error)
                         : rm_pool_close(w.pool, timeout, &error);
    check_error(status, &error);
    CHECK_EQ(model_close(timeout, began_ns), status);
    if (status == RM_OK) CHECK_EQ(0, there());
    leave(outer, begin);
}

/* rm_pool_maintain, or the start of the pool's resource. */
static void do_upkeep(bool starts) {
    const rm_deadline deadline = {FUZZ_CHOOSE(w.in, 0, INT64_MIN, w.time.now + 5)};
    const rm_resource resource = rm_pool_resource(w.pool);
    const int64_t began_ns = w.time.now;
    const int begin = w.count, outer = enter();
    const bool nested_here = w.maintaining, closed = w.closed;
    rm_error error = {0, RM_OK, "", ""};
    rm_status status;
    if (starts && held() == 0) w.closed = false; /* a hook may close it again */
    w.maintaining = true;
    status = starts ? resource.start_fn(resource.user, deadline, &error)
                    : rm_pool_maintain(w.pool, deadline, &error);
    w.maintaining = nested_here;
    check_error(status, &error);
    if (starts && closed && held() > 0) {
        CHECK_EQ(RM_E_BUSY, status);
    } else if (!starts && closed) {
        CHECK_EQ(RM_E_CLOSED, status);
    } else if (nested_here) {
        CHECK_EQ(RM_E_BUSY, status);
    } else {
        CHECK_EQ(model_upkeep(began_ns, deadline.at_ns), status);
    }
    leave(outer, begin);
}

/* The child forgets what the parent has; its leases are stale. */
static void do_fork(void) {
    CHECK_EQ(RM_OK, rm_pool_after_fork_child(w.pool));
    memset(w.slots, 0, sizeof w.slots);
    memset(w.admitted, 0, sizeof w.admitted);
    w.stats = (rm_pool_stats){.max = w.stats.max};
    w.wait_max_ns = 0;
    w.closed = w.failing = false;
}

/* What runs inside a hook or a wait. */
static void nested(int choice) {
    if (choice == 1) do_close(RM_NOWAIT, false);
    if (choice == 2) release_some();
    if (choice == 3) do_upkeep(false);
    if (choice == 4) rm_cancel_request(&w.cancel);
}

static void release_one(void) {
    for (int i = 0; i < SLOTS; ++i) {
        if (!w.slots[i].held) continue;
        do_release(w.slots[i].lease, 0, RM_RELEASE_OK);
        return;
    }
}

/* A wait: another thread does one thing, or time passes.  Whoever waits for ever gets his way. */
static void wait_fn(int64_t until_ns) {
    const uint32_t choice = fuzz_below(w.in, 8);
    const int outer = w.base;
    call *wait;
    CHECK(w.time.now < until_ns);
    CHECK(w.closed ? held() > 0 : held() == (int)w.stats.max); /* else why wait? */
    wait = note(WAIT, 0, 0);
    w.base = w.count;
    if ((choice == 1 && !w.closed) || choice == 2 || choice == 4)
        nested((int)choice);
    else if (choice == 5)
        w.time.now += 700;
    else if (until_ns != INT64_MAX)
        w.time.now = until_ns;
    else if (held() > 0)
        release_one();
    wait->at_ns = w.time.now;
    w.base = outer;
}

/* >>statistics */

static void count_samples(const rm_stat *stat, void *user) {
    CHECK(stat->value >= 0 && stat->name != NULL && stat->help != NULL);
    if (strcmp(stat->name, "rm_pool_resources") == 0) *(int64_t *)user += stat->value;
}

static void compare(void) {
    const rm_resource resource = rm_pool_resource(w.pool);
    rm_pool_stats s;
    rm_error reason = {0, RM_OK, "", ""};
    rm_health health = resource.health_fn(resource.user, &reason);
    int64_t shown = 0;
    CHECK_EQ(RM_OK, rm_pool_stats_get(w.pool, &s));
    w.stats.in_use = (uint32_t)held();
    w.stats.idle = (uint32_t)(there() - held());
    w.stats.empty = w.stats.max - (uint32_t)there();
    w.stats.wait_max_ns = w.wait_max_ns;
    CHECK(s.wait_p50_ns >= 0 && s.wait_p50_ns <= s.wait_p99_ns && s.wait_p99_ns <= s.wait_max_ns);
    w.stats.wait_p50_ns = s.wait_p50_ns; /* within a bin: not exact */
    w.stats.wait_p99_ns = s.wait_p99_ns;
    CHECK_SAME(&s, &w.stats);
    CHECK_EQ(w.closed    ? RM_HEALTH_UNHEALTHY
             : w.failing ? RM_HEALTH_DEGRADED
                         : RM_HEALTH_HEALTHY,
             health);
    CHECK((reason.status == RM_OK) == (health == RM_HEALTH_HEALTHY));
    resource.stats_fn(resource.user, count_samples, &shown);
    CHECK_EQ(there(), shown);
}

static void step(void) {
    static const int64_t timeouts[] = {0, RM_NOWAIT, RM_FOREVER, 500, RM_SEC(1)};
    switch (fuzz_below(w.in, 16)) {
    case 0: do_acquire(false); break;
    case 1: do_upkeep(false); break;
    case 2: do_upkeep(true); break;
    case 3: do_close(timeouts[fuzz_below(w.in, 5)], false); break;
    case 4: do_close(timeouts[fuzz_below(w.in, 5)], true); break;
    case 5: do_fork(); break;
    case 6: w.time.now += (int64_t)fuzz_below(w.in, 8) * RM_MS(1); break;
    case 7: w.time.now += FUZZ_CHOOSE(w.in, 1, 999, RM_MS(499), RM_MS(500), RM_MINUTES(10)); break;
    case 8: /* a new token */
        CHECK_EQ(RM_OK, rm_cancel_destroy(&w.cancel));
        CHECK_EQ(RM_OK, rm_cancel_init(&w.cancel));
        break;
    case 9: rm_cancel_request(&w.cancel); break;
    case 10:
    case 11:
    case 12: release_some(); break;
    default: do_acquire(true); break;
    }
    compare();
}

static void describe(fuzz_input *in) {
    const uint32_t hooks = fuzz_byte(in);
    memset(&w, 0, sizeof w);
    w.in = in;
    w.time.now = FUZZ_CHOOSE(in, RM_SEC(1), 0, RM_SEC(INT64_C(1) << 31));
    w.time.wait_fn = wait_fn;
    w.clock = fuzz_clock_make(&w.time);
    w.env.clock = &w.clock;
    w.guard = (rm_guard){admit_fn, report_fn, &w};
    w.desc.env = &w.env;
    w.desc.create_fn = create_fn;
    w.desc.destroy_fn = hooks & 1 ? NULL : destroy_fn;
    w.desc.validate_fn = hooks & 2 ? validate_fn : NULL;
    w.desc.reset_fn = hooks & 4 ? reset_fn : NULL;
    w.desc.guard = hooks & 8 ? &w.guard : NULL;
    w.desc.user = &w;
    w.desc.max = w.stats.max = 1 + fuzz_below(in, SLOTS);
    w.desc.min = fuzz_below(in, w.desc.max + 1);
    w.desc.acquire_timeout_ns = FUZZ_CHOOSE(in, 0, RM_NOWAIT, RM_MS(5));
    w.desc.idle_timeout_ns = FUZZ_CHOOSE(in, 0, RM_NONE, 1, RM_MS(1));
    w.desc.validate_after_ns = FUZZ_CHOOSE(in, 0, RM_STRICT, RM_MS(1));
    w.desc.barge_ns = FUZZ_CHOOSE(in, 0, RM_STRICT, RM_SEC(1));
    w.desc.max_waiters = fuzz_below(in, 2);
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
    if (held() > 0) {
        do_close(RM_NOWAIT, false);
        CHECK_EQ(RM_E_BUSY, rm_pool_destroy(w.pool));
    }
    while (held() > 0)
        release_one();
    do_close(RM_FOREVER, false);
    compare();
    CHECK_EQ(RM_OK, rm_pool_destroy(w.pool));
    CHECK_EQ(RM_OK, rm_cancel_destroy(&w.cancel));
    CHECK_EQ(0, memory.blocks);
    CHECK_EQ(memory.calls, 1); /* nothing is allocated after create */
    return 0;
}

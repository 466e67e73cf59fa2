/* A breaker against its documented state machine in plain integers, and retries against bounds.

   The clock may be set back: the contract says that a rest which cannot be so long starts again.
   The jitter of a rest comes from a seeded generator; the model has a twin of it.  A copied permit
   must not be used, but what it does is still defined: it is one of its generation. */
#define RM_IMPLEMENTATION
#include "rm_breaker.h"
#include "fuzz.h"

enum { PERMITS = 64, EVENTS = 16, LONGEST = 1024 };

typedef struct permit {
    rm_permit real;
    uint64_t generation;
    int state;
} permit;

typedef struct retry_model {
    rm_retry_desc desc; /* with its defaults filled in */
    int64_t deadline_ns;
    int64_t previous_ns; /* the wait before was not longer than this */
    uint32_t used;
} retry_model;

static struct world {
    fuzz_input *in;
    fuzz_clock time;
    rm_clock clock;
    rm_rng rng, twin, others;
    rm_random random, twin_random, retry_random;
    rm_allocator allocator;
    fuzz_memory memory;
    rm_env env, retry_env;
    rm_breaker *breaker;
    rm_breaker_desc desc; /* with its defaults filled in */
    permit permits[PERMITS];
    uint32_t permit_count;
    rm_breaker_event told[EVENTS], expected[EVENTS];
    int told_count, expected_count;
    /* the model */
    rm_breaker_stats stats;
    int64_t jitter_ns, end_ms, probe_end_ms; /* ends of the rest and of the latest probe */
    uint32_t successes;
    rm_retry retry;
    retry_model tries;
    bool begun;
} w;

/* >>model of the breaker */

static int64_t ms_after(int64_t ns) {
    const int64_t at = w.time.now + ns + RM_MS(1) - 1;
    return at / RM_MS(1) - (at % RM_MS(1) < 0);
}

static int64_t left_of(int64_t end_ms) {
    return RM_MS(end_ms) - w.time.now;
}

static int64_t rest(void) {
    const int64_t more = (int64_t)rm_random_below(&w.twin_random, (uint64_t)w.jitter_ns + 1);
    const int64_t ns = w.desc.open_ns + (w.jitter_ns > 0 ? more : 0);
    w.end_ms = ms_after(ns);
    return ns;
}

static void move(rm_breaker_state to, const char *reason) {
    rm_breaker_event *e = &w.expected[w.expected_count++];
    CHECK(w.expected_count < EVENTS);
    memset(e, 0, sizeof *e);
    e->from = w.stats.state;
    e->to = w.stats.state = to;
    e->reason = reason;
    e->generation = ++w.stats.generation;
    w.stats.consecutive_failures = w.stats.probes_out = w.successes = 0;
    w.stats.opened += to == RM_BREAKER_STATE_OPEN;
    e->rest_ns = to == RM_BREAKER_STATE_OPEN ? rest() : 0;
}

/* Half open: has the latest probe been out for too long?  Not if the clock was set back. */
static bool overdue(void) {
    const int64_t wait = w.desc.probe_wait_ns;
    if (wait == RM_FOREVER || w.stats.probes_out == 0) return false;
    if (left_of(w.probe_end_ms) > wait + RM_MS(21)) w.probe_end_ms = ms_after(wait);
    return left_of(w.probe_end_ms) <= 0;
}

static rm_status model_probe(void) {
    const int64_t end = w.desc.probe_wait_ns == RM_FOREVER ? 0 : ms_after(w.desc.probe_wait_ns);
    if (end > w.probe_end_ms) w.probe_end_ms = end;
    ++w.stats.probes_out;
    ++w.stats.probes;
    return RM_OK;
}

static rm_status model_acquire(void) {
    if (w.stats.state == RM_BREAKER_STATE_CLOSED) return RM_OK;
    if (w.stats.state == RM_BREAKER_STATE_OPEN) {
        if (left_of(w.end_ms) > w.desc.open_ns + w.jitter_ns + RM_MS(21)) (void)rest();
        if (left_of(w.end_ms) <= 0) {
            move(RM_BREAKER_STATE_HALF_OPEN, "rest_over");
            w.probe_end_ms = -INT64_C(86400000) * 1000; /* before any other */
            return model_probe();
        }
    } else if (overdue()) {
        w.stats.lost += w.stats.probes_out;
        move(RM_BREAKER_STATE_OPEN, "probe_lost");
    } else if (w.stats.probes_out < w.desc.probes) {
        return model_probe();
    }
    ++w.stats.rejected;
    return RM_E_REJECTED;
}

static rm_status model_record(uint64_t generation, int state, rm_outcome outcome) {
    const bool probe = w.stats.state == RM_BREAKER_STATE_HALF_OPEN;
    if (generation != w.stats.generation || state != (int)w.stats.state ||
        w.stats.state == RM_BREAKER_STATE_OPEN || (probe && w.stats.probes_out == 0)) {
        ++w.stats.late;
        return RM_E_STALE;
    }
    w.stats.failures += outcome == RM_OUTCOME_FAILURE;
    w.stats.ignored += outcome == RM_OUTCOME_IGNORE;
    w.stats.probe_successes += probe && outcome == RM_OUTCOME_OK;
    if (probe && outcome == RM_OUTCOME_FAILURE) {
        move(RM_BREAKER_STATE_OPEN, "probe_failed");
    } else if (probe) {
        --w.stats.probes_out;
        w.successes += outcome == RM_OUTCOME_OK;
        if (outcome == RM_OUTCOME_OK && w.successes >= w.desc.probe_successes)
            move(RM_BREAKER_STATE_CLOSED, "probes_succeeded");
    } else if (outcome == RM_OUTCOME_OK) {
        w.stats.consecutive_failures = 0;
    } else if (outcome == RM_OUTCOME_FAILURE) {
        if (++w.stats.consecutive_failures >= w.desc.failures)
            move(RM_BREAKER_STATE_OPEN, "failures");
    }
    return RM_OK;
}

/* >>operations on the breaker */

static void event_fn(rm_breaker *breaker, const rm_breaker_event *event, void *user) {
    rm_breaker_stats stats;
    CHECK(user == &w && breaker == w.breaker && w.told_count < EVENTS);
    CHECK(strcmp(event->name, "fuzzed") == 0);
    CHECK_EQ(RM_OK, rm_breaker_stats_get(breaker, &stats));
    CHECK_EQ(event->to, stats.state);
    w.told[w.told_count++] = *event;
}

static void do_acquire(void) {
    permit *p = &w.permits[w.permit_count % PERMITS];
    rm_error error = {0, RM_OK, "", ""};
    rm_permit given = {7, 7};
    const rm_status status = rm_breaker_acquire(w.breaker, &given, &error);
    CHECK_EQ(model_acquire(), status);
    CHECK_EQ(status, error.status);
    CHECK(status == RM_OK || (given.word == 7 && given.owner == 7));
    if (status != RM_OK) return;
    p->real = given;
    p->generation = w.stats.generation;
    p->state = (int)w.stats.state;
    ++w.permit_count;
}

/* Reports any permit that ever was, or a forged one. */
static void do_record(void) {
    const uint32_t back = fuzz_byte(w.in), how = fuzz_byte(w.in);
    const uint32_t most = w.permit_count < PERMITS ? w.permit_count : PERMITS;
    const rm_outcome outcome = (rm_outcome)(how % 8 > 3 ? how % 8 - 4 : how % 8);
    permit *p = &w.permits[(w.permit_count - 1 - (most ? back % most : 0)) % PERMITS];
    const uint32_t forged = how / 8 % 8;
    rm_permit given = p->real, before;
    int state = p->state;
    rm_status status;
    if (most == 0) return;
    if (forged == 1) given.owner ^= 1;
    if (forged == 2 && given.word != 0) given.word ^= UINT64_C(1) << 61, state ^= 1;
    if (forged == 3) given.word = 0;
    before = given;
    status = rm_breaker_record(w.breaker, &given, outcome);
    if ((unsigned)outcome > RM_OUTCOME_IGNORE)
        CHECK_EQ(RM_E_INVALID, status);
    else if (forged == 3 || before.word == 0)
        CHECK_EQ(RM_E_STALE, status);
    else if (forged == 1)
        CHECK_EQ(RM_E_FOREIGN, status);
    else
        CHECK_EQ(model_record(p->generation, state, outcome), status);
    if (given.word == 0 && before.word != 0) {
        if (how < 128 && forged == 0) p->real = given; /* else a copy is kept */
    } else {
        CHECK_SAME(&given, &before);
    }
}

static void do_trip(void) {
    CHECK_EQ(RM_OK, rm_breaker_trip(w.breaker));
    if (w.stats.state == RM_BREAKER_STATE_OPEN)
        (void)rest();
    else
        move(RM_BREAKER_STATE_OPEN, "trip");
}

static void do_reset(void) {
    CHECK_EQ(RM_OK, rm_breaker_reset(w.breaker));
    if (w.stats.state == RM_BREAKER_STATE_CLOSED)
        w.stats.consecutive_failures = 0;
    else
        move(RM_BREAKER_STATE_CLOSED, "reset");
}

static void do_fork(void) {
    const rm_breaker_stats s = w.stats;
    CHECK_EQ(RM_OK, rm_breaker_after_fork_child(w.breaker));
    memset(&w.stats, 0, sizeof w.stats);
    w.stats.state = s.state;
    w.stats.generation = s.generation;
    w.stats.consecutive_failures = s.consecutive_failures;
    if (s.state != RM_BREAKER_STATE_HALF_OPEN) return;
    w.stats.state = RM_BREAKER_STATE_OPEN;
    ++w.stats.generation;
    w.end_ms = ms_after(1 - RM_MS(1)); /* rounded down: the rest is over */
    w.successes = 0;
}

static rm_status pick_status(void) {
    return (rm_status)fuzz_below(w.in, RM_E_INTERNAL + 2);
}

typedef struct called {
    rm_status status, fallback;
    int calls, falls;
} called;

static rm_status call_fn(void *user, rm_error *error) {
    called *c = (called *)user;
    (void)error;
    ++c->calls;
    return c->status;
}

static rm_status fallback_fn(void *user, const rm_error *reason) {
    called *c = (called *)user;
    CHECK_EQ(c->calls == 0 ? RM_E_REJECTED : c->status, reason->status);
    ++c->falls;
    return c->fallback;
}

static void do_call(void) {
    called c = {pick_status(), (rm_status)fuzz_below(w.in, 2), 0, 0};
    const uint32_t how = fuzz_byte(w.in);
    rm_error error = {0, RM_OK, "", ""};
    const rm_status status = rm_breaker_call(w.breaker, call_fn, how & 1 ? fallback_fn : NULL, &c,
                                             how & 2 ? NULL : &error);
    rm_status expected = model_acquire();
    const uint64_t generation = w.stats.generation;
    CHECK_EQ(expected == RM_OK, c.calls);
    if (expected == RM_OK) {
        expected = c.status;
        (void)model_record(generation, (int)w.stats.state, rm_breaker_classify(c.status));
    }
    CHECK_EQ(expected != RM_OK && (how & 1), c.falls);
    if (c.falls > 0 && c.fallback == RM_OK) {
        ++w.stats.fallbacks;
        expected = RM_OK;
    }
    CHECK_EQ(expected, status);
    if ((how & 2) == 0) CHECK_EQ(status, error.status);
}

static void count_sample(const rm_stat *stat, void *user) {
    const uint64_t value = (uint64_t)stat->value;
    if (strcmp(stat->name, "rm_breaker_state") == 0) *(int *)user += (int)value;
    if (strcmp(stat->name, "rm_breaker_late_total") == 0) CHECK_EQ(w.stats.late, value);
    if (strcmp(stat->name, "rm_breaker_lost_total") == 0) CHECK_EQ(w.stats.lost, value);
}

static void compare(void) {
    const rm_resource resource = rm_breaker_resource(w.breaker);
    const int64_t longest = w.desc.open_ns + w.jitter_ns + RM_MS(1);
    const int64_t left = left_of(w.end_ms);
    const bool lost = w.desc.probe_wait_ns != RM_FOREVER && left_of(w.probe_end_ms) <= 0;
    rm_breaker_stats s;
    int ones = 0;
    CHECK_EQ(w.expected_count, w.told_count);
    for (int i = 0; i < w.told_count; ++i) {
        const rm_breaker_event *a = &w.expected[i], *b = &w.told[i];
        CHECK_EQ(a->generation, b->generation);
        CHECK_EQ(a->rest_ns, b->rest_ns);
        CHECK_EQ(a->from, b->from);
        CHECK_EQ(a->to, b->to);
        CHECK(strcmp(a->reason, b->reason) == 0);
    }
    w.told_count = w.expected_count = 0;
    w.stats.retry_after_ns = 0;
    w.stats.probe_ready = false;
    if (w.stats.state == RM_BREAKER_STATE_OPEN) {
        w.stats.retry_after_ns = left < 0 ? 0 : left > longest ? longest : left;
        w.stats.probe_ready = left <= 0;
    } else if (w.stats.state == RM_BREAKER_STATE_HALF_OPEN) {
        w.stats.probe_ready =
            w.stats.probes_out < w.desc.probes && (w.stats.probes_out == 0 || !lost);
    }
    CHECK_EQ(RM_OK, rm_breaker_stats_get(w.breaker, &s));
    CHECK_SAME(&s, &w.stats);
    CHECK_EQ(s.state == RM_BREAKER_STATE_CLOSED ? RM_HEALTH_HEALTHY : RM_HEALTH_DEGRADED,
             resource.health_fn(resource.user, NULL));
    resource.stats_fn(resource.user, count_sample, &ones);
    CHECK_EQ(1, ones);
}

/* >>retries */

static int64_t doubled(int64_t base, int64_t cap, uint32_t times) {
    for (; times > 0 && base < cap; --times)
        base = base > INT64_MAX / 2 ? INT64_MAX : 2 * base;
    return base < cap ? base : cap;
}

/* The least and the longest wait there may be. */
static void bounds(const retry_model *r, int64_t *low, int64_t *high) {
    const int64_t base = r->desc.base_ns, cap = r->desc.cap_ns;
    const int64_t before = r->previous_ns > base ? r->previous_ns : base;
    int64_t t;
    *low = *high = 0;
    if (base < 0) return;
    t = doubled(base, cap, r->used);
    *low = r->desc.jitter == RM_JITTER_NONE ? t : r->desc.jitter == RM_JITTER_EQUAL ? t / 2 : 0;
    *high = t;
    if (r->desc.jitter != RM_JITTER_DECORRELATED) return;
    *low = base < cap ? base : cap;
    *high = before > cap / 3 ? cap : 3 * before;
}

static bool bad(const char *field, bool is_bad, const rm_error *error) {
    return is_bad && strcmp(field, error->where) == 0;
}

static rm_retry_desc pick_retry(void) {
    rm_retry_desc d;
    memset(&d, 0, sizeof d);
    d.env = &w.retry_env;
    d.base_ns = FUZZ_CHOOSE(w.in, 0, RM_NONE, 1, RM_MS(1), RM_SEC(1), RM_SEC(100), INT64_MAX, -1);
    d.cap_ns = FUZZ_CHOOSE(w.in, 0, 1, RM_MS(3), RM_SEC(100), INT64_MAX, -1, INT64_MIN, 0);
    d.max_retry_after_ns = FUZZ_CHOOSE(w.in, 0, RM_NONE, RM_MS(1), -1);
    d.max_retries = (int32_t)FUZZ_CHOOSE(w.in, 0, RM_NONE, 1, 2, INT32_MAX, -1);
    d.jitter = (rm_jitter)fuzz_below(w.in, 5);
    return d;
}

/* Fills in the defaults and says whether a desc is good; the error must name what is not. */
static void check_retry(rm_retry_desc *d, rm_status status, const rm_error *error) {
    const int64_t cap = d->cap_ns == 0 ? RM_SEC(30) : d->cap_ns;
    const bool base = (d->base_ns < 0 && d->base_ns != RM_NONE) || d->base_ns > cap;
    const bool after = d->max_retry_after_ns < 0 && d->max_retry_after_ns != RM_NONE;
    const bool retries = d->max_retries < 0 && d->max_retries != RM_NONE;
    if (cap < 0 || base || after || retries || d->jitter > RM_JITTER_DECORRELATED) {
        CHECK_EQ(RM_E_INVALID, status);
        CHECK(bad("cap_ns", cap < 0, error) || bad("base_ns", base, error) ||
              bad("max_retry_after_ns", after, error) || bad("max_retries", retries, error) ||
              bad("jitter", d->jitter > RM_JITTER_DECORRELATED, error));
        return;
    }
    CHECK_EQ(RM_OK, status);
    d->cap_ns = cap;
    if (d->base_ns == 0) d->base_ns = RM_SEC(1) < cap ? RM_SEC(1) : cap;
    if (d->max_retry_after_ns == 0) d->max_retry_after_ns = RM_MINUTES(5);
    if (d->max_retries == 0) d->max_retries = 3;
}

static rm_deadline pick_deadline(void) {
    const rm_deadline d = {FUZZ_CHOOSE(w.in, 0, INT64_MIN, INT64_MAX, w.time.now + 1,
                                       w.time.now + RM_MS(2), w.time.now + RM_SEC(90))};
    return d;
}

static void do_begin(void) {
    const rm_deadline deadline = pick_deadline();
    rm_error error = {0, RM_OK, "", ""};
    rm_status status;
    memset(&w.tries, 0, sizeof w.tries);
    w.tries.desc = pick_retry();
    w.tries.deadline_ns = deadline.at_ns == 0 ? INT64_MAX : deadline.at_ns;
    status = rm_retry_begin(&w.retry, &w.tries.desc, deadline, &error);
    check_retry(&w.tries.desc, status, &error);
    w.begun = status == RM_OK;
}

/* A decision of rm_retry_next: wait < 0 = it gave up. */
static void check_next(retry_model *r, rm_status status, int64_t asked, int64_t wait) {
    const int64_t most = r->desc.max_retry_after_ns, end = r->deadline_ns;
    const int64_t left = end == INT64_MIN   ? -1
                         : end == INT64_MAX ? INT64_MAX
                                            : rm_time_add(end, -w.time.now);
    int64_t low, high;
    bool never = !rm_retryable(status) || r->desc.max_retries < 0 ||
                 r->used >= (uint32_t)r->desc.max_retries || (asked > most && most != RM_NONE);
    bounds(r, &low, &high);
    if (end != INT64_MAX && (low > asked ? low : asked) >= left) never = true;
    if (never || wait < 0) {
        CHECK(wait < 0);
        CHECK(never || (end != INT64_MAX && high >= left)); /* had it to give up? */
        return;
    }
    CHECK(end == INT64_MAX || wait < left);
    CHECK(wait >= low && wait >= asked && wait <= (high > asked ? high : asked));
    r->previous_ns = wait > high ? high : wait;
    ++r->used;
}

static void do_next(void) {
    const rm_status status = pick_status();
    const int64_t asked = FUZZ_CHOOSE(w.in, 0, -1, 1, RM_MS(1), RM_SEC(2), INT64_MAX, INT64_MIN);
    int64_t wait = -5;
    rm_status next;
    if (!w.begun) return;
    next = rm_retry_next(&w.retry, status, asked, &wait);
    CHECK_EQ(status == RM_OK ? RM_E_INVALID : wait < 0 ? status : RM_OK, next);
    if (status != RM_OK) check_next(&w.tries, status, asked, wait);
}

/* Any arguments: 0 to cap, and within the bounds of the formula. */
static void do_backoff(void) {
    retry_model r;
    int64_t low, high, wait;
    memset(&r, 0, sizeof r);
    r.desc = pick_retry();
    r.used = (uint32_t)FUZZ_CHOOSE(w.in, 0, 1, 2, 10, 62, 63, 64, UINT32_MAX);
    r.previous_ns = FUZZ_CHOOSE(w.in, 0, 1, RM_SEC(20), INT64_MAX, INT64_MIN);
    wait = rm_backoff(r.desc.jitter, r.desc.base_ns, r.desc.cap_ns, r.used, r.previous_ns,
                      &w.retry_random);
    if (r.desc.base_ns == 0) r.desc.base_ns = RM_SEC(1);
    if (r.desc.cap_ns == 0) r.desc.cap_ns = RM_SEC(30);
    bounds(&r, &low, &high);
    if (r.desc.cap_ns < 0) low = high = 0;
    CHECK(wait >= low && wait <= high);
}

/* rm_retry_call: each attempt looks at the clock, so that the wait before it is known. */
typedef struct attempts {
    retry_model model;
    int64_t ended_ns, asked;
    rm_status last;
    uint32_t number;
} attempts;

static rm_status attempt_fn(void *user, rm_attempt *attempt, rm_error *error) {
    attempts *a = (attempts *)user;
    const int64_t wait = w.time.now - a->ended_ns;
    (void)error;
    CHECK_EQ(++a->number, attempt->number);
    CHECK_EQ(a->last, attempt->last);
    w.time.now = a->ended_ns; /* as it was when that was decided */
    if (a->number > 1) check_next(&a->model, a->last, a->asked, wait);
    w.time.now += wait;
    a->asked = attempt->retry_after_ns = FUZZ_CHOOSE(w.in, 0, 0, RM_MS(1), -1);
    a->last = pick_status();
    w.time.now += a->last == RM_E_TIMEOUT ? RM_MS(1) : 0;
    a->ended_ns = w.time.now;
    return a->last;
}

static void do_retry_call(void) {
    const rm_deadline deadline = pick_deadline();
    rm_retry_desc desc = pick_retry();
    rm_error error = {0, RM_OK, "", ""};
    rm_retry retry;
    attempts a;
    rm_status status, ended;
    if (desc.cap_ns > RM_SEC(100)) desc.cap_ns = RM_SEC(100);
    memset(&a, 0, sizeof a);
    a.model.desc = desc;
    a.model.deadline_ns = deadline.at_ns == 0 ? INT64_MAX : deadline.at_ns;
    status = rm_retry_begin(&retry, &desc, deadline, &error);
    check_retry(&a.model.desc, status, &error);
    if (status == RM_OK && deadline.at_ns == INT64_MIN) status = RM_E_TIMEOUT;
    if (status != RM_OK) a.last = status; /* before the first attempt */
    ended = rm_retry_call(&desc, NULL, deadline, NULL, attempt_fn, &a, &error);
    CHECK_EQ(a.last, ended);
    CHECK_EQ(ended, error.status);
    CHECK_EQ(a.number == 0, status != RM_OK);
    if (a.number > 0 && a.last != RM_OK) check_next(&a.model, a.last, a.asked, -1);
}

/* >>main */

static void step(void) {
    switch (fuzz_below(w.in, 16)) {
    case 0: do_trip(); break;
    case 1: do_reset(); break;
    case 2: do_fork(); break;
    case 3: do_call(); break;
    case 4: w.time.now += FUZZ_CHOOSE(w.in, 1, RM_MS(1) - 1, RM_MS(1), RM_MS(9), RM_SEC(31)); break;
    case 5: w.time.now += (int64_t)fuzz_below(w.in, 64) * RM_MS(1); break;
    case 6:
        w.time.now -= FUZZ_CHOOSE(w.in, 1, RM_MS(1), RM_MS(21), RM_SEC(86400), RM_MS(22));
        break;
    case 7: do_begin(); break;
    case 8: do_next(); break;
    case 9: do_backoff(); break;
    case 10: do_retry_call(); break;
    case 11:
    case 12:
    case 13: do_record(); break;
    default: do_acquire(); break;
    }
    if (w.time.now > RM_SEC(86400) * 300 || w.time.now < -RM_SEC(86400) * 300) w.time.now = 0;
    compare();
}

static void describe(fuzz_input *in) {
    rm_breaker_desc *d = &w.desc;
    memset(&w, 0, sizeof w);
    w.in = in;
    w.time.behind = FUZZ_CHOOSE(in, 0, 1, RM_MS(4));
    w.time.now = FUZZ_CHOOSE(in, RM_SEC(1), 0, -RM_SEC(1), RM_SEC(86400) * 200, 999999);
    w.clock = fuzz_clock_make(&w.time);
    w.allocator = fuzz_memory_make(&w.memory);
    w.random = rm_rng_random(&w.rng);
    w.twin_random = rm_rng_random(&w.twin);
    w.env.clock = &w.clock;
    w.env.allocator = &w.allocator;
    w.env.random = &w.random;
    w.retry_env = w.env;
    w.retry_env.random = &w.retry_random;
    w.retry_random = rm_rng_random(&w.others);
    d->name = "fuzzed";
    d->env = &w.env;
    d->open_ns = FUZZ_CHOOSE(in, 0, 1, RM_MS(1), RM_MS(10), 1500001, RM_SEC(86400) * 365);
    d->probe_wait_ns = FUZZ_CHOOSE(in, 0, RM_FOREVER, 1, RM_MS(5), 1500001);
    d->failures = fuzz_below(in, 4);
    d->probes = fuzz_below(in, 4);
    d->probe_successes = fuzz_below(in, 4);
    d->open_jitter_permille = (int32_t)FUZZ_CHOOSE(in, 0, RM_NONE, 1, 1000);
    d->event_fn = event_fn;
    d->user = &w;
}

/* What the model counts with: the defaults that rm_breaker.h promises. */
static void fill_in(rm_breaker_desc *d) {
    if (d->open_ns == 0) d->open_ns = RM_SEC(30);
    if (d->probe_wait_ns == 0) d->probe_wait_ns = d->open_ns;
    if (d->failures == 0) d->failures = 5;
    if (d->probes == 0) d->probes = 1;
    if (d->probe_successes == 0) d->probe_successes = d->probes;
    if (d->open_jitter_permille == 0) d->open_jitter_permille = 100;
    w.jitter_ns = d->open_jitter_permille < 0 ? 0 : d->open_ns / 1000 * d->open_jitter_permille;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_input in = {data, data + size};
    if (size > LONGEST) return 0;
    describe(&in);
    rm_rng_seed(&w.rng, 1);
    rm_rng_seed(&w.twin, 1);
    CHECK_EQ(RM_OK, rm_breaker_create(&w.desc, &w.breaker, NULL));
    fill_in(&w.desc);
    w.stats.generation = 1;
    while (fuzz_more(&in))
        step();
    rm_breaker_destroy(w.breaker);
    CHECK_EQ(1, w.memory.calls);
    CHECK_EQ(0, w.memory.blocks);
    return 0;
}

/* Schedules of rm_breaker.h. */
#define RM_IMPLEMENTATION
#include "rm_breaker.h"

#include "dst.h"

#include "stale.h"

/* Relaxed, so that the test's own books order nothing for the code under test. */
#define GET(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define PUT(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define COUNT(p) __atomic_add_fetch((p), 1, __ATOMIC_RELAXED)

enum { CLOSED = RM_BREAKER_STATE_CLOSED, OPEN = RM_BREAKER_STATE_OPEN };
enum { HALF_OPEN = RM_BREAKER_STATE_HALF_OPEN };
enum { OK = RM_OUTCOME_OK, FAILURE = RM_OUTCOME_FAILURE, IGNORE = RM_OUTCOME_IGNORE };

static rm_breaker *breaker;
static rm_breaker_desc desc;

/* ---- events: one a transition, and sorted by generation they are a chain */

enum { EVENTS = 32 };
static struct { uint32_t told, from, to; } events[EVENTS];
static int64_t latest_probe; /* when its call began */

static void told(rm_breaker *b, const rm_breaker_event *event, void *user) {
    (void)user;
    DST_CHECK(b == breaker && strcmp(event->name, desc.name) == 0);
    DST_CHECK(event->generation > 1 && event->generation < EVENTS);
    DST_CHECK(COUNT(&events[event->generation].told) == 1);
    DST_CHECK((event->rest_ns > 0) == (event->to == RM_BREAKER_STATE_OPEN));
    if (strcmp(event->reason, "probe_lost") == 0)
        DST_CHECK(dst_now() >= GET(&latest_probe) + desc.probe_wait_ns);
    PUT(&events[event->generation].from, (uint32_t)event->from);
    PUT(&events[event->generation].to, (uint32_t)event->to);
}

/* No jitter, and a rest that no schedule is as long as, unless the test passes it. */
static void plain(void) {
    desc = rm_breaker_desc_default();
    desc.open_ns = RM_SEC(3600);
    desc.open_jitter_permille = (int32_t)RM_NONE;
    desc.failures = 2;
    desc.event_fn = told;
}

static void begin(void) {
    DST_CHECK(rm_breaker_create(&desc, &breaker, NULL) == RM_OK);
}

/* Begins with a rest that is over. */
static void begin_rested(void) {
    begin();
    DST_CHECK(rm_breaker_trip(breaker) == RM_OK);
    dst_pass(desc.open_ns + RM_MS(1));
}

static rm_breaker_stats stats(void) {
    rm_breaker_stats s;
    DST_CHECK(rm_breaker_stats_get(breaker, &s) == RM_OK);
    return s;
}

static void finish(void) {
    const rm_breaker_stats s = stats();
    uint32_t state = CLOSED, opened = 0;
    uint64_t i;
    DST_CHECK(s.generation < EVENTS);
    for (i = 2; i <= s.generation; ++i) {
        DST_CHECK(events[i].told == 1 && events[i].from == state && events[i].to != state);
        state = events[i].to;
        opened += state == OPEN;
    }
    DST_CHECK(i == EVENTS || events[i].told == 0);
    DST_CHECK(s.state == (rm_breaker_state)state && s.opened == opened);
    rm_breaker_destroy(breaker);
}

/* ---- what the threads saw */

static uint32_t admitted, rejected, late, failed, ignored, probes_ok;

static bool is_probe(const rm_permit *permit) {
    return rmi_breaker_state(permit->word) == RM_BREAKER_STATE_HALF_OPEN;
}

static bool acquire(rm_permit *permit) {
    const int64_t before = dst_now();
    const rm_status status = rm_breaker_acquire(breaker, permit, NULL);
    DST_CHECK(status == RM_OK || status == RM_E_REJECTED);
    if (status == RM_OK)
        COUNT(&admitted);
    else
        COUNT(&rejected);
    if (status == RM_OK && is_probe(permit) && before > GET(&latest_probe))
        PUT(&latest_probe, before);
    return status == RM_OK;
}

static bool record(rm_permit *permit, int outcome) {
    const bool probe = is_probe(permit);
    const rm_status status = rm_breaker_record(breaker, permit, (rm_outcome)outcome);
    DST_CHECK(status == RM_OK || status == RM_E_STALE);
    DST_CHECK(permit->word == 0 && rm_breaker_record(breaker, permit, RM_OUTCOME_OK) == RM_E_STALE);
    if (status == RM_E_STALE)
        COUNT(&late);
    else if (outcome == FAILURE)
        COUNT(&failed);
    else if (outcome == IGNORE)
        COUNT(&ignored);
    else if (probe)
        COUNT(&probes_ok);
    return status == RM_OK;
}

/* The counters are what the threads saw. */
static void check_counters(void) {
    const rm_breaker_stats s = stats();
    DST_CHECK(s.rejected == rejected && s.failures == failed && s.ignored == ignored);
    DST_CHECK(s.late == late && s.probe_successes == probes_ok);
}

/* ---- closed */

static void fail_all(int index) {
    rm_permit permits[2];
    (void)index;
    if (!acquire(&permits[0])) return;
    if (!acquire(&permits[1])) {
        (void)record(&permits[0], FAILURE);
        return;
    }
    (void)record(&permits[0], FAILURE);
    (void)record(&permits[1], FAILURE);
}

DST(breaker, one_of_several_failures_trips_it) {
    void (*const threads[])(int) = {fail_all, fail_all, fail_all};
    plain();
    begin();
    dst_go(3, threads);
    DST_CHECK(stats().opened == 1 && failed == 2 && failed + late == admitted);
    check_counters();
    finish();
}

/* ---- a history of calls against the state machine as the header's documentation tells it */

enum { ACQUIRE, RECORD, TRIP, RESET };
static rm_breaker_state begins;
static uint32_t first_generation;

typedef struct model {
    bool begun, rested;
    uint32_t state, generation, failures, out, successes;
} model;

static void model_move(model *m, uint32_t to) {
    ++m->generation;
    m->state = to;
    m->failures = m->out = m->successes = 0;
    m->rested = false;
}

static bool model_acquire(model *m, int64_t result) {
    if (m->state == OPEN && m->rested) model_move(m, HALF_OPEN);
    if (m->state == OPEN || (m->state == HALF_OPEN && m->out == desc.probes)) return result == -1;
    if (m->state == HALF_OPEN) ++m->out;
    return result == (int64_t)m->generation;
}

static void model_count(model *m, int64_t outcome) {
    if (m->state == CLOSED) {
        if (outcome == OK) m->failures = 0;
        if (outcome == FAILURE && ++m->failures == desc.failures) model_move(m, OPEN);
        return;
    }
    --m->out;
    if (outcome == OK && ++m->successes == desc.probes) model_move(m, CLOSED);
    if (outcome == FAILURE) model_move(m, OPEN);
}

static bool model_apply(void *state, const dst_op *op) {
    bool accepts = true;
    model m;
    memcpy(&m, state, sizeof m);
    if (!m.begun) {
        m.begun = true;
        m.state = (uint32_t)begins;
        m.rested = begins == RM_BREAKER_STATE_OPEN;
        m.generation = first_generation;
    }
    switch (op->kind) {
    case ACQUIRE: accepts = model_acquire(&m, op->result); break;
    case RECORD:
        accepts = op->result == (op->arg >> 2 == (int64_t)m.generation ? RM_OK : RM_E_STALE);
        if (op->result == RM_OK) model_count(&m, op->arg & 3);
        break;
    case TRIP:
        if (m.state != OPEN) model_move(&m, OPEN);
        m.rested = false;
        break;
    default:
        if (m.state != CLOSED) model_move(&m, CLOSED);
        m.failures = 0;
        break;
    }
    memcpy(state, &m, sizeof m);
    return accepts;
}

static void call(int index) {
    int i;
    (void)index;
    for (i = 0; i < 2; ++i) {
        const int op = dst_called(ACQUIRE, 0);
        rm_permit permit;
        int64_t generation = -1;
        if (acquire(&permit)) generation = (int64_t)rmi_breaker_bits(permit.word);
        dst_returned(op, generation);
        if (generation >= 0) {
            const int outcome = (int)dst_choose(3);
            const int end = dst_called(RECORD, generation << 2 | outcome);
            dst_returned(end, record(&permit, outcome) ? RM_OK : RM_E_STALE);
        }
    }
}

static void trip_or_reset(int index) {
    int i;
    (void)index;
    for (i = 0; i < 2; ++i) {
        const int kind = dst_choose(2) == 0 ? TRIP : RESET;
        const int op = dst_called(kind, 0);
        DST_CHECK((kind == TRIP ? rm_breaker_trip(breaker) : rm_breaker_reset(breaker)) == RM_OK);
        dst_returned(op, 0);
    }
}

static void history(int count, void (*const threads[])(int)) {
    begins = rmi_breaker_state(breaker->word);
    first_generation = (uint32_t)rmi_breaker_bits(breaker->word);
    dst_go(count, threads);
    dst_linearizable(sizeof(model), model_apply);
    check_counters();
    finish();
}

DST(breaker, calls_while_closed_have_an_order) {
    void (*const threads[])(int) = {call, call, call};
    plain();
    begin();
    history(3, threads);
}

DST(breaker, calls_after_the_rest_have_an_order) {
    void (*const threads[])(int) = {call, call, call};
    plain();
    desc.probes = 2;
    begin_rested();
    history(3, threads);
}

DST(breaker, calls_beside_trip_and_reset_have_an_order) {
    void (*const threads[])(int) = {call, trip_or_reset, call};
    plain();
    desc.probes = 2;
    if (dst_choose(2) == 0)
        begin();
    else
        begin_rested();
    history(3, threads);
}

/* ---- probes */

static rm_permit permits[4];
static bool has[4];

static void acquire_one(int index) {
    has[index] = acquire(&permits[index]);
    DST_CHECK(!has[index] || is_probe(&permits[index]));
}

static void record_two(int index) {
    if (has[index]) (void)record(&permits[index], OK);
    if (has[index + 2]) (void)record(&permits[index + 2], OK);
}

DST(breaker, the_end_of_a_rest_lets_so_many_probes_through) {
    void (*const ask[])(int) = {acquire_one, acquire_one, acquire_one, acquire_one};
    void (*const answer[])(int) = {record_two, record_two};
    rm_permit permit;
    plain();
    desc.probes = 2;
    desc.probe_wait_ns = RM_FOREVER;
    begin_rested();
    dst_go(4, ask);
    DST_CHECK(admitted == 2 && rejected == 2);
    dst_pass(2 * desc.open_ns);
    DST_CHECK(rm_breaker_acquire(breaker, &permit, NULL) == RM_E_REJECTED);
    ++rejected;
    DST_CHECK(stats().probes == 2 && stats().probes_out == 2 && !stats().probe_ready);
    dst_go(2, answer);
    DST_CHECK(probes_ok == 2 && stats().state == RM_BREAKER_STATE_CLOSED);
    check_counters();
    finish();
}

/* A probe that is never reported, beside calls while its time runs out. */
static void probe_and_forget(int index) {
    rm_permit permit;
    (void)index;
    (void)acquire(&permit);
    dst_pass(desc.probe_wait_ns / 2 + RM_MS(1));
}

DST(breaker, lost_probes_open_it_once) {
    void (*const threads[])(int) = {probe_and_forget, probe_and_forget, probe_and_forget};
    rm_permit permit;
    const uint32_t callers = 1 + dst_choose(3), probes = 1 + dst_choose(2);
    const uint32_t out = callers < probes ? callers : probes;
    rm_breaker_stats s;
    plain();
    desc.probes = probes;
    desc.probe_wait_ns = RM_SEC(60);
    begin_rested();
    dst_go((int)callers, threads);
    dst_pass(desc.probe_wait_ns + RM_MS(1));
    DST_CHECK(!acquire(&permit)); /* it sees what is lost, if nobody has before */
    s = stats();
    DST_CHECK(admitted == out && s.probes == out && s.lost == out && s.opened == 2);
    finish();
}

static void probe_late(int index) {
    rm_permit permit;
    const bool probe = acquire(&permit);
    (void)index;
    dst_pass(desc.probe_wait_ns / 2 * (1 + dst_choose(2)) + RM_MS(1));
    if (probe) (void)record(&permit, dst_choose(2) == 0 ? OK : IGNORE);
}

/* A probe in time closes it; one that comes late finds that it was given up. */
DST(breaker, a_probe_that_is_late_or_just_in_time) {
    void (*const threads[])(int) = {probe_late, probe_late, probe_late};
    rm_breaker_stats s;
    plain();
    desc.probe_wait_ns = RM_SEC(60);
    desc.probes = 1;
    desc.probe_successes = 2; /* after the first nobody is out, and nothing can be lost */
    begin_rested();
    dst_go(3, threads);
    s = stats();
    DST_CHECK(s.lost == late && s.probes >= 1 && s.probes <= admitted);
    DST_CHECK(s.probes >= probes_ok + late);
    DST_CHECK(s.opened == 1 + s.lost);
    check_counters();
    finish();
}

/* ---- what is stale */

static void report_old(int index) {
    DST_CHECK(!record(&permits[index], index == 0 ? FAILURE : OK));
}

static void fail_once(int index) {
    rm_permit permit;
    (void)index;
    DST_CHECK(acquire(&permit));
    DST_CHECK(record(&permit, FAILURE));
}

DST(breaker, a_report_of_an_older_generation_changes_nothing) {
    void (*const threads[])(int) = {report_old, report_old, fail_once};
    plain();
    begin();
    DST_CHECK(acquire(&permits[0]) && acquire(&permits[1]));
    DST_CHECK(rm_breaker_trip(breaker) == RM_OK && rm_breaker_reset(breaker) == RM_OK);
    dst_go(3, threads);
    DST_CHECK(stats().consecutive_failures == 1 && stats().state == RM_BREAKER_STATE_CLOSED);
    check_counters();
    finish();
}

static void trip_and_reset(int index) {
    (void)index;
    DST_CHECK(rm_breaker_trip(breaker) == RM_OK);
    DST_CHECK(rm_breaker_reset(breaker) == RM_OK);
}

DST(breaker, a_generation_does_not_come_back) {
    stale_permits_beside_trips();
}

/* What the header promises not to see: 2^23 transitions later, to the digit, it is a new permit. */
DST(breaker, a_permit_comes_back_after_all_generations) {
    const uint64_t all = UINT64_C(1) << RMI_BREAKER_GENERATION;
    int i;
    plain();
    for (i = 0; i < 2; ++i) {
        rm_permit permit;
        begin();
        DST_CHECK(acquire(&permit));
        breaker->generation += all - (uint64_t)i; /* as if it had moved so often */
        breaker->word = rmi_breaker_make(RM_BREAKER_STATE_CLOSED, breaker->generation, 0);
        DST_CHECK(record(&permit, FAILURE) == (i == 0));
        DST_CHECK(stats().consecutive_failures == (i == 0));
        rm_breaker_destroy(breaker);
    }
}

/* ---- what happened before a transition is visible to the calls that see its state */

static int told_plainly; /* no atomic: reading it without order is a race */

static void tell_and_trip(int index) {
    (void)index;
    told_plainly = 1;
    DST_CHECK(rm_breaker_trip(breaker) == RM_OK);
}

static void see_and_read(int index) {
    rm_permit permit;
    bool open;
    switch (index) {
    case 1: open = rm_breaker_acquire(breaker, &permit, NULL) == RM_E_REJECTED; break;
    case 2: open = stats().state == RM_BREAKER_STATE_OPEN; break;
    default: open = rm_breaker_record(breaker, &permits[0], RM_OUTCOME_OK) == RM_E_STALE; break;
    }
    if (open) DST_CHECK(told_plainly == 1);
}

DST(breaker, what_was_before_a_trip_is_seen_by_who_sees_it) {
    void (*const threads[])(int) = {tell_and_trip, see_and_read, see_and_read, see_and_read};
    plain();
    begin();
    DST_CHECK(acquire(&permits[0]));
    dst_go(4, threads);
    finish();
}

/* Those that meet the trip in the middle of a change of their own. */
static void meet_and_read(int index) {
    rm_permit permit;
    bool open;
    if (index == 1)
        open = rm_breaker_acquire(breaker, &permit, NULL) == RM_E_REJECTED;
    else
        open = rm_breaker_record(breaker, &permits[0], RM_OUTCOME_IGNORE) == RM_E_STALE;
    if (open) DST_CHECK(told_plainly == 1);
}

DST(breaker, what_was_before_a_trip_is_seen_by_who_loses_to_it) {
    void (*const threads[])(int) = {tell_and_trip, meet_and_read, meet_and_read};
    plain();
    desc.probes = 3;
    begin_rested();
    DST_CHECK(acquire(&permits[0]));
    dst_go(3, threads);
    finish();
}

/* And those that change it by hand after a transition: their event comes after what was before. */
static void read_in_event(rm_breaker *b, const rm_breaker_event *event, void *user) {
    told(b, event, user);
    if (event->generation > *(const uint64_t *)user) DST_CHECK(told_plainly == 1);
}

static void tell_and_reset(int index) {
    (void)index;
    told_plainly = 1;
    DST_CHECK(rm_breaker_reset(breaker) == RM_OK);
}

static void reset_by_hand(int index) {
    (void)index;
    DST_CHECK(rm_breaker_reset(breaker) == RM_OK);
}

static void trip_by_hand(int index) {
    (void)index;
    DST_CHECK(rm_breaker_trip(breaker) == RM_OK);
}

DST(breaker, what_was_before_a_trip_is_seen_by_a_reset) {
    void (*const threads[])(int) = {tell_and_trip, reset_by_hand};
    uint64_t first = 2;
    plain();
    desc.event_fn = read_in_event;
    desc.user = &first;
    begin();
    dst_go(2, threads);
    finish();
}

DST(breaker, what_was_before_a_reset_is_seen_by_a_trip) {
    void (*const threads[])(int) = {tell_and_reset, trip_by_hand};
    uint64_t first = 3;
    plain();
    desc.event_fn = read_in_event;
    desc.user = &first;
    begin();
    DST_CHECK(rm_breaker_trip(breaker) == RM_OK);
    dst_go(2, threads);
    finish();
}

/* ---- retry */

static int attempts;
static rm_cancel *token;

static rm_status fail_twice(void *user, rm_attempt *attempt, rm_error *error) {
    const int number = COUNT((int *)user);
    DST_CHECK(attempt->number == (uint32_t)number);
    if (number > 2 && !dst_fault("fn")) return RM_OK;
    return rm_error_set(error, RM_E_REFUSED, 7, "db", "refused");
}

static rm_retry_desc short_retries(void) {
    rm_retry_desc retry = rm_retry_desc_default();
    retry.base_ns = RM_MS(2);
    retry.jitter = RM_JITTER_NONE;
    return retry;
}

static void try_again(int index) {
    const rm_retry_desc retry = short_retries();
    int tries = 0;
    rm_error error;
    const rm_deadline deadline = {dst_now() + RM_SEC(20)};
    const rm_status status =
        rm_retry_call(&retry, breaker, deadline, token, fail_twice, &tries, &error);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_REFUSED || status == RM_E_REJECTED ||
              (status == RM_E_CANCELLED && token != NULL));
    DST_CHECK(status == RM_OK || error.status == status);
    DST_CHECK((status == RM_OK) == (tries == 3) && (status != RM_E_REJECTED || tries == 0));
    __atomic_add_fetch(&attempts, tries, __ATOMIC_RELAXED);
    if (status == RM_OK) COUNT(&admitted);
}

DST(breaker, retries_beside_trips) {
    void (*const threads[])(int) = {try_again, try_again, trip_and_reset};
    rm_breaker_stats s;
    plain();
    desc.failures = 5;
    desc.open_ns = RM_MS(5);
    begin();
    dst_go(3, threads);
    s = stats();
    DST_CHECK(s.failures + s.late + s.probe_successes <= (uint64_t)attempts);
    DST_CHECK(s.failures + s.late + admitted >= (uint64_t)attempts); /* successes, late or not */
    finish();
}

static void request_cancel(int index) {
    (void)index;
    rm_cancel_request(token);
}

DST(breaker, a_cancelled_retry_ends_its_wait) {
    void (*const threads[])(int) = {try_again, request_cancel};
    rm_cancel cancel;
    plain();
    desc.failures = 9;
    begin();
    DST_CHECK(rm_cancel_init(&cancel) == RM_OK);
    token = &cancel;
    dst_go(2, threads);
    rm_cancel_destroy(&cancel);
    DST_CHECK(stats().failures <= 2);
    finish();
}

/* ---- torture */

static rm_status work(void *user, rm_error *error) {
    (void)user;
    if (dst_fault("fn")) return rm_error_set(error, RM_E_REFUSED, 7, "db", "refused");
    return RM_OK;
}

static rm_status fall_back(void *user, const rm_error *reason) {
    (void)user;
    DST_CHECK(reason->status == RM_E_REFUSED || reason->status == RM_E_REJECTED);
    return dst_fault("fallback_fn") ? RM_E_FAILED : RM_OK;
}

DST_TORTURE(breaker, survives_every_failure_of_its_life) {
    rm_retry_desc retry = short_retries();
    rm_cancel cancel;
    rm_status status;
    rm_error error;
    rm_deadline soon;
    rm_permit permit;
    int i, tries = 0;
    plain();
    desc.open_ns = RM_MS(5);
    desc.open_jitter_permille = 1000;
    status = rm_breaker_create(&desc, &breaker, NULL);
    DST_CHECK(status == RM_OK || dst_faults() > 0);
    if (status != RM_OK) {
        DST_CHECK(breaker == NULL);
        return;
    }
    for (i = 0; i < 3; ++i) {
        status = rm_breaker_call(breaker, work, fall_back, NULL, &error);
        DST_CHECK(status == RM_OK || (dst_faults() > 0 && error.status == status));
    }
    DST_CHECK(rm_breaker_trip(breaker) == RM_OK);
    DST_CHECK(rm_breaker_acquire(breaker, &permit, NULL) == RM_E_REJECTED || dst_faults() > 0);
    DST_CHECK(rm_breaker_reset(breaker) == RM_OK);
    status = rm_cancel_init(&cancel);
    DST_CHECK(status == RM_OK || dst_faults() > 0);
    token = status == RM_OK ? &cancel : NULL;
    soon = rm_deadline_after(NULL, RM_SEC(10));
    status = rm_retry_call(&retry, breaker, soon, token, fail_twice, &tries, &error);
    DST_CHECK(status == RM_OK || dst_faults() > 0);
    DST_CHECK(status == RM_OK || error.status == status);
    if (token != NULL) rm_cancel_destroy(&cancel);
    finish();
}

/* The second trip begins the rest anew, without clock or chance too. */
DST_TORTURE(breaker, survives_every_failure_of_a_second_trip) {
    rm_permit permit;
    int i;
    plain();
    desc.open_jitter_permille = 1000;
    if (rm_breaker_create(&desc, &breaker, NULL) != RM_OK) {
        DST_CHECK(dst_faults() > 0);
        return;
    }
    for (i = 0; i < 2; ++i) {
        DST_CHECK(rm_breaker_trip(breaker) == RM_OK);
        DST_CHECK(stats().state == RM_BREAKER_STATE_OPEN);
        dst_pass(RM_SEC(3000));
        DST_CHECK(rm_breaker_acquire(breaker, &permit, NULL) == RM_E_REJECTED || dst_faults() > 0);
    }
    finish();
}

/* A probe is out while others ask, until it is lost; the next one is out at a fork. */
DST_TORTURE(breaker, survives_every_failure_of_a_probe) {
    rm_permit permit, other;
    int i;
    plain();
    if (rm_breaker_create(&desc, &breaker, NULL) != RM_OK) {
        DST_CHECK(dst_faults() > 0);
        return;
    }
    DST_CHECK(rm_breaker_trip(breaker) == RM_OK);
    for (i = 0; i < 2; ++i) {
        rm_status status;
        dst_pass(RM_SEC(3601));
        status = rm_breaker_acquire(breaker, &permit, NULL);
        DST_CHECK(status == RM_OK || dst_faults() > 0);
        DST_CHECK(rm_breaker_acquire(breaker, &other, NULL) == RM_E_REJECTED || dst_faults() > 0);
        dst_pass(RM_SEC(3601));
        if (i == 1) break;
        DST_CHECK(rm_breaker_acquire(breaker, &other, NULL) == RM_E_REJECTED || dst_faults() > 0);
        DST_CHECK(stats().lost == 1 || dst_faults() > 0);
    }
    DST_CHECK(rm_breaker_after_fork_child(breaker) == RM_OK &&
              stats().state != RM_BREAKER_STATE_HALF_OPEN);
    rm_breaker_destroy(breaker);
}

static bool gives_up;

static bool is_worth_it(rm_status status, void *user) {
    (void)user;
    if (dst_fault("retryable_fn")) gives_up = true;
    return status == RM_E_REFUSED && !gives_up;
}

DST_TORTURE(breaker, survives_every_failure_of_a_retry) {
    rm_retry_desc retry = short_retries();
    const rm_deadline deadline = {dst_now() + RM_SEC(10)};
    rm_status status;
    int tries = 0;
    retry.jitter = RM_JITTER_EQUAL;
    retry.retryable_fn = is_worth_it;
    status = rm_retry_call(&retry, NULL, deadline, NULL, fail_twice, &tries, NULL);
    DST_CHECK(status == RM_OK ? tries >= 3 && !gives_up : dst_faults() > 0);
}

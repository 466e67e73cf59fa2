/* Schedules of what waits in rm.h: queue, semaphore, token, clocks, sleep, and of the registry. */
#define RM_IMPLEMENTATION
#include "rm.h"

#include <stdlib.h>

#include "dst.h"
#include "queue.h"

/* The hooks' atomics are relaxed, so that they order nothing which the headers must order. */
#define LOAD(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define STORE(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define ADD(p, v) __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)

static const rm_deadline never = {0};
static rm_cancel token;

static void cancels(int index) {
    (void)index;
    rm_cancel_request(&token);
}

/* Overwrites the stack where a waiter was: whoever still works on it races with this. */
static __attribute__((noinline)) void scribble(void) {
    char over[600];
    memset(over, 0x5A, sizeof over);
    __asm__ volatile("" : : "r"(over) : "memory");
}

/* ---- semaphore */

static rm_sem sem;
static int behind[2]; /* plain: each permit is the right to write to one of them */

static const char *sem_overslept(void *user) {
    const char *wrong = queue_wrong(&sem.queue);
    (void)user;
    if (wrong != NULL) return wrong;
    if (sem.queue.head != NULL && sem.permits > 0) return "a waiter sleeps beside a free permit";
    return NULL;
}

/* With all permits taken, or with all of them free. */
static void sem_begin(uint32_t permits, int64_t barge_ns, uint32_t max_waiters, bool taken) {
    rm_sem_desc desc;
    uint32_t i;
    memset(&desc, 0, sizeof desc);
    desc.permits = permits;
    desc.barge_ns = barge_ns;
    desc.max_waiters = max_waiters;
    DST_CHECK(rm_sem_init(&sem, &desc) == RM_OK);
    DST_CHECK(rm_cancel_init(&token) == RM_OK);
    for (i = 0; taken && i < permits; ++i)
        DST_CHECK(rm_sem_acquire(&sem, RM_NOWAIT, NULL) == RM_OK);
    dst_when_idle(sem_overslept, NULL);
}

static void sem_finish(void) {
    const rm_waitq_stats *s = &sem.queue.stats;
    DST_CHECK(sem_overslept(NULL) == NULL);
    DST_CHECK(rm_sem_available(&sem) == sem.max);
    DST_CHECK(s->waits == s->granted + s->timeouts + s->cancelled + s->ended && s->waiting == 0);
    DST_CHECK(rm_cancel_destroy(&token) == RM_OK);
    DST_CHECK(rm_sem_destroy(&sem) == RM_OK);
}

static rm_status sem_use(int64_t timeout_ns, rm_cancel *cancel) {
    const rm_status status = rm_sem_acquire(&sem, timeout_ns, cancel);
    scribble();
    if (status != RM_OK) return status;
    if (sem.max == 1) ++behind[0];
    dst_point();
    DST_CHECK(rm_sem_release(&sem) == RM_OK);
    return RM_OK;
}

static void sem_uses(int index) {
    (void)index;
    DST_CHECK(sem_use(RM_FOREVER, NULL) == RM_OK);
}

static void sem_uses_for_50_us(int index) {
    const rm_status status = sem_use(RM_US(50), NULL);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_TIMEOUT);
}

static void sem_uses_with_token(int index) {
    const rm_status status = sem_use(RM_FOREVER, &token);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_CANCELLED);
}

static void sem_uses_with_token_for_50_us(int index) {
    const rm_status status = sem_use(RM_US(50), &token);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_TIMEOUT || status == RM_E_CANCELLED);
}

static void sem_gives_back(int index) {
    (void)index;
    if (sem.max == 1) ++behind[0];
    DST_CHECK(rm_sem_release(&sem) == RM_OK);
}

static void sem_gives_back_in_50_us(int index) {
    dst_pass(RM_US(50));
    sem_gives_back(index);
}

DST(sem, release_meets_one_waiter) {
    void (*const threads[])(int) = {sem_uses, sem_gives_back};
    sem_begin(1, 0, 0, true);
    dst_go(2, threads);
    DST_CHECK(behind[0] == 2);
    sem_finish();
}

DST(sem, two_releases_meet_two_waiters) {
    void (*const threads[])(int) = {sem_uses, sem_uses, sem_gives_back, sem_gives_back};
    sem_begin(2, 0, 0, true);
    dst_go(4, threads);
    sem_finish();
}

DST(sem, keeps_others_out) {
    void (*const threads[])(int) = {sem_uses, sem_uses, sem_uses};
    sem_begin(1, 0, 0, false);
    dst_go(3, threads);
    DST_CHECK(behind[0] == 3);
    sem_finish();
}

DST(sem, strict_keeps_others_out) {
    void (*const threads[])(int) = {sem_uses, sem_uses, sem_uses};
    sem_begin(1, RM_STRICT, 0, false);
    dst_go(3, threads);
    DST_CHECK(behind[0] == 3);
    sem_finish();
}

DST(sem, timeout_meets_release) {
    void (*const threads[])(int) = {sem_uses_for_50_us, sem_uses, sem_gives_back_in_50_us};
    sem_begin(1, 0, 0, true);
    dst_go(3, threads);
    sem_finish();
}

DST(sem, cancel_meets_release) {
    void (*const threads[])(int) = {sem_uses_with_token, sem_uses, sem_gives_back, cancels};
    sem_begin(1, 0, 0, true);
    dst_go(4, threads);
    sem_finish();
}

DST(sem, cancel_meets_timeout) {
    void (*const threads[])(int) = {sem_uses_with_token_for_50_us, sem_gives_back_in_50_us,
                                    cancels};
    sem_begin(1, RM_STRICT, 0, true);
    dst_go(3, threads);
    sem_finish();
}

static void sem_uses_unless_full(int index) {
    const rm_status status = sem_use(RM_FOREVER, NULL);
    DST_CHECK(status == RM_OK || status == RM_E_FULL);
    if (status == RM_E_FULL) behind[index] = 1;
}

DST(sem, no_more_wait_than_may) {
    void (*const threads[])(int) = {sem_uses_unless_full, sem_uses_unless_full, sem_gives_back};
    sem_begin(1, 0, 1, true);
    sem.max = 2; /* nothing is behind it here, and never more than one permit out */
    dst_go(3, threads);
    sem.max = 1;
    DST_CHECK(behind[0] + behind[1] <= 1);
    DST_CHECK(sem.queue.stats.refused == (uint32_t)(behind[0] + behind[1]));
    sem_finish();
}

/* What the canceller wrote before is there for one that sees the request. */
static int reason; /* plain */

static void cancels_with_a_reason(int index) {
    reason = 42;
    cancels(index);
}

static void polls_the_token(int index) {
    (void)index;
    if (rm_cancel_requested(&token)) DST_CHECK(reason == 42);
}

DST(cancel, comes_with_what_was_written_before) {
    void (*const threads[])(int) = {polls_the_token, cancels_with_a_reason};
    DST_CHECK(rm_cancel_init(&token) == RM_OK);
    dst_go(2, threads);
    DST_CHECK(rm_cancel_destroy(&token) == RM_OK);
}

/* ---- histories of a semaphore */

enum { ACQUIRE, RELEASE };

static void sem_tries_for_the_record(int index) {
    int i, op;
    (void)index;
    for (i = 0; i < 2; ++i) {
        rm_status status;
        op = dst_called(ACQUIRE, sem.max);
        status = rm_sem_acquire(&sem, RM_NOWAIT, NULL);
        dst_returned(op, status);
        if (status != RM_OK) continue;
        op = dst_called(RELEASE, sem.max);
        dst_returned(op, rm_sem_release(&sem));
    }
}

/* A semaphore as a number: how many permits are out. */
static bool count_out(void *state, const dst_op *op) {
    int64_t *out = (int64_t *)state;
    if (op->kind == RELEASE) return op->result == RM_OK ? (*out)-- > 0 : *out == 0;
    if (op->result == RM_E_BUSY) return *out == op->arg;
    return op->result == RM_OK && (*out)++ < op->arg;
}

static void sem_releases_too_often(int index) {
    int op = dst_called(RELEASE, sem.max);
    (void)index;
    dst_returned(op, rm_sem_release(&sem));
    op = dst_called(ACQUIRE, sem.max);
    dst_returned(op, rm_sem_acquire(&sem, RM_NOWAIT, NULL));
}

DST(sem, tries_have_an_order) {
    void (*const threads[])(int) = {sem_tries_for_the_record, sem_tries_for_the_record,
                                    sem_tries_for_the_record};
    sem_begin(2, 0, 0, false);
    dst_go(3, threads);
    dst_linearizable(sizeof(int64_t), count_out);
    sem_finish();
}

DST(sem, releases_of_what_is_not_out_have_an_order) {
    void (*const threads[])(int) = {sem_releases_too_often, sem_releases_too_often,
                                    sem_tries_for_the_record};
    sem_begin(1, 0, 0, false);
    dst_go(3, threads);
    dst_linearizable(sizeof(int64_t), count_out);
    while (rm_sem_release(&sem) == RM_OK)
        continue;
    sem_finish();
}

/* ---- wait queue: an owner as rm.h describes it, whose units are handed out without a lock */

enum { A_UNIT = 7 };

static rm_waitq queue;
static uint32_t units;

static bool take(void *owner, void *request, uint64_t *grant) {
    uint32_t n = __atomic_load_n(&units, __ATOMIC_SEQ_CST);
    (void)owner, (void)request;
    *grant = A_UNIT;
    while (n > 0)
        if (__atomic_compare_exchange_n(&units, &n, n - 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
            return true;
    return false;
}

static void give(void) {
    (void)__atomic_fetch_add(&units, 1, __ATOMIC_SEQ_CST);
    rm_waitq_notify(&queue);
}

static const char *queue_overslept(void *user) {
    const char *wrong = queue_wrong(&queue);
    (void)user;
    if (wrong != NULL) return wrong;
    if (queue.head != NULL && queue.desc.try_fn != NULL && units > 0)
        return "a waiter sleeps beside a free unit";
    return NULL;
}

static void queue_begin_on(const rm_clock *clock, rm_waitq_try_fn try_fn, uint32_t free_units) {
    rm_waitq_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.try_fn = try_fn;
    desc.clock = clock;
    units = free_units;
    DST_CHECK(rm_waitq_init(&queue, &desc) == RM_OK);
    DST_CHECK(rm_cancel_init(&token) == RM_OK);
    dst_when_idle(queue_overslept, NULL);
}

static void queue_begin(uint32_t free_units) {
    queue_begin_on(NULL, take, free_units);
}

static void queue_finish(uint32_t free_units) {
    rm_waitq_stats s;
    DST_CHECK(queue_overslept(NULL) == NULL);
    DST_CHECK(rm_waitq_stats_get(&queue, &s) == RM_OK);
    DST_CHECK(s.waits == s.granted + s.timeouts + s.cancelled + s.ended && s.waiting == 0);
    DST_CHECK(units == free_units);
    DST_CHECK(rm_cancel_destroy(&token) == RM_OK);
    DST_CHECK(rm_waitq_destroy(&queue) == RM_OK);
}

static bool too_late; /* for any grant */

static bool has_passed(rm_deadline deadline) {
    return deadline.at_ns != 0 && rm_now(queue.desc.clock) >= deadline.at_ns;
}

static rm_status wait_and_give(rm_deadline deadline, rm_cancel *cancel) {
    uint64_t grant = 0;
    const rm_status status = rm_waitq_wait(&queue, NULL, deadline, cancel, &grant);
    scribble();
    DST_CHECK(grant == (status == RM_OK ? A_UNIT : 0));
    if (status == RM_E_TIMEOUT) DST_CHECK(has_passed(deadline) || dst_faults() > 0);
    if (status != RM_OK) return status;
    DST_CHECK(!too_late);
    give();
    return RM_OK;
}

static void waits(int index) {
    (void)index;
    DST_CHECK(wait_and_give(never, NULL) == RM_OK);
}

static void waits_for_50_us(int index) {
    const rm_status status = wait_and_give(rm_deadline_after(NULL, RM_US(50)), NULL);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_TIMEOUT);
}

static void waits_unless_closed(int index) {
    const rm_status status = wait_and_give(never, NULL);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_CLOSED);
}

static void gives(int index) {
    (void)index;
    give();
}

static void gives_in_50_us(int index) {
    dst_pass(RM_US(50));
    give();
    (void)index;
}

/* ---- asynchronous waiters; done_fn frees their memory, unless a remove may still look at it */

typedef struct callback {
    rm_waiter waiter;
    uint32_t calls;
    rm_status status;
    bool keeps_memory;
} callback;

static uint32_t callbacks_done;
static callback kept[2];

static void done(rm_status status, uint64_t grant, void *user) {
    callback *c = (callback *)user;
    DST_CHECK(ADD(&c->calls, 1) == 0);
    DST_CHECK(grant == (status == RM_OK ? A_UNIT : 0));
    if (status == RM_E_TIMEOUT) DST_CHECK(has_passed(c->waiter.deadline) || dst_faults() > 0);
    c->status = status;
    if (!c->keeps_memory) free(c);
    if (status == RM_OK) give(); /* calls back into the queue */
    (void)ADD(&callbacks_done, 1);
}

/* Adds a waiter that is freed when it is done; tells whether it was taken. */
static rm_status adds_and_forgets(rm_deadline deadline, rm_cancel *cancel) {
    callback *c = (callback *)calloc(1, sizeof *c);
    const rm_status status =
        c == NULL ? RM_E_NOMEM : rm_waitq_add(&queue, &c->waiter, NULL, deadline, cancel, done, c);
    if (status != RM_OK) free(c);
    return status;
}

static void adds(int index) {
    (void)index;
    DST_CHECK(adds_and_forgets(never, NULL) == RM_OK);
}

static void adds_for_50_us(int index) {
    (void)index;
    DST_CHECK(adds_and_forgets(rm_deadline_after(NULL, RM_US(50)), NULL) == RM_OK);
}

static void adds_with_token(int index) {
    const rm_status status = adds_and_forgets(never, &token);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_CANCELLED);
    if (status != RM_OK) (void)ADD(&callbacks_done, 1);
}

static void adds_unless_closed(int index) {
    const rm_status status = adds_and_forgets(never, NULL);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_CLOSED);
    if (status != RM_OK) (void)ADD(&callbacks_done, 1);
}

static void add_kept(int index, rm_cancel *cancel) {
    kept[index].keeps_memory = true;
    DST_CHECK(rm_waitq_add(&queue, &kept[index].waiter, NULL, never, cancel, done, &kept[index]) ==
              RM_OK);
}

static void removes_the_first(int index) {
    const rm_status status = rm_waitq_remove(&queue, &kept[0].waiter);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_STALE);
    if (status == RM_OK) DST_CHECK(kept[0].calls == 1 && kept[0].status == RM_E_CANCELLED);
}

static void expires(int index) {
    (void)index;
    dst_pass(RM_US(50));
    (void)rm_waitq_expire(&queue);
}

DST(waitq, release_meets_one_waiter) {
    void (*const threads[])(int) = {waits, gives};
    queue_begin(0);
    dst_go(2, threads);
    queue_finish(1);
}

DST(waitq, release_meets_add) {
    void (*const threads[])(int) = {adds, gives};
    queue_begin(0);
    dst_go(2, threads);
    DST_CHECK(callbacks_done == 1);
    queue_finish(1);
}

DST(waitq, thread_and_callback_share_one_unit) {
    void (*const threads[])(int) = {waits, adds, gives};
    queue_begin(0);
    dst_go(3, threads);
    DST_CHECK(callbacks_done == 1);
    queue_finish(1);
}

DST(waitq, timeout_meets_grant) {
    void (*const threads[])(int) = {waits_for_50_us, waits, gives_in_50_us};
    queue_begin(0);
    dst_go(3, threads);
    queue_finish(1);
}

DST(waitq, remove_meets_grant) {
    void (*const threads[])(int) = {removes_the_first, gives};
    queue_begin(0);
    add_kept(0, NULL);
    add_kept(1, NULL);
    dst_go(2, threads);
    DST_CHECK(callbacks_done == 2 && kept[1].status == RM_OK);
    queue_finish(1);
}

DST(waitq, remove_meets_request_and_remove) {
    void (*const threads[])(int) = {removes_the_first, removes_the_first, cancels};
    queue_begin(0);
    add_kept(0, &token);
    dst_go(3, threads);
    DST_CHECK(callbacks_done == 1 && kept[0].status == RM_E_CANCELLED);
    queue_finish(0);
}

DST(waitq, request_meets_add_and_grant) {
    void (*const threads[])(int) = {adds_with_token, cancels, gives};
    queue_begin(0);
    dst_go(3, threads);
    DST_CHECK(callbacks_done == 1);
    queue_finish(1);
}

DST(waitq, request_meets_add) {
    void (*const threads[])(int) = {adds_with_token, cancels};
    queue_begin(0);
    dst_go(2, threads);
    DST_CHECK(callbacks_done == 1);
    queue_finish(0);
}

DST(waitq, expire_reaches_those_behind_the_head) {
    void (*const threads[])(int) = {adds_for_50_us, expires, expires};
    queue_begin(0);
    add_kept(0, NULL);
    dst_go(3, threads);
    expires(0);
    DST_CHECK(callbacks_done == 1 && rm_waitq_expire(&queue) == INT64_MAX);
    removes_the_first(0);
    queue_finish(0);
}

DST(waitq, expire_meets_grant) {
    void (*const threads[])(int) = {adds_for_50_us, adds, expires, gives};
    queue_begin(0);
    dst_go(4, threads);
    (void)rm_waitq_expire(&queue);
    DST_CHECK(callbacks_done == 2);
    queue_finish(1);
}

static void waits_for_50_us_or_a_token(int index) {
    const rm_status status = wait_and_give(rm_deadline_after(NULL, RM_US(50)), &token);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_TIMEOUT || status == RM_E_CANCELLED);
}

/* Gives to a queue whose head is over, if it comes so: then the head gets nothing. */
static void gives_too_late(int index) {
    dst_pass(RM_US(50));
    rm_waitq_lock(&queue);
    too_late = queue.head != NULL && rmi_waiter_over(queue.head, dst_now()) != RM_OK;
    rm_waitq_unlock(&queue);
    gives(index);
}

DST(waitq, unit_that_comes_too_late_is_not_granted) {
    void (*const threads[])(int) = {waits_for_50_us_or_a_token, gives_too_late, cancels};
    queue_begin(0);
    dst_go(3, threads);
    queue_finish(1);
}

static void waits_for_a_completion(int index) {
    uint64_t grant = 0;
    const rm_status status =
        rm_waitq_wait(&queue, NULL, rm_deadline_after(NULL, RM_US(50)), &token, &grant);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_TIMEOUT || status == RM_E_CANCELLED);
    DST_CHECK(grant == (status == RM_OK ? A_UNIT : 0));
}

static void completes_too_late(int index) {
    bool late;
    uint32_t count;
    (void)index;
    dst_pass(RM_US(50));
    rm_waitq_lock(&queue);
    late = queue.head != NULL && rmi_waiter_over(queue.head, dst_now()) != RM_OK;
    count = rm_waitq_complete(&queue, NULL, RM_OK, A_UNIT);
    rm_waitq_unlock(&queue);
    DST_CHECK(count == 0 || !late);
}

DST(waitq, completion_that_comes_too_late_is_none) {
    void (*const threads[])(int) = {waits_for_a_completion, completes_too_late, cancels};
    queue_begin_on(NULL, NULL, 0);
    dst_go(3, threads);
    queue_finish(0);
}

static void adds_for_50_us_then_waits(int index) {
    adds_for_50_us(index);
    dst_pass(RM_US(50));
    waits(index);
}

static void gives_in_a_while(int index) {
    DST_CHECK(rm_sleep(NULL, RM_MS(1), NULL) == RM_OK);
    gives(index);
}

DST(waitq, waits_after_the_callbacks_it_caused) {
    void (*const threads[])(int) = {adds_for_50_us_then_waits, gives_in_a_while};
    queue_begin(0);
    dst_go(2, threads);
    DST_CHECK(callbacks_done == 1);
    queue_finish(1);
}

static void closes(int index) {
    (void)index;
    rm_waitq_close(&queue);
}

static void closes_and_opens(int index) {
    closes(index);
    rm_waitq_open(&queue);
}

DST(waitq, close_meets_wait_add_and_release) {
    void (*const threads[])(int) = {waits_unless_closed, adds_unless_closed, gives, closes};
    queue_begin(0);
    dst_go(4, threads);
    DST_CHECK(callbacks_done == 1);
    DST_CHECK(adds_and_forgets(never, NULL) == RM_E_CLOSED);
    queue_finish(1);
}

DST(waitq, open_strands_nobody) {
    void (*const threads[])(int) = {waits_unless_closed, waits_unless_closed, closes_and_opens};
    queue_begin(1);
    dst_go(3, threads);
    DST_CHECK(!rm_waitq_must_queue(&queue));
    queue_finish(1);
}

/* Its done_fn queues once more, before it gives the unit back. */
static void done_again(rm_status status, uint64_t grant, void *user) {
    callback *c = (callback *)user;
    DST_CHECK(status == RM_OK && grant == A_UNIT);
    add_kept(1, NULL);
    DST_CHECK(ADD(&c->calls, 1) == 0);
    give();
    (void)ADD(&callbacks_done, 1);
}

static void adds_one_that_adds(int index) {
    (void)index;
    DST_CHECK(rm_waitq_add(&queue, &kept[0].waiter, NULL, never, NULL, done_again, &kept[0]) ==
              RM_OK);
}

DST(waitq, callback_queues_again) {
    void (*const threads[])(int) = {adds_one_that_adds, waits, gives};
    queue_begin(0);
    dst_go(3, threads);
    DST_CHECK(callbacks_done == 2);
    queue_finish(1);
}

/* ---- barging: a head that finds its unit gone after barge_ns is owed the next one */

static int64_t noted, failed_at; /* plain: this queue reads its clock and tries with its lock */

static int64_t note_now(void *user) {
    (void)user;
    noted = rm_now(NULL);
    return noted;
}

static bool take_or_note(void *owner, void *request, uint64_t *grant) {
    const bool taken = take(owner, request, grant);
    if (!taken) failed_at = noted;
    return taken;
}

static const char *beaten_again(void *user) {
    if (queue.head != NULL && failed_at - queue.head->since_ns >= queue.desc.barge_ns &&
        !rm_waitq_must_queue(&queue))
        return "newcomers may beat a head that was beaten after its time";
    return queue_overslept(user);
}

static void gives_and_takes_it_back(int index) {
    uint64_t grant;
    gives(index);
    dst_pass(RM_US(50));
    if (rm_waitq_must_queue(&queue) || !take(NULL, NULL, &grant)) return;
    gives_in_a_while(index); /* until then the head sleeps */
}

DST(waitq, head_that_was_beaten_is_owed_the_next_unit) {
    void (*const threads[])(int) = {waits, gives_and_takes_it_back};
    rm_clock clock = *rm_clock_system();
    clock.now_fn = note_now;
    queue_begin_on(&clock, take_or_note, 0);
    dst_when_idle(beaten_again, NULL);
    dst_go(2, threads);
    queue_finish(1);
}

/* ---- single flight: the first loads, the others wait for what it found */

static int found, loads; /* with the queue's lock */

static void loads_or_waits(int index) {
    uint64_t grant = 0;
    rm_status status = RM_OK;
    (void)index;
    rm_waitq_lock(&queue);
    if (found == 0 && loads == 0) {
        loads = 1;
        rm_waitq_unlock(&queue);
        dst_point();
        rm_waitq_lock(&queue);
        found = A_UNIT;
        (void)rm_waitq_complete(&queue, &loads, RM_OK, A_UNIT);
    } else if (found == 0) {
        status = rm_waitq_wait_locked(&queue, &loads, never, NULL, &grant);
        DST_CHECK(status == RM_OK && grant == A_UNIT);
    }
    DST_CHECK(found == A_UNIT);
    rm_waitq_unlock(&queue);
}

DST(waitq, single_flight_serves_all) {
    void (*const threads[])(int) = {loads_or_waits, loads_or_waits, loads_or_waits};
    queue_begin_on(NULL, NULL, 0);
    dst_go(3, threads);
    DST_CHECK(rm_waitq_complete(&queue, NULL, RM_OK, 0) == 0);
    queue_finish(0);
}

/* A waiter for something else than the unit that its wake was for must pass the wake on. */
static void completes_what_is_mine(int index) {
    (void)index;
    rm_waitq_lock(&queue);
    (void)rm_waitq_complete(&queue, &found, RM_E_FAILED, 0);
    rm_waitq_unlock(&queue);
}

static void waits_for_a_unit_or_completion(int index) {
    uint64_t grant = 0;
    const rm_status status =
        rm_waitq_wait(&queue, &found, rm_deadline_after(NULL, RM_SEC(9)), NULL, &grant);
    scribble();
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_FAILED || status == RM_E_TIMEOUT);
    if (status == RM_OK) give();
}

DST(waitq, completion_passes_the_release_on) {
    void (*const threads[])(int) = {waits_for_a_unit_or_completion, waits, gives,
                                    completes_what_is_mine};
    queue_begin(0);
    dst_go(4, threads);
    queue_finish(1);
}

/* ---- waiting on: in one's old place, since what one got is not fit */

static rm_status wait_on_and_give(int64_t since_ns, rm_deadline deadline, rm_cancel *cancel) {
    uint64_t grant = 0;
    const rm_status status = rm_waitq_wait_on(&queue, NULL, since_ns, deadline, cancel, &grant);
    scribble();
    DST_CHECK(grant == (status == RM_OK ? A_UNIT : 0));
    if (status == RM_E_TIMEOUT) DST_CHECK(has_passed(deadline) || dst_faults() > 0);
    if (status == RM_OK) give();
    return status;
}

static rm_status waits_twice(rm_deadline deadline, rm_cancel *cancel) {
    const int64_t since = rm_now(NULL);
    const rm_status status = wait_and_give(deadline, cancel);
    return status == RM_OK ? wait_on_and_give(since, deadline, cancel) : status;
}

static void waits_on(int index) {
    (void)index;
    DST_CHECK(waits_twice(never, NULL) == RM_OK);
}

static void waits_on_for_50_us_or_a_token(int index) {
    const rm_status status = waits_twice(rm_deadline_after(NULL, RM_US(50)), &token);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_TIMEOUT || status == RM_E_CANCELLED);
}

static void waits_on_unless_closed(int index) {
    const rm_status status = waits_twice(never, NULL);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_CLOSED);
}

/* What it gets first is not fit: it gives it back, or there is none left, and waits on. */
static bool swallows;

static void done_unfit(rm_status status, uint64_t grant, void *user) {
    callback *c = (callback *)user;
    DST_CHECK(grant == (status == RM_OK ? A_UNIT : 0));
    if (status == RM_OK && c->calls++ == 0) {
        if (!swallows) give();
        dst_point();
        status = rm_waitq_add_on(&queue, &c->waiter);
        if (status == RM_OK) return;
    }
    c->status = status;
    if (status == RM_OK) give();
    (void)ADD(&callbacks_done, 1);
}

static void add_unfit(rm_deadline deadline, rm_cancel *cancel) {
    DST_CHECK(rm_waitq_add(&queue, &kept[0].waiter, NULL, deadline, cancel, done_unfit, &kept[0]) ==
              RM_OK);
}

static void adds_on(int index) {
    (void)index;
    add_unfit(never, NULL);
}

DST(waitq_on, meets_waits_adds_and_releases) {
    void (*const threads[])(int) = {waits_on, waits_on, adds_on, waits, gives};
    queue_begin(0);
    dst_go(5, threads);
    DST_CHECK(callbacks_done == 1 && queue.stats.ended == 0);
    queue_finish(1);
}

DST(waitq_on, meets_timeouts_and_a_token) {
    void (*const threads[])(int) = {waits_on_for_50_us_or_a_token, waits_on_for_50_us_or_a_token,
                                    waits, gives_in_50_us, cancels};
    queue_begin(0);
    dst_go(5, threads);
    queue_finish(1);
}

DST(waitq_on, meets_close_and_open) {
    void (*const threads[])(int) = {waits_on_unless_closed, waits_unless_closed, gives,
                                    closes_and_opens};
    queue_begin(0);
    add_unfit(never, NULL);
    dst_go(4, threads);
    DST_CHECK(callbacks_done == 1);
    queue_finish(1);
}

/* One that has swallowed the only unit waits on for ever, or is ended: by a call that came before
   its first wait, in between, or after that. */
static void goes_on_until(rm_deadline deadline, rm_cancel *cancel, void (*ends)(int)) {
    void (*const threads[])(int) = {gives, ends, ends};
    queue_begin(0);
    swallows = true;
    add_unfit(deadline, cancel);
    dst_go(3, threads);
    DST_CHECK(callbacks_done == 1);
    DST_CHECK(rm_waitq_remove(&queue, &kept[0].waiter) == RM_E_STALE);
    queue_finish(units);
}

static void removes_the_unfit(int index) {
    const rm_status status = rm_waitq_remove(&queue, &kept[0].waiter);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_STALE);
}

DST(waitq_on, ends_with_a_remove_at_any_time) {
    goes_on_until(never, NULL, removes_the_unfit);
}

DST(waitq_on, ends_with_its_token_at_any_time) {
    goes_on_until(never, &token, cancels);
}

DST(waitq_on, ends_with_a_close_at_any_time) {
    goes_on_until(never, &token, closes);
}

DST(waitq_on, ends_with_its_deadline_at_any_time) {
    goes_on_until(rm_deadline_after(NULL, RM_US(50)), NULL, expires);
}

/* A thread may be woken for a unit that is for one that waits on, and has come before it since. */
static int two = 2;

static bool take_as_many(void *owner, void *request, uint64_t *grant) {
    if (request == NULL) return take(owner, request, grant);
    if (LOAD(&units) < 2) return false; /* all is with the queue's lock here */
    *grant = A_UNIT;
    (void)ADD(&units, 0u - 2u);
    return true;
}

static const char *head_overslept(void *user) {
    (void)user;
    if (queue.head != NULL && units >= (queue.head->request == NULL ? 1u : 2u))
        return "the head sleeps beside what it wants";
    return queue_wrong(&queue);
}

static void waits_for_two(int index) {
    uint64_t grant = 0;
    (void)index;
    DST_CHECK(rm_waitq_wait(&queue, &two, never, NULL, &grant) == RM_OK);
    scribble();
    (void)__atomic_fetch_add(&units, 2, __ATOMIC_SEQ_CST);
    rm_waitq_notify(&queue);
}

static void waits_on_and_gives_more(int index) {
    (void)index;
    DST_CHECK(wait_on_and_give(0, never, NULL) == RM_OK);
    give(); /* only now there may be two */
}

static void notifies(int index) {
    (void)index;
    rm_waitq_notify(&queue);
}

DST(waitq_on, comes_before_one_that_was_woken) {
    void (*const threads[])(int) = {waits_for_two, waits_on_and_gives_more, notifies, gives};
    rm_waitq_desc desc;
    uint64_t grant = 0;
    memset(&desc, 0, sizeof desc);
    desc.try_fn = take_as_many;
    desc.barge_ns = INT64_MAX; /* else the head is served by who notifies */
    units = 1;
    DST_CHECK(rm_waitq_init(&queue, &desc) == RM_OK && rm_cancel_init(&token) == RM_OK);
    dst_when_idle(head_overslept, NULL);
    DST_CHECK(rm_waitq_wait(&queue, NULL, never, NULL, &grant) == RM_OK);
    dst_go(4, threads);
    dst_when_idle(queue_overslept, NULL);
    queue_finish(2);
}

/* In a strict queue the grants are numbered, with its lock. */
static uint64_t serial;
static bool all_were_there;

static bool take_numbered(void *owner, void *request, uint64_t *grant) {
    if (!take(owner, request, grant)) return false;
    *grant = ++serial;
    return true;
}

static void waits_on_and_is_first(int index) {
    uint64_t grant = 0;
    (void)index;
    DST_CHECK(rm_waitq_wait_on(&queue, NULL, 0, never, NULL, &grant) == RM_OK);
    rm_waitq_lock(&queue);
    DST_CHECK(!all_were_there || grant == 1);
    rm_waitq_unlock(&queue);
}

static void waits_for_any(int index) {
    uint64_t grant = 0;
    (void)index;
    DST_CHECK(rm_waitq_wait(&queue, NULL, never, NULL, &grant) == RM_OK);
}

static void gives_three_in_a_while(int index) {
    (void)index;
    DST_CHECK(rm_sleep(NULL, RM_MS(1), NULL) == RM_OK);
    rm_waitq_lock(&queue);
    all_were_there = queue.stats.waiting == 3;
    rm_waitq_unlock(&queue);
    give();
    give();
    give();
}

DST(waitq_on, is_served_before_those_that_began_later) {
    void (*const threads[])(int) = {waits_on_and_is_first, waits_for_any, waits_for_any,
                                    gives_three_in_a_while};
    rm_waitq_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.try_fn = take_numbered;
    desc.barge_ns = RM_STRICT;
    units = 1;
    DST_CHECK(rm_waitq_init(&queue, &desc) == RM_OK && rm_cancel_init(&token) == RM_OK);
    dst_when_idle(queue_overslept, NULL);
    waits_for_any(0);
    serial = 0;
    dst_go(4, threads);
    DST_CHECK(serial == 3);
    queue_finish(0);
}

/* ---- the look-out: the first thread wakes when the head may be served, whatever that is */

static int64_t opens_ns;

static bool take_when_open(void *owner, void *request, uint64_t *grant) {
    return rm_now(NULL) >= opens_ns && take(owner, request, grant);
}

static int64_t opens_at(void *owner, void *request, int64_t now) {
    (void)owner, (void)request, (void)now;
    return opens_ns;
}

static const char *open_overslept(void *user) {
    return dst_now() > opens_ns ? queue_overslept(user) : queue_wrong(&queue);
}

/* There is a unit, which nobody tells of when its time has come. */
static void look_begin(void) {
    rm_waitq_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.try_fn = take_when_open;
    desc.look_at_fn = opens_at;
    units = 1;
    opens_ns = rm_now(NULL) + RM_US(80);
    DST_CHECK(rm_waitq_init(&queue, &desc) == RM_OK && rm_cancel_init(&token) == RM_OK);
    dst_when_idle(open_overslept, NULL);
}

static void waits_with_token(int index) {
    const rm_status status = wait_and_give(never, &token);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_CANCELLED);
}

DST(waitq_look, out_is_kept_for_a_callback_at_the_head) {
    void (*const threads[])(int) = {waits, waits, adds};
    look_begin();
    add_kept(0, NULL);
    dst_go(3, threads);
    DST_CHECK(callbacks_done == 2);
    queue_finish(1);
}

DST(waitq_look, out_passes_to_the_next_thread) {
    void (*const threads[])(int) = {waits_for_50_us, waits_with_token, waits, adds, cancels};
    look_begin();
    add_kept(0, NULL);
    dst_go(5, threads);
    DST_CHECK(callbacks_done == 2);
    queue_finish(1);
}

static void waits_on_behind_the_head(int index) {
    (void)index;
    DST_CHECK(wait_on_and_give(opens_ns - RM_US(80), never, NULL) == RM_OK);
}

DST(waitq_look, out_meets_one_that_waits_on) {
    void (*const threads[])(int) = {waits_for_50_us, waits_on_behind_the_head, adds};
    look_begin();
    ++queue.stats.waits; /* the wait that goes on */
    ++queue.stats.granted;
    add_kept(0, NULL);
    dst_go(3, threads);
    DST_CHECK(callbacks_done == 2);
    queue_finish(1);
}

/* ---- virtual clock, in front of the virtual time of the scheduler */

static rm_virtual_clock virtual_time;
static rm_clock clock_of_it;
static rm_deadline at_100;

static void clock_begin(void) {
    DST_CHECK(rm_virtual_clock_init(&virtual_time, 1000, false) == RM_OK);
    clock_of_it = rm_virtual_clock_clock(&virtual_time);
    at_100.at_ns = 1100;
}

static void clock_finish(void) {
    DST_CHECK(virtual_time.sleepers == NULL && virtual_time.sleeping == 0);
    rm_virtual_clock_destroy(&virtual_time);
}

static void advances_twice(int index) {
    (void)index;
    rm_virtual_clock_advance(&virtual_time, 60);
    rm_virtual_clock_advance(&virtual_time, 60);
}

static void waits_until_100(int index) {
    const rm_status status = wait_and_give(at_100, NULL);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_TIMEOUT);
}

DST(virtual_clock, advance_meets_wait_and_release) {
    void (*const threads[])(int) = {waits_until_100, advances_twice, gives};
    clock_begin();
    queue_begin_on(&clock_of_it, take, 0);
    dst_go(3, threads);
    queue_finish(1);
    clock_finish();
}

DST(virtual_clock, advance_meets_one_wait) {
    void (*const threads[])(int) = {waits_until_100, advances_twice};
    clock_begin();
    queue_begin_on(&clock_of_it, take, 0);
    dst_go(2, threads);
    queue_finish(0);
    clock_finish();
}

DST(virtual_clock, advances_meet_waits) {
    void (*const threads[])(int) = {waits_until_100, waits_until_100, advances_twice,
                                    advances_twice};
    clock_begin();
    queue_begin_on(&clock_of_it, take, 0);
    dst_go(4, threads);
    DST_CHECK(rm_now(&clock_of_it) == 1240);
    queue_finish(0);
    clock_finish();
}

static void advances_with_a_reason(int index) {
    reason = 42;
    advances_twice(index);
}

static void reads_the_clock(int index) {
    (void)index;
    if (rm_now(&clock_of_it) > 1000) DST_CHECK(reason == 42);
}

DST(virtual_clock, shows_its_time_with_what_was_written_before) {
    void (*const threads[])(int) = {reads_the_clock, advances_with_a_reason};
    clock_begin();
    dst_go(2, threads);
    clock_finish();
}

static void sleeps_for_100(int index) {
    const int64_t began = rm_now(&clock_of_it);
    (void)index;
    DST_CHECK(rm_sleep(&clock_of_it, 100, NULL) == RM_OK);
    scribble();
    DST_CHECK(rm_now(&clock_of_it) >= began + 100);
}

static void awaits_two_and_advances(int index) {
    (void)index;
    rm_virtual_clock_await(&virtual_time, 2);
    rm_virtual_clock_advance(&virtual_time, 100);
}

DST(virtual_clock, await_sees_the_sleepers) {
    void (*const threads[])(int) = {sleeps_for_100, sleeps_for_100, awaits_two_and_advances};
    clock_begin();
    dst_go(3, threads);
    clock_finish();
}

/* ---- sleep */

static const rm_clock *sleeps_on;
static int64_t sleeps_until;

static void sleeps_with_token(int index) {
    const rm_status status = rm_sleep(sleeps_on, 100, &token);
    scribble();
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_CANCELLED);
    DST_CHECK(status == RM_E_CANCELLED ? LOAD(&token.requested) == 1
                                       : rm_now(sleeps_on) >= sleeps_until);
}

static void sleep_meets(const rm_clock *clock, int count, void (*const threads[])(int)) {
    sleeps_on = clock;
    sleeps_until = rm_now(clock) + 100;
    DST_CHECK(rm_cancel_init(&token) == RM_OK);
    dst_go(count, threads);
    DST_CHECK(rm_cancel_destroy(&token) == RM_OK);
}

DST(sleep, meets_its_token) {
    void (*const threads[])(int) = {sleeps_with_token, sleeps_with_token, cancels};
    sleep_meets(rm_clock_system(), 3, threads);
}

DST(sleep, on_a_virtual_clock_meets_its_token) {
    void (*const threads[])(int) = {sleeps_with_token, advances_twice, cancels};
    clock_begin();
    sleep_meets(&clock_of_it, 3, threads);
    clock_finish();
}

/* ---- registry: objects that live while they are borrowed */

static struct object { int alive, key; } objects[16];
static uint32_t made, ended;
static rm_registry *registry;

static rm_status make(const void *key, size_t size, void **value, rm_error *error, void *user) {
    const uint32_t number = ADD(&made, 1);
    (void)user;
    DST_CHECK(size == 1 && number < 16);
    if (dst_fault("create_fn")) {
        (void)ADD(&made, UINT32_MAX);
        return rm_error_set(error, RM_E_REFUSED, 0, "object", "refused");
    }
    objects[number].alive = 1;
    objects[number].key = *(const char *)key;
    *value = &objects[number];
    return RM_OK;
}

static void end(void *value, void *user) {
    struct object *o = (struct object *)value;
    (void)user;
    DST_CHECK(o->alive == 1);
    o->alive = 0; /* plain: races with one who has it borrowed */
    (void)ADD(&ended, 1);
}

static bool always(void *value, void *user) {
    (void)value, (void)user;
    return true;
}

static void registry_begin(uint32_t max_entries, bool evicts) {
    rm_registry_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.max_entries = max_entries;
    desc.max_key = 8;
    desc.stripes = 2;
    desc.create_fn = make;
    desc.destroy_fn = end;
    desc.evictable_fn = evicts ? always : NULL;
    DST_CHECK(rm_registry_create(&desc, &registry, NULL) == RM_OK);
}

static void registry_finish(void) {
    DST_CHECK(rm_registry_count(registry) == made - ended);
    DST_CHECK(rm_registry_destroy(registry) == RM_OK);
    DST_CHECK(made == ended);
}

static rm_status visit(char key) {
    rm_registry_ref ref, copy;
    const rm_status status = rm_registry_get(registry, &key, 1, &ref, NULL);
    const struct object *o = (const struct object *)ref.value;
    if (status != RM_OK) return status;
    DST_CHECK(o->alive == 1 && o->key == key);
    copy = ref;
    DST_CHECK(rm_registry_put(registry, &ref) == RM_OK && ref.value == NULL);
    DST_CHECK(copy.generation != 0);
    return RM_OK;
}

static void visits_a(int index) {
    (void)index;
    DST_CHECK(visit('a') == RM_OK);
}

static void visits_b(int index) {
    (void)index;
    DST_CHECK(visit('b') == RM_OK);
}

static void visits_if_it_fits(int index) {
    const rm_status status = visit((char)('a' + index));
    DST_CHECK(status == RM_OK || status == RM_E_FULL);
}

static void removes_a(int index) {
    const rm_status status = rm_registry_remove(registry, "a", 1);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_NOT_FOUND || status == RM_E_BUSY);
}

static bool looks(const void *key, size_t size, void *value, void *user) {
    const struct object *o = (const struct object *)value;
    (void)user;
    DST_CHECK(size == 1 && o->alive == 1 && o->key == *(const char *)key);
    return !dst_fault("fn"); /* false: no more */
}

static void looks_at_each(int index) {
    (void)index;
    rm_registry_each(registry, looks, NULL);
}

DST(registry, gets_meet_on_a_new_key) {
    void (*const threads[])(int) = {visits_a, visits_a, visits_b};
    registry_begin(4, false);
    dst_go(3, threads);
    DST_CHECK(rm_registry_count(registry) == 2);
    registry_finish();
}

DST(registry, get_meets_remove) {
    void (*const threads[])(int) = {visits_a, visits_a, removes_a, looks_at_each};
    registry_begin(4, false);
    visits_a(0);
    dst_go(4, threads);
    registry_finish();
}

DST(registry, get_meets_eviction) {
    void (*const threads[])(int) = {visits_if_it_fits, visits_if_it_fits, visits_if_it_fits};
    registry_begin(2, true);
    visits_a(0);
    visits_b(0);
    dst_go(3, threads);
    DST_CHECK(rm_registry_count(registry) <= 2);
    registry_finish();
}

/* One slot moves between the stripes of two keys while others look for where it is. */
DST(registry, eviction_meets_remove_and_each) {
    void (*const threads[])(int) = {removes_a, visits_if_it_fits, looks_at_each};
    registry_begin(1, true);
    visits_a(0);
    dst_go(3, threads);
    DST_CHECK(rm_registry_count(registry) <= 1);
    registry_finish();
}

/* ---- torture: lives in which each status may be a failure that was injected, and nothing else */

/* Is this what must be, or has something failed since? */
static bool is_due(rm_status status, rm_status wanted, uint64_t faults_before) {
    return status == wanted || dst_faults() > faults_before;
}

static void sem_uses_within_a_second(void *user) {
    const rm_status status = sem_use(RM_SEC(1), (rm_cancel *)user);
    DST_CHECK(status == RM_OK || dst_faults() > 0 || (user != NULL && status == RM_E_CANCELLED));
}

DST_TORTURE(sem, survives_every_failure_of_its_life) {
    rm_thread threads[2];
    rm_status status = rm_cancel_init(&token);
    DST_CHECK(is_due(status, RM_OK, 0));
    if (status != RM_OK) return;
    status = rm_sem_init(&sem, NULL);
    DST_CHECK(is_due(status, RM_OK, 0));
    if (status == RM_OK) {
        dst_when_idle(sem_overslept, NULL);
        DST_CHECK(rm_sem_acquire(&sem, RM_NOWAIT, NULL) == RM_OK);
        DST_CHECK(is_due(rm_thread_start(&threads[0], sem_uses_within_a_second, NULL), RM_OK, 0));
        DST_CHECK(is_due(rm_thread_start(&threads[1], sem_uses_within_a_second, &token), RM_OK, 0));
        DST_CHECK(is_due(rm_sem_acquire(&sem, RM_MS(1), &token), RM_E_TIMEOUT, 0));
        (void)rm_sleep(NULL, RM_MS(1), NULL); /* lets the threads wait */
        rm_cancel_request(&token);
        sem_gives_back(0);
        rm_thread_join(&threads[0]);
        rm_thread_join(&threads[1]);
        DST_CHECK(sem_use(RM_NOWAIT, NULL) == RM_OK);
        DST_CHECK(sem_overslept(NULL) == NULL);
        DST_CHECK(rm_sem_destroy(&sem) == RM_OK);
    }
    DST_CHECK(rm_cancel_destroy(&token) == RM_OK);
}

static void waits_within_a_second(void *user) {
    const rm_status status = waits_twice(rm_deadline_after(NULL, RM_SEC(1)), (rm_cancel *)user);
    DST_CHECK(is_due(status, RM_OK, 0));
}

DST_TORTURE(waitq, survives_every_failure_of_its_life) {
    rm_waitq_desc desc;
    rm_thread thread;
    rm_status status = rm_cancel_init(&token);
    DST_CHECK(is_due(status, RM_OK, 0));
    if (status != RM_OK) return;
    memset(&desc, 0, sizeof desc);
    desc.try_fn = take;
    status = rm_waitq_init(&queue, &desc);
    DST_CHECK(is_due(status, RM_OK, 0));
    if (status == RM_OK) {
        uint32_t added = 2;
        dst_when_idle(queue_overslept, NULL);
        add_kept(0, NULL);
        add_kept(1, &token);
        DST_CHECK(is_due(rm_thread_start(&thread, waits_within_a_second, &token), RM_OK, 0));
        if (adds_and_forgets(rm_deadline_after(NULL, RM_MS(1)), NULL) == RM_OK)
            ++added;
        else
            DST_CHECK(dst_faults() > 0);
        (void)rm_sleep(NULL, RM_MS(2), NULL); /* lets the thread wait */
        (void)rm_waitq_expire(&queue);
        (void)rm_waitq_expire(&queue); /* the clock may have failed the first */
        removes_the_first(0);
        give();
        rm_thread_join(&thread);
        rm_cancel_request(&token);
        rm_waitq_close(&queue);
        DST_CHECK(callbacks_done == added && units == 1);
        DST_CHECK(queue.stats.waits == queue.stats.granted + queue.stats.timeouts +
                                           queue.stats.cancelled + queue.stats.ended);
        DST_CHECK(queue_overslept(NULL) == NULL);
        DST_CHECK(rm_waitq_destroy(&queue) == RM_OK);
    }
    DST_CHECK(rm_cancel_destroy(&token) == RM_OK);
}

static void sleeps_and_waits(void *user) {
    rm_status status = rm_sleep(&clock_of_it, 100, NULL);
    (void)user;
    DST_CHECK(is_due(status, RM_OK, 0));
    DST_CHECK(status != RM_OK || rm_now(&clock_of_it) >= 1100);
    status = rm_sleep(&clock_of_it, 100, &token);
    DST_CHECK(is_due(status, RM_E_CANCELLED, 0));
    status = rm_sleep(NULL, 100, NULL);
    DST_CHECK(is_due(status, RM_OK, 0));
    status = wait_and_give(at_100, NULL);
    DST_CHECK(status == RM_OK || status == RM_E_TIMEOUT || dst_faults() > 0);
}

DST_TORTURE(virtual_clock, survives_every_failure_of_its_life) {
    rm_waitq_desc desc;
    rm_thread thread;
    rm_status status = rm_virtual_clock_init(&virtual_time, 1000, false);
    DST_CHECK(is_due(status, RM_OK, 0));
    if (status != RM_OK) return;
    clock_of_it = rm_virtual_clock_clock(&virtual_time);
    at_100.at_ns = 1100;
    memset(&desc, 0, sizeof desc);
    desc.clock = &clock_of_it;
    status = rm_cancel_init(&token);
    DST_CHECK(is_due(status, RM_OK, 0));
    if (status == RM_OK) {
        status = rm_waitq_init(&queue, &desc);
        DST_CHECK(is_due(status, RM_OK, 0));
        if (status == RM_OK) {
            DST_CHECK(is_due(rm_thread_start(&thread, sleeps_and_waits, NULL), RM_OK, 0));
            (void)rm_sleep(NULL, RM_MS(1), NULL); /* lets the thread sleep, here and below */
            advances_twice(0);
            (void)rm_sleep(NULL, RM_MS(1), NULL);
            rm_cancel_request(&token);
            rm_thread_join(&thread);
            DST_CHECK(rm_waitq_destroy(&queue) == RM_OK);
        }
        DST_CHECK(rm_cancel_destroy(&token) == RM_OK);
    }
    clock_finish();
}

DST_TORTURE(registry, survives_every_failure_of_its_life) {
    rm_registry_desc desc;
    rm_status status;
    int i;
    memset(&desc, 0, sizeof desc);
    desc.max_entries = 2;
    desc.stripes = 2;
    desc.create_fn = make;
    desc.destroy_fn = end;
    desc.evictable_fn = always;
    status = rm_registry_create(&desc, &registry, NULL);
    DST_CHECK(is_due(status, RM_OK, 0));
    if (status != RM_OK) {
        DST_CHECK(registry == NULL);
        return;
    }
    for (i = 0; i < 5; ++i) { /* more keys than fit; the last after a removal */
        const uint64_t before = dst_faults();
        if (i == 4) removes_a(0);
        status = visit("abcaa"[i]);
        DST_CHECK(is_due(status, RM_OK, before));
        looks_at_each(0);
    }
    registry_finish();
}

/* Nobody has forked here, and nothing is in it: what was would be forgotten. */
DST_TORTURE(registry, survives_every_failure_after_a_fork) {
    rm_status status;
    int i;
    rm_registry_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.max_entries = 2;
    desc.stripes = 2;
    desc.create_fn = make;
    desc.destroy_fn = end;
    status = rm_registry_create(&desc, &registry, NULL);
    DST_CHECK(is_due(status, RM_OK, 0));
    if (status != RM_OK) return;
    for (i = 0; i < 3; ++i) {
        status = rm_registry_after_fork_child(registry);
        DST_CHECK(is_due(status, RM_OK, 0));
        if (status == RM_OK) break;
    }
    if (status == RM_OK) {
        const uint64_t before = dst_faults();
        status = visit('a');
        DST_CHECK(is_due(status, RM_OK, before));
    }
    registry_finish();
}

static bool may_go(void *value, void *user) {
    (void)value, (void)user;
    return !dst_fault("evictable_fn");
}

/* What may not go stays, and the registry is full. */
DST_TORTURE(registry, survives_every_failure_of_an_eviction) {
    rm_registry_desc desc;
    int i;
    memset(&desc, 0, sizeof desc);
    desc.max_entries = 2;
    desc.create_fn = make;
    desc.destroy_fn = end;
    desc.evictable_fn = may_go;
    if (rm_registry_create(&desc, &registry, NULL) != RM_OK) {
        DST_CHECK(dst_faults() > 0);
        return;
    }
    for (i = 0; i < 5; ++i) {
        const uint64_t before = dst_faults();
        const rm_status status = visit("abcda"[i]);
        DST_CHECK(is_due(status, RM_OK, before) && rm_registry_count(registry) <= 2);
    }
    registry_finish();
}

static void logged(const rm_log_event *event, void *user) {
    DST_CHECK(event->wall_ns > 0 || dst_faults() > 0);
    ++*(int *)user;
}

/* Without a clock an event is told all the same. */
DST_TORTURE(log, survives_every_failure_of_the_clock) {
    int count = 0;
    const rm_log log = {logged, &count, RM_LOG_DEFAULT};
    rm_log_emit(&log, NULL, RM_LOG_INFO, "test", "event", NULL, 0);
    DST_CHECK(count == 1);
}

/* The base: virtual clock, threads, cancellation, wait queue and semaphore. */
#include "rm.h"
#include "rm_test.h"

#include <stdlib.h>

#define GET(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
#define SET(p, v) __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)
#define ADD(p, v) __atomic_add_fetch((p), (v), __ATOMIC_SEQ_CST)

static const int64_t HANG = RM_SEC(60); /* real time; what waits longer was forgotten */
static const rm_deadline never = {0};

/* >>tools --------------------------------------------------------------------------------- */

/* Gives other threads a chance; ends the program when what a test polls for does not come. */
static void patience(int64_t since) {
    if (rm_now(NULL) - since > HANG) {
        printf("# a thread hangs\n");
        fflush(stdout);
        exit(1);
    }
    (void)rm_sleep(NULL, 1000, NULL);
}

static void until_set(const int *flag) {
    const int64_t since = rm_now(NULL);
    while (GET(flag) == 0)
        patience(since);
}

static void until_waiting(rm_waitq *q, uint32_t count) {
    const int64_t since = rm_now(NULL);
    rm_waitq_stats stats;
    while (CHECK(rm_waitq_stats_get(q, &stats) == RM_OK) && stats.waiting != count)
        patience(since);
}

/* A waiter registers with its token after it has entered the queue. */
static void until_registered(rm_cancel *cancel, int count) {
    const int64_t since = rm_now(NULL);
    for (int found = -1; found != count; patience(since)) {
        found = 0;
        rm_mutex_lock(&cancel->mutex);
        for (rm_waiter *waiter = cancel->waiters; waiter != NULL; waiter = waiter->cancel_next)
            ++found;
        rm_mutex_unlock(&cancel->mutex);
    }
}

static void start(rm_thread *thread, void (*fn)(void *user), void *user) {
    if (!CHECK(rm_thread_start(thread, fn, user) == RM_OK)) exit(1);
}

/* A virtual clock, made anew by set_clock. */
static rm_virtual_clock time_machine;
static rm_clock fake;

static void set_clock(int64_t ns) {
    if (!CHECK(rm_virtual_clock_init(&time_machine, ns, false) == RM_OK)) exit(1);
    fake = rm_virtual_clock_clock(&time_machine);
}

static void advance(int64_t ns) {
    rm_virtual_clock_advance(&time_machine, ns);
}

static void await(uint32_t count) {
    rm_virtual_clock_await(&time_machine, count);
}

static rm_deadline at(int64_t ns) {
    rm_deadline deadline;
    deadline.at_ns = ns;
    return deadline;
}

/* A queue with units that are handed out; each grant is the next serial number. */
typedef struct stock {
    rm_waitq queue;
    int units, tries, looks;
    int64_t opens; /* on the fake clock: nothing is handed out before; 0 = always open */
    uint64_t serial;
} stock;

static bool stock_take(void *owner, void *request, uint64_t *grant) {
    stock *s = (stock *)owner;
    int units = GET(&s->units);
    const int want = request == NULL ? 1 : *(const int *)request;
    ADD(&s->tries, 1);
    if (s->opens != 0 && rm_now(&fake) < s->opens) return false;
    while (units >= want)
        if (__atomic_compare_exchange_n(&s->units, &units, units - want, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST)) {
            *grant = ADD(&s->serial, 1);
            return true;
        }
    return false;
}

static void stock_put(stock *s) {
    ADD(&s->units, 1);
    rm_waitq_notify(&s->queue);
}

static void stock_init(stock *s, const rm_clock *clock, int64_t barge_ns, uint32_t max_waiters) {
    rm_waitq_desc desc;
    memset(s, 0, sizeof *s);
    memset(&desc, 0, sizeof desc);
    desc.clock = clock;
    desc.try_fn = stock_take;
    desc.owner = s;
    desc.barge_ns = barge_ns;
    desc.max_waiters = max_waiters;
    if (!CHECK(rm_waitq_init(&s->queue, &desc) == RM_OK)) exit(1);
}

static rm_waitq_stats stats_of(rm_waitq *q) {
    rm_waitq_stats stats;
    memset(&stats, 0, sizeof stats);
    CHECK_EQ(rm_waitq_stats_get(q, &stats), RM_OK);
    return stats;
}

static int64_t stock_look_at(void *owner, void *request, int64_t now) {
    stock *s = (stock *)owner;
    (void)request, (void)now;
    s->looks++;
    return s->opens;
}

/* A strict one that opens at a time. */
static void stock_init_opening(stock *s, int64_t opens, int units) {
    stock_init(s, &fake, RM_STRICT, 0);
    s->queue.desc.look_at_fn = stock_look_at;
    s->opens = opens;
    s->units = units;
}

/* A thread that waits once in a queue. */
typedef struct blocker {
    rm_thread thread;
    rm_waitq *queue;
    rm_deadline deadline;
    rm_cancel *cancel;
    void *request;
    const int64_t *since; /* it waits on; 0 = it does not */
    rm_status status;
    uint64_t grant;
    int done;
} blocker;

static void block(void *user) {
    blocker *b = (blocker *)user;
    b->status =
        b->since == NULL
            ? rm_waitq_wait(b->queue, b->request, b->deadline, b->cancel, &b->grant)
            : rm_waitq_wait_on(b->queue, b->request, *b->since, b->deadline, b->cancel, &b->grant);
    SET(&b->done, 1);
}

static void block_by(blocker *b, rm_waitq *q, const int64_t *since, rm_deadline deadline,
                     rm_cancel *cancel) {
    const uint32_t before = stats_of(q).waiting;
    memset(b, 0, sizeof *b);
    b->queue = q;
    b->since = since;
    b->deadline = deadline;
    b->cancel = cancel;
    start(&b->thread, block, b);
    until_waiting(q, before + 1);
}

/* Starts a thread in a queue and returns when it waits there. */
static void block_in(blocker *b, rm_waitq *q, rm_deadline deadline, rm_cancel *cancel) {
    block_by(b, q, NULL, deadline, cancel);
}

/* Starts a thread that waits on. It has been served before: see serve. */
static void block_on(blocker *b, rm_waitq *q, const int64_t *since) {
    block_by(b, q, since, never, NULL);
}

/* Serves so many waits in an empty queue, so that they can go on. */
static void serve(stock *s, int count) {
    uint64_t grant;
    while (count-- > 0) {
        ADD(&s->units, 1);
        CHECK_EQ(rm_waitq_wait(&s->queue, NULL, never, NULL, &grant), RM_OK);
    }
    SET(&s->serial, 0);
}

/* Waits for the end of such a thread and checks how its wait ended. */
static void ended(blocker *b, rm_status status) {
    until_set(&b->done);
    rm_thread_join(&b->thread);
    CHECK_STR(rm_status_name(b->status), rm_status_name(status));
}

/* An asynchronous waiter that notes how it ended and when in the order of all. */
typedef struct callback {
    rm_waiter waiter;
    rm_status status;
    uint64_t grant;
    int calls, order;
} callback;

static int order_of_callbacks;

static void note(rm_status status, uint64_t grant, void *user) {
    callback *c = (callback *)user;
    c->status = status;
    c->grant = grant;
    c->order = ++order_of_callbacks;
    c->calls++;
}

static rm_status queue_up(callback *c, rm_waitq *q, rm_deadline deadline, rm_cancel *cancel) {
    memset(c, 0, sizeof *c);
    return rm_waitq_add(q, &c->waiter, NULL, deadline, cancel, note, c);
}

/* >>virtual clock ------------------------------------------------------------------------- */

/* A thread that waits once on its own condition, and the time it saw when it came back. */
typedef struct sleeper {
    rm_thread thread;
    rm_mutex mutex;
    rm_cond cond;
    int64_t until, woke_at;
    int done;
} sleeper;

static void sleep_once(void *user) {
    sleeper *s = (sleeper *)user;
    rm_mutex_lock(&s->mutex);
    fake.wait_fn(&s->cond, &s->mutex, s->until, fake.user);
    s->woke_at = rm_now(&fake);
    rm_mutex_unlock(&s->mutex);
    SET(&s->done, 1);
}

TEST(virtual_clock, wakes_exactly_those_whose_time_has_come) {
    enum { SLEEPERS = 8 };
    static sleeper sleepers[SLEEPERS];
    set_clock(1000);
    for (int i = 0; i < SLEEPERS; ++i) {
        memset(&sleepers[i], 0, sizeof sleepers[i]);
        REQUIRE(rm_mutex_init(&sleepers[i].mutex) == RM_OK);
        REQUIRE(rm_cond_init(&sleepers[i].cond) == RM_OK);
        sleepers[i].until = 1000 + 10 * (i + 1); /* 1010, 1020 ... */
        start(&sleepers[i].thread, sleep_once, &sleepers[i]);
    }
    await(SLEEPERS);
    advance(9);
    CHECK_EQ(time_machine.sleeping, SLEEPERS);
    advance(1); /* at the nanosecond */
    CHECK_EQ(time_machine.sleeping, SLEEPERS - 1);
    until_set(&sleepers[0].done);
    advance(35); /* three at once */
    CHECK_EQ(time_machine.sleeping, SLEEPERS - 4);
    for (int i = 1; i <= 3; ++i)
        until_set(&sleepers[i].done);
    advance(0);
    advance(-50);
    CHECK_EQ(rm_now(&fake), 1045);
    await(SLEEPERS - 4);
    advance(INT64_MAX);
    for (int i = 0; i < SLEEPERS; ++i) {
        rm_thread_join(&sleepers[i].thread);
        CHECK_EQ(sleepers[i].woke_at, i == 0 ? 1010 : i <= 3 ? 1045 : INT64_MAX);
        rm_cond_destroy(&sleepers[i].cond);
        rm_mutex_destroy(&sleepers[i].mutex);
    }
    CHECK_EQ(time_machine.sleeping, 0);
    CHECK(time_machine.sleepers == NULL);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(virtual_clock, shows_one_time_on_all_its_faces) {
    set_clock(77);
    CHECK_EQ(rm_now(&fake), 77);
    CHECK_EQ(rm_now_coarse(&fake), 77);
    CHECK_EQ(rm_wall(&fake), 77);
    advance(3);
    CHECK_EQ(rm_now(&fake), 80);
    CHECK_EQ(rm_now_coarse(&fake), 80);
    CHECK_EQ(rm_wall(&fake), 80);
    await(0);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(virtual_clock, stands_still_at_its_end) {
    rm_virtual_clock clock;
    REQUIRE(rm_virtual_clock_init(&clock, INT64_MAX - 1, false) == RM_OK);
    rm_virtual_clock_advance(&clock, INT64_MAX);
    CHECK_EQ((int64_t)clock.now, INT64_MAX);
    rm_virtual_clock_advance(&clock, 1);
    CHECK_EQ((int64_t)clock.now, INT64_MAX);
    rm_virtual_clock_destroy(&clock);
}

enum { STEPS = 60 };

/* A thread that sleeps again and again until 60. */
typedef struct walker {
    rm_thread thread;
    int step, wrong;
} walker;

static void walk(void *user) {
    walker *w = (walker *)user;
    for (int t = w->step; t <= STEPS; t += w->step) {
        w->wrong += rm_sleep(&fake, w->step, NULL) != RM_OK;
        w->wrong += rm_now(&fake) != t;
    }
}

TEST(virtual_clock, carries_threads_that_wait_again_and_again) {
    walker walkers[6];
    set_clock(0);
    for (int i = 0; i < 6; ++i) {
        memset(&walkers[i], 0, sizeof walkers[i]);
        walkers[i].step = i + 1; /* 1 to 6 all divide 60 */
        start(&walkers[i].thread, walk, &walkers[i]);
    }
    for (int t = 0; t < STEPS; ++t) {
        await(6); /* whoever was woken sleeps again */
        advance(1);
    }
    for (int i = 0; i < 6; ++i) {
        rm_thread_join(&walkers[i].thread);
        CHECK_EQ(walkers[i].wrong, 0);
    }
    rm_virtual_clock_destroy(&time_machine);
}

static void push_time(void *user) {
    (void)user;
    for (int i = 0; i < 500; ++i)
        advance(1);
}

static void nap(void *user) {
    int *naps = (int *)user;
    while (rm_now(&fake) < 1000)
        *naps += rm_sleep(&fake, 3, NULL) == RM_OK;
}

TEST(virtual_clock, may_be_advanced_by_several_threads) {
    rm_thread pushers[2], sleepers[3];
    int naps[3] = {0, 0, 0};
    set_clock(0);
    for (int i = 0; i < 3; ++i)
        start(&sleepers[i], nap, &naps[i]);
    await(3);
    for (int i = 0; i < 2; ++i)
        start(&pushers[i], push_time, NULL);
    for (int i = 0; i < 2; ++i)
        rm_thread_join(&pushers[i]);
    CHECK_EQ(rm_now(&fake), 1000);
    advance(3);
    for (int i = 0; i < 3; ++i) {
        rm_thread_join(&sleepers[i]);
        CHECK(naps[i] > 0 && naps[i] <= 334);
    }
    CHECK_EQ(time_machine.sleeping, 0);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(virtual_clock, is_moved_by_sleep_when_asked_to) {
    rm_virtual_clock clock;
    rm_cancel cancel;
    rm_clock hook;
    REQUIRE(rm_virtual_clock_init(&clock, 5, true) == RM_OK);
    REQUIRE(rm_cancel_init(&cancel) == RM_OK);
    hook = rm_virtual_clock_clock(&clock);
    CHECK_EQ(rm_sleep(&hook, 10, NULL), RM_OK);
    CHECK_EQ(rm_now(&hook), 15);
    CHECK_EQ(rm_sleep(&hook, 10, &cancel), RM_OK); /* a token makes no difference */
    CHECK_EQ(rm_now(&hook), 25);
    rm_cancel_request(&cancel);
    CHECK_EQ(rm_sleep(&hook, 10, &cancel), RM_E_CANCELLED);
    CHECK_EQ(rm_now(&hook), 25);
    CHECK_EQ(rm_cancel_destroy(&cancel), RM_OK);
    rm_virtual_clock_destroy(&clock);
}

/* A thread in rm_sleep. */
typedef struct dreamer {
    rm_thread thread;
    int64_t ns;
    rm_cancel *cancel;
    rm_status status;
    int64_t woke_at;
} dreamer;

static void dream(void *user) {
    dreamer *d = (dreamer *)user;
    d->status = rm_sleep(&fake, d->ns, d->cancel);
    d->woke_at = rm_now(&fake);
}

TEST(sleep, on_a_virtual_clock_ends_with_its_time_or_its_token) {
    rm_cancel cancel, other;
    dreamer d[3];
    set_clock(0);
    memset(d, 0, sizeof d);
    REQUIRE(rm_cancel_init(&cancel) == RM_OK && rm_cancel_init(&other) == RM_OK);
    d[0].ns = d[1].ns = d[2].ns = 100;
    d[1].cancel = &cancel;
    d[2].cancel = &other;
    for (int i = 0; i < 3; ++i)
        start(&d[i].thread, dream, &d[i]);
    await(3);
    CHECK_EQ(rm_cancel_destroy(&cancel), RM_E_BUSY); /* in use */
    advance(99);
    rm_cancel_request(&cancel);
    rm_thread_join(&d[1].thread);
    CHECK_EQ(d[1].status, RM_E_CANCELLED);
    CHECK_EQ(d[1].woke_at, 99);
    await(2);
    advance(1);
    rm_thread_join(&d[0].thread);
    rm_thread_join(&d[2].thread);
    CHECK(d[0].status == RM_OK && d[0].woke_at == 100);
    CHECK(d[2].status == RM_OK && d[2].woke_at == 100);
    CHECK_EQ(rm_cancel_destroy(&cancel), RM_OK);
    CHECK_EQ(rm_cancel_destroy(&other), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

/* >>threads ------------------------------------------------------------------------------- */

typedef struct counter {
    rm_mutex mutex;
    rm_cond turned;
    int value;
    int64_t numbers;
} counter;

static void count_up(void *user) {
    counter *c = (counter *)user;
    for (int i = 0; i < 5000; ++i) {
        rm_mutex_lock(&c->mutex);
        c->value++;
        rm_mutex_unlock(&c->mutex);
    }
}

static void try_in_vain(void *user) {
    counter *c = (counter *)user;
    c->value = rm_mutex_try_lock(&c->mutex) ? 1 : 2;
}

TEST(mutex, keeps_others_out) {
    rm_thread threads[4];
    counter c;
    memset(&c, 0, sizeof c);
    REQUIRE(rm_mutex_init(&c.mutex) == RM_OK);
    for (int i = 0; i < 4; ++i)
        start(&threads[i], count_up, &c);
    for (int i = 0; i < 4; ++i)
        rm_thread_join(&threads[i]);
    CHECK_EQ(c.value, 20000);
    REQUIRE(rm_mutex_try_lock(&c.mutex));
    start(&threads[0], try_in_vain, &c);
    rm_thread_join(&threads[0]);
    CHECK_EQ(c.value, 2);
    rm_mutex_unlock(&c.mutex);
    REQUIRE(rm_mutex_try_lock(&c.mutex));
    rm_mutex_unlock(&c.mutex);
    rm_mutex_destroy(&c.mutex);
}

/* Waits for an odd value and makes it even, or the other way, 200 times. */
static void ping(void *user) {
    counter *c = (counter *)user;
    int odd;
    rm_mutex_lock(&c->mutex);
    odd = c->value++ % 2; /* the first one gets 0 */
    rm_cond_broadcast(&c->turned);
    for (int i = 0; i < 200; ++i) {
        while (c->value % 2 != odd)
            rm_cond_wait(&c->turned, &c->mutex, INT64_MAX);
        c->value++;
        rm_cond_signal(&c->turned);
    }
    rm_mutex_unlock(&c->mutex);
}

TEST(cond, passes_a_turn_to_and_fro) {
    rm_thread threads[2];
    counter c;
    memset(&c, 0, sizeof c);
    REQUIRE(rm_mutex_init(&c.mutex) == RM_OK && rm_cond_init(&c.turned) == RM_OK);
    for (int i = 0; i < 2; ++i)
        start(&threads[i], ping, &c);
    for (int i = 0; i < 2; ++i)
        rm_thread_join(&threads[i]);
    CHECK_EQ(c.value, 402);
    rm_cond_destroy(&c.turned);
    rm_mutex_destroy(&c.mutex);
}

TEST(cond, waits_no_longer_than_until) {
    int64_t until;
    counter c;
    REQUIRE(rm_mutex_init(&c.mutex) == RM_OK && rm_cond_init(&c.turned) == RM_OK);
    rm_mutex_lock(&c.mutex);
    rm_cond_wait(&c.turned, &c.mutex, INT64_MIN);
    rm_cond_wait(&c.turned, &c.mutex, -1);
    rm_cond_wait(&c.turned, &c.mutex, 0);
    rm_cond_wait(&c.turned, &c.mutex, 1);
    rm_cond_wait(&c.turned, &c.mutex, rm_now(NULL));
    until = rm_now(NULL) + RM_MS(2);
    while (rm_now(NULL) < until)
        rm_cond_wait(&c.turned, &c.mutex, until);
    rm_mutex_unlock(&c.mutex);
    rm_cond_destroy(&c.turned);
    rm_mutex_destroy(&c.mutex);
}

static void wait_far(void *user) {
    counter *c = (counter *)user;
    rm_mutex_lock(&c->mutex);
    SET(&c->value, 1); /* the mutex is free once it waits */
    while (c->value == 1) {
        rm_cond_wait(&c->turned, &c->mutex, RM_SEC(3000000000)); /* over INT32_MAX seconds */
        c->numbers++;
    }
    rm_mutex_unlock(&c->mutex);
}

TEST(cond, does_not_come_back_all_the_time_from_a_far_deadline) {
    rm_thread thread;
    counter c;
    memset(&c, 0, sizeof c);
    REQUIRE(rm_mutex_init(&c.mutex) == RM_OK && rm_cond_init(&c.turned) == RM_OK);
    start(&thread, wait_far, &c);
    until_set(&c.value);
    for (int i = 0; i < 1000; ++i) { /* chances to come back */
        rm_mutex_lock(&c.mutex);
        rm_mutex_unlock(&c.mutex);
        if (i % 100 == 0) patience(rm_now(NULL));
    }
    rm_mutex_lock(&c.mutex);
    SET(&c.value, 2);
    rm_cond_signal(&c.turned);
    rm_mutex_unlock(&c.mutex);
    rm_thread_join(&thread);
    CHECK(c.numbers < 10); /* 1, and perhaps some for no reason */
    rm_cond_destroy(&c.turned);
    rm_mutex_destroy(&c.mutex);
}

static void take_number(void *user) {
    uint32_t *number = (uint32_t *)user;
    *number = rm_thread_number();
    if (*number != rm_thread_number()) *number = 0;
}

TEST(thread, that_never_started_is_joined_at_once) {
    rm_thread thread;
    memset(&thread, 0, sizeof thread);
    rm_thread_join(&thread);
    rm_thread_join(NULL);
}

TEST(thread, has_a_number_of_its_own) {
    uint32_t numbers[8];
    for (int i = 0; i < 8; ++i) {
        rm_thread thread; /* one after the other: a number is not used again */
        start(&thread, take_number, &numbers[i]);
        rm_thread_join(&thread);
        CHECK(numbers[i] > 0 && numbers[i] != rm_thread_number());
        CHECK(i == 0 || numbers[i] > numbers[i - 1]);
    }
    CHECK_EQ(rm_thread_number(), rm_thread_number());
}

/* >>cancel -------------------------------------------------------------------------------- */

TEST(cancel, ends_the_waits_of_several_queues) {
    rm_cancel cancel, other;
    blocker threads[3];
    callback callbacks[3];
    stock a, b;
    set_clock(0);
    stock_init(&a, &fake, RM_STRICT, 0);
    stock_init(&b, &fake, 0, 0);
    REQUIRE(rm_cancel_init(&cancel) == RM_OK && rm_cancel_init(&other) == RM_OK);
    block_in(&threads[0], &a.queue, never, &cancel);
    block_in(&threads[1], &b.queue, never, &cancel);
    block_in(&threads[2], &a.queue, never, &other);
    await(3);
    CHECK_EQ(queue_up(&callbacks[0], &a.queue, never, &cancel), RM_OK);
    CHECK_EQ(queue_up(&callbacks[1], &b.queue, never, &cancel), RM_OK);
    CHECK_EQ(queue_up(&callbacks[2], &b.queue, never, NULL), RM_OK);
    CHECK(!rm_cancel_requested(&cancel));
    CHECK_EQ(rm_cancel_destroy(&cancel), RM_E_BUSY);
    rm_cancel_request(&cancel);
    CHECK(rm_cancel_requested(&cancel));
    CHECK(callbacks[0].calls == 1 && callbacks[0].status == RM_E_CANCELLED);
    CHECK(callbacks[1].calls == 1 && callbacks[1].status == RM_E_CANCELLED);
    CHECK_EQ(callbacks[2].calls, 0);
    ended(&threads[0], RM_E_CANCELLED);
    ended(&threads[1], RM_E_CANCELLED);
    CHECK_EQ(stats_of(&a.queue).waiting, 1);
    rm_cancel_request(&cancel); /* again */
    stock_put(&a);
    ended(&threads[2], RM_OK);
    CHECK_EQ(rm_waitq_remove(&b.queue, &callbacks[2].waiter), RM_OK);
    CHECK_EQ(rm_cancel_destroy(&cancel), RM_OK);
    CHECK_EQ(rm_cancel_destroy(&other), RM_OK);
    CHECK_EQ(stats_of(&a.queue).cancelled + stats_of(&b.queue).cancelled, 5);
    CHECK_EQ(rm_waitq_destroy(&a.queue), RM_OK);
    CHECK_EQ(rm_waitq_destroy(&b.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

/* A callback that outlives a thread with the same token and then uses its memory again. */
typedef struct survivor {
    rm_waiter waiter;
    blocker *thread;
    int calls;
} survivor;

static void survive(rm_status status, uint64_t grant, void *user) {
    survivor *me = (survivor *)user;
    (void)grant;
    CHECK_EQ(status, RM_E_CANCELLED);
    until_set(&me->thread->done);
    memset(&me->waiter, 0xAA, sizeof me->waiter);
    me->calls++;
}

TEST(cancel, forgets_the_waits_it_has_ended) {
    rm_cancel cancel;
    survivor last;
    blocker thread;
    stock s;
    stock_init(&s, NULL, 0, 0);
    memset(&last, 0, sizeof last);
    last.thread = &thread;
    REQUIRE(rm_cancel_init(&cancel) == RM_OK);
    CHECK_EQ(rm_waitq_add(&s.queue, &last.waiter, NULL, never, &cancel, survive, &last), RM_OK);
    block_in(&thread, &s.queue, never, &cancel); /* is ended before the callback */
    until_registered(&cancel, 2);
    rm_cancel_request(&cancel);
    ended(&thread, RM_E_CANCELLED);
    CHECK_EQ(last.calls, 1);
    CHECK_EQ(rm_cancel_destroy(&cancel), RM_OK);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
}

TEST(cancel, that_was_requested_turns_newcomers_away) {
    rm_cancel cancel;
    callback c;
    stock s;
    uint64_t grant = 5;
    stock_init(&s, NULL, 0, 0);
    s.units = 1;
    REQUIRE(rm_cancel_init(&cancel) == RM_OK);
    rm_cancel_request(&cancel);
    CHECK_EQ(rm_waitq_wait(&s.queue, NULL, never, &cancel, &grant), RM_E_CANCELLED);
    CHECK_EQ(queue_up(&c, &s.queue, never, &cancel), RM_E_CANCELLED);
    CHECK(c.calls == 0 && grant == 5 && s.tries == 0 && s.units == 1);
    CHECK_EQ(stats_of(&s.queue).waits, 0);
    CHECK_EQ(rm_cancel_destroy(&cancel), RM_OK);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
}

/* >>wait queue: order and barging --------------------------------------------------------- */

TEST(waitq, strict_serves_threads_in_the_order_they_came) {
    enum { THREADS = 5 };
    blocker threads[THREADS];
    stock s;
    set_clock(0);
    stock_init(&s, &fake, RM_STRICT, 0);
    for (int i = 0; i < THREADS; ++i)
        block_in(&threads[i], &s.queue, never, NULL);
    CHECK(rm_waitq_must_queue(&s.queue));
    await(THREADS);
    for (int i = 0; i < THREADS; ++i) {
        stock_put(&s);
        CHECK_EQ(s.units, 0); /* handed over: no time in which another could take it */
        ended(&threads[i], RM_OK);
        CHECK_EQ(threads[i].grant, i + 1);
        CHECK_EQ(stats_of(&s.queue).waiting, THREADS - 1 - i);
    }
    CHECK(!rm_waitq_must_queue(&s.queue));
    stock_put(&s);
    CHECK_EQ(s.units, 1);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(waitq, strict_serves_threads_and_callbacks_in_one_order) {
    blocker threads[2];
    callback callbacks[2];
    stock s;
    set_clock(0);
    stock_init(&s, &fake, RM_STRICT, 0);
    CHECK_EQ(queue_up(&callbacks[0], &s.queue, never, NULL), RM_OK);
    block_in(&threads[0], &s.queue, never, NULL);
    CHECK_EQ(queue_up(&callbacks[1], &s.queue, never, NULL), RM_OK);
    block_in(&threads[1], &s.queue, never, NULL);
    await(2);
    stock_put(&s);
    CHECK(callbacks[0].calls == 1 && callbacks[0].grant == 1);
    ADD(&s.units, 2);
    rm_waitq_notify(&s.queue); /* one call for two units */
    CHECK(callbacks[1].calls == 1 && callbacks[1].grant == 3);
    ended(&threads[0], RM_OK);
    CHECK_EQ(threads[0].grant, 2);
    stock_put(&s);
    ended(&threads[1], RM_OK);
    CHECK_EQ(threads[1].grant, 4);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(waitq, lets_newcomers_barge_until_the_head_has_waited_long_enough) {
    blocker head, next;
    stock s;
    set_clock(1000);
    stock_init(&s, &fake, 100, 0);
    block_in(&head, &s.queue, never, NULL);
    await(1);
    CHECK(!rm_waitq_must_queue(&s.queue));
    advance(99);
    rm_waitq_notify(&s.queue); /* woken, finds nothing, is not yet starving */
    block_in(&next, &s.queue, never, NULL);
    CHECK(!rm_waitq_must_queue(&s.queue));
    advance(1);
    rm_waitq_notify(&s.queue);
    CHECK(rm_waitq_must_queue(&s.queue)); /* from now on newcomers queue up ... */
    stock_put(&s);
    CHECK_EQ(s.units, 0); /* ... and the unit goes from hand to hand */
    ended(&head, RM_OK);
    CHECK(!rm_waitq_must_queue(&s.queue)); /* the next one has waited for 1 ns */
    stock_put(&s);
    ended(&next, RM_OK);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(waitq, serves_a_young_head_when_told_to) {
    blocker head;
    stock s;
    set_clock(1000);
    stock_init(&s, &fake, 100, 0);
    rm_waitq_serve(&s.queue); /* nobody waits */
    block_in(&head, &s.queue, never, NULL);
    await(1);
    rm_waitq_serve(&s.queue); /* there is nothing */
    CHECK_EQ(stats_of(&s.queue).waiting, 1);
    s.units = 1;
    rm_waitq_serve(&s.queue);
    CHECK_EQ(s.units, 0); /* it need not come for it */
    ended(&head, RM_OK);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(waitq, head_that_was_beaten_to_a_unit_waits_on_and_then_starves) {
    blocker head;
    stock s;
    set_clock(0);
    stock_init(&s, &fake, 100, 0);
    block_in(&head, &s.queue, never, NULL);
    await(1);
    for (int i = 0; i < 50; ++i)
        rm_waitq_notify(&s.queue); /* woken for a unit that is gone: one wake is in flight */
    CHECK_EQ(stats_of(&s.queue).waiting, 1);
    advance(100);
    stock_put(&s);
    CHECK_EQ(s.units, 0);
    ended(&head, RM_OK);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(waitq, default_policy_lets_barge_for_50_us) {
    blocker head;
    stock s;
    set_clock(0);
    stock_init(&s, &fake, 0, 0);
    block_in(&head, &s.queue, never, NULL);
    await(1);
    advance(RM_US(50) - 1);
    rm_waitq_notify(&s.queue);
    CHECK(!rm_waitq_must_queue(&s.queue));
    advance(1);
    rm_waitq_notify(&s.queue);
    CHECK(rm_waitq_must_queue(&s.queue));
    stock_put(&s);
    ended(&head, RM_OK);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(waitq, takes_a_unit_that_is_there_without_waiting) {
    uint64_t grant = 0;
    callback c;
    stock s;
    stock_init(&s, NULL, RM_STRICT, 0);
    s.units = 2;
    CHECK_EQ(rm_waitq_wait(&s.queue, NULL, never, NULL, &grant), RM_OK);
    CHECK_EQ(grant, 1);
    CHECK_EQ(queue_up(&c, &s.queue, never, NULL), RM_OK);
    CHECK(c.calls == 1 && c.status == RM_OK && c.grant == 2); /* inside the call */
    CHECK_EQ(stats_of(&s.queue).waits, 1);                    /* the callback had not to wait */
    CHECK_EQ(stats_of(&s.queue).granted, 1);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
}

TEST(waitq, gives_every_thread_a_unit_when_many_come_at_once) {
    blocker threads[4];
    stock s;
    set_clock(0);
    stock_init(&s, &fake, RM_SEC(1), 0); /* barging: only the head is woken */
    for (int i = 0; i < 4; ++i)
        block_in(&threads[i], &s.queue, never, NULL);
    await(4);
    ADD(&s.units, 4);
    rm_waitq_notify(&s.queue); /* one notice: whoever leaves passes on what is left */
    for (int i = 0; i < 4; ++i) {
        ended(&threads[i], RM_OK);
        CHECK_EQ(threads[i].grant, i + 1);
    }
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

/* >>wait queue: deadlines and cancellation ------------------------------------------------ */

TEST(waitq, wait_ends_at_its_nanosecond) {
    blocker a, b;
    stock s;
    set_clock(0);
    stock_init(&s, &fake, 0, 0);
    block_in(&a, &s.queue, at(100), NULL);
    block_in(&b, &s.queue, at(101), NULL);
    await(2);
    advance(99);
    await(2);
    advance(1);
    ended(&a, RM_E_TIMEOUT);
    CHECK_EQ(stats_of(&s.queue).waiting, 1);
    await(1);
    advance(1);
    ended(&b, RM_E_TIMEOUT);
    CHECK_EQ(stats_of(&s.queue).timeouts, 2);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(waitq, does_not_wait_when_the_deadline_is_now) {
    uint64_t grant = 7;
    callback c, first;
    stock s;
    set_clock(100);
    stock_init(&s, &fake, 0, 0);
    CHECK_EQ(rm_waitq_wait(&s.queue, NULL, at(100), NULL, &grant), RM_E_TIMEOUT);
    CHECK_EQ(rm_waitq_wait(&s.queue, NULL, at(99), NULL, &grant), RM_E_TIMEOUT);
    CHECK_EQ(rm_waitq_wait(&s.queue, NULL, at(INT64_MIN), NULL, &grant), RM_E_TIMEOUT);
    CHECK_EQ(queue_up(&c, &s.queue, at(100), NULL), RM_OK);
    CHECK(c.calls == 1 && c.status == RM_E_TIMEOUT);
    CHECK_EQ(queue_up(&first, &s.queue, never, NULL), RM_OK); /* the same behind somebody */
    CHECK_EQ(rm_waitq_wait(&s.queue, NULL, at(100), NULL, &grant), RM_E_TIMEOUT);
    CHECK_EQ(rm_waitq_wait(&s.queue, NULL, at(INT64_MIN), NULL, &grant), RM_E_TIMEOUT);
    CHECK(first.calls == 0 && grant == 7);
    CHECK_EQ(stats_of(&s.queue).waiting, 1);
    CHECK_EQ(rm_waitq_remove(&s.queue, &first.waiter), RM_OK);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(waitq, takes_nothing_when_the_deadline_has_passed_though_there_is_a_unit) {
    uint64_t grant = 7;
    callback c;
    stock s;
    set_clock(100);
    stock_init(&s, &fake, 0, 0);
    s.units = 1;
    CHECK_EQ(rm_waitq_wait(&s.queue, NULL, at(100), NULL, &grant), RM_E_TIMEOUT);
    CHECK_EQ(queue_up(&c, &s.queue, at(1), NULL), RM_OK);
    CHECK(c.status == RM_E_TIMEOUT && grant == 7 && s.units == 1 && s.tries == 0);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(waitq, hands_nothing_to_a_waiter_past_its_deadline) {
    for (int strict = 0; strict < 2; ++strict) {
        callback late, good;
        stock s;
        set_clock(0);
        stock_init(&s, &fake, strict ? RM_STRICT : RM_SEC(1), 0);
        CHECK_EQ(queue_up(&late, &s.queue, at(10), NULL), RM_OK);
        CHECK_EQ(queue_up(&good, &s.queue, at(11), NULL), RM_OK);
        advance(10);
        CHECK_EQ(late.calls, 0); /* nobody looked yet */
        stock_put(&s);
        CHECK(late.calls == 1 && late.status == RM_E_TIMEOUT && late.grant == 0);
        CHECK(good.calls == 1 && good.status == RM_OK && good.grant == 1);
        CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
        rm_virtual_clock_destroy(&time_machine);
    }
}

TEST(waitq, hands_nothing_to_a_waiter_whose_token_was_requested) {
    rm_cancel cancel;
    callback first, good;
    stock s;
    stock_init(&s, NULL, RM_STRICT, 0);
    REQUIRE(rm_cancel_init(&cancel) == RM_OK);
    CHECK_EQ(queue_up(&first, &s.queue, never, &cancel), RM_OK);
    CHECK_EQ(queue_up(&good, &s.queue, never, NULL), RM_OK);
    SET(&cancel.requested, 1); /* rm_cancel_request has begun and not come to the queue yet */
    stock_put(&s);
    CHECK(first.calls == 1 && first.status == RM_E_CANCELLED);
    CHECK(good.calls == 1 && good.status == RM_OK);
    rm_cancel_request(&cancel);
    CHECK_EQ(first.calls, 1);
    CHECK_EQ(rm_cancel_destroy(&cancel), RM_OK);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
}

TEST(waitq, completes_nothing_for_a_waiter_past_its_deadline) {
    callback late, good;
    stock s;
    set_clock(0);
    stock_init(&s, &fake, 0, 0);
    CHECK_EQ(queue_up(&late, &s.queue, at(10), NULL), RM_OK);
    CHECK_EQ(queue_up(&good, &s.queue, never, NULL), RM_OK);
    advance(10);
    rm_waitq_lock(&s.queue);
    CHECK_EQ(rm_waitq_complete(&s.queue, NULL, RM_OK, 42), 1);
    rm_waitq_unlock(&s.queue);
    CHECK(late.status == RM_E_TIMEOUT && late.grant == 0);
    CHECK(good.status == RM_OK && good.grant == 42);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(waitq, tells_a_cancel_that_came_too_late) {
    rm_cancel cancel;
    blocker thread;
    callback c;
    stock s;
    set_clock(0);
    stock_init(&s, &fake, RM_STRICT, 0);
    REQUIRE(rm_cancel_init(&cancel) == RM_OK);
    CHECK_EQ(queue_up(&c, &s.queue, at(10), &cancel), RM_OK);
    block_in(&thread, &s.queue, at(10), &cancel);
    await(1);
    ADD(&s.units, 2);
    rm_waitq_notify(&s.queue); /* granted: what comes after that comes too late */
    rm_cancel_request(&cancel);
    advance(10);
    CHECK_EQ(rm_waitq_expire(&s.queue), INT64_MAX);
    CHECK_EQ(rm_waitq_remove(&s.queue, &c.waiter), RM_E_STALE);
    CHECK(c.calls == 1 && c.status == RM_OK && c.grant == 1);
    ended(&thread, RM_OK);
    CHECK_EQ(thread.grant, 2);
    CHECK_EQ(stats_of(&s.queue).cancelled, 0);
    CHECK_EQ(stats_of(&s.queue).timeouts, 0);
    CHECK_EQ(rm_cancel_destroy(&cancel), RM_OK);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(waitq, waits_for_ever_at_the_end_of_time) {
    blocker thread;
    stock s;
    set_clock(INT64_MAX);
    stock_init(&s, &fake, RM_STRICT, 0);
    block_in(&thread, &s.queue, never, NULL);
    await(1);
    advance(1);
    CHECK_EQ(stats_of(&s.queue).waiting, 1);
    stock_put(&s);
    ended(&thread, RM_OK);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

/* >>wait queue: no wake-up is lost -------------------------------------------------------- */

/* A clock whose waits go to the virtual clock, and which does something when a wait ends: what
   happens between a wake-up and the moment the woken thread looks. */
typedef struct gate {
    rm_clock clock;
    rm_waitq *queue;
    rm_waiter *head; /* whose wait it is about */
    rm_cancel *cancel;
    rm_status complete; /* with the queue's lock held: ends the head by request */
    int64_t jump;
    int *steal;                  /* the units, which somebody else takes */
    void (*meanwhile)(stock *s); /* without the lock */
    stock *stock;
    int passed;
} gate;

static int64_t gate_now(void *user) {
    (void)user;
    return rm_now(&fake);
}

static void gate_wait(rm_cond *cond, rm_mutex *mutex, int64_t until_ns, void *user) {
    gate *g = (gate *)user;
    fake.wait_fn(cond, mutex, until_ns, fake.user);
    if (g->queue->woken == NULL || g->queue->woken->cond != cond || g->passed > 0) return;
    g->passed++; /* woken for a unit, and then: */
    if (g->cancel != NULL) SET(&g->cancel->requested, 1);
    if (g->steal != NULL) SET(g->steal, 0);
    if (g->complete != RM_OK)
        (void)rm_waitq_complete(g->queue, g->queue->woken->request, g->complete, 0);
    if (g->meanwhile != NULL) {
        rm_mutex_unlock(mutex);
        g->meanwhile(g->stock);
        rm_mutex_lock(mutex);
    }
    SET(&time_machine.now, GET(&time_machine.now) + (uint64_t)g->jump);
}

static void gate_init(gate *g, stock *s) {
    memset(g, 0, sizeof *g);
    set_clock(0);
    g->clock = fake;
    g->clock.now_fn = gate_now;
    g->clock.wait_fn = gate_wait;
    g->clock.user = g;
    stock_init(s, &g->clock, RM_SEC(1), 0);
    g->queue = &s->queue;
    g->stock = s;
}

TEST(waitq, woken_waiter_that_times_out_passes_the_wake_on) {
    blocker first, second;
    stock s;
    gate g;
    gate_init(&g, &s);
    g.jump = 10;
    block_in(&first, &s.queue, at(10), NULL);
    block_in(&second, &s.queue, never, NULL);
    await(2);
    stock_put(&s);
    ended(&first, RM_E_TIMEOUT);
    ended(&second, RM_OK);
    CHECK_EQ(g.passed, 1);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(waitq, woken_waiter_that_times_out_empty_handed_leaves_no_wake_behind) {
    blocker first, second;
    stock s;
    gate g;
    gate_init(&g, &s);
    g.jump = 10;
    g.steal = &s.units;
    block_in(&first, &s.queue, at(10), NULL);
    block_in(&second, &s.queue, never, NULL);
    await(2);
    stock_put(&s);
    ended(&first, RM_E_TIMEOUT);
    CHECK_EQ(stats_of(&s.queue).waiting, 1);
    stock_put(&s); /* wakes the second one, though the first had been woken and took nothing */
    ended(&second, RM_OK);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(waitq, woken_waiter_that_is_cancelled_passes_the_wake_on) {
    blocker first, second;
    rm_cancel cancel;
    stock s;
    gate g;
    REQUIRE(rm_cancel_init(&cancel) == RM_OK);
    gate_init(&g, &s);
    g.cancel = &cancel;
    block_in(&first, &s.queue, never, &cancel);
    block_in(&second, &s.queue, never, NULL);
    await(2);
    stock_put(&s);
    ended(&first, RM_E_CANCELLED);
    ended(&second, RM_OK);
    CHECK_EQ(g.passed, 1);
    CHECK_EQ(rm_cancel_destroy(&cancel), RM_OK);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(waitq, woken_waiter_that_is_completed_passes_the_wake_on) {
    static int one = 1;
    blocker first, second;
    stock s;
    gate g;
    gate_init(&g, &s);
    g.complete = RM_E_FAILED;
    memset(&first, 0, sizeof first);
    first.queue = &s.queue;
    first.request = &one;
    start(&first.thread, block, &first);
    until_waiting(&s.queue, 1);
    block_in(&second, &s.queue, never, NULL);
    await(2);
    stock_put(&s);
    ended(&first, RM_E_FAILED);
    ended(&second, RM_OK);
    CHECK_EQ(g.passed, 1);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(waitq, unit_that_comes_while_a_waiter_registers_its_token_is_not_missed) {
    blocker thread;
    rm_cancel cancel;
    stock s;
    stock_init(&s, NULL, RM_SEC(1000), 0);
    REQUIRE(rm_cancel_init(&cancel) == RM_OK);
    rm_mutex_lock(&cancel.mutex);
    block_in(&thread, &s.queue, never, &cancel); /* is in the queue, stands at the token */
    stock_put(&s);
    rm_mutex_unlock(&cancel.mutex);
    ended(&thread, RM_OK);
    CHECK_EQ(rm_cancel_destroy(&cancel), RM_OK);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
}

TEST(waitq, cancel_that_comes_while_a_waiter_registers_its_token_is_not_missed) {
    blocker thread;
    rm_cancel cancel;
    stock s;
    stock_init(&s, NULL, 0, 0);
    REQUIRE(rm_cancel_init(&cancel) == RM_OK);
    rm_mutex_lock(&cancel.mutex);
    block_in(&thread, &s.queue, never, &cancel);
    SET(&cancel.requested, 1); /* the first thing rm_cancel_request does */
    rm_mutex_unlock(&cancel.mutex);
    ended(&thread, RM_E_CANCELLED);
    CHECK_EQ(rm_cancel_destroy(&cancel), RM_OK);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
}

TEST(waitq, cancelled_head_passes_on_what_only_it_could_not_take) {
    static int two = 2;
    rm_cancel cancel;
    callback big, small;
    stock s;
    stock_init(&s, NULL, RM_STRICT, 0);
    REQUIRE(rm_cancel_init(&cancel) == RM_OK);
    memset(&big, 0, sizeof big);
    CHECK_EQ(rm_waitq_add(&s.queue, &big.waiter, &two, never, &cancel, note, &big), RM_OK);
    CHECK_EQ(queue_up(&small, &s.queue, never, NULL), RM_OK);
    stock_put(&s); /* too little for the head, and nobody overtakes it */
    CHECK(big.calls == 0 && small.calls == 0);
    rm_cancel_request(&cancel);
    CHECK(big.status == RM_E_CANCELLED && small.status == RM_OK && small.grant == 1);
    CHECK_EQ(rm_cancel_destroy(&cancel), RM_OK);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
}

TEST(waitq, every_way_out_of_the_queue_passes_on_what_is_left) {
    for (int way = 0; way < 4; ++way) {
        static int two = 2;
        callback big, small;
        stock s;
        set_clock(0);
        stock_init(&s, &fake, RM_STRICT, 0);
        memset(&big, 0, sizeof big);
        CHECK_EQ(rm_waitq_add(&s.queue, &big.waiter, &two, at(10), NULL, note, &big), RM_OK);
        CHECK_EQ(queue_up(&small, &s.queue, never, NULL), RM_OK);
        stock_put(&s);
        CHECK_EQ(small.calls, 0);
        if (way == 0) CHECK_EQ(rm_waitq_remove(&s.queue, &big.waiter), RM_OK);
        advance(10);
        if (way == 1) CHECK_EQ(rm_waitq_expire(&s.queue), INT64_MAX);
        if (way == 2) rm_waitq_notify(&s.queue);
        if (way == 3) {
            rm_waitq_lock(&s.queue);
            CHECK_EQ(rm_waitq_complete(&s.queue, &two, RM_E_FAILED, 0), 1);
            rm_waitq_unlock(&s.queue);
        }
        CHECK_EQ(big.status, way == 0 ? RM_E_CANCELLED : way == 3 ? RM_E_FAILED : RM_E_TIMEOUT);
        CHECK(small.calls == 1 && small.status == RM_OK);
        CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
        rm_virtual_clock_destroy(&time_machine);
    }
}

/* >>wait queue: bounds, callbacks, completion --------------------------------------------- */

TEST(waitq, turns_away_more_than_max_waiters) {
    uint64_t grant;
    callback c[3];
    stock s;
    stock_init(&s, NULL, RM_STRICT, 2);
    CHECK_EQ(queue_up(&c[0], &s.queue, never, NULL), RM_OK);
    CHECK_EQ(queue_up(&c[1], &s.queue, never, NULL), RM_OK);
    CHECK_EQ(queue_up(&c[2], &s.queue, never, NULL), RM_E_FULL);
    CHECK_EQ(rm_waitq_wait(&s.queue, NULL, never, NULL, &grant), RM_E_FULL);
    CHECK_EQ(stats_of(&s.queue).refused, 2);
    CHECK_EQ(stats_of(&s.queue).waits, 2);
    CHECK_EQ(c[2].calls, 0);
    stock_put(&s);
    CHECK_EQ(queue_up(&c[2], &s.queue, never, NULL), RM_OK);
    CHECK_EQ(rm_waitq_wait(&s.queue, NULL, never, NULL, &grant), RM_E_FULL);
    rm_waitq_close(&s.queue);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
}

TEST(waitq, expire_ends_what_is_over_and_tells_when_to_come_back) {
    callback c[4];
    stock s;
    set_clock(0);
    stock_init(&s, &fake, 0, 0);
    CHECK_EQ(rm_waitq_expire(&s.queue), INT64_MAX);
    CHECK_EQ(queue_up(&c[0], &s.queue, at(30), NULL), RM_OK);
    CHECK_EQ(queue_up(&c[1], &s.queue, at(10), NULL), RM_OK);
    CHECK_EQ(queue_up(&c[2], &s.queue, at(20), NULL), RM_OK);
    CHECK_EQ(queue_up(&c[3], &s.queue, never, NULL), RM_OK);
    CHECK_EQ(rm_waitq_expire(&s.queue), 10);
    advance(10);
    CHECK_EQ(rm_waitq_expire(&s.queue), 20);
    CHECK(c[1].calls == 1 && c[1].status == RM_E_TIMEOUT);
    advance(20);
    CHECK_EQ(rm_waitq_expire(&s.queue), INT64_MAX);
    CHECK(c[0].status == RM_E_TIMEOUT && c[2].status == RM_E_TIMEOUT && c[3].calls == 0);
    CHECK(c[0].order < c[2].order);
    CHECK_EQ(rm_waitq_remove(&s.queue, &c[3].waiter), RM_OK);
    CHECK(c[3].calls == 1 && c[3].status == RM_E_CANCELLED);
    CHECK_EQ(rm_waitq_remove(&s.queue, &c[3].waiter), RM_E_STALE);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(waitq, expire_does_not_name_the_deadline_of_a_wait_it_served) {
    static int two = 2;
    callback big, small;
    stock s;
    set_clock(0);
    stock_init(&s, &fake, RM_STRICT, 0);
    memset(&big, 0, sizeof big);
    CHECK_EQ(rm_waitq_add(&s.queue, &big.waiter, &two, at(10), NULL, note, &big), RM_OK);
    CHECK_EQ(queue_up(&small, &s.queue, at(50), NULL), RM_OK);
    stock_put(&s);
    advance(10);
    CHECK_EQ(rm_waitq_expire(&s.queue), INT64_MAX);
    CHECK(big.status == RM_E_TIMEOUT && small.status == RM_OK);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(waitq, remove_knows_only_its_own_callback_waiters) {
    rm_waiter unknown;
    blocker thread;
    callback c;
    stock a, b;
    stock_init(&a, NULL, 0, 0);
    stock_init(&b, NULL, 0, 0);
    memset(&unknown, 0, sizeof unknown);
    CHECK_EQ(rm_waitq_remove(&a.queue, &unknown), RM_E_STALE);
    CHECK_EQ(queue_up(&c, &a.queue, never, NULL), RM_OK);
    CHECK_EQ(rm_waitq_remove(&b.queue, &c.waiter), RM_E_STALE);
    CHECK_EQ(c.calls, 0);
    block_in(&thread, &a.queue, never, NULL);
    CHECK_EQ(rm_waitq_remove(&a.queue, &c.waiter), RM_OK);
    stock_put(&a);
    ended(&thread, RM_OK);
    CHECK_EQ(rm_waitq_destroy(&a.queue), RM_OK);
    CHECK_EQ(rm_waitq_destroy(&b.queue), RM_OK);
}

/* A callback that calls every function of the queue, its token and its clock. */
typedef struct reentry {
    callback base, inner, second;
    stock *stock;
    rm_cancel *cancel;
    bool closed;
} reentry;

static void reenter(rm_status status, uint64_t grant, void *user) {
    reentry *r = (reentry *)user;
    rm_waitq *q = &r->stock->queue;
    rm_waitq_stats stats;
    note(status, grant, &r->base);
    if (r->base.calls > 1) return;
    CHECK_EQ(rm_waitq_stats_get(q, &stats), RM_OK);
    (void)rm_waitq_must_queue(q);
    rm_waitq_lock(q);
    rm_waitq_unlock(q);
    rm_waitq_notify(q);
    (void)rm_waitq_expire(q);
    CHECK_EQ(rm_waitq_remove(q, &r->base.waiter), RM_E_STALE);
    CHECK_EQ(queue_up(&r->inner, q, at(INT64_MIN), NULL), r->closed ? RM_E_CLOSED : RM_OK);
    if (!r->closed) {
        CHECK_EQ(r->inner.calls, 0); /* it is due, but comes after this one */
        CHECK_EQ(queue_up(&r->second, q, never, NULL), RM_OK);
        CHECK_EQ(rm_waitq_remove(q, &r->second.waiter), RM_OK);
        CHECK_EQ(r->second.calls, 0);
        /* and the memory of its own waiter is free to be used again */
        CHECK_EQ(rm_waitq_add(q, &r->base.waiter, NULL, at(INT64_MIN), NULL, reenter, r), RM_OK);
        CHECK_EQ(r->base.calls, 1);
    }
    advance(1);
    rm_waitq_lock(q);
    (void)rm_waitq_complete(q, &stats, RM_OK, 0);
    rm_waitq_unlock(q);
    rm_cancel_request(r->cancel);
    rm_waitq_close(q);
}

TEST(waitq, callbacks_run_without_locks_and_may_call_everything) {
    for (int way = 0; way < 8; ++way) {
        rm_cancel cancel;
        reentry r;
        stock s;
        set_clock(0);
        stock_init(&s, &fake, RM_STRICT, 0);
        REQUIRE(rm_cancel_init(&cancel) == RM_OK);
        memset(&r, 0, sizeof r);
        r.stock = &s;
        r.cancel = &cancel;
        r.closed = way == 6;
        if (way == 0) s.units = 1; /* granted inside add */
        CHECK_EQ(rm_waitq_add(&s.queue, &r.base.waiter, NULL, at(10), &cancel, reenter, &r), RM_OK);
        if (way == 1) stock_put(&s);
        if (way == 2) advance(10), (void)rm_waitq_expire(&s.queue);
        if (way == 3) CHECK_EQ(rm_waitq_remove(&s.queue, &r.base.waiter), RM_OK);
        if (way == 4) rm_cancel_request(&cancel);
        if (way == 5) {
            rm_waitq_lock(&s.queue);
            CHECK_EQ(rm_waitq_complete(&s.queue, NULL, RM_E_FAILED, 0), 1);
            CHECK_EQ(r.base.calls, 0); /* not under the lock */
            rm_waitq_unlock(&s.queue);
        }
        if (way == 6) rm_waitq_close(&s.queue);
        if (way == 7) { /* by a thread that waits itself */
            uint64_t grant;
            advance(10);
            CHECK_EQ(rm_waitq_wait(&s.queue, NULL, at(INT64_MIN), NULL, &grant), RM_E_TIMEOUT);
        }
        CHECK_EQ(r.base.calls, way == 6 ? 1 : 2);
        CHECK_EQ(r.inner.calls, way == 6 ? 0 : 1);
        CHECK_EQ(r.second.calls, way == 6 ? 0 : 1);
        if (way != 6) CHECK_EQ(r.inner.status, RM_E_TIMEOUT);
        if (way != 6) CHECK_EQ(r.second.status, RM_E_CANCELLED);
        CHECK_EQ(rm_cancel_destroy(&cancel), RM_OK);
        CHECK_EQ(stats_of(&s.queue).waiting, 0);
        CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
        rm_virtual_clock_destroy(&time_machine);
    }
}

TEST(waitq, waiting_thread_runs_the_callbacks_it_caused_before_it_waits) {
    blocker thread;
    callback late;
    stock s;
    set_clock(0);
    stock_init(&s, &fake, RM_STRICT, 0);
    CHECK_EQ(queue_up(&late, &s.queue, at(10), NULL), RM_OK);
    advance(10);
    memset(&thread, 0, sizeof thread);
    thread.queue = &s.queue;
    start(&thread.thread, block, &thread); /* finds the late one, and has to wait itself */
    await(1);
    CHECK_EQ(GET(&late.calls), 1);
    CHECK_EQ(late.status, RM_E_TIMEOUT);
    stock_put(&s);
    ended(&thread, RM_OK);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(waitq, completes_the_waits_for_one_request_or_for_all) {
    static int apple, pear;
    callback c[4];
    stock s;
    memset(&s, 0, sizeof s);
    {
        rm_waitq_desc desc; /* without try_fn: as single flight has it */
        memset(&desc, 0, sizeof desc);
        REQUIRE(rm_waitq_init(&s.queue, &desc) == RM_OK);
    }
    for (int i = 0; i < 4; ++i) {
        memset(&c[i], 0, sizeof c[i]);
        CHECK_EQ(rm_waitq_add(&s.queue, &c[i].waiter, i % 2 == 0 ? &apple : &pear, never, NULL,
                              note, &c[i]),
                 RM_OK);
    }
    rm_waitq_notify(&s.queue); /* nothing to hand out */
    rm_waitq_lock(&s.queue);
    CHECK_EQ(rm_waitq_complete(&s.queue, &s, RM_OK, 9), 0);
    CHECK_EQ(rm_waitq_complete(&s.queue, &apple, RM_OK, 9), 2);
    CHECK_EQ(rm_waitq_complete(&s.queue, &apple, RM_OK, 9), 0);
    rm_waitq_unlock(&s.queue);
    CHECK(c[0].status == RM_OK && c[0].grant == 9 && c[2].grant == 9);
    CHECK(c[0].order < c[2].order && c[1].calls == 0 && c[3].calls == 0);
    rm_waitq_lock(&s.queue);
    CHECK_EQ(rm_waitq_complete(&s.queue, NULL, RM_E_FAILED, 0), 2);
    rm_waitq_unlock(&s.queue);
    CHECK(c[1].status == RM_E_FAILED && c[3].status == RM_E_FAILED);
    CHECK_EQ(rm_waitq_complete(NULL, NULL, RM_OK, 0), 0);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
}

/* Single flight: the first one works, the others wait for what it finds. */
typedef struct flight {
    rm_waitq queue;
    bool flying;
    int loads;
    uint64_t result;
} flight;

typedef struct passenger {
    rm_thread thread;
    flight *flight;
    uint64_t got;
    rm_status status;
} passenger;

static void fly(void *user) {
    passenger *p = (passenger *)user;
    flight *f = p->flight;
    rm_waitq_lock(&f->queue);
    if (f->result != 0) {
        p->got = f->result;
    } else if (f->flying) {
        p->status = rm_waitq_wait_locked(&f->queue, f, never, NULL, &p->got);
    } else {
        f->flying = true;
        rm_waitq_unlock(&f->queue);
        ADD(&f->loads, 1);
        until_waiting(&f->queue, 3);
        rm_waitq_lock(&f->queue);
        f->flying = false;
        f->result = p->got = 4711;
        CHECK_EQ(rm_waitq_complete(&f->queue, f, RM_OK, 4711), 3);
    }
    rm_waitq_unlock(&f->queue);
}

TEST(waitq, carries_single_flight) {
    passenger passengers[4];
    rm_waitq_desc desc;
    flight f;
    memset(&f, 0, sizeof f);
    memset(&desc, 0, sizeof desc);
    memset(passengers, 0, sizeof passengers);
    REQUIRE(rm_waitq_init(&f.queue, &desc) == RM_OK);
    for (int i = 0; i < 4; ++i) {
        passengers[i].flight = &f;
        start(&passengers[i].thread, fly, &passengers[i]);
    }
    for (int i = 0; i < 4; ++i) {
        rm_thread_join(&passengers[i].thread);
        CHECK(passengers[i].status == RM_OK && passengers[i].got == 4711);
    }
    CHECK_EQ(f.loads, 1);
    CHECK_EQ(rm_waitq_destroy(&f.queue), RM_OK);
}

TEST(waitq, close_ends_every_wait_and_refuses_later_ones) {
    rm_cancel cancel;
    blocker threads[2];
    callback c[2];
    uint64_t grant = 3;
    stock s;
    stock_init(&s, NULL, 0, 0);
    REQUIRE(rm_cancel_init(&cancel) == RM_OK);
    block_in(&threads[0], &s.queue, never, NULL);
    CHECK_EQ(queue_up(&c[0], &s.queue, never, &cancel), RM_OK);
    block_in(&threads[1], &s.queue, never, &cancel);
    rm_waitq_close(&s.queue);
    CHECK(c[0].calls == 1 && c[0].status == RM_E_CLOSED);
    ended(&threads[0], RM_E_CLOSED);
    ended(&threads[1], RM_E_CLOSED);
    CHECK_EQ(stats_of(&s.queue).waits, 3);
    CHECK_EQ(stats_of(&s.queue).ended, 3);
    ADD(&s.units, 1);
    CHECK(rm_waitq_must_queue(&s.queue)); /* so that nobody takes a unit by himself either */
    CHECK_EQ(rm_waitq_wait(&s.queue, NULL, never, NULL, &grant), RM_E_CLOSED);
    CHECK_EQ(queue_up(&c[1], &s.queue, never, NULL), RM_E_CLOSED);
    CHECK(c[1].calls == 0 && grant == 3 && s.units == 1);
    rm_waitq_notify(&s.queue);
    (void)rm_waitq_expire(&s.queue);
    rm_waitq_close(&s.queue);
    CHECK(rm_waitq_must_queue(&s.queue));
    CHECK_EQ(rm_cancel_destroy(&cancel), RM_OK);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
}

TEST(waitq, open_takes_waiters_again) {
    uint64_t grant = 0;
    blocker thread;
    stock s;
    stock_init(&s, NULL, 0, 0);
    rm_waitq_open(&s.queue); /* it is open: nothing happens */
    block_in(&thread, &s.queue, never, NULL);
    rm_waitq_open(&s.queue);
    CHECK_EQ(stats_of(&s.queue).waiting, 1);
    rm_waitq_close(&s.queue);
    ended(&thread, RM_E_CLOSED);
    CHECK_EQ(rm_waitq_wait(&s.queue, NULL, never, NULL, &grant), RM_E_CLOSED);
    rm_waitq_open(&s.queue);
    CHECK(!rm_waitq_must_queue(&s.queue));
    block_in(&thread, &s.queue, never, NULL);
    stock_put(&s);
    ended(&thread, RM_OK);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
}

TEST(waitq, destroy_is_refused_while_somebody_is_in_it) {
    blocker thread;
    callback c;
    stock s;
    set_clock(0);
    stock_init(&s, &fake, 0, 0);
    CHECK_EQ(queue_up(&c, &s.queue, never, NULL), RM_OK);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_E_BUSY);
    CHECK_EQ(rm_waitq_remove(&s.queue, &c.waiter), RM_OK);
    block_in(&thread, &s.queue, never, NULL);
    await(1);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_E_BUSY);
    stock_put(&s);
    ended(&thread, RM_OK);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(waitq, refuses_a_barge_time_that_is_none) {
    static const int64_t bad[] = {-1, RM_FOREVER, RM_NONE, -5, INT64_MIN};
    rm_waitq_desc desc;
    rm_waitq q;
    memset(&desc, 0, sizeof desc);
    for (int i = 0; i < 5; ++i) {
        desc.barge_ns = bad[i];
        CHECK_EQ(rm_waitq_init(&q, &desc), RM_E_INVALID);
    }
    desc.barge_ns = INT64_MAX;
    CHECK_EQ(rm_waitq_init(&q, &desc), RM_OK);
    CHECK_EQ(rm_waitq_destroy(&q), RM_OK);
}

TEST(waitq, statistics_add_up_and_waiting_times_are_counted) {
    static uint64_t memory[256];
    const rm_hist_desc shape = {0, 9, 16};
    rm_waitq_stats stats;
    rm_waitq_desc desc;
    rm_cancel cancel;
    rm_hist hist;
    callback c[6];
    stock s;
    set_clock(0);
    memset(&s, 0, sizeof s);
    memset(&desc, 0, sizeof desc);
    REQUIRE(rm_hist_init(&hist, &shape, memory, sizeof memory) == RM_OK);
    desc.clock = &fake;
    desc.try_fn = stock_take;
    desc.owner = &s;
    desc.max_waiters = 5;
    desc.wait_histogram = &hist;
    REQUIRE(rm_waitq_init(&s.queue, &desc) == RM_OK && rm_cancel_init(&cancel) == RM_OK);
    for (int i = 0; i < 6; ++i)
        CHECK_EQ(queue_up(&c[i], &s.queue, i == 1 ? at(20) : never, i == 2 ? &cancel : NULL),
                 i == 5 ? RM_E_FULL : RM_OK);
    advance(10);
    stock_put(&s); /* waited 10 */
    advance(10);
    CHECK_EQ(rm_waitq_expire(&s.queue), INT64_MAX); /* 20, timed out */
    advance(10);
    rm_cancel_request(&cancel); /* 30 */
    stats = stats_of(&s.queue);
    CHECK_EQ(stats.waiting, 2);
    advance(10);
    rm_waitq_close(&s.queue); /* 40, twice */
    stats = stats_of(&s.queue);
    CHECK(stats.waits == 5 && stats.granted == 1 && stats.timeouts == 1 && stats.cancelled == 1);
    CHECK(stats.refused == 1 && stats.waiting == 0);
    CHECK(hist.count == 5 && hist.refused == 0 && hist.sum == 10 + 20 + 30 + 40 + 40);
    CHECK(hist.min == 10 && hist.max == 40);
    CHECK_EQ(rm_hist_count_le(&hist, 20), 2);
    CHECK_EQ(rm_cancel_destroy(&cancel), RM_OK);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

/* >>wait queue: waiting on ---------------------------------------------------------------- */

TEST(waitq_on, thread_is_served_before_those_that_began_after_it) {
    static const int64_t since = 5;
    blocker on, a, b;
    stock s;
    set_clock(5);
    stock_init(&s, &fake, RM_STRICT, 0);
    serve(&s, 1);
    advance(5);
    block_in(&a, &s.queue, never, NULL);
    advance(10);
    block_in(&b, &s.queue, never, NULL);
    advance(10);
    block_on(&on, &s.queue, &since);
    await(3);
    stock_put(&s);
    ended(&on, RM_OK);
    CHECK_EQ(on.grant, 1);
    stock_put(&s);
    ended(&a, RM_OK);
    stock_put(&s);
    ended(&b, RM_OK);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(waitq_on, many_stand_by_their_time_and_before_those_of_the_same) {
    /* when they began and in this order they come; the place at which they are served */
    static const int64_t since[] = {20, 15, 30, 31, 15, 9, 20};
    static const uint64_t place[] = {6, 4, 8, 10, 3, 1, 5};
    enum { COUNT = 7 };
    blocker on[COUNT];
    callback c[3];
    stock s;
    set_clock(10);
    stock_init(&s, &fake, RM_STRICT, 0);
    serve(&s, COUNT);
    for (int i = 0; i < 3; ++i) { /* at 10, 20 and 30 */
        CHECK_EQ(queue_up(&c[i], &s.queue, never, NULL), RM_OK);
        advance(10);
    }
    for (int i = 0; i < COUNT; ++i)
        block_on(&on[i], &s.queue, &since[i]);
    await(COUNT);
    ADD(&s.units, COUNT + 3);
    rm_waitq_notify(&s.queue);
    for (int i = 0; i < COUNT; ++i) {
        ended(&on[i], RM_OK);
        CHECK_EQ(on[i].grant, place[i]);
    }
    CHECK(c[0].grant == 2 && c[1].grant == 7 && c[2].grant == 9);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(waitq_on, time_may_be_any_number) {
    static const int64_t first = INT64_MIN, last = INT64_MAX;
    blocker on[2];
    callback c;
    stock s;
    set_clock(10);
    stock_init(&s, &fake, RM_SEC(1), 0);
    serve(&s, 2);
    CHECK_EQ(queue_up(&c, &s.queue, never, NULL), RM_OK);
    CHECK(!rm_waitq_must_queue(&s.queue));
    block_on(&on[0], &s.queue, &last);
    block_on(&on[1], &s.queue, &first);
    CHECK(rm_waitq_must_queue(&s.queue)); /* the head has waited for longer than a second */
    await(2);
    ADD(&s.units, 3);
    rm_waitq_notify(&s.queue);
    ended(&on[0], RM_OK);
    ended(&on[1], RM_OK);
    CHECK(on[1].grant == 1 && c.grant == 2 && on[0].grant == 3);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(waitq_on, newcomers_stay_in_order_at_the_end_of_time) {
    callback c[3];
    stock s;
    set_clock(INT64_MAX);
    stock_init(&s, &fake, RM_STRICT, 0);
    for (int i = 0; i < 3; ++i)
        CHECK_EQ(queue_up(&c[i], &s.queue, never, NULL), RM_OK);
    for (int i = 0; i < 3; ++i) {
        stock_put(&s);
        CHECK_EQ(c[i].calls, 1);
    }
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(waitq_on, callback_keeps_its_place) {
    callback c[3];
    stock s;
    set_clock(0);
    stock_init(&s, &fake, RM_STRICT, 0);
    for (int i = 0; i < 3; ++i)
        CHECK_EQ(queue_up(&c[i], &s.queue, never, NULL), RM_OK), advance(10);
    stock_put(&s);
    stock_put(&s);
    CHECK(c[0].calls == 1 && c[1].calls == 1);
    CHECK_EQ(rm_waitq_add_on(&s.queue, &c[1].waiter), RM_OK);
    CHECK_EQ(rm_waitq_add_on(&s.queue, &c[0].waiter), RM_OK);
    CHECK(c[0].calls == 1 && c[1].calls == 1);
    stock_put(&s);
    CHECK(c[0].calls == 2 && c[0].grant == 3 && c[1].calls == 1 && c[2].calls == 0);
    stock_put(&s);
    CHECK(c[1].calls == 2 && c[1].grant == 4 && c[2].calls == 0);
    CHECK_EQ(rm_waitq_add_on(&s.queue, &c[1].waiter), RM_OK); /* once more */
    stock_put(&s);
    CHECK(c[1].calls == 3 && c[1].grant == 5 && c[2].calls == 0);
    stock_put(&s);
    CHECK(c[2].calls == 1 && c[2].grant == 6);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(waitq_on, is_one_wait_that_is_not_granted_yet) {
    static const int64_t since = 0;
    rm_waitq_stats stats;
    blocker on;
    callback c;
    stock s;
    set_clock(0);
    stock_init(&s, &fake, RM_STRICT, 0);
    serve(&s, 1);
    CHECK_EQ(queue_up(&c, &s.queue, never, NULL), RM_OK);
    stock_put(&s);
    stats = stats_of(&s.queue);
    CHECK(stats.waits == 2 && stats.granted == 2 && stats.waiting == 0);
    block_on(&on, &s.queue, &since);
    CHECK_EQ(rm_waitq_add_on(&s.queue, &c.waiter), RM_OK);
    stats = stats_of(&s.queue);
    CHECK(stats.waits == 2 && stats.granted == 0 && stats.waiting == 2);
    await(1);
    ADD(&s.units, 2);
    rm_waitq_notify(&s.queue);
    ended(&on, RM_OK);
    stats = stats_of(&s.queue);
    CHECK(stats.waits == 2 && stats.granted == 2 && stats.waiting == 0);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(waitq_on, one_that_was_served_at_once_begins_to_wait_at_that_time) {
    rm_waitq_stats stats;
    callback c, later;
    stock s;
    set_clock(0);
    stock_init(&s, &fake, RM_STRICT, 0);
    s.units = 1;
    CHECK_EQ(queue_up(&c, &s.queue, never, NULL), RM_OK);
    CHECK_EQ(c.calls, 1);
    stats = stats_of(&s.queue);
    CHECK(stats.waits == 0 && stats.granted == 0);
    advance(10);
    CHECK_EQ(queue_up(&later, &s.queue, never, NULL), RM_OK);
    CHECK_EQ(rm_waitq_add_on(&s.queue, &c.waiter), RM_OK);
    stats = stats_of(&s.queue);
    CHECK(stats.waits == 2 && stats.granted == 0 && stats.waiting == 2);
    stock_put(&s);
    CHECK(c.calls == 2 && later.calls == 0);
    CHECK_EQ(rm_waitq_add_on(&s.queue, &c.waiter), RM_OK); /* from now on it is one wait */
    stock_put(&s);
    stock_put(&s);
    stats = stats_of(&s.queue);
    CHECK(stats.waits == 2 && stats.granted == 2 && stats.waiting == 0);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(waitq, newcomer_overtakes_nobody_though_there_is_what_it_wants) {
    static int two = 2;
    callback big, small;
    stock s;
    stock_init(&s, NULL, INT64_MAX, 0);
    memset(&big, 0, sizeof big);
    s.units = 1;
    CHECK_EQ(rm_waitq_add(&s.queue, &big.waiter, &two, never, NULL, note, &big), RM_OK);
    CHECK_EQ(queue_up(&small, &s.queue, never, NULL), RM_OK);
    CHECK(big.calls == 0 && small.calls == 0);
    CHECK_EQ(stats_of(&s.queue).waits, 2);
    ADD(&s.units, 2);
    rm_waitq_notify(&s.queue);
    CHECK(big.grant == 1 && small.grant == 2);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
}

TEST(waitq_on, is_served_at_once_when_there_is_a_unit) {
    rm_waitq_stats stats;
    uint64_t grant = 0;
    callback c;
    stock s;
    stock_init(&s, NULL, RM_STRICT, 0);
    serve(&s, 1);
    s.units = 3;
    CHECK_EQ(rm_waitq_wait_on(&s.queue, NULL, 0, never, NULL, &grant), RM_OK);
    CHECK_EQ(grant, 1);
    CHECK_EQ(queue_up(&c, &s.queue, never, NULL), RM_OK);
    CHECK_EQ(rm_waitq_add_on(&s.queue, &c.waiter), RM_OK);
    CHECK(c.calls == 2 && c.status == RM_OK && c.grant == 3);
    stats = stats_of(&s.queue);
    CHECK(stats.waits == 2 && stats.granted == 2 && stats.waiting == 0);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
}

TEST(waitq_on, is_never_one_too_many) {
    static const int64_t since = 0;
    blocker on;
    callback c, first, more;
    stock s;
    set_clock(0);
    stock_init(&s, &fake, RM_STRICT, 1);
    serve(&s, 1);
    CHECK_EQ(queue_up(&c, &s.queue, never, NULL), RM_OK);
    stock_put(&s);
    CHECK_EQ(queue_up(&first, &s.queue, never, NULL), RM_OK);
    CHECK_EQ(rm_waitq_add_on(&s.queue, &c.waiter), RM_OK);
    block_on(&on, &s.queue, &since);
    await(1);
    CHECK_EQ(stats_of(&s.queue).waiting, 3);
    CHECK_EQ(stats_of(&s.queue).refused, 0);
    CHECK_EQ(queue_up(&more, &s.queue, never, NULL), RM_E_FULL);
    ADD(&s.units, 3);
    rm_waitq_notify(&s.queue);
    ended(&on, RM_OK);
    CHECK(on.grant == 2 && c.grant == 3 && first.grant == 4);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(waitq_on, is_told_when_the_queue_closes_or_has_closed) {
    static const int64_t since = 0;
    rm_waitq_stats stats;
    uint64_t grant = 3;
    rm_cancel cancel;
    blocker on;
    callback c, late;
    stock s;
    set_clock(0);
    stock_init(&s, &fake, RM_STRICT, 0);
    serve(&s, 2);
    REQUIRE(rm_cancel_init(&cancel) == RM_OK);
    CHECK_EQ(queue_up(&c, &s.queue, never, NULL), RM_OK);
    CHECK_EQ(queue_up(&late, &s.queue, never, &cancel), RM_OK);
    ADD(&s.units, 2);
    rm_waitq_notify(&s.queue);
    CHECK_EQ(rm_waitq_add_on(&s.queue, &c.waiter), RM_OK);
    block_on(&on, &s.queue, &since);
    await(1);
    rm_waitq_close(&s.queue);
    ended(&on, RM_E_CLOSED);
    CHECK(c.calls == 2 && c.status == RM_E_CLOSED);
    s.units = 2;
    CHECK_EQ(rm_waitq_wait_on(&s.queue, NULL, 0, never, NULL, &grant), RM_E_CLOSED);
    CHECK_EQ(rm_waitq_add_on(&s.queue, &late.waiter), RM_E_CLOSED);
    CHECK(late.calls == 1 && grant == 3 && s.units == 2);
    stats = stats_of(&s.queue); /* those that may not go on have ended, too */
    CHECK(stats.waits == 4 && stats.granted == 0 && stats.ended == 4 && stats.waiting == 0);
    rm_waitq_open(&s.queue);
    CHECK_EQ(rm_waitq_add_on(&s.queue, &late.waiter), RM_E_STALE); /* that wait is over */
    CHECK_EQ(rm_cancel_destroy(&cancel), RM_OK); /* nor does its token know of it */
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(waitq_on, keeps_its_deadline) {
    static const int64_t since = 0;
    rm_waitq_stats stats;
    uint64_t grant = 3;
    blocker on;
    callback c, late;
    stock s;
    set_clock(0);
    stock_init(&s, &fake, RM_STRICT, 0);
    serve(&s, 2);
    CHECK_EQ(queue_up(&c, &s.queue, at(60), NULL), RM_OK);
    CHECK_EQ(queue_up(&late, &s.queue, at(60), NULL), RM_OK);
    ADD(&s.units, 2);
    rm_waitq_notify(&s.queue);
    CHECK_EQ(rm_waitq_add_on(&s.queue, &c.waiter), RM_OK);
    block_by(&on, &s.queue, &since, at(50), NULL);
    await(1);
    advance(50);
    ended(&on, RM_E_TIMEOUT);
    CHECK_EQ(rm_waitq_expire(&s.queue), 60);
    advance(10);
    CHECK_EQ(rm_waitq_expire(&s.queue), INT64_MAX);
    CHECK(c.calls == 2 && c.status == RM_E_TIMEOUT);
    s.units = 2; /* too late for them */
    CHECK_EQ(rm_waitq_wait_on(&s.queue, NULL, 0, at(60), NULL, &grant), RM_E_TIMEOUT);
    CHECK_EQ(rm_waitq_add_on(&s.queue, &late.waiter), RM_OK);
    CHECK(late.calls == 2 && late.status == RM_E_TIMEOUT && grant == 3 && s.units == 2);
    stats = stats_of(&s.queue);
    CHECK(stats.waits == 4 && stats.granted == 0 && stats.timeouts == 4 && stats.waiting == 0);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(waitq_on, is_ended_by_its_token) {
    static const int64_t since = 0;
    rm_waitq_stats stats;
    uint64_t grant = 3;
    rm_cancel cancel;
    blocker on;
    callback c, late;
    stock s;
    set_clock(0);
    stock_init(&s, &fake, RM_STRICT, 0);
    REQUIRE(rm_cancel_init(&cancel) == RM_OK);
    serve(&s, 2);
    CHECK_EQ(queue_up(&c, &s.queue, never, &cancel), RM_OK);
    CHECK_EQ(queue_up(&late, &s.queue, never, &cancel), RM_OK);
    ADD(&s.units, 2);
    rm_waitq_notify(&s.queue);
    CHECK_EQ(rm_waitq_add_on(&s.queue, &c.waiter), RM_OK);
    CHECK_EQ(rm_cancel_destroy(&cancel), RM_E_BUSY); /* the other has none between its waits */
    block_by(&on, &s.queue, &since, never, &cancel);
    until_registered(&cancel, 2);
    rm_cancel_request(&cancel);
    ended(&on, RM_E_CANCELLED);
    CHECK(c.calls == 2 && c.status == RM_E_CANCELLED);
    s.units = 2;
    CHECK_EQ(rm_waitq_wait_on(&s.queue, NULL, 0, never, &cancel, &grant), RM_E_CANCELLED);
    CHECK_EQ(rm_waitq_add_on(&s.queue, &late.waiter), RM_E_CANCELLED);
    CHECK(late.calls == 1 && grant == 3 && s.units == 2);
    stats = stats_of(&s.queue);
    CHECK(stats.waits == 4 && stats.granted == 0 && stats.cancelled == 4 && stats.waiting == 0);
    CHECK_EQ(rm_cancel_destroy(&cancel), RM_OK);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(waitq_on, does_not_come_back_after_a_remove_in_between) {
    rm_waitq_stats stats;
    callback c, at_once;
    stock s;
    stock_init(&s, NULL, RM_STRICT, 0);
    CHECK_EQ(queue_up(&c, &s.queue, never, NULL), RM_OK);
    stock_put(&s);
    CHECK_EQ(rm_waitq_remove(&s.queue, &c.waiter), RM_E_STALE); /* it came too late, but ... */
    s.units = 1;
    CHECK_EQ(rm_waitq_add_on(&s.queue, &c.waiter), RM_E_CANCELLED);
    CHECK_EQ(rm_waitq_add_on(&s.queue, &c.waiter), RM_E_STALE);
    CHECK(c.calls == 1 && s.units == 1);
    stats = stats_of(&s.queue);
    CHECK(stats.waits == 1 && stats.granted == 0 && stats.cancelled == 1);
    CHECK_EQ(queue_up(&at_once, &s.queue, never, NULL), RM_OK);
    CHECK_EQ(rm_waitq_remove(&s.queue, &at_once.waiter), RM_E_STALE);
    CHECK_EQ(rm_waitq_add_on(&s.queue, &at_once.waiter), RM_E_CANCELLED);
    stats = stats_of(&s.queue); /* it never was a wait */
    CHECK(stats.waits == 1 && stats.granted == 0 && stats.cancelled == 1);
    /* another wait in the same memory knows nothing of that */
    CHECK_EQ(rm_waitq_add(&s.queue, &c.waiter, NULL, never, NULL, note, &c), RM_OK);
    stock_put(&s);
    CHECK_EQ(c.calls, 2);
    CHECK_EQ(rm_waitq_add_on(&s.queue, &c.waiter), RM_OK);
    CHECK_EQ(rm_waitq_remove(&s.queue, &c.waiter), RM_OK); /* while it waits on */
    CHECK(c.calls == 3 && c.status == RM_E_CANCELLED);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
}

TEST(waitq_on, is_for_what_was_granted_by_this_queue_only) {
    callback c, other;
    rm_waiter unknown;
    uint64_t grant;
    stock a, b;
    set_clock(0);
    stock_init(&a, &fake, RM_STRICT, 0);
    stock_init(&b, &fake, RM_STRICT, 0);
    memset(&unknown, 0, sizeof unknown);
    CHECK_EQ(rm_waitq_add_on(&a.queue, &unknown), RM_E_STALE);
    b.units = 1;
    CHECK_EQ(queue_up(&other, &b.queue, never, NULL), RM_OK);
    CHECK_EQ(rm_waitq_add_on(&a.queue, &other.waiter), RM_E_STALE);
    CHECK_EQ(rm_waitq_remove(&a.queue, &other.waiter), RM_E_STALE);
    CHECK_EQ(rm_waitq_add_on(&b.queue, &other.waiter), RM_OK); /* its own queue knows it */
    CHECK_EQ(queue_up(&c, &a.queue, at(10), NULL), RM_OK);
    CHECK_EQ(rm_waitq_add_on(&a.queue, &c.waiter), RM_E_STALE); /* it waits */
    advance(10);
    (void)rm_waitq_expire(&a.queue);
    CHECK_EQ(rm_waitq_add_on(&a.queue, &c.waiter), RM_E_STALE); /* timed out */
    CHECK_EQ(queue_up(&c, &a.queue, never, NULL), RM_OK);
    CHECK_EQ(rm_waitq_remove(&a.queue, &c.waiter), RM_OK);
    CHECK_EQ(rm_waitq_add_on(&a.queue, &c.waiter), RM_E_STALE); /* cancelled */
    CHECK_EQ(queue_up(&c, &a.queue, never, NULL), RM_OK);
    rm_waitq_lock(&a.queue);
    CHECK_EQ(rm_waitq_complete(&a.queue, NULL, RM_E_FAILED, 0), 1);
    rm_waitq_unlock(&a.queue);
    CHECK_EQ(rm_waitq_add_on(&a.queue, &c.waiter), RM_E_STALE); /* failed */
    CHECK_EQ(c.calls, 1);
    CHECK_EQ(queue_up(&c, &a.queue, never, NULL), RM_OK);
    rm_waitq_lock(&a.queue);
    CHECK_EQ(rm_waitq_complete(&a.queue, NULL, RM_OK, 9), 1);
    rm_waitq_unlock(&a.queue);
    CHECK_EQ(rm_waitq_add_on(&a.queue, &c.waiter), RM_OK); /* by request, that is granted too */
    CHECK_EQ(stats_of(&a.queue).waiting, 1);
    CHECK_EQ(rm_waitq_add_on(NULL, &c.waiter), RM_E_INVALID);
    CHECK_EQ(rm_waitq_add_on(&a.queue, NULL), RM_E_INVALID);
    CHECK_EQ(rm_waitq_wait_on(NULL, NULL, 0, never, NULL, &grant), RM_E_INVALID);
    CHECK_EQ(rm_waitq_wait_on(&a.queue, NULL, 0, never, NULL, NULL), RM_E_INVALID);
    rm_waitq_close(&a.queue);
    rm_waitq_close(&b.queue);
    CHECK_EQ(rm_waitq_destroy(&a.queue), RM_OK);
    CHECK_EQ(rm_waitq_destroy(&b.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

/* Gives what it got back and waits on, so many times. */
typedef struct picky {
    callback base;
    stock *stock;
    int left, inside, deepest;
} picky;

static void pick(rm_status status, uint64_t grant, void *user) {
    picky *p = (picky *)user;
    if (++p->inside > p->deepest) p->deepest = p->inside;
    note(status, grant, &p->base);
    if (status == RM_OK && p->left-- > 0) {
        ADD(&p->stock->units, 1);
        CHECK_EQ(rm_waitq_add_on(&p->stock->queue, &p->base.waiter), RM_OK);
    }
    --p->inside;
}

TEST(waitq_on, may_be_asked_for_inside_the_callback) {
    rm_waitq_stats stats;
    callback later;
    picky p;
    stock s;
    stock_init(&s, NULL, RM_STRICT, 0);
    memset(&p, 0, sizeof p);
    p.stock = &s;
    p.left = 1000;
    CHECK_EQ(rm_waitq_add(&s.queue, &p.base.waiter, NULL, never, NULL, pick, &p), RM_OK);
    CHECK_EQ(queue_up(&later, &s.queue, never, NULL), RM_OK);
    stock_put(&s);
    CHECK(p.base.calls == 1001 && p.deepest == 1 && later.calls == 0);
    stats = stats_of(&s.queue);
    CHECK(stats.waits == 2 && stats.granted == 1 && stats.waiting == 1);
    stock_put(&s);
    CHECK_EQ(later.calls, 1);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
}

static blocker overtaker;
static int overtaken;

/* One that waits on comes before the one that was woken, and then there is a unit. */
static void overtake(stock *s) {
    static const int64_t since = 0;
    block_on(&overtaker, &s->queue, &since);
    stock_put(s);
    SET(&overtaken, 1);
}

TEST(waitq_on, gets_the_unit_for_which_the_one_behind_it_was_woken) {
    static int want[] = {1, 2}; /* what that one asks for: with 2, it could not take it */
    for (int i = 0; i < 2; ++i) {
        blocker woken;
        stock s;
        gate g;
        gate_init(&g, &s);
        serve(&s, 1);
        g.meanwhile = overtake;
        SET(&overtaken, 0);
        memset(&woken, 0, sizeof woken);
        woken.queue = &s.queue;
        woken.request = &want[i];
        start(&woken.thread, block, &woken);
        await(1);
        rm_waitq_notify(&s.queue);
        until_set(&overtaken);
        ended(&overtaker, RM_OK);
        CHECK_EQ(overtaker.grant, 1);
        CHECK_EQ(stats_of(&s.queue).waiting, 1);
        ADD(&s.units, want[i]);
        rm_waitq_notify(&s.queue);
        ended(&woken, RM_OK);
        CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
        rm_virtual_clock_destroy(&time_machine);
    }
}

static callback overtaking;

static void overtake_with_callback(stock *s) {
    CHECK_EQ(rm_waitq_add_on(&s->queue, &overtaking.waiter), RM_OK);
    stock_put(s);
    SET(&overtaken, 1);
}

TEST(waitq_on, callback_gets_the_unit_for_which_the_one_behind_it_was_woken) {
    blocker woken;
    stock s;
    gate g;
    gate_init(&g, &s);
    CHECK_EQ(queue_up(&overtaking, &s.queue, never, NULL), RM_OK);
    stock_put(&s);
    g.meanwhile = overtake_with_callback;
    SET(&overtaken, 0);
    block_in(&woken, &s.queue, never, NULL);
    await(1);
    rm_waitq_notify(&s.queue);
    until_set(&overtaken);
    stock_put(&s);
    ended(&woken, RM_OK);
    CHECK(overtaking.calls == 2 && overtaking.grant == 2 && woken.grant == 3);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

/* >>wait queue: the look-out -------------------------------------------------------------- */

TEST(waitq_look, first_thread_looks_out_for_the_callbacks_before_it) {
    blocker thread;
    callback c[3];
    stock s;
    set_clock(0);
    stock_init_opening(&s, 100, 4);
    CHECK_EQ(queue_up(&c[0], &s.queue, never, NULL), RM_OK);
    CHECK_EQ(queue_up(&c[1], &s.queue, never, NULL), RM_OK);
    block_in(&thread, &s.queue, never, NULL);
    CHECK_EQ(queue_up(&c[2], &s.queue, never, NULL), RM_OK);
    await(1);
    advance(99);
    CHECK_EQ(stats_of(&s.queue).waiting, 4);
    advance(1);
    ended(&thread, RM_OK); /* and nobody called rm_waitq_expire */
    CHECK(c[0].grant == 1 && c[1].grant == 2 && thread.grant == 3);
    until_waiting(&s.queue, 0);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(waitq_look, out_serves_others_and_looks_on) {
    blocker thread;
    callback c[2];
    stock s;
    set_clock(0);
    stock_init_opening(&s, 100, 1);
    CHECK_EQ(queue_up(&c[0], &s.queue, never, NULL), RM_OK);
    CHECK_EQ(queue_up(&c[1], &s.queue, never, NULL), RM_OK);
    block_in(&thread, &s.queue, never, NULL);
    await(1);
    advance(100);
    until_waiting(&s.queue, 2); /* one unit is for one of them */
    until_set(&c[0].calls);
    rm_waitq_lock(&s.queue);
    s.opens = 200; /* it shuts, as a backoff begins */
    s.units = 2;
    rm_waitq_unlock(&s.queue);
    rm_waitq_notify(&s.queue);
    advance(99);
    CHECK_EQ(stats_of(&s.queue).waiting, 2);
    advance(1);
    ended(&thread, RM_OK);
    CHECK(c[1].calls == 1 && c[1].grant == 2 && thread.grant == 3);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(waitq_look, out_is_the_next_thread_when_the_first_leaves) {
    static int other;
    for (int way = 0; way < 3; ++way) {
        blocker first, second;
        rm_cancel cancel;
        callback c;
        stock s;
        set_clock(0);
        stock_init_opening(&s, 100, 2);
        other = 1;
        REQUIRE(rm_cancel_init(&cancel) == RM_OK);
        CHECK_EQ(queue_up(&c, &s.queue, never, NULL), RM_OK);
        memset(&first, 0, sizeof first);
        first.queue = &s.queue;
        first.request = &other;
        first.cancel = &cancel;
        if (way == 0) first.deadline = at(50);
        start(&first.thread, block, &first);
        until_waiting(&s.queue, 2);
        block_in(&second, &s.queue, never, NULL);
        await(2);
        advance(50);
        if (way == 1) rm_cancel_request(&cancel);
        if (way == 2) {
            rm_waitq_lock(&s.queue);
            CHECK_EQ(rm_waitq_complete(&s.queue, &other, RM_E_FAILED, 0), 1);
            rm_waitq_unlock(&s.queue);
        }
        ended(&first, way == 0 ? RM_E_TIMEOUT : way == 1 ? RM_E_CANCELLED : RM_E_FAILED);
        CHECK_EQ(stats_of(&s.queue).waiting, 2);
        advance(50);
        ended(&second, RM_OK);
        CHECK(c.grant == 1 && second.grant == 2);
        CHECK_EQ(rm_cancel_destroy(&cancel), RM_OK);
        CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
        rm_virtual_clock_destroy(&time_machine);
    }
}

TEST(waitq_look, out_is_a_thread_that_waits_on_before_the_first) {
    static const int64_t since = 5;
    blocker on, thread;
    callback c;
    stock s;
    set_clock(0);
    stock_init_opening(&s, 0, 0);
    serve(&s, 1);
    s.opens = 100;
    s.units = 2;
    CHECK_EQ(queue_up(&c, &s.queue, never, NULL), RM_OK);
    advance(10);
    block_in(&thread, &s.queue, at(50), NULL);
    block_on(&on, &s.queue, &since);
    await(2);
    advance(40);
    ended(&thread, RM_E_TIMEOUT);
    advance(50);
    ended(&on, RM_OK);
    CHECK(c.grant == 1 && on.grant == 2);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(waitq_look, only_one_thread_looks_out) {
    blocker threads[3];
    callback c;
    stock s;
    set_clock(0);
    stock_init_opening(&s, 100, 0);
    CHECK_EQ(queue_up(&c, &s.queue, never, NULL), RM_OK);
    for (int i = 0; i < 3; ++i)
        block_in(&threads[i], &s.queue, never, NULL);
    await(3);
    rm_waitq_lock(&s.queue);
    SET(&s.tries, 0);
    rm_waitq_unlock(&s.queue);
    advance(100);
    await(3);
    CHECK_EQ(stats_of(&s.queue).waiting, 4);
    CHECK_EQ(GET(&s.tries), 1);
    rm_waitq_close(&s.queue);
    for (int i = 0; i < 3; ++i)
        ended(&threads[i], RM_E_CLOSED);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(waitq_look, at_a_time_before_the_wait_went_on_does_not_spin) {
    static const int64_t since = 0;
    blocker on;
    stock s;
    set_clock(0);
    stock_init_opening(&s, 0, 0);
    serve(&s, 1);
    s.opens = 100;
    advance(150);
    SET(&s.looks, 0);
    block_on(&on, &s.queue, &since);
    await(1);
    rm_waitq_lock(&s.queue);
    CHECK(s.looks < 6);
    rm_waitq_unlock(&s.queue);
    stock_put(&s);
    ended(&on, RM_OK);
    CHECK_EQ(rm_waitq_destroy(&s.queue), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

/* >>semaphore ----------------------------------------------------------------------------- */

static void sem_init_with(rm_sem *sem, const rm_clock *clock, uint32_t permits, int64_t barge_ns) {
    rm_sem_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.clock = clock;
    desc.permits = permits;
    desc.barge_ns = barge_ns;
    if (!CHECK(rm_sem_init(sem, &desc) == RM_OK)) exit(1);
}

TEST(sem, counts_its_permits) {
    rm_sem sem;
    sem_init_with(&sem, NULL, 3, 0);
    for (uint32_t i = 3; i > 0; --i) {
        CHECK_EQ(rm_sem_available(&sem), i);
        CHECK_EQ(rm_sem_acquire(&sem, i == 2 ? RM_NOWAIT : i == 1 ? RM_FOREVER : 0, NULL), RM_OK);
    }
    CHECK_EQ(rm_sem_available(&sem), 0);
    CHECK_EQ(rm_sem_acquire(&sem, 0, NULL), RM_E_BUSY);
    CHECK_EQ(rm_sem_acquire(&sem, RM_NOWAIT, NULL), RM_E_BUSY);
    CHECK_EQ(rm_sem_destroy(&sem), RM_E_BUSY);
    for (int i = 0; i < 3; ++i)
        CHECK_EQ(rm_sem_release(&sem), RM_OK);
    CHECK_EQ(rm_sem_release(&sem), RM_E_STALE);
    CHECK_EQ(rm_sem_available(&sem), 3);
    CHECK_EQ(rm_sem_destroy(&sem), RM_OK);
}

TEST(sem, has_one_permit_by_default) {
    rm_sem sem;
    sem_init_with(&sem, NULL, 0, 0);
    CHECK_EQ(rm_sem_available(&sem), 1);
    CHECK_EQ(rm_sem_destroy(&sem), RM_OK);
    sem_init_with(&sem, NULL, UINT32_MAX, 0);
    CHECK_EQ(rm_sem_available(&sem), UINT32_MAX);
    CHECK_EQ(rm_sem_release(&sem), RM_E_STALE);
    CHECK_EQ(rm_sem_acquire(&sem, 0, NULL), RM_OK);
    CHECK_EQ(rm_sem_release(&sem), RM_OK);
    CHECK_EQ(rm_sem_destroy(&sem), RM_OK);
}

/* A thread that acquires once. */
typedef struct taker {
    rm_thread thread;
    rm_sem *sem;
    int64_t timeout;
    rm_cancel *cancel;
    rm_status status;
    int done;
} taker;

static void take(void *user) {
    taker *t = (taker *)user;
    t->status = rm_sem_acquire(t->sem, t->timeout, t->cancel);
    SET(&t->done, 1);
}

static void take_in(taker *t, rm_sem *sem, int64_t timeout, rm_cancel *cancel) {
    const uint32_t before = stats_of(&sem->queue).waiting;
    memset(t, 0, sizeof *t);
    t->sem = sem;
    t->timeout = timeout;
    t->cancel = cancel;
    start(&t->thread, take, t);
    until_waiting(&sem->queue, before + 1);
}

static void taken(taker *t, rm_status status) {
    until_set(&t->done);
    rm_thread_join(&t->thread);
    CHECK_STR(rm_status_name(t->status), rm_status_name(status));
}

TEST(sem, and_queue_take_no_desc_for_the_defaults) {
    rm_sem sem;
    rm_waitq q;
    REQUIRE(rm_sem_init(&sem, NULL) == RM_OK);
    CHECK_EQ(rm_sem_available(&sem), 1);
    CHECK_EQ(rm_sem_acquire(&sem, RM_NOWAIT, NULL), RM_OK);
    CHECK_EQ(rm_sem_release(&sem), RM_OK);
    CHECK_EQ(rm_sem_destroy(&sem), RM_OK);
    REQUIRE(rm_waitq_init(&q, NULL) == RM_OK);
    CHECK_EQ(q.desc.barge_ns, RM_US(50));
    CHECK(q.desc.clock == rm_clock_system());
    CHECK_EQ(rm_waitq_destroy(&q), RM_OK);
}

TEST(sem, waits_until_its_timeout_its_token_or_a_permit) {
    rm_cancel cancel;
    taker t[3];
    rm_sem sem;
    set_clock(1000);
    REQUIRE(rm_cancel_init(&cancel) == RM_OK);
    sem_init_with(&sem, &fake, 1, RM_STRICT);
    CHECK_EQ(rm_sem_acquire(&sem, 0, NULL), RM_OK);
    take_in(&t[0], &sem, 50, NULL);
    take_in(&t[1], &sem, RM_FOREVER, &cancel);
    take_in(&t[2], &sem, RM_SEC(1), NULL);
    await(3);
    advance(50);
    taken(&t[0], RM_E_TIMEOUT);
    rm_cancel_request(&cancel);
    taken(&t[1], RM_E_CANCELLED);
    CHECK_EQ(rm_sem_acquire(&sem, RM_FOREVER, &cancel), RM_E_CANCELLED);
    CHECK_EQ(rm_sem_release(&sem), RM_OK);
    taken(&t[2], RM_OK);
    CHECK_EQ(rm_sem_release(&sem), RM_OK);
    CHECK_EQ(rm_cancel_destroy(&cancel), RM_OK);
    CHECK_EQ(rm_sem_destroy(&sem), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(sem, strict_is_first_come_first_served) {
    taker t[4];
    rm_sem sem;
    set_clock(0);
    sem_init_with(&sem, &fake, 1, RM_STRICT);
    CHECK_EQ(rm_sem_acquire(&sem, 0, NULL), RM_OK);
    for (int i = 0; i < 4; ++i)
        take_in(&t[i], &sem, RM_FOREVER, NULL);
    for (int i = 0; i < 4; ++i) {
        CHECK_EQ(rm_sem_release(&sem), RM_OK);
        CHECK_EQ(rm_sem_acquire(&sem, 0, NULL), RM_E_BUSY); /* the permit has been handed over */
        taken(&t[i], RM_OK);
    }
    CHECK_EQ(rm_sem_release(&sem), RM_OK);
    CHECK_EQ(rm_sem_destroy(&sem), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(sem, refuses_what_is_no_timeout_and_too_many_waiters) {
    rm_sem_desc desc;
    taker t;
    rm_sem sem;
    memset(&desc, 0, sizeof desc);
    desc.barge_ns = -1;
    CHECK_EQ(rm_sem_init(&sem, &desc), RM_E_INVALID);
    desc.barge_ns = 0;
    desc.max_waiters = 1;
    REQUIRE(rm_sem_init(&sem, &desc) == RM_OK);
    CHECK_EQ(rm_sem_acquire(&sem, RM_NONE, NULL), RM_E_INVALID);
    CHECK_EQ(rm_sem_acquire(&sem, INT64_MIN, NULL), RM_E_INVALID);
    CHECK_EQ(rm_sem_acquire(&sem, 0, NULL), RM_OK);
    take_in(&t, &sem, RM_FOREVER, NULL);
    CHECK_EQ(rm_sem_acquire(&sem, RM_FOREVER, NULL), RM_E_FULL);
    CHECK_EQ(rm_sem_release(&sem), RM_OK);
    taken(&t, RM_OK);
    CHECK_EQ(rm_sem_release(&sem), RM_OK);
    CHECK_EQ(rm_sem_destroy(&sem), RM_OK);
}

/* >>stress: threads of the real kind ------------------------------------------------------ */

enum { WORKERS = 4, PERMITS = 2 };

typedef struct mill {
    rm_sem sem;
    stock stock;
    int inside, most, stop;
    uint64_t granted;
} mill;

typedef struct worker {
    rm_thread thread;
    mill *mill;
    rm_mutex mutex;   /* guards token */
    rm_cancel *token; /* of the wait that is going on; 0 = none */
    rm_rng rng;
    int rounds, forgotten;
} worker;

static worker workers[WORKERS];

/* Holds a unit for no time, for a moment, or across a sleep: else two cores never meet. */
static void enter_and_leave(mill *m, uint64_t dice) {
    const int inside = ADD(&m->inside, 1);
    int most = GET(&m->most);
    while (inside > most && !__atomic_compare_exchange_n(&m->most, &most, inside, false,
                                                         __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        continue;
    ADD(&m->granted, 1);
    for (uint64_t spin = dice >> 40 & 1023; dice >> 50 & 1 && spin > 0; --spin)
        (void)GET(&m->inside);
    if ((dice >> 51 & 7) == 0) (void)rm_sleep(NULL, 1, NULL);
    ADD(&m->inside, -1);
}

static rm_cancel *publish_token(worker *w, rm_cancel *token) {
    rm_mutex_lock(&w->mutex);
    w->token = token;
    rm_mutex_unlock(&w->mutex);
    return token;
}

static void work_on_sem(void *user) {
    worker *w = (worker *)user;
    mill *m = w->mill;
    for (int i = 0; i < w->rounds; ++i) {
        const uint64_t dice = rm_rng_next(&w->rng);
        const bool patient = dice % 4 == 0;
        const int64_t timeout = patient          ? HANG
                                : dice % 16 == 1 ? RM_NOWAIT
                                                 : 1 + (int64_t)(dice >> 10) % RM_US(200);
        const bool with_token = (dice >> 32) % 2 == 0;
        rm_cancel token;
        rm_status status;
        if (with_token && !CHECK(rm_cancel_init(&token) == RM_OK)) return;
        status = rm_sem_acquire(&m->sem, timeout, with_token ? publish_token(w, &token) : NULL);
        if (with_token) (void)publish_token(w, NULL);
        if (status == RM_OK) {
            enter_and_leave(m, dice);
            CHECK_EQ(rm_sem_release(&m->sem), RM_OK);
        }
        w->forgotten += patient && status == RM_E_TIMEOUT;
        if (with_token) CHECK_EQ(rm_cancel_destroy(&token), RM_OK);
    }
}

static void give_up_at_random(void *user) {
    mill *m = (mill *)user;
    rm_rng rng;
    rm_rng_seed(&rng, 99);
    while (GET(&m->stop) == 0) {
        worker *w = &workers[rm_rng_next(&rng) % WORKERS];
        rm_mutex_lock(&w->mutex);
        if (w->token != NULL) rm_cancel_request(w->token);
        rm_mutex_unlock(&w->mutex);
        (void)rm_waitq_expire(&m->stock.queue);
        (void)rm_sleep(NULL, RM_US(20), NULL);
    }
}

/* Runs WORKERS threads and one that cancels; checks that no permit and no wake-up was lost. */
static void grind(mill *m, rm_waitq *q, void (*work)(void *user), int rounds) {
    rm_waitq_stats stats;
    rm_thread canceller;
    for (int i = 0; i < WORKERS; ++i) {
        memset(&workers[i], 0, sizeof workers[i]);
        workers[i].mill = m;
        workers[i].rounds = rounds;
        rm_rng_seed(&workers[i].rng, (uint64_t)i + 1);
        REQUIRE(rm_mutex_init(&workers[i].mutex) == RM_OK);
    }
    start(&canceller, give_up_at_random, m);
    for (int i = 0; i < WORKERS; ++i)
        start(&workers[i].thread, work, &workers[i]);
    for (int i = 0; i < WORKERS; ++i)
        rm_thread_join(&workers[i].thread);
    SET(&m->stop, 1);
    rm_thread_join(&canceller);
    for (int i = 0; i < WORKERS; ++i) {
        CHECK_EQ(workers[i].forgotten, 0);
        rm_mutex_destroy(&workers[i].mutex);
    }
    CHECK(m->most >= 1 && m->most <= PERMITS);
    CHECK(m->inside == 0 && m->granted > 0);
    stats = stats_of(q);
    CHECK_EQ(stats.waiting, 0);
    CHECK_EQ(stats.waits, stats.granted + stats.timeouts + stats.cancelled + stats.ended);
    CHECK(stats.granted > 0);
    CHECK(!rm_waitq_must_queue(q));
}

static void grind_sem(int64_t barge_ns, int rounds) {
    static mill m;
    memset(&m, 0, sizeof m);
    sem_init_with(&m.sem, NULL, PERMITS, barge_ns);
    stock_init(&m.stock, NULL, 0, 0);
    grind(&m, &m.sem.queue, work_on_sem, rounds);
    CHECK_EQ(rm_sem_available(&m.sem), PERMITS);
    CHECK_EQ(rm_sem_destroy(&m.sem), RM_OK);
    CHECK_EQ(rm_waitq_destroy(&m.stock.queue), RM_OK);
}

TEST(stress, strict_semaphore_loses_no_permit_and_no_wake_up) {
    grind_sem(RM_STRICT, 2500);
}

TEST(stress, barging_semaphore_loses_no_permit_and_no_wake_up) {
    grind_sem(0, 2500);
}

TEST(stress, barging_semaphore_without_a_bound_loses_no_wake_up) {
    grind_sem(INT64_MAX, 2500); /* never handed over: every unit has to be fetched */
}

/* An asynchronous wait: its callback gives the unit back at once. */
typedef struct errand {
    rm_waiter waiter;
    mill *mill;
    uint64_t dice;
    bool unfit; /* what it gets first: it waits on */
    int done;
} errand;

static void run_errand(rm_status status, uint64_t grant, void *user) {
    errand *e = (errand *)user;
    (void)grant;
    if (status == RM_OK && e->unfit) {
        e->unfit = false;
        stock_put(&e->mill->stock);
        status = rm_waitq_add_on(&e->mill->stock.queue, &e->waiter);
        if (status == RM_OK) return;
    }
    if (status == RM_OK) {
        enter_and_leave(e->mill, e->dice);
        stock_put(&e->mill->stock);
    }
    SET(&e->done, 1);
}

static void work_on_stock(void *user) {
    worker *w = (worker *)user;
    mill *m = w->mill;
    for (int i = 0; i < w->rounds; ++i) {
        const uint64_t dice = rm_rng_next(&w->rng);
        const bool patient = dice % 4 == 0;
        const rm_deadline deadline =
            rm_deadline_after(NULL, patient ? HANG : 1 + (int64_t)(dice >> 8) % RM_US(200));
        rm_cancel token;
        rm_status status;
        uint64_t grant;
        if (!CHECK(rm_cancel_init(&token) == RM_OK)) return;
        (void)publish_token(w, &token);
        if (dice >> 32 & 1) {
            const int64_t since = rm_now(NULL);
            status = rm_waitq_wait(&m->stock.queue, NULL, deadline, &token, &grant);
            if (status == RM_OK && (dice >> 34 & 3) == 0) { /* it was not fit */
                stock_put(&m->stock);
                status = rm_waitq_wait_on(&m->stock.queue, NULL, since, deadline, &token, &grant);
            }
            if (status == RM_OK) {
                enter_and_leave(m, dice);
                stock_put(&m->stock);
            }
            w->forgotten += patient && status == RM_E_TIMEOUT;
        } else {
            errand e;
            memset(&e, 0, sizeof e);
            e.mill = m;
            e.dice = dice;
            e.unfit = (dice >> 34 & 3) == 0;
            status =
                rm_waitq_add(&m->stock.queue, &e.waiter, NULL, deadline, &token, run_errand, &e);
            if (status == RM_OK && (dice >> 33 & 1))
                (void)rm_waitq_remove(&m->stock.queue, &e.waiter);
            if (status == RM_OK) until_set(&e.done);
        }
        (void)publish_token(w, NULL);
        CHECK_EQ(rm_cancel_destroy(&token), RM_OK);
    }
}

static void grind_stock(int64_t barge_ns) {
    static mill m;
    memset(&m, 0, sizeof m);
    stock_init(&m.stock, NULL, barge_ns, 0);
    m.stock.units = PERMITS;
    grind(&m, &m.stock.queue, work_on_stock, 1000);
    CHECK_EQ(m.stock.units, PERMITS);
    CHECK_EQ(rm_waitq_destroy(&m.stock.queue), RM_OK);
}

TEST(stress, threads_and_callbacks_mixed_lose_nothing_when_strict) {
    grind_stock(RM_STRICT);
}

TEST(stress, threads_and_callbacks_mixed_lose_nothing_when_barging) {
    grind_stock(0);
}

TEST_MAIN

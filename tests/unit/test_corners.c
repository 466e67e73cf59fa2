/* Corners of the headers that other tests meet by chance or never.

   A platform that has no mutex, thread or random number to give: the n-th call fails, for every n.
   A second thread that comes in between: before the n-th atomic operation or lock of a call, for
   every n, a visitor makes another call on the same object, as a thread could.  Both are done by
   macros around what the headers call, so this program has the implementation of all of them. */
#ifndef _WIN32
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#ifdef __linux__
#include <sys/random.h>
#endif
#else
#include <windows.h>
#endif
#include <stdbool.h>

/* ---- what the headers call; see "tools" below */

static void corner_step(void);
static void corner_locked(int change);
static void *corner_malloc(size_t size);
static void corner_free(void *pointer);

#define RM_MALLOC(size) corner_malloc(size)
#define RM_FREE(pointer) corner_free(pointer)

#define __atomic_load_n(p, order) (corner_step(), __atomic_load_n(p, order))
#define __atomic_exchange_n(p, v, order) (corner_step(), __atomic_exchange_n(p, v, order))
#define __atomic_fetch_add(p, v, order) (corner_step(), __atomic_fetch_add(p, v, order))
#define __atomic_compare_exchange_n(p, e, v, weak, order, failed) \
    (corner_step(), __atomic_compare_exchange_n(p, e, v, weak, order, failed))

#ifdef _WIN32
#define AcquireSRWLockExclusive(m) (corner_step(), corner_locked(1), AcquireSRWLockExclusive(m))
#define ReleaseSRWLockExclusive(m) (corner_locked(-1), ReleaseSRWLockExclusive(m))
#else
enum { LOCK = 1, THREAD, CLOCK, RANDOM, TEXT };
static bool corner_refused(int what);
static void corner_lock_made(int change);
static int corner_doze(const struct timespec *time, struct timespec *left);
static int corner_print(char *to, size_t size, const char *format, int precision, double value);

#define pthread_mutex_lock(m) (corner_step(), corner_locked(1), pthread_mutex_lock(m))
#define pthread_mutex_unlock(m) (corner_locked(-1), pthread_mutex_unlock(m))
#define pthread_mutex_init(m, a) \
    (corner_refused(LOCK) ? 1 : (corner_lock_made(1), pthread_mutex_init(m, a)))
#define pthread_mutex_destroy(m) (corner_lock_made(-1), pthread_mutex_destroy(m))
#define pthread_cond_init(c, a) \
    (corner_refused(LOCK) ? 1 : (corner_lock_made(1), pthread_cond_init(c, a)))
#define pthread_cond_destroy(c) (corner_lock_made(-1), pthread_cond_destroy(c))
#define pthread_condattr_init(a) (corner_refused(LOCK) ? 1 : pthread_condattr_init(a))
#define pthread_condattr_setclock(a, id) \
    (corner_refused(LOCK) ? 1 : pthread_condattr_setclock(a, id))
#define pthread_create(t, a, fn, user) (corner_refused(THREAD) ? 1 : pthread_create(t, a, fn, user))
#define clock_gettime(id, out) (corner_refused(CLOCK) ? -1 : clock_gettime(id, out))
#define getrandom(out, size, flags) (corner_refused(RANDOM) ? -1 : getrandom(out, size, flags))
#define vsnprintf(to, size, format, args) \
    (corner_refused(TEXT) ? -1 : vsnprintf(to, size, format, args))
#define nanosleep(time, left) corner_doze(time, left)
#define snprintf(to, size, format, precision, value) \
    corner_print(to, size, format, precision, value)
#endif

#define RM_IMPLEMENTATION
#include "rm_breaker.h"
#include "rm_cache.h"
#include "rm_metrics.h"
#include "rm_pool.h"
#include "rm_test.h"

#include <stdlib.h>

/* >>tools --------------------------------------------------------------------------------- */

static int live_blocks;

/* Memory as it may come: not zero. */
static void *corner_malloc(size_t size) {
    void *memory = malloc(size);
    (void)__atomic_add_fetch(&live_blocks, 1, __ATOMIC_RELAXED);
    if (memory != NULL) memset(memory, 0xA5, size);
    return memory;
}

static void corner_free(void *pointer) {
    if (pointer != NULL) (void)__atomic_sub_fetch(&live_blocks, 1, __ATOMIC_RELAXED);
    free(pointer);
}

/* A refusal says which status it is, where it comes from and that no system call failed. */
static void check_refusal(rm_status status, const rm_error *error) {
    if (status == RM_OK) return;
    CHECK_EQ(status, error->status);
    CHECK_EQ(0, error->native);
    CHECK(error->where[0] != '\0' && error->message[0] != '\0');
}

/* ---- a visitor, who comes at a step of this thread that holds no lock */

static __thread int locks_held;
static __thread int steps_left; /* until the visitor comes; 0 = none will */
static void (*visitor)(void);
static bool visited;

static void corner_locked(int change) {
    locks_held += change;
}

static void corner_step(void) {
    if (steps_left == 0 || locks_held > 0 || --steps_left > 0) return;
    visited = true;
    visitor();
}

/* Plays begin, act and end for every step of act at which visit can come, and once with visit after
   act. Returns the number of steps. */
static int at_every_step(void (*begin)(void), void (*act)(void), void (*visit)(void),
                         void (*end)(void)) {
    int n = 0;
    do {
        begin();
        visitor = visit;
        visited = false;
        steps_left = ++n;
        act();
        steps_left = 0;
        if (!visited) visit();
        steps_left = 0;
        end();
    } while (visited);
    return n - 1;
}

/* ---- a platform that refuses the n-th call of one kind; on this thread only */
#ifndef _WIN32

static int live_locks; /* mutexes and condition variables made, less those destroyed */
static __thread int refused_kind, calls_left;
static __thread int64_t dozed_ns; /* asked of nanosleep in all */
static __thread int interrupts;   /* to come, each after a nanosecond */

static void corner_lock_made(int change) {
    (void)__atomic_add_fetch(&live_locks, change, __ATOMIC_RELAXED);
}

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

static int corner_doze(const struct timespec *time, struct timespec *left) {
    if (interrupts == 0) {
        dozed_ns += RM_SEC(time->tv_sec) + time->tv_nsec;
        return 0;
    }
    --interrupts;
    errno = EINVAL;
    if (time->tv_nsec == 0) return -1; /* a sleep of whole seconds fails for good */
    ++dozed_ns;
    *left = *time;
    --left->tv_nsec;
    errno = EINTR;
    return -1;
}

static const char *point = "."; /* the locale's */

static int corner_print(char *to, size_t size, const char *format, int precision, double value) {
    char text[64], *dot;
    (void)(snprintf)(text, sizeof text, format, precision, value);
    dot = strchr(text, '.');
    if (dot == NULL) return (snprintf)(to, size, "%s", text);
    return (snprintf)(to, size, "%.*s%s%s", (int)(dot - text), text, point, dot + 1);
}
#endif

/* ---- other threads, which take turns */

static rm_mutex turn_mutex;
static rm_cond turn_changed;
static int turn;

static void turn_begin(void) {
    turn = 0;
    CHECK(rm_mutex_init(&turn_mutex) == RM_OK && rm_cond_init(&turn_changed) == RM_OK);
}

static void turn_end(void) {
    rm_cond_destroy(&turn_changed);
    rm_mutex_destroy(&turn_mutex);
}

static void turn_reached(int number) {
    rm_mutex_lock(&turn_mutex);
    if (turn < number) turn = number;
    rm_cond_broadcast(&turn_changed);
    rm_mutex_unlock(&turn_mutex);
}

static void turn_await(int number) {
    rm_mutex_lock(&turn_mutex);
    while (turn < number)
        rm_cond_wait(&turn_changed, &turn_mutex, INT64_MAX);
    rm_mutex_unlock(&turn_mutex);
}

/* >>pool ---------------------------------------------------------------------------------- */

static rm_pool *pool;
static rm_virtual_clock pool_time;
static rm_clock pool_clock;
static rm_lease leases[8];
static uint32_t leases_out;
static int pool_made, pool_live;
static uint32_t pool_min = 2;

static rm_status pool_make(void **resource, rm_deadline deadline, rm_error *error, void *user) {
    (void)deadline, (void)error, (void)user;
    *resource = &pool_made;
    (void)__atomic_add_fetch(&pool_made, 1, __ATOMIC_RELAXED);
    (void)__atomic_add_fetch(&pool_live, 1, __ATOMIC_RELAXED);
    return RM_OK;
}

static void pool_end(void *resource, void *user) {
    (void)resource, (void)user;
    (void)__atomic_sub_fetch(&pool_live, 1, __ATOMIC_RELAXED);
}

static void pool_acquire(void) {
    rm_lease lease;
    rm_error error;
    const rm_status status = rm_pool_acquire(pool, RM_NOWAIT, &lease, &error);
    if (status == RM_OK) leases[leases_out++] = lease;
    check_refusal(status, &error);
}

static void pool_release_as(rm_release how) {
    rm_lease lease;
    if (leases_out == 0) return;
    lease = leases[--leases_out]; /* first: a visitor gives back another one */
    CHECK_EQ(RM_OK, rm_pool_release(pool, &lease, how));
}

static void pool_release(void) {
    pool_release_as(RM_RELEASE_OK);
}

static void pool_break(void) {
    pool_release_as(RM_RELEASE_BROKEN);
}

static void pool_maintain(void) {
    rm_error error;
    const rm_deadline never = {0};
    const rm_status status = rm_pool_maintain(pool, 0, never, &error);
    CHECK(status == RM_OK || status == RM_E_CLOSED || status == RM_E_BUSY);
    check_refusal(status, &error);
}

static void pool_close(void) {
    rm_error error;
    const rm_status status = rm_pool_close(pool, RM_NOWAIT, &error);
    CHECK(status == RM_OK || status == RM_E_BUSY);
    check_refusal(status, &error);
}

static void pool_start(void) {
    rm_error error;
    const rm_resource resource = rm_pool_resource(pool);
    const rm_deadline never = {0};
    const rm_status status = resource.start_fn(resource.user, never, &error);
    CHECK(status == RM_OK || status == RM_E_CLOSED || status == RM_E_BUSY);
    check_refusal(status, &error);
}

/* Closes, and starts again a few steps later. */
static int pool_gap;

static void pool_close_and_start(void) {
    pool_close();
    visitor = pool_start;
    steps_left = pool_gap;
}

/* Five slots: two are out, one is idle for too long, two are empty; min wants one more. */
static void pool_begin(void) {
    const rm_deadline never = {0};
    rm_pool_desc desc = rm_pool_desc_default();
    rm_env env;
    memset(&env, 0, sizeof env);
    CHECK_EQ(RM_OK, rm_virtual_clock_init(&pool_time, 1, true));
    pool_clock = rm_virtual_clock_clock(&pool_time);
    env.clock = &pool_clock;
    desc.env = &env;
    desc.create_fn = pool_make;
    desc.destroy_fn = pool_end;
    desc.max = 5;
    desc.min_idle = pool_min;
    desc.idle_timeout_ns = RM_SEC(1);
    pool_made = pool_live = 0;
    leases_out = 0;
    CHECK_EQ(RM_OK, rm_pool_create(&desc, &pool, NULL));
    pool_acquire();
    pool_acquire();
    pool_acquire();
    CHECK_EQ(3, leases_out);
    pool_release();
    CHECK_EQ(RM_OK, rm_pool_maintain(pool, 0, never, NULL));
    rm_virtual_clock_advance(&pool_time, RM_SEC(2));
}

static void pool_begin_closed(void) {
    pool_begin();
    pool_release();
    pool_release();
    CHECK_EQ(RM_OK, rm_pool_close(pool, RM_NOWAIT, NULL));
}

static void pool_begin_empty(void) {
    pool_min = 0;
    pool_begin_closed();
    pool_min = 2;
    pool_start();
}

static void pool_finish(void) {
    rm_pool_stats stats;
    CHECK_EQ(RM_OK, rm_pool_stats_get(pool, &stats));
    CHECK_EQ(leases_out, stats.in_use);
    CHECK_EQ(0, stats.creating + stats.closing + stats.waiting);
    CHECK_EQ(stats.capacity, stats.in_use + stats.idle + stats.empty);
    CHECK_EQ(pool_live, stats.in_use + stats.idle);
    CHECK_EQ(pool_made, stats.created);
    CHECK_EQ(pool_made - pool_live, stats.destroyed);
    CHECK_EQ(0, (pool->epoch & 1) * stats.idle); /* a closed pool keeps nothing */
    while (leases_out > 0)
        pool_release();
    CHECK_EQ(RM_OK, rm_pool_close(pool, RM_NOWAIT, NULL));
    CHECK_EQ(0, pool_live);
    CHECK_EQ(RM_OK, rm_pool_destroy(pool));
    rm_virtual_clock_destroy(&pool_time);
}

TEST(pool, keeps_count_whatever_another_thread_does_at_any_step) {
    static void (*const calls[])(void) = {pool_acquire,  pool_release, pool_break,
                                          pool_maintain, pool_close,   pool_start};
    enum { CALLS = sizeof calls / sizeof *calls };
    const int blocks = live_blocks;
    for (int act = 0; act < CALLS; ++act)
        for (int visit = 0; visit < CALLS; ++visit) {
            CHECK(at_every_step(pool_begin, calls[act], calls[visit], pool_finish) > 3);
            CHECK(at_every_step(pool_begin_closed, calls[act], calls[visit], pool_finish) >= 0);
        }
    CHECK_EQ(blocks, live_blocks);
}

TEST(pool, that_is_closed_and_started_meanwhile_keeps_count) {
    static void (*const calls[])(void) = {pool_acquire, pool_release, pool_maintain};
    for (int act = 0; act < 3; ++act)
        for (pool_gap = 1; pool_gap <= 6; ++pool_gap)
            CHECK(at_every_step(pool_begin_empty, calls[act], pool_close_and_start, pool_finish) >=
                  0);
}

static bool pool_refuses, pool_unfit;

static rm_status pool_make_or_not(void **resource, rm_deadline deadline, rm_error *error,
                                  void *user) {
    if (pool_refuses) return rm_error_set(error, RM_E_REFUSED, 5, "db", "no");
    return pool_make(resource, deadline, error, user);
}

static rm_status pool_validate(void *resource, void *user) {
    (void)resource, (void)user;
    return pool_unfit ? RM_E_FAILED : RM_OK;
}

/* Counts one of each thing that a pool counts; the last is a failure to make a resource. */
static void pool_live_through_all(void) {
    rm_lease lease;
    pool_acquire();
    pool_break();
    pool_acquire();
    pool_release();
    pool_unfit = true;
    CHECK_EQ(RM_OK, rm_pool_acquire(pool, RM_NOWAIT, &lease, NULL));
    pool_unfit = false;
    CHECK_EQ(RM_OK, rm_pool_release(pool, &lease, RM_RELEASE_OK));
    rm_virtual_clock_advance(&pool_time, RM_SEC(2));
    pool_maintain();
    pool_refuses = true;
    CHECK_EQ(RM_E_REFUSED, rm_pool_acquire(pool, RM_NOWAIT, &lease, NULL));
    pool_refuses = false;
}

TEST(pool, of_a_child_has_neither_counts_nor_failures_of_the_parent) {
    rm_pool_desc desc = rm_pool_desc_default();
    rm_pool_stats stats;
    rm_error error;
    rm_env env;
    memset(&env, 0, sizeof env);
    REQUIRE(rm_virtual_clock_init(&pool_time, 1, true) == RM_OK);
    pool_clock = rm_virtual_clock_clock(&pool_time);
    env.clock = &pool_clock;
    desc.env = &env;
    desc.create_fn = pool_make_or_not;
    desc.validate_fn = pool_validate;
    desc.validate_after_ns = RM_STRICT;
    desc.idle_timeout_ns = RM_SEC(1);
    desc.max = 1;
    leases_out = 0;
    REQUIRE(rm_pool_create(&desc, &pool, NULL) == RM_OK);
    pool_live_through_all();
    CHECK_EQ(RM_OK, rm_pool_stats_get(pool, &stats));
    CHECK(stats.created == 3 && stats.destroyed == 3 && stats.create_failures == 1);
    CHECK(stats.ended[RM_POOL_CAUSE_BROKEN] == 1 && stats.ended[RM_POOL_CAUSE_INVALID] == 1 &&
          stats.ended[RM_POOL_CAUSE_IDLE] == 1 && stats.acquired == 3);
    const rm_resource resource = rm_pool_resource(pool);
    CHECK_EQ(RM_HEALTH_DEGRADED, resource.health_fn(resource.user, &error));
    CHECK(error.status == RM_E_REFUSED && error.native == 5);
    CHECK_EQ(RM_OK, rm_pool_after_fork_child(pool));
    CHECK_EQ(RM_HEALTH_HEALTHY, resource.health_fn(resource.user, &error));
    CHECK_EQ(RM_OK, rm_pool_stats_get(pool, &stats));
    CHECK_EQ(0, stats.created + stats.destroyed + stats.create_failures +
                    stats.ended[RM_POOL_CAUSE_BROKEN] + stats.ended[RM_POOL_CAUSE_INVALID] +
                    stats.ended[RM_POOL_CAUSE_IDLE] + stats.rejected + stats.acquired);
    CHECK_EQ(stats.max, stats.empty);
    CHECK_EQ(RM_OK, rm_pool_destroy(pool));
    rm_virtual_clock_destroy(&pool_time);
}

TEST(pool, without_destroy_fn_drops_what_is_broken) {
    rm_pool_desc desc = rm_pool_desc_default();
    rm_pool_stats stats;
    rm_lease lease;
    desc.create_fn = pool_make;
    REQUIRE(rm_pool_create(&desc, &pool, NULL) == RM_OK);
    CHECK_EQ(RM_OK, rm_pool_acquire(pool, RM_NOWAIT, &lease, NULL));
    CHECK_EQ(RM_OK, rm_pool_release(pool, &lease, RM_RELEASE_BROKEN));
    CHECK_EQ(RM_OK, rm_pool_stats_get(pool, &stats));
    CHECK(stats.destroyed == 1 && stats.empty == stats.max);
    CHECK_EQ(RM_OK, rm_pool_destroy(pool));
}

/* >>semaphore ----------------------------------------------------------------------------- */

static rm_sem sem;
static uint32_t sem_expected;

static void sem_begin(void) {
    rm_sem_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.permits = 4;
    CHECK_EQ(RM_OK, rm_sem_init(&sem, &desc));
    CHECK_EQ(RM_OK, rm_sem_acquire(&sem, RM_NOWAIT, NULL));
    CHECK_EQ(RM_OK, rm_sem_acquire(&sem, RM_NOWAIT, NULL));
    sem_expected = 2;
}

static void sem_take(void) {
    if (rm_sem_acquire(&sem, RM_NOWAIT, NULL) == RM_OK) --sem_expected;
}

static void sem_give(void) {
    if (rm_sem_release(&sem) == RM_OK) ++sem_expected;
}

static void sem_finish(void) {
    CHECK_EQ(sem_expected, rm_sem_available(&sem));
    while (sem_expected < 4)
        sem_give();
    CHECK_EQ(RM_E_STALE, rm_sem_release(&sem));
    CHECK_EQ(RM_OK, rm_sem_destroy(&sem));
}

TEST(semaphore, keeps_count_whatever_another_thread_does_at_any_step) {
    CHECK(at_every_step(sem_begin, sem_give, sem_give, sem_finish) > 1);
    CHECK(at_every_step(sem_begin, sem_give, sem_take, sem_finish) > 1);
    CHECK(at_every_step(sem_begin, sem_take, sem_give, sem_finish) > 1);
    CHECK(at_every_step(sem_begin, sem_take, sem_take, sem_finish) > 1);
}

/* >>wait queue ---------------------------------------------------------------------------- */

/* A clock on which the third wait lasts until its end; those before it end for nothing. */
static int64_t fake_now, fake_end;
static int fake_waits;

static int64_t fake_read(void *user) {
    (void)user;
    return fake_now;
}

static rm_status fake_sleep(int64_t ns, void *user) {
    (void)ns, (void)user;
    return RM_E_UNSUPPORTED;
}

static void fake_wait(rm_cond *cond, rm_mutex *mutex, int64_t until_ns, void *user) {
    (void)cond, (void)mutex, (void)user;
    fake_end = until_ns;
    if (++fake_waits >= 3) fake_now = until_ns;
}

static const rm_clock fake_clock = {fake_read, fake_read, fake_read, fake_sleep, fake_wait, NULL};
static const rm_deadline fake_deadline = {100};

static rm_waitq queue;
static rm_cancel cancel;
static uint32_t queue_units;
static rm_status waited;
static uint64_t granted;

static bool queue_try(void *owner, void *request, uint64_t *grant) {
    (void)owner, (void)request;
    if (queue_units == 0) return false;
    *grant = queue_units--;
    return true;
}

static void queue_make(rm_waitq_try_fn try_fn, uint32_t units) {
    rm_waitq_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.clock = &fake_clock;
    desc.try_fn = try_fn;
    CHECK_EQ(RM_OK, rm_waitq_init(&queue, &desc));
    CHECK_EQ(RM_OK, rm_cancel_init(&cancel));
    queue_units = units;
    fake_now = 1;
    fake_waits = 0;
    granted = 0;
}

static void queue_begin(void) {
    queue_make(NULL, 0);
}

static void queue_begin_empty(void) {
    queue_make(queue_try, 0);
}

static void queue_begin_with_unit(void) {
    queue_make(queue_try, 1);
}

static void queue_wait(void) {
    waited = rm_waitq_wait(&queue, &queue, fake_deadline, &cancel, &granted);
}

static void queue_end(void) {
    rm_waitq_stats stats;
    CHECK_EQ(RM_OK, rm_waitq_stats_get(&queue, &stats));
    CHECK_EQ(stats.waits, stats.granted + stats.timeouts + stats.cancelled + stats.ended);
    CHECK_EQ(0, stats.waiting);
    CHECK_EQ(waited == RM_OK, stats.granted == 1);
    CHECK_EQ(waited == RM_E_TIMEOUT, stats.timeouts == 1);
    CHECK(waited != RM_E_TIMEOUT || (fake_waits == 3 && fake_end == fake_deadline.at_ns));
    CHECK_EQ(queue.closed, rm_waitq_must_queue(&queue));
    CHECK_EQ(RM_OK, rm_waitq_destroy(&queue));
    CHECK_EQ(RM_OK, rm_cancel_destroy(&cancel));
}

static void queue_nothing(void) {}

static void queue_notify(void) {
    rm_waitq_notify(&queue);
}

static void queue_cancel(void) {
    rm_cancel_request(&cancel);
}

static void queue_complete(void) {
    rm_waitq_lock(&queue);
    (void)rm_waitq_complete(&queue, &queue, RM_OK, 7);
    rm_waitq_unlock(&queue);
}

static void queue_give(void) {
    ++queue_units;
    rm_waitq_notify(&queue);
}

static void queue_close(void) {
    rm_waitq_close(&queue);
}

static void queue_destroy(void) {
    if (queue.inside > 0) CHECK_EQ(RM_E_BUSY, rm_waitq_destroy(&queue));
    if (queue.head != NULL) CHECK_EQ(RM_E_STALE, rm_waitq_remove(&queue, queue.head));
}

static void queue_end_timeout(void) {
    CHECK_EQ(RM_E_TIMEOUT, waited);
    CHECK_EQ(0, granted);
    queue_end();
}

static void queue_end_granted(void) {
    CHECK_EQ(RM_OK, waited);
    CHECK_EQ(1, granted);
    queue_end();
}

static void queue_end_cancelled(void) {
    CHECK(waited == RM_E_CANCELLED || (waited == RM_E_TIMEOUT && fake_waits == 3));
    queue_end();
}

static void queue_end_completed(void) {
    CHECK((waited == RM_OK && granted == 7) || (waited == RM_E_TIMEOUT && fake_waits == 3));
    queue_end();
}

static void queue_end_given(void) {
    CHECK((waited == RM_OK && granted == 1) || (waited == RM_E_TIMEOUT && queue_units == 1));
    queue_end();
}

static void queue_end_closed(void) {
    CHECK(waited == RM_E_CLOSED || (waited == RM_E_TIMEOUT && fake_waits == 3));
    queue_end();
}

TEST(waitq, waits_on_when_it_wakes_for_nothing) {
    CHECK(at_every_step(queue_begin, queue_wait, queue_nothing, queue_end_timeout) > 1);
    CHECK(at_every_step(queue_begin, queue_wait, queue_notify, queue_end) > 1);
    CHECK_EQ(RM_E_TIMEOUT, waited);
}

TEST(waitq, is_busy_until_the_last_waiter_has_left) {
    CHECK(at_every_step(queue_begin, queue_wait, queue_destroy, queue_end_timeout) > 1);
    CHECK(at_every_step(queue_begin_with_unit, queue_wait, queue_destroy, queue_end_granted) > 1);
}

TEST(waitq, ends_a_wait_whatever_another_thread_does_at_any_step) {
    CHECK(at_every_step(queue_begin, queue_wait, queue_cancel, queue_end_cancelled) > 1);
    CHECK(at_every_step(queue_begin, queue_wait, queue_complete, queue_end_completed) > 1);
    CHECK(at_every_step(queue_begin, queue_wait, queue_close, queue_end_closed) > 1);
    CHECK(at_every_step(queue_begin_empty, queue_wait, queue_give, queue_end_given) > 1);
    CHECK(at_every_step(queue_begin_with_unit, queue_wait, queue_notify, queue_end_granted) > 1);
}

TEST(waitq, refuses_a_clock_that_cannot_tell_the_time_or_wait) {
    rm_clock clock = fake_clock;
    rm_waitq_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.clock = &clock;
    clock.now_fn = NULL;
    CHECK_EQ(RM_E_INVALID, rm_waitq_init(&queue, &desc));
    clock.now_fn = fake_read;
    clock.wait_fn = NULL;
    CHECK_EQ(RM_E_INVALID, rm_waitq_init(&queue, &desc));
    clock.wait_fn = fake_wait;
    CHECK_EQ(RM_OK, rm_waitq_init(&queue, &desc));
    CHECK_EQ(RM_OK, rm_waitq_destroy(&queue));
}

/* >>memory -------------------------------------------------------------------------------- */

static size_t asked;

static void *ask_for(size_t size, void *user) {
    (void)user;
    asked = size;
    return NULL;
}

static void take_back(void *pointer, size_t size, void *user) {
    (void)pointer, (void)size, (void)user;
}

TEST(memory, of_more_bytes_than_an_array_may_have_is_not_asked_for) {
    const rm_allocator allocator = {ask_for, take_back, NULL};
    asked = 0;
    CHECK(rm_alloc(&allocator, (size_t)PTRDIFF_MAX + 1) == NULL);
    CHECK(asked == 0);
    CHECK(rm_alloc(&allocator, (size_t)PTRDIFF_MAX) == NULL);
    CHECK(asked == (size_t)PTRDIFF_MAX);
}

/* >>registry ------------------------------------------------------------------------------ */

static int objects_made, objects_live;

static rm_status object_make(const void *key, size_t size, void **value, rm_error *error,
                             void *user) {
    (void)key, (void)size, (void)error, (void)user;
    *value = &objects_made;
    ++objects_made;
    ++objects_live;
    return RM_OK;
}

static void object_end(void *value, void *user) {
    (void)value, (void)user;
    --objects_live;
}

static bool object_evictable(void *value, void *user) {
    (void)value, (void)user;
    return true;
}

static rm_registry *registry_make(uint32_t max) {
    rm_registry *registry = NULL;
    rm_registry_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.max_entries = max;
    desc.stripes = 2;
    desc.create_fn = object_make;
    desc.destroy_fn = object_end;
    desc.evictable_fn = object_evictable;
    objects_made = objects_live = 0;
    CHECK_EQ(RM_OK, rm_registry_create(&desc, &registry, NULL));
    return registry;
}

TEST(registry, tells_keys_of_one_hash_apart) {
    rm_registry *registry = registry_make(2);
    rm_registry_ref refs[2];
    REQUIRE(registry != NULL);
    for (int i = 0; i < 2; ++i) {
        const char *other = i == 0 ? "b" : "bb";
        const uint64_t hash = rm_hash(&registry->key, other, strlen(other));
        REQUIRE(rm_registry_get(registry, "a", 1, &refs[0], NULL) == RM_OK);
        rmi_entry *entry = &registry->entries[refs[0].slot];
        *rmi_registry_head(registry, entry->hash) = 0; /* as if "a" had the other's hash */
        *rmi_registry_head(registry, hash) = refs[0].slot + 1;
        entry->hash = hash;
        entry->stripe = rmi_registry_stripe(registry, hash);
        REQUIRE(rm_registry_get(registry, other, strlen(other), &refs[1], NULL) == RM_OK);
        CHECK(refs[0].slot != refs[1].slot);
        CHECK_EQ(2, objects_live);
        CHECK_EQ(RM_OK, rm_registry_put(registry, &refs[0]));
        CHECK_EQ(RM_OK, rm_registry_put(registry, &refs[1]));
        CHECK_EQ(RM_OK, rm_registry_remove(registry, other, strlen(other)));
        CHECK_EQ(RM_OK, rm_registry_destroy(registry));
        CHECK_EQ(0, objects_live);
        registry = registry_make(2);
    }
    CHECK_EQ(RM_OK, rm_registry_destroy(registry));
}

TEST(registry, finds_an_empty_key_again) {
    rm_registry *registry = registry_make(2);
    rm_registry_ref refs[2];
    REQUIRE(registry != NULL);
    for (int i = 0; i < 2; ++i)
        REQUIRE(rm_registry_get(registry, NULL, 0, &refs[i], NULL) == RM_OK);
    CHECK_EQ(refs[0].slot, refs[1].slot);
    CHECK_EQ(1, objects_live);
    for (int i = 0; i < 2; ++i)
        CHECK_EQ(RM_OK, rm_registry_put(registry, &refs[i]));
    CHECK_EQ(RM_OK, rm_registry_destroy(registry));
}

TEST(registry, never_uses_the_generation_of_a_cleared_reference) {
    rm_registry *registry = registry_make(1);
    rm_registry_ref ref;
    REQUIRE(registry != NULL);
    registry->entries[0].generation = UINT32_MAX;
    REQUIRE(rm_registry_get(registry, "a", 1, &ref, NULL) == RM_OK);
    CHECK(ref.generation != 0);
    CHECK_EQ(RM_OK, rm_registry_put(registry, &ref));
    CHECK_EQ(RM_E_STALE, rm_registry_put(registry, &ref));
    CHECK_EQ(RM_OK, rm_registry_destroy(registry));
}

static rm_registry *shelf;
static rm_registry_ref shelf_refs[4];
static uint32_t shelf_out;

static void shelf_get(const char *key) {
    rm_registry_ref ref;
    if (rm_registry_get(shelf, key, 1, &ref, NULL) == RM_OK) shelf_refs[shelf_out++] = ref;
}

static void shelf_get_a(void) {
    shelf_get("a");
}

static void shelf_get_b(void) {
    shelf_get("b");
}

static void shelf_put(void) {
    rm_registry_ref ref;
    if (shelf_out == 0) return;
    ref = shelf_refs[--shelf_out];
    CHECK_EQ(RM_OK, rm_registry_put(shelf, &ref));
}

static void shelf_remove(void) {
    (void)rm_registry_remove(shelf, "a", 1);
}

static void shelf_begin(void) {
    shelf = registry_make(2);
    shelf_out = 0;
    shelf_get("c");
    shelf_get("a");
    shelf_put();
}

static void shelf_end(void) {
    CHECK_EQ(objects_live, rm_registry_count(shelf));
    CHECK(shelf_out > 0 ? rm_registry_destroy(shelf) == RM_E_BUSY : true);
    while (shelf_out > 0)
        shelf_put();
    CHECK_EQ(RM_OK, rm_registry_destroy(shelf));
    CHECK_EQ(0, objects_live);
}

TEST(registry, keeps_count_whatever_another_thread_does_at_any_step) {
    static void (*const calls[])(void) = {shelf_get_a, shelf_get_b, shelf_put, shelf_remove};
    enum { CALLS = sizeof calls / sizeof *calls };
    const int blocks = live_blocks;
    for (int act = 0; act < CALLS; ++act)
        for (int visit = 0; visit < CALLS; ++visit)
            CHECK(at_every_step(shelf_begin, calls[act], calls[visit], shelf_end) > 0);
    CHECK_EQ(blocks, live_blocks);
}

/* >>text ---------------------------------------------------------------------------------- */

static int flushes;

static bool flush_never(const char *data, size_t size, void *user) {
    (void)data, (void)size, (void)user;
    ++flushes;
    return false;
}

TEST(text, asks_no_more_of_a_reader_who_has_said_stop) {
    char buffer[4];
    rm_text text = rm_text_make(buffer, sizeof buffer);
    text.flush_fn = flush_never;
    flushes = 0;
    rm_text_string(&text, "abc");
    CHECK(!rm_text_flush(&text));
    text.used = 1;
    CHECK(!rm_text_flush(&text));
    CHECK_EQ(1, flushes);
}

#ifndef _WIN32
TEST(text, puts_a_decimal_point_of_several_bytes_right) {
    char buffer[16];
    rm_text text = rm_text_make(buffer, sizeof buffer);
    point = "\xD9\xAB";
    rm_text_double(&text, 2.5);
    point = ".";
    CHECK_EQ(3, text.used);
    CHECK(memcmp(buffer, "2.5", 3) == 0);
}
#endif

/* >>manager ------------------------------------------------------------------------------- */

static rm_manager *manager;
static bool looked_at, second_stopped_meanwhile, first_stopped_meanwhile;
static int looks;
static rm_thread helper;

static rm_health look(void *user, rm_error *reason) {
    (void)user, (void)reason;
    return RM_HEALTH_HEALTHY;
}

static rm_status manager_of(rm_health (*health_fn)(void *, rm_error *),
                            rm_status (*stop_first)(void *, rm_deadline, rm_error *),
                            rm_status (*stop_second)(void *, rm_deadline, rm_error *),
                            const rm_env *env) {
    rm_resource first = rm_resource_make("first", "thing", NULL);
    rm_resource second = rm_resource_make("second", "thing", NULL);
    rm_manager_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.env = env;
    first.health_fn = health_fn;
    first.stop_fn = stop_first;
    second.health_fn = look;
    second.stop_fn = stop_second;
    rm_status status = rm_manager_create(&desc, &manager, NULL);
    if (status == RM_OK) status = rm_manager_add(manager, &first, NULL);
    if (status == RM_OK) status = rm_manager_add(manager, &second, NULL);
    if (status == RM_OK) status = rm_manager_start(manager, 0, NULL);
    looks = 0;
    looked_at = second_stopped_meanwhile = first_stopped_meanwhile = false;
    turn_begin();
    return status;
}

static rm_status stop_first(void *user, rm_deadline deadline, rm_error *error) {
    (void)user, (void)deadline, (void)error;
    first_stopped_meanwhile = looked_at;
    return RM_OK;
}

static rm_status stop_second(void *user, rm_deadline deadline, rm_error *error) {
    (void)user, (void)error;
    CHECK_EQ(0, deadline.at_ns);
    second_stopped_meanwhile = looked_at;
    return RM_OK;
}

static void stop_for_ever(void *user) {
    (void)user;
    CHECK_EQ(RM_OK, rm_manager_stop(manager, RM_FOREVER, NULL));
}

/* The wait of a stop for a health hook: it must have no end. */
static void stopper_waits(rm_cond *cond, rm_mutex *mutex, int64_t until_ns, void *user) {
    (void)user;
    CHECK_EQ(INT64_MAX, until_ns);
    turn_reached(1);
    rm_cond_wait(cond, mutex, until_ns);
}

static rm_health look_until_stopper_waits(void *user, rm_error *reason) {
    (void)user, (void)reason;
    looked_at = true;
    CHECK_EQ(RM_OK, rm_thread_start(&helper, stop_for_ever, NULL));
    turn_await(1);
    looked_at = false;
    return RM_HEALTH_HEALTHY;
}

TEST(manager, stops_others_but_not_what_is_looked_at) {
    rm_clock clock = *rm_clock_system();
    rm_resource_status found[2];
    rm_env env;
    uint32_t count;
    memset(&env, 0, sizeof env);
    clock.wait_fn = stopper_waits;
    env.clock = &clock;
    REQUIRE(manager_of(look_until_stopper_waits, stop_first, stop_second, &env) == RM_OK);
    CHECK_EQ(RM_OK, rm_manager_status(manager, found, 2, &count));
    rm_thread_join(&helper);
    CHECK(second_stopped_meanwhile && !first_stopped_meanwhile);
    CHECK_EQ(RM_OK, rm_manager_status(manager, found, 2, &count));
    CHECK(found[0].state == RM_STATE_STOPPED && found[1].state == RM_STATE_STOPPED);
    CHECK_EQ(RM_OK, rm_manager_destroy(manager));
    turn_end();
}

static void status_too(void *user) {
    rm_resource_status found[2];
    uint32_t count = 0;
    (void)user;
    CHECK_EQ(RM_OK, rm_manager_status(manager, found, 2, &count));
    CHECK(count == 2 && found[0].health == RM_HEALTH_HEALTHY);
}

/* The first call waits until the second is inside; the second until the first status is done. */
static rm_health look_twice(void *user, rm_error *reason) {
    (void)user, (void)reason;
    if (++looks == 1) {
        CHECK_EQ(RM_OK, rm_thread_start(&helper, status_too, NULL));
        turn_await(1);
    } else {
        turn_reached(1);
        turn_await(2);
    }
    return RM_HEALTH_HEALTHY;
}

TEST(manager, is_looked_at_by_two_threads_that_leave_in_any_order) {
    rm_resource_status found[2];
    uint32_t count = 0;
    REQUIRE(manager_of(look_twice, NULL, NULL, NULL) == RM_OK);
    CHECK_EQ(RM_OK, rm_manager_status(manager, found, 2, &count));
    CHECK(count == 2 && found[0].health == RM_HEALTH_HEALTHY);
    turn_reached(2);
    rm_thread_join(&helper);
    CHECK(manager->visits == NULL);
    CHECK_EQ(RM_OK, rm_manager_stop(manager, 0, NULL));
    CHECK_EQ(RM_OK, rm_manager_destroy(manager));
    turn_end();
}

/* >>breaker ------------------------------------------------------------------------------- */

static rm_breaker *breaker;
static rm_virtual_clock breaker_time;
static rm_clock breaker_clock;
static rm_breaker_event told[64];
static uint32_t told_count;

static void breaker_told(rm_breaker *from, const rm_breaker_event *event, void *user) {
    (void)from, (void)user;
    if (CHECK(event->generation >= 2 && event->generation < 66)) {
        CHECK_EQ(0, told[event->generation - 2].generation); /* none is told twice */
        told[event->generation - 2] = *event;
    }
    ++told_count;
}

static void breaker_begin(void) {
    rm_breaker_desc desc = rm_breaker_desc_default();
    rm_env env;
    memset(&env, 0, sizeof env);
    memset(told, 0, sizeof told);
    told_count = 0;
    CHECK_EQ(RM_OK, rm_virtual_clock_init(&breaker_time, 1, true));
    breaker_clock = rm_virtual_clock_clock(&breaker_time);
    env.clock = &breaker_clock;
    desc.env = &env;
    desc.failures = 2;
    desc.probes = 2;
    desc.open_ns = RM_SEC(1);
    desc.open_jitter_permille = RM_NONE;
    desc.event_fn = breaker_told;
    CHECK_EQ(RM_OK, rm_breaker_create(&desc, &breaker, NULL));
}

static void breaker_begin_rested(void) {
    breaker_begin();
    CHECK_EQ(RM_OK, rm_breaker_trip(breaker));
    rm_virtual_clock_advance(&breaker_time, RM_SEC(2));
}

static void breaker_report(rm_outcome outcome) {
    rm_permit permit;
    if (rm_breaker_acquire(breaker, &permit, NULL) != RM_OK) return;
    const rm_status status = rm_breaker_record(breaker, &permit, outcome);
    CHECK(status == RM_OK || status == RM_E_STALE);
}

static void breaker_ok(void) {
    breaker_report(RM_OUTCOME_OK);
}

static void breaker_fail(void) {
    breaker_report(RM_OUTCOME_FAILURE);
}

static void breaker_begin_failing(void) {
    breaker_begin();
    breaker_fail();
}

static void breaker_trip(void) {
    CHECK_EQ(RM_OK, rm_breaker_trip(breaker));
}

static void breaker_reset(void) {
    CHECK_EQ(RM_OK, rm_breaker_reset(breaker));
}

static void breaker_end(void) {
    rm_breaker_state state = RM_BREAKER_STATE_CLOSED;
    rm_breaker_stats stats;
    uint64_t opened = 0;
    CHECK_EQ(RM_OK, rm_breaker_stats_get(breaker, &stats));
    CHECK_EQ(stats.generation, told_count + 1);
    for (uint32_t i = 0; i < told_count && i < 64; ++i) {
        CHECK_EQ(state, told[i].from);
        CHECK(told[i].from != told[i].to);
        state = told[i].to;
        opened += state == RM_BREAKER_STATE_OPEN;
    }
    CHECK_EQ(state, stats.state);
    CHECK_EQ(opened, stats.opened);
    CHECK_EQ(0, stats.probes_out);
    rm_breaker_destroy(breaker);
    rm_virtual_clock_destroy(&breaker_time);
}

TEST(breaker, tells_of_every_transition_once_whatever_another_thread_does_at_any_step) {
    static void (*const calls[])(void) = {breaker_ok, breaker_fail, breaker_trip, breaker_reset};
    enum { CALLS = sizeof calls / sizeof *calls };
    for (int act = 0; act < CALLS; ++act)
        for (int visit = 0; visit < CALLS; ++visit) {
            CHECK(at_every_step(breaker_begin, calls[act], calls[visit], breaker_end) > 0);
            CHECK(at_every_step(breaker_begin_failing, calls[act], calls[visit], breaker_end) > 0);
            CHECK(at_every_step(breaker_begin_rested, calls[act], calls[visit], breaker_end) > 0);
        }
}

/* >>cache --------------------------------------------------------------------------------- */

TEST(cache, takes_an_empty_value_without_an_address) {
    rm_cache *cache = NULL;
    size_t size = 9;
    char value[1];
    REQUIRE(rm_cache_create(NULL, &cache, NULL) == RM_OK);
    CHECK_EQ(RM_OK, rm_cache_set(cache, "key", 3, NULL, 0, 0, NULL));
    CHECK_EQ(RM_OK, rm_cache_get(cache, "key", 3, value, sizeof value, &size));
    CHECK_EQ(0, size);
    CHECK_EQ(RM_E_INVALID, rm_cache_set(cache, "key", 3, NULL, 1, 0, NULL));
    CHECK_EQ(RM_OK, rm_cache_destroy(cache));
}

static rm_cache *filled;
static rm_cache_pin filled_pin;
static bool filled_pinned;

static void cache_begin(void) {
    rm_cache_desc desc = rm_cache_desc_default();
    desc.max_entries = 2;
    desc.max_pins = 1;
    CHECK_EQ(RM_OK, rm_cache_create(&desc, &filled, NULL));
    CHECK_EQ(RM_OK, rm_cache_set(filled, "a", 1, "1", 1, 0, NULL));
    CHECK_EQ(RM_OK, rm_cache_set(filled, "b", 1, "2", 1, 0, NULL));
    filled_pinned = false;
}

static void cache_set_c(void) {
    rm_error error;
    const rm_status status = rm_cache_set(filled, "c", 1, "3", 1, 0, &error);
    CHECK_EQ(RM_OK, status);
    check_refusal(status, &error);
}

static void cache_delete_a(void) {
    const rm_status status = rm_cache_delete(filled, "a", 1);
    CHECK(status == RM_OK || status == RM_E_NOT_FOUND);
}

static rm_status cache_load_c(rm_cache_load *load, const void *key, size_t key_size,
                              rm_deadline deadline, rm_error *error, void *user) {
    (void)key, (void)key_size, (void)deadline, (void)error, (void)user;
    return rm_cache_load_set(load, "4", 1);
}

static void cache_load(void) {
    const rm_cache_loader loader = rm_cache_loader_make(cache_load_c, NULL);
    rm_cache_pin pin;
    rm_error error;
    const rm_status status = rm_cache_get_or_load(filled, "c", 1, &loader, 0, &pin, &error);
    check_refusal(status, &error);
    /* a visit within the load is by the thread that loads */
    CHECK(status == RM_OK || status == RM_E_FULL || status == RM_E_DEADLOCK);
    if (status != RM_OK) return;
    CHECK(!filled_pinned); /* there is one pin only */
    filled_pinned = true;
    filled_pin = pin;
}

static void cache_unpin(void) {
    if (!filled_pinned) return;
    filled_pinned = false;
    CHECK_EQ(RM_OK, rm_cache_release(filled, &filled_pin));
}

static void cache_end(void) {
    static const char *const keys[] = {"a", "b", "c"};
    rm_cache_stats stats;
    uint32_t found = 0;
    char value[1];
    CHECK_EQ(RM_OK, rm_cache_stats_get(filled, &stats));
    for (int i = 0; i < 3; ++i)
        found += rm_cache_get(filled, keys[i], 1, value, sizeof value, NULL) == RM_OK;
    CHECK(stats.entries == found && found <= 2);
    CHECK_EQ(filled_pinned, stats.pins);
    CHECK_EQ(filled_pinned ? RM_E_BUSY : RM_OK, rm_cache_destroy(filled));
    if (!filled_pinned) return;
    cache_unpin();
    CHECK_EQ(RM_OK, rm_cache_destroy(filled));
}

TEST(cache, keeps_count_whatever_another_thread_does_at_any_step) {
    static void (*const calls[])(void) = {cache_set_c, cache_delete_a, cache_load, cache_unpin};
    enum { CALLS = sizeof calls / sizeof *calls };
    const int blocks = live_blocks;
    for (int act = 0; act < CALLS; ++act)
        for (int visit = 0; visit < CALLS; ++visit)
            CHECK(at_every_step(cache_begin, calls[act], calls[visit], cache_end) >= 0);
    CHECK_EQ(blocks, live_blocks);
}

static uint64_t shown_of[20];

static void note_counter(const rm_stat *stat, void *user) {
    static const char *const names[] = {"rm_cache_hits_total",          "rm_cache_misses_total",
                                        "rm_cache_sets_total",          "rm_cache_loads_total",
                                        "rm_cache_load_failures_total", "rm_cache_load_waits_total",
                                        "rm_cache_removed_total"};
    (void)user;
    for (size_t i = 0; i < sizeof names / sizeof *names; ++i)
        if (strcmp(names[i], stat->name) == 0) shown_of[i] += (uint64_t)stat->value;
}

TEST(cache, shows_every_count_under_its_own_name) {
    rm_cache *cache = NULL;
    REQUIRE(rm_cache_create(NULL, &cache, NULL) == RM_OK);
    rm_cache_stats *stats = &cache->stats;
    uint64_t *const counts[] = {&stats->hits,  &stats->misses,        &stats->sets,
                                &stats->loads, &stats->load_failures, &stats->load_waits};
    uint64_t *const removed[] = {&stats->evicted, &stats->expired, &stats->replaced,
                                 &stats->deleted, &stats->cleared, &stats->refused};
    for (unsigned i = 0; i < 6; ++i) {
        *counts[i] = 10 + i;
        *removed[i] = 1u << i;
    }
    memset(shown_of, 0, sizeof shown_of);
    const rm_resource resource = rm_cache_resource(cache);
    resource.stats_fn(resource.user, note_counter, NULL);
    for (unsigned i = 0; i < 6; ++i)
        CHECK_EQ(10 + i, shown_of[i]);
    CHECK_EQ(63, shown_of[6]);
    CHECK_EQ(RM_OK, rm_cache_destroy(cache));
}

/* >>statistics of nothing ----------------------------------------------------------------- */

static int shown;

static void count_stat(const rm_stat *stat, void *user) {
    (void)stat, (void)user;
    ++shown;
}

TEST(resource, without_its_object_shows_nothing) {
    rm_pool_desc desc = rm_pool_desc_default();
    rm_cache *cache = NULL;
    desc.create_fn = pool_make;
    REQUIRE(rm_pool_create(&desc, &pool, NULL) == RM_OK);
    REQUIRE(rm_cache_create(NULL, &cache, NULL) == RM_OK);
    const rm_resource resources[] = {rm_pool_resource(pool), rm_cache_resource(cache)};
    for (int i = 0; i < 2; ++i) {
        shown = 0;
        resources[i].stats_fn(NULL, count_stat, NULL);
        CHECK_EQ(0, shown);
        resources[i].stats_fn(resources[i].user, count_stat, NULL);
        CHECK(shown > 5);
    }
    CHECK_EQ(RM_OK, rm_cache_destroy(cache));
    CHECK_EQ(RM_OK, rm_pool_destroy(pool));
}

TEST(create, without_a_place_for_the_result_is_refused_with_a_reason) {
    const rm_pool_desc desc = rm_pool_desc_default();
    rm_registry *registry;
    rm_error error;
    memset(&error, 0xFF, sizeof error);
    check_refusal(rm_pool_create(NULL, &pool, &error), &error);
    check_refusal(rm_pool_create(&desc, NULL, &error), &error);
    check_refusal(rm_pool_create(&desc, &pool, &error), &error); /* has no create_fn */
    check_refusal(rm_cache_create(NULL, NULL, &error), &error);
    check_refusal(rm_breaker_create(NULL, NULL, &error), &error);
    check_refusal(rm_metrics_create(NULL, NULL, &error), &error);
    check_refusal(rm_manager_create(NULL, NULL, &error), &error);
    check_refusal(rm_registry_create(NULL, &registry, &error), &error);
    CHECK_EQ(RM_E_INVALID, error.status);
}

/* >>metrics ------------------------------------------------------------------------------- */

static rm_metrics *metrics;
static rm_metrics_family *family;
static char page[8192];

/* Renders to `page`; returns how often a text is on it. */
static int rendered(const char *part) {
    rm_text text = rm_text_make(page, sizeof page - 1);
    int count = 0;
    CHECK_EQ(RM_OK, rm_metrics_render(metrics, &text));
    page[text.used] = '\0';
    for (const char *at = page; (at = strstr(at, part)) != NULL; ++at)
        ++count;
    return count;
}

static rm_status metrics_add(rm_metric_type type, const char *name, const char *label) {
    rm_metric_desc desc = rm_metrics_describe(type, name, "Help.");
    desc.labels = &label;
    desc.label_count = label != NULL;
    desc.decimals = type == RM_METRIC_HISTOGRAM ? 9 : 0;
    return rm_metrics_add(metrics, &desc, &family, NULL);
}

TEST(metrics, names_are_letters_digits_and_underscores_and_colons_for_families) {
    static const char *const bad[] = {"a[", "a@", "a`", "a{", "a/", "1a", "", "a b", "a\xC3\xA4"};
    static const char *const good[] = {"a_Z", "A9z", "_0"};
    REQUIRE(rm_metrics_create(NULL, &metrics, NULL) == RM_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; ++i) {
        CHECK_EQ(RM_E_INVALID, metrics_add(RM_METRIC_COUNTER, bad[i], NULL));
        CHECK_EQ(RM_E_INVALID, metrics_add(RM_METRIC_COUNTER, "fine_total", bad[i]));
    }
    for (size_t i = 0; i < sizeof good / sizeof *good; ++i)
        CHECK_EQ(RM_OK, metrics_add(RM_METRIC_COUNTER, good[i], good[i]));
    CHECK_EQ(RM_OK, metrics_add(RM_METRIC_COUNTER, "app:calls", NULL));
    CHECK_EQ(RM_E_INVALID, metrics_add(RM_METRIC_COUNTER, "fine_total", "app:call"));
    CHECK_EQ(RM_OK, rm_metrics_destroy(metrics));
}

TEST(metrics, bins_are_for_histograms_and_the_same_when_added_again) {
    static const rm_hist_desc bins[] = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}};
    static const rm_hist_desc again[] = {
        {0, 6, 16}, {1, 6, 16}, {0, 7, 16}, {0, 6, 32}, {0, 6, 16}};
    static const int64_t bounds[] = {10, 100};
    rm_error error;
    REQUIRE(rm_metrics_create(NULL, &metrics, NULL) == RM_OK);
    for (int i = 0; i < 3; ++i) {
        rm_metric_desc desc = rm_metrics_describe(RM_METRIC_COUNTER, "x_total", "Help.");
        desc.bins = bins[i];
        CHECK_EQ(RM_E_INVALID, rm_metrics_add(metrics, &desc, &family, &error));
        CHECK_STR("bins", error.where);
    }
    for (int i = 0; i < 5; ++i) {
        const bool same = memcmp(&again[i], &again[0], sizeof again[i]) == 0;
        rm_metric_desc desc = rm_metrics_describe(RM_METRIC_HISTOGRAM, "x_seconds", "Help.");
        desc.bounds = bounds;
        desc.bound_count = 2;
        desc.bins = again[i];
        CHECK_EQ(same ? RM_OK : RM_E_EXISTS, rm_metrics_add(metrics, &desc, &family, &error));
        if (!same) CHECK_STR("bins", error.where);
    }
    CHECK_EQ(RM_OK, rm_metrics_destroy(metrics));
}

static rm_status series(const char *value) {
    rm_counter counter;
    rm_status status = rm_counter_with(family, &value, 1, &counter, NULL);
    if (status == RM_OK) status = rm_counter_add(counter, 1);
    return status;
}

TEST(metrics, tell_label_values_of_one_hash_apart) {
    static const char *const others[] = {"b", "bb"};
    rm_metrics_desc desc;
    rm_random random;
    rm_env env;
    rm_rng rng;
    memset(&desc, 0, sizeof desc);
    memset(&env, 0, sizeof env);
    rm_rng_seed(&rng, 1); /* the same key in every run: the search below ends */
    random = rm_rng_random(&rng);
    env.random = &random;
    desc.env = &env;
    for (int i = 0; i < 2; ++i) {
        const size_t size = strlen(others[i]) + 1;
        char first[2] = "A";
        REQUIRE(rm_metrics_create(&desc, &metrics, NULL) == RM_OK);
        REQUIRE(metrics_add(RM_METRIC_COUNTER, "x_total", "label") == RM_OK);
        const uint64_t hash = rm_hash(&metrics->key, others[i], size);
        while (((rm_hash(&metrics->key, first, sizeof first) ^ hash) & 7) != 0)
            ++first[0]; /* a value whose place in the table of eight is the other's */
        REQUIRE(first[0] <= 'Z');
        CHECK_EQ(RM_OK, series(first));
        rmi_metrics_find(family, first, sizeof first, rm_hash(&metrics->key, first, sizeof first))
            ->hash = hash;
        CHECK_EQ(RM_OK, series(others[i]));
        CHECK_EQ(RM_OK, series(others[i]));
        CHECK_EQ(1, rendered("\"} 1\n"));
        CHECK_EQ(1, rendered("\"} 2\n"));
        CHECK_EQ(RM_OK, rm_metrics_destroy(metrics));
    }
}

TEST(metrics, take_long_values_that_look_the_same_for_one_series) {
    REQUIRE(rm_metrics_create(NULL, &metrics, NULL) == RM_OK);
    REQUIRE(metrics_add(RM_METRIC_COUNTER, "x_total", "label") == RM_OK);
    CHECK_EQ(RM_OK, series("plain text of more than eight bytes"));
    CHECK_EQ(RM_OK, series("\xFF 345678"));
    CHECK_EQ(RM_OK, series("\xEF\xBF\xBD 345678"));
    CHECK_EQ(1, rendered("x_total{label=\"\xEF\xBF\xBD 345678\"} 2\n"));
    CHECK_EQ(RM_OK, rm_metrics_destroy(metrics));
}

/* With the same key each time, so that each call has the same steps. */
static void metrics_begin(void) {
    static rm_rng rng;
    static rm_random random;
    rm_metrics_desc desc;
    rm_env env;
    memset(&desc, 0, sizeof desc);
    memset(&env, 0, sizeof env);
    rm_rng_seed(&rng, 1);
    random = rm_rng_random(&rng);
    env.random = &random;
    desc.env = &env;
    desc.max_series = 2;
    CHECK_EQ(RM_OK, rm_metrics_create(&desc, &metrics, NULL));
    CHECK_EQ(RM_OK, metrics_add(RM_METRIC_COUNTER, "x_total", "label"));
    CHECK_EQ(RM_OK, series("a"));
}

static void series_b(void) {
    CHECK_EQ(RM_OK, series("b"));
}

static void series_c(void) {
    CHECK_EQ(RM_OK, series("c"));
}

static void series_d(void) {
    CHECK_EQ(RM_OK, series("d"));
}

static void metrics_end(void) {
    CHECK_EQ(RM_OK, rm_metrics_destroy(metrics));
}

static void metrics_end_same(void) {
    CHECK_EQ(1, rendered("x_total{label=\"b\"} 2\n"));
    CHECK_EQ(0, rendered("overflow="));
    metrics_end();
}

static void metrics_end_other(void) {
    const int b = rendered("x_total{label=\"b\"} 1\n"), c = rendered("x_total{label=\"c\"} 1\n");
    CHECK_EQ(1, b + c);
    CHECK_EQ(1, rendered("x_total{overflow=\"true\"} 1\n"));
    metrics_end();
}

static void metrics_begin_full(void) {
    metrics_begin();
    CHECK_EQ(RM_OK, series("b"));
}

static void metrics_end_full(void) {
    CHECK_EQ(1, rendered("x_total{overflow=\"true\"} 2\n"));
    CHECK_EQ(1, rendered("rm_metrics_dropped_series_total 2\n"));
    metrics_end();
}

TEST(metrics, make_a_series_once_whatever_another_thread_does_at_any_step) {
    CHECK(at_every_step(metrics_begin, series_b, series_b, metrics_end_same) > 3);
    CHECK(at_every_step(metrics_begin, series_b, series_c, metrics_end_other) > 3);
    CHECK(at_every_step(metrics_begin_full, series_c, series_d, metrics_end_full) > 3);
}

static void show_odd(void *user, rm_stat_fn visit, void *to) {
    (void)user;
    visit(NULL, to);
    rmi_show(visit, to, RM_STAT_GAUGE, "odd_one", "Help.", NULL, NULL, 1);
    rmi_show(visit, to, RM_STAT_GAUGE, "odd_two", "Help.", NULL, NULL, 2);
}

TEST(metrics, pass_over_a_missing_statistic_and_stop_at_the_end_of_the_page) {
    rm_resource resource = rm_resource_make("odd", "thing", NULL);
    REQUIRE(rm_metrics_create(NULL, &metrics, NULL) == RM_OK);
    resource.stats_fn = show_odd;
    CHECK_EQ(RM_OK, rm_metrics_add_resource(metrics, &resource, NULL));
    CHECK_EQ(1, rendered("odd_one{resource=\"odd\"} 1\n"));
    CHECK_EQ(1, rendered("odd_two{resource=\"odd\"} 2\n"));
    for (size_t size = 0; size < 100; ++size) {
        rm_text text = rm_text_make(page, size);
        CHECK_EQ(RM_E_TOO_LARGE, rm_metrics_render(metrics, &text));
        CHECK(text.used <= size);
    }
    CHECK_EQ(RM_OK, rm_metrics_destroy(metrics));
}

static char long_name[130];

static void show_limits(void *user, rm_stat_fn visit, void *to) {
    rm_stat stat;
    (void)user;
    memset(&stat, 0, sizeof stat);
    stat.help = "Help.";
    stat.type = RM_STAT_GAUGE;
    stat.value = 1;
    stat.name = long_name;
    visit(&stat, to);
    stat.name = "most_decimals";
    stat.decimals = 18;
    visit(&stat, to);
    stat.name = "too_many_decimals";
    stat.decimals = 19;
    visit(&stat, to);
}

TEST(metrics, show_names_of_127_bytes_and_18_decimals_and_no_more) {
    rm_resource resource = rm_resource_make("odd", "thing", NULL);
    REQUIRE(rm_metrics_create(NULL, &metrics, NULL) == RM_OK);
    resource.stats_fn = show_limits;
    CHECK_EQ(RM_OK, rm_metrics_add_resource(metrics, &resource, NULL));
    memset(long_name, 'x', 127);
    long_name[127] = '\0';
    CHECK_EQ(3, rendered(long_name)); /* HELP, TYPE and the sample */
    CHECK_EQ(1, rendered("x{resource=\"odd\"} 1\n"));
    CHECK_EQ(1, rendered("most_decimals{resource=\"odd\"} 0.000000000000000001\n"));
    CHECK_EQ(0, rendered("too_many_decimals{"));
    long_name[127] = 'x';
    CHECK_EQ(0, rendered("xxx"));
    long_name[127] = '\0';
    CHECK_EQ(RM_OK, rm_metrics_destroy(metrics));
}

TEST(metrics, say_what_they_refuse) {
    rm_resource resource = rm_resource_make("", "thing", NULL);
    rm_metrics_desc desc;
    rm_error error;
    memset(&desc, 0, sizeof desc);
    desc.max_families = 65536;
    check_refusal(rm_metrics_create(&desc, &metrics, &error), &error);
    CHECK_STR("max_families", error.where);
    desc.max_families = 0;
    desc.max_series = (1u << 24) + 1;
    check_refusal(rm_metrics_create(&desc, &metrics, &error), &error);
    CHECK_STR("max_series", error.where);
    REQUIRE(rm_metrics_create(NULL, &metrics, NULL) == RM_OK);
    check_refusal(rm_metrics_add_resource(NULL, &resource, &error), &error);
    CHECK_STR("metrics", error.where);
    check_refusal(rm_metrics_add_resource(metrics, NULL, &error), &error);
    CHECK_STR("resource", error.where);
    check_refusal(rm_metrics_add_resource(metrics, &resource, &error), &error);
    CHECK_STR("name", error.where);
    CHECK_EQ(RM_OK, rm_metrics_destroy(metrics));
}

static int renders;
static rm_thread renderer, remover;
static bool second_left;

static void render_too(void *user) {
    static char second_page[sizeof page];
    rm_text text = rm_text_make(second_page, sizeof second_page);
    (void)user;
    CHECK_EQ(RM_OK, rm_metrics_render(metrics, &text));
}

static void remove_it(void *user) {
    (void)user;
    CHECK_EQ(RM_OK, rm_metrics_remove_resource(metrics, "odd"));
    CHECK(second_left);
}

/* Turn 1: both renders are inside; 2: the removal waits for them; 3: the first has left; 4: the
   removal is on its way out; 5: it may go on. */
static void show_in_turns(void *user, rm_stat_fn visit, void *to) {
    (void)user, (void)visit, (void)to;
    if (++renders == 1) {
        CHECK_EQ(RM_OK, rm_thread_start(&renderer, render_too, NULL));
        turn_await(1);
        CHECK_EQ(RM_OK, rm_thread_start(&remover, remove_it, NULL));
        turn_await(2);
    } else {
        turn_reached(1);
        turn_await(3);
        second_left = true;
    }
}

static void removal_waits(rm_cond *cond, rm_mutex *mutex, int64_t until_ns, void *user) {
    (void)user;
    turn_reached(2);
    rm_cond_wait(cond, mutex, until_ns);
    if (!second_left) return;
    rm_mutex_unlock(mutex); /* as if it had not come to lock it yet */
    turn_reached(4);
    turn_await(5);
    rm_mutex_lock(mutex);
}

TEST(metrics, remove_a_resource_when_the_last_of_two_renders_has_left_it) {
    rm_resource resource = rm_resource_make("odd", "thing", NULL);
    rm_clock clock = *rm_clock_system();
    rm_metrics_desc desc;
    rm_env env;
    memset(&desc, 0, sizeof desc);
    memset(&env, 0, sizeof env);
    clock.wait_fn = removal_waits;
    env.clock = &clock;
    desc.env = &env;
    REQUIRE(rm_metrics_create(&desc, &metrics, NULL) == RM_OK);
    turn_begin();
    renders = 0;
    second_left = false;
    resource.stats_fn = show_in_turns;
    CHECK_EQ(RM_OK, rm_metrics_add_resource(metrics, &resource, NULL));
    CHECK_EQ(0, rendered("odd"));
    turn_reached(3);
    rm_thread_join(&renderer);
    turn_await(4);
    CHECK_EQ(RM_E_BUSY, rm_metrics_destroy(metrics)); /* the removal is not out yet */
    turn_reached(5);
    rm_thread_join(&remover);
    CHECK_EQ(RM_OK, rm_metrics_destroy(metrics));
    turn_end();
}

/* >>platform ------------------------------------------------------------------------------ */
#ifndef _WIN32

typedef struct maker {
    const char *name;
    rm_status (*make)(void **out, rm_error *error);
    void (*end)(void *object);
    rm_status (*after_fork_child)(void *object); /* NULL = there is none */
} maker;

static rm_virtual_clock made_clock;
static rm_waitq made_queue;
static rm_sem made_sem;
static rm_cancel made_cancel;

static rm_status make_clock(void **out, rm_error *error) {
    (void)error;
    const rm_status status = rm_virtual_clock_init(&made_clock, 0, false);
    if (status == RM_OK) *out = &made_clock;
    return status;
}

static void end_clock(void *object) {
    rm_virtual_clock_destroy((rm_virtual_clock *)object);
}

static rm_status make_queue(void **out, rm_error *error) {
    (void)error;
    const rm_status status = rm_waitq_init(&made_queue, NULL);
    if (status == RM_OK) *out = &made_queue;
    return status;
}

static void end_queue(void *object) {
    CHECK_EQ(RM_OK, rm_waitq_destroy((rm_waitq *)object));
}

static rm_status make_sem(void **out, rm_error *error) {
    (void)error;
    const rm_status status = rm_sem_init(&made_sem, NULL);
    if (status == RM_OK) *out = &made_sem;
    return status;
}

static void end_sem(void *object) {
    CHECK_EQ(RM_OK, rm_sem_destroy((rm_sem *)object));
}

static rm_status make_cancel(void **out, rm_error *error) {
    (void)error;
    const rm_status status = rm_cancel_init(&made_cancel);
    if (status == RM_OK) *out = &made_cancel;
    return status;
}

static void end_cancel(void *object) {
    CHECK_EQ(RM_OK, rm_cancel_destroy((rm_cancel *)object));
}

static rm_status make_registry(void **out, rm_error *error) {
    rm_registry *registry = NULL;
    rm_registry_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.stripes = 2;
    const rm_status status = rm_registry_create(&desc, &registry, error);
    *out = registry;
    return status;
}

static void end_registry(void *object) {
    CHECK_EQ(RM_OK, rm_registry_destroy((rm_registry *)object));
}

static rm_status fork_registry(void *object) {
    return rm_registry_after_fork_child((rm_registry *)object);
}

static rm_status make_manager(void **out, rm_error *error) {
    rm_manager *made = NULL;
    const rm_status status = rm_manager_create(NULL, &made, error);
    *out = made;
    return status;
}

static void end_manager(void *object) {
    CHECK_EQ(RM_OK, rm_manager_destroy((rm_manager *)object));
}

static rm_status fork_manager(void *object) {
    return rm_manager_after_fork_child((rm_manager *)object);
}

static rm_status make_pool(void **out, rm_error *error) {
    rm_pool *made = NULL;
    rm_pool_desc desc = rm_pool_desc_default();
    desc.create_fn = pool_make;
    const rm_status status = rm_pool_create(&desc, &made, error);
    *out = made;
    return status;
}

static void end_pool(void *object) {
    CHECK_EQ(RM_OK, rm_pool_destroy((rm_pool *)object));
}

static rm_status fork_pool(void *object) {
    return rm_pool_after_fork_child((rm_pool *)object);
}

static rm_status make_cache(void **out, rm_error *error) {
    rm_cache *cache = NULL;
    const rm_status status = rm_cache_create(NULL, &cache, error);
    *out = cache;
    return status;
}

static void end_cache(void *object) {
    CHECK_EQ(RM_OK, rm_cache_destroy((rm_cache *)object));
}

static rm_status fork_cache(void *object) {
    return rm_cache_after_fork_child((rm_cache *)object);
}

/* A registry of metrics with a histogram that has two series. */
static rm_status make_metrics(void **out, rm_error *error) {
    static const char *const names[] = {"label"}, *const values[] = {"value"};
    rm_metric_desc desc = rm_metrics_describe(RM_METRIC_HISTOGRAM, "x_seconds", "Help.");
    rm_histogram histogram;
    rm_metrics *made = NULL;
    rm_status status = rm_metrics_create(NULL, &made, error);
    if (status != RM_OK) return status;
    desc.decimals = 9;
    desc.labels = names;
    desc.label_count = 1;
    status = rm_metrics_add(made, &desc, &family, error);
    if (status == RM_OK) status = rm_histogram_with(family, values, 1, &histogram, error);
    if (status == RM_OK)
        *out = made;
    else
        CHECK_EQ(RM_OK, rm_metrics_destroy(made));
    return status;
}

static void end_metrics(void *object) {
    CHECK_EQ(RM_OK, rm_metrics_destroy((rm_metrics *)object));
}

static rm_status fork_metrics(void *object) {
    return rm_metrics_after_fork_child((rm_metrics *)object);
}

static const maker makers[] = {
    {"clock", make_clock, end_clock, NULL},
    {"queue", make_queue, end_queue, NULL},
    {"semaphore", make_sem, end_sem, NULL},
    {"cancel", make_cancel, end_cancel, NULL},
    {"registry", make_registry, end_registry, fork_registry},
    {"manager", make_manager, end_manager, fork_manager},
    {"pool", make_pool, end_pool, fork_pool},
    {"cache", make_cache, end_cache, fork_cache},
    {"metrics", make_metrics, end_metrics, fork_metrics},
};
enum { MAKERS = sizeof makers / sizeof *makers };

TEST(platform, without_the_nth_lock_nothing_is_made_and_nothing_stays) {
    for (int i = 0; i < MAKERS; ++i) {
        const maker *m = &makers[i];
        const int locks = live_locks, blocks = live_blocks;
        void *object = NULL;
        rm_error error;
        int n = 0;
        for (;;) {
            memset(&error, 0, sizeof error);
            refuse(LOCK, ++n);
            const rm_status status = m->make(&object, &error);
            if (!was_refused()) break;
            if (!CHECK_EQ(RM_E_SYSTEM, status)) printf("# the %s's lock %d\n", m->name, n);
            CHECK(error.status == RM_OK || error.status == RM_E_SYSTEM);
            CHECK(object == NULL);
            CHECK_EQ(locks, live_locks);
            CHECK_EQ(blocks, live_blocks);
        }
        CHECK(n > 1);
        REQUIRE(object != NULL);
        m->end(object);
        CHECK_EQ(locks, live_locks);
        CHECK_EQ(blocks, live_blocks);
    }
}

TEST(platform, without_the_nth_lock_a_child_is_told_and_may_try_again) {
    for (int i = 0; i < MAKERS; ++i) {
        const maker *m = &makers[i];
        void *object = NULL;
        int n = 0;
        if (m->after_fork_child == NULL) continue;
        const int before = live_locks;
        REQUIRE(m->make(&object, NULL) == RM_OK);
        const int made = live_locks - before;
        for (;;) {
            const int locks = live_locks;
            refuse(LOCK, ++n);
            const rm_status status = m->after_fork_child(object);
            if (!was_refused()) {
                CHECK_EQ(RM_OK, status);
                CHECK_EQ(made, live_locks - locks); /* all of them are new */
                break;
            }
            if (!CHECK_EQ(RM_E_SYSTEM, status)) printf("# the %s's lock %d\n", m->name, n);
        }
        CHECK(n > 1);
        m->end(object);
    }
    live_locks = 0; /* the child forgot the parent's */
}

TEST(platform, without_a_lock_no_sleep_and_no_wait_begins) {
    const rm_deadline never = {0};
    const int locks = live_locks;
    rm_virtual_clock virtual_clock;
    uint64_t grant;
    REQUIRE(rm_virtual_clock_init(&virtual_clock, 0, false) == RM_OK);
    REQUIRE(rm_cancel_init(&cancel) == RM_OK && rm_waitq_init(&queue, NULL) == RM_OK);
    const rm_clock clock = rm_virtual_clock_clock(&virtual_clock);
    for (int n = 1; n <= 4; ++n) { /* a mutex; a condition variable takes three calls */
        refuse(LOCK, n);
        CHECK_EQ(RM_E_SYSTEM, rm_sleep(&clock, 1, NULL));
        CHECK(was_refused());
        refuse(LOCK, n);
        CHECK_EQ(RM_E_SYSTEM, rm_sleep(&clock, 1, &cancel));
        CHECK(was_refused());
    }
    refuse(LOCK, 1);
    CHECK_EQ(RM_E_SYSTEM, rm_waitq_wait(&queue, NULL, never, NULL, &grant));
    CHECK(was_refused());
    CHECK_EQ(RM_OK, rm_waitq_destroy(&queue)); /* nobody is inside */
    CHECK_EQ(RM_OK, rm_cancel_destroy(&cancel));
    rm_virtual_clock_destroy(&virtual_clock);
    CHECK_EQ(locks, live_locks);
}

static void never_runs(void *user) {
    (void)user;
    CHECK_STR("it ran", "it does not");
}

TEST(platform, without_a_thread_there_is_nothing_to_join) {
    rm_thread thread;
    refuse(THREAD, 1);
    CHECK_EQ(RM_E_SYSTEM, rm_thread_start(&thread, never_runs, NULL));
    CHECK(was_refused());
    rm_thread_join(&thread);
}

TEST(platform, without_a_clock_it_is_time_zero) {
    refuse(CLOCK, 1);
    CHECK_EQ(0, rm_now(NULL));
    refuse(CLOCK, 1);
    CHECK_EQ(0, rm_now_coarse(NULL));
    refuse(CLOCK, 1);
    CHECK_EQ(0, rm_wall(NULL));
    CHECK(was_refused());
    CHECK(rm_now(NULL) > 0);
}

#ifdef __linux__
TEST(platform, without_random_numbers_seeds_still_differ) {
    uint64_t seeds[8];
    for (int i = 0; i < 8; ++i) {
        const int64_t now = rm_now(NULL);
        while (rm_now(NULL) == now) {}
        refuse(RANDOM, 1);
        seeds[i] = rm_random_seed();
        CHECK(was_refused());
        for (int k = 0; k < i; ++k)
            CHECK(seeds[i] != seeds[k]);
    }
}
#endif

TEST(platform, sleeps_on_when_interrupted_and_in_slices_that_fit) {
    const int64_t ns = RM_SEC(3 * 3600) + 5;
    dozed_ns = 0;
    interrupts = 0;
    CHECK_EQ(RM_OK, rm_sleep(NULL, ns, NULL));
    CHECK_EQ(ns, dozed_ns);
    dozed_ns = 0;
    interrupts = 3;
    CHECK_EQ(RM_OK, rm_sleep(NULL, RM_MS(5), NULL));
    CHECK_EQ(RM_MS(5), dozed_ns);
    CHECK_EQ(0, interrupts);
    interrupts = 1;
    CHECK_EQ(RM_E_SYSTEM, rm_sleep(NULL, RM_SEC(1), NULL)); /* no interrupt: it cannot sleep */
}

TEST(platform, that_cannot_print_a_message_leaves_it_empty) {
    rm_error error;
    refuse(TEXT, 1);
    CHECK_EQ(RM_E_AUTH, rm_error_set(&error, RM_E_AUTH, 7, "login", "%d", 1));
    CHECK(was_refused());
    CHECK_STR("", error.message);
    CHECK_STR("login", error.where);
    CHECK(error.status == RM_E_AUTH && error.native == 7);
}

static void remove_without_lock(void *user) {
    (void)user;
    refuse(LOCK, 1);
    CHECK_EQ(RM_E_SYSTEM, rm_metrics_remove_resource(metrics, "odd"));
    CHECK(was_refused());
}

static void show_and_be_removed(void *user, rm_stat_fn visit, void *to) {
    rm_thread thread;
    (void)user;
    if (++renders == 1) {
        CHECK_EQ(RM_OK, rm_thread_start(&thread, remove_without_lock, NULL));
        rm_thread_join(&thread);
    }
    rmi_show(visit, to, RM_STAT_GAUGE, "odd_one", "Help.", NULL, NULL, 1);
}

TEST(platform, without_a_lock_to_wait_on_a_resource_stays_in_the_metrics) {
    rm_resource resource = rm_resource_make("odd", "thing", NULL);
    REQUIRE(rm_metrics_create(NULL, &metrics, NULL) == RM_OK);
    renders = 0;
    resource.stats_fn = show_and_be_removed;
    CHECK_EQ(RM_OK, rm_metrics_add_resource(metrics, &resource, NULL));
    CHECK_EQ(1, rendered("odd_one{resource=\"odd\"} 1\n"));
    CHECK_EQ(1, rendered("odd_one{resource=\"odd\"} 1\n"));
    CHECK_EQ(RM_OK, rm_metrics_remove_resource(metrics, "odd"));
    CHECK_EQ(0, rendered("odd_one"));
    CHECK_EQ(RM_OK, rm_metrics_destroy(metrics));
}
#endif

/* >>small print --------------------------------------------------------------------------- */

TEST(cache, of_a_child_forgets_what_other_threads_had_begun) {
    rm_cache *cache = NULL;
    REQUIRE(rm_cache_create(NULL, &cache, NULL) == RM_OK);
    cache->loading = 1;
    cache->closed = true; /* for its removed_fn, when it ends */
    CHECK_EQ(RM_OK, rm_cache_after_fork_child(cache));
    CHECK_EQ(RM_OK, rm_cache_set(cache, "key", 3, "value", 5, 0, NULL));
    CHECK_EQ(RM_OK, rm_cache_destroy(cache));
}

TEST(cache, bounded_by_bytes_has_a_bucket_for_each_small_entry) {
    rm_cache_desc desc = rm_cache_desc_default();
    rm_cache *cache = NULL;
    desc.max_entries = RM_NONE;
    desc.max_bytes = (int64_t)33 * 2 * RM_CACHE_OVERHEAD;
    REQUIRE(rm_cache_create(&desc, &cache, NULL) == RM_OK);
    CHECK_EQ(64, cache->bucket_count);
    CHECK_EQ(RM_OK, rm_cache_destroy(cache));
}

static char shown_text[2000];

static void note_description(const rm_stat *stat, void *user) {
    static const char *const types[] = {"counter", "gauge", "histogram"};
    rm_text *text = (rm_text *)user;
    rm_text_string(text, types[stat->type]);
    rm_text_string(text, " ");
    rm_text_string(text, stat->name);
    if (stat->label != NULL) {
        rm_text_string(text, " ");
        rm_text_string(text, stat->label);
        rm_text_string(text, "=");
        rm_text_string(text, stat->label_value);
    }
    rm_text_string(text, ": ");
    rm_text_string(text, stat->help);
    rm_text_string(text, "\n");
}

static const char *descriptions(rm_resource resource) {
    rm_text text = rm_text_make(shown_text, sizeof shown_text - 1);
    resource.stats_fn(resource.user, note_description, &text);
    shown_text[text.used] = '\0';
    return shown_text;
}

TEST(pool, says_what_its_statistics_are) {
    rm_pool_desc desc = rm_pool_desc_default();
    rm_pool *made = NULL;
    desc.create_fn = pool_make_or_not;
    REQUIRE(rm_pool_create(&desc, &made, NULL) == RM_OK);
    CHECK_STR("gauge rm_pool_resources state=in_use: Resources by state.\n"
              "gauge rm_pool_resources state=idle: Resources by state.\n"
              "gauge rm_pool_resources state=creating: Resources by state.\n"
              "gauge rm_pool_resources state=checking: Resources by state.\n"
              "gauge rm_pool_resources state=closing: Resources by state.\n"
              "gauge rm_pool_max: Resources kept at most.\n"
              "gauge rm_pool_waiting: Acquires in the queue.\n"
              "counter rm_pool_acquired_total: Leases.\n"
              "counter rm_pool_timeouts_total: Acquires that ended without a resource in "
              "time.\n"
              "counter rm_pool_cancelled_total: Acquires that were cancelled.\n"
              "counter rm_pool_refused_total: Acquires turned away by the bound on waiters.\n"
              "counter rm_pool_rejected_total: Acquires refused by the guard.\n"
              "counter rm_pool_failed_fast_total: Acquires given the last create error "
              "without a try.\n"
              "counter rm_pool_created_total: Resources made.\n"
              "counter rm_pool_create_failures_total: Failed creates.\n"
              "counter rm_pool_destroyed_total cause=broken: Resources ended.\n"
              "counter rm_pool_destroyed_total cause=reset: Resources ended.\n"
              "counter rm_pool_destroyed_total cause=invalid: Resources ended.\n"
              "counter rm_pool_destroyed_total cause=idle: Resources ended.\n"
              "counter rm_pool_destroyed_total cause=lifetime: Resources ended.\n"
              "counter rm_pool_destroyed_total cause=evicted: Resources ended.\n"
              "counter rm_pool_destroyed_total cause=surplus: Resources ended.\n"
              "counter rm_pool_destroyed_total cause=closed: Resources ended.\n"
              "counter rm_pool_detached_total: Resources that left with their holder.\n"
              "counter rm_pool_reclaimed_total: Leases taken from their holder.\n"
              "counter rm_pool_leaks_total: Leases held for too long.\n"
              "histogram rm_pool_wait_seconds: Time that acquires waited in the queue, "
              "timeouts included.\n"
              "histogram rm_pool_create_seconds: Time of create_fn, failed ones included.\n",
              descriptions(rm_pool_resource(made)));
    CHECK_EQ(RM_OK, rm_pool_destroy(made));
}

TEST(pool, says_what_the_statistics_of_its_endpoints_are) {
    static const rm_pool_endpoint endpoint = {"a", NULL, NULL};
    rm_pool_desc desc = rm_pool_desc_default();
    rm_pool *made = NULL;
    desc.create_fn = pool_make_or_not;
    desc.endpoints = &endpoint;
    desc.endpoint_count = 1;
    REQUIRE(rm_pool_create(&desc, &made, NULL) == RM_OK);
    CHECK(strstr(descriptions(rm_pool_resource(made)),
                 "gauge rm_pool_endpoint_resources endpoint=a: Resources by endpoint.\n"
                 "gauge rm_pool_endpoint_up endpoint=a: 1 unless its creates fail or its "
                 "guard refuses.\n") != NULL);
    CHECK_EQ(RM_OK, rm_pool_destroy(made));
}

TEST(cache, says_what_its_statistics_are) {
    rm_cache *cache = NULL;
    REQUIRE(rm_cache_create(NULL, &cache, NULL) == RM_OK);
    CHECK_STR("counter rm_cache_hits_total: Look-ups that found a value.\n"
              "counter rm_cache_misses_total: Look-ups that found none.\n"
              "counter rm_cache_sets_total: Values set.\n"
              "counter rm_cache_loads_total: Loads.\n"
              "counter rm_cache_load_failures_total: Failed loads.\n"
              "counter rm_cache_load_waits_total: Calls that waited for another's load.\n"
              "counter rm_cache_removed_total cause=evicted: Entries removed.\n"
              "counter rm_cache_removed_total cause=expired: Entries removed.\n"
              "counter rm_cache_removed_total cause=replaced: Entries removed.\n"
              "counter rm_cache_removed_total cause=deleted: Entries removed.\n"
              "counter rm_cache_removed_total cause=cleared: Entries removed.\n"
              "counter rm_cache_removed_total cause=refused: Entries removed.\n"
              "gauge rm_cache_entries: Entries.\n"
              "gauge rm_cache_bytes: Bytes charged.\n"
              "gauge rm_cache_pins: Pins that are out.\n"
              "histogram rm_cache_load_seconds: Time of loads, failed ones included.\n",
              descriptions(rm_cache_resource(cache)));
    CHECK_EQ(RM_OK, rm_cache_destroy(cache));
}

TEST(breaker, says_what_its_statistics_are) {
    rm_breaker *made = NULL;
    REQUIRE(rm_breaker_create(NULL, &made, NULL) == RM_OK);
    CHECK_STR("gauge rm_breaker_state state=closed: 1 for the state the breaker is in.\n"
              "gauge rm_breaker_state state=open: 1 for the state the breaker is in.\n"
              "gauge rm_breaker_state state=half_open: 1 for the state the breaker is in.\n"
              "gauge rm_breaker_consecutive_failures: Failures on record while closed.\n"
              "counter rm_breaker_opened_total: Transitions to open.\n"
              "counter rm_breaker_rejected_total: Calls refused.\n"
              "counter rm_breaker_failures_total: Calls that failed.\n"
              "counter rm_breaker_ignored_total: Calls whose outcome was ignored.\n"
              "counter rm_breaker_late_total: Results too late to count.\n"
              "counter rm_breaker_probes_total: Calls let through as probes.\n"
              "counter rm_breaker_probe_successes_total: Probes that succeeded.\n"
              "counter rm_breaker_lost_total: Probes that were not reported in time.\n"
              "counter rm_breaker_fallbacks_total: Calls answered by the fallback.\n",
              descriptions(rm_breaker_resource(made)));
    rm_breaker_destroy(made);
}

/* What a refusal says: where and message. */
static const char *said(rm_status status, const rm_error *error) {
    rm_text text = rm_text_make(shown_text, sizeof shown_text - 1);
    CHECK(status == RM_E_INVALID || status == RM_E_TOO_LARGE);
    check_refusal(status, error);
    rm_text_string(&text, error->where);
    rm_text_string(&text, ": ");
    rm_text_string(&text, error->message);
    shown_text[text.used] = '\0';
    return shown_text;
}

/* What make says of a desc with another value in one field. */
#define CHECK_SAYS(text, type, start, make, field, value)   \
    do {                                                    \
        type desc = start();                                \
        rm_error error;                                     \
        desc.field = value;                                 \
        CHECK_STR(text, said(make(&desc, &error), &error)); \
    } while (0)

static char long_text[1025];

static const char *text_of(size_t length) {
    memset(long_text, 'a', length);
    long_text[length] = '\0';
    return long_text;
}

static rm_pool_desc pool_setting(void) {
    rm_pool_desc desc = rm_pool_desc_default();
    desc.create_fn = pool_make_or_not;
    return desc;
}

static rm_status pool_create(const rm_pool_desc *desc, rm_error *error) {
    return rm_pool_create(desc, &pool, error);
}

TEST(pool, says_what_a_setting_must_be) {
    static const rm_guard half = {NULL, NULL, NULL};
#define SAYS(text, field, value) \
    CHECK_SAYS(text, rm_pool_desc, pool_setting, pool_create, field, value)
    SAYS("create_fn: must be set", create_fn, NULL);
    SAYS("max: must be at most 65535", max, 65536);
    SAYS("max: must be at most capacity, with overflow", capacity, 9);
    SAYS("overflow: must be at most 65535 with max", overflow, 65526);
    SAYS("overflow: must be at most 65535 with max", overflow, UINT32_MAX);
    SAYS("min_idle: must be at most max", min_idle, 11);
    SAYS("max_idle: must be at most max", max_idle, 11);
    SAYS("capacity: must be at most 65535", capacity, 65536);
    SAYS("acquire_timeout_ns: must be a time, RM_NOWAIT or RM_FOREVER", acquire_timeout_ns, -9);
    SAYS("idle_timeout_ns: must be a time or RM_NONE", idle_timeout_ns, -9);
    SAYS("validate_after_ns: must be a time, RM_STRICT or RM_NONE", validate_after_ns, -9);
    SAYS("barge_ns: must be a time or RM_STRICT", barge_ns, -9);
    SAYS("grow_after_ns: must be a time", grow_after_ns, -1);
    SAYS("create_backoff_ns: must be a time or RM_NONE", create_backoff_ns, -9);
    SAYS("create_backoff_max_ns: must be a time", create_backoff_max_ns, -1);
    SAYS("max_lifetime_ns: must be a time", max_lifetime_ns, -1);
    SAYS("lifetime_jitter: must be 0 to 100 percent or RM_NONE", lifetime_jitter, 101);
    SAYS("keepalive_ns: must be a time", keepalive_ns, -1);
    SAYS("validate_fn: must be set, for keepalive_ns", keepalive_ns, 1);
    SAYS("leak_after_ns: must be a time", leak_after_ns, -1);
    SAYS("reclaim_after_ns: must be a time", reclaim_after_ns, -1);
    SAYS("reclaim_fn: must be set, for reclaim_after_ns", reclaim_after_ns, 1);
    SAYS("maintain_every_ns: must be a time", maintain_every_ns, -1);
    SAYS("guard: must be given both callbacks", guard, &half);
    SAYS("endpoint_count: must be at most 64", endpoint_count, 65);
    SAYS("endpoints: must be given together with endpoint_count", endpoint_count, 1);
    SAYS("balance: must be one of rm_pool_balance", balance, (rm_pool_balance)2);
    SAYS("memory: must be given together with memory_size", memory_size, 1);
    SAYS("name: must be 1 to 47 bytes, or NULL for the default", name, "");
    SAYS("name: must be at most 47 bytes", name, text_of(48));
#undef SAYS
}

TEST(pool, says_what_an_endpoint_must_have) {
    static const rm_guard half = {NULL, NULL, NULL};
    static const struct {
        const char *text;
        rm_pool_endpoint endpoint;
    } cases[] = {{"endpoints: must be given a name each", {NULL, NULL, NULL}},
                 {"endpoints: must be given names of 1 to 47 bytes", {"", NULL, NULL}},
                 {"endpoints: must be given both callbacks of each guard", {"a", &half, NULL}}};
    rm_pool_desc desc = pool_setting();
    rm_error error;
    uint32_t i;
    desc.endpoint_count = 1;
    for (i = 0; i < 3; ++i) {
        desc.endpoints = &cases[i].endpoint;
        CHECK_STR(cases[i].text, said(pool_create(&desc, &error), &error));
    }
}

static rm_cache_desc cache_setting(void) {
    rm_cache_desc desc = rm_cache_desc_default();
    desc.max_bytes = RM_NONE;
    return desc;
}

static rm_status cache_create(const rm_cache_desc *desc, rm_error *error) {
    return rm_cache_create(desc, &filled, error);
}

TEST(cache, says_what_a_setting_must_be) {
    static const rm_guard half = {NULL, NULL, NULL};
#define SAYS(text, field, value) \
    CHECK_SAYS(text, rm_cache_desc, cache_setting, cache_create, field, value)
    SAYS("max_entries: must be at most 2^31, or RM_NONE", max_entries, INT64_MAX);
    SAYS("max_entries: must be a number when max_bytes is RM_NONE", max_entries, RM_NONE);
    SAYS("max_bytes: must be a number of bytes or RM_NONE", max_bytes, -9);
    SAYS("ttl_ns: must be a time or RM_NONE", ttl_ns, -9);
    SAYS("max_pins: must be at most 2^24", max_pins, (1u << 24) + 1);
    SAYS("guard: must be given both callbacks", guard, &half);
#undef SAYS
}

static rm_status breaker_create(const rm_breaker_desc *desc, rm_error *error) {
    rm_breaker *made = NULL;
    return rm_breaker_create(desc, &made, error);
}

TEST(breaker, says_what_a_setting_must_be) {
#define SAYS(text, field, value) \
    CHECK_SAYS(text, rm_breaker_desc, rm_breaker_desc_default, breaker_create, field, value)
    SAYS("name: must be 0 (breaker) or 1 to 47 bytes", name, "");
    SAYS("name: must be at most 47 bytes", name, text_of(48));
    SAYS("open_ns: must be 0 (30 s) or up to 365 days", open_ns, -9);
    SAYS("probe_wait_ns: must be 0 (open_ns), up to 365 days, or RM_FOREVER", probe_wait_ns, -9);
    SAYS("probes: must be at most 4095", probes, 4096);
    SAYS("probe_successes: must be at most 4095", probe_successes, 4096);
    SAYS("open_jitter_permille: must be 0 (100), 1 to 1000, or RM_NONE", open_jitter_permille, -9);
#undef SAYS
}

static rm_status retry_begin(const rm_retry_desc *desc, rm_error *error) {
    rm_retry retry;
    return rm_retry_begin(&retry, desc, rm_deadline_after(NULL, RM_SEC(1)), error);
}

TEST(retry, says_what_a_setting_must_be) {
#define SAYS(text, field, value) \
    CHECK_SAYS(text, rm_retry_desc, rm_retry_desc_default, retry_begin, field, value)
    SAYS("cap_ns: must be 0 (30 s) or longer", cap_ns, -9);
    SAYS("base_ns: must be 0 (1 s), up to cap_ns, or RM_NONE", base_ns, -9);
    SAYS("max_retry_after_ns: must be 0 (5 min), longer, or RM_NONE", max_retry_after_ns, -9);
    SAYS("max_retries: must be 0 (3), more, or RM_NONE", max_retries, -9);
    SAYS("jitter: must be an rm_jitter", jitter, (rm_jitter)9);
#undef SAYS
}

static const char *label_names[2];

static rm_metric_desc metric_setting(void) {
    rm_metric_desc desc = rm_metrics_describe(RM_METRIC_COUNTER, "m", "Help.");
    desc.labels = label_names;
    return desc;
}

static rm_status metric_add(const rm_metric_desc *desc, rm_error *error) {
    return rm_metrics_add(metrics, desc, &family, error);
}

TEST(metrics, say_what_a_setting_must_be) {
    static const int64_t bounds[] = {1, 5};
    REQUIRE(rm_metrics_create(NULL, &metrics, NULL) == RM_OK);
    label_names[0] = label_names[1] = "k";
#define SAYS(text, field, value) \
    CHECK_SAYS(text, rm_metric_desc, metric_setting, metric_add, field, value)
    SAYS("name: must match [a-zA-Z_:][a-zA-Z0-9_:]*", name, "1");
    SAYS("name: over 127 bytes long", name, text_of(128));
    SAYS("help: m needs a help text", help, "");
    SAYS("help: over 1023 bytes long", help, text_of(1024));
    SAYS("type: 9 is none", type, (rm_metric_type)9);
    SAYS("decimals: at most 18", decimals, 19);
    SAYS("decimals: for histograms only", decimals, 9);
    SAYS("bound_count: at most 64", bound_count, 65);
    SAYS("bounds: bounds and bound_count do not agree", bounds, bounds);
    SAYS("bins: for histograms only", bins.per_decade, 32);
    SAYS("label_count: at most 8", label_count, 9);
    SAYS("labels: k is there twice", label_count, 2);
    label_names[1] = "1";
    SAYS("labels: labels[1] is no label name, or one that is reserved", label_count, 2);
    label_names[1] = text_of(128);
    SAYS("labels: labels[1] is over 127 bytes long", label_count, 2);
    label_names[1] = NULL;
    SAYS("labels: labels[1] is NULL", label_count, 2);
#undef SAYS
    rm_metric_desc desc = metric_setting();
    rm_error error;
    desc.labels = NULL;
    desc.label_count = 1;
    CHECK_STR("labels: NULL, but label_count is not 0", said(metric_add(&desc, &error), &error));
    desc.bounds = bounds;
    desc.bound_count = 2;
    CHECK_STR("bounds: for histograms only", said(metric_add(&desc, &error), &error));
    CHECK_EQ(RM_OK, rm_metrics_destroy(metrics));
}

static const rm_hist *bins_for(const int64_t *bounds, uint32_t count) {
    rm_metric_desc desc = rm_metrics_describe(RM_METRIC_HISTOGRAM, "h", "Help.");
    desc.bounds = bounds;
    desc.bound_count = count;
    CHECK_EQ(RM_OK, rm_metrics_add(metrics, &desc, &family, NULL));
    return &rmi_metrics_stripe_at(family->fixed, 0)->hist;
}

TEST(metrics, have_bins_from_below_the_first_bound_to_above_the_last) {
    static const int64_t bounds[] = {1000000, 1000000000};
    REQUIRE(rm_metrics_create(NULL, &metrics, NULL) == RM_OK);
    const rm_hist *hist = bins_for(bounds, 2);
    CHECK_EQ(3, hist->first);
    CHECK_EQ(10, hist->last);
    CHECK_EQ(RM_OK, rm_metrics_destroy(metrics));
}

static int64_t *const *pool_times(rm_pool_desc *desc) {
    static int64_t *times[4];
    times[0] = &desc->acquire_timeout_ns;
    times[1] = &desc->idle_timeout_ns;
    times[2] = &desc->validate_after_ns;
    times[3] = &desc->barge_ns;
    return times;
}

TEST(pool, has_a_default_for_each_time_that_is_zero) {
    for (int given = 0; given < 4; ++given) {
        rm_pool_desc desc = pool_setting(), expected = pool_setting();
        for (int i = 0; i < 4; ++i)
            *pool_times(&desc)[i] = i == given ? 7 : 0;
        *pool_times(&expected)[given] = 7;
        REQUIRE(rm_pool_create(&desc, &pool, NULL) == RM_OK);
        CHECK_EQ(expected.acquire_timeout_ns, pool->desc.acquire_timeout_ns);
        CHECK_EQ(expected.idle_timeout_ns, pool->desc.idle_timeout_ns);
        CHECK_EQ(expected.validate_after_ns, pool->desc.validate_after_ns);
        CHECK_EQ(expected.barge_ns, pool->desc.barge_ns);
        CHECK_EQ(RM_OK, rm_pool_destroy(pool));
    }
}

static const char *counted_state; /* the one that one resource is in, as the statistics say */

static void note_state(const rm_stat *stat, void *user) {
    (void)user;
    if (stat->label_value == NULL || stat->value == 0) return;
    CHECK(stat->value == 1 && counted_state == NULL);
    counted_state = stat->label_value;
}

static const char *pool_state(void) {
    const rm_resource resource = rm_pool_resource(pool);
    counted_state = NULL;
    resource.stats_fn(resource.user, note_state, NULL);
    return counted_state;
}

static rm_status make_and_look(void **resource, rm_deadline deadline, rm_error *error, void *user) {
    (void)deadline, (void)error, (void)user;
    CHECK_STR("creating", pool_state());
    *resource = &counted_state;
    return RM_OK;
}

static void end_and_look(void *resource, void *user) {
    (void)resource, (void)user;
    CHECK_STR("closing", pool_state());
}

TEST(pool, shows_a_resource_in_each_of_its_states) {
    rm_pool_desc desc = pool_setting();
    rm_lease lease;
    desc.create_fn = make_and_look;
    desc.destroy_fn = end_and_look;
    REQUIRE(rm_pool_create(&desc, &pool, NULL) == RM_OK);
    REQUIRE(rm_pool_acquire(pool, RM_NOWAIT, &lease, NULL) == RM_OK);
    CHECK_STR("in_use", pool_state());
    CHECK_EQ(RM_OK, rm_pool_release(pool, &lease, RM_RELEASE_OK));
    CHECK_STR("idle", pool_state());
    CHECK_EQ(RM_OK, rm_pool_destroy(pool));
}

TEST(pool, that_is_missing_is_refused_with_a_reason) {
    const rm_deadline soon = rm_deadline_after(NULL, RM_SEC(1));
    const rm_pool_sizes sizes = {1, 0, 0, 0};
    const rm_pools_desc desc = {0};
    rm_pool *made = NULL;
    rm_pool_request request;
    rm_pools_request keyed_request;
    rm_lease lease;
    rm_pools_lease keyed;
    rm_error error;
#define SAYS(text, call) CHECK_STR(text, said(call, &error))
    SAYS("rm_pool_desc: desc or out is NULL", rm_pool_create(NULL, &made, &error));
    SAYS("pool: pool is NULL", rm_pool_maintain(NULL, 0, soon, &error));
    SAYS("pool: pool is NULL", rm_pool_close(NULL, 0, &error));
    SAYS("pool: pool is NULL", rm_pool_prewarm(NULL, 1, soon, NULL, &error));
    SAYS("pool: pool or sizes is NULL", rm_pool_resize(NULL, &sizes, &error));
    SAYS("pool: pool or out is NULL", rm_pool_acquire(NULL, RM_NOWAIT, &lease, &error));
    SAYS("pool: pool or out is NULL", rm_pool_acquire_until(NULL, soon, NULL, &lease, &error));
    SAYS("pool: pool, request or acquired_fn is NULL",
         rm_pool_acquire_async(NULL, &request, soon, NULL, NULL, &error, NULL));
    SAYS("use_fn: use_fn is NULL", rm_pool_with(NULL, soon, NULL, &error, NULL));
    SAYS("rm_pools_desc: desc or out is NULL", rm_pools_create(&desc, NULL, &error));
    SAYS("pools: pools is NULL", rm_pools_maintain(NULL, 0, soon, &error));
    SAYS("pools: pools is NULL", rm_pools_close(NULL, 0, &error));
    SAYS("pools: pools or out is NULL", rm_pools_acquire(NULL, "k", 1, soon, NULL, &keyed, &error));
    SAYS("pools: pools, request or acquired_fn is NULL",
         rm_pools_acquire_async(NULL, &keyed_request, "k", 1, soon, NULL, NULL, &error, NULL));
#undef SAYS
}

TEST(pool, says_which_timeouts_there_are) {
    const char *const text = "timeout_ns: -9 is no timeout: a time, RM_NOWAIT or RM_FOREVER";
    const rm_pool_desc desc = pool_setting();
    rm_pools_desc keyed = {0};
    rm_pools *pools = NULL;
    rm_pool *made = NULL;
    rm_lease lease;
    rm_error error;
    keyed.pool = desc;
    REQUIRE(rm_pool_create(&desc, &made, NULL) == RM_OK);
    REQUIRE(rm_pools_create(&keyed, &pools, NULL) == RM_OK);
    CHECK_STR(text, said(rm_pool_acquire(made, -9, &lease, &error), &error));
    CHECK_STR(text, said(rm_pool_close(made, -9, &error), &error));
    CHECK_STR(text, said(rm_pools_close(pools, -9, &error), &error));
    CHECK_EQ(RM_OK, rm_pool_destroy(made));
    CHECK_EQ(RM_OK, rm_pools_destroy(pools));
}

static rm_pools_desc pools_setting(void) {
    rm_pools_desc desc = {0};
    desc.pool = pool_setting();
    return desc;
}

static rm_status pools_create(const rm_pools_desc *desc, rm_error *error) {
    rm_pools *pools = NULL;
    return rm_pools_create(desc, &pools, error);
}

TEST(pools, say_what_a_setting_must_be) {
    char memory[16];
#define SAYS(text, field, value) \
    CHECK_SAYS(text, rm_pools_desc, pools_setting, pools_create, field, value)
    SAYS("create_fn: must be set", pool.create_fn, NULL);
    SAYS("memory: must be 0: each pool takes its own", pool.memory, memory);
    SAYS("max_keys: must be at most 2^24", max_keys, (1u << 24) + 1);
#undef SAYS
}

TEST(pools, say_what_their_statistics_are) {
    const rm_pools_desc desc = pools_setting();
    rm_pools *pools = NULL;
    REQUIRE(rm_pools_create(&desc, &pools, NULL) == RM_OK);
    CHECK_STR("gauge rm_pools_keys: Keys that have a pool.\n"
              "gauge rm_pools_resources: Resources of all keys.\n"
              "gauge rm_pools_waiting: Acquires in the queues of all keys.\n",
              descriptions(rm_pools_resource(pools)));
    CHECK_EQ(RM_OK, rm_pools_destroy(pools));
}

TEST_MAIN

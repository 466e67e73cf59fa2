/* What borrowing from a pool costs: rm_pool.h, apr_reslist and GAsyncQueue (where their headers are
   found), and two floors below which no pool gets: a mutex taken on acquire and on release, and a
   compare-and-swap with an exchange on a word of the thread's own.

   Prints lines of area, case, threads, implementation, metric, value. Cases: pairs of acquire and
   release on a pool of 10, and of 32 with 8 threads; and 8 threads that hold one of 4 for 100 us.
   ns_per_op is wall time by all pairs of all threads. wait_*_ns is the time in acquire, fairness
   the most pairs of a thread by the least until the first is done with its share. Values are
   medians of interleaved repetitions, for pairs of that quarter which other processes disturbed
   least. cpu_share_percent is the processor time that the threads had of what they could have had:
   below 85 the lines of pairs say little; for those that hold it is the price of waiting. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define RM_IMPLEMENTATION
#include "rm_pool.h"

#ifdef __has_include
#if __has_include(<apr_reslist.h>)
#define HAVE_APR
#include <apr_general.h>
#include <apr_reslist.h>
#endif
#if __has_include(<glib.h>)
#define HAVE_GLIB
#include <glib.h>
#endif
#endif

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { REPETITIONS = 20, KEPT = 5, HOLD_REPETITIONS = 10 };
enum { THREADS_MAX = 8, SAMPLES_MAX = 256, ITEMS_MAX = 32 };

#define HOLD_NS 100000

static char items[ITEMS_MAX]; /* what the pools lend */
static uint32_t items_used;

static void *new_item(void) {
    return &items[__atomic_fetch_add(&items_used, 1u, __ATOMIC_RELAXED) % ITEMS_MAX];
}

static void need(bool ok) {
    if (!ok) abort();
}

/* ---- the pools: each has open, close, acquire and release; `h` is what the holder keeps ---- */

static rm_pool *rm;

static rm_status rm_make(void **resource, rm_deadline deadline, rm_error *error, void *user) {
    (void)deadline, (void)error, (void)user;
    *resource = new_item();
    return RM_OK;
}

static void rm_open(uint32_t max, bool strict) {
    rm_pool_desc desc = rm_pool_desc_default();
    desc.create_fn = rm_make;
    desc.max = max;
    if (strict) desc.barge_ns = RM_STRICT;
    need(rm_pool_create(&desc, &rm, NULL) == RM_OK);
}

static void rm_pool_open(uint32_t max) {
    rm_open(max, false);
}

static void rm_pool_strict_open(uint32_t max) {
    rm_open(max, true);
}

static void rm_pool_end(void) {
    need(rm_pool_destroy(rm) == RM_OK);
}

#define rm_pool_strict_end rm_pool_end
#define RM_TAKE(h) need(rm_pool_acquire(rm, RM_FOREVER, &(h).lease, NULL) == RM_OK)
#define RM_GIVE(h) need(rm_pool_release(rm, &(h).lease, RM_RELEASE_OK) == RM_OK)

#ifdef HAVE_APR
static apr_reslist_t *apr;
static apr_pool_t *apr_memory;

static apr_status_t apr_make(void **resource, void *params, apr_pool_t *memory) {
    (void)params, (void)memory;
    *resource = new_item();
    return APR_SUCCESS;
}

static apr_status_t apr_unmake(void *resource, void *params, apr_pool_t *memory) {
    (void)resource, (void)params, (void)memory;
    return APR_SUCCESS;
}

static void apr_open(uint32_t max, apr_interval_time_t ttl) {
    need(apr_pool_create(&apr_memory, NULL) == APR_SUCCESS);
    need(apr_reslist_create(&apr, 0, (int)max, (int)max, ttl, apr_make, apr_unmake, NULL,
                            apr_memory) == APR_SUCCESS);
}

static void apr_reslist_open(uint32_t max) {
    apr_open(max, 0);
}

static void apr_reslist_ttl_open(uint32_t max) {
    apr_open(max, apr_time_from_sec(60));
}

static void apr_reslist_end(void) {
    apr_pool_destroy(apr_memory);
}

#define apr_reslist_ttl_end apr_reslist_end
#define APR_TAKE(h) need(apr_reslist_acquire(apr, &(h).item) == APR_SUCCESS)
#define APR_GIVE(h) need(apr_reslist_release(apr, (h).item) == APR_SUCCESS)
#endif

#ifdef HAVE_GLIB
static GAsyncQueue *queue;

static void g_async_queue_open(uint32_t max) {
    queue = g_async_queue_new();
    while (max-- > 0)
        g_async_queue_push(queue, new_item());
}

static void g_async_queue_end(void) {
    g_async_queue_unref(queue);
}

#define GLIB_TAKE(h) ((h).item = g_async_queue_pop(queue))
#define GLIB_GIVE(h) g_async_queue_push(queue, (h).item)
#endif

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static uint32_t guarded;

static void floor_open(uint32_t max) {
    (void)max;
}

static void floor_end(void) {}

#define MUTEX_TAKE(h) \
    (pthread_mutex_lock(&mutex), ++guarded, (void)(h), pthread_mutex_unlock(&mutex))
#define MUTEX_GIVE(h) \
    (pthread_mutex_lock(&mutex), --guarded, (void)(h), pthread_mutex_unlock(&mutex))

typedef struct own_word {
    RMI_ALIGN(64) uint64_t word;
} own_word;

static own_word words[THREADS_MAX];

#define CAS_TAKE(h)                                                                                \
    ((h).seen = 0, need(__atomic_compare_exchange_n(&words[(h).thread].word, &(h).seen, 1u, false, \
                                                    __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)))
#define CAS_GIVE(h) need(__atomic_exchange_n(&words[(h).thread].word, 0u, __ATOMIC_SEQ_CST) == 1u)

/* ---- the threads ---- */

typedef struct runner {
    pthread_t thread;
    uint32_t number, threads;
    bool alone;                       /* there is a processor for each thread */
    uint64_t pairs, done, done_first; /* done_first: when the first thread was done */
    int64_t begin, end, cpu;
    int64_t *waits; /* NULL = do not hold */
    void (*run)(struct runner *r);
} runner;

typedef struct handle {
    rm_lease lease;
    void *item;
    uint64_t seen;
    uint32_t thread;
} handle;

static pthread_barrier_t barrier;
static uint32_t ready;      /* threads that are there */
static uint32_t first_done; /* some thread has done its share */
static runner runners[THREADS_MAX];

static int64_t clock_ns(clockid_t id) {
    struct timespec t;
    need(clock_gettime(id, &t) == 0);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void hold(void) {
    const struct timespec t = {0, HOLD_NS};
    need(nanosleep(&t, NULL) == 0);
}

/* The loop of a thread, made for each pool, so that no call goes through a pointer. */
#define POOL(name, TAKE, GIVE)                                                  \
    static void name##_run(runner *r) {                                         \
        handle h = {{NULL, 0, 0, 0}, NULL, 0, r->number};                       \
        for (uint64_t i = 0; i < r->pairs && r->waits == NULL; ++i) {           \
            TAKE(h);                                                            \
            GIVE(h);                                                            \
        }                                                                       \
        for (uint64_t i = 0; i < r->pairs && r->waits != NULL; ++i) {           \
            const int64_t before = clock_ns(CLOCK_MONOTONIC);                   \
            TAKE(h);                                                            \
            r->waits[i] = clock_ns(CLOCK_MONOTONIC) - before;                   \
            hold();                                                             \
            GIVE(h);                                                            \
            if (__atomic_load_n(&first_done, __ATOMIC_RELAXED) == 0) ++r->done; \
        }                                                                       \
        __atomic_store_n(&first_done, 1u, __ATOMIC_RELAXED);                    \
    }

POOL(rm_pool, RM_TAKE, RM_GIVE)
#define rm_pool_strict_run rm_pool_run
#ifdef HAVE_APR
POOL(apr_reslist, APR_TAKE, APR_GIVE)
#define apr_reslist_ttl_run apr_reslist_run
#endif
#ifdef HAVE_GLIB
POOL(g_async_queue, GLIB_TAKE, GLIB_GIVE)
#endif
POOL(floor_mutex, MUTEX_TAKE, MUTEX_GIVE)
POOL(floor_cas_exchange, CAS_TAKE, CAS_GIVE)
#define floor_mutex_open floor_open
#define floor_mutex_end floor_end
#define floor_cas_exchange_open floor_open
#define floor_cas_exchange_end floor_end

/* ---- the cases ---- */

typedef struct result {
    double ns, share, fairness, p50, p99, longest;
} result;

typedef struct implementation {
    const char *name;
    void (*open)(uint32_t max);
    void (*run)(runner *r);
    void (*end)(void);
    bool pool; /* not a floor */
} implementation;

#define IMPLEMENTATION(name, pool) \
    { #name, name##_open, name##_run, name##_end, pool }

static const implementation implementations[] = {
    IMPLEMENTATION(rm_pool, true),       IMPLEMENTATION(rm_pool_strict, true),
#ifdef HAVE_APR
    IMPLEMENTATION(apr_reslist, true),   IMPLEMENTATION(apr_reslist_ttl, true),
#endif
#ifdef HAVE_GLIB
    IMPLEMENTATION(g_async_queue, true),
#endif
    IMPLEMENTATION(floor_mutex, false),  IMPLEMENTATION(floor_cas_exchange, false)};

enum { IMPLEMENTATIONS = sizeof implementations / sizeof *implementations };

static const struct bench {
    const char *name;
    uint32_t max, threads;
    uint64_t pairs; /* of each thread */
    bool holds;
} benches[] = {{"pairs_pool_10", 10, 1, 50000, false},
               {"pairs_pool_10", 10, 2, 100000, false},
               {"pairs_pool_32", 32, 8, 50000, false},
               {"hold_100us_pool_4", 4, 8, 200, true}};

enum { BENCHES = sizeof benches / sizeof *benches };

static result results[BENCHES][IMPLEMENTATIONS][REPETITIONS];

/* Where there are enough processors each thread has its own, and they begin within a microsecond:
   else the first would be done before the second runs. */
static void line_up(const runner *r) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)r->number, &set);
    if (r->alone) (void)sched_setaffinity(0, sizeof set, &set);
    (void)pthread_barrier_wait(&barrier);
    (void)__atomic_add_fetch(&ready, 1u, __ATOMIC_ACQ_REL);
    while (r->alone && __atomic_load_n(&ready, __ATOMIC_ACQUIRE) < r->threads) {}
}

static void *start(void *user) {
    runner *r = (runner *)user;
    line_up(r);
    r->begin = clock_ns(CLOCK_MONOTONIC);
    r->cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    r->run(r);
    r->cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID) - r->cpu;
    r->end = clock_ns(CLOCK_MONOTONIC);
    return NULL;
}

static int by_time(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void add_waits(result *to, int64_t *waits, uint64_t count) {
    qsort(waits, count, sizeof *waits, by_time);
    to->p50 = (double)waits[count / 2];
    to->p99 = (double)waits[count * 99 / 100];
    to->longest = (double)waits[count - 1];
}

static result measure(const struct bench *b, const implementation *from) {
    static int64_t waits[THREADS_MAX * SAMPLES_MAX];
    const uint64_t pairs = b->threads * b->pairs;
    const uint32_t cores = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
    int64_t begin = INT64_MAX, end = 0, cpu = 0;
    uint64_t most = 0, least = UINT64_MAX;
    result all = {0, 0, 0, 0, 0, 0};
    ready = first_done = 0;
    from->open(b->max);
    need(pthread_barrier_init(&barrier, NULL, b->threads) == 0);
    for (uint32_t i = 0; i < b->threads; ++i) {
        runner *r = &runners[i];
        memset(r, 0, sizeof *r);
        r->number = i;
        r->threads = b->threads;
        r->alone = b->threads <= cores;
        r->pairs = b->pairs;
        r->run = from->run;
        if (b->holds) r->waits = &waits[i * b->pairs];
        need(pthread_create(&r->thread, NULL, start, r) == 0);
    }
    for (uint32_t i = 0; i < b->threads; ++i) {
        const runner *r = &runners[i];
        need(pthread_join(r->thread, NULL) == 0);
        if (r->begin < begin) begin = r->begin;
        if (r->end > end) end = r->end;
        if (r->done > most) most = r->done;
        if (r->done < least) least = r->done;
        cpu += r->cpu;
    }
    need(pthread_barrier_destroy(&barrier) == 0);
    from->end();
    all.ns = (double)(end - begin) / (double)pairs;
    all.share =
        100.0 * (double)cpu / (double)(end - begin) / (b->threads < cores ? b->threads : cores);
    if (b->holds) add_waits(&all, waits, pairs);
    all.fairness = (double)most / (double)(least == 0 ? 1 : least);
    return all;
}

/* ---- the report ---- */

static size_t key; /* the member to sort by */

static double member(const result *r) {
    return *(const double *)(const void *)((const char *)r + key);
}

static int by_member(const void *a, const void *b) {
    const double x = member((const result *)a), y = member((const result *)b);
    return (x > y) - (x < y);
}

static void line(const struct bench *b, const implementation *of, const char *metric,
                 double value) {
    printf("pool\t%s\t%u\t%s\t%s\t%.1f\n", b->name, (unsigned)b->threads, of->name, metric, value);
}

static double median(result *from, int count, size_t offset) {
    key = offset;
    qsort(from, (size_t)count, sizeof *from, by_member);
    return member(&from[count / 2]);
}

static void report(const struct bench *b, const implementation *of, result *all) {
    const int count = b->holds ? HOLD_REPETITIONS : REPETITIONS;
    const int kept = b->holds ? HOLD_REPETITIONS : KEPT;
    result *best = all + count - kept;
    (void)median(all, count, offsetof(result, share)); /* sorted: the least disturbed last */
    line(b, of, "cpu_share_percent",
         b->holds ? median(all, kept, offsetof(result, share)) : best[0].share);
    line(b, of, "ns_per_op", median(best, kept, offsetof(result, ns)));
    if (!b->holds) return;
    line(b, of, "wait_p50_ns", median(best, kept, offsetof(result, p50)));
    line(b, of, "wait_p99_ns", median(best, kept, offsetof(result, p99)));
    line(b, of, "wait_max_ns", median(best, kept, offsetof(result, longest)));
    line(b, of, "fairness", median(best, kept, offsetof(result, fairness)));
}

int main(void) {
#ifdef HAVE_APR
    need(apr_initialize() == APR_SUCCESS);
#endif
    for (int r = -1; r < REPETITIONS; ++r) { /* the first one warms up */
        for (size_t b = 0; b < BENCHES; ++b) {
            for (size_t i = 0; i < IMPLEMENTATIONS; ++i) {
                result once;
                if (benches[b].holds &&
                    (!implementations[i].pool || r < 0 || r >= HOLD_REPETITIONS))
                    continue;
                once = measure(&benches[b], &implementations[i]);
                if (r >= 0) results[b][i][r] = once;
            }
        }
    }
    for (size_t b = 0; b < BENCHES; ++b) {
        for (size_t i = 0; i < IMPLEMENTATIONS; ++i) {
            if (benches[b].holds && !implementations[i].pool) continue;
            report(&benches[b], &implementations[i], results[b][i]);
        }
    }
    return 0;
}

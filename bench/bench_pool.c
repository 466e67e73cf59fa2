/* What borrowing from a pool costs: rm_pool.h, apr_reslist, libzdb and GAsyncQueue (where their
   headers are found), and floors below which no pool gets: a mutex taken on acquire and on release;
   a compare-and-swap with an exchange on a word of the thread's own; the same with two readings of
   the coarse clock.

   Prints lines of area, case, threads, implementation, metric, value. Cases:
     pairs_pool_10, _32   acquire and release, nothing in between
     hold_*_pool_4        8 threads share 4 and hold one for nothing, 1 us (busy) or 100 us (asleep)
     cold_fill_8          8 threads, an empty pool, a factory that takes 20 ms: until all hold one
     slow_factory         acquire and release while another thread is in a factory of 200 ms
     packing              resources in use after 8 threads did not overlap for a while
   ns_per_op is wall time by all pairs of all threads. wait_*_ns is the time in acquire, fairness
   the most pairs of a thread by the least until the first is done with its share; there is none
   where a thread had not begun by then. cores is how many processors the threads kept busy: the
   price of waiting. Values are medians of interleaved repetitions, for pairs of that quarter which
   other processes disturbed least. cpu_share_percent is the processor time that other processes
   left to the threads. Below 85 the run is void: its metrics are called void_ns_per_op and so on.
   libzdb cannot wait and is left out where it would have to; each of its pairs asks SQLite whether
   the connection is alive. */
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
#if __has_include(<zdb.h>)
#define HAVE_ZDB
#include <zdb.h>
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
enum { THREADS_MAX = 8, SAMPLES_MAX = 20000, ITEMS_MAX = 32 };

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

static void sleep_ns(int64_t ns) {
    const struct timespec t = {ns / 1000000000, ns % 1000000000};
    need(nanosleep(&t, NULL) == 0);
}

static int64_t factory_ns; /* what making one takes */

static rm_status rm_make(void **resource, rm_deadline deadline, rm_error *error, void *user) {
    (void)deadline, (void)error, (void)user;
    if (factory_ns > 0) sleep_ns(factory_ns);
    *resource = new_item();
    return RM_OK;
}

static rm_status rm_check(void *resource, void *user) {
    (void)resource, (void)user;
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

/* Everything that costs something on this path. */
static void rm_pool_all_on_open(uint32_t max) {
    rm_pool_desc desc = rm_pool_desc_default();
    desc.create_fn = rm_make;
    desc.validate_fn = rm_check;
    desc.max = max;
    desc.min_idle = 1;
    desc.max_lifetime_ns = RM_MINUTES(30);
    desc.keepalive_ns = RM_MINUTES(1);
    desc.leak_after_ns = RM_MINUTES(1);
    desc.refuse_nested = true;
    need(rm_pool_create(&desc, &rm, NULL) == RM_OK);
}

static void rm_pool_end(void) {
    need(rm_pool_destroy(rm) == RM_OK);
}

#define rm_pool_strict_end rm_pool_end
#define rm_pool_all_on_end rm_pool_end
#define RM_TAKE(h) need(rm_pool_acquire(rm, RM_FOREVER, &(h).lease, NULL) == RM_OK)
#define RM_GIVE(h) need(rm_pool_release(rm, &(h).lease, RM_RELEASE_OK) == RM_OK)

#ifdef HAVE_APR
static apr_reslist_t *apr;
static apr_pool_t *apr_memory;

static apr_status_t apr_make(void **resource, void *params, apr_pool_t *memory) {
    (void)params, (void)memory;
    if (factory_ns > 0) sleep_ns(factory_ns);
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

#ifdef HAVE_ZDB
static ConnectionPool_T zdb;
static URL_T zdb_url;

static void libzdb_open(uint32_t max) {
    zdb_url = URL_new("sqlite:///:memory:");
    zdb = ConnectionPool_new(zdb_url);
    ConnectionPool_setInitialConnections(zdb, (int)max);
    ConnectionPool_setMaxConnections(zdb, (int)max);
    ConnectionPool_start(zdb);
}

static void libzdb_end(void) {
    ConnectionPool_free(&zdb);
    URL_free(&zdb_url);
}

#define ZDB_TAKE(h) need(((h).item = ConnectionPool_getConnection(zdb)) != NULL)
#define ZDB_GIVE(h) Connection_close((Connection_T)(h).item)
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

static int64_t clock_ns(clockid_t id) {
    struct timespec t;
    need(clock_gettime(id, &t) == 0);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* What a file of /proc has in some field, from 0; -1 = there is none. */
static int64_t field_of(const char *path, int field) {
    long long value = -1;
    FILE *file = fopen(path, "r");
    if (file == NULL) return -1;
    while (field-- > 0)
        (void)fscanf(file, "%*s");
    if (fscanf(file, "%lld", &value) != 1) value = -1;
    (void)fclose(file);
    return value;
}

/* How long all processors together had nothing to do, in steps of 10 ms; 0 where nobody says. */
static int64_t idle_ns(void) {
    const int64_t idle = field_of("/proc/stat", 4), io = field_of("/proc/stat", 5);
    return idle < 0 || io < 0 ? 0 : (idle + io) * (1000000000 / sysconf(_SC_CLK_TCK));
}

/* How long this thread wanted a processor and had none; -1 where nobody says. */
static int64_t delay_ns(void) {
    return field_of("/proc/thread-self/schedstat", 1);
}

static int64_t stamps[THREADS_MAX * 8];

#define CLOCKS_TAKE(h) (stamps[(h).thread * 8] = clock_ns(CLOCK_MONOTONIC_COARSE), CAS_TAKE(h))
#define CLOCKS_GIVE(h)                                             \
    do {                                                           \
        stamps[(h).thread * 8] = clock_ns(CLOCK_MONOTONIC_COARSE); \
        CAS_GIVE(h);                                               \
    } while (0)

/* ---- the threads ---- */

typedef struct runner {
    pthread_t thread;
    uint32_t number, threads;
    bool alone;                       /* there is a processor for each thread */
    uint64_t pairs, done, done_first; /* done_first: when the first thread was done */
    int64_t begin, end, cpu, delay;
    int64_t *waits; /* NULL = do not hold */
    int64_t hold_ns;
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

static void hold(int64_t ns) {
    const int64_t until = ns == 0 ? 0 : clock_ns(CLOCK_MONOTONIC) + ns;
    if (ns >= 50000) sleep_ns(ns);
    while (ns > 0 && ns < 50000 && clock_ns(CLOCK_MONOTONIC) < until) {}
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
            hold(r->hold_ns);                                                   \
            GIVE(h);                                                            \
            if (__atomic_load_n(&first_done, __ATOMIC_RELAXED) == 0) ++r->done; \
        }                                                                       \
        __atomic_store_n(&first_done, 1u, __ATOMIC_RELAXED);                    \
    }

POOL(rm_pool, RM_TAKE, RM_GIVE)
#define rm_pool_strict_run rm_pool_run
#define rm_pool_all_on_run rm_pool_run
#ifdef HAVE_APR
POOL(apr_reslist, APR_TAKE, APR_GIVE)
#define apr_reslist_ttl_run apr_reslist_run
#endif
#ifdef HAVE_ZDB
POOL(libzdb, ZDB_TAKE, ZDB_GIVE)
#endif
#ifdef HAVE_GLIB
POOL(g_async_queue, GLIB_TAKE, GLIB_GIVE)
#endif
POOL(floor_mutex, MUTEX_TAKE, MUTEX_GIVE)
POOL(floor_cas_exchange, CAS_TAKE, CAS_GIVE)
POOL(floor_cas_exchange_clocks, CLOCKS_TAKE, CLOCKS_GIVE)
#define floor_mutex_open floor_open
#define floor_mutex_end floor_end
#define floor_cas_exchange_open floor_open
#define floor_cas_exchange_end floor_end
#define floor_cas_exchange_clocks_open floor_open
#define floor_cas_exchange_clocks_end floor_end

/* ---- the cases ---- */

enum { QUANTILES = 8 };

static const double quantiles[QUANTILES] = {0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999};
static const char *const quantile_names[QUANTILES] = {"wait_p10_ns", "wait_p25_ns", "wait_p50_ns",
                                                      "wait_p75_ns", "wait_p90_ns", "wait_p95_ns",
                                                      "wait_p99_ns", "wait_p999_ns"};

typedef struct result {
    double ns, share, fairness, cores, longest, waits[QUANTILES];
    double cpu, idle, wall; /* ns of: all threads, all processors, the run */
} result;

static uint32_t processors(void) {
    return (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
}

/* The percentage of all processors that others have left: what was used here or by nobody. */
static double left_by_others(const result *all, int count) {
    double had = 0, wall = 0;
    for (int i = 0; i < count; ++i) {
        had += all[i].cpu + all[i].idle;
        wall += all[i].wall;
    }
    had = 100.0 * had / (wall * processors());
    return had < 100 ? had : 100;
}

typedef struct implementation {
    const char *name;
    void (*open)(uint32_t max);
    void (*run)(runner *r);
    void (*end)(void);
    bool waits; /* not a floor, and not libzdb */
} implementation;

#define IMPLEMENTATION(name, waits) \
    { #name, name##_open, name##_run, name##_end, waits }

static const implementation implementations[] = {IMPLEMENTATION(rm_pool, true),
                                                 IMPLEMENTATION(rm_pool_strict, true),
                                                 IMPLEMENTATION(rm_pool_all_on, true),
#ifdef HAVE_APR
                                                 IMPLEMENTATION(apr_reslist, true),
                                                 IMPLEMENTATION(apr_reslist_ttl, true),
#endif
#ifdef HAVE_ZDB
                                                 IMPLEMENTATION(libzdb, false),
#endif
#ifdef HAVE_GLIB
                                                 IMPLEMENTATION(g_async_queue, true),
#endif
                                                 IMPLEMENTATION(floor_mutex, false),
                                                 IMPLEMENTATION(floor_cas_exchange, false),
                                                 IMPLEMENTATION(floor_cas_exchange_clocks, false)};

enum { IMPLEMENTATIONS = sizeof implementations / sizeof *implementations };

static const struct bench {
    const char *name;
    uint32_t max, threads;
    uint64_t pairs;  /* of each thread */
    int64_t hold_ns; /* -1 = pairs only, waits are not measured */
} benches[] = {{"pairs_pool_10", 10, 1, 50000, -1},    {"pairs_pool_10", 10, 2, 100000, -1},
               {"pairs_pool_32", 32, 8, 50000, -1},    {"hold_0_pool_4", 4, 8, 20000, 0},
               {"hold_1us_pool_4", 4, 8, 20000, 1000}, {"hold_100us_pool_4", 4, 8, 400, 100000}};

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
    const int64_t delay = r->alone ? delay_ns() : -1;
    line_up(r);
    r->begin = clock_ns(CLOCK_MONOTONIC);
    r->cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    r->run(r);
    r->cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID) - r->cpu;
    r->end = clock_ns(CLOCK_MONOTONIC);
    if (delay >= 0) r->delay = delay_ns() - delay;
    return NULL;
}

static int by_time(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void add_waits(result *to, int64_t *waits, uint64_t count) {
    qsort(waits, count, sizeof *waits, by_time);
    for (int i = 0; i < QUANTILES; ++i)
        to->waits[i] = (double)waits[(size_t)((double)(count - 1) * quantiles[i])];
    to->longest = (double)waits[count - 1];
}

/* Of one thread: the percentage of its time in which no other process had its processor. */
static double share_of(const runner *r) {
    const int64_t wall = r->end - r->begin;
    return 100.0 * (double)(r->delay < 0 ? r->cpu : wall - r->delay) / (double)wall;
}

static result measure(const struct bench *b, const implementation *from) {
    static int64_t waits[THREADS_MAX * SAMPLES_MAX];
    const uint64_t pairs = b->threads * b->pairs;
    const uint32_t cores = processors();
    int64_t begin = INT64_MAX, end = 0, cpu = 0, idle;
    uint64_t most = 0, least = UINT64_MAX;
    result all;
    memset(&all, 0, sizeof all);
    ready = first_done = 0;
    all.share = 100;
    idle = idle_ns();
    from->open(b->max);
    need(pthread_barrier_init(&barrier, NULL, b->threads) == 0);
    for (uint32_t i = 0; i < b->threads; ++i) {
        runner *r = &runners[i];
        memset(r, 0, sizeof *r);
        r->number = i;
        r->threads = b->threads;
        r->alone = b->threads <= cores;
        r->pairs = b->pairs;
        r->delay = -1;
        r->run = from->run;
        r->hold_ns = b->hold_ns;
        if (b->hold_ns >= 0) r->waits = &waits[i * b->pairs];
        need(pthread_create(&r->thread, NULL, start, r) == 0);
    }
    for (uint32_t i = 0; i < b->threads; ++i) {
        const runner *r = &runners[i];
        need(pthread_join(r->thread, NULL) == 0);
        if (r->begin < begin) begin = r->begin;
        if (r->end > end) end = r->end;
        if (r->done > most) most = r->done;
        if (r->done < least) least = r->done;
        if (share_of(r) < all.share) all.share = share_of(r);
        cpu += r->cpu;
    }
    all.idle = (double)(idle_ns() - idle);
    need(pthread_barrier_destroy(&barrier) == 0);
    from->end();
    all.wall = (double)(end - begin);
    all.cpu = (double)cpu;
    all.ns = all.wall / (double)pairs;
    all.cores = all.cpu / all.wall;
    if (b->threads > cores) all.share = 100.0 * all.cores / cores;
    if (b->hold_ns >= 0) add_waits(&all, waits, pairs);
    if (least > 0) all.fairness = (double)most / (double)least;
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

enum { LEAST_SHARE = 85 };

/* One line, of a run that had that share of the processors. */
static void line(const char *name, unsigned threads, const char *of, double share,
                 const char *metric, int decimals, double value) {
    printf("pool\t%s\t%u\t%s\t%s%s\t%.*f\n", name, threads, of, share < LEAST_SHARE ? "void_" : "",
           metric, decimals, value);
}

static double median(result *from, int count, size_t offset) {
    key = offset;
    qsort(from, (size_t)count, sizeof *from, by_member);
    return member(&from[count / 2]);
}

static void report(const struct bench *b, const implementation *of, result *all) {
    const bool holds = b->hold_ns >= 0;
    const int count = holds ? HOLD_REPETITIONS : REPETITIONS;
    const int kept = holds ? HOLD_REPETITIONS : KEPT;
    result *best = all + count - kept;
    double share;
    (void)median(all, count, offsetof(result, share)); /* sorted: the least disturbed last */
    share = b->threads > processors() ? left_by_others(best, kept) : best[0].share;
    line(b->name, b->threads, of->name, 100, "cpu_share_percent", 3, share);
#define LINE(metric, decimals, member) \
    line(b->name, b->threads, of->name, share, metric, decimals, median(best, kept, member))
    LINE("ns_per_op", 1, offsetof(result, ns));
    if (!holds) return;
    for (size_t i = 0; i < QUANTILES; ++i)
        LINE(quantile_names[i], 1, offsetof(result, waits) + i * sizeof(double));
    LINE("wait_max_ns", 1, offsetof(result, longest));
    LINE("cores", 3, offsetof(result, cores));
    (void)median(best, kept, offsetof(result, fairness)); /* sorted: 0 = a thread had nothing */
    if (best[0].fairness > 0) LINE("fairness", 3, offsetof(result, fairness));
#undef LINE
}

/* ---- cases that are not about pairs ---- */

enum { RARE_REPETITIONS = 5 };

typedef struct rare {
    const char *name;
    void (*open)(uint32_t max);
    void (*take)(handle *h);
    void (*give)(handle *h);
    void (*end)(void);
} rare;

static void rm_take(handle *h) {
    RM_TAKE(*h);
}

static void rm_give(handle *h) {
    RM_GIVE(*h);
}

#ifdef HAVE_APR
static void apr_take(handle *h) {
    APR_TAKE(*h);
}

static void apr_give(handle *h) {
    APR_GIVE(*h);
}
#endif

static const rare rares[] = {{"rm_pool", rm_pool_open, rm_take, rm_give, rm_pool_end},
#ifdef HAVE_APR
                             {"apr_reslist", apr_reslist_open, apr_take, apr_give, apr_reslist_end}
#endif
};

enum { RARES = sizeof rares / sizeof *rares };

static const rare *now_tested;
static handle handles[THREADS_MAX];
static void *used[THREADS_MAX];

static void *take_one(void *user) {
    handle *h = (handle *)user;
    (void)pthread_barrier_wait(&barrier);
    now_tested->take(h);
    used[h - handles] = h->lease.resource != NULL ? h->lease.resource : h->item;
    return NULL;
}

static void *take_and_give(void *user) {
    handle *h = (handle *)user;
    (void)take_one(h);
    now_tested->give(h);
    return NULL;
}

/* Runs threads and returns the ns until all are done. */
static double together(uint32_t threads, void *(*fn)(void *)) {
    pthread_t thread[THREADS_MAX];
    int64_t begin;
    need(pthread_barrier_init(&barrier, NULL, threads + 1) == 0);
    for (uint32_t i = 0; i < threads; ++i)
        need(pthread_create(&thread[i], NULL, fn, &handles[i]) == 0);
    begin = clock_ns(CLOCK_MONOTONIC);
    (void)pthread_barrier_wait(&barrier);
    for (uint32_t i = 0; i < threads; ++i)
        need(pthread_join(thread[i], NULL) == 0);
    begin = clock_ns(CLOCK_MONOTONIC) - begin;
    need(pthread_barrier_destroy(&barrier) == 0);
    return (double)begin;
}

static double cold_fill(void) {
    double ns;
    factory_ns = 20000000;
    now_tested->open(8);
    ns = together(8, take_one);
    for (int i = 0; i < 8; ++i)
        now_tested->give(&handles[i]);
    return ns;
}

static void *make_slowly(void *user) {
    return take_and_give(user);
}

/* The longest pair while another thread is in the factory. */
static double slow_factory(void) {
    pthread_t thread;
    handle first, h;
    int64_t begin, longest = 0, until;
    memset(&first, 0, sizeof first);
    memset(&h, 0, sizeof h);
    factory_ns = 0;
    now_tested->open(3);
    now_tested->take(&first); /* two exist: one is lent, one idle */
    now_tested->take(&h);
    factory_ns = 200000000;
    need(pthread_barrier_init(&barrier, NULL, 1) == 0);
    need(pthread_create(&thread, NULL, make_slowly, &handles[0]) == 0);
    sleep_ns(20000000); /* it is in the factory now */
    until = clock_ns(CLOCK_MONOTONIC) + 100000000;
    while ((begin = clock_ns(CLOCK_MONOTONIC)) < until) {
        int64_t took;
        now_tested->give(&h);
        now_tested->take(&h);
        took = clock_ns(CLOCK_MONOTONIC) - begin;
        if (took > longest) longest = took;
    }
    need(pthread_join(thread, NULL) == 0);
    need(pthread_barrier_destroy(&barrier) == 0);
    now_tested->give(&h);
    now_tested->give(&first);
    return (double)longest;
}

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

static void *take_turns(void *user) {
    handle *h = (handle *)user;
    (void)take_one(h);
    (void)pthread_barrier_wait(&barrier); /* each has had its own */
    now_tested->give(h);
    for (int i = 0; i < 5; ++i) {
        sleep_ns(20000000);
        need(pthread_mutex_lock(&turn) == 0);
        now_tested->take(h);
        used[h - handles] = h->lease.resource != NULL ? h->lease.resource : h->item;
        now_tested->give(h);
        need(pthread_mutex_unlock(&turn) == 0);
    }
    return NULL;
}

static double packing(void) {
    pthread_t thread[THREADS_MAX];
    uint32_t different = 0;
    factory_ns = 0;
    now_tested->open(32);
    need(pthread_barrier_init(&barrier, NULL, 8) == 0);
    for (uint32_t i = 0; i < 8; ++i)
        need(pthread_create(&thread[i], NULL, take_turns, &handles[i]) == 0);
    for (uint32_t i = 0; i < 8; ++i)
        need(pthread_join(thread[i], NULL) == 0);
    need(pthread_barrier_destroy(&barrier) == 0);
    for (uint32_t i = 0, j; i < 8; ++i) {
        for (j = 0; j < i && used[j] != used[i]; ++j) {}
        different += j == i;
    }
    return different;
}

static void run_rare(const char *name, unsigned threads, const char *metric, double (*fn)(void)) {
    for (size_t i = 0; i < RARES; ++i) {
        result all[RARE_REPETITIONS];
        double share;
        for (int r = 0; r < RARE_REPETITIONS; ++r) {
            const int64_t wall = clock_ns(CLOCK_MONOTONIC), idle = idle_ns();
            const int64_t cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
            now_tested = &rares[i];
            memset(handles, 0, sizeof handles);
            all[r].ns = fn();
            now_tested->end();
            all[r].wall = (double)(clock_ns(CLOCK_MONOTONIC) - wall);
            all[r].idle = (double)(idle_ns() - idle);
            all[r].cpu = (double)(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu);
        }
        share = left_by_others(all, RARE_REPETITIONS);
        line(name, threads, rares[i].name, 100, "cpu_share_percent", 3, share);
        line(name, threads, rares[i].name, share, metric, 1,
             median(all, RARE_REPETITIONS, offsetof(result, ns)));
    }
    factory_ns = 0;
}

static bool skipped(const struct bench *b, const implementation *of) {
    return b->hold_ns >= 0 && !of->waits;
}

int main(void) {
#ifdef HAVE_APR
    need(apr_initialize() == APR_SUCCESS);
#endif
    for (int r = -1; r < REPETITIONS; ++r) { /* the first one warms up */
        for (size_t b = 0; b < BENCHES; ++b) {
            for (size_t i = 0; i < IMPLEMENTATIONS; ++i) {
                result once;
                if (skipped(&benches[b], &implementations[i]) ||
                    (benches[b].hold_ns >= 0 && (r < 0 || r >= HOLD_REPETITIONS)))
                    continue;
                once = measure(&benches[b], &implementations[i]);
                if (r >= 0) results[b][i][r] = once;
            }
        }
    }
    for (size_t b = 0; b < BENCHES; ++b) {
        for (size_t i = 0; i < IMPLEMENTATIONS; ++i) {
            if (!skipped(&benches[b], &implementations[i]))
                report(&benches[b], &implementations[i], results[b][i]);
        }
    }
    run_rare("cold_fill_8", 8, "ns", cold_fill);
    run_rare("slow_factory", 2, "longest_pair_ns", slow_factory);
    run_rare("packing", 8, "resources", packing);
    return 0;
}

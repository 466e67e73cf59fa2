/* What the base costs: hash, semaphore, histogram and clocks, each against plain ways to do it.

   Prints lines of area, case, threads, implementation, metric, value. ns_per_call is wall time by
   all calls of all threads, the median of interleaved repetitions; cpu_share_percent is the least
   share of a processor that a thread had: with less than 85 the line says little. */
#define _GNU_SOURCE /* sched_setaffinity */
#define RM_IMPLEMENTATION
#include "rm.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { REPETITIONS = 9, MOST_THREADS = 2, REPETITION_NS = 8000000 };

static volatile uint64_t sink; /* keeps results alive */

/* ---- hash ---- */

static const rm_hash_key key = {UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)};

static uint64_t fnv1a(const void *data, size_t size) {
    const unsigned char *p = (const unsigned char *)data;
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < size; ++i)
        hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
    return hash;
}

#define ROTATE(x, n) ((x) << (n) | (x) >> (64 - (n)))

static void sip_round(uint64_t v[4]) {
    v[0] += v[1], v[1] = ROTATE(v[1], 13) ^ v[0], v[0] = ROTATE(v[0], 32);
    v[2] += v[3], v[3] = ROTATE(v[3], 16) ^ v[2];
    v[0] += v[3], v[3] = ROTATE(v[3], 21) ^ v[0];
    v[2] += v[1], v[1] = ROTATE(v[1], 17) ^ v[2], v[2] = ROTATE(v[2], 32);
}

/* SipHash-1-3 in its general form: one loop for all sizes, words put together byte by byte. */
static uint64_t sip_loop(const void *data, size_t size) {
    const unsigned char *p = (const unsigned char *)data;
    uint64_t v[4] = {key.k0 ^ UINT64_C(0x736f6d6570736575), key.k1 ^ UINT64_C(0x646f72616e646f6d),
                     key.k0 ^ UINT64_C(0x6c7967656e657261), key.k1 ^ UINT64_C(0x7465646279746573)};
    uint64_t word = 0;
    for (size_t i = 0; i < size; ++i) {
        word |= (uint64_t)p[i] << 8 * (i % 8);
        if (i % 8 < 7) continue;
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
        word = 0;
    }
    word |= (uint64_t)size << 56;
    v[3] ^= word;
    sip_round(v);
    v[0] ^= word;
    v[2] ^= 0xff;
    for (int i = 0; i < 3; ++i)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* The size stays a variable for the compiler, as in a cache; each hash waits for the last one. */
static volatile size_t sizes[3] = {8, 16, 64};

#define HASH_LOOP(name, expression)           \
    static void name(void *user, int64_t n) { \
        uint64_t data[8] = {0};               \
        const size_t size = *(size_t *)user;  \
        for (int64_t i = 0; i < n; ++i)       \
            data[0] = expression;             \
        sink = data[0];                       \
    }
HASH_LOOP(hash_rm, rm_hash(&key, data, size))
HASH_LOOP(hash_sip_loop, sip_loop(data, size))
HASH_LOOP(hash_fnv1a, fnv1a(data, size))

/* ---- semaphore: acquire and release, with a permit for every thread ---- */

static rm_sem sem_rm;
static sem_t sem_posix;

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t freed;
    int permits;
} sem_plain = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, MOST_THREADS};

static void acquire_rm(void *user, int64_t n) {
    (void)user;
    for (int64_t i = 0; i < n; ++i)
        if (rm_sem_acquire(&sem_rm, RM_FOREVER, NULL) == RM_OK) rm_sem_release(&sem_rm);
}

static void acquire_posix(void *user, int64_t n) {
    (void)user;
    for (int64_t i = 0; i < n; ++i)
        if (sem_wait(&sem_posix) == 0) sem_post(&sem_posix);
}

static void acquire_plain(void *user, int64_t n) {
    (void)user;
    for (int64_t i = 0; i < n; ++i) {
        pthread_mutex_lock(&sem_plain.mutex);
        while (sem_plain.permits == 0)
            pthread_cond_wait(&sem_plain.freed, &sem_plain.mutex);
        --sem_plain.permits;
        pthread_mutex_unlock(&sem_plain.mutex);
        pthread_mutex_lock(&sem_plain.mutex);
        ++sem_plain.permits;
        pthread_cond_signal(&sem_plain.freed);
        pthread_mutex_unlock(&sem_plain.mutex);
    }
}

/* ---- histogram: times of 1 us to 10 s ---- */

enum { VALUES = 65536 }; /* too many for a branch predictor to learn */
static int64_t values[VALUES];
static rm_hist hist;
static uint64_t bins[256];

static void record_rm(void *user, int64_t n) {
    (void)user;
    for (int64_t i = 0; i < n; ++i)
        rm_hist_record(&hist, values[i % VALUES]);
}

/* What a client library does with a handful of fixed bounds: looks for the first that is enough. */
static void record_bounds(void *user, int64_t n) {
    static const int64_t bounds[] = {RM_US(5),   RM_US(10),  RM_US(25),  RM_US(50),  RM_US(100),
                                     RM_US(250), RM_US(500), RM_MS(1),   RM_MS(5),   RM_MS(10),
                                     RM_MS(25),  RM_MS(50),  RM_MS(100), RM_MS(250), RM_MS(500),
                                     RM_SEC(1),  RM_SEC(2),  RM_SEC(5),  RM_SEC(10), INT64_MAX};
    static volatile uint64_t counts[20];
    int64_t sum = 0;
    (void)user;
    for (int64_t i = 0; i < n; ++i) {
        int bin = 0;
        while (values[i % VALUES] > bounds[bin])
            ++bin;
        ++counts[bin];
        sum += values[i % VALUES];
    }
    sink = (uint64_t)sum;
}

/* ---- clocks ---- */

static void read_rm_now(void *user, int64_t n) {
    (void)user;
    for (int64_t i = 0; i < n; ++i)
        sink = (uint64_t)rm_now(NULL);
}

static void read_rm_coarse(void *user, int64_t n) {
    (void)user;
    for (int64_t i = 0; i < n; ++i)
        sink = (uint64_t)rm_now_coarse(NULL);
}

static void read_system(clockid_t id, int64_t n) {
    struct timespec t;
    for (int64_t i = 0; i < n; ++i) {
        clock_gettime(id, &t);
        sink = (uint64_t)t.tv_nsec;
    }
}

static void read_monotonic(void *user, int64_t n) {
    (void)user;
    read_system(CLOCK_MONOTONIC, n);
}

static void read_monotonic_coarse(void *user, int64_t n) {
    (void)user;
    read_system(CLOCK_MONOTONIC_COARSE, n);
}

/* ---- the cases ---- */

typedef struct bench {
    const char *name;
    int threads;
    const char *implementation;
    void (*loop)(void *user, int64_t n);
    size_t user;
    int64_t calls;
    double ns[REPETITIONS], share[REPETITIONS];
} bench;

static bench benches[] = {
    {.name = "hash_8_bytes", .threads = 1, .implementation = "rm_hash", .loop = hash_rm, .user = 0},
    {.name = "hash_8_bytes",
     .threads = 1,
     .implementation = "siphash_1_3_loop",
     .loop = hash_sip_loop,
     .user = 0},
    {.name = "hash_8_bytes",
     .threads = 1,
     .implementation = "fnv1a",
     .loop = hash_fnv1a,
     .user = 0},
    {.name = "hash_16_bytes",
     .threads = 1,
     .implementation = "rm_hash",
     .loop = hash_rm,
     .user = 1},
    {.name = "hash_16_bytes",
     .threads = 1,
     .implementation = "siphash_1_3_loop",
     .loop = hash_sip_loop,
     .user = 1},
    {.name = "hash_16_bytes",
     .threads = 1,
     .implementation = "fnv1a",
     .loop = hash_fnv1a,
     .user = 1},
    {.name = "hash_64_bytes",
     .threads = 1,
     .implementation = "rm_hash",
     .loop = hash_rm,
     .user = 2},
    {.name = "hash_64_bytes",
     .threads = 1,
     .implementation = "siphash_1_3_loop",
     .loop = hash_sip_loop,
     .user = 2},
    {.name = "hash_64_bytes",
     .threads = 1,
     .implementation = "fnv1a",
     .loop = hash_fnv1a,
     .user = 2},
    {.name = "sem_acquire_release", .threads = 1, .implementation = "rm_sem", .loop = acquire_rm},
    {.name = "sem_acquire_release",
     .threads = 1,
     .implementation = "posix_sem",
     .loop = acquire_posix},
    {.name = "sem_acquire_release",
     .threads = 1,
     .implementation = "pthread_mutex_cond",
     .loop = acquire_plain},
    {.name = "sem_acquire_release", .threads = 2, .implementation = "rm_sem", .loop = acquire_rm},
    {.name = "sem_acquire_release",
     .threads = 2,
     .implementation = "posix_sem",
     .loop = acquire_posix},
    {.name = "sem_acquire_release",
     .threads = 2,
     .implementation = "pthread_mutex_cond",
     .loop = acquire_plain},
    {.name = "histogram_record", .threads = 1, .implementation = "rm_hist", .loop = record_rm},
    {.name = "histogram_record",
     .threads = 1,
     .implementation = "20_bounds",
     .loop = record_bounds},
    {.name = "clock", .threads = 1, .implementation = "rm_now", .loop = read_rm_now},
    {.name = "clock", .threads = 1, .implementation = "clock_monotonic", .loop = read_monotonic},
    {.name = "clock_coarse",
     .threads = 1,
     .implementation = "rm_now_coarse",
     .loop = read_rm_coarse},
    {.name = "clock_coarse",
     .threads = 1,
     .implementation = "clock_monotonic_coarse",
     .loop = read_monotonic_coarse},
};
enum { BENCHES = sizeof benches / sizeof *benches };

/* ---- the measuring ---- */

typedef struct runner {
    const bench *bench;
    uint32_t *ready;
    int cpu;
    int64_t calls;
    int64_t begin, end, cpu_ns;
} runner;

static int64_t cpu_time(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void run(void *user) {
    runner *r = (runner *)user;
    size_t size = sizes[r->bench->user];
    cpu_set_t set;
    int64_t cpu;
    CPU_ZERO(&set);
    CPU_SET((size_t)r->cpu, &set);
    (void)sched_setaffinity(0, sizeof set, &set); /* with one processor only it measures as well */
    __atomic_fetch_add(r->ready, 1, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(r->ready, __ATOMIC_ACQUIRE) < (uint32_t)r->bench->threads) {}
    cpu = cpu_time();
    r->begin = rm_now(NULL);
    r->bench->loop(&size, r->calls);
    r->end = rm_now(NULL);
    r->cpu_ns = cpu_time() - cpu;
}

/* One repetition: wall time by call, and the least CPU share. */
static double measure(const bench *b, int64_t calls, double *share) {
    rm_thread threads[MOST_THREADS];
    runner runners[MOST_THREADS];
    uint32_t ready = 0;
    int64_t begin = INT64_MAX, end = INT64_MIN;
    for (int i = 0; i < b->threads; ++i) {
        runners[i] = (runner){b, &ready, i, calls, 0, 0, 0};
        if (rm_thread_start(&threads[i], run, &runners[i]) != RM_OK) exit(1);
    }
    *share = 100;
    for (int i = 0; i < b->threads; ++i) {
        const runner *r = &runners[i];
        double had;
        rm_thread_join(&threads[i]);
        had = 100.0 * (double)r->cpu_ns / (double)(r->end - r->begin);
        if (had < *share) *share = had;
        if (r->begin < begin) begin = r->begin;
        if (r->end > end) end = r->end;
    }
    return (double)(end - begin) / (double)(calls * b->threads);
}

static void prepare(void) {
    const rm_hist_desc times = {3, 10, 16};
    rm_sem_desc desc;
    rm_rng rng;
    memset(&desc, 0, sizeof desc);
    desc.permits = MOST_THREADS;
    if (rm_sem_init(&sem_rm, &desc) != RM_OK || sem_init(&sem_posix, 0, MOST_THREADS) != 0 ||
        rm_hist_init(&hist, &times, bins, sizeof bins) != RM_OK)
        exit(1);
    rm_rng_seed(&rng, 1);
    for (int i = 0; i < VALUES; ++i) /* from 1 us to 1 s, all sizes alike */
        values[i] = (int64_t)(rm_rng_next(&rng) >> (34 + rm_rng_next(&rng) % 20));
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *numbers) {
    qsort(numbers, REPETITIONS, sizeof *numbers, ascending);
    return numbers[REPETITIONS / 2];
}

int main(void) {
    double share;
    prepare();
    for (int i = 0; i < BENCHES; ++i) {
        const double ns = measure(&benches[i], 20000, &share) * benches[i].threads;
        benches[i].calls = (int64_t)(REPETITION_NS / (ns > 0.1 ? ns : 0.1));
    }
    for (int n = 0; n < REPETITIONS; ++n)
        for (int i = 0; i < BENCHES; ++i)
            benches[i].ns[n] = measure(&benches[i], benches[i].calls, &benches[i].share[n]);
    for (int i = 0; i < BENCHES; ++i) {
        bench *b = &benches[i];
        printf("base\t%s\t%d\t%s\tns_per_call\t%.2f\n", b->name, b->threads, b->implementation,
               median(b->ns));
        printf("base\t%s\t%d\t%s\tcpu_share_percent\t%.2f\n", b->name, b->threads,
               b->implementation, median(b->share));
    }
    printf("base\tmemory\t0\trm_sem\tbytes\t%zu\n", sizeof(rm_sem));
    printf("base\tmemory\t0\trm_waiter\tbytes\t%zu\n", sizeof(rm_waiter));
    return rm_sem_destroy(&sem_rm) == RM_OK ? 0 : 1;
}

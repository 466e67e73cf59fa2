/* What a guarded call costs: acquire and record, against the same rules under a plain mutex.

   Prints lines of area, case, threads, implementation, metric, value. ns_per_call is wall time by
   all calls of all threads, the median of interleaved repetitions in which every thread had at
   least 85 % of a processor; cpu_share_percent is the least share in them. When there was no such
   repetition all are used: then the threads waited for each other, or the line is void. */
#define _GNU_SOURCE /* sched_setaffinity */
#define RM_IMPLEMENTATION
#include "rm_breaker.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { REPETITIONS = 11, MOST_THREADS = 2 };

/* ---- the baseline: consecutive failures, half-open with one probe, one mutex ---- */

typedef struct plain {
    pthread_mutex_t mutex;
    rm_breaker_state state;
    uint32_t failures;
    int64_t until;
} plain;

static bool plain_acquire(plain *p) {
    pthread_mutex_lock(&p->mutex);
    bool leave = p->state == RM_BREAKER_STATE_CLOSED;
    if (p->state == RM_BREAKER_STATE_OPEN && rm_now_coarse(NULL) >= p->until) {
        p->state = RM_BREAKER_STATE_HALF_OPEN;
        leave = true;
    }
    pthread_mutex_unlock(&p->mutex);
    return leave;
}

static void plain_record(plain *p, bool ok) {
    pthread_mutex_lock(&p->mutex);
    p->failures = ok ? 0 : p->failures + 1;
    if (!ok && (p->state == RM_BREAKER_STATE_HALF_OPEN || p->failures >= 5)) {
        p->state = RM_BREAKER_STATE_OPEN;
        p->until = rm_now(NULL) + RM_SEC(3600);
    } else if (ok) {
        p->state = RM_BREAKER_STATE_CLOSED;
    }
    pthread_mutex_unlock(&p->mutex);
}

/* ---- the cases ---- */

typedef struct subject {
    rm_breaker *breaker;
    plain plain;
} subject;

typedef void (*loop_fn)(subject *s, int64_t calls);

static void guarded_success(subject *s, int64_t calls) {
    for (int64_t i = 0; i < calls; i++) {
        rm_permit permit;
        if (rm_breaker_acquire(s->breaker, &permit, NULL) == RM_OK)
            rm_breaker_record(s->breaker, &permit, RM_OUTCOME_OK);
    }
}

static void plain_success(subject *s, int64_t calls) {
    for (int64_t i = 0; i < calls; i++)
        if (plain_acquire(&s->plain)) plain_record(&s->plain, true);
}

static void guarded_some_failures(subject *s, int64_t calls) {
    for (int64_t i = 1; i <= calls; i++) {
        rm_permit permit;
        if (rm_breaker_acquire(s->breaker, &permit, NULL) == RM_OK)
            rm_breaker_record(s->breaker, &permit,
                              i % 100 == 0 ? RM_OUTCOME_FAILURE : RM_OUTCOME_OK);
    }
}

static void plain_some_failures(subject *s, int64_t calls) {
    for (int64_t i = 1; i <= calls; i++)
        if (plain_acquire(&s->plain)) plain_record(&s->plain, i % 100 != 0);
}

static rm_status nothing(void *user, rm_error *error) {
    (void)user, (void)error;
    return RM_OK;
}

static void guarded_call(subject *s, int64_t calls) {
    for (int64_t i = 0; i < calls; i++)
        rm_breaker_call(s->breaker, nothing, NULL, NULL, NULL);
}

static void plain_call(subject *s, int64_t calls) {
    for (int64_t i = 0; i < calls; i++)
        if (plain_acquire(&s->plain)) plain_record(&s->plain, nothing(NULL, NULL) == RM_OK);
}

enum { RM, PLAIN, IMPLEMENTATIONS };
static const char *const names[IMPLEMENTATIONS] = {"rm_breaker", "pthread_mutex"};

typedef struct bench {
    const char *name;
    loop_fn loops[IMPLEMENTATIONS];
    int threads;
    bool open;
    int64_t calls[IMPLEMENTATIONS];
    double ns[IMPLEMENTATIONS][REPETITIONS], share[IMPLEMENTATIONS][REPETITIONS];
} bench;

static bench benches[] = {
    {.name = "closed_success", .loops = {guarded_success, plain_success}, .threads = 1},
    {.name = "closed_success", .loops = {guarded_success, plain_success}, .threads = 2},
    {.name = "closed_success_by_call", .loops = {guarded_call, plain_call}, .threads = 1},
    {.name = "closed_1_percent_failures",
     .loops = {guarded_some_failures, plain_some_failures},
     .threads = 1},
    {.name = "closed_1_percent_failures",
     .loops = {guarded_some_failures, plain_some_failures},
     .threads = 2},
    {.name = "open_reject", .loops = {guarded_success, plain_success}, .threads = 1, .open = true},
    {.name = "open_reject", .loops = {guarded_success, plain_success}, .threads = 2, .open = true},
};

/* ---- the measuring ---- */

typedef struct runner {
    loop_fn loop;
    subject *subject;
    uint32_t *ready;
    uint32_t threads;
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
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)r->cpu, &set);
    (void)sched_setaffinity(0, sizeof set, &set); /* with one processor only it measures as well */
    __atomic_fetch_add(r->ready, 1, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(r->ready, __ATOMIC_ACQUIRE) < r->threads) {}
    int64_t cpu = cpu_time();
    r->begin = rm_now(NULL);
    r->loop(r->subject, r->calls);
    r->end = rm_now(NULL);
    r->cpu_ns = cpu_time() - cpu;
}

static void prepare(subject *s, bool open) {
    rm_breaker_desc desc = rm_breaker_desc_default();
    desc.open_ns = RM_SEC(3600);
    if (rm_breaker_create(&desc, &s->breaker, NULL) != RM_OK) exit(1);
    pthread_mutex_init(&s->plain.mutex, NULL);
    s->plain.state = open ? RM_BREAKER_STATE_OPEN : RM_BREAKER_STATE_CLOSED;
    s->plain.failures = 0;
    s->plain.until = INT64_MAX;
    if (open) rm_breaker_trip(s->breaker);
}

/* One repetition: wall time by call, and the least CPU share. */
static double measure(const bench *b, int which, int64_t calls, double *share) {
    static subject s;
    rm_thread threads[MOST_THREADS];
    runner runners[MOST_THREADS];
    uint32_t ready = 0;
    int64_t begin = INT64_MAX, end = INT64_MIN;
    prepare(&s, b->open);
    for (int i = 0; i < b->threads; i++) {
        runners[i] = (runner){b->loops[which], &s, &ready, (uint32_t)b->threads, i, calls, 0, 0, 0};
        if (rm_thread_start(&threads[i], run, &runners[i]) != RM_OK) exit(1);
    }
    *share = 100;
    for (int i = 0; i < b->threads; i++) {
        const runner *r = &runners[i];
        rm_thread_join(&threads[i]);
        double had = 100.0 * (double)r->cpu_ns / (double)(r->end - r->begin);
        *share = had < *share ? had : *share;
        begin = r->begin < begin ? r->begin : begin;
        end = r->end > end ? r->end : end;
    }
    rm_breaker_destroy(s.breaker);
    pthread_mutex_destroy(&s.plain.mutex);
    return (double)(end - begin) / (double)(calls * b->threads);
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print(bench *b, int which) {
    double ns[REPETITIONS], share = 100;
    size_t used = 0;
    for (double least = 85; used == 0; least = 0)
        for (int i = 0; i < REPETITIONS; i++)
            if (b->share[which][i] >= least) {
                share = b->share[which][i] < share ? b->share[which][i] : share;
                ns[used++] = b->ns[which][i];
            }
    qsort(ns, used, sizeof *ns, ascending);
    const char *metrics[2] = {"ns_per_call", "cpu_share_percent"};
    double values[2] = {ns[used / 2], share};
    for (int i = 0; i < 2; i++)
        printf("breaker\t%s\t%d\t%s\t%s\t%.2f\n", b->name, b->threads, names[which], metrics[i],
               values[i]);
}

int main(void) {
    const int count = sizeof benches / sizeof *benches;
    double share;
    for (int i = 0; i < count * IMPLEMENTATIONS; i++) { /* a repetition is to take 20 ms */
        bench *b = &benches[i / IMPLEMENTATIONS];
        int which = i % IMPLEMENTATIONS;
        double ns = measure(b, which, 100000, &share) * b->threads;
        b->calls[which] = (int64_t)(20e6 / (ns > 0.1 ? ns : 0.1));
    }
    for (int n = 0; n < REPETITIONS; n++)
        for (int i = 0; i < count * IMPLEMENTATIONS; i++) {
            bench *b = &benches[i / IMPLEMENTATIONS];
            int which = i % IMPLEMENTATIONS;
            b->ns[which][n] = measure(b, which, b->calls[which], &b->share[which][n]);
        }
    for (int i = 0; i < count * IMPLEMENTATIONS; i++)
        print(&benches[i / IMPLEMENTATIONS], i % IMPLEMENTATIONS);
    printf("breaker\tmemory\t0\trm_breaker\tbytes\t%zu\n", sizeof(struct rm_breaker) + 63);
    return 0;
}

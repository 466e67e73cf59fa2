/* What rm_metrics.h costs, next to a plain atomic counter and one under a mutex.  Prints lines of
   area, case, threads, implementation, metric, value; tabs between them.  Repetitions are short and
   interleaved; a value is the median of the third that other processes disturbed least.  ns_per_op
   is wall time times threads, by operations.  cpu_share_percent is the least share of their
   processors that the threads had in that third: below 85 the line says little. */
#define RM_IMPLEMENTATION
#include "rm_metrics.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { REPETITIONS = 30, KEPT = 10, THREADS_MAX = 2, COUNTERS = 10000 };

typedef struct subjects {
    RMI_ALIGN(64) uint64_t plain;
    RMI_ALIGN(64) uint64_t guarded;
    rm_mutex mutex;
    rm_metrics *metrics, *large;
    rm_metrics_family *requests;
    rm_counter counter;
    rm_gauge gauge;
    rm_histogram histogram;
    char page[64 << 10];
    uint64_t bytes;
} subjects;

static subjects s;

static void fetch_add(uint64_t n) {
    while (n-- > 0)
        (void)__atomic_fetch_add(&s.plain, 1u, __ATOMIC_RELAXED);
}

static void mutex_add(uint64_t n) {
    while (n-- > 0) {
        rm_mutex_lock(&s.mutex);
        ++s.guarded;
        rm_mutex_unlock(&s.mutex);
    }
}

static void counter_add(uint64_t n) {
    while (n-- > 0)
        (void)rm_counter_add(s.counter, 1);
}

static void plain_store(uint64_t n) {
    while (n-- > 0)
        __atomic_store_n(&s.plain, n, __ATOMIC_RELAXED);
}

static void gauge_set(uint64_t n) {
    while (n-- > 0)
        (void)rm_gauge_set(s.gauge, (double)n);
}

static void observe(uint64_t n) {
    int64_t value = 1000;
    while (n-- > 0) {
        value = value * 3 % 99999989; /* 1 us to 100 ms */
        (void)rm_histogram_observe(s.histogram, value);
    }
}

static void look_up(uint64_t n) {
    static const char *const methods[] = {"GET", "PUT", "POST", "DELETE"};
    static const char *const codes[] = {"200", "301", "404", "500"};
    while (n-- > 0) {
        const char *values[3];
        rm_counter counter;
        values[0] = methods[n % 4];
        values[1] = "/api/v1/items";
        values[2] = codes[n / 4 % 4];
        if (rm_counter_with(s.requests, values, 3, &counter, NULL) != RM_OK) abort();
        (void)rm_counter_add(counter, 1);
    }
}

static bool discard(const char *data, size_t size, void *user) {
    (void)data;
    *(uint64_t *)user += size;
    return true;
}

static void render(uint64_t n) {
    while (n-- > 0) {
        rm_text text = rm_text_make(s.page, sizeof s.page);
        text.flush_fn = discard;
        text.user = &s.bytes;
        if (rm_metrics_render(s.large, &text) != RM_OK) abort();
    }
}

typedef struct measure {
    const char *what;
    uint32_t threads;
    const char *implementation;
    const char *metric;
    void (*run)(uint64_t n);
    uint64_t operations; /* of each thread */
    double scale;        /* of the value printed: 1 = ns */
    struct result {
        double value, share;
    } results[REPETITIONS];
} measure;

static measure measures[] = {
    {"counter_add", 1, "rm", "ns_per_op", counter_add, 200000, 1, {{0, 0}}},
    {"counter_add", 1, "fetch_add", "ns_per_op", fetch_add, 200000, 1, {{0, 0}}},
    {"counter_add", 1, "mutex", "ns_per_op", mutex_add, 100000, 1, {{0, 0}}},
    {"counter_add", 2, "rm", "ns_per_op", counter_add, 100000, 1, {{0, 0}}},
    {"counter_add", 2, "fetch_add", "ns_per_op", fetch_add, 100000, 1, {{0, 0}}},
    {"counter_add", 2, "mutex", "ns_per_op", mutex_add, 50000, 1, {{0, 0}}},
    {"gauge_set", 1, "rm", "ns_per_op", gauge_set, 200000, 1, {{0, 0}}},
    {"gauge_set", 1, "store", "ns_per_op", plain_store, 200000, 1, {{0, 0}}},
    {"histogram_observe", 1, "rm", "ns_per_op", observe, 50000, 1, {{0, 0}}},
    {"histogram_observe", 2, "rm", "ns_per_op", observe, 50000, 1, {{0, 0}}},
    {"look_up_3_labels_and_add", 1, "rm", "ns_per_op", look_up, 30000, 1, {{0, 0}}},
    {"look_up_3_labels_and_add", 2, "rm", "ns_per_op", look_up, 30000, 1, {{0, 0}}},
    {"render_10000_counters", 1, "rm", "ms", render, 5, 1e-6, {{0, 0}}},
};

enum { MEASURES = sizeof measures / sizeof *measures };

static const measure *running;
static uint32_t ready, go, done;

/* Threads spin until all are there and all are done: starting and joining is not measured. */
static void worker(void *user) {
    (void)user;
    (void)__atomic_add_fetch(&ready, 1u, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(&go, __ATOMIC_ACQUIRE) == 0) {}
    running->run(running->operations);
    (void)__atomic_add_fetch(&done, 1u, __ATOMIC_ACQ_REL);
}

static void run(measure *m, int repetition) {
    rm_thread threads[THREADS_MAX];
    int64_t start, wall;
    clock_t cpu;
    uint32_t i;
    running = m;
    ready = go = done = 0;
    for (i = 1; i < m->threads; ++i) {
        if (rm_thread_start(&threads[i], worker, NULL) != RM_OK) abort();
    }
    while (__atomic_load_n(&ready, __ATOMIC_ACQUIRE) < m->threads - 1) {}
    start = rm_now(NULL);
    cpu = clock();
    __atomic_store_n(&go, 1u, __ATOMIC_RELEASE);
    m->run(m->operations);
    while (__atomic_load_n(&done, __ATOMIC_ACQUIRE) < m->threads - 1) {}
    cpu = clock() - cpu;
    wall = rm_now(NULL) - start;
    for (i = 1; i < m->threads; ++i)
        rm_thread_join(&threads[i]);
    if (repetition < 0) return; /* it warmed up */
    m->results[repetition].value = (double)wall / (double)m->operations * m->scale;
    m->results[repetition].share =
        100.0 * (double)cpu / CLOCKS_PER_SEC * 1e9 / (double)wall / (double)m->threads;
}

static int by_share(const void *a, const void *b) {
    const double x = ((const struct result *)a)->share, y = ((const struct result *)b)->share;
    return (x < y) - (x > y); /* the largest first */
}

static int by_value(const void *a, const void *b) {
    const double x = ((const struct result *)a)->value, y = ((const struct result *)b)->value;
    return (x > y) - (x < y);
}

static void print(measure *m) {
    double share;
    qsort(m->results, REPETITIONS, sizeof *m->results, by_share);
    share = m->results[KEPT - 1].share;
    qsort(m->results, KEPT, sizeof *m->results, by_value);
    printf("metrics\t%s\t%u\t%s\t%s\t%.3f\n", m->what, (unsigned)m->threads, m->implementation,
           m->metric, m->results[KEPT / 2].value);
    printf("metrics\t%s\t%u\t%s\tcpu_share_percent\t%.0f\n", m->what, (unsigned)m->threads,
           m->implementation, share);
}

static rm_metrics_family *add(rm_metrics *metrics, rm_metric_type type, const char *name,
                              uint32_t label_count) {
    static const char *const labels[] = {"method", "path", "code"};
    rm_metric_desc desc = rm_metrics_describe(type, name, "A measured family.");
    rm_metrics_family *family = NULL;
    desc.labels = labels;
    desc.label_count = label_count;
    desc.decimals = type == RM_METRIC_HISTOGRAM ? 9 : 0;
    if (rm_metrics_add(metrics, &desc, &family, NULL) != RM_OK) abort();
    return family;
}

static void set_up(void) {
    rm_metrics_desc desc = {NULL, 0, COUNTERS};
    rm_metrics_family *family;
    uint32_t i;
    if (rm_mutex_init(&s.mutex) != RM_OK || rm_metrics_create(NULL, &s.metrics, NULL) != RM_OK ||
        rm_metrics_create(&desc, &s.large, NULL) != RM_OK)
        abort();
    s.requests = add(s.metrics, RM_METRIC_COUNTER, "requests_total", 3);
    if (rm_counter_with(add(s.metrics, RM_METRIC_COUNTER, "c_total", 0), NULL, 0, &s.counter,
                        NULL) != RM_OK ||
        rm_gauge_with(add(s.metrics, RM_METRIC_GAUGE, "g", 0), NULL, 0, &s.gauge, NULL) != RM_OK ||
        rm_histogram_with(add(s.metrics, RM_METRIC_HISTOGRAM, "h_seconds", 0), NULL, 0,
                          &s.histogram, NULL) != RM_OK)
        abort();
    family = add(s.large, RM_METRIC_COUNTER, "requests_total", 3);
    for (i = 0; i < COUNTERS; ++i) {
        char path[32];
        const char *values[3] = {"GET", path, "200"};
        rm_counter counter = {NULL};
        (void)snprintf(path, sizeof path, "/api/v1/items/%u", (unsigned)i);
        if (rm_counter_with(family, values, 3, &counter, NULL) != RM_OK) abort();
        (void)rm_counter_add(counter, (uint64_t)i * i);
    }
}

int main(void) {
    int i, repetition;
    set_up();
    for (repetition = -1; repetition < REPETITIONS; ++repetition) {
        for (i = 0; i < MEASURES; ++i)
            run(&measures[i], repetition);
    }
    for (i = 0; i < MEASURES; ++i)
        print(&measures[i]);
    rm_mutex_destroy(&s.mutex);
    return rm_metrics_destroy(s.large) != RM_OK || rm_metrics_destroy(s.metrics) != RM_OK;
}

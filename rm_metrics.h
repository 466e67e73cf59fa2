#if defined(RM_STATIC) && !defined(RM_IMPLEMENTATION)
#define RM_IMPLEMENTATION
#endif
#if defined(RM_IMPLEMENTATION) && !defined(RM_METRICS_IMPLEMENTATION)
#define RM_METRICS_IMPLEMENTATION
#endif
#if defined(RM_METRICS_IMPLEMENTATION) && !defined(RMI_WANT_PRIVATE)
#define RMI_WANT_PRIVATE
#endif
/*  rm_metrics.h 0.1.0 - counters, gauges and histograms with labels, as Prometheus text.
    SPDX-License-Identifier: MIT OR Unlicense

QUICK START
    #define RM_IMPLEMENTATION // in exactly one C or C++ file, before the first system header
    #include "rm_metrics.h"
    #include <stdio.h>

    int main(void) {
        static const char *const labels[] = {"method", "code"};
        static const char *const get_200[] = {"GET", "200"};
        static char page[4096];
        rm_text text = rm_text_make(page, sizeof page);
        rm_metric_desc desc = rm_metrics_describe(RM_METRIC_COUNTER, "app_requests_total",
                                                  "Requests that were answered.");
        rm_metrics *metrics = NULL;
        rm_metrics_family *requests = NULL;
        rm_counter answered;
        desc.labels = labels;
        desc.label_count = 2;
        if (rm_metrics_create(NULL, &metrics, NULL) != RM_OK) return 1;
        if (rm_metrics_add(metrics, &desc, &requests, NULL) != RM_OK) return 1;
        if (rm_counter_with(requests, get_200, 2, &answered, NULL) != RM_OK) return 1;
        rm_counter_add(answered, 1); // keep the handle: this is one atomic addition
        if (rm_metrics_render(metrics, &text) != RM_OK) return 1;
        fwrite(page, 1, text.used, stdout); // serve it as RM_METRICS_CONTENT_TYPE
        return rm_metrics_destroy(metrics) == RM_OK ? 0 : 1;
    }

WHAT IT DOES
    A registry of metric families. A family has a name, a help text, a type and up to 8 label
    names; a series is one set of label values. Series are found or made by their values and used
    through small handles. rm_metrics_render writes all of them in the Prometheus text format 0.0.4,
    followed by the statistics of the resources (pools, caches, ...) that were added.

WHAT IT DOES NOT DO
    No OpenMetrics, no protobuf, no JSON, no HTTP server, no push. No summaries. Families and series
    are never removed. Counters are integers. All threads add to the same word of a counter.
    Limits: names of metrics and labels 127 bytes, help 1023 bytes, the label values of one series
    1024 bytes together with a NUL each, 64 histogram bounds; of resources 255 statistic names with
    64 samples in each resource, and 2 KB of labels in a sample.

DEFINES
    RM_IMPLEMENTATION          emit all parts of the headers included here [one C file]
    RM_METRICS_IMPLEMENTATION  emit this part only [one C file]
    RM_STATIC, RM_NO_THREADS, RM_MALLOC, RM_FREE  see rm.h

CONCEPTS
    Families  rm_metrics_add makes a family, or finds the one that is the same in all respects. A
              difference is RM_E_EXISTS and named. So is a name that collides with a histogram's
              _bucket, _sum and _count. Families appear in the order of registration.
    Series    A family without labels has one series, shown from the start. Else rm_x_with finds or
              makes a series. At most max_series are made in a family; what comes after that, and
              label values that are too long, count in one more series, {overflow="true"}, which
              appears with its first use: totals stay right, memory stays bounded.
              rm_metrics_dropped_series_total counts the look-ups that ended there.
    Text      Label values and help may be any bytes but NUL. Invalid UTF-8 becomes U+FFFD, when a
              series is looked up too; the rest is escaped.
    Gauges    Doubles: NaN and infinities are shown as NaN, +Inf and -Inf.
    Histograms  Values are integers in units of 10^-decimals: with decimals = 9, observe nanoseconds
              under a name in seconds. They are counted in the log-linear bins of rm_hist, of which
              the text shows the counts at `bounds`. Bounds are bin edges: what is shown is exact.
              Every histogram in a text is consistent in itself, whoever observes meanwhile.
              A negative value is refused; rm_metrics_refused_values_total counts them.
    Resources rm_metrics_add_resource shows what a resource's stats_fn reports, with the label
              resource="its name". The same statistic of several resources is one family. A
              histogram is shown at 1, 2 and 5 times the powers of ten of its range. Samples that
              would break the text (bad names, no help, duplicates, another type than the first,
              a name that a family has, negative counters) are left out, and
              rm_metrics_dropped_samples_total counts them.
    Own       The three counters named above are families of the registry and come last in the text.

THREADS
    rm_metrics_create, _destroy                       owner
    rm_metrics_add, _add_resource, _remove_resource   any
    rm_x_with                                         any; without a lock for a series that exists
    rm_counter_*, rm_gauge_*                          any; never a lock
    rm_histogram_observe                              any; a lock shared by a quarter of the threads
    rm_metrics_render                                 any, several at a time
    All of them may be called from hooks. No lock is held while a stats_fn or the text's flush_fn
    runs, so that a slow client holds up nobody; only rm_metrics_remove_resource waits for it. No
    two locks are held at a time, and under one only primitives (allocator, clock) are called.

MEMORY
    Allocated by rm_metrics_create, _add, _add_resource and by rm_x_with for a new series; never by
    rm_x_with for one that exists, by an operation on a handle or by rm_metrics_render.
    A registry takes 1.4 KB and 8 bytes for each of max_families; a family about 200 bytes, its
    texts and one series; a series 56 bytes, its label values twice (plain and escaped) and 16 to
    64 bytes in tables: about 160 bytes with three short labels. A histogram series has its bins
    (8 bytes each) four times, with 248 bytes each: 5.5 KB with the default bins.
    Everything of a series stays where it is until rm_metrics_destroy.

ERRORS
    RM_E_INVALID   a bad argument; the error names the field. A negative value observed.
    RM_E_EXISTS    a name that is taken by something else
    RM_E_FULL      max_families is reached
    RM_E_STALE     an operation on a zeroed handle
    RM_E_TOO_LARGE a name that is too long, or a page that does not fit the buffer
    RM_E_FAILED    the text's flush_fn said stop
    RM_E_BUSY      rm_metrics_destroy during a render
    RM_E_DEADLOCK  a resource that removes itself from inside its stats_fn
    RM_E_NOT_FOUND, RM_E_NOMEM, RM_E_SYSTEM
*/
#include "rm.h"
#if RM_BASE_VERSION != 100
#error "rm_metrics.h: rm.h is of another release; use the headers of one release"
#endif
#if defined(RM_METRICS_VERSION) && RM_METRICS_VERSION != 100
#error \
    "rm_metrics.h: two releases of rm_metrics.h meet in this file; use the headers of one release"
#endif
#ifndef RM_METRICS_H_INCLUDED
#define RM_METRICS_H_INCLUDED
#define RM_METRICS_VERSION 100 /* 0.1.0 */

#ifdef __cplusplus
extern "C" {
#endif

/* >>types --------------------------------------------------------------------------------- */

/* A registry of metrics. Opaque. */
typedef struct rm_metrics rm_metrics;

/* All series under one name. Opaque; lives as long as its registry. */
typedef struct rm_metrics_family rm_metrics_family;

typedef enum rm_metric_type {
    RM_METRIC_COUNTER = 0, /* an integer that only grows, and starts again at 0 after 2^64 - 1 */
    RM_METRIC_GAUGE,       /* a double that goes up and down */
    RM_METRIC_HISTOGRAM    /* counts of values by size, and their sum */
} rm_metric_type;

/* One series of a counter. Copy it freely; zeroed = none. Private field. */
typedef struct rm_counter {
    struct rmi_metrics_series *series;
} rm_counter;

/* One series of a gauge. Copy it freely; zeroed = none. Private field. */
typedef struct rm_gauge {
    struct rmi_metrics_series *series;
} rm_gauge;

/* One series of a histogram. Copy it freely; zeroed = none. Private field. */
typedef struct rm_histogram {
    struct rmi_metrics_series *series;
} rm_histogram;

/* The Content-Type under which a rendered page is served. */
#define RM_METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* >>desc ---------------------------------------------------------------------------------- */

typedef struct rm_metrics_desc {
    const rm_env *env;     /* 0 = defaults */
    uint32_t max_families; /* 0 = 256; at most 65535 */
    uint32_t max_series;   /* of each family with labels; 0 = 1000; at most 2^24 */
} rm_metrics_desc;

/* Describes a family. All that it points at is copied. */
typedef struct rm_metric_desc {
    const char *name;          /* required; [a-zA-Z_:][a-zA-Z0-9_:]*, with the unit: x_seconds */
    const char *help;          /* required; one sentence */
    const char *const *labels; /* names, [a-zA-Z_][a-zA-Z0-9_]*; not __x, overflow, or le for a
                                  histogram; 0 = none */
    uint32_t label_count;      /* 0 to 8 */
    uint32_t bound_count;      /* 0 to 64; 0 = Prometheus' default bounds, .005 to 10, for which
                                  decimals must be at least 3 */
    const int64_t *bounds; /* histograms: ascending, in units of 10^-decimals, each a bin edge of
                                  bins; 0 with bound_count 0 */
    rm_hist_desc bins;     /* histograms: where values are counted. Both decades 0 = from three
                                  decades below the first bound to one above the last */
    uint32_t decimals;     /* histograms: values are in units of 10^-decimals; 0 to 18 */
    rm_metric_type type;   /* 0 = RM_METRIC_COUNTER */
} rm_metric_desc;

/* >>functions ----------------------------------------------------------------------------- */

/* The function behind rm_metrics_create. If the linker misses it, do what its name says.
   Returns: as rm_metrics_create.
   Threads: owner. Blocks: no. Allocates: yes. Owns: the caller. */
RM_API rm_status rm_abi1_define_RM_METRICS_IMPLEMENTATION_in_one_c_file(const rm_metrics_desc *desc,
                                                                        rm_metrics **out,
                                                                        rm_error *error);

/* Makes a registry; desc NULL = defaults.
   Returns: RM_E_INVALID naming the field; RM_E_NOMEM; RM_E_SYSTEM.
   Threads: owner. Blocks: no. Allocates: yes. Owns: the caller; rm_metrics_destroy. */
static inline RM_MUST_USE rm_status rm_metrics_create(const rm_metrics_desc *desc, rm_metrics **out,
                                                      rm_error *error) {
    return rm_abi1_define_RM_METRICS_IMPLEMENTATION_in_one_c_file(desc, out, error);
}

/* Ends a registry with its families, series and handles; NULL is allowed.
   Returns: RM_E_BUSY, with nothing done, during a render.
   Threads: owner. Blocks: no. Allocates: no. Owns: resources stay their owners'.
   Cost: O(series). */
RM_API rm_status rm_metrics_destroy(rm_metrics *metrics);

/* A description to fill in: no labels, defaults for the rest.
   Returns: the description; the strings are not copied yet.
   Threads: any. Blocks: no. Allocates: no. */
RM_API rm_metric_desc rm_metrics_describe(rm_metric_type type, const char *name, const char *help);

/* Adds a family, or finds the one that was added with an equal description.
   Returns: RM_E_INVALID or RM_E_TOO_LARGE naming the field; RM_E_EXISTS naming the difference to
   the family of that name, or the histogram whose samples have that name; RM_E_FULL; RM_E_NOMEM;
   RM_E_SYSTEM.
   Threads: any. Blocks: for a short lock. Allocates: for a new family. Owns: the registry.
   Cost: O(families). */
RM_API RM_MUST_USE rm_status rm_metrics_add(rm_metrics *metrics, const rm_metric_desc *desc,
                                            rm_metrics_family **out, rm_error *error);

/* >>counter ------------------------------------------------------------------------------- */

/* Finds or makes the series of a counter with these label values (NULL and 0 without labels). Over
   the bound it is the overflow series.
   Returns: RM_E_INVALID for NULL, a family of another type or the wrong count; RM_E_NOMEM.
   Threads: any. Blocks: for a short lock when it makes one. Allocates: when it makes one.
   Owns: the registry. Cost: O(bytes of the values). */
RM_API RM_MUST_USE rm_status rm_counter_with(rm_metrics_family *family, const char *const *values,
                                             uint32_t count, rm_counter *out, rm_error *error);

/* Adds n.
   Returns: RM_E_STALE for a zeroed handle.
   Threads: any. Blocks: no. Allocates: no. */
RM_API rm_status rm_counter_add(rm_counter counter, uint64_t n);

/* Reads the value.
   Returns: RM_E_STALE for a zeroed handle; RM_E_INVALID for NULL.
   Threads: any. Blocks: no. Allocates: no. */
RM_API rm_status rm_counter_value(rm_counter counter, uint64_t *out);

/* >>gauge --------------------------------------------------------------------------------- */

/* Finds or makes the series of a gauge; as rm_counter_with.
   Returns: RM_E_INVALID for NULL, a family of another type or the wrong count; RM_E_NOMEM.
   Threads: any. Blocks: for a short lock when it makes one. Allocates: when it makes one.
   Owns: the registry. Cost: O(bytes of the values). */
RM_API RM_MUST_USE rm_status rm_gauge_with(rm_metrics_family *family, const char *const *values,
                                           uint32_t count, rm_gauge *out, rm_error *error);

/* Sets the value.
   Returns: RM_E_STALE for a zeroed handle.
   Threads: any. Blocks: no. Allocates: no. */
RM_API rm_status rm_gauge_set(rm_gauge gauge, double value);

/* Adds delta, which may be negative. Between threads no addition is lost.
   Returns: RM_E_STALE for a zeroed handle.
   Threads: any. Blocks: no. Allocates: no. */
RM_API rm_status rm_gauge_add(rm_gauge gauge, double delta);

/* Reads the value.
   Returns: RM_E_STALE for a zeroed handle; RM_E_INVALID for NULL.
   Threads: any. Blocks: no. Allocates: no. */
RM_API rm_status rm_gauge_value(rm_gauge gauge, double *out);

/* >>histogram ----------------------------------------------------------------------------- */

/* Finds or makes the series of a histogram; as rm_counter_with.
   Returns: RM_E_INVALID for NULL, a family of another type or the wrong count; RM_E_NOMEM;
   RM_E_SYSTEM.
   Threads: any. Blocks: for a short lock when it makes one. Allocates: when it makes one.
   Owns: the registry. Cost: O(bytes of the values). */
RM_API RM_MUST_USE rm_status rm_histogram_with(rm_metrics_family *family, const char *const *values,
                                               uint32_t count, rm_histogram *out, rm_error *error);

/* Counts a value, in units of 10^-decimals.
   Returns: RM_E_INVALID for a negative one, which is counted as refused only; RM_E_STALE for a
   zeroed handle.
   Threads: any. Blocks: for a short lock. Allocates: no. */
RM_API rm_status rm_histogram_observe(rm_histogram histogram, int64_t value);

/* >>resources ----------------------------------------------------------------------------- */

/* Shows the statistics of a resource from now on. Its stats_fn is called by each render, from the
   thread that renders, once for every statistic name there is (and once more), and must report the
   same names each time. Name, stats_fn and user are copied; without a stats_fn it shows nothing.
   Returns: RM_E_EXISTS for a name that is taken; RM_E_TOO_LARGE for a name over 47 bytes;
   RM_E_INVALID for NULL or an empty name; RM_E_NOMEM.
   Threads: any. Blocks: for a short lock. Allocates: yes. Owns: user stays the caller's. */
RM_API rm_status rm_metrics_add_resource(rm_metrics *metrics, const rm_resource *resource,
                                         rm_error *error);

/* Stops showing a resource. When it returns RM_OK, its stats_fn does not run and will not run.
   Returns: RM_E_NOT_FOUND; RM_E_DEADLOCK, with nothing done, from inside its stats_fn or from a
   flush_fn below that; RM_E_INVALID for NULL; RM_E_SYSTEM.
   Threads: any. Blocks: while renders are inside its stats_fn, which may be in flush_fn for a slow
   client. Allocates: no. */
RM_API rm_status rm_metrics_remove_resource(rm_metrics *metrics, const char *name);

/* >>render -------------------------------------------------------------------------------- */

/* Writes everything as Prometheus text into a writer and flushes it. With a flush_fn, a small
   buffer (4 KB) does for a page of any size.
   Returns: RM_E_TOO_LARGE when the buffer is too small and there is no flush_fn; RM_E_FAILED when
   flush_fn said stop; RM_E_INVALID for NULL. Use none of the page then.
   Threads: any; owner of text. Blocks: in flush_fn and stats_fn; for short locks. Allocates: no.
   Cost: O(series), and O(statistic names * resources) calls of stats_fn. */
RM_API rm_status rm_metrics_render(rm_metrics *metrics, rm_text *text);

/* Makes a registry usable in the child of a fork(): families, series and handles stay; counters and
   histograms are at zero, gauges keep their value. Resources are forgotten (and their records not
   freed): add those again that the child uses.
   Returns: RM_E_INVALID for NULL; RM_E_SYSTEM, with nothing usable.
   Threads: the child's only one. Blocks: no. Allocates: no. Cost: O(series). */
RM_API rm_status rm_metrics_after_fork_child(rm_metrics *metrics);

/* The registry as a resource of kind "metrics", with nothing to start, stop or show: what it counts
   itself is on its page. A manager lists it, and says that it is there.
   Returns: the resource; one with a NULL name for NULL.
   Threads: any. Blocks: no. Allocates: no. Owns: nothing; the registry must outlive it. */
RM_API rm_resource rm_metrics_resource(rm_metrics *metrics);

#ifdef __cplusplus
}
#endif
#endif /* RM_METRICS_H_INCLUDED */

/* ========================================================================================== */
/* Implementation.                                                                            */
/* ========================================================================================== */
#if defined(RM_METRICS_IMPLEMENTATION) && !defined(RM_METRICS_IMPLEMENTATION_DONE)
#define RM_METRICS_IMPLEMENTATION_DONE

#ifdef __cplusplus
extern "C" {
#endif

/* >>private types */

enum {
    RMI_METRICS_NAME = 127,       /* longest name of a metric or a label */
    RMI_METRICS_HELP = 1023,      /* longest help */
    RMI_METRICS_LABELS = 8,       /* label names of a family */
    RMI_METRICS_KEY = 1024,       /* label values of a series, each with a NUL */
    RMI_METRICS_BOUNDS = 64,      /* bounds of a histogram */
    RMI_METRICS_STRIPES = 4,      /* locks of a histogram series */
    RMI_METRICS_SUFFIX = 8,       /* room for _bucket and a NUL */
    RMI_METRICS_RESOURCE = 47,    /* longest name of a resource */
    RMI_METRICS_STAT_NAMES = 256, /* statistic names of all resources */
    RMI_METRICS_SAMPLES = 64,     /* samples of one name in one resource */
    RMI_METRICS_OWN = 3           /* families of the registry itself; they are the first three */
};

/* Pointers that are published to readers without a lock are kept in 64-bit words. */
#define RMI_METRICS_WORD(pointer) ((uint64_t)(uintptr_t)(pointer))
#define RMI_METRICS_POINTER(type, word) ((type *)(uintptr_t)(word))

/* A part of a histogram, for a quarter of the threads; the bins follow it. The sum wraps at 2^64,
   which a scraper takes as a counter reset; the one of rm_hist would stand still at 2^63. */
struct rmi_metrics_stripe {
    rmi_word64 sum;
    rm_hist hist;
    rm_mutex mutex;
};

/* One block of memory: this, the stripes of a histogram, the key, the label text. All but value
   and next is constant. */
struct rmi_metrics_series {
    rmi_word64 value; /* of a counter; of a gauge the bits of its double */
    rmi_word64 next;  /* pointer: the series that was made after this one */
    uint64_t hash;    /* of the key */
    rm_metrics_family *family;
    char *key;    /* the label values, valid UTF-8, each with a NUL */
    char *labels; /* method="GET",code="200" */
    uint32_t key_size;
    uint32_t labels_size;
};

/* An insert-only table with open addressing; its cells, pointers to series, follow it. A smaller
   one stays for readers that have it, until the family ends. */
struct rmi_metrics_table {
    struct rmi_metrics_table *older;
    rmi_word64 mask;
};

/* One block of memory: this, bounds, bound_bins, name, help, label names. */
struct rm_metrics_family {
    rmi_word64 table;    /* pointer: the newest table; 0 = no series yet */
    rmi_word64 first;    /* pointer: the series in the order of their making */
    uint32_t count;      /* series in the table */
    uint32_t overflowed; /* 1 when the overflow series is in the list */
    rm_mutex mutex;      /* held to make a series */
    struct rmi_metrics_series *last;
    struct rmi_metrics_series *fixed; /* the only one without labels; else the overflow series */
    rm_metrics *metrics;
    size_t size;
    rm_metric_type type;
    uint32_t label_count, bound_count, decimals;
    rm_hist_desc bins;
    size_t stripe_size; /* with its bins; 0 unless a histogram */
    int64_t *bounds;
    uint32_t *bound_bins; /* the bin whose upper edge the bound is */
    char *name;
    size_t name_size;
    char *help;
    char *labels; /* names, each with a NUL */
};

/* A render inside a stats_fn, on its stack; in a list of the resource. */
struct rmi_metrics_visit {
    struct rmi_metrics_visit *next;
    uint32_t thread;
};

struct rmi_metrics_resource {
    struct rmi_metrics_resource *next;
    struct rmi_metrics_visit *visits;
    void (*stats_fn)(void *user, rm_stat_fn visit, void *visit_user);
    void *user;
    bool removed; /* somebody waits for the visits to end */
    uint32_t label_size;
    char label[3 * RMI_METRICS_RESOURCE + 16]; /* resource="..." */
};

struct rm_metrics {
    uint32_t family_count;
    uint32_t renders; /* running now */
    rm_waitq queue;   /* its lock guards the adding of families, and the resources */
    rm_env env;
    rm_hash_key key;
    uint32_t max_families, max_series;
    rm_metrics_family **families;
    struct rmi_metrics_resource *resources; /* in the order of registration */
    rm_counter dropped_series, dropped_samples, refused_values;
};

/* >>text: escaping and keys */

/* Writes data with U+FFFD for each byte that is not UTF-8 and a backslash before special ones. */
static void rmi_metrics_write(rm_text *text, const char *data, size_t size, const char *special) {
    size_t from = 0, i = 0;
    while (i < size) {
        const size_t length = rm_utf8_length(data + i, size - i);
        const bool escape = length == 1 && data[i] != '\0' && strchr(special, data[i]) != NULL;
        if (length > 0 && !escape) {
            i += length;
            continue;
        }
        rm_text_bytes(text, data + from, i - from);
        if (escape) {
            rm_text_bytes(text, "\\", 1);
            rm_text_bytes(text, data[i] == '\n' ? "n" : data + i, 1);
        } else {
            rm_text_bytes(text, "\xEF\xBF\xBD", 3);
        }
        from = ++i;
    }
    rm_text_bytes(text, data + from, size - from);
}

/* Writes name="value"; a further one is separated by a comma. */
static void rmi_metrics_label(rm_text *text, const char *name, const char *value, size_t size) {
    if (text->used > 0) rm_text_bytes(text, ",", 1);
    rm_text_string(text, name);
    rm_text_bytes(text, "=\"", 2);
    rmi_metrics_write(text, value, size, "\\\n\"");
    rm_text_bytes(text, "\"", 1);
}

static bool rmi_metrics_ascii(const char *data, size_t size) {
    uint64_t word, all = 0;
    for (; size >= 8; data += 8, size -= 8) {
        memcpy(&word, data, 8);
        all |= word;
    }
    for (; size > 0; ++data, --size)
        all |= (unsigned char)*data;
    return (all & UINT64_C(0x8080808080808080)) == 0;
}

/* Builds the key of label values. It is made of valid UTF-8, so that two values that look the same
   in the text are one series. Returns its size, 0 when it is too long. */
static size_t rmi_metrics_key(char *key, const char *const *values, uint32_t count) {
    size_t used = 0;
    uint32_t i;
    for (i = 0; i < count; ++i) {
        const size_t size = strlen(values[i]);
        if (size >= RMI_METRICS_KEY - used) return 0;
        if (rmi_metrics_ascii(values[i], size)) {
            memcpy(key + used, values[i], size);
            used += size;
        } else {
            rm_text text = rm_text_make(key + used, RMI_METRICS_KEY - used - 1);
            rmi_metrics_write(&text, values[i], size, "");
            if (text.overflow) return 0;
            used += text.used;
        }
        key[used++] = '\0';
    }
    return used;
}

/* >>series */

static struct rmi_metrics_stripe *rmi_metrics_stripe_at(const struct rmi_metrics_series *series,
                                                        uint32_t index) {
    const char *stripes = series->key - series->family->stripe_size * RMI_METRICS_STRIPES;
    return RMI_METRICS_POINTER(struct rmi_metrics_stripe,
                               stripes + series->family->stripe_size * index);
}

static void rmi_metrics_series_free(struct rmi_metrics_series *series) {
    const rm_metrics_family *family = series->family;
    const size_t stripes = family->stripe_size * RMI_METRICS_STRIPES;
    uint32_t i;
    for (i = 0; stripes > 0 && i < RMI_METRICS_STRIPES; ++i)
        rm_mutex_destroy(&rmi_metrics_stripe_at(series, i)->mutex);
    rm_free(family->metrics->env.allocator, series,
            sizeof *series + stripes + series->key_size + series->labels_size);
}

static rm_status rmi_metrics_stripes_init(struct rmi_metrics_series *series) {
    const size_t bins = series->family->stripe_size - sizeof(struct rmi_metrics_stripe);
    rm_status status = RM_OK;
    uint32_t i;
    for (i = 0; i < RMI_METRICS_STRIPES && status == RM_OK; ++i) {
        struct rmi_metrics_stripe *stripe = rmi_metrics_stripe_at(series, i);
        stripe->sum = 0;
        status = rm_hist_init(&stripe->hist, &series->family->bins, stripe + 1, bins);
        if (status == RM_OK) status = rm_mutex_init(&stripe->mutex);
    }
    if (status != RM_OK) {
        while (--i > 0)
            rm_mutex_destroy(&rmi_metrics_stripe_at(series, i - 1)->mutex);
    }
    return status;
}

/* Makes the series of a key; without a key the fixed one. */
static rm_status rmi_metrics_series_make(rm_metrics_family *family, const char *key,
                                         size_t key_size, uint64_t hash,
                                         struct rmi_metrics_series **out) {
    char buffer[2 * RMI_METRICS_KEY + RMI_METRICS_LABELS * (RMI_METRICS_NAME + 4)];
    const rm_allocator *allocator = family->metrics->env.allocator;
    const size_t stripes = family->stripe_size * RMI_METRICS_STRIPES;
    rm_text text = rm_text_make(buffer, sizeof buffer);
    struct rmi_metrics_series *series;
    const char *label = family->labels, *value = key;
    rm_status status = RM_OK;
    for (; value < key + key_size; label += strlen(label) + 1, value += strlen(value) + 1)
        rmi_metrics_label(&text, label, value, strlen(value));
    if (key_size == 0 && family->label_count > 0) rmi_metrics_label(&text, "overflow", "true", 4);
    series = (struct rmi_metrics_series *)rm_alloc(allocator,
                                                   sizeof *series + stripes + key_size + text.used);
    if (series == NULL) return RM_E_NOMEM;
    memset(series, 0, sizeof *series);
    series->hash = hash;
    series->family = family;
    series->key = (char *)(series + 1) + stripes;
    series->labels = series->key + key_size;
    series->key_size = (uint32_t)key_size;
    series->labels_size = (uint32_t)text.used;
    memcpy(series->key, key, key_size);
    memcpy(series->labels, buffer, text.used);
    if (stripes > 0) status = rmi_metrics_stripes_init(series);
    if (status == RM_OK)
        *out = series;
    else
        rm_free(allocator, series, sizeof *series + stripes + key_size + text.used);
    return status;
}

/* Shows a series: appends it to the family's list, with the family's mutex held. */
static void rmi_metrics_series_show(rm_metrics_family *family, struct rmi_metrics_series *series) {
    rmi_word64 *link = family->last == NULL ? &family->first : &family->last->next;
    family->last = series;
    RMI_STORE64(link, RMI_METRICS_WORD(series), RELEASE);
}

/* >>table */

static rmi_word64 *rmi_metrics_cells(struct rmi_metrics_table *table) {
    return (rmi_word64 *)(void *)(table + 1);
}

static size_t rmi_metrics_table_size(uint64_t mask) {
    return sizeof(struct rmi_metrics_table) + ((size_t)mask + 1) * sizeof(uint64_t);
}

/* Finds a series without a lock. NULL may also mean that it came to a newer table meanwhile. */
static struct rmi_metrics_series *rmi_metrics_find(rm_metrics_family *family, const char *key,
                                                   size_t size, uint64_t hash) {
    struct rmi_metrics_table *table =
        RMI_METRICS_POINTER(struct rmi_metrics_table, RMI_LOAD64(&family->table, ACQUIRE));
    uint64_t i;
    if (table == NULL) return NULL;
    for (i = hash;; ++i) {
        struct rmi_metrics_series *series =
            RMI_METRICS_POINTER(struct rmi_metrics_series,
                                RMI_LOAD64(&rmi_metrics_cells(table)[i & table->mask], ACQUIRE));
        if (series == NULL) return NULL;
        if (series->hash == hash && series->key_size == size && memcmp(series->key, key, size) == 0)
            return series;
    }
}

static void rmi_metrics_put(struct rmi_metrics_table *table, struct rmi_metrics_series *series) {
    rmi_word64 *cells = rmi_metrics_cells(table);
    uint64_t i = series->hash;
    while (RMI_LOAD64(&cells[i & table->mask], RELAXED) != 0)
        ++i;
    RMI_STORE64(&cells[i & table->mask], RMI_METRICS_WORD(series), RELEASE);
}

/* Sees to room for one more series: at most half of the cells are used. */
static struct rmi_metrics_table *rmi_metrics_table_grown(rm_metrics_family *family) {
    struct rmi_metrics_table *table,
        *older = RMI_METRICS_POINTER(struct rmi_metrics_table, RMI_LOAD64(&family->table, RELAXED));
    const uint64_t mask = older == NULL ? 7 : older->mask * 2 + 1;
    uint64_t i;
    if (older != NULL && (uint64_t)family->count * 2 < older->mask) return older;
    table = (struct rmi_metrics_table *)rm_alloc(family->metrics->env.allocator,
                                                 rmi_metrics_table_size(mask));
    if (table == NULL) return NULL;
    memset(table, 0, rmi_metrics_table_size(mask));
    table->older = older;
    table->mask = mask;
    for (i = 0; older != NULL && i <= older->mask; ++i) {
        const uint64_t word = RMI_LOAD64(&rmi_metrics_cells(older)[i], RELAXED);
        if (word != 0) rmi_metrics_put(table, RMI_METRICS_POINTER(struct rmi_metrics_series, word));
    }
    RMI_STORE64(&family->table, RMI_METRICS_WORD(table), RELEASE);
    return table;
}

/* Finds or makes a series under the lock. RM_E_FULL when the bound is reached. */
static rm_status rmi_metrics_admit(rm_metrics_family *family, const char *key, size_t size,
                                   uint64_t hash, struct rmi_metrics_series **out) {
    rm_status status = RM_OK;
    rm_mutex_lock(&family->mutex);
    *out = rmi_metrics_find(family, key, size, hash);
    if (*out == NULL && family->count == family->metrics->max_series) {
        status = RM_E_FULL;
    } else if (*out == NULL) {
        struct rmi_metrics_table *table = rmi_metrics_table_grown(family);
        status = table == NULL ? RM_E_NOMEM : rmi_metrics_series_make(family, key, size, hash, out);
        if (status == RM_OK) {
            rmi_metrics_series_show(family, *out);
            rmi_metrics_put(table, *out);
            RMI_STORE32(&family->count, family->count + 1, RELEASE);
        }
    }
    rm_mutex_unlock(&family->mutex);
    return status;
}

static struct rmi_metrics_series *rmi_metrics_overflow(rm_metrics_family *family) {
    if (RMI_LOAD32(&family->overflowed, ACQUIRE) == 0) {
        rm_mutex_lock(&family->mutex);
        if (family->overflowed == 0) rmi_metrics_series_show(family, family->fixed);
        RMI_STORE32(&family->overflowed, 1u, RELEASE);
        rm_mutex_unlock(&family->mutex);
    }
    (void)rm_counter_add(family->metrics->dropped_series, 1);
    return family->fixed;
}

static rm_status rmi_metrics_with(rm_metrics_family *family, rm_metric_type type,
                                  const char *const *values, uint32_t count,
                                  struct rmi_metrics_series **out, rm_error *error) {
    char key[RMI_METRICS_KEY];
    rm_status status = RM_OK;
    uint64_t hash;
    uint32_t i;
    size_t size;
    bool full;
    if (family == NULL) return rm_error_set(error, RM_E_INVALID, 0, "family", "it is NULL");
    if (family->type != type)
        return rm_error_set(error, RM_E_INVALID, 0, "family", "%s is of another type",
                            family->name);
    if (count != family->label_count || (count > 0 && values == NULL))
        return rm_error_set(error, RM_E_INVALID, 0, "values", "%s has %u labels", family->name,
                            (unsigned)family->label_count);
    for (i = 0; i < count; ++i) {
        if (values[i] == NULL)
            return rm_error_set(error, RM_E_INVALID, 0, "values", "values[%u] is NULL",
                                (unsigned)i);
    }
    *out = family->fixed;
    if (count == 0) return RM_OK;
    size = rmi_metrics_key(key, values, count);
    hash = rm_hash(&family->metrics->key, key, size);
    /* read before the search: a full table is complete, and what is not in it never will be */
    full = RMI_LOAD32(&family->count, ACQUIRE) == family->metrics->max_series;
    *out = size == 0 ? NULL : rmi_metrics_find(family, key, size, hash);
    if (*out == NULL && size > 0 && !full) status = rmi_metrics_admit(family, key, size, hash, out);
    if (status == RM_E_FULL || (status == RM_OK && *out == NULL)) {
        *out = rmi_metrics_overflow(family);
        return RM_OK;
    }
    return status == RM_OK ? RM_OK
                           : rm_error_set(error, status, 0, family->name, "cannot make the series");
}

/* >>families */

static bool rmi_metrics_name_valid(const char *name, bool label) {
    size_t i;
    for (i = 0; name[i] != '\0'; ++i) {
        const char c = name[i];
        const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!letter && !(c == ':' && !label) && !(c >= '0' && c <= '9' && i > 0)) return false;
    }
    return i > 0;
}

/* Whether a label may have this name: two underscores are Prometheus' own, le is a histogram's. */
static bool rmi_metrics_label_valid(const char *name, bool histogram) {
    return rmi_metrics_name_valid(name, true) && strncmp(name, "__", 2) != 0 &&
           !(histogram && strcmp(name, "le") == 0);
}

static rm_status rmi_metrics_check_labels(const rm_metric_desc *desc, rm_error *error) {
    uint32_t i, j;
    if (desc->label_count > RMI_METRICS_LABELS)
        return rm_error_set(error, RM_E_INVALID, 0, "label_count", "at most 8");
    if (desc->label_count > 0 && desc->labels == NULL)
        return rm_error_set(error, RM_E_INVALID, 0, "labels", "NULL, but label_count is not 0");
    for (i = 0; i < desc->label_count; ++i) {
        const char *label = desc->labels[i];
        if (label == NULL)
            return rm_error_set(error, RM_E_INVALID, 0, "labels", "labels[%u] is NULL",
                                (unsigned)i);
        if (strlen(label) > RMI_METRICS_NAME)
            return rm_error_set(error, RM_E_TOO_LARGE, 0, "labels",
                                "labels[%u] is over 127 bytes long", (unsigned)i);
        if (!rmi_metrics_label_valid(label, desc->type == RM_METRIC_HISTOGRAM) ||
            strcmp(label, "overflow") == 0)
            return rm_error_set(error, RM_E_INVALID, 0, "labels",
                                "labels[%u] is no label name, or one that is reserved",
                                (unsigned)i);
        for (j = 0; j < i; ++j) {
            if (strcmp(label, desc->labels[j]) == 0)
                return rm_error_set(error, RM_E_INVALID, 0, "labels", "%s is there twice", label);
        }
    }
    return RM_OK;
}

static rm_status rmi_metrics_check(const rm_metric_desc *desc, rm_error *error) {
    if (desc->name == NULL || !rmi_metrics_name_valid(desc->name, false))
        return rm_error_set(error, RM_E_INVALID, 0, "name", "must match [a-zA-Z_:][a-zA-Z0-9_:]*");
    if (strlen(desc->name) > RMI_METRICS_NAME)
        return rm_error_set(error, RM_E_TOO_LARGE, 0, "name", "over 127 bytes long");
    if (desc->help == NULL || desc->help[0] == '\0')
        return rm_error_set(error, RM_E_INVALID, 0, "help", "%s needs a help text", desc->name);
    if (strlen(desc->help) > RMI_METRICS_HELP)
        return rm_error_set(error, RM_E_TOO_LARGE, 0, "help", "over 1023 bytes long");
    if ((unsigned)desc->type > (unsigned)RM_METRIC_HISTOGRAM)
        return rm_error_set(error, RM_E_INVALID, 0, "type", "%d is none", (int)desc->type);
    if (desc->decimals > 18) return rm_error_set(error, RM_E_INVALID, 0, "decimals", "at most 18");
    if (desc->bound_count > RMI_METRICS_BOUNDS)
        return rm_error_set(error, RM_E_INVALID, 0, "bound_count", "at most 64");
    if ((desc->bounds == NULL) != (desc->bound_count == 0))
        return rm_error_set(error, RM_E_INVALID, 0, "bounds",
                            "bounds and bound_count do not agree");
    if (desc->type != RM_METRIC_HISTOGRAM) {
        const rm_hist_desc *bins = &desc->bins;
        if (desc->bounds != NULL)
            return rm_error_set(error, RM_E_INVALID, 0, "bounds", "for histograms only");
        if (desc->decimals != 0)
            return rm_error_set(error, RM_E_INVALID, 0, "decimals", "for histograms only");
        if (bins->first_decade != 0 || bins->last_decade != 0 || bins->per_decade != 0)
            return rm_error_set(error, RM_E_INVALID, 0, "bins", "for histograms only");
    }
    return rmi_metrics_check_labels(desc, error);
}

/* Fills in the defaults of a histogram: Prometheus' bounds, and bins around them. */
static rm_status rmi_metrics_resolve(rm_metric_desc *desc, int64_t *memory, rm_error *error) {
    static const int64_t thousandths[] = {5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000};
    rm_hist_desc *bins = &desc->bins;
    int64_t power = 1;
    uint32_t i;
    if (desc->bound_count == 0) {
        if (desc->decimals < 3 || desc->decimals > 17)
            return rm_error_set(error, RM_E_INVALID, 0, "bounds",
                                "the default ones need 3 to 17 decimals");
        for (i = 3; i < desc->decimals; ++i)
            power *= 10;
        for (i = 0; i < sizeof thousandths / sizeof *thousandths; ++i)
            memory[i] = thousandths[i] * power;
        desc->bounds = memory;
        desc->bound_count = i;
    }
    if (bins->first_decade == 0 && bins->last_decade == 0) {
        const int64_t low = desc->bounds[0], high = desc->bounds[desc->bound_count - 1];
        for (power = 1000; power <= low / 10; power *= 10)
            ++bins->first_decade;
        for (power = 1; power < high && bins->last_decade < 17; power *= 10)
            ++bins->last_decade;
        ++bins->last_decade;
    }
    if (bins->last_decade == 0) bins->last_decade = 9;
    if (bins->per_decade == 0) bins->per_decade = 16;
    if (rm_hist_footprint(bins) == 0)
        return rm_error_set(error, RM_E_INVALID, 0, "bins",
                            "first_decade < last_decade <= 18; per_decade 16, 32, 80 or 160");
    return RM_OK;
}

/* Finds the bin of each bound, with the histogram of the fixed series. */
static rm_status rmi_metrics_bind(rm_metrics_family *family, rm_error *error) {
    const rm_hist *hist = &rmi_metrics_stripe_at(family->fixed, 0)->hist;
    uint32_t i, bin = 0;
    for (i = 0; i < family->bound_count; ++i) {
        const int64_t bound = family->bounds[i];
        if (bound < 0 || (i > 0 && bound <= family->bounds[i - 1]))
            return rm_error_set(error, RM_E_INVALID, 0, "bounds",
                                "bounds[%u] = %lld is not above the one before it, or negative",
                                (unsigned)i, (long long)bound);
        while (rm_hist_bin_edge(hist, bin) < bound)
            ++bin;
        if (rm_hist_bin_edge(hist, bin) != bound || bin + 1 >= hist->bins)
            return rm_error_set(
                error, RM_E_INVALID, 0, "bounds",
                "bounds[%u] = %lld is no edge of bins: use a round number, or finer "
                "or wider bins",
                (unsigned)i, (long long)bound);
        family->bound_bins[i] = bin;
    }
    return RM_OK;
}

static void rmi_metrics_family_free(rm_metrics_family *family) {
    const rm_allocator *allocator = family->metrics->env.allocator;
    struct rmi_metrics_table *table = RMI_METRICS_POINTER(struct rmi_metrics_table, family->table);
    struct rmi_metrics_series *series =
        RMI_METRICS_POINTER(struct rmi_metrics_series, family->first);
    while (series != NULL) {
        struct rmi_metrics_series *next =
            RMI_METRICS_POINTER(struct rmi_metrics_series, series->next);
        if (series != family->fixed) rmi_metrics_series_free(series);
        series = next;
    }
    if (family->fixed != NULL) rmi_metrics_series_free(family->fixed);
    while (table != NULL) {
        struct rmi_metrics_table *older = table->older;
        rm_free(allocator, table, rmi_metrics_table_size(table->mask));
        table = older;
    }
    rm_mutex_destroy(&family->mutex);
    rm_free(allocator, family, family->size);
}

static size_t rmi_metrics_family_size(const rm_metric_desc *desc) {
    size_t size = sizeof(rm_metrics_family) + strlen(desc->name) + strlen(desc->help) + 2;
    uint32_t i;
    size += desc->bound_count * (sizeof(int64_t) + sizeof(uint32_t));
    for (i = 0; i < desc->label_count; ++i)
        size += strlen(desc->labels[i]) + 1;
    return size;
}

/* Copies a description into the memory behind the family. */
static void rmi_metrics_family_fill(rm_metrics_family *family, const rm_metric_desc *desc) {
    const size_t help_size = strlen(desc->help) + 1;
    char *label;
    uint32_t i;
    family->type = desc->type;
    family->label_count = desc->label_count;
    family->bound_count = desc->bound_count;
    family->decimals = desc->decimals;
    family->bins = desc->bins;
    family->name_size = strlen(desc->name);
    family->bounds = (int64_t *)(void *)(family + 1);
    family->bound_bins = (uint32_t *)(void *)(family->bounds + desc->bound_count);
    family->name = (char *)(family->bound_bins + desc->bound_count);
    family->help = family->name + family->name_size + 1;
    family->labels = label = family->help + help_size;
    if (desc->bound_count > 0)
        memcpy(family->bounds, desc->bounds, desc->bound_count * sizeof *desc->bounds);
    memcpy(family->name, desc->name, family->name_size + 1);
    memcpy(family->help, desc->help, help_size);
    for (i = 0; i < desc->label_count; ++i) {
        const size_t size = strlen(desc->labels[i]) + 1;
        memcpy(label, desc->labels[i], size);
        label += size;
    }
    if (desc->type == RM_METRIC_HISTOGRAM) /* in whole cache lines */
        family->stripe_size =
            (sizeof(struct rmi_metrics_stripe) + rm_hist_footprint(&desc->bins) + 63) / 64 * 64;
}

static rm_status rmi_metrics_family_make(rm_metrics *metrics, const rm_metric_desc *desc,
                                         rm_metrics_family **out, rm_error *error) {
    const size_t size = rmi_metrics_family_size(desc);
    rm_metrics_family *family = (rm_metrics_family *)rm_alloc(metrics->env.allocator, size);
    rm_status status;
    if (family == NULL)
        return rm_error_set(error, RM_E_NOMEM, 0, desc->name, "no memory for the family");
    memset(family, 0, sizeof *family);
    family->metrics = metrics;
    family->size = size;
    rmi_metrics_family_fill(family, desc);
    status = rm_mutex_init(&family->mutex);
    if (status != RM_OK) {
        rm_free(metrics->env.allocator, family, size);
        return rm_error_set(error, status, 0, desc->name, "the platform has no mutex to give");
    }
    status = rmi_metrics_series_make(family, "", 0, 0, &family->fixed);
    if (status != RM_OK)
        (void)rm_error_set(error, status, 0, desc->name, "cannot make the first series");
    else if (desc->type == RM_METRIC_HISTOGRAM)
        status = rmi_metrics_bind(family, error);
    if (status != RM_OK) {
        rmi_metrics_family_free(family);
        return status;
    }
    if (desc->label_count == 0) rmi_metrics_series_show(family, family->fixed);
    *out = family;
    return RM_OK;
}

/* What differs between a family and a description of the same name; NULL = nothing. */
static const char *rmi_metrics_difference(const rm_metrics_family *family,
                                          const rm_metric_desc *desc) {
    const char *label = family->labels;
    uint32_t i;
    if (family->type != desc->type) return "type";
    if (strcmp(family->help, desc->help) != 0) return "help";
    if (family->label_count != desc->label_count) return "labels";
    for (i = 0; i < desc->label_count; ++i, label += strlen(label) + 1) {
        if (strcmp(label, desc->labels[i]) != 0) return "labels";
    }
    if (family->decimals != desc->decimals) return "decimals";
    if (family->bound_count != desc->bound_count) return "bounds";
    for (i = 0; i < desc->bound_count; ++i) {
        if (family->bounds[i] != desc->bounds[i]) return "bounds";
    }
    if (family->bins.first_decade != desc->bins.first_decade ||
        family->bins.last_decade != desc->bins.last_decade ||
        family->bins.per_decade != desc->bins.per_decade)
        return "bins";
    return NULL;
}

/* The suffixes of a histogram's samples. */
static const char *rmi_metrics_suffix(uint32_t index) {
    static const char *const suffixes[] = {"_bucket", "_sum", "_count"};
    return index < 3 ? suffixes[index] : NULL;
}

/* Whether name is histogram with a suffix. */
static bool rmi_metrics_extends(const char *name, const char *histogram) {
    const size_t size = strlen(histogram);
    uint32_t i;
    if (strncmp(name, histogram, size) != 0) return false;
    for (i = 0; i < 3; ++i) {
        if (strcmp(name + size, rmi_metrics_suffix(i)) == 0) return true;
    }
    return false;
}

/* Finds a family that has the name or one of the sample names of a new one. */
static rm_metrics_family *rmi_metrics_clash(rm_metrics *metrics, const char *name, bool histogram) {
    const uint32_t count = RMI_LOAD32(&metrics->family_count, ACQUIRE);
    uint32_t i;
    for (i = 0; i < count; ++i) {
        rm_metrics_family *family = metrics->families[i];
        if (strcmp(name, family->name) == 0 ||
            (family->type == RM_METRIC_HISTOGRAM && rmi_metrics_extends(name, family->name)) ||
            (histogram && rmi_metrics_extends(family->name, name)))
            return family;
    }
    return NULL;
}

static rm_status rmi_metrics_add_locked(rm_metrics *metrics, const rm_metric_desc *desc,
                                        rm_metrics_family **out, rm_error *error) {
    const uint32_t count = metrics->family_count;
    rm_metrics_family *family =
        rmi_metrics_clash(metrics, desc->name, desc->type == RM_METRIC_HISTOGRAM);
    const char *difference;
    rm_status status;
    if (family != NULL && strcmp(family->name, desc->name) != 0)
        return rm_error_set(error, RM_E_EXISTS, 0, "name", "%s and %s have samples of one name",
                            desc->name, family->name);
    if (family != NULL) {
        difference = rmi_metrics_difference(family, desc);
        if (difference != NULL)
            return rm_error_set(error, RM_E_EXISTS, 0, difference,
                                "%s was added before with another value here", desc->name);
        *out = family;
        return RM_OK;
    }
    if (count == metrics->max_families + RMI_METRICS_OWN)
        return rm_error_set(error, RM_E_FULL, 0, "max_families", "%u are there; raise max_families",
                            (unsigned)metrics->max_families);
    status = rmi_metrics_family_make(metrics, desc, &family, error);
    if (status != RM_OK) return status;
    metrics->families[count] = family;
    RMI_STORE32(&metrics->family_count, count + 1, RELEASE);
    *out = family;
    return RM_OK;
}

/* >>public: registry */

RM_API rm_metric_desc rm_metrics_describe(rm_metric_type type, const char *name, const char *help) {
    rm_metric_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.type = type;
    desc.name = name;
    desc.help = help;
    return desc;
}

RM_API rm_status rm_metrics_add(rm_metrics *metrics, const rm_metric_desc *desc,
                                rm_metrics_family **out, rm_error *error) {
    int64_t memory[11];
    rm_metric_desc full;
    rm_status status;
    if (metrics == NULL || desc == NULL || out == NULL)
        return rm_error_set(error, RM_E_INVALID, 0,
                            metrics == NULL ? "metrics"
                            : desc == NULL  ? "desc"
                                            : "out",
                            "it is NULL");
    status = rmi_metrics_check(desc, error);
    if (status != RM_OK) return status;
    full = *desc;
    if (full.type == RM_METRIC_HISTOGRAM) status = rmi_metrics_resolve(&full, memory, error);
    if (status != RM_OK) return status;
    rm_waitq_lock(&metrics->queue);
    status = rmi_metrics_add_locked(metrics, &full, out, error);
    rm_waitq_unlock(&metrics->queue);
    return status;
}

/* Adds a counter of the registry's own. */
static rm_status rmi_metrics_own(rm_metrics *metrics, const char *name, const char *help,
                                 rm_counter *out, rm_error *error) {
    const rm_metric_desc desc = rm_metrics_describe(RM_METRIC_COUNTER, name, help);
    rm_metrics_family *family = NULL;
    const rm_status status = rm_metrics_add(metrics, &desc, &family, error);
    return status != RM_OK ? status : rm_counter_with(family, NULL, 0, out, error);
}

static rm_status rmi_metrics_fill(rm_metrics *metrics, rm_error *error) {
    const size_t size = (metrics->max_families + RMI_METRICS_OWN) * sizeof *metrics->families;
    rm_status status;
    metrics->families = (rm_metrics_family **)rm_alloc(metrics->env.allocator, size);
    if (metrics->families == NULL)
        return rm_error_set(error, RM_E_NOMEM, 0, "rm_metrics", "no memory for max_families");
    status = rmi_metrics_own(metrics, "rm_metrics_dropped_series_total",
                             "Look-ups of series that ended in an overflow series.",
                             &metrics->dropped_series, error);
    if (status == RM_OK)
        status = rmi_metrics_own(metrics, "rm_metrics_dropped_samples_total",
                                 "Samples of resources that were left out because they would break "
                                 "the text.",
                                 &metrics->dropped_samples, error);
    if (status == RM_OK)
        status = rmi_metrics_own(metrics, "rm_metrics_refused_values_total",
                                 "Negative values that histograms refused.",
                                 &metrics->refused_values, error);
    return status;
}

RM_API rm_status rm_abi1_define_RM_METRICS_IMPLEMENTATION_in_one_c_file(const rm_metrics_desc *desc,
                                                                        rm_metrics **out,
                                                                        rm_error *error) {
    const uint32_t families = desc == NULL || desc->max_families == 0 ? 256 : desc->max_families;
    const uint32_t series = desc == NULL || desc->max_series == 0 ? 1000 : desc->max_series;
    rm_waitq_desc queue;
    rm_metrics *metrics;
    rm_env env;
    rm_status status;
    if (out == NULL) return rm_error_set(error, RM_E_INVALID, 0, "out", "it is NULL");
    if (families > 65535)
        return rm_error_set(error, RM_E_INVALID, 0, "max_families", "at most 65535");
    if (series > 1u << 24)
        return rm_error_set(error, RM_E_INVALID, 0, "max_series", "at most 2^24");
    status = rm_env_resolve(desc == NULL ? NULL : desc->env, &env, error);
    if (status != RM_OK) return status;
    metrics = (rm_metrics *)rm_alloc(env.allocator, sizeof *metrics);
    if (metrics == NULL)
        return rm_error_set(error, RM_E_NOMEM, 0, "rm_metrics", "no memory for the registry");
    memset(metrics, 0, sizeof *metrics);
    metrics->env = env;
    metrics->key = rm_hash_key_random(env.random);
    metrics->max_families = families;
    metrics->max_series = series;
    memset(&queue, 0, sizeof queue);
    queue.clock = env.clock;
    status = rm_waitq_init(&metrics->queue, &queue);
    if (status != RM_OK) {
        rm_free(env.allocator, metrics, sizeof *metrics);
        return rm_error_set(error, status, 0, "rm_metrics", "the platform has no mutex to give");
    }
    status = rmi_metrics_fill(metrics, error);
    if (status == RM_OK)
        *out = metrics;
    else
        (void)rm_metrics_destroy(metrics);
    return status;
}

static rm_status rmi_metrics_series_restart(struct rmi_metrics_series *series) {
    if (series->family->type == RM_METRIC_COUNTER) series->value = 0;
    return series->family->stripe_size > 0 ? rmi_metrics_stripes_init(series) : RM_OK;
}

/* In the child of a fork. A series may have got into the list only; what follows from the list is
   put right: the table, the last one, the count. */
static rm_status rmi_metrics_family_restart(rm_metrics_family *family) {
    struct rmi_metrics_table *table = RMI_METRICS_POINTER(struct rmi_metrics_table, family->table);
    uint64_t word = family->first;
    rm_status status = rm_mutex_init(&family->mutex);
    if (status == RM_OK) status = rmi_metrics_series_restart(family->fixed);
    family->last = NULL;
    family->count = family->overflowed = 0;
    while (word != 0 && status == RM_OK) {
        struct rmi_metrics_series *series = RMI_METRICS_POINTER(struct rmi_metrics_series, word);
        family->last = series;
        word = series->next;
        if (series == family->fixed) {
            family->overflowed = family->label_count > 0 ? 1 : 0;
            continue;
        }
        ++family->count;
        if (rmi_metrics_find(family, series->key, series->key_size, series->hash) == NULL)
            rmi_metrics_put(table, series);
        status = rmi_metrics_series_restart(series);
    }
    return status;
}

RM_API rm_status rm_metrics_after_fork_child(rm_metrics *metrics) {
    rm_waitq_desc queue;
    rm_status status = RM_OK;
    uint32_t i;
    if (metrics == NULL) return RM_E_INVALID;
    metrics->renders = 0;
    metrics->resources = NULL;
    for (i = 0; i < metrics->family_count && status == RM_OK; ++i)
        status = rmi_metrics_family_restart(metrics->families[i]);
    memset(&queue, 0, sizeof queue);
    queue.clock = metrics->env.clock;
    return status == RM_OK ? rm_waitq_init(&metrics->queue, &queue) : status;
}

RM_API rm_status rm_metrics_destroy(rm_metrics *metrics) {
    const rm_allocator *allocator;
    uint32_t i;
    if (metrics == NULL) return RM_OK;
    if (RMI_LOAD32(&metrics->renders, ACQUIRE) != 0 || rm_waitq_destroy(&metrics->queue) != RM_OK)
        return RM_E_BUSY;
    allocator = metrics->env.allocator;
    for (i = 0; i < metrics->family_count; ++i)
        rmi_metrics_family_free(metrics->families[i]);
    while (metrics->resources != NULL) {
        struct rmi_metrics_resource *next = metrics->resources->next;
        rm_free(allocator, metrics->resources, sizeof *metrics->resources);
        metrics->resources = next;
    }
    rm_free(allocator, metrics->families,
            (metrics->max_families + RMI_METRICS_OWN) * sizeof *metrics->families);
    rm_free(allocator, metrics, sizeof *metrics);
    return RM_OK;
}

/* >>public: counter, gauge, histogram */

RM_API rm_status rm_counter_with(rm_metrics_family *family, const char *const *values,
                                 uint32_t count, rm_counter *out, rm_error *error) {
    struct rmi_metrics_series *series = NULL;
    rm_status status;
    if (out == NULL) return rm_error_set(error, RM_E_INVALID, 0, "out", "it is NULL");
    status = rmi_metrics_with(family, RM_METRIC_COUNTER, values, count, &series, error);
    if (status == RM_OK) out->series = series;
    return status;
}

RM_API rm_status rm_counter_add(rm_counter counter, uint64_t n) {
    if (counter.series == NULL) return RM_E_STALE;
    (void)RMI_ADD64(&counter.series->value, n, RELAXED);
    return RM_OK;
}

RM_API rm_status rm_counter_value(rm_counter counter, uint64_t *out) {
    if (out == NULL) return RM_E_INVALID;
    if (counter.series == NULL) return RM_E_STALE;
    *out = RMI_LOAD64(&counter.series->value, RELAXED);
    return RM_OK;
}

static uint64_t rmi_metrics_bits(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static double rmi_metrics_double(uint64_t bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

RM_API rm_status rm_gauge_with(rm_metrics_family *family, const char *const *values, uint32_t count,
                               rm_gauge *out, rm_error *error) {
    struct rmi_metrics_series *series = NULL;
    rm_status status;
    if (out == NULL) return rm_error_set(error, RM_E_INVALID, 0, "out", "it is NULL");
    status = rmi_metrics_with(family, RM_METRIC_GAUGE, values, count, &series, error);
    if (status == RM_OK) out->series = series;
    return status;
}

RM_API rm_status rm_gauge_set(rm_gauge gauge, double value) {
    if (gauge.series == NULL) return RM_E_STALE;
    RMI_STORE64(&gauge.series->value, rmi_metrics_bits(value), RELAXED);
    return RM_OK;
}

RM_API rm_status rm_gauge_add(rm_gauge gauge, double delta) {
    uint64_t old, sum;
    if (gauge.series == NULL) return RM_E_STALE;
    old = RMI_LOAD64(&gauge.series->value, RELAXED);
    do {
        sum = rmi_metrics_bits(rmi_metrics_double(old) + delta);
    } while (!RMI_CAS64(&gauge.series->value, &old, sum, RELAXED));
    return RM_OK;
}

RM_API rm_status rm_gauge_value(rm_gauge gauge, double *out) {
    if (out == NULL) return RM_E_INVALID;
    if (gauge.series == NULL) return RM_E_STALE;
    *out = rmi_metrics_double(RMI_LOAD64(&gauge.series->value, RELAXED));
    return RM_OK;
}

RM_API rm_status rm_histogram_with(rm_metrics_family *family, const char *const *values,
                                   uint32_t count, rm_histogram *out, rm_error *error) {
    struct rmi_metrics_series *series = NULL;
    rm_status status;
    if (out == NULL) return rm_error_set(error, RM_E_INVALID, 0, "out", "it is NULL");
    status = rmi_metrics_with(family, RM_METRIC_HISTOGRAM, values, count, &series, error);
    if (status == RM_OK) out->series = series;
    return status;
}

RM_API rm_status rm_histogram_observe(rm_histogram histogram, int64_t value) {
    struct rmi_metrics_stripe *stripe;
    if (histogram.series == NULL) return RM_E_STALE;
    if (value < 0) {
        (void)rm_counter_add(histogram.series->family->metrics->refused_values, 1);
        return RM_E_INVALID;
    }
    stripe = rmi_metrics_stripe_at(histogram.series, rm_thread_number() % RMI_METRICS_STRIPES);
    rm_mutex_lock(&stripe->mutex);
    (void)rm_hist_record(&stripe->hist, value);
    stripe->sum += (uint64_t)value;
    rm_mutex_unlock(&stripe->mutex);
    return RM_OK;
}

/* >>render: families */

static const char *rmi_metrics_type_name(rm_metric_type type) {
    return type == RM_METRIC_COUNTER ? "counter" : type == RM_METRIC_GAUGE ? "gauge" : "histogram";
}

static void rmi_metrics_head(rm_text *text, const char *name, const char *help, const char *type) {
    rm_text_string(text, "# HELP ");
    rm_text_string(text, name);
    rm_text_bytes(text, " ", 1);
    rmi_metrics_write(text, help, strlen(help), "\\\n");
    rm_text_string(text, "\n# TYPE ");
    rm_text_string(text, name);
    rm_text_bytes(text, " ", 1);
    rm_text_string(text, type);
    rm_text_bytes(text, "\n", 1);
}

/* What the lines of a series have in common. */
struct rmi_metrics_line {
    const char *name;
    const char *labels;
    size_t labels_size;
    uint32_t decimals;
};

/* Writes a line up to the value; suffix may be NULL. */
static void rmi_metrics_start(rm_text *text, const struct rmi_metrics_line *line,
                              const char *suffix) {
    rm_text_string(text, line->name);
    rm_text_string(text, suffix);
    if (line->labels_size > 0) {
        rm_text_bytes(text, "{", 1);
        rm_text_bytes(text, line->labels, line->labels_size);
        rm_text_bytes(text, "} ", 2);
    } else {
        rm_text_bytes(text, " ", 1);
    }
}

/* Writes a bucket's line; the bound INT64_MAX is +Inf. */
static void rmi_metrics_bucket(rm_text *text, const struct rmi_metrics_line *line, int64_t bound,
                               uint64_t count) {
    rm_text_string(text, line->name);
    rm_text_string(text, "_bucket{");
    rm_text_bytes(text, line->labels, line->labels_size);
    rm_text_string(text, line->labels_size > 0 ? ",le=\"" : "le=\"");
    if (bound == INT64_MAX)
        rm_text_string(text, "+Inf");
    else
        rm_text_decimal(text, bound, line->decimals);
    rm_text_bytes(text, "\"} ", 3);
    rm_text_uint(text, count);
    rm_text_bytes(text, "\n", 1);
}

/* Writes value * 10^-decimals for the values beyond rm_text_decimal's too. */
static void rmi_metrics_decimal(rm_text *text, uint64_t value, uint32_t decimals) {
    char buffer[24];
    rm_text fraction = rm_text_make(buffer, sizeof buffer);
    uint64_t scale = 1;
    uint32_t i;
    for (i = 0; i < decimals; ++i)
        scale *= 10;
    rm_text_decimal(&fraction, (int64_t)(value % scale), decimals); /* 0 or 0.5 */
    rm_text_uint(text, value / scale);
    rm_text_bytes(text, buffer + 1, fraction.used - 1);
}

/* Writes the end of a histogram. */
static void rmi_metrics_total(rm_text *text, const struct rmi_metrics_line *line, uint64_t sum,
                              uint64_t count) {
    rmi_metrics_bucket(text, line, INT64_MAX, count);
    rmi_metrics_start(text, line, "_sum");
    rmi_metrics_decimal(text, sum, line->decimals);
    rm_text_bytes(text, "\n", 1);
    rmi_metrics_start(text, line, "_count");
    rm_text_uint(text, count);
    rm_text_bytes(text, "\n", 1);
}

/* Adds up the stripes, each under its lock, and writes the sums without one. */
static void rmi_metrics_histogram(rm_text *text, const struct rmi_metrics_line *line,
                                  const struct rmi_metrics_series *series) {
    const rm_metrics_family *family = series->family;
    uint64_t le[RMI_METRICS_BOUNDS] = {0};
    uint64_t count = 0, sum = 0;
    uint32_t i, bound;
    for (i = 0; i < RMI_METRICS_STRIPES; ++i) {
        struct rmi_metrics_stripe *stripe = rmi_metrics_stripe_at(series, i);
        uint64_t seen = 0;
        uint32_t bin = 0;
        rm_mutex_lock(&stripe->mutex);
        for (bound = 0; bound < family->bound_count; ++bound) {
            for (; bin <= family->bound_bins[bound]; ++bin)
                seen += stripe->hist.counts[bin];
            le[bound] += seen;
        }
        count += stripe->hist.count;
        sum += stripe->sum;
        rm_mutex_unlock(&stripe->mutex);
    }
    for (bound = 0; bound < family->bound_count; ++bound)
        rmi_metrics_bucket(text, line, family->bounds[bound], le[bound]);
    rmi_metrics_total(text, line, sum, count);
}

static void rmi_metrics_series_write(rm_text *text, struct rmi_metrics_series *series) {
    const rm_metrics_family *family = series->family;
    struct rmi_metrics_line line;
    line.name = family->name;
    line.labels = series->labels;
    line.labels_size = series->labels_size;
    line.decimals = family->decimals;
    if (family->type == RM_METRIC_HISTOGRAM) {
        rmi_metrics_histogram(text, &line, series);
        return;
    }
    rmi_metrics_start(text, &line, NULL);
    if (family->type == RM_METRIC_COUNTER)
        rm_text_uint(text, RMI_LOAD64(&series->value, RELAXED));
    else
        rm_text_double(text, rmi_metrics_double(RMI_LOAD64(&series->value, RELAXED)));
    rm_text_bytes(text, "\n", 1);
}

/* Writes the families from index on; no lock but those of histogram stripes. */
static void rmi_metrics_families(rm_metrics *metrics, rm_text *text, uint32_t index, uint32_t end) {
    for (; index < end && !text->overflow; ++index) {
        rm_metrics_family *family = metrics->families[index];
        uint64_t word = RMI_LOAD64(&family->first, ACQUIRE);
        rmi_metrics_head(text, family->name, family->help, rmi_metrics_type_name(family->type));
        while (word != 0 && !text->overflow) {
            struct rmi_metrics_series *series =
                RMI_METRICS_POINTER(struct rmi_metrics_series, word);
            rmi_metrics_series_write(text, series);
            word = RMI_LOAD64(&series->next, ACQUIRE);
        }
    }
}

/* >>render: resources
   Statistics live during the visit only, and those of one name have to stand together. So each pass
   over all resources writes one name: the first that is not done yet. It costs a visit of each
   resource for each name, and no memory. Names are remembered as hashes with a random key. */

enum { RMI_METRICS_REFUSED = 0, RMI_METRICS_PLAIN, RMI_METRICS_TRIPLE };

struct rmi_metrics_pass {
    rm_metrics *metrics;
    rm_text *text;
    const struct rmi_metrics_resource *resource; /* being visited */
    uint64_t hash;                               /* of the name of this pass, once it is open */
    rm_stat_type type;
    bool open;    /* it has a name */
    bool refused; /* the samples of that name are counted and not written */
    bool headed;  /* HELP and TYPE are written */
    bool last;    /* no room for further names: all that are not done are refused */
    uint32_t seen_count, done_count;
    uint64_t seen[RMI_METRICS_SAMPLES]; /* label hashes of this name in this resource */
    uint64_t done[RMI_METRICS_STAT_NAMES];
    uint8_t kind[RMI_METRICS_STAT_NAMES];
    char name[RMI_METRICS_NAME + 1];
};

static uint64_t rmi_metrics_hash(const struct rmi_metrics_pass *pass, const char *string) {
    return rm_hash(&pass->metrics->key, string, strlen(string));
}

/* Tells whether a name is done, with this kind at least. */
static bool rmi_metrics_done(const struct rmi_metrics_pass *pass, uint64_t hash, uint8_t kind) {
    uint32_t i;
    for (i = 0; i < pass->done_count; ++i) {
        if (pass->done[i] == hash) return pass->kind[i] >= kind;
    }
    return false;
}

/* Tells whether a statistic's samples have the names of samples that were written before. */
static bool rmi_metrics_repeats(const struct rmi_metrics_pass *pass, const char *name,
                                bool histogram) {
    char other[RMI_METRICS_NAME + RMI_METRICS_SUFFIX];
    const size_t size = strlen(name);
    uint32_t i;
    for (i = 0; i < 3; ++i) {
        const char *suffix = rmi_metrics_suffix(i);
        const size_t length = strlen(suffix);
        memcpy(other, name, size + 1);
        if (size > length && strcmp(other + size - length, suffix) == 0) {
            other[size - length] = '\0';
            if (rmi_metrics_done(pass, rmi_metrics_hash(pass, other), RMI_METRICS_TRIPLE))
                return true;
        }
        memcpy(other, name, size);
        memcpy(other + size, suffix, length + 1);
        if (histogram && rmi_metrics_done(pass, rmi_metrics_hash(pass, other), RMI_METRICS_PLAIN))
            return true;
    }
    return false;
}

/* Makes a statistic's name the one of this pass. */
static void rmi_metrics_open(struct rmi_metrics_pass *pass, const rm_stat *stat, const char *name,
                             uint64_t hash) {
    const bool histogram = stat->type == RM_STAT_HISTOGRAM;
    pass->open = true;
    pass->headed = false;
    pass->hash = hash;
    pass->type = stat->type;
    pass->last = pass->done_count + 1 == RMI_METRICS_STAT_NAMES;
    pass->refused = pass->last || !rmi_name_fits(name, RMI_METRICS_NAME) ||
                    !rmi_metrics_name_valid(name, false) || stat->help == NULL ||
                    stat->help[0] == '\0' || (unsigned)stat->type > (unsigned)RM_STAT_HISTOGRAM ||
                    rmi_metrics_clash(pass->metrics, name, histogram) != NULL ||
                    rmi_metrics_repeats(pass, name, histogram);
    rmi_copy_string(pass->name, sizeof pass->name, name);
    pass->kind[pass->done_count] = (uint8_t)(pass->refused ? RMI_METRICS_REFUSED
                                             : histogram   ? RMI_METRICS_TRIPLE
                                                           : RMI_METRICS_PLAIN);
    pass->done[pass->done_count++] = hash;
}

/* Writes a resource's histogram: bounds are 1, 2 and 5 times the powers of ten, exact bin edges. */
static void rmi_metrics_stat_histogram(rm_text *text, const struct rmi_metrics_line *line,
                                       const rm_hist *hist) {
    int64_t power = 1;
    uint64_t count = 0;
    uint32_t bin;
    for (bin = 0; bin < hist->first; ++bin)
        power *= 10;
    for (bin = 0; bin + 1 < hist->bins; ++bin) {
        const int64_t edge = rm_hist_bin_edge(hist, bin);
        count += hist->counts[bin];
        while (edge / 10 >= power)
            power *= 10;
        if (edge == power || edge == 2 * power || edge == 5 * power)
            rmi_metrics_bucket(text, line, edge, count);
    }
    rmi_metrics_total(text, line, (uint64_t)hist->sum, count + hist->counts[bin]);
}

/* Writes the labels of a sample. Returns false when they are bad, too long or were there before. */
static bool rmi_metrics_stat_labels(struct rmi_metrics_pass *pass, const rm_stat *stat,
                                    rm_text *labels) {
    const struct rmi_metrics_resource *resource = pass->resource;
    uint64_t hash;
    uint32_t i;
    rm_text_bytes(labels, resource->label, resource->label_size);
    if (stat->label != NULL) {
        if (stat->label_value == NULL || strcmp(stat->label, "resource") == 0 ||
            !rmi_metrics_label_valid(stat->label, stat->type == RM_STAT_HISTOGRAM))
            return false;
        rmi_metrics_label(labels, stat->label, stat->label_value, strlen(stat->label_value));
    }
    if (labels->overflow || pass->seen_count == RMI_METRICS_SAMPLES) return false;
    hash = rm_hash(&pass->metrics->key, labels->buffer, labels->used);
    for (i = 0; i < pass->seen_count; ++i) {
        if (pass->seen[i] == hash) return false;
    }
    pass->seen[pass->seen_count++] = hash;
    return true;
}

/* Writes a sample of this pass' name. Returns false when it would break the text. */
static bool rmi_metrics_stat_write(struct rmi_metrics_pass *pass, const rm_stat *stat) {
    char buffer[2 * RMI_METRICS_KEY];
    rm_text labels = rm_text_make(buffer, sizeof buffer);
    struct rmi_metrics_line line;
    if (pass->refused || stat->type != pass->type || stat->decimals > 18) return false;
    if (stat->type == RM_STAT_HISTOGRAM && (stat->hist == NULL || stat->hist->bins == 0))
        return false;
    if (stat->type == RM_STAT_COUNTER && stat->value < 0) return false;
    if (!rmi_metrics_stat_labels(pass, stat, &labels)) return false;
    if (!pass->headed)
        rmi_metrics_head(pass->text, pass->name, stat->help,
                         rmi_metrics_type_name((rm_metric_type)stat->type));
    pass->headed = true;
    line.name = pass->name;
    line.labels = buffer;
    line.labels_size = labels.used;
    line.decimals = stat->decimals;
    if (stat->type == RM_STAT_HISTOGRAM) {
        rmi_metrics_stat_histogram(pass->text, &line, stat->hist);
        return true;
    }
    rmi_metrics_start(pass->text, &line, NULL);
    rm_text_decimal(pass->text, stat->value, stat->decimals);
    rm_text_bytes(pass->text, "\n", 1);
    return true;
}

static void rmi_metrics_stat(const rm_stat *stat, void *user) {
    struct rmi_metrics_pass *pass = (struct rmi_metrics_pass *)user;
    const char *name;
    uint64_t hash;
    bool done;
    if (stat == NULL || pass->text->overflow) return;
    name = stat->name == NULL ? "" : stat->name;
    hash = rmi_metrics_hash(pass, name);
    done = rmi_metrics_done(pass, hash, RMI_METRICS_REFUSED);
    if (!pass->open && !done) rmi_metrics_open(pass, stat, name, hash);
    if (!pass->open || (hash != pass->hash && (done || !pass->last))) return;
    if (!rmi_metrics_stat_write(pass, stat))
        (void)rm_counter_add(pass->metrics->dropped_samples, 1);
}

/* Visits every resource once. A resource is not freed while a visit is in its list. */
static void rmi_metrics_pass_run(struct rmi_metrics_pass *pass) {
    rm_metrics *metrics = pass->metrics;
    struct rmi_metrics_resource *resource;
    struct rmi_metrics_visit visit, **link;
    visit.thread = rm_thread_number();
    rm_waitq_lock(&metrics->queue);
    for (resource = metrics->resources; resource != NULL; resource = resource->next) {
        if (resource->removed || resource->stats_fn == NULL || pass->text->overflow) continue;
        visit.next = resource->visits;
        resource->visits = &visit;
        rm_waitq_unlock(&metrics->queue);
        pass->resource = resource;
        pass->seen_count = 0;
        resource->stats_fn(resource->user, rmi_metrics_stat, pass);
        rm_waitq_lock(&metrics->queue);
        for (link = &resource->visits; *link != &visit; link = &(*link)->next) {}
        *link = visit.next;
        if (resource->removed && resource->visits == NULL)
            (void)rm_waitq_complete(&metrics->queue, resource, RM_OK, 0);
    }
    rm_waitq_unlock(&metrics->queue);
}

static void rmi_metrics_resources(rm_metrics *metrics, rm_text *text) {
    struct rmi_metrics_pass pass;
    pass.metrics = metrics;
    pass.text = text;
    pass.done_count = 0;
    do {
        pass.open = false;
        pass.last = false;
        rmi_metrics_pass_run(&pass);
    } while (pass.open && !pass.last && !text->overflow);
}

RM_API rm_status rm_metrics_render(rm_metrics *metrics, rm_text *text) {
    uint32_t count;
    if (metrics == NULL || text == NULL) return RM_E_INVALID;
    (void)RMI_ADD32(&metrics->renders, 1u, ACQ_REL);
    count = RMI_LOAD32(&metrics->family_count, ACQUIRE);
    rmi_metrics_families(metrics, text, RMI_METRICS_OWN, count);
    rmi_metrics_resources(metrics, text);
    rmi_metrics_families(metrics, text, 0, RMI_METRICS_OWN);
    (void)rm_text_flush(text);
    (void)RMI_ADD32(&metrics->renders, UINT32_MAX, ACQ_REL);
    if (!text->overflow) return RM_OK;
    return text->flush_fn == NULL ? RM_E_TOO_LARGE : RM_E_FAILED;
}

/* >>public: resources */

RM_API rm_status rm_metrics_add_resource(rm_metrics *metrics, const rm_resource *resource,
                                         rm_error *error) {
    struct rmi_metrics_resource *added, **link;
    rm_text label;
    bool taken = false;
    if (metrics == NULL || resource == NULL)
        return rm_error_set(error, RM_E_INVALID, 0, metrics == NULL ? "metrics" : "resource",
                            "it is NULL");
    if (resource->name == NULL || resource->name[0] == '\0')
        return rm_error_set(error, RM_E_INVALID, 0, "name", "a resource needs a name");
    if (!rmi_name_fits(resource->name, RMI_METRICS_RESOURCE))
        return rm_error_set(error, RM_E_TOO_LARGE, 0, "name", "over 47 bytes long");
    added = (struct rmi_metrics_resource *)rm_alloc(metrics->env.allocator, sizeof *added);
    if (added == NULL)
        return rm_error_set(error, RM_E_NOMEM, 0, resource->name, "no memory for the resource");
    memset(added, 0, sizeof *added);
    added->stats_fn = resource->stats_fn;
    added->user = resource->user;
    label = rm_text_make(added->label, sizeof added->label);
    rmi_metrics_label(&label, "resource", resource->name, strlen(resource->name));
    added->label_size = (uint32_t)label.used;
    rm_waitq_lock(&metrics->queue);
    for (link = &metrics->resources; *link != NULL && !taken; link = &(*link)->next)
        taken = strcmp((*link)->label, added->label) == 0;
    if (!taken) *link = added;
    rm_waitq_unlock(&metrics->queue);
    if (!taken) return RM_OK;
    rm_free(metrics->env.allocator, added, sizeof *added);
    return rm_error_set(error, RM_E_EXISTS, 0, resource->name, "a resource has this name already");
}

/* Waits until no render is inside the stats_fn, with the lock held. */
static rm_status rmi_metrics_await(rm_metrics *metrics, struct rmi_metrics_resource *resource) {
    const struct rmi_metrics_visit *visit;
    rm_status status = RM_OK;
    rm_deadline never;
    uint64_t grant = 0;
    for (visit = resource->visits; visit != NULL; visit = visit->next) {
        if (visit->thread == rm_thread_number()) return RM_E_DEADLOCK;
    }
    never.at_ns = 0;
    resource->removed = true;
    while (resource->visits != NULL && status == RM_OK)
        status = rm_waitq_wait_locked(&metrics->queue, resource, never, NULL, &grant);
    if (status != RM_OK) resource->removed = false;
    return status;
}

RM_API rm_status rm_metrics_remove_resource(rm_metrics *metrics, const char *name) {
    struct rmi_metrics_resource *resource, **link;
    char buffer[sizeof resource->label];
    rm_text label = rm_text_make(buffer, sizeof buffer - 1);
    rm_status status = RM_E_NOT_FOUND;
    if (metrics == NULL || name == NULL) return RM_E_INVALID;
    rmi_metrics_label(&label, "resource", name, strlen(name));
    if (label.overflow) return RM_E_NOT_FOUND;
    buffer[label.used] = '\0';
    rm_waitq_lock(&metrics->queue);
    resource = metrics->resources;
    while (resource != NULL && strcmp(resource->label, buffer) != 0)
        resource = resource->next;
    if (resource != NULL && !resource->removed) status = rmi_metrics_await(metrics, resource);
    if (status == RM_OK) {
        for (link = &metrics->resources; *link != resource; link = &(*link)->next) {}
        *link = resource->next;
    }
    rm_waitq_unlock(&metrics->queue);
    if (status == RM_OK) rm_free(metrics->env.allocator, resource, sizeof *resource);
    return status;
}

RM_API rm_resource rm_metrics_resource(rm_metrics *metrics) {
    return rm_resource_make(metrics == NULL ? NULL : "metrics", "metrics", metrics);
}

#ifdef __cplusplus
}
#endif
#endif /* RM_METRICS_IMPLEMENTATION */
/*
This software is available under 2 licenses. Choose whichever you prefer.

------------------------------------------------------------------------------
ALTERNATIVE A - MIT License

Copyright (c) 2026 the rm authors

Permission is hereby granted, free of charge, to any person obtaining a copy of
this software and associated documentation files (the "Software"), to deal in
the Software without restriction, including without limitation the rights to
use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies
of the Software, and to permit persons to whom the Software is furnished to do
so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.

------------------------------------------------------------------------------
ALTERNATIVE B - Public Domain (www.unlicense.org)

This is free and unencumbered software released into the public domain.

Anyone is free to copy, modify, publish, use, compile, sell, or distribute this
software, either in source code form or as a compiled binary, for any purpose,
commercial or non-commercial, and by any means.

In jurisdictions that recognize copyright laws, the author or authors of this
software dedicate any and all copyright interest in the software to the public
domain. We make this dedication for the benefit of the public at large and to
the detriment of our heirs and successors. We intend this dedication to be an
overt act of relinquishment in perpetuity of all present and future rights to
this software under copyright law.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN
ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION
WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
------------------------------------------------------------------------------
*/

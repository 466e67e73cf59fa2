/* Tests of rm_metrics.h: its text, its bounds, threads, resources, and no memory. */
#include "rm_metrics.h"
#include "rm_test.h"
#include <locale.h>
#include <math.h>
#include <stdlib.h>

/* >>an allocator that counts, and fails at the n-th call */

typedef struct memory {
    long blocks, bytes, calls;
    long fail_at; /* this call fails; 0 = none does */
    rm_allocator allocator;
    rm_env env;
} memory;

static void *memory_alloc(size_t size, void *user) {
    memory *m = (memory *)user;
    void *pointer;
    if (++m->calls == m->fail_at) return NULL;
    pointer = malloc(size);
    m->blocks += pointer != NULL;
    m->bytes += pointer != NULL ? (long)size : 0;
    return pointer;
}

static void memory_free(void *pointer, size_t size, void *user) {
    memory *m = (memory *)user;
    --m->blocks;
    m->bytes -= (long)size;
    free(pointer);
}

static const rm_env *memory_init(memory *m) {
    memset(m, 0, sizeof *m);
    m->allocator.alloc_fn = memory_alloc;
    m->allocator.free_fn = memory_free;
    m->allocator.user = m;
    m->env.allocator = &m->allocator;
    return &m->env;
}

/* >>helpers */

static char page[4 << 20];

/* Renders into page, NUL-terminated. */
static const char *render(rm_metrics *metrics) {
    rm_text text = rm_text_make(page, sizeof page - 1);
    CHECK_EQ(RM_OK, rm_metrics_render(metrics, &text));
    page[text.used] = '\0';
    return page;
}

static rm_metrics *create(const rm_env *env, uint32_t max_families, uint32_t max_series) {
    rm_metrics *metrics = NULL;
    rm_metrics_desc desc = {env, max_families, max_series};
    CHECK_EQ(RM_OK, rm_metrics_create(&desc, &metrics, NULL));
    return metrics;
}

static void destroy(rm_metrics *metrics) {
    CHECK_EQ(RM_OK, rm_metrics_destroy(metrics));
}

/* Adds a family; labels are given by one string of names with commas. */
static rm_metrics_family *add(rm_metrics *metrics, rm_metric_type type, const char *name,
                              const char *labels) {
    static const char *const names[] = {"a", "b", "c"};
    rm_metric_desc desc = rm_metrics_describe(type, name, "Help.");
    rm_metrics_family *family = NULL;
    desc.labels = names;
    desc.label_count = (uint32_t)(strlen(labels) + 1) / 2;
    desc.decimals = type == RM_METRIC_HISTOGRAM ? 9 : 0;
    CHECK_EQ(RM_OK, rm_metrics_add(metrics, &desc, &family, NULL));
    return family;
}

static rm_counter counter_of(rm_metrics_family *family, const char *value) {
    rm_counter counter = {NULL};
    CHECK_EQ(RM_OK, rm_counter_with(family, &value, value != NULL, &counter, NULL));
    return counter;
}

static uint64_t value_of(rm_counter counter) {
    uint64_t value = 0;
    CHECK_EQ(RM_OK, rm_counter_value(counter, &value));
    return value;
}

/* Finds the line that begins with a sample's name and labels, and returns its value. */
static const char *sample(const char *text, const char *name) {
    static char value[64];
    const size_t size = strlen(name);
    for (; *text != '\0'; text = strchr(text, '\n') + 1) {
        if (strncmp(text, name, size) == 0 && text[size] == ' ') {
            value[0] = '\0';
            strncat(value, text + size + 1, strcspn(text + size + 1, "\n"));
            return value;
        }
    }
    return "none";
}

static unsigned count_of(const char *text, const char *part) {
    unsigned count = 0;
    for (; (text = strstr(text, part)) != NULL; ++text)
        ++count;
    return count;
}

/* >>a strict reader of the text format, which knows the rules that promtool does not check */

typedef struct reader {
    const char *at;
    const char *error;
    char family[256], type[16]; /* of the present family */
    char names[400][128];       /* of all families */
    const char *samples[40000]; /* name and labels of all samples */
    size_t sizes[40000];
    size_t family_count, sample_count;
    const char *labels, *series; /* of the sample, of the present histogram; but le */
    size_t labels_size, series_size;
    double le;        /* its last bound */
    double in_bucket; /* its last count */
} reader;

static bool reader_fail(reader *r, const char *error) {
    if (r->error == NULL) r->error = error;
    return false;
}

/* Reads a name; the longest run of its characters. */
static bool read_name(reader *r, char *out, size_t room, bool colon) {
    size_t size = 0;
    while (*r->at != '\0' && size + 1 < room &&
           (strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_", *r->at) != NULL ||
            (colon && *r->at == ':') || (size > 0 && *r->at >= '0' && *r->at <= '9')))
        out[size++] = *r->at++;
    out[size] = '\0';
    return size > 0 || reader_fail(r, "no name");
}

/* Reads text up to the end character; undoes the escapes \\ and \n, and \" when quoted. */
static bool read_text(reader *r, char *out, size_t room, char end) {
    size_t size = 0;
    while (*r->at != end) {
        size_t length = rm_utf8_length(r->at, strlen(r->at));
        if (*r->at == '\0' || *r->at == '\n' || size + 5 > room)
            return reader_fail(r, "text without an end");
        if (length == 0) return reader_fail(r, "not UTF-8");
        if (*r->at == '\\') {
            if (r->at[1] != '\\' && r->at[1] != 'n' && !(r->at[1] == '"' && end == '"'))
                return reader_fail(r, "bad escape");
            out[size++] = r->at[1] == 'n' ? '\n' : r->at[1];
            r->at += 2;
        } else {
            memcpy(out + size, r->at, length);
            size += length;
            r->at += length;
        }
    }
    out[size] = '\0';
    ++r->at;
    return true;
}

/* HELP and TYPE of a new family. */
static bool read_head(reader *r) {
    static char help[8192];
    size_t i;
    if (strncmp(r->at, "# HELP ", 7) != 0) return reader_fail(r, "no HELP");
    r->at += 7;
    if (!read_name(r, r->family, sizeof r->family, true) || *r->at++ != ' ' ||
        !read_text(r, help, sizeof help, '\n') || strncmp(r->at, "# TYPE ", 7) != 0)
        return reader_fail(r, "bad HELP");
    r->at += 7 + strlen(r->family);
    if (strncmp(r->at - strlen(r->family), r->family, strlen(r->family)) != 0 || *r->at++ != ' ' ||
        !read_text(r, r->type, sizeof r->type, '\n'))
        return reader_fail(r, "bad TYPE");
    for (i = 0; i < r->family_count; ++i) {
        if (strcmp(r->names[i], r->family) == 0) return reader_fail(r, "a family is there twice");
    }
    snprintf(r->names[r->family_count++], sizeof r->names[0], "%.120s", r->family);
    return r->series == NULL || reader_fail(r, "a histogram without _count");
}

/* The samples of a histogram: one series after the other, each with +Inf, then _sum and _count. */
static bool read_histogram(reader *r, const char *suffix, const char *le, double value) {
    const double bound = strcmp(le, "+Inf") == 0 ? HUGE_VAL : strtod(le, NULL);
    if (r->series == NULL) {
        r->series = r->labels;
        r->series_size = r->labels_size;
        r->le = -1;
        r->in_bucket = 0;
    }
    if (r->series_size != r->labels_size || memcmp(r->series, r->labels, r->labels_size) != 0)
        return reader_fail(r, "a histogram without _count");
    if (strcmp(suffix, "_bucket") == 0) {
        if (le[0] == '\0' || bound <= r->le || value < r->in_bucket)
            return reader_fail(r, "a bucket out of order");
        r->le = bound;
        r->in_bucket = value;
        return true;
    }
    if (r->le < HUGE_VAL) return reader_fail(r, "no +Inf");
    if (strcmp(suffix, "_count") == 0) {
        r->series = NULL;
        return value == r->in_bucket || reader_fail(r, "+Inf is not _count");
    }
    return strcmp(suffix, "_sum") == 0 || reader_fail(r, "no sample of a histogram");
}

/* Reads labels; le has to be the last one. */
static bool read_labels(reader *r, char *le) {
    char name[256];
    static char value[8192];
    le[0] = '\0';
    r->labels = r->at;
    r->labels_size = 0;
    if (*r->at != '{') return true;
    do {
        ++r->at;
        if (!read_name(r, name, sizeof name, false) || *r->at++ != '=' || *r->at++ != '"' ||
            !read_text(r, value, sizeof value, '"'))
            return reader_fail(r, "bad label");
        if (strcmp(name, "le") == 0)
            snprintf(le, 64, "%.60s", value);
        else
            r->labels_size = (size_t)(r->at - r->labels);
    } while (*r->at == ',' && le[0] == '\0');
    return *r->at++ == '}' || reader_fail(r, "labels without an end");
}

/* Notes a sample's name and labels, and that they are there once. */
static bool read_once(reader *r, const char *start) {
    const size_t size = (size_t)(r->at - start);
    size_t i;
    for (i = 0; i < r->sample_count; ++i) {
        if (r->sizes[i] == size && memcmp(r->samples[i], start, size) == 0)
            return reader_fail(r, "a sample is there twice");
    }
    r->samples[r->sample_count] = start;
    r->sizes[r->sample_count++] = size;
    return *r->at++ == ' ' || reader_fail(r, "no blank before the value");
}

static bool read_sample(reader *r) {
    char name[256], le[64];
    const char *start = r->at;
    const size_t family = strlen(r->family);
    char *end;
    double value;
    if (!read_name(r, name, sizeof name, true) || !read_labels(r, le) || !read_once(r, start))
        return false;
    if (strncmp(r->at, "nan", 3) == 0 || strncmp(r->at, "inf", 3) == 0)
        return reader_fail(r, "not NaN, +Inf or -Inf");
    value = strtod(r->at, &end);
    if (end == r->at || *end != '\n') return reader_fail(r, "bad value");
    r->at = end + 1;
    if (strncmp(name, r->family, family) != 0) return reader_fail(r, "a sample of another family");
    if (strcmp(r->type, "gauge") != 0 && !(value >= 0))
        return reader_fail(r, "a negative counter or NaN");
    if (strcmp(r->type, "histogram") == 0) return read_histogram(r, name + family, le, value);
    return name[family] == '\0' || reader_fail(r, "a sample of another family");
}

/* Reads a page. Returns NULL or what is wrong with it. */
static const char *broken(const char *text) {
    static reader r;
    memset(&r, 0, sizeof r);
    r.at = text;
    if (*text == '\0' || text[strlen(text) - 1] != '\n') return "no newline at the end";
    while (*r.at != '\0' && r.error == NULL)
        (void)(*r.at == '#' ? read_head(&r) : read_sample(&r));
    return r.error != NULL ? r.error : r.series != NULL ? "a histogram without _count" : NULL;
}

#define CHECK_PAGE(text) CHECK_STR(NULL, broken(text))

TEST(metrics, reader_finds_what_is_wrong) {
#define HEAD(name, type) "# HELP " name " h\n# TYPE " name " " type "\n"
    CHECK_STR(NULL, broken(HEAD("a", "gauge") "a 1\na{x=\"1\"} NaN\n" HEAD("b", "counter")));
    CHECK_STR("no newline at the end", broken(HEAD("a", "gauge") "a 1"));
    CHECK_STR("a sample is there twice", broken(HEAD("a", "gauge") "a 1\na 2\n"));
    CHECK_STR("a family is there twice", broken(HEAD("a", "gauge") "a 1\n" HEAD("a", "gauge")));
    CHECK_STR("a sample of another family",
              broken(HEAD("a", "gauge") HEAD("b", "gauge") "b 1\na 1\n"));
    CHECK_STR("bad value", broken(HEAD("a", "gauge") "a 1,5\n"));
    CHECK_STR("bad escape", broken(HEAD("a", "gauge") "a{x=\"\\t\"} 1\n"));
    CHECK_STR("not UTF-8", broken(HEAD("a", "gauge") "a{x=\"\xff\"} 1\n"));
    CHECK_STR("a negative counter or NaN", broken(HEAD("a", "counter") "a NaN\n"));
    CHECK_STR("a bucket out of order",
              broken(HEAD("a", "histogram") "a_bucket{le=\"1\"} 2\na_bucket{le=\"2\"} 1\n"));
    CHECK_STR("+Inf is not _count",
              broken(HEAD("a", "histogram") "a_bucket{le=\"+Inf\"} 2\na_sum 1\na_count 3\n"));
    CHECK_STR("no +Inf", broken(HEAD("a", "histogram") "a_bucket{le=\"1\"} 2\na_sum 1\n"));
#undef HEAD
}

/* >>the text */

/* What the registry says of itself. */
#define OWN_TEXT(series, samples, values)                                                  \
    "# HELP rm_metrics_dropped_series_total Look-ups of series that ended in an overflow " \
    "series.\n"                                                                            \
    "# TYPE rm_metrics_dropped_series_total counter\n"                                     \
    "rm_metrics_dropped_series_total " series "\n"                                         \
    "# HELP rm_metrics_dropped_samples_total Samples of resources that were left out "     \
    "because they would break the text.\n"                                                 \
    "# TYPE rm_metrics_dropped_samples_total counter\n"                                    \
    "rm_metrics_dropped_samples_total " samples "\n"                                       \
    "# HELP rm_metrics_refused_values_total Negative values that histograms refused.\n"    \
    "# TYPE rm_metrics_refused_values_total counter\n"                                     \
    "rm_metrics_refused_values_total " values "\n"

TEST(metrics, page_has_families_and_series_in_their_order) {
    static const int64_t bounds[] = {0, 5, 100};
    static const char *const values[] = {"GET", "200"};
    static const char *const names[] = {"method", "code"};
    rm_metrics *metrics = create(NULL, 0, 0);
    rm_metric_desc desc = rm_metrics_describe(RM_METRIC_HISTOGRAM, "size_bytes", "Sizes.");
    rm_metrics_family *family = NULL;
    rm_histogram sizes;
    rm_gauge gauge = {NULL};
    rm_counter counter = {NULL};
    desc.bounds = bounds;
    desc.bound_count = 3;
    REQUIRE(rm_metrics_add(metrics, &desc, &family, NULL) == RM_OK);
    REQUIRE(rm_histogram_with(family, NULL, 0, &sizes, NULL) == RM_OK);
    CHECK_EQ(RM_OK, rm_histogram_observe(sizes, 0));
    CHECK_EQ(RM_OK, rm_histogram_observe(sizes, 5));
    CHECK_EQ(RM_OK, rm_histogram_observe(sizes, 6));
    CHECK_EQ(RM_OK, rm_histogram_observe(sizes, 1000000));
    CHECK_EQ(RM_E_INVALID, rm_histogram_observe(sizes, -1));
    REQUIRE(rm_gauge_with(add(metrics, RM_METRIC_GAUGE, "load", ""), NULL, 0, &gauge, NULL) ==
            RM_OK);
    CHECK_EQ(RM_OK, rm_gauge_set(gauge, 0.25));
    CHECK_EQ(RM_OK, rm_gauge_add(gauge, -1));
    desc = rm_metrics_describe(RM_METRIC_COUNTER, "requests_total", "Requests.");
    desc.labels = names;
    desc.label_count = 2;
    REQUIRE(rm_metrics_add(metrics, &desc, &family, NULL) == RM_OK);
    REQUIRE(rm_counter_with(family, values, 2, &counter, NULL) == RM_OK);
    CHECK_EQ(RM_OK, rm_counter_add(counter, 3));
    (void)add(metrics, RM_METRIC_COUNTER, "unused_total", "a");
    (void)add(metrics, RM_METRIC_COUNTER, "zero_total", "");
    CHECK_STR("# HELP size_bytes Sizes.\n"
              "# TYPE size_bytes histogram\n"
              "size_bytes_bucket{le=\"0\"} 1\n"
              "size_bytes_bucket{le=\"5\"} 2\n"
              "size_bytes_bucket{le=\"100\"} 3\n"
              "size_bytes_bucket{le=\"+Inf\"} 4\n"
              "size_bytes_sum 1000011\n"
              "size_bytes_count 4\n"
              "# HELP load Help.\n"
              "# TYPE load gauge\n"
              "load -0.75\n"
              "# HELP requests_total Requests.\n"
              "# TYPE requests_total counter\n"
              "requests_total{method=\"GET\",code=\"200\"} 3\n"
              "# HELP unused_total Help.\n"
              "# TYPE unused_total counter\n"
              "# HELP zero_total Help.\n"
              "# TYPE zero_total counter\n"
              "zero_total 0\n" OWN_TEXT("0", "0", "1"),
              render(metrics));
    CHECK_PAGE(page);
    destroy(metrics);
}

TEST(metrics, default_bounds_are_those_of_prometheus) {
    static const char *const value = "x";
    rm_metrics *metrics = create(NULL, 0, 0);
    rm_metrics_family *family = add(metrics, RM_METRIC_HISTOGRAM, "wait_seconds", "a");
    rm_histogram histogram = {NULL};
    REQUIRE(rm_histogram_with(family, &value, 1, &histogram, NULL) == RM_OK);
    CHECK_EQ(RM_OK, rm_histogram_observe(histogram, RM_MS(5)));
    CHECK_EQ(RM_OK, rm_histogram_observe(histogram, RM_MS(5) + 1));
    CHECK_EQ(RM_OK, rm_histogram_observe(histogram, RM_SEC(10)));
    CHECK_EQ(RM_OK, rm_histogram_observe(histogram, RM_MINUTES(60)));
    CHECK(strstr(render(metrics), "# HELP wait_seconds Help.\n"
                                  "# TYPE wait_seconds histogram\n"
                                  "wait_seconds_bucket{a=\"x\",le=\"0.005\"} 1\n"
                                  "wait_seconds_bucket{a=\"x\",le=\"0.01\"} 2\n"
                                  "wait_seconds_bucket{a=\"x\",le=\"0.025\"} 2\n"
                                  "wait_seconds_bucket{a=\"x\",le=\"0.05\"} 2\n"
                                  "wait_seconds_bucket{a=\"x\",le=\"0.1\"} 2\n"
                                  "wait_seconds_bucket{a=\"x\",le=\"0.25\"} 2\n"
                                  "wait_seconds_bucket{a=\"x\",le=\"0.5\"} 2\n"
                                  "wait_seconds_bucket{a=\"x\",le=\"1\"} 2\n"
                                  "wait_seconds_bucket{a=\"x\",le=\"2.5\"} 2\n"
                                  "wait_seconds_bucket{a=\"x\",le=\"5\"} 2\n"
                                  "wait_seconds_bucket{a=\"x\",le=\"10\"} 3\n"
                                  "wait_seconds_bucket{a=\"x\",le=\"+Inf\"} 4\n"
                                  "wait_seconds_sum{a=\"x\"} 3610.010000001\n"
                                  "wait_seconds_count{a=\"x\"} 4\n") == page);
    CHECK_EQ(12, count_of(page, "_bucket"));
    CHECK_PAGE(page);
    destroy(metrics);
}

TEST(metrics, histogram_counts_are_exact_at_every_bound) {
    static const int64_t bounds[] = {1, 20, 55, 100, 180, 200, 250, 500, 1000, 7700, 1000000};
    static const rm_hist_desc bins = {0, 6, 160};
    enum { BOUNDS = sizeof bounds / sizeof *bounds };
    rm_metrics *metrics = create(NULL, 0, 0);
    rm_metric_desc desc = rm_metrics_describe(RM_METRIC_HISTOGRAM, "h", "Help.");
    rm_metrics_family *family = NULL;
    rm_histogram histogram = {NULL};
    uint64_t counts[BOUNDS] = {0}, sum = 0;
    char name[64], count[32];
    rm_rng rng;
    int i, j;
    desc.bounds = bounds;
    desc.bound_count = BOUNDS;
    desc.bins = bins;
    REQUIRE(rm_metrics_add(metrics, &desc, &family, NULL) == RM_OK);
    REQUIRE(rm_histogram_with(family, NULL, 0, &histogram, NULL) == RM_OK);
    rm_rng_seed(&rng, 1);
    for (i = 0; i < 20000; ++i) {
        int64_t value = (int64_t)(rm_rng_next(&rng) >> (40 + rm_rng_next(&rng) % 24));
        if (i % 3 == 0) value = bounds[i % BOUNDS] + i / 3 % 3 - 1;
        CHECK_EQ(RM_OK, rm_histogram_observe(histogram, value));
        sum += (uint64_t)value;
        for (j = 0; j < BOUNDS; ++j)
            counts[j] += value <= bounds[j];
    }
    CHECK_PAGE(render(metrics));
    for (j = 0; j < BOUNDS; ++j) {
        snprintf(name, sizeof name, "h_bucket{le=\"%lld\"}", (long long)bounds[j]);
        snprintf(count, sizeof count, "%llu", (unsigned long long)counts[j]);
        CHECK_STR(count, sample(page, name));
    }
    snprintf(count, sizeof count, "%llu", (unsigned long long)sum);
    CHECK_STR(count, sample(page, "h_sum"));
    destroy(metrics);
}

TEST(metrics, gauges_spell_what_is_no_number) {
    static const double values[] = {(double)NAN, HUGE_VAL, -HUGE_VAL, 0.1, 1e300, -0.5};
    static const char *const texts[] = {"NaN", "+Inf", "-Inf", "0.1", "1e+300", "-0.5"};
    rm_metrics *metrics = create(NULL, 0, 0);
    rm_gauge gauge = {NULL};
    double value = 0;
    size_t i;
    REQUIRE(rm_gauge_with(add(metrics, RM_METRIC_GAUGE, "g", ""), NULL, 0, &gauge, NULL) == RM_OK);
    for (i = 0; i < sizeof values / sizeof *values; ++i) {
        CHECK_EQ(RM_OK, rm_gauge_set(gauge, values[i]));
        CHECK_STR(texts[i], sample(render(metrics), "g"));
        CHECK_PAGE(page);
        CHECK_EQ(RM_OK, rm_gauge_value(gauge, &value));
        CHECK(memcmp(&value, &values[i], sizeof value) == 0);
    }
    destroy(metrics);
}

TEST(metrics, page_is_the_same_under_a_comma_locale) {
    static const char *const locales[] = {"de_DE.UTF-8", "de_DE.utf8", "de_DE", "fr_FR.UTF-8",
                                          "German_Germany.1252"};
    rm_metrics *metrics = create(NULL, 0, 0);
    rm_histogram histogram = {NULL};
    rm_gauge gauge = {NULL};
    char *plain;
    size_t i = 0;
    REQUIRE(rm_gauge_with(add(metrics, RM_METRIC_GAUGE, "g", ""), NULL, 0, &gauge, NULL) == RM_OK);
    REQUIRE(rm_histogram_with(add(metrics, RM_METRIC_HISTOGRAM, "h", ""), NULL, 0, &histogram,
                              NULL) == RM_OK);
    CHECK_EQ(RM_OK, rm_gauge_set(gauge, 1234567.125));
    CHECK_EQ(RM_OK, rm_histogram_observe(histogram, RM_MS(1500)));
    plain = (char *)malloc(strlen(render(metrics)) + 1);
    REQUIRE(plain != NULL);
    strcpy(plain, page);
    CHECK_STR("1234567.125", sample(plain, "g"));
    CHECK_STR("1.5", sample(plain, "h_sum"));
    while (i < 5 && setlocale(LC_ALL, locales[i]) == NULL)
        ++i;
    if (strchr(localeconv()->decimal_point, ',') == NULL)
        printf("# no locale with a decimal comma is installed: not compared under one\n");
    CHECK_STR(plain, render(metrics));
    setlocale(LC_ALL, "C");
    free(plain);
    destroy(metrics);
}

TEST(metrics, counters_are_exact_to_the_last_of_64_bits) {
    rm_metrics *metrics = create(NULL, 0, 0);
    rm_counter counter = counter_of(add(metrics, RM_METRIC_COUNTER, "c_total", ""), NULL);
    CHECK_EQ(RM_OK, rm_counter_add(counter, UINT64_MAX - 1));
    CHECK_STR("18446744073709551614", sample(render(metrics), "c_total"));
    CHECK_EQ(RM_OK, rm_counter_add(counter, 1));
    CHECK_STR("18446744073709551615", sample(render(metrics), "c_total"));
    CHECK(value_of(counter) == UINT64_MAX);
    CHECK_EQ(RM_OK, rm_counter_add(counter, 1));
    CHECK_STR("0", sample(render(metrics), "c_total"));
    destroy(metrics);
}

TEST(metrics, sums_are_exact_beyond_what_a_signed_word_holds) {
    rm_metrics *metrics = create(NULL, 0, 0);
    rm_histogram histogram = {NULL};
    REQUIRE(rm_histogram_with(add(metrics, RM_METRIC_HISTOGRAM, "h", ""), NULL, 0, &histogram,
                              NULL) == RM_OK);
    CHECK_EQ(RM_OK, rm_histogram_observe(histogram, INT64_MAX));
    CHECK_EQ(RM_OK, rm_histogram_observe(histogram, INT64_MAX));
    CHECK_STR("18446744073.709551614", sample(render(metrics), "h_sum"));
    CHECK_EQ(RM_OK, rm_histogram_observe(histogram, 12)); /* wraps, as a counter does */
    CHECK_STR("0.00000001", sample(render(metrics), "h_sum"));
    CHECK_STR("3", sample(page, "h_count"));
    destroy(metrics);
}

/* >>hostile text */

/* What a reader has to get back: the bytes with U+FFFD for each that is not UTF-8. */
static void cleaned(const char *from, char *to) {
    while (*from != '\0') {
        size_t length = rm_utf8_length(from, strlen(from));
        memcpy(to, length > 0 ? from : "\xEF\xBF\xBD", length > 0 ? length : 3);
        to += length > 0 ? length : 3;
        from += length > 0 ? length : 1;
    }
    *to = '\0';
}

static void random_text(rm_rng *rng, char *out, size_t max) {
    static const char *const pieces[] = {
        "\\", "\"",      "\n",   "\r",   "{",        "}",        ",",
        "=",  " ",       "\xff", "\xc3", "\xc3\xa9", "\xe2\x82", "\xf0\x9f",
        "\t", "# TYPE ", "n",    "\\n",  "\x7f",     "\x01",     "abcdefghijk"};
    size_t size = 0, length;
    const size_t wanted = 1 + (size_t)(rm_rng_next(rng) % max);
    char byte[2] = {0, 0};
    while (size < wanted) {
        const uint64_t r = rm_rng_next(rng) >> 8;
        const char *piece = pieces[r % (sizeof pieces / sizeof *pieces)];
        byte[0] = (char)(1 + (r >> 32) % 255);
        if (r % 1000 < 300) piece = byte;
        length = strlen(piece);
        memcpy(out + size, piece, length);
        size += length;
    }
    out[size] = '\0';
}

TEST(metrics, any_bytes_in_labels_come_back) {
    rm_metrics *metrics = create(NULL, 0, 2000);
    rm_metrics_family *family = add(metrics, RM_METRIC_COUNTER, "c_total", "a,b");
    static char text[2][200], wanted[600], got[600];
    const char *values[2] = {text[0], text[1]};
    const char *line = "";
    rm_counter counter = {NULL};
    rm_rng rng;
    reader r;
    int i, j;
    rm_rng_seed(&rng, 2);
    for (i = 0; i < 1500; ++i) {
        random_text(&rng, text[0], 100);
        snprintf(text[1], sizeof text[1], "%d", i);
        REQUIRE(rm_counter_with(family, values, 2, &counter, NULL) == RM_OK);
    }
    CHECK_PAGE(render(metrics));
    rm_rng_seed(&rng, 2);
    line = strstr(page, "\nc_total{");
    for (i = 0; i < 1500; ++i) {
        random_text(&rng, text[0], 100);
        snprintf(text[1], sizeof text[1], "%d", i);
        REQUIRE(line != NULL);
        memset(&r.error, 0, sizeof r.error);
        r.at = line + strlen("\nc_total{");
        for (j = 0; j < 2; ++j) {
            REQUIRE(strncmp(r.at, j == 0 ? "a=\"" : ",b=\"", 3 + (size_t)j) == 0);
            r.at += 3 + j;
            cleaned(text[j], wanted);
            REQUIRE(read_text(&r, got, sizeof got, '"'));
            CHECK_STR(wanted, got);
        }
        CHECK(strncmp(r.at, "} 0\n", 4) == 0);
        line = strchr(r.at, '\n');
    }
    destroy(metrics);
}

TEST(metrics, any_bytes_in_help_come_back) {
    char text[200], wanted[600], got[600];
    rm_metrics_family *family = NULL;
    rm_rng rng;
    reader r;
    int i;
    rm_rng_seed(&rng, 3);
    for (i = 0; i < 500; ++i) {
        rm_metrics *metrics = create(NULL, 1, 0);
        rm_metric_desc desc = rm_metrics_describe(RM_METRIC_GAUGE, "g", text);
        random_text(&rng, text, 100);
        REQUIRE(rm_metrics_add(metrics, &desc, &family, NULL) == RM_OK);
        CHECK_PAGE(render(metrics));
        CHECK(strchr(text, '"') == NULL || strstr(page, "\\\"") == NULL || strchr(text, '\\'));
        r.error = NULL;
        r.at = page + strlen("# HELP g ");
        cleaned(text, wanted);
        CHECK(read_text(&r, got, sizeof got, '\n'));
        CHECK_STR(wanted, got);
        destroy(metrics);
    }
}

TEST(metrics, values_that_look_alike_are_one_series) {
    rm_metrics *metrics = create(NULL, 0, 0);
    rm_metrics_family *family = add(metrics, RM_METRIC_COUNTER, "c_total", "a");
    CHECK_EQ(RM_OK, rm_counter_add(counter_of(family, "x\xff"), 1));
    CHECK_EQ(RM_OK, rm_counter_add(counter_of(family, "x\xfe"), 1));
    CHECK_EQ(RM_OK, rm_counter_add(counter_of(family, "x\xEF\xBF\xBD"), 1));
    CHECK_STR("3", sample(render(metrics), "c_total{a=\"x\xEF\xBF\xBD\"}"));
    CHECK_PAGE(page);
    destroy(metrics);
}

TEST(metrics, a_bad_byte_is_found_wherever_it_stands) {
    rm_metrics *metrics = create(NULL, 0, 0);
    rm_metrics_family *family = add(metrics, RM_METRIC_COUNTER, "c_total", "a");
    char value[21] = "01234567890123456789";
    size_t i;
    for (i = 0; i < 20; ++i) {
        const char kept = value[i];
        value[i] = '\x80';
        CHECK_EQ(RM_OK, rm_counter_add(counter_of(family, value), 1));
        value[i] = '\xff'; /* looks the same */
        CHECK_EQ(RM_OK, rm_counter_add(counter_of(family, value), 1));
        value[i] = kept;
    }
    CHECK_PAGE(render(metrics));
    CHECK_EQ(20, count_of(page, "\xEF\xBF\xBD"));
    CHECK_EQ(20, count_of(page, "\"} 2\n"));
    destroy(metrics);
}

TEST(metrics, values_are_told_apart_where_one_ends) {
    static const char *const first[] = {"ab", "c"}, *const second[] = {"a", "bc"},
                             *const empty[] = {"", "abc"};
    rm_metrics *metrics = create(NULL, 0, 0);
    rm_metrics_family *family = add(metrics, RM_METRIC_COUNTER, "c_total", "a,b");
    rm_counter counter = {NULL};
    CHECK_EQ(RM_OK, rm_counter_with(family, first, 2, &counter, NULL));
    CHECK_EQ(RM_OK, rm_counter_with(family, second, 2, &counter, NULL));
    CHECK_EQ(RM_OK, rm_counter_with(family, empty, 2, &counter, NULL));
    CHECK_EQ(3, count_of(render(metrics), "\nc_total{"));
    CHECK_STR("0", sample(page, "c_total{a=\"\",b=\"abc\"}"));
    destroy(metrics);
}

/* >>bounds */

TEST(metrics, a_million_values_stay_within_the_bound) {
    enum { MANY = 1000000, LIMIT = 100 };
    memory m;
    rm_metrics *metrics = create(memory_init(&m), 0, LIMIT);
    rm_metrics_family *family = add(metrics, RM_METRIC_COUNTER, "c_total", "a");
    char value[16];
    const char *const values = value;
    rm_counter counter = {NULL};
    long bytes = 0;
    int i;
    for (i = 0; i < MANY; ++i) {
        snprintf(value, sizeof value, "%d", i);
        if (rm_counter_with(family, &values, 1, &counter, NULL) != RM_OK ||
            rm_counter_add(counter, 1) != RM_OK)
            CHECK(false);
        if (i == LIMIT - 1) {
            bytes = m.bytes;
            CHECK_STR("1", sample(render(metrics), "c_total{a=\"99\"}"));
            CHECK_STR("none", sample(page, "c_total{overflow=\"true\"}"));
        }
    }
    CHECK_EQ(bytes, m.bytes);
    CHECK_PAGE(render(metrics));
    CHECK_EQ(LIMIT + 1, count_of(page, "\nc_total{"));
    CHECK_STR("999900", sample(page, "c_total{overflow=\"true\"}"));
    CHECK_STR("999900", sample(page, "rm_metrics_dropped_series_total"));
    CHECK_STR("1", sample(page, "c_total{a=\"0\"}"));
    CHECK_EQ(1, value_of(counter_of(family, "99"))); /* is still found */
    destroy(metrics);
    CHECK_EQ(0, m.blocks);
}

TEST(metrics, values_that_are_too_long_overflow) {
    static char value[2000];
    rm_metrics *metrics = create(NULL, 0, 0);
    rm_metrics_family *family = add(metrics, RM_METRIC_COUNTER, "c_total", "a");
    memset(value, '"', 1023); /* each takes two bytes in the text */
    CHECK_EQ(RM_OK, rm_counter_add(counter_of(family, value), 1));
    CHECK_EQ(0, count_of(render(metrics), "overflow=\"true\""));
    CHECK_PAGE(page);
    value[1023] = 'x';
    CHECK_EQ(RM_OK, rm_counter_add(counter_of(family, value), 5));
    memset(value, '\xff', 342); /* each takes three bytes */
    value[342] = '\0';
    CHECK_EQ(RM_OK, rm_counter_add(counter_of(family, value), 7));
    value[341] = '\0';
    CHECK_EQ(RM_OK, rm_counter_add(counter_of(family, value), 9));
    CHECK_STR("12", sample(render(metrics), "c_total{overflow=\"true\"}"));
    CHECK_STR("2", sample(page, "rm_metrics_dropped_series_total"));
    CHECK_EQ(3, count_of(page, "\nc_total{"));
    destroy(metrics);
}

TEST(metrics, name_what_is_null) {
    rm_metric_desc desc = rm_metrics_describe(RM_METRIC_GAUGE, "g", "G.");
    rm_metrics *m = create(NULL, 0, 0);
    rm_metrics_family *family = NULL;
    rm_error error;
    REQUIRE(m != NULL);
    CHECK_EQ(RM_E_INVALID, rm_metrics_create(NULL, NULL, &error));
    CHECK_STR("out", error.where);
    CHECK_STR("it is NULL", error.message);
    CHECK_EQ(RM_E_INVALID, rm_metrics_add(NULL, &desc, &family, &error));
    CHECK_STR("metrics", error.where);
    CHECK_EQ(RM_E_INVALID, rm_metrics_add(m, NULL, &family, &error));
    CHECK_STR("desc", error.where);
    CHECK_EQ(RM_E_INVALID, rm_metrics_add(m, &desc, NULL, &error));
    CHECK_STR("out", error.where);
    CHECK_STR("it is NULL", error.message);
    CHECK_EQ(RM_OK, rm_metrics_add(m, &desc, &family, &error));
    CHECK_EQ(RM_E_INVALID, rm_gauge_with(family, NULL, 0, NULL, &error));
    CHECK_STR("out", error.where);
    CHECK_STR("it is NULL", error.message);
    CHECK_EQ(RM_E_INVALID, rm_metrics_add_resource(m, NULL, &error));
    CHECK_STR("resource", error.where);
    CHECK_STR("it is NULL", error.message);
    CHECK_EQ(RM_OK, rm_metrics_destroy(m));
}

TEST(metrics, default_bounds_need_3_to_17_decimals) {
    rm_metrics *m = create(NULL, 0, 0);
    rm_metric_desc desc = rm_metrics_describe(RM_METRIC_HISTOGRAM, "h", "H.");
    rm_metrics_family *family = NULL;
    rm_error error;
    REQUIRE(m != NULL);
    for (desc.decimals = 2; desc.decimals <= 18; desc.decimals += desc.decimals == 2 ? 15 : 1) {
        error.native = 7;
        if (CHECK_EQ(desc.decimals == 17 ? RM_OK : RM_E_INVALID,
                     rm_metrics_add(m, &desc, &family, &error)) &&
            desc.decimals != 17)
            CHECK_EQ(0, error.native);
    }
    CHECK_EQ(RM_OK, rm_metrics_destroy(m));
}

TEST(metrics, max_families_is_256_by_default) {
    rm_metrics *m = create(NULL, 0, 0);
    uint32_t i;
    rm_error error;
    REQUIRE(m != NULL);
    for (i = 0; i <= 256; ++i) {
        char name[8];
        rm_metrics_family *family;
        rm_metric_desc desc;
        (void)snprintf(name, sizeof name, "g%u", i);
        desc = rm_metrics_describe(RM_METRIC_GAUGE, name, "G.");
        CHECK_EQ(i < 256 ? RM_OK : RM_E_FULL, rm_metrics_add(m, &desc, &family, &error));
    }
    CHECK_EQ(RM_OK, rm_metrics_destroy(m));
}

TEST(metrics, max_families_is_a_bound) {
    rm_metrics *metrics = create(NULL, 2, 0);
    rm_metric_desc desc = rm_metrics_describe(RM_METRIC_COUNTER, "c", "Help.");
    rm_metrics_family *family = NULL, *first = add(metrics, RM_METRIC_GAUGE, "a", "");
    rm_error error;
    (void)add(metrics, RM_METRIC_GAUGE, "b", "");
    CHECK_EQ(RM_E_FULL, rm_metrics_add(metrics, &desc, &family, &error));
    CHECK_STR("max_families", error.where);
    CHECK(family == NULL);
    CHECK(add(metrics, RM_METRIC_GAUGE, "a", "") == first);
    CHECK_PAGE(render(metrics));
    destroy(metrics);
}

/* >>memory */

/* Does one of everything. Returns the first status that is not RM_OK. */
static rm_status everything(const rm_env *env) {
    static const char *const value = "x", *const other = "y";
    rm_metrics_desc registry = {env, 0, 0};
    rm_metric_desc desc = rm_metrics_describe(RM_METRIC_HISTOGRAM, "h", "Help.");
    rm_resource resource = rm_resource_make("r", "k", NULL);
    rm_metrics *metrics = NULL;
    rm_metrics_family *family = NULL;
    rm_histogram histogram = {NULL};
    rm_counter counter = {NULL};
    rm_error error;
    rm_status status;
    error.status = RM_OK;
    desc.labels = &value;
    desc.label_count = 1;
    desc.decimals = 9;
    status = rm_metrics_create(&registry, &metrics, &error);
    if (status == RM_OK) status = rm_metrics_add(metrics, &desc, &family, &error);
    if (status == RM_OK) status = rm_histogram_with(family, &value, 1, &histogram, &error);
    desc = rm_metrics_describe(RM_METRIC_COUNTER, "c", "Help.");
    desc.labels = &value;
    desc.label_count = 1;
    if (status == RM_OK) status = rm_metrics_add(metrics, &desc, &family, &error);
    if (status == RM_OK) status = rm_counter_with(family, &value, 1, &counter, &error);
    if (status == RM_OK) status = rm_counter_with(family, &other, 1, &counter, &error);
    if (status == RM_OK) status = rm_metrics_add_resource(metrics, &resource, &error);
    if (metrics != NULL) CHECK_PAGE(render(metrics));
    CHECK_EQ(RM_OK, rm_metrics_destroy(metrics));
    CHECK_EQ(status, error.status);
    return status;
}

TEST(metrics, every_allocation_may_fail) {
    memory m;
    const rm_env *env = memory_init(&m);
    rm_status status = RM_E_NOMEM;
    long i;
    for (i = 1; status != RM_OK && i < 100; ++i) {
        m.calls = 0;
        m.fail_at = i;
        status = everything(env);
        CHECK(status == RM_OK || status == RM_E_NOMEM);
        CHECK_EQ(0, m.blocks);
        CHECK_EQ(0, m.bytes);
    }
    CHECK_EQ(RM_OK, status);
    CHECK_EQ(20, i); /* 18 allocations failed, the 19th try did not need more */
}

TEST(metrics, a_table_that_cannot_grow_keeps_its_series) {
    memory m;
    rm_metrics *metrics = create(memory_init(&m), 0, 0);
    rm_metrics_family *family = add(metrics, RM_METRIC_COUNTER, "c_total", "a");
    char value[16];
    const char *const values = value;
    rm_counter counter = {NULL};
    int i, failed = 0;
    for (i = 0; i < 64; ++i) {
        snprintf(value, sizeof value, "%d", i);
        m.calls = 0;
        m.fail_at = 1;
        CHECK_EQ(RM_E_NOMEM, rm_counter_with(family, &values, 1, &counter, NULL));
        m.fail_at = 2;
        m.calls = 0;
        failed += rm_counter_with(family, &values, 1, &counter, NULL) == RM_E_NOMEM;
        m.fail_at = 0;
        REQUIRE(rm_counter_with(family, &values, 1, &counter, NULL) == RM_OK);
        CHECK_EQ(RM_OK, rm_counter_add(counter, (uint64_t)i));
    }
    CHECK(failed > 2); /* those that had to grow */
    for (i = 0; i < 64; ++i) {
        snprintf(value, sizeof value, "%d", i);
        CHECK_EQ(i, value_of(counter_of(family, value)));
    }
    CHECK_EQ(64, count_of(render(metrics), "\nc_total{"));
    CHECK_PAGE(page);
    destroy(metrics);
    CHECK_EQ(0, m.blocks);
}

static void visit_one(void *user, rm_stat_fn visit, void *visit_user) {
    rm_stat stat;
    memset(&stat, 0, sizeof stat);
    stat.name = "one";
    stat.help = "Help.";
    stat.type = RM_STAT_GAUGE;
    stat.value = *(int *)user;
    visit(&stat, visit_user);
}

TEST(metrics, what_exists_is_used_without_an_allocation) {
    static const char *const values[] = {"GET", "caf\xc3\xa9", "\xff"};
    memory m;
    int one = 1;
    rm_metrics *metrics = create(memory_init(&m), 0, 0);
    rm_metrics_family *counters = add(metrics, RM_METRIC_COUNTER, "c_total", "a,b,c");
    rm_metrics_family *gauges = add(metrics, RM_METRIC_GAUGE, "g", "a,b,c");
    rm_metrics_family *histograms = add(metrics, RM_METRIC_HISTOGRAM, "h", "a,b,c");
    rm_resource resource = rm_resource_make("r", "k", &one);
    rm_counter counter = {NULL};
    rm_gauge gauge = {NULL};
    rm_histogram histogram = {NULL};
    long calls = 0;
    int i;
    resource.stats_fn = visit_one;
    REQUIRE(rm_metrics_add_resource(metrics, &resource, NULL) == RM_OK);
    for (i = 0; i < 100; ++i) {
        CHECK_EQ(RM_OK, rm_counter_with(counters, values, 3, &counter, NULL));
        CHECK_EQ(RM_OK, rm_gauge_with(gauges, values, 3, &gauge, NULL));
        CHECK_EQ(RM_OK, rm_histogram_with(histograms, values, 3, &histogram, NULL));
        if (i == 0) calls = m.calls;
        CHECK_EQ(RM_OK, rm_counter_add(counter, 1));
        CHECK_EQ(RM_OK, rm_gauge_add(gauge, 1));
        CHECK_EQ(RM_OK, rm_histogram_observe(histogram, i));
        CHECK_PAGE(render(metrics));
    }
    CHECK_EQ(calls, m.calls);
    CHECK_STR("1", sample(page, "one{resource=\"r\"}"));
    destroy(metrics);
}

/* >>definitions */

static rm_status try_add(rm_metrics *metrics, const rm_metric_desc *desc, char *where) {
    rm_metrics_family *family = NULL;
    rm_error error;
    rm_status status;
    memset(&error, 0, sizeof error);
    status = rm_metrics_add(metrics, desc, &family, &error);
    CHECK_EQ(status, error.status);
    CHECK((status == RM_OK) == (family != NULL));
    CHECK(status == RM_OK || error.message[0] != '\0');
    strcpy(where, error.where);
    return status;
}

TEST(metrics, an_equal_definition_finds_the_family) {
    static const char *const labels[] = {"a", "b"}, *const copies[] = {"a", "b"};
    static const int64_t bounds[] = {5, 10}, same[] = {5, 10};
    rm_metrics *metrics = create(NULL, 0, 0);
    rm_metric_desc desc = rm_metrics_describe(RM_METRIC_HISTOGRAM, "h", "Help.");
    rm_metrics_family *first = NULL, *second = NULL;
    desc.labels = labels;
    desc.label_count = 2;
    desc.bounds = bounds;
    desc.bound_count = 2;
    REQUIRE(rm_metrics_add(metrics, &desc, &first, NULL) == RM_OK);
    desc.labels = copies;
    desc.bounds = same;
    desc.bins.last_decade = 2; /* what the default is here */
    desc.bins.per_decade = 16;
    CHECK_EQ(RM_OK, rm_metrics_add(metrics, &desc, &second, NULL));
    CHECK(first == second);
    CHECK_EQ(1, count_of(render(metrics), "# TYPE h histogram\n"));
    destroy(metrics);
}

TEST(metrics, a_different_definition_is_refused_and_named) {
    static const char *const labels[] = {"a", "b"}, *const others[] = {"a", "c"};
    static const int64_t bounds[] = {5, 10}, other_bounds[] = {5, 20};
    rm_metrics *metrics = create(NULL, 0, 0);
    rm_metric_desc base = rm_metrics_describe(RM_METRIC_HISTOGRAM, "h", "Help."), desc;
    char where[48];
    base.labels = labels;
    base.label_count = 2;
    base.bounds = bounds;
    base.bound_count = 2;
    CHECK_EQ(RM_OK, try_add(metrics, &base, where));
#define CHECK_DIFFERS(field, change)                           \
    do {                                                       \
        desc = base;                                           \
        change;                                                \
        CHECK_EQ(RM_E_EXISTS, try_add(metrics, &desc, where)); \
        CHECK_STR(field, where);                               \
    } while (0)
    CHECK_DIFFERS("help", desc.help = "Another.");
    CHECK_DIFFERS("labels", desc.labels = others);
    CHECK_DIFFERS("labels", desc.label_count = 1);
    CHECK_DIFFERS("bounds", desc.bounds = other_bounds);
    CHECK_DIFFERS("bounds", desc.bound_count = 1);
    CHECK_DIFFERS("bins", desc.bins.last_decade = 3);
    CHECK_DIFFERS("bins", desc.bins.per_decade = 32);
    CHECK_DIFFERS("decimals", desc.decimals = 1);
    CHECK_DIFFERS("type", (desc.type = RM_METRIC_GAUGE, desc.bounds = NULL, desc.bound_count = 0));
    CHECK_DIFFERS("name", desc.name = "h_bucket");
    CHECK_DIFFERS("name", desc.name = "h_sum");
    CHECK_DIFFERS("name", desc.name = "h_count");
#undef CHECK_DIFFERS
    destroy(metrics);
}

TEST(metrics, names_of_samples_do_not_collide) {
    rm_metrics *metrics = create(NULL, 0, 0);
    rm_metric_desc desc = rm_metrics_describe(RM_METRIC_HISTOGRAM, "x", "Help.");
    char where[48];
    (void)add(metrics, RM_METRIC_COUNTER, "x_count", "");
    desc.decimals = 3;
    CHECK_EQ(RM_E_EXISTS, try_add(metrics, &desc, where));
    CHECK_STR("name", where);
    desc.name = "y";
    CHECK_EQ(RM_OK, try_add(metrics, &desc, where));
    desc.name = "y_bucket_of";
    CHECK_EQ(RM_OK, try_add(metrics, &desc, where));
    desc = rm_metrics_describe(RM_METRIC_COUNTER, "rm_metrics_dropped_series_total", "Help.");
    CHECK_EQ(RM_E_EXISTS, try_add(metrics, &desc, where));
    CHECK_PAGE(render(metrics));
    destroy(metrics);
}

/* Changes a good description and tells that it is refused with this status, naming this field. */
#define CHECK_BAD(status, field, change)                  \
    do {                                                  \
        desc = base;                                      \
        change;                                           \
        CHECK_EQ(status, try_add(metrics, &desc, where)); \
        CHECK_STR(field, where);                          \
    } while (0)

TEST(metrics, bad_names_and_labels_are_refused_and_named) {
    static const char *const one[] = {"a", "b", "c", "d", "e", "f", "g", "h", "i"};
    static const char *const bad[] = {"", "0a", "a-b", "__a", "a b", "\xc3\xa9", "a:b", "overflow"};
    static const char *const twice[] = {"a", "b", "a"}, *const hole[] = {"a", NULL};
    static const char *const bad_names[] = {"", "0a", "a-b", "a b", "a\n", "a{", "caf\xc3\xa9"};
    static char big[1100];
    const char *const big_label = big;
    rm_metrics *metrics = create(NULL, 0, 0);
    const rm_metric_desc base = rm_metrics_describe(RM_METRIC_COUNTER, "x", "Help.");
    rm_metric_desc desc;
    char where[48];
    size_t i;
    memset(big, 'x', 1024);
    for (i = 0; i < sizeof bad_names / sizeof *bad_names; ++i)
        CHECK_BAD(RM_E_INVALID, "name", desc.name = bad_names[i]);
    for (i = 0; i < sizeof bad / sizeof *bad; ++i)
        CHECK_BAD(RM_E_INVALID, "labels", (desc.labels = bad + i, desc.label_count = 1));
    CHECK_BAD(RM_E_INVALID, "name", desc.name = NULL);
    CHECK_BAD(RM_E_TOO_LARGE, "name", desc.name = big);
    CHECK_BAD(RM_E_INVALID, "help", desc.help = NULL);
    CHECK_BAD(RM_E_INVALID, "help", desc.help = "");
    CHECK_BAD(RM_E_TOO_LARGE, "help", desc.help = big);
    CHECK_BAD(RM_E_INVALID, "type", desc.type = (rm_metric_type)3);
    CHECK_BAD(RM_E_INVALID, "label_count", (desc.labels = one, desc.label_count = 9));
    CHECK_BAD(RM_E_INVALID, "label_count", (desc.labels = one, desc.label_count = UINT32_MAX));
    CHECK_BAD(RM_E_INVALID, "labels", desc.label_count = 1);
    CHECK_BAD(RM_E_INVALID, "labels", (desc.labels = twice, desc.label_count = 3));
    CHECK_BAD(RM_E_INVALID, "labels", (desc.labels = hole, desc.label_count = 2));
    CHECK_BAD(RM_E_TOO_LARGE, "labels", (desc.labels = &big_label, desc.label_count = 1));
    CHECK_STR(OWN_TEXT("0", "0", "0"), render(metrics));
    destroy(metrics);
}

TEST(metrics, bad_bounds_and_bins_are_refused_and_named) {
    static const int64_t equal[] = {5, 5}, down[] = {10, 5}, negative[] = {-1, 5}, odd[] = {5, 33},
                         huge[] = {5, INT64_MAX};
    static const char *const le = "le";
    rm_metrics *metrics = create(NULL, 0, 0);
    rm_metric_desc base = rm_metrics_describe(RM_METRIC_COUNTER, "x", "Help.");
    rm_metric_desc desc;
    char where[48];
    CHECK_BAD(RM_E_INVALID, "bounds", (desc.bounds = odd, desc.bound_count = 2));
    CHECK_BAD(RM_E_INVALID, "decimals", desc.decimals = 1);
    CHECK_BAD(RM_E_INVALID, "bins", desc.bins.per_decade = 16);
    base.type = RM_METRIC_HISTOGRAM;
    base.bounds = odd;
    base.bound_count = 2;
    CHECK_BAD(RM_E_INVALID, "labels", (desc.labels = &le, desc.label_count = 1));
    CHECK_BAD(RM_E_INVALID, "bounds", desc.bounds = NULL);
    CHECK_BAD(RM_E_INVALID, "bounds", desc.bound_count = 0);
    CHECK_BAD(RM_E_INVALID, "bound_count", desc.bound_count = 65);
    CHECK_BAD(RM_E_INVALID, "bounds", desc.bounds = equal);
    CHECK_BAD(RM_E_INVALID, "bounds", desc.bounds = down);
    CHECK_BAD(RM_E_INVALID, "bounds", desc.bounds = negative);
    CHECK_BAD(RM_E_INVALID, "bounds", desc.bounds = odd);
    CHECK_BAD(RM_E_INVALID, "bounds", desc.bounds = huge);
    CHECK_BAD(RM_E_INVALID, "decimals", desc.decimals = 19);
    CHECK_BAD(RM_E_INVALID, "bins", desc.bins.per_decade = 17);
    CHECK_BAD(RM_E_INVALID, "bins", desc.bins.last_decade = 19);
    CHECK_BAD(RM_E_INVALID, "bins", desc.bins.first_decade = 9);
    base.bounds = NULL; /* the default ones need decimals */
    base.bound_count = 0;
    CHECK_BAD(RM_E_INVALID, "bounds", desc.decimals = 2);
    CHECK_BAD(RM_E_INVALID, "bounds", desc.decimals = 18);
    CHECK_STR(OWN_TEXT("0", "0", "0"), render(metrics));
    destroy(metrics);
}
#undef CHECK_BAD

TEST(metrics, the_largest_definition_works) {
    static const char *const names[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    static const char *const values[] = {"1", "2", "3", "4", "5", "6", "7", ""};
    static char name[128], help[1024], label[128];
    static int64_t bounds[64];
    const char *labels[8];
    rm_metrics *metrics = create(NULL, 65535, 1u << 24);
    rm_metric_desc desc = rm_metrics_describe(RM_METRIC_HISTOGRAM, name, help);
    rm_metrics_family *family = NULL;
    rm_histogram histogram = {NULL};
    int i;
    memset(name, 'n', 127);
    memset(help, '\\', 1023);
    memset(label, 'l', 127);
    memcpy(labels, names, sizeof names);
    labels[7] = label;
    for (i = 0; i < 64; ++i)
        bounds[i] = i < 63 ? i + 1 : INT64_C(1000000000000000000);
    desc.labels = labels;
    desc.label_count = 8;
    desc.bounds = bounds;
    desc.bound_count = 64;
    desc.decimals = 18;
    desc.bins.last_decade = 18;
    desc.bins.per_decade = 160;
    REQUIRE(rm_metrics_add(metrics, &desc, &family, NULL) == RM_OK);
    REQUIRE(rm_histogram_with(family, values, 8, &histogram, NULL) == RM_OK);
    CHECK_EQ(RM_OK, rm_histogram_observe(histogram, 63));
    CHECK_EQ(RM_OK, rm_histogram_observe(histogram, INT64_MAX));
    CHECK_PAGE(render(metrics));
    CHECK(strstr(page, "le=\"0.000000000000000063\"} 1\n") != NULL);
    CHECK(strstr(page, "le=\"1\"} 1\n") != NULL);
    CHECK(strstr(page, "} 9.22337203685477587\n") != NULL);
    destroy(metrics);
}

TEST(metrics, a_zeroed_handle_is_stale) {
    rm_counter counter = {NULL};
    rm_gauge gauge = {NULL};
    rm_histogram histogram = {NULL};
    uint64_t number = 7;
    double real = 7;
    CHECK_EQ(RM_E_STALE, rm_counter_add(counter, 1));
    CHECK_EQ(RM_E_STALE, rm_counter_value(counter, &number));
    CHECK_EQ(RM_E_STALE, rm_gauge_set(gauge, 1));
    CHECK_EQ(RM_E_STALE, rm_gauge_add(gauge, 1));
    CHECK_EQ(RM_E_STALE, rm_gauge_value(gauge, &real));
    CHECK_EQ(RM_E_STALE, rm_histogram_observe(histogram, 1));
    CHECK_EQ(RM_E_STALE, rm_histogram_observe(histogram, -1));
    CHECK(number == 7 && real > 6.9);
    CHECK_EQ(RM_E_INVALID, rm_counter_value(counter, NULL));
    CHECK_EQ(RM_E_INVALID, rm_gauge_value(gauge, NULL));
}

TEST(metrics, a_bad_look_up_is_refused_and_named) {
    static const char *const two[] = {"a", NULL};
    rm_metrics *metrics = create(NULL, 0, 0);
    rm_metrics_family *family = add(metrics, RM_METRIC_COUNTER, "c", "a,b");
    rm_counter counter = {NULL};
    rm_gauge gauge = {NULL};
    rm_histogram histogram = {NULL};
    rm_error error;
    CHECK_EQ(RM_E_INVALID, rm_counter_with(NULL, NULL, 0, &counter, &error));
    CHECK_STR("family", error.where);
    CHECK_EQ(RM_E_INVALID, rm_counter_with(family, two, 2, NULL, &error));
    CHECK_STR("out", error.where);
    CHECK_EQ(RM_E_INVALID, rm_gauge_with(family, two, 2, NULL, &error));
    CHECK_EQ(RM_E_INVALID, rm_histogram_with(family, two, 2, NULL, &error));
    CHECK_EQ(RM_E_INVALID, rm_counter_with(family, two, 2, &counter, &error));
    CHECK_STR("values[1] is NULL", error.message);
    CHECK_EQ(RM_E_INVALID, rm_counter_with(family, two, 1, &counter, &error));
    CHECK_STR("c has 2 labels", error.message);
    CHECK_EQ(RM_E_INVALID, rm_counter_with(family, two, UINT32_MAX, &counter, &error));
    CHECK_EQ(RM_E_INVALID, rm_counter_with(family, NULL, 2, &counter, &error));
    CHECK_STR("values", error.where);
    CHECK_EQ(RM_E_INVALID, rm_gauge_with(family, two, 2, &gauge, &error));
    CHECK_STR("family", error.where);
    CHECK_EQ(RM_E_INVALID, rm_histogram_with(family, two, 2, &histogram, NULL));
    CHECK(counter.series == NULL && gauge.series == NULL && histogram.series == NULL);
    destroy(metrics);
}

TEST(metrics, is_a_resource_that_a_manager_lists) {
    rm_metrics *metrics = create(NULL, 0, 0);
    const rm_resource resource = rm_metrics_resource(metrics);
    rm_manager *manager = NULL;
    rm_resource_status status;
    uint32_t count = 0;
    REQUIRE(rm_manager_create(NULL, &manager, NULL) == RM_OK);
    CHECK_EQ(RM_OK, rm_manager_add(manager, &resource, NULL));
    CHECK_EQ(RM_OK, rm_manager_start(manager, 0, NULL));
    CHECK_EQ(RM_OK, rm_manager_status(manager, &status, 1, &count));
    CHECK_STR("metrics", status.name);
    CHECK_EQ(RM_HEALTH_HEALTHY, status.health);
    CHECK_EQ(RM_OK, rm_manager_stop(manager, 0, NULL));
    CHECK_EQ(RM_OK, rm_manager_destroy(manager));
    CHECK(rm_metrics_resource(NULL).name == NULL);
    destroy(metrics);
}

TEST(metrics, misuse_of_the_registry_is_a_status) {
    rm_metrics *metrics = create(NULL, 0, 0), *none = NULL;
    rm_metrics_desc desc = {NULL, 0, 0};
    rm_metric_desc metric = rm_metrics_describe(RM_METRIC_COUNTER, "x", "Help.");
    rm_metrics_family *out = NULL;
    rm_resource resource = rm_resource_make("r", "k", NULL);
    rm_text text = rm_text_make(page, sizeof page);
    rm_allocator half = {memory_alloc, NULL, NULL};
    rm_env env = {&half, NULL, NULL, NULL};
    rm_error error;
    CHECK_EQ(RM_E_INVALID, rm_metrics_add(NULL, &metric, &out, &error));
    CHECK_EQ(RM_E_INVALID, rm_metrics_add(metrics, NULL, &out, &error));
    CHECK_EQ(RM_E_INVALID, rm_metrics_add(metrics, &metric, NULL, &error));
    CHECK_EQ(RM_E_INVALID, rm_metrics_render(NULL, &text));
    CHECK_EQ(RM_E_INVALID, rm_metrics_render(metrics, NULL));
    CHECK_EQ(RM_E_INVALID, rm_metrics_add_resource(NULL, &resource, &error));
    CHECK_EQ(RM_E_INVALID, rm_metrics_add_resource(metrics, NULL, &error));
    CHECK_EQ(RM_E_INVALID, rm_metrics_remove_resource(NULL, "r"));
    CHECK_EQ(RM_E_INVALID, rm_metrics_remove_resource(metrics, NULL));
    CHECK_EQ(RM_OK, rm_metrics_destroy(NULL));
    CHECK_EQ(RM_E_INVALID, rm_metrics_create(NULL, NULL, &error));
    desc.max_families = 65536;
    CHECK_EQ(RM_E_INVALID, rm_metrics_create(&desc, &none, &error));
    CHECK_STR("max_families", error.where);
    desc.max_families = 0;
    desc.max_series = (1u << 24) + 1;
    CHECK_EQ(RM_E_INVALID, rm_metrics_create(&desc, &none, &error));
    CHECK_STR("max_series", error.where);
    desc.max_series = 0;
    desc.env = &env;
    CHECK_EQ(RM_E_INVALID, rm_metrics_create(&desc, &none, &error));
    CHECK(none == NULL);
    destroy(metrics);
}

/* >>render */

typedef struct sink {
    char text[8192];
    size_t size;
    size_t stop_at; /* says stop from here on; 0 = never */
    int calls;
    rm_metrics *metrics;
} sink;

static bool sink_write(const char *data, size_t size, void *user) {
    sink *s = (sink *)user;
    ++s->calls;
    if (s->size + size >= sizeof s->text) return CHECK(false);
    memcpy(s->text + s->size, data, size);
    s->size += size;
    s->text[s->size] = '\0';
    return s->stop_at == 0 || s->size < s->stop_at;
}

/* A registry with one family of each type and a resource. */
static rm_metrics *small_registry(int *one) {
    static const char *const value = "x";
    rm_metrics *metrics = create(NULL, 0, 0);
    rm_metrics_family *histograms = add(metrics, RM_METRIC_HISTOGRAM, "h", "a");
    rm_metrics_family *gauges = add(metrics, RM_METRIC_GAUGE, "g", "");
    rm_resource resource = rm_resource_make("r", "k", one);
    rm_histogram histogram = {NULL};
    rm_gauge gauge = {NULL};
    CHECK_EQ(RM_OK, rm_histogram_with(histograms, &value, 1, &histogram, NULL));
    CHECK_EQ(RM_OK, rm_histogram_observe(histogram, RM_MS(3)));
    CHECK_EQ(RM_OK, rm_gauge_with(gauges, NULL, 0, &gauge, NULL));
    CHECK_EQ(RM_OK, rm_gauge_set(gauge, 0.1));
    resource.stats_fn = visit_one;
    CHECK_EQ(RM_OK, rm_metrics_add_resource(metrics, &resource, NULL));
    return metrics;
}

TEST(metrics, a_buffer_of_any_size_does_with_a_flush_fn) {
    static sink s;
    int one = 1;
    rm_metrics *metrics = small_registry(&one);
    const size_t whole = strlen(render(metrics));
    char buffer[256];
    size_t size;
    CHECK_PAGE(page);
    for (size = 1; size <= sizeof buffer; ++size) {
        rm_text text = rm_text_make(buffer, size);
        memset(&s, 0, sizeof s);
        text.flush_fn = sink_write;
        text.user = &s;
        CHECK_EQ(RM_OK, rm_metrics_render(metrics, &text));
        CHECK_STR(page, s.text);
        CHECK_EQ((whole + size - 1) / size, s.calls);
    }
    destroy(metrics);
}

TEST(metrics, a_flush_fn_that_stops_ends_the_page) {
    static sink s;
    int one = 1;
    rm_metrics *metrics = small_registry(&one);
    const size_t whole = strlen(render(metrics));
    char buffer[16];
    size_t stop;
    for (stop = 1; stop <= whole; ++stop) {
        rm_text text = rm_text_make(buffer, sizeof buffer);
        memset(&s, 0, sizeof s);
        text.flush_fn = sink_write;
        text.user = &s;
        s.stop_at = stop;
        CHECK_EQ(RM_E_FAILED, rm_metrics_render(metrics, &text));
        CHECK_EQ((stop + 15) / 16, s.calls); /* not called again after it said stop */
        CHECK(strncmp(page, s.text, s.size) == 0);
    }
    destroy(metrics);
}

TEST(metrics, a_page_that_does_not_fit_is_a_status) {
    int one = 1;
    rm_metrics *metrics = small_registry(&one);
    static char small[8192];
    const size_t whole = strlen(render(metrics));
    size_t size;
    for (size = 0; size <= whole; ++size) {
        rm_text text = rm_text_make(size == 0 ? NULL : small, size);
        CHECK_EQ(size < whole ? RM_E_TOO_LARGE : RM_OK, rm_metrics_render(metrics, &text));
        CHECK(text.used <= size);
    }
    CHECK(memcmp(small, page, whole) == 0);
    destroy(metrics);
}

static void visit_nothing(void *user, rm_stat_fn visit, void *visit_user) {
    (void)user;
    (void)visit;
    (void)visit_user;
}

/* Calls everything that takes a lock: it would hang if the render held one. */
static void use_registry(rm_metrics *metrics) {
    static const char *const value = "from inside";
    rm_resource resource = rm_resource_make("inside", "k", NULL);
    rm_metrics_family *family = add(metrics, RM_METRIC_COUNTER, "inside_total", "a");
    rm_histogram histogram = {NULL};
    resource.stats_fn = visit_nothing;
    CHECK_EQ(RM_OK, rm_counter_add(counter_of(family, value), 1));
    CHECK_EQ(RM_OK, rm_histogram_with(add(metrics, RM_METRIC_HISTOGRAM, "h", "a"), &value, 1,
                                      &histogram, NULL));
    CHECK_EQ(RM_OK, rm_histogram_observe(histogram, 1));
    CHECK_EQ(RM_OK, rm_metrics_add_resource(metrics, &resource, NULL));
    CHECK_EQ(RM_OK, rm_metrics_remove_resource(metrics, "inside"));
    CHECK_EQ(RM_E_BUSY, rm_metrics_destroy(metrics));
}

static bool sink_use(const char *data, size_t size, void *user) {
    use_registry(((sink *)user)->metrics);
    return sink_write(data, size, user);
}

static void visit_use(void *user, rm_stat_fn visit, void *visit_user) {
    int one = 1;
    use_registry((rm_metrics *)user);
    visit_one(&one, visit, visit_user);
}

TEST(metrics, hooks_may_use_the_registry) {
    static sink s;
    int one = 1;
    rm_metrics *metrics = small_registry(&one);
    rm_resource resource = rm_resource_make("user", "k", metrics);
    char buffer[64];
    rm_text text = rm_text_make(buffer, sizeof buffer);
    memset(&s, 0, sizeof s);
    s.metrics = metrics;
    text.flush_fn = sink_use;
    text.user = &s;
    resource.stats_fn = visit_use;
    REQUIRE(rm_metrics_add_resource(metrics, &resource, NULL) == RM_OK);
    CHECK_EQ(RM_OK, rm_metrics_render(metrics, &text));
    CHECK_PAGE(s.text);
    CHECK_STR("1", sample(s.text, "one{resource=\"user\"}"));
    CHECK_PAGE(render(metrics));
    CHECK(atoi(sample(page, "inside_total{a=\"from inside\"}")) > s.calls);
    destroy(metrics);
}

/* >>resources */

typedef struct source {
    const rm_stat *stats;
    size_t count;
    int calls;
} source;

static void visit_source(void *user, rm_stat_fn visit, void *visit_user) {
    source *s = (source *)user;
    size_t i;
    ++s->calls;
    for (i = 0; i < s->count; ++i)
        visit(&s->stats[i], visit_user);
}

static void add_source(rm_metrics *metrics, const char *name, source *s) {
    rm_resource resource = rm_resource_make(name, "test", s);
    resource.stats_fn = visit_source;
    CHECK_EQ(RM_OK, rm_metrics_add_resource(metrics, &resource, NULL));
}

static rm_stat stat_of(const char *name, rm_stat_type type, int64_t value, const char *label,
                       const char *label_value) {
    rm_stat stat;
    memset(&stat, 0, sizeof stat);
    stat.name = name;
    stat.help = "A statistic.";
    stat.type = type;
    stat.value = value;
    stat.label = label;
    stat.label_value = label_value;
    return stat;
}

TEST(metrics, statistics_of_several_resources_are_one_family) {
    uint64_t bins[300];
    const rm_hist_desc shape = {1, 3, 16};
    rm_hist hist;
    rm_stat stats[4];
    source first = {stats, 4, 0}, second = {stats + 1, 3, 0};
    rm_metrics *metrics = create(NULL, 0, 0);
    rm_resource silent = rm_resource_make("silent", "k", NULL);
    stats[0] = stat_of("pool_opened_total", RM_STAT_COUNTER, 7, NULL, NULL);
    stats[1] = stat_of("pool_items", RM_STAT_GAUGE, 3, "state", "idle");
    stats[2] = stat_of("pool_items", RM_STAT_GAUGE, -1, "state", "in \"use\"");
    stats[3] = stat_of("pool_wait_seconds", RM_STAT_HISTOGRAM, 0, NULL, NULL);
    stats[1].decimals = 1;
    stats[3].decimals = 2;
    stats[3].hist = &hist;
    REQUIRE(rm_hist_init(&hist, &shape, bins, sizeof bins) == RM_OK);
    CHECK_EQ(RM_OK, rm_hist_record(&hist, 10));
    CHECK_EQ(RM_OK, rm_hist_record(&hist, 11));
    CHECK_EQ(RM_OK, rm_hist_record(&hist, 1001));
    CHECK_EQ(RM_OK, rm_metrics_add_resource(metrics, &silent, NULL));
    add_source(metrics, "db", &first);
    add_source(metrics, "a\\b", &second);
    CHECK_STR("# HELP pool_opened_total A statistic.\n"
              "# TYPE pool_opened_total counter\n"
              "pool_opened_total{resource=\"db\"} 7\n"
              "# HELP pool_items A statistic.\n"
              "# TYPE pool_items gauge\n"
              "pool_items{resource=\"db\",state=\"idle\"} 0.3\n"
              "pool_items{resource=\"db\",state=\"in \\\"use\\\"\"} -1\n"
              "pool_items{resource=\"a\\\\b\",state=\"idle\"} 0.3\n"
              "pool_items{resource=\"a\\\\b\",state=\"in \\\"use\\\"\"} -1\n"
              "# HELP pool_wait_seconds A statistic.\n"
              "# TYPE pool_wait_seconds histogram\n"
              "pool_wait_seconds_bucket{resource=\"db\",le=\"0.1\"} 1\n"
              "pool_wait_seconds_bucket{resource=\"db\",le=\"0.2\"} 2\n"
              "pool_wait_seconds_bucket{resource=\"db\",le=\"0.5\"} 2\n"
              "pool_wait_seconds_bucket{resource=\"db\",le=\"1\"} 2\n"
              "pool_wait_seconds_bucket{resource=\"db\",le=\"2\"} 2\n"
              "pool_wait_seconds_bucket{resource=\"db\",le=\"5\"} 2\n"
              "pool_wait_seconds_bucket{resource=\"db\",le=\"10\"} 2\n"
              "pool_wait_seconds_bucket{resource=\"db\",le=\"+Inf\"} 3\n"
              "pool_wait_seconds_sum{resource=\"db\"} 10.22\n"
              "pool_wait_seconds_count{resource=\"db\"} 3\n"
              "pool_wait_seconds_bucket{resource=\"a\\\\b\",le=\"0.1\"} 1\n"
              "pool_wait_seconds_bucket{resource=\"a\\\\b\",le=\"0.2\"} 2\n"
              "pool_wait_seconds_bucket{resource=\"a\\\\b\",le=\"0.5\"} 2\n"
              "pool_wait_seconds_bucket{resource=\"a\\\\b\",le=\"1\"} 2\n"
              "pool_wait_seconds_bucket{resource=\"a\\\\b\",le=\"2\"} 2\n"
              "pool_wait_seconds_bucket{resource=\"a\\\\b\",le=\"5\"} 2\n"
              "pool_wait_seconds_bucket{resource=\"a\\\\b\",le=\"10\"} 2\n"
              "pool_wait_seconds_bucket{resource=\"a\\\\b\",le=\"+Inf\"} 3\n"
              "pool_wait_seconds_sum{resource=\"a\\\\b\"} 10.22\n"
              "pool_wait_seconds_count{resource=\"a\\\\b\"} 3\n" OWN_TEXT("0", "0", "0"),
              render(metrics));
    CHECK_PAGE(page);
    CHECK_EQ(4, first.calls); /* three names and once more */
    destroy(metrics);
}

/* Fills in samples that would break the page. Returns how many. */
static size_t bad_samples(rm_stat *stats, const rm_hist *hist, const rm_hist *empty,
                          const char *big) {
    size_t n = 0;
    stats[n++] = stat_of("good", RM_STAT_GAUGE, 2, "state", "\xfe"); /* looks like \xff */
    stats[n++] = stat_of("good", RM_STAT_COUNTER, 3, "state", "x");  /* another type */
    stats[n++] = stat_of("good", RM_STAT_GAUGE, 1, "resource", "x"); /* there already */
    stats[n++] = stat_of("good", RM_STAT_GAUGE, 1, "a-b", "x");
    stats[n++] = stat_of("good", RM_STAT_GAUGE, 1, "a", NULL);
    stats[n++] = stat_of("good", RM_STAT_GAUGE, 1, "a", big);
    stats[n++] = stat_of("triple", RM_STAT_HISTOGRAM, 0, "le", "x");
    stats[n - 1].hist = hist;
    stats[n++] = stat_of("triple", RM_STAT_HISTOGRAM, 0, "a", "x"); /* without a histogram */
    stats[n++] = stat_of("triple", RM_STAT_HISTOGRAM, 0, "a", "x");
    stats[n - 1].hist = empty;
    stats[n++] = stat_of("negative_total", RM_STAT_COUNTER, -1, NULL, NULL);
    stats[n++] = stat_of("decimals", RM_STAT_GAUGE, 1, NULL, NULL);
    stats[n - 1].decimals = 19;
    stats[n++] = stat_of(NULL, RM_STAT_GAUGE, 1, NULL, NULL);
    stats[n++] = stat_of("bad name", RM_STAT_GAUGE, 1, NULL, NULL);
    stats[n++] = stat_of(big, RM_STAT_GAUGE, 1, NULL, NULL);
    stats[n++] = stat_of("no_help", RM_STAT_GAUGE, 1, NULL, NULL);
    stats[n - 1].help = NULL;
    stats[n++] = stat_of("empty_help", RM_STAT_GAUGE, 1, NULL, NULL);
    stats[n - 1].help = "";
    stats[n++] = stat_of("type", (rm_stat_type)3, 1, NULL, NULL);
    stats[n++] = stat_of("app_total", RM_STAT_COUNTER, 1, NULL, NULL); /* a family's */
    stats[n++] = stat_of("app_seconds_sum", RM_STAT_COUNTER, 1, NULL, NULL);
    stats[n++] = stat_of("triple_count", RM_STAT_COUNTER, 1, NULL, NULL); /* triple has it */
    stats[n++] = stat_of("single", RM_STAT_HISTOGRAM, 1, NULL, NULL);     /* single_sum is there */
    stats[n - 1].hist = hist;
    return n;
}

TEST(metrics, samples_that_would_break_the_page_are_left_out_and_counted) {
    static char big[2100];
    uint64_t bins[300];
    const rm_hist_desc shape = {0, 3, 16};
    rm_hist hist, empty;
    rm_stat stats[32];
    char count[16];
    source first = {stats, 3, 0}, second = {stats, 2, 0};
    rm_metrics *metrics = create(NULL, 0, 0);
    REQUIRE(rm_hist_init(&hist, &shape, bins, sizeof bins) == RM_OK);
    memset(&empty, 0, sizeof empty);
    memset(big, 'x', 2048);
    (void)add(metrics, RM_METRIC_COUNTER, "app_total", "");
    (void)add(metrics, RM_METRIC_HISTOGRAM, "app_seconds", "");
    stats[0] = stat_of("good", RM_STAT_GAUGE, 1, "state", "\xff");
    stats[1] = stat_of("triple", RM_STAT_HISTOGRAM, 0, NULL, NULL);
    stats[1].hist = &hist;
    stats[2] = stat_of("single_sum", RM_STAT_COUNTER, 0, NULL, NULL);
    first.count += bad_samples(stats + 3, &hist, &empty, big);
    add_source(metrics, "first", &first);
    add_source(metrics, "second", &second);
    snprintf(count, sizeof count, "%u", (unsigned)first.count - 3);
    CHECK_PAGE(render(metrics));
    CHECK_STR("1", sample(page, "good{resource=\"first\",state=\"\xEF\xBF\xBD\"}"));
    CHECK_STR("1", sample(page, "good{resource=\"second\",state=\"\xEF\xBF\xBD\"}"));
    CHECK_EQ(2, count_of(page, "\ngood{"));
    CHECK_EQ(2, count_of(page, "\ntriple_count{"));
    CHECK_STR("0", sample(page, "single_sum{resource=\"first\"}"));
    CHECK_EQ(0, count_of(page, "negative_total"));
    CHECK_EQ(1, count_of(page, "app_seconds_sum "));
    CHECK_STR(count, sample(page, "rm_metrics_dropped_samples_total"));
    destroy(metrics);
}

TEST(metrics, statistics_beyond_the_limits_are_counted) {
    static char names[300][16], values[70][16];
    static rm_stat stats[370];
    source s = {stats, 370, 0};
    rm_metrics *metrics = create(NULL, 0, 0);
    int i;
    for (i = 0; i < 70; ++i) {
        snprintf(values[i], sizeof values[i], "v%d", i);
        stats[i] = stat_of("many", RM_STAT_GAUGE, i, "value", values[i]);
    }
    for (i = 0; i < 300; ++i) {
        snprintf(names[i], sizeof names[i], "name%d", i);
        stats[70 + i] = stat_of(names[i], RM_STAT_GAUGE, i, NULL, NULL);
    }
    add_source(metrics, "r", &s);
    CHECK_PAGE(render(metrics));
    CHECK_EQ(64, count_of(page, "\nmany{"));
    CHECK_STR("63", sample(page, "many{resource=\"r\",value=\"v63\"}"));
    CHECK_EQ(254, count_of(page, "\nname"));
    CHECK_STR("253", sample(page, "name253{resource=\"r\"}"));
    CHECK_STR("52", sample(page, "rm_metrics_dropped_samples_total")); /* 6 and 46 */
    destroy(metrics);
}

TEST(metrics, resources_come_and_go_by_name) {
    static const char *const longest = "0123456789012345678901234567890123456789abcdefg";
    rm_metrics *metrics = create(NULL, 0, 0);
    rm_stat stat = stat_of("one", RM_STAT_GAUGE, 1, NULL, NULL);
    source s = {&stat, 1, 0};
    rm_resource resource = rm_resource_make("a", "k", &s);
    rm_error error;
    resource.stats_fn = visit_source;
    add_source(metrics, "a", &s);
    add_source(metrics, "b\xff", &s);
    add_source(metrics, longest, &s);
    CHECK_EQ(RM_E_EXISTS, rm_metrics_add_resource(metrics, &resource, &error));
    CHECK_STR("a", error.where);
    resource.name = "b\xfe";
    CHECK_EQ(RM_E_EXISTS, rm_metrics_add_resource(metrics, &resource, NULL));
    resource.name = "";
    CHECK_EQ(RM_E_INVALID, rm_metrics_add_resource(metrics, &resource, NULL));
    resource.name = NULL;
    CHECK_EQ(RM_E_INVALID, rm_metrics_add_resource(metrics, &resource, NULL));
    resource.name = "0123456789012345678901234567890123456789abcdefgh";
    CHECK_EQ(RM_E_TOO_LARGE, rm_metrics_add_resource(metrics, &resource, NULL));
    CHECK_EQ(RM_E_NOT_FOUND, rm_metrics_remove_resource(metrics, resource.name));
    CHECK_EQ(RM_E_NOT_FOUND, rm_metrics_remove_resource(metrics, page));
    CHECK_EQ(3, count_of(render(metrics), "\none{resource="));
    CHECK_PAGE(page);
    CHECK_EQ(RM_OK, rm_metrics_remove_resource(metrics, "b\xff"));
    CHECK_EQ(RM_E_NOT_FOUND, rm_metrics_remove_resource(metrics, "b\xff"));
    CHECK_EQ(RM_OK, rm_metrics_remove_resource(metrics, longest));
    s.calls = 0;
    CHECK_EQ(1, count_of(render(metrics), "\none{resource="));
    CHECK_EQ(2, s.calls);
    CHECK_EQ(RM_OK, rm_metrics_remove_resource(metrics, "a"));
    CHECK_STR(OWN_TEXT("0", "0", "0"), render(metrics));
    CHECK_EQ(2, s.calls);
    destroy(metrics);
}

static void visit_and_remove(void *user, rm_stat_fn visit, void *visit_user) {
    (void)visit;
    (void)visit_user;
    CHECK_EQ(RM_E_DEADLOCK, rm_metrics_remove_resource((rm_metrics *)user, "self"));
}

TEST(metrics, a_resource_cannot_remove_itself_while_it_is_visited) {
    rm_metrics *metrics = create(NULL, 0, 0);
    rm_resource resource = rm_resource_make("self", "k", metrics);
    resource.stats_fn = visit_and_remove;
    REQUIRE(rm_metrics_add_resource(metrics, &resource, NULL) == RM_OK);
    CHECK_PAGE(render(metrics));
    CHECK_EQ(RM_OK, rm_metrics_remove_resource(metrics, "self"));
    destroy(metrics);
}

/* >>threads */

typedef struct removal {
    rm_metrics *metrics;
    rm_virtual_clock *clock;
    rm_thread thread;
    bool removed;
} removal;

static void removal_run(void *user) {
    removal *r = (removal *)user;
    CHECK_EQ(RM_OK, rm_metrics_remove_resource(r->metrics, "slow"));
    r->removed = true;
}

/* Starts the thread that removes this resource, and returns once that waits. */
static void visit_slow(void *user, rm_stat_fn visit, void *visit_user) {
    removal *r = (removal *)user;
    rm_resource again = rm_resource_make("slow", "k", NULL);
    rm_stat stat = stat_of("slow", RM_STAT_GAUGE, 1, NULL, NULL);
    CHECK_EQ(RM_OK, rm_thread_start(&r->thread, removal_run, r));
    rm_virtual_clock_await(r->clock, 1);
    CHECK(!r->removed);
    CHECK_EQ(RM_E_NOT_FOUND, rm_metrics_remove_resource(r->metrics, "slow")); /* is going */
    CHECK_EQ(RM_E_EXISTS, rm_metrics_add_resource(r->metrics, &again, NULL));
    visit(&stat, visit_user);
}

TEST(metrics, removal_waits_for_the_visit_to_end) {
    rm_virtual_clock virtual_clock;
    rm_clock clock;
    rm_env env;
    removal r;
    rm_resource resource = rm_resource_make("slow", "k", &r);
    memset(&env, 0, sizeof env);
    memset(&r, 0, sizeof r);
    REQUIRE(rm_virtual_clock_init(&virtual_clock, 0, false) == RM_OK);
    clock = rm_virtual_clock_clock(&virtual_clock);
    env.clock = &clock;
    r.clock = &virtual_clock;
    r.metrics = create(&env, 0, 0);
    resource.stats_fn = visit_slow;
    REQUIRE(rm_metrics_add_resource(r.metrics, &resource, NULL) == RM_OK);
    CHECK_PAGE(render(r.metrics));
    rm_thread_join(&r.thread);
    CHECK(r.removed);
    CHECK_EQ(RM_E_NOT_FOUND, rm_metrics_remove_resource(r.metrics, "slow"));
    CHECK_STR(OWN_TEXT("0", "0", "0"), render(r.metrics));
    destroy(r.metrics);
    rm_virtual_clock_destroy(&virtual_clock);
}

enum { THREADS = 8 };

typedef struct worker {
    rm_thread thread;
    struct crew *crew;
    sink sink;
} worker;

/* Threads of which two at least begin at the same moment, and what they work on. */
typedef struct crew {
    rm_mutex mutex;
    rm_cond all_there;
    uint32_t there, awake, running;
    rm_metrics *metrics;
    rm_metrics_family *family;
    rm_histogram histogram;
    rm_gauge gauge;
    void (*run)(worker *w);
    worker workers[THREADS];
} crew;

static void worker_run(void *user) {
    worker *w = (worker *)user;
    crew *c = w->crew;
    rm_mutex_lock(&c->mutex);
    if (++c->there == THREADS) rm_cond_broadcast(&c->all_there);
    while (c->there < THREADS)
        rm_cond_wait(&c->all_there, &c->mutex, INT64_MAX);
    rm_mutex_unlock(&c->mutex);
    (void)__atomic_add_fetch(&c->awake, 1u, __ATOMIC_RELAXED);
    while (__atomic_load_n(&c->awake, __ATOMIC_RELAXED) < 2) {}
    c->run(w);
    (void)__atomic_sub_fetch(&c->running, 1u, __ATOMIC_RELEASE);
}

static bool crew_running(crew *c) {
    return __atomic_load_n(&c->running, __ATOMIC_ACQUIRE) > 0;
}

static void crew_start(crew *c, void (*run)(worker *w)) {
    int i;
    CHECK_EQ(RM_OK, rm_mutex_init(&c->mutex));
    CHECK_EQ(RM_OK, rm_cond_init(&c->all_there));
    c->there = c->awake = 0;
    c->running = THREADS;
    c->run = run;
    for (i = 0; i < THREADS; ++i) {
        c->workers[i].crew = c;
        CHECK_EQ(RM_OK, rm_thread_start(&c->workers[i].thread, worker_run, &c->workers[i]));
    }
}

static void crew_join(crew *c) {
    int i;
    for (i = 0; i < THREADS; ++i)
        rm_thread_join(&c->workers[i].thread);
    rm_cond_destroy(&c->all_there);
    rm_mutex_destroy(&c->mutex);
}

static void observe_run(worker *w) {
    int i;
    for (i = 0; i < 100000; ++i)
        (void)rm_histogram_observe(w->crew->histogram, 7000000);
}

TEST(metrics, a_racing_page_has_whole_histograms) {
    static crew c;
    static char buffer[16384];
    unsigned long long last = 0, count, sum;
    int pages = 0;
    c.metrics = create(NULL, 0, 0);
    REQUIRE(rm_histogram_with(add(c.metrics, RM_METRIC_HISTOGRAM, "h", ""), NULL, 0, &c.histogram,
                              NULL) == RM_OK);
    crew_start(&c, observe_run);
    while (crew_running(&c) || pages < 10000) {
        rm_text text = rm_text_make(buffer, sizeof buffer - 1);
        CHECK_EQ(RM_OK, rm_metrics_render(c.metrics, &text));
        buffer[text.used] = '\0';
        if (pages++ % 100 == 0) CHECK_PAGE(buffer);
        count = strtoull(sample(buffer, "h_count"), NULL, 10);
        CHECK(count >= last);
        CHECK(count == strtoull(sample(buffer, "h_bucket{le=\"+Inf\"}"), NULL, 10));
        CHECK(count == strtoull(sample(buffer, "h_bucket{le=\"0.01\"}"), NULL, 10));
        CHECK_STR("0", sample(buffer, "h_bucket{le=\"0.005\"}"));
        sum = (unsigned long long)(strtod(sample(buffer, "h_sum"), NULL) * 1000 + 0.5);
        CHECK_EQ(count * 7, sum);
        last = count;
    }
    crew_join(&c);
    CHECK_STR("800000", sample(render(c.metrics), "h_count"));
    CHECK_STR("5600", sample(page, "h_sum"));
    destroy(c.metrics);
}

static void count_run(worker *w) {
    const rm_counter counter = counter_of(w->crew->family, "x");
    int i;
    for (i = 0; i < 200000; ++i) {
        CHECK_EQ(RM_OK, rm_counter_add(counter, 1));
        CHECK_EQ(RM_OK, rm_gauge_add(w->crew->gauge, i % 2 == 0 ? 1.5 : -1));
    }
}

TEST(metrics, threads_lose_no_addition) {
    static crew c;
    c.metrics = create(NULL, 0, 0);
    c.family = add(c.metrics, RM_METRIC_COUNTER, "c_total", "a");
    REQUIRE(rm_gauge_with(add(c.metrics, RM_METRIC_GAUGE, "g", ""), NULL, 0, &c.gauge, NULL) ==
            RM_OK);
    crew_start(&c, count_run);
    crew_join(&c);
    CHECK_STR("1600000", sample(render(c.metrics), "c_total{a=\"x\"}"));
    CHECK_STR("400000", sample(page, "g"));
    destroy(c.metrics);
}

enum { SERIES = 300, BOUND = 200, ROUNDS = 5 };

static void create_run(worker *w) {
    char value[16];
    int i;
    for (i = 0; i < SERIES * ROUNDS; ++i) {
        snprintf(value, sizeof value, "%d", i % SERIES);
        CHECK_EQ(RM_OK, rm_counter_add(counter_of(w->crew->family, value), 1));
    }
}

TEST(metrics, threads_make_each_series_once) {
    static crew c;
    const char *line;
    int i;
    for (i = 0; i < 20; ++i) {
        unsigned long long total = 0;
        c.metrics = create(NULL, 0, BOUND);
        c.family = add(c.metrics, RM_METRIC_COUNTER, "c_total", "a");
        crew_start(&c, create_run);
        do {
            CHECK_PAGE(render(c.metrics));
        } while (crew_running(&c));
        crew_join(&c);
        CHECK_PAGE(render(c.metrics));
        CHECK_EQ(BOUND + 1, count_of(page, "\nc_total{"));
        CHECK_STR("4000", sample(page, "c_total{overflow=\"true\"}"));
        CHECK_STR("4000", sample(page, "rm_metrics_dropped_series_total"));
        for (line = strstr(page, "\nc_total{"); line != NULL; line = strstr(line + 1, "\nc_total{"))
            total += strtoull(strchr(line, ' '), NULL, 10);
        CHECK_EQ(THREADS * SERIES * ROUNDS, total);
        destroy(c.metrics);
    }
}

enum { FAMILIES = 300 };

static rm_metrics_family *crowded[FAMILIES];

static void crowd_run(worker *w) {
    char value[16];
    int i;
    snprintf(value, sizeof value, "%d", (int)(w - w->crew->workers));
    for (i = 0; i < FAMILIES; ++i)
        CHECK_EQ(RM_OK, rm_counter_add(counter_of(crowded[i], value), 1));
}

TEST(metrics, threads_meet_at_the_bound) {
    static crew c;
    char name[16];
    const char *line;
    int round, i;
    for (round = 0; round < 10; ++round) {
        unsigned total = 0;
        c.metrics = create(NULL, FAMILIES, 2);
        for (i = 0; i < FAMILIES; ++i) {
            snprintf(name, sizeof name, "f%d", i);
            crowded[i] = add(c.metrics, RM_METRIC_COUNTER, name, "a");
        }
        crew_start(&c, crowd_run);
        crew_join(&c);
        CHECK_PAGE(render(c.metrics));
        CHECK_EQ(2 * FAMILIES, count_of(page, "{a=\""));
        CHECK_EQ(FAMILIES, count_of(page, "{overflow=\"true\"} 6\n"));
        for (line = strstr(page, "} "); line != NULL; line = strstr(line + 1, "} "))
            total += (unsigned)atoi(line + 2);
        CHECK_EQ(THREADS * FAMILIES, total);
        destroy(c.metrics);
    }
}

/* Registers a family and a resource of its own, renders, and takes the resource out. */
static void register_run(worker *w) {
    static int one = 1;
    sink *s = &w->sink;
    char name[16] = "", line[48], buffer[512];
    rm_resource resource = rm_resource_make(name, "k", &one);
    int i;
    resource.stats_fn = visit_one;
    snprintf(name, sizeof name, "t%u", (unsigned)rm_thread_number());
    snprintf(line, sizeof line, "one{resource=\"%s\"} 1\n", name);
    for (i = 0; i < 50; ++i) {
        rm_text text = rm_text_make(buffer, sizeof buffer);
        CHECK_EQ(RM_OK, rm_metrics_add_resource(w->crew->metrics, &resource, NULL));
        (void)add(w->crew->metrics, RM_METRIC_COUNTER, i % 2 == 0 ? "even" : name, "");
        s->size = 0;
        text.flush_fn = sink_write;
        text.user = s;
        CHECK_EQ(RM_OK, rm_metrics_render(w->crew->metrics, &text));
        CHECK(strstr(s->text, line) != NULL);
        CHECK_EQ(RM_OK, rm_metrics_remove_resource(w->crew->metrics, name));
    }
}

TEST(metrics, threads_register_and_render_at_a_time) {
    static crew c;
    int i;
    for (i = 0; i < 10; ++i) {
        c.metrics = create(NULL, 0, 0);
        crew_start(&c, register_run);
        crew_join(&c);
        CHECK_PAGE(render(c.metrics));
        CHECK_EQ(1 + THREADS + 3, count_of(page, "# TYPE "));
        destroy(c.metrics);
    }
}

TEST_MAIN

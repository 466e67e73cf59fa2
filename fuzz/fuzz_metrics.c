/* A registry of metrics, its page parsed back by the grammar of the Prometheus text format 0.0.4.

   The parser knows nothing of the model: it wants HELP, TYPE and samples that belong to them, valid
   escapes and UTF-8, no family and no series twice, histograms that add up.  What it found is then
   compared, sample by sample, with what the model expects. */
#define RM_IMPLEMENTATION
#include "rm_metrics.h"
#include "fuzz.h"

enum {
    FAMILIES = 4,
    SERIES = 6,
    VALUES = 48,
    STATS = 6,
    RESOURCES = 2,
    SAMPLES = 1024,
    PAGE = 1 << 18,
    KEY = 4096,
    LONGEST = 1024
};

/* >>page */

typedef struct sample {
    char name[160];
    char labels[KEY]; /* name, \1, value, \2 each; without le */
    char le[32];
    char value[32];
    double number; /* gauges are compared as numbers */
    bool is_number;
} sample;

static sample parsed[SAMPLES], expected[SAMPLES];
static int parsed_count, expected_count;
static char page[PAGE];

typedef struct reader {
    const char *at, *end;
    char family[160], type[16];
    char names[64][160]; /* of the families so far */
    int name_count;
    double bucket; /* the last bucket's bound and count */
    uint64_t count;
} reader;

static bool letter(char c, bool colon) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (colon && c == ':');
}

static void read_text(reader *r, const char *text) {
    CHECK((size_t)(r->end - r->at) >= strlen(text) && memcmp(r->at, text, strlen(text)) == 0);
    r->at += strlen(text);
}

static void read_name(reader *r, char *to, bool colon) {
    size_t size = 0;
    while (r->at < r->end &&
           (letter(*r->at, colon) || (size > 0 && *r->at >= '0' && *r->at <= '9'))) {
        to[size++] = *r->at++;
        CHECK(size < 159);
    }
    CHECK(size > 0);
    to[size] = '\0';
}

/* Up to `end`; in quotes a quote is escaped too. */
static void read_escaped(reader *r, char *to, char end) {
    size_t size = 0;
    while (r->at < r->end && *r->at != end) {
        char c = *r->at++;
        CHECK(c != '\n' && c != '\0');
        if (c == '\\') {
            c = *r->at++;
            CHECK(c == 'n' || c == '\\' || (end == '"' && c == '"'));
            if (c == 'n') c = '\n';
        }
        to[size++] = c;
        CHECK(size < KEY / 2);
    }
    to[size] = '\0';
}

static void read_head(reader *r) {
    static char help[KEY];
    char name[160];
    read_text(r, "# HELP ");
    read_name(r, r->family, true);
    read_text(r, " ");
    read_escaped(r, help, '\n');
    read_text(r, "\n# TYPE ");
    read_name(r, name, true);
    CHECK(strcmp(name, r->family) == 0);
    read_text(r, " ");
    read_name(r, r->type, false);
    read_text(r, "\n");
    CHECK(strcmp(r->type, "counter") == 0 || strcmp(r->type, "gauge") == 0 ||
          strcmp(r->type, "histogram") == 0);
    for (int i = 0; i < r->name_count; ++i)
        CHECK(strcmp(r->names[i], r->family) != 0); /* one TYPE a family */
    strcpy(r->names[r->name_count++], r->family);
    CHECK(r->name_count < 64);
    r->bucket = -1;
    r->count = 0;
}

static void read_labels(reader *r, sample *s) {
    size_t used = 0;
    read_text(r, "{");
    for (bool more = true; more; more = *r->at == ',' && r->at++) {
        char name[160];
        static char value[KEY];
        read_name(r, name, false);
        read_text(r, "=\"");
        read_escaped(r, value, '"');
        read_text(r, "\"");
        if (strcmp(name, "le") == 0 && strcmp(r->type, "histogram") == 0) {
            CHECK(s->le[0] == '\0');
            CHECK(strlen(value) > 0 && strlen(value) < sizeof s->le);
            strcpy(s->le, value);
        } else {
            CHECK(used + strlen(name) + strlen(value) + 3 < KEY);
            used += (size_t)snprintf(s->labels + used, KEY - used, "%s\1%s\2", name, value);
        }
    }
    read_text(r, "} ");
}

/* The name is the family's, or for a histogram has one of three suffixes; buckets add up. */
static void check_member(reader *r, const sample *s) {
    const size_t size = strlen(r->family);
    const char *suffix = s->name + size;
    CHECK(strncmp(s->name, r->family, size) == 0);
    if (strcmp(r->type, "histogram") != 0) {
        CHECK(*suffix == '\0' && s->le[0] == '\0');
        return;
    }
    if (strcmp(suffix, "_bucket") == 0) {
        const uint64_t count = strtoull(s->value, NULL, 10);
        CHECK(s->number > r->bucket && count >= r->count);
        r->bucket = s->number;
        r->count = count;
    } else if (strcmp(suffix, "_sum") == 0) {
        CHECK(strcmp("", s->le) == 0 && r->bucket > 1e300); /* +Inf came before it */
    } else {
        CHECK(strcmp(suffix, "_count") == 0 && strtoull(s->value, NULL, 10) == r->count);
        r->bucket = -1; /* the next series begins */
        r->count = 0;
    }
}

static void read_sample(reader *r) {
    sample *s = &parsed[parsed_count];
    size_t size = 0;
    char *end;
    s->le[0] = s->labels[0] = '\0';
    read_name(r, s->name, true);
    if (*r->at == '{')
        read_labels(r, s);
    else
        read_text(r, " ");
    while (r->at < r->end && *r->at != '\n') {
        s->value[size++] = *r->at++;
        CHECK(size < sizeof s->value);
    }
    s->value[size] = '\0';
    read_text(r, "\n");
    s->number = strtod(s->value, &end);
    CHECK(size > 0 && *end == '\0' && strchr(s->value, ' ') == NULL);
    if (s->le[0] != '\0') s->number = strtod(s->le, &end);
    check_member(r, s);
    for (int i = 0; i < parsed_count; ++i)
        CHECK(strcmp(parsed[i].name, s->name) != 0 || strcmp(parsed[i].le, s->le) != 0 ||
              strcmp(parsed[i].labels, s->labels) != 0);
    CHECK(++parsed_count < SAMPLES);
}

static void parse(size_t size) {
    static reader r;
    r.at = page;
    r.end = page + size;
    r.name_count = parsed_count = 0;
    for (size_t i = 0, length; i < size; i += length) {
        length = fuzz_character((unsigned char *)page + i, size - i);
        CHECK(length > 0);
    }
    page[size] = '\0';
    while (r.at < r.end) {
        if (*r.at == '#')
            read_head(&r);
        else
            read_sample(&r);
    }
}

/* >>model */

typedef struct series {
    char labels[1200]; /* as in a sample */
    uint64_t counter;
    double gauge;
    int64_t observed[VALUES];
    int observed_count;
    rm_counter c;
    rm_gauge g;
    rm_histogram h;
} series;

typedef struct family {
    const char *name;
    char help[24];
    rm_metric_type type;
    int labels, bounds; /* which of the sets below */
    rm_metrics_family *real;
    series series[SERIES + 1];  /* the last one to come may be that of the overflow */
    int series_count, overflow; /* overflow: its place, -1 = none */
} family;

typedef struct stat_model {
    rm_stat stat;
    char help[4], value[4];
} stat_model;

typedef struct resource {
    const char *name;
    stat_model stats[STATS];
    int count;
} resource;

static struct world {
    fuzz_input *in;
    fuzz_memory memory;
    rm_allocator allocator;
    rm_env env;
    rm_metrics *metrics;
    uint32_t max_families, max_series;
    family families[FAMILIES];
    int family_count;
    resource resources[RESOURCES];
    int resource_count;
    uint64_t dropped_series, dropped_samples, refused, forgotten;
    rm_hist hist;
    uint64_t bins[64];
    int64_t hist_values[VALUES];
    int hist_count;
} w;

static const char *const names[] = {
    "a",  "a_bucket", "a_sum", "a_count", "b:c", "_", "rm_metrics_dropped_series_total",
    "9a", "",         "a-b"};
static const struct {
    const char *names[3];
    uint32_t count;
    rm_status plain, histogram;
} label_sets[] = {{{NULL}, 0, RM_OK, RM_OK},
                  {{"l"}, 1, RM_OK, RM_OK},
                  {{"l", "m_1"}, 2, RM_OK, RM_OK},
                  {{"le"}, 1, RM_OK, RM_E_INVALID},
                  {{"l", "l"}, 2, RM_E_INVALID, RM_E_INVALID},
                  {{"__l"}, 1, RM_E_INVALID, RM_E_INVALID},
                  {{"overflow"}, 1, RM_E_INVALID, RM_E_INVALID},
                  {{"1"}, 1, RM_E_INVALID, RM_E_INVALID},
                  {{NULL}, 1, RM_E_INVALID, RM_E_INVALID}};
/* The first one asks for the default bounds and lists them. */
static const struct {
    int64_t bounds[12];
    uint32_t count, decimals;
    rm_status status;
} bound_sets[] = {{{5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000}, 11, 3, RM_OK},
                  {{1, 2, 5}, 3, 0, RM_OK},
                  {{10, 20, 1000000}, 3, 9, RM_OK},
                  {{0, 7}, 2, 18, RM_OK},
                  {{INT64_C(1000000000000000000)}, 1, 18, RM_OK},
                  {{5, 5}, 2, 0, RM_E_INVALID},
                  {{-1}, 1, 0, RM_E_INVALID},
                  {{1000, 1003}, 2, 0, RM_E_INVALID}, /* no edge */
                  {{1}, 1, 19, RM_E_INVALID}};
#define COUNT(array) ((uint32_t)(sizeof(array) / sizeof *(array)))

static void expect(const char *name, const char *suffix, const char *labels, const char *le) {
    sample *s = &expected[expected_count];
    CHECK(++expected_count < SAMPLES);
    snprintf(s->name, sizeof s->name, "%s%s", name, suffix);
    snprintf(s->labels, sizeof s->labels, "%s", labels);
    snprintf(s->le, sizeof s->le, "%s", le);
    s->is_number = false;
}

static char *expected_value(void) {
    return expected[expected_count - 1].value;
}

/* Every bucket is the number of values up to its bound. */
static void expect_histogram(const char *name, const char *labels, const int64_t *bounds,
                             uint32_t bound_count, uint32_t decimals, const int64_t *values,
                             int count) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i <= bound_count; ++i) {
        char le[32] = "+Inf";
        int below = 0;
        if (i < bound_count) fuzz_decimal(le, (uint64_t)bounds[i], decimals);
        for (int j = 0; j < count; ++j)
            below += i == bound_count || values[j] <= bounds[i];
        expect(name, "_bucket", labels, le);
        sprintf(expected_value(), "%d", below);
    }
    for (int j = 0; j < count; ++j)
        sum += (uint64_t)values[j];
    expect(name, "_sum", labels, "");
    fuzz_decimal(expected_value(), sum, decimals);
    expect(name, "_count", labels, "");
    sprintf(expected_value(), "%d", count);
}

static void expect_series(const family *f, const series *s) {
    if (f->type == RM_METRIC_HISTOGRAM) {
        expect_histogram(f->name, s->labels, bound_sets[f->bounds].bounds,
                         bound_sets[f->bounds].count, bound_sets[f->bounds].decimals, s->observed,
                         s->observed_count);
        return;
    }
    expect(f->name, "", s->labels, "");
    sprintf(expected_value(), "%" PRIu64, s->counter);
    if (f->type == RM_METRIC_GAUGE) {
        expected[expected_count - 1].is_number = true;
        expected[expected_count - 1].number = s->gauge;
    }
}

/* >>model of resources: which of their samples may be shown */

static bool name_good(const char *name, bool colon) {
    if (name == NULL || name[0] == '\0' || (name[0] >= '0' && name[0] <= '9')) return false;
    for (; *name != '\0'; ++name)
        if (!letter(*name, colon) && !(*name >= '0' && *name <= '9')) return false;
    return true;
}

/* Would samples of these two names collide? */
static bool collide(const char *a, bool a_histogram, const char *b, bool b_histogram) {
    static const char *const suffixes[] = {"", "_bucket", "_sum", "_count"};
    char one[300], two[300];
    for (int i = 0; i < (a_histogram ? 4 : 1); ++i) {
        for (int j = 0; j < (b_histogram ? 4 : 1); ++j) {
            if (i > 0 && j > 0) continue; /* the names are equal then */
            snprintf(one, sizeof one, "%s%s", a, suffixes[i]);
            snprintf(two, sizeof two, "%s%s", b, suffixes[j]);
            if (strcmp(one, two) == 0) return true;
        }
    }
    return false;
}

typedef struct shown {
    const char *name;
    bool histogram, refused;
} shown;

static bool name_refused(const rm_stat *stat, const char *name, const shown *before, int count) {
    const bool histogram = stat->type == RM_STAT_HISTOGRAM;
    bool bad = !name_good(name, true) || stat->help[0] == '\0' || stat->type > RM_STAT_HISTOGRAM;
    for (int i = 0; i < w.family_count; ++i)
        bad = bad || collide(name, histogram, w.families[i].name,
                             w.families[i].type == RM_METRIC_HISTOGRAM);
    for (int i = 0; i < count; ++i)
        bad = bad ||
              (!before[i].refused && collide(name, histogram, before[i].name, before[i].histogram));
    return bad || strcmp(name, names[6]) == 0; /* the registry's own */
}

static bool sample_good(const rm_stat *stat, rm_stat_type type) {
    const bool histogram = type == RM_STAT_HISTOGRAM;
    if (stat->type != type || stat->decimals > 18) return false;
    if (histogram && stat->hist == NULL) return false;
    if (type == RM_STAT_COUNTER && stat->value < 0) return false;
    if (stat->label == NULL) return true;
    return stat->label_value != NULL && strcmp(stat->label, "resource") != 0 &&
           name_good(stat->label, false) && strncmp(stat->label, "__", 2) != 0 &&
           !(histogram && strcmp(stat->label, "le") == 0);
}

static void expect_stat(const char *name, const rm_stat *stat, const char *labels) {
    static const int64_t bounds[] = {1, 2, 5, 10, 20, 50, 100};
    const uint64_t size = stat->value < 0 ? 0u - (uint64_t)stat->value : (uint64_t)stat->value;
    if (stat->type == RM_STAT_HISTOGRAM) {
        expect_histogram(name, labels, bounds, 7, stat->decimals, w.hist_values, w.hist_count);
        return;
    }
    expect(name, "", labels, "");
    if (stat->value < 0) strcpy(expected_value(), "-");
    fuzz_decimal(expected_value() + (stat->value < 0), size, stat->decimals);
}

/* All samples of one name, resource by resource; the first statistic of the name is the measure. */
static void expect_name(const char *name, const rm_stat *first, bool refused) {
    for (int i = 0; i < w.resource_count; ++i) {
        const int from = expected_count;
        for (int j = 0; j < w.resources[i].count; ++j) {
            const rm_stat *stat = &w.resources[i].stats[j].stat;
            char labels[128], value[16] = "";
            bool twice = false;
            if (strcmp(stat->name == NULL ? "" : stat->name, name) != 0) continue;
            if (stat->label_value != NULL)
                (void)fuzz_repair(value, stat->label_value, strlen(stat->label_value));
            snprintf(labels, sizeof labels, "resource\1%s\2%s%s%s%s", w.resources[i].name,
                     stat->label == NULL ? "" : stat->label, stat->label == NULL ? "" : "\1",
                     stat->label == NULL ? "" : value, stat->label == NULL ? "" : "\2");
            for (int k = from; k < expected_count; ++k)
                twice = twice || strcmp(expected[k].labels, labels) == 0;
            if (refused || !sample_good(stat, first->type) || twice)
                ++w.dropped_samples;
            else
                expect_stat(name, stat, labels);
        }
    }
}

static void expect_resources(void) {
    shown done[RESOURCES * STATS];
    int count = 0;
    for (int i = 0; i < w.resource_count; ++i) {
        for (int j = 0; j < w.resources[i].count; ++j) {
            const rm_stat *stat = &w.resources[i].stats[j].stat;
            const char *name = stat->name == NULL ? "" : stat->name;
            bool known = false;
            for (int k = 0; k < count; ++k)
                known = known || strcmp(done[k].name, name) == 0;
            if (known) continue;
            done[count].name = name;
            done[count].histogram = stat->type == RM_STAT_HISTOGRAM;
            done[count].refused = name_refused(stat, name, done, count);
            expect_name(name, stat, done[count].refused);
            ++count;
        }
    }
}

static void expect_own(const char *name, uint64_t value) {
    expect(name, "", "", "");
    sprintf(expected_value(), "%" PRIu64, value);
}

static void compare_page(size_t size) {
    parse(size);
    expected_count = 0;
    for (int i = 0; i < w.family_count; ++i)
        for (int j = 0; j < w.families[i].series_count; ++j)
            expect_series(&w.families[i], &w.families[i].series[j]);
    expect_resources();
    expect_own("rm_metrics_dropped_series_total", w.dropped_series);
    expect_own("rm_metrics_dropped_samples_total", w.dropped_samples);
    expect_own("rm_metrics_refused_values_total", w.refused);
    CHECK_EQ(expected_count, parsed_count);
    for (int i = 0; i < parsed_count; ++i) {
        const sample *e = &expected[i], *p = &parsed[i];
        CHECK(strcmp(e->name, p->name) == 0);
        CHECK(strcmp(e->labels, p->labels) == 0);
        CHECK(strcmp(e->le, p->le) == 0);
        if (e->is_number)
            CHECK(e->number == p->number || (e->number != e->number && p->number != p->number));
        else
            CHECK(strcmp(e->value, p->value) == 0);
    }
}

/* >>operations */

/* Lets one of the next allocations fail, or none. */
static void fail_next(void) {
    const uint32_t next = fuzz_below(w.in, 16);
    w.memory.refused = 0;
    w.memory.fail = next == 1 || next == 2 ? w.memory.calls + next : 0;
}

static bool same(const family *f, const rm_metric_desc *d, int labels, int bounds) {
    return f->type == d->type && strcmp(f->help, d->help) == 0 && f->labels == labels &&
           (f->type != RM_METRIC_HISTOGRAM || f->bounds == bounds);
}

static rm_status model_add(const rm_metric_desc *d, int labels, int bounds) {
    const bool histogram = d->type == RM_METRIC_HISTOGRAM;
    rm_status status;
    if (!name_good(d->name, true) || d->help[0] == '\0' || d->type > RM_METRIC_HISTOGRAM)
        return RM_E_INVALID;
    status = histogram ? label_sets[labels].histogram : label_sets[labels].plain;
    if (status != RM_OK || (histogram && bound_sets[bounds].decimals > 18)) return RM_E_INVALID;
    for (int i = 0; i < w.family_count; ++i) {
        const family *f = &w.families[i];
        if (strcmp(f->name, d->name) == 0) return same(f, d, labels, bounds) ? RM_OK : RM_E_EXISTS;
        if (collide(d->name, histogram, f->name, f->type == RM_METRIC_HISTOGRAM))
            return RM_E_EXISTS;
    }
    if (strcmp(d->name, names[6]) == 0) return RM_E_EXISTS; /* with another help */
    if (w.family_count == (int)w.max_families) return RM_E_FULL;
    return histogram ? bound_sets[bounds].status : RM_OK;
}

static void do_add(void) {
    const int name = (int)fuzz_below(w.in, COUNT(names));
    const int labels = (int)fuzz_below(w.in, COUNT(label_sets));
    const int bounds = (int)fuzz_below(w.in, COUNT(bound_sets));
    rm_metrics_family *real = NULL;
    rm_error error = {0, RM_OK, "", ""};
    char help[8];
    rm_metric_desc d;
    rm_status status;
    family *f = w.families;
    fuzz_string(w.in, help, 8);
    d = rm_metrics_describe((rm_metric_type)fuzz_below(w.in, 4), names[name], help);
    d.labels = label_sets[labels].names;
    d.label_count = label_sets[labels].count;
    if (d.type == RM_METRIC_HISTOGRAM) {
        d.decimals = bound_sets[bounds].decimals;
        d.bounds = bounds == 0 ? NULL : bound_sets[bounds].bounds;
        d.bound_count = bounds == 0 ? 0 : bound_sets[bounds].count;
    }
    fail_next();
    status = rm_metrics_add(w.metrics, &d, &real, &error);
    w.memory.fail = 0;
    CHECK_EQ(w.memory.refused > 0 ? RM_E_NOMEM : model_add(&d, labels, bounds), status);
    CHECK_EQ(status, error.status);
    if (status != RM_OK) return;
    while (f < w.families + w.family_count && f->real != real)
        ++f;
    if (f < w.families + w.family_count) {
        CHECK(strcmp(f->name, d.name) == 0);
        return;
    }
    ++w.family_count;
    memset(f, 0, sizeof *f);
    f->name = names[name];
    strcpy(f->help, help);
    f->type = d.type;
    f->labels = labels;
    f->bounds = bounds;
    f->real = real;
    f->overflow = -1;
    f->series_count = d.label_count == 0 ? 1 : 0;
}

/* The place of a series, made if it has to be; what does not fit goes to that of the overflow. */
static series *model_series(family *f, const char *labels, size_t key) {
    const int made = f->series_count - (f->overflow >= 0);
    for (int i = 0; key <= 1024 && i < f->series_count; ++i)
        if (i != f->overflow && strcmp(f->series[i].labels, labels) == 0) return &f->series[i];
    if (key > 1024 || made == (int)w.max_series) {
        ++w.dropped_series;
        labels = "overflow\1true\2";
        if (f->overflow >= 0) return &f->series[f->overflow];
        f->overflow = f->series_count;
    }
    strcpy(f->series[f->series_count].labels, labels);
    return &f->series[f->series_count++];
}

static rm_status with(const family *f, const char *const *values, uint32_t count, series *out) {
    if (f->type == RM_METRIC_COUNTER) return rm_counter_with(f->real, values, count, &out->c, NULL);
    if (f->type == RM_METRIC_GAUGE) return rm_gauge_with(f->real, values, count, &out->g, NULL);
    return rm_histogram_with(f->real, values, count, &out->h, NULL);
}

/* A label value; some are long: several times the same. */
static void pick_value(char *to) {
    char piece[6];
    int times = fuzz_below(w.in, 8) == 1 ? 2 * (int)fuzz_byte(w.in) : 1;
    fuzz_string(w.in, piece, 6);
    *to = '\0';
    while (times-- > 0 && strlen(to) < 1020)
        strcat(to, piece);
}

static series *find_series(family *f) {
    static char texts[2][KEY], fixed[3 * KEY], labels[2 * KEY];
    static series handles;
    const char *const values[] = {texts[0], texts[1]};
    const uint32_t count = label_sets[f->labels].count;
    size_t key = 0, used = 0;
    rm_status status;
    series *s;
    labels[0] = '\0';
    for (uint32_t i = 0; i < count; ++i) {
        pick_value(texts[i]);
        key += fuzz_repair(fixed, texts[i], strlen(texts[i])) + 1;
        used += (size_t)snprintf(labels + used, sizeof labels - used, "%s\1%s\2",
                                 label_sets[f->labels].names[i], fixed);
    }
    memset(&handles, 0, sizeof handles);
    CHECK_EQ(RM_E_INVALID, with(f, values, count + 1, &handles));
    fail_next();
    status = with(f, count == 0 ? NULL : values, count, &handles);
    w.memory.fail = 0;
    CHECK_EQ(w.memory.refused > 0 ? RM_E_NOMEM : RM_OK, status);
    if (status != RM_OK) return NULL; /* as if it had not been asked for */
    s = count == 0 ? &f->series[0] : model_series(f, labels, key);
    s->c = handles.c;
    s->g = handles.g;
    s->h = handles.h;
    return s;
}

static double pick_double(void) {
    uint64_t bits = 0;
    double number;
    for (int i = 0; i < 8; ++i)
        bits = bits << 8 | fuzz_byte(w.in);
    memcpy(&number, &bits, sizeof number);
    return fuzz_below(w.in, 2) ? number : (double)(int64_t)bits / 1000;
}

static int64_t pick_int(void) {
    return FUZZ_CHOOSE(w.in, 0, 1, 2, 7, 10, 21, 1000, 10000, 10001, INT64_MAX, -1, INT64_MIN, 5);
}

static void do_count(void) {
    family *f = &w.families[fuzz_below(w.in, FAMILIES)];
    series *s;
    uint64_t counter;
    double gauge;
    if (f >= w.families + w.family_count) return;
    s = find_series(f);
    if (s == NULL) return;
    if (f->type == RM_METRIC_COUNTER) {
        const uint64_t n = (uint64_t)pick_int();
        CHECK_EQ(RM_OK, rm_counter_add(s->c, n));
        s->counter += n;
        CHECK(rm_counter_value(s->c, &counter) == RM_OK && counter == s->counter);
    } else if (f->type == RM_METRIC_GAUGE) {
        const double number = pick_double();
        const bool set = fuzz_below(w.in, 2) == 0;
        CHECK_EQ(RM_OK, set ? rm_gauge_set(s->g, number) : rm_gauge_add(s->g, number));
        s->gauge = set ? number : s->gauge + number;
        CHECK(rm_gauge_value(s->g, &gauge) == RM_OK);
        CHECK(gauge == s->gauge || (gauge != gauge && s->gauge != s->gauge));
    } else {
        const int64_t value = pick_int();
        if (s->observed_count == VALUES) return;
        CHECK_EQ(value < 0 ? RM_E_INVALID : RM_OK, rm_histogram_observe(s->h, value));
        w.refused += value < 0;
        if (value >= 0) s->observed[s->observed_count++] = value;
    }
}

static void stats_fn(void *user, rm_stat_fn visit, void *visit_user) {
    const resource *r = (const resource *)user;
    for (int i = 0; i < r->count; ++i)
        visit(&r->stats[i].stat, visit_user);
}

static void do_resource(void) {
    static const char *const labels[] = {NULL, "state", "le", "resource", "__s", "2"};
    resource *r = &w.resources[w.resource_count];
    rm_resource real = rm_resource_make(w.resource_count == 0 ? "pool" : "q\"\\\n", NULL, r);
    if (w.resource_count == RESOURCES) return;
    real.stats_fn = stats_fn;
    r->name = real.name;
    r->count = (int)fuzz_below(w.in, STATS + 1);
    for (int i = 0; i < r->count; ++i) {
        stat_model *s = &r->stats[i];
        const uint32_t byte = fuzz_byte(w.in), kind = fuzz_byte(w.in);
        memset(s, 0, sizeof *s);
        s->stat.name = byte % 16 < COUNT(names) ? names[byte % 16] : "c";
        fuzz_string(w.in, s->help, 3);
        s->stat.help = s->help;
        fuzz_string(w.in, s->value, 4);
        s->stat.label = labels[byte / 16 % COUNT(labels)];
        s->stat.label_value = kind / 4 % 8 == 1 ? NULL : s->value;
        s->stat.type = (rm_stat_type)(kind % 4);
        s->stat.value = pick_int();
        s->stat.decimals = (uint32_t)FUZZ_CHOOSE(w.in, 0, 3, 18, 19);
        s->stat.hist = kind < 128 ? &w.hist : NULL;
    }
    CHECK_EQ(RM_OK, rm_metrics_add_resource(w.metrics, &real, NULL));
    CHECK_EQ(RM_E_EXISTS, rm_metrics_add_resource(w.metrics, &real, NULL));
    ++w.resource_count;
}

static void do_remove(void) {
    const int last = w.resource_count - 1;
    CHECK_EQ(RM_E_NOT_FOUND, rm_metrics_remove_resource(w.metrics, "nobody"));
    if (last < 0) return;
    CHECK_EQ(RM_OK, rm_metrics_remove_resource(w.metrics, w.resources[last].name));
    --w.resource_count;
}

/* The child starts at zero; gauges stay, resources go. */
static void do_fork(void) {
    CHECK_EQ(RM_OK, rm_metrics_after_fork_child(w.metrics));
    for (int i = 0; i < w.family_count; ++i) {
        for (int j = 0; j < w.families[i].series_count; ++j) {
            w.families[i].series[j].counter = 0;
            w.families[i].series[j].observed_count = 0;
        }
    }
    w.forgotten += (uint64_t)w.resource_count;
    w.resource_count = 0;
    w.dropped_series = w.dropped_samples = w.refused = 0;
}

typedef struct sink {
    size_t size, stop; /* stop: it takes no more than so much */
} sink;

static bool flush_fn(const char *data, size_t size, void *user) {
    sink *to = (sink *)user;
    CHECK(size > 0 && to->size + size < PAGE);
    memcpy(page + to->size, data, size);
    to->size += size;
    return to->size <= to->stop;
}

static size_t render(size_t size, size_t stop, rm_status *status) {
    char *buffer = (char *)malloc(size + 1); /* exact: a byte more is found */
    sink to = {0, stop};
    rm_text text;
    CHECK(buffer != NULL);
    text = rm_text_make(buffer, size);
    text.flush_fn = stop > 0 ? flush_fn : NULL;
    text.user = &to;
    *status = rm_metrics_render(w.metrics, &text);
    if (stop == 0) memcpy(page, buffer, to.size = text.used);
    free(buffer);
    return to.size;
}

/* A whole page, through a buffer of any size; then one that does not fit. */
static void do_render(void) {
    rm_status status;
    const size_t size = render(1 + fuzz_byte(w.in), PAGE, &status), less = fuzz_byte(w.in);
    CHECK_EQ(RM_OK, status);
    compare_page(size);
    if (less == 0 || w.dropped_samples > 0) return; /* a part of a page counts a part of those */
    CHECK(less >= size || render(size - less, 0, &status) <= size - less);
    CHECK_EQ(less >= size ? RM_OK : RM_E_TOO_LARGE, status);
    if (less >= size) return;
    (void)render(32, size - less, &status);
    CHECK_EQ(RM_E_FAILED, status);
    CHECK_EQ(size, render(size, 0, &status));
    CHECK_EQ(RM_OK, status);
    compare_page(size);
}

static void step(void) {
    const uint32_t byte = fuzz_byte(w.in);
    switch (byte % 16) {
    case 0:
    case 1:
    case 2:
    case 3: do_add(); break;
    case 4: do_render(); break;
    case 5: do_resource(); break;
    case 6: do_remove(); break;
    case 7:
        if (byte > 240) do_fork();
        break;
    default: do_count(); break;
    }
}

static void describe(fuzz_input *in) {
    const rm_hist_desc bins = {0, 2, 16};
    rm_metrics_desc d;
    memset(&w, 0, sizeof w);
    w.in = in;
    w.allocator = fuzz_memory_make(&w.memory);
    w.env.allocator = &w.allocator;
    memset(&d, 0, sizeof d);
    d.env = &w.env;
    d.max_families = w.max_families = 1 + fuzz_below(in, FAMILIES);
    d.max_series = w.max_series = 1 + fuzz_below(in, SERIES);
    CHECK_EQ(RM_OK, rm_hist_init(&w.hist, &bins, w.bins, sizeof w.bins));
    for (w.hist_count = (int)fuzz_below(in, 4); w.hist_count > 0 && fuzz_more(in);) {
        const int64_t value = fuzz_byte(in);
        const int at = (int)w.hist.count;
        w.hist_values[at] = value;
        CHECK_EQ(RM_OK, rm_hist_record(&w.hist, value));
        if (at + 1 == w.hist_count) break;
    }
    w.hist_count = (int)w.hist.count;
    CHECK_EQ(RM_OK, rm_metrics_create(&d, &w.metrics, NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_input in = {data, data + size};
    if (size > LONGEST) return 0;
    describe(&in);
    while (fuzz_more(&in))
        step();
    do_render();
    CHECK_EQ(RM_OK, rm_metrics_destroy(w.metrics));
    CHECK_EQ(w.forgotten, w.memory.blocks); /* the resources of a parent */
    fuzz_memory_drop(&w.memory);
    return 0;
}

/* Schedules of rm_metrics.h. */
#define RM_IMPLEMENTATION
#include "rm_metrics.h"

#include "dst.h"
#include "queue.h"

#include <stdlib.h>

/* Relaxed, so that the test's own books order nothing for the code under test. */
#define GET(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define PUT(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define COUNT(p) __atomic_add_fetch((p), 1, __ATOMIC_RELAXED)

static rm_metrics *metrics;
static rm_metrics_family *family;

/* A call that sleeps for the end of visits, of which there are none. */
static const char *overslept(void *user) {
    const rm_waiter *waiter;
    (void)user;
    for (waiter = metrics->queue.head; waiter != NULL; waiter = waiter->next) {
        const struct rmi_metrics_resource *resource =
            (const struct rmi_metrics_resource *)waiter->request;
        if (resource->visits == NULL) return "a removal sleeps, and no render is inside";
    }
    return queue_wrong(&metrics->queue);
}

/* A registry whose own help texts are short: each of their bytes would be a point. */
static void begin(uint32_t max_families, uint32_t max_series) {
    rm_metrics_desc desc = {NULL, max_families, max_series};
    uint32_t i;
    DST_CHECK(rm_metrics_create(&desc, &metrics, NULL) == RM_OK);
    for (i = 0; i < RMI_METRICS_OWN; ++i)
        metrics->families[i]->help[1] = '\0';
    dst_when_idle(overslept, NULL);
}

static rm_metrics_family *add(rm_metric_type type, const char *name, const char *label) {
    rm_metric_desc desc = rm_metrics_describe(type, name, "h");
    static const int64_t bounds[] = {1, 5};
    rm_metrics_family *made = NULL;
    desc.labels = &label;
    desc.label_count = label == NULL ? 0 : 1;
    if (type == RM_METRIC_HISTOGRAM) {
        desc.bounds = bounds;
        desc.bound_count = 2;
    }
    DST_CHECK(rm_metrics_add(metrics, &desc, &made, NULL) == RM_OK && made != NULL);
    return made;
}

/* The list and the table of a family hold the same series, each once. */
static void check_family(void) {
    struct rmi_metrics_series *series =
        RMI_METRICS_POINTER(struct rmi_metrics_series, family->first);
    uint32_t count = 0, overflow = 0;
    for (; series != NULL; series = RMI_METRICS_POINTER(struct rmi_metrics_series, series->next)) {
        DST_CHECK(series->next != 0 || family->last == series);
        if (series == family->fixed) {
            ++overflow;
            continue;
        }
        ++count;
        DST_CHECK(rmi_metrics_find(family, series->key, series->key_size, series->hash) == series);
    }
    DST_CHECK(count == family->count && overflow == family->overflowed);
}

static void finish(void) {
    if (family != NULL && family->label_count > 0) check_family();
    DST_CHECK(metrics->renders == 0);
    DST_CHECK(rm_metrics_destroy(metrics) == RM_OK);
}

/* ---- series */

enum { KEYS = 8 };
static uint64_t handles[KEYS]; /* what a key was found to be first */
static uint64_t added[KEYS], overflowed;

/* A key is one series, whoever asks, and whenever. */
static rm_counter look_up(int key) {
    static const char *const names[KEYS] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    rm_counter counter = {NULL};
    uint64_t first;
    DST_CHECK(rm_counter_with(family, &names[key], 1, &counter, NULL) == RM_OK);
    DST_CHECK(counter.series == family->fixed || counter.series->key[0] == names[key][0]);
    if (counter.series == family->fixed) COUNT(&overflowed);
    first = GET(&handles[key]);
    if (first == 0)
        PUT(&handles[key], RMI_METRICS_WORD(counter.series));
    else
        DST_CHECK(first == RMI_METRICS_WORD(counter.series));
    return counter;
}

static void count_in(int key) {
    DST_CHECK(rm_counter_add(look_up(key), 1) == RM_OK);
    COUNT(&added[key]);
}

static uint64_t value_of(rm_counter counter) {
    uint64_t value = 0;
    DST_CHECK(rm_counter_value(counter, &value) == RM_OK);
    return value;
}

static void count_in_two(int index) {
    count_in(0);
    count_in(index % 2);
}

DST(metrics, one_series_for_all_who_make_it) {
    void (*const threads[])(int) = {count_in_two, count_in_two, count_in_two};
    begin(1, 4);
    family = add(RM_METRIC_COUNTER, "m", "k");
    dst_go(3, threads);
    DST_CHECK(family->count == 2);
    DST_CHECK(value_of(look_up(0)) == 5 && value_of(look_up(1)) == 1 && added[0] == 5);
    finish();
}

static void count_in_new_and_old(int index) {
    count_in(index); /* there is one already, in the table that is outgrown */
    count_in(3 + index);
    count_in(3);
}

DST(metrics, series_are_found_while_the_table_grows) {
    void (*const threads[])(int) = {count_in_new_and_old, count_in_new_and_old};
    int key;
    begin(1, 100);
    family = add(RM_METRIC_COUNTER, "m", "k");
    for (key = 0; key < 3; ++key)
        (void)look_up(key);
    (void)look_up(7);
    dst_go(2, threads);
    DST_CHECK(family->count == 6);
    for (key = 0; key < KEYS; ++key) {
        if (handles[key] != 0) DST_CHECK(value_of(look_up(key)) == added[key]);
    }
    finish();
}

static void count_beyond(int index) {
    count_in(index);
    count_in((index + 1) % 3);
}

DST(metrics, totals_are_right_beyond_the_last_series) {
    void (*const threads[])(int) = {count_beyond, count_beyond, count_beyond};
    rm_counter overflow;
    uint64_t in_series = 0;
    int key;
    begin(1, 2);
    family = add(RM_METRIC_COUNTER, "m", "k");
    dst_go(3, threads);
    DST_CHECK(family->count == 2 && family->overflowed == 1 && overflowed == 2);
    DST_CHECK(value_of(metrics->dropped_series) == overflowed);
    for (key = 0; key < 3; ++key) {
        const rm_counter counter = look_up(key);
        if (counter.series != family->fixed) in_series += value_of(counter);
    }
    overflow.series = family->fixed;
    DST_CHECK(in_series == 4 && value_of(overflow) == 2);
    finish();
}

/* ---- values */

static rm_counter counter;
static rm_gauge gauge;

static void add_both(int index) {
    int i;
    (void)index;
    for (i = 0; i < 3; ++i) {
        const uint64_t before = value_of(counter);
        DST_CHECK(rm_counter_add(counter, 2) == RM_OK);
        DST_CHECK(value_of(counter) >= before + 2);
        DST_CHECK(rm_gauge_add(gauge, i == 1 ? -0.5 : 1) == RM_OK);
    }
}

DST(metrics, no_addition_is_lost) {
    void (*const threads[])(int) = {add_both, add_both, add_both};
    double value = 0;
    begin(2, 0);
    DST_CHECK(rm_counter_with(add(RM_METRIC_COUNTER, "m", NULL), NULL, 0, &counter, NULL) == RM_OK);
    DST_CHECK(rm_gauge_with(add(RM_METRIC_GAUGE, "g", NULL), NULL, 0, &gauge, NULL) == RM_OK);
    dst_go(3, threads);
    DST_CHECK(value_of(counter) == 18);
    DST_CHECK(rm_gauge_value(gauge, &value) == RM_OK && value == 4.5);
    finish();
}

/* ---- pages */

enum { PAGE = 2000 };

static rm_status render(char *page) {
    rm_text text = rm_text_make(page, PAGE - 1);
    const rm_status status = rm_metrics_render(metrics, &text);
    page[text.used] = '\0';
    return status;
}

/* The number behind the text that a line begins with. */
static uint64_t number_in(const char *page, const char *begins) {
    const char *line = strstr(page, begins);
    DST_CHECK(line != NULL);
    return strtoull(line + strlen(begins), NULL, 10);
}

/* The values of the test are 1 and 8: what a page says of them must agree in itself. */
static uint64_t check_histogram(const char *page) {
    const uint64_t one = number_in(page, "t_bucket{le=\"1\"} ");
    const uint64_t all = number_in(page, "t_bucket{le=\"+Inf\"} ");
    DST_CHECK(number_in(page, "t_bucket{le=\"5\"} ") == one && one <= all);
    DST_CHECK(number_in(page, "t_count ") == all);
    DST_CHECK(number_in(page, "t_sum ") == one + 8 * (all - one));
    return all;
}

static rm_histogram histogram;

static void observe(int index) {
    int i;
    /* some threads share a stripe, and some do not */
    (void)__atomic_fetch_add(&rmi_thread_numbers, dst_choose(4), __ATOMIC_RELAXED);
    for (i = 0; i < 2; ++i)
        DST_CHECK(rm_histogram_observe(histogram, (index + i) % 2 == 0 ? 1 : 8) == RM_OK);
}

static void render_histogram(int index) {
    char page[PAGE];
    (void)index;
    DST_CHECK(render(page) == RM_OK);
    DST_CHECK(check_histogram(page) <= 4);
}

DST(metrics, a_histogram_agrees_in_itself_whoever_observes) {
    void (*const threads[])(int) = {observe, render_histogram, observe};
    char page[PAGE];
    begin(1, 0);
    family = add(RM_METRIC_HISTOGRAM, "t", NULL);
    DST_CHECK(rm_histogram_with(family, NULL, 0, &histogram, NULL) == RM_OK);
    dst_go(3, threads);
    DST_CHECK(render(page) == RM_OK && check_histogram(page) == 4);
    finish();
}

/* The same for all who add it, and taken for those who want another one. */
static rm_metrics_family *add_one(void) {
    static rm_metrics_family *first;
    const rm_metric_desc other = rm_metrics_describe(RM_METRIC_GAUGE, "m", "h");
    rm_metrics_family *made = add(RM_METRIC_COUNTER, "m", "k"), *none = NULL;
    if (GET(&first) == NULL) PUT(&first, made);
    DST_CHECK(made == GET(&first));
    DST_CHECK(rm_metrics_add(metrics, &other, &none, NULL) == RM_E_EXISTS && none == NULL);
    return made;
}

static void add_family(int index) {
    (void)index;
    (void)add_one();
}

static void count_in_family(int index) {
    (void)index;
    family = add_one();
    count_in(1);
    count_in(2);
}

/* A family and its series are on a page as a whole, or not at all. */
static void check_page(const char *page) {
    const char *head = strstr(page, "# HELP m h"), *line = strstr(page, "m{k=");
    if (head == NULL)
        DST_CHECK(line == NULL);
    else
        DST_CHECK(strncmp(head + 10, "\n# TYPE m counter\n", 18) == 0);
    if (line != NULL) {
        DST_CHECK(line == head + 28 && number_in(line, "m{k=\"b\"} ") <= 1);
        line = strstr(line + 1, "m{k=");
        if (line != NULL) DST_CHECK(number_in(line, "m{k=\"c\"} ") <= 1);
    }
    DST_CHECK(strstr(page, "rm_metrics_refused_values_total 0\n") != NULL);
}

static void render_families(int index) {
    char page[PAGE];
    (void)index;
    DST_CHECK(render(page) == RM_OK);
    check_page(page);
}

DST(metrics, a_family_is_added_beside_a_page) {
    void (*const threads[])(int) = {add_family, render_families, count_in_family};
    char page[PAGE];
    begin(1, 0);
    dst_go(3, threads);
    DST_CHECK(metrics->family_count == RMI_METRICS_OWN + 1);
    DST_CHECK(render(page) == RM_OK && number_in(page, "m{k=\"b\"} ") == 1);
    finish();
}

/* ---- resources */

static int alive;      /* plain: a visit that runs beside or after the removal is a race */
static int inside = 1; /* which status rm_metrics_remove_resource may have from inside */

static void show(void *user, rm_stat_fn visit, void *to) {
    rm_stat stat;
    memset(&stat, 0, sizeof stat);
    stat.name = "x";
    stat.help = "h";
    stat.type = RM_STAT_GAUGE;
    stat.value = 5;
    DST_CHECK(*(int *)user == 1);
    visit(&stat, to);
    DST_CHECK(*(int *)user == 1);
    DST_CHECK(rm_metrics_destroy(metrics) == RM_E_BUSY);
}

static void add_thing(const char *name, int *life) {
    rm_resource resource = rm_resource_make(name, "thing", life);
    resource.stats_fn = show;
    DST_CHECK(rm_metrics_add_resource(metrics, &resource, NULL) == RM_OK);
}

static void remove_thing(int index) {
    const rm_status status = rm_metrics_remove_resource(metrics, "r");
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_NOT_FOUND);
    if (status == RM_OK) {
        DST_CHECK(alive == 1);
        alive = 0;
    }
}

static void render_things(int index) {
    char page[PAGE];
    const char *line;
    (void)index;
    DST_CHECK(render(page) == RM_OK);
    line = strstr(page, "x{resource=\"");
    DST_CHECK(line == NULL || strncmp(line + 13, "\"} 5\n", 5) == 0);
    DST_CHECK((line != NULL) == (strstr(page, "# TYPE x gauge\n") != NULL));
    DST_CHECK(line == NULL || strstr(page, "# TYPE x counter\n") == NULL);
}

DST(metrics, a_resource_is_removed_beside_its_visits) {
    void (*const threads[])(int) = {render_things, remove_thing, render_things, remove_thing};
    begin(1, 0);
    alive = 1;
    add_thing("r", &alive);
    dst_go(4, threads);
    DST_CHECK(alive == 0 && metrics->resources == NULL);
    finish();
}

static int other_alive;

static void add_and_remove_other(int index) {
    (void)index;
    other_alive = 1;
    add_thing("s", &other_alive);
    DST_CHECK(rm_metrics_remove_resource(metrics, "s") == RM_OK);
    other_alive = 0;
}

/* A family with the name of their statistic: one of the two is on a page, never both. */
static void add_same_name(int index) {
    (void)index;
    (void)add(RM_METRIC_COUNTER, "x", NULL);
}

DST(metrics, a_family_takes_the_name_of_a_statistic) {
    void (*const threads[])(int) = {render_things, add_same_name};
    begin(1, 0);
    alive = 1;
    add_thing("r", &alive);
    dst_go(2, threads);
    render_things(0);
    DST_CHECK(value_of(metrics->dropped_samples) >= 1);
    finish();
}

DST(metrics, resources_come_and_go_beside_a_page) {
    void (*const threads[])(int) = {render_things, add_and_remove_other, remove_thing};
    begin(1, 0);
    alive = 1;
    add_thing("r", &alive);
    dst_go(3, threads);
    DST_CHECK(metrics->resources == NULL);
    finish();
}

static void add_same_resource(int index) {
    static int added_once;
    rm_resource resource = rm_resource_make("r", "thing", &alive);
    const rm_status status = rm_metrics_add_resource(metrics, &resource, NULL);
    (void)index;
    DST_CHECK(status == RM_E_EXISTS || (status == RM_OK && COUNT(&added_once) == 1));
}

DST(metrics, one_of_two_resources_has_the_name) {
    void (*const threads[])(int) = {add_same_resource, add_same_resource};
    begin(1, 0);
    dst_go(2, threads);
    DST_CHECK(metrics->resources != NULL && metrics->resources->next == NULL);
    finish();
}

/* From inside it cannot wait for itself; but another thread may be removing it meanwhile. */
static void show_and_remove(void *user, rm_stat_fn visit, void *to) {
    const rm_status status = rm_metrics_remove_resource(metrics, "r");
    DST_CHECK(status == RM_E_DEADLOCK || (status == RM_E_NOT_FOUND && inside == 2));
    show(user, visit, to);
}

DST(metrics, a_resource_cannot_remove_itself) {
    const bool removes = dst_choose(2) == 0;
    void (*const threads[])(int) = {render_things, removes ? remove_thing : render_things};
    rm_resource resource = rm_resource_make("r", "thing", &alive);
    begin(1, 0);
    alive = 1;
    inside = removes ? 2 : 1;
    resource.stats_fn = show_and_remove;
    DST_CHECK(rm_metrics_add_resource(metrics, &resource, NULL) == RM_OK);
    dst_go(2, threads);
    DST_CHECK(alive == (removes ? 0 : 1));
    finish();
}

/* ---- destroy */

static int rendering;

static void show_that_it_renders(void *user, rm_stat_fn visit, void *to) {
    (void)user, (void)visit, (void)to;
    PUT(&rendering, 1);
}

static void render_last(int index) {
    char page[PAGE];
    (void)index;
    DST_CHECK(render(page) == RM_OK);
}

static void destroy_once_it_has_rendered(int index) {
    (void)index;
    while (!GET(&rendering))
        DST_CHECK(rm_sleep(NULL, RM_US(1), NULL) == RM_OK);
    while (rm_metrics_destroy(metrics) == RM_E_BUSY)
        DST_CHECK(rm_sleep(NULL, RM_US(1), NULL) == RM_OK);
}

DST(metrics, destroy_is_busy_until_the_last_page_is_done) {
    void (*const threads[])(int) = {render_last, destroy_once_it_has_rendered};
    rm_resource resource = rm_resource_make("r", "thing", NULL);
    resource.stats_fn = show_that_it_renders;
    begin(1, 0);
    DST_CHECK(rm_metrics_add_resource(metrics, &resource, NULL) == RM_OK);
    dst_when_idle(NULL, NULL); /* the registry goes before the threads do */
    dst_go(2, threads);
}

/* ---- torture */

static bool flush(const char *data, size_t size, void *user) {
    (void)data, (void)size, (void)user;
    return !dst_fault("flush_fn");
}

/* What went wrong, if anything did, is a failure that was injected. */
static bool held(rm_status status) {
    DST_CHECK(status == RM_OK || dst_faults() > 0);
    return status == RM_OK;
}

static void render_under_torture(int index) {
    char buffer[64];
    rm_text text = rm_text_make(buffer, sizeof buffer);
    (void)index;
    text.flush_fn = flush;
    (void)held(rm_metrics_render(metrics, &text));
}

/* The removal comes during a visit, unless the page has failed before that. */
static void show_slowly(void *user, rm_stat_fn visit, void *to) {
    PUT(&rendering, 1);
    (void)rm_sleep(NULL, RM_US(2), NULL);
    show(user, visit, to);
}

static void remove_under_torture(int index) {
    rm_status status;
    int i;
    (void)index;
    for (i = 0; i < 9 && !GET(&rendering); ++i)
        (void)rm_sleep(NULL, RM_US(1), NULL);
    status = rm_metrics_remove_resource(metrics, "r");
    if (status == RM_E_SYSTEM) { /* no condition variable to wait with: it is as it was */
        DST_CHECK(dst_faults() > 0);
        while (status == RM_E_SYSTEM) {
            dst_pass(RM_MS(1));
            status = rm_metrics_remove_resource(metrics, "r");
        }
    }
    DST_CHECK(status == RM_OK);
    alive = 0;
}

static rm_metrics_family *add_under_torture(rm_metric_type type, const char *name,
                                            const char *label) {
    rm_metric_desc desc = rm_metrics_describe(type, name, "h");
    rm_metrics_family *made = NULL;
    desc.decimals = type == RM_METRIC_HISTOGRAM ? 9 : 0;
    desc.labels = &label;
    desc.label_count = 1;
    if (!held(rm_metrics_add(metrics, &desc, &made, NULL))) DST_CHECK(made == NULL);
    return made;
}

DST_TORTURE(metrics, survives_every_failure_of_its_life) {
    void (*const threads[])(int) = {render_under_torture, remove_under_torture};
    static const char *const values[] = {"a", "b", "c", "d", "e", "f"};
    rm_resource resource = rm_resource_make("r", "thing", &alive);
    rm_metrics_family *times;
    rm_histogram time = {NULL};
    bool has_resource;
    int i;
    if (!held(rm_metrics_create(NULL, &metrics, NULL))) {
        DST_CHECK(metrics == NULL);
        return;
    }
    dst_when_idle(overslept, NULL);
    family = add_under_torture(RM_METRIC_COUNTER, "m", "k");
    times = add_under_torture(RM_METRIC_HISTOGRAM, "t", "k");
    for (i = 0; family != NULL && i < 6; ++i) { /* with the fifth the table grows */
        rm_counter made = {NULL};
        if (held(rm_counter_with(family, &values[i], 1, &made, NULL)))
            DST_CHECK(rm_counter_add(made, 1) == RM_OK && value_of(made) == 1);
        else
            DST_CHECK(made.series == NULL && rm_counter_add(made, 1) == RM_E_STALE);
    }
    if (times != NULL && held(rm_histogram_with(times, values, 1, &time, NULL)))
        DST_CHECK(rm_histogram_observe(time, RM_MS(7)) == RM_OK);
    alive = 1;
    resource.stats_fn = show_slowly;
    has_resource = held(rm_metrics_add_resource(metrics, &resource, NULL));
    dst_go(has_resource ? 2 : 1, threads);
    finish();
}

/* Nobody has forked here: what could not be made anew is as it was, and can be ended. */
DST_TORTURE(metrics, survives_every_failure_after_a_fork) {
    static const char *const values[] = {"a"};
    rm_counter made = {NULL};
    int i;
    if (!held(rm_metrics_create(NULL, &metrics, NULL))) return;
    family = add_under_torture(RM_METRIC_COUNTER, "m", "k");
    if (family != NULL) (void)held(rm_counter_with(family, values, 1, &made, NULL));
    if (made.series != NULL) DST_CHECK(rm_counter_add(made, 1) == RM_OK);
    for (i = 0; i < 3; ++i) {
        dst_forked();
        if (held(rm_metrics_after_fork_child(metrics))) break;
    }
    if (i < 3 && made.series != NULL) DST_CHECK(value_of(made) == 0);
    if (i == 3) family = NULL; /* "with nothing usable": it can be ended, and no more */
    finish();
}

static bool in_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

/* Gets one byte at a time of the page at *user, and may fail between words: then there is no page,
   and no more of it may come. */
static bool flush_byte(const char *data, size_t size, void *user) {
    const char **at = (const char **)user;
    DST_CHECK(*at != NULL && size == 1 && *data == **at);
    ++*at;
    if ((in_word((*at)[-1]) && in_word((*at)[0])) || !dst_fault("flush_fn")) return true;
    *at = NULL;
    return false;
}

DST_TORTURE(metrics, survives_every_failure_of_a_page) {
    static const char *const label = "k", *const value = "a";
    static char page[PAGE];
    const int64_t bound = RM_MS(10);
    rm_resource resource = rm_resource_make("r", "thing", &alive);
    rm_metric_desc times = rm_metrics_describe(RM_METRIC_HISTOGRAM, "t:", "h");
    rm_histogram time = {NULL};
    const char *at = page;
    char byte;
    rm_text text = rm_text_make(&byte, 1);
    if (dst_choose(4) == 0) return; /* one thread: one of the four schedules will do */
    text.flush_fn = flush_byte;
    text.user = &at;
    times.decimals = 9;
    times.labels = &label;
    times.label_count = times.bound_count = 1;
    times.bounds = &bound;
    if (!held(rm_metrics_create(NULL, &metrics, NULL))) return;
    if (held(rm_metrics_add(metrics, &times, &family, NULL)))
        (void)held(rm_histogram_with(family, &value, 1, &time, NULL));
    alive = 1;
    resource.stats_fn = show;
    (void)held(rm_metrics_add_resource(metrics, &resource, NULL));
    DST_CHECK(render(page) == RM_OK);
    DST_CHECK((rm_metrics_render(metrics, &text) == RM_OK) == (at != NULL));
    DST_CHECK(at == NULL || *at == '\0');
    finish();
}

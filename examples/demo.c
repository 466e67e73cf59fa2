/*  demo.c - all five headers at work: a price catalogue under load, whose price server dies.

    Eight threads serve 200,000 look-ups of articles, popular ones more often (Zipf's law): from a
    cache, else from SQLite through a pool of connections. For one look-up in ten they also ask a
    price server over HTTP, through a pool of handles, a circuit breaker and retry. Half-way the
    server is killed; it is started again when the breaker has seen that it is still down. All of it
    is started and stopped by a manager, counted by a metrics registry, and logged.

    At the end the demo says what happened, and checks it: every article against plain SQL, every
    price against the server's rule, and that nothing was lost, leaked or left behind. The exit
    status is 0 only then. Run: make demo; build/examples/demo --help */
#define RM_IMPLEMENTATION
#include "rm.h"
#include "rm_pool.h"
#include "rm_cache.h"
#include "rm_breaker.h"
#include "rm_metrics.h"
#include "drivers/sqlite.h"
#include "drivers/http.h"
#include "drivers/memory.h"
#include "origin.h"
#include "demo/catalogue.h"
#include "demo/picture.h"

#include <stdatomic.h>

enum {
    LOOKUPS = 200000,
    LOOKUPS_QUICK = 20000, /* --quick: for runs under sanitizers */
    WORKERS = 8,
    READERS = 3,   /* SQLite connections that read */
    HANDLES = 3,   /* HTTP requests at once */
    CACHED = 1500, /* articles in the cache */
    PRICED = 10,   /* one look-up in so many asks for the price */
    STATUSES = 23, /* rm_status has so many values */
    RESOURCES = 8,
    TRANSITIONS = 1000 /* of the breaker that are kept for the picture */
};

/* >>types */

typedef struct transition {
    int64_t at_ns;
    uint64_t generation;
    rm_breaker_state to;
    char reason[24];
} transition;

/* What one worker did. Its own until it has been joined. */
typedef struct worker {
    struct demo *demo; /* below */
    rm_thread thread;
    bool started;
    uint64_t lookups, right, wrong; /* articles: asked for, as in plain SQL, otherwise */
    uint64_t failed[STATUSES];      /* look-ups, by status */
    uint64_t prices, price_right, price_wrong, price_failed[STATUSES], price_after;
    uint64_t attempts;               /* that the breaker let through */
    rm_error first_error;            /* of a look-up */
    rm_error price_errors[STATUSES]; /* the first of each status */
    rm_hist lookup_times, price_times, refused_times;
    uint64_t bins[3][512];
} worker;

typedef struct demo {
    /* what was asked for */
    const char *program, *metrics_path, *log_path;
    uint64_t total;
    bool verbose;
    /* what the resources are given */
    rm_env env;
    rm_allocator allocator;
    rm_log log;
    rm_log_stream log_file, log_console;
    _Atomic int64_t bytes; /* allocated now */
    char folder[200], path[256];
    bool folder_made;
    /* the resources */
    rm_manager *manager;
    rm_metrics *metrics;
    rmx_sqlite *db;
    rmx_memory *items;
    rmx_http *http;
    rm_breaker *breaker;
    rm_retry_desc brisk, patient;
    origin server; /* the manager's; from the kill to the stop the main thread's */
    uint16_t port;
    /* the metrics that the workers write */
    rm_metrics_family *requests;
    rm_counter lookups_ok, prices_ok;
    rm_histogram lookup_seconds, price_seconds;
    /* the work */
    catalogue catalogue;
    worker workers[WORKERS];
    _Atomic uint64_t tickets, done; /* look-ups begun and ended */
    _Atomic int running;            /* workers */
    _Atomic bool stopped;           /* no further look-ups */
    /* what happened; times 0 = not yet */
    int64_t began_ns, ended_ns;
    _Atomic int64_t killed_ns, restart_ns, restarted_ns;
    uint64_t opened_before_kill;
    transition transitions[TRANSITIONS];
    _Atomic uint32_t transition_count;
    uint32_t transitions_kept;
    rm_resource_status status[RESOURCES]; /* while the server was down */
    uint32_t status_count;
    picture picture;
    uint64_t sampled, tenth;
    int failures; /* checks that failed */
} demo;

static volatile sig_atomic_t interrupted;

static void on_signal(int number) {
    (void)number;
    interrupted = 1;
}

static void complain(const rm_error *error) {
    fprintf(stderr, "demo: %s: %s\n", error->where, error->message);
}

static void log_event(demo *d, rm_log_level level, const char *event, const char *key,
                      int64_t value) {
    const rm_kv kv = rm_kv_int(key, value);
    rm_log_emit(&d->log, NULL, level, "demo", event, &kv, 1);
}

/* >>memory: counts, to see that all of it comes back */

static void *demo_alloc(size_t size, void *user) {
    void *pointer = malloc(size);
    if (pointer != NULL) atomic_fetch_add(&((demo *)user)->bytes, (int64_t)size);
    return pointer;
}

static void demo_free(void *pointer, size_t size, void *user) {
    atomic_fetch_sub(&((demo *)user)->bytes, (int64_t)size);
    free(pointer);
}

/* >>requests */

static void count_failure(demo *d, const char *operation, rm_status status) {
    const char *const labels[] = {operation, rm_status_name(status)};
    rm_counter counter;
    if (rm_counter_with(d->requests, labels, 2, &counter, NULL) == RM_OK)
        (void)rm_counter_add(counter, 1);
}

static void look_up(worker *w, int64_t id) {
    demo *d = w->demo;
    char sku[SKU];
    article found;
    rm_error error;
    catalogue_sku(sku, id);
    const int64_t began = rm_now(NULL);
    const rm_status status = articles_get_or_load(d->items, sku, RM_SEC(5), &found, &error);
    const int64_t took = rm_now(NULL) - began;
    (void)rm_hist_record(&w->lookup_times, took);
    (void)rm_histogram_observe(d->lookup_seconds, took);
    ++w->lookups;
    if (status == RM_OK) {
        (void)rm_counter_add(d->lookups_ok, 1);
        if (catalogue_same(&found, &d->catalogue.plain[id]))
            ++w->right;
        else
            ++w->wrong;
        return;
    }
    ++w->failed[status];
    if (w->first_error.status == RM_OK) w->first_error = error;
    count_failure(d, "lookup", status);
}

typedef struct price_call {
    worker *worker;
    int64_t id, cents;
} price_call;

/* One attempt, which the breaker has let through. */
static rm_status attempt_price(void *user, rm_attempt *attempt, rm_error *error) {
    price_call *call = (price_call *)user;
    demo *d = call->worker->demo;
    char url[64], body[32];
    rmx_http_response response = rmx_http_response_make(body, sizeof body);
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u/price/%lld", (unsigned)d->port,
                   (long long)call->id);
    ++call->worker->attempts;
    const rm_status status =
        rmx_http_get(d->http, url, attempt->deadline, attempt->cancel, &response, error);
    attempt->retry_after_ns = response.retry_after_ns;
    if (status != RM_OK) return status;
    if (response.status != 200)
        return rm_error_set(error, RM_E_PROTOCOL, response.status, "price.http",
                            "the server answered with %d", (int)response.status);
    call->cents = strtoll(response.body, NULL, 10);
    return RM_OK;
}

/* Asks for a price: in a hurry as a rule; with patience, to wait for a server that is away. */
static void ask_price(worker *w, int64_t id, bool patient) {
    demo *d = w->demo;
    price_call call = {w, id, -1};
    rm_error error;
    memset(&error, 0, sizeof error);
    const rm_deadline deadline = rm_deadline_after(NULL, patient ? RM_SEC(20) : RM_SEC(1));
    const int64_t began = rm_now(NULL);
    const rm_status status = rm_retry_call(patient ? &d->patient : &d->brisk, d->breaker, deadline,
                                           NULL, attempt_price, &call, &error);
    const int64_t took = rm_now(NULL) - began;
    ++w->prices;
    (void)rm_histogram_observe(d->price_seconds, took);
    (void)rm_hist_record(status == RM_OK ? &w->price_times : &w->refused_times, took);
    if (status == RM_OK) {
        (void)rm_counter_add(d->prices_ok, 1);
        if (call.cents == origin_price(id))
            ++w->price_right;
        else
            ++w->price_wrong;
        if (atomic_load(&d->restarted_ns) != 0) ++w->price_after;
        return;
    }
    if (w->price_failed[status]++ == 0) w->price_errors[status] = error;
    count_failure(d, "price", status);
}

/* Kills the server, as a crash would, while all workers work. */
static void kill_server(demo *d) {
    rm_breaker_stats stats;
    if (rm_breaker_stats_get(d->breaker, &stats) == RM_OK) d->opened_before_kill = stats.opened;
    log_event(d, RM_LOG_WARN, "origin_killed", "port", d->port);
    const int64_t now = rm_now(NULL);
    origin_kill(&d->server);
    atomic_store(&d->killed_ns, now); /* from here on the server is the main thread's */
}

/* A look-up is a ticket; its number says all about it, so that every run asks for the same. At
   half time the server is killed. At three quarters each worker asks once with patience: so the
   last quarter begins when the server is back. */
static void work(void *user) {
    worker *w = (worker *)user;
    demo *d = w->demo;
    const uint64_t half = d->total / 2, gate = d->total / 4 * 3;
    for (;;) {
        const uint64_t ticket = atomic_fetch_add(&d->tickets, 1);
        rm_rng rng;
        if (ticket >= d->total || atomic_load(&d->stopped)) break;
        rm_rng_seed(&rng, ticket);
        if (ticket == half) kill_server(d);
        const int64_t id = catalogue_pick(&d->catalogue, rm_rng_next(&rng));
        const bool patient = ticket >= gate && ticket < gate + WORKERS;
        look_up(w, id);
        if (patient || rm_rng_next(&rng) % PRICED == 0) ask_price(w, id, patient);
        atomic_fetch_add(&d->done, 1);
    }
    atomic_fetch_sub(&d->running, 1);
}

/* >>resources: what the manager starts and stops beside pools, cache and breaker */

static rm_status start_origin(void *user, rm_deadline deadline, rm_error *error) {
    demo *d = (demo *)user;
    (void)deadline;
    const rm_status status = origin_start(&d->server, d->program, error);
    d->port = d->server.port;
    return status;
}

static rm_status stop_origin(void *user, rm_deadline deadline, rm_error *error) {
    (void)deadline;
    if (origin_stop(&((demo *)user)->server) == RM_OK) return RM_OK;
    return rm_error_set(error, RM_E_FAILED, 0, "origin", "the price server ended with an error");
}

static rm_health origin_health(void *user, rm_error *reason) {
    demo *d = (demo *)user;
    if (atomic_load(&d->killed_ns) == 0 || atomic_load(&d->restarted_ns) != 0)
        return RM_HEALTH_HEALTHY;
    (void)rm_error_set(reason, RM_E_REFUSED, 0, "origin", "it was killed");
    return RM_HEALTH_UNHEALTHY;
}

static rm_status start_catalogue(void *user, rm_deadline deadline, rm_error *error) {
    demo *d = (demo *)user;
    const rm_status status = catalogue_fill(d->db, deadline, error);
    return status == RM_OK ? catalogue_read_plain(&d->catalogue, d->path, error) : status;
}

static rm_status stop_workers(void *user, rm_deadline deadline, rm_error *error) {
    demo *d = (demo *)user;
    (void)deadline, (void)error;
    atomic_store(&d->stopped, true);
    for (int i = 0; i < WORKERS; ++i) {
        if (d->workers[i].started) rm_thread_join(&d->workers[i].thread);
        d->workers[i].started = false;
    }
    return RM_OK;
}

static rm_status start_workers(void *user, rm_deadline deadline, rm_error *error) {
    demo *d = (demo *)user;
    d->began_ns = rm_now(NULL);
    for (int i = 0; i < WORKERS; ++i) {
        worker *w = &d->workers[i];
        atomic_fetch_add(&d->running, 1);
        const rm_status status = rm_thread_start(&w->thread, work, w);
        w->started = status == RM_OK;
        if (status == RM_OK) continue;
        atomic_fetch_sub(&d->running, 1);
        (void)stop_workers(user, deadline, NULL);
        return rm_error_set(error, status, 0, "workers", "no thread for worker %d", i + 1);
    }
    return RM_OK;
}

static rm_resource own_resource(demo *d, const char *name, const char *kind,
                                rm_status (*start_fn)(void *, rm_deadline, rm_error *),
                                rm_status (*stop_fn)(void *, rm_deadline, rm_error *)) {
    rm_resource resource = rm_resource_make(name, kind, d);
    resource.start_fn = start_fn;
    resource.stop_fn = stop_fn;
    return resource;
}

/* Registers everything, in the order in which it starts. */
static rm_status register_all(demo *d, rm_error *error) {
    rm_resource all[RESOURCES] = {
        own_resource(d, "origin", "process", start_origin, stop_origin),
        rm_pool_resource(rmx_sqlite_writer(d->db)),
        rm_pool_resource(rmx_sqlite_readers(d->db)),
        own_resource(d, "catalog", "data", start_catalogue, NULL),
        rm_cache_resource(rmx_memory_cache(d->items)),
        rm_pool_resource(rmx_http_pool(d->http)),
        rm_breaker_resource(d->breaker),
        own_resource(d, "workers", "threads", start_workers, stop_workers)};
    rm_status status = RM_OK;
    all[0].health_fn = origin_health;
    for (int i = 0; i < RESOURCES && status == RM_OK; ++i) {
        status = rm_manager_add(d->manager, &all[i], error);
        if (status == RM_OK) status = rm_metrics_add_resource(d->metrics, &all[i], error);
    }
    return status;
}

/* Transitions are told by whichever worker made them; generation gives their order. */
static void on_transition(rm_breaker *breaker, const rm_breaker_event *event, void *user) {
    demo *d = (demo *)user;
    const uint32_t i = atomic_fetch_add(&d->transition_count, 1);
    (void)breaker;
    if (i >= TRANSITIONS) return;
    d->transitions[i].at_ns = rm_now(NULL);
    d->transitions[i].generation = event->generation;
    d->transitions[i].to = event->to;
    catalogue_text(d->transitions[i].reason, sizeof d->transitions[i].reason, event->reason);
}

static rm_status add_metrics(demo *d, rm_error *error) {
    static const char *const labels[] = {"operation", "result"};
    static const char *const lookup_ok[] = {"lookup", "RM_OK"}, *const price_ok[] = {"price",
                                                                                     "RM_OK"};
    static const int64_t bounds[] = {RM_US(1),  RM_US(10),  RM_US(100), RM_MS(1),
                                     RM_MS(10), RM_MS(100), RM_SEC(1)};
    rm_metric_desc desc = rm_metrics_describe(RM_METRIC_COUNTER, "demo_requests_total",
                                              "Requests that have ended, by their result.");
    rm_metrics_family *times = NULL;
    desc.labels = labels;
    desc.label_count = 2;
    rm_status status = rm_metrics_add(d->metrics, &desc, &d->requests, error);
    if (status == RM_OK) status = rm_counter_with(d->requests, lookup_ok, 2, &d->lookups_ok, error);
    if (status == RM_OK) status = rm_counter_with(d->requests, price_ok, 2, &d->prices_ok, error);
    desc = rm_metrics_describe(RM_METRIC_HISTOGRAM, "demo_request_seconds",
                               "Time of requests, failed ones included.");
    desc.labels = labels; /* the first: operation */
    desc.label_count = 1;
    desc.bounds = bounds;
    desc.bound_count = sizeof bounds / sizeof *bounds;
    desc.decimals = 9;
    if (status == RM_OK) status = rm_metrics_add(d->metrics, &desc, &times, error);
    if (status == RM_OK) status = rm_histogram_with(times, lookup_ok, 1, &d->lookup_seconds, error);
    if (status == RM_OK) status = rm_histogram_with(times, price_ok, 1, &d->price_seconds, error);
    return status;
}

static rm_status create_all(demo *d, rm_error *error) {
    const rmx_sqlite_desc db = {
        .name = "catalog", .path = d->path, .env = &d->env, .readers = READERS};
    const rmx_http_desc http = {.name = "price.http", .env = &d->env, .max = HANDLES};
    const rm_manager_desc manager = {.env = &d->env};
    const rm_metrics_desc metrics = {.env = &d->env};
    rmx_memory_desc items = {.name = "items", .env = &d->env, .value_size = sizeof(article)};
    rm_breaker_desc breaker = {.name = "price.breaker", .env = &d->env, .failures = 5};
    rm_status status = rm_manager_create(&manager, &d->manager, error);
    if (status == RM_OK) status = rm_metrics_create(&metrics, &d->metrics, error);
    if (status == RM_OK) status = add_metrics(d, error);
    if (status == RM_OK) status = rmx_sqlite_create(&db, &d->db, error);
    items.max_entries = CACHED;
    items.load_fn = catalogue_load;
    items.user = d->db;
    if (status == RM_OK) status = rmx_memory_create(&items, &d->items, error);
    if (status == RM_OK) status = rmx_http_create(&http, &d->http, error);
    breaker.open_ns = RM_MS(150);
    breaker.event_fn = on_transition;
    breaker.user = d;
    if (status == RM_OK) status = rm_breaker_create(&breaker, &d->breaker, error);
    return status == RM_OK ? register_all(d, error) : status;
}

/* >>the run */

/* The rows of the picture. */
enum { SERVER, BREAKER, LOOK_UPS, READ_USE, READ_WAIT, HTTP_USE, HTTP_WAIT, ROWS };

static void sample(demo *d) {
    const int64_t now = rm_now(NULL);
    const uint64_t done = atomic_load(&d->done);
    rm_pool_stats pool;
    picture_add(&d->picture, LOOK_UPS, now, (uint32_t)(done - d->sampled));
    d->sampled = done;
    if (rm_pool_stats_get(rmx_sqlite_readers(d->db), &pool) == RM_OK) {
        picture_add(&d->picture, READ_USE, now, pool.in_use);
        picture_add(&d->picture, READ_WAIT, now, pool.waiting);
    }
    if (rm_pool_stats_get(rmx_http_pool(d->http), &pool) == RM_OK) {
        picture_add(&d->picture, HTTP_USE, now, pool.in_use);
        picture_add(&d->picture, HTTP_WAIT, now, pool.waiting);
    }
}

/* The server comes back when the breaker has opened a second time, because its probe found nobody.
   Should that not happen within 5 s, the server is started all the same, and a check fails. */
static void restart_when_seen(demo *d) {
    const int64_t killed_ns = atomic_load(&d->killed_ns);
    rm_breaker_stats stats;
    rm_error error;
    if (killed_ns == 0 || atomic_load(&d->restarted_ns) != 0) return;
    if (rm_breaker_stats_get(d->breaker, &stats) != RM_OK) return;
    if (stats.opened < d->opened_before_kill + 2 && rm_now(NULL) - killed_ns < RM_SEC(5)) return;
    (void)rm_manager_status(d->manager, d->status, RESOURCES, &d->status_count);
    atomic_store(&d->restart_ns, rm_now(NULL));
    if (origin_start(&d->server, d->program, &error) != RM_OK) complain(&error);
    atomic_store(&d->restarted_ns, rm_now(NULL));
    log_event(d, RM_LOG_INFO, "origin_restarted", "port", d->port);
}

static void show_progress(demo *d, bool terminal) {
    const char *server = atomic_load(&d->killed_ns) == 0      ? "up"
                         : atomic_load(&d->restarted_ns) == 0 ? "killed"
                                                              : "up again";
    rm_breaker_stats stats;
    char said[64];
    if (rm_breaker_stats_get(d->breaker, &stats) != RM_OK) return;
    (void)snprintf(said, sizeof said, "server %s, breaker %s", server,
                   rm_breaker_state_name(stats.state));
    picture_progress(stdout, terminal, atomic_load(&d->done), d->total, said, &d->tenth);
}

/* Watches, every 5 ms, until the workers are done. It drives nothing but the restart. */
static void watch(demo *d, bool terminal) {
    for (uint64_t turn = 0; atomic_load(&d->running) > 0; ++turn) {
        sample(d);
        restart_when_seen(d);
        if (!terminal || turn % 10 == 0) show_progress(d, terminal);
        if (interrupted) atomic_store(&d->stopped, true);
        (void)rm_sleep(NULL, RM_MS(5), NULL);
    }
    d->ended_ns = rm_now(NULL);
    sample(d);
    show_progress(d, terminal);
    if (terminal) printf("\n");
}

/* >>report */

/* Adds up the workers into the first. */
static worker *sum_up(demo *d) {
    worker *sum = &d->workers[0];
    for (int i = 1; i < WORKERS; ++i) {
        const worker *w = &d->workers[i];
        sum->lookups += w->lookups;
        sum->right += w->right;
        sum->wrong += w->wrong;
        sum->prices += w->prices;
        sum->price_right += w->price_right;
        sum->price_wrong += w->price_wrong;
        sum->price_after += w->price_after;
        sum->attempts += w->attempts;
        if (sum->first_error.status == RM_OK) sum->first_error = w->first_error;
        for (int s = 0; s < STATUSES; ++s) {
            if (sum->price_failed[s] == 0) sum->price_errors[s] = w->price_errors[s];
            sum->failed[s] += w->failed[s];
            sum->price_failed[s] += w->price_failed[s];
        }
        (void)rm_hist_merge(&sum->lookup_times, &w->lookup_times);
        (void)rm_hist_merge(&sum->price_times, &w->price_times);
        (void)rm_hist_merge(&sum->refused_times, &w->refused_times);
    }
    return sum;
}

static uint64_t sum_of(const uint64_t counts[STATUSES]) {
    uint64_t sum = 0;
    for (int i = 0; i < STATUSES; ++i)
        sum += counts[i];
    return sum;
}

static int by_generation(const void *a, const void *b) {
    const transition *one = (const transition *)a, *other = (const transition *)b;
    return one->generation < other->generation ? -1 : one->generation > other->generation;
}

static void report_picture(demo *d) {
    static const picture_row rows[ROWS] = {
        {"price server", PICTURE_STATE, " ="},   {"breaker", PICTURE_STATE, "_#?"},
        {"look-ups", PICTURE_FLOW, NULL},        {"catalog.read in use", PICTURE_GAUGE, NULL},
        {"       waiting", PICTURE_GAUGE, NULL}, {"price.http in use", PICTURE_GAUGE, NULL},
        {"       waiting", PICTURE_GAUGE, NULL}};
    const int64_t killed = atomic_load(&d->killed_ns), restarted = atomic_load(&d->restarted_ns);
    const int64_t from = d->began_ns, to = d->ended_ns;
    const uint32_t count = atomic_load(&d->transition_count);
    d->transitions_kept = count < TRANSITIONS ? count : TRANSITIONS;
    qsort(d->transitions, d->transitions_kept, sizeof *d->transitions, by_generation);
    for (uint32_t i = 0; i < d->transitions_kept; ++i)
        picture_add(&d->picture, BREAKER, d->transitions[i].at_ns, (uint32_t)d->transitions[i].to);
    picture_add(&d->picture, SERVER, from, 1);
    if (killed != 0) picture_add(&d->picture, SERVER, killed, 0);
    if (restarted != 0) picture_add(&d->picture, SERVER, restarted, 1);
    printf(
        "\nOver time (= up;  _ closed, # open, ? half-open;  numbers: . is none, look-ups relative "
        "to the most)\n");
    picture_print(stdout, &d->picture, rows, ROWS, from, to);
    if (killed != 0) picture_mark(stdout, "server killed", killed, from, to);
    if (restarted != 0) picture_mark(stdout, "server started again", restarted, from, to);
}

static void report_resources(const demo *d) {
    printf("\nResources, while the server was down\n");
    for (uint32_t i = 0; i < d->status_count; ++i) {
        const rm_resource_status *r = &d->status[i];
        const char *why = r->health == RM_HEALTH_HEALTHY ? "" : r->last_error.message;
        printf("  %-14s %-9s %-7s %s%s%s\n", r->name, r->kind, rm_state_name(r->state),
               rm_health_name(r->health), why[0] == '\0' ? "" : ": ", why);
    }
}

static void report_times(const char *operation, uint64_t count, int64_t p50, int64_t p99,
                         int64_t max) {
    char texts[4][PICTURE_TEXT];
    printf("  %-30s %9s %11s %11s %11s\n", operation, picture_count(texts[0], count),
           picture_time(texts[1], p50), picture_time(texts[2], p99), picture_time(texts[3], max));
}

static void report_hist(const char *operation, const rm_hist *hist) {
    report_times(operation, hist->count, rm_hist_quantile(hist, 0.5), rm_hist_quantile(hist, 0.99),
                 hist->max);
}

static void report_failures(const worker *sum) {
    char text[PICTURE_TEXT];
    printf("\nPrice calls that failed\n");
    for (int i = 0; i < STATUSES; ++i)
        if (sum->price_failed[i] > 0)
            printf("  %-14s %9s  the first: %s: %s\n", rm_status_name((rm_status)i),
                   picture_count(text, sum->price_failed[i]), sum->price_errors[i].where,
                   sum->price_errors[i].message);
}

static void report(demo *d, const worker *sum) {
    const double seconds = (double)(d->ended_ns - d->began_ns) / 1e9;
    char texts[2][PICTURE_TEXT];
    rm_cache_stats cache;
    rm_pool_stats read, http;
    double ratio = 0;
    (void)rmx_memory_stats_get(d->items, &cache, &ratio);
    (void)rm_pool_stats_get(rmx_sqlite_readers(d->db), &read);
    (void)rm_pool_stats_get(rmx_http_pool(d->http), &http);
    printf("\n%s look-ups and %s price calls in %.2f s: %.0f operations/s; hit ratio %.1f %%\n",
           picture_count(texts[0], sum->lookups), picture_count(texts[1], sum->prices), seconds,
           (double)(sum->lookups + sum->prices) / seconds, 100 * ratio);
    report_picture(d);
    printf("\nTimes                                count         p50         p99         max\n");
    report_hist("look-up", &sum->lookup_times);
    report_times("  its load from SQLite", cache.loads, cache.load_p50_ns, cache.load_p99_ns,
                 cache.load_max_ns);
    report_times("    its wait for a connection", read.waits, read.wait_p50_ns, read.wait_p99_ns,
                 read.wait_max_ns);
    report_hist("price, answered", &sum->price_times);
    report_hist("price, failed", &sum->refused_times);
    report_times("  its wait for a handle", http.waits, http.wait_p50_ns, http.wait_p99_ns,
                 http.wait_max_ns);
    report_failures(sum);
    report_resources(d);
}

/* >>metrics */

static bool write_page(const char *data, size_t size, void *user) {
    return fwrite(data, 1, size, (FILE *)user) == size;
}

/* Writes the page, and sees whether every resource is on it. */
static bool write_metrics(demo *d) {
    static const char *const wanted[] = {"resource=\"catalog.read\"",
                                         "resource=\"catalog.write\"",
                                         "resource=\"items\"",
                                         "resource=\"price.http\"",
                                         "resource=\"price.breaker\"",
                                         "demo_request_seconds_sum",
                                         "rm_metrics_dropped_samples_total 0"};
    char buffer[4096];
    rm_text text = rm_text_make(buffer, sizeof buffer);
    FILE *file = fopen(d->metrics_path, "w");
    if (file == NULL) return false;
    text.flush_fn = write_page;
    text.user = file;
    bool complete = rm_metrics_render(d->metrics, &text) == RM_OK;
    if (fclose(file) != 0) complete = false;
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; ++i) {
        bool found = false;
        file = fopen(d->metrics_path, "r");
        while (file != NULL && fgets(buffer, sizeof buffer, file) != NULL)
            found = found || strstr(buffer, wanted[i]) != NULL;
        if (file != NULL) (void)fclose(file);
        complete = complete && found;
    }
    return complete;
}

/* >>checks */

static void check(demo *d, bool ok, const char *format, ...) __attribute__((format(printf, 3, 4)));

static void check(demo *d, bool ok, const char *format, ...) {
    va_list args;
    va_start(args, format);
    printf("  %-5s ", ok ? "ok" : "FAIL");
    vprintf(format, args);
    printf("\n");
    va_end(args);
    d->failures += !ok;
}

static unsigned long long ull(uint64_t number) {
    return number;
}

static void check_answers(demo *d, const worker *sum) {
    const uint64_t failed = sum_of(sum->failed), price_failed = sum_of(sum->price_failed);
    check(d, d->catalogue.count == ARTICLES, "plain SQL finds all %d articles: %u", ARTICLES,
          (unsigned)d->catalogue.count);
    check(d, sum->right == d->total,
          "every look-up was answered as plain SQL answers: %llu of %llu", ull(sum->right),
          ull(d->total));
    if (failed > 0)
        printf("        the first that failed: %s: %s\n", sum->first_error.where,
               sum->first_error.message);
    check(d, sum->price_wrong == 0 && sum->price_right > 0,
          "every price that was answered follows the server's rule: %llu of %llu",
          ull(sum->price_right), ull(sum->price_right + sum->price_wrong));
    check(d,
          sum->lookups == d->total && sum->right + sum->wrong + failed == sum->lookups &&
              sum->price_right + sum->price_wrong + price_failed == sum->prices,
          "no request was lost: look-ups %llu = %llu answered + %llu failed; prices %llu = %llu + "
          "%llu",
          ull(sum->lookups), ull(sum->right + sum->wrong), ull(failed), ull(sum->prices),
          ull(sum->price_right + sum->price_wrong), ull(price_failed));
}

/* The toolkit's own statistics against what the workers counted. */
static void check_books(demo *d, const worker *sum) {
    rm_cache_stats cache;
    rm_pool_stats read, http;
    rm_breaker_stats breaker;
    memset(&cache, 0, sizeof cache);
    (void)rmx_memory_stats_get(d->items, &cache, NULL);
    (void)rm_pool_stats_get(rmx_sqlite_readers(d->db), &read);
    (void)rm_pool_stats_get(rmx_http_pool(d->http), &http);
    (void)rm_breaker_stats_get(d->breaker, &breaker);
    check(
        d,
        cache.hits + cache.misses == sum->lookups &&
            cache.misses == cache.loads + cache.load_waits &&
            cache.loads == read.acquired + read.timeouts,
        "the books agree: %llu hits + %llu misses; %llu loads = %llu SQLite sessions; %llu joined",
        ull(cache.hits), ull(cache.misses), ull(cache.loads), ull(read.acquired),
        ull(cache.load_waits));
    check(d, sum->attempts == http.acquired + http.timeouts,
          "the books agree: %llu attempts = %llu HTTP requests, over %llu handles",
          ull(sum->attempts), ull(http.acquired), ull(http.created));
    check(d, read.in_use + read.waiting + http.in_use + http.waiting + cache.pins == 0,
          "everything acquired came back: %u connections, %u handles, %u pins are out", read.in_use,
          http.in_use, cache.pins);
}

/* What the breaker did between the kill and the restart, and after that. */
static void check_breaker(demo *d, const worker *sum) {
    const int64_t killed = atomic_load(&d->killed_ns), restart = atomic_load(&d->restart_ns);
    bool opened = false, probed = false, closed = false;
    int64_t closed_ns = restart;
    rm_breaker_stats stats;
    for (uint32_t i = 0; i < d->transitions_kept; ++i) {
        const transition *t = &d->transitions[i];
        const bool down = killed != 0 && t->at_ns >= killed && (restart == 0 || t->at_ns < restart);
        opened = opened || (down && t->to == RM_BREAKER_STATE_OPEN);
        probed = probed || (down && strcmp(t->reason, "probe_failed") == 0);
        closed = restart != 0 && t->at_ns > restart && t->to == RM_BREAKER_STATE_CLOSED;
        if (closed) closed_ns = t->at_ns;
    }
    if (rm_breaker_stats_get(d->breaker, &stats) != RM_OK) closed = false;
    check(d, killed != 0 && d->opened_before_kill == 0, "the breaker was closed until the kill");
    check(d, opened, "it opened when the server died, and refused %llu calls", ull(stats.rejected));
    check(d, probed, "it let a probe through, which failed, and opened again");
    check(d, closed && stats.state == RM_BREAKER_STATE_CLOSED,
          "it closed when the server was back, after %.0f ms", (double)(closed_ns - restart) / 1e6);
    check(d, sum->price_after > 0, "prices were answered after that: %llu", ull(sum->price_after));
}

/* >>begin and end */

/* Ends what there is, in the reverse order; whatever does not end is an error. */
static bool destroy_all(demo *d) {
    bool all = rm_metrics_destroy(d->metrics) == RM_OK;
    all = rm_manager_destroy(d->manager) == RM_OK && all;
    rm_breaker_destroy(d->breaker);
    all = rmx_http_destroy(d->http) == RM_OK && all;
    all = rmx_memory_destroy(d->items) == RM_OK && all;
    return rmx_sqlite_destroy(d->db) == RM_OK && all;
}

static bool remove_folder(demo *d) {
    static const char *const ends[] = {"-wal", "-shm", ""};
    char path[sizeof d->path + 8];
    if (!d->folder_made) return true;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; ++i) {
        (void)snprintf(path, sizeof path, "%s%s", d->path, ends[i]);
        (void)unlink(path);
    }
    return rmdir(d->folder) == 0;
}

static bool prepare_files(demo *d) {
    const char *parent = getenv("TMPDIR");
    FILE *metrics = fopen(d->metrics_path, "w"); /* now, not after the work */
    FILE *log = fopen(d->log_path, "w");
    d->log_file.stream = log;
    if (metrics != NULL) (void)fclose(metrics);
    if (metrics == NULL || log == NULL) {
        fprintf(stderr, "demo: cannot write %s: %s; run it where build/ is, or name other files\n",
                metrics == NULL ? d->metrics_path : d->log_path, strerror(errno));
        return false;
    }
    if (parent == NULL || parent[0] == '\0') parent = "/tmp";
    (void)snprintf(d->folder, sizeof d->folder, "%.180s/rm_demo_XXXXXX", parent);
    d->folder_made = mkdtemp(d->folder) != NULL;
    if (!d->folder_made)
        fprintf(stderr,
                "demo: cannot make a directory in %s: %s; set TMPDIR to one that can be "
                "written\n",
                parent, strerror(errno));
    (void)snprintf(d->path, sizeof d->path, "%s/catalog.db", d->folder);
    return d->folder_made;
}

static void set_up(demo *d) {
    static const rm_hist_desc times = {3, 11, 32}; /* 1 us to 100 s, 10 % */
    d->allocator.alloc_fn = demo_alloc;
    d->allocator.free_fn = demo_free;
    d->allocator.user = d;
    d->log_console.level = RM_LOG_WARN;
    d->log_file.next = d->verbose ? &d->log_console : NULL;
    d->log.log_fn = rm_log_to_stream;
    d->log.user = &d->log_file;
    d->env.allocator = &d->allocator;
    d->env.log = &d->log;
    /* in a hurry: two more attempts, but no waiting for the breaker's rest */
    d->brisk.base_ns = RM_MS(2);
    d->brisk.cap_ns = RM_MS(20);
    d->brisk.max_retries = 2;
    d->brisk.max_retry_after_ns = RM_MS(20);
    /* with patience: until the deadline */
    d->patient.base_ns = RM_MS(5);
    d->patient.cap_ns = RM_MS(20);
    d->patient.max_retries = 100000;
    d->patient.max_retry_after_ns = RM_NONE;
    catalogue_rank(&d->catalogue);
    for (int i = 0; i < WORKERS; ++i) {
        worker *w = &d->workers[i];
        w->demo = d;
        (void)rm_hist_init(&w->lookup_times, &times, w->bins[0], sizeof w->bins[0]);
        (void)rm_hist_init(&w->price_times, &times, w->bins[1], sizeof w->bins[1]);
        (void)rm_hist_init(&w->refused_times, &times, w->bins[2], sizeof w->bins[2]);
    }
}

/* The work, the report and the checks, between a start and a stop of everything. */
static bool run(demo *d) {
    rm_errors errors;
    if (rm_manager_start(d->manager, RM_SEC(30), &errors) != RM_OK) {
        for (uint32_t i = 0; i < errors.count; ++i)
            complain(&errors.items[i]);
        return false;
    }
    watch(d, isatty(STDOUT_FILENO) != 0);
    const bool complete = write_metrics(d);
    const rm_status stopped = rm_manager_stop(d->manager, RM_SEC(10), &errors);
    for (uint32_t i = 0; i < errors.count; ++i)
        complain(&errors.items[i]);
    if (interrupted) return false;
    const worker *sum = sum_up(d);
    report(d, sum);
    printf("\nChecks\n");
    check_answers(d, sum);
    check_books(d, sum);
    check_breaker(d, sum);
    check(d, stopped == RM_OK, "the manager stopped all it had started");
    check(d, complete, "the metrics show every resource: %s", d->metrics_path);
    return true;
}

static int demo_main(demo *d) {
    struct sigaction action;
    rm_error error;
    bool ran = false;
    memset(&error, 0, sizeof error);
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    set_up(d);
    if (prepare_files(d)) {
        if (create_all(d, &error) == RM_OK)
            ran = run(d);
        else
            complain(&error);
    }
    const bool destroyed = destroy_all(d), removed = remove_folder(d);
    if (ran) {
        check(d, destroyed && atomic_load(&d->bytes) == 0,
              "everything was ended, and all memory given back: %lld bytes are left",
              (long long)atomic_load(&d->bytes));
        check(d, removed, "the database was removed; the log stays: %s", d->log_path);
        printf("\n%s\n", d->failures == 0 ? "All checks passed." : "SOME CHECKS FAILED.");
    }
    if (d->log_file.stream != NULL) (void)fclose((FILE *)d->log_file.stream);
    return interrupted ? 130 : !ran || d->failures > 0;
}

static int usage(FILE *out, int status) {
    fputs("usage: demo [--quick] [--verbose] [--log FILE] [METRICS_FILE]\n"
          "\n"
          "Serves 200,000 look-ups from a cache and SQLite, with prices over HTTP from a server\n"
          "that is killed half-way, then says what happened and checks it.\n"
          "\n"
          "  --quick        20,000 look-ups\n"
          "  --verbose      warnings of the log on standard error, too\n"
          "  --log FILE     the log, as JSON lines (build/demo.log)\n"
          "  METRICS_FILE   the metrics, as Prometheus text (build/demo_metrics.prom)\n"
          "\n"
          "Exit status: 0 all checks passed, 1 not, 2 wrong arguments, 130 interrupted.\n",
          out);
    return status;
}

int main(int argc, char **argv) {
    static demo d; /* some megabytes */
    bool named = false;
    if (origin_wanted(argc, argv)) return origin_run(argv);
    d.program = argv[0];
    d.total = LOOKUPS;
    d.log_path = "build/demo.log";
    d.metrics_path = "build/demo_metrics.prom";
    for (int i = 1; i < argc; ++i) {
        if (strcmp(argv[i], "--help") == 0) return usage(stdout, 0);
        if (strcmp(argv[i], "--quick") == 0)
            d.total = LOOKUPS_QUICK;
        else if (strcmp(argv[i], "--verbose") == 0)
            d.verbose = true;
        else if (strcmp(argv[i], "--log") == 0 && i + 1 < argc)
            d.log_path = argv[++i];
        else if (argv[i][0] == '-' || named)
            return usage(stderr, 2);
        else
            d.metrics_path = argv[i], named = true;
    }
    return demo_main(&d);
}

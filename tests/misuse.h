/*  misuse.h - valid arguments for every public function, and what is wrong with each: the part of
    tests/misuse.py that is written by hand.

    For a parameter `T name` of function f the generator takes the first of these that is here:
        arg_f__name     for this parameter alone
        arg_T__name     for parameters of this type and name
        arg_T           for all of this type; const and struct are left out, a * is written p
        good_T          for a const T *: a valid struct; its fields are misused in turn
    An arg function returns the valid argument for value 0, the misused ones for 1, 2, ... and calls
    past_end after the last.  take_T ends what a call has written through a `T *out`, and
    after_f is called after f: it keeps book of what a call has taken or given back.  A parameter
    that nothing here fits is an error of the generator.

    Every call has a world of its own.  Its objects are made when they are asked for; at the end
    each must still do its work and be destroyed, and no memory may be left.  */
#ifndef MISUSE_H_INCLUDED
#define MISUSE_H_INCLUDED

#include "rm_breaker.h"
#include "rm_cache.h"
#include "rm_metrics.h"
#include "rm_pool.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* >>world */

enum { KEPT_MAX = 12, ROOM = 32 << 20, NAMES = 66, PATTERN = 0xA5 };

/* What a call may write on success only. */
typedef struct kept {
    const char *name;
    unsigned char *memory, *before;
    size_t size;
} kept;

typedef struct world {
    int which, value;           /* the parameter that is misused, and how */
    int also;                   /* another one, with its first misuse, mostly NULL; -1 = none */
    int parameter;              /* the one whose argument is being made; -1 = it is to be valid */
    char what[192];             /* all that is misused, for people */
    bool done;                  /* there are no more values */
    bool null;                  /* the misuse is a NULL pointer */
    const struct field *fields; /* the misuse is one of these, of a struct */
    size_t field_count;
    bool bare;   /* nothing may be lent: the call forgets what is */
    bool locked; /* the queue is */
    bool mutex_locked;
    rm_status expect; /* that this misuse must have; RM_OK = any that the comment names */
    kept kept[KEPT_MAX];
    uint32_t kept_count;
    rm_error *error;
    rm_errors *errors;
    int64_t now;
    size_t live; /* bytes allocated */
    rm_allocator allocator;
    rm_clock clock;
    rm_random random;
    rm_log log;
    rm_env env;
    char zeroes[1024]; /* a struct in which nothing is set */
    char scratch[512];
    void *memory;
    rm_kv kv;
    rm_pool *pool, *other_pool;
    rm_lease lease, other_lease;
    rm_pool_request request;
    rm_pool_scope scope;
    rm_pools *pools, *other_pools;
    rm_pools_lease key_lease, other_key_lease;
    rm_pools_request key_request;
    rm_cache *cache, *other_cache;
    rm_cache_pin pin, other_pin;
    rm_cache_load *load;
    rm_breaker *breaker, *other_breaker;
    rm_permit permit;
    bool permit_out;
    rm_metrics *metrics;
    rm_metrics_family *families[3];
    rm_manager *manager;
    rm_registry *registry, *other_registry;
    rm_registry_ref ref, other_ref;
    rm_waitq queue, other_queue;
    bool queue_made, other_queue_made;
    rm_waiter waiter;
    uint32_t waiters_done;
    rm_sem sem;
    bool sem_made;
    uint32_t permits_out;
    rm_hist hist, other_hist;
    uint64_t bins[256], other_bins[256];
    rm_cancel cancel;
    bool cancel_made;
    rm_mutex mutex;
    bool mutex_made;
    rm_cond cond;
    bool cond_made;
    rm_virtual_clock virtual_clock;
    bool virtual_clock_made;
    rm_thread thread;
    bool thread_started;
    rm_rng rng;
    rm_text text;
    rm_retry retry;
    const char *names[NAMES];
    int64_t bounds[NAMES];
} world;

/* Where the parent reads what a child did, also after a crash. */
typedef struct progress {
    char call[256];
    int which, value, also; /* as in that call's world */
    bool past;              /* no more values of that parameter */
    unsigned calls, failures;
} progress;

typedef struct contract {
    const char *name;
    void (*call)(world *w);
    const char *const *parameters;
    int count;
    uint32_t statuses; /* those that the comment names, a bit each */
    uint32_t nullable; /* the parameters that may be NULL, a bit each */
    uint32_t alone;    /* the parameters that are not misused together with another one */
    uint32_t writes;   /* the failures with which the comment lets it write, a bit each */
    bool names_field;  /* the error says which field was refused */
    bool any_status;   /* it returns what it was handed */
    bool in_load;      /* it is called from a load_fn only */
    bool bare;
    bool may_refuse; /* it need not succeed when nothing is misused */
} contract;

static progress *at;
static const contract *current;

static void say(const char *what) {
    printf("# %s: %s\n", at->call, what);
    fflush(stdout); /* the process may crash */
}

static void fail(const char *what) {
    if (++at->failures <= 5) say(what);
}

static void expect(bool ok, const char *what) {
    if (!ok) fail(what);
}

static void past_end(world *w) {
    w->done = true;
}

/* Notes how the argument that is being made is misused. */
static void misuse(world *w, const char *what) {
    const size_t used = strlen(w->what);
    if (w->parameter >= 0)
        snprintf(w->what + used, sizeof w->what - used, "%s%s: %s", used > 0 ? "; " : "",
                 current->parameters[w->parameter], what);
}

/* The value that argument number `parameter` is to have: what generated code passes. */
static int value_of(world *w, int parameter) {
    const int value = parameter == w->which ? w->value : parameter == w->also ? 1 : 0;
    w->parameter = value > 0 ? parameter : -1;
    return value;
}

/* An argument that is NULL. */
static void *null(world *w) {
    w->null = true;
    misuse(w, "NULL");
    return NULL;
}

static void keep(world *w, const char *name, void *memory, size_t size) {
    kept *k = &w->kept[w->kept_count++];
    if (w->kept_count > KEPT_MAX) abort();
    k->name = name;
    k->size = size;
    k->memory = (unsigned char *)memory;
    k->before = (unsigned char *)malloc(size);
    memcpy(k->before, memory, size);
}

/* Memory of exactly this size, in which every byte that is written shows. */
static void *arg_out(world *w, int value, const char *name, size_t size) {
    void *memory;
    if (value > 1) past_end(w);
    if (value == 1) return null(w);
    memory = malloc(size);
    memset(memory, PATTERN, size);
    keep(w, name, memory, size);
    return memory;
}

/* >>primitives */

static void *give(size_t size, void *user) {
    world *w = (world *)user;
    void *memory;
    expect(size > 0 && size <= PTRDIFF_MAX, "asks for what no allocator has");
    memory = size > ROOM ? NULL : malloc(size);
    if (memory != NULL) w->live += size;
    return memory;
}

static void take(void *memory, size_t size, void *user) {
    ((world *)user)->live -= size;
    free(memory);
}

static int64_t read_clock(void *user) {
    return ((world *)user)->now;
}

static rm_status sleep_on_clock(int64_t ns, void *user) {
    world *w = (world *)user;
    w->now = rm_time_add(w->now, ns);
    return RM_OK;
}

/* Waits by setting the clock. */
static void wait_on_clock(rm_cond *cond, rm_mutex *mutex, int64_t until_ns, void *user) {
    world *w = (world *)user;
    (void)cond, (void)mutex;
    if (until_ns == INT64_MAX) {
        fail("waits without end");
        abort();
    }
    if (w->now < until_ns) w->now = until_ns;
}

static void write_log(const rm_log_event *event, void *user) {
    char line[2048];
    (void)user;
    expect(rm_log_format(event, line, sizeof line) > 0, "an event that cannot be formatted");
}

static uint64_t next_random(void *user) {
    world *w = (world *)user;
    return rm_rng_next(&w->rng);
}

/* >>hooks: they do not use their user pointer, which is misused too */

static rm_status make_resource(void **resource, rm_deadline deadline, rm_error *error, void *user) {
    static int something;
    (void)deadline, (void)error, (void)user;
    *resource = &something;
    return RM_OK;
}
static void end_resource(void *resource, void *user) {
    (void)resource, (void)user;
}
static rm_status check_resource(void *resource, void *user) {
    (void)resource, (void)user;
    return RM_OK;
}
static rm_release classify_result(void *resource, const rm_error *result, void *user) {
    (void)resource, (void)result, (void)user;
    return RM_RELEASE_FAILED;
}
static void see_pool_event(const rm_pool_event *event, void *user) {
    (void)user;
    expect(event->pool != NULL && event->where != NULL, "an event without a name");
}
static rm_status open_key(const void *key, size_t size, rm_pool_desc *desc, rm_error *error,
                          void *user) {
    (void)key, (void)size, (void)desc, (void)error, (void)user;
    return RM_OK;
}
static rm_status load_value(rm_cache_load *load, const void *key, size_t key_size,
                            rm_deadline deadline, rm_error *error, void *user) {
    (void)key, (void)key_size, (void)deadline, (void)error, (void)user;
    return rm_cache_load_set(load, "loaded", 6);
}
static void removed_value(const void *key, size_t key_size, const void *value, size_t size,
                          rm_cache_cause cause, void *user) {
    (void)key, (void)key_size, (void)value, (void)size, (void)cause, (void)user;
}
static rm_status admit(rm_permit *permit, rm_error *error, void *user) {
    (void)permit, (void)error, (void)user;
    return RM_OK;
}
static void report(rm_permit *permit, rm_outcome outcome, void *user) {
    (void)permit, (void)outcome, (void)user;
}
static rm_outcome classify(rm_status status, void *user) {
    (void)user;
    return rm_breaker_classify(status);
}
static void see_event(rm_breaker *breaker, const rm_breaker_event *event, void *user) {
    (void)breaker, (void)event, (void)user;
}
static bool retryable(rm_status status, void *user) {
    (void)user;
    return rm_retryable(status);
}
static rm_status make_object(const void *key, size_t size, void **value, rm_error *error,
                             void *user) {
    static char objects[1000];
    static unsigned made;
    (void)key, (void)size, (void)error, (void)user;
    *value = &objects[made++ % sizeof objects];
    return RM_OK;
}
static bool evictable(void *value, void *user) {
    (void)value, (void)user;
    return true;
}
static bool take_unit(void *owner, void *request, uint64_t *grant) {
    (void)owner, (void)request;
    *grant = 1;
    return true;
}
static rm_status start_or_stop(void *user, rm_deadline deadline, rm_error *error) {
    (void)user, (void)deadline, (void)error;
    return RM_OK;
}
static rm_health healthy(void *user, rm_error *reason) {
    (void)user, (void)reason;
    return RM_HEALTH_HEALTHY;
}
static void show_stats(void *user, rm_stat_fn visit, void *visit_user) {
    rm_stat stat;
    (void)user;
    memset(&stat, 0, sizeof stat);
    stat.name = "misuse_total";
    stat.help = "One.";
    stat.value = 1;
    visit(&stat, visit_user);
}

/* >>structs that are valid */

static rm_allocator good_rm_allocator(world *w) {
    return w->allocator;
}
static rm_clock good_rm_clock(world *w) {
    return w->clock;
}
static rm_random good_rm_random(world *w) {
    return w->random;
}
static rm_log good_rm_log(world *w) {
    return w->log;
}
static rm_env good_rm_env(world *w) {
    return w->env;
}

static rm_hash_key good_rm_hash_key(world *w) {
    const rm_hash_key key = {1, 2};
    (void)w;
    return key;
}

static rm_hist_desc good_rm_hist_desc(world *w) {
    const rm_hist_desc desc = {3, 9, 16};
    (void)w;
    return desc;
}

static rm_guard guard_of(world *w) {
    rm_guard guard;
    guard.admit_fn = admit;
    guard.report_fn = report;
    guard.user = w;
    return guard;
}

static rm_waitq_desc good_rm_waitq_desc(world *w) {
    rm_waitq_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.clock = &w->clock;
    desc.try_fn = take_unit;
    desc.owner = w;
    return desc;
}

static rm_sem_desc good_rm_sem_desc(world *w) {
    rm_sem_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.clock = &w->clock;
    desc.permits = 3;
    return desc;
}

static rm_registry_desc good_rm_registry_desc(world *w) {
    rm_registry_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.env = &w->env;
    desc.max_entries = 8;
    desc.create_fn = make_object;
    desc.destroy_fn = end_resource;
    desc.evictable_fn = evictable;
    return desc;
}

static rm_resource good_rm_resource(world *w) {
    rm_resource resource = rm_resource_make("new", "kind", w);
    resource.start_fn = start_or_stop;
    resource.stop_fn = start_or_stop;
    resource.health_fn = healthy;
    resource.stats_fn = show_stats;
    return resource;
}

static rm_kv good_rm_kv(world *w) {
    (void)w;
    return rm_kv_string("key", "value");
}

static rm_log_event good_rm_log_event(world *w) {
    rm_log_event event;
    memset(&event, 0, sizeof event);
    w->kv = rm_kv_double("number", 0.5);
    event.wall_ns = w->now;
    event.component = "misuse";
    event.event = "called";
    event.values = &w->kv;
    event.count = 1;
    event.level = RM_LOG_INFO;
    return event;
}

static rm_manager_desc good_rm_manager_desc(world *w) {
    rm_manager_desc desc;
    desc.env = &w->env;
    desc.max_resources = 4;
    return desc;
}

/* With as many endpoints as any count that is not refused. */
static rm_pool_desc good_rm_pool_desc(world *w) {
    static rm_guard guard;
    static rm_pool_endpoint endpoints[64];
    rm_pool_desc desc = rm_pool_desc_default();
    int i;
    guard = guard_of(w);
    for (i = 0; i < 64; ++i)
        endpoints[i].name = "endpoint";
    endpoints[0].guard = &guard;
    desc.env = &w->env;
    desc.create_fn = make_resource;
    desc.destroy_fn = desc.discard_fn = desc.reclaim_fn = end_resource;
    desc.validate_fn = check_resource;
    desc.reset_fn = check_resource;
    desc.classify_fn = classify_result;
    desc.event_fn = see_pool_event;
    desc.guard = &guard;
    desc.endpoints = endpoints;
    desc.endpoint_count = 2;
    desc.max = 4;
    desc.min_idle = 1;
    return desc;
}

static rm_pools_desc good_rm_pools_desc(world *w) {
    rm_pools_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.pool = good_rm_pool_desc(w);
    desc.max_keys = 4;
    desc.max_total = 4;
    desc.open_fn = open_key;
    desc.shut_fn = end_resource;
    return desc;
}

static rm_pool_sizes good_rm_pool_sizes(world *w) {
    const rm_pool_sizes sizes = {3, 1, 1, 2};
    (void)w;
    return sizes;
}

static rm_cache_desc good_rm_cache_desc(world *w) {
    static rm_guard guard;
    rm_cache_desc desc = rm_cache_desc_default();
    guard = guard_of(w);
    desc.env = &w->env;
    desc.max_entries = 8;
    desc.max_pins = 8;
    desc.guard = &guard;
    desc.removed_fn = removed_value;
    return desc;
}

static rm_cache_loader good_rm_cache_loader(world *w) {
    return rm_cache_loader_make(load_value, w);
}

static rm_breaker_desc good_rm_breaker_desc(world *w) {
    rm_breaker_desc desc = rm_breaker_desc_default();
    desc.env = &w->env;
    desc.classify_fn = classify;
    desc.event_fn = see_event;
    return desc;
}

static rm_retry_desc good_rm_retry_desc(world *w) {
    rm_retry_desc desc = rm_retry_desc_default();
    desc.env = &w->env;
    desc.retryable_fn = retryable;
    return desc;
}

static rm_metrics_desc good_rm_metrics_desc(world *w) {
    rm_metrics_desc desc;
    desc.env = &w->env;
    desc.max_families = 8;
    desc.max_series = 8;
    return desc;
}

/* A description whose arrays are as long as any count that is not refused. */
static rm_metric_desc good_rm_metric_desc(world *w) {
    static const char *const labels[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    rm_metric_desc desc = rm_metrics_describe(RM_METRIC_HISTOGRAM, "misuse_seconds", "Misuse.");
    int i;
    for (i = 0; i < NAMES; ++i)
        w->bounds[i] = i < 9 ? i + 1 : 10 * w->bounds[i - 9];
    desc.labels = labels;
    desc.label_count = 1;
    desc.bounds = w->bounds;
    desc.bound_count = 3;
    desc.decimals = 3;
    return desc;
}

/* >>fields of structs */

typedef enum kind { POINTER, FUNCTION, STRING, I64, U64, I32, U32, SIZE, ENUM, DOUBLE } kind;

typedef struct field {
    const char *name;
    size_t offset;
    kind kind;
    int64_t limit; /* the largest value, of an enumeration too */
} field;

typedef struct odd {
    const char *what;
    int64_t value;
} odd;

static const odd odd_numbers[] = {{"0", 0},
                                  {"1", 1},
                                  {"-1", -1},
                                  {"-2", -2},
                                  {"-3", -3},
                                  {"-4", -4},
                                  {"-5", -5},
                                  {"INT32_MIN", INT32_MIN},
                                  {"INT32_MAX", INT32_MAX},
                                  {"UINT32_MAX", UINT32_MAX},
                                  {"INT64_MIN", INT64_MIN},
                                  {"INT64_MAX", INT64_MAX}};
enum { ODD_NUMBERS = sizeof odd_numbers / sizeof *odd_numbers };

static const double odd_doubles[] = {0.0,    -0.0,   -1.0, 2.0,      1e308,
                                     -1e308, 5e-324, NAN,  INFINITY, -INFINITY};
enum { ODD_DOUBLES = sizeof odd_doubles / sizeof *odd_doubles };

static const char *odd_string(int value) {
    static char above_47[49], very_long[3000];
    memset(above_47, 'x', sizeof above_47 - 1);
    memset(very_long, 'x', sizeof very_long - 1);
    switch (value) {
    case 1: return "";
    case 2: return above_47;
    case 3: return very_long;
    case 4: return "\xff\xc3(\xed\xa0\x80";
    case 5: return "a\"b\\c\n{}%s%n";
    default: return NULL;
    }
}
enum { ODD_STRINGS = 5 };

static size_t kind_size(kind k) {
    switch (k) {
    case I32:
    case U32:
    case ENUM: return sizeof(uint32_t);
    case SIZE: return sizeof(size_t);
    case I64:
    case U64: return sizeof(uint64_t);
    case DOUBLE: return sizeof(double);
    case FUNCTION: return sizeof(void (*)(void));
    default: return sizeof(void *);
    }
}

static int field_values(const field *f) {
    switch (f->kind) {
    case FUNCTION: return 1;
    case POINTER: return 2;
    case STRING: return ODD_STRINGS + 1;
    case DOUBLE: return ODD_DOUBLES;
    default: return ODD_NUMBERS + (f->limit < INT64_MAX ? 2 : 0);
    }
}

/* A number above its limit has to be refused, and so has a time below the named ones. */
static void expect_refusal(world *w, kind k, const char *name, int64_t number, int64_t limit) {
    const int64_t seen = k == U32 || k == ENUM ? (int64_t)(uint32_t)number : number;
    if (seen > limit || (k == I64 && strstr(name, "_ns") != NULL && number < RM_STRICT))
        w->expect = RM_E_INVALID;
}

/* Puts a number into a field: an odd one, its limit, or one more.  Returns its name. */
static const char *misuse_number(world *w, const field *f, int value, char *field_at) {
    const bool listed = value < ODD_NUMBERS;
    const int64_t number = listed ? odd_numbers[value].value : f->limit + (value - ODD_NUMBERS);
    const uint32_t small = (uint32_t)number;
    expect_refusal(w, f->kind, f->name, number, f->limit);
    if (kind_size(f->kind) == sizeof small) /* little and big endian alike */
        memcpy(field_at, &small, sizeof small);
    else
        memcpy(field_at, &number, sizeof number);
    return listed ? odd_numbers[value].what : value == ODD_NUMBERS ? "its limit" : "its limit + 1";
}

static void misuse_field(world *w, const field *f, int value, char *field_at) {
    const void *pointer = NULL;
    char what[128];
    const char *how = "an odd double";
    if (f->kind == POINTER || f->kind == STRING || f->kind == FUNCTION) {
        if (f->kind == POINTER && value == 1) pointer = w->zeroes;
        if (f->kind == STRING) pointer = odd_string(value);
        how = pointer == NULL ? "NULL" : f->kind == POINTER ? "zeroed" : "an odd string";
        memcpy(field_at, &pointer, sizeof pointer);
    } else if (f->kind == DOUBLE) {
        memcpy(field_at, &odd_doubles[value], sizeof *odd_doubles);
    } else {
        how = misuse_number(w, f, value, field_at);
    }
    snprintf(what, sizeof what, ".%s = %s", f->name, how);
    misuse(w, what);
}

#define FIELDS(type) fields_of_##type, sizeof fields_of_##type / sizeof *fields_of_##type

/* A struct that was filled by a good_ function, with one field misused. */
static void *arg_struct(world *w, int value, void *memory, size_t size, const field *fields,
                        size_t count) {
    size_t i;
    if (value == 0) return memory;
    if (value == 1) return null(w);
    if (value == 2 && fields != NULL) {
        misuse(w, "zeroed");
        memset(memory, 0, size);
        return memory;
    }
    value -= 3;
    for (i = 0; i < count; ++i) {
        if (value < field_values(&fields[i])) {
            w->fields = fields;
            w->field_count = count;
            misuse_field(w, &fields[i], value, (char *)memory + fields[i].offset);
            return memory;
        }
        value -= field_values(&fields[i]);
    }
    past_end(w);
    return memory;
}

/* >>numbers and strings */

static int64_t odd_number(world *w, int value, int64_t good) {
    if (value == 0) return good;
    if (value > ODD_NUMBERS) past_end(w);
    if (w->done) return good;
    misuse(w, odd_numbers[value - 1].what);
    return odd_numbers[value - 1].value;
}

static int64_t arg_int64_t(world *w, int value) {
    return odd_number(w, value, 1);
}
static int32_t arg_int32_t(world *w, int value) {
    return (int32_t)odd_number(w, value, 1);
}
static uint64_t arg_uint64_t(world *w, int value) {
    return (uint64_t)odd_number(w, value, 1);
}
static uint32_t arg_uint32_t(world *w, int value) {
    return (uint32_t)odd_number(w, value, 1);
}
static size_t arg_size_t(world *w, int value) {
    return (size_t)odd_number(w, value, 1);
}
static bool arg_bool(world *w, int value) {
    if (value == 1) misuse(w, "true");
    if (value > 1) past_end(w);
    return value == 1;
}
static double arg_double(world *w, int value) {
    if (value > ODD_DOUBLES) past_end(w);
    if (value > 0) misuse(w, "an odd double");
    return value == 0 || w->done ? 0.5 : odd_doubles[value - 1];
}
static int arg_enum(world *w, int value, int last) {
    const int64_t number = odd_number(w, value, 0);
    if (value > 0 && !w->done) expect_refusal(w, ENUM, "", number, last);
    return (int)number;
}

/* Times below the named ones are refused wherever there is a status to say so. */
static int64_t arg_int64_t__timeout_ns(world *w, int value) {
    const int64_t ns = arg_int64_t(w, value);
    if (ns < RM_FOREVER) w->expect = RM_E_INVALID;
    return ns;
}
static int64_t arg_int64_t__ttl_ns(world *w, int value) {
    const int64_t ns = arg_int64_t(w, value);
    if (ns < RM_STRICT) w->expect = RM_E_INVALID;
    return ns;
}

/* The length of "key", "data" and other bytes: a length that is no lie. */
static size_t length(world *w, int value) {
    static const char *const names[] = {"", "0", "1", "2"};
    if (value > 3) past_end(w);
    if (value > 0 && value <= 3) misuse(w, names[value]);
    return value == 0 || w->done ? 3 : (size_t)value - 1;
}
static size_t arg_size_t__size(world *w, int value) {
    return length(w, value);
}
static size_t arg_size_t__key_size(world *w, int value) {
    return length(w, value);
}

static const char *arg_char_p(world *w, int value) {
    if (value == 1) return (const char *)null(w);
    if (value > ODD_STRINGS + 1) past_end(w);
    if (value == 0 || w->done) return "name";
    misuse(w, "an odd string");
    return odd_string(value - 1);
}
static const void *arg_void_p(world *w, int value) {
    if (value == 1) return null(w);
    if (value > 1) past_end(w);
    return "key";
}
static void *arg_void_p__user(world *w, int value) {
    if (value == 1) misuse(w, "NULL");
    if (value > 1) past_end(w);
    return value == 1 ? NULL : w;
}
static void *arg_void_p__request(world *w, int value) {
    return arg_void_p__user(w, value);
}

/* >>error records */

static rm_error *arg_rm_error_p(world *w, int value) {
    if (value == 1) misuse(w, "NULL"); /* always allowed */
    if (value > 1) past_end(w);
    if (value == 1) return NULL;
    w->error = (rm_error *)malloc(sizeof *w->error);
    memset(w->error, PATTERN, sizeof *w->error);
    return w->error;
}

static rm_errors *arg_rm_errors_p(world *w, int value) {
    if (value == 1) misuse(w, "NULL");
    if (value > 1) past_end(w);
    if (value == 1) return NULL;
    w->errors = (rm_errors *)calloc(1, sizeof *w->errors);
    return w->errors;
}

static rm_error *arg_rm_error_set__error(world *w, int value) {
    return (rm_error *)arg_void_p__user(w, value) == NULL ? NULL : (rm_error *)(void *)w->scratch;
}
static rm_status arg_rm_error_set__status(world *w, int value) {
    return (rm_status)odd_number(w, value, RM_E_FAILED);
}
static const char *arg_rm_error_set__format(world *w, int value) {
    if (value == 1) return (const char *)null(w);
    if (value > 1) past_end(w);
    return "%s";
}
static rm_errors *arg_rm_errors_add__list(world *w, int value) {
    static rm_errors list;
    memset(&list, value == 2 ? 0xFF : 0, sizeof list);
    if (value == 1) return (rm_errors *)null(w);
    if (value == 2) misuse(w, "never cleared");
    if (value > 2) past_end(w);
    return &list;
}

/* >>time, memory, threads */

static int64_t arg_rm_sleep__ns(world *w, int value) {
    const int64_t ns = arg_int64_t(w, value);
    return ns < INT64_MAX - w->now ? ns : INT64_MAX - w->now - 1;
}

static rm_deadline arg_rm_deadline(world *w, int value) {
    rm_deadline deadline;
    deadline.at_ns = odd_number(w, value, 0);
    return deadline;
}

static void after_rm_alloc(world *w, void *result, const rm_allocator *allocator, size_t size) {
    (void)w;
    if (size <= ROOM) expect(result != NULL, "no memory");
    rm_free(allocator, result, size);
}

static size_t arg_rm_alloc__size(world *w, int value) {
    return arg_size_t(w, value);
}
static rm_allocator *arg_rm_free__allocator(world *w, int value) {
    if (value > 0) past_end(w);
    return &w->allocator;
}
static void *arg_rm_free__pointer(world *w, int value) {
    if (value == 1) return null(w);
    if (value > 1) past_end(w);
    w->memory = rm_alloc(&w->allocator, 7);
    return w->memory;
}
static void after_rm_free(world *w, const rm_allocator *allocator, void *pointer, size_t size) {
    (void)allocator, (void)size;
    if (pointer == w->memory) w->memory = NULL;
}
static size_t arg_rm_free__size(world *w, int value) {
    if (value > 0) past_end(w);
    return 7;
}

static rm_mutex *arg_rm_mutex_p(world *w, int value) {
    if (value == 1) return (rm_mutex *)null(w);
    if (value > 1) past_end(w);
    if (!w->mutex_made) w->mutex_made = rm_mutex_init(&w->mutex) == RM_OK;
    return &w->mutex;
}
static rm_mutex *locked_mutex(world *w, int value) {
    rm_mutex *mutex = arg_rm_mutex_p(w, value);
    if (mutex != NULL && !w->done) rm_mutex_lock(mutex);
    w->mutex_locked = mutex != NULL && !w->done;
    return mutex;
}
static rm_mutex *arg_rm_mutex_unlock__mutex(world *w, int value) {
    return locked_mutex(w, value);
}
static rm_mutex *arg_rm_cond_wait__mutex(world *w, int value) {
    return locked_mutex(w, value);
}
static void after_rm_mutex_lock(world *w, rm_mutex *mutex) {
    w->mutex_locked = mutex != NULL;
}
static void after_rm_mutex_try_lock(world *w, bool taken, rm_mutex *mutex) {
    expect(taken == (mutex != NULL), "not taken");
    w->mutex_locked = taken;
}
static void after_rm_mutex_unlock(world *w, rm_mutex *mutex) {
    if (mutex != NULL) w->mutex_locked = false;
}
static void after_rm_mutex_destroy(world *w, rm_mutex *mutex) {
    if (mutex != NULL) w->mutex_made = false;
}
static void take_rm_mutex_p(world *w, rm_mutex *mutex) {
    (void)w;
    rm_mutex_lock(mutex);
    rm_mutex_unlock(mutex);
    rm_mutex_destroy(mutex);
}

static rm_cond *arg_rm_cond_p(world *w, int value) {
    if (value == 1) return (rm_cond *)null(w);
    if (value > 1) past_end(w);
    if (!w->cond_made) w->cond_made = rm_cond_init(&w->cond) == RM_OK;
    return &w->cond;
}
static void after_rm_cond_destroy(world *w, rm_cond *cond) {
    if (cond != NULL) w->cond_made = false;
}
static void take_rm_cond_p(world *w, rm_cond *cond) {
    (void)w;
    rm_cond_broadcast(cond);
    rm_cond_destroy(cond);
}
static int64_t arg_rm_cond_wait__until_ns(world *w, int value) {
    static const int64_t past[] = {1, 0, -1, -2, INT64_MIN};
    if (value > 4) past_end(w);
    if (value > 0) misuse(w, "in the past");
    return w->done ? 1 : past[value];
}

static void run_thread(void *user) {
    (void)user;
}
static void (*arg_rm_thread_start__fn(world *w, int value))(void *) {
    if (value == 1) (void)null(w);
    if (value > 1) past_end(w);
    return value == 0 ? run_thread : NULL;
}
static void take_rm_thread_p(world *w, rm_thread *thread) {
    (void)w;
    rm_thread_join(thread);
}
static rm_thread *arg_rm_thread_p(world *w, int value) {
    memset(&w->thread, 0, sizeof w->thread);
    if (value == 1) return (rm_thread *)null(w);
    if (value == 2) misuse(w, "zeroed");
    if (value > 2) past_end(w);
    if (value == 0) expect(rm_thread_start(&w->thread, run_thread, w) == RM_OK, "no thread");
    return &w->thread;
}

static rm_virtual_clock *arg_rm_virtual_clock_p(world *w, int value) {
    if (value == 1) return (rm_virtual_clock *)null(w);
    if (value > 1) past_end(w);
    if (!w->virtual_clock_made)
        w->virtual_clock_made = rm_virtual_clock_init(&w->virtual_clock, 0, true) == RM_OK;
    return &w->virtual_clock;
}
static void take_rm_virtual_clock_p(world *w, rm_virtual_clock *clock) {
    const rm_clock c = rm_virtual_clock_clock(clock);
    const int64_t now = rm_now(&c);
    (void)w;
    rm_virtual_clock_advance(clock, 1);
    expect(rm_now(&c) == rm_time_add(now, 1), "it does not advance");
    rm_virtual_clock_destroy(clock);
}
static void after_rm_virtual_clock_destroy(world *w, rm_virtual_clock *clock) {
    if (clock != NULL) w->virtual_clock_made = false;
}
static uint32_t arg_rm_virtual_clock_await__count(world *w, int value) {
    if (value > 0) past_end(w);
    return 0;
}

/* >>random, histogram, cancel */

static rm_rng *arg_rm_rng_p(world *w, int value) {
    if (value == 1) return (rm_rng *)null(w);
    if (value == 2) misuse(w, "zeroed");
    if (value == 2) memset(&w->rng, 0, sizeof w->rng);
    if (value > 2) past_end(w);
    return &w->rng;
}

static rm_hist *arg_rm_hist_p(world *w, int value) {
    const rm_hist_desc desc = good_rm_hist_desc(w);
    if (value == 1) return (rm_hist *)null(w);
    if (value == 2) misuse(w, "zeroed");
    if (value > 2) past_end(w);
    expect(rm_hist_init(&w->hist, &desc, w->bins, sizeof w->bins) == RM_OK, "no histogram");
    expect(rm_hist_record(&w->hist, 5000) == RM_OK, "not recorded");
    if (value == 2) memset(&w->hist, 0, sizeof w->hist);
    return &w->hist;
}
static rm_hist *arg_rm_hist_merge__from(world *w, int value) {
    rm_hist_desc desc = good_rm_hist_desc(w);
    if (value == 1) return (rm_hist *)null(w);
    if (value > 3) past_end(w);
    if (value == 2) misuse(w, "zeroed");
    if (value == 3) misuse(w, "made from another desc");
    if (value >= 2) w->expect = RM_E_INVALID;
    desc.last_decade -= value == 3;
    expect(rm_hist_init(&w->other_hist, &desc, w->other_bins, sizeof w->other_bins) == RM_OK,
           "no histogram");
    if (value == 2) memset(&w->other_hist, 0, sizeof w->other_hist);
    return &w->other_hist;
}
static void *arg_rm_hist_init__memory(world *w, int value) {
    if (value == 1) return null(w);
    if (value > 1) past_end(w);
    return w->bins;
}
static size_t arg_rm_hist_init__size(world *w, int value) {
    if (value > 2) past_end(w);
    if (value > 0) misuse(w, "too small");
    if (value > 0) w->expect = RM_E_TOO_LARGE;
    return value == 0 ? sizeof w->bins : value == 1 ? 0 : 8;
}
static void take_rm_hist_p(world *w, rm_hist *hist) {
    (void)w;
    expect(rm_hist_record(hist, 1) == RM_OK, "not recorded");
    expect(rm_hist_quantile(hist, 0.5) == 1, "not what was recorded");
}

static rm_cancel *need_cancel(world *w) {
    if (!w->cancel_made) w->cancel_made = rm_cancel_init(&w->cancel) == RM_OK;
    return &w->cancel;
}
static rm_cancel *arg_rm_cancel_p(world *w, int value) {
    if (value == 1) return (rm_cancel *)null(w);
    if (value > 2) past_end(w);
    if (value == 2) misuse(w, "requested");
    if (value == 2) rm_cancel_request(need_cancel(w));
    return need_cancel(w);
}
static void take_rm_cancel_p(world *w, rm_cancel *cancel) {
    (void)w;
    expect(!rm_cancel_requested(cancel), "requested from the start");
    expect(rm_cancel_destroy(cancel) == RM_OK, "not destroyed");
}
static void after_rm_cancel_destroy(world *w, rm_status status, rm_cancel *cancel) {
    (void)cancel;
    if (status == RM_OK) w->cancel_made = false;
}

/* >>wait queue and semaphore */

static bool units; /* has the queue something to hand out? */

static bool take_unit_if_any(void *owner, void *request, uint64_t *grant) {
    return units && take_unit(owner, request, grant);
}
static void make_queue(world *w, rm_waitq *q, bool *made) {
    rm_waitq_desc desc = good_rm_waitq_desc(w);
    desc.try_fn = take_unit_if_any;
    if (!*made) *made = rm_waitq_init(q, &desc) == RM_OK;
}
static rm_waitq *arg_rm_waitq_p(world *w, int value) {
    if (value == 1) return (rm_waitq *)null(w);
    if (value > 2) past_end(w);
    make_queue(w, &w->queue, &w->queue_made);
    if (value == 2) misuse(w, "closed");
    if (value == 2) rm_waitq_close(&w->queue);
    return &w->queue;
}
/* After a wait that was granted: it is the one that goes on. */
static rm_waitq *arg_rm_waitq_wait_on__q(world *w, int value) {
    const rm_deadline none = {0};
    uint64_t grant = 0;
    rm_waitq *q = arg_rm_waitq_p(w, value == 2 ? 0 : value);
    if (q == NULL || w->done) return q;
    expect(rm_waitq_wait(q, NULL, none, NULL, &grant) == RM_OK, "no wait");
    return value == 2 ? arg_rm_waitq_p(w, 2) : q;
}
static rm_waitq *locked_queue(world *w, int value) {
    rm_waitq *q = arg_rm_waitq_p(w, value);
    w->locked = q != NULL && !w->done;
    if (w->locked) rm_waitq_lock(q);
    return q;
}
static rm_waitq *arg_rm_waitq_unlock__q(world *w, int value) {
    return locked_queue(w, value);
}
static rm_waitq *arg_rm_waitq_wait_locked__q(world *w, int value) {
    return locked_queue(w, value);
}
static rm_waitq *arg_rm_waitq_complete__q(world *w, int value) {
    return locked_queue(w, value);
}
static void after_rm_waitq_lock(world *w, rm_waitq *q) {
    w->locked = q != NULL;
}
static void after_rm_waitq_unlock(world *w, rm_waitq *q) {
    if (q != NULL) w->locked = false;
}
static void after_rm_waitq_destroy(world *w, rm_status status, rm_waitq *q) {
    (void)q;
    if (status == RM_OK) w->queue_made = false;
}
static void use_queue(rm_waitq *q) {
    const rm_deadline none = {0};
    rm_waitq_stats s;
    uint64_t grant = 0;
    units = true;
    expect(rm_waitq_stats_get(q, &s) == RM_OK, "no statistics");
    expect(s.waits == s.granted + s.timeouts + s.cancelled + s.ended && s.waiting == 0,
           "the waits do not add up");
    rm_waitq_open(q);
    expect(rm_waitq_wait(q, NULL, none, NULL, &grant) == RM_OK && grant == 1, "no wait");
    expect(rm_waitq_destroy(q) == RM_OK, "not destroyed");
}
static void take_rm_waitq_p(world *w, rm_waitq *q) {
    const rm_deadline past = {INT64_MIN};
    uint64_t grant = 0;
    (void)w;
    expect(rm_waitq_wait(q, NULL, past, NULL, &grant) == RM_E_TIMEOUT, "a wait without time");
    rm_waitq_close(q);
    expect(rm_waitq_destroy(q) == RM_OK, "not destroyed");
}

static void end_wait(rm_status status, uint64_t grant, void *user) {
    (void)status, (void)grant, (void)user;
}
static rm_waitq_done_fn arg_rm_waitq_done_fn(world *w, int value) {
    if (value == 1) (void)null(w);
    if (value > 1) past_end(w);
    return value == 1 ? NULL : end_wait;
}
static rm_waiter *arg_rm_waitq_add__waiter(world *w, int value) {
    units = false; /* it shall queue */
    if (value == 1) return (rm_waiter *)null(w);
    if (value > 1) past_end(w);
    return &w->waiter;
}
static rm_waiter *arg_rm_waitq_remove__waiter(world *w, int value) {
    const rm_deadline none = {0};
    rm_waitq *q = value == 3 ? &w->other_queue : &w->queue;
    units = value == 4;
    if (value == 1) return (rm_waiter *)null(w);
    if (value > 4) past_end(w);
    if (value >= 2) w->expect = RM_E_STALE;
    if (value == 2) misuse(w, "zeroed");
    if (value == 3) misuse(w, "of another queue");
    if (value == 4) misuse(w, "done before");
    make_queue(w, &w->queue, &w->queue_made);
    make_queue(w, &w->other_queue, &w->other_queue_made);
    if (value != 2 && !w->queue.closed)
        expect(rm_waitq_add(q, &w->waiter, NULL, none, NULL, end_wait, w) == RM_OK, "not queued");
    return &w->waiter;
}
/* Of one that was served, and goes on waiting. */
static rm_waiter *arg_rm_waitq_add_on__waiter(world *w, int value) {
    const rm_deadline none = {0};
    rm_waitq *q = value == 3 ? &w->other_queue : &w->queue;
    bool closed;
    if (value == 1) return (rm_waiter *)null(w);
    if (value > 6) past_end(w);
    if (value >= 2) w->expect = value == 6 ? RM_E_CANCELLED : RM_E_STALE;
    if (value == 2) misuse(w, "zeroed");
    if (value == 3) misuse(w, "of another queue");
    if (value == 4) misuse(w, "waits");
    if (value == 5) misuse(w, "not served");
    if (value == 6) misuse(w, "removed since");
    make_queue(w, &w->queue, &w->queue_made);
    make_queue(w, &w->other_queue, &w->other_queue_made);
    if (value == 2) return &w->waiter;
    closed = q->closed;
    rm_waitq_open(q);
    units = value != 4 && value != 5;
    expect(rm_waitq_add(q, &w->waiter, NULL, none, NULL, end_wait, w) == RM_OK, "not queued");
    if (value == 5) expect(rm_waitq_remove(q, &w->waiter) == RM_OK, "not removed");
    if (value == 6) expect(rm_waitq_remove(q, &w->waiter) == RM_E_STALE, "was not served");
    if (closed) rm_waitq_close(q);
    units = false; /* it shall queue */
    return &w->waiter;
}

static rm_sem *arg_rm_sem_p(world *w, int value) {
    const rm_sem_desc desc = good_rm_sem_desc(w);
    if (value == 1) return (rm_sem *)null(w);
    if (value > 1) past_end(w);
    if (!w->sem_made) w->sem_made = rm_sem_init(&w->sem, &desc) == RM_OK;
    return &w->sem;
}
static rm_sem *arg_rm_sem_release__sem(world *w, int value) {
    rm_sem *sem = arg_rm_sem_p(w, value == 2 ? 0 : value);
    if (value == 2) misuse(w, "with all permits free");
    if (value == 2) w->expect = RM_E_STALE;
    if (value == 0 && rm_sem_acquire(sem, RM_NOWAIT, NULL) == RM_OK) ++w->permits_out;
    w->done = value > 2;
    return sem;
}
static void after_rm_sem_acquire(world *w, rm_status status, rm_sem *sem, int64_t timeout_ns,
                                 rm_cancel *cancel) {
    (void)sem, (void)timeout_ns, (void)cancel;
    if (status == RM_OK) ++w->permits_out;
}
static void after_rm_sem_release(world *w, rm_status status, rm_sem *sem) {
    (void)sem;
    if (status == RM_OK) --w->permits_out;
}
static void after_rm_sem_destroy(world *w, rm_status status, rm_sem *sem) {
    (void)sem;
    if (status == RM_OK) w->sem_made = false;
}
static void take_rm_sem_p(world *w, rm_sem *sem) {
    (void)w;
    expect(rm_sem_acquire(sem, RM_NOWAIT, NULL) == RM_OK, "no permit");
    expect(rm_sem_release(sem) == RM_OK, "no release");
    expect(rm_sem_destroy(sem) == RM_OK, "not destroyed");
}

/* >>registry */

static rm_registry *need_registry(world *w, rm_registry **at_world) {
    const rm_registry_desc desc = good_rm_registry_desc(w);
    if (*at_world == NULL)
        expect(rm_registry_create(&desc, at_world, NULL) == RM_OK, "no registry");
    return *at_world;
}
static rm_registry *arg_rm_registry_p(world *w, int value) {
    if (value == 1) return (rm_registry *)null(w);
    if (value > 1) past_end(w);
    return need_registry(w, &w->registry);
}
static void after_rm_registry_destroy(world *w, rm_status status, rm_registry *registry) {
    if (status == RM_OK && registry != NULL) w->registry = NULL;
}
static const void *arg_rm_registry_remove__key(world *w, int value) {
    rm_registry_ref ref;
    if (rm_registry_get(need_registry(w, &w->registry), "key", 3, &ref, NULL) == RM_OK)
        expect(rm_registry_put(w->registry, &ref) == RM_OK, "not put");
    return arg_void_p(w, value);
}
/* A key above max_key is refused before it is read. */
static size_t key_length(world *w, int value, rm_status refusal) {
    if (value < 4) return length(w, value);
    if (value > 4) past_end(w);
    misuse(w, "SIZE_MAX");
    w->expect = refusal;
    return SIZE_MAX;
}
static size_t arg_rm_registry_get__size(world *w, int value) {
    return key_length(w, value, RM_E_TOO_LARGE);
}
static size_t arg_rm_registry_remove__size(world *w, int value) {
    return key_length(w, value, RM_E_NOT_FOUND);
}
/* A reference that was put: of an entry that is there, of one that was removed, or of a registry
   that is no more. */
static rm_registry_ref put_ref(rm_registry *registry, bool removed, bool gone) {
    rm_registry_ref ref, copy;
    memset(&ref, 0, sizeof ref);
    expect(rm_registry_get(registry, "old", 3, &ref, NULL) == RM_OK, "not borrowed");
    copy = ref;
    expect(rm_registry_put(registry, &ref) == RM_OK, "not put");
    if (removed) expect(rm_registry_remove(registry, "old", 3) == RM_OK, "not removed");
    if (gone) expect(rm_registry_destroy(registry) == RM_OK, "not destroyed");
    return copy;
}
static rm_registry_ref *arg_rm_registry_ref_p(world *w, int value) {
    static const char *const names[] = {"zeroed",
                                        "all bits set",
                                        "a copy of one that was put",
                                        "of an entry that was removed",
                                        "of another registry",
                                        "of a registry that was destroyed"};
    rm_registry *registry = need_registry(w, &w->registry), *gone = NULL;
    rm_registry_ref *odd = (rm_registry_ref *)(void *)w->scratch;
    if (value > 7) past_end(w);
    if (w->done) return NULL;
    expect(rm_registry_get(registry, "key", 3, &w->ref, NULL) == RM_OK, "not borrowed");
    if (value == 1) return (rm_registry_ref *)null(w);
    if (value >= 2) misuse(w, names[value - 2]);
    if (value >= 2) w->expect = RM_E_STALE;
    memset(odd, value == 3 ? 0xFF : 0, sizeof *odd);
    if (value == 4 || value == 5) *odd = put_ref(registry, value == 5, false);
    if (value == 6) {
        registry = need_registry(w, &w->other_registry);
        expect(rm_registry_get(registry, "key", 3, &w->other_ref, NULL) == RM_OK, "not borrowed");
        *odd = w->other_ref;
    } else if (value == 7) {
        *odd = put_ref(need_registry(w, &gone), false, true);
    }
    keep(w, "ref", value == 0 ? &w->ref : odd, sizeof *odd);
    return value == 0 ? &w->ref : odd;
}
/* A copy of one that was put is as good as any while its entry is there. */
static rm_registry_ref *arg_rm_registry_hold__ref(world *w, int value) {
    return arg_rm_registry_ref_p(w, value == 4 ? 5 : value);
}
static void take_rm_registry_ref_p(world *w, rm_registry_ref *ref) {
    expect(rm_registry_put(w->registry, ref) == RM_OK, "not put");
}
static void take_rm_registry_pp(world *w, rm_registry **registry) {
    rm_registry_ref ref;
    (void)w;
    if (rm_registry_get(*registry, "key", 3, &ref, NULL) == RM_OK)
        expect(rm_registry_put(*registry, &ref) == RM_OK, "not put");
    expect(rm_registry_destroy(*registry) == RM_OK, "not destroyed");
}
static bool see_entry(const void *key, size_t size, void *value, void *user) {
    (void)key, (void)size, (void)value, (void)user;
    return true;
}
static bool (*arg_rm_registry_each__fn(world *w, int value))(const void *, size_t, void *, void *) {
    if (value == 1) (void)null(w);
    if (value > 1) past_end(w);
    return value == 1 ? NULL : see_entry;
}

/* >>text, log, resource */

static bool stop_text(const char *data, size_t size, void *user) {
    (void)data, (void)size, (void)user;
    return false;
}
static rm_text *arg_rm_text_p(world *w, int value) {
    static char page[8192];
    w->text = rm_text_make(page, sizeof page);
    if (value == 1) return (rm_text *)null(w);
    if (value == 2) {
        misuse(w, "zeroed");
        memset(&w->text, 0, sizeof w->text);
    } else if (value == 3) {
        misuse(w, "of one byte");
        w->text.size = 1;
    } else if (value == 4) {
        misuse(w, "with a flush_fn that says stop");
        w->text.size = 1;
        w->text.flush_fn = stop_text;
    } else if (value > 4) {
        past_end(w);
    }
    return &w->text;
}
static char *arg_char_p__buffer(world *w, int value) {
    if (value == 1) return (char *)null(w);
    if (value > 1) past_end(w);
    return w->scratch;
}
static const char *arg_char_p__data(world *w, int value) {
    if (value == 1) return (const char *)null(w);
    if (value > 1) past_end(w);
    return "a\xff\"";
}
static size_t arg_rm_log_emit__count(world *w, int value) {
    if (value == 1) misuse(w, "0");
    if (value > 1) past_end(w);
    return value == 0;
}
static size_t arg_rm_log_format__size(world *w, int value) {
    static const size_t sizes[] = {512, 0, 1, 255};
    if (value > 0) misuse(w, "too small");
    if (value > 3) past_end(w);
    return w->done ? 0 : sizes[value];
}
static void *arg_rm_log_to_stream__user(world *w, int value) {
    static rm_log_stream stream;
    if (stream.stream == NULL) stream.stream = fopen("/dev/null", "w");
    if (value == 1) return null(w);
    if (value > 1) past_end(w);
    return &stream;
}

/* >>manager */

static rm_manager *arg_rm_manager_p(world *w, int value) {
    const rm_manager_desc desc = good_rm_manager_desc(w);
    rm_resource resource = good_rm_resource(w);
    if (value == 1) return (rm_manager *)null(w);
    if (value > 2) past_end(w);
    resource.name = "name";
    if (w->manager == NULL) {
        expect(rm_manager_create(&desc, &w->manager, NULL) == RM_OK, "no manager");
        expect(rm_manager_add(w->manager, &resource, NULL) == RM_OK, "not added");
    }
    if (value == 2) misuse(w, "running");
    if (value == 2) expect(rm_manager_start(w->manager, 0, NULL) == RM_OK, "not started");
    return w->manager;
}
static void after_rm_manager_destroy(world *w, rm_status status, rm_manager *manager) {
    if (status == RM_OK && manager != NULL) w->manager = NULL;
}
static void use_manager(rm_manager *manager) {
    rm_resource resource;
    expect(rm_manager_stop(manager, 0, NULL) == RM_OK, "not stopped");
    expect(rm_manager_start(manager, 0, NULL) == RM_OK, "not started");
    expect(rm_manager_get(manager, "none", &resource) == RM_E_NOT_FOUND, "found");
    expect(rm_manager_stop(manager, 0, NULL) == RM_OK, "not stopped");
    expect(rm_manager_destroy(manager) == RM_OK, "not destroyed");
}
static void take_rm_manager_pp(world *w, rm_manager **manager) {
    (void)w;
    use_manager(*manager);
}
static uint32_t arg_rm_manager_status__capacity(world *w, int value) {
    if (value == 1) misuse(w, "0");
    if (value > 1) past_end(w);
    return value == 0;
}

/* >>pool */

static rm_pool *need_pool(world *w, rm_pool **at_world) {
    const rm_pool_desc desc = good_rm_pool_desc(w);
    if (*at_world == NULL) expect(rm_pool_create(&desc, at_world, NULL) == RM_OK, "no pool");
    return *at_world;
}
static rm_pool *arg_rm_pool_p(world *w, int value) {
    if (value == 1) return (rm_pool *)null(w);
    if (value > 2) past_end(w);
    if (value == 2) misuse(w, "closed");
    if (value == 2) expect(rm_pool_close(need_pool(w, &w->pool), 0, NULL) == RM_OK, "not closed");
    return need_pool(w, &w->pool);
}
static void lend(rm_pool *pool, rm_lease *lease) {
    expect(rm_pool_acquire(pool, RM_NOWAIT, lease, NULL) == RM_OK, "nothing lent");
}
static void odd_lease(world *w, int value, rm_lease *odd) {
    rm_lease copy;
    rm_pool *gone = NULL;
    static const char *const names[] = {"zeroed",
                                        "a copy of one that was released",
                                        "of another pool",
                                        "of a pool that was destroyed",
                                        "with a slot that is none",
                                        "with another sequence",
                                        "all bits set"};
    misuse(w, names[value - 2]);
    w->expect = value == 2 || value == 3 || value == 7 ? RM_E_STALE : RM_E_FOREIGN;
    memset(odd, 0, sizeof *odd);
    if (value == 3) {
        lend(w->pool, &copy);
        *odd = copy;
        expect(rm_pool_release(w->pool, &copy, RM_RELEASE_OK) == RM_OK, "not released");
    } else if (value == 4) {
        lend(need_pool(w, &w->other_pool), &w->other_lease);
        *odd = w->other_lease;
    } else if (value == 5) {
        lend(need_pool(w, &gone), &copy);
        *odd = copy;
        expect(rm_pool_release(gone, &copy, RM_RELEASE_OK) == RM_OK, "not released");
        expect(rm_pool_destroy(gone) == RM_OK, "not destroyed");
        lend(need_pool(w, &w->other_pool), &w->other_lease); /* perhaps where that one was */
    } else if (value == 6 || value == 7) {
        *odd = w->lease;
        if (value == 6) odd->slot = UINT32_MAX;
        if (value == 7) ++odd->sequence;
    } else if (value == 8) {
        memset(odd, 0xFF, sizeof *odd);
    }
}
static rm_lease *arg_rm_lease_p(world *w, int value) {
    rm_lease *lease = value < 2 ? &w->lease : (rm_lease *)(void *)w->scratch;
    if (value > 8) past_end(w);
    if (w->done) return NULL;
    expect(need_pool(w, &w->pool) != NULL, "no pool");
    if (rm_pool_acquire(w->pool, RM_NOWAIT, &w->lease, NULL) != RM_OK)
        memset(&w->lease, 0, sizeof w->lease); /* of a closed pool */
    if (value == 1) return (rm_lease *)null(w);
    if (value >= 2) odd_lease(w, value, lease);
    keep(w, "lease", lease, sizeof *lease);
    return lease;
}
static void take_rm_lease_p(world *w, rm_lease *lease) {
    expect(rm_pool_release(w->pool, lease, RM_RELEASE_OK) == RM_OK, "not released");
}
static void after_rm_pool_destroy(world *w, rm_status status, rm_pool *pool) {
    if (status == RM_OK && pool != NULL) w->pool = NULL;
}
static void use_pool(rm_pool *pool) {
    const rm_deadline none = {0};
    const rm_resource resource = rm_pool_resource(pool);
    rm_lease lease;
    rm_error why;
    expect(rm_pool_resume(pool) == RM_OK, "not resumed");
    expect(rm_pool_close(pool, 0, NULL) == RM_OK, "not closed");
    expect(resource.start_fn(resource.user, none, &why) == RM_OK, "not opened again");
    lend(pool, &lease);
    expect(rm_pool_release(pool, &lease, RM_RELEASE_BROKEN) == RM_OK, "not released");
    expect(rm_pool_destroy(pool) == RM_OK, "not destroyed");
}
static void take_rm_pool_pp(world *w, rm_pool **pool) {
    (void)w;
    use_pool(*pool);
}

static rm_error *arg_rm_pool_release_result__result(world *w, int value) {
    static rm_error result;
    (void)rm_error_set(&result, value == 2 ? RM_OK : RM_E_TIMEOUT, 0, "db", "no answer");
    if (value == 1) return (rm_error *)null(w);
    if (value == 2) misuse(w, "a success");
    if (value > 2) past_end(w);
    return &result;
}
static rm_error *arg_rm_pools_release_result__result(world *w, int value) {
    return arg_rm_pool_release_result__result(w, value);
}
static void *arg_void_p__data(world *w, int value) {
    return arg_void_p__user(w, value);
}
static uint32_t *arg_rm_pool_prewarm__made(world *w, int value) {
    return (uint32_t *)arg_void_p__user(w, value) == NULL ? NULL : (uint32_t *)(void *)w->scratch;
}
static bool see_lease(const rm_pool_lease_info *lease, void *user) {
    (void)lease, (void)user;
    return true;
}
static bool (*arg_rm_pool_leases__fn(world *w, int value))(const rm_pool_lease_info *, void *) {
    if (value == 1) (void)null(w);
    if (value > 1) past_end(w);
    return value == 1 ? NULL : see_lease;
}

static rm_status use_resource(void *resource, rm_error *error, void *user) {
    (void)resource, (void)error, (void)user;
    return RM_OK;
}
static rm_status use_in_vain(void *resource, rm_error *error, void *user) {
    (void)resource, (void)error, (void)user;
    return RM_E_REFUSED;
}
static rm_pool_use_fn arg_rm_pool_use_fn(world *w, int value) {
    if (value == 1) (void)null(w);
    if (value == 2) misuse(w, "fails");
    if (value > 2) past_end(w);
    return value == 0 ? use_resource : value == 1 ? NULL : use_in_vain;
}
static void judge_error(world *w, rm_status status);
static void after_rm_pool_scope_open(world *w, rm_pool_scope scope, rm_pool *pool,
                                     int64_t timeout_ns, rm_error *error) {
    (void)error;
    if (pool == NULL || timeout_ns < RM_FOREVER)
        expect(scope.status == RM_E_INVALID, "opens what is none");
    judge_error(w, scope.status);
    rm_pool_scope_close(&scope);
}
static rm_pool_scope *arg_rm_pool_scope_p(world *w, int value) {
    if (value == 1) return (rm_pool_scope *)null(w);
    if (value > 3) past_end(w);
    w->scope = rm_pool_scope_open(need_pool(w, &w->pool), RM_NOWAIT, NULL);
    if (value >= 2) misuse(w, value == 2 ? "closed" : "zeroed");
    if (value >= 2) rm_pool_scope_close(&w->scope);
    if (value == 3) memset(&w->scope, 0, sizeof w->scope);
    return &w->scope;
}

static rm_pool *acquired_from; /* the user pointer is misused too */

static void give_acquired_back(rm_status status, const rm_lease *lease, const rm_error *error,
                               void *user) {
    rm_lease copy;
    (void)user;
    expect((status == RM_OK) == (lease != NULL) && (status == RM_OK) == (error == NULL),
           "a lease or an error too many");
    if (status != RM_OK) return;
    copy = *lease;
    expect(rm_pool_release(acquired_from, &copy, RM_RELEASE_OK) == RM_OK, "not released");
}
static rm_pool_acquired_fn arg_rm_pool_acquired_fn(world *w, int value) {
    acquired_from = w->pool;
    if (value == 1) (void)null(w);
    if (value > 1) past_end(w);
    return value == 1 ? NULL : give_acquired_back;
}
static rm_pool_request *arg_rm_pool_acquire_async__request(world *w, int value) {
    if (value == 1) return (rm_pool_request *)null(w);
    if (value > 1) past_end(w);
    return &w->request;
}
/* Of one that waits, because the pool is suspended. */
static rm_pool_request *arg_rm_pool_request_cancel__request(world *w, int value) {
    const rm_deadline none = {0};
    rm_pool *pool = acquired_from = need_pool(w, &w->pool);
    if (value == 1) return (rm_pool_request *)null(w);
    if (value > 3) past_end(w);
    if (value == 2) misuse(w, "zeroed");
    if (value == 2) w->expect = RM_E_INVALID;
    if (value == 3) misuse(w, "done before");
    if (value == 3) w->expect = RM_E_STALE;
    if (value == 2) return &w->request;
    if (value == 0) expect(rm_pool_suspend(pool) == RM_OK, "not suspended");
    expect(rm_pool_acquire_async(pool, &w->request, none, NULL, give_acquired_back, NULL, NULL) ==
               RM_OK,
           "no asynchronous acquire");
    return &w->request;
}

/* >>pools of keys */

static void lend_key(rm_pools *pools, rm_pools_lease *lease) {
    const rm_deadline none = {0};
    expect(rm_pools_acquire(pools, "key", 3, none, NULL, lease, NULL) == RM_OK, "nothing lent");
}
static rm_pools *need_pools(world *w, rm_pools **at_world) {
    const rm_pools_desc desc = good_rm_pools_desc(w);
    rm_pools_lease lease;
    if (*at_world != NULL) return *at_world;
    expect(rm_pools_create(&desc, at_world, NULL) == RM_OK, "no pools");
    if (w->bare) return *at_world;
    lend_key(*at_world, &lease);
    expect(rm_pools_release(*at_world, &lease, RM_RELEASE_OK) == RM_OK, "not released");
    return *at_world;
}
static rm_pools *arg_rm_pools_p(world *w, int value) {
    if (value == 1) return (rm_pools *)null(w);
    if (value > 2) past_end(w);
    if (value == 2) misuse(w, "closed");
    if (value == 2)
        expect(rm_pools_close(need_pools(w, &w->pools), 0, NULL) == RM_OK, "not closed");
    return need_pools(w, &w->pools);
}
static size_t arg_rm_pools_acquire__size(world *w, int value) {
    return key_length(w, value, RM_E_TOO_LARGE);
}
static size_t arg_rm_pools_acquire_async__size(world *w, int value) {
    return key_length(w, value, RM_E_TOO_LARGE);
}

static rm_pools *keys_acquired_from; /* the user pointer is misused too */

static void give_acquired_key_back(rm_status status, const rm_pools_lease *lease,
                                   const rm_error *error, void *user) {
    rm_pools_lease copy;
    (void)user;
    expect((status == RM_OK) == (lease != NULL) && (status == RM_OK) == (error == NULL),
           "a lease or an error too many");
    if (status != RM_OK) return;
    copy = *lease;
    expect(rm_pools_release(keys_acquired_from, &copy, RM_RELEASE_OK) == RM_OK, "not released");
}
static rm_pools_acquired_fn arg_rm_pools_acquired_fn(world *w, int value) {
    keys_acquired_from = w->pools;
    if (value == 1) (void)null(w);
    if (value > 1) past_end(w);
    return value == 1 ? NULL : give_acquired_key_back;
}
static rm_pools_request *arg_rm_pools_acquire_async__request(world *w, int value) {
    if (value == 1) return (rm_pools_request *)null(w);
    if (value > 1) past_end(w);
    return &w->key_request;
}
/* Of one that waits, because the key's pool is suspended. */
static rm_pools_request *arg_rm_pools_request_cancel__request(world *w, int value) {
    const rm_deadline none = {0};
    rm_pools *pools = keys_acquired_from = need_pools(w, &w->pools);
    if (value == 1) return (rm_pools_request *)null(w);
    if (value > 3) past_end(w);
    if (value == 2) misuse(w, "zeroed");
    if (value == 2) w->expect = RM_E_INVALID;
    if (value == 3) misuse(w, "done before");
    if (value == 3) w->expect = RM_E_STALE;
    if (value == 2) return &w->key_request;
    lend_key(pools, &w->key_lease);
    if (value == 0) expect(rm_pool_suspend(w->key_lease.pool) == RM_OK, "not suspended");
    expect(rm_pools_acquire_async(pools, &w->key_request, "key", 3, none, NULL,
                                  give_acquired_key_back, NULL, NULL) == RM_OK,
           "no asynchronous acquire");
    return &w->key_request;
}
static void after_rm_pools_request_cancel(world *w, rm_status status, rm_pools_request *request) {
    (void)status, (void)request;
    if (w->key_lease.pool != NULL) (void)rm_pool_resume(w->key_lease.pool);
}
static rm_pools_lease *arg_rm_pools_lease_p(world *w, int value) {
    const rm_deadline none = {0};
    rm_pools_lease *odd = (rm_pools_lease *)(void *)w->scratch;
    if (value > 4) past_end(w);
    if (w->done) return NULL;
    if (rm_pools_acquire(need_pools(w, &w->pools), "key", 3, none, NULL, &w->key_lease, NULL) !=
        RM_OK)
        memset(&w->key_lease, 0, sizeof w->key_lease); /* of closed ones */
    if (value == 1) return (rm_pools_lease *)null(w);
    if (value == 2) misuse(w, "zeroed");
    if (value == 3) misuse(w, "of other pools");
    if (value == 4) misuse(w, "all bits set");
    if (value >= 2) w->expect = value == 2 ? RM_E_STALE : RM_E_FOREIGN;
    memset(odd, value == 4 ? 0xFF : 0, sizeof *odd);
    if (value == 3) lend_key(need_pools(w, &w->other_pools), &w->other_key_lease);
    if (value == 3) *odd = w->other_key_lease;
    keep(w, "lease", value == 0 ? &w->key_lease : odd, sizeof *odd);
    return value == 0 ? &w->key_lease : odd;
}
static void take_rm_pools_lease_p(world *w, rm_pools_lease *lease) {
    expect(rm_pools_release(w->pools, lease, RM_RELEASE_OK) == RM_OK, "not released");
}
static void after_rm_pools_destroy(world *w, rm_status status, rm_pools *pools) {
    if (status == RM_OK && pools != NULL) w->pools = NULL;
}
static void use_pools(rm_pools *pools) {
    const rm_deadline none = {0};
    rm_pools_lease lease;
    if (rm_pools_acquire(pools, "k", 1, none, NULL, &lease, NULL) == RM_OK)
        expect(rm_pools_release(pools, &lease, RM_RELEASE_BROKEN) == RM_OK, "not released");
    expect(rm_pools_destroy(pools) == RM_OK, "not destroyed");
}
static void take_rm_pools_pp(world *w, rm_pools **pools) {
    (void)w;
    use_pools(*pools);
}
static bool see_key(const void *key, size_t size, rm_pool *pool, void *user) {
    (void)key, (void)size, (void)pool, (void)user;
    return true;
}
static bool (*arg_rm_pools_each__fn(world *w, int value))(const void *, size_t, rm_pool *, void *) {
    if (value == 1) (void)null(w);
    if (value > 1) past_end(w);
    return value == 1 ? NULL : see_key;
}

/* >>cache */

static rm_cache *need_cache(world *w, rm_cache **at_world) {
    const rm_cache_desc desc = good_rm_cache_desc(w);
    if (*at_world == NULL) {
        expect(rm_cache_create(&desc, at_world, NULL) == RM_OK, "no cache");
        if (!w->bare)
            expect(rm_cache_set(*at_world, "key", 3, "value", 5, 0, NULL) == RM_OK, "not set");
    }
    return *at_world;
}
static rm_cache *arg_rm_cache_p(world *w, int value) {
    if (value == 1) return (rm_cache *)null(w);
    if (value > 1) past_end(w);
    return need_cache(w, &w->cache);
}
static void after_rm_cache_destroy(world *w, rm_status status, rm_cache *cache) {
    if (status == RM_OK && cache != NULL) w->cache = NULL;
}
static const void *arg_rm_cache_get_or_load__key(world *w, int value) {
    return arg_void_p(w, value) == NULL ? NULL : "new";
}
static void *arg_rm_cache_get__buffer(world *w, int value) {
    if (value == 1) return null(w);
    if (value > 1) past_end(w);
    return w->scratch;
}
static size_t arg_rm_cache_get__capacity(world *w, int value) {
    static const size_t sizes[] = {sizeof w->scratch, 0, 4, SIZE_MAX};
    static const char *const names[] = {"", "0", "too small", "SIZE_MAX"};
    if (value > 3) past_end(w);
    if (w->done) return 0;
    misuse(w, names[value]);
    return sizes[value];
}
/* A pin that was released: of a cache, or of one that is no more. */
static rm_cache_pin released_pin(rm_cache *cache, bool gone) {
    rm_cache_pin pin, copy;
    memset(&pin, 0, sizeof pin);
    expect(rm_cache_acquire(cache, "key", 3, &pin) == RM_OK, "not pinned");
    copy = pin;
    expect(rm_cache_release(cache, &pin) == RM_OK, "not released");
    if (gone) expect(rm_cache_destroy(cache) == RM_OK, "not destroyed");
    return copy;
}
static rm_cache_pin *arg_rm_cache_pin_p(world *w, int value) {
    static const char *const names[] = {"zeroed",           "a copy of one that was released",
                                        "of another cache", "with a slot that is none",
                                        "all bits set",     "of a cache that was destroyed"};
    rm_cache *cache = need_cache(w, &w->cache), *gone = NULL;
    rm_cache_pin *odd = (rm_cache_pin *)(void *)w->scratch;
    if (value > 7) past_end(w);
    if (w->done) return NULL;
    expect(rm_cache_acquire(cache, "key", 3, &w->pin) == RM_OK, "not pinned");
    if (value == 1) return (rm_cache_pin *)null(w);
    if (value >= 2) misuse(w, names[value - 2]);
    if (value >= 2) w->expect = value <= 3 ? RM_E_STALE : RM_E_FOREIGN;
    memset(odd, value == 6 ? 0xFF : 0, sizeof *odd);
    if (value == 3) {
        *odd = released_pin(cache, false);
    } else if (value == 4) {
        expect(rm_cache_acquire(need_cache(w, &w->other_cache), "key", 3, &w->other_pin) == RM_OK,
               "not pinned");
        *odd = w->other_pin;
    } else if (value == 5) {
        *odd = w->pin;
        odd->slot = UINT32_MAX;
    } else if (value == 7) {
        *odd = released_pin(need_cache(w, &gone), true);
        (void)need_cache(w, &w->other_cache); /* perhaps where that one was */
    }
    keep(w, "pin", value == 0 ? &w->pin : odd, sizeof *odd);
    return value == 0 ? &w->pin : odd;
}
static void take_rm_cache_pin_p(world *w, rm_cache_pin *pin) {
    expect(rm_cache_release(w->cache, pin) == RM_OK, "not released");
}
static void use_cache(rm_cache *cache) {
    if (rm_cache_set(cache, "k", 1, "v", 1, 0, NULL) == RM_OK)
        expect(rm_cache_delete(cache, "k", 1) == RM_OK, "not deleted");
    expect(rm_cache_destroy(cache) == RM_OK, "not destroyed");
}
static void take_rm_cache_pp(world *w, rm_cache **cache) {
    (void)w;
    use_cache(*cache);
}
static rm_cache_load *arg_rm_cache_load_p(world *w, int value) {
    if (value == 1) return (rm_cache_load *)null(w);
    if (value > 1) past_end(w);
    return w->load;
}
static rm_status (*arg_rm_cache_loader_make__load_fn(world *w, int value))(rm_cache_load *,
                                                                           const void *, size_t,
                                                                           rm_deadline, rm_error *,
                                                                           void *) {
    if (value == 1) (void)null(w);
    if (value > 1) past_end(w);
    return value == 1 ? NULL : load_value;
}

/* >>breaker */

static rm_breaker *need_breaker(world *w, rm_breaker **at_world) {
    const rm_breaker_desc desc = good_rm_breaker_desc(w);
    if (*at_world == NULL) expect(rm_breaker_create(&desc, at_world, NULL) == RM_OK, "no breaker");
    return *at_world;
}
static rm_breaker *arg_rm_breaker_p(world *w, int value) {
    if (value == 1) return (rm_breaker *)null(w);
    if (value > 2) past_end(w);
    if (value == 2) misuse(w, "open");
    if (value == 2) expect(rm_breaker_trip(need_breaker(w, &w->breaker)) == RM_OK, "not open");
    return need_breaker(w, &w->breaker);
}
static void after_rm_breaker_destroy(world *w, rm_breaker *breaker) {
    if (breaker != NULL) w->breaker = NULL;
}
static rm_permit *arg_rm_permit_p(world *w, int value) {
    rm_permit *odd = (rm_permit *)(void *)w->scratch;
    if (value > 4) past_end(w);
    if (w->done) return NULL;
    if (rm_breaker_acquire(need_breaker(w, &w->breaker), &w->permit, NULL) != RM_OK)
        memset(&w->permit, 0, sizeof w->permit); /* of an open one */
    if (value == 1) return (rm_permit *)null(w);
    if (value == 2) misuse(w, "zeroed");
    if (value == 3) misuse(w, "of another breaker");
    if (value == 4) misuse(w, "all bits set");
    if (value >= 2) w->expect = value == 2 ? RM_E_STALE : RM_E_FOREIGN;
    memset(odd, value == 4 ? 0xFF : 0, sizeof *odd);
    if (value == 3)
        expect(rm_breaker_acquire(need_breaker(w, &w->other_breaker), odd, NULL) == RM_OK,
               "no permit");
    keep(w, "permit", value == 0 ? &w->permit : odd, sizeof *odd);
    return value == 0 ? &w->permit : odd;
}
static void take_rm_permit_p(world *w, rm_permit *permit) {
    expect(rm_breaker_record(w->breaker, permit, RM_OUTCOME_OK) == RM_OK, "not recorded");
}
static void use_breaker(rm_breaker *breaker) {
    rm_permit permit;
    expect(rm_breaker_reset(breaker) == RM_OK, "not reset");
    expect(rm_breaker_acquire(breaker, &permit, NULL) == RM_OK, "no permit");
    expect(rm_breaker_record(breaker, &permit, RM_OUTCOME_OK) == RM_OK, "not recorded");
    rm_breaker_destroy(breaker);
}
static void take_rm_breaker_pp(world *w, rm_breaker **breaker) {
    (void)w;
    use_breaker(*breaker);
}
static rm_status succeed(void *user, rm_error *error) {
    (void)user, (void)error;
    return RM_OK;
}
static rm_status refuse(void *user, rm_error *error) {
    (void)user, (void)error;
    return RM_E_REFUSED;
}
static rm_status (*arg_rm_breaker_call__fn(world *w, int value))(void *, rm_error *) {
    if (value == 1) (void)null(w);
    if (value == 2) misuse(w, "fails");
    if (value > 2) past_end(w);
    return value == 0 ? succeed : value == 1 ? NULL : refuse;
}
static rm_status give_up(void *user, const rm_error *reason) {
    (void)user;
    return reason->status;
}
static rm_status (*arg_rm_breaker_call__fallback_fn(world *w, int value))(void *,
                                                                          const rm_error *) {
    if (value == 1) (void)null(w);
    if (value > 1) past_end(w);
    return value == 1 ? NULL : give_up;
}

static rm_retry *arg_rm_retry_p(world *w, int value) {
    const rm_retry_desc desc = good_rm_retry_desc(w);
    const rm_deadline none = {0};
    if (value == 1) return (rm_retry *)null(w);
    if (value > 2) past_end(w);
    expect(rm_retry_begin(&w->retry, &desc, none, NULL) == RM_OK, "not begun");
    if (value == 2) misuse(w, "zeroed");
    if (value == 2) memset(&w->retry, 0, sizeof w->retry);
    return &w->retry;
}
static rm_status arg_rm_retry_next__status(world *w, int value) {
    const int64_t number = odd_number(w, value, RM_E_TIMEOUT);
    if (number == RM_OK) w->expect = RM_E_INVALID;
    return (rm_status)number;
}
/* Needs a second attempt, unless the wait for it would be on the system's clock. */
static rm_status attempt(void *user, rm_attempt *state, rm_error *error) {
    (void)user, (void)error;
    return state->number > 1 || at->which == 0 ? RM_OK : RM_E_TIMEOUT;
}
static rm_status attempt_in_vain(void *user, rm_attempt *state, rm_error *error) {
    (void)user, (void)state, (void)error;
    return RM_E_REFUSED;
}
static rm_status (*arg_rm_retry_call__fn(world *w, int value))(void *, rm_attempt *, rm_error *) {
    if (value == 1) (void)null(w);
    if (value == 2) misuse(w, "fails");
    if (value > 2) past_end(w);
    return value == 0 ? attempt : value == 1 ? NULL : attempt_in_vain;
}

/* >>metrics */

static rm_metrics *need_metrics(world *w) {
    static const char *const names[] = {"counter_total", "gauge", "histogram_seconds"};
    static const char *const labels[] = {"label"};
    const rm_metrics_desc desc = good_rm_metrics_desc(w);
    rm_resource resource = good_rm_resource(w);
    int type;
    resource.name = "name";
    if (w->metrics != NULL) return w->metrics;
    expect(rm_metrics_create(&desc, &w->metrics, NULL) == RM_OK, "no registry");
    for (type = RM_METRIC_COUNTER; type <= RM_METRIC_HISTOGRAM; ++type) {
        rm_metric_desc family = rm_metrics_describe((rm_metric_type)type, names[type], "Help.");
        family.labels = labels;
        family.label_count = 1;
        family.decimals = type == RM_METRIC_HISTOGRAM ? 3 : 0;
        expect(rm_metrics_add(w->metrics, &family, &w->families[type], NULL) == RM_OK, "no family");
    }
    if (!w->bare)
        expect(rm_metrics_add_resource(w->metrics, &resource, NULL) == RM_OK, "no resource");
    return w->metrics;
}
static rm_metrics *arg_rm_metrics_p(world *w, int value) {
    if (value == 1) return (rm_metrics *)null(w);
    if (value > 1) past_end(w);
    return need_metrics(w);
}
static void after_rm_metrics_destroy(world *w, rm_status status, rm_metrics *metrics) {
    if (status == RM_OK && metrics != NULL) w->metrics = NULL;
}
static rm_metrics_family *family(world *w, int value, rm_metric_type type) {
    if (value == 1) return (rm_metrics_family *)null(w);
    if (value > 2) past_end(w);
    if (value == 2) misuse(w, "of another type");
    if (value == 2) w->expect = RM_E_INVALID;
    (void)need_metrics(w);
    return w->families[(type + (value == 2)) % 3];
}
static rm_metrics_family *arg_rm_counter_with__family(world *w, int value) {
    return family(w, value, RM_METRIC_COUNTER);
}
static rm_metrics_family *arg_rm_gauge_with__family(world *w, int value) {
    return family(w, value, RM_METRIC_GAUGE);
}
static rm_metrics_family *arg_rm_histogram_with__family(world *w, int value) {
    return family(w, value, RM_METRIC_HISTOGRAM);
}
static const char *const *arg_char_pp(world *w, int value) {
    if (value == 1) return (const char *const *)null(w);
    if (value > ODD_STRINGS + 2) past_end(w);
    if (value > 1) misuse(w, value == ODD_STRINGS + 2 ? "of NULL" : "odd strings");
    w->names[0] = value == 0 ? "value" : odd_string(value - 1);
    return w->names;
}
static rm_counter arg_rm_counter(world *w, int value) {
    rm_counter counter = {NULL};
    const char *const *values = arg_char_pp(w, 0);
    if (value > 1) past_end(w);
    if (value == 1) misuse(w, "zeroed");
    if (value == 1) w->expect = RM_E_STALE;
    (void)need_metrics(w);
    if (value == 0)
        expect(rm_counter_with(w->families[0], values, 1, &counter, NULL) == RM_OK, "no counter");
    return counter;
}
static rm_gauge arg_rm_gauge(world *w, int value) {
    rm_gauge gauge = {NULL};
    const char *const *values = arg_char_pp(w, 0);
    if (value > 1) past_end(w);
    if (value == 1) misuse(w, "zeroed");
    if (value == 1) w->expect = RM_E_STALE;
    (void)need_metrics(w);
    if (value == 0)
        expect(rm_gauge_with(w->families[1], values, 1, &gauge, NULL) == RM_OK, "no gauge");
    return gauge;
}
static rm_histogram arg_rm_histogram(world *w, int value) {
    rm_histogram histogram = {NULL};
    const char *const *values = arg_char_pp(w, 0);
    if (value > 1) past_end(w);
    if (value == 1) misuse(w, "zeroed");
    if (value == 1) w->expect = RM_E_STALE;
    (void)need_metrics(w);
    if (value == 0)
        expect(rm_histogram_with(w->families[2], values, 1, &histogram, NULL) == RM_OK,
               "no histogram");
    return histogram;
}
static void use_metrics(rm_metrics *metrics) {
    static char page[16384];
    rm_text text = rm_text_make(page, sizeof page);
    expect(rm_metrics_render(metrics, &text) == RM_OK, "not rendered");
    expect(rm_metrics_destroy(metrics) == RM_OK, "not destroyed");
}
static void take_rm_metrics_pp(world *w, rm_metrics **metrics) {
    (void)w;
    use_metrics(*metrics);
}

/* >>the end of a world */

static void begin(world *w) {
    static const rm_allocator allocator = {give, take, NULL};
    memset(w, 0, sizeof *w);
    snprintf(at->call, sizeof at->call, "%s: its world", current->name);
    w->which = at->which;
    w->value = at->value;
    w->also = at->also;
    w->parameter = -1;
    w->bare = current->bare;
    w->now = RM_SEC(1000);
    w->allocator = allocator;
    w->allocator.user = w;
    w->clock.now_fn = w->clock.coarse_fn = w->clock.wall_fn = read_clock;
    w->clock.sleep_fn = sleep_on_clock;
    w->clock.wait_fn = wait_on_clock;
    w->clock.user = w;
    w->random.next_fn = next_random;
    w->random.user = w;
    w->log.log_fn = write_log;
    w->log.level = RM_LOG_DEBUG;
    w->env.allocator = &w->allocator;
    w->env.clock = &w->clock;
    w->env.random = &w->random;
    w->env.log = &w->log;
    units = true;
}

static void end_locks(world *w) {
    if (w->locked) rm_waitq_unlock(&w->queue);
    if (w->queue_made) {
        (void)rm_waitq_remove(&w->queue, &w->waiter);
        use_queue(&w->queue);
    }
    if (w->other_queue_made) {
        (void)rm_waitq_remove(&w->other_queue, &w->waiter);
        use_queue(&w->other_queue);
    }
    while (w->sem_made && w->permits_out > 0 && rm_sem_release(&w->sem) == RM_OK)
        --w->permits_out;
    if (w->sem_made) {
        expect(rm_sem_available(&w->sem) == 3, "a permit too many or too few");
        take_rm_sem_p(w, &w->sem);
    }
    if (w->mutex_locked) rm_mutex_unlock(&w->mutex);
    if (w->mutex_made) take_rm_mutex_p(w, &w->mutex);
    if (w->cond_made) take_rm_cond_p(w, &w->cond);
    if (w->virtual_clock_made) take_rm_virtual_clock_p(w, &w->virtual_clock);
    rm_thread_join(&w->thread);
    if (w->cancel_made) expect(rm_cancel_destroy(&w->cancel) == RM_OK, "token not destroyed");
}

/* Every object must still work, and what was lent can be given back. */
static void end_objects(world *w) {
    if (w->lease.resource != NULL) take_rm_lease_p(w, &w->lease);
    if (w->other_lease.resource != NULL)
        expect(rm_pool_release(w->other_pool, &w->other_lease, RM_RELEASE_OK) == RM_OK,
               "not released");
    rm_pool_scope_close(&w->scope);
    if (w->pool != NULL) use_pool(w->pool);
    if (w->other_pool != NULL) use_pool(w->other_pool);
    if (w->key_lease.pool != NULL) take_rm_pools_lease_p(w, &w->key_lease);
    if (w->other_key_lease.pool != NULL)
        expect(rm_pools_release(w->other_pools, &w->other_key_lease, RM_RELEASE_OK) == RM_OK,
               "not released");
    if (w->pools != NULL) use_pools(w->pools);
    if (w->other_pools != NULL) use_pools(w->other_pools);
    if (w->pin.value != NULL) take_rm_cache_pin_p(w, &w->pin);
    if (w->other_pin.value != NULL)
        expect(rm_cache_release(w->other_cache, &w->other_pin) == RM_OK, "not released");
    if (w->cache != NULL) use_cache(w->cache);
    if (w->other_cache != NULL) use_cache(w->other_cache);
    if (w->breaker != NULL) use_breaker(w->breaker);
    if (w->other_breaker != NULL) use_breaker(w->other_breaker);
    if (w->metrics != NULL) use_metrics(w->metrics);
    if (w->manager != NULL) use_manager(w->manager);
    if (w->ref.value != NULL) take_rm_registry_ref_p(w, &w->ref);
    if (w->other_ref.value != NULL)
        expect(rm_registry_put(w->other_registry, &w->other_ref) == RM_OK, "not put");
    if (w->registry != NULL) take_rm_registry_pp(w, &w->registry);
    if (w->other_registry != NULL) take_rm_registry_pp(w, &w->other_registry);
}

static void end(world *w) {
    uint32_t i;
    const char *output[KEPT_MAX];
    end_objects(w);
    end_locks(w);
    rm_free(&w->allocator, w->memory, 7);
    expect(w->live == 0, "memory is left, or freed with another size");
    for (i = 0; i < w->kept_count; ++i) {
        output[i] = w->kept[i].name;
        free(w->kept[i].before);
        if (strcmp(output[i], "lease") != 0 && strcmp(output[i], "pin") != 0 &&
            strcmp(output[i], "ref") != 0 && strcmp(output[i], "permit") != 0)
            free(w->kept[i].memory);
    }
    free(w->error);
    free(w->errors);
}

/* >>judgement */

/* Notes what is about to be called.  False when there are no more values. */
static bool calling(world *w) {
    if (w->done) return false;
    snprintf(at->call, sizeof at->call, "%s(%s)", current->name,
             w->what[0] != '\0' ? w->what : "all valid");
    ++at->calls;
    return true;
}

/* Does the error name one of the fields of the struct that was misused? */
static bool names_field(const world *w, const char *where) {
    size_t i;
    for (i = 0; i < w->field_count; ++i) {
        const char *last = strrchr(w->fields[i].name, '.');
        if (strncmp(where, w->fields[i].name, strcspn(w->fields[i].name, ".")) == 0) return true;
        if (last != NULL && strcmp(where, last + 1) == 0) return true; /* of a desc in a desc */
    }
    return w->field_count == 0;
}

static void judge_error(world *w, rm_status status) {
    const rm_error *e = w->error;
    unsigned char untouched[sizeof(rm_error)];
    memset(untouched, PATTERN, sizeof untouched);
    if (e != NULL && status == RM_OK)
        expect(memcmp(e, untouched, sizeof *e) == 0, "a success wrote the error");
    if (e != NULL && status != RM_OK) {
        expect(memchr(e->where, 0, sizeof e->where) && memchr(e->message, 0, sizeof e->message),
               "a text of the error has no end");
        expect(e->status == status, "the error has another status");
        expect(e->where[0] != '\0', "the error has no where");
        expect(e->message[0] != '\0', "the error has no message");
        if (current->names_field && w->also < 0 && status == RM_E_INVALID)
            expect(names_field(w, e->where), "the error names no field");
    }
    if (w->errors != NULL) {
        expect((w->errors->count > 0) == (status != RM_OK), "errors do not fit the status");
        if (w->errors->count > 0)
            expect(w->errors->items[0].status == status, "the first error has another status");
    }
}

/* What a call that failed was not to touch. */
static void judge_outs(world *w) {
    uint32_t i;
    char what[96];
    for (i = 0; i < w->kept_count; ++i) {
        if (memcmp(w->kept[i].memory, w->kept[i].before, w->kept[i].size) == 0) continue;
        snprintf(what, sizeof what, "a failure wrote *%s", w->kept[i].name);
        fail(what);
    }
}

static void judge(world *w, rm_status status) {
    const bool known = (uint32_t)status < 32u;
    const uint32_t bit = known ? 1u << (uint32_t)status : 0u;
    char what[96];
    snprintf(what, sizeof what, "returns %s (%d)", rm_status_name(status), (int)status);
    if (!current->any_status && (!known || !(current->statuses & bit)))
        expect(false, strcat(what, ", which its comment does not name"));
    else if (w->also < 0 && w->null && !current->any_status &&
             !(current->nullable >> w->which & 1u) && status != RM_E_INVALID)
        expect(false, strcat(what, " for NULL"));
    else if (w->also < 0 && w->expect != RM_OK && status != w->expect)
        expect(false, strcat(strcat(what, ", not "), rm_status_name(w->expect)));
    else if (at->which < 0 && status != RM_OK && !current->may_refuse)
        expect(false, what);
    judge_error(w, status);
    if (status != RM_OK && !(current->writes & bit)) judge_outs(w);
}

static void judge_string(const char *string, bool odd, const char *unknown) {
    expect(string != NULL && string[0] != '\0', "no string");
    if (odd && string != NULL) expect(strcmp(string, unknown) == 0, "not the name for no number");
}

/* >>run */

static rm_status call_in_load(rm_cache_load *load, const void *key, size_t key_size,
                              rm_deadline deadline, rm_error *error, void *user) {
    world *w = (world *)user;
    (void)key, (void)key_size, (void)deadline, (void)error;
    w->load = load;
    current->call(w);
    return rm_cache_load_set(load, "v", 1);
}

/* Makes the call that is next in *at. */
static void run_one(void) {
    static world w;
    const rm_cache_loader loader = rm_cache_loader_make(call_in_load, &w);
    begin(&w);
    if (current->in_load)
        expect(rm_cache_get_or_load(need_cache(&w, &w.cache), "load", 4, &loader, 0, &w.pin,
                                    NULL) == RM_OK,
               "nothing was loaded");
    else
        current->call(&w);
    end(&w);
    if (at->also < 0) at->past = w.done;
}

/* Goes on to the next call: every value of every parameter, alone and with each other parameter. */
static bool advance(void) {
    if (at->past) {
        ++at->which;
        at->value = 1;
        at->also = -1;
        at->past = false;
    } else if (++at->also == current->count) {
        ++at->value;
        at->also = -1;
    }
    return at->which < current->count;
}

static int run_function(void) {
    alarm(5);
    if (at->calls == 0) run_one(); /* nothing misused */
    if (at->which < 0) at->past = true;
    while (advance())
        if (at->also < 0 || (at->also != at->which && !(current->alone >> at->also & 1u) &&
                             !(current->alone >> at->which & 1u)))
            run_one();
    return 0;
}

/* Runs a function in a process of its own, so that a crash names its call, and goes on after it. */
static void run_child(void) {
    int status, crashes = 0;
    pid_t child;
    do {
        status = 0;
        child = fork();
        if (child == 0) exit(run_function());
        if (child < 0 || waitpid(child, &status, 0) != child) abort();
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) {
            ++at->failures;
            say("hangs");
            return;
        }
        if (status == 0) break;
        ++at->failures;
        say("crashes");
    } while (++crashes < 20 && at->which < current->count);
}

/* Prints a line for each failure, and how much there was.  Returns 1 if anything failed. */
static int run_all(const contract *contracts, size_t count) {
    unsigned calls = 0, parameters = 0, failures = 0;
    size_t i;
    at = (progress *)mmap(NULL, sizeof *at, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                          0);
    if (at == MAP_FAILED) return 1;
    for (i = 0; i < count; ++i) {
        memset(at, 0, sizeof *at);
        at->which = at->also = -1;
        current = &contracts[i];
        run_child();
        expect(at->calls > 0, "never called");
        calls += at->calls;
        failures += at->failures;
        parameters += (unsigned)current->count;
    }
    printf("%u functions with %u parameters, %u calls\n", (unsigned)count, parameters, calls);
    return failures > 0;
}

#endif /* MISUSE_H_INCLUDED */

/* Every desc with every field from values that are interesting somewhere: 0, 1, the named negative
   numbers, the ends of the types, what is next to a documented bound, NULL and pointers.

   A create call must either work, and so must what it made; or refuse: then it names a field that
   is bad by the header's own words, or had no memory, leaves nothing allocated and *out alone.
   What is bad is written down here once more, field by field.  A size that wraps would be a small
   block, which the address sanitizer sees; one that does not is refused above 64 MB. */
#define RM_IMPLEMENTATION
#include "rm_breaker.h"
#include "rm_cache.h"
#include "rm_metrics.h"
#include "rm_pool.h"
#include "fuzz.h"

enum { BAD = 40, RECORD = 24, LONGEST = 12 * RECORD };

static struct world {
    fuzz_input *in;
    fuzz_clock time;
    fuzz_memory memory;
    rm_rng rng;
    rm_allocator allocator;
    rm_clock clock;
    rm_random random;
    rm_log log;
    rm_env env;
    rm_guard guard;
    const char *bad[BAD]; /* fields of the desc that must be refused */
    int bad_count;
    rm_error error;
    char name[256];
} w;

/* >>fields */

static uint32_t pick_u32(void) {
    return (uint32_t)FUZZ_CHOOSE(w.in, 0, 1, 2, 3, 4, 8, 9, 16, 18, 19, 64, 65, 256, 257, 4095,
                                 4096, 65535, 65536, 1 << 24, (1 << 24) + 1, INT32_MAX,
                                 INT64_C(1) << 31, UINT32_MAX - 1, UINT32_MAX);
}

static int64_t pick_i64(void) {
    return FUZZ_CHOOSE(w.in, 0, 1, 2, 3, 100, 1000, 1001, RM_MS(1), RM_SEC(1), -1, -2, -3, -4, -5,
                       65536, INT32_MAX, INT64_C(1) << 31, (INT64_C(1) << 31) + 1,
                       RM_SEC(86400) * 365, RM_SEC(86400) * 365 + 1, INT64_MAX - 1, INT64_MAX,
                       INT64_MIN, INT64_MIN + 1);
}

static void refuse(const char *field, bool is_bad) {
    if (is_bad) w.bad[w.bad_count++] = field;
    CHECK(w.bad_count < BAD);
}

/* A name of any length; `most` bytes are allowed. */
static const char *pick_name(size_t most) {
    const size_t size = (size_t)FUZZ_CHOOSE(w.in, 1, 0, 47, 48, 127, 128, 200);
    memset(w.name, 'n', size);
    w.name[size] = '\0';
    if (fuzz_below(w.in, 4) == 0) return NULL;
    refuse("name", size == 0 || size > most);
    return w.name;
}

static void log_fn(const rm_log_event *event, void *user) {
    char line[512];
    CHECK(user == &w && rm_log_format(event, line, sizeof line) > 0);
}

/* What an object takes from outside, with or without a callback that is missing. */
static const rm_env *pick_env(void) {
    const uint32_t missing = fuzz_below(w.in, 32);
    w.allocator = fuzz_memory_make(&w.memory);
    w.memory.fail = fuzz_below(w.in, 8);
    w.clock = fuzz_clock_make(&w.time);
    w.random = rm_rng_random(&w.rng);
    w.log = (rm_log){log_fn, &w, RM_LOG_DEBUG};
    w.env = (rm_env){&w.allocator, &w.clock, &w.random, &w.log};
    if (missing == 1) w.allocator.alloc_fn = NULL;
    if (missing == 2) w.allocator.free_fn = NULL;
    if (missing == 3) w.clock.now_fn = NULL;
    if (missing == 4) w.clock.coarse_fn = NULL;
    if (missing == 5) w.clock.wall_fn = NULL;
    if (missing == 6) w.clock.wait_fn = NULL;
    if (missing == 7) w.random.next_fn = NULL;
    if (missing == 8) w.log.log_fn = NULL;
    if (missing == 9) w.clock.sleep_fn = NULL; /* may be */
    if (missing == 10) w.env.clock = NULL, w.env.random = NULL, w.env.log = NULL;
    refuse("env.allocator", missing == 1 || missing == 2);
    refuse("env.clock", missing >= 3 && missing <= 6);
    refuse("env.random", missing == 7);
    refuse("env.log", missing == 8);
    return &w.env;
}

static rm_status admit_fn(rm_permit *permit, rm_error *error, void *user) {
    (void)permit, (void)error, (void)user;
    return RM_OK;
}

static void report_fn(rm_permit *permit, rm_outcome outcome, void *user) {
    (void)permit, (void)outcome, (void)user;
}

static const rm_guard *pick_guard(void) {
    const uint32_t which = fuzz_below(w.in, 4);
    w.guard = (rm_guard){which == 1 ? NULL : admit_fn, which == 2 ? NULL : report_fn, NULL};
    refuse("guard", which == 1 || which == 2);
    return which == 0 ? NULL : &w.guard;
}

/* What a create call said: true when it made something.  `before`: blocks that were out. */
static bool made(rm_status status, bool has_out, uint64_t before) {
    bool named = false;
    CHECK_EQ(status == RM_OK, has_out);
    if (status == RM_OK) {
        CHECK_EQ(0, w.bad_count);
        CHECK_EQ(RM_OK, w.error.status);
        return true;
    }
    CHECK_EQ(status, w.error.status);
    CHECK(w.error.message[0] != '\0');
    CHECK_EQ(before, w.memory.blocks);
    for (int i = 0; i < w.bad_count; ++i)
        named = named || strcmp(w.bad[i], w.error.where) == 0;
    if (status == RM_E_NOMEM)
        CHECK(w.memory.refused > 0 && w.bad_count == 0); /* what is bad is seen before */
    else
        CHECK((status == RM_E_INVALID || status == RM_E_TOO_LARGE) && named);
    return false;
}

/* >>one desc after the other */

static rm_status create_fn(void **resource, rm_deadline deadline, rm_error *error, void *user) {
    (void)deadline, (void)error;
    *resource = user;
    return RM_OK;
}

static rm_status validate_fn(void *resource, void *user) {
    (void)resource, (void)user;
    return RM_OK;
}

static void reclaim_fn(void *resource, void *user) {
    (void)resource, (void)user;
}

/* There are many fields: few are odd at a time. */
static int64_t some_i64(void) {
    return fuzz_below(w.in, 16) == 1 ? pick_i64() : 0;
}

static uint32_t some_u32(void) {
    return fuzz_below(w.in, 8) == 1 ? pick_u32() : 0;
}

/* Sizes, and what is wrong with them. */
static void pick_sizes(rm_pool_desc *d) {
    uint64_t max, idle;
    d->max = some_u32();
    d->overflow = some_u32();
    d->min_idle = some_u32();
    d->max_idle = some_u32();
    d->capacity = some_u32();
    d->max_creating = some_u32();
    d->max_waiters = some_u32();
    max = d->max == 0 ? 10 : d->max;
    idle = d->max_idle == 0 ? max : d->max_idle;
    refuse("capacity", d->capacity > 65535);
    refuse("max", max > 65535 || (d->capacity != 0 && max + d->overflow > d->capacity));
    refuse("overflow", max + d->overflow > 65535);
    refuse("min_idle", d->min_idle > max);
    refuse("max_idle", idle > max || idle < d->min_idle);
}

static void refuse_time(const char *field, int64_t ns, int64_t word, int64_t other) {
    refuse(field, ns < 0 && ns != word && ns != other);
}

static void pick_times(rm_pool_desc *d) {
    d->acquire_timeout_ns = some_i64();
    d->idle_timeout_ns = some_i64();
    d->validate_after_ns = some_i64();
    d->barge_ns = some_i64();
    d->grow_after_ns = some_i64();
    d->create_backoff_ns = some_i64();
    d->create_backoff_max_ns = some_i64();
    d->max_lifetime_ns = some_i64();
    d->lifetime_jitter = (int32_t)some_u32();
    d->keepalive_ns = some_i64();
    d->leak_after_ns = some_i64();
    d->reclaim_after_ns = some_i64();
    d->maintain_every_ns = fuzz_below(w.in, 8) == 1 ? -1 : 0; /* no threads */
    refuse("acquire_timeout_ns", !rm_timeout_valid(d->acquire_timeout_ns));
    refuse_time("idle_timeout_ns", d->idle_timeout_ns, RM_NONE, RM_NONE);
    refuse_time("validate_after_ns", d->validate_after_ns, RM_STRICT, RM_NONE);
    refuse_time("barge_ns", d->barge_ns, RM_STRICT, RM_STRICT);
    refuse_time("grow_after_ns", d->grow_after_ns, 0, 0);
    refuse_time("create_backoff_ns", d->create_backoff_ns, RM_NONE, RM_NONE);
    refuse_time("create_backoff_max_ns", d->create_backoff_max_ns, 0, 0);
    refuse_time("max_lifetime_ns", d->max_lifetime_ns, 0, 0);
    refuse("lifetime_jitter", d->lifetime_jitter > 100 || (d->lifetime_jitter < 0 &&
                                                           d->lifetime_jitter != (int32_t)RM_NONE));
    refuse_time("keepalive_ns", d->keepalive_ns, 0, 0);
    refuse_time("leak_after_ns", d->leak_after_ns, 0, 0);
    refuse_time("reclaim_after_ns", d->reclaim_after_ns, 0, 0);
    refuse_time("maintain_every_ns", d->maintain_every_ns, 0, 0);
    d->validate_fn = fuzz_below(w.in, 2) == 1 ? NULL : validate_fn;
    d->reclaim_fn = fuzz_below(w.in, 2) == 1 ? NULL : reclaim_fn;
    refuse("validate_fn", d->keepalive_ns != 0 && d->validate_fn == NULL);
    refuse("reclaim_fn", d->reclaim_after_ns != 0 && d->reclaim_fn == NULL);
}

/* Up to three endpoints; a name or a guard that is wrong. */
static void pick_endpoints(rm_pool_desc *d) {
    static rm_pool_endpoint endpoints[64];
    const uint32_t wrong = fuzz_below(w.in, 16), count = fuzz_below(w.in, 4);
    static const rm_guard half = {admit_fn, NULL, NULL};
    int i;
    for (i = 0; i < 64; ++i)
        endpoints[i] = (rm_pool_endpoint){"endpoint", NULL, &w};
    d->endpoints = count == 0 ? NULL : endpoints;
    d->endpoint_count = count;
    if (wrong == 1) d->endpoints = count == 0 ? endpoints : NULL;
    if (wrong == 2) d->endpoint_count = 65;
    if (wrong == 3) endpoints[0].name = NULL;
    if (wrong == 4) endpoints[0].name = "";
    if (wrong == 5) endpoints[0].guard = &half;
    d->balance = (rm_pool_balance)fuzz_below(w.in, 3);
    refuse("endpoint_count", wrong == 2);
    refuse("endpoints",
           wrong == 1 || (wrong == 2 && count == 0) || (wrong >= 3 && wrong <= 5 && count > 0));
    refuse("balance", (uint32_t)d->balance == 2);
}

static void compare_sizes(const rm_pool_desc *d, const rm_pool_desc *full) {
    const uint32_t max = d->max == 0 ? 10 : d->max;
    CHECK_EQ(max, full->max);
    CHECK_EQ(d->overflow, full->overflow);
    CHECK_EQ(d->min_idle, full->min_idle);
    CHECK_EQ(d->max_idle == 0 ? max : d->max_idle, full->max_idle);
    CHECK_EQ(d->capacity == 0 ? max + d->overflow : d->capacity, full->capacity);
    CHECK_EQ(d->max_creating == 0 ? UINT32_MAX : d->max_creating, full->max_creating);
}

static void compare_times(const rm_pool_desc *d, const rm_pool_desc *full) {
    const int64_t backoff = d->create_backoff_ns == 0 ? RM_MS(10) : d->create_backoff_ns;
    int64_t most = d->create_backoff_max_ns == 0 ? RM_SEC(5) : d->create_backoff_max_ns;
    if (most < backoff) most = backoff;
    CHECK_EQ(d->idle_timeout_ns == 0 ? RM_MINUTES(10) : d->idle_timeout_ns, full->idle_timeout_ns);
    CHECK_EQ(d->barge_ns == 0 ? RM_US(50) : d->barge_ns, full->barge_ns);
    CHECK_EQ(d->validate_after_ns == 0 ? RM_MS(500) : d->validate_after_ns,
             full->validate_after_ns);
    CHECK_EQ(d->acquire_timeout_ns == 0 ? RM_SEC(30) : d->acquire_timeout_ns,
             full->acquire_timeout_ns);
    CHECK_EQ(backoff, full->create_backoff_ns);
    CHECK_EQ(most, full->create_backoff_max_ns);
    CHECK_EQ(d->lifetime_jitter == 0                  ? 25
             : d->lifetime_jitter == (int32_t)RM_NONE ? 0
                                                      : d->lifetime_jitter,
             full->lifetime_jitter);
}

/* With grow_after_ns only one that waits may make a second resource; here nobody waits. */
static void use_pool(rm_pool *pool, size_t footprint) {
    rm_pool_stats stats;
    rm_lease lease;
    CHECK(footprint > sizeof(rm_pool));
    CHECK_EQ(RM_OK, rm_pool_acquire(pool, RM_NOWAIT, &lease, NULL));
    CHECK_EQ(RM_OK, rm_pool_release(pool, &lease, RM_RELEASE_OK));
    CHECK_EQ(RM_OK, rm_pool_stats_get(pool, &stats));
    CHECK(stats.acquired == 1 && stats.in_use == 0 && stats.idle + stats.destroyed == 1);
    CHECK_EQ(RM_OK, rm_pool_destroy(pool));
}

/* In the caller's memory, or in too little of it. */
static void pick_memory(rm_pool_desc *d, size_t footprint) {
    static char memory[1 << 16];
    const uint32_t which = fuzz_below(w.in, 8);
    if (which == 1) d->memory_size = 1;
    if (which > 1 && which < 5 && footprint > 0 && footprint <= sizeof memory) {
        d->memory = memory;
        d->memory_size = which == 2 ? footprint - 1 : footprint;
    }
    refuse("memory", d->memory == NULL && d->memory_size != 0);
    refuse("memory_size", d->memory != NULL && d->memory_size < footprint);
}

static void try_pool(void) {
    rm_pool_desc d = rm_pool_desc_default(), full;
    rm_pool *pool = NULL;
    rm_status status;
    size_t footprint;
    d.env = pick_env();
    d.name = pick_name(47);
    d.create_fn = fuzz_below(w.in, 8) == 1 ? NULL : create_fn;
    d.guard = pick_guard();
    pick_sizes(&d);
    pick_times(&d);
    pick_endpoints(&d);
    footprint = rm_pool_footprint(&d);
    pick_memory(&d, footprint);
    d.user = &w;
    refuse("create_fn", d.create_fn == NULL);
    status = rm_pool_create(&d, &pool, &w.error);
    if (!made(status, pool != NULL, 0)) return;
    CHECK_EQ(d.memory == NULL ? 1 : 0, w.memory.blocks);
    CHECK(rm_pool_desc_get(pool, &full) == RM_OK);
    CHECK(strcmp(d.name == NULL ? "pool" : d.name, full.name) == 0);
    compare_sizes(&d, &full);
    compare_times(&d, &full);
    use_pool(pool, footprint);
}

static void try_cache(void) {
    rm_cache_desc d = rm_cache_desc_default(), full;
    rm_cache *cache = NULL;
    rm_status status;
    size_t size = 0;
    d.env = pick_env();
    d.name = pick_name(47);
    d.max_entries = pick_i64();
    d.max_bytes = pick_i64();
    d.ttl_ns = pick_i64();
    d.max_pins = pick_u32();
    d.guard = pick_guard();
    refuse("max_entries", (d.max_entries < 0 && d.max_entries != RM_NONE) ||
                              d.max_entries > INT64_C(1) << 31 ||
                              (d.max_entries == RM_NONE && d.max_bytes == RM_NONE));
    refuse("max_bytes", d.max_bytes < 0 && d.max_bytes != RM_NONE);
    refuse("ttl_ns", d.ttl_ns < 0 && d.ttl_ns != RM_NONE);
    refuse("max_pins", d.max_pins > 1 << 24);
    status = rm_cache_create(&d, &cache, &w.error);
    if (!made(status, cache != NULL, 0)) return;
    CHECK(rm_cache_desc_get(cache, &full) == RM_OK);
    CHECK_EQ(d.max_entries == 0 ? 10000 : d.max_entries, full.max_entries);
    CHECK_EQ(d.max_bytes == 0 ? 64 << 20 : d.max_bytes, full.max_bytes);
    CHECK_EQ(d.max_pins == 0 ? 1024 : d.max_pins, full.max_pins);
    CHECK_EQ(d.ttl_ns == 0 ? RM_SEC(3600) : d.ttl_ns, full.ttl_ns);
    status = rm_cache_set(cache, "key", 3, "value", 5, 0, NULL);
    if (status == RM_E_NOMEM && w.memory.refused > 0)
        CHECK_EQ(RM_OK, rm_cache_set(cache, "key", 3, "value", 5, 0, NULL));
    else
        CHECK_EQ(full.max_bytes != RM_NONE && full.max_bytes < 72 ? RM_E_TOO_LARGE : RM_OK, status);
    if (status == RM_OK) {
        const bool brief = full.ttl_ns != RM_NONE && full.ttl_ns <= RM_SEC(1);
        status = rm_cache_get(cache, "key", 3, NULL, 0, &size);
        CHECK(status == RM_E_TOO_LARGE || (brief && status == RM_E_NOT_FOUND)); /* it is over */
        CHECK_EQ(status == RM_E_TOO_LARGE ? 5 : 0, size);
    }
    CHECK_EQ(RM_OK, rm_cache_destroy(cache));
}

static void try_breaker(void) {
    const int64_t year = RM_SEC(86400) * 365;
    rm_breaker_desc d = rm_breaker_desc_default();
    rm_breaker *breaker = NULL;
    rm_breaker_stats stats;
    rm_permit permit;
    rm_status status;
    d.env = pick_env();
    d.name = pick_name(47);
    d.open_ns = pick_i64();
    d.probe_wait_ns = pick_i64();
    d.failures = pick_u32();
    d.probes = pick_u32();
    d.probe_successes = pick_u32();
    d.open_jitter_permille = (int32_t)pick_i64();
    refuse("open_ns", d.open_ns < 0 || d.open_ns > year);
    refuse("probe_wait_ns",
           (d.probe_wait_ns < 0 && d.probe_wait_ns != RM_FOREVER) || d.probe_wait_ns > year);
    refuse("probes", d.probes > 4095);
    refuse("probe_successes", d.probe_successes > 4095);
    refuse("open_jitter_permille",
           (d.open_jitter_permille < 0 && d.open_jitter_permille != RM_NONE) ||
               d.open_jitter_permille > 1000);
    status = rm_breaker_create(&d, &breaker, &w.error);
    if (!made(status, breaker != NULL, 0)) return;
    CHECK_EQ(RM_OK, rm_breaker_acquire(breaker, &permit, NULL));
    CHECK_EQ(RM_OK, rm_breaker_record(breaker, &permit, RM_OUTCOME_FAILURE));
    CHECK_EQ(RM_OK, rm_breaker_trip(breaker));
    CHECK(rm_breaker_stats_get(breaker, &stats) == RM_OK);
    if (w.env.clock != NULL) { /* else a rest of 1 ns may be over */
        CHECK_EQ(RM_E_REJECTED, rm_breaker_acquire(breaker, &permit, NULL));
        CHECK(stats.retry_after_ns > 0);
    }
    CHECK(stats.retry_after_ns <= 2 * year + RM_MS(1));
    rm_breaker_destroy(breaker);
}

static void try_retry(void) {
    const rm_deadline never = {0};
    rm_retry_desc d = rm_retry_desc_default();
    rm_retry retry;
    rm_status status;
    int64_t cap, wait = -9;
    memset(&retry, 0, sizeof retry);
    d.env = pick_env();
    d.base_ns = pick_i64();
    d.cap_ns = pick_i64();
    d.max_retry_after_ns = pick_i64();
    d.max_retries = (int32_t)pick_i64();
    d.jitter = (rm_jitter)pick_u32();
    cap = d.cap_ns == 0 ? RM_SEC(30) : d.cap_ns;
    refuse("cap_ns", cap < 0);
    refuse("base_ns", (d.base_ns < 0 && d.base_ns != RM_NONE) || d.base_ns > cap);
    refuse("max_retry_after_ns", d.max_retry_after_ns < 0 && d.max_retry_after_ns != RM_NONE);
    refuse("max_retries", d.max_retries < 0 && d.max_retries != RM_NONE);
    refuse("jitter", d.jitter > RM_JITTER_DECORRELATED);
    status = rm_retry_begin(&retry, &d, never, &w.error);
    if (!made(status, retry.env.clock != NULL, 0)) return;
    status = rm_retry_next(&retry, RM_E_TIMEOUT, 0, &wait);
    CHECK_EQ(d.max_retries == RM_NONE ? RM_E_TIMEOUT : RM_OK, status);
    if (status == RM_OK) CHECK(wait >= 0 && wait <= cap);
}

static void try_manager(void) {
    rm_manager_desc d = {pick_env(), pick_u32()};
    rm_manager *manager = NULL;
    rm_resource resource = rm_resource_make(NULL, "kind", &w);
    rm_status status;
    refuse("max_resources", d.max_resources > 65535);
    status = rm_manager_create(&d, &manager, &w.error);
    if (!made(status, manager != NULL, 0)) return;
    resource.name = pick_name(47);
    status = rm_manager_add(manager, &resource, NULL);
    CHECK_EQ(resource.name == NULL || resource.name[0] == '\0' ? RM_E_INVALID
             : w.bad_count > 0                                 ? RM_E_TOO_LARGE
                                                               : RM_OK,
             status);
    CHECK_EQ(RM_OK, rm_manager_start(manager, RM_SEC(1), NULL));
    CHECK_EQ(RM_OK, rm_manager_stop(manager, RM_SEC(1), NULL));
    CHECK_EQ(RM_OK, rm_manager_destroy(manager));
}

static rm_status make_fn(const void *key, size_t size, void **value, rm_error *error, void *user) {
    (void)key, (void)size, (void)error;
    *value = user;
    return RM_OK;
}

static void try_registry(void) {
    rm_registry_desc d;
    rm_registry *registry = NULL;
    rm_registry_ref ref;
    rm_status status;
    memset(&d, 0, sizeof d);
    d.env = pick_env();
    d.max_entries = pick_u32();
    d.max_key = pick_u32();
    d.stripes = pick_u32();
    d.create_fn = fuzz_below(w.in, 2) ? make_fn : NULL;
    d.user = &w;
    refuse("max_entries", d.max_entries > 1 << 24);
    refuse("stripes", d.stripes > 256);
    status = rm_registry_create(&d, &registry, &w.error);
    if (!made(status, registry != NULL, 0)) return;
    status = rm_registry_get(registry, "key", 3, &ref, NULL);
    if (d.max_key != 0 && d.max_key < 3)
        CHECK_EQ(RM_E_TOO_LARGE, status);
    else if (d.create_fn == NULL)
        CHECK_EQ(RM_E_NOT_FOUND, status);
    else if (status != RM_E_NOMEM || w.memory.refused == 0)
        CHECK_EQ(RM_OK, status);
    if (status == RM_OK) CHECK(ref.value == &w && rm_registry_put(registry, &ref) == RM_OK);
    CHECK_EQ(RM_OK, rm_registry_destroy(registry));
}

static void try_queues(void) {
    rm_waitq_desc q;
    rm_sem_desc s;
    rm_waitq queue;
    rm_sem sem;
    memset(&q, 0, sizeof q);
    memset(&s, 0, sizeof s);
    q.barge_ns = s.barge_ns = pick_i64();
    q.max_waiters = s.max_waiters = pick_u32();
    s.permits = pick_u32();
    if (q.barge_ns < 0 && q.barge_ns != RM_STRICT) {
        CHECK_EQ(RM_E_INVALID, rm_waitq_init(&queue, &q));
        CHECK_EQ(RM_E_INVALID, rm_sem_init(&sem, &s));
        return;
    }
    CHECK_EQ(RM_OK, rm_waitq_init(&queue, &q));
    CHECK_EQ(RM_OK, rm_waitq_destroy(&queue));
    CHECK_EQ(RM_OK, rm_sem_init(&sem, &s));
    CHECK_EQ(RM_OK, rm_sem_acquire(&sem, RM_NOWAIT, NULL));
    CHECK_EQ((s.permits == 0 ? 1 : s.permits) - 1, rm_sem_available(&sem));
    CHECK_EQ(RM_OK, rm_sem_release(&sem));
    CHECK_EQ(RM_OK, rm_sem_destroy(&sem));
}

/* Bins in memory of exactly the size that was asked for; edges ascend; counts are exact at them. */
static void try_histogram(void) {
    const rm_hist_desc d = {pick_u32(), pick_u32(),
                            (uint32_t)FUZZ_CHOOSE(w.in, 0, 16, 32, 80, 160, 17, UINT32_MAX)};
    const uint32_t cut = d.per_decade == 0 ? 16 : d.per_decade;
    const uint32_t last = d.last_decade == 0 ? 9 : d.last_decade;
    const bool bad =
        (cut != 16 && cut != 32 && cut != 80 && cut != 160) || last > 18 || d.first_decade >= last;
    const size_t size = rm_hist_footprint(&d);
    rm_hist hist;
    void *memory = malloc(size > 0 ? size : 8);
    CHECK(memory != NULL);
    CHECK_EQ(bad, size == 0);
    CHECK_EQ(bad ? RM_E_INVALID : RM_E_TOO_LARGE,
             rm_hist_init(&hist, &d, memory, size > 0 ? size - 1 : 0));
    if (!bad) {
        CHECK_EQ(RM_OK, rm_hist_init(&hist, &d, memory, size));
        for (uint32_t bin = 0; bin < hist.bins; ++bin) {
            const int64_t edge = rm_hist_bin_edge(&hist, bin);
            CHECK(bin == 0 ? edge == 0 : edge > rm_hist_bin_edge(&hist, bin - 1));
            CHECK_EQ(RM_OK, rm_hist_record(&hist, edge));
            CHECK_EQ(bin + 1, rm_hist_count_le(&hist, edge));
            CHECK_EQ(1, hist.counts[bin]);
        }
        CHECK(rm_hist_quantile(&hist, 1) == INT64_MAX && rm_hist_quantile(&hist, 0) == 0);
    }
    free(memory);
}

/* Whatever is bad in it: one of these is named. */
static void refuse_metric(const rm_metric_desc *d) {
    static const char *const fields[] = {"name",   "help", "labels",   "label_count", "bound_count",
                                         "bounds", "bins", "decimals", "type"};
    const bool histogram = d->type == RM_METRIC_HISTOGRAM;
    if (d->type > RM_METRIC_HISTOGRAM || d->label_count > 8 || d->bound_count > 64 ||
        d->decimals > 18 || (!histogram && (d->bound_count > 0 || d->decimals > 0)) ||
        d->help == NULL || d->name == NULL || w.bad_count > 0)
        w.bad[0] = NULL; /* must be refused */
    else if (w.bad_count == 0)
        return;
    w.bad_count = 0;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; ++i)
        refuse(fields[i], true);
}

static void try_family(rm_metrics *metrics) {
    static const char *const labels[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    static const char *const values[] = {"", "1", "\xff", "\"", "5", "6", "7", "8"};
    rm_metric_desc d;
    rm_metrics_family *family = NULL;
    int64_t bounds[64];
    char page[256];
    rm_text text = rm_text_make(page, sizeof page);
    const uint64_t before = w.memory.blocks;
    rm_counter counter;
    rm_status status;
    memset(&d, 0, sizeof d);
    w.bad_count = 0;
    d.name = pick_name(127);
    d.help = fuzz_below(w.in, 4) == 1 ? NULL : "help";
    d.type = (rm_metric_type)fuzz_below(w.in, 4);
    d.labels = fuzz_below(w.in, 4) == 1 ? NULL : labels;
    d.label_count = pick_u32();
    d.bound_count = pick_u32();
    d.bounds = d.bound_count == 0 ? NULL : bounds;
    d.bins.first_decade = pick_u32();
    d.bins.last_decade = pick_u32();
    d.bins.per_decade = fuzz_below(w.in, 2) ? 0 : pick_u32();
    d.decimals = pick_u32();
    for (size_t i = 0; i < 64; ++i)
        bounds[i] = d.bound_count < 8 ? pick_i64() : (int64_t)i;
    refuse_metric(&d);
    status = rm_metrics_add(metrics, &d, &family, &w.error);
    if (w.bad_count == 0 && status == RM_E_INVALID) { /* bounds, bins and labels that do not fit */
        refuse("labels", true), refuse("bounds", true), refuse("bins", true);
        refuse("decimals", true);
    }
    if (!made(status, family != NULL, before)) return;
    if (d.type == RM_METRIC_COUNTER) {
        status = rm_counter_with(family, values, d.label_count, &counter, NULL);
        CHECK(status == RM_OK || (status == RM_E_NOMEM && w.memory.refused > 0));
        if (status == RM_OK) CHECK_EQ(RM_OK, rm_counter_add(counter, 1));
    }
    CHECK_EQ(RM_E_TOO_LARGE, rm_metrics_render(metrics, &text)); /* of 256 bytes */
}

static void try_metrics(void) {
    rm_metrics_desc d = {pick_env(), pick_u32(), pick_u32()};
    rm_metrics *metrics = NULL;
    rm_status status;
    refuse("max_families", d.max_families > 65535);
    refuse("max_series", d.max_series > 1 << 24);
    status = rm_metrics_create(&d, &metrics, &w.error);
    if (!made(status, metrics != NULL, 0)) return;
    w.memory.fail = w.memory.calls + fuzz_below(w.in, 8);
    try_family(metrics);
    CHECK_EQ(RM_OK, rm_metrics_destroy(metrics));
}

static void try_one(fuzz_input *in) {
    memset(&w, 0, sizeof w);
    w.in = in;
    w.time.now = RM_SEC(1);
    switch (fuzz_below(in, 10)) {
    case 0: try_pool(); break;
    case 1: try_cache(); break;
    case 2: try_breaker(); break;
    case 3: try_retry(); break;
    case 4: try_manager(); break;
    case 5: try_registry(); break;
    case 6: try_queues(); break;
    case 7: try_histogram(); break;
    default: try_metrics(); break;
    }
    CHECK_EQ(0, w.memory.blocks); /* destroyed, or never made */
}

/* Each desc has RECORD bytes of the input, whether it takes them or not. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    for (size_t at = 0; at < size && at < LONGEST; at += RECORD) {
        fuzz_input in = {data + at, data + (size - at < RECORD ? size : at + RECORD)};
        try_one(&in);
    }
    return 0;
}

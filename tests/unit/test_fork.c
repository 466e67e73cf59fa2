/* The contract of rm_x_after_fork_child: whatever another thread was in the middle of when the
   process forked, the child starts afresh.  The parent's other thread is held inside a lock by its
   clock, its allocator or another primitive; without the call the child would wait for that lock
   for ever, and alarm() would end it. */
#define RM_IMPLEMENTATION
#include "rm_breaker.h"
#include "rm_cache.h"
#include "rm_metrics.h"
#include "rm_pool.h"
#include "rm_test.h"
#include <stdlib.h>

static int made, ended, discarded;

static rm_status make(void **resource, rm_deadline deadline, rm_error *error, void *user) {
    (void)deadline, (void)error, (void)user;
    *resource = &made;
    ++made;
    return RM_OK;
}

static void end(void *resource, void *user) {
    (void)resource, (void)user;
    ++ended;
}

/* Of the parent's; what it is called for is noted. */
static void *discarded_first;

static void discard(void *resource, void *user) {
    (void)user;
    if (discarded++ == 0) discarded_first = resource;
}

static int requests_done;
static rm_status request_status;

static void request_done(rm_status status, const rm_lease *lease, const rm_error *error,
                         void *user) {
    rm_pool *pool = (rm_pool *)user;
    rm_lease copy;
    (void)error;
    ++requests_done;
    request_status = status;
    if (status != RM_OK) return;
    copy = *lease;
    CHECK_EQ(RM_OK, rm_pool_release(pool, &copy, RM_RELEASE_OK));
}

/* ---- what a child sees; these run in this process too, where there is no fork() */

static void check_pool(rm_pool *pool, rm_lease *old, uint32_t max, int there) {
    rm_pool_stats stats;
    rm_lease lease[2];
    void *resource = NULL;
    const int before = ended;
    discarded = 0;
    CHECK_EQ(RM_OK, rm_pool_after_fork_child(pool));
    CHECK_EQ(before, ended); /* no goodbye on what is the parent's */
    CHECK_EQ(there, discarded);
    CHECK(discarded_first == &made);
    CHECK_EQ(RM_OK, rm_pool_stats_get(pool, &stats));
    CHECK_EQ(0, rm_pool_leases(pool, NULL, NULL));
    CHECK_EQ(RM_E_STALE, rm_pool_detach(pool, old, &resource));
    CHECK_EQ(RM_E_STALE, rm_pool_note(pool, old, "child"));
    CHECK_EQ(max, stats.empty);
    CHECK_EQ(0, stats.created + stats.acquired + stats.waiting + stats.timeouts);
    CHECK_EQ(RM_E_STALE, rm_pool_release(pool, old, RM_RELEASE_OK));
    CHECK_EQ(RM_OK, rm_pool_acquire(pool, RM_NOWAIT, &lease[0], NULL));
    CHECK_EQ(RM_E_STALE, rm_pool_release(pool, old, RM_RELEASE_OK));
    CHECK_EQ(RM_OK, rm_pool_release(pool, &lease[0], RM_RELEASE_OK));
    CHECK_EQ(RM_OK, rm_pool_acquire(pool, RM_MS(1), &lease[1], NULL));
    CHECK_EQ(RM_OK, rm_pool_release(pool, &lease[1], RM_RELEASE_BROKEN));
    CHECK_EQ(before + 1, ended);
    CHECK_EQ(RM_OK, rm_pool_stats_get(pool, &stats));
    CHECK_EQ(2, stats.acquired);
    CHECK_EQ(RM_OK, rm_pool_destroy(pool));
}

static void check_cache(rm_cache *cache, rm_cache_pin *old) {
    rm_cache_stats stats;
    rm_cache_pin pin;
    char value[4];
    CHECK_EQ(RM_OK, rm_cache_after_fork_child(cache));
    CHECK_EQ(RM_OK, rm_cache_stats_get(cache, &stats));
    CHECK_EQ(0, stats.entries + stats.bytes + stats.pins + stats.hits + stats.misses + stats.sets);
    CHECK_EQ(RM_E_NOT_FOUND, rm_cache_get(cache, "a", 1, value, sizeof value, NULL));
    CHECK_EQ(RM_OK, rm_cache_set(cache, "a", 1, "new", 3, 0, NULL));
    CHECK_EQ(RM_OK, rm_cache_acquire(cache, "a", 1, &pin));
    CHECK_EQ(RM_E_STALE, rm_cache_release(cache, old));
    CHECK_EQ(RM_OK, rm_cache_release(cache, &pin));
    CHECK_EQ(RM_OK, rm_cache_set(cache, "b", 1, "new", 3, 0, NULL));
    CHECK_EQ(RM_OK, rm_cache_set(cache, "c", 1, "new", 3, 0, NULL)); /* evicts the child's own */
    CHECK_EQ(RM_E_NOT_FOUND, rm_cache_get(cache, "a", 1, value, sizeof value, NULL));
    CHECK_EQ(RM_OK, rm_cache_stats_get(cache, &stats));
    CHECK_EQ(2, stats.entries);
    CHECK_EQ(1, stats.evicted);
    CHECK_EQ(RM_OK, rm_cache_destroy(cache));
}

static void check_manager(rm_manager *manager, int *running) {
    rm_resource_status status[4];
    const rm_resource another = rm_resource_make("another", "x", NULL);
    uint32_t count = 0;
    CHECK_EQ(RM_OK, rm_manager_after_fork_child(manager));
    CHECK_EQ(1, *running); /* no hook was called */
    CHECK_EQ(RM_OK, rm_manager_status(manager, status, 4, &count));
    CHECK_EQ(1, count);
    CHECK_EQ(RM_STATE_REGISTERED, status[0].state);
    CHECK_EQ(RM_OK, rm_manager_add(manager, &another, NULL)); /* as while nothing runs */
    CHECK_EQ(RM_OK, rm_manager_stop(manager, 0, NULL));
    CHECK_EQ(1, *running);
    CHECK_EQ(RM_OK, rm_manager_start(manager, 0, NULL));
    CHECK_EQ(2, *running);
    CHECK_EQ(RM_OK, rm_manager_stop(manager, 0, NULL));
    CHECK_EQ(1, *running);
    CHECK_EQ(RM_OK, rm_manager_destroy(manager));
}

static size_t page(rm_metrics *metrics, char *buffer, size_t size) {
    rm_text text = rm_text_make(buffer, size - 1);
    CHECK_EQ(RM_OK, rm_metrics_render(metrics, &text));
    buffer[text.used] = '\0';
    return text.used;
}

/* How often a string occurs in another. */
static int occurrences(const char *text, const char *part) {
    int count = 0;
    while ((text = strstr(text, part)) != NULL)
        ++count, ++text;
    return count;
}

struct counted {
    rm_metrics *metrics;
    rm_metrics_family *calls, *seconds, *temperature;
    rm_counter get;
    rm_histogram took;
    rm_gauge degrees;
};

static void check_metrics(struct counted *c) {
    static const char *const get[] = {"get"}, *const put[] = {"put"}, *const more[] = {"more"};
    static char text[1 << 16];
    rm_counter counter = {NULL};
    uint64_t value = 7;
    double degrees = 0;
    CHECK_EQ(RM_OK, rm_metrics_after_fork_child(c->metrics));
    CHECK_EQ(RM_OK, rm_counter_value(c->get, &value));
    CHECK_EQ(0, value);
    CHECK_EQ(RM_OK, rm_gauge_value(c->degrees, &degrees));
    CHECK(degrees == 21.5);
    CHECK_EQ(RM_OK, rm_counter_add(c->get, 3));
    CHECK_EQ(RM_OK, rm_histogram_observe(c->took, 5));
    CHECK_EQ(RM_OK, rm_counter_with(c->calls, get, 1, &counter, NULL));
    CHECK(counter.series == c->get.series); /* found, not made again */
    CHECK_EQ(RM_OK, rm_counter_with(c->calls, put, 1, &counter, NULL));
    CHECK_EQ(RM_OK, rm_counter_add(counter, 1));
    CHECK_EQ(RM_OK, rm_counter_with(c->calls, more, 1, &counter, NULL)); /* above max_series */
    CHECK_EQ(RM_OK, rm_counter_add(counter, 9));
    (void)page(c->metrics, text, sizeof text);
    CHECK_EQ(1, occurrences(text, "calls_total{verb=\"get\"} 3\n"));
    CHECK_EQ(1, occurrences(text, "calls_total{verb=\"put\"} 1\n"));
    CHECK_EQ(1, occurrences(text, "calls_total{overflow=\"true\"} 9\n"));
    CHECK_EQ(1, occurrences(text, "took_seconds_count 1\n"));
    CHECK_EQ(1, occurrences(text, "temperature_celsius 21.5\n"));
    CHECK_EQ(0, occurrences(text, "rm_pool"));
    CHECK_EQ(RM_OK, rm_metrics_destroy(c->metrics));
}

static void show(void *user, rm_stat_fn visit, void *to) {
    rm_stat stat;
    (void)user;
    memset(&stat, 0, sizeof stat);
    stat.name = "rm_pool_max";
    stat.help = "Resources at most.";
    visit(&stat, to);
}

/* Two series at most; one is made here, and with overflow more than two. */
static bool counted_make(struct counted *c, const rm_env *env, bool overflow) {
    static const char *const verb[] = {"verb"}, *const get[] = {"get"}, *const put[] = {"put"},
                             *const more[] = {"more"};
    rm_metric_desc calls = rm_metrics_describe(RM_METRIC_COUNTER, "calls_total", "Calls.");
    rm_metric_desc took = rm_metrics_describe(RM_METRIC_HISTOGRAM, "took_seconds", "Time.");
    rm_metric_desc heat = rm_metrics_describe(RM_METRIC_GAUGE, "temperature_celsius", "Heat.");
    rm_resource resource = rm_resource_make("db", "pool", NULL);
    rm_metrics_desc desc;
    rm_counter counter;
    bool ok;
    memset(&desc, 0, sizeof desc);
    desc.env = env;
    desc.max_series = 2;
    calls.labels = verb;
    calls.label_count = 1;
    took.decimals = 9;
    resource.stats_fn = show;
    ok = CHECK_EQ(RM_OK, rm_metrics_create(&desc, &c->metrics, NULL)) &&
         CHECK_EQ(RM_OK, rm_metrics_add(c->metrics, &calls, &c->calls, NULL)) &&
         CHECK_EQ(RM_OK, rm_metrics_add(c->metrics, &took, &c->seconds, NULL)) &&
         CHECK_EQ(RM_OK, rm_metrics_add(c->metrics, &heat, &c->temperature, NULL)) &&
         CHECK_EQ(RM_OK, rm_metrics_add_resource(c->metrics, &resource, NULL)) &&
         CHECK_EQ(RM_OK, rm_counter_with(c->calls, get, 1, &c->get, NULL)) &&
         CHECK_EQ(RM_OK, rm_histogram_with(c->seconds, NULL, 0, &c->took, NULL)) &&
         CHECK_EQ(RM_OK, rm_gauge_with(c->temperature, NULL, 0, &c->degrees, NULL));
    if (!ok) return false;
    (void)rm_counter_add(c->get, 41);
    (void)rm_histogram_observe(c->took, 77);
    (void)rm_gauge_set(c->degrees, 21.5);
    if (!overflow) return true;
    return CHECK_EQ(RM_OK, rm_counter_with(c->calls, put, 1, &counter, NULL)) &&
           CHECK_EQ(RM_OK, rm_counter_with(c->calls, more, 1, &counter, NULL));
}

static rm_status object(const void *key, size_t size, void **value, rm_error *error, void *user) {
    (void)key, (void)size, (void)error, (void)user;
    *value = &made;
    return RM_OK;
}

static void object_end(void *value, void *user) {
    (void)value, (void)user;
    ++ended;
}

static void check_registry(rm_registry *registry, rm_registry_ref *old) {
    rm_registry_ref ref, other;
    const int before = ended;
    CHECK_EQ(RM_OK, rm_registry_after_fork_child(registry));
    CHECK_EQ(before, ended);
    CHECK_EQ(0, rm_registry_count(registry));
    CHECK_EQ(RM_E_STALE, rm_registry_put(registry, old));
    CHECK_EQ(RM_OK, rm_registry_get(registry, "a", 1, &ref, NULL));
    CHECK_EQ(RM_OK, rm_registry_get(registry, "c", 1, &other, NULL)); /* both slots are there */
    CHECK_EQ(RM_E_STALE, rm_registry_put(registry, old));
    CHECK_EQ(RM_OK, rm_registry_put(registry, &ref));
    CHECK_EQ(RM_OK, rm_registry_put(registry, &other));
    CHECK_EQ(RM_OK, rm_registry_destroy(registry));
}

/* The probe of a half-open breaker is the parent's, and would never be recorded here. */
TEST(fork, a_breaker_probes_for_itself) {
    rm_breaker_desc desc = rm_breaker_desc_default();
    rm_virtual_clock time;
    rm_breaker_stats stats;
    rm_permit parent, child, second;
    rm_breaker *breaker = NULL;
    rm_clock clock;
    rm_env env;
    uint64_t generation;
    REQUIRE(rm_virtual_clock_init(&time, RM_SEC(100), true) == RM_OK);
    clock = rm_virtual_clock_clock(&time);
    memset(&env, 0, sizeof env);
    env.clock = &clock;
    desc.env = &env;
    desc.probe_wait_ns = RM_FOREVER;
    REQUIRE(rm_breaker_create(&desc, &breaker, NULL) == RM_OK);
    CHECK_EQ(RM_OK, rm_breaker_trip(breaker));
    rm_virtual_clock_advance(&time, RM_MINUTES(10));
    REQUIRE(rm_breaker_acquire(breaker, &parent, NULL) == RM_OK);
    CHECK_EQ(RM_E_REJECTED, rm_breaker_acquire(breaker, &second, NULL));
    CHECK_EQ(RM_OK, rm_breaker_stats_get(breaker, &stats));
    generation = stats.generation;
    CHECK_EQ(RM_OK, rm_breaker_after_fork_child(breaker));
    CHECK_EQ(RM_OK, rm_breaker_stats_get(breaker, &stats));
    CHECK_EQ(RM_BREAKER_STATE_OPEN, stats.state);
    CHECK_EQ(generation + 1, stats.generation);
    CHECK_EQ(0, stats.rejected + stats.probes_out);
    REQUIRE(rm_breaker_acquire(breaker, &child, NULL) == RM_OK);
    CHECK_EQ(RM_E_STALE, rm_breaker_record(breaker, &parent, RM_OUTCOME_FAILURE));
    CHECK_EQ(RM_OK, rm_breaker_record(breaker, &child, RM_OUTCOME_OK));
    CHECK_EQ(RM_OK, rm_breaker_stats_get(breaker, &stats));
    CHECK_EQ(RM_BREAKER_STATE_CLOSED, stats.state);
    rm_breaker_destroy(breaker);
    rm_virtual_clock_destroy(&time);
}

TEST(fork, objects_refuse_null) {
    CHECK_EQ(RM_E_INVALID, rm_breaker_after_fork_child(NULL));
    CHECK_EQ(RM_E_INVALID, rm_pool_after_fork_child(NULL));
    CHECK_EQ(RM_E_INVALID, rm_cache_after_fork_child(NULL));
    CHECK_EQ(RM_E_INVALID, rm_metrics_after_fork_child(NULL));
    CHECK_EQ(RM_E_INVALID, rm_registry_after_fork_child(NULL));
    CHECK_EQ(RM_E_INVALID, rm_manager_after_fork_child(NULL));
}

/* An allocator that forgets nothing, so that what the contract leaves behind is no leak here. */
static void *kept[64];
static int kept_count;

static void *keep_alloc(size_t size, void *user) {
    (void)user;
    if (kept_count == 64) return NULL;
    return kept[kept_count++] = malloc(size);
}

static void keep_free(void *pointer, size_t size, void *user) {
    (void)pointer, (void)size, (void)user;
}

static void keep_end(void) {
    while (kept_count > 0)
        free(kept[--kept_count]);
}

static rm_env keeping(void) {
    static const rm_allocator allocator = {keep_alloc, keep_free, NULL};
    rm_env env;
    memset(&env, 0, sizeof env);
    env.allocator = &allocator;
    return env;
}

static rm_pool *pool_make(const rm_env *env) {
    rm_pool_desc desc = rm_pool_desc_default();
    rm_pool *pool = NULL;
    desc.env = env;
    desc.max = 2;
    desc.create_fn = make;
    desc.destroy_fn = end;
    desc.discard_fn = discard;
    CHECK_EQ(RM_OK, rm_pool_create(&desc, &pool, NULL));
    return pool;
}

TEST(fork, a_pool_starts_afresh_even_when_it_was_closed) {
    const rm_env env = keeping();
    rm_pool *pool = pool_make(&env);
    rm_lease lease, idle;
    REQUIRE(pool != NULL);
    REQUIRE(rm_pool_acquire(pool, 0, &lease, NULL) == RM_OK);
    REQUIRE(rm_pool_acquire(pool, 0, &idle, NULL) == RM_OK);
    CHECK_EQ(RM_OK, rm_pool_release(pool, &idle, RM_RELEASE_OK));
    CHECK_EQ(RM_E_BUSY, rm_pool_close(pool, RM_NOWAIT, NULL));
    check_pool(pool, &lease, 2, 1); /* what was idle has ended with the pool */
    keep_end();
}

TEST(fork, a_pool_forgets_who_waits) {
    const rm_env env = keeping();
    const rm_deadline never = {0};
    rm_pool *pool = pool_make(&env);
    rm_pool_request request, another;
    rm_lease lease[3];
    REQUIRE(pool != NULL);
    requests_done = 0;
    CHECK_EQ(RM_OK, rm_pool_acquire(pool, 0, &lease[0], NULL));
    CHECK_EQ(RM_OK, rm_pool_acquire(pool, 0, &lease[1], NULL));
    CHECK_EQ(RM_OK, rm_pool_acquire_async(pool, &request, never, NULL, request_done, NULL, pool));
    CHECK_EQ(RM_OK, rm_pool_after_fork_child(pool));
    CHECK_EQ(RM_E_STALE, rm_pool_request_cancel(&request));
    CHECK_EQ(RM_OK, rm_pool_acquire(pool, 0, &lease[0], NULL));
    CHECK_EQ(RM_OK, rm_pool_acquire(pool, 0, &lease[1], NULL));
    CHECK_EQ(RM_OK, rm_pool_acquire_async(pool, &another, never, NULL, request_done, NULL, pool));
    CHECK_EQ(RM_E_STALE, rm_pool_request_cancel(&request)); /* another one waits */
    CHECK_EQ(0, requests_done);
    CHECK_EQ(RM_OK, rm_pool_release(pool, &lease[0], RM_RELEASE_OK));
    CHECK(requests_done == 1 && request_status == RM_OK);
    CHECK_EQ(RM_OK, rm_pool_release(pool, &lease[1], RM_RELEASE_OK));
    CHECK_EQ(RM_OK, rm_pool_destroy(pool));
    keep_end();
}

/* Forks in its acquired_fn; what follows is the child's. */
static void fork_in_callback(rm_status status, const rm_lease *lease, const rm_error *error,
                             void *user) {
    (void)lease, (void)error;
    CHECK_EQ(RM_OK, status);
    CHECK_EQ(RM_OK, rm_pool_after_fork_child((rm_pool *)user));
}

/* One is called, and with `behind` another is due after it. */
static void check_fork_in_callback(bool behind) {
    const rm_env env = keeping();
    const rm_deadline never = {0};
    rm_pool *pool = pool_make(&env);
    rm_pool_request forks, other;
    rm_pool_stats stats;
    rm_lease lease[2];
    REQUIRE(pool != NULL);
    requests_done = 0;
    CHECK_EQ(RM_OK, rm_pool_suspend(pool));
    CHECK_EQ(RM_OK, rm_pool_acquire_async(pool, &forks, never, NULL, fork_in_callback, NULL, pool));
    if (behind)
        CHECK_EQ(RM_OK, rm_pool_acquire_async(pool, &other, never, NULL, request_done, NULL, pool));
    CHECK_EQ(RM_OK, rm_pool_resume(pool)); /* both are served in here */
    CHECK_EQ(0, requests_done);
    CHECK_EQ(RM_OK, rm_pool_stats_get(pool, &stats));
    CHECK_EQ(2, stats.empty);
    CHECK_EQ(0, stats.created + stats.acquired);
    CHECK_EQ(RM_OK, rm_pool_acquire(pool, RM_NOWAIT, &lease[0], NULL));
    CHECK_EQ(RM_OK, rm_pool_acquire(pool, RM_NOWAIT, &lease[1], NULL));
    CHECK_EQ(RM_OK, rm_pool_release(pool, &lease[0], RM_RELEASE_OK));
    CHECK_EQ(RM_OK, rm_pool_release(pool, &lease[1], RM_RELEASE_OK));
    CHECK_EQ(RM_OK, rm_pool_destroy(pool));
    keep_end();
}

TEST(fork, in_an_acquired_fn_leaves_a_pool_that_can_be_destroyed) {
    check_fork_in_callback(false);
}

TEST(fork, in_an_acquired_fn_forgets_the_request_that_is_due_behind_it) {
    check_fork_in_callback(true);
}

static rm_status make_or_refuse(void **resource, rm_deadline deadline, rm_error *error,
                                void *user) {
    const bool *refuses = (const bool *)user;
    if (*refuses) return rm_error_set(error, RM_E_REFUSED, 0, "db", "no");
    return make(resource, deadline, error, user);
}

TEST(fork, a_pool_tries_again_what_failed_for_the_parent) {
    const rm_env env = keeping();
    rm_pool_desc desc = rm_pool_desc_default();
    bool refuses = true;
    rm_pool *pool = NULL;
    rm_lease lease;
    desc.env = &env;
    desc.create_fn = make_or_refuse;
    desc.create_backoff_ns = desc.create_backoff_max_ns = RM_SEC(3600);
    desc.user = &refuses;
    REQUIRE(rm_pool_create(&desc, &pool, NULL) == RM_OK);
    CHECK_EQ(RM_E_REFUSED, rm_pool_acquire(pool, 0, &lease, NULL));
    CHECK_EQ(RM_OK, rm_pool_suspend(pool));
    refuses = false;
    CHECK_EQ(RM_OK, rm_pool_after_fork_child(pool));
    CHECK_EQ(RM_OK, rm_pool_acquire(pool, 0, &lease, NULL));
    CHECK_EQ(RM_OK, rm_pool_release(pool, &lease, RM_RELEASE_OK));
    CHECK_EQ(RM_OK, rm_pool_destroy(pool));
    keep_end();
}

static rm_status refuse_admit(rm_permit *permit, rm_error *error, void *user) {
    const bool *refuses = (const bool *)user;
    (void)permit;
    return *refuses ? rm_error_set(error, RM_E_REJECTED, 0, "guard", "no") : RM_OK;
}

static void ignore_report(rm_permit *permit, rm_outcome outcome, void *user) {
    (void)permit, (void)outcome, (void)user;
}

TEST(fork, a_pool_asks_the_guards_of_its_endpoints_again) {
    const rm_env env = keeping();
    bool refuses = true;
    const rm_guard guard = {refuse_admit, ignore_report, &refuses};
    const rm_pool_endpoint endpoint = {"one", &guard, NULL};
    rm_pool_desc desc = rm_pool_desc_default();
    rm_pool *pool = NULL;
    rm_lease lease;
    desc.env = &env;
    desc.create_fn = make;
    desc.endpoints = &endpoint;
    desc.endpoint_count = 1;
    REQUIRE(rm_pool_create(&desc, &pool, NULL) == RM_OK);
    CHECK_EQ(RM_E_REJECTED, rm_pool_acquire(pool, RM_NOWAIT, &lease, NULL));
    refuses = false;
    CHECK_EQ(RM_OK, rm_pool_after_fork_child(pool));
    CHECK_EQ(RM_OK, rm_pool_acquire(pool, RM_NOWAIT, &lease, NULL));
    CHECK_EQ(RM_OK, rm_pool_release(pool, &lease, RM_RELEASE_OK));
    CHECK_EQ(RM_OK, rm_pool_destroy(pool));
    keep_end();
}

static bool count_key(const void *key, size_t size, rm_pool *pool, void *user) {
    (void)key, (void)size, (void)pool;
    ++*(int *)user;
    return true;
}

TEST(fork, pools_of_keys_start_afresh) {
    const rm_env env = keeping();
    const rm_deadline never = {0};
    rm_pools_desc desc;
    rm_pools *pools = NULL;
    rm_pools_lease old, lease;
    int keys = 0;
    const int before = ended;
    memset(&desc, 0, sizeof desc);
    desc.pool.env = &env;
    desc.pool.create_fn = make;
    desc.pool.destroy_fn = end;
    desc.max_total = 1;
    REQUIRE(rm_pools_create(&desc, &pools, NULL) == RM_OK);
    REQUIRE(rm_pools_acquire(pools, "a", 1, never, NULL, &old, NULL) == RM_OK);
    CHECK_EQ(RM_E_BUSY, rm_pools_close(pools, RM_NOWAIT, NULL));
    CHECK_EQ(RM_OK, rm_pools_after_fork_child(pools));
    CHECK_EQ(RM_E_INVALID, rm_pools_after_fork_child(NULL));
    rm_pools_each(pools, count_key, &keys);
    CHECK_EQ(0, keys);
    CHECK_EQ(RM_E_FOREIGN, rm_pools_release(pools, &old, RM_RELEASE_BROKEN));
    REQUIRE(rm_pools_acquire(pools, "a", 1, never, NULL, &lease, NULL) == RM_OK);
    CHECK_EQ(RM_E_FOREIGN, rm_pools_release(pools, &old, RM_RELEASE_BROKEN));
    CHECK_EQ(RM_E_FOREIGN, rm_pools_release_result(pools, &old, NULL));
    CHECK_EQ(before, ended);
    CHECK_EQ(RM_OK, rm_pools_release(pools, &lease, RM_RELEASE_BROKEN));
    CHECK_EQ(before + 1, ended);
    CHECK_EQ(RM_OK, rm_pools_destroy(pools));
    keep_end();
}

static void key_request_done(rm_status status, const rm_pools_lease *lease, const rm_error *error,
                             void *user) {
    (void)status, (void)lease, (void)error;
    ++*(int *)user;
}

TEST(fork, pools_of_keys_forget_who_waits) {
    const rm_env env = keeping();
    const rm_deadline never = {0};
    rm_pools_desc desc;
    rm_pools *pools = NULL;
    rm_pools_lease old, lease;
    rm_pools_request request;
    int calls = 0;
    memset(&desc, 0, sizeof desc);
    desc.pool.env = &env;
    desc.pool.max = 1;
    desc.pool.create_fn = make;
    REQUIRE(rm_pools_create(&desc, &pools, NULL) == RM_OK);
    REQUIRE(rm_pools_acquire(pools, "a", 1, never, NULL, &old, NULL) == RM_OK);
    CHECK_EQ(RM_OK, rm_pools_acquire_async(pools, &request, "a", 1, never, NULL, key_request_done,
                                           NULL, &calls));
    CHECK_EQ(RM_OK, rm_pools_after_fork_child(pools));
    CHECK_EQ(RM_E_STALE, rm_pools_request_cancel(&request));
    REQUIRE(rm_pools_acquire(pools, "a", 1, never, NULL, &lease, NULL) == RM_OK);
    CHECK_EQ(RM_E_STALE, rm_pools_request_cancel(&request)); /* there is such a key again */
    CHECK_EQ(RM_OK, rm_pools_release(pools, &lease, RM_RELEASE_OK));
    CHECK_EQ(0, calls);
    CHECK_EQ(RM_OK, rm_pools_destroy(pools));
    keep_end();
}

#ifndef RM_NO_TLS /* without it callbacks nest, and none is due behind another */
/* Asks for another under its key, and forks while that one is due. */
struct key_forks {
    rm_pools *pools;
    rm_pools_request mine, due;
    int calls, due_calls;
};

static void key_forks_inside(rm_status status, const rm_pools_lease *lease, const rm_error *error,
                             void *user) {
    const rm_deadline never = {0};
    struct key_forks *f = (struct key_forks *)user;
    (void)lease, (void)error;
    CHECK_EQ(RM_OK, status);
    ++f->calls;
    CHECK_EQ(RM_OK, rm_pools_acquire_async(f->pools, &f->due, "a", 1, never, NULL, key_request_done,
                                           NULL, &f->due_calls));
    CHECK_EQ(RM_OK, rm_pools_after_fork_child(f->pools));
}

TEST(fork, in_an_acquired_fn_of_a_key_forgets_the_request_that_is_due_behind_it) {
    const rm_env env = keeping();
    const rm_deadline never = {0};
    rm_pools_desc desc;
    rm_pools_lease lease;
    struct key_forks f;
    int keys = 0;
    memset(&f, 0, sizeof f);
    memset(&desc, 0, sizeof desc);
    desc.pool.env = &env;
    desc.pool.max = 2;
    desc.pool.create_fn = make;
    desc.max_total = 2;
    REQUIRE(rm_pools_create(&desc, &f.pools, NULL) == RM_OK);
    CHECK_EQ(RM_OK, rm_pools_acquire_async(f.pools, &f.mine, "a", 1, never, NULL, key_forks_inside,
                                           NULL, &f));
    CHECK_EQ(1, f.calls);
    CHECK_EQ(0, f.due_calls);
    rm_pools_each(f.pools, count_key, &keys);
    CHECK_EQ(0, keys);
    REQUIRE(rm_pools_acquire(f.pools, "a", 1, never, NULL, &lease, NULL) == RM_OK);
    CHECK_EQ(RM_OK, rm_pools_release(f.pools, &lease, RM_RELEASE_OK));
    CHECK_EQ(RM_OK, rm_pools_destroy(f.pools));
    keep_end();
}
#endif

TEST(fork, a_cache_starts_afresh) {
    const rm_env env = keeping();
    rm_cache_desc desc = rm_cache_desc_default();
    rm_cache *cache = NULL;
    rm_cache_pin pin;
    desc.env = &env;
    desc.max_entries = 2;
    REQUIRE(rm_cache_create(&desc, &cache, NULL) == RM_OK);
    CHECK_EQ(RM_OK, rm_cache_set(cache, "a", 1, "old", 3, 0, NULL));
    CHECK_EQ(RM_OK, rm_cache_set(cache, "b", 1, "old", 3, 0, NULL));
    REQUIRE(rm_cache_acquire(cache, "a", 1, &pin) == RM_OK);
    check_cache(cache, &pin);
    keep_end();
}

TEST(fork, metrics_keep_families_and_count_from_zero) {
    const rm_env env = keeping();
    struct counted c;
    REQUIRE(counted_make(&c, &env, true));
    check_metrics(&c);
    keep_end();
}

TEST(fork, a_registry_is_empty) {
    const rm_env env = keeping();
    rm_registry_desc desc;
    rm_registry *registry = NULL;
    rm_registry_ref ref, other;
    memset(&desc, 0, sizeof desc);
    desc.env = &env;
    desc.max_entries = 2;
    desc.create_fn = object;
    desc.destroy_fn = object_end;
    REQUIRE(rm_registry_create(&desc, &registry, NULL) == RM_OK);
    REQUIRE(rm_registry_get(registry, "a", 1, &ref, NULL) == RM_OK);
    REQUIRE(rm_registry_get(registry, "b", 1, &other, NULL) == RM_OK);
    CHECK_EQ(RM_OK, rm_registry_put(registry, &other));
    check_registry(registry, &ref);
    keep_end();
}

static rm_status run_start(void *user, rm_deadline deadline, rm_error *error) {
    (void)deadline, (void)error;
    ++*(int *)user;
    return RM_OK;
}

static rm_status run_stop(void *user, rm_deadline deadline, rm_error *error) {
    (void)deadline, (void)error;
    --*(int *)user;
    return RM_OK;
}

static rm_manager *manager_make(const rm_env *env, int *running) {
    rm_resource resource = rm_resource_make("db", "pool", running);
    rm_manager_desc desc;
    rm_manager *manager = NULL;
    memset(&desc, 0, sizeof desc);
    desc.env = env;
    resource.start_fn = run_start;
    resource.stop_fn = run_stop;
    CHECK_EQ(RM_OK, rm_manager_create(&desc, &manager, NULL));
    CHECK_EQ(RM_OK, rm_manager_add(manager, &resource, NULL));
    return manager;
}

TEST(fork, a_manager_has_started_nothing) {
    int running = 0;
    rm_manager *manager = manager_make(NULL, &running);
    REQUIRE(manager != NULL);
    CHECK_EQ(RM_OK, rm_manager_start(manager, 0, NULL));
    check_manager(manager, &running);
}

#ifndef _WIN32
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- with a real fork, and another thread inside a lock */

/* Holds the first thread that calls gate_pass after gate_arm, until gate_open. */
static pthread_mutex_t gate_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_changed = PTHREAD_COND_INITIALIZER;
enum { GATE_OPEN, GATE_ARMED, GATE_HOLDS };
static int gate;

static void gate_set(int state) {
    pthread_mutex_lock(&gate_mutex);
    gate = state;
    pthread_cond_broadcast(&gate_changed);
    pthread_mutex_unlock(&gate_mutex);
}

static void gate_pass(void) {
    pthread_mutex_lock(&gate_mutex);
    if (gate == GATE_ARMED) {
        gate = GATE_HOLDS;
        pthread_cond_broadcast(&gate_changed);
        while (gate == GATE_HOLDS)
            pthread_cond_wait(&gate_changed, &gate_mutex);
    }
    pthread_mutex_unlock(&gate_mutex);
}

static int64_t gate_now(void *user) {
    (void)user;
    gate_pass();
    return rm_now(NULL);
}

static int64_t gate_coarse(void *user) {
    (void)user;
    gate_pass();
    return rm_now_coarse(NULL);
}

static void *gate_alloc(size_t size, void *user) {
    (void)user;
    gate_pass();
    return malloc(size);
}

static void gate_free(void *pointer, size_t size, void *user) {
    (void)size, (void)user;
    free(pointer);
}

static bool gate_evictable(void *value, void *user) {
    (void)value, (void)user;
    gate_pass();
    return true;
}

static void gate_env(rm_env *env, rm_clock *clock, rm_allocator *allocator) {
    memset(env, 0, sizeof *env);
    *clock = *rm_clock_system();
    clock->now_fn = gate_now;
    clock->coarse_fn = gate_coarse;
    allocator->alloc_fn = gate_alloc;
    allocator->free_fn = gate_free;
    allocator->user = NULL;
    env->clock = clock;
    env->allocator = allocator;
}

/* Forks while fn(user) is held at the gate in another thread, and runs check(user) in the child. */
static void fork_inside(void (*fn)(void *), void (*check)(void *), void *user) {
    rm_thread thread;
    int status = -1;
    pid_t child;
    gate_set(GATE_ARMED);
    REQUIRE(rm_thread_start(&thread, fn, user) == RM_OK);
    pthread_mutex_lock(&gate_mutex);
    while (gate != GATE_HOLDS)
        pthread_cond_wait(&gate_changed, &gate_mutex);
    gate = GATE_OPEN; /* for the child; the held thread sleeps on until it is signalled */
    fflush(stdout);
    child = fork();
    if (child == 0) {
        (void)alarm(20);
        pthread_mutex_init(&gate_mutex, NULL);
        check(user);
        fflush(stdout);
        _exit(rm_test_failures > 0 ? 1 : 0);
    }
    pthread_cond_broadcast(&gate_changed);
    pthread_mutex_unlock(&gate_mutex);
    rm_thread_join(&thread);
    REQUIRE(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status)); /* else it hung until the alarm, or crashed */
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

struct pooled {
    rm_pool *pool;
    rm_lease lease[2];
};

static void pool_wait(void *user) {
    struct pooled *p = (struct pooled *)user;
    rm_lease lease;
    CHECK_EQ(RM_E_TIMEOUT, rm_pool_acquire(p->pool, RM_MS(1), &lease, NULL));
}

static void pool_wait_locked(void *user) {
    struct pooled *p = (struct pooled *)user;
    rm_pool_stats stats;
    rm_waitq_lock(&p->pool->queue);
    gate_pass();
    rm_waitq_unlock(&p->pool->queue);
    CHECK_EQ(RM_OK, rm_pool_stats_get(p->pool, &stats));
}

static void pool_child(void *user) {
    struct pooled *p = (struct pooled *)user;
    check_pool(p->pool, &p->lease[0], 2, 2);
}

TEST(fork, pool_while_another_thread_waits_or_has_the_lock) {
    void (*const inside[])(void *) = {pool_wait, pool_wait_locked};
    rm_allocator allocator;
    rm_clock clock;
    rm_env env;
    size_t i;
    gate_env(&env, &clock, &allocator);
    for (i = 0; i < 2; ++i) {
        struct pooled p;
        p.pool = pool_make(&env);
        REQUIRE(p.pool != NULL);
        REQUIRE(rm_pool_acquire(p.pool, 0, &p.lease[0], NULL) == RM_OK);
        REQUIRE(rm_pool_acquire(p.pool, 0, &p.lease[1], NULL) == RM_OK);
        fork_inside(inside[i], pool_child, &p);
        CHECK_EQ(RM_OK, rm_pool_release(p.pool, &p.lease[0], RM_RELEASE_OK)); /* the parent's */
        CHECK_EQ(RM_OK, rm_pool_release(p.pool, &p.lease[1], RM_RELEASE_OK));
        CHECK_EQ(RM_OK, rm_pool_destroy(p.pool));
    }
}

struct probed {
    rm_pool *pool;
    bool refuses; /* the guard does */
};

static rm_status fail_at_the_gate(void **resource, rm_deadline deadline, rm_error *error,
                                  void *user) {
    (void)resource, (void)deadline, (void)user;
    gate_pass();
    return rm_error_set(error, RM_E_REFUSED, 0, "db", "no");
}

static void pool_probe(void *user) {
    rm_lease lease;
    CHECK_EQ(RM_E_REFUSED, rm_pool_acquire(((struct probed *)user)->pool, RM_NOWAIT, &lease, NULL));
}

/* The parent's create will not end here: nobody waits for it. */
static void probed_child(void *user) {
    struct probed *p = (struct probed *)user;
    rm_lease lease;
    CHECK_EQ(RM_OK, rm_pool_after_fork_child(p->pool));
    p->refuses = true;
    CHECK_EQ(RM_E_REJECTED, rm_pool_acquire(p->pool, RM_MS(1), &lease, NULL));
    CHECK_EQ(RM_E_REJECTED, rm_pool_acquire(p->pool, RM_MS(1), &lease, NULL)); /* fails fast */
    p->refuses = false;
    CHECK_EQ(RM_OK, rm_pool_after_fork_child(p->pool));
    CHECK_EQ(RM_E_REFUSED, rm_pool_acquire(p->pool, RM_MS(1), &lease, NULL)); /* its own create */
    CHECK_EQ(RM_OK, rm_pool_destroy(p->pool));
}

TEST(fork, a_pool_while_another_thread_finds_out_whether_creates_work_again) {
    struct probed p = {NULL, false};
    const rm_guard guard = {refuse_admit, ignore_report, &p.refuses};
    const rm_pool_endpoint endpoint = {"one", &guard, NULL};
    rm_pool_desc desc = rm_pool_desc_default();
    desc.create_fn = fail_at_the_gate;
    desc.create_backoff_ns = RM_MS(10);
    desc.endpoints = &endpoint;
    desc.endpoint_count = 1;
    REQUIRE(rm_pool_create(&desc, &p.pool, NULL) == RM_OK);
    pool_probe(&p);
    CHECK_EQ(RM_OK, rm_sleep(NULL, RM_MS(10), NULL)); /* from now on a create is a probe */
    fork_inside(pool_probe, probed_child, &p);
    CHECK_EQ(RM_OK, rm_pool_destroy(p.pool));
}

#if !defined(__SANITIZE_THREAD__) /* which starts no thread in a child of a process with threads */
static rm_sem helped;             /* released by each create_fn */

static rm_status make_and_tell(void **resource, rm_deadline deadline, rm_error *error, void *user) {
    const rm_status status = make(resource, deadline, error, user);
    CHECK_EQ(RM_OK, rm_sem_release(&helped));
    return status;
}

static bool helper_makes_one(void) {
    return rm_sem_acquire(&helped, RM_SEC(20), NULL) == RM_OK;
}

static void begin_helped(void) {
    CHECK_EQ(RM_OK, rm_sem_init(&helped, NULL));
    CHECK_EQ(RM_OK, rm_sem_acquire(&helped, RM_NOWAIT, NULL));
}

static void helped_child(rm_pool *pool) {
    rm_pool_stats stats;
    (void)alarm(40);
    begin_helped();
    CHECK_EQ(RM_OK, rm_pool_after_fork_child(pool));
    CHECK(helper_makes_one());
    CHECK_EQ(RM_OK, rm_pool_stats_get(pool, &stats));
    CHECK(stats.create_failures == 0 && stats.create_max_ns >= 0);
    CHECK_EQ(RM_OK, rm_pool_destroy(pool));
    fflush(stdout);
    _exit(rm_test_failures > 0 ? 1 : 0);
}

TEST(fork, the_thread_of_a_pool_runs_in_the_child_as_well) {
    rm_pool_desc desc = rm_pool_desc_default();
    rm_pool *pool = NULL;
    int status = -1;
    pid_t child;
    begin_helped();
    desc.create_fn = make_and_tell;
    desc.min_idle = 1;
    desc.maintain_every_ns = RM_MS(1);
    REQUIRE(rm_pool_create(&desc, &pool, NULL) == RM_OK);
    CHECK(helper_makes_one());
    fflush(stdout);
    child = fork();
    if (child == 0) helped_child(pool);
    REQUIRE(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK_EQ(RM_OK, rm_pool_destroy(pool));
    CHECK_EQ(RM_OK, rm_sem_release(&helped));
    CHECK_EQ(RM_OK, rm_sem_destroy(&helped));
}
#endif

struct cached {
    rm_cache *cache;
    rm_cache_pin pin;
};

static void cache_get(void *user) {
    struct cached *c = (struct cached *)user;
    char value[4];
    CHECK_EQ(RM_OK, rm_cache_get(c->cache, "a", 1, value, sizeof value, NULL));
}

static void cache_child(void *user) {
    struct cached *c = (struct cached *)user;
    check_cache(c->cache, &c->pin);
}

TEST(fork, cache_while_another_thread_reads) {
    rm_cache_desc desc = rm_cache_desc_default();
    rm_allocator allocator;
    rm_clock clock;
    struct cached c;
    rm_env env;
    gate_env(&env, &clock, &allocator);
    desc.env = &env;
    desc.max_entries = 2;
    REQUIRE(rm_cache_create(&desc, &c.cache, NULL) == RM_OK);
    CHECK_EQ(RM_OK, rm_cache_set(c.cache, "a", 1, "old", 3, 0, NULL));
    REQUIRE(rm_cache_acquire(c.cache, "a", 1, &c.pin) == RM_OK);
    fork_inside(cache_get, cache_child, &c);
    CHECK_EQ(RM_OK, rm_cache_release(c.cache, &c.pin));
    CHECK_EQ(RM_OK, rm_cache_destroy(c.cache));
}

static void metrics_make(void *user) {
    static const char *const put[] = {"put"};
    struct counted *c = (struct counted *)user;
    rm_counter counter;
    CHECK_EQ(RM_OK, rm_counter_with(c->calls, put, 1, &counter, NULL));
}

static void metrics_add(void *user) {
    struct counted *c = (struct counted *)user;
    rm_metric_desc desc = rm_metrics_describe(RM_METRIC_COUNTER, "new_total", "New.");
    rm_metrics_family *family;
    CHECK_EQ(RM_OK, rm_metrics_add(c->metrics, &desc, &family, NULL));
}

static void metrics_child(void *user) {
    check_metrics((struct counted *)user);
}

TEST(fork, metrics_while_another_thread_makes_a_series_or_a_family) {
    void (*const inside[])(void *) = {metrics_make, metrics_add};
    rm_allocator allocator;
    rm_clock clock;
    rm_env env;
    size_t i;
    gate_env(&env, &clock, &allocator);
    for (i = 0; i < 2; ++i) {
        struct counted c;
        REQUIRE(counted_make(&c, &env, false));
        fork_inside(inside[i], metrics_child, &c);
        CHECK_EQ(RM_OK, rm_metrics_destroy(c.metrics));
    }
}

/* A series that was shown and not yet in the table, or the overflow series not yet marked. */
TEST(fork, metrics_put_right_what_was_half_made) {
    static const char *const put[] = {"put"};
    struct counted c;
    rm_counter counter;
    struct rmi_metrics_table *table;
    uint64_t i;
    REQUIRE(counted_make(&c, NULL, true));
    REQUIRE(rm_counter_with(c.calls, put, 1, &counter, NULL) == RM_OK);
    table = RMI_METRICS_POINTER(struct rmi_metrics_table, c.calls->table);
    for (i = 0; i <= table->mask; ++i) {
        uint64_t *cell = &rmi_metrics_cells(table)[i];
        if (*cell == RMI_METRICS_WORD(counter.series)) *cell = 0;
    }
    --c.calls->count;
    c.calls->overflowed = 0;
    c.calls->last = counter.series;
    (void)rm_metrics_remove_resource(c.metrics, "db"); /* else its record would count as a leak */
    check_metrics(&c);
}

struct registered {
    rm_registry *registry;
    rm_registry_ref ref;
};

static void registry_get(void *user) {
    struct registered *r = (struct registered *)user;
    rm_registry_ref ref;
    CHECK_EQ(RM_OK, rm_registry_get(r->registry, "c", 1, &ref, NULL));
    CHECK_EQ(RM_OK, rm_registry_put(r->registry, &ref));
}

static void registry_child(void *user) {
    struct registered *r = (struct registered *)user;
    check_registry(r->registry, &r->ref);
}

TEST(fork, registry_while_another_thread_evicts) {
    rm_registry_desc desc;
    struct registered r;
    rm_registry_ref other;
    memset(&desc, 0, sizeof desc);
    desc.max_entries = 2;
    desc.stripes = 1;
    desc.create_fn = object;
    desc.destroy_fn = object_end;
    desc.evictable_fn = gate_evictable;
    REQUIRE(rm_registry_create(&desc, &r.registry, NULL) == RM_OK);
    REQUIRE(rm_registry_get(r.registry, "a", 1, &r.ref, NULL) == RM_OK);
    REQUIRE(rm_registry_get(r.registry, "b", 1, &other, NULL) == RM_OK);
    CHECK_EQ(RM_OK, rm_registry_put(r.registry, &other));
    fork_inside(registry_get, registry_child, &r);
    CHECK_EQ(RM_OK, rm_registry_put(r.registry, &r.ref));
    CHECK_EQ(RM_OK, rm_registry_destroy(r.registry));
}

struct managed {
    rm_manager *manager;
    int running;
};

static rm_health manager_health(void *user, rm_error *reason) {
    (void)user, (void)reason;
    gate_pass();
    return RM_HEALTH_HEALTHY;
}

static void manager_look(void *user) {
    struct managed *m = (struct managed *)user;
    rm_resource_status status[4];
    uint32_t count;
    CHECK_EQ(RM_OK, rm_manager_status(m->manager, status, 4, &count));
}

static void manager_child(void *user) {
    struct managed *m = (struct managed *)user;
    check_manager(m->manager, &m->running);
}

/* One thread is in a health hook, and so has a visit on its stack. */
TEST(fork, manager_while_another_thread_looks) {
    rm_resource resource;
    struct managed m;
    rm_allocator allocator;
    rm_clock clock;
    rm_env env;
    gate_env(&env, &clock, &allocator);
    m.running = 0;
    REQUIRE(rm_manager_create(NULL, &m.manager, NULL) == RM_OK);
    resource = rm_resource_make("db", "pool", &m.running);
    resource.start_fn = run_start;
    resource.stop_fn = run_stop;
    resource.health_fn = manager_health;
    CHECK_EQ(RM_OK, rm_manager_add(m.manager, &resource, NULL));
    CHECK_EQ(RM_OK, rm_manager_start(m.manager, 0, NULL));
    fork_inside(manager_look, manager_child, &m);
    CHECK_EQ(RM_OK, rm_manager_stop(m.manager, 0, NULL));
    CHECK_EQ(0, m.running);
    CHECK_EQ(RM_OK, rm_manager_destroy(m.manager));
}

/* The thread that adds a resource holds the lock, and the entry is not counted yet. */
static void manager_add_second(void *user) {
    struct managed *m = (struct managed *)user;
    rm_resource resource = rm_resource_make("other", "x", NULL);
    CHECK_EQ(RM_OK, rm_manager_add(m->manager, &resource, NULL));
}

static void manager_child_of_add(void *user) {
    struct managed *m = (struct managed *)user;
    m->running = 1;
    check_manager(m->manager, &m->running);
}

TEST(fork, manager_while_another_thread_adds) {
    struct managed m;
    rm_allocator allocator;
    rm_clock clock;
    rm_env env;
    gate_env(&env, &clock, &allocator);
    m.running = 0;
    m.manager = manager_make(&env, &m.running);
    REQUIRE(m.manager != NULL);
    fork_inside(manager_add_second, manager_child_of_add, &m);
    CHECK_EQ(RM_OK, rm_manager_destroy(m.manager));
}

/* What is known of the other side stays known. */
static void breaker_child(void *user) {
    rm_breaker *breaker = (rm_breaker *)user;
    rm_permit permit;
    CHECK_EQ(RM_OK, rm_breaker_after_fork_child(breaker));
    CHECK_EQ(RM_E_REJECTED, rm_breaker_acquire(breaker, &permit, NULL));
}

static void breaker_pass(void *user) {
    (void)user;
    gate_pass();
}

TEST(fork, breaker_stays_open) {
    rm_breaker_desc desc = rm_breaker_desc_default();
    rm_breaker *breaker = NULL;
    REQUIRE(rm_breaker_create(&desc, &breaker, NULL) == RM_OK);
    CHECK_EQ(RM_OK, rm_breaker_trip(breaker));
    fork_inside(breaker_pass, breaker_child, breaker);
    rm_breaker_destroy(breaker);
}
#endif

TEST_MAIN

/* A day of mixed load in virtual time: worker threads that look things up in a cache, load what is
   missing through a pool whose other side has bad quarters of an hour, behind a breaker, and count
   all of it; two that serve tenants, each with a pool of its own under a common bound; one thread
   for the upkeep, which now and then resizes, suspends or evicts.  Now and then the clock leaps
   ahead, as after a suspend.
   In the end everything is back where it was: memory, descriptors, resources. */
#define RM_IMPLEMENTATION
#include "rm_breaker.h"
#include "rm_cache.h"
#include "rm_metrics.h"
#include "rm_pool.h"

#include "dst.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

enum { WORKERS = 4, KEYS = 2000, CAPACITY = 4, TENANTS = 20, TOTAL = 5 };

static rm_breaker *breaker;
static rm_pool *pool;
static rm_pools *pools;
static rm_cache *cache;
static rm_metrics *metrics;
static rm_metrics_family *calls;
static rm_manager *manager;
static struct side { int open, most; } ours, tenants; /* guarded by count_lock */
static rm_mutex count_lock;
static uint64_t answered, failed, stale, total, served, turned_away, shut;
static uint64_t evictions, suspensions, resizes;

static bool over(void) {
    return dst_now() >= INT64_C(1000000000000) + RM_SEC(24 * 3600);
}

/* In a bad quarter of an hour the other side refuses nine calls of ten. */
static bool other_side_fails(void) {
    const int64_t quarter = dst_now() / RM_MINUTES(15);
    return quarter % 7 == 3 ? dst_choose(10) != 0 : dst_choose(2000) == 0;
}

static rm_status connect_to(void **resource, rm_deadline deadline, rm_error *error, void *user) {
    struct side *side = (struct side *)user;
    int fd;
    (void)deadline;
    (void)rm_sleep(NULL, RM_MS(1 + dst_choose(40)), NULL);
    if (other_side_fails()) return rm_error_set(error, RM_E_REFUSED, 111, "db", "refused");
    fd = open("/dev/null", O_RDONLY);
    DST_CHECK(fd > 0);
    rm_mutex_lock(&count_lock);
    if (++side->open > side->most) side->most = side->open;
    rm_mutex_unlock(&count_lock);
    *resource = (void *)(intptr_t)fd;
    return RM_OK;
}

static void disconnect(void *resource, void *user) {
    DST_CHECK(close((int)(intptr_t)resource) == 0);
    rm_mutex_lock(&count_lock);
    --((struct side *)user)->open;
    rm_mutex_unlock(&count_lock);
}

static rm_status ping(void *resource, void *user) {
    (void)user;
    return fcntl((int)(intptr_t)resource, F_GETFD) >= 0 && dst_choose(500) != 0 ? RM_OK
                                                                                : RM_E_FAILED;
}

/* What the other side knows of a key, which changes every hour. */
static uint64_t truth(uint32_t key, int64_t at) {
    return key * UINT64_C(1000003) + (uint64_t)(at / RM_SEC(3600));
}

static rm_status load(rm_cache_load *to, const void *key, size_t size, rm_deadline deadline,
                      rm_error *error, void *user) {
    rm_lease lease;
    rm_status status = rm_pool_acquire_until(pool, deadline, NULL, &lease, error);
    uint64_t value;
    uint32_t number;
    bool broken;
    (void)size, (void)user;
    if (status != RM_OK) return status;
    (void)rm_sleep(NULL, RM_MS(1 + dst_choose(20)), NULL); /* the query */
    broken = other_side_fails();
    memcpy(&number, key, sizeof number);
    value = truth(number, dst_now());
    status = broken ? rm_error_set(error, RM_E_PROTOCOL, 0, "db", "connection lost")
                    : rm_cache_load_set(to, &value, sizeof value);
    DST_CHECK(rm_pool_release(pool, &lease, broken ? RM_RELEASE_BROKEN : RM_RELEASE_OK) == RM_OK);
    return status;
}

static void count_as(const char *result) {
    const char *const values[] = {result};
    rm_counter counter;
    DST_CHECK(rm_counter_with(calls, values, 1, &counter, NULL) == RM_OK);
    DST_CHECK(rm_counter_add(counter, 1) == RM_OK);
    (void)__atomic_fetch_add(&total, 1, __ATOMIC_RELAXED);
}

static void work(int index) {
    const rm_cache_loader loader = rm_cache_loader_make(load, NULL);
    (void)index;
    while (!over()) {
        const uint32_t key = dst_choose(8) == 0 ? dst_choose(KEYS) : dst_choose(KEYS / 50);
        rm_error error = {0};
        rm_cache_pin pin;
        const rm_status status =
            rm_cache_get_or_load(cache, &key, sizeof key, &loader, RM_SEC(5), &pin, &error);
        if (status == RM_OK) {
            uint64_t value;
            DST_CHECK(pin.size == sizeof value);
            memcpy(&value, pin.value, sizeof value);
            /* never older than its time to live, a minute, and one hour change */
            DST_CHECK(value == truth(key, dst_now()) || value + 1 == truth(key, dst_now()) ||
                      dst_now() % RM_SEC(3600) < RM_MINUTES(30));
            if (value != truth(key, dst_now())) __atomic_fetch_add(&stale, 1, __ATOMIC_RELAXED);
            DST_CHECK(rm_cache_release(cache, &pin) == RM_OK);
            (void)__atomic_fetch_add(&answered, 1, __ATOMIC_RELAXED);
        } else {
            DST_CHECK(error.status == status && error.message[0] != '\0');
            (void)__atomic_fetch_add(&failed, 1, __ATOMIC_RELAXED);
        }
        count_as(rm_class_name(rm_status_class(status)));
        if (dst_choose(50) == 0) (void)rm_cache_delete(cache, &key, sizeof key);
        (void)rm_sleep(NULL, RM_MS(dst_choose(2500)), NULL);
    }
}

static bool outage(rm_status status) {
    return status == RM_E_REFUSED || status == RM_E_TIMEOUT || status == RM_E_FULL;
}

static void serve(int index) {
    (void)index;
    while (!over()) {
        const uint32_t tenant = dst_choose(4) == 0 ? dst_choose(TENANTS) : dst_choose(3);
        const rm_deadline soon = rm_deadline_after(NULL, RM_SEC(5));
        rm_pools_lease lease;
        const rm_status status =
            rm_pools_acquire(pools, &tenant, sizeof tenant, soon, NULL, &lease, NULL);
        DST_CHECK(status == RM_OK || outage(status));
        (void)__atomic_fetch_add(status == RM_OK ? &served : &turned_away, 1, __ATOMIC_RELAXED);
        if (status == RM_OK) {
            const rm_release how = dst_choose(50) == 0 ? RM_RELEASE_BROKEN : RM_RELEASE_OK;
            (void)rm_sleep(NULL, RM_MS(dst_choose(1000)), NULL);
            DST_CHECK(rm_pools_release(pools, &lease, how) == RM_OK);
        }
        (void)rm_sleep(NULL, RM_SEC(dst_choose(30)), NULL);
    }
}

static void tenant_is_gone(void *pool_user, void *user) {
    (void)user;
    DST_CHECK(pool_user == &tenants);
    (void)__atomic_fetch_add(&shut, 1, __ATOMIC_RELAXED);
}

/* What an operator does: new credentials, a failover, another size. */
static void operate(void) {
    rm_pool_sizes sizes = {CAPACITY, 0, 1, 0};
    if (dst_choose(60) == 0) {
        DST_CHECK(rm_pool_evict_all(pool) == RM_OK);
        ++evictions;
    }
    if (dst_choose(60) == 0) {
        DST_CHECK(rm_pool_suspend(pool) == RM_OK);
        (void)rm_sleep(NULL, RM_SEC(1 + dst_choose(10)), NULL);
        DST_CHECK(rm_pool_resume(pool) == RM_OK);
        ++suspensions;
    }
    if (dst_choose(30) == 0) {
        sizes.max = 1 + dst_choose(CAPACITY);
        sizes.overflow = dst_choose(CAPACITY - sizes.max + 1);
        DST_CHECK(rm_pool_resize(pool, &sizes, NULL) == RM_OK);
        ++resizes;
    }
}

static size_t page_size;
static size_t most_early, most_late; /* bytes allocated in the second hour, and in the last */

static void weigh(void) {
    const int64_t hour = (dst_now() - INT64_C(1000000000000)) / RM_SEC(3600);
    size_t *most = hour == 1 ? &most_early : hour == 23 ? &most_late : NULL;
    if (most != NULL && dst_bytes() > *most) *most = dst_bytes();
}

static bool swallow(const char *data, size_t size, void *user) {
    (void)data, (void)user;
    page_size += size;
    return true;
}

static void upkeep(int index) {
    (void)index;
    while (!over()) {
        char buffer[512];
        rm_text text = rm_text_make(buffer, sizeof buffer);
        rm_resource_status status[5];
        uint32_t count;
        text.flush_fn = swallow;
        weigh();
        operate();
        (void)rm_pool_maintain(pool, 0, rm_deadline_after(NULL, RM_SEC(10)), NULL);
        (void)rm_pools_maintain(pools, 4, rm_deadline_after(NULL, RM_SEC(10)), NULL);
        (void)rm_cache_maintain(cache, 64);
        DST_CHECK(rm_manager_status(manager, status, 5, &count) == RM_OK && count == 4);
        if (dst_choose(10) == 0) DST_CHECK(rm_metrics_render(metrics, &text) == RM_OK);
        if (dst_choose(120) == 0) dst_pass(RM_MINUTES(dst_choose(20))); /* a suspended machine */
        (void)rm_sleep(NULL, RM_SEC(30), NULL);
    }
}

static int descriptors(void) {
    DIR *folder = opendir("/proc/self/fd");
    int count = 0;
    DST_CHECK(folder != NULL);
    while (readdir(folder) != NULL)
        ++count;
    (void)closedir(folder);
    return count;
}

static void build(void) {
    static const char *const labels[] = {"class"};
    rm_metric_desc metric = rm_metrics_describe(RM_METRIC_COUNTER, "calls_total", "Calls.");
    rm_breaker_desc b = rm_breaker_desc_default();
    rm_cache_desc c = rm_cache_desc_default();
    rm_pool_desc p = rm_pool_desc_default();
    rm_resource resources[4];
    rm_pools_desc k;
    rm_guard guard;
    int i;
    memset(&k, 0, sizeof k);
    DST_CHECK(rm_mutex_init(&count_lock) == RM_OK);
    DST_CHECK(rm_breaker_create(&b, &breaker, NULL) == RM_OK);
    guard = rm_breaker_guard(breaker);
    p.create_fn = connect_to;
    p.destroy_fn = disconnect;
    p.validate_fn = ping;
    p.max = CAPACITY;
    p.idle_timeout_ns = RM_MINUTES(3);
    p.max_lifetime_ns = RM_MINUTES(20);
    k.pool = p;
    p.min_idle = 1;
    p.keepalive_ns = RM_MINUTES(1);
    p.user = &ours;
    DST_CHECK(rm_pool_create(&p, &pool, NULL) == RM_OK);
    k.pool.user = &tenants;
    k.pool.name = NULL;
    k.max_keys = 8;
    k.max_total = TOTAL;
    k.shut_fn = tenant_is_gone;
    DST_CHECK(rm_pools_create(&k, &pools, NULL) == RM_OK);
    c.max_entries = KEYS / 4;
    c.ttl_ns = RM_MINUTES(1);
    c.guard = &guard;
    DST_CHECK(rm_cache_create(&c, &cache, NULL) == RM_OK);
    DST_CHECK(rm_metrics_create(NULL, &metrics, NULL) == RM_OK);
    metric.labels = labels;
    metric.label_count = 1;
    DST_CHECK(rm_metrics_add(metrics, &metric, &calls, NULL) == RM_OK);
    DST_CHECK(rm_manager_create(NULL, &manager, NULL) == RM_OK);
    resources[0] = rm_breaker_resource(breaker);
    resources[1] = rm_pool_resource(pool);
    resources[2] = rm_cache_resource(cache);
    resources[3] = rm_pools_resource(pools);
    for (i = 0; i < 4; ++i) {
        DST_CHECK(rm_manager_add(manager, &resources[i], NULL) == RM_OK);
        DST_CHECK(rm_metrics_add_resource(metrics, &resources[i], NULL) == RM_OK);
    }
    while (rm_manager_start(manager, RM_SEC(60), NULL) != RM_OK) {} /* the first create may fail */
}

DST_SOAK(soak, a_day_of_mixed_load_ends_where_it_began) {
    void (*const threads[])(int) = {work, work, work, work, serve, serve, upkeep};
    const int at_first = descriptors();
    rm_breaker_stats b;
    rm_cache_stats c;
    rm_pool_stats p;
    build();
    dst_go(WORKERS + 3, threads);
    DST_CHECK(rm_pool_stats_get(pool, &p) == RM_OK);
    DST_CHECK(rm_cache_stats_get(cache, &c) == RM_OK);
    DST_CHECK(rm_breaker_stats_get(breaker, &b) == RM_OK);
    DST_CHECK(p.idle + p.empty == p.capacity && p.waiting == 0);
    DST_CHECK(p.created - p.destroyed == p.idle && (int)p.idle == ours.open);
    DST_CHECK(ours.most <= CAPACITY && tenants.most <= TOTAL);
    DST_CHECK(c.pins == 0 && c.entries <= KEYS / 4);
    /* the day was what it was meant to be */
    DST_CHECK(answered > 100000 && failed > 1000 && answered + failed == total);
    DST_CHECK(b.opened > 10 && b.state == RM_BREAKER_STATE_CLOSED);
    DST_CHECK(c.hits > 10000 && c.loads > 10000 && c.load_waits > 10 && c.expired > 1000);
    DST_CHECK(p.ended[RM_POOL_CAUSE_BROKEN] > 30 && p.ended[RM_POOL_CAUSE_INVALID] > 10);
    DST_CHECK(p.ended[RM_POOL_CAUSE_IDLE] > 10 && p.ended[RM_POOL_CAUSE_LIFETIME] > 1);
    DST_CHECK(p.ended[RM_POOL_CAUSE_EVICTED] > 10 && p.ended[RM_POOL_CAUSE_SURPLUS] > 10);
    DST_CHECK(p.waits > 10 && p.failed_fast > 0);
    DST_CHECK(evictions > 10 && suspensions > 10 && resizes > 10);
    DST_CHECK(served > 5000 && turned_away > 10 && shut > 100);
    DST_CHECK(page_size > 100000 && stale > 0);
    DST_CHECK(most_early > 0 && most_late > 0);
    DST_CHECK(most_late < most_early + most_early / 4); /* nothing has grown meanwhile */
    DST_CHECK(rm_manager_stop(manager, RM_SEC(10), NULL) == RM_OK);
    DST_CHECK(rm_manager_destroy(manager) == RM_OK);
    DST_CHECK(rm_metrics_destroy(metrics) == RM_OK);
    DST_CHECK(rm_cache_destroy(cache) == RM_OK);
    DST_CHECK(rm_pool_destroy(pool) == RM_OK);
    DST_CHECK(rm_pools_destroy(pools) == RM_OK);
    rm_breaker_destroy(breaker);
    rm_mutex_destroy(&count_lock);
    DST_CHECK(ours.open == 0 && tenants.open == 0);
    DST_CHECK(descriptors() == at_first);
    DST_CHECK(dst_blocks() == 0 && dst_bytes() == 0);
}

/* A day of mixed load in virtual time: worker threads that look things up in a cache, load what is
   missing through a pool whose other side has bad quarters of an hour, behind a breaker, and count
   all of it; one thread for the upkeep.  Now and then the clock leaps ahead, as after a suspend.
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

enum { WORKERS = 6, KEYS = 2000, CAPACITY = 4 };

static rm_breaker *breaker;
static rm_pool *pool;
static rm_cache *cache;
static rm_metrics *metrics;
static rm_metrics_family *calls;
static rm_manager *manager;
static int open_now, most_open; /* by create_fn and destroy_fn: guarded by count_lock */
static rm_mutex count_lock;
static uint64_t answered, failed, stale, total;

static bool over(void) {
    return dst_now() >= INT64_C(1000000000000) + RM_SEC(24 * 3600);
}

/* In a bad quarter of an hour the other side refuses nine calls of ten. */
static bool other_side_fails(void) {
    const int64_t quarter = dst_now() / RM_MINUTES(15);
    return quarter % 7 == 3 ? dst_choose(10) != 0 : dst_choose(2000) == 0;
}

static rm_status connect_to(void **resource, rm_deadline deadline, rm_error *error, void *user) {
    int fd;
    (void)deadline, (void)user;
    (void)rm_sleep(NULL, RM_MS(1 + dst_choose(40)), NULL);
    if (other_side_fails()) return rm_error_set(error, RM_E_REFUSED, 111, "db", "refused");
    fd = open("/dev/null", O_RDONLY);
    DST_CHECK(fd > 0);
    rm_mutex_lock(&count_lock);
    if (++open_now > most_open) most_open = open_now;
    rm_mutex_unlock(&count_lock);
    *resource = (void *)(intptr_t)fd;
    return RM_OK;
}

static void disconnect(void *resource, void *user) {
    (void)user;
    DST_CHECK(close((int)(intptr_t)resource) == 0);
    rm_mutex_lock(&count_lock);
    --open_now;
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
        rm_resource_status status[4];
        uint32_t count;
        text.flush_fn = swallow;
        weigh();
        (void)rm_pool_maintain(pool, rm_deadline_after(NULL, RM_SEC(10)), NULL);
        (void)rm_cache_maintain(cache, 64);
        DST_CHECK(rm_manager_status(manager, status, 4, &count) == RM_OK && count == 3);
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
    rm_resource resources[3];
    rm_guard guard;
    int i;
    DST_CHECK(rm_mutex_init(&count_lock) == RM_OK);
    DST_CHECK(rm_breaker_create(&b, &breaker, NULL) == RM_OK);
    guard = rm_breaker_guard(breaker);
    p.create_fn = connect_to;
    p.destroy_fn = disconnect;
    p.validate_fn = ping;
    p.max = CAPACITY;
    p.min = 1;
    p.idle_timeout_ns = RM_MINUTES(3);
    DST_CHECK(rm_pool_create(&p, &pool, NULL) == RM_OK);
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
    for (i = 0; i < 3; ++i) {
        DST_CHECK(rm_manager_add(manager, &resources[i], NULL) == RM_OK);
        DST_CHECK(rm_metrics_add_resource(metrics, &resources[i], NULL) == RM_OK);
    }
    while (rm_manager_start(manager, RM_SEC(60), NULL) != RM_OK) {} /* the first create may fail */
}

DST_SOAK(soak, a_day_of_mixed_load_ends_where_it_began) {
    void (*const threads[])(int) = {work, work, work, work, work, work, upkeep};
    const int at_first = descriptors();
    rm_breaker_stats b;
    rm_cache_stats c;
    rm_pool_stats p;
    build();
    dst_go(WORKERS + 1, threads);
    DST_CHECK(rm_pool_stats_get(pool, &p) == RM_OK);
    DST_CHECK(rm_cache_stats_get(cache, &c) == RM_OK);
    DST_CHECK(rm_breaker_stats_get(breaker, &b) == RM_OK);
    DST_CHECK(p.in_use == 0 && p.waiting == 0 && p.creating == 0 && p.closing == 0);
    DST_CHECK(p.created - p.destroyed == p.idle && (int)p.idle == open_now);
    DST_CHECK(most_open <= CAPACITY);
    DST_CHECK(c.pins == 0 && c.entries <= KEYS / 4);
    /* the day was what it was meant to be */
    DST_CHECK(answered > 100000 && failed > 1000 && answered + failed == total);
    DST_CHECK(b.opened > 10 && b.state == RM_BREAKER_STATE_CLOSED);
    DST_CHECK(c.hits > 10000 && c.loads > 10000 && c.load_waits > 10 && c.expired > 1000);
    DST_CHECK(p.broken > 100 && p.invalid > 10 && p.expired > 10 && p.waits > 10);
    DST_CHECK(page_size > 100000 && stale > 0);
    DST_CHECK(most_early > 0 && most_late > 0);
    DST_CHECK(most_late < most_early + most_early / 4); /* nothing has grown meanwhile */
    DST_CHECK(rm_manager_stop(manager, RM_SEC(10), NULL) == RM_OK);
    DST_CHECK(rm_manager_destroy(manager) == RM_OK);
    DST_CHECK(rm_metrics_destroy(metrics) == RM_OK);
    DST_CHECK(rm_cache_destroy(cache) == RM_OK);
    DST_CHECK(rm_pool_destroy(pool) == RM_OK);
    rm_breaker_destroy(breaker);
    rm_mutex_destroy(&count_lock);
    DST_CHECK(open_now == 0);
    DST_CHECK(descriptors() == at_first);
    DST_CHECK(dst_blocks() == 0 && dst_bytes() == 0);
}

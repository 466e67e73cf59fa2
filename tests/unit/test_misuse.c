/* Every function of rm.h with bad arguments: a status, no crash, nothing written. */
#include "rm.h"
#include "rm_test.h"

#include <stdlib.h>

static const int64_t odd_times[] = {0,         1,  -1,        RM_FOREVER, RM_NONE,
                                    RM_STRICT, -5, INT64_MAX, INT64_MIN};
enum { ODD_TIMES = sizeof odd_times / sizeof *odd_times };

static void never_called(rm_status status, uint64_t grant, void *user) {
    (void)status, (void)grant, (void)user;
    CHECK_STR("called", "not called");
}

static void thread_nothing(void *user) {
    (void)user;
}

TEST(misuse, of_errors) {
    rm_errors errors;
    rm_error error;
    memset(&errors, 0, sizeof errors);
    memset(&error, 0, sizeof error);
    rm_errors_add(NULL, NULL);
    rm_errors_add(&errors, NULL);
    rm_errors_add(NULL, &error);
    CHECK(errors.count == 0 && errors.dropped == 0);
    errors.count = UINT32_MAX; /* a list that nobody cleared is not written behind its end */
    rm_errors_add(&errors, &error);
    CHECK(errors.count == UINT32_MAX && errors.dropped == 1);
    CHECK_EQ(rm_error_set(NULL, (rm_status)-1, INT32_MIN, NULL, "%s", "x"), (rm_status)-1);
}

TEST(misuse, of_times) {
    rm_virtual_clock virtual_clock;
    rm_clock clock;
    for (int i = 0; i < ODD_TIMES; ++i)
        for (int k = 0; k < ODD_TIMES; ++k) {
            const rm_deadline a = {odd_times[i]}, b = {odd_times[k]};
            rm_deadline min;
            REQUIRE(rm_virtual_clock_init(&virtual_clock, odd_times[i], true) == RM_OK);
            clock = rm_virtual_clock_clock(&virtual_clock);
            (void)rm_time_add(odd_times[i], odd_times[k]);
            (void)rm_time_mul(odd_times[i], odd_times[k]);
            min = rm_deadline_min(a, b);
            (void)rm_deadline_passed(NULL, min);
            (void)rm_deadline_left(NULL, min);
            (void)rm_deadline_passed(&clock, b);
            (void)rm_deadline_left(&clock, b);
            (void)rm_deadline_after(&clock, odd_times[k]);
            (void)rm_deadline_after(NULL, odd_times[k]);
            rm_virtual_clock_advance(&virtual_clock, odd_times[k]);
            CHECK_EQ(rm_sleep(&clock, odd_times[k], NULL), RM_OK);
            CHECK(rm_now(&clock) >= odd_times[i]);
            rm_virtual_clock_destroy(&virtual_clock);
        }
}

TEST(misuse, of_virtual_clocks) {
    CHECK_EQ(rm_virtual_clock_init(NULL, 0, false), RM_E_INVALID);
    rm_virtual_clock_destroy(NULL);
    rm_virtual_clock_advance(NULL, 5);
    rm_virtual_clock_await(NULL, 0);
    rm_virtual_clock_await(NULL, UINT32_MAX);
    CHECK(rm_virtual_clock_clock(NULL).user == NULL);
}

TEST(misuse, of_memory) {
    size_t result = 7;
    rm_free(NULL, NULL, SIZE_MAX);
    CHECK(rm_alloc(NULL, SIZE_MAX) == NULL);
    CHECK(rm_alloc(NULL, SIZE_MAX / 2 + 1) == NULL);
    CHECK(!rm_size_add(SIZE_MAX, 1, &result));
    CHECK(!rm_size_mul(SIZE_MAX, 2, &result));
    CHECK(!rm_size_add(0, 0, NULL));
    CHECK(!rm_size_mul(0, 0, NULL));
    CHECK_EQ(result, 7);
}

TEST(misuse, of_threads) {
    rm_thread thread;
    rm_mutex mutex;
    rm_cond cond;
    CHECK_EQ(rm_mutex_init(NULL), RM_E_INVALID);
    CHECK_EQ(rm_cond_init(NULL), RM_E_INVALID);
    rm_mutex_destroy(NULL);
    rm_mutex_lock(NULL);
    CHECK(!rm_mutex_try_lock(NULL));
    rm_mutex_unlock(NULL);
    rm_cond_destroy(NULL);
    rm_cond_signal(NULL);
    rm_cond_broadcast(NULL);
    REQUIRE(rm_mutex_init(&mutex) == RM_OK && rm_cond_init(&cond) == RM_OK);
    rm_cond_wait(NULL, &mutex, INT64_MAX);
    rm_cond_wait(&cond, NULL, INT64_MAX);
    rm_cond_wait(NULL, NULL, 0);
    rm_cond_destroy(&cond);
    rm_mutex_destroy(&mutex);
    CHECK_EQ(rm_thread_start(NULL, thread_nothing, NULL), RM_E_INVALID);
    CHECK_EQ(rm_thread_start(&thread, NULL, NULL), RM_E_INVALID);
    rm_thread_join(NULL);
}

TEST(misuse, of_random_numbers_and_hash) {
    const rm_hash_key zero = {0, 0};
    rm_rng_seed(NULL, 5);
    CHECK(rm_rng_next(NULL) == 0);
    CHECK(rm_rng_random(NULL).next_fn(NULL) == 0);
    CHECK(rm_random_below(NULL, 0) == 0);
    CHECK(rm_random_below(NULL, UINT64_MAX) < UINT64_MAX);
    (void)rm_hash_key_random(NULL);
    CHECK(rm_hash(NULL, NULL, SIZE_MAX) == rm_hash(&zero, "", 0));
}

TEST(misuse, of_environments) {
    rm_env env;
    CHECK_EQ(rm_env_resolve(NULL, NULL, NULL), RM_E_INVALID);
    memset(&env, 0, sizeof env);
    CHECK_EQ(rm_env_resolve(&env, &env, NULL), RM_OK); /* in place */
    CHECK(env.clock == rm_clock_system());
}

TEST(misuse, of_histograms) {
    static uint64_t memory[512];
    const rm_hist_desc desc = {0, 9, 16}, bad = {UINT32_MAX, UINT32_MAX, UINT32_MAX};
    rm_hist hist;
    memset(&hist, 0xAA, sizeof hist);
    CHECK_EQ(rm_hist_footprint(&bad), 0);
    CHECK_EQ(rm_hist_init(NULL, &desc, memory, sizeof memory), RM_E_INVALID);
    CHECK_EQ(rm_hist_init(&hist, &desc, NULL, SIZE_MAX), RM_E_INVALID);
    CHECK_EQ(rm_hist_init(&hist, &bad, memory, sizeof memory), RM_E_INVALID);
    CHECK_EQ(rm_hist_init(&hist, &desc, memory, 8), RM_E_TOO_LARGE);
    CHECK_EQ(hist.bins, 0xAAAAAAAAu); /* nothing written */
    CHECK_EQ(rm_hist_record(NULL, INT64_MAX), RM_E_INVALID);
    CHECK_EQ(rm_hist_merge(NULL, NULL), RM_E_INVALID);
    CHECK_EQ(rm_hist_quantile(NULL, -1e308), 0);
    CHECK_EQ(rm_hist_count_le(NULL, INT64_MIN), 0);
    CHECK_EQ(rm_hist_bin_edge(NULL, UINT32_MAX), INT64_MAX);
    rm_hist_reset(NULL);
    REQUIRE(rm_hist_init(&hist, &desc, memory, sizeof memory) == RM_OK);
    CHECK_EQ(rm_hist_merge(&hist, &hist), RM_OK); /* into itself */
    CHECK_EQ(rm_hist_bin_edge(&hist, UINT32_MAX), INT64_MAX);
}

TEST(misuse, of_cancellation) {
    CHECK_EQ(rm_cancel_init(NULL), RM_E_INVALID);
    CHECK_EQ(rm_cancel_destroy(NULL), RM_E_INVALID);
    rm_cancel_request(NULL);
    CHECK(!rm_cancel_requested(NULL));
}

TEST(misuse, of_wait_queues) {
    const rm_deadline never = {0};
    rm_waitq_stats stats;
    rm_waitq_desc desc;
    rm_waiter waiter;
    uint64_t grant = 3;
    rm_waitq q;
    memset(&desc, 0, sizeof desc);
    memset(&waiter, 0, sizeof waiter);
    CHECK_EQ(rm_waitq_init(NULL, &desc), RM_E_INVALID);
    CHECK_EQ(rm_waitq_destroy(NULL), RM_E_INVALID);
    CHECK(!rm_waitq_must_queue(NULL));
    CHECK_EQ(rm_waitq_wait(NULL, NULL, never, NULL, &grant), RM_E_INVALID);
    CHECK_EQ(rm_waitq_wait_locked(NULL, NULL, never, NULL, &grant), RM_E_INVALID);
    CHECK_EQ(rm_waitq_add(NULL, &waiter, NULL, never, NULL, never_called, NULL), RM_E_INVALID);
    CHECK_EQ(rm_waitq_remove(NULL, &waiter), RM_E_INVALID);
    CHECK_EQ(rm_waitq_stats_get(NULL, &stats), RM_E_INVALID);
    CHECK_EQ(rm_waitq_complete(NULL, NULL, RM_OK, 0), 0);
    CHECK_EQ(rm_waitq_expire(NULL), INT64_MAX);
    rm_waitq_notify(NULL);
    rm_waitq_serve(NULL);
    rm_waitq_close(NULL);
    rm_waitq_open(NULL);
    rm_waitq_lock(NULL);
    rm_waitq_unlock(NULL);
    REQUIRE(rm_waitq_init(&q, &desc) == RM_OK);
    CHECK_EQ(rm_waitq_wait(&q, NULL, never, NULL, NULL), RM_E_INVALID);
    CHECK_EQ(rm_waitq_wait_locked(&q, NULL, never, NULL, NULL), RM_E_INVALID);
    CHECK_EQ(rm_waitq_add(&q, NULL, NULL, never, NULL, never_called, NULL), RM_E_INVALID);
    CHECK_EQ(rm_waitq_add(&q, &waiter, NULL, never, NULL, NULL, NULL), RM_E_INVALID);
    CHECK_EQ(rm_waitq_remove(&q, NULL), RM_E_INVALID);
    CHECK_EQ(rm_waitq_remove(&q, &waiter), RM_E_STALE);
    CHECK_EQ(rm_waitq_stats_get(&q, NULL), RM_E_INVALID);
    for (int i = 0; i < ODD_TIMES; ++i) {
        const rm_deadline deadline = {odd_times[i]};
        if (!rm_deadline_passed(NULL, deadline)) continue;
        CHECK_EQ(rm_waitq_wait(&q, NULL, deadline, NULL, &grant), RM_E_TIMEOUT);
    }
    CHECK_EQ(grant, 3);
    CHECK_EQ(rm_waitq_destroy(&q), RM_OK);
}

TEST(misuse, of_semaphores) {
    rm_sem_desc desc;
    rm_sem sem;
    memset(&desc, 0, sizeof desc);
    CHECK_EQ(rm_sem_init(NULL, &desc), RM_E_INVALID);
    CHECK_EQ(rm_sem_destroy(NULL), RM_E_INVALID);
    CHECK_EQ(rm_sem_acquire(NULL, 0, NULL), RM_E_INVALID);
    CHECK_EQ(rm_sem_release(NULL), RM_E_INVALID);
    CHECK_EQ(rm_sem_available(NULL), 0);
    REQUIRE(rm_sem_init(&sem, &desc) == RM_OK);
    for (int i = 0; i < ODD_TIMES; ++i) {
        const rm_status status = rm_sem_acquire(&sem, odd_times[i], NULL);
        CHECK_EQ(status, rm_timeout_valid(odd_times[i]) ? RM_OK : RM_E_INVALID);
        if (status == RM_OK) CHECK_EQ(rm_sem_release(&sem), RM_OK);
    }
    CHECK_EQ(rm_sem_release(&sem), RM_E_STALE);
    CHECK_EQ(rm_sem_destroy(&sem), RM_OK);
}

static bool see_nothing(const void *key, size_t size, void *value, void *user) {
    (void)key, (void)size, (void)value, (void)user;
    return CHECK_STR("called", "not called");
}

TEST(misuse, of_registries) {
    rm_registry *registry = NULL;
    rm_registry_desc desc;
    rm_registry_ref ref;
    memset(&desc, 0, sizeof desc);
    memset(&ref, 0, sizeof ref);
    CHECK_EQ(rm_registry_create(NULL, NULL, NULL), RM_E_INVALID);
    CHECK_EQ(rm_registry_create(NULL, &registry, NULL), RM_E_INVALID);
    CHECK_EQ(rm_registry_create(&desc, NULL, NULL), RM_E_INVALID);
    desc.max_entries = desc.stripes = UINT32_MAX;
    CHECK_EQ(rm_registry_create(&desc, &registry, NULL), RM_E_INVALID);
    CHECK(registry == NULL);
    CHECK_EQ(rm_registry_destroy(NULL), RM_OK);
    CHECK_EQ(rm_registry_get(NULL, NULL, 0, NULL, NULL), RM_E_INVALID);
    CHECK_EQ(rm_registry_put(NULL, NULL), RM_E_INVALID);
    CHECK_EQ(rm_registry_remove(NULL, NULL, SIZE_MAX), RM_E_INVALID);
    CHECK_EQ(rm_registry_count(NULL), 0);
    rm_registry_each(NULL, see_nothing, NULL);
    memset(&desc, 0, sizeof desc);
    desc.max_key = UINT32_MAX;
    REQUIRE(rm_registry_create(&desc, &registry, NULL) == RM_OK);
    CHECK_EQ(rm_registry_get(registry, NULL, SIZE_MAX, &ref, NULL), RM_E_INVALID);
    CHECK_EQ(rm_registry_get(registry, "x", 1, NULL, NULL), RM_E_INVALID);
    CHECK_EQ(rm_registry_put(registry, NULL), RM_E_INVALID);
    CHECK_EQ(rm_registry_put(registry, &ref), RM_E_STALE);
    memset(&ref, 0xFF, sizeof ref);
    CHECK_EQ(rm_registry_put(registry, &ref), RM_E_STALE);
    CHECK_EQ(rm_registry_remove(registry, NULL, 1), RM_E_INVALID);
    rm_registry_each(registry, NULL, NULL);
    rm_registry_each(registry, see_nothing, NULL);
    CHECK_EQ(rm_registry_destroy(registry), RM_OK);
}

TEST(misuse, of_texts) {
    char c = '#';
    rm_text text = rm_text_make(NULL, SIZE_MAX);
    rm_text_bytes(&text, "x", 1);
    CHECK(text.overflow && text.used == 0);
    text = rm_text_make(&c, 0);
    rm_text_double(&text, 0.5);
    rm_text_decimal(&text, INT64_MIN, UINT32_MAX);
    rm_text_json(&text, "x", 1);
    CHECK(text.overflow && c == '#');
    CHECK(!rm_text_flush(NULL));
    rm_text_bytes(NULL, "x", 1);
    rm_text_string(NULL, "x");
    rm_text_uint(NULL, UINT64_MAX);
    rm_text_int(NULL, INT64_MIN);
    rm_text_decimal(NULL, INT64_MIN, UINT32_MAX);
    rm_text_double(NULL, 1e308);
    rm_text_json(NULL, "x", 1);
    text = rm_text_make(&c, 1);
    rm_text_bytes(&text, NULL, SIZE_MAX);
    rm_text_string(&text, NULL);
    CHECK(!text.overflow && text.used == 0);
    CHECK_EQ(rm_utf8_length(NULL, SIZE_MAX), 0);
    CHECK_EQ(rm_utf8_length("", 0), 0);
}

TEST(misuse, of_logs) {
    const rm_kv nothing = rm_kv_string(NULL, NULL);
    rm_log_event event;
    char buffer[256];
    rm_log log;
    memset(&event, 0, sizeof event);
    memset(&log, 0, sizeof log);
    rm_log_emit(NULL, NULL, RM_LOG_ERROR, NULL, NULL, NULL, SIZE_MAX);
    rm_log_emit(&log, NULL, RM_LOG_ERROR, NULL, NULL, &nothing, 1);
    CHECK_EQ(rm_log_format(NULL, NULL, 0), 0);
    CHECK_EQ(rm_log_format(&event, NULL, SIZE_MAX), 0);
    CHECK_EQ(rm_log_format(&event, buffer, 0), 0);
    event.count = SIZE_MAX; /* of no values */
    CHECK(rm_log_format(&event, buffer, sizeof buffer) > 0);
    event.values = &nothing;
    event.count = 1;
    CHECK(rm_log_format(&event, buffer, sizeof buffer) > 0);
    rm_log_to_stream(NULL, NULL);
    rm_log_to_stream(&event, NULL);
    CHECK(rm_kv_int(NULL, 1).key == NULL && rm_kv_double(NULL, 1).key == NULL);
    CHECK(rm_kv_bool(NULL, true).key == NULL);
}

TEST(misuse, of_managers) {
    rm_manager *manager = NULL;
    rm_manager_desc desc;
    rm_resource resource = rm_resource_make(NULL, NULL, NULL);
    rm_resource_status status;
    uint32_t count = 9;
    memset(&desc, 0, sizeof desc);
    desc.max_resources = UINT32_MAX;
    CHECK_EQ(rm_manager_create(&desc, &manager, NULL), RM_E_INVALID);
    CHECK_EQ(rm_manager_create(NULL, NULL, NULL), RM_E_INVALID);
    CHECK(manager == NULL);
    CHECK_EQ(rm_manager_destroy(NULL), RM_OK);
    CHECK_EQ(rm_manager_add(NULL, NULL, NULL), RM_E_INVALID);
    CHECK_EQ(rm_manager_get(NULL, NULL, NULL), RM_E_INVALID);
    CHECK_EQ(rm_manager_start(NULL, 0, NULL), RM_E_INVALID);
    CHECK_EQ(rm_manager_stop(NULL, 0, NULL), RM_E_INVALID);
    CHECK_EQ(rm_manager_status(NULL, NULL, 0, NULL), RM_E_INVALID);
    REQUIRE(rm_manager_create(NULL, &manager, NULL) == RM_OK);
    CHECK_EQ(rm_manager_add(manager, NULL, NULL), RM_E_INVALID);
    CHECK_EQ(rm_manager_add(manager, &resource, NULL), RM_E_INVALID);
    CHECK_EQ(rm_manager_get(manager, NULL, &resource), RM_E_INVALID);
    CHECK_EQ(rm_manager_get(manager, "x", NULL), RM_E_INVALID);
    CHECK_EQ(rm_manager_get(manager, "", &resource), RM_E_NOT_FOUND);
    CHECK_EQ(rm_manager_status(manager, NULL, 1, &count), RM_E_INVALID);
    CHECK_EQ(rm_manager_status(manager, &status, UINT32_MAX, NULL), RM_E_INVALID);
    CHECK_EQ(count, 9);
    for (int i = 0; i < ODD_TIMES; ++i) {
        const rm_status expected = rm_timeout_valid(odd_times[i]) ? RM_OK : RM_E_INVALID;
        CHECK_EQ(rm_manager_start(manager, odd_times[i], NULL), expected);
        CHECK_EQ(rm_manager_stop(manager, odd_times[i], NULL), expected);
    }
    CHECK_EQ(rm_manager_destroy(manager), RM_OK);
}

TEST_MAIN

/* The base and the manager built with RM_NO_THREADS. */
#define RM_NO_THREADS
#define RM_IMPLEMENTATION
#include "rm.h"
#include "rm_test.h"

#include <stdlib.h>

static const rm_deadline never = {0};

/* >>tools --------------------------------------------------------------------------------- */

static int units;

static bool take(void *owner, void *request, uint64_t *grant) {
    (void)owner, (void)request;
    if (units == 0) return false;
    *grant = (uint64_t)units--;
    return true;
}

typedef struct callback {
    rm_waiter waiter;
    rm_status status;
    uint64_t grant;
    int calls;
} callback;

static void note(rm_status status, uint64_t grant, void *user) {
    callback *c = (callback *)user;
    c->status = status;
    c->grant = grant;
    c->calls++;
}

static rm_status queue_up(callback *c, rm_waitq *q, rm_deadline deadline, rm_cancel *cancel) {
    memset(c, 0, sizeof *c);
    return rm_waitq_add(q, &c->waiter, NULL, deadline, cancel, note, c);
}

static void queue_init(rm_waitq *q, const rm_clock *clock) {
    rm_waitq_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.clock = clock;
    desc.try_fn = take;
    if (!CHECK(rm_waitq_init(q, &desc) == RM_OK)) exit(1);
    units = 0;
}

/* >>tests --------------------------------------------------------------------------------- */

TEST(no_threads, has_locks_that_do_nothing) {
    rm_mutex mutex;
    rm_cond cond;
    REQUIRE(rm_mutex_init(&mutex) == RM_OK && rm_cond_init(&cond) == RM_OK);
    rm_mutex_lock(&mutex);
    CHECK(rm_mutex_try_lock(&mutex));
    rm_cond_wait(&cond, &mutex, INT64_MAX); /* returns at once */
    rm_cond_signal(&cond);
    rm_cond_broadcast(&cond);
    rm_mutex_unlock(&mutex);
    rm_cond_destroy(&cond);
    rm_mutex_destroy(&mutex);
    CHECK_EQ(rm_mutex_init(NULL), RM_E_INVALID);
    CHECK_EQ(rm_cond_init(NULL), RM_E_INVALID);
    CHECK(!rm_mutex_try_lock(NULL));
}

static void nothing(void *user) {
    (void)user;
}

TEST(no_threads, starts_no_thread) {
    rm_thread thread;
    CHECK_EQ(rm_thread_start(&thread, nothing, NULL), RM_E_UNSUPPORTED);
    CHECK_EQ(rm_thread_start(NULL, nothing, NULL), RM_E_INVALID);
    CHECK_EQ(rm_thread_start(&thread, NULL, NULL), RM_E_INVALID);
    rm_thread_join(&thread);
    rm_thread_join(NULL);
    CHECK_EQ(rm_thread_number(), 1);
    CHECK_EQ(rm_thread_number(), 1);
}

TEST(no_threads, says_busy_where_it_would_wait) {
    uint64_t grant = 5;
    callback first;
    rm_cancel cancel;
    rm_waitq q;
    queue_init(&q, NULL);
    REQUIRE(rm_cancel_init(&cancel) == RM_OK);
    CHECK_EQ(rm_waitq_wait(&q, NULL, never, NULL, &grant), RM_E_BUSY);
    CHECK_EQ(rm_waitq_wait(&q, NULL, rm_deadline_after(NULL, RM_SEC(5)), &cancel, &grant),
             RM_E_BUSY);
    CHECK_EQ(grant, 5);
    units = 1;
    CHECK_EQ(rm_waitq_wait(&q, NULL, never, &cancel, &grant), RM_OK);
    CHECK_EQ(grant, 1);
    CHECK_EQ(rm_waitq_wait(&q, NULL, rm_deadline_after(NULL, RM_NOWAIT), NULL, &grant),
             RM_E_TIMEOUT);
    CHECK_EQ(queue_up(&first, &q, never, NULL), RM_OK); /* the same behind somebody */
    CHECK_EQ(rm_waitq_wait(&q, NULL, never, NULL, &grant), RM_E_BUSY);
    CHECK_EQ(first.calls, 0);
    CHECK_EQ(rm_waitq_remove(&q, &first.waiter), RM_OK);
    CHECK_EQ(rm_cancel_destroy(&cancel), RM_OK); /* it left no registration behind */
    CHECK_EQ(rm_waitq_destroy(&q), RM_OK);
}

TEST(no_threads, says_busy_with_the_queue_locked) {
    uint64_t grant;
    rm_waitq q;
    queue_init(&q, NULL);
    rm_waitq_lock(&q);
    CHECK_EQ(rm_waitq_wait_locked(&q, NULL, never, NULL, &grant), RM_E_BUSY);
    rm_waitq_unlock(&q);
    CHECK_EQ(rm_waitq_destroy(&q), RM_OK);
}

TEST(no_threads, serves_callbacks) {
    rm_virtual_clock time_machine;
    rm_cancel cancel;
    callback c[6];
    rm_clock clock;
    rm_waitq q;
    REQUIRE(rm_virtual_clock_init(&time_machine, 0, false) == RM_OK);
    REQUIRE(rm_cancel_init(&cancel) == RM_OK);
    clock = rm_virtual_clock_clock(&time_machine);
    queue_init(&q, &clock);
    units = 1;
    CHECK_EQ(queue_up(&c[0], &q, never, NULL), RM_OK); /* inside the call */
    CHECK(c[0].calls == 1 && c[0].status == RM_OK && c[0].grant == 1);
    CHECK_EQ(queue_up(&c[1], &q, never, NULL), RM_OK);
    CHECK_EQ(queue_up(&c[2], &q, rm_deadline_after(&clock, 10), NULL), RM_OK);
    CHECK_EQ(queue_up(&c[3], &q, never, &cancel), RM_OK);
    CHECK_EQ(queue_up(&c[4], &q, never, NULL), RM_OK);
    units = 1;
    rm_waitq_notify(&q);
    CHECK(c[1].calls == 1 && c[1].status == RM_OK && units == 0);
    CHECK_EQ(rm_waitq_expire(&q), 10);
    rm_virtual_clock_advance(&time_machine, 10);
    CHECK_EQ(rm_waitq_expire(&q), INT64_MAX);
    CHECK(c[2].calls == 1 && c[2].status == RM_E_TIMEOUT);
    rm_cancel_request(&cancel);
    CHECK(c[3].calls == 1 && c[3].status == RM_E_CANCELLED);
    CHECK_EQ(rm_waitq_destroy(&q), RM_E_BUSY);
    rm_waitq_close(&q);
    CHECK(c[4].calls == 1 && c[4].status == RM_E_CLOSED);
    CHECK_EQ(queue_up(&c[5], &q, never, NULL), RM_E_CLOSED);
    CHECK_EQ(rm_cancel_destroy(&cancel), RM_OK);
    CHECK_EQ(rm_waitq_destroy(&q), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

TEST(no_threads, semaphore_gives_what_is_there) {
    rm_sem_desc desc;
    rm_sem sem;
    memset(&desc, 0, sizeof desc);
    desc.permits = 2;
    desc.barge_ns = RM_STRICT;
    REQUIRE(rm_sem_init(&sem, &desc) == RM_OK);
    CHECK_EQ(rm_sem_acquire(&sem, 0, NULL), RM_OK);
    CHECK_EQ(rm_sem_acquire(&sem, RM_FOREVER, NULL), RM_OK);
    CHECK_EQ(rm_sem_acquire(&sem, 0, NULL), RM_E_BUSY);
    CHECK_EQ(rm_sem_acquire(&sem, RM_SEC(10), NULL), RM_E_BUSY);
    CHECK_EQ(rm_sem_acquire(&sem, RM_FOREVER, NULL), RM_E_BUSY);
    CHECK_EQ(rm_sem_release(&sem), RM_OK);
    CHECK_EQ(rm_sem_acquire(&sem, RM_FOREVER, NULL), RM_OK);
    CHECK_EQ(rm_sem_destroy(&sem), RM_E_BUSY);
    CHECK_EQ(rm_sem_release(&sem), RM_OK);
    CHECK_EQ(rm_sem_release(&sem), RM_OK);
    CHECK_EQ(rm_sem_release(&sem), RM_E_STALE);
    CHECK_EQ(rm_sem_destroy(&sem), RM_OK);
}

TEST(no_threads, sleep_moves_a_virtual_clock) {
    for (int advances = 0; advances < 2; ++advances) {
        rm_virtual_clock time_machine;
        rm_cancel cancel;
        rm_clock clock;
        REQUIRE(rm_virtual_clock_init(&time_machine, 100, advances != 0) == RM_OK);
        REQUIRE(rm_cancel_init(&cancel) == RM_OK);
        clock = rm_virtual_clock_clock(&time_machine);
        CHECK_EQ(rm_sleep(&clock, 50, NULL), RM_OK);
        CHECK_EQ(rm_now(&clock), 150);
        CHECK_EQ(rm_sleep(&clock, 50, &cancel), RM_OK);
        CHECK_EQ(rm_now(&clock), 200);
        rm_virtual_clock_await(&time_machine, 7); /* nobody can come: returns */
        rm_cancel_request(&cancel);
        CHECK_EQ(rm_sleep(&clock, 50, &cancel), RM_E_CANCELLED);
        CHECK_EQ(rm_now(&clock), 200);
        CHECK_EQ(rm_cancel_destroy(&cancel), RM_OK);
        rm_virtual_clock_destroy(&time_machine);
    }
}

TEST(no_threads, sleeps_on_the_system_clock) {
    const int64_t before = rm_now(NULL);
    CHECK_EQ(rm_sleep(NULL, RM_US(10), NULL), RM_OK);
    CHECK(rm_now(NULL) >= before + RM_US(10));
}

static int made, unmade;

static rm_status make(const void *key, size_t size, void **value, rm_error *error, void *user) {
    (void)key, (void)size, (void)error, (void)user;
    *value = &units;
    made++;
    return RM_OK;
}

static void unmake(void *value, void *user) {
    (void)user;
    CHECK(value == &units);
    unmade++;
}

static bool may_go(void *value, void *user) {
    (void)value, (void)user;
    return true;
}

TEST(no_threads, registry_works) {
    rm_registry *registry;
    rm_registry_desc desc;
    rm_registry_ref ref, other;
    memset(&desc, 0, sizeof desc);
    desc.max_entries = 2;
    desc.create_fn = make;
    desc.destroy_fn = unmake;
    desc.evictable_fn = may_go;
    REQUIRE(rm_registry_create(&desc, &registry, NULL) == RM_OK);
    REQUIRE(rm_registry_get(registry, "a", 1, &ref, NULL) == RM_OK);
    for (char key = 'b'; key < 'k'; ++key) {
        REQUIRE(rm_registry_get(registry, &key, 1, &other, NULL) == RM_OK);
        CHECK_EQ(rm_registry_put(registry, &other), RM_OK);
    }
    CHECK(made == 10 && unmade == 8);
    CHECK_EQ(rm_registry_remove(registry, "a", 1), RM_E_BUSY);
    CHECK_EQ(rm_registry_put(registry, &ref), RM_OK);
    CHECK_EQ(rm_registry_remove(registry, "a", 1), RM_OK);
    CHECK_EQ(rm_registry_count(registry), 1);
    CHECK_EQ(rm_registry_destroy(registry), RM_OK);
    CHECK_EQ(made, unmade);
}

static char diary[64];

static rm_status start(void *user, rm_deadline deadline, rm_error *error) {
    (void)deadline, (void)error;
    (void)strncat(diary, (const char *)user, 1);
    return *(const char *)user == 'c' ? RM_E_REFUSED : RM_OK;
}

static rm_status stop(void *user, rm_deadline deadline, rm_error *error) {
    (void)deadline, (void)error;
    (void)strncat(diary, (const char *)user + 1, 1);
    return RM_OK;
}

TEST(no_threads, manager_works) {
    static char names[3][3] = {"aA", "bB", "cC"};
    rm_manager *manager;
    rm_errors errors;
    REQUIRE(rm_manager_create(NULL, &manager, NULL) == RM_OK);
    for (int i = 0; i < 3; ++i) {
        rm_resource resource = rm_resource_make(names[i], "part", names[i]);
        resource.start_fn = start;
        resource.stop_fn = stop;
        CHECK_EQ(rm_manager_add(manager, &resource, NULL), RM_OK);
    }
    CHECK_EQ(rm_manager_start(manager, 0, &errors), RM_E_REFUSED);
    CHECK_STR(diary, "abcBA");
    CHECK(errors.count == 1 && errors.items[0].status == RM_E_REFUSED);
    CHECK_EQ(rm_manager_stop(manager, 0, NULL), RM_OK);
    CHECK_EQ(rm_manager_destroy(manager), RM_OK);
}

TEST(no_threads, random_and_hash_work) {
    rm_rng rng;
    rm_random random;
    const rm_hash_key key = {UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)};
    rm_rng_seed(&rng, 1234567);
    CHECK(rm_rng_next(&rng) == UINT64_C(6457827717110365317));
    CHECK(rm_rng_next(&rng) == UINT64_C(3203168211198807973));
    random = rm_rng_random(&rng);
    CHECK(rm_random_below(&random, 10) < 10);
    CHECK(rm_hash(&key, "", 0) == UINT64_C(0xabac0158050fc4dc));
}

TEST_MAIN

/* What is called again and again allocates nothing and calls nothing of the system: each hot path
   runs in a child that the kernel kills at the first system call (seccomp), with an allocator that
   counts. Linux, without sanitizers, whose runtimes call the system themselves. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__linux__)
#define HOT_PATHS 0
#else
#define HOT_PATHS 1
#endif

#include <stddef.h>

static void *hot_alloc(size_t size);
static void hot_free(void *pointer);

#define RM_MALLOC(size) hot_alloc(size)
#define RM_FREE(pointer) hot_free(pointer)
#define RM_IMPLEMENTATION
#include "rm_breaker.h"
#include "rm_cache.h"
#include "rm_metrics.h"
#include "rm_pool.h"
#include "rm_test.h"
#include <stdlib.h>

static unsigned allocations;

static void *hot_alloc(size_t size) {
    ++allocations;
    return malloc(size);
}

static void hot_free(void *pointer) {
    ++allocations;
    free(pointer);
}

#if HOT_PATHS
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TIMES = 1000 };

static bool ok = true; /* all calls did what they should */

/* The kernel's struct sock_filter and sock_fprog: musl comes without the kernel's headers. */
typedef struct instruction {
    uint16_t code;
    uint8_t yes, no; /* how many to skip */
    uint32_t k;
} instruction;

typedef struct instructions {
    unsigned short count;
    const instruction *first;
} instructions;

/* From now on the kernel kills the process at any system call but exit. */
static bool forbid_the_system(void) {
    const instruction code[] = {{0x20, 0, 0, 0},            /* load the number of the call */
                                {0x15, 0, 1, SYS_exit},     /* is it that? */
                                {0x06, 0, 0, 0x7fff0000u},  /* then allow it */
                                {0x06, 0, 0, 0x80000000u}}; /* else kill the process */
    const instructions filter = {4, code};
    return prctl(38 /* no new privileges */, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, 2 /* filter */, &filter) == 0;
}

static void go_alone(void (*act)(void)) {
    unsigned before;
    act(); /* the first time binds symbols and makes thread-local storage */
    before = allocations;
    if (!forbid_the_system()) _exit(3);
    for (int i = 0; i < TIMES; ++i)
        act();
    syscall(SYS_exit, !ok ? 1 : allocations != before ? 2 : 0);
}

/* 0 = as it should be, 1 = a call failed, 2 = memory was allocated, 9 = the system was called */
static int outcome_of(void (*act)(void)) {
    int status = 0;
    const pid_t child = (fflush(stdout), fork());
    if (child == 0) go_alone(act);
    if (waitpid(child, &status, 0) != child) return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 9;
}

static void reads_clocks(void) {
    ok = ok && rm_now(NULL) > 0 && rm_now_coarse(NULL) > 0;
}

/* On a machine whose clock is a system call, nothing that reads it can do without. */
static bool clocks_are_cheap(void) {
    return outcome_of(reads_clocks) == 0;
}

#define NEED_A_CHEAP_CLOCK() \
    if (!clocks_are_cheap()) SKIP("the clock of this machine is a system call")

static void calls_the_system(void) {
    ok = ok && getppid() > 0;
}

static void allocates(void) {
    void *memory = rm_alloc(NULL, 1);
    rm_free(NULL, memory, 1);
}

/* Once of many times, and not the last one. */
static void fails_once(void) {
    static unsigned times;
    ok = ok && ++times != TIMES / 2;
}

TEST(hot_paths, would_be_found_out) {
    CHECK_EQ(9, outcome_of(calls_the_system));
    CHECK(outcome_of(allocates) != 0);
    CHECK_EQ(1, outcome_of(fails_once));
}

/* ---- pool */

static rm_pool *pool;

static rm_status make(void **resource, rm_deadline deadline, rm_error *error, void *user) {
    (void)deadline, (void)error, (void)user;
    *resource = &pool;
    return RM_OK;
}

static rm_status fine(void *resource, void *user) {
    (void)resource, (void)user;
    return RM_OK;
}

static void borrows(void) {
    rm_lease lease;
    ok = ok && rm_pool_acquire(pool, 0, &lease, NULL) == RM_OK &&
         rm_pool_release(pool, &lease, RM_RELEASE_OK) == RM_OK;
}

static void borrows_until(void) {
    const rm_deadline deadline = rm_deadline_after(NULL, RM_SEC(1));
    rm_error error;
    rm_lease lease;
    ok = ok && rm_pool_acquire_until(pool, deadline, NULL, &lease, &error) == RM_OK &&
         rm_pool_note(pool, &lease, RM_HERE) == RM_OK &&
         rm_pool_release_result(pool, &lease, NULL) == RM_OK;
}

static void has_none_left(void) {
    rm_lease lease[2], none;
    ok = ok && rm_pool_acquire(pool, RM_NOWAIT, &lease[0], NULL) == RM_OK &&
         rm_pool_acquire(pool, RM_NOWAIT, &lease[1], NULL) == RM_OK &&
         rm_pool_acquire(pool, RM_NOWAIT, &none, NULL) == RM_E_BUSY &&
         rm_pool_release(pool, &lease[0], RM_RELEASE_OK) == RM_OK &&
         rm_pool_release(pool, &lease[1], RM_RELEASE_FAILED) == RM_OK;
}

static void watches(void) {
    rm_pool_stats stats;
    const rm_deadline none = {0};
    ok = ok && rm_pool_stats_get(pool, &stats) == RM_OK &&
         rm_pool_maintain(pool, 0, none, NULL) == RM_OK;
}

static void check_pool(rm_pool_desc desc) {
    desc.create_fn = make;
    desc.max = 2;
    REQUIRE(rm_pool_create(&desc, &pool, NULL) == RM_OK);
    CHECK_EQ(0, outcome_of(borrows));
    CHECK_EQ(0, outcome_of(borrows_until));
    CHECK_EQ(0, outcome_of(has_none_left));
    CHECK_EQ(0, outcome_of(watches));
    CHECK_EQ(RM_OK, rm_pool_destroy(pool));
}

TEST(hot_paths, of_a_pool) {
    NEED_A_CHEAP_CLOCK();
    check_pool(rm_pool_desc_default());
}

TEST(hot_paths, of_a_pool_with_everything_on) {
    static rm_breaker *breaker;
    static rm_guard guard;
    rm_pool_desc desc = rm_pool_desc_default();
    NEED_A_CHEAP_CLOCK();
    REQUIRE(rm_breaker_create(NULL, &breaker, NULL) == RM_OK);
    guard = rm_breaker_guard(breaker);
    desc.guard = &guard;
    desc.validate_fn = desc.reset_fn = fine;
    desc.validate_after_ns = RM_STRICT;
    desc.validate_on_release = desc.refuse_nested = desc.time_uses = true;
    desc.max_lifetime_ns = RM_MINUTES(30);
    desc.keepalive_ns = RM_MINUTES(1);
    desc.leak_after_ns = RM_MINUTES(1);
    desc.min_idle = 1;
    check_pool(desc);
    rm_breaker_destroy(breaker);
}

/* ---- the others */

static rm_breaker *breaker;
static rm_cache *cache;
static rm_counter counter;
static rm_gauge gauge;
static rm_histogram histogram;
static rm_sem sem;

static void passes_the_breaker(void) {
    rm_permit permit;
    ok = ok && rm_breaker_acquire(breaker, &permit, NULL) == RM_OK &&
         rm_breaker_record(breaker, &permit, RM_OUTCOME_OK) == RM_OK;
}

static void hits_the_cache(void) {
    char value[8];
    size_t size = 0;
    ok = ok && rm_cache_get(cache, "tea", 3, value, sizeof value, &size) == RM_OK && size == 5 &&
         rm_cache_get(cache, "milk", 4, value, sizeof value, &size) == RM_E_NOT_FOUND;
}

static void measures(void) {
    ok = ok && rm_counter_add(counter, 1) == RM_OK && rm_gauge_set(gauge, 1.5) == RM_OK &&
         rm_gauge_add(gauge, 1) == RM_OK && rm_histogram_observe(histogram, 1234) == RM_OK;
}

static void takes_a_permit(void) {
    ok = ok && rm_sem_acquire(&sem, 0, NULL) == RM_OK && rm_sem_release(&sem) == RM_OK;
}

TEST(hot_paths, of_breaker_and_semaphore) {
    REQUIRE(rm_breaker_create(NULL, &breaker, NULL) == RM_OK);
    REQUIRE(rm_sem_init(&sem, NULL) == RM_OK);
    CHECK_EQ(0, outcome_of(passes_the_breaker));
    CHECK_EQ(0, outcome_of(takes_a_permit));
    CHECK_EQ(RM_OK, rm_sem_destroy(&sem));
    rm_breaker_destroy(breaker);
}

TEST(hot_paths, of_a_cache) {
    NEED_A_CHEAP_CLOCK();
    REQUIRE(rm_cache_create(NULL, &cache, NULL) == RM_OK);
    REQUIRE(rm_cache_set(cache, "tea", 3, "green", 5, 0, NULL) == RM_OK);
    CHECK_EQ(0, outcome_of(hits_the_cache));
    CHECK_EQ(RM_OK, rm_cache_destroy(cache));
}

TEST(hot_paths, of_metrics) {
    const rm_metric_desc count = rm_metrics_describe(RM_METRIC_COUNTER, "a_total", "A.");
    const rm_metric_desc level = rm_metrics_describe(RM_METRIC_GAUGE, "b", "B.");
    rm_metric_desc times = rm_metrics_describe(RM_METRIC_HISTOGRAM, "c_seconds", "C.");
    rm_metrics *metrics;
    rm_metrics_family *family;
    times.decimals = 9;
    REQUIRE(rm_metrics_create(NULL, &metrics, NULL) == RM_OK);
    REQUIRE(rm_metrics_add(metrics, &count, &family, NULL) == RM_OK);
    REQUIRE(rm_counter_with(family, NULL, 0, &counter, NULL) == RM_OK);
    REQUIRE(rm_metrics_add(metrics, &level, &family, NULL) == RM_OK);
    REQUIRE(rm_gauge_with(family, NULL, 0, &gauge, NULL) == RM_OK);
    REQUIRE(rm_metrics_add(metrics, &times, &family, NULL) == RM_OK);
    REQUIRE(rm_histogram_with(family, NULL, 0, &histogram, NULL) == RM_OK);
    CHECK_EQ(0, outcome_of(measures));
    CHECK_EQ(RM_OK, rm_metrics_destroy(metrics));
}
#else
TEST(hot_paths, are_looked_at_on_linux_without_sanitizers) {
    SKIP("another system, or a sanitizer whose runtime calls it");
}
#endif

TEST_MAIN

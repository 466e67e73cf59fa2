/* Tests of rm_breaker.h: every time is a fake clock's, nothing sleeps. */
#define RM_IMPLEMENTATION
#include "rm_breaker.h"
#include "rm_test.h"

#include <stdlib.h>

/* ---- a world that can be driven: clock, random numbers, memory, log, events ---- */

typedef struct world {
    int64_t now; /* atomic: threads move it */
    int64_t reads, coarse_reads;
    int64_t slept, slept_last;
    rm_status sleep_status; /* what sleeping ends with */
    uint64_t random;        /* the next number; splitmix when it is 1 */
    rm_rng rng;
    long allocated; /* bytes out */
    int fail_at;    /* this allocation fails; 0 = none */
    rm_clock clock;
    rm_random source;
    rm_allocator memory;
    rm_log log;
    rm_env env;
    rm_breaker *b;
    rm_breaker_event events[32];
    int count;
    char line[512]; /* of the log */
} world;

static int64_t world_now(void *user) {
    world *w = (world *)user;
    __atomic_fetch_add(&w->reads, 1, __ATOMIC_RELAXED);
    return __atomic_load_n(&w->now, __ATOMIC_RELAXED);
}

static int64_t world_coarse(void *user) {
    world *w = (world *)user;
    __atomic_fetch_add(&w->coarse_reads, 1, __ATOMIC_RELAXED);
    return __atomic_load_n(&w->now, __ATOMIC_RELAXED);
}

static rm_status world_sleep(int64_t ns, void *user) {
    world *w = (world *)user;
    if (w->sleep_status != RM_OK) return w->sleep_status;
    w->now += ns;
    w->slept += ns;
    w->slept_last = ns;
    return RM_OK;
}

static void world_wait(rm_cond *cond, rm_mutex *mutex, int64_t until_ns, void *user) {
    (void)cond, (void)mutex, (void)until_ns, (void)user;
}

static uint64_t world_random(void *user) {
    world *w = (world *)user;
    return w->random == 1 ? rm_rng_next(&w->rng) : w->random;
}

static void *world_alloc(size_t size, void *user) {
    world *w = (world *)user;
    if (w->fail_at > 0 && --w->fail_at == 0) return NULL;
    w->allocated += (long)size;
    return malloc(size);
}

static void world_free(void *pointer, size_t size, void *user) {
    ((world *)user)->allocated -= (long)size;
    free(pointer);
}

static void world_log(const rm_log_event *event, void *user) {
    world *w = (world *)user;
    size_t size = rm_log_format(event, w->line, sizeof w->line - 1);
    w->line[size] = '\0';
}

static void world_event(rm_breaker *b, const rm_breaker_event *event, void *user) {
    world *w = (world *)user;
    (void)b;
    if (w->count < (int)(sizeof w->events / sizeof *w->events)) w->events[w->count] = *event;
    w->count++;
}

static void world_init(world *w) {
    memset(w, 0, sizeof *w);
    w->now = RM_SEC(1000);
    rm_rng_seed(&w->rng, 7);
    w->clock.now_fn = world_now;
    w->clock.coarse_fn = world_coarse;
    w->clock.wall_fn = world_now;
    w->clock.sleep_fn = world_sleep;
    w->clock.wait_fn = world_wait;
    w->clock.user = w;
    w->source.next_fn = world_random;
    w->source.user = w;
    w->memory.alloc_fn = world_alloc;
    w->memory.free_fn = world_free;
    w->memory.user = w;
    w->log.log_fn = world_log;
    w->log.user = w;
    w->env.clock = &w->clock;
    w->env.random = &w->source;
    w->env.allocator = &w->memory;
    w->env.log = &w->log;
}

/* Opens after 3 failures for exactly 10 s, 2 probes at once, 2 successes close it. */
static rm_breaker_desc small(void) {
    rm_breaker_desc desc = rm_breaker_desc_default();
    desc.failures = 3;
    desc.open_ns = RM_SEC(10);
    desc.open_jitter_permille = RM_NONE;
    desc.probes = 2;
    desc.probe_wait_ns = RM_SEC(20);
    return desc;
}

static bool world_open(world *w, rm_breaker_desc desc) {
    world_init(w);
    desc.env = &w->env;
    if (desc.event_fn == NULL) {
        desc.event_fn = world_event;
        desc.user = w;
    }
    return CHECK_EQ(RM_OK, rm_breaker_create(&desc, &w->b, NULL));
}

static void world_close(world *w) {
    rm_breaker_destroy(w->b);
    CHECK_EQ(0, w->allocated);
}

static rm_breaker_stats stats_of(const rm_breaker *b) {
    rm_breaker_stats stats;
    memset(&stats, 0, sizeof stats);
    CHECK_EQ(RM_OK, rm_breaker_stats_get(b, &stats));
    return stats;
}

static rm_status take(world *w, rm_permit *permit) {
    memset(permit, 0, sizeof *permit);
    return rm_breaker_acquire(w->b, permit, NULL);
}

/* One call from leave to report. */
static rm_status one(world *w, rm_outcome outcome) {
    rm_permit permit;
    rm_status status = take(w, &permit);
    return status == RM_OK ? rm_breaker_record(w->b, &permit, outcome) : status;
}

static void fail(world *w, int times) {
    for (int i = 0; i < times; i++)
        CHECK_EQ(RM_OK, one(w, RM_OUTCOME_FAILURE));
}

#define STATE(name, w) CHECK_EQ(RM_BREAKER_STATE_##name, stats_of((w)->b).state)

/* ---- create ---- */

TEST(breaker, defaults_are_five_failures_thirty_seconds_one_probe) {
    rm_breaker_desc zero, full = rm_breaker_desc_default();
    memset(&zero, 0, sizeof zero);
    rm_breaker_desc descs[2] = {zero, full};
    for (int i = 0; i < 2; i++) {
        world w;
        REQUIRE(world_open(&w, descs[i]));
        w.random = UINT64_MAX; /* the longest rest: a tenth more */
        fail(&w, 4);
        STATE(CLOSED, &w);
        fail(&w, 1);
        STATE(OPEN, &w);
        CHECK_EQ(RM_SEC(33), stats_of(w.b).retry_after_ns);
        CHECK_STR("breaker", w.events[0].name);
        rm_permit permit;
        w.now += RM_SEC(33);
        CHECK_EQ(RM_OK, one(&w, RM_OUTCOME_IGNORE));
        CHECK_EQ(RM_OK, take(&w, &permit));
        CHECK_EQ(RM_E_REJECTED, take(&w, &permit));
        w.now += RM_SEC(30) - 1; /* as long as the rest without jitter */
        CHECK_EQ(RM_E_REJECTED, take(&w, &permit));
        STATE(HALF_OPEN, &w);
        w.now += 1;
        CHECK_EQ(RM_E_REJECTED, take(&w, &permit));
        STATE(OPEN, &w);
        w.now += RM_SEC(33);
        CHECK_EQ(RM_OK, one(&w, RM_OUTCOME_OK));
        STATE(CLOSED, &w);
        world_close(&w);
    }
    CHECK_EQ(5, full.failures);
    CHECK_EQ(1, full.probes);
    CHECK_EQ(RM_SEC(30), full.open_ns);
    CHECK_EQ(100, full.open_jitter_permille);
}

TEST(breaker, works_without_any_desc_on_the_system_clock) {
    rm_breaker *b = NULL;
    rm_permit permit;
    REQUIRE(rm_breaker_create(NULL, &b, NULL) == RM_OK);
    for (int i = 0; i < 5; i++) {
        REQUIRE(rm_breaker_acquire(b, &permit, NULL) == RM_OK);
        CHECK_EQ(RM_OK, rm_breaker_record(b, &permit, RM_OUTCOME_FAILURE));
    }
    CHECK_EQ(RM_E_REJECTED, rm_breaker_acquire(b, &permit, NULL));
    int64_t left = stats_of(b).retry_after_ns;
    CHECK(left > RM_SEC(25) && left <= RM_SEC(33) + RM_MS(1));
    rm_breaker_destroy(b);
}

static void refuse(const rm_breaker_desc *desc, rm_status status, const char *field) {
    rm_breaker *b = NULL;
    rm_error error;
    memset(&error, 77, sizeof error);
    CHECK_EQ(status, rm_breaker_create(desc, &b, &error));
    CHECK_EQ(status, error.status);
    CHECK_EQ(0, error.native);
    CHECK_STR(field, error.where);
    CHECK(error.message[0] != '\0');
    CHECK(b == NULL);
    CHECK_EQ(status, rm_breaker_create(desc, &b, NULL));
}

TEST(breaker, refuses_every_bad_setting_by_its_name) {
    static const int64_t bad_ns[] = {-1,        -3,        -4,
                                     INT64_MIN, INT64_MAX, INT64_C(365) * 86400 * 1000000000 + 1};
    static const uint32_t bad_counts[] = {4096, UINT32_MAX, UINT32_C(0x80000000)};
    static const int32_t bad_shares[] = {-1, -2, -4, INT32_MIN, 1001, INT32_MAX};
    rm_breaker_desc desc;
    for (size_t i = 0; i < sizeof bad_ns / sizeof *bad_ns; i++) {
        desc = small(), desc.open_ns = bad_ns[i];
        refuse(&desc, RM_E_INVALID, "open_ns");
        desc = small(), desc.probe_wait_ns = bad_ns[i];
        refuse(&desc, RM_E_INVALID, "probe_wait_ns");
    }
    desc = small(), desc.open_ns = RM_FOREVER;
    refuse(&desc, RM_E_INVALID, "open_ns");
    for (size_t i = 0; i < sizeof bad_counts / sizeof *bad_counts; i++) {
        desc = small(), desc.probes = bad_counts[i];
        refuse(&desc, RM_E_INVALID, "probes");
        desc = small(), desc.probe_successes = bad_counts[i];
        refuse(&desc, RM_E_INVALID, "probe_successes");
    }
    for (size_t i = 0; i < sizeof bad_shares / sizeof *bad_shares; i++) {
        desc = small(), desc.open_jitter_permille = bad_shares[i];
        refuse(&desc, RM_E_INVALID, "open_jitter_permille");
    }
    desc = small(), desc.name = "";
    refuse(&desc, RM_E_INVALID, "name");
    desc = small(), desc.name = "a name of forty-eight bytes, which is one too lo";
    refuse(&desc, RM_E_TOO_LARGE, "name");
    rm_random nothing = {NULL, NULL};
    rm_env env = {NULL, NULL, &nothing, NULL};
    desc = small(), desc.env = &env;
    refuse(&desc, RM_E_INVALID, "env.random");
}

TEST(breaker, accepts_settings_at_their_bounds) {
    world w;
    rm_breaker_desc desc = small();
    char name[] = "a name of forty-seven bytes, the longest there";
    desc.name = name;
    desc.failures = UINT32_MAX;
    desc.open_ns = INT64_C(365) * 86400 * 1000000000;
    desc.probe_wait_ns = desc.open_ns;
    desc.open_jitter_permille = 1000;
    desc.probes = desc.probe_successes = 4095;
    REQUIRE(world_open(&w, desc));
    w.random = UINT64_MAX;
    name[0] = 'X'; /* it was copied */
    CHECK_EQ(RM_OK, rm_breaker_trip(w.b));
    CHECK_STR("a name of forty-seven bytes, the longest there", w.events[0].name);
    rm_permit permit;
    rm_error error;
    CHECK_EQ(RM_E_REJECTED, rm_breaker_acquire(w.b, &permit, &error));
    CHECK_STR("the breaker is open; the next probe is let through in 63072000 s", error.message);
    w.now += 2 * desc.open_ns;
    for (int i = 0; i < 4095; i++)
        CHECK_EQ(RM_OK, take(&w, &permit));
    CHECK_EQ(RM_E_REJECTED, take(&w, &permit));
    CHECK_EQ(4095, stats_of(w.b).probes_out);
    world_close(&w);
}

TEST(breaker, create_fails_cleanly_for_every_allocation) {
    for (int at = 1;; at++) {
        world w;
        rm_error error;
        rm_breaker_desc desc = small();
        world_init(&w);
        desc.env = &w.env;
        w.fail_at = at;
        rm_status status = rm_breaker_create(&desc, &w.b, &error);
        if (status == RM_OK) {
            CHECK_EQ(2, at); /* there is one */
            world_close(&w);
            return;
        }
        CHECK_EQ(RM_E_NOMEM, status);
        CHECK_EQ(RM_E_NOMEM, error.status);
        CHECK_EQ(0, error.native);
        CHECK(w.b == NULL);
        CHECK_EQ(0, w.allocated);
        REQUIRE(at < 10);
    }
}

/* ---- closed ---- */

TEST(breaker, opens_after_as_many_consecutive_failures_as_configured) {
    for (uint32_t failures = 1; failures <= 5; failures++) {
        world w;
        rm_breaker_desc desc = small();
        desc.failures = failures;
        REQUIRE(world_open(&w, desc));
        for (uint32_t i = 1; i <= failures; i++) {
            STATE(CLOSED, &w);
            CHECK_EQ(i - 1, stats_of(w.b).consecutive_failures);
            fail(&w, 1);
        }
        STATE(OPEN, &w);
        CHECK_EQ(1, stats_of(w.b).opened);
        world_close(&w);
    }
}

TEST(breaker, a_success_sets_the_count_back) {
    world w;
    REQUIRE(world_open(&w, small()));
    for (int i = 0; i < 50; i++) {
        fail(&w, 2);
        CHECK_EQ(RM_OK, one(&w, RM_OUTCOME_OK));
        CHECK_EQ(0, stats_of(w.b).consecutive_failures);
    }
    STATE(CLOSED, &w);
    CHECK_EQ(100, stats_of(w.b).failures);
    CHECK_EQ(0, w.count);
    world_close(&w);
}

TEST(breaker, an_ignored_outcome_leaves_the_count_alone) {
    world w;
    REQUIRE(world_open(&w, small()));
    fail(&w, 2);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(RM_OK, one(&w, RM_OUTCOME_IGNORE));
    CHECK_EQ(2, stats_of(w.b).consecutive_failures);
    CHECK_EQ(10, stats_of(w.b).ignored);
    fail(&w, 1);
    STATE(OPEN, &w);
    world_close(&w);
}

TEST(breaker, a_success_while_closed_writes_nothing_and_reads_no_clock) {
    world w;
    REQUIRE(world_open(&w, small()));
    CHECK_EQ(0, (uintptr_t)w.b % 64);
    struct rm_breaker before;
    memcpy(&before, w.b, sizeof before);
    for (int i = 0; i < 1000; i++)
        CHECK_EQ(RM_OK, one(&w, RM_OUTCOME_OK));
    CHECK(memcmp(&before, w.b, sizeof before) == 0);
    fail(&w, 2);
    CHECK_EQ(RM_OK, one(&w, RM_OUTCOME_IGNORE));
    CHECK_EQ(0, w.reads + w.coarse_reads);
    world_close(&w);
}

TEST(breaker, a_refusal_reads_the_coarse_clock_only) {
    world w;
    rm_permit permit;
    REQUIRE(world_open(&w, small()));
    fail(&w, 3);
    int64_t reads = w.reads;
    for (int i = 0; i < 10; i++)
        CHECK_EQ(RM_E_REJECTED, take(&w, &permit));
    CHECK_EQ(reads, w.reads);
    CHECK_EQ(10, w.coarse_reads);
    w.now += RM_SEC(10) - RM_MS(20) - 1; /* near the end it takes a closer look */
    CHECK_EQ(RM_E_REJECTED, take(&w, &permit));
    CHECK_EQ(reads, w.reads);
    w.now += 1;
    CHECK_EQ(RM_E_REJECTED, take(&w, &permit));
    CHECK_EQ(reads + 1, w.reads);
    world_close(&w);
}

TEST(breaker, calls_of_any_length_count) {
    world w;
    rm_permit permits[3];
    REQUIRE(world_open(&w, small()));
    for (int i = 0; i < 3; i++)
        CHECK_EQ(RM_OK, take(&w, &permits[i]));
    w.now += RM_SEC(86400);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(RM_OK, rm_breaker_record(w.b, &permits[i], RM_OUTCOME_FAILURE));
    STATE(OPEN, &w);
    world_close(&w);
}

TEST(breaker, any_32_bit_threshold_is_exact) {
    world w;
    rm_breaker_desc desc = small();
    desc.failures = UINT32_MAX;
    REQUIRE(world_open(&w, desc));
    w.b->word = rmi_breaker_make(RM_BREAKER_STATE_CLOSED, 1, UINT32_MAX - 2);
    fail(&w, 1);
    STATE(CLOSED, &w);
    CHECK_EQ(UINT32_MAX - 1, stats_of(w.b).consecutive_failures);
    fail(&w, 1);
    STATE(OPEN, &w);
    world_close(&w);
}

/* ---- open ---- */

TEST(breaker, an_open_one_refuses_until_the_rest_is_over) {
    world w;
    rm_error error;
    rm_permit permit = {0, 0};
    memset(&error, 77, sizeof error);
    REQUIRE(world_open(&w, small()));
    fail(&w, 3);
    CHECK_EQ(RM_SEC(10), stats_of(w.b).retry_after_ns);
    CHECK_EQ(RM_SEC(10), w.events[0].rest_ns);
    w.now += RM_SEC(10) - 1;
    CHECK_EQ(1, stats_of(w.b).retry_after_ns);
    CHECK(!stats_of(w.b).probe_ready);
    CHECK_EQ(RM_E_REJECTED, rm_breaker_acquire(w.b, &permit, &error));
    CHECK_EQ(0, permit.word); /* an out parameter is left alone on failure */
    CHECK_EQ(RM_E_REJECTED, error.status);
    CHECK_EQ(0, error.native);
    CHECK_STR("breaker", error.where);
    CHECK_STR("the breaker is open; the next probe is let through in 1 ms", error.message);
    CHECK_EQ(1, stats_of(w.b).rejected);
    w.now += 1;
    CHECK_EQ(0, stats_of(w.b).retry_after_ns);
    CHECK(stats_of(w.b).probe_ready);
    CHECK_EQ(RM_OK, take(&w, &permit));
    STATE(HALF_OPEN, &w);
    world_close(&w);
}

TEST(breaker, the_rest_is_lengthened_at_random_within_its_share) {
    world w;
    rm_breaker_desc desc = small();
    desc.open_jitter_permille = 200;
    REQUIRE(world_open(&w, desc));
    static const uint64_t randoms[] = {0, UINT64_C(1) << 63, UINT64_MAX};
    static const int64_t rests[] = {10000, 11000, 12000};
    for (int i = 0; i < 3; i++) {
        w.random = randoms[i];
        CHECK_EQ(RM_OK, rm_breaker_trip(w.b));
        CHECK_EQ(RM_MS(rests[i]), w.events[2 * i].rest_ns);
        CHECK_EQ(RM_MS(rests[i]), stats_of(w.b).retry_after_ns);
        CHECK_EQ(RM_OK, rm_breaker_reset(w.b));
    }
    w.random = 1; /* now really at random: not all the same */
    int64_t least = INT64_MAX, most = 0;
    for (int i = 0; i < 1000; i++) {
        CHECK_EQ(RM_OK, rm_breaker_trip(w.b));
        int64_t rest = stats_of(w.b).retry_after_ns;
        least = rest < least ? rest : least;
        most = rest > most ? rest : most;
    }
    CHECK(least >= RM_SEC(10) && least < RM_MS(10100));
    CHECK(most <= RM_SEC(12) + RM_MS(1) && most > RM_MS(11900));
    world_close(&w);
}

TEST(breaker, the_least_share_is_a_thousandth) {
    world w;
    rm_breaker_desc desc = small();
    desc.open_jitter_permille = 1;
    REQUIRE(world_open(&w, desc));
    w.random = UINT64_MAX;
    CHECK_EQ(RM_OK, rm_breaker_trip(w.b));
    CHECK_EQ(RM_MS(10010), stats_of(w.b).retry_after_ns);
    world_close(&w);
}

TEST(breaker, rests_are_rounded_up_to_whole_milliseconds_never_down) {
    static const int64_t rests[] = {1, 999999, 1000000, 1000001, 2500000};
    for (int64_t start = 0; start < RM_MS(2); start += 333333)
        for (size_t i = 0; i < sizeof rests / sizeof *rests; i++) {
            world w;
            rm_breaker_desc desc = small();
            desc.open_ns = rests[i];
            REQUIRE(world_open(&w, desc));
            w.now += start;
            CHECK_EQ(RM_OK, rm_breaker_trip(w.b));
            int64_t left = stats_of(w.b).retry_after_ns;
            CHECK(left >= rests[i] && left < rests[i] + RM_MS(1));
            w.now += left - 1;
            CHECK_EQ(RM_E_REJECTED, one(&w, RM_OUTCOME_OK));
            w.now += 1;
            CHECK_EQ(RM_OK, one(&w, RM_OUTCOME_OK));
            world_close(&w);
        }
}

static int64_t coarse_clock(void *user) {
    return ((world *)user)->now - RM_MS(15);
}

TEST(breaker, a_coarse_clock_that_is_behind_delays_no_probe) {
    world w;
    rm_permit permit;
    rm_breaker_desc desc = small();
    desc.open_jitter_permille = 0;
    REQUIRE(world_open(&w, desc));
    w.clock.coarse_fn = coarse_clock;
    for (int i = 0; i < 100; i++) {
        w.random = i == 0 ? UINT64_MAX : 1; /* the longest rest, and others */
        CHECK_EQ(RM_OK, rm_breaker_trip(w.b));
        uint64_t word = w.b->word;
        CHECK_EQ(RM_E_REJECTED, one(&w, RM_OUTCOME_OK));
        CHECK(word == w.b->word); /* not taken for a step back: the rest goes on */
    }
    w.now += RM_SEC(11);
    CHECK_EQ(RM_OK, take(&w, &permit));
    CHECK_EQ(RM_OK, rm_breaker_record(w.b, &permit, RM_OUTCOME_IGNORE));
    CHECK_EQ(RM_OK, take(&w, &permit));
    w.now += RM_SEC(20) - 1;
    CHECK_EQ(RM_OK, rm_breaker_record(w.b, &permit, RM_OUTCOME_OK));
    world_close(&w);
}

/* ---- half-open ---- */

/* Opens it and waits for the end of the rest. */
static void rested(world *w) {
    CHECK_EQ(RM_OK, rm_breaker_trip(w->b));
    w->now += RM_SEC(10);
}

TEST(breaker, probes_close_it_when_enough_succeed) {
    world w;
    rm_permit a, b, c;
    REQUIRE(world_open(&w, small()));
    rested(&w);
    CHECK_EQ(RM_OK, take(&w, &a));
    CHECK_EQ(RM_OK, take(&w, &b));
    CHECK_EQ(RM_E_REJECTED, take(&w, &c));
    CHECK_EQ(2, stats_of(w.b).probes_out);
    CHECK_EQ(RM_OK, rm_breaker_record(w.b, &a, RM_OUTCOME_OK));
    STATE(HALF_OPEN, &w);
    CHECK_EQ(1, stats_of(w.b).probes_out);
    CHECK_EQ(RM_OK, take(&w, &c)); /* its place is free again */
    CHECK_EQ(RM_OK, rm_breaker_record(w.b, &b, RM_OUTCOME_OK));
    STATE(CLOSED, &w);
    CHECK_EQ(RM_E_STALE, rm_breaker_record(w.b, &c, RM_OUTCOME_FAILURE));
    CHECK_EQ(0, stats_of(w.b).consecutive_failures);
    CHECK_EQ(2, stats_of(w.b).probe_successes);
    CHECK_EQ(3, stats_of(w.b).probes);
    world_close(&w);
}

TEST(breaker, more_successes_than_probes_at_once_may_be_asked_for) {
    world w;
    rm_breaker_desc desc = small();
    desc.probes = 1;
    desc.probe_successes = 4;
    REQUIRE(world_open(&w, desc));
    rested(&w);
    for (int i = 0; i < 4; i++) {
        rm_permit permit, more;
        CHECK_EQ(RM_OK, take(&w, &permit));
        CHECK_EQ(RM_E_REJECTED, take(&w, &more));
        STATE(HALF_OPEN, &w);
        CHECK_EQ(RM_OK, rm_breaker_record(w.b, &permit, RM_OUTCOME_OK));
    }
    STATE(CLOSED, &w);
    world_close(&w);
}

TEST(breaker, one_failed_probe_opens_it_for_a_full_rest) {
    world w;
    REQUIRE(world_open(&w, small()));
    rested(&w);
    CHECK_EQ(RM_OK, one(&w, RM_OUTCOME_OK));
    CHECK_EQ(RM_OK, one(&w, RM_OUTCOME_FAILURE));
    STATE(OPEN, &w);
    CHECK_EQ(RM_SEC(10), stats_of(w.b).retry_after_ns);
    w.now += RM_SEC(10);
    CHECK_EQ(RM_OK, one(&w, RM_OUTCOME_OK)); /* successes count from 0 again */
    STATE(HALF_OPEN, &w);
    world_close(&w);
}

TEST(breaker, an_ignored_probe_gives_its_place_back) {
    world w;
    REQUIRE(world_open(&w, small()));
    rested(&w);
    for (int i = 0; i < 40000; i++) /* more than the counter of issued probes holds */
        CHECK_EQ(RM_OK, one(&w, RM_OUTCOME_IGNORE));
    STATE(HALF_OPEN, &w);
    CHECK_EQ(0, stats_of(w.b).probes_out);
    CHECK_EQ(40000, stats_of(w.b).ignored);
    rm_permit permit;
    CHECK_EQ(RM_OK, take(&w, &permit));
    CHECK_EQ(RM_OK, take(&w, &permit));
    CHECK_EQ(RM_E_REJECTED, take(&w, &permit));
    world_close(&w);
}

TEST(breaker, the_word_of_a_probe_does_not_come_back) {
    world w;
    uint64_t words[1000];
    REQUIRE(world_open(&w, small()));
    rested(&w);
    for (int i = 0; i < 1000; i++) { /* else a slow thread could end a later probe */
        rm_permit permit;
        CHECK_EQ(RM_OK, take(&w, &permit));
        words[i] = w.b->word;
        for (int n = 0; n < i; n++)
            CHECK(words[n] != words[i]);
        CHECK_EQ(RM_OK, rm_breaker_record(w.b, &permit, RM_OUTCOME_IGNORE));
    }
    world_close(&w);
}

TEST(breaker, late_results_neither_close_nor_open_nor_free_places) {
    world w;
    rm_permit late[30], probe, more;
    REQUIRE(world_open(&w, small()));
    for (int i = 0; i < 30; i++)
        CHECK_EQ(RM_OK, take(&w, &late[i]));
    rested(&w);
    CHECK_EQ(RM_OK, take(&w, &probe));
    CHECK_EQ(RM_OK, take(&w, &more));
    for (int i = 0; i < 10; i++) { /* half-open: two would close it, one would open it */
        CHECK_EQ(RM_E_STALE, rm_breaker_record(w.b, &late[i], RM_OUTCOME_OK));
        CHECK_EQ(RM_E_STALE, rm_breaker_record(w.b, &late[i + 10], RM_OUTCOME_FAILURE));
        CHECK_EQ(RM_E_STALE, rm_breaker_record(w.b, &late[i + 20], RM_OUTCOME_IGNORE));
        CHECK_EQ(RM_E_REJECTED, one(&w, RM_OUTCOME_OK));
        STATE(HALF_OPEN, &w);
    }
    CHECK_EQ(30, stats_of(w.b).late);
    CHECK_EQ(2, stats_of(w.b).probes_out);
    CHECK_EQ(RM_OK, rm_breaker_record(w.b, &probe, RM_OUTCOME_OK));
    CHECK_EQ(RM_OK, rm_breaker_record(w.b, &more, RM_OUTCOME_OK));
    STATE(CLOSED, &w);
    world_close(&w);
}

TEST(breaker, late_results_touch_neither_an_open_nor_a_closed_one) {
    world w;
    rm_permit late[4];
    REQUIRE(world_open(&w, small()));
    for (int i = 0; i < 4; i++)
        CHECK_EQ(RM_OK, take(&w, &late[i]));
    fail(&w, 3);
    w.now += RM_SEC(4);
    CHECK_EQ(RM_E_STALE, rm_breaker_record(w.b, &late[0], RM_OUTCOME_FAILURE));
    CHECK_EQ(RM_E_STALE, rm_breaker_record(w.b, &late[1], RM_OUTCOME_OK));
    STATE(OPEN, &w);
    CHECK_EQ(RM_SEC(6), stats_of(w.b).retry_after_ns); /* the rest was not lengthened */
    CHECK_EQ(RM_OK, rm_breaker_reset(w.b));
    fail(&w, 2);
    CHECK_EQ(RM_E_STALE, rm_breaker_record(w.b, &late[2], RM_OUTCOME_FAILURE));
    STATE(CLOSED, &w);
    CHECK_EQ(RM_E_STALE, rm_breaker_record(w.b, &late[3], RM_OUTCOME_OK));
    CHECK_EQ(2, stats_of(w.b).consecutive_failures);
    world_close(&w);
}

TEST(breaker, a_lost_probe_opens_it_again_and_it_recovers) {
    world w;
    rm_permit lost[2], permit;
    REQUIRE(world_open(&w, small()));
    rested(&w);
    CHECK_EQ(RM_OK, take(&w, &lost[0]));
    CHECK_EQ(RM_OK, take(&w, &lost[1]));
    w.now += RM_SEC(20) - 1;
    CHECK_EQ(RM_E_REJECTED, take(&w, &permit));
    STATE(HALF_OPEN, &w);
    w.now += 1;
    CHECK(!stats_of(w.b).probe_ready);
    STATE(HALF_OPEN, &w); /* asking changes nothing */
    CHECK_EQ(RM_E_REJECTED, take(&w, &permit));
    STATE(OPEN, &w);
    CHECK_STR("probe_lost", w.events[2].reason);
    CHECK_EQ(2, stats_of(w.b).lost);
    CHECK_EQ(RM_SEC(10), stats_of(w.b).retry_after_ns);
    w.now += RM_SEC(10);
    CHECK_EQ(RM_OK, take(&w, &permit));
    CHECK_EQ(RM_E_STALE, rm_breaker_record(w.b, &lost[0], RM_OUTCOME_FAILURE));
    CHECK_EQ(RM_OK, rm_breaker_record(w.b, &permit, RM_OUTCOME_OK));
    CHECK_EQ(RM_OK, one(&w, RM_OUTCOME_OK));
    STATE(CLOSED, &w);
    world_close(&w);
}

TEST(breaker, the_latest_probe_decides_when_probes_are_lost) {
    world w;
    rm_permit first, second, third;
    rm_breaker_desc desc = small();
    desc.probe_successes = 5;
    REQUIRE(world_open(&w, desc));
    rested(&w);
    CHECK_EQ(RM_OK, take(&w, &first));
    w.now += RM_SEC(15);
    CHECK_EQ(RM_OK, take(&w, &second));
    w.now += RM_SEC(20) - RM_MS(1);
    CHECK_EQ(RM_OK, rm_breaker_record(w.b, &second, RM_OUTCOME_OK)); /* first is 35 s out */
    CHECK_EQ(RM_OK, take(&w, &third));
    CHECK_EQ(RM_OK, rm_breaker_record(w.b, &third, RM_OUTCOME_OK));
    w.now += RM_SEC(20) - 1; /* nobody else came: first is about to be lost */
    CHECK(stats_of(w.b).probe_ready);
    w.now += 1;
    CHECK(!stats_of(w.b).probe_ready);
    CHECK_EQ(RM_E_REJECTED, take(&w, &third));
    STATE(OPEN, &w);
    CHECK_EQ(1, stats_of(w.b).lost);
    world_close(&w);
}

TEST(breaker, idle_time_with_no_probe_out_loses_nothing) {
    world w;
    rm_permit permit;
    REQUIRE(world_open(&w, small()));
    rested(&w);
    CHECK_EQ(RM_OK, one(&w, RM_OUTCOME_OK));
    w.now += RM_SEC(86400);
    CHECK(stats_of(w.b).probe_ready);
    CHECK_EQ(RM_OK, take(&w, &permit));
    CHECK_EQ(RM_E_REJECTED, (take(&w, &permit), take(&w, &permit)));
    STATE(HALF_OPEN, &w); /* the new probes have their full time */
    world_close(&w);
}

TEST(breaker, probes_can_be_waited_for_without_end) {
    world w;
    rm_permit permit, more;
    rm_breaker_desc desc = small();
    desc.probes = 1;
    desc.probe_wait_ns = RM_FOREVER;
    REQUIRE(world_open(&w, desc));
    rested(&w);
    CHECK_EQ(RM_OK, take(&w, &permit));
    w.now += RM_SEC(365 * 86400);
    CHECK_EQ(RM_E_REJECTED, take(&w, &more));
    CHECK_EQ(RM_OK, rm_breaker_record(w.b, &permit, RM_OUTCOME_OK));
    STATE(CLOSED, &w);
    world_close(&w);
}

TEST(breaker, a_full_half_open_one_says_so) {
    world w;
    rm_permit permit;
    rm_error error;
    REQUIRE(world_open(&w, small()));
    rested(&w);
    CHECK_EQ(RM_OK, take(&w, &permit));
    CHECK(stats_of(w.b).probe_ready);
    CHECK_EQ(RM_OK, take(&w, &permit));
    CHECK(!stats_of(w.b).probe_ready);
    CHECK_EQ(RM_E_REJECTED, rm_breaker_acquire(w.b, &permit, &error));
    CHECK_STR("the breaker is half_open and all its probes are out: 2", error.message);
    CHECK_EQ(0, stats_of(w.b).retry_after_ns);
    world_close(&w);
}

/* ---- misuse ---- */

TEST(breaker, reporting_twice_has_no_effect) {
    world w;
    rm_permit permit, copy;
    REQUIRE(world_open(&w, small()));
    CHECK_EQ(RM_OK, take(&w, &permit));
    CHECK_EQ(RM_OK, rm_breaker_record(w.b, &permit, RM_OUTCOME_FAILURE));
    CHECK(permit.word == 0 && permit.owner == 0);
    for (int i = 0; i < 5; i++)
        CHECK_EQ(RM_E_STALE, rm_breaker_record(w.b, &permit, RM_OUTCOME_FAILURE));
    CHECK_EQ(1, stats_of(w.b).consecutive_failures);
    rested(&w);
    CHECK_EQ(RM_OK, take(&w, &permit));
    copy = permit; /* forbidden, but it must not free more places than there are */
    CHECK_EQ(RM_OK, rm_breaker_record(w.b, &permit, RM_OUTCOME_IGNORE));
    CHECK_EQ(RM_E_STALE, rm_breaker_record(w.b, &permit, RM_OUTCOME_IGNORE));
    CHECK_EQ(RM_E_STALE, rm_breaker_record(w.b, &copy, RM_OUTCOME_IGNORE));
    CHECK_EQ(0, stats_of(w.b).probes_out);
    CHECK_EQ(1, stats_of(w.b).late); /* the copy; what was zeroed is not counted */
    world_close(&w);
}

TEST(breaker, reporting_twice_has_no_effect_where_the_count_of_probes_wraps) {
    world w;
    rm_permit permit, copy;
    REQUIRE(world_open(&w, small()));
    rested(&w);
    for (int i = 0; i < 3 << 14; i++) {
        CHECK_EQ(RM_OK, take(&w, &permit));
        copy = permit;
        CHECK_EQ(RM_OK, rm_breaker_record(w.b, &permit, RM_OUTCOME_IGNORE));
        CHECK_EQ(RM_E_STALE, rm_breaker_record(w.b, &copy, RM_OUTCOME_OK));
    }
    STATE(HALF_OPEN, &w);
    world_close(&w);
}

TEST(breaker, a_foreign_permit_is_left_alone) {
    world w, other;
    rm_permit permit;
    REQUIRE(world_open(&w, small()) && world_open(&other, small()));
    CHECK_EQ(RM_OK, take(&w, &permit));
    CHECK_EQ(RM_E_FOREIGN, rm_breaker_record(other.b, &permit, RM_OUTCOME_FAILURE));
    CHECK_EQ(0, stats_of(other.b).failures);
    CHECK_EQ(RM_OK, rm_breaker_record(w.b, &permit, RM_OUTCOME_FAILURE));
    CHECK_EQ(1, stats_of(w.b).failures);
    world_close(&w);
    world_close(&other);
}

static rm_status never(void *user, rm_error *error) {
    (void)user, (void)error;
    CHECK(user == &user); /* never called */
    return RM_OK;
}

TEST(breaker, misuse_is_a_status) {
    world w;
    rm_error error;
    rm_permit permit = {0, 0};
    rm_breaker_stats stats;
    REQUIRE(world_open(&w, small()));
    CHECK_EQ(RM_E_INVALID, rm_breaker_create(NULL, NULL, &error));
    CHECK_STR("out", error.where);
    CHECK_EQ(RM_E_INVALID, rm_breaker_acquire(NULL, &permit, &error));
    CHECK_STR("breaker", error.where);
    CHECK_EQ(RM_E_INVALID, rm_breaker_acquire(w.b, NULL, &error));
    CHECK_STR("out", error.where);
    CHECK_EQ(RM_E_STALE, rm_breaker_record(w.b, &permit, RM_OUTCOME_OK));
    CHECK_EQ(RM_E_INVALID, rm_breaker_record(NULL, &permit, RM_OUTCOME_OK));
    CHECK_EQ(RM_E_INVALID, rm_breaker_record(w.b, NULL, RM_OUTCOME_OK));
    CHECK_EQ(RM_OK, take(&w, &permit));
    CHECK_EQ(RM_E_INVALID, rm_breaker_record(w.b, &permit, (rm_outcome)3));
    CHECK_EQ(RM_E_INVALID, rm_breaker_record(w.b, &permit, (rm_outcome)-1));
    CHECK_EQ(RM_OK, rm_breaker_record(w.b, &permit, RM_OUTCOME_OK)); /* still there */
    CHECK_EQ(RM_E_INVALID, rm_breaker_call(NULL, never, NULL, NULL, &error));
    CHECK_STR("breaker", error.where);
    CHECK_EQ(RM_E_INVALID, rm_breaker_call(w.b, NULL, NULL, NULL, &error));
    CHECK_STR("fn", error.where);
    CHECK_EQ(RM_E_INVALID, rm_breaker_trip(NULL));
    CHECK_EQ(RM_E_INVALID, rm_breaker_reset(NULL));
    CHECK_EQ(RM_E_INVALID, rm_breaker_stats_get(NULL, &stats));
    CHECK_EQ(RM_E_INVALID, rm_breaker_stats_get(w.b, NULL));
    rm_breaker_destroy(NULL);
    world_close(&w);
}

TEST(breaker, forged_permits_have_no_effect) {
    world w;
    REQUIRE(world_open(&w, small()));
    rested(&w);
    for (unsigned bit = 0; bit < 64; bit++) {
        rm_permit forged = {UINT64_C(1) << bit, w.b->id};
        CHECK_EQ(RM_E_STALE, rm_breaker_record(w.b, &forged, RM_OUTCOME_FAILURE));
    }
    STATE(OPEN, &w);
    rm_permit forged = {w.b->word, w.b->id}; /* nobody was ever given one of an OPEN one */
    CHECK_EQ(RM_E_STALE, rm_breaker_record(w.b, &forged, RM_OUTCOME_FAILURE));
    STATE(OPEN, &w);
    CHECK_EQ(0, stats_of(w.b).failures);
    world_close(&w);
}

/* ---- the clock ---- */

TEST(breaker, a_clock_that_steps_back_costs_one_rest_at_most) {
    static const int64_t steps[] = {RM_MS(50), RM_SEC(5), RM_SEC(3600), RM_SEC(86400 * 1000)};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        world w;
        REQUIRE(world_open(&w, small()));
        fail(&w, 3);
        w.now -= steps[i];
        int64_t left = stats_of(w.b).retry_after_ns;
        CHECK(left >= RM_SEC(10) && left <= RM_SEC(10) + RM_MS(1));
        CHECK_EQ(RM_E_REJECTED, one(&w, RM_OUTCOME_OK));
        CHECK_EQ(1, w.count);
        w.now += RM_SEC(10);
        CHECK_EQ(RM_OK, one(&w, RM_OUTCOME_OK));
        STATE(HALF_OPEN, &w);
        world_close(&w);
    }
}

TEST(breaker, a_clock_that_steps_back_loses_no_probe_for_good) {
    static const int64_t steps[] = {RM_MS(50), RM_SEC(5), RM_SEC(3600), RM_SEC(86400 * 1000)};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        world w;
        rm_permit a, b, c;
        REQUIRE(world_open(&w, small()));
        rested(&w);
        CHECK_EQ(RM_OK, take(&w, &a));
        CHECK_EQ(RM_OK, take(&w, &b));
        w.now -= steps[i];
        CHECK_EQ(RM_E_REJECTED, take(&w, &c));
        w.now += RM_SEC(20) - 1;
        CHECK_EQ(RM_E_REJECTED, take(&w, &c));
        STATE(HALF_OPEN, &w);
        w.now += 1;
        CHECK_EQ(RM_E_REJECTED, take(&w, &c));
        STATE(OPEN, &w);
        CHECK_EQ(2, stats_of(w.b).lost);
        world_close(&w);
    }
}

TEST(breaker, a_clock_that_jumps_ahead_ends_the_rest) {
    static const int64_t jumps[] = {RM_SEC(86400), RM_SEC(86400 * 365 * 4)};
    for (size_t i = 0; i < sizeof jumps / sizeof *jumps; i++) {
        world w;
        REQUIRE(world_open(&w, small()));
        fail(&w, 3);
        w.now += jumps[i];
        CHECK(stats_of(w.b).probe_ready);
        CHECK_EQ(RM_OK, one(&w, RM_OUTCOME_OK));
        STATE(HALF_OPEN, &w);
        w.now += jumps[i];
        CHECK_EQ(RM_OK, one(&w, RM_OUTCOME_OK));
        STATE(CLOSED, &w);
        world_close(&w);
    }
}

TEST(breaker, any_clock_reading_will_do) {
    const int64_t wrap = RM_MS(1) * (INT64_C(1) << 38); /* where the stored milliseconds wrap */
    const int64_t starts[] = {0,           -1,           -RM_SEC(5),        -RM_SEC(10) + 1,
                              INT64_MIN,   -wrap + 5,    wrap - RM_SEC(10), wrap - RM_SEC(5),
                              wrap - 1,    2 * wrap - 1, wrap / 2,          wrap / 2 - RM_SEC(3),
                              RM_SEC(1e9), RM_MS(7) - 1};
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        world w;
        rm_permit permit;
        REQUIRE(world_open(&w, small()));
        w.now = starts[i];
        CHECK_EQ(RM_OK, rm_breaker_trip(w.b));
        int64_t left = stats_of(w.b).retry_after_ns;
        CHECK(left >= RM_SEC(10) && left < RM_SEC(10) + RM_MS(1));
        w.now += left - 1;
        CHECK_EQ(RM_E_REJECTED, take(&w, &permit));
        w.now += 1;
        CHECK_EQ(RM_OK, take(&w, &permit));
        CHECK_EQ(RM_OK, take(&w, &permit));
        w.now += RM_SEC(20) - 1;
        CHECK_EQ(RM_E_REJECTED, take(&w, &permit));
        STATE(HALF_OPEN, &w);
        w.now += RM_MS(1);
        CHECK_EQ(RM_E_REJECTED, take(&w, &permit));
        STATE(OPEN, &w);
        world_close(&w);
    }
}

TEST(breaker, a_clock_at_its_end_does_no_harm) {
    world w;
    REQUIRE(world_open(&w, small()));
    w.now = INT64_MAX;
    fail(&w, 3);
    (void)one(&w, RM_OUTCOME_OK);
    (void)one(&w, RM_OUTCOME_FAILURE);
    w.now = INT64_MIN;
    (void)one(&w, RM_OUTCOME_FAILURE);
    CHECK(stats_of(w.b).retry_after_ns >= 0);
    CHECK_EQ(RM_OK, rm_breaker_reset(w.b));
    STATE(CLOSED, &w);
    world_close(&w);
}

/* ---- generations ---- */

TEST(breaker, generations_go_on_where_their_bits_wrap) {
    world w;
    rm_permit before, after;
    const uint64_t start = (UINT64_C(1) << 23) - 2;
    REQUIRE(world_open(&w, small()));
    w.b->generation = start;
    w.b->word = rmi_breaker_make(RM_BREAKER_STATE_CLOSED, start, 0);
    CHECK_EQ(start, stats_of(w.b).generation);
    CHECK_EQ(RM_OK, take(&w, &before));
    for (uint64_t i = 1; i <= 9; i += 3) {
        fail(&w, 3);
        w.now += RM_SEC(10);
        CHECK_EQ(RM_OK, take(&w, &after));
        CHECK_EQ(RM_OK, rm_breaker_record(w.b, &after, RM_OUTCOME_OK));
        CHECK_EQ(RM_OK, one(&w, RM_OUTCOME_OK));
        CHECK_EQ(start + i + 2, stats_of(w.b).generation);
    }
    CHECK_EQ(9, w.count);
    for (int i = 0; i < w.count; i++)
        CHECK_EQ(start + 1 + (uint64_t)i, w.events[i].generation);
    CHECK_EQ(RM_E_STALE, rm_breaker_record(w.b, &before, RM_OUTCOME_FAILURE));
    world_close(&w);
}

TEST(breaker, a_closed_generation_of_no_bits_gives_permits_too) {
    world w;
    rm_permit permit;
    REQUIRE(world_open(&w, small()));
    w.b->generation = UINT64_C(1) << 23;
    w.b->word = 0;
    fail(&w, 2);
    CHECK_EQ(RM_OK, take(&w, &permit));
    CHECK_EQ(RM_OK, rm_breaker_record(w.b, &permit, RM_OUTCOME_OK));
    CHECK_EQ(RM_OK, one(&w, RM_OUTCOME_OK));
    CHECK_EQ(0, stats_of(w.b).consecutive_failures);
    CHECK_EQ(0, stats_of(w.b).late);
    world_close(&w);
}

TEST(breaker, a_probe_is_lost_in_time_where_generations_wrap) {
    for (uint64_t start = (UINT64_C(1) << 23) - 3; start <= UINT64_C(1) << 23; start++) {
        world w;
        rm_permit permit;
        rm_breaker_desc desc = small();
        desc.probes = 1;
        REQUIRE(world_open(&w, desc));
        w.b->generation = start;
        w.b->word = rmi_breaker_make(RM_BREAKER_STATE_CLOSED, start, 0);
        rested(&w);
        CHECK_EQ(RM_OK, take(&w, &permit));
        w.now += RM_SEC(20);
        CHECK(!stats_of(w.b).probe_ready);
        CHECK_EQ(RM_E_REJECTED, take(&w, &permit));
        if (stats_of(w.b).state == RM_BREAKER_STATE_HALF_OPEN) {
            w.now += RM_SEC(20); /* its deadline was taken for a newer one: it waits once more */
            CHECK_EQ(RM_E_REJECTED, take(&w, &permit));
        }
        STATE(OPEN, &w);
        world_close(&w);
    }
}

/* ---- by hand ---- */

TEST(breaker, can_be_tripped_and_reset_by_hand) {
    world w;
    REQUIRE(world_open(&w, small()));
    fail(&w, 2);
    CHECK_EQ(RM_OK, rm_breaker_reset(w.b)); /* closed: forgets, which is no transition */
    CHECK_EQ(0, stats_of(w.b).consecutive_failures);
    CHECK_EQ(0, w.count);
    CHECK_EQ(RM_OK, rm_breaker_trip(w.b));
    w.now += RM_SEC(7);
    CHECK_EQ(RM_OK, rm_breaker_trip(w.b)); /* open: rests anew, which is no transition */
    CHECK_EQ(RM_SEC(10), stats_of(w.b).retry_after_ns);
    CHECK_EQ(1, w.count);
    CHECK_EQ(1, stats_of(w.b).opened);
    w.now += RM_SEC(10);
    CHECK_EQ(RM_OK, one(&w, RM_OUTCOME_OK));
    CHECK_EQ(RM_OK, rm_breaker_trip(w.b)); /* half-open */
    STATE(OPEN, &w);
    CHECK_EQ(RM_OK, rm_breaker_reset(w.b));
    STATE(CLOSED, &w);
    CHECK_EQ(4, w.count);
    CHECK_STR("trip", w.events[0].reason);
    CHECK_STR("rest_over", w.events[1].reason);
    CHECK_STR("trip", w.events[2].reason);
    CHECK_STR("reset", w.events[3].reason);
    world_close(&w);
}

/* ---- queries ---- */

TEST(breaker, queries_change_nothing) {
    world w;
    rm_permit permit;
    rm_error error;
    REQUIRE(world_open(&w, small()));
    rm_resource resource = rm_breaker_resource(w.b);
    for (int round = 0; round < 6; round++) {
        struct rm_breaker before;
        memcpy(&before, w.b, sizeof before);
        for (int i = 0; i < 100; i++) {
            (void)stats_of(w.b);
            (void)resource.health_fn(resource.user, &error);
        }
        CHECK(memcmp(&before, w.b, sizeof before) == 0);
        if (round == 0) CHECK_EQ(RM_OK, rm_breaker_trip(w.b));
        if (round == 1) w.now += RM_SEC(3600); /* the rest is over, nobody has asked for leave */
        if (round == 2) CHECK_EQ(RM_OK, take(&w, &permit));
        if (round == 3) w.now += RM_SEC(3600); /* the probe is overdue */
        if (round == 4) w.now -= RM_SEC(7200);
    }
    CHECK_EQ(2, w.count);
    world_close(&w);
}

/* ---- events ---- */

TEST(breaker, every_transition_is_told_once_with_its_reason) {
    static const char *const reasons[] = {"failures",   "rest_over", "probe_failed",    "rest_over",
                                          "probe_lost", "rest_over", "probes_succeeded"};
    world w;
    rm_permit permit;
    rm_breaker_desc desc = small();
    desc.name = "price";
    desc.probes = 1;
    REQUIRE(world_open(&w, desc));
    fail(&w, 3);
    CHECK(strstr(w.line, "\"level\":\"warn\"") != NULL);
    CHECK(strstr(w.line, "\"generation\":2,\"rest_ms\":10000}") != NULL);
    w.now += RM_SEC(10);
    CHECK_EQ(RM_OK, one(&w, RM_OUTCOME_FAILURE));
    w.now += RM_SEC(10);
    CHECK_EQ(RM_OK, take(&w, &permit));
    w.now += RM_SEC(20);
    CHECK_EQ(RM_E_REJECTED, take(&w, &permit));
    w.now += RM_SEC(10);
    CHECK_EQ(RM_OK, one(&w, RM_OUTCOME_OK));
    REQUIRE(w.count == 7);
    for (int i = 0; i < 7; i++) {
        CHECK_STR(reasons[i], w.events[i].reason);
        CHECK_STR("price", w.events[i].name);
        CHECK_EQ(i + 2, w.events[i].generation);
        CHECK_EQ(i == 0 ? RM_BREAKER_STATE_CLOSED : w.events[i - 1].to, w.events[i].from);
        CHECK_EQ(w.events[i].to == RM_BREAKER_STATE_OPEN ? RM_SEC(10) : 0, w.events[i].rest_ns);
    }
    CHECK_EQ(RM_BREAKER_STATE_CLOSED, w.events[6].to);
    CHECK_EQ(8, w.b->generation); /* by which 23 bits are extended */
    CHECK(strstr(w.line, "\"level\":\"info\"") != NULL);
    CHECK(strstr(w.line, "\"component\":\"rm_breaker\",\"event\":\"state_changed\"") != NULL);
    CHECK(strstr(w.line, "\"breaker\":\"price\",\"from\":\"half_open\",\"to\":\"closed\","
                         "\"reason\":\"probes_succeeded\",\"generation\":8,\"rest_ms\":0") != NULL);
    world_close(&w);
}

/* What the listener does with the breaker on each event. */
typedef struct meddler {
    int calls, depth, deepest;
    int what;
} meddler;

static void meddle(rm_breaker *b, const rm_breaker_event *event, void *user) {
    meddler *m = (meddler *)user;
    rm_permit permit;
    m->calls++;
    m->deepest = ++m->depth > m->deepest ? m->depth : m->deepest;
    CHECK(stats_of(b).generation >= event->generation);
    if (rm_breaker_acquire(b, &permit, NULL) == RM_OK)
        CHECK(rm_breaker_record(b, &permit, RM_OUTCOME_IGNORE) == RM_OK);
    if (m->what == 1) CHECK_EQ(RM_OK, rm_breaker_reset(b));
    if (m->what == 2) CHECK_EQ(RM_OK, rm_breaker_trip(b));
    m->depth--;
}

TEST(breaker, a_listener_may_call_anything) {
    for (int what = 0; what < 3; what++) {
        world w;
        meddler m = {0, 0, 0, 0};
        rm_breaker_desc desc = small();
        desc.event_fn = meddle;
        desc.user = &m;
        m.what = what;
        REQUIRE(world_open(&w, desc));
        fail(&w, 3);
        CHECK_EQ(what == 1 ? RM_BREAKER_STATE_CLOSED : RM_BREAKER_STATE_OPEN, stats_of(w.b).state);
        CHECK_EQ(what == 1 ? 2 : 1, m.calls);
        CHECK(m.deepest <= 2);
        w.now += RM_SEC(10);
        rm_permit permit;
        CHECK_EQ(RM_OK, take(&w, &permit)); /* what == 2 trips it before we have the permit */
        CHECK_EQ(what == 2 ? RM_E_STALE : RM_OK, rm_breaker_record(w.b, &permit, RM_OUTCOME_OK));
        CHECK(m.deepest <= 2);
        world_close(&w);
    }
}

/* ---- lost races: what another thread does between a look at the word and the swap ---- */

/* The clock is read in just that gap: there the other thread's calls are made. */
typedef struct rival {
    world w;
    void (*act)(struct rival *r);
    rm_permit held; /* for the act to report */
    rm_status got;  /* what it got */
    int after;      /* at this look at the clock; 0 = the next */
} rival;

static int64_t rival_now(void *user) {
    rival *r = (rival *)user;
    if (--r->after > 0) return r->w.now;
    void (*act)(rival *) = r->act;
    r->act = NULL; /* once */
    if (act != NULL) act(r);
    return r->w.now;
}

static bool rival_open(rival *r, rm_breaker_desc desc) {
    memset(r, 0, sizeof *r);
    if (!world_open(&r->w, desc)) return false;
    r->w.clock.now_fn = rival_now;
    r->w.clock.user = r;
    r->w.clock.coarse_fn = rival_now;
    r->w.clock.wall_fn = rival_now;
    return true;
}

static void rival_trips(rival *r) {
    r->got = rm_breaker_trip(r->w.b);
}
static void rival_resets(rival *r) {
    r->got = rm_breaker_reset(r->w.b);
}
static void rival_succeeds(rival *r) {
    r->got = rm_breaker_record(r->w.b, &r->held, RM_OUTCOME_OK);
}
static void rival_fails(rival *r) {
    r->got = rm_breaker_record(r->w.b, &r->held, RM_OUTCOME_FAILURE);
}
static void rival_probes(rival *r) {
    r->got = take(&r->w, &r->held);
}

TEST(breaker, a_failure_that_lost_against_a_trip_is_late) {
    rival r;
    rm_permit permit;
    REQUIRE(rival_open(&r, small()));
    fail(&r.w, 2);
    CHECK_EQ(RM_OK, take(&r.w, &permit));
    r.act = rival_trips;
    CHECK_EQ(RM_E_STALE, rm_breaker_record(r.w.b, &permit, RM_OUTCOME_FAILURE));
    CHECK_EQ(1, r.w.count);
    CHECK_EQ(1, stats_of(r.w.b).late);
    CHECK_EQ(2, stats_of(r.w.b).failures);
    world_close(&r.w);
}

TEST(breaker, a_failure_that_lost_against_a_success_counts_as_the_first) {
    rival r;
    rm_permit permit;
    REQUIRE(rival_open(&r, small()));
    fail(&r.w, 2);
    CHECK_EQ(RM_OK, take(&r.w, &permit));
    CHECK_EQ(RM_OK, take(&r.w, &r.held));
    r.act = rival_succeeds;
    CHECK_EQ(RM_OK, rm_breaker_record(r.w.b, &permit, RM_OUTCOME_FAILURE));
    CHECK_EQ(RM_OK, r.got);
    STATE(CLOSED, &r.w);
    CHECK_EQ(1, stats_of(r.w.b).consecutive_failures);
    world_close(&r.w);
}

TEST(breaker, two_last_failures_open_it_once) {
    rival r;
    rm_permit permit;
    REQUIRE(rival_open(&r, small()));
    fail(&r.w, 2);
    CHECK_EQ(RM_OK, take(&r.w, &permit));
    CHECK_EQ(RM_OK, take(&r.w, &r.held));
    r.act = rival_fails;
    CHECK_EQ(RM_E_STALE, rm_breaker_record(r.w.b, &permit, RM_OUTCOME_FAILURE));
    CHECK_EQ(RM_OK, r.got);
    CHECK_EQ(1, r.w.count);
    CHECK_EQ(1, stats_of(r.w.b).opened);
    world_close(&r.w);
}

TEST(breaker, the_last_place_of_a_probe_is_taken_once) {
    for (uint32_t probes = 1; probes <= 2; probes++) {
        rival r;
        rm_permit permit;
        rm_breaker_desc desc = small();
        desc.probes = probes;
        REQUIRE(rival_open(&r, desc));
        rested(&r.w);
        if (probes == 2) CHECK_EQ(RM_OK, take(&r.w, &permit));
        r.act = rival_probes;
        CHECK_EQ(RM_E_REJECTED, take(&r.w, &permit));
        CHECK_EQ(RM_OK, r.got);
        CHECK_EQ(probes, stats_of(r.w.b).probes);
        CHECK_EQ(probes, stats_of(r.w.b).probes_out);
        CHECK_EQ(1, stats_of(r.w.b).rejected);
        CHECK_EQ(2, r.w.count); /* half-open once */
        world_close(&r.w);
    }
}

TEST(breaker, a_probe_that_lost_against_a_reset_or_a_trip_goes_by_the_new_state) {
    rival r;
    rm_permit permit;
    for (int half = 0; half < 2; half++) {
        REQUIRE(rival_open(&r, small()));
        rested(&r.w);
        if (half) CHECK_EQ(RM_OK, one(&r.w, RM_OUTCOME_IGNORE));
        r.act = rival_resets;
        CHECK_EQ(RM_OK, take(&r.w, &permit));
        STATE(CLOSED, &r.w);
        CHECK_EQ(half, stats_of(r.w.b).probes);
        CHECK_EQ(RM_OK, rm_breaker_record(r.w.b, &permit, RM_OUTCOME_FAILURE));
        CHECK_EQ(1, stats_of(r.w.b).consecutive_failures);
        rested(&r.w);
        if (half) CHECK_EQ(RM_OK, one(&r.w, RM_OUTCOME_IGNORE));
        r.act = rival_trips;
        CHECK_EQ(RM_E_REJECTED, take(&r.w, &permit));
        STATE(OPEN, &r.w);
        CHECK_EQ(RM_SEC(10), stats_of(r.w.b).retry_after_ns);
        world_close(&r.w);
    }
}

TEST(breaker, a_lost_probe_that_reports_in_the_last_moment_is_not_lost) {
    rival r;
    rm_permit permit;
    rm_breaker_desc desc = small();
    desc.probe_successes = 1;
    REQUIRE(rival_open(&r, desc));
    rested(&r.w);
    CHECK_EQ(RM_OK, take(&r.w, &r.held));
    r.w.now += RM_SEC(20);
    r.act = rival_succeeds;
    CHECK_EQ(RM_OK, take(&r.w, &permit));
    CHECK_EQ(RM_OK, r.got);
    STATE(CLOSED, &r.w);
    CHECK_EQ(0, stats_of(r.w.b).lost);
    world_close(&r.w);
}

static void rival_swaps_probes(rival *r) {
    CHECK_EQ(RM_OK, rm_breaker_record(r->w.b, &r->held, RM_OUTCOME_IGNORE));
    r->got = take(&r->w, &r->held);
}

TEST(breaker, a_fresh_probe_is_not_taken_for_an_overdue_one) {
    for (int read = 1; read <= 3; read++) { /* whichever look at the clock the rival comes in */
        rival r;
        rm_permit permit;
        rm_breaker_desc desc = small();
        desc.probes = 1;
        REQUIRE(rival_open(&r, desc));
        rested(&r.w);
        CHECK_EQ(RM_OK, take(&r.w, &r.held));
        r.w.now += RM_SEC(20);
        r.after = read;
        r.act = rival_swaps_probes;
        CHECK_EQ(RM_E_REJECTED, take(&r.w, &permit));
        CHECK_EQ(RM_OK, r.got);
        STATE(HALF_OPEN, &r.w);
        CHECK_EQ(0, stats_of(r.w.b).lost);
        CHECK_EQ(RM_OK, rm_breaker_record(r.w.b, &r.held, RM_OUTCOME_OK));
        world_close(&r.w);
    }
}

TEST(breaker, two_trips_and_two_resets_at_once_are_one_transition_each) {
    rival r;
    REQUIRE(rival_open(&r, small()));
    r.act = rival_trips;
    CHECK_EQ(RM_OK, rm_breaker_trip(r.w.b));
    CHECK_EQ(1, r.w.count);
    STATE(OPEN, &r.w);
    r.act = rival_resets;
    CHECK_EQ(RM_OK, rm_breaker_trip(r.w.b)); /* was to rest anew, has to trip it instead */
    STATE(OPEN, &r.w);
    CHECK_EQ(3, r.w.count);
    world_close(&r.w);
}

/* ---- guarded calls ---- */

typedef struct script {
    world *w;
    rm_status status, fallback;
    int calls, fallbacks;
    bool silent; /* fn leaves its error record alone */
    rm_status reason;
    char where[48];
} script;

static rm_status script_call(void *user, rm_error *error) {
    script *s = (script *)user;
    s->calls++;
    if (s->status == RM_OK || s->silent) return s->status;
    return rm_error_set(error, s->status, 111, "origin", "said no");
}

static rm_status script_fallback(void *user, const rm_error *reason) {
    script *s = (script *)user;
    s->fallbacks++;
    s->reason = reason->status;
    memcpy(s->where, reason->where, sizeof s->where);
    return s->fallback;
}

TEST(breaker, call_counts_what_fn_returns) {
    world w;
    script s = {&w, RM_OK, RM_OK, 0, 0, false, RM_OK, ""};
    rm_error error;
    error.status = RM_E_INTERNAL;
    REQUIRE(world_open(&w, small()));
    CHECK_EQ(RM_OK, rm_breaker_call(w.b, script_call, script_fallback, &s, &error));
    CHECK_EQ(RM_E_INTERNAL, error.status); /* left alone on success */
    s.status = RM_E_REFUSED;
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(RM_E_REFUSED, rm_breaker_call(w.b, script_call, NULL, &s, &error));
        CHECK_EQ(RM_E_REFUSED, error.status);
        CHECK_EQ(111, error.native);
        CHECK_STR("said no", error.message);
    }
    CHECK_EQ(RM_E_REJECTED, rm_breaker_call(w.b, script_call, NULL, &s, &error));
    CHECK_EQ(RM_E_REJECTED, error.status);
    CHECK_EQ(RM_E_REJECTED, rm_breaker_call(w.b, script_call, NULL, &s, NULL));
    CHECK_EQ(4, s.calls);
    CHECK_EQ(0, s.fallbacks);
    world_close(&w);
}

TEST(breaker, a_fallback_turns_a_failure_into_success) {
    world w;
    script s = {&w, RM_E_TIMEOUT, RM_OK, 0, 0, false, RM_OK, ""};
    rm_error error;
    error.status = RM_OK;
    REQUIRE(world_open(&w, small()));
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(RM_OK, rm_breaker_call(w.b, script_call, script_fallback, &s, &error));
        CHECK_EQ(RM_E_TIMEOUT, s.reason);
        CHECK_STR("origin", s.where);
    }
    CHECK_EQ(RM_OK, rm_breaker_call(w.b, script_call, script_fallback, &s, NULL));
    CHECK_EQ(RM_E_REJECTED, s.reason);
    CHECK_STR("breaker", s.where);
    CHECK_EQ(RM_OK, error.status);
    CHECK_EQ(3, s.calls);
    CHECK_EQ(4, s.fallbacks);
    CHECK_EQ(4, stats_of(w.b).fallbacks);
    CHECK_EQ(3, stats_of(w.b).failures); /* the fallback's success is not the call's */
    world_close(&w);
}

TEST(breaker, a_failed_fallback_does_not_hide_the_first_error) {
    world w;
    script s = {&w, RM_E_TIMEOUT, RM_E_NOT_FOUND, 0, 0, false, RM_OK, ""};
    rm_error error;
    REQUIRE(world_open(&w, small()));
    CHECK_EQ(RM_E_TIMEOUT, rm_breaker_call(w.b, script_call, script_fallback, &s, &error));
    CHECK_EQ(RM_E_TIMEOUT, error.status);
    CHECK_STR("said no", error.message);
    CHECK_EQ(0, stats_of(w.b).fallbacks);
    s.silent = true; /* an error that fn did not describe still has status and name */
    CHECK_EQ(RM_E_TIMEOUT, rm_breaker_call(w.b, script_call, script_fallback, &s, &error));
    CHECK_EQ(RM_E_TIMEOUT, error.status);
    CHECK_EQ(RM_E_TIMEOUT, s.reason);
    CHECK_STR("breaker", error.where);
    CHECK_STR("failed with RM_E_TIMEOUT and said no more", error.message);
    world_close(&w);
}

static rm_status half_an_error(void *user, rm_error *error) {
    (void)user;
    error->status = RM_E_BUSY; /* by hand, and not what is returned */
    return RM_E_SYSTEM;
}

TEST(breaker, a_hook_that_fills_half_an_error_leaves_no_garbage) {
    world w;
    script s = {&w, RM_E_TIMEOUT, RM_E_NOT_FOUND, 0, 0, false, RM_OK, ""};
    rm_error error;
    REQUIRE(world_open(&w, small()));
    for (int i = 0; i < 2; i++) { /* the first leaves a full record on the stack */
        memset(&error, 77, sizeof error);
        (void)rm_breaker_call(w.b, i == 0 ? script_call : half_an_error, NULL, &s, &error);
    }
    CHECK_EQ(RM_E_SYSTEM, error.status);
    CHECK_EQ(0, error.native);
    CHECK_STR("", error.where);
    CHECK_STR("", error.message);
    s.silent = true;
    memset(&error, 77, sizeof error);
    CHECK_EQ(RM_E_TIMEOUT, rm_breaker_call(w.b, script_call, NULL, &s, &error));
    CHECK_EQ(0, error.native);
    world_close(&w);
}

TEST(breaker, statuses_are_classified_by_whose_fault_they_are) {
    static const rm_status answers[] = {RM_OK, RM_E_NOT_FOUND, RM_E_EXISTS};
    static const rm_status ours[] = {RM_E_INVALID,  RM_E_NOMEM,   RM_E_CANCELLED,  RM_E_CLOSED,
                                     RM_E_STALE,    RM_E_FOREIGN, RM_E_REJECTED,   RM_E_TOO_LARGE,
                                     RM_E_DEADLOCK, RM_E_STATE,   RM_E_UNSUPPORTED};
    int ok = 0, ignored = 0, failures = 0;
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++)
        CHECK_EQ(RM_OUTCOME_OK, rm_breaker_classify(answers[i]));
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        CHECK_EQ(RM_OUTCOME_IGNORE, rm_breaker_classify(ours[i]));
    for (int i = 0; i <= RM_E_INTERNAL; i++) {
        rm_outcome outcome = rm_breaker_classify((rm_status)i);
        ok += outcome == RM_OUTCOME_OK;
        ignored += outcome == RM_OUTCOME_IGNORE;
        failures += outcome == RM_OUTCOME_FAILURE;
    }
    CHECK_EQ(3, ok);
    CHECK_EQ(11, ignored);
    CHECK_EQ(9, failures);
    CHECK_EQ(RM_OUTCOME_FAILURE, rm_breaker_classify((rm_status)999));
}

static rm_outcome classify_as_told(rm_status status, void *user) {
    CHECK(status != RM_OK || user != NULL);
    return (rm_outcome) * (int *)user;
}

TEST(breaker, a_classifier_decides_and_may_fail_at_it) {
    static const int told[] = {RM_OUTCOME_OK, RM_OUTCOME_IGNORE, RM_OUTCOME_FAILURE, 99, -1};
    static const rm_breaker_state then[] = {RM_BREAKER_STATE_CLOSED, RM_BREAKER_STATE_HALF_OPEN,
                                            RM_BREAKER_STATE_OPEN, RM_BREAKER_STATE_OPEN,
                                            RM_BREAKER_STATE_OPEN};
    for (int i = 0; i < 5; i++) { /* a probe gets out of every answer */
        world w;
        int tell = told[i];
        script s = {&w, RM_E_AUTH, RM_OK, 0, 0, false, RM_OK, ""};
        rm_breaker_desc desc = small();
        desc.probes = 1;
        desc.classify_fn = classify_as_told;
        world_init(&w);
        desc.env = &w.env;
        desc.user = &tell;
        REQUIRE(rm_breaker_create(&desc, &w.b, NULL) == RM_OK);
        rested(&w);
        CHECK_EQ(RM_E_AUTH, rm_breaker_call(w.b, script_call, NULL, &s, NULL));
        CHECK_EQ(then[i], stats_of(w.b).state);
        CHECK_EQ(0, stats_of(w.b).probes_out);
        world_close(&w);
    }
}

static rm_status call_inside(void *user, rm_error *error) {
    script *s = (script *)user;
    if (s->calls++ < 10) return rm_breaker_call(s->w->b, call_inside, NULL, user, error);
    return RM_E_FAILED;
}

TEST(breaker, calls_may_nest) {
    world w;
    script s = {&w, RM_OK, RM_OK, 0, 0, false, RM_OK, ""};
    REQUIRE(world_open(&w, small()));
    CHECK_EQ(RM_E_FAILED, rm_breaker_call(w.b, call_inside, NULL, &s, NULL));
    CHECK_EQ(11, s.calls);
    STATE(OPEN, &w);
    CHECK_EQ(8, stats_of(w.b).late); /* the third failure opened it */
    world_close(&w);
}

/* ---- guard and resource ---- */

TEST(breaker, guards_what_knows_nothing_of_it) {
    world w;
    rm_permit permit = {0, 0};
    rm_error error;
    REQUIRE(world_open(&w, small()));
    rm_guard guard = rm_breaker_guard(w.b);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(RM_OK, guard.admit_fn(&permit, &error, guard.user));
        guard.report_fn(&permit, RM_OUTCOME_FAILURE, guard.user);
        CHECK_EQ(0, permit.word);
    }
    CHECK_EQ(RM_E_REJECTED, guard.admit_fn(&permit, &error, guard.user));
    guard.report_fn(&permit, RM_OUTCOME_FAILURE, guard.user); /* none: no effect */
    CHECK_EQ(3, stats_of(w.b).failures);
    guard = rm_breaker_guard(NULL);
    CHECK_EQ(RM_E_INVALID, guard.admit_fn(&permit, &error, guard.user));
    guard.report_fn(&permit, RM_OUTCOME_OK, guard.user);
    world_close(&w);
}

typedef struct seen {
    int count, states;
    int64_t opened, rejected, failures, sum_of_states;
} seen;

static void see(const rm_stat *stat, void *user) {
    seen *s = (seen *)user;
    s->count++;
    CHECK(stat->name != NULL && strncmp(stat->name, "rm_breaker_", 11) == 0);
    CHECK(stat->help != NULL && stat->help[0] != '\0');
    CHECK(stat->hist == NULL && stat->decimals == 0);
    CHECK((stat->label != NULL) == (strcmp(stat->name, "rm_breaker_state") == 0));
    CHECK((strstr(stat->name, "_total") != NULL) == (stat->type == RM_STAT_COUNTER));
    if (strcmp(stat->name, "rm_breaker_state") == 0) {
        CHECK_STR("state", stat->label);
        s->states++;
        s->sum_of_states += stat->value;
        CHECK_EQ(strcmp(stat->label_value, "open") == 0, stat->value);
    }
    if (strcmp(stat->name, "rm_breaker_opened_total") == 0) s->opened = stat->value;
    if (strcmp(stat->name, "rm_breaker_rejected_total") == 0) s->rejected = stat->value;
    if (strcmp(stat->name, "rm_breaker_failures_total") == 0) s->failures = stat->value;
}

TEST(breaker, is_a_resource_with_health_and_statistics) {
    world w;
    rm_error reason;
    seen s = {0, 0, 0, 0, 0, 0};
    rm_breaker_desc desc = small();
    desc.name = "price";
    REQUIRE(world_open(&w, desc));
    rm_resource resource = rm_breaker_resource(w.b);
    CHECK_STR("price", resource.name);
    CHECK_STR("breaker", resource.kind);
    memset(&reason, 77, sizeof reason);
    CHECK_EQ(RM_HEALTH_HEALTHY, resource.health_fn(resource.user, &reason));
    fail(&w, 3);
    CHECK_EQ(RM_E_REJECTED, one(&w, RM_OUTCOME_OK));
    CHECK_EQ(RM_HEALTH_DEGRADED, resource.health_fn(resource.user, &reason));
    CHECK_STR("the breaker is open", reason.message);
    CHECK_EQ(0, reason.native);
    CHECK_EQ(RM_E_REJECTED, reason.status);
    CHECK_STR("price", reason.where);
    CHECK_EQ(RM_HEALTH_DEGRADED, resource.health_fn(resource.user, NULL));
    resource.stats_fn(resource.user, see, &s);
    CHECK_EQ(13, s.count);
    CHECK_EQ(3, s.states);
    CHECK_EQ(1, s.sum_of_states);
    CHECK_EQ(1, s.opened);
    CHECK_EQ(1, s.rejected);
    CHECK_EQ(3, s.failures);
    resource.stats_fn(resource.user, NULL, NULL);
    resource = rm_breaker_resource(NULL);
    CHECK_EQ(RM_HEALTH_UNKNOWN, resource.health_fn(resource.user, &reason));
    resource.stats_fn(resource.user, see, &s);
    CHECK_EQ(13, s.count);
    world_close(&w);
}

static void check_health(rm_manager *manager, rm_health health, rm_status status,
                         const char *message) {
    rm_resource_status now;
    uint32_t count;
    CHECK_EQ(RM_OK, rm_manager_status(manager, &now, 1, &count));
    CHECK_EQ(health, now.health);
    CHECK_EQ(status, now.last_error.status);
    CHECK_EQ(0, now.last_error.native);
    CHECK_STR(status == RM_OK ? "" : "price", now.last_error.where);
    CHECK_STR(message, now.last_error.message);
}

TEST(breaker, shows_why_it_is_not_healthy_until_it_is_over) {
    world w;
    rm_manager *manager = NULL;
    rm_breaker_desc desc = small();
    desc.name = "price";
    REQUIRE(world_open(&w, desc));
    REQUIRE(CHECK_EQ(RM_OK, rm_manager_create(NULL, &manager, NULL)));
    const rm_resource resource = rm_breaker_resource(w.b);
    CHECK_EQ(RM_OK, rm_manager_add(manager, &resource, NULL));
    CHECK_EQ(RM_OK, rm_manager_start(manager, 0, NULL));
    fail(&w, 2);
    check_health(manager, RM_HEALTH_HEALTHY, RM_OK, "");
    fail(&w, 1);
    check_health(manager, RM_HEALTH_DEGRADED, RM_E_REJECTED, "the breaker is open");
    w.now += RM_SEC(10);
    CHECK_EQ(RM_OK, one(&w, RM_OUTCOME_OK));
    check_health(manager, RM_HEALTH_DEGRADED, RM_E_REJECTED, "the breaker is half_open");
    CHECK_EQ(RM_OK, one(&w, RM_OUTCOME_FAILURE));
    check_health(manager, RM_HEALTH_DEGRADED, RM_E_REJECTED, "the breaker is open");
    w.now += RM_SEC(10);
    CHECK_EQ(RM_OK, one(&w, RM_OUTCOME_OK));
    CHECK_EQ(RM_OK, one(&w, RM_OUTCOME_OK));
    check_health(manager, RM_HEALTH_HEALTHY, RM_OK, "");
    CHECK_EQ(RM_OK, rm_manager_stop(manager, 0, NULL));
    CHECK_EQ(RM_OK, rm_manager_destroy(manager));
    world_close(&w);
}

enum { STATES = 3, TOTALS = 10 };

typedef struct shown { /* what a visitor of the statistics saw */
    int64_t states[STATES], totals[TOTALS];
} shown;

static const char *const total_names[TOTALS] = {
    "opened_total",    "rejected_total",      "failures_total",        "ignored_total",
    "late_total",      "probes_total",        "probe_successes_total", "lost_total",
    "fallbacks_total", "consecutive_failures"};

static void show_stat(const rm_stat *stat, void *user) {
    shown *s = (shown *)user;
    const char *name = stat->name + strlen("rm_breaker_");
    for (int i = 0; i < STATES; i++)
        if (stat->label != NULL &&
            strcmp(stat->label_value, rm_breaker_state_name((rm_breaker_state)i)) == 0)
            s->states[i] = stat->value;
    for (int i = 0; i < TOTALS; i++)
        if (strcmp(name, total_names[i]) == 0) s->totals[i] = stat->value;
}

/* The visitor sees what stats_get says. */
static rm_breaker_stats check_shown(world *w, rm_breaker_state state) {
    const rm_breaker_stats now = stats_of(w->b);
    const rm_resource resource = rm_breaker_resource(w->b);
    const uint64_t totals[TOTALS] = {
        now.opened, now.rejected,        now.failures, now.ignored,   now.late,
        now.probes, now.probe_successes, now.lost,     now.fallbacks, now.consecutive_failures};
    shown s;
    memset(&s, 77, sizeof s);
    resource.stats_fn(resource.user, show_stat, &s);
    CHECK_EQ(state, now.state);
    for (int i = 0; i < STATES; i++)
        CHECK_EQ(i == (int)state, s.states[i]);
    for (int i = 0; i < TOTALS; i++)
        if (!CHECK_EQ(totals[i], s.totals[i])) printf("# %s\n", total_names[i]);
    return now;
}

/* So many trips, late results and refusals, probes and lost ones: no count is another's. */
static void count_apart(world *w) {
    rm_permit permits[12];
    for (int i = 0; i < 5; i++)
        CHECK_EQ(RM_OK, one(w, RM_OUTCOME_IGNORE));
    for (int i = 0; i < 6; i++)
        CHECK_EQ(RM_OK, take(w, &permits[i]));
    CHECK_EQ(RM_OK, rm_breaker_trip(w->b));
    for (int i = 0; i < 6; i++)
        CHECK_EQ(RM_E_STALE, rm_breaker_record(w->b, &permits[i], RM_OUTCOME_OK));
    for (int i = 0; i < 8; i++)
        CHECK_EQ(RM_E_REJECTED, take(w, &permits[i]));
    CHECK_EQ(RM_SEC(10), check_shown(w, RM_BREAKER_STATE_OPEN).retry_after_ns);
    w->now += RM_SEC(10);
    for (int i = 0; i < 12; i++)
        CHECK_EQ(RM_OK, take(w, &permits[i]));
    for (int i = 0; i < 4; i++)
        CHECK_EQ(RM_OK, rm_breaker_record(w->b, &permits[i], RM_OUTCOME_OK));
    CHECK_EQ(8, check_shown(w, RM_BREAKER_STATE_HALF_OPEN).probes_out);
    w->now += RM_SEC(20);
    CHECK_EQ(RM_E_REJECTED, take(w, &permits[0])); /* the ninth; the rest are lost */
    CHECK_EQ(RM_OK, rm_breaker_reset(w->b));
}

TEST(breaker, shows_every_count_under_its_own_name) {
    world w;
    script s = {&w, RM_E_TIMEOUT, RM_OK, 0, 0, false, RM_OK, ""};
    rm_breaker_stats now;
    rm_breaker_desc desc = small();
    desc.failures = desc.probes = desc.probe_successes = 20;
    REQUIRE(world_open(&w, desc));
    count_apart(&w);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(RM_OK, rm_breaker_call(w.b, script_call, script_fallback, &s, NULL));
    fail(&w, 7);
    CHECK_EQ(RM_OK, one(&w, RM_OUTCOME_OK));
    CHECK_EQ(RM_OK, rm_breaker_trip(w.b));
    CHECK_EQ(RM_OK, rm_breaker_reset(w.b));
    fail(&w, 1);
    now = check_shown(&w, RM_BREAKER_STATE_CLOSED);
    CHECK_EQ(7, now.generation);
    CHECK_EQ(3, now.opened);
    CHECK_EQ(9, now.rejected);
    CHECK_EQ(10, now.failures);
    CHECK_EQ(5, now.ignored);
    CHECK_EQ(6, now.late);
    CHECK_EQ(12, now.probes);
    CHECK_EQ(4, now.probe_successes);
    CHECK_EQ(8, now.lost);
    CHECK_EQ(2, now.fallbacks);
    CHECK_EQ(1, now.consecutive_failures);
    world_close(&w);
}

TEST(breaker, states_have_names) {
    CHECK_STR("closed", rm_breaker_state_name(RM_BREAKER_STATE_CLOSED));
    CHECK_STR("open", rm_breaker_state_name(RM_BREAKER_STATE_OPEN));
    CHECK_STR("half_open", rm_breaker_state_name(RM_BREAKER_STATE_HALF_OPEN));
    CHECK_STR("unknown", rm_breaker_state_name((rm_breaker_state)3));
    CHECK_STR("unknown", rm_breaker_state_name((rm_breaker_state)-1));
}

/* ---- backoff ---- */

TEST(backoff, is_never_negative_nor_above_the_cap) {
    static const int64_t values[] = {INT64_MIN,
                                     -3,
                                     -1,
                                     0,
                                     1,
                                     2,
                                     3,
                                     1000,
                                     INT64_C(1) << 31,
                                     RM_SEC(1),
                                     RM_SEC(30),
                                     INT64_MAX / 3,
                                     INT64_MAX / 3 + 1,
                                     INT64_MAX / 2 + 1,
                                     INT64_MAX - 1,
                                     INT64_MAX};
    static const uint32_t attempts[] = {0,  1,  2,  30, 31,         32,          61,
                                        62, 63, 64, 65, 0x7fffffff, 0x80000000u, UINT32_MAX};
    static const uint64_t randoms[] = {0, UINT64_MAX, 1};
    enum { N = sizeof values / sizeof *values, A = sizeof attempts / sizeof *attempts };
    world w;
    world_init(&w);
    for (int i = 0; i < 4 * 3 * N * N * N * A; i++) {
        int n = i;
        rm_jitter jitter = (rm_jitter)(n % 4);
        w.random = randoms[(n /= 4) % 3];
        int64_t base = values[(n /= 3) % N], cap = values[(n /= N) % N];
        int64_t previous = values[(n /= N) % N];
        uint32_t attempt = attempts[n / N];
        int64_t wait = rm_backoff(jitter, base, cap, attempt, previous, &w.source);
        if (wait < 0 || wait > (cap == 0 ? RM_SEC(30) : cap > 0 ? cap : 0)) {
            CHECK(wait >= 0 && wait <= cap);
            printf("# jitter %d base %lld cap %lld attempt %u: %lld\n", (int)jitter,
                   (long long)base, (long long)cap, (unsigned)attempt, (long long)wait);
            return;
        }
    }
}

TEST(backoff, doubles_up_to_the_cap) {
    static const int64_t seconds[] = {1, 2, 4, 8, 16, 30, 30};
    for (uint32_t i = 0; i < 7; i++)
        CHECK_EQ(RM_SEC(seconds[i]), rm_backoff(RM_JITTER_NONE, 0, 0, i, 0, NULL));
    CHECK_EQ(RM_SEC(30), rm_backoff(RM_JITTER_NONE, 0, 0, UINT32_MAX, 0, NULL));
    CHECK_EQ(INT64_C(1) << 62, rm_backoff(RM_JITTER_NONE, 1, INT64_MAX, 62, 0, NULL));
    CHECK_EQ(INT64_MAX, rm_backoff(RM_JITTER_NONE, 1, INT64_MAX, 63, 0, NULL));
    CHECK_EQ(0, rm_backoff(RM_JITTER_NONE, RM_NONE, 0, 5, 0, NULL));
}

TEST(backoff, jitter_spreads_over_its_whole_range) {
    world w;
    static const struct {
        rm_jitter jitter;
        int64_t previous, low, high;
    } rows[] = {
        {RM_JITTER_FULL, 0, 0, RM_SEC(4)},
        {RM_JITTER_EQUAL, 0, RM_SEC(2), RM_SEC(4)},
        {RM_JITTER_NONE, 0, RM_SEC(4), RM_SEC(4)},
        {RM_JITTER_DECORRELATED, 0, RM_SEC(1), RM_SEC(3)},
        {RM_JITTER_DECORRELATED, RM_SEC(5), RM_SEC(1), RM_SEC(15)},
        {RM_JITTER_DECORRELATED, RM_SEC(20), RM_SEC(1), RM_SEC(30)},
    };
    world_init(&w);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t low = INT64_MAX, high = 0, sum = 0;
        for (int n = 0; n < 20000; n++) {
            w.random = n == 0 ? 0 : n == 1 ? UINT64_MAX : 1;
            int64_t wait = rm_backoff(rows[i].jitter, 0, 0, 2, rows[i].previous, &w.source);
            low = wait < low ? wait : low;
            high = wait > high ? wait : high;
            sum += wait / 20000;
        }
        CHECK_EQ(rows[i].low, low);
        CHECK_EQ(rows[i].high, high);
        if (rows[i].previous < RM_SEC(20)) { /* else the cap cuts a third off */
            int64_t middle = (low + high) / 2, off = (high - low) / 50 + 20000;
            CHECK(sum > middle - off && sum < middle + off);
        }
    }
}

/* ---- the retry machine ---- */

static const rm_deadline no_deadline = {0};

TEST(retry, waits_double_and_end_after_three_retries) {
    world w;
    rm_retry retry;
    int64_t wait = -1;
    world_init(&w);
    rm_retry_desc desc = rm_retry_desc_default();
    desc.env = &w.env;
    desc.jitter = RM_JITTER_NONE;
    REQUIRE(rm_retry_begin(&retry, &desc, no_deadline, NULL) == RM_OK);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(RM_OK, rm_retry_next(&retry, RM_E_TIMEOUT, 0, &wait));
        CHECK_EQ(RM_SEC(1 << i), wait);
    }
    CHECK_EQ(RM_E_REFUSED, rm_retry_next(&retry, RM_E_REFUSED, 0, &wait));
    CHECK_EQ(RM_E_TIMEOUT, rm_retry_next(&retry, RM_E_TIMEOUT, 0, &wait));
    CHECK_EQ(RM_SEC(4), wait); /* left alone */
    CHECK_EQ(0, w.reads);      /* no deadline: no clock */
}

TEST(retry, a_zeroed_desc_means_the_defaults_and_full_jitter) {
    rm_retry retry;
    rm_retry_desc zero;
    int64_t wait = 0;
    memset(&zero, 0, sizeof zero);
    const rm_retry_desc *descs[] = {NULL, &zero};
    for (int i = 0; i < 2; i++) {
        REQUIRE(rm_retry_begin(&retry, descs[i], no_deadline, NULL) == RM_OK);
        for (int n = 0; n < 3; n++) {
            CHECK_EQ(RM_OK, rm_retry_next(&retry, RM_E_TIMEOUT, 0, &wait));
            CHECK(wait >= 0 && wait <= RM_SEC(1 << n));
        }
        CHECK_EQ(RM_E_TIMEOUT, rm_retry_next(&retry, RM_E_TIMEOUT, 0, &wait));
        REQUIRE(rm_retry_begin(&retry, descs[i], no_deadline, NULL) == RM_OK);
        CHECK_EQ(RM_E_TIMEOUT, rm_retry_next(&retry, RM_E_TIMEOUT, RM_MINUTES(5) + 1, &wait));
        CHECK_EQ(RM_OK, rm_retry_next(&retry, RM_E_TIMEOUT, RM_MINUTES(5), &wait));
    }
    rm_retry_desc full = rm_retry_desc_default();
    CHECK_EQ(RM_SEC(1), full.base_ns);
    CHECK_EQ(RM_SEC(30), full.cap_ns);
    CHECK_EQ(RM_MINUTES(5), full.max_retry_after_ns);
    CHECK_EQ(3, full.max_retries);
    CHECK_EQ(RM_JITTER_FULL, full.jitter);
}

TEST(retry, a_short_cap_shortens_the_default_base) {
    rm_retry retry;
    rm_retry_desc desc;
    int64_t wait = 0;
    memset(&desc, 0, sizeof desc);
    desc.cap_ns = RM_MS(200);
    desc.jitter = RM_JITTER_DECORRELATED;
    desc.max_retries = 1;
    for (int i = 0; i < 100; i++) {
        REQUIRE(rm_retry_begin(&retry, &desc, no_deadline, NULL) == RM_OK);
        CHECK_EQ(RM_MS(200), retry.desc.base_ns);
        CHECK_EQ(RM_OK, rm_retry_next(&retry, RM_E_BUSY, 0, &wait));
        CHECK_EQ(RM_MS(200), wait);
        CHECK_EQ(RM_E_BUSY, rm_retry_next(&retry, RM_E_BUSY, 0, &wait));
    }
    desc.base_ns = RM_MS(200);
    CHECK_EQ(RM_OK, rm_retry_begin(&retry, &desc, no_deadline, NULL));
    desc.base_ns = RM_SEC(30);
    desc.cap_ns = 0;
    CHECK_EQ(RM_OK, rm_retry_begin(&retry, &desc, no_deadline, NULL));
    desc.base_ns = RM_SEC(3);
    desc.cap_ns = RM_SEC(4);
    REQUIRE(rm_retry_begin(&retry, &desc, no_deadline, NULL) == RM_OK);
    CHECK_EQ(RM_SEC(3), retry.desc.base_ns);
}

TEST(retry, decorrelated_jitter_goes_on_from_the_wait_before) {
    world w;
    rm_retry retry;
    int64_t wait;
    world_init(&w);
    w.random = UINT64_MAX;
    rm_retry_desc desc = rm_retry_desc_default();
    desc.env = &w.env;
    desc.jitter = RM_JITTER_DECORRELATED;
    desc.max_retries = 5;
    REQUIRE(rm_retry_begin(&retry, &desc, no_deadline, NULL) == RM_OK);
    static const int64_t seconds[] = {3, 9, 27, 30, 30};
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(RM_OK, rm_retry_next(&retry, RM_E_BUSY, i == 1 ? RM_SEC(5) : 0, &wait));
        CHECK_EQ(RM_SEC(seconds[i]), wait);
    }
}

TEST(retry, none_means_no_retries_and_no_waits) {
    rm_retry retry;
    int64_t wait = -1;
    rm_retry_desc desc = rm_retry_desc_default();
    desc.max_retries = RM_NONE;
    REQUIRE(rm_retry_begin(&retry, &desc, no_deadline, NULL) == RM_OK);
    CHECK_EQ(RM_E_TIMEOUT, rm_retry_next(&retry, RM_E_TIMEOUT, 0, &wait));
    desc.max_retries = INT32_MAX;
    desc.base_ns = RM_NONE;
    REQUIRE(rm_retry_begin(&retry, &desc, no_deadline, NULL) == RM_OK);
    for (int i = 0; i < 1000; i++) {
        CHECK_EQ(RM_OK, rm_retry_next(&retry, RM_E_TIMEOUT, 0, &wait));
        CHECK_EQ(0, wait);
    }
}

static bool only_auth(rm_status status, void *user) {
    ++*(int *)user;
    return status == RM_E_AUTH;
}

TEST(retry, some_statuses_are_not_worth_a_retry) {
    static const rm_status worth[] = {RM_E_NOMEM,    RM_E_TIMEOUT, RM_E_BUSY,   RM_E_FULL,
                                      RM_E_REJECTED, RM_E_SYSTEM,  RM_E_FAILED, RM_E_REFUSED};
    int count = 0, asked = 0;
    rm_retry retry;
    int64_t wait;
    for (int i = 0; i < (int)(sizeof worth / sizeof *worth); i++)
        CHECK(rm_retryable(worth[i]));
    for (int i = 0; i <= RM_E_INTERNAL + 1; i++)
        count += rm_retryable((rm_status)i);
    CHECK_EQ(8, count);
    REQUIRE(rm_retry_begin(&retry, NULL, no_deadline, NULL) == RM_OK);
    CHECK_EQ(RM_E_AUTH, rm_retry_next(&retry, RM_E_AUTH, 0, &wait));
    rm_retry_desc desc = rm_retry_desc_default();
    desc.retryable_fn = only_auth;
    desc.user = &asked;
    REQUIRE(rm_retry_begin(&retry, &desc, no_deadline, NULL) == RM_OK);
    CHECK_EQ(RM_OK, rm_retry_next(&retry, RM_E_AUTH, 0, &wait));
    CHECK_EQ(RM_E_TIMEOUT, rm_retry_next(&retry, RM_E_TIMEOUT, 0, &wait));
    CHECK_EQ(2, asked);
}

TEST(retry, a_wish_for_a_longer_wait_is_kept_up_to_a_limit) {
    world w;
    rm_retry retry;
    int64_t wait = 0;
    world_init(&w);
    rm_retry_desc desc = rm_retry_desc_default();
    desc.env = &w.env;
    desc.jitter = RM_JITTER_NONE;
    desc.max_retries = 10;
    REQUIRE(rm_retry_begin(&retry, &desc, no_deadline, NULL) == RM_OK);
    CHECK_EQ(RM_OK, rm_retry_next(&retry, RM_E_BUSY, RM_SEC(120), &wait));
    CHECK_EQ(RM_SEC(120), wait); /* above the cap, which limits our own waits only */
    CHECK_EQ(RM_OK, rm_retry_next(&retry, RM_E_BUSY, RM_MS(1), &wait));
    CHECK_EQ(RM_SEC(2), wait); /* shorter than ours */
    CHECK_EQ(RM_OK, rm_retry_next(&retry, RM_E_BUSY, INT64_MIN, &wait));
    CHECK_EQ(RM_SEC(4), wait); /* a date in the past */
    CHECK_EQ(RM_OK, rm_retry_next(&retry, RM_E_BUSY, RM_MINUTES(5), &wait));
    CHECK_EQ(RM_E_BUSY, rm_retry_next(&retry, RM_E_BUSY, RM_MINUTES(5) + 1, &wait));
    CHECK_EQ(RM_E_BUSY, rm_retry_next(&retry, RM_E_BUSY, INT64_MAX, &wait));
    desc.max_retry_after_ns = RM_NONE;
    REQUIRE(rm_retry_begin(&retry, &desc, no_deadline, NULL) == RM_OK);
    CHECK_EQ(RM_OK, rm_retry_next(&retry, RM_E_BUSY, INT64_MAX, &wait));
    CHECK_EQ(INT64_MAX, wait);
}

TEST(retry, never_waits_past_the_deadline) {
    world w;
    rm_retry retry;
    int64_t wait = -1;
    world_init(&w);
    rm_retry_desc desc = rm_retry_desc_default();
    desc.env = &w.env;
    desc.jitter = RM_JITTER_NONE;
    desc.max_retries = 100;
    desc.max_retry_after_ns = RM_NONE;
    rm_deadline deadline = {w.now + RM_SEC(8)};
    REQUIRE(rm_retry_begin(&retry, &desc, deadline, NULL) == RM_OK);
    CHECK_EQ(RM_OK, rm_retry_next(&retry, RM_E_BUSY, 0, &wait));
    w.now += wait;
    CHECK_EQ(RM_E_BUSY, rm_retry_next(&retry, RM_E_BUSY, RM_SEC(7), &wait)); /* would end at it */
    CHECK_EQ(RM_E_BUSY, rm_retry_next(&retry, RM_E_BUSY, INT64_MAX, &wait));
    CHECK_EQ(RM_OK, rm_retry_next(&retry, RM_E_BUSY, RM_SEC(7) - 1, &wait));
    w.now += RM_SEC(7);
    CHECK_EQ(RM_E_BUSY, rm_retry_next(&retry, RM_E_BUSY, 0, &wait));
    w.now += RM_SEC(3600);
    CHECK_EQ(RM_E_BUSY, rm_retry_next(&retry, RM_E_BUSY, 0, &wait));
    CHECK_EQ(2, retry.used); /* what was given up was not used */
}

static void refuse_retry(const rm_retry_desc *desc, const char *field) {
    rm_retry retry;
    rm_error error;
    memset(&retry, 77, sizeof retry);
    CHECK_EQ(RM_E_INVALID, rm_retry_begin(&retry, desc, no_deadline, &error));
    CHECK_STR(field, error.where);
    CHECK_EQ(77, *(unsigned char *)&retry); /* left alone on failure */
    CHECK_EQ(RM_E_INVALID, rm_retry_begin(&retry, desc, no_deadline, NULL));
}

TEST(retry, refuses_every_bad_setting_by_its_name) {
    static const int64_t bad[] = {-1, -2, -4, INT64_MIN};
    rm_retry_desc desc;
    for (size_t i = 0; i < 4; i++) {
        desc = rm_retry_desc_default(), desc.base_ns = bad[i];
        refuse_retry(&desc, "base_ns");
        desc = rm_retry_desc_default(), desc.cap_ns = bad[i];
        refuse_retry(&desc, "cap_ns");
        desc = rm_retry_desc_default(), desc.max_retry_after_ns = bad[i];
        refuse_retry(&desc, "max_retry_after_ns");
        desc = rm_retry_desc_default(), desc.max_retries = i < 3 ? (int32_t)bad[i] : INT32_MIN;
        refuse_retry(&desc, "max_retries");
    }
    desc = rm_retry_desc_default(), desc.cap_ns = RM_NONE;
    refuse_retry(&desc, "cap_ns");
    desc = rm_retry_desc_default(), desc.base_ns = RM_SEC(31);
    refuse_retry(&desc, "base_ns");
    desc = rm_retry_desc_default(), desc.jitter = (rm_jitter)4;
    refuse_retry(&desc, "jitter");
    desc = rm_retry_desc_default(), desc.jitter = (rm_jitter)-1;
    refuse_retry(&desc, "jitter");
    rm_random nothing = {NULL, NULL};
    rm_env env = {NULL, NULL, &nothing, NULL};
    desc = rm_retry_desc_default(), desc.env = &env;
    refuse_retry(&desc, "env.random");
    rm_error error;
    CHECK_EQ(RM_E_INVALID, rm_retry_begin(NULL, NULL, no_deadline, &error));
    CHECK_STR("retry", error.where);
}

TEST(retry, misuse_is_a_status) {
    rm_retry retry;
    int64_t wait;
    rm_error error;
    memset(&retry, 0, sizeof retry); /* never begun: gives up */
    CHECK_EQ(RM_E_BUSY, rm_retry_next(&retry, RM_E_BUSY, 0, &wait));
    REQUIRE(rm_retry_begin(&retry, NULL, no_deadline, NULL) == RM_OK);
    CHECK_EQ(RM_E_INVALID, rm_retry_next(NULL, RM_E_BUSY, 0, &wait));
    CHECK_EQ(RM_E_INVALID, rm_retry_next(&retry, RM_OK, 0, &wait));
    CHECK_EQ(RM_E_INVALID, rm_retry_next(&retry, RM_E_BUSY, 0, NULL));
    CHECK_EQ(RM_E_INVALID, rm_retry_call(NULL, NULL, no_deadline, NULL, NULL, NULL, &error));
    CHECK_STR("fn", error.where);
}

/* ---- retried calls ---- */

typedef struct job {
    world *w;
    int calls;
    int fail; /* so many attempts fail with status */
    rm_status status;
    int64_t takes; /* each attempt, in ns */
    int64_t retry_after;
    rm_cancel *cancel; /* requested in attempt cancel_at */
    int cancel_at;
    rm_status last;
    int64_t deadline; /* as the attempts are to see it */
} job;

static rm_status job_run(void *user, rm_attempt *attempt, rm_error *error) {
    job *j = (job *)user;
    j->calls++;
    CHECK_EQ(0, attempt->retry_after_ns);
    CHECK(attempt->deadline.at_ns == j->deadline && attempt->cancel == j->cancel);
    j->last = attempt->last;
    j->w->now += j->takes;
    attempt->retry_after_ns = j->retry_after;
    if (j->calls == j->cancel_at) rm_cancel_request(j->cancel);
    if (j->calls > j->fail) return RM_OK;
    return rm_error_set(error, j->status, j->calls, "job", "attempt %u", attempt->number);
}

static rm_retry_desc plain_retry(world *w) {
    rm_retry_desc desc = rm_retry_desc_default();
    desc.env = &w->env;
    desc.jitter = RM_JITTER_NONE;
    return desc;
}

TEST(retry_call, tries_again_until_it_succeeds) {
    world w;
    rm_error error;
    error.status = RM_E_INTERNAL;
    job j = {&w, 0, 2, RM_E_REFUSED, 0, 0, NULL, 0, RM_OK, 0};
    world_init(&w);
    rm_retry_desc desc = plain_retry(&w);
    CHECK_EQ(RM_OK, rm_retry_call(&desc, NULL, no_deadline, NULL, job_run, &j, &error));
    CHECK_EQ(3, j.calls);
    CHECK_EQ(RM_E_REFUSED, j.last);
    CHECK_EQ(RM_SEC(3), w.slept);
    CHECK_EQ(RM_E_INTERNAL, error.status); /* left alone on success */
}

TEST(retry_call, gives_up_with_the_last_error) {
    world w;
    rm_error error;
    job j = {&w, 0, 99, RM_E_TIMEOUT, 0, 0, NULL, 0, RM_OK, 0};
    world_init(&w);
    rm_retry_desc desc = plain_retry(&w);
    CHECK_EQ(RM_E_TIMEOUT, rm_retry_call(&desc, NULL, no_deadline, NULL, job_run, &j, &error));
    CHECK_EQ(4, j.calls);
    CHECK_EQ(RM_E_TIMEOUT, error.status);
    CHECK_EQ(4, error.native);
    CHECK_STR("attempt 4", error.message);
    j.status = RM_E_AUTH;
    CHECK_EQ(RM_E_AUTH, rm_retry_call(&desc, NULL, no_deadline, NULL, job_run, &j, NULL));
    CHECK_EQ(5, j.calls);
    j.status = RM_E_INVALID;
    desc.base_ns = -1;
    CHECK_EQ(RM_E_INVALID, rm_retry_call(&desc, NULL, no_deadline, NULL, job_run, &j, &error));
    CHECK_STR("base_ns", error.where);
    CHECK_EQ(5, j.calls);
}

TEST(retry_call, reports_every_attempt_to_the_breaker) {
    world w;
    job j = {&w, 0, 99, RM_E_TIMEOUT, 0, 0, NULL, 0, RM_OK, 0};
    rm_breaker_desc small_desc = small();
    small_desc.failures = 10;
    REQUIRE(world_open(&w, small_desc));
    rm_retry_desc desc = plain_retry(&w);
    CHECK_EQ(RM_E_TIMEOUT, rm_retry_call(&desc, w.b, no_deadline, NULL, job_run, &j, NULL));
    CHECK_EQ(4, stats_of(w.b).consecutive_failures);
    j.calls = 0;
    j.fail = 1;
    CHECK_EQ(RM_OK, rm_retry_call(&desc, w.b, no_deadline, NULL, job_run, &j, NULL));
    CHECK_EQ(0, stats_of(w.b).consecutive_failures);
    CHECK_EQ(5, stats_of(w.b).failures);
    world_close(&w);
}

TEST(retry_call, waits_out_the_rest_of_the_breaker_if_there_is_time) {
    world w;
    job j = {&w, 0, 3, RM_E_TIMEOUT, 0, 0, NULL, 0, RM_OK, 0};
    REQUIRE(world_open(&w, small()));
    rm_retry_desc desc = plain_retry(&w);
    desc.max_retries = 5;
    /* attempts at 0, 1 and 3 s open it until 13 s; refused at 7 s, let through at 13 s */
    CHECK_EQ(RM_OK, rm_retry_call(&desc, w.b, no_deadline, NULL, job_run, &j, NULL));
    CHECK_EQ(4, j.calls);
    CHECK_EQ(1, stats_of(w.b).rejected);
    CHECK_EQ(RM_SEC(15), w.slept);
    CHECK_EQ(RM_SEC(8), w.slept_last);
    world_close(&w);
}

TEST(retry_call, a_refusal_does_not_hide_why_it_failed) {
    world w;
    rm_error error;
    job j = {&w, 0, 99, RM_E_TIMEOUT, 0, 0, NULL, 0, RM_OK, 0};
    REQUIRE(world_open(&w, small()));
    rm_retry_desc desc = plain_retry(&w);
    desc.base_ns = RM_MS(1);
    desc.max_retries = 5;
    rm_deadline deadline = {w.now + RM_SEC(5)};
    j.deadline = deadline.at_ns;
    CHECK_EQ(RM_E_TIMEOUT, rm_retry_call(&desc, w.b, deadline, NULL, job_run, &j, &error));
    CHECK_EQ(3, j.calls); /* which opened it */
    CHECK_EQ(1, stats_of(w.b).rejected);
    CHECK_EQ(RM_E_TIMEOUT, error.status);
    CHECK_STR("attempt 3", error.message);
    world_close(&w);
}

TEST(retry_call, gives_up_at_once_if_the_breaker_rests_for_too_long) {
    world w;
    rm_error error;
    job j = {&w, 0, 99, RM_E_TIMEOUT, 0, 0, NULL, 0, RM_OK, 0};
    REQUIRE(world_open(&w, small()));
    CHECK_EQ(RM_OK, rm_breaker_trip(w.b));
    rm_retry_desc desc = plain_retry(&w);
    rm_deadline deadline = {w.now + RM_SEC(10)};
    j.deadline = deadline.at_ns;
    CHECK_EQ(RM_E_REJECTED, rm_retry_call(&desc, w.b, deadline, NULL, job_run, &j, &error));
    CHECK_EQ(RM_E_REJECTED, error.status);
    CHECK_STR("breaker", error.where);
    CHECK_EQ(0, j.calls);
    CHECK_EQ(0, w.slept);
    j.deadline = ++deadline.at_ns; /* now there is time for one attempt */
    CHECK_EQ(RM_E_TIMEOUT, rm_retry_call(&desc, w.b, deadline, NULL, job_run, &j, &error));
    CHECK_EQ(1, j.calls);
    CHECK_EQ(RM_SEC(10), w.slept);
    world_close(&w);
}

TEST(retry_call, a_refusal_while_half_open_is_backed_off_from) {
    world w;
    rm_permit probe;
    job j = {&w, 0, 0, RM_OK, 0, 0, NULL, 0, RM_OK, 0};
    rm_breaker_desc small_desc = small();
    small_desc.probes = 1;
    small_desc.probe_wait_ns = RM_FOREVER;
    REQUIRE(world_open(&w, small_desc));
    rested(&w);
    CHECK_EQ(RM_OK, take(&w, &probe));
    rm_retry_desc desc = plain_retry(&w);
    CHECK_EQ(RM_E_REJECTED, rm_retry_call(&desc, w.b, no_deadline, NULL, job_run, &j, NULL));
    CHECK_EQ(RM_SEC(7), w.slept);
    CHECK_EQ(4, stats_of(w.b).rejected);
    CHECK_EQ(0, j.calls);
    world_close(&w);
}

TEST(retry_call, keeps_to_what_the_other_side_asks_for) {
    world w;
    job j = {&w, 0, 2, RM_E_BUSY, RM_MS(10), RM_SEC(90), NULL, 0, RM_OK, 0};
    world_init(&w);
    rm_retry_desc desc = plain_retry(&w);
    CHECK_EQ(RM_OK, rm_retry_call(&desc, NULL, no_deadline, NULL, job_run, &j, NULL));
    CHECK_EQ(RM_SEC(180), w.slept);
    j.calls = 0;
    w.slept = 0;
    rm_deadline deadline = {w.now + RM_SEC(90)};
    j.deadline = deadline.at_ns;
    CHECK_EQ(RM_E_BUSY, rm_retry_call(&desc, NULL, deadline, NULL, job_run, &j, NULL));
    CHECK_EQ(1, j.calls);
    CHECK_EQ(0, w.slept);
}

TEST(retry_call, never_runs_past_the_deadline) {
    for (int64_t budget = RM_MS(100); budget < RM_SEC(20); budget += RM_MS(321)) {
        world w;
        job j = {&w, 0, 99, RM_E_TIMEOUT, 0, 0, NULL, 0, RM_OK, 0};
        world_init(&w);
        rm_retry_desc desc = plain_retry(&w);
        desc.jitter = RM_JITTER_FULL;
        desc.max_retries = 20;
        w.random = 1;
        rm_deadline deadline = {w.now + budget};
        j.deadline = deadline.at_ns;
        CHECK_EQ(RM_E_TIMEOUT, rm_retry_call(&desc, NULL, deadline, NULL, job_run, &j, NULL));
        CHECK(w.now < deadline.at_ns);
        CHECK(j.calls >= 1);
    }
}

static rm_status oversleep(int64_t ns, void *user) {
    ((world *)user)->now += ns + RM_SEC(60);
    return RM_OK;
}

TEST(retry_call, makes_no_attempt_after_the_deadline) {
    world w;
    rm_error error;
    job j = {&w, 0, 99, RM_E_REFUSED, 0, 0, NULL, 0, RM_OK, 0};
    world_init(&w);
    rm_retry_desc desc = plain_retry(&w);
    memset(&error, 77, sizeof error);
    rm_deadline deadline = {w.now};
    j.deadline = deadline.at_ns;
    CHECK_EQ(RM_E_TIMEOUT, rm_retry_call(&desc, NULL, deadline, NULL, job_run, &j, &error));
    CHECK_STR("deadline", error.where);
    CHECK_EQ(0, error.native);
    CHECK_EQ(0, j.calls);
    w.clock.sleep_fn = oversleep;
    j.deadline = deadline.at_ns = w.now + RM_SEC(10);
    CHECK_EQ(RM_E_REFUSED, rm_retry_call(&desc, NULL, deadline, NULL, job_run, &j, &error));
    CHECK_STR("attempt 1", error.message);
    CHECK_EQ(1, j.calls);
}

TEST(retry_call, ends_when_it_is_cancelled) {
    world w;
    rm_error error;
    rm_cancel cancel;
    job j = {&w, 0, 99, RM_E_REFUSED, 0, 0, &cancel, 2, RM_OK, 0};
    REQUIRE(world_open(&w, small()));
    REQUIRE(rm_cancel_init(&cancel) == RM_OK);
    memset(&error, 77, sizeof error);
    rm_retry_desc desc = plain_retry(&w);
    desc.base_ns = RM_NONE;
    CHECK_EQ(RM_E_CANCELLED, rm_retry_call(&desc, w.b, no_deadline, &cancel, job_run, &j, &error));
    CHECK_EQ(RM_E_CANCELLED, error.status);
    CHECK_EQ(0, error.native);
    CHECK_STR("retry", error.where);
    CHECK_STR("the wait before attempt 3 ended early", error.message);
    CHECK_EQ(2, j.calls);
    memset(&error, 77, sizeof error);
    CHECK_EQ(RM_E_CANCELLED, rm_retry_call(&desc, w.b, no_deadline, &cancel, job_run, &j, &error));
    CHECK_EQ(RM_E_CANCELLED, error.status);
    CHECK_EQ(0, error.native);
    CHECK_STR("cancel", error.where);
    CHECK_EQ(2, j.calls);
    CHECK_EQ(RM_OK, rm_cancel_destroy(&cancel));
    world_close(&w);
}

TEST(retry_call, hands_on_a_failure_to_sleep) {
    world w;
    rm_error error;
    job j = {&w, 0, 99, RM_E_REFUSED, 0, 0, NULL, 0, RM_OK, 0};
    world_init(&w);
    memset(&error, 77, sizeof error);
    w.sleep_status = RM_E_SYSTEM;
    rm_retry_desc desc = plain_retry(&w);
    CHECK_EQ(RM_E_SYSTEM, rm_retry_call(&desc, NULL, no_deadline, NULL, job_run, &j, &error));
    CHECK_EQ(RM_E_SYSTEM, error.status);
    CHECK_EQ(0, error.native);
    CHECK_STR("retry", error.where);
    CHECK_STR("the wait before attempt 2 ended early", error.message);
    w.clock.sleep_fn = NULL;
    CHECK_EQ(RM_E_UNSUPPORTED, rm_retry_call(&desc, NULL, no_deadline, NULL, job_run, &j, NULL));
    CHECK_EQ(2, j.calls);
}

static rm_status silent_job(void *user, rm_attempt *attempt, rm_error *error) {
    (void)user, (void)error;
    return attempt->number == 0 ? RM_OK : RM_E_PROTOCOL;
}

TEST(retry_call, describes_an_error_that_fn_did_not) {
    world w;
    rm_error error;
    rm_breaker_desc desc = small();
    desc.name = "price";
    REQUIRE(world_open(&w, desc));
    CHECK_EQ(RM_E_PROTOCOL, rm_retry_call(NULL, w.b, no_deadline, NULL, silent_job, NULL, &error));
    CHECK_STR("price", error.where);
    CHECK_STR("failed with RM_E_PROTOCOL and said no more", error.message);
    CHECK_EQ(RM_E_PROTOCOL, rm_retry_call(NULL, NULL, no_deadline, NULL, silent_job, NULL, &error));
    CHECK_STR("retry", error.where);
    world_close(&w);
}

/* ---- a reference: the same rules with plain variables, no packing, one thread ---- */

typedef struct model {
    rm_breaker_desc desc;
    rm_breaker_stats now; /* state, generation, counters, consecutive_failures, probes_out */
    int64_t ready_ms;     /* end of the rest, or when the latest probe is lost */
    uint32_t successes;
} model;

typedef struct held {
    rm_permit permit;
    uint64_t generation;
} held;

static int64_t floor_ms(int64_t ns) {
    return ns / RM_MS(1);
}
static int64_t ceil_ms(int64_t ns) {
    return (ns + RM_MS(1) - 1) / RM_MS(1);
}

static void model_to(model *m, rm_breaker_state state) {
    m->now.state = state;
    m->now.generation++;
    m->now.consecutive_failures = m->now.probes_out = m->successes = 0;
    m->now.opened += state == RM_BREAKER_STATE_OPEN;
}

/* The rest is drawn at random: it is taken from the event, after a look at its bounds. */
static void model_rest(model *m, const world *w, int64_t rest) {
    int64_t share = m->desc.open_jitter_permille > 0 ? m->desc.open_jitter_permille : 0;
    CHECK(rest >= m->desc.open_ns && rest <= m->desc.open_ns + m->desc.open_ns / 1000 * share);
    m->ready_ms = ceil_ms(w->now + rest);
}

static bool model_acquire(model *m, const world *w) {
    int64_t ms = floor_ms(w->now);
    if (m->now.state == RM_BREAKER_STATE_OPEN && ms >= m->ready_ms)
        model_to(m, RM_BREAKER_STATE_HALF_OPEN);
    else if (m->now.state == RM_BREAKER_STATE_HALF_OPEN && m->now.probes_out > 0 &&
             m->desc.probe_wait_ns != RM_FOREVER && ms >= m->ready_ms) {
        m->now.lost += m->now.probes_out;
        model_to(m, RM_BREAKER_STATE_OPEN);
    }
    if (m->now.state == RM_BREAKER_STATE_CLOSED) return true;
    if (m->now.state == RM_BREAKER_STATE_OPEN || m->now.probes_out == m->desc.probes) {
        m->now.rejected++;
        return false;
    }
    m->now.probes++;
    m->now.probes_out++;
    if (m->desc.probe_wait_ns != RM_FOREVER) m->ready_ms = ceil_ms(w->now + m->desc.probe_wait_ns);
    return true;
}

static rm_status model_record(model *m, uint64_t generation, rm_outcome outcome) {
    if (generation != m->now.generation) {
        m->now.late++;
        return RM_E_STALE;
    }
    bool probe = m->now.state == RM_BREAKER_STATE_HALF_OPEN;
    if (outcome == RM_OUTCOME_FAILURE) {
        m->now.failures++;
        if (probe || ++m->now.consecutive_failures >= m->desc.failures)
            model_to(m, RM_BREAKER_STATE_OPEN);
        return RM_OK;
    }
    if (probe) m->now.probes_out--;
    if (outcome == RM_OUTCOME_IGNORE) {
        m->now.ignored++;
        return RM_OK;
    }
    m->now.consecutive_failures = 0;
    if (probe) {
        m->now.probe_successes++;
        if (++m->successes >= m->desc.probe_successes) model_to(m, RM_BREAKER_STATE_CLOSED);
    }
    return RM_OK;
}

static bool model_agrees(model *m, const world *w, long step) {
    rm_breaker_stats is = stats_of(w->b), *should = &m->now;
    int64_t ms = floor_ms(w->now);
    bool late = ms >= m->ready_ms, half = should->state == RM_BREAKER_STATE_HALF_OPEN;
    bool open = should->state == RM_BREAKER_STATE_OPEN;
    bool lost = half && late && should->probes_out > 0 && m->desc.probe_wait_ns != RM_FOREVER;
    should->retry_after_ns = open && !late ? m->ready_ms * RM_MS(1) - w->now : 0;
    should->probe_ready = open ? late : half && !lost && should->probes_out < m->desc.probes;
    bool same = CHECK_EQ(should->state, is.state) && CHECK_EQ(should->generation, is.generation) &&
                CHECK_EQ(should->retry_after_ns, is.retry_after_ns) &&
                CHECK_EQ(should->opened, is.opened) && CHECK_EQ(should->rejected, is.rejected) &&
                CHECK_EQ(should->failures, is.failures) && CHECK_EQ(should->ignored, is.ignored) &&
                CHECK_EQ(should->late, is.late) && CHECK_EQ(should->probes, is.probes) &&
                CHECK_EQ(should->probe_successes, is.probe_successes) &&
                CHECK_EQ(should->lost, is.lost) &&
                CHECK_EQ(should->consecutive_failures, is.consecutive_failures) &&
                CHECK_EQ(should->probes_out, is.probes_out) &&
                CHECK_EQ(should->probe_ready, is.probe_ready) &&
                CHECK_EQ(should->generation - 1, (uint64_t)w->count);
    if (!same) printf("# at step %ld\n", step);
    return same;
}

static void step_acquire(model *m, world *w, held *holds, int *count) {
    held *h = &holds[*count];
    bool admitted = model_acquire(m, w);
    CHECK_EQ(admitted ? RM_OK : RM_E_REJECTED, take(w, &h->permit));
    h->generation = m->now.generation;
    *count += admitted;
}

static void step_record(model *m, world *w, rm_rng *rng, held *holds, int *count) {
    int at = (int)(rm_rng_next(rng) % (uint64_t)*count);
    held h = holds[at];
    holds[at] = holds[--*count];
    rm_outcome outcome = (rm_outcome)(rm_rng_next(rng) % 3);
    rm_status should = model_record(m, h.generation, outcome);
    CHECK_EQ(should, rm_breaker_record(w->b, &h.permit, outcome));
    CHECK_EQ(RM_E_STALE, rm_breaker_record(w->b, &h.permit, outcome));
}

static void step_trip(model *m, world *w) {
    bool was_open = m->now.state == RM_BREAKER_STATE_OPEN;
    if (!was_open) model_to(m, RM_BREAKER_STATE_OPEN);
    CHECK_EQ(RM_OK, rm_breaker_trip(w->b));
    if (!was_open) return;
    int64_t left = stats_of(w->b).retry_after_ns; /* no event says how long the new rest is */
    int64_t share = m->desc.open_jitter_permille > 0 ? m->desc.open_jitter_permille : 0;
    int64_t longest = m->desc.open_ns + m->desc.open_ns / 1000 * share;
    CHECK(left >= m->desc.open_ns && left < longest + RM_MS(1));
    m->ready_ms = (w->now + left) / RM_MS(1);
}

static void step_reset(model *m, world *w) {
    if (m->now.state == RM_BREAKER_STATE_CLOSED)
        m->now.consecutive_failures = 0;
    else
        model_to(m, RM_BREAKER_STATE_CLOSED);
    CHECK_EQ(RM_OK, rm_breaker_reset(w->b));
}

/* One random step of both. */
static void model_step(model *m, world *w, rm_rng *rng, held *holds, int *count) {
    uint64_t dice = rm_rng_next(rng) % 100, generation = m->now.generation;
    int last = w->count;
    if (dice < 40 && *count < 64)
        step_acquire(m, w, holds, count);
    else if (dice < 85 && *count > 0)
        step_record(m, w, rng, holds, count);
    else if (dice < 97)
        w->now += (int64_t)(rm_rng_next(rng) % (uint64_t)RM_SEC(4));
    else if (dice < 98)
        step_trip(m, w);
    else if (dice < 99)
        step_reset(m, w);
    else if (*count > 0)
        --*count; /* never reported */
    if (m->now.generation != generation && m->now.state == RM_BREAKER_STATE_OPEN)
        model_rest(m, w, w->events[last % 32].rest_ns);
}

static void model_event(rm_breaker *b, const rm_breaker_event *event, void *user) {
    world *w = (world *)user;
    (void)b;
    w->events[w->count++ % 32] = *event;
}

TEST(breaker, does_what_a_plain_reference_does) {
    const char *wish = getenv("RM_TEST_STEPS");
    long steps = wish != NULL ? atol(wish) : 300000, done = 0;
    rm_rng rng;
    rm_rng_seed(&rng, 20240229);
    while (done < steps) {
        world w;
        model m;
        held holds[64];
        int count = 0;
        memset(&m, 0, sizeof m);
        m.desc = small();
        m.desc.failures = (uint32_t)(rm_rng_next(&rng) % 5) + 1;
        m.desc.probes = (uint32_t)(rm_rng_next(&rng) % 4) + 1;
        m.desc.probe_successes = (uint32_t)(rm_rng_next(&rng) % 5) + 1;
        m.desc.open_ns = (int64_t)(rm_rng_next(&rng) % (uint64_t)RM_SEC(5)) + 1;
        m.desc.probe_wait_ns = rm_rng_next(&rng) % 8 == 0
                                   ? RM_FOREVER
                                   : (int64_t)(rm_rng_next(&rng) % (uint64_t)RM_SEC(9)) + 1;
        m.desc.open_jitter_permille =
            rm_rng_next(&rng) % 2 == 0 ? (int32_t)RM_NONE : (int32_t)(rm_rng_next(&rng) % 1000) + 1;
        m.now.generation = 1;
        rm_breaker_desc desc = m.desc;
        world_init(&w);
        w.random = 1;
        desc.env = &w.env;
        desc.event_fn = model_event;
        desc.user = &w;
        REQUIRE(rm_breaker_create(&desc, &w.b, NULL) == RM_OK);
        w.log.level = RM_LOG_OFF;
        for (int i = 0; i < 1500; i++, done++) {
            model_step(&m, &w, &rng, holds, &count);
            REQUIRE(model_agrees(&m, &w, done));
        }
        world_close(&w);
    }
}

/* ---- threads ---- */
#ifndef RM_NO_THREADS

enum { THREADS = 8 };

static void run_threads(void (*fn)(void *user), void *user) {
    rm_thread threads[THREADS];
    int started = 0;
    while (started < THREADS && rm_thread_start(&threads[started], fn, user) == RM_OK)
        started++;
    CHECK_EQ(THREADS, started);
    while (started > 0)
        rm_thread_join(&threads[--started]);
}

/* A meeting point: all leave when all have come. */
typedef struct barrier {
    rm_mutex mutex;
    rm_cond cond;
    int arrived, round;
} barrier;

static void barrier_meet(barrier *b) {
    rm_mutex_lock(&b->mutex);
    int round = b->round;
    if (++b->arrived == THREADS) {
        b->arrived = 0;
        b->round++;
        rm_cond_broadcast(&b->cond);
    }
    while (round == b->round)
        rm_cond_wait(&b->cond, &b->mutex, INT64_MAX);
    rm_mutex_unlock(&b->mutex);
}

typedef struct race {
    world w;
    barrier meet;
    uint32_t admitted, refused, leader;
} race;

static void race_run(void *user) {
    race *r = (race *)user;
    bool leads = __atomic_fetch_add(&r->leader, 1, __ATOMIC_RELAXED) == 0;
    for (int round = 0; round < 400; round++) {
        rm_permit permit;
        if (leads) { /* open, and the rest is over */
            CHECK_EQ(RM_OK, rm_breaker_trip(r->w.b));
            r->w.now += RM_SEC(10);
            r->admitted = r->refused = 0;
        }
        barrier_meet(&r->meet);
        bool admitted = rm_breaker_acquire(r->w.b, &permit, NULL) == RM_OK;
        __atomic_fetch_add(admitted ? &r->admitted : &r->refused, 1, __ATOMIC_RELAXED);
        barrier_meet(&r->meet);
        if (leads) {
            CHECK_EQ(3, r->admitted);
            CHECK_EQ(THREADS - 3, r->refused);
            CHECK_EQ(3, stats_of(r->w.b).probes_out);
        }
        barrier_meet(&r->meet);
        if (admitted) /* two rounds of three end closed */
            rm_breaker_record(r->w.b, &permit, round % 3 == 0 ? RM_OUTCOME_FAILURE : RM_OUTCOME_OK);
        barrier_meet(&r->meet);
        if (leads)
            CHECK_EQ(round % 3 == 0 ? RM_BREAKER_STATE_OPEN : RM_BREAKER_STATE_CLOSED,
                     stats_of(r->w.b).state);
    }
}

TEST(breaker, eight_threads_get_no_more_probes_than_there_are) {
    static race r;
    rm_breaker_desc desc = small();
    desc.probes = 3;
    REQUIRE(world_open(&r.w, desc));
    r.w.log.level = RM_LOG_OFF; /* world_log is for one thread */
    REQUIRE(rm_mutex_init(&r.meet.mutex) == RM_OK && rm_cond_init(&r.meet.cond) == RM_OK);
    run_threads(race_run, &r);
    CHECK_EQ(3 * 400, stats_of(r.w.b).probes);
    rm_cond_destroy(&r.meet.cond);
    rm_mutex_destroy(&r.meet.mutex);
    world_close(&r.w);
}

/* Everything at once: results in time, late, ignored, lost and by hand, while time goes on. */
enum { GENERATIONS = 1 << 18, STEPS = 20000, PROBES = 3 };

typedef struct storm {
    world w;
    uint32_t seeds;
    uint32_t events[GENERATIONS]; /* told of: count, from, to */
    int32_t out[GENERATIONS];     /* probes out, never more than the breaker's own count */
    uint64_t admitted, rejected, stale, recorded;
} storm;

static void storm_event(rm_breaker *b, const rm_breaker_event *event, void *user) {
    storm *s = (storm *)user;
    (void)b;
    if (!CHECK(event->generation < GENERATIONS)) return;
    CHECK_EQ(0, __atomic_exchange_n(&s->events[event->generation],
                                    1 | (uint32_t)event->from << 8 | (uint32_t)event->to << 16,
                                    __ATOMIC_RELAXED));
}

static bool is_probe(const rm_permit *permit) {
    return rmi_breaker_state(permit->word) == RM_BREAKER_STATE_HALF_OPEN;
}

static void storm_report(storm *s, rm_permit *permit, rm_rng *rng) {
    if (is_probe(permit))
        __atomic_fetch_sub(&s->out[rmi_breaker_bits(permit->word)], 1, __ATOMIC_RELAXED);
    uint64_t dice = rm_rng_next(rng) % 10;
    rm_outcome outcome = dice < 5   ? RM_OUTCOME_FAILURE
                         : dice < 9 ? RM_OUTCOME_OK
                                    : RM_OUTCOME_IGNORE;
    rm_status status = rm_breaker_record(s->w.b, permit, outcome);
    CHECK(status == RM_OK || status == RM_E_STALE);
    __atomic_fetch_add(status == RM_OK ? &s->recorded : &s->stale, 1, __ATOMIC_RELAXED);
}

static void storm_run(void *user) {
    storm *s = (storm *)user;
    rm_permit holds[8];
    int count = 0;
    rm_rng rng;
    rm_rng_seed(&rng, 77 + __atomic_fetch_add(&s->seeds, 1, __ATOMIC_RELAXED));
    for (int i = 0; i < STEPS; i++) {
        uint64_t dice = rm_rng_next(&rng) % 1000;
        if (dice < 450 && count < 8) {
            if (rm_breaker_acquire(s->w.b, &holds[count], NULL) != RM_OK) {
                __atomic_fetch_add(&s->rejected, 1, __ATOMIC_RELAXED);
                continue;
            }
            __atomic_fetch_add(&s->admitted, 1, __ATOMIC_RELAXED);
            if (is_probe(&holds[count])) {
                int32_t *out = &s->out[rmi_breaker_bits(holds[count].word)];
                CHECK(__atomic_add_fetch(out, 1, __ATOMIC_RELAXED) <= PROBES);
            }
            count++;
        } else if (dice < 900 && count > 0) {
            int at = (int)(rm_rng_next(&rng) % (uint64_t)count);
            storm_report(s, &holds[at], &rng);
            holds[at] = holds[--count];
        } else if (dice < 970) {
            int64_t jump = dice < 905 ? RM_MS(30) : (int64_t)(rm_rng_next(&rng) % 3000000);
            __atomic_fetch_add(&s->w.now, jump, __ATOMIC_RELAXED);
        } else if (dice < 985 && count > 0) {
            count--; /* never reported */
        } else if (dice < 987) {
            CHECK_EQ(RM_OK, rm_breaker_trip(s->w.b));
        } else if (dice < 989) {
            CHECK_EQ(RM_OK, rm_breaker_reset(s->w.b));
        } else {
            CHECK(stats_of(s->w.b).probes_out <= PROBES);
        }
    }
}

TEST(breaker, eight_threads_make_no_illegal_transition_and_tell_each_once) {
    static storm s;
    rm_breaker_desc desc = small();
    memset(&s, 0, sizeof s);
    desc.probes = PROBES;
    desc.probe_successes = 2;
    desc.open_ns = RM_MS(5);
    desc.probe_wait_ns = RM_MS(20);
    desc.open_jitter_permille = 0;
    desc.event_fn = storm_event;
    desc.user = &s;
    REQUIRE(world_open(&s.w, desc));
    s.w.log.level = RM_LOG_OFF;
    run_threads(storm_run, &s);
    rm_breaker_stats stats = stats_of(s.w.b);
    uint32_t state = RM_BREAKER_STATE_CLOSED;
    uint64_t opened = 0;
    for (uint64_t g = 2; g <= stats.generation; g++) {
        uint32_t event = s.events[g], to = event >> 16;
        REQUIRE(event != 0); /* none is missing; storm_event finds the double ones */
        CHECK_EQ(state, event >> 8 & 0xff);
        CHECK(to != state);
        CHECK(to != RM_BREAKER_STATE_HALF_OPEN || state == RM_BREAKER_STATE_OPEN);
        opened += to == RM_BREAKER_STATE_OPEN;
        state = to;
    }
    CHECK_EQ(0, s.events[stats.generation + 1]);
    CHECK_EQ(state, stats.state);
    CHECK_EQ(opened, stats.opened);
    CHECK_EQ(s.rejected, stats.rejected);
    CHECK_EQ(s.stale, stats.late);
    CHECK(stats.failures + stats.ignored + stats.probe_successes <= s.recorded);
    CHECK(stats.generation > 1000 && stats.lost > 0 && stats.probe_successes > 0);
    printf("# %u transitions, %u probes, %u lost, %u late\n", (unsigned)stats.generation,
           (unsigned)stats.probes, (unsigned)stats.lost, (unsigned)stats.late);
    world_close(&s.w);
}

/* What was written before a transition is there for the call that sees it, whichever call it is.
   The reader learns by relaxed loads when to call, so that only the call itself gives order. */
typedef enum relay_call {
    BY_ACQUIRE,
    BY_RECORD,
    BY_STATS,
    BY_TRIP,
    BY_RESET,
    BY_RETRY,
    BY_LOSING
} relay_call;

typedef struct relay {
    rm_breaker *b;
    relay_call call;
    int plain;
    int ready;            /* the round that the reader is ready for */
    uint64_t head, steps; /* the reader waits until the word is so many generations on */
    uint32_t reader;
    int round;
    bool in_clock; /* the reader is to wait when it reads the clock */
} relay;

enum { ROUNDS = 100 };

static rm_status succeed(void *user, rm_attempt *attempt, rm_error *error) {
    (void)user, (void)attempt, (void)error;
    return RM_OK;
}

static void relay_event(rm_breaker *b, const rm_breaker_event *event, void *user) {
    (void)b, (void)event, (void)user;
}

/* A call that meets the transition; the order it gives is all there is. */
static void relay_meet(relay *r, rm_permit *permit) {
    rm_breaker_stats stats;
    switch (r->call) {
    case BY_ACQUIRE: CHECK_EQ(RM_OK, rm_breaker_acquire(r->b, permit, NULL)); break;
    case BY_RECORD: CHECK_EQ(RM_E_STALE, rm_breaker_record(r->b, permit, RM_OUTCOME_OK)); break;
    case BY_STATS: CHECK_EQ(RM_OK, rm_breaker_stats_get(r->b, &stats)); break;
    case BY_TRIP:
    case BY_LOSING: CHECK_EQ(RM_OK, rm_breaker_trip(r->b)); break;
    case BY_RESET: CHECK_EQ(RM_OK, rm_breaker_reset(r->b)); break;
    case BY_RETRY:
        CHECK_EQ(RM_OK, rm_retry_call(NULL, r->b, no_deadline, NULL, succeed, NULL, NULL));
        break;
    }
}

static bool relay_trips(const relay *r) {
    return r->call == BY_RESET || r->call == BY_RECORD || r->call == BY_LOSING;
}

/* Each round the writer trips, writes and resets, or, for calls that meet an open one, writes and
   trips. */
static void relay_write(relay *r) {
    for (int i = 1; i <= ROUNDS; i++) {
        while (__atomic_load_n(&r->ready, __ATOMIC_ACQUIRE) != i) {}
        if (!relay_trips(r)) CHECK_EQ(RM_OK, rm_breaker_trip(r->b));
        r->plain = i;
        CHECK_EQ(RM_OK, relay_trips(r) ? rm_breaker_trip(r->b) : rm_breaker_reset(r->b));
    }
}

/* The reader tells that it is ready and waits for the writer's transition. */
static void relay_wait(relay *r) {
    r->in_clock = false;
    __atomic_store_n(&r->ready, r->round, __ATOMIC_RELEASE);
    for (;;) {
        uint64_t now = __atomic_load_n(&r->b->word, __ATOMIC_RELAXED) >> 38;
        if (((now - r->head) & 0x7fffff) == r->steps) return;
    }
}

static int64_t relay_now(void *user) {
    relay *r = (relay *)user;
    if (rm_thread_number() == __atomic_load_n(&r->reader, __ATOMIC_RELAXED) && r->in_clock)
        relay_wait(r);
    return RM_SEC(1000);
}

static void relay_read(void *user) {
    relay *r = (relay *)user;
    __atomic_store_n(&r->reader, rm_thread_number(), __ATOMIC_RELAXED);
    for (r->round = 1; r->round <= ROUNDS; r->round++) {
        rm_permit permit;
        CHECK_EQ(RM_OK, rm_breaker_reset(r->b));
        CHECK_EQ(RM_OK, rm_breaker_acquire(r->b, &permit, NULL));
        r->steps = relay_trips(r) ? 1 : 2;
        r->head = __atomic_load_n(&r->b->word, __ATOMIC_RELAXED) >> 38;
        r->in_clock = r->call == BY_LOSING; /* between its look at the word and the swap */
        if (!r->in_clock) relay_wait(r);
        relay_meet(r, &permit);
        CHECK_EQ(r->round, r->plain);
    }
}

TEST(breaker, a_transition_publishes_what_happened_before_it) {
    for (int call = BY_ACQUIRE; call <= BY_LOSING; call++) {
        world w;
        rm_thread reader;
        rm_breaker_desc desc = small();
        desc.event_fn = relay_event;
        REQUIRE(world_open(&w, desc));
        w.log.level = RM_LOG_OFF;
        relay r;
        memset(&r, 0, sizeof r);
        r.b = w.b;
        r.call = (relay_call)call;
        w.clock.now_fn = w.clock.coarse_fn = w.clock.wall_fn = relay_now;
        w.clock.user = &r;
        REQUIRE(rm_thread_start(&reader, relay_read, &r) == RM_OK);
        relay_write(&r);
        rm_thread_join(&reader);
        CHECK_EQ(ROUNDS, r.plain);
        world_close(&w);
    }
}

/* A blocking retry that another thread cancels while it sleeps. */
typedef struct sleeper {
    rm_env env;
    rm_cancel cancel;
    rm_status status;
} sleeper;

static rm_status always_busy(void *user, rm_attempt *attempt, rm_error *error) {
    (void)user, (void)attempt, (void)error;
    return RM_E_BUSY;
}

static void sleeper_run(void *user) {
    sleeper *s = (sleeper *)user;
    rm_retry_desc desc = rm_retry_desc_default();
    desc.env = &s->env;
    desc.jitter = RM_JITTER_NONE;
    s->status = rm_retry_call(&desc, NULL, no_deadline, &s->cancel, always_busy, NULL, NULL);
}

TEST(retry_call, can_be_cancelled_while_it_waits) {
    rm_virtual_clock virtual_clock;
    rm_thread thread;
    sleeper s;
    memset(&s, 0, sizeof s);
    REQUIRE(rm_virtual_clock_init(&virtual_clock, RM_SEC(1), false) == RM_OK);
    REQUIRE(rm_cancel_init(&s.cancel) == RM_OK);
    rm_clock clock = rm_virtual_clock_clock(&virtual_clock);
    s.env.clock = &clock;
    REQUIRE(rm_thread_start(&thread, sleeper_run, &s) == RM_OK);
    rm_virtual_clock_await(&virtual_clock, 1);
    rm_virtual_clock_advance(&virtual_clock, RM_SEC(1));
    rm_virtual_clock_await(&virtual_clock, 1); /* the second wait, 2 s */
    rm_cancel_request(&s.cancel);
    rm_thread_join(&thread);
    CHECK_EQ(RM_E_CANCELLED, s.status);
    CHECK_EQ(RM_OK, rm_cancel_destroy(&s.cancel));
    rm_virtual_clock_destroy(&virtual_clock);
}

#endif /* RM_NO_THREADS */

TEST_MAIN

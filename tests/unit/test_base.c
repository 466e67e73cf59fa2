/* The base: status, errors, time, memory, random numbers and the hash. */
#include "rm.h"
#include "rm_test.h"

#include <stdlib.h>

/* >>status -------------------------------------------------------------------------------- */

static const struct {
    rm_status status;
    int number;
    const char *name;
    const char *cls;
} statuses[] = {
    {RM_OK, 0, "RM_OK", "ok"},
    {RM_E_INVALID, 1, "RM_E_INVALID", "invalid"},
    {RM_E_NOMEM, 2, "RM_E_NOMEM", "exhausted"},
    {RM_E_TIMEOUT, 3, "RM_E_TIMEOUT", "timeout"},
    {RM_E_BUSY, 4, "RM_E_BUSY", "busy"},
    {RM_E_CANCELLED, 5, "RM_E_CANCELLED", "cancelled"},
    {RM_E_CLOSED, 6, "RM_E_CLOSED", "cancelled"},
    {RM_E_FULL, 7, "RM_E_FULL", "exhausted"},
    {RM_E_NOT_FOUND, 8, "RM_E_NOT_FOUND", "invalid"},
    {RM_E_EXISTS, 9, "RM_E_EXISTS", "invalid"},
    {RM_E_STALE, 10, "RM_E_STALE", "invalid"},
    {RM_E_FOREIGN, 11, "RM_E_FOREIGN", "invalid"},
    {RM_E_REJECTED, 12, "RM_E_REJECTED", "rejected"},
    {RM_E_TOO_LARGE, 13, "RM_E_TOO_LARGE", "exhausted"},
    {RM_E_DEADLOCK, 14, "RM_E_DEADLOCK", "invalid"},
    {RM_E_STATE, 15, "RM_E_STATE", "invalid"},
    {RM_E_UNSUPPORTED, 16, "RM_E_UNSUPPORTED", "invalid"},
    {RM_E_SYSTEM, 17, "RM_E_SYSTEM", "internal"},
    {RM_E_FAILED, 18, "RM_E_FAILED", "internal"},
    {RM_E_REFUSED, 19, "RM_E_REFUSED", "refused"},
    {RM_E_AUTH, 20, "RM_E_AUTH", "auth"},
    {RM_E_PROTOCOL, 21, "RM_E_PROTOCOL", "protocol"},
    {RM_E_INTERNAL, 22, "RM_E_INTERNAL", "internal"},
};
enum { STATUSES = sizeof statuses / sizeof *statuses };

TEST(status, has_stable_numbers_names_and_classes) {
    for (int i = 0; i < STATUSES; ++i) {
        CHECK_EQ(statuses[i].number, i);
        CHECK_EQ(statuses[i].status, i);
        CHECK_STR(rm_status_name(statuses[i].status), statuses[i].name);
        CHECK_STR(rm_class_name(rm_status_class(statuses[i].status)), statuses[i].cls);
    }
}

TEST(status, answers_for_numbers_that_are_none) {
    static const int numbers[] = {STATUSES, 99, 1000000, INT32_MAX, -1, INT32_MIN};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; ++i) {
        CHECK_STR(rm_status_name((rm_status)numbers[i]), "RM_E_UNKNOWN");
        CHECK_EQ(rm_status_class((rm_status)numbers[i]), RM_CLASS_INTERNAL);
        CHECK_STR(rm_class_name((rm_class)numbers[i]), "internal");
        CHECK_STR(rm_health_name((rm_health)numbers[i]), "unknown");
        CHECK_STR(rm_state_name((rm_state)numbers[i]), "unknown");
        CHECK_STR(rm_log_level_name((rm_log_level)numbers[i]), "off");
    }
    CHECK_STR(rm_class_name((rm_class)(RM_CLASS_INTERNAL + 1)), "internal");
    CHECK_STR(rm_health_name((rm_health)(RM_HEALTH_UNHEALTHY + 1)), "unknown");
    CHECK_STR(rm_state_name((rm_state)(RM_STATE_FAILED + 1)), "unknown");
}

TEST(status, names_health_and_state) {
    CHECK_STR(rm_health_name(RM_HEALTH_UNKNOWN), "unknown");
    CHECK_STR(rm_health_name(RM_HEALTH_HEALTHY), "healthy");
    CHECK_STR(rm_health_name(RM_HEALTH_DEGRADED), "degraded");
    CHECK_STR(rm_health_name(RM_HEALTH_UNHEALTHY), "unhealthy");
    CHECK_STR(rm_state_name(RM_STATE_REGISTERED), "registered");
    CHECK_STR(rm_state_name(RM_STATE_STARTING), "starting");
    CHECK_STR(rm_state_name(RM_STATE_READY), "ready");
    CHECK_STR(rm_state_name(RM_STATE_STOPPING), "stopping");
    CHECK_STR(rm_state_name(RM_STATE_STOPPED), "stopped");
    CHECK_STR(rm_state_name(RM_STATE_FAILED), "failed");
}

/* >>errors -------------------------------------------------------------------------------- */

TEST(error, says_what_where_and_why) {
    rm_error error;
    memset(&error, 0xAA, sizeof error);
    CHECK_EQ(rm_error_set(&error, RM_E_SYSTEM, -5, "socket", "no route to %s:%d", "host", 80),
             RM_E_SYSTEM);
    CHECK_EQ(error.status, RM_E_SYSTEM);
    CHECK_EQ(error.native, -5);
    CHECK_STR(error.where, "socket");
    CHECK_STR(error.message, "no route to host:80");
}

TEST(error, may_be_null_and_so_may_its_texts) {
    rm_error error;
    const char *no_format = NULL;
    CHECK_EQ(rm_error_set(NULL, RM_E_FULL, 0, "x", "y"), RM_E_FULL);
    memset(&error, 0xAA, sizeof error);
    CHECK_EQ(rm_error_set(&error, RM_E_FULL, 0, NULL, no_format, 1), RM_E_FULL);
    CHECK_STR(error.where, "");
    CHECK_STR(error.message, "");
}

TEST(error, may_be_made_from_its_own_texts) {
    rm_error error;
    rm_error_set(&error, RM_E_FAILED, 7, "database", "no answer");
    rm_error_set(&error, RM_E_TIMEOUT, 8, error.where, "tried twice: %s", error.message);
    CHECK_STR(error.where, "database");
    CHECK_STR(error.message, "tried twice: no answer");
}

/* Fills a record from `count` times `character` after `lead` times 'x' and checks the cut. */
static void check_cut(size_t lead, const char *character, size_t count) {
    char text[1024];
    const size_t width = strlen(character);
    size_t length = 0, whole;
    rm_error error;
    memset(text, 'x', lead);
    for (length = lead; count > 0; --count, length += width)
        memcpy(text + length, character, width);
    text[length] = '\0';
    memset(&error, 0xAA, sizeof error);
    rm_error_set(&error, RM_E_FAILED, 0, text, "%s", text);
    whole = length < sizeof error.where ? length : lead + (47 - lead) / width * width;
    CHECK_EQ(strlen(error.where), whole);
    CHECK(memcmp(error.where, text, whole) == 0);
    whole = length < sizeof error.message ? length : lead + (159 - lead) / width * width;
    CHECK_EQ(strlen(error.message), whole);
    CHECK(memcmp(error.message, text, whole) == 0);
}

TEST(error, is_cut_between_characters) {
    static const char *const characters[] = {"a", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};
    for (size_t lead = 0; lead < 8; ++lead)
        for (int i = 0; i < 4; ++i)
            for (size_t count = 0; count < 200; ++count)
                check_cut(lead, characters[i], count);
}

TEST(error, is_cut_though_it_is_no_utf8) {
    char text[300];
    rm_error error;
    memset(text, '\x80', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    rm_error_set(&error, RM_E_FAILED, 0, text, "%s", text);
    CHECK(strlen(error.where) >= 44 && strlen(error.where) <= 47);
    CHECK(strlen(error.message) >= 156 && strlen(error.message) <= 159);
}

TEST(errors, keep_the_first_and_count_what_is_dropped) {
    rm_errors list;
    rm_error error;
    memset(&list, 0, sizeof list);
    for (int i = 0; i < RM_ERRORS_MAX + 5; ++i) {
        rm_error_set(&error, RM_E_FAILED, i, "part", "failure %d", i);
        rm_errors_add(&list, &error);
    }
    CHECK_EQ(list.count, RM_ERRORS_MAX);
    CHECK_EQ(list.dropped, 5);
    for (int i = 0; i < RM_ERRORS_MAX; ++i)
        CHECK_EQ(list.items[i].native, i);
    CHECK_STR(list.items[0].message, "failure 0");
    rm_errors_add(NULL, &error);
    rm_errors_add(&list, NULL);
    CHECK_EQ(list.dropped, 5);
}

/* >>time ---------------------------------------------------------------------------------- */

static rm_virtual_clock virtual_clock;

/* A clock in `virtual_clock`, which is made anew. */
static rm_clock clock_at(int64_t ns) {
    if (!CHECK(rm_virtual_clock_init(&virtual_clock, ns, true) == RM_OK)) exit(1);
    return rm_virtual_clock_clock(&virtual_clock);
}

static const int64_t ends[] = {
    INT64_MIN, INT64_MIN + 1, INT64_MIN / 2, -3037000500,   -1000,         -2,       -1, 0, 1, 2,
    1000,      3037000499,    3037000500,    INT64_MAX / 2, INT64_MAX - 1, INT64_MAX};
enum { ENDS = sizeof ends / sizeof *ends };

TEST(time, has_units) {
    CHECK_EQ(RM_US(1), 1000);
    CHECK_EQ(RM_MS(1), 1000 * RM_US(1));
    CHECK_EQ(RM_SEC(1), 1000 * RM_MS(1));
    CHECK_EQ(RM_MINUTES(1), 60 * RM_SEC(1));
    CHECK_EQ(RM_MS(500), RM_SEC(0.5)); /* not 0, which would be the default */
    CHECK_EQ(RM_MS(1 + 1), 2000000);
    CHECK_EQ(RM_SEC(0.5), 500000000); /* fractions too */
    CHECK_EQ(RM_MS(1.5), 1500000);
    CHECK_EQ(-RM_US(0.25), -250);
    CHECK_EQ(RM_SEC(9000000000), INT64_C(9000000000000000000));
}

TEST(time, adds_and_stays_at_the_ends) {
    for (int i = 0; i < ENDS; ++i)
        for (int k = 0; k < ENDS; ++k) {
            int64_t sum;
            if (__builtin_add_overflow(ends[i], ends[k], &sum))
                sum = ends[i] < 0 ? INT64_MIN : INT64_MAX;
            CHECK_EQ(rm_time_add(ends[i], ends[k]), sum);
        }
}

TEST(time, multiplies_and_stays_at_the_ends) {
    for (int i = 0; i < ENDS; ++i)
        for (int k = 0; k < ENDS; ++k) {
            int64_t product;
            if (__builtin_mul_overflow(ends[i], ends[k], &product))
                product = (ends[i] < 0) == (ends[k] < 0) ? INT64_MAX : INT64_MIN;
            CHECK_EQ(rm_time_mul(ends[i], ends[k]), product);
        }
}

TEST(time, knows_which_timeouts_are_one) {
    CHECK(rm_timeout_valid(0) && rm_timeout_valid(1) && rm_timeout_valid(INT64_MAX));
    CHECK(rm_timeout_valid(RM_NOWAIT) && rm_timeout_valid(RM_FOREVER));
    CHECK(!rm_timeout_valid(RM_NONE) && !rm_timeout_valid(RM_STRICT));
    CHECK(!rm_timeout_valid(-5) && !rm_timeout_valid(INT64_MIN));
}

TEST(deadline, that_is_none_never_passes) {
    const rm_clock clock = clock_at(INT64_MAX);
    rm_deadline none;
    memset(&none, 0, sizeof none);
    CHECK(!rm_deadline_passed(&clock, none));
    CHECK_EQ(rm_deadline_left(&clock, none), RM_FOREVER);
    none = rm_deadline_after(&clock, RM_FOREVER);
    CHECK(!rm_deadline_passed(&clock, none));
    CHECK_EQ(rm_deadline_left(&clock, none), RM_FOREVER);
    none.at_ns = INT64_MAX;
    CHECK(!rm_deadline_passed(&clock, none));
    CHECK_EQ(rm_deadline_left(&clock, none), RM_FOREVER);
}

TEST(deadline, without_time_has_passed_at_once) {
    static const int64_t timeouts[] = {0, RM_NOWAIT, RM_NONE, RM_STRICT, -99, INT64_MIN};
    for (int i = 0; i < ENDS; ++i) {
        const rm_clock clock = clock_at(ends[i]);
        for (size_t k = 0; k < sizeof timeouts / sizeof *timeouts; ++k) {
            const rm_deadline deadline = rm_deadline_after(&clock, timeouts[k]);
            CHECK(rm_deadline_passed(&clock, deadline));
            CHECK_EQ(rm_deadline_left(&clock, deadline), RM_NOWAIT);
        }
    }
}

TEST(deadline, passes_at_its_nanosecond) {
    const rm_clock clock = clock_at(100);
    const rm_deadline deadline = rm_deadline_after(&clock, 50);
    CHECK_EQ(deadline.at_ns, 150);
    CHECK_EQ(rm_deadline_left(&clock, deadline), 50);
    rm_virtual_clock_advance(&virtual_clock, 49);
    CHECK(!rm_deadline_passed(&clock, deadline));
    CHECK_EQ(rm_deadline_left(&clock, deadline), 1);
    rm_virtual_clock_advance(&virtual_clock, 1);
    CHECK(rm_deadline_passed(&clock, deadline));
    CHECK_EQ(rm_deadline_left(&clock, deadline), RM_NOWAIT);
    rm_virtual_clock_advance(&virtual_clock, INT64_MAX);
    CHECK(rm_deadline_passed(&clock, deadline));
    CHECK_EQ(rm_deadline_left(&clock, deadline), RM_NOWAIT);
}

TEST(deadline, holds_on_a_clock_at_any_point) {
    for (int i = 0; i < ENDS; ++i)
        for (int k = 0; k < ENDS; ++k) {
            const rm_clock clock = clock_at(ends[i]);
            const rm_deadline deadline = rm_deadline_after(&clock, ends[k]);
            if (ends[k] == RM_FOREVER || (ends[k] > 0 && ends[i] > INT64_MAX - 1 - ends[k])) {
                CHECK_EQ(rm_deadline_left(&clock, deadline), RM_FOREVER);
            } else if (ends[k] > 0) {
                const int64_t left = rm_deadline_left(&clock, deadline);
                CHECK(!rm_deadline_passed(&clock, deadline));
                CHECK(left == ends[k] || (left == ends[k] + 1 && ends[i] == -ends[k]));
            }
        }
}

TEST(deadline, that_is_far_away_does_not_overflow) {
    const rm_clock clock = clock_at(INT64_MIN);
    rm_deadline deadline;
    deadline.at_ns = INT64_MAX - 1;
    CHECK(!rm_deadline_passed(&clock, deadline));
    CHECK_EQ(rm_deadline_left(&clock, deadline), INT64_MAX);
    deadline.at_ns = INT64_MIN + 1;
    CHECK_EQ(rm_deadline_left(&clock, deadline), 1);
}

TEST(deadline, does_not_become_none_when_it_falls_on_zero) {
    const rm_clock clock = clock_at(-5);
    const rm_deadline deadline = rm_deadline_after(&clock, 5);
    CHECK(!rm_deadline_passed(&clock, deadline));
    rm_virtual_clock_advance(&virtual_clock, 6);
    CHECK(rm_deadline_passed(&clock, deadline));
}

TEST(deadline, min_is_the_earlier_one) {
    /* in the order of time; the last two are both never */
    static const int64_t order[] = {INT64_MIN, -7, 3, 4, INT64_MAX - 1, 0, INT64_MAX};
    for (int i = 0; i < 7; ++i)
        for (int k = 0; k < 7; ++k) {
            const rm_deadline a = {order[i]}, b = {order[k]};
            const rm_deadline min = rm_deadline_min(a, b);
            if (i >= 5 && k >= 5)
                CHECK(min.at_ns == 0 || min.at_ns == INT64_MAX);
            else
                CHECK_EQ(min.at_ns, order[i < k ? i : k]);
        }
}

TEST(time, of_the_system_goes_on) {
    const rm_clock *clock = rm_clock_system();
    int64_t before = rm_now(NULL), coarse;
    CHECK(before > 0);
    for (int i = 0; i < 1000; ++i) {
        const int64_t now = i % 2 == 0 ? rm_now(NULL) : rm_now(clock);
        CHECK(now >= before);
        before = now;
        coarse = i % 2 == 0 ? rm_now_coarse(NULL) : rm_now_coarse(clock);
        CHECK(coarse <= rm_now(NULL));
        CHECK(coarse > now - RM_SEC(1));
    }
    CHECK(rm_wall(NULL) > INT64_C(1577836800) * RM_SEC(1));  /* 2020 */
    CHECK(rm_wall(clock) < INT64_C(4102444800) * RM_SEC(1)); /* 2100 */
}

TEST(time, of_the_system_can_be_slept_away) {
    const int64_t before = rm_now(NULL);
    rm_cancel cancel;
    CHECK_EQ(rm_sleep(NULL, 1, NULL), RM_OK);
    CHECK_EQ(rm_sleep(NULL, RM_US(10), NULL), RM_OK);
    CHECK(rm_now(NULL) - before >= RM_US(10));
    REQUIRE(rm_cancel_init(&cancel) == RM_OK);
    CHECK_EQ(rm_sleep(NULL, RM_US(10), &cancel), RM_OK);
    CHECK(rm_now(NULL) - before >= RM_US(20));
    rm_cancel_request(&cancel);
    CHECK_EQ(rm_sleep(NULL, RM_MINUTES(60), &cancel), RM_E_CANCELLED);
    CHECK_EQ(rm_sleep(NULL, 0, &cancel), RM_E_CANCELLED);
    CHECK_EQ(rm_cancel_destroy(&cancel), RM_OK);
}

TEST(time, that_is_not_positive_is_not_slept) {
    rm_clock clock = clock_at(5);
    CHECK_EQ(rm_sleep(&clock, 0, NULL), RM_OK);
    CHECK_EQ(rm_sleep(&clock, RM_FOREVER, NULL), RM_OK);
    CHECK_EQ(rm_sleep(&clock, INT64_MIN, NULL), RM_OK);
    CHECK_EQ(rm_sleep(NULL, RM_FOREVER, NULL), RM_OK);
    CHECK_EQ(rm_now(&clock), 5);
    clock.sleep_fn = NULL;
    CHECK_EQ(rm_sleep(&clock, 1, NULL), RM_E_UNSUPPORTED);
    CHECK_EQ(rm_sleep(&clock, 0, NULL), RM_OK);
}

/* >>memory -------------------------------------------------------------------------------- */

typedef struct ledger {
    size_t allocated, freed; /* bytes */
    int calls;
} ledger;

static void *ledger_alloc(size_t size, void *user) {
    ((ledger *)user)->allocated += size;
    ((ledger *)user)->calls++;
    return malloc(size);
}

static void ledger_free(void *pointer, size_t size, void *user) {
    ((ledger *)user)->freed += size;
    free(pointer);
}

TEST(memory, comes_from_malloc_by_default) {
    char *p = (char *)rm_alloc(NULL, 100), *zero = (char *)rm_alloc(NULL, 0);
    REQUIRE(p != NULL && zero != NULL);
    memset(p, 1, 100);
    *zero = 1; /* 0 counts as 1 */
    rm_free(NULL, p, 100);
    rm_free(NULL, zero, 0);
    rm_free(NULL, NULL, 100);
}

TEST(memory, goes_back_with_the_size_it_came_with) {
    ledger books = {0, 0, 0};
    const rm_allocator allocator = {ledger_alloc, ledger_free, &books};
    for (size_t size = 0; size < 300; ++size)
        rm_free(&allocator, rm_alloc(&allocator, size), size);
    CHECK_EQ(books.calls, 300);
    CHECK_EQ(books.allocated, 1 + 299 * 300 / 2);
    CHECK_EQ(books.freed, books.allocated);
    rm_free(&allocator, NULL, 5);
    CHECK_EQ(books.freed, books.allocated);
}

TEST(memory, is_never_asked_for_more_than_an_object_can_have) {
    ledger books = {0, 0, 0};
    const rm_allocator allocator = {ledger_alloc, ledger_free, &books};
    CHECK(rm_alloc(&allocator, SIZE_MAX) == NULL);
    CHECK(rm_alloc(&allocator, (size_t)PTRDIFF_MAX + 1) == NULL);
    CHECK(rm_alloc(NULL, SIZE_MAX) == NULL);
    CHECK_EQ(books.calls, 0);
}

TEST(memory, sizes_are_added_and_multiplied_with_a_check) {
    static const size_t sizes[] = {
        0, 1, 2, 3, 1000, SIZE_MAX / 3, SIZE_MAX / 2, SIZE_MAX / 2 + 1, SIZE_MAX - 1, SIZE_MAX};
    for (int i = 0; i < 10; ++i)
        for (int k = 0; k < 10; ++k) {
            size_t expected, got = 77;
            bool fits = !__builtin_add_overflow(sizes[i], sizes[k], &expected);
            CHECK_EQ(rm_size_add(sizes[i], sizes[k], &got), fits);
            CHECK_EQ(got, fits ? expected : 77);
            got = 77;
            fits = !__builtin_mul_overflow(sizes[i], sizes[k], &expected);
            CHECK_EQ(rm_size_mul(sizes[i], sizes[k], &got), fits);
            CHECK_EQ(got, fits ? expected : 77);
        }
    CHECK(!rm_size_add(1, 1, NULL));
    CHECK(!rm_size_mul(1, 1, NULL));
}

/* >>environment --------------------------------------------------------------------------- */

static uint64_t random_constant(void *user) {
    return *(const uint64_t *)user;
}

static void log_nothing(const rm_log_event *event, void *user) {
    (void)event, (void)user;
}

TEST(environment, defaults_to_the_system) {
    rm_env out;
    memset(&out, 0xAA, sizeof out);
    CHECK_EQ(rm_env_resolve(NULL, &out, NULL), RM_OK);
    CHECK(out.clock == rm_clock_system());
    CHECK(out.allocator == NULL && out.random == NULL && out.log == NULL);
}

TEST(environment, is_copied) {
    uint64_t word = 1;
    const rm_allocator allocator = {ledger_alloc, ledger_free, NULL};
    const rm_clock clock = clock_at(0);
    const rm_random random = {random_constant, &word};
    const rm_log log = {log_nothing, NULL, RM_LOG_DEFAULT};
    const rm_env env = {&allocator, &clock, &random, &log};
    rm_env out;
    CHECK_EQ(rm_env_resolve(&env, &out, NULL), RM_OK);
    CHECK(out.allocator == &allocator && out.clock == &clock);
    CHECK(out.random == &random && out.log == &log);
}

/* Resolves env and checks that it is refused with a message about `where`, and out left alone. */
static void check_refused(const rm_env *env, const char *where) {
    rm_env out, before;
    rm_error error;
    memset(&out, 0xAA, sizeof out);
    before = out;
    memset(&error, 0xAA, sizeof error);
    CHECK_EQ(rm_env_resolve(env, &out, &error), RM_E_INVALID);
    CHECK_EQ(error.status, RM_E_INVALID);
    CHECK_EQ(error.native, 0);
    CHECK_STR(error.where, where);
    CHECK(error.message[0] != '\0');
    CHECK(memcmp(&out, &before, sizeof out) == 0);
    CHECK_EQ(rm_env_resolve(env, &out, NULL), RM_E_INVALID);
}

TEST(environment, takes_both_allocator_callbacks_or_neither) {
    rm_allocator allocator = {ledger_alloc, NULL, NULL};
    rm_env env = {&allocator, NULL, NULL, NULL};
    check_refused(&env, "env.allocator");
    allocator.alloc_fn = NULL;
    allocator.free_fn = ledger_free;
    check_refused(&env, "env.allocator");
    allocator.free_fn = NULL;
    check_refused(&env, "env.allocator");
}

TEST(environment, refuses_a_member_with_a_callback_missing) {
    const rm_clock whole = clock_at(0);
    const rm_random random = {NULL, NULL};
    const rm_log log = {NULL, NULL, RM_LOG_INFO};
    rm_env env;
    rm_clock clock;
    rm_error error;
    memset(&env, 0, sizeof env);
    env.clock = &clock;
    clock = whole, clock.now_fn = NULL, check_refused(&env, "env.clock");
    clock = whole, clock.coarse_fn = NULL, check_refused(&env, "env.clock");
    clock = whole, clock.wall_fn = NULL, check_refused(&env, "env.clock");
    clock = whole, clock.wait_fn = NULL, check_refused(&env, "env.clock");
    env.clock = NULL;
    env.random = &random;
    check_refused(&env, "env.random");
    env.random = NULL;
    env.log = &log;
    check_refused(&env, "env.log");
    CHECK_EQ(rm_env_resolve(NULL, NULL, &error), RM_E_INVALID);
    CHECK_STR(error.where, "env");
    CHECK_EQ(rm_env_resolve(NULL, NULL, NULL), RM_E_INVALID);
}

/* >>random -------------------------------------------------------------------------------- */

TEST(random, gives_the_numbers_of_splitmix64) {
    static const uint64_t expected[] = {
        UINT64_C(6457827717110365317), UINT64_C(3203168211198807973), UINT64_C(9817491932198370423),
        UINT64_C(4593380528125082431), UINT64_C(16408922859458223821)};
    rm_rng rng, again;
    rm_rng_seed(&rng, 1234567);
    rm_rng_seed(&again, 1234567);
    for (int i = 0; i < 5; ++i) {
        CHECK(rm_rng_next(&rng) == expected[i]);
        CHECK(rm_rng_next(&again) == expected[i]);
    }
    rm_rng_seed(&again, 1234568);
    CHECK(rm_rng_next(&again) != expected[0]);
}

TEST(random, hook_draws_from_its_generator) {
    rm_rng rng, twin;
    rm_random random;
    rm_rng_seed(&rng, 5);
    rm_rng_seed(&twin, 5);
    random = rm_rng_random(&rng);
    for (int i = 0; i < 10; ++i)
        CHECK(random.next_fn(random.user) == rm_rng_next(&twin));
}

TEST(random, seeds_differ) {
    uint64_t seeds[64];
    for (int i = 0; i < 64; ++i) {
        seeds[i] = rm_random_seed();
        for (int k = 0; k < i; ++k)
            CHECK(seeds[k] != seeds[i]);
    }
}

/* A source that gives these numbers in turn, then the last one for ever. */
typedef struct script {
    const uint64_t *numbers;
    size_t count, used;
} script;

static uint64_t script_next(void *user) {
    script *s = (script *)user;
    const size_t at = s->used < s->count ? s->used : s->count - 1;
    s->used++;
    return s->numbers[at];
}

/* The high half of a product, bit by bit. */
static uint64_t high_half(uint64_t a, uint64_t b) {
    uint64_t high = 0, low = 0;
    for (int bit = 63; bit >= 0; --bit) {
        high = high << 1 | low >> 63;
        low <<= 1;
        if (a >> bit & 1) {
            low += b;
            high += low < b;
        }
    }
    return high;
}

TEST(random, below_scales_a_number_to_the_bound) {
    rm_rng rng;
    rm_rng_seed(&rng, 9);
    for (int i = 0; i < 20000; ++i) {
        const uint64_t number = rm_rng_next(&rng), bound = (rm_rng_next(&rng) >> i % 64) | 1;
        script s = {&number, 1, 0};
        const rm_random random = {script_next, &s};
        const uint64_t got = rm_random_below(&random, bound);
        CHECK(got < bound);
        if (s.used == 1) CHECK(got == high_half(number, bound));
    }
}

TEST(random, below_draws_again_what_would_be_unfair) {
    /* 2^64 mod 3 = 1: the one product whose low half is below that is of 0 */
    static const uint64_t numbers[] = {0, UINT64_MAX};
    script s = {numbers, 2, 0};
    const rm_random random = {script_next, &s};
    CHECK(rm_random_below(&random, 3) == 2);
    CHECK_EQ(s.used, 2);
    s.used = 0;
    CHECK(rm_random_below(&random, 4) == 0); /* a power of two is always fair */
    CHECK_EQ(s.used, 1);
}

TEST(random, below_is_unbiased_where_modulo_is_not) {
    const uint64_t third = UINT64_C(1) << 62;
    int counts[3] = {0, 0, 0};
    rm_rng rng;
    rm_random random;
    rm_rng_seed(&rng, 2026);
    random = rm_rng_random(&rng);
    for (int i = 0; i < 30000; ++i) {
        const uint64_t got = rm_random_below(&random, 3 * third);
        if (CHECK(got < 3 * third)) counts[got / third]++;
    }
    for (int i = 0; i < 3; ++i)
        CHECK(counts[i] > 9700 && counts[i] < 10300); /* modulo: 15000, 7500, 7500 */
}

TEST(random, below_covers_a_small_bound_evenly) {
    rm_rng rng;
    rm_random random;
    rm_rng_seed(&rng, 4711);
    random = rm_rng_random(&rng);
    for (uint64_t bound = 1; bound <= 17; ++bound) {
        int counts[17] = {0};
        for (int i = 0; i < 1000 * (int)bound; ++i)
            counts[rm_random_below(&random, bound)]++;
        for (uint64_t i = 0; i < bound; ++i)
            CHECK(counts[i] > 850 && counts[i] < 1150);
    }
}

TEST(random, below_survives_a_broken_source) {
    static const uint64_t stuck[] = {0, 1, UINT64_MAX, UINT64_C(1) << 63};
    static const uint64_t bounds[] = {0, 1, 2, 3, 1000, (UINT64_C(1) << 63) + 1, UINT64_MAX};
    for (int i = 0; i < 4; ++i)
        for (int k = 0; k < 7; ++k) {
            script s = {&stuck[i], 1, 0};
            const rm_random random = {script_next, &s};
            const uint64_t got = rm_random_below(&random, bounds[k]);
            CHECK(got < bounds[k] || (bounds[k] == 0 && got == 0));
            CHECK(s.used < 1000);
        }
    CHECK(rm_random_below(NULL, 0) == 0);
    CHECK(rm_random_below(NULL, 1) == 0);
    CHECK(rm_random_below(NULL, 10) < 10);
}

/* >>hash ---------------------------------------------------------------------------------- */

/* SipHash-c-d as its paper writes it: for every word c rounds, at the end d. */
static uint64_t rotate(uint64_t x, int bits) {
    return x << bits | x >> (64 - bits);
}

static void sip_rounds(uint64_t v[4], int rounds) {
    while (rounds-- > 0) {
        v[0] += v[1], v[1] = rotate(v[1], 13), v[1] ^= v[0], v[0] = rotate(v[0], 32);
        v[2] += v[3], v[3] = rotate(v[3], 16), v[3] ^= v[2];
        v[0] += v[3], v[3] = rotate(v[3], 21), v[3] ^= v[0];
        v[2] += v[1], v[1] = rotate(v[1], 17), v[1] ^= v[2], v[2] = rotate(v[2], 32);
    }
}

static uint64_t sip(int c, int d, rm_hash_key key, const unsigned char *data, size_t size) {
    uint64_t v[4];
    v[0] = key.k0 ^ UINT64_C(0x736f6d6570736575);
    v[1] = key.k1 ^ UINT64_C(0x646f72616e646f6d);
    v[2] = key.k0 ^ UINT64_C(0x6c7967656e657261);
    v[3] = key.k1 ^ UINT64_C(0x7465646279746573);
    for (size_t at = 0; at / 8 <= size / 8; at += 8) {
        uint64_t word = 0;
        for (size_t i = 0; i < 8; ++i)
            if (at + i < size) word |= (uint64_t)data[at + i] << 8 * i;
        if (at / 8 == size / 8) word |= (uint64_t)(size & 255) << 56;
        v[3] ^= word;
        sip_rounds(v, c);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    sip_rounds(v, d);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static const rm_hash_key counting_key = {UINT64_C(0x0706050403020100),
                                         UINT64_C(0x0f0e0d0c0b0a0908)};

/* Published values for the key 00 01 .. 0f and the message 00 01 .. of each length. */
static const uint64_t published_13[64] = {
    UINT64_C(0xabac0158050fc4dc), UINT64_C(0xc9f49bf37d57ca93), UINT64_C(0x82cb9b024dc7d44d),
    UINT64_C(0x8bf80ab8e7ddf7fb), UINT64_C(0xcf75576088d38328), UINT64_C(0xdef9d52f49533b67),
    UINT64_C(0xc50d2b50c59f22a7), UINT64_C(0xd3927d989bb11140), UINT64_C(0x369095118d299a8e),
    UINT64_C(0x25a48eb36c063de4), UINT64_C(0x79de85ee92ff097f), UINT64_C(0x70c118c1f94dc352),
    UINT64_C(0x78a384b157b4d9a2), UINT64_C(0x306f760c1229ffa7), UINT64_C(0x605aa111c0f95d34),
    UINT64_C(0xd320d86d2a519956), UINT64_C(0xcc4fdd1a7d908b66), UINT64_C(0x9cf2689063dbd80c),
    UINT64_C(0x8ffc389cb473e63e), UINT64_C(0xf21f9de58d297d1c), UINT64_C(0xc0dc2f46a6cce040),
    UINT64_C(0xb992abfe2b45f844), UINT64_C(0x7ffe7b9ba320872e), UINT64_C(0x525a0e7fdae6c123),
    UINT64_C(0xf464aeb267349c8c), UINT64_C(0x45cd5928705b0979), UINT64_C(0x3a3e35e3ca9913a5),
    UINT64_C(0xa91dc74e4ade3b35), UINT64_C(0xfb0bed02ef6cd00d), UINT64_C(0x88d93cb44ab1e1f4),
    UINT64_C(0x540f11d643c5e663), UINT64_C(0x2370dd1f8c21d1bc), UINT64_C(0x81157b6c16a7b60d),
    UINT64_C(0x4d54b9e57a8ff9bf), UINT64_C(0x759f12781f2a753e), UINT64_C(0xcea1a3bebf186b91),
    UINT64_C(0x2cf508d3ada26206), UINT64_C(0xb6101c2da3c33057), UINT64_C(0xb3f47496ae3a36a1),
    UINT64_C(0x626b57547b108392), UINT64_C(0xc1d2363299e41531), UINT64_C(0x667cc1923f1ad944),
    UINT64_C(0x65704ffec8138825), UINT64_C(0x24f280d1c28949a6), UINT64_C(0xc2ca1cedfaf8876b),
    UINT64_C(0xc2164bfc9f042196), UINT64_C(0xa16e9c9368b1d623), UINT64_C(0x49fb169c8b5114fd),
    UINT64_C(0x9f3143f8df074c46), UINT64_C(0xc6fdaf2412cc86b3), UINT64_C(0x7eaf49d10a52098f),
    UINT64_C(0x1cf313559d292f9a), UINT64_C(0xc44a30dda2f41f12), UINT64_C(0x36fae98943a71ed0),
    UINT64_C(0x318fb34c73f0bce6), UINT64_C(0xa27abf3670a7e980), UINT64_C(0xb4bcc0db243c6d75),
    UINT64_C(0x23f8d852fdb71513), UINT64_C(0x8f035f4da67d8a08), UINT64_C(0xd89cd0e5b7e8f148),
    UINT64_C(0xf6f4e6bcf7a644ee), UINT64_C(0xaec59ad80f1837f2), UINT64_C(0xc3b2f6154b6694e0),
    UINT64_C(0x9d199062b7bbb3a8),
};

TEST(hash, reference_of_this_test_is_right) {
    unsigned char message[64];
    for (int i = 0; i < 64; ++i)
        message[i] = (unsigned char)i;
    CHECK(sip(2, 4, counting_key, message, 0) == UINT64_C(0x726fdb47dd0e0e31));
    CHECK(sip(2, 4, counting_key, message, 8) == UINT64_C(0x93f5f5799a932462));
    CHECK(sip(2, 4, counting_key, message, 15) == UINT64_C(0xa129ca6149be45e5)); /* the paper's */
    for (size_t size = 0; size < 64; ++size)
        CHECK(sip(1, 3, counting_key, message, size) == published_13[size]);
}

TEST(hash, is_siphash_1_3) {
    unsigned char message[64];
    for (int i = 0; i < 64; ++i)
        message[i] = (unsigned char)i;
    for (size_t size = 0; size < 64; ++size)
        CHECK(rm_hash(&counting_key, message, size) == published_13[size]);
}

TEST(hash, does_not_care_for_alignment_or_length) {
    unsigned char message[600 + 8];
    rm_rng rng;
    rm_hash_key key;
    rm_rng_seed(&rng, 13);
    for (size_t i = 0; i < sizeof message; ++i)
        message[i] = (unsigned char)rm_rng_next(&rng);
    for (size_t size = 0; size <= 600; size += size < 100 ? 1 : 37)
        for (size_t offset = 0; offset < 8; ++offset) {
            key.k0 = rm_rng_next(&rng);
            key.k1 = rm_rng_next(&rng);
            CHECK(rm_hash(&key, message + offset, size) == sip(1, 3, key, message + offset, size));
        }
}

TEST(hash, takes_null_for_a_zero_key_and_for_no_data) {
    const rm_hash_key zero = {0, 0};
    CHECK(rm_hash(NULL, "abc", 3) == rm_hash(&zero, "abc", 3));
    CHECK(rm_hash(&zero, NULL, 0) == rm_hash(&zero, "", 0));
    CHECK(rm_hash(&zero, NULL, SIZE_MAX) == rm_hash(&zero, "", 0));
    CHECK(rm_hash(&zero, NULL, 8) == rm_hash(&zero, "", 0));
    CHECK(rm_hash(&zero, NULL, 16) == rm_hash(&zero, "", 0));
}

TEST(hash, key_comes_from_the_hook) {
    static const uint64_t numbers[] = {11, 22};
    script s = {numbers, 2, 0};
    const rm_random random = {script_next, &s};
    rm_hash_key key = rm_hash_key_random(&random), other;
    CHECK(key.k0 == 11 && key.k1 == 22);
    key = rm_hash_key_random(NULL);
    other = rm_hash_key_random(NULL);
    CHECK(key.k0 != other.k0 && key.k1 != other.k1);
}

TEST_MAIN

/* The manager: start and stop in order, rollback, errors, status. */
#include "rm.h"
#include "rm_test.h"

#include <stdlib.h>

#define GET(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
#define SET(p, v) __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)

/* >>tools --------------------------------------------------------------------------------- */

enum { PARTS = 6 };

/* What the hooks did, such as "+a +b -b -a"; a failure is in capitals. */
static char diary[400];

static rm_virtual_clock time_machine;
static rm_clock fake;

/* A resource whose hooks write the diary and do as they are told. */
typedef struct part {
    char name[8];
    rm_status start_fails, stop_fails;
    bool silent;      /* fails without a record */
    int64_t takes_ns; /* for a start or a stop */
    rm_deadline deadline;
    int running;
    rm_health health;
} part;

static part parts[PARTS];

static rm_status act(part *p, rm_status fails, char sign, rm_deadline deadline, rm_error *error) {
    char entry[16];
    (void)snprintf(entry, sizeof entry, "%s%c%s", diary[0] == '\0' ? "" : " ", sign, p->name);
    if (fails != RM_OK && entry[strlen(entry) - 1] >= 'a')
        entry[strlen(entry) - 1] = (char)(entry[strlen(entry) - 1] - 'a' + 'A');
    (void)strncat(diary, entry, sizeof diary - strlen(diary) - 1);
    p->deadline = deadline;
    rm_virtual_clock_advance(&time_machine, p->takes_ns);
    if (fails == RM_OK || p->silent) return fails;
    return rm_error_set(error, fails, 42, "wire", "%s%c does not work", p->name, sign);
}

static rm_status start(void *user, rm_deadline deadline, rm_error *error) {
    part *p = (part *)user;
    CHECK_EQ(p->running, 0);
    p->running = p->start_fails == RM_OK;
    return act(p, p->start_fails, '+', deadline, error);
}

static rm_status stop(void *user, rm_deadline deadline, rm_error *error) {
    part *p = (part *)user;
    CHECK_EQ(p->running, 1); /* only what has started is stopped, and once */
    p->running = p->stop_fails != RM_OK;
    return act(p, p->stop_fails, '-', deadline, error);
}

static rm_health health(void *user, rm_error *reason) {
    part *p = (part *)user;
    if (p->health != RM_HEALTH_HEALTHY)
        (void)rm_error_set(reason, RM_E_FAILED, 0, p->name, "feels unwell");
    return p->health;
}

static rm_resource resource_of(part *p) {
    rm_resource resource = rm_resource_make(p->name, "part", p);
    resource.start_fn = start;
    resource.stop_fn = stop;
    resource.health_fn = health;
    return resource;
}

/* A manager of parts a, b, c ... on a virtual clock that stands at 1000. */
static rm_manager *build(int count) {
    const rm_env env = {NULL, &fake, NULL, NULL};
    rm_manager_desc desc;
    rm_manager *manager = NULL;
    if (!CHECK(rm_virtual_clock_init(&time_machine, 1000, true) == RM_OK)) exit(1);
    fake = rm_virtual_clock_clock(&time_machine);
    memset(&desc, 0, sizeof desc);
    desc.env = &env;
    if (!CHECK(rm_manager_create(&desc, &manager, NULL) == RM_OK)) exit(1);
    memset(parts, 0, sizeof parts);
    diary[0] = '\0';
    for (int i = 0; i < count; ++i) {
        rm_resource resource;
        parts[i].name[0] = (char)('a' + i);
        parts[i].health = RM_HEALTH_HEALTHY;
        resource = resource_of(&parts[i]);
        CHECK_EQ(rm_manager_add(manager, &resource, NULL), RM_OK);
    }
    return manager;
}

static void tear_down(rm_manager *manager) {
    CHECK_EQ(rm_manager_destroy(manager), RM_OK);
    for (int i = 0; i < PARTS; ++i)
        CHECK_EQ(parts[i].running, 0);
    rm_virtual_clock_destroy(&time_machine);
}

static rm_resource_status state_of(rm_manager *manager, uint32_t index) {
    rm_resource_status all[PARTS];
    uint32_t count = 0;
    memset(all, 0xAA, sizeof all);
    CHECK_EQ(rm_manager_status(manager, all, PARTS, &count), RM_OK);
    CHECK(index < count);
    return all[index];
}

/* >>start and stop ------------------------------------------------------------------------ */

TEST(manager, starts_in_order_and_stops_in_reverse) {
    rm_manager *manager = build(4);
    rm_errors errors;
    memset(&errors, 0xAA, sizeof errors);
    CHECK_EQ(rm_manager_start(manager, 0, &errors), RM_OK);
    CHECK_STR(diary, "+a +b +c +d");
    CHECK(errors.count == 0 && errors.dropped == 0);
    CHECK_EQ(rm_manager_stop(manager, 0, &errors), RM_OK);
    CHECK_STR(diary, "+a +b +c +d -d -c -b -a");
    CHECK(errors.count == 0 && errors.dropped == 0);
    diary[0] = '\0';
    CHECK_EQ(rm_manager_start(manager, RM_FOREVER, NULL), RM_OK); /* and again */
    CHECK_EQ(rm_manager_stop(manager, RM_FOREVER, NULL), RM_OK);
    CHECK_STR(diary, "+a +b +c +d -d -c -b -a");
    tear_down(manager);
}

TEST(manager, without_resources_starts_and_stops) {
    rm_manager *manager = build(0);
    uint32_t count = 7;
    CHECK_EQ(rm_manager_start(manager, 0, NULL), RM_OK);
    CHECK_EQ(rm_manager_status(manager, NULL, 0, &count), RM_OK);
    CHECK_EQ(count, 0);
    CHECK_EQ(rm_manager_stop(manager, 0, NULL), RM_OK);
    tear_down(manager);
}

TEST(manager, takes_resources_without_hooks) {
    rm_manager *manager = build(0);
    rm_resource resource = rm_resource_make("quiet", NULL, NULL);
    CHECK_EQ(rm_manager_add(manager, &resource, NULL), RM_OK);
    CHECK_EQ(rm_manager_start(manager, 0, NULL), RM_OK);
    CHECK(state_of(manager, 0).health == RM_HEALTH_HEALTHY);
    CHECK_STR(state_of(manager, 0).kind, "");
    CHECK_EQ(rm_manager_stop(manager, 0, NULL), RM_OK);
    tear_down(manager);
}

TEST(manager, hands_one_deadline_to_every_hook) {
    rm_manager *manager = build(2);
    CHECK_EQ(rm_manager_start(manager, 0, NULL), RM_OK);
    CHECK(parts[0].deadline.at_ns == 1000 + RM_SEC(30) &&
          parts[1].deadline.at_ns == 1000 + RM_SEC(30));
    CHECK_EQ(rm_manager_stop(manager, 0, NULL), RM_OK);
    CHECK(parts[0].deadline.at_ns == 1000 + RM_SEC(8) &&
          parts[1].deadline.at_ns == 1000 + RM_SEC(8));
    CHECK_EQ(rm_manager_start(manager, 55, NULL), RM_OK);
    CHECK(parts[0].deadline.at_ns == 1055 && parts[1].deadline.at_ns == 1055);
    CHECK_EQ(rm_manager_stop(manager, RM_FOREVER, NULL), RM_OK);
    CHECK(!rm_deadline_passed(&fake, parts[0].deadline));
    CHECK_EQ(rm_deadline_left(&fake, parts[0].deadline), RM_FOREVER);
    tear_down(manager);
}

TEST(manager, rolls_back_whichever_start_fails) {
    static const char *const expected[] = {"+A", "+a +B -a", "+a +b +C -b -a",
                                           "+a +b +c +D -c -b -a"};
    for (int k = 0; k < 4; ++k)
        for (int silent = 0; silent < 2; ++silent) {
            rm_manager *manager = build(4);
            rm_errors errors;
            memset(&errors, 0xAA, sizeof errors);
            parts[k].start_fails = RM_E_REFUSED;
            parts[k].silent = silent != 0;
            CHECK_EQ(rm_manager_start(manager, 0, &errors), RM_E_REFUSED);
            CHECK_STR(diary, expected[k]);
            CHECK(errors.count == 1 && errors.dropped == 0);
            CHECK_EQ(errors.items[0].status, RM_E_REFUSED);
            CHECK_EQ(errors.items[0].native, silent ? 0 : 42);
            CHECK_STR(errors.items[0].where, silent ? parts[k].name : "wire");
            CHECK(errors.items[0].message[0] != '\0');
            for (int i = 0; i < 4; ++i)
                CHECK_EQ(state_of(manager, (uint32_t)i).state, i < k    ? RM_STATE_STOPPED
                                                               : i == k ? RM_STATE_FAILED
                                                                        : RM_STATE_REGISTERED);
            parts[k].start_fails = RM_OK; /* it can be tried again */
            diary[0] = '\0';
            CHECK_EQ(rm_manager_start(manager, 0, &errors), RM_OK);
            CHECK_STR(diary, "+a +b +c +d");
            CHECK_EQ(errors.count, 0);
            CHECK_EQ(rm_manager_stop(manager, 0, NULL), RM_OK);
            tear_down(manager);
        }
}

TEST(manager, starts_nothing_more_when_the_time_is_over) {
    static const char *const expected[] = {"+a -a", "+a +b -b -a", "+a +b +c -c -b -a"};
    for (int k = 0; k < 3; ++k) {
        rm_manager *manager = build(4);
        rm_errors errors;
        parts[k].takes_ns = 100; /* the k-th start takes all of it */
        CHECK_EQ(rm_manager_start(manager, 100, &errors), RM_E_TIMEOUT);
        CHECK_STR(diary, expected[k]);
        CHECK_EQ(errors.count, 1);
        CHECK_EQ(errors.items[0].status, RM_E_TIMEOUT);
        CHECK_STR(errors.items[0].where, parts[k + 1].name);
        CHECK_EQ(state_of(manager, (uint32_t)k + 1).state, RM_STATE_FAILED);
        tear_down(manager);
    }
}

TEST(manager, gives_the_rollback_time_of_its_own) {
    rm_manager *manager = build(2);
    parts[0].takes_ns = 100;
    CHECK_EQ(rm_manager_start(manager, 100, NULL), RM_E_TIMEOUT);
    CHECK_STR(diary, "+a -a");
    CHECK_EQ(parts[0].deadline.at_ns, 1100 + RM_SEC(8));
    tear_down(manager);
}

TEST(manager, is_content_when_the_last_start_ends_late) {
    rm_manager *manager = build(2);
    parts[1].takes_ns = 500;
    CHECK_EQ(rm_manager_start(manager, 100, NULL), RM_OK);
    CHECK_EQ(rm_manager_stop(manager, 0, NULL), RM_OK);
    tear_down(manager);
}

TEST(manager, starts_nothing_without_time) {
    rm_manager *manager = build(2);
    CHECK_EQ(rm_manager_start(manager, RM_NOWAIT, NULL), RM_E_TIMEOUT);
    CHECK_STR(diary, "");
    tear_down(manager);
}

TEST(manager, gives_every_stop_its_call_when_the_time_is_over) {
    rm_manager *manager = build(4);
    rm_errors errors;
    CHECK_EQ(rm_manager_start(manager, 0, NULL), RM_OK);
    diary[0] = '\0';
    for (int i = 0; i < 4; ++i)
        parts[i].takes_ns = RM_SEC(60);
    parts[2].stop_fails = RM_E_TIMEOUT;
    parts[0].stop_fails = RM_E_SYSTEM;
    parts[0].silent = true;
    CHECK_EQ(rm_manager_stop(manager, 10, &errors), RM_E_TIMEOUT);
    CHECK_STR(diary, "-d -C -b -A");
    CHECK(errors.count == 2 && errors.dropped == 0);
    CHECK_EQ(errors.items[0].status, RM_E_TIMEOUT);
    CHECK_STR(errors.items[0].message, "c- does not work");
    CHECK_EQ(errors.items[1].status, RM_E_SYSTEM);
    CHECK_STR(errors.items[1].where, "a");
    CHECK_EQ(state_of(manager, 0).state, RM_STATE_FAILED);
    CHECK_EQ(state_of(manager, 1).state, RM_STATE_STOPPED);
    CHECK_EQ(state_of(manager, 2).state, RM_STATE_FAILED);
    CHECK_EQ(rm_manager_start(manager, 0, &errors), RM_E_STATE); /* two of them still run */
    parts[0].stop_fails = parts[2].stop_fails = RM_OK;
    CHECK_EQ(rm_manager_stop(manager, 0, &errors), RM_OK); /* only what has not stopped yet */
    CHECK_STR(diary, "-d -C -b -A -c -a");
    CHECK_EQ(rm_manager_stop(manager, 0, &errors), RM_OK);
    CHECK_STR(diary, "-d -C -b -A -c -a");
    CHECK_EQ(state_of(manager, 0).state, RM_STATE_STOPPED);
    tear_down(manager);
}

TEST(manager, lists_the_cause_first_and_then_what_failed_in_the_rollback) {
    rm_manager *manager = build(4);
    rm_errors errors;
    parts[3].start_fails = RM_E_AUTH;
    parts[2].stop_fails = RM_E_SYSTEM;
    parts[0].stop_fails = RM_E_PROTOCOL;
    CHECK_EQ(rm_manager_start(manager, 0, &errors), RM_E_AUTH);
    CHECK_STR(diary, "+a +b +c +D -C -b -A");
    CHECK_EQ(errors.count, 3);
    CHECK_EQ(errors.items[0].status, RM_E_AUTH);
    CHECK_EQ(errors.items[1].status, RM_E_SYSTEM);
    CHECK_EQ(errors.items[2].status, RM_E_PROTOCOL);
    for (int k = 0; k < PARTS; ++k)
        parts[k].stop_fails = RM_OK;
    CHECK_EQ(rm_manager_stop(manager, 0, NULL), RM_OK); /* what did not stop before stops now */
    tear_down(manager);
}

static rm_status fail_to_stop(void *user, rm_deadline deadline, rm_error *error) {
    (void)user, (void)deadline;
    return rm_error_set(error, RM_E_FAILED, *(const int *)user, "one", "of many");
}

TEST(manager, counts_the_failures_that_do_not_fit) {
    static int numbers[RM_ERRORS_MAX + 4];
    static char names[RM_ERRORS_MAX + 4][16];
    rm_manager *manager = build(0);
    rm_errors errors;
    for (int i = 0; i < RM_ERRORS_MAX + 4; ++i) {
        rm_resource resource = rm_resource_make(names[i], "many", &numbers[i]);
        numbers[i] = i;
        (void)snprintf(names[i], sizeof names[i], "n%d", i);
        resource.stop_fn = fail_to_stop;
        CHECK_EQ(rm_manager_add(manager, &resource, NULL), RM_OK);
    }
    CHECK_EQ(rm_manager_start(manager, 0, NULL), RM_OK);
    CHECK_EQ(rm_manager_stop(manager, 0, &errors), RM_E_FAILED);
    CHECK(errors.count == RM_ERRORS_MAX && errors.dropped == 4);
    CHECK_EQ(errors.items[0].native, RM_ERRORS_MAX + 3); /* the last one was stopped first */
    tear_down(manager);
}

TEST(manager, record_has_the_status_that_the_hook_returned) {
    rm_manager *manager = build(1);
    rm_errors errors;
    parts[0].start_fails = (rm_status)99;
    CHECK_EQ(rm_manager_start(manager, 0, &errors), 99);
    CHECK_EQ(errors.items[0].status, 99);
    tear_down(manager);
}

TEST(manager, says_in_the_list_why_it_refused_a_call) {
    rm_manager *manager = build(1);
    rm_errors errors;
    memset(&errors, 0, sizeof errors);
    CHECK_EQ(rm_manager_start(manager, RM_NONE, &errors), RM_E_INVALID);
    CHECK(errors.count == 1 && errors.items[0].status == RM_E_INVALID);
    CHECK_EQ(rm_manager_start(manager, 0, NULL), RM_OK);
    CHECK_EQ(rm_manager_start(manager, 0, &errors), RM_E_STATE);
    CHECK(errors.count == 1 && errors.items[0].status == RM_E_STATE);
    CHECK(errors.items[0].message[0] != '\0');
    CHECK_EQ(rm_manager_stop(manager, -77, &errors), RM_E_INVALID);
    CHECK(errors.count == 1 && errors.items[0].status == RM_E_INVALID);
    CHECK_EQ(rm_manager_stop(NULL, 0, &errors), RM_E_INVALID);
    CHECK(errors.count == 1 && errors.items[0].status == RM_E_INVALID);
    CHECK_EQ(rm_manager_stop(manager, 0, NULL), RM_OK);
    CHECK_STR(diary, "+a -a");
    tear_down(manager);
}

/* >>state rules --------------------------------------------------------------------------- */

TEST(manager, stops_once_however_often_it_is_asked) {
    rm_manager *manager = build(1);
    CHECK_EQ(rm_manager_stop(manager, 0, NULL), RM_OK); /* never started */
    CHECK_EQ(rm_manager_start(manager, 0, NULL), RM_OK);
    CHECK_EQ(rm_manager_stop(manager, 0, NULL), RM_OK);
    CHECK_EQ(rm_manager_stop(manager, 0, NULL), RM_OK);
    CHECK_EQ(rm_manager_stop(manager, RM_NOWAIT, NULL), RM_OK);
    CHECK_STR(diary, "+a -a");
    tear_down(manager);
}

/* A resource whose hooks call the manager. */
static rm_manager *self;
static int calls;

static void call_the_manager(void) {
    rm_resource resource = rm_resource_make("new", "part", NULL), found;
    rm_resource_status status;
    uint32_t count;
    ++calls;
    CHECK_EQ(rm_manager_start(self, 0, NULL), RM_E_STATE);
    CHECK_EQ(rm_manager_stop(self, 0, NULL), RM_E_STATE);
    CHECK_EQ(rm_manager_destroy(self), RM_E_STATE);
    CHECK_EQ(rm_manager_add(self, &resource, NULL), RM_E_STATE);
    CHECK_EQ(rm_manager_get(self, "busy", &found), RM_OK);
    CHECK_EQ(rm_manager_status(self, &status, 1, &count), RM_OK);
    CHECK(status.state == RM_STATE_STARTING || status.state == RM_STATE_STOPPING);
}

static rm_status busy_hook(void *user, rm_deadline deadline, rm_error *error) {
    (void)user, (void)deadline, (void)error;
    call_the_manager();
    return RM_OK;
}

static rm_health busy_health(void *user, rm_error *reason) {
    rm_resource found;
    (void)user, (void)reason;
    CHECK_EQ(rm_manager_get(self, "busy", &found), RM_OK); /* no lock is held here either */
    return RM_HEALTH_HEALTHY;
}

TEST(manager, hooks_may_call_it_and_get_a_status) {
    rm_resource resource = rm_resource_make("busy", "part", NULL);
    uint32_t count;
    rm_resource_status status;
    self = build(0);
    calls = 0;
    resource.start_fn = busy_hook;
    resource.stop_fn = busy_hook;
    resource.health_fn = busy_health;
    CHECK_EQ(rm_manager_add(self, &resource, NULL), RM_OK);
    CHECK_EQ(rm_manager_start(self, 0, NULL), RM_OK);
    CHECK_EQ(rm_manager_status(self, &status, 1, &count), RM_OK);
    CHECK_EQ(rm_manager_stop(self, 0, NULL), RM_OK);
    CHECK_EQ(calls, 2);
    tear_down(self);
}

TEST(manager, refuses_what_does_not_fit_its_state) {
    rm_resource resource = rm_resource_make("late", "part", NULL);
    rm_manager *manager = build(1);
    rm_error error;
    memset(&error, 0xAA, sizeof error);
    CHECK_EQ(rm_manager_start(manager, 0, NULL), RM_OK);
    CHECK_EQ(rm_manager_start(manager, 0, NULL), RM_E_STATE);
    CHECK_EQ(rm_manager_destroy(manager), RM_E_STATE);
    CHECK_EQ(rm_manager_add(manager, &resource, &error), RM_E_STATE);
    CHECK(error.status == RM_E_STATE && strstr(error.message, "ready") != NULL);
    CHECK_STR(error.where, "late");
    CHECK_EQ(error.native, 0);
    CHECK_EQ(rm_manager_stop(manager, 0, NULL), RM_OK);
    CHECK_EQ(rm_manager_add(manager, &resource, NULL), RM_OK); /* between two runs it may be */
    CHECK_EQ(rm_manager_start(manager, 0, NULL), RM_OK);
    CHECK_EQ(rm_manager_stop(manager, 0, NULL), RM_OK);
    tear_down(manager);
}

/* A stop hook that stays in until it is let go. */
static int inside, let_go;

static rm_status linger(void *user, rm_deadline deadline, rm_error *error) {
    const int64_t since = rm_now(NULL);
    (void)user, (void)deadline, (void)error;
    SET(&inside, 1);
    while (GET(&let_go) == 0 && rm_now(NULL) - since < RM_SEC(60))
        (void)rm_sleep(NULL, 1000, NULL);
    return RM_OK;
}

typedef struct stopper {
    rm_thread thread;
    rm_manager *manager;
    rm_status status;
} stopper;

/* A health hook that stays in as well, and tries to stop its manager. */
static rm_manager *ill;

static rm_health linger_health(void *user, rm_error *reason) {
    rm_errors errors;
    rm_deadline none = {0};
    (void)reason;
    CHECK_EQ(rm_manager_stop(ill, 0, &errors), RM_E_STATE);
    CHECK_EQ(rm_manager_start(ill, 0, &errors), RM_E_STATE);
    (void)linger(user, none, NULL);
    return RM_HEALTH_HEALTHY;
}

static void ask_for_status(void *user) {
    rm_resource_status status;
    uint32_t count;
    (void)user;
    CHECK_EQ(rm_manager_status(ill, &status, 1, &count), RM_OK);
    CHECK_EQ(status.state, RM_STATE_READY);
    CHECK_EQ(status.health, RM_HEALTH_HEALTHY);
}

TEST(manager, stop_waits_for_a_health_hook_up_to_its_deadline) {
    rm_resource resource = rm_resource_make("slow", "part", NULL);
    rm_thread thread;
    rm_errors errors;
    ill = NULL;
    REQUIRE(rm_manager_create(NULL, &ill, NULL) == RM_OK);
    resource.health_fn = linger_health;
    SET(&inside, 0);
    SET(&let_go, 0);
    CHECK_EQ(rm_manager_add(ill, &resource, NULL), RM_OK);
    CHECK_EQ(rm_manager_start(ill, 0, NULL), RM_OK);
    REQUIRE(rm_thread_start(&thread, ask_for_status, NULL) == RM_OK);
    while (GET(&inside) == 0)
        (void)rm_sleep(NULL, 1000, NULL);
    CHECK_EQ(rm_manager_stop(ill, RM_MS(5), &errors), RM_E_TIMEOUT);
    CHECK_STR("slow", errors.items[0].where);
    CHECK(strstr(errors.items[0].message, "health hook did not return") != NULL);
    SET(&let_go, 1);
    CHECK_EQ(rm_manager_stop(ill, RM_SEC(60), &errors), RM_OK);
    rm_thread_join(&thread);
    CHECK_EQ(rm_manager_destroy(ill), RM_OK);
}

static void stop_it(void *user) {
    stopper *s = (stopper *)user;
    s->status = rm_manager_stop(s->manager, 0, NULL);
}

TEST(manager, stop_is_called_once_though_two_threads_stop) {
    rm_resource resource = rm_resource_make("slow", "part", NULL);
    rm_manager *manager = build(1);
    stopper other;
    memset(&other, 0, sizeof other);
    SET(&inside, 0);
    SET(&let_go, 0);
    resource.stop_fn = linger;
    CHECK_EQ(rm_manager_add(manager, &resource, NULL), RM_OK);
    CHECK_EQ(rm_manager_start(manager, 0, NULL), RM_OK);
    other.manager = manager;
    REQUIRE(rm_thread_start(&other.thread, stop_it, &other) == RM_OK);
    while (GET(&inside) == 0)
        (void)rm_sleep(NULL, 1000, NULL);
    CHECK_EQ(rm_manager_stop(manager, 0, NULL), RM_E_STATE); /* the other one is at it */
    CHECK_EQ(rm_manager_start(manager, 0, NULL), RM_E_STATE);
    CHECK_EQ(rm_manager_destroy(manager), RM_E_STATE);
    CHECK_EQ(state_of(manager, 1).state, RM_STATE_STOPPING);
    CHECK_EQ(state_of(manager, 0).state, RM_STATE_READY);
    SET(&let_go, 1);
    rm_thread_join(&other.thread);
    CHECK_EQ(other.status, RM_OK);
    CHECK_EQ(rm_manager_stop(manager, 0, NULL), RM_OK);
    CHECK_STR(diary, "+a -a");
    tear_down(manager);
}

static rm_health health_of_running(void *user, rm_error *reason) {
    (void)reason;
    CHECK_EQ(((part *)user)->running, 1); /* it neither starts nor stops meanwhile */
    return RM_HEALTH_HEALTHY;
}

static void start_and_stop(void *user) {
    stopper *s = (stopper *)user;
    for (int i = 0; i < 200; ++i) {
        rm_resource_status all[PARTS];
        uint32_t count;
        rm_status status = rm_manager_start(s->manager, 0, NULL);
        if (status != RM_OK && status != RM_E_STATE) s->status = status;
        status = rm_manager_status(s->manager, all, PARTS, &count);
        if (status != RM_OK) s->status = status;
        status = rm_manager_stop(s->manager, 0, NULL);
        if (status != RM_OK && status != RM_E_STATE) s->status = status;
    }
}

TEST(manager, may_be_started_and_stopped_by_many_threads) {
    rm_manager *manager = build(0);
    stopper threads[4];
    for (int i = 0; i < 3; ++i) {
        rm_resource resource;
        parts[i].name[0] = (char)('a' + i);
        resource = resource_of(&parts[i]);
        resource.health_fn = health_of_running;
        CHECK_EQ(rm_manager_add(manager, &resource, NULL), RM_OK);
    }
    memset(threads, 0, sizeof threads);
    for (int i = 0; i < 4; ++i) {
        threads[i].manager = manager;
        REQUIRE(rm_thread_start(&threads[i].thread, start_and_stop, &threads[i]) == RM_OK);
    }
    for (int i = 0; i < 4; ++i) {
        rm_thread_join(&threads[i].thread);
        CHECK_EQ(threads[i].status, RM_OK);
    }
    CHECK_EQ(rm_manager_stop(manager, 0, NULL), RM_OK);
    tear_down(manager);
}

/* >>add and get --------------------------------------------------------------------------- */

static rm_status add_named(rm_manager *manager, const char *name, const char *kind,
                           rm_error *error) {
    const rm_resource resource = rm_resource_make(name, kind, NULL);
    return rm_manager_add(manager, &resource, error);
}

TEST(manager, takes_names_of_1_to_47_bytes_and_kinds_up_to_31) {
    static const char text[] = "0123456789012345678901234567890123456789012345678901234567890";
    rm_manager *manager = build(0);
    rm_resource found;
    rm_error error;
    memset(&error, 0, sizeof error);
    CHECK_EQ(add_named(manager, text + 60 - 46, "", NULL), RM_OK);            /* 47 */
    CHECK_EQ(add_named(manager, text + 60 - 47, "", &error), RM_E_TOO_LARGE); /* 48 */
    CHECK_EQ(error.status, RM_E_TOO_LARGE);
    CHECK_EQ(add_named(manager, text, "", NULL), RM_E_TOO_LARGE);
    CHECK_EQ(add_named(manager, "", "", &error), RM_E_INVALID);
    CHECK_EQ(add_named(manager, NULL, "", NULL), RM_E_INVALID);
    CHECK_EQ(add_named(manager, "x", text + 60 - 30, NULL), RM_OK);          /* 31 */
    CHECK_EQ(add_named(manager, "y", text + 60 - 31, NULL), RM_E_TOO_LARGE); /* 32 */
    CHECK_EQ(add_named(manager, "z", NULL, NULL), RM_OK);
    CHECK_EQ(rm_manager_get(manager, text + 60 - 46, &found), RM_OK);
    CHECK_STR(found.name, text + 60 - 46);
    CHECK_EQ(rm_manager_get(manager, "x", &found), RM_OK);
    CHECK_STR(found.kind, text + 60 - 30);
    CHECK_EQ(rm_manager_get(manager, "y", &found), RM_E_NOT_FOUND);
    tear_down(manager);
}

TEST(manager, refuses_a_name_that_is_taken) {
    rm_manager *manager = build(1);
    rm_error error;
    memset(&error, 0, sizeof error);
    CHECK_EQ(add_named(manager, "a", "", &error), RM_E_EXISTS);
    CHECK_STR(error.where, "a");
    CHECK_EQ(add_named(manager, "A", "", NULL), RM_OK); /* another name */
    tear_down(manager);
}

TEST(manager, takes_as_many_as_max_resources) {
    rm_manager_desc desc;
    rm_manager *manager;
    rm_error error;
    memset(&desc, 0, sizeof desc);
    memset(&error, 0xAA, sizeof error);
    desc.max_resources = 2;
    REQUIRE(rm_manager_create(&desc, &manager, NULL) == RM_OK);
    CHECK_EQ(add_named(manager, "a", "", NULL), RM_OK);
    CHECK_EQ(add_named(manager, "b", "", NULL), RM_OK);
    CHECK_EQ(add_named(manager, "c", "", &error), RM_E_FULL);
    CHECK(strstr(error.message, "max_resources") != NULL && error.native == 0);
    CHECK_EQ(rm_manager_destroy(manager), RM_OK);
    REQUIRE(rm_manager_create(NULL, &manager, NULL) == RM_OK);
    for (int i = 0; i < 65; ++i) {
        char name[16];
        (void)snprintf(name, sizeof name, "%d", i);
        CHECK_EQ(add_named(manager, name, "", NULL), i < 64 ? RM_OK : RM_E_FULL);
    }
    CHECK_EQ(rm_manager_destroy(manager), RM_OK);
    desc.max_resources = 65535;
    REQUIRE(rm_manager_create(&desc, &manager, NULL) == RM_OK);
    CHECK_EQ(rm_manager_destroy(manager), RM_OK);
    desc.max_resources = 65536;
    CHECK_EQ(rm_manager_create(&desc, &manager, &error), RM_E_INVALID);
    CHECK_STR(error.where, "max_resources");
}

TEST(manager, finds_a_resource_by_name) {
    rm_manager *manager = build(3);
    rm_resource found;
    for (int i = 0; i < 3; ++i) {
        CHECK_EQ(rm_manager_get(manager, parts[i].name, &found), RM_OK);
        CHECK_STR(found.name, parts[i].name);
        CHECK_STR(found.kind, "part");
        CHECK(found.user == &parts[i] && found.start_fn == start && found.stop_fn == stop);
        CHECK(found.health_fn == health && found.stats_fn == NULL);
    }
    CHECK_EQ(rm_manager_get(manager, "d", &found), RM_E_NOT_FOUND);
    CHECK(found.user == &parts[2]); /* left alone */
    tear_down(manager);
}

TEST(manager, copies_the_strings_of_a_resource) {
    char name[8] = "first", kind[8] = "disk";
    rm_manager *manager = build(0);
    rm_resource found;
    CHECK_EQ(add_named(manager, name, kind, NULL), RM_OK);
    memset(name, 'x', sizeof name - 1);
    memset(kind, 'x', sizeof kind - 1);
    CHECK_EQ(rm_manager_get(manager, "first", &found), RM_OK);
    CHECK_STR(found.name, "first");
    CHECK_STR(found.kind, "disk");
    CHECK_EQ(rm_manager_get(manager, "xxxxx", &found), RM_E_NOT_FOUND);
    CHECK_STR(found.name, "first"); /* left alone */
    tear_down(manager);
}

/* >>status -------------------------------------------------------------------------------- */

TEST(manager, shows_state_and_health_of_all) {
    rm_manager *manager = build(3);
    rm_resource_status all[3];
    uint32_t count = 0;
    CHECK_EQ(state_of(manager, 0).state, RM_STATE_REGISTERED);
    CHECK_EQ(state_of(manager, 0).health, RM_HEALTH_UNKNOWN);
    CHECK_EQ(state_of(manager, 0).since_ns, 1000);
    rm_virtual_clock_advance(&time_machine, 5);
    parts[1].health = RM_HEALTH_UNHEALTHY;
    parts[2].health = RM_HEALTH_DEGRADED;
    CHECK_EQ(rm_manager_start(manager, 0, NULL), RM_OK);
    CHECK_EQ(rm_manager_status(manager, all, 3, &count), RM_OK);
    CHECK_EQ(count, 3);
    for (int i = 0; i < 3; ++i) {
        CHECK_STR(all[i].name, parts[i].name);
        CHECK_STR(all[i].kind, "part");
        CHECK(all[i].state == RM_STATE_READY && all[i].since_ns == 1005);
        CHECK_EQ(all[i].health, parts[i].health);
    }
    CHECK_EQ(all[0].last_error.status, RM_OK);
    CHECK_STR(all[1].last_error.message, "feels unwell");
    CHECK_STR(all[2].last_error.where, "c");
    CHECK_EQ(rm_manager_stop(manager, 0, NULL), RM_OK);
    CHECK_EQ(state_of(manager, 1).state, RM_STATE_STOPPED);
    CHECK_EQ(state_of(manager, 1).health, RM_HEALTH_UNKNOWN);
    tear_down(manager);
}

TEST(manager, remembers_why_a_start_failed) {
    rm_manager *manager = build(1);
    parts[0].start_fails = RM_E_REFUSED;
    CHECK_EQ(rm_manager_start(manager, 0, NULL), RM_E_REFUSED);
    CHECK_EQ(state_of(manager, 0).last_error.status, RM_E_REFUSED);
    CHECK_STR(state_of(manager, 0).last_error.message, "a+ does not work");
    tear_down(manager);
}

/* What a hook of the next test fails with; its status is RM_OK when it succeeds. */
static rm_error told[PARTS];
static rm_health told_health[PARTS];

static rm_status act_as_told(void *user, rm_deadline deadline, rm_error *error) {
    const rm_error *e = (const rm_error *)user;
    (void)deadline;
    if (e->message[0] != '\0') *error = *e; /* else it says nothing */
    return e->status;
}

static rm_health feel_as_told(void *user, rm_error *reason) {
    const rm_error *e = (const rm_error *)user;
    if (e->message[0] != '\0') *reason = *e;
    return told_health[e - told];
}

static void tell(int at, rm_health feels, rm_status status, int32_t native, const char *says) {
    told_health[at] = feels;
    (void)rm_error_set(&told[at], status, native, "wire", "%s", says);
}

static rm_manager *build_told(int count) {
    rm_manager *manager = build(0);
    for (int i = 0; i < count; ++i) {
        const char name[2] = {(char)('a' + i), '\0'};
        rm_resource resource = rm_resource_make(name, "part", &told[i]);
        resource.start_fn = resource.stop_fn = act_as_told;
        resource.health_fn = feel_as_told;
        tell(i, RM_HEALTH_HEALTHY, RM_OK, 0, "");
        CHECK_EQ(rm_manager_add(manager, &resource, NULL), RM_OK);
    }
    return manager;
}

static void check_status(rm_manager *manager, int at, rm_state state, rm_health feels,
                         int64_t since_ns) {
    const rm_resource_status now = state_of(manager, (uint32_t)at);
    CHECK_EQ(now.state, state);
    CHECK_EQ(now.health, feels);
    CHECK_EQ(now.since_ns, since_ns);
    CHECK_EQ(now.last_error.status, told[at].status);
    CHECK_EQ(now.last_error.native, told[at].native);
    CHECK_STR(now.last_error.where, told[at].message[0] == '\0' ? "" : "wire");
    CHECK_STR(now.last_error.message, told[at].message);
}

TEST(manager, shows_the_latest_cause_and_since_when) {
    char long_text[160];
    rm_manager *manager = build_told(1);
    memset(long_text, 'x', sizeof long_text);
    long_text[159] = '\0';
    tell(0, RM_HEALTH_HEALTHY, RM_E_REFUSED, 111, "nobody listens");
    CHECK_EQ(rm_manager_start(manager, 0, NULL), RM_E_REFUSED);
    check_status(manager, 0, RM_STATE_FAILED, RM_HEALTH_UNKNOWN, 1000);
    rm_virtual_clock_advance(&time_machine, 5);
    tell(0, RM_HEALTH_HEALTHY, RM_E_AUTH, -9, long_text);
    CHECK_EQ(rm_manager_start(manager, 0, NULL), RM_E_AUTH);
    check_status(manager, 0, RM_STATE_FAILED, RM_HEALTH_UNKNOWN, 1005);
    rm_virtual_clock_advance(&time_machine, 5);
    tell(0, RM_HEALTH_HEALTHY, RM_OK, 0, "");
    CHECK_EQ(rm_manager_start(manager, 0, NULL), RM_OK);
    CHECK_EQ(state_of(manager, 0).since_ns, 1010);
    tell(0, RM_HEALTH_UNHEALTHY, RM_OK, 0, ""); /* does not say why: not for that old reason */
    CHECK_EQ(state_of(manager, 0).last_error.status, RM_OK);
    rm_virtual_clock_advance(&time_machine, 5);
    tell(0, RM_HEALTH_DEGRADED, RM_E_BUSY, 7, "many wait");
    check_status(manager, 0, RM_STATE_READY, RM_HEALTH_DEGRADED, 1010); /* health is no state */
    tell(0, RM_HEALTH_HEALTHY, RM_E_FAILED, 8, "does not end");
    CHECK_EQ(rm_manager_stop(manager, 0, NULL), RM_E_FAILED);
    check_status(manager, 0, RM_STATE_FAILED, RM_HEALTH_UNKNOWN, 1015);
    tell(0, RM_HEALTH_HEALTHY, RM_OK, 0, "");
    CHECK_EQ(rm_manager_stop(manager, 0, NULL), RM_OK);
    tear_down(manager);
}

TEST(manager, shows_for_each_part_its_own_cause_until_it_is_over) {
    rm_manager *manager = build_told(4);
    CHECK_EQ(rm_manager_start(manager, 0, NULL), RM_OK);
    tell(0, RM_HEALTH_DEGRADED, RM_E_BUSY, 1, "many wait");
    tell(1, RM_HEALTH_UNHEALTHY, RM_OK, 0, ""); /* says nothing */
    tell(2, RM_HEALTH_UNHEALTHY, RM_E_CLOSED, 2, "closed");
    for (int i = 0; i < 4; ++i)
        check_status(manager, i, RM_STATE_READY, told_health[i], 1000);
    tell(0, RM_HEALTH_UNHEALTHY, RM_E_AUTH, 3, "password refused");
    tell(2, RM_HEALTH_HEALTHY, RM_OK, 0, "");
    for (int i = 0; i < 4; ++i)
        check_status(manager, i, RM_STATE_READY, told_health[i], 1000);
    tell(0, RM_HEALTH_HEALTHY, RM_OK, 0, "");
    check_status(manager, 0, RM_STATE_READY, RM_HEALTH_HEALTHY, 1000);
    CHECK_EQ(rm_manager_stop(manager, 0, NULL), RM_OK);
    tear_down(manager);
}

TEST(manager, fills_what_fits_and_counts_all) {
    rm_manager *manager = build(3);
    rm_resource_status all[3];
    uint32_t count = 0;
    memset(all, 0, sizeof all);
    CHECK_EQ(rm_manager_status(manager, all, 2, &count), RM_E_TOO_LARGE);
    CHECK_EQ(count, 3);
    CHECK_STR(all[1].name, "b");
    CHECK_STR(all[2].name, "");
    count = 0;
    CHECK_EQ(rm_manager_status(manager, NULL, 0, &count), RM_E_TOO_LARGE);
    CHECK_EQ(count, 3);
    tear_down(manager);
}

/* >>log ----------------------------------------------------------------------------------- */

static char log_lines[8][400];
static int logged;

static void take_line(const rm_log_event *event, void *user) {
    (void)user;
    if (logged < 8) log_lines[logged][rm_log_format(event, log_lines[logged], 399)] = '\0';
    ++logged;
}

TEST(manager, logs_every_change_of_state) {
    const rm_log log = {take_line, NULL, RM_LOG_DEFAULT};
    part p;
    rm_env env;
    rm_manager_desc desc;
    rm_resource resource;
    rm_manager *manager = build(0);
    tear_down(manager);
    memset(&p, 0, sizeof p);
    memset(&env, 0, sizeof env);
    memset(&desc, 0, sizeof desc);
    p.name[0] = 'p';
    env.log = &log;
    desc.env = &env;
    logged = 0;
    memset(log_lines, 0, sizeof log_lines);
    resource = resource_of(&p);
    REQUIRE(rm_manager_create(&desc, &manager, NULL) == RM_OK);
    CHECK_EQ(rm_manager_add(manager, &resource, NULL), RM_OK);
    REQUIRE(rm_virtual_clock_init(&time_machine, 0, true) == RM_OK); /* the hooks move it */
    CHECK_EQ(rm_manager_start(manager, 0, NULL), RM_OK);
    p.stop_fails = RM_E_SYSTEM;
    CHECK_EQ(rm_manager_stop(manager, 0, NULL), RM_E_SYSTEM);
    CHECK_EQ(logged, 4);
    CHECK(strstr(log_lines[0], "\"level\":\"info\"") != NULL);
    CHECK(strstr(log_lines[0], "\"resource\":\"p\",\"state\":\"starting\"}") != NULL);
    CHECK(strstr(log_lines[1], "\"state\":\"ready\"}") != NULL);
    CHECK(strstr(log_lines[2], "\"state\":\"stopping\"}") != NULL);
    CHECK(strstr(log_lines[3], "\"level\":\"error\"") != NULL);
    CHECK(strstr(log_lines[3], "\"state\":\"failed\",\"status\":\"RM_E_SYSTEM\",\"message\":\"p- "
                               "does not work\"}") != NULL);
    CHECK_EQ(rm_manager_destroy(manager), RM_OK);
    rm_virtual_clock_destroy(&time_machine);
}

/* >>misuse -------------------------------------------------------------------------------- */

static int fail_at;
static int64_t out_now;

static void *scarce_alloc(size_t size, void *user) {
    (void)user;
    if (--fail_at == 0) return NULL;
    out_now += (int64_t)size;
    return malloc(size);
}

static void scarce_free(void *pointer, size_t size, void *user) {
    (void)user;
    out_now -= (int64_t)size;
    free(pointer);
}

TEST(manager, survives_every_allocation_failing_in_turn) {
    const rm_allocator allocator = {scarce_alloc, scarce_free, NULL};
    const rm_env env = {&allocator, NULL, NULL, NULL};
    rm_manager_desc desc;
    int at = 0;
    rm_status status;
    memset(&desc, 0, sizeof desc);
    desc.env = &env;
    do {
        rm_manager *manager = NULL;
        rm_error error;
        memset(&error, 0, sizeof error);
        fail_at = ++at;
        status = rm_manager_create(&desc, &manager, &error);
        if (status == RM_OK) {
            CHECK_EQ(add_named(manager, "a", "", NULL), RM_OK);
            CHECK_EQ(rm_manager_destroy(manager), RM_OK);
        } else {
            CHECK(status == RM_E_NOMEM && error.status == RM_E_NOMEM && manager == NULL);
        }
        CHECK_EQ(out_now, 0);
    } while (status != RM_OK);
    CHECK_EQ(at, 3); /* two allocations */
}

TEST(manager, survives_null) {
    const rm_allocator half = {scarce_alloc, NULL, NULL};
    const rm_env env = {&half, NULL, NULL, NULL};
    rm_manager *manager = build(1), *other = NULL;
    rm_resource_status status;
    rm_manager_desc desc;
    rm_resource resource;
    rm_error error;
    uint32_t count;
    memset(&desc, 0, sizeof desc);
    desc.env = &env;
    CHECK_EQ(rm_manager_create(&desc, &other, &error), RM_E_INVALID);
    CHECK_STR(error.where, "env.allocator");
    CHECK_EQ(rm_manager_create(NULL, NULL, &error), RM_E_INVALID);
    CHECK_EQ(rm_manager_create(NULL, NULL, NULL), RM_E_INVALID);
    CHECK(other == NULL);
    CHECK_EQ(rm_manager_destroy(NULL), RM_OK);
    resource = rm_resource_make("x", NULL, NULL);
    CHECK_EQ(rm_manager_add(NULL, &resource, NULL), RM_E_INVALID);
    CHECK_EQ(rm_manager_add(manager, NULL, NULL), RM_E_INVALID);
    CHECK_EQ(rm_manager_get(NULL, "a", &resource), RM_E_INVALID);
    CHECK_EQ(rm_manager_get(manager, NULL, &resource), RM_E_INVALID);
    CHECK_EQ(rm_manager_get(manager, "a", NULL), RM_E_INVALID);
    CHECK_EQ(rm_manager_start(NULL, 0, NULL), RM_E_INVALID);
    CHECK_EQ(rm_manager_stop(NULL, 0, NULL), RM_E_INVALID);
    CHECK_EQ(rm_manager_start(manager, INT64_MIN, NULL), RM_E_INVALID);
    CHECK_EQ(rm_manager_stop(manager, RM_STRICT, NULL), RM_E_INVALID);
    CHECK_EQ(rm_manager_status(NULL, &status, 1, &count), RM_E_INVALID);
    CHECK_EQ(rm_manager_status(manager, &status, 1, NULL), RM_E_INVALID);
    CHECK_EQ(rm_manager_status(manager, NULL, 1, &count), RM_E_INVALID);
    CHECK_EQ(rm_manager_status(manager, &status, UINT32_MAX, &count), RM_OK);
    tear_down(manager);
}

TEST_MAIN

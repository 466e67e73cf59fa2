/* Schedules of the manager in rm.h. */
#define RM_IMPLEMENTATION
#include "rm.h"

#include "dst.h"

/* Relaxed, so that the test's own books order nothing for the code under test. */
#define COUNT(p) __atomic_add_fetch((p), 1, __ATOMIC_RELAXED)

/* ---- three things that the manager starts in order and stops in reverse */

enum { THINGS = 3 };
/* running is plain: hooks that run side by side are a race */
static struct thing { int number, running, starts, stops; } things[THINGS];
static rm_manager *manager;
static int things_count;

static void (*in_start)(void), (*in_stop)(void), (*in_health)(void);
static int64_t health_ns;
static int health_calls, seen_ready;

static rm_status start(void *user, rm_deadline deadline, rm_error *error) {
    struct thing *t = (struct thing *)user;
    (void)deadline;
    DST_CHECK(!t->running && (t->number == 0 || things[t->number - 1].running));
    if (in_start != NULL) in_start();
    if (dst_fault("start_fn")) return rm_error_set(error, RM_E_REFUSED, 7, "thing", "no start");
    t->running = 1;
    ++t->starts;
    return RM_OK;
}

static rm_status stop(void *user, rm_deadline deadline, rm_error *error) {
    struct thing *t = (struct thing *)user;
    (void)deadline;
    DST_CHECK(t->running);
    DST_CHECK(t->number + 1 == things_count || !things[t->number + 1].running || dst_faults() > 0);
    if (in_stop != NULL) in_stop();
    if (dst_fault("stop_fn")) return rm_error_set(error, RM_E_REFUSED, 7, "thing", "no stop");
    t->running = 0;
    ++t->stops;
    return RM_OK;
}

/* It reads what stop writes: beside a stop hook it would be a race. */
static rm_health health(void *user, rm_error *reason) {
    const struct thing *t = (const struct thing *)user;
    DST_CHECK(t->running);
    COUNT(&health_calls);
    if (in_health != NULL) in_health();
    if (health_ns > 0) (void)rm_sleep(NULL, health_ns, NULL);
    DST_CHECK(t->running);
    if (!dst_fault("health_fn")) return RM_HEALTH_HEALTHY;
    (void)rm_error_set(reason, RM_E_REFUSED, 7, "thing", "not well");
    return RM_HEALTH_UNHEALTHY;
}

static rm_resource thing(int number) {
    static const char *const names[] = {"a", "b", "c"};
    rm_resource resource = rm_resource_make(names[number], "thing", &things[number]);
    things[number].number = number;
    resource.start_fn = start;
    resource.stop_fn = stop;
    resource.health_fn = health;
    return resource;
}

/* Who sleeps in a stop, sleeps for a health hook that runs. */
static const char *overslept(void *user) {
    const rmi_visit *visit;
    (void)user;
    if (manager->phase != RM_STATE_STOPPING) return NULL;
    for (visit = manager->visits; visit != NULL; visit = visit->next)
        if (visit->entry != NULL) return NULL;
    return "a stop sleeps, and no health hook runs";
}

static void begin(int count) {
    rm_manager_desc desc = {NULL, THINGS};
    int i;
    things_count = count;
    DST_CHECK(rm_manager_create(&desc, &manager, NULL) == RM_OK);
    for (i = 0; i < count; ++i) {
        const rm_resource resource = thing(i);
        DST_CHECK(rm_manager_add(manager, &resource, NULL) == RM_OK);
    }
    dst_when_idle(overslept, NULL);
}

static void check_all(rm_state phase, int running) {
    uint32_t i;
    DST_CHECK(manager->phase == phase && manager->visits == NULL);
    for (i = 0; i < manager->count; ++i) {
        const rm_state state = manager->entries[i].state;
        DST_CHECK(manager->entries[i].running == running);
        DST_CHECK(running ? state == RM_STATE_READY
                          : state == RM_STATE_STOPPED || state == RM_STATE_REGISTERED);
        DST_CHECK(things[i].running == running && things[i].starts == things[i].stops + running);
    }
}

static void finish(void) {
    DST_CHECK(rm_manager_stop(manager, 0, NULL) == RM_OK);
    check_all(RM_STATE_STOPPED, 0);
    DST_CHECK(rm_manager_destroy(manager) == RM_OK);
}

/* ---- start and stop */

static int started, stopped;

/* A refusal is in the list as well. */
static bool done(rm_status status, const rm_errors *errors) {
    DST_CHECK(status == RM_OK || status == RM_E_STATE);
    DST_CHECK(errors->count == (status == RM_OK ? 0 : 1));
    DST_CHECK(status == RM_OK || errors->items[0].status == RM_E_STATE);
    return status == RM_OK;
}

static void start_all(int index) {
    rm_errors errors;
    (void)index;
    errors.count = 1; /* of a call before */
    if (done(rm_manager_start(manager, 0, &errors), &errors)) COUNT(&started);
}

static void stop_all(int index) {
    rm_errors errors;
    (void)index;
    errors.count = 1;
    if (done(rm_manager_stop(manager, 0, &errors), &errors)) COUNT(&stopped);
}

static void stop_and_start(int index) {
    stop_all(index);
    start_all(index);
}

DST(manager, starts_beside_stops) {
    void (*const threads[])(int) = {start_all, stop_and_start, stop_all};
    begin(2);
    dst_go(3, threads);
    DST_CHECK(started >= 1);
    if (manager->phase == RM_STATE_READY) check_all(RM_STATE_READY, 1);
    finish();
    DST_CHECK(things[0].starts == started && things[1].starts == started);
}

DST(manager, two_threads_stop_it) {
    void (*const threads[])(int) = {stop_all, stop_all, stop_all};
    begin(2);
    DST_CHECK(rm_manager_start(manager, 0, NULL) == RM_OK);
    dst_go(3, threads);
    DST_CHECK(stopped >= 1 && things[0].stops == 1 && things[1].stops == 1);
    finish();
}

static void refuse_to_start_and_stop(void) {
    DST_CHECK(rm_manager_start(manager, 0, NULL) == RM_E_STATE);
    DST_CHECK(rm_manager_stop(manager, 0, NULL) == RM_E_STATE);
    DST_CHECK(rm_manager_destroy(manager) == RM_E_STATE);
}

DST(manager, its_hooks_cannot_start_or_stop_it) {
    void (*const threads[])(int) = {stop_and_start, start_all};
    in_start = in_stop = refuse_to_start_and_stop;
    begin(1);
    dst_go(2, threads);
    finish();
}

/* ---- status */

static void look(int index) {
    rm_resource_status status[THINGS];
    uint32_t count = 0, i;
    (void)index;
    DST_CHECK(rm_manager_status(manager, status, THINGS, &count) == RM_OK);
    DST_CHECK(count == (uint32_t)things_count);
    for (i = 0; i < count; ++i) {
        DST_CHECK(status[i].name[0] == (char)('a' + (int)i));
        DST_CHECK((status[i].health == RM_HEALTH_HEALTHY) == (status[i].state == RM_STATE_READY));
        DST_CHECK(status[i].last_error.status == RM_OK);
        if (status[i].state == RM_STATE_READY) COUNT(&seen_ready);
    }
}

DST(manager, health_hooks_beside_start_and_stop) {
    void (*const threads[])(int) = {look, stop_and_start, look};
    begin(2);
    DST_CHECK(rm_manager_start(manager, 0, NULL) == RM_OK);
    dst_go(3, threads);
    check_all(RM_STATE_READY, 1);
    DST_CHECK(health_calls == seen_ready);
    look(0);
    DST_CHECK(health_calls == seen_ready && seen_ready >= 2);
    finish();
}

static void refuse_to_stop(void) {
    DST_CHECK(rm_manager_stop(manager, 0, NULL) == RM_E_STATE);
}

static void stop_until_done(int index) {
    while (rm_manager_stop(manager, RM_FOREVER, NULL) != RM_OK)
        dst_pass(RM_MS(1));
    (void)index;
}

DST(manager, a_health_hook_cannot_stop_it_while_another_thread_does) {
    void (*const threads[])(int) = {look, stop_until_done};
    in_health = refuse_to_stop;
    begin(1);
    DST_CHECK(rm_manager_start(manager, 0, NULL) == RM_OK);
    dst_go(2, threads);
    finish();
}

/* A stop that has less time than a health hook takes gives up; then it is called again. */
static void stop_soon(int index) {
    rm_errors errors;
    rm_status status;
    memset(&errors, 0, sizeof errors);
    status = rm_manager_stop(manager, RM_MS(1), &errors);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_TIMEOUT);
    DST_CHECK((status == RM_OK) == (errors.count == 0));
    if (status == RM_OK) return;
    DST_CHECK(errors.items[0].status == RM_E_TIMEOUT && things[0].running);
    DST_CHECK(rm_manager_start(manager, 0, NULL) == RM_E_STATE);
    DST_CHECK(rm_manager_stop(manager, RM_FOREVER, NULL) == RM_OK);
}

static void look_slowly(int index) {
    rm_resource_status status[THINGS];
    uint32_t count = 0;
    (void)index;
    DST_CHECK(rm_manager_status(manager, status, THINGS, &count) == RM_OK && count == 1);
}

DST(manager, a_stop_waits_for_a_health_hook_until_its_deadline) {
    void (*const threads[])(int) = {look_slowly, stop_soon, look_slowly};
    health_ns = RM_MS(1);
    begin(1);
    DST_CHECK(rm_manager_start(manager, 0, NULL) == RM_OK);
    dst_go(3, threads);
    check_all(RM_STATE_STOPPED, 0);
    finish();
}

/* ---- add */

static void add_third(int index) {
    const rm_resource resource = thing(2);
    const rm_status status = rm_manager_add(manager, &resource, NULL);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_STATE || status == RM_E_EXISTS);
    if (status != RM_OK) return;
    things_count = 3;
    DST_CHECK(rm_manager_add(manager, &resource, NULL) == RM_E_EXISTS);
}

static void find(int index) {
    rm_resource found;
    const rm_status status = rm_manager_get(manager, "c", &found);
    DST_CHECK(status == RM_OK || (status == RM_E_NOT_FOUND && index >= 0));
    if (status == RM_OK) DST_CHECK(found.user == &things[2] && found.name[0] == 'c');
}

static void find_and_look(int index) {
    rm_resource_status status[THINGS];
    uint32_t count = 0;
    find(index);
    DST_CHECK(rm_manager_status(manager, status, THINGS, &count) == RM_OK);
    DST_CHECK(count == 2 || (count == 3 && status[2].name[0] == 'c'));
}

DST(manager, a_resource_is_added_beside_get_and_status) {
    void (*const threads[])(int) = {find, add_third, find_and_look};
    begin(2);
    dst_go(3, threads);
    find(-1); /* now it is there */
    finish();
}

static void just_start(int index) {
    (void)index;
    DST_CHECK(rm_manager_start(manager, 0, NULL) == RM_OK);
}

static void add_before_it_starts(int index) {
    const rm_resource resource = thing(2);
    (void)index;
    things_count = 2; /* what stop asks of the order is not known here */
    if (rm_manager_add(manager, &resource, NULL) == RM_OK) COUNT(&started);
}

DST(manager, a_resource_is_added_before_the_start_or_not) {
    void (*const threads[])(int) = {just_start, add_before_it_starts};
    begin(2);
    dst_go(2, threads);
    things_count = 2 + started;
    DST_CHECK(manager->count == (uint32_t)things_count && things[2].running == started);
    finish();
}

/* ---- torture */

/* What went wrong, if anything did, is a failure that was injected. */
static bool held(rm_status status) {
    DST_CHECK(status == RM_OK || dst_faults() > 0);
    return status == RM_OK;
}

static void look_under_torture(int index) {
    rm_resource_status status[THINGS];
    uint32_t count = 0, i;
    (void)index;
    DST_CHECK(rm_manager_status(manager, status, THINGS, &count) == RM_OK && count == THINGS);
    for (i = 0; i < count; ++i) {
        const bool well =
            status[i].health == RM_HEALTH_HEALTHY || status[i].state != RM_STATE_READY;
        DST_CHECK(well || (dst_faults() > 0 && status[i].last_error.native == 7));
    }
}

static void stop_under_torture(int index) {
    rm_errors errors;
    rm_status status;
    (void)index;
    memset(&errors, 0, sizeof errors);
    status = rm_manager_stop(manager, RM_SEC(1), &errors);
    if (!held(status)) DST_CHECK(errors.items[0].status == status);
}

/* What failed to stop gets another call, until nothing fails any more or everything always does. */
static void stop_at_last(void) {
    int i;
    for (i = 0; i < 4; ++i)
        if (held(rm_manager_stop(manager, 0, NULL))) break;
}

DST_TORTURE(manager, survives_every_failure_of_its_life) {
    void (*const threads[])(int) = {look_under_torture, stop_under_torture};
    rm_resource_status seen[THINGS];
    rm_errors errors;
    rm_status status;
    uint32_t count = 0;
    int i;
    things_count = THINGS;
    if (!held(rm_manager_create(NULL, &manager, NULL))) {
        DST_CHECK(manager == NULL);
        return;
    }
    for (i = 0; i < THINGS; ++i) {
        const rm_resource resource = thing(i);
        DST_CHECK(rm_manager_add(manager, &resource, NULL) == RM_OK);
    }
    memset(&errors, 0, sizeof errors);
    status = rm_manager_start(manager, RM_SEC(1), &errors);
    if (!held(status)) {
        const rm_resource_status *failed = seen;
        DST_CHECK(rm_manager_status(manager, seen, THINGS, &count) == RM_OK && count == THINGS);
        while (failed->state != RM_STATE_FAILED || failed->last_error.status != status)
            DST_CHECK(++failed < seen + THINGS);
        DST_CHECK(errors.items[0].status == status && manager->phase == RM_STATE_STOPPED);
        stop_at_last(); /* what could not be stopped on the way back */
        status = rm_manager_start(manager, RM_SEC(1), NULL);
        (void)held(status);
    }
    dst_go(2, threads);
    stop_at_last();
    for (i = 0; i < THINGS; ++i)
        DST_CHECK(manager->entries[i].running == things[i].running);
    DST_CHECK(rm_manager_destroy(manager) == RM_OK);
}

/* Nobody has forked here: what could not be made anew is as it was, and can be ended. */
DST_TORTURE(manager, survives_every_failure_after_a_fork) {
    const rm_resource resource = thing(0);
    int i;
    if (!held(rm_manager_create(NULL, &manager, NULL))) return;
    DST_CHECK(rm_manager_add(manager, &resource, NULL) == RM_OK);
    (void)held(rm_manager_start(manager, 0, NULL));
    for (i = 0; i < 3; ++i)
        if (held(rm_manager_after_fork_child(manager))) break;
    DST_CHECK(manager->phase == RM_STATE_STOPPED && !manager->entries[0].running);
    DST_CHECK(rm_manager_destroy(manager) == RM_OK);
}

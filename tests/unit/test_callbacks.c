/* Every hook of every object calls every function of that object, and then returns, fails or has
   slept: no deadlock, a status that the function's comment names, an object that still works and
   nothing left.

   An object has scenes (how a hook comes to be called) and actions (what is called from inside it);
   the matrix is scenes x actions x outcomes.

   tests/misuse.py builds this file with a macro in front of every function, which notes what has
   been called in which action and hook, and compares that with the declarations.  A new hook needs
   a scene, named as "struct.field" or "function.parameter"; a new function needs an action that
   names it and calls it, or a reason in misuse.py to have none.  */
#include "rm_breaker.h"
#include "rm_cache.h"
#include "rm_metrics.h"
#include "rm_pool.h"
#include "rm_test.h"

#include <stdlib.h>
#ifndef _WIN32
#include <signal.h>
#include <unistd.h>
#endif

#define BIT(status) (1u << RM_##status)
#define COUNT(array) (sizeof(array) / sizeof *(array))

/* ---- the matrix ---- */

enum { RETURNS, FAILS, SLEEPS, OUTCOMES };

typedef struct scene {
    const char *name;
    const char *hook;      /* the one that is called in play */
    void (*prepare)(void); /* may be NULL */
    void (*play)(void);
    const char *without; /* an action that is undefined there; NULL = none, "" = all */
} scene;

typedef struct action {
    const char *name;
    rm_status (*call)(void);
    uint32_t allowed; /* statuses, a bit each */
} action;

typedef struct object {
    const char *name;
    void (*begin)(void);
    void (*end)(void);
    const scene *scenes;
    size_t scene_count;
    const action *actions;
    size_t action_count;
} object;

static struct {
    const object *object;
    const scene *scene;
    const action *action;
    int outcome;
    bool armed; /* the scene plays */
    int depth;  /* hooks of the action are not part of the matrix */
    unsigned entered;
    char cell[256];
} now;

static bool cell_check(bool ok, const char *what) {
    if (!ok && rm_test_report()) printf("# %s: %s\n", now.cell, what);
    return ok;
}

static bool is_one_of(rm_status status, uint32_t allowed) {
    return (uint32_t)status < 32 && (allowed >> (uint32_t)status & 1u);
}

/* Judges the call that called the hook. */
static void outer(rm_status status, uint32_t allowed) {
    char what[64];
    snprintf(what, sizeof what, "then returns %s itself", rm_status_name(status));
    cell_check(is_one_of(status, allowed), what);
}

/* What every hook does first.  Returns what the hook is to return. */
static rm_status in_hook(const char *hook);

#ifdef CALLED
/* A line for each call from inside a hook, for misuse.py. */
static void called(const char *function) {
    if (now.depth > 0)
        printf("%s|%s|%s|%s\n", now.object->name, now.scene->hook, now.action->name, function);
}
#include CALLED
#endif

/* ---- the environment: virtual time that a wait moves on, and memory that is counted ---- */

static int64_t time_ns;
static size_t live;

static int64_t read_time(void *user) {
    (void)user;
    return time_ns;
}

static rm_status sleep_virtually(int64_t ns, void *user) {
    (void)user;
    time_ns += ns;
    return RM_OK;
}

static void wait_virtually(rm_cond *cond, rm_mutex *mutex, int64_t until_ns, void *user) {
    (void)cond, (void)mutex, (void)user;
    if (until_ns == INT64_MAX) {
        printf("Bail out! %s: waits for ever\n", now.cell);
        fflush(stdout);
        abort();
    }
    if (time_ns < until_ns) time_ns = until_ns;
}

static void *count_alloc(size_t size, void *user) {
    (void)user;
    live += size;
    return malloc(size);
}

static void count_free(void *pointer, size_t size, void *user) {
    (void)user;
    live -= size;
    free(pointer);
}

static const rm_clock virtual_clock = {read_time,       read_time,      read_time,
                                       sleep_virtually, wait_virtually, NULL};
static const rm_allocator allocator = {count_alloc, count_free, NULL};
static const rm_env env = {&allocator, &virtual_clock, NULL, NULL};

static rm_status in_hook(const char *hook) {
    rm_status status;
    char what[64];
    if (!now.armed || now.depth > 0 || hook != now.scene->hook) return RM_OK;
    if (++now.entered > 2) return RM_OK; /* a visitor is called often: what is lent would run out */
    ++now.depth;
    if (now.outcome == SLEEPS) (void)rm_sleep(&virtual_clock, RM_MS(100), NULL);
    status = now.action->call();
    snprintf(what, sizeof what, "returns %s", rm_status_name(status));
    cell_check(is_one_of(status, now.action->allowed), what);
    --now.depth;
    return now.outcome == FAILS ? RM_E_FAILED : RM_OK;
}

static void run_cell(void) {
    static const char *const outcomes[] = {"returns", "fails", "slept"};
    snprintf(now.cell, sizeof now.cell, "%s calls %s, and %s", now.scene->name, now.action->name,
             outcomes[now.outcome]);
    now.entered = 0;
    live = 0;
    time_ns = RM_SEC(1000);
    now.object->begin();
    if (now.scene->prepare != NULL) now.scene->prepare();
    now.armed = true;
    now.scene->play();
    now.armed = false;
    cell_check(now.entered > 0, "the hook was not called");
    now.object->end();
    cell_check(live == 0, "memory is left");
}

#ifndef _WIN32
/* A deadlock: there is one thread only, so nobody will come. */
static void late(int signal_number) {
    static const char start[] = "\nBail out! deadlock: ";
    ssize_t written;
    (void)signal_number;
    written = write(1, start, sizeof start - 1);
    written = write(1, now.cell, strlen(now.cell));
    written = write(1, "\n", 1);
    (void)written;
    _exit(1);
}
#endif

static void run_matrix(const object *o) {
    size_t s, a, cells = 0;
    int outcome;
    now.object = o;
    for (s = 0; s < o->scene_count; ++s)
        for (a = 0; a < o->action_count; ++a) {
            const char *without = o->scenes[s].without;
            if (without != NULL && (without[0] == '\0' || !strcmp(without, o->actions[a].name)))
                continue;
            for (outcome = 0; outcome < OUTCOMES; ++outcome) {
                now.scene = &o->scenes[s];
                now.action = &o->actions[a];
                now.outcome = outcome;
#ifndef _WIN32
                signal(SIGALRM, late);
                alarm(60); /* for a busy machine: a cell takes microseconds */
#endif
                run_cell();
                ++cells;
            }
        }
#ifndef _WIN32
    alarm(0);
#endif
    printf("# %s: %u scenes x %u functions, %u cells\n", o->name, (unsigned)o->scene_count,
           (unsigned)o->action_count, (unsigned)cells);
}

/* ---- guards and statistics, which pool and cache share ---- */

static const char ADMIT[] = "rm_guard.admit_fn";
static const char REPORT[] = "rm_guard.report_fn";
static const char VISIT[] = "rm_stat_fn";

static rm_status guard_admit(rm_permit *permit, rm_error *error, void *user) {
    (void)permit, (void)error, (void)user;
    return in_hook(ADMIT);
}

static void guard_report(rm_permit *permit, rm_outcome how, void *user) {
    (void)permit, (void)how, (void)user;
    (void)in_hook(REPORT);
}

static const rm_guard guard = {guard_admit, guard_report, NULL};

static void visit_stat(const rm_stat *stat, void *user) {
    (void)stat, (void)user;
    (void)in_hook(VISIT);
}

static const rm_deadline none = {0};

/* ---- pool ---- */

static const char POOL_CREATE[] = "rm_pool_desc.create_fn";
static const char POOL_DESTROY[] = "rm_pool_desc.destroy_fn";
static const char POOL_VALIDATE[] = "rm_pool_desc.validate_fn";
static const char POOL_RESET[] = "rm_pool_desc.reset_fn";
static const char POOL_CLASSIFY[] = "rm_pool_desc.classify_fn";
static const char POOL_RECLAIM[] = "rm_pool_desc.reclaim_fn";
static const char POOL_EVENT[] = "rm_pool_desc.event_fn";
static const char POOL_USE[] = "rm_pool_with.use_fn";
static const char POOL_ACQUIRED[] = "rm_pool_acquire_async.acquired_fn";
static const char POOL_LEASES[] = "rm_pool_leases.fn";

enum { POOL_MAX = 4, REQUESTS = 64 };

static rm_pool *pool;
static rm_lease held, extra[POOL_MAX + 1];
static unsigned extras, made, ended;
static bool fail_create, fail_validate, fail_reset;
static int event_wanted; /* the kind of which event_fn is in play; -1 = all */
static bool reclaimed;   /* a lease may be stale */
static rm_pool_request requests[REQUESTS];
static unsigned requests_used, requests_done;

static rm_status pool_create(void **resource, rm_deadline deadline, rm_error *error, void *user) {
    const rm_status status = in_hook(POOL_CREATE);
    (void)deadline, (void)error, (void)user;
    if (status != RM_OK || fail_create) return RM_E_FAILED;
    *resource = &made;
    ++made;
    return RM_OK;
}

static void pool_destroy(void *resource, void *user) {
    (void)resource, (void)user;
    (void)in_hook(POOL_DESTROY);
    ++ended;
}

static rm_status pool_validate(void *resource, void *user) {
    const rm_status status = in_hook(POOL_VALIDATE);
    (void)resource, (void)user;
    return fail_validate ? RM_E_FAILED : status;
}

static rm_status pool_reset(void *resource, void *user) {
    const rm_status status = in_hook(POOL_RESET);
    (void)resource, (void)user;
    return fail_reset ? RM_E_FAILED : status;
}

static rm_release pool_classify(void *resource, const rm_error *result, void *user) {
    (void)resource, (void)user;
    cell_check(result->status != RM_OK, "classify_fn without a failure");
    return in_hook(POOL_CLASSIFY) == RM_OK ? RM_RELEASE_FAILED : RM_RELEASE_BROKEN;
}

static void pool_reclaim(void *resource, void *user) {
    (void)resource, (void)user;
    (void)in_hook(POOL_RECLAIM);
    reclaimed = true;
    ++ended; /* its holder will end it */
}

static void pool_event(const rm_pool_event *event, void *user) {
    (void)user;
    cell_check(event->pool[0] != '\0' && event->where != NULL, "an event without a name");
    if (event_wanted < 0 || event_wanted == (int)event->kind) (void)in_hook(POOL_EVENT);
}

static rm_pool_desc pool_desc(void) {
    rm_pool_desc desc = rm_pool_desc_default();
    desc.env = &env;
    desc.create_fn = pool_create;
    desc.destroy_fn = pool_destroy;
    desc.validate_fn = pool_validate;
    desc.reset_fn = pool_reset;
    desc.classify_fn = pool_classify;
    desc.reclaim_fn = pool_reclaim;
    desc.event_fn = pool_event;
    desc.guard = &guard;
    desc.max = POOL_MAX;
    desc.min_idle = 1; /* so that a start needs no threads */
    desc.validate_after_ns = RM_STRICT;
    desc.create_backoff_ns = RM_NONE;
    desc.idle_timeout_ns = RM_SEC(10);
    desc.keepalive_ns = RM_SEC(1);
    desc.max_lifetime_ns = RM_SEC(3600);
    desc.lifetime_jitter = (int32_t)RM_NONE;
    desc.leak_after_ns = RM_SEC(5);
    desc.reclaim_after_ns = RM_SEC(1800);
    return desc;
}

static rm_status borrow(int64_t timeout_ns) {
    rm_lease lease; /* a hook of this acquire may borrow as well */
    const rm_status status = rm_pool_acquire(pool, timeout_ns, &lease, NULL);
    if (status == RM_OK) extra[extras++] = lease;
    return status;
}

static void end_lease(rm_lease *lease) {
    const rm_status status = rm_pool_release(pool, lease, RM_RELEASE_OK);
    cell_check(status == RM_OK || (reclaimed && status == RM_E_STALE), "release");
}

static void give_back(void) {
    rm_lease lease;
    if (extras == 0) return;
    lease = extra[--extras];
    end_lease(&lease);
}

static void pool_begin_with(const rm_pool_desc *desc) {
    made = ended = extras = requests_used = requests_done = 0;
    fail_create = fail_validate = fail_reset = reclaimed = false;
    event_wanted = -1;
    cell_check(rm_pool_create(desc, &pool, NULL) == RM_OK, "no pool");
    cell_check(rm_pool_acquire(pool, RM_NOWAIT, &held, NULL) == RM_OK, "nothing lent");
}

static void pool_begin(void) {
    const rm_pool_desc desc = pool_desc();
    pool_begin_with(&desc);
}

static bool pool_closed(void) {
    const rm_resource resource = rm_pool_resource(pool);
    return resource.health_fn(resource.user, NULL) == RM_HEALTH_UNHEALTHY;
}

static void pool_end(void) {
    rm_resource resource;
    rm_pool_stats stats;
    if (pool != NULL && pool_closed() && rm_pool_stats_get(pool, &stats) == RM_OK)
        cell_check(stats.idle == 0, "a closed pool keeps a resource");
    fail_create = fail_validate = fail_reset = false;
    if (pool != NULL) {
        (void)rm_pool_close(pool, RM_NOWAIT, NULL);
        cell_check(requests_done == requests_used, "an asynchronous acquire was not told its end");
        while (extras > 0)
            give_back();
        if (held.resource != NULL) end_lease(&held);
        resource = rm_pool_resource(pool);
        cell_check(rm_pool_close(pool, RM_NOWAIT, NULL) == RM_OK, "close");
        time_ns += RM_SEC(60); /* a backoff ends */
        cell_check(resource.start_fn(resource.user, none, NULL) == RM_OK, "open");
        cell_check(borrow(RM_NOWAIT) == RM_OK, "acquire");
        give_back();
        cell_check(rm_pool_destroy(pool) == RM_OK, "destroy");
    }
    cell_check(made == ended, "not every resource was ended once");
}

static void pool_idle(void) {
    cell_check(borrow(RM_NOWAIT) == RM_OK, "acquire");
    give_back();
}
static void pool_idle_invalid(void) {
    pool_idle();
    fail_validate = true;
}
static void pool_two_idle(void) {
    cell_check(borrow(RM_NOWAIT) == RM_OK && borrow(RM_NOWAIT) == RM_OK, "acquire");
    give_back();
    give_back();
}
static void pool_idle_old(void) {
    pool_two_idle();
    time_ns += RM_SEC(60);
}
static void pool_idle_due(void) {
    pool_idle();
    time_ns += RM_SEC(2);
}
static void pool_lent(void) {
    cell_check(borrow(RM_NOWAIT) == RM_OK, "acquire");
}
static void pool_lent_unfit(void) {
    pool_lent();
    fail_reset = true;
}
static void pool_lent_for_long(void) {
    pool_lent();
    time_ns += RM_SEC(2000);
}
static void pool_no_create(void) {
    fail_create = true;
}
static void pool_empty_and_no_create(void) {
    cell_check(rm_pool_release(pool, &held, RM_RELEASE_BROKEN) == RM_OK, "release");
    fail_create = true;
}
static void pool_nothing_lent(void) {
    cell_check(rm_pool_release(pool, &held, RM_RELEASE_OK) == RM_OK, "release");
}
static void pool_all_lent(void) {
    while (extras < POOL_MAX - 1)
        pool_lent();
}

#define LENT (BIT(OK) | BIT(E_CLOSED) | BIT(E_FAILED))

static void play_acquire(void) {
    const rm_status status = borrow(RM_NOWAIT);
    outer(status, LENT);
    if (now.scene->hook == POOL_CREATE && pool_closed())
        cell_check(status != RM_OK, "what was made for a closed pool is lent");
}
static void play_maintain(void) {
    outer(rm_pool_maintain(pool, 0, none, NULL), LENT);
}
static void play_prewarm(void) {
    uint32_t count = 0;
    outer(rm_pool_prewarm(pool, 1, none, &count, NULL), LENT);
}
static void play_start(void) {
    const rm_resource resource = rm_pool_resource(pool);
    outer(resource.start_fn(resource.user, none, NULL), LENT);
}
static void play_release(void) {
    rm_lease lease = extra[0]; /* an action may put another in its place */
    extra[0] = extra[--extras];
    cell_check(rm_pool_release(pool, &lease, RM_RELEASE_OK) == RM_OK, "release");
}
static void play_release_broken(void) {
    rm_lease lease = extra[0];
    extra[0] = extra[--extras];
    cell_check(rm_pool_release(pool, &lease, RM_RELEASE_BROKEN) == RM_OK, "release");
}
static rm_error timed_out(void) {
    rm_error result;
    (void)rm_error_set(&result, RM_E_TIMEOUT, 0, "db", "no answer");
    return result;
}
static void play_release_result(void) {
    const rm_error result = timed_out();
    rm_lease lease = extra[0];
    extra[0] = extra[--extras];
    cell_check(rm_pool_release_result(pool, &lease, &result) == RM_OK, "release");
}
static void play_detach(void) {
    rm_lease lease = extra[0];
    void *resource;
    extra[0] = extra[--extras];
    cell_check(rm_pool_detach(pool, &lease, &resource) == RM_OK, "detach");
    ++ended;
}
static void play_evict_all(void) {
    const rm_status status = rm_pool_evict_all(pool);
    cell_check(status == RM_OK, "evict");
}
static void play_resize(void) {
    const rm_pool_sizes sizes = {POOL_MAX, 0, 1, 1};
    cell_check(rm_pool_resize(pool, &sizes, NULL) == RM_OK, "resize");
}
static void play_close(void) {
    outer(rm_pool_close(pool, RM_NOWAIT, NULL), BIT(OK) | BIT(E_BUSY));
}
static void play_pool_destroy(void) {
    outer(rm_pool_destroy(pool), BIT(OK));
    pool = NULL;
}
static void play_pool_stats(void) {
    const rm_resource resource = rm_pool_resource(pool);
    resource.stats_fn(resource.user, visit_stat, NULL);
}
static void play_timeout(void) {
    outer(borrow(RM_MS(1)), LENT | BIT(E_TIMEOUT));
}

static rm_status pool_use(void *resource, rm_error *error, void *user) {
    (void)resource, (void)error, (void)user;
    return in_hook(POOL_USE);
}
static void play_with(void) {
    outer(rm_pool_with(pool, none, pool_use, NULL, NULL), LENT);
}

static void pool_acquired(rm_status status, const rm_lease *lease, const rm_error *error,
                          void *user) {
    (void)user;
    ++requests_done;
    if (status == RM_OK) extra[extras++] = *lease;
    cell_check((status == RM_OK) == (error == NULL), "an error beside a lease, or none");
    (void)in_hook(POOL_ACQUIRED);
}
static rm_status borrow_async(rm_deadline deadline) {
    rm_pool_request *request = &requests[requests_used++];
    const rm_status status =
        rm_pool_acquire_async(pool, request, deadline, NULL, pool_acquired, NULL, NULL);
    requests_done += status != RM_OK;
    return status;
}
static void play_async(void) {
    outer(borrow_async(none), BIT(OK) | BIT(E_CLOSED) | BIT(E_FAILED));
}
/* The holder of the last one gives it back, after others have queued. */
static void play_release_to_async(void) {
    cell_check(borrow_async(none) == RM_OK, "not queued");
    play_release();
}

static bool pool_see_lease(const rm_pool_lease_info *lease, void *user) {
    (void)user;
    cell_check(lease->where != NULL, "a lease without a place");
    return in_hook(POOL_LEASES) == RM_OK;
}
static void play_leases(void) {
    (void)rm_pool_leases(pool, pool_see_lease, NULL);
}

/* Scenes of event_fn: as others, but for one kind of event. */
#define EVENT_SCENE(name, kind, prepare)     \
    static void name(void) {                 \
        prepare();                           \
        event_wanted = RM_POOL_EVENT_##kind; \
    }
static void nothing(void) {}
EVENT_SCENE(event_created, CREATED, nothing)
EVENT_SCENE(event_create_failed, CREATE_FAILED, pool_no_create)
EVENT_SCENE(event_acquired, ACQUIRED, pool_idle)
EVENT_SCENE(event_released, RELEASED, pool_lent)
EVENT_SCENE(event_checked, CHECKED, pool_idle)
EVENT_SCENE(event_destroyed, DESTROYED, pool_lent)
EVENT_SCENE(event_detached, DETACHED, pool_lent)
EVENT_SCENE(event_reclaimed, RECLAIMED, pool_lent_for_long)
EVENT_SCENE(event_timeout, TIMEOUT, pool_all_lent)
static void event_leaked(void) {
    pool_lent();
    time_ns += RM_SEC(60);
    event_wanted = RM_POOL_EVENT_LEAKED;
}

static const scene pool_scenes[] = {
    {"create_fn in rm_pool_acquire", POOL_CREATE, NULL, play_acquire, NULL},
    {"create_fn in rm_pool_acquire_async", POOL_CREATE, NULL, play_async, NULL},
    {"create_fn in rm_pool_maintain", POOL_CREATE, NULL, play_maintain, NULL},
    {"create_fn in rm_pool_prewarm", POOL_CREATE, NULL, play_prewarm, NULL},
    {"create_fn in the start of a pool", POOL_CREATE, NULL, play_start, NULL},
    {"create_fn for an invalid one", POOL_CREATE, pool_idle_invalid, play_acquire, NULL},
    {"validate_fn", POOL_VALIDATE, pool_idle, play_acquire, NULL},
    {"validate_fn in rm_pool_maintain", POOL_VALIDATE, pool_idle_due, play_maintain, NULL},
    {"reset_fn", POOL_RESET, pool_lent, play_release, NULL},
    {"classify_fn", POOL_CLASSIFY, pool_lent, play_release_result, NULL},
    {"reclaim_fn", POOL_RECLAIM, pool_lent_for_long, play_maintain, NULL},
    {"destroy_fn in a broken release", POOL_DESTROY, pool_lent, play_release_broken, NULL},
    {"destroy_fn after reset_fn", POOL_DESTROY, pool_lent_unfit, play_release, NULL},
    {"destroy_fn after validate_fn", POOL_DESTROY, pool_idle_invalid, play_acquire, NULL},
    {"destroy_fn in rm_pool_maintain", POOL_DESTROY, pool_idle_old, play_maintain, NULL},
    {"destroy_fn in rm_pool_evict_all", POOL_DESTROY, pool_idle, play_evict_all, NULL},
    {"destroy_fn in rm_pool_resize", POOL_DESTROY, pool_two_idle, play_resize, NULL},
    {"destroy_fn in rm_pool_close", POOL_DESTROY, pool_idle, play_close, NULL},
    {"destroy_fn in rm_pool_destroy", POOL_DESTROY, pool_nothing_lent, play_pool_destroy, NULL},
    {"use_fn", POOL_USE, NULL, play_with, NULL},
    {"acquired_fn in rm_pool_acquire_async", POOL_ACQUIRED, NULL, play_async, NULL},
    {"acquired_fn in rm_pool_release", POOL_ACQUIRED, pool_all_lent, play_release_to_async, NULL},
    {"a visitor of the leases", POOL_LEASES, NULL, play_leases, NULL},
    {"event_fn of CREATED", POOL_EVENT, event_created, play_acquire, NULL},
    {"event_fn of CREATE_FAILED", POOL_EVENT, event_create_failed, play_acquire, NULL},
    {"event_fn of ACQUIRED", POOL_EVENT, event_acquired, play_acquire, NULL},
    {"event_fn of RELEASED", POOL_EVENT, event_released, play_release, NULL},
    {"event_fn of CHECKED", POOL_EVENT, event_checked, play_acquire, NULL},
    {"event_fn of DESTROYED", POOL_EVENT, event_destroyed, play_release_broken, NULL},
    {"event_fn of DETACHED", POOL_EVENT, event_detached, play_detach, NULL},
    {"event_fn of LEAKED", POOL_EVENT, event_leaked, play_maintain, NULL},
    {"event_fn of RECLAIMED", POOL_EVENT, event_reclaimed, play_maintain, NULL},
    {"event_fn of TIMEOUT", POOL_EVENT, event_timeout, play_timeout, NULL},
    {"admit_fn", ADMIT, NULL, play_acquire, NULL},
    {"admit_fn with nothing lent", ADMIT, pool_nothing_lent, play_acquire, NULL},
    {"report_fn with nothing lent", REPORT, pool_empty_and_no_create, play_acquire, NULL},
    {"a visitor with nothing lent", VISIT, pool_nothing_lent, play_pool_stats, NULL},
    {"report_fn in rm_pool_release", REPORT, pool_lent, play_release, NULL},
    {"report_fn in rm_pool_detach", REPORT, pool_lent, play_detach, NULL},
    {"report_fn in rm_pool_acquire", REPORT, pool_no_create, play_acquire, NULL},
    {"a visitor of a pool's statistics", VISIT, NULL, play_pool_stats, NULL},
};

static rm_status call_pool_create(void) {
    rm_pool_desc desc = pool_desc();
    rm_pool *other = NULL;
    rm_status status;
    cell_check(rm_pool_footprint(&desc) > 0, "no footprint");
    status = rm_pool_create(&desc, &other, NULL);
    cell_check(rm_pool_destroy(other) == RM_OK, "another pool is not destroyed");
    return status;
}
static rm_status call_pool_destroy(void) {
    return rm_pool_destroy(pool);
}
static rm_status call_pool_close(void) {
    return rm_pool_close(pool, RM_NOWAIT, NULL);
}
static rm_status call_pool_close_timed(void) {
    return rm_pool_close(pool, RM_MS(1), NULL);
}
static rm_status call_pool_acquire(void) {
    return borrow(RM_NOWAIT);
}
static rm_status call_pool_acquire_timed(void) {
    return borrow(RM_MS(1));
}
static rm_status call_pool_acquire_until(void) {
    const rm_deadline soon = rm_deadline_after(&virtual_clock, RM_MS(1));
    rm_lease lease;
    const rm_status status = rm_pool_acquire_until(pool, soon, NULL, &lease, NULL);
    if (status == RM_OK) extra[extras++] = lease;
    return status;
}
static rm_status call_pool_acquire_async(void) {
    return borrow_async(rm_deadline_after(&virtual_clock, RM_MS(1)));
}
static rm_status call_pool_request_cancel(void) {
    const rm_status status = borrow_async(none);
    return status == RM_OK ? rm_pool_request_cancel(&requests[requests_used - 1]) : status;
}
static rm_status call_pool_with(void) {
    return rm_pool_with(pool, rm_deadline_after(&virtual_clock, RM_MS(1)), pool_use, NULL, NULL);
}
static rm_status call_pool_scope(void) {
    rm_pool_scope scope = rm_pool_scope_open(pool, RM_MS(1), NULL);
    const rm_status status = scope.status;
    rm_pool_scope_close(&scope);
    cell_check(scope.lease.resource == NULL, "a closed scope holds a lease");
    return status;
}
static rm_status call_pool_release(void) {
    return rm_pool_release(pool, &held, RM_RELEASE_OK);
}
static rm_status call_pool_release_broken(void) {
    return rm_pool_release(pool, &held, RM_RELEASE_BROKEN);
}
static rm_status call_pool_release_result(void) {
    const rm_error result = timed_out();
    return rm_pool_release_result(pool, &held, &result);
}
static rm_status call_pool_detach(void) {
    void *resource = NULL;
    const rm_status status = rm_pool_detach(pool, &held, &resource);
    ended += status == RM_OK;
    return status;
}
static rm_status call_pool_note(void) {
    int data = 0;
    rm_status status = rm_pool_note(pool, &held, RM_HERE);
    if (status != RM_OK) return status;
    if (rm_pool_data_set(pool, &held, &data) != RM_OK) return RM_E_INTERNAL;
    cell_check(rm_pool_data_get(pool, &held) == &data, "other data");
    return rm_pool_data_set(pool, &held, NULL);
}
static rm_status call_pool_maintain(void) {
    return rm_pool_maintain(pool, 0, none, NULL);
}
static rm_status call_pool_prewarm(void) {
    rm_pool_stats stats;
    uint32_t count;
    if (rm_pool_stats_get(pool, &stats) != RM_OK) return RM_E_INTERNAL;
    return rm_pool_prewarm(pool, stats.idle + 1, none, &count, NULL); /* no thread is needed */
}
static rm_status call_pool_evict_all(void) {
    return rm_pool_evict_all(pool);
}
static rm_status call_pool_evict(void) {
    return rm_pool_evict(pool, &made);
}
static rm_status call_pool_suspend(void) {
    rm_lease lease;
    if (rm_pool_suspend(pool) != RM_OK) return RM_E_INTERNAL;
    cell_check(rm_pool_acquire(pool, RM_NOWAIT, &lease, NULL) != RM_OK, "a suspended pool lends");
    return rm_pool_resume(pool);
}
static rm_status call_pool_resize(void) {
    const rm_pool_sizes small = {1, 0, 1, 0}, large = {POOL_MAX, 0, 1, 0};
    const rm_status status = rm_pool_resize(pool, &small, NULL);
    return status == RM_OK ? rm_pool_resize(pool, &large, NULL) : status;
}
static rm_status call_pool_leases(void) {
    return rm_pool_leases(pool, pool_see_lease, NULL) <= POOL_MAX ? RM_OK : RM_E_INTERNAL;
}
static rm_status call_pool_stats_get(void) {
    rm_pool_stats s;
    const rm_status status = rm_pool_stats_get(pool, &s);
    const uint32_t sum = s.in_use + s.idle + s.creating + s.checking + s.closing + s.empty;
    cell_check(sum == s.capacity, "the six states do not sum to capacity");
    return status;
}
static rm_status call_pool_desc_get(void) {
    rm_pool_desc desc;
    return rm_pool_desc_get(pool, &desc);
}
static rm_status call_pool_start(void) {
    const rm_resource resource = rm_pool_resource(pool);
    return resource.start_fn(resource.user, none, NULL);
}
static rm_status call_pool_stop(void) {
    const rm_resource resource = rm_pool_resource(pool);
    return resource.stop_fn(resource.user, rm_deadline_after(&virtual_clock, RM_MS(1)), NULL);
}
static rm_status call_pool_health(void) {
    const rm_resource resource = rm_pool_resource(pool);
    (void)resource.health_fn(resource.user, NULL);
    resource.stats_fn(resource.user, visit_stat, NULL);
    return RM_OK;
}
static rm_status call_pool_values(void) {
    cell_check(strcmp(rm_pool_cause_name(RM_POOL_CAUSE_EVICTED), "evicted") == 0, "a cause");
    return rm_pool_desc_default().max == 10 ? RM_OK : RM_E_INTERNAL;
}

#define LENT_OR_NOT (LENT | BIT(E_BUSY) | BIT(E_TIMEOUT) | BIT(E_REJECTED))
#define GIVEN_BACK (BIT(OK) | BIT(E_STALE))

static const action pool_actions[] = {
    {"rm_pool_create and rm_pool_footprint", call_pool_create, BIT(OK)},
    {"rm_pool_destroy", call_pool_destroy, BIT(E_BUSY)},
    {"rm_pool_close", call_pool_close, BIT(OK) | BIT(E_BUSY)},
    {"rm_pool_close with time", call_pool_close_timed, BIT(OK) | BIT(E_TIMEOUT)},
    {"rm_pool_acquire", call_pool_acquire, LENT_OR_NOT},
    {"rm_pool_acquire with time", call_pool_acquire_timed, LENT_OR_NOT},
    {"rm_pool_acquire_until", call_pool_acquire_until, LENT_OR_NOT},
    {"rm_pool_acquire_async", call_pool_acquire_async, BIT(OK) | BIT(E_CLOSED)},
    {"rm_pool_request_cancel", call_pool_request_cancel, GIVEN_BACK | BIT(E_CLOSED)},
    {"rm_pool_with", call_pool_with, LENT_OR_NOT},
    {"rm_pool_scope_open and rm_pool_scope_close", call_pool_scope, LENT_OR_NOT},
    {"rm_pool_release", call_pool_release, GIVEN_BACK},
    {"rm_pool_release of a broken one", call_pool_release_broken, GIVEN_BACK},
    {"rm_pool_release_result", call_pool_release_result, GIVEN_BACK},
    {"rm_pool_detach", call_pool_detach, GIVEN_BACK},
    {"rm_pool_note, rm_pool_data_set and rm_pool_data_get", call_pool_note, GIVEN_BACK},
    {"rm_pool_maintain", call_pool_maintain, LENT | BIT(E_BUSY)},
    {"rm_pool_prewarm", call_pool_prewarm, LENT},
    {"rm_pool_evict_all", call_pool_evict_all, BIT(OK)},
    {"rm_pool_evict", call_pool_evict, BIT(OK) | BIT(E_NOT_FOUND) | BIT(E_BUSY)},
    {"rm_pool_suspend and rm_pool_resume", call_pool_suspend, BIT(OK)},
    {"rm_pool_resize", call_pool_resize, BIT(OK)},
    {"rm_pool_leases", call_pool_leases, BIT(OK)},
    {"rm_pool_stats_get", call_pool_stats_get, BIT(OK)},
    {"rm_pool_desc_get", call_pool_desc_get, BIT(OK)},
    {"rm_pool_resource and its start", call_pool_start, LENT | BIT(E_BUSY)},
    {"rm_pool_resource and its stop", call_pool_stop, BIT(OK) | BIT(E_TIMEOUT)},
    {"rm_pool_resource and its health", call_pool_health, BIT(OK)},
    {"rm_pool_desc_default and rm_pool_cause_name", call_pool_values, BIT(OK)},
};

TEST(callbacks, of_pools) {
    static const object pools = {
        "pool",       pool_begin,         pool_end, pool_scenes, COUNT(pool_scenes),
        pool_actions, COUNT(pool_actions)};
    run_matrix(&pools);
}

/* ---- pool of two endpoints, with the usual backoff ---- */

static void endpoints_begin(void) {
    static const rm_pool_endpoint endpoints[] = {{"one", &guard, NULL}, {"two", &guard, NULL}};
    rm_pool_desc desc = pool_desc();
    desc.create_backoff_ns = 0;
    desc.guard = NULL;
    desc.endpoints = endpoints;
    desc.endpoint_count = 2;
    pool_begin_with(&desc);
}

static void play_try(void) {
    outer(borrow(RM_NOWAIT), LENT_OR_NOT);
}
static void play_try_maintain(void) {
    outer(rm_pool_maintain(pool, 0, none, NULL), LENT | BIT(E_REJECTED));
}

static const scene endpoint_scenes[] = {
    {"admit_fn of an endpoint", ADMIT, NULL, play_try, NULL},
    {"admit_fn of the endpoint of an idle one", ADMIT, pool_idle, play_try, NULL},
    {"admit_fn of an endpoint with nothing lent", ADMIT, pool_nothing_lent, play_try, NULL},
    {"admit_fn of an endpoint in rm_pool_maintain", ADMIT, NULL, play_try_maintain, NULL},
    {"admit_fn of an endpoint in rm_pool_acquire_async", ADMIT, NULL, play_async, NULL},
    {"report_fn of an endpoint in rm_pool_release", REPORT, pool_lent, play_release, NULL},
    {"report_fn of an endpoint in rm_pool_detach", REPORT, pool_lent, play_detach, NULL},
    {"report_fn of an endpoint after create_fn", REPORT, pool_no_create, play_try, NULL},
    {"report_fn of an endpoint in rm_pool_maintain", REPORT, pool_lent_for_long, play_try_maintain,
     NULL},
    {"create_fn for an endpoint", POOL_CREATE, NULL, play_try, NULL},
    {"validate_fn for an endpoint", POOL_VALIDATE, pool_idle, play_try, NULL},
    {"create_fn for an endpoint after validate_fn", POOL_CREATE, pool_idle_invalid, play_try, NULL},
};

TEST(callbacks, of_pools_with_endpoints) {
    static const object pools = {"pool with endpoints", endpoints_begin,        pool_end,
                                 endpoint_scenes,       COUNT(endpoint_scenes), pool_actions,
                                 COUNT(pool_actions)};
    run_matrix(&pools);
}

/* ---- pools of keys ---- */

static const char POOLS_OPEN[] = "rm_pools_desc.open_fn";
static const char POOLS_SHUT[] = "rm_pools_desc.shut_fn";
static const char POOLS_EACH[] = "rm_pools_each.fn";
static const char POOLS_ACQUIRED[] = "rm_pools_acquire_async.acquired_fn";

static rm_pools *pools;
static rm_pools_lease key_held, key_extra[8];
static unsigned key_extras;
static rm_pools_request key_requests[8];
static unsigned key_requests_used, key_requests_done;

static rm_status pools_open(const void *key, size_t size, rm_pool_desc *desc, rm_error *error,
                            void *user) {
    (void)key, (void)size, (void)error, (void)user;
    desc->max = 3;
    return in_hook(POOLS_OPEN);
}

static void pools_shut(void *pool_user, void *user) {
    (void)pool_user, (void)user;
    (void)in_hook(POOLS_SHUT);
}

static rm_pools_desc pools_desc(void) {
    rm_pools_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.pool = pool_desc();
    desc.pool.name = NULL;
    desc.pool.create_backoff_ns = 0;
    desc.max_keys = 3;
    desc.max_total = 4;
    desc.open_fn = pools_open;
    desc.shut_fn = pools_shut;
    return desc;
}

static rm_status borrow_of(const char *key, int64_t timeout_ns) {
    const rm_deadline soon = rm_deadline_after(&virtual_clock, timeout_ns);
    rm_pools_lease lease;
    const rm_status status = rm_pools_acquire(pools, key, strlen(key), soon, NULL, &lease, NULL);
    if (status == RM_OK) key_extra[key_extras++] = lease;
    return status;
}

static void give_back_last(void) {
    rm_pools_lease lease;
    if (key_extras == 0) return;
    lease = key_extra[--key_extras];
    cell_check(rm_pools_release(pools, &lease, RM_RELEASE_OK) == RM_OK, "release");
}

static void pools_begin(void) {
    const rm_pools_desc desc = pools_desc();
    made = ended = key_extras = key_requests_used = key_requests_done = 0;
    memset(key_requests, 0, sizeof key_requests);
    fail_create = fail_validate = fail_reset = reclaimed = false;
    event_wanted = -1;
    cell_check(rm_pools_create(&desc, &pools, NULL) == RM_OK, "no pools");
    cell_check(borrow_of("held", RM_NOWAIT) == RM_OK, "nothing lent");
    key_held = key_extra[--key_extras];
}

static void pools_end(void) {
    if (pools != NULL) {
        if (key_held.pool != NULL)
            cell_check(rm_pools_release(pools, &key_held, RM_RELEASE_OK) == RM_OK, "release");
        while (key_extras > 0) /* also what a request got by that */
            give_back_last();
        cell_check(rm_pools_close(pools, RM_NOWAIT, NULL) == RM_OK, "close");
        cell_check(rm_pools_destroy(pools) == RM_OK, "destroy");
    }
    cell_check(made == ended, "not every resource was ended once");
    cell_check(key_requests_used == key_requests_done, "not every request was ended once");
}

static void pools_idle(void) {
    cell_check(borrow_of("a", RM_NOWAIT) == RM_OK, "acquire");
    give_back_last();
}
static void pools_nothing_lent(void) {
    cell_check(rm_pools_release(pools, &key_held, RM_RELEASE_OK) == RM_OK, "release");
}
static void pools_full(void) {
    pools_idle();
    cell_check(borrow_of("b", RM_NOWAIT) == RM_OK, "acquire");
    give_back_last();
}
static void pools_spent(void) {
    cell_check(borrow_of("held", RM_NOWAIT) == RM_OK && borrow_of("held", RM_NOWAIT) == RM_OK,
               "acquire");
    pools_idle();
}
static void pools_all_lent(void) {
    cell_check(borrow_of("held", RM_NOWAIT) == RM_OK && borrow_of("held", RM_NOWAIT) == RM_OK &&
                   borrow_of("a", RM_NOWAIT) == RM_OK,
               "acquire");
}
static void pools_lent(void) {
    cell_check(borrow_of("a", RM_NOWAIT) == RM_OK, "acquire");
}

#define LENT_OF_KEY (LENT_OR_NOT | BIT(E_FULL))

static void key_acquired(rm_status status, const rm_pools_lease *lease, const rm_error *error,
                         void *user) {
    (void)user;
    ++key_requests_done;
    if (status == RM_OK) key_extra[key_extras++] = *lease;
    cell_check((status == RM_OK) == (error == NULL), "an error beside a lease, or none");
    (void)in_hook(POOLS_ACQUIRED);
}
static rm_status borrow_key_async(const char *key, rm_deadline deadline) {
    rm_pools_request *request = &key_requests[key_requests_used++];
    const rm_status status = rm_pools_acquire_async(pools, request, key, strlen(key), deadline,
                                                    NULL, key_acquired, NULL, NULL);
    key_requests_done += status != RM_OK;
    return status;
}

static void play_pools_acquire(void) {
    outer(borrow_of("new", RM_MS(1)), LENT_OF_KEY);
}
static void play_pools_acquire_idle(void) {
    outer(borrow_of("a", RM_MS(1)), LENT_OF_KEY);
}
static void play_pools_release(void) {
    rm_pools_lease lease = key_extra[0];
    key_extra[0] = key_extra[--key_extras];
    cell_check(rm_pools_release(pools, &lease, RM_RELEASE_BROKEN) == RM_OK, "release");
}
static void play_pools_async(void) {
    outer(borrow_key_async("new", none), BIT(OK) | BIT(E_CLOSED) | BIT(E_FULL) | BIT(E_FAILED));
}
/* The holder of one of the last gives it back, after another has queued. */
static void play_pools_release_to_async(void) {
    cell_check(borrow_key_async("held", none) == RM_OK, "not queued");
    play_pools_release();
}
/* The request is of another key, which is told that there is a place. */
static void play_pools_room_to_async(void) {
    cell_check(borrow_key_async("new", none) == RM_OK, "not queued");
    play_pools_release();
}
static void play_pools_destroy(void) {
    outer(rm_pools_destroy(pools), BIT(OK));
    pools = NULL;
}
static void play_pools_close(void) {
    outer(rm_pools_close(pools, RM_NOWAIT, NULL), BIT(OK) | BIT(E_BUSY));
}
static void play_pools_maintain(void) {
    outer(rm_pools_maintain(pools, 0, none, NULL), LENT_OR_NOT);
}
static bool pools_see(const void *key, size_t size, rm_pool *one, void *user) {
    (void)key, (void)user;
    cell_check(size > 0 && one != NULL, "a key without a pool");
    return in_hook(POOLS_EACH) == RM_OK;
}
static void play_pools_each(void) {
    rm_pools_each(pools, pools_see, NULL);
}
static void play_pools_stats(void) {
    const rm_resource resource = rm_pools_resource(pools);
    resource.stats_fn(resource.user, visit_stat, NULL);
}

/* One waits that is told when they close. */
static void pools_async(void) {
    pools_all_lent();
    cell_check(borrow_key_async("held", none) == RM_OK, "not queued");
}

static const scene pools_scenes[] = {
    {"open_fn", POOLS_OPEN, NULL, play_pools_acquire, NULL},
    {"open_fn with nothing lent", POOLS_OPEN, pools_nothing_lent, play_pools_acquire, NULL},
    {"open_fn with all keys there", POOLS_OPEN, pools_full, play_pools_acquire, NULL},
    {"shut_fn of what makes room", POOLS_SHUT, pools_full, play_pools_acquire, NULL},
    {"shut_fn in rm_pools_destroy", POOLS_SHUT, pools_nothing_lent, play_pools_destroy, NULL},
    {"create_fn under a key", POOL_CREATE, NULL, play_pools_acquire, NULL},
    {"destroy_fn under a key", POOL_DESTROY, pools_lent, play_pools_release, NULL},
    {"destroy_fn in rm_pools_close", POOL_DESTROY, pools_idle, play_pools_close, NULL},
    {"destroy_fn for the common bound", POOL_DESTROY, pools_spent, play_pools_acquire, NULL},
    {"validate_fn under a key", POOL_VALIDATE, pools_idle, play_pools_acquire_idle, NULL},
    {"create_fn in rm_pools_acquire_async", POOL_CREATE, NULL, play_pools_async, NULL},
    {"acquired_fn in rm_pools_acquire_async", POOLS_ACQUIRED, NULL, play_pools_async, NULL},
    {"acquired_fn in rm_pools_release", POOLS_ACQUIRED, pools_all_lent, play_pools_release_to_async,
     NULL},
    {"acquired_fn in rm_pools_release of another key", POOLS_ACQUIRED, pools_all_lent,
     play_pools_room_to_async, NULL},
    {"acquired_fn in rm_pools_close", POOLS_ACQUIRED, pools_async, play_pools_close, NULL},
    {"create_fn in rm_pools_maintain", POOL_CREATE, NULL, play_pools_maintain, NULL},
    {"a visitor of the keys", POOLS_EACH, NULL, play_pools_each, NULL},
    {"a visitor of the keys with nothing lent", POOLS_EACH, pools_nothing_lent, play_pools_each,
     NULL},
    {"a visitor of their statistics", VISIT, NULL, play_pools_stats, NULL},
};

static rm_status call_pools_create(void) {
    const rm_pools_desc desc = pools_desc();
    rm_pools *other = NULL;
    const rm_status status = rm_pools_create(&desc, &other, NULL);
    cell_check(rm_pools_destroy(other) == RM_OK, "other pools are not destroyed");
    return status;
}
static rm_status call_pools_destroy(void) {
    return rm_pools_destroy(pools);
}
static rm_status call_pools_close(void) {
    return rm_pools_close(pools, RM_NOWAIT, NULL);
}
static rm_status call_pools_acquire_same(void) {
    return borrow_of("new", RM_MS(1));
}
static rm_status call_pools_acquire_other(void) {
    return borrow_of("other", RM_NOWAIT);
}
static rm_status call_pools_acquire_async(void) {
    return borrow_key_async("new", rm_deadline_after(&virtual_clock, RM_MS(1)));
}
static rm_status call_pools_acquire_async_and_cancel(void) {
    rm_pools_request *request = &key_requests[key_requests_used];
    (void)borrow_key_async("held", none);
    return rm_pools_request_cancel(request);
}
static rm_status call_pools_release(void) {
    return rm_pools_release(pools, &key_held, RM_RELEASE_OK);
}
static rm_status call_pools_release_broken(void) {
    return rm_pools_release(pools, &key_held, RM_RELEASE_BROKEN);
}
static rm_status call_pools_release_result(void) {
    const rm_error result = timed_out();
    return rm_pools_release_result(pools, &key_held, &result);
}
static rm_status call_pools_maintain(void) {
    return rm_pools_maintain(pools, 0, none, NULL);
}
static rm_status call_pools_each(void) {
    rm_pools_each(pools, pools_see, NULL);
    return RM_OK;
}
static rm_status call_pools_resource(void) {
    const rm_resource resource = rm_pools_resource(pools);
    (void)resource.health_fn(resource.user, NULL);
    resource.stats_fn(resource.user, visit_stat, NULL);
    return resource.name != NULL ? RM_OK : RM_E_INTERNAL;
}
static rm_status call_pools_stop(void) {
    const rm_resource resource = rm_pools_resource(pools);
    return resource.stop_fn(resource.user, rm_deadline_after(&virtual_clock, RM_MS(1)), NULL);
}

static const action pools_actions[] = {
    {"rm_pools_create", call_pools_create, BIT(OK)},
    {"rm_pools_destroy", call_pools_destroy, BIT(E_BUSY)},
    {"rm_pools_close", call_pools_close, BIT(OK) | BIT(E_BUSY)},
    {"rm_pools_acquire of that key", call_pools_acquire_same, LENT_OF_KEY},
    {"rm_pools_acquire of another key", call_pools_acquire_other, LENT_OF_KEY},
    {"rm_pools_acquire_async", call_pools_acquire_async, LENT_OF_KEY},
    {"rm_pools_acquire_async and rm_pools_request_cancel", call_pools_acquire_async_and_cancel,
     BIT(OK) | BIT(E_STALE) | BIT(E_INVALID)}, /* the last: there was no request */
    {"rm_pools_release", call_pools_release, GIVEN_BACK},
    {"rm_pools_release of a broken one", call_pools_release_broken, GIVEN_BACK},
    {"rm_pools_release_result", call_pools_release_result, GIVEN_BACK},
    {"rm_pools_maintain", call_pools_maintain, LENT_OR_NOT},
    {"rm_pools_each", call_pools_each, BIT(OK)},
    {"rm_pools_resource, its health and statistics", call_pools_resource, BIT(OK)},
    {"rm_pools_resource and its stop", call_pools_stop, BIT(OK) | BIT(E_TIMEOUT)},
};

TEST(callbacks, of_pools_of_keys) {
    static const object keyed = {
        "pools",       pools_begin,         pools_end, pools_scenes, COUNT(pools_scenes),
        pools_actions, COUNT(pools_actions)};
    run_matrix(&keyed);
}

/* ---- cache ---- */

static const char CACHE_LOAD[] = "rm_cache_loader.load_fn";
static const char CACHE_REMOVED[] = "rm_cache_desc.removed_fn";

static rm_cache *cache;
static rm_cache_pin pinned, extra_pin;
static rm_cache_load *loading;

static rm_status cache_load(rm_cache_load *load, const void *key, size_t key_size,
                            rm_deadline deadline, rm_error *error, void *user) {
    rm_cache_load *const before = loading;
    rm_status status;
    (void)key, (void)key_size, (void)deadline, (void)error, (void)user;
    loading = load;
    status = in_hook(CACHE_LOAD);
    loading = before;
    return status != RM_OK ? status : rm_cache_load_set(load, "loaded", 6);
}

static void cache_removed(const void *key, size_t key_size, const void *value, size_t size,
                          rm_cache_cause cause, void *user) {
    (void)key, (void)key_size, (void)value, (void)size, (void)user;
    cell_check(strcmp(rm_cache_cause_name(cause), "unknown") != 0, "a cause without a name");
    ++ended;
    (void)in_hook(CACHE_REMOVED);
}

static rm_cache_desc cache_desc(void) {
    rm_cache_desc desc = rm_cache_desc_default();
    desc.env = &env;
    desc.max_entries = 3;
    desc.max_pins = 8;
    desc.ttl_ns = RM_SEC(10);
    desc.guard = &guard;
    desc.removed_fn = cache_removed;
    return desc;
}

static rm_status put(const char *key) {
    return rm_cache_set(cache, key, strlen(key), "value", 5, 0, NULL);
}

static rm_status load(const char *key) {
    const rm_cache_loader loader = rm_cache_loader_make(cache_load, NULL);
    rm_cache_pin pin;
    const rm_status status =
        rm_cache_get_or_load(cache, key, strlen(key), &loader, RM_MS(1), &pin, NULL);
    if (status == RM_OK) cell_check(rm_cache_release(cache, &pin) == RM_OK, "release");
    return status;
}

static void cache_begin(void) {
    const rm_cache_desc desc = cache_desc();
    memset(&extra_pin, 0, sizeof extra_pin);
    cell_check(rm_cache_create(&desc, &cache, NULL) == RM_OK, "no cache");
    cell_check(put("held") == RM_OK && put("a") == RM_OK, "set");
    cell_check(rm_cache_acquire(cache, "held", 4, &pinned) == RM_OK, "pin");
}

static void cache_end(void) {
    if (cache == NULL) return;
    if (extra_pin.value != NULL)
        cell_check(rm_cache_release(cache, &extra_pin) == RM_OK, "release");
    if (pinned.value != NULL) cell_check(rm_cache_release(cache, &pinned) == RM_OK, "release");
    cell_check(put("health") == RM_OK, "set");
    cell_check(rm_cache_delete(cache, "health", 6) == RM_OK, "delete");
    cell_check(load("health") == RM_OK, "load");
    cell_check(rm_cache_destroy(cache) == RM_OK, "destroy");
}

static void cache_full(void) {
    cell_check(put("b") == RM_OK, "set");
}
static void cache_old(void) {
    time_ns += RM_SEC(60);
}
static void cache_pinned_and_deleted(void) {
    cell_check(rm_cache_acquire(cache, "a", 1, &extra_pin) == RM_OK, "pin");
    cell_check(rm_cache_delete(cache, "a", 1) == RM_OK, "delete");
}
static void cache_nothing_pinned(void) {
    cell_check(rm_cache_release(cache, &pinned) == RM_OK, "release");
}

static void play_load(void) {
    outer(load("new"), BIT(OK) | BIT(E_FAILED));
}
static void play_delete(void) {
    cell_check(rm_cache_delete(cache, "a", 1) == RM_OK, "delete");
}
static void play_replace(void) {
    cell_check(put("a") == RM_OK, "set");
}
static void play_evict(void) {
    cell_check(put("c") == RM_OK, "set");
}
static void play_clear(void) {
    cell_check(rm_cache_clear(cache) == 2, "clear");
}
static void play_cache_maintain(void) {
    cell_check(rm_cache_maintain(cache, 0) == 2, "maintain");
}
static void play_get_expired(void) {
    cell_check(rm_cache_get(cache, "a", 1, NULL, 0, NULL) != RM_OK, "get");
    cell_check(rm_cache_acquire(cache, "a", 1, &extra_pin) == RM_E_NOT_FOUND, "acquire");
}
static void play_unpin(void) {
    cell_check(rm_cache_release(cache, &extra_pin) == RM_OK, "release");
}
static void play_load_pinned(void) {
    const rm_cache_loader loader = rm_cache_loader_make(cache_load, NULL);
    rm_cache_pin pin;
    if (rm_cache_get_or_load(cache, "new", 3, &loader, RM_MS(1), &pin, NULL) == RM_OK)
        extra_pin = pin;
}
static void play_cache_destroy(void) {
    cell_check(rm_cache_destroy(cache) == RM_OK, "destroy");
    cache = NULL;
}
static void play_cache_stats(void) {
    const rm_resource resource = rm_cache_resource(cache);
    resource.stats_fn(resource.user, visit_stat, NULL);
}
static void play_cache_stop(void) {
    const rm_resource resource = rm_cache_resource(cache);
    cell_check(resource.stop_fn(resource.user, none, NULL) == RM_OK, "stop");
}

static const scene cache_scenes[] = {
    {"load_fn", CACHE_LOAD, NULL, play_load, NULL},
    {"load_fn of what is pinned then", CACHE_LOAD, NULL, play_load_pinned, NULL},
    {"admit_fn of a load", ADMIT, NULL, play_load, NULL},
    {"report_fn of a load", REPORT, NULL, play_load, NULL},
    {"removed_fn in rm_cache_delete", CACHE_REMOVED, NULL, play_delete, NULL},
    {"removed_fn in rm_cache_set", CACHE_REMOVED, NULL, play_replace, NULL},
    {"removed_fn of what is evicted", CACHE_REMOVED, cache_full, play_evict, NULL},
    {"removed_fn in rm_cache_get_or_load", CACHE_REMOVED, cache_full, play_load, NULL},
    {"removed_fn in rm_cache_clear", CACHE_REMOVED, NULL, play_clear, NULL},
    {"removed_fn in rm_cache_maintain", CACHE_REMOVED, cache_old, play_cache_maintain, NULL},
    {"removed_fn of what has expired", CACHE_REMOVED, cache_old, play_get_expired, NULL},
    {"removed_fn in rm_cache_release", CACHE_REMOVED, cache_pinned_and_deleted, play_unpin, NULL},
    {"removed_fn in the stop of a cache", CACHE_REMOVED, NULL, play_cache_stop, NULL},
    {"removed_fn with nothing pinned", CACHE_REMOVED, cache_nothing_pinned, play_delete, NULL},
    {"removed_fn in rm_cache_destroy", CACHE_REMOVED, cache_nothing_pinned, play_cache_destroy,
     NULL},
    {"a visitor with nothing pinned", VISIT, cache_nothing_pinned, play_cache_stats, NULL},
    {"a visitor of a cache's statistics", VISIT, NULL, play_cache_stats, NULL},
};

static rm_status call_cache_create(void) {
    const rm_cache_desc desc = cache_desc();
    rm_cache *other = NULL;
    const rm_status status = rm_cache_create(&desc, &other, NULL);
    cell_check(rm_cache_destroy(other) == RM_OK, "another cache is not destroyed");
    return status;
}
static rm_status call_cache_destroy(void) {
    return rm_cache_destroy(cache);
}
static rm_status call_cache_get(void) {
    char value[8];
    return rm_cache_get(cache, "a", 1, value, sizeof value, NULL);
}
static rm_status call_cache_acquire(void) {
    rm_cache_pin pin;
    const rm_status status = rm_cache_acquire(cache, "a", 1, &pin);
    if (status == RM_OK) cell_check(rm_cache_release(cache, &pin) == RM_OK, "release");
    return status;
}
static rm_status call_cache_release(void) {
    return rm_cache_release(cache, &pinned);
}
static rm_status call_cache_load_same(void) {
    const rm_status status = load("new");
    if (loading != NULL) cell_check(status == RM_E_DEADLOCK, "loads the key that is being loaded");
    return status;
}
static rm_status call_cache_load_other(void) {
    return load("other");
}
static rm_status call_cache_load_set(void) {
    return rm_cache_load_set(loading, "early", 5);
}
static rm_status call_cache_set(void) {
    return put("b");
}
static rm_status call_cache_set_same(void) {
    return put("new");
}
static rm_status call_cache_delete(void) {
    return rm_cache_delete(cache, "a", 1);
}
static rm_status call_cache_clear(void) {
    (void)rm_cache_clear(cache);
    return RM_OK;
}
static rm_status call_cache_maintain(void) {
    (void)rm_cache_maintain(cache, 0);
    return RM_OK;
}
static rm_status call_cache_stats_get(void) {
    rm_cache_stats stats;
    return rm_cache_stats_get(cache, &stats);
}
static rm_status call_cache_desc_get(void) {
    rm_cache_desc desc;
    return rm_cache_desc_get(cache, &desc);
}
static rm_status call_cache_resource(void) {
    const rm_resource resource = rm_cache_resource(cache);
    resource.stats_fn(resource.user, visit_stat, NULL);
    return resource.stop_fn(resource.user, none, NULL);
}
static rm_status call_cache_values(void) {
    (void)rm_cache_loader_make(cache_load, NULL);
    (void)rm_cache_cause_name(RM_CACHE_CAUSE_EVICTED);
    return rm_cache_desc_default().max_entries > 0 ? RM_OK : RM_E_INTERNAL;
}

#define FOUND (BIT(OK) | BIT(E_NOT_FOUND))

static const action cache_actions[] = {
    {"rm_cache_create", call_cache_create, BIT(OK)},
    {"rm_cache_destroy", call_cache_destroy, BIT(E_BUSY)},
    {"rm_cache_get", call_cache_get, FOUND},
    {"rm_cache_acquire", call_cache_acquire, FOUND},
    {"rm_cache_release", call_cache_release, BIT(OK) | BIT(E_STALE)},
    {"rm_cache_get_or_load of that key", call_cache_load_same,
     BIT(OK) | BIT(E_DEADLOCK) | BIT(E_CLOSED)},
    {"rm_cache_get_or_load of another key", call_cache_load_other, BIT(OK) | BIT(E_CLOSED)},
    {"rm_cache_load_set", call_cache_load_set, BIT(OK) | BIT(E_INVALID)},
    {"rm_cache_set", call_cache_set, BIT(OK) | BIT(E_CLOSED)},
    {"rm_cache_set of that key", call_cache_set_same, BIT(OK) | BIT(E_CLOSED)},
    {"rm_cache_delete", call_cache_delete, FOUND},
    {"rm_cache_clear", call_cache_clear, BIT(OK)},
    {"rm_cache_maintain", call_cache_maintain, BIT(OK)},
    {"rm_cache_stats_get", call_cache_stats_get, BIT(OK)},
    {"rm_cache_desc_get", call_cache_desc_get, BIT(OK)},
    {"rm_cache_resource, its stop and statistics", call_cache_resource, BIT(OK)},
    {"rm_cache_desc_default, rm_cache_loader_make and rm_cache_cause_name", call_cache_values,
     BIT(OK)},
};

TEST(callbacks, of_caches) {
    static const object caches = {
        "cache",       cache_begin,         cache_end, cache_scenes, COUNT(cache_scenes),
        cache_actions, COUNT(cache_actions)};
    run_matrix(&caches);
}

/* ---- breaker and retry ---- */

static const char BREAKER_EVENT[] = "rm_breaker_desc.event_fn";
static const char BREAKER_CLASSIFY[] = "rm_breaker_desc.classify_fn";
static const char BREAKER_FN[] = "rm_breaker_call.fn";
static const char BREAKER_FALLBACK[] = "rm_breaker_call.fallback_fn";
static const char RETRY_FN[] = "rm_retry_call.fn";
static const char RETRYABLE[] = "rm_retry_desc.retryable_fn";

static rm_breaker *breaker;
static rm_permit permit;

static void breaker_event(rm_breaker *b, const rm_breaker_event *event, void *user) {
    (void)user;
    cell_check(b == breaker && event->from != event->to, "an odd event");
    (void)in_hook(BREAKER_EVENT);
}

static rm_outcome breaker_classify(rm_status status, void *user) {
    (void)user;
    return in_hook(BREAKER_CLASSIFY) == RM_OK ? rm_breaker_classify(status) : RM_OUTCOME_FAILURE;
}

static rm_status breaker_fn(void *user, rm_error *error) {
    (void)user, (void)error;
    return in_hook(BREAKER_FN);
}

static rm_status failing_fn(void *user, rm_error *error) {
    (void)user, (void)error;
    return RM_E_FAILED;
}

static rm_status fallback_fn(void *user, const rm_error *reason) {
    (void)user;
    cell_check(reason->status != RM_OK, "a fallback without a reason");
    return in_hook(BREAKER_FALLBACK);
}

static rm_status retry_fn(void *user, rm_attempt *attempt, rm_error *error) {
    const rm_status status = in_hook(RETRY_FN);
    (void)user, (void)error;
    return attempt->number < 2 ? RM_E_TIMEOUT : status;
}

static bool retryable_fn(rm_status status, void *user) {
    (void)user;
    return in_hook(RETRYABLE) == RM_OK && rm_retryable(status);
}

static rm_breaker_desc breaker_desc(void) {
    rm_breaker_desc desc = rm_breaker_desc_default();
    desc.env = &env;
    desc.failures = 2;
    desc.open_ns = RM_SEC(1);
    desc.classify_fn = breaker_classify;
    desc.event_fn = breaker_event;
    return desc;
}

static rm_retry_desc retry_desc(void) {
    rm_retry_desc desc = rm_retry_desc_default();
    desc.env = &env;
    desc.retryable_fn = retryable_fn;
    return desc;
}

static void breaker_begin(void) {
    const rm_breaker_desc desc = breaker_desc();
    cell_check(rm_breaker_create(&desc, &breaker, NULL) == RM_OK, "no breaker");
    cell_check(rm_breaker_acquire(breaker, &permit, NULL) == RM_OK, "no permit");
}

static void breaker_end(void) {
    rm_permit one;
    (void)rm_breaker_record(breaker, &permit, RM_OUTCOME_IGNORE);
    cell_check(rm_breaker_reset(breaker) == RM_OK, "reset");
    cell_check(rm_breaker_acquire(breaker, &one, NULL) == RM_OK, "no permit");
    cell_check(rm_breaker_record(breaker, &one, RM_OUTCOME_OK) == RM_OK, "record");
    rm_breaker_destroy(breaker);
}

static void breaker_open(void) {
    cell_check(rm_breaker_trip(breaker) == RM_OK, "trip");
}
static void breaker_rested(void) {
    breaker_open();
    time_ns += RM_SEC(10);
}
static void breaker_failing(void) {
    rm_permit one;
    cell_check(rm_breaker_acquire(breaker, &one, NULL) == RM_OK, "no permit");
    cell_check(rm_breaker_record(breaker, &one, RM_OUTCOME_FAILURE) == RM_OK, "record");
}

static void play_trip(void) {
    cell_check(rm_breaker_trip(breaker) == RM_OK, "trip");
}
static void play_reset(void) {
    cell_check(rm_breaker_reset(breaker) == RM_OK, "reset");
}
static void play_record_failure(void) {
    (void)rm_breaker_record(breaker, &permit, RM_OUTCOME_FAILURE);
}
static void play_probe(void) {
    rm_permit probe;
    if (rm_breaker_acquire(breaker, &probe, NULL) == RM_OK)
        (void)rm_breaker_record(breaker, &probe, RM_OUTCOME_OK);
}
static void play_breaker_call(void) {
    outer(rm_breaker_call(breaker, breaker_fn, NULL, NULL, NULL), BIT(OK) | BIT(E_FAILED));
}
static void play_failing_call(void) {
    outer(rm_breaker_call(breaker, failing_fn, fallback_fn, NULL, NULL),
          BIT(OK) | BIT(E_FAILED) | BIT(E_REJECTED));
}
static void play_retry(void) {
    const rm_retry_desc desc = retry_desc();
    outer(rm_retry_call(&desc, breaker, none, NULL, retry_fn, NULL, NULL),
          BIT(OK) | BIT(E_FAILED) | BIT(E_TIMEOUT));
}
static void play_retry_next(void) {
    const rm_retry_desc desc = retry_desc();
    rm_retry retry;
    int64_t wait_ns;
    cell_check(rm_retry_begin(&retry, &desc, none, NULL) == RM_OK, "begin");
    if (rm_retry_next(&retry, RM_E_TIMEOUT, 0, &wait_ns) != RM_OK) return;
    cell_check(now.outcome != FAILS, "again, against retryable_fn");
}
static void play_breaker_stats(void) {
    const rm_resource resource = rm_breaker_resource(breaker);
    resource.stats_fn(resource.user, visit_stat, NULL);
}

static const scene breaker_scenes[] = {
    {"event_fn in rm_breaker_trip", BREAKER_EVENT, NULL, play_trip, NULL},
    {"event_fn in rm_breaker_reset", BREAKER_EVENT, breaker_open, play_reset, NULL},
    {"event_fn in rm_breaker_record", BREAKER_EVENT, breaker_failing, play_record_failure, NULL},
    {"event_fn in rm_breaker_acquire", BREAKER_EVENT, breaker_rested, play_probe, NULL},
    {"event_fn in rm_breaker_call", BREAKER_EVENT, breaker_rested, play_breaker_call, NULL},
    {"event_fn in rm_retry_call", BREAKER_EVENT, breaker_rested, play_retry, NULL},
    {"classify_fn", BREAKER_CLASSIFY, NULL, play_breaker_call, NULL},
    {"classify_fn in rm_retry_call", BREAKER_CLASSIFY, NULL, play_retry, NULL},
    {"fn of rm_breaker_call", BREAKER_FN, NULL, play_breaker_call, NULL},
    {"fn of a probe", BREAKER_FN, breaker_rested, play_breaker_call, NULL},
    {"fallback_fn after fn", BREAKER_FALLBACK, NULL, play_failing_call, NULL},
    {"fallback_fn of an open breaker", BREAKER_FALLBACK, breaker_open, play_failing_call, NULL},
    {"fn of rm_retry_call", RETRY_FN, NULL, play_retry, NULL},
    {"retryable_fn in rm_retry_call", RETRYABLE, NULL, play_retry, NULL},
    {"retryable_fn in rm_retry_next", RETRYABLE, NULL, play_retry_next, NULL},
    {"a visitor of a breaker's statistics", VISIT, NULL, play_breaker_stats, NULL},
};

static rm_status call_breaker_create(void) {
    rm_breaker_desc desc = breaker_desc();
    rm_breaker *other = NULL;
    rm_status status;
    desc.event_fn = NULL;
    status = rm_breaker_create(&desc, &other, NULL);
    rm_breaker_destroy(other); /* of another breaker it may be called */
    return status;
}
static rm_status call_breaker_acquire(void) {
    rm_permit one;
    const rm_status status = rm_breaker_acquire(breaker, &one, NULL);
    if (status == RM_OK) (void)rm_breaker_record(breaker, &one, RM_OUTCOME_IGNORE);
    return status;
}
static rm_status call_breaker_record(void) {
    return rm_breaker_record(breaker, &permit, RM_OUTCOME_OK);
}
static rm_status call_breaker_record_failure(void) {
    return rm_breaker_record(breaker, &permit, RM_OUTCOME_FAILURE);
}
static rm_status call_breaker_call(void) {
    return rm_breaker_call(breaker, breaker_fn, fallback_fn, NULL, NULL);
}
static rm_status call_breaker_call_failing(void) {
    return rm_breaker_call(breaker, failing_fn, NULL, NULL, NULL);
}
static rm_status call_breaker_trip(void) {
    return rm_breaker_trip(breaker);
}
static rm_status call_breaker_reset(void) {
    return rm_breaker_reset(breaker);
}
static rm_status call_breaker_stats_get(void) {
    rm_breaker_stats stats;
    const rm_status status = rm_breaker_stats_get(breaker, &stats);
    cell_check(strcmp(rm_breaker_state_name(stats.state), "unknown") != 0, "in no state");
    return status;
}
static rm_status call_breaker_guard(void) {
    const rm_guard of_breaker = rm_breaker_guard(breaker);
    rm_permit one;
    const rm_status status = of_breaker.admit_fn(&one, NULL, of_breaker.user);
    if (status == RM_OK) of_breaker.report_fn(&one, RM_OUTCOME_OK, of_breaker.user);
    return status;
}
static rm_status call_breaker_resource(void) {
    const rm_resource resource = rm_breaker_resource(breaker);
    resource.stats_fn(resource.user, visit_stat, NULL);
    return resource.health_fn(resource.user, NULL) != RM_HEALTH_UNKNOWN ? RM_OK : RM_E_INTERNAL;
}
static rm_status call_breaker_values(void) {
    (void)rm_retry_desc_default();
    (void)rm_backoff(RM_JITTER_NONE, 0, 0, 0, 0, NULL);
    return rm_retryable(RM_E_TIMEOUT) && rm_breaker_classify(RM_OK) == RM_OUTCOME_OK &&
                   rm_breaker_desc_default().failures == 5
               ? RM_OK
               : RM_E_INTERNAL;
}
static rm_status call_retry_next(void) {
    const rm_retry_desc desc = retry_desc();
    rm_retry retry;
    int64_t wait_ns;
    const rm_status status = rm_retry_begin(&retry, &desc, none, NULL);
    return status == RM_OK ? rm_retry_next(&retry, RM_E_TIMEOUT, 0, &wait_ns) : status;
}
static rm_status call_retry_call(void) {
    const rm_retry_desc desc = retry_desc();
    return rm_retry_call(&desc, breaker, none, NULL, retry_fn, NULL, NULL);
}

#define ADMITTED (BIT(OK) | BIT(E_REJECTED))

static const action breaker_actions[] = {
    {"rm_breaker_create", call_breaker_create, BIT(OK)},
    {"rm_breaker_acquire", call_breaker_acquire, ADMITTED},
    {"rm_breaker_record", call_breaker_record, BIT(OK) | BIT(E_STALE)},
    {"rm_breaker_record of a failure", call_breaker_record_failure, BIT(OK) | BIT(E_STALE)},
    {"rm_breaker_call", call_breaker_call, BIT(OK)},
    {"rm_breaker_call that fails", call_breaker_call_failing, BIT(E_FAILED) | BIT(E_REJECTED)},
    {"rm_breaker_trip", call_breaker_trip, BIT(OK)},
    {"rm_breaker_reset", call_breaker_reset, BIT(OK)},
    {"rm_breaker_stats_get and rm_breaker_state_name", call_breaker_stats_get, BIT(OK)},
    {"rm_breaker_guard", call_breaker_guard, ADMITTED},
    {"rm_breaker_resource and its health", call_breaker_resource, BIT(OK)},
    {"rm_breaker_desc_default, rm_retry_desc_default and rm_breaker_classify", call_breaker_values,
     BIT(OK)},
    {"rm_retry_begin and rm_retry_next", call_retry_next, BIT(OK)},
    {"rm_retry_call", call_retry_call, BIT(OK) | BIT(E_REJECTED) | BIT(E_TIMEOUT)},
};

TEST(callbacks, of_breakers) {
    static const object breakers = {
        "breaker",       breaker_begin,         breaker_end, breaker_scenes, COUNT(breaker_scenes),
        breaker_actions, COUNT(breaker_actions)};
    run_matrix(&breakers);
}

/* ---- metrics ---- */

static const char METRICS_STATS[] = "rm_resource.stats_fn";
static const char METRICS_FLUSH[] = "rm_text.flush_fn";

static rm_metrics *metrics;
static rm_metrics_family *families[3];
static unsigned names_used;
static const char *inside; /* the resource whose stats_fn runs; NULL = none */

static void metrics_stats(void *user, rm_stat_fn visit, void *visit_user) {
    const char *const before = inside;
    rm_stat stat;
    inside = (const char *)user;
    memset(&stat, 0, sizeof stat);
    stat.name = "callbacks_total";
    stat.help = "Callbacks.";
    stat.value = 1;
    (void)in_hook(METRICS_STATS);
    visit(&stat, visit_user);
    inside = before;
}

static bool metrics_flush(const char *data, size_t size, void *user) {
    (void)data, (void)size, (void)user;
    return in_hook(METRICS_FLUSH) == RM_OK;
}

static rm_status add_resource(const char *name) {
    static char own[] = "own", other[] = "other", new_one[] = "new";
    rm_resource resource = rm_resource_make(name, "test", new_one);
    if (strcmp(name, own) == 0) resource.user = own;
    if (strcmp(name, other) == 0) resource.user = other;
    resource.stats_fn = metrics_stats;
    return rm_metrics_add_resource(metrics, &resource, NULL);
}

static rm_status render(size_t size, bool (*flush_fn)(const char *, size_t, void *)) {
    static char pages[3][8192]; /* one more than renders run inside each other */
    static unsigned page;
    rm_text text = rm_text_make(pages[page++ % 3], size);
    text.flush_fn = flush_fn;
    return rm_metrics_render(metrics, &text);
}

static rm_status add_family(rm_metric_type type, const char *name, rm_metrics_family **out) {
    rm_metric_desc desc = rm_metrics_describe(type, name, "Help.");
    desc.decimals = type == RM_METRIC_HISTOGRAM ? 3 : 0;
    return rm_metrics_add(metrics, &desc, out, NULL);
}

static void metrics_begin(void) {
    rm_metrics_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.env = &env;
    desc.max_families = 16;
    names_used = 0;
    cell_check(rm_metrics_create(&desc, &metrics, NULL) == RM_OK, "no registry");
    cell_check(add_family(RM_METRIC_COUNTER, "one_total", &families[0]) == RM_OK, "add");
    cell_check(add_family(RM_METRIC_GAUGE, "two", &families[1]) == RM_OK, "add");
    cell_check(add_family(RM_METRIC_HISTOGRAM, "three", &families[2]) == RM_OK, "add");
    cell_check(add_resource("own") == RM_OK && add_resource("other") == RM_OK, "add resource");
}

static void metrics_end(void) {
    cell_check(render(8192, NULL) == RM_OK, "render");
    cell_check(rm_metrics_destroy(metrics) == RM_OK, "destroy");
}

static void play_render(void) {
    outer(render(8192, NULL), BIT(OK));
}
static void play_render_flushed(void) {
    outer(render(256, metrics_flush), BIT(OK) | BIT(E_FAILED));
}
/* A page so short that it is full inside a stats_fn. */
static void play_render_bytes(void) {
    outer(render(16, metrics_flush), BIT(OK) | BIT(E_FAILED));
}

static const scene metrics_scenes[] = {
    {"stats_fn in rm_metrics_render", METRICS_STATS, NULL, play_render, NULL},
    {"stats_fn in a render that is flushed", METRICS_STATS, NULL, play_render_flushed, NULL},
    {"flush_fn in rm_metrics_render", METRICS_FLUSH, NULL, play_render_flushed, NULL},
    {"flush_fn of a short buffer", METRICS_FLUSH, NULL, play_render_bytes, NULL},
};

static rm_status call_metrics_create(void) {
    rm_metrics *other = NULL;
    rm_metrics_desc desc;
    rm_status status;
    memset(&desc, 0, sizeof desc);
    desc.env = &env;
    status = rm_metrics_create(&desc, &other, NULL);
    cell_check(rm_metrics_destroy(other) == RM_OK, "another registry is not destroyed");
    return status;
}
static rm_status call_metrics_destroy(void) {
    return rm_metrics_destroy(metrics);
}
static rm_status call_metrics_add(void) {
    char name[32];
    rm_metrics_family *family;
    snprintf(name, sizeof name, "new_%u_total", names_used++);
    return add_family(RM_METRIC_COUNTER, name, &family);
}
static rm_status call_counter(void) {
    rm_counter counter;
    uint64_t value = 0;
    if (rm_counter_with(families[0], NULL, 0, &counter, NULL) != RM_OK) return RM_E_INTERNAL;
    if (rm_counter_add(counter, 1) != RM_OK) return RM_E_INTERNAL;
    return rm_counter_value(counter, &value);
}
static rm_status call_gauge(void) {
    rm_gauge gauge;
    double value = 0;
    if (rm_gauge_with(families[1], NULL, 0, &gauge, NULL) != RM_OK) return RM_E_INTERNAL;
    if (rm_gauge_set(gauge, 1) != RM_OK || rm_gauge_add(gauge, 1) != RM_OK) return RM_E_INTERNAL;
    return rm_gauge_value(gauge, &value);
}
static rm_status call_histogram(void) {
    rm_histogram histogram;
    if (rm_histogram_with(families[2], NULL, 0, &histogram, NULL) != RM_OK) return RM_E_INTERNAL;
    return rm_histogram_observe(histogram, 1);
}
static rm_status call_add_resource(void) {
    char name[32];
    snprintf(name, sizeof name, "new_%u", names_used++);
    return add_resource(name);
}
static rm_status remove_resource(const char *name) {
    const rm_status status = rm_metrics_remove_resource(metrics, name);
    const bool own = inside != NULL && strcmp(inside, name) == 0;
    cell_check((status == RM_E_DEADLOCK) == own, "removed while its stats_fn runs, or not removed");
    return status;
}
static rm_status call_remove_own(void) {
    return remove_resource("own");
}
static rm_status call_remove_other(void) {
    return remove_resource("other");
}
static rm_status call_render(void) {
    return render(8192, NULL);
}
static rm_status call_render_flushed(void) {
    return render(256, metrics_flush);
}
static rm_status call_metrics_resource(void) {
    return rm_metrics_resource(metrics).name != NULL ? RM_OK : RM_E_INTERNAL;
}

#define REMOVED (BIT(OK) | BIT(E_DEADLOCK) | BIT(E_NOT_FOUND))

static const action metrics_actions[] = {
    {"rm_metrics_create", call_metrics_create, BIT(OK)},
    {"rm_metrics_destroy", call_metrics_destroy, BIT(E_BUSY)},
    {"rm_metrics_add and rm_metrics_describe", call_metrics_add, BIT(OK)},
    {"rm_counter_with, rm_counter_add and rm_counter_value", call_counter, BIT(OK)},
    {"rm_gauge_with, rm_gauge_set, rm_gauge_add and rm_gauge_value", call_gauge, BIT(OK)},
    {"rm_histogram_with and rm_histogram_observe", call_histogram, BIT(OK)},
    {"rm_metrics_add_resource", call_add_resource, BIT(OK)},
    {"rm_metrics_remove_resource of its own", call_remove_own, REMOVED},
    {"rm_metrics_remove_resource of another", call_remove_other, REMOVED},
    {"rm_metrics_render", call_render, BIT(OK)},
    {"rm_metrics_render with a flush_fn", call_render_flushed, BIT(OK)},
    {"rm_metrics_resource", call_metrics_resource, BIT(OK)},
};

TEST(callbacks, of_metrics) {
    static const object registries = {
        "metrics",       metrics_begin,         metrics_end, metrics_scenes, COUNT(metrics_scenes),
        metrics_actions, COUNT(metrics_actions)};
    run_matrix(&registries);
}

/* ---- manager ---- */

static const char MANAGER_START[] = "rm_resource.start_fn";
static const char MANAGER_STOP[] = "rm_resource.stop_fn";
static const char MANAGER_HEALTH[] = "rm_resource.health_fn";

static rm_manager *manager;
static bool fail_last;

static rm_status manager_start(void *user, rm_deadline deadline, rm_error *error) {
    (void)deadline, (void)error;
    return fail_last && user != NULL ? RM_E_REFUSED : in_hook(MANAGER_START);
}

static rm_status manager_stop(void *user, rm_deadline deadline, rm_error *error) {
    (void)user, (void)deadline, (void)error;
    return in_hook(MANAGER_STOP);
}

static rm_health manager_health(void *user, rm_error *reason) {
    (void)user, (void)reason;
    return in_hook(MANAGER_HEALTH) == RM_OK ? RM_HEALTH_HEALTHY : RM_HEALTH_UNHEALTHY;
}

static rm_status manage(const char *name, void *user) {
    rm_resource resource = rm_resource_make(name, "test", user);
    resource.start_fn = manager_start;
    resource.stop_fn = manager_stop;
    resource.health_fn = manager_health;
    return rm_manager_add(manager, &resource, NULL);
}

static void manager_begin(void) {
    rm_manager_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.env = &env;
    fail_last = false;
    cell_check(rm_manager_create(&desc, &manager, NULL) == RM_OK, "no manager");
    cell_check(manage("first", NULL) == RM_OK && manage("last", &manager) == RM_OK, "add");
}

static void manager_end(void) {
    rm_errors errors;
    fail_last = false;
    cell_check(rm_manager_stop(manager, 0, &errors) == RM_OK, "stop");
    cell_check(rm_manager_start(manager, 0, &errors) == RM_OK, "start");
    cell_check(rm_manager_stop(manager, 0, &errors) == RM_OK, "stop");
    cell_check(rm_manager_destroy(manager) == RM_OK, "destroy");
}

static void manager_started(void) {
    cell_check(rm_manager_start(manager, 0, NULL) == RM_OK, "start");
}
static void manager_fails_last(void) {
    fail_last = true;
}

static void play_manager_start(void) {
    outer(rm_manager_start(manager, RM_SEC(60), NULL),
          fail_last ? BIT(E_REFUSED) : BIT(OK) | BIT(E_FAILED));
}
static void play_manager_stop(void) {
    outer(rm_manager_stop(manager, RM_SEC(60), NULL), BIT(OK) | BIT(E_FAILED));
}
static void play_manager_status(void) {
    rm_resource_status list[2];
    uint32_t count;
    cell_check(rm_manager_status(manager, list, 2, &count) == RM_OK && count == 2, "status");
}

static const scene manager_scenes[] = {
    {"start_fn", MANAGER_START, NULL, play_manager_start, NULL},
    {"stop_fn", MANAGER_STOP, manager_started, play_manager_stop, NULL},
    {"stop_fn after a start failed", MANAGER_STOP, manager_fails_last, play_manager_start, NULL},
    {"health_fn", MANAGER_HEALTH, manager_started, play_manager_status, NULL},
};

static rm_status call_manager_create(void) {
    rm_manager *other = NULL;
    rm_manager_desc desc;
    rm_status status;
    memset(&desc, 0, sizeof desc);
    desc.env = &env;
    status = rm_manager_create(&desc, &other, NULL);
    cell_check(rm_manager_destroy(other) == RM_OK, "another manager is not destroyed");
    return status;
}
static rm_status call_manager_destroy(void) {
    return rm_manager_destroy(manager);
}
static rm_status call_manager_add(void) {
    return manage("new", NULL);
}
static rm_status call_manager_get(void) {
    rm_resource resource;
    return rm_manager_get(manager, "first", &resource);
}
static rm_status call_manager_start(void) {
    rm_errors errors;
    return rm_manager_start(manager, RM_MS(1), &errors);
}
static rm_status call_manager_stop(void) {
    rm_errors errors;
    return rm_manager_stop(manager, RM_MS(1), &errors);
}
static rm_status call_manager_status(void) {
    rm_resource_status list[2];
    uint32_t count;
    const rm_status status = rm_manager_status(manager, list, 2, &count);
    cell_check(strcmp(rm_state_name(list[0].state), "unknown") != 0, "a state without a name");
    return status;
}

static const action manager_actions[] = {
    {"rm_manager_create", call_manager_create, BIT(OK)},
    {"rm_manager_destroy", call_manager_destroy, BIT(E_STATE)},
    {"rm_manager_add", call_manager_add, BIT(E_STATE)},
    {"rm_manager_get", call_manager_get, BIT(OK)},
    {"rm_manager_start", call_manager_start, BIT(E_STATE)},
    {"rm_manager_stop", call_manager_stop, BIT(E_STATE)},
    {"rm_manager_status", call_manager_status, BIT(OK)},
};

TEST(callbacks, of_managers) {
    static const object managers = {
        "manager",       manager_begin,         manager_end, manager_scenes, COUNT(manager_scenes),
        manager_actions, COUNT(manager_actions)};
    run_matrix(&managers);
}

/* ---- registry ---- */

static const char REGISTRY_CREATE[] = "rm_registry_desc.create_fn";
static const char REGISTRY_DESTROY[] = "rm_registry_desc.destroy_fn";
static const char REGISTRY_EACH[] = "rm_registry_each.fn";

static rm_registry *registry;
static rm_registry_ref held_ref;

static rm_status registry_create(const void *key, size_t size, void **value, rm_error *error,
                                 void *user) {
    const rm_status status = in_hook(REGISTRY_CREATE);
    (void)key, (void)size, (void)error, (void)user;
    if (status != RM_OK) return status;
    ++made;
    *value = malloc(1); /* so that no two are alike, and a sanitizer sees a second end */
    return RM_OK;
}

static void registry_destroy(void *value, void *user) {
    (void)user;
    (void)in_hook(REGISTRY_DESTROY);
    ++ended;
    free(value);
}

static bool registry_evictable(void *value, void *user) {
    (void)value, (void)user;
    return true;
}

static bool registry_each(const void *key, size_t size, void *value, void *user) {
    (void)key, (void)size, (void)value, (void)user;
    return in_hook(REGISTRY_EACH) == RM_OK;
}

static rm_registry_desc registry_desc(void) {
    rm_registry_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.env = &env;
    desc.max_entries = 4;
    desc.stripes = 1;
    desc.create_fn = registry_create;
    desc.destroy_fn = registry_destroy;
    desc.evictable_fn = registry_evictable;
    return desc;
}

/* Borrows and gives back at once. */
static rm_status visit_key(const char *key) {
    rm_registry_ref ref;
    const rm_status status = rm_registry_get(registry, key, strlen(key), &ref, NULL);
    if (status == RM_OK) cell_check(rm_registry_put(registry, &ref) == RM_OK, "put");
    return status;
}

static void registry_begin(void) {
    const rm_registry_desc desc = registry_desc();
    made = ended = 0;
    cell_check(rm_registry_create(&desc, &registry, NULL) == RM_OK, "no registry");
    cell_check(rm_registry_get(registry, "held", 4, &held_ref, NULL) == RM_OK, "get");
    cell_check(visit_key("a") == RM_OK, "get");
}

static void registry_end(void) {
    if (registry == NULL) {
        cell_check(made == ended, "not every object was ended once");
        return;
    }
    if (held_ref.value != NULL) cell_check(rm_registry_put(registry, &held_ref) == RM_OK, "put");
    cell_check(visit_key("health") == RM_OK, "get");
    cell_check(rm_registry_remove(registry, "health", 6) == RM_OK, "remove");
    cell_check(rm_registry_destroy(registry) == RM_OK, "destroy");
    cell_check(made == ended, "not every object was ended once");
}

static void registry_full(void) {
    cell_check(visit_key("b") == RM_OK && visit_key("c") == RM_OK, "get");
}

static void play_get(void) {
    outer(visit_key("new"), BIT(OK) | BIT(E_FAILED) | BIT(E_FULL));
}
static void play_remove(void) {
    cell_check(rm_registry_remove(registry, "a", 1) == RM_OK, "remove");
}
static void play_each(void) {
    rm_registry_each(registry, registry_each, NULL);
}

static void play_registry_destroy(void) {
    cell_check(rm_registry_put(registry, &held_ref) == RM_OK, "put");
    cell_check(rm_registry_destroy(registry) == RM_OK, "destroy");
    registry = NULL;
}

static const scene registry_scenes[] = {
    {"destroy_fn in rm_registry_destroy", REGISTRY_DESTROY, NULL, play_registry_destroy, NULL},
    {"create_fn in rm_registry_get", REGISTRY_CREATE, NULL, play_get, NULL},
    {"create_fn in a full registry", REGISTRY_CREATE, registry_full, play_get, NULL},
    {"destroy_fn in rm_registry_remove", REGISTRY_DESTROY, NULL, play_remove, NULL},
    {"destroy_fn of what is evicted", REGISTRY_DESTROY, registry_full, play_get, NULL},
    {"fn of rm_registry_each", REGISTRY_EACH, NULL, play_each, NULL},
};

static rm_status call_registry_create(void) {
    const rm_registry_desc desc = registry_desc();
    rm_registry *other = NULL;
    const rm_status status = rm_registry_create(&desc, &other, NULL);
    cell_check(rm_registry_destroy(other) == RM_OK, "another registry is not destroyed");
    return status;
}
static rm_status call_registry_destroy(void) {
    return rm_registry_destroy(registry);
}
static rm_status call_registry_get_same(void) {
    return visit_key("new");
}
static rm_status call_registry_get_other(void) {
    return visit_key("other");
}
static rm_status call_registry_put(void) {
    return rm_registry_put(registry, &held_ref);
}
static rm_status call_registry_hold(void) {
    rm_registry_ref ref;
    const rm_status status = rm_registry_hold(registry, &held_ref, &ref);
    if (status == RM_OK) cell_check(rm_registry_put(registry, &ref) == RM_OK, "put");
    return status;
}
static rm_status call_registry_remove_same(void) {
    return rm_registry_remove(registry, "a", 1);
}
static rm_status call_registry_remove_held(void) {
    return rm_registry_remove(registry, "held", 4);
}
static rm_status call_registry_each(void) {
    rm_registry_each(registry, registry_each, NULL);
    return RM_OK;
}
static rm_status call_registry_count(void) {
    return rm_registry_count(registry) <= 4 ? RM_OK : RM_E_INTERNAL;
}

static const action registry_actions[] = {
    {"rm_registry_create", call_registry_create, BIT(OK)},
    {"rm_registry_destroy", call_registry_destroy, BIT(E_BUSY)},
    {"rm_registry_get of that key", call_registry_get_same, BIT(OK) | BIT(E_FULL) | BIT(E_CLOSED)},
    {"rm_registry_get of another key", call_registry_get_other,
     BIT(OK) | BIT(E_FULL) | BIT(E_CLOSED)},
    {"rm_registry_hold", call_registry_hold, BIT(OK) | BIT(E_STALE)},
    {"rm_registry_put", call_registry_put, BIT(OK) | BIT(E_STALE)},
    {"rm_registry_remove", call_registry_remove_same, BIT(OK) | BIT(E_NOT_FOUND) | BIT(E_BUSY)},
    {"rm_registry_remove of what is lent", call_registry_remove_held,
     BIT(E_BUSY) | BIT(E_NOT_FOUND)},
    {"rm_registry_each", call_registry_each, BIT(OK)},
    {"rm_registry_count", call_registry_count, BIT(OK)},
};

TEST(callbacks, of_registries) {
    static const object registries = {"registry",
                                      registry_begin,
                                      registry_end,
                                      registry_scenes,
                                      COUNT(registry_scenes),
                                      registry_actions,
                                      COUNT(registry_actions)};
    run_matrix(&registries);
}

/* ---- wait queue ---- */

static const char QUEUE_DONE[] = "rm_waitq_add.done_fn";

static rm_waitq queue;
static rm_waiter waiters[8]; /* the first waits for long, the second is that of the scene */
static unsigned waiters_used, waits_begun, waits_done;
static int units;
static rm_cancel cancel;

enum { BEFORE = 2 }; /* so many waits were served before: they may go on */

static bool queue_try(void *owner, void *request, uint64_t *grant) {
    (void)owner, (void)request;
    if (units == 0) return false;
    --units;
    *grant = 1;
    return true;
}

static void long_done(rm_status status, uint64_t grant, void *user) {
    (void)status, (void)grant, (void)user;
    ++waits_done;
}

static void queue_done(rm_status status, uint64_t grant, void *user) {
    long_done(status, grant, user);
    (void)in_hook(QUEUE_DONE);
}

static rm_status enqueue(rm_deadline deadline, rm_cancel *token, rm_waitq_done_fn done_fn) {
    const rm_status status = rm_waitq_add(&queue, &waiters[waiters_used], &waiters[waiters_used],
                                          deadline, token, done_fn, NULL);
    waiters_used += status == RM_OK;
    waits_begun += status == RM_OK;
    return status;
}

static rm_deadline soon(void) {
    return rm_deadline_after(&virtual_clock, RM_SEC(1));
}

static void queue_begin(void) {
    rm_waitq_desc desc;
    uint64_t grant;
    memset(&desc, 0, sizeof desc);
    memset(waiters, 0, sizeof waiters);
    desc.clock = &virtual_clock;
    desc.try_fn = queue_try;
    waiters_used = waits_begun = waits_done = 0;
    cell_check(rm_waitq_init(&queue, &desc) == RM_OK, "no queue");
    cell_check(rm_cancel_init(&cancel) == RM_OK, "no token");
    for (units = BEFORE; units > 0;)
        cell_check(rm_waitq_wait(&queue, NULL, none, NULL, &grant) == RM_OK, "wait");
    cell_check(enqueue(none, NULL, long_done) == RM_OK, "not queued");
}

static void queue_end(void) {
    const rm_deadline past = {INT64_MIN};
    rm_waitq_stats stats;
    uint64_t grant;
    rm_waitq_close(&queue);
    rm_waitq_open(&queue);
    cell_check(rm_waitq_wait(&queue, NULL, past, NULL, &grant) == RM_E_TIMEOUT, "wait");
    cell_check(rm_waitq_stats_get(&queue, &stats) == RM_OK && stats.waiting == 0, "waits left");
    cell_check(stats.waits == stats.granted + stats.timeouts + stats.cancelled + stats.ended,
               "the waits do not add up");
    cell_check(waits_done == waits_begun, "not every wait ended once");
    cell_check(rm_waitq_destroy(&queue) == RM_OK, "destroy");
    cell_check(rm_cancel_destroy(&cancel) == RM_OK, "destroy a token");
}

static void queued(void) {
    cell_check(enqueue(soon(), NULL, queue_done) == RM_OK, "not queued");
}
static void queued_with_token(void) {
    cell_check(enqueue(none, &cancel, queue_done) == RM_OK, "not queued");
}
static void queued_as_head(void) {
    cell_check(rm_waitq_remove(&queue, &waiters[0]) == RM_OK, "remove");
    queued();
    cell_check(enqueue(none, NULL, long_done) == RM_OK, "not queued");
}

static void play_notify(void) {
    units = 1;
    rm_waitq_notify(&queue);
}
static void play_waiter_removed(void) {
    cell_check(rm_waitq_remove(&queue, &waiters[1]) == RM_OK, "remove");
}
static void play_expire(void) {
    time_ns += RM_SEC(10);
    (void)rm_waitq_expire(&queue);
}
static void play_queue_close(void) {
    rm_waitq_close(&queue);
}
static void play_complete(void) {
    rm_waitq_lock(&queue);
    cell_check(rm_waitq_complete(&queue, &waiters[1], RM_E_FAILED, 0) == 1, "complete");
    rm_waitq_unlock(&queue);
}
static void play_cancel(void) {
    rm_cancel_request(&cancel);
}
static void play_add(void) {
    units = 1;
    if (rm_waitq_remove(&queue, &waiters[0]) == RM_OK) /* else it is first */
        cell_check(enqueue(none, NULL, queue_done) == RM_OK, "not queued");
}

static const scene queue_scenes[] = {
    {"done_fn in rm_waitq_notify", QUEUE_DONE, queued_as_head, play_notify, NULL},
    {"done_fn in rm_waitq_remove", QUEUE_DONE, queued, play_waiter_removed, NULL},
    {"done_fn in rm_waitq_expire", QUEUE_DONE, queued, play_expire, NULL},
    /* it leaves nobody by whom rm_waitq_destroy could tell that the queue is in use */
    {"done_fn in rm_waitq_close", QUEUE_DONE, queued, play_queue_close, "rm_waitq_destroy"},
    {"done_fn in rm_waitq_unlock", QUEUE_DONE, queued, play_complete, NULL},
    {"done_fn in rm_cancel_request", QUEUE_DONE, queued_with_token, play_cancel, NULL},
    {"done_fn in rm_waitq_add", QUEUE_DONE, NULL, play_add, "rm_waitq_destroy"},
};

static rm_status call_waitq_init(void) {
    rm_waitq other;
    const rm_status status = rm_waitq_init(&other, NULL);
    cell_check(rm_waitq_destroy(&other) == RM_OK, "another queue is not destroyed");
    return status;
}
static rm_status call_waitq_destroy(void) {
    return rm_waitq_destroy(&queue);
}
static rm_status call_waitq_must_queue(void) {
    (void)rm_waitq_must_queue(&queue);
    return RM_OK;
}
static rm_status call_waitq_wait(void) {
    uint64_t grant;
    return rm_waitq_wait(&queue, NULL, soon(), NULL, &grant);
}
static rm_status call_waitq_wait_on(void) {
    uint64_t grant;
    return rm_waitq_wait_on(&queue, NULL, RM_SEC(1000), soon(), NULL, &grant);
}
static rm_status call_waitq_wait_locked(void) {
    uint64_t grant;
    rm_status status;
    rm_waitq_lock(&queue);
    status = rm_waitq_wait_locked(&queue, NULL, soon(), NULL, &grant);
    rm_waitq_unlock(&queue);
    return status;
}
static rm_status call_waitq_add(void) {
    return enqueue(none, NULL, long_done);
}
/* The waiter of the scene goes on, if it was served. */
static rm_status call_waitq_add_on(void) {
    const rm_status status = rm_waitq_add_on(&queue, &waiters[1]);
    waits_begun += status == RM_OK;
    return status;
}
static rm_status call_waitq_remove(void) {
    return rm_waitq_remove(&queue, &waiters[0]);
}
static rm_status call_waitq_remove_own(void) {
    return rm_waitq_remove(&queue, &waiters[waiters_used - 1]);
}
static rm_status call_waitq_notify(void) {
    units = 1;
    rm_waitq_notify(&queue);
    units = 0;
    return RM_OK;
}
static rm_status call_waitq_serve(void) {
    units = 1;
    rm_waitq_serve(&queue);
    units = 0;
    return RM_OK;
}
static rm_status call_waitq_expire(void) {
    (void)rm_waitq_expire(&queue);
    return RM_OK;
}
static rm_status call_waitq_close(void) {
    rm_waitq_close(&queue);
    return RM_OK;
}
static rm_status call_waitq_open(void) {
    rm_waitq_open(&queue);
    return RM_OK;
}
static rm_status call_waitq_complete(void) {
    rm_waitq_lock(&queue);
    (void)rm_waitq_complete(&queue, NULL, RM_E_FAILED, 0);
    rm_waitq_unlock(&queue);
    return RM_OK;
}
static rm_status call_waitq_stats_get(void) {
    rm_waitq_stats stats;
    return rm_waitq_stats_get(&queue, &stats);
}
static rm_status call_cancel_request(void) {
    rm_cancel_request(&cancel);
    return rm_cancel_requested(&cancel) ? RM_OK : RM_E_INTERNAL;
}

#define WAITED (BIT(OK) | BIT(E_TIMEOUT) | BIT(E_CLOSED))

static const action queue_actions[] = {
    {"rm_waitq_init", call_waitq_init, BIT(OK)},
    {"rm_waitq_destroy", call_waitq_destroy, BIT(E_BUSY)},
    {"rm_waitq_must_queue", call_waitq_must_queue, BIT(OK)},
    {"rm_waitq_wait", call_waitq_wait, WAITED},
    {"rm_waitq_wait_on", call_waitq_wait_on, WAITED},
    {"rm_waitq_wait_locked", call_waitq_wait_locked, WAITED},
    {"rm_waitq_add", call_waitq_add, BIT(OK) | BIT(E_CLOSED)},
    {"rm_waitq_add_on", call_waitq_add_on, BIT(OK) | BIT(E_STALE)},
    {"rm_waitq_remove", call_waitq_remove, BIT(OK) | BIT(E_STALE)},
    {"rm_waitq_remove of the last", call_waitq_remove_own, BIT(OK) | BIT(E_STALE)},
    {"rm_waitq_notify", call_waitq_notify, BIT(OK)},
    {"rm_waitq_serve", call_waitq_serve, BIT(OK)},
    {"rm_waitq_expire", call_waitq_expire, BIT(OK)},
    {"rm_waitq_close", call_waitq_close, BIT(OK)},
    {"rm_waitq_open", call_waitq_open, BIT(OK)},
    {"rm_waitq_complete, rm_waitq_lock and rm_waitq_unlock", call_waitq_complete, BIT(OK)},
    {"rm_waitq_stats_get", call_waitq_stats_get, BIT(OK)},
    {"rm_cancel_request", call_cancel_request, BIT(OK)},
};

TEST(callbacks, of_wait_queues) {
    static const object queues = {"wait queue",        queue_begin,         queue_end,
                                  queue_scenes,        COUNT(queue_scenes), queue_actions,
                                  COUNT(queue_actions)};
    run_matrix(&queues);
}

TEST_MAIN

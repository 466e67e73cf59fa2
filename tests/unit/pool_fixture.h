/* For tests of rm_pool.h: a virtual clock, things to lend that watch their use, a journal of what
   the pool tells, gates that hold hooks up, and threads that acquire. */
#ifndef POOL_FIXTURE_H
#define POOL_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef _WIN32
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>
#else
#include <sched.h>
#endif

#define GET(word) __atomic_load_n(&(word), __ATOMIC_SEQ_CST)
#define SET(word, value) __atomic_store_n(&(word), (value), __ATOMIC_SEQ_CST)
#define ADD(word, value) __atomic_add_fetch(&(word), (value), __ATOMIC_SEQ_CST)
#define SWAP(word, value) __atomic_exchange_n(&(word), (value), __ATOMIC_SEQ_CST)

/* Keeps the highest of many values. */
static inline void raise_to(uint32_t *most, uint32_t value) {
    uint32_t seen = GET(*most);
    while (value > seen && !__atomic_compare_exchange_n(most, &seen, value, false, __ATOMIC_SEQ_CST,
                                                        __ATOMIC_SEQ_CST)) {}
}

/* Lets other threads run. */
static inline void relax(void) {
#ifdef _WIN32
    SwitchToThread();
#else
    sched_yield();
#endif
}

/* ---- a gate: holds threads up at a known place ---- */

typedef struct gate {
    rm_mutex mutex;
    rm_cond changed;
    uint32_t inside;
    bool open;
} gate;

static inline void gate_init(gate *g) {
    memset(g, 0, sizeof *g);
    CHECK_EQ(RM_OK, rm_mutex_init(&g->mutex));
    CHECK_EQ(RM_OK, rm_cond_init(&g->changed));
}

static inline void gate_done(gate *g) {
    rm_cond_destroy(&g->changed);
    rm_mutex_destroy(&g->mutex);
}

static inline void gate_pass(gate *g) {
    rm_mutex_lock(&g->mutex);
    ++g->inside;
    rm_cond_broadcast(&g->changed);
    while (!g->open)
        rm_cond_wait(&g->changed, &g->mutex, INT64_MAX);
    rm_mutex_unlock(&g->mutex);
}

static inline void gate_await(gate *g, uint32_t count) {
    rm_mutex_lock(&g->mutex);
    while (g->inside < count)
        rm_cond_wait(&g->changed, &g->mutex, INT64_MAX);
    rm_mutex_unlock(&g->mutex);
}

static inline void gate_open(gate *g) {
    rm_mutex_lock(&g->mutex);
    g->open = true;
    rm_cond_broadcast(&g->changed);
    rm_mutex_unlock(&g->mutex);
}

/* ---- the world ---- */

typedef struct thing {
    uint32_t number; /* 1, 2, 3 ... in the order of creation */
    bool sick;       /* fails its check */
    bool dirty;      /* fails its reset */
    uint32_t hands;  /* who uses it: 0 = nobody; more than one at a time is a failure */
} thing;

static inline void thing_take(thing *t) {
    CHECK_EQ(0, SWAP(t->hands, 1));
    CHECK(t->number != 0);
}

static inline void thing_leave(thing *t) {
    CHECK_EQ(1, SWAP(t->hands, 0));
}

/* An event, copied. */
typedef struct note {
    rm_pool_event_kind kind;
    rm_pool_cause cause;
    uint32_t thing; /* its number; 0 = none */
    uint32_t thread;
    void *resource, *data;
    int64_t ns;
    rm_status status; /* of its error; RM_OK = none */
    char pool[16], endpoint[16], where[80], message[160];
} note;

typedef struct world {
    rm_virtual_clock time;
    rm_clock clock;
    rm_random random; /* always draws `luck` */
    rm_log log;
    rm_env env;
    rm_pool_desc desc;
    rm_pool *pool;
    uint64_t luck;
    uint32_t creates, created, destroyed, validates, resets, reclaims; /* calls */
    uint32_t leaves;            /* things that left the pool without destroy_fn */
    uint32_t live, live_most;   /* from create's begin to destroy's end */
    uint32_t hooks, hooks_most; /* calls of hooks at a time */
    rm_status create_status, validate_status, reset_status; /* what the hooks return */
    const char *create_says;                                /* why, when it fails; NULL = nothing */
    int64_t create_takes_ns;
    uint32_t create_fails_at;      /* this call of create fails with RM_E_REFUSED */
    uint32_t chance;               /* 1 in so many hooks fails; 0 = none */
    rm_rng rng;                    /* by these numbers */
    gate *at_create, *at_validate; /* every such call goes through it */
    gate *next_create, *next_validate, *next_reset, *next_destroy; /* the next one does */
    void (*inside)(struct world *);                                /* every create calls it */
    void (*inside_all)(struct world *);                            /* every hook does */
    uint32_t depth;                                                /* theirs to use */
    bool watches;         /* what is lent is in one hand, all sums are what the hooks counted */
    rm_deadline deadline; /* as the last create got it */
    rm_mutex mutex;       /* guards what follows */
    note notes[64];
    uint32_t noted;
    uint32_t logged; /* events, and the last one's name, pool and message */
    char log_event[32], log_pool[16], log_message[160];
} world;

static inline void copy(char *to, size_t size, const char *from) {
    (void)snprintf(to, size, "%s", from == NULL ? "" : from);
}

/* A hook begins: the next one of its kind goes through a gate. */
static inline void hook_begin(world *w, gate **next) {
    gate *g = SWAP(*next, NULL);
    raise_to(&w->hooks_most, ADD(w->hooks, 1));
    if (g != NULL) gate_pass(g);
    if (w->inside_all != NULL) w->inside_all(w);
}

/* It ends: fails it by chance? */
static inline bool hook_end(world *w) {
    const bool fails = w->chance != 0 && rm_rng_next(&w->rng) % w->chance == 0;
    ADD(w->hooks, UINT32_MAX);
    return fails;
}

static inline rm_status thing_create(void **resource, rm_deadline deadline, rm_error *error,
                                     void *user) {
    world *w = (world *)user;
    gate *g = GET(w->at_create);
    const uint32_t call = ADD(w->creates, 1);
    rm_status status;
    thing *t;
    raise_to(&w->live_most, ADD(w->live, 1));
    SET(w->deadline.at_ns, deadline.at_ns);
    hook_begin(w, &w->next_create);
    if (g != NULL) gate_pass(g);
    if (w->inside != NULL) w->inside(w);
    rm_virtual_clock_advance(&w->time, w->create_takes_ns);
    status = GET(w->create_status);
    if (hook_end(w) || call == w->create_fails_at) status = RM_E_REFUSED;
    if (status != RM_OK) {
        ADD(w->live, UINT32_MAX);
        if (w->create_says == NULL) return status;
        return rm_error_set(error, status, 111, "server", "%s", w->create_says);
    }
    t = (thing *)calloc(1, sizeof *t);
    if (t == NULL) return RM_E_NOMEM;
    t->number = ADD(w->created, 1);
    *resource = t;
    return RM_OK;
}

static inline void thing_destroy(void *resource, void *user) {
    world *w = (world *)user;
    thing *t = (thing *)resource;
    if (w->watches) thing_take(t);
    hook_begin(w, &w->next_destroy);
    t->number = 0;
    free(t);
    (void)hook_end(w);
    ADD(w->live, UINT32_MAX);
    ADD(w->destroyed, 1);
}

static inline rm_status thing_validate(void *resource, void *user) {
    world *w = (world *)user;
    thing *t = (thing *)resource;
    gate *g = GET(w->at_validate);
    bool sick;
    if (w->watches) thing_take(t);
    ADD(w->validates, 1);
    hook_begin(w, &w->next_validate);
    if (g != NULL) gate_pass(g);
    sick = t->sick;
    if (w->watches) thing_leave(t);
    return hook_end(w) || sick ? RM_E_FAILED : w->validate_status;
}

static inline rm_status thing_reset(void *resource, void *user) {
    world *w = (world *)user;
    thing *t = (thing *)resource;
    bool dirty;
    if (w->watches) thing_take(t);
    ADD(w->resets, 1);
    hook_begin(w, &w->next_reset);
    dirty = t->dirty;
    if (w->watches) thing_leave(t);
    return hook_end(w) || dirty ? RM_E_FAILED : w->reset_status;
}

/* What is taken from its holder is ended here: the holders of these tests do not use it. */
static inline void thing_reclaim(void *resource, void *user) {
    (void)resource;
    ADD(((world *)user)->reclaims, 1);
}

static inline void world_event(const rm_pool_event *event, void *user) {
    world *w = (world *)user;
    const bool gone = event->kind == RM_POOL_EVENT_DESTROYED; /* then it is a pointer only */
    note *n;
    rm_mutex_lock(&w->mutex);
    n = &w->notes[w->noted++ % 64];
    memset(n, 0, sizeof *n);
    n->kind = event->kind;
    n->cause = event->cause;
    n->resource = event->resource;
    n->thing = event->resource == NULL || gone ? 0 : ((thing *)event->resource)->number;
    n->thread = event->thread;
    n->data = event->data;
    n->ns = event->ns;
    copy(n->pool, sizeof n->pool, event->pool);
    copy(n->endpoint, sizeof n->endpoint, event->endpoint);
    copy(n->where, sizeof n->where, event->where);
    if (event->error != NULL) {
        n->status = event->error->status;
        CHECK(event->error->native != 1); /* as in take_for */
        copy(n->message, sizeof n->message, event->error->message);
    }
    rm_mutex_unlock(&w->mutex);
}

static inline void world_log(const rm_log_event *event, void *user) {
    world *w = (world *)user;
    size_t i;
    rm_mutex_lock(&w->mutex);
    ++w->logged;
    copy(w->log_event, sizeof w->log_event, event->event);
    w->log_pool[0] = w->log_message[0] = '\0';
    for (i = 0; i < event->count; ++i) {
        if (strcmp(event->values[i].key, "message") == 0)
            copy(w->log_message, sizeof w->log_message, event->values[i].string);
        if (strcmp(event->values[i].key, "pool") == 0)
            copy(w->log_pool, sizeof w->log_pool, event->values[i].string);
    }
    rm_mutex_unlock(&w->mutex);
}

static inline uint64_t world_luck(void *user) {
    return GET(((world *)user)->luck);
}

/* A world whose desc has `max` things and no checks yet. */
static inline void world_init(world *w, uint32_t max) {
    memset(w, 0, sizeof *w);
    CHECK_EQ(RM_OK, rm_virtual_clock_init(&w->time, RM_SEC(1000), false));
    CHECK_EQ(RM_OK, rm_mutex_init(&w->mutex));
    w->clock = rm_virtual_clock_clock(&w->time);
    w->random.next_fn = world_luck;
    w->random.user = w;
    w->log.log_fn = world_log;
    w->log.user = w;
    w->env.clock = &w->clock;
    w->env.random = &w->random;
    w->env.log = &w->log;
    w->create_says = "nobody listens";
    rm_rng_seed(&w->rng, 1);
    w->desc = rm_pool_desc_default();
    w->desc.name = "db";
    w->desc.env = &w->env;
    w->desc.max = max;
    w->desc.create_fn = thing_create;
    w->desc.destroy_fn = thing_destroy;
    w->desc.user = w;
}

static inline bool world_open(world *w) {
    rm_error error;
    return CHECK_EQ(RM_OK, rm_pool_create(&w->desc, &w->pool, &error));
}

/* A world whose pool is open, with `max` things and nothing else that is special. */
static inline bool world_begin(world *w, uint32_t max) {
    world_init(w, max);
    return world_open(w);
}

/* A snapshot; in every one the states sum to capacity. */
static inline rm_pool_stats stats_of(world *w) {
    rm_pool_stats s;
    memset(&s, 0, sizeof s);
    CHECK_EQ(RM_OK, rm_pool_stats_get(w->pool, &s));
    CHECK_EQ(s.capacity, s.in_use + s.idle + s.creating + s.checking + s.closing + s.empty);
    return s;
}

/* The sums that hold when no call is under way. */
static inline void check_totals(world *w) {
    const rm_pool_stats s = stats_of(w);
    CHECK_EQ(0, s.creating);
    CHECK_EQ(0, s.closing);
    CHECK_EQ(0, s.waiting);
    CHECK_EQ(GET(w->created), s.created);
    CHECK_EQ(GET(w->creates) - GET(w->created), s.create_failures);
    CHECK_EQ(GET(w->destroyed), s.destroyed);
    CHECK_EQ(s.created - s.destroyed, s.in_use + s.idle);
    CHECK_EQ(GET(w->live), s.in_use + s.idle);
    CHECK(s.ended[RM_POOL_CAUSE_BROKEN] + s.ended[RM_POOL_CAUSE_INVALID] +
              s.ended[RM_POOL_CAUSE_IDLE] <=
          s.destroyed);
}

/* Ends a world whose leases are back: nothing may be left of it. */
static inline void world_end(world *w) {
    if (w->watches) check_totals(w);
    CHECK_EQ(RM_OK, rm_pool_close(w->pool, RM_NOWAIT, NULL));
    if (w->watches) check_totals(w);
    CHECK_EQ(w->created, w->destroyed + w->leaves);
    CHECK_EQ(RM_OK, rm_pool_destroy(w->pool));
    rm_mutex_destroy(&w->mutex);
    rm_virtual_clock_destroy(&w->time);
}

static inline void pass(world *w, int64_t ns) {
    rm_virtual_clock_advance(&w->time, ns);
}

static inline thing *thing_of(const rm_lease *lease) {
    return (thing *)lease->resource;
}

/* Which thing it is; 0 = none. */
static inline uint32_t number_of(const rm_lease *lease) {
    return lease->resource == NULL ? 0 : thing_of(lease)->number;
}

/* Acquires; a failure says where and why. */
static inline rm_status take_for(world *w, int64_t timeout_ns, rm_lease *lease) {
    rm_error error;
    rm_status status;
    memset(&error, 0, sizeof error);
    memset(lease, 0, sizeof *lease);
    status = rm_pool_acquire(w->pool, timeout_ns, lease, &error);
    CHECK_EQ(status, error.status);
    CHECK((status == RM_OK) == (lease->resource != NULL));
    if (status != RM_OK) CHECK(error.where[0] != '\0' && error.message[0] != '\0');
    CHECK(error.native != 1); /* a hook says another, and the pool none */
    if (status == RM_OK && w->watches) thing_take(thing_of(lease));
    return status;
}

/* Acquires without waiting. */
static inline rm_status take(world *w, rm_lease *lease) {
    return take_for(w, RM_NOWAIT, lease);
}

static inline void give(world *w, rm_lease *lease, rm_release how) {
    if (w->watches && lease->resource != NULL) thing_leave(thing_of(lease));
    CHECK_EQ(RM_OK, rm_pool_release(w->pool, lease, how));
    CHECK(lease->resource == NULL && lease->sequence == 0 && lease->pool == 0 && lease->slot == 0);
}

/* Takes one and gives it back so. */
static inline void release_one(world *w, rm_release how) {
    rm_lease lease;
    CHECK_EQ(RM_OK, take(w, &lease));
    give(w, &lease, how);
}

static inline void take_many(world *w, rm_lease *leases, uint32_t count) {
    uint32_t i;
    for (i = 0; i < count; ++i)
        CHECK_EQ(RM_OK, take(w, &leases[i]));
}

static inline void give_many(world *w, rm_lease *leases, uint32_t count) {
    uint32_t i;
    for (i = 0; i < count; ++i)
        give(w, &leases[i], RM_RELEASE_OK);
}

static inline void take_both(world *w, rm_lease *a, rm_lease *b) {
    CHECK_EQ(RM_OK, take(w, a));
    CHECK_EQ(RM_OK, take(w, b));
}

static inline void give_both(world *w, rm_lease *a, rm_lease *b) {
    give(w, a, RM_RELEASE_OK);
    give(w, b, RM_RELEASE_OK);
}

/* Takes it out of the pool for good. */
static inline void detach(world *w, rm_lease *lease) {
    void *resource = NULL;
    CHECK_EQ(RM_OK, rm_pool_detach(w->pool, lease, &resource));
    free(resource);
    ++w->leaves;
}

/* Takes and gives back: the number of the thing that was lent; 0 = none. */
static inline uint32_t borrow(world *w) {
    rm_lease lease;
    uint32_t number;
    if (take(w, &lease) != RM_OK) return 0;
    number = number_of(&lease);
    give(w, &lease, RM_RELEASE_OK);
    return number;
}

/* Takes so many, and gives them back: then they are idle. */
static inline void fill(world *w, uint32_t count) {
    rm_lease leases[16];
    take_many(w, leases, count);
    give_many(w, leases, count);
}

static inline rm_status maintain(world *w) {
    const rm_deadline none = {0};
    rm_error error;
    rm_status status;
    memset(&error, 0, sizeof error);
    status = rm_pool_maintain(w->pool, 0, none, &error);
    CHECK_EQ(status, error.status);
    return status;
}

/* ---- a thread that acquires once ---- */

typedef struct caller {
    world *w;
    int64_t timeout_ns;
    rm_cancel *cancel; /* then timeout_ns becomes a deadline */
    bool gives_back;   /* as soon as it has it */
    uint32_t *order;   /* counts those who got one */
    uint32_t place;    /* which it was */
    uint32_t finished;
    rm_lease lease;
    rm_error error;
    rm_status status;
    rm_thread thread;
} caller;

static inline void caller_run(void *user) {
    caller *c = (caller *)user;
    if (c->cancel != NULL)
        c->status =
            rm_pool_acquire_until(c->w->pool, rm_deadline_after(&c->w->clock, c->timeout_ns),
                                  c->cancel, &c->lease, &c->error);
    else
        c->status = rm_pool_acquire(c->w->pool, c->timeout_ns, &c->lease, &c->error);
    if (c->status == RM_OK) {
        if (c->w->watches) thing_take(thing_of(&c->lease));
        if (c->order != NULL) c->place = ADD(*c->order, 1);
        if (c->gives_back) give(c->w, &c->lease, RM_RELEASE_OK);
    }
    SET(c->finished, 1);
}

/* Starts one that is set up, which will wait as the nth on the clock; 0 = it need not. */
static inline void caller_go(caller *c, world *w, int64_t timeout_ns, uint32_t nth) {
    c->w = w;
    c->timeout_ns = timeout_ns;
    CHECK_EQ(RM_OK, rm_thread_start(&c->thread, caller_run, c));
    if (nth > 0) rm_virtual_clock_await(&w->time, nth);
}

static inline void caller_start(caller *c, world *w, int64_t timeout_ns) {
    memset(c, 0, sizeof *c);
    caller_go(c, w, timeout_ns, 0);
}

/* Starts a caller that will wait, as the nth on the clock. */
static inline void caller_queue(caller *c, world *w, int64_t timeout_ns, uint32_t nth) {
    memset(c, 0, sizeof *c);
    caller_go(c, w, timeout_ns, nth);
}

/* Starts a caller and holds it up at a gate, in the hook that goes through `place`. */
static inline void caller_at_gate(caller *c, world *w, gate **place, gate *g) {
    gate_init(g);
    SET(*place, g);
    caller_start(c, w, RM_FOREVER);
    gate_await(g, 1);
}

static inline rm_status caller_join(caller *c) {
    rm_thread_join(&c->thread);
    return c->status;
}

/* It must get one, which is given back. */
static inline void caller_served(caller *c) {
    CHECK_EQ(RM_OK, caller_join(c));
    give(c->w, &c->lease, RM_RELEASE_OK);
}

/* ---- a thread that closes, one that releases, one that maintains ---- */

typedef struct job {
    world *w;
    int64_t timeout_ns;
    rm_lease *lease;
    rm_release how;
    uint32_t finished;
    rm_error error;
    rm_status status;
    rm_thread thread;
} job;

static inline void job_close(void *user) {
    job *j = (job *)user;
    memset(&j->error, 0, sizeof j->error);
    j->status = rm_pool_close(j->w->pool, j->timeout_ns, &j->error);
    CHECK((j->status == RM_OK) == (j->error.message[0] == '\0'));
    SET(j->finished, 1);
}

static inline void job_release(void *user) {
    job *j = (job *)user;
    give(j->w, j->lease, j->how);
    SET(j->finished, 1);
}

static inline void job_maintain(void *user) {
    job *j = (job *)user;
    j->status = rm_pool_maintain(j->w->pool, 0, rm_deadline_after(NULL, RM_FOREVER), &j->error);
    SET(j->finished, 1);
}

static inline void job_go(job *j, world *w, void (*fn)(void *user)) {
    j->w = w;
    CHECK_EQ(RM_OK, rm_thread_start(&j->thread, fn, j));
}

static inline void job_start(job *j, world *w, void (*fn)(void *user)) {
    memset(j, 0, sizeof *j);
    job_go(j, w, fn);
}

static inline void job_start_close(job *j, world *w, int64_t timeout_ns) {
    memset(j, 0, sizeof *j);
    j->timeout_ns = timeout_ns;
    job_go(j, w, job_close);
}

static inline void job_start_release(job *j, world *w, rm_lease *lease, rm_release how) {
    memset(j, 0, sizeof *j);
    j->lease = lease;
    j->how = how;
    job_go(j, w, job_release);
}

static inline rm_status job_join(job *j) {
    rm_thread_join(&j->thread);
    return j->status;
}

/* ---- a guard that counts what it hears ---- */

typedef struct watch {
    rm_guard guard;
    uint32_t admitted, ok, failures, ignored;
    bool refuses, says; /* why */
    uint32_t *reported; /* which permits were, the first `room` of them */
    uint32_t room;
} watch;

static inline rm_status watch_admit(rm_permit *permit, rm_error *error, void *user) {
    watch *seen = (watch *)user;
    if (seen->refuses && seen->says)
        return rm_error_set(error, RM_E_REJECTED, 7, "breaker", "open");
    if (seen->refuses) return RM_E_REJECTED;
    permit->word = ADD(seen->admitted, 1);
    permit->owner = ~permit->word;
    return RM_OK;
}

static inline void watch_report(rm_permit *permit, rm_outcome outcome, void *user) {
    watch *seen = (watch *)user;
    if (!CHECK(permit->word != 0 && permit->owner == ~permit->word)) return;
    if (permit->word < seen->room) CHECK_EQ(0, SWAP(seen->reported[permit->word], 1));
    ADD(*(outcome == RM_OUTCOME_OK        ? &seen->ok
          : outcome == RM_OUTCOME_FAILURE ? &seen->failures
                                          : &seen->ignored),
        1);
}

static inline const rm_guard *watch_init(watch *seen) {
    memset(seen, 0, sizeof *seen);
    seen->guard.admit_fn = watch_admit;
    seen->guard.report_fn = watch_report;
    seen->guard.user = seen;
    return &seen->guard;
}

/* A world with this guard, open. */
static inline bool world_begin_guarded(world *w, uint32_t max, watch *seen) {
    world_init(w, max);
    w->desc.guard = watch_init(seen);
    return world_open(w);
}

/* Puts one guarded endpoint, "one", behind the pool of a desc. */
static inline void desc_guard_endpoint(rm_pool_desc *desc, rm_pool_endpoint *endpoint,
                                       watch *seen) {
    endpoint->name = "one";
    endpoint->guard = watch_init(seen);
    endpoint->user = desc->user;
    desc->endpoints = endpoint;
    desc->endpoint_count = 1;
}

#define CHECK_REPORTS(seen, a, b, c) \
    (CHECK_EQ(a, (seen).ok), CHECK_EQ(b, (seen).failures), CHECK_EQ(c, (seen).ignored))

#endif /* POOL_FIXTURE_H */

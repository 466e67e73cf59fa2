/* What users of other pools suffered, each as a test that says so by its name, with the threads in
   which they told it. Every time is a virtual clock's; nothing sleeps. */
#include "rm_pool.h"
#include "rm_test.h"

#include "pool_fixture.h"

static rm_deadline in(world *w, int64_t ns) {
    return rm_deadline_after(&w->clock, ns);
}

/* ---- clients without a thread: a request that holds what it gets until told to give it back */

typedef struct client {
    world *w;
    rm_pool_request request;
    rm_lease lease;
    rm_status status;
    int64_t until_ns; /* it must have nothing from then on */
    uint32_t got;
    bool pending;
} client;

static void client_got(rm_status status, const rm_lease *lease, const rm_error *error, void *user) {
    client *c = (client *)user;
    (void)error;
    c->pending = false;
    c->status = status;
    if (status != RM_OK) return;
    CHECK(rm_now(&c->w->clock) < c->until_ns);
    ++c->got;
    c->lease = *lease;
}

static void client_ask(client *c, world *w, int64_t timeout_ns) {
    const rm_deadline deadline = in(w, timeout_ns);
    c->w = w;
    c->until_ns = deadline.at_ns == 0 ? INT64_MAX : deadline.at_ns;
    c->pending = true;
    CHECK_EQ(RM_OK,
             rm_pool_acquire_async(w->pool, &c->request, deadline, NULL, client_got, NULL, c));
}

/* Gives back what it has. */
static bool client_give(client *c) {
    if (c->lease.resource == NULL) return false;
    give(c->w, &c->lease, RM_RELEASE_OK);
    return true;
}

/* Waits until somebody writes his number there. */
static uint32_t await_word(uint32_t *word) {
    uint32_t seen;
    while ((seen = GET(*word)) == 0)
        relax();
    return seen;
}

/* ---- the feature list of the project asks for these by name */

TEST(pool_cases, connection_pool_basic_operations) {
    world w;
    rm_lease a, b;
    rm_pool_stats s;
    world_init(&w, 2);
    w.watches = true;
    REQUIRE(world_open(&w));
    CHECK_EQ(0, w.creates); /* nothing before it is needed */
    CHECK_EQ(RM_OK, take(&w, &a));
    CHECK_EQ(1, number_of(&a));
    CHECK_EQ(RM_OK, take_for(&w, 0, &b));
    CHECK_EQ(2, number_of(&b));
    s = stats_of(&w);
    CHECK_EQ(2, s.in_use);
    CHECK_EQ(2, s.acquired);
    CHECK_EQ(2, s.created);
    give(&w, &a, RM_RELEASE_OK);
    s = stats_of(&w);
    CHECK_EQ(1, s.in_use);
    CHECK_EQ(1, s.idle);
    CHECK_EQ(RM_OK, take(&w, &a)); /* the same one again */
    CHECK_EQ(1, number_of(&a));
    give(&w, &a, RM_RELEASE_OK);
    give(&w, &b, RM_RELEASE_BROKEN);
    s = stats_of(&w);
    CHECK_EQ(1, s.idle);
    CHECK_EQ(1, s.empty);
    CHECK_EQ(3, s.acquired);
    CHECK_EQ(1, s.ended[RM_POOL_CAUSE_BROKEN]);
    CHECK_EQ(1, s.destroyed);
    CHECK_EQ(0, s.waits);
    world_end(&w);
}

/* Threads that do the same at the same time. */

enum { MEMBERS = 8, TAKEN = 500 };

typedef struct member {
    world *w;
    gate *start;              /* nobody begins before all are there */
    uint32_t *out, *out_most; /* leases at once */
    uint32_t number, got;
    rm_thread thread;
} member;

static void member_borrows(void *user) {
    member *m = (member *)user;
    uint32_t i;
    gate_pass(m->start);
    for (i = 0; i < TAKEN; ++i) {
        rm_lease lease;
        if (!CHECK_EQ(RM_OK, rm_pool_acquire(m->w->pool, RM_FOREVER, &lease, NULL))) return;
        thing_take(thing_of(&lease));
        raise_to(m->out_most, ADD(*m->out, 1));
        if (i % 4 == 0) relax(); /* somebody else will want it */
        ++m->got;
        ADD(*m->out, UINT32_MAX);
        give(m->w, &lease, m->number % 2 && i % 16 == 0 ? RM_RELEASE_BROKEN : RM_RELEASE_OK);
    }
}

/* Lets them all use the pool of a world that watches; returns how many leases were out at once. */
static uint32_t members_borrow(world *w) {
    member members[MEMBERS];
    uint32_t i, out = 0, out_most = 0;
    gate start;
    gate_init(&start);
    for (i = 0; i < MEMBERS; ++i) {
        const member m = {w, &start, &out, &out_most, i, 0, {0}};
        members[i] = m;
        CHECK_EQ(RM_OK, rm_thread_start(&members[i].thread, member_borrows, &members[i]));
    }
    gate_await(&start, MEMBERS);
    gate_open(&start);
    for (i = 0; i < MEMBERS; ++i) {
        rm_thread_join(&members[i].thread);
        CHECK_EQ(TAKEN, members[i].got);
    }
    gate_done(&start);
    return out_most;
}

TEST(pool_cases, connection_pool_max_active) {
    uint32_t max;
    for (max = 1; max <= 3; ++max) {
        rm_lease leases[3], other;
        uint32_t i;
        caller c;
        world w;
        world_init(&w, max);
        w.watches = true;
        REQUIRE(world_open(&w));
        take_many(&w, leases, max);
        CHECK_EQ(RM_E_BUSY, take(&w, &other));
        caller_queue(&c, &w, RM_MS(5), 1);
        pass(&w, RM_MS(5));
        CHECK_EQ(RM_E_TIMEOUT, caller_join(&c));
        caller_queue(&c, &w, RM_MS(5), 1);
        give(&w, &leases[0], RM_RELEASE_OK);
        caller_served(&c);
        CHECK_EQ(max, w.creates);
        for (i = 1; i < max; ++i)
            give(&w, &leases[i], RM_RELEASE_OK);
        CHECK(members_borrow(&w) <= max);
        CHECK_EQ(max, w.live_most);
        world_end(&w);
    }
}

TEST(pool_cases, connection_pool_health_check) {
    world w;
    caller c;
    rm_lease lease, other;
    rm_error reason;
    rm_resource resource;
    world_init(&w, 1);
    w.watches = true;
    w.desc.create_backoff_ns = RM_NONE;
    REQUIRE(world_open(&w));
    resource = rm_pool_resource(w.pool);
    CHECK_STR("db", resource.name);
    CHECK_STR("pool", resource.kind);
    CHECK_EQ(RM_HEALTH_HEALTHY, resource.health_fn(resource.user, &reason));
    CHECK_EQ(RM_OK, take(&w, &lease)); /* it takes nothing away */
    CHECK_EQ(RM_HEALTH_HEALTHY, resource.health_fn(resource.user, &reason)); /* all used, no wait */
    caller_queue(&c, &w, RM_FOREVER, 1);
    CHECK_EQ(RM_HEALTH_DEGRADED, resource.health_fn(resource.user, &reason));
    CHECK_EQ(RM_E_BUSY, reason.status);
    CHECK(strstr(reason.message, "1 of 1 in use, 1 waiting") != NULL);
    CHECK_EQ(RM_HEALTH_DEGRADED, resource.health_fn(resource.user, NULL));
    give(&w, &lease, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, caller_join(&c));
    CHECK_EQ(RM_HEALTH_HEALTHY, resource.health_fn(resource.user, &reason));
    give(&w, &c.lease, RM_RELEASE_BROKEN);
    w.create_status = RM_E_REFUSED;
    CHECK_EQ(RM_E_REFUSED, take(&w, &other));
    CHECK_EQ(RM_HEALTH_DEGRADED, resource.health_fn(resource.user, &reason));
    CHECK_EQ(RM_E_REFUSED, reason.status);
    CHECK_STR("nobody listens", reason.message);
    w.create_status = RM_OK;
    CHECK_EQ(RM_OK, take(&w, &other));
    CHECK_EQ(RM_HEALTH_HEALTHY, resource.health_fn(resource.user, &reason));
    give(&w, &other, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, rm_pool_close(w.pool, RM_NOWAIT, NULL));
    CHECK_EQ(RM_HEALTH_UNHEALTHY, resource.health_fn(resource.user, &reason));
    CHECK_EQ(RM_E_CLOSED, reason.status);
    world_end(&w);
}

TEST(pool_cases, connection_pool_resource_validation) {
    world w;
    rm_lease lease;
    rm_pool_stats s;
    world_init(&w, 3);
    w.watches = true;
    w.desc.validate_fn = thing_validate;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease)); /* a new one is not checked */
    give(&w, &lease, RM_RELEASE_OK);
    pass(&w, RM_MS(500) - 1);
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK_EQ(0, w.validates);
    pass(&w, RM_SEC(9)); /* used, not idle */
    give(&w, &lease, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK_EQ(0, w.validates);
    give(&w, &lease, RM_RELEASE_OK);
    pass(&w, RM_MS(500));
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK_EQ(1, w.validates);
    CHECK_EQ(1, number_of(&lease));
    give(&w, &lease, RM_RELEASE_OK);
    w.validate_status = RM_E_FAILED;
    pass(&w, RM_MS(500));
    CHECK_EQ(RM_OK, take(&w, &lease)); /* replaced in its place */
    CHECK_EQ(2, w.validates);
    CHECK_EQ(2, number_of(&lease));
    CHECK_EQ(0, lease.slot);
    CHECK_EQ(1, w.live_most);
    s = stats_of(&w);
    CHECK_EQ(1, s.ended[RM_POOL_CAUSE_INVALID]);
    CHECK_EQ(1, s.destroyed);
    CHECK_EQ(2, s.created);
    CHECK_EQ(5, s.acquired); /* the failed one was never handed out */
    CHECK_EQ(0, s.ended[RM_POOL_CAUSE_BROKEN]);
    give(&w, &lease, RM_RELEASE_OK);
    world_end(&w);
}

TEST(pool_cases, connection_pool_concurrent_access) {
    static const int64_t policies[] = {RM_US(50), RM_STRICT};
    size_t p;
    for (p = 0; p < 2; ++p) {
        world w;
        world_init(&w, 4);
        w.watches = true;
        w.desc.barge_ns = policies[p];
        REQUIRE(world_open(&w));
        CHECK(members_borrow(&w) <= 4);
        CHECK_EQ(MEMBERS * TAKEN, stats_of(&w).acquired);
        CHECK_EQ(0, stats_of(&w).timeouts);
        world_end(&w);
    }
}

/* ---- 1: vitessio/vitess#20310, PR#20308, github/vitess-gh#241 */

TEST(pool_cases, never_lends_to_a_waiter_past_its_deadline) {
    enum { COUNT = 1000, HOLDERS = 4, STEPS = 50 };
    client *clients = (client *)calloc(COUNT * STEPS, sizeof *clients);
    uint32_t step, i, lent = 0;
    world w;
    world_init(&w, HOLDERS);
    REQUIRE(clients != NULL && world_open(&w));
    for (step = 0; step < STEPS; ++step) { /* a thousand come each ms, and wait for one */
        client *now = &clients[step * COUNT];
        for (i = 0; i < COUNT; ++i)
            client_ask(&now[i], &w, i % 2 == 0 ? RM_MS(1) : RM_US(1001));
        CHECK_EQ(HOLDERS, stats_of(&w).in_use); /* all there is is lent, all the time */
        pass(&w, RM_MS(1));
        for (i = 0; i < COUNT * (step + 1); ++i) /* held for 1 ms */
            lent += client_give(&clients[i]) ? 1 : 0;
        (void)maintain(&w);
    }
    pass(&w, RM_MS(1));
    for (i = 0; i < COUNT * STEPS; ++i)
        lent += client_give(&clients[i]) ? 1 : 0;
    (void)maintain(&w);
    CHECK(lent >= HOLDERS * STEPS); /* 4 in each ms */
    CHECK_EQ(COUNT * STEPS, stats_of(&w).timeouts + stats_of(&w).acquired);
    world_end(&w);
    free(clients);
}

/* ---- 2: vitess#17675, PR#20081; HikariCP#452; djc/bb8#122 */

/* Does somebody wait for what he could have? */
static bool waits_in_vain(rm_pool *pool) {
    rm_pool_stats s;
    CHECK_EQ(RM_OK, rm_pool_stats_get(pool, &s));
    return s.waiting > 0 && !s.closed && !s.suspended &&
           (s.idle > 0 || s.capacity - s.empty < s.max + s.overflow);
}

/* What the longest wait for another thread may take, in seconds of the system's clock: one second
   would do, but for sanitizers and emulators on machines that are shared. Only a failure takes so
   long. */
enum { STUCK_SECONDS = 20 };

typedef struct turn {
    world *w;
    uint32_t *ready; /* who holds; 0 = nobody */
    uint32_t number;
    uint32_t away; /* it has given it back; it comes again when this is 0 */
    rm_thread thread;
} turn;

static void turn_run(void *user) {
    turn *t = (turn *)user;
    uint32_t i;
    for (i = 0;; ++i) {
        rm_lease lease;
        const rm_status status = rm_pool_acquire(t->w->pool, RM_FOREVER, &lease, NULL);
        if (status == RM_E_CLOSED || !CHECK_EQ(RM_OK, status)) return;
        CHECK_EQ(0, SWAP(*t->ready, t->number));
        while (GET(*t->ready) == t->number)
            relax();
        give(t->w, &lease, i % 8 == 7 ? RM_RELEASE_BROKEN : RM_RELEASE_OK);
        SET(t->away, 1);
        while (GET(t->away) != 0)
            relax();
    }
}

/* Who has it; 0 = nobody, for longer than it can take. */
static uint32_t turn_await(uint32_t *ready) {
    const int64_t since = rm_now(NULL);
    uint32_t seen;
    while ((seen = GET(*ready)) == 0 && rm_now(NULL) - since < RM_SEC(STUCK_SECONDS))
        relax();
    return seen;
}

/* One resource, and nine who want it: eight wait. Each time it comes back, who had it stays away
   while the eight are looked at, or in every third round tries again at once. With RM_STRICT it is
   handed over before the release returns; else somebody has been woken, and comes. */
TEST(pool_cases, is_never_idle_while_somebody_waits) {
    enum { COUNT = 9, ROUNDS = 180 };
    static const int64_t policies[] = {RM_STRICT, RM_US(50)};
    size_t p;
    for (p = 0; p < 2; ++p) {
        turn turns[COUNT];
        uint32_t i, now, ready = 0;
        world w;
        world_init(&w, 1);
        w.desc.barge_ns = policies[p];
        REQUIRE(world_open(&w));
        for (i = 0; i < COUNT; ++i) {
            const turn t = {&w, &ready, i + 1, 0, {0}};
            turns[i] = t;
            CHECK_EQ(RM_OK, rm_thread_start(&turns[i].thread, turn_run, &turns[i]));
        }
        now = turn_await(&ready);
        for (i = 0; i < ROUNDS && CHECK(now != 0); ++i) {
            uint32_t *away = &turns[now - 1].away;
            rm_pool_stats s;
            rm_virtual_clock_await(&w.time, COUNT - 1); /* nobody is on his way */
            s = stats_of(&w);
            CHECK_EQ(1, s.in_use);
            CHECK_EQ(0, s.idle);
            CHECK_EQ(COUNT - 1, s.waiting);
            SET(ready, 0);
            while (GET(*away) == 0)
                relax();
            if (policies[p] == RM_STRICT) CHECK(!waits_in_vain(w.pool));
            if (i % 3 == 0) SET(*away, 0);
            now = turn_await(&ready);
            CHECK(!waits_in_vain(w.pool));
            SET(*away, 0);
        }
        (void)rm_pool_close(w.pool, RM_NOWAIT, NULL);
        SET(ready, 0);
        while (now != 0 && GET(turns[now - 1].away) == 0)
            relax();
        for (i = 0; i < COUNT; ++i)
            SET(turns[i].away, 0);
        for (i = 0; i < COUNT; ++i)
            rm_thread_join(&turns[i].thread);
        world_end(&w);
    }
}

typedef struct racer {
    rm_pool *pool;
    uint32_t number;
    rm_thread thread;
} racer;

static rm_status race_create(void **resource, rm_deadline deadline, rm_error *error, void *user) {
    (void)deadline, (void)error;
    ADD(*(uint32_t *)user, 1);
    *resource = user;
    return RM_OK;
}

static void race_destroy(void *resource, void *user) {
    (void)resource;
    ADD(*(uint32_t *)user, UINT32_MAX);
}

static void race_until_closed(void *user) {
    racer *r = (racer *)user;
    rm_status status = RM_OK;
    while (status != RM_E_CLOSED) {
        rm_lease lease;
        relax();
        status = rm_pool_acquire(r->pool, RM_FOREVER, &lease, NULL);
        CHECK(status == RM_OK || status == RM_E_CLOSED);
        if (status == RM_OK) CHECK_EQ(RM_OK, rm_pool_release(r->pool, &lease, RM_RELEASE_OK));
    }
}

#ifdef _WIN32 /* where threads take long to start */
enum { CLOSES = 200 };
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { CLOSES = 1000 };
#else
enum { CLOSES = 10000 };
#endif

TEST(pool_cases, strands_nobody_in_ten_thousand_closes) {
    uint32_t round, i, alive = 0;
    for (round = 0; round < CLOSES; ++round) {
        racer racers[2];
        rm_pool *pool = NULL;
        rm_pool_desc desc = rm_pool_desc_default();
        desc.create_fn = race_create;
        desc.destroy_fn = race_destroy;
        desc.user = &alive;
        desc.max = 1;
        REQUIRE(rm_pool_create(&desc, &pool, NULL) == RM_OK);
        for (i = 0; i < 2; ++i) {
            racers[i].pool = pool;
            REQUIRE(rm_thread_start(&racers[i].thread, race_until_closed, &racers[i]) == RM_OK);
        }
        for (i = 0; i < round % 16; ++i)
            relax();
        CHECK_EQ(RM_OK, rm_pool_close(pool, RM_FOREVER, NULL));
        CHECK_EQ(0, GET(alive));
        for (i = 0; i < 2; ++i)
            rm_thread_join(&racers[i].thread);
        CHECK_EQ(RM_OK, rm_pool_destroy(pool));
    }
}

/* Everything at random, on several pools, by several threads. Whoever waits holds nothing, so that
   somebody can always go on; a thread that looks on sleeps until all wait, moves the clock, and
   tells who is stuck when they wait beside something that they could have. RM_OPERATIONS in the
   environment says how many operations there shall be, RM_SEED which. */
enum { POOLS = 3, WORKERS = 6, DEFAULT_OPERATIONS = 30000 };

typedef struct token_thing {
    uint32_t hands; /* 1 = somebody has it; plain on purpose: two who have it are a race */
} token_thing;

typedef struct worker {
    struct mill *mill;
    rm_rng rng;
    rm_mutex mutex; /* guards that it is another token now */
    rm_cancel cancel;
    rm_pool_request request;
    uint32_t pending;   /* the request has not ended */
    uint32_t waits_for; /* the pool that it waits for now; POOLS = none */
    uint64_t done;
    rm_thread thread;
} worker;

static struct mill {
    rm_virtual_clock time;
    rm_clock plain, clock; /* what it shows; who waits on it is counted */
    rm_env env;
    rm_pool *pools[POOLS];
    worker workers[WORKERS];
    uint64_t rounds; /* of each worker */
    uint32_t running, waiting;
    int64_t alive;     /* resources */
    rm_mutex end, all; /* guard what follows */
    rm_cond ended, all_wait;
    bool over; /* who is done waits until all are */
} mill;

/* The last one tells who looks on. */
static void mill_wait(rm_cond *cond, rm_mutex *mutex, int64_t until_ns, void *user) {
    (void)user;
    if (ADD(mill.waiting, 1) == WORKERS) {
        rm_mutex_lock(&mill.all);
        rm_cond_broadcast(&mill.all_wait);
        rm_mutex_unlock(&mill.all);
    }
    mill.plain.wait_fn(cond, mutex, until_ns, mill.plain.user);
    ADD(mill.waiting, UINT32_MAX);
}

static rm_status mill_create(void **resource, rm_deadline deadline, rm_error *error, void *user) {
    static uint32_t calls;
    (void)deadline, (void)error, (void)user;
    if (ADD(calls, 1) % 16 == 0) return RM_E_REFUSED;
    *resource = calloc(1, sizeof(token_thing));
    if (*resource == NULL) return RM_E_NOMEM;
    ADD(mill.alive, 1);
    return RM_OK;
}

static void mill_destroy(void *resource, void *user) {
    (void)user;
    CHECK_EQ(0, ((token_thing *)resource)->hands);
    free(resource);
    ADD(mill.alive, -1);
}

static rm_status mill_validate(void *resource, void *user) {
    static uint32_t calls;
    (void)user;
    CHECK_EQ(0, ((token_thing *)resource)->hands);
    return ADD(calls, 1) % 16 == 0 ? RM_E_FAILED : RM_OK;
}

static void mill_use(const rm_lease *lease) {
    token_thing *t = (token_thing *)lease->resource;
    CHECK_EQ(0, t->hands);
    t->hands = 1;
}

/* Gives a lease back in one of many ways. */
static void mill_give(rm_pool *pool, rm_lease *lease, uint64_t dice) {
    void *resource = NULL;
    rm_lease copy = *lease;
    ((token_thing *)lease->resource)->hands = 0;
    if (dice % 32 == 0) {
        CHECK_EQ(RM_OK, rm_pool_detach(pool, lease, &resource));
        mill_destroy(resource, NULL);
    } else {
        CHECK_EQ(RM_OK, rm_pool_release(pool, lease,
                                        dice % 32 == 1   ? RM_RELEASE_BROKEN
                                        : dice % 32 == 2 ? RM_RELEASE_FAILED
                                                         : RM_RELEASE_OK));
    }
    if (dice % 8 == 3) CHECK_EQ(RM_E_STALE, rm_pool_release(pool, &copy, RM_RELEASE_OK));
}

static void mill_arrived(rm_status status, const rm_lease *lease, const rm_error *error,
                         void *user) {
    worker *me = (worker *)user;
    rm_pool *pool = me->request.pool;
    (void)error;
    if (status == RM_OK) {
        rm_lease copy = *lease;
        mill_use(&copy);
        mill_give(pool, &copy, copy.sequence);
    }
    SET(me->pending, 0);
}

static rm_status mill_acquire(worker *me, uint64_t dice, uint32_t which, rm_lease *lease) {
    rm_pool *pool = mill.pools[which];
    const int64_t ns = 1 + (int64_t)(dice >> 32) % RM_US(200);
    rm_status status;
    if (dice % 8 < 2) return rm_pool_acquire(pool, RM_NOWAIT, lease, NULL);
    SET(me->waits_for, which);
    if (dice % 8 < 6)
        status = rm_pool_acquire(pool, dice % 2 == 0 ? RM_FOREVER : ns, lease, NULL);
    else
        status = rm_pool_acquire_until(
            pool, rm_deadline_after(&mill.clock, dice % 2 == 0 ? RM_FOREVER : ns), &me->cancel,
            lease, NULL);
    SET(me->waits_for, POOLS);
    return status;
}

static void mill_resize(rm_pool *pool, uint64_t dice) {
    rm_pool_sizes sizes;
    memset(&sizes, 0, sizeof sizes);
    sizes.max = 1 + (uint32_t)(dice % 4);
    sizes.overflow = (uint32_t)(dice / 4 % 2);
    sizes.max_idle = 1 + (uint32_t)(dice / 8 % sizes.max);
    sizes.min_idle = (uint32_t)(dice / 64 % 2);
    CHECK_EQ(RM_OK, rm_pool_resize(pool, &sizes, NULL));
}

static void mill_reopen(rm_pool *pool) {
    const rm_resource resource = rm_pool_resource(pool);
    (void)resource.start_fn(resource.user, rm_deadline_after(NULL, RM_FOREVER), NULL);
}

static void mill_ask(worker *me, rm_pool *pool, uint64_t dice) {
    if (GET(me->pending) != 0) {
        if (dice % 2 == 0) (void)rm_pool_request_cancel(&me->request);
        return;
    }
    SET(me->pending, 1);
    if (rm_pool_acquire_async(
            pool, &me->request,
            rm_deadline_after(&mill.clock, dice % 2 == 0 ? RM_FOREVER : RM_US(50)), NULL,
            mill_arrived, NULL, me) != RM_OK)
        SET(me->pending, 0);
}

static void mill_look(rm_pool *pool, uint64_t dice) {
    rm_pool_stats s;
    if (dice % 8 != 0) return; /* it takes long */
    CHECK_EQ(RM_OK, rm_pool_stats_get(pool, &s));
    CHECK_EQ(s.capacity, s.in_use + s.idle + s.creating + s.checking + s.closing + s.empty);
}

/* What concerns the whole pool. */
static void mill_operate(worker *me, rm_pool *pool, uint64_t dice, const void *last) {
    const rm_deadline none = {0};
    worker *other = &mill.workers[dice / 16 % WORKERS];
    switch (dice % 16) {
    case 0: CHECK_EQ(RM_OK, rm_pool_evict_all(pool)); return;
    case 1: (void)rm_pool_evict(pool, last); return;
    case 2: mill_resize(pool, dice >> 8); return;
    case 3:
        CHECK_EQ(RM_OK, rm_pool_suspend(pool));
        relax();
        CHECK_EQ(RM_OK, rm_pool_resume(pool));
        return;
    case 4:
        if (dice >> 8 & 3) return;
        (void)rm_pool_close(pool, RM_NOWAIT, NULL);
        mill_reopen(pool);
        return;
    case 5:
        rm_mutex_lock(&other->mutex);
        rm_cancel_request(&other->cancel);
        rm_mutex_unlock(&other->mutex);
        return;
    case 6:
    case 7: mill_ask(me, pool, dice >> 8); return;
    case 8: rm_virtual_clock_advance(&mill.time, (int64_t)(dice >> 40) % RM_US(100)); return;
    case 9: mill_look(pool, dice >> 8); return;
    default: (void)rm_pool_maintain(pool, (uint32_t)(dice >> 8 & 3), none, NULL); return;
    }
}

static void mill_work(void *user) {
    worker *me = (worker *)user;
    const void *last = NULL;
    while (GET(me->done) < me->mill->rounds) {
        const uint64_t dice = rm_rng_next(&me->rng);
        const uint32_t which = (uint32_t)(dice >> 60) % POOLS;
        rm_pool *pool = mill.pools[which];
        rm_status status;
        rm_lease lease;
        ADD(me->done, 1);
        if (dice % 8 == 0) {
            mill_operate(me, pool, dice >> 8, last);
            continue;
        }
        status = mill_acquire(me, dice >> 8, which, &lease);
        if (status == RM_OK) {
            last = lease.resource;
            mill_use(&lease);
            if (dice >> 7 & 1) relax(); /* somebody else will want it */
            mill_give(pool, &lease, rm_rng_next(&me->rng));
        }
        if (status == RM_E_CLOSED) mill_reopen(pool);
        if (status == RM_E_CANCELLED) { /* nobody waits with the old one */
            rm_mutex_lock(&me->mutex);
            CHECK_EQ(RM_OK, rm_cancel_destroy(&me->cancel));
            CHECK_EQ(RM_OK, rm_cancel_init(&me->cancel));
            rm_mutex_unlock(&me->mutex);
        }
    }
    while (GET(me->pending) != 0) {
        (void)rm_pool_request_cancel(&me->request);
        relax();
    }
    ADD(mill.running, UINT32_MAX);
    rm_mutex_lock(&mill.end);
    while (!mill.over)
        mill_wait(&mill.ended, &mill.end, INT64_MAX, NULL);
    rm_mutex_unlock(&mill.end);
}

static uint64_t mill_progress(void) {
    uint64_t sum = 0;
    uint32_t i;
    for (i = 0; i < WORKERS; ++i)
        sum += GET(mill.workers[i].done);
    return sum;
}

static void mill_tell_who_is_stuck(void) {
    uint32_t i;
    for (i = 0; i < POOLS; ++i)
        printf("# pool %u: %s\n", i, waits_in_vain(mill.pools[i]) ? "could serve" : "all is lent");
    for (i = 0; i < WORKERS; ++i)
        printf("# worker %u, after %llu operations, waits for pool %u (%u = none)\n", i,
               (unsigned long long)GET(mill.workers[i].done), GET(mill.workers[i].waits_for),
               POOLS);
    fflush(stdout);
}

/* Looks on until all are done; moves the clock when all wait and nobody could be served. */
static bool mill_watch(void) {
    uint64_t seen = 0;
    int64_t since = rm_now(NULL);
    for (;;) {
        uint64_t now;
        uint32_t i;
        bool unserved = false;
        rm_mutex_lock(&mill.all);
        while (GET(mill.waiting) < WORKERS)
            rm_cond_wait(&mill.all_wait, &mill.all, INT64_MAX);
        rm_mutex_unlock(&mill.all);
        if (GET(mill.running) == 0) break;
        now = mill_progress();
        for (i = 0; i < POOLS; ++i)
            unserved = unserved || waits_in_vain(mill.pools[i]);
        if (now != seen) since = rm_now(NULL);
        if (!unserved && now == seen)
            rm_virtual_clock_advance(&mill.time, RM_US(50));
        else
            relax(); /* who was woken has yet to run */
        seen = now;
        if (rm_now(NULL) - since < RM_SEC(STUCK_SECONDS)) continue;
        mill_tell_who_is_stuck();
        return CHECK(false);
    }
    rm_mutex_lock(&mill.end);
    mill.over = true;
    rm_cond_broadcast(&mill.ended);
    rm_mutex_unlock(&mill.end);
    return true;
}

static bool mill_begin(uint64_t operations, uint64_t seed) {
    uint32_t i;
    memset(&mill, 0, sizeof mill);
    CHECK_EQ(RM_OK, rm_mutex_init(&mill.end));
    CHECK_EQ(RM_OK, rm_mutex_init(&mill.all));
    CHECK_EQ(RM_OK, rm_cond_init(&mill.ended));
    CHECK_EQ(RM_OK, rm_cond_init(&mill.all_wait));
    if (rm_virtual_clock_init(&mill.time, RM_SEC(1000), false) != RM_OK) return false;
    mill.clock = mill.plain = rm_virtual_clock_clock(&mill.time);
    mill.clock.wait_fn = mill_wait;
    mill.env.clock = &mill.clock;
    mill.rounds = operations / WORKERS + 1;
    mill.running = WORKERS;
    for (i = 0; i < POOLS; ++i) {
        rm_pool_desc desc = rm_pool_desc_default();
        desc.env = &mill.env;
        desc.create_fn = mill_create;
        desc.destroy_fn = mill_destroy;
        desc.validate_fn = i == 1 ? mill_validate : NULL;
        desc.validate_after_ns = RM_US(100);
        desc.create_backoff_ns = RM_NONE;
        desc.idle_timeout_ns = RM_MS(1);
        desc.max_lifetime_ns = i == 2 ? RM_MS(20) : 0;
        desc.max = 1 + i;
        desc.capacity = 5;
        desc.max_creating = i == 2 ? 1 : 0;
        desc.barge_ns = i == 1 ? RM_STRICT : 0;
        if (rm_pool_create(&desc, &mill.pools[i], NULL) != RM_OK) return false;
    }
    for (i = 0; i < WORKERS; ++i) {
        worker *me = &mill.workers[i];
        me->mill = &mill;
        me->waits_for = POOLS;
        rm_rng_seed(&me->rng, seed * WORKERS + i + 1);
        CHECK_EQ(RM_OK, rm_cancel_init(&me->cancel));
        CHECK_EQ(RM_OK, rm_mutex_init(&me->mutex));
    }
    return true;
}

/* A number in the environment. */
static uint64_t number_from(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    return text == NULL ? otherwise : strtoull(text, NULL, 10);
}

TEST(pool_cases, loses_no_wake_up_whatever_happens_at_the_same_time) {
    uint32_t i;
    const uint64_t operations = number_from("RM_OPERATIONS", DEFAULT_OPERATIONS);
    REQUIRE(mill_begin(operations, number_from("RM_SEED", 0)));
#ifndef _WIN32
    if (operations != DEFAULT_OPERATIONS) (void)alarm(0); /* as long as it takes */
#endif
    for (i = 0; i < WORKERS; ++i)
        CHECK_EQ(RM_OK, rm_thread_start(&mill.workers[i].thread, mill_work, &mill.workers[i]));
    if (!mill_watch()) exit(1); /* who is stuck cannot be joined */
    for (i = 0; i < WORKERS; ++i) {
        rm_thread_join(&mill.workers[i].thread);
        CHECK_EQ(RM_OK, rm_cancel_destroy(&mill.workers[i].cancel));
        rm_mutex_destroy(&mill.workers[i].mutex);
    }
    for (i = 0; i < POOLS; ++i) {
        rm_pool_stats s;
        CHECK_EQ(RM_OK, rm_pool_stats_get(mill.pools[i], &s));
        CHECK_EQ(0, s.in_use + s.creating + s.checking + s.closing + s.waiting);
        CHECK_EQ(s.created, s.destroyed + s.detached + s.idle);
        CHECK(s.acquired > 0 && s.waits > 0);
        CHECK_EQ(RM_OK, rm_pool_close(mill.pools[i], RM_NOWAIT, NULL));
        CHECK_EQ(RM_OK, rm_pool_destroy(mill.pools[i]));
    }
    CHECK_EQ(0, mill.alive);
    rm_cond_destroy(&mill.all_wait);
    rm_cond_destroy(&mill.ended);
    rm_mutex_destroy(&mill.all);
    rm_mutex_destroy(&mill.end);
    rm_virtual_clock_destroy(&mill.time);
}

/* ---- 3: golang/go#31708, PR#50358; asyncpg#1247; sqlx#453; pgbouncer#131 */

enum { RIVALS = 4 };

typedef struct rival {
    world *w;
    uint32_t *holder; /* its number; 0 = nobody */
    uint32_t *over;
    uint32_t number, got;
    rm_thread thread;
} rival;

/* Wants it again as soon as it has given it back. */
static void rival_run(void *user) {
    rival *r = (rival *)user;
    while (GET(*r->over) == 0) {
        rm_lease lease;
        if (!CHECK_EQ(RM_OK, rm_pool_acquire(r->w->pool, RM_FOREVER, &lease, NULL))) return;
        ++r->got;
        SET(*r->holder, r->number);
        while (GET(*r->holder) == r->number)
            relax();
        give(r->w, &lease, RM_RELEASE_OK);
    }
}

static gate *next_look; /* the next look at the fine clock goes through it */

/* A release looks when its resource is free and the head has not been told: it is held up there. */
static int64_t held_up_now(void *user) {
    const rm_clock plain = rm_virtual_clock_clock((rm_virtual_clock *)user);
    gate *g = SWAP(next_look, NULL);
    if (g != NULL) gate_pass(g);
    return plain.now_fn(user);
}

/* Lends one resource so many times to `count` who block for it; in each round the head has waited
   for wait_ns when it is given back, and a thread that runs jumps at it at that moment. Returns
   how often it got it; that the head gets it, it checks if it must be so. */
static uint32_t lend_beside_a_jumper(rival *rivals, uint32_t count, uint32_t rounds,
                                     int64_t wait_ns, bool in_order) {
    uint32_t round, i, holder = 0, over = 0, jumped = 0;
    world w;
    world_init(&w, 1);
    w.clock.now_fn = held_up_now;
    w.desc.barge_ns = RM_US(50);
    if (!world_open(&w)) return 0;
    (void)borrow(&w); /* this thread may take the short way to it */
    for (i = 0; i < count; ++i) {
        const rival r = {&w, &holder, &over, i + 1, 0, {0}};
        rivals[i] = r;
        CHECK_EQ(RM_OK, rm_thread_start(&rivals[i].thread, rival_run, &rivals[i]));
        if (i == 0) CHECK_EQ(1, await_word(&holder));
        if (i > 0) rm_virtual_clock_await(&w.time, i); /* they stand in their order */
    }
    for (round = 0; round < rounds; ++round) {
        gate window;
        rm_lease lease;
        const uint32_t now = await_word(&holder);
        if (in_order) CHECK_EQ(round % count + 1, now);
        rm_virtual_clock_await(&w.time, count - 1); /* the others wait */
        pass(&w, wait_ns);
        (void)maintain(&w); /* tries for the head, as anybody does who comes to the queue */
        gate_init(&window);
        SET(next_look, &window);
        SET(holder, 0);
        gate_await(&window, 1);
        memset(&lease, 0, sizeof lease);
        if (rm_pool_acquire(w.pool, RM_NOWAIT, &lease, NULL) == RM_OK) ++jumped;
        gate_open(&window);
        if (lease.resource != NULL) give(&w, &lease, RM_RELEASE_OK);
        (void)await_word(&holder);
        gate_done(&window);
    }
    rm_virtual_clock_await(&w.time, count - 1);
    SET(over, 1);
    for (i = 0; i < count; ++i) { /* each has it once more, and goes */
        (void)await_word(&holder);
        SET(holder, 0);
    }
    for (i = 0; i < count; ++i)
        rm_thread_join(&rivals[i].thread);
    world_end(&w);
    return jumped;
}

TEST(pool_cases, lets_a_running_thread_jump_the_queue_for_barge_ns) {
    rival rivals[2];
    CHECK_EQ(1, lend_beside_a_jumper(rivals, 2, 1, RM_US(50) - 1, false));
    CHECK_EQ(0, lend_beside_a_jumper(rivals, 2, 1, RM_US(50), true));
}

TEST(pool_cases, starves_nobody_and_lets_nobody_jump_the_queue) {
    enum { ROUNDS = 400 };
    rival rivals[RIVALS];
    uint32_t i, least = UINT32_MAX, most = 0;
    CHECK_EQ(0, lend_beside_a_jumper(rivals, RIVALS, ROUNDS, RM_US(50), true));
    for (i = 0; i < RIVALS; ++i) {
        if (rivals[i].got < least) least = rivals[i].got;
        if (rivals[i].got > most) most = rivals[i].got;
    }
    CHECK(least > 0 && most * 100 <= least * 105);
}

/* ---- 4: HikariCP#835 */

static uint32_t clock_waits, clock_reads; /* of all threads but the one that looks on */
static uint32_t looks_on;

static int64_t counted_now(void *user) {
    const rm_clock plain = rm_virtual_clock_clock((rm_virtual_clock *)user);
    if (rm_thread_number() != looks_on) ADD(clock_reads, 1);
    return plain.now_fn(user);
}

static void counted_wait(rm_cond *cond, rm_mutex *mutex, int64_t until_ns, void *user) {
    const rm_clock plain = rm_virtual_clock_clock((rm_virtual_clock *)user);
    ADD(clock_waits, 1);
    plain.wait_fn(cond, mutex, until_ns, user);
}

/* A spin reads the clock, to come to an end, or waits on it; no processor's time is measured. */
TEST(pool_cases, burns_nothing_while_it_waits) {
    enum { COUNT = 64, READS = 3 }; /* before it sleeps: for stamp and deadline, in the queue */
    static caller callers[COUNT];
    uint32_t i, before, read;
    rm_lease lease;
    world w;
    world_init(&w, 1);
    w.clock.wait_fn = counted_wait;
    w.clock.now_fn = w.clock.coarse_fn = counted_now;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease));
    looks_on = rm_thread_number();
    SET(clock_waits, 0);
    SET(clock_reads, 0);
    for (i = 0; i < COUNT; ++i)
        caller_queue(&callers[i], &w, RM_FOREVER, i + 1);
    before = GET(clock_waits);
    CHECK_EQ(COUNT, before);
    read = GET(clock_reads);
    CHECK(read <= COUNT * READS);
    for (i = 0; i < 1000; ++i) {
        pass(&w, RM_MS(10));
        if (i % 100 == 0) (void)maintain(&w);
    }
    CHECK_EQ(before, GET(clock_waits)); /* nobody has run */
    CHECK_EQ(read, GET(clock_reads));
    give(&w, &lease, RM_RELEASE_OK);
    for (i = 0; i < COUNT; ++i) { /* they are served in their order */
        CHECK_EQ(RM_OK, caller_join(&callers[i]));
        CHECK_EQ(before, GET(clock_waits)); /* and only the one that is served */
        CHECK(GET(clock_reads) <= read + READS * (i + 1));
        give(&w, &callers[i].lease, RM_RELEASE_OK);
    }
    world_end(&w);
}

/* ---- 5: HikariCP#2099, #2203, PR#2035; posthog#49745; pgx#1437; pgdog#962;
   cockroachdb/docs#17518 */

enum { COHORT = 100 };

/* Fills a pool at once and counts what ends of age in each percent of the lifetime. */
static void cohort(uint64_t luck, bool used, uint32_t ended[101]) {
    static rm_lease leases[COHORT];
    uint32_t slice, i;
    uint64_t before = 0;
    world w;
    world_init(&w, COHORT);
    w.luck = luck;
    w.desc.max_lifetime_ns = RM_SEC(100);
    w.desc.idle_timeout_ns = RM_NONE;
    REQUIRE(world_open(&w));
    take_many(&w, leases, COHORT);
    give_many(&w, leases, COHORT);
    for (slice = 0; slice <= 100; ++slice) {
        (void)maintain(&w);
        ended[slice] = (uint32_t)(stats_of(&w).ended[RM_POOL_CAUSE_LIFETIME] - before);
        before += ended[slice];
        for (i = 0; used && slice < 70 && i < 10; ++i)
            (void)borrow(&w);
        pass(&w, RM_SEC(1));
    }
    CHECK_EQ(COHORT, before);
    world_end(&w);
}

TEST(pool_cases, does_not_end_together_what_was_born_together) {
    uint32_t luck, slice, quiet[101], used[101];
    for (luck = 0; luck < 20; ++luck) {
        cohort(luck * UINT64_C(0x0CCCCCCCCCCCCCCC), false, quiet);
        cohort(luck * UINT64_C(0x0CCCCCCCCCCCCCCC), true, used);
        for (slice = 0; slice <= 100; ++slice) {
            CHECK(quiet[slice] <= 5);
            CHECK_EQ(quiet[slice], used[slice]); /* drawn at birth, not at each release */
        }
    }
}

/* ---- 6: pgx#1259, PR#2425; pgbouncer#328, #872, PR#488. Calls one after another; that a burst
   of calls at once counts as one failure is pool_backoff.a_burst_that_fails_together_is_one_failure
   in test_pool_life.c. */

TEST(pool_cases, does_not_storm_a_server_that_is_down) {
    uint64_t luck;
    for (luck = 0; luck < 2; ++luck) {
        uint32_t i, attempts;
        int64_t down = RM_SEC(5), waited = 0;
        world w;
        world_init(&w, 10);
        w.luck = luck == 0 ? 0 : UINT64_MAX;
        w.create_status = RM_E_REFUSED;
        REQUIRE(world_open(&w));
        for (i = 0; i < 200; ++i) {
            rm_lease lease;
            CHECK_EQ(RM_E_REFUSED, take(&w, &lease));
            pass(&w, down / 200);
        }
        attempts = w.creates;
        CHECK(attempts >= 2 && attempts <= 11); /* 10 ms, doubled, of which half may go */
        CHECK_EQ(200 - attempts, stats_of(&w).failed_fast);
        w.create_status = RM_OK;
        while (borrow(&w) == 0) {
            pass(&w, RM_MS(10));
            waited += RM_MS(10);
        }
        CHECK(waited <= RM_SEC(5)); /* one step of the backoff */
        CHECK_EQ(attempts + 1, w.creates);
        world_end(&w);
    }
}

TEST(pool_cases, never_has_more_than_max_while_some_are_being_closed) {
    world w;
    gate g;
    job back;
    rm_lease lease, other;
    REQUIRE(world_begin(&w, 1));
    CHECK_EQ(RM_OK, take(&w, &lease));
    gate_init(&g);
    SET(w.next_destroy, &g);
    job_start_release(&back, &w, &lease, RM_RELEASE_BROKEN);
    gate_await(&g, 1);
    CHECK_EQ(RM_E_BUSY, take(&w, &other)); /* it still counts */
    CHECK_EQ(1, stats_of(&w).closing);
    CHECK_EQ(1, w.creates);
    gate_open(&g);
    CHECK_EQ(RM_OK, job_join(&back));
    CHECK_EQ(2, borrow(&w));
    gate_done(&g);
    world_end(&w);
}

/* ---- 7: commons-pool PR#346, PR#454; php-async#141; go-commons-pool#25; jasync-sql PR#225 */

TEST(pool_cases, strands_nobody_when_nothing_can_be_made) {
    enum { MAX = 4, COUNT = 16 };
    caller callers[COUNT];
    uint32_t i;
    world w;
    gate g;
    world_init(&w, MAX);
    w.create_status = RM_E_REFUSED;
    gate_init(&g);
    w.at_create = &g;
    REQUIRE(world_open(&w));
    for (i = 0; i < MAX; ++i)
        caller_start(&callers[i], &w, RM_FOREVER);
    gate_await(&g, MAX);
    for (; i < COUNT; ++i)
        caller_queue(&callers[i], &w, RM_FOREVER, i + 1 - MAX);
    gate_open(&g);
    for (i = 0; i < COUNT; ++i) {
        CHECK_EQ(RM_E_REFUSED, caller_join(&callers[i]));
        CHECK(strstr(callers[i].error.message, "nobody listens") != NULL);
    }
    CHECK_EQ(MAX, stats_of(&w).empty);
    CHECK_EQ(0, stats_of(&w).waiting);
    gate_done(&g);
    world_end(&w);
}

/* ---- 8: r2d2#51, #79; pgbouncer#221; mcp_agent_mail_rust#245 */

TEST(pool_cases, does_not_hide_the_cause_behind_a_timeout) {
    rm_lease lease;
    caller c;
    world w;
    REQUIRE(world_begin(&w, 2));
    CHECK_EQ(RM_OK, take(&w, &lease));
    w.create_status = RM_E_REFUSED;
    caller_start(&c, &w, RM_MS(5)); /* it tries, and gets the error itself */
    CHECK_EQ(RM_E_REFUSED, caller_join(&c));
    caller_queue(&c, &w, RM_MS(5), 1); /* now nobody tries: it waits for the lease */
    pass(&w, RM_MS(5));
    CHECK_EQ(RM_E_TIMEOUT, caller_join(&c));
    CHECK_STR("no resource: 1 in use, 0 idle, 0 creating, 0 checking, 0 closing, 0 waiting, max 2; "
              "5 ms ago: nobody listens",
              c.error.message);
    CHECK_EQ(111, c.error.native);
    give(&w, &lease, RM_RELEASE_OK);
    world_end(&w);
}

/* A check fails, and what shall replace the resource takes its time. */
TEST(pool_cases, does_not_hide_a_failed_check_behind_a_timeout) {
    const char *const counts =
        "no resource: 0 in use, 0 idle, 1 creating, 0 checking, 0 closing, 0 waiting, max 1";
    char wanted[200];
    caller finds, waits;
    rm_lease lease;
    world w;
    gate g;
    world_init(&w, 1);
    w.desc.validate_fn = thing_validate;
    w.desc.validate_after_ns = RM_STRICT;
    w.validate_status = RM_E_PROTOCOL;
    REQUIRE(world_open(&w));
    CHECK(borrow(&w) != 0);
    caller_at_gate(&finds, &w, &w.at_create, &g);
    caller_queue(&waits, &w, RM_MS(5), 1);
    pass(&w, RM_MS(5));
    CHECK_EQ(RM_E_TIMEOUT, caller_join(&waits));
    (void)snprintf(wanted, sizeof wanted, "%s; 5 ms ago: a check failed: %s", counts,
                   rm_status_name(RM_E_PROTOCOL));
    CHECK_STR(wanted, waits.error.message);
    CHECK_EQ(0, waits.error.native);
    SET(w.at_create, NULL);
    gate_open(&g);
    CHECK_EQ(RM_OK, caller_join(&finds));
    CHECK_EQ(RM_E_BUSY, rm_pool_acquire(w.pool, RM_NOWAIT, &lease, &waits.error)); /* over */
    CHECK_STR("no resource: 1 in use, 0 idle, 0 creating, 0 checking, 0 closing, 0 waiting, max 1",
              waits.error.message);
    give(&w, &finds.lease, RM_RELEASE_OK);
    gate_done(&g);
    world_end(&w);
}

/* ---- 9: asterisk#465 */

TEST(pool_cases, holds_up_nobody_while_a_hook_hangs) {
    uint32_t hook;
    for (hook = 0; hook < 4; ++hook) { /* create, validate, reset, destroy */
        rm_lease a, b, lease;
        caller c;
        job back;
        world w;
        gate g, **next[] = {&w.next_create, &w.next_validate, &w.next_reset, &w.next_destroy};
        world_init(&w, 2);
        w.desc.validate_fn = thing_validate;
        w.desc.reset_fn = thing_reset;
        w.desc.validate_after_ns = RM_STRICT;
        REQUIRE(world_open(&w));
        CHECK_EQ(RM_OK, take(&w, &a));
        if (hook != 0) CHECK_EQ(RM_OK, take(&w, &lease));
        if (hook == 1) give(&w, &lease, RM_RELEASE_OK);
        gate_init(&g);
        SET(*next[hook], &g);
        if (hook < 2)
            caller_start(&c, &w, RM_FOREVER);
        else
            job_start_release(&back, &w, &lease, hook == 2 ? RM_RELEASE_OK : RM_RELEASE_BROKEN);
        gate_await(&g, 1);
        give(&w, &a, RM_RELEASE_OK); /* everything else goes on */
        CHECK_EQ(RM_OK, take(&w, &a));
        CHECK_EQ(RM_E_BUSY, take(&w, &b));
        CHECK_EQ(RM_OK, maintain(&w));
        CHECK_EQ(1, stats_of(&w).in_use);
        give(&w, &a, RM_RELEASE_BROKEN);
        CHECK(borrow(&w) != 0);
        gate_open(&g);
        if (hook < 2)
            caller_served(&c);
        else
            CHECK_EQ(RM_OK, job_join(&back));
        gate_done(&g);
        world_end(&w);
    }
}

/* ---- 10: HikariCP#1445, #1287, #1977, #1996, PR#2317 */

static void prewarms(void *user) {
    caller *c = (caller *)user;
    c->status = rm_pool_prewarm(c->w->pool, 8, in(c->w, RM_FOREVER), NULL, &c->error);
}

TEST(pool_cases, fills_in_parallel_and_not_one_by_one) {
    caller c;
    world w;
    gate g;
    world_init(&w, 8);
    gate_init(&g);
    w.at_create = &g;
    REQUIRE(world_open(&w));
    memset(&c, 0, sizeof c);
    c.w = &w;
    CHECK_EQ(RM_OK, rm_thread_start(&c.thread, prewarms, &c));
    gate_await(&g, 8); /* all eight are being made */
    gate_open(&g);
    CHECK_EQ(RM_OK, caller_join(&c));
    CHECK_EQ(8, stats_of(&w).idle);
    gate_done(&g);
    world_end(&w);
}

TEST(pool_cases, makes_no_more_at_once_than_it_may) {
    enum { COUNT = 8 };
    caller callers[COUNT];
    uint32_t i;
    world w;
    gate g;
    world_init(&w, COUNT);
    w.desc.max_creating = 3;
    gate_init(&g);
    w.at_create = &g;
    REQUIRE(world_open(&w));
    for (i = 0; i < COUNT; ++i)
        caller_start(&callers[i], &w, RM_FOREVER);
    gate_await(&g, 3);
    rm_virtual_clock_await(&w.time, COUNT - 3);
    gate_open(&g);
    for (i = 0; i < COUNT; ++i)
        CHECK_EQ(RM_OK, caller_join(&callers[i]));
    CHECK_EQ(3, w.hooks_most);
    for (i = 0; i < COUNT; ++i)
        give(&w, &callers[i].lease, RM_RELEASE_OK);
    gate_done(&g);
    world_end(&w);
}

/* ---- 11: HikariCP#442; asyncpg#5; aiopg#127; mperham/connection_pool#14; Openfire PR#2171 */

TEST(pool_cases, does_not_wait_for_a_lease_of_its_own_thread) {
    rm_lease a, b;
    rm_error error;
    caller c;
    world w;
    world_init(&w, 1);
    w.desc.refuse_nested = true;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &a));
    CHECK_EQ(RM_E_DEADLOCK, rm_pool_acquire(w.pool, RM_FOREVER, &b, &error));
    CHECK(strstr(error.message, "would wait for itself") != NULL);
    caller_queue(&c, &w, RM_FOREVER, 1); /* another thread may wait */
    give(&w, &a, RM_RELEASE_OK);
    caller_served(&c);
    world_end(&w);
}

/* ---- 12: clickhouse-go#1759; djc/bb8#67; deadpool#205; pgx#1287 */

static rm_cancel *cancelled_inside;

static rm_status cancelling_create(void **resource, rm_deadline deadline, rm_error *error,
                                   void *user) {
    rm_cancel_request(cancelled_inside);
    return thing_create(resource, deadline, error, user);
}

static rm_status cancelling_validate(void *resource, void *user) {
    rm_cancel_request(cancelled_inside);
    return thing_validate(resource, user);
}

/* All that may be out can be out, and nothing else is there. */
static void check_whole(world *w, uint32_t max) {
    rm_lease leases[4], more;
    uint32_t i;
    pass(w, RM_SEC(10));
    for (i = 0; i < max; ++i)
        CHECK_EQ(RM_OK, take(w, &leases[i]));
    CHECK_EQ(RM_E_BUSY, take(w, &more));
    for (i = 0; i < max; ++i)
        give(w, &leases[i], RM_RELEASE_OK);
    CHECK_EQ(max, stats_of(w).idle);
    CHECK_EQ(0, stats_of(w).waiting);
}

TEST(pool_cases, leaks_no_slot_wherever_it_is_cancelled) {
    uint32_t step;
    for (step = 0; step < 6; ++step) {
        rm_lease out[2];
        rm_cancel token;
        caller c;
        world w;
        world_init(&w, 2);
        w.desc.create_fn = cancelling_create;
        w.desc.validate_fn = cancelling_validate;
        w.desc.validate_after_ns = RM_STRICT;
        CHECK_EQ(RM_OK, rm_cancel_init(&token));
        cancelled_inside = NULL;
        memset(&c, 0, sizeof c);
        memset(out, 0, sizeof out);
        c.cancel = &token;
        REQUIRE(world_open(&w));
        if (step == 0) rm_cancel_request(&token); /* before it begins */
        if (step == 2) fill(&w, 1);
        if (step == 1 || step == 2) cancelled_inside = &token; /* in create, in validate */
        if (step >= 3) CHECK_EQ(RM_OK, take(&w, &out[0]));
        if (step >= 3) CHECK_EQ(RM_OK, take(&w, &out[1]));
        caller_go(&c, &w, RM_SEC(1), step >= 3 ? 1 : 0);
        if (step == 3) rm_cancel_request(&token); /* in the queue */
        if (step == 4) pass(&w, RM_SEC(1));       /* timed out instead, ... */
        if (step == 4) rm_cancel_request(&token); /* ... and cancelled after that */
        if (step == 5) give(&w, &out[0], RM_RELEASE_OK);
        if (step == 5) rm_cancel_request(&token); /* beside the grant: either is right */
        (void)caller_join(&c);
        if (step == 1 || step == 2) CHECK_EQ(RM_OK, c.status);
        if (step == 0 || step == 3) CHECK_EQ(RM_E_CANCELLED, c.status);
        if (step == 4) CHECK(c.status == RM_E_TIMEOUT || c.status == RM_E_CANCELLED);
        if (c.status == RM_OK) give(&w, &c.lease, RM_RELEASE_OK);
        if (out[0].resource != NULL) give(&w, &out[0], RM_RELEASE_OK);
        if (out[1].resource != NULL) give(&w, &out[1], RM_RELEASE_OK);
        cancelled_inside = NULL;
        check_whole(&w, 2);
        CHECK_EQ(RM_OK, rm_cancel_destroy(&token));
        world_end(&w);
    }
}

TEST(pool_cases, leaks_no_slot_when_a_request_is_cancelled) {
    static client clients[3];
    rm_lease out[2];
    world w;
    REQUIRE(world_begin(&w, 2));
    memset(clients, 0, sizeof clients);
    CHECK_EQ(RM_OK, take(&w, &out[0]));
    CHECK_EQ(RM_OK, take(&w, &out[1]));
    client_ask(&clients[0], &w, RM_FOREVER);
    client_ask(&clients[1], &w, RM_FOREVER);
    CHECK_EQ(RM_OK, rm_pool_request_cancel(&clients[0].request));
    CHECK_EQ(RM_E_CANCELLED, clients[0].status);
    give(&w, &out[0], RM_RELEASE_OK); /* the second one has it */
    CHECK_EQ(RM_E_STALE, rm_pool_request_cancel(&clients[1].request));
    CHECK(client_give(&clients[1]));
    give(&w, &out[1], RM_RELEASE_OK);
    check_whole(&w, 2);
    world_end(&w);
}

/* ---- 13: HikariCP#311, #1050, #1296, #406; OpenDJ#879; pgx PR#455 */

TEST(pool_cases, checks_all_of_an_age_after_one_was_found_broken) {
    rm_lease a, b;
    world w;
    world_init(&w, 3);
    w.desc.validate_fn = thing_validate;
    REQUIRE(world_open(&w));
    fill(&w, 3);
    take_both(&w, &a, &b);
    CHECK_EQ(0, w.validates); /* used a moment ago: no check in the window */
    give(&w, &b, RM_RELEASE_OK);
    give(&w, &a, RM_RELEASE_BROKEN);
    CHECK_EQ(RM_OK, take(&w, &a)); /* the same moment, and checked all the same */
    CHECK_EQ(RM_OK, take(&w, &b));
    CHECK_EQ(2, w.validates);
    give_both(&w, &a, &b);
    fill(&w, 3);
    CHECK_EQ(2, w.validates); /* once: then they are trusted again */
    world_end(&w);
}

TEST(pool_cases, finds_what_died_among_the_ones_that_nobody_uses) {
    uint32_t i;
    world w;
    world_init(&w, 3);
    w.desc.validate_fn = thing_validate;
    w.desc.keepalive_ns = RM_SEC(10);
    w.desc.min_idle = 3;
    REQUIRE(world_open(&w));
    fill(&w, 3);
    w.validate_status = RM_E_FAILED;
    for (i = 0; i < 10; ++i) { /* the lowest is used all the time */
        w.validate_status = RM_OK;
        (void)borrow(&w);
        pass(&w, RM_SEC(1));
        w.validate_status = RM_E_FAILED;
        (void)maintain(&w);
    }
    CHECK_EQ(2, stats_of(&w).ended[RM_POOL_CAUSE_INVALID]); /* the other two */
    CHECK_EQ(3, stats_of(&w).idle);
    world_end(&w);
}

/* ---- 14: HikariCP#2417, #379; golang/go#43173; btm#33; bb8#123; spire#5803; spirit PR#1098 */

static void borrows_once(void *user) {
    CHECK(borrow((world *)user) != 0);
}

TEST(pool_cases, keeps_one_warm_for_threads_that_take_turns) {
    enum { COUNT = 8 };
    rm_thread threads[COUNT];
    uint32_t round, i;
    world w;
    world_init(&w, 32);
    w.desc.idle_timeout_ns = RM_SEC(1);
    REQUIRE(world_open(&w));
    fill(&w, COUNT); /* a burst */
    for (round = 0; round < 20; ++round) {
        for (i = 0; i < COUNT; ++i) {
            CHECK_EQ(RM_OK, rm_thread_start(&threads[i], borrows_once, &w));
            rm_thread_join(&threads[i]);
            pass(&w, RM_MS(10));
            (void)maintain(&w);
        }
    }
    CHECK_EQ(1, stats_of(&w).idle);
    CHECK_EQ(COUNT, w.creates);
    world_end(&w);
}

typedef struct poller {
    world *w;
    gate *burst, *turns; /* one for each round */
    uint32_t rounds, *done;
    rm_thread thread;
} poller;

static void poller_run(void *user) {
    poller *p = (poller *)user;
    rm_lease lease;
    uint32_t i;
    CHECK_EQ(RM_OK, take(p->w, &lease));
    gate_pass(p->burst); /* each has another one */
    give(p->w, &lease, RM_RELEASE_OK);
    ADD(*p->done, 1);
    for (i = 0; i < p->rounds; ++i) {
        gate_pass(&p->turns[i]);
        CHECK(borrow(p->w) != 0);
        ADD(*p->done, 1);
    }
}

/* Threads that live on remember the slot that they used last; not for ever. */
TEST(pool_cases, keeps_one_warm_for_pollers_that_never_meet) {
    enum { COUNT = 8, ROUNDS = 12 };
    static gate turns[COUNT][ROUNDS];
    gate burst;
    poller pollers[COUNT];
    uint32_t round, i, done = 0;
    world w;
    world_init(&w, 32);
    w.desc.idle_timeout_ns = RM_MS(500);
    REQUIRE(world_open(&w));
    gate_init(&burst);
    for (i = 0; i < COUNT; ++i) {
        const poller p = {&w, &burst, turns[i], ROUNDS, &done, {0}};
        pollers[i] = p;
        for (round = 0; round < ROUNDS; ++round)
            gate_init(&turns[i][round]);
        CHECK_EQ(RM_OK, rm_thread_start(&pollers[i].thread, poller_run, &pollers[i]));
    }
    gate_await(&burst, COUNT);
    gate_open(&burst);
    while (GET(done) < COUNT)
        relax();
    for (round = 0; round < ROUNDS * COUNT; ++round) {
        gate_open(&turns[round % COUNT][round / COUNT]);
        while (GET(done) <= COUNT + round)
            relax();
        pass(&w, RM_MS(10));
        (void)maintain(&w);
    }
    CHECK_EQ(1, stats_of(&w).idle);
    CHECK_EQ(COUNT, w.creates);
    for (i = 0; i < COUNT; ++i) {
        rm_thread_join(&pollers[i].thread);
        for (round = 0; round < ROUNDS; ++round)
            gate_done(&turns[i][round]);
    }
    gate_done(&burst);
    world_end(&w);
}

TEST(pool_cases, keeps_its_minimum_and_does_not_close_to_open_again) {
    uint32_t i;
    world w;
    world_init(&w, 8);
    w.desc.min_idle = 2;
    w.desc.idle_timeout_ns = RM_SEC(1);
    REQUIRE(world_open(&w));
    fill(&w, 6);
    for (i = 0; i < 100; ++i) {
        pass(&w, RM_MS(500));
        CHECK_EQ(RM_OK, maintain(&w));
        CHECK(stats_of(&w).idle >= 2);
    }
    CHECK_EQ(2, stats_of(&w).idle);
    CHECK_EQ(6, w.creates);
    CHECK_EQ(4, w.destroyed);
    world_end(&w);
}

/* ---- 15: HikariCP#1836, #1363, #2120; vitess#20187 */

TEST(pool_cases, lends_nothing_whose_making_began_before_an_eviction) {
    caller c;
    world w;
    gate g;
    world_init(&w, 1);
    gate_init(&g);
    w.at_create = &g;
    REQUIRE(world_open(&w));
    caller_start(&c, &w, RM_FOREVER);
    gate_await(&g, 1);
    CHECK_EQ(RM_OK, rm_pool_evict_all(w.pool));
    gate_open(&g);
    CHECK_EQ(RM_OK, caller_join(&c));
    CHECK_EQ(2, number_of(&c.lease));
    CHECK_EQ(1, stats_of(&w).ended[RM_POOL_CAUSE_EVICTED]);
    CHECK_EQ(RM_OK, rm_pool_evict_all(w.pool));
    give(&w, &c.lease, RM_RELEASE_OK); /* out during the next one: ended when it comes back */
    CHECK_EQ(2, stats_of(&w).ended[RM_POOL_CAUSE_EVICTED]);
    CHECK_EQ(3, borrow(&w));
    gate_done(&g);
    world_end(&w);
}

/* ---- next in line */

/* node-mysql2#934; pgx PR#2481; php-async#211 */
TEST(pool_cases, lends_nothing_that_could_not_be_cleaned) {
    rm_lease lease;
    world w;
    world_init(&w, 1);
    w.desc.reset_fn = thing_reset;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease));
    thing_of(&lease)->dirty = true;
    give(&w, &lease, RM_RELEASE_OK);
    CHECK_EQ(1, stats_of(&w).ended[RM_POOL_CAUSE_RESET]);
    CHECK_EQ(2, borrow(&w));
    world_end(&w);
}

/* node-mysql2#1280, #3559; reactor-pool#101 */
TEST(pool_cases, lends_to_two_at_once_after_no_double_release) {
    rm_lease a, b, copy;
    void *resource = NULL;
    world w;
    REQUIRE(world_begin(&w, 1));
    CHECK_EQ(RM_OK, take(&w, &a));
    copy = a;
    give(&w, &a, RM_RELEASE_OK);
    CHECK_EQ(RM_OK, take(&w, &a));
    CHECK_EQ(RM_E_STALE, rm_pool_release(w.pool, &copy, RM_RELEASE_OK));
    CHECK_EQ(RM_E_STALE, rm_pool_release(w.pool, &copy, RM_RELEASE_BROKEN));
    CHECK_EQ(RM_E_STALE, rm_pool_note(w.pool, &copy, "stale.c:1"));
    CHECK_EQ(RM_E_STALE, rm_pool_detach(w.pool, &copy, &resource));
    CHECK_EQ(RM_E_BUSY, take(&w, &b));
    CHECK_EQ(0, w.destroyed);
    give(&w, &a, RM_RELEASE_OK);
    world_end(&w);
}

/* HikariCP#354, #745; NETProvider#725 */
static int64_t wall_leaps(void *user) {
    static int64_t wall;
    (void)user;
    wall = wall == 0 ? RM_MINUTES(60000000) : 0;
    return wall;
}

TEST(pool_cases, does_not_care_when_the_wall_clock_leaps) {
    rm_lease lease;
    caller c;
    world w;
    world_init(&w, 1);
    w.clock.wall_fn = wall_leaps;
    w.desc.max_lifetime_ns = RM_SEC(100);
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease));
    caller_queue(&c, &w, RM_MS(10), 1);
    pass(&w, RM_MS(10) - 1);
    CHECK_EQ(1, stats_of(&w).waiting);
    pass(&w, 1);
    CHECK_EQ(RM_E_TIMEOUT, caller_join(&c));
    give(&w, &lease, RM_RELEASE_OK);
    (void)maintain(&w);
    CHECK_EQ(1, borrow(&w));    /* neither old nor idle for long */
    pass(&w, RM_MINUTES(1440)); /* the machine slept */
    (void)maintain(&w);
    CHECK_EQ(2, borrow(&w));
    world_end(&w);
}

/* HikariCP#808, #1202, #1656 */
TEST(pool_cases, names_who_leaks_and_takes_it_back) {
    rm_lease lease;
    caller c;
    world w;
    uint32_t i;
    bool told = false;
    world_init(&w, 1);
    w.desc.leak_after_ns = RM_SEC(10);
    w.desc.reclaim_after_ns = RM_SEC(60);
    w.desc.reclaim_fn = thing_reclaim;
    w.desc.event_fn = world_event;
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK_EQ(RM_OK, rm_pool_note(w.pool, &lease, "checkout.c:42"));
    caller_queue(&c, &w, RM_FOREVER, 1);
    pass(&w, RM_SEC(10));
    CHECK_EQ(RM_OK, maintain(&w));
    for (i = 0; i < w.noted; ++i)
        told = told || (w.notes[i].kind == RM_POOL_EVENT_LEAKED &&
                        strcmp(w.notes[i].where, "checkout.c:42") == 0 &&
                        w.notes[i].thread == rm_thread_number());
    CHECK(told);
    pass(&w, RM_SEC(50));
    CHECK_EQ(RM_OK, maintain(&w));
    CHECK_EQ(1, w.reclaims);
    CHECK_EQ(RM_OK, caller_join(&c)); /* its place is free again */
    free(lease.resource);
    ++w.leaves;
    CHECK_EQ(RM_E_STALE, rm_pool_release(w.pool, &lease, RM_RELEASE_OK));
    give(&w, &c.lease, RM_RELEASE_OK);
    world_end(&w);
}

/* fast-object-pool#7; mongodb/specifications#682; puddle's Close */
TEST(pool_cases, closes_in_time_whoever_still_has_a_resource) {
    rm_lease lease;
    job closing;
    world w;
    REQUIRE(world_begin(&w, 2));
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK_EQ(RM_OK, rm_pool_note(w.pool, &lease, "report.c:7"));
    job_start_close(&closing, &w, RM_SEC(1));
    rm_virtual_clock_await(&w.time, 1);
    pass(&w, RM_SEC(1));
    CHECK_EQ(RM_E_TIMEOUT, job_join(&closing));
    CHECK(strstr(closing.error.message, "1 resources are still out") != NULL);
    CHECK(strstr(closing.error.message, "report.c:7") != NULL);
    CHECK_EQ(RM_E_BUSY, rm_pool_destroy(w.pool));
    give(&w, &lease, RM_RELEASE_OK); /* late, and ended */
    CHECK_EQ(1, w.destroyed);
    world_end(&w);
}

/* mperham/connection_pool#175, #180; mysql2#1571; sqlalchemy#7815 */
static void thing_discard(void *resource, void *user) {
    ++((world *)user)->leaves;
    free(resource);
}

TEST(pool_cases, says_no_goodbye_in_a_forked_child) {
    rm_lease lease;
    world w;
    world_init(&w, 2);
    w.desc.discard_fn = thing_discard;
    REQUIRE(world_open(&w));
    fill(&w, 2);
    CHECK_EQ(RM_OK, take(&w, &lease));
    CHECK_EQ(RM_OK, rm_pool_after_fork_child(w.pool)); /* as the child would */
    CHECK_EQ(2, w.leaves);
    CHECK_EQ(0, w.destroyed);
    CHECK_EQ(RM_E_STALE, rm_pool_release(w.pool, &lease, RM_RELEASE_OK));
    CHECK_EQ(2, stats_of(&w).empty);
    CHECK_EQ(3, borrow(&w));
    world_end(&w);
}

/* HikariCP PR#825; influxdb_iox#4480 */
TEST(pool_cases, measures_waits_that_time_out_and_keeps_creates_apart) {
    rm_lease lease;
    rm_pool_stats s;
    caller c;
    world w;
    world_init(&w, 1);
    w.create_takes_ns = RM_MS(300);
    REQUIRE(world_open(&w));
    CHECK_EQ(RM_OK, take(&w, &lease));
    s = stats_of(&w);
    CHECK_EQ(0, s.wait_max_ns);
    CHECK_EQ(RM_MS(300), s.create_max_ns);
    caller_queue(&c, &w, RM_MS(700), 1);
    pass(&w, RM_MS(700));
    CHECK_EQ(RM_E_TIMEOUT, caller_join(&c));
    s = stats_of(&w);
    CHECK_EQ(RM_MS(700), s.wait_max_ns);
    CHECK_EQ(RM_MS(300), s.create_max_ns);
    give(&w, &lease, RM_RELEASE_OK);
    world_end(&w);
}

TEST_MAIN

/* Every operation of a pool beside every other one: each scenario runs one of them beside three
   that the seed chooses, on a pool of two with one lease out and one more slot to grow into.
   Afterwards everything adds up, and the pool still lends all that it may. */
#define RM_IMPLEMENTATION
#include "rm_pool.h"

#include "dst.h"
#include "queue.h"

#define LOAD(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
#define ADD(p, v) __atomic_fetch_add((p), (v), __ATOMIC_SEQ_CST)

enum { RESOURCES = 64, REQUESTS = 2 };

static struct resource {
    uint32_t alive, holders; /* plain: two who touch them at once are a race */
} resources[RESOURCES];

static uint32_t made, alive, most, begun;
static rm_pool *pool;
static rm_lease held; /* by the scenario, before its threads begin */
static rm_cancel token;
static uint32_t closed; /* some thread began to close it */

static rm_status make(void **resource, rm_deadline deadline, rm_error *error, void *user) {
    const uint32_t number = ADD(&made, 1);
    (void)deadline, (void)error, (void)user;
    DST_CHECK(number < RESOURCES);
    DST_CHECK(ADD(&alive, 1) < most);
    resources[number].alive = 1;
    *resource = &resources[number];
    return RM_OK;
}

static void end(void *resource, void *user) {
    struct resource *r = (struct resource *)resource;
    (void)user;
    DST_CHECK(r->alive == 1 && r->holders == 0);
    r->alive = 0;
    (void)ADD(&alive, UINT32_MAX);
}

static rm_status validate(void *resource, void *user) {
    const struct resource *r = (const struct resource *)resource;
    (void)user;
    DST_CHECK(r->alive == 1 && r->holders == 0);
    return RM_OK;
}

static void use(const rm_lease *lease) {
    struct resource *r = (struct resource *)lease->resource;
    DST_CHECK(r->alive == 1 && r->holders == 0);
    r->holders = 1;
    dst_point();
    r->holders = 0;
}

/* ---- what a thread does */

static bool may_end_so(rm_status status) {
    return status == RM_OK || status == RM_E_TIMEOUT || status == RM_E_CANCELLED ||
           (status == RM_E_CLOSED && LOAD(&closed) != 0);
}

static void use_and_release(rm_lease *lease, rm_release how) {
    rm_lease copy = *lease;
    use(lease);
    DST_CHECK(rm_pool_release(pool, lease, how) == RM_OK);
    DST_CHECK(rm_pool_release(pool, &copy, how) == RM_E_STALE);
}

static void acquires(int index) {
    rm_lease lease;
    const rm_status status = rm_pool_acquire(pool, RM_SEC(1), &lease, NULL);
    (void)index;
    DST_CHECK(may_end_so(status));
    if (status == RM_OK) use_and_release(&lease, RM_RELEASE_OK);
}

static void releases(int index) {
    (void)index;
    use_and_release(&held, RM_RELEASE_OK);
}

static void breaks(int index) {
    rm_lease lease;
    const rm_status status = rm_pool_acquire(pool, RM_SEC(1), &lease, NULL);
    (void)index;
    DST_CHECK(may_end_so(status));
    if (status == RM_OK) use_and_release(&lease, RM_RELEASE_BROKEN);
}

static void times_out(int index) {
    rm_lease lease;
    const rm_status status = rm_pool_acquire(pool, RM_US(50), &lease, NULL);
    (void)index;
    DST_CHECK(may_end_so(status));
    if (status == RM_OK) use_and_release(&lease, RM_RELEASE_OK);
}

static void is_cancelled(int index) {
    const rm_deadline soon = rm_deadline_after(NULL, RM_SEC(1));
    rm_lease lease;
    rm_status status;
    (void)index;
    if (dst_choose(2) == 0) rm_cancel_request(&token);
    status = rm_pool_acquire_until(pool, soon, &token, &lease, NULL);
    DST_CHECK(may_end_so(status));
    if (status == RM_OK) use_and_release(&lease, RM_RELEASE_OK);
    rm_cancel_request(&token);
}

static rm_pool_request requests[REQUESTS];
static uint32_t requested, arrived;

static void arrives(rm_status status, const rm_lease *lease, const rm_error *error, void *user) {
    rm_lease copy;
    (void)user;
    DST_CHECK(may_end_so(status) && (lease != NULL) == (status == RM_OK));
    DST_CHECK((error == NULL) == (status == RM_OK));
    (void)ADD(&arrived, 1);
    if (status != RM_OK) return;
    copy = *lease;
    use_and_release(&copy, RM_RELEASE_OK);
}

static void requests_one(int index) {
    const rm_deadline soon = rm_deadline_after(NULL, RM_SEC(1));
    rm_pool_request *request = &requests[ADD(&begun, 1)];
    rm_status status;
    (void)index;
    status = rm_pool_acquire_async(pool, request, soon, dst_choose(2) == 0 ? &token : NULL, arrives,
                                   NULL, NULL);
    DST_CHECK(may_end_so(status));
    if (status == RM_OK) (void)ADD(&requested, 1);
    if (status == RM_OK && dst_choose(4) == 0) (void)rm_pool_request_cancel(request);
}

static void evicts(int index) {
    const uint32_t before = LOAD(&made);
    rm_lease lease;
    (void)index;
    DST_CHECK(rm_pool_evict_all(pool) == RM_OK);
    if (rm_pool_acquire(pool, RM_SEC(1), &lease, NULL) != RM_OK) return;
    DST_CHECK((struct resource *)lease.resource >= &resources[before]); /* made since */
    use_and_release(&lease, RM_RELEASE_OK);
}

static void evicts_one(int index) {
    const rm_status status = rm_pool_evict(pool, &resources[0]);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_NOT_FOUND || status == RM_E_BUSY);
}

static void resizes(int index) {
    rm_pool_sizes sizes = {1, 0, 0, 1};
    (void)index;
    if (dst_choose(2) == 0) sizes.overflow = 1;
    DST_CHECK(rm_pool_resize(pool, &sizes, NULL) == RM_OK);
    sizes.max = 2 + dst_choose(2);
    sizes.overflow = 0;
    sizes.max_idle = 1 + dst_choose(sizes.max);
    DST_CHECK(rm_pool_resize(pool, &sizes, NULL) == RM_OK);
}

static void suspends(int index) {
    (void)index;
    DST_CHECK(rm_pool_suspend(pool) == RM_OK);
    dst_point();
    DST_CHECK(rm_pool_resume(pool) == RM_OK);
}

static void maintains(int index) {
    const rm_deadline never = {0};
    const rm_status status = rm_pool_maintain(pool, dst_choose(3), never, NULL);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_BUSY ||
              (status == RM_E_CLOSED && LOAD(&closed) != 0));
}

static void closes(int index) {
    const rm_resource resource = rm_pool_resource(pool);
    const rm_deadline never = {0};
    rm_status status;
    (void)index;
    (void)ADD(&closed, 1);
    status = rm_pool_close(pool, RM_NOWAIT, NULL);
    DST_CHECK(status == RM_OK || status == RM_E_BUSY);
    status = resource.start_fn(resource.user, never, NULL);
    DST_CHECK(status == RM_OK || status == RM_E_BUSY || status == RM_E_CLOSED);
}

/* ---- the scenarios */

static void (*const others[])(int) = {acquires,     breaks,    times_out,  is_cancelled,
                                      requests_one, evicts,    evicts_one, resizes,
                                      suspends,     maintains, closes};

enum { OTHERS = sizeof others / sizeof *others };

/* Somebody who sleeps although it could go on: a lost wake-up. */
static const char *overslept(void *user) {
    const char *wrong = queue_wrong(&pool->queue);
    const uint64_t population = pool->population;
    uint32_t i, idle = 0, empty = 0;
    (void)user;
    if (wrong == NULL) wrong = queue_wrong(&pool->drain);
    if (wrong != NULL) return wrong;
    for (i = 0; i < pool->capacity; ++i) {
        idle += rmi_slot_state(pool->slots[i].word) == RMI_SLOT_IDLE;
        empty += rmi_slot_state(pool->slots[i].word) == RMI_SLOT_EMPTY;
    }
    if (empty + RMI_POP_FIELD(population, RMI_POP_TOTAL) != pool->capacity)
        return "the population is wrong";
    if ((pool->epoch & RMI_EPOCH_CLOSED) != 0 && idle > 0) return "a closed pool keeps a resource";
    if (idle > rmi_pool_size(pool->sizes, 3)) return "more is idle than max_idle";
    if ((pool->epoch & RMI_EPOCH_STOPPED) != 0 || pool->queue.head == NULL) return NULL;
    if (idle > 0) return "a waiter sleeps beside an idle resource";
    if (rmi_pool_has_room(pool, true, population)) return "a waiter sleeps although there is room";
    return NULL;
}

static void begin(void) {
    rm_pool_desc desc = rm_pool_desc_default();
    desc.create_fn = make;
    desc.destroy_fn = end;
    desc.validate_fn = validate;
    desc.max = 2;
    desc.min_idle = 1;
    desc.capacity = 3;
    most = 3;
    DST_CHECK(rm_pool_create(&desc, &pool, NULL) == RM_OK);
    DST_CHECK(rm_cancel_init(&token) == RM_OK);
    dst_when_idle(overslept, NULL);
    DST_CHECK(rm_pool_acquire(pool, RM_NOWAIT, &held, NULL) == RM_OK);
}

static void finish(void) {
    const rm_resource resource = rm_pool_resource(pool);
    const rm_deadline never = {0};
    rm_pool_stats s;
    rm_lease lease[3];
    uint32_t i, max;
    if (held.resource != NULL) use_and_release(&held, RM_RELEASE_OK);
    dst_pass(RM_SEC(2));
    (void)rm_pool_maintain(pool, 0, never, NULL); /* ends requests whose time is over */
    DST_CHECK(arrived == requested);
    DST_CHECK(overslept(NULL) == NULL);
    if (closed != 0) DST_CHECK(resource.start_fn(resource.user, never, NULL) == RM_OK);
    DST_CHECK(rm_pool_stats_get(pool, &s) == RM_OK);
    DST_CHECK(s.in_use + s.creating + s.checking + s.closing + s.waiting == 0);
    DST_CHECK(s.idle + s.empty == s.capacity && s.idle == alive && s.created == made);
    max = s.max;
    for (i = 0; i < max; ++i)
        DST_CHECK(rm_pool_acquire(pool, RM_NOWAIT, &lease[i], NULL) == RM_OK);
    DST_CHECK(rm_pool_acquire(pool, RM_NOWAIT, &held, NULL) == RM_E_BUSY);
    for (i = 0; i < max; ++i)
        use_and_release(&lease[i], RM_RELEASE_OK);
    DST_CHECK(rm_pool_destroy(pool) == RM_OK);
    DST_CHECK(rm_cancel_destroy(&token) == RM_OK);
    DST_CHECK(alive == 0);
}

static void beside_three(void (*fn)(int)) {
    void (*threads[4])(int);
    int i, one = 0;
    begin();
    threads[0] = fn;
    threads[1] = fn == releases ? acquires : releases;
    for (i = 2; i < 4; ++i) {
        do
            threads[i] = others[dst_choose(OTHERS)];
        while (threads[i] == requests_one && ++one > REQUESTS - 1);
    }
    dst_go(4, threads);
    finish();
}

#define BESIDE(name)                \
    DST(pairs, name##_beside_any) { \
        beside_three(name);         \
    }

BESIDE(acquires)
BESIDE(releases)
BESIDE(breaks)
BESIDE(times_out)
BESIDE(is_cancelled)
BESIDE(requests_one)
BESIDE(evicts)
BESIDE(evicts_one)
BESIDE(resizes)
BESIDE(suspends)
BESIDE(maintains)
BESIDE(closes)

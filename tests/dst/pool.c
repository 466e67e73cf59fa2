/* Schedules of rm_pool.h. */
#define RM_IMPLEMENTATION
#include "rm_pool.h"

#include "dst.h"

/* ---- a pool of numbered resources, whose holders must be alone with them */

static struct resource { int holders, alive; } resources[64];
static int made;

static rm_status make(void **resource, rm_deadline deadline, rm_error *error, void *user) {
    const int number = __atomic_fetch_add(&made, 1, __ATOMIC_RELAXED);
    (void)deadline, (void)user;
    if (dst_fault("create_fn")) return rm_error_set(error, RM_E_REFUSED, 0, "db", "refused");
    resources[number].alive = 1;
    *resource = &resources[number];
    return RM_OK;
}

static void end(void *resource, void *user) {
    struct resource *r = (struct resource *)resource;
    (void)user;
    DST_CHECK(r->alive == 1 && r->holders == 0);
    r->alive = 0;
}

static rm_pool *pool;

/* A waiter that sleeps although it could have a resource: a lost wake-up. */
static const char *overslept(void *user) {
    uint32_t i;
    (void)user;
    if (pool->queue.head == NULL) return NULL;
    for (i = 0; i < pool->desc.max; ++i) {
        const uint32_t state = rmi_slot_state(pool->slots[i].word);
        if (state == RMI_SLOT_IDLE || (state == RMI_SLOT_EMPTY && !pool->closed))
            return "a waiter sleeps beside a free slot";
    }
    return NULL;
}

static void begin(uint32_t max, int64_t barge_ns) {
    rm_pool_desc desc = rm_pool_desc_default();
    desc.create_fn = make;
    desc.destroy_fn = end;
    desc.max = max;
    desc.barge_ns = barge_ns;
    DST_CHECK(rm_pool_create(&desc, &pool, NULL) == RM_OK);
    dst_when_idle(overslept, NULL);
}

static void finish(void) {
    rm_pool_stats stats;
    DST_CHECK(rm_pool_stats_get(pool, &stats) == RM_OK);
    DST_CHECK(stats.in_use == 0 && stats.creating == 0 && stats.closing == 0 && stats.waiting == 0);
    DST_CHECK(stats.idle + stats.empty == stats.max);
    DST_CHECK(rm_pool_destroy(pool) == RM_OK);
}

static void use(rm_lease *lease) {
    struct resource *r = (struct resource *)lease->resource;
    DST_CHECK(r->alive == 1 && r->holders == 0);
    r->holders = 1; /* plain: a second holder is a race too */
    dst_point();
    r->holders = 0;
}

static void borrow(int index) {
    rm_lease lease;
    (void)index;
    for (int i = 0; i < 2; ++i) {
        DST_CHECK(rm_pool_acquire(pool, RM_FOREVER, &lease, NULL) == RM_OK);
        use(&lease);
        DST_CHECK(rm_pool_release(pool, &lease, RM_RELEASE_OK) == RM_OK);
    }
}

DST(pool, release_meets_waiters) {
    void (*const threads[])(int) = {borrow, borrow, borrow, borrow};
    begin(2, 0);
    dst_go(4, threads);
    finish();
}

/* ---- torture */

/* A life of a pool in which each status may be a failure that was injected, and nothing else. */
DST_TORTURE(pool, survives_every_failure_of_its_life) {
    rm_pool_desc desc = rm_pool_desc_default();
    rm_deadline soon;
    rm_lease lease;
    rm_status status;
    int i;
    desc.create_fn = make;
    desc.destroy_fn = end;
    desc.max = 2;
    desc.min = 1;
    status = rm_pool_create(&desc, &pool, NULL);
    DST_CHECK(status == RM_OK || dst_faults() > 0);
    if (status != RM_OK) {
        DST_CHECK(pool == NULL);
        return;
    }
    soon = rm_deadline_after(NULL, RM_SEC(1));
    status = rm_pool_maintain(pool, soon, NULL);
    DST_CHECK(status == RM_OK || dst_faults() > 0);
    for (i = 0; i < 3; ++i) {
        const uint64_t before = dst_faults();
        status = rm_pool_acquire(pool, RM_SEC(1), &lease, NULL);
        DST_CHECK(status == RM_OK || dst_faults() > before);
        if (status != RM_OK) continue;
        use(&lease);
        DST_CHECK(rm_pool_release(pool, &lease, i == 1 ? RM_RELEASE_BROKEN : RM_RELEASE_OK) ==
                  RM_OK);
    }
    finish();
}

/* For schedules of pools: resources whose holders must be alone with them, and permits that come
   back once. */
#ifndef DST_RESOURCES_H_INCLUDED
#define DST_RESOURCES_H_INCLUDED

/* The hooks' atomics are relaxed, so that they order nothing which the pool must order. */
#define LOAD(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define STORE(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define ADD(p, v) __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)

enum { RESOURCES = 64, PERMITS = 64 };

static struct resource {
    uint32_t alive, holders;
    bool late; /* nobody may get it */
} resources[RESOURCES];

static uint32_t made, alive;
static uint32_t sealed;       /* no more creates */
static uint32_t creates_fail; /* how many of the next */
static uint32_t admitted, reported[PERMITS];

static bool one_of(uint32_t *left) {
    uint32_t n = LOAD(left);
    while (n > 0)
        if (__atomic_compare_exchange_n(left, &n, n - 1, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            return true;
    return false;
}

/* The next resource, of which at most so many may be alive. */
static struct resource *make_one(uint32_t most) {
    const uint32_t number = ADD(&made, 1);
    DST_CHECK(number < RESOURCES);
    DST_CHECK(ADD(&alive, 1) < most);
    resources[number].alive = 1;
    return &resources[number];
}

static void use(const rm_lease *lease) {
    struct resource *r = (struct resource *)lease->resource;
    DST_CHECK(r->alive == 1 && r->holders == 0 && !r->late);
    r->holders = 1; /* plain: a second holder is a race too */
    dst_point();
    r->holders = 0;
}

static rm_status admit_one(rm_permit *permit) {
    permit->word = ADD(&admitted, 1) + 1;
    DST_CHECK(permit->word <= PERMITS);
    return RM_OK;
}

static void report(rm_permit *permit, rm_outcome outcome, void *user) {
    (void)outcome, (void)user;
    DST_CHECK(permit->word >= 1 && permit->word <= LOAD(&admitted));
    DST_CHECK(ADD(&reported[permit->word - 1], 1) == 0);
}

/* When all is over. */
static void check_permits(void) {
    uint32_t i;
    for (i = 0; i < admitted; ++i)
        DST_CHECK(reported[i] == 1);
}

#endif

/* Words of a pool that wrap: pools.c has what depends on them hold at full width, and pool_bits.c
   finds with 2 bits what goes wrong. */
#ifndef DST_POOL_TAGS_H
#define DST_POOL_TAGS_H

static rm_pool *tagged;
static char things[16];
static uint32_t things_made, things_checked;

static rm_status make_thing(void **resource, rm_deadline deadline, rm_error *error, void *user) {
    const uint32_t number = __atomic_fetch_add(&things_made, 1, __ATOMIC_RELAXED);
    (void)deadline, (void)error, (void)user;
    DST_CHECK(number < sizeof things);
    *resource = &things[number];
    return RM_OK;
}

static rm_status check_thing(void *resource, void *user) {
    (void)resource, (void)user;
    (void)__atomic_fetch_add(&things_checked, 1, __ATOMIC_RELAXED);
    return RM_OK;
}

static void begin_tagged(uint32_t max) {
    rm_pool_desc desc = rm_pool_desc_default();
    desc.create_fn = make_thing;
    desc.validate_fn = check_thing;
    desc.max = max;
    DST_CHECK(rm_pool_create(&desc, &tagged, NULL) == RM_OK);
}

/* A lease that was given back is given back again beside others of the same slot: the fourth one
   after it has its sequence modulo 4. */
static rm_lease old_lease;

static void lends_once(int index) {
    rm_lease lease;
    (void)index;
    DST_CHECK(rm_pool_acquire(tagged, RM_FOREVER, &lease, NULL) == RM_OK);
    DST_CHECK(rm_pool_release(tagged, &lease, RM_RELEASE_OK) == RM_OK);
}

static void releases_again(int index) {
    (void)index;
    DST_CHECK(rm_pool_release(tagged, &old_lease, RM_RELEASE_OK) == RM_E_STALE);
}

static void stale_lease_beside_others(void) {
    void (*const threads[])(int) = {releases_again, lends_once, lends_once, lends_once};
    rm_lease lease;
    begin_tagged(1);
    DST_CHECK(rm_pool_acquire(tagged, RM_FOREVER, &lease, NULL) == RM_OK);
    old_lease = lease;
    DST_CHECK(rm_pool_release(tagged, &lease, RM_RELEASE_OK) == RM_OK);
    lends_once(0);
    lends_once(0);
    dst_go(4, threads);
    DST_CHECK(rm_pool_destroy(tagged) == RM_OK);
}

/* Four evictions while a lease is out, which comes back after one of them. */
static rm_lease out;

static void evicts_all(int index) {
    (void)index;
    DST_CHECK(rm_pool_evict_all(tagged) == RM_OK);
}

static void evicts_all_and_returns(int index) {
    evicts_all(index);
    DST_CHECK(rm_pool_release(tagged, &out, RM_RELEASE_OK) == RM_OK);
}

static void evictions_beside_a_lease(void) {
    void (*const threads[])(int) = {evicts_all, evicts_all, evicts_all, evicts_all_and_returns};
    const void *before;
    begin_tagged(1);
    DST_CHECK(rm_pool_acquire(tagged, RM_FOREVER, &out, NULL) == RM_OK);
    before = out.resource;
    dst_go(4, threads);
    DST_CHECK(rm_pool_acquire(tagged, RM_FOREVER, &out, NULL) == RM_OK);
    DST_CHECK(out.resource != before);
    DST_CHECK(rm_pool_release(tagged, &out, RM_RELEASE_OK) == RM_OK);
    DST_CHECK(rm_pool_destroy(tagged) == RM_OK);
}

/* Four resources break while a fifth is idle, which is to be checked before it is lent. */
static rm_lease breaking[4];

static void breaks_its_own(int index) {
    DST_CHECK(rm_pool_release(tagged, &breaking[index], RM_RELEASE_BROKEN) == RM_OK);
}

static void doubts_beside_each_other(void) {
    void (*const threads[])(int) = {breaks_its_own, breaks_its_own, breaks_its_own, breaks_its_own};
    int i;
    begin_tagged(5);
    DST_CHECK(rm_pool_acquire(tagged, RM_FOREVER, &out, NULL) == RM_OK);
    for (i = 0; i < 4; ++i)
        DST_CHECK(rm_pool_acquire(tagged, RM_FOREVER, &breaking[i], NULL) == RM_OK);
    DST_CHECK(rm_pool_release(tagged, &out, RM_RELEASE_OK) == RM_OK);
    dst_go(4, threads);
    DST_CHECK(rm_pool_acquire(tagged, RM_FOREVER, &out, NULL) == RM_OK);
    DST_CHECK(things_checked == 1);
    DST_CHECK(rm_pool_release(tagged, &out, RM_RELEASE_OK) == RM_OK);
    DST_CHECK(rm_pool_destroy(tagged) == RM_OK);
}

/* A lease of a key that is gone is given back beside others that take its place: the third one
   after it has its generation modulo 4, less the 0 that none has. */
static rm_pools *places;
static rm_pools_lease old_key;

static void end_thing(void *resource, void *user) {
    (void)resource, (void)user;
}

/* All pools lie in the same place, one after the other: only the generation tells them apart. */
static rm_status place_pool(const void *key, size_t size, rm_pool_desc *desc, rm_error *error,
                            void *user) {
    static char memory[8192];
    (void)key, (void)size, (void)error, (void)user;
    desc->memory = memory;
    desc->memory_size = sizeof memory;
    return RM_OK;
}

static rm_status lend_key(const char *key, rm_pools_lease *lease) {
    const rm_deadline forever = {0};
    return rm_pools_acquire(places, key, 1, forever, NULL, lease, NULL);
}

static void lends_a_key(int index) {
    static const char *const names[] = {"b", "c", "d", "e"};
    rm_pools_lease lease;
    const rm_status status = lend_key(names[index], &lease);
    DST_CHECK(status == RM_OK || status == RM_E_FULL);
    if (status == RM_OK) DST_CHECK(rm_pools_release(places, &lease, RM_RELEASE_OK) == RM_OK);
}

static void releases_what_is_gone(int index) {
    (void)index;
    DST_CHECK(rm_pools_release(places, &old_key, RM_RELEASE_OK) == RM_E_STALE);
}

static void stale_key_beside_others(void) {
    void (*const threads[])(int) = {lends_a_key, lends_a_key, lends_a_key, releases_what_is_gone};
    rm_pools_lease lease;
    rm_pools_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.pool.create_fn = make_thing;
    desc.pool.destroy_fn = end_thing;
    desc.pool.max = 1;
    desc.max_keys = 1;
    desc.open_fn = place_pool;
    DST_CHECK(rm_pools_create(&desc, &places, NULL) == RM_OK);
    DST_CHECK(lend_key("a", &lease) == RM_OK);
    old_key = lease;
    DST_CHECK(rm_pools_release(places, &lease, RM_RELEASE_OK) == RM_OK);
    lends_a_key(1);
    lends_a_key(2);
    dst_go(4, threads);
    DST_CHECK(rm_pools_destroy(places) == RM_OK);
}

#endif

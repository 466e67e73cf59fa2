/* Schedules of rm_pools (keyed pools under a common bound), of endpoints, of the wait after a
   failed create, and of prewarming. */
#define RM_IMPLEMENTATION
#include "rm_pool.h"

#include "dst.h"
#include "queue.h"
#include "resources.h"

/* ---- the hooks */

static const rm_deadline never = {0};
static uint32_t most; /* alive at once */

static rm_status make(void **resource, rm_deadline deadline, rm_error *error, void *user) {
    (void)deadline, (void)user;
    DST_CHECK(LOAD(&sealed) == 0);
    if (one_of(&creates_fail)) return rm_error_set(error, RM_E_REFUSED, 0, "db", "refused");
    *resource = make_one(most);
    return RM_OK;
}

static void end(void *resource, void *user) {
    struct resource *r = (struct resource *)resource;
    (void)user;
    DST_CHECK(r->alive == 1 && r->holders == 0);
    r->alive = 0;
    (void)ADD(&alive, UINT32_MAX);
}

/* ---- pools under a common bound */

static rm_pools *pools;
static rm_pools_lease held;               /* by the scenario, before its threads begin */
static rm_pool *held_pool;                /* it lives as long as the pools: nothing is evicted */
static int64_t grow_after_ns, backoff_ns; /* of the pools; 0 = the default */

static uint32_t in_state(const rm_pool *pool, uint32_t state) {
    uint32_t i, count = 0;
    for (i = 0; i < pool->capacity; ++i)
        count += rmi_slot_state(pool->slots[i].word) == state;
    return count;
}

/* When one in the queue may have something idle. */
static int64_t lends_at(const rm_pool *pool) {
    int64_t at = INT64_MAX;
    uint32_t i;
    for (i = 0; i < pool->capacity; ++i) {
        const rmi_slot *slot = &pool->slots[i];
        const int64_t shut = (int64_t)pool->endpoints[slot->endpoint].shut_ns;
        if (rmi_slot_state(slot->word) == RMI_SLOT_IDLE && shut < at) at = shut;
    }
    return at;
}

/* When one in the queue may make something, if there is room: wherever a create failed for it. */
static int64_t makes_at(rm_pool *pool, const rmi_pool_wish *wish) {
    const int64_t grow_at = rmi_pool_grow_at(pool, wish, pool->population);
    const rmi_pool_wish any = rmi_pool_wish_of(wish->since_ns);
    int64_t at = INT64_MAX;
    uint32_t i;
    if (!rmi_pool_has_room(pool, true, pool->population)) return INT64_MAX;
    for (i = 0; i < pool->endpoint_count; ++i) {
        const int64_t open_at = rmi_pool_open_at(pool, i, &any);
        if (open_at < at) at = open_at;
    }
    return at > grow_at ? at : grow_at;
}

/* What is wrong with the pool of one key: *hungry = somebody waits who has room of his own and may
   use it; *idle = there is something that nobody of its own key waits for. */
static const char *key_wrong(rm_pool *pool, bool *hungry, bool *idle) {
    const char *wrong = queue_wrong(&pool->queue);
    const rm_waiter *head = pool->queue.head;
    const int64_t now = rm_now(NULL);
    const rmi_pool_wish *wish;
    uint64_t grant;
    int64_t seen_ns; /* for a request, whoever maintains looks at the time */
    if (wrong != NULL) return wrong;
    if (head == NULL) {
        *idle = *idle || in_state(pool, RMI_SLOT_IDLE) > 0;
        return NULL;
    }
    seen_ns = head->cond != NULL ? now : 0;
    if (lends_at(pool) <= seen_ns) return "a waiter sleeps beside an idle resource";
    wish = head->request;
    if (head->cond != NULL && head->look_ns > rmi_pool_look_at(pool, head->request, now))
        return "a waiter sleeps beyond its time";
    if (rmi_pool_hopeless(pool, wish, &grant)) return "somebody waits for nothing";
    *hungry = *hungry || makes_at(pool, wish) <= seen_ns;
    return NULL;
}

/* Somebody who sleeps although it could go on: a lost wake-up. */
static const char *overslept(void *user) {
    bool hungry = false, idle = false;
    uint32_t i, count = 0;
    (void)user;
    for (i = 0; i < pools->registry->desc.max_entries; ++i) {
        const rmi_entry *entry = &pools->registry->entries[i];
        const char *wrong;
        if (entry->state != RMI_ENTRY_LIVE) continue;
        wrong = key_wrong((rm_pool *)entry->value, &hungry, &idle);
        if (wrong != NULL) return wrong;
        count += RMI_POP_FIELD(((rm_pool *)entry->value)->population, RMI_POP_TOTAL);
    }
    if (pools->budget.max == 0) return NULL;
    if (count != pools->budget.used) return "the common bound counts what is not there";
    if (hungry && count < pools->budget.max) return "a waiter sleeps although there is room";
    if (hungry && idle) return "a waiter sleeps although something is idle under another key";
    return NULL;
}

/* Makes their pools, and nothing in them. */
static void make_keys(uint32_t keys) {
    rm_pools_lease none;
    rm_cancel token;
    uint32_t i;
    DST_CHECK(rm_cancel_init(&token) == RM_OK);
    rm_cancel_request(&token);
    for (i = 0; i < keys; ++i)
        DST_CHECK(rm_pools_acquire(pools, &"abc"[i], 1, never, &token, &none, NULL) ==
                  RM_E_CANCELLED);
    DST_CHECK(rm_cancel_destroy(&token) == RM_OK);
}

static void begin_keys(uint32_t max, uint32_t max_total, uint32_t max_keys, uint32_t keys) {
    rm_pools_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.pool = rm_pool_desc_default();
    desc.pool.create_fn = make;
    desc.pool.destroy_fn = end;
    desc.pool.max = max;
    desc.pool.grow_after_ns = grow_after_ns;
    if (backoff_ns != 0) desc.pool.create_backoff_ns = backoff_ns;
    desc.max_total = max_total;
    desc.max_keys = max_keys;
    most = max_total;
    DST_CHECK(rm_pools_create(&desc, &pools, NULL) == RM_OK);
    dst_when_idle(overslept, NULL);
    make_keys(keys);
}

static rm_status acquire(const char *key, int64_t timeout_ns, rm_pools_lease *lease) {
    return rm_pools_acquire(pools, key, 1, rm_deadline_after(NULL, timeout_ns), NULL, lease, NULL);
}

static void give(rm_pools_lease *lease, rm_release how) {
    use(&lease->lease);
    DST_CHECK(rm_pools_release(pools, lease, how) == RM_OK);
    DST_CHECK(lease->pool == NULL);
}

/* Every key can still have all that the bound allows. */
static void finish_keys(void) {
    if (held.pool != NULL) give(&held, RM_RELEASE_OK);
    DST_CHECK(overslept(NULL) == NULL && pools->budget.wanting == 0);
    DST_CHECK(LOAD(&alive) == pools->budget.used);
    DST_CHECK(rm_pools_destroy(pools) == RM_OK);
    DST_CHECK(LOAD(&alive) == 0);
}

static void hold_a(void) {
    DST_CHECK(acquire("a", RM_FOREVER, &held) == RM_OK);
    held_pool = held.pool;
}

static void uses_key(const char *key, rm_release how) {
    rm_pools_lease lease;
    DST_CHECK(acquire(key, RM_FOREVER, &lease) == RM_OK);
    give(&lease, how);
}

static void uses_a(int index) {
    (void)index;
    uses_key("a", RM_RELEASE_OK);
}

static void uses_b(int index) {
    (void)index;
    uses_key("b", RM_RELEASE_OK);
}

static void uses_c(int index) {
    (void)index;
    uses_key("c", RM_RELEASE_OK);
}

static void breaks_a(int index) {
    (void)index;
    uses_key("a", RM_RELEASE_BROKEN);
}

static void breaks_b(int index) {
    (void)index;
    uses_key("b", RM_RELEASE_BROKEN);
}

static void gives_back(int index) {
    (void)index;
    give(&held, RM_RELEASE_OK);
}

static void gives_back_broken(int index) {
    (void)index;
    give(&held, RM_RELEASE_BROKEN);
}

/* Uses one, or ends with this status. */
static void uses_key_unless(rm_status otherwise, const char *key, int64_t timeout_ns) {
    rm_pools_lease lease;
    const rm_status status = acquire(key, timeout_ns, &lease);
    DST_CHECK(status == RM_OK || status == otherwise);
    if (status == RM_OK) give(&lease, RM_RELEASE_OK);
}

static void gives_up_a(int index) {
    (void)index;
    uses_key_unless(RM_E_TIMEOUT, "a", RM_US(50));
}

static void gives_up_b(int index) {
    (void)index;
    uses_key_unless(RM_E_TIMEOUT, "b", RM_US(50));
}

static void tries_b(int index) {
    (void)index;
    uses_key_unless(RM_E_TIMEOUT, "b", RM_NOWAIT);
}

static void maintains_keys(int index) {
    (void)index;
    DST_CHECK(rm_pools_maintain(pools, 0, never, NULL) == RM_OK);
}

static void resizes_a(int index) {
    const rm_pool_sizes one = {1, 0, 0, 1}, two = {2, 0, 0, 2};
    (void)index;
    DST_CHECK(rm_pool_resize(held_pool, &one, NULL) == RM_OK);
    DST_CHECK(rm_pool_resize(held_pool, &two, NULL) == RM_OK);
}

static void uses_a_unless_full(int index) {
    uses_key_unless(RM_E_FULL, index % 2 == 0 ? "a" : "b", RM_FOREVER);
}

static void uses_any_unless_closed(int index) {
    uses_key_unless(RM_E_CLOSED, index % 2 == 0 ? "a" : "b", RM_FOREVER);
}

static void closes_keys(int index) {
    (void)index;
    DST_CHECK(rm_pools_close(pools, RM_FOREVER, NULL) == RM_OK);
    STORE(&sealed, 1); /* what is lent from now on would be a create */
}

/* A scenario that is, each time, one of several that are alike. */
#define ONE_OF(suite, name, ...)                            \
    DST(suite, name) {                                      \
        static void (*const alike[])(void) = {__VA_ARGS__}; \
        alike[dst_choose(sizeof alike / sizeof *alike)]();  \
    }

/* One of them: what it begins with, what it ends with, and its threads. */
#define THREADS(name, begin, finish, ...)                  \
    static void name(void) {                               \
        void (*const threads[])(int) = {__VA_ARGS__};      \
        begin;                                             \
        dst_go(sizeof threads / sizeof *threads, threads); \
        finish;                                            \
    }

#define KEYS(name, max, max_total, keys, prepare, ...) \
    THREADS(name, (begin_keys(max, max_total, keys, keys), prepare), finish_keys(), __VA_ARGS__)

KEYS(one_place_for_two_keys, 1, 1, 2, (void)0, uses_a, uses_b, uses_a)
KEYS(one_place_that_is_given_back, 2, 1, 2, hold_a(), gives_back, uses_b, uses_a)
KEYS(one_place_that_breaks, 1, 1, 2, hold_a(), gives_back_broken, uses_a, uses_b)
KEYS(two_places_for_a_key_that_may_have_one, 1, 2, 2, (void)0, uses_a, uses_a, uses_b)
KEYS(three_places_and_a_key_that_may_have_one, 1, 3, 2, (void)0, uses_a, uses_a, uses_b, uses_b)
KEYS(two_places_and_three_keys, 2, 2, 3, hold_a(), gives_back_broken, uses_b, uses_c)
KEYS(resources_break_under_both_keys, 2, 2, 2, hold_a(), gives_back, breaks_a, breaks_b, uses_b)
KEYS(waits_end_in_time_beside_others, 1, 1, 2, hold_a(), gives_back, gives_up_a, uses_b)
KEYS(waits_end_in_time_under_both_keys, 2, 1, 2, (void)0, gives_up_a, gives_up_b, uses_a)
KEYS(tries_beside_those_who_wait, 1, 1, 2, hold_a(), gives_back, tries_b, uses_a)
KEYS(upkeep_beside_acquires, 2, 1, 2, hold_a(), gives_back, maintains_keys, uses_b)
KEYS(sizes_change_beside_acquires, 2, 2, 2, hold_a(), gives_back, resizes_a, uses_a, uses_b)

/* Takes the place that another waits for, and keeps it for a while. */
static void keeps_c(int index) {
    rm_pools_lease lease, second;
    (void)index;
    DST_CHECK(acquire("c", RM_FOREVER, &lease) == RM_OK);
    DST_CHECK(acquire("c", RM_US(50), &second) == RM_E_TIMEOUT);
    give(&lease, RM_RELEASE_OK);
}

static void shrink_a(void) {
    const rm_pool_sizes one = {1, 0, 0, 1};
    DST_CHECK(rm_pool_resize(held_pool, &one, NULL) == RM_OK);
}

static void grows_a(int index) {
    const rm_pool_sizes two = {2, 0, 0, 2};
    (void)index;
    DST_CHECK(rm_pool_resize(held_pool, &two, NULL) == RM_OK);
}

static void suspend_a(void) {
    DST_CHECK(rm_pool_suspend(held_pool) == RM_OK);
}

static void resumes_a(int index) {
    (void)index;
    DST_CHECK(rm_pool_resume(held_pool) == RM_OK);
}

/* Somebody else takes what became free, and something is idle under a third key. */
KEYS(a_place_is_taken_beside_an_idle_one, 1, 2, 3, (hold_a(), uses_b(0)), gives_back_broken, uses_a,
     keeps_c)
KEYS(a_key_grows_beside_an_idle_one, 2, 2, 2, (hold_a(), shrink_a(), uses_b(0)), grows_a, uses_a)
KEYS(a_key_resumes_beside_an_idle_one, 2, 2, 2, (hold_a(), suspend_a(), uses_b(0)), resumes_a,
     uses_a)

static void fail_a(void) {
    rm_pools_lease lease;
    creates_fail = 1;
    DST_CHECK(acquire("a", RM_NOWAIT, &lease) == RM_E_REFUSED);
}

/* Nobody does anything when what keeps one from a place is over; another key has it. */
KEYS(a_backoff_ends_beside_an_idle_one, 2, 2, 2, (hold_a(), fail_a(), uses_b(0)), uses_a)
KEYS(a_backoff_ends_beside_others, 2, 3, 3, (hold_a(), fail_a(), uses_b(0)), uses_a, uses_c, uses_b)

static void a_time_to_grow_comes_beside_an_idle_one(void) {
    void (*const threads[])(int) = {uses_a, uses_b, uses_a};
    grow_after_ns = RM_US(30);
    begin_keys(2, 2, 2, 2);
    hold_a();
    uses_b(0);
    dst_go(dst_choose(2) == 0 ? 1 : 3, threads);
    finish_keys();
}

/* Creates fail, backoffs end and times to grow come while others come and go. */
static void uses_or_fails(const char *key, rm_release how) {
    rm_pools_lease lease;
    const rm_status status = acquire(key, RM_FOREVER, &lease);
    DST_CHECK(status == RM_OK || status == RM_E_REFUSED);
    if (status != RM_OK) return;
    dst_pass(RM_US(dst_choose(30)));
    give(&lease, how);
}

static void a_if_it_can(int index) {
    (void)index;
    uses_or_fails("a", RM_RELEASE_OK);
}

static void b_if_it_can(int index) {
    (void)index;
    uses_or_fails("b", RM_RELEASE_OK);
}

static void breaks_a_if_it_can(int index) {
    (void)index;
    uses_or_fails("a", RM_RELEASE_BROKEN);
}

static void breaks_b_if_it_can(int index) {
    (void)index;
    uses_or_fails("b", RM_RELEASE_BROKEN);
}

static void late_a_if_it_can(int index) {
    dst_pass(RM_US(15));
    a_if_it_can(index);
}

static void pauses_a(int index) {
    (void)index;
    DST_CHECK(rm_pool_suspend(held_pool) == RM_OK);
    dst_pass(RM_US(20));
    DST_CHECK(rm_pool_resume(held_pool) == RM_OK);
}

static void begin_hard_times(uint32_t max, uint32_t max_total, uint32_t keys) {
    grow_after_ns = dst_choose(3) == 0 ? 0 : RM_US(10 + 10 * dst_choose(3));
    backoff_ns = dst_choose(2) == 0 ? 0 : RM_US(20);
    begin_keys(max, max_total, keys, keys);
}

static void some_creates_fail(void) {
    creates_fail = dst_choose(3);
}

#define HARD_TIMES(name, max, max_total, keys, prepare, ...)                              \
    THREADS(name, (begin_hard_times(max, max_total, keys), prepare, some_creates_fail()), \
            finish_keys(), __VA_ARGS__)

HARD_TIMES(one_place_and_two_keys, 1, 1, 2, (void)0, a_if_it_can, a_if_it_can, b_if_it_can)
HARD_TIMES(two_places_and_two_keys, 2, 2, 2, hold_a(), gives_back, a_if_it_can, a_if_it_can,
           b_if_it_can)
HARD_TIMES(two_places_and_upkeep, 2, 2, 2, hold_a(), gives_back_broken, a_if_it_can,
           late_a_if_it_can, maintains_keys)
HARD_TIMES(three_places_that_break, 2, 3, 2, hold_a(), gives_back, breaks_a_if_it_can,
           breaks_b_if_it_can, a_if_it_can, b_if_it_can)
HARD_TIMES(two_places_and_a_pause, 2, 2, 2, hold_a(), gives_back, a_if_it_can, pauses_a,
           late_a_if_it_can, b_if_it_can)

ONE_OF(pools, share_places, one_place_for_two_keys, one_place_that_is_given_back,
       one_place_that_breaks, two_places_for_a_key_that_may_have_one,
       three_places_and_a_key_that_may_have_one, two_places_and_three_keys,
       resources_break_under_both_keys)
ONE_OF(pools, give_up_and_change_beside_others, waits_end_in_time_beside_others,
       waits_end_in_time_under_both_keys, tries_beside_those_who_wait, upkeep_beside_acquires,
       sizes_change_beside_acquires)
ONE_OF(pools, need_what_is_idle_elsewhere, a_place_is_taken_beside_an_idle_one,
       a_key_grows_beside_an_idle_one, a_key_resumes_beside_an_idle_one)
ONE_OF(pools, live_through_hard_times, one_place_and_two_keys, two_places_and_two_keys,
       two_places_and_upkeep, three_places_that_break, two_places_and_a_pause)
ONE_OF(pools, look_for_a_place_when_their_time_has_come, a_backoff_ends_beside_an_idle_one,
       a_backoff_ends_beside_others, a_time_to_grow_comes_beside_an_idle_one)

DST(pools, keys_that_make_room_for_others) {
    void (*const threads[])(int) = {uses_a_unless_full, uses_a_unless_full, uses_a_unless_full};
    begin_keys(1, 2, 1, 0);
    dst_go(3, threads);
    finish_keys();
}

DST(pools, close_beside_acquires) {
    void (*const threads[])(int) = {uses_any_unless_closed, uses_any_unless_closed, closes_keys};
    begin_keys(1, 2, 8, 0);
    dst_go(3, threads);
    finish_keys();
}

/* ---- the list of those who wait for places */

static rm_cancel giving_up;

/* Acquires with a callback; what was lent is given back by the thread that asked. */
static struct asked {
    rm_pools_request request;
    rm_pools_lease lease;
    uint32_t over; /* 1 + status */
} asked[4];

static void answered(rm_status status, const rm_pools_lease *lease, const rm_error *error,
                     void *user) {
    struct asked *a = (struct asked *)user;
    (void)error;
    if (status == RM_OK) {
        a->lease = *lease;
        use(&a->lease.lease);
        DST_CHECK(rm_pools_release(pools, &a->lease, RM_RELEASE_OK) == RM_OK);
    }
    DST_CHECK(a->over == 0);
    __atomic_store_n(&a->over, 1 + (uint32_t)status, __ATOMIC_RELEASE);
}

static void asks(const char *key, struct asked *a, rm_cancel *cancel) {
    const rm_status status =
        rm_pools_acquire_async(pools, &a->request, key, 1, never, cancel, answered, NULL, a);
    DST_CHECK(status == RM_OK || status == RM_E_CLOSED || (status == RM_E_CANCELLED && cancel));
    if (status != RM_OK) a->over = 1 + (uint32_t)status;
}

static void asks_a(int index) {
    asks("a", &asked[index], NULL);
}

static void asks_b(int index) {
    asks("b", &asked[index], NULL);
}

static void asks_b_until_cancelled(int index) {
    asks("b", &asked[index], &giving_up);
}

static void uses_b_until_cancelled(int index) {
    rm_pools_lease lease;
    const rm_status status = rm_pools_acquire(pools, "b", 1, never, &giving_up, &lease, NULL);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_CANCELLED);
    if (status == RM_OK) give(&lease, RM_RELEASE_OK);
}

static void cancels(int index) {
    (void)index;
    rm_cancel_request(&giving_up);
}

/* All that was asked for has been answered, since all that was lent is back. */
static void finish_asked(void) {
    uint32_t i;
    for (i = 0; i < 4; ++i)
        DST_CHECK(asked[i].request.pools == NULL || asked[i].over != 0);
}

static void token(void) {
    DST_CHECK(rm_cancel_init(&giving_up) == RM_OK);
}

static void finish_token(void) {
    finish_keys();
    finish_asked();
    DST_CHECK(rm_cancel_destroy(&giving_up) == RM_OK);
}

/* Gives two back one after the other. */
static rm_pools_lease second;

static void hold_two(void) {
    hold_a();
    DST_CHECK(acquire("b", RM_FOREVER, &second) == RM_OK);
}

static void gives_second(int index) {
    (void)index;
    give(&second, RM_RELEASE_OK);
}

static void idle_under_b(void) {
    rm_pools_lease lease;
    hold_a();
    DST_CHECK(acquire("b", RM_FOREVER, &lease) == RM_OK);
    give(&lease, RM_RELEASE_OK);
}

static void closes_all(int index) {
    (void)index;
    DST_CHECK(rm_pools_close(pools, RM_FOREVER, NULL) == RM_OK);
}

#define WAITING(name, max, max_total, keys, prepare, ...)                                     \
    THREADS(name, (token(), begin_keys(max, max_total, keys, keys), prepare), finish_token(), \
            __VA_ARGS__)

WAITING(one_times_out, 1, 1, 3, hold_a(), gives_back, gives_up_b, uses_c, uses_a)
WAITING(one_is_cancelled, 1, 1, 3, hold_a(), gives_back, uses_b_until_cancelled, uses_c, cancels)
WAITING(a_callback_is_cancelled, 1, 1, 3, hold_a(), gives_back, asks_b_until_cancelled, uses_c,
        cancels)
WAITING(two_yield_at_once, 2, 2, 3, hold_two(), gives_back, gives_second, uses_c, uses_c)
WAITING(two_yield_to_two, 2, 2, 3, hold_two(), gives_back, gives_second, uses_c, asks_b)
WAITING(callbacks_wait_under_both_keys, 2, 1, 2, hold_a(), gives_back, asks_a, asks_b, uses_b)
WAITING(a_callback_finds_what_is_idle, 2, 2, 2, idle_under_b(), asks_b, gives_back, uses_a, tries_b)
WAITING(upkeep_drops_what_another_wants, 2, 2, 3, idle_under_b(), maintains_keys, uses_c,
        gives_back, uses_b)
WAITING(sizes_change_while_others_wait, 2, 2, 3, hold_two(), gives_back, resizes_a, gives_second,
        uses_c, uses_a)

ONE_OF(hungry, give_up_when_they_are_offered_a_place, one_times_out, one_is_cancelled,
       a_callback_is_cancelled)
ONE_OF(hungry, are_yielded_to, two_yield_at_once, two_yield_to_two, callbacks_wait_under_both_keys)
ONE_OF(hungry, meet_what_is_idle, a_callback_finds_what_is_idle, upkeep_drops_what_another_wants,
       sizes_change_while_others_wait)

/* A backoff has ended: a prewarm finds out whether creates work again, and then that the common
   bound is reached. */
static void gives_second_later(int index) {
    dst_pass(RM_MS(20));
    gives_second(index);
}

static void warms_a_later(int index) {
    rm_status status;
    (void)index;
    dst_pass(RM_MS(20));
    status = rm_pool_prewarm(held_pool, 2, never, NULL, NULL);
    DST_CHECK(status == RM_OK || status == RM_E_REFUSED); /* while another one finds out */
}

/* Takes the place that is free, and keeps it for long. */
static void holds_c_later(int index) {
    rm_pools_lease lease;
    (void)index;
    dst_pass(RM_MS(20));
    DST_CHECK(acquire("c", RM_FOREVER, &lease) == RM_OK);
    use(&lease.lease);
    DST_CHECK(rm_sleep(NULL, RM_SEC(1), NULL) == RM_OK);
    give(&lease, RM_RELEASE_OK);
}

DST(hungry, meet_a_probe_that_is_undone) {
    void (*const threads[])(int) = {uses_a, warms_a_later, gives_second_later, holds_c_later};
    begin_keys(2, 3, 3, 3);
    hold_two();
    fail_a();
    dst_go(4, threads);
    finish_keys();
}

/* One that waits costs the others one resource, whoever comes back at the same time. */
static void two_come_back_for_one(void) {
    void (*const threads[])(int) = {gives_back, gives_second, uses_c};
    begin_keys(1, 2, 3, 3);
    hold_two();
    dst_go(3, threads);
    DST_CHECK(made == 3 && alive == 2);
    finish_keys();
}

static void maintains_beside_another(int index) {
    const rm_status status = rm_pools_maintain(pools, 0, never, NULL);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_BUSY);
}

/* ... or is idle. */
static void two_are_idle_for_one(void) {
    void (*const threads[])(int) = {uses_c, maintains_beside_another, maintains_beside_another};
    rm_pools_lease a;
    begin_keys(1, 2, 3, 3);
    hold_two();
    a = held;
    memset(&held, 0, sizeof held);
    give(&a, RM_RELEASE_OK);
    give(&second, RM_RELEASE_OK);
    dst_go(3, threads);
    DST_CHECK(made == 3 && alive == 2);
    finish_keys();
}

ONE_OF(hungry, cost_no_more_than_they_need, two_come_back_for_one, two_are_idle_for_one)

/* A key that waits is offered a place while others make its key room: max_keys are few. */
static void waits_for_50_us_unless_full(const char *key) {
    rm_pools_lease lease;
    const rm_status status = acquire(key, RM_US(50), &lease);
    DST_CHECK(status == RM_OK || status == RM_E_TIMEOUT || status == RM_E_FULL);
    if (status == RM_OK) give(&lease, RM_RELEASE_OK);
}

static void gives_up_b_unless_full(int index) {
    (void)index;
    waits_for_50_us_unless_full("b");
}

static void gives_up_c_unless_full(int index) {
    (void)index;
    waits_for_50_us_unless_full("c");
}

DST(hungry, are_offered_a_place_while_their_key_goes) {
    void (*const threads[])(int) = {gives_back, gives_up_b_unless_full, gives_up_c_unless_full,
                                    gives_up_b_unless_full};
    begin_keys(1, 1, 2, 0);
    hold_a();
    dst_go(4, threads);
    finish_keys();
}

static void gives_up_its_request(int index) {
    const rm_status status = rm_pools_request_cancel(&asked[3].request);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_STALE);
}

/* What was given up, or came too late for that, may have been its key's last. */
DST(hungry, give_up_a_request_while_its_key_goes) {
    void (*const threads[])(int) = {gives_back, gives_up_its_request, gives_up_c_unless_full};
    begin_keys(1, 1, 2, 0);
    hold_a();
    asks("b", &asked[3], NULL);
    dst_go(3, threads);
    DST_CHECK(asked[3].over == 1 + RM_OK || asked[3].over == 1 + RM_E_CANCELLED);
    finish_keys();
}

/* ... or ends by itself at that time: its key is held no more, whoever gave it up first. */
static void a_request_is_given_up_by_two(void) {
    void (*const threads[])(int) = {gives_up_its_request, gives_up_its_request};
    begin_keys(1, 1, 2, 0);
    hold_a();
    asks("b", &asked[3], NULL);
    dst_go(2, threads);
    finish_keys();
}

static void a_request_is_given_up_beside_its_token(void) {
    void (*const threads[])(int) = {gives_up_its_request, cancels};
    token();
    begin_keys(1, 1, 2, 0);
    hold_a();
    asks("b", &asked[3], &giving_up);
    dst_go(2, threads);
    finish_token();
}

static void a_request_is_given_up_beside_its_create(void) {
    void (*const threads[])(int) = {gives_up_its_request, gives_back};
    begin_keys(1, 1, 2, 0);
    hold_a();
    creates_fail = 1;
    asks("b", &asked[3], NULL);
    dst_go(2, threads);
    finish_keys();
}

ONE_OF(hungry, give_up_a_request_that_ends, a_request_is_given_up_by_two,
       a_request_is_given_up_beside_its_token, a_request_is_given_up_beside_its_create)

DST(hungry, are_told_that_the_pools_are_closed) {
    void (*const threads[])(int) = {gives_back, asks_a, asks_b, closes_all};
    begin_keys(1, 1, 2, 2);
    hold_a();
    dst_go(4, threads);
    finish_asked();
    finish_keys();
}

/* ---- one pool: endpoints, creates that fail, prewarming */

static rm_pool *pool;
static rm_lease lent;       /* by the scenario, before its threads begin */
static uint32_t refuses[3]; /* how many of the next, by endpoint */
static uint32_t users[2];   /* their addresses are the endpoints' users */

static rm_status admit(rm_permit *permit, rm_error *error, void *user) {
    if (one_of((uint32_t *)user)) return rm_error_set(error, RM_E_REJECTED, 0, "guard", "open");
    return admit_one(permit);
}

static const char *pool_overslept(void *user) {
    const char *wrong = queue_wrong(&pool->queue);
    const rm_waiter *lookout;
    const rmi_pool_wish *head;
    (void)user;
    if (wrong == NULL) wrong = queue_wrong(&pool->drain);
    if (wrong != NULL || pool->queue.head == NULL) return wrong;
    lookout = rmi_waitq_lookout(&pool->queue);
    if (lookout == NULL) return NULL; /* whoever maintains looks at the time */
    head = pool->queue.head->request;
    if (lookout->look_ns > lends_at(pool) || lookout->look_ns > makes_at(pool, head))
        return "the head of the queue sleeps although it could be served";
    if (RMI_POP_FIELD(pool->population, RMI_POP_KEPT) == 0) return "somebody waits for nothing";
    return NULL;
}

static rm_pool_desc pool_desc(uint32_t max) {
    rm_pool_desc desc = rm_pool_desc_default();
    desc.create_fn = make;
    desc.destroy_fn = end;
    desc.max = most = max;
    return desc;
}

static void begin_pool(const rm_pool_desc *desc) {
    DST_CHECK(rm_pool_create(desc, &pool, NULL) == RM_OK);
    dst_when_idle(pool_overslept, NULL);
}

static void begin_plain(uint32_t max) {
    const rm_pool_desc desc = pool_desc(max);
    begin_pool(&desc);
}

static void begin_warming(uint32_t max, uint32_t max_creating) {
    rm_pool_desc desc = pool_desc(max);
    desc.max_creating = max_creating;
    begin_pool(&desc);
}

static void begin_endpoints(uint32_t max) {
    const rm_guard guards[] = {{admit, report, &refuses[0]}, {admit, report, &refuses[1]}};
    const rm_pool_endpoint endpoints[] = {{"one", &guards[0], &users[0]},
                                          {"two", &guards[1], &users[1]}};
    rm_pool_desc desc = pool_desc(max);
    desc.endpoints = endpoints;
    desc.endpoint_count = 2;
    desc.balance = (rm_pool_balance)dst_choose(2);
    begin_pool(&desc);
}

static void finish_pool(void) {
    rm_pool_stats s;
    uint32_t i;
    DST_CHECK(pool_overslept(NULL) == NULL);
    DST_CHECK(rm_pool_stats_get(pool, &s) == RM_OK);
    DST_CHECK(s.in_use + s.creating + s.checking + s.closing + s.waiting == 0);
    DST_CHECK(s.idle == LOAD(&alive) && s.created == LOAD(&made));
    for (i = 0; i < pool->endpoint_count; ++i)
        DST_CHECK(pool->endpoints[i].retry_ns != RMI_POOL_PROBED);
    DST_CHECK(rm_pool_destroy(pool) == RM_OK);
    DST_CHECK(LOAD(&alive) == 0);
    check_permits();
}

static void hold_one(void) {
    DST_CHECK(rm_pool_acquire(pool, RM_NOWAIT, &lent, NULL) == RM_OK);
}

static void returns(int index) {
    (void)index;
    use(&lent);
    DST_CHECK(rm_pool_release(pool, &lent, RM_RELEASE_OK) == RM_OK);
}

static void returns_broken(int index) {
    (void)index;
    use(&lent);
    DST_CHECK(rm_pool_release(pool, &lent, RM_RELEASE_BROKEN) == RM_OK);
}

static void detaches(int index) {
    void *resource;
    (void)index;
    use(&lent);
    (void)ADD(&alive, UINT32_MAX); /* before the pool may make another */
    DST_CHECK(rm_pool_detach(pool, &lent, &resource) == RM_OK);
    ((struct resource *)resource)->alive = 0;
}

/* How an acquire may end beside creates that fail, guards that refuse and a close. */
static void borrows(int64_t timeout_ns, rm_release how) {
    rm_lease lease;
    const rm_status status = rm_pool_acquire(pool, timeout_ns, &lease, NULL);
    DST_CHECK(status == RM_OK || status == RM_E_REFUSED || status == RM_E_REJECTED ||
              status == RM_E_CLOSED || (status == RM_E_TIMEOUT && timeout_ns != RM_FOREVER));
    if (status != RM_OK) return;
    use(&lease);
    DST_CHECK(rm_pool_release(pool, &lease, how) == RM_OK);
}

static void uses(int index) {
    (void)index;
    borrows(RM_FOREVER, RM_RELEASE_OK);
}

static void breaks(int index) {
    (void)index;
    borrows(RM_FOREVER, RM_RELEASE_BROKEN);
}

static void gives_up(int index) {
    (void)index;
    borrows(RM_US(50), RM_RELEASE_OK);
}

static void uses_in_a_while(int index) {
    dst_pass(RM_MS(dst_choose(120)));
    uses(index);
}

static void warms(int index) {
    const rm_status status = rm_pool_prewarm(pool, 2, never, NULL, NULL);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_REFUSED || status == RM_E_REJECTED ||
              status == RM_E_CLOSED);
}

static void maintains(int index) {
    const rm_status status = rm_pool_maintain(pool, 0, never, NULL);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_REFUSED || status == RM_E_REJECTED ||
              status == RM_E_CLOSED);
}

static void closes(int index) {
    (void)index;
    DST_CHECK(rm_pool_close(pool, RM_FOREVER, NULL) == RM_OK);
    STORE(&sealed, 1);
}

#define ENDPOINTS(name, max, prepare, ...) \
    THREADS(name, (begin_endpoints(max), prepare), finish_pool(), __VA_ARGS__)

ENDPOINTS(acquires_beside_releases, 2, (void)0, uses, uses, breaks, uses)
ENDPOINTS(a_create_fails, 2, creates_fail = 1, uses, uses, breaks, uses)
ENDPOINTS(creates_fail_at_both, 2, creates_fail = 3, uses, uses, uses_in_a_while, uses)
ENDPOINTS(a_create_fails_beside_a_lease, 2, (hold_one(), creates_fail = 1), returns, uses, uses)
ENDPOINTS(a_guard_refuses, 2, refuses[0] = 1, uses, uses, uses)
ENDPOINTS(a_guard_refuses_beside_a_lease, 1, (hold_one(), refuses[0] = 1), returns, uses, uses)
ENDPOINTS(both_guards_refuse, 2, (hold_one(), refuses[0] = refuses[1] = 2), returns, uses, uses,
          uses_in_a_while)
ENDPOINTS(a_guard_refuses_and_a_create_fails, 2, (creates_fail = refuses[1] = 1), uses, breaks,
          uses_in_a_while)
ENDPOINTS(a_guard_refuses_who_has_little_time, 1, (hold_one(), refuses[0] = 1), returns_broken,
          gives_up, uses)
ENDPOINTS(a_lease_leaves, 1, (hold_one(), refuses[0] = 1), detaches, uses, uses)

ONE_OF(endpoints, refuse, a_guard_refuses, a_guard_refuses_beside_a_lease, both_guards_refuse,
       a_guard_refuses_and_a_create_fails, a_guard_refuses_who_has_little_time, a_lease_leaves)
ONE_OF(endpoints, fail, acquires_beside_releases, a_create_fails, creates_fail_at_both,
       a_create_fails_beside_a_lease)

#define FAILING(name, max, prepare, ...) \
    THREADS(name, (begin_plain(max), prepare), finish_pool(), __VA_ARGS__)

FAILING(create_beside_waiters, 1, creates_fail = 1, uses, uses, uses)
FAILING(create_and_the_next, 1, creates_fail = 2, uses, uses, uses_in_a_while)
FAILING(create_beside_a_lease, 2, (hold_one(), creates_fail = 1), returns, uses, uses, uses)
FAILING(create_beside_a_lease_that_breaks, 2, (hold_one(), creates_fail = 1), returns_broken, uses,
        uses, uses)
FAILING(create_beside_a_lease_that_leaves, 2, (hold_one(), creates_fail = 1), detaches, uses, uses)
FAILING(create_beside_little_time, 2, (hold_one(), creates_fail = 1), returns, gives_up, uses, uses)
FAILING(create_beside_upkeep, 2, creates_fail = 1, maintains, uses, breaks)
FAILING(create_beside_close, 2, (hold_one(), creates_fail = 1), returns, uses, uses, closes)

ONE_OF(failing, creates_beside_others, create_beside_waiters, create_and_the_next,
       create_beside_a_lease, create_beside_a_lease_that_breaks, create_beside_a_lease_that_leaves,
       create_beside_little_time, create_beside_upkeep, create_beside_close)

/* ---- keys, some of whose acquires only try, with endpoints whose guards take their time */

static void take_a_while(void) {
    dst_pass(RM_US(dst_choose(3) * 20));
}

static rm_status admit_in_a_while(rm_permit *permit, rm_error *error, void *user) {
    take_a_while();
    return admit(permit, error, user);
}

static rm_status make_in_a_while(void **resource, rm_deadline deadline, rm_error *error,
                                 void *user) {
    take_a_while();
    return make(resource, deadline, error, user);
}

static void end_in_a_while(void *resource, void *user) {
    take_a_while();
    end(resource, user);
}

static const rm_guard sluggards[] = {{admit_in_a_while, report, &refuses[0]},
                                     {admit_in_a_while, report, &refuses[1]},
                                     {admit_in_a_while, report, &refuses[2]}};
static const rm_pool_endpoint sluggish[] = {
    {"one", &sluggards[0], NULL}, {"two", &sluggards[1], NULL}, {"three", &sluggards[2], NULL}};

static rm_release any_release(void) {
    return dst_choose(4) == 0 ? RM_RELEASE_BROKEN : RM_RELEASE_OK;
}

static void begin_mixture(uint32_t endpoints) {
    rm_pools_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.pool.create_fn = make_in_a_while;
    desc.pool.destroy_fn = end_in_a_while;
    desc.pool.max = 1 + dst_choose(2);
    desc.pool.create_backoff_ns = RM_US(30);
    desc.pool.endpoints = endpoints == 0 ? NULL : sluggish;
    desc.pool.endpoint_count = endpoints;
    desc.max_total = most = 1 + dst_choose(3);
    desc.max_keys = 3;
    DST_CHECK(rm_pools_create(&desc, &pools, NULL) == RM_OK);
    dst_when_idle(overslept, NULL);
    make_keys(3);
}

static void uses_any_or_tries(int index) {
    uint32_t n = 1 + dst_choose(2);
    (void)index;
    while (n-- > 0) {
        const bool tries = dst_choose(3) == 0;
        rm_pools_lease lease;
        const rm_status status =
            acquire(&"abc"[dst_choose(3)], tries ? RM_NOWAIT : RM_FOREVER, &lease);
        DST_CHECK(status == RM_OK || status == RM_E_REFUSED || status == RM_E_REJECTED ||
                  (tries && status == RM_E_TIMEOUT));
        if (status != RM_OK) continue;
        dst_pass(RM_US(dst_choose(2) * 10));
        give(&lease, any_release());
    }
}

static rm_pools_request asked_for;
static bool asks_for_one;
static uint32_t answers;

/* A request has its answer: is it a lease? */
static bool got_one(rm_status status, const rm_error *error) {
    DST_CHECK((status == RM_OK) == (error == NULL) && (error == NULL || error->status == status));
    DST_CHECK(status == RM_OK || status == RM_E_REFUSED || status == RM_E_REJECTED);
    (void)ADD(&answers, 1);
    return status == RM_OK;
}

static void gives_what_it_got(rm_status status, const rm_pools_lease *lease, const rm_error *error,
                              void *user) {
    rm_pools_lease mine;
    (void)user;
    if (!got_one(status, error)) return;
    mine = *lease;
    give(&mine, any_release());
}

/* Asks, and looks for a while whether the time has come. */
static void asks_for_any(int index) {
    uint32_t i;
    DST_CHECK(rm_pools_acquire_async(pools, &asked_for, &"abc"[dst_choose(3)], 1, never, NULL,
                                     gives_what_it_got, NULL, NULL) == RM_OK);
    asks_for_one = true;
    for (i = 0; i < 3; ++i) {
        dst_pass(RM_US(40));
        maintains_keys(index);
    }
}

DST(hungry, mix_with_those_who_try) {
    void (*const threads[])(int) = {uses_any_or_tries, uses_any_or_tries, asks_for_any,
                                    uses_any_or_tries};
    const uint32_t endpoints = dst_choose(4);
    uint32_t i;
    begin_mixture(endpoints);
    creates_fail = dst_choose(3);
    for (i = 0; i < 3; ++i)
        refuses[i] = dst_choose(3);
    dst_go(2 + (int)dst_choose(3), threads);
    for (i = 0; asks_for_one && LOAD(&answers) == 0; ++i) {
        DST_CHECK(i < 100);
        dst_pass(RM_MS(1));
        maintains_keys(0);
    }
    DST_CHECK(pools->budget.wanting == 0 && pools->budget.leaving == 0);
    DST_CHECK(pools->budget.hungry == NULL);
    for (i = 0; i < 3; ++i) {
        const rmi_entry *entry = &pools->registry->entries[i];
        if (entry->state == RMI_ENTRY_LIVE) DST_CHECK(((rm_pool *)entry->value)->away == 0);
    }
    finish_keys();
    check_permits();
}

/* ---- one pool whose hooks take their time, and everything that an acquire may meet */

static rm_pool_request request;

static void gives_it_back(rm_status status, const rm_lease *lease, const rm_error *error,
                          void *user) {
    rm_lease mine;
    (void)user;
    if (!got_one(status, error)) return;
    mine = *lease;
    use(&mine);
    DST_CHECK(rm_pool_release(pool, &mine, any_release()) == RM_OK);
}

static void asks_and_maintains(int index) {
    uint32_t i;
    DST_CHECK(rm_pool_acquire_async(pool, &request, never, NULL, gives_it_back, NULL, NULL) ==
              RM_OK);
    for (i = 0; i < 3; ++i) {
        dst_pass(RM_US(40));
        maintains(index);
    }
}

static void uses_somehow(int index) {
    static const int64_t timeouts[] = {RM_NOWAIT, RM_US(100), RM_FOREVER, RM_FOREVER};
    uint32_t n = 1 + dst_choose(2);
    (void)index;
    while (n-- > 0) {
        const int64_t timeout_ns = timeouts[dst_choose(4)];
        rm_error error;
        rm_lease lease;
        rm_status status;
        memset(&error, 0, sizeof error);
        status = rm_pool_acquire(pool, timeout_ns, &lease, &error);
        DST_CHECK(error.status == status);
        DST_CHECK(status == RM_OK || status == RM_E_REFUSED || status == RM_E_REJECTED ||
                  (timeout_ns == RM_NOWAIT && status == RM_E_BUSY) ||
                  (timeout_ns == RM_US(100) && status == RM_E_TIMEOUT));
        if (status != RM_OK) continue;
        use(&lease);
        dst_pass(RM_US(dst_choose(3) * 60));
        DST_CHECK(rm_pool_release(pool, &lease, any_release()) == RM_OK);
    }
}

DST(endpoints, take_their_time) {
    void (*const threads[])(int) = {uses_somehow, uses_somehow, asks_and_maintains, uses_somehow,
                                    uses_somehow};
    rm_pool_desc desc = pool_desc(1 + dst_choose(3));
    uint32_t i;
    desc.create_fn = make_in_a_while;
    desc.endpoints = sluggish;
    desc.endpoint_count = 2 + dst_choose(2);
    desc.balance = (rm_pool_balance)dst_choose(2);
    desc.create_backoff_ns = dst_choose(2) ? RM_US(30) : RM_NONE;
    desc.min_idle = dst_choose(2);
    desc.overflow = dst_choose(3) == 0;
    most += desc.overflow;
    desc.barge_ns = dst_choose(2) ? RM_STRICT : 0;
    desc.grow_after_ns = dst_choose(4) == 0 ? RM_US(50) : 0;
    begin_pool(&desc);
    creates_fail = dst_choose(4);
    for (i = 0; i < 3; ++i)
        refuses[i] = dst_choose(4);
    dst_go(3 + (int)dst_choose(3), threads);
    for (i = 0; LOAD(&answers) == 0; ++i) {
        DST_CHECK(i < 100);
        dst_pass(RM_MS(1));
        maintains(0);
    }
    finish_pool();
}

#define WARMING(name, max, max_creating, prepare, ...) \
    THREADS(name, (begin_warming(max, max_creating), prepare), finish_pool(), __VA_ARGS__)

WARMING(beside_acquires, 2, 0, (void)0, warms, uses, uses)
WARMING(one_at_a_time, 2, 1, (void)0, warms, uses, uses)
WARMING(twice, 2, 0, (void)0, warms, warms)
WARMING(that_fails_beside_acquires, 2, 0, creates_fail = 1, warms, uses, uses)
WARMING(beside_close, 2, 0, (void)0, warms, uses, closes)

ONE_OF(warming, beside_others, beside_acquires, one_at_a_time, twice, that_fails_beside_acquires,
       beside_close)

/* ---- the words that wrap, at full width: pool_bits.c has them short */

#include "pool_tags.h"

DST(tags, a_stale_lease_is_refused) {
    stale_lease_beside_others();
}

DST(tags, an_eviction_lends_nothing_from_before) {
    evictions_beside_a_lease();
}

DST(tags, a_doubt_has_all_checked) {
    doubts_beside_each_other();
}

DST(tags, a_lease_of_a_key_that_is_gone_is_refused) {
    stale_key_beside_others();
}

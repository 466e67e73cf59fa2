/* Schedules of rm_pool.h: every pair of calls that race, histories, and failures of the outside. */
#define RM_IMPLEMENTATION
#include "rm_pool.h"

#include "dst.h"
#include "queue.h"
#include "resources.h"

/* ---- the hooks, and the guard */

enum { FAR = 1000000 };

static const rm_deadline never = {0};

static rm_pool *pool;
static uint32_t checks_fail, resets_fail, guard_refuses; /* how many of the next */
static uint32_t least;                                   /* alive at any time */
static int64_t end_takes_ns;                             /* each destroy_fn */

static rm_status make(void **resource, rm_deadline deadline, rm_error *error, void *user) {
    struct resource *r;
    (void)deadline, (void)user;
    DST_CHECK(!LOAD(&sealed));
    if (dst_fault("create_fn") || one_of(&creates_fail))
        return rm_error_set(error, RM_E_REFUSED, 0, "db", "refused");
    *resource = r = make_one(pool->desc.max + pool->desc.overflow);
    r->late = (__atomic_load_n(&pool->epoch, __ATOMIC_SEQ_CST) & 1) != 0; /* it is closed */
    return RM_OK;
}

static void end(void *resource, void *user) {
    struct resource *r = (struct resource *)resource;
    (void)user;
    DST_CHECK(r->alive == 1 && r->holders == 0);
    r->alive = 0;
    if (end_takes_ns != 0) DST_CHECK(rm_sleep(NULL, end_takes_ns, NULL) == RM_OK);
    DST_CHECK(ADD(&alive, UINT32_MAX) > least);
}

static rm_status validate(void *resource, void *user) {
    const struct resource *r = (const struct resource *)resource;
    (void)user;
    DST_CHECK(r->alive == 1 && r->holders == 0);
    return dst_fault("validate_fn") || one_of(&checks_fail) ? RM_E_FAILED : RM_OK;
}

static rm_status reset(void *resource, void *user) {
    const struct resource *r = (const struct resource *)resource;
    (void)user;
    DST_CHECK(r->alive == 1 && r->holders == 0);
    return dst_fault("reset_fn") || one_of(&resets_fail) ? RM_E_FAILED : RM_OK;
}

static rm_status admit(rm_permit *permit, rm_error *error, void *user) {
    (void)user;
    if (dst_fault("admit_fn") || one_of(&guard_refuses))
        return rm_error_set(error, RM_E_REJECTED, 0, "guard", "open");
    return admit_one(permit);
}

static const rm_guard guard = {admit, report, NULL};

/* ---- the pool */

/* Somebody who sleeps although it could go on: a lost wake-up. */
static const char *overslept(void *user) {
    const char *wrong = queue_wrong(&pool->queue);
    uint32_t i, empty = 0, unused = pool->capacity; /* more than there may be, since a resize */
    (void)user;
    unused -= rmi_pool_size(pool->sizes, 0) + rmi_pool_size(pool->sizes, 1);
    if (wrong == NULL) wrong = queue_wrong(&pool->drain);
    if (wrong != NULL) return wrong;
    if ((pool->epoch & 1) != pool->queue.closed) return "the pool is half open";
    for (i = 0; i < pool->capacity; ++i) {
        const uint32_t state = rmi_slot_state(pool->slots[i].word);
        if (state == RMI_SLOT_EMPTY) ++empty;
        if (state == RMI_SLOT_IDLE && (pool->epoch & 1) != 0)
            return "a closed pool keeps a resource";
        if (pool->queue.head != NULL && (state == RMI_SLOT_IDLE || empty > unused))
            return "a waiter sleeps beside a free slot";
    }
    if (pool->drain.head != NULL && empty == pool->capacity) return "a close waits for nothing";
    return NULL;
}

static rm_pool_desc with_max(uint32_t max) {
    rm_pool_desc desc = rm_pool_desc_default();
    desc.create_backoff_ns = RM_NONE;
    desc.create_fn = make;
    desc.destroy_fn = end;
    desc.max = max;
    return desc;
}

static void begin(const rm_pool_desc *desc) {
    DST_CHECK(rm_pool_create(desc, &pool, NULL) == RM_OK);
    dst_when_idle(overslept, NULL);
}

static void begin_plain(uint32_t max) {
    const rm_pool_desc desc = with_max(max);
    begin(&desc);
}

static void finish(void) {
    rm_pool_stats stats;
    DST_CHECK(overslept(NULL) == NULL);
    DST_CHECK(rm_pool_stats_get(pool, &stats) == RM_OK);
    DST_CHECK(stats.in_use == 0 && stats.creating == 0 && stats.closing == 0 &&
              stats.checking == 0 && stats.waiting == 0);
    DST_CHECK(stats.idle + stats.empty == stats.capacity && stats.idle == alive);
    DST_CHECK(stats.created == made && stats.destroyed + stats.reclaimed == made - alive);
    DST_CHECK(rm_pool_destroy(pool) == RM_OK);
    DST_CHECK(alive == 0);
    check_permits();
}

static rm_status use_once(int64_t timeout_ns, rm_release how) {
    rm_lease lease;
    const rm_status status = rm_pool_acquire(pool, timeout_ns, &lease, NULL);
    if (status != RM_OK) return status;
    use(&lease);
    DST_CHECK(rm_pool_release(pool, &lease, how) == RM_OK);
    return RM_OK;
}

/* ---- threads */

static rm_lease held;      /* by the scenario, before its threads begin */
static rm_lease held_copy; /* of it */
static rm_cancel token;
static uint32_t evicted;

static void hold(void) {
    DST_CHECK(rm_pool_acquire(pool, RM_NOWAIT, &held, NULL) == RM_OK);
}

static void gives_back(int index) {
    (void)index;
    DST_CHECK(rm_pool_release(pool, &held, RM_RELEASE_OK) == RM_OK);
}

static void gives_back_broken(int index) {
    (void)index;
    DST_CHECK(rm_pool_release(pool, &held, RM_RELEASE_BROKEN) == RM_OK);
}

static void gives_back_in_50_us(int index) {
    dst_pass(RM_US(50));
    gives_back(index);
}

static void uses(int index) {
    (void)index;
    DST_CHECK(use_once(RM_FOREVER, RM_RELEASE_OK) == RM_OK);
}

static void uses_twice(int index) {
    uses(index);
    uses(index);
}

static void tries(int index) {
    const rm_status status = use_once(RM_NOWAIT, RM_RELEASE_OK);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_BUSY);
}

static void waits_for_50_us(int index) {
    const rm_status status = use_once(RM_US(50), RM_RELEASE_OK);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_TIMEOUT);
}

static void waits_for_a_token(int index) {
    rm_lease lease;
    const rm_status status = rm_pool_acquire_until(pool, never, &token, &lease, NULL);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_CANCELLED);
    if (status != RM_OK) return;
    use(&lease);
    DST_CHECK(rm_pool_release(pool, &lease, RM_RELEASE_OK) == RM_OK);
}

static void cancels(int index) {
    (void)index;
    rm_cancel_request(&token);
}

static void uses_unless_closed(int index) {
    const rm_status status = use_once(RM_FOREVER, RM_RELEASE_OK);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_CLOSED);
}

static void breaks_unless_closed(int index) {
    const rm_status status = use_once(RM_FOREVER, RM_RELEASE_BROKEN);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_CLOSED);
}

static void tries_unless_closed(int index) {
    const rm_status status = use_once(RM_NOWAIT, RM_RELEASE_OK);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_BUSY || status == RM_E_CLOSED);
}

static void maintains(int index) {
    const rm_status status = rm_pool_maintain(pool, 0, never, NULL);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_BUSY || status == RM_E_CLOSED);
}

static void closes(int index) {
    uint32_t i;
    (void)index;
    DST_CHECK(rm_pool_close(pool, RM_FOREVER, NULL) == RM_OK);
    STORE(&sealed, 1);
    for (i = 0; i < LOAD(&made); ++i)
        DST_CHECK(resources[i].alive == 0); /* plain: a close comes after all that it waited for */
}

static void closes_at_once(int index) {
    const rm_status status = rm_pool_close(pool, RM_NOWAIT, NULL);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_BUSY);
}

static rm_status start(void) {
    const rm_resource resource = rm_pool_resource(pool);
    return resource.start_fn(resource.user, never, NULL);
}

static void starts(int index) {
    const rm_status status = start();
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_CLOSED);
}

/* ---- release meets acquire */

DST(pool, release_meets_one_waiter) {
    void (*const threads[])(int) = {uses, gives_back};
    begin_plain(1);
    hold();
    dst_go(2, threads);
    finish();
}

DST(pool, release_meets_waiters) {
    void (*const threads[])(int) = {uses, uses, uses};
    begin_plain(1);
    dst_go(3, threads);
    finish();
}

DST(pool, two_resources_meet_three_users) {
    void (*const threads[])(int) = {uses, uses, uses};
    begin_plain(2);
    dst_go(3, threads);
    finish();
}

DST(pool, broken_release_hands_the_slot_on) {
    void (*const threads[])(int) = {uses, uses, gives_back_broken};
    begin_plain(1);
    hold();
    dst_go(3, threads);
    DST_CHECK(made == 2);
    finish();
}

DST(pool, failed_reset_hands_the_slot_on) {
    void (*const threads[])(int) = {uses, gives_back};
    rm_pool_desc desc = with_max(1);
    desc.reset_fn = reset;
    begin(&desc);
    hold();
    resets_fail = 1;
    dst_go(2, threads);
    DST_CHECK(made == 2);
    finish();
}

DST(pool, failed_check_makes_another_in_place) {
    void (*const threads[])(int) = {uses, tries, gives_back};
    rm_pool_desc desc = with_max(1);
    desc.validate_fn = validate;
    desc.validate_after_ns = RM_STRICT;
    begin(&desc);
    hold();
    checks_fail = 1;
    dst_go(3, threads);
    DST_CHECK(made == 2);
    finish();
}

static uint32_t refused;

static void uses_or_is_refused(int index) {
    const rm_status status = use_once(RM_FOREVER, RM_RELEASE_OK);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_REFUSED);
    if (status != RM_OK) (void)ADD(&refused, 1);
}

/* The slot goes on to the next when nothing could be made in it. */
DST(pool, create_fails_while_others_wait) {
    void (*const threads[])(int) = {uses_or_is_refused, uses_or_is_refused, gives_back_broken};
    begin_plain(1);
    hold();
    creates_fail = 1;
    dst_go(3, threads);
    DST_CHECK(refused == 1 && made == 2);
    finish();
}

static rm_status given_back[2];

static rm_release given_back_as;

static void gives_its_copy_back(int index) {
    rm_lease copy = held;
    given_back[index] = rm_pool_release(pool, &copy, given_back_as);
}

static void give_back_twice(rm_release how) {
    void (*const threads[])(int) = {gives_its_copy_back, gives_its_copy_back, uses_twice};
    begin_plain(1);
    hold();
    given_back_as = how;
    dst_go(3, threads);
    DST_CHECK(given_back[0] == RM_OK ? given_back[1] == RM_E_STALE
                                     : given_back[0] == RM_E_STALE && given_back[1] == RM_OK);
    finish();
}

DST(pool, second_release_leaves_the_next_lease_alone) {
    give_back_twice(RM_RELEASE_OK);
}

DST(pool, second_broken_release_leaves_the_next_lease_alone) {
    give_back_twice(RM_RELEASE_BROKEN);
}

/* ---- what ends beside a release */

static const void *first = &resources[0]; /* what the scenario holds */

/* Once it says that it ended the resource, nobody gets that any more. */
static void evicts_it(int index) {
    rm_lease lease;
    const rm_status status = rm_pool_evict(pool, first);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_BUSY || status == RM_E_NOT_FOUND);
    if (status != RM_OK || rm_pool_acquire(pool, RM_NOWAIT, &lease, NULL) != RM_OK) return;
    DST_CHECK(lease.resource != first);
    use(&lease);
    DST_CHECK(rm_pool_release(pool, &lease, RM_RELEASE_OK) == RM_OK);
    (void)ADD(&evicted, 1);
}

static void evict_beside(void (*other)(int)) {
    void (*const threads[])(int) = {gives_back, evicts_it, other};
    rm_pool_desc desc = with_max(2);
    if (dst_choose(2) == 0) {
        desc.validate_fn = validate;
        desc.validate_after_ns = RM_STRICT;
        desc.validate_on_release = true;
    }
    begin(&desc);
    hold();
    dst_go(3, threads);
    if (evicted != 0) DST_CHECK(resources[0].alive == 0);
    finish();
}

DST(pool, evict_meets_release) {
    evict_beside(dst_choose(2) == 0 ? tries : evicts_it);
}

static void only_evicts_it(int index) {
    (void)index;
    if (rm_pool_evict(pool, first) == RM_OK) (void)ADD(&evicted, 1);
}

DST(pool, evict_meets_a_release_with_a_reset) {
    void (*const threads[])(int) = {gives_back, only_evicts_it};
    rm_pool_desc desc = with_max(1);
    desc.reset_fn = reset;
    begin(&desc);
    hold();
    dst_go(2, threads);
    if (evicted != 0) DST_CHECK(resources[0].alive == 0);
    finish();
}

/* What it gets was made after its eviction began. */
static void evicts_all(int index) {
    const uint32_t before = LOAD(&made);
    rm_lease lease;
    (void)index;
    DST_CHECK(rm_pool_evict_all(pool) == RM_OK);
    DST_CHECK(rm_pool_acquire(pool, RM_FOREVER, &lease, NULL) == RM_OK);
    DST_CHECK((struct resource *)lease.resource >= &resources[before]);
    use(&lease);
    DST_CHECK(rm_pool_release(pool, &lease, RM_RELEASE_OK) == RM_OK);
}

DST(pool, eviction_meets_checks) {
    void (*const threads[])(int) = {evicts_all, maintains, dst_choose(2) == 0 ? uses : gives_back};
    rm_pool_desc desc = with_max(2);
    desc.validate_fn = validate;
    desc.validate_after_ns = RM_STRICT;
    desc.validate_on_release = true;
    desc.keepalive_ns = RM_MS(1);
    begin(&desc);
    hold();
    if (threads[2] == uses) {
        gives_back(0);
        dst_pass(RM_MS(8)); /* the check is due */
    }
    dst_go(3, threads);
    finish();
}

static void take_from_holder(void *resource, void *user) {
    struct resource *r = (struct resource *)resource;
    (void)user;
    DST_CHECK(r->alive == 1 && r->holders == 0); /* plain: nobody else has it now */
    r->alive = 0;
    (void)ADD(&alive, UINT32_MAX);
}

static void see_data(const rm_pool_event *event, void *user) {
    (void)user;
    if (event->kind == RM_POOL_EVENT_DESTROYED)
        DST_CHECK(event->data == NULL || event->data == event->resource);
}

/* What is kept with a resource goes with it. */
static void keep_data(const rm_lease *lease) {
    rm_status status;
    void *data = rm_pool_data_get(pool, lease);
    DST_CHECK(data == NULL || data == lease->resource);
    status = rm_pool_data_set(pool, lease, lease->resource);
    DST_CHECK(status == RM_OK || status == RM_E_STALE);
    data = rm_pool_data_get(pool, lease);
    DST_CHECK(data == lease->resource || data == NULL);
}

static void keeps_data_and_gives_back(int index) {
    rm_status status;
    (void)index;
    keep_data(&held);
    status = rm_pool_release(pool, &held, RM_RELEASE_OK);
    DST_CHECK(status == RM_OK || status == RM_E_STALE); /* it was reclaimed */
}

/* This one may be taken from it as well. */
static void uses_and_keeps_data(int index) {
    rm_lease lease;
    rm_status status;
    (void)index;
    DST_CHECK(rm_pool_acquire(pool, RM_FOREVER, &lease, NULL) == RM_OK);
    keep_data(&lease);
    status = rm_pool_release(pool, &lease, RM_RELEASE_BROKEN);
    DST_CHECK(status == RM_OK || (status == RM_E_STALE && pool->desc.reclaim_fn != NULL));
}

static void reclaims(int index) {
    dst_pass(RM_SEC(100));
    maintains(index);
}

DST(pool, data_meets_a_reclaim) {
    void (*const threads[])(int) = {keeps_data_and_gives_back, uses_and_keeps_data, reclaims};
    rm_pool_desc desc = with_max(1);
    desc.reclaim_fn = take_from_holder;
    desc.reclaim_after_ns = RM_SEC(50);
    desc.event_fn = see_data;
    begin(&desc);
    hold();
    dst_go(3, threads);
    finish();
}

static void keeps_data_by_a_copy(int index) {
    const rm_lease copy = held_copy;
    const rm_status status = rm_pool_data_set(pool, &copy, copy.resource);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_STALE);
}

/* It may be stale for a moment, while a copy of it is used. */
static void gives_back_at_last(int index) {
    (void)index;
    while (rm_pool_release(pool, &held, RM_RELEASE_OK) != RM_OK)
        (void)rm_sleep(NULL, RM_US(1), NULL);
}

DST(pool, data_meets_a_release) {
    void (*const threads[])(int) = {keeps_data_by_a_copy, uses_and_keeps_data, gives_back_at_last};
    rm_pool_desc desc = with_max(1);
    desc.event_fn = see_data;
    begin(&desc);
    hold();
    held_copy = held;
    dst_go(3, threads);
    finish();
}

/* ---- waits that end without a resource */

DST(pool, timeout_meets_release) {
    void (*const threads[])(int) = {waits_for_50_us, gives_back_in_50_us};
    begin_plain(1);
    hold();
    dst_go(2, threads);
    finish();
}

/* The one that times out may have been woken for the unit that the other one needs. */
DST(pool, timeout_passes_the_release_on) {
    void (*const threads[])(int) = {waits_for_50_us, uses, gives_back_in_50_us};
    begin_plain(1);
    hold();
    dst_go(3, threads);
    finish();
}

DST(pool, cancel_meets_release) {
    void (*const threads[])(int) = {waits_for_a_token, uses, gives_back, cancels};
    begin_plain(1);
    hold();
    DST_CHECK(rm_cancel_init(&token) == RM_OK);
    dst_go(4, threads);
    DST_CHECK(rm_cancel_destroy(&token) == RM_OK);
    finish();
}

/* A destroy that is refused is tried again: when it goes well, no answer is to come. */
static rm_pool_request asking;
static uint32_t gone;

static void answered_before_the_end(rm_status status, const rm_lease *lease, const rm_error *error,
                                    void *user) {
    (void)lease, (void)error, (void)user;
    DST_CHECK(status == RM_E_CANCELLED || status == RM_E_CLOSED);
    DST_CHECK(LOAD(&gone) == 0);
}

static void destroys(int index) {
    (void)index;
    while (rm_pool_destroy(pool) != RM_OK)
        (void)rm_sleep(NULL, RM_US(1), NULL);
    STORE(&gone, 1);
}

DST(pool, destroy_meets_an_answer) {
    void (*const threads[])(int) = {cancels, destroys};
    begin_plain(1);
    DST_CHECK(rm_cancel_init(&token) == RM_OK);
    DST_CHECK(rm_pool_suspend(pool) == RM_OK);
    DST_CHECK(rm_pool_acquire_async(pool, &asking, never, &token, answered_before_the_end, NULL,
                                    NULL) == RM_OK);
    dst_when_idle(NULL, NULL);
    dst_go(2, threads);
    DST_CHECK(rm_cancel_destroy(&token) == RM_OK);
}

static void uses_or_is_turned_away(int index) {
    const rm_status status = use_once(RM_FOREVER, RM_RELEASE_OK);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_FULL);
    if (status != RM_OK) (void)ADD(&refused, 1);
}

DST(pool, no_more_wait_than_may) {
    void (*const threads[])(int) = {uses_or_is_turned_away, uses_or_is_turned_away, gives_back};
    rm_pool_desc desc = with_max(1);
    rm_pool_stats stats;
    desc.max_waiters = 1;
    begin(&desc);
    hold();
    dst_go(3, threads);
    DST_CHECK(rm_pool_stats_get(pool, &stats) == RM_OK);
    DST_CHECK(refused <= 1 && stats.refused == refused && stats.acquired == 3 - refused);
    finish();
}

/* ---- order */

/* What the last holder saw of the queue; those in it are known by their deadlines. */
static struct {
    uint32_t number;
    int head; /* whom the next lease belongs to; -1: nobody in particular */
    bool queued[3];
} seen = {0, -1, {false}};

/* With the queue's lock. */
static void look_at_the_queue(bool head_is_owed) {
    const rm_waiter *waiter = pool->queue.head;
    seen.head = -1;
    memset(seen.queued, 0, sizeof seen.queued);
    for (; waiter != NULL; waiter = waiter->next) {
        const int index = (int)(waiter->deadline.at_ns - RM_SEC(FAR));
        if (seen.head < 0 && head_is_owed) seen.head = index;
        seen.queued[index] = true;
    }
    STORE(&seen.number, seen.number + 1);
}

/* Only one that had come before the head queued, and did not queue, may be served before it. What
   was seen is plain: who wrote it held the resource before. */
static void borrow_in_turn(int index, rm_lease *lease) {
    const uint32_t began = LOAD(&seen.number);
    rm_deadline mine;
    mine.at_ns = RM_SEC(FAR) + index;
    DST_CHECK(rm_pool_acquire_until(pool, mine, NULL, lease, NULL) == RM_OK);
    if (seen.head >= 0 && seen.head != index)
        DST_CHECK(!seen.queued[index] && began < LOAD(&seen.number));
    use(lease);
}

static void uses_in_turn(int index) {
    rm_lease lease;
    borrow_in_turn(index, &lease);
    rm_waitq_lock(&pool->queue);
    look_at_the_queue(true);
    rm_waitq_unlock(&pool->queue);
    DST_CHECK(rm_pool_release(pool, &lease, RM_RELEASE_OK) == RM_OK);
}

DST(pool, strict_serves_in_the_order_of_the_queue) {
    void (*const threads[])(int) = {uses_in_turn, uses_in_turn, uses_in_turn};
    rm_pool_desc desc = with_max(1);
    desc.barge_ns = RM_STRICT;
    begin(&desc);
    dst_go(3, threads);
    finish();
}

/* Once newcomers must queue, the head is next. And a release that found it owed leaves it so. */
static void uses_and_lets_barge(int index) {
    rm_lease lease;
    int64_t since = 0;
    bool owed;
    borrow_in_turn(index, &lease);
    dst_pass(RM_US(30));
    rm_waitq_lock(&pool->queue);
    if (pool->queue.head != NULL) since = pool->queue.head->since_ns;
    owed = since != 0 && dst_now() - since >= pool->desc.barge_ns;
    look_at_the_queue(rm_waitq_must_queue(&pool->queue));
    rm_waitq_unlock(&pool->queue);
    DST_CHECK(rm_pool_release(pool, &lease, RM_RELEASE_OK) == RM_OK);
    rm_waitq_lock(&pool->queue);
    if (owed && pool->queue.head != NULL && pool->queue.head->since_ns == since)
        DST_CHECK(rm_waitq_must_queue(&pool->queue));
    rm_waitq_unlock(&pool->queue);
}

DST(pool, barging_ends_when_the_head_has_waited) {
    void (*const threads[])(int) = {uses_and_lets_barge, uses_and_lets_barge, uses_and_lets_barge};
    begin_plain(1);
    dst_go(3, threads);
    finish();
}

/* ---- close and start */

DST(pool, close_meets_waiters_and_the_last_release) {
    void (*const threads[])(int) = {uses_unless_closed, uses_unless_closed, gives_back, closes};
    begin_plain(1);
    hold();
    dst_go(4, threads);
    finish();
}

DST(pool, close_meets_acquire) {
    void (*const threads[])(int) = {uses_unless_closed, tries_unless_closed, closes};
    begin_plain(2);
    DST_CHECK(use_once(RM_NOWAIT, RM_RELEASE_OK) == RM_OK);
    dst_go(3, threads);
    finish();
}

DST(pool, close_meets_creates) {
    void (*const threads[])(int) = {breaks_unless_closed, tries_unless_closed, maintains, closes};
    rm_pool_desc desc = with_max(2);
    desc.min_idle = 2;
    begin(&desc);
    dst_go(4, threads);
    finish();
}

DST(pool, closes_meet_one_release) {
    void (*const threads[])(int) = {closes, closes, gives_back};
    begin_plain(2);
    hold();
    dst_go(3, threads);
    finish();
}

DST(pool, close_meets_start) {
    void (*const threads[])(int) = {starts, closes_at_once, tries_unless_closed};
    rm_pool_desc desc = with_max(2);
    desc.min_idle = 1;
    begin(&desc);
    DST_CHECK(rm_pool_close(pool, RM_NOWAIT, NULL) == RM_OK);
    dst_go(3, threads);
    finish(); /* which finds it wholly open or wholly closed */
}

static void waits_for_its_close(int index) {
    (void)index;
    DST_CHECK(rm_pool_close(pool, RM_FOREVER, NULL) == RM_OK);
}

static void starts_if_all_is_back(int index) {
    const rm_status status = start();
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_BUSY || status == RM_E_CLOSED);
}

/* What the start makes is none of what the close waits for. */
DST(pool, close_that_waits_meets_start) {
    void (*const threads[])(int) = {waits_for_its_close, gives_back, starts_if_all_is_back};
    rm_pool_desc desc = with_max(1);
    desc.min_idle = 1;
    begin(&desc);
    hold();
    dst_go(3, threads);
    finish();
}

static void starts_and_breaks(int index) {
    DST_CHECK(start() == RM_OK);
    (void)index;
    DST_CHECK(use_once(RM_FOREVER, RM_RELEASE_BROKEN) == RM_OK);
}

DST(pool, start_strands_nobody) {
    void (*const threads[])(int) = {uses_unless_closed, tries_unless_closed, starts_and_breaks};
    begin_plain(1);
    DST_CHECK(rm_pool_close(pool, RM_NOWAIT, NULL) == RM_OK);
    dst_go(3, threads);
    DST_CHECK(use_once(RM_NOWAIT, RM_RELEASE_OK) == RM_OK);
    finish();
}

/* What an acquire does that found the pool open, and comes when it has been closed. */
static void takes_late(int index) {
    rmi_pool_wish wish = rmi_pool_wish_of(INT64_MAX);
    uint64_t slot = 0;
    (void)index;
    if (rmi_pool_take(pool, &wish, &slot)) rmi_pool_unclaim(pool, &pool->slots[slot]);
}

static void starts_and_uses(int index) {
    const rm_status status = start();
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_BUSY);
    if (status == RM_OK) DST_CHECK(use_once(RM_FOREVER, RM_RELEASE_OK) == RM_OK);
}

/* Somebody may queue because of a slot that is claimed for a moment only. */
DST(pool, start_beside_a_late_take_strands_nobody) {
    void (*const threads[])(int) = {takes_late, starts_and_uses};
    begin_plain(1);
    DST_CHECK(rm_pool_close(pool, RM_NOWAIT, NULL) == RM_OK);
    dst_go(2, threads);
    finish();
}

/* ---- maintain */

static void maintains_in_8_ms(int index) {
    dst_pass(RM_MS(8));
    maintains(index);
}

static void begin_with_two_idle(uint32_t min) {
    rm_pool_desc desc = with_max(2);
    rm_lease other;
    desc.min_idle = min;
    desc.idle_timeout_ns = RM_MS(1);
    begin(&desc);
    hold();
    DST_CHECK(rm_pool_acquire(pool, RM_NOWAIT, &other, NULL) == RM_OK);
    DST_CHECK(rm_pool_release(pool, &other, RM_RELEASE_OK) == RM_OK);
    gives_back(0);
}

DST(pool, expiry_meets_acquire) {
    void (*const threads[])(int) = {uses, uses, maintains_in_8_ms};
    begin_with_two_idle(0);
    dst_go(3, threads);
    finish();
}

DST(pool, expiries_leave_the_minimum) {
    void (*const threads[])(int) = {uses, maintains_in_8_ms, maintains_in_8_ms};
    begin_with_two_idle(1);
    least = 1;
    dst_go(3, threads);
    least = 0;
    finish();
}

DST(pool, refill_meets_acquire_and_a_broken_release) {
    void (*const threads[])(int) = {uses, gives_back_broken, maintains, maintains};
    begin_with_two_idle(2);
    hold();
    dst_go(4, threads);
    DST_CHECK(rm_pool_maintain(pool, 0, never, NULL) == RM_OK);
    DST_CHECK(alive == 2);
    finish();
}

/* ---- sizes that change beside a destroy_fn that takes its time */

static void shrinks_to_one(int index) {
    const rm_pool_sizes one = {1, 0, 0, 1};
    (void)index;
    DST_CHECK(rm_pool_resize(pool, &one, NULL) == RM_OK);
}

/* One of those that are idle stays: it is lent while the others are being ended. */
DST(pool, resize_beside_an_acquire_and_slow_destroys) {
    void (*const threads[])(int) = {shrinks_to_one, uses};
    begin_with_two_idle(0);
    end_takes_ns = RM_SEC(10);
    dst_go(2, threads);
    finish();
}

static rm_lease second;

static void gives_second_back(int index) {
    (void)index;
    DST_CHECK(rm_pool_release(pool, &second, RM_RELEASE_OK) == RM_OK);
}

/* One too many breaks, slowly: the other one may be lent meanwhile. */
DST(pool, shrunk_beside_a_slow_destroy) {
    void (*const threads[])(int) = {gives_back_broken, gives_second_back, uses};
    begin_plain(2);
    hold();
    DST_CHECK(rm_pool_acquire(pool, RM_NOWAIT, &second, NULL) == RM_OK);
    shrinks_to_one(0);
    end_takes_ns = RM_SEC(10);
    dst_go(3, threads);
    finish();
}

static void uses_what_came(rm_status status, const rm_lease *lease, const rm_error *error,
                           void *user) {
    rm_lease copy;
    (void)error, (void)user;
    DST_CHECK(status == RM_OK);
    copy = *lease;
    use(&copy);
    DST_CHECK(rm_pool_release(pool, &copy, RM_RELEASE_OK) == RM_OK);
}

/* Now and then so many wait that the points of a schedule would not do if each release looked at
   all of them. */
DST(pool, releases_above_max_walk_past_nobody) {
    void (*const threads[])(int) = {gives_back, gives_second_back};
    const uint32_t count = dst_choose(100) == 0 ? 250 : 3;
    rm_pool_request *waiting = (rm_pool_request *)malloc(count * sizeof *waiting);
    rm_pool_desc desc = with_max(1);
    uint32_t i;
    DST_CHECK(waiting != NULL);
    desc.overflow = 1;
    begin(&desc);
    hold();
    DST_CHECK(rm_pool_acquire(pool, RM_NOWAIT, &second, NULL) == RM_OK);
    for (i = 0; i < count; ++i)
        DST_CHECK(rm_pool_acquire_async(pool, &waiting[i], never, NULL, uses_what_came, NULL,
                                        NULL) == RM_OK);
    dst_go(2, threads);
    finish();
    free(waiting);
}

/* ---- statistics and the guard */

static void reads_statistics(int index) {
    rm_pool_stats before, s;
    (void)index;
    DST_CHECK(rm_pool_stats_get(pool, &before) == RM_OK);
    DST_CHECK(rm_pool_stats_get(pool, &s) == RM_OK);
    DST_CHECK(s.in_use + s.idle + s.creating + s.checking + s.closing + s.empty == s.capacity);
    DST_CHECK(s.acquired >= before.acquired && s.waits >= before.waits);
    DST_CHECK(s.timeouts + s.waiting <= s.waits);
}

DST(pool, statistics_under_load_add_up) {
    void (*const threads[])(int) = {uses, waits_for_50_us, reads_statistics};
    begin_plain(1);
    dst_go(3, threads);
    finish();
}

static void breaks_or_is_rejected(int index) {
    const rm_status status = use_once(RM_US(50), RM_RELEASE_BROKEN);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_TIMEOUT || status == RM_E_REFUSED ||
              status == RM_E_REJECTED || status == RM_E_CLOSED);
}

DST(pool, guard_gets_every_permit_back_once) {
    void (*const threads[])(int) = {breaks_or_is_rejected, breaks_or_is_rejected,
                                    gives_back_in_50_us, closes};
    rm_pool_desc desc = with_max(1);
    desc.guard = &guard;
    begin(&desc);
    hold();
    creates_fail = dst_choose(2);
    guard_refuses = dst_choose(2);
    dst_go(4, threads);
    finish();
}

/* ---- endpoints that fail, and guards that refuse. Who waits may sleep beside an empty slot. */

static const char *queues_wrong(void *user) {
    const char *wrong = queue_wrong(&pool->queue);
    (void)user;
    return wrong != NULL ? wrong : queue_wrong(&pool->drain);
}

static rm_pool_desc with_endpoints(uint32_t count, bool guarded) {
    static rm_pool_endpoint endpoints[] = {{"one", NULL, NULL}, {"two", NULL, NULL}};
    rm_pool_desc desc = with_max(2);
    uint32_t i;
    for (i = 0; i < 2; ++i)
        endpoints[i].guard = guarded ? &guard : NULL;
    desc.create_backoff_ns = 0; /* the default */
    desc.endpoints = endpoints;
    desc.endpoint_count = count;
    return desc;
}

static void begin_endpoints(const rm_pool_desc *desc) {
    DST_CHECK(rm_pool_create(desc, &pool, NULL) == RM_OK);
    dst_when_idle(queues_wrong, NULL);
}

/* Nobody who waits hears of a create that fails while there is another endpoint. */
DST(pool, failed_create_goes_on_to_another_endpoint) {
    void (*const threads[])(int) = {uses, uses, gives_back_broken};
    const rm_pool_desc desc = with_endpoints(2, false);
    begin_endpoints(&desc);
    hold();
    creates_fail = 1;
    dst_go(3, threads);
    finish();
}

/* Refused is only who comes, or waits, while the guard is not asked again. */
static void uses_unless_refused(int index) {
    const int64_t began = dst_now();
    const rm_status status = use_once(RM_FOREVER, RM_RELEASE_OK);
    const int64_t shut = __atomic_load_n((int64_t *)&pool->endpoints[0].shut_ns, __ATOMIC_SEQ_CST);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_REJECTED);
    if (status == RM_E_REJECTED)
        DST_CHECK(LOAD(&guard_refuses) == 0 && (shut == 0 || shut > began));
}

static void uses_in_20_ms_unless_refused(int index) {
    dst_pass(RM_MS(20));
    uses_unless_refused(index);
}

DST(pool, refusal_of_the_only_endpoint_meets_release) {
    void (*const threads[])(int) = {uses_unless_refused, uses_in_20_ms_unless_refused, gives_back};
    rm_pool_desc desc = with_endpoints(1, true);
    desc.max = 1;
    begin_endpoints(&desc);
    hold();
    guard_refuses = 1;
    dst_go(3, threads);
    guard_refuses = 0;
    dst_pass(RM_MINUTES(1)); /* the most, for a guard that took long */
    DST_CHECK(use_once(RM_NOWAIT, RM_RELEASE_OK) == RM_OK);
    finish();
}

/* The backoff is over: the second waits for what the first finds out. */
DST(pool, two_after_a_backoff) {
    void (*const threads[])(int) = {uses, uses};
    const rm_pool_desc desc = with_endpoints(1, false);
    begin_endpoints(&desc);
    creates_fail = 1;
    DST_CHECK(use_once(RM_NOWAIT, RM_RELEASE_OK) == RM_E_REFUSED);
    dst_pass(RM_SEC(1));
    dst_go(2, threads);
    finish();
}

static void uses_for_ever_whatever_fails(int index) {
    int i;
    (void)index;
    for (i = 0; i < 2; ++i) {
        const rm_status status =
            use_once(RM_FOREVER, dst_choose(4) == 0 ? RM_RELEASE_BROKEN : RM_RELEASE_OK);
        DST_CHECK(status == RM_OK || status == RM_E_REFUSED || status == RM_E_REJECTED);
    }
}

DST(pool, failures_strand_nobody) {
    void (*const threads[])(int) = {uses_for_ever_whatever_fails, uses_for_ever_whatever_fails,
                                    uses_for_ever_whatever_fails};
    rm_pool_desc desc = with_endpoints(1 + dst_choose(2), dst_choose(2) == 0);
    uint32_t i;
    desc.max_creating = dst_choose(2);
    desc.grow_after_ns = dst_choose(3) == 0 ? RM_US(30) : 0;
    desc.validate_fn = validate;
    desc.validate_after_ns = RM_STRICT;
    begin_endpoints(&desc);
    creates_fail = dst_choose(3);
    checks_fail = dst_choose(3);
    guard_refuses = dst_choose(3);
    dst_go(3, threads);
    for (i = 0; i < pool->endpoint_count; ++i)
        DST_CHECK(pool->endpoints[i].retry_ns != RMI_POOL_PROBED);
    finish();
}

/* ---- histories of tries: RM_E_BUSY only when all are out */

enum { ACQUIRE, RELEASE };

static bool breaks_some;

static void tries_for_the_record(int index) {
    rm_lease lease;
    int i, op;
    for (i = 0; i <= (index == 0); ++i) {
        const bool broken = breaks_some && dst_choose(3) == 0;
        rm_status status;
        op = dst_called(ACQUIRE, pool->desc.max);
        status = rm_pool_acquire(pool, RM_NOWAIT, &lease, NULL);
        dst_returned(op, status);
        if (status != RM_OK) continue;
        op = dst_called(RELEASE, pool->desc.max);
        status = rm_pool_release(pool, &lease, broken ? RM_RELEASE_BROKEN : RM_RELEASE_OK);
        dst_returned(op, status);
    }
}

/* A pool as a number: how many are out. */
static bool count_out(void *state, const dst_op *op) {
    int64_t *out = (int64_t *)state;
    if (op->kind == RELEASE) return op->result == RM_OK && (*out)-- > 0;
    if (op->result == RM_E_BUSY) return *out == op->arg;
    return op->result == RM_OK && (*out)++ < op->arg;
}

/* As above, but a try beside which another call begins or ends may be wrong in saying RM_E_BUSY. It
   looks at one slot after the other: beside one who breaks what it has and one who then takes what
   is idle, it may find both out, though one was free all the time. */
static bool count_out_unless_beside(void *state, const dst_op *op) {
    if (op->result == RM_E_BUSY && op->returned > op->called + 1) return true;
    return count_out(state, op);
}

static void record(uint32_t max, bool breaking, bool (*model)(void *, const dst_op *)) {
    void (*const threads[])(int) = {tries_for_the_record, tries_for_the_record,
                                    tries_for_the_record};
    begin_plain(max);
    breaks_some = breaking;
    dst_go(3, threads);
    dst_linearizable(sizeof(int64_t), model);
    finish();
}

DST(pool, tries_for_one_resource_have_an_order) {
    record(1, true, count_out);
}

DST(pool, tries_for_two_resources_have_an_order) {
    record(2, false, count_out);
}

DST(pool, tries_beside_broken_releases_have_one_but_for_busy) {
    record(2, true, count_out_unless_beside);
}

/* ---- torture */

/* Did it go well, or was there a failure since? */
static bool fine(rm_status status, uint64_t before) {
    return status == RM_OK || dst_faults() > before;
}

static bool begin_or_not(const rm_pool_desc *desc) {
    const rm_status status = rm_pool_create(desc, &pool, NULL);
    DST_CHECK(fine(status, 0));
    return status == RM_OK;
}

static bool hold_or_not(int64_t timeout_ns) {
    const rm_status status = rm_pool_acquire(pool, timeout_ns, &held, NULL);
    DST_CHECK(fine(status, 0));
    return status == RM_OK;
}

/* A life of a pool in which each status may be a failure that was injected, and nothing else. */
DST_TORTURE(pool, survives_every_failure_of_its_life) {
    rm_pool_desc desc = with_max(2);
    rm_deadline soon;
    rm_lease lease;
    rm_status status;
    int i;
    desc.min_idle = 1;
    if (!begin_or_not(&desc)) {
        DST_CHECK(pool == NULL);
        return;
    }
    soon = rm_deadline_after(NULL, RM_SEC(1));
    status = rm_pool_maintain(pool, 0, soon, NULL);
    DST_CHECK(fine(status, 0));
    for (i = 0; i < 3; ++i) {
        const uint64_t before = dst_faults();
        status = rm_pool_acquire(pool, RM_SEC(1), &lease, NULL);
        DST_CHECK(fine(status, before));
        if (status != RM_OK) continue;
        use(&lease);
        DST_CHECK(rm_pool_release(pool, &lease, i == 1 ? RM_RELEASE_BROKEN : RM_RELEASE_OK) ==
                  RM_OK);
    }
    finish();
}

static void uses_within_a_second(void *user) {
    const rm_status status = use_once(RM_SEC(1), RM_RELEASE_OK);
    (void)user;
    DST_CHECK(fine(status, 0));
}

static void waits_for_the_token(void *user) {
    rm_lease lease;
    const rm_status status = rm_pool_acquire_until(pool, never, &token, &lease, NULL);
    (void)user;
    DST_CHECK(status == RM_E_CANCELLED || dst_faults() > 0);
    if (status == RM_OK) DST_CHECK(rm_pool_release(pool, &lease, RM_RELEASE_BROKEN) == RM_OK);
}

/* Two threads wait, one for its turn and one for its token; threads, waits and hooks may fail. */
static void live_through_waits(void) {
    rm_thread threads[2];
    if (!hold_or_not(RM_SEC(1))) return;
    DST_CHECK(fine(rm_thread_start(&threads[0], uses_within_a_second, NULL), 0));
    DST_CHECK(fine(rm_thread_start(&threads[1], waits_for_the_token, NULL), 0));
    (void)rm_sleep(NULL, RM_MS(1), NULL); /* lets them wait */
    cancels(0);
    gives_back(0);
    rm_thread_join(&threads[0]);
    rm_thread_join(&threads[1]);
}

/* With every hook, and started and stopped twice by a manager. */
static void live_under_a_manager(rm_manager *manager) {
    const rm_resource resource = rm_pool_resource(pool);
    rm_deadline soon;
    int i;
    DST_CHECK(rm_manager_add(manager, &resource, NULL) == RM_OK);
    for (i = 0; i < 2; ++i) {
        const uint64_t before = dst_faults();
        rm_status status = rm_manager_start(manager, RM_SEC(1), NULL);
        DST_CHECK(fine(status, before));
        if (status == RM_OK) live_through_waits();
        soon = rm_deadline_after(NULL, RM_SEC(1));
        status = rm_pool_maintain(pool, 0, soon, NULL);
        DST_CHECK(fine(status, before));
        status = rm_manager_stop(manager, RM_SEC(1), NULL);
        DST_CHECK(fine(status, before));
        if (status != RM_OK) DST_CHECK(rm_manager_stop(manager, RM_SEC(1), NULL) == RM_OK);
    }
}

DST_TORTURE(pool, survives_every_failure_under_a_manager) {
    rm_pool_desc desc = with_max(1);
    rm_manager *manager = NULL;
    rm_status status = rm_cancel_init(&token);
    DST_CHECK(fine(status, 0));
    if (status != RM_OK) return;
    desc.min_idle = 1;
    desc.guard = &guard;
    desc.validate_fn = validate;
    desc.validate_after_ns = RM_STRICT;
    desc.reset_fn = reset;
    status = rm_manager_create(NULL, &manager, NULL);
    DST_CHECK(fine(status, 0));
    if (status == RM_OK) {
        status = rm_pool_create(&desc, &pool, NULL);
        DST_CHECK(fine(status, 0));
    }
    if (status == RM_OK) {
        dst_when_idle(overslept, NULL);
        live_under_a_manager(manager);
        finish();
    }
    DST_CHECK(rm_manager_destroy(manager) == RM_OK);
    DST_CHECK(rm_cancel_destroy(&token) == RM_OK);
}

static void gives_back_in_a_ms(void *user) {
    (void)user;
    DST_CHECK(rm_sleep(NULL, RM_MS(1), NULL) == RM_OK);
    gives_back(0);
}

static void uses_unless_closed_or_failing(void *user) {
    const rm_status status = use_once(RM_FOREVER, RM_RELEASE_OK);
    (void)user;
    DST_CHECK(status == RM_E_CLOSED || dst_faults() > 0);
}

/* Closed while one resource is out and somebody waits for it. */
DST_TORTURE(pool, survives_every_failure_of_its_close) {
    const rm_pool_desc desc = with_max(1);
    rm_thread holder, waiter;
    rm_status status;
    if (!begin_or_not(&desc)) return;
    dst_when_idle(overslept, NULL);
    if (hold_or_not(RM_NOWAIT)) {
        DST_CHECK(fine(rm_thread_start(&waiter, uses_unless_closed_or_failing, NULL), 0));
        status = rm_thread_start(&holder, gives_back_in_a_ms, NULL);
        DST_CHECK(fine(status, 0));
        if (status != RM_OK) gives_back(0);
        (void)rm_sleep(NULL, RM_US(10), NULL); /* lets the other wait */
        status = rm_pool_close(pool, RM_SEC(1), NULL);
        DST_CHECK(fine(status, 0));
        rm_thread_join(&holder);
        rm_thread_join(&waiter);
        DST_CHECK(rm_pool_close(pool, RM_NOWAIT, NULL) == RM_OK && alive == 0);
    }
    finish();
}

/* Nobody has forked here, and nothing was made. Without its locks not even the destroy works. */
DST_TORTURE(pool, survives_every_failure_after_a_fork) {
    const rm_pool_desc desc = with_max(1);
    rm_status status;
    int i;
    if (!begin_or_not(&desc)) return;
    for (i = 0; i < 3; ++i) {
        dst_forked();
        status = rm_pool_after_fork_child(pool);
        DST_CHECK(fine(status, 0));
        if (status == RM_OK) break;
    }
    if (status == RM_OK) {
        const uint64_t before = dst_faults();
        status = use_once(RM_NOWAIT, RM_RELEASE_OK);
        DST_CHECK(fine(status, before));
        finish();
    } else {
        rm_free(pool->env.allocator, pool->memory, pool->size);
    }
}

/* What was idle is checked, and too much of it ended; a refusal asks for the time too. */
DST_TORTURE(pool, survives_every_failure_of_its_upkeep) {
    rm_pool_desc desc = with_max(1);
    rm_error error;
    rm_deadline soon;
    rm_status status;
    desc.validate_fn = validate;
    desc.validate_after_ns = desc.idle_timeout_ns = RM_MS(1);
    if (!begin_or_not(&desc)) return;
    status = use_once(RM_SEC(1), RM_RELEASE_OK);
    DST_CHECK(fine(status, 0));
    dst_pass(RM_SEC(1));
    if (hold_or_not(RM_SEC(1))) {
        rm_lease lease;
        status = rm_pool_acquire(pool, RM_NOWAIT, &lease, &error);
        DST_CHECK(status == RM_E_BUSY && error.status == RM_E_BUSY);
        gives_back(0);
    }
    dst_pass(RM_SEC(1));
    soon = rm_deadline_after(NULL, RM_SEC(1));
    DST_CHECK(rm_pool_maintain(pool, 0, soon, NULL) == RM_OK);
    DST_CHECK(alive == 0 || dst_faults() > 0);
    finish();
}

/* ---- torture of what is not in every pool */

static void see_event(const rm_pool_event *event, void *user) {
    (void)user;
    DST_CHECK(event->pool != NULL && event->where != NULL); /* and ns is what the clock says */
}

static rm_release classify(void *resource, const rm_error *result, void *user) {
    const struct resource *r = (const struct resource *)resource;
    (void)user;
    DST_CHECK(r->alive == 1 && result->status != RM_OK);
    return RM_RELEASE_BROKEN;
}

static bool see_lease(const rm_pool_lease_info *lease, void *user) {
    (void)user;
    DST_CHECK(lease->where != NULL);
    return !dst_fault("leases_fn");
}

static rm_pool_desc with_all(uint32_t max) {
    rm_pool_desc desc = with_max(max);
    desc.validate_fn = validate;
    desc.validate_after_ns = RM_STRICT;
    desc.validate_on_release = true;
    desc.reset_fn = reset;
    desc.classify_fn = classify;
    desc.event_fn = see_event;
    desc.time_uses = true;
    desc.max_lifetime_ns = RM_SEC(100);
    desc.leak_after_ns = RM_SEC(1);
    desc.keepalive_ns = RM_MS(1);
    return desc;
}

static void upkeep(void) {
    const uint64_t before = dst_faults();
    const rm_deadline soon = rm_deadline_after(NULL, RM_SEC(1));
    const rm_status status = rm_pool_maintain(pool, 0, soon, NULL);
    DST_CHECK(fine(status, before) || status == RM_E_BUSY || LOAD(&creates_fail) == 0);
}

static rm_status use_lease(void *resource, rm_error *error, void *user) {
    (void)resource, (void)user;
    return dst_fault("use_fn") ? rm_error_set(error, RM_E_TIMEOUT, 0, "db", "no answer") : RM_OK;
}

/* Leaks, looks, checks on release and in the upkeep, scoped use, eviction. */
DST_TORTURE(pool, survives_every_failure_with_every_hook) {
    const rm_pool_desc desc = with_all(2);
    rm_status status;
    if (!begin_or_not(&desc)) return;
    if (hold_or_not(RM_NOWAIT)) {
        DST_CHECK(rm_pool_note(pool, &held, "here") == RM_OK);
        dst_pass(RM_SEC(2));
        upkeep();
        DST_CHECK(rm_pool_leases(pool, see_lease, NULL) == 1);
        gives_back(0);
    }
    status = rm_pool_with(pool, never, use_lease, NULL, NULL);
    DST_CHECK(fine(status, 0));
    dst_pass(RM_MS(2));
    upkeep();
    DST_CHECK(rm_pool_evict_all(pool) == RM_OK && alive == 0);
    finish();
}

static bool fails_or_healthy(rm_resource resource) {
    rm_error reason;
    return resource.health_fn(resource.user, &reason) == RM_HEALTH_DEGRADED || dst_faults() > 0;
}

/* Nothing can be made at first; then one at a time finds out, and those who wait get theirs. */
DST_TORTURE(pool, survives_every_failure_while_it_backs_off) {
    rm_pool_desc desc = with_all(2);
    uint64_t before;
    rm_status status;
    int i;
    desc.create_backoff_ns = RM_MS(1);
    if (!begin_or_not(&desc)) return;
    creates_fail = 2;
    for (i = 0; i < 2; ++i)
        DST_CHECK(use_once(RM_NOWAIT, RM_RELEASE_OK) != RM_OK || dst_faults() > 0);
    DST_CHECK(fails_or_healthy(rm_pool_resource(pool)));
    upkeep();
    dst_pass(RM_SEC(10));
    creates_fail = 0;
    before = dst_faults();
    status = use_once(RM_SEC(1), RM_RELEASE_OK);
    DST_CHECK(fine(status, before));
    finish();
}

static void breaks_after_a_ms(void *user) {
    (void)user;
    (void)rm_sleep(NULL, RM_MS(1), NULL);
    gives_back_broken(0);
}

static rm_pool_request requests[3];
static uint32_t answered;

static void waits_scoped(void *user) {
    const rm_deadline soon = rm_deadline_after(NULL, RM_SEC(1));
    const rm_status status = rm_pool_with(pool, soon, use_lease, NULL, NULL);
    (void)user;
    DST_CHECK(fine(status, 0));
}

/* One waits, and nothing else happens. */
DST_TORTURE(pool, survives_every_failure_of_a_wait) {
    const rm_pool_desc desc = with_max(1);
    rm_thread waiter;
    if (!begin_or_not(&desc)) return;
    if (hold_or_not(RM_NOWAIT)) {
        DST_CHECK(fine(rm_thread_start(&waiter, waits_scoped, NULL), 0));
        (void)rm_sleep(NULL, RM_MS(1), NULL);
        gives_back(0);
        rm_thread_join(&waiter);
    }
    finish();
}

/* One has just begun to wait when what is above max comes back; what is left grows too old. */
DST_TORTURE(pool, survives_every_failure_of_overflow_and_age) {
    rm_pool_desc desc = with_max(1);
    rm_thread waiter;
    rm_lease over;
    rm_status status;
    desc.overflow = 1;
    desc.max_lifetime_ns = RM_SEC(1);
    if (!begin_or_not(&desc)) return;
    if (hold_or_not(RM_NOWAIT)) {
        status = rm_pool_acquire(pool, RM_NOWAIT, &over, NULL);
        DST_CHECK(fine(status, 0));
        DST_CHECK(fine(rm_thread_start(&waiter, waits_scoped, NULL), 0));
        (void)rm_sleep(NULL, RM_US(10), NULL);
        if (status == RM_OK) DST_CHECK(rm_pool_release(pool, &over, RM_RELEASE_OK) == RM_OK);
        gives_back(0);
        rm_thread_join(&waiter);
    }
    if (rm_pool_acquire(pool, RM_NOWAIT, &held, NULL) == RM_OK) {
        creates_fail = 1; /* so that it is a question whether another may be made in its place */
        DST_CHECK(use_once(RM_NOWAIT, RM_RELEASE_OK) != RM_OK || dst_faults() > 0);
        creates_fail = 0;
        gives_back(0);
    }
    dst_pass(RM_SEC(2));
    DST_CHECK(fine(use_once(RM_SEC(1), RM_RELEASE_OK), 0));
    finish();
}

static void expect_no_more(rm_status status, const rm_lease *lease, const rm_error *error,
                           void *user) {
    (void)error, (void)user;
    ++answered;
    if (status == RM_OK) {
        rm_lease copy = *lease;
        DST_CHECK(dst_faults() > 0 && rm_pool_release(pool, &copy, RM_RELEASE_OK) == RM_OK);
    }
}

/* Somebody has queued while nothing was lent, and now there is nothing to be had. */
static void ask_a_suspended_pool(void) {
    rm_status status;
    answered = 0;
    DST_CHECK(rm_pool_suspend(pool) == RM_OK);
    status = rm_pool_acquire_async(pool, &requests[0], never, NULL, expect_no_more, NULL, NULL);
    DST_CHECK(fine(status, 0));
    DST_CHECK(rm_pool_resume(pool) == RM_OK);
    if (status == RM_OK && answered == 0) DST_CHECK(dst_faults() > 0);
    if (status == RM_OK && answered == 0)
        DST_CHECK(rm_pool_request_cancel(&requests[0]) == RM_OK && answered == 1);
}

/* The first to fail is the upkeep. */
DST_TORTURE(pool, survives_every_failure_when_its_upkeep_backs_off) {
    rm_pool_desc desc = with_max(1);
    desc.create_backoff_ns = RM_SEC(1);
    desc.min_idle = 1;
    if (!begin_or_not(&desc)) return;
    creates_fail = 1;
    upkeep();
    creates_fail = 0;
    ask_a_suspended_pool();
    finish();
}

static rm_status make_slowly(void **resource, rm_deadline deadline, rm_error *error, void *user) {
    (void)rm_sleep(NULL, RM_MS(1), NULL);
    return make(resource, deadline, error, user);
}

/* All threads that fill it fail side by side; the next ones are not let through. */
DST_TORTURE(pool, survives_every_failure_when_filling_backs_off) {
    rm_pool_desc desc = with_max(2);
    desc.create_fn = make_slowly;
    desc.create_backoff_ns = RM_SEC(100);
    if (!begin_or_not(&desc)) return;
    creates_fail = 2;
    DST_CHECK(rm_pool_prewarm(pool, 2, never, NULL, NULL) != RM_OK || dst_faults() > 0);
    DST_CHECK(rm_pool_prewarm(pool, 2, never, NULL, NULL) != RM_OK || dst_faults() > 0);
    creates_fail = 0;
    finish();
}

/* The first of the threads that fill it fails before the next begins. */
DST_TORTURE(pool, survives_every_failure_when_filling_fails_at_once) {
    uint32_t count;
    for (count = 3; count <= 6; ++count) { /* so that one of its threads comes after the failure */
        rm_pool_desc desc = with_max(count);
        desc.create_backoff_ns = RM_SEC(100);
        if (!begin_or_not(&desc)) return;
        creates_fail = 1;
        DST_CHECK(rm_pool_prewarm(pool, count, never, NULL, NULL) != RM_OK || dst_faults() > 0);
        creates_fail = 0;
        finish();
        made = 0; /* by the next */
    }
}

/* Creates have failed, and their backoff is over: one finds out before the others begin. */
DST_TORTURE(pool, survives_every_failure_of_filling_it_again) {
    rm_pool_desc desc = with_max(2);
    rm_resource resource;
    int i;
    desc.min_idle = 2;
    if (!begin_or_not(&desc)) return;
    resource = rm_pool_resource(pool);
    for (i = 0; i < 2; ++i) {
        const rm_deadline soon = rm_deadline_after(NULL, RM_SEC(100));
        creates_fail = 1;
        DST_CHECK(use_once(RM_NOWAIT, RM_RELEASE_OK) != RM_OK || dst_faults() > 0);
        creates_fail = 0;
        dst_pass(RM_SEC(10));
        DST_CHECK(fine(i == 0 ? rm_pool_prewarm(pool, 2, soon, NULL, NULL)
                              : resource.start_fn(resource.user, soon, NULL),
                       0));
        DST_CHECK(rm_pool_evict_all(pool) == RM_OK);
    }
    finish();
}

static void creates(void *user) {
    (void)user;
    DST_CHECK(use_once(RM_SEC(1), RM_RELEASE_OK) != RM_OK || dst_faults() > 0);
}

/* A close waits for a create that is for nobody any more. */
DST_TORTURE(pool, survives_every_failure_of_a_close_beside_a_create) {
    rm_pool_desc desc = with_max(1);
    rm_thread creator;
    desc.create_fn = make_slowly;
    if (!begin_or_not(&desc)) return;
    DST_CHECK(fine(rm_thread_start(&creator, creates, NULL), 0));
    (void)rm_sleep(NULL, RM_US(10), NULL);
    DST_CHECK(fine(rm_pool_close(pool, RM_SEC(1), NULL), 0));
    rm_thread_join(&creator);
    finish();
}

/* One waits until the pool may grow, or what is there comes back broken and cannot be replaced. */
DST_TORTURE(pool, survives_every_failure_while_it_grows) {
    rm_pool_desc desc = with_max(2);
    rm_thread holder;
    rm_status status;
    desc.grow_after_ns = RM_US(500);
    desc.create_backoff_ns = RM_MS(1);
    if (!begin_or_not(&desc)) return;
    if (hold_or_not(RM_SEC(1))) {
        status = rm_thread_start(&holder, breaks_after_a_ms, NULL);
        DST_CHECK(fine(status, 0));
        if (status != RM_OK) gives_back_broken(0);
        status = use_once(RM_SEC(1), RM_RELEASE_OK);
        DST_CHECK(fine(status, 0));
        rm_thread_join(&holder);
    }
    finish();
}

static void acquired(rm_status status, const rm_lease *lease, const rm_error *error, void *user) {
    rm_lease copy;
    (void)user;
    ++answered;
    DST_CHECK(status != RM_OK || error == NULL);
    if (status != RM_OK) return;
    copy = *lease;
    use(&copy);
    DST_CHECK(rm_pool_release(pool, &copy, RM_RELEASE_BROKEN) == RM_OK);
}

static void ask_for_three(void) {
    const rm_deadline soon = rm_deadline_after(NULL, RM_MS(1));
    uint32_t i;
    for (i = 0; i < 3; ++i) {
        const uint64_t before = dst_faults();
        const rm_status status =
            rm_pool_acquire_async(pool, &requests[i], soon, NULL, acquired, NULL, NULL);
        DST_CHECK(fine(status, before));
        answered += status != RM_OK;
    }
}

static void serve_asynchronously(rm_pool_desc *desc) {
    const rm_deadline past = {INT64_MIN};
    rm_status status;
    desc->guard = &guard;
    if (!begin_or_not(desc)) return;
    status = rm_pool_acquire(pool, RM_NOWAIT, &held, NULL);
    DST_CHECK(fine(status, 0));
    ask_for_three();
    if (status == RM_OK) gives_back(0);
    dst_pass(RM_SEC(1));
    status = rm_pool_maintain(pool, 0, past, NULL);
    DST_CHECK(fine(status, 0));
    (void)rm_pool_close(pool, RM_NOWAIT, NULL);
    DST_CHECK(answered == 3);
    finish();
}

DST_TORTURE(pool, survives_every_failure_with_callbacks) {
    rm_pool_desc desc = with_all(1);
    serve_asynchronously(&desc);
}

DST_TORTURE(pool, survives_every_failure_with_callbacks_and_growth) {
    rm_pool_desc desc = with_max(2);
    desc.grow_after_ns = RM_US(500);
    serve_asynchronously(&desc);
}

static void acquired_to_keep(rm_status status, const rm_lease *lease, const rm_error *error,
                             void *user) {
    rm_lease copy;
    (void)error, (void)user;
    ++answered;
    DST_CHECK(fine(status, 0));
    if (status != RM_OK) return;
    copy = *lease;
    DST_CHECK(rm_pool_release(pool, &copy, RM_RELEASE_OK) == RM_OK);
}

static void cancel_one(void) {
    rm_status status;
    answered = 0;
    DST_CHECK(rm_pool_suspend(pool) == RM_OK);
    status = rm_pool_acquire_async(pool, &requests[1], never, NULL, expect_no_more, NULL, NULL);
    DST_CHECK(fine(status, 0));
    if (status == RM_OK) DST_CHECK(rm_pool_request_cancel(&requests[1]) == RM_OK);
    DST_CHECK(answered == (status == RM_OK) && rm_pool_resume(pool) == RM_OK);
}

/* What is made for a callback is given back in it; another gives up. */
DST_TORTURE(pool, survives_every_failure_of_what_a_callback_does) {
    static const rm_pool_endpoint endpoint = {"one", &guard, NULL};
    rm_pool_desc desc = with_all(1);
    rm_status status;
    desc.endpoints = &endpoint;
    desc.endpoint_count = 1;
    if (!begin_or_not(&desc)) return;
    status = rm_pool_acquire_async(pool, &requests[0], never, NULL, acquired_to_keep, NULL, NULL);
    DST_CHECK(fine(status, 0));
    dst_pass(RM_SEC(1)); /* a guard that has refused is asked again */
    upkeep();
    if (status == RM_OK && answered == 0)
        DST_CHECK(rm_pool_request_cancel(&requests[0]) == RM_OK && answered == 1);
    cancel_one();
    finish();
}

/* The first to fail is a create for a callback; then nothing can be made in advance either. */
DST_TORTURE(pool, survives_every_failure_when_a_callback_backs_off) {
    rm_pool_desc desc = with_max(1);
    rm_status status;
    desc.create_backoff_ns = RM_SEC(1);
    if (!begin_or_not(&desc)) return;
    creates_fail = 1;
    status = rm_pool_acquire_async(pool, &requests[0], never, NULL, expect_no_more, NULL, NULL);
    DST_CHECK(fine(status, 0));
    creates_fail = 0;
    DST_CHECK(rm_pool_prewarm(pool, 1, never, NULL, NULL) != RM_OK || dst_faults() > 0);
    finish();
}

static void cancel_when_told(rm_status status, const rm_lease *lease, const rm_error *error,
                             void *user) {
    expect_no_more(status, lease, error, user);
    rm_cancel_request(&token);
}

/* One that queues tells another that its time is over, who takes the reason to wait away. */
DST_TORTURE(pool, survives_every_failure_of_a_cancel_while_it_queues) {
    const rm_pool_desc desc = with_max(1);
    rm_status status = rm_cancel_init(&token);
    DST_CHECK(fine(status, 0));
    if (status != RM_OK) return;
    if (!begin_or_not(&desc)) {
        DST_CHECK(rm_cancel_destroy(&token) == RM_OK);
        return;
    }
    if (hold_or_not(RM_NOWAIT)) {
        const rm_deadline soon = rm_deadline_after(NULL, RM_MS(1));
        const rm_deadline late = rm_deadline_after(NULL, RM_SEC(100));
        rm_lease lease;
        status =
            rm_pool_acquire_async(pool, &requests[0], soon, NULL, cancel_when_told, NULL, NULL);
        DST_CHECK(fine(status, 0));
        dst_pass(RM_SEC(1));
        if (status != RM_OK) rm_cancel_request(&token);
        status = rm_pool_acquire_until(pool, late, &token, &lease, NULL);
        DST_CHECK(status == RM_E_CANCELLED || dst_faults() > 0);
        gives_back(0);
    }
    finish();
    DST_CHECK(rm_cancel_destroy(&token) == RM_OK);
}

/* Two servers, each with a guard that may refuse. */
DST_TORTURE(pool, survives_every_failure_of_its_endpoints) {
    static const rm_pool_endpoint endpoints[] = {{"one", &guard, NULL}, {"two", &guard, NULL}};
    rm_pool_desc desc = with_all(2);
    rm_status status;
    uint64_t before;
    desc.endpoints = endpoints;
    desc.endpoint_count = 2;
    desc.create_backoff_ns = RM_MS(1);
    desc.min_idle = 1;
    if (!begin_or_not(&desc)) return;
    upkeep();
    guard_refuses = 1; /* the one with the idle resource: it is passed over */
    status = use_once(RM_NOWAIT, RM_RELEASE_OK);
    DST_CHECK(fine(status, 0));
    guard_refuses = 2;
    DST_CHECK(use_once(RM_NOWAIT, RM_RELEASE_OK) != RM_OK || dst_faults() > 0);
    guard_refuses = 0;
    ask_a_suspended_pool();
    dst_pass(RM_SEC(10));
    before = dst_faults();
    status = use_once(RM_SEC(1), RM_RELEASE_OK);
    DST_CHECK(fine(status, before));
    finish();
}

/* What is idle is refused, and what is lent does not come back: it asks again after a pause. */
DST_TORTURE(pool, survives_every_failure_of_a_wait_after_a_refusal) {
    static const rm_pool_endpoint endpoints[] = {{"one", &guard, NULL}, {"two", &guard, NULL}};
    rm_pool_desc desc = with_max(3);
    rm_status status;
    desc.endpoints = endpoints;
    desc.endpoint_count = 2;
    desc.min_idle = 2;
    desc.grow_after_ns = RM_MINUTES(1);
    if (!begin_or_not(&desc)) return;
    upkeep();
    if (hold_or_not(RM_NOWAIT)) {
        guard_refuses = 2;
        status = use_once(RM_SEC(1), RM_RELEASE_OK);
        DST_CHECK(fine(status, 0));
        gives_back(0);
    }
    finish();
}

/* ---- torture of pools of keys */

static rm_pools *pools;

static rm_status make_for_key(void **resource, rm_deadline deadline, rm_error *error, void *user) {
    (void)deadline, (void)user;
    if (dst_fault("create_fn") || one_of(&creates_fail))
        return rm_error_set(error, RM_E_REFUSED, 0, "db", "refused");
    *resource = malloc(1);
    return *resource != NULL ? RM_OK : rm_error_set(error, RM_E_NOMEM, 0, "db", "no memory");
}

static void end_for_key(void *resource, void *user) {
    (void)user;
    free(resource);
}

static rm_status open_key(const void *key, size_t size, rm_pool_desc *desc, rm_error *error,
                          void *user) {
    (void)key, (void)size, (void)desc, (void)user;
    return dst_fault("open_fn") ? rm_error_set(error, RM_E_REFUSED, 0, "key", "unknown") : RM_OK;
}

static rm_pools_desc with_keys(void) {
    rm_pools_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.pool.create_fn = make_for_key;
    desc.pool.destroy_fn = end_for_key;
    desc.pool.create_backoff_ns = RM_NONE;
    return desc;
}

static bool begin_keys_or_not(const rm_pools_desc *desc) {
    const rm_status status = rm_pools_create(desc, &pools, NULL);
    DST_CHECK(fine(status, 0));
    return status == RM_OK;
}

static bool see_key(const void *key, size_t size, rm_pool *one, void *user) {
    (void)key, (void)size, (void)user;
    DST_CHECK(one != NULL);
    return !dst_fault("each_fn");
}

static void use_key(const char *key) {
    const uint64_t before = dst_faults();
    const rm_deadline soon = rm_deadline_after(NULL, RM_SEC(1));
    rm_pools_lease lease;
    const rm_status status = rm_pools_acquire(pools, key, 1, soon, NULL, &lease, NULL);
    DST_CHECK(fine(status, before));
    if (status == RM_OK) DST_CHECK(rm_pools_release(pools, &lease, RM_RELEASE_OK) == RM_OK);
}

static void shut_key(void *pool_user, void *user) {
    (void)pool_user, (void)user;
}

DST_TORTURE(pools, survive_every_failure) {
    rm_pools_desc desc = with_keys();
    desc.pool.min_idle = 1;
    desc.open_fn = open_key;
    desc.shut_fn = shut_key;
    desc.max_keys = 2;
    desc.max_total = 1;
    if (!begin_keys_or_not(&desc)) return;
    use_key("a");
    use_key("b"); /* ends what is idle under the other */
    use_key("c"); /* and that pool */
    rm_pools_each(pools, see_key, NULL);
    DST_CHECK(fine(rm_pools_maintain(pools, 0, never, NULL), 0));
    DST_CHECK(fine(rm_pools_close(pools, RM_SEC(1), NULL), 0));
    DST_CHECK(rm_pools_destroy(pools) == RM_OK);
}

static rm_pools_request key_request;
static uint32_t key_answers;

static void key_answered(rm_status status, const rm_pools_lease *lease, const rm_error *error,
                         void *user) {
    (void)error, (void)user;
    ++key_answers;
    if (status == RM_OK) {
        rm_pools_lease mine = *lease;
        DST_CHECK(rm_pools_release(pools, &mine, RM_RELEASE_OK) == RM_OK);
    }
}

/* One key waits for the place of another. */
DST_TORTURE(pools, survive_every_failure_of_a_wait) {
    rm_pools_lease lease;
    rm_pools_desc desc = with_keys();
    rm_status lent, asked;
    desc.max_total = 1;
    if (!begin_keys_or_not(&desc)) return;
    lent = rm_pools_acquire(pools, "a", 1, rm_deadline_after(NULL, RM_SEC(1)), NULL, &lease, NULL);
    asked = rm_pools_acquire_async(pools, &key_request, "b", 1, rm_deadline_after(NULL, RM_SEC(1)),
                                   NULL, key_answered, NULL, NULL);
    DST_CHECK(fine(lent, 0) && fine(asked, 0));
    if (lent == RM_OK) DST_CHECK(rm_pools_release(pools, &lease, RM_RELEASE_OK) == RM_OK);
    dst_pass(RM_SEC(2));
    (void)rm_pools_maintain(pools, 0, never, NULL); /* a wait whose end could not be told is over */
    DST_CHECK(key_answers == (asked == RM_OK));
    DST_CHECK(pools->budget.wanting == 0 && pools->budget.leaving == 0);
    DST_CHECK(rm_pools_destroy(pools) == RM_OK);
}

/* Nobody has forked here, and nothing was made. */
DST_TORTURE(pools, survive_every_failure_after_a_fork) {
    rm_pools_desc desc = with_keys();
    rm_status status;
    int i;
    desc.max_total = 1;
    if (!begin_keys_or_not(&desc)) return;
    for (i = 0; i < 3; ++i) {
        dst_forked();
        status = rm_pools_after_fork_child(pools);
        DST_CHECK(fine(status, 0));
        if (status == RM_OK) break;
    }
    if (status == RM_OK) {
        use_key("a");
        DST_CHECK(rm_pools_destroy(pools) == RM_OK);
    } else {
        const rm_env env = pools->env;
        DST_CHECK(rm_registry_destroy(pools->registry) == RM_OK);
        rm_free(env.allocator, pools, sizeof *pools);
    }
}

static void fail_key(const char *key) {
    const rm_deadline soon = rm_deadline_after(NULL, RM_SEC(1));
    rm_pools_lease lease;
    const rm_status status = rm_pools_acquire(pools, key, 1, soon, NULL, &lease, NULL);
    DST_CHECK(status != RM_OK);
}

/* The only key's pool backs off. */
DST_TORTURE(pools, survive_every_failure_of_their_upkeep) {
    rm_pools_desc desc = with_keys();
    desc.pool.create_backoff_ns = RM_SEC(1);
    desc.pool.min_idle = 1;
    if (!begin_keys_or_not(&desc)) return;
    creates_fail = 1;
    fail_key("a");
    creates_fail = 0;
    DST_CHECK(rm_pools_maintain(pools, 0, never, NULL) != RM_OK || dst_faults() > 0);
    DST_CHECK(rm_pools_destroy(pools) == RM_OK);
}

/* Threads to fill it, and one of its own. */
DST_TORTURE(pool, survives_every_failure_of_its_threads) {
    rm_pool_desc desc = rm_pool_desc_default();
    rm_deadline soon;
    rm_status status;
    uint32_t count = 0, i;
    desc.create_fn = make_for_key; /* it may be called before the create of the pool returns */
    desc.destroy_fn = end_for_key;
    desc.create_backoff_ns = RM_NONE;
    desc.max = 3;
    desc.min_idle = 1;
    desc.maintain_every_ns = RM_MS(1);
    if (!begin_or_not(&desc)) return;
    soon = rm_deadline_after(NULL, RM_SEC(1));
    status = rm_pool_prewarm(pool, 3, soon, &count, NULL);
    DST_CHECK(fine(status, 0) && count <= 3);
    (void)rm_sleep(NULL, RM_MS(3), NULL);
    DST_CHECK(rm_pool_close(pool, RM_SEC(1), NULL) == RM_OK || dst_faults() > 0);
    for (i = 0; i < 9 && rm_pool_destroy(pool) != RM_OK; ++i)
        (void)rm_sleep(NULL, RM_MS(1), NULL); /* its thread may just be finding out */
    DST_CHECK(i < 9);
}

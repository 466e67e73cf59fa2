/* Schedules of rm_cache.h. */
#define RM_IMPLEMENTATION
#include "rm_cache.h"

#include "dst.h"
#include "queue.h"

/* Relaxed, so that the test's own books order nothing for the code under test. */
#define GET(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define PUT(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define COUNT(p) __atomic_add_fetch((p), 1, __ATOMIC_RELAXED)

/* ---- a cache of numbered values: each number goes in at most once, and then out exactly once */

enum { VALUES = 32 };
static rm_cache *cache;
static rm_cache_desc desc;
static int made;
static int accepted[VALUES], gone[VALUES];
static uint64_t causes[RM_CACHE_CAUSE_REFUSED + 1];
static uint32_t room; /* entries that there may be, by number or by bytes */

static int number_of(const void *value) {
    int number;
    memcpy(&number, value, sizeof number);
    DST_CHECK(number > 0 && number < VALUES);
    return number;
}

/* removed_fn. That it can take the lock shows that nobody up the stack has it. */
static void removed(const void *key, size_t key_size, const void *value, size_t size,
                    rm_cache_cause cause, void *user) {
    (void)key, (void)user;
    DST_CHECK(key_size == 1 && size == sizeof(int));
    COUNT(&causes[cause]);
    DST_CHECK(COUNT(&gone[number_of(value)]) == 1);
    rm_waitq_lock(&cache->queue);
    DST_CHECK(cache->stats.entries <= room);
    rm_waitq_unlock(&cache->queue);
    DST_CHECK(rm_cache_destroy(cache) == RM_E_BUSY);
}

/* A waiter that sleeps although the load that it waits for has ended. */
static const char *overslept(void *user) {
    const rm_waiter *waiter;
    (void)user;
    for (waiter = cache->queue.head; waiter != NULL; waiter = waiter->next) {
        const rm_cache_load *load = cache->loads;
        while (load != NULL && load != waiter->request)
            load = load->next;
        if (load == NULL) return "a call sleeps for a load that has ended";
    }
    return queue_wrong(&cache->queue);
}

/* Room for so many entries, which never expire; a scenario changes desc before begin(). */
static void small(uint32_t entries) {
    desc = rm_cache_desc_default();
    room = entries;
    if (dst_choose(2) == 0) {
        desc.max_entries = entries;
    } else {
        desc.max_entries = RM_NONE;
        desc.max_bytes = entries * (RM_CACHE_OVERHEAD + 1 + (int64_t)sizeof(int));
    }
    desc.max_pins = 4;
    desc.ttl_ns = RM_NONE;
    desc.removed_fn = removed;
}

static void begin(void) {
    DST_CHECK(rm_cache_create(&desc, &cache, NULL) == RM_OK);
    dst_when_idle(overslept, NULL);
}

/* What must be true of a cache that nobody uses. */
static void check_idle(void) {
    const rm_cache_stats *s = &cache->stats;
    const rmi_cache_entry *entry, *newer = NULL;
    uint64_t entries = 0, bytes = 0, in = 0;
    uint32_t pins = 0, slot;
    size_t i;
    DST_CHECK(cache->loads == NULL && cache->loading == 0 && cache->queue.head == NULL);
    DST_CHECK(cache->removed == NULL && s->pins == 0);
    for (i = 0; i < cache->bucket_count; ++i) {
        for (entry = cache->buckets[i]; entry != NULL; entry = entry->next) {
            DST_CHECK(entry->linked && entry->refs == 0);
            DST_CHECK(rmi_cache_bucket(cache, entry->hash) == &cache->buckets[i]);
            ++entries;
            bytes += rmi_cache_charge(entry);
        }
    }
    DST_CHECK(entries == s->entries && entries == cache->idle);
    DST_CHECK(bytes == s->bytes && bytes == cache->idle_bytes);
    for (entry = cache->newest; entry != NULL; newer = entry, entry = entry->older, --entries)
        DST_CHECK(entry->newer == newer);
    DST_CHECK(entries == 0 && cache->oldest == newer);
    for (slot = cache->free_pin; slot != 0; slot = cache->pinned[slot - 1].next)
        ++pins;
    DST_CHECK(pins == cache->desc.max_pins);
    for (i = 0; i < VALUES; ++i)
        in += (uint64_t)accepted[i];
    DST_CHECK(in == s->entries + s->evicted + s->expired + s->replaced + s->deleted + s->cleared +
                        s->refused);
}

static void finish(void) {
    const rm_cache_stats s = cache->stats;
    int i;
    check_idle();
    DST_CHECK(rm_cache_destroy(cache) == RM_OK);
    DST_CHECK(causes[RM_CACHE_CAUSE_EVICTED] == s.evicted);
    DST_CHECK(causes[RM_CACHE_CAUSE_EXPIRED] == s.expired);
    DST_CHECK(causes[RM_CACHE_CAUSE_REPLACED] == s.replaced);
    DST_CHECK(causes[RM_CACHE_CAUSE_DELETED] == s.deleted);
    DST_CHECK(causes[RM_CACHE_CAUSE_CLEARED] == s.cleared + s.entries);
    DST_CHECK(causes[RM_CACHE_CAUSE_REFUSED] == s.refused);
    for (i = 0; i < VALUES; ++i)
        DST_CHECK(gone[i] == accepted[i]);
}

/* ---- calls */

static int fresh(void) {
    const int number = COUNT(&made);
    DST_CHECK(number < VALUES);
    return number;
}

static rm_status set_for(const char *key, int number, int64_t ttl_ns) {
    rm_status status;
    PUT(&accepted[number], 1); /* it may go before rm_cache_set returns */
    status = rm_cache_set(cache, key, 1, &number, sizeof number, ttl_ns, NULL);
    if (status != RM_OK) PUT(&accepted[number], 0);
    return status;
}

static rm_status set(const char *key) {
    return set_for(key, fresh(), 0);
}

/* The value as a number; 0 = not found. */
static int get(const char *key) {
    size_t size = 0;
    int number = 0;
    const rm_status status = rm_cache_get(cache, key, 1, &number, sizeof number, &size);
    DST_CHECK(status == RM_E_NOT_FOUND || (status == RM_OK && size == sizeof number));
    return status == RM_OK ? number_of(&number) : 0;
}

static int value_of(const rm_cache_pin *pin) {
    const int number = number_of(pin->value);
    DST_CHECK(pin->size == sizeof number && GET(&gone[number]) == 0);
    return number;
}

/* Reads a pinned value and releases it. */
static int release(rm_cache_pin *pin) {
    const int number = value_of(pin);
    DST_CHECK(rm_cache_release(cache, pin) == RM_OK && pin->value == NULL);
    return number;
}

static rm_status (*load_with)(const char *key, int number, rm_error *error);
static uint32_t loads;
static bool changes_its_mind; /* hands over another value first, and may fail after the second */

/* load_fn: a new number, unless load_with fails. */
static rm_status load(rm_cache_load *into, const void *key, size_t key_size, rm_deadline deadline,
                      rm_error *error, void *user) {
    const int number = fresh();
    rm_status status = RM_OK;
    (void)deadline, (void)user;
    DST_CHECK(key_size == 1);
    COUNT(&loads);
    if (load_with != NULL) status = load_with((const char *)key, number, error);
    if (status == RM_OK && changes_its_mind) status = rm_cache_load_set(into, "none", 4);
    if (status == RM_OK) status = rm_cache_load_set(into, &number, sizeof number);
    if (changes_its_mind && dst_fault("load_fn")) status = RM_E_REFUSED;
    PUT(&accepted[number], status == RM_OK);
    return status;
}

static rm_status get_or_load(const char *key, int64_t timeout_ns, rm_cache_pin *pin,
                             rm_error *error) {
    const rm_cache_loader loader = rm_cache_loader_make(load, NULL);
    return rm_cache_get_or_load(cache, key, 1, &loader, timeout_ns, pin, error);
}

/* Loads if it must; returns the number. */
static int load_and_release(const char *key) {
    rm_cache_pin pin;
    DST_CHECK(get_or_load(key, RM_FOREVER, &pin, NULL) == RM_OK);
    return release(&pin);
}

/* ---- loads: single flight */

static void load_a(int index) {
    (void)index;
    DST_CHECK(load_and_release("a") == 1);
}

DST(cache, one_load_serves_all_who_miss) {
    void (*const threads[])(int) = {load_a, load_a, load_a};
    small(2);
    begin();
    dst_go(3, threads);
    DST_CHECK(loads == 1 && cache->stats.loads == 1);
    DST_CHECK(cache->stats.hits + cache->stats.load_waits == 2);
    DST_CHECK(cache->stats.misses == 1 + cache->stats.load_waits);
    finish();
}

static rm_status refuse(const char *key, int number, rm_error *error) {
    (void)key, (void)number;
    return rm_error_set(error, RM_E_REFUSED, 7, "db", "refused");
}

static void load_in_vain(int index) {
    rm_cache_pin pin;
    rm_error error;
    (void)index;
    DST_CHECK(get_or_load("a", RM_FOREVER, &pin, &error) == RM_E_REFUSED);
    DST_CHECK(error.status == RM_E_REFUSED && error.native == 7);
    DST_CHECK(strcmp(error.message, "refused") == 0);
}

DST(cache, a_failed_load_goes_to_all_who_wait) {
    void (*const threads[])(int) = {load_in_vain, load_in_vain, load_in_vain};
    small(2);
    load_with = refuse;
    begin();
    dst_go(3, threads);
    DST_CHECK(cache->stats.loads == loads && cache->stats.load_failures == loads);
    DST_CHECK(loads + cache->stats.load_waits == 3);
    DST_CHECK(cache->stats.entries == 0);
    finish();
}

static rm_status refuse_once(const char *key, int number, rm_error *error) {
    return number == 1 ? refuse(key, number, error) : RM_OK;
}

static void load_twice(int index) {
    rm_cache_pin pin;
    int i, refused = 0;
    (void)index;
    for (i = 0; i < 2; ++i) {
        if (get_or_load("a", RM_FOREVER, &pin, NULL) == RM_OK)
            (void)release(&pin);
        else
            ++refused;
    }
    DST_CHECK(refused <= 1); /* a second call cannot be of the first load */
}

DST(cache, a_load_after_one_that_failed) {
    void (*const threads[])(int) = {load_twice, load_twice};
    small(2);
    load_with = refuse_once;
    begin();
    dst_go(2, threads);
    DST_CHECK(loads == 2 && cache->stats.load_failures == 1);
    finish();
}

static rm_status take_a_while(const char *key, int number, rm_error *error) {
    (void)key, (void)number, (void)error;
    return rm_sleep(NULL, RM_US(1), NULL);
}

static void load_in_time(int index) {
    rm_cache_pin pin;
    rm_error error;
    const rm_status status = get_or_load("a", RM_US(1), &pin, &error);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_TIMEOUT);
    DST_CHECK(status == RM_OK || error.status == RM_E_TIMEOUT);
    if (status == RM_OK) (void)release(&pin);
}

DST(cache, a_waiter_gives_up_while_the_load_ends) {
    void (*const threads[])(int) = {load_in_time, load_in_time, load_in_time};
    small(2);
    load_with = take_a_while;
    begin();
    dst_go(3, threads);
    DST_CHECK(loads == 1);
    finish();
}

/* ---- loads beside writes: what is loaded after a write has returned is not from before it */

static int world; /* what a load reads: the test raises it before it writes to the cache */
static int world_of[VALUES];

static rm_status read_world(const char *key, int number, rm_error *error) {
    (void)key, (void)error;
    PUT(&world_of[number], GET(&world));
    dst_point();
    return RM_OK;
}

static void read_any(int index) {
    (void)index;
    (void)load_and_release("a");
}

static int was_set;

static void change_and_read(int index) {
    const int number = fresh(), how = (int)dst_choose(3);
    int read;
    (void)index;
    PUT(&world, 1);
    PUT(&world_of[number], 1);
    if (how == 0)
        (void)rm_cache_delete(cache, "a", 1);
    else if (how == 1)
        (void)rm_cache_clear(cache);
    else
        DST_CHECK(set_for("a", number, 0) == RM_OK);
    read = load_and_release("a");
    DST_CHECK(how == 2 ? read == number : GET(&world_of[read]) == 1);
    was_set = how == 2 ? number : 0;
}

DST(cache, a_write_overtakes_a_load) {
    void (*const threads[])(int) = {read_any, change_and_read};
    int last;
    small(2);
    load_with = read_world;
    begin();
    dst_go(2, threads);
    last = get("a");
    DST_CHECK(last != 0 && world_of[last] == 1 && (was_set == 0 || last == was_set));
    finish();
}

/* ---- loads that load */

static int overtaken; /* the first load is overtaken by its own delete */
static int nested[8]; /* loads of "a" that a thread is in */

static rm_status load_b_for_a(const char *key, int number, rm_error *error) {
    rm_cache_pin pin;
    rm_status status;
    (void)error;
    if (key[0] == 'b') return RM_OK;
    DST_CHECK(++nested[rm_thread_number()] == 1);
    if (overtaken && GET(&world) == 0) {
        PUT(&world, number);
        DST_CHECK(rm_cache_delete(cache, "a", 1) == RM_E_NOT_FOUND);
    }
    status = get_or_load("a", RM_FOREVER, &pin, NULL);
    if (status == RM_OK && overtaken) /* another thread has loaded it anew by then */
        (void)release(&pin);
    else
        DST_CHECK(status == RM_E_DEADLOCK);
    (void)load_and_release("b");
    --nested[rm_thread_number()];
    return RM_OK;
}

static void load_b(int index) {
    (void)index;
    (void)load_and_release("b");
}

DST(cache, a_load_that_loads_another_key) {
    void (*const threads[])(int) = {read_any, dst_choose(2) == 0 ? load_b : read_any};
    small(2);
    overtaken = (int)dst_choose(2);
    load_with = load_b_for_a;
    begin();
    dst_go(2, threads);
    DST_CHECK(loads == 2 || (overtaken && loads == 3));
    finish();
}

static rm_status load_the_other(const char *key, int number, rm_error *error) {
    rm_cache_pin pin;
    const rm_status status = get_or_load(key[0] == 'a' ? "b" : "a", RM_US(1), &pin, error);
    (void)number;
    if (status == RM_OK) (void)release(&pin);
    return status;
}

static void load_one_of_two(int index) {
    rm_cache_pin pin;
    const rm_status status = get_or_load(index == 0 ? "a" : "b", RM_US(1), &pin, NULL);
    DST_CHECK(status == RM_E_TIMEOUT || status == RM_E_DEADLOCK);
}

/* Documented: they wait until their deadlines. Nested in one thread it is a deadlock at once. */
DST(cache, two_loads_that_need_each_other) {
    void (*const threads[])(int) = {load_one_of_two, load_one_of_two};
    small(2);
    load_with = load_the_other;
    begin();
    dst_go(2, threads);
    DST_CHECK(cache->stats.entries == 0);
    finish();
}

/* ---- pins */

static void pin_any(int index) {
    rm_cache_pin pin;
    const rm_status status = rm_cache_acquire(cache, "a", 1, &pin);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_NOT_FOUND);
    if (status == RM_OK) (void)release(&pin);
}

static void set_more(int index) {
    DST_CHECK(set(index == 1 ? "b" : "c") == RM_OK);
}

DST(cache, pins_beside_eviction) {
    void (*const threads[])(int) = {pin_any, set_more, set_more};
    small(2);
    begin();
    DST_CHECK(set("a") == RM_OK && set("b") == RM_OK);
    dst_go(3, threads);
    DST_CHECK(cache->stats.entries == 2);
    finish();
}

static void set_beside_pin(int index) {
    const rm_status status = set(index == 1 ? "b" : "c");
    DST_CHECK(status == RM_OK || status == RM_E_FULL);
}

DST(cache, a_cache_of_one_is_full_while_that_is_pinned) {
    void (*const threads[])(int) = {pin_any, set_beside_pin, set_beside_pin};
    small(1);
    begin();
    DST_CHECK(set("a") == RM_OK);
    dst_go(3, threads);
    DST_CHECK(cache->stats.entries == 1);
    finish();
}

/* A value that is only pinned any more is still charged, in bytes. */
static void write_a(int index) {
    const uint32_t how = dst_choose(3);
    (void)index;
    if (how == 0) {
        const rm_status status = set("a");
        DST_CHECK(status == RM_OK || (status == RM_E_FULL && desc.max_entries == RM_NONE));
    } else if (how == 1) {
        (void)rm_cache_delete(cache, "a", 1);
    } else {
        DST_CHECK(rm_cache_clear(cache) <= 1);
    }
}

DST(cache, pins_beside_replace_delete_and_clear) {
    void (*const threads[])(int) = {pin_any, write_a, write_a, pin_any};
    small(2);
    begin();
    DST_CHECK(set("a") == RM_OK);
    dst_go(4, threads);
    finish();
}

static int pins_out;

/* A pin is released once, also when another thread has its place by then. */
static void pin_the_only_one(int index) {
    rm_cache_pin pin, copy;
    rm_status status;
    if (index == 2)
        status = get_or_load("b", RM_FOREVER, &pin, NULL);
    else
        status = rm_cache_acquire(cache, "a", 1, &pin);
    DST_CHECK(status == RM_OK || status == RM_E_FULL);
    if (status != RM_OK) return;
    DST_CHECK(COUNT(&pins_out) == 1);
    dst_point();
    __atomic_sub_fetch(&pins_out, 1, __ATOMIC_RELAXED);
    copy = pin;
    (void)release(&pin);
    DST_CHECK(rm_cache_release(cache, &copy) == RM_E_STALE);
}

DST(cache, no_more_pins_than_there_may_be) {
    void (*const threads[])(int) = {pin_the_only_one, pin_the_only_one, pin_the_only_one};
    small(2);
    desc.max_pins = 1;
    begin();
    DST_CHECK(set("a") == RM_OK);
    dst_go(3, threads);
    DST_CHECK(cache->stats.entries == 2);
    finish();
}

/* ---- time */

static int64_t expires; /* when "a" does */
static int deleting;

static void get_by_the_clock(int index) {
    const int64_t before = dst_now();
    const int found = get("a");
    (void)index;
    if (found == 0)
        DST_CHECK(dst_now() >= expires || GET(&deleting));
    else
        DST_CHECK(before < expires + RM_MS(4)); /* the coarse clock may be as late as that */
    dst_pass(RM_MS(6));
}

static void maintain_or_delete(int index) {
    (void)index;
    dst_pass(RM_MS(6));
    if (dst_choose(2) == 0) {
        PUT(&deleting, 1);
        (void)rm_cache_delete(cache, "a", 1);
    } else {
        const int64_t before = dst_now();
        if (rm_cache_maintain(cache, 0) > 0) DST_CHECK(dst_now() >= expires);
        if (before >= expires + RM_MS(4)) DST_CHECK(get("a") == 0);
    }
}

DST(cache, expiry_beside_get_maintain_and_delete) {
    void (*const threads[])(int) = {get_by_the_clock, get_by_the_clock, maintain_or_delete};
    small(2);
    begin();
    expires = dst_now() + RM_MS(8);
    DST_CHECK(set_for("a", fresh(), RM_MS(8)) == RM_OK);
    dst_go(3, threads);
    finish();
}

/* ---- destroy */

static rm_status destroy_in_load(const char *key, int number, rm_error *error) {
    (void)key, (void)number, (void)error;
    DST_CHECK(rm_cache_destroy(cache) == RM_E_BUSY);
    return RM_OK;
}

static void pin_and_destroy(int index) {
    rm_cache_pin pin;
    (void)index;
    DST_CHECK(get_or_load("a", RM_FOREVER, &pin, NULL) == RM_OK);
    DST_CHECK(rm_cache_destroy(cache) == RM_E_BUSY);
    (void)release(&pin);
}

DST(cache, destroy_is_busy_while_something_is_out) {
    void (*const threads[])(int) = {pin_and_destroy, pin_and_destroy};
    small(2);
    load_with = destroy_in_load;
    begin();
    dst_go(2, threads);
    DST_CHECK(loads == 1 && cache->stats.entries == 1); /* nothing was done */
    finish();
}

/* ---- a guard */

static int admitted, reported, failures, successes;

static rm_status admit(rm_permit *permit, rm_error *error, void *user) {
    (void)user;
    if (dst_choose(2) == 0 || dst_fault("admit_fn"))
        return rm_error_set(error, RM_E_REJECTED, 0, "guard", "no");
    permit->word = (uint64_t)COUNT(&admitted);
    permit->owner = 42;
    return RM_OK;
}

static int permits[VALUES];

static void report(rm_permit *permit, rm_outcome outcome, void *user) {
    (void)user;
    DST_CHECK(permit->owner == 42 && permit->word > 0 && permit->word < VALUES);
    DST_CHECK(COUNT(&permits[permit->word]) == 1);
    COUNT(&reported);
    if (outcome == RM_OUTCOME_FAILURE)
        COUNT(&failures);
    else if (outcome == RM_OUTCOME_OK)
        COUNT(&successes);
}

static rm_status refuse_at_times(const char *key, int number, rm_error *error) {
    return dst_choose(2) == 0 ? refuse(key, number, error) : RM_OK;
}

static void load_guarded(int index) {
    rm_cache_pin pin;
    const rm_status status = get_or_load("a", RM_FOREVER, &pin, NULL);
    (void)index;
    DST_CHECK(status == RM_OK || status == RM_E_REFUSED || status == RM_E_REJECTED);
    if (status == RM_OK) (void)release(&pin);
}

DST(cache, every_permit_of_the_guard_is_reported_once) {
    void (*const threads[])(int) = {load_guarded, load_guarded, load_guarded};
    const rm_guard guard = {admit, report, NULL};
    small(2);
    desc.guard = &guard;
    load_with = refuse_at_times;
    begin();
    dst_go(3, threads);
    DST_CHECK(admitted == reported && (uint32_t)admitted == loads);
    DST_CHECK((uint64_t)failures == cache->stats.load_failures);
    DST_CHECK(failures + successes == reported);
    finish();
}

/* ---- history: a map of two keys */

enum { OP_GET, OP_SET, OP_DELETE, OP_CLEAR };
static const char *const two_keys[] = {"a", "b"};

static void use_map(int index) {
    const int calls = 2 + (int)dst_choose(2);
    int i;
    for (i = 0; i < calls; ++i) {
        const int key = (int)dst_choose(2), kind = (int)dst_choose(index == 0 ? 4 : 3);
        const int number = kind == OP_SET ? fresh() : 0;
        const int op = dst_called(kind, key | number << 1);
        int64_t result = 0;
        if (kind == OP_GET) result = get(two_keys[key]);
        if (kind == OP_SET) result = set_for(two_keys[key], number, 0);
        if (kind == OP_DELETE) result = rm_cache_delete(cache, two_keys[key], 1);
        if (kind == OP_CLEAR) result = (int64_t)rm_cache_clear(cache);
        dst_returned(op, result);
    }
}

static bool map_apply(void *state, const dst_op *op) {
    int64_t map[2], was;
    const int key = (int)(op->arg & 1);
    bool accepts = false;
    memcpy(map, state, sizeof map);
    was = map[key];
    switch (op->kind) {
    case OP_GET: return op->result == was;
    case OP_SET:
        map[key] = op->arg >> 1;
        accepts = op->result == RM_OK;
        break;
    case OP_DELETE:
        map[key] = 0;
        accepts = op->result == (was != 0 ? RM_OK : RM_E_NOT_FOUND);
        break;
    default:
        accepts = op->result == (map[0] != 0) + (map[1] != 0);
        map[0] = map[1] = 0;
        break;
    }
    memcpy(state, map, sizeof map);
    return accepts;
}

DST(cache, gets_sets_and_deletes_have_an_order) {
    void (*const threads[])(int) = {use_map, use_map, use_map};
    small(2);
    begin();
    dst_go(3, threads);
    dst_linearizable(2 * sizeof(int64_t), map_apply);
    finish();
}

/* ---- torture */

/* What went wrong, if anything did, is a failure that was injected. */
static bool held(rm_status status, uint64_t faults_before) {
    DST_CHECK(status == RM_OK || dst_faults() > faults_before);
    return status == RM_OK;
}

static rm_status may_fail(const char *key, int number, rm_error *error) {
    if (dst_fault("load_fn")) return refuse(key, number, error);
    return RM_OK;
}

static void load_under_torture(int index) {
    rm_cache_pin pin;
    (void)index;
    if (held(get_or_load("c", RM_SEC(1), &pin, NULL), 0)) (void)release(&pin);
}

static rm_status admit_under_torture(rm_permit *permit, rm_error *error, void *user) {
    (void)user;
    if (dst_fault("admit_fn")) return rm_error_set(error, RM_E_REJECTED, 0, "guard", "no");
    permit->word = (uint64_t)COUNT(&admitted);
    permit->owner = 42;
    return RM_OK;
}

/* A clock that fails reads 0: what is set then has expired when the clock is back. */
DST_TORTURE(cache, survives_every_failure_of_its_life) {
    void (*const threads[])(int) = {load_under_torture, load_under_torture};
    const rm_guard guard = {admit_under_torture, report, NULL};
    rm_cache_pin pin;
    int i;
    small(2);
    desc.ttl_ns = RM_SEC(1);
    desc.guard = &guard;
    load_with = may_fail;
    changes_its_mind = true;
    if (!held(rm_cache_create(&desc, &cache, NULL), 0)) {
        DST_CHECK(cache == NULL);
        return;
    }
    dst_when_idle(overslept, NULL);
    for (i = 0; i < 3; ++i) {
        const uint64_t before = dst_faults();
        if (!held(set(i == 1 ? "b" : "a"), before)) continue;
        if (get(i == 1 ? "b" : "a") == 0) DST_CHECK(dst_faults() > before);
    }
    if (held(get_or_load("b", RM_SEC(1), &pin, NULL), 0)) {
        const uint64_t before = dst_faults();
        (void)rm_cache_delete(cache, "b", 1);
        (void)held(set("b"), before);
        (void)release(&pin);
    }
    dst_go(2, threads);
    (void)rm_cache_maintain(cache, 0);
    DST_CHECK(rm_cache_clear(cache) <= 2);
    DST_CHECK(admitted == reported);
    finish();
}

/* Nobody has forked here: what could not be made anew is as it was, and can be ended. */
DST_TORTURE(cache, survives_every_failure_after_a_fork) {
    int i;
    small(2);
    if (!held(rm_cache_create(&desc, &cache, NULL), 0)) return;
    for (i = 0; i < 3; ++i) {
        dst_forked();
        if (held(rm_cache_after_fork_child(cache), 0)) break;
    }
    if (i < 3) (void)held(set("a"), 0);
    finish();
}

static rm_status slow_and_may_fail(const char *key, int number, rm_error *error) {
    (void)rm_sleep(NULL, RM_MS(2), NULL);
    return may_fail(key, number, error);
}

static void load_for_a_moment(int index) {
    rm_cache_pin pin;
    const rm_status status = get_or_load("c", RM_MS(1), &pin, NULL);
    (void)index;
    if (status != RM_E_TIMEOUT && held(status, 0)) (void)release(&pin);
}

/* One of them gives up on the load of the other. */
DST_TORTURE(cache, survives_every_failure_of_a_long_load) {
    void (*const threads[])(int) = {load_for_a_moment, load_for_a_moment};
    small(2);
    load_with = slow_and_may_fail;
    if (!held(rm_cache_create(&desc, &cache, NULL), 0)) return;
    dst_when_idle(overslept, NULL);
    dst_go(2, threads);
    finish();
}

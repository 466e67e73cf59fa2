/* Cache operations against a model: an array of entries with the time of their last use.

   What rm_cache.h promises and the model does: bounds on entries and bytes hold at every moment,
   the least recently used entry that is not pinned makes room, every entry that goes is told once,
   with its cause, key and value, in the call that made it go or after its last release.  The order
   in which one call tells of several is not promised.  The one thing that is known of the inside is
   which buckets the sweep of expired entries looks at: 16 buckets by the low bits of rm_hash. */
#define RM_IMPLEMENTATION
#include "rm_cache.h"
#include "fuzz.h"

enum {
    KEYS = 6,
    ENTRIES = 64,
    PINS = 64,
    REMOVALS = 64,
    LOADS = 4,
    BUCKETS = 16,
    SWEEP = 4,
    LARGEST = 200,
    LONGEST = 1024
};

/* Equal keys have equal sizes here, and one is empty. */
static const char *const keys[KEYS] = {"", "a", "b", "cc", "dddddddd", "0123456789abcdef"};

typedef struct entry {
    bool there;  /* this place of the array is taken */
    bool linked; /* in the cache, not only pinned any more */
    bool charged;
    int key;
    size_t size;
    uint8_t fill; /* what its bytes are made of */
    int64_t expires_ns;
    uint64_t used;
    uint32_t refs;
    rm_cache_cause cause;
} entry;

typedef struct removal {
    int key;
    size_t size;
    uint8_t fill;
    rm_cache_cause cause;
} removal;

typedef struct loading {
    int key;
    bool stale, set, ran;
    size_t size;
    uint8_t fill;
    rm_status status;
    int64_t ended_ns;
} loading;

static struct world {
    fuzz_input *in;
    fuzz_clock time;
    rm_clock clock;
    rm_rng rng;
    rm_random random;
    rm_allocator allocator;
    fuzz_memory memory;
    rm_env env;
    rm_guard guard;
    rm_cache *cache;
    rm_cache_desc desc;
    rm_hash_key hash;
    rm_cache_pin pins[PINS];
    int pinned[PINS]; /* the entry of a pin that is valid; -1 = it is stale */
    int pin_count;
    removal told[REMOVALS], expected[REMOVALS];
    int told_count, expected_count;
    int loads_count;
    uint64_t permits, reported, forgotten;
    rm_outcome outcome; /* the last that was reported */
    bool ending;
    /* the model */
    entry entries[ENTRIES];
    loading loads[LOADS];
    uint64_t ticks;
    uint32_t cursor;
    uint8_t fills;
    rm_cache_stats stats;
} w;

static void step(int depth);

/* >>values: their bytes follow from one number */

static const uint8_t *value_of(uint8_t fill, size_t size) {
    static uint8_t value[LARGEST];
    for (size_t i = 0; i < size; ++i)
        value[i] = (uint8_t)(fill + i * 7);
    return value;
}

static bool is_value(const void *value, uint8_t fill, size_t size) {
    return size == 0 || memcmp(value, value_of(fill, size), size) == 0;
}

static size_t key_size(int key) {
    return strlen(keys[key]);
}

/* >>hooks */

static void removed_fn(const void *key, size_t size_of_key, const void *value, size_t size,
                       rm_cache_cause cause, void *user) {
    removal *r = &w.told[w.told_count++];
    rm_cache_stats stats;
    CHECK(user == &w && w.told_count < REMOVALS);
    for (r->key = 0; r->key < KEYS; ++r->key)
        if (key_size(r->key) == size_of_key && memcmp(key, keys[r->key], size_of_key) == 0) break;
    CHECK(r->key < KEYS);
    r->size = size;
    r->fill = size > 0 ? *(const uint8_t *)value : 0;
    r->cause = cause;
    CHECK(is_value(value, r->fill, size));
    CHECK(strcmp(rm_cache_cause_name(cause), "unknown") != 0);
    CHECK_EQ(RM_OK, rm_cache_stats_get(w.cache, &stats)); /* no lock is held */
    if (w.ending) CHECK_EQ(RM_E_CLOSED, rm_cache_set(w.cache, "x", 1, "", 0, 0, NULL));
}

static rm_status admit_fn(rm_permit *permit, rm_error *error, void *user) {
    (void)error;
    CHECK(user == &w);
    if (fuzz_below(w.in, 8) == 1) return RM_E_REJECTED;
    permit->word = ++w.permits;
    return RM_OK;
}

static void report_fn(rm_permit *permit, rm_outcome outcome, void *user) {
    CHECK(user == &w && permit->word > 0);
    permit->word = 0;
    w.outcome = outcome;
    ++w.reported;
}

/* >>model: entries */

static size_t charge_of(const entry *e) {
    return RM_CACHE_OVERHEAD + key_size(e->key) + e->size;
}

static entry *find(int key) {
    for (entry *e = w.entries; e < w.entries + ENTRIES; ++e)
        if (e->there && e->linked && e->key == key) return e;
    return NULL;
}

/* An entry that nothing holds any more: its removal must have been told. */
static void gone(entry *e) {
    const removal r = {e->key, e->size, e->size > 0 ? e->fill : 0, e->cause};
    w.expected[w.expected_count++] = r;
    CHECK(w.expected_count < REMOVALS);
    if (e->charged) w.stats.bytes -= charge_of(e);
    memset(e, 0, sizeof *e);
}

static void unlink_entry(entry *e, rm_cache_cause cause) {
    uint64_t *const counts[] = {&w.stats.evicted, &w.stats.expired, &w.stats.replaced,
                                &w.stats.deleted, &w.stats.cleared, &w.stats.refused};
    ++*counts[cause];
    --w.stats.entries;
    e->linked = false;
    e->cause = cause;
    if (e->refs == 0) gone(e);
}

static void unref(entry *e) {
    e->used = ++w.ticks;
    if (--e->refs == 0 && !e->linked) gone(e);
}

static bool expired(const entry *e) {
    return e->expires_ns != INT64_MAX && w.time.now >= e->expires_ns;
}

static uint32_t sweep(uint32_t buckets) {
    uint32_t count = 0;
    for (; buckets > 0; --buckets, w.cursor = (w.cursor + 1) % BUCKETS) {
        for (entry *e = w.entries; e < w.entries + ENTRIES; ++e) {
            if (!e->there || !e->linked || !expired(e)) continue;
            if (rm_hash(&w.hash, keys[e->key], key_size(e->key)) % BUCKETS != w.cursor) continue;
            unlink_entry(e, RM_CACHE_CAUSE_EXPIRED);
            ++count;
        }
    }
    return count;
}

static entry *look_up(int key) {
    entry *e = find(key);
    if (e != NULL && expired(e)) {
        unlink_entry(e, RM_CACHE_CAUSE_EXPIRED);
        e = NULL;
    }
    if (e == NULL) {
        ++w.stats.misses;
        return NULL;
    }
    ++w.stats.hits;
    e->used = ++w.ticks;
    return e;
}

/* Are the bounds kept with one more entry of this charge, when `old` and these others are gone? */
static bool fits(size_t charge, const entry *old, uint32_t others, uint64_t their_bytes) {
    const uint64_t freed = their_bytes + (old != NULL && old->refs == 0 ? charge_of(old) : 0);
    const uint64_t entries = w.stats.entries + 1 - others - (old != NULL);
    if (w.desc.max_entries != RM_NONE && entries > (uint64_t)w.desc.max_entries) return false;
    return w.desc.max_bytes == RM_NONE ||
           w.stats.bytes - freed + charge <= (uint64_t)w.desc.max_bytes;
}

/* The least recently used entry that may go; it counts and adds up all of them. */
static entry *victim(const entry *old, uint32_t *count, uint64_t *bytes) {
    entry *oldest = NULL;
    *count = 0, *bytes = 0;
    for (entry *e = w.entries; e < w.entries + ENTRIES; ++e) {
        if (!e->there || !e->linked || e->refs > 0 || e == old) continue;
        ++*count;
        *bytes += charge_of(e);
        if (oldest == NULL || e->used < oldest->used) oldest = e;
    }
    return oldest;
}

/* Puts an entry in; false when what is pinned leaves no room. */
static bool put(entry *e) {
    entry *old = find(e->key), *next;
    uint32_t others;
    uint64_t bytes;
    (void)victim(old, &others, &bytes);
    if (!fits(charge_of(e), old, others, bytes)) return false;
    while (!fits(charge_of(e), old, 0, 0)) {
        next = victim(old, &others, &bytes);
        CHECK(next != NULL);
        unlink_entry(next, RM_CACHE_CAUSE_EVICTED);
    }
    if (old != NULL) unlink_entry(old, RM_CACHE_CAUSE_REPLACED);
    e->linked = e->charged = true;
    e->used = ++w.ticks;
    ++w.stats.entries;
    w.stats.bytes += charge_of(e);
    return true;
}

static entry *make(int key, size_t size, uint8_t fill, int64_t ttl_ns) {
    const int64_t usual = w.desc.ttl_ns == 0 ? RM_SEC(3600) : w.desc.ttl_ns;
    const int64_t ttl = ttl_ns == 0 ? usual : ttl_ns;
    entry *e = w.entries;
    while (e->there)
        ++e;
    CHECK(e < w.entries + ENTRIES);
    memset(e, 0, sizeof *e);
    e->there = true;
    e->key = key;
    e->size = size;
    e->fill = fill;
    e->expires_ns = ttl == RM_NONE ? INT64_MAX : rm_time_add(w.time.now, ttl);
    return e;
}

static void overtake(int key) {
    for (int i = 0; i < w.loads_count; ++i)
        if (key < 0 || w.loads[i].key == key) w.loads[i].stale = true;
}

/* A pin for an entry on which there is a reference. */
static rm_status pin(entry *e) {
    const uint32_t most = w.desc.max_pins;
    if (w.stats.pins == most) {
        unref(e);
        return RM_E_FULL;
    }
    ++w.stats.pins;
    CHECK(w.pin_count < PINS);
    w.pinned[w.pin_count] = (int)(e - w.entries);
    return RM_OK;
}

/* >>operations */

/* What was told is what was expected, whatever the order. */
static void check_removals(void) {
    CHECK_EQ(w.expected_count, w.told_count);
    for (int i = 0; i < w.expected_count; ++i) {
        const removal *e = &w.expected[i];
        int j = 0;
        while (j < w.told_count && (w.told[j].key != e->key || w.told[j].size != e->size ||
                                    w.told[j].fill != e->fill || w.told[j].cause != e->cause))
            ++j;
        CHECK(j < w.told_count);
        w.told[j] = w.told[--w.told_count];
    }
    w.expected_count = 0;
}

static int pick_key(void) {
    return (int)fuzz_below(w.in, KEYS);
}

static size_t pick_size(void) {
    const uint32_t byte = fuzz_byte(w.in);
    return byte > 250   ? SIZE_MAX - (byte - 251) * 30
           : byte > 248 ? (size_t)1 << 40
                        : byte % LARGEST;
}

static int64_t pick_ttl(void) {
    return FUZZ_CHOOSE(w.in, 0, 0, RM_NONE, 1, RM_MS(1), RM_SEC(1), INT64_MAX, RM_STRICT);
}

static bool ttl_valid(int64_t ttl_ns) {
    return ttl_ns >= 0 || ttl_ns == RM_NONE;
}

static void fail_next(void) {
    const uint32_t next = fuzz_below(w.in, 16);
    w.memory.fail = next < 3 && next > 0 ? w.memory.calls + next : 0;
}

/* Keeps a pin that was handed out and checks that it is of the right entry. */
static void keep(const rm_cache_pin *p) {
    const entry *e = &w.entries[w.pinned[w.pin_count]];
    CHECK_EQ(e->size, p->size);
    CHECK(p->value != NULL && is_value(p->value, e->fill, e->size));
    w.pins[w.pin_count++] = *p;
}

/* Too large for the bound on bytes, or for size_t. */
static bool too_large(int key, size_t size) {
    const size_t more = RM_CACHE_OVERHEAD + key_size(key);
    if (size > SIZE_MAX - more) return true;
    return w.desc.max_bytes != RM_NONE && size + more > (uint64_t)w.desc.max_bytes;
}

static void do_set(void) {
    const int key = pick_key();
    const size_t size = pick_size();
    const uint8_t fill = ++w.fills;
    const int64_t ttl = pick_ttl();
    const void *at = key_size(key) == 0 && fill % 2 ? NULL : keys[key];
    rm_error error = {0, RM_OK, "", ""};
    rm_status status;
    entry *e;
    fail_next();
    status = rm_cache_set(w.cache, at, key_size(key), value_of(fill, size < LARGEST ? size : 0),
                          size, ttl, &error);
    CHECK_EQ(status, error.status);
    if (!ttl_valid(ttl) || too_large(key, size)) {
        CHECK_EQ(!ttl_valid(ttl) ? RM_E_INVALID : RM_E_TOO_LARGE, status);
    } else if (size > LARGEST || (w.memory.fail != 0 && w.memory.fail <= w.memory.calls)) {
        CHECK_EQ(RM_E_NOMEM, status);
    } else {
        (void)sweep(SWEEP);
        e = make(key, size, fill, ttl);
        if (put(e)) {
            ++w.stats.sets;
            overtake(key);
            CHECK_EQ(RM_OK, status);
        } else {
            e->there = false;
            CHECK_EQ(RM_E_FULL, status);
        }
    }
}

static void do_get(void) {
    const int key = pick_key();
    const size_t capacity = fuzz_byte(w.in);
    uint8_t *buffer = (uint8_t *)malloc(capacity + 1); /* exact: a byte more is found */
    size_t size = 12345;
    rm_status status;
    const entry *e;
    CHECK(buffer != NULL);
    memset(buffer, 0xEE, capacity + 1);
    status = rm_cache_get(w.cache, keys[key], key_size(key), buffer, capacity, &size);
    e = look_up(key);
    CHECK_EQ(e == NULL ? RM_E_NOT_FOUND : e->size > capacity ? RM_E_TOO_LARGE : RM_OK, status);
    CHECK_EQ(e == NULL ? 12345 : e->size, size);
    if (status == RM_OK) CHECK(is_value(buffer, e->fill, size));
    CHECK(buffer[status == RM_OK ? size : 0] == 0xEE);
    free(buffer);
}

static void do_acquire(void) {
    const int key = pick_key();
    rm_cache_pin p = {NULL, 0, 0, 0, 0};
    rm_status status = rm_cache_acquire(w.cache, keys[key], key_size(key), &p);
    entry *e = look_up(key);
    if (e == NULL) {
        CHECK_EQ(RM_E_NOT_FOUND, status);
    } else {
        ++e->refs;
        CHECK_EQ(pin(e), status);
    }
    if (status == RM_OK)
        keep(&p);
    else
        CHECK(p.value == NULL);
}

/* Releases any pin that ever was; forged: 1 and 4 foreign, 2 and 3 stale. */
static void do_release(int index, uint32_t forged) {
    const rm_cache_pin none = {NULL, 0, 0, 0, 0};
    rm_cache_pin p = w.pins[index], before;
    rm_status status;
    if (forged == 1) ++p.cache;
    if (forged == 2) p.sequence += 2 * PINS;
    if (forged == 3) p.value = NULL;
    if (forged == 4) p.slot = w.desc.max_pins;
    before = p;
    status = rm_cache_release(w.cache, &p);
    if (forged == 1 || forged == 4) {
        CHECK_EQ(RM_E_FOREIGN, status);
    } else if (forged == 2 || forged == 3 || w.pinned[index] < 0) {
        CHECK_EQ(RM_E_STALE, status);
    } else {
        CHECK_EQ(RM_OK, status);
        --w.stats.pins;
        unref(&w.entries[w.pinned[index]]);
        w.pinned[index] = -1;
    }
    CHECK_SAME(&p, status == RM_OK ? &none : &before);
}

static void do_delete(void) {
    const int key = pick_key();
    const rm_status status = rm_cache_delete(w.cache, keys[key], key_size(key));
    entry *e = find(key);
    const bool live = e != NULL && !expired(e);
    if (e != NULL) unlink_entry(e, live ? RM_CACHE_CAUSE_DELETED : RM_CACHE_CAUSE_EXPIRED);
    CHECK_EQ(live ? RM_OK : RM_E_NOT_FOUND, status);
    overtake(key);
}

static void do_clear(bool as_resource) {
    const rm_resource resource = rm_cache_resource(w.cache);
    const rm_deadline never = {0};
    const uint32_t there = w.stats.entries;
    if (as_resource)
        CHECK_EQ(RM_OK, resource.stop_fn(resource.user, never, NULL));
    else
        CHECK_EQ(there, rm_cache_clear(w.cache));
    for (entry *e = w.entries; e < w.entries + ENTRIES; ++e)
        if (e->there && e->linked) unlink_entry(e, RM_CACHE_CAUSE_CLEARED);
    overtake(-1);
}

static void do_maintain(void) {
    const uint32_t buckets = (uint32_t)FUZZ_CHOOSE(w.in, 0, 1, 3, 16, 17, UINT32_MAX);
    const uint64_t count = rm_cache_maintain(w.cache, buckets);
    CHECK_EQ(sweep(buckets == 0 || buckets > BUCKETS ? BUCKETS : buckets), count);
}

/* The child forgets entries and pins, and their memory. */
static void do_fork(void) {
    CHECK_EQ(RM_OK, rm_cache_after_fork_child(w.cache));
    for (int i = 0; i < PINS; ++i)
        w.pinned[i] = -1;
    for (int i = 0; i < ENTRIES; ++i)
        w.forgotten += w.entries[i].there;
    memset(w.entries, 0, sizeof w.entries);
    memset(&w.stats, 0, sizeof w.stats);
    w.cursor = 0;
}

/* >>loading */

/* A load: sets a value, perhaps twice or never, uses the cache meanwhile, ends with a status. */
static rm_status load_fn(rm_cache_load *load, const void *key, size_t size_of_key,
                         rm_deadline deadline, rm_error *error, void *user) {
    loading *l = &w.loads[w.loads_count - 1];
    (void)error;
    CHECK(user == l && key_size(l->key) == size_of_key && deadline.at_ns > w.time.now);
    CHECK(memcmp(key, keys[l->key], size_of_key) == 0);
    check_removals(); /* what the look-up removed was told before the load */
    l->ran = true;
    for (uint32_t more = 1 + fuzz_below(w.in, 4); more > 0; --more) {
        const uint32_t what = fuzz_below(w.in, 4);
        if (what == 1 && w.loads_count < LOADS) step(w.loads_count);
        if (what == 2) w.time.now += RM_MS(1);
        if (what == 0 || what == 3) {
            const size_t size = pick_size();
            const uint8_t fill = ++w.fills;
            rm_status status;
            fail_next();
            status = rm_cache_load_set(load, value_of(fill, size < LARGEST ? size : 0), size);
            if (status == RM_OK) l->set = true, l->size = size, l->fill = fill;
            CHECK_EQ(size > LARGEST || (w.memory.fail && w.memory.fail <= w.memory.calls)
                         ? RM_E_NOMEM
                         : RM_OK,
                     status);
        }
    }
    w.memory.fail = 0;
    l->status = (rm_status)FUZZ_CHOOSE(w.in, RM_OK, RM_OK, RM_OK, RM_E_NOT_FOUND, RM_E_CANCELLED,
                                       RM_E_FAILED, RM_E_INVALID, RM_OK);
    return l->status;
}

/* How a load that was not refused ends. */
static rm_status model_load(loading *l, int64_t began_ns, int64_t ttl_ns) {
    rm_status status = l->status == RM_OK && !l->set ? RM_E_FAILED : l->status;
    entry *e;
    ++w.stats.loads;
    w.stats.load_failures += status != RM_OK;
    if (w.time.now - began_ns > w.stats.load_max_ns) w.stats.load_max_ns = w.time.now - began_ns;
    if (w.desc.guard != NULL) {
        const bool ignored = status == RM_E_CANCELLED || status == RM_E_INVALID;
        CHECK_EQ(status == RM_OK || status == RM_E_NOT_FOUND ? RM_OUTCOME_OK
                 : ignored                                   ? RM_OUTCOME_IGNORE
                                                             : RM_OUTCOME_FAILURE,
                 w.outcome);
    }
    if (status != RM_OK) return status;
    e = make(l->key, l->size, l->fill, ttl_ns);
    e->refs = 1;
    if (l->stale || !put(e)) {
        e->cause = RM_CACHE_CAUSE_REFUSED;
        ++w.stats.refused;
    }
    return pin(e);
}

static void do_load(void) {
    loading *l = &w.loads[w.loads_count];
    const int key = pick_key();
    const int64_t ttl = pick_ttl(), began_ns = w.time.now;
    rm_cache_loader loader = rm_cache_loader_make(load_fn, l);
    rm_error error = {0, RM_OK, "", ""};
    rm_cache_pin p = {NULL, 0, 0, 0, 0};
    rm_status status;
    entry *e;
    bool deadlock = false;
    for (int i = 0; i < w.loads_count; ++i)
        deadlock = deadlock || w.loads[i].key == key;
    loader.ttl_ns = ttl;
    memset(l, 0, sizeof *l);
    l->key = key;
    fail_next();
    if (!ttl_valid(ttl)) {
        CHECK_EQ(RM_E_INVALID,
                 rm_cache_get_or_load(w.cache, keys[key], key_size(key), &loader, 0, &p, NULL));
        return;
    }
    e = look_up(key); /* the model first: what the load itself does comes after it */
    ++w.loads_count;
    status = rm_cache_get_or_load(w.cache, keys[key], key_size(key), &loader, 0, &p, &error);
    --w.loads_count;
    CHECK_EQ(status, error.status);
    if (e != NULL) {
        ++e->refs;
        CHECK(!l->ran);
        CHECK_EQ(pin(e), status);
    } else if (l->ran) {
        CHECK(!deadlock);
        CHECK_EQ(model_load(l, began_ns, ttl), status);
    } else if (deadlock) {
        CHECK_EQ(RM_E_DEADLOCK, status);
    } else {
        CHECK(status == RM_E_NOMEM ? w.memory.fail != 0 && w.memory.fail <= w.memory.calls
                                   : status == RM_E_REJECTED && w.desc.guard != NULL);
    }
    if (status == RM_OK)
        keep(&p);
    else
        CHECK(p.value == NULL);
}

/* >>statistics */

static void compare(void) {
    rm_cache_stats s;
    uint64_t blocks = 3 + w.forgotten;
    check_removals();
    CHECK_EQ(RM_OK, rm_cache_stats_get(w.cache, &s));
    CHECK(s.load_p50_ns >= 0 && s.load_p50_ns <= s.load_p99_ns && s.load_p99_ns <= s.load_max_ns);
    w.stats.load_p50_ns = s.load_p50_ns; /* within a bin: not exact */
    w.stats.load_p99_ns = s.load_p99_ns;
    CHECK_SAME(&s, &w.stats);
    for (int i = 0; i < ENTRIES; ++i)
        blocks += w.entries[i].there;
    for (int i = 0; i < w.loads_count; ++i)
        blocks += 1u + w.loads[i].set;
    CHECK_EQ(blocks, w.memory.blocks);
    CHECK(w.loads_count > 0 || w.permits == w.reported);
    for (int i = 0; i < w.pin_count; ++i) {
        const entry *e = &w.entries[w.pinned[i] < 0 ? 0 : w.pinned[i]];
        CHECK(w.pinned[i] < 0 || is_value(w.pins[i].value, e->fill, e->size));
    }
}

static void count_sample(const rm_stat *stat, void *user) {
    CHECK(stat->value >= 0 && stat->help != NULL);
    ++*(int *)user;
}

/* depth: how many loads it is inside of. */
static void step(int depth) {
    const rm_resource resource = rm_cache_resource(w.cache);
    const uint32_t byte = fuzz_byte(w.in);
    int samples = 0;
    switch (byte % 16) {
    case 0:
    case 1:
    case 2: do_set(); break;
    case 3: do_get(); break;
    case 4:
    case 5:
    case 6: do_load(); break;
    case 7: do_acquire(); break;
    case 8:
    case 9:
        if (w.pin_count > 0) do_release((int)fuzz_byte(w.in) % w.pin_count, byte >> 4);
        break;
    case 10: do_delete(); break;
    case 11: do_clear(byte >= 128); break;
    case 12: do_maintain(); break;
    case 13: w.time.now += FUZZ_CHOOSE(w.in, 1, RM_MS(1) - 1, RM_MS(1), RM_SEC(1)); break;
    case 14:
        if (depth == 0) do_fork();
        break;
    default: resource.stats_fn(resource.user, count_sample, &samples); CHECK_EQ(16, samples);
    }
    w.memory.fail = 0;
    compare();
}

static void describe(fuzz_input *in) {
    const uint32_t hooks = fuzz_byte(in);
    memset(&w, 0, sizeof w);
    w.in = in;
    w.time.now = FUZZ_CHOOSE(in, RM_SEC(1), 0, -RM_SEC(1), RM_SEC(INT64_C(1) << 31));
    w.clock = fuzz_clock_make(&w.time);
    w.allocator = fuzz_memory_make(&w.memory);
    w.random = rm_rng_random(&w.rng);
    rm_rng_seed(&w.rng, 1);
    w.hash = rm_hash_key_random(&w.random);
    rm_rng_seed(&w.rng, 1); /* the cache draws the same key */
    w.env.clock = &w.clock;
    w.env.allocator = &w.allocator;
    w.env.random = &w.random;
    w.guard = (rm_guard){admit_fn, report_fn, &w};
    w.desc.env = &w.env;
    w.desc.guard = hooks & 1 ? &w.guard : NULL;
    w.desc.removed_fn = removed_fn;
    w.desc.user = &w;
    w.desc.max_entries = FUZZ_CHOOSE(in, 2, 1, 3, 4, RM_NONE);
    w.desc.max_bytes = FUZZ_CHOOSE(in, 300, 65, 200, 500, RM_NONE);
    if (w.desc.max_entries == RM_NONE && w.desc.max_bytes == RM_NONE) w.desc.max_bytes = 400;
    w.desc.ttl_ns = FUZZ_CHOOSE(in, 0, RM_NONE, RM_MS(1));
    w.desc.max_pins = 1 + fuzz_below(in, 3);
    for (int i = 0; i < PINS; ++i)
        w.pinned[i] = -1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_input in = {data, data + size};
    if (size > LONGEST) return 0;
    describe(&in);
    CHECK_EQ(RM_OK, rm_cache_create(&w.desc, &w.cache, NULL));
    while (fuzz_more(&in) && w.pin_count < PINS - LOADS)
        step(0);
    if (w.stats.pins > 0) CHECK_EQ(RM_E_BUSY, rm_cache_destroy(w.cache));
    for (int i = 0; i < w.pin_count; ++i)
        do_release(i, 0);
    compare();
    for (entry *e = w.entries; e < w.entries + ENTRIES; ++e)
        if (e->there) unlink_entry(e, RM_CACHE_CAUSE_CLEARED);
    w.ending = true;
    CHECK_EQ(RM_OK, rm_cache_destroy(w.cache));
    check_removals();
    CHECK_EQ(w.forgotten, w.memory.blocks);
    fuzz_memory_drop(&w.memory);
    return 0;
}

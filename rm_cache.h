#if defined(RM_STATIC) && !defined(RM_IMPLEMENTATION)
#define RM_IMPLEMENTATION
#endif
#if defined(RM_IMPLEMENTATION) && !defined(RM_CACHE_IMPLEMENTATION)
#define RM_CACHE_IMPLEMENTATION
#endif
#if defined(RM_CACHE_IMPLEMENTATION) && !defined(RMI_WANT_PRIVATE)
#define RMI_WANT_PRIVATE
#endif
/*  rm_cache.h 0.1.0 - a cache of bytes by key: LRU, time to live, single-flight loading.
    SPDX-License-Identifier: MIT OR Unlicense

QUICK START
    #define RM_IMPLEMENTATION // in exactly one C or C++ file, before the first system header
    #include "rm_cache.h"

    static rm_status load_price(rm_cache_load *load, const void *key, size_t key_size,
                                rm_deadline deadline, rm_error *error, void *user) {
        const double price = 9.95; // ask the database here
        (void)key, (void)key_size, (void)deadline, (void)error, (void)user;
        return rm_cache_load_set(load, &price, sizeof price);
    }

    int main(void) {
        rm_cache *cache = NULL;
        rm_cache_pin pin;
        rm_cache_loader loader = rm_cache_loader_make(load_price, NULL);
        rm_cache_desc desc = rm_cache_desc_default();
        double price = 0;
        size_t size = 0;
        desc.max_entries = 1000;
        if (rm_cache_create(&desc, &cache, NULL) != RM_OK) return 1;
        if (rm_cache_get_or_load(cache, "tea", 3, &loader, RM_SEC(1), &pin, NULL) != RM_OK)
            return 1;
        // pin.value is valid until it is released
        if (rm_cache_release(cache, &pin) != RM_OK) return 1;
        if (rm_cache_get(cache, "tea", 3, &price, sizeof price, &size) != RM_OK) return 1;
        return rm_cache_destroy(cache) == RM_OK && price > 9 ? 0 : 1;
    }

WHAT IT DOES
    Maps keys to values, both any bytes, within a bound on entries and a bound on bytes that holds
    at every moment; the least recently used entry makes room. Every entry can have its own time to
    live. A miss can be loaded: one caller loads, the others wait for that result. Values are read
    by copy or in place through a pin. A removal callback tells of every entry that goes, and why.

WHAT IT DOES NOT DO
    One lock for the whole cache: it is exact LRU, and does not scale with threads yet. One
    allocation an entry. No other policy, no refresh ahead, no negative caching, no second tier, no
    bulk operations yet. Two loaders that wait for each other's keys wait until their deadlines.

DEFINES
    RM_CACHE_IMPLEMENTATION  emit the cache only; RM_IMPLEMENTATION emits all [one C file]

CONCEPTS
    Bytes     An entry is charged what it takes: its header (RM_CACHE_OVERHEAD), key and value.
              A loaded value that could not be cached is handed out and not charged.
    Pins      A pin is {slot, sequence} and keeps its value in place: a pinned entry is not evicted,
              and when it is deleted or replaced its memory stays, charged, until the last release.
              A second release, a stale copy and another cache's pin are statuses.
    Expiry    An entry is gone from the nanosecond of its expiry on. Both ends are seen on the
              coarse clock: up to one step of it (4 ms) early or late. Its memory comes back when a
              get meets it, when sets sweep past it (4 buckets a set) or by rm_cache_maintain.
    Loading   On a miss one caller runs load_fn, without a lock; others wait, each until its own
              deadline. A failure goes to all who wait, and nothing is cached. A delete, set or
              clear of the key during the load wins: the older result goes to those who waited for
              it and is not cached. Loading a key from inside its own load_fn is RM_E_DEADLOCK.
    Guard     With a guard (such as rm_breaker_guard) every load is admitted first. RM_OK and
              RM_E_NOT_FOUND are reported as success, RM_E_CANCELLED and RM_E_INVALID as neither,
              everything else as failure.
    Removal   removed_fn runs once for every entry that was in the cache, or was loaded and could
              not be: without a lock, in the thread that caused it, after its last pin is released.

THREADS
    rm_cache_create, rm_cache_destroy   owner: no other call at the same time
    everything else                     any thread, also from load_fn and removed_fn
    load_fn, removed_fn                 hooks: without a lock
    Lock order: the cache's one lock (a wait queue's).

MEMORY
    rm_cache_create: 8 bytes for each entry there may be, up to a power of two, and 24 bytes a pin.
    Each set and each load: one entry. A get, a pin and a release allocate nothing.

ERRORS
    RM_E_NOT_FOUND  no such key, or it has expired     RM_E_TOO_LARGE  above max_bytes, or the
    RM_E_FULL       all is pinned; max_pins are out                    caller's buffer is too small
    RM_E_TIMEOUT    waited for another's load          RM_E_DEADLOCK   a load that needs itself
    RM_E_REJECTED   the guard refused the load         RM_E_STALE      a second release
    RM_E_FOREIGN    another cache's pin                RM_E_CLOSED     it is being destroyed
    RM_E_INVALID    a bad argument or setting          other           what load_fn returned

GLOBALS
    One counter of cache numbers; per thread the hooks of caches that it is in.
*/
#include "rm.h"
#if defined(RM_CACHE_VERSION) && RM_CACHE_VERSION != 100
#error "rm_cache.h: two releases of rm_cache.h meet in this file; use the headers of one release"
#endif
#ifndef RM_CACHE_H_INCLUDED
#define RM_CACHE_H_INCLUDED
#define RM_CACHE_VERSION 100
#if RM_BASE_VERSION != RM_CACHE_VERSION
#error "rm_cache.h and rm.h are of different releases; use the headers of one release"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* >>types */

enum { RM_CACHE_OVERHEAD = 64 }; /* bytes charged for an entry beside its key and value */

/* A cache. Opaque. */
typedef struct rm_cache rm_cache;

/* A load in progress, as load_fn sees it. Opaque. */
typedef struct rm_cache_load rm_cache_load;

/* The right to read a value in place until it is released. A plain value; zeroed = none. */
typedef struct rm_cache_pin {
    const void *value; /* aligned as by malloc; never NULL in a pin, even when size is 0 */
    size_t size;
    uint64_t sequence;
    uint32_t cache;
    uint32_t slot;
} rm_cache_pin;

/* Why an entry went. */
typedef enum rm_cache_cause {
    RM_CACHE_CAUSE_EVICTED = 0, /* made room for another */
    RM_CACHE_CAUSE_EXPIRED,     /* its time to live was over */
    RM_CACHE_CAUSE_REPLACED,    /* set or loaded anew */
    RM_CACHE_CAUSE_DELETED,     /* rm_cache_delete */
    RM_CACHE_CAUSE_CLEARED,     /* rm_cache_clear or rm_cache_destroy */
    RM_CACHE_CAUSE_REFUSED      /* loaded, but could not be cached: too large, no room, or stale */
} rm_cache_cause;

/* How to load what is missing. */
typedef struct rm_cache_loader {
    /* hook: hands the value to rm_cache_load_set and returns RM_OK; or why it cannot */
    rm_status (*load_fn)(rm_cache_load *load, const void *key, size_t key_size,
                         rm_deadline deadline, rm_error *error, void *user);
    void *user;     /* last argument of load_fn */
    int64_t ttl_ns; /* time to live of what it loads; 0 = desc.ttl_ns; RM_NONE = for ever */
} rm_cache_loader;

/* Totals since creation, and the present size. The hit ratio is hits / (hits + misses). */
typedef struct rm_cache_stats {
    uint64_t hits;
    uint64_t misses; /* look-ups that found nothing, or something expired */
    uint64_t sets;   /* entries put in by rm_cache_set */
    uint64_t loads;  /* load_fn calls that have ended; what the guard refused is none */
    uint64_t load_failures;
    uint64_t load_waits; /* calls that waited for another's load */
    uint64_t evicted, expired, replaced, deleted, cleared, refused; /* removals by cause */
    uint32_t entries;
    uint32_t pins;
    uint64_t bytes; /* charged, including what is only pinned any more */
    int64_t load_p50_ns, load_p99_ns, load_max_ns;
} rm_cache_stats;

/* >>desc */

typedef struct rm_cache_desc {
    const char *name;      /* for errors and statistics; at most 47 bytes, copied; 0 = "cache" */
    const rm_env *env;     /* 0 = defaults */
    int64_t max_entries;   /* 0 = 10,000; RM_NONE = bounded by bytes only; at most 2^31 */
    int64_t max_bytes;     /* 0 = 64 MiB; RM_NONE = bounded by entries only */
    int64_t ttl_ns;        /* time to live; 0 = 1 h; RM_NONE = for ever */
    uint32_t max_pins;     /* pins that may be out at once; 0 = 1024; at most 2^24 */
    const rm_guard *guard; /* asked before every load; copied; 0 = none */
    /* hook: an entry has gone; 0 = nothing to do */
    void (*removed_fn)(const void *key, size_t key_size, const void *value, size_t size,
                       rm_cache_cause cause, void *user);
    void *user; /* last argument of removed_fn */
} rm_cache_desc;

/* >>create and destroy */

/* A desc with every default filled in.
   Returns: the desc.
   Threads: any. Blocks: no. Allocates: no. */
RM_API rm_cache_desc rm_cache_desc_default(void);

/* A loader with the cache's time to live.
   Returns: the loader.
   Threads: any. Blocks: no. Allocates: no. */
RM_API rm_cache_loader rm_cache_loader_make(rm_status (*load_fn)(rm_cache_load *load,
                                                                 const void *key, size_t key_size,
                                                                 rm_deadline deadline,
                                                                 rm_error *error, void *user),
                                            void *user);

/* The function behind rm_cache_create. If the linker misses it, do what its name says.
   Returns: as rm_cache_create.
   Threads: owner. Blocks: no. Allocates: yes. Owns: the caller. */
RM_API rm_status rm_abi1_define_RM_CACHE_IMPLEMENTATION_in_one_c_file(const rm_cache_desc *desc,
                                                                      rm_cache **out,
                                                                      rm_error *error);

/* Makes an empty cache; desc NULL = defaults.
   Returns: RM_E_INVALID naming the field; RM_E_TOO_LARGE for a long name; RM_E_NOMEM; RM_E_SYSTEM.
   Threads: owner. Blocks: no. Allocates: yes. Owns: the caller; rm_cache_destroy. */
static inline RM_MUST_USE rm_status rm_cache_create(const rm_cache_desc *desc, rm_cache **out,
                                                    rm_error *error) {
    return rm_abi1_define_RM_CACHE_IMPLEMENTATION_in_one_c_file(desc, out, error);
}

/* Ends a cache and its entries; NULL is allowed. What removed_fn would put in is refused.
   Returns: RM_E_BUSY, with nothing done, while a pin is out or a load runs or is waited for, and
   from inside its own hooks.
   Threads: owner. Blocks: in removed_fn. Allocates: no. Cost: O(entries). */
RM_API rm_status rm_cache_destroy(rm_cache *cache);

/* >>read */

/* Copies a value out. On RM_E_TOO_LARGE nothing is copied and *size is what it takes; size may be
   NULL.
   Returns: RM_E_NOT_FOUND; RM_E_TOO_LARGE; RM_E_INVALID for NULL.
   Threads: any. Blocks: for a short lock; in removed_fn when it has expired. Allocates: no.
   Cost: O(size). */
RM_API rm_status rm_cache_get(rm_cache *cache, const void *key, size_t key_size, void *buffer,
                              size_t capacity, size_t *size);

/* Pins a value, to read it in place.
   Returns: RM_E_NOT_FOUND; RM_E_FULL when max_pins are out; RM_E_INVALID for NULL.
   Threads: any. Blocks: for a short lock; in removed_fn when it has expired. Allocates: no.
   Owns: the caller; rm_cache_release. */
RM_API RM_MUST_USE rm_status rm_cache_acquire(rm_cache *cache, const void *key, size_t key_size,
                                              rm_cache_pin *out);

/* Gives a pin back and zeroes it. The entry counts as used now.
   Returns: RM_E_STALE for a pin that was released before; RM_E_FOREIGN; RM_E_INVALID for NULL.
   Threads: any. Blocks: for a short lock, in removed_fn. Allocates: no. */
RM_API rm_status rm_cache_release(rm_cache *cache, rm_cache_pin *pin);

/* Pins a value, and loads it first if it is missing: one caller at a time for a key. timeout_ns
   bounds the wait for another's load and is what load_fn gets as its deadline; 0 = 30 s.
   Returns: RM_E_TIMEOUT; RM_E_DEADLOCK; RM_E_REJECTED; RM_E_FULL; RM_E_NOMEM; load_fn's status, of
   which error tells more to the loader and to all who waited; RM_E_FAILED when load_fn returned
   RM_OK without a value; RM_E_CLOSED in rm_cache_destroy; RM_E_INVALID; RM_E_SYSTEM.
   Threads: any. Blocks: up to timeout_ns, in load_fn, in removed_fn. Allocates: on a miss.
   Owns: the caller; rm_cache_release. Cost: O(loads in progress). */
RM_API RM_MUST_USE rm_status rm_cache_get_or_load(rm_cache *cache, const void *key, size_t key_size,
                                                  const rm_cache_loader *loader, int64_t timeout_ns,
                                                  rm_cache_pin *out, rm_error *error);

/* Hands over a loaded value, which is copied; a second call replaces the first.
   Returns: RM_E_NOMEM; RM_E_INVALID for NULL.
   Threads: the one that runs load_fn. Blocks: no. Allocates: yes. Cost: O(size). */
RM_API rm_status rm_cache_load_set(rm_cache_load *load, const void *value, size_t size);

/* >>write */

/* Puts a value in, in place of any that is there. ttl_ns 0 = desc.ttl_ns; RM_NONE = for ever.
   Returns: RM_E_TOO_LARGE above max_bytes; RM_E_FULL when what is pinned leaves no room (both leave
   all as it was); RM_E_NOMEM; RM_E_CLOSED in rm_cache_destroy; RM_E_INVALID.
   Threads: any. Blocks: for a short lock, in removed_fn. Allocates: yes.
   Cost: O(size + evicted). */
RM_API rm_status rm_cache_set(rm_cache *cache, const void *key, size_t key_size, const void *value,
                              size_t size, int64_t ttl_ns, rm_error *error);

/* Takes a value out.
   Returns: RM_E_NOT_FOUND; RM_E_INVALID for NULL.
   Threads: any. Blocks: for a short lock, in removed_fn. Allocates: no. */
RM_API rm_status rm_cache_delete(rm_cache *cache, const void *key, size_t key_size);

/* Takes all values out.
   Returns: how many there were.
   Threads: any. Blocks: for a lock, in removed_fn. Allocates: no. Cost: O(entries + buckets). */
RM_API uint64_t rm_cache_clear(rm_cache *cache);

/* >>upkeep */

/* Makes a cache usable in the child of a fork(): empty, its statistics at zero. The entries of the
   parent are forgotten without removed_fn, and their memory is not freed, since another thread may
   just have been linking them; pins from before are stale.
   Returns: RM_E_INVALID for NULL; RM_E_SYSTEM, with nothing usable.
   Threads: the child's only one. Blocks: no. Allocates: no. Cost: O(buckets + max_pins). */
RM_API rm_status rm_cache_after_fork_child(rm_cache *cache);

/* Looks at the next `buckets` buckets (0 = all) and takes out what has expired.
   Returns: how many were taken out.
   Threads: any. Blocks: for a lock, in removed_fn. Allocates: no. Cost: O(buckets). */
RM_API uint64_t rm_cache_maintain(rm_cache *cache, uint32_t buckets);

/* Reads the statistics.
   Returns: RM_E_INVALID for NULL.
   Threads: any. Blocks: for a short lock. Allocates: no. */
RM_API rm_status rm_cache_stats_get(rm_cache *cache, rm_cache_stats *out);

/* The desc in force, with every default filled in.
   Returns: RM_E_INVALID for NULL.
   Threads: any. Blocks: no. Allocates: no. Owns: the cache has the name. */
RM_API rm_status rm_cache_desc_get(const rm_cache *cache, rm_cache_desc *out);

/* The cache as a resource for a manager or for rm_metrics; stop clears it.
   Returns: the resource; one with a NULL name for NULL.
   Threads: any. Blocks: no. Allocates: no. Owns: the cache has the name. */
RM_API rm_resource rm_cache_resource(rm_cache *cache);

/* Names a cause, such as "evicted".
   Returns: a static string; "unknown" for a number that is no cause.
   Threads: any. Blocks: no. Allocates: no. */
RM_API const char *rm_cache_cause_name(rm_cache_cause cause);

#ifdef __cplusplus
}
#endif
#endif /* RM_CACHE_H_INCLUDED */

/* ========================================================================================== */
/* Implementation.                                                                            */
/* ========================================================================================== */
#if defined(RM_CACHE_IMPLEMENTATION) && !defined(RM_CACHE_IMPLEMENTATION_DONE)
#define RM_CACHE_IMPLEMENTATION_DONE

#ifdef __cplusplus
extern "C" {
#endif

/* >>private types
   The wait queue's lock guards everything. An entry is one block: header, value, key. It is linked
   (in a bucket and counted), or not: then it lives until its last reference is gone. References are
   pins, and results on their way to those who waited for a load. Only linked entries without a
   reference are in the LRU list, so that eviction never has to look past what is pinned. */

typedef struct rmi_cache_entry {
    struct rmi_cache_entry *next; /* in the bucket; or in the list of removed ones */
    struct rmi_cache_entry *newer, *older;
    uint64_t hash;
    int64_t expires_ns; /* INT64_MAX = never */
    size_t key_size, size;
    uint32_t refs;
    bool linked;
    uint8_t cause; /* once it is not linked */
} rmi_cache_entry;

typedef char rmi_cache_overhead_fits[sizeof(rmi_cache_entry) <= RM_CACHE_OVERHEAD ? 1 : -1];

typedef struct rmi_cache_pinned {
    rmi_cache_entry *entry;
    uint64_t sequence;
    uint32_t next; /* free list: slot + 1; 0 = end */
} rmi_cache_pinned;

/* Shared by the loading call and those that wait for it; the last one frees it. */
struct rm_cache_load {
    struct rm_cache_load *next;
    rm_cache *cache;
    rmi_cache_entry *entry;
    const void *key; /* the loading call's; not used after it has ended */
    size_t key_size;
    uint64_t hash;
    int64_t ttl_ns;
    rm_error error;
    uint32_t thread;
    uint32_t users;
    bool stale; /* the key was written during the load: its result must not be cached */
    bool ran;   /* load_fn was called */
    bool done;  /* published: error is final, and its status is the load's */
};

/* 1 us to 100 s, 16 bins a decade */
enum { RMI_CACHE_LOAD_FIRST = 3, RMI_CACHE_LOAD_LAST = 11, RMI_CACHE_LOAD_BINS = 135 };
enum { RMI_CACHE_SWEEP = 4 };

struct rm_cache {
    rm_waitq queue; /* the lock, and the waits for loads */
    rm_cache_desc desc;
    rm_env env;
    rm_guard guard;
    char name[48];
    rm_hash_key key;
    rmi_cache_entry **buckets;
    size_t bucket_count;
    size_t cursor;                    /* of the sweep */
    rmi_cache_entry *newest, *oldest; /* the LRU list */
    uint64_t idle_bytes;              /* charged for the entries in it */
    uint32_t idle;                    /* entries in it */
    bool closed;                      /* being destroyed */
    rmi_cache_entry *removed;         /* to be told and freed once the lock is free */
    rm_cache_load *loads;
    rmi_cache_pinned *pinned;
    uint32_t free_pin;
    uint32_t number;
    uint32_t loading; /* calls that load, or wait for a load */
    rm_cache_stats stats;
    rm_hist load_times;
    rmi_word64 load_bins[RMI_CACHE_LOAD_BINS]; /* as rm_hist wants them */
};

static uint32_t rmi_cache_numbers;
#ifndef RM_NO_TLS
static RMI_TLS const rmi_inside *rmi_cache_hooks; /* that run while no load shows it */
#endif

/* >>core: entries */

/* The value follows the header, aligned for anything; the key follows the value. */
static unsigned char *rmi_cache_value(rmi_cache_entry *entry) {
    return (unsigned char *)entry + RM_CACHE_OVERHEAD;
}

static unsigned char *rmi_cache_key(rmi_cache_entry *entry) {
    return rmi_cache_value(entry) + entry->size;
}

static size_t rmi_cache_charge(const rmi_cache_entry *entry) {
    return RM_CACHE_OVERHEAD + entry->key_size + entry->size;
}

/* Is an entry of this size within the bound on bytes, were it alone? */
static bool rmi_cache_fits(const rm_cache *cache, size_t key_size, size_t size) {
    size_t charge;
    if (!rm_size_add(key_size, size, &charge) || !rm_size_add(charge, RM_CACHE_OVERHEAD, &charge))
        return false;
    return cache->desc.max_bytes == RM_NONE || charge <= (uint64_t)cache->desc.max_bytes;
}

static rmi_cache_entry *rmi_cache_make(rm_cache *cache, const void *key, size_t key_size,
                                       uint64_t hash, const void *value, size_t size) {
    size_t charge = 0;
    rmi_cache_entry *entry;
    if (!rm_size_add(key_size, size, &charge) || !rm_size_add(charge, RM_CACHE_OVERHEAD, &charge))
        return NULL;
    entry = (rmi_cache_entry *)rm_alloc(cache->env.allocator, charge);
    if (entry == NULL) return NULL;
    memset(entry, 0, sizeof *entry);
    entry->hash = hash;
    entry->key_size = key_size;
    entry->size = size;
    if (size > 0) memcpy(rmi_cache_value(entry), value, size);
    if (key_size > 0) memcpy(rmi_cache_key(entry), key, key_size);
    return entry;
}

static void rmi_cache_free(rm_cache *cache, rmi_cache_entry *entry) {
    if (entry != NULL) rm_free(cache->env.allocator, entry, rmi_cache_charge(entry));
}

static bool rmi_cache_is(const rmi_cache_entry *entry, uint64_t hash, const void *key,
                         size_t key_size) {
    if (entry->hash != hash || entry->key_size != key_size) return false;
    return key_size == 0 || memcmp((const unsigned char *)entry + RM_CACHE_OVERHEAD + entry->size,
                                   key, key_size) == 0;
}

static rmi_cache_entry **rmi_cache_bucket(rm_cache *cache, uint64_t hash) {
    return &cache->buckets[hash & (cache->bucket_count - 1)];
}

/* The link to a key's entry; *link is NULL when there is none. */
static rmi_cache_entry **rmi_cache_find(rm_cache *cache, uint64_t hash, const void *key,
                                        size_t key_size) {
    rmi_cache_entry **link = rmi_cache_bucket(cache, hash);
    while (*link != NULL && !rmi_cache_is(*link, hash, key, key_size))
        link = &(*link)->next;
    return link;
}

static void rmi_cache_lru_add(rm_cache *cache, rmi_cache_entry *entry) {
    entry->newer = NULL;
    entry->older = cache->newest;
    if (cache->newest != NULL)
        cache->newest->newer = entry;
    else
        cache->oldest = entry;
    cache->newest = entry;
    ++cache->idle;
    cache->idle_bytes += rmi_cache_charge(entry);
}

static void rmi_cache_lru_remove(rm_cache *cache, rmi_cache_entry *entry) {
    if (entry->newer != NULL)
        entry->newer->older = entry->older;
    else
        cache->newest = entry->older;
    if (entry->older != NULL)
        entry->older->newer = entry->newer;
    else
        cache->oldest = entry->newer;
    --cache->idle;
    cache->idle_bytes -= rmi_cache_charge(entry);
}

/* An entry that is neither linked nor referenced goes to the removed ones. */
static void rmi_cache_retire(rm_cache *cache, rmi_cache_entry *entry) {
    entry->next = cache->removed;
    cache->removed = entry;
    if (entry->cause != RM_CACHE_CAUSE_REFUSED) /* that was never charged */
        cache->stats.bytes -= rmi_cache_charge(entry);
}

/* Takes an entry out of its bucket; it is freed now or after its last release. */
static void rmi_cache_unlink(rm_cache *cache, rmi_cache_entry **link, rm_cache_cause cause) {
    rmi_cache_entry *entry = *link;
    uint64_t *const counters[] = {&cache->stats.evicted,  &cache->stats.expired,
                                  &cache->stats.replaced, &cache->stats.deleted,
                                  &cache->stats.cleared,  &cache->stats.refused};
    *link = entry->next;
    entry->linked = false;
    entry->cause = (uint8_t)cause;
    ++*counters[cause];
    --cache->stats.entries;
    if (entry->refs > 0) return;
    rmi_cache_lru_remove(cache, entry);
    rmi_cache_retire(cache, entry);
}

static void rmi_cache_ref(rm_cache *cache, rmi_cache_entry *entry, uint32_t count) {
    if (entry->linked && entry->refs == 0) rmi_cache_lru_remove(cache, entry);
    entry->refs += count;
}

static void rmi_cache_unref(rm_cache *cache, rmi_cache_entry *entry) {
    if (--entry->refs > 0) return;
    if (entry->linked)
        rmi_cache_lru_add(cache, entry);
    else
        rmi_cache_retire(cache, entry);
}

/* Gives up the lock, then tells of and frees what was removed under it. */
static void rmi_cache_unlock(rm_cache *cache) {
    rmi_cache_entry *entry = cache->removed, *next;
    rmi_inside here;
    cache->removed = NULL;
    rm_waitq_unlock(&cache->queue);
    if (entry == NULL) return;
    RMI_ENTER(rmi_cache_hooks, here, cache);
    for (; entry != NULL; entry = next) {
        next = entry->next;
        if (cache->desc.removed_fn != NULL)
            cache->desc.removed_fn(rmi_cache_key(entry), entry->key_size, rmi_cache_value(entry),
                                   entry->size, (rm_cache_cause)entry->cause, cache->desc.user);
        rmi_cache_free(cache, entry);
    }
    RMI_LEAVE(rmi_cache_hooks, here);
}

/* >>core: bounds and time */

static int64_t rmi_cache_expiry(const rm_cache *cache, int64_t ttl_ns) {
    if (ttl_ns == 0) ttl_ns = cache->desc.ttl_ns;
    if (ttl_ns == RM_NONE) return INT64_MAX;
    return rm_time_add(rm_now_coarse(cache->env.clock), ttl_ns);
}

static bool rmi_cache_ttl_valid(int64_t ttl_ns) {
    return ttl_ns >= 0 || ttl_ns == RM_NONE;
}

static bool rmi_cache_expired(const rmi_cache_entry *entry, int64_t now) {
    return now >= entry->expires_ns && entry->expires_ns != INT64_MAX;
}

static uint64_t rmi_cache_sweep(rm_cache *cache, size_t buckets) {
    const int64_t now = rm_now_coarse(cache->env.clock);
    uint64_t count = 0;
    for (; buckets > 0; --buckets) {
        rmi_cache_entry **link = &cache->buckets[cache->cursor];
        cache->cursor = (cache->cursor + 1) & (cache->bucket_count - 1);
        while (*link != NULL) {
            if (!rmi_cache_expired(*link, now)) {
                link = &(*link)->next;
                continue;
            }
            rmi_cache_unlink(cache, link, RM_CACHE_CAUSE_EXPIRED);
            ++count;
        }
    }
    return count;
}

/* Is there room for one more entry of this charge, once `old` (may be NULL) has gone and, with
   `evicting`, everything else that is not pinned? */
static bool rmi_cache_has_room(const rm_cache *cache, size_t charge, const rmi_cache_entry *old,
                               bool evicting) {
    const bool old_idle = old != NULL && old->refs == 0;
    uint64_t entries = cache->stats.entries + 1u - (old != NULL ? 1u : 0u);
    uint64_t freed = old_idle ? rmi_cache_charge(old) : 0;
    if (evicting) {
        entries -= cache->idle - (old_idle ? 1u : 0u);
        freed = cache->idle_bytes;
    }
    if (cache->desc.max_entries != RM_NONE && entries > (uint64_t)cache->desc.max_entries)
        return false;
    if (cache->desc.max_bytes == RM_NONE) return true;
    return cache->stats.bytes - freed + charge <= (uint64_t)cache->desc.max_bytes;
}

/* Puts an entry in, in place of the one that is there; evicts the least recently used for it.
   Returns false, with nothing evicted, when what is pinned leaves no room. */
static bool rmi_cache_link(rm_cache *cache, rmi_cache_entry *entry) {
    const unsigned char *key = rmi_cache_key(entry);
    rmi_cache_entry *old = *rmi_cache_find(cache, entry->hash, key, entry->key_size);
    const size_t charge = rmi_cache_charge(entry);
    rmi_cache_entry **link;
    if (!rmi_cache_has_room(cache, charge, old, true)) return false;
    while (!rmi_cache_has_room(cache, charge, old, false)) {
        rmi_cache_entry *victim = cache->oldest == old ? old->newer : cache->oldest;
        link = rmi_cache_bucket(cache, victim->hash);
        while (*link != victim)
            link = &(*link)->next;
        rmi_cache_unlink(cache, link, RM_CACHE_CAUSE_EVICTED);
    }
    link = rmi_cache_find(cache, entry->hash, key, entry->key_size);
    if (*link != NULL) rmi_cache_unlink(cache, link, RM_CACHE_CAUSE_REPLACED);
    link = rmi_cache_bucket(cache, entry->hash);
    entry->next = *link;
    *link = entry;
    entry->linked = true;
    ++cache->stats.entries;
    cache->stats.bytes += charge;
    if (entry->refs == 0) rmi_cache_lru_add(cache, entry);
    return true;
}

static bool rmi_cache_load_is(const rm_cache_load *load, uint64_t hash, const void *key,
                              size_t key_size) {
    return load->hash == hash && load->key_size == key_size &&
           (key_size == 0 || memcmp(load->key, key, key_size) == 0);
}

/* Marks loads of a key (NULL = all) as overtaken by a write. */
static void rmi_cache_overtake(rm_cache *cache, uint64_t hash, const void *key, size_t key_size) {
    rm_cache_load *load;
    for (load = cache->loads; load != NULL; load = load->next) {
        if (key == NULL || rmi_cache_load_is(load, hash, key, key_size)) load->stale = true;
    }
}

/* >>core: look-ups and pins */

/* The live entry of a key, counted as a hit; NULL is counted as a miss. */
static rmi_cache_entry *rmi_cache_lookup(rm_cache *cache, uint64_t hash, const void *key,
                                         size_t key_size) {
    rmi_cache_entry **link = rmi_cache_find(cache, hash, key, key_size);
    if (*link != NULL && (*link)->expires_ns != INT64_MAX &&
        rmi_cache_expired(*link, rm_now_coarse(cache->env.clock)))
        rmi_cache_unlink(cache, link, RM_CACHE_CAUSE_EXPIRED), link = NULL;
    if (link == NULL || *link == NULL) {
        ++cache->stats.misses;
        return NULL;
    }
    ++cache->stats.hits;
    if ((*link)->refs == 0 && cache->newest != *link) {
        rmi_cache_lru_remove(cache, *link);
        rmi_cache_lru_add(cache, *link);
    }
    return *link;
}

/* Turns one reference that was taken into a pin; without a free slot it is given up. */
static rm_status rmi_cache_pin(rm_cache *cache, rmi_cache_entry *entry, rm_cache_pin *out) {
    rmi_cache_pinned *pinned;
    if (cache->free_pin == 0) {
        rmi_cache_unref(cache, entry);
        return RM_E_FULL;
    }
    out->slot = cache->free_pin - 1;
    pinned = &cache->pinned[out->slot];
    cache->free_pin = pinned->next;
    pinned->entry = entry;
    ++cache->stats.pins;
    out->sequence = ++pinned->sequence;
    out->cache = cache->number;
    out->value = rmi_cache_value(entry);
    out->size = entry->size;
    return RM_OK;
}

static rm_status rmi_cache_hand_out(rm_cache *cache, rmi_cache_entry *entry, rm_cache_pin *out,
                                    rm_error *error) {
    if (rmi_cache_pin(cache, entry, out) == RM_OK) return RM_OK;
    return rm_error_set(error, RM_E_FULL, 0, cache->name,
                        "max_pins (%u) are out; release some or raise it",
                        (unsigned)cache->desc.max_pins);
}

RM_API rm_status rm_cache_get(rm_cache *cache, const void *key, size_t key_size, void *buffer,
                              size_t capacity, size_t *size) {
    rm_status status = RM_OK;
    rmi_cache_entry *entry;
    uint64_t hash;
    if (cache == NULL || (key == NULL && key_size > 0) || (buffer == NULL && capacity > 0))
        return RM_E_INVALID;
    hash = rm_hash(&cache->key, key, key_size);
    rm_waitq_lock(&cache->queue);
    entry = rmi_cache_lookup(cache, hash, key, key_size);
    if (entry == NULL) {
        status = RM_E_NOT_FOUND;
    } else {
        if (size != NULL) *size = entry->size;
        if (entry->size > capacity)
            status = RM_E_TOO_LARGE;
        else if (entry->size > 0)
            memcpy(buffer, rmi_cache_value(entry), entry->size);
    }
    rmi_cache_unlock(cache);
    return status;
}

RM_API rm_status rm_cache_acquire(rm_cache *cache, const void *key, size_t key_size,
                                  rm_cache_pin *out) {
    rm_status status = RM_E_NOT_FOUND;
    rmi_cache_entry *entry;
    uint64_t hash;
    if (cache == NULL || (key == NULL && key_size > 0) || out == NULL) return RM_E_INVALID;
    hash = rm_hash(&cache->key, key, key_size);
    rm_waitq_lock(&cache->queue);
    entry = rmi_cache_lookup(cache, hash, key, key_size);
    if (entry != NULL) {
        rmi_cache_ref(cache, entry, 1);
        status = rmi_cache_pin(cache, entry, out);
    }
    rmi_cache_unlock(cache);
    return status;
}

RM_API rm_status rm_cache_release(rm_cache *cache, rm_cache_pin *pin) {
    rmi_cache_pinned *pinned;
    rm_status status = RM_E_STALE;
    if (cache == NULL || pin == NULL) return RM_E_INVALID;
    if (pin->value == NULL) return RM_E_STALE;
    if (pin->cache != cache->number || pin->slot >= cache->desc.max_pins) return RM_E_FOREIGN;
    rm_waitq_lock(&cache->queue);
    pinned = &cache->pinned[pin->slot];
    if (pinned->entry != NULL && pinned->sequence == pin->sequence) {
        rmi_cache_unref(cache, pinned->entry);
        pinned->entry = NULL;
        pinned->next = cache->free_pin;
        cache->free_pin = pin->slot + 1;
        --cache->stats.pins;
        status = RM_OK;
    }
    rmi_cache_unlock(cache);
    if (status == RM_OK) memset(pin, 0, sizeof *pin);
    return status;
}

/* >>public: write */

RM_API rm_status rm_cache_set(rm_cache *cache, const void *key, size_t key_size, const void *value,
                              size_t size, int64_t ttl_ns, rm_error *error) {
    rmi_cache_entry *entry;
    bool linked, closed;
    uint64_t hash;
    if (cache == NULL || (key == NULL && key_size > 0) || (value == NULL && size > 0))
        return rm_error_set(error, RM_E_INVALID, 0, "cache", "cache, key or value is NULL");
    if (!rmi_cache_ttl_valid(ttl_ns)) return rmi_bad(error, "ttl_ns", "a time or RM_NONE");
    if (!rmi_cache_fits(cache, key_size, size))
        return rm_error_set(error, RM_E_TOO_LARGE, 0, cache->name,
                            "key and value are above max_bytes (%lld)",
                            (long long)cache->desc.max_bytes);
    hash = rm_hash(&cache->key, key, key_size);
    entry = rmi_cache_make(cache, key, key_size, hash, value, size);
    if (entry == NULL)
        return rm_error_set(error, RM_E_NOMEM, 0, cache->name, "no memory for an entry");
    entry->expires_ns = rmi_cache_expiry(cache, ttl_ns);
    rm_waitq_lock(&cache->queue);
    (void)rmi_cache_sweep(cache, RMI_CACHE_SWEEP);
    closed = cache->closed;
    linked = !closed && rmi_cache_link(cache, entry);
    if (linked) {
        ++cache->stats.sets;
        rmi_cache_overtake(cache, hash, key == NULL ? "" : key, key_size);
    }
    rmi_cache_unlock(cache);
    if (linked) return RM_OK;
    rmi_cache_free(cache, entry);
    if (closed)
        return rm_error_set(error, RM_E_CLOSED, 0, cache->name, "the cache is being destroyed");
    return rm_error_set(error, RM_E_FULL, 0, cache->name,
                        "what is pinned leaves no room; release pins or raise the bounds");
}

RM_API rm_status rm_cache_delete(rm_cache *cache, const void *key, size_t key_size) {
    rm_status status = RM_E_NOT_FOUND;
    rmi_cache_entry **link;
    uint64_t hash;
    if (cache == NULL || (key == NULL && key_size > 0)) return RM_E_INVALID;
    hash = rm_hash(&cache->key, key, key_size);
    rm_waitq_lock(&cache->queue);
    link = rmi_cache_find(cache, hash, key, key_size);
    if (*link != NULL) {
        const bool live = !rmi_cache_expired(*link, rm_now_coarse(cache->env.clock));
        rmi_cache_unlink(cache, link, live ? RM_CACHE_CAUSE_DELETED : RM_CACHE_CAUSE_EXPIRED);
        if (live) status = RM_OK;
    }
    rmi_cache_overtake(cache, hash, key == NULL ? "" : key, key_size);
    rmi_cache_unlock(cache);
    return status;
}

static uint64_t rmi_cache_empty(rm_cache *cache) {
    const uint64_t count = cache->stats.entries;
    size_t i;
    for (i = 0; i < cache->bucket_count && cache->stats.entries > 0; ++i) {
        while (cache->buckets[i] != NULL)
            rmi_cache_unlink(cache, &cache->buckets[i], RM_CACHE_CAUSE_CLEARED);
    }
    return count;
}

RM_API uint64_t rm_cache_clear(rm_cache *cache) {
    uint64_t count;
    if (cache == NULL) return 0;
    rm_waitq_lock(&cache->queue);
    count = rmi_cache_empty(cache);
    rmi_cache_overtake(cache, 0, NULL, 0);
    rmi_cache_unlock(cache);
    return count;
}

RM_API uint64_t rm_cache_maintain(rm_cache *cache, uint32_t buckets) {
    uint64_t count;
    if (cache == NULL) return 0;
    rm_waitq_lock(&cache->queue);
    count = rmi_cache_sweep(
        cache, buckets == 0 || buckets > cache->bucket_count ? cache->bucket_count : buckets);
    rmi_cache_unlock(cache);
    return count;
}

/* >>core: loading */

RM_API rm_cache_loader rm_cache_loader_make(rm_status (*load_fn)(rm_cache_load *load,
                                                                 const void *key, size_t key_size,
                                                                 rm_deadline deadline,
                                                                 rm_error *error, void *user),
                                            void *user) {
    rm_cache_loader loader;
    loader.load_fn = load_fn;
    loader.user = user;
    loader.ttl_ns = 0;
    return loader;
}

RM_API rm_status rm_cache_load_set(rm_cache_load *load, const void *value, size_t size) {
    rmi_cache_entry *entry;
    if (load == NULL || (value == NULL && size > 0)) return RM_E_INVALID;
    entry = rmi_cache_make(load->cache, load->key, load->key_size, load->hash, value, size);
    if (entry == NULL) return RM_E_NOMEM;
    rmi_cache_free(load->cache, load->entry);
    load->entry = entry;
    return RM_OK;
}

static void rmi_cache_load_leave(rm_cache *cache, rm_cache_load *load) {
    if (--load->users == 0) rm_free(cache->env.allocator, load, sizeof *load);
}

/* A load of this key that the caller runs itself, or one that it may join: not one that a write has
   overtaken. */
static rm_cache_load *rmi_cache_find_load(rm_cache *cache, uint64_t hash, const void *key,
                                          size_t key_size) {
    const uint32_t thread = rm_thread_number();
    rm_cache_load *load, *found = NULL;
    for (load = cache->loads; load != NULL; load = load->next) {
        if (!rmi_cache_load_is(load, hash, key, key_size)) continue;
        if (load->thread == thread) return load;
        if (!load->stale) found = load;
    }
    return found;
}

/* Waits, with the lock held, for the result of another's load. */
static rm_status rmi_cache_join(rm_cache *cache, rm_cache_load *load, int64_t timeout_ns,
                                rm_cache_pin *out, rm_error *error) {
    rm_status status;
    uint64_t grant = 0;
    if (load->thread == rm_thread_number())
        return rm_error_set(error, RM_E_DEADLOCK, 0, cache->name,
                            "load_fn asks for the key that it is loading");
    ++cache->stats.load_waits;
    ++cache->loading;
    ++load->users;
    status = rm_waitq_wait_locked(&cache->queue, load,
                                  rm_deadline_after(cache->env.clock, timeout_ns), NULL, &grant);
    if (status == RM_OK) {
        status = rmi_cache_hand_out(cache, load->entry, out, error);
    } else if (load->done && load->error.status == status) { /* not: timed out, then it ended */
        if (error != NULL) *error = load->error;
    } else {
        (void)rm_error_set(error, status, 0, cache->name, "gave up on another call's load: %s",
                           rm_status_name(status));
    }
    --cache->loading;
    rmi_cache_load_leave(cache, load);
    return status;
}

static rm_outcome rmi_cache_outcome(rm_status status) {
    if (status == RM_OK || status == RM_E_NOT_FOUND) return RM_OUTCOME_OK;
    return status == RM_E_CANCELLED || status == RM_E_INVALID ? RM_OUTCOME_IGNORE
                                                              : RM_OUTCOME_FAILURE;
}

/* Runs load_fn without a lock, through the guard. */
static rm_status rmi_cache_run(rm_cache *cache, rm_cache_load *load, const rm_cache_loader *loader,
                               int64_t timeout_ns) {
    const rm_deadline deadline = rm_deadline_after(cache->env.clock, timeout_ns);
    rm_permit permit;
    rm_status status = RM_OK;
    memset(&permit, 0, sizeof permit);
    if (cache->guard.admit_fn != NULL)
        status = cache->guard.admit_fn(&permit, &load->error, cache->guard.user);
    if (status == RM_OK) {
        load->ran = true;
        status =
            loader->load_fn(load, load->key, load->key_size, deadline, &load->error, loader->user);
        if (status == RM_OK && load->entry == NULL)
            status = rm_error_set(&load->error, RM_E_FAILED, 0, cache->name,
                                  "load_fn returned RM_OK without rm_cache_load_set");
        if (cache->guard.report_fn != NULL)
            cache->guard.report_fn(&permit, rmi_cache_outcome(status), cache->guard.user);
    }
    if (status != RM_OK && load->error.status == RM_OK)
        (void)rm_error_set(&load->error, status, 0, cache->name, "the load failed: %s",
                           rm_status_name(status));
    load->error.status = status;
    if (status == RM_OK) return RM_OK;
    rmi_cache_free(cache, load->entry);
    load->entry = NULL;
    return status;
}

/* With the lock held: puts a loaded entry in the cache, if it may be, and hands it to all. */
static rm_status rmi_cache_publish(rm_cache *cache, rm_cache_load *load, rm_status status) {
    rmi_cache_entry *entry = load->entry;
    rm_cache_load **link = &cache->loads;
    uint32_t waiters;
    while (*link != load)
        link = &(*link)->next;
    *link = load->next;
    load->done = true;
    --cache->loading;
    if (entry == NULL) {
        (void)rm_waitq_complete(&cache->queue, load, status, 0);
        return status;
    }
    entry->refs = 1; /* ours, for the pin */
    entry->expires_ns = rmi_cache_expiry(cache, load->ttl_ns);
    if (load->stale || !rmi_cache_link(cache, entry)) {
        entry->cause = (uint8_t)RM_CACHE_CAUSE_REFUSED;
        ++cache->stats.refused;
    }
    waiters = rm_waitq_complete(&cache->queue, load, RM_OK, 0);
    rmi_cache_ref(cache, entry, waiters);
    return RM_OK;
}

/* With the lock held on entry and exit: loads a key for all who want it. */
static rm_status rmi_cache_lead(rm_cache *cache, rm_cache_load *load, const rm_cache_loader *loader,
                                int64_t timeout_ns, rm_cache_pin *out, rm_error *error) {
    rm_status status;
    int64_t began;
    load->next = cache->loads;
    cache->loads = load;
    ++cache->loading;
    rmi_cache_unlock(cache);
    began = rm_now(cache->env.clock);
    status = rmi_cache_run(cache, load, loader, timeout_ns);
    began = rmi_time_since(rm_now(cache->env.clock), began);
    rm_waitq_lock(&cache->queue);
    if (load->ran) {
        ++cache->stats.loads;
        cache->stats.load_failures += status != RM_OK ? 1u : 0u;
        (void)rm_hist_record(&cache->load_times, began);
    }
    status = rmi_cache_publish(cache, load, status);
    if (status == RM_OK) {
        status = rmi_cache_hand_out(cache, load->entry, out, error);
    } else if (error != NULL) {
        *error = load->error;
    }
    rmi_cache_load_leave(cache, load);
    return status;
}

static rm_cache_load *rmi_cache_load_make(rm_cache *cache, const void *key, size_t key_size,
                                          uint64_t hash, int64_t ttl_ns) {
    rm_cache_load *load = (rm_cache_load *)rm_alloc(cache->env.allocator, sizeof *load);
    if (load == NULL) return NULL;
    memset(load, 0, sizeof *load);
    load->cache = cache;
    load->key = key;
    load->key_size = key_size;
    load->hash = hash;
    load->ttl_ns = ttl_ns;
    load->thread = rm_thread_number();
    load->users = 1;
    return load;
}

/* With the lock held on entry and exit: a hit, another's load, or our own. */
static rm_status rmi_cache_pin_or_load(rm_cache *cache, const void *key, size_t key_size,
                                       const rm_cache_loader *loader, int64_t timeout_ns,
                                       rm_cache_pin *out, rm_error *error) {
    const uint64_t hash = rm_hash(&cache->key, key, key_size);
    rmi_cache_entry *entry = rmi_cache_lookup(cache, hash, key, key_size);
    rm_cache_load *load;
    if (entry != NULL) {
        rmi_cache_ref(cache, entry, 1);
        return rmi_cache_hand_out(cache, entry, out, error);
    }
    if (cache->closed)
        return rm_error_set(error, RM_E_CLOSED, 0, cache->name, "the cache is being destroyed");
    load = rmi_cache_find_load(cache, hash, key, key_size);
    if (load != NULL) return rmi_cache_join(cache, load, timeout_ns, out, error);
    load = rmi_cache_load_make(cache, key, key_size, hash, loader->ttl_ns);
    if (load == NULL)
        return rm_error_set(error, RM_E_NOMEM, 0, cache->name, "no memory for a load");
    return rmi_cache_lead(cache, load, loader, timeout_ns, out, error);
}

RM_API rm_status rm_cache_get_or_load(rm_cache *cache, const void *key, size_t key_size,
                                      const rm_cache_loader *loader, int64_t timeout_ns,
                                      rm_cache_pin *out, rm_error *error) {
    rm_status status;
    if (cache == NULL || (key == NULL && key_size > 0) || loader == NULL || out == NULL ||
        loader->load_fn == NULL)
        return rm_error_set(error, RM_E_INVALID, 0, "cache", "cache, key, loader or out is NULL");
    if (!rm_timeout_valid(timeout_ns))
        return rmi_bad(error, "timeout_ns", "a time, RM_NOWAIT or RM_FOREVER");
    if (!rmi_cache_ttl_valid(loader->ttl_ns)) return rmi_bad(error, "ttl_ns", "a time or RM_NONE");
    rm_waitq_lock(&cache->queue);
    status = rmi_cache_pin_or_load(cache, key, key_size, loader,
                                   timeout_ns == 0 ? RM_SEC(30) : timeout_ns, out, error);
    rmi_cache_unlock(cache);
    return status;
}

/* >>public: statistics */

RM_API const char *rm_cache_cause_name(rm_cache_cause cause) {
    static const char *const names[] = {"evicted", "expired", "replaced",
                                        "deleted", "cleared", "refused"};
    const size_t index = (size_t)cause;
    return index < sizeof names / sizeof *names ? names[index] : "unknown";
}

RM_API rm_status rm_cache_stats_get(rm_cache *cache, rm_cache_stats *out) {
    if (cache == NULL || out == NULL) return RM_E_INVALID;
    rm_waitq_lock(&cache->queue);
    *out = cache->stats;
    out->load_p50_ns = rm_hist_quantile(&cache->load_times, 0.5);
    out->load_p99_ns = rm_hist_quantile(&cache->load_times, 0.99);
    out->load_max_ns = cache->load_times.max;
    rm_waitq_unlock(&cache->queue);
    return RM_OK;
}

RM_API rm_status rm_cache_desc_get(const rm_cache *cache, rm_cache_desc *out) {
    if (cache == NULL || out == NULL) return RM_E_INVALID;
    *out = cache->desc;
    return RM_OK;
}

static rm_status rmi_cache_stop(void *user, rm_deadline deadline, rm_error *error) {
    (void)deadline, (void)error;
    (void)rm_cache_clear((rm_cache *)user);
    return RM_OK;
}

static void rmi_cache_stats_visit(void *user, rm_stat_fn visit, void *to) {
    const rm_stat_type gauge = RM_STAT_GAUGE, counter = RM_STAT_COUNTER;
    rm_cache *cache = (rm_cache *)user;
    rmi_inside here;
    uint64_t bins[RMI_CACHE_LOAD_BINS];
    rm_cache_stats s;
    uint32_t i;
    if (visit == NULL || rm_cache_stats_get(cache, &s) != RM_OK) return;
    RMI_ENTER(rmi_cache_hooks, here, cache);
    rmi_show(visit, to, counter, "rm_cache_hits_total", "Look-ups that found a value.", NULL, NULL,
             s.hits);
    rmi_show(visit, to, counter, "rm_cache_misses_total", "Look-ups that found none.", NULL, NULL,
             s.misses);
    rmi_show(visit, to, counter, "rm_cache_sets_total", "Values set.", NULL, NULL, s.sets);
    rmi_show(visit, to, counter, "rm_cache_loads_total", "Loads.", NULL, NULL, s.loads);
    rmi_show(visit, to, counter, "rm_cache_load_failures_total", "Failed loads.", NULL, NULL,
             s.load_failures);
    rmi_show(visit, to, counter, "rm_cache_load_waits_total",
             "Calls that waited for another's load.", NULL, NULL, s.load_waits);
    for (i = 0; i <= (uint32_t)RM_CACHE_CAUSE_REFUSED; ++i) {
        const uint64_t counts[] = {s.evicted, s.expired, s.replaced,
                                   s.deleted, s.cleared, s.refused};
        rmi_show(visit, to, counter, "rm_cache_removed_total", "Entries removed.", "cause",
                 rm_cache_cause_name((rm_cache_cause)i), counts[i]);
    }
    rmi_show(visit, to, gauge, "rm_cache_entries", "Entries.", NULL, NULL, s.entries);
    rmi_show(visit, to, gauge, "rm_cache_bytes", "Bytes charged.", NULL, NULL, s.bytes);
    rmi_show(visit, to, gauge, "rm_cache_pins", "Pins that are out.", NULL, NULL, s.pins);
    rmi_show_times(visit, to, "rm_cache_load_seconds", "Time of loads, failed ones included.",
                   &cache->queue, &cache->load_times, bins);
    RMI_LEAVE(rmi_cache_hooks, here);
}

RM_API rm_resource rm_cache_resource(rm_cache *cache) {
    rm_resource resource = rm_resource_make(cache == NULL ? NULL : cache->name, "cache", cache);
    if (cache == NULL) return resource;
    resource.stop_fn = rmi_cache_stop;
    resource.stats_fn = rmi_cache_stats_visit;
    return resource;
}

/* >>public: create and destroy */

RM_API rm_cache_desc rm_cache_desc_default(void) {
    rm_cache_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.name = "cache";
    desc.max_entries = 10000;
    desc.max_bytes = INT64_C(64) << 20;
    desc.ttl_ns = RM_SEC(3600);
    desc.max_pins = 1024;
    return desc;
}

/* Fills in the defaults and refuses what makes no sense. */
static rm_status rmi_cache_check(rm_cache_desc *desc, rm_error *error) {
    const rm_cache_desc standard = rm_cache_desc_default();
    if (desc->name == NULL) desc->name = standard.name;
    if (desc->max_entries == 0) desc->max_entries = standard.max_entries;
    if (desc->max_bytes == 0) desc->max_bytes = standard.max_bytes;
    if (desc->ttl_ns == 0) desc->ttl_ns = standard.ttl_ns;
    if (desc->max_pins == 0) desc->max_pins = standard.max_pins;
    if ((desc->max_entries < 0 && desc->max_entries != RM_NONE) ||
        desc->max_entries > (INT64_C(1) << 31))
        return rmi_bad(error, "max_entries", "at most 2^31, or RM_NONE");
    if (desc->max_bytes < 0 && desc->max_bytes != RM_NONE)
        return rmi_bad(error, "max_bytes", "a number of bytes or RM_NONE");
    if (desc->max_entries == RM_NONE && desc->max_bytes == RM_NONE)
        return rmi_bad(error, "max_entries", "a number when max_bytes is RM_NONE");
    if (!rmi_cache_ttl_valid(desc->ttl_ns)) return rmi_bad(error, "ttl_ns", "a time or RM_NONE");
    if (desc->max_pins > (1u << 24)) return rmi_bad(error, "max_pins", "at most 2^24");
    if (desc->guard != NULL && (desc->guard->admit_fn == NULL || desc->guard->report_fn == NULL))
        return rmi_bad(error, "guard", "given both callbacks");
    return rmi_check_name(desc->name, error);
}

/* Buckets: one for each entry there may be, a power of two, 16 to 2^24. */
static size_t rmi_cache_bucket_count(const rm_cache_desc *desc) {
    const int64_t most = desc->max_bytes / (2 * RM_CACHE_OVERHEAD); /* that the bytes will hold */
    int64_t entries = desc->max_entries;
    size_t count = 16;
    if (entries == RM_NONE || (desc->max_bytes != RM_NONE && most < entries)) entries = most;
    while ((int64_t)count < entries && count < ((size_t)1 << 24))
        count <<= 1;
    return count;
}

static void rmi_cache_free_all(rm_cache *cache) {
    const rm_env env = cache->env;
    rm_free(env.allocator, cache->buckets, cache->bucket_count * sizeof(rmi_cache_entry *));
    rm_free(env.allocator, cache->pinned, cache->desc.max_pins * sizeof *cache->pinned);
    rm_free(env.allocator, cache, sizeof *cache);
}

/* Empties buckets, pins and histogram, which are there, and makes the queue. The pins' sequences
   stay, so that no pin from before fits. */
static rm_status rmi_cache_begin(rm_cache *cache) {
    const rm_hist_desc times = {RMI_CACHE_LOAD_FIRST, RMI_CACHE_LOAD_LAST, 16};
    rm_waitq_desc queue;
    uint32_t i;
    memset((void *)cache->buckets, 0, cache->bucket_count * sizeof(rmi_cache_entry *));
    for (i = 0; i < cache->desc.max_pins; ++i) {
        cache->pinned[i].entry = NULL;
        cache->pinned[i].next = i + 1 < cache->desc.max_pins ? i + 2 : 0;
    }
    cache->free_pin = 1;
    if (rm_hist_init(&cache->load_times, &times, cache->load_bins, sizeof cache->load_bins) !=
        RM_OK)
        return RM_E_INTERNAL;
    memset(&queue, 0, sizeof queue);
    queue.clock = cache->env.clock;
    return rm_waitq_init(&cache->queue, &queue);
}

static rm_status rmi_cache_init(rm_cache *cache) {
    const size_t bytes = cache->bucket_count * sizeof(rmi_cache_entry *);
    cache->buckets = (rmi_cache_entry **)rm_alloc(cache->env.allocator, bytes);
    cache->pinned = (rmi_cache_pinned *)rm_alloc(cache->env.allocator,
                                                 cache->desc.max_pins * sizeof *cache->pinned);
    if (cache->buckets == NULL || cache->pinned == NULL) return RM_E_NOMEM;
    memset(cache->pinned, 0, cache->desc.max_pins * sizeof *cache->pinned);
    return rmi_cache_begin(cache);
}

RM_API rm_status rm_abi1_define_RM_CACHE_IMPLEMENTATION_in_one_c_file(const rm_cache_desc *desc,
                                                                      rm_cache **out,
                                                                      rm_error *error) {
    rm_cache_desc checked = rm_cache_desc_default();
    rm_cache *cache;
    rm_status status;
    rm_env env;
    if (out == NULL) return rm_error_set(error, RM_E_INVALID, 0, "rm_cache_desc", "out is NULL");
    if (desc != NULL) checked = *desc;
    status = rm_env_resolve(checked.env, &env, error);
    if (status == RM_OK) status = rmi_cache_check(&checked, error);
    if (status != RM_OK) return status;
    cache = (rm_cache *)rm_alloc(env.allocator, sizeof *cache);
    if (cache == NULL) return rm_error_set(error, RM_E_NOMEM, 0, checked.name, "out of memory");
    memset(cache, 0, sizeof *cache);
    cache->desc = checked;
    cache->env = env;
    cache->key = rm_hash_key_random(env.random);
    if (checked.guard != NULL) cache->guard = *checked.guard;
    rmi_copy_string(cache->name, sizeof cache->name, checked.name);
    cache->desc.name = cache->name;
    cache->desc.env = &cache->env;
    cache->desc.guard = checked.guard == NULL ? NULL : &cache->guard;
    cache->number = RMI_ADD32(&rmi_cache_numbers, 1u, RELAXED) + 1u;
    cache->bucket_count = rmi_cache_bucket_count(&checked);
    status = rmi_cache_init(cache);
    if (status != RM_OK) {
        (void)rm_error_set(error, status, 0, checked.name, "no memory for %llu buckets, %u pins",
                           (unsigned long long)cache->bucket_count, (unsigned)checked.max_pins);
        rmi_cache_free_all(cache);
        return status;
    }
    *out = cache;
    return RM_OK;
}

RM_API rm_status rm_cache_after_fork_child(rm_cache *cache) {
    if (cache == NULL) return RM_E_INVALID;
    cache->cursor = 0;
    cache->newest = cache->oldest = cache->removed = NULL;
    cache->idle_bytes = 0;
    cache->idle = cache->loading = 0;
    cache->closed = false;
    cache->loads = NULL;
    memset(&cache->stats, 0, sizeof cache->stats);
    return rmi_cache_begin(cache);
}

RM_API rm_status rm_cache_destroy(rm_cache *cache) {
    bool used;
    if (cache == NULL) return RM_OK;
    if (RMI_IS_INSIDE(rmi_cache_hooks, cache)) return RM_E_BUSY;
    rm_waitq_lock(&cache->queue);
    used = cache->stats.pins > 0 || cache->loading > 0;
    if (!used) {
        cache->closed = true; /* removed_fn may call anything, but not fill it again */
        (void)rmi_cache_empty(cache);
    }
    rmi_cache_unlock(cache);
    if (used || rm_waitq_destroy(&cache->queue) != RM_OK) return RM_E_BUSY;
    rmi_cache_free_all(cache);
    return RM_OK;
}

#ifdef __cplusplus
}
#endif
#endif /* RM_CACHE_IMPLEMENTATION_DONE */

/*
This software is available under 2 licenses. Choose whichever you prefer.

------------------------------------------------------------------------------
ALTERNATIVE A - MIT License

Copyright (c) 2026 the rm authors

Permission is hereby granted, free of charge, to any person obtaining a copy of
this software and associated documentation files (the "Software"), to deal in
the Software without restriction, including without limitation the rights to
use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies
of the Software, and to permit persons to whom the Software is furnished to do
so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.

------------------------------------------------------------------------------
ALTERNATIVE B - Public Domain (www.unlicense.org)

This is free and unencumbered software released into the public domain.

Anyone is free to copy, modify, publish, use, compile, sell, or distribute this
software, either in source code form or as a compiled binary, for any purpose,
commercial or non-commercial, and by any means.

In jurisdictions that recognize copyright laws, the author or authors of this
software dedicate any and all copyright interest in the software to the public
domain. We make this dedication for the benefit of the public at large and to
the detriment of our heirs and successors. We intend this dedication to be an
overt act of relinquishment in perpetuity of all present and future rights to
this software under copyright law.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN
ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION
WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
------------------------------------------------------------------------------
*/

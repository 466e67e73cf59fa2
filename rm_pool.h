#if defined(RM_STATIC) && !defined(RM_IMPLEMENTATION)
#define RM_IMPLEMENTATION
#endif
#if defined(RM_IMPLEMENTATION) && !defined(RM_POOL_IMPLEMENTATION)
#define RM_POOL_IMPLEMENTATION
#endif
#if defined(RM_POOL_IMPLEMENTATION) && !defined(RMI_WANT_PRIVATE)
#define RMI_WANT_PRIVATE
#endif
/*  rm_pool.h 0.1.0 - a pool of anything that is expensive to make: connections, handles, buffers.
    SPDX-License-Identifier: MIT OR Unlicense

QUICK START
    #define RM_IMPLEMENTATION // in exactly one C or C++ file, before the first system header
    #include "rm_pool.h"
    #include <stdio.h>
    #include <stdlib.h>

    static rm_status open_it(void **resource, rm_deadline deadline, rm_error *error, void *user) {
        (void)deadline, (void)user;
        *resource = malloc(64); // connect here
        return *resource ? RM_OK : rm_error_set(error, RM_E_NOMEM, 0, "db", "no memory");
    }
    static void close_it(void *resource, void *user) {
        (void)user;
        free(resource);
    }

    int main(void) {
        rm_pool *pool = NULL;
        rm_lease lease;
        rm_error error;
        rm_pool_desc desc = rm_pool_desc_default();
        desc.name = "db";
        desc.max = 4;
        desc.create_fn = open_it;
        desc.destroy_fn = close_it;
        if (rm_pool_create(&desc, &pool, &error) != RM_OK ||
            rm_pool_acquire(pool, RM_SEC(2), &lease, &error) != RM_OK) {
            fprintf(stderr, "%s: %s\n", error.where, error.message);
            return 1;
        }
        // use lease.resource here; RM_RELEASE_BROKEN if it failed
        if (rm_pool_release(pool, &lease, RM_RELEASE_OK) != RM_OK) return 1;
        if (rm_pool_close(pool, RM_SEC(5), &error) != RM_OK) return 1;
        return rm_pool_destroy(pool) == RM_OK ? 0 : 1;
    }

WHAT IT DOES
    Keeps up to `max` resources, lends each to one holder at a time, makes them when they are needed
    and ends them when they are broken, fail their check, are idle for too long or too old. Waiters
    are served first come first served, with bounded barging (rm.h, wait queue); threads and
    completion callbacks (event loops) stand in the same queue. A lease is {slot, sequence}: a
    second release, a stale copy and another pool's lease are statuses, never a crash.
    rm_pools keeps one pool for each key (host, tenant) under a common bound.

WHAT IT DOES NOT DO
    At most 65535 resources a pool, 64 endpoints. No thread of its own unless maintain_every_ns is
    set: otherwise call rm_pool_maintain from a timer. No priorities. A hook that hangs is not
    interrupted, and a cancellation token does not reach it; it holds up its caller and whoever
    waits for its place: its slot counts towards max, max_creating and a max_total until it returns,
    and a create that finds out whether a failing server is well again holds up the others there.
    What is idle at one endpoint is not moved to another that has come back, while both are well:
    max_lifetime_ns does that in time.

DEFINES
    RM_POOL_IMPLEMENTATION  emit the pool only; RM_IMPLEMENTATION emits all [one C file]
    RM_POOL_TRACE           rm_pool_acquire, rm_pool_acquire_until, rm_pool_scope_open and
                            RM_POOL_SCOPE note their file and line in the lease, for rm_pool_leases
                            and leak reports [files that want it, before this header]

CONCEPTS
    Slots     Each slot is empty, creating, idle, in use, checking or closing: one atomic word.
              Everything but an empty one counts towards max, until its destroy_fn has returned.
    Acquire   Takes an idle resource (the one this thread had, else the lowest slot, so that few are
              kept warm), else makes one in an empty slot, in the calling thread and outside every
              lock, else waits.
    Sizes     max resources are kept; `overflow` more are made when all are taken, and ended on
              release unless somebody waits. Of the idle ones, at most max_idle are kept, and
              rm_pool_maintain makes min_idle. With grow_after_ns a resource is made only after an
              acquire has waited so long: bursts are ridden out, lasting demand grows the pool, the
              idle timeout shrinks it.
    Checking  validate_fn runs on acquire for a resource that was not used for validate_after_ns, on
              request on release, and in rm_pool_maintain for what was idle for keepalive_ns. After
              one broken release or failed check all resources of that age are checked before their
              next use, however recent that was. A failed one is destroyed and replaced in place;
              whoever cannot have it replaced waits on in the place that it had in the queue.
    Release   reset_fn runs first, if there is one; a resource that fails it or is RM_RELEASE_BROKEN
              is destroyed in the releasing thread. Then the next waiter is served.
    Failing   When create_fn fails its caller gets the error. Until a time that doubles with each
              failure, nobody else calls it: acquires wait for what is in use, or get the same error
              at once if there is nothing. After that one call at a time tries again.
    Ages      max_lifetime_ns less up to lifetime_jitter percent, drawn once at birth from a
              sequence that spreads the slots evenly: what was born together ends one by one.
    Eviction  rm_pool_evict_all starts a generation: what is older is never lent again, even if its
              create_fn is still running; leases that are out end at their release.
    Close     Ends idle resources, ends all waits with RM_E_CLOSED, and waits for the leases. A
              resource that comes back later is destroyed. Only an empty pool can be destroyed.
    Guard     With a guard (such as rm_breaker_guard) every acquire is admitted first: RM_E_REJECTED
              when refused. Failed creates and broken or failed releases are reported as failures,
              other releases as successes, waits without a result as neither.
    Endpoints Several servers behind one pool, each with its own guard, backoff and user pointer. A
              lease goes to the one with the least in use, of equals to one with something idle, or
              to the next in turn, and a resource is made there if nothing is idle and there is
              room. One that fails is passed over in its backoff; one whose guard refuses for
              create_backoff_ns, at least 1 ms, or for as long as it would take to ask all of them,
              as the coarse clock shows it (a minute each at most: slower ones are asked again and
              again while somebody waits). An acquire goes on to the others, with one create at each
              until it waits for room (RM_NOWAIT: one in all), and has that error if none is left.
              What is idle at one that refuses makes way, one in a backoff, if another is well but
              lacks room.
    Keys      rm_pools: the pools of all keys share max_total. A key that waits with none, or with
              two fewer than another, gets the places that come free there, so that those that wait
              come to hold the same; where more wait than there are places, they take turns. Whoever
              has to end what is idle under another key stands in the queue after that only.

THREADS
    create, destroy, after_fork_child  owner: no other call at the same time
    everything else                    any thread, also from hooks of this and other pools; a hook
                                       that waits for its own pool waits for itself
    all callbacks but allocator etc.   hooks: without a lock, several at once for different slots
    Lock order: the queue's mutex, then the drain queue's; those of rm_pools come last.

MEMORY
    One allocation at rm_pool_create (none with desc.memory) of rm_pool_footprint bytes: about 5 kB
    and 128 for each slot. None after that. rm_pools allocates for each key.

ERRORS
    RM_E_TIMEOUT   no resource in time; the message has the counts, and the last
                   create or check that failed
    RM_E_BUSY      RM_NOWAIT and none is free; rm_pool_destroy with resources in use
    RM_E_FULL      max_waiters wait already         RM_E_CLOSED    the pool is closed
    RM_E_REJECTED  the guard refused                RM_E_STALE     a second release
    RM_E_FOREIGN   another pool's lease             RM_E_DEADLOCK  refuse_nested: would wait for us
    RM_E_CANCELLED its token was requested          other          what create_fn returned

GLOBALS
    Counters of pools; per thread the hooks of pools that it is in, and which slots it used last in
    four pools.
*/
#include "rm.h"
#if defined(RM_POOL_VERSION) && RM_POOL_VERSION != 100
#error "rm_pool.h: two releases of rm_pool.h meet in this file; use the headers of one release"
#endif
#ifndef RM_POOL_H_INCLUDED
#define RM_POOL_H_INCLUDED
#define RM_POOL_VERSION 100
#if RM_BASE_VERSION != RM_POOL_VERSION
#error "rm_pool.h and rm.h are of different releases; use the headers of one release"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* >>types */

/* A pool. Opaque. */
typedef struct rm_pool rm_pool;

/* The right to use one resource until it is released. A plain value; zeroed = none. */
typedef struct rm_lease {
    void *resource; /* what create_fn made */
    uint64_t sequence;
    uint32_t pool;
    uint32_t slot;
} rm_lease;

/* What the holder says of a resource when it gives it back. */
typedef enum rm_release {
    RM_RELEASE_OK = 0, /* fit for the next holder */
    RM_RELEASE_FAILED, /* so is it, but what it was used for failed: a failure for the guard */
    RM_RELEASE_BROKEN  /* failed, or in an unknown state: destroy it */
} rm_release;

/* Why a resource was ended. */
typedef enum rm_pool_cause {
    RM_POOL_CAUSE_BROKEN = 0, /* released as such */
    RM_POOL_CAUSE_RESET,      /* reset_fn failed */
    RM_POOL_CAUSE_INVALID,    /* validate_fn failed */
    RM_POOL_CAUSE_IDLE,       /* unused for idle_timeout_ns */
    RM_POOL_CAUSE_LIFETIME,   /* max_lifetime_ns is over */
    RM_POOL_CAUSE_EVICTED,    /* by rm_pool_evict or rm_pool_evict_all */
    RM_POOL_CAUSE_SURPLUS, /* above max or max_idle, or another key or endpoint needs its place */
    RM_POOL_CAUSE_CLOSED   /* the pool was closed */
} rm_pool_cause;

enum { RM_POOL_CAUSES = 8 }; /* how many there are */

/* What event_fn is told. */
typedef enum rm_pool_event_kind {
    RM_POOL_EVENT_CREATED = 0,
    RM_POOL_EVENT_CREATE_FAILED, /* with error */
    RM_POOL_EVENT_ACQUIRED,
    RM_POOL_EVENT_RELEASED,  /* before reset_fn; ns = how long it was held */
    RM_POOL_EVENT_CHECKED,   /* validate_fn accepted it */
    RM_POOL_EVENT_DESTROYED, /* after destroy_fn, with cause: free `data` here */
    RM_POOL_EVENT_DETACHED,  /* it left the pool with its holder: free or keep `data` here */
    RM_POOL_EVENT_LEAKED,    /* once for a lease held for leak_after_ns; where and thread say who */
    RM_POOL_EVENT_RECLAIMED, /* a lease was taken from its holder */
    RM_POOL_EVENT_TIMEOUT    /* an acquire ended without a resource; with error */
} rm_pool_event_kind;

/* One step in the life of a resource; everything lives during the call only. */
typedef struct rm_pool_event {
    const char *pool;      /* its name */
    const char *endpoint;  /* the name of its endpoint; "" without endpoints */
    void *resource;        /* 0 where there is none; in DESTROYED the pointer only */
    void *data;            /* as set with rm_pool_data_set */
    const rm_error *error; /* 0 where none is told */
    const char *where;     /* of the holder, see rm_pool_note; "" = not known */
    int64_t ns;            /* what it took or lasted; 0 where none is told */
    uint32_t thread;       /* rm_thread_number of the one that acquired it */
    rm_pool_event_kind kind;
    rm_pool_cause cause; /* of DESTROYED */
} rm_pool_event;

/* One outstanding lease, as rm_pool_leases shows it. */
typedef struct rm_pool_lease_info {
    const char *where;    /* "file:line" or what rm_pool_note said; "" = not known */
    const char *endpoint; /* "" without endpoints */
    int64_t held_ns;      /* since it was acquired, coarse */
    uint32_t thread;      /* rm_thread_number of the one that acquired it */
    uint32_t slot;
} rm_pool_lease_info;

/* A snapshot: every slot is counted in exactly one of the six states, which sum to capacity. */
typedef struct rm_pool_stats {
    uint32_t capacity;
    uint32_t in_use, idle, creating, checking, closing, empty;
    uint32_t max, overflow, min_idle, max_idle; /* in force */
    bool closed, suspended;
    uint32_t waiting;
    uint64_t acquired;              /* leases handed out */
    uint64_t waits;                 /* acquires that had to queue */
    uint64_t timeouts;              /* of those, ended without a resource in time */
    uint64_t cancelled;             /* ... ended by their token or rm_pool_request_cancel */
    uint64_t refused;               /* turned away because max_waiters waited */
    uint64_t rejected;              /* refused by the guard, or by those of all endpoints */
    uint64_t failed_fast;           /* given the last create error without a try */
    uint64_t created;               /* successful create_fn calls */
    uint64_t create_failures;       /* failed create_fn calls */
    uint64_t destroyed;             /* all resources ended */
    uint64_t ended[RM_POOL_CAUSES]; /* of those, by rm_pool_cause */
    uint64_t detached, reclaimed;   /* left the pool without destroy_fn */
    uint64_t leaks;                 /* leases reported as held for too long */
    int64_t wait_p50_ns, wait_p99_ns, wait_max_ns;       /* of all waits, timed out or not */
    int64_t create_p50_ns, create_p99_ns, create_max_ns; /* of create_fn, failed or not */
    int64_t use_p50_ns, use_p99_ns, use_max_ns;          /* of leases, with time_uses */
} rm_pool_stats;

/* How many resources; see Sizes on top. */
typedef struct rm_pool_sizes {
    uint32_t max, overflow, min_idle, max_idle;
} rm_pool_sizes;

/* >>desc */

/* One of several servers behind a pool. */
typedef struct rm_pool_endpoint {
    const char *name;      /* at most 47 bytes, copied */
    const rm_guard *guard; /* asked before a create and before a lease; copied; 0 = none */
    void *user;            /* last argument of the hooks for its resources, instead of desc.user */
} rm_pool_endpoint;

typedef enum rm_pool_balance {
    RM_POOL_LEAST_IN_USE = 0, /* the endpoint with the fewest leases, then the fewest resources */
    RM_POOL_ROUND_ROBIN
} rm_pool_balance;

typedef struct rm_pool_desc {
    const char *name;  /* for errors, logs and statistics; at most 47 bytes, copied; 0 = "pool" */
    const rm_env *env; /* 0 = defaults */
    /* hook, required: makes a resource; the deadline is that of the acquire it is made for, for
       RM_NOWAIT that of one with acquire_timeout_ns */
    rm_status (*create_fn)(void **resource, rm_deadline deadline, rm_error *error, void *user);
    void (*destroy_fn)(void *resource, void *user);       /* hook: ends one; 0 = nothing to do */
    rm_status (*validate_fn)(void *resource, void *user); /* hook: is it alive? 0 = it is */
    rm_status (*reset_fn)(void *resource, void *user);    /* hook: on release; 0 = nothing to do */
    const rm_guard *guard;      /* asked before every acquire; copied; 0 = none */
    uint32_t max;               /* resources that are kept; 0 = 10; at most 65535 */
    uint32_t min_idle;          /* kept ready by rm_pool_maintain, within max; 0 = none */
    uint32_t max_waiters;       /* acquires that may queue; 0 = no bound */
    int64_t acquire_timeout_ns; /* for rm_pool_acquire with 0; 0 = 30 s */
    int64_t idle_timeout_ns;    /* rm_pool_maintain ends what is idle for so long; 0 = 10 min;
                                   RM_NONE = never */
    int64_t validate_after_ns;  /* checked on acquire when unused for so long; 0 = 500 ms;
                                   RM_STRICT = every time, RM_NONE = only after failures */
    int64_t barge_ns;           /* how long running threads may overtake the head of the queue;
                                   0 = 50 us; RM_STRICT = never */
    void *user;                 /* last argument of the hooks */

    uint32_t overflow;         /* more than max when all are taken; 0 = none */
    uint32_t max_idle;         /* idle ones that are kept; 0 = max */
    uint32_t capacity;         /* slots: the bound for rm_pool_resize; 0 = max + overflow */
    uint32_t max_creating;     /* create_fn calls at once; 0 = no bound */
    int64_t grow_after_ns;     /* with min_idle (at least one) there, a resource is made only after
                                 an acquire has waited so long; 0 = at once */
    int64_t create_backoff_ns; /* after a failed create nothing is tried for so long, doubled
                                      with each failure, less up to half at random; 0 = 10 ms;
                                      RM_NONE = no backoff: one after the other, with
                                      several endpoints 1 ms */
    int64_t create_backoff_max_ns; /* and at most; 0 = 5 s */
    int64_t max_lifetime_ns;       /* ended when so old, on acquire, release or by
                                      rm_pool_maintain; 0 = never */
    int32_t lifetime_jitter;  /* percent by which a lifetime may be shorter; 0 = 25; RM_NONE = 0;
                                 at most 100 */
    bool validate_on_release; /* validate_fn runs on release too, after reset_fn */
    bool refuse_nested;       /* RM_E_DEADLOCK for a thread that would wait and holds a lease */
    bool time_uses;           /* measure how long leases are held: two fine clocks and a lock */
    int64_t keepalive_ns;     /* rm_pool_maintain checks what is unchecked for so long; 0 = never */
    int64_t leak_after_ns;    /* rm_pool_maintain reports leases held for so long; 0 = never */
    int64_t reclaim_after_ns; /* and takes them from their holder, with reclaim_fn; 0 = never */
    int64_t maintain_every_ns; /* a thread of the pool calls rm_pool_maintain, perhaps before
                                  rm_pool_create returns; its clock needs sleep_fn; 0 = none does */
    /* hook: how to release after a failed operation, for rm_pool_release_result; 0 = broken after
       timeouts, cancellations, refusals, broken protocols and internal errors, else failed */
    rm_release (*classify_fn)(void *resource, const rm_error *result, void *user);
    /* hook: in the child of a fork, drops the child's copy without a goodbye that the parent's
       peer would hear: close(2) the descriptor; 0 = forget it. It must not call the pool */
    void (*discard_fn)(void *resource, void *user);
    /* hook: cuts a resource off from a holder that may be using it: shutdown(2) the socket. It is
       the holder's from then on, who gets RM_E_STALE when it releases */
    void (*reclaim_fn)(void *resource, void *user);
    void (*event_fn)(const rm_pool_event *event, void *user); /* hook: told of each step */
    const rm_pool_endpoint *endpoints;                        /* copied; 0 = none */
    uint32_t endpoint_count;                                  /* at most 64 */
    rm_pool_balance balance;                                  /* between endpoints */
    void *memory;       /* instead of the allocator's; 0 = the allocator's */
    size_t memory_size; /* at least rm_pool_footprint */
} rm_pool_desc;

/* >>create and destroy */

/* A desc with every default filled in and no callbacks.
   Returns: the desc.
   Threads: any. Blocks: no. Allocates: no. */
RM_API rm_pool_desc rm_pool_desc_default(void);

/* The bytes that a pool with this desc takes, for desc.memory. NULL = defaults.
   Returns: 0 for sizes that are not allowed.
   Threads: any. Blocks: no. Allocates: no. */
RM_API size_t rm_pool_footprint(const rm_pool_desc *desc);

/* The function behind rm_pool_create. If the linker misses it, do what its name says.
   Returns: as rm_pool_create.
   Threads: owner. Blocks: no. Allocates: yes. Owns: the caller. */
RM_API rm_status rm_abi1_define_RM_POOL_IMPLEMENTATION_in_one_c_file(const rm_pool_desc *desc,
                                                                     rm_pool **out,
                                                                     rm_error *error);

/* Makes a pool. No resource is made yet: rm_pool_prewarm and rm_pool_maintain do that.
   Returns: RM_E_INVALID naming the field; RM_E_TOO_LARGE for a long name or too little memory;
   RM_E_NOMEM; RM_E_SYSTEM; RM_E_UNSUPPORTED for maintain_every_ns with RM_NO_THREADS.
   Threads: owner. Blocks: no. Allocates: without desc.memory. Owns: the caller; rm_pool_destroy. */
static inline RM_MUST_USE rm_status rm_pool_create(const rm_pool_desc *desc, rm_pool **out,
                                                   rm_error *error) {
    return rm_abi1_define_RM_POOL_IMPLEMENTATION_in_one_c_file(desc, out, error);
}

/* Closes a pool and frees it; NULL is allowed. The release of the last resource may still be on
   its way out when rm_pool_close returns: join its thread first.
   Returns: RM_E_BUSY, closed but not freed, while a resource is out, a call is waiting or an
   acquired_fn has not returned yet, and from inside its own hooks.
   Threads: owner. Blocks: in destroy_fn, for its own thread to leave its hooks. Allocates: no.
   Cost: O(capacity). */
RM_API rm_status rm_pool_destroy(rm_pool *pool);

/* Closes a pool: ends idle resources and waiters, refuses acquires, waits for the leases.
   timeout_ns 0 = 8 s. May be called again, to wait on. Only the start of its resource (a manager's)
   opens it again.
   Returns: RM_E_TIMEOUT (RM_E_BUSY for RM_NOWAIT) while resources are out, with their number and
   the oldest lease in error; RM_E_SYSTEM; RM_E_INVALID.
   Threads: any. Blocks: up to timeout_ns, in destroy_fn and the acquired_fn of those who waited.
   Allocates: no. Cost: O(capacity). */
RM_API rm_status rm_pool_close(rm_pool *pool, int64_t timeout_ns, rm_error *error);

/* >>acquire and release */

/* Borrows a resource. timeout_ns 0 = desc.acquire_timeout_ns, counted from the guard's leave on;
   RM_NOWAIT does not wait for others, but may make a resource. Cost of an uncontended pair with
   rm_pool_release: `make bench`.
   Returns: RM_E_TIMEOUT, RM_E_BUSY, RM_E_FULL, RM_E_CLOSED, RM_E_REJECTED, RM_E_DEADLOCK,
   create_fn's status, RM_E_INVALID (also for the pool of a key), RM_E_SYSTEM; see ERRORS on top.
   RM_E_BUSY: each resource was taken when it was looked at; beside calls that end resources one
   may have been free all along.
   Threads: any. Blocks: up to timeout_ns, and in the hooks. Allocates: no.
   Owns: the caller; rm_pool_release. Cost: O(capacity) when little is idle, and with endpoints. */
RM_API RM_MUST_USE rm_status rm_pool_acquire(rm_pool *pool, int64_t timeout_ns, rm_lease *out,
                                             rm_error *error);

/* Borrows a resource within a composed call: until its deadline, or until cancel (may be NULL).
   Returns: as rm_pool_acquire; RM_E_TIMEOUT at once for one that has passed, unless it was made of
   RM_NOWAIT and something is idle or can be made; RM_E_CANCELLED.
   Threads: any. Blocks: up to the deadline, and in the hooks. Allocates: no.
   Owns: the caller; rm_pool_release. Cost: as rm_pool_acquire. */
RM_API RM_MUST_USE rm_status rm_pool_acquire_until(rm_pool *pool, rm_deadline deadline,
                                                   rm_cancel *cancel, rm_lease *out,
                                                   rm_error *error);

/* Gives a resource back and zeroes the lease.
   Returns: RM_E_STALE for a lease that was released before or reclaimed; RM_E_FOREIGN for another
   pool's; RM_E_INVALID for NULL. The resource is left alone by all three.
   Threads: any, also another than the one that acquired. Blocks: in reset_fn, validate_fn,
   destroy_fn and the guard; for a short lock when somebody waits, and in create_fn and acquired_fn
   of an asynchronous acquire. Allocates: no. Cost: O(capacity) with max_idle below max, above max,
   and when somebody waits. */
RM_API rm_status rm_pool_release(rm_pool *pool, rm_lease *lease, rm_release how);

/* Gives a resource back after an operation that ended with this result (NULL or status RM_OK: it
   went well); classify_fn decides whether the resource is broken.
   Returns: as rm_pool_release.
   Threads: any. Blocks: as rm_pool_release, in classify_fn. Allocates: no. */
RM_API rm_status rm_pool_release_result(rm_pool *pool, rm_lease *lease, const rm_error *result);

/* Takes a leased resource out of the pool for good: it is the caller's, and the pool may make
   another. The guard hears of a success. Zeroes the lease.
   Returns: as rm_pool_release; the resource is *out.
   Threads: any. Blocks: in the guard, and as rm_pool_release when somebody waits. Allocates: no.
   Owns: the caller. */
RM_API rm_status rm_pool_detach(rm_pool *pool, rm_lease *lease, void **out);

/* Says who holds a lease, for leak reports and rm_pool_leases: a string that outlives the lease,
   such as RM_HERE; where may be NULL, to forget it.
   Returns: RM_E_STALE, RM_E_FOREIGN, RM_E_INVALID.
   Threads: the holder. Blocks: no. Allocates: no. */
RM_API rm_status rm_pool_note(rm_pool *pool, const rm_lease *lease, const char *where);

/* Keeps a pointer with a leased resource, for all later holders: prepared statements, a session.
   It is zero at birth; event_fn sees it when the resource ends. data may be NULL.
   Returns: RM_E_STALE, RM_E_FOREIGN, RM_E_INVALID.
   Threads: the holder. Blocks: no. Allocates: no. Owns: data stays the caller's. */
RM_API rm_status rm_pool_data_set(rm_pool *pool, const rm_lease *lease, void *data);

/* What rm_pool_data_set kept.
   Returns: NULL when there is nothing, and for a lease that is not out.
   Threads: the holder. Blocks: no. Allocates: no. Owns: as in rm_pool_data_set. */
RM_API void *rm_pool_data_get(rm_pool *pool, const rm_lease *lease);

/* >>acquire: scoped */

/* What is done with a resource; a hook. Fill error on failure. */
typedef rm_status (*rm_pool_use_fn)(void *resource, rm_error *error, void *user);

/* Borrows a resource, calls use_fn and gives it back as rm_pool_release_result does.
   Returns: use_fn's status, or why there was no resource (as rm_pool_acquire_until).
   Threads: any. Blocks: up to the deadline, in use_fn and the hooks. Allocates: no. */
RM_API rm_status rm_pool_with(rm_pool *pool, rm_deadline deadline, rm_pool_use_fn use_fn,
                              rm_error *error, void *user);

/* A lease that gives itself back; see RM_POOL_SCOPE. */
typedef struct rm_pool_scope {
    rm_pool *pool;
    rm_lease lease;
    rm_release how;   /* how to release; RM_RELEASE_OK unless it is changed */
    rm_status status; /* of the acquire */
    bool entered;
} rm_pool_scope;

/* Borrows a resource for a scope, as rm_pool_acquire; status says whether there is one.
   Returns: the scope.
   Threads: any. Blocks: as rm_pool_acquire. Allocates: no.
   Owns: the caller; rm_pool_scope_close. */
RM_API rm_pool_scope rm_pool_scope_open(rm_pool *pool, int64_t timeout_ns, rm_error *error);

/* Gives the resource of a scope back; the second time, for an empty one and NULL it does nothing.
   Threads: any. Blocks: as rm_pool_release. Allocates: no. */
RM_API void rm_pool_scope_close(rm_pool_scope *scope);

/* RM_POOL_SCOPE(scope, pool, timeout_ns, error) { use scope.lease.resource; } runs its block once
   with a resource and gives it back; not at all, with *error filled, when there is none. With gcc
   and clang `break`, `return` and `goto` give it back too; elsewhere the end of the block does.
   RM_POOL_AUTO before a declaration of an rm_pool_scope does that for a variable. */
#if defined(__GNUC__) || defined(__clang__)
#define RM_POOL_AUTO __attribute__((cleanup(rm_pool_scope_close)))
#else
#define RM_POOL_AUTO
#endif
#define RM_POOL_SCOPE(scope, pool, timeout_ns, error)                                          \
    for (RM_POOL_AUTO rm_pool_scope scope = rm_pool_scope_open((pool), (timeout_ns), (error)); \
         scope.status == RM_OK && !scope.entered;                                              \
         scope.entered = true, rm_pool_scope_close(&scope))

/* "file:line" of the place where it stands. */
#define RMI_TEXT2(x) #x
#define RMI_TEXT(x) RMI_TEXT2(x)
#define RM_HERE __FILE__ ":" RMI_TEXT(__LINE__)

#ifdef RM_POOL_TRACE
static inline RM_MUST_USE rm_status rmi_pool_acquire_here(rm_pool *pool, int64_t timeout_ns,
                                                          rm_lease *out, rm_error *error,
                                                          const char *where) {
    const rm_status status = rm_pool_acquire(pool, timeout_ns, out, error);
    if (status == RM_OK) (void)rm_pool_note(pool, out, where);
    return status;
}

static inline RM_MUST_USE rm_status rmi_pool_acquire_until_here(rm_pool *pool, rm_deadline deadline,
                                                                rm_cancel *cancel, rm_lease *out,
                                                                rm_error *error,
                                                                const char *where) {
    const rm_status status = rm_pool_acquire_until(pool, deadline, cancel, out, error);
    if (status == RM_OK) (void)rm_pool_note(pool, out, where);
    return status;
}

static inline rm_pool_scope rmi_pool_scope_open_here(rm_pool *pool, int64_t timeout_ns,
                                                     rm_error *error, const char *where) {
    rm_pool_scope scope = rm_pool_scope_open(pool, timeout_ns, error);
    if (scope.status == RM_OK) (void)rm_pool_note(pool, &scope.lease, where);
    return scope;
}
#endif

/* >>acquire: asynchronous */

/* The end of an asynchronous acquire; a hook, called once, by the thread whose call ended it (see
   rm_waitq_done_fn). lease is valid with RM_OK only, else error says why; both during the call
   only: copy the lease. */
typedef void (*rm_pool_acquired_fn)(rm_status status, const rm_lease *lease, const rm_error *error,
                                    void *user);

/* What an acquire wants of the queue. Private. */
typedef struct rmi_pool_wish {
    int64_t since_ns;   /* when it began to wait; INT64_MAX = it did not */
    uint64_t failed_at; /* endpoints, as bits, that it passes over: their create failed for it */
    uint32_t failures;  /* creates for it that failed */
    rm_status failed;   /* the status of the last of them */
    bool tries;         /* RM_NOWAIT: calls create_fn once */
    bool counted;       /* among those that want a place under a common bound */
} rmi_pool_wish;

/* An asynchronous acquire. Private fields; lives, unmoved, until acquired_fn is called. */
typedef struct rm_pool_request {
    rm_waiter waiter;
    rmi_pool_wish wish;
    rm_pool *pool;
    rm_cancel *cancel;
    rm_pool_acquired_fn acquired_fn;
    void *user;
    rm_deadline deadline;
    rm_permit permit;
    uint32_t life;   /* the pool's, of which a fork begins another */
    uint32_t thread; /* rm_thread_number of the one that asked: the lease is its */
} rm_pool_request;

/* Borrows a resource without waiting, in the same queue as all others: acquired_fn gets it, perhaps
   before this returns. When a resource has to be made, create_fn runs in the thread whose call
   found the room: this one, or one that releases. Its deadline is kept by rm_pool_maintain and by
   every release; one that has passed, RM_NOWAIT's too, is RM_E_TIMEOUT. Without a thread in the
   queue only these look whether a backoff or grow_after_ns is over: call rm_pool_maintain from a
   timer. If creates fail for it and no endpoint is left, it is told the last error of the pool, its
   own or another's. cancel may be NULL.
   Returns: RM_OK: acquired_fn will be called, once. Else it will not: RM_E_FULL, RM_E_CLOSED,
   RM_E_CANCELLED, RM_E_REJECTED, RM_E_INVALID.
   Threads: any. Blocks: for a short lock, in hooks. Allocates: no.
   Owns: the pool has *request until acquired_fn; the lease is the receiver's. */
RM_API rm_status rm_pool_acquire_async(rm_pool *pool, rm_pool_request *request,
                                       rm_deadline deadline, rm_cancel *cancel,
                                       rm_pool_acquired_fn acquired_fn, rm_error *error,
                                       void *user);

/* Gives up an asynchronous acquire: acquired_fn is called with RM_E_CANCELLED.
   Returns: RM_E_STALE when it came too late; acquired_fn is called with RM_E_CANCELLED all the same
   if what it got just then is not fit; RM_E_INVALID for NULL.
   Threads: any, while request and pool live and request is not used again. Blocks: for a short
   lock, in acquired_fn, and in hooks for the next in the queue. Allocates: no. */
RM_API rm_status rm_pool_request_cancel(rm_pool_request *request);

/* >>operations */

/* Ends what is idle now and, when it is released, what is in use: no acquire that begins after this
   returns gets a resource whose create_fn was called before. For new credentials or a failover.
   Returns: RM_E_INVALID for NULL.
   Threads: any. Blocks: in destroy_fn, and in hooks for asynchronous acquires. Allocates: no.
   Cost: O(capacity). */
RM_API rm_status rm_pool_evict_all(rm_pool *pool);

/* Ends one resource: now if it is idle, else when it is released.
   Returns: RM_E_NOT_FOUND; RM_E_BUSY while it is between two states: try again; RM_E_INVALID.
   Threads: any. Blocks: as rm_pool_evict_all. Allocates: no. Cost: O(capacity). */
RM_API rm_status rm_pool_evict(rm_pool *pool, const void *resource);

/* Lends nothing from now on: acquires wait. Leases stay out.
   Returns: RM_E_INVALID for NULL.
   Threads: any. Blocks: no; under a max_total for a short lock, in hooks. Allocates: no. */
RM_API rm_status rm_pool_suspend(rm_pool *pool);

/* Lends again after rm_pool_suspend.
   Returns: RM_E_INVALID for NULL.
   Threads: any. Blocks: for a short lock, in hooks. Allocates: no. */
RM_API rm_status rm_pool_resume(rm_pool *pool);

/* Changes the sizes; zeros stand for defaults as in rm_pool_desc. What is idle above them is ended
   now, what is in use at its release.
   Returns: RM_E_INVALID naming the field, also when max + overflow is above capacity.
   Threads: any. Blocks: as rm_pool_evict_all. Allocates: no. Cost: O(capacity), with max_idle below
   max for each that it ends. */
RM_API rm_status rm_pool_resize(rm_pool *pool, const rm_pool_sizes *sizes, rm_error *error);

/* Makes idle resources until there are count of them (at most max in all), in up to 16 threads.
   *made (may be NULL) is how many it made, also on failure. What others are making or checking
   counts, also for an acquire; what is above max_idle ends at once; it makes what max_creating and
   max_total leave room for. If the last create failed at each endpoint, it makes one alone first.
   Returns: the first failed create's status, unless another endpoint made that one; RM_E_REJECTED
   by the guards of endpoints; RM_E_TIMEOUT when the deadline passed first; RM_E_CLOSED;
   RM_E_SYSTEM; RM_E_INVALID.
   Threads: any. Blocks: in the hooks. Allocates: what threads take. Cost: O(capacity) for each. */
RM_API rm_status rm_pool_prewarm(rm_pool *pool, uint32_t count, rm_deadline deadline,
                                 uint32_t *made, rm_error *error);

/* Upkeep, for a timer several times per idle_timeout_ns: ends what is idle for too long (never
   below min_idle), too old or too much, checks what is due for it, reports and reclaims leaked
   leases, makes what is missing of min_idle, ends asynchronous acquires whose time is over. It
   stops after `budget` hook calls (0 = none; guards do not count) or when the deadline has passed,
   and goes on where it stopped when it is called again; what is too much, or in the way of other
   keys, is ended besides.
   Returns: the status of the first failed create; RM_E_REJECTED by the guards of endpoints;
   RM_E_BUSY while another thread does it; RM_E_CLOSED; RM_E_INVALID.
   Threads: any. Blocks: in the hooks. Allocates: no. Cost: O(capacity) for the pass and
   for each that it ends or makes. */
RM_API rm_status rm_pool_maintain(rm_pool *pool, uint32_t budget, rm_deadline deadline,
                                  rm_error *error);

/* Makes a pool usable in the child of a fork(): open and empty, its statistics at zero, its own
   thread started again. What the parent's pool holds is the parent's: discard_fn drops the child's
   copy, destroy_fn is not called, which would say goodbye on a connection that the parent still
   uses. Leases are stale, and acquired_fn is not called for requests from before.
   Returns: RM_E_INVALID for NULL; RM_E_SYSTEM, with nothing usable.
   Threads: the child's only one, outside all hooks; but it may be in an acquired_fn that
   rm_pool_acquire_async, rm_pool_request_cancel or rm_pool_resume has called. Blocks: in
   discard_fn. Allocates: no. Cost: O(capacity). */
RM_API rm_status rm_pool_after_fork_child(rm_pool *pool);

/* >>insight */

/* Reads the statistics.
   Returns: RM_E_INVALID for NULL.
   Threads: any. Blocks: for short locks. Allocates: no. Cost: O(capacity). */
RM_API rm_status rm_pool_stats_get(rm_pool *pool, rm_pool_stats *out);

/* Calls fn for every lease that is out; fn returns false to stop.
   Returns: how many it was called for; 0 for NULL.
   Threads: any. Blocks: in fn. Allocates: no. Cost: O(capacity). */
RM_API uint32_t rm_pool_leases(rm_pool *pool,
                               bool (*fn)(const rm_pool_lease_info *lease, void *user), void *user);

/* The desc in force, with every default filled in; sizes as rm_pool_resize set them last.
   Returns: RM_E_INVALID for NULL.
   Threads: any. Blocks: no. Allocates: no. Owns: the pool has the names. */
RM_API rm_status rm_pool_desc_get(const rm_pool *pool, rm_pool_desc *out);

/* Names an end, such as "broken".
   Returns: a static string; "unknown" for a number that is none.
   Threads: any. Blocks: no. Allocates: no. */
RM_API const char *rm_pool_cause_name(rm_pool_cause cause);

/* The pool as a resource for a manager or for rm_metrics: start makes min_idle resources, in
   parallel (and opens it again if it was closed and all resources are back), stop closes.
   Health is DEGRADED while somebody waits, and after a failed create until one goes well; but for a
   minute only when there are others and nobody waits.
   Returns: the resource; one with a NULL name for NULL.
   Threads: any. Blocks: no. Allocates: no. Owns: the pool has the name. */
RM_API rm_resource rm_pool_resource(rm_pool *pool);

/* >>pools: one for each key */

/* Pools made on first use, one for each key (host, tenant), under a common bound. Opaque. */
typedef struct rm_pools rm_pools;

/* A lease, and what keeps its pool alive. */
typedef struct rm_pools_lease {
    rm_lease lease;
    rm_pool *pool; /* for rm_pool_note, rm_pool_evict and the like, until the lease has ended or was
                      reclaimed; rm_pools alone lends */
    rm_registry_ref ref;
    uint32_t pools;
} rm_pools_lease;

typedef struct rm_pools_desc {
    const char *name;   /* for errors and statistics; at most 47 bytes, copied; 0 = "pools" */
    rm_pool_desc pool;  /* of every key's pool; its env is also that of the pools; its endpoints
                           have to outlive them */
    uint32_t max_keys;  /* pools at once; an unused one makes room for another; 0 = 1024; at most
                           2^24 */
    uint32_t max_total; /* resources of all pools together; 0 = no bound. What is idle under one key
                           is ended when it is needed under another; keys that wait share them */
    /* hook: changes the desc for a new key: user, max, name (0 there = the key, if it is text) */
    rm_status (*open_fn)(const void *key, size_t size, rm_pool_desc *desc, rm_error *error,
                         void *user);
    void (*shut_fn)(void *pool_user, void *user); /* hook: the pool with this desc.user is gone */
    void *user;                                   /* last argument of both */
} rm_pools_desc;

/* Makes an empty set of pools.
   Returns: RM_E_INVALID naming the field; RM_E_TOO_LARGE for a long name; RM_E_NOMEM; RM_E_SYSTEM;
   RM_E_UNSUPPORTED as rm_pool_create.
   Threads: owner. Blocks: no. Allocates: yes. Owns: the caller; rm_pools_destroy. */
RM_API RM_MUST_USE rm_status rm_pools_create(const rm_pools_desc *desc, rm_pools **out,
                                             rm_error *error);

/* Ends the pools; NULL is allowed.
   Returns: RM_E_BUSY, closed but not freed, while a lease is out, and from inside their own hooks.
   Threads: owner. Blocks: in destroy_fn. Allocates: no. Cost: O(resources). */
RM_API rm_status rm_pools_destroy(rm_pools *pools);

/* Closes all pools, as rm_pool_close, and makes no more. timeout_ns 0 = 8 s, for all together. An
   unused key that makes room for another is ended in the thread that asks for that one: destroy_fn
   may still be on its way out there, join it first.
   Returns: as rm_pool_close, for the first pool that is not empty in time.
   Threads: any. Blocks: up to timeout_ns, and in destroy_fn. Allocates: no. */
RM_API rm_status rm_pools_close(rm_pools *pools, int64_t timeout_ns, rm_error *error);

/* Borrows a resource of a key. If max_total is used up, what is idle under other keys makes way,
   also for a deadline made of RM_NOWAIT. desc.pool.acquire_timeout_ns does not count. cancel may
   be NULL.
   Returns: as rm_pool_acquire_until; RM_E_DEADLOCK also for a thread that holds a lease of another
   key when all max_total are taken; RM_E_FULL also when max_keys are in use (upkeep uses the key
   that it looks at) or being made; RM_E_TOO_LARGE for a key above 255 bytes; RM_E_NOMEM; open_fn's
   status.
   Threads: any. Blocks: up to the deadline, and in the hooks. Allocates: for a new key.
   Owns: the caller; rm_pools_release. Cost: O(max_keys) when full. */
RM_API RM_MUST_USE rm_status rm_pools_acquire(rm_pools *pools, const void *key, size_t size,
                                              rm_deadline deadline, rm_cancel *cancel,
                                              rm_pools_lease *out, rm_error *error);

/* The end of rm_pools_acquire_async, as rm_pool_acquired_fn. */
typedef void (*rm_pools_acquired_fn)(rm_status status, const rm_pools_lease *lease,
                                     const rm_error *error, void *user);

/* An asynchronous acquire of a key. Private fields; lives, unmoved, until acquired_fn is called. */
typedef struct rm_pools_request {
    rm_pool_request request;
    rm_pools *pools;
    rm_registry_ref ref;
    uint32_t number;
    rm_pools_acquired_fn acquired_fn;
    void *user;
} rm_pools_request;

/* Borrows a resource of a key without waiting: rm_pool_acquire_async for the key's pool. Its
   deadline is kept by rm_pools_maintain and by every release. cancel may be NULL.
   Returns: RM_OK: acquired_fn will be called, once. Else it will not: as rm_pool_acquire_async, and
   for the key as rm_pools_acquire.
   Threads: any. Blocks: for a short lock, in hooks. Allocates: for a new key.
   Owns: the pools have *request until acquired_fn; the lease is the receiver's. */
RM_API rm_status rm_pools_acquire_async(rm_pools *pools, rm_pools_request *request, const void *key,
                                        size_t size, rm_deadline deadline, rm_cancel *cancel,
                                        rm_pools_acquired_fn acquired_fn, rm_error *error,
                                        void *user);

/* Gives up an asynchronous acquire of a key, whose pool may be gone.
   Returns: as rm_pool_request_cancel.
   Threads: any, while request and pools live and request is not used again. Blocks: for a short
   lock, in acquired_fn; under a max_total in hooks of other keys. Allocates: no. */
RM_API rm_status rm_pools_request_cancel(rm_pools_request *request);

/* Gives a resource back and zeroes the lease; rm_pool_detach with lease.pool does as well.
   Returns: RM_E_STALE for a lease that has ended and for a copy of one, its pool gone or not;
   RM_E_FOREIGN for a lease of other pools, and for one from before rm_pools_after_fork_child;
   RM_E_INVALID.
   Threads: any. Blocks: as rm_pool_release; under a max_total in hooks of other keys.
   Allocates: no. Cost: under a max_total O(keys that wait * capacity), and O(max_keys) when it is
   used up. */
RM_API rm_status rm_pools_release(rm_pools *pools, rm_pools_lease *lease, rm_release how);

/* Gives a resource back after an operation that ended with this result, as rm_pool_release_result.
   Returns: as rm_pools_release.
   Threads: any. Blocks: as rm_pools_release, in classify_fn. Allocates: no. */
RM_API rm_status rm_pools_release_result(rm_pools *pools, rm_pools_lease *lease,
                                         const rm_error *result);

/* Calls rm_pool_maintain for every pool, each with that budget; with desc.pool.maintain_every_ns a
   thread does. When the deadline has passed, the next call goes on with the next key.
   Returns: the first failure of a pool, RM_E_CLOSED among them; RM_E_INVALID for NULL.
   Threads: any. Blocks: in the hooks. Allocates: no. Cost: O(resources). */
RM_API rm_status rm_pools_maintain(rm_pools *pools, uint32_t budget, rm_deadline deadline,
                                   rm_error *error);

/* Calls fn for every key and its pool; fn returns false to stop. With rm_pool_evict_all in fn it
   rotates credentials: a key that is made meanwhile has nothing from before.
   Threads: any. Blocks: in fn. Allocates: no. Cost: O(max_keys). */
RM_API void rm_pools_each(rm_pools *pools,
                          bool (*fn)(const void *key, size_t size, rm_pool *pool, void *user),
                          void *user);

/* Makes the pools usable in the child of a fork(): there is none. The parent's are forgotten, their
   memory and descriptors stay until exec or _exit.
   Returns: RM_E_INVALID for NULL; RM_E_SYSTEM, with nothing usable.
   Threads: the child's only one. Blocks: no. Allocates: no. Cost: O(max_keys). */
RM_API rm_status rm_pools_after_fork_child(rm_pools *pools);

/* The pools as one resource: start opens again what was closed and is back, stop closes, health is
   the worst of them, statistics are the keys and resources.
   Returns: the resource; one with a NULL name for NULL.
   Threads: any. Blocks: no. Allocates: no. Owns: the pools have the name. */
RM_API rm_resource rm_pools_resource(rm_pools *pools);

#ifdef __cplusplus
}
#endif
#endif /* RM_POOL_H_INCLUDED */

/* ========================================================================================== */
/* Implementation.                                                                            */
/* ========================================================================================== */
#if defined(RM_POOL_IMPLEMENTATION) && !defined(RM_POOL_IMPLEMENTATION_DONE)
#define RM_POOL_IMPLEMENTATION_DONE
#undef rm_pool_acquire /* of RM_POOL_TRACE; they come back below */
#undef rm_pool_acquire_until
#undef rm_pool_scope_open

#ifdef __cplusplus
extern "C" {
#endif

/* >>private types
   A slot's word is sequence << 3 | state. The sequence counts its leases, so that a lease fits one
   holder only; at 10^9 leases a second it wraps after 70 years. Whoever moves a slot to CREATING,
   CHECKING or CLOSING owns it and is the only one to touch the plain part of it; what others read
   meanwhile is atomic. An idle slot is claimed as CHECKING, a lent one is BUSY.

   The pool's epoch says which resources may be lent as they are: those that were made or checked
   in the same one. Its bits: closed, suspended, doubt (goes up with each failed use: all are to be
   checked), generation (goes up with each eviction: older ones are to be ended).

   The population counts slots: total (not empty: what max bounds), kept (of those, not closing) and
   creating, in one word, so that a claim of room is one compare-and-swap. */

enum {
    RMI_SLOT_EMPTY = 0,
    RMI_SLOT_IDLE = 1,
    RMI_SLOT_BUSY = 2,
    RMI_SLOT_CREATING = 3,
    RMI_SLOT_CHECKING = 4,
    RMI_SLOT_CLOSING = 5,
    RMI_SLOT_STATES = 6,
    RMI_SLOT_BITS = 3
};

/* Tests make these small, to see that they would notice. */
#ifndef RMI_POOL_SEQUENCE_BITS
#define RMI_POOL_SEQUENCE_BITS 61
#endif
#ifndef RMI_POOL_GENERATION_BITS
#define RMI_POOL_GENERATION_BITS 32
#endif
#ifndef RMI_POOL_DOUBT_BITS
#define RMI_POOL_DOUBT_BITS 29
#endif
#define RMI_POOL_SEQUENCES (((UINT64_C(1) << (RMI_POOL_SEQUENCE_BITS - 1)) - 1) * 2 + 1)
#define RMI_EPOCH_CLOSED UINT64_C(1)
#define RMI_EPOCH_SUSPENDED UINT64_C(2)
#define RMI_EPOCH_STOPPED (RMI_EPOCH_CLOSED | RMI_EPOCH_SUSPENDED)
#define RMI_EPOCH_EVICTED UINT64_C(4) /* of a slot: to be ended, whatever the pool's epoch is */
#define RMI_EPOCH_DOUBT UINT64_C(8)   /* one of it */
#define RMI_EPOCH_DOUBTS (((UINT64_C(1) << RMI_POOL_DOUBT_BITS) - 1) << 3)
#define RMI_EPOCH_GENERATION (UINT64_C(1) << 32) /* one of it */
#define RMI_EPOCH_GENERATIONS (((UINT64_C(1) << RMI_POOL_GENERATION_BITS) - 1) << 32)

#define RMI_POP_TOTAL UINT64_C(1)
#define RMI_POP_KEPT (UINT64_C(1) << 16)
#define RMI_POP_CREATING (UINT64_C(1) << 32)
#define RMI_POP_FIELD(word, unit) ((uint32_t)((word) / (unit)&0xFFFFu))

typedef struct rmi_slot {
    RMI_ALIGN(128) uint64_t word;
    rmi_word64 epoch;       /* the pool's when it was made or checked last */
    rmi_word64 expires_ns;  /* coarse; INT64_MAX = never */
    rmi_word64 used_ns;     /* when it was last released or made, coarse */
    rmi_word64 checked_ns;  /* when validate_fn accepted it or it was made, coarse */
    rmi_word64 acquired_ns; /* coarse (fine with time_uses); this and the next two: while BUSY */
    rmi_word64 where;       /* a pointer */
    uint32_t thread;
    uint32_t endpoint;
    rmi_word64 resource;       /* the pointer */
    rm_permit permit;          /* the guard's, while it is lent */
    rm_permit endpoint_permit; /* its endpoint's guard's */
    rmi_word64 data;           /* a pointer */
    int64_t born_ns;
    uint32_t reported; /* the low half of the last sequence reported as leaked; maintain's */
    bool probe;        /* its create finds out whether the endpoint is well again */
    uint16_t next;     /* slot + 1 of the next that a trim has claimed; 0 = none */
} rmi_slot;

typedef struct rmi_endpoint {
    rm_guard guard;
    void *user;
    rmi_word64 retry_ns; /* no create before; while failures > 0 */
    rmi_word64 shut_ns;  /* its guard refused: not used before */
    uint32_t failures;   /* creates that failed one after the other */
    char name[48];
} rmi_endpoint;

/* As retry_ns: a create finds out whether the endpoint is well again. */
#define RMI_POOL_PROBED ((uint64_t)INT64_MAX)

/* A bound on the resources of several pools together; see rm_pools. */
typedef struct rmi_budget {
    uint32_t used, max;
    uint32_t wanting;  /* acquires in the queues */
    rmi_word64 rounds; /* of notifications */
    struct rm_pools *pools;
    rm_mutex mutex;   /* held to change `used` and `wanting`, and for what follows */
    uint32_t leaving; /* resources that are being ended, whose places will be free */
    uint32_t looked;  /* how often somebody was told that enough will be free */
    struct rm_pool *hungry, *fullest; /* first and last of the pools in which somebody waits */
} rmi_budget;

/* A thread that does something again and again. */
typedef struct rmi_helper {
    rm_cancel stop;
    rm_thread thread;
    const rm_clock *clock;
    int64_t every_ns;
    void (*run_fn)(void *user);
    void *user;
    uint32_t helping, number;
} rmi_helper;

/* 1 us to 10 s, 16 bins a decade: 952 bytes */
enum { RMI_POOL_TIME_FIRST = 3, RMI_POOL_TIME_LAST = 10, RMI_POOL_TIME_BINS = 119 };
enum { RMI_POOL_WAITS, RMI_POOL_CREATES, RMI_POOL_USES, RMI_POOL_TIMES };

/* What a queue may grant besides a slot. */
enum { RMI_POOL_FAILS = 0x10000, RMI_POOL_SHUT, RMI_POOL_LOOK };

struct rm_pool {
    RMI_ALIGN(128) uint64_t epoch;
    rmi_word64 population;
    rmi_word64 sizes; /* max, overflow, min_idle, max_idle: 16 bits each, from the lowest */
    rmi_slot *slots;
    rmi_endpoint *endpoints; /* at least one */
    int64_t fresh_ns;        /* what was used so lately is lent without a check */
    uint32_t capacity, endpoint_count, number, life;
    uint32_t family;        /* the number of `pools` when it was made */
    bool direct;            /* an acquire asks nobody: no guard, no choice of endpoints */
    bool plain;             /* a release asks and tells nobody */
    bool balanced;          /* which endpoint a lease is from matters */
    rm_waitq queue;         /* acquires; its lock also guards last_error and times */
    rm_waitq drain;         /* closes */
    rmi_budget *budget;     /* NULL = none */
    struct rm_pools *pools; /* whose key it is for; NULL = nobody's */
    rmi_word64 key;         /* slot << 32 | generation in their registry */
    rm_pool_desc desc;
    rm_env env;
    rm_guard guard;
    char name[48];
    void *memory; /* what the allocator gave; NULL = the caller's */
    size_t size;
    uint32_t maintaining, cursor; /* where the next maintain goes on */
    uint32_t turn;                /* round robin: the endpoint to ask first */
    uint32_t requests;            /* asynchronous acquires whose acquired_fn has not returned */
    uint32_t trims;               /* asked for; the first one does them */
    uint32_t wanting;             /* acquires that wait, with a budget: it is hungry */
    uint32_t away;                /* of those, on their way to the queue: they make room */
    uint64_t round;               /* of the notifications in which it had its turn last */
    bool held;                    /* those that want one were passed over: it is not their time */
    bool grows;                   /* since there are some, one has waited for grow_after_ns */
    bool failing;                 /* the last create failed */
    rm_error last_error;
    int64_t last_error_ns;
    rm_status check_status; /* of the last failed check; RM_OK when something was made since */
    int64_t check_ns;
    uint64_t leases_before; /* in the parent of a fork */
    double phase;           /* of the lifetimes, 0 to 1 */
    rmi_word64 created, create_failures, rejected, failed_fast, detached, reclaimed, leaks;
    rmi_word64 ended[RM_POOL_CAUSES];
    rm_hist times[RMI_POOL_TIMES];
    rmi_word64 bins[RMI_POOL_TIMES][RMI_POOL_TIME_BINS]; /* as rm_hist wants them */
    rm_pool *hungrier, *fuller; /* its neighbours among the pools that are hungry */
    rmi_helper helper;
};

static uint32_t rmi_pool_numbers;

#ifndef RM_NO_TLS
static RMI_TLS const rmi_inside *rmi_pool_hooks; /* that run while no slot shows it */

/* Which slot the thread used last, in a few pools: it finds it again without looking at others. For
   a while only: then it looks from the lowest on, so that threads which do not overlap end up with
   one resource. */
typedef struct rmi_pool_hint {
    uint32_t pool, slot;
    int64_t since_ns;
} rmi_pool_hint;

enum { RMI_POOL_HINTS = 4 };
static RMI_TLS rmi_pool_hint rmi_pool_hints[RMI_POOL_HINTS];
#endif

static uint32_t rmi_slot_state(uint64_t word) {
    return (uint32_t)(word & ((1u << RMI_SLOT_BITS) - 1));
}

static uint64_t rmi_slot_word(uint64_t sequence, uint32_t state) {
    return (sequence & RMI_POOL_SEQUENCES) << RMI_SLOT_BITS | state;
}

static uint32_t rmi_pool_size(uint64_t sizes, uint32_t which) {
    return (uint32_t)(sizes >> 16 * which & 0xFFFFu);
}

static void rmi_pool_count(rmi_word64 *counter) {
    (void)RMI_ADD64(counter, 1u, RELAXED);
}

static void *rmi_pool_resource_of(rmi_slot *slot) {
    return (void *)(uintptr_t)RMI_LOAD64(&slot->resource, RELAXED);
}

static rmi_endpoint *rmi_pool_endpoint_of(rm_pool *pool, const rmi_slot *slot) {
    return &pool->endpoints[RMI_LOAD32(&slot->endpoint, RELAXED)];
}

static void *rmi_pool_user(rm_pool *pool, const rmi_slot *slot) {
    return rmi_pool_endpoint_of(pool, slot)->user;
}

static void rmi_pool_log(const rm_pool *pool, rm_log_level level, const char *event,
                         const rm_error *error) {
    rm_kv kv[3];
    kv[0] = rm_kv_string("pool", pool->name);
    kv[1] = rm_kv_string("status", error == NULL ? NULL : rm_status_name(error->status));
    kv[2] = rm_kv_string("message", error == NULL ? NULL : error->message);
    rm_log_emit(pool->env.log, pool->env.clock, level, "rm_pool", event, kv, error == NULL ? 1 : 3);
}

static const char *rmi_pool_where(rmi_slot *slot) {
    const char *where = (const char *)(uintptr_t)RMI_LOAD64(&slot->where, ACQUIRE);
    return where == NULL ? "" : where;
}

/* Tells event_fn of a step of a slot (NULL: of none), which the caller owns. */
static void rmi_pool_tell(rm_pool *pool, rmi_slot *slot, rm_pool_event *event) {
    rmi_inside here;
    if (pool->desc.event_fn == NULL) return;
    event->pool = pool->name;
    event->endpoint = event->where = "";
    if (slot != NULL) {
        event->endpoint = rmi_pool_endpoint_of(pool, slot)->name;
        event->where = rmi_pool_where(slot);
        event->thread = RMI_LOAD32(&slot->thread, RELAXED);
        event->data = (void *)(uintptr_t)RMI_LOAD64(&slot->data, RELAXED);
    }
    RMI_ENTER(rmi_pool_hooks, here, pool);
    pool->desc.event_fn(event, pool->desc.user);
    RMI_LEAVE(rmi_pool_hooks, here);
}

static void rmi_pool_step(rm_pool *pool, rmi_slot *slot, rm_pool_event_kind kind,
                          const rm_error *error, int64_t ns) {
    rm_pool_event event;
    if (pool->desc.event_fn == NULL) return;
    memset(&event, 0, sizeof event);
    event.kind = kind;
    event.error = error;
    event.ns = ns;
    if (slot != NULL) event.resource = rmi_pool_resource_of(slot);
    rmi_pool_tell(pool, slot, &event);
}

static void rmi_pool_time(rm_pool *pool, uint32_t which, int64_t ns) {
    rm_waitq_lock(&pool->queue);
    (void)rm_hist_record(&pool->times[which], ns);
    rm_waitq_unlock(&pool->queue);
}

/* >>core: slots */

/* Moves a slot that the caller owns to another state. */
static void rmi_pool_set(rmi_slot *slot, uint32_t state) {
    const uint64_t word = RMI_LOAD64(&slot->word, RELAXED);
    RMI_STORE64(&slot->word, rmi_slot_word(word >> RMI_SLOT_BITS, state), SEQ_CST);
}

/* Claims a slot: moves it from one state to another, if it is still as seen. */
static bool rmi_pool_claim(rmi_slot *slot, uint64_t seen, uint32_t to) {
    return RMI_CAS64(&slot->word, &seen, rmi_slot_word(seen >> RMI_SLOT_BITS, to), SEQ_CST);
}

static bool rmi_pool_claim_from(rmi_slot *slot, uint32_t from, uint32_t to) {
    const uint64_t word = RMI_LOAD64(&slot->word, SEQ_CST);
    return rmi_slot_state(word) == from && rmi_pool_claim(slot, word, to);
}

/* May what was made or checked in one epoch be kept in another? */
static bool rmi_pool_current(uint64_t made, uint64_t now) {
    const uint64_t kept = RMI_EPOCH_GENERATIONS | RMI_EPOCH_CLOSED | RMI_EPOCH_EVICTED;
    return ((made ^ now) & kept) == 0;
}

static bool rmi_pool_is_closed(const rm_pool *pool) {
    return (RMI_LOAD64(&pool->epoch, SEQ_CST) & RMI_EPOCH_CLOSED) != 0;
}

/* Closed or suspended: lends nothing, whatever there is. */
static bool rmi_pool_is_stopped(const rm_pool *pool) {
    return (RMI_LOAD64(&pool->epoch, SEQ_CST) & RMI_EPOCH_STOPPED) != 0;
}

/* Changes the epoch: takes bits away, sets bits, adds to doubt or generation. */
static void rmi_pool_turn(rm_pool *pool, uint64_t clear, uint64_t set, uint64_t add) {
    uint64_t seen = RMI_LOAD64(&pool->epoch, RELAXED), next;
    do {
        next = (seen & ~clear) | set;
        if (add == RMI_EPOCH_DOUBT)
            next = (next & ~RMI_EPOCH_DOUBTS) | ((next + add) & RMI_EPOCH_DOUBTS);
        if (add == RMI_EPOCH_GENERATION)
            next = (next & ~RMI_EPOCH_GENERATIONS) | ((next + add) & RMI_EPOCH_GENERATIONS);
    } while (!RMI_CAS64(&pool->epoch, &seen, next, SEQ_CST));
}

static void rmi_pool_doubt(rm_pool *pool) {
    if (pool->desc.validate_fn != NULL) rmi_pool_turn(pool, 0, 0, RMI_EPOCH_DOUBT);
}

static int64_t rmi_pool_now(const rm_pool *pool) {
    return rm_now_coarse(pool->env.clock);
}

static int64_t rmi_pool_unused_ns(rmi_slot *slot, int64_t now) {
    return rmi_time_since(now, (int64_t)RMI_LOAD64(&slot->used_ns, RELAXED));
}

/* How long it has been lent. With time_uses it was noted on the fine clock: now may be before. */
static int64_t rmi_pool_held_ns(rmi_slot *slot, int64_t now) {
    const int64_t held = rmi_time_since(now, (int64_t)RMI_LOAD64(&slot->acquired_ns, ACQUIRE));
    return held > 0 ? held : 0;
}

static bool rmi_pool_expired(rmi_slot *slot, int64_t now) {
    return now >= (int64_t)RMI_LOAD64(&slot->expires_ns, RELAXED);
}

/* >>core: room. What is claimed here is given back by rmi_pool_vacate. */

static void rmi_pools_wake(rmi_budget *budget);
static void rmi_pools_count_in(rm_pool *pool, rmi_pool_wish *wish);
static void rmi_pools_count_out(rm_pool *pool, rmi_pool_wish *wish);
static void rmi_pools_put(rm_pool *pool, rm_registry_ref *held);
static bool rmi_pools_hold(rm_pool *pool, rm_registry_ref *held);
static void rmi_pools_relieve(rmi_budget *budget);
static bool rmi_pools_waits(rm_pool *pool);
static bool rmi_pools_yields(rm_pool *pool);
static bool rmi_pools_hold_any(rm_pool *pool);
static bool rmi_pool_forgotten(const rm_pool *pool);
static bool rmi_pools_unhold(rm_pool *pool);
static bool rmi_budget_take(rmi_budget *budget, rm_pool *pool, rmi_pool_wish *wish);
static void rmi_budget_put(rmi_budget *budget, uint32_t left);

static bool rmi_budget_spent(const rmi_budget *budget) {
    return RMI_LOAD32(&budget->used, SEQ_CST) >= budget->max;
}

/* Is the common bound reached, or what is left others' turn? */
static bool rmi_pool_spent(rm_pool *pool) {
    return pool->budget != NULL && (rmi_budget_spent(pool->budget) || rmi_pools_waits(pool));
}

/* May one more be made, with overflow or without? */
static bool rmi_pool_has_room(rm_pool *pool, bool overflow, uint64_t population) {
    const uint64_t sizes = RMI_LOAD64(&pool->sizes, SEQ_CST);
    const uint32_t most = rmi_pool_size(sizes, 0) + (overflow ? rmi_pool_size(sizes, 1) : 0);
    return RMI_POP_FIELD(population, RMI_POP_TOTAL) < most &&
           RMI_POP_FIELD(population, RMI_POP_CREATING) < pool->desc.max_creating;
}

/* Its resources, less those that are being ended. */
static uint32_t rmi_pool_kept(rm_pool *pool) {
    return RMI_POP_FIELD(RMI_LOAD64(&pool->population, SEQ_CST), RMI_POP_KEPT);
}

/* Counts one that is being made, if there is room. */
static bool rmi_pool_enter(rm_pool *pool, bool overflow) {
    uint64_t seen = RMI_LOAD64(&pool->population, SEQ_CST);
    do {
        if (!rmi_pool_has_room(pool, overflow, seen)) return false;
    } while (!RMI_CAS64(&pool->population, &seen,
                        seen + RMI_POP_TOTAL + RMI_POP_KEPT + RMI_POP_CREATING, SEQ_CST));
    return true;
}

static void rmi_pool_leave(rm_pool *pool, uint64_t population) {
    (void)RMI_ADD64(&pool->population, 0u - population, SEQ_CST);
}

/* The wish of one that waits since then; of upkeep, which need not wait: INT64_MIN. */
static rmi_pool_wish rmi_pool_wish_of(int64_t since_ns) {
    rmi_pool_wish wish;
    memset(&wish, 0, sizeof wish);
    wish.since_ns = since_ns;
    return wish;
}

static bool rmi_pool_has_bit(uint64_t bits, uint32_t endpoint) {
    return (bits >> endpoint & 1u) != 0;
}

/* Until when an endpoint's guard shall not be asked; INT64_MIN = it may. */
static int64_t rmi_pool_shut_until(rm_pool *pool, uint32_t endpoint) {
    const int64_t shut = (int64_t)RMI_LOAD64(&pool->endpoints[endpoint].shut_ns, SEQ_CST);
    return shut == 0 ? INT64_MIN : shut;
}

/* When creates may be tried at an endpoint: at once, or not before a time; INT64_MAX while another
   finds out whether it is well again. */
static int64_t rmi_pool_open_at(rm_pool *pool, uint32_t endpoint, const rmi_pool_wish *wish) {
    const int64_t shut = rmi_pool_shut_until(pool, endpoint);
    int64_t retry;
    if (RMI_LOAD32(&pool->endpoints[endpoint].failures, SEQ_CST) == 0) return shut;
    if (rmi_pool_has_bit(wish->failed_at, endpoint)) return INT64_MAX;
    retry = (int64_t)RMI_LOAD64(&pool->endpoints[endpoint].retry_ns, SEQ_CST);
    return shut > retry ? shut : retry;
}

/* Is there nothing that keeps creates from an endpoint for a time? */
static bool rmi_pool_well(rm_pool *pool, rmi_endpoint *endpoint) {
    const int64_t shut = (int64_t)RMI_LOAD64(&endpoint->shut_ns, SEQ_CST);
    return RMI_LOAD32(&endpoint->failures, SEQ_CST) == 0 &&
           (shut == 0 || shut <= rm_now(pool->env.clock));
}

/* Takes leave to create at an endpoint; *probe: as the one that finds out whether it is well. */
static bool rmi_pool_try_endpoint(rm_pool *pool, uint32_t at, const rmi_pool_wish *wish,
                                  bool *probe) {
    rmi_endpoint *endpoint = &pool->endpoints[at];
    uint64_t retry;
    *probe = false;
    if (RMI_LOAD32(&endpoint->failures, SEQ_CST) == 0) return true;
    if (rmi_pool_has_bit(wish->failed_at, at)) return false;
    retry = RMI_LOAD64(&endpoint->retry_ns, SEQ_CST);
    if ((int64_t)retry > rm_now(pool->env.clock)) return false;
    *probe = RMI_CAS64(&endpoint->retry_ns, &retry, RMI_POOL_PROBED, SEQ_CST);
    return *probe;
}

/* A probe that has ended without a failure, or was not begun: another may begin. */
static void rmi_pool_end_probe(rmi_endpoint *endpoint, bool probe) {
    uint64_t probed = RMI_POOL_PROBED;
    if (probe) (void)RMI_CAS64(&endpoint->retry_ns, &probed, (uint64_t)INT64_MIN, SEQ_CST);
}

/* What the slots of each endpoint do; idle ones only if they will do. */
typedef struct rmi_loads {
    uint16_t busy[64], idle[64], kept[64];
} rmi_loads;

static void rmi_pool_loads(rm_pool *pool, bool idle, rmi_loads *loads) {
    uint32_t i;
    memset(loads, 0, sizeof *loads);
    for (i = 0; i < pool->capacity; ++i) {
        const uint32_t at = RMI_LOAD32(&pool->slots[i].endpoint, RELAXED);
        const uint32_t state = rmi_slot_state(RMI_LOAD64(&pool->slots[i].word, SEQ_CST));
        if (state == RMI_SLOT_BUSY) ++loads->busy[at];
        if (state == RMI_SLOT_IDLE && idle) ++loads->idle[at];
        if (state != RMI_SLOT_EMPTY && state != RMI_SLOT_CLOSING) ++loads->kept[at];
    }
}

/* Has one endpoint less in use than another, or as much and something idle, or less of all? */
static bool rmi_pool_less_used(const rmi_loads *loads, uint32_t one, uint32_t other) {
    if (loads->busy[one] != loads->busy[other]) return loads->busy[one] < loads->busy[other];
    if ((loads->idle[one] == 0) != (loads->idle[other] == 0)) return loads->idle[one] != 0;
    return loads->kept[one] < loads->kept[other];
}

/* The n-th endpoint to ask, best first, of equals the next in turn: bit i of `asked` says that i
   was. */
static uint32_t rmi_pool_next_endpoint(rm_pool *pool, const rmi_loads *loads, uint64_t *asked) {
    const bool turns = pool->desc.balance == RM_POOL_ROUND_ROBIN;
    const uint32_t count = pool->endpoint_count;
    const uint32_t first = RMI_LOAD32(&pool->turn, RELAXED);
    uint32_t i, best = UINT32_MAX;
    for (i = 0; i < count; ++i) {
        const uint32_t at = (first + i) % count;
        if ((*asked >> at & 1u) != 0) continue;
        if (best == UINT32_MAX || (!turns && rmi_pool_less_used(loads, at, best))) best = at;
    }
    *asked |= UINT64_C(1) << best;
    return best;
}

/* What one acquire asks for: a timeout, whose deadline is computed when it is needed only, so that
   the fast path reads no fine clock; or a deadline. */
typedef struct rmi_pool_ask {
    int64_t timeout_ns;
    rm_deadline deadline;
    rm_cancel *cancel;
    rmi_pool_wish *wish;
    int64_t now_ns; /* coarse, when it was last looked at */
    bool absolute;
    bool try_only; /* RM_NOWAIT as a timeout */
} rmi_pool_ask;

/* When an acquire may make the pool grow; INT64_MIN = at once. */
static int64_t rmi_pool_grow_at(rm_pool *pool, const rmi_pool_wish *wish, uint64_t population) {
    uint32_t enough = rmi_pool_size(RMI_LOAD64(&pool->sizes, SEQ_CST), 2);
    if (pool->desc.grow_after_ns == 0) return INT64_MIN;
    if (enough == 0) enough = 1;
    if (RMI_POP_FIELD(population, RMI_POP_KEPT) < enough) return INT64_MIN;
    return rm_time_add(wish->since_ns, pool->desc.grow_after_ns);
}

/* Claims an empty slot to make a resource of an endpoint in, if there is room for one. What is
   taken on the way is put back when the next step fails; then it looks again, since another may
   have been refused because of it. */
static bool rmi_pool_claim_empty(rm_pool *pool, uint32_t endpoint, bool overflow,
                                 rmi_pool_wish *wish, uint64_t *grant) {
    uint32_t i;
    bool probe;
    for (;;) {
        const uint64_t population = RMI_LOAD64(&pool->population, SEQ_CST);
        int64_t grow_at;
        if (!rmi_pool_has_room(pool, overflow, population)) return false;
        grow_at = rmi_pool_grow_at(pool, wish, population);
        if (grow_at != INT64_MIN && grow_at > rm_now(pool->env.clock)) return false;
        if (rmi_pool_spent(pool)) return false;
        if (!rmi_pool_try_endpoint(pool, endpoint, wish, &probe)) return false;
        if (rmi_pool_enter(pool, overflow)) {
            if (pool->budget == NULL || rmi_budget_take(pool->budget, pool, wish))
                break; /* last: other keys would not be told of the undoing */
            rmi_pool_leave(pool, RMI_POP_TOTAL + RMI_POP_KEPT + RMI_POP_CREATING);
        }
        rmi_pool_end_probe(&pool->endpoints[endpoint], probe);
    }
    for (i = 0;; i = (i + 1) % pool->capacity) { /* there is one: the population says so */
        if (rmi_pool_claim_from(&pool->slots[i], RMI_SLOT_EMPTY, RMI_SLOT_CREATING)) break;
    }
    RMI_STORE32(&pool->slots[i].endpoint, endpoint, RELAXED);
    pool->slots[i].probe = probe;
    *grant = i;
    return true;
}

/* Leaves a slot that the caller owns empty, and tells those who wait for that. */
static void rmi_pool_vacate_left(rm_pool *pool, rmi_slot *slot, uint64_t population,
                                 uint32_t left) {
    RMI_STORE64(&slot->resource, 0u, RELAXED);
    rmi_pool_set(slot, RMI_SLOT_EMPTY);
    if (pool->budget != NULL) rmi_budget_put(pool->budget, left);
    rmi_pool_leave(pool, population);
    if (pool->budget != NULL) rmi_pools_wake(pool->budget); /* this queue in its turn */
    rm_waitq_notify(&pool->queue); /* it may be something else that it needs */
    rm_waitq_notify(&pool->drain);
}

static void rmi_pool_vacate(rm_pool *pool, rmi_slot *slot, uint64_t population) {
    rmi_pool_vacate_left(pool, slot, population, 0);
}

/* >>core: ending resources */

/* Ends the resource of a slot that the caller owns in state CLOSING or CREATING. */
static void rmi_pool_end(rm_pool *pool, rmi_slot *slot, rm_pool_cause cause) {
    rm_pool_event event;
    memset(&event, 0, sizeof event);
    event.kind = RM_POOL_EVENT_DESTROYED;
    event.resource = rmi_pool_resource_of(slot);
    event.cause = cause;
    event.ns = rmi_time_since(rmi_pool_now(pool), slot->born_ns);
    RMI_STORE64(&slot->resource, 0u, RELAXED); /* nobody finds what is being ended */
    if (pool->desc.destroy_fn != NULL)
        pool->desc.destroy_fn(event.resource, rmi_pool_user(pool, slot));
    rmi_pool_count(&pool->ended[cause]);
    rmi_pool_tell(pool, slot, &event);
    RMI_STORE64(&slot->data, 0u, RELAXED);
}

/* One that is not kept any more. Who waits is told before the hooks, which may take their time. */
static void rmi_pool_unkeep(rm_pool *pool) {
    rmi_pool_leave(pool, RMI_POP_KEPT);
    rm_waitq_notify(&pool->queue);
}

/* Ends the resource of a slot that the caller owns and leaves the slot empty; `left` says whether
   its place was counted as about to be free. */
static void rmi_pool_retire_left(rm_pool *pool, rmi_slot *slot, rm_pool_cause cause,
                                 uint32_t left) {
    rmi_pool_set(slot, RMI_SLOT_CLOSING);
    rmi_pool_unkeep(pool);
    rmi_pool_end(pool, slot, cause);
    rmi_pool_vacate_left(pool, slot, RMI_POP_TOTAL, left);
}

static void rmi_pool_retire(rm_pool *pool, rmi_slot *slot, rm_pool_cause cause) {
    rmi_pool_retire_left(pool, slot, cause, 0);
}

/* Ends idle resources that may not be lent any more: of older generations, or of a closed pool. */
static void rmi_pool_sweep(rm_pool *pool) {
    uint32_t i;
    for (i = 0; i < pool->capacity; ++i) {
        rmi_slot *slot = &pool->slots[i];
        const uint64_t word = RMI_LOAD64(&slot->word, SEQ_CST);
        const uint64_t epoch = RMI_LOAD64(&pool->epoch, SEQ_CST);
        if (rmi_slot_state(word) != RMI_SLOT_IDLE ||
            rmi_pool_current(RMI_LOAD64(&slot->epoch, RELAXED), epoch) ||
            !rmi_pool_claim(slot, word, RMI_SLOT_CLOSING))
            continue;
        rmi_pool_retire(pool, slot,
                        (epoch & RMI_EPOCH_CLOSED) != 0 ? RM_POOL_CAUSE_CLOSED
                                                        : RM_POOL_CAUSE_EVICTED);
    }
}

static uint32_t rmi_pool_in_state(rm_pool *pool, uint32_t state) {
    uint32_t i, count = 0;
    for (i = 0; i < pool->capacity; ++i)
        count += rmi_slot_state(RMI_LOAD64(&pool->slots[i].word, SEQ_CST)) == state;
    return count;
}

/* How many idle resources are too many. All that are above max; of those above max_idle one at a
   time, since its place may be wanted while a destroy_fn takes its time. */
static inline uint32_t rmi_pool_surplus(rm_pool *pool) {
    const uint64_t sizes = RMI_LOAD64(&pool->sizes, SEQ_CST);
    const uint32_t max = rmi_pool_size(sizes, 0), max_idle = rmi_pool_size(sizes, 3);
    const uint32_t kept = rmi_pool_kept(pool);
    if (kept > max) return kept - max;
    return max_idle < max && rmi_pool_in_state(pool, RMI_SLOT_IDLE) > max_idle;
}

/* Ends the idle resource in the highest slot, if there is one; perhaps only one whose endpoint's
   guard refused last, so that nobody may have it for a time. Its place is counted already. */
static bool rmi_pool_drop_idle(rm_pool *pool, bool refused) {
    uint32_t i = pool->capacity;
    while (i-- > 0) {
        rmi_endpoint *endpoint = rmi_pool_endpoint_of(pool, &pool->slots[i]);
        if (refused && RMI_LOAD64(&endpoint->shut_ns, SEQ_CST) == 0) continue;
        if (!rmi_pool_claim_from(&pool->slots[i], RMI_SLOT_IDLE, RMI_SLOT_CLOSING)) continue;
        rmi_pool_retire_left(pool, &pool->slots[i], RM_POOL_CAUSE_SURPLUS, 1);
        return true;
    }
    return false;
}

/* Claims surplus, from the top, and chains it. */
static void rmi_pool_claim_surplus(rm_pool *pool, uint32_t *first) {
    uint32_t count = rmi_pool_surplus(pool), i = pool->capacity;
    while (count > 0 && i-- > 0) {
        rmi_slot *slot = &pool->slots[i];
        if (!rmi_pool_claim_from(slot, RMI_SLOT_IDLE, RMI_SLOT_CLOSING)) continue;
        rmi_pool_leave(pool, RMI_POP_KEPT);
        slot->next = (uint16_t)*first;
        *first = i + 1;
        --count;
    }
}

/* Ends what is idle above the bounds. One thread at a time chooses, so that it is not too much, but
   ends nothing meanwhile: a slow destroy_fn holds up nobody else. */
static void rmi_pool_trim(rm_pool *pool) {
    uint32_t asked, first = 0;
    bool more = true;
    rm_waitq_serve(&pool->queue); /* what somebody waits for is not too much */
    while (more) {
        if (RMI_ADD32(&pool->trims, 1u, SEQ_CST) != 0) return; /* who is at it looks again */
        do {
            asked = RMI_LOAD32(&pool->trims, SEQ_CST);
            rmi_pool_claim_surplus(pool, &first);
        } while (!RMI_CAS32(&pool->trims, &asked, 0u, SEQ_CST));
        more = first != 0;
        if (more) rm_waitq_notify(&pool->queue); /* what is idle may be lent again */
        while (first != 0) {
            rmi_slot *slot = &pool->slots[first - 1];
            first = slot->next;
            rmi_pool_end(pool, slot, RM_POOL_CAUSE_SURPLUS);
            rmi_pool_vacate(pool, slot, RMI_POP_TOTAL);
        }
    }
}

/* Sees to what an idle resource, made or checked in that epoch, brings about. */
static inline void rmi_pool_settle(rm_pool *pool, uint64_t made) {
    rm_waitq_notify(&pool->queue);
    if (!rmi_pool_current(made, RMI_LOAD64(&pool->epoch, SEQ_CST))) rmi_pool_sweep(pool);
    if (rmi_pool_surplus(pool) != 0) rmi_pool_trim(pool);
    if (pool->budget != NULL) rmi_pools_relieve(pool->budget);
}

/* Puts a fit resource of a slot that the caller owns back. */
static void rmi_pool_offer(rm_pool *pool, rmi_slot *slot) {
    rmi_pool_set(slot, RMI_SLOT_IDLE);
    rmi_pool_settle(pool, RMI_LOAD64(&slot->epoch, SEQ_CST)); /* it may have been evicted since */
}

/* >>core: making resources */

/* Puts the next create at a slot's endpoint off. Of creates that fail side by side only the first
   counts: the others began before it was known. */
static void rmi_pool_back_off(rm_pool *pool, rmi_slot *slot, int64_t now) {
    rmi_endpoint *endpoint = rmi_pool_endpoint_of(pool, slot);
    const uint32_t failures = RMI_LOAD32(&endpoint->failures, SEQ_CST);
    const int64_t most = pool->desc.create_backoff_max_ns;
    int64_t wait = pool->desc.create_backoff_ns, until;
    uint32_t i;
    if (failures != 0 && !slot->probe) return;
    for (i = 0; i < failures && wait > 0 && wait < most; ++i)
        wait = rm_time_mul(wait, 2);
    if (wait > most) wait = most;
    if (wait > 1) wait -= (int64_t)rm_random_below(pool->env.random, (uint64_t)wait / 2 + 1);
    if (wait < 0) wait = pool->endpoint_count > 1 ? RM_MS(1) : 0; /* the others have their turn */
    until = rm_time_add(now, wait);
    if ((uint64_t)until == RMI_POOL_PROBED) --until;
    /* before `failures`, else somebody might take an old one for this; a probe has ended with it */
    RMI_STORE64(&endpoint->retry_ns, (uint64_t)until, SEQ_CST);
    RMI_STORE32(&endpoint->failures, failures + 1u, SEQ_CST);
    slot->probe = false;
}

static void rmi_pool_create_failed(rm_pool *pool, rmi_slot *slot, const rm_error *error,
                                   int64_t now) {
    rm_waitq_lock(&pool->queue);
    pool->failing = true;
    pool->last_error = *error;
    pool->last_error_ns = now;
    rm_waitq_unlock(&pool->queue);
    rmi_pool_back_off(pool, slot, now);
    rmi_pool_count(&pool->create_failures);
    rmi_pool_log(pool, RM_LOG_WARN, "create_failed", error);
}

/* Draws the end of a life: 1 less jitter times a share that differs from slot to slot as evenly as
   can be (multiples of the golden ratio, modulo 1) and from pool to pool at random. */
static int64_t rmi_pool_lifetime(const rm_pool *pool, const rmi_slot *slot) {
    const double golden = 0.61803398874989484820;
    const double shift = pool->phase + golden * (double)(slot - pool->slots);
    const double share = shift - (double)(int64_t)shift;
    const int64_t life = pool->desc.max_lifetime_ns;
    if (life == 0) return INT64_MAX;
    if (pool->desc.lifetime_jitter == RM_NONE) return life;
    return life - (int64_t)((double)life * share * pool->desc.lifetime_jitter / 100);
}

static void rmi_pool_created(rm_pool *pool, rmi_slot *slot, void *resource, uint64_t epoch) {
    const int64_t now = rmi_pool_now(pool);
    RMI_STORE32(&rmi_pool_endpoint_of(pool, slot)->failures, 0u, SEQ_CST);
    RMI_STORE64(&slot->resource, (uint64_t)(uintptr_t)resource, RELAXED);
    RMI_STORE64(&slot->epoch, epoch & ~RMI_EPOCH_STOPPED, RELAXED);
    RMI_STORE64(&slot->used_ns, (uint64_t)now, RELAXED);
    RMI_STORE64(&slot->checked_ns, (uint64_t)now, RELAXED);
    RMI_STORE64(&slot->expires_ns, (uint64_t)rm_time_add(now, rmi_pool_lifetime(pool, slot)),
                RELAXED);
    slot->born_ns = now;
    rm_waitq_lock(&pool->queue);
    pool->failing = false;
    pool->check_status = RM_OK;
    rm_waitq_unlock(&pool->queue);
    rmi_pool_count(&pool->created);
}

/* Calls create_fn for a slot in state CREATING, and notes what came of it. */
static rm_status rmi_pool_call_create(rm_pool *pool, rmi_slot *slot, rm_deadline deadline,
                                      void **resource, rm_error *error) {
    const rmi_endpoint *endpoint = rmi_pool_endpoint_of(pool, slot);
    const int64_t began = rm_now(pool->env.clock);
    int64_t now;
    rm_status status = pool->desc.create_fn(resource, deadline, error, endpoint->user);
    if (status == RM_OK && *resource == NULL)
        status = rm_error_set(error, RM_E_FAILED, 0, pool->name,
                              "create_fn returned RM_OK without a resource");
    if (status != RM_OK && error->status == RM_OK)
        (void)rm_error_set(error, status, 0, pool->name, "create_fn failed: %s",
                           rm_status_name(status));
    now = rm_now(pool->env.clock);
    rmi_pool_time(pool, RMI_POOL_CREATES, rmi_time_since(now, began));
    if (status == RM_OK) return RM_OK;
    error->status = status;
    rmi_pool_create_failed(pool, slot, error, now);
    rmi_pool_step(pool, slot, RM_POOL_EVENT_CREATE_FAILED, error, rmi_time_since(now, began));
    return status;
}

static void rmi_pool_leave_create(rm_pool *pool, rmi_slot *slot) {
    rmi_pool_end_probe(rmi_pool_endpoint_of(pool, slot), slot->probe);
    slot->probe = false;
}

/* Makes a resource in a slot that the caller owns in state CREATING, and leaves it in CHECKING,
   counted as kept only; on failure the slot is empty again. What was begun before an eviction is
   ended and made again. */
static rm_status rmi_pool_make(rm_pool *pool, rmi_slot *slot, rm_deadline deadline,
                               rm_error *error) {
    rm_error reason;
    rm_status status;
    memset(&reason, 0, sizeof reason);
    if (pool->budget != NULL)
        rmi_pools_relieve(pool->budget); /* this place may have been another's */
    for (;;) {
        const uint64_t epoch = RMI_LOAD64(&pool->epoch, SEQ_CST);
        void *resource = NULL;
        if ((epoch & RMI_EPOCH_CLOSED) != 0) {
            status = rm_error_set(&reason, RM_E_CLOSED, 0, pool->name, "closed while creating");
            break;
        }
        status = rmi_pool_call_create(pool, slot, deadline, &resource, &reason);
        if (status != RM_OK) break;
        rmi_pool_created(pool, slot, resource, epoch);
        rmi_pool_step(pool, slot, RM_POOL_EVENT_CREATED, NULL, 0);
        if (rmi_pool_current(epoch, RMI_LOAD64(&pool->epoch, SEQ_CST))) break;
        rmi_pool_end(pool, slot,
                     rmi_pool_is_closed(pool) ? RM_POOL_CAUSE_CLOSED : RM_POOL_CAUSE_EVICTED);
    }
    rmi_pool_leave_create(pool, slot);
    if (status != RM_OK) {
        if (error != NULL) *error = reason;
        rmi_pool_vacate(pool, slot, RMI_POP_TOTAL + RMI_POP_KEPT + RMI_POP_CREATING);
        return status;
    }
    rmi_pool_set(slot, RMI_SLOT_CHECKING);
    (void)RMI_ADD64(&pool->population, 0u - RMI_POP_CREATING, SEQ_CST);
    rm_waitq_notify(&pool->queue); /* somebody may wait for his turn to create */
    if (pool->budget != NULL) rmi_pools_relieve(pool->budget); /* and for a place */
    return RM_OK;
}

/* >>core: acquire */

/* Claims an idle slot of an endpoint. */
static bool rmi_pool_claim_idle(rm_pool *pool, uint32_t endpoint, uint64_t *grant) {
    uint32_t i;
    for (i = 0; i < pool->capacity; ++i) {
        rmi_slot *slot = &pool->slots[i];
        const uint64_t word = RMI_LOAD64(&slot->word, SEQ_CST);
        if (rmi_slot_state(word) != RMI_SLOT_IDLE ||
            RMI_LOAD32(&slot->endpoint, RELAXED) != endpoint ||
            !rmi_pool_claim(slot, word, RMI_SLOT_CHECKING))
            continue;
        *grant = i;
        return true;
    }
    return false;
}

/* What will do besides an empty slot within max. */
enum { RMI_CLAIM_IDLE = 1, RMI_CLAIM_OVERFLOW = 2 };

/* Claims a slot of one endpoint: with an idle resource, if that will do, else an empty one. */
static bool rmi_pool_claim_at(rm_pool *pool, uint32_t endpoint, uint32_t what, rmi_pool_wish *wish,
                              uint64_t *grant) {
    const int64_t shut = rmi_pool_shut_until(pool, endpoint);
    if (shut != INT64_MIN && shut > rm_now(pool->env.clock)) return false;
    if ((what & RMI_CLAIM_IDLE) != 0 && rmi_pool_claim_idle(pool, endpoint, grant)) return true;
    if (wish->tries && wish->failed != RM_OK) return false;
    return rmi_pool_claim_empty(pool, endpoint, (what & RMI_CLAIM_OVERFLOW) != 0, wish, grant);
}

static bool rmi_pool_claim_among(rm_pool *pool, const rmi_loads *loads, uint32_t what,
                                 rmi_pool_wish *wish, uint64_t *grant) {
    uint64_t asked = 0;
    uint32_t i;
    for (i = 0; i < pool->endpoint_count; ++i) {
        const uint32_t at = rmi_pool_next_endpoint(pool, loads, &asked);
        if (!rmi_pool_claim_at(pool, at, what, wish, grant)) continue;
        RMI_STORE32(&pool->turn, at + 1, RELAXED);
        return true;
    }
    return false;
}

/* Claims a slot of the best endpoint that has one. Overflow is for when nothing is idle, wherever
   it is. */
static bool rmi_pool_claim_best(rm_pool *pool, uint32_t what, rmi_pool_wish *wish,
                                uint64_t *grant) {
    rmi_loads loads;
    if (!pool->balanced) return rmi_pool_claim_at(pool, 0, what, wish, grant);
    rmi_pool_loads(pool, (what & RMI_CLAIM_IDLE) != 0, &loads);
    return rmi_pool_claim_among(pool, &loads, what & RMI_CLAIM_IDLE, wish, grant) ||
           ((what & RMI_CLAIM_OVERFLOW) != 0 &&
            rmi_pool_claim_among(pool, &loads, what, wish, grant));
}

/* Is there no leave to make a resource, for a time? *grant says why. */
static bool rmi_pool_blocked(rm_pool *pool, const rmi_pool_wish *wish, uint64_t *grant) {
    int64_t now;
    uint32_t i;
    *grant = RMI_POOL_SHUT;
    for (i = 0; i < pool->endpoint_count; ++i) {
        if (rmi_pool_open_at(pool, i, wish) == INT64_MIN) return false;
    }
    now = rm_now(pool->env.clock);
    for (i = 0; i < pool->endpoint_count; ++i) {
        const bool fails = RMI_LOAD32(&pool->endpoints[i].failures, SEQ_CST) != 0;
        if (rmi_pool_open_at(pool, i, wish) <= now) return false;
        if (fails && rmi_pool_shut_until(pool, i) <= now) *grant = RMI_POOL_FAILS;
    }
    return true;
}

/* Does somebody find out whether an endpoint is well again? He may not be counted as kept yet. */
static bool rmi_pool_probes(rm_pool *pool) {
    uint32_t i;
    for (i = 0; i < pool->endpoint_count; ++i) {
        if (RMI_LOAD64(&pool->endpoints[i].retry_ns, SEQ_CST) == RMI_POOL_PROBED) return true;
    }
    return false;
}

/* Is there a resource, or one that is being made? By the slots: the population counts for a moment
   those, too, that will find the common bound reached. */
static bool rmi_pool_has_any(rm_pool *pool) {
    uint32_t i;
    for (i = 0; i < pool->capacity; ++i) {
        const uint32_t state = rmi_slot_state(RMI_LOAD64(&pool->slots[i].word, SEQ_CST));
        if (state != RMI_SLOT_EMPTY && state != RMI_SLOT_CLOSING) return true;
    }
    return false;
}

/* Is there nothing to wait for? No leave to make a resource, and none that may come back: one whose
   own create has just failed does not wait for those. */
static bool rmi_pool_hopeless(rm_pool *pool, const rmi_pool_wish *wish, uint64_t *grant) {
    return rmi_pool_blocked(pool, wish, grant) && !rmi_pool_probes(pool) &&
           (*grant == RMI_POOL_SHUT || wish->failed_at != 0 || !rmi_pool_has_any(pool));
}

/* An endpoint whose create has just failed for an acquire is passed over by it until it goes well
   for somebody, or the others have had their turn and have no room: its backoff may be over before,
   when those take their time. */
static void rmi_pool_pass_over(rm_pool *pool, rmi_pool_wish *wish, const rmi_endpoint *endpoint) {
    wish->failed_at |= UINT64_C(1) << (endpoint - pool->endpoints);
    ++wish->failures;
}

/* Are there more than there may be since a resize? Then what is idle is about to be ended. */
static bool rmi_pool_shrinks(rm_pool *pool) {
    const uint64_t sizes = RMI_LOAD64(&pool->sizes, SEQ_CST);
    return rmi_pool_kept(pool) > rmi_pool_size(sizes, 0) + rmi_pool_size(sizes, 1);
}

/* A try: an idle resource, else an empty slot to make one in (*grant says which slot; its
   state says which of the two), else the news that there will be none. */
static bool rmi_pool_take(rm_pool *pool, rmi_pool_wish *wish, uint64_t *grant) {
    uint32_t what = rmi_pool_shrinks(pool) ? 0 : RMI_CLAIM_IDLE;
    if (rmi_pool_is_stopped(pool)) return false;
    if (rmi_pool_size(RMI_LOAD64(&pool->sizes, SEQ_CST), 1) != 0) what |= RMI_CLAIM_OVERFLOW;
    return rmi_pool_claim_best(pool, what, wish, grant) || rmi_pool_hopeless(pool, wish, grant);
}

/* Is what kept one from using a place under the common bound just over? Then it is to come out and
   have one made free, which is not done under the lock. */
static bool rmi_pool_looks(rm_pool *pool, rmi_pool_wish *wish, uint64_t *grant) {
    const uint64_t population = RMI_LOAD64(&pool->population, SEQ_CST);
    if (!wish->counted || rmi_pool_blocked(pool, wish, grant) ||
        rmi_pool_grow_at(pool, wish, population) > rm_now(pool->env.clock))
        return false;
    *grant = RMI_POOL_LOOK;
    return rmi_pools_unhold(pool);
}

/* A try for one in the queue, who needs no place then, although it may not know it yet. */
static bool rmi_pool_serve(void *owner, void *request, uint64_t *grant) {
    rm_pool *pool = (rm_pool *)owner;
    rmi_pool_wish *wish = (rmi_pool_wish *)request;
    bool got = rmi_pool_take(pool, wish, grant);
    if (!got && wish->failed_at != 0) {
        wish->failed_at = 0; /* another round begins */
        got = rmi_pool_take(pool, wish, grant);
    }
    if (!got) return rmi_pool_looks(pool, wish, grant);
    rmi_pools_count_out(pool, wish);
    return true;
}

/* The queue's look_at: when what is not allowed yet may be, after now. */
static int64_t rmi_pool_look_at(void *owner, void *request, int64_t now) {
    rm_pool *pool = (rm_pool *)owner;
    const uint64_t population = RMI_LOAD64(&pool->population, SEQ_CST);
    const rmi_pool_wish *wish = (const rmi_pool_wish *)request;
    const bool room = pool->budget != NULL || /* it is not told of room before its time */
                      rmi_pool_has_room(pool, true, population);
    const int64_t grow_at = rmi_pool_grow_at(pool, wish, population);
    int64_t at = INT64_MAX;
    uint32_t i;
    if (rmi_pool_is_stopped(pool)) return INT64_MAX;
    for (i = 0; i < pool->endpoint_count; ++i) {
        const int64_t shut = rmi_pool_shut_until(pool, i);
        int64_t open_at = room ? rmi_pool_open_at(pool, i, wish) : INT64_MAX;
        if (open_at < grow_at) open_at = grow_at;
        if (shut > now && shut < at) at = shut;
        if (open_at > now && open_at < at) at = open_at;
    }
    return at;
}

/* Is every slot empty? */
static bool rmi_pool_drained(rm_pool *pool) {
    return RMI_POP_FIELD(RMI_LOAD64(&pool->population, SEQ_CST), RMI_POP_TOTAL) == 0;
}

/* The drain queue's try: is every slot empty, or was it, so that a start has opened the pool? */
static bool rmi_pool_was_drained(void *owner, void *request, uint64_t *grant) {
    rm_pool *pool = (rm_pool *)owner;
    (void)request, (void)grant;
    return rmi_pool_drained(pool) || !rmi_pool_is_closed(pool);
}

static void rmi_pool_remember(rm_pool *pool, int64_t now, uint64_t grant) {
#ifndef RM_NO_TLS
    rmi_pool_hint *hint = &rmi_pool_hints[pool->number % RMI_POOL_HINTS];
    if (pool->balanced) return; /* the balance chooses */
    hint->pool = pool->number;
    hint->slot = (uint32_t)grant;
    hint->since_ns = now;
#else
    (void)pool, (void)now, (void)grant;
#endif
}

typedef struct rmi_pool_counts {
    uint32_t states[RMI_SLOT_STATES];
    uint64_t leases; /* since the pool was created, also in the parent of a fork */
} rmi_pool_counts;

static rmi_pool_counts rmi_pool_counted(rm_pool *pool) {
    rmi_pool_counts counts;
    uint32_t i;
    memset(&counts, 0, sizeof counts);
    for (i = 0; i < pool->capacity; ++i) {
        const uint64_t word = RMI_LOAD64(&pool->slots[i].word, ACQUIRE);
        ++counts.states[rmi_slot_state(word)];
        counts.leases += word >> RMI_SLOT_BITS;
    }
    return counts;
}

/* Says how many resources there are, and what keeps them from being lent or made besides. */
static void rmi_pool_lack(rm_pool *pool, uint32_t waiting, rm_error *lack) {
    const rmi_pool_counts counts = rmi_pool_counted(pool);
    rm_error why;
    why.message[0] = '\0';
    if ((RMI_LOAD64(&pool->epoch, SEQ_CST) & RMI_EPOCH_SUSPENDED) != 0)
        (void)rm_error_set(&why, RM_E_BUSY, 0, NULL, "; suspended, rm_pool_resume lends again");
    else if (pool->budget != NULL && rmi_budget_spent(pool->budget))
        (void)rm_error_set(&why, RM_E_BUSY, 0, NULL,
                           "; all %u of max_total are taken by this and other keys",
                           pool->budget->max);
    (void)rm_error_set(lack, RM_E_BUSY, 0, NULL,
                       "no resource: %u in use, %u idle, %u creating, %u checking, %u closing, "
                       "%u waiting, max %u%s",
                       counts.states[RMI_SLOT_BUSY], counts.states[RMI_SLOT_IDLE],
                       counts.states[RMI_SLOT_CREATING], counts.states[RMI_SLOT_CHECKING],
                       counts.states[RMI_SLOT_CLOSING], waiting,
                       rmi_pool_size(RMI_LOAD64(&pool->sizes, RELAXED), 0), why.message);
}

/* What is wrong just now, under the lock of the queue: the last create failed, or a check with
   nothing made since. Returns: for how long. */
static int64_t rmi_pool_trouble(rm_pool *pool, rm_error *error) {
    const int64_t now = rm_now(pool->env.clock);
    if (pool->failing) {
        *error = pool->last_error;
        return rmi_time_since(now, pool->last_error_ns);
    }
    (void)rm_error_set(error, pool->check_status, 0, NULL, "a check failed: %s",
                       rm_status_name(pool->check_status));
    return rmi_time_since(now, pool->check_ns);
}

/* Does this thread hold a lease? */
static bool rmi_pool_holds(rm_pool *pool) {
    const uint32_t self = rm_thread_number();
    uint32_t i;
    for (i = 0; i < pool->capacity; ++i) {
        rmi_slot *slot = &pool->slots[i];
        const uint64_t word = RMI_LOAD64(&slot->word, ACQUIRE);
        if (rmi_slot_state(word) == RMI_SLOT_BUSY && RMI_LOAD32(&slot->thread, RELAXED) == self)
            return true;
    }
    return false;
}

/* Says why there was nothing to hand out, with what helps at 3 a.m. */
static rm_status rmi_pool_denied(rm_pool *pool, rm_status status, rm_error *error) {
    rm_error last, lack;
    int64_t age;
    uint32_t waiting;
    if (error == NULL) return status;
    rm_waitq_lock(&pool->queue);
    age = rmi_pool_trouble(pool, &last);
    waiting = pool->queue.stats.waiting;
    rm_waitq_unlock(&pool->queue);
    if (status == RM_E_CLOSED)
        return rm_error_set(error, status, 0, pool->name,
                            "the pool is closed; nothing more is lent");
    if (status == RM_E_FULL)
        return rm_error_set(error, status, 0, pool->name,
                            "%u wait already for %u resources; raise max_waiters or max", waiting,
                            rmi_pool_size(RMI_LOAD64(&pool->sizes, RELAXED), 0));
    if (status == RM_E_DEADLOCK && !rmi_pool_holds(pool))
        return rm_error_set(error, status, 0, pool->name,
                            "this thread holds a lease of another key and would wait for itself; "
                            "release it first, or raise max_total");
    if (status == RM_E_DEADLOCK)
        return rm_error_set(error, status, 0, pool->name,
                            "this thread holds one of %u and would wait for itself; release it "
                            "first, or raise max%s",
                            rmi_pool_in_state(pool, RMI_SLOT_BUSY),
                            pool->budget == NULL ? "" : " or max_total");
    rmi_pool_lack(pool, waiting, &lack);
    if (last.status == RM_OK) return rm_error_set(error, status, 0, pool->name, "%s", lack.message);
    return rm_error_set(error, status, last.native, pool->name, "%s; %lld ms ago: %s", lack.message,
                        (long long)(age / RM_MS(1)), last.message);
}

/* Says that there will be nothing for a time: the last create error, or that all guards refuse. */
static rm_status rmi_pool_gave_up(rm_pool *pool, uint64_t grant, rm_error *error) {
    rm_error last;
    int64_t age;
    if (grant == RMI_POOL_SHUT)
        return rm_error_set(error, RM_E_REJECTED, 0, pool->name,
                            "the guards of all endpoints refuse");
    rm_waitq_lock(&pool->queue);
    last = pool->last_error;
    age = rmi_time_since(rm_now(pool->env.clock), pool->last_error_ns);
    rm_waitq_unlock(&pool->queue);
    if (last.status == RM_OK) /* a failure that is not noted yet */
        return rm_error_set(error, RM_E_FAILED, 0, pool->name, "a create has just failed");
    return rm_error_set(error, last.status, last.native, last.where, "%s (%lld ms ago; %s)",
                        last.message, (long long)(age / RM_MS(1)),
                        rmi_pool_probes(pool) ? "another call tries now whether it is well again"
                                              : "not tried again before its backoff ends");
}

/* ... to an acquire; one whose own create has just failed has that error already. */
static rm_status rmi_pool_turned_away(rm_pool *pool, const rmi_pool_wish *wish, uint64_t grant,
                                      rm_error *error) {
    if (wish->failed != RM_OK && wish->since_ns == INT64_MAX) return wish->failed;
    if (grant == RMI_POOL_SHUT)
        rmi_pool_count(&pool->rejected);
    else if (wish->failed == RM_OK)
        rmi_pool_count(&pool->failed_fast);
    return rmi_pool_gave_up(pool, grant, error);
}

static void rmi_pool_ask_deadline(rm_pool *pool, rmi_pool_ask *ask) {
    if (!ask->absolute) ask->deadline = rm_deadline_after(pool->env.clock, ask->timeout_ns);
    ask->absolute = true;
}

/* What a create for this acquire may take. A try does not wait for others, but making takes time:
   it gets the time of an ordinary acquire. */
static rm_deadline rmi_pool_create_deadline(rm_pool *pool, rmi_pool_ask *ask) {
    const int64_t ordinary = pool->desc.acquire_timeout_ns;
    rmi_pool_ask_deadline(pool, ask);
    if (ask->deadline.at_ns != INT64_MIN) return ask->deadline;
    return rm_deadline_after(pool->env.clock, ordinary == RM_NOWAIT ? RM_SEC(30) : ordinary);
}

/* Asks validate_fn about a slot that the caller owns, made in one epoch and current in another. */
static bool rmi_pool_check(rm_pool *pool, rmi_slot *slot, uint64_t made, uint64_t epoch) {
    void *const resource = rmi_pool_resource_of(slot);
    const rm_status status = pool->desc.validate_fn(resource, rmi_pool_user(pool, slot));
    if (status == RM_OK) {
        /* unless rm_pool_evict has marked it since */
        (void)RMI_CAS64(&slot->epoch, &made, epoch & ~RMI_EPOCH_STOPPED, SEQ_CST);
        RMI_STORE64(&slot->checked_ns, (uint64_t)rmi_pool_now(pool), RELAXED);
        rmi_pool_step(pool, slot, RM_POOL_EVENT_CHECKED, NULL, 0);
        return true;
    }
    rmi_pool_doubt(pool);
    rm_waitq_lock(&pool->queue);
    pool->check_status = status;
    pool->check_ns = rm_now(pool->env.clock);
    rm_waitq_unlock(&pool->queue);
    rmi_pool_log(pool, RM_LOG_INFO, "invalid", NULL);
    return false;
}

/* Is the resource of a slot that the caller owns fit to be lent? If not, *cause says why. */
static bool rmi_pool_fit(rm_pool *pool, rmi_slot *slot, uint64_t epoch, rmi_pool_ask *ask,
                         rm_pool_cause *cause) {
    const uint64_t made = RMI_LOAD64(&slot->epoch, RELAXED);
    *cause = RM_POOL_CAUSE_INVALID;
    if (!rmi_pool_current(made, epoch))
        *cause = RM_POOL_CAUSE_EVICTED;
    else if (rmi_pool_expired(slot, ask->now_ns))
        *cause = RM_POOL_CAUSE_LIFETIME;
    if (*cause != RM_POOL_CAUSE_INVALID) return false;
    if (pool->desc.validate_fn == NULL) return true;
    if (made == epoch && pool->fresh_ns > 0 && /* now may be a bit older than the release */
        (rmi_pool_unused_ns(slot, ask->now_ns) < pool->fresh_ns ||
         rmi_time_since(ask->now_ns, (int64_t)RMI_LOAD64(&slot->checked_ns, RELAXED)) <
             pool->fresh_ns))
        return true;
    rmi_pool_ask_deadline(pool, ask); /* what validate_fn takes is of the time there is */
    if (!rmi_pool_check(pool, slot, made, epoch)) return false;
    ask->now_ns = rmi_pool_now(pool); /* it is held from now on */
    if (rmi_pool_current(epoch, RMI_LOAD64(&pool->epoch, SEQ_CST))) return true;
    *cause = rmi_pool_is_closed(pool) ? RM_POOL_CAUSE_CLOSED : RM_POOL_CAUSE_EVICTED;
    return false; /* since the check began */
}

static void rmi_pool_report_to(rm_pool *pool, const rm_guard *guard, rm_permit *permit,
                               rm_outcome outcome) {
    rmi_inside here;
    if (guard->report_fn == NULL) return;
    RMI_ENTER(rmi_pool_hooks, here, pool);
    guard->report_fn(permit, outcome, guard->user);
    RMI_LEAVE(rmi_pool_hooks, here);
}

/* Asks a guard; one that is not there admits. */
static rm_status rmi_pool_admit_by(rm_pool *pool, const rm_guard *guard, rm_permit *permit,
                                   rm_error *error) {
    rmi_inside here;
    rm_status status;
    memset(permit, 0, sizeof *permit);
    if (guard->admit_fn == NULL) return RM_OK;
    RMI_ENTER(rmi_pool_hooks, here, pool);
    status = guard->admit_fn(permit, error, guard->user);
    RMI_LEAVE(rmi_pool_hooks, here);
    return status;
}

/* Asks the pool's guard; a refusal that it does not explain gets an error record all the same. */
static rm_status rmi_pool_admit(rm_pool *pool, rm_permit *permit, rm_error *error) {
    rm_error refusal;
    rm_status status;
    refusal.status = RM_OK;
    status = rmi_pool_admit_by(pool, &pool->guard, permit, &refusal);
    if (status == RM_OK) return RM_OK;
    rmi_pool_count(&pool->rejected);
    if (refusal.status == RM_OK)
        (void)rm_error_set(&refusal, status, 0, pool->name, "refused by the guard");
    if (error != NULL) *error = refusal;
    return status;
}

/* An endpoint whose guard refuses is passed over for the first backoff, and for as long as all of
   them would take that take as long: else there might always be one to ask, for those who wait, or
   for a call that serves them. More than a minute is taken for a halt of the machine. */
static void rmi_pool_shut_endpoint(rm_pool *pool, rmi_endpoint *endpoint, int64_t began) {
    const int64_t now = rm_now(pool->env.clock);
    int64_t wait = rmi_time_since(now, began), until;
    if (wait > RM_MINUTES(1)) wait = RM_MINUTES(1);
    wait *= pool->endpoint_count;
    if (wait < pool->desc.create_backoff_ns) wait = pool->desc.create_backoff_ns;
    if (wait < RM_MS(1)) wait = RM_MS(1);
    until = rm_time_add(now, wait);
    /* who sees the slot's next state sees this too */
    RMI_STORE64(&endpoint->shut_ns, (uint64_t)(until == 0 ? 1 : until), RELAXED);
}

/* Asks the guard of a slot's endpoint. */
static bool rmi_pool_admit_endpoint(rm_pool *pool, rmi_slot *slot) {
    rmi_endpoint *endpoint = rmi_pool_endpoint_of(pool, slot);
    rm_error refusal;
    int64_t began;
    if (endpoint->guard.admit_fn == NULL) {
        memset(&slot->endpoint_permit, 0, sizeof slot->endpoint_permit);
        return true;
    }
    began = rmi_pool_now(pool); /* a tick too early at most */
    if (rmi_pool_admit_by(pool, &endpoint->guard, &slot->endpoint_permit, &refusal) != RM_OK) {
        rmi_pool_shut_endpoint(pool, endpoint, began);
        return false;
    }
    if (RMI_LOAD64(&endpoint->shut_ns, RELAXED) != 0) RMI_STORE64(&endpoint->shut_ns, 0u, SEQ_CST);
    return true;
}

/* Puts a slot back as it was before it was claimed. */
static void rmi_pool_unclaim(rm_pool *pool, rmi_slot *slot) {
    if (rmi_slot_state(RMI_LOAD64(&slot->word, RELAXED)) == RMI_SLOT_CHECKING) {
        rmi_pool_offer(pool, slot);
        return;
    }
    rmi_pool_leave_create(pool, slot);
    rmi_pool_vacate(pool, slot, RMI_POP_TOTAL + RMI_POP_KEPT + RMI_POP_CREATING);
}

/* Turns a slot in state CLOSING, whose resource has ended, into one in state CREATING, if another
   may be made at once; else leaves it empty. Among several endpoints the balance chooses anew. */
static bool rmi_pool_replace(rm_pool *pool, rmi_slot *slot) {
    const rmi_pool_wish wish = rmi_pool_wish_of(INT64_MAX);
    uint64_t seen = RMI_LOAD64(&pool->population, SEQ_CST);
    bool more = !pool->balanced && rmi_pool_try_endpoint(pool, 0, &wish, &slot->probe);
    while (more) {
        more = RMI_POP_FIELD(seen, RMI_POP_CREATING) < pool->desc.max_creating;
        if (more &&
            RMI_CAS64(&pool->population, &seen, seen + RMI_POP_KEPT + RMI_POP_CREATING, SEQ_CST)) {
            rmi_pool_set(slot, RMI_SLOT_CREATING);
            return true;
        }
    }
    rmi_pool_leave_create(pool, slot);
    rmi_pool_vacate(pool, slot, RMI_POP_TOTAL);
    return false;
}

/* Puts a fit resource of a claimed slot back if the pool was stopped meanwhile. */
static bool rmi_pool_keep(rm_pool *pool, rmi_slot *slot, rmi_endpoint *endpoint,
                          rm_permit *permit) {
    if (!rmi_pool_is_stopped(pool)) return false;
    rmi_pool_offer(pool, slot);
    rmi_pool_report_to(pool, &endpoint->guard, permit, RM_OUTCOME_IGNORE);
    return true;
}

/* What the guard hears when no resource could be made: that the pool was closed meanwhile is not
   what it guards against. */
static rm_outcome rmi_pool_blame(const rm_pool *pool, rm_status status) {
    return status == RM_E_CLOSED && rmi_pool_is_closed(pool) ? RM_OUTCOME_IGNORE
                                                             : RM_OUTCOME_FAILURE;
}

/* Is there another endpoint for an acquire whose create failed, with something idle or, unless it
   is a try, leave to make one? */
static bool rmi_pool_has_another(rm_pool *pool, const rmi_pool_ask *ask) {
    const int64_t now = rm_now(pool->env.clock);
    rmi_loads loads;
    uint32_t i;
    if (pool->endpoint_count == 1 || rmi_pool_is_closed(pool)) return false;
    rmi_pool_loads(pool, true, &loads);
    for (i = 0; i < pool->endpoint_count; ++i) {
        if (rmi_pool_shut_until(pool, i) > now) continue;
        if (loads.idle[i] != 0) return true;
        if (!ask->wish->tries && rmi_pool_open_at(pool, i, ask->wish) <= now) return true;
    }
    return false;
}

/* Does what is idle at an endpoint take the place that one at another needs, which is well? */
static bool rmi_pool_in_the_way(rm_pool *pool, const rmi_endpoint *endpoint) {
    const uint64_t sizes = RMI_LOAD64(&pool->sizes, SEQ_CST);
    const uint64_t population = RMI_LOAD64(&pool->population, SEQ_CST);
    const uint32_t most = rmi_pool_size(sizes, 0) + rmi_pool_size(sizes, 1);
    bool another = false;
    rmi_loads loads;
    uint32_t i;
    if (RMI_POP_FIELD(population, RMI_POP_TOTAL) < most &&
        (pool->budget == NULL || !rmi_budget_spent(pool->budget)))
        return false;
    rmi_pool_loads(pool, true, &loads);
    for (i = 0; i < pool->endpoint_count; ++i) {
        rmi_endpoint *other = &pool->endpoints[i];
        if (other == endpoint || !rmi_pool_well(pool, other)) continue;
        if (loads.idle[i] != 0) return false;
        another = true;
    }
    return another;
}

/* Puts a slot back whose endpoint's guard refuses. But what is idle there makes way: one in a
   backoff, since the guard is not asked before that is over. */
static void rmi_pool_make_way(rm_pool *pool, rmi_slot *slot, const rmi_endpoint *endpoint) {
    const bool idle = rmi_slot_state(RMI_LOAD64(&slot->word, RELAXED)) == RMI_SLOT_CHECKING;
    if (idle && rmi_pool_in_the_way(pool, endpoint))
        rmi_pool_retire(pool, slot, RM_POOL_CAUSE_SURPLUS);
    else
        rmi_pool_unclaim(pool, slot);
}

/* Sees to it that a claimed slot has a fit resource. *again: it could not, and the slot is not the
   caller's any more; another may do. */
static rm_status rmi_pool_ready(rm_pool *pool, rmi_slot *slot, rmi_pool_ask *ask, bool *again,
                                rm_error *error) {
    const uint64_t epoch = RMI_LOAD64(&pool->epoch, SEQ_CST);
    rmi_endpoint *endpoint = rmi_pool_endpoint_of(pool, slot);
    rm_permit permit;
    rm_pool_cause cause;
    rm_status status;
    *again = true;
    if ((epoch & RMI_EPOCH_STOPPED) != 0) {
        rmi_pool_unclaim(pool, slot);
        return RM_OK;
    }
    if (!rmi_pool_admit_endpoint(pool, slot)) {
        rmi_pool_ask_deadline(pool, ask); /* what destroy_fn takes is of the time there is */
        rmi_pool_make_way(pool, slot, endpoint);
        return RM_OK;
    }
    permit = slot->endpoint_permit;
    if (rmi_slot_state(RMI_LOAD64(&slot->word, RELAXED)) == RMI_SLOT_CHECKING) {
        if (rmi_pool_fit(pool, slot, epoch, ask, &cause)) {
            *again = rmi_pool_keep(pool, slot, endpoint, &permit);
            return RM_OK;
        }
        rmi_pool_ask_deadline(pool, ask);
        rmi_pool_set(slot, RMI_SLOT_CLOSING);
        rmi_pool_unkeep(pool);
        rmi_pool_end(pool, slot, cause);
        if (!rmi_pool_replace(pool, slot)) {
            rmi_pool_report_to(pool, &endpoint->guard, &permit, RM_OUTCOME_IGNORE);
            return RM_OK;
        }
    }
    *again = false;
    status = rmi_pool_make(pool, slot, rmi_pool_create_deadline(pool, ask), error);
    ask->now_ns = rmi_pool_now(pool);
    if (status == RM_OK) {
        *again = rmi_pool_keep(pool, slot, endpoint, &permit);
        return RM_OK;
    }
    rmi_pool_report_to(pool, &endpoint->guard, &permit, rmi_pool_blame(pool, status));
    rmi_pool_pass_over(pool, ask->wish, endpoint);
    if (ask->wish->failed == RM_OK || rmi_pool_blame(pool, status) == RM_OUTCOME_FAILURE)
        ask->wish->failed = status;
    *again = rmi_pool_has_another(pool, ask);
    return *again ? RM_OK : status;
}

/* A wait has ended. A place that it was offered, or what is idle here, is for others. */
static void rmi_pools_waited(rm_pool *pool, rmi_pool_wish *wish) {
    const bool counted = wish->counted;
    rmi_pools_count_out(pool, wish);
    if (counted) rm_waitq_notify(&pool->queue); /* the next speaks for itself */
    if (pool->budget != NULL) rmi_pools_relieve(pool->budget);
}

/* Has what is idle under other keys ended for an acquire that is about to wait, or to try. */
static void rmi_pools_make_room(rm_pool *pool, rmi_pool_wish *wish) {
    (void)RMI_ADD32(&pool->away, 1u, SEQ_CST);
    if (!wish->counted) rmi_pools_count_in(pool, wish);
    rmi_pools_relieve(pool->budget);
    (void)RMI_ADD32(&pool->away, 0u - 1u, SEQ_CST);
}

static rm_status rmi_pool_wait(rm_pool *pool, rmi_pool_ask *ask, uint64_t *grant) {
    rmi_pool_wish *wish = ask->wish;
    const bool on = wish->since_ns != INT64_MAX; /* what it got was not fit: it keeps its place */
    rm_status status;
    rmi_pool_ask_deadline(pool, ask);
    if (pool->budget != NULL && !rm_deadline_passed(pool->env.clock, ask->deadline) &&
        !rm_cancel_requested(ask->cancel))
        rmi_pools_make_room(pool, wish);
    if (!on) wish->since_ns = rm_now(pool->env.clock);
    status =
        on ? rm_waitq_wait_on(&pool->queue, wish, wish->since_ns, ask->deadline, ask->cancel, grant)
           : rm_waitq_wait(&pool->queue, wish, ask->deadline, ask->cancel, grant);
    if (status != RM_OK || *grant != RMI_POOL_LOOK) rmi_pools_waited(pool, wish);
    ask->now_ns = rmi_pool_now(pool);
    return status;
}

/* A try under a common bound: does not wait, but ends what is idle under another key. */
static bool rmi_pools_try(rm_pool *pool, rmi_pool_ask *ask, uint64_t *grant) {
    bool got;
    if (pool->budget == NULL || rm_waitq_must_queue(&pool->queue)) return false;
    rmi_pools_make_room(pool, ask->wish);
    got = rmi_pool_take(pool, ask->wish, grant);
    rmi_pools_waited(pool, ask->wish);
    return got;
}

static rm_status rmi_pool_get(rm_pool *pool, rmi_pool_ask *ask, uint64_t *grant, rm_error *error) {
    rm_status status = RM_OK;
    const bool tries = ask->wish->tries;
    const bool nested = pool->desc.refuse_nested && !tries;
    const bool over =
        rm_cancel_requested(ask->cancel) ||
        (ask->absolute && !tries && rm_deadline_passed(pool->env.clock, ask->deadline));
    ask->now_ns = rmi_pool_now(pool);
    if (over || rm_waitq_must_queue(&pool->queue) || !rmi_pool_take(pool, ask->wish, grant)) {
        if (tries && ask->wish->failed != RM_OK)
            *grant = RMI_POOL_FAILS;
        else if (!over && (tries || nested) && rmi_pools_try(pool, ask, grant))
            status = RM_OK;
        else if (ask->try_only)
            status = rmi_pool_is_closed(pool) ? RM_E_CLOSED : RM_E_BUSY;
        else if (nested && !over && rmi_pools_hold_any(pool))
            status = RM_E_DEADLOCK;
        else {
            ask->wish->failed_at = 0; /* another round begins */
            status = rmi_pool_wait(pool, ask, grant);
        }
        while (status == RM_OK && *grant == RMI_POOL_LOOK)
            status = rmi_pool_wait(pool, ask, grant);
    }
    if (status == RM_OK && *grant >= RMI_POOL_FAILS)
        return rmi_pool_turned_away(pool, ask->wish, *grant, error);
    if (status == RM_OK) rmi_pool_remember(pool, ask->now_ns, *grant);
    return status == RM_OK ? RM_OK : rmi_pool_denied(pool, status, error);
}

/* Lends a slot that is ready: from here on it is its holder's. */
static inline void rmi_pool_lend(rm_pool *pool, rmi_slot *slot, const rm_permit *permit,
                                 int64_t now, uint32_t thread, rm_lease *out) {
    const uint64_t word = RMI_LOAD64(&slot->word, RELAXED);
    const uint64_t lent = rmi_slot_word((word >> RMI_SLOT_BITS) + 1u, RMI_SLOT_BUSY);
    if (pool->desc.time_uses) now = rm_now(pool->env.clock);
    RMI_STORE64(&slot->acquired_ns, (uint64_t)now, RELAXED);
    RMI_STORE64(&slot->where, 0u, RELAXED);
    RMI_STORE32(&slot->thread, thread, RELAXED);
    if (pool->guard.admit_fn != NULL) slot->permit = *permit;
    out->resource = rmi_pool_resource_of(slot);
    out->sequence = lent >> RMI_SLOT_BITS;
    out->pool = pool->number;
    out->slot = (uint32_t)(slot - pool->slots);
    rmi_pool_step(pool, slot, RM_POOL_EVENT_ACQUIRED, NULL, 0);
    RMI_STORE64(&slot->word, lent, RELEASE);
}

/* Tells of an acquire that ended without a resource. */
static rm_status rmi_pool_lacks(rm_pool *pool, rm_permit *permit, const rmi_pool_wish *wish,
                                rm_status status, const rm_error *error) {
    if (status == RM_E_TIMEOUT) rmi_pool_step(pool, NULL, RM_POOL_EVENT_TIMEOUT, error, 0);
    rmi_pool_report_to(pool, &pool->guard, permit,
                       wish->failed != RM_OK ? rmi_pool_blame(pool, wish->failed)
                                             : RM_OUTCOME_IGNORE);
    return status;
}

static rm_status rmi_pool_acquire(rm_pool *pool, rmi_pool_ask *ask, rm_lease *out,
                                  rm_error *error) {
    rm_permit permit;
    rm_error told;
    rm_status status;
    bool again = true;
    if (error == NULL && pool->desc.event_fn != NULL) error = &told; /* which is told of it */
    if (rm_cancel_requested(ask->cancel))
        return rm_error_set(error, RM_E_CANCELLED, 0, pool->name, "cancelled before it began");
    if (pool->guard.admit_fn != NULL) {
        status = rmi_pool_admit(pool, &permit, error);
        if (status != RM_OK) return status;
    }
    while (again) {
        rmi_slot *slot;
        uint64_t grant = 0;
        status = rmi_pool_get(pool, ask, &grant, error);
        if (status != RM_OK) return rmi_pool_lacks(pool, &permit, ask->wish, status, error);
        slot = &pool->slots[grant];
        status = rmi_pool_ready(pool, slot, ask, &again, error);
        if (again) continue;
        if (status != RM_OK) return rmi_pool_lacks(pool, &permit, ask->wish, status, error);
        if (ask->wish->failed != RM_OK && error != NULL) memset(error, 0, sizeof *error);
        rmi_pool_lend(pool, slot, &permit, ask->now_ns, rm_thread_number(), out);
    }
    return RM_OK;
}

#ifndef RM_NO_TLS
/* Was it less than ns ago, on a clock whose readings may be anything? */
static bool rmi_pool_within(int64_t then, int64_t now, int64_t ns) {
    return (uint64_t)now - (uint64_t)then < (uint64_t)ns;
}
#endif

/* The fast path: lends the slot that this thread used last, if it is idle and fit as it is, and
   nobody is to be asked; a deadline has to be further off than the coarse clock may be behind. What
   is read before the claim holds after it, or else is of an older check of the slot, which the
   newer one can only have bettered; but for the pool's epoch. */
static inline bool rmi_pool_acquire_again(rm_pool *pool, int64_t deadline_ns, rm_lease *out) {
#ifndef RM_NO_TLS
    const rmi_pool_hint *hint = &rmi_pool_hints[pool->number % RMI_POOL_HINTS];
    rmi_slot *slot;
    uint64_t word, made;
    int64_t now;
    if (hint->pool != pool->number || !pool->direct || rm_waitq_must_queue(&pool->queue))
        return false;
    slot = &pool->slots[hint->slot];
    word = RMI_LOAD64(&slot->word, ACQUIRE);
    made = RMI_LOAD64(&slot->epoch, RELAXED);
    now = rmi_pool_now(pool);
    if (rmi_slot_state(word) != RMI_SLOT_IDLE || made != RMI_LOAD64(&pool->epoch, RELAXED) ||
        !rmi_pool_within(hint->since_ns, now, RM_MS(10)) || rmi_pool_expired(slot, now) ||
        (deadline_ns != INT64_MAX && rm_time_add(now, RM_MS(20)) > deadline_ns) ||
        !rmi_pool_within((int64_t)RMI_LOAD64(&slot->used_ns, RELAXED), now, pool->fresh_ns) ||
        !rmi_pool_claim(slot, word, RMI_SLOT_CHECKING))
        return false;
    if (RMI_LOAD64(&pool->epoch, SEQ_CST) != made) {
        rmi_pool_offer(pool, slot);
        return false;
    }
    rmi_pool_lend(pool, slot, NULL, now, rm_thread_number(), out);
    return true;
#else
    (void)pool, (void)deadline_ns, (void)out;
    return false;
#endif
}

/* A lease that its rm_pools do not know of would not keep its key. */
static rm_status rmi_pool_keyed(const rm_pool *pool, rm_error *error) {
    return rm_error_set(error, RM_E_INVALID, 0, pool->name,
                        "the pool of a key: borrow with rm_pools_acquire");
}

RM_API rm_status rm_pool_acquire(rm_pool *pool, int64_t timeout_ns, rm_lease *out,
                                 rm_error *error) {
    rmi_pool_wish wish;
    rmi_pool_ask ask;
    if (pool == NULL || out == NULL)
        return rm_error_set(error, RM_E_INVALID, 0, "pool", "pool or out is NULL");
    if (pool->pools != NULL) return rmi_pool_keyed(pool, error);
    if (!rm_timeout_valid(timeout_ns))
        return rm_error_set(error, RM_E_INVALID, 0, "timeout_ns",
                            "%lld is no timeout: a time, RM_NOWAIT or RM_FOREVER",
                            (long long)timeout_ns);
    if (rmi_pool_acquire_again(pool, INT64_MAX, out)) return RM_OK;
    wish = rmi_pool_wish_of(INT64_MAX);
    ask.wish = &wish;
    ask.timeout_ns = timeout_ns == 0 ? pool->desc.acquire_timeout_ns : timeout_ns;
    ask.deadline.at_ns = 0;
    ask.cancel = NULL;
    ask.absolute = false;
    ask.try_only = wish.tries = ask.timeout_ns == RM_NOWAIT;
    return rmi_pool_acquire(pool, &ask, out, error);
}

static rm_status rmi_pool_acquire_until(rm_pool *pool, rm_deadline deadline, rm_cancel *cancel,
                                        rm_lease *out, rm_error *error) {
    rmi_pool_wish wish;
    rmi_pool_ask ask;
    if (!rm_cancel_requested(cancel) &&
        rmi_pool_acquire_again(pool, deadline.at_ns == 0 ? INT64_MAX : deadline.at_ns, out))
        return RM_OK;
    wish = rmi_pool_wish_of(INT64_MAX);
    wish.tries = deadline.at_ns == INT64_MIN;
    ask.wish = &wish;
    ask.timeout_ns = 0;
    ask.deadline = deadline;
    ask.cancel = cancel;
    ask.absolute = true;
    ask.try_only = false;
    return rmi_pool_acquire(pool, &ask, out, error);
}

RM_API rm_status rm_pool_acquire_until(rm_pool *pool, rm_deadline deadline, rm_cancel *cancel,
                                       rm_lease *out, rm_error *error) {
    if (pool == NULL || out == NULL)
        return rm_error_set(error, RM_E_INVALID, 0, "pool", "pool or out is NULL");
    if (pool->pools != NULL) return rmi_pool_keyed(pool, error);
    return rmi_pool_acquire_until(pool, deadline, cancel, out, error);
}

/* >>core: asynchronous acquire */

static void rmi_pool_arrived(rm_status status, uint64_t grant, void *user);

/* Queues a request, or again: what it got was not fit, and it keeps its place. */
static rm_status rmi_pool_enqueue(rm_pool_request *request, bool on) {
    rm_pool *pool = request->pool;
    rm_registry_ref held;
    rm_status status;
    const bool wants = rmi_pools_hold(pool, &held);
    if (wants && !request->wish.counted) rmi_pools_count_in(pool, &request->wish);
    status = on ? rm_waitq_add_on(&pool->queue, &request->waiter)
                : rm_waitq_add(&pool->queue, &request->waiter, &request->wish, request->deadline,
                               request->cancel, rmi_pool_arrived, request);
    if (status != RM_OK) rmi_pools_count_out(pool, &request->wish);
    if (status != RM_OK && wants) rm_waitq_notify(&pool->queue); /* the next speaks for itself */
    if (wants)
        rmi_pools_relieve(pool->budget); /* after it, who found something idle needs no place */
    if (wants) rmi_pools_put(pool, &held);
    return status;
}

/* Calls acquired_fn, whose request is its owner's again. */
static void rmi_pool_answer(rm_pool *pool, rm_pool_acquired_fn acquired_fn, void *user,
                            const rm_lease *lease, const rm_error *error) {
    const bool keyed = pool->pools != NULL; /* it may go with its key, in there */
    rmi_inside here;
    const uint32_t life = pool->life;
    if (keyed) (void)RMI_ADD32(&pool->requests, 0u - 1u, SEQ_CST);
    RMI_ENTER(rmi_pool_hooks, here, keyed ? (const void *)pool->pools : (const void *)pool);
    acquired_fn(error == NULL ? RM_OK : error->status, error == NULL ? lease : NULL, error, user);
    RMI_LEAVE(rmi_pool_hooks, here);
    if (!keyed && pool->life == life) /* it may be gone after this */
        (void)RMI_ADD32(&pool->requests, 0u - 1u, SEQ_CST);
}

/* A wait has ended: makes the resource ready, or waits again, or tells of the failure. */
static void rmi_pool_arrived(rm_status status, uint64_t grant, void *user) {
    rm_pool_request *request = (rm_pool_request *)user;
    rm_pool *pool = request->pool;
    const rm_pool_acquired_fn acquired_fn = request->acquired_fn;
    void *const acquired_user = request->user;
    rm_permit permit = request->permit;
    const uint32_t thread = request->thread;
    rmi_pool_ask ask;
    rm_lease lease;
    rm_error error;
    bool again = false;
    if (request->life != pool->life || rmi_pool_forgotten(pool)) return; /* a parent's */
    memset(&ask, 0, sizeof ask);
    memset(&error, 0, sizeof error);
    ask.deadline = request->deadline;
    ask.absolute = true;
    ask.now_ns = rmi_pool_now(pool);
    ask.wish = &request->wish;
    again = status == RM_OK && grant == RMI_POOL_LOOK;
    if (!again) rmi_pools_waited(pool, &request->wish);
    if (status != RM_OK) {
        status = rmi_pool_denied(pool, status, &error);
    } else if (grant == RMI_POOL_FAILS || grant == RMI_POOL_SHUT) {
        status = rmi_pool_turned_away(pool, ask.wish, grant, &error);
    } else {
        if (!again) status = rmi_pool_ready(pool, &pool->slots[grant], &ask, &again, &error);
        if (again) status = rmi_pool_enqueue(request, true);
        if (again && status == RM_OK) return;
        if (again) status = rmi_pool_denied(pool, status, &error);
    }
    if (status == RM_OK)
        rmi_pool_lend(pool, &pool->slots[grant], &permit, ask.now_ns, thread, &lease);
    else
        (void)rmi_pool_lacks(pool, &permit, ask.wish, status, &error);
    rmi_pool_answer(pool, acquired_fn, acquired_user, &lease, status == RM_OK ? NULL : &error);
}

static rm_status rmi_pool_acquire_async(rm_pool *pool, rm_pool_request *request,
                                        rm_deadline deadline, rm_cancel *cancel,
                                        rm_pool_acquired_fn acquired_fn, rm_error *error,
                                        void *user) {
    rm_permit permit;
    rm_status status;
    if (rm_cancel_requested(cancel))
        return rm_error_set(error, RM_E_CANCELLED, 0, pool->name, "cancelled before it began");
    status = rmi_pool_admit(pool, &permit, error);
    if (status != RM_OK) return status;
    memset(request, 0, sizeof *request);
    request->pool = pool;
    request->life = pool->life;
    request->thread = rm_thread_number();
    request->cancel = cancel;
    request->acquired_fn = acquired_fn;
    request->user = user;
    request->deadline = deadline;
    request->permit = permit;
    request->wish.since_ns = pool->desc.grow_after_ns == 0 ? 0 : rm_now(pool->env.clock);
    (void)RMI_ADD32(&pool->requests, 1u, SEQ_CST);
    status = rmi_pool_enqueue(request, false);
    if (status == RM_OK) return RM_OK;
    (void)RMI_ADD32(&pool->requests, 0u - 1u, SEQ_CST);
    rmi_pool_report_to(pool, &pool->guard, &permit, RM_OUTCOME_IGNORE);
    return rmi_pool_denied(pool, status, error);
}

RM_API rm_status rm_pool_acquire_async(rm_pool *pool, rm_pool_request *request,
                                       rm_deadline deadline, rm_cancel *cancel,
                                       rm_pool_acquired_fn acquired_fn, rm_error *error,
                                       void *user) {
    if (pool == NULL || request == NULL || acquired_fn == NULL)
        return rm_error_set(error, RM_E_INVALID, 0, "pool", "pool, request or acquired_fn is NULL");
    if (pool->pools != NULL) return rmi_pool_keyed(pool, error);
    return rmi_pool_acquire_async(pool, request, deadline, cancel, acquired_fn, error, user);
}

RM_API rm_status rm_pool_request_cancel(rm_pool_request *request) {
    if (request == NULL || request->pool == NULL) return RM_E_INVALID;
    if (request->life != request->pool->life) return RM_E_STALE;
    return rm_waitq_remove(&request->pool->queue, &request->waiter);
}

/* >>core: release */

/* Finds the slot of a lease that is out. */
static inline rm_status rmi_pool_find(rm_pool *pool, const rm_lease *lease, rmi_slot **slot) {
    if (pool == NULL || lease == NULL) return RM_E_INVALID;
    if (lease->resource == NULL) return RM_E_STALE;
    if (lease->pool != pool->number || lease->slot >= pool->capacity) return RM_E_FOREIGN;
    *slot = &pool->slots[lease->slot];
    return RMI_LOAD64(&(*slot)->word, ACQUIRE) == rmi_slot_word(lease->sequence, RMI_SLOT_BUSY)
               ? RM_OK
               : RM_E_STALE;
}

/* What is to be reported when a lease has ended. */
typedef struct rmi_lease_end {
    rmi_endpoint *endpoint;
    rm_permit permit, endpoint_permit;
} rmi_lease_end;

static rmi_lease_end rmi_pool_lease_end(rm_pool *pool, rmi_slot *slot) {
    rmi_lease_end end;
    end.endpoint = rmi_pool_endpoint_of(pool, slot);
    end.permit = slot->permit;
    end.endpoint_permit = slot->endpoint_permit;
    return end;
}

static void rmi_pools_left(rm_pool *pool);

/* The last that is done for a lease; a keyed pool may be gone after it. */
static void rmi_pool_lease_ended(rm_pool *pool, rmi_lease_end *end, rm_outcome outcome) {
    rmi_pool_report_to(pool, &end->endpoint->guard, &end->endpoint_permit, outcome);
    rmi_pool_report_to(pool, &pool->guard, &end->permit, outcome);
    if (pool->pools != NULL) rmi_pools_left(pool);
}

/* Takes the slot of a lease out of its holder's hands; only one call can. */
static rm_status rmi_pool_reclaim(rm_pool *pool, const rm_lease *lease, uint32_t to,
                                  rmi_slot **slot) {
    const rm_status status = rmi_pool_find(pool, lease, slot);
    uint64_t word;
    if (status != RM_OK) return status;
    if (rmi_pool_forgotten(pool)) return RM_E_FOREIGN;
    word = rmi_slot_word(lease->sequence, RMI_SLOT_BUSY);
    return RMI_CAS64(&(*slot)->word, &word, rmi_slot_word(lease->sequence, to), ACQ_REL)
               ? RM_OK
               : RM_E_STALE;
}

/* Why a returned resource must not be lent again; RM_POOL_CAUSES when it may. */
static uint32_t rmi_pool_judge(rm_pool *pool, rmi_slot *slot, rm_release how) {
    const uint64_t epoch = RMI_LOAD64(&pool->epoch, SEQ_CST);
    const uint64_t made = RMI_LOAD64(&slot->epoch, RELAXED);
    void *resource = rmi_pool_resource_of(slot), *user = rmi_pool_user(pool, slot);
    if (how == RM_RELEASE_BROKEN) {
        rmi_pool_doubt(pool);
        return RM_POOL_CAUSE_BROKEN;
    }
    if ((epoch & RMI_EPOCH_CLOSED) != 0) return RM_POOL_CAUSE_CLOSED;
    if (!rmi_pool_current(made, epoch)) return RM_POOL_CAUSE_EVICTED;
    if (rmi_pool_expired(slot, rmi_pool_now(pool))) return RM_POOL_CAUSE_LIFETIME;
    if (pool->budget != NULL && rmi_pools_yields(pool)) return RM_POOL_CAUSE_SURPLUS;
    if (pool->desc.reset_fn != NULL && pool->desc.reset_fn(resource, user) != RM_OK) {
        rmi_pool_doubt(pool);
        return RM_POOL_CAUSE_RESET;
    }
    if (pool->desc.validate_on_release && pool->desc.validate_fn != NULL &&
        !rmi_pool_check(pool, slot, made, epoch))
        return RM_POOL_CAUSE_INVALID;
    return RM_POOL_CAUSES;
}

/* A release with everything that may come with it. */
static rm_status rmi_pool_give_back(rm_pool *pool, rm_lease *lease, rm_release how) {
    const rm_outcome outcome = how == RM_RELEASE_OK ? RM_OUTCOME_OK : RM_OUTCOME_FAILURE;
    rmi_slot *slot = NULL;
    rmi_lease_end end;
    uint32_t cause;
    const rm_status status = rmi_pool_reclaim(pool, lease, RMI_SLOT_CHECKING, &slot);
    if (status != RM_OK) return status;
    memset(lease, 0, sizeof *lease);
    end = rmi_pool_lease_end(pool, slot);
    if (pool->desc.time_uses)
        rmi_pool_time(pool, RMI_POOL_USES,
                      rmi_time_since(rm_now(pool->env.clock), (int64_t)slot->acquired_ns));
    rmi_pool_step(pool, slot, RM_POOL_EVENT_RELEASED, NULL,
                  rmi_pool_held_ns(slot, rmi_pool_now(pool)));
    cause = rmi_pool_judge(pool, slot, how);
    if (cause == RM_POOL_CAUSE_SURPLUS) {
        rmi_pool_retire_left(pool, slot, RM_POOL_CAUSE_SURPLUS, 1); /* it yields */
    } else if (cause < RM_POOL_CAUSES) {
        rmi_pool_retire(pool, slot, (rm_pool_cause)cause);
    } else {
        RMI_STORE64(&slot->used_ns, (uint64_t)rmi_pool_now(pool), RELAXED);
        rmi_pool_offer(pool, slot);
    }
    rmi_pool_lease_ended(pool, &end, outcome);
    return RM_OK;
}

RM_API rm_status rm_pool_release(rm_pool *pool, rm_lease *lease, rm_release how) {
    rmi_slot *slot = NULL;
    uint64_t word, made;
    int64_t now;
    rm_status status;
    if ((uint32_t)how > RM_RELEASE_BROKEN) return RM_E_INVALID;
    status = rmi_pool_find(pool, lease, &slot);
    if (status != RM_OK) return status;
    now = rmi_pool_now(pool);
    made = RMI_LOAD64(&slot->epoch, RELAXED);
    if (!pool->plain || how == RM_RELEASE_BROKEN || rmi_pool_expired(slot, now) ||
        !rmi_pool_current(made, RMI_LOAD64(&pool->epoch, SEQ_CST))) /* one ends alone: no sweep */
        return rmi_pool_give_back(pool, lease, how);
    word = rmi_slot_word(lease->sequence, RMI_SLOT_BUSY);
    RMI_STORE64(&slot->used_ns, (uint64_t)now, RELAXED); /* before another may have it */
    if (!RMI_CAS64(&slot->word, &word, rmi_slot_word(lease->sequence, RMI_SLOT_IDLE), SEQ_CST))
        return RM_E_STALE;
    memset(lease, 0, sizeof *lease);
    rmi_pool_settle(pool, RMI_LOAD64(&slot->epoch, SEQ_CST)); /* it may have been evicted since */
    return RM_OK;
}

RM_API rm_status rm_pool_release_result(rm_pool *pool, rm_lease *lease, const rm_error *result) {
    rm_release how = RM_RELEASE_FAILED;
    rmi_slot *slot = NULL;
    const rm_status status = rmi_pool_find(pool, lease, &slot);
    if (status != RM_OK) return status;
    if (result == NULL || result->status == RM_OK)
        return rm_pool_release(pool, lease, RM_RELEASE_OK);
    if (pool->desc.classify_fn != NULL) {
        how = pool->desc.classify_fn(lease->resource, result, rmi_pool_user(pool, slot));
        if ((uint32_t)how > RM_RELEASE_BROKEN) how = RM_RELEASE_BROKEN;
    } else {
        const rm_class cls = rm_status_class(result->status);
        if (cls == RM_CLASS_TIMEOUT || cls == RM_CLASS_CANCELLED || cls == RM_CLASS_REFUSED ||
            cls == RM_CLASS_PROTOCOL || cls == RM_CLASS_INTERNAL)
            how = RM_RELEASE_BROKEN;
    }
    return rm_pool_release(pool, lease, how);
}

RM_API rm_status rm_pool_detach(rm_pool *pool, rm_lease *lease, void **out) {
    rmi_slot *slot = NULL;
    rmi_lease_end end;
    rm_status status;
    if (out == NULL) return RM_E_INVALID;
    status = rmi_pool_reclaim(pool, lease, RMI_SLOT_CLOSING, &slot);
    if (status != RM_OK) return status;
    memset(lease, 0, sizeof *lease);
    end = rmi_pool_lease_end(pool, slot);
    *out = rmi_pool_resource_of(slot);
    rmi_pool_unkeep(pool);
    rmi_pool_step(pool, slot, RM_POOL_EVENT_DETACHED, NULL, 0);
    RMI_STORE64(&slot->data, 0u, RELAXED);
    rmi_pool_count(&pool->detached);
    rmi_pool_vacate(pool, slot, RMI_POP_TOTAL);
    rmi_pool_lease_ended(pool, &end, RM_OUTCOME_OK);
    return RM_OK;
}

RM_API rm_status rm_pool_note(rm_pool *pool, const rm_lease *lease, const char *where) {
    rmi_slot *slot = NULL;
    const rm_status status = rmi_pool_find(pool, lease, &slot);
    if (status == RM_OK) RMI_STORE64(&slot->where, (uint64_t)(uintptr_t)where, RELAXED);
    return status;
}

RM_API rm_status rm_pool_data_set(rm_pool *pool, const rm_lease *lease, void *data) {
    rmi_slot *slot = NULL;
    const rm_status status = rmi_pool_reclaim(pool, lease, RMI_SLOT_CHECKING, &slot);
    if (status != RM_OK) return status;
    RMI_STORE64(&slot->data, (uint64_t)(uintptr_t)data, RELAXED); /* beside nobody who ends it */
    RMI_STORE64(&slot->word, rmi_slot_word(lease->sequence, RMI_SLOT_BUSY), RELEASE);
    return RM_OK;
}

RM_API void *rm_pool_data_get(rm_pool *pool, const rm_lease *lease) {
    rmi_slot *slot = NULL;
    uint64_t data;
    if (rmi_pool_find(pool, lease, &slot) != RM_OK) return NULL;
    data = RMI_LOAD64(&slot->data, ACQUIRE);
    if (rmi_pool_find(pool, lease, &slot) != RM_OK) return NULL; /* reclaimed meanwhile */
    return (void *)(uintptr_t)data;
}

/* >>public: scoped */

RM_API rm_status rm_pool_with(rm_pool *pool, rm_deadline deadline, rm_pool_use_fn use_fn,
                              rm_error *error, void *user) {
    rm_lease lease;
    rm_error result;
    rm_status status;
    if (use_fn == NULL) return rm_error_set(error, RM_E_INVALID, 0, "use_fn", "use_fn is NULL");
    status = rm_pool_acquire_until(pool, deadline, NULL, &lease, error);
    if (status != RM_OK) return status;
    memset(&result, 0, sizeof result);
    status = use_fn(lease.resource, &result, user);
    if (status != RM_OK && result.status == RM_OK)
        (void)rm_error_set(&result, status, 0, pool->name, "use_fn failed: %s",
                           rm_status_name(status));
    result.status = status;
    (void)rm_pool_release_result(pool, &lease, &result);
    if (status != RM_OK && error != NULL) *error = result;
    return status;
}

RM_API rm_pool_scope rm_pool_scope_open(rm_pool *pool, int64_t timeout_ns, rm_error *error) {
    rm_pool_scope scope;
    memset(&scope, 0, sizeof scope);
    scope.pool = pool;
    scope.status = rm_pool_acquire(pool, timeout_ns, &scope.lease, error);
    return scope;
}

RM_API void rm_pool_scope_close(rm_pool_scope *scope) {
    if (scope == NULL || scope->lease.resource == NULL) return;
    if ((uint32_t)scope->how > RM_RELEASE_BROKEN) scope->how = RM_RELEASE_BROKEN;
    (void)rm_pool_release(scope->pool, &scope->lease, scope->how);
    memset(&scope->lease, 0, sizeof scope->lease); /* also if it was stale */
}

/* >>core: upkeep */

/* How much one call of maintain may still do. */
typedef struct rmi_upkeep {
    rm_pool *pool;
    rm_deadline deadline;
    uint32_t budget; /* hook calls that are left */
    uint32_t idle;   /* resources, when they were counted last */
    int64_t now;
} rmi_upkeep;

static bool rmi_upkeep_over(const rmi_upkeep *u) {
    return u->budget == 0 || rm_deadline_passed(u->pool->env.clock, u->deadline);
}

/* Are there more idle resources than that? It is counted anew once for each that seemed to be. */
static bool rmi_upkeep_spares(rmi_upkeep *u, uint32_t min_idle) {
    if (u->idle <= min_idle) return false;
    u->idle = rmi_pool_in_state(u->pool, RMI_SLOT_IDLE);
    return u->idle > min_idle;
}

/* Looks at an idle slot: ends what is too old or too long idle, checks what is due for it. */
static bool rmi_upkeep_idle(rmi_upkeep *u, rmi_slot *slot, uint64_t word) {
    rm_pool *pool = u->pool;
    const rm_pool_desc *desc = &pool->desc;
    const uint64_t made = RMI_LOAD64(&slot->epoch, RELAXED);
    const uint64_t epoch = RMI_LOAD64(&pool->epoch, SEQ_CST);
    const bool stale = !rmi_pool_current(made, epoch);
    const bool old = stale || rmi_pool_expired(slot, u->now);
    const int64_t unused = rmi_pool_unused_ns(slot, u->now);
    const int64_t unchecked =
        rmi_time_since(u->now, (int64_t)RMI_LOAD64(&slot->checked_ns, RELAXED));
    const uint32_t min_idle = rmi_pool_size(RMI_LOAD64(&pool->sizes, SEQ_CST), 2);
    const bool timed_out = desc->idle_timeout_ns != RM_NONE && unused >= desc->idle_timeout_ns;
    const bool unneeded = timed_out && rmi_upkeep_spares(u, min_idle);
    const bool due = desc->validate_fn != NULL && desc->keepalive_ns != 0 &&
                     unused >= desc->keepalive_ns && unchecked >= desc->keepalive_ns;
    if (!old && !unneeded && !due) return false;
    if (!rmi_pool_claim(slot, word, old || unneeded ? RMI_SLOT_CLOSING : RMI_SLOT_CHECKING))
        return false;
    if (old || unneeded)
        rmi_pool_retire(pool, slot,
                        stale ? RM_POOL_CAUSE_EVICTED
                        : old ? RM_POOL_CAUSE_LIFETIME
                              : RM_POOL_CAUSE_IDLE);
    else if (rmi_pool_check(pool, slot, made, epoch))
        rmi_pool_offer(pool, slot);
    else
        rmi_pool_retire(pool, slot, RM_POOL_CAUSE_INVALID);
    return true;
}

/* Takes a lease from its holder, who will get RM_E_STALE. */
static bool rmi_upkeep_reclaim(rmi_upkeep *u, rmi_slot *slot, uint64_t word, int64_t held) {
    rm_pool *pool = u->pool;
    rmi_lease_end end;
    if (!rmi_pool_claim(slot, word, RMI_SLOT_CLOSING)) return false;
    end = rmi_pool_lease_end(pool, slot);
    rmi_pool_unkeep(pool);
    pool->desc.reclaim_fn(rmi_pool_resource_of(slot), end.endpoint->user);
    rmi_pool_log(pool, RM_LOG_WARN, "reclaimed", NULL);
    rmi_pool_step(pool, slot, RM_POOL_EVENT_RECLAIMED, NULL, held);
    RMI_STORE64(&slot->data, 0u, RELAXED);
    rmi_pool_count(&pool->reclaimed);
    rmi_pool_vacate(pool, slot, RMI_POP_TOTAL);
    rmi_pool_lease_ended(pool, &end, RM_OUTCOME_FAILURE);
    return true;
}

/* Says who holds a lease for so long, unless it has just ended. Did it call a hook? */
static bool rmi_upkeep_report(rmi_upkeep *u, rmi_slot *slot, uint64_t word, int64_t held) {
    rm_pool *pool = u->pool;
    rm_pool_event event;
    rm_error error;
    rmi_inside here;
    memset(&event, 0, sizeof event);
    event.kind = RM_POOL_EVENT_LEAKED;
    event.pool = pool->name;
    event.endpoint = rmi_pool_endpoint_of(pool, slot)->name;
    event.where = rmi_pool_where(slot);
    event.thread = RMI_LOAD32(&slot->thread, RELAXED);
    event.ns = held;
    event.error = &error;
    if (RMI_LOAD64(&slot->word, SEQ_CST) != word) return false; /* what was read is of another */
    slot->reported = (uint32_t)(word >> RMI_SLOT_BITS);
    (void)rm_error_set(&error, RM_E_BUSY, 0, pool->name, "held for %lld ms by thread %u%s%s",
                       (long long)(held / RM_MS(1)), event.thread,
                       event.where[0] == '\0' ? "" : " at ", event.where);
    rmi_pool_count(&pool->leaks);
    rmi_pool_log(pool, RM_LOG_WARN, "leak", &error);
    if (pool->desc.event_fn == NULL) return false;
    RMI_ENTER(rmi_pool_hooks, here, pool);
    pool->desc.event_fn(&event, pool->desc.user);
    RMI_LEAVE(rmi_pool_hooks, here);
    return true;
}

/* Looks at a slot that is lent. */
static bool rmi_upkeep_busy(rmi_upkeep *u, rmi_slot *slot, uint64_t word) {
    const rm_pool_desc *desc = &u->pool->desc;
    const uint32_t sequence = (uint32_t)(word >> RMI_SLOT_BITS);
    const int64_t held = rmi_pool_held_ns(slot, u->now);
    if (desc->reclaim_after_ns != 0 && held >= desc->reclaim_after_ns)
        return rmi_upkeep_reclaim(u, slot, word, held);
    if (desc->leak_after_ns == 0 || held < desc->leak_after_ns || slot->reported == sequence)
        return false;
    return rmi_upkeep_report(u, slot, word, held);
}

static void rmi_upkeep_slots(rmi_upkeep *u) {
    rm_pool *pool = u->pool;
    uint32_t i;
    for (i = 0; i < pool->capacity && !rmi_upkeep_over(u); ++i) {
        /* from the top: low slots are the warm ones */
        rmi_slot *slot = &pool->slots[pool->capacity - 1 - pool->cursor];
        const uint64_t word = RMI_LOAD64(&slot->word, SEQ_CST);
        bool did = false;
        pool->cursor = (pool->cursor + 1) % pool->capacity;
        if (rmi_slot_state(word) == RMI_SLOT_IDLE) did = rmi_upkeep_idle(u, slot, word);
        if (rmi_slot_state(word) == RMI_SLOT_BUSY) did = rmi_upkeep_busy(u, slot, word);
        if (did && u->budget != UINT32_MAX) --u->budget;
    }
}

/* Makes one idle resource in a slot that was claimed for that. */
static rm_status rmi_pool_make_idle(rm_pool *pool, uint64_t grant, rmi_pool_wish *wish,
                                    rm_deadline deadline, rm_error *error) {
    rmi_slot *slot = &pool->slots[grant];
    rmi_endpoint *endpoint = rmi_pool_endpoint_of(pool, slot);
    rm_permit permit;
    rm_status status;
    if (!rmi_pool_admit_endpoint(pool, slot)) {
        rmi_pool_unclaim(pool, slot);
        return rm_error_set(error, RM_E_REJECTED, 0, pool->name, "refused by the guard of %s",
                            endpoint->name);
    }
    permit = slot->endpoint_permit;
    status = rmi_pool_make(pool, slot, deadline, error);
    if (status == RM_OK) rmi_pool_offer(pool, slot);
    rmi_pool_report_to(pool, &endpoint->guard, &permit,
                       status == RM_OK ? RM_OUTCOME_OK : rmi_pool_blame(pool, status));
    if (status != RM_OK) rmi_pool_pass_over(pool, wish, endpoint);
    return status;
}

/* How many are idle, or on their way to be. */
static uint32_t rmi_pool_soon_idle(rm_pool *pool) {
    return rmi_pool_in_state(pool, RMI_SLOT_IDLE) + rmi_pool_in_state(pool, RMI_SLOT_CHECKING) +
           RMI_POP_FIELD(RMI_LOAD64(&pool->population, SEQ_CST), RMI_POP_CREATING);
}

static rm_status rmi_upkeep_refill(rmi_upkeep *u, rm_error *error) {
    rm_pool *pool = u->pool;
    rmi_pool_wish wish = rmi_pool_wish_of(INT64_MIN);
    uint64_t grant = 0;
    rm_status first = RM_OK;
    for (;;) {
        const uint64_t sizes = RMI_LOAD64(&pool->sizes, SEQ_CST);
        const uint32_t failures = wish.failures;
        rm_status status;
        if (rmi_upkeep_over(u) || rmi_pool_kept(pool) >= rmi_pool_size(sizes, 0) ||
            rmi_pool_soon_idle(pool) >= rmi_pool_size(sizes, 2))
            return first;
        if (!rmi_pool_claim_best(pool, 0, &wish, &grant))
            return first == RM_OK && rmi_pool_blocked(pool, &wish, &grant)
                       ? rmi_pool_gave_up(pool, grant, error)
                       : first;
        status = rmi_pool_make_idle(pool, grant, &wish, u->deadline, first == RM_OK ? error : NULL);
        if (first == RM_OK) first = status;
        if (wish.failures == pool->endpoint_count) return first; /* each has had its try */
        if (u->budget != UINT32_MAX && (status == RM_OK || wish.failures != failures))
            --u->budget; /* not for a guard that refused: the next call would begin with it */
    }
}

static rm_status rmi_pool_maintain(rm_pool *pool, uint32_t budget, rm_deadline deadline,
                                   rm_error *error) {
    rmi_upkeep u;
    rm_status status;
    (void)rm_waitq_expire(&pool->queue);
    if (rmi_pool_is_closed(pool))
        return rm_error_set(error, RM_E_CLOSED, 0, pool->name, "the pool is closed");
    if (RMI_XCHG32(&pool->maintaining, 1u, SEQ_CST) != 0)
        return rm_error_set(error, RM_E_BUSY, 0, pool->name, "another thread maintains the pool");
    u.pool = pool;
    u.deadline = deadline;
    u.budget = budget == 0 ? UINT32_MAX : budget;
    u.now = rmi_pool_now(pool);
    u.idle = rmi_pool_in_state(pool, RMI_SLOT_IDLE);
    rmi_upkeep_slots(&u);
    if (rmi_pool_surplus(pool) != 0) rmi_pool_trim(pool);
    status = rmi_upkeep_refill(&u, error);
    RMI_STORE32(&pool->maintaining, 0u, SEQ_CST);
    return status;
}

RM_API rm_status rm_pool_maintain(rm_pool *pool, uint32_t budget, rm_deadline deadline,
                                  rm_error *error) {
    rm_status status;
    if (pool == NULL) return rm_error_set(error, RM_E_INVALID, 0, "pool", "pool is NULL");
    status = rmi_pool_maintain(pool, budget, deadline, error);
    if (pool->budget != NULL) rmi_pools_relieve(pool->budget); /* a backoff may be over */
    return status;
}

/* >>public: prewarm */

enum { RMI_POOL_WARMERS = 16 };

typedef struct rmi_pool_warm {
    rm_pool *pool;
    rm_deadline deadline;
    uint32_t todo, begun, made; /* resources */
    rm_mutex mutex;             /* guards the first error */
    rm_error error;
    rm_status status;
} rmi_pool_warm;

/* Makes one idle resource, at one endpoint after the other until one does; of failures the first is
   told. *none: there is no room for one. */
static rm_status rmi_pool_warm_one(rmi_pool_warm *warm, bool *none, rm_error *error) {
    rm_pool *pool = warm->pool;
    rmi_pool_wish wish = rmi_pool_wish_of(INT64_MIN);
    rm_status first = RM_OK, status;
    uint64_t grant = 0;
    while (wish.failures < pool->endpoint_count) {
        if (rm_deadline_passed(pool->env.clock, warm->deadline))
            return first != RM_OK ? first
                                  : rm_error_set(error, RM_E_TIMEOUT, 0, pool->name,
                                                 "the time was over before %u resources were made",
                                                 warm->todo);
        if (!rmi_pool_claim_best(pool, 0, &wish, &grant)) {
            if (first != RM_OK) return first;
            *none = !rmi_pool_blocked(pool, &wish, &grant);
            return *none ? RM_OK : rmi_pool_gave_up(pool, grant, error);
        }
        status =
            rmi_pool_make_idle(pool, grant, &wish, warm->deadline, first == RM_OK ? error : NULL);
        if (status == RM_OK) (void)RMI_ADD32(&warm->made, 1u, RELAXED);
        if (status == RM_OK) return RM_OK;
        if (first == RM_OK) first = status;
    }
    return first;
}

/* Makes the next one. Is there more to do? */
static bool rmi_pool_warm_next(rmi_pool_warm *warm) {
    rm_status status;
    rm_error error;
    bool none = false;
    if (RMI_ADD32(&warm->begun, 1u, RELAXED) >= warm->todo) return false;
    status = rmi_pool_warm_one(warm, &none, &error);
    if (status == RM_OK) return !none;
    rm_mutex_lock(&warm->mutex);
    if (warm->status == RM_OK) warm->error = error;
    if (warm->status == RM_OK) warm->status = status;
    rm_mutex_unlock(&warm->mutex);
    return false;
}

static void rmi_pool_warm_run(void *user) {
    while (rmi_pool_warm_next((rmi_pool_warm *)user)) {}
}

/* Is there an endpoint whose last create has not failed? */
static bool rmi_pool_works(rm_pool *pool) {
    uint32_t i;
    for (i = 0; i < pool->endpoint_count; ++i) {
        if (RMI_LOAD32(&pool->endpoints[i].failures, SEQ_CST) == 0) return true;
    }
    return false;
}

RM_API rm_status rm_pool_prewarm(rm_pool *pool, uint32_t count, rm_deadline deadline,
                                 uint32_t *made, rm_error *error) {
    rm_thread threads[RMI_POOL_WARMERS - 1];
    rmi_pool_warm warm;
    uint32_t i, kept, idle, max, room, left, started = 0;
    bool more = true;
    if (made != NULL) *made = 0;
    if (pool == NULL) return rm_error_set(error, RM_E_INVALID, 0, "pool", "pool is NULL");
    if (rmi_pool_is_closed(pool)) return rmi_pool_denied(pool, RM_E_CLOSED, error);
    memset(&warm, 0, sizeof warm);
    warm.pool = pool;
    warm.deadline = deadline;
    max = rmi_pool_size(RMI_LOAD64(&pool->sizes, SEQ_CST), 0);
    kept = rmi_pool_kept(pool);
    idle = rmi_pool_soon_idle(pool);
    warm.todo = idle < count ? count - idle : 0;
    room = kept < max ? max - kept : 0;
    if (warm.todo > room) warm.todo = room;
    if (rm_mutex_init(&warm.mutex) != RM_OK)
        return rm_error_set(error, RM_E_SYSTEM, 0, pool->name, "the platform has no mutex to give");
    if (!rmi_pool_works(pool)) more = rmi_pool_warm_next(&warm); /* one finds out for the others */
    left = more ? warm.todo - warm.begun : 0;
    while (started + 1 < left && started + 1 < RMI_POOL_WARMERS &&
           started + 1 < pool->desc.max_creating &&
           rm_thread_start(&threads[started], rmi_pool_warm_run, &warm) == RM_OK)
        ++started;
    if (more) rmi_pool_warm_run(&warm);
    for (i = 0; i < started; ++i)
        rm_thread_join(&threads[i]);
    rm_mutex_destroy(&warm.mutex);
    if (pool->budget != NULL)
        rmi_pools_relieve(pool->budget); /* a probe that was undone may have held */
    if (made != NULL) *made = warm.made;
    if (warm.status != RM_OK && error != NULL) *error = warm.error;
    return warm.status;
}

/* >>core: the thread that maintains */

/* Until it is told to stop. What the platform cannot give for a moment does not end it. */
static void rmi_helper_main(void *user) {
    rmi_helper *helper = (rmi_helper *)user;
    rm_status status = RM_OK;
    RMI_STORE32(&helper->number, rm_thread_number(), RELAXED);
    while (status == RM_OK) {
        status = rm_sleep(helper->clock, helper->every_ns, &helper->stop);
        if (status == RM_OK) helper->run_fn(helper->user);
        if (status == RM_E_SYSTEM) status = rm_sleep(helper->clock, RM_MS(100), NULL);
    }
}

static rm_status rmi_helper_start(rmi_helper *helper) {
    rm_status status;
    if (helper->every_ns == 0 || RMI_XCHG32(&helper->helping, 1u, SEQ_CST) != 0) return RM_OK;
    status = rm_cancel_init(&helper->stop);
    if (status == RM_OK) {
        status = rm_thread_start(&helper->thread, rmi_helper_main, helper);
        if (status != RM_OK) (void)rm_cancel_destroy(&helper->stop);
    }
    if (status != RM_OK) RMI_STORE32(&helper->helping, 0u, SEQ_CST);
    return status;
}

static void rmi_helper_stop(rmi_helper *helper) {
    if (RMI_XCHG32(&helper->helping, 0u, SEQ_CST) == 0) return;
    rm_cancel_request(&helper->stop);
    rm_thread_join(&helper->thread);
    RMI_STORE32(&helper->number, 0u, RELAXED);
    (void)rm_cancel_destroy(&helper->stop);
}

static bool rmi_helper_is_this(const rmi_helper *helper) {
    return RMI_LOAD32(&helper->number, RELAXED) == rm_thread_number();
}

static void rmi_pool_help(void *user) {
    const rm_deadline none = {0};
    (void)rm_pool_maintain((rm_pool *)user, 0, none, NULL);
}

/* >>public: operations */

RM_API rm_status rm_pool_evict_all(rm_pool *pool) {
    if (pool == NULL) return RM_E_INVALID;
    rmi_pool_turn(pool, 0, 0, RMI_EPOCH_GENERATION);
    rmi_pool_sweep(pool);
    return RM_OK;
}

RM_API rm_status rm_pool_evict(rm_pool *pool, const void *resource) {
    uint64_t made;
    uint32_t i;
    if (pool == NULL || resource == NULL) return RM_E_INVALID;
    for (i = 0; i < pool->capacity; ++i) {
        rmi_slot *slot = &pool->slots[i];
        const uint64_t word = RMI_LOAD64(&slot->word, SEQ_CST);
        const uint32_t state = rmi_slot_state(word);
        if (rmi_pool_resource_of(slot) != resource) continue;
        if (state == RMI_SLOT_IDLE && rmi_pool_claim(slot, word, RMI_SLOT_CLOSING)) {
            rmi_pool_retire(pool, slot, RM_POOL_CAUSE_EVICTED);
            return RM_OK;
        }
        if (state != RMI_SLOT_BUSY || RMI_LOAD64(&slot->word, SEQ_CST) != word) return RM_E_BUSY;
        made = RMI_LOAD64(&slot->epoch, SEQ_CST);
        if (RMI_LOAD64(&slot->word, SEQ_CST) != word ||
            !RMI_CAS64(&slot->epoch, &made, RMI_EPOCH_EVICTED, SEQ_CST))
            return RM_E_BUSY;
        rmi_pool_sweep(pool); /* if it has just come back */
        return RM_OK;
    }
    return RM_E_NOT_FOUND;
}

RM_API rm_status rm_pool_suspend(rm_pool *pool) {
    if (pool == NULL) return RM_E_INVALID;
    rmi_pool_turn(pool, 0, RMI_EPOCH_SUSPENDED, 0);
    if (pool->budget != NULL) rmi_pools_relieve(pool->budget); /* it takes no place now */
    return RM_OK;
}

RM_API rm_status rm_pool_resume(rm_pool *pool) {
    if (pool == NULL) return RM_E_INVALID;
    rmi_pool_turn(pool, RMI_EPOCH_SUSPENDED, 0, 0);
    rm_waitq_notify(&pool->queue);
    if (pool->budget != NULL) rmi_pools_relieve(pool->budget);
    return RM_OK;
}

/* Fills in the defaults of sizes and packs them. */
static rm_status rmi_pool_pack(rm_pool_sizes *sizes, uint32_t capacity, uint64_t *packed,
                               rm_error *error) {
    if (sizes->max == 0) sizes->max = 10;
    if (sizes->max_idle == 0) sizes->max_idle = sizes->max;
    if (sizes->max > 65535) return rmi_bad(error, "max", "at most 65535");
    if (sizes->overflow > 65535 - sizes->max)
        return rmi_bad(error, "overflow", "at most 65535 with max");
    if (sizes->max + sizes->overflow > capacity)
        return rmi_bad(error, "max", "at most capacity, with overflow");
    if (sizes->min_idle > sizes->max) return rmi_bad(error, "min_idle", "at most max");
    if (sizes->max_idle > sizes->max) return rmi_bad(error, "max_idle", "at most max");
    if (sizes->max_idle < sizes->min_idle) return rmi_bad(error, "max_idle", "at least min_idle");
    *packed = sizes->max | (uint64_t)sizes->overflow << 16 | (uint64_t)sizes->min_idle << 32 |
              (uint64_t)sizes->max_idle << 48;
    return RM_OK;
}

RM_API rm_status rm_pool_resize(rm_pool *pool, const rm_pool_sizes *sizes, rm_error *error) {
    rm_pool_sizes checked;
    uint64_t packed = 0;
    rm_status status;
    if (pool == NULL || sizes == NULL)
        return rm_error_set(error, RM_E_INVALID, 0, "pool", "pool or sizes is NULL");
    checked = *sizes;
    status = rmi_pool_pack(&checked, pool->capacity, &packed, error);
    if (status != RM_OK) return status;
    RMI_STORE64(&pool->sizes, packed, SEQ_CST);
    if (rmi_pool_surplus(pool) != 0) rmi_pool_trim(pool);
    rm_waitq_notify(&pool->queue);
    if (pool->budget != NULL) rmi_pools_relieve(pool->budget);
    return RM_OK;
}

/* >>public: insight */

/* One lease that is out. */
static bool rmi_pool_lease_info(rm_pool *pool, uint32_t at, rm_pool_lease_info *info) {
    rmi_slot *slot = &pool->slots[at];
    const uint64_t word = RMI_LOAD64(&slot->word, SEQ_CST);
    if (rmi_slot_state(word) != RMI_SLOT_BUSY) return false;
    info->where = rmi_pool_where(slot);
    info->endpoint = pool->endpoints[RMI_LOAD32(&slot->endpoint, ACQUIRE)].name;
    info->held_ns = rmi_pool_held_ns(slot, rmi_pool_now(pool));
    info->thread = RMI_LOAD32(&slot->thread, ACQUIRE);
    info->slot = at;
    return RMI_LOAD64(&slot->word, SEQ_CST) == word; /* else what was read may be of another */
}

RM_API uint32_t rm_pool_leases(rm_pool *pool,
                               bool (*fn)(const rm_pool_lease_info *lease, void *user),
                               void *user) {
    rm_pool_lease_info info;
    rmi_inside here;
    uint32_t i, count = 0;
    if (pool == NULL || fn == NULL) return 0;
    RMI_ENTER(rmi_pool_hooks, here, pool);
    for (i = 0; i < pool->capacity; ++i) {
        if (!rmi_pool_lease_info(pool, i, &info)) continue;
        ++count;
        if (!fn(&info, user)) break;
    }
    RMI_LEAVE(rmi_pool_hooks, here);
    return count;
}

/* Says what a close waits for: how many, and the oldest lease. */
static rm_status rmi_pool_still_out(rm_pool *pool, rm_status status, rm_error *error) {
    const uint32_t out = RMI_POP_FIELD(RMI_LOAD64(&pool->population, SEQ_CST), RMI_POP_TOTAL);
    rm_pool_lease_info info, oldest;
    uint32_t i;
    memset(&oldest, 0, sizeof oldest);
    oldest.held_ns = -1;
    for (i = 0; i < pool->capacity; ++i) {
        if (rmi_pool_lease_info(pool, i, &info) && info.held_ns > oldest.held_ns) oldest = info;
    }
    if (oldest.held_ns < 0)
        return rm_error_set(error, status, 0, pool->name,
                            "closed, but %u resources are still being made or ended; close again "
                            "to wait on",
                            out);
    return rm_error_set(error, status, 0, pool->name,
                        "closed, but %u resources are still out, the oldest for %lld ms by thread "
                        "%u%s%s; close again to wait on",
                        out, (long long)(oldest.held_ns / RM_MS(1)), oldest.thread,
                        oldest.where[0] == '\0' ? "" : " at ", oldest.where);
}

/* Opens or closes the queue as the epoch says; also if that changes meanwhile. */
static void rmi_pool_turn_queue(rm_pool *pool) {
    bool closed;
    do {
        closed = rmi_pool_is_closed(pool);
        if (closed)
            rm_waitq_close(&pool->queue);
        else
            rm_waitq_open(&pool->queue);
    } while (rmi_pool_is_closed(pool) != closed);
}

RM_API rm_status rm_pool_close(rm_pool *pool, int64_t timeout_ns, rm_error *error) {
    rm_status status = RM_OK;
    uint64_t grant = 0;
    if (pool == NULL) return rm_error_set(error, RM_E_INVALID, 0, "pool", "pool is NULL");
    if (!rm_timeout_valid(timeout_ns))
        return rm_error_set(error, RM_E_INVALID, 0, "timeout_ns",
                            "%lld is no timeout: a time, RM_NOWAIT or RM_FOREVER",
                            (long long)timeout_ns);
    do {
        rmi_pool_turn(pool, 0, RMI_EPOCH_CLOSED, 0);
        rmi_pool_turn_queue(pool);
    } while (!rmi_pool_is_closed(pool)); /* a start came in between */
    rmi_pool_sweep(pool);
    if (rmi_pool_was_drained(pool, NULL, &grant)) return RM_OK;
    if (timeout_ns == 0) timeout_ns = RM_SEC(8);
    status = timeout_ns == RM_NOWAIT
                 ? RM_E_BUSY
                 : rm_waitq_wait(&pool->drain, NULL, rm_deadline_after(pool->env.clock, timeout_ns),
                                 NULL, &grant);
    return status == RM_OK ? RM_OK : rmi_pool_still_out(pool, status, error);
}

static void rmi_pool_times_get(const rm_hist *times, int64_t *p50, int64_t *p99, int64_t *max) {
    *p50 = rm_hist_quantile(times, 0.5);
    *p99 = rm_hist_quantile(times, 0.99);
    *max = times->max;
}

/* What the queue's lock guards. */
static void rmi_pool_waits_get(rm_pool *pool, rm_pool_stats *s) {
    rm_waitq_lock(&pool->queue);
    s->waiting = pool->queue.stats.waiting;
    s->waits = pool->queue.stats.waits;
    s->timeouts = pool->queue.stats.timeouts;
    s->cancelled = pool->queue.stats.cancelled;
    s->refused = pool->queue.stats.refused;
    rmi_pool_times_get(&pool->times[RMI_POOL_WAITS], &s->wait_p50_ns, &s->wait_p99_ns,
                       &s->wait_max_ns);
    rmi_pool_times_get(&pool->times[RMI_POOL_CREATES], &s->create_p50_ns, &s->create_p99_ns,
                       &s->create_max_ns);
    rmi_pool_times_get(&pool->times[RMI_POOL_USES], &s->use_p50_ns, &s->use_p99_ns, &s->use_max_ns);
    rm_waitq_unlock(&pool->queue);
}

RM_API rm_status rm_pool_stats_get(rm_pool *pool, rm_pool_stats *out) {
    rmi_pool_counts counts;
    rm_pool_stats s;
    uint64_t sizes;
    uint32_t i;
    if (pool == NULL || out == NULL) return RM_E_INVALID;
    memset(&s, 0, sizeof s);
    rmi_pool_waits_get(pool, &s);
    counts = rmi_pool_counted(pool);
    s.capacity = pool->capacity;
    s.in_use = counts.states[RMI_SLOT_BUSY];
    s.idle = counts.states[RMI_SLOT_IDLE];
    s.creating = counts.states[RMI_SLOT_CREATING];
    s.checking = counts.states[RMI_SLOT_CHECKING];
    s.closing = counts.states[RMI_SLOT_CLOSING];
    s.empty = counts.states[RMI_SLOT_EMPTY];
    s.acquired = counts.leases - pool->leases_before;
    s.closed = rmi_pool_is_closed(pool);
    s.suspended = (RMI_LOAD64(&pool->epoch, SEQ_CST) & RMI_EPOCH_SUSPENDED) != 0;
    sizes = RMI_LOAD64(&pool->sizes, SEQ_CST);
    s.max = rmi_pool_size(sizes, 0);
    s.overflow = rmi_pool_size(sizes, 1);
    s.min_idle = rmi_pool_size(sizes, 2);
    s.max_idle = rmi_pool_size(sizes, 3);
    s.rejected = RMI_LOAD64(&pool->rejected, RELAXED);
    s.failed_fast = RMI_LOAD64(&pool->failed_fast, RELAXED);
    s.created = RMI_LOAD64(&pool->created, RELAXED);
    s.create_failures = RMI_LOAD64(&pool->create_failures, RELAXED);
    s.detached = RMI_LOAD64(&pool->detached, RELAXED);
    s.reclaimed = RMI_LOAD64(&pool->reclaimed, RELAXED);
    s.leaks = RMI_LOAD64(&pool->leaks, RELAXED);
    for (i = 0; i < RM_POOL_CAUSES; ++i)
        s.destroyed += s.ended[i] = RMI_LOAD64(&pool->ended[i], RELAXED);
    *out = s;
    return RM_OK;
}

RM_API rm_status rm_pool_desc_get(const rm_pool *pool, rm_pool_desc *out) {
    uint64_t sizes;
    if (pool == NULL || out == NULL) return RM_E_INVALID;
    sizes = RMI_LOAD64(&pool->sizes, SEQ_CST);
    *out = pool->desc;
    out->max = rmi_pool_size(sizes, 0);
    out->overflow = rmi_pool_size(sizes, 1);
    out->min_idle = rmi_pool_size(sizes, 2);
    out->max_idle = rmi_pool_size(sizes, 3);
    return RM_OK;
}

RM_API const char *rm_pool_cause_name(rm_pool_cause cause) {
    static const char *const names[] = {"broken",   "reset",   "invalid", "idle",
                                        "lifetime", "evicted", "surplus", "closed"};
    return (uint32_t)cause < RM_POOL_CAUSES ? names[cause] : "unknown";
}

/* >>public: the pool as a resource */

/* A pool that was stopped opens again, so that a manager can start what it has stopped. */
static rm_status rmi_pool_start(void *user, rm_deadline deadline, rm_error *error) {
    rm_pool *pool = (rm_pool *)user;
    if (rmi_pool_is_closed(pool)) {
        if (!rmi_pool_drained(pool))
            return rm_error_set(error, RM_E_BUSY, 0, pool->name,
                                "resources from before it was closed are still out");
        rmi_pool_turn(pool, RMI_EPOCH_CLOSED, 0, RMI_EPOCH_GENERATION);
        rmi_pool_turn_queue(pool);
        rm_waitq_notify(&pool->drain); /* who waits for the end may have missed it */
    }
    if (rmi_helper_start(&pool->helper) != RM_OK) /* a destroy that was refused has ended it */
        return rm_error_set(error, RM_E_SYSTEM, 0, pool->name,
                            "the platform has no thread to give");
    return rm_pool_prewarm(pool, rmi_pool_size(RMI_LOAD64(&pool->sizes, SEQ_CST), 2), deadline,
                           NULL, error);
}

static rm_status rmi_pool_stop(void *user, rm_deadline deadline, rm_error *error) {
    rm_pool *pool = (rm_pool *)user;
    return rm_pool_close(pool, rm_deadline_left(pool->env.clock, deadline), error);
}

static rm_health rmi_pool_health(void *user, rm_error *reason) {
    rm_pool *pool = (rm_pool *)user;
    const rmi_pool_counts counts = rmi_pool_counted(pool);
    const uint64_t epoch = RMI_LOAD64(&pool->epoch, SEQ_CST);
    rm_error last;
    uint32_t waiting;
    int64_t age;
    bool failing;
    rm_waitq_lock(&pool->queue);
    last = pool->last_error;
    failing = pool->failing;
    age = rmi_time_since(rm_now(pool->env.clock), pool->last_error_ns);
    waiting = pool->queue.stats.waiting;
    rm_waitq_unlock(&pool->queue);
    if ((epoch & RMI_EPOCH_CLOSED) != 0) {
        (void)rm_error_set(reason, RM_E_CLOSED, 0, pool->name, "the pool is closed");
        return RM_HEALTH_UNHEALTHY;
    }
    if ((epoch & RMI_EPOCH_SUSPENDED) != 0) {
        (void)rm_error_set(reason, RM_E_BUSY, 0, pool->name, "the pool is suspended, %u wait",
                           waiting);
        return RM_HEALTH_DEGRADED;
    }
    if (failing && (waiting > 0 || rmi_pool_kept(pool) == 0 || age < RM_MINUTES(1))) {
        if (reason != NULL) *reason = last;
        return RM_HEALTH_DEGRADED;
    }
    if (waiting == 0) return RM_HEALTH_HEALTHY;
    (void)rm_error_set(reason, RM_E_BUSY, 0, pool->name, "%u of %u in use, %u waiting",
                       counts.states[RMI_SLOT_BUSY],
                       rmi_pool_size(RMI_LOAD64(&pool->sizes, RELAXED), 0), waiting);
    return RM_HEALTH_DEGRADED;
}

static void rmi_pool_show_counts(rm_stat_fn visit, void *to, const rm_pool_stats *s) {
    static const char states[] = "Resources by state.";
    const rm_stat_type gauge = RM_STAT_GAUGE, counter = RM_STAT_COUNTER;
    uint32_t i;
    rmi_show(visit, to, gauge, "rm_pool_resources", states, "state", "in_use", s->in_use);
    rmi_show(visit, to, gauge, "rm_pool_resources", states, "state", "idle", s->idle);
    rmi_show(visit, to, gauge, "rm_pool_resources", states, "state", "creating", s->creating);
    rmi_show(visit, to, gauge, "rm_pool_resources", states, "state", "checking", s->checking);
    rmi_show(visit, to, gauge, "rm_pool_resources", states, "state", "closing", s->closing);
    rmi_show(visit, to, gauge, "rm_pool_max", "Resources kept at most.", NULL, NULL, s->max);
    rmi_show(visit, to, gauge, "rm_pool_waiting", "Acquires in the queue.", NULL, NULL, s->waiting);
    rmi_show(visit, to, counter, "rm_pool_acquired_total", "Leases.", NULL, NULL, s->acquired);
    rmi_show(visit, to, counter, "rm_pool_timeouts_total",
             "Acquires that ended without a resource in time.", NULL, NULL, s->timeouts);
    rmi_show(visit, to, counter, "rm_pool_cancelled_total", "Acquires that were cancelled.", NULL,
             NULL, s->cancelled);
    rmi_show(visit, to, counter, "rm_pool_refused_total",
             "Acquires turned away by the bound on waiters.", NULL, NULL, s->refused);
    rmi_show(visit, to, counter, "rm_pool_rejected_total", "Acquires refused by the guard.", NULL,
             NULL, s->rejected);
    rmi_show(visit, to, counter, "rm_pool_failed_fast_total",
             "Acquires given the last create error without a try.", NULL, NULL, s->failed_fast);
    rmi_show(visit, to, counter, "rm_pool_created_total", "Resources made.", NULL, NULL,
             s->created);
    rmi_show(visit, to, counter, "rm_pool_create_failures_total", "Failed creates.", NULL, NULL,
             s->create_failures);
    for (i = 0; i < RM_POOL_CAUSES; ++i)
        rmi_show(visit, to, counter, "rm_pool_destroyed_total", "Resources ended.", "cause",
                 rm_pool_cause_name((rm_pool_cause)i), s->ended[i]);
    rmi_show(visit, to, counter, "rm_pool_detached_total", "Resources that left with their holder.",
             NULL, NULL, s->detached);
    rmi_show(visit, to, counter, "rm_pool_reclaimed_total", "Leases taken from their holder.", NULL,
             NULL, s->reclaimed);
    rmi_show(visit, to, counter, "rm_pool_leaks_total", "Leases held for too long.", NULL, NULL,
             s->leaks);
}

/* Endpoints, when they were named. */
static void rmi_pool_show_endpoints(rm_pool *pool, rm_stat_fn visit, void *to) {
    rmi_loads loads;
    uint32_t i;
    rmi_pool_loads(pool, true, &loads);
    for (i = 0; i < pool->endpoint_count && pool->endpoints[i].name[0] != '\0'; ++i) {
        rmi_endpoint *endpoint = &pool->endpoints[i];
        rmi_show(visit, to, RM_STAT_GAUGE, "rm_pool_endpoint_resources", "Resources by endpoint.",
                 "endpoint", endpoint->name, loads.kept[i]);
        rmi_show(visit, to, RM_STAT_GAUGE, "rm_pool_endpoint_up",
                 "1 unless its creates fail or its guard refuses.", "endpoint", endpoint->name,
                 rmi_pool_well(pool, endpoint));
    }
}

static void rmi_pool_stats_visit(void *user, rm_stat_fn visit, void *to) {
    rm_pool *pool = (rm_pool *)user;
    uint64_t bins[RMI_POOL_TIME_BINS];
    rm_pool_stats s;
    rmi_inside here;
    if (visit == NULL || rm_pool_stats_get(pool, &s) != RM_OK) return;
    RMI_ENTER(rmi_pool_hooks, here, pool);
    rmi_pool_show_counts(visit, to, &s);
    rmi_pool_show_endpoints(pool, visit, to);
    rmi_show_times(visit, to, "rm_pool_wait_seconds",
                   "Time that acquires waited in the queue, timeouts included.", &pool->queue,
                   &pool->times[RMI_POOL_WAITS], bins);
    rmi_show_times(visit, to, "rm_pool_create_seconds", "Time of create_fn, failed ones included.",
                   &pool->queue, &pool->times[RMI_POOL_CREATES], bins);
    if (pool->desc.time_uses)
        rmi_show_times(visit, to, "rm_pool_use_seconds", "Time that resources were held.",
                       &pool->queue, &pool->times[RMI_POOL_USES], bins);
    RMI_LEAVE(rmi_pool_hooks, here);
}

RM_API rm_resource rm_pool_resource(rm_pool *pool) {
    rm_resource resource = rm_resource_make(pool == NULL ? NULL : pool->name, "pool", pool);
    if (pool == NULL) return resource;
    resource.start_fn = rmi_pool_start;
    resource.stop_fn = rmi_pool_stop;
    resource.health_fn = rmi_pool_health;
    resource.stats_fn = rmi_pool_stats_visit;
    return resource;
}

/* >>public: create and destroy */

RM_API rm_pool_desc rm_pool_desc_default(void) {
    rm_pool_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.name = "pool";
    desc.max = 10;
    desc.acquire_timeout_ns = RM_SEC(30);
    desc.idle_timeout_ns = RM_MINUTES(10);
    desc.validate_after_ns = RM_MS(500);
    desc.barge_ns = RM_US(50);
    desc.create_backoff_ns = RM_MS(10);
    desc.create_backoff_max_ns = RM_SEC(5);
    desc.lifetime_jitter = 25;
    return desc;
}

/* Fills in the defaults of times. */
static void rmi_pool_defaults(rm_pool_desc *desc) {
    const rm_pool_desc standard = rm_pool_desc_default();
    if (desc->name == NULL) desc->name = standard.name;
    if (desc->acquire_timeout_ns == 0) desc->acquire_timeout_ns = standard.acquire_timeout_ns;
    if (desc->idle_timeout_ns == 0) desc->idle_timeout_ns = standard.idle_timeout_ns;
    if (desc->validate_after_ns == 0) desc->validate_after_ns = standard.validate_after_ns;
    if (desc->barge_ns == 0) desc->barge_ns = standard.barge_ns;
    if (desc->create_backoff_ns == 0) desc->create_backoff_ns = standard.create_backoff_ns;
    if (desc->create_backoff_max_ns == 0)
        desc->create_backoff_max_ns = standard.create_backoff_max_ns;
    if (desc->create_backoff_max_ns >= 0 && desc->create_backoff_max_ns < desc->create_backoff_ns)
        desc->create_backoff_max_ns = desc->create_backoff_ns;
    if (desc->lifetime_jitter == 0) desc->lifetime_jitter = standard.lifetime_jitter;
    if (desc->max_creating == 0) desc->max_creating = UINT32_MAX;
}

static rm_status rmi_pool_check_times(const rm_pool_desc *desc, rm_error *error) {
    if (!rm_timeout_valid(desc->acquire_timeout_ns))
        return rmi_bad(error, "acquire_timeout_ns", "a time, RM_NOWAIT or RM_FOREVER");
    if (desc->idle_timeout_ns < 0 && desc->idle_timeout_ns != RM_NONE)
        return rmi_bad(error, "idle_timeout_ns", "a time or RM_NONE");
    if (desc->validate_after_ns < 0 && desc->validate_after_ns != RM_STRICT &&
        desc->validate_after_ns != RM_NONE)
        return rmi_bad(error, "validate_after_ns", "a time, RM_STRICT or RM_NONE");
    if (desc->barge_ns < 0 && desc->barge_ns != RM_STRICT)
        return rmi_bad(error, "barge_ns", "a time or RM_STRICT");
    if (desc->grow_after_ns < 0) return rmi_bad(error, "grow_after_ns", "a time");
    if (desc->create_backoff_ns < 0 && desc->create_backoff_ns != RM_NONE)
        return rmi_bad(error, "create_backoff_ns", "a time or RM_NONE");
    if (desc->create_backoff_max_ns < 0) return rmi_bad(error, "create_backoff_max_ns", "a time");
    if (desc->max_lifetime_ns < 0) return rmi_bad(error, "max_lifetime_ns", "a time");
    if ((desc->lifetime_jitter < 0 && desc->lifetime_jitter != RM_NONE) ||
        desc->lifetime_jitter > 100)
        return rmi_bad(error, "lifetime_jitter", "0 to 100 percent or RM_NONE");
    if (desc->keepalive_ns < 0) return rmi_bad(error, "keepalive_ns", "a time");
    if (desc->leak_after_ns < 0) return rmi_bad(error, "leak_after_ns", "a time");
    if (desc->reclaim_after_ns < 0) return rmi_bad(error, "reclaim_after_ns", "a time");
    if (desc->maintain_every_ns < 0) return rmi_bad(error, "maintain_every_ns", "a time");
    return RM_OK;
}

static bool rmi_pool_bad_guard(const rm_guard *guard) {
    return guard != NULL && (guard->admit_fn == NULL || guard->report_fn == NULL);
}

static rm_status rmi_pool_check_endpoints(const rm_pool_desc *desc, rm_error *error) {
    uint32_t i;
    if (desc->endpoint_count > 64) return rmi_bad(error, "endpoint_count", "at most 64");
    if ((desc->endpoint_count == 0) != (desc->endpoints == NULL))
        return rmi_bad(error, "endpoints", "given together with endpoint_count");
    if ((uint32_t)desc->balance > RM_POOL_ROUND_ROBIN)
        return rmi_bad(error, "balance", "one of rm_pool_balance");
    for (i = 0; i < desc->endpoint_count; ++i) {
        if (desc->endpoints[i].name == NULL)
            return rmi_bad(error, "endpoints", "given a name each");
        if (rmi_pool_bad_guard(desc->endpoints[i].guard))
            return rmi_bad(error, "endpoints", "given both callbacks of each guard");
        if (rmi_check_name(desc->endpoints[i].name, NULL) != RM_OK)
            return rmi_bad(error, "endpoints", "given names of 1 to 47 bytes");
    }
    return RM_OK;
}

/* Refuses what makes no sense. */
static rm_status rmi_pool_check_desc(const rm_pool_desc *desc, const rm_env *env, rm_error *error) {
    rm_status status;
    if (desc->create_fn == NULL) return rmi_bad(error, "create_fn", "set");
    status = rmi_pool_check_times(desc, error);
    if (status == RM_OK) status = rmi_pool_check_endpoints(desc, error);
    if (status != RM_OK) return status;
    if (rmi_pool_bad_guard(desc->guard)) return rmi_bad(error, "guard", "given both callbacks");
    if (desc->reclaim_after_ns != 0 && desc->reclaim_fn == NULL)
        return rmi_bad(error, "reclaim_fn", "set, for reclaim_after_ns");
    if (desc->keepalive_ns != 0 && desc->validate_fn == NULL)
        return rmi_bad(error, "validate_fn", "set, for keepalive_ns");
    if (desc->memory == NULL && desc->memory_size != 0)
        return rmi_bad(error, "memory", "given together with memory_size");
    if (desc->maintain_every_ns != 0 && env->clock->sleep_fn == NULL)
        return rmi_bad(error, "maintain_every_ns", "0 without a sleep_fn in env.clock");
#ifdef RM_NO_THREADS
    if (desc->maintain_every_ns != 0)
        return rm_error_set(error, RM_E_UNSUPPORTED, 0, "maintain_every_ns",
                            "RM_NO_THREADS: call rm_pool_maintain from a timer");
#endif
    return rmi_check_name(desc->name, error);
}

/* The sizes of a desc, packed, and the slots that they need. */
static rm_status rmi_pool_check_sizes(rm_pool_desc *desc, uint64_t *packed, rm_error *error) {
    rm_pool_sizes sizes;
    rm_status status;
    sizes.max = desc->max;
    sizes.overflow = desc->overflow;
    sizes.min_idle = desc->min_idle;
    sizes.max_idle = desc->max_idle;
    if (desc->capacity > 65535) return rmi_bad(error, "capacity", "at most 65535");
    status = rmi_pool_pack(&sizes, desc->capacity == 0 ? 65535 : desc->capacity, packed, error);
    if (status != RM_OK) return status;
    desc->max = sizes.max;
    if (desc->capacity == 0) desc->capacity = sizes.max + sizes.overflow;
    return RM_OK;
}

enum { RMI_POOL_LINE = 128 };

/* Where the slots and the endpoints begin, and where they end. */
static size_t rmi_pool_layout(const rm_pool_desc *desc, size_t *slots, size_t *endpoints) {
    const uint32_t count = desc->endpoint_count == 0 ? 1 : desc->endpoint_count;
    *slots = (sizeof(rm_pool) + RMI_POOL_LINE - 1) / RMI_POOL_LINE * RMI_POOL_LINE;
    *endpoints = *slots + desc->capacity * sizeof(rmi_slot);
    return *endpoints + count * sizeof(rmi_endpoint);
}

RM_API size_t rm_pool_footprint(const rm_pool_desc *desc) {
    rm_pool_desc checked;
    uint64_t packed;
    size_t slots, endpoints;
    memset(&checked, 0, sizeof checked);
    if (desc != NULL) checked = *desc;
    if (checked.endpoint_count > 64 || rmi_pool_check_sizes(&checked, &packed, NULL) != RM_OK)
        return 0;
    return rmi_pool_layout(&checked, &slots, &endpoints) + RMI_POOL_LINE;
}

static rm_status rmi_pool_init_queues(rm_pool *pool) {
    const rm_hist_desc times = {RMI_POOL_TIME_FIRST, RMI_POOL_TIME_LAST, 16};
    rm_waitq_desc queue;
    rm_status status;
    uint32_t i;
    for (i = 0; i < RMI_POOL_TIMES; ++i) {
        status = rm_hist_init(&pool->times[i], &times, pool->bins[i], sizeof pool->bins[i]);
        if (status != RM_OK) return RM_E_INTERNAL;
    }
    memset(&queue, 0, sizeof queue);
    queue.clock = pool->env.clock;
    queue.owner = pool;
    queue.try_fn = rmi_pool_was_drained;
    status = rm_waitq_init(&pool->drain, &queue);
    if (status != RM_OK) return status;
    queue.try_fn = rmi_pool_serve;
    queue.look_at_fn = rmi_pool_look_at;
    queue.barge_ns = pool->desc.barge_ns;
    queue.max_waiters = pool->desc.max_waiters;
    queue.wait_histogram = &pool->times[RMI_POOL_WAITS];
    status = rm_waitq_init(&pool->queue, &queue);
    if (status != RM_OK) (void)rm_waitq_destroy(&pool->drain);
    return status;
}

static void rmi_pool_end_queues(rm_pool *pool) {
    (void)rm_waitq_destroy(&pool->queue);
    (void)rm_waitq_destroy(&pool->drain);
}

/* Its locks and its own thread. */
static rm_status rmi_pool_begin(rm_pool *pool) {
    rm_status status = rmi_pool_init_queues(pool);
    if (status != RM_OK) return status;
    status = rmi_helper_start(&pool->helper);
    if (status != RM_OK) rmi_pool_end_queues(pool);
    return status;
}

/* Copies guards and endpoints; without endpoints there is one, with the pool's user. */
static void rmi_pool_init_endpoints(rm_pool *pool) {
    const rm_pool_desc *desc = &pool->desc;
    uint32_t i;
    pool->endpoint_count = desc->endpoint_count == 0 ? 1 : desc->endpoint_count;
    pool->endpoints[0].user = desc->user;
    for (i = 0; i < desc->endpoint_count; ++i) {
        rmi_endpoint *endpoint = &pool->endpoints[i];
        endpoint->user = desc->endpoints[i].user;
        if (desc->endpoints[i].guard != NULL) endpoint->guard = *desc->endpoints[i].guard;
        rmi_copy_string(endpoint->name, sizeof endpoint->name, desc->endpoints[i].name);
        if (endpoint->guard.admit_fn != NULL) pool->balanced = true;
    }
    if (desc->endpoint_count > 1) pool->balanced = true;
    if (desc->guard != NULL) pool->guard = *desc->guard;
}

static void rmi_pool_init(rm_pool *pool, const rm_pool_desc *desc, const rm_env *env,
                          uint64_t sizes) {
    const double shares = 4294967296.0; /* 2^32 */
    pool->desc = *desc;
    pool->env = *env;
    pool->capacity = desc->capacity;
    pool->sizes = sizes;
    rmi_pool_init_endpoints(pool);
    rmi_copy_string(pool->name, sizeof pool->name, desc->name);
    pool->desc.name = pool->name;
    pool->desc.env = &pool->env;
    pool->desc.guard = desc->guard == NULL ? NULL : &pool->guard;
    pool->desc.endpoints = NULL; /* they and the memory were the caller's */
    pool->desc.endpoint_count = 0;
    pool->desc.memory = NULL;
    pool->desc.memory_size = 0;
    pool->direct = desc->guard == NULL && !pool->balanced;
    pool->plain = pool->direct && desc->reset_fn == NULL && desc->event_fn == NULL &&
                  !desc->validate_on_release && !desc->time_uses;
    pool->fresh_ns = desc->validate_after_ns;
    if (desc->validate_fn == NULL || pool->fresh_ns == RM_NONE) pool->fresh_ns = INT64_MAX;
    if (pool->fresh_ns == RM_STRICT) pool->fresh_ns = 0;
    pool->number = RMI_ADD32(&rmi_pool_numbers, 1u, RELAXED) + 1u;
    pool->helper.clock = pool->env.clock;
    pool->helper.every_ns = desc->maintain_every_ns;
    pool->helper.run_fn = rmi_pool_help;
    pool->helper.user = pool;
    if (desc->max_lifetime_ns != 0)
        pool->phase = (double)rm_random_below(env->random, UINT64_C(1) << 32) / shares;
}

RM_API rm_status rm_abi1_define_RM_POOL_IMPLEMENTATION_in_one_c_file(const rm_pool_desc *desc,
                                                                     rm_pool **out,
                                                                     rm_error *error) {
    rm_pool_desc checked;
    rm_pool *pool;
    rm_status status;
    rm_env env;
    char *memory;
    size_t size, slots, endpoints;
    uint64_t sizes = 0;
    if (desc == NULL || out == NULL)
        return rm_error_set(error, RM_E_INVALID, 0, "rm_pool_desc", "desc or out is NULL");
    checked = *desc;
    rmi_pool_defaults(&checked);
    status = rm_env_resolve(desc->env, &env, error);
    if (status == RM_OK) status = rmi_pool_check_desc(&checked, &env, error);
    if (status == RM_OK) status = rmi_pool_check_sizes(&checked, &sizes, error);
    if (status != RM_OK) return status;
    size = rmi_pool_layout(&checked, &slots, &endpoints) + RMI_POOL_LINE;
    if (checked.memory != NULL && checked.memory_size < size)
        return rm_error_set(error, RM_E_TOO_LARGE, 0, "memory_size",
                            "must be at least %llu (rm_pool_footprint)", (unsigned long long)size);
    memory = (char *)(checked.memory != NULL ? checked.memory : rm_alloc(env.allocator, size));
    if (memory == NULL)
        return rm_error_set(error, RM_E_NOMEM, 0, checked.name, "no memory for %u slots",
                            (unsigned)checked.capacity);
    memset(memory, 0, size);
    pool = (rm_pool *)(void *)(memory + (RMI_POOL_LINE - (uintptr_t)memory % RMI_POOL_LINE));
    pool->slots = (rmi_slot *)(void *)((char *)pool + slots);
    pool->endpoints = (rmi_endpoint *)(void *)((char *)pool + endpoints);
    pool->memory = checked.memory != NULL ? NULL : memory;
    pool->size = size;
    rmi_pool_init(pool, &checked, &env, sizes);
    status = rmi_pool_begin(pool);
    if (status != RM_OK) {
        rm_free(env.allocator, pool->memory, size);
        return rm_error_set(error, status, 0, checked.name,
                            "the platform has no mutex or thread to give");
    }
    *out = pool;
    return RM_OK;
}

RM_API rm_status rm_pool_after_fork_child(rm_pool *pool) {
    uint32_t i;
    if (pool == NULL) return RM_E_INVALID;
    for (i = 0; i < pool->capacity; ++i) {
        rmi_slot *slot = &pool->slots[i];
        if (slot->resource != 0 && pool->desc.discard_fn != NULL)
            pool->desc.discard_fn(rmi_pool_resource_of(slot), rmi_pool_user(pool, slot));
        slot->word = rmi_slot_word((slot->word >> RMI_SLOT_BITS) + 1u, RMI_SLOT_EMPTY);
        slot->resource = 0;
        RMI_STORE64(&slot->data, 0u, RELAXED);
    }
    pool->leases_before = rmi_pool_counted(pool).leases;
    for (i = 0; i < pool->endpoint_count; ++i) {
        pool->endpoints[i].failures = 0;
        pool->endpoints[i].shut_ns = 0;
        pool->endpoints[i].retry_ns = 0; /* a probe was the parent's */
    }
    ++pool->life;
    pool->epoch &= ~RMI_EPOCH_STOPPED;
    pool->population = 0;
    pool->maintaining = pool->trims = pool->requests = pool->wanting = pool->away = 0;
    pool->helper.helping = pool->helper.number = 0;
    pool->failing = false;
    pool->check_status = RM_OK;
    pool->created = pool->create_failures = pool->rejected = pool->failed_fast = 0;
    pool->detached = pool->reclaimed = pool->leaks = 0;
    memset(pool->ended, 0, sizeof pool->ended);
    return rmi_pool_begin(pool);
}

/* Is a thread still waiting in a queue, or on its way out of it? */
static bool rmi_pool_waits(rm_waitq *q) {
    bool inside;
    rm_waitq_lock(q);
    inside = q->inside != 0;
    rm_waitq_unlock(q);
    return inside;
}

RM_API rm_status rm_pool_destroy(rm_pool *pool) {
    rm_env env;
    rm_status status;
    if (pool == NULL) return RM_OK;
    status = rm_pool_close(pool, RM_NOWAIT, NULL);
    if (RMI_IS_INSIDE(rmi_pool_hooks, pool) || rmi_helper_is_this(&pool->helper)) return RM_E_BUSY;
    rmi_helper_stop(&pool->helper); /* it may be inside a hook, and the pool busy only for that */
    if (status != RM_OK) status = rm_pool_close(pool, RM_NOWAIT, NULL);
    if (status != RM_OK) return RM_E_BUSY;
    if (rmi_pool_waits(&pool->queue) || rmi_pool_waits(&pool->drain) ||
        RMI_LOAD32(&pool->requests, SEQ_CST) != 0)
        return RM_E_BUSY; /* before either is gone: the caller may try again */
    rmi_pool_end_queues(pool);
    env = pool->env;
    rm_free(env.allocator, pool->memory, pool->size);
    return RM_OK;
}

/* >>pools
   One rm_registry from keys to pools; a lease holds its entry. The common bound is a count that
   rmi_pool_claim_empty takes from and rmi_pool_vacate gives back to. Whoever waits says so
   (`wanting`) and ends what is idle elsewhere. From then on, whoever leaves something idle or takes
   the last place looks whether somebody is left who waits for a place alone, and ends what is idle
   under a key that nobody waits for. seq_cst on both sides: either the one that wants sees what is
   idle, or the other one sees `wanting`.

   The pools in which somebody waits stand in a list, those that had a place last at its end. A free
   place is offered to the one with the fewest resources, of equals the first (rmi_pools_next); what
   is released ends if such a pool shall have its place (rmi_pools_yields). `leaving` counts places
   that are being given up, so that no more are than those who wait need. */

struct rm_pools {
    rm_registry *registry;
    rmi_budget budget;
    rm_pools_desc desc;
    rm_env env;
    uint32_t closed, number; /* another number in the child of a fork */
    uint32_t cursor;         /* keys that the last upkeep came to: the next goes on after them */
    rm_guard guard;          /* of each pool; and its name, if it is not the key's */
    char name[48], pool_name[48];
    rmi_helper helper;
};

/* Is it of the parent of a fork? */
static bool rmi_pool_forgotten(const rm_pool *pool) {
    return pool->pools != NULL && pool->family != pool->pools->number;
}

/* Its pool's entry in the registry. */
static rm_registry_ref rmi_pools_ref(rm_pool *pool) {
    const uint64_t key = RMI_LOAD64(&pool->key, RELAXED);
    rm_registry_ref ref;
    ref.value = pool;
    ref.slot = (uint32_t)(key >> 32);
    ref.generation = (uint32_t)key;
    return ref;
}

/* How many places could those use who wait in this pool? By its slots: the population counts for a
   moment those, too, that will find the common bound reached. One that may not make anything for a
   time has to be told when that is over (rmi_pool_looks). */
static uint32_t rmi_pools_need(rm_pool *pool) {
    const uint64_t sizes = RMI_LOAD64(&pool->sizes, SEQ_CST);
    const uint64_t population = RMI_LOAD64(&pool->population, SEQ_CST);
    const uint32_t most = rmi_pool_size(sizes, 0) + rmi_pool_size(sizes, 1);
    const uint32_t taken = pool->capacity - rmi_pool_in_state(pool, RMI_SLOT_EMPTY);
    const uint32_t creating = rmi_pool_in_state(pool, RMI_SLOT_CREATING);
    const rmi_pool_wish never = rmi_pool_wish_of(INT64_MAX);
    uint32_t need = RMI_LOAD32(&pool->wanting, SEQ_CST);
    uint64_t grant;
    if (taken >= most || creating >= pool->desc.max_creating || rmi_pool_is_stopped(pool)) return 0;
    if (need > most - taken) need = most - taken;
    if (need > pool->desc.max_creating - creating) need = pool->desc.max_creating - creating;
    if ((pool->grows || rmi_pool_grow_at(pool, &never, population) != INT64_MAX) &&
        !rmi_pool_blocked(pool, &never, &grant))
        return need;
    pool->held = true;
    return 0;
}

/* ... of them those that are there to take it: a hook may hold up who makes room. */
static uint32_t rmi_pools_ready(rm_pool *pool) {
    const uint32_t need = rmi_pools_need(pool);
    const uint32_t away = RMI_LOAD32(&pool->away, SEQ_CST);
    const uint32_t wanting = RMI_LOAD32(&pool->wanting, SEQ_CST);
    const uint32_t there = wanting > away ? wanting - away : 0;
    return need < there ? need : there;
}

/* Takes a pool out of the list of the hungry. */
static void rmi_budget_unlink(rmi_budget *budget, rm_pool *pool) {
    *(pool->hungrier != NULL ? &pool->hungrier->fuller : &budget->hungry) = pool->fuller;
    *(pool->fuller != NULL ? &pool->fuller->hungrier : &budget->fullest) = pool->hungrier;
}

/* Puts a pool at the end of the list. */
static void rmi_budget_append(rmi_budget *budget, rm_pool *pool) {
    pool->fuller = NULL;
    pool->hungrier = budget->fullest;
    *(budget->fullest != NULL ? &budget->fullest->fuller : &budget->hungry) = pool;
    budget->fullest = pool;
}

/* It has had its turn. */
static void rmi_budget_turn(rmi_budget *budget, rm_pool *pool) {
    if (RMI_LOAD32(&pool->wanting, SEQ_CST) == 0) return;
    rmi_budget_unlink(budget, pool);
    rmi_budget_append(budget, pool);
}

/* Counts an acquire that is about to wait; out again when it is served, or ends without. */
static void rmi_pools_count_in(rm_pool *pool, rmi_pool_wish *wish) {
    rmi_budget *budget = pool->budget;
    rm_mutex_lock(&budget->mutex);
    if (RMI_ADD32(&pool->wanting, 1u, SEQ_CST) == 0) rmi_budget_append(budget, pool);
    (void)RMI_ADD32(&budget->wanting, 1u, SEQ_CST);
    wish->counted = true;
    rm_mutex_unlock(&budget->mutex);
}

static void rmi_budget_count_out(rmi_budget *budget, rm_pool *pool, rmi_pool_wish *wish) {
    if (RMI_ADD32(&pool->wanting, 0u - 1u, SEQ_CST) == 1) {
        rmi_budget_unlink(budget, pool);
        pool->held = false;
    }
    pool->grows = false; /* it spoke for itself; the next is asked at once */
    (void)RMI_ADD32(&budget->wanting, 0u - 1u, SEQ_CST);
    wish->counted = false;
}

static void rmi_pools_count_out(rm_pool *pool, rmi_pool_wish *wish) {
    if (!wish->counted) return;
    rm_mutex_lock(&pool->budget->mutex);
    rmi_budget_count_out(pool->budget, pool, wish);
    rm_mutex_unlock(&pool->budget->mutex);
}

/* The time of those that wait here has come: they count from now on. Were they passed over? */
static bool rmi_pools_unhold(rm_pool *pool) {
    bool held;
    rm_mutex_lock(&pool->budget->mutex);
    held = pool->held;
    pool->held = false;
    pool->grows = true;
    rm_mutex_unlock(&pool->budget->mutex);
    return held;
}

/* Takes a place, for an acquire that wants none any more then, or for upkeep. */
static bool rmi_budget_take(rmi_budget *budget, rm_pool *pool, rmi_pool_wish *wish) {
    bool got;
    rm_mutex_lock(&budget->mutex);
    got = !rmi_budget_spent(budget);
    if (got) {
        (void)RMI_ADD32(&budget->used, 1u, SEQ_CST);
        rmi_budget_turn(budget, pool);
        if (wish->counted) rmi_budget_count_out(budget, pool, wish);
    }
    rm_mutex_unlock(&budget->mutex);
    return got;
}

/* Gives a place back, which `left` says was counted as about to be free. */
static void rmi_budget_put(rmi_budget *budget, uint32_t left) {
    rm_mutex_lock(&budget->mutex);
    (void)RMI_ADD32(&budget->used, 0u - 1u, SEQ_CST);
    budget->leaving -= left;
    rm_mutex_unlock(&budget->mutex);
}

/* Are the places that are or will be free all others'? Of those that wait for one and have fewer,
   or as few and have gone without for longer; of any that waits when nobody does here. Whoever
   changes any of that calls rmi_pools_wake. */
static bool rmi_pools_waits(rm_pool *pool) {
    rmi_budget *budget = pool->budget;
    const bool waits = RMI_LOAD32(&pool->wanting, SEQ_CST) != 0;
    uint32_t most = waits ? rmi_pool_kept(pool) + 1 : UINT32_MAX; /* another has fewer */
    uint32_t left, needed = 0;
    rm_pool *other;
    if (RMI_LOAD32(&budget->wanting, SEQ_CST) == 0) return false;
    rm_mutex_lock(&budget->mutex);
    left = budget->max - RMI_LOAD32(&budget->used, SEQ_CST) + budget->leaving;
    for (other = budget->hungry; other != NULL && needed < left; other = other->fuller) {
        if (other == pool)
            --most; /* those behind it had a place after it */
        else if (rmi_pool_kept(other) < most)
            needed += rmi_pools_ready(other);
    }
    rm_mutex_unlock(&budget->mutex);
    return needed >= left;
}

/* Does one in which somebody waits, and has so many, give way to another? To none or two fewer. */
static bool rmi_pool_gives_way(uint32_t kept, rm_pool *other) {
    const uint32_t its = rmi_pool_kept(other);
    return its == 0 || its + 1 < kept;
}

/* Shall a place of this pool, or (NULL) of one in which nobody waits, go to another? To one that
   waits with none or with two fewer, so that all that wait get the same share; where there are more
   of them than places, in turn. Then it is counted as about to be free. */
static bool rmi_budget_claims(rmi_budget *budget, rm_pool *pool, uint32_t *looked) {
    const uint32_t kept = pool != NULL ? rmi_pool_kept(pool) : 0;
    uint32_t needed = 0;
    rm_pool *other;
    bool waits, more;
    rm_mutex_lock(&budget->mutex);
    waits = pool != NULL && RMI_LOAD32(&pool->wanting, SEQ_CST) != 0;
    other = rmi_budget_spent(budget) ? budget->hungry : NULL;
    for (; other != NULL && needed <= budget->leaving; other = other->fuller) {
        if (other == pool && kept < 2) {
            rmi_budget_turn(budget, pool); /* it is its own turn */
            break;
        }
        if (other != pool && (!waits || rmi_pool_gives_way(kept, other)))
            needed += rmi_pools_need(other);
    }
    more = needed > budget->leaving;
    if (more)
        ++budget->leaving;
    else
        ++budget->looked;
    *looked = budget->looked;
    rm_mutex_unlock(&budget->mutex);
    return more;
}

static bool rmi_pools_yields(rm_pool *pool) {
    uint32_t looked;
    return RMI_LOAD32(&pool->budget->wanting, SEQ_CST) != 0 &&
           rmi_budget_claims(pool->budget, pool, &looked);
}

/* Whose turn is it, of those that had none in this round? The one with the fewest, of equals the
   one that has gone without for the longest; held, so that it stays. */
static rm_pool *rmi_pools_next(rmi_budget *budget, uint64_t round, uint32_t *need,
                               rm_registry_ref *held) {
    rm_pool *pool, *best = NULL;
    rm_mutex_lock(&budget->mutex);
    for (pool = budget->hungry; pool != NULL; pool = pool->fuller) {
        if (pool->round < round && rmi_pools_need(pool) != 0 &&
            (best == NULL || rmi_pool_kept(pool) < rmi_pool_kept(best)))
            best = pool;
    }
    if (best != NULL) {
        best->round = round;
        *need = rmi_pools_need(best);
        (void)rmi_pools_hold(best, held); /* as do those that wait in it */
    }
    rm_mutex_unlock(&budget->mutex);
    return best;
}

static uint32_t rmi_pool_waiting(rm_pool *pool) {
    uint32_t waiting;
    rm_waitq_lock(&pool->queue);
    waiting = pool->queue.stats.waiting;
    rm_waitq_unlock(&pool->queue);
    return waiting;
}

/* Offers the places that are free to those that wait for one. */
static void rmi_pools_wake(rmi_budget *budget) {
    rm_registry_ref held;
    rm_pool *pool;
    uint64_t round;
    uint32_t told = 0; /* as many as are free: who comes to nothing wakes the next */
    uint32_t left, need = 0;
    if (RMI_LOAD32(&budget->wanting, SEQ_CST) == 0) return;
    round = RMI_ADD64(&budget->rounds, 1u, RELAXED) + 1u;
    left = budget->max - RMI_LOAD32(&budget->used, SEQ_CST);
    while (told < left && !rmi_budget_spent(budget) &&
           (pool = rmi_pools_next(budget, round, &need, &held)) != NULL) {
        const uint32_t waiting = rmi_pool_waiting(pool); /* others are on their way to the queue */
        told += need < waiting ? need : waiting;
        rm_waitq_notify(&pool->queue);
        (void)rm_registry_put(budget->pools->registry, &held);
    }
}

/* Would a pool in which somebody waits give way to one that waits for a place? */
static bool rmi_budget_prefers(rmi_budget *budget, rm_pool *pool) {
    const uint32_t kept = rmi_pool_kept(pool);
    bool prefers = false;
    rm_pool *other;
    rm_mutex_lock(&budget->mutex);
    for (other = budget->hungry; other != NULL && !prefers; other = other->fuller)
        prefers = other != pool && rmi_pool_gives_way(kept, other) && rmi_pools_need(other) != 0;
    rm_mutex_unlock(&budget->mutex);
    return prefers;
}

/* A walk that ends something idle. */
typedef struct rmi_pools_drop {
    bool last_resort; /* also what those who wait under its key cannot have now */
    bool ended;
} rmi_pools_drop;

/* What is idle where nobody waits, or may be served; as a last resort also where those who wait are
   held up by a hook on their way to the queue, or by the guard of its endpoint. */
static bool rmi_pools_drop_one(const void *key, size_t size, void *value, void *user) {
    rmi_pools_drop *drop = (rmi_pools_drop *)user;
    rm_pool *pool = (rm_pool *)value;
    const bool wanted = RMI_LOAD32(&pool->wanting, SEQ_CST) != 0 && !rmi_pool_is_stopped(pool);
    (void)key, (void)size;
    if (wanted && (!drop->last_resort || rmi_pool_in_state(pool, RMI_SLOT_IDLE) == 0 ||
                   !rmi_budget_prefers(pool->budget, pool)))
        return true;
    drop->ended = rmi_pool_drop_idle(pool, wanted && rmi_pool_waiting(pool) != 0);
    return !drop->ended;
}

/* There was nothing to end for it. Has anybody been told otherwise meanwhile? */
static bool rmi_budget_failed(rmi_budget *budget, uint32_t looked) {
    bool again;
    rm_mutex_lock(&budget->mutex);
    --budget->leaving;
    again = budget->looked != looked;
    rm_mutex_unlock(&budget->mutex);
    return again;
}

/* Ends something idle where nobody waits, if somebody waits elsewhere for nothing but a place. */
static void rmi_pools_relieve(rmi_budget *budget) {
    rmi_pools_drop drop = {false, false}, last = {true, false};
    uint32_t looked;
    if (RMI_LOAD32(&budget->wanting, SEQ_CST) == 0) return;
    if (!rmi_budget_spent(budget)) rmi_pools_wake(budget);
    while (rmi_budget_claims(budget, NULL, &looked)) {
        rm_registry_each(budget->pools->registry, rmi_pools_drop_one, &drop);
        if (!drop.ended) rm_registry_each(budget->pools->registry, rmi_pools_drop_one, &last);
        if (drop.ended || last.ended || !rmi_budget_failed(budget, looked)) return;
    }
}

/* Keeps the pool of a key under a common bound; false for another. */
static bool rmi_pools_hold(rm_pool *pool, rm_registry_ref *held) {
    rm_registry_ref ref;
    if (pool->budget == NULL) return false;
    ref = rmi_pools_ref(pool);
    return rm_registry_hold(pool->pools->registry, &ref, held) == RM_OK;
}

static void rmi_pools_put(rm_pool *pool, rm_registry_ref *held) {
    (void)rm_registry_put(pool->pools->registry, held);
}

/* A lease has ended: its key is in use once less. */
static void rmi_pools_left(rm_pool *pool) {
    rm_registry_ref ref = rmi_pools_ref(pool);
    (void)rm_registry_put(pool->pools->registry, &ref);
}

/* A key as a name, if it is text. */
static void rmi_pools_name(const void *key, size_t size, char name[48]) {
    const unsigned char *bytes = (const unsigned char *)key;
    size_t i;
    name[0] = '\0';
    if (size == 0 || size > 47) return;
    for (i = 0; i < size; ++i) {
        if (bytes[i] < 0x20 || bytes[i] > 0x7E) return;
    }
    memcpy(name, bytes, size);
    name[size] = '\0';
}

static rm_status rmi_pools_open_inside(rm_pools *pools, const void *key, size_t size, void **value,
                                       rm_error *error) {
    rm_pool_desc desc = pools->desc.pool;
    rm_pool *pool = NULL;
    rm_status status;
    char name[48];
    rmi_pools_name(key, size, name);
    if ((desc.name == NULL || strcmp(desc.name, "pool") == 0) && name[0] != '\0') desc.name = name;
    if (pools->desc.open_fn != NULL) {
        status = pools->desc.open_fn(key, size, &desc, error, pools->desc.user);
        if (status != RM_OK) return status;
    }
    desc.env = &pools->env;
    desc.maintain_every_ns = 0; /* one thread sees to all */
    status = rm_pool_create(&desc, &pool, error);
    if (status == RM_OK) {
        if (pools->desc.max_total != 0) pool->budget = &pools->budget;
        pool->pools = pools;
        pool->family = pools->number;
        pool->plain = false;
    }
    if (status != RM_OK && pools->desc.shut_fn != NULL)
        pools->desc.shut_fn(desc.user, pools->desc.user);
    *value = pool;
    return status;
}

static rm_status rmi_pools_open(const void *key, size_t size, void **value, rm_error *error,
                                void *user) {
    rm_pools *pools = (rm_pools *)user;
    rmi_inside here;
    rm_status status;
    if (RMI_LOAD32(&pools->closed, SEQ_CST) != 0)
        return rm_error_set(error, RM_E_CLOSED, 0, pools->name, "the pools are closed");
    RMI_ENTER(rmi_pool_hooks, here, pools);
    status = rmi_pools_open_inside(pools, key, size, value, error);
    RMI_LEAVE(rmi_pool_hooks, here);
    return status;
}

static void rmi_pools_shut(void *value, void *user) {
    rm_pools *pools = (rm_pools *)user;
    rm_pool *pool = (rm_pool *)value;
    void *pool_user = pool->desc.user;
    rmi_inside here;
    RMI_ENTER(rmi_pool_hooks, here, pools);
    (void)rm_pool_destroy(pool); /* nobody has it: nothing is out */
    if (pools->desc.shut_fn != NULL) pools->desc.shut_fn(pool_user, pools->desc.user);
    RMI_LEAVE(rmi_pool_hooks, here);
}

static bool rmi_pools_held(const void *key, size_t size, void *value, void *user) {
    bool *held = (bool *)user;
    (void)key, (void)size;
    *held = rmi_pool_holds((rm_pool *)value);
    return !*held;
}

/* Does this thread hold a lease that one who waits here may wait for? */
static bool rmi_pools_hold_any(rm_pool *pool) {
    bool held = rmi_pool_holds(pool);
    if (!held && pool->budget != NULL && rmi_budget_spent(pool->budget))
        rm_registry_each(pool->pools->registry, rmi_pools_held, &held);
    return held;
}

static bool rmi_pools_evictable(void *value, void *user) {
    (void)value, (void)user;
    return true; /* it is not borrowed: nothing is lent, nobody waits */
}

static void rmi_pools_help(void *user) {
    const rm_deadline none = {0};
    (void)rm_pools_maintain((rm_pools *)user, 0, none, NULL);
}

/* What the platform may refuse, last. */
static rm_status rmi_pools_begin(rm_pools *pools, int64_t maintain_every_ns, rm_error *error) {
    rm_status status = rm_mutex_init(&pools->budget.mutex);
    pools->helper.clock = pools->env.clock;
    pools->helper.every_ns = maintain_every_ns;
    pools->helper.run_fn = rmi_pools_help;
    pools->helper.user = pools;
    if (status == RM_OK) {
        status = rmi_helper_start(&pools->helper);
        if (status != RM_OK) rm_mutex_destroy(&pools->budget.mutex);
    }
    if (status == RM_OK) return RM_OK;
    (void)rm_registry_destroy(pools->registry);
    return rm_error_set(error, status, 0, pools->name,
                        "the platform has no mutex or thread to give");
}

/* Refuses what makes no sense; *checked is the desc of each pool, with its defaults. */
static rm_status rmi_pools_check_desc(const rm_pools_desc *desc, rm_pool_desc *checked, rm_env *env,
                                      rm_error *error) {
    rm_status status;
    uint64_t sizes;
    *checked = desc->pool;
    rmi_pool_defaults(checked);
    status = rm_env_resolve(checked->env, env, error);
    if (status == RM_OK) status = rmi_pool_check_desc(checked, env, error);
    if (status == RM_OK) status = rmi_pool_check_sizes(checked, &sizes, error);
    if (status == RM_OK && checked->memory != NULL)
        status = rmi_bad(error, "memory", "0: each pool takes its own");
    if (status == RM_OK && desc->name != NULL) status = rmi_check_name(desc->name, error);
    if (status == RM_OK && desc->max_keys > 1u << 24)
        status = rmi_bad(error, "max_keys", "at most 2^24");
    return status;
}

RM_API rm_status rm_pools_create(const rm_pools_desc *desc, rm_pools **out, rm_error *error) {
    rm_registry_desc keys;
    rm_pool_desc checked;
    rm_pools *pools;
    rm_status status;
    rm_env env;
    if (desc == NULL || out == NULL)
        return rm_error_set(error, RM_E_INVALID, 0, "rm_pools_desc", "desc or out is NULL");
    status = rmi_pools_check_desc(desc, &checked, &env, error);
    if (status != RM_OK) return status;
    pools = (rm_pools *)rm_alloc(env.allocator, sizeof *pools);
    if (pools == NULL) return rm_error_set(error, RM_E_NOMEM, 0, "pools", "no memory");
    memset(pools, 0, sizeof *pools);
    pools->desc = *desc;
    if (desc->max_keys == 0) pools->desc.max_keys = 1024;
    pools->env = env;
    pools->number = RMI_ADD32(&rmi_pool_numbers, 1u, RELAXED) + 1u;
    pools->budget.max = desc->max_total;
    pools->budget.pools = pools;
    rmi_copy_string(pools->name, sizeof pools->name, desc->name == NULL ? "pools" : desc->name);
    if (desc->pool.guard != NULL) pools->guard = *desc->pool.guard;
    if (desc->pool.guard != NULL) pools->desc.pool.guard = &pools->guard;
    rmi_copy_string(pools->pool_name, sizeof pools->pool_name, checked.name);
    if (desc->pool.name != NULL) pools->desc.pool.name = pools->pool_name;
    memset(&keys, 0, sizeof keys);
    keys.env = &pools->env;
    keys.max_entries = pools->desc.max_keys;
    keys.create_fn = rmi_pools_open;
    keys.destroy_fn = rmi_pools_shut;
    keys.evictable_fn = rmi_pools_evictable;
    keys.user = pools;
    status = rm_registry_create(&keys, &pools->registry, error);
    if (status == RM_OK) status = rmi_pools_begin(pools, checked.maintain_every_ns, error);
    if (status != RM_OK) {
        rm_free(env.allocator, pools, sizeof *pools);
        return status;
    }
    *out = pools;
    return RM_OK;
}

RM_API rm_status rm_pools_destroy(rm_pools *pools) {
    rm_env env;
    if (pools == NULL) return RM_OK;
    (void)rm_pools_close(pools, RM_NOWAIT, NULL);
    if (RMI_IS_INSIDE(rmi_pool_hooks, pools) || rmi_helper_is_this(&pools->helper))
        return RM_E_BUSY;
    rmi_helper_stop(&pools->helper);
    if (rm_registry_destroy(pools->registry) != RM_OK) return RM_E_BUSY;
    rm_mutex_destroy(&pools->budget.mutex);
    env = pools->env;
    rm_free(env.allocator, pools, sizeof *pools);
    return RM_OK;
}

/* The pool of a key; its entry is held. */
static rm_status rmi_pools_get(rm_pools *pools, const void *key, size_t size, rm_registry_ref *ref,
                               rm_error *error) {
    const rm_status status = rm_registry_get(pools->registry, key, size, ref, error);
    rm_pool *pool;
    if (status == RM_E_FULL)
        return rm_error_set(error, status, 0, pools->name,
                            "all %u keys are in use or being made; raise max_keys",
                            pools->desc.max_keys);
    if (status != RM_OK) return status;
    pool = (rm_pool *)ref->value;
    RMI_STORE64(&pool->key, (uint64_t)ref->slot << 32 | ref->generation, RELAXED);
    if (RMI_LOAD32(&pools->closed, SEQ_CST) == 0) return RM_OK;
    (void)rm_registry_put(pools->registry, ref); /* it may be newer than what rm_pools_close saw */
    return rm_error_set(error, RM_E_CLOSED, 0, pools->name, "the pools are closed");
}

RM_API rm_status rm_pools_acquire(rm_pools *pools, const void *key, size_t size,
                                  rm_deadline deadline, rm_cancel *cancel, rm_pools_lease *out,
                                  rm_error *error) {
    rm_pools_lease lease;
    rm_status status;
    if (pools == NULL || out == NULL)
        return rm_error_set(error, RM_E_INVALID, 0, "pools", "pools or out is NULL");
    status = rmi_pools_get(pools, key, size, &lease.ref, error);
    if (status != RM_OK) return status;
    lease.pool = (rm_pool *)lease.ref.value;
    status = rmi_pool_acquire_until(lease.pool, deadline, cancel, &lease.lease, error);
    if (status != RM_OK) {
        (void)rm_registry_put(pools->registry, &lease.ref);
        return status;
    }
    lease.pools = pools->number;
    *out = lease;
    return RM_OK;
}

static void rmi_pools_arrived(rm_status status, const rm_lease *got, const rm_error *error,
                              void *user) {
    rm_pools_request *request = (rm_pools_request *)user;
    const rm_pools_acquired_fn acquired_fn = request->acquired_fn;
    void *const acquired_user = request->user;
    rm_registry_ref ref = request->ref; /* whose own a cancel may be reading */
    rm_pools_lease lease;
    if (status != RM_OK) {
        (void)rm_registry_put(request->pools->registry, &ref);
    } else {
        lease.lease = *got;
        lease.pool = (rm_pool *)ref.value;
        lease.ref = ref;
        lease.pools = request->number;
    }
    acquired_fn(status, status == RM_OK ? &lease : NULL, error, acquired_user);
}

RM_API rm_status rm_pools_acquire_async(rm_pools *pools, rm_pools_request *request, const void *key,
                                        size_t size, rm_deadline deadline, rm_cancel *cancel,
                                        rm_pools_acquired_fn acquired_fn, rm_error *error,
                                        void *user) {
    rm_status status;
    if (pools == NULL || request == NULL || acquired_fn == NULL)
        return rm_error_set(error, RM_E_INVALID, 0, "pools",
                            "pools, request or acquired_fn is NULL");
    status = rmi_pools_get(pools, key, size, &request->ref, error);
    if (status != RM_OK) return status;
    request->pools = pools;
    request->number = pools->number;
    request->acquired_fn = acquired_fn;
    request->user = user;
    status = rmi_pool_acquire_async((rm_pool *)request->ref.value, &request->request, deadline,
                                    cancel, rmi_pools_arrived, error, request);
    if (status != RM_OK) (void)rm_registry_put(pools->registry, &request->ref);
    return status;
}

RM_API rm_status rm_pools_request_cancel(rm_pools_request *request) {
    rm_registry_ref held;
    rm_registry *registry; /* request may be gone after its callback */
    rm_status status;
    if (request == NULL || request->pools == NULL) return RM_E_INVALID;
    registry = request->pools->registry;
    if (request->number != request->pools->number) return RM_E_STALE;
    status = rm_registry_hold(registry, &request->ref, &held);
    if (status != RM_OK) return status;
    status = rm_pool_request_cancel(&request->request);
    (void)rm_registry_put(registry, &held);
    return status;
}

/* Holds the pool of a lease, which may be gone. */
static rm_status rmi_pools_hold_lease(rm_pools *pools, const rm_pools_lease *lease,
                                      rm_registry_ref *held) {
    if (pools == NULL || lease == NULL) return RM_E_INVALID;
    if (lease->pool == NULL) return RM_E_STALE;
    if (lease->pools != pools->number) return RM_E_FOREIGN;
    return rm_registry_hold(pools->registry, &lease->ref, held);
}

RM_API rm_status rm_pools_release(rm_pools *pools, rm_pools_lease *lease, rm_release how) {
    rm_registry_ref held;
    rm_status status = rmi_pools_hold_lease(pools, lease, &held);
    if (status != RM_OK) return status;
    status = rm_pool_release(lease->pool, &lease->lease, how);
    (void)rm_registry_put(pools->registry, &held);
    if (status == RM_OK) memset(lease, 0, sizeof *lease);
    return status;
}

RM_API rm_status rm_pools_release_result(rm_pools *pools, rm_pools_lease *lease,
                                         const rm_error *result) {
    rm_registry_ref held;
    rm_status status = rmi_pools_hold_lease(pools, lease, &held);
    if (status != RM_OK) return status;
    status = rm_pool_release_result(lease->pool, &lease->lease, result);
    (void)rm_registry_put(pools->registry, &held);
    if (status == RM_OK) memset(lease, 0, sizeof *lease);
    return status;
}

/* What rm_pools_close and rm_pools_maintain do to each pool. */
typedef struct rmi_pools_visit {
    rm_pools *pools;
    rm_deadline deadline;
    uint32_t budget;
    uint32_t from, to, seen; /* of the keys, by their order: the part that is looked at */
    rm_status status;
    rm_error error;
    rm_health health;
    bool (*fn)(const void *key, size_t size, rm_pool *pool, void *user);
    void *user;
} rmi_pools_visit;

static void rmi_pools_note(rmi_pools_visit *visit, rm_status status, const rm_error *error) {
    if (status == RM_OK || visit->status != RM_OK) return;
    visit->status = status;
    visit->error = *error;
}

static bool rmi_pools_close_now(const void *key, size_t size, void *value, void *user) {
    (void)key, (void)size, (void)user;
    (void)rm_pool_close((rm_pool *)value, RM_NOWAIT, NULL);
    return true;
}

static bool rmi_pools_close_one(const void *key, size_t size, void *value, void *user) {
    rmi_pools_visit *visit = (rmi_pools_visit *)user;
    rm_error error;
    (void)key, (void)size;
    rmi_pools_note(visit,
                   rm_pool_close((rm_pool *)value,
                                 rm_deadline_left(visit->pools->env.clock, visit->deadline),
                                 &error),
                   &error);
    return true;
}

RM_API rm_status rm_pools_close(rm_pools *pools, int64_t timeout_ns, rm_error *error) {
    rmi_pools_visit visit;
    if (pools == NULL) return rm_error_set(error, RM_E_INVALID, 0, "pools", "pools is NULL");
    if (!rm_timeout_valid(timeout_ns))
        return rm_error_set(error, RM_E_INVALID, 0, "timeout_ns",
                            "%lld is no timeout: a time, RM_NOWAIT or RM_FOREVER",
                            (long long)timeout_ns);
    memset(&visit, 0, sizeof visit);
    visit.pools = pools;
    visit.deadline = rm_deadline_after(pools->env.clock, timeout_ns == 0 ? RM_SEC(8) : timeout_ns);
    RMI_STORE32(&pools->closed, 1u, SEQ_CST);
    rm_registry_each(pools->registry, rmi_pools_close_now, NULL); /* nobody waits for the others */
    rm_registry_each(pools->registry, rmi_pools_close_one, &visit);
#ifndef RM_NO_THREADS /* else it is busy because it cannot wait */
    if (visit.status == RM_E_BUSY && timeout_ns != RM_NOWAIT) /* no time was left for it */
        visit.status = visit.error.status = RM_E_TIMEOUT;
#endif
    if (visit.status != RM_OK && error != NULL) *error = visit.error;
    return visit.status;
}

static bool rmi_pools_maintain_one(const void *key, size_t size, void *value, void *user) {
    rmi_pools_visit *visit = (rmi_pools_visit *)user;
    const uint32_t at = visit->seen++;
    rm_error error;
    (void)key, (void)size;
    if (at < visit->from) return true;
    if (at >= visit->to) return false;
    rmi_pools_note(
        visit, rmi_pool_maintain((rm_pool *)value, visit->budget, visit->deadline, &error), &error);
    RMI_STORE32(&visit->pools->cursor, at + 1, RELAXED);
    return !rm_deadline_passed(visit->pools->env.clock, visit->deadline);
}

RM_API rm_status rm_pools_maintain(rm_pools *pools, uint32_t budget, rm_deadline deadline,
                                   rm_error *error) {
    rmi_pools_visit visit;
    if (pools == NULL) return rm_error_set(error, RM_E_INVALID, 0, "pools", "pools is NULL");
    memset(&visit, 0, sizeof visit);
    visit.pools = pools;
    visit.budget = budget;
    visit.deadline = deadline;
    visit.from = RMI_LOAD32(&pools->cursor, RELAXED);
    visit.to = UINT32_MAX;
    rm_registry_each(pools->registry, rmi_pools_maintain_one, &visit);
    visit.to = visit.from;
    visit.from = visit.seen = 0;
    if (!rm_deadline_passed(pools->env.clock, deadline))
        rm_registry_each(pools->registry, rmi_pools_maintain_one, &visit);
    if (pools->budget.max != 0) rmi_pools_relieve(&pools->budget); /* a backoff may be over */
    if (visit.status != RM_OK && error != NULL) *error = visit.error;
    return visit.status;
}

static bool rmi_pools_visit_one(const void *key, size_t size, void *value, void *user) {
    rmi_pools_visit *visit = (rmi_pools_visit *)user;
    return visit->fn(key, size, (rm_pool *)value, visit->user);
}

RM_API void rm_pools_each(rm_pools *pools,
                          bool (*fn)(const void *key, size_t size, rm_pool *pool, void *user),
                          void *user) {
    rmi_pools_visit visit;
    if (pools == NULL || fn == NULL) return;
    memset(&visit, 0, sizeof visit);
    visit.fn = fn;
    visit.user = user;
    rm_registry_each(pools->registry, rmi_pools_visit_one, &visit);
}

RM_API rm_status rm_pools_after_fork_child(rm_pools *pools) {
    rm_status status;
    if (pools == NULL) return RM_E_INVALID;
    pools->closed = pools->budget.used = pools->budget.wanting = pools->budget.leaving = 0;
    pools->budget.hungry = pools->budget.fullest = NULL;
    pools->helper.helping = pools->helper.number = 0;
    pools->number = RMI_ADD32(&rmi_pool_numbers, 1u, RELAXED) + 1u;
    if (rm_mutex_init(&pools->budget.mutex) != RM_OK) return RM_E_SYSTEM;
    status = rm_registry_after_fork_child(pools->registry);
    return status == RM_OK ? rmi_helper_start(&pools->helper) : status;
}

static bool rmi_pools_start_one(const void *key, size_t size, void *value, void *user) {
    rmi_pools_visit *visit = (rmi_pools_visit *)user;
    rm_error error;
    (void)key, (void)size;
    rmi_pools_note(visit, rmi_pool_start(value, visit->deadline, &error), &error);
    return true;
}

/* What was stopped opens again. */
static rm_status rmi_pools_start(void *user, rm_deadline deadline, rm_error *error) {
    rm_pools *pools = (rm_pools *)user;
    rmi_pools_visit visit;
    if (rmi_helper_start(&pools->helper) != RM_OK) /* a destroy that was refused has ended it */
        return rm_error_set(error, RM_E_SYSTEM, 0, pools->name,
                            "the platform has no thread to give");
    memset(&visit, 0, sizeof visit);
    visit.deadline = deadline;
    RMI_STORE32(&pools->closed, 0u, SEQ_CST);
    rm_registry_each(pools->registry, rmi_pools_start_one, &visit);
    if (visit.status != RM_OK && error != NULL) *error = visit.error;
    return visit.status;
}

static rm_status rmi_pools_stop(void *user, rm_deadline deadline, rm_error *error) {
    rm_pools *pools = (rm_pools *)user;
    return rm_pools_close(pools, rm_deadline_left(pools->env.clock, deadline), error);
}

static bool rmi_pools_health_one(const void *key, size_t size, void *value, void *user) {
    rmi_pools_visit *visit = (rmi_pools_visit *)user;
    rm_error reason;
    const rm_health health = rmi_pool_health(value, &reason);
    (void)key, (void)size;
    if (health <= visit->health) return true;
    visit->health = health;
    visit->error = reason;
    return true;
}

static rm_health rmi_pools_health(void *user, rm_error *reason) {
    rm_pools *pools = (rm_pools *)user;
    rmi_pools_visit visit;
    memset(&visit, 0, sizeof visit);
    if (RMI_LOAD32(&pools->closed, SEQ_CST) != 0) {
        (void)rm_error_set(reason, RM_E_CLOSED, 0, pools->name, "the pools are closed");
        return RM_HEALTH_UNHEALTHY;
    }
    visit.health = RM_HEALTH_HEALTHY;
    rm_registry_each(pools->registry, rmi_pools_health_one, &visit);
    if (visit.health != RM_HEALTH_HEALTHY && reason != NULL) *reason = visit.error;
    return visit.health;
}

typedef struct rmi_pools_sum {
    uint64_t resources, waiting;
} rmi_pools_sum;

static bool rmi_pools_sum_one(const void *key, size_t size, void *value, void *user) {
    rm_pool *pool = (rm_pool *)value;
    rmi_pools_sum *sum = (rmi_pools_sum *)user;
    (void)key, (void)size;
    sum->resources += RMI_POP_FIELD(RMI_LOAD64(&pool->population, SEQ_CST), RMI_POP_TOTAL);
    sum->waiting += rmi_pool_waiting(pool);
    return true;
}

static void rmi_pools_stats_visit(void *user, rm_stat_fn visit, void *to) {
    rm_pools *pools = (rm_pools *)user;
    rmi_pools_sum sum = {0, 0};
    rmi_inside here;
    if (visit == NULL) return;
    rm_registry_each(pools->registry, rmi_pools_sum_one, &sum);
    RMI_ENTER(rmi_pool_hooks, here, pools);
    rmi_show(visit, to, RM_STAT_GAUGE, "rm_pools_keys", "Keys that have a pool.", NULL, NULL,
             rm_registry_count(pools->registry));
    rmi_show(visit, to, RM_STAT_GAUGE, "rm_pools_resources", "Resources of all keys.", NULL, NULL,
             sum.resources);
    rmi_show(visit, to, RM_STAT_GAUGE, "rm_pools_waiting", "Acquires in the queues of all keys.",
             NULL, NULL, sum.waiting);
    RMI_LEAVE(rmi_pool_hooks, here);
}

RM_API rm_resource rm_pools_resource(rm_pools *pools) {
    rm_resource resource = rm_resource_make(pools == NULL ? NULL : pools->name, "pool", pools);
    if (pools == NULL) return resource;
    resource.start_fn = rmi_pools_start;
    resource.stop_fn = rmi_pools_stop;
    resource.health_fn = rmi_pools_health;
    resource.stats_fn = rmi_pools_stats_visit;
    return resource;
}

#ifdef __cplusplus
}
#endif
#endif /* RM_POOL_IMPLEMENTATION_DONE */

#if defined(RM_POOL_TRACE) && !defined(rm_pool_acquire)
#define rm_pool_acquire(pool, timeout_ns, out, error) \
    rmi_pool_acquire_here((pool), (timeout_ns), (out), (error), RM_HERE)
#define rm_pool_acquire_until(pool, deadline, cancel, out, error) \
    rmi_pool_acquire_until_here((pool), (deadline), (cancel), (out), (error), RM_HERE)
#define rm_pool_scope_open(pool, timeout_ns, error) \
    rmi_pool_scope_open_here((pool), (timeout_ns), (error), RM_HERE)
#endif

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

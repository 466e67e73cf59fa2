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
    and ends them when they are broken, fail their check or stay idle. Waiters are served first come
    first served, with bounded barging (rm.h, wait queue). A lease is {slot, sequence}: a second
    release, a stale copy and another pool's lease are statuses, never a crash.

WHAT IT DOES NOT DO
    At most 65535 resources. No thread of its own: call rm_pool_maintain from a timer for the idle
    timeout and the minimum. No maximum lifetime, no asynchronous acquire, no resizing, no leak
    report yet. A create, validate, reset or destroy callback that hangs is not interrupted; it
    holds up nobody but its caller, and its slot counts towards max until it returns.

DEFINES
    RM_POOL_IMPLEMENTATION  emit the pool only; RM_IMPLEMENTATION emits all [one C file]

CONCEPTS
    Slots     Each slot is empty, creating, idle, in use or closing: one atomic word. Everything but
              an empty one counts towards max.
    Acquire   Takes an idle resource (the lowest slot, so that few are kept warm), else makes one in
              an empty slot, in the calling thread and outside every lock, else waits.
    Checking  validate_fn runs on acquire for a resource that was not used for validate_after_ns. A
              failed one is destroyed and replaced in place.
    Release   reset_fn runs first, if there is one; a resource that fails it or is RM_RELEASE_BROKEN
              is destroyed in the releasing thread. Then the next waiter is served.
    Close     Ends idle resources, ends all waits with RM_E_CLOSED, and waits for the leases. A
              resource that comes back later is destroyed. Only an empty pool can be destroyed.
    Guard     With a guard (such as rm_breaker_guard) every acquire is admitted first: RM_E_REJECTED
              when refused. Failed creates and broken releases are reported as failures, other
              releases as successes, waits without a result as neither.

THREADS
    rm_pool_create, rm_pool_destroy    owner: no other call at the same time
    everything else                    any thread, also from hooks of this and other pools; a hook
                                       that waits for its own pool waits for itself
    create, destroy, validate, reset   hooks: without a lock, several at once for different slots
    Lock order: the queue's mutex, then the drain queue's.

MEMORY
    One allocation at rm_pool_create: about 2,200 + 64 * max bytes. None after that.

ERRORS
    RM_E_TIMEOUT   no resource in time; the message has the counts and the last create error
    RM_E_BUSY      RM_NOWAIT and none is free; rm_pool_destroy with resources in use
    RM_E_FULL      max_waiters wait already         RM_E_CLOSED    the pool is closed
    RM_E_REJECTED  the guard refused                RM_E_STALE     a second release
    RM_E_FOREIGN   another pool's lease             other          what create_fn returned

GLOBALS
    One counter of pool numbers; per thread the hooks of pools that it is in.
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
    RM_RELEASE_BROKEN  /* failed, or in an unknown state: destroy it */
} rm_release;

/* A snapshot: every slot is counted in exactly one of the five states, which sum to max. */
typedef struct rm_pool_stats {
    uint32_t max;
    uint32_t in_use, idle, creating, closing, empty;
    uint32_t waiting;
    uint64_t acquired;        /* leases handed out */
    uint64_t waits;           /* acquires that had to queue */
    uint64_t timeouts;        /* of those, ended without a resource in time */
    uint64_t refused;         /* turned away because max_waiters waited */
    uint64_t rejected;        /* refused by the guard */
    uint64_t created;         /* successful create_fn calls */
    uint64_t create_failures; /* failed create_fn calls */
    uint64_t destroyed;       /* all resources ended, of which: */
    uint64_t broken;          /* ... released as broken or failing their reset */
    uint64_t invalid;         /* ... failing validate_fn */
    uint64_t expired;         /* ... idle for too long */
    int64_t wait_p50_ns, wait_p99_ns, wait_max_ns; /* of all waits, timed out or not */
} rm_pool_stats;

/* >>desc */

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
    uint32_t max;               /* resources at most; 0 = 10; at most 65535 */
    uint32_t min;               /* kept alive by rm_pool_maintain; 0 = none */
    uint32_t max_waiters;       /* acquires that may queue; 0 = no bound */
    int64_t acquire_timeout_ns; /* for rm_pool_acquire with 0; 0 = 30 s */
    int64_t idle_timeout_ns;    /* rm_pool_maintain ends what is idle for so long; 0 = 10 min;
                                   RM_NONE = never */
    int64_t validate_after_ns;  /* checked on acquire when unused for so long; 0 = 500 ms;
                                   RM_STRICT = every time */
    int64_t barge_ns;           /* how long running threads may overtake the head of the queue;
                                   0 = 50 us; RM_STRICT = never */
    void *user;                 /* last argument of the hooks */
} rm_pool_desc;

/* >>create and destroy */

/* A desc with every default filled in and no callbacks.
   Returns: the desc.
   Threads: any. Blocks: no. Allocates: no. */
RM_API rm_pool_desc rm_pool_desc_default(void);

/* The function behind rm_pool_create. If the linker misses it, do what its name says.
   Returns: as rm_pool_create.
   Threads: owner. Blocks: no. Allocates: yes. Owns: the caller. */
RM_API rm_status rm_abi1_define_RM_POOL_IMPLEMENTATION_in_one_c_file(const rm_pool_desc *desc,
                                                                     rm_pool **out,
                                                                     rm_error *error);

/* Makes a pool. No resource is made yet: rm_pool_maintain does that up to min.
   Returns: RM_E_INVALID naming the field; RM_E_TOO_LARGE for a long name; RM_E_NOMEM; RM_E_SYSTEM.
   Threads: owner. Blocks: no. Allocates: yes. Owns: the caller; rm_pool_destroy. */
static inline RM_MUST_USE rm_status rm_pool_create(const rm_pool_desc *desc, rm_pool **out,
                                                   rm_error *error) {
    return rm_abi1_define_RM_POOL_IMPLEMENTATION_in_one_c_file(desc, out, error);
}

/* Closes a pool and frees it; NULL is allowed. The release of the last resource may still be on
   its way out when rm_pool_close returns: join its thread first.
   Returns: RM_E_BUSY, closed but not freed, while a resource is out or a call is waiting, and from
   inside its own hooks.
   Threads: owner. Blocks: in destroy_fn. Allocates: no. Cost: O(max). */
RM_API rm_status rm_pool_destroy(rm_pool *pool);

/* Closes a pool: ends idle resources and waiters, refuses acquires, waits for the leases.
   timeout_ns 0 = 8 s. May be called again, to wait on. Only the start of its resource (a manager's)
   opens it again.
   Returns: RM_E_TIMEOUT (RM_E_BUSY for RM_NOWAIT) while resources are out, with their number in
   error; RM_E_INVALID.
   Threads: any. Blocks: up to timeout_ns, and in destroy_fn. Allocates: no. Cost: O(max). */
RM_API rm_status rm_pool_close(rm_pool *pool, int64_t timeout_ns, rm_error *error);

/* >>acquire and release */

/* Borrows a resource. timeout_ns 0 = desc.acquire_timeout_ns, counted from the guard's leave on;
   RM_NOWAIT does not wait for others, but may make a resource. Cost of an uncontended pair with
   rm_pool_release: `make bench`.
   Returns: RM_E_TIMEOUT, RM_E_BUSY, RM_E_FULL, RM_E_CLOSED, RM_E_REJECTED, create_fn's status,
   RM_E_INVALID, RM_E_SYSTEM; see ERRORS on top. RM_E_BUSY: each resource was taken when it was
   looked at; beside calls that end resources, one may have been free all the time.
   Threads: any. Blocks: up to timeout_ns, and in the hooks. Allocates: no.
   Owns: the caller; rm_pool_release. Cost: O(max) when little is idle. */
RM_API RM_MUST_USE rm_status rm_pool_acquire(rm_pool *pool, int64_t timeout_ns, rm_lease *out,
                                             rm_error *error);

/* Borrows a resource within a composed call: until its deadline, or until cancel (may be NULL).
   Returns: as rm_pool_acquire; RM_E_TIMEOUT at once for one that has passed, unless it
   was made of RM_NOWAIT and something is idle; RM_E_CANCELLED.
   Threads: any. Blocks: up to the deadline, and in the hooks. Allocates: no.
   Owns: the caller; rm_pool_release. Cost: O(max) when little is idle. */
RM_API RM_MUST_USE rm_status rm_pool_acquire_until(rm_pool *pool, rm_deadline deadline,
                                                   rm_cancel *cancel, rm_lease *out,
                                                   rm_error *error);

/* Gives a resource back and zeroes the lease.
   Returns: RM_E_STALE for a lease that was released before; RM_E_FOREIGN for another pool's;
   RM_E_INVALID for NULL. The resource is left alone by all three.
   Threads: any, also another than the one that acquired. Blocks: in reset_fn, destroy_fn and the
   guard; for a short lock when somebody waits. Allocates: no. */
RM_API rm_status rm_pool_release(rm_pool *pool, rm_lease *lease, rm_release how);

/* >>upkeep */

/* Makes a pool usable in the child of a fork(): open and empty, its statistics at zero. What the
   parent's pool holds is the parent's: it is forgotten without destroy_fn, which would say goodbye
   on a connection that the parent still uses; leases from before are stale, and memory and
   descriptors of the resources stay until exec or _exit.
   Returns: RM_E_INVALID for NULL; RM_E_SYSTEM, with nothing usable.
   Threads: the child's only one. Blocks: no. Allocates: no. Cost: O(max). */
RM_API rm_status rm_pool_after_fork_child(rm_pool *pool);

/* Ends what is idle for too long (never below min) and makes what is missing up to min. Call it
   from a timer, several times per idle_timeout_ns.
   Returns: the status of the first failed create; RM_E_BUSY while another thread does it;
   RM_E_CLOSED; RM_E_INVALID.
   Threads: any. Blocks: in create_fn and destroy_fn. Allocates: no. Cost: O(max). */
RM_API rm_status rm_pool_maintain(rm_pool *pool, rm_deadline deadline, rm_error *error);

/* Reads the statistics.
   Returns: RM_E_INVALID for NULL.
   Threads: any. Blocks: for a short lock. Allocates: no. Cost: O(max). */
RM_API rm_status rm_pool_stats_get(rm_pool *pool, rm_pool_stats *out);

/* The desc in force, with every default filled in.
   Returns: RM_E_INVALID for NULL.
   Threads: any. Blocks: no. Allocates: no. Owns: the pool has the name. */
RM_API rm_status rm_pool_desc_get(const rm_pool *pool, rm_pool_desc *out);

/* The pool as a resource for a manager or for rm_metrics: start makes min resources (and opens it
   again if it was closed and all resources are back), stop closes.
   Health is DEGRADED while all are in use and somebody waits, or while creating fails.
   Returns: the resource; one with a NULL name for NULL.
   Threads: any. Blocks: no. Allocates: no. Owns: the pool has the name. */
RM_API rm_resource rm_pool_resource(rm_pool *pool);

#ifdef __cplusplus
}
#endif
#endif /* RM_POOL_H_INCLUDED */

/* ========================================================================================== */
/* Implementation.                                                                            */
/* ========================================================================================== */
#if defined(RM_POOL_IMPLEMENTATION) && !defined(RM_POOL_IMPLEMENTATION_DONE)
#define RM_POOL_IMPLEMENTATION_DONE

#ifdef __cplusplus
extern "C" {
#endif

/* >>private types
   A slot's word is sequence << 3 | state. The sequence goes up with every lease, so that a lease
   fits one holder only; at 10^9 leases a second it wraps after 70 years. Whoever moves a slot to
   BUSY, CREATING or CLOSING owns it and is the only one to touch the rest of it. */

enum {
    RMI_SLOT_EMPTY = 0,
    RMI_SLOT_IDLE = 1,
    RMI_SLOT_BUSY = 2,
    RMI_SLOT_CREATING = 3,
    RMI_SLOT_CLOSING = 4,
    RMI_SLOT_STATES = 5,
    RMI_SLOT_BITS = 3
};

typedef struct rmi_slot {
    RMI_ALIGN(64) uint64_t word;
    uint64_t used_ns; /* when it was last released or made, coarse; read by maintain, so atomic */
    uint64_t leases;  /* handed out; read by all, so atomic */
    void *resource;
    rm_permit permit; /* the guard's, while it is lent */
} rmi_slot;

/* 1 us to 10 s, 16 bins a decade: 952 bytes */
enum { RMI_POOL_WAIT_FIRST = 3, RMI_POOL_WAIT_LAST = 10, RMI_POOL_WAIT_BINS = 119 };

struct rm_pool {
    rm_pool_desc desc;
    rm_env env;
    rm_guard guard;
    char name[48];
    rmi_slot *slots;
    void *memory; /* what the allocator gave */
    size_t size;
    rm_waitq queue; /* acquires; its lock also guards last_error and failing */
    rm_waitq drain; /* closes */
    uint32_t number;
    uint32_t closed;
    uint32_t maintaining;
    bool failing; /* the last create failed */
    rm_error last_error;
    int64_t last_error_ns;
    rmi_word64 created, create_failures, destroyed, broken, invalid, expired, rejected;
    rm_hist waits;
    rmi_word64 wait_bins[RMI_POOL_WAIT_BINS]; /* as rm_hist wants them */
};

static uint32_t rmi_pool_numbers;
static RMI_TLS const rmi_inside *rmi_pool_hooks; /* that run while no slot shows it */

static uint32_t rmi_slot_state(uint64_t word) {
    return (uint32_t)(word & ((1u << RMI_SLOT_BITS) - 1));
}

static uint64_t rmi_slot_word(uint64_t sequence, uint32_t state) {
    return sequence << RMI_SLOT_BITS | state;
}

static void rmi_pool_count(rmi_word64 *counter) {
    (void)RMI_ADD64(counter, 1u, RELAXED);
}

static void rmi_pool_log(const rm_pool *pool, rm_log_level level, const char *event,
                         const rm_error *error) {
    rm_kv kv[3];
    kv[0] = rm_kv_string("pool", pool->name);
    kv[1] = rm_kv_string("status", error == NULL ? NULL : rm_status_name(error->status));
    kv[2] = rm_kv_string("message", error == NULL ? NULL : error->message);
    rm_log_emit(pool->env.log, pool->env.clock, level, "rm_pool", event, kv, error == NULL ? 1 : 3);
}

/* >>core: slots */

/* Moves a slot that the caller owns to EMPTY, IDLE or BUSY, and tells those who wait for that. */
static void rmi_pool_put(rm_pool *pool, rmi_slot *slot, uint32_t state) {
    const uint64_t word = RMI_LOAD64(&slot->word, RELAXED);
    RMI_STORE64(&slot->word, rmi_slot_word(word >> RMI_SLOT_BITS, state), SEQ_CST);
    rm_waitq_notify(&pool->queue);
    if (state == RMI_SLOT_EMPTY) rm_waitq_notify(&pool->drain);
}

/* Claims a slot: moves it from one state to another, if it is still as seen. */
static bool rmi_pool_claim(rmi_slot *slot, uint64_t seen, uint32_t to) {
    const uint64_t sequence = (seen >> RMI_SLOT_BITS) + (to == RMI_SLOT_BUSY ? 1u : 0u);
    return RMI_CAS64(&slot->word, &seen, rmi_slot_word(sequence, to), SEQ_CST);
}

/* Claims a slot to make a resource in, if it is empty. After a close none is claimed: seq_cst on
   both sides, so that either we see `closed` or the closer sees our claim. */
static bool rmi_pool_claim_empty(rm_pool *pool, rmi_slot *slot) {
    for (;;) {
        const uint64_t word = RMI_LOAD64(&slot->word, SEQ_CST);
        if (rmi_slot_state(word) != RMI_SLOT_EMPTY ||
            !rmi_pool_claim(slot, word, RMI_SLOT_CREATING))
            return false;
        if (RMI_LOAD32(&pool->closed, SEQ_CST) == 0) return true;
        RMI_STORE64(&slot->word, word, SEQ_CST);
        rm_waitq_notify(&pool->drain);
        /* if it has opened again, somebody may have queued because of our claim: do not leave */
        if (RMI_LOAD32(&pool->closed, SEQ_CST) != 0) return false;
    }
}

/* The queue's try: an idle resource, else an empty slot to make one in (*grant says which slot; its
   state says which of the two). */
static bool rmi_pool_take(void *owner, void *request, uint64_t *grant) {
    rm_pool *pool = (rm_pool *)owner;
    bool empty = false;
    uint32_t i;
    (void)request;
    for (i = 0; i < pool->desc.max; ++i) {
        const uint64_t word = RMI_LOAD64(&pool->slots[i].word, SEQ_CST);
        *grant = i;
        if (rmi_slot_state(word) == RMI_SLOT_EMPTY) empty = true;
        if (rmi_slot_state(word) == RMI_SLOT_IDLE &&
            rmi_pool_claim(&pool->slots[i], word, RMI_SLOT_BUSY))
            return true;
    }
    for (i = 0; empty && i < pool->desc.max; ++i) {
        *grant = i;
        if (rmi_pool_claim_empty(pool, &pool->slots[i])) return true;
    }
    return false;
}

/* The drain queue's try: is every slot empty? */
static bool rmi_pool_drained(void *owner, void *request, uint64_t *grant) {
    rm_pool *pool = (rm_pool *)owner;
    uint32_t i;
    (void)request, (void)grant;
    for (i = 0; i < pool->desc.max; ++i) {
        if (rmi_slot_state(RMI_LOAD64(&pool->slots[i].word, SEQ_CST)) != RMI_SLOT_EMPTY)
            return false;
    }
    return true;
}

/* Ends the resource of a slot that the caller owns in state CLOSING or CREATING. */
static void rmi_pool_end(rm_pool *pool, rmi_slot *slot) {
    void *resource = slot->resource;
    slot->resource = NULL;
    if (pool->desc.destroy_fn != NULL) pool->desc.destroy_fn(resource, pool->desc.user);
    rmi_pool_count(&pool->destroyed);
}

static void rmi_pool_stamp(rm_pool *pool, rmi_slot *slot) {
    RMI_STORE64(&slot->used_ns, (uint64_t)rm_now_coarse(pool->env.clock), RELAXED);
}

static int64_t rmi_pool_unused_ns(rm_pool *pool, rmi_slot *slot) {
    return rmi_time_since(rm_now_coarse(pool->env.clock),
                          (int64_t)RMI_LOAD64(&slot->used_ns, RELAXED));
}

/* Ends every idle resource of a closed pool. */
static void rmi_pool_sweep(rm_pool *pool) {
    uint32_t i;
    for (i = 0; i < pool->desc.max; ++i) {
        rmi_slot *slot = &pool->slots[i];
        const uint64_t word = RMI_LOAD64(&slot->word, SEQ_CST);
        if (rmi_slot_state(word) != RMI_SLOT_IDLE || !rmi_pool_claim(slot, word, RMI_SLOT_CLOSING))
            continue;
        rmi_pool_end(pool, slot);
        rmi_pool_put(pool, slot, RMI_SLOT_EMPTY);
    }
}

/* >>core: making resources */

static void rmi_pool_note_create(rm_pool *pool, const rm_error *error) {
    rm_waitq_lock(&pool->queue);
    pool->failing = error != NULL;
    if (error != NULL) {
        pool->last_error = *error;
        pool->last_error_ns = rm_now(pool->env.clock);
    }
    rm_waitq_unlock(&pool->queue);
    rmi_pool_count(error == NULL ? &pool->created : &pool->create_failures);
    if (error != NULL) rmi_pool_log(pool, RM_LOG_WARN, "create_failed", error);
}

/* Makes a resource in a slot that the caller owns in state CREATING and leaves it there; on failure
   the slot is empty again. */
static rm_status rmi_pool_make(rm_pool *pool, rmi_slot *slot, rm_deadline deadline,
                               rm_error *error) {
    rm_error reason;
    rm_status status;
    memset(&reason, 0, sizeof reason);
    slot->resource = NULL;
    status = pool->desc.create_fn(&slot->resource, deadline, &reason, pool->desc.user);
    if (status == RM_OK && slot->resource == NULL)
        status = rm_error_set(&reason, RM_E_FAILED, 0, pool->name,
                              "create_fn returned RM_OK without a resource");
    if (status == RM_OK) {
        rmi_pool_note_create(pool, NULL);
        rmi_pool_stamp(pool, slot);
        if (RMI_LOAD32(&pool->closed, SEQ_CST) == 0) return RM_OK;
        status = rm_error_set(&reason, RM_E_CLOSED, 0, pool->name, "closed while creating");
        rmi_pool_end(pool, slot);
    } else {
        if (reason.status == RM_OK)
            (void)rm_error_set(&reason, status, 0, pool->name, "create_fn failed: %s",
                               rm_status_name(status));
        reason.status = status;
        rmi_pool_note_create(pool, &reason);
    }
    if (error != NULL) *error = reason;
    rmi_pool_put(pool, slot, RMI_SLOT_EMPTY);
    return status;
}

/* >>core: acquire */

typedef struct rmi_pool_counts {
    uint32_t states[RMI_SLOT_STATES];
    uint64_t leases;
} rmi_pool_counts;

static rmi_pool_counts rmi_pool_counted(rm_pool *pool) {
    rmi_pool_counts counts;
    uint32_t i;
    memset(&counts, 0, sizeof counts);
    for (i = 0; i < pool->desc.max; ++i) {
        const uint64_t word = RMI_LOAD64(&pool->slots[i].word, ACQUIRE);
        ++counts.states[rmi_slot_state(word)];
        counts.leases += RMI_LOAD64(&pool->slots[i].leases, RELAXED);
    }
    return counts;
}

/* Says why there was nothing to hand out, with what helps at 3 a.m. */
static rm_status rmi_pool_denied(rm_pool *pool, rm_status status, rm_error *error) {
    const rmi_pool_counts counts = rmi_pool_counted(pool);
    rm_error last;
    int64_t age;
    uint32_t waiting;
    if (error == NULL) return status;
    rm_waitq_lock(&pool->queue);
    last = pool->last_error;
    if (!pool->failing) last.status = RM_OK; /* one that is over explains nothing */
    age = rmi_time_since(rm_now(pool->env.clock), pool->last_error_ns);
    waiting = pool->queue.stats.waiting;
    rm_waitq_unlock(&pool->queue);
    if (status == RM_E_CLOSED)
        return rm_error_set(error, status, 0, pool->name,
                            "the pool is closed; nothing more is lent");
    if (status == RM_E_FULL)
        return rm_error_set(error, status, 0, pool->name,
                            "%u wait already for %u resources; raise max_waiters or max", waiting,
                            pool->desc.max);
    if (last.status == RM_OK)
        return rm_error_set(error, status, 0, pool->name,
                            "no resource: %u in use, %u idle, %u creating, %u closing, %u waiting, "
                            "max %u",
                            counts.states[RMI_SLOT_BUSY], counts.states[RMI_SLOT_IDLE],
                            counts.states[RMI_SLOT_CREATING], counts.states[RMI_SLOT_CLOSING],
                            waiting, pool->desc.max);
    return rm_error_set(error, status, last.native, pool->name,
                        "no resource: %u in use, %u creating, %u waiting, max %u; %lld ms ago: %s",
                        counts.states[RMI_SLOT_BUSY], counts.states[RMI_SLOT_CREATING], waiting,
                        pool->desc.max, (long long)(age / RM_MS(1)), last.message);
}

/* What one acquire asks for: a timeout, whose deadline is computed when it is needed only, so that
   the fast path reads no fine clock; or a deadline. */
typedef struct rmi_pool_ask {
    int64_t timeout_ns;
    rm_deadline deadline;
    rm_cancel *cancel;
    bool absolute;
} rmi_pool_ask;

static void rmi_pool_ask_deadline(rm_pool *pool, rmi_pool_ask *ask) {
    if (!ask->absolute) ask->deadline = rm_deadline_after(pool->env.clock, ask->timeout_ns);
    ask->absolute = true;
}

/* What a create for this acquire may take. A try does not wait for others, but making takes time:
   it gets the time of an ordinary acquire. */
static rm_deadline rmi_pool_create_deadline(rm_pool *pool, rmi_pool_ask *ask) {
    const int64_t ordinary = pool->desc.acquire_timeout_ns;
    if (ask->absolute ? ask->deadline.at_ns == INT64_MIN : ask->timeout_ns == RM_NOWAIT)
        return rm_deadline_after(pool->env.clock, ordinary == RM_NOWAIT ? RM_SEC(30) : ordinary);
    rmi_pool_ask_deadline(pool, ask);
    return ask->deadline;
}

/* Is the resource of a slot fit to be lent? Asks validate_fn when it was unused for long enough. */
static bool rmi_pool_fit(rm_pool *pool, rmi_slot *slot, rmi_pool_ask *ask) {
    const int64_t after = pool->desc.validate_after_ns;
    if (pool->desc.validate_fn == NULL) return true;
    if (after != RM_STRICT && rmi_pool_unused_ns(pool, slot) < after) return true;
    rmi_pool_ask_deadline(pool, ask); /* what validate_fn takes is of the time there is */
    return pool->desc.validate_fn(slot->resource, pool->desc.user) == RM_OK;
}

/* Turns a claimed slot into one with a fit resource in state BUSY. */
static rm_status rmi_pool_ready(rm_pool *pool, rmi_slot *slot, rmi_pool_ask *ask, rm_error *error) {
    uint64_t sequence = RMI_LOAD64(&slot->word, RELAXED);
    rm_status status;
    const bool made = rmi_slot_state(sequence) == RMI_SLOT_BUSY;
    sequence >>= RMI_SLOT_BITS;
    if (made) {
        if (rmi_pool_fit(pool, slot, ask)) return RM_OK;
        rmi_pool_count(&pool->invalid);
        rmi_pool_log(pool, RM_LOG_INFO, "invalid", NULL);
        RMI_STORE64(&slot->word, rmi_slot_word(sequence, RMI_SLOT_CLOSING), SEQ_CST);
        rmi_pool_end(pool, slot);
        RMI_STORE64(&slot->word, rmi_slot_word(sequence, RMI_SLOT_CREATING), SEQ_CST);
    }
    status = rmi_pool_make(pool, slot, rmi_pool_create_deadline(pool, ask), error);
    if (status == RM_OK)
        RMI_STORE64(&slot->word, rmi_slot_word(sequence + 1, RMI_SLOT_BUSY), SEQ_CST);
    return status;
}

static rm_status rmi_pool_get(rm_pool *pool, rmi_pool_ask *ask, uint64_t *grant, rm_error *error) {
    rm_status status;
    const bool over = ask->absolute && ask->deadline.at_ns != INT64_MIN && /* RM_NOWAIT: a try */
                      rm_deadline_passed(pool->env.clock, ask->deadline);
    if (!over && !rm_waitq_must_queue(&pool->queue) && rmi_pool_take(pool, NULL, grant))
        return RM_OK;
    if (!ask->absolute && ask->timeout_ns == RM_NOWAIT) {
        status = RMI_LOAD32(&pool->closed, ACQUIRE) != 0 ? RM_E_CLOSED : RM_E_BUSY;
    } else {
        rmi_pool_ask_deadline(pool, ask);
        status = rm_waitq_wait(&pool->queue, NULL, ask->deadline, ask->cancel, grant);
    }
    return status == RM_OK ? RM_OK : rmi_pool_denied(pool, status, error);
}

static void rmi_pool_report(rm_pool *pool, rm_permit *permit, rm_outcome outcome) {
    const rmi_inside here = {pool, rmi_pool_hooks};
    if (pool->guard.report_fn == NULL) return;
    rmi_pool_hooks = &here;
    pool->guard.report_fn(permit, outcome, pool->guard.user);
    rmi_pool_hooks = here.outer;
}

/* Asks the guard; a refusal that it does not explain gets an error record all the same. */
static rm_status rmi_pool_admit(rm_pool *pool, rm_permit *permit, rm_error *error) {
    const rmi_inside here = {pool, rmi_pool_hooks};
    rm_error refusal;
    rm_status status;
    memset(permit, 0, sizeof *permit);
    if (pool->guard.admit_fn == NULL) return RM_OK;
    refusal.status = RM_OK;
    rmi_pool_hooks = &here;
    status = pool->guard.admit_fn(permit, &refusal, pool->guard.user);
    rmi_pool_hooks = here.outer;
    if (status == RM_OK) return RM_OK;
    rmi_pool_count(&pool->rejected);
    if (refusal.status == RM_OK)
        (void)rm_error_set(&refusal, status, 0, pool->name, "refused by the guard");
    if (error != NULL) *error = refusal;
    return status;
}

static rm_status rmi_pool_acquire(rm_pool *pool, rmi_pool_ask *ask, rm_lease *out,
                                  rm_error *error) {
    rm_permit permit;
    rmi_slot *slot;
    uint64_t grant = 0;
    rm_status status;
    if (rm_cancel_requested(ask->cancel))
        return rm_error_set(error, RM_E_CANCELLED, 0, pool->name, "cancelled before it began");
    status = rmi_pool_admit(pool, &permit, error);
    if (status != RM_OK) return status;
    status = rmi_pool_get(pool, ask, &grant, error);
    if (status != RM_OK) {
        rmi_pool_report(pool, &permit, RM_OUTCOME_IGNORE);
        return status;
    }
    slot = &pool->slots[grant];
    status = rmi_pool_ready(pool, slot, ask, error);
    if (status != RM_OK) {
        const bool ours = status == RM_E_CLOSED && RMI_LOAD32(&pool->closed, ACQUIRE) != 0;
        rmi_pool_report(pool, &permit, ours ? RM_OUTCOME_IGNORE : RM_OUTCOME_FAILURE);
        return status;
    }
    slot->permit = permit;
    RMI_STORE64(&slot->leases, RMI_LOAD64(&slot->leases, RELAXED) + 1u, RELAXED);
    out->resource = slot->resource;
    out->sequence = RMI_LOAD64(&slot->word, RELAXED) >> RMI_SLOT_BITS;
    out->pool = pool->number;
    out->slot = (uint32_t)grant;
    return RM_OK;
}

RM_API rm_status rm_pool_acquire(rm_pool *pool, int64_t timeout_ns, rm_lease *out,
                                 rm_error *error) {
    rmi_pool_ask ask;
    if (pool == NULL || out == NULL)
        return rm_error_set(error, RM_E_INVALID, 0, "pool", "pool or out is NULL");
    if (!rm_timeout_valid(timeout_ns))
        return rm_error_set(error, RM_E_INVALID, 0, "timeout_ns",
                            "%lld is no timeout: a time, RM_NOWAIT or RM_FOREVER",
                            (long long)timeout_ns);
    ask.timeout_ns = timeout_ns == 0 ? pool->desc.acquire_timeout_ns : timeout_ns;
    ask.deadline.at_ns = 0;
    ask.cancel = NULL;
    ask.absolute = false;
    return rmi_pool_acquire(pool, &ask, out, error);
}

RM_API rm_status rm_pool_acquire_until(rm_pool *pool, rm_deadline deadline, rm_cancel *cancel,
                                       rm_lease *out, rm_error *error) {
    rmi_pool_ask ask;
    if (pool == NULL || out == NULL)
        return rm_error_set(error, RM_E_INVALID, 0, "pool", "pool or out is NULL");
    ask.timeout_ns = 0;
    ask.deadline = deadline;
    ask.cancel = cancel;
    ask.absolute = true;
    return rmi_pool_acquire(pool, &ask, out, error);
}

/* >>core: release */

/* Takes the slot of a lease out of its holder's hands; only one release can. */
static rm_status rmi_pool_reclaim(rm_pool *pool, const rm_lease *lease, rmi_slot **slot) {
    uint64_t word;
    if (lease->resource == NULL) return RM_E_STALE;
    if (lease->pool != pool->number || lease->slot >= pool->desc.max) return RM_E_FOREIGN;
    *slot = &pool->slots[lease->slot];
    word = rmi_slot_word(lease->sequence, RMI_SLOT_BUSY);
    if (!RMI_CAS64(&(*slot)->word, &word, rmi_slot_word(lease->sequence, RMI_SLOT_CLOSING),
                   ACQ_REL))
        return RM_E_STALE;
    return RM_OK;
}

RM_API rm_status rm_pool_release(rm_pool *pool, rm_lease *lease, rm_release how) {
    rmi_slot *slot = NULL;
    rm_permit permit;
    rm_status status;
    bool fit = how == RM_RELEASE_OK;
    if (pool == NULL || lease == NULL || (how != RM_RELEASE_OK && how != RM_RELEASE_BROKEN))
        return RM_E_INVALID;
    status = rmi_pool_reclaim(pool, lease, &slot);
    if (status != RM_OK) return status;
    memset(lease, 0, sizeof *lease);
    permit = slot->permit;
    if (fit && pool->desc.reset_fn != NULL)
        fit = pool->desc.reset_fn(slot->resource, pool->desc.user) == RM_OK;
    if (!fit) rmi_pool_count(&pool->broken);
    if (fit && RMI_LOAD32(&pool->closed, ACQUIRE) == 0) {
        rmi_pool_stamp(pool, slot);
        rmi_pool_put(pool, slot, RMI_SLOT_IDLE);
        if (RMI_LOAD32(&pool->closed, SEQ_CST) != 0) rmi_pool_sweep(pool);
    } else {
        rmi_pool_end(pool, slot);
        rmi_pool_put(pool, slot, RMI_SLOT_EMPTY);
    }
    rmi_pool_report(pool, &permit, how == RM_RELEASE_OK ? RM_OUTCOME_OK : RM_OUTCOME_FAILURE);
    return RM_OK;
}

/* >>public: upkeep */

/* Ends one resource that was idle for too long, if more than min are there. */
static bool rmi_pool_expire_one(rm_pool *pool, rmi_slot *slot) {
    const uint64_t word = RMI_LOAD64(&slot->word, SEQ_CST);
    if (rmi_slot_state(word) != RMI_SLOT_IDLE ||
        rmi_pool_unused_ns(pool, slot) < pool->desc.idle_timeout_ns ||
        !rmi_pool_claim(slot, word, RMI_SLOT_CLOSING))
        return false;
    rmi_pool_end(pool, slot);
    rmi_pool_count(&pool->expired);
    rmi_pool_put(pool, slot, RMI_SLOT_EMPTY);
    return true;
}

static void rmi_pool_expire(rm_pool *pool) {
    rmi_pool_counts counts;
    uint32_t i = pool->desc.max, there;
    if (pool->desc.idle_timeout_ns == RM_NONE) return;
    counts = rmi_pool_counted(pool); /* what is closing may not be there any more in a moment */
    there = pool->desc.max - counts.states[RMI_SLOT_EMPTY] - counts.states[RMI_SLOT_CLOSING];
    while (i-- > 0 && there > pool->desc.min) { /* from the top: low slots are the warm ones */
        if (rmi_pool_expire_one(pool, &pool->slots[i])) --there;
    }
}

static rm_status rmi_pool_refill(rm_pool *pool, rm_deadline deadline, rm_error *error) {
    uint32_t i, there = pool->desc.max - rmi_pool_counted(pool).states[RMI_SLOT_EMPTY];
    for (i = 0; i < pool->desc.max && there < pool->desc.min; ++i) {
        rmi_slot *slot = &pool->slots[i];
        rm_status status;
        if (!rmi_pool_claim_empty(pool, slot)) continue;
        status = rmi_pool_make(pool, slot, deadline, error);
        if (status != RM_OK) return status;
        rmi_pool_put(pool, slot, RMI_SLOT_IDLE);
        if (RMI_LOAD32(&pool->closed, SEQ_CST) != 0) rmi_pool_sweep(pool);
        ++there;
    }
    if (RMI_LOAD32(&pool->closed, SEQ_CST) != 0) return rmi_pool_denied(pool, RM_E_CLOSED, error);
    return RM_OK;
}

/* One thread at a time; *theirs tells that another is at it. */
static rm_status rmi_pool_upkeep(rm_pool *pool, rm_deadline deadline, bool *theirs,
                                 rm_error *error) {
    rm_status status;
    *theirs = RMI_XCHG32(&pool->maintaining, 1u, SEQ_CST) != 0;
    if (*theirs) return RM_E_BUSY;
    rmi_pool_expire(pool);
    status = rmi_pool_refill(pool, deadline, error);
    RMI_STORE32(&pool->maintaining, 0u, SEQ_CST);
    return status;
}

RM_API rm_status rm_pool_maintain(rm_pool *pool, rm_deadline deadline, rm_error *error) {
    rm_status status;
    bool theirs;
    if (pool == NULL) return rm_error_set(error, RM_E_INVALID, 0, "pool", "pool is NULL");
    if (RMI_LOAD32(&pool->closed, SEQ_CST) != 0)
        return rm_error_set(error, RM_E_CLOSED, 0, pool->name, "the pool is closed");
    status = rmi_pool_upkeep(pool, deadline, &theirs, error);
    if (theirs)
        return rm_error_set(error, status, 0, pool->name, "another thread maintains the pool");
    return status;
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
        RMI_STORE32(&pool->closed, 1u, SEQ_CST);
        rm_waitq_close(&pool->queue);
    } while (RMI_LOAD32(&pool->closed, SEQ_CST) == 0); /* a start came in between */
    rmi_pool_sweep(pool);
    if (rmi_pool_drained(pool, NULL, &grant)) return RM_OK;
    if (timeout_ns == 0) timeout_ns = RM_SEC(8);
    status = timeout_ns == RM_NOWAIT
                 ? RM_E_BUSY
                 : rm_waitq_wait(&pool->drain, NULL, rm_deadline_after(pool->env.clock, timeout_ns),
                                 NULL, &grant);
    if (status == RM_OK) return RM_OK;
    return rm_error_set(error, status, 0, pool->name,
                        "closed, but %u of %u resources are still out; close again to wait on",
                        pool->desc.max - rmi_pool_counted(pool).states[RMI_SLOT_EMPTY],
                        pool->desc.max);
}

RM_API rm_status rm_pool_stats_get(rm_pool *pool, rm_pool_stats *out) {
    rmi_pool_counts counts;
    rm_pool_stats stats;
    if (pool == NULL || out == NULL) return RM_E_INVALID;
    memset(&stats, 0, sizeof stats);
    rm_waitq_lock(&pool->queue);
    stats.waiting = pool->queue.stats.waiting;
    stats.waits = pool->queue.stats.waits;
    stats.timeouts = pool->queue.stats.timeouts;
    stats.refused = pool->queue.stats.refused;
    stats.wait_p50_ns = rm_hist_quantile(&pool->waits, 0.5);
    stats.wait_p99_ns = rm_hist_quantile(&pool->waits, 0.99);
    stats.wait_max_ns = pool->waits.max;
    rm_waitq_unlock(&pool->queue);
    counts = rmi_pool_counted(pool);
    stats.max = pool->desc.max;
    stats.in_use = counts.states[RMI_SLOT_BUSY];
    stats.idle = counts.states[RMI_SLOT_IDLE];
    stats.creating = counts.states[RMI_SLOT_CREATING];
    stats.closing = counts.states[RMI_SLOT_CLOSING];
    stats.empty = counts.states[RMI_SLOT_EMPTY];
    stats.acquired = counts.leases;
    stats.rejected = RMI_LOAD64(&pool->rejected, RELAXED);
    stats.created = RMI_LOAD64(&pool->created, RELAXED);
    stats.create_failures = RMI_LOAD64(&pool->create_failures, RELAXED);
    stats.destroyed = RMI_LOAD64(&pool->destroyed, RELAXED);
    stats.broken = RMI_LOAD64(&pool->broken, RELAXED);
    stats.invalid = RMI_LOAD64(&pool->invalid, RELAXED);
    stats.expired = RMI_LOAD64(&pool->expired, RELAXED);
    *out = stats;
    return RM_OK;
}

RM_API rm_status rm_pool_desc_get(const rm_pool *pool, rm_pool_desc *out) {
    if (pool == NULL || out == NULL) return RM_E_INVALID;
    *out = pool->desc;
    return RM_OK;
}

/* >>public: the pool as a resource */

/* A pool that was stopped opens again, so that a manager can start what it has stopped. */
static rm_status rmi_pool_start(void *user, rm_deadline deadline, rm_error *error) {
    rm_pool *pool = (rm_pool *)user;
    rm_status status;
    uint64_t grant = 0;
    bool theirs;
    if (RMI_LOAD32(&pool->closed, SEQ_CST) != 0) {
        if (!rmi_pool_drained(pool, NULL, &grant))
            return rm_error_set(error, RM_E_BUSY, 0, pool->name,
                                "resources from before it was closed are still out");
        RMI_STORE32(&pool->closed, 0u, SEQ_CST);
        rm_waitq_open(&pool->queue);
        if (RMI_LOAD32(&pool->closed, SEQ_CST) != 0) { /* a close came in between */
            rm_waitq_close(&pool->queue);
            return rmi_pool_denied(pool, RM_E_CLOSED, error);
        }
    }
    status = rmi_pool_upkeep(pool, deadline, &theirs, error);
    return theirs ? RM_OK : status; /* a timer is at it: that will do */
}

static rm_status rmi_pool_stop(void *user, rm_deadline deadline, rm_error *error) {
    rm_pool *pool = (rm_pool *)user;
    return rm_pool_close(pool, rm_deadline_left(pool->env.clock, deadline), error);
}

static rm_health rmi_pool_health(void *user, rm_error *reason) {
    rm_pool *pool = (rm_pool *)user;
    const rmi_pool_counts counts = rmi_pool_counted(pool);
    rm_error last;
    uint32_t waiting;
    bool failing;
    rm_waitq_lock(&pool->queue);
    last = pool->last_error;
    failing = pool->failing;
    waiting = pool->queue.stats.waiting;
    rm_waitq_unlock(&pool->queue);
    if (RMI_LOAD32(&pool->closed, ACQUIRE) != 0) {
        (void)rm_error_set(reason, RM_E_CLOSED, 0, pool->name, "the pool is closed");
        return RM_HEALTH_UNHEALTHY;
    }
    if (failing) {
        if (reason != NULL) *reason = last;
        return RM_HEALTH_DEGRADED;
    }
    if (waiting == 0) return RM_HEALTH_HEALTHY;
    (void)rm_error_set(reason, RM_E_BUSY, 0, pool->name, "%u of %u in use, %u waiting",
                       counts.states[RMI_SLOT_BUSY], pool->desc.max, waiting);
    return RM_HEALTH_DEGRADED;
}

static void rmi_pool_stats_visit(void *user, rm_stat_fn visit, void *to) {
    static const char states[] = "Resources by state.";
    const rm_stat_type gauge = RM_STAT_GAUGE, counter = RM_STAT_COUNTER;
    rm_pool *pool = (rm_pool *)user;
    const rmi_inside here = {pool, rmi_pool_hooks};
    uint64_t bins[RMI_POOL_WAIT_BINS];
    rm_pool_stats s;
    if (visit == NULL || rm_pool_stats_get(pool, &s) != RM_OK) return;
    rmi_pool_hooks = &here;
    rmi_show(visit, to, gauge, "rm_pool_resources", states, "state", "in_use", s.in_use);
    rmi_show(visit, to, gauge, "rm_pool_resources", states, "state", "idle", s.idle);
    rmi_show(visit, to, gauge, "rm_pool_resources", states, "state", "creating", s.creating);
    rmi_show(visit, to, gauge, "rm_pool_resources", states, "state", "closing", s.closing);
    rmi_show(visit, to, gauge, "rm_pool_max", "Resources at most.", NULL, NULL, s.max);
    rmi_show(visit, to, gauge, "rm_pool_waiting", "Acquires in the queue.", NULL, NULL, s.waiting);
    rmi_show(visit, to, counter, "rm_pool_acquired_total", "Leases.", NULL, NULL, s.acquired);
    rmi_show(visit, to, counter, "rm_pool_timeouts_total",
             "Acquires that ended without a resource in time.", NULL, NULL, s.timeouts);
    rmi_show(visit, to, counter, "rm_pool_refused_total",
             "Acquires turned away by the bound on waiters.", NULL, NULL, s.refused);
    rmi_show(visit, to, counter, "rm_pool_rejected_total", "Acquires refused by the guard.", NULL,
             NULL, s.rejected);
    rmi_show(visit, to, counter, "rm_pool_created_total", "Resources made.", NULL, NULL, s.created);
    rmi_show(visit, to, counter, "rm_pool_create_failures_total", "Failed creates.", NULL, NULL,
             s.create_failures);
    rmi_show(visit, to, counter, "rm_pool_destroyed_total", "Resources ended.", NULL, NULL,
             s.destroyed);
    rmi_show_times(visit, to, "rm_pool_wait_seconds",
                   "Time that acquires waited in the queue, timeouts included.", &pool->queue,
                   &pool->waits, bins);
    rmi_pool_hooks = here.outer;
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
    return desc;
}

/* Fills in the defaults and refuses what makes no sense. */
static rm_status rmi_pool_check(rm_pool_desc *desc, rm_error *error) {
    const rm_pool_desc standard = rm_pool_desc_default();
    if (desc->name == NULL) desc->name = standard.name;
    if (desc->max == 0) desc->max = standard.max;
    if (desc->acquire_timeout_ns == 0) desc->acquire_timeout_ns = standard.acquire_timeout_ns;
    if (desc->idle_timeout_ns == 0) desc->idle_timeout_ns = standard.idle_timeout_ns;
    if (desc->validate_after_ns == 0) desc->validate_after_ns = standard.validate_after_ns;
    if (desc->barge_ns == 0) desc->barge_ns = standard.barge_ns;
    if (desc->create_fn == NULL) return rmi_bad(error, "create_fn", "set");
    if (desc->max > 65535) return rmi_bad(error, "max", "at most 65535");
    if (desc->min > desc->max) return rmi_bad(error, "min", "at most max");
    if (!rm_timeout_valid(desc->acquire_timeout_ns))
        return rmi_bad(error, "acquire_timeout_ns", "a time, RM_NOWAIT or RM_FOREVER");
    if (desc->idle_timeout_ns < 0 && desc->idle_timeout_ns != RM_NONE)
        return rmi_bad(error, "idle_timeout_ns", "a time or RM_NONE");
    if (desc->validate_after_ns < 0 && desc->validate_after_ns != RM_STRICT)
        return rmi_bad(error, "validate_after_ns", "a time or RM_STRICT");
    if (desc->barge_ns < 0 && desc->barge_ns != RM_STRICT)
        return rmi_bad(error, "barge_ns", "a time or RM_STRICT");
    if (desc->guard != NULL && (desc->guard->admit_fn == NULL || desc->guard->report_fn == NULL))
        return rmi_bad(error, "guard", "given both callbacks");
    return rmi_check_name(desc->name, error);
}

static rm_status rmi_pool_init_queues(rm_pool *pool) {
    const rm_hist_desc waits = {RMI_POOL_WAIT_FIRST, RMI_POOL_WAIT_LAST, 16};
    rm_waitq_desc queue;
    rm_status status = rm_hist_init(&pool->waits, &waits, pool->wait_bins, sizeof pool->wait_bins);
    if (status != RM_OK) return RM_E_INTERNAL;
    memset(&queue, 0, sizeof queue);
    queue.clock = pool->env.clock;
    queue.owner = pool;
    queue.try_fn = rmi_pool_drained;
    status = rm_waitq_init(&pool->drain, &queue);
    if (status != RM_OK) return status;
    queue.try_fn = rmi_pool_take;
    queue.barge_ns = pool->desc.barge_ns;
    queue.max_waiters = pool->desc.max_waiters;
    queue.wait_histogram = &pool->waits;
    status = rm_waitq_init(&pool->queue, &queue);
    if (status != RM_OK) (void)rm_waitq_destroy(&pool->drain);
    return status;
}

RM_API rm_status rm_abi1_define_RM_POOL_IMPLEMENTATION_in_one_c_file(const rm_pool_desc *desc,
                                                                     rm_pool **out,
                                                                     rm_error *error) {
    const size_t line = 64;
    rm_pool_desc checked;
    rm_pool *pool;
    rm_status status;
    rm_env env;
    char *memory;
    size_t size;
    if (desc == NULL || out == NULL)
        return rm_error_set(error, RM_E_INVALID, 0, "rm_pool_desc", "desc or out is NULL");
    checked = *desc;
    status = rm_env_resolve(desc->env, &env, error);
    if (status == RM_OK) status = rmi_pool_check(&checked, error);
    if (status != RM_OK) return status;
    size = sizeof *pool + 2 * line + checked.max * sizeof(rmi_slot);
    memory = (char *)rm_alloc(env.allocator, size);
    if (memory == NULL)
        return rm_error_set(error, RM_E_NOMEM, 0, checked.name, "no memory for %u slots",
                            (unsigned)checked.max);
    memset(memory, 0, size);
    pool = (rm_pool *)(void *)(memory + (line - (uintptr_t)memory % line));
    pool->slots = (rmi_slot *)(void *)((char *)pool + (sizeof *pool + line - 1) / line * line);
    pool->memory = memory;
    pool->size = size;
    pool->desc = checked;
    pool->env = env;
    if (checked.guard != NULL) pool->guard = *checked.guard;
    rmi_copy_string(pool->name, sizeof pool->name, checked.name);
    pool->desc.name = pool->name;
    pool->desc.env = &pool->env;
    pool->desc.guard = checked.guard == NULL ? NULL : &pool->guard;
    pool->number = RMI_ADD32(&rmi_pool_numbers, 1u, RELAXED) + 1u;
    status = rmi_pool_init_queues(pool);
    if (status != RM_OK) {
        rm_free(env.allocator, memory, size);
        return rm_error_set(error, status, 0, checked.name, "the platform has no mutex to give");
    }
    *out = pool;
    return RM_OK;
}

RM_API rm_status rm_pool_after_fork_child(rm_pool *pool) {
    uint32_t i;
    if (pool == NULL) return RM_E_INVALID;
    for (i = 0; i < pool->desc.max; ++i) {
        rmi_slot *slot = &pool->slots[i];
        slot->word = rmi_slot_word(slot->word >> RMI_SLOT_BITS, RMI_SLOT_EMPTY);
        slot->leases = 0;
        slot->resource = NULL;
    }
    pool->closed = pool->maintaining = 0;
    pool->failing = false;
    memset(&pool->last_error, 0, sizeof pool->last_error);
    pool->created = pool->create_failures = pool->destroyed = 0;
    pool->broken = pool->invalid = pool->expired = pool->rejected = 0;
    return rmi_pool_init_queues(pool);
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
    if (status != RM_OK || rmi_is_inside(rmi_pool_hooks, pool)) return RM_E_BUSY;
    if (rmi_pool_waits(&pool->queue) || rmi_pool_waits(&pool->drain))
        return RM_E_BUSY; /* before either is gone: the caller may try again */
    (void)rm_waitq_destroy(&pool->queue);
    (void)rm_waitq_destroy(&pool->drain);
    env = pool->env;
    rm_free(env.allocator, pool->memory, pool->size);
    return RM_OK;
}

#ifdef __cplusplus
}
#endif
#endif /* RM_POOL_IMPLEMENTATION_DONE */

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

#if defined(RM_STATIC) && !defined(RM_IMPLEMENTATION)
#define RM_IMPLEMENTATION
#endif
#if defined(RM_IMPLEMENTATION) && !defined(RM_BREAKER_IMPLEMENTATION)
#define RM_BREAKER_IMPLEMENTATION
#endif
#if defined(RM_BREAKER_IMPLEMENTATION) && !defined(RMI_WANT_PRIVATE)
#define RMI_WANT_PRIVATE
#endif
/*  rm_breaker.h 0.1.0 - a circuit breaker, and retry with backoff.
    SPDX-License-Identifier: MIT OR Unlicense

QUICK START
    #define RM_IMPLEMENTATION // in exactly one C or C++ file, before the first system header
    #include "rm_breaker.h"
    #include <stdio.h>

    static rm_status fetch_price(void *user, rm_error *error) {
        (void)user; // ask the service here; this one is down
        return rm_error_set(error, RM_E_REFUSED, 0, "price", "nobody listens on port 8080");
    }
    static rm_status last_price(void *user, const rm_error *reason) {
        fprintf(stderr, "%s: %s\n", reason->where, reason->message);
        *(int *)user = 42; // the price as it was known last
        return RM_OK;
    }

    int main(void) {
        rm_breaker *breaker = NULL;
        rm_breaker_desc desc = rm_breaker_desc_default();
        desc.name = "price";
        desc.failures = 3;
        desc.open_ns = RM_SEC(10);
        if (rm_breaker_create(&desc, &breaker, NULL) != RM_OK) return 1;
        for (int i = 0; i < 5; i++) { // three are refused by the service, two by the breaker
            int price = 0;
            rm_status status = rm_breaker_call(breaker, fetch_price, last_price, &price, NULL);
            if (status != RM_OK || price != 42) return 1;
        }
        rm_breaker_stats stats;
        if (rm_breaker_stats_get(breaker, &stats) != RM_OK) return 1;
        bool as_told = stats.state == RM_BREAKER_STATE_OPEN && stats.rejected == 2;
        rm_breaker_destroy(breaker);
        return as_told ? 0 : 1;
    }

WHAT IT DOES
    rm_breaker  Counts consecutive failures of what it guards. When there are too many it opens:
                calls are refused at once instead of waiting for something that is down. After a
                rest a few probes are let through; they close it again, or it rests once more.
    rm_retry    Says how long to wait before the next attempt, and when to give up. It never sleeps
                itself; rm_retry_call does, on the clock that it was given.
    rm_backoff  The waiting times alone: exponential, capped, with jitter.

WHAT IT DOES NOT DO
    One policy: consecutive failures. No failure rates over a window, no limit on calls at once
    while closed, no retry budget, no rate limit, no hedging, no registry of breakers; nothing is
    shared between processes or kept over a restart. It does not interrupt a call: give the call a
    deadline of its own. Backoff and jitter spread retries over time, but do not reduce them; use
    the breaker with them. Rests and probe waits are kept in whole milliseconds, rounded up, from
    1 ms to 365 days. Probes: at most 4095 at once. A permit that is reported a multiple of
    8,388,608 transitions after it was given would be taken for a new one.

DEFINES
    RM_IMPLEMENTATION          emit all parts of the headers included here [one C file]
    RM_BREAKER_IMPLEMENTATION  emit this part only [one C file]
    RM_STATIC, RM_NO_THREADS, RM_MALLOC, RM_FREE, RM_ASSERT  as in rm.h

CONCEPTS
    States      CLOSED: calls pass. `failures` consecutive ones open it; a success sets the count
                back. OPEN: calls are refused with RM_E_REJECTED until the rest is over; the next
                call then makes it HALF_OPEN and is the first probe. HALF_OPEN: at most `probes`
                calls at once; `probe_successes` successes close it, one failure opens it. Only
                calls move it, there is no thread and no timer: an OPEN breaker that nobody asks
                stays OPEN, and stats_get says `probe_ready`.
    Permits     acquire gives a permit, record takes it back with the outcome. A permit belongs to
                the generation it was given in; every transition starts a new one. A result from an
                earlier generation is counted as late and changes nothing: neither does it close,
                nor open, nor free a probe's place. A success never opens the breaker. A permit
                must not be copied.
    Outcomes    OK and FAILURE count. IGNORE says nothing about what is guarded (cancelled, never
                sent): it does not touch the count, and a probe gives its place back.
    Lost        While CLOSED a permit that is never reported costs nothing. A probe that is not
                reported within probe_wait_ns (of the latest probe) is lost: the next call opens
                the breaker again, so that it cannot hang half-open.
    Rest        open_ns, lengthened at random by up to open_jitter_permille, so that many processes
                do not probe in step. Should the clock go back, the rest starts again.
    Events      One per transition, told by the thread that made it, after it was made. Threads can
                overtake each other on their way to event_fn: `generation` gives the order.
    Retry       Order of the layers: deadline, retry, breaker, attempt. The breaker is told about
                every attempt. A refusal by it is retried only if its rest is over in time.

THREADS
    All calls on a breaker: any thread, also from hooks; create and destroy: owner. An rm_retry
    belongs to one thread at a time. No locks: one atomic word holds state, generation and deadline.
    A success while CLOSED with no failure on record writes nothing, and no clock is read while
    CLOSED. What happened before a transition is visible to the calls that see its state.

MEMORY
    rm_breaker_create allocates once: 511 bytes on a 64-bit system, cache-line padding included.
    Nothing else allocates. An rm_retry is plain memory of the caller, on the stack as a rule.

ERRORS
    RM_E_REJECTED  acquire, call: OPEN, or HALF_OPEN with all probes out
    RM_E_STALE     record: a late result, or the permit was reported before
    RM_E_FOREIGN   record: a permit of another breaker; it stays as it is
    RM_E_INVALID   a bad argument or setting; the error record names the field
    RM_E_TOO_LARGE a name above 47 bytes
    RM_E_NOMEM     create: no memory

GLOBALS
    None.
*/
#if defined(RM_BREAKER_VERSION) && RM_BREAKER_VERSION != 100
#error \
    "rm_breaker.h: two releases of rm_breaker.h meet in this file; use the headers of one release"
#endif
#include "rm.h"
#if RM_BASE_VERSION != 100
#error "rm_breaker.h: rm.h is of another release; use the headers of one release"
#endif
#ifndef RM_BREAKER_H_INCLUDED
#define RM_BREAKER_H_INCLUDED
#define RM_BREAKER_VERSION 100

#ifdef __cplusplus
extern "C" {
#endif

/* >>types --------------------------------------------------------------------------------- */

/* A circuit breaker. Opaque. */
typedef struct rm_breaker rm_breaker;

typedef enum rm_breaker_state {
    RM_BREAKER_STATE_CLOSED = 0, /* calls pass */
    RM_BREAKER_STATE_OPEN,       /* calls are refused until the rest is over */
    RM_BREAKER_STATE_HALF_OPEN   /* a few probes pass */
} rm_breaker_state;

/* One transition. */
typedef struct rm_breaker_event {
    uint64_t generation;   /* the one that begins; one more than that of the event before it */
    const char *name;      /* the breaker's */
    const char *reason;    /* "failures", "rest_over", "probes_succeeded", "probe_failed",
                              "probe_lost", "trip" or "reset" */
    int64_t rest_ns;       /* to OPEN: how long calls will be refused, with jitter; else 0 */
    rm_breaker_state from; /* never equal to `to` */
    rm_breaker_state to;
} rm_breaker_event;

/* What a breaker looks like now, and totals since its creation. Successes while CLOSED are not
   counted: counting them would cost more than all the rest of a guarded call. */
typedef struct rm_breaker_stats {
    uint64_t generation;           /* 1 at first; one more with every transition */
    int64_t retry_after_ns;        /* OPEN: what is left of the rest; else 0 */
    uint64_t opened;               /* transitions to OPEN */
    uint64_t rejected;             /* calls refused */
    uint64_t failures;             /* outcomes FAILURE */
    uint64_t ignored;              /* outcomes IGNORE */
    uint64_t late;                 /* results of an earlier generation, without effect */
    uint64_t probes;               /* calls let through as probes */
    uint64_t probe_successes;      /* outcomes OK of probes */
    uint64_t lost;                 /* probes given up after probe_wait_ns */
    uint64_t fallbacks;            /* calls that the fallback of rm_breaker_call answered */
    uint32_t consecutive_failures; /* CLOSED: on record now; else 0 */
    uint32_t probes_out;           /* HALF_OPEN: not reported yet; else 0 */
    rm_breaker_state state;
    bool probe_ready; /* the next call would be let through as a probe */
} rm_breaker_stats;

/* How waiting times are spread; t is min(cap, base * 2^attempt). */
typedef enum rm_jitter {
    RM_JITTER_FULL = 0,    /* at random in 0..t: the least load on what is retried */
    RM_JITTER_NONE,        /* t */
    RM_JITTER_EQUAL,       /* at random in t/2..t */
    RM_JITTER_DECORRELATED /* at random in base..3 * the wait before, at most cap */
} rm_jitter;

/* >>desc ---------------------------------------------------------------------------------- */

typedef struct rm_breaker_desc {
    const char *name;             /* 1 to 47 bytes, copied; 0 = "breaker" */
    const rm_env *env;            /* memory, clock, random numbers for the jitter, log for the
                                     transitions; 0 = defaults */
    int64_t open_ns;              /* the rest before probes are let through; 0 = 30 s; at most
                                     365 days */
    int64_t probe_wait_ns;        /* a probe not reported in this time is lost and opens it again;
                                     0 = open_ns; RM_FOREVER = never; at most 365 days */
    uint32_t failures;            /* consecutive failures that open it; 0 = 5 */
    uint32_t probes;              /* calls at once while HALF_OPEN; 0 = 1; at most 4095 */
    uint32_t probe_successes;     /* successes that close it; 0 = probes; at most 4095 */
    int32_t open_jitter_permille; /* the rest is lengthened by up to this share, at random;
                                     0 = 100; RM_NONE = not at all; at most 1000 */
    /* hook: the outcome that a status stands for, in rm_breaker_call and rm_retry_call; anything
       but an rm_outcome counts as FAILURE; 0 = rm_breaker_classify */
    rm_outcome (*classify_fn)(rm_status status, void *user);
    /* hook: told of every transition, once, by the thread that made it; 0 = none */
    void (*event_fn)(rm_breaker *breaker, const rm_breaker_event *event, void *user);
    void *user; /* last argument of the hooks */
} rm_breaker_desc;

typedef struct rm_retry_desc {
    const rm_env *env;          /* clock and random numbers; 0 = defaults */
    int64_t base_ns;            /* the first waiting time, before jitter; it doubles with every
                                   retry; 0 = 1 s, or cap_ns when that is shorter; RM_NONE = do not
                                   wait */
    int64_t cap_ns;             /* the longest waiting time; 0 = 30 s */
    int64_t max_retry_after_ns; /* give up when the other side asks for a longer wait than this;
                                   0 = 5 min; RM_NONE = wait as long as it asks */
    int32_t max_retries;        /* attempts after the first; 0 = 3; RM_NONE = none */
    rm_jitter jitter;           /* 0 = RM_JITTER_FULL */
    /* hook: may an attempt that ended so be made again? 0 = rm_retryable */
    bool (*retryable_fn)(rm_status status, void *user);
    void *user; /* last argument of retryable_fn */
} rm_retry_desc;

/* >>breaker ------------------------------------------------------------------------------- */

/* The defaults, filled in. probe_successes and probe_wait_ns stay 0: they follow other fields.
   Returns: the desc.
   Threads: any. Blocks: no. Allocates: no. */
RM_API rm_breaker_desc rm_breaker_desc_default(void);

/* The function behind rm_breaker_create. If the linker misses it, do what its name says.
   Returns: as rm_breaker_create.
   Threads: owner. Blocks: no. Allocates: yes. Owns: the caller. */
RM_API rm_status rm_abi1_define_RM_BREAKER_IMPLEMENTATION_in_one_c_file(const rm_breaker_desc *desc,
                                                                        rm_breaker **out,
                                                                        rm_error *error);

/* Makes a breaker, CLOSED; desc NULL = defaults.
   Returns: RM_E_INVALID naming the field; RM_E_TOO_LARGE for a long name; RM_E_NOMEM.
   Threads: owner. Blocks: no. Allocates: once. Owns: the caller; rm_breaker_destroy. */
static inline RM_MUST_USE rm_status rm_breaker_create(const rm_breaker_desc *desc, rm_breaker **out,
                                                      rm_error *error) {
    return rm_abi1_define_RM_BREAKER_IMPLEMENTATION_in_one_c_file(desc, out, error);
}

/* Ends a breaker; NULL is allowed. Permits that are out must not be reported any more.
   Threads: owner. Blocks: no. Allocates: no. */
RM_API void rm_breaker_destroy(rm_breaker *breaker);

/* Asks for leave to make one call. Report its outcome with rm_breaker_record.
   Returns: RM_E_REJECTED, with the state and the time that is left in the error; RM_E_INVALID for
   NULL.
   Threads: any. Blocks: no, except in event_fn. Allocates: no. */
RM_API RM_MUST_USE rm_status rm_breaker_acquire(rm_breaker *breaker, rm_permit *out,
                                                rm_error *error);

/* Reports how a call ended, and clears the permit.
   Returns: RM_E_STALE, without effect, for a late result, a permit that was reported before and a
   zeroed one; RM_E_FOREIGN for a permit of another breaker and RM_E_INVALID for NULL or no
   rm_outcome, which both leave the permit alone.
   Threads: any. Blocks: no, except in event_fn. Allocates: no. */
RM_API rm_status rm_breaker_record(rm_breaker *breaker, rm_permit *permit, rm_outcome outcome);

/* Calls fn(user, error) if the breaker lets it, and reports the outcome. When it does not, or when
   fn fails, fallback_fn (NULL = none) is called with what went wrong, reason->status included, and
   may still make the call a success. Both are hooks. Jumping out of fn (an exception, longjmp)
   leaves the permit unreported: see Lost.
   Returns: RM_OK from fn or fallback_fn; else the first failure, in status and error: RM_E_REJECTED
   or that of fn; RM_E_INVALID for NULL.
   Threads: any. Blocks: in fn and fallback_fn. Allocates: no. */
RM_API rm_status rm_breaker_call(rm_breaker *breaker, rm_status (*fn)(void *user, rm_error *error),
                                 rm_status (*fallback_fn)(void *user, const rm_error *reason),
                                 void *user, rm_error *error);

/* Opens the breaker by hand for a full rest; one that is OPEN rests anew, which is no transition.
   Returns: RM_E_INVALID for NULL.
   Threads: any. Blocks: no, except in event_fn. Allocates: no. */
RM_API rm_status rm_breaker_trip(rm_breaker *breaker);

/* Closes the breaker by hand and forgets its failures; one that is CLOSED only forgets them.
   Returns: RM_E_INVALID for NULL.
   Threads: any. Blocks: no, except in event_fn. Allocates: no. */
RM_API rm_status rm_breaker_reset(rm_breaker *breaker);

/* Makes a breaker usable in the child of a fork(). What it knows of the other side stays; the
   probes of a HALF_OPEN one are the parent's, so it becomes OPEN with its rest over: the child's
   next call probes. No event is told. Counters are at zero; permits from before count nowhere,
   unless they are of a CLOSED breaker.
   Returns: RM_E_INVALID for NULL.
   Threads: the child's only one. Blocks: no. Allocates: no. */
RM_API rm_status rm_breaker_after_fork_child(rm_breaker *breaker);

/* Reads state and counters, and changes nothing. State, generation and the numbers that belong to
   them are of one moment; counters may be ahead of it.
   Returns: RM_E_INVALID for NULL.
   Threads: any. Blocks: no. Allocates: no. */
RM_API rm_status rm_breaker_stats_get(const rm_breaker *breaker, rm_breaker_stats *out);

/* Names a state: "closed", "open", "half_open".
   Returns: a static string; "unknown" for a number that is no state.
   Threads: any. Blocks: no. Allocates: no. */
RM_API const char *rm_breaker_state_name(rm_breaker_state state);

/* What a status says about the one that was called, unless classify_fn says otherwise.
   Returns: OK for RM_OK, RM_E_NOT_FOUND and RM_E_EXISTS, which are answers. IGNORE for what is on
   the caller's side: RM_E_INVALID, _NOMEM, _CANCELLED, _CLOSED, _STALE, _FOREIGN, _REJECTED,
   _TOO_LARGE, _DEADLOCK, _STATE, _UNSUPPORTED. FAILURE for all else.
   Threads: any. Blocks: no. Allocates: no. */
RM_API rm_outcome rm_breaker_classify(rm_status status);

/* The breaker as the guard of a pool, a cache or anything else.
   Returns: a guard whose user is the breaker, which must outlive it.
   Threads: any. Blocks: no. Allocates: no. */
RM_API rm_guard rm_breaker_guard(rm_breaker *breaker);

/* The breaker as a resource of kind "breaker", with nothing to start or stop. Health: CLOSED is
   HEALTHY; OPEN and HALF_OPEN are DEGRADED, not UNHEALTHY, because the breaker works as it should
   and its process must not be restarted or taken out of service for what another one lacks.
   Returns: a resource whose user and name are the breaker's, which must outlive it.
   Threads: any. Blocks: no. Allocates: no. */
RM_API rm_resource rm_breaker_resource(rm_breaker *breaker);

/* >>retry --------------------------------------------------------------------------------- */

/* One operation with its retries. Private fields. */
typedef struct rm_retry {
    rm_env env;
    rm_retry_desc desc;
    rm_deadline deadline;
    int64_t previous_ns;
    uint32_t used;
} rm_retry;

/* What fn of rm_retry_call is told, and what it may tell. */
typedef struct rm_attempt {
    rm_deadline deadline;   /* of the whole operation */
    rm_cancel *cancel;      /* of the whole operation; may be NULL */
    int64_t retry_after_ns; /* out: the least wait the other side asks for (the Retry-After of
                               HTTP); 0 at first = none */
    uint32_t number;        /* 1 for the first attempt; what the breaker refused is not counted */
    rm_status last;         /* how the attempt before ended; RM_OK for the first */
} rm_attempt;

/* The defaults, filled in.
   Returns: the desc.
   Threads: any. Blocks: no. Allocates: no. */
RM_API rm_retry_desc rm_retry_desc_default(void);

/* The waiting time before retry number attempt, counted from 0. base_ns 0 = 1 s, cap_ns 0 = 30 s,
   negative ones = no wait; previous_ns is the wait before (DECORRELATED only; 0 at first); random
   NULL = the operating system.
   Returns: 0 to cap_ns, whatever the arguments.
   Threads: any. Blocks: no. Allocates: no. */
RM_API int64_t rm_backoff(rm_jitter jitter, int64_t base_ns, int64_t cap_ns, uint32_t attempt,
                          int64_t previous_ns, const rm_random *random);

/* Tells whether it makes sense to try again after a status, unless retryable_fn says otherwise. Two
   things it cannot know: whether the operation may be done twice, and whether it was done.
   Returns: true for RM_E_NOMEM, _TIMEOUT, _BUSY, _FULL, _REJECTED, _SYSTEM, _FAILED and _REFUSED.
   Threads: any. Blocks: no. Allocates: no. */
RM_API bool rm_retryable(rm_status status);

/* Starts a sequence of attempts; desc NULL = defaults; a zeroed deadline never passes.
   Returns: RM_E_INVALID naming the field, or for NULL.
   Threads: owner. Blocks: no. Allocates: no. */
RM_API RM_MUST_USE rm_status rm_retry_begin(rm_retry *retry, const rm_retry_desc *desc,
                                            rm_deadline deadline, rm_error *error);

/* Decides after a failed attempt. retry_after_ns > 0: the other side asked for at least this wait.
   Returns: RM_OK: wait *wait_ns, then try again. Else give up, with the status that was handed in:
   not retryable, no retries left, asked to wait for too long, or the wait would not end before the
   deadline. RM_E_INVALID for NULL or status RM_OK.
   Threads: owner. Blocks: in retryable_fn. Allocates: no. */
RM_API RM_MUST_USE rm_status rm_retry_next(rm_retry *retry, rm_status status,
                                           int64_t retry_after_ns, int64_t *wait_ns);

/* Calls fn until it succeeds or there is reason to give up, and sleeps in between. With a breaker
   (may be NULL) every attempt needs its leave and is reported to it. fn is a hook; desc NULL =
   defaults; cancel may be NULL.
   Returns: RM_OK; the status and error of the last attempt that was made, or RM_E_REJECTED when the
   breaker let none through; RM_E_TIMEOUT when the deadline has passed before the first;
   RM_E_CANCELLED; RM_E_INVALID naming the field, or for fn NULL; what rm_sleep returned.
   Threads: any. Blocks: in fn, and for the waits. Allocates: no. */
RM_API rm_status rm_retry_call(const rm_retry_desc *desc, rm_breaker *breaker, rm_deadline deadline,
                               rm_cancel *cancel,
                               rm_status (*fn)(void *user, rm_attempt *attempt, rm_error *error),
                               void *user, rm_error *error);

#ifdef __cplusplus
}
#endif
#endif /* RM_BREAKER_H_INCLUDED */

#if defined(RM_BREAKER_IMPLEMENTATION) && !defined(RM_BREAKER_IMPLEMENTATION_DONE)
#define RM_BREAKER_IMPLEMENTATION_DONE

#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* >>private types ------------------------------------------------------------------------- */

#ifndef RMI_BREAKER_GENERATION_BITS
#define RMI_BREAKER_GENERATION_BITS 23 /* tests of the tag define fewer, no less than 2 */
#endif

/* The word: state:3, generation:23, payload:38. The payload is
     CLOSED     the consecutive failures
     OPEN       the end of the rest, in ms on the clock, modulo 2^38 (8.7 years)
     HALF_OPEN  issued:14 (modulo, so that a word does not come back), successes:12, out:12
   State, generation and deadline change together or not at all; who wins the compare-and-swap of a
   transition tells of it. Times are compared modulo 2^38, as sequence numbers are. */
enum {
    RMI_BREAKER_PAYLOAD = 38,
    RMI_BREAKER_GENERATION = RMI_BREAKER_GENERATION_BITS,
    RMI_BREAKER_COUNT = 12, /* bits of out, and of successes */
    RMI_BREAKER_MAX_PROBES = 4095,
    RMI_BREAKER_SHARDS = 4,
    RMI_BREAKER_NAME = 47
};
#define RMI_BREAKER_MASK(bits) ((UINT64_C(1) << (bits)) - 1)
#define RMI_BREAKER_LONGEST (RM_SEC(86400) * 365)
#define RMI_BREAKER_MS RM_MS(1)
/* The coarse clock may be behind the fine one by this; only a larger step back is taken for one. */
#define RMI_BREAKER_COARSE RM_MS(20)

/* What is counted off the success path, on a line of its own for every few threads. */
typedef struct rmi_breaker_counts {
    RMI_ALIGN(64) rmi_word64 rejected;
    uint64_t failures;
    uint64_t ignored;
    uint64_t late;
    uint64_t probes;
    uint64_t probe_successes;
    uint64_t lost;
    uint64_t fallbacks;
} rmi_breaker_counts;

struct rm_breaker {
    RMI_ALIGN(64) rmi_word64 word;
    uint64_t id;         /* random: the owner in its permits */
    uint64_t probe;      /* generation:23, ms:38: when the latest probe will be lost */
    uint64_t generation; /* in full; the word's 23 bits are extended by it */
    uint64_t opened;
    int64_t wait_ns; /* RM_FOREVER = probes are never lost */
    int64_t open_ns;
    int64_t jitter_ns;
    uint32_t failures;
    uint32_t probes;
    uint32_t probe_successes;
    char name[RMI_BREAKER_NAME + 1];
    rm_env env;
    rm_outcome (*classify_fn)(rm_status status, void *user);
    void (*event_fn)(rm_breaker *breaker, const rm_breaker_event *event, void *user);
    void *user;
    void *memory; /* as allocated, not aligned */
    rmi_breaker_counts counts[RMI_BREAKER_SHARDS];
};

/* >>core ---------------------------------------------------------------------------------- */

static inline uint64_t rmi_breaker_make(rm_breaker_state state, uint64_t generation,
                                        uint64_t payload) {
    generation &= RMI_BREAKER_MASK(RMI_BREAKER_GENERATION);
    return (uint64_t)state << (RMI_BREAKER_PAYLOAD + RMI_BREAKER_GENERATION) |
           generation << RMI_BREAKER_PAYLOAD | (payload & RMI_BREAKER_MASK(RMI_BREAKER_PAYLOAD));
}

static inline rm_breaker_state rmi_breaker_state(uint64_t word) {
    return (rm_breaker_state)(word >> (RMI_BREAKER_PAYLOAD + RMI_BREAKER_GENERATION));
}

static inline uint64_t rmi_breaker_payload(uint64_t word) {
    return word & RMI_BREAKER_MASK(RMI_BREAKER_PAYLOAD);
}

/* The 23 bits of a word or of a probe deadline. */
static inline uint64_t rmi_breaker_bits(uint64_t word) {
    return word >> RMI_BREAKER_PAYLOAD & RMI_BREAKER_MASK(RMI_BREAKER_GENERATION);
}

static inline uint64_t rmi_breaker_out(uint64_t word) {
    return word & RMI_BREAKER_MASK(RMI_BREAKER_COUNT);
}

static inline uint64_t rmi_breaker_successes(uint64_t word) {
    return word >> RMI_BREAKER_COUNT & RMI_BREAKER_MASK(RMI_BREAKER_COUNT);
}

/* One probe more: issued + 1, out + 1. The payload's mask lets issued wrap. */
static inline uint64_t rmi_breaker_issue(uint64_t word) {
    uint64_t step = (UINT64_C(1) << 2 * RMI_BREAKER_COUNT) + 1;
    return rmi_breaker_make(rmi_breaker_state(word), rmi_breaker_bits(word),
                            rmi_breaker_payload(word) + step);
}

/* A distance modulo 2^bits, between -2^(bits-1) and 2^(bits-1) - 1. */
static int64_t rmi_breaker_distance(uint64_t to, uint64_t from, unsigned bits) {
    uint64_t gap = (to - from) & RMI_BREAKER_MASK(bits);
    if (gap >> (bits - 1) == 0) return (int64_t)gap;
    return (int64_t)gap - (int64_t)(UINT64_C(1) << bits);
}

/* Whole milliseconds, rounded down also below 0. */
static uint64_t rmi_breaker_ms(int64_t ns) {
    int64_t ms = ns / RMI_BREAKER_MS - (ns % RMI_BREAKER_MS < 0);
    return (uint64_t)ms & RMI_BREAKER_MASK(RMI_BREAKER_PAYLOAD);
}

/* The millisecond in which ns from now have passed. */
static uint64_t rmi_breaker_after(int64_t now_ns, int64_t ns) {
    return rmi_breaker_ms(rm_time_add(rm_time_add(now_ns, ns), RMI_BREAKER_MS - 1));
}

/* The nanoseconds until a millisecond begins; <= 0 when it has. */
static int64_t rmi_breaker_until(uint64_t ms, int64_t now_ns) {
    int64_t part = now_ns % RMI_BREAKER_MS;
    part += part < 0 ? RMI_BREAKER_MS : 0;
    int64_t gap = rmi_breaker_distance(ms, rmi_breaker_ms(now_ns), RMI_BREAKER_PAYLOAD);
    return gap * RMI_BREAKER_MS - part;
}

/* As rmi_breaker_until, by the coarse clock (3 ns) unless the end is near or it makes no sense. */
static int64_t rmi_breaker_left(const rm_breaker *b, uint64_t ms, int64_t longest_ns) {
    int64_t left = rmi_breaker_until(ms, rm_now_coarse(b->env.clock));
    if (left > RMI_BREAKER_COARSE && left <= longest_ns) return left;
    return rmi_breaker_until(ms, rm_now(b->env.clock));
}

/* No rest and no probe can have more time left than this, unless the clock went back. */
static int64_t rmi_breaker_longest(int64_t ns) {
    return ns + RMI_BREAKER_MS + RMI_BREAKER_COARSE;
}

static rmi_breaker_counts *rmi_breaker_shard(rm_breaker *b) {
    return &b->counts[rm_thread_number() % RMI_BREAKER_SHARDS];
}

/* The generation of a word in full: b->generation lags behind by the transitions under way only. */
static uint64_t rmi_breaker_generation(const rm_breaker *b, uint64_t word) {
    uint64_t known = RMI_LOAD64(&b->generation, RELAXED);
    return known +
           (uint64_t)rmi_breaker_distance(rmi_breaker_bits(word), known, RMI_BREAKER_GENERATION);
}

static void rmi_breaker_tell(rm_breaker *b, const rm_breaker_event *event) {
    if (b->env.log != NULL) {
        rm_kv values[6];
        values[0] = rm_kv_string("breaker", event->name);
        values[1] = rm_kv_string("from", rm_breaker_state_name(event->from));
        values[2] = rm_kv_string("to", rm_breaker_state_name(event->to));
        values[3] = rm_kv_string("reason", event->reason);
        values[4] = rm_kv_int("generation", (int64_t)event->generation);
        values[5] = rm_kv_int("rest_ms", event->rest_ns / RMI_BREAKER_MS);
        rm_log_emit(b->env.log, b->env.clock,
                    event->to == RM_BREAKER_STATE_OPEN ? RM_LOG_WARN : RM_LOG_INFO, "rm_breaker",
                    "state_changed", values, 6);
    }
    if (b->event_fn != NULL) b->event_fn(b, event, b->user);
}

/* Replaces *word by next if it is still there. *word is what is there now either way. */
static bool rmi_breaker_swap(rm_breaker *b, uint64_t *word, uint64_t next) {
    bool done = RMI_CAS64(&b->word, word, next, RELEASE);
    *word = done ? next : RMI_LOAD64(&b->word, ACQUIRE);
    return done;
}

/* Makes a transition from *word. True: this thread made it and has told of it. *word is what is
   there now either way. */
static bool rmi_breaker_move(rm_breaker *b, uint64_t *word, uint64_t next, const char *reason,
                             int64_t rest_ns) {
    uint64_t before = *word;
    if (!rmi_breaker_swap(b, word, next)) return false;
    rm_breaker_event event;
    event.generation = rmi_breaker_generation(b, next);
    uint64_t known = RMI_LOAD64(&b->generation, RELAXED);
    while (known < event.generation &&
           !RMI_CAS64(&b->generation, &known, event.generation, RELAXED)) {}
    event.name = b->name;
    event.reason = reason;
    event.rest_ns = rest_ns;
    event.from = rmi_breaker_state(before);
    event.to = rmi_breaker_state(next);
    if (event.to == RM_BREAKER_STATE_OPEN) RMI_ADD64(&b->opened, 1, RELAXED);
    rmi_breaker_tell(b, &event);
    return true;
}

static bool rmi_breaker_close(rm_breaker *b, uint64_t *word, const char *reason) {
    uint64_t next = rmi_breaker_make(RM_BREAKER_STATE_CLOSED, rmi_breaker_bits(*word) + 1, 0);
    return rmi_breaker_move(b, word, next, reason, 0);
}

/* The end of a rest that begins now. */
static uint64_t rmi_breaker_rest(const rm_breaker *b, int64_t *rest_ns) {
    *rest_ns = b->open_ns;
    if (b->jitter_ns > 0)
        *rest_ns += (int64_t)rm_random_below(b->env.random, (uint64_t)b->jitter_ns + 1);
    return rmi_breaker_after(rm_now(b->env.clock), *rest_ns);
}

static bool rmi_breaker_open(rm_breaker *b, uint64_t *word, const char *reason) {
    int64_t rest_ns;
    uint64_t end = rmi_breaker_rest(b, &rest_ns);
    uint64_t next = rmi_breaker_make(RM_BREAKER_STATE_OPEN, rmi_breaker_bits(*word) + 1, end);
    return rmi_breaker_move(b, word, next, reason, rest_ns);
}

/* Gives an OPEN breaker a full rest from now on. */
static bool rmi_breaker_rest_again(rm_breaker *b, uint64_t *word) {
    int64_t rest_ns;
    uint64_t end = rmi_breaker_rest(b, &rest_ns);
    uint64_t next = rmi_breaker_make(RM_BREAKER_STATE_OPEN, rmi_breaker_bits(*word), end);
    return rmi_breaker_swap(b, word, next);
}

/* >>probes -------------------------------------------------------------------------------- */

/* Sets the probe deadline of a generation to a full wait from now, if that is later than what is
   there. It is called before the probe is published with the word, so that whoever sees the probe
   sees its deadline. */
static void rmi_breaker_expect(rm_breaker *b, uint64_t generation) {
    if (b->wait_ns == RM_FOREVER) return;
    uint64_t end = rmi_breaker_after(rm_now(b->env.clock), b->wait_ns);
    uint64_t next = rmi_breaker_make(RM_BREAKER_STATE_CLOSED, generation, end);
    uint64_t seen = RMI_LOAD64(&b->probe, RELAXED);
    for (;;) {
        int64_t newer = rmi_breaker_distance(rmi_breaker_bits(next), rmi_breaker_bits(seen),
                                             RMI_BREAKER_GENERATION);
        if (newer == 0) newer = rmi_breaker_distance(next, seen, RMI_BREAKER_PAYLOAD);
        if (newer <= 0 || RMI_CAS64(&b->probe, &seen, next, RELAXED)) return;
    }
}

/* Are there probes out whose time is over? A deadline that cannot be (the clock went back, or a
   thread that slept for many generations wrote it) is replaced by a full wait from now. */
static bool rmi_breaker_overdue(rm_breaker *b, uint64_t word) {
    if (b->wait_ns == RM_FOREVER || rmi_breaker_out(word) == 0) return false;
    uint64_t seen = RMI_LOAD64(&b->probe, RELAXED);
    int64_t longest = rmi_breaker_longest(b->wait_ns);
    int64_t left = rmi_breaker_left(b, rmi_breaker_payload(seen), longest);
    if (rmi_breaker_bits(seen) == rmi_breaker_bits(word) && left <= longest) return left <= 0;
    uint64_t end = rmi_breaker_after(rm_now(b->env.clock), b->wait_ns);
    RMI_CAS64(&b->probe, &seen,
              rmi_breaker_make(RM_BREAKER_STATE_CLOSED, rmi_breaker_bits(word), end), RELAXED);
    return false;
}

/* OPEN: true when this call became the first probe; else *left_ns > 0, or *word is a new one. */
static bool rmi_breaker_probe_first(rm_breaker *b, uint64_t *word, int64_t *left_ns) {
    int64_t longest = rmi_breaker_longest(b->open_ns + b->jitter_ns);
    int64_t left = rmi_breaker_left(b, rmi_breaker_payload(*word), longest);
    if (left > longest) {
        rmi_breaker_rest_again(b, word);
        return false;
    }
    if (left > 0) {
        *left_ns = left;
        return false;
    }
    uint64_t generation = rmi_breaker_bits(*word) + 1;
    uint64_t next = rmi_breaker_make(RM_BREAKER_STATE_HALF_OPEN, generation, 0);
    rmi_breaker_expect(b, generation);
    return rmi_breaker_move(b, word, rmi_breaker_issue(next), "rest_over", 0);
}

/* HALF_OPEN: true when this call became a probe; else *full, or *word is a new one. */
static bool rmi_breaker_probe_next(rm_breaker *b, uint64_t *word, bool *full) {
    uint64_t out = rmi_breaker_out(*word);
    if (rmi_breaker_overdue(b, *word)) {
        if (rmi_breaker_open(b, word, "probe_lost"))
            RMI_ADD64(&rmi_breaker_shard(b)->lost, out, RELAXED);
        return false;
    }
    *full = out >= b->probes;
    if (*full) return false;
    rmi_breaker_expect(b, rmi_breaker_bits(*word));
    return rmi_breaker_swap(b, word, rmi_breaker_issue(*word));
}

static rm_status rmi_breaker_reject(rm_breaker *b, int64_t left_ns, rm_error *error) {
    RMI_ADD64(&rmi_breaker_shard(b)->rejected, 1, RELAXED);
    if (error == NULL) return RM_E_REJECTED;
    if (left_ns <= 0)
        return rm_error_set(error, RM_E_REJECTED, 0, b->name,
                            "the breaker is half_open and all its probes are out: %u", b->probes);
    int64_t ms = (left_ns + RMI_BREAKER_MS - 1) / RMI_BREAKER_MS;
    bool fine = ms < 100000;
    return rm_error_set(error, RM_E_REJECTED, 0, b->name,
                        "the breaker is open; the next probe is let through in %u %s",
                        (unsigned)(fine ? ms : (ms + 999) / 1000), fine ? "ms" : "s");
}

static inline rm_status rmi_breaker_grant(const rm_breaker *b, uint64_t word, rm_permit *out) {
    out->word = (word & ~RMI_BREAKER_MASK(RMI_BREAKER_PAYLOAD)) | 1; /* never 0 */
    out->owner = b->id;
    return RM_OK;
}

/* Leave for a call when it is not simply CLOSED. *left_ns is what is left of the rest, for a
   refusal; else 0. */
static rm_status rmi_breaker_admit(rm_breaker *b, uint64_t word, rm_permit *out, int64_t *left_ns,
                                   rm_error *error) {
    for (;;) {
        bool probe = false, full = false;
        *left_ns = 0;
        if (rmi_breaker_state(word) == RM_BREAKER_STATE_CLOSED)
            return rmi_breaker_grant(b, word, out);
        if (rmi_breaker_state(word) == RM_BREAKER_STATE_OPEN)
            probe = rmi_breaker_probe_first(b, &word, left_ns);
        else
            probe = rmi_breaker_probe_next(b, &word, &full);
        if (full || *left_ns > 0) return rmi_breaker_reject(b, *left_ns, error);
        if (probe) {
            RMI_ADD64(&rmi_breaker_shard(b)->probes, 1, RELAXED);
            return rmi_breaker_grant(b, word, out);
        }
    }
}

/* Leave for a call. *left_ns as in rmi_breaker_admit. */
static inline rm_status rmi_breaker_enter(rm_breaker *b, rm_permit *out, int64_t *left_ns,
                                          rm_error *error) {
    uint64_t word = RMI_LOAD64(&b->word, ACQUIRE);
    *left_ns = 0;
    if (rmi_breaker_state(word) == RM_BREAKER_STATE_CLOSED) return rmi_breaker_grant(b, word, out);
    return rmi_breaker_admit(b, word, out, left_ns, error);
}

/* >>outcomes ------------------------------------------------------------------------------ */

/* One outcome while CLOSED; false when *word has changed meanwhile. */
static bool rmi_breaker_count_call(rm_breaker *b, uint64_t *word, rm_outcome outcome) {
    uint64_t failures = rmi_breaker_payload(*word);
    if (outcome == RM_OUTCOME_OK)
        return failures == 0 || rmi_breaker_swap(b, word, *word - failures);
    if (outcome == RM_OUTCOME_IGNORE) return true;
    if (failures + 1 >= b->failures) return rmi_breaker_open(b, word, "failures");
    return rmi_breaker_swap(b, word, *word + 1);
}

/* One outcome of a probe; false when *word has changed meanwhile. */
static bool rmi_breaker_count_probe(rm_breaker *b, uint64_t *word, rm_outcome outcome) {
    if (outcome == RM_OUTCOME_FAILURE) return rmi_breaker_open(b, word, "probe_failed");
    uint64_t next = *word - 1; /* its place is free again */
    if (outcome == RM_OUTCOME_OK) {
        if (rmi_breaker_successes(*word) + 1 >= b->probe_successes)
            return rmi_breaker_close(b, word, "probes_succeeded");
        next += UINT64_C(1) << RMI_BREAKER_COUNT;
    }
    return rmi_breaker_swap(b, word, next);
}

static rm_status rmi_breaker_late(rm_breaker *b) {
    RMI_ADD64(&rmi_breaker_shard(b)->late, 1, RELAXED);
    return RM_E_STALE;
}

/* record when it is not simply a success with nothing to do. */
static rm_status rmi_breaker_apply(rm_breaker *b, uint64_t word, uint64_t held,
                                   rm_outcome outcome) {
    bool probe = false, done = false;
    while (!done) {
        if ((word ^ held) >> RMI_BREAKER_PAYLOAD != 0) return rmi_breaker_late(b);
        if (rmi_breaker_state(word) == RM_BREAKER_STATE_OPEN) /* forged: it gives no permits */
            return rmi_breaker_late(b);
        probe = rmi_breaker_state(word) == RM_BREAKER_STATE_HALF_OPEN;
        if (probe && rmi_breaker_out(word) == 0) /* a copy of a permit that was reported */
            return rmi_breaker_late(b);
        done = probe ? rmi_breaker_count_probe(b, &word, outcome)
                     : rmi_breaker_count_call(b, &word, outcome);
    }
    if (outcome == RM_OUTCOME_FAILURE)
        RMI_ADD64(&rmi_breaker_shard(b)->failures, 1, RELAXED);
    else if (outcome == RM_OUTCOME_IGNORE)
        RMI_ADD64(&rmi_breaker_shard(b)->ignored, 1, RELAXED);
    else if (probe)
        RMI_ADD64(&rmi_breaker_shard(b)->probe_successes, 1, RELAXED);
    return RM_OK;
}

static inline rm_outcome rmi_breaker_outcome(const rm_breaker *b, rm_status status) {
    if (b->classify_fn == NULL)
        return status == RM_OK ? RM_OUTCOME_OK : rm_breaker_classify(status);
    rm_outcome outcome = b->classify_fn(status, b->user);
    return outcome == RM_OUTCOME_OK || outcome == RM_OUTCOME_IGNORE ? outcome : RM_OUTCOME_FAILURE;
}

/* >>errors -------------------------------------------------------------------------------- */

/* An empty record for a hook to fill; NULL stays NULL. */
static void rmi_breaker_error_clear(rm_error *error) {
    if (error == NULL) return;
    error->native = 0;
    error->status = RM_OK;
    error->where[0] = '\0';
    error->message[0] = '\0';
}

/* Makes sure that the record of a failed hook says something, and what was returned. */
static void rmi_breaker_error_finish(rm_error *error, rm_status status, const char *where) {
    if (error == NULL) return;
    if (error->status == RM_OK)
        rm_error_set(error, status, 0, where, "failed with %s and said no more",
                     rm_status_name(status));
    error->status = status;
}

/* >>create -------------------------------------------------------------------------------- */

RM_API rm_breaker_desc rm_breaker_desc_default(void) {
    rm_breaker_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.name = "breaker";
    desc.open_ns = RM_SEC(30);
    desc.failures = 5;
    desc.probes = 1;
    desc.open_jitter_permille = 100;
    return desc;
}

static rm_status rmi_breaker_bad(rm_error *error, const char *field, const char *wanted) {
    return rm_error_set(error, RM_E_INVALID, 0, field, "must be %s", wanted);
}

/* Checks a desc and fills in what it leaves open. */
static rm_status rmi_breaker_resolve(rm_breaker_desc *desc, rm_env *env, rm_error *error) {
    rm_breaker_desc standard = rm_breaker_desc_default();
    rm_status status = rm_env_resolve(desc->env, env, error);
    if (status != RM_OK) return status;
    if (desc->name == NULL) desc->name = standard.name;
    if (desc->name[0] == '\0')
        return rmi_breaker_bad(error, "name", "0 (breaker) or 1 to 47 bytes");
    if (!rmi_name_fits(desc->name, RMI_BREAKER_NAME))
        return rm_error_set(error, RM_E_TOO_LARGE, 0, "name", "must be at most 47 bytes");
    if (desc->open_ns < 0 || desc->open_ns > RMI_BREAKER_LONGEST)
        return rmi_breaker_bad(error, "open_ns", "0 (30 s) or up to 365 days");
    desc->open_ns = desc->open_ns == 0 ? standard.open_ns : desc->open_ns;
    if ((desc->probe_wait_ns < 0 && desc->probe_wait_ns != RM_FOREVER) ||
        desc->probe_wait_ns > RMI_BREAKER_LONGEST)
        return rmi_breaker_bad(error, "probe_wait_ns",
                               "0 (open_ns), up to 365 days, or RM_FOREVER");
    desc->probe_wait_ns = desc->probe_wait_ns == 0 ? desc->open_ns : desc->probe_wait_ns;
    desc->failures = desc->failures == 0 ? standard.failures : desc->failures;
    if (desc->probes > RMI_BREAKER_MAX_PROBES)
        return rmi_breaker_bad(error, "probes", "at most 4095");
    desc->probes = desc->probes == 0 ? standard.probes : desc->probes;
    if (desc->probe_successes > RMI_BREAKER_MAX_PROBES)
        return rmi_breaker_bad(error, "probe_successes", "at most 4095");
    desc->probe_successes = desc->probe_successes == 0 ? desc->probes : desc->probe_successes;
    if ((desc->open_jitter_permille < 0 && desc->open_jitter_permille != RM_NONE) ||
        desc->open_jitter_permille > 1000)
        return rmi_breaker_bad(error, "open_jitter_permille", "0 (100), 1 to 1000, or RM_NONE");
    if (desc->open_jitter_permille == 0) desc->open_jitter_permille = standard.open_jitter_permille;
    return RM_OK;
}

RM_API rm_status rm_abi1_define_RM_BREAKER_IMPLEMENTATION_in_one_c_file(const rm_breaker_desc *desc,
                                                                        rm_breaker **out,
                                                                        rm_error *error) {
    if (out == NULL) return rmi_breaker_bad(error, "out", "an address");
    rm_breaker_desc d = desc != NULL ? *desc : rm_breaker_desc_default();
    rm_env env;
    rm_status status = rmi_breaker_resolve(&d, &env, error);
    if (status != RM_OK) return status;
    void *memory = rm_alloc(env.allocator, sizeof(rm_breaker) + 63);
    if (memory == NULL)
        return rm_error_set(error, RM_E_NOMEM, 0, d.name, "no memory for a breaker");
    /* malloc gives 16-byte alignment; the words need a cache line of their own */
    size_t gap = (64 - (size_t)((uintptr_t)memory & 63)) & 63;
    rm_breaker *b = (rm_breaker *)(void *)((unsigned char *)memory + gap);
    memset(b, 0, sizeof *b);
    b->memory = memory;
    b->generation = 1;
    b->word = rmi_breaker_make(RM_BREAKER_STATE_CLOSED, b->generation, 0);
    b->id = rm_random_seed();
    b->wait_ns = d.probe_wait_ns;
    b->open_ns = d.open_ns;
    b->jitter_ns = d.open_jitter_permille > 0 ? d.open_ns / 1000 * d.open_jitter_permille : 0;
    b->failures = d.failures;
    b->probes = d.probes;
    b->probe_successes = d.probe_successes;
    memcpy(b->name, d.name, strlen(d.name));
    b->env = env;
    b->classify_fn = d.classify_fn;
    b->event_fn = d.event_fn;
    b->user = d.user;
    *out = b;
    return RM_OK;
}

RM_API void rm_breaker_destroy(rm_breaker *breaker) {
    if (breaker != NULL) rm_free(breaker->env.allocator, breaker->memory, sizeof *breaker + 63);
}

/* >>breaker calls ------------------------------------------------------------------------- */

RM_API rm_status rm_breaker_acquire(rm_breaker *breaker, rm_permit *out, rm_error *error) {
    if (breaker == NULL || out == NULL)
        return rmi_breaker_bad(error, breaker == NULL ? "breaker" : "out", "an address");
    int64_t left_ns;
    return rmi_breaker_enter(breaker, out, &left_ns, error);
}

RM_API rm_status rm_breaker_record(rm_breaker *breaker, rm_permit *permit, rm_outcome outcome) {
    if (breaker == NULL || permit == NULL || (unsigned)outcome > RM_OUTCOME_IGNORE)
        return RM_E_INVALID;
    uint64_t held = permit->word;
    if (held == 0) return RM_E_STALE;
    if (permit->owner != breaker->id) return RM_E_FOREIGN;
    permit->word = 0;
    permit->owner = 0;
    uint64_t word = RMI_LOAD64(&breaker->word, ACQUIRE);
    /* CLOSED is 0: same generation, no failure on record, and there is nothing to write */
    if (outcome == RM_OUTCOME_OK && word + 1 == held &&
        rmi_breaker_state(word) == RM_BREAKER_STATE_CLOSED)
        return RM_OK;
    return rmi_breaker_apply(breaker, word, held, outcome);
}

/* The end of a call that failed or was refused; first is NULL when nobody wants to know why. */
static rm_status rmi_breaker_fall_back(rm_breaker *b, rm_status status,
                                       rm_status (*fallback_fn)(void *user, const rm_error *reason),
                                       void *user, rm_error *first, rm_error *error) {
    rmi_breaker_error_finish(first, status, b->name);
    if (fallback_fn != NULL && fallback_fn(user, first) == RM_OK) {
        RMI_ADD64(&rmi_breaker_shard(b)->fallbacks, 1, RELAXED);
        return RM_OK;
    }
    if (error != NULL) *error = *first;
    return status;
}

RM_API rm_status rm_breaker_call(rm_breaker *breaker, rm_status (*fn)(void *user, rm_error *error),
                                 rm_status (*fallback_fn)(void *user, const rm_error *reason),
                                 void *user, rm_error *error) {
    if (breaker == NULL || fn == NULL)
        return rmi_breaker_bad(error, breaker == NULL ? "breaker" : "fn", "an address");
    rm_error first;
    rm_error *reason = error != NULL || fallback_fn != NULL ? &first : NULL;
    rm_permit permit;
    rmi_breaker_error_clear(reason);
    rm_status status = rm_breaker_acquire(breaker, &permit, reason);
    if (status == RM_OK) {
        status = fn(user, reason);
        rm_breaker_record(breaker, &permit, rmi_breaker_outcome(breaker, status));
        if (status == RM_OK) return RM_OK;
    }
    return rmi_breaker_fall_back(breaker, status, fallback_fn, user, reason, error);
}

RM_API rm_status rm_breaker_trip(rm_breaker *breaker) {
    if (breaker == NULL) return RM_E_INVALID;
    uint64_t word = RMI_LOAD64(&breaker->word, ACQUIRE);
    for (;;) {
        bool done = rmi_breaker_state(word) == RM_BREAKER_STATE_OPEN
                        ? rmi_breaker_rest_again(breaker, &word)
                        : rmi_breaker_open(breaker, &word, "trip");
        if (done) return RM_OK;
    }
}

RM_API rm_status rm_breaker_reset(rm_breaker *breaker) {
    if (breaker == NULL) return RM_E_INVALID;
    uint64_t word = RMI_LOAD64(&breaker->word, ACQUIRE);
    for (;;) {
        bool done = rmi_breaker_state(word) == RM_BREAKER_STATE_CLOSED
                        ? rmi_breaker_count_call(breaker, &word, RM_OUTCOME_OK)
                        : rmi_breaker_close(breaker, &word, "reset");
        if (done) return RM_OK;
    }
}

RM_API rm_status rm_breaker_after_fork_child(rm_breaker *breaker) {
    if (breaker == NULL) return RM_E_INVALID;
    uint64_t word = breaker->word;
    if (rmi_breaker_state(word) == RM_BREAKER_STATE_HALF_OPEN) {
        breaker->generation = rmi_breaker_generation(breaker, word) + 1;
        breaker->word = rmi_breaker_make(RM_BREAKER_STATE_OPEN, breaker->generation,
                                         rmi_breaker_ms(rm_now(breaker->env.clock)));
    }
    breaker->opened = 0;
    memset(breaker->counts, 0, sizeof breaker->counts);
    return RM_OK;
}

/* >>statistics ---------------------------------------------------------------------------- */

/* The part of the statistics that comes from the word, and from the clock unless it is CLOSED. */
static void rmi_breaker_describe(const rm_breaker *b, uint64_t word, rm_breaker_stats *out) {
    out->generation = rmi_breaker_generation(b, word);
    out->state = rmi_breaker_state(word);
    if (out->state == RM_BREAKER_STATE_CLOSED) {
        out->consecutive_failures = (uint32_t)rmi_breaker_payload(word);
        return;
    }
    int64_t now = rm_now(b->env.clock);
    if (out->state == RM_BREAKER_STATE_OPEN) {
        int64_t left = rmi_breaker_until(rmi_breaker_payload(word), now);
        int64_t longest = b->open_ns + b->jitter_ns + RMI_BREAKER_MS;
        out->retry_after_ns = left < 0 ? 0 : left > longest ? longest : left;
        out->probe_ready = left <= 0;
        return;
    }
    uint64_t probe = RMI_LOAD64(&b->probe, RELAXED);
    out->probes_out = (uint32_t)rmi_breaker_out(word);
    bool lost = b->wait_ns != RM_FOREVER && out->probes_out > 0 &&
                rmi_breaker_bits(probe) == rmi_breaker_bits(word) &&
                rmi_breaker_until(rmi_breaker_payload(probe), now) <= 0;
    out->probe_ready = !lost && out->probes_out < b->probes;
}

RM_API rm_status rm_breaker_stats_get(const rm_breaker *breaker, rm_breaker_stats *out) {
    if (breaker == NULL || out == NULL) return RM_E_INVALID;
    rm_breaker_stats stats;
    memset(&stats, 0, sizeof stats);
    rmi_breaker_describe(breaker, RMI_LOAD64(&breaker->word, ACQUIRE), &stats);
    stats.opened = RMI_LOAD64(&breaker->opened, RELAXED);
    for (int i = 0; i < RMI_BREAKER_SHARDS; i++) {
        const rmi_breaker_counts *counts = &breaker->counts[i];
        stats.rejected += RMI_LOAD64(&counts->rejected, RELAXED);
        stats.failures += RMI_LOAD64(&counts->failures, RELAXED);
        stats.ignored += RMI_LOAD64(&counts->ignored, RELAXED);
        stats.late += RMI_LOAD64(&counts->late, RELAXED);
        stats.probes += RMI_LOAD64(&counts->probes, RELAXED);
        stats.probe_successes += RMI_LOAD64(&counts->probe_successes, RELAXED);
        stats.lost += RMI_LOAD64(&counts->lost, RELAXED);
        stats.fallbacks += RMI_LOAD64(&counts->fallbacks, RELAXED);
    }
    *out = stats;
    return RM_OK;
}

RM_API const char *rm_breaker_state_name(rm_breaker_state state) {
    switch (state) {
    case RM_BREAKER_STATE_CLOSED: return "closed";
    case RM_BREAKER_STATE_OPEN: return "open";
    case RM_BREAKER_STATE_HALF_OPEN: return "half_open";
    }
    return "unknown";
}

RM_API rm_outcome rm_breaker_classify(rm_status status) {
    switch (status) {
    case RM_OK:
    case RM_E_NOT_FOUND:
    case RM_E_EXISTS: return RM_OUTCOME_OK;
    case RM_E_INVALID:
    case RM_E_NOMEM:
    case RM_E_CANCELLED:
    case RM_E_CLOSED:
    case RM_E_STALE:
    case RM_E_FOREIGN:
    case RM_E_REJECTED:
    case RM_E_TOO_LARGE:
    case RM_E_DEADLOCK:
    case RM_E_STATE:
    case RM_E_UNSUPPORTED: return RM_OUTCOME_IGNORE;
    default: return RM_OUTCOME_FAILURE;
    }
}

/* >>guard and resource -------------------------------------------------------------------- */

static rm_status rmi_breaker_guard_admit(rm_permit *permit, rm_error *error, void *user) {
    return rm_breaker_acquire((rm_breaker *)user, permit, error);
}

static void rmi_breaker_guard_report(rm_permit *permit, rm_outcome outcome, void *user) {
    rm_breaker_record((rm_breaker *)user, permit, outcome);
}

RM_API rm_guard rm_breaker_guard(rm_breaker *breaker) {
    rm_guard guard;
    guard.admit_fn = rmi_breaker_guard_admit;
    guard.report_fn = rmi_breaker_guard_report;
    guard.user = breaker;
    return guard;
}

static rm_health rmi_breaker_health(void *user, rm_error *reason) {
    rm_breaker_stats stats;
    const rm_breaker *b = (const rm_breaker *)user;
    if (rm_breaker_stats_get(b, &stats) != RM_OK) return RM_HEALTH_UNKNOWN;
    if (stats.state == RM_BREAKER_STATE_CLOSED) return RM_HEALTH_HEALTHY;
    rm_error_set(reason, RM_E_REJECTED, 0, b->name, "the breaker is %s",
                 rm_breaker_state_name(stats.state));
    return RM_HEALTH_DEGRADED;
}

/* One statistic without a histogram. */
static void rmi_breaker_visit(rm_stat_fn visit, void *visit_user, rm_stat_type type,
                              const char *name, const char *help, uint64_t value) {
    rm_stat stat;
    memset(&stat, 0, sizeof stat);
    stat.name = name;
    stat.help = help;
    stat.type = type;
    stat.value = (int64_t)value;
    visit(&stat, visit_user);
}

static void rmi_breaker_visit_state(rm_stat_fn visit, void *visit_user, rm_breaker_state now) {
    static const rm_breaker_state states[] = {RM_BREAKER_STATE_CLOSED, RM_BREAKER_STATE_OPEN,
                                              RM_BREAKER_STATE_HALF_OPEN};
    for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
        rm_stat stat;
        memset(&stat, 0, sizeof stat);
        stat.name = "rm_breaker_state";
        stat.help = "1 for the state the breaker is in.";
        stat.type = RM_STAT_GAUGE;
        stat.label = "state";
        stat.label_value = rm_breaker_state_name(states[i]);
        stat.value = states[i] == now;
        visit(&stat, visit_user);
    }
}

static void rmi_breaker_visit_all(void *user, rm_stat_fn visit, void *visit_user) {
    rm_breaker_stats stats;
    if (visit == NULL || rm_breaker_stats_get((const rm_breaker *)user, &stats) != RM_OK) return;
    rmi_breaker_visit_state(visit, visit_user, stats.state);
    rmi_breaker_visit(visit, visit_user, RM_STAT_GAUGE, "rm_breaker_consecutive_failures",
                      "Failures on record while closed.", stats.consecutive_failures);
    const struct {
        const char *name, *help;
        uint64_t value;
    } counters[] = {
        {"rm_breaker_opened_total", "Transitions to open.", stats.opened},
        {"rm_breaker_rejected_total", "Calls refused.", stats.rejected},
        {"rm_breaker_failures_total", "Calls that failed.", stats.failures},
        {"rm_breaker_ignored_total", "Calls whose outcome was ignored.", stats.ignored},
        {"rm_breaker_late_total", "Results too late to count.", stats.late},
        {"rm_breaker_probes_total", "Calls let through as probes.", stats.probes},
        {"rm_breaker_probe_successes_total", "Probes that succeeded.", stats.probe_successes},
        {"rm_breaker_lost_total", "Probes that were not reported in time.", stats.lost},
        {"rm_breaker_fallbacks_total", "Calls answered by the fallback.", stats.fallbacks},
    };
    for (size_t i = 0; i < sizeof counters / sizeof *counters; i++)
        rmi_breaker_visit(visit, visit_user, RM_STAT_COUNTER, counters[i].name, counters[i].help,
                          counters[i].value);
}

RM_API rm_resource rm_breaker_resource(rm_breaker *breaker) {
    const char *name = breaker != NULL ? breaker->name : "breaker";
    rm_resource resource = rm_resource_make(name, "breaker", breaker);
    resource.health_fn = rmi_breaker_health;
    resource.stats_fn = rmi_breaker_visit_all;
    return resource;
}

/* >>backoff ------------------------------------------------------------------------------- */

RM_API rm_retry_desc rm_retry_desc_default(void) {
    rm_retry_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.base_ns = RM_SEC(1);
    desc.cap_ns = RM_SEC(30);
    desc.max_retry_after_ns = RM_MINUTES(5);
    desc.max_retries = 3;
    return desc;
}

/* At random in low..high, both >= 0. */
static int64_t rmi_backoff_between(int64_t low, int64_t high, const rm_random *random) {
    if (high <= low) return low;
    return low + (int64_t)rm_random_below(random, (uint64_t)(high - low) + 1);
}

RM_API int64_t rm_backoff(rm_jitter jitter, int64_t base_ns, int64_t cap_ns, uint32_t attempt,
                          int64_t previous_ns, const rm_random *random) {
    base_ns = base_ns == 0 ? RM_SEC(1) : base_ns;
    cap_ns = cap_ns == 0 ? RM_SEC(30) : cap_ns;
    if (base_ns < 0 || cap_ns < 0) return 0;
    if (jitter == RM_JITTER_DECORRELATED) {
        int64_t high = rm_time_mul(previous_ns > base_ns ? previous_ns : base_ns, 3);
        int64_t wait = rmi_backoff_between(base_ns, high, random);
        return wait < cap_ns ? wait : cap_ns;
    }
    int64_t t = attempt < 63 && base_ns <= cap_ns >> attempt
                    ? (int64_t)((uint64_t)base_ns << attempt)
                    : cap_ns;
    if (jitter == RM_JITTER_NONE) return t;
    return rmi_backoff_between(jitter == RM_JITTER_EQUAL ? t / 2 : 0, t, random);
}

/* >>retry calls --------------------------------------------------------------------------- */

RM_API bool rm_retryable(rm_status status) {
    switch (status) {
    case RM_E_NOMEM:
    case RM_E_TIMEOUT:
    case RM_E_BUSY:
    case RM_E_FULL:
    case RM_E_REJECTED:
    case RM_E_SYSTEM:
    case RM_E_FAILED:
    case RM_E_REFUSED: return true;
    default: return false;
    }
}

/* Checks a desc and fills in what it leaves open. */
static rm_status rmi_retry_resolve(rm_retry_desc *desc, rm_env *env, rm_error *error) {
    rm_retry_desc standard = rm_retry_desc_default();
    rm_status status = rm_env_resolve(desc->env, env, error);
    if (status != RM_OK) return status;
    if (desc->cap_ns < 0) return rmi_breaker_bad(error, "cap_ns", "0 (30 s) or longer");
    desc->cap_ns = desc->cap_ns == 0 ? standard.cap_ns : desc->cap_ns;
    if ((desc->base_ns < 0 && desc->base_ns != RM_NONE) || desc->base_ns > desc->cap_ns)
        return rmi_breaker_bad(error, "base_ns", "0 (1 s), up to cap_ns, or RM_NONE");
    if (desc->base_ns == 0)
        desc->base_ns = standard.base_ns < desc->cap_ns ? standard.base_ns : desc->cap_ns;
    if (desc->max_retry_after_ns < 0 && desc->max_retry_after_ns != RM_NONE)
        return rmi_breaker_bad(error, "max_retry_after_ns", "0 (5 min), longer, or RM_NONE");
    if (desc->max_retry_after_ns == 0) desc->max_retry_after_ns = standard.max_retry_after_ns;
    if (desc->max_retries < 0 && desc->max_retries != RM_NONE)
        return rmi_breaker_bad(error, "max_retries", "0 (3), more, or RM_NONE");
    desc->max_retries = desc->max_retries == 0 ? standard.max_retries : desc->max_retries;
    if ((unsigned)desc->jitter > RM_JITTER_DECORRELATED)
        return rmi_breaker_bad(error, "jitter", "an rm_jitter");
    return RM_OK;
}

RM_API rm_status rm_retry_begin(rm_retry *retry, const rm_retry_desc *desc, rm_deadline deadline,
                                rm_error *error) {
    if (retry == NULL) return rmi_breaker_bad(error, "retry", "an address");
    rm_retry begun;
    memset(&begun, 0, sizeof begun);
    begun.desc = desc != NULL ? *desc : rm_retry_desc_default();
    rm_status status = rmi_retry_resolve(&begun.desc, &begun.env, error);
    if (status != RM_OK) return status;
    begun.desc.env = NULL; /* the copy is used; what the caller handed in may be gone */
    begun.deadline = deadline;
    *retry = begun;
    return RM_OK;
}

RM_API rm_status rm_retry_next(rm_retry *retry, rm_status status, int64_t retry_after_ns,
                               int64_t *wait_ns) {
    if (retry == NULL || wait_ns == NULL || status == RM_OK) return RM_E_INVALID;
    const rm_retry_desc *desc = &retry->desc;
    bool retryable =
        desc->retryable_fn != NULL ? desc->retryable_fn(status, desc->user) : rm_retryable(status);
    if (!retryable || desc->max_retries <= 0 || retry->used >= (uint32_t)desc->max_retries)
        return status;
    if (retry_after_ns > desc->max_retry_after_ns && desc->max_retry_after_ns != RM_NONE)
        return status;
    int64_t backoff = rm_backoff(desc->jitter, desc->base_ns, desc->cap_ns, retry->used,
                                 retry->previous_ns, retry->env.random);
    int64_t wait = backoff > retry_after_ns ? backoff : retry_after_ns;
    int64_t left = rm_deadline_left(retry->env.clock, retry->deadline);
    if (left != RM_FOREVER && wait >= left) return status;
    retry->used++;
    retry->previous_ns = backoff;
    *wait_ns = wait;
    return RM_OK;
}

/* One attempt that was let through. */
static rm_status rmi_retry_attempt(rm_breaker *b, rm_permit *permit, rm_attempt *attempt,
                                   rm_status (*fn)(void *user, rm_attempt *attempt,
                                                   rm_error *error),
                                   void *user, rm_error *error) {
    rmi_breaker_error_clear(error);
    attempt->number++;
    rm_status status = fn(user, attempt, error);
    attempt->last = status;
    if (b != NULL) rm_breaker_record(b, permit, rmi_breaker_outcome(b, status));
    if (status != RM_OK) rmi_breaker_error_finish(error, status, b != NULL ? b->name : "retry");
    return status;
}

/* The loop of rm_retry_call. A refusal does not hide how the attempt before it failed. */
static rm_status rmi_retry_loop(rm_retry *retry, rm_breaker *b, rm_attempt *attempt,
                                rm_status (*fn)(void *user, rm_attempt *attempt, rm_error *error),
                                void *user, rm_error *error) {
    rm_status failed = RM_OK;
    for (;;) {
        rm_permit permit;
        rm_status status = RM_OK;
        int64_t wait_ns;
        attempt->retry_after_ns = 0;
        if (b != NULL)
            status = rmi_breaker_enter(b, &permit, &attempt->retry_after_ns,
                                       failed == RM_OK ? error : NULL);
        if (status == RM_OK) {
            status = failed = rmi_retry_attempt(b, &permit, attempt, fn, user, error);
            if (status == RM_OK) return RM_OK;
        } else if (failed == RM_OK) {
            failed = status;
        }
        if (rm_retry_next(retry, status, attempt->retry_after_ns, &wait_ns) != RM_OK) return failed;
        status = rm_sleep(retry->env.clock, wait_ns, attempt->cancel);
        if (status != RM_OK)
            return rm_error_set(error, status, 0, "retry", "the wait before attempt %u ended early",
                                attempt->number + 1);
        if (rm_deadline_passed(retry->env.clock, retry->deadline)) return failed; /* overslept */
    }
}

RM_API rm_status rm_retry_call(const rm_retry_desc *desc, rm_breaker *breaker, rm_deadline deadline,
                               rm_cancel *cancel,
                               rm_status (*fn)(void *user, rm_attempt *attempt, rm_error *error),
                               void *user, rm_error *error) {
    rm_retry retry;
    if (fn == NULL) return rmi_breaker_bad(error, "fn", "an address");
    rm_status status = rm_retry_begin(&retry, desc, deadline, error);
    if (status != RM_OK) return status;
    if (rm_deadline_passed(retry.env.clock, deadline))
        return rm_error_set(error, RM_E_TIMEOUT, 0, "deadline", "passed before the first attempt");
    if (rm_cancel_requested(cancel)) /* rm_sleep asks before all others */
        return rm_error_set(error, RM_E_CANCELLED, 0, "cancel",
                            "requested before the first attempt");
    rm_attempt attempt;
    rm_error last; /* not *error: an attempt that fails may be followed by one that does not */
    memset(&attempt, 0, sizeof attempt);
    attempt.deadline = deadline;
    attempt.cancel = cancel;
    status = rmi_retry_loop(&retry, breaker, &attempt, fn, user, error != NULL ? &last : NULL);
    if (status != RM_OK && error != NULL) *error = last;
    return status;
}

#ifdef __cplusplus
}
#endif
#endif /* RM_BREAKER_IMPLEMENTATION_DONE */

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

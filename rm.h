#if defined(RM_STATIC) && !defined(RM_IMPLEMENTATION)
#define RM_IMPLEMENTATION
#endif
#if defined(RM_IMPLEMENTATION) && !defined(RM_BASE_IMPLEMENTATION)
#define RM_BASE_IMPLEMENTATION
#endif
#if defined(RM_IMPLEMENTATION) && !defined(RM_MANAGER_IMPLEMENTATION)
#define RM_MANAGER_IMPLEMENTATION
#endif
#if defined(RM_BASE_IMPLEMENTATION) && !defined(_WIN32) && !defined(RM_BASE_IMPLEMENTATION_DONE)
#if defined(__APPLE__) && !defined(_DARWIN_C_SOURCE)
#define _DARWIN_C_SOURCE 1
#elif !defined(__APPLE__) && !defined(_GNU_SOURCE) && !defined(_DEFAULT_SOURCE)
#define _DEFAULT_SOURCE 1 /* getrandom, clock_gettime; only where the base is implemented */
#endif
#endif
/*  rm.h 0.1.0 - the base of the rm headers, and the manager.
    SPDX-License-Identifier: MIT OR Unlicense

QUICK START
    #define RM_IMPLEMENTATION // in exactly one C or C++ file, before the first system header
    #include "rm.h"
    #include <stdio.h>

    static rm_status db_start(void *user, rm_deadline deadline, rm_error *error) {
        (void)deadline, (void)error;
        *(int *)user = 1; // open the connection here
        return RM_OK;
    }
    static rm_status db_stop(void *user, rm_deadline deadline, rm_error *error) {
        (void)deadline, (void)error;
        *(int *)user = 0;
        return RM_OK;
    }

    int main(void) {
        int open = 0;
        rm_manager *manager = NULL;
        rm_errors errors;
        rm_resource db = rm_resource_make("db", "database", &open);
        db.start_fn = db_start;
        db.stop_fn = db_stop;
        if (rm_manager_create(NULL, &manager, NULL) != RM_OK) return 1;
        if (rm_manager_add(manager, &db, NULL) != RM_OK) return 1;
        if (rm_manager_start(manager, RM_SEC(5), &errors) != RM_OK) {
            fprintf(stderr, "%s: %s\n", errors.items[0].where, errors.items[0].message);
            return 1;
        }
        if (rm_manager_stop(manager, RM_SEC(5), &errors) != RM_OK) return 1;
        return rm_manager_destroy(manager) == RM_OK && !open ? 0 : 1;
    }

WHAT IT DOES
    What the four rooms (rm_pool.h, rm_cache.h, rm_breaker.h, rm_metrics.h) share, each thing once:
    status and error records, time and injected clocks, memory, threads, the wait queue and the
    semaphore, cancellation, random numbers, SipHash-1-3, log-linear histograms, a bounded registry
    by key, text and log formatting, the resource interface and the guard hook. On top of it the
    manager starts resources in the order of their registration and stops them in reverse.

WHAT IT DOES NOT DO
    No event loop, no I/O, no thread pool. The manager has no dependency graph, runs start and stop
    one after the other in the caller's thread, and cannot interrupt a callback that overruns its
    deadline. Names have at most 47 bytes, error messages 159; an error list has at most 16
    entries.

DEFINES
    RM_IMPLEMENTATION          emit all parts of the headers included here [one C file]
    RM_BASE_IMPLEMENTATION     emit the base only [one C file]
    RM_MANAGER_IMPLEMENTATION  emit the manager only [one C file]
    RM_STATIC                  everything static in this file; implies RM_IMPLEMENTATION [that file]
    RM_API                     linkage of the public functions, such as a visibility attribute
                               (extern) [every file of the program alike]
    RM_NO_TLS                  no thread-local storage: destroying an object inside one of its hooks
                               is not noticed, and completion callbacks nest
                               [every file of the program alike]
    RM_NO_THREADS              no locks and no threads; a call that had to wait returns RM_E_BUSY
                               [every file of the program alike]
    RM_MALLOC(size), RM_FREE(pointer)  both or neither (malloc, free) [implementation file]
    RM_ASSERT(condition)       checked on broken inner invariants (nothing) [implementation files]

CONCEPTS
    Time      Nanoseconds in int64_t, from a monotonic clock that can be replaced. A single call
              takes a relative `timeout_ns`; a composed call takes one rm_deadline. 0 means "the
              documented default" in settings; RM_NOWAIT, RM_FOREVER, RM_NONE and RM_STRICT are
              the other words. Any other negative time is RM_E_INVALID.
    Objects   Every create call takes a desc (zeroed = defaults; NULL = all defaults where nothing
              is required) with a `const rm_env *env`: allocator, clock, random numbers, log. What
              env points at must outlive the object. Zero a desc with memset, `= {0}` in C, `= {}`
              in C++, or rm_x_desc_default() where there is one.
    Callbacks Hooks (start, stop, health, create, loader, completion ...) run under no lock of ours
              and may call anything. Primitives (allocator, clock, random, log, try) may run under
              a lock of ours, must return promptly and must not call back.
    Errors    By status. Where there is more to say, a trailing `rm_error *` (may be NULL) is filled
              on failure and left alone on success. Out parameters are written on success only.
    Waiting   rm_waitq is the one place where threads wait for something of ours. See its section.
    Fork      The child of a fork() has the objects as another thread may just have been changing
              them, with locks that nobody will give back. Before it uses one of ours, it calls
              rm_x_after_fork_child(x), from the one thread it has and not from a hook of that
              object. What has an init call and no such call (mutex, condition variable, token,
              queue, semaphore, virtual clock) is made again with its init, and an rm_rng is seeded
              again, else all children draw the same numbers. The callbacks of an rm_env have to
              survive a fork themselves. Nothing is done by itself: no atfork handlers, no getpid.
              An exec or _exit needs none of this.

THREADS
    "Threads: any" means: any number of threads, also from hooks. "Threads: owner" means: the caller
    sees to it that no other call on the same object runs at the same time.
    Lock order: rm_cancel, then rm_waitq, then what the try callback takes; never the other way.

MEMORY
    The base allocates in rm_registry_create and _get only; the manager in _create only.

ERRORS
    RM_E_INVALID is a bad argument or setting and names the field. RM_E_STALE is a handle whose
    object has gone or a second release. The other codes are beside their declaration.

GLOBALS
    One counter of thread numbers; per thread its number and what completions it has to run.
*/
#if defined(RM_BASE_VERSION) && RM_BASE_VERSION != 100
#error "rm.h: two releases of rm.h meet in this file; use the headers of one release"
#endif
#if defined(RM_STATIC) && defined(RM_RM_H_INCLUDED) && !defined(RMI_STATIC)
#error "rm.h: define RM_STATIC before the first rm header of a file"
#endif
#ifndef RM_RM_H_INCLUDED
#define RM_RM_H_INCLUDED
#define RM_BASE_VERSION 100 /* major * 10000 + minor * 100 + patch, here 0.1.0 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__) || defined(__clang__)
#define RM_MUST_USE __attribute__((warn_unused_result))
#define RMI_UNUSED __attribute__((unused))
#if defined(__ELF__) && defined(__has_attribute)
#if __has_attribute(retain)
#define RMI_USED __attribute__((used, retain)) /* retain: also with --gc-sections */
#endif
#endif
#ifndef RMI_USED
#define RMI_USED __attribute__((used))
#endif
#define RMI_ALIGN(n) __attribute__((aligned(n)))
#define RMI_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define RM_MUST_USE
#define RMI_UNUSED
#define RMI_USED
#define RMI_ALIGN(n) __declspec(align(n))
#define RMI_PRINTF(fmt, args)
#endif
#ifdef RM_STATIC
#define RMI_STATIC
#define RM_API static RMI_UNUSED
#elif !defined(RM_API)
#define RM_API extern
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* A word for atomic operations, aligned where plain ones are not (32-bit x86). Private. */
typedef RMI_ALIGN(8) uint64_t rmi_word64;

#ifndef RM_STATIC
/* Does nothing. Every file that includes an rm header refers to it: if the linker misses it, do
   what its name says, and if the name is there with another number, the files have headers of
   releases that do not fit each other.
   Threads: any. Blocks: no. Allocates: no. */
RM_API void rm_abi1_define_RM_BASE_IMPLEMENTATION_in_one_c_file(void);
static void (*const rmi_abi)(void) RMI_USED = rm_abi1_define_RM_BASE_IMPLEMENTATION_in_one_c_file;
#endif

/* >>status -------------------------------------------------------------------------------- */

/* The result of every fallible call. The numbers are stable across releases. */
typedef enum rm_status {
    RM_OK = 0,
    RM_E_INVALID = 1,      /* a bad argument or setting; a programming error */
    RM_E_NOMEM = 2,        /* the allocator returned NULL, or a size overflows */
    RM_E_TIMEOUT = 3,      /* the deadline passed */
    RM_E_BUSY = 4,         /* would have to wait, or is still in use */
    RM_E_CANCELLED = 5,    /* its rm_cancel was requested */
    RM_E_CLOSED = 6,       /* the object is closed or closing */
    RM_E_FULL = 7,         /* a configured bound is reached */
    RM_E_NOT_FOUND = 8,    /* no such key, name or entry */
    RM_E_EXISTS = 9,       /* that name is taken */
    RM_E_STALE = 10,       /* the handle's object is gone, or was released before */
    RM_E_FOREIGN = 11,     /* the handle belongs to another object */
    RM_E_REJECTED = 12,    /* refused by a guard, such as an open circuit breaker */
    RM_E_TOO_LARGE = 13,   /* does not fit a limit or the caller's buffer */
    RM_E_DEADLOCK = 14,    /* would wait for itself */
    RM_E_STATE = 15,       /* not in this state, such as starting what runs */
    RM_E_UNSUPPORTED = 16, /* not in this build or on this platform */
    RM_E_SYSTEM = 17,      /* an operating system call failed; native has its code */
    RM_E_FAILED = 18,      /* a hook failed and said no more */
    RM_E_REFUSED = 19,     /* the other side refused or closed the connection */
    RM_E_AUTH = 20,        /* the other side did not accept the credentials */
    RM_E_PROTOCOL = 21,    /* the other side answered what it must not */
    RM_E_INTERNAL = 22     /* a bug of ours: please report it */
} rm_status;

/* What to do about a status: the coarse categories that statistics count. */
typedef enum rm_class {
    RM_CLASS_OK = 0,
    RM_CLASS_TIMEOUT,
    RM_CLASS_REFUSED,
    RM_CLASS_AUTH,
    RM_CLASS_PROTOCOL,
    RM_CLASS_EXHAUSTED,
    RM_CLASS_REJECTED,
    RM_CLASS_CANCELLED,
    RM_CLASS_BUSY,
    RM_CLASS_INVALID,
    RM_CLASS_INTERNAL
} rm_class;

/* One failure: what, where and why. No secrets: names only, never values. */
typedef struct rm_error {
    int32_t native;    /* errno or the library's own code; 0 = none */
    rm_status status;  /* never RM_OK in a record that was filled */
    char where[48];    /* the resource or the field */
    char message[160]; /* a sentence for a person, with what to do next */
} rm_error;

enum { RM_ERRORS_MAX = 16 };

/* Several failures. The first stays the first; what does not fit is counted. */
typedef struct rm_errors {
    uint32_t count;   /* items filled */
    uint32_t dropped; /* failures beyond RM_ERRORS_MAX */
    rm_error items[RM_ERRORS_MAX];
} rm_errors;

/* Names a status, such as "RM_E_TIMEOUT".
   Returns: a static string; "RM_E_UNKNOWN" for a number that is no status.
   Threads: any. Blocks: no. Allocates: no. */
RM_API const char *rm_status_name(rm_status status);

/* The category of a status.
   Returns: RM_CLASS_INTERNAL for a number that is no status.
   Threads: any. Blocks: no. Allocates: no. */
RM_API rm_class rm_status_class(rm_status status);

/* Names a category, such as "timeout".
   Returns: a static string; "internal" for a number that is no class.
   Threads: any. Blocks: no. Allocates: no. */
RM_API const char *rm_class_name(rm_class cls);

/* Fills an error record; where and message are cut to fit at a UTF-8 boundary.
   Returns: status, so that a call can end with `return rm_error_set(...)`.
   Threads: owner of error (may be NULL). Blocks: no. Allocates: no. */
RM_API rm_status rm_error_set(rm_error *error, rm_status status, int32_t native, const char *where,
                              const char *format, ...) RMI_PRINTF(5, 6);

/* Adds a record to a list, or counts it as dropped when the list is full.
   Threads: owner of list (may be NULL). Blocks: no. Allocates: no. */
RM_API void rm_errors_add(rm_errors *list, const rm_error *error);

/* >>time ---------------------------------------------------------------------------------- */

#define RM_US(n) ((int64_t)(INT64_C(1000) * (n)))
#define RM_MS(n) ((int64_t)(INT64_C(1000000) * (n)))
#define RM_SEC(n) ((int64_t)(INT64_C(1000000000) * (n)))
#define RM_MINUTES(n) ((int64_t)(INT64_C(60000000000) * (n)))
#define RM_NOWAIT INT64_C(-1)  /* a timeout: do not wait at all */
#define RM_FOREVER INT64_C(-2) /* a timeout: wait without limit */
#define RM_NONE INT64_C(-3)    /* a setting: off, without limit */
#define RM_STRICT INT64_C(-4)  /* rm_waitq: first come, first served, no barging */

struct rm_mutex;
struct rm_cond;

/* A source of time. All five callbacks are primitives. wait_fn is told of every blocking wait,
   which is what lets a virtual clock know its sleepers. */
typedef struct rm_clock {
    int64_t (*now_fn)(void *user);    /* monotonic ns, fine; never goes back */
    int64_t (*coarse_fn)(void *user); /* the same clock, cheaper, up to some ms behind */
    int64_t (*wall_fn)(void *user);   /* ns since 1970 UTC; for display only */
    /* sleeps for ns > 0 */
    rm_status (*sleep_fn)(int64_t ns, void *user);
    /* waits on cond with mutex held, until signalled, until_ns or spuriously; INT64_MAX = no end */
    void (*wait_fn)(struct rm_cond *cond, struct rm_mutex *mutex, int64_t until_ns, void *user);
    void *user;
} rm_clock;

/* A point in time on some clock. Zeroed = none: it never passes. */
typedef struct rm_deadline {
    int64_t at_ns; /* 0 and INT64_MAX = never; INT64_MIN = has passed */
} rm_deadline;

/* The operating system's monotonic clock.
   Returns: a static clock; CLOCK_MONOTONIC, coarse CLOCK_MONOTONIC_COARSE where there is one.
   Threads: any. Blocks: no. Allocates: no. */
RM_API const rm_clock *rm_clock_system(void);

/* Reads a clock (NULL = the system's), about 20 to 40 ns for the system's.
   Returns: monotonic nanoseconds.
   Threads: any. Blocks: no. Allocates: no. */
RM_API int64_t rm_now(const rm_clock *clock);

/* Reads a clock cheaply (NULL = the system's), about 3 ns; up to 4 ms (Linux) behind rm_now.
   Returns: monotonic nanoseconds.
   Threads: any. Blocks: no. Allocates: no. */
RM_API int64_t rm_now_coarse(const rm_clock *clock);

/* Reads the wall clock of a clock (NULL = the system's), for display only.
   Returns: nanoseconds since 1970-01-01 UTC.
   Threads: any. Blocks: no. Allocates: no. */
RM_API int64_t rm_wall(const rm_clock *clock);

struct rm_cancel;

/* Sleeps ns (<= 0: not at all) on a clock (NULL = the system's); cancel (may be NULL) ends it.
   Returns: RM_OK; RM_E_CANCELLED when the token was requested; RM_E_SYSTEM when the platform could
   not make a condition variable; RM_E_UNSUPPORTED from a clock that cannot sleep.
   Threads: any. Blocks: for ns. Allocates: no. */
RM_API rm_status rm_sleep(const rm_clock *clock, int64_t ns, struct rm_cancel *cancel);

/* Adds two times and stays at the ends of int64_t instead of overflowing.
   Returns: the sum.
   Threads: any. Blocks: no. Allocates: no. */
RM_API int64_t rm_time_add(int64_t a, int64_t b);

/* Multiplies a duration and stays at the ends of int64_t instead of overflowing.
   Returns: the product.
   Threads: any. Blocks: no. Allocates: no. */
RM_API int64_t rm_time_mul(int64_t ns, int64_t factor);

/* Tells whether a timeout is one: >= 0, RM_NOWAIT or RM_FOREVER.
   Returns: false for any other negative number.
   Threads: any. Blocks: no. Allocates: no. */
RM_API bool rm_timeout_valid(int64_t timeout_ns);

/* The point timeout_ns from now; RM_FOREVER gives none, RM_NOWAIT and 0 one that has passed.
   Returns: a deadline on that clock (NULL = the system's), which is read when needed only.
   Threads: any. Blocks: no. Allocates: no. */
RM_API rm_deadline rm_deadline_after(const rm_clock *clock, int64_t timeout_ns);

/* The earlier of two deadlines.
   Returns: a or b.
   Threads: any. Blocks: no. Allocates: no. */
RM_API rm_deadline rm_deadline_min(rm_deadline a, rm_deadline b);

/* Tells whether a deadline has passed.
   Returns: true from its nanosecond on; false for none.
   Threads: any. Blocks: no. Allocates: no. */
RM_API bool rm_deadline_passed(const rm_clock *clock, rm_deadline deadline);

/* The time that is left, as a timeout for a single call.
   Returns: > 0 ns, RM_NOWAIT when it has passed, RM_FOREVER for none.
   Threads: any. Blocks: no. Allocates: no. */
RM_API int64_t rm_deadline_left(const rm_clock *clock, rm_deadline deadline);

/* >>memory -------------------------------------------------------------------------------- */

/* A source of memory, aligned as by malloc. Both callbacks are primitives, both are required. */
typedef struct rm_allocator {
    void *(*alloc_fn)(size_t size, void *user); /* size > 0; NULL = no memory */
    void (*free_fn)(void *pointer, size_t size, void *user);
    void *user;
} rm_allocator;

/* Allocates size bytes (0 counts as 1) from an allocator (NULL = RM_MALLOC).
   Returns: NULL when there is no memory.
   Threads: any. Blocks: no. Allocates: yes. Owns: the caller; give it to rm_free. */
RM_API void *rm_alloc(const rm_allocator *allocator, size_t size);

/* Frees what rm_alloc gave, with the same allocator and size; NULL is allowed.
   Threads: any. Blocks: no. Allocates: no. */
RM_API void rm_free(const rm_allocator *allocator, void *pointer, size_t size);

/* Adds two sizes.
   Returns: false, and leaves *sum alone, when it overflows or sum is NULL.
   Threads: any. Blocks: no. Allocates: no. */
RM_API bool rm_size_add(size_t a, size_t b, size_t *sum);

/* Multiplies two sizes.
   Returns: false, and leaves *product alone, when it overflows or product is NULL.
   Threads: any. Blocks: no. Allocates: no. */
RM_API bool rm_size_mul(size_t a, size_t b, size_t *product);

/* >>threads ------------------------------------------------------------------------------- */

/* Room for a pthread_mutex_t, an SRWLOCK or nothing. Private. */
typedef struct rm_mutex {
    union {
        uint64_t align;
        void *pointer;
        unsigned char bytes[64];
    } rmi;
} rm_mutex;

/* Room for a pthread_cond_t or a CONDITION_VARIABLE. Private. */
typedef struct rm_cond {
    union {
        uint64_t align;
        void *pointer;
        unsigned char bytes[64];
    } rmi;
} rm_cond;

/* A thread of ours. Private; lives until rm_thread_join. */
typedef struct rm_thread {
    void (*fn)(void *user);
    void *user;
    uint64_t handle;
} rm_thread;

/* Makes a mutex, not recursive.
   Returns: RM_E_INVALID for NULL; RM_E_SYSTEM with nothing made.
   Threads: owner. Blocks: no. Allocates: no. Owns: the caller; rm_mutex_destroy. */
RM_API RM_MUST_USE rm_status rm_mutex_init(rm_mutex *mutex);

/* Ends a mutex that nobody holds.
   Threads: owner. Blocks: no. Allocates: no. */
RM_API void rm_mutex_destroy(rm_mutex *mutex);

/* Takes a mutex. There is no timed form: time out on a condition instead.
   Threads: any; not one that holds it. Blocks: until it is free. Allocates: no. */
RM_API void rm_mutex_lock(rm_mutex *mutex);

/* Takes a mutex if it is free.
   Returns: false when somebody holds it.
   Threads: any. Blocks: no. Allocates: no. */
RM_API RM_MUST_USE bool rm_mutex_try_lock(rm_mutex *mutex);

/* Gives a mutex back.
   Threads: the one that holds it. Blocks: no. Allocates: no. */
RM_API void rm_mutex_unlock(rm_mutex *mutex);

/* Makes a condition variable on the monotonic clock.
   Returns: RM_E_INVALID for NULL; RM_E_SYSTEM with nothing made.
   Threads: owner. Blocks: no. Allocates: no. Owns: the caller; rm_cond_destroy. */
RM_API RM_MUST_USE rm_status rm_cond_init(rm_cond *cond);

/* Ends a condition variable that nobody waits on.
   Threads: owner. Blocks: no. Allocates: no. */
RM_API void rm_cond_destroy(rm_cond *cond);

/* Waits, with mutex held, until signalled or until until_ns on the system's clock (INT64_MAX = no
   end); may wake for no reason. What waits on an injected clock calls the clock's wait_fn instead.
   Threads: holder of mutex. Blocks: yes; with RM_NO_THREADS it returns at once. Allocates: no. */
RM_API void rm_cond_wait(rm_cond *cond, rm_mutex *mutex, int64_t until_ns);

/* Wakes one waiter; call it with the mutex held.
   Threads: any. Blocks: no. Allocates: no. */
RM_API void rm_cond_signal(rm_cond *cond);

/* Wakes all waiters; call it with the mutex held.
   Threads: any. Blocks: no. Allocates: no. */
RM_API void rm_cond_broadcast(rm_cond *cond);

/* Starts a thread that runs fn(user).
   Returns: RM_E_INVALID for NULL; RM_E_SYSTEM when the platform has no thread to give;
   RM_E_UNSUPPORTED with RM_NO_THREADS.
   Threads: any. Blocks: no. Allocates: what the platform does. Owns: the caller; rm_thread_join. */
RM_API RM_MUST_USE rm_status rm_thread_start(rm_thread *thread, void (*fn)(void *user), void *user);

/* Waits for the end of a thread; NULL, a zeroed one and one that failed to start are allowed.
   Threads: one, once per rm_thread_start, not itself. Blocks: until it ends. Allocates: no. */
RM_API void rm_thread_join(rm_thread *thread);

/* A small number of the calling thread, to choose a shard by.
   Returns: 1, 2, 3 ... in the order of the threads' first calls, never reused; with RM_NO_TLS a
   hash of the platform's number, which may repeat.
   Threads: any. Blocks: no. Allocates: no. */
RM_API uint32_t rm_thread_number(void);

/* >>virtual clock ------------------------------------------------------------------------- */

/* A clock that moves only when told to. Private fields. */
typedef struct rm_virtual_clock {
    rmi_word64 now;
    rm_mutex mutex;
    rm_cond changed;
    struct rmi_sleeper *sleepers;
    uint32_t sleeping;
    bool sleep_advances;
} rm_virtual_clock;

/* Makes a virtual clock that shows start_ns. With sleep_advances, rm_sleep on it moves the clock
   itself and returns: simulation in one thread.
   Returns: RM_E_INVALID for NULL; RM_E_SYSTEM with nothing made.
   Threads: owner. Blocks: no. Allocates: no. Owns: the caller; rm_virtual_clock_destroy. */
RM_API RM_MUST_USE rm_status rm_virtual_clock_init(rm_virtual_clock *clock, int64_t start_ns,
                                                   bool sleep_advances);

/* Ends a virtual clock that nobody waits on.
   Threads: owner. Blocks: no. Allocates: no. */
RM_API void rm_virtual_clock_destroy(rm_virtual_clock *clock);

/* The clock to hand to an rm_env. Its wall clock shows the same number as its monotonic clock.
   Returns: a clock whose user is the virtual clock, which must outlive it.
   Threads: any. Blocks: no. Allocates: no. */
RM_API rm_clock rm_virtual_clock_clock(rm_virtual_clock *clock);

/* Moves the clock on (ns <= 0: not at all) and wakes exactly the waits whose time has come.
   Threads: any; not one that holds a lock of such a wait, rm_waitq_lock for one.
   Blocks: for the mutexes of those waits. Allocates: no. Cost: O(waits) for each it wakes. */
RM_API void rm_virtual_clock_advance(rm_virtual_clock *clock, int64_t ns);

/* Waits, in real time, until at least count threads wait on the clock: no sleeping in tests.
   Threads: any but those. Blocks: yes; with RM_NO_THREADS it returns at once. Allocates: no. */
RM_API void rm_virtual_clock_await(rm_virtual_clock *clock, uint32_t count);

/* >>random -------------------------------------------------------------------------------- */

/* A source of random numbers; a primitive, called from any thread. */
typedef struct rm_random {
    uint64_t (*next_fn)(void *user);
    void *user;
} rm_random;

/* A generator: splitmix64 (Steele, Lea, Flood 2014) on one atomic word. Not for secrets. */
typedef struct rm_rng {
    rmi_word64 state;
} rm_rng;

/* 64 unpredictable bits from the operating system; where it has none, from addresses and clocks.
   Returns: the bits.
   Threads: any. Blocks: no. Allocates: no. */
RM_API uint64_t rm_random_seed(void);

/* Seeds a generator: the same seed gives the same numbers.
   Threads: owner. Blocks: no. Allocates: no. */
RM_API void rm_rng_seed(rm_rng *rng, uint64_t seed);

/* The next number.
   Returns: 64 bits; 0 for NULL.
   Threads: any. Blocks: no. Allocates: no. */
RM_API uint64_t rm_rng_next(rm_rng *rng);

/* The generator as a hook for an rm_env.
   Returns: a hook whose user is rng, which must outlive it.
   Threads: any. Blocks: no. Allocates: no. */
RM_API rm_random rm_rng_random(rm_rng *rng);

/* A number in [0, bound) from a hook (NULL = the operating system), without modulo bias (Lemire
   2019).
   Returns: 0 for bound 0.
   Threads: any. Blocks: no. Allocates: no. */
RM_API uint64_t rm_random_below(const rm_random *random, uint64_t bound);

/* >>environment --------------------------------------------------------------------------- */

struct rm_log;

/* What an object takes from outside. It is copied; what it points at must outlive the object. */
typedef struct rm_env {
    const rm_allocator *allocator; /* 0 = RM_MALLOC and RM_FREE */
    const rm_clock *clock;         /* 0 = rm_clock_system() */
    const rm_random *random;       /* 0 = the operating system's */
    const struct rm_log *log;      /* 0 = silent */
} rm_env;

/* Checks an environment (NULL = all defaults) and fills in the clock. Every create call does it.
   Returns: RM_E_INVALID naming the member with a callback missing, or for out NULL.
   Threads: any. Blocks: no. Allocates: no. */
RM_API rm_status rm_env_resolve(const rm_env *env, rm_env *out, rm_error *error);

/* >>hash ---------------------------------------------------------------------------------- */

/* A key for rm_hash. One object, one random key: collisions cannot be prepared from outside. */
typedef struct rm_hash_key {
    uint64_t k0, k1;
} rm_hash_key;

/* A fresh random key from a hook (NULL = the operating system).
   Returns: the key.
   Threads: any. Blocks: no. Allocates: no. */
RM_API rm_hash_key rm_hash_key_random(const rm_random *random);

/* SipHash-1-3 (Aumasson, Bernstein 2012) of size bytes, with straight-line code for 8 and 16.
   Returns: the hash, the same on every platform; size 0 when data is NULL.
   Threads: any. Blocks: no. Allocates: no. Cost: O(size). */
RM_API uint64_t rm_hash(const rm_hash_key *key, const void *data, size_t size);

/* >>histogram ----------------------------------------------------------------------------- */

/* A log-linear histogram whose decades are cut at 1-2-5: bin edges are round decimal numbers, so
   that counts "<= bound" are exact at every such bound. All calls: Threads owner. */
typedef struct rm_hist_desc {
    uint32_t first_decade; /* linear from 0 to 10^first_decade, logarithmic above; 0..18 */
    uint32_t last_decade;  /* values above 10^last_decade count as overflow; first+1..18; 0 = 9 */
    uint32_t per_decade;   /* 16, 32, 80 or 160 bins, which are at most 25, 12.5, 5 or 2.5 % wide
                              of their value; 0 = 16 */
} rm_hist_desc;

/* Private fields; counts lives in the memory handed to rm_hist_init. */
typedef struct rm_hist {
    uint64_t *counts;
    uint64_t count;
    uint64_t refused;
    int64_t sum;
    int64_t min, max;
    uint32_t bins;
    uint32_t first, last, cut;
    uint16_t base[55];
} rm_hist;

/* The bytes that the bins need: 8 for each of about per_decade * decades.
   Returns: 0 for a bad desc; desc NULL = defaults.
   Threads: any. Blocks: no. Allocates: no. */
RM_API size_t rm_hist_footprint(const rm_hist_desc *desc);

/* Makes an empty histogram in the caller's memory (8-byte aligned, rm_hist_footprint bytes); desc
   NULL = defaults.
   Returns: RM_E_INVALID for NULL or a bad desc; RM_E_TOO_LARGE when size is too small.
   Threads: owner. Blocks: no. Allocates: no. Owns: the memory stays the caller's. */
RM_API rm_status rm_hist_init(rm_hist *hist, const rm_hist_desc *desc, void *memory, size_t size);

/* Counts a value; a negative one is refused and counted as such.
   Returns: RM_E_INVALID for NULL or a negative value.
   Threads: owner. Blocks: no. Allocates: no. */
RM_API rm_status rm_hist_record(rm_hist *hist, int64_t value);

/* Adds the counts of a histogram with the same desc.
   Returns: RM_E_INVALID when the descs differ or for NULL.
   Threads: owner of both. Blocks: no. Allocates: no. Cost: O(bins). */
RM_API rm_status rm_hist_merge(rm_hist *into, const rm_hist *from);

/* Forgets everything.
   Threads: owner. Blocks: no. Allocates: no. Cost: O(bins). */
RM_API void rm_hist_reset(rm_hist *hist);

/* The value below which a share q of all values lies, interpolated inside its bin.
   Returns: 0 for an empty histogram, NULL or q NaN; q is taken into 0..1. Never outside min..max.
   Threads: owner. Blocks: no. Allocates: no. Cost: O(bins). */
RM_API int64_t rm_hist_quantile(const rm_hist *hist, double q);

/* How many values are <= bound: exact when bound is a bin edge, else whole bins below it.
   Returns: the count; 0 for NULL.
   Threads: owner. Blocks: no. Allocates: no. Cost: O(bins). */
RM_API uint64_t rm_hist_count_le(const rm_hist *hist, int64_t bound);

/* The upper edge, inclusive, of a bin.
   Returns: INT64_MAX for the last (overflow) bin and for an index out of range.
   Threads: owner. Blocks: no. Allocates: no. */
RM_API int64_t rm_hist_bin_edge(const rm_hist *hist, uint32_t bin);

/* >>cancel -------------------------------------------------------------------------------- */

/* A cancellation token: requested once, seen by every wait that was given it. Private fields. */
typedef struct rm_cancel {
    rm_mutex mutex;
    struct rm_waiter *waiters;
    uint32_t requested;
} rm_cancel;

/* Makes a token.
   Returns: RM_E_INVALID for NULL; RM_E_SYSTEM with nothing made.
   Threads: owner. Blocks: no. Allocates: no. Owns: the caller; rm_cancel_destroy. */
RM_API RM_MUST_USE rm_status rm_cancel_init(rm_cancel *cancel);

/* Ends a token that no call uses any more.
   Returns: RM_E_BUSY, with nothing done, while a wait is registered with it; RM_E_INVALID for NULL.
   Threads: owner. Blocks: no. Allocates: no. */
RM_API rm_status rm_cancel_destroy(rm_cancel *cancel);

/* Requests cancellation: every wait with this token ends with RM_E_CANCELLED, unless its grant or
   its deadline came first. Completion callbacks run before it returns.
   Threads: any. Blocks: for short locks, in done_fn. Allocates: no. Cost: O(waits). */
RM_API void rm_cancel_request(rm_cancel *cancel);

/* Tells whether cancellation was requested.
   Returns: false for NULL.
   Threads: any. Blocks: no. Allocates: no. */
RM_API bool rm_cancel_requested(const rm_cancel *cancel);

/* >>wait queue ---------------------------------------------------------------------------- */
/* The one place where threads wait for something of ours: a mutex, a FIFO of waiters that live on
   their thread's stack (or, with a completion callback, in the caller's memory), and a word that
   says whether anyone waits.

   The owner has units that it hands out without a lock of its own. Its try_fn takes one:
     acquire   if (!rm_waitq_must_queue(q) && take one) done; else rm_waitq_wait(q, ...)
     release   give the unit back with a seq_cst operation; rm_waitq_notify(q)
   rm_waitq_wait publishes the waiter first and calls try_fn after that, so that a release next to
   it either sees the waiter or leaves a unit for the try: seq_cst on both sides, no lost wake-up.

   Policy: a release wakes the head of the queue and lets running threads take the unit first
   (barging: fast). Once the head has waited barge_ns, newcomers must queue and every unit is
   handed to the head under the lock: starvation is bounded. RM_STRICT always does the latter.
   One wake is in flight at a time; whoever leaves the queue passes on what is left. Waiters whose
   deadline has passed or whose token was requested are never granted anything.

   An owner may guard its own state with the queue's lock (rm_waitq_lock) and end waits by request
   (rm_waitq_complete): single flight is built so. */

/* Takes one unit for a request; a primitive, called with the queue's lock held.
   Returns true and writes *grant, or false when there is none. */
typedef bool (*rm_waitq_try_fn)(void *owner, void *request, uint64_t *grant);

/* The end of an asynchronous wait; a hook, called once, without a lock, by the thread whose call
   ended it: before that call returns or, when the thread is inside another such callback, right
   after that one (RM_NO_TLS: inside it). The waiter's memory is the caller's again when it is
   called. */
typedef void (*rm_waitq_done_fn)(rm_status status, uint64_t grant, void *user);

typedef struct rm_waitq_desc {
    const rm_clock *clock;  /* 0 = the system's */
    rm_waitq_try_fn try_fn; /* 0 = waits end through rm_waitq_complete only */
    void *owner;            /* first argument of try_fn */
    /* primitive, called with the lock held: the next time after now at which try_fn may succeed
       without a notify; INT64_MAX = at none. 0 = there is none */
    int64_t (*look_at_fn)(void *owner, void *request, int64_t now);
    int64_t barge_ns;        /* newcomers may barge until the head has waited so long; 0 = 50 us;
                                RM_STRICT = first come, first served */
    uint32_t max_waiters;    /* more are turned away with RM_E_FULL; 0 = no bound */
    rm_hist *wait_histogram; /* waiting times of all ended waits, timed out or not; one that goes on
                                has one more each time; 0 = none */
} rm_waitq_desc;

/* Totals since creation, and the present length. */
typedef struct rm_waitq_stats {
    uint64_t waits;     /* waiters that entered the queue */
    uint64_t granted;   /* ended with RM_OK */
    uint64_t timeouts;  /* ended with RM_E_TIMEOUT */
    uint64_t cancelled; /* ended with RM_E_CANCELLED */
    uint64_t ended;     /* ended with another status, such as RM_E_CLOSED */
    uint64_t refused;   /* turned away with RM_E_FULL, and not counted in waits */
    uint32_t waiting;   /* in the queue now: waits less granted, timeouts, cancelled and ended */
} rm_waitq_stats;

/* A place in a queue. Private; only rm_waitq_add needs one from the caller. */
typedef struct rm_waiter {
    struct rm_waiter *next, *prev;
    struct rm_waiter *cancel_next, *cancel_prev;
    struct rm_waitq *queue;
    rm_cancel *cancel;
    void *request;
    rm_cond *cond;
    rm_waitq_done_fn done_fn;
    void *user;
    rm_deadline deadline;
    int64_t since_ns, look_ns;
    uint64_t grant;
    rm_status status;
    uint8_t state;
    bool registered, waited, removed;
} rm_waiter;

/* Private fields; embed it. */
typedef struct rm_waitq {
    uint32_t word;
    bool closed;
    rm_mutex mutex;
    rm_waiter *head, *tail, *woken, *done;
    rm_waitq_desc desc;
    rm_waitq_stats stats;
    uint32_t inside;
} rm_waitq;

/* Makes a queue; desc NULL = defaults.
   Returns: RM_E_INVALID for NULL, a bad barge_ns or a clock without now_fn or wait_fn;
   RM_E_SYSTEM with nothing made.
   Threads: owner. Blocks: no. Allocates: no. Owns: the caller; rm_waitq_destroy. */
RM_API RM_MUST_USE rm_status rm_waitq_init(rm_waitq *q, const rm_waitq_desc *desc);

/* Ends a queue.
   Returns: RM_E_BUSY, with nothing done, while a waiter has not left it; RM_E_INVALID for NULL.
   Threads: owner. Blocks: no. Allocates: no. */
RM_API rm_status rm_waitq_destroy(rm_waitq *q);

/* Tells a newcomer whether it must queue instead of taking a unit itself.
   Returns: true while the head is owed the next unit.
   Threads: any. Blocks: no. Allocates: no. */
RM_API bool rm_waitq_must_queue(const rm_waitq *q);

/* Waits for a unit; cancel may be NULL.
   Returns: RM_OK with *grant as try_fn or rm_waitq_complete wrote it; RM_E_TIMEOUT; RM_E_CANCELLED
   (both: nothing was granted); RM_E_FULL; RM_E_CLOSED; the status of rm_waitq_complete;
   RM_E_BUSY with RM_NO_THREADS; RM_E_SYSTEM; RM_E_INVALID for NULL.
   Threads: any. Blocks: until then. Allocates: no. */
RM_API RM_MUST_USE rm_status rm_waitq_wait(rm_waitq *q, void *request, rm_deadline deadline,
                                           rm_cancel *cancel, uint64_t *grant);

/* Waits on, for one whose wait ended with RM_OK but whose unit proved unfit: before all that began
   to wait after since_ns, however many wait. It counts as the same wait, not granted yet.
   Returns: as rm_waitq_wait, but for RM_E_FULL.
   Threads: any. Blocks: until then. Allocates: no. Cost: O(those that began after it). */
RM_API RM_MUST_USE rm_status rm_waitq_wait_on(rm_waitq *q, void *request, int64_t since_ns,
                                              rm_deadline deadline, rm_cancel *cancel,
                                              uint64_t *grant);

/* Queues a completion callback instead of a thread. done_fn may run before this returns: if nobody
   waits and there is a unit, that is no wait in the statistics. cancel may be NULL. Its deadline is
   kept by rm_waitq_expire and by every release; RM_NO_THREADS builds have it too.
   Returns: RM_OK: done_fn will be called, once. Else it will not: RM_E_FULL, RM_E_CLOSED,
   RM_E_CANCELLED, RM_E_INVALID for NULL.
   Threads: any. Blocks: for a short lock, in done_fn. Allocates: no.
   Owns: the queue has *waiter until done_fn. */
RM_API RM_MUST_USE rm_status rm_waitq_add(rm_waitq *q, rm_waiter *waiter, void *request,
                                          rm_deadline deadline, rm_cancel *cancel,
                                          rm_waitq_done_fn done_fn, void *user);

/* rm_waitq_wait_on for a waiter whose done_fn was called with RM_OK: all is as it was added.
   Returns: as rm_waitq_add, but for RM_E_FULL; RM_E_CANCELLED when rm_waitq_remove came in between;
   RM_E_STALE for a waiter that was not granted anything by this queue.
   Threads: the one that has the waiter. Blocks: for a short lock, in done_fn. Allocates: no.
   Owns: the queue has *waiter until done_fn. Cost: O(those that began after it). */
RM_API RM_MUST_USE rm_status rm_waitq_add_on(rm_waitq *q, rm_waiter *waiter);

/* Takes an asynchronous waiter out: its done_fn is called with RM_E_CANCELLED.
   Returns: RM_E_STALE when it came too late; RM_E_INVALID for NULL.
   Threads: any, while the waiter's memory lives. Blocks: for a short lock, in done_fn.
   Allocates: no. */
RM_API rm_status rm_waitq_remove(rm_waitq *q, rm_waiter *waiter);

/* Call it after a unit came back: wakes the head or hands it over. One load when nobody waits.
   Threads: any; not with the queue's lock. Blocks: for a short lock, in done_fn. Allocates: no. */
RM_API void rm_waitq_notify(rm_waitq *q);

/* As rm_waitq_notify, but hands over what there is however short the head has waited.
   Threads: any; not with the queue's lock. Blocks: for a short lock, in done_fn. Allocates: no. */
RM_API void rm_waitq_serve(rm_waitq *q);

/* Ends the asynchronous waits whose deadline has passed, and serves those that can be.
   Returns: when to call it again: the earliest deadline of those that are left, or when the head
   may be served without a notify (look_at_fn); INT64_MAX for neither.
   Threads: any. Blocks: for a short lock, in done_fn. Allocates: no. Cost: O(waiters). */
RM_API int64_t rm_waitq_expire(rm_waitq *q);

/* Refuses further waiters and ends all waits with RM_E_CLOSED.
   Threads: any. Blocks: for a short lock, in done_fn. Allocates: no. Cost: O(waiters). */
RM_API void rm_waitq_close(rm_waitq *q);

/* Takes waiters again after rm_waitq_close.
   Threads: any. Blocks: for a short lock. Allocates: no. */
RM_API void rm_waitq_open(rm_waitq *q);

/* Reads the statistics.
   Returns: RM_E_INVALID for NULL.
   Threads: any. Blocks: for a short lock. Allocates: no. */
RM_API rm_status rm_waitq_stats_get(rm_waitq *q, rm_waitq_stats *out);

/* Takes the queue's lock, for an owner that keeps its state under it.
   Threads: any; not one that holds it. Blocks: until it is free. Allocates: no. */
RM_API void rm_waitq_lock(rm_waitq *q);

/* Gives the lock back and then runs the completion callbacks that became due under it.
   Threads: the one that holds it. Blocks: in done_fn. Allocates: no. */
RM_API void rm_waitq_unlock(rm_waitq *q);

/* As rm_waitq_wait, but with the lock held on entry and on return; it is free in between. cancel
   may be NULL.
   Returns: as rm_waitq_wait.
   Threads: the one that holds the lock. Blocks: yes. Allocates: no. */
RM_API RM_MUST_USE rm_status rm_waitq_wait_locked(rm_waitq *q, void *request, rm_deadline deadline,
                                                  rm_cancel *cancel, uint64_t *grant);

/* Ends, with the lock held, every wait for this request (NULL = every wait). With RM_OK, those that
   are over end with RM_E_TIMEOUT or RM_E_CANCELLED instead. Then it hands on what is left.
   Returns: how many ended with that status.
   Threads: the one that holds the lock. Blocks: no. Allocates: no. Cost: O(waiters). */
RM_API uint32_t rm_waitq_complete(rm_waitq *q, const void *request, rm_status status,
                                  uint64_t grant);

/* >>semaphore ----------------------------------------------------------------------------- */

/* A counting semaphore on a wait queue. Private fields. */
typedef struct rm_sem {
    rm_waitq queue;
    uint32_t permits;
    uint32_t max;
} rm_sem;

typedef struct rm_sem_desc {
    const rm_clock *clock; /* 0 = the system's */
    uint32_t permits;      /* how many may hold one at once; 0 = 1 */
    uint32_t max_waiters;  /* more are turned away with RM_E_FULL; 0 = no bound */
    int64_t barge_ns;      /* as in rm_waitq_desc; 0 = 50 us, RM_STRICT = first come first served */
} rm_sem_desc;

/* Makes a semaphore with all permits free; desc NULL = defaults.
   Returns: as rm_waitq_init: RM_E_INVALID, RM_E_SYSTEM, with nothing made.
   Threads: owner. Blocks: no. Allocates: no. Owns: the caller; rm_sem_destroy. */
RM_API RM_MUST_USE rm_status rm_sem_init(rm_sem *sem, const rm_sem_desc *desc);

/* Ends a semaphore.
   Returns: RM_E_BUSY, with nothing done, while a permit is out or somebody waits; RM_E_INVALID.
   Threads: owner. Blocks: no. Allocates: no. */
RM_API rm_status rm_sem_destroy(rm_sem *sem);

/* Takes a permit; timeout_ns 0 and RM_NOWAIT do not wait. cancel may be NULL.
   Returns: RM_E_BUSY when there is none and it may not wait; RM_E_TIMEOUT; RM_E_CANCELLED;
   RM_E_FULL; RM_E_INVALID for NULL or a bad timeout; RM_E_SYSTEM.
   Threads: any. Blocks: up to timeout_ns. Allocates: no. Owns: the caller; rm_sem_release. */
RM_API RM_MUST_USE rm_status rm_sem_acquire(rm_sem *sem, int64_t timeout_ns, rm_cancel *cancel);

/* Gives a permit back.
   Returns: RM_E_STALE when all permits are free already; RM_E_INVALID for NULL.
   Threads: any. Blocks: for a short lock when somebody waits. Allocates: no. */
RM_API rm_status rm_sem_release(rm_sem *sem);

/* The permits that are free now.
   Returns: 0 for NULL.
   Threads: any. Blocks: no. Allocates: no. */
RM_API uint32_t rm_sem_available(const rm_sem *sem);

/* >>registry ------------------------------------------------------------------------------ */

/* A bounded map from keys to objects that are made on first use, with lock stripes. Opaque. */
typedef struct rm_registry rm_registry;

/* A borrowed entry. While it is out, the entry is neither evicted nor destroyed. */
typedef struct rm_registry_ref {
    void *value;
    uint32_t slot;
    uint32_t generation;
} rm_registry_ref;

typedef struct rm_registry_desc {
    const rm_env *env;    /* 0 = defaults */
    uint32_t max_entries; /* the bound; 0 = 1024; at most 2^24 */
    uint32_t max_key;     /* longest key in bytes; 0 = 255 */
    uint32_t stripes;     /* locks, rounded up to a power of two; 0 = 8; at most 256 */
    /* hook: makes the object of a key; 0 = rm_registry_get does not create */
    rm_status (*create_fn)(const void *key, size_t size, void **value, rm_error *error, void *user);
    /* hook: ends an object; 0 = nothing to do */
    void (*destroy_fn)(void *value, void *user);
    /* primitive: may this unborrowed object make room for another? 0 = none may */
    bool (*evictable_fn)(void *value, void *user);
    void *user; /* last argument of the callbacks */
} rm_registry_desc;

/* Makes a registry.
   Returns: RM_E_INVALID naming the field; RM_E_NOMEM; RM_E_SYSTEM.
   Threads: owner. Blocks: no. Allocates: yes. Owns: the caller; rm_registry_destroy. */
RM_API RM_MUST_USE rm_status rm_registry_create(const rm_registry_desc *desc, rm_registry **out,
                                                rm_error *error);

/* Ends a registry and its objects; NULL is allowed.
   Returns: RM_E_BUSY, with nothing done, while a reference is out, and from its own destroy_fn, for
   which rm_registry_get makes nothing more.
   Threads: owner. Blocks: in destroy_fn. Allocates: no. Cost: O(entries). */
RM_API rm_status rm_registry_destroy(rm_registry *registry);

/* Borrows the object of a key and makes it when there is none. Two threads that meet on a new key
   may both run create_fn; one object wins, the other is destroyed at once.
   Returns: RM_E_NOT_FOUND without create_fn; RM_E_CLOSED in rm_registry_destroy; RM_E_FULL when the
   bound is reached and nothing can be evicted, also while other threads fill or empty the last
   places; RM_E_TOO_LARGE for a key above max_key; RM_E_NOMEM; RM_E_INVALID; create_fn's status.
   Threads: any. Blocks: for a short lock, in hooks. Allocates: on creation.
   Owns: the caller; rm_registry_put. Cost: O(max_entries) when full. */
RM_API RM_MUST_USE rm_status rm_registry_get(rm_registry *registry, const void *key, size_t size,
                                             rm_registry_ref *out, rm_error *error);

/* Borrows an entry once more, by a reference that was borrowed before, back or not.
   Returns: RM_E_STALE when that object has gone, or for a foreign reference; RM_E_INVALID for NULL.
   Threads: any. Blocks: for a short lock. Allocates: no. Owns: the caller; rm_registry_put. */
RM_API RM_MUST_USE rm_status rm_registry_hold(rm_registry *registry, const rm_registry_ref *ref,
                                              rm_registry_ref *out);

/* Gives a borrowed entry back and clears *ref: a copy of it must not be given back as well.
   Returns: RM_E_STALE for a second put or a foreign reference; RM_E_INVALID for NULL.
   Threads: any. Blocks: for a short lock. Allocates: no. */
RM_API rm_status rm_registry_put(rm_registry *registry, rm_registry_ref *ref);

/* Removes and destroys the object of a key.
   Returns: RM_E_NOT_FOUND; RM_E_BUSY while it is borrowed; RM_E_INVALID for NULL.
   Threads: any. Blocks: for a short lock, in destroy_fn. Allocates: no. */
RM_API rm_status rm_registry_remove(rm_registry *registry, const void *key, size_t size);

/* Calls fn for every entry, each borrowed during its call; entries that come or go meanwhile may or
   may not be seen. fn returns false to stop.
   Threads: any. Blocks: for short locks, in fn. Allocates: no. Cost: O(max_entries). */
RM_API void rm_registry_each(rm_registry *registry,
                             bool (*fn)(const void *key, size_t size, void *value, void *user),
                             void *user);

/* The number of entries.
   Returns: 0 for NULL.
   Threads: any. Blocks: no. Allocates: no. */
RM_API uint32_t rm_registry_count(const rm_registry *registry);

/* Makes a registry usable in the child of a fork(): it is empty. The parent's objects are forgotten
   without destroy_fn, their references are stale, and the memory of their keys is not freed.
   Returns: RM_E_INVALID for NULL; RM_E_SYSTEM, with nothing usable.
   Threads: the child's only one. Blocks: no. Allocates: no. Cost: O(max_entries). */
RM_API rm_status rm_registry_after_fork_child(rm_registry *registry);

/* >>text ---------------------------------------------------------------------------------- */

/* A writer into the caller's buffer. Without flush_fn, what does not fit is dropped and `overflow`
   set; with it, a full buffer is handed on and reused. All calls: Threads owner. */
typedef struct rm_text {
    char *buffer;
    size_t size;
    size_t used;
    bool overflow;
    bool (*flush_fn)(const char *data, size_t size, void *user); /* false = stop; 0 = none */
    void *user;
} rm_text;

/* Starts a text in a buffer (NULL or size 0: everything overflows). Not NUL-terminated.
   Returns: the writer.
   Threads: any. Blocks: no. Allocates: no. */
RM_API rm_text rm_text_make(char *buffer, size_t size);

/* Hands what the buffer holds to flush_fn, if there is one.
   Returns: false when anything was dropped or flush_fn has said stop.
   Threads: owner. Blocks: in flush_fn. Allocates: no. */
RM_API bool rm_text_flush(rm_text *text);

/* Appends bytes.
   Threads: owner. Blocks: in flush_fn. Allocates: no. Cost: O(size). */
RM_API void rm_text_bytes(rm_text *text, const void *data, size_t size);

/* Appends a NUL-terminated string; NULL appends nothing.
   Threads: owner. Blocks: in flush_fn. Allocates: no. */
RM_API void rm_text_string(rm_text *text, const char *string);

/* Appends a decimal number.
   Threads: owner. Blocks: in flush_fn. Allocates: no. */
RM_API void rm_text_uint(rm_text *text, uint64_t value);

/* Appends a signed decimal number.
   Threads: owner. Blocks: in flush_fn. Allocates: no. */
RM_API void rm_text_int(rm_text *text, int64_t value);

/* Appends value * 10^-decimals exactly, without floating point and without trailing zeros:
   rm_text_decimal(t, 1500, 3) writes 1.5. At most 18 decimals.
   Threads: owner. Blocks: in flush_fn. Allocates: no. */
RM_API void rm_text_decimal(rm_text *text, int64_t value, uint32_t decimals);

/* Appends the shortest decimal that reads back as the same double, whatever the locale (one digit
   more for some powers of two); NaN, +Inf and -Inf for those.
   Threads: owner. Blocks: in flush_fn. Allocates: no. */
RM_API void rm_text_double(rm_text *text, double value);

/* Appends a JSON string with its quotes: control characters, quotes and backslashes escaped,
   invalid UTF-8 replaced by U+FFFD.
   Threads: owner. Blocks: in flush_fn. Allocates: no. */
RM_API void rm_text_json(rm_text *text, const char *data, size_t size);

/* The length of the UTF-8 sequence at data, by RFC 3629 (no overlong forms, no surrogates).
   Returns: 1 to 4; 0 when it is invalid or cut off.
   Threads: any. Blocks: no. Allocates: no. */
RM_API size_t rm_utf8_length(const char *data, size_t size);

/* >>log ----------------------------------------------------------------------------------- */

typedef enum rm_log_level {
    RM_LOG_DEFAULT = 0, /* in a setting: RM_LOG_INFO */
    RM_LOG_DEBUG = 1,
    RM_LOG_INFO = 2,
    RM_LOG_WARN = 3,
    RM_LOG_ERROR = 4,
    RM_LOG_OFF = 5
} rm_log_level;

typedef enum rm_kv_type { RM_KV_STRING = 0, RM_KV_INT, RM_KV_DOUBLE, RM_KV_BOOL } rm_kv_type;

/* A key and a value of a log event. */
typedef struct rm_kv {
    const char *key;
    const char *string;
    int64_t integer; /* also the bool */
    double number;
    rm_kv_type type;
} rm_kv;

/* One log event. The strings live during the call only. */
typedef struct rm_log_event {
    int64_t wall_ns;       /* since 1970 UTC */
    const char *component; /* such as "rm_pool" */
    const char *event;     /* such as "create_failed"; a name, not a sentence */
    const rm_kv *values;
    size_t count;
    rm_log_level level;
} rm_log_event;

/* The log hook; a primitive. Events below level are not even built. */
typedef struct rm_log {
    void (*log_fn)(const rm_log_event *event, void *user);
    void *user;
    rm_log_level level; /* the lowest level to report; 0 = RM_LOG_INFO */
} rm_log;

/* Writes JSON lines to a stdio stream, then hands the event to next: console and file with a level
   of their own each. Use rm_log_to_stream as log_fn and the address of this as user. */
typedef struct rm_log_stream {
    void *stream;                     /* a FILE *; 0 = stderr */
    const struct rm_log_stream *next; /* 0 = the last */
    rm_log_level level;               /* the lowest level to write; 0 = RM_LOG_INFO */
} rm_log_stream;

/* A key with a string.
   Returns: the pair; NULL is written as null.
   Threads: any. Blocks: no. Allocates: no. Owns: nothing; the strings must live as long. */
RM_API rm_kv rm_kv_string(const char *key, const char *value);

/* A key with an integer.
   Returns: the pair.
   Threads: any. Blocks: no. Allocates: no. */
RM_API rm_kv rm_kv_int(const char *key, int64_t value);

/* A key with a double; NaN and infinities are written as null.
   Returns: the pair.
   Threads: any. Blocks: no. Allocates: no. */
RM_API rm_kv rm_kv_double(const char *key, double value);

/* A key with true or false.
   Returns: the pair.
   Threads: any. Blocks: no. Allocates: no. */
RM_API rm_kv rm_kv_bool(const char *key, bool value);

/* Reports an event to a log (NULL = silent) if its level asks for it.
   Threads: any. Blocks: as log_fn does. Allocates: no. */
RM_API void rm_log_emit(const rm_log *log, const rm_clock *clock, rm_log_level level,
                        const char *component, const char *event, const rm_kv *values,
                        size_t count);

/* Formats an event as one JSON object and a newline:
   {"time":"2026-01-31T12:00:00.123456Z","level":"warn","component":"rm_pool","event":"...",...}
   From the first pair that does not fit on, pairs are left out and "truncated":true ends the
   object: always a whole line.
   Returns: its length, not NUL-terminated; 0 for NULL, and when not even the head fits: 256 bytes
   are enough for it unless its names have to be escaped.
   Threads: any. Blocks: no. Allocates: no. Cost: O(bytes). */
RM_API size_t rm_log_format(const rm_log_event *event, char *buffer, size_t size);

/* A log_fn that writes to the rm_log_stream chain in user; one write a line, at most 2 KiB.
   Threads: any. Blocks: as the stream does. Allocates: no. */
RM_API void rm_log_to_stream(const rm_log_event *event, void *user);

/* Names a level, such as "warn".
   Returns: a static string; "off" for a number that is no level.
   Threads: any. Blocks: no. Allocates: no. */
RM_API const char *rm_log_level_name(rm_log_level level);

/* >>resource ------------------------------------------------------------------------------ */

/* How well a resource does; says nothing about its lifecycle. */
typedef enum rm_health {
    RM_HEALTH_UNKNOWN = 0,
    RM_HEALTH_HEALTHY,
    RM_HEALTH_DEGRADED,
    RM_HEALTH_UNHEALTHY
} rm_health;

typedef enum rm_stat_type { RM_STAT_COUNTER = 0, RM_STAT_GAUGE, RM_STAT_HISTOGRAM } rm_stat_type;

/* One statistic of a resource, as a visitor sees it; everything lives during the call only. */
typedef struct rm_stat {
    const char *name;        /* Prometheus style with unit: rm_pool_wait_seconds */
    const char *help;        /* one sentence */
    const char *label;       /* an extra label such as "state"; 0 = none */
    const char *label_value; /* its value such as "idle" */
    int64_t value;           /* in units of 10^-decimals */
    const rm_hist *hist;     /* for RM_STAT_HISTOGRAM, in units of 10^-decimals */
    uint32_t decimals;       /* 9 for a value in ns under a name in seconds */
    rm_stat_type type;
} rm_stat;

/* Receives one statistic; a hook. */
typedef void (*rm_stat_fn)(const rm_stat *stat, void *user);

/* What can be managed: a pool, a cache, a task, or whatever the user brings. A callback that is
   NULL has nothing to do. All are hooks. */
typedef struct rm_resource {
    const char *name; /* at most 47 bytes, unique in its manager */
    const char *kind; /* such as "database" or "cache"; free text, at most 31 bytes */
    rm_status (*start_fn)(void *user, rm_deadline deadline, rm_error *error);
    rm_status (*stop_fn)(void *user, rm_deadline deadline, rm_error *error);
    rm_health (*health_fn)(void *user, rm_error *reason); /* quick; fill reason unless healthy */
    void (*stats_fn)(void *user, rm_stat_fn visit, void *visit_user);
    void *user;
} rm_resource;

/* A resource without callbacks, to fill in.
   Returns: the resource; the strings must live as long as it is used.
   Threads: any. Blocks: no. Allocates: no. */
RM_API rm_resource rm_resource_make(const char *name, const char *kind, void *user);

/* Names a health, such as "healthy".
   Returns: a static string; "unknown" for a number that is no health.
   Threads: any. Blocks: no. Allocates: no. */
RM_API const char *rm_health_name(rm_health health);

/* >>guard --------------------------------------------------------------------------------- */

/* How a guarded operation ended. */
typedef enum rm_outcome {
    RM_OUTCOME_OK = 0,
    RM_OUTCOME_FAILURE, /* counts against what is guarded */
    RM_OUTCOME_IGNORE   /* says nothing about it: cancelled, or never tried */
} rm_outcome;

/* Leave to do one operation; private to the guard. Zeroed = none. */
typedef struct rm_permit {
    uint64_t word;
    uint64_t owner;
} rm_permit;

/* How a pool or a cache is guarded by a breaker (or anything else) without knowing it. Both are
   hooks. Every permit that was admitted is reported once. */
typedef struct rm_guard {
    rm_status (*admit_fn)(rm_permit *permit, rm_error *error, void *user);
    void (*report_fn)(rm_permit *permit, rm_outcome outcome, void *user);
    void *user;
} rm_guard;

/* >>manager ------------------------------------------------------------------------------- */

/* A set of resources with one lifecycle. Opaque. */
typedef struct rm_manager rm_manager;

typedef enum rm_state {
    RM_STATE_REGISTERED = 0,
    RM_STATE_STARTING,
    RM_STATE_READY,
    RM_STATE_STOPPING,
    RM_STATE_STOPPED,
    RM_STATE_FAILED /* start or stop failed; last_error says why */
} rm_state;

typedef struct rm_manager_desc {
    const rm_env *env;      /* 0 = defaults */
    uint32_t max_resources; /* 0 = 64; at most 65535 */
} rm_manager_desc;

/* A resource as rm_manager_status sees it. */
typedef struct rm_resource_status {
    char name[48];
    char kind[32];
    int64_t since_ns; /* in this state since, on the manager's clock */
    rm_state state;
    rm_health health;    /* UNKNOWN unless the state is READY */
    rm_error last_error; /* of start, stop or health, until the next start or stop goes well; its
                            status is RM_OK when there is none */
} rm_resource_status;

/* The function behind rm_manager_create. If the linker misses it, do what its name says.
   Returns: as rm_manager_create.
   Threads: owner. Blocks: no. Allocates: yes. Owns: the caller. */
RM_API rm_status rm_abi1_define_RM_MANAGER_IMPLEMENTATION_in_one_c_file(const rm_manager_desc *desc,
                                                                        rm_manager **out,
                                                                        rm_error *error);

/* Makes an empty manager; desc NULL = defaults.
   Returns: RM_E_INVALID naming the field; RM_E_NOMEM; RM_E_SYSTEM.
   Threads: owner. Blocks: no. Allocates: yes. Owns: the caller; rm_manager_destroy. */
static inline RM_MUST_USE rm_status rm_manager_create(const rm_manager_desc *desc, rm_manager **out,
                                                      rm_error *error) {
    return rm_abi1_define_RM_MANAGER_IMPLEMENTATION_in_one_c_file(desc, out, error);
}

/* Ends a manager that is stopped or was never started; NULL is allowed. A resource that failed to
   stop is left as it is.
   Returns: RM_E_STATE, with nothing done, while it starts, runs or stops.
   Threads: owner. Blocks: no. Allocates: no. Owns: resources stay their owners'. */
RM_API rm_status rm_manager_destroy(rm_manager *manager);

/* Registers a resource; it starts after those registered before it. Name and kind are copied.
   Returns: RM_E_EXISTS for a name that is taken; RM_E_FULL; RM_E_STATE unless the manager is
   stopped; RM_E_TOO_LARGE for a long name or kind; RM_E_INVALID.
   Threads: any. Blocks: for a short lock. Allocates: no. Owns: user stays the caller's. */
RM_API rm_status rm_manager_add(rm_manager *manager, const rm_resource *resource, rm_error *error);

/* Finds a resource by name.
   Returns: RM_E_NOT_FOUND; RM_E_INVALID for NULL. *out has the manager's strings.
   Threads: any. Blocks: for a short lock. Allocates: no. Owns: the manager has the strings. */
RM_API rm_status rm_manager_get(rm_manager *manager, const char *name, rm_resource *out);

/* Starts every resource in the order of registration. When one fails or the time is over, those
   that had started are stopped in reverse and the manager is stopped again. timeout_ns 0 = 30 s.
   Returns: the first failure, which is errors->items[0]; RM_E_TIMEOUT when the time ran out before
   the last start; RM_E_STATE unless all is stopped, and from its own hooks; RM_E_INVALID.
   Threads: any. Blocks: in the start hooks, one after the other. Allocates: no. */
RM_API rm_status rm_manager_start(rm_manager *manager, int64_t timeout_ns, rm_errors *errors);

/* Stops every started resource in reverse; each gets its call, whatever the others return and even
   when the time is over. What fails to stop gets another call from the next rm_manager_stop. It
   waits for health hooks that rm_manager_status runs. timeout_ns 0 = 8 s. When nothing runs: RM_OK.
   Returns: the first failure, which is errors->items[0]; RM_E_STATE while another thread starts or
   stops it, and from its own hooks; RM_E_INVALID.
   Threads: any. Blocks: in the stop hooks, one after the other. Allocates: no. */
RM_API rm_status rm_manager_stop(rm_manager *manager, int64_t timeout_ns, rm_errors *errors);

/* The state and health of all resources, in the order of registration. Health hooks are called for
   those that were READY when it began, perhaps while another thread stops them.
   Returns: RM_E_TOO_LARGE when capacity is too small: the first ones are filled and *count says how
   many there are; RM_E_INVALID for NULL.
   Threads: any. Blocks: in the health hooks. Allocates: no. Cost: O(resources). */
RM_API rm_status rm_manager_status(rm_manager *manager, rm_resource_status *out, uint32_t capacity,
                                   uint32_t *count);

/* Makes a manager usable in the child of a fork(): its resources are registered and not started,
   whatever they were in the parent; no hook is called. See to the resources themselves first.
   Returns: RM_E_INVALID for NULL; RM_E_SYSTEM, with nothing usable.
   Threads: the child's only one. Blocks: no. Allocates: no. Cost: O(resources). */
RM_API rm_status rm_manager_after_fork_child(rm_manager *manager);

/* Names a state, such as "ready".
   Returns: a static string; "unknown" for a number that is no state.
   Threads: any. Blocks: no. Allocates: no. */
RM_API const char *rm_state_name(rm_state state);

#ifdef __cplusplus
}
#endif
#endif /* RM_RM_H_INCLUDED */

/* ========================================================================================== */
/* Private to the implementations: atomics, thread-local storage, small helpers.              */
/* ========================================================================================== */
#if (defined(RMI_WANT_PRIVATE) || defined(RM_BASE_IMPLEMENTATION) || \
     defined(RM_MANAGER_IMPLEMENTATION)) &&                          \
    !defined(RMI_PRIVATE_DONE)
#define RMI_PRIVATE_DONE

#include <string.h>

#ifndef RM_ASSERT
#define RM_ASSERT(condition) ((void)0)
#endif

/* >>atomics: 32 and 64 bit words only, constant orders only. A failed CAS reads relaxed. */
#if !defined(RM_NO_THREADS) && !defined(RMI_INTERLOCKED) && \
    (defined(__GNUC__) || defined(__clang__))
#define RMI_TLS __thread
#define RMI_LOAD32(p, order) __atomic_load_n((p), __ATOMIC_##order)
#define RMI_LOAD64(p, order) __atomic_load_n((p), __ATOMIC_##order)
#define RMI_STORE32(p, v, order) __atomic_store_n((p), (v), __ATOMIC_##order)
#define RMI_STORE64(p, v, order) __atomic_store_n((p), (v), __ATOMIC_##order)
#define RMI_XCHG32(p, v, order) __atomic_exchange_n((p), (v), __ATOMIC_##order)
#define RMI_ADD32(p, v, order) __atomic_fetch_add((p), (v), __ATOMIC_##order)
#define RMI_ADD64(p, v, order) __atomic_fetch_add((p), (v), __ATOMIC_##order)
#define RMI_CAS32(p, expected, v, order) \
    __atomic_compare_exchange_n((p), (expected), (v), 0, __ATOMIC_##order, __ATOMIC_RELAXED)
#define RMI_CAS64(p, expected, v, order) \
    __atomic_compare_exchange_n((p), (expected), (v), 0, __ATOMIC_##order, __ATOMIC_RELAXED)
#else
#ifdef RM_NO_THREADS
#define RMI_TLS
#define RMI_SWAP32(p, v) rmi_plain_swap32((p), (v))
#define RMI_SWAP64(p, v) rmi_plain_swap64((p), (v))
#define RMI_PLUS32(p, v) rmi_plain_swap32((p), *(p) + (v))
#define RMI_PLUS64(p, v) rmi_plain_swap64((p), *(p) + (v))
#define RMI_SWAPIF32(p, e, v) (*(p) == (e) ? rmi_plain_swap32((p), (v)) : *(p))
#define RMI_SWAPIF64(p, e, v) (*(p) == (e) ? rmi_plain_swap64((p), (v)) : *(p))
static inline uint32_t rmi_plain_swap32(uint32_t *p, uint32_t v) {
    const uint32_t old = *p;
    *p = v;
    return old;
}
static inline uint64_t rmi_plain_swap64(uint64_t *p, uint64_t v) {
    const uint64_t old = *p;
    *p = v;
    return old;
}
#define RMI_LOAD32(p, order) (*(p))
#define RMI_LOAD64(p, order) (*(p))
#define RMI_STORE32(p, v, order) ((void)(*(p) = (v)))
#define RMI_STORE64(p, v, order) ((void)(*(p) = (v)))
#else /* Win32 Interlocked: every operation is a full barrier */
#include <intrin.h>
#ifdef _MSC_VER
#define RMI_TLS __declspec(thread)
#else
#define RMI_TLS __thread
#endif
#define RMI_WORD32(p) ((volatile long *)(uintptr_t)(p))
#define RMI_WORD64(p) ((volatile __int64 *)(uintptr_t)(p))
#define RMI_SWAP32(p, v) ((uint32_t)_InterlockedExchange(RMI_WORD32(p), (long)(v)))
#define RMI_SWAP64(p, v) ((uint64_t)_InterlockedExchange64(RMI_WORD64(p), (__int64)(v)))
#define RMI_PLUS32(p, v) ((uint32_t)_InterlockedExchangeAdd(RMI_WORD32(p), (long)(v)))
#define RMI_PLUS64(p, v) ((uint64_t)_InterlockedExchangeAdd64(RMI_WORD64(p), (__int64)(v)))
#define RMI_SWAPIF32(p, e, v) \
    ((uint32_t)_InterlockedCompareExchange(RMI_WORD32(p), (long)(v), (long)(e)))
#define RMI_SWAPIF64(p, e, v) \
    ((uint64_t)_InterlockedCompareExchange64(RMI_WORD64(p), (__int64)(v), (__int64)(e)))
#define RMI_LOAD32(p, order) RMI_SWAPIF32(p, 0, 0)
#define RMI_LOAD64(p, order) RMI_SWAPIF64(p, 0, 0)
#define RMI_STORE32(p, v, order) ((void)RMI_SWAP32(p, v))
#define RMI_STORE64(p, v, order) ((void)RMI_SWAP64(p, v))
#endif
#define RMI_XCHG32(p, v, order) RMI_SWAP32((p), (uint32_t)(v))
#define RMI_ADD32(p, v, order) RMI_PLUS32((p), (uint32_t)(v))
#define RMI_ADD64(p, v, order) RMI_PLUS64((p), (uint64_t)(v))
#define RMI_CAS32(p, expected, v, order) rmi_cas32((p), (expected), (v))
#define RMI_CAS64(p, expected, v, order) rmi_cas64((p), (expected), (v))
static inline bool rmi_cas32(uint32_t *p, uint32_t *expected, uint32_t v) {
    const uint32_t seen = RMI_SWAPIF32(p, *expected, v);
    const bool done = seen == *expected;
    *expected = seen;
    return done;
}
static inline bool rmi_cas64(uint64_t *p, uint64_t *expected, uint64_t v) {
    const uint64_t seen = RMI_SWAPIF64(p, *expected, v);
    const bool done = seen == *expected;
    *expected = seen;
    return done;
}
#endif

/* a - b at the ends of int64_t; not a + -b where -b does not exist. */
static inline int64_t rmi_time_since(int64_t a, int64_t b) {
    if (b == INT64_MIN) return a >= 0 ? INT64_MAX : a - b;
    return rm_time_add(a, -b);
}

/* A hook that this thread runs now, on its stack: an object may not be destroyed from inside. */
typedef struct rmi_inside {
    const void *object;
    const struct rmi_inside *outer;
} rmi_inside;

static inline bool rmi_is_inside(const rmi_inside *at, const void *object) {
    while (at != NULL && at->object != object)
        at = at->outer;
    return at != NULL;
}

/* Around a hook; `hooks` is the thread's pointer to the innermost one. */
#ifndef RM_NO_TLS
#define RMI_ENTER(hooks, here, that) \
    ((here).object = (that), (here).outer = (hooks), (hooks) = &(here))
#define RMI_LEAVE(hooks, here) ((hooks) = (here).outer)
#define RMI_IS_INSIDE(hooks, that) rmi_is_inside((hooks), (that))
#else
#define RMI_ENTER(hooks, here, that) ((here).object = (that))
#define RMI_LEAVE(hooks, here) ((void)(here).object)
#define RMI_IS_INSIDE(hooks, that) ((void)(that), false)
#endif

/* Copies a NUL-terminated string into a fixed array, cut at a UTF-8 boundary. */
static inline void rmi_copy_string(char *to, size_t size, const char *from) {
    size_t length = from == NULL ? 0 : strlen(from);
    if (length >= size) {
        uint32_t back = 3; /* a character has at most three bytes that continue it */
        length = size - 1;
        while (back-- > 0 && ((unsigned char)from[length] & 0xC0u) == 0x80u)
            --length;
    }
    if (length > 0) memmove(to, from, length); /* a record may be made from its own texts */
    to[length] = '\0';
}

/* Tells whether a name has 1 to max bytes. */
static inline bool rmi_name_fits(const char *name, size_t max) {
    size_t length = 0;
    while (length <= max && name[length] != '\0')
        ++length;
    return length > 0 && length <= max;
}

/* Refuses a setting: names the field and says what it must be. */
static inline rm_status rmi_bad(rm_error *error, const char *field, const char *wanted) {
    return rm_error_set(error, RM_E_INVALID, 0, field, "must be %s", wanted);
}

/* Checks the name of an object. */
static inline rm_status rmi_check_name(const char *name, rm_error *error) {
    if (name[0] == '\0') return rmi_bad(error, "name", "1 to 47 bytes, or NULL for the default");
    if (rmi_name_fits(name, 47)) return RM_OK;
    return rm_error_set(error, RM_E_TOO_LARGE, 0, "name", "must be at most 47 bytes");
}

/* Shows one statistic to a visitor; label NULL = none. */
static inline void rmi_show(rm_stat_fn visit, void *user, rm_stat_type type, const char *name,
                            const char *help, const char *label, const char *label_value,
                            uint64_t value) {
    rm_stat stat;
    memset(&stat, 0, sizeof stat);
    stat.name = name;
    stat.help = help;
    stat.label = label;
    stat.label_value = label_value;
    stat.value = (int64_t)value;
    stat.type = type;
    visit(&stat, user);
}

/* Shows a histogram of times to a visitor, as a copy taken under the lock of its queue, since a
   visitor may call anything; bins has room for the copy. */
static inline void rmi_show_times(rm_stat_fn visit, void *user, const char *name, const char *help,
                                  rm_waitq *lock, const rm_hist *times, uint64_t *bins) {
    rm_hist copy;
    rm_stat stat;
    rm_waitq_lock(lock);
    copy = *times;
    memcpy(bins, times->counts, times->bins * sizeof *bins);
    rm_waitq_unlock(lock);
    copy.counts = bins;
    memset(&stat, 0, sizeof stat);
    stat.name = name;
    stat.help = help;
    stat.hist = &copy;
    stat.decimals = 9;
    stat.type = RM_STAT_HISTOGRAM;
    visit(&stat, user);
}

#endif /* RMI_PRIVATE_DONE */

/* ========================================================================================== */
/* Implementation of the base.                                                                */
/* ========================================================================================== */
#if defined(RM_BASE_IMPLEMENTATION) && !defined(RM_BASE_IMPLEMENTATION_DONE)
#define RM_BASE_IMPLEMENTATION_DONE

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#if defined(_WIN32)
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#undef WIN32_LEAN_AND_MEAN /* without it winsock2.h could not be included any more */
#else
#include <windows.h>
#endif
#include <ntsecapi.h>
#include <process.h>
#else
#if !defined(CLOCK_MONOTONIC) || (defined(__GLIBC__) && !defined(__USE_XOPEN2K))
#error "rm.h: include the implementation before system headers, or use -D_DEFAULT_SOURCE"
#endif
#if defined(__linux__)
#include <sys/random.h>
#elif defined(__APPLE__) || defined(__FreeBSD__) || defined(__OpenBSD__) || defined(__NetBSD__)
#include <sys/random.h>
#include <unistd.h>
#endif
#ifndef RM_NO_THREADS
#include <pthread.h>
#endif
#endif

#if defined(RM_MALLOC) != defined(RM_FREE)
#error "rm.h: define both RM_MALLOC(size) and RM_FREE(pointer), or neither"
#endif
#ifndef RM_MALLOC
#define RM_MALLOC(size) malloc(size)
#define RM_FREE(pointer) free(pointer)
#endif

#ifdef __cplusplus
extern "C" {
#endif

#ifndef RM_STATIC
RM_API void rm_abi1_define_RM_BASE_IMPLEMENTATION_in_one_c_file(void) {}
#endif

/* >>status */

RM_API const char *rm_status_name(rm_status status) {
    static const char *const names[] = {
        "RM_OK",          "RM_E_INVALID",     "RM_E_NOMEM",    "RM_E_TIMEOUT",   "RM_E_BUSY",
        "RM_E_CANCELLED", "RM_E_CLOSED",      "RM_E_FULL",     "RM_E_NOT_FOUND", "RM_E_EXISTS",
        "RM_E_STALE",     "RM_E_FOREIGN",     "RM_E_REJECTED", "RM_E_TOO_LARGE", "RM_E_DEADLOCK",
        "RM_E_STATE",     "RM_E_UNSUPPORTED", "RM_E_SYSTEM",   "RM_E_FAILED",    "RM_E_REFUSED",
        "RM_E_AUTH",      "RM_E_PROTOCOL",    "RM_E_INTERNAL"};
    const size_t index = (size_t)status;
    return index < sizeof names / sizeof *names ? names[index] : "RM_E_UNKNOWN";
}

RM_API rm_class rm_status_class(rm_status status) {
    static const uint8_t classes[] = {
        RM_CLASS_OK,       RM_CLASS_INVALID,   RM_CLASS_EXHAUSTED, RM_CLASS_TIMEOUT,
        RM_CLASS_BUSY,     RM_CLASS_CANCELLED, RM_CLASS_CANCELLED, RM_CLASS_EXHAUSTED,
        RM_CLASS_INVALID,  RM_CLASS_INVALID,   RM_CLASS_INVALID,   RM_CLASS_INVALID,
        RM_CLASS_REJECTED, RM_CLASS_EXHAUSTED, RM_CLASS_INVALID,   RM_CLASS_INVALID,
        RM_CLASS_INVALID,  RM_CLASS_INTERNAL,  RM_CLASS_INTERNAL,  RM_CLASS_REFUSED,
        RM_CLASS_AUTH,     RM_CLASS_PROTOCOL,  RM_CLASS_INTERNAL}; /* in the order of rm_status */
    const size_t index = (size_t)status;
    return index < sizeof classes ? (rm_class)classes[index] : RM_CLASS_INTERNAL;
}

RM_API const char *rm_class_name(rm_class cls) {
    static const char *const names[] = {"ok",       "timeout",   "refused",  "auth",
                                        "protocol", "exhausted", "rejected", "cancelled",
                                        "busy",     "invalid",   "internal"};
    const size_t index = (size_t)cls;
    return index < sizeof names / sizeof *names ? names[index] : "internal";
}

RM_API rm_status rm_error_set(rm_error *error, rm_status status, int32_t native, const char *where,
                              const char *format, ...) {
    char message[512];
    va_list args;
    if (error == NULL) return status;
    va_start(args, format);
    if (format == NULL || vsnprintf(message, sizeof message, format, args) < 0) message[0] = '\0';
    va_end(args);
    error->status = status;
    error->native = native;
    rmi_copy_string(error->where, sizeof error->where, where);
    rmi_copy_string(error->message, sizeof error->message, message);
    return status;
}

RM_API void rm_errors_add(rm_errors *list, const rm_error *error) {
    if (list == NULL || error == NULL) return;
    if (list->count < RM_ERRORS_MAX)
        list->items[list->count++] = *error;
    else
        ++list->dropped;
}

/* >>time */

#if defined(_WIN32)
static int64_t rmi_system_now(void *user) {
    LARGE_INTEGER count, frequency;
    (void)user;
    QueryPerformanceFrequency(&frequency);
    QueryPerformanceCounter(&count);
    return count.QuadPart / frequency.QuadPart * RM_SEC(1) +
           count.QuadPart % frequency.QuadPart * RM_SEC(1) / frequency.QuadPart;
}

static int64_t rmi_system_coarse(void *user) {
    return rmi_system_now(user);
}

static int64_t rmi_system_wall(void *user) {
    FILETIME now;
    (void)user;
    GetSystemTimeAsFileTime(&now); /* 100 ns units since 1601 */
    return ((int64_t)(((uint64_t)now.dwHighDateTime << 32) | now.dwLowDateTime) -
            INT64_C(116444736000000000)) *
           100;
}

static rm_status rmi_system_sleep(int64_t ns, void *user) {
    (void)user;
    while (ns > 0) {
        const int64_t slice = ns < RM_SEC(3600) ? ns : RM_SEC(3600);
        Sleep((DWORD)((slice + RM_MS(1) - 1) / RM_MS(1)));
        ns -= slice;
    }
    return RM_OK;
}
#else
static int64_t rmi_read_clock(clockid_t id) {
    struct timespec now;
    if (clock_gettime(id, &now) != 0) return 0;
    return RM_SEC(now.tv_sec) + now.tv_nsec;
}

static int64_t rmi_system_now(void *user) {
    (void)user;
    return rmi_read_clock(CLOCK_MONOTONIC);
}

static int64_t rmi_system_coarse(void *user) {
    (void)user;
#ifdef CLOCK_MONOTONIC_COARSE
    return rmi_read_clock(CLOCK_MONOTONIC_COARSE);
#else
    return rmi_read_clock(CLOCK_MONOTONIC);
#endif
}

static int64_t rmi_system_wall(void *user) {
    (void)user;
    return rmi_read_clock(CLOCK_REALTIME);
}

static rm_status rmi_system_sleep(int64_t ns, void *user) {
    (void)user;
    while (ns > 0) {
        const int64_t slice = ns < RM_SEC(3600) ? ns : RM_SEC(3600); /* fits any time_t */
        struct timespec left;
        left.tv_sec = (time_t)(slice / RM_SEC(1));
        left.tv_nsec = (long)(slice % RM_SEC(1));
        while (nanosleep(&left, &left) != 0) {
            if (errno != EINTR) return RM_E_SYSTEM;
        }
        ns -= slice;
    }
    return RM_OK;
}
#endif

static void rmi_system_wait(rm_cond *cond, rm_mutex *mutex, int64_t until_ns, void *user) {
    (void)user;
    rm_cond_wait(cond, mutex, until_ns);
}

RM_API const rm_clock *rm_clock_system(void) {
    static const rm_clock system_clock = {rmi_system_now,   rmi_system_coarse, rmi_system_wall,
                                          rmi_system_sleep, rmi_system_wait,   NULL};
    return &system_clock;
}

RM_API int64_t rm_now(const rm_clock *clock) {
    return clock == NULL ? rmi_system_now(NULL) : clock->now_fn(clock->user);
}

RM_API int64_t rm_now_coarse(const rm_clock *clock) {
    return clock == NULL ? rmi_system_coarse(NULL) : clock->coarse_fn(clock->user);
}

RM_API int64_t rm_wall(const rm_clock *clock) {
    return clock == NULL ? rmi_system_wall(NULL) : clock->wall_fn(clock->user);
}

static rm_status rmi_virtual_sleep(int64_t ns, void *user);

RM_API rm_status rm_sleep(const rm_clock *clock, int64_t ns, rm_cancel *cancel) {
    rm_waitq queue;
    rm_waitq_desc desc;
    rm_status status;
    uint64_t grant;
    if (rm_cancel_requested(cancel)) return RM_E_CANCELLED;
    if (ns <= 0) return RM_OK;
    if (clock == NULL) clock = rm_clock_system();
    if (clock->sleep_fn == NULL) return RM_E_UNSUPPORTED;
#ifdef RM_NO_THREADS
    cancel = NULL; /* nobody else could request it */
#endif
    if (cancel == NULL || (clock->sleep_fn == rmi_virtual_sleep &&
                           ((const rm_virtual_clock *)clock->user)->sleep_advances))
        return clock->sleep_fn(ns, clock->user);
    memset(&desc, 0, sizeof desc);
    desc.clock = clock;
    status = rm_waitq_init(&queue, &desc); /* nothing is ever granted: a wait that can be ended */
    if (status != RM_OK) return status;
    status = rm_waitq_wait(&queue, NULL, rm_deadline_after(clock, ns), cancel, &grant);
    (void)rm_waitq_destroy(&queue);
    return status == RM_E_TIMEOUT ? RM_OK : status;
}

RM_API int64_t rm_time_add(int64_t a, int64_t b) {
    if (b > 0 && a > INT64_MAX - b) return INT64_MAX;
    if (b < 0 && a < INT64_MIN - b) return INT64_MIN;
    return a + b;
}

RM_API int64_t rm_time_mul(int64_t ns, int64_t factor) {
    const bool negative = (ns < 0) != (factor < 0);
    const uint64_t a = ns < 0 ? 0u - (uint64_t)ns : (uint64_t)ns;
    const uint64_t b = factor < 0 ? 0u - (uint64_t)factor : (uint64_t)factor;
    if (a != 0 && b > (uint64_t)INT64_MAX / a) return negative ? INT64_MIN : INT64_MAX;
    return negative ? -(int64_t)(a * b) : (int64_t)(a * b);
}

RM_API bool rm_timeout_valid(int64_t timeout_ns) {
    return timeout_ns >= 0 || timeout_ns == RM_NOWAIT || timeout_ns == RM_FOREVER;
}

RM_API rm_deadline rm_deadline_after(const rm_clock *clock, int64_t timeout_ns) {
    rm_deadline deadline;
    deadline.at_ns = 0;
    if (timeout_ns == RM_FOREVER) return deadline;
    deadline.at_ns = INT64_MIN;
    if (timeout_ns <= 0) return deadline;
    deadline.at_ns = rm_time_add(rm_now(clock), timeout_ns);
    if (deadline.at_ns == 0) deadline.at_ns = 1; /* 0 is the word for none */
    return deadline;
}

static int64_t rmi_min_time(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t rmi_deadline_at(rm_deadline deadline) {
    return deadline.at_ns == 0 ? INT64_MAX : deadline.at_ns;
}

static bool rmi_deadline_over(rm_deadline deadline, int64_t now) {
    const int64_t at = rmi_deadline_at(deadline);
    return at != INT64_MAX && now >= at;
}

RM_API rm_deadline rm_deadline_min(rm_deadline a, rm_deadline b) {
    return rmi_deadline_at(a) <= rmi_deadline_at(b) ? a : b;
}

RM_API bool rm_deadline_passed(const rm_clock *clock, rm_deadline deadline) {
    const int64_t at = rmi_deadline_at(deadline);
    if (at == INT64_MAX || at == INT64_MIN) return at == INT64_MIN;
    return rm_now(clock) >= at;
}

RM_API int64_t rm_deadline_left(const rm_clock *clock, rm_deadline deadline) {
    const int64_t at = rmi_deadline_at(deadline);
    int64_t left;
    if (at == INT64_MAX) return RM_FOREVER;
    if (at == INT64_MIN) return RM_NOWAIT;
    left = rmi_time_since(at, rm_now(clock));
    return left > 0 ? left : RM_NOWAIT;
}

/* >>memory */

RM_API void *rm_alloc(const rm_allocator *allocator, size_t size) {
    if (size == 0) size = 1;
    if (size > (size_t)PTRDIFF_MAX) return NULL;
    return allocator == NULL ? RM_MALLOC(size) : allocator->alloc_fn(size, allocator->user);
}

RM_API void rm_free(const rm_allocator *allocator, void *pointer, size_t size) {
    if (pointer == NULL) return;
    if (size == 0) size = 1;
    if (allocator == NULL)
        RM_FREE(pointer);
    else
        allocator->free_fn(pointer, size, allocator->user);
}

RM_API bool rm_size_add(size_t a, size_t b, size_t *sum) {
    if (sum == NULL || a > SIZE_MAX - b) return false;
    *sum = a + b;
    return true;
}

RM_API bool rm_size_mul(size_t a, size_t b, size_t *product) {
    if (product == NULL || (b != 0 && a > SIZE_MAX / b)) return false;
    *product = a * b;
    return true;
}

/* >>platform: mutex, condition variable, thread */

#ifndef RM_NO_TLS
static uint32_t rmi_thread_numbers;

RM_API uint32_t rm_thread_number(void) {
    static RMI_TLS uint32_t number;
    if (number == 0) number = RMI_ADD32(&rmi_thread_numbers, 1u, RELAXED) + 1u;
    return number;
}
#else
static uint64_t rmi_mix64(uint64_t z);

RM_API uint32_t rm_thread_number(void) {
#if defined(RM_NO_THREADS)
    return 1;
#elif defined(_WIN32)
    return (uint32_t)rmi_mix64(GetCurrentThreadId()) | 1u;
#else
    return (uint32_t)rmi_mix64((uint64_t)(uintptr_t)pthread_self()) | 1u;
#endif
}
#endif

/* What the platform has: RMI_OS_... macros that end in 0 for success where they can fail. */
#if defined(RM_NO_THREADS)
typedef char rmi_os_mutex;
typedef char rmi_os_cond;
#define RMI_OS_MUTEX_INIT(m) ((void)(m), 0)
#define RMI_OS_MUTEX_DESTROY(m) ((void)(m))
#define RMI_OS_LOCK(m) ((void)(m))
#define RMI_OS_TRY_LOCK(m) ((void)(m), 0)
#define RMI_OS_UNLOCK(m) ((void)(m))
#define RMI_OS_COND_INIT(c) ((void)(c), 0)
#define RMI_OS_COND_DESTROY(c) ((void)(c))
#define RMI_OS_SIGNAL(c) ((void)(c))
#define RMI_OS_BROADCAST(c) ((void)(c))
#elif defined(_WIN32)
typedef SRWLOCK rmi_os_mutex;
typedef CONDITION_VARIABLE rmi_os_cond;
#define RMI_OS_MUTEX_INIT(m) (InitializeSRWLock(m), 0)
#define RMI_OS_MUTEX_DESTROY(m) ((void)(m))
#define RMI_OS_LOCK(m) AcquireSRWLockExclusive(m)
#define RMI_OS_TRY_LOCK(m) (TryAcquireSRWLockExclusive(m) == 0)
#define RMI_OS_UNLOCK(m) ReleaseSRWLockExclusive(m)
#define RMI_OS_COND_INIT(c) (InitializeConditionVariable(c), 0)
#define RMI_OS_COND_DESTROY(c) ((void)(c))
#define RMI_OS_SIGNAL(c) WakeConditionVariable(c)
#define RMI_OS_BROADCAST(c) WakeAllConditionVariable(c)
#else
typedef pthread_mutex_t rmi_os_mutex;
typedef pthread_cond_t rmi_os_cond;
#define RMI_OS_MUTEX_INIT(m) pthread_mutex_init((m), NULL)
#define RMI_OS_MUTEX_DESTROY(m) ((void)pthread_mutex_destroy(m))
#define RMI_OS_LOCK(m) ((void)pthread_mutex_lock(m))
#define RMI_OS_TRY_LOCK(m) pthread_mutex_trylock(m)
#define RMI_OS_UNLOCK(m) ((void)pthread_mutex_unlock(m))
#define RMI_OS_COND_INIT(c) rmi_os_cond_init(c)
#define RMI_OS_COND_DESTROY(c) ((void)pthread_cond_destroy(c))
#define RMI_OS_SIGNAL(c) ((void)pthread_cond_signal(c))
#define RMI_OS_BROADCAST(c) ((void)pthread_cond_broadcast(c))

static int rmi_os_cond_init(pthread_cond_t *cond) {
#ifdef __APPLE__ /* has no other clock; rm_cond_wait waits relative to now */
    return pthread_cond_init(cond, NULL);
#else
    pthread_condattr_t attributes;
    int result = pthread_condattr_init(&attributes);
    if (result != 0) return result;
    result = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    if (result == 0) result = pthread_cond_init(cond, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    return result;
#endif
}
#endif

typedef char rmi_mutex_fits[sizeof(rmi_os_mutex) <= sizeof(rm_mutex) ? 1 : -1];
typedef char rmi_cond_fits[sizeof(rmi_os_cond) <= sizeof(rm_cond) ? 1 : -1];

static rmi_os_mutex *rmi_mutex_of(rm_mutex *mutex) {
    return (rmi_os_mutex *)(void *)mutex->rmi.bytes;
}

static rmi_os_cond *rmi_cond_of(rm_cond *cond) {
    return (rmi_os_cond *)(void *)cond->rmi.bytes;
}

RM_API rm_status rm_mutex_init(rm_mutex *mutex) {
    if (mutex == NULL) return RM_E_INVALID;
    return RMI_OS_MUTEX_INIT(rmi_mutex_of(mutex)) == 0 ? RM_OK : RM_E_SYSTEM;
}

RM_API void rm_mutex_destroy(rm_mutex *mutex) {
    if (mutex != NULL) RMI_OS_MUTEX_DESTROY(rmi_mutex_of(mutex));
}

RM_API void rm_mutex_lock(rm_mutex *mutex) {
    if (mutex != NULL) RMI_OS_LOCK(rmi_mutex_of(mutex));
}

RM_API bool rm_mutex_try_lock(rm_mutex *mutex) {
    return mutex != NULL && RMI_OS_TRY_LOCK(rmi_mutex_of(mutex)) == 0;
}

RM_API void rm_mutex_unlock(rm_mutex *mutex) {
    if (mutex != NULL) RMI_OS_UNLOCK(rmi_mutex_of(mutex));
}

RM_API rm_status rm_cond_init(rm_cond *cond) {
    if (cond == NULL) return RM_E_INVALID;
    return RMI_OS_COND_INIT(rmi_cond_of(cond)) == 0 ? RM_OK : RM_E_SYSTEM;
}

RM_API void rm_cond_destroy(rm_cond *cond) {
    if (cond != NULL) RMI_OS_COND_DESTROY(rmi_cond_of(cond));
}

RM_API void rm_cond_signal(rm_cond *cond) {
    if (cond != NULL) RMI_OS_SIGNAL(rmi_cond_of(cond));
}

RM_API void rm_cond_broadcast(rm_cond *cond) {
    if (cond != NULL) RMI_OS_BROADCAST(rmi_cond_of(cond));
}

#if defined(RM_NO_THREADS)
RM_API void rm_cond_wait(rm_cond *cond, rm_mutex *mutex, int64_t until_ns) {
    (void)cond, (void)mutex, (void)until_ns;
}

RM_API rm_status rm_thread_start(rm_thread *thread, void (*fn)(void *user), void *user) {
    (void)user;
    return thread == NULL || fn == NULL ? RM_E_INVALID : RM_E_UNSUPPORTED;
}

RM_API void rm_thread_join(rm_thread *thread) {
    (void)thread;
}
#elif defined(_WIN32)
RM_API void rm_cond_wait(rm_cond *cond, rm_mutex *mutex, int64_t until_ns) {
    DWORD ms = INFINITE;
    if (cond == NULL || mutex == NULL) return;
    if (until_ns != INT64_MAX) {
        const int64_t left = rm_time_add(until_ns, -rmi_system_now(NULL));
        if (left <= 0) return;
        ms = left < RM_SEC(3600) ? (DWORD)((left + RM_MS(1) - 1) / RM_MS(1)) : 3600000u;
    }
    SleepConditionVariableSRW(rmi_cond_of(cond), rmi_mutex_of(mutex), ms, 0);
}

static unsigned __stdcall rmi_thread_main(void *argument) {
    rm_thread *thread = (rm_thread *)argument;
    thread->fn(thread->user);
    return 0;
}

RM_API rm_status rm_thread_start(rm_thread *thread, void (*fn)(void *user), void *user) {
    uintptr_t handle;
    if (thread == NULL || fn == NULL) return RM_E_INVALID;
    thread->fn = fn;
    thread->user = user;
    thread->handle = 0;
    handle = _beginthreadex(NULL, 0, rmi_thread_main, thread, 0, NULL);
    if (handle == 0) return RM_E_SYSTEM;
    thread->handle = (uint64_t)handle;
    return RM_OK;
}

RM_API void rm_thread_join(rm_thread *thread) {
    if (thread == NULL || thread->handle == 0) return;
    WaitForSingleObject((HANDLE)(uintptr_t)thread->handle, INFINITE);
    CloseHandle((HANDLE)(uintptr_t)thread->handle);
    thread->handle = 0;
}
#else
typedef char rmi_thread_fits[sizeof(pthread_t) <= sizeof(uint64_t) ? 1 : -1];

RM_API void rm_cond_wait(rm_cond *cond, rm_mutex *mutex, int64_t until_ns) {
    struct timespec time;
    if (cond == NULL || mutex == NULL) return;
    if (until_ns == INT64_MAX) {
        (void)pthread_cond_wait(rmi_cond_of(cond), rmi_mutex_of(mutex));
        return;
    }
#ifdef __APPLE__
    until_ns = rm_time_add(until_ns, -rmi_system_now(NULL));
#endif
    if (until_ns <= 0) return;
    if (sizeof(time_t) < 8 && until_ns > RM_SEC(INT32_MAX)) until_ns = RM_SEC(INT32_MAX);
    time.tv_sec = (time_t)(until_ns / RM_SEC(1));
    time.tv_nsec = (long)(until_ns % RM_SEC(1));
#ifdef __APPLE__
    (void)pthread_cond_timedwait_relative_np(rmi_cond_of(cond), rmi_mutex_of(mutex), &time);
#else
    (void)pthread_cond_timedwait(rmi_cond_of(cond), rmi_mutex_of(mutex), &time);
#endif
}

static void *rmi_thread_main(void *argument) {
    rm_thread *thread = (rm_thread *)argument;
    thread->fn(thread->user);
    return NULL;
}

RM_API rm_status rm_thread_start(rm_thread *thread, void (*fn)(void *user), void *user) {
    pthread_t handle;
    if (thread == NULL || fn == NULL) return RM_E_INVALID;
    thread->fn = fn;
    thread->user = user;
    thread->handle = 0;
    if (pthread_create(&handle, NULL, rmi_thread_main, thread) != 0) return RM_E_SYSTEM;
    memcpy(&thread->handle, &handle, sizeof handle);
    return RM_OK;
}

RM_API void rm_thread_join(rm_thread *thread) {
    pthread_t handle;
    if (thread == NULL || thread->handle == 0) return;
    memcpy(&handle, &thread->handle, sizeof handle);
    (void)pthread_join(handle, NULL);
    thread->handle = 0;
}
#endif

/* >>virtual clock
   A sleeper holds its own mutex when it takes the clock's; advance takes a sleeper's mutex with
   the clock's released and the sleeper marked busy, so that neither waits for the other. */

typedef struct rmi_sleeper {
    struct rmi_sleeper *next, *prev;
    rm_cond *cond;
    rm_mutex *mutex;
    int64_t until_ns;
    bool woken; /* advance has counted it out */
    bool busy;  /* advance is signalling it */
} rmi_sleeper;

static int64_t rmi_virtual_now(void *user) {
    rm_virtual_clock *clock = (rm_virtual_clock *)user;
    return (int64_t)RMI_LOAD64(&clock->now, ACQUIRE);
}

static void rmi_virtual_unlink(rm_virtual_clock *clock, rmi_sleeper *sleeper) {
    if (sleeper->prev != NULL)
        sleeper->prev->next = sleeper->next;
    else
        clock->sleepers = sleeper->next;
    if (sleeper->next != NULL) sleeper->next->prev = sleeper->prev;
    if (!sleeper->woken) --clock->sleeping;
}

static void rmi_virtual_wait(rm_cond *cond, rm_mutex *mutex, int64_t until_ns, void *user) {
    rm_virtual_clock *clock = (rm_virtual_clock *)user;
    rmi_sleeper sleeper;
    rm_mutex_lock(&clock->mutex);
    if (until_ns != INT64_MAX && rmi_virtual_now(clock) >= until_ns) {
        rm_mutex_unlock(&clock->mutex);
        return;
    }
    memset(&sleeper, 0, sizeof sleeper);
    sleeper.cond = cond;
    sleeper.mutex = mutex;
    sleeper.until_ns = until_ns;
    sleeper.next = clock->sleepers;
    if (sleeper.next != NULL) sleeper.next->prev = &sleeper;
    clock->sleepers = &sleeper;
    ++clock->sleeping;
    rm_cond_broadcast(&clock->changed);
    rm_mutex_unlock(&clock->mutex);

    rm_cond_wait(cond, mutex, INT64_MAX);

    rm_mutex_lock(&clock->mutex);
    if (sleeper.busy) { /* let advance finish with our mutex first */
        rm_mutex_unlock(mutex);
        while (sleeper.busy)
            rm_cond_wait(&clock->changed, &clock->mutex, INT64_MAX);
        rmi_virtual_unlink(clock, &sleeper);
        rm_mutex_unlock(&clock->mutex);
        rm_mutex_lock(mutex);
        return;
    }
    rmi_virtual_unlink(clock, &sleeper);
    rm_mutex_unlock(&clock->mutex);
}

static rm_status rmi_virtual_sleep(int64_t ns, void *user) {
    rm_virtual_clock *clock = (rm_virtual_clock *)user;
    const int64_t until_ns = rm_time_add(rmi_virtual_now(clock), ns);
    rm_mutex mutex;
    rm_cond cond;
#ifdef RM_NO_THREADS
    const bool advance = true; /* nobody else could move the clock */
#else
    const bool advance = clock->sleep_advances;
#endif
    if (advance) {
        rm_virtual_clock_advance(clock, ns);
        return RM_OK;
    }
    if (rm_mutex_init(&mutex) != RM_OK) return RM_E_SYSTEM;
    if (rm_cond_init(&cond) != RM_OK) {
        rm_mutex_destroy(&mutex);
        return RM_E_SYSTEM;
    }
    rm_mutex_lock(&mutex);
    while (rmi_virtual_now(clock) < until_ns)
        rmi_virtual_wait(&cond, &mutex, until_ns, clock);
    rm_mutex_unlock(&mutex);
    rm_cond_destroy(&cond);
    rm_mutex_destroy(&mutex);
    return RM_OK;
}

RM_API rm_status rm_virtual_clock_init(rm_virtual_clock *clock, int64_t start_ns,
                                       bool sleep_advances) {
    if (clock == NULL) return RM_E_INVALID;
    memset(clock, 0, sizeof *clock);
    clock->now = (uint64_t)start_ns;
    clock->sleep_advances = sleep_advances;
    if (rm_mutex_init(&clock->mutex) != RM_OK) return RM_E_SYSTEM;
    if (rm_cond_init(&clock->changed) == RM_OK) return RM_OK;
    rm_mutex_destroy(&clock->mutex);
    return RM_E_SYSTEM;
}

RM_API void rm_virtual_clock_destroy(rm_virtual_clock *clock) {
    if (clock == NULL) return;
    rm_cond_destroy(&clock->changed);
    rm_mutex_destroy(&clock->mutex);
}

RM_API rm_clock rm_virtual_clock_clock(rm_virtual_clock *clock) {
    rm_clock result;
    result.now_fn = rmi_virtual_now;
    result.coarse_fn = rmi_virtual_now;
    result.wall_fn = rmi_virtual_now;
    result.sleep_fn = rmi_virtual_sleep;
    result.wait_fn = rmi_virtual_wait;
    result.user = clock;
    return result;
}

RM_API void rm_virtual_clock_advance(rm_virtual_clock *clock, int64_t ns) {
    rmi_sleeper *due;
    int64_t now;
    if (clock == NULL || ns <= 0) return;
    rm_mutex_lock(&clock->mutex);
    now = rm_time_add((int64_t)clock->now, ns);
    RMI_STORE64(&clock->now, (uint64_t)now, RELEASE);
    for (;;) {
        due = clock->sleepers;
        while (due != NULL &&
               (due->woken || due->until_ns == INT64_MAX || due->until_ns > (int64_t)clock->now))
            due = due->next;
        if (due == NULL) break;
        due->woken = due->busy = true;
        --clock->sleeping;
        rm_mutex_unlock(&clock->mutex);
        rm_mutex_lock(due->mutex);
        rm_cond_broadcast(due->cond);
        rm_mutex_unlock(due->mutex);
        rm_mutex_lock(&clock->mutex);
        due->busy = false;
        rm_cond_broadcast(&clock->changed);
    }
    rm_mutex_unlock(&clock->mutex);
}

RM_API void rm_virtual_clock_await(rm_virtual_clock *clock, uint32_t count) {
    if (clock == NULL) return;
#ifndef RM_NO_THREADS
    rm_mutex_lock(&clock->mutex);
    while (clock->sleeping < count)
        rm_cond_wait(&clock->changed, &clock->mutex, INT64_MAX);
    rm_mutex_unlock(&clock->mutex);
#else
    (void)count;
#endif
}

/* >>random */

static uint64_t rmi_mix64(uint64_t z) {
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

RM_API uint64_t rm_random_seed(void) {
    uint64_t seed = 0;
#if defined(_WIN32)
    if (RtlGenRandom(&seed, (ULONG)sizeof seed)) return seed;
#elif defined(__linux__)
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) == (ssize_t)sizeof seed) return seed;
#elif defined(__APPLE__) || defined(__FreeBSD__) || defined(__OpenBSD__) || defined(__NetBSD__)
    if (getentropy(&seed, sizeof seed) == 0) return seed;
#endif
    seed = (uint64_t)(uintptr_t)&seed ^ rmi_mix64((uint64_t)rmi_system_now(NULL)) ^
           rmi_mix64((uint64_t)rmi_system_wall(NULL) + rm_thread_number());
    return rmi_mix64(seed);
}

RM_API void rm_rng_seed(rm_rng *rng, uint64_t seed) {
    if (rng != NULL) rng->state = seed;
}

RM_API uint64_t rm_rng_next(rm_rng *rng) {
    const uint64_t step = UINT64_C(0x9E3779B97F4A7C15);
    return rng == NULL ? 0 : rmi_mix64(RMI_ADD64(&rng->state, step, RELAXED) + step);
}

static uint64_t rmi_rng_next_fn(void *user) {
    return rm_rng_next((rm_rng *)user);
}

RM_API rm_random rm_rng_random(rm_rng *rng) {
    rm_random random;
    random.next_fn = rmi_rng_next_fn;
    random.user = rng;
    return random;
}

static uint64_t rmi_random_next(const rm_random *random) {
    return random == NULL ? rm_random_seed() : random->next_fn(random->user);
}

/* high and low half of a 64 x 64 bit product */
static uint64_t rmi_mul_high(uint64_t a, uint64_t b, uint64_t *low) {
    const uint64_t a0 = a & 0xFFFFFFFFu, a1 = a >> 32, b0 = b & 0xFFFFFFFFu, b1 = b >> 32;
    const uint64_t middle = a1 * b0 + (a0 * b0 >> 32);
    const uint64_t carry = (middle & 0xFFFFFFFFu) + a0 * b1;
    *low = a * b;
    return a1 * b1 + (middle >> 32) + (carry >> 32);
}

RM_API uint64_t rm_random_below(const rm_random *random, uint64_t bound) {
    uint64_t low, high;
    if (bound == 0) return 0;
    high = rmi_mul_high(rmi_random_next(random), bound, &low);
    if (low < bound) {
        const uint64_t unfair = (0u - bound) % bound;
        uint32_t tries = 128; /* a broken source must not hang us */
        while (low < unfair && tries-- > 0)
            high = rmi_mul_high(rmi_random_next(random), bound, &low);
    }
    return high;
}

/* >>environment */

RM_API rm_status rm_env_resolve(const rm_env *env, rm_env *out, rm_error *error) {
    rm_env result;
    memset(&result, 0, sizeof result);
    if (out == NULL) return rm_error_set(error, RM_E_INVALID, 0, "env", "out is NULL");
    if (env != NULL) result = *env;
    if (result.allocator != NULL &&
        (result.allocator->alloc_fn == NULL || result.allocator->free_fn == NULL))
        return rm_error_set(error, RM_E_INVALID, 0, "env.allocator",
                            "set both alloc_fn and free_fn, or no allocator");
    if (result.clock == NULL) result.clock = rm_clock_system();
    if (result.clock->now_fn == NULL || result.clock->coarse_fn == NULL ||
        result.clock->wall_fn == NULL || result.clock->wait_fn == NULL)
        return rm_error_set(error, RM_E_INVALID, 0, "env.clock",
                            "set now_fn, coarse_fn, wall_fn and wait_fn");
    if (result.random != NULL && result.random->next_fn == NULL)
        return rm_error_set(error, RM_E_INVALID, 0, "env.random", "next_fn is NULL");
    if (result.log != NULL && result.log->log_fn == NULL)
        return rm_error_set(error, RM_E_INVALID, 0, "env.log", "log_fn is NULL");
    *out = result;
    return RM_OK;
}

/* >>hash: SipHash-1-3 */

#define RMI_ROTL(x, n) (((x) << (n)) | ((x) >> (64 - (n))))
#define RMI_SIPROUND(v0, v1, v2, v3) \
    do {                             \
        v0 += v1;                    \
        v2 += v3;                    \
        v1 = RMI_ROTL(v1, 13) ^ v0;  \
        v3 = RMI_ROTL(v3, 16) ^ v2;  \
        v0 = RMI_ROTL(v0, 32);       \
        v2 += v1;                    \
        v0 += v3;                    \
        v1 = RMI_ROTL(v1, 17) ^ v2;  \
        v3 = RMI_ROTL(v3, 21) ^ v0;  \
        v2 = RMI_ROTL(v2, 32);       \
    } while (0)
#define RMI_SIPWORD(w)                \
    do {                              \
        word = (w);                   \
        v3 ^= word;                   \
        RMI_SIPROUND(v0, v1, v2, v3); \
        v0 ^= word;                   \
    } while (0)

static uint64_t rmi_load_le(const unsigned char *p, size_t size) {
    uint64_t word = 0;
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if (size == 8) {
        memcpy(&word, p, 8);
        return word;
    }
#endif
    while (size-- > 0)
        word = word << 8 | p[size];
    return word;
}

RM_API rm_hash_key rm_hash_key_random(const rm_random *random) {
    rm_hash_key key;
    key.k0 = rmi_random_next(random);
    key.k1 = rmi_random_next(random);
    return key;
}

RM_API uint64_t rm_hash(const rm_hash_key *key, const void *data, size_t size) {
    const unsigned char *p = (const unsigned char *)data;
    uint64_t v0, v1, v2, v3, word, tail;
    const uint64_t k0 = key == NULL ? 0 : key->k0, k1 = key == NULL ? 0 : key->k1;
    if (p == NULL) size = 0;
    v0 = k0 ^ UINT64_C(0x736F6D6570736575);
    v1 = k1 ^ UINT64_C(0x646F72616E646F6D);
    v2 = k0 ^ UINT64_C(0x6C7967656E657261);
    v3 = k1 ^ UINT64_C(0x7465646279746573);
    tail = (uint64_t)size << 56;
    if (size == 16) { /* the straight lines for common key sizes */
        RMI_SIPWORD(rmi_load_le(p, 8));
        RMI_SIPWORD(rmi_load_le(p + 8, 8));
    } else if (size == 8) {
        RMI_SIPWORD(rmi_load_le(p, 8));
    } else {
        for (; size >= 8; size -= 8, p += 8)
            RMI_SIPWORD(rmi_load_le(p, 8));
        if (size > 0) tail |= rmi_load_le(p, size);
    }
    RMI_SIPWORD(tail);
    v2 ^= 0xFF;
    RMI_SIPROUND(v0, v1, v2, v3);
    RMI_SIPROUND(v0, v1, v2, v3);
    RMI_SIPROUND(v0, v1, v2, v3);
    return v0 ^ v1 ^ v2 ^ v3;
}

/* >>histogram
   Bin 0 holds 0. Then equal bins up to 10^first. Then each decade (D, 10D] in three parts:
   (D, 2D] in steps of D/5c, (2D, 5D] in steps of D/2c, (5D, 10D] in steps of D/c, at least 1;
   c = cut = per_decade / 16. Part n of the decade from 10^d has the number 3d + n and begins at bin
   base[3d + n]. The last bin is for overflow. */

static int64_t rmi_pow10(uint32_t exponent) {
    int64_t power = 1;
    while (exponent-- > 0)
        power *= 10;
    return power;
}

/* The width of a bin in a part of the decade from 10^d = decade. */
static int64_t rmi_hist_step(const rm_hist *hist, uint32_t part, int64_t decade) {
    static const int64_t divisor[3] = {5, 2, 1};
    const int64_t step = decade / (divisor[part % 3] * (int64_t)hist->cut);
    return step > 0 ? step : 1;
}

/* Fills range and bins. */
static bool rmi_hist_shape(rm_hist *hist, const rm_hist_desc *wanted) {
    static const int64_t length[3] = {1, 3, 5};
    static const rm_hist_desc standard = {0, 9, 16};
    const rm_hist_desc *desc = wanted == NULL ? &standard : wanted;
    const uint32_t per_decade = desc->per_decade == 0 ? 16 : desc->per_decade;
    int64_t decade;
    uint32_t part;
    hist->first = desc->first_decade;
    hist->last = desc->last_decade == 0 ? 9 : desc->last_decade;
    hist->cut = per_decade / 16;
    if (per_decade != 16 && per_decade != 32 && per_decade != 80 && per_decade != 160) return false;
    if (hist->last > 18 || hist->first >= hist->last) return false;
    decade = rmi_pow10(hist->first);
    part = 3 * hist->first;
    hist->bins = 1 + (uint32_t)(decade / rmi_hist_step(hist, part, decade));
    for (; part < 3 * hist->last; decade *= ++part % 3 == 0 ? 10 : 1) {
        hist->base[part] = (uint16_t)hist->bins;
        hist->bins += (uint32_t)(length[part % 3] * decade / rmi_hist_step(hist, part, decade));
    }
    hist->base[part] = (uint16_t)hist->bins++;
    return true;
}

RM_API size_t rm_hist_footprint(const rm_hist_desc *desc) {
    rm_hist shape;
    if (!rmi_hist_shape(&shape, desc)) return 0;
    return shape.bins * sizeof(uint64_t);
}

RM_API rm_status rm_hist_init(rm_hist *hist, const rm_hist_desc *desc, void *memory, size_t size) {
    rm_hist shape;
    if (hist == NULL || memory == NULL || (uintptr_t)memory % 8 != 0) return RM_E_INVALID;
    memset(&shape, 0, sizeof shape);
    if (!rmi_hist_shape(&shape, desc)) return RM_E_INVALID;
    if (size < shape.bins * sizeof(uint64_t)) return RM_E_TOO_LARGE;
    shape.counts = (uint64_t *)memory;
    *hist = shape;
    rm_hist_reset(hist);
    return RM_OK;
}

RM_API void rm_hist_reset(rm_hist *hist) {
    if (hist == NULL || hist->counts == NULL) return;
    memset(hist->counts, 0, hist->bins * sizeof *hist->counts);
    hist->count = hist->refused = 0;
    hist->sum = hist->max = 0;
    hist->min = INT64_MAX;
}

static uint32_t rmi_hist_index(const rm_hist *hist, int64_t value) {
    int64_t decade = rmi_pow10(hist->first), from = 0;
    uint32_t part = 3 * hist->first, base = 1;
    if (value <= 0) return 0;
    if (value > decade) {
        for (; value > 10 * decade; decade *= 10) {
            part += 3;
            if (part == 3 * hist->last) return hist->bins - 1;
        }
        part += value > 5 * decade ? 2 : value > 2 * decade ? 1 : 0;
        from = value > 5 * decade ? 5 * decade : value > 2 * decade ? 2 * decade : decade;
        base = hist->base[part];
    }
    return base + (uint32_t)((value - 1 - from) / rmi_hist_step(hist, part, decade));
}

RM_API int64_t rm_hist_bin_edge(const rm_hist *hist, uint32_t bin) {
    static const int64_t from[3] = {1, 2, 5};
    uint32_t part;
    int64_t decade;
    if (hist == NULL || hist->counts == NULL || bin >= hist->bins - 1) return INT64_MAX;
    part = 3 * hist->first;
    decade = rmi_pow10(hist->first);
    if (bin < hist->base[part]) return (int64_t)bin * rmi_hist_step(hist, part, decade);
    while (bin >= hist->base[part + 1])
        decade *= ++part % 3 == 0 ? 10 : 1;
    bin -= hist->base[part];
    return from[part % 3] * decade + ((int64_t)bin + 1) * rmi_hist_step(hist, part, decade);
}

RM_API rm_status rm_hist_record(rm_hist *hist, int64_t value) {
    if (hist == NULL || hist->counts == NULL) return RM_E_INVALID; /* zeroed: never made */
    if (value < 0) {
        ++hist->refused;
        return RM_E_INVALID;
    }
    ++hist->counts[rmi_hist_index(hist, value)];
    ++hist->count;
    hist->sum = rm_time_add(hist->sum, value);
    if (value < hist->min) hist->min = value;
    if (value > hist->max) hist->max = value;
    return RM_OK;
}

RM_API rm_status rm_hist_merge(rm_hist *into, const rm_hist *from) {
    uint32_t i;
    if (into == NULL || from == NULL || into->first != from->first || into->last != from->last ||
        into->cut != from->cut)
        return RM_E_INVALID;
    for (i = 0; i < into->bins; ++i)
        into->counts[i] += from->counts[i];
    into->count += from->count;
    into->refused += from->refused;
    into->sum = rm_time_add(into->sum, from->sum);
    if (from->min < into->min) into->min = from->min;
    if (from->max > into->max) into->max = from->max;
    return RM_OK;
}

RM_API int64_t rm_hist_quantile(const rm_hist *hist, double q) {
    double rank, low, high, value;
    uint64_t seen = 0;
    uint32_t bin = 0;
    if (hist == NULL || hist->count == 0 || q != q) return 0;
    if (q >= 1) return hist->max; /* exactly, which a double may not hold */
    rank = (q < 0 ? 0 : q) * (double)hist->count;
    while (bin < hist->bins - 1 && (double)(seen + hist->counts[bin]) < rank)
        seen += hist->counts[bin++];
    while (hist->counts[bin] == 0 && bin < hist->bins - 1)
        ++bin; /* rank 0 */
    low = bin == 0 ? 0 : (double)rm_hist_bin_edge(hist, bin - 1);
    high = bin == hist->bins - 1 ? (double)hist->max : (double)rm_hist_bin_edge(hist, bin);
    value = low + (high - low) * (rank - (double)seen) / (double)hist->counts[bin];
    if (!(value > (double)hist->min)) return hist->min;
    return value < (double)hist->max ? (int64_t)value : hist->max;
}

RM_API uint64_t rm_hist_count_le(const rm_hist *hist, int64_t bound) {
    uint64_t count = 0;
    uint32_t bin, end;
    if (hist == NULL || bound < 0) return 0;
    if (bound >= hist->max) return hist->count;
    end = rmi_hist_index(hist, bound);
    if (rm_hist_bin_edge(hist, end) == bound) ++end;
    for (bin = 0; bin < end; ++bin)
        count += hist->counts[bin];
    return count;
}

/* >>cancel
   The token's mutex is taken before a queue's. While a request works on a waiter it holds the
   token's mutex, and a waiter takes it once more (unregister) before its memory goes away. */

static void rmi_waiters_deliver(rm_waiter *done);
static void rmi_waitq_leave(rm_waitq *q, rm_waiter *waiter, rm_status status);

enum { RMI_WAITER_IDLE = 0, RMI_WAITER_QUEUED = 1, RMI_WAITER_DONE = 2 };

RM_API rm_status rm_cancel_init(rm_cancel *cancel) {
    if (cancel == NULL) return RM_E_INVALID;
    memset(cancel, 0, sizeof *cancel);
    return rm_mutex_init(&cancel->mutex);
}

RM_API rm_status rm_cancel_destroy(rm_cancel *cancel) {
    bool used;
    if (cancel == NULL) return RM_E_INVALID;
    rm_mutex_lock(&cancel->mutex);
    used = cancel->waiters != NULL;
    rm_mutex_unlock(&cancel->mutex);
    if (used) return RM_E_BUSY;
    rm_mutex_destroy(&cancel->mutex);
    return RM_OK;
}

RM_API bool rm_cancel_requested(const rm_cancel *cancel) {
    return cancel != NULL && RMI_LOAD32(&cancel->requested, ACQUIRE) != 0;
}

static void rmi_cancel_unlink(rm_cancel *cancel, rm_waiter *waiter) {
    if (!waiter->registered) return;
    if (waiter->cancel_prev != NULL)
        waiter->cancel_prev->cancel_next = waiter->cancel_next;
    else
        cancel->waiters = waiter->cancel_next;
    if (waiter->cancel_next != NULL) waiter->cancel_next->cancel_prev = waiter->cancel_prev;
    waiter->registered = false;
}

static void rmi_cancel_register(rm_waiter *waiter) {
    rm_cancel *cancel = waiter->cancel;
    if (cancel == NULL) return;
    rm_mutex_lock(&cancel->mutex);
    if (!rm_cancel_requested(cancel)) {
        waiter->cancel_prev = NULL;
        waiter->cancel_next = cancel->waiters;
        if (cancel->waiters != NULL) cancel->waiters->cancel_prev = waiter;
        cancel->waiters = waiter;
        waiter->registered = true;
    }
    rm_mutex_unlock(&cancel->mutex);
}

static void rmi_cancel_unregister(rm_waiter *waiter) {
    rm_cancel *cancel = waiter->cancel;
    if (cancel == NULL) return;
    rm_mutex_lock(&cancel->mutex);
    rmi_cancel_unlink(cancel, waiter);
    rm_mutex_unlock(&cancel->mutex);
}

RM_API void rm_cancel_request(rm_cancel *cancel) {
    rm_waiter *waiter, *done;
    rm_waitq *q;
    if (cancel == NULL) return;
    RMI_STORE32(&cancel->requested, 1u, SEQ_CST);
    for (;;) { /* one waiter at a time, since its completion callback runs without a lock */
        rm_mutex_lock(&cancel->mutex);
        waiter = cancel->waiters;
        if (waiter == NULL) {
            rm_mutex_unlock(&cancel->mutex);
            return;
        }
        rmi_cancel_unlink(cancel, waiter);
        q = waiter->queue;
        rm_mutex_lock(&q->mutex);
        if (waiter->state == RMI_WAITER_QUEUED) rmi_waitq_leave(q, waiter, RM_E_CANCELLED);
        done = q->done;
        q->done = NULL;
        rm_mutex_unlock(&q->mutex);
        rm_mutex_unlock(&cancel->mutex);
        rmi_waiters_deliver(done);
    }
}

/* >>wait queue */

/* The completions that a thread has to run, oldest first. */
typedef struct rmi_due {
    rm_waiter *first, *last;
} rmi_due;

#ifndef RM_NO_TLS
static RMI_TLS rmi_due *rmi_due_here; /* not NULL: further down this stack they are being run */
#define RMI_DUE_HERE rmi_due_here
#else
#define RMI_DUE_HERE ((rmi_due *)NULL)
#endif

/* Puts the completions of a queue, at least one, which has the last first, behind those that are
   due. Their tokens are the caller's again: they may go before these are run. */
static void rmi_due_append(rmi_due *due, rm_waiter *done) {
    rm_waiter *next, *first = NULL, *const last = done;
    for (; done != NULL; done = next) {
        rmi_cancel_unregister(done);
        next = done->next;
        done->next = first;
        first = done;
    }
    if (due->first == NULL)
        due->first = first;
    else
        due->last->next = first;
    due->last = last;
}

static void rmi_due_run(rmi_due *due) {
    while (due->first != NULL) {
        rm_waiter *waiter = due->first;
        const rm_status status = waiter->status;
        const uint64_t grant = waiter->grant;
        const rm_waitq_done_fn done_fn = waiter->done_fn;
        void *user = waiter->user;
        due->first = waiter->next;
        done_fn(status, grant, user); /* the waiter's memory is the caller's from here on */
    }
}

/* Runs completion callbacks in the order of the grants, without any lock. Those that become due
   inside one are run after it, so that a chain of them does not grow the stack. */
static void rmi_waiters_deliver(rm_waiter *done) {
    rmi_due due = {NULL, NULL};
    if (done == NULL) return;
    if (RMI_DUE_HERE != NULL) {
        rmi_due_append(RMI_DUE_HERE, done);
        return;
    }
#ifndef RM_NO_TLS
    rmi_due_here = &due;
#endif
    rmi_due_append(&due, done);
    rmi_due_run(&due);
#ifndef RM_NO_TLS
    rmi_due_here = NULL;
#endif
}

/* Are there completions that wait for this thread to come out of the one that it is in? */
static bool rmi_waiters_due(void) {
    return RMI_DUE_HERE != NULL && RMI_DUE_HERE->first != NULL;
}

/* When somebody shall look whether the head can be served, which was tried in vain just now. */
static int64_t rmi_waitq_look_at(rm_waitq *q, int64_t now) {
    int64_t at;
    if (q->head == NULL || q->desc.look_at_fn == NULL) return INT64_MAX;
    at = q->desc.look_at_fn(q->desc.owner, q->head->request, now);
    return at > now ? at : INT64_MAX; /* else it would spin */
}

static bool rmi_waitq_starving(const rm_waitq *q, int64_t now) {
    if (q->head == NULL) return false;
    return q->desc.barge_ns == RM_STRICT ||
           rmi_time_since(now, q->head->since_ns) >= q->desc.barge_ns;
}

/* Bit 0: somebody waits. Bit 1: newcomers must queue. */
static void rmi_waitq_publish(rm_waitq *q, int64_t now) {
    uint32_t word = q->head != NULL ? 1u : 0u;
    if (q->closed || rmi_waitq_starving(q, now)) word |= 2u;
    RMI_STORE32(&q->word, word, SEQ_CST);
}

/* Puts a waiter into the queue by the time at which it began to wait; one that waits on, before
   those that began at the same time. */
static void rmi_waitq_push(rm_waitq *q, rm_waiter *waiter, bool on) {
    rm_waiter *before = q->tail;
    while (before != NULL &&
           (before->since_ns > waiter->since_ns || (on && before->since_ns == waiter->since_ns)))
        before = before->prev;
    waiter->prev = before;
    waiter->next = before != NULL ? before->next : q->head;
    *(before != NULL ? &before->next : &q->head) = waiter;
    *(waiter->next != NULL ? &waiter->next->prev : &q->tail) = waiter;
    waiter->state = RMI_WAITER_QUEUED;
    waiter->look_ns = INT64_MAX;
    if (waiter->waited)
        --q->stats.granted;
    else
        ++q->stats.waits;
    waiter->waited = true;
    ++q->stats.waiting;
}

/* Counts the end of a wait. */
static void rmi_waitq_count(rm_waitq *q, rm_status status) {
    ++*(status == RM_OK            ? &q->stats.granted
        : status == RM_E_TIMEOUT   ? &q->stats.timeouts
        : status == RM_E_CANCELLED ? &q->stats.cancelled
                                   : &q->stats.ended);
}

/* A wait that was granted may not go on: it has ended with this status instead. */
static void rmi_waitq_stop(rm_waitq *q, rm_waiter *waiter, rm_status status) {
    waiter->status = status;
    if (!waiter->waited) return;
    --q->stats.granted;
    rmi_waitq_count(q, status);
}

/* Tells a waiter that is in no queue how its wait ended. */
static void rmi_waiter_tell(rm_waitq *q, rm_waiter *waiter, rm_status status, uint64_t grant) {
    waiter->status = status;
    waiter->grant = grant;
    waiter->state = RMI_WAITER_DONE;
    if (waiter->cond != NULL) {
        rm_cond_signal(waiter->cond);
    } else {
        waiter->next = q->done; /* the last first: rmi_waiters_deliver turns them round */
        q->done = waiter;
    }
}

/* Takes a waiter out of the queue and tells it, under the lock: after that it may be gone. */
static void rmi_waitq_end(rm_waitq *q, rm_waiter *waiter, rm_status status, uint64_t grant,
                          int64_t now) {
    RM_ASSERT(waiter->state == RMI_WAITER_QUEUED);
    if (waiter->prev != NULL)
        waiter->prev->next = waiter->next;
    else
        q->head = waiter->next;
    if (waiter->next != NULL)
        waiter->next->prev = waiter->prev;
    else
        q->tail = waiter->prev;
    if (q->woken == waiter) q->woken = NULL;
    --q->stats.waiting;
    rmi_waitq_count(q, status);
    if (q->desc.wait_histogram != NULL)
        (void)rm_hist_record(q->desc.wait_histogram, rmi_time_since(now, waiter->since_ns));
    rmi_waiter_tell(q, waiter, status, grant);
}

/* Why a waiter must not be granted anything any more; RM_OK when it may. */
static rm_status rmi_waiter_over(const rm_waiter *waiter, int64_t now) {
    if (rm_cancel_requested(waiter->cancel)) return RM_E_CANCELLED;
    return rmi_deadline_over(waiter->deadline, now) ? RM_E_TIMEOUT : RM_OK;
}

/* The thread that keeps the look-out for the head: the first that waits. NULL = there is none. */
static rm_waiter *rmi_waitq_lookout(const rm_waitq *q) {
    rm_waiter *waiter = q->head;
    while (waiter != NULL && waiter->cond == NULL)
        waiter = waiter->next;
    return waiter;
}

/* Hands units to the head as long as there are any, then publishes. */
static void rmi_waitq_settle(rm_waitq *q, int64_t now) {
    rm_waiter *waiter;
    int64_t look_ns;
    while ((waiter = q->head) != NULL) {
        const rm_status over = rmi_waiter_over(waiter, now);
        uint64_t grant = 0;
        if (over != RM_OK)
            rmi_waitq_end(q, waiter, over, 0, now);
        else if (q->desc.try_fn != NULL && q->desc.try_fn(q->desc.owner, waiter->request, &grant))
            rmi_waitq_end(q, waiter, RM_OK, grant, now);
        else
            break;
    }
    rmi_waitq_publish(q, now);
    look_ns = rmi_waitq_look_at(q, now);
    waiter = look_ns == INT64_MAX ? NULL : rmi_waitq_lookout(q);
    if (waiter != NULL && look_ns < waiter->look_ns) {
        waiter->look_ns = look_ns;    /* noted here: it may be over when the waiter comes to it */
        rm_cond_signal(waiter->cond); /* it sleeps for too long */
    }
}

/* Takes a waiter out without a unit; it may have been woken for one: that is passed on. */
static void rmi_waitq_leave(rm_waitq *q, rm_waiter *waiter, rm_status status) {
    const int64_t now = rm_now(q->desc.clock);
    rmi_waitq_end(q, waiter, status, 0, now);
    rmi_waitq_settle(q, now);
}

RM_API rm_status rm_waitq_init(rm_waitq *q, const rm_waitq_desc *desc) {
    if (q == NULL) return RM_E_INVALID;
    if (desc != NULL && desc->barge_ns < 0 && desc->barge_ns != RM_STRICT) return RM_E_INVALID;
    if (desc != NULL && desc->clock != NULL &&
        (desc->clock->now_fn == NULL || desc->clock->wait_fn == NULL))
        return RM_E_INVALID;
    memset(q, 0, sizeof *q);
    if (desc != NULL) q->desc = *desc;
    if (q->desc.clock == NULL) q->desc.clock = rm_clock_system();
    if (q->desc.barge_ns == 0) q->desc.barge_ns = RM_US(50);
    return rm_mutex_init(&q->mutex);
}

RM_API rm_status rm_waitq_destroy(rm_waitq *q) {
    bool used;
    if (q == NULL) return RM_E_INVALID;
    rm_mutex_lock(&q->mutex);
    used = q->head != NULL || q->inside != 0 || q->done != NULL;
    rm_mutex_unlock(&q->mutex);
    if (used) return RM_E_BUSY;
    rm_mutex_destroy(&q->mutex);
    return RM_OK;
}

RM_API bool rm_waitq_must_queue(const rm_waitq *q) {
    return q != NULL && (RMI_LOAD32(&q->word, ACQUIRE) & 2u) != 0;
}

RM_API void rm_waitq_lock(rm_waitq *q) {
    if (q != NULL) rm_mutex_lock(&q->mutex);
}

RM_API void rm_waitq_unlock(rm_waitq *q) {
    rm_waiter *done;
    if (q == NULL) return;
    done = q->done;
    q->done = NULL;
    rm_mutex_unlock(&q->mutex);
    rmi_waiters_deliver(done);
}

/* Why a newcomer, or one that waits on, may not enter; RM_OK when it may. */
static rm_status rmi_waitq_refuses(rm_waitq *q, const rm_cancel *cancel, bool on) {
    if (q->closed) return RM_E_CLOSED;
    if (rm_cancel_requested(cancel)) return RM_E_CANCELLED;
    if (on || q->desc.max_waiters == 0 || q->stats.waiting < q->desc.max_waiters) return RM_OK;
    ++q->stats.refused;
    return RM_E_FULL;
}

/* Blocks until the waiter has ended, by others or by itself. */
static void rmi_waitq_block(rm_waitq *q, rm_waiter *waiter) {
    const rm_clock *clock = q->desc.clock;
    int64_t now = waiter->since_ns;
    while (waiter->state == RMI_WAITER_QUEUED) {
        rm_status over;
#ifdef RM_NO_THREADS
        rmi_waitq_leave(q, waiter, RM_E_BUSY);
        break;
#endif
        if (q->done != NULL || rmi_waiters_due()) { /* they must not wait for our waiting */
            rm_waitq_unlock(q);
            if (rmi_waiters_due()) rmi_due_run(RMI_DUE_HERE);
            rm_waitq_lock(q);
            continue;
        }
        waiter->look_ns = rmi_waitq_lookout(q) == waiter ? rmi_waitq_look_at(q, now) : INT64_MAX;
        if (q->woken != waiter) /* it may have been woken while the lock was free */
            clock->wait_fn(waiter->cond, &q->mutex,
                           rmi_min_time(rmi_deadline_at(waiter->deadline), waiter->look_ns),
                           clock->user);
        if (waiter->state != RMI_WAITER_QUEUED) break;
        now = rm_now(clock);
        over = rmi_waiter_over(waiter, now);
        if (over != RM_OK) {
            rmi_waitq_end(q, waiter, over, 0, now);
            rmi_waitq_settle(q, now); /* it may have been woken for a unit: pass it on */
        } else if (q->woken == waiter || waiter->look_ns <= now) {
            if (q->woken == waiter) q->woken = NULL;
            rmi_waitq_settle(q, now); /* for the head: that may be one that waits on since then */
        }
    }
}

/* Queues a waiter and serves who can be: first publish, then try; see the section's head. */
static void rmi_waitq_enter(rm_waitq *q, rm_waiter *waiter, bool on) {
    const int64_t now = rm_now(q->desc.clock);
    if (!on) waiter->since_ns = now;
    rmi_waitq_push(q, waiter, on);
    rmi_waitq_publish(q, now);
    rmi_waitq_settle(q, now);
}

/* Waits with the lock held; since_ns is 0, or that of the wait that goes on. */
static rm_status rmi_waitq_wait(rm_waitq *q, void *request, const int64_t *since_ns,
                                rm_deadline deadline, rm_cancel *cancel, uint64_t *grant) {
    rm_waiter waiter;
    rm_cond cond;
    rm_status status = rmi_waitq_refuses(q, cancel, since_ns != NULL);
    memset(&waiter, 0, sizeof waiter);
    waiter.waited = since_ns != NULL;
    if (status == RM_OK) status = rm_cond_init(&cond);
    if (status != RM_OK) {
        rmi_waitq_stop(q, &waiter, status);
        return status;
    }
    waiter.queue = q;
    waiter.request = request;
    waiter.deadline = deadline;
    waiter.cancel = cancel;
    waiter.cond = &cond;
    if (since_ns != NULL) waiter.since_ns = *since_ns;
    ++q->inside;
    rmi_waitq_enter(q, &waiter, since_ns != NULL);
    if (cancel != NULL && waiter.state == RMI_WAITER_QUEUED) {
        rm_waitq_unlock(q); /* the token's mutex comes before the queue's */
        rmi_cancel_register(&waiter);
        rm_waitq_lock(q);
        if (waiter.state == RMI_WAITER_QUEUED && rm_cancel_requested(cancel))
            rmi_waitq_leave(q, &waiter, RM_E_CANCELLED);
    }
    rmi_waitq_block(q, &waiter);
    if (cancel != NULL) {
        rm_waitq_unlock(q);
        rmi_cancel_unregister(&waiter);
        rm_waitq_lock(q);
    }
    --q->inside;
    rm_cond_destroy(&cond);
    if (waiter.status == RM_OK) *grant = waiter.grant;
    return waiter.status;
}

RM_API rm_status rm_waitq_wait_locked(rm_waitq *q, void *request, rm_deadline deadline,
                                      rm_cancel *cancel, uint64_t *grant) {
    if (q == NULL || grant == NULL) return RM_E_INVALID;
    return rmi_waitq_wait(q, request, NULL, deadline, cancel, grant);
}

RM_API rm_status rm_waitq_wait_on(rm_waitq *q, void *request, int64_t since_ns,
                                  rm_deadline deadline, rm_cancel *cancel, uint64_t *grant) {
    rm_status status;
    if (q == NULL || grant == NULL) return RM_E_INVALID;
    rm_waitq_lock(q);
    status = rmi_waitq_wait(q, request, &since_ns, deadline, cancel, grant);
    rm_waitq_unlock(q);
    return status;
}

RM_API rm_status rm_waitq_wait(rm_waitq *q, void *request, rm_deadline deadline, rm_cancel *cancel,
                               uint64_t *grant) {
    rm_status status;
    if (q == NULL || grant == NULL) return RM_E_INVALID;
    rm_waitq_lock(q);
    status = rm_waitq_wait_locked(q, request, deadline, cancel, grant);
    rm_waitq_unlock(q);
    return status;
}

/* Serves a newcomer whom nobody is before at once, if there is a unit. */
static bool rmi_waitq_serve(rm_waitq *q, rm_waiter *waiter) {
    uint64_t grant = 0;
    waiter->since_ns = rm_now(q->desc.clock);
    if (q->head != NULL || q->desc.try_fn == NULL ||
        rmi_waiter_over(waiter, waiter->since_ns) != RM_OK ||
        !q->desc.try_fn(q->desc.owner, waiter->request, &grant))
        return false;
    rmi_waiter_tell(q, waiter, RM_OK, grant);
    return true;
}

/* Queues a waiter that has a callback, for the first time or again. */
static rm_status rmi_waitq_add(rm_waitq *q, rm_waiter *waiter, bool on) {
    rm_status status;
    rmi_cancel_register(waiter); /* before it is queued: after that it may be gone at any time */
    rm_waitq_lock(q);
    status = rmi_waitq_refuses(q, waiter->cancel, on);
    if (status == RM_OK && waiter->removed) status = RM_E_CANCELLED;
    if (status == RM_OK && (on || !rmi_waitq_serve(q, waiter))) rmi_waitq_enter(q, waiter, on);
    if (status != RM_OK) rmi_waitq_stop(q, waiter, status);
    rm_waitq_unlock(q);
    if (status != RM_OK) rmi_cancel_unregister(waiter);
    return status;
}

RM_API rm_status rm_waitq_add(rm_waitq *q, rm_waiter *waiter, void *request, rm_deadline deadline,
                              rm_cancel *cancel, rm_waitq_done_fn done_fn, void *user) {
    if (q == NULL || waiter == NULL || done_fn == NULL) return RM_E_INVALID;
    rm_mutex_lock(&q->mutex); /* a remove may be looking, if it was queued before */
    memset(waiter, 0, sizeof *waiter);
    waiter->queue = q;
    waiter->request = request;
    waiter->deadline = deadline;
    waiter->cancel = cancel;
    waiter->done_fn = done_fn;
    waiter->user = user;
    rm_mutex_unlock(&q->mutex);
    return rmi_waitq_add(q, waiter, false);
}

RM_API rm_status rm_waitq_add_on(rm_waitq *q, rm_waiter *waiter) {
    bool granted;
    if (q == NULL || waiter == NULL) return RM_E_INVALID;
    rm_mutex_lock(&q->mutex);
    granted = waiter->queue == q && waiter->state == RMI_WAITER_DONE && waiter->status == RM_OK;
    rm_mutex_unlock(&q->mutex);
    return granted ? rmi_waitq_add(q, waiter, true) : RM_E_STALE;
}

RM_API rm_status rm_waitq_remove(rm_waitq *q, rm_waiter *waiter) {
    rm_status status = RM_E_STALE;
    if (q == NULL || waiter == NULL) return RM_E_INVALID;
    rm_waitq_lock(q);
    if (waiter->state == RMI_WAITER_QUEUED && waiter->queue == q && waiter->cond == NULL) {
        rmi_waitq_leave(q, waiter, RM_E_CANCELLED);
        status = RM_OK;
    } else if (waiter->state == RMI_WAITER_DONE && waiter->queue == q) {
        waiter->removed = true; /* it shall not come back */
    }
    rm_waitq_unlock(q);
    return status;
}

RM_API void rm_waitq_notify(rm_waitq *q) {
    if (q == NULL || (RMI_LOAD32(&q->word, SEQ_CST) & 1u) == 0) return;
    rm_waitq_lock(q);
    if (q->head != NULL) {
        const int64_t now = rm_now(q->desc.clock);
        /* a callback cannot come back for its unit, nor one that is over make way: serve here */
        if (q->head->cond == NULL || rmi_waitq_starving(q, now) ||
            rmi_waiter_over(q->head, now) != RM_OK) {
            rmi_waitq_settle(q, now);
        } else if (q->woken == NULL) {
            q->woken = q->head;
            rm_cond_signal(q->head->cond);
        }
    }
    rm_waitq_unlock(q);
}

RM_API void rm_waitq_serve(rm_waitq *q) {
    if (q == NULL || (RMI_LOAD32(&q->word, SEQ_CST) & 1u) == 0) return;
    rm_waitq_lock(q);
    rmi_waitq_settle(q, rm_now(q->desc.clock));
    rm_waitq_unlock(q);
}

RM_API int64_t rm_waitq_expire(rm_waitq *q) {
    rm_waiter *waiter, *next;
    int64_t now, earliest = INT64_MAX;
    if (q == NULL) return INT64_MAX;
    rm_waitq_lock(q);
    now = rm_now(q->desc.clock);
    for (waiter = q->head; waiter != NULL; waiter = next) {
        next = waiter->next;
        if (waiter->cond == NULL && rmi_deadline_over(waiter->deadline, now))
            rmi_waitq_end(q, waiter, RM_E_TIMEOUT, 0, now);
    }
    rmi_waitq_settle(q, now);
    if (q->head != NULL && q->head->cond == NULL) earliest = rmi_waitq_look_at(q, now);
    for (waiter = q->head; waiter != NULL; waiter = waiter->next) {
        if (waiter->cond == NULL)
            earliest = rmi_min_time(earliest, rmi_deadline_at(waiter->deadline));
    }
    rm_waitq_unlock(q);
    return earliest;
}

RM_API uint32_t rm_waitq_complete(rm_waitq *q, const void *request, rm_status status,
                                  uint64_t grant) {
    rm_waiter *waiter, *next;
    uint32_t count = 0;
    int64_t now;
    if (q == NULL || q->head == NULL) return 0;
    now = rm_now(q->desc.clock);
    for (waiter = q->head; waiter != NULL; waiter = next) {
        rm_status over = status == RM_OK ? rmi_waiter_over(waiter, now) : RM_OK;
        next = waiter->next;
        if (request != NULL && waiter->request != request) continue;
        if (over == RM_OK) ++count;
        rmi_waitq_end(q, waiter, over == RM_OK ? status : over, over == RM_OK ? grant : 0, now);
    }
    rmi_waitq_settle(q, now); /* one of them may have been woken for a unit: pass it on */
    return count;
}

RM_API void rm_waitq_close(rm_waitq *q) {
    if (q == NULL) return;
    rm_waitq_lock(q);
    q->closed = true;
    (void)rm_waitq_complete(q, NULL, RM_E_CLOSED, 0);
    rmi_waitq_publish(q, rm_now(q->desc.clock));
    rm_waitq_unlock(q);
}

RM_API void rm_waitq_open(rm_waitq *q) {
    if (q == NULL) return;
    rm_waitq_lock(q);
    q->closed = false;
    rmi_waitq_publish(q, rm_now(q->desc.clock));
    rm_waitq_unlock(q);
}

RM_API rm_status rm_waitq_stats_get(rm_waitq *q, rm_waitq_stats *out) {
    if (q == NULL || out == NULL) return RM_E_INVALID;
    rm_waitq_lock(q);
    *out = q->stats;
    rm_waitq_unlock(q);
    return RM_OK;
}

/* >>semaphore */

static bool rmi_sem_take(void *owner, void *request, uint64_t *grant) {
    rm_sem *sem = (rm_sem *)owner;
    uint32_t permits = RMI_LOAD32(&sem->permits, SEQ_CST);
    (void)request, (void)grant;
    while (permits > 0) {
        if (RMI_CAS32(&sem->permits, &permits, permits - 1, SEQ_CST)) return true;
    }
    return false;
}

RM_API rm_status rm_sem_init(rm_sem *sem, const rm_sem_desc *desc) {
    rm_waitq_desc queue;
    rm_status status;
    if (sem == NULL) return RM_E_INVALID;
    memset(&queue, 0, sizeof queue);
    queue.try_fn = rmi_sem_take;
    queue.owner = sem;
    if (desc != NULL) {
        queue.clock = desc->clock;
        queue.barge_ns = desc->barge_ns;
        queue.max_waiters = desc->max_waiters;
    }
    status = rm_waitq_init(&sem->queue, &queue);
    if (status != RM_OK) return status;
    sem->permits = sem->max = desc == NULL || desc->permits == 0 ? 1 : desc->permits;
    return RM_OK;
}

RM_API rm_status rm_sem_destroy(rm_sem *sem) {
    if (sem == NULL) return RM_E_INVALID;
    if (rm_sem_available(sem) != sem->max) return RM_E_BUSY;
    return rm_waitq_destroy(&sem->queue);
}

RM_API rm_status rm_sem_acquire(rm_sem *sem, int64_t timeout_ns, rm_cancel *cancel) {
    uint64_t grant = 0;
    if (sem == NULL || !rm_timeout_valid(timeout_ns)) return RM_E_INVALID;
    if (rm_cancel_requested(cancel)) return RM_E_CANCELLED;
    if (!rm_waitq_must_queue(&sem->queue) && rmi_sem_take(sem, NULL, &grant)) return RM_OK;
    if (timeout_ns == 0 || timeout_ns == RM_NOWAIT) return RM_E_BUSY;
    return rm_waitq_wait(&sem->queue, NULL, rm_deadline_after(sem->queue.desc.clock, timeout_ns),
                         cancel, &grant);
}

RM_API rm_status rm_sem_release(rm_sem *sem) {
    uint32_t permits;
    if (sem == NULL) return RM_E_INVALID;
    permits = RMI_LOAD32(&sem->permits, RELAXED);
    do {
        if (permits >= sem->max) return RM_E_STALE;
    } while (!RMI_CAS32(&sem->permits, &permits, permits + 1, SEQ_CST));
    rm_waitq_notify(&sem->queue);
    return RM_OK;
}

RM_API uint32_t rm_sem_available(const rm_sem *sem) {
    return sem == NULL ? 0 : RMI_LOAD32(&sem->permits, ACQUIRE);
}

/* >>registry
   All slots exist from the start; a free one is in the free list. A live one is linked in the chain
   of its bucket and belongs to the stripe of that bucket: chain, references and generation are
   guarded by the stripe's mutex. One stripe's mutex at a time; the free list's comes after it. */

enum { RMI_ENTRY_FREE = 0, RMI_ENTRY_LIVE = 1 };

/* Tests make it small, to see that they would notice. */
#ifndef RMI_REGISTRY_GENERATION_BITS
#define RMI_REGISTRY_GENERATION_BITS 32
#endif
#define RMI_REGISTRY_GENERATIONS (((UINT32_C(1) << (RMI_REGISTRY_GENERATION_BITS - 1)) - 1) * 2 + 1)

typedef struct rmi_entry {
    unsigned char *key;
    void *value;
    uint64_t hash;
    uint32_t size;
    uint32_t next; /* slot + 1 in the chain or the free list; 0 = end */
    uint32_t stripe;
    uint32_t refs;
    uint32_t generation;
    uint8_t state;
    bool recent; /* second chance: used since the hand came by */
} rmi_entry;

struct rm_registry {
    rm_registry_desc desc;
    rm_env env;
    rm_hash_key key;
    rm_mutex *stripes;
    rm_mutex free_mutex;
    uint32_t *heads; /* slot + 1 a bucket */
    rmi_entry *entries;
    uint32_t stripe_count, bucket_count;
    uint32_t free_head;
    uint32_t count;
    uint32_t hand;
    bool closed; /* being destroyed: by its owner, whom no other thread disturbs */
};

static uint32_t rmi_power_of_two(uint32_t n) {
    uint32_t power = 1;
    while (power < n)
        power <<= 1;
    return power;
}

static rm_status rmi_registry_check(rm_registry_desc *desc, rm_error *error) {
    if (desc->max_entries == 0) desc->max_entries = 1024;
    if (desc->max_key == 0) desc->max_key = 255;
    if (desc->stripes == 0) desc->stripes = 8;
    if (desc->max_entries > (1u << 24))
        return rm_error_set(error, RM_E_INVALID, 0, "max_entries", "at most 16777216, got %u",
                            (unsigned)desc->max_entries);
    if (desc->stripes > 256)
        return rm_error_set(error, RM_E_INVALID, 0, "stripes", "at most 256, got %u",
                            (unsigned)desc->stripes);
    return RM_OK;
}

static void rmi_registry_free(rm_registry *r, uint32_t stripes_made) {
    const rm_allocator *allocator = r->env.allocator;
    while (stripes_made > 0)
        rm_mutex_destroy(&r->stripes[--stripes_made]);
    rm_free(allocator, r->stripes, r->stripe_count * sizeof *r->stripes);
    rm_free(allocator, r->heads, r->bucket_count * sizeof *r->heads);
    rm_free(allocator, r->entries, r->desc.max_entries * sizeof *r->entries);
    rm_free(allocator, r, sizeof *r);
}

/* All slots free; their generations stay, so that no reference from before fits. */
static void rmi_registry_clear(rm_registry *r) {
    uint32_t i;
    memset(r->heads, 0, r->bucket_count * sizeof *r->heads);
    for (i = 0; i < r->desc.max_entries; ++i) {
        r->entries[i].state = RMI_ENTRY_FREE;
        r->entries[i].next = i + 1 < r->desc.max_entries ? i + 2 : 0;
    }
    r->free_head = 1;
    r->count = 0;
    r->closed = false;
}

RM_API rm_status rm_registry_create(const rm_registry_desc *desc, rm_registry **out,
                                    rm_error *error) {
    rm_registry_desc checked;
    rm_registry *r;
    rm_env env;
    rm_status status;
    uint32_t i;
    if (desc == NULL || out == NULL)
        return rm_error_set(error, RM_E_INVALID, 0, "registry", "desc or out is NULL");
    checked = *desc;
    status = rm_env_resolve(desc->env, &env, error);
    if (status == RM_OK) status = rmi_registry_check(&checked, error);
    if (status != RM_OK) return status;
    r = (rm_registry *)rm_alloc(env.allocator, sizeof *r);
    if (r == NULL) return rm_error_set(error, RM_E_NOMEM, 0, "registry", "out of memory");
    memset(r, 0, sizeof *r);
    r->desc = checked;
    r->env = env;
    r->key = rm_hash_key_random(env.random);
    r->stripe_count = rmi_power_of_two(checked.stripes);
    r->bucket_count = rmi_power_of_two(checked.max_entries);
    if (r->bucket_count < r->stripe_count) r->bucket_count = r->stripe_count;
    r->stripes = (rm_mutex *)rm_alloc(env.allocator, r->stripe_count * sizeof *r->stripes);
    r->heads = (uint32_t *)rm_alloc(env.allocator, r->bucket_count * sizeof *r->heads);
    r->entries = (rmi_entry *)rm_alloc(env.allocator, checked.max_entries * sizeof *r->entries);
    if (r->stripes == NULL || r->heads == NULL || r->entries == NULL) {
        rmi_registry_free(r, 0);
        return rm_error_set(error, RM_E_NOMEM, 0, "registry", "out of memory for %u entries",
                            (unsigned)checked.max_entries);
    }
    for (i = 0; status == RM_OK && i < r->stripe_count; ++i)
        status = rm_mutex_init(&r->stripes[i]);
    if (status == RM_OK)
        status = rm_mutex_init(&r->free_mutex);
    else
        --i;
    if (status != RM_OK) {
        rmi_registry_free(r, i);
        return rm_error_set(error, status, 0, "registry", "the platform has no mutex to give");
    }
    memset(r->entries, 0, checked.max_entries * sizeof *r->entries);
    rmi_registry_clear(r);
    *out = r;
    return RM_OK;
}

RM_API rm_status rm_registry_after_fork_child(rm_registry *r) {
    rm_status status;
    uint32_t i;
    if (r == NULL) return RM_E_INVALID;
    rmi_registry_clear(r);
    status = rm_mutex_init(&r->free_mutex);
    for (i = 0; status == RM_OK && i < r->stripe_count; ++i)
        status = rm_mutex_init(&r->stripes[i]);
    return status;
}

/* The stripe of a hash; a bucket belongs to one stripe. */
static uint32_t rmi_registry_stripe(const rm_registry *r, uint64_t hash) {
    return (uint32_t)hash & (r->stripe_count - 1);
}

static uint32_t *rmi_registry_head(rm_registry *r, uint64_t hash) {
    return &r->heads[(uint32_t)hash & (r->bucket_count - 1)];
}

/* Finds a key's link in its chain, with the stripe locked; *link is 0 when it is not there. */
static uint32_t *rmi_registry_find(rm_registry *r, uint64_t hash, const void *key, size_t size) {
    uint32_t *link = rmi_registry_head(r, hash);
    while (*link != 0) {
        const rmi_entry *entry = &r->entries[*link - 1];
        if (entry->hash == hash && entry->size == size &&
            (size == 0 || memcmp(entry->key, key, size) == 0))
            break;
        link = &r->entries[*link - 1].next;
    }
    return link;
}

static void rmi_registry_borrow(rm_registry *r, uint32_t slot, rm_registry_ref *out) {
    rmi_entry *entry = &r->entries[slot];
    ++entry->refs;
    out->value = entry->value;
    out->slot = slot;
    out->generation = entry->generation;
}

/* Ends the life of an unlinked entry's key and value; no lock is held. */
static void rmi_registry_dispose(rm_registry *r, unsigned char *key, uint32_t size, void *value) {
    if (r->desc.destroy_fn != NULL) r->desc.destroy_fn(value, r->desc.user);
    rm_free(r->env.allocator, key, size);
}

static void rmi_registry_give_slot(rm_registry *r, uint32_t slot) {
    rm_mutex_lock(&r->free_mutex);
    r->entries[slot].next = r->free_head;
    r->free_head = slot + 1;
    rm_mutex_unlock(&r->free_mutex);
}

/* Locks the stripe that an entry is in now. What was written to it under another stripe's lock
   comes with the acquire after the lock: see rmi_registry_move. */
static rm_mutex *rmi_registry_lock(rm_registry *r, const rmi_entry *entry) {
    for (;;) {
        const uint32_t stripe = RMI_LOAD32(&entry->stripe, RELAXED);
        rm_mutex_lock(&r->stripes[stripe]);
        if (RMI_LOAD32(&entry->stripe, ACQUIRE) == stripe) return &r->stripes[stripe];
        rm_mutex_unlock(&r->stripes[stripe]);
    }
}

/* Tries to evict the entry in a slot; on success the slot is the caller's. */
static bool rmi_registry_evict(rm_registry *r, uint32_t slot) {
    rmi_entry *entry = &r->entries[slot];
    rm_mutex *mutex = rmi_registry_lock(r, entry);
    unsigned char *key = NULL;
    void *value = NULL;
    uint32_t size = 0;
    bool evict = false;
    if (entry->state == RMI_ENTRY_LIVE && entry->refs == 0) {
        if (entry->recent)
            entry->recent = false;
        else
            evict = r->desc.evictable_fn(entry->value, r->desc.user);
    }
    if (evict) {
        uint32_t *link = rmi_registry_head(r, entry->hash);
        while (*link != slot + 1)
            link = &r->entries[*link - 1].next;
        *link = entry->next;
        entry->state = RMI_ENTRY_FREE;
        key = entry->key;
        size = entry->size;
        value = entry->value;
    }
    rm_mutex_unlock(mutex);
    if (!evict) return false;
    (void)RMI_ADD32(&r->count, UINT32_MAX, RELAXED);
    rmi_registry_dispose(r, key, size, value);
    return true;
}

/* Reserves a slot, if need be by evicting (CLOCK: two rounds of the hand).
   Returns false when there is none. */
static bool rmi_registry_take_slot(rm_registry *r, uint32_t *slot) {
    uint32_t steps = 2 * r->desc.max_entries;
    rm_mutex_lock(&r->free_mutex);
    if (r->free_head != 0) {
        *slot = r->free_head - 1;
        r->free_head = r->entries[*slot].next;
        rm_mutex_unlock(&r->free_mutex);
        return true;
    }
    rm_mutex_unlock(&r->free_mutex);
    if (r->desc.evictable_fn == NULL) return false;
    while (steps-- > 0) {
        *slot = RMI_ADD32(&r->hand, 1u, RELAXED) % r->desc.max_entries;
        if (rmi_registry_evict(r, *slot)) return true;
    }
    return false;
}

/* Gives our free slot to a stripe, under the lock of the one it is in. */
static void rmi_registry_move(rm_registry *r, rmi_entry *entry, uint32_t stripe) {
    rm_mutex *mutex = rmi_registry_lock(r, entry);
    RMI_STORE32(&entry->stripe, stripe, RELEASE);
    rm_mutex_unlock(mutex);
}

/* Links a new entry, unless another thread was faster: then that one is borrowed and false. */
static bool rmi_registry_link(rm_registry *r, uint32_t slot, uint64_t hash, unsigned char *key,
                              uint32_t size, void *value, rm_registry_ref *out) {
    const uint32_t stripe = rmi_registry_stripe(r, hash);
    rmi_entry *entry = &r->entries[slot];
    uint32_t *link;
    bool ours;
    rmi_registry_move(r, entry, stripe);
    rm_mutex_lock(&r->stripes[stripe]);
    link = rmi_registry_find(r, hash, key, size);
    ours = *link == 0;
    if (ours) {
        entry->hash = hash;
        entry->key = key;
        entry->size = size;
        entry->value = value;
        entry->refs = 0;
        entry->next = 0;
        entry->recent = true;
        entry->state = RMI_ENTRY_LIVE;
        entry->generation = (entry->generation + 1u) & RMI_REGISTRY_GENERATIONS;
        if (entry->generation == 0) entry->generation = 1; /* 0 is a cleared reference */
        *link = slot + 1;
        (void)RMI_ADD32(&r->count, 1u, RELAXED);
        rmi_registry_borrow(r, slot, out);
    } else {
        rmi_registry_borrow(r, *link - 1, out);
    }
    rm_mutex_unlock(&r->stripes[stripe]);
    return ours;
}

static rm_status rmi_registry_make(rm_registry *r, uint64_t hash, const void *key, uint32_t size,
                                   rm_registry_ref *out, rm_error *error) {
    unsigned char *copy;
    void *value = NULL;
    uint32_t slot = 0;
    rm_status status;
    rm_error why;
    if (!rmi_registry_take_slot(r, &slot))
        return rm_error_set(error, RM_E_FULL, 0, "registry",
                            "all %u entries are in use; raise max_entries",
                            (unsigned)r->desc.max_entries);
    memset(&why, 0, sizeof why);
    copy = (unsigned char *)rm_alloc(r->env.allocator, size);
    status = copy == NULL ? rm_error_set(&why, RM_E_NOMEM, 0, "registry", "out of memory")
                          : r->desc.create_fn(key, size, &value, &why, r->desc.user);
    if (status != RM_OK) {
        rm_free(r->env.allocator, copy, size);
        rmi_registry_give_slot(r, slot);
        if (why.status == RM_OK)
            (void)rm_error_set(&why, status, 0, "registry", "create_fn: %s",
                               rm_status_name(status));
        if (error != NULL) *error = why;
        return status;
    }
    if (size > 0) memcpy(copy, key, size);
    if (!rmi_registry_link(r, slot, hash, copy, size, value, out)) {
        rmi_registry_dispose(r, copy, size, value);
        rmi_registry_give_slot(r, slot);
    }
    return RM_OK;
}

RM_API rm_status rm_registry_get(rm_registry *r, const void *key, size_t size, rm_registry_ref *out,
                                 rm_error *error) {
    uint64_t hash;
    uint32_t stripe, found;
    if (r == NULL || out == NULL || (key == NULL && size > 0))
        return rm_error_set(error, RM_E_INVALID, 0, "registry", "registry, key or out is NULL");
    if (size > r->desc.max_key)
        return rm_error_set(error, RM_E_TOO_LARGE, 0, "key", "%lu bytes, max_key is %u",
                            (unsigned long)size, (unsigned)r->desc.max_key);
    hash = rm_hash(&r->key, key, size);
    stripe = rmi_registry_stripe(r, hash);
    rm_mutex_lock(&r->stripes[stripe]);
    found = *rmi_registry_find(r, hash, key, size);
    if (found != 0) {
        rmi_registry_borrow(r, found - 1, out);
        r->entries[found - 1].recent = true;
    }
    rm_mutex_unlock(&r->stripes[stripe]);
    if (found != 0) return RM_OK;
    if (r->closed) return rm_error_set(error, RM_E_CLOSED, 0, "registry", "it is being destroyed");
    if (r->desc.create_fn == NULL)
        return rm_error_set(error, RM_E_NOT_FOUND, 0, "registry", "no such key");
    return rmi_registry_make(r, hash, key, (uint32_t)size, out, error);
}

/* Adds to the references of an entry, or takes one away, if it still is what ref refers to. */
static rm_status rmi_registry_refer(rm_registry *r, const rm_registry_ref *ref, bool more) {
    rm_status status = RM_E_STALE;
    rmi_entry *entry;
    rm_mutex *mutex;
    if (ref->generation == 0 || ref->slot >= r->desc.max_entries) return RM_E_STALE;
    entry = &r->entries[ref->slot];
    mutex = rmi_registry_lock(r, entry);
    if (entry->state == RMI_ENTRY_LIVE && entry->generation == ref->generation &&
        entry->value == ref->value && (more || entry->refs > 0)) {
        entry->refs += more ? 1 : UINT32_MAX;
        status = RM_OK;
    }
    rm_mutex_unlock(mutex);
    return status;
}

RM_API rm_status rm_registry_hold(rm_registry *r, const rm_registry_ref *ref,
                                  rm_registry_ref *out) {
    rm_status status;
    if (r == NULL || ref == NULL || out == NULL) return RM_E_INVALID;
    status = rmi_registry_refer(r, ref, true);
    if (status == RM_OK) *out = *ref;
    return status;
}

RM_API rm_status rm_registry_put(rm_registry *r, rm_registry_ref *ref) {
    rm_status status;
    if (r == NULL || ref == NULL) return RM_E_INVALID;
    status = rmi_registry_refer(r, ref, false);
    if (status == RM_OK) memset(ref, 0, sizeof *ref);
    return status;
}

RM_API rm_status rm_registry_remove(rm_registry *r, const void *key, size_t size) {
    rm_status status = RM_E_NOT_FOUND;
    unsigned char *copy = NULL;
    void *value = NULL;
    uint32_t *link, slot = 0;
    uint32_t stripe;
    uint64_t hash;
    if (r == NULL || (key == NULL && size > 0)) return RM_E_INVALID;
    if (size > r->desc.max_key) return RM_E_NOT_FOUND;
    hash = rm_hash(&r->key, key, size);
    stripe = rmi_registry_stripe(r, hash);
    rm_mutex_lock(&r->stripes[stripe]);
    link = rmi_registry_find(r, hash, key, size);
    if (*link != 0) {
        rmi_entry *entry = &r->entries[*link - 1];
        status = entry->refs > 0 ? RM_E_BUSY : RM_OK;
        if (status == RM_OK) {
            slot = *link - 1;
            *link = entry->next;
            entry->state = RMI_ENTRY_FREE;
            copy = entry->key;
            value = entry->value;
        }
    }
    rm_mutex_unlock(&r->stripes[stripe]);
    if (status != RM_OK) return status;
    (void)RMI_ADD32(&r->count, UINT32_MAX, RELAXED);
    rmi_registry_dispose(r, copy, (uint32_t)size, value);
    rmi_registry_give_slot(r, slot);
    return RM_OK;
}

RM_API void rm_registry_each(rm_registry *r,
                             bool (*fn)(const void *key, size_t size, void *value, void *user),
                             void *user) {
    uint32_t slot;
    bool go_on = true;
    if (r == NULL || fn == NULL) return;
    for (slot = 0; go_on && slot < r->desc.max_entries; ++slot) {
        rmi_entry *entry = &r->entries[slot];
        rm_mutex *mutex = rmi_registry_lock(r, entry);
        const bool live = entry->state == RMI_ENTRY_LIVE;
        rm_registry_ref ref;
        if (live) rmi_registry_borrow(r, slot, &ref);
        rm_mutex_unlock(mutex);
        if (!live) continue;
        go_on = fn(entry->key, entry->size, ref.value, user); /* borrowed: it stays */
        (void)rm_registry_put(r, &ref);
    }
}

RM_API uint32_t rm_registry_count(const rm_registry *r) {
    return r == NULL ? 0 : RMI_LOAD32(&r->count, RELAXED);
}

RM_API rm_status rm_registry_destroy(rm_registry *r) {
    uint32_t slot;
    if (r == NULL) return RM_OK;
    if (r->closed) return RM_E_BUSY;
    for (slot = 0; slot < r->desc.max_entries; ++slot) {
        if (r->entries[slot].state == RMI_ENTRY_LIVE && r->entries[slot].refs > 0) return RM_E_BUSY;
    }
    r->closed = true;
    for (slot = 0; slot < r->desc.max_entries; ++slot) {
        rmi_entry *entry = &r->entries[slot];
        if (entry->state != RMI_ENTRY_LIVE) continue;
        *rmi_registry_find(r, entry->hash, entry->key, entry->size) = entry->next;
        entry->state = RMI_ENTRY_FREE; /* destroy_fn may look for it, and must not find it */
        rmi_registry_dispose(r, entry->key, entry->size, entry->value);
    }
    rm_mutex_destroy(&r->free_mutex);
    rmi_registry_free(r, r->stripe_count);
    return RM_OK;
}

/* >>text */

RM_API rm_text rm_text_make(char *buffer, size_t size) {
    rm_text text;
    memset(&text, 0, sizeof text);
    text.buffer = buffer;
    text.size = buffer == NULL ? 0 : size;
    return text;
}

RM_API bool rm_text_flush(rm_text *text) {
    if (text == NULL) return false;
    if (text->flush_fn != NULL && text->used > 0 && !text->overflow) {
        text->overflow = !text->flush_fn(text->buffer, text->used, text->user);
        text->used = 0;
    }
    return !text->overflow;
}

RM_API void rm_text_bytes(rm_text *text, const void *data, size_t size) {
    const char *from = (const char *)data;
    if (text == NULL || from == NULL) return;
    while (size > 0 && !text->overflow) {
        size_t room = text->size - text->used;
        if (room == 0 && text->flush_fn != NULL && text->size > 0) {
            (void)rm_text_flush(text);
            continue;
        }
        if (room < size && text->flush_fn == NULL) { /* all or nothing of one piece */
            text->overflow = true;
            return;
        }
        if (room == 0) {
            text->overflow = true;
            return;
        }
        if (room > size) room = size;
        memcpy(text->buffer + text->used, from, room);
        text->used += room;
        from += room;
        size -= room;
    }
}

RM_API void rm_text_string(rm_text *text, const char *string) {
    if (string != NULL) rm_text_bytes(text, string, strlen(string));
}

/* Writes value right-aligned with at least `digits` digits. Returns where it begins. */
static char *rmi_digits(char *end, uint64_t value, uint32_t digits) {
    while (value > 0 || digits > 0) {
        *--end = (char)('0' + value % 10);
        value /= 10;
        if (digits > 0) --digits;
    }
    return end;
}

RM_API void rm_text_uint(rm_text *text, uint64_t value) {
    char digits[20];
    char *end = digits + sizeof digits;
    char *begin = rmi_digits(end, value, 1);
    rm_text_bytes(text, begin, (size_t)(end - begin));
}

RM_API void rm_text_int(rm_text *text, int64_t value) {
    if (value < 0) rm_text_bytes(text, "-", 1);
    rm_text_uint(text, value < 0 ? 0u - (uint64_t)value : (uint64_t)value);
}

RM_API void rm_text_decimal(rm_text *text, int64_t value, uint32_t decimals) {
    char digits[20];
    char *end = digits + sizeof digits;
    uint64_t scale, rest;
    if (decimals > 18) decimals = 18;
    scale = (uint64_t)rmi_pow10(decimals);
    rest = value < 0 ? 0u - (uint64_t)value : (uint64_t)value;
    if (value < 0) rm_text_bytes(text, "-", 1);
    rm_text_uint(text, rest / scale);
    rest %= scale;
    if (rest == 0) return;
    for (; rest % 10 == 0; rest /= 10)
        --decimals;
    rm_text_bytes(text, ".", 1);
    rm_text_bytes(text, rmi_digits(end, rest, decimals), decimals);
}

#ifdef __MINGW32__ /* its strtod is one bit off next to powers of two */
#define RMI_STRTOD(string) ((double)strtold((string), NULL))
#else
#define RMI_STRTOD(string) strtod((string), NULL)
#endif

/* The C library's digits with the locale's decimal point put right. */
static void rmi_text_library_double(rm_text *text, double value) {
    char digits[64];
    const char *from = digits;
    char *to = digits;
    const int kept = errno; /* strtod sets it for subnormal numbers */
    /* up to 15 digits are unique for normal numbers; subnormal ones have fewer */
    int precision = value < 2.3e-308 && value > -2.3e-308 ? 1 : 15;
    bool point = false;
    for (; precision <= 17; ++precision) {
        (void)snprintf(digits, sizeof digits, "%.*g", precision, value);
        if (RMI_STRTOD(digits) == value) break;
    }
    errno = kept;
    for (; *from != '\0'; ++from) {
        const bool plain =
            (*from >= '0' && *from <= '9') || *from == '-' || *from == '+' || *from == 'e';
        if (plain)
            *to++ = *from;
        else if (!point)
            *to++ = '.';
        if (!plain) point = true; /* a decimal point may have several bytes */
    }
    rm_text_bytes(text, digits, (size_t)(to - digits));
}

RM_API void rm_text_double(rm_text *text, double value) {
    if (value != value)
        rm_text_string(text, "NaN");
    else if (value - value != 0)
        rm_text_string(text, value > 0 ? "+Inf" : "-Inf");
    else if (value > -1e15 && value < 1e15 && value == (double)(int64_t)value &&
             !(value == 0 && 1 / value < 0))
        rm_text_int(text, (int64_t)value);
    else
        rmi_text_library_double(text, value);
}

RM_API size_t rm_utf8_length(const char *data, size_t size) {
    const unsigned char *p = (const unsigned char *)data;
    size_t length, i;
    if (p == NULL || size == 0) return 0;
    if (p[0] < 0x80) return 1;
    if (p[0] < 0xC2 || p[0] > 0xF4) return 0;
    length = p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
    if (size < length) return 0;
    for (i = 1; i < length; ++i) {
        if ((p[i] & 0xC0u) != 0x80u) return 0;
    }
    if (p[0] == 0xE0 && p[1] < 0xA0) return 0; /* overlong */
    if (p[0] == 0xED && p[1] > 0x9F) return 0; /* surrogate */
    if (p[0] == 0xF0 && p[1] < 0x90) return 0; /* overlong */
    if (p[0] == 0xF4 && p[1] > 0x8F) return 0; /* above U+10FFFF */
    return length;
}

RM_API void rm_text_json(rm_text *text, const char *data, size_t size) {
    static const char hex[] = "0123456789abcdef";
    size_t i = 0;
    if (data == NULL) size = 0;
    rm_text_bytes(text, "\"", 1);
    while (i < size) {
        const unsigned char c = (unsigned char)data[i];
        const size_t length = rm_utf8_length(data + i, size - i);
        if (length == 0) {
            rm_text_string(text, "\\ufffd");
        } else if (c == '"' || c == '\\') {
            char escape[2] = {'\\', '\0'};
            escape[1] = (char)c;
            rm_text_bytes(text, escape, 2);
        } else if (c == '\n') {
            rm_text_bytes(text, "\\n", 2);
        } else if (c < 0x20 || c == 0x7F) {
            char escape[6] = {'\\', 'u', '0', '0', '0', '0'};
            escape[4] = hex[c >> 4];
            escape[5] = hex[c & 15];
            rm_text_bytes(text, escape, 6);
        } else {
            rm_text_bytes(text, data + i, length);
        }
        i += length == 0 ? 1 : length;
    }
    rm_text_bytes(text, "\"", 1);
}

/* >>log */

static rm_kv rmi_kv(const char *key, rm_kv_type type) {
    rm_kv kv;
    memset(&kv, 0, sizeof kv);
    kv.key = key;
    kv.type = type;
    return kv;
}

RM_API rm_kv rm_kv_string(const char *key, const char *value) {
    rm_kv kv = rmi_kv(key, RM_KV_STRING);
    kv.string = value;
    return kv;
}

RM_API rm_kv rm_kv_int(const char *key, int64_t value) {
    rm_kv kv = rmi_kv(key, RM_KV_INT);
    kv.integer = value;
    return kv;
}

RM_API rm_kv rm_kv_double(const char *key, double value) {
    rm_kv kv = rmi_kv(key, RM_KV_DOUBLE);
    kv.number = value;
    return kv;
}

RM_API rm_kv rm_kv_bool(const char *key, bool value) {
    rm_kv kv = rmi_kv(key, RM_KV_BOOL);
    kv.integer = value ? 1 : 0;
    return kv;
}

RM_API const char *rm_log_level_name(rm_log_level level) {
    static const char *const names[] = {"default", "debug", "info", "warn", "error"};
    const size_t index = (size_t)level;
    return index < sizeof names / sizeof *names ? names[index] : "off";
}

static bool rmi_log_wants(rm_log_level lowest, rm_log_level level) {
    return level >= (lowest == RM_LOG_DEFAULT ? RM_LOG_INFO : lowest) && level < RM_LOG_OFF;
}

RM_API void rm_log_emit(const rm_log *log, const rm_clock *clock, rm_log_level level,
                        const char *component, const char *event, const rm_kv *values,
                        size_t count) {
    rm_log_event record;
    if (log == NULL || log->log_fn == NULL || !rmi_log_wants(log->level, level)) return;
    record.wall_ns = rm_wall(clock);
    record.component = component;
    record.event = event;
    record.values = values;
    record.count = values == NULL ? 0 : count;
    record.level = level;
    log->log_fn(&record, log->user);
}

/* "2026-01-31T12:00:00.123456Z"; days to date after Hinnant, "chrono-compatible low-level date
   algorithms" (2013). */
static void rmi_text_time(rm_text *text, int64_t wall_ns) {
    const int64_t day_us = INT64_C(86400000000);
    int64_t us = wall_ns / 1000 - (wall_ns % 1000 < 0 ? 1 : 0), days, z, era, year;
    uint32_t doe, yoe, doy, mp, day, month, second;
    char buffer[27], *p;
    days = us / day_us - (us % day_us < 0 ? 1 : 0); /* all rounded down, before 1970 too */
    us -= days * day_us;
    second = (uint32_t)(us / 1000000);
    z = days + 719468;
    era = (z >= 0 ? z : z - 146096) / 146097;
    doe = (uint32_t)(z - era * 146097);
    yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    mp = (5 * doy + 2) / 153;
    day = doy - (153 * mp + 2) / 5 + 1;
    month = mp < 10 ? mp + 3 : mp - 9;
    year = (int64_t)yoe + era * 400 + (month <= 2 ? 1 : 0); /* 1677 to 2262 in int64 ns */
    memcpy(buffer, "0000-00-00T00:00:00.000000Z", sizeof buffer);
    p = buffer;
    (void)rmi_digits(p + 4, (uint64_t)year, 4);
    (void)rmi_digits(p + 7, month, 2);
    (void)rmi_digits(p + 10, day, 2);
    (void)rmi_digits(p + 13, second / 3600, 2);
    (void)rmi_digits(p + 16, second / 60 % 60, 2);
    (void)rmi_digits(p + 19, second % 60, 2);
    (void)rmi_digits(p + 26, (uint64_t)us % 1000000, 6);
    rm_text_bytes(text, buffer, sizeof buffer);
}

/* A name: at most 47 bytes of it. */
static void rmi_text_name(rm_text *text, const char *key, const char *name) {
    char cut[48];
    rmi_copy_string(cut, sizeof cut, name);
    rm_text_string(text, key);
    rm_text_json(text, cut, strlen(cut));
}

static void rmi_text_kv(rm_text *text, const rm_kv *kv) {
    rm_text_bytes(text, ",", 1);
    rm_text_json(text, kv->key, strlen(kv->key));
    rm_text_bytes(text, ":", 1);
    if (kv->type == RM_KV_INT)
        rm_text_int(text, kv->integer);
    else if (kv->type == RM_KV_BOOL)
        rm_text_string(text, kv->integer != 0 ? "true" : "false");
    else if (kv->type == RM_KV_DOUBLE && kv->number - kv->number == 0)
        rm_text_double(text, kv->number);
    else if (kv->type == RM_KV_STRING && kv->string != NULL)
        rm_text_json(text, kv->string, strlen(kv->string));
    else
        rm_text_string(text, "null");
}

RM_API size_t rm_log_format(const rm_log_event *event, char *buffer, size_t size) {
    static const char cut[] = ",\"truncated\":true}\n";
    const size_t reserve = sizeof cut - 1;
    rm_text text;
    size_t i, fits;
    if (event == NULL || buffer == NULL || size < reserve) return 0;
    text = rm_text_make(buffer, size - reserve);
    rm_text_string(&text, "{\"time\":\"");
    rmi_text_time(&text, event->wall_ns);
    rm_text_string(&text, "\",\"level\":\"");
    rm_text_string(&text, rm_log_level_name(event->level));
    rmi_text_name(&text, "\",\"component\":", event->component);
    rmi_text_name(&text, ",\"event\":", event->event);
    if (text.overflow) return 0;
    fits = text.used;
    for (i = 0; i < event->count && event->values != NULL && !text.overflow; ++i) {
        if (event->values[i].key == NULL) continue;
        rmi_text_kv(&text, &event->values[i]);
        if (!text.overflow) fits = text.used;
    }
    if (text.overflow) {
        memcpy(buffer + fits, cut, reserve);
        return fits + reserve;
    }
    memcpy(buffer + fits, "}\n", 2);
    return fits + 2;
}

RM_API void rm_log_to_stream(const rm_log_event *event, void *user) {
    const rm_log_stream *sink = (const rm_log_stream *)user;
    char line[2048];
    size_t size = 0;
    if (event == NULL) return;
    for (; sink != NULL; sink = sink->next) {
        FILE *stream = sink->stream == NULL ? stderr : (FILE *)sink->stream;
        if (!rmi_log_wants(sink->level, event->level)) continue;
        if (size == 0) size = rm_log_format(event, line, sizeof line);
        (void)fwrite(line, 1, size, stream);
        (void)fflush(stream);
    }
}

/* >>resource */

RM_API rm_resource rm_resource_make(const char *name, const char *kind, void *user) {
    rm_resource resource;
    memset(&resource, 0, sizeof resource);
    resource.name = name;
    resource.kind = kind;
    resource.user = user;
    return resource;
}

RM_API const char *rm_health_name(rm_health health) {
    static const char *const names[] = {"unknown", "healthy", "degraded", "unhealthy"};
    const size_t index = (size_t)health;
    return index < sizeof names / sizeof *names ? names[index] : "unknown";
}

#ifdef __cplusplus
}
#endif
#endif /* RM_BASE_IMPLEMENTATION_DONE */

/* ========================================================================================== */
/* Implementation of the manager.                                                             */
/* ========================================================================================== */
#if defined(RM_MANAGER_IMPLEMENTATION) && !defined(RM_MANAGER_IMPLEMENTATION_DONE)
#define RM_MANAGER_IMPLEMENTATION_DONE

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rmi_managed {
    rm_resource resource; /* its strings are name and kind below */
    char name[48];
    char kind[32];
    int64_t since_ns;
    rm_state state;
    bool running; /* started, and not stopped with success since */
    rm_error last_error;
} rmi_managed;

/* A status call, on its stack. */
typedef struct rmi_visit {
    struct rmi_visit *next;
    const rmi_managed *entry; /* whose health hook runs now; NULL = none */
    uint32_t thread;
} rmi_visit;

/* The mutex guards phase, count, visits and every entry; hooks run without it. STARTING and
   STOPPING belong to the thread that set them. */
struct rm_manager {
    rm_env env;
    rm_mutex mutex;
    rm_cond left; /* signalled when a health hook has returned */
    rmi_visit *visits;
    uint32_t max;
    uint32_t count;
    rm_state phase; /* STOPPED, STARTING, READY or STOPPING */
    rmi_managed *entries;
};

RM_API const char *rm_state_name(rm_state state) {
    static const char *const names[] = {"registered", "starting", "ready",
                                        "stopping",   "stopped",  "failed"};
    const size_t index = (size_t)state;
    return index < sizeof names / sizeof *names ? names[index] : "unknown";
}

RM_API rm_status rm_abi1_define_RM_MANAGER_IMPLEMENTATION_in_one_c_file(const rm_manager_desc *desc,
                                                                        rm_manager **out,
                                                                        rm_error *error) {
    const uint32_t max = desc == NULL || desc->max_resources == 0 ? 64 : desc->max_resources;
    rm_manager *manager;
    rm_env env;
    rm_status status;
    if (out == NULL) return rm_error_set(error, RM_E_INVALID, 0, "manager", "out is NULL");
    if (max > 65535)
        return rm_error_set(error, RM_E_INVALID, 0, "max_resources", "at most 65535, got %u",
                            (unsigned)max);
    status = rm_env_resolve(desc == NULL ? NULL : desc->env, &env, error);
    if (status != RM_OK) return status;
    manager = (rm_manager *)rm_alloc(env.allocator, sizeof *manager);
    if (manager == NULL) return rm_error_set(error, RM_E_NOMEM, 0, "manager", "out of memory");
    memset(manager, 0, sizeof *manager);
    manager->env = env;
    manager->max = max;
    manager->phase = RM_STATE_STOPPED;
    manager->entries = (rmi_managed *)rm_alloc(env.allocator, max * sizeof *manager->entries);
    status = manager->entries == NULL ? RM_E_NOMEM : rm_mutex_init(&manager->mutex);
    if (status == RM_OK && rm_cond_init(&manager->left) != RM_OK) {
        rm_mutex_destroy(&manager->mutex);
        status = RM_E_SYSTEM;
    }
    if (status != RM_OK) {
        rm_free(env.allocator, manager->entries, max * sizeof *manager->entries);
        rm_free(env.allocator, manager, sizeof *manager);
        return rm_error_set(error, status, 0, "manager", "no memory or mutex for %u resources",
                            (unsigned)max);
    }
    *out = manager;
    return RM_OK;
}

RM_API rm_status rm_manager_destroy(rm_manager *manager) {
    rm_env env;
    bool stopped;
    if (manager == NULL) return RM_OK;
    rm_mutex_lock(&manager->mutex);
    stopped = manager->phase == RM_STATE_STOPPED;
    rm_mutex_unlock(&manager->mutex);
    if (!stopped) return RM_E_STATE;
    env = manager->env;
    rm_cond_destroy(&manager->left);
    rm_mutex_destroy(&manager->mutex);
    rm_free(env.allocator, manager->entries, manager->max * sizeof *manager->entries);
    rm_free(env.allocator, manager, sizeof *manager);
    return RM_OK;
}

RM_API rm_status rm_manager_after_fork_child(rm_manager *manager) {
    rm_status status;
    uint32_t i;
    if (manager == NULL) return RM_E_INVALID;
    manager->visits = NULL;
    manager->phase = RM_STATE_STOPPED;
    status = rm_mutex_init(&manager->mutex);
    if (status == RM_OK) status = rm_cond_init(&manager->left);
    for (i = 0; i < manager->count; ++i) {
        rmi_managed *entry = &manager->entries[i];
        entry->state = RM_STATE_REGISTERED;
        entry->running = false;
        entry->since_ns = rm_now(manager->env.clock);
        memset(&entry->last_error, 0, sizeof entry->last_error);
    }
    return status;
}

static rmi_managed *rmi_manager_find(rm_manager *manager, const char *name) {
    uint32_t i;
    for (i = 0; i < manager->count; ++i) {
        if (strcmp(manager->entries[i].name, name) == 0) return &manager->entries[i];
    }
    return NULL;
}

static rm_status rmi_manager_add_locked(rm_manager *manager, const rm_resource *resource,
                                        rm_error *error) {
    rmi_managed *entry;
    if (manager->phase != RM_STATE_STOPPED)
        return rm_error_set(error, RM_E_STATE, 0, resource->name,
                            "the manager is %s; add resources before it starts",
                            rm_state_name(manager->phase));
    if (rmi_manager_find(manager, resource->name) != NULL)
        return rm_error_set(error, RM_E_EXISTS, 0, resource->name,
                            "a resource of this name is registered; choose another name");
    if (manager->count == manager->max)
        return rm_error_set(error, RM_E_FULL, 0, resource->name,
                            "%u resources are registered; raise max_resources",
                            (unsigned)manager->count);
    entry = &manager->entries[manager->count];
    memset(entry, 0, sizeof *entry);
    entry->resource = *resource;
    rmi_copy_string(entry->name, sizeof entry->name, resource->name);
    rmi_copy_string(entry->kind, sizeof entry->kind, resource->kind);
    entry->resource.name = entry->name;
    entry->resource.kind = entry->kind;
    entry->since_ns = rm_now(manager->env.clock);
    RMI_STORE32(&manager->count, manager->count + 1, RELEASE); /* a fork may come at any time */
    return RM_OK;
}

RM_API rm_status rm_manager_add(rm_manager *manager, const rm_resource *resource, rm_error *error) {
    rm_status status;
    if (manager == NULL || resource == NULL || resource->name == NULL || resource->name[0] == '\0')
        return rm_error_set(error, RM_E_INVALID, 0, "resource",
                            "manager, resource or name missing");
    if (!rmi_name_fits(resource->name, 47) ||
        (resource->kind != NULL && resource->kind[0] != '\0' && !rmi_name_fits(resource->kind, 31)))
        return rm_error_set(error, RM_E_TOO_LARGE, 0, resource->name,
                            "a name has at most 47 bytes, a kind 31");
    rm_mutex_lock(&manager->mutex);
    status = rmi_manager_add_locked(manager, resource, error);
    rm_mutex_unlock(&manager->mutex);
    return status;
}

RM_API rm_status rm_manager_get(rm_manager *manager, const char *name, rm_resource *out) {
    rmi_managed *entry;
    if (manager == NULL || name == NULL || out == NULL) return RM_E_INVALID;
    rm_mutex_lock(&manager->mutex);
    entry = rmi_manager_find(manager, name);
    if (entry != NULL) *out = entry->resource;
    rm_mutex_unlock(&manager->mutex);
    return entry == NULL ? RM_E_NOT_FOUND : RM_OK;
}

static void rmi_manager_phase(rm_manager *manager, rm_state phase) {
    rm_mutex_lock(&manager->mutex);
    manager->phase = phase;
    rm_mutex_unlock(&manager->mutex);
}

/* Claims the manager for a start or a stop. *idle: it is stopped and so is every resource. */
static rm_status rmi_manager_claim(rm_manager *manager, bool starting, bool *idle) {
    const uint32_t thread = rm_thread_number();
    const rmi_visit *visit;
    rm_status status = RM_OK;
    uint32_t i;
    rm_mutex_lock(&manager->mutex);
    *idle = manager->phase == RM_STATE_STOPPED;
    for (i = 0; i < manager->count; ++i) {
        if (manager->entries[i].running) *idle = false;
    }
    if (starting ? !*idle
                 : manager->phase == RM_STATE_STARTING || manager->phase == RM_STATE_STOPPING)
        status = RM_E_STATE;
    for (visit = manager->visits; visit != NULL; visit = visit->next) {
        if (visit->thread == thread) status = RM_E_STATE; /* a health hook would wait for itself */
    }
    if (status == RM_OK && (starting || !*idle))
        manager->phase = starting ? RM_STATE_STARTING : RM_STATE_STOPPING;
    rm_mutex_unlock(&manager->mutex);
    return status;
}

/* Waits until no health hook of an entry runs, which is not READY any more. */
static bool rmi_manager_unvisited(rm_manager *manager, const rmi_managed *entry,
                                  rm_deadline deadline) {
    const rm_clock *clock = manager->env.clock;
    const rmi_visit *visit;
    rm_mutex_lock(&manager->mutex);
    for (;;) {
        visit = manager->visits;
        while (visit != NULL && visit->entry != entry)
            visit = visit->next;
        if (visit == NULL || rm_deadline_passed(clock, deadline)) break;
        clock->wait_fn(&manager->left, &manager->mutex,
                       deadline.at_ns == 0 ? INT64_MAX : deadline.at_ns, clock->user);
    }
    rm_mutex_unlock(&manager->mutex);
    return visit == NULL;
}

static void rmi_manager_set(rm_manager *manager, rmi_managed *entry, rm_state state,
                            const rm_error *error) {
    rm_kv kv[4];
    rm_mutex_lock(&manager->mutex);
    entry->state = state;
    if (state == RM_STATE_READY) entry->running = true;
    if (state == RM_STATE_STOPPED) entry->running = false;
    entry->since_ns = rm_now(manager->env.clock);
    if (error != NULL)
        entry->last_error = *error;
    else if (state == RM_STATE_READY || state == RM_STATE_STOPPED) /* what was wrong is over */
        memset(&entry->last_error, 0, sizeof entry->last_error);
    rm_mutex_unlock(&manager->mutex);
    kv[0] = rm_kv_string("resource", entry->name);
    kv[1] = rm_kv_string("state", rm_state_name(state));
    kv[2] = rm_kv_string("status", error == NULL ? "RM_OK" : rm_status_name(error->status));
    kv[3] = rm_kv_string("message", error == NULL ? NULL : error->message);
    rm_log_emit(manager->env.log, manager->env.clock, error == NULL ? RM_LOG_INFO : RM_LOG_ERROR,
                "rm_manager", "state", kv, error == NULL ? 2 : 4);
}

/* Runs one start or stop hook and books its outcome. */
static rm_status rmi_manager_run(rm_manager *manager, rmi_managed *entry, bool starting,
                                 rm_deadline deadline, rm_errors *errors) {
    rm_status (*hook)(void *, rm_deadline, rm_error *) =
        starting ? entry->resource.start_fn : entry->resource.stop_fn;
    rm_error error;
    rm_status status = RM_OK;
    memset(&error, 0, sizeof error);
    rmi_manager_set(manager, entry, starting ? RM_STATE_STARTING : RM_STATE_STOPPING, NULL);
    if (starting && rm_deadline_passed(manager->env.clock, deadline))
        status = rm_error_set(&error, RM_E_TIMEOUT, 0, entry->name,
                              "the time to start was over before its turn");
    else if (!starting && !rmi_manager_unvisited(manager, entry, deadline))
        status = rm_error_set(&error, RM_E_TIMEOUT, 0, entry->name,
                              "not stopped: its health hook did not return; stop again");
    else if (hook != NULL)
        status = hook(entry->resource.user, deadline, &error);
    if (status == RM_OK) {
        rmi_manager_set(manager, entry, starting ? RM_STATE_READY : RM_STATE_STOPPED, NULL);
        return RM_OK;
    }
    if (error.status == RM_OK)
        (void)rm_error_set(&error, status, 0, entry->name, "%s failed: %s",
                           starting ? "start" : "stop", rm_status_name(status));
    error.status = status;
    rm_errors_add(errors, &error);
    rmi_manager_set(manager, entry, RM_STATE_FAILED, &error);
    return status;
}

/* Stops the running ones among the first `count`, in reverse. Returns the first failure. */
static rm_status rmi_manager_unwind(rm_manager *manager, uint32_t count, rm_deadline deadline,
                                    rm_errors *errors) {
    rm_status first = RM_OK, status;
    while (count-- > 0) {
        if (!manager->entries[count].running) continue;
        status = rmi_manager_run(manager, &manager->entries[count], false, deadline, errors);
        if (first == RM_OK) first = status;
    }
    return first;
}

/* Refuses a start or a stop, in the list as well. */
static rm_status rmi_manager_refuse(rm_errors *errors, rm_status status, const char *why) {
    rm_error error;
    (void)rm_error_set(&error, status, 0, "manager", "%s", why);
    rm_errors_add(errors, &error);
    return status;
}

RM_API rm_status rm_manager_start(rm_manager *manager, int64_t timeout_ns, rm_errors *errors) {
    rm_status status;
    rm_deadline deadline;
    bool idle;
    uint32_t i;
    if (errors != NULL) errors->count = errors->dropped = 0;
    if (manager == NULL || !rm_timeout_valid(timeout_ns))
        return rmi_manager_refuse(errors, RM_E_INVALID, "manager is NULL or timeout_ns is none");
    status = rmi_manager_claim(manager, true, &idle);
    if (status != RM_OK)
        return rmi_manager_refuse(errors, status,
                                  "it starts, runs or stops now, or something of it did not stop: "
                                  "stop it first, and not from its hooks");
    deadline = rm_deadline_after(manager->env.clock, timeout_ns == 0 ? RM_SEC(30) : timeout_ns);
    for (i = 0; i < manager->count && status == RM_OK; ++i)
        status = rmi_manager_run(manager, &manager->entries[i], true, deadline, errors);
    if (status != RM_OK)
        (void)rmi_manager_unwind(manager, i, rm_deadline_after(manager->env.clock, RM_SEC(8)),
                                 errors);
    rmi_manager_phase(manager, status == RM_OK ? RM_STATE_READY : RM_STATE_STOPPED);
    return status;
}

RM_API rm_status rm_manager_stop(rm_manager *manager, int64_t timeout_ns, rm_errors *errors) {
    rm_status status;
    bool idle;
    if (errors != NULL) errors->count = errors->dropped = 0;
    if (manager == NULL || !rm_timeout_valid(timeout_ns))
        return rmi_manager_refuse(errors, RM_E_INVALID, "manager is NULL or timeout_ns is none");
    status = rmi_manager_claim(manager, false, &idle);
    if (status != RM_OK)
        return rmi_manager_refuse(errors, status,
                                  "it starts or stops in another thread, or this is one of its "
                                  "hooks: call again later");
    if (idle) return RM_OK;
    status = rmi_manager_unwind(
        manager, manager->count,
        rm_deadline_after(manager->env.clock, timeout_ns == 0 ? RM_SEC(8) : timeout_ns), errors);
    rmi_manager_phase(manager, RM_STATE_STOPPED);
    return status;
}

static void rmi_manager_describe(const rmi_managed *entry, rm_resource_status *out) {
    memset(out, 0, sizeof *out);
    memcpy(out->name, entry->name, sizeof entry->name);
    memcpy(out->kind, entry->kind, sizeof entry->kind);
    out->since_ns = entry->since_ns;
    out->state = entry->state;
    out->last_error = entry->last_error;
}

/* Calls a health hook with the mutex free; a stop waits until it has returned. */
static void rmi_manager_visit(rm_manager *manager, rmi_visit *visit, rm_resource_status *out) {
    const rm_resource *resource = &visit->entry->resource;
    rm_error reason;
    memset(&reason, 0, sizeof reason);
    rm_mutex_unlock(&manager->mutex);
    out->health = resource->health_fn(resource->user, &reason);
    if (reason.status != RM_OK) out->last_error = reason;
    rm_mutex_lock(&manager->mutex);
    visit->entry = NULL;
    rm_cond_broadcast(&manager->left);
}

RM_API rm_status rm_manager_status(rm_manager *manager, rm_resource_status *out, uint32_t capacity,
                                   uint32_t *count) {
    rmi_visit visit, **link;
    uint32_t i, total;
    if (manager == NULL || count == NULL || (out == NULL && capacity > 0)) return RM_E_INVALID;
    visit.entry = NULL;
    visit.thread = rm_thread_number();
    rm_mutex_lock(&manager->mutex);
    visit.next = manager->visits;
    manager->visits = &visit;
    for (i = 0; i < manager->count && i < capacity; ++i) {
        const rmi_managed *entry = &manager->entries[i];
        rmi_manager_describe(entry, &out[i]);
        if (entry->state != RM_STATE_READY) continue;
        out[i].health = RM_HEALTH_HEALTHY;
        if (entry->resource.health_fn == NULL) continue;
        visit.entry = entry;
        rmi_manager_visit(manager, &visit, &out[i]);
    }
    total = manager->count;
    link = &manager->visits;
    while (*link != &visit)
        link = &(*link)->next;
    *link = visit.next;
    rm_mutex_unlock(&manager->mutex);
    *count = total;
    return total > capacity ? RM_E_TOO_LARGE : RM_OK;
}

#ifdef __cplusplus
}
#endif
#endif /* RM_MANAGER_IMPLEMENTATION_DONE */

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

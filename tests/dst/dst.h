/*  dst.h - a deterministic scheduler for concurrent C code, below the source.

    The code under test is compiled, unmodified, with -fsanitize=thread, which turns every access to
    memory and every atomic into a call.  tests/dst/symbols renames what it calls of libc and
    pthread.  dst.c defines all of these calls: threads are fibers of one operating system thread,
    and each call is a point where another fiber may go on.  docs/testing.md tells how to write a
    scenario.

    A schedule fails when
      - a DST_CHECK fails;
      - two accesses, one of them a plain one and one a write, are not ordered by what the code
        synchronises with (a data race);
      - all fibers wait and no deadline will wake one (a deadlock, or a wake-up was lost), or a
        dst_when_idle callback says that somebody sleeps who should not;
      - it takes more points than it may (a livelock);
      - memory is used after free, freed twice, or left at the end; a stack frame is used by another
        thread after it was left; a stack overflows; anything crashes;
      - a mutex or condition variable is misused, not initialized, locked at the end or left; a
        thread is joined twice or never;
      - there is a fence: they are not modelled.
    Half of the schedules choose at random at every point, half give random priorities that change
    at three random points (PCT, Burckhardt et al. 2010). In TSO mode stores that are not seq_cst
    go through a store buffer per fiber, as on x86. Everything follows from the seed.            */
#ifndef DST_H_INCLUDED
#define DST_H_INCLUDED

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum dst_kind {
    DST_HOLDS,
    DST_HAS_BUG,
    DST_HAS_TSO_BUG,
    DST_IS_TORTURE,
    DST_IS_SOAK
} dst_kind;

typedef struct dst_scenario {
    const char *name;
    void (*run)(void);
    dst_kind kind;
    uint64_t found_within;
    const char *expected;
    struct dst_scenario *next;
} dst_scenario;

void dst_add(dst_scenario *scenario);

/* A scenario that must hold under every schedule. It runs in fiber 0: sets up, starts threads (with
   dst_go or as the code under test does), checks and tears down. Static data, memory and time are
   as at program start each time. */
#define DST(suite, name) DST_REGISTER(suite, name, DST_HOLDS, 0, "")
/* One with a bug that must be found within so many schedules, and reported with this text;
   DST_BUG_TSO: one that is not there without store buffers. */
#define DST_BUG(suite, name, within, text) DST_REGISTER(suite, name, DST_HAS_BUG, within, text)
#define DST_BUG_TSO(suite, name, within, text) \
    DST_REGISTER(suite, name, DST_HAS_TSO_BUG, within, text)
/* One that is run again and again under one schedule, each time with another call of the outside
   world failing: the k-th alone, the k-th and all after it, the k-th and one of the next eight. */
#define DST_TORTURE(suite, name) DST_REGISTER(suite, name, DST_IS_TORTURE, 0, "")
/* One that runs once and long: no limit on points, and memory comes back to be used again. */
#define DST_SOAK(suite, name) DST_REGISTER(suite, name, DST_IS_SOAK, 0, "")

#define DST_REGISTER(suite, name, kind, within, text)                                             \
    static void suite##_##name(void);                                                             \
    __attribute__((constructor, no_sanitize("thread"))) static void suite##_##name##_add(void) {  \
        static dst_scenario scenario = {#suite "." #name, suite##_##name, kind, within, text, 0}; \
        dst_add(&scenario);                                                                       \
    }                                                                                             \
    static void suite##_##name(void)

/* Fails the schedule unless the condition holds. */
#define DST_CHECK(condition) ((condition) ? (void)0 : dst_fail(#condition, __FILE__, __LINE__))
_Noreturn void dst_fail(const char *what, const char *file, int line);

/* Runs 1 to 7 functions as threads and waits for all of them. Each gets its index. More threads can
   run one after another: 7 at a time that the one who starts a thread has not seen joined. */
void dst_go(int count, void (*const functions[])(int index));

/* The virtual time in ns, and a way to pass some of it. Otherwise it passes at random when it is
   read, in half of the schedules, and jumps to the next deadline when all fibers wait. */
int64_t dst_now(void);
void dst_pass(int64_t ns);

/* A number below n, chosen by the seed. */
uint32_t dst_choose(uint32_t n);

/* A point without an operation. */
void dst_point(void);

/* Registers a callback for the moments at which all fibers wait, before time jumps: returns what is
   wrong, such as a free unit while somebody waits for one, or NULL. */
void dst_when_idle(const char *(*fn)(void *user), void *user);

/* A place where the outside may fail, such as a user's callback: true = fail now. Always false but
   in torture runs. malloc, pthread_create and the _inits, getrandom and the clock are such places
   by themselves. */
bool dst_fault(const char *site);

/* How many faults there were so far in this schedule. */
uint64_t dst_faults(void);

/* Plays the child of a fork: the mutexes and condition variables that were made so far are made
   again where they are, and no longer count as left. */
void dst_forked(void);

/* Blocks and bytes that are allocated now. */
size_t dst_blocks(void);
size_t dst_bytes(void);

/* ---- histories: was there an order in which a plain model gives the same results? */

enum { DST_HISTORY_MAX = 12 };

typedef struct dst_op {
    int kind;       /* the scenario's numbering */
    int64_t arg;    /* what it was called with */
    int64_t result; /* what it returned */
    uint32_t called, returned;
} dst_op;

/* Notes a call; returns its number for dst_returned. */
int dst_called(int kind, int64_t arg);
void dst_returned(int op, int64_t result);

/* Fails the schedule unless the calls have an order, compatible with who had returned before whom
   was called, in which apply() accepts every one. apply() gets a state of size bytes, which begins
   zeroed, checks the result that the call had and changes the state. */
void dst_linearizable(size_t size, bool (*apply)(void *state, const dst_op *op));

#endif

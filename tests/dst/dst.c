/* dst.c - see dst.h.  Compiled without -fsanitize, and linked instead of libtsan. */
#define _GNU_SOURCE
#include "dst.h"

#include <errno.h>
#include <inttypes.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#ifndef __x86_64__
#include <ucontext.h>
#endif

enum {
    FIBERS = 8,
    STACK = 128 * 1024,
    GUARD = 16 * 1024, /* of a stack, which ends there */
    ARENA = 1 << 20,
    BUFFER = 8,      /* stores in a store buffer */
    POINTS = 100000, /* a schedule with more is a livelock */
    SYNCS = 4096,
    TLS = 256,
    TRACE = 4096,
    CALLS = 64,
    FRAMES = 6,
    SITES = 4096
};

#define BEGINS INT64_C(1000000000000)     /* the monotonic clock, ns */
#define WALL INT64_C(1700000000000000000) /* so much later is the wall clock */

/* Arena and stacks, and their cells: the same in every run. */
#define MEMORY ((char *)0x200000000000)
#define CELLS ((cell *)0x210000000000)

/* >>state: all in one block outside the program's own data, which is put back for each schedule */

typedef struct clocks {
    uint32_t at[FIBERS];
} clocks;

typedef struct store {
    uintptr_t address;
    uint64_t value;
    unsigned size;
    bool release;
    clocks clock;
} store;

enum { UNUSED, READY, BLOCKED, DONE };

typedef struct fiber {
    uintptr_t frame; /* where its stack ends now; while it does not run */
#ifdef __x86_64__
    void *stack;
#else
    ucontext_t context;
#endif
    int state;
    const void *on;   /* what it waits for: a mutex, a condition variable, a fiber, or itself */
    int64_t deadline; /* INT64_MAX = none */
    bool timed_out;
    uint32_t priority;
    clocks clock;
    store buffer[BUFFER];
    unsigned stores;
    uintptr_t id; /* its pthread_t */
    void *(*fn)(void *);
    void *argument, *result;
    void *calls[CALLS]; /* return addresses of the functions that it is in */
    unsigned depth;
    char tls[TLS];
} fiber;

/* The accesses to 8 bytes that matter for races, as TSan keeps them. */
typedef struct cell {
    uint32_t epoch;
    uint16_t next, last; /* to be replaced; last written */
    uint64_t slots[4];   /* clock << 32 | fiber << 16 | flags << 8 | which of the bytes */
} cell;

enum { WRITE = 1, ATOMIC = 2, FREED = 4 };

typedef struct sync {
    uintptr_t address;
    uint32_t epoch;
    clocks clock;
} sync_t;

/* Which of the calls that can fail do so, counted from 1. */
typedef struct faults {
    uint64_t from, to, also;
} faults;

typedef struct event {
    int fiber;
    const char *what;
    uintptr_t address;
    uint64_t value;
    void *pc;
} event;

/* How a call fails: it alone, as the first of all that follow or as one of those, or in a pair. */
enum { ALONE, FIRST, FOLLOWING, IN_PAIR, WAYS };

/* A place that can fail: its name and the calls that led there. */
typedef struct site {
    const char *name;
    void *frames[FRAMES];
    uint64_t faults[WAYS];
    bool unharmed; /* it was seen before any other call had failed */
} site;

static struct state {
    /* this schedule */
    uint64_t seed, random;
    bool changed; /* a fiber became ready, or its priority changed */
    bool tso, pct, time_runs, failed, tracing, torture, soak;
    uint32_t epoch;
    int self, live; /* live: fibers that are not done and joined */
    fiber *me;      /* fibers[self] */
    int points, changes[3];
    int64_t now;
    size_t used;
    size_t blocks, bytes;
    int sync_count;
    bool inside; /* a schedule runs */
    int locks;   /* mutexes and condition variables that were made and not destroyed */
    int held;    /* mutexes that are locked */
    uint32_t forks;
    uintptr_t threads; /* that were ever started */
    fiber fibers[FIBERS];
    const char *(*idle_fn)(void *);
    void *idle_user;
    char message[512];
    dst_op history[DST_HISTORY_MAX];
    int ops;
    uint32_t tick;
    uint64_t fault_calls, faults;
    faults fails;
    uint64_t events;
    /* for good */
    fiber main;
    cell *data_cells;
    char *data_copy;
    char *tls;
    size_t tls_size;
    char tls_begin[TLS];
    uint64_t all_points;
    sync_t syncs[SYNCS];
    event trace[TRACE];
    site sites[SITES];
    int site_count;
} * S;

static dst_scenario *scenarios, **last_scenario = &scenarios;

extern char __data_start[], _end[];

void dst_add(dst_scenario *scenario) {
    *last_scenario = scenario;
    last_scenario = &scenario->next;
}

static uint64_t next_random(void) { /* xorshift64* */
    S->random ^= S->random >> 12;
    S->random ^= S->random << 25;
    S->random ^= S->random >> 27;
    return S->random * UINT64_C(2685821657736338717);
}

static uint32_t below(uint32_t n) {
    return (uint32_t)((next_random() >> 32) * n >> 32);
}

uint32_t dst_choose(uint32_t n) {
    return n == 0 ? 0 : below(n);
}

static void note(const char *what, const void *address, uint64_t value, void *pc) {
    event *e;
    if (!S->tracing) return;
    e = &S->trace[S->events++ % TRACE];
    e->fiber = S->self;
    e->what = what;
    e->address = (uintptr_t)address;
    e->value = value;
    e->pc = pc;
}

/* >>fibers */

#ifdef __x86_64__
void dst_switch(void **from, void *to);
__asm__(".text\n.globl dst_switch\n.type dst_switch, @function\n"
        "dst_switch:\n"
        "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
        "  movq %rsp, (%rdi)\n  movq %rsi, %rsp\n"
        "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n  ret\n"
        ".size dst_switch, . - dst_switch\n");
#endif

static void fiber_main(void);

static char *stack_of(int index) {
    return MEMORY + ARENA + (size_t)index * STACK;
}

static void fiber_prepare(fiber *f, int index) {
#ifdef __x86_64__
    void **top = (void **)(void *)(stack_of(index) + STACK - 64);
    *--top = NULL; /* the return address of fiber_main, and alignment */
    *--top = (void *)(uintptr_t)fiber_main;
    f->stack = top - 6;
#else
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = stack_of(index);
    f->context.uc_stack.ss_size = STACK;
    f->context.uc_link = NULL;
    makecontext(&f->context, fiber_main, 0);
#endif
}

static void jump(fiber *from, fiber *to) {
    from->frame = (uintptr_t)__builtin_frame_address(0);
    memcpy(from->tls, S->tls, S->tls_size);
    memcpy(S->tls, to->tls, S->tls_size);
#ifdef __x86_64__
    dst_switch(&from->stack, to->stack);
#else
    swapcontext(&from->context, &to->context);
#endif
}

/* Ends the schedule. */
static _Noreturn void leave(void) {
    jump(S->me, &S->main);
    abort();
}

static _Noreturn void __attribute__((format(printf, 1, 2))) fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(S->message, sizeof S->message, format, arguments);
    va_end(arguments);
    S->failed = true;
    leave();
}

_Noreturn void dst_fail(const char *what, const char *file, int line) {
    const char *slash = strrchr(file, '/');
    fail("%s:%d: failed: %s", slash == NULL ? file : slash + 1, line, what);
}

static void clock_join(clocks *into, const clocks *from) {
    int i;
    for (i = 0; i < FIBERS; ++i)
        if (from->at[i] > into->at[i]) into->at[i] = from->at[i];
}

/* >>scheduling */

static void set_ready(fiber *f) {
    f->state = READY;
    S->changed = true;
}

static int pick(void) {
    int ready[FIBERS], count = 0, i, best;
    S->changed = false;
    for (i = 0; i < FIBERS; ++i)
        if (S->fibers[i].state == READY) ready[count++] = i;
    if (count == 0) return -1;
    if (!S->pct) return ready[count == 1 ? 0 : below((uint32_t)count)];
    best = ready[0];
    for (i = 1; i < count; ++i)
        if (S->fibers[ready[i]].priority > S->fibers[best].priority) best = ready[i];
    return best;
}

static void set_self(int index) {
    S->self = index;
    S->me = &S->fibers[index];
}

static void go_to(int index) {
    fiber *from = S->me;
    if (index == S->self) return;
    set_self(index);
    jump(from, S->me);
}

static void set_time(int64_t now) {
    int i;
    S->now = now;
    for (i = 0; i < FIBERS; ++i) {
        fiber *f = &S->fibers[i];
        if (f->state != BLOCKED || f->deadline > now) continue;
        set_ready(f);
        f->timed_out = true;
    }
}

/* All fibers wait: time jumps to the next deadline. */
static void idle(void) {
    int64_t next = INT64_MAX;
    int i;
    if (S->idle_fn != NULL) {
        const int live = S->live;
        const char *wrong;
        S->live = 0; /* what it reads is no point and no access */
        wrong = S->idle_fn(S->idle_user);
        S->live = live;
        if (wrong != NULL) fail("all fibers wait, but %s", wrong);
    }
    for (i = 0; i < FIBERS; ++i)
        if (S->fibers[i].state == BLOCKED && S->fibers[i].deadline < next)
            next = S->fibers[i].deadline;
    if (next == INT64_MAX) fail("deadlock: all fibers wait, and no deadline will wake one");
    set_time(next);
}

/* Lets another fiber run; the caller has blocked or ended. */
static void yield_cpu(void) {
    int index;
    while ((index = pick()) < 0)
        idle();
    go_to(index);
}

static sync_t *sync_of(const void *address) {
    const uintptr_t key = (uintptr_t)address;
    uint32_t i = (uint32_t)((key >> 2) * UINT32_C(2654435761)) % SYNCS;
    while (S->syncs[i].epoch == S->epoch && S->syncs[i].address != key)
        i = (i + 1) % SYNCS;
    if (S->syncs[i].epoch != S->epoch) {
        if (++S->sync_count > SYNCS / 2) fail("more than %d atomics and locks", SYNCS / 2);
        memset(&S->syncs[i], 0, sizeof S->syncs[i]);
        S->syncs[i].epoch = S->epoch;
        S->syncs[i].address = key;
    }
    return &S->syncs[i];
}

static void acquire(const void *address) {
    clock_join(&S->me->clock, &sync_of(address)->clock);
}

static void release(const void *address) {
    fiber *self = S->me;
    clock_join(&sync_of(address)->clock, &self->clock);
    ++self->clock.at[S->self];
}

static void put_value(uintptr_t address, unsigned size, uint64_t value) {
    if (size == 1) *(uint8_t *)address = (uint8_t)value;
    if (size == 2) *(uint16_t *)address = (uint16_t)value;
    if (size == 4) *(uint32_t *)address = (uint32_t)value;
    if (size == 8) *(uint64_t *)address = value;
}

static uint64_t get_value(uintptr_t address, unsigned size) {
    return size == 1   ? *(const uint8_t *)address
           : size == 2 ? *(const uint16_t *)address
           : size == 4 ? *(const uint32_t *)address
                       : *(const uint64_t *)address;
}

/* What a relaxed or release store does to memory; a relaxed one ends the release sequence. */
static void perform(const store *s) {
    put_value(s->address, s->size, s->value);
    if (s->release)
        sync_of((const void *)s->address)->clock = s->clock;
    else
        memset(&sync_of((const void *)s->address)->clock, 0, sizeof(clocks));
}

static void drain(fiber *f) {
    perform(&f->buffer[0]);
    --f->stores;
    memmove(&f->buffer[0], &f->buffer[1], f->stores * sizeof f->buffer[0]);
}

static void flush(void) {
    while (S->me->stores > 0)
        drain(S->me);
}

/* A place where another fiber may go on. often, a power of two: 4 for synchronisation, more for
   plain accesses. */
static void point(uint32_t often) {
    fiber *any;
    uint64_t chance;
    int i;
    if (S->live < 2) return;
    if (++S->points > POINTS && !S->soak) fail("livelock: more than %d points", (int)POINTS);
    chance = next_random() >> 16;
    any = &S->fibers[chance % FIBERS];
    if (S->tso && any->stores > 0 && (chance >> 3 & 3) == 0) drain(any);
    if ((chance >> 5 & 255) == 0 && any->state == BLOCKED) set_ready(any); /* for no reason */
    if (S->pct) {
        for (i = 0; i < 3; ++i) {
            if (S->points != S->changes[i]) continue;
            S->me->priority = (uint32_t)i;
            S->changed = true;
        }
        if (S->changed) go_to(pick()); /* else this one is still the first */
    } else if ((chance >> 13 & (often - 1)) == 0) {
        go_to(pick());
    }
}

/* Waits until woken, or until the deadline: false. May return for no reason. */
static bool sleep_on(const void *on, int64_t deadline) {
    fiber *self = S->me;
    if (deadline <= S->now) return false;
    self->state = BLOCKED;
    self->on = on;
    self->deadline = deadline;
    self->timed_out = false;
    yield_cpu();
    self->on = NULL;
    return !self->timed_out;
}

static void wake(const void *on) {
    int i;
    for (i = 0; i < FIBERS; ++i)
        if (S->fibers[i].state == BLOCKED && S->fibers[i].on == on) set_ready(&S->fibers[i]);
}

void dst_point(void) {
    point(2);
}

int64_t dst_now(void) {
    return S->now;
}

void dst_pass(int64_t ns) {
    set_time(S->now + ns);
    point(4);
}

void dst_when_idle(const char *(*fn)(void *user), void *user) {
    S->idle_fn = fn;
    S->idle_user = user;
}

/* >>races */

static cell *cell_of(uintptr_t at) {
    if (at - (uintptr_t)MEMORY < ARENA + FIBERS * STACK)
        return &CELLS[(at - (uintptr_t)MEMORY) / 8];
    if (at - (uintptr_t)__data_start < (uintptr_t)(_end - __data_start))
        return &S->data_cells[at / 8 - (uintptr_t)__data_start / 8];
    return NULL;
}

static _Noreturn void use_after_free(uintptr_t address, void *pc) {
    note("used after free", (void *)address, 0, pc);
    fail("use after free by fiber %d", S->self);
}

/* Of another's stack there is what lies above its last frame, unless the thread has ended. */
static void check_stack(uintptr_t address, void *pc) {
    const int index = (int)((address - (uintptr_t)stack_of(0)) / STACK);
    const fiber *f = &S->fibers[index];
    if (index == S->self || (f->state != UNUSED && f->state != DONE && address >= f->frame)) return;
    note("dead stack", (void *)address, 0, pc);
    fail("fiber %d uses a stack frame that fiber %d has left", S->self, index);
}

static void check(cell *c, unsigned mask, unsigned flags, uintptr_t address, void *pc) {
    const uint32_t *clock = S->me->clock.at;
    const uint64_t word =
        (uint64_t)clock[S->self] << 32 | (uint64_t)S->self << 16 | (uint64_t)flags << 8 | mask;
    uint64_t slot;
    int i, to = -1, own = -1;
    if (c->epoch != S->epoch) {
        *c = (cell){S->epoch, 0, 0, {word}};
        return;
    }
    if (c->slots[c->last] == word) return; /* nothing came in between, or its clock had moved */
    for (i = 0; i < 4 && (slot = c->slots[i]) != 0; ++i) {
        const unsigned old = (unsigned)(slot >> 8 & 255);
        const int other = (int)(slot >> 16 & 255);
        if (other == S->self) own = i;
        if ((slot & mask) == 0) continue;
        if (old & FREED) use_after_free(address, pc);
        if (slot >> 32 <= clock[other]) {
            /* ordered; is it superseded by this one, for whoever comes later? */
            if ((slot & 255 & ~mask) == 0 && ((flags & WRITE) || !(old & WRITE)) &&
                (!(flags & ATOMIC) || (old & ATOMIC)))
                to = i;
        } else if (((old | flags) & WRITE) && !(old & flags & ATOMIC)) {
            note("race", (void *)address, (uint64_t)other, pc);
            fail("data race: fiber %d %s what fiber %d %s", S->self,
                 flags & WRITE ? "writes" : "reads", other, old & WRITE ? "wrote" : "read");
        }
    }
    if (to < 0 && i < 4) to = i;
    if (to < 0) to = own >= 0 ? own : (int)(c->next++ % 4); /* rather forget what is ours */
    c->slots[to] = word;
    c->last = (uint16_t)to;
}

static void touch_cells(uintptr_t at, size_t size, unsigned flags, void *pc) {
    const uintptr_t end = at + size;
    while (at < end) {
        const size_t from = at & 7, n = 8 - from < end - at ? 8 - from : end - at;
        cell *c = cell_of(at);
        if (c == NULL) return;
        check(c, ((1u << n) - 1) << from, flags, at, pc);
        at += n;
    }
}

static void touch(const void *address, size_t size, unsigned flags, void *pc) {
    const uintptr_t at = (uintptr_t)address;
    if (at - (uintptr_t)stack_of(0) < FIBERS * STACK) check_stack(at, pc);
    touch_cells(at, size, flags, pc);
}

static bool own_stack(uintptr_t at) {
    return at - (uintptr_t)stack_of(S->self) < STACK;
}

/* What one thread alone can do wrong. */
static void look(uintptr_t at, void *pc) {
    const cell *c = cell_of(at);
    if (at - (uintptr_t)MEMORY >= ARENA)
        check_stack(at, pc);
    else if (c->epoch == S->epoch && (c->slots[0] >> 8 & FREED))
        use_after_free(at, pc);
}

/* Is there one thread? Then nothing is a point or a race. While all wait, nothing is an access. */
static bool alone(const void *address, void *pc) {
    const uintptr_t at = (uintptr_t)address;
    if (S->live >= 2) return false;
    if (S->live == 1 && at - (uintptr_t)MEMORY < ARENA + FIBERS * STACK) look(at, pc);
    return true;
}

/* Those to the own stack are no points, and those to constants nothing at all. Apart from plain, so
   that one thread alone, which makes most of the accesses, saves no registers. */
static __attribute__((noinline)) void plain_among_others(uintptr_t at, size_t size, unsigned flags,
                                                         void *pc) {
    const fiber *self = S->me;
    unsigned i;
    if (at < (uintptr_t)__data_start) return;
    for (i = 0; i < self->stores; ++i) {
        if (self->buffer[i].address >= at + size ||
            at >= self->buffer[i].address + self->buffer[i].size)
            continue;
        flush();
        break;
    }
    if (own_stack(at)) {
        touch_cells(at, size, flags, pc);
    } else {
        note(flags & WRITE ? "write" : "read", (void *)at, size, pc);
        point(16);
        touch((void *)at, size, flags, pc);
    }
}

/* A plain access. */
static void plain(const void *address, size_t size, unsigned flags, void *pc) {
    const uintptr_t at = (uintptr_t)address;
    if (S->live >= 2)
        plain_among_others(at, size, flags, pc);
    else if (!own_stack(at))
        (void)alone(address, pc);
}

#define PC __builtin_return_address(0)
#define PLAIN(size)                              \
    void __tsan_read##size(void *p) {            \
        plain(p, size, 0, PC);                   \
    }                                            \
    void __tsan_write##size(void *p) {           \
        plain(p, size, WRITE, PC);               \
    }                                            \
    void __tsan_unaligned_read##size(void *p) {  \
        plain(p, size, 0, PC);                   \
    }                                            \
    void __tsan_unaligned_write##size(void *p) { \
        plain(p, size, WRITE, PC);               \
    }                                            \
    void __tsan_volatile_read##size(void *p) {   \
        plain(p, size, 0, PC);                   \
    }                                            \
    void __tsan_volatile_write##size(void *p) {  \
        plain(p, size, WRITE, PC);               \
    }
/* clang-format off */
PLAIN(1) PLAIN(2) PLAIN(4) PLAIN(8) PLAIN(16)
    /* clang-format on */

    void __tsan_read_range(void *p, size_t size) {
    plain(p, size, 0, PC);
}
void __tsan_write_range(void *p, size_t size) {
    plain(p, size, WRITE, PC);
}
void __tsan_init(void) {}
void __tsan_func_entry(void *pc) {
    if (S == NULL || !S->torture) return; /* a constructor, or nobody asks */
    S->me->calls[S->me->depth++ % CALLS] = pc;
}
void __tsan_func_exit(void) {
    if (S != NULL && S->torture) --S->me->depth;
}

void *dst_memcpy(void *to, const void *from, size_t size) {
    plain(from, size, 0, PC);
    plain(to, size, WRITE, PC);
    return memcpy(to, from, size);
}
void *dst_memmove(void *to, const void *from, size_t size) {
    plain(from, size, 0, PC);
    plain(to, size, WRITE, PC);
    return memmove(to, from, size);
}
void *dst_memset(void *to, int byte, size_t size) {
    plain(to, size, WRITE, PC);
    return memset(to, byte, size);
}
int dst_memcmp(const void *a, const void *b, size_t size) {
    plain(a, size, 0, PC);
    plain(b, size, 0, PC);
    return memcmp(a, b, size);
}
size_t dst_strlen(const char *s) {
    const size_t size = strlen(s);
    plain(s, size + 1, 0, PC);
    return size;
}
static int compare(const char *a, const char *b, size_t most, void *pc) {
    size_t n = 0;
    while (n < most && a[n] == b[n] && a[n] != '\0')
        ++n;
    n += n < most; /* the first that differs, or the end */
    plain(a, n, 0, pc);
    plain(b, n, 0, pc);
    return strncmp(a, b, n);
}
int dst_strcmp(const char *a, const char *b) {
    return compare(a, b, SIZE_MAX, PC);
}
int dst_strncmp(const char *a, const char *b, size_t most) {
    return compare(a, b, most, PC);
}
char *dst_strchr(const char *s, int c) {
    char *found = strchr(s, c);
    plain(s, (found == NULL ? strlen(s) : (size_t)(found - s)) + 1, 0, PC);
    return found;
}
double dst_strtod(const char *s, char **end) {
    char *stop;
    const double value = strtod(s, &stop);
    plain(s, (size_t)(stop - s) + 1, 0, PC);
    if (end != NULL) *end = stop;
    return value;
}
size_t dst_fwrite(const void *data, size_t size, size_t count, FILE *stream) {
    plain(data, size * count, 0, PC);
    return fwrite(data, size, count, stream);
}

/* The strings that a format prints. */
static void read_strings(const char *at, va_list arguments, void *pc) {
    for (at = strchr(at, '%'); at != NULL; at = strchr(at + 1, '%')) {
        int most = -1;
        for (++at; strchr("diouxXcpsaAeEfFgG%", *at) == NULL; ++at) {
            if (*at == '*') (void)va_arg(arguments, int);
            if (*at == '.' && at[1] != '*') most = atoi(at + 1);
            if (*at == '.' && at[1] == '*') most = va_arg(arguments, int), ++at;
        }
        if (*at == '\0') return;
        if (*at == 's') {
            const char *s = va_arg(arguments, const char *);
            const size_t n = strnlen(s, most < 0 ? SIZE_MAX : (size_t)most);
            plain(s, n + (most < 0 || n < (size_t)most), 0, pc);
        } else if (strchr("aAeEfFgG", *at) != NULL) {
            (void)va_arg(arguments, double);
        } else if (*at != '%') {
            (void)va_arg(arguments, long);
        }
    }
}
static int print(char *to, size_t size, const char *format, va_list arguments, void *pc) {
    va_list copy;
    int length;
    va_copy(copy, arguments);
    read_strings(format, copy, pc);
    va_end(copy);
    length = vsnprintf(to, size, format, arguments);
    if (length >= 0) plain(to, (size_t)length < size ? (size_t)length + 1 : size, WRITE, pc);
    return length;
}
int dst_vsnprintf(char *to, size_t size, const char *format, va_list arguments) {
    return print(to, size, format, arguments, PC);
}
int dst_snprintf(char *to, size_t size, const char *format, ...) {
    va_list arguments;
    int length;
    va_start(arguments, format);
    length = print(to, size, format, arguments, PC);
    va_end(arguments);
    return length;
}
/* newer clangs call these */
void *__tsan_memcpy(void *to, const void *from, size_t size) {
    return dst_memcpy(to, from, size);
}
void *__tsan_memmove(void *to, const void *from, size_t size) {
    return dst_memmove(to, from, size);
}
void *__tsan_memset(void *to, int byte, size_t size) {
    return dst_memset(to, byte, size);
}

/* >>atomics */

enum { RELAXED = 0, ACQUIRE = 2, RELEASE = 3, ACQ_REL = 4, SEQ_CST = 5 };

static bool acquires(int order) {
    return order == 1 || order == ACQUIRE || order == ACQ_REL || order == SEQ_CST;
}

static bool releases(int order) {
    return order >= RELEASE;
}

static uint64_t atomic_load(const void *address, unsigned size, int order, void *pc) {
    fiber *self = S->me;
    const store *found = NULL;
    uint64_t value;
    unsigned i;
    if (alone(address, pc)) return get_value((uintptr_t)address, size);
    point(4);
    touch(address, size, ATOMIC, pc);
    for (i = 0; i < self->stores; ++i) {
        const store *s = &self->buffer[i];
        if (s->address == (uintptr_t)address && s->size == size) {
            found = s;
        } else if (s->address < (uintptr_t)address + size &&
                   (uintptr_t)address < s->address + s->size) {
            flush(); /* a part of it, or more: the processor would wait */
            found = NULL;
        }
    }
    value = found != NULL ? found->value : get_value((uintptr_t)address, size);
    if (found == NULL && acquires(order)) acquire(address);
    note("load", address, value, pc);
    return value;
}

static void atomic_store(void *address, unsigned size, uint64_t value, int order, void *pc) {
    fiber *self = S->me;
    store s;
    if (alone(address, pc)) {
        put_value((uintptr_t)address, size, value);
        return;
    }
    point(4);
    touch(address, size, WRITE | ATOMIC, pc);
    note("store", address, value, pc);
    s.address = (uintptr_t)address;
    s.size = size;
    s.value = value;
    s.release = releases(order);
    s.clock = self->clock;
    if (s.release) ++self->clock.at[S->self];
    if (S->tso && order != SEQ_CST) {
        if (self->stores == BUFFER) drain(self);
        self->buffer[self->stores++] = s;
    } else {
        flush();
        perform(&s);
        if (order == SEQ_CST) acquire(address);
    }
}

/* Begins a read-modify-write: returns the old value. */
static uint64_t modify(void *address, unsigned size, int order, void *pc) {
    if (alone(address, pc)) return get_value((uintptr_t)address, size);
    point(4);
    flush();
    touch(address, size, WRITE | ATOMIC, pc);
    if (acquires(order)) acquire(address);
    return get_value((uintptr_t)address, size);
}

static void modified(const char *what, void *address, unsigned size, uint64_t value, int order,
                     void *pc) {
    put_value((uintptr_t)address, size, value);
    if (S->live < 2) return;
    if (releases(order)) release(address);
    note(what, address, value, pc);
}

static bool swap_if(void *address, unsigned size, uint64_t expected, uint64_t *seen, uint64_t value,
                    int order, int failed_order, bool weak, void *pc) {
    if (!alone(address, pc)) {
        point(4);
        flush();
    }
    *seen = get_value((uintptr_t)address, size);
    if (*seen != expected || (weak && S->live >= 2 && below(8) == 0)) {
        if (S->live < 2) return false;
        touch(address, size, ATOMIC, pc);
        if (acquires(failed_order)) acquire(address);
        note("compare: no", address, *seen, pc);
        return false;
    }
    if (S->live >= 2) {
        touch(address, size, WRITE | ATOMIC, pc);
        if (acquires(order)) acquire(address);
    }
    modified("compare: yes", address, size, value, order, pc);
    return true;
}

#define ATOMICS(bits, type)                                                                        \
    type __tsan_atomic##bits##_load(const type *p, int order) {                                    \
        return (type)atomic_load(p, sizeof(type), order, PC);                                      \
    }                                                                                              \
    void __tsan_atomic##bits##_store(type *p, type v, int order) {                                 \
        atomic_store(p, sizeof(type), v, order, PC);                                               \
    }                                                                                              \
    MODIFY(bits, type, exchange, v)                                                                \
    MODIFY(bits, type, fetch_add, (type)(old + v))                                                 \
    MODIFY(bits, type, fetch_sub, (type)(old - v))                                                 \
    MODIFY(bits, type, fetch_and, (type)(old & v))                                                 \
    MODIFY(bits, type, fetch_or, (type)(old | v))                                                  \
    MODIFY(bits, type, fetch_xor, (type)(old ^ v))                                                 \
    int __tsan_atomic##bits##_compare_exchange_strong(type *p, type *expected, type v, int order,  \
                                                      int failed) {                                \
        uint64_t seen;                                                                             \
        const bool done = swap_if(p, sizeof(type), *expected, &seen, v, order, failed, false, PC); \
        if (!done) *expected = (type)seen;                                                         \
        return done;                                                                               \
    }                                                                                              \
    int __tsan_atomic##bits##_compare_exchange_weak(type *p, type *expected, type v, int order,    \
                                                    int failed) {                                  \
        uint64_t seen;                                                                             \
        const bool done = swap_if(p, sizeof(type), *expected, &seen, v, order, failed, true, PC);  \
        if (!done) *expected = (type)seen;                                                         \
        return done;                                                                               \
    }                                                                                              \
    type __tsan_atomic##bits##_compare_exchange_val(type *p, type expected, type v, int order,     \
                                                    int failed) {                                  \
        uint64_t seen;                                                                             \
        (void)swap_if(p, sizeof(type), expected, &seen, v, order, failed, false, PC);              \
        return (type)seen;                                                                         \
    }
#define MODIFY(bits, type, name, result)                            \
    type __tsan_atomic##bits##_##name(type *p, type v, int order) { \
        const type old = (type)modify(p, sizeof(type), order, PC);  \
        modified(#name, p, sizeof(type), (result), order, PC);      \
        return old;                                                 \
    }
/* clang-format off */
ATOMICS(8, uint8_t) ATOMICS(16, uint16_t) ATOMICS(32, uint32_t) ATOMICS(64, uint64_t)
    /* clang-format on */

    /* The headers have none: they hide races from every tool. */
    static _Noreturn void no_fence(void *pc) {
    note("fence", NULL, 0, pc);
    fail("fences are not modelled");
}
void __tsan_atomic_thread_fence(int order) {
    (void)order;
    no_fence(PC);
}
void __tsan_atomic_signal_fence(int order) {
    (void)order;
    no_fence(PC);
}

/* >>faults */

static site *site_of(const char *name, void *pc) {
    const fiber *self = S->me;
    void *frames[FRAMES] = {pc};
    unsigned i;
    int n;
    for (i = 1; i < FRAMES && i <= self->depth; ++i)
        frames[i] = self->calls[(self->depth - i) % CALLS];
    for (n = 0; n < S->site_count; ++n)
        if (memcmp(S->sites[n].frames, frames, sizeof frames) == 0 &&
            strcmp(S->sites[n].name, name) == 0)
            return &S->sites[n];
    if (n == SITES) fail("more than %d sites", (int)SITES);
    ++S->site_count;
    S->sites[n].name = name;
    memcpy(S->sites[n].frames, frames, sizeof frames);
    return &S->sites[n];
}

static int way_of(uint64_t call) {
    if (S->fails.also > 0) return IN_PAIR;
    if (S->fails.to == S->fails.from) return ALONE;
    return call == S->fails.from ? FIRST : FOLLOWING;
}

static bool fault(const char *name, void *pc) {
    uint64_t call;
    site *s;
    if (!S->torture) return false;
    s = site_of(name, pc);
    s->unharmed = s->unharmed || S->faults == 0;
    call = ++S->fault_calls;
    if ((call < S->fails.from || call > S->fails.to) && call != S->fails.also) return false;
    ++S->faults;
    ++s->faults[way_of(call)];
    note(name, NULL, call, pc);
    return true;
}

bool dst_fault(const char *name) {
    return fault(name, PC);
}

uint64_t dst_faults(void) {
    return S->faults;
}

/* >>memory: given out once in a schedule, so that what is freed is never used again */

typedef struct block {
    uint64_t size;
    uint64_t state;
} block;

enum { LIVE = 0x11FE, DEAD = 0xDEAD };

void dst_forked(void) {
    S->locks = 0;
    ++S->forks;
}

size_t dst_blocks(void) {
    return S->blocks;
}

size_t dst_bytes(void) {
    return S->bytes;
}

static void *take_memory(size_t size, void *pc) {
    const size_t whole = (size + sizeof(block) + 15) / 16 * 16;
    block *b;
    if (fault("malloc", pc)) return NULL;
    if (S->soak) {
        b = (block *)malloc(whole);
        if (b == NULL) return NULL;
    } else {
        if (size > ARENA || whole > ARENA - S->used) fail("out of memory: %zu bytes", size);
        b = (block *)(void *)(MEMORY + S->used);
        S->used += whole;
    }
    b->size = size;
    b->state = LIVE;
    memset(b + 1, 0xA5, size);
    ++S->blocks;
    S->bytes += size;
    note("malloc", b + 1, size, pc);
    return b + 1;
}

void *dst_malloc(size_t size) {
    return take_memory(size, PC);
}

void dst_free(void *pointer) {
    block *b = (block *)pointer - 1;
    size_t i;
    if (pointer == NULL) return;
    note("free", pointer, 0, PC);
    if (!S->soak && (uintptr_t)pointer - (uintptr_t)MEMORY >= ARENA)
        fail("free of what was not allocated");
    if (b->state != LIVE) fail("free of what is not allocated any more");
    plain(pointer, b->size, WRITE, PC); /* nobody may use it at the same time */
    b->state = DEAD;
    memset(pointer, 0x5A, b->size);
    --S->blocks;
    S->bytes -= b->size;
    if (S->soak) {
        free(b);
        return;
    }
    for (i = 0; i < b->size; i += 8) {
        cell *c = cell_of((uintptr_t)pointer + i);
        memset(c, 0, sizeof *c);
        c->epoch = S->epoch;
        c->slots[0] = (uint64_t)FREED << 8 | 255;
    }
}

void *dst_calloc(size_t count, size_t size) {
    size_t whole;
    void *pointer;
    if (__builtin_mul_overflow(count, size, &whole)) return NULL;
    pointer = take_memory(whole, PC);
    return pointer == NULL ? NULL : memset(pointer, 0, whole);
}

void *dst_realloc(void *pointer, size_t size) {
    void *fresh = take_memory(size, PC);
    if (fresh != NULL && pointer != NULL) {
        const size_t old = ((block *)pointer)[-1].size;
        memcpy(fresh, pointer, old < size ? old : size);
        dst_free(pointer);
    }
    return fresh;
}

/* >>threads */

static void fiber_main(void) {
    fiber *self = S->me;
    self->result = self->fn(self->argument);
    while (self->stores > 0 && below(4) != 0)
        point(1); /* a store can be seen late, not only after what its thread does next */
    flush();
    if (S->self == 0) leave();
    self->state = DONE;
    ++self->clock.at[S->self];
    note("ends", NULL, 0, NULL);
    wake(self);
    yield_cpu();
}

/* A fiber for a new thread: the thread that had it last was joined before what the caller does now,
   or clocks could not tell them apart. Rather one that had none. */
static int unused_fiber(void) {
    const fiber *self = S->me;
    uint32_t least = UINT32_MAX;
    int i, best = -1;
    for (i = 0; i < FIBERS; ++i) {
        const fiber *f = &S->fibers[i];
        if (f->state != UNUSED || f->clock.at[i] >= least || f->clock.at[i] > self->clock.at[i])
            continue;
        least = f->clock.at[i];
        best = i;
    }
    if (best < 0) fail("a scenario has at most %d threads at a time", FIBERS - 1);
    return best;
}

static void start_fiber(pthread_t *thread, void *(*fn)(void *), void *argument, void *pc) {
    const int index = unused_fiber();
    fiber *self = S->me, *f = &S->fibers[index];
    flush();
    memset(f, 0, sizeof *f);
    f->id = ++S->threads * FIBERS + (uintptr_t)index;
    f->fn = fn;
    f->argument = argument;
    set_ready(f);
    f->priority = (uint32_t)(next_random() >> 33) + 8;
    f->clock = self->clock;
    ++f->clock.at[index];
    ++self->clock.at[S->self];
    memcpy(f->tls, S->tls_begin, S->tls_size);
    fiber_prepare(f, index);
    ++S->live;
    *thread = (pthread_t)f->id;
    note("starts", NULL, (uint64_t)index, pc);
    point(4);
}

int dst_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*fn)(void *),
                       void *argument) {
    (void)attributes;
    if (fault("pthread_create", PC)) return EAGAIN;
    start_fiber(thread, fn, argument, PC);
    return 0;
}

int dst_pthread_join(pthread_t thread, void **result) {
    const uintptr_t id = (uintptr_t)thread;
    fiber *f = &S->fibers[id % FIBERS];
    flush();
    for (;;) {
        if (id == 0 || f->id != id || f->state == UNUSED) fail("join of what is no thread (now)");
        if (f->state == DONE) break;
        (void)sleep_on(f, INT64_MAX);
    }
    clock_join(&S->me->clock, &f->clock);
    if (result != NULL) *result = f->result;
    f->state = UNUSED;
    --S->live;
    note("joined", NULL, id % FIBERS, PC);
    return 0;
}

/* What is in a mutex or in a condition variable. */
typedef struct lock {
    uint32_t kind;
    uint32_t forks;  /* when it was made */
    int owner;       /* of a mutex: fiber + 1 */
    clockid_t clock; /* of a condition variable */
} lock;

enum { FRESH = 0, MUTEX = 0x4D55, COND = 0x434F, GONE = 0xDEAD };

static const char *name_of(uint32_t kind) {
    return kind == MUTEX ? "mutex" : "condition variable";
}

/* Zeroed memory is a static initializer, but only in static data. After a fork it may be a lock
   that could not be made again. */
static lock *lock_of(void *p, uint32_t kind) {
    lock *l = (lock *)p;
    const bool is_static = (char *)p >= __data_start && (char *)p < _end;
    if (l->kind != kind && (l->kind != FRESH || (!is_static && S->forks == 0)))
        fail("a %s is used that %s", name_of(kind),
             l->kind == FRESH ? "was not initialized" : "is not there");
    return l;
}

/* The child of a fork makes it again where it is; a torture may play one without dst_forked. */
static void lock_make(void *p, uint32_t kind, clockid_t clock, void *pc) {
    lock *l = (lock *)p;
    const bool there = l->kind == kind, counted = there && l->forks == S->forks;
    plain(p, sizeof *l, WRITE, pc);
    if (counted && !S->torture) fail("a %s is initialized twice", name_of(kind));
    S->held -= there && l->owner != 0;
    S->locks += !counted;
    l->kind = kind;
    l->forks = S->forks;
    l->owner = 0;
    l->clock = clock;
}

static void lock_end(lock *l) {
    S->locks -= l->kind != FRESH && l->forks == S->forks;
    l->kind = GONE;
}

int dst_pthread_mutex_init(pthread_mutex_t *p, const pthread_mutexattr_t *attributes) {
    (void)attributes;
    if (fault("pthread_mutex_init", PC)) return ENOMEM;
    lock_make(p, MUTEX, 0, PC);
    return 0;
}

int dst_pthread_mutex_destroy(pthread_mutex_t *p) {
    lock *m = lock_of(p, MUTEX);
    if (m->owner != 0) fail("a mutex is destroyed that fiber %d holds", m->owner - 1);
    lock_end(m);
    return 0;
}

static bool mutex_take(lock *m) {
    if (m->owner != 0) return false;
    m->owner = S->self + 1;
    ++S->held;
    acquire(m);
    return true;
}

int dst_pthread_mutex_lock(pthread_mutex_t *p) {
    lock *m = lock_of(p, MUTEX);
    point(4);
    flush();
    if (m->owner == S->self + 1) fail("a mutex is locked twice");
    while (!mutex_take(lock_of(p, MUTEX)))
        (void)sleep_on(m, INT64_MAX);
    note("lock", p, 0, PC);
    return 0;
}

int dst_pthread_mutex_trylock(pthread_mutex_t *p) {
    lock *m = lock_of(p, MUTEX);
    point(4);
    flush();
    return mutex_take(m) ? 0 : EBUSY;
}

static void mutex_give(lock *m) {
    if (m->owner != S->self + 1) fail("a mutex is unlocked by another fiber than its owner");
    flush();
    release(m);
    m->owner = 0;
    --S->held;
    wake(m);
}

int dst_pthread_mutex_unlock(pthread_mutex_t *p) {
    note("unlock", p, 0, PC);
    mutex_give(lock_of(p, MUTEX));
    point(4);
    return 0;
}

/* An attribute is the clock on which a condition variable waits; the wall clock by default. */
int dst_pthread_condattr_init(pthread_condattr_t *attributes) {
    if (fault("pthread_condattr_init", PC)) return ENOMEM;
    *(clockid_t *)(void *)attributes = CLOCK_REALTIME;
    return 0;
}

int dst_pthread_condattr_setclock(pthread_condattr_t *attributes, clockid_t id) {
    if (fault("pthread_condattr_setclock", PC)) return EINVAL;
    *(clockid_t *)(void *)attributes = id;
    return 0;
}

int dst_pthread_condattr_destroy(pthread_condattr_t *attributes) {
    (void)attributes;
    return 0;
}

int dst_pthread_cond_init(pthread_cond_t *p, const pthread_condattr_t *attributes) {
    const clockid_t *clock = (const clockid_t *)(const void *)attributes;
    if (fault("pthread_cond_init", PC)) return ENOMEM;
    lock_make(p, COND, clock == NULL ? CLOCK_REALTIME : *clock, PC);
    return 0;
}

int dst_pthread_cond_destroy(pthread_cond_t *p) {
    lock *c = lock_of(p, COND);
    int i;
    for (i = 0; i < FIBERS; ++i)
        if (S->fibers[i].state == BLOCKED && S->fibers[i].on == p)
            fail("a condition variable is destroyed that fiber %d waits on", i);
    lock_end(c);
    return 0;
}

static int cond_wait(pthread_cond_t *p, pthread_mutex_t *mutex_, int64_t deadline, void *pc) {
    lock *m = lock_of(mutex_, MUTEX);
    bool in_time;
    (void)lock_of(p, COND);
    note("wait", p, (uint64_t)deadline, pc);
    mutex_give(m);
    in_time = sleep_on(p, deadline);
    note(in_time ? "woken" : "timed out", p, 0, pc);
    while (!mutex_take(m))
        (void)sleep_on(m, INT64_MAX);
    return in_time ? 0 : ETIMEDOUT;
}

int dst_pthread_cond_wait(pthread_cond_t *p, pthread_mutex_t *m) {
    return cond_wait(p, m, INT64_MAX, PC);
}

int dst_pthread_cond_timedwait(pthread_cond_t *p, pthread_mutex_t *m, const struct timespec *t) {
    const int64_t until = (int64_t)t->tv_sec * 1000000000 + t->tv_nsec;
    const bool wall = lock_of(p, COND)->clock == CLOCK_REALTIME;
    return cond_wait(p, m, wall ? until - WALL : until, PC);
}

int dst_pthread_cond_signal(pthread_cond_t *p) {
    int waiting[FIBERS], count = 0, i;
    (void)lock_of(p, COND);
    note("signal", p, 0, PC);
    for (i = 0; i < FIBERS; ++i)
        if (S->fibers[i].state == BLOCKED && S->fibers[i].on == p) waiting[count++] = i;
    if (count > 0) set_ready(&S->fibers[waiting[below((uint32_t)count)]]);
    point(4);
    return 0;
}

int dst_pthread_cond_broadcast(pthread_cond_t *p) {
    (void)lock_of(p, COND);
    note("broadcast", p, 0, PC);
    wake(p);
    point(4);
    return 0;
}

int dst_sched_yield(void) {
    S->me->priority = 3; /* above those that a change point has put last */
    S->changed = true;
    point(1);
    return 0;
}

/* >>time and chance */

int dst_clock_gettime(clockid_t id, struct timespec *out) {
    static const int64_t steps[] = {1000, 20000, 60000, 2000000, 1500000000};
    int64_t now;
    /* a clock that fails for ever cannot end a wait: no such platform, no such test */
    if (S->fails.to != UINT64_MAX && fault("clock_gettime", PC)) return -1;
    point(4);
    if (S->time_runs && S->live >= 2 && below(4) == 0) set_time(S->now + steps[below(5)]);
    now = S->now;
    if (id == CLOCK_MONOTONIC_COARSE) now -= now % 4000000;
    if (id == CLOCK_REALTIME) now += WALL;
    out->tv_sec = (time_t)(now / 1000000000);
    out->tv_nsec = (long)(now % 1000000000);
    return 0;
}

int dst_nanosleep(const struct timespec *wanted, struct timespec *left) {
    const int64_t until = S->now + (int64_t)wanted->tv_sec * 1000000000 + wanted->tv_nsec;
    (void)left;
    flush();
    while (S->now < until)
        (void)sleep_on(wanted, until);
    return 0;
}

ssize_t dst_getrandom(void *buffer, size_t size, unsigned flags) {
    size_t i;
    (void)flags;
    if (fault("getrandom", PC)) return -1;
    for (i = 0; i < size; ++i)
        ((unsigned char *)buffer)[i] = (unsigned char)(next_random() >> 40);
    return (ssize_t)size;
}

/* >>helpers for scenarios */

static struct start {
    void (*fn)(int);
    int index;
} starts[FIBERS];

static void *start_main(void *argument) {
    const struct start *s = (const struct start *)argument;
    s->fn(s->index);
    return NULL;
}

void dst_go(int count, void (*const functions[])(int index)) {
    pthread_t threads[FIBERS];
    int i;
    for (i = 0; i < count; ++i) {
        starts[i].fn = functions[i];
        starts[i].index = i;
        start_fiber(&threads[i], start_main, &starts[i], PC);
    }
    for (i = 0; i < count; ++i)
        (void)dst_pthread_join(threads[i], NULL);
}

int dst_called(int kind, int64_t arg) {
    const int op = S->ops++;
    if (op >= DST_HISTORY_MAX) fail("a history has at most %d operations", DST_HISTORY_MAX);
    S->history[op].kind = kind;
    S->history[op].arg = arg;
    S->history[op].called = ++S->tick;
    S->history[op].returned = UINT32_MAX;
    return op;
}

void dst_returned(int op, int64_t result) {
    S->history[op].result = result;
    S->history[op].returned = ++S->tick;
}

/* Wing and Gong 1993: tries every operation that no other one, still to come, has preceded. */
static bool has_order(size_t size, bool (*apply)(void *, const dst_op *), const char *state,
                      uint32_t done) {
    char next[256];
    uint32_t first_return = UINT32_MAX;
    int i;
    if (done == (1u << S->ops) - 1) return true;
    for (i = 0; i < S->ops; ++i)
        if (!(done >> i & 1) && S->history[i].returned < first_return)
            first_return = S->history[i].returned;
    for (i = 0; i < S->ops; ++i) {
        if ((done >> i & 1) || S->history[i].called > first_return) continue;
        memcpy(next, state, size);
        if (apply(next, &S->history[i]) && has_order(size, apply, next, done | 1u << i))
            return true;
    }
    return false;
}

void dst_linearizable(size_t size, bool (*apply)(void *state, const dst_op *op)) {
    char state[256] = {0};
    char text[400] = "";
    size_t used = 0;
    int i;
    if (size > sizeof state) fail("a model's state has at most %zu bytes", sizeof state);
    if (has_order(size, apply, state, 0)) return;
    for (i = 0; i < S->ops && used < sizeof text - 40; ++i)
        used += (size_t)snprintf(text + used, sizeof text - used,
                                 " [%u-%u %d(%" PRId64 ")=%" PRId64 "]", S->history[i].called,
                                 S->history[i].returned, S->history[i].kind, S->history[i].arg,
                                 S->history[i].result);
    fail("no order explains:%s", text);
}

/* >>running */

static int find_tls(struct dl_phdr_info *info, size_t size, void *user) {
    int i;
    (void)size, (void)user;
    for (i = 0; i < info->dlpi_phnum; ++i) {
        if (info->dlpi_phdr[i].p_type != PT_TLS) continue;
        S->tls = (char *)info->dlpi_tls_data;
        S->tls_size = info->dlpi_phdr[i].p_memsz;
    }
    return 1; /* the program itself comes first */
}

static void *pages(uintptr_t at, size_t size) {
    void *p = mmap(
        (void *)at, size, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (at != 0 ? MAP_FIXED_NOREPLACE : 0), -1, 0);
    if (p == MAP_FAILED) {
        perror("dst: mmap");
        exit(1);
    }
    return p;
}

/* A crash is a failure of its schedule like any other; the handler has a stack of its own. */
static void crashed(int number, siginfo_t *info, void *context) {
    const uintptr_t at = (uintptr_t)info->si_addr - (uintptr_t)stack_of(0);
    (void)context;
    if (!S->inside) abort();
    if (number == SIGSEGV && at < FIBERS * STACK && at % STACK < GUARD)
        fail("stack overflow of fiber %d", S->self);
    fail("signal %d: %s", number, strsignal(number));
}

static void catch_crashes(void) {
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGALRM};
    struct sigaction action;
    stack_t stack;
    size_t i;
    memset(&stack, 0, sizeof stack);
    stack.ss_size = STACK;
    stack.ss_sp = pages(0, STACK);
    (void)sigaltstack(&stack, NULL);
    memset(&action, 0, sizeof action);
    action.sa_sigaction = crashed;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER; /* it is left by a jump */
    for (i = 0; i < sizeof signals / sizeof *signals; ++i)
        (void)sigaction(signals[i], &action, NULL);
}

static void begin(void) {
    const size_t data = (size_t)(_end - __data_start);
    int i;
    S = (struct state *)pages(0, sizeof *S);
    (void)pages((uintptr_t)MEMORY, ARENA + FIBERS * STACK);
    for (i = 0; i < FIBERS; ++i)
        (void)mprotect(stack_of(i), GUARD, PROT_NONE);
    (void)pages((uintptr_t)CELLS, (ARENA + FIBERS * STACK) / 8 * sizeof(cell));
    S->data_cells = (cell *)pages(0, (data / 8 + 2) * sizeof(cell));
    S->data_copy = (char *)pages(0, data);
    (void)dl_iterate_phdr(find_tls, NULL);
    if (S->tls_size > TLS) {
        fprintf(stderr, "dst: more than %d bytes of thread-local storage\n", TLS);
        exit(1);
    }
    memcpy(S->tls_begin, S->tls, S->tls_size);
    memcpy(S->data_copy, __data_start, data);
}

static void *run_scenario(void *argument) {
    ((dst_scenario *)argument)->run();
    return NULL;
}

static void left(size_t count, const char *what) {
    if (S->failed || count == 0) return;
    S->failed = true;
    (void)snprintf(S->message, sizeof S->message, "%zu %s", count, what);
}

/* Runs one schedule. */
static bool run(dst_scenario *scenario, uint64_t seed, bool tso, bool tracing) {
    fiber *first = &S->fibers[0];
    uint64_t z = (seed + 1) * UINT64_C(0x9E3779B97F4A7C15);
    int i;
    memcpy(__data_start, S->data_copy, (size_t)(_end - __data_start));
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    S->random = (z ^ (z >> 31)) | 1;
    S->seed = seed;
    S->tso = tso;
    S->tracing = tracing;
    S->pct = seed & 1;
    S->time_runs = seed >> 1 & 1;
    S->failed = false;
    set_self(0);
    S->live = 1;
    S->points = 0;
    for (i = 0; i < 3; ++i)
        S->changes[i] = 1 + (int)below(8u << below(8));
    S->now = BEGINS;
    S->used = S->blocks = S->bytes = 0;
    S->locks = S->held = S->sync_count = 0;
    S->forks = 0;
    S->threads = 0;
    S->message[0] = '\0';
    S->soak = scenario->kind == DST_IS_SOAK;
    S->idle_fn = NULL;
    S->ops = 0;
    S->tick = 0;
    S->fault_calls = S->faults = 0;
    S->events = 0;
    ++S->epoch;
    for (i = 0; i < FIBERS; ++i) {
        S->fibers[i].state = UNUSED;
        S->fibers[i].clock.at[i] = 0;
    }
    memset(first, 0, sizeof *first);
    first->state = READY;
    first->priority = (uint32_t)(next_random() >> 33) + 8;
    first->clock.at[0] = 1;
    first->fn = run_scenario;
    first->argument = scenario;
    memcpy(first->tls, S->tls_begin, S->tls_size);
    fiber_prepare(first, 0);
    S->inside = true;
    jump(&S->main, first);
    S->inside = false;
    S->all_points += (uint64_t)S->points;
    left(S->blocks, "blocks of memory are left");
    left((size_t)S->live - 1, "threads were not joined");
    left((size_t)S->locks, "mutexes or condition variables were not destroyed");
    left((size_t)S->held, "mutexes are still locked");
    return !S->failed;
}

/* Shows the last events, with the lines that they come from. */
static void show_trace(void) {
    const uint64_t count = S->events < 120 ? S->events : 120;
    char command[8192], where[160];
    size_t used;
    FILE *lines;
    uint64_t i;
    used = (size_t)snprintf(command, sizeof command, "addr2line -s -e /proc/%d/exe", (int)getpid());
    for (i = S->events - count; i < S->events && used < sizeof command - 24; ++i)
        used += (size_t)snprintf(command + used, sizeof command - used, " %" PRIxPTR,
                                 (uintptr_t)S->trace[i % TRACE].pc - 1);
    lines = popen(command, "r");
    for (i = S->events - count; i < S->events; ++i) {
        const event *e = &S->trace[i % TRACE];
        if (lines == NULL || fgets(where, sizeof where, lines) == NULL) where[0] = '\0';
        where[strcspn(where, "\n (")] = '\0';
        printf("#   fiber %d  %-14s %12" PRIxPTR " %16" PRIx64 "  %s\n", e->fiber, e->what,
               e->address, e->value, where);
    }
    if (lines != NULL) (void)pclose(lines);
}

static void show_failure(dst_scenario *scenario, uint64_t seed, bool tso, const char *program) {
    printf("# %s\n# replay: %s --seed %" PRIu64 " --mode %s", S->message, program, seed,
           tso ? "tso" : "sc");
    if (S->torture) {
        printf(" --faults %" PRIu64, S->fails.from);
        if (S->fails.to == UINT64_MAX) printf("-");
        if (S->fails.also > 0) printf(",%" PRIu64, S->fails.also);
    }
    printf(" %s\n", scenario->name);
    (void)run(scenario, seed, tso, true);
    show_trace();
}

/* Runs schedules until one fails; returns how many held. */
static uint64_t run_many(dst_scenario *scenario, uint64_t from, uint64_t count, bool tso) {
    uint64_t i;
    for (i = 0; i < count; ++i)
        if (!run(scenario, from + i, tso, false)) break;
    return i;
}

static double seconds(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

typedef struct options {
    const char *program, *part;
    uint64_t schedules, seed;
    bool sc, tso, one, sites;
    faults fails; /* given: for one run */
} options;

static bool run_holding(dst_scenario *scenario, const options *o, int number) {
    const double began = seconds();
    int tso;
    S->all_points = 0;
    for (tso = 0; tso < 2; ++tso) {
        uint64_t held;
        if (!(tso ? o->tso : o->sc)) continue;
        held = run_many(scenario, o->seed, o->schedules, tso);
        if (held == o->schedules) continue;
        printf("not ok %d - %s\n", number, scenario->name);
        show_failure(scenario, o->seed + held, tso, o->program);
        return false;
    }
    printf("ok %d - %s (%.2f s, %.1f million points)\n", number, scenario->name, seconds() - began,
           (double)S->all_points * 1e-6);
    return true;
}

/* Only the failure that is expected will do, and of one with store buffers none without them. */
static bool run_buggy(dst_scenario *scenario, const options *o, int number) {
    const uint64_t within = scenario->found_within;
    const bool bug_in_tso = scenario->kind == DST_HAS_TSO_BUG;
    const char *what = "found";
    bool tso = false, ok = true;
    uint64_t held = run_many(scenario, o->seed, within, false);
    if (bug_in_tso && held == within) {
        tso = true;
        held = run_many(scenario, o->seed, within, true);
    }
    if (held == within)
        what = "not found", ok = false;
    else if (tso != bug_in_tso)
        what = "found without store buffers", ok = false;
    else if (strstr(S->message, scenario->expected) == NULL)
        what = "found another failure", ok = false;
    printf("%sok %d - %s: %s after %" PRIu64 " schedules: %s\n", ok ? "" : "not ", number,
           scenario->name, what, held, S->message);
    if (held < within && (o->one || !ok)) show_failure(scenario, o->seed + held, tso, o->program);
    return ok;
}

static bool run_soak(dst_scenario *scenario, const options *o, int number) {
    const double began = seconds();
    const uint64_t seed = o->seed & ~UINT64_C(1); /* even: random */
    const bool held = run(scenario, seed, false, false);
    printf("%sok %d - %s (%.2f s, %.1f virtual hours)\n", held ? "" : "not ", number,
           scenario->name, seconds() - began, ((double)S->now - BEGINS) / 3600e9);
    if (!held) show_failure(scenario, seed, false, o->program);
    return held;
}

/* Runs it while some calls fail. *calls: how many there were. */
static bool run_faulty(dst_scenario *scenario, const options *o, uint64_t seed, bool tso,
                       faults fails, uint64_t *calls) {
    bool held;
    S->torture = true;
    S->fails = fails;
    held = run(scenario, seed, tso, false);
    *calls = S->fault_calls;
    if (!held) show_failure(scenario, seed, tso, o->program);
    S->torture = false;
    return held;
}

/* Every call alone, every call and all after it, every call and one of the next eight. A run with
   fewer than k calls is the end: its predecessor may have had few because it gave up at once. */
static bool run_faults(dst_scenario *scenario, const options *o, uint64_t seed, bool tso,
                       uint64_t *runs) {
    uint64_t calls = 1, k, also;
    bool held = true;
    for (k = 1; held && k <= calls + 1; ++k, ++*runs)
        held = run_faulty(scenario, o, seed, tso, (faults){k, k, 0}, &calls);
    for (calls = k = 1; held && k <= calls + 1; ++k, ++*runs)
        held = run_faulty(scenario, o, seed, tso, (faults){k, UINT64_MAX, 0}, &calls);
    for (calls = k = 1; held && k <= calls + 1; ++k)
        for (also = k + 1; held && also <= k + 8; ++also, ++*runs)
            held = run_faulty(scenario, o, seed, tso, (faults){k, k, also}, &calls);
    return held;
}

/* Under four schedules that choose at random, and in which time stands still. */
static bool run_torture(dst_scenario *scenario, const options *o, int number) {
    const double began = seconds();
    uint64_t runs = 0, calls, i;
    bool held = true;
    if (o->fails.from > 0)
        held = run_faulty(scenario, o, o->seed, o->tso, o->fails, &calls);
    else
        for (i = 0; held && i < 8; ++i)
            if (i < 4 ? o->sc : o->tso)
                held = run_faults(scenario, o, (o->seed & ~UINT64_C(3)) + i % 4 * 4, i >= 4, &runs);
    printf("%sok %d - %s (%.2f s, %" PRIu64 " runs)\n", held ? "" : "not ", number, scenario->name,
           seconds() - began, runs);
    return held;
}

/* One line a place that can fail: whether it was seen before any failure; how often it failed, in
   each way; its name, and the calls that led there. */
static void show_sites(void) {
    int i, n;
    for (i = 0; i < S->site_count; ++i) {
        printf("# site %d", S->sites[i].unharmed);
        for (n = 0; n < WAYS; ++n)
            printf(" %" PRIu64, S->sites[i].faults[n]);
        printf(" %s", S->sites[i].name);
        for (n = 0; n < FRAMES && S->sites[i].frames[n] != NULL; ++n)
            printf(" %" PRIxPTR, (uintptr_t)S->sites[i].frames[n] - 1);
        printf("\n");
    }
}

static bool run_any(dst_scenario *scenario, const options *o, int number) {
    (void)alarm(900); /* what goes round and meets no point fails then, with its seed */
    switch (scenario->kind) {
    case DST_HOLDS: return run_holding(scenario, o, number);
    case DST_HAS_BUG:
    case DST_HAS_TSO_BUG: return run_buggy(scenario, o, number);
    case DST_IS_TORTURE: return run_torture(scenario, o, number);
    case DST_IS_SOAK: return run_soak(scenario, o, number);
    }
    return false;
}

/* --sites asks what was tortured. */
static bool wanted(const dst_scenario *scenario, const options *o) {
    return strstr(scenario->name, o->part) != NULL &&
           (!o->sites || scenario->kind == DST_IS_TORTURE);
}

/* 3: the third call fails; 3-: all from the third; 3,5: those two. */
static bool parse_faults(const char *text, faults *out) {
    char *end;
    out->from = strtoull(text, &end, 10);
    out->to = *end == '-' ? UINT64_MAX : out->from;
    if (*end == '-')
        ++end;
    else if (*end == ',')
        out->also = strtoull(end + 1, &end, 10);
    return out->from > 0 && *end == '\0';
}

/* A number and nothing else. */
static bool parse_number(const char *text, uint64_t *out) {
    char *end;
    *out = strtoull(text, &end, 0);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0';
}

static bool parse(options *o, int argc, char **argv) {
    int i;
    bool good = true;
    for (i = 1; i < argc; ++i) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--sites") == 0) {
            o->sites = true;
            continue;
        }
        if (argv[i][0] != '-') {
            o->part = argv[i];
            continue;
        }
        if (strcmp(argv[i], "--schedules") == 0)
            good = good && parse_number(value, &o->schedules) && o->schedules > 0;
        else if (strcmp(argv[i], "--from") == 0)
            good = good && parse_number(value, &o->seed);
        else if (strcmp(argv[i], "--seed") == 0)
            good = good && parse_number(value, &o->seed), o->schedules = 1, o->one = true;
        else if (strcmp(argv[i], "--faults") == 0)
            good = good && parse_faults(value, &o->fails);
        else if (strcmp(argv[i], "--mode") == 0)
            o->sc = strcmp(value, "sc") == 0, o->tso = strcmp(value, "tso") == 0;
        else
            return false;
        ++i;
    }
    return good && (o->sc || o->tso);
}

int main(int argc, char **argv) {
    options o = {argv[0], "", 20000, 1, true, true, false, false, {0, 0, 0}};
    dst_scenario *s;
    int number = 0, count = 0, failed = 0;
    if (!parse(&o, argc, argv)) {
        fprintf(stderr,
                "usage: %s [--schedules N] [--from SEED] [--seed SEED] [--mode sc|tso] "
                "[--faults K|K-|K,L] [--sites] [part of a name]\n",
                argv[0]);
        return 2;
    }
    begin();
    catch_crashes();
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (s = scenarios; s != NULL; s = s->next)
        count += wanted(s, &o);
    printf("1..%d\n", count);
    for (s = scenarios; s != NULL; s = s->next)
        if (wanted(s, &o)) failed += !run_any(s, &o, ++number);
    if (o.sites) show_sites();
    printf("%d passed, %d failed\n", count - failed, failed);
    return failed > 0 || count == 0;
}

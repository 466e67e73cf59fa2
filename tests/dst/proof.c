/* Proves the scheduler: known bugs are found within the schedules that are stated, and their
   correct twins are never accused.  Each pair differs in one line, chosen by `broken`. */
#define _DEFAULT_SOURCE /* clock_gettime */
#include "dst.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LOAD(p, order) __atomic_load_n((p), __ATOMIC_##order)
#define STORE(p, v, order) __atomic_store_n((p), (v), __ATOMIC_##order)
#define ADD(p, v, order) __atomic_fetch_add((p), (v), __ATOMIC_##order)
#define CAS(p, expected, v, order) \
    __atomic_compare_exchange_n((p), (expected), (v), 0, __ATOMIC_##order, __ATOMIC_RELAXED)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

/* ---- a message through a flag */

static enum { SOUND, NO_RELEASE, NO_ACQUIRE } message_is;
static uint32_t flag;
static int data;

static void send(int index) {
    (void)index;
    data = 42;
    if (message_is == NO_RELEASE)
        STORE(&flag, 1, RELAXED);
    else
        STORE(&flag, 1, RELEASE);
}

static void receive(int index) {
    const uint32_t sent = message_is == NO_ACQUIRE ? LOAD(&flag, RELAXED) : LOAD(&flag, ACQUIRE);
    (void)index;
    if (sent == 1) DST_CHECK(data == 42);
}

static void message(void) {
    void (*const threads[])(int) = {send, receive};
    dst_go(2, threads);
}

DST(proof, a_message_released_and_acquired) {
    message_is = SOUND;
    message();
}

DST_BUG(proof, a_message_without_release, 20, "data race") {
    message_is = NO_RELEASE;
    message();
}

DST_BUG(proof, a_message_without_acquire, 20, "data race") {
    message_is = NO_ACQUIRE;
    message();
}

/* ---- a counter */

static bool broken;
static int counter;

static void count(int index) {
    if (!broken || index != 1) pthread_mutex_lock(&lock);
    ++counter;
    if (!broken || index != 1) pthread_mutex_unlock(&lock);
}

static void count_all(bool one_is_careless) {
    void (*const threads[])(int) = {count, count, count};
    broken = one_is_careless;
    dst_go(3, threads);
    DST_CHECK(counter == 3);
}

DST(proof, a_counter_under_a_mutex) {
    count_all(false);
}

DST_BUG(proof, a_counter_that_one_thread_does_not_lock, 10, "data race") {
    count_all(true);
}

/* ---- Dekker's handshake: seq_cst on both sides, or both may miss the other */

static uint32_t wants[2];
static bool alone[2];

static void want(int index) {
    if (broken)
        STORE(&wants[index], 1, RELEASE);
    else
        STORE(&wants[index], 1, SEQ_CST);
    alone[index] = LOAD(&wants[1 - index], SEQ_CST) == 0;
}

static void handshake(bool released) {
    void (*const threads[])(int) = {want, want};
    broken = released;
    dst_go(2, threads);
    DST_CHECK(!(alone[0] && alone[1]));
}

DST(proof, a_handshake_that_is_seq_cst) {
    handshake(false);
}

DST_BUG_TSO(proof, a_handshake_that_is_released, 100, "alone[0] && alone[1]") {
    handshake(true);
}

/* ---- a lock-free release beside a waiter that parks: the handshake, as libraries write it */

static uint32_t units, waiting;

static bool take(void) {
    uint32_t seen = LOAD(&units, SEQ_CST);
    while (seen > 0)
        if (CAS(&units, &seen, seen - 1, SEQ_CST)) return true;
    return false;
}

static void get(int index) {
    (void)index;
    if (take()) return;
    pthread_mutex_lock(&lock);
    STORE(&waiting, 1, SEQ_CST);
    while (!take())
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

static void give(int index) {
    (void)index;
    if (broken)
        STORE(&units, 1, RELEASE);
    else
        STORE(&units, 1, SEQ_CST);
    if (LOAD(&waiting, SEQ_CST) == 0) return;
    pthread_mutex_lock(&lock);
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
}

static void hand_over(bool released) {
    void (*const threads[])(int) = {get, give};
    broken = released;
    dst_go(2, threads);
}

DST(proof, a_release_beside_a_parked_waiter) {
    hand_over(false);
}

DST_BUG_TSO(proof, a_release_that_loses_the_wake_up, 1000, "deadlock") {
    hand_over(true);
}

/* ---- a lock-free free list of numbered units: head is tag << 32 | unit + 1 */

enum { UNITS = 3 };
static uint64_t head;
static uint32_t next[UNITS];
static int holder[UNITS];
static uint64_t tag_mask;
static bool stale_tag;

static uint64_t tagged(uint64_t tag, uint64_t first) {
    return (tag & tag_mask) << 32 | first;
}

static int list_pop(void) {
    uint64_t seen = LOAD(&head, ACQUIRE);
    const uint64_t at_first = (seen >> 32) + 1;
    for (;;) {
        const uint32_t first = (uint32_t)seen;
        uint64_t tag = (seen >> 32) + 1;
        if (first == 0) return -1;
        if (stale_tag) tag = at_first; /* iceoryx 2351: computed once, outside the loop */
        if (CAS(&head, &seen, tagged(tag, LOAD(&next[first - 1], RELAXED)), ACQ_REL))
            return (int)first - 1;
        seen = LOAD(&head, ACQUIRE);
    }
}

static void list_push(int unit) {
    uint64_t seen = LOAD(&head, RELAXED);
    const uint64_t at_first = (seen >> 32) + 1;
    uint64_t tag;
    do {
        tag = stale_tag ? at_first : (seen >> 32) + 1;
        STORE(&next[unit], (uint32_t)seen, RELAXED);
    } while (!CAS(&head, &seen, tagged(tag, (uint64_t)unit + 1), ACQ_REL));
}

static void list_use(int index) {
    int i;
    for (i = 0; i < 2; ++i) {
        const int a = list_pop(), b = index == 0 ? list_pop() : -1;
        if (a >= 0) {
            DST_CHECK(ADD(&holder[a], 1, RELAXED) == 0);
            DST_CHECK(ADD(&holder[a], -1, RELAXED) == 1);
            list_push(a);
        }
        if (b >= 0) list_push(b);
    }
}

static void free_list(uint64_t mask, bool stale) {
    void (*const threads[])(int) = {list_use, list_use, list_use, list_use};
    int i;
    tag_mask = mask;
    stale_tag = stale;
    for (i = 0; i < UNITS; ++i)
        next[i] = (uint32_t)i; /* unit i is followed by i - 1 */
    head = tagged(0, UNITS);
    dst_go(4, threads);
    for (i = 0; i < UNITS; ++i)
        DST_CHECK(list_pop() >= 0);
    DST_CHECK(list_pop() < 0);
}

DST(proof, a_free_list_with_a_tag) {
    free_list(UINT32_MAX, false);
}

DST_BUG(proof, a_free_list_without_a_tag, 2000, "failed: ") {
    free_list(0, false);
}

DST_BUG(proof, a_tag_of_one_bit, 20000, "failed: ") {
    free_list(1, false);
}

DST_BUG(proof, a_tag_of_two_bits, 100000, "failed: ") {
    free_list(3, false);
}

DST_BUG(proof, a_tag_from_a_stale_head, 100000, "failed: ") {
    free_list(UINT32_MAX, true);
}

/* ---- condition variables */

static int items;
static enum { EACH, ON_THE_EDGE, IF_FOR_WHILE } cond_is;

static void consume(int index) {
    (void)index;
    pthread_mutex_lock(&lock);
    if (cond_is == IF_FOR_WHILE) {
        if (items == 0) pthread_cond_wait(&changed, &lock);
    } else {
        while (items == 0)
            pthread_cond_wait(&changed, &lock);
    }
    --items;
    DST_CHECK(items >= 0);
    pthread_mutex_unlock(&lock);
}

static void produce(int index) {
    (void)index;
    pthread_mutex_lock(&lock);
    if (items++ == 0 || cond_is != ON_THE_EDGE) pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
}

static void produce_and_consume(void) {
    void (*const threads[])(int) = {consume, consume, produce, produce};
    dst_go(4, threads);
}

DST(proof, a_signal_for_each_item) {
    cond_is = EACH;
    produce_and_consume();
}

DST_BUG(proof, a_signal_on_the_edge_only, 2000, "deadlock") {
    cond_is = ON_THE_EDGE;
    produce_and_consume();
}

DST_BUG(proof, an_if_around_a_wait, 200, "items >= 0") {
    cond_is = IF_FOR_WHILE;
    produce_and_consume();
}

/* ---- a permit that is handed to a waiter whose time is over */

static int permits = 1, granted;
static bool waits;

static void permit_use(int index) {
    struct timespec until;
    bool mine = false;
    (void)index;
    pthread_mutex_lock(&lock);
    if (permits > 0) {
        --permits;
        mine = true;
    } else if (!waits) {
        int result = clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 1000;
        waits = true;
        while (!granted && result == 0)
            result = pthread_cond_timedwait(&changed, &lock, &until);
        waits = false;
        mine = granted && (result == 0 || !broken); /* it came too late, and yet it came */
        granted = 0;
    }
    pthread_mutex_unlock(&lock);
    dst_pass(600);
    if (!mine) return;
    pthread_mutex_lock(&lock);
    if (waits && !granted) {
        granted = 1;
        pthread_cond_signal(&changed);
    } else {
        ++permits;
    }
    pthread_mutex_unlock(&lock);
}

static void permit(bool lost) {
    void (*const threads[])(int) = {permit_use, permit_use, permit_use};
    broken = lost;
    dst_go(3, threads);
    DST_CHECK(permits == 1);
}

DST(proof, a_permit_that_comes_late_is_kept) {
    permit(false);
}

DST_BUG(proof, a_permit_that_comes_late_is_lost, 2000, "permits == 1") {
    permit(true);
}

/* ---- a wait on the wrong clock */

static void wait_a_second(int index) {
    struct timespec until;
    (void)index;
    DST_CHECK(clock_gettime(CLOCK_MONOTONIC, &until) == 0);
    ++until.tv_sec;
    pthread_mutex_lock(&lock);
    DST_CHECK(pthread_cond_timedwait(&changed, &lock, &until) != 0); /* "changed" has the default */
    pthread_mutex_unlock(&lock);
    DST_CHECK(dst_now() >= INT64_C(1001000000000));
}

DST_BUG(proof, a_wait_on_the_wall_clock, 10, "dst_now() >=") {
    void (*const threads[])(int) = {wait_a_second};
    dst_go(1, threads);
}

/* ---- the coarse clock */

static int64_t read_clock(clockid_t id) {
    struct timespec now;
    DST_CHECK(clock_gettime(id, &now) == 0);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

DST(proof, a_coarse_clock_lags_some_ms) {
    int64_t before = 0;
    int i;
    for (i = 0; i < 4; ++i) {
        const int64_t fine = read_clock(CLOCK_MONOTONIC);
        const int64_t coarse = read_clock(CLOCK_MONOTONIC_COARSE);
        DST_CHECK(coarse > fine - 4000000 && coarse <= dst_now() && coarse >= before);
        before = coarse;
        dst_pass(dst_choose(6000000));
    }
}

DST_BUG(proof, a_coarse_clock_taken_for_the_fine_one, 1, "coarse >= fine") {
    int64_t fine, coarse;
    dst_pass(dst_choose(4000000) + 1);
    fine = read_clock(CLOCK_MONOTONIC);
    coarse = read_clock(CLOCK_MONOTONIC_COARSE);
    DST_CHECK(coarse >= fine);
}

/* ---- locks in two orders */

static pthread_mutex_t other = PTHREAD_MUTEX_INITIALIZER;

static void lock_both(int index) {
    pthread_mutex_t *const first = broken && index == 1 ? &other : &lock;
    pthread_mutex_t *const second = first == &lock ? &other : &lock;
    pthread_mutex_lock(first);
    pthread_mutex_lock(second);
    pthread_mutex_unlock(second);
    pthread_mutex_unlock(first);
}

static void two_locks(bool crossed) {
    void (*const threads[])(int) = {lock_both, lock_both};
    broken = crossed;
    dst_go(2, threads);
}

DST(proof, two_locks_in_one_order) {
    two_locks(false);
}

DST_BUG(proof, two_locks_crossed, 50, "deadlock") {
    two_locks(true);
}

/* ---- memory */

static struct shared {
    uint32_t references;
    int value;
} * shared;

static void shared_drop(int index) {
    (void)index;
    DST_CHECK(shared->value == 7);
    if (broken ? LOAD(&shared->references, ACQUIRE) == 1
               : ADD(&shared->references, UINT32_MAX, ACQ_REL) == 1)
        free(shared);
    else if (broken)
        ADD(&shared->references, UINT32_MAX,
            ACQ_REL); /* both may have seen two, or one in between */
}

static void reference_count(bool read_and_write) {
    void (*const threads[])(int) = {shared_drop, shared_drop};
    broken = read_and_write;
    shared = (struct shared *)malloc(sizeof *shared);
    shared->references = 2;
    shared->value = 7;
    dst_go(2, threads);
}

DST(proof, a_reference_count) {
    reference_count(false);
}

DST_BUG(proof, a_reference_count_in_two_steps, 50, "blocks of memory are left") {
    reference_count(true);
}

static void read_shared(int index) {
    (void)index;
    DST_CHECK(shared->value == 7);
}

static void read_when_told(int index) {
    if (LOAD(&flag, ACQUIRE) == 1) read_shared(index);
}

static void free_and_tell(int index) {
    (void)index;
    free(shared);
    STORE(&flag, 1, RELEASE);
}

DST_BUG(proof, a_use_after_free, 10, "use after free") {
    void (*const threads[])(int) = {read_when_told, free_and_tell};
    shared = (struct shared *)malloc(sizeof *shared);
    shared->value = 7;
    dst_go(2, threads);
}

static int *volatile nowhere;

DST_BUG(proof, a_crash, 1, "Segmentation fault") {
    *nowhere = 7;
}

DST_BUG(proof, a_use_of_what_was_freed_before, 10, "use after free") {
    void (*const threads[])(int) = {read_shared, read_shared};
    shared = (struct shared *)malloc(sizeof *shared);
    free(shared);
    dst_go(2, threads);
}

static __attribute__((noinline)) void make_and_free(void) {
    shared = (struct shared *)malloc(sizeof *shared);
    free(shared);
}

DST_BUG(proof, a_use_after_free_without_threads, 1, "use after free by fiber 0") {
    make_and_free();
    read_shared(0);
}

DST_BUG(proof, an_atomic_use_after_free_without_threads, 1, "use after free by fiber 0") {
    make_and_free();
    DST_CHECK(LOAD(&shared->references, RELAXED) > 0);
}

DST_BUG(proof, a_leak, 1, "1 blocks of memory") {
    DST_CHECK(malloc(10) != NULL);
}

static size_t most = SIZE_MAX; /* read so that no compiler sees, and warns */

DST(proof, a_calloc_of_more_than_there_is) {
    DST_CHECK(calloc(LOAD(&most, RELAXED) / 16 + 1, 17) == NULL); /* 16 bytes, if nobody looks */
}

/* ---- stacks */

static char *left_behind;
static bool read_yet;

static __attribute__((noinline)) int go_down(int levels) {
    char room[512];
    left_behind = room;
    room[levels % 2] = (char)(levels == 0 ? 0 : go_down(levels - 1));
    return room[levels % 2];
}

static void go_too_far(int index) {
    (void)go_down(1000 * (index + 1));
}

DST(proof, a_deep_stack) {
    DST_CHECK(go_down(100) == 0);
}

DST_BUG(proof, a_stack_overflow, 1, "stack overflow of fiber 1") {
    void (*const threads[])(int) = {go_too_far};
    dst_go(1, threads);
}

static __attribute__((noinline)) void show_a_frame(void) {
    char room[1024];
    pthread_mutex_lock(&lock);
    room[0] = 7;
    left_behind = room;
    while (!broken && !read_yet)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

static void sleep_until_idle(void) {
    const struct timespec a_while = {0, 1000};
    DST_CHECK(nanosleep(&a_while, NULL) == 0);
}

static void show_and_go_on(int index) {
    (void)index;
    show_a_frame();
    sleep_until_idle();
}

static void read_what_is_shown(int index) {
    (void)index;
    pthread_mutex_lock(&lock);
    if (left_behind != NULL) DST_CHECK(left_behind[0] == 7);
    read_yet = true;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
}

static void frames(bool too_late) {
    void (*const threads[])(int) = {show_and_go_on, read_what_is_shown};
    broken = too_late;
    dst_go(2, threads);
}

DST(proof, a_frame_that_waits_for_its_reader) {
    frames(false);
}

DST_BUG(proof, a_frame_that_does_not_wait, 10, "uses a stack frame that fiber 1 has left") {
    frames(true);
}

static void *show_the_first_frame(void *argument) {
    char room = 7;
    STORE(&left_behind, &room, RELAXED);
    return argument;
}

DST_BUG(proof, a_stack_of_a_thread_that_ended, 1, "uses a stack frame that fiber 1 has left") {
    pthread_t thread;
    DST_CHECK(pthread_create(&thread, NULL, show_the_first_frame, NULL) == 0);
    DST_CHECK(pthread_join(thread, NULL) == 0);
    read_what_is_shown(0);
}

/* ---- what libc reads and writes */

static char text[16];
static volatile double got; /* or the compiler drops calls */
static enum call {
    MEMCPY,
    MEMMOVE,
    MEMSET,
    STRLEN,
    STRCMP,
    STRNCMP,
    STRCHR,
    STRTOD,
    MEMCMP,
    FWRITE,
    PRINT_FROM,
    PRINT_PART,
    PRINT_TO
} call_is;

static void call_libc(int index) {
    char line[16];
    (void)index;
    if (!broken) pthread_mutex_lock(&lock);
    switch (call_is) {
    case MEMCPY: memcpy(line, text, 4); break;
    case MEMMOVE: memmove(line, text, 4); break;
    case MEMSET: memset(text, '1', 4); break;
    case STRLEN: got = (double)strlen(text); break;
    case STRCMP: got = strcmp(text, "1234"); break;
    case STRNCMP: got = strncmp("1234", text, 4); break;
    case STRCHR: got = strchr(text, '4') == NULL; break;
    case STRTOD: got = strtod(text, NULL); break;
    case MEMCMP: got = memcmp(text, "1234", 4); break;
    case FWRITE: got = (double)fwrite(text, 1, 4, stdin); break; /* fails */
    case PRINT_FROM: got = snprintf(line, sizeof line, "%-*d%5.1f %% %s", 3, 7, 0.5, text); break;
    case PRINT_PART: got = snprintf(line, sizeof line, "%.*s %c", 4, text, '!'); break;
    case PRINT_TO: got = snprintf(text, sizeof text, "%d", 1234); break;
    }
    if (!broken) pthread_mutex_unlock(&lock);
}

static size_t write_at;

static void write_text(int index) {
    (void)index;
    if (!broken) pthread_mutex_lock(&lock);
    text[write_at] = '5';
    if (!broken) pthread_mutex_unlock(&lock);
}

static void call_beside_a_write(int which, size_t at, bool locked) {
    void (*const threads[])(int) = {call_libc, write_text};
    memcpy(text, "1234", 5);
    call_is = (enum call)which;
    write_at = at;
    broken = !locked;
    dst_go(2, threads);
}

DST(proof, libc_under_a_mutex) {
    call_beside_a_write((int)dst_choose(PRINT_TO + 1), 3, true);
}

DST(proof, libc_beside_what_it_does_not_touch) {
    call_beside_a_write((int)dst_choose(PRINT_TO + 1), 5, false);
}

#define CALL_BUG(name, which)                 \
    DST_BUG(proof, name, 10, "data race") {   \
        call_beside_a_write(which, 3, false); \
    }
/* clang-format off */
CALL_BUG(memcpy_beside_a_write, MEMCPY)
CALL_BUG(memmove_beside_a_write, MEMMOVE)
CALL_BUG(memset_beside_a_write, MEMSET)
CALL_BUG(memcmp_beside_a_write, MEMCMP)
CALL_BUG(strlen_beside_a_write, STRLEN)
CALL_BUG(strcmp_beside_a_write, STRCMP)
CALL_BUG(strncmp_beside_a_write, STRNCMP)
CALL_BUG(strchr_beside_a_write, STRCHR)
CALL_BUG(strtod_beside_a_write, STRTOD)
CALL_BUG(fwrite_beside_a_write, FWRITE)
CALL_BUG(a_string_printed_beside_a_write, PRINT_FROM)
CALL_BUG(a_part_printed_beside_a_write, PRINT_PART)
CALL_BUG(a_print_beside_a_write, PRINT_TO)
/* clang-format on */

/* ---- locks */

DST_BUG(proof, a_mutex_that_stays_locked, 1, "still locked") {
    pthread_mutex_lock(&lock);
}

DST_BUG(proof, a_locked_mutex_that_is_destroyed, 1, "destroyed that fiber 0 holds") {
    pthread_mutex_lock(&lock);
    pthread_mutex_destroy(&lock);
}

DST_BUG(proof, a_mutex_that_is_only_zeroed, 1, "mutex is used that was not initialized") {
    pthread_mutex_lock((pthread_mutex_t *)calloc(1, sizeof lock));
}

DST_BUG(proof, a_condition_variable_that_is_only_zeroed, 1, "variable is used that was not") {
    pthread_cond_signal((pthread_cond_t *)calloc(1, sizeof changed));
}

DST_BUG(proof, a_mutex_that_is_initialized_twice, 1, "initialized twice") {
    DST_CHECK(pthread_mutex_init(&lock, NULL) == 0);
    DST_CHECK(pthread_mutex_init(&lock, NULL) == 0);
}

DST_BUG(proof, a_mutex_that_stays, 1, "1 mutexes or condition variables were not destroyed") {
    DST_CHECK(pthread_mutex_init(&lock, NULL) == 0);
}

static void locks_of_a_child(bool one_stays) {
    DST_CHECK(pthread_mutex_init(&lock, NULL) == 0);
    DST_CHECK(pthread_mutex_init(&other, NULL) == 0);
    pthread_mutex_lock(&lock);
    dst_forked();
    DST_CHECK(pthread_mutex_init(&lock, NULL) == 0);
    if (!one_stays) DST_CHECK(pthread_mutex_destroy(&lock) == 0);
    DST_CHECK(pthread_mutex_destroy(&other) == 0); /* of the parent: it does not count */
}

DST(proof, a_child_makes_its_locks_again) {
    locks_of_a_child(false);
}

DST_BUG(proof, a_mutex_that_stays_in_a_child, 1, "1 mutexes or condition variables were not") {
    locks_of_a_child(true);
}

/* ---- threads */

static void *nothing(void *argument) {
    return argument;
}

static pthread_t start(void *(*fn)(void *)) {
    pthread_t thread;
    DST_CHECK(pthread_create(&thread, NULL, fn, NULL) == 0);
    return thread;
}

DST_BUG(proof, a_thread_that_is_not_joined, 1, "1 threads were not joined") {
    (void)start(nothing);
}

DST_BUG(proof, a_thread_that_is_joined_twice, 1, "join of what is no thread") {
    const pthread_t first = start(nothing);
    int i;
    DST_CHECK(pthread_join(first, NULL) == 0);
    for (i = 0; i < 7; ++i)
        (void)start(nothing); /* one of them has the fiber that the first had */
    DST_CHECK(pthread_join(first, NULL) == 0);
}

static void *count_one(void *argument) {
    ++counter;
    return argument;
}

/* Threads one after the other, of which each has to see what the one before did. */
static void count_in_turn(int turns, bool last_is_hasty) {
    int i;
    for (i = 0; i < turns; ++i) {
        const pthread_t thread = start(count_one);
        if (last_is_hasty && i == turns - 1) {
            sleep_until_idle();
            ++counter; /* the thread has ended, but is not joined */
        }
        DST_CHECK(pthread_join(thread, NULL) == 0);
    }
}

DST(proof, more_threads_than_fibers_in_turn) {
    count_in_turn(12, false);
    DST_CHECK(counter == 12);
}

DST_BUG(proof, a_race_with_the_last_of_many, 1, "data race") {
    count_in_turn(12, true);
}

static void count_in_two(int index) {
    (void)index;
    count_in_turn(2, false);
}

DST_BUG(proof, threads_in_turn_beside_others, 1, "data race") {
    void (*const threads[])(int) = {count_in_two, count_in_two};
    dst_go(2, threads);
}

static void count_in_all(int index) {
    if (index == 1) sleep_until_idle();
    count_in_turn(index == 1 ? 1 : 5, false);
}

/* The second may not have a fiber that the first has joined: the race would not be seen. */
DST_BUG(proof, a_thread_without_a_fiber, 1, "at most 7 threads at a time") {
    void (*const threads[])(int) = {count_in_all, count_in_all};
    dst_go(2, threads);
}

/* ---- fences */

#if defined __GNUC__ && !defined __clang__
#pragma GCC diagnostic ignored "-Wtsan" /* it warns that TSan does not see them either */
#endif

static void send_with_a_fence(int index) {
    (void)index;
    data = 42;
    __atomic_thread_fence(__ATOMIC_RELEASE);
    STORE(&flag, 1, RELAXED);
}

DST_BUG(proof, a_message_with_a_fence, 1, "fences are not modelled") {
    void (*const threads[])(int) = {send_with_a_fence, receive};
    dst_go(2, threads);
}

/* ---- histories */

static uint32_t value;
enum { READ, WRITE };

static void register_use(int index) {
    int op;
    if (index < 2) {
        op = dst_called(WRITE, index + 1);
        STORE(&value, (uint32_t)index + 1, SEQ_CST);
        dst_returned(op, 0);
    } else {
        static uint32_t cached;
        op = dst_called(READ, 0);
        if (!broken || LOAD(&cached, RELAXED) == 0) STORE(&cached, LOAD(&value, SEQ_CST), RELAXED);
        dst_returned(op, LOAD(&cached, RELAXED));
    }
}

static bool register_apply(void *state, const dst_op *op) {
    int64_t now;
    memcpy(&now, state, sizeof now);
    if (op->kind == READ) return op->result == now;
    memcpy(state, &op->arg, sizeof op->arg);
    return true;
}

static void history(bool stale) {
    void (*const threads[])(int) = {register_use, register_use, register_use};
    broken = stale;
    dst_go(3, threads);
    register_use(2);
    dst_linearizable(sizeof(int64_t), register_apply);
}

DST(proof, a_history_with_an_order) {
    history(false);
}

DST_BUG(proof, a_history_without_an_order, 100, "no order explains") {
    history(true);
}

/* Proves the scheduler: known bugs are found within the schedules that are stated, and their
   correct twins are never accused.  Each pair differs in one line, chosen by `broken`. */
#define _DEFAULT_SOURCE /* clock_gettime */
#include "dst.h"

#include <pthread.h>
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

DST_BUG(proof, a_message_without_release, 20) {
    message_is = NO_RELEASE;
    message();
}

DST_BUG(proof, a_message_without_acquire, 20) {
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

DST_BUG(proof, a_counter_that_one_thread_does_not_lock, 10) {
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

DST_BUG_TSO(proof, a_handshake_that_is_released, 100) {
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

DST_BUG_TSO(proof, a_release_that_loses_the_wake_up, 1000) {
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
            DST_CHECK(holder[a] == 0);
            holder[a] = index + 1; /* plain: two holders race */
            holder[a] = 0;
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

DST_BUG(proof, a_free_list_without_a_tag, 2000) {
    free_list(0, false);
}

DST_BUG(proof, a_tag_of_one_bit, 20000) {
    free_list(1, false);
}

DST_BUG(proof, a_tag_of_two_bits, 100000) {
    free_list(3, false);
}

DST_BUG(proof, a_tag_from_a_stale_head, 100000) {
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

DST_BUG(proof, a_signal_on_the_edge_only, 2000) {
    cond_is = ON_THE_EDGE;
    produce_and_consume();
}

DST_BUG(proof, an_if_around_a_wait, 200) {
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

DST_BUG(proof, a_permit_that_comes_late_is_lost, 2000) {
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

DST_BUG(proof, a_wait_on_the_wall_clock, 10) {
    void (*const threads[])(int) = {wait_a_second};
    dst_go(1, threads);
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

DST_BUG(proof, two_locks_crossed, 50) {
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

DST_BUG(proof, a_reference_count_in_two_steps, 50) {
    reference_count(true);
}

static void read_shared(int index) {
    (void)index;
    DST_CHECK(shared->value == 7);
}

static void free_shared(int index) {
    (void)index;
    free(shared);
}

DST_BUG(proof, a_use_after_free, 10) {
    void (*const threads[])(int) = {read_shared, free_shared};
    shared = (struct shared *)malloc(sizeof *shared);
    shared->value = 7;
    dst_go(2, threads);
}

static int *nowhere;

DST_BUG(proof, a_crash, 1) {
    *nowhere = 7;
}

DST_BUG(proof, a_use_of_what_was_freed_before, 10) {
    void (*const threads[])(int) = {read_shared, read_shared};
    shared = (struct shared *)malloc(sizeof *shared);
    free(shared);
    dst_go(2, threads);
}

static void *nothing(void *argument) {
    return argument;
}

DST_BUG(proof, a_thread_that_is_not_joined, 1) {
    pthread_t thread;
    DST_CHECK(pthread_create(&thread, NULL, nothing, NULL) == 0);
}

DST_BUG(proof, a_mutex_that_stays, 1) {
    static pthread_mutex_t mutex;
    DST_CHECK(pthread_mutex_init(&mutex, NULL) == 0);
}

DST_BUG(proof, a_leak, 1) {
    DST_CHECK(malloc(10) != NULL);
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

DST_BUG(proof, a_history_without_an_order, 100) {
    history(true);
}

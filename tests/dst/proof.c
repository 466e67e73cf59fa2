/* Proves the scheduler: known bugs are found, and their correct twins never accused. */
#include "dst.h"
#include <pthread.h>

#define LOAD(p, order) __atomic_load_n((p), __ATOMIC_##order)
#define STORE(p, v, order) __atomic_store_n((p), (v), __ATOMIC_##order)
#define CAS(p, expected, v, order) \
    __atomic_compare_exchange_n((p), (expected), (v), 0, __ATOMIC_##order, __ATOMIC_RELAXED)

/* A message through a flag: the data must be released and acquired. */
static uint32_t flag;
static int data;
static bool broken_store, broken_load;

static void send(int index) {
    (void)index;
    data = 42;
    if (broken_store)
        STORE(&flag, 1, RELAXED);
    else
        STORE(&flag, 1, RELEASE);
}

static void receive(int index) {
    (void)index;
    if ((broken_load ? LOAD(&flag, RELAXED) : LOAD(&flag, ACQUIRE)) == 1) DST_CHECK(data == 42);
}

static void message(bool store, bool load) {
    void (*const threads[])(int) = {send, receive};
    broken_store = store;
    broken_load = load;
    dst_go(2, threads);
}

DST(proof, a_message_is_released_and_acquired) {
    message(false, false);
}
DST_BUG(proof, a_missing_release_is_found, 100) {
    message(true, false);
}
DST_BUG(proof, a_missing_acquire_is_found, 100) {
    message(false, true);
}

/* A race on plain data. */
static int counter;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void count_locked(int index) {
    (void)index;
    pthread_mutex_lock(&lock);
    ++counter;
    pthread_mutex_unlock(&lock);
}

static void count(int index) {
    (void)index;
    ++counter;
}

DST(proof, a_counter_under_a_mutex_counts) {
    void (*const threads[])(int) = {count_locked, count_locked, count_locked};
    dst_go(3, threads);
    DST_CHECK(counter == 3);
}
DST_BUG(proof, a_race_is_found, 10) {
    void (*const threads[])(int) = {count_locked, count};
    dst_go(2, threads);
}

/* Dekker's handshake: both sides must be seq_cst. */
static uint32_t wants[2];
static bool both[2], weak;

static void want(int index) {
    if (weak)
        STORE(&wants[index], 1, RELEASE);
    else
        STORE(&wants[index], 1, SEQ_CST);
    both[index] = LOAD(&wants[1 - index], SEQ_CST) == 0;
}

static void dekker(bool release) {
    void (*const threads[])(int) = {want, want};
    weak = release;
    dst_go(2, threads);
    DST_CHECK(!(both[0] && both[1]));
}

DST(proof, a_handshake_is_seq_cst) {
    dekker(false);
}
DST_BUG_TSO(proof, a_released_handshake_is_found, 1000) {
    dekker(true);
}

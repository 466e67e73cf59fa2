/*  cache_memoize.c - an expensive function, remembered.

    What it shows: get_or_load computes a value once, however many threads ask for it at once; it
    remembers it for as long as it was told to, and never more than it was told to.
    Build and run: make examples */
#define RM_IMPLEMENTATION
#include "rm.h"
#include "rm_cache.h"

#include <stdio.h>
#include <stdlib.h>

enum { THREADS = 8, ENTRIES = 10 };

static rm_cache *cache;
static int failures;

static void check(bool ok, const char *claim) {
    printf("%-4s %s\n", ok ? "ok" : "FAIL", claim);
    failures += !ok;
}

/* How many primes there are below n, by trial division: some milliseconds of honest work. */
static int64_t count_primes(int64_t n) {
    int64_t count = 0;
    for (int64_t i = 2; i < n; i++) {
        int64_t divisor = 2;
        while (divisor * divisor <= i && i % divisor != 0)
            divisor++;
        count += divisor * divisor > i;
    }
    return count;
}

/* The loader: runs on a miss, without a lock, once for all who wait for the key. */
static rm_status load_primes(rm_cache_load *load, const void *key, size_t key_size,
                             rm_deadline deadline, rm_error *error, void *user) {
    const int64_t n = *(const int64_t *)key;
    const int64_t count = count_primes(n);
    (void)key_size, (void)deadline, (void)user;
    if (n < 0) return rm_error_set(error, RM_E_INVALID, 0, "primes", "n must not be negative");
    return rm_cache_load_set(load, &count, sizeof count);
}

/* count_primes, remembered; -1 if it failed. */
static int64_t primes_below(int64_t n) {
    const rm_cache_loader loader = rm_cache_loader_make(load_primes, NULL);
    rm_cache_pin pin;
    rm_error error;
    rm_status status = rm_cache_get_or_load(cache, &n, sizeof n, &loader, RM_SEC(10), &pin, &error);
    if (status != RM_OK) return -1;
    const int64_t count = *(const int64_t *)pin.value; /* in place: no copy was made */
    (void)rm_cache_release(cache, &pin);
    return count;
}

static void ask(void *user) {
    *(int64_t *)user = primes_below(200000);
}

static uint64_t loads(void) {
    rm_cache_stats stats;
    return rm_cache_stats_get(cache, &stats) == RM_OK ? stats.loads : 0;
}

/* Eight threads ask for the same at once. */
static void ask_together(void) {
    rm_thread threads[THREADS];
    int64_t answers[THREADS], right = 0;
    for (int i = 0; i < THREADS; i++)
        if (rm_thread_start(&threads[i], ask, &answers[i]) != RM_OK) exit(1);
    for (int i = 0; i < THREADS; i++) {
        rm_thread_join(&threads[i]);
        right += answers[i] == 17984;
    }
    check(right == THREADS, "eight threads asked at once, and all got 17,984");
    check(loads() == 1, "but it was computed once");
}

int main(void) {
    rm_cache_desc desc = rm_cache_desc_default();
    rm_virtual_clock clock; /* time passes when we say so: nobody has to wait for an hour */
    rm_cache_stats stats;
    if (rm_virtual_clock_init(&clock, RM_SEC(1), false) != RM_OK) return 1;
    const rm_clock shown = rm_virtual_clock_clock(&clock);
    const rm_env env = {.clock = &shown};
    desc.name = "primes";
    desc.env = &env;
    desc.max_entries = ENTRIES;
    desc.ttl_ns = RM_SEC(3600);
    if (rm_cache_create(&desc, &cache, NULL) != RM_OK) return 1;
    ask_together();

    const int64_t began = rm_now(NULL), plain = count_primes(200000), between = rm_now(NULL);
    const int64_t cached = primes_below(200000), ended = rm_now(NULL);
    printf("computed in %lld us, remembered in %lld ns\n", (long long)((between - began) / 1000),
           (long long)(ended - between));
    check(plain == cached && ended - between < between - began, "remembering is faster");

    rm_virtual_clock_advance(&clock, RM_SEC(3600));
    check(primes_below(200000) == plain && loads() == 2, "after an hour it was computed anew");
    check(primes_below(-1) == -1 && primes_below(-1) == -1 && loads() == 4,
          "a failure is handed on and not remembered");
    for (int64_t n = 0; n < 100; n++)
        (void)primes_below(n);
    if (rm_cache_stats_get(cache, &stats) != RM_OK) return 1;
    printf("%u entries, %llu evicted, %llu hits, %llu misses\n", (unsigned)stats.entries,
           (unsigned long long)stats.evicted, (unsigned long long)stats.hits,
           (unsigned long long)stats.misses);
    check(stats.entries == ENTRIES && stats.evicted == 91, "never more than ten are remembered");
    check(stats.pins == 0 && rm_cache_destroy(cache) == RM_OK, "nothing was left behind");
    rm_virtual_clock_destroy(&clock);
    return failures == 0 ? 0 : 1;
}

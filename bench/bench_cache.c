/* What a cache costs: rm_cache.h beside the two recipes that C programs use, under one mutex each:
   GHashTable with GQueue (where glib.h is found), and uthash with its own order (where uthash.h is
   found). Keys of 16 bytes, values of 64 bytes that are copied in and out, 95 gets to 5 sets, every
   key in the cache; keys drawn evenly or by Zipf's law with exponent 0.99.

   Prints lines of area, case, threads, implementation, metric, value. ns_per_op is the processor
   time of one thread, or with two threads the wall time by all operations of both. Values are
   medians of that half of the interleaved repetitions which other processes disturbed least.
   cpu_share_percent is the least share of a processor that a thread had in them: below 85 the line
   of two threads says little. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* sched_setaffinity */
#endif
#define RM_IMPLEMENTATION
#include "rm_cache.h"

#ifdef __has_include
#if __has_include(<glib.h>)
#define HAVE_GLIB
#include <glib.h>
#endif
#if __has_include(<uthash.h>)
#define HAVE_UTHASH
#include <uthash.h>
#endif
#endif

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { REPETITIONS = 14, THREADS_MAX = 2, KEY_SIZE = 16, VALUE_SIZE = 64, SAMPLES = 1 << 20 };

#define SET_BIT 0x80000000u /* in a sample: this operation is a set */

static void need(bool ok) {
    if (!ok) abort();
}

/* ---- rm_cache: values copied out, or read in place through a pin ---- */

static rm_cache *rm;

static void rm_open(size_t entries) {
    rm_cache_desc desc = rm_cache_desc_default();
    desc.max_entries = (int64_t)entries;
    desc.max_bytes = RM_NONE;
    desc.ttl_ns = RM_NONE; /* the others have no time to live */
    need(rm_cache_create(&desc, &rm, NULL) == RM_OK);
}

static void rm_close(void) {
    need(rm_cache_destroy(rm) == RM_OK);
}

static bool rm_get(const void *key, void *value) {
    return rm_cache_get(rm, key, KEY_SIZE, value, VALUE_SIZE, NULL) == RM_OK;
}

static bool rm_get_pinned(const void *key, void *value) {
    rm_cache_pin pin;
    if (rm_cache_acquire(rm, key, KEY_SIZE, &pin) != RM_OK) return false;
    memcpy(value, pin.value, VALUE_SIZE);
    return rm_cache_release(rm, &pin) == RM_OK;
}

static void rm_set(const void *key, const void *value) {
    need(rm_cache_set(rm, key, KEY_SIZE, value, VALUE_SIZE, 0, NULL) == RM_OK);
}

/* ---- GHashTable and GQueue ---- */

#ifdef HAVE_GLIB
typedef struct glib_entry {
    unsigned char key[KEY_SIZE], value[VALUE_SIZE];
    GList link;
} glib_entry;

static struct {
    pthread_mutex_t mutex;
    GHashTable *table;
    GQueue queue;
    size_t entries;
} gl;

static guint glib_hash(gconstpointer key) { /* short and good, but anybody can prepare collisions */
    uint64_t word[2], hash;
    memcpy(word, key, sizeof word);
    hash = (word[0] ^ (word[1] * UINT64_C(0x9E3779B97F4A7C15))) * UINT64_C(0xBF58476D1CE4E5B9);
    return (guint)(hash >> 32);
}

static gboolean glib_equal(gconstpointer a, gconstpointer b) {
    return memcmp(a, b, KEY_SIZE) == 0;
}

static void glib_open(size_t entries) {
    need(pthread_mutex_init(&gl.mutex, NULL) == 0);
    gl.table = g_hash_table_new(glib_hash, glib_equal);
    g_queue_init(&gl.queue);
    gl.entries = entries;
}

static void glib_close(void) {
    GList *link;
    g_hash_table_destroy(gl.table);
    while ((link = g_queue_pop_head_link(&gl.queue)) != NULL)
        g_free(link->data);
    pthread_mutex_destroy(&gl.mutex);
}

static void glib_touch(glib_entry *entry) {
    g_queue_unlink(&gl.queue, &entry->link);
    g_queue_push_head_link(&gl.queue, &entry->link);
}

static bool glib_get(const void *key, void *value) {
    glib_entry *entry;
    pthread_mutex_lock(&gl.mutex);
    entry = g_hash_table_lookup(gl.table, key);
    if (entry != NULL) {
        glib_touch(entry);
        memcpy(value, entry->value, VALUE_SIZE);
    }
    pthread_mutex_unlock(&gl.mutex);
    return entry != NULL;
}

static void glib_set(const void *key, const void *value) {
    glib_entry *entry;
    pthread_mutex_lock(&gl.mutex);
    entry = g_hash_table_lookup(gl.table, key);
    if (entry != NULL) {
        glib_touch(entry);
    } else {
        if (g_queue_get_length(&gl.queue) >= gl.entries) {
            glib_entry *oldest = g_queue_pop_tail_link(&gl.queue)->data;
            g_hash_table_remove(gl.table, oldest->key);
            g_free(oldest);
        }
        entry = g_new0(glib_entry, 1);
        entry->link.data = entry;
        memcpy(entry->key, key, KEY_SIZE);
        g_hash_table_insert(gl.table, entry->key, entry);
        g_queue_push_head_link(&gl.queue, &entry->link);
    }
    memcpy(entry->value, value, VALUE_SIZE);
    pthread_mutex_unlock(&gl.mutex);
}
#endif

/* ---- uthash, as its manual makes an LRU cache: delete and add again ---- */

#ifdef HAVE_UTHASH
typedef struct ut_entry {
    unsigned char key[KEY_SIZE], value[VALUE_SIZE];
    UT_hash_handle hh;
} ut_entry;

static struct {
    pthread_mutex_t mutex;
    ut_entry *head;
    size_t entries;
} ut;

static void ut_open(size_t entries) {
    need(pthread_mutex_init(&ut.mutex, NULL) == 0);
    ut.head = NULL;
    ut.entries = entries;
}

static void ut_close(void) {
    ut_entry *entry, *next;
    HASH_ITER(hh, ut.head, entry, next) {
        HASH_DELETE(hh, ut.head, entry);
        free(entry);
    }
    pthread_mutex_destroy(&ut.mutex);
}

static bool ut_get(const void *key, void *value) {
    ut_entry *entry;
    pthread_mutex_lock(&ut.mutex);
    HASH_FIND(hh, ut.head, key, KEY_SIZE, entry);
    if (entry != NULL) {
        HASH_DELETE(hh, ut.head, entry);
        HASH_ADD(hh, ut.head, key, KEY_SIZE, entry);
        memcpy(value, entry->value, VALUE_SIZE);
    }
    pthread_mutex_unlock(&ut.mutex);
    return entry != NULL;
}

static void ut_set(const void *key, const void *value) {
    ut_entry *entry;
    pthread_mutex_lock(&ut.mutex);
    HASH_FIND(hh, ut.head, key, KEY_SIZE, entry);
    if (entry != NULL) {
        HASH_DELETE(hh, ut.head, entry);
    } else {
        if (HASH_COUNT(ut.head) >= ut.entries) {
            ut_entry *oldest = ut.head;
            HASH_DELETE(hh, ut.head, oldest);
            free(oldest);
        }
        entry = calloc(1, sizeof *entry);
        need(entry != NULL);
        memcpy(entry->key, key, KEY_SIZE);
    }
    memcpy(entry->value, value, VALUE_SIZE);
    HASH_ADD(hh, ut.head, key, KEY_SIZE, entry);
    pthread_mutex_unlock(&ut.mutex);
}
#endif

/* ---- the peers ---- */

typedef struct peer {
    const char *name;
    void (*open)(size_t entries);
    void (*close)(void);
    bool (*get)(const void *key, void *value);
    void (*set)(const void *key, const void *value);
} peer;

static const peer peers[] = {
    {"rm_cache", rm_open, rm_close, rm_get, rm_set},
    {"rm_cache_pin", NULL, NULL, rm_get_pinned, rm_set}, /* the same cache */
#ifdef HAVE_GLIB
    {"glib_mutex", glib_open, glib_close, glib_get, glib_set},
#endif
#ifdef HAVE_UTHASH
    {"uthash_mutex", ut_open, ut_close, ut_get, ut_set},
#endif
};

enum { PEERS = sizeof peers / sizeof *peers };

/* ---- keys ---- */

static uint32_t samples[2][SAMPLES]; /* even; Zipf */
static const char *const laws[2] = {"uniform", "zipf"};

static void make_key(uint32_t number, uint64_t key[2]) {
    uint64_t z = (number + 1) * UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    key[0] = z ^ (z >> 27);
    key[1] = number;
}

/* The first rank whose share of all draws, with those before it, is above u. */
static uint32_t rank_of(const double *sums, uint32_t entries, double u) {
    uint32_t low = 0, high = entries - 1;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (sums[middle] > u)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static void make_samples(uint32_t entries) {
    double *sums = malloc(entries * sizeof *sums), sum = 0;
    rm_rng rng;
    rm_random random = rm_rng_random(&rng);
    rm_rng_seed(&rng, entries);
    need(sums != NULL);
    for (uint32_t i = 0; i < entries; i++)
        sums[i] = sum += pow(i + 1, -0.99);
    for (uint32_t i = 0; i < SAMPLES; i++) {
        const double u = (double)(rm_rng_next(&rng) >> 11) * 0x1p-53 * sum;
        const uint64_t rank = rank_of(sums, entries, u);
        samples[0][i] = (uint32_t)rm_random_below(&random, entries);
        samples[1][i] = (uint32_t)(rank * 2654435761u % entries); /* the popular ones lie apart */
        for (int law = 0; law < 2; law++) {
            if (rm_random_below(&random, 100) < 5) samples[law][i] |= SET_BIT;
        }
    }
    free(sums);
}

/* ---- the measuring ---- */

typedef struct cell {
    uint32_t entries;
    int law, threads, peer;
    uint32_t ops; /* of each thread in a repetition */
    double ns[REPETITIONS], share[REPETITIONS];
} cell;

typedef struct runner {
    const cell *c;
    uint32_t *ready;
    int number;
    uint32_t offset;
    int64_t begin, end, cpu_ns;
    uint64_t hits, gets;
} runner;

static int64_t cpu_time(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void run(void *user) {
    runner *r = (runner *)user;
    const peer *p = &peers[r->c->peer];
    const uint32_t *stream = samples[r->c->law];
    const uint32_t threads = (uint32_t)r->c->threads, ops = r->c->ops;
    unsigned char value[VALUE_SIZE] = {0};
    uint64_t key[2];
    int64_t cpu;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)r->number, &set);
    (void)sched_setaffinity(0, sizeof set, &set); /* with one processor only it measures as well */
    __atomic_fetch_add(r->ready, 1, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(r->ready, __ATOMIC_ACQUIRE) < threads) {}
    cpu = cpu_time();
    r->begin = rm_now(NULL);
    for (uint32_t i = 0; i < ops; i++) {
        const uint32_t sample = stream[(r->offset + i) % SAMPLES];
        make_key(sample & ~SET_BIT, key);
        if (sample & SET_BIT) {
            p->set(key, value);
        } else {
            r->hits += p->get(key, value);
            r->gets++;
        }
    }
    r->end = rm_now(NULL);
    r->cpu_ns = cpu_time() - cpu;
}

static void measure(cell *c, int repetition) {
    rm_thread threads[THREADS_MAX];
    runner runners[THREADS_MAX];
    uint32_t ready = 0;
    int64_t begin = INT64_MAX, end = INT64_MIN;
    double share = 100;
    memset(runners, 0, sizeof runners);
    for (int i = 0; i < c->threads; i++) {
        runners[i].c = c;
        runners[i].ready = &ready;
        runners[i].number = i;
        runners[i].offset = (uint32_t)(repetition * 65537 + i * SAMPLES / 2);
        need(rm_thread_start(&threads[i], run, &runners[i]) == RM_OK);
    }
    for (int i = 0; i < c->threads; i++) {
        const runner *r = &runners[i];
        double had;
        rm_thread_join(&threads[i]);
        need(r->hits == r->gets); /* every key is there */
        had = 100.0 * (double)r->cpu_ns / (double)(r->end - r->begin);
        share = had < share ? had : share;
        begin = r->begin < begin ? r->begin : begin;
        end = r->end > end ? r->end : end;
    }
    c->share[repetition] = share;
    c->ns[repetition] =
        (double)(c->threads == 1 ? runners[0].cpu_ns : end - begin) / ((double)c->ops * c->threads);
}

static void sort(double *keys, double *along, int count) {
    for (int i = 1; i < count; i++) {
        const double key = keys[i], other = along[i];
        int at = i;
        for (; at > 0 && keys[at - 1] > key; at--) {
            keys[at] = keys[at - 1];
            along[at] = along[at - 1];
        }
        keys[at] = key;
        along[at] = other;
    }
}

static void print(cell *c) {
    const int half = REPETITIONS / 2;
    sort(c->share, c->ns, REPETITIONS);
    sort(c->ns + half, c->share + half, half); /* of those with the greater share */
    const char *name = peers[c->peer].name, *size = c->entries == 10000 ? "10k" : "1M";
    double least = 100;
    for (int i = half; i < REPETITIONS; i++)
        least = c->share[i] < least ? c->share[i] : least;
    printf("cache\t%s_%s_95_5\t%d\t%s\tns_per_op\t%.1f\n", size, laws[c->law], c->threads, name,
           c->ns[half + half / 2]);
    printf("cache\t%s_%s_95_5\t%d\t%s\tcpu_share_percent\t%.1f\n", size, laws[c->law], c->threads,
           name, least);
}

static void fill(uint32_t entries) {
    for (int p = 0; p < PEERS; p++) {
        if (peers[p].open == NULL) continue;
        peers[p].open(entries);
        for (uint32_t i = 0; i < entries; i++) {
            unsigned char value[VALUE_SIZE] = {0};
            uint64_t key[2];
            make_key((uint32_t)((uint64_t)i * 2654435761u % entries), key);
            peers[p].set(key, value);
        }
    }
}

/* All cells of one size; the caches stay filled meanwhile, since every key stays in them. */
static void measure_size(uint32_t entries, double repetition_ns) {
    static cell cells[2 * THREADS_MAX * PEERS];
    int count = 0;
    make_samples(entries);
    fill(entries);
    for (int law = 0; law < 2; law++)
        for (int threads = 1; threads <= THREADS_MAX; threads++)
            for (int p = 0; p < PEERS; p++) {
                cell *c = &cells[count++];
                c->entries = entries;
                c->law = law;
                c->threads = threads;
                c->peer = p;
                c->ops = entries > 100000 ? 40000 : 100000;
                measure(c, 0);
                c->ops = (uint32_t)(repetition_ns / (c->ns[0] > 1 ? c->ns[0] : 1) / threads);
            }
    for (int n = 0; n < REPETITIONS; n++)
        for (int i = 0; i < count; i++)
            measure(&cells[i], n);
    for (int i = 0; i < count; i++)
        print(&cells[i]);
    for (int p = 0; p < PEERS; p++)
        if (peers[p].close != NULL) peers[p].close();
}

int main(void) {
    measure_size(10000, 20e6);
    measure_size(1000000, 30e6);
    printf("cache\tmemory\t0\trm_cache\toverhead_bytes\t%d\n", RM_CACHE_OVERHEAD);
    return 0;
}

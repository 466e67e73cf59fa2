/*  fuzz.h - what the fuzz targets share: the input as numbers, checks, a clock and an allocator.

    A target decodes bytes into operations, does each on the object and on a model, and compares
    status, results and statistics.  A difference aborts.  Everything is a function of the input:
    time stands still unless the target moves it, random numbers are seeded.  Include this after
    the rm headers, which set feature-test macros.
*/
#ifndef FUZZ_H_INCLUDED
#define FUZZ_H_INCLUDED

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* >>checks */

#define CHECK(condition) ((condition) ? (void)0 : fuzz_fail(#condition, __FILE__, __LINE__))
#define CHECK_EQ(a, b) fuzz_equal((int64_t)(a), (int64_t)(b), #a " == " #b, __FILE__, __LINE__)

__attribute__((noreturn)) static inline void fuzz_fail(const char *what, const char *file,
                                                       int line) {
    fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
    abort();
}

static inline void fuzz_equal(int64_t a, int64_t b, const char *what, const char *file, int line) {
    if (a == b) return;
    fprintf(stderr, "%" PRId64 " and %" PRId64 "\n", a, b);
    fuzz_fail(what, file, line);
}

/* Two structs of one type, zeroed before they were filled in.  Says which byte differs. */
#define CHECK_SAME(a, b) fuzz_same((a), (b), sizeof *(a), #a " == " #b, __FILE__, __LINE__)
static inline void fuzz_same(const void *a, const void *b, size_t size, const char *what,
                             const char *file, int line) {
    size_t at = 0;
    while (at < size && ((const char *)a)[at] == ((const char *)b)[at])
        ++at;
    if (at == size) return;
    fprintf(stderr, "at byte %zu: %d and %d\n", at, ((const char *)a)[at], ((const char *)b)[at]);
    fuzz_fail(what, file, line);
}

/* >>input: at its end it reads as zeros */

typedef struct fuzz_input {
    const uint8_t *at, *end;
} fuzz_input;

static inline bool fuzz_more(const fuzz_input *in) {
    return in->at < in->end;
}

static inline uint32_t fuzz_byte(fuzz_input *in) {
    return in->at < in->end ? *in->at++ : 0;
}

static inline uint32_t fuzz_below(fuzz_input *in, uint32_t bound) {
    return fuzz_byte(in) % bound;
}

static inline int64_t fuzz_choose(fuzz_input *in, const int64_t *choices, size_t count) {
    return choices[fuzz_below(in, (uint32_t)count)];
}
#define FUZZ_CHOOSE(in, ...) \
    fuzz_choose((in), (int64_t[]){__VA_ARGS__}, sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t))

/* >>text */

/* The length of the character at p, 0 if it is none: decodes it and looks at the number. */
static inline size_t fuzz_character(const unsigned char *p, size_t size) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const size_t length = p[0] < 0x80 ? 1 : p[0] >> 5 == 6 ? 2 : p[0] >> 4 == 14 ? 3 : 4;
    uint32_t code = length == 1 ? p[0] : p[0] & (0x7Fu >> length);
    if (p[0] >> 6 == 2 || p[0] >= 0xF8 || length > size) return 0;
    for (size_t i = 1; i < length; ++i) {
        if (p[i] >> 6 != 2) return 0;
        code = code << 6 | (p[i] & 0x3Fu);
    }
    if (code < least[length] || code > 0x10FFFF || code >> 11 == 0xD800 >> 11) return 0;
    return length;
}

/* Copies text with U+FFFD for every byte that is not UTF-8; `to` has three times the room.
   Returns the length. */
static inline size_t fuzz_repair(char *to, const char *from, size_t size) {
    size_t used = 0, length;
    for (size_t i = 0; i<size; i += length> 0 ? length : 1) {
        length = fuzz_character((const unsigned char *)from + i, size - i);
        memcpy(to + used, length > 0 ? from + i : "\xEF\xBF\xBD", length > 0 ? length : 3);
        used += length > 0 ? length : 3;
    }
    to[used] = '\0';
    return used;
}

/* A string of up to most - 1 bytes, any but NUL. */
static inline void fuzz_string(fuzz_input *in, char *to, uint32_t most) {
    uint32_t size = fuzz_below(in, most);
    while (size-- > 0) {
        const uint32_t byte = fuzz_byte(in);
        *to++ = (char)(byte == 0 ? ' ' : byte);
    }
    *to = '\0';
}

/* value * 10^-decimals without trailing zeros, by moving digits. */
static inline void fuzz_decimal(char *to, uint64_t value, uint32_t decimals) {
    char digits[48];
    const int length = snprintf(digits, sizeof digits, "%0*" PRIu64, (int)decimals + 1, value);
    int end = length;
    while (end > length - (int)decimals && digits[end - 1] == '0')
        --end;
    memcpy(to, digits, (size_t)(length - (int)decimals));
    to += length - (int)decimals;
    if (end > length - (int)decimals) *to++ = '.';
    memcpy(to, digits + length - (int)decimals, (size_t)(end - (length - (int)decimals)));
    to[end - (length - (int)decimals)] = '\0';
}

/* >>clock: the target moves `now`; a wait asks wait_fn, or lets its time pass */

typedef struct fuzz_clock {
    int64_t now;
    int64_t behind;                    /* the coarse clock, by so much */
    void (*wait_fn)(int64_t until_ns); /* called without the waiter's lock; 0 = time passes */
} fuzz_clock;

static inline int64_t fuzz_clock_now(void *user) {
    return ((fuzz_clock *)user)->now;
}

static inline int64_t fuzz_clock_coarse(void *user) {
    return ((fuzz_clock *)user)->now - ((fuzz_clock *)user)->behind;
}

static inline rm_status fuzz_clock_sleep(int64_t ns, void *user) {
    fuzz_clock *clock = (fuzz_clock *)user;
    clock->now = rm_time_add(clock->now, ns);
    return RM_OK;
}

static inline void fuzz_clock_wait(rm_cond *cond, rm_mutex *mutex, int64_t until_ns, void *user) {
    fuzz_clock *clock = (fuzz_clock *)user;
    (void)cond;
    rm_mutex_unlock(mutex);
    if (clock->wait_fn != NULL)
        clock->wait_fn(until_ns);
    else
        clock->now = until_ns;
    rm_mutex_lock(mutex);
}

static inline rm_clock fuzz_clock_make(fuzz_clock *clock) {
    const rm_clock made = {fuzz_clock_now,   fuzz_clock_coarse, fuzz_clock_now,
                           fuzz_clock_sleep, fuzz_clock_wait,   clock};
    return made;
}

/* >>memory: counts what is out, refuses one request and what is huge, checks what is freed */

enum { FUZZ_HUGE = 64 << 20 };

/* In front of every block, in a ring. */
typedef struct fuzz_block {
    struct fuzz_block *next, *prev;
    size_t size;
    size_t align;
} fuzz_block;

typedef struct fuzz_memory {
    fuzz_block ring;
    uint64_t blocks; /* out now */
    uint64_t calls;
    uint64_t fail; /* the number of the call that is refused; 0 = none */
    uint64_t refused;
} fuzz_memory;

static inline void *fuzz_alloc(size_t size, void *user) {
    fuzz_memory *memory = (fuzz_memory *)user;
    fuzz_block *block;
    CHECK(size > 0);
    if (++memory->calls == memory->fail || size > FUZZ_HUGE) {
        ++memory->refused;
        return NULL;
    }
    block = (fuzz_block *)malloc(sizeof *block + size);
    CHECK(block != NULL);
    memset(block + 1, 0xA5, size < 4096 ? size : 4096); /* nobody may count on zeros */
    block->size = size;
    block->prev = &memory->ring;
    block->next = memory->ring.next;
    block->next->prev = memory->ring.next = block;
    ++memory->blocks;
    return block + 1;
}

static inline void fuzz_free(void *pointer, size_t size, void *user) {
    fuzz_memory *memory = (fuzz_memory *)user;
    fuzz_block *block = (fuzz_block *)pointer - 1;
    CHECK(size == block->size);
    block->next->prev = block->prev;
    block->prev->next = block->next;
    --memory->blocks;
    free(block);
}

static inline rm_allocator fuzz_memory_make(fuzz_memory *memory) {
    const rm_allocator made = {fuzz_alloc, fuzz_free, memory};
    memset(memory, 0, sizeof *memory);
    memory->ring.next = memory->ring.prev = &memory->ring;
    return made;
}

/* Frees what is still out: what the child of a fork must forget. */
static inline void fuzz_memory_drop(fuzz_memory *memory) {
    while (memory->blocks > 0)
        fuzz_free(memory->ring.next + 1, memory->ring.next->size, memory);
}

#endif /* FUZZ_H_INCLUDED */

/* An allocator that counts what is out and fails when told to; it fills what it frees. */
#ifndef PURSE_H_INCLUDED
#define PURSE_H_INCLUDED

#include "rm.h"

#include <stdlib.h>
#include <string.h>

typedef struct purse {
    int64_t calls, fails_at; /* this call fails; 0 = none */
    int64_t out;             /* bytes */
} purse;

static inline void *purse_alloc(size_t size, void *user) {
    purse *p = (purse *)user;
    if (__atomic_add_fetch(&p->calls, 1, __ATOMIC_RELAXED) == p->fails_at) return NULL;
    (void)__atomic_add_fetch(&p->out, (int64_t)size, __ATOMIC_RELAXED);
    return malloc(size);
}

static inline void purse_free(void *pointer, size_t size, void *user) {
    purse *p = (purse *)user;
    (void)__atomic_sub_fetch(&p->out, (int64_t)size, __ATOMIC_RELAXED);
    if (pointer != NULL) memset(pointer, 0xDD, size); /* all of it is ours */
    free(pointer);
}

/* The allocator of a purse, which is emptied. */
static inline rm_allocator purse_open(purse *p, int64_t fails_at) {
    rm_allocator allocator;
    memset(p, 0, sizeof *p);
    p->fails_at = fails_at;
    allocator.alloc_fn = purse_alloc;
    allocator.free_fn = purse_free;
    allocator.user = p;
    return allocator;
}

#endif /* PURSE_H_INCLUDED */

/*  memory.h - values of one C type by string keys in memory: rm_cache with types.
    SPDX-License-Identifier: MIT OR Unlicense

    #define RM_IMPLEMENTATION            // in exactly one C file; it emits this driver as well
    #include "rm.h"
    #include "rm_cache.h"
    #include "drivers/memory.h"

    typedef struct quote {
        double price;
        int64_t as_of;
    } quote;
    RMX_MEMORY_TYPE(quotes, quote) // quotes_get, quotes_set, quotes_get_or_load

    rmx_memory_desc desc = {.name = "quotes", .value_size = sizeof(quote), .ttl_ns = RM_SEC(5)};
    rmx_memory *memory;
    rm_error error;
    quote q = {9.95, 0};
    rm_status status = rmx_memory_create(&desc, &memory, &error);
    ...
    status = quotes_set(memory, "tea", &q, 0, &error);
    status = quotes_get(memory, "tea", &q);

    A value is copied in and out as bytes: it must be plain, and what it points at is not the
    memory's. With desc.load_fn, get_or_load loads what is missing: one caller at a time for a key.
    A split build defines RMX_MEMORY_IMPLEMENTATION in one file.
*/
#ifndef RMX_MEMORY_H_INCLUDED
#define RMX_MEMORY_H_INCLUDED

#include "rm.h"
#include "rm_cache.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A cache of values of one size. Opaque. */
typedef struct rmx_memory rmx_memory;

typedef struct rmx_memory_desc {
    const char *name;    /* at most 47 bytes, copied; 0 = "memory" */
    const rm_env *env;   /* 0 = defaults */
    size_t value_size;   /* sizeof the type; required */
    int64_t max_entries; /* the least recently used one makes room; 0 = 10,000 */
    int64_t ttl_ns;      /* time to live; 0 = 1 h; RM_NONE = for ever */
    /* hook: fills *value, which is zeroed; 0 = nothing can be loaded */
    rm_status (*load_fn)(const char *key, void *value, rm_deadline deadline, rm_error *error,
                         void *user);
    void *user; /* last argument of load_fn */
} rmx_memory_desc;

/* Makes an empty memory.
   Returns: RM_E_INVALID naming the field; RM_E_NOMEM; RM_E_SYSTEM.
   Threads: owner. Owns: the caller; rmx_memory_destroy. */
RM_API RM_MUST_USE rm_status rmx_memory_create(const rmx_memory_desc *desc, rmx_memory **out,
                                               rm_error *error);

/* Ends a memory; NULL is allowed.
   Returns: RM_E_BUSY, with nothing done, while a value is read or loaded.
   Threads: owner. */
RM_API rm_status rmx_memory_destroy(rmx_memory *memory);

/* Copies a value out.
   Returns: RM_E_NOT_FOUND; RM_E_INVALID for NULL.
   Threads: any. */
RM_API rm_status rmx_memory_get(rmx_memory *memory, const char *key, void *value);

/* Puts a value in. ttl_ns 0 = desc.ttl_ns.
   Returns: as rm_cache_set.
   Threads: any. */
RM_API rm_status rmx_memory_set(rmx_memory *memory, const char *key, const void *value,
                                int64_t ttl_ns, rm_error *error);

/* Copies a value out and loads it first if it is missing; timeout_ns as in rm_cache_get_or_load.
   Returns: RM_E_UNSUPPORTED without load_fn; as rm_cache_get_or_load.
   Threads: any. Blocks: up to timeout_ns, and in load_fn. */
RM_API RM_MUST_USE rm_status rmx_memory_get_or_load(rmx_memory *memory, const char *key,
                                                    int64_t timeout_ns, void *value,
                                                    rm_error *error);

/* Takes a value out.
   Returns: RM_E_NOT_FOUND; RM_E_INVALID for NULL.
   Threads: any. */
RM_API rm_status rmx_memory_delete(rmx_memory *memory, const char *key);

/* Reads the statistics. *hit_ratio (may be NULL) is hits / look-ups; 0 before the first.
   Returns: RM_E_INVALID for NULL.
   Threads: any. */
RM_API rm_status rmx_memory_stats_get(rmx_memory *memory, rm_cache_stats *out, double *hit_ratio);

/* The cache underneath, for the rest: clear, maintain, rm_cache_resource.
   Returns: the cache, which the memory owns; NULL for NULL.
   Threads: any. */
RM_API rm_cache *rmx_memory_cache(rmx_memory *memory);

/* Defines name_get, name_set and name_get_or_load, with which the compiler sees to the type. */
#define RMX_MEMORY_TYPE(name, type)                                                                \
    __attribute__((unused)) static rm_status name##_get(rmx_memory *memory, const char *key,       \
                                                        type *value) {                             \
        return rmx_memory_get(memory, key, value);                                                 \
    }                                                                                              \
    __attribute__((unused)) static rm_status name##_set(                                           \
        rmx_memory *memory, const char *key, const type *value, int64_t ttl_ns, rm_error *error) { \
        return rmx_memory_set(memory, key, value, ttl_ns, error);                                  \
    }                                                                                              \
    __attribute__((unused)) static rm_status name##_get_or_load(                                   \
        rmx_memory *memory, const char *key, int64_t timeout_ns, type *value, rm_error *error) {   \
        return rmx_memory_get_or_load(memory, key, timeout_ns, value, error);                      \
    }

#ifdef __cplusplus
}
#endif
#endif /* RMX_MEMORY_H_INCLUDED */

#if (defined(RM_IMPLEMENTATION) || defined(RMX_MEMORY_IMPLEMENTATION)) && \
    !defined(RMX_MEMORY_IMPLEMENTATION_DONE)
#define RMX_MEMORY_IMPLEMENTATION_DONE

#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

struct rmx_memory {
    rm_env env;
    rm_cache *cache;
    size_t value_size;
    rm_status (*load_fn)(const char *key, void *value, rm_deadline deadline, rm_error *error,
                         void *user);
    void *user;
};

/* Keys are stored with their end, so that load_fn gets a string. */
static rm_status rmx_memory_load(rm_cache_load *load, const void *key, size_t key_size,
                                 rm_deadline deadline, rm_error *error, void *user) {
    rmx_memory *memory = (rmx_memory *)user;
    void *value = rm_alloc(memory->env.allocator, memory->value_size);
    rm_status status;
    (void)key_size;
    if (value == NULL) return rm_error_set(error, RM_E_NOMEM, 0, "memory", "no memory for a value");
    memset(value, 0, memory->value_size);
    status = memory->load_fn((const char *)key, value, deadline, error, memory->user);
    if (status == RM_OK) status = rm_cache_load_set(load, value, memory->value_size);
    rm_free(memory->env.allocator, value, memory->value_size);
    return status;
}

RM_API rm_status rmx_memory_create(const rmx_memory_desc *desc, rmx_memory **out, rm_error *error) {
    rm_cache_desc cache = rm_cache_desc_default();
    rmx_memory *memory;
    rm_status status;
    rm_env env;
    if (desc == NULL || out == NULL || desc->value_size == 0)
        return rm_error_set(error, RM_E_INVALID, 0, "value_size",
                            "desc or out is NULL, or value_size 0");
    status = rm_env_resolve(desc->env, &env, error);
    if (status != RM_OK) return status;
    memory = (rmx_memory *)rm_alloc(env.allocator, sizeof *memory);
    if (memory == NULL)
        return rm_error_set(error, RM_E_NOMEM, 0, "memory", "no memory for a memory");
    memset(memory, 0, sizeof *memory);
    memory->env = env;
    memory->value_size = desc->value_size;
    memory->load_fn = desc->load_fn;
    memory->user = desc->user;
    cache.name = desc->name == NULL ? "memory" : desc->name;
    cache.env = &env;
    cache.max_entries = desc->max_entries;
    cache.max_bytes = RM_NONE;
    cache.ttl_ns = desc->ttl_ns;
    status = rm_cache_create(&cache, &memory->cache, error);
    if (status == RM_OK)
        *out = memory;
    else
        rm_free(env.allocator, memory, sizeof *memory);
    return status;
}

RM_API rm_status rmx_memory_destroy(rmx_memory *memory) {
    rm_env env;
    if (memory == NULL) return RM_OK;
    env = memory->env;
    if (rm_cache_destroy(memory->cache) != RM_OK) return RM_E_BUSY;
    rm_free(env.allocator, memory, sizeof *memory);
    return RM_OK;
}

RM_API rm_status rmx_memory_get(rmx_memory *memory, const char *key, void *value) {
    if (memory == NULL || key == NULL || value == NULL) return RM_E_INVALID;
    return rm_cache_get(memory->cache, key, strlen(key) + 1, value, memory->value_size, NULL);
}

RM_API rm_status rmx_memory_set(rmx_memory *memory, const char *key, const void *value,
                                int64_t ttl_ns, rm_error *error) {
    if (memory == NULL || key == NULL || value == NULL)
        return rm_error_set(error, RM_E_INVALID, 0, "memory", "memory, key or value is NULL");
    return rm_cache_set(memory->cache, key, strlen(key) + 1, value, memory->value_size, ttl_ns,
                        error);
}

RM_API rm_status rmx_memory_get_or_load(rmx_memory *memory, const char *key, int64_t timeout_ns,
                                        void *value, rm_error *error) {
    rm_cache_loader loader = rm_cache_loader_make(rmx_memory_load, memory);
    rm_cache_pin pin;
    rm_status status;
    if (memory == NULL || key == NULL || value == NULL)
        return rm_error_set(error, RM_E_INVALID, 0, "memory", "memory, key or value is NULL");
    if (memory->load_fn == NULL)
        return rm_error_set(error, RM_E_UNSUPPORTED, 0, "load_fn", "there is none");
    status =
        rm_cache_get_or_load(memory->cache, key, strlen(key) + 1, &loader, timeout_ns, &pin, error);
    if (status != RM_OK) return status;
    memcpy(value, pin.value, memory->value_size);
    return rm_cache_release(memory->cache, &pin);
}

RM_API rm_status rmx_memory_delete(rmx_memory *memory, const char *key) {
    if (memory == NULL || key == NULL) return RM_E_INVALID;
    return rm_cache_delete(memory->cache, key, strlen(key) + 1);
}

RM_API rm_status rmx_memory_stats_get(rmx_memory *memory, rm_cache_stats *out, double *hit_ratio) {
    const rm_status status = memory == NULL ? RM_E_INVALID : rm_cache_stats_get(memory->cache, out);
    if (status == RM_OK && hit_ratio != NULL) {
        const uint64_t asked = out->hits + out->misses;
        *hit_ratio = asked == 0 ? 0.0 : (double)out->hits / (double)asked;
    }
    return status;
}

RM_API rm_cache *rmx_memory_cache(rmx_memory *memory) {
    return memory == NULL ? NULL : memory->cache;
}

#ifdef __cplusplus
}
#endif
#endif /* RMX_MEMORY_IMPLEMENTATION_DONE */

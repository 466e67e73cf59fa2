/* The base: the registry of objects by key. */
#include "rm.h"
#include "rm_test.h"

#include <stdlib.h>

#define GET(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
#define SET(p, v) __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)
#define ADD(p, v) __atomic_add_fetch((p), (v), __ATOMIC_SEQ_CST)

/* >>tools --------------------------------------------------------------------------------- */

/* An allocator that fails at the n-th call and counts what is out. */
typedef struct ledger {
    int calls, fail_at; /* 0 = never */
    int64_t blocks, bytes;
} ledger;

static void *ledger_alloc(size_t size, void *user) {
    ledger *books = (ledger *)user;
    if (++books->calls == books->fail_at) return NULL;
    books->blocks++;
    books->bytes += (int64_t)size;
    return malloc(size);
}

static void ledger_free(void *pointer, size_t size, void *user) {
    ledger *books = (ledger *)user;
    books->blocks--;
    books->bytes -= (int64_t)size;
    free(pointer);
}

/* What the registry holds: an object that remembers its key. */
typedef struct object {
    char key[16];
    int evictable;
} object;

/* What happened to the objects, and what the hooks shall do. */
typedef struct world {
    rm_registry *registry;
    int created, destroyed;
    rm_status fail; /* of create_fn */
    bool say_why;
    char last_destroyed[16];
} world;

static rm_status make(const void *key, size_t size, void **value, rm_error *error, void *user) {
    world *w = (world *)user;
    object *made;
    if (w->fail != RM_OK && w->say_why)
        return rm_error_set(error, w->fail, 5, "object", "no such thing as %.*s", (int)size,
                            (const char *)key);
    if (w->fail != RM_OK) return w->fail;
    made = (object *)calloc(1, sizeof *made);
    if (!CHECK(made != NULL && size < sizeof made->key)) return RM_E_NOMEM;
    if (size > 0) memcpy(made->key, key, size);
    made->evictable = 1;
    ADD(&w->created, 1);
    *value = made;
    return RM_OK;
}

static void unmake(void *value, void *user) {
    world *w = (world *)user;
    ADD(&w->destroyed, 1);
    memcpy(w->last_destroyed, ((object *)value)->key, sizeof w->last_destroyed);
    free(value);
}

static bool may_go(void *value, void *user) {
    (void)user;
    return GET(&((object *)value)->evictable) != 0;
}

static rm_registry_desc desc_of(world *w, uint32_t max_entries) {
    rm_registry_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.max_entries = max_entries;
    desc.create_fn = make;
    desc.destroy_fn = unmake;
    desc.evictable_fn = may_go;
    desc.user = w;
    return desc;
}

static void build(world *w, uint32_t max_entries) {
    const rm_registry_desc desc = desc_of(w, max_entries);
    memset(w, 0, sizeof *w);
    if (!CHECK(rm_registry_create(&desc, &w->registry, NULL) == RM_OK)) exit(1);
}

static rm_registry_ref get(world *w, const char *key) {
    rm_registry_ref ref;
    rm_error error;
    memset(&ref, 0, sizeof ref);
    if (CHECK(rm_registry_get(w->registry, key, strlen(key), &ref, &error) == RM_OK))
        CHECK_STR(((object *)ref.value)->key, key);
    return ref;
}

static void put(world *w, rm_registry_ref *ref) {
    CHECK_EQ(rm_registry_put(w->registry, ref), RM_OK);
}

static void touch(world *w, const char *key) {
    rm_registry_ref ref = get(w, key);
    put(w, &ref);
}

/* Ends the registry: whatever was made must be unmade by then. */
static void tear_down(world *w) {
    CHECK_EQ(rm_registry_destroy(w->registry), RM_OK);
    CHECK_EQ(w->created, w->destroyed);
}

/* >>one thread ---------------------------------------------------------------------------- */

TEST(registry, makes_an_object_on_first_use_and_finds_it_again) {
    rm_registry_ref a, again, b;
    world w;
    build(&w, 4);
    a = get(&w, "a");
    again = get(&w, "a");
    b = get(&w, "b");
    CHECK(a.value == again.value && a.value != b.value);
    CHECK_EQ(w.created, 2);
    CHECK_EQ(rm_registry_count(w.registry), 2);
    put(&w, &a);
    put(&w, &again);
    put(&w, &b);
    CHECK_EQ(rm_registry_count(w.registry), 2);
    tear_down(&w);
}

TEST(registry, without_create_fn_only_finds) {
    rm_registry_desc desc;
    rm_registry *registry;
    rm_registry_ref ref;
    rm_error error;
    memset(&desc, 0, sizeof desc);
    memset(&error, 0, sizeof error);
    REQUIRE(rm_registry_create(&desc, &registry, NULL) == RM_OK);
    CHECK_EQ(rm_registry_get(registry, "a", 1, &ref, &error), RM_E_NOT_FOUND);
    CHECK_EQ(error.status, RM_E_NOT_FOUND);
    CHECK_EQ(rm_registry_remove(registry, "a", 1), RM_E_NOT_FOUND);
    CHECK_EQ(rm_registry_count(registry), 0);
    CHECK_EQ(rm_registry_destroy(registry), RM_OK);
}

TEST(registry, takes_keys_of_any_bytes_up_to_max_key) {
    static const char zero_bytes[3] = {0, 0, 0};
    rm_registry_ref refs[5];
    rm_registry_desc desc;
    rm_error error;
    world w;
    memset(&w, 0, sizeof w);
    desc = desc_of(&w, 8);
    desc.max_key = 3;
    REQUIRE(rm_registry_create(&desc, &w.registry, NULL) == RM_OK);
    CHECK_EQ(rm_registry_get(w.registry, NULL, 0, &refs[0], NULL), RM_OK);
    CHECK_EQ(rm_registry_get(w.registry, "", 0, &refs[1], NULL), RM_OK);
    CHECK_EQ(rm_registry_get(w.registry, zero_bytes, 1, &refs[2], NULL), RM_OK);
    CHECK_EQ(rm_registry_get(w.registry, zero_bytes, 2, &refs[3], NULL), RM_OK);
    CHECK_EQ(rm_registry_get(w.registry, zero_bytes, 3, &refs[4], NULL), RM_OK);
    CHECK_EQ(w.created, 4); /* the first two are one */
    memset(&error, 0xAA, sizeof error);
    refs[0].slot = 77;
    CHECK_EQ(rm_registry_get(w.registry, "abcd", 4, &refs[0], &error), RM_E_TOO_LARGE);
    CHECK_STR(error.where, "key");
    CHECK_EQ(error.native, 0);
    CHECK_EQ(rm_registry_get(w.registry, "a", SIZE_MAX, &refs[0], NULL), RM_E_TOO_LARGE);
    CHECK_EQ(rm_registry_remove(w.registry, "abcd", 4), RM_E_NOT_FOUND);
    CHECK_EQ(rm_registry_remove(w.registry, "a", SIZE_MAX), RM_E_NOT_FOUND);
    CHECK_EQ(refs[0].slot, 77); /* left alone */
    refs[0] = refs[1];
    for (int i = 1; i < 5; ++i)
        put(&w, &refs[i]);
    CHECK_EQ(rm_registry_put(w.registry, &refs[0]), RM_OK);
    tear_down(&w);
}

TEST(registry, is_full_at_its_bound_while_all_is_borrowed) {
    rm_registry_ref refs[3], more;
    rm_error error;
    world w;
    build(&w, 3);
    refs[0] = get(&w, "a");
    refs[1] = get(&w, "b");
    refs[2] = get(&w, "c");
    memset(&error, 0xAA, sizeof error);
    CHECK_EQ(rm_registry_get(w.registry, "d", 1, &more, &error), RM_E_FULL);
    CHECK(error.status == RM_E_FULL && error.native == 0 &&
          strstr(error.message, "max_entries") != NULL);
    CHECK_EQ(w.created, 3);
    put(&w, &refs[1]);
    more = get(&w, "d"); /* the one that was given back makes room */
    CHECK_STR(w.last_destroyed, "b");
    CHECK_EQ(rm_registry_count(w.registry), 3);
    put(&w, &refs[0]);
    put(&w, &refs[2]);
    put(&w, &more);
    tear_down(&w);
}

TEST(registry, evicts_only_what_may_go) {
    rm_registry_desc desc;
    rm_registry_ref ref;
    world w;
    build(&w, 2);
    ref = get(&w, "a");
    ((object *)ref.value)->evictable = 0;
    put(&w, &ref);
    touch(&w, "b");
    touch(&w, "c");
    CHECK_STR(w.last_destroyed, "b");
    touch(&w, "d");
    CHECK_STR(w.last_destroyed, "c");
    ref = get(&w, "d");
    ((object *)ref.value)->evictable = 0;
    put(&w, &ref);
    CHECK_EQ(rm_registry_get(w.registry, "e", 1, &ref, NULL), RM_E_FULL);
    tear_down(&w);
    memset(&w, 0, sizeof w);
    desc = desc_of(&w, 1);
    desc.evictable_fn = NULL; /* nothing may */
    REQUIRE(rm_registry_create(&desc, &w.registry, NULL) == RM_OK);
    touch(&w, "a");
    CHECK_EQ(rm_registry_get(w.registry, "b", 1, &ref, NULL), RM_E_FULL);
    tear_down(&w);
}

static bool see(const void *key, size_t size, void *value, void *user) {
    CHECK(size == 1 && ((object *)value)->key[0] == *(const char *)key);
    (void)strncat((char *)user, (const char *)key, size);
    return true;
}

TEST(registry, gives_a_used_entry_a_second_chance) {
    char seen[16] = "";
    world w;
    build(&w, 3);
    touch(&w, "a");
    touch(&w, "b");
    touch(&w, "c");
    touch(&w, "d"); /* all were used: the hand takes the first after one round */
    CHECK_STR(w.last_destroyed, "a");
    touch(&w, "b");
    rm_registry_each(w.registry, see, seen); /* looking at all of them is no use of them */
    touch(&w, "e");
    CHECK_STR(w.last_destroyed, "c"); /* not b, which was used since */
    CHECK_EQ(strlen(seen), 3);
    tear_down(&w);
}

TEST(registry, removes_what_is_not_borrowed) {
    rm_registry_ref ref;
    world w;
    build(&w, 3);
    ref = get(&w, "a");
    touch(&w, "b");
    CHECK_EQ(rm_registry_remove(w.registry, "a", 1), RM_E_BUSY);
    CHECK_EQ(rm_registry_remove(w.registry, "b", 1), RM_OK);
    CHECK_STR(w.last_destroyed, "b");
    CHECK_EQ(rm_registry_remove(w.registry, "b", 1), RM_E_NOT_FOUND);
    put(&w, &ref);
    CHECK_EQ(rm_registry_remove(w.registry, "a", 1), RM_OK);
    CHECK_EQ(rm_registry_count(w.registry), 0);
    touch(&w, "a"); /* made again */
    CHECK_EQ(w.created, 3);
    tear_down(&w);
}

TEST(registry, tells_a_reference_that_is_none_any_more) {
    rm_registry_ref ref, copy;
    world w;
    build(&w, 1);
    ref = get(&w, "a");
    copy = ref;
    put(&w, &ref);
    CHECK(ref.value == NULL && ref.slot == 0 && ref.generation == 0);
    CHECK_EQ(rm_registry_put(w.registry, &ref), RM_E_STALE);  /* cleared */
    CHECK_EQ(rm_registry_put(w.registry, &copy), RM_E_STALE); /* nobody borrows it */
    CHECK_EQ(rm_registry_remove(w.registry, "a", 1), RM_OK);
    CHECK_EQ(rm_registry_put(w.registry, &copy), RM_E_STALE); /* gone */
    ref = get(&w, "b");                                       /* in the same slot */
    CHECK_EQ(ref.slot, copy.slot);
    CHECK_EQ(rm_registry_put(w.registry, &copy), RM_E_STALE);
    CHECK(copy.value != NULL); /* left alone */
    put(&w, &ref);
    touch(&w, "c"); /* evicts b */
    CHECK_EQ(w.destroyed, 2);
    copy.slot = 1;
    CHECK_EQ(rm_registry_put(w.registry, &copy), RM_E_STALE); /* no such slot */
    copy.slot = UINT32_MAX;
    CHECK_EQ(rm_registry_put(w.registry, &copy), RM_E_STALE);
    tear_down(&w);
}

TEST(registry, lends_again_by_a_reference_while_its_object_lives) {
    rm_registry_ref ref, copy, held;
    world w;
    build(&w, 1);
    copy = ref = get(&w, "a");
    CHECK_EQ(rm_registry_hold(w.registry, &ref, &held), RM_OK);
    put(&w, &ref);
    CHECK_EQ(rm_registry_remove(w.registry, "a", 1), RM_E_BUSY); /* it is held */
    put(&w, &held);
    CHECK_EQ(rm_registry_hold(w.registry, &copy, &held), RM_OK); /* it is there, and not borrowed */
    put(&w, &held);
    CHECK_EQ(rm_registry_remove(w.registry, "a", 1), RM_OK);
    CHECK_EQ(rm_registry_hold(w.registry, &copy, &held), RM_E_STALE);
    touch(&w, "b"); /* in the same slot */
    CHECK_EQ(rm_registry_hold(w.registry, &copy, &held), RM_E_STALE);
    CHECK_EQ(rm_registry_hold(w.registry, &ref, &held), RM_E_STALE); /* cleared */
    copy.slot = 1;
    CHECK_EQ(rm_registry_hold(w.registry, &copy, &held), RM_E_STALE); /* no such slot */
    tear_down(&w);
}

static rm_status make_none(const void *key, size_t size, void **value, rm_error *error,
                           void *user) {
    (void)key, (void)size, (void)value, (void)error, (void)user;
    return RM_OK; /* all objects are NULL */
}

TEST(registry, tells_an_old_reference_by_its_age_alone) {
    rm_registry_desc desc;
    rm_registry *registry;
    rm_registry_ref ref, copy;
    memset(&desc, 0, sizeof desc);
    desc.max_entries = 1;
    desc.create_fn = make_none;
    REQUIRE(rm_registry_create(&desc, &registry, NULL) == RM_OK);
    REQUIRE(rm_registry_get(registry, "a", 1, &ref, NULL) == RM_OK);
    copy = ref;
    CHECK_EQ(rm_registry_put(registry, &ref), RM_OK);
    CHECK_EQ(rm_registry_remove(registry, "a", 1), RM_OK);
    REQUIRE(rm_registry_get(registry, "a", 1, &ref, NULL) == RM_OK);
    CHECK(ref.slot == copy.slot && ref.value == copy.value);
    CHECK_EQ(rm_registry_put(registry, &copy), RM_E_STALE);
    CHECK_EQ(rm_registry_put(registry, &ref), RM_OK);
    CHECK_EQ(rm_registry_destroy(registry), RM_OK);
}

TEST(registry, tells_a_reference_of_another_registry) {
    rm_registry_ref ours, foreign;
    world a, b;
    build(&a, 1);
    build(&b, 1);
    ours = get(&a, "x");
    foreign = get(&b, "x"); /* same slot, same age */
    CHECK_EQ(rm_registry_put(a.registry, &foreign), RM_E_STALE);
    CHECK_EQ(rm_registry_put(b.registry, &ours), RM_E_STALE);
    CHECK_EQ(rm_registry_remove(a.registry, "x", 1), RM_E_BUSY);
    put(&a, &ours);
    put(&b, &foreign);
    tear_down(&a);
    tear_down(&b);
}

static bool stop_at_second(const void *key, size_t size, void *value, void *user) {
    (void)key, (void)size, (void)value;
    return ++*(int *)user < 2;
}

/* Uses and changes the registry during the visit. */
static bool meddle(const void *key, size_t size, void *value, void *user) {
    world *w = (world *)user;
    rm_registry_ref ref;
    (void)value;
    CHECK_EQ(rm_registry_remove(w->registry, key, size), RM_E_BUSY); /* it is borrowed */
    CHECK_EQ(rm_registry_destroy(w->registry), RM_E_BUSY);
    CHECK_EQ(rm_registry_get(w->registry, key, size, &ref, NULL), RM_OK);
    put(w, &ref);
    (void)rm_registry_remove(w->registry, "c", 1);
    touch(w, "d");
    return true;
}

TEST(registry, each_visits_every_entry_until_told_to_stop) {
    char seen[16] = "";
    int count = 0;
    world w;
    build(&w, 4);
    rm_registry_each(w.registry, see, seen);
    CHECK_STR(seen, "");
    touch(&w, "a");
    touch(&w, "b");
    touch(&w, "c");
    rm_registry_each(w.registry, see, seen);
    CHECK_EQ(strlen(seen), 3);
    CHECK(strchr(seen, 'a') != NULL && strchr(seen, 'b') != NULL && strchr(seen, 'c') != NULL);
    rm_registry_each(w.registry, stop_at_second, &count);
    CHECK_EQ(count, 2);
    rm_registry_each(w.registry, meddle, &w);
    CHECK_EQ(rm_registry_count(w.registry), 3);
    tear_down(&w);
}

TEST(registry, destroy_is_refused_while_something_is_borrowed) {
    rm_registry_ref ref;
    world w;
    build(&w, 2);
    touch(&w, "a");
    ref = get(&w, "b");
    CHECK_EQ(rm_registry_destroy(w.registry), RM_E_BUSY);
    CHECK_EQ(w.destroyed, 0);
    put(&w, &ref);
    tear_down(&w);
    CHECK_EQ(w.destroyed, 2);
    CHECK_EQ(rm_registry_destroy(NULL), RM_OK);
}

TEST(registry, passes_on_why_an_object_could_not_be_made) {
    ledger books = {0, 0, 0, 0};
    const rm_allocator allocator = {ledger_alloc, ledger_free, &books};
    const rm_env env = {&allocator, NULL, NULL, NULL};
    rm_registry_ref ref;
    rm_registry_desc desc;
    rm_error error;
    int64_t blocks;
    world w;
    memset(&w, 0, sizeof w);
    desc = desc_of(&w, 1);
    desc.env = &env;
    REQUIRE(rm_registry_create(&desc, &w.registry, NULL) == RM_OK);
    blocks = books.blocks;
    w.fail = RM_E_REFUSED;
    w.say_why = true;
    memset(&error, 0, sizeof error);
    CHECK_EQ(rm_registry_get(w.registry, "a", 1, &ref, &error), RM_E_REFUSED);
    CHECK(error.status == RM_E_REFUSED && error.native == 5);
    CHECK_STR(error.message, "no such thing as a");
    CHECK_EQ(rm_registry_get(w.registry, "a", 1, &ref, NULL), RM_E_REFUSED);
    w.say_why = false; /* a record is filled all the same */
    memset(&error, 0, sizeof error);
    CHECK_EQ(rm_registry_get(w.registry, "a", 1, &ref, &error), RM_E_REFUSED);
    CHECK(error.status == RM_E_REFUSED && error.message[0] != '\0');
    CHECK_EQ(rm_registry_count(w.registry), 0);
    CHECK_EQ(books.blocks, blocks);
    w.fail = RM_OK;
    touch(&w, "a"); /* the slot is not lost */
    tear_down(&w);
}

TEST(registry, refuses_a_desc_out_of_bounds) {
    rm_registry *registry = NULL;
    rm_registry_desc desc;
    rm_allocator half = {ledger_alloc, NULL, NULL};
    rm_env env;
    rm_error error;
    memset(&desc, 0, sizeof desc);
    memset(&error, 0, sizeof error);
    desc.max_entries = (1u << 24) + 1;
    CHECK_EQ(rm_registry_create(&desc, &registry, &error), RM_E_INVALID);
    CHECK_STR(error.where, "max_entries");
    desc.max_entries = 0;
    desc.stripes = 257;
    CHECK_EQ(rm_registry_create(&desc, &registry, &error), RM_E_INVALID);
    CHECK_STR(error.where, "stripes");
    desc.stripes = UINT32_MAX;
    CHECK_EQ(rm_registry_create(&desc, &registry, NULL), RM_E_INVALID);
    desc.stripes = 0;
    memset(&env, 0, sizeof env);
    env.allocator = &half;
    desc.env = &env;
    CHECK_EQ(rm_registry_create(&desc, &registry, &error), RM_E_INVALID);
    CHECK_STR(error.where, "env.allocator");
    CHECK(registry == NULL);
}

TEST(registry, works_with_any_number_of_stripes) {
    static const uint32_t stripes[] = {1, 2, 3, 255, 256};
    static const uint32_t entries[] = {1, 2, 7, 100};
    for (int i = 0; i < 5; ++i)
        for (int k = 0; k < 4; ++k) {
            rm_registry_ref refs[100];
            rm_registry_desc desc;
            char key[16];
            world w;
            memset(&w, 0, sizeof w);
            desc = desc_of(&w, entries[k]);
            desc.stripes = stripes[i];
            REQUIRE(rm_registry_create(&desc, &w.registry, NULL) == RM_OK);
            for (uint32_t n = 0; n < entries[k]; ++n) {
                (void)snprintf(key, sizeof key, "key %u", (unsigned)n);
                refs[n] = get(&w, key);
            }
            CHECK_EQ(rm_registry_get(w.registry, "one more", 8, &refs[0], NULL), RM_E_FULL);
            CHECK_EQ(rm_registry_count(w.registry), entries[k]);
            for (uint32_t n = 0; n < entries[k]; ++n)
                put(&w, &refs[n]);
            for (uint32_t n = 0; n < 3 * entries[k]; ++n) { /* all make room, over and over */
                (void)snprintf(key, sizeof key, "new %u", (unsigned)n);
                touch(&w, key);
            }
            CHECK_EQ(rm_registry_count(w.registry), entries[k]);
            tear_down(&w);
        }
}

TEST(registry, survives_every_allocation_failing_in_turn) {
    for (int at = 1;; ++at) {
        ledger books = {0, at, 0, 0};
        const rm_allocator allocator = {ledger_alloc, ledger_free, &books};
        const rm_env env = {&allocator, NULL, NULL, NULL};
        rm_registry_desc desc;
        rm_registry_ref ref;
        rm_error error;
        world w;
        memset(&w, 0, sizeof w);
        memset(&error, 0, sizeof error);
        desc = desc_of(&w, 4);
        desc.env = &env;
        if (rm_registry_create(&desc, &w.registry, &error) != RM_OK) {
            CHECK(error.status == RM_E_NOMEM && at <= 4 && w.registry == NULL);
            CHECK(books.blocks == 0 && books.bytes == 0);
            continue;
        }
        for (int i = 0; i < 3; ++i) {
            const char key[2] = {(char)('a' + i), '\0'};
            const rm_status status = rm_registry_get(w.registry, key, 1, &ref, &error);
            CHECK_EQ(status, books.calls == at ? RM_E_NOMEM : RM_OK);
            if (status == RM_OK)
                put(&w, &ref);
            else
                CHECK_EQ(error.status, RM_E_NOMEM);
            if (status != RM_OK) books.fail_at = 0;
            touch(&w, key); /* the failure has left nothing behind */
        }
        CHECK_EQ(rm_registry_count(w.registry), 3);
        CHECK_EQ(rm_registry_remove(w.registry, "b", 1), RM_OK);
        tear_down(&w);
        CHECK(books.blocks == 0 && books.bytes == 0);
        if (books.fail_at != 0) break; /* the one that should have failed did not come */
    }
}

TEST(registry, survives_null) {
    rm_registry_ref ref;
    rm_registry *registry = NULL;
    rm_registry_desc desc;
    world w;
    build(&w, 1);
    memset(&desc, 0, sizeof desc);
    memset(&ref, 0, sizeof ref);
    CHECK_EQ(rm_registry_create(NULL, &registry, NULL), RM_E_INVALID);
    CHECK_EQ(rm_registry_create(&desc, NULL, NULL), RM_E_INVALID);
    CHECK_EQ(rm_registry_get(NULL, "a", 1, &ref, NULL), RM_E_INVALID);
    CHECK_EQ(rm_registry_get(w.registry, NULL, 1, &ref, NULL), RM_E_INVALID);
    CHECK_EQ(rm_registry_get(w.registry, "a", 1, NULL, NULL), RM_E_INVALID);
    CHECK_EQ(rm_registry_put(NULL, &ref), RM_E_INVALID);
    CHECK_EQ(rm_registry_put(w.registry, NULL), RM_E_INVALID);
    CHECK_EQ(rm_registry_remove(NULL, "a", 1), RM_E_INVALID);
    CHECK_EQ(rm_registry_remove(w.registry, NULL, 1), RM_E_INVALID);
    CHECK_EQ(rm_registry_remove(w.registry, NULL, 0), RM_E_NOT_FOUND);
    rm_registry_each(NULL, see, NULL);
    rm_registry_each(w.registry, NULL, NULL);
    CHECK_EQ(rm_registry_count(NULL), 0);
    tear_down(&w);
}

/* >>threads ------------------------------------------------------------------------------- */

/* A create hook in which the first caller waits until the second has finished. */
typedef struct meeting {
    world world;
    int arrived, finished;
    rm_thread thread;
    rm_registry_ref ref;
    rm_status status;
} meeting;

static void until_set(const int *flag) {
    const int64_t since = rm_now(NULL);
    while (GET(flag) == 0) {
        if (!CHECK(rm_now(NULL) - since < RM_SEC(60))) exit(1);
        (void)rm_sleep(NULL, 1000, NULL);
    }
}

static rm_status make_slowly(const void *key, size_t size, void **value, rm_error *error,
                             void *user) {
    meeting *m = (meeting *)user;
    if (ADD(&m->arrived, 1) == 1) until_set(&m->finished);
    return make(key, size, value, error, &m->world);
}

static void unmake_met(void *value, void *user) {
    unmake(value, &((meeting *)user)->world);
}

static void get_slowly(void *user) {
    meeting *m = (meeting *)user;
    m->status = rm_registry_get(m->world.registry, "k", 1, &m->ref, NULL);
}

static void meet(meeting *m, uint32_t max_entries) {
    rm_registry_desc desc;
    memset(m, 0, sizeof *m);
    desc = desc_of(&m->world, max_entries);
    desc.create_fn = make_slowly;
    desc.destroy_fn = unmake_met;
    desc.evictable_fn = NULL;
    desc.user = m;
    if (!CHECK(rm_registry_create(&desc, &m->world.registry, NULL) == RM_OK)) exit(1);
    if (!CHECK(rm_thread_start(&m->thread, get_slowly, m) == RM_OK)) exit(1);
    until_set(&m->arrived); /* the thread stands in create_fn */
}

TEST(registry, keeps_one_object_when_two_make_it_at_once) {
    rm_registry_ref ref;
    meeting m;
    meet(&m, 2);
    CHECK_EQ(rm_registry_get(m.world.registry, "k", 1, &ref, NULL), RM_OK); /* overtakes it */
    SET(&m.finished, 1);
    rm_thread_join(&m.thread);
    CHECK_EQ(m.status, RM_OK);
    CHECK(m.ref.value == ref.value);
    CHECK_EQ(m.world.created, 2);
    CHECK_EQ(m.world.destroyed, 1); /* the loser's */
    CHECK_EQ(rm_registry_count(m.world.registry), 1);
    CHECK_EQ(rm_registry_destroy(m.world.registry), RM_E_BUSY);
    put(&m.world, &ref);
    put(&m.world, &m.ref);
    touch(&m.world, "other"); /* the loser's slot is free again */
    tear_down(&m.world);
}

TEST(registry, is_full_while_the_last_place_is_being_filled) {
    rm_registry_ref ref;
    meeting m;
    meet(&m, 1);
    CHECK_EQ(rm_registry_get(m.world.registry, "k", 1, &ref, NULL), RM_E_FULL);
    SET(&m.finished, 1);
    rm_thread_join(&m.thread);
    CHECK_EQ(m.status, RM_OK);
    CHECK_EQ(rm_registry_get(m.world.registry, "k", 1, &ref, NULL), RM_OK);
    put(&m.world, &ref);
    put(&m.world, &m.ref);
    tear_down(&m.world);
}

enum { THREADS = 8, KEYS = 40, PLACES = 12, ROUNDS = 3000 };

typedef struct crowd {
    world world;
    int borrowed[KEYS]; /* by all threads */
    int wrong;
} crowd;

static rm_status make_most(const void *key, size_t size, void **value, rm_error *error,
                           void *user) {
    crowd *c = (crowd *)user;
    static int calls;
    if (ADD(&calls, 1) % 50 == 0) return rm_error_set(error, RM_E_FAILED, 0, "object", "not now");
    return make(key, size, value, error, &c->world);
}

static void unmake_unborrowed(void *value, void *user) {
    crowd *c = (crowd *)user;
    ADD(&c->world.destroyed, 1);
    memset(((object *)value)->key, '#', 15); /* whoever still looks at it shall notice */
    free(value);
}

static bool look(const void *key, size_t size, void *value, void *user) {
    crowd *c = (crowd *)user;
    if (memcmp(((object *)value)->key, key, size) != 0) ADD(&c->wrong, 1);
    return true;
}

typedef struct member {
    rm_thread thread;
    crowd *crowd;
    uint64_t seed;
} member;

static void mingle(void *user) {
    member *me = (member *)user;
    crowd *c = me->crowd;
    rm_registry *r = c->world.registry;
    rm_registry_ref held[2];
    int which[2];
    rm_rng rng;
    memset(held, 0, sizeof held);
    rm_rng_seed(&rng, me->seed);
    for (int i = 0; i < ROUNDS; ++i) {
        const uint64_t dice = rm_rng_next(&rng);
        const int number = (int)(dice % KEYS), hand = (int)(dice >> 8 & 1);
        char key[16];
        const size_t size = (size_t)snprintf(key, sizeof key, "%d", number);
        rm_registry_ref ref, old;
        rm_status status;
        if (held[hand].generation != 0) { /* give back the older one */
            ADD(&c->borrowed[which[hand]], -1);
            if (rm_registry_put(r, &held[hand]) != RM_OK) ADD(&c->wrong, 1);
        }
        switch (dice >> 16 & 15) {
        case 0:
            if (rm_registry_get(r, key, size, &ref, NULL) != RM_OK) break;
            old = ref;
            if (rm_registry_put(r, &ref) != RM_OK) ADD(&c->wrong, 1);
            status = rm_registry_remove(r, key, size);
            if (status != RM_OK && status != RM_E_BUSY && status != RM_E_NOT_FOUND)
                ADD(&c->wrong, 1);
            if (status != RM_E_BUSY && rm_registry_put(r, &old) != RM_E_STALE) ADD(&c->wrong, 1);
            break;
        case 1: rm_registry_each(r, look, c); break;
        case 2:
            if (rm_registry_count(r) > PLACES) ADD(&c->wrong, 1);
            break;
        default:
            status = rm_registry_get(r, key, size, &held[hand], NULL);
            if (status == RM_OK) {
                which[hand] = number;
                ADD(&c->borrowed[number], 1);
                if (strcmp(((object *)held[hand].value)->key, key) != 0) ADD(&c->wrong, 1);
            } else if (status != RM_E_FULL && status != RM_E_FAILED) {
                ADD(&c->wrong, 1);
            }
            break;
        }
    }
    for (int hand = 0; hand < 2; ++hand)
        if (held[hand].generation != 0) put(&c->world, &held[hand]);
}

static bool count_one(const void *key, size_t size, void *value, void *user) {
    (void)key, (void)size, (void)value;
    ++*(int *)user;
    return true;
}

static void crowd_with(uint32_t stripes) {
    static member members[THREADS];
    rm_registry_desc desc;
    static crowd c;
    int live = 0;
    memset(&c, 0, sizeof c);
    desc = desc_of(&c.world, PLACES);
    desc.create_fn = make_most;
    desc.destroy_fn = unmake_unborrowed;
    desc.stripes = stripes;
    desc.user = &c;
    REQUIRE(rm_registry_create(&desc, &c.world.registry, NULL) == RM_OK);
    for (int i = 0; i < THREADS; ++i) {
        members[i].crowd = &c;
        members[i].seed = (uint64_t)i + stripes;
        if (!CHECK(rm_thread_start(&members[i].thread, mingle, &members[i]) == RM_OK)) exit(1);
    }
    for (int i = 0; i < THREADS; ++i)
        rm_thread_join(&members[i].thread);
    CHECK_EQ(c.wrong, 0);
    rm_registry_each(c.world.registry, count_one, &live);
    CHECK_EQ(rm_registry_count(c.world.registry), live);
    CHECK_EQ(c.world.created, c.world.destroyed + live);
    CHECK(c.world.created > live);
    tear_down(&c.world);
}

TEST(registry, crowd_of_threads_leaves_no_object_behind) {
    crowd_with(8);
}

TEST(registry, crowd_of_threads_leaves_no_object_behind_with_one_stripe) {
    crowd_with(1);
}

TEST(registry, crowd_of_threads_leaves_no_object_behind_with_many_stripes) {
    crowd_with(64);
}

TEST_MAIN

/*  rm_test.h - a test runner in one header.  TAP output; C11 and C++11; gcc and clang, any system.

    #define RM_IMPLEMENTATION
    #include "rm.h"                 // the rm headers come first: they set feature-test macros
    #include "rm_test.h"

    TEST(pool, acquire_times_out_when_full) {
        REQUIRE(pool != NULL);      // returns from the test if false
        CHECK(a < b);
        CHECK_EQ(2, count);         // integers; prints both
        CHECK_STR("ok", name);      // strings; prints both
    }
    TEST_MAIN

    The checks are expressions (true if they held) and may be used from any thread; REQUIRE is a
    statement for functions that return void, and so is SKIP("why"), for a test that cannot run
    here.  A program takes one argument: a part of the names to
    run, or --list.  It exits with 1 if a check failed, or if no name matches.
*/
#ifndef RM_TEST_H_INCLUDED
#define RM_TEST_H_INCLUDED

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#ifndef _WIN32
#include <unistd.h>
#endif

typedef struct rm_test_case {
    const char *name;
    void (*run)(void);
    int line;
    struct rm_test_case *next;
} rm_test_case;

static rm_test_case *rm_test_cases;
static int rm_test_failures;        /* failed checks of the running test */
static const char *rm_test_skipped; /* why it cannot run here; NULL = it can */

/* Systems differ in the order of constructors: keep the order of the file. */
static inline void rm_test_add(rm_test_case *test) {
    rm_test_case **at = &rm_test_cases;
    while (*at != NULL && (*at)->line < test->line)
        at = &(*at)->next;
    test->next = *at;
    *at = test;
}

/* Counts a failed check.  True while there are few: a loop shall not flood the terminal. */
static inline bool rm_test_report(void) {
    return __atomic_add_fetch(&rm_test_failures, 1, __ATOMIC_RELAXED) <= 10;
}

static inline bool rm_test_check(bool ok, const char *what, const char *file, int line) {
    if (!ok && rm_test_report()) printf("# %s:%d: failed: %s\n", file, line, what);
    return ok;
}

static inline bool rm_test_check_eq(long long a, long long b, const char *what, const char *file,
                                    int line) {
    if (a != b && rm_test_report())
        printf("# %s:%d: failed: %s: %lld and %lld\n", file, line, what, a, b);
    return a == b;
}

static inline bool rm_test_check_str(const char *a, const char *b, const char *what,
                                     const char *file, int line) {
    bool ok = a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
    if (!ok && rm_test_report())
        printf("# %s:%d: failed: %s: \"%s\" and \"%s\"\n", file, line, what, a ? a : "(null)",
               b ? b : "(null)");
    return ok;
}

static inline bool rm_test_run(const rm_test_case *test, int number) {
    __atomic_store_n(&rm_test_failures, 0, __ATOMIC_RELAXED);
    rm_test_skipped = NULL;
    printf("# %s\n", test->name);
    fflush(stdout); /* it may hang or crash */
#ifndef _WIN32
    (void)alarm(120); /* ends a test that hangs; the slowest takes 30 s, in valgrind */
#endif
    test->run();
    bool ok = __atomic_load_n(&rm_test_failures, __ATOMIC_RELAXED) == 0;
    printf("%s %d - %s%s%s\n", ok ? "ok" : "not ok", number, test->name,
           rm_test_skipped ? " # SKIP " : "", rm_test_skipped ? rm_test_skipped : "");
    return ok;
}

static inline int rm_test_main(int argc, char **argv) {
    const char *filter = argc > 1 ? argv[1] : "";
    bool list = strcmp(filter, "--list") == 0;
    int planned = 0, passed = 0, number = 0;

    for (const rm_test_case *test = rm_test_cases; test != NULL; test = test->next) {
        if (list) printf("%s\n", test->name);
        planned += strstr(test->name, filter) != NULL;
    }
    if (list) return 0;
    printf("1..%d\n", planned);
    for (const rm_test_case *test = rm_test_cases; test != NULL; test = test->next)
        if (strstr(test->name, filter) != NULL) passed += rm_test_run(test, ++number);
    printf("%d passed, %d failed\n", passed, planned - passed);
    return planned == 0 || passed < planned;
}

#define TEST(group, name)                                                                        \
    static void rm_test_##group##_##name(void);                                                  \
    __attribute__((constructor)) static void rm_test_add_##group##_##name(void) {                \
        static rm_test_case test = {#group "." #name, rm_test_##group##_##name, __LINE__, NULL}; \
        rm_test_add(&test);                                                                      \
    }                                                                                            \
    static void rm_test_##group##_##name(void)

#define TEST_MAIN                        \
    int main(int argc, char **argv) {    \
        return rm_test_main(argc, argv); \
    }

#define CHECK(cond) rm_test_check(!!(cond), #cond, __FILE__, __LINE__)
#define CHECK_EQ(a, b) \
    rm_test_check_eq((long long)(a), (long long)(b), #a " == " #b, __FILE__, __LINE__)
#define CHECK_STR(a, b) rm_test_check_str((a), (b), #a " equals " #b, __FILE__, __LINE__)
#define REQUIRE(cond)             \
    do {                          \
        if (!CHECK(cond)) return; \
    } while (0)
#define SKIP(reason)                \
    do {                            \
        rm_test_skipped = (reason); \
        return;                     \
    } while (0)

#endif /* RM_TEST_H_INCLUDED */

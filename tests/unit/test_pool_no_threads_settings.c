/* What rm_pool.h refuses in a program without threads. */
#define RM_NO_THREADS
#define RM_IMPLEMENTATION
#include "rm_pool.h"
#include "rm_test.h"

static rm_status make(void **resource, rm_deadline deadline, rm_error *error, void *user) {
    (void)deadline, (void)error;
    *resource = user;
    return RM_OK;
}

TEST(pool_no_threads, has_no_thread_of_its_own_for_upkeep) {
    rm_pool *pool = NULL;
    rm_pool_desc desc = rm_pool_desc_default();
    rm_error error;
    desc.create_fn = make;
    desc.maintain_every_ns = RM_SEC(1);
    CHECK_EQ(RM_E_UNSUPPORTED, rm_pool_create(&desc, &pool, &error));
    CHECK_STR("maintain_every_ns", error.where);
    CHECK_STR("RM_NO_THREADS: call rm_pool_maintain from a timer", error.message);
    CHECK(pool == NULL);
}

TEST_MAIN

/* rm_pool.h with tags of 2 bits, which are as they were after four changes: a stale lease is taken
   for a new one, an evicted resource is lent, a doubted one goes unchecked. At full width the same
   scenarios hold: see pools.c. */
#define RMI_POOL_SEQUENCE_BITS 2
#define RMI_POOL_GENERATION_BITS 2
#define RMI_POOL_DOUBT_BITS 2
#define RMI_REGISTRY_GENERATION_BITS 2
#define RM_IMPLEMENTATION
#include "rm_pool.h"

#include "dst.h"

#include "pool_tags.h"

DST_BUG(pool_bits, a_stale_lease_is_taken, 500, "old_lease, RM_RELEASE_OK) == RM_E_STALE") {
    stale_lease_beside_others();
}

DST_BUG(pool_bits, an_eviction_lends_what_was_made_before, 50, "out.resource != before") {
    evictions_beside_a_lease();
}

DST_BUG(pool_bits, a_doubted_resource_goes_unchecked, 20, "things_checked == 1") {
    doubts_beside_each_other();
}

DST_BUG(pool_bits, a_lease_of_a_key_that_is_gone_is_taken, 500, "RM_E_STALE") {
    stale_key_beside_others();
}

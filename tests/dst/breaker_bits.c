/* rm_breaker.h with a generation of 2 bits: after four transitions a permit is taken for a new one.
   At full width the same scenario holds: see breaker.c. */
#define RMI_BREAKER_GENERATION_BITS 2
#define RM_IMPLEMENTATION
#include "rm_breaker.h"

#include "dst.h"

#include "stale.h"

DST_BUG(breaker_bits, a_stale_permit_is_taken, 200, "stale && taken") {
    stale_permits_beside_trips();
}

/* Permits of a breaker whose generation has passed: breaker.c has them refused at full width, and
   breaker_bits.c finds with 2 bits that one is taken. */
#ifndef DST_STALE_H_INCLUDED
#define DST_STALE_H_INCLUDED

static rm_breaker *stale_breaker;
static rm_permit stale_permits[2];
static uint32_t stale_from_now; /* a trip has returned: the permits are of an earlier generation */

static void stale_trip_and_reset(int index) {
    (void)index;
    DST_CHECK(rm_breaker_trip(stale_breaker) == RM_OK);
    __atomic_store_n(&stale_from_now, 1, __ATOMIC_RELEASE);
    DST_CHECK(rm_breaker_reset(stale_breaker) == RM_OK);
}

static void stale_report(int index) {
    const bool stale = __atomic_load_n(&stale_from_now, __ATOMIC_ACQUIRE) != 0;
    const bool taken =
        rm_breaker_record(stale_breaker, &stale_permits[index], RM_OUTCOME_FAILURE) == RM_OK;
    DST_CHECK(!(stale && taken));
}

/* Two trips and two resets are four transitions, after which 2 bits are as they were. */
static void stale_permits_beside_trips(void) {
    void (*const threads[])(int) = {stale_report, stale_report, stale_trip_and_reset,
                                    stale_trip_and_reset};
    int i;
    DST_CHECK(rm_breaker_create(NULL, &stale_breaker, NULL) == RM_OK);
    for (i = 0; i < 2; ++i)
        DST_CHECK(rm_breaker_acquire(stale_breaker, &stale_permits[i], NULL) == RM_OK);
    dst_go(4, threads);
    rm_breaker_destroy(stale_breaker);
}

#endif

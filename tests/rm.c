/* All headers, built once a variant for the tests that only declare them. */
#define RM_IMPLEMENTATION
#include "rm.h"
#include "rm_breaker.h"
#include "rm_cache.h"
#include "rm_metrics.h"
#include "rm_pool.h"

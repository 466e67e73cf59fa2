/* The base and the manager, built once a variant for all the tests that only declare them. */
#define RM_IMPLEMENTATION
#include "rm.h"

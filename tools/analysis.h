/*
 * analysis.h — what clang-tidy must know about our functions; put in front of each file it reads.
 *
 * fault_set() always answers false.  Without this the analyzer follows paths on which a failed
 * function goes on with what it has not set.
 */
#include "base/fault.h"

#define fault_set(...) (fault_set(__VA_ARGS__), false)

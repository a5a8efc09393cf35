/*
 * stats.c — the names of reasons and results, and the program's version.
 */
#include "shared/stats.h"

#ifndef DOPPEL_VERSION
#define DOPPEL_VERSION "0.0.0-unknown" /* a build without the Makefile */
#endif

#define NAME(identifier, name, help) name,
static const char *const session_reasons[] = { SESSION_REASONS(NAME) };
static const char *const shadow_results[] = { SHADOW_RESULTS(NAME) };
static const char *const shadow_reasons[] = { SHADOW_REASONS(NAME) };
#undef NAME

const char *session_reason_name(enum session_reason reason)
{
    return session_reasons[reason];
}

const char *shadow_result_name(enum shadow_result result)
{
    return shadow_results[result];
}

const char *shadow_reason_name(enum shadow_reason reason)
{
    return shadow_reasons[reason];
}

const char *stats_version(void)
{
    return DOPPEL_VERSION;
}

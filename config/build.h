/*
 * build.h — from what was said to a struct config, or to the first thing that is wrong.
 */
#ifndef CONFIG_BUILD_H
#define CONFIG_BUILD_H

struct config;
struct config_warnings;
struct fault;
struct settings;

/* NULL: the fault.  The caller owns the result: config_free(). */
struct config *config_build(const struct settings *, struct config_warnings *, struct fault *);

#endif

/*
 * conflicts.h — addresses of one configuration that cannot be true together.
 *
 *     --listen 8080        --listen 0.0.0.0:8080    the first is every address already
 *     --listen :9901       --admin 127.0.0.1:9901   the kernel gives the port once
 *     --primary app:8081   --shadow app.:8081       the copy would run every request twice
 *
 * Addresses are compared by what they mean, not as text.  What only a name server knows is not
 * known here.
 */
#ifndef CONFIG_CONFLICTS_H
#define CONFIG_CONFLICTS_H

#include <stdbool.h>

struct config;
struct fault;

/* False: the fault names both addresses, and says what to do. */
bool conflicts_check(const struct config *, struct fault *);

#endif

/*
 * version.c — asks each library's door for its version.
 */
#include "version.h"

#include "base/stats.h"
#include "flow/reactor.h"
#include "flow/resolver.h"
#include "flow/tls_contexts.h"

void version_print(FILE *out)
{
    fprintf(out, "doppel %s\n%s\n%s\n%s\n", stats_version(), reactor_version(), resolver_version(),
            tls_library_version());
}

/*
 * version.c — asks the file that uses a library for its version.
 */
#include "version.h"

#include "dns/resolver.h"
#include "shared/stats.h"
#include "tls/tls_contexts.h"
#include "transport/reactor.h"

void version_print(FILE *out)
{
    fprintf(out, "doppel %s\n%s\n%s\n%s\n", stats_version(), reactor_version(), resolver_version(),
            tls_library_version());
}

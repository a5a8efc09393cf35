/*
 * version.h — what this program is made of: its version and its libraries'.
 */
#ifndef PROCESS_VERSION_H
#define PROCESS_VERSION_H

#include <stdio.h>

/* One line each: doppel, libev, c-ares, OpenSSL; of the libraries what runs and what was compiled
 * with. */
void version_print(FILE *);

#endif

/*
 * ends.h — what both ends of a measurement share: addresses, time, commands and complaints.
 */
#ifndef BENCHMARK_ENDS_H
#define BENCHMARK_ENDS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Writes the sentence to stderr and ends the process with status 1. */
_Noreturn void give_up(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The number in a flag or a command, or gives up. */
uint64_t number_of(const char *text);

/* IPv4 in digits with a port, as in 127.0.0.1:8080, or gives up. */
struct sockaddr_in address_of(const char *text);

/* Microseconds of a clock that only goes forward. */
uint64_t clock_us(void);

/* One line of standard input, without its newline; false at the end.  It waits: whoever drives a
 * measurement writes whole lines. */
bool take_command(char *line, size_t size);

/* An epoll set that tells of commands with a NULL owner. */
int watch_commands(void);

/* Watches a descriptor for these events and no others, with EPOLL_CTL_ADD or EPOLL_CTL_MOD; or
 * gives up. */
void watch(int epoll, int operation, int fd, uint32_t events, void *owner);

#endif

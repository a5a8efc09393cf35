/*
 * connecting.c — one socket(2), its source address, its connect(2), and what their errors mean.
 */
#include "dial/connecting.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/address.h"
#include "base/fault.h"

static void explain(struct connecting_failure *failure, enum failure kind, const char *why)
{
    failure->failure = kind;
    failure->is_out_of_reach = false;
    snprintf(failure->why, sizeof failure->why, "%.*s", (int)sizeof failure->why - 1, why);
}

static void explain_error(struct connecting_failure *failure, int error)
{
    explain(failure, failure_of(error), strerrordesc_np(error));
}

/* EADDRNOTAVAIL says that no port is left, or that there is no address to connect from, as without
 * IPv6 (connect(2)).  In the latter case UDP cannot connect either; its ports are others. */
static bool is_out_of_reach(const struct address *address, int error)
{
    if (error != EADDRNOTAVAIL)
        return error == EAFNOSUPPORT;
    int  probe = socket(address->any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool fails =
        probe >= 0 && connect(probe, &address->any, address->length) != 0 && errno == EADDRNOTAVAIL;

    if (probe >= 0)
        close(probe);
    return fails;
}

/* socket(2) or connect(2) has failed at once. */
static void explain_start(struct connecting_failure *failure, const struct address *address,
                          int error)
{
    if (!is_out_of_reach(address, error)) {
        explain_error(failure, error);
        return;
    }
    explain(failure, FAILURE_UNREACHABLE, "this machine has no address to reach it from");
    failure->is_out_of_reach = true;
}

/* As it is before connect(2); -1: the failure says why there is none. */
static int make_socket(const struct address *address, const struct connecting_terms *terms,
                       struct connecting_failure *failure)
{
    int family = address->any.sa_family;
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct fault why;

    if (fd < 0) {
        explain_start(failure, address, errno);
        return -1;
    }
    socket_tune(fd, family, &terms->settings);
    if (origin_bind(fd, family, &terms->from, &why))
        return fd;
    explain(failure, FAILURE_LOCAL, why.text);
    close(fd);
    return -1;
}

/* Either way it goes on by itself (connect(2)). */
static bool is_under_way(int error) { return error == EINPROGRESS || error == EINTR; }

enum connecting connecting_start(int *made, const struct address *address,
                                 const struct connecting_terms *terms,
                                 struct connecting_failure *failure)
{
    int fd = make_socket(address, terms, failure);

    if (fd < 0)
        return CONNECTING_NO_SOCKET;
    if (connect(fd, &address->any, address->length) == 0 || is_under_way(errno)) {
        *made = fd;
        return CONNECTING_STARTED;
    }
    int error = errno;
    close(fd);
    if (error == EAGAIN && address->any.sa_family == AF_UNIX)
        return CONNECTING_BACKLOG_FULL;
    explain_start(failure, address, error);
    return CONNECTING_FAILED;
}

/* 0: nobody knows yet. */
static int take_error(int socket)
{
    int       error = 0;
    socklen_t length = sizeof error;

    return getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &length) == 0 ? error : errno;
}

bool connecting_failed(int socket, struct connecting_failure *failure)
{
    int error = take_error(socket);

    if (error == 0)
        return false;
    if (error == ETIMEDOUT)
        explain(failure, FAILURE_CONNECT_TIMEOUT, strerrordesc_np(error));
    else
        explain_error(failure, error);
    return true;
}

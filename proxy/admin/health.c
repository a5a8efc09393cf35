/*
 * health.c — one connection, one question, and the first words of the answer.
 */
#include "admin/health.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/address.h"
#include "base/clock.h"
#include "base/fault.h"

#define PATIENCE_SECONDS 3.0 /* below what orchestrators wait for a check */
#define QUESTION         "GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n"
#define STATUS_BYTES     12 /* HTTP/1.1 200 */

struct question {
    int    socket;
    double deadline;
};

/* False: errno says why, ETIMEDOUT if the time is over. */
static bool wait_for(const struct question *question, short events)
{
    struct pollfd ready = { .fd = question->socket, .events = events };
    double        left = question->deadline - clock_now();
    int           changed = left > 0 ? poll(&ready, 1, (int)(left * 1000) + 1) : 0;

    if (changed == 0)
        errno = ETIMEDOUT;
    return changed > 0 || (changed < 0 && errno == EINTR && wait_for(question, events));
}

static bool connect_to(const struct question *question, const struct address *address)
{
    int       error = 0;
    socklen_t length = sizeof error;

    if (connect(question->socket, &address->any, address->length) == 0)
        return true;
    if (errno != EINPROGRESS || !wait_for(question, POLLOUT))
        return false;
    getsockopt(question->socket, SOL_SOCKET, SO_ERROR, &error, &length);
    errno = error;
    return error == 0;
}

/* As many bytes as tell the status; fewer: the answer ended before. */
static bool read_status(const struct question *question, char status[STATUS_BYTES + 1])
{
    size_t length = 0;
    size_t moved = 1;

    while (length < STATUS_BYTES && moved > 0) {
        if (!wait_for(question, POLLIN))
            return false;
        ssize_t n = recv(question->socket, status + length, STATUS_BYTES - length, 0);
        if (n < 0)
            return false;
        moved = (size_t)n;
        length += moved;
    }
    status[length] = '\0';
    return true;
}

static bool ask(const struct question *question, const struct address *address, const char *text,
                struct fault *fault)
{
    char status[STATUS_BYTES + 1];
    bool answered = connect_to(question, address) &&
                    send(question->socket, QUESTION, strlen(QUESTION), MSG_NOSIGNAL) ==
                        (ssize_t)strlen(QUESTION) &&
                    read_status(question, status);

    if (!answered)
        return fault_set(fault, "%s does not answer: %s", text, strerrordesc_np(errno));
    if (strncmp(status, "HTTP/1.", 7) != 0)
        return fault_set(fault, "%s does not answer as an admin endpoint would", text);
    return strcmp(status + 8, " 200") == 0 ||
           fault_set(fault, "%s is not ready: it answers%s", text, status + 8);
}

static bool find_address(const struct endpoint *endpoint, struct address *address)
{
    struct address known[2];

    if (endpoint->kind == ENDPOINT_TCP && endpoint->host[0] == '\0')
        return address_parse(address, "127.0.0.1", endpoint->port);
    if (endpoint_known_addresses(endpoint, known) == 0)
        return false;
    *address = known[0];
    return true;
}

bool health_ask(const struct endpoint *endpoint, struct fault *fault)
{
    struct question question = { .deadline = clock_now() + PATIENCE_SECONDS };
    struct address  address;
    char            text[ENDPOINT_TEXT];

    endpoint_print(endpoint, text);
    if (!find_address(endpoint, &address))
        return fault_set(fault, "%s has no address that is known here", text);
    question.socket = socket(address.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (question.socket < 0)
        return fault_set(fault, "cannot ask %s: %s", text, strerrordesc_np(errno));
    bool ready = ask(&question, &address, text, fault);
    close(question.socket);
    return ready;
}

/*
 * notify.c — one datagram for each thing that the service manager wants to know.
 */
#include "process/notify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

#define MESSAGE_ROOM 512

/* A path, or with @ in front a name in the abstract namespace (unix(7)).  0: it is neither. */
static socklen_t address_of(const char *name, struct sockaddr_un *address)
{
    size_t length = strlen(name);

    *address = (struct sockaddr_un){ .sun_family = AF_UNIX };
    if (length < 2 || length >= sizeof address->sun_path || (name[0] != '/' && name[0] != '@'))
        return 0;
    memcpy(address->sun_path, name, length);
    if (name[0] == '@')
        address->sun_path[0] = '\0';
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (name[0] == '/'));
}

static bool send_to(const struct sockaddr_un *address, socklen_t length, const char *message)
{
    int socket_to = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (socket_to < 0)
        return false;
    ssize_t sent = sendto(socket_to, message, strlen(message), MSG_NOSIGNAL | MSG_DONTWAIT,
                          (const struct sockaddr *)address, length);
    int error = errno;
    close(socket_to);
    errno = error;
    return sent >= 0;
}

static void say(const char *message)
{
    const char        *name = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address;

    if (name == NULL || name[0] == '\0')
        return;
    socklen_t length = address_of(name, &address);
    if (length == 0)
        log_warning("supervisor", "not_notified", "socket=%s why=%s", name,
                    "it is neither a path nor an abstract name");
    else if (!send_to(&address, length, message))
        log_warning("supervisor", "not_notified", "socket=%s why=%s", name, strerrordesc_np(errno));
}

void notify_ready(const char *status)
{
    char message[MESSAGE_ROOM];

    snprintf(message, sizeof message, "READY=1\nMAINPID=%d\nSTATUS=%s", (int)getpid(), status);
    say(message);
}

/* The manager takes a later READY=1 for the answer by this time. */
void notify_reloading(void)
{
    struct timespec now;
    char            message[MESSAGE_ROOM];

    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t microseconds = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
    snprintf(message, sizeof message,
             "RELOADING=1\nMONOTONIC_USEC=%" PRIu64 "\nSTATUS=reading the configuration again",
             microseconds);
    say(message);
}

void notify_stopping(const char *status)
{
    char message[MESSAGE_ROOM];

    snprintf(message, sizeof message, "STOPPING=1\nSTATUS=%s", status);
    say(message);
}

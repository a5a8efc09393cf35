/*
 * preamble.c — a header is made when its connection is open, and forgotten with it.
 */
#include "proxyproto/preamble.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "proxyproto/proxyproto.h"

void preamble_drop(struct preamble *preamble)
{
    free(preamble->bytes);
    *preamble = (struct preamble){ 0 };
}

static enum io failed(struct preamble *preamble, int error)
{
    preamble->error = error;
    return IO_FAILED;
}

static enum io not_sent(struct preamble *preamble, int error)
{
    preamble->is_starved = error_is_shortage(error);
    if (preamble->is_starved || error == EAGAIN || error == EINTR)
        return IO_AGAIN;
    return failed(preamble, error);
}

static enum io send_rest(struct preamble *preamble, int socket)
{
    size_t  left = preamble->length - preamble->sent;
    ssize_t n = send(socket, preamble->bytes + preamble->sent, left, MSG_NOSIGNAL);

    if (n < 0)
        return not_sent(preamble, errno);
    preamble->sent += (size_t)n;
    preamble->is_starved = false;
    return preamble->sent == preamble->length ? IO_OK : IO_AGAIN;
}

enum io preamble_send(struct preamble *preamble, int socket, enum proxy_version version,
                      const struct proxy_header *header, const struct proxy_marks *marks)
{
    if (header == NULL || version == PROXY_OFF)
        return IO_OK;
    if (preamble->bytes == NULL) {
        preamble->bytes = malloc(PROXY_HEADER_WRITTEN);
        if (preamble->bytes == NULL)
            return failed(preamble, ENOMEM);
        preamble->length = proxy_header_write(preamble->bytes, version, header, marks);
    }
    return preamble->sent < preamble->length ? send_rest(preamble, socket) : IO_OK;
}

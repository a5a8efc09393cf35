/*
 * header_writer.c — a header is made when its connection is open, and forgotten with it.
 */
#include "proxyproto/header_writer.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "proxyproto/proxyproto.h"

void header_writer_drop(struct header_writer *header_writer)
{
    free(header_writer->bytes);
    *header_writer = (struct header_writer){ 0 };
}

static enum io failed(struct header_writer *header_writer, int error)
{
    header_writer->error = error;
    return IO_FAILED;
}

static enum io not_sent(struct header_writer *header_writer, int error)
{
    header_writer->waits_for_kernel_memory = error_is_shortage(error);
    if (header_writer->waits_for_kernel_memory || error == EAGAIN || error == EINTR)
        return IO_AGAIN;
    return failed(header_writer, error);
}

static enum io send_rest(struct header_writer *header_writer, int socket)
{
    size_t  left = header_writer->length - header_writer->sent;
    ssize_t n = send(socket, header_writer->bytes + header_writer->sent, left, MSG_NOSIGNAL);

    if (n < 0)
        return not_sent(header_writer, errno);
    header_writer->sent += (size_t)n;
    header_writer->waits_for_kernel_memory = false;
    return header_writer->sent == header_writer->length ? IO_OK : IO_AGAIN;
}

enum io header_writer_send(struct header_writer *header_writer, int socket,
                           enum proxy_version version, const struct proxy_header *header,
                           const struct proxy_marks *marks)
{
    if (header == NULL || version == PROXY_OFF)
        return IO_OK;
    if (header_writer->bytes == NULL) {
        header_writer->bytes = malloc(PROXY_HEADER_WRITTEN);
        if (header_writer->bytes == NULL)
            return failed(header_writer, ENOMEM);
        header_writer->length = proxy_header_write(header_writer->bytes, version, header, marks);
    }
    return header_writer->sent < header_writer->length ? send_rest(header_writer, socket) : IO_OK;
}

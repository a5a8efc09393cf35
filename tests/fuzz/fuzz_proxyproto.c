/*
 * fuzz_proxyproto.c — whatever comes, the reader of PROXY headers keeps its promises.
 *
 *  - it reads no byte that it was not given: each beginning is a block of its own;
 *  - its verdict on a beginning holds for everything that begins so;
 *  - a header that it takes can be written and read again, and says the same.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proxyproto/proxyproto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* From memory that ends where the bytes end. */
static enum proxy_reading read_beginning(const uint8_t *data, size_t length,
                                         struct proxy_header *header, size_t *used)
{
    uint8_t            *copy = malloc(length > 0 ? length : 1);
    const char         *why = NULL;
    enum proxy_reading reading;

    memcpy(copy, data, length);
    reading = proxy_header_read(copy, length, header, used, &why);
    assert((reading == PROXY_REFUSED) == (why != NULL));
    assert(reading != PROXY_COMPLETE || (*used <= length && *used <= PROXY_HEADER_MAX));
    free(copy);
    return reading;
}

static void check_written(const struct proxy_header *header, enum proxy_version version)
{
    const struct proxy_marks marks = { .session = "1-2-3", .listener = "8080" };
    uint8_t             bytes[PROXY_HEADER_WRITTEN];
    struct proxy_header again;
    size_t              used;
    size_t              length = proxy_header_write(bytes, version, header, &marks);
    bool                is_ip = header->source.any.sa_family != AF_UNIX;

    assert(read_beginning(bytes, length, &again, &used) == PROXY_COMPLETE && used == length);
    assert(again.is_mirrored == (version == PROXY_V2));
    if (is_ip || version == PROXY_V2) {
        assert(address_equal(&again.source, &header->source));
        assert(address_equal(&again.destination, &header->destination));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum proxy_reading before = PROXY_INCOMPLETE;
    size_t             used_before = 0;

    for (size_t length = 0; length <= size && length <= PROXY_HEADER_MAX + 1;) {
        struct proxy_header header;
        size_t              used = 0;
        enum proxy_reading  reading = read_beginning(data, length, &header, &used);

        if (before != PROXY_INCOMPLETE)
            assert(reading == before && used == used_before);
        else if (reading == PROXY_COMPLETE)
            assert(used == length || length > 300);
        if (reading == PROXY_COMPLETE && before != reading && header.source.length > 0) {
            check_written(&header, PROXY_V1);
            check_written(&header, PROXY_V2);
        }
        before = reading;
        used_before = used;
        length += length < 300 ? 1 : 97; /* byte by byte where everything is decided */
    }
    return 0;
}

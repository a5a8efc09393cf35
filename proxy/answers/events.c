/*
 * events.c — a ring of bytes; both ends count the bytes that ever passed.
 */
#include "events.h"

#include <assert.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <string.h>

#define CACHE_LINE 64

struct event_ring {
    alignas(CACHE_LINE) _Atomic uint64_t written;
    alignas(CACHE_LINE) _Atomic uint64_t read;
    alignas(CACHE_LINE) uint64_t size;
    uint8_t bytes[];
};

size_t event_ring_memory(size_t bytes)
{
    return sizeof(struct event_ring) + bytes;
}

void event_ring_init(struct event_ring *ring, size_t bytes)
{
    assert((bytes & (bytes - 1)) == 0 && bytes >= 4 * EVENT_BYTES_MAX);
    ring->size = bytes;
}

static void copy_in(struct event_ring *ring, uint64_t at, const void *bytes, size_t length)
{
    size_t place = at & (ring->size - 1);
    size_t first = ring->size - place < length ? ring->size - place : length;

    memcpy(ring->bytes + place, bytes, first);
    memcpy(ring->bytes, (const uint8_t *)bytes + first, length - first);
}

static void copy_out(const struct event_ring *ring, uint64_t at, void *bytes, size_t length)
{
    size_t place = at & (ring->size - 1);
    size_t first = ring->size - place < length ? ring->size - place : length;

    memcpy(bytes, ring->bytes + place, first);
    memcpy((uint8_t *)bytes + first, ring->bytes, length - first);
}

bool event_write(struct event_ring *ring, struct event event, const void *bytes)
{
    uint64_t written = atomic_load_explicit(&ring->written, memory_order_relaxed);
    uint64_t read = atomic_load_explicit(&ring->read, memory_order_acquire);

    assert(event.length <= EVENT_BYTES_MAX);
    if (written - read + sizeof event + event.length > ring->size)
        return false;
    copy_in(ring, written, &event, sizeof event);
    if (event.length > 0)
        copy_in(ring, written + sizeof event, bytes, event.length);
    atomic_store_explicit(&ring->written, written + sizeof event + event.length,
                          memory_order_release);
    return true;
}

bool event_read(struct event_ring *ring, struct event *event, uint8_t *bytes)
{
    uint64_t read = atomic_load_explicit(&ring->read, memory_order_relaxed);
    uint64_t written = atomic_load_explicit(&ring->written, memory_order_acquire);
    uint64_t there = written - read;

    if (there == 0)
        return false;
    if (there >= sizeof *event)
        copy_out(ring, read, event, sizeof *event);
    if (there < sizeof *event || there > ring->size || event->type >= EVENT_TYPES ||
        event->length > EVENT_BYTES_MAX || event->length > there - sizeof *event) {
        atomic_store_explicit(&ring->read, written, memory_order_release);
        return false;
    }
    copy_out(ring, read + sizeof *event, bytes, event->length);
    atomic_store_explicit(&ring->read, read + sizeof *event + event->length, memory_order_release);
    return true;
}

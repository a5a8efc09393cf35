/*
 * backoff.c — a small table of addresses, each with the time until which it comes last.
 */
#include "dial/backoff.h"

#include <stdbool.h>
#include <string.h>

#define MIN_SECONDS 10.0 /* a server restarts in less, and is then only tried second */
#define MAX_SECONDS  60.0

static struct backoff_address *find(struct backoff *backoff, const struct address *address)
{
    for (size_t i = 0; i < BACKOFF_MAX; i++) {
        struct backoff_address *one = &backoff->addresses[i];
        if (one->address.length > 0 && address_equal(&one->address, address))
            return one;
    }
    return NULL;
}

/* Free places have a time that is over. */
static struct backoff_address *oldest(struct backoff *backoff)
{
    struct backoff_address *found = &backoff->addresses[0];

    for (size_t i = 1; i < BACKOFF_MAX; i++) {
        if (backoff->addresses[i].until < found->until)
            found = &backoff->addresses[i];
    }
    return found;
}

/* Sessions that fail side by side are one failure; one long after the last is a first one. */
void backoff_add(struct backoff *backoff, const struct address *address, double now)
{
    struct backoff_address *one = find(backoff, address);
    double seconds = MIN_SECONDS;

    if (one != NULL && now < one->until)
        return;
    if (one == NULL)
        one = oldest(backoff);
    else if (now < one->until + MAX_SECONDS)
        seconds = one->seconds * 2 < MAX_SECONDS ? one->seconds * 2 : MAX_SECONDS;
    *one = (struct backoff_address){ *address, now + seconds, seconds };
}

void backoff_clear(struct backoff *backoff, const struct address *address)
{
    struct backoff_address *one = find(backoff, address);

    if (one != NULL)
        *one = (struct backoff_address){ .until = 0 };
}

static bool is_backed_off(const struct backoff *backoff, const struct address *address, double now)
{
    for (size_t i = 0; i < BACKOFF_MAX; i++) {
        const struct backoff_address *one = &backoff->addresses[i];
        if (one->until > now && address_equal(&one->address, address))
            return true;
    }
    return false;
}

void backoff_put_last(const struct backoff *backoff, struct address *addresses, size_t count,
                      double now)
{
    size_t good = 0;

    for (size_t i = 0; i < count; i++) {
        struct address address = addresses[i];
        if (is_backed_off(backoff, &address, now))
            continue;
        memmove(&addresses[good + 1], &addresses[good], (i - good) * sizeof addresses[0]);
        addresses[good++] = address;
    }
}

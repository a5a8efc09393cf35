/*
 * avoided.c — a small table of addresses, each with the time until which it is avoided.
 */
#include "dial/avoided.h"

#include <stdbool.h>
#include <string.h>

#define LEAST_SECONDS 10.0 /* a server restarts in less, and is then only tried second */
#define MOST_SECONDS  60.0

static struct avoided_address *find(struct avoided *avoided, const struct address *address)
{
    for (size_t i = 0; i < AVOIDED_MOST; i++) {
        struct avoided_address *one = &avoided->addresses[i];
        if (one->address.length > 0 && address_equal(&one->address, address))
            return one;
    }
    return NULL;
}

/* Free places have a time that is over. */
static struct avoided_address *oldest(struct avoided *avoided)
{
    struct avoided_address *found = &avoided->addresses[0];

    for (size_t i = 1; i < AVOIDED_MOST; i++) {
        if (avoided->addresses[i].until < found->until)
            found = &avoided->addresses[i];
    }
    return found;
}

/* Sessions that fail side by side are one failure; one long after the last is a first one. */
void avoided_add(struct avoided *avoided, const struct address *address, double now)
{
    struct avoided_address *one = find(avoided, address);
    double seconds = LEAST_SECONDS;

    if (one != NULL && now < one->until)
        return;
    if (one == NULL)
        one = oldest(avoided);
    else if (now < one->until + MOST_SECONDS)
        seconds = one->seconds * 2 < MOST_SECONDS ? one->seconds * 2 : MOST_SECONDS;
    *one = (struct avoided_address){ *address, now + seconds, seconds };
}

void avoided_forget(struct avoided *avoided, const struct address *address)
{
    struct avoided_address *one = find(avoided, address);

    if (one != NULL)
        *one = (struct avoided_address){ .until = 0 };
}

static bool is_avoided(const struct avoided *avoided, const struct address *address, double now)
{
    for (size_t i = 0; i < AVOIDED_MOST; i++) {
        const struct avoided_address *one = &avoided->addresses[i];
        if (one->until > now && address_equal(&one->address, address))
            return true;
    }
    return false;
}

void avoided_put_last(const struct avoided *avoided, struct address *addresses, size_t count,
                      double now)
{
    size_t good = 0;

    for (size_t i = 0; i < count; i++) {
        struct address address = addresses[i];
        if (is_avoided(avoided, &address, now))
            continue;
        memmove(&addresses[good + 1], &addresses[good], (i - good) * sizeof addresses[0]);
        addresses[good++] = address;
    }
}

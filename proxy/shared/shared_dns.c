/*
 * shared_dns.c — the addresses that names had last, for workers that have not asked yet.
 *
 * Processes that share nothing but these words write and read them without a lock, which a killed
 * worker would keep for ever.  A sum over the words tells whether they belong together.
 */
#include "shared/shared_dns.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

#define PROBES        64 /* cells that a name may be in: at half of them taken there is always room */
#define ADDRESS_BYTES 16

struct record {
    char     host[SHARED_DNS_HOST]; /* in lower case, zeros behind */
    uint8_t  addresses[SHARED_DNS_ADDRESSES][ADDRESS_BYTES];
    double   expires;
    uint32_t count;
    int32_t  family;
};
_Static_assert(sizeof(struct record) == SHARED_DNS_WORDS * sizeof(uint64_t),
               "a record fills a cell");

/* FNV-1a, a word at a time. */
static uint64_t sum_of(const uint64_t *words, size_t count)
{
    uint64_t sum = 0xcbf29ce484222325U;

    for (size_t i = 0; i < count; i++) {
        sum = (sum ^ words[i]) * 0x100000001b3U;
        sum ^= sum >> 32;
    }
    return sum;
}

static void store(struct shared_dns_cell *cell, const struct record *record)
{
    uint64_t words[SHARED_DNS_WORDS];

    memcpy(words, record, sizeof words);
    for (size_t i = 0; i < SHARED_DNS_WORDS; i++)
        atomic_store_explicit(&cell->words[i], words[i], memory_order_relaxed);
    atomic_store_explicit(&cell->sum, sum_of(words, SHARED_DNS_WORDS), memory_order_relaxed);
}

/* Whoever wrote it may have had other ideas of a record: nothing in it is used unchecked. */
static bool is_sound(const struct record *record)
{
    return record->count <= SHARED_DNS_ADDRESSES && isfinite(record->expires) &&
           (record->family == AF_INET || record->family == AF_INET6) &&
           memchr(record->host, '\0', sizeof record->host) != NULL;
}

/* False: empty, or the words do not belong together. */
static bool load(const struct shared_dns_cell *cell, struct record *record)
{
    uint64_t words[SHARED_DNS_WORDS];

    for (size_t i = 0; i < SHARED_DNS_WORDS; i++)
        words[i] = atomic_load_explicit(&cell->words[i], memory_order_relaxed);
    memcpy(record, words, sizeof words);
    return atomic_load_explicit(&cell->sum, memory_order_relaxed) ==
               sum_of(words, SHARED_DNS_WORDS) &&
           is_sound(record);
}

/* The record of nothing but whose it is. */
static struct record dns_record(const char *host, int family)
{
    struct record record = { .family = family };

    for (size_t i = 0; i < SHARED_DNS_HOST - 1 && host[i] != '\0'; i++)
        record.host[i] = (char)tolower((unsigned char)host[i]);
    return record;
}

static bool is_of(const struct record *record, const struct record *name)
{
    return record->family == name->family && memcmp(record->host, name->host, SHARED_DNS_HOST) == 0;
}

static size_t home_of(const struct record *name)
{
    uint64_t words[SHARED_DNS_HOST / sizeof(uint64_t) + 1];

    memcpy(words, name->host, sizeof name->host);
    words[SHARED_DNS_HOST / sizeof(uint64_t)] = (uint64_t)name->family;
    return sum_of(words, sizeof words / sizeof words[0]) % SHARED_DNS_CELLS;
}

/* The cell of this name; else a free one, or the first where all are taken. */
static size_t choose_cell(const struct shared_dns *dns, const struct record *name)
{
    size_t home = home_of(name);
    size_t free = SHARED_DNS_CELLS;

    for (size_t i = 0; i < PROBES; i++) {
        size_t        index = (home + i) % SHARED_DNS_CELLS;
        struct record there;
        bool          is_taken = load(&dns->cells[index], &there);

        if (is_taken && is_of(&there, name))
            return index;
        if (!is_taken && free == SHARED_DNS_CELLS)
            free = index;
    }
    return free != SHARED_DNS_CELLS ? free : home;
}

static void put_address(uint8_t bytes[ADDRESS_BYTES], const struct address *address)
{
    if (address->any.sa_family == AF_INET)
        memcpy(bytes, &address->v4.sin_addr, sizeof address->v4.sin_addr);
    else
        memcpy(bytes, &address->v6.sin6_addr, sizeof address->v6.sin6_addr);
}

static void get_address(struct address *address, int family, const uint8_t bytes[ADDRESS_BYTES])
{
    struct sockaddr_in  v4 = { .sin_family = AF_INET };
    struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };

    memcpy(&v4.sin_addr, bytes, sizeof v4.sin_addr);
    memcpy(&v6.sin6_addr, bytes, sizeof v6.sin6_addr);
    if (family == AF_INET)
        address_set(address, (const struct sockaddr *)&v4, sizeof v4);
    else
        address_set(address, (const struct sockaddr *)&v6, sizeof v6);
}

void shared_dns_store(struct shared_dns *dns, const char *host, int family,
                      const struct shared_dns_answer *answer)
{
    struct record record = dns_record(host, family);

    record.expires = answer->expires;
    record.count =
        answer->count < SHARED_DNS_ADDRESSES ? (uint32_t)answer->count : SHARED_DNS_ADDRESSES;
    for (size_t i = 0; i < record.count; i++)
        put_address(record.addresses[i], &answer->addresses[i]);
    store(&dns->cells[choose_cell(dns, &record)], &record);
}

bool shared_dns_find(const struct shared_dns *dns, const char *host, int family,
                     struct shared_dns_answer *answer)
{
    struct record name = dns_record(host, family);
    struct record found;

    if (!load(&dns->cells[choose_cell(dns, &name)], &found) || !is_of(&found, &name))
        return false;
    answer->expires = found.expires;
    answer->count = found.count;
    for (size_t i = 0; i < found.count; i++)
        get_address(&answer->addresses[i], family, found.addresses[i]);
    return answer->count > 0;
}

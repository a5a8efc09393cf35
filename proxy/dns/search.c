/*
 * search.c — reads domains and ndots, and puts names together.
 */
#include "dns/search.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLANKS     " \t\r\n"
#define NDOTS_MAX 15 /* as in the C library */

void search_clear(struct search *search)
{
    *search = (struct search){ .ndots = 1 };
}

/* --- reading ----------------------------------------------------------------------------- */

/* The word at this place and its length; NULL: there is none, or a comment begins. */
static const char *next_word(const char *text, size_t *length)
{
    text += strspn(text, BLANKS);
    *length = strcspn(text, BLANKS);
    return *text == '\0' || *text == '#' || *text == ';' ? NULL : text;
}

/* "." and what is no name adds nothing. */
static void add_domain(struct search *search, const char *word, size_t length)
{
    char *domain = search->domains[search->count];

    if (word[length - 1] == '.')
        length--;
    if (length == 0 || length >= HOST_TEXT || word[0] == '.')
        return;
    memcpy(domain, word, length);
    domain[length] = '\0';
    search->count++;
}

static void set_domains(struct search *search, const char *text, size_t max)
{
    size_t length;

    search->count = 0;
    for (const char *word; search->count < max && (word = next_word(text, &length)) != NULL;
         text = word + length)
        add_domain(search, word, length);
}

static void set_options(struct search *search, const char *text)
{
    size_t length;
    unsigned ndots;

    for (const char *word; (word = next_word(text, &length)) != NULL; text = word + length)
        if (sscanf(word, "ndots:%5u", &ndots) == 1)
            search->ndots = ndots < NDOTS_MAX ? ndots : NDOTS_MAX;
}

void search_read_line(struct search *search, const char *line)
{
    size_t length;
    const char *key = next_word(line, &length);

    if (key == NULL)
        return;
    if (length == strlen("search") && strncmp(key, "search", length) == 0)
        set_domains(search, key + length, SEARCH_DOMAINS);
    else if (length == strlen("domain") && strncmp(key, "domain", length) == 0)
        set_domains(search, key + length, 1);
    else if (length == strlen("options") && strncmp(key, "options", length) == 0)
        set_options(search, key + length);
}

void search_read_environment(struct search *search)
{
    const char *domains = getenv("LOCALDOMAIN");
    const char *options = getenv("RES_OPTIONS");

    if (domains != NULL)
        set_domains(search, domains, SEARCH_DOMAINS);
    if (options != NULL)
        set_options(search, options);
}

bool search_equal(const struct search *one, const struct search *other)
{
    if (one->ndots != other->ndots || one->count != other->count)
        return false;
    for (size_t i = 0; i < one->count; i++)
        if (strcmp(one->domains[i], other->domains[i]) != 0)
            return false;
    return true;
}

/* --- names ------------------------------------------------------------------------------- */

static unsigned dots_of(const char *host)
{
    unsigned dots = 0;

    for (; *host != '\0'; host++)
        dots += *host == '.';
    return dots;
}

/* The name at this place of the order; false: it is too long. */
static bool name_at(const struct search *search, const char *host, size_t place, char *name)
{
    bool   as_it_is_first = dots_of(host) >= search->ndots;
    size_t as_it_is = as_it_is_first ? 0 : search->count;
    int    length;

    if (place == as_it_is)
        length = snprintf(name, HOST_TEXT, "%s", host);
    else
        length = snprintf(name, HOST_TEXT, "%s.%s", host,
                          search->domains[as_it_is_first ? place - 1 : place]);
    return length < HOST_TEXT - 2; /* 253 characters (RFC 1035) */
}

bool search_next(const struct search *search, const char *host, size_t *place, char name[HOST_TEXT])
{
    size_t length = host_length(host);
    bool   is_complete = host[length] == '.' || search->count == 0;

    if (is_complete) {
        snprintf(name, HOST_TEXT, "%.*s", (int)length, host);
        return (*place)++ == 0;
    }
    while (*place <= search->count)
        if (name_at(search, host, (*place)++, name))
            return true;
    return false;
}

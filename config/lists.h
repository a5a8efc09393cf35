/*
 * lists.h — values that are lists with commas: networks of clients, name servers, our own addresses,
 * files.
 *
 *     10.0.0.0/8,::1              struct network_list
 *     10.0.0.2,[2001:db8::2]:54   struct address_list
 *     10.0.0.9,2001:db8::9        struct source_addresses
 *     a.pem,b.pem                 struct text_list
 *
 * Adding lets a list grow; a list that was filled in part when an item is wrong stays so.
 */
#ifndef CONFIG_LISTS_H
#define CONFIG_LISTS_H

#include <stdbool.h>
#include <stdio.h>

struct address_list;
struct fault;
struct network_list;
struct source_addresses;
struct text_list;

/* nothing is the word for an empty list.  False: the fault says which item, and what would be
 * right. */
bool lists_add_networks(struct network_list *, const char *text, const char *nothing,
                        struct fault *);
bool lists_add_servers(struct address_list *, const char *text, const char *nothing,
                       struct fault *);
bool lists_add_sources(struct source_addresses *, const char *text, const char *nothing,
                       struct fault *);
/* The same in place of what the list has; when it fails, the list stays as it was. */
bool lists_set_networks(struct network_list *, const char *text, const char *nothing,
                        struct fault *);
bool lists_set_servers(struct address_list *, const char *text, const char *nothing,
                       struct fault *);
bool lists_set_sources(struct source_addresses *, const char *text, const char *nothing,
                       struct fault *);
void lists_print_networks(const struct network_list *, const char *nothing, FILE *);
void lists_print_servers(const struct address_list *, const char *nothing, FILE *);
void lists_print_sources(const struct source_addresses *, const char *nothing, FILE *);

bool lists_add_texts(struct text_list *, const char *text, const char *nothing, struct fault *);
bool lists_set_texts(struct text_list *, const char *text, const char *nothing, struct fault *);
void lists_print_texts(const struct text_list *, const char *nothing, FILE *);
void lists_free_texts(struct text_list *);

#endif

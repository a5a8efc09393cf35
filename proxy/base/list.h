/*
 * list.h — a doubly linked list whose links live in its members.
 *
 * A zeroed link is in no list.  A list's head is a link of its own, made by list_start().
 */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct link {
    struct link *next;
    struct link *previous;
};

/* The member that holds this link. */
#define LIST_MEMBER(link, type, field) ((type *)(void *)((char *)(link)-offsetof(type, field)))

static inline void list_start(struct link *head)
{
    head->next = head->previous = head;
}

static inline bool list_holds(const struct link *link)
{
    return link->next != NULL;
}

static inline bool list_is_empty(const struct link *head)
{
    return head->next == head;
}

static inline void list_add(struct link *head, struct link *link)
{
    link->next = head->next;
    link->previous = head;
    head->next->previous = link;
    head->next = link;
}

static inline void list_remove(struct link *link)
{
    if (!list_holds(link))
        return;
    link->next->previous = link->previous;
    link->previous->next = link->next;
    link->next = link->previous = NULL;
}

#endif

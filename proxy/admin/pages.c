/*
 * pages.c — each page is a row.
 */
#include "admin/pages.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/metrics.h"
#include "admin/status.h"
#include "base/clock.h"
#include "base/fault.h"
#include "config/load.h"
#include "shared/stats.h"

/* NULL: no memory. */
static char *print_metrics(const struct page *page)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);

    if (out == NULL)
        return NULL;
    metrics_print(page, out);
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}

static struct response answer_metrics(struct pages *pages)
{
    if (pages->metrics == NULL)
        pages->metrics = print_metrics(pages->view.page);
    return (struct response){
        .status = RESPONSE_OK,
        .type = "text/plain; version=0.0.4; charset=utf-8",
        .text = pages->metrics != NULL ? strdup(pages->metrics) : NULL,
    };
}

static struct response response_status(struct pages *pages)
{
    return response_json(RESPONSE_OK, status_print(&pages->view, pages->configuration,
                                                   clock_now() - pages->started));
}

static struct response answer_health(struct pages *pages)
{
    (void)pages;
    return response_plain(RESPONSE_OK, "ok\n");
}

static struct response answer_ready(struct pages *pages)
{
    if (*pages->view.ready)
        return response_plain(RESPONSE_OK, "ready\n");
    return response_plain(RESPONSE_UNAVAILABLE, "not ready\n");
}

const struct page_row *pages_find(const char *path)
{
    static const struct page_row pages[] = {
        { "/metrics", answer_metrics, true },
        { "/status", response_status, false },
        { "/healthz", answer_health, true },
        { "/readyz", answer_ready, true },
    };

    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
        if (strcmp(path, pages[i].path) == 0)
            return &pages[i];
    }
    return NULL;
}

void pages_show(struct pages *pages, const struct admin_view *view)
{
    char *text = NULL;
    size_t length;
    FILE *out = xmemstream(&text, &length);

    config_print(view->config, out);
    fclose(out);
    free(pages->configuration);
    pages->configuration = text;
    pages->view = *view;
}

void pages_forget_turn(struct pages *pages)
{
    free(pages->metrics);
    pages->metrics = NULL;
}

void pages_free(struct pages *pages)
{
    pages_forget_turn(pages);
    free(pages->configuration);
}

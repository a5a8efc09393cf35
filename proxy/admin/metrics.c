/*
 * metrics.c — the counters' sums as Prometheus' text.
 *
 * The text format is that of prometheus.io/docs/instrumenting/exposition_formats, version 0.0.4:
 * all lines of a metric stand together under one HELP and one TYPE.
 */
#include "metrics.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/page.h"
#include "shared/stats.h"

struct metric {
    const char *name;
    const char *labels;
    const char *kind;
    const char *help;
};

#define KIND_COUNTER "counter"
#define KIND_GAUGE   "gauge"

#define ROW(identifier, metric, labels, kind, help) { metric, labels, KIND_##kind, help },
static const struct metric counters[COUNTER_COUNT] = { COUNTERS(ROW) };
static const struct metric shadow_counters[SHADOW_COUNTER_COUNT] = { SHADOW_COUNTERS(ROW) };
#undef ROW

#define NAME(identifier, name) name,
static const char *const legs[] = { LEGS(NAME) };
#undef NAME
#define ROW(identifier, metric, shadow_metric, help) { metric, shadow_metric, help },
static const struct {
    const char *name;
    const char *shadow_name;
    const char *help;
} times[] = { TIMINGS(ROW) };
#undef ROW

static void print_head(FILE *out, const char *name, const char *kind, const char *help)
{
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind);
}

/* The value of a label: backslash, quote and newline are escaped, all else is as it is. */
static void print_label(FILE *out, const char *label, const char *value)
{
    fprintf(out, "%s=\"", label);
    for (; *value != '\0'; value++) {
        if (*value == '\n')
            fputs("\\n", out);
        else if (*value == '\\' || *value == '"')
            fprintf(out, "\\%c", *value);
        else
            fputc(*value, out);
    }
    fputc('"', out);
}

/* Rows of one metric stand together: its head comes with the first of them. */
static bool is_first_row(const struct metric *rows, size_t i)
{
    return i == 0 || strcmp(rows[i].name, rows[i - 1].name) != 0;
}

static void print_counters(const struct page *page, FILE *out)
{
    for (size_t i = 0; i < COUNTER_COUNT; i++) {
        const struct metric *row = &counters[i];
        if (row->name[0] == '\0')
            continue;
        if (is_first_row(counters, i))
            print_head(out, row->name, row->kind, row->help);
        fputs(row->name, out);
        if (row->labels[0] != '\0')
            fprintf(out, "{%s}", row->labels);
        fprintf(out, " %" PRIu64 "\n", page_sum(page, (enum counter)i));
    }
}

static void print_closed(const struct page *page, FILE *out)
{
    static const char name[] = "doppel_sessions_closed_total";

    print_head(out, name, KIND_COUNTER, "sessions that are over, by why they ended");
    for (size_t i = 0; i < SESSION_REASON_COUNT; i++)
        fprintf(out, "%s{reason=\"%s\"} %" PRIu64 "\n", name,
                session_reason_name((enum session_reason)i),
                page_sum_closed(page, (enum session_reason)i));
}

/* labels: what stands beside the shadow's name, or "". */
static void print_shadow_sum(FILE *out, const char *metric, const char *shadow, const char *labels,
                             uint64_t sum)
{
    fprintf(out, "%s{", metric);
    print_label(out, "shadow", shadow);
    fprintf(out, "%s%s} %" PRIu64 "\n", labels[0] != '\0' ? "," : "", labels, sum);
}

static void print_shadow_row(const struct page *page, FILE *out, enum shadow_counter counter)
{
    const struct metric *row = &shadow_counters[counter];

    for (size_t shadow = 0; shadow < page->row_count; shadow++)
        print_shadow_sum(out, row->name, page->rows[shadow].name, row->labels,
                         page_sum_shadow(page, shadow, counter));
}

static void print_shadow_counters(const struct page *page, FILE *out)
{
    for (size_t i = 0; i < SHADOW_COUNTER_COUNT; i++) {
        const struct metric *row = &shadow_counters[i];
        if (row->name[0] == '\0')
            continue;
        if (is_first_row(shadow_counters, i))
            print_head(out, row->name, row->kind, row->help);
        print_shadow_row(page, out, (enum shadow_counter)i);
    }
}

static void print_results(const struct page *page, FILE *out, size_t shadow)
{
    char label[64];

    for (size_t i = 0; i < SHADOW_RESULT_COUNT; i++) {
        snprintf(label, sizeof label, "result=\"%s\"", shadow_result_name((enum shadow_result)i));
        print_shadow_sum(out, "doppel_shadow_sessions_total", page->rows[shadow].name, label,
                         page_sum_result(page, shadow, (enum shadow_result)i));
    }
}

static void print_reasons(const struct page *page, FILE *out, size_t shadow)
{
    char label[64];

    for (size_t i = 0; i < SHADOW_REASON_COUNT; i++) {
        snprintf(label, sizeof label, "reason=\"%s\"", shadow_reason_name((enum shadow_reason)i));
        print_shadow_sum(out, "doppel_shadow_closed_total", page->rows[shadow].name, label,
                         page_sum_reason(page, shadow, (enum shadow_reason)i));
    }
}

static void print_shadow_ends(const struct page *page, FILE *out)
{
    print_head(out, "doppel_shadow_sessions_total", KIND_COUNTER,
               "sessions that are over, by what became of the shadow");
    for (size_t shadow = 0; shadow < page->row_count; shadow++)
        print_results(page, out, shadow);
    print_head(out, "doppel_shadow_closed_total", KIND_COUNTER,
               "ends of shadow connections, by why; fin and rst_delivered are success");
    for (size_t shadow = 0; shadow < page->row_count; shadow++)
        print_reasons(page, out, shadow);
}

static void print_breakers(const struct page *page, FILE *out)
{
    static const char name[] = "doppel_breaker_state";

    print_head(out, name, KIND_GAUGE, "0: closed, 1: open, 2: half open, a probe is under way");
    for (size_t shadow = 0; shadow < page->row_count; shadow++)
        print_shadow_sum(out, name, page->rows[shadow].name, "",
                         (uint64_t)breaker_state(&page->rows[shadow].breaker));
}

/* Whose times a histogram tells: label="NAME", which needs no escapes. */
struct whose {
    const char *label;
    const char *name;
};

/* What took at most so long, bound by bound, then the sum and the count. */
static void print_histogram(FILE *out, const char *metric, struct whose whose,
                            const struct histogram_sum *sum)
{
    uint64_t count = 0;
    char     label[64];

    snprintf(label, sizeof label, "%s=\"%s\"", whose.label, whose.name);
    for (size_t i = 0; i < HISTOGRAM_BOUNDS; i++) {
        count += sum->buckets[i];
        fprintf(out, "%s_bucket{%s,le=\"%g\"} %" PRIu64 "\n", metric, label, histogram_bound(i),
                count);
    }
    count += sum->buckets[HISTOGRAM_BOUNDS];
    fprintf(out, "%s_bucket{%s,le=\"+Inf\"} %" PRIu64 "\n", metric, label, count);
    fprintf(out, "%s_sum{%s} %.6f\n", metric, label, (double)sum->microseconds / 1e6);
    fprintf(out, "%s_count{%s} %" PRIu64 "\n", metric, label, count);
}

static void print_times(const struct page *page, FILE *out)
{
    for (size_t i = 0; i < TIMING_COUNT; i++) {
        print_head(out, times[i].name, "histogram", times[i].help);
        for (size_t leg = 0; leg < LEG_COUNT; leg++) {
            struct histogram_sum sum = page_sum_times(page, (enum leg)leg, (enum timing)i);

            print_histogram(out, times[i].name, (struct whose){ "leg", legs[leg] }, &sum);
        }
    }
}

static void print_shadow_times(const struct page *page, FILE *out)
{
    for (size_t i = 0; i < TIMING_COUNT; i++) {
        print_head(out, times[i].shadow_name, "histogram", times[i].help);
        for (size_t shadow = 0; shadow < page->row_count; shadow++) {
            struct histogram_sum sum = page_sum_shadow_times(page, shadow, (enum timing)i);
            const struct whose whose = { "shadow", page->rows[shadow].name };

            print_histogram(out, times[i].shadow_name, whose, &sum);
        }
    }
}

static bool serves(const struct slot *slot)
{
    int state = atomic_load(&slot->state);

    return state == WORKER_READY || state == WORKER_DRAINING;
}

/* From this slot on. */
static int count_workers(const struct page *page, size_t from, unsigned generation)
{
    int workers = 0;

    for (size_t i = from; i < page->slots_used; i++)
        workers += serves(&page->slots[i]) && page->slots[i].generation == generation;
    return workers;
}

/* The newest generation, and older ones that still finish their sessions. */
static void print_workers(const struct page *page, FILE *out)
{
    unsigned newest = page->generation;
    int      total = count_workers(page, 1, newest);

    print_head(out, "doppel_workers", KIND_GAUGE, "workers that serve sessions");
    fprintf(out, "doppel_workers{generation=\"%u\"} %d\n", newest, total);
    for (size_t i = 1; i < page->slots_used; i++) {
        unsigned generation = page->slots[i].generation;
        int      rest = count_workers(page, i, generation);

        if (generation != newest && serves(&page->slots[i]) &&
            rest == count_workers(page, 1, generation))
            fprintf(out, "doppel_workers{generation=\"%u\"} %d\n", generation, rest);
    }
    print_head(out, "doppel_build_info", KIND_GAUGE, "always 1; the labels say what runs");
    fprintf(out, "doppel_build_info{version=\"%s\"} 1\n", stats_version());
}

/* What the processes cost together. */
struct usage {
    double cpu_seconds;
    uint64_t resident_bytes;
    uint64_t descriptors;
};

/* Answers the text behind the program's name, which may hold blanks and brackets (proc(5)). */
static const char *read_stat(pid_t pid, char *text, size_t size)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return NULL;
    size_t length = fread(text, 1, size - 1, file);
    fclose(file);
    text[length] = '\0';
    const char *behind = strrchr(text, ')');
    return behind != NULL ? behind + 1 : NULL;
}

/* Behind the name: utime, stime, cutime, cstime (fields 14 to 17) and rss (24); see proc(5). */
#define STAT_FIELDS                                                                                \
    " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64    \
    " %*d %*d %*d %*d %*u %*u %" SCNu64

/* The times of children are those of workers that are gone, so the sum never falls. */
static void add_times(struct usage *usage, pid_t pid)
{
    char text[1024];
    const char *fields = read_stat(pid, text, sizeof text);
    uint64_t ticks[4] = { 0 };
    uint64_t pages = 0;

    if (fields == NULL)
        return;
    int found = sscanf(fields, STAT_FIELDS, &ticks[0], &ticks[1], &ticks[2], &ticks[3], &pages);
    if (found != 5)
        return;
    uint64_t sum = ticks[0] + ticks[1] + ticks[2] + ticks[3];
    usage->cpu_seconds += (double)sum / (double)sysconf(_SC_CLK_TCK);
    usage->resident_bytes += pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Since Linux 6.2 the directory's size is their number, which may be asked for also where the
 * directory may not be read: that of a process whose memory is hidden (listen/privileges.h). */
static void add_descriptors(struct usage *usage, pid_t pid)
{
    struct stat about;
    char        path[64];

    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    if (stat(path, &about) == 0 && about.st_size > 0) {
        usage->descriptors += (uint64_t)about.st_size;
        return;
    }
    DIR *directory = opendir(path);
    if (directory == NULL)
        return;
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory))
        usage->descriptors += entry->d_name[0] != '.';
    closedir(directory);
    if (pid == getpid())
        usage->descriptors--; /* the directory itself */
}

static struct usage add_up_usage(const struct page *page)
{
    struct usage usage = { 0 };

    add_times(&usage, getpid());
    add_descriptors(&usage, getpid());
    for (size_t i = 1; i < page->slots_used; i++) {
        pid_t pid = atomic_load(&page->slots[i].pid);
        if (atomic_load(&page->slots[i].state) == WORKER_NONE || pid == 0)
            continue;
        add_times(&usage, pid);
        add_descriptors(&usage, pid);
    }
    return usage;
}

static void print_process(const struct page *page, FILE *out)
{
    struct usage usage = add_up_usage(page);

    print_head(out, "process_cpu_seconds_total", KIND_COUNTER,
               "processor time of all processes, workers that are gone included");
    fprintf(out, "process_cpu_seconds_total %.2f\n", usage.cpu_seconds);
    print_head(out, "process_resident_memory_bytes", KIND_GAUGE,
               "resident memory of all processes; what they share counts in each");
    fprintf(out, "process_resident_memory_bytes %" PRIu64 "\n", usage.resident_bytes);
    print_head(out, "process_open_fds", KIND_GAUGE, "open descriptors of all processes");
    fprintf(out, "process_open_fds %" PRIu64 "\n", usage.descriptors);
    print_head(out, "process_start_time_seconds", KIND_GAUGE,
               "when the supervisor started, in seconds since 1970");
    fprintf(out, "process_start_time_seconds %.3f\n", page->started);
}

void metrics_print(const struct page *page, FILE *out)
{
    print_counters(page, out);
    print_closed(page, out);
    print_shadow_counters(page, out);
    print_shadow_ends(page, out);
    print_breakers(page, out);
    print_times(page, out);
    print_shadow_times(page, out);
    print_workers(page, out);
    print_process(page, out);
}

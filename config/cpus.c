/*
 * cpus.c — CPUs by affinity and by cgroup quota.
 *
 * A container sees all CPUs of its host and may use few of them: with a worker for each, the quota
 * is spent early in every period and all of them pause together.
 *
 *     /proc/self/cgroup   0::/a/b       →  /sys/fs/cgroup/a/b/cpu.max, then a's, then the root's
 *                         4:cpu,...:/a  →  /sys/fs/cgroup/cpu/a/cpu.cfs_quota_us and _period_us
 *
 * Inside a container the path may be that of the host and not exist; the root's file then counts.
 */
#include "config/cpus.h"

#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CPUS 65536 /* far beyond any kernel's NR_CPUS */

/* Room for a cgroup's path and the file names below. */
#define PATH_ROOM (PATH_MAX + 64)

static uint64_t cpus_of_affinity(void)
{
    uint64_t count = 0;

    /* The kernel refuses a mask that is smaller than its own. */
    for (int width = 1024; count == 0 && width <= MAX_CPUS; width *= 2) {
        cpu_set_t *mask = CPU_ALLOC(width);
        if (mask == NULL)
            break;
        size_t size = CPU_ALLOC_SIZE(width);
        if (sched_getaffinity(0, size, mask) == 0)
            count = (uint64_t)CPU_COUNT_S(size, mask);
        CPU_FREE(mask);
    }
    return count;
}

static uint64_t rounded_up(long long quota, long long period)
{
    if (quota <= 0 || period <= 0)
        return 0;
    return (uint64_t)(quota / period) + (quota % period != 0);
}

uint64_t cpus_of_quota(const char *text)
{
    long long quota;
    long long period;

    return sscanf(text, "%lld %lld", &quota, &period) == 2 ? rounded_up(quota, period) : 0;
}

static bool read_line(const char *path, char *line, int size)
{
    FILE *file = fopen(path, "re");

    if (file == NULL)
        return false;
    bool fine = fgets(line, size, file) != NULL;
    fclose(file);
    return fine;
}

static uint64_t quota_of_v2(const char *group)
{
    char path[PATH_ROOM];
    char line[64];

    snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", group);
    return read_line(path, line, sizeof line) ? cpus_of_quota(line) : 0;
}

static uint64_t quota_of_v1(const char *group)
{
    char path[PATH_ROOM];
    char quota[64];
    char period[64];

    snprintf(path, sizeof path, "/sys/fs/cgroup/cpu%s/cpu.cfs_quota_us", group);
    if (!read_line(path, quota, sizeof quota))
        return 0;
    snprintf(path, sizeof path, "/sys/fs/cgroup/cpu%s/cpu.cfs_period_us", group);
    if (!read_line(path, period, sizeof period))
        return 0;
    return rounded_up(atoll(quota), atoll(period));
}

/* The tightest limit from this group up to the root; 0: none. */
static uint64_t tightest(char *group, uint64_t (*quota_of)(const char *))
{
    uint64_t min = 0;

    for (;;) {
        uint64_t cpus = quota_of(group);
        if (cpus != 0 && (min == 0 || cpus < min))
            min = cpus;
        char *slash = strrchr(group, '/');
        if (slash == NULL)
            return min;
        *slash = '\0';
    }
}

static bool names_cpu(const char *controllers)
{
    size_t length;

    for (; *controllers != '\0'; controllers += length + (controllers[length] != '\0')) {
        length = strcspn(controllers, ",");
        if (length == strlen("cpu") && strncmp(controllers, "cpu", length) == 0)
            return true;
    }
    return false;
}

/* One line of /proc/self/cgroup: number:controllers:path, as cgroups(7) has it. */
static uint64_t cpus_of_group(char *line)
{
    line[strcspn(line, "\n")] = '\0';
    char *controllers = strchr(line, ':');
    char *group = controllers != NULL ? strchr(controllers + 1, ':') : NULL;

    if (group == NULL)
        return 0;
    *group++ = '\0';
    controllers++;
    if (controllers[0] == '\0')
        return tightest(group, quota_of_v2);
    return names_cpu(controllers) ? tightest(group, quota_of_v1) : 0;
}

static uint64_t cpus_of_cgroup(void)
{
    char line[PATH_MAX];
    uint64_t min = 0;
    FILE *groups = fopen("/proc/self/cgroup", "re");

    if (groups == NULL)
        return 0;
    while (fgets(line, sizeof line, groups) != NULL) {
        uint64_t cpus = cpus_of_group(line);
        if (cpus != 0 && (min == 0 || cpus < min))
            min = cpus;
    }
    fclose(groups);
    return min;
}

uint64_t cpus_usable(void)
{
    uint64_t affinity = cpus_of_affinity();
    uint64_t quota = cpus_of_cgroup();
    uint64_t cpus = affinity;

    if (quota != 0 && (cpus == 0 || quota < cpus))
        cpus = quota;
    return cpus != 0 ? cpus : 1;
}

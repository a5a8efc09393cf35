/*
 * fault_shim.c — system calls that fail or move less than asked, on purpose (LD_PRELOAD).
 *
 *     FAULT_SHIM_SPEC="read,readv:short=1;accept4:errno=EMFILE:n=3..8;recv:errno=EINTR:p=.2"
 *
 * Rules are tried in order; the first that names the call, fits the descriptor and is due applies.
 *
 *     short=N       move at most N bytes           errno=NAME   fail with that error
 *     p=0.x         with that probability          n=A..B, n=A  the A-th to B-th such call only
 *     who=all       in the supervisor too,         n=told       the call that the test names
 *     who=supervisor  or only there
 *                   (usual: its children only)     fd=any       files and pipes too
 *     option=N      get- and setsockopt of that                 (usual: sockets; short: streams)
 *                   option only                  answer=N     getsockopt: that value, unasked
 *     jump=S        clock_gettime: the wall clock is S seconds off, gettimeofday, too
 *     signal=N      the process gets that signal, then the call is made
 *
 * "*" names all calls but those for memory, time, readiness, processes and pipes; EINTR strikes only those that can be interrupted
 * (signal(7)).  Memory is refused to the program itself, never to a library on its behalf: libev aborts
 * without memory.
 *
 * FAULT_SHIM_CONTROL names a file shared with the test (struct control): a switch, a round with which
 * counting begins anew, and how often each rule struck.  A fault is only worth something when it
 * happened.
 */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MAX_RULES   16
#define MAX_PIECES 64 /* of one readv or writev; more are cut off, which is a short call too */
#define NO_LIMIT     SIZE_MAX
#define NO_SOCKET    (-1) /* the call has none yet */
#define NOT_ON_FILES (-2) /* what "*" does not name */

struct control {
    uint32_t on;
    uint32_t round;
    uint64_t told; /* what n=told means */
    uint64_t struck[MAX_RULES];
};

struct rule {
    char     calls[512];    /* ",read,readv," */
    int      error;         /* 0: none */
    size_t   max;          /* bytes moved; NO_LIMIT: as asked */
    double   probability;
    uint64_t first, last;   /* ordinals of matching calls, from 1 */
    int      option;        /* of a socket; 0: any */
    int      answer;        /* of getsockopt */
    long     jump;          /* seconds */
    int      signal;        /* 0: none */
    bool     is_told;       /* which call, by the control page */
    bool     has_answer;
    bool     in_supervisor;
    bool     in_workers;
    bool     any_descriptor;
    uint64_t seen;
};

static const struct {
    const char *name;
    int         number;
} errors[] = {
    { "EINTR", EINTR },
    { "EAGAIN", EAGAIN },
    { "EMFILE", EMFILE },
    { "ENFILE", ENFILE },
    { "ENOBUFS", ENOBUFS },
    { "ENOMEM", ENOMEM },
    { "EPIPE", EPIPE },
    { "ECONNRESET", ECONNRESET },
    { "ECONNABORTED", ECONNABORTED },
    { "EPROTO", EPROTO },
    { "EPERM", EPERM },
    { "EACCES", EACCES },
    { "ENOSPC", ENOSPC },
    { "EIO", EIO },
    { "ENOSYS", ENOSYS },
    { "ETIMEDOUT", ETIMEDOUT },
    { "ENETUNREACH", ENETUNREACH },
    { "EHOSTUNREACH", EHOSTUNREACH },
    { "ECONNREFUSED", ECONNREFUSED },
    { "EADDRNOTAVAIL", EADDRNOTAVAIL },
    { "ENOPROTOOPT", ENOPROTOOPT },
    { "EINVAL", EINVAL },
    { "ENOTCONN", ENOTCONN },
    { "ENOENT", ENOENT },
    { "EFBIG", EFBIG },
    { "EROFS", EROFS },
};

static struct rule     rules[MAX_RULES];
static int             rule_count;
static struct control  own_control = { .on = 1 };
static struct control *control = &own_control;
static uint32_t        round_seen;
static uintptr_t       program_start, program_end;
static pid_t           supervisor;
static uint64_t        randomness = 88172645463325252u;

static void refuse(const char *what, const char *where)
{
    fprintf(stderr, "fault_shim: %s: %s\n", what, where);
    _exit(125);
}

static int error_number(const char *name)
{
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
        if (strcmp(errors[i].name, name) == 0)
            return errors[i].number;
    refuse("unknown error", name);
    return 0;
}

static void read_setting(struct rule *rule, char *setting)
{
    char *value = strchr(setting, '=');

    if (value == NULL)
        refuse("not key=value", setting);
    *value++ = '\0';
    if (strcmp(setting, "short") == 0) {
        rule->max = strtoull(value, NULL, 10);
    } else if (strcmp(setting, "errno") == 0) {
        rule->error = error_number(value);
    } else if (strcmp(setting, "p") == 0) {
        rule->probability = strtod(value, NULL);
    } else if (strcmp(setting, "n") == 0 && strcmp(value, "told") == 0) {
        rule->is_told = true;
    } else if (strcmp(setting, "n") == 0) {
        const char *last = strstr(value, "..");
        rule->first = strtoull(value, NULL, 10);
        rule->last = last != NULL ? strtoull(last + 2, NULL, 10) : rule->first;
    } else if (strcmp(setting, "option") == 0) {
        rule->option = atoi(value);
    } else if (strcmp(setting, "answer") == 0) {
        rule->answer = atoi(value);
        rule->has_answer = true;
    } else if (strcmp(setting, "jump") == 0) {
        rule->jump = strtol(value, NULL, 10);
    } else if (strcmp(setting, "signal") == 0) {
        rule->signal = atoi(value);
    } else if (strcmp(setting, "who") == 0) {
        rule->in_supervisor = strcmp(value, "all") == 0 || strcmp(value, "supervisor") == 0;
        rule->in_workers = strcmp(value, "supervisor") != 0;
    } else if (strcmp(setting, "fd") == 0) {
        rule->any_descriptor = strcmp(value, "any") == 0;
    } else {
        refuse("unknown key", setting);
    }
}

static void read_rule(char *text)
{
    struct rule *rule = &rules[rule_count++];
    char        *rest = NULL;
    char        *calls = strtok_r(text, ":", &rest);

    *rule = (struct rule){
        .max = NO_LIMIT, .probability = 1, .first = 1, .last = UINT64_MAX, .in_workers = true
    };
    snprintf(rule->calls, sizeof rule->calls, ",%s,", calls);
    for (char *s = strtok_r(NULL, ":", &rest); s != NULL; s = strtok_r(NULL, ":", &rest))
        read_setting(rule, s);
}

static void open_control(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);

    if (fd < 0)
        refuse("cannot open", path);
    control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (control == MAP_FAILED)
        refuse("cannot map", path);
    close(fd);
}

/* The first object that the linker names is the program. */
static int find_program(struct dl_phdr_info *object, size_t size, void *unused)
{
    (void)size;
    (void)unused;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &object->dlpi_phdr[i];

        if (segment->p_type != PT_LOAD || !(segment->p_flags & PF_X))
            continue;
        program_start = object->dlpi_addr + segment->p_vaddr;
        program_end = program_start + segment->p_memsz;
    }
    return 1;
}

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("FAULT_SHIM_CONTROL");
    const char *seed = getenv("FAULT_SHIM_SEED");
    const char *spec = getenv("FAULT_SHIM_SPEC");
    char       *rest = NULL;

    supervisor = getpid();
    dl_iterate_phdr(find_program, NULL);
    if (path != NULL)
        open_control(path);
    if (seed != NULL)
        randomness ^= strtoull(seed, NULL, 10) << 20;
    if (spec == NULL)
        return;
    char *text = strdup(spec);
    for (char *r = strtok_r(text, ";", &rest); r != NULL; r = strtok_r(NULL, ";", &rest)) {
        if (rule_count == MAX_RULES)
            refuse("too many rules", r);
        read_rule(r);
    }
    free(text);
}

static double random_share(void)
{
    randomness ^= randomness << 13;
    randomness ^= randomness >> 7;
    randomness ^= randomness << 17;
    return (double)(randomness >> 11) / 9007199254740992.0;
}

static bool names(const struct rule *rule, const char *call)
{
    char wanted[32];

    snprintf(wanted, sizeof wanted, ",%s,", call);
    return strstr(rule->calls, wanted) != NULL;
}

static bool names_all(const struct rule *rule)
{
    return strcmp(rule->calls, ",*,") == 0;
}

/* SOCK_STREAM and the like; 0: it is no socket. */
static int socket_type(int fd)
{
    int       type = 0;
    socklen_t size = sizeof type;
    int (*ask)(int, int, int, void *, socklen_t *) = dlsym(RTLD_NEXT, "getsockopt");

    return ask(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 ? type : 0;
}

static bool can_be(const struct rule *rule, const char *call)
{
    return rule->error != EINTR || (strcmp(call, "socket") != 0 && strstr(call, "sockopt") == NULL);
}

static bool fits(const struct rule *rule, int fd)
{
    if (fd < 0 || rule->any_descriptor)
        return true;
    /* A datagram that is cut short is lost, which is another fault: short= is for streams. */
    const int type = socket_type(fd);
    return type != 0 && (rule->max == NO_LIMIT || type == SOCK_STREAM);
}

static void start_round(void)
{
    const uint32_t now = __atomic_load_n(&control->round, __ATOMIC_ACQUIRE);

    if (now == round_seen)
        return;
    round_seen = now;
    for (int i = 0; i < rule_count; i++)
        rules[i].seen = 0;
}

/* Counts a call that the rule is about; true when this one is meant. */
static bool is_due(struct rule *rule)
{
    const uint64_t first = rule->is_told ? control->told : rule->first;
    const uint64_t last = rule->is_told ? control->told : rule->last;

    rule->seen++;
    return rule->seen >= first && rule->seen <= last &&
           (rule->probability >= 1 || random_share() < rule->probability);
}

static bool is_about(const struct rule *rule, const char *call, int fd, int option)
{
    return (names(rule, call) || (fd != NOT_ON_FILES && names_all(rule))) &&
           (rule->option == 0 || rule->option == option) && can_be(rule, call) && fits(rule, fd) &&
           (getpid() == supervisor ? rule->in_supervisor : rule->in_workers);
}

/* The rule that strikes this call, or NULL. */
static const struct rule *strike_option(const char *call, int fd, int option)
{
    const int kept = errno;

    for (int i = 0; i < rule_count && __atomic_load_n(&control->on, __ATOMIC_RELAXED); i++) {
        start_round();
        if (!is_about(&rules[i], call, fd, option) || !is_due(&rules[i]))
            continue;
        __atomic_add_fetch(&control->struck[i], 1, __ATOMIC_RELAXED);
        if (rules[i].signal != 0)
            kill(getpid(), rules[i].signal);
        errno = kept;
        return &rules[i];
    }
    errno = kept;
    return NULL;
}

static const struct rule *strike(const char *call, int fd)
{
    return strike_option(call, fd, 0);
}

/* Of epoll_ctl, which "*" does not name. */
static const struct rule *strike_watch(int fd)
{
    for (int i = 0; i < rule_count; i++) {
        if (names(&rules[i], "epoll_ctl") && fits(&rules[i], fd))
            return strike("epoll_ctl", NOT_ON_FILES);
    }
    return NULL;
}

static bool fails(const struct rule *rule)
{
    if (rule == NULL || rule->error == 0)
        return false;
    errno = rule->error;
    return true;
}

static size_t at_most(const struct rule *rule, size_t size)
{
    return rule != NULL && rule->max < size ? rule->max : size;
}

/* Copies as many pieces as the rule lets through; answers their number. */
static int shorten(const struct rule *rule, const struct iovec *from, int count, struct iovec *to)
{
    size_t room = rule != NULL ? rule->max : NO_LIMIT;
    int    n = 0;

    for (; n < count && n < MAX_PIECES && room > 0; n++) {
        to[n] = from[n];
        if (to[n].iov_len > room)
            to[n].iov_len = room;
        room -= to[n].iov_len;
    }
    return n;
}

#define REAL(type, name, ...)                                                                      \
    static type (*real)(__VA_ARGS__);                                                              \
    if (real == NULL)                                                                              \
    real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

ssize_t read(int fd, void *space, size_t size)
{
    REAL(ssize_t, "read", int, void *, size_t);
    const struct rule *rule = strike("read", fd);
    return fails(rule) ? -1 : real(fd, space, at_most(rule, size));
}

ssize_t __read_chk(int fd, void *space, size_t size, size_t room);
ssize_t __read_chk(int fd, void *space, size_t size, size_t room)
{
    if (size > room)
        abort();
    return read(fd, space, size);
}

ssize_t recv(int fd, void *space, size_t size, int flags)
{
    REAL(ssize_t, "recv", int, void *, size_t, int);
    const struct rule *rule = strike("recv", fd);
    return fails(rule) ? -1 : real(fd, space, at_most(rule, size), flags);
}

ssize_t __recv_chk(int fd, void *space, size_t size, size_t room, int flags);
ssize_t __recv_chk(int fd, void *space, size_t size, size_t room, int flags)
{
    if (size > room)
        abort();
    return recv(fd, space, size, flags);
}

ssize_t recvfrom(int fd, void *restrict space, size_t size, int flags,
                 struct sockaddr *restrict from, socklen_t *restrict length)
{
    REAL(ssize_t, "recvfrom", int, void *, size_t, int, struct sockaddr *, socklen_t *);
    const struct rule *rule = strike("recvfrom", fd);
    return fails(rule) ? -1 : real(fd, space, at_most(rule, size), flags, from, length);
}

ssize_t __recvfrom_chk(int fd, void *space, size_t size, size_t room, int flags,
                       struct sockaddr *from, socklen_t *length);
ssize_t __recvfrom_chk(int fd, void *space, size_t size, size_t room, int flags,
                       struct sockaddr *from, socklen_t *length)
{
    if (size > room)
        abort();
    return recvfrom(fd, space, size, flags, from, length);
}

ssize_t readv(int fd, const struct iovec *space, int count)
{
    REAL(ssize_t, "readv", int, const struct iovec *, int);
    struct iovec       pieces[MAX_PIECES];
    const struct rule *rule = strike("readv", fd);
    return fails(rule) ? -1 : real(fd, pieces, shorten(rule, space, count, pieces));
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    REAL(ssize_t, "recvmsg", int, struct msghdr *, int);
    struct iovec       pieces[MAX_PIECES];
    const struct rule *rule = strike("recvmsg", fd);
    struct msghdr      less = *message;

    if (fails(rule))
        return -1;
    less.msg_iovlen = (size_t)shorten(rule, message->msg_iov, (int)message->msg_iovlen, pieces);
    less.msg_iov = pieces;
    const ssize_t moved = real(fd, &less, flags);
    message->msg_namelen = less.msg_namelen;
    message->msg_controllen = less.msg_controllen;
    message->msg_flags = less.msg_flags;
    return moved;
}

ssize_t write(int fd, const void *bytes, size_t size)
{
    REAL(ssize_t, "write", int, const void *, size_t);
    const struct rule *rule = strike("write", fd);
    return fails(rule) ? -1 : real(fd, bytes, at_most(rule, size));
}

ssize_t send(int fd, const void *bytes, size_t size, int flags)
{
    REAL(ssize_t, "send", int, const void *, size_t, int);
    const struct rule *rule = strike("send", fd);
    return fails(rule) ? -1 : real(fd, bytes, at_most(rule, size), flags);
}

ssize_t sendto(int fd, const void *bytes, size_t size, int flags, const struct sockaddr *to,
               socklen_t length)
{
    REAL(ssize_t, "sendto", int, const void *, size_t, int, const struct sockaddr *, socklen_t);
    const struct rule *rule = strike("sendto", fd);
    return fails(rule) ? -1 : real(fd, bytes, at_most(rule, size), flags, to, length);
}

ssize_t writev(int fd, const struct iovec *bytes, int count)
{
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    struct iovec       pieces[MAX_PIECES];
    const struct rule *rule = strike("writev", fd);
    return fails(rule) ? -1 : real(fd, pieces, shorten(rule, bytes, count, pieces));
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    REAL(ssize_t, "sendmsg", int, const struct msghdr *, int);
    struct iovec       pieces[MAX_PIECES];
    const struct rule *rule = strike("sendmsg", fd);
    struct msghdr      less = *message;

    if (fails(rule))
        return -1;
    less.msg_iovlen = (size_t)shorten(rule, message->msg_iov, (int)message->msg_iovlen, pieces);
    less.msg_iov = pieces;
    return real(fd, &less, flags);
}

int accept4(int fd, struct sockaddr *restrict address, socklen_t *restrict length, int flags)
{
    REAL(int, "accept4", int, struct sockaddr *, socklen_t *, int);
    return fails(strike("accept4", fd)) ? -1 : real(fd, address, length, flags);
}

int socket(int family, int type, int protocol)
{
    REAL(int, "socket", int, int, int);
    return fails(strike("socket", NO_SOCKET)) ? -1 : real(family, type, protocol);
}

/* An interrupted connect(2) goes on by itself, so the shim lets it begin. */
int connect(int fd, const struct sockaddr *address, socklen_t length)
{
    REAL(int, "connect", int, const struct sockaddr *, socklen_t);
    const struct rule *rule = strike("connect", fd);

    if (rule == NULL || rule->error == 0)
        return real(fd, address, length);
    if (rule->error == EINTR && real(fd, address, length) < 0 && errno != EINPROGRESS)
        return -1;
    errno = rule->error;
    return -1;
}

int setsockopt(int fd, int level, int option, const void *value, socklen_t size)
{
    REAL(int, "setsockopt", int, int, int, const void *, socklen_t);
    return fails(strike_option("setsockopt", fd, option)) ? -1
                                                          : real(fd, level, option, value, size);
}

int getsockopt(int fd, int level, int option, void *restrict value, socklen_t *restrict size)
{
    REAL(int, "getsockopt", int, int, int, void *, socklen_t *);
    const struct rule *rule = strike_option("getsockopt", fd, option);

    if (rule != NULL && rule->has_answer && *size >= sizeof rule->answer) {
        memcpy(value, &rule->answer, sizeof rule->answer);
        return 0;
    }
    return fails(rule) ? -1 : real(fd, level, option, value, size);
}

/* --- memory: glibc's own names are there before the dynamic linker can be asked --- */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);

static bool refuses_memory(const char *call, const void *caller)
{
    const uintptr_t from = (uintptr_t)caller;

    if (rule_count == 0 || from < program_start || from >= program_end)
        return false;
    const struct rule *rule = strike(call, NOT_ON_FILES);
    if (rule == NULL || rule->signal != 0)
        return false;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t size)
{
    return refuses_memory("malloc", __builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return refuses_memory("calloc", __builtin_return_address(0)) ? NULL
                                                                 : __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
    return refuses_memory("realloc", __builtin_return_address(0)) ? NULL
                                                                  : __libc_realloc(memory, size);
}

char *strdup(const char *text)
{
    const size_t size = strlen(text) + 1;
    char *copy = refuses_memory("strdup", __builtin_return_address(0)) ? NULL : __libc_malloc(size);

    return copy == NULL ? NULL : memcpy(copy, text, size);
}

void *mmap(void *where, size_t size, int protection, int flags, int fd, off_t offset)
{
    REAL(void *, "mmap", void *, size_t, int, int, int, off_t);
    if (refuses_memory("mmap", __builtin_return_address(0)))
        return MAP_FAILED;
    return real(where, size, protection, flags, fd, offset);
}

/* --- without memory: splice_in is from a socket, splice_out to one --- */

ssize_t splice(int from, off64_t *from_offset, int to, off64_t *to_offset, size_t size,
               unsigned flags)
{
    REAL(ssize_t, "splice", int, off64_t *, int, off64_t *, size_t, unsigned);
    const bool         is_in = socket_type(from) != 0;
    const struct rule *rule = strike(is_in ? "splice_in" : "splice_out", is_in ? from : to);
    return fails(rule) ? -1 : real(from, from_offset, to, to_offset, at_most(rule, size), flags);
}

ssize_t tee(int from, int to, size_t size, unsigned flags)
{
    REAL(ssize_t, "tee", int, int, size_t, unsigned);
    const struct rule *rule = strike("tee", NOT_ON_FILES);
    return fails(rule) ? -1 : real(from, to, at_most(rule, size), flags);
}

/* --- readiness: what watches a socket, or comes to watch something else of it --- */

int epoll_ctl(int set, int what, int fd, struct epoll_event *event)
{
    REAL(int, "epoll_ctl", int, int, int, struct epoll_event *);

    return what != EPOLL_CTL_DEL && fails(strike_watch(fd)) ? -1 : real(set, what, fd, event);
}

/* --- processes and pipes --- */

pid_t fork(void)
{
    REAL(pid_t, "fork", void);
    return fails(strike("fork", NOT_ON_FILES)) ? -1 : real();
}

int pipe2(int ends[2], int flags)
{
    REAL(int, "pipe2", int *, int);
    return fails(strike("pipe2", NOT_ON_FILES)) ? -1 : real(ends, flags);
}

/* --- what a start asks for --- */

#define MAY_FAIL(type, failure, name, parameters, arguments)                                       \
    type name parameters                                                                           \
    {                                                                                              \
        static type(*real) parameters;                                                             \
        if (real == NULL)                                                                          \
            real = (type(*) parameters)dlsym(RTLD_NEXT, #name);                                    \
        return fails(strike(#name, NOT_ON_FILES)) ? failure : real arguments;                      \
    }

MAY_FAIL(FILE *, NULL, fopen, (const char *restrict path, const char *restrict mode), (path, mode))
MAY_FAIL(DIR *, NULL, opendir, (const char *path), (path))
MAY_FAIL(int, -1, lstat, (const char *restrict path, struct stat *restrict about), (path, about))
MAY_FAIL(int, -1, fstat, (int fd, struct stat *about), (fd, about))
MAY_FAIL(int, -1, chmod, (const char *path, mode_t mode), (path, mode))
MAY_FAIL(int, -1, fchmod, (int fd, mode_t mode), (fd, mode))
MAY_FAIL(int, -1, chown, (const char *path, uid_t user, gid_t group), (path, user, group))
MAY_FAIL(int, -1, fchown, (int fd, uid_t user, gid_t group), (fd, user, group))
MAY_FAIL(int, -1, fchownat, (int at, const char *path, uid_t user, gid_t group, int flags),
         (at, path, user, group, flags))
MAY_FAIL(int, -1, unlink, (const char *path), (path))
MAY_FAIL(int, -1, rename, (const char *from, const char *to), (from, to))
MAY_FAIL(int, -1, mkostemp, (char *name, int flags), (name, flags))
MAY_FAIL(int, -1, flock, (int fd, int what), (fd, what))
MAY_FAIL(int, -1, bind, (int fd, const struct sockaddr *address, socklen_t length),
         (fd, address, length))
MAY_FAIL(int, -1, listen, (int fd, int backlog), (fd, backlog))
MAY_FAIL(int, -1, getsockname, (int fd, struct sockaddr *restrict to, socklen_t *restrict size),
         (fd, to, size))
MAY_FAIL(int, -1, epoll_create1, (int flags), (flags))
MAY_FAIL(int, -1, eventfd, (unsigned first, int flags), (first, flags))
MAY_FAIL(int, -1, signalfd, (int fd, const sigset_t *set, int flags), (fd, set, flags))
MAY_FAIL(int, -1, sigprocmask, (int how, const sigset_t *restrict set, sigset_t *restrict old),
         (how, set, old))
MAY_FAIL(sighandler_t, SIG_ERR, signal, (int number, sighandler_t handler), (number, handler))
MAY_FAIL(int, -1, getrlimit, (__rlimit_resource_t which, struct rlimit *limit), (which, limit))
MAY_FAIL(int, -1, setrlimit, (__rlimit_resource_t which, const struct rlimit *limit),
         (which, limit))
MAY_FAIL(int, -1, setresuid, (uid_t real_id, uid_t effective, uid_t saved),
         (real_id, effective, saved))
MAY_FAIL(int, -1, setresgid, (gid_t real_id, gid_t effective, gid_t saved),
         (real_id, effective, saved))
MAY_FAIL(int, -1, initgroups, (const char *user, gid_t group), (user, group))
MAY_FAIL(int, -1, dup3, (int from, int to, int flags), (from, to, flags))
MAY_FAIL(int, -1, close_range, (unsigned first, unsigned last, int flags), (first, last, flags))
MAY_FAIL(ssize_t, -1, getrandom, (void *bytes, size_t size, unsigned flags), (bytes, size, flags))

/* Their last argument is a pointer, or a number, or not there at all: registers, all the same. */
#define LAST_ARGUMENT(after, last)                                                                 \
    va_list list;                                                                                  \
    va_start(list, after);                                                                         \
    const long last = va_arg(list, long);                                                          \
    va_end(list)

int open(const char *path, int flags, ...)
{
    REAL(int, "open", const char *, int, mode_t);
    LAST_ARGUMENT(flags, mode);
    return fails(strike("open", NOT_ON_FILES)) ? -1 : real(path, flags, (mode_t)mode);
}

int fcntl(int fd, int what, ...)
{
    REAL(int, "fcntl", int, int, long);
    LAST_ARGUMENT(what, argument);
    return fails(strike("fcntl", NOT_ON_FILES)) ? -1 : real(fd, what, argument);
}

int prctl(int what, ...)
{
    REAL(int, "prctl", int, unsigned long, unsigned long, unsigned long, unsigned long);
    unsigned long arguments[4];
    va_list       list;

    va_start(list, what);
    for (int i = 0; i < 4; i++)
        arguments[i] = va_arg(list, unsigned long);
    va_end(list);
    return fails(strike("prctl", NOT_ON_FILES))
               ? -1
               : real(what, arguments[0], arguments[1], arguments[2], arguments[3]);
}

/* --- time --- */

static time_t jump(void)
{
    const struct rule *rule = strike("clock_gettime", NOT_ON_FILES);

    return rule != NULL ? rule->jump : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    REAL(int, "clock_gettime", clockid_t, struct timespec *);
    const int status = real(clock, now);

    if (clock == CLOCK_REALTIME)
        now->tv_sec += jump();
    return status;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    REAL(int, "gettimeofday", struct timeval *, void *);
    const int status = real(now, zone);

    now->tv_sec += jump();
    return status;
}

/*
 * privileges.c — from root to an ordinary user, and no way back.
 *
 *     groups ──▶ bounding set ──▶ user ──▶ capabilities ──▶ no_new_privs ──▶ is root really gone?
 *
 * The order matters: each step takes the power that the next one no longer needs.  The capabilities
 * are set by the system calls themselves, for there are two of them and no library is worth it.
 */
#include "listen/privileges.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/sanitized.h"
#include "config/config.h"

#define MAX_ID 0xfffffffeUL /* the one behind it means "leave it as it is" (setresuid(2)) */

struct identity {
    bool        wished; /* --user was said */
    uid_t       user;
    gid_t       group;
    const char *name;   /* borrowed from the configuration; NULL: the user was said as a number */
};

static struct identity whom; /* there is one for the whole process */

/* --- who ---------------------------------------------------------------------------------- */

static bool is_number(const char *text, unsigned long *number)
{
    char *end;

    errno = 0;
    *number = strtoul(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 && *number <= MAX_ID;
}

static bool find_user(const struct config *config, struct identity *identity, struct fault *fault)
{
    unsigned long  number;
    bool           is_numeric = is_number(config->user, &number);
    struct passwd *entry = is_numeric ? getpwuid((uid_t)number) : getpwnam(config->user);

    if (entry != NULL) {
        identity->user = entry->pw_uid;
        identity->group = entry->pw_gid;
        identity->name = config->user;
        if (is_numeric)
            identity->name = NULL;
        return true;
    }
    if (!is_numeric)
        return fault_set(fault, "--user: there is no user \"%.120s\"", config->user);
    if (config->group == NULL)
        return fault_set(fault,
                         "--user: no user has the number %.120s; say --group, too, if it is right",
                         config->user);
    identity->user = (uid_t)number;
    return true;
}

static bool find_group(const struct config *config, struct identity *identity, struct fault *fault)
{
    unsigned long number;

    if (config->group == NULL)
        return true;
    if (is_number(config->group, &number)) {
        identity->group = (gid_t)number;
        return true;
    }
    struct group *entry = getgrnam(config->group);
    if (entry == NULL)
        return fault_set(fault, "--group: there is no group \"%.120s\"", config->group);
    identity->group = entry->gr_gid;
    return true;
}

bool privileges_find(const struct config *config, struct fault *fault)
{
    whom = (struct identity){ .wished = config->user != NULL };
    if (config->user == NULL && config->group != NULL)
        return fault_set(fault, "--group needs --user; say whom to become");
    if (config->user == NULL)
        return true;
    if (!find_user(config, &whom, fault) || !find_group(config, &whom, fault))
        return false;
    if (whom.user == 0)
        return fault_set(fault, "--user %.120s is root; leave it out, or name somebody else",
                         config->user);
    return true;
}

/* --- dropping ----------------------------------------------------------------------------- */

static uint64_t capability(int number)
{
    return (uint64_t)1 << number;
}

static struct __user_cap_header_struct header(void)
{
    return (struct __user_cap_header_struct){ .version = _LINUX_CAPABILITY_VERSION_3 };
}

/* Those we may use at all. */
static uint64_t permitted_capabilities(void)
{
    struct __user_cap_header_struct about = header();
    struct __user_cap_data_struct   data[2] = { { 0 } };

    if (syscall(SYS_capget, &about, data) != 0)
        return 0;
    return data[0].permitted | (uint64_t)data[1].permitted << 32;
}

static bool set_capabilities(uint64_t kept)
{
    struct __user_cap_header_struct about = header();
    uint32_t                        low = (uint32_t)kept;
    uint32_t                        high = (uint32_t)(kept >> 32);
    struct __user_cap_data_struct   data[2] = { { low, low, 0 }, { high, high, 0 } };

    return syscall(SYS_capset, &about, data) == 0;
}

/* Nothing that is executed later could bring them back.  Without CAP_SETPCAP the set stays as the
 * container engine made it. */
static void shrink_bounding_set(uint64_t kept)
{
    for (int number = 0; prctl(PR_CAPBSET_READ, number, 0, 0, 0) >= 0; number++) {
        if ((kept & capability(number)) == 0)
            prctl(PR_CAPBSET_DROP, number, 0, 0, 0);
    }
}

static bool set_groups(const struct identity *identity)
{
    int set =
        identity->name != NULL ? initgroups(identity->name, identity->group) : setgroups(0, NULL);

    return set == 0 && setresgid(identity->group, identity->group, identity->group) == 0;
}

static bool become(const struct identity *identity, uint64_t kept)
{
    uid_t user = identity->user;

    if (!set_groups(identity))
        return false;
    shrink_bounding_set(kept);
    return prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0 && setresuid(user, user, user) == 0 &&
           prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) == 0 && set_capabilities(kept) &&
           prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) == 0 &&
           prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
}

static bool is_already(const struct identity *identity)
{
    return geteuid() == identity->user && getuid() == identity->user &&
           getegid() == identity->group && getgid() == identity->group;
}

/* What setresuid(2) says is one thing, what it did another. */
static bool may_be_root_again(void)
{
    return setresuid((uid_t)-1, 0, (uid_t)-1) == 0 || setuid(0) == 0;
}

bool privileges_are_enough(struct fault *fault)
{
    if (!whom.wished || geteuid() == 0 || is_already(&whom))
        return true;
    return fault_set(fault, "--user needs root; start doppel as root, or leave --user out");
}

bool privileges_give_descriptor(int descriptor)
{
    return !whom.wished || fchown(descriptor, whom.user, whom.group) == 0;
}

bool privileges_give_path(int inode)
{
    return !whom.wished || fchownat(inode, "", whom.user, whom.group, AT_EMPTY_PATH) == 0;
}

bool privileges_drop(const struct config *config, struct fault *fault)
{
    uint64_t wanted = capability(CAP_NET_BIND_SERVICE);

    if (!whom.wished)
        return true;
    log_give_to(whom.user, whom.group);
    if (is_already(&whom))
        return true;
    if (config->transparent)
        wanted |= capability(CAP_NET_ADMIN);
    if (!become(&whom, wanted & permitted_capabilities()))
        return fault_set(fault, "cannot become --user %.120s: %s", config->user,
                         strerrordesc_np(errno));
    if (!is_already(&whom) || may_be_root_again())
        return fault_set(fault, "--user %.120s: root did not go away", config->user);
    return true;
}

/* --- what is left ------------------------------------------------------------------------- */

static void check_file(const char *path)
{
    int file = path != NULL ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) : -1;

    if (path != NULL && file < 0)
        log_warning("supervisor", "not_readable", "file=%s why=%s", path, strerrordesc_np(errno));
    if (file >= 0)
        close(file);
}

static void check_files(const struct text_list *files)
{
    for (size_t i = 0; i < files->count; i++)
        check_file(files->texts[i]);
}

static void check_target(const struct target_config *target)
{
    check_file(target->ca);
    check_file(target->cert);
    check_file(target->key);
}

void privileges_check_files(const struct config *config)
{
    if (!whom.wished)
        return;
    check_files(&config->files);
    check_files(&config->tls_certs);
    check_files(&config->tls_keys);
    check_file(config->tls_key_passphrase_file);
    check_file(config->tls_client_ca);
    check_file(config->admin_token_file);
    for (size_t i = 0; i < config->primary_count; i++)
        check_target(&config->primaries[i]);
    for (size_t i = 0; i < config->shadow_count; i++)
        check_target(&config->shadows[i].target);
}

#ifdef IS_SANITIZED
void privileges_guard_memory(const struct config *config)
{
    (void)config;
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}
#else
static void hide_memory(void)
{
    bool no_core = setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 }) == 0;
    bool no_debugger = prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0;

    if (!no_core || !no_debugger)
        log_warning("supervisor", "not_hidden", "why=%s", strerrordesc_np(errno));
}

static void show_memory(void)
{
    struct rlimit limit = { 0 };

    getrlimit(RLIMIT_CORE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_CORE, &limit);
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    log_warning("supervisor", "not_hidden", "why=%s",
                limit.rlim_max > 0 ? "--core allows core files, which hold what clients sent"
                                   : "--core allows debuggers; ulimit -Hc forbids core files");
}

void privileges_guard_memory(const struct config *config)
{
    if (config->core)
        show_memory();
    else
        hide_memory();
}
#endif

/*
 * test_limits.c — how the descriptors of a worker are divided, and how many there are.
 *
 * getrlimit and setrlimit are played here, so that any limit can be had.
 */
#include "process/limits.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "config/config.h"

#define A_MILLION 1048576 /* nobody needs more, whatever a container allows */
#define MAX_EACH 65536   /* sessions of a worker */

static struct rlimit allowed; /* what the process may open now */
static bool may_read;
static bool may_raise;

int __wrap_getrlimit(int resource, struct rlimit *limit);
int __wrap_setrlimit(int resource, const struct rlimit *limit);

int __wrap_getrlimit(int resource, struct rlimit *limit)
{
    assert_int_equal(resource, RLIMIT_NOFILE);
    *limit = allowed;
    errno = EPERM;
    return may_read ? 0 : -1;
}

int __wrap_setrlimit(int resource, const struct rlimit *limit)
{
    assert_int_equal(resource, RLIMIT_NOFILE);
    assert_true(limit->rlim_cur <= limit->rlim_max);
    assert_true(limit->rlim_max == allowed.rlim_max); /* it could never be raised again */
    errno = EPERM;
    if (!may_raise)
        return -1;
    allowed = *limit;
    return 0;
}

static int play_along(void **state)
{
    (void)state;
    may_read = may_raise = true;
    return 0;
}

static struct config config_of(size_t workers, size_t shadows, size_t max_sessions)
{
    return (struct config){
        .listen_count = 1,
        .workers = workers,
        .shadow_count = shadows,
        .max_sessions = max_sessions,
    };
}

/* --- dividing ---------------------------------------------------------------------------- */

static size_t used(const struct limits *limits)
{
    return 2 * limits->sessions_per_worker + limits->shadows_per_worker +
           2 * limits->pipes_per_worker;
}

static void check_division(const struct config *config, size_t descriptors)
{
    const struct limits limits = limits_choose(config, descriptors);

    assert_true(limits.sessions_per_worker >= 1);
    assert_true(limits.sessions_per_worker <= MAX_EACH);
    assert_true(limits.sessions >= 1);
    assert_true(limits.sessions <= limits.sessions_per_worker * config->workers);
    assert_true(used(&limits) + config->listen_count * config->workers < descriptors);
    if (config->max_sessions > 0) {
        assert_true(limits.sessions <= config->max_sessions);
        assert_int_equal(limits.is_lowered, limits.sessions < config->max_sessions);
    } else {
        assert_false(limits.is_lowered);
        assert_true(limits.shadows_per_worker >= limits.sessions_per_worker * config->shadow_count);
    }
}

static void test_a_worker_never_gets_more_than_there_is(void **state)
{
    static const size_t descriptors[] = {
        64, 100, 256, 1000, 1024, 4096, 65536, 500000, A_MILLION
    };
    static const size_t wishes[] = { 0, 1, 10, 1000, 100000, 10000000 };

    (void)state;
    for (size_t i = 0; i < sizeof descriptors / sizeof descriptors[0]; i++) {
        for (size_t j = 0; j < sizeof wishes / sizeof wishes[0]; j++) {
            for (size_t workers = 1; workers <= 8; workers++) {
                for (size_t shadows = 0; shadows <= 16; shadows += 4) {
                    const struct config config = config_of(workers, shadows, wishes[j]);

                    check_division(&config, descriptors[i]);
                }
            }
        }
    }
}

static void test_without_a_wish_every_session_has_room_for_all_its_shadows(void **state)
{
    const struct config none = config_of(1, 0, 0);
    const struct config three = config_of(1, 3, 0);
    const struct limits without = limits_choose(&none, 1024);
    const struct limits with = limits_choose(&three, 1024);

    (void)state;
    assert_true(without.sessions > 400 && without.sessions < 512);
    assert_true(with.sessions > 150 && with.sessions < 1024 / 5);
    assert_true(with.shadows_per_worker >= 3 * with.sessions);
}

static void test_a_wish_that_fits_is_kept_over_all_workers(void **state)
{
    const struct config config = config_of(2, 1, 300);
    const struct limits limits = limits_choose(&config, 1024);

    (void)state;
    assert_int_equal(limits.sessions, 300);
    assert_false(limits.is_lowered);
    /* The kernel may give all of them to one worker. */
    assert_int_equal(limits.sessions_per_worker, 300);
}

static void test_a_wish_that_does_not_fit_is_lowered_to_what_does(void **state)
{
    const struct config config = config_of(2, 0, 5000);
    const struct limits limits = limits_choose(&config, 1024);

    (void)state;
    assert_true(limits.is_lowered);
    assert_int_equal(limits.sessions, 2 * limits.sessions_per_worker);
    assert_true(limits.sessions_per_worker > 400 && limits.sessions_per_worker < 512);
}

static void test_a_smaller_wish_leaves_more_to_shadows(void **state)
{
    const struct config many = config_of(1, 8, 300);
    const struct config few = config_of(1, 8, 30);
    const struct limits tight = limits_choose(&many, 1024);
    const struct limits wide = limits_choose(&few, 1024);

    (void)state;
    assert_true(wide.shadows_per_worker >= 30 * 8);
    assert_true(tight.shadows_per_worker < wide.shadows_per_worker);
}

static void test_more_descriptors_never_mean_fewer_sessions(void **state)
{
    const struct config config = config_of(3, 2, 0);
    size_t before = 0;

    (void)state;
    for (size_t descriptors = 64; descriptors < 5000; descriptors += 7) {
        const struct limits limits = limits_choose(&config, descriptors);

        assert_true(limits.sessions >= before);
        before = limits.sessions;
    }
}

static void test_every_places_listening_sockets_are_counted(void **state)
{
    struct config config = config_of(8, 0, 0);

    (void)state;
    config.io = IO_MODE_COPY; /* pipes would give way a little */
    const struct limits one = limits_choose(&config, 1024);
    config.listen_count = 16;
    assert_true(limits_choose(&config, 1024).sessions_per_worker <=
                one.sessions_per_worker - (16 - 1) * 8 / 2);
}

static void test_pipes_are_few_and_none_when_they_are_not_wanted(void **state)
{
    struct config       config = config_of(1, 1, 0);
    const struct limits tight = limits_choose(&config, 256);
    const struct limits usual = limits_choose(&config, 1024);
    const struct limits wide = limits_choose(&config, A_MILLION);

    (void)state;
    assert_int_equal(tight.pipes_per_worker, 0);
    assert_in_range(usual.pipes_per_worker, 16, 64);
    assert_int_equal(wide.pipes_per_worker, 1024); /* what they hold is memory of the kernel */
    config.io = IO_MODE_COPY;
    assert_int_equal(limits_choose(&config, 1024).pipes_per_worker, 0);
}

static void test_the_worst_case_is_full_sessions_and_all_shadow_memory(void **state)
{
    struct shadow_config shadows[3] = { { .buffer = 5000 }, { .buffer = 10 }, { .buffer = 0 } };
    struct config        config = config_of(2, 3, 100);
    const struct limits  limits = limits_choose(&config, 1024);

    (void)state;
    config.shadows = shadows;
    config.buffer = 1000;
    config.shadow_memory = 7;
    assert_true(limits_worst_memory(&config, &limits) == 100 * 2 * 1000 + 7);

    /* One that makes the client wait is not in the shadow memory. */
    shadows[0].overflow = SHADOW_BLOCK;
    assert_true(limits_worst_memory(&config, &limits) == 100 * (5000 + 1000) + 7);
}

/* --- how many ---------------------------------------------------------------------------- */

static size_t raised(rlim_t soft, rlim_t hard)
{
    allowed = (struct rlimit){ .rlim_cur = soft, .rlim_max = hard };
    return limits_raise_descriptors();
}

static void test_the_limit_is_raised_as_far_as_it_goes(void **state)
{
    (void)state;
    assert_int_equal(raised(1024, 524288), 524288);
    assert_int_equal(allowed.rlim_cur, 524288);
    assert_int_equal(raised(4096, 4096), 4096);
    assert_int_equal(raised(64, 100), 100);
}

static void test_no_more_than_a_million_is_ever_asked_for(void **state)
{
    (void)state;
    assert_int_equal(raised(1024, RLIM_INFINITY), A_MILLION);
    assert_int_equal(allowed.rlim_cur, A_MILLION);
    assert_int_equal(raised(1024, 1000000000), A_MILLION);
    assert_int_equal(raised(RLIM_INFINITY, RLIM_INFINITY), A_MILLION);
}

static void test_a_limit_beyond_a_million_is_not_lowered(void **state)
{
    (void)state;
    assert_int_equal(raised(2000000, 1000000000), A_MILLION);
    assert_int_equal(allowed.rlim_cur, 2000000);
}

static void test_a_limit_that_may_not_be_raised_stays(void **state)
{
    (void)state;
    may_raise = false;
    assert_int_equal(raised(1024, 4096), 1024);
}

static void test_a_limit_that_cannot_be_read_is_a_usual_one(void **state)
{
    (void)state;
    may_read = false;
    assert_int_equal(raised(0, 0), 1024);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_worker_never_gets_more_than_there_is),
        cmocka_unit_test(test_without_a_wish_every_session_has_room_for_all_its_shadows),
        cmocka_unit_test(test_a_wish_that_fits_is_kept_over_all_workers),
        cmocka_unit_test(test_a_wish_that_does_not_fit_is_lowered_to_what_does),
        cmocka_unit_test(test_a_smaller_wish_leaves_more_to_shadows),
        cmocka_unit_test(test_more_descriptors_never_mean_fewer_sessions),
        cmocka_unit_test(test_every_places_listening_sockets_are_counted),
        cmocka_unit_test(test_pipes_are_few_and_none_when_they_are_not_wanted),
        cmocka_unit_test(test_the_worst_case_is_full_sessions_and_all_shadow_memory),
        cmocka_unit_test_setup(test_the_limit_is_raised_as_far_as_it_goes, play_along),
        cmocka_unit_test_setup(test_no_more_than_a_million_is_ever_asked_for, play_along),
        cmocka_unit_test_setup(test_a_limit_beyond_a_million_is_not_lowered, play_along),
        cmocka_unit_test_setup(test_a_limit_that_may_not_be_raised_stays, play_along),
        cmocka_unit_test_setup(test_a_limit_that_cannot_be_read_is_a_usual_one, play_along),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

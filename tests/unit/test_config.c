/*
 * test_config.c — flags, environment and file become one configuration, and print back to it.
 */
#include "config/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/files.h"
#include "base/network.h"
#include "config/cpus.h"
#include "config/help.h"
#include "config/load.h"
#include "config/options.h"

#define MAX_WORDS 64

/* What one call of config_load() gave. */
struct loaded {
    struct config *config;
    enum config_action action;
    struct config_warnings warnings;
    struct fault fault;
};

static char path_of_file[] = "/tmp/doppel-test-config-XXXXXX";

static int make_file(void **state)
{
    (void)state;
    int file = mkstemp(path_of_file);
    return file >= 0 ? close(file) : -1;
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path_of_file);
}

static void write_file(const char *text, size_t length)
{
    FILE *file = fopen(path_of_file, "w");

    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

/* Cuts at blanks; a word that needs one has it as ~. */
static int cut_words(char *text, char *words[MAX_WORDS])
{
    int count = 0;

    for (char *word = strtok(text, " "); word != NULL; word = strtok(NULL, " ")) {
        for (char *c = word; *c != '\0'; c++)
            if (*c == '~')
                *c = ' ';
        assert_true(count < MAX_WORDS - 1);
        words[count++] = word;
    }
    words[count] = NULL;
    return count;
}

static struct loaded load_with(const char *flags, const char *variables)
{
    struct loaded loaded = { .config = NULL };
    char *line = NULL;
    char *surroundings = strdup(variables);
    char *argv[MAX_WORDS];
    char *environment[MAX_WORDS];

    assert_true(asprintf(&line, "doppel %s", flags) > 0);
    const struct command command = { cut_words(line, argv), argv, environment };
    cut_words(surroundings, environment);
    files_forget();
    loaded.config = config_load(&command, &loaded.action, &loaded.warnings, &loaded.fault);
    free(line);
    free(surroundings);
    return loaded;
}

static struct loaded load(const char *flags)
{
    return load_with(flags, "PATH=/bin HOME=/");
}

static struct loaded load_file(const char *text, const char *flags)
{
    char *line = NULL;

    write_file(text, strlen(text));
    assert_true(asprintf(&line, "-c %s %s", path_of_file, flags) > 0);
    struct loaded loaded = load(line);
    free(line);
    return loaded;
}

static void forget(struct loaded *loaded)
{
    config_free(loaded->config);
    config_warnings_free(&loaded->warnings);
}

static void assert_loaded(const struct loaded *loaded)
{
    if (loaded->config == NULL)
        fail_msg("%s", loaded->fault.text);
}

/* Refused with a sentence that holds this text. */
static void assert_refused(struct loaded loaded, const char *part)
{
    assert_null(loaded.config);
    if (strstr(loaded.fault.text, part) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", loaded.fault.text, part);
    assert_null(strchr(loaded.fault.text, '\n'));
    forget(&loaded);
}

#define BASE "-l 8080 -r localhost:8081 "

static void test_defaults_are_those_of_the_table(void **state)
{
    (void)state;
    struct loaded loaded = load(BASE "-d localhost:8082");

    assert_loaded(&loaded);
    const struct config *config = loaded.config;
    assert_int_equal(loaded.action, CONFIG_RUN);
    assert_int_equal(config->listen_count, 1);
    assert_string_equal(config->listens[0].name, "8080");
    assert_int_equal(config->listens[0].endpoint.port, 8080);
    assert_int_equal(config->backlog, 4096);
    assert_int_equal(config->max_sessions, 0);
    assert_int_equal(config->buffer, 256 * 1024);
    assert_int_equal(config->shadow_memory, 256 * 1024 * 1024);
    assert_true(config->connect_timeout == 5.0 && config->idle_timeout == 3600.0);
    assert_true(config->half_close_timeout == 300.0 && config->tcp_user_timeout == 0.0);
    assert_true(config->drain_timeout == 8.0);
    assert_true(config->workers_auto && config->workers >= 1);
    assert_int_equal(config->log_level, LEVEL_INFO);
    assert_int_equal(config->log_format, FORMAT_TEXT);
    assert_int_equal(config->access_format, FORMAT_JSON);
    assert_string_equal(config->log_file, "-");
    assert_string_equal(config->access_log, "-");
    assert_false(config->admin_on || config->allow_loop);
    assert_null(config->pid_file);
    forget(&loaded);
}

static void test_a_shadow_has_the_defaults_of_the_table(void **state)
{
    (void)state;
    struct loaded loaded = load(BASE "-d localhost:8082");

    assert_loaded(&loaded);
    assert_int_equal(loaded.config->shadow_count, 1);
    const struct shadow_config *shadow = &loaded.config->shadows[0];
    assert_string_equal(shadow->name, "shadow0");
    assert_string_equal(shadow->target.name, "localhost:8082");
    assert_int_equal(shadow->buffer, 16 * 1024 * 1024);
    assert_int_equal(shadow->overflow, SHADOW_DETACH);
    assert_int_equal(shadow->sample_by, SAMPLE_BY_SESSION);
    assert_int_equal(shadow->connect_on, CONNECT_ON_DATA);
    assert_int_equal(shadow->max_sessions, 10000);
    assert_int_equal(shadow->from.count, 0);
    assert_true(shadow->sample == 100.0 && shadow->connect_timeout == 2.0);
    assert_true(shadow->stall_timeout == 30.0 && shadow->linger == 5.0);
    assert_true(shadow->breaker.failures == 5 && shadow->breaker.seconds == 10);
    assert_true(shadow->rate == 0 && shadow->max_bytes == 0 && shadow->ramp == 0);
    assert_true(shadow->duration == 0 && shadow->greeting == 0 && loaded.config->sample_seed == 0);
    forget(&loaded);
}

static void test_em_proxy_command_lines_work_unchanged(void **state)
{
    (void)state;
    struct loaded loaded = load("-l 8080 -r localhost:8081 -d localhost:8082,localhost:8083 -v");
    assert_loaded(&loaded);
    assert_int_equal(loaded.config->shadow_count, 2);
    assert_string_equal(loaded.config->shadows[1].name, "shadow1");
    assert_int_equal(loaded.config->log_level, LEVEL_DEBUG);
    forget(&loaded);

    loaded =
        load("--listen localhost:8080 --relay localhost:8081 --duplex localhost:8082 --verbose");
    assert_loaded(&loaded);
    assert_string_equal(loaded.config->primaries[0].name, "localhost:8081");
    assert_int_equal(loaded.config->shadow_count, 1);
    forget(&loaded);

    loaded = load("-l 8080 -s /tmp/app.sock --mirror=localhost:8082");
    assert_loaded(&loaded);
    assert_int_equal(loaded.config->primaries[0].endpoint.kind, ENDPOINT_UNIX);
    assert_string_equal(loaded.config->primaries[0].endpoint.host, "/tmp/app.sock");
    forget(&loaded);
}

static void test_flags_are_written_in_every_usual_way(void **state)
{
    (void)state;
    struct loaded loaded =
        load("-l8080 -vvtr localhost:8081 --buffer=1m --backlog 7 --no-allow-loop "
             "--buffer 2m --allow 10.0.0.0/8,::1 --allow 1.2.3.4");
    assert_loaded(&loaded);
    assert_int_equal(loaded.action, CONFIG_CHECK);
    assert_int_equal(loaded.config->buffer, 2 * 1024 * 1024);
    assert_int_equal(loaded.config->backlog, 7);
    assert_int_equal(loaded.config->allow.count, 3);
    forget(&loaded);

    assert_refused(load(BASE "-b 1m"), "unknown flag \"-b\"");
    assert_refused(load(BASE "--check=on"), "--check takes no value");
    assert_refused(load(BASE "--backlog"), "--backlog has no value");
    assert_refused(load(BASE "stray"), "unexpected argument \"stray\"");
}

static void test_a_named_shadow_has_its_own_options(void **state)
{
    (void)state;
    struct loaded loaded = load(
        BASE
        "--shadow-buffer 2m --shadow-from 10.0.0.0/8 --shadow-sample-by source -d "
        "a=tcp://h:1?sample=12.5%&buffer=1m&from=::1+1.2.3.0/24,b:2 -d unix:/a%2Cb?by=session");
    assert_loaded(&loaded);
    const struct shadow_config *shadows = loaded.config->shadows;
    assert_int_equal(loaded.config->shadow_count, 3);
    assert_string_equal(shadows[0].name, "a");
    assert_string_equal(shadows[0].target.name, "tcp://h:1");
    assert_int_equal(shadows[0].buffer, 1024 * 1024);
    assert_true(shadows[0].sample == 12.5);
    assert_int_equal(shadows[0].from.count, 2);
    assert_int_equal(shadows[0].sample_by, SAMPLE_BY_SOURCE);
    assert_string_equal(shadows[1].name, "shadow1");
    assert_int_equal(shadows[1].buffer, 2 * 1024 * 1024);
    assert_int_equal(shadows[1].from.count, 1);
    assert_string_equal(shadows[2].target.endpoint.host, "/a,b");
    assert_int_equal(shadows[2].sample_by, SAMPLE_BY_SESSION);
    forget(&loaded);
}

static void test_headers_are_wanted_and_written_as_each_address_says(void **state)
{
    (void)state;
    struct loaded loaded = load("-l 1?accept-proxy=on,2 -l unix:/a?accept-proxy=on&mode=0600 "
                                "-r a:1?proxy=v2,b:1 -d c:1,d:1?proxy=off --shadow-proxy v1 "
                                "--proxy-trust 10.0.0.0/8,::1");
    assert_loaded(&loaded);
    const struct config *config = loaded.config;
    assert_true(config->listens[0].accept_proxy && config->listens[2].accept_proxy);
    assert_false(config->listens[1].accept_proxy);
    assert_int_equal(config->listens[2].mode, 0600);
    assert_int_equal(config->primaries[0].proxy, PROXY_V2);
    assert_int_equal(config->primaries[1].proxy, PROXY_OFF);
    assert_int_equal(config->shadows[0].target.proxy, PROXY_V1);
    assert_int_equal(config->shadows[1].target.proxy, PROXY_OFF);
    assert_int_equal(config->proxy_trust.count, 2);
    assert_true(config->handshake_timeout == 10.0);
    forget(&loaded);

    loaded = load_file("listen = 1\nprimary = a:1\nshadow-proxy = v1\n[shadow s]\naddress = c:1\n"
                       "[shadow t]\nproxy = v2\naddress = d:1\n",
                       "");
    assert_loaded(&loaded);
    assert_int_equal(loaded.config->shadows[0].target.proxy, PROXY_V1);
    assert_int_equal(loaded.config->shadows[1].target.proxy, PROXY_V2);
    forget(&loaded);
}

static void test_a_listener_that_believes_headers_must_say_whose(void **state)
{
    (void)state;
    assert_refused(load("-l 1 -l 2?accept-proxy=on -r a:1"), "\"2\" needs --proxy-trust");
    struct loaded loaded = load("-l unix:/a?accept-proxy=on -r a:1");
    assert_loaded(&loaded); /* the file's mode says it */
    forget(&loaded);
}

static void test_a_host_has_one_spelling(void **state)
{
    (void)state;
    struct loaded loaded =
        load("-l 1 -r tls://Prod.Internal.:443?sni=A.Example. --admin-host B.example. "
             "-d a=tls://[::1]:2?sni=::FFFF:10.0.0.9");
    assert_loaded(&loaded);
    const struct target_config *primary = &loaded.config->primaries[0];
    assert_string_equal(primary->endpoint.host, "Prod.Internal");
    assert_string_equal(primary->name, "tls://Prod.Internal.:443");
    assert_string_equal(primary->sni, "A.Example");
    assert_string_equal(loaded.config->shadows[0].target.sni, "10.0.0.9");
    assert_string_equal(loaded.config->admin_host, "B.example");
    forget(&loaded);
    assert_refused(load(BASE "--admin-host b.example:9901"), "is not a host");
    assert_refused(load(BASE "--admin-host http://b.example"), "is not a host");
}

static void test_an_equals_sign_of_a_path_or_query_makes_no_name(void **state)
{
    (void)state;
    struct loaded loaded = load(BASE "-d unix:/a=b,h:1?sample=5,x.y-z_1=unix:/c=d");
    assert_loaded(&loaded);
    assert_string_equal(loaded.config->shadows[0].name, "shadow0");
    assert_string_equal(loaded.config->shadows[0].target.endpoint.host, "/a=b");
    assert_string_equal(loaded.config->shadows[1].name, "shadow1");
    assert_string_equal(loaded.config->shadows[2].name, "x.y-z_1");
    assert_string_equal(loaded.config->shadows[2].target.endpoint.host, "/c=d");
    forget(&loaded);
}

static void test_a_flag_wins_over_environment_over_file_over_default(void **state)
{
    char flags[200];

    (void)state;
    const char *file = "listen = 1\nprimary = f:1\nbuffer = 1m\nbacklog = 1\nallow = 1.1.1.1\n"
                       "allow = 2.2.2.2\nshadow-sample = 1\n[shadow f]\naddress = f:2\n";
    write_file(file, strlen(file));
    snprintf(flags, sizeof flags, "-c %s --buffer 3m", path_of_file);
    struct loaded loaded = load_with(flags, "DOPPEL_BUFFER=2m DOPPEL_BACKLOG=2 DOPPEL_ALLOW=::1 "
                                            "DOPPEL_SHADOW=e:1,e:2 DOPPEL_ALLOW_LOOP=yes");
    assert_loaded(&loaded);
    assert_int_equal(loaded.config->buffer, 3 * 1024 * 1024);
    assert_int_equal(loaded.config->backlog, 2);
    assert_int_equal(loaded.config->allow.count, 1);
    assert_int_equal(loaded.config->listens[0].endpoint.port, 1);
    assert_int_equal(loaded.config->shadow_count, 2);
    assert_true(loaded.config->shadows[0].sample == 1.0);
    assert_true(loaded.config->allow_loop);
    forget(&loaded);

    snprintf(flags, sizeof flags, "-d g:1 -c %s --shadow-sample 7", path_of_file);
    loaded = load_with(flags, "DOPPEL_SHADOW=e:1,e:2 DOPPEL_SHADOW_SAMPLE=5");
    assert_loaded(&loaded);
    assert_int_equal(loaded.config->shadow_count, 1);
    assert_true(loaded.config->shadows[0].sample == 7.0);
    forget(&loaded);
}

static void test_a_variable_may_name_a_file_that_holds_its_value(void **state)
{
    char variables[200];

    (void)state;
    write_file("secret:9\n", 9);
    snprintf(variables, sizeof variables, "DOPPEL_SHADOW_FILE=%s", path_of_file);
    struct loaded loaded = load_with(BASE, variables);
    assert_loaded(&loaded);
    assert_string_equal(loaded.config->shadows[0].target.name, "secret:9");
    forget(&loaded);

    snprintf(variables, sizeof variables, "DOPPEL_SHADOW=a:1 DOPPEL_SHADOW_FILE=%s", path_of_file);
    assert_refused(load_with(BASE, variables), "DOPPEL_SHADOW and DOPPEL_SHADOW_FILE are both set");
    assert_refused(load_with(BASE, "DOPPEL_SHADOW_FILE=/nonexistent"),
                   "DOPPEL_SHADOW_FILE: cannot");
    write_file("a:1\0b", 5);
    snprintf(variables, sizeof variables, "DOPPEL_SHADOW_FILE=%s", path_of_file);
    assert_refused(load_with(BASE, variables), "zero bytes");

    write_file("\xef\xbb\xbfsecret:9\r\n\r\n", 15); /* as an editor of Windows leaves it */
    loaded = load_with(BASE, variables);
    assert_loaded(&loaded);
    assert_string_equal(loaded.config->shadows[0].target.name, "secret:9");
    forget(&loaded);

    loaded = load_with(BASE, "DOPPEL_LOG_FILE=/tmp/doppel.log DOPPEL_PID_FILE=");
    assert_loaded(&loaded);
    assert_string_equal(loaded.config->log_file, "/tmp/doppel.log");
    forget(&loaded);
}

static void test_an_unknown_variable_is_a_warning_that_names_the_nearest(void **state)
{
    (void)state;
    struct loaded loaded =
        load_with(BASE, "DOPPEL_SHADOW_BUFER=1m DOPPEL_Q=1 DOPPEL_lower=2 DOPPEL=x");
    assert_loaded(&loaded);
    assert_int_equal(loaded.warnings.count, 3);
    assert_non_null(strstr(loaded.warnings.texts[0], "DOPPEL_SHADOW_BUFER"));
    assert_non_null(strstr(loaded.warnings.texts[0], "DOPPEL_SHADOW_BUFFER?"));
    forget(&loaded);
    assert_refused(load_with(BASE, "DOPPEL_COMPARE=hash"), "DOPPEL_COMPARE is not in this version");
}

/* docker run --env-file keeps quotes, and so do some YAML files. */
static void test_quotes_around_a_value_are_refused_wherever_it_is_said(void **state)
{
    static const char *const variables[] = {
        "DOPPEL_LISTEN=\"8080\"",
        "DOPPEL_BUFFER='1m'",
        "DOPPEL_IO=\"copy\"",
        "DOPPEL_SHADOW=\"s=h:1?sample=10\"",
        "DOPPEL_CONFIG=\"/etc/doppel.conf\"",
        "DOPPEL_PRIMARY_FILE=\"/run/secrets/primary\"",
    };
    char quoted[200];

    (void)state;
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++)
        assert_refused(load_with(BASE, variables[i]), "has quotes around its value");
    write_file("'secret:9'\n", 11);
    snprintf(quoted, sizeof quoted, "DOPPEL_SHADOW_FILE=%s", path_of_file);
    assert_refused(load_with(BASE, quoted), "DOPPEL_SHADOW_FILE: \"'secret:9'\" has quotes");
    assert_refused(load(BASE "--buffer \"1m\""), "--buffer: \"\"1m\"\" has quotes");
    assert_refused(load_file("buffer = \"1m\"\n", BASE), ":1: \"\"1m\"\" has quotes");
}

/* Kubernetes sets them in each container beside a Service called doppel, or doppel-admin. */
static void test_variables_of_a_service_called_doppel_are_not_ours(void **state)
{
    (void)state;
    struct loaded loaded = load_with(
        BASE, "DOPPEL_PORT=tcp://10.0.0.1:8080 DOPPEL_SERVICE_HOST=10.0.0.1 "
              "DOPPEL_SERVICE_PORT=8080 DOPPEL_SERVICE_PORT_HTTP=8080 "
              "DOPPEL_PORT_8080_TCP=tcp://10.0.0.1:8080 DOPPEL_PORT_8080_TCP_ADDR=10.0.0.1 "
              "DOPPEL_PORT_8080_TCP_PORT=8080 DOPPEL_PORT_8080_TCP_PROTO=tcp "
              "DOPPEL_PORT_53_UDP=udp://10.0.0.1:53 DOPPEL_ADMIN_PORT=tcp://10.0.0.1:9901 "
              "DOPPEL_ADMIN_SERVICE_HOST=10.0.0.1 DOPPEL_ADMIN_SERVICE_PORT=9901");
    assert_loaded(&loaded);
    assert_int_equal(loaded.warnings.count, 0);
    forget(&loaded);

    loaded = load_with(BASE, "DOPPEL_PORT=8080 DOPPEL_PORT_X=1 DOPPEL_SERVICE=1");
    assert_loaded(&loaded);
    assert_int_equal(loaded.warnings.count, 3);
    forget(&loaded);
}

static void test_what_people_often_write_leads_to_what_they_meant(void **state)
{
    static const struct {
        const char *flags;
        const char *part;
    } cases[] = {
        { "-listen 8080", "-listen: a long flag has two dashes; write --listen" },
        { "-l 1 -relay=h:1", "-relay: a long flag has two dashes; write --relay" },
        { "-l 1 -r 8081", "\"8081\" has no host; write localhost:8081" },
        { BASE "-d x=8082", "\"8082\" has no host; write localhost:8082" },
        { BASE "--log-level warn", "\"warn\" is unknown here; did you mean \"warning\"?" },
        { "-l 1 --upstream h:1", "did you mean \"--primary\"?" },
        { "-l 1 --backend=h:1", "did you mean \"--primary\"?" },
        { "-r h:1 --bind 8080", "did you mean \"--listen\"?" },
        { "-l 1 --threads 2", "did you mean \"--workers\"?" },
    };
    static const struct {
        const char *text;
        const char *part;
    } lines[] = {
        { "listen: 8080\n",
          ":1: \"listen: 8080\" has a colon behind its key; write listen = 8080" },
        { "upstream = h:1\n", "did you mean \"primary\"?" },
        { "[shadow a b]\naddress = h:1\n", "\"[shadow a b]\" has a blank in its name" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_refused(load(cases[i].flags), cases[i].part);
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        assert_refused(load_file(lines[i].text, BASE), lines[i].part);
    struct loaded loaded = load("-ltestfile:1 -r h:1"); /* a value behind its letter stays one */
    assert_refused(loaded, "-l: \"testfile\" is no host to listen on");
}

static void test_a_greeting_time_that_linger_does_not_leave_is_warned_of(void **state)
{
    (void)state;
    struct loaded loaded = load(BASE "-d late=h:1?greeting=5s,early=h:1?greeting=4s,h:1?linger=0");
    assert_loaded(&loaded);
    assert_int_equal(loaded.warnings.count, 1);
    assert_non_null(strstr(loaded.warnings.texts[0], "shadow late: its greeting time"));
    forget(&loaded);
}

/* One sentence, which begins with what has no effect. */
static void assert_warned(const char *flags, const char *beginning)
{
    struct loaded loaded = load(flags);

    assert_loaded(&loaded);
    size_t expected = beginning != NULL ? 1 : 0;
    for (size_t i = 0; i < loaded.warnings.count && loaded.warnings.count != expected; i++)
        print_message("%s\n", loaded.warnings.texts[i]);
    if (loaded.warnings.count != expected)
        fail_msg("%s: %zu warnings", flags, loaded.warnings.count);
    if (beginning != NULL)
        assert_memory_equal(loaded.warnings.texts[0], beginning, strlen(beginning));
    forget(&loaded);
}

static void test_what_has_no_effect_is_a_warning_and_what_has_is_none(void **state)
{
    static const char *const useless[][2] = {
        { BASE "--tls-cert a", "--tls-cert has no effect" },
        { BASE "--tls-min 1.3", "--tls-min has no effect" },
        { BASE "--tls-ciphers TLS_AES_128_GCM_SHA256", "--tls-ciphers has no effect" },
        { "-l tls://:1 -r h:1 --tls-cert a --tls-min 1.3 --tls-ciphers ECDHE+AESGCM",
          "--tls-ciphers has no effect: with --tls-min 1.3" },
        { BASE "--tls-alpn h2", "--tls-alpn has no effect" },
        { BASE "--tls-client-ca a", "--tls-client-ca has no effect" },
        { BASE "--max-handshakes 5", "--max-handshakes has no effect" },
        { BASE "--tls-key-passphrase-file a", "--tls-key-passphrase-file has no effect" },
        { BASE "--tls-strict-eof", "--tls-strict-eof has no effect" },
        { BASE "--tls-ktls", "--tls-ktls has no effect" },
        { BASE "--handshake-timeout 5s", "--handshake-timeout has no effect" },
        { BASE "--proxy-trust 10.0.0.0/8", "--proxy-trust has no effect" },
        { "-l unix:/a -r h:1 --allow 10.0.0.0/8", "--allow has no effect" },
        { "-l unix:/a -r h:1 --max-sessions-per-source 5",
          "--max-sessions-per-source has no effect" },
        { "-l 1 -r unix:/a --source 10.0.0.1", "--source has no effect" },
        { "-l 1 -r unix:/a?source=10.0.0.1", "source= of \"unix:/a\" has no effect" },
        { BASE "--shadow-memory 1g", "--shadow-memory has no effect" },
        { BASE "--shadow-buffer 1m", "--shadow-buffer has no effect: there is no shadow" },
        { BASE "--shadow-from 10.0.0.0/8", "--shadow-from has no effect: there is no shadow" },
        { BASE "-d h:1 --sample-seed 5", "--sample-seed has no effect" },
        { BASE "--access-log off --access-format text", "--access-format has no effect" },
        { BASE "--admin-host a", "--admin-host has no effect" },
        { BASE "--admin-token-file a", "--admin-token-file has no effect" },
        { BASE "--admin unix:/a --admin-token-file a", "--admin-token-file has no effect" },
        { "-l 1 -r tls://h:1?verify=off&ca=a", "ca= of \"tls://h:1\" has no effect" },
        { BASE "-d a=tls://h:1?verify=off&ca=a", "ca= of \"tls://h:1\" has no effect" },
        { BASE "-d a=h:1?overflow=block&breaker=3/1s", "shadow a: breaker= has no effect" },
    };
    static const char *const useful[] = {
        BASE,
        "-l tls://:1,unix:/a -r h:1 --tls-cert a --tls-min 1.3 --tls-ciphers "
        "ECDHE+AESGCM:TLS_AES_128_GCM_SHA256 --tls-alpn h2 --tls-client-ca a --tls-client-auth "
        "optional "
        "--max-handshakes 5 --tls-key-passphrase-file a --tls-strict-eof --tls-ktls "
        "--handshake-timeout 5s --allow 10.0.0.0/8 --max-sessions-per-source 5",
        "-l unix:/a?accept-proxy=on -r unix:/b,h:1 --allow 10.0.0.0/8 --handshake-timeout 5s "
        "--source "
        "10.0.0.1",
        "-l 1 -r tls://h:1?cert=a&ca=a --tls-strict-eof --tls-ktls --tls-key-passphrase-file a",
        BASE "-d h:1?by=source --sample-seed 5 --shadow-memory 1g --shadow-buffer 1m",
        BASE "-d a=h:1?overflow=block,b=h:1 --shadow-breaker 3/1s",
        BASE "--access-format text --admin localhost:1 --admin-host a --admin-token-file a",
    };

    (void)state;
    for (size_t i = 0; i < sizeof useless / sizeof useless[0]; i++)
        assert_warned(useless[i][0], useless[i][1]);
    for (size_t i = 0; i < sizeof useful / sizeof useful[0]; i++)
        assert_warned(useful[i], NULL);
}

static void test_clients_are_not_left_unverified_where_somebody_asked_for_it(void **state)
{
    (void)state;
    assert_refused(load(BASE "--tls-client-auth required"), "say --tls-client-ca FILE, too");
    assert_refused(load(BASE "--tls-client-auth optional"), "say --tls-client-ca FILE, too");
    assert_warned(BASE "--tls-client-auth required --tls-client-ca=", NULL);
}

static void test_the_socket_wins_over_a_primary_with_a_warning(void **state)
{
    (void)state;
    struct loaded loaded = load(BASE "-s /tmp/s");
    assert_loaded(&loaded);
    assert_int_equal(loaded.config->primary_count, 1);
    assert_string_equal(loaded.config->primaries[0].name, "unix:/tmp/s");
    assert_int_equal(loaded.warnings.count, 1);
    forget(&loaded);

    loaded = load_with(BASE, "DOPPEL_SOCKET=/tmp/s");
    assert_loaded(&loaded);
    assert_string_equal(loaded.config->primaries[0].name, "localhost:8081");
    assert_int_equal(loaded.warnings.count, 0);
    forget(&loaded);
}

static void test_help_version_and_nothing_are_told_apart(void **state)
{
    static const struct {
        const char *flags;
        const char *variables;
        enum config_action action;
    } cases[] = {
        { "", "X=1", CONFIG_NOTHING },
        { "-h", "X=1", CONFIG_HELP },
        { "--help --junk", "X=1", CONFIG_HELP_ALL },
        { "-th", "X=1", CONFIG_HELP },
        { "-vV", "X=1", CONFIG_VERSION },
        { "--help-markdown", "X=1", CONFIG_TABLE },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct loaded loaded = load_with(cases[i].flags, cases[i].variables);
        assert_null(loaded.config);
        assert_string_equal(loaded.fault.text, "");
        assert_int_equal(loaded.action, cases[i].action);
        forget(&loaded);
    }
    struct loaded loaded = load_with("", "DOPPEL_LISTEN=1,2 DOPPEL_PRIMARY=h:1");
    assert_loaded(&loaded);
    assert_int_equal(loaded.config->listen_count, 2);
    forget(&loaded);
}

static void test_a_file_reads_as_people_write_it(void **state)
{
    (void)state;
    struct loaded loaded = load_file("\xef\xbb\xbf# a comment\r\n; another\n\n   listen=:8080\r\n"
                                     "\tprimary\t=  prod.internal:8081  \n   buffer = 1m\n"
                                     "log-file = /var/log/a#b;c.log\n"
                                     "[ shadow  canary ]\n  address = tcp://stage:1\n"
                                     "  from = 10.0.0.0/8\n  from = ::1, ::2\n"
                                     "[shadow second]\naddress = unix:/x\nlinger = 0",
                                     "");
    assert_loaded(&loaded);
    assert_int_equal(loaded.config->listen_count, 1);
    assert_string_equal(loaded.config->primaries[0].name, "prod.internal:8081");
    assert_int_equal(loaded.config->buffer, 1024 * 1024);
    assert_string_equal(loaded.config->log_file, "/var/log/a#b;c.log");
    assert_int_equal(loaded.config->shadow_count, 2);
    assert_int_equal(loaded.config->shadows[0].from.count, 3);
    assert_string_equal(loaded.config->shadows[1].name, "second");
    assert_true(loaded.config->shadows[1].linger == 0.0);
    forget(&loaded);
}

static void test_a_fault_of_a_file_names_its_line(void **state)
{
    static const struct {
        const char *text;
        const char *part;
    } cases[] = {
        { "listen = 1\n\n\nshadow-bufer = 1m\n",
          ":4: unknown key \"shadow-bufer\"; did you mean \"shadow-buffer\"?" },
        { "\n[shadow a]\n\n[shadow b]\naddress = h:1\n", ":2: [shadow a] has no address" },
        { "[shadow a]\naddress = h:1\n[shadow a]\naddress = h:2\n",
          ":3: two shadows are called \"a\"" },
        { "[shadow a]\naddress = h:1\nworkers = 2\n", ":3: \"workers\" is not a key of a shadow" },
        { "[shadow a]\naddress = h:1\nshadow-buffer = 2m\n",
          ":3: unknown key \"shadow-buffer\"; did you mean \"buffer\"?" },
        { "sample = 10\n", ":1: unknown key \"sample\"; did you mean \"shadow-sample\"?" },
        { "relay = h:1\n", ":1: unknown key \"relay\"; did you mean \"primary\"?" },
        { "[doppel]\n", ":1: \"[doppel]\" is no section we know" },
        { "[shadowx]\n", ":1: \"[shadowx]\" is no section we know" },
        { "[shadow a\n", "is no section we know" },
        { "[shadow a/b]\naddress = h:1\n", "\"a/b\" is no name" },
        { "\nlisten :8080\n", ":2: \"listen :8080\" has a colon behind its key" },
        { "listen\n", ":1: \"listen\" has no key" },
        { "= 5\n", "has no key in front" },
        { "buffer = 1m ; one\n", ":1: \"buffer = 1m ; one\" has a comment behind its value" },
        { "buffer = 1m # one\n", "has a comment behind its value" },
        { "x ;y = 1\n", "has a comment behind its value" },
        { "buffer = 1m\nbuffer = 2m\n", ":2: \"buffer\" is said in line 1 already" },
        { "buffer = 1m\x01\n", "control character" },
        { "compare = hash\n", ":1: compare is not in this version" },
        { "[shadow a]\naddress = h:1\ncompare = hash\n", ":3: compare is not in this version" },
        { "[shadow a]\naddress = h:1?sample=5\n", ":2: \"h:1?sample=5\" is not one plain address" },
        { "[shadow a]\naddress = h:1\naddress = h:2\n",
          ":3: \"address\" is said in line 2 already" },
        { "workers =\n", ":1: \"\" is no number of workers" },
        { "check = on\n", "unknown key \"check\"" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_refused(load_file(cases[i].text, BASE), cases[i].part);
}

static void test_a_long_line_survives_whole_or_is_refused(void **state)
{
    char text[6000];
    char path[4200];

    (void)state;
    memset(path, 'p', sizeof path);
    for (size_t i = 7; i < sizeof path; i += 13)
        path[i] = "; #="[i % 4];
    for (size_t length = 150; length < 3990; length += 47) {
        /* No ; or # directly behind a blank, and no blank at an end. */
        for (size_t i = 1; i < length; i++)
            if (path[i - 1] == ' ' && path[i] != 'p')
                path[i] = 'p';
        char last = path[length - 1];
        path[0] = '/';
        path[length - 1] = 'p';
        int size = snprintf(text, sizeof text, "pid-file = %.*s\nbacklog = 9\n", (int)length, path);
        assert_true(size > 0);
        struct loaded loaded = load_file(text, BASE);
        assert_loaded(&loaded);
        assert_int_equal(strlen(loaded.config->pid_file), length);
        assert_memory_equal(loaded.config->pid_file, path, length);
        assert_int_equal(loaded.config->backlog, 9);
        forget(&loaded);
        path[length - 1] = last;
    }
    memset(path, 'p', sizeof path);
    snprintf(text, sizeof text, "pid-file = %.4190s\n", path);
    assert_refused(load_file(text, BASE), ":1: ");
    snprintf(text, sizeof text, "%.1000s = 1\n", path);
    assert_refused(load_file(text, BASE), ":1: ");
    snprintf(text, sizeof text, "pid-file = /a%300s/b\n", "");
    assert_refused(load_file(text, BASE), "cannot be read in pieces");
}

static void test_a_huge_file_is_refused(void **state)
{
    size_t size = 1024 * 1024 + 1;
    char *text = malloc(size + 1);

    (void)state;
    assert_non_null(text);
    memset(text, '\n', size);
    text[size] = '\0';
    assert_refused(load_file(text, BASE), "more than 1 MiB");
    text[size - 1] = '\0';
    struct loaded loaded = load_file(text, BASE);
    assert_loaded(&loaded);
    forget(&loaded);
    free(text);
}

static void test_what_cannot_be_true_together_is_refused(void **state)
{
    (void)state;
    assert_refused(load("-r h:1"), "--listen is missing");
    assert_refused(load("-l 1"), "--primary is missing");
    assert_refused(load("-l 80,*:80 -r h:1"), "are the same address");
    assert_refused(load("-l unix:/a,unix:/a -r h:1"), "are the same address");
    assert_refused(load("-l 127.0.0.1:80,localhost:80 -r h:1"), "are the same address");
    assert_refused(load("-l [::1]:80,[0:0::1]:80 -r h:1"), "are the same address");
    assert_refused(load("-l localhost:80 -r h:1 --admin 127.0.0.1:80"), "is a listener's address");
    assert_refused(load("-l 127.0.0.1:80 -r h:1 --admin 127.0.0.1:80"), "is a listener's address");
    assert_refused(load("-l unix:/a -r h:1 --admin unix:/a"), "is a listener's address");
    assert_refused(load("-l 80?mode=0600 -r h:1"), "for unix sockets only");
    assert_refused(load(BASE "-d a=h:1,a=h:2"), "two shadows are called \"a\"");
    assert_refused(load(BASE "-d shadow1=h:1,h:2"), "two shadows are called \"shadow1\"");
    struct loaded loaded = load("-l 0,0 -r localhost:8080 --allow-loop");
    assert_loaded(&loaded);
    assert_int_equal(loaded.config->listen_count, 2);
    forget(&loaded);
}

static void test_listeners_at_the_same_place_are_refused_however_they_are_written(void **state)
{
    static const struct {
        const char *flags;
        const char *part;
    } cases[] = {
        { "-l 80,0.0.0.0:80 -r h:1", "\"80\" and \"0.0.0.0:80\" are the same address" },
        { "-l [::]:80,80 -r h:1", "are the same address" },
        { "-l localhost:80,127.0.0.1:80 -r h:1", "are the same address" },
        { "-l [::1]:80,[0:0::1]:80 -r h:1", "are the same address" },
        { "-l 0.0.0.0:80 -r h:1 --admin 127.0.0.1:80", "\"0.0.0.0:80\" is a listener's address" },
        { "-l 127.0.0.1:80 -r h:1 --admin 80", "is a listener's address" },
        { "-l [::1]:80 -r h:1 --admin [::]:80", "is a listener's address" },
    };
    static const char *const fine[] = {
        "-l 0.0.0.0:80,[::]:80 -r h:1",     "-l 127.0.0.1:80,0.0.0.0:80,[::1]:80 -r h:1",
        "-l 127.0.0.1:80,80 -r h:1",        "-l 0.0.0.0:80 -r h:1 --admin [::1]:80",
        "-l 127.0.0.1:80 -r h:1 --admin 81", "-l 0,0.0.0.0:0 -r h:1 --admin 0",
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_refused(load(cases[i].flags), cases[i].part);
    for (size_t i = 0; i < sizeof fine / sizeof fine[0]; i++) {
        struct loaded loaded = load(fine[i]);
        assert_loaded(&loaded);
        forget(&loaded);
    }
}

/* It would get every request twice. */
static void test_a_shadow_that_is_the_primary_is_refused_however_it_is_written(void **state)
{
    static const char *const same[] = {
        "-r localhost:1 -d localhost:1",
        "-r localhost:1 -d LOCALHOST.:1",
        "-r localhost:1 -d 127.0.0.1:1",
        "-r localhost:1 -d [::1]:1",
        "-r 127.0.0.1:1 -d [::ffff:127.0.0.1]:1",
        "-r [2001:db8::1]:1 -d [2001:DB8:0::1]:1",
        "-r 0.0.0.0:1 -d 127.0.0.1:1",
        "-r app.internal:1 -d x=tcp://App.Internal.:1",
        "-r h:1 -d tls://h:1",
        "-r a:1,b:1 -d c:1,b:1",
        "-r unix:/run/a -d unix:/run/a",
        "-r unix:/dev/null -d unix:/dev/../dev/null",
        "-r tls://h:1?sni=a -d tls://h:1?sni=A",
    };
    static const char *const others[] = {
        "-r localhost:1 -d localhost:2", "-r 127.0.0.1:1 -d 127.0.0.2:1",
        "-r h:1 -d h.internal:1",        "-r unix:/run/a -d unix:/run/b",
        "-r original-dst -d h:1",        "-r tls://h:1?sni=a -d tls://h:1?sni=b",
        "-r h:1 -d h:1 --allow-loop",    "-r h:2 -d h:1,h:1",
    };
    char flags[200];

    (void)state;
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        snprintf(flags, sizeof flags, "-l 80 %s", same[i]);
        assert_refused(load(flags), "is the primary, which would get every request twice");
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        snprintf(flags, sizeof flags, "-l 80 %s", others[i]);
        struct loaded loaded = load(flags);
        assert_loaded(&loaded);
        forget(&loaded);
    }
}

static void test_numbers_stay_within_their_bounds(void **state)
{
    static const char *const bad[] = {
        "--buffer 12q",
        "--buffer 1.5m",
        "--buffer -1",
        "--buffer 4095",
        "--buffer 2g",
        "--buffer 99999999999999999999999g",
        "--buffer 0x10000",
        "--backlog 0",
        "--backlog 1k",
        "--backlog 65536",
        "--workers 0",
        "--workers 257",
        "--workers two",
        "--idle-timeout 5x",
        "--idle-timeout 15000h",
        "--connect-timeout 0",
        "--connect-timeout .5",
        "--connect-timeout 5.",
        "--connect-timeout 0.0001s",
        "--shadow-sample 101",
        "--shadow-sample -1",
        "--shadow-sample 1e1",
        "--shadow-sample 0.00001",
        "--shadow-sample %",
        "--max-sessions 10000001",
        "--shadow-breaker 5",
        "--shadow-breaker 0/10s",
        "--shadow-breaker 1001/10s",
        "--shadow-breaker 5/9ms",
        "--shadow-breaker 5/61m",
        "--shadow-breaker 5/",
        "--shadow-breaker /5s",
        "--shadow-breaker x/5s",
        "--shadow-breaker on",
        "--sample-seed 0",
        "--sample-seed canary",
        "--shadow-rate 1.5",
        "--shadow-rate 1000001",
        "--allow-loop=maybe",
        "--log-level loud",
        "--access-format xml",
        "--buffer=",
        "--log-file=",
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char flags[200];
        snprintf(flags, sizeof flags, BASE "%s", bad[i]);
        struct loaded loaded = load(flags);
        if (loaded.config != NULL)
            fail_msg("%s was accepted", bad[i]);
        assert_non_null(strstr(loaded.fault.text, "write "));
        forget(&loaded);
    }
    struct loaded loaded =
        load(BASE "--connect-timeout 1.5s --idle-timeout 0 --drain-timeout 250MS "
                  "--shadow-sample 0.0001% -d h:1 --max-sessions auto --buffer 1G");
    assert_loaded(&loaded);
    assert_true(loaded.config->connect_timeout == 1.5 && loaded.config->drain_timeout == 0.25);
    assert_true(loaded.config->idle_timeout == 0 && loaded.config->shadows[0].sample == 0.0001);
    forget(&loaded);
}

static void test_what_is_mirrored_can_be_chosen_for_each_shadow(void **state)
{
    (void)state;
    struct loaded loaded = load(
        BASE "--sample-seed 42 --shadow-breaker off --shadow-ramp 5m -d "
             "a=h:1?breaker=3/250ms&rate=20&for=1h&max-bytes=64k&greeting=2s&ramp=off -d b=h:2");
    assert_loaded(&loaded);
    const struct shadow_config *shadows = loaded.config->shadows;
    assert_int_equal(loaded.config->sample_seed, 42);
    assert_true(shadows[0].breaker.failures == 3 && shadows[0].breaker.seconds == 0.25);
    assert_true(shadows[0].rate == 20 && shadows[0].max_bytes == 64 * 1024);
    assert_true(shadows[0].duration == 3600 && shadows[0].greeting == 2 && shadows[0].ramp == 0);
    assert_true(shadows[1].breaker.failures == 0 && shadows[1].ramp == 300);
    forget(&loaded);
}

static void test_as_many_shadows_as_the_limit_and_no_more(void **state)
{
    char flags[4000] = BASE "-d ";

    (void)state;
    for (int i = 0; i < 256; i++)
        strcat(flags, i > 0 ? ",h:1" : "h:1");
    struct loaded loaded = load(flags);
    assert_loaded(&loaded);
    assert_int_equal(loaded.config->shadow_count, 256);
    assert_string_equal(loaded.config->shadows[255].name, "shadow255");
    forget(&loaded);
    strcat(flags, ",h:1");
    assert_refused(load(flags), "more than 256 shadows");
}

/* ---- print and load again */

static char *printed(const struct config *config)
{
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);

    assert_non_null(to);
    config_print(config, to);
    fclose(to);
    return text;
}

static void assert_same_target(const struct target_config *a, const struct target_config *b)
{
    assert_string_equal(a->name, b->name);
    assert_memory_equal(&a->endpoint, &b->endpoint, sizeof a->endpoint);
}

static void assert_same_shadow(const struct shadow_config *a, const struct shadow_config *b)
{
    assert_string_equal(a->name, b->name);
    assert_same_target(&a->target, &b->target);
    assert_int_equal(a->buffer, b->buffer);
    assert_int_equal(a->overflow, b->overflow);
    assert_int_equal(a->sample_by, b->sample_by);
    assert_int_equal(a->connect_on, b->connect_on);
    assert_int_equal(a->max_sessions, b->max_sessions);
    assert_int_equal(a->from.count, b->from.count);
    if (a->from.count > 0)
        assert_memory_equal(a->from.networks, b->from.networks,
                            a->from.count * sizeof a->from.networks[0]);
    assert_true(a->sample == b->sample && a->linger == b->linger);
    assert_true(a->connect_timeout == b->connect_timeout && a->stall_timeout == b->stall_timeout);
}

static void assert_same_addresses(const struct config *a, const struct config *b)
{
    assert_int_equal(a->listen_count, b->listen_count);
    for (size_t i = 0; i < a->listen_count; i++) {
        assert_string_equal(a->listens[i].name, b->listens[i].name);
        assert_int_equal(a->listens[i].mode, b->listens[i].mode);
        assert_memory_equal(&a->listens[i].endpoint, &b->listens[i].endpoint,
                            sizeof(struct endpoint));
    }
    assert_int_equal(a->primary_count, b->primary_count);
    for (size_t i = 0; i < a->primary_count; i++)
        assert_same_target(&a->primaries[i], &b->primaries[i]);
    assert_int_equal(a->shadow_count, b->shadow_count);
    for (size_t i = 0; i < a->shadow_count; i++)
        assert_same_shadow(&a->shadows[i], &b->shadows[i]);
    assert_int_equal(a->admin_on, b->admin_on);
    assert_memory_equal(&a->admin, &b->admin, sizeof a->admin);
}

static void assert_prints_back(const char *flags)
{
    char again[100];
    struct loaded first = load(flags);

    if (first.config == NULL)
        fail_msg("%s: %s", flags, first.fault.text);
    char *text = printed(first.config);
    write_file(text, strlen(text));
    snprintf(again, sizeof again, "-c %s", path_of_file);
    struct loaded second = load(again);
    if (second.config == NULL)
        fail_msg("%s: %s\n%s", flags, second.fault.text, text);
    char *text_again = printed(second.config);
    assert_string_equal(text, text_again);
    assert_same_addresses(first.config, second.config);
    assert_true(first.config->idle_timeout == second.config->idle_timeout);
    assert_true(first.config->workers == second.config->workers);
    free(text);
    free(text_again);
    forget(&first);
    forget(&second);
}

static const char *const pieces[] = {
    "-l 8081",
    "-l web=127.0.0.1:99",
    "-l 8082=:8083",
    "-l [::1]:0,[::1]:0,*:7",
    "-l unix:/run/a~b%2C%25.sock?mode=0600",
    "-r h:1,[2001:DB8::1]:2",
    "-r first=tcp://h:1,unix:/p;q#r",
    "-s /tmp/odd~;name~#?,%25&+=.sock",
    "-d a.b-c_d=tcp://stage:8443?sample=10%&buffer=1m&overflow=block&by=source",
    "-d k:1,h:2,[fe80::1%lo]:3",
    "-d unix:/x=y?from=10.0.0.0/8+::1&linger=250ms&connect-on=start",
    "-d q=h:9?from=any&max-sessions=1&stall-timeout=1h&connect-timeout=1.5s",
    "--shadow-from 10.0.0.0/8 --shadow-from ::/0",
    "--shadow-buffer 70000 --shadow-sample 33.3333 --shadow-overflow block",
    "--allow 192.168.0.0/16,fe80::/10",
    "--allow-loop",
    "--source 10.0.0.1,::1 --shadow-source fe80::1%lo",
    "-d s=h:3?source=10.0.0.2+2001:db8::2",
    "--buffer 5k --backlog 1 --max-sessions 77",
    "--shadow-memory 1g --connect-timeout 1ms --idle-timeout off",
    "--half-close-timeout 90 --tcp-user-timeout 61s --drain-timeout 0",
    "--log-level error --log-format json --log-file /var/log/a~b=c;d#e",
    "-vv --access-log off --access-format text",
    "-w 3 --admin 127.0.0.1:9901",
    "-w auto --admin unix:/run/ad%20min",
    "--pid-file /run/doppel.pid --resolv-conf /a --hosts /b --sndbuf 64k --rcvbuf 1m",
    "-q --admin off --pid-file=",
};

#define PIECES (sizeof pieces / sizeof pieces[0])

static void test_each_flag_prints_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < PIECES; i++) {
        char flags[1000];
        snprintf(flags, sizeof flags, "-l 8080 -r localhost:6 %s", pieces[i]);
        assert_prints_back(flags);
    }
}

static void test_random_command_lines_print_back(void **state)
{
    unsigned seed = 20260101; /* the same lines every time */

    (void)state;
    for (int turn = 0; turn < 300; turn++) {
        char flags[4000] = "-l 8080 -r localhost:6";
        bool taken[PIECES] = { false };

        for (int n = rand_r(&seed) % 12; n >= 0; n--) {
            size_t choice = (size_t)rand_r(&seed) % PIECES;
            if (!taken[choice])
                strcat(strcat(flags, " "), pieces[choice]);
            taken[choice] = true;
        }
        assert_prints_back(flags);
    }
}

static void test_sources_and_original_dst_print_back(void **state)
{
    (void)state;
    assert_prints_back("-l 8080 -r original-dst --transparent");
    assert_prints_back("-l 8080 -r h:1 --source ::1 --transparent");
    assert_prints_back("-l 8080 -r there=original-dst?source=10.0.0.1+fe80::1%25lo");
    assert_prints_back("-l 8080 -r h:1?source=::1,h:2?source=10.0.0.2,unix:/p");
}

static void test_original_dst_needs_clients_with_addresses(void **state)
{
    (void)state;
    assert_refused(load("-l 8080 -l unix:/run/l -r original-dst"),
                   "\"unix:/run/l\" have no addresses");
}

static void test_a_source_is_one_address_of_each_family(void **state)
{
    (void)state;
    struct loaded loaded = load(BASE "--source 10.0.0.1 --source ::1 --shadow-source 10.0.0.2 "
                                     "-d a:1,b:1?source=::2,c:1?source=auto");
    assert_loaded(&loaded);
    const struct config *config = loaded.config;
    assert_int_equal(ntohl(config->source.v4.v4.sin_addr.s_addr), 0x0a000001);
    assert_int_equal(config->source.v6.v6.sin6_addr.s6_addr[15], 1);
    assert_int_equal(config->primaries[0].source.v4.length, 0);
    assert_int_equal(ntohl(config->shadows[0].target.source.v4.v4.sin_addr.s_addr), 0x0a000002);
    assert_int_equal(config->shadows[0].target.source.v6.length, 0);
    assert_int_equal(config->shadows[1].target.source.v4.length, 0);
    assert_int_equal(config->shadows[1].target.source.v6.v6.sin6_addr.s6_addr[15], 2);
    assert_int_equal(config->shadows[2].target.source.v4.length, 0);
    forget(&loaded);
    assert_refused(load(BASE "--source 10.0.0.1 --source 10.0.0.2"), "second IPv4 address");
}

static void test_long_names_and_lists_print_back(void **state)
{
    char flags[8000] = "-l 8080 -r ";
    char label[64];

    (void)state;
    memset(label, 'x', 63);
    label[63] = '\0';
    for (int i = 0; i < 3; i++)
        strcat(strcat(flags, label), ".");
    strcat(flags, "example:80 --pid-file /");
    for (int i = 0; i < 20; i++)
        strcat(strcat(flags, label), "/");
    for (int i = 0; i < 200; i++)
        strcat(flags, i == 0 ? " --allow 10.0.0.1" : ",10.0.0.1");
    assert_prints_back(flags);
    assert_prints_back("-l front=1?accept-proxy=on,unix:/a?accept-proxy=on -r "
                       "p=a:1?proxy=v1,b:1,c:1?source=10.0.0.1&proxy=v2 "
                       "-d d:1?proxy=v2 --proxy-trust 10.0.0.0/8 --handshake-timeout 3s");
}

/* ---- what comes from the table */

static char *sample(void)
{
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);

    assert_non_null(to);
    help_print_sample(to);
    fclose(to);
    return text;
}

static void test_the_sample_file_is_the_one_the_table_makes(void **state)
{
    char kept[20000];

    (void)state;
    FILE *file = fopen("config/doppel.conf", "r"); /* make runs the tests at the top */
    assert_non_null(file);
    size_t length = fread(kept, 1, sizeof kept - 1, file);
    fclose(file);
    kept[length] = '\0';
    char *text = sample();
    assert_string_equal(kept, text);
    free(text);
}

static void test_the_sample_loads_and_its_comments_are_the_defaults(void **state)
{
    char *text = sample();

    (void)state;
    struct loaded plain = load_file(text, "");
    assert_loaded(&plain);
    /* "#key" is a key that is off, "# word" a sentence. */
    for (char *line = text; line != NULL; line = strchr(line + 1, '\n')) {
        char *start = line + (*line == '\n');
        if (start[0] == '#' && start[1] != ' ' && start[1] != '\n')
            start[0] = ' ';
    }
    struct loaded full = load_file(text, "");
    assert_loaded(&full);
    char *a = printed(plain.config);
    char *b = printed(full.config);
    assert_string_equal(a, b);
    free(a);
    free(b);
    free(text);
    forget(&plain);
    forget(&full);
}

static void test_help_and_table_name_every_flag(void **state)
{
    const struct option *option;
    char *help = NULL;
    char *table = NULL;
    size_t size;
    FILE *to = open_memstream(&help, &size);
    help_print_all(to, 80);
    fclose(to);
    to = open_memstream(&table, &size);
    help_print_tables(to);
    fclose(to);

    (void)state;
    for (size_t i = 0; (option = option_at(i)) != NULL; i++) {
        char flag[100];
        if (option->name == NULL)
            continue;
        snprintf(flag, sizeof flag, "--%s%s", option->name, option->metavar != NULL ? " " : "");
        assert_int_equal(strstr(help, flag) != NULL, !option->hidden);
        assert_int_equal(strstr(table, flag) != NULL, !option->hidden);
    }
    for (char *line = strtok(help, "\n"); line != NULL; line = strtok(NULL, "\n"))
        assert_true(strlen(line) <= 80);
    free(help);
    free(table);
}

static void test_a_help_text_is_one_short_sentence(void **state)
{
    const struct option *option;

    (void)state;
    for (size_t i = 0; (option = option_at(i)) != NULL; i++)
        if (strlen(option->help) > 100)
            fail_msg("%zu characters: %s", strlen(option->help), option->help);
}

static void test_names_in_the_table_are_unique(void **state)
{
    const struct option *one;
    const struct option *other;

    (void)state;
    for (size_t i = 0; (one = option_at(i)) != NULL; i++) {
        assert_int_equal(option_index(one), i);
        for (size_t k = 0; k < i && (other = option_at(k)) != NULL; k++) {
            if (one->name != NULL && other->name != NULL)
                assert_string_not_equal(one->name, other->name);
            assert_true(one->short_name == '\0' || one->short_name != other->short_name);
        }
        if (one->name != NULL) {
            assert_ptr_equal(option_find(PLACE_FLAG, one->name), one);
            assert_false(option_is_withheld(PLACE_FLAG, one->name));
        }
    }
}

static void test_a_cpu_quota_is_rounded_up(void **state)
{
    (void)state;
    assert_int_equal(cpus_of_quota("max 100000\n"), 0);
    assert_int_equal(cpus_of_quota("100000 100000\n"), 1);
    assert_int_equal(cpus_of_quota("150000 100000\n"), 2);
    assert_int_equal(cpus_of_quota("1000 100000\n"), 1);
    assert_int_equal(cpus_of_quota("-1 100000\n"), 0);
    assert_int_equal(cpus_of_quota("5 0\n"), 0);
    assert_int_equal(cpus_of_quota(""), 0);
    assert_true(cpus_usable() >= 1);
}

static void assert_described(const char *flags, const char *expected)
{
    struct loaded loaded = load(flags);
    struct log_record line;

    assert_non_null(loaded.config);
    log_record_start(&line, FORMAT_TEXT);
    config_describe(loaded.config, &line);
    log_record_end(&line);
    assert_memory_equal(line.bytes, expected, strlen(expected));
    assert_int_equal(line.length, strlen(expected));
    forget(&loaded);
}

static void test_a_line_says_what_is_in_effect_and_not_the_default(void **state)
{
    (void)state;
    assert_described("-l 1 -r a:1", "listen=1 primary=a:1\n");
    assert_described("-l 1,2 -r a:1 -d x=b:1?sample=5,c:1 --buffer 1m --drain-delay 5s "
                     "--no-allow-loop --shadow-max-bytes 1m",
                     "listen=1,2 primary=a:1 buffer=1m drain_delay=5s "
                     "shadows.0.name=x shadows.0.address=b:1 shadows.0.sample=5 "
                     "shadows.0.max_bytes=1m shadows.1.name=shadow1 shadows.1.address=c:1 "
                     "shadows.1.max_bytes=1m\n");
    assert_described("-l 1 -r a:1 -d x=tls://b:1?sni=c&verify=off",
                     "listen=1 primary=a:1 shadows.0.name=x shadows.0.address=tls://b:1 "
                     "shadows.0.verify=off shadows.0.sni=c\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults_are_those_of_the_table),
        cmocka_unit_test(test_a_line_says_what_is_in_effect_and_not_the_default),
        cmocka_unit_test(test_a_shadow_has_the_defaults_of_the_table),
        cmocka_unit_test(test_em_proxy_command_lines_work_unchanged),
        cmocka_unit_test(test_flags_are_written_in_every_usual_way),
        cmocka_unit_test(test_a_named_shadow_has_its_own_options),
        cmocka_unit_test(test_headers_are_wanted_and_written_as_each_address_says),
        cmocka_unit_test(test_a_listener_that_believes_headers_must_say_whose),
        cmocka_unit_test(test_a_host_has_one_spelling),
        cmocka_unit_test(test_an_equals_sign_of_a_path_or_query_makes_no_name),
        cmocka_unit_test(test_a_flag_wins_over_environment_over_file_over_default),
        cmocka_unit_test(test_a_variable_may_name_a_file_that_holds_its_value),
        cmocka_unit_test(test_an_unknown_variable_is_a_warning_that_names_the_nearest),
        cmocka_unit_test(test_quotes_around_a_value_are_refused_wherever_it_is_said),
        cmocka_unit_test(test_variables_of_a_service_called_doppel_are_not_ours),
        cmocka_unit_test(test_what_people_often_write_leads_to_what_they_meant),
        cmocka_unit_test(test_a_greeting_time_that_linger_does_not_leave_is_warned_of),
        cmocka_unit_test(test_what_has_no_effect_is_a_warning_and_what_has_is_none),
        cmocka_unit_test(test_clients_are_not_left_unverified_where_somebody_asked_for_it),
        cmocka_unit_test(test_the_socket_wins_over_a_primary_with_a_warning),
        cmocka_unit_test(test_help_version_and_nothing_are_told_apart),
        cmocka_unit_test(test_a_file_reads_as_people_write_it),
        cmocka_unit_test(test_a_fault_of_a_file_names_its_line),
        cmocka_unit_test(test_a_long_line_survives_whole_or_is_refused),
        cmocka_unit_test(test_a_huge_file_is_refused),
        cmocka_unit_test(test_what_cannot_be_true_together_is_refused),
        cmocka_unit_test(test_listeners_at_the_same_place_are_refused_however_they_are_written),
        cmocka_unit_test(test_a_shadow_that_is_the_primary_is_refused_however_it_is_written),
        cmocka_unit_test(test_numbers_stay_within_their_bounds),
        cmocka_unit_test(test_what_is_mirrored_can_be_chosen_for_each_shadow),
        cmocka_unit_test(test_as_many_shadows_as_the_limit_and_no_more),
        cmocka_unit_test(test_each_flag_prints_back),
        cmocka_unit_test(test_random_command_lines_print_back),
        cmocka_unit_test(test_sources_and_original_dst_print_back),
        cmocka_unit_test(test_original_dst_needs_clients_with_addresses),
        cmocka_unit_test(test_a_source_is_one_address_of_each_family),
        cmocka_unit_test(test_long_names_and_lists_print_back),
        cmocka_unit_test(test_the_sample_file_is_the_one_the_table_makes),
        cmocka_unit_test(test_the_sample_loads_and_its_comments_are_the_defaults),
        cmocka_unit_test(test_help_and_table_name_every_flag),
        cmocka_unit_test(test_a_help_text_is_one_short_sentence),
        cmocka_unit_test(test_names_in_the_table_are_unique),
        cmocka_unit_test(test_a_cpu_quota_is_rounded_up),
    };

    return cmocka_run_group_tests(tests, make_file, remove_file);
}

"""
test_bad_input.py — what an operator got wrong is said in one line, and nothing has been started.

Each row: what is said (flags, variables, or the lines of a file), and what the answer has to name:
the place, what was wrong, what would be right.
"""
import os
import socket
import subprocess

import pytest

from support.proxy import binary, clean_environment

GUARD_SECONDS = 5

# A complete command line; {port} is free and must stay so.
BASE = ["-l", "127.0.0.1:{port}", "-r", "localhost:8081"]

FLAGS = [
    # unknown, incomplete, misplaced
    ("--shadow-bufer 1m", ["--shadow-bufer", "unknown flag", 'did you mean "--shadow-buffer"']),
    ("--shadow-b 1m", ["--shadow-b", "unknown flag", "did you mean"]),
    ("--xyzzyxyzzy", ["--xyzzyxyzzy", "unknown flag", "--help"]),
    ("-b 5", ['"-b"', "unknown flag", "--help"]),
    ("-m 5", ['"-m"', "unknown flag", "--help"]),
    ("-p 5", ['"-p"', "unknown flag", "--help"]),
    ("-vb", ['"-b"', "unknown flag"]),
    ("-listen 8080", ["-listen: a long flag has two dashes", "write --listen"]),
    ("--upstream localhost:1", ["--upstream", 'did you mean "--primary"']),
    ("--backlog", ["--backlog", "has no value", "write --backlog N"]),
    ("-d", ["-d", "has no value", "write -d LIST"]),
    ("--check=yes", ["--check", "takes no value", "write --check alone"]),
    ("--no-allow-loop=on", ["--no-allow-loop", "takes no value"]),
    ("--no-buffer", ["--no-buffer", "unknown flag"]),
    ("localhost:8082", ["localhost:8082", "unexpected argument", "-d localhost:8082"]),
    # sizes, numbers, times, percents, choices
    ("--shadow-buffer 12q", ["--shadow-buffer", '"12q" is not a size', "k, m or g, as in 16m"]),
    ("--buffer 1.5m", ["--buffer", '"1.5m" is not a size', "as in 16m"]),
    ("--buffer -64k", ["--buffer", '"-64k" is not a size']),
    ("--buffer=", ["--buffer", '"" is not a size']),
    ("--buffer 1", ["--buffer", '"1" is out of bounds', "4k to 1g"]),
    ("--shadow-memory 99999999999999999999g", ["--shadow-memory", "out of bounds", "64k to 1024g"]),
    ("--backlog 0", ["--backlog", '"0" is out of bounds', "1 to 65535"]),
    ("--backlog 4k", ["--backlog", '"4k" is not a number', "digits"]),
    ("--max-sessions many", ["--max-sessions", '"many" is not a number', "or auto"]),
    ("-w 0", ["-w", '"0"', "1 to 256, or auto"]),
    ("-w 1000", ["-w", '"1000"', "1 to 256, or auto"]),
    ("--idle-timeout 5x", ["--idle-timeout", '"5x" is not a time', "250ms or 5s"]),
    ("--connect-timeout 0", ["--connect-timeout", "out of bounds", "1ms to 1h"]),
    ("--drain-timeout 18446744073709551616h", ["--drain-timeout", "out of bounds"]),
    ("--shadow-linger -1s", ["--shadow-linger", '"-1s" is not a time']),
    ("--shadow-sample 101", ["--shadow-sample", '"101" is out of bounds', "0 to 100"]),
    ("--shadow-sample ten", ["--shadow-sample", '"ten" is not a percentage', "12.5"]),
    ("--shadow-overflow drop", ["--shadow-overflow", '"drop"', "detach block"]),
    ("--shadow-sample-by client", ["--shadow-sample-by", '"client"', "session source"]),
    ("--shadow-connect-on never", ["--shadow-connect-on", '"never"', "start data"]),
    ("--log-level loud", ["--log-level", '"loud"', "error warning info debug"]),
    ("--log-level warn", ["--log-level", 'did you mean "warning"?']),
    ("--log-format xml", ["--log-format", '"xml"', "text json"]),
    ("--allow-loop=perhaps", ["--allow-loop", '"perhaps"', "write on or off"]),
    # names
    ("--resolver dns.example", ["--resolver", '"dns.example" is no name server', "IP or IP:PORT"]),
    ("--resolver fe80::1", ["--resolver", '"fe80::1" is there on every link', "fe80::1%eth0"]),
    ("--resolver fe80::1%none0", ["--resolver", "is no name server"]),
    ("--resolver 10.0.0.1,", ["--resolver", '"" is no name server']),
    ("--resolver 10.0.0.1:99999", ["--resolver", "is no name server"]),
    ("--resolver unix:/dns", ["--resolver", "is no name server"]),
    ("--resolver " + ",".join(f"10.0.0.{n}" for n in range(9)), ["--resolver", "more than 8 name servers"]),
    ("--dns-family 4", ["--dns-family", '"4"', "any ipv4 ipv6"]),
    ("--ipv4=on", ["--ipv4", "takes no value"]),
    ("--dns-timeout 0", ["--dns-timeout", "out of bounds", "10ms to 1m"]),
    # addresses
    ("-l 70000", ["-l", '"70000" is not a port', "up to 65535"]),
    ("-l example.org:80", ["-l", '"example.org"', "IP address, localhost or *"]),
    ("-l 127.0.0.1:{port}", ["--listen", "are the same address", "leave one"]),
    ("--admin 127.0.0.1:{port}", ["--admin", "127.0.0.1:", "is a listener's address", "another one"]),
    ("-l 8080?mode=0600", ["-l", "mode", "unix sockets only"]),
    ("-l unix:/tmp/x?mode=9", ["-l", "mode", '"9"', "octal, as in 0660"]),
    ("-l unix:/tmp/x?mod=0600", ["-l", '"mod"', 'did you mean "mode"']),
    ("-r localhost", ["-r", '"localhost" has no port', "HOST:PORT"]),
    ("-r 8081", ["-r", '"8081" has no host', "write localhost:8081"]),
    ("-r :8081", ["-r", "the host is missing", "HOST:PORT"]),
    ("-r 10.0.0.300:80", ["-r", '"10.0.0.300" is not an IPv4 address']),
    ("-r 2001:db8::1:80", ["-r", "several colons", "[IPv6]:PORT"]),
    ("-r http://localhost:80", ["-r", "unknown scheme", "tcp://HOST:PORT"]),
    ("-r localhost:8081?buffer=5k", ["-r", '"buffer"', "leave it out"]),
    ("-r 127.0.0.1:{port}", ["--primary", "is our own listener", "--allow-loop"]),
    ("-d localhost:8081", ["--shadow shadow0", "localhost:8081 is the primary", "--allow-loop"]),
    ("-s " + "x" * 108, ["-s", "108 bytes", "at most 107"]),
    ("-d a:1,,b:2", ["-d", "an address is missing", "HOST:PORT"]),
    ("-d a:0", ["-d", "port 0", "1 to 65535"]),
    ("-d x=a:1,x=b:1", ["-d", 'two shadows are called "x"', "another name"]),
    ("-d bad!name=a:1", ["-d", '"bad!name" is no name', "letters, digits"]),
    ("-r a:1?sample=5", ["-r", '"sample" of "a:1" is for shadows only']),
    ("-d a:1?mode=0600", ["-d", '"mode" of "a:1" is for listeners only']),
    ("-l 8080?proxy=v1", ["-l", '"proxy" of "8080" is for targets only']),
    ("-d a:1?io=copy", ["-d", '"io" of "a:1" is said for all; write --io']),
    ("-d a:1?zzzz=1", ["-d", 'unknown option "zzzz" of "a:1"; leave it out']),
    ("-d a:1?", ["-d", 'an option of "a:1" is empty; leave out a ? or &']),
    ("-d a:1?from=10.0.0.0/8,11.0.0.0/8", ["-d", '"11.0.0.0/8" has no port', "inside a query + separates"]),
    ("-d unix:/tmp/a,b", ["-d", '"b" has no port', "a comma in a path is written %2C"]),
    ("-d a:1?sampel=5", ["-d", '"sampel"', 'did you mean "sample"']),
    ("-d a:1?sample", ["-d", "sample", "has no value", "sample=PERCENT"]),
    ("-d a:1?buffer=1m&buffer=2m", ["-d", "buffer", "said twice"]),
    ("-d a:1?from=10.0.0.1/8", ["-d", "from", '"10.0.0.1/8"', "write 10.0.0.0/8"]),
    ("-d unix:/a%zz", ["-d", '"%zz"', "%25"]),
    ("-d " + ",".join(["a:1"] * 257), ["-d", "more than 256 shadows"]),
    ("--allow 10.0.0.0/33", ["--allow", "10.0.0.0/33", "/0 to /32"]),
    ("--allow nobody", ["--allow", '"nobody" is not a network', "10.0.0.0/8"]),
    ("--source eth0", ["--source", '"eth0" is no address of ours', "as in 10.0.0.9"]),
    ("--source 10.0.0.1:80", ["--source", '"10.0.0.1:80"', "without a port"]),
    ("--source ::", ["--source", '"::" is every address', "auto"]),
    ("--source 10.0.0.1,10.0.0.2", ["--source", '"10.0.0.2" is the second IPv4 address']),
    ("-d a:1?source=::1+::2", ["-d", "source of", '"::2" is the second IPv6 address']),
    ("-d original-dst", ["-d", "original-dst is for --primary only"]),
    ("-r original-dst -r a:1", ["--primary", "original-dst", "leave the others out"]),
    ("--transparent -l unix:/run/l", ["--transparent", '"unix:/run/l" have no addresses']),
    ("--transparent -r unix:/run/p", ["--transparent", '"unix:/run/p" is a unix socket']),
    ("--transparent -r a:1?source=10.0.0.1", ["--transparent", '"a:1" has a source of its own']),
    ("--admin nowhere", ["--admin", '"nowhere" has no port']),
    ('--pid-file "/tmp/a"', ["--pid-file", "has quotes around its value"]),
    ("--tls-key '/tmp/a'", ["--tls-key", "has quotes around its value"]),
    ("--pid-file /tmp/a\nb", ["--pid-file", "\\x0a", "control characters"]),
    ("--user no-such-user", ['there is no user "no-such-user"']),
    ("--user 54321", ["no user has the number 54321", "--group"]),
    ("--user nobody --group no-such-group", ['there is no group "no-such-group"']),
    ("--user 4294967295", ['there is no user "4294967295"']),
    ("--user root", ["--user root is root", "leave it out"]),
    ("--group nogroup", ["--group needs --user"]),
    ("-c /nonexistent/doppel.conf", ["-c", "/nonexistent/doppel.conf", "No such file"]),
    ("-c /", ["-c", "cannot read", "directory"]),
    # later versions
    ("--compare hash", ["--compare is not in this version"]),
    ("-l tls://127.0.0.1:0 --tls-cert /none/x.pem", ["--tls-cert /none/x.pem: No such file"]),
    ("--tls-min 1.1", ["--tls-min", "1.2 1.3"]),
    ("--handshake-timeout 0", ["--handshake-timeout", "1ms to 1h"]),
    ("--admin tls://127.0.0.1:1", ["--admin", "no TLS"]),
    ("--io fast", ["--io", "fast", "auto copy splice"]),
    ("--shadow-breaker 5", ["--shadow-breaker", '"5" has no slash', "5/10s, or off"]),
    ("--shadow-breaker 0/10s", ["--shadow-breaker", '"0/10s"', "1 to 1000"]),
    ("--sample-seed x", ["--sample-seed", '"x" is not a number', "or name"]),
    ("--drain-delay 2h", ["--drain-delay", "out of bounds", "0 to 1h"]),
    ("-l tls://:443", ["--listen tls://:443 needs a certificate", "--tls-cert"]),
    ("-d file:/tmp/record", ["-d", "file: is not in this version"]),
    ("-d a:1?compare=hash", ["-d", '"compare"', "is not in this version"]),
    ("-d a:1?proxy=v3", ["-d", "proxy", '"v3"', "off v1 v2"]),
    ("-r a:1?proxy=on", ["-r", "proxy", '"on"', "off v1 v2"]),
    ("-l 8080?accept-proxy=maybe", ["-l", "accept-proxy", '"maybe"', "on or off"]),
    ("-l 8080?accept-proxy=on", ["accept-proxy", '"8080"', "--proxy-trust 10.0.0.0/8"]),
    ("-l 8080?accept-proxy=on --proxy-trust none", ["needs --proxy-trust"]),
    ("-l 8080?accept-proxy=on&mode=0600 --proxy-trust 10.0.0.0/8", ["mode", "unix sockets only"]),
]

VARIABLES = [
    ({"DOPPEL_BUFFER": "12q"}, ["DOPPEL_BUFFER", '"12q" is not a size', "as in 16m"]),
    ({"DOPPEL_BUFFER": ""}, ["DOPPEL_BUFFER", '"" is not a size']),
    ({"DOPPEL_BUFFER": '"1m"'}, ['DOPPEL_BUFFER: ""1m"" has quotes around its value', "leave them out"]),
    ({"DOPPEL_ALLOW_LOOP": "2"}, ["DOPPEL_ALLOW_LOOP", '"2" is neither on nor off']),
    ({"DOPPEL_SHADOW": "a:1,b"}, ["DOPPEL_SHADOW", '"b" has no port']),
    ({"DOPPEL_WORKERS": "many"}, ["DOPPEL_WORKERS", '"many"', "or auto"]),
    ({"DOPPEL_BUFFER": "1m", "DOPPEL_BUFFER_FILE": "/dev/null"},
     ["DOPPEL_BUFFER and DOPPEL_BUFFER_FILE are both set", "keep one"]),
    ({"DOPPEL_BUFFER_FILE": "/nonexistent"}, ["DOPPEL_BUFFER_FILE", "/nonexistent", "No such file"]),
    ({"DOPPEL_BUFFER_FILE": "/dev/null"}, ["DOPPEL_BUFFER_FILE", '"" is not a size']),
    ({"DOPPEL_BUFFER_FILE": "/dev/zero"}, ["DOPPEL_BUFFER_FILE", "more than 1 MiB"]),
    ({"DOPPEL_CONFIG": "/nonexistent"}, ["DOPPEL_CONFIG", "/nonexistent", "No such file"]),
    ({"DOPPEL_COMPARE": "hash"}, ["DOPPEL_COMPARE is not in this version"]),
    ({"DOPPEL_TLS_KEY_PASSPHRASE_FILE": "/none/x"}, ["--tls-key-passphrase-file /none/x: No such file"]),
]

FILES = [
    ('log-file = "/tmp/x"', 1, ["has quotes around its value", "leave them out"]),
    ("pid-file='/tmp/x'", 1, ["has quotes around its value", "leave them out"]),
    ("shadow-bufer = 1m", 1, ['unknown key "shadow-bufer"', 'did you mean "shadow-buffer"?']),
    ("# fine\n\nbuffer = 12q", 3, ['"12q" is not a size', "as in 16m"]),
    ("buffer = 1m ; more", 1, ["comment behind its value", "line of its own"]),
    ("buffer = 1m # more", 1, ["comment behind its value", "line of its own"]),
    ("buffer 1m", 1, ['"buffer 1m" has no key', "KEY = VALUE"]),
    ("buffer: 1m", 1, ['"buffer: 1m" has a colon', "write buffer = 1m"]),
    ("buffer = 1m\nbuffer = 2m", 2, ['"buffer"', "line 1 already", "leave one"]),
    ("[shadow]\naddress = a:1", 1, ['"[shadow]"', "write [shadow NAME]"]),
    ("[shadow a b]\naddress = a:1", 1, ['"[shadow a b]" has a blank in its name', "one word"]),
    ("[globals]\nbuffer = 1m", 1, ['"[globals]"', "write [shadow NAME]"]),
    ("[shadow a]\n", 1, ["[shadow a] has no address", "address = HOST:PORT"]),
    ("[shadow a]\naddress = a", 2, ['"a" has no port']),
    ("[shadow a]\naddress = a:1\nsampel = 5", 3, ['unknown key "sampel"', 'did you mean "sample"?']),
    ("[shadow a]\naddress = a:1\nworkers = 5", 3, ['"workers" is not a key of a shadow', "above"]),
    ("[shadow a]\naddress = a:1\n[shadow a]\naddress = a:2", 3, ['called "a"', "another name"]),
    ("shadow = a:1\n" + "x" * 5000, 2, ["longer than 4096 bytes"]),
    ("pid-file = /a\x01b", 1, ["control character"]),
    ("compare = hash", 1, ["compare is not in this version"]),
    ("handshake-timeout = 0", 1, ["1ms to 1h"]),
    ("resolver = 10.0.0.1, one.example", 1, ['"one.example" is no name server', "IP:PORT"]),
    ("[shadow a]\naddress = a:1\nbreaker = 5/1d", 3, ['"1d" is not a time', "5s"]),
]


@pytest.fixture
def free_port():
    """A port nobody listens on; the test fails when somebody does at its end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    yield port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))


def words(text, port):
    """Splits at blanks, so that a line end stays in its word."""
    return [word.replace("{port}", str(port)) for word in text.split(" ") if word]


def assert_refused(arguments, names, directory, variables=None):
    """The program ends at once with one line that says all of this, and leaves nothing behind."""
    pid_file = directory / "doppel.pid"
    ended = subprocess.run([binary(), "--pid-file", str(pid_file), *arguments],
                           env=clean_environment(variables), cwd=directory, text=True,
                           stdin=subprocess.DEVNULL, capture_output=True, timeout=GUARD_SECONDS)
    assert ended.returncode == 2, ended
    assert ended.stdout == ""
    assert ended.stderr.startswith("doppel: ")
    assert ended.stderr.endswith("\n") and ended.stderr.count("\n") == 1, ended.stderr
    for name in names:
        assert name in ended.stderr
    assert not pid_file.exists()


@pytest.mark.parametrize("flags, names", FLAGS, ids=[row[0][:40].strip() for row in FLAGS])
@pytest.mark.parametrize("check", [[], ["-t"]], ids=["run", "check"])
def test_L05_a_bad_flag_is_refused_in_one_line(flags, names, check, tmp_path, free_port):
    base = words(" ".join(BASE), free_port)
    assert_refused([*check, *base, *words(flags, free_port)], names, tmp_path)


@pytest.mark.parametrize("variables, names", VARIABLES, ids=[" ".join(row[0]) for row in VARIABLES])
@pytest.mark.parametrize("check", [[], ["-t"]], ids=["run", "check"])
def test_L05_a_bad_variable_is_refused_in_one_line(variables, names, check, tmp_path, free_port):
    assert_refused([*check, *words(" ".join(BASE), free_port)], names, tmp_path, variables)


@pytest.mark.parametrize("lines, number, names", FILES, ids=[row[0][:40] for row in FILES])
@pytest.mark.parametrize("check", [[], ["-t"]], ids=["run", "check"])
def test_L05_a_bad_line_of_a_file_is_refused_in_one_line(lines, number, names, check, tmp_path, free_port):
    (tmp_path / "bad.conf").write_text(lines + "\n")
    arguments = [*check, *words(" ".join(BASE), free_port), "-c", "bad.conf"]
    assert_refused(arguments, [f"bad.conf:{number}: ", *names], tmp_path)


@pytest.mark.parametrize("arguments, names", [
    (["-r", "localhost:8081"], ["--listen is missing", "-l 8080"]),
    (["-l", "8080"], ["--primary is missing", "-r localhost:8081"]),
], ids=["no listener", "no primary"])
def test_what_is_missing_is_named(arguments, names, tmp_path):
    assert_refused(arguments, names, tmp_path)


def test_a_file_nobody_may_read_is_named(tmp_path, free_port):
    secret = tmp_path / "secret.conf"
    secret.write_text("buffer = 1m\n")
    secret.chmod(0)
    if os.access(secret, os.R_OK):
        pytest.skip("this user may read every file")
    assert_refused([*words(" ".join(BASE), free_port), "-c", "secret.conf"],
                   ["-c", "secret.conf", "Permission denied"], tmp_path)


def test_a_mistake_is_found_even_where_something_stronger_overrules_it(tmp_path, free_port):
    assert_refused([*words(" ".join(BASE), free_port), "--buffer", "1m"], ["DOPPEL_BUFFER", '"12q"'],
                   tmp_path, {"DOPPEL_BUFFER": "12q"})

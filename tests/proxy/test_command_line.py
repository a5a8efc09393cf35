"""
test_command_line.py — flags, variables and file through the real program, as -t and --help show them.
"""
import configparser
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from pathlib import Path

import pytest

from support.proxy import binary, clean_environment

GUARD_SECONDS = 5
ROOT = Path(__file__).resolve().parents[2]


def run(*arguments, variables=None, directory=None):
    return subprocess.run([binary(), *arguments], env=clean_environment(variables), text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=GUARD_SECONDS,
                          cwd=directory)


def check(*arguments, **options):
    """The text -t prints; nothing may go wrong."""
    ended = run("-t", *arguments, **options)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def settings(*arguments, **options):
    """The same by section; "global" is what stands above the first.  A key said twice keeps its last."""
    parser = configparser.ConfigParser(interpolation=None, strict=False, delimiters="=")
    parser.read_string("[global]\n" + check(*arguments, **options))
    return {section: dict(parser[section]) for section in parser.sections()}


BASE = ("-l", "8080", "-r", "localhost:8081")


def test_an_em_proxy_command_line_works_unchanged():
    said = settings("-l", "8080", "-r", "localhost:8081", "-d", "localhost:8082,localhost:8083", "-v")
    assert said["global"]["listen"] == "8080"
    assert said["global"]["primary"] == "localhost:8081"
    assert said["global"]["log-level"] == "debug"
    assert said["shadow shadow0"]["address"] == "localhost:8082"
    assert said["shadow shadow1"]["address"] == "localhost:8083"


@pytest.mark.parametrize("arguments", [
    ("--listen", "localhost:8080", "--relay", "localhost:8081", "--duplex", "localhost:8082", "--verbose"),
    ("--listen=localhost:8080", "--primary=localhost:8081", "--shadow=localhost:8082", "-v"),
    ("-llocalhost:8080", "-rlocalhost:8081", "-dlocalhost:8082", "-vv"),
    ("-vl", "localhost:8080", "-r", "localhost:8081", "--mirror", "localhost:8082"),
], ids=["em-proxy's long flags", "equals signs", "glued", "clustered"])
def test_every_way_of_writing_flags_means_the_same(arguments):
    assert check(*arguments) == check("-l", "localhost:8080", "-r", "localhost:8081",
                                      "-d", "localhost:8082", "-v")


def test_em_proxys_socket_is_the_primary_and_wins_with_a_warning():
    assert settings("-l", "8080", "-s", "/tmp/app.sock")["global"]["primary"] == "unix:/tmp/app.sock"
    ended = run("-t", *BASE, "-s", "/tmp/app.sock")
    assert ended.returncode == 0
    assert "primary            = unix:/tmp/app.sock\n" in ended.stdout
    assert "localhost:8081" not in ended.stdout
    assert "-s wins over -r" in ended.stderr


def test_a_shadow_takes_options_from_its_address_and_the_rest_from_the_flags():
    said = settings(*BASE, "--shadow-buffer", "2m", "--shadow-overflow", "block",
                    "-d", "canary=tcp://stage:8443?sample=10&buffer=1m,localhost:8083")
    assert said["shadow canary"]["address"] == "tcp://stage:8443"
    assert said["shadow canary"]["sample"] == "10"
    assert said["shadow canary"]["buffer"] == "1m"
    assert said["shadow canary"]["overflow"] == "block"
    assert said["shadow shadow1"]["buffer"] == "2m"


def test_no_shadow_makes_a_plain_proxy():
    assert list(settings(*BASE)) == ["global"]


def test_a_flag_wins_over_a_variable_over_the_file_over_the_default(tmp_path):
    (tmp_path / "doppel.conf").write_text("buffer = 1m\nbacklog = 1\nidle-timeout = 1m\nshadow = f:1,f:2\n")
    said = settings(*BASE, "-c", "doppel.conf", "--buffer", "3m", directory=tmp_path,
                    variables={"DOPPEL_BUFFER": "2m", "DOPPEL_BACKLOG": "2", "DOPPEL_SHADOW": "e:1"})
    assert said["global"]["buffer"] == "3m"
    assert said["global"]["backlog"] == "2"
    assert said["global"]["idle-timeout"] == "1m"
    assert said["global"]["drain-timeout"] == "8s"
    assert said["shadow shadow0"]["address"] == "e:1"
    assert "shadow shadow1" not in said


def test_a_list_of_flags_replaces_the_whole_list_of_the_file(tmp_path):
    (tmp_path / "doppel.conf").write_text("listen = 1\nlisten = 2\nprimary = f:1\n"
                                          "[shadow f]\naddress = f:2\n")
    said = check("-c", "doppel.conf", "-l", "8", "-l", "9", "-d", "g:1", directory=tmp_path)
    assert re.findall(r"^listen += (.*)$", said, re.MULTILINE) == ["8", "9"]
    assert re.findall(r"^address += (.*)$", said, re.MULTILINE) == ["g:1"]


def test_the_later_choice_of_a_family_wins():
    assert settings(*BASE)["global"]["dns-family"] == "any"
    assert settings(*BASE, "-6", "-4")["global"]["dns-family"] == "ipv4"
    assert settings(*BASE, "-4", variables={"DOPPEL_DNS_FAMILY": "ipv6"})["global"]["dns-family"] == "ipv4"


def test_variables_alone_are_a_configuration(tmp_path):
    (tmp_path / "shadows").write_text("a:1,b:2\n")
    variables = {"DOPPEL_LISTEN": "8080,8081", "DOPPEL_PRIMARY": "p:1", "DOPPEL_SHADOW_FILE": "shadows",
                 "DOPPEL_ALLOW_LOOP": "true", "DOPPEL_LOG_FILE": "doppel.log"}
    said = check(variables=variables, directory=tmp_path)
    assert re.findall(r"^listen += (.*)$", said, re.MULTILINE) == ["8080", "8081"]
    assert re.findall(r"^address += (.*)$", said, re.MULTILINE) == ["a:1", "b:2"]
    assert re.search(r"^allow-loop += on$", said, re.MULTILINE)
    assert re.search(r"^log-file += doppel.log$", said, re.MULTILINE)
    assert not (tmp_path / "doppel.log").exists()


def test_an_unknown_variable_is_a_warning_that_names_the_nearest():
    ended = run("-t", *BASE, variables={"DOPPEL_SHADOW_BUFER": "1m"})
    assert ended.returncode == 0
    assert ended.stdout == check(*BASE)
    assert len(ended.stderr.splitlines()) == 1
    assert "DOPPEL_SHADOW_BUFER" in ended.stderr and "DOPPEL_SHADOW_BUFFER?" in ended.stderr


@pytest.mark.parametrize("variable, meant", [
    ("DOPPEL_ADMIN_TOKEN", "DOPPEL_ADMIN_TOKEN_FILE"),
    ("DOPPEL_VERBOSE", "DOPPEL_LOG_LEVEL"),
    ("DOPPEL_RELAY", "DOPPEL_PRIMARY")])
def test_a_variable_that_others_would_think_of_leads_to_ours(variable, meant):
    ended = run("-t", *BASE, variables={variable: "1"})
    assert f"{variable} is ignored; did you mean {meant}?" in ended.stderr


@pytest.mark.parametrize("flags, wanted", [
    (["--tls-cert", "{pem}"], "-l tls://:8443"),
    (["--proxy-trust", "10.0.0.0/8"], "-l 8082?accept-proxy=on")])
def test_what_no_listener_uses_is_a_warning_that_says_how(flags, wanted, authority):
    flags = [flag.format(pem=authority.certificate("localhost")) for flag in flags]

    plain = run("-t", *BASE, *flags)
    assert plain.returncode == 0
    assert f"warning: {flags[0]} has no effect: there is no" in plain.stderr and "--listen" in plain.stderr
    assert "no effect" not in run("-t", *BASE, *flags, *wanted.split()).stderr


@pytest.mark.parametrize("arguments", [
    ("-d", "localhost:8082,localhost:8083"),
    ("-d", "canary=tcp://stage:8443?sample=12.5%&buffer=1m&by=source&from=10.0.0.0/8+2001:db8::/32"),
    ("-l", "web=[::1]:99", "-l", "unix:/run/a%2Cb c.sock?mode=0600", "-r", "second:2"),
    ("-s", "/tmp/an odd;name, really?"),
    ("--allow", "10.0.0.0/8,::1", "--idle-timeout", "0", "--connect-timeout", "1.5s", "-q"),
    ("--admin", "127.0.0.1:9901", "-w", "2", "--access-log", "off", "--pid-file", "/run/a b#c;d"),
    ("--resolver", "10.0.0.2,10.0.0.3:54,::1,[2001:db8::2]:5353", "-6", "--dns-stale", "0"),
    ("--resolv-conf", "/dev/null", "--hosts", "/b", "--sndbuf", "64k", "--rcvbuf", "64k", "--allow-loop"),
    ("-d", ",".join(f"shadow-with-a-long-name-{n}=" + "x" * 60 + ".example.internal:1" for n in range(16))),
    ("--hosts", "/" + "/".join(["directory"] * 90)),
])
def test_what_check_prints_loads_to_the_same(arguments, tmp_path):
    printed = check(*BASE, *arguments)
    (tmp_path / "printed.conf").write_text(printed)
    assert check("-c", "printed.conf", directory=tmp_path) == printed


def test_the_sample_file_is_a_working_configuration():
    said = settings("-c", str(ROOT / "config" / "doppel.conf"))
    assert said["shadow canary"]["address"] == "localhost:8082"


def test_help_names_each_flag_in_its_group():
    ended = run("--help")
    assert ended.returncode == 0 and ended.stderr == ""
    printed = check(*BASE, "-d", "h:1").splitlines()
    keys = {line.split(" ")[0] for line in printed if "=" in line}
    section_keys = {line.split(" ")[0] for line in printed[printed.index("[shadow shadow0]"):] if "=" in line}
    for key in keys - section_keys:
        assert re.search(rf"--{key}\b", ended.stdout), key
    for key in section_keys - {"address"}:
        assert f"{key}= in an address" in re.sub(r"\s+", " ", ended.stdout), key
    for flag in ("-l", "-r", "-s", "-d", "-v", "-q", "-c", "-t", "-w", "-h", "-V",
                 "--relay", "--duplex", "--mirror"):
        assert re.search(rf"(?<!\S){flag}\b", ended.stdout), flag
    assert "--resolv-conf" not in ended.stdout
    assert re.findall(r"^([A-Z]\w+):$", ended.stdout, re.MULTILINE) == [
        "Listening", "Primary", "Shadows", "TLS", "Names", "Limits", "Logging", "Processes", "Admin"]


def width_of_help(columns):
    """Of the longest line, on a terminal of so many columns."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen([binary(), "--help"], stdout=slave, env=clean_environment()):
        os.close(slave)
        text = b""
        try:
            while piece := os.read(master, 65536):
                text += piece
        except OSError:  # EIO: its other end is closed
            pass
    os.close(master)
    return max(map(len, text.decode().splitlines()))


def test_help_fits_the_terminal():
    assert 70 < max(map(len, run("--help").stdout.splitlines())) <= 80
    assert 90 < width_of_help(100) <= 100
    assert width_of_help(70) <= 78   # its head has lines that are not wrapped


def test_the_help_of_a_first_use_is_one_page():
    ended = run("-h")
    lines = ended.stdout.splitlines()
    assert ended.returncode == 0 and ended.stderr == ""
    assert len(lines) <= 25 and max(map(len, lines)) <= 80
    for word in ("-l, --listen", "-r, --primary", "-d, --shadow", "-t, --check", "--help", "DOPPEL_LISTEN"):
        assert word in ended.stdout


def test_no_argument_at_all_is_an_error_that_says_how_to_go_on():
    ended = run()
    assert (ended.returncode, ended.stdout) == (2, "")
    assert len(ended.stderr.splitlines()) == 3
    for word in ("Usage: doppel -l ADDR -r ADDR", "doppel -h", "doppel --help"):
        assert word in ended.stderr


def test_version_is_told():
    ended = run("-V")
    assert ended.returncode == 0
    assert ended.stdout.startswith("doppel ")


@pytest.mark.parametrize("status, arguments, names", [
    (1, ["--pid-file", "none/doppel.pid"], ["cannot write the pid file none/doppel.pid", "No such file"]),
    (1, ["--pid-file", "plain/doppel.pid"], ["the pid file plain/doppel.pid", "Not a directory"]),
    (1, ["--log-file", "none/doppel.log"], ["cannot open the log file none/doppel.log", "No such file"]),
    (1, ["--access-log", "/tmp"], ["cannot open the access log file /tmp", "Is a directory"]),
    (1, ["-l", "unix:none/a"], ["cannot listen on unix:none/a", "No such file"]),
    (1, ["--admin", "unix:plain"], ["cannot listen on unix:plain", "no socket"]),
    (1, ["-l", "192.0.2.1:80"], ["cannot listen on 192.0.2.1:80", "does not have that address"]),
    (1, ["--admin", "[2001:db8::1]:80"], ["cannot listen on [2001:db8::1]:80", "does not have that address"]),
    (2, ["--user", "nobody-at-all"], ["--user", 'there is no user "nobody-at-all"']),
    (2, ["--tls-key-passphrase-file", "none"], ["--tls-key-passphrase-file none", "No such file"]),
    (2, ["--admin-token-file", "none"], ["none", "No such file"]),
])
def test_what_a_start_would_refuse_is_known_by_check(status, arguments, names, tmp_path):
    (tmp_path / "plain").write_text("")
    base = ["-l", "127.0.0.1:0", "-r", "localhost:8081", *arguments]

    checked, started = run("-t", *base, directory=tmp_path), run(*base, directory=tmp_path)

    assert (checked.returncode, checked.stdout) == (status, "")
    assert (checked.stderr, status) == (started.stderr, started.returncode)
    assert checked.stderr.count("\n") == 1 and all(name in checked.stderr for name in names), checked.stderr
    assert os.listdir(tmp_path) == ["plain"]


def test_check_starts_nothing(tmp_path):
    check(*BASE, "--pid-file", "doppel.pid", "--log-file", "doppel.log", "--access-log", "access.log",
          "-l", "unix:" + str(tmp_path / "listen.sock"), directory=tmp_path)
    assert os.listdir(tmp_path) == []

"""
test_admin_requests.py — what the admin endpoint takes for one clear request: a proxy in front may read
an unclear one in another way.  And who has ended its side is not waited for.
"""
import socket
import subprocess

import pytest

from support.admin import GET, ask, raw, secret, tcp_admin, with_tcp_admin
from support.peers import sink
from support.proxy import binary
from support.waiting import patient

END = b"Connection: close\r\n\r\n"
POST = b"POST /mirroring/off HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer s3cret-t0ken\r\n"
SMUGGLED = b"POST /drain HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer s3cret-t0ken\r\n\r\n"

UNCLEAR = {
    "two hosts": GET + b"Host: localhost\r\n",
    "another host": GET + b"Host: evil.example\r\n",
    "two origins": GET + b"Origin: http://localhost\r\nOrigin: http://evil.example\r\n",
    "two tokens": POST + b"Authorization: Bearer wrong\r\n",
    "two lengths": POST + b"Content-Length: 0\r\nContent-Length: 0\r\n",
    "other length": POST + b"Content-Length: 0\r\nContent-Length: 5\r\n",
    "list of lengths": POST + b"Content-Length: 0, 0\r\n",
    "signed length": POST + b"Content-Length: +0\r\n",
    "length of blanks": POST + b"Content-Length : 5\r\n",
    "both lengths": POST + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
    "blank before colon": POST + b"Transfer-Encoding : chunked\r\n",
    "tab before colon": POST + b"Transfer-Encoding\t: chunked\r\n",
    "folded": GET + b"X: a\r\n b\r\n",
    "folded to the first": b"GET /healthz HTTP/1.1\r\n Host: evil.example\r\nHost: localhost\r\n",
    "folded host": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n evil.example\r\n",
    "folded token": b"POST /drain HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer\r\n s3cret-t0ken\r\n",
    "hidden in a fold": POST + b"X: a\r\n Transfer-Encoding: chunked\r\n",
    "NUL in a value": b"GET /healthz HTTP/1.1\r\nHost: localhost\0.evil.example\r\n",
    "NUL in the token": POST.replace(b"t0ken", b"t0ken\0x"),
    "NUL in the path": b"POST /drain\0/healthz HTTP/1.1\r\nHost: localhost\r\n"
                       b"Authorization: Bearer s3cret-t0ken\r\n",
    "bare CR": POST + b"X: a\rTransfer-Encoding: chunked\r\n",
    "control character": GET + b"X: a\x01\r\n",
    "no name": GET + b": x\r\n",
    "blank in a name": GET + b"X Y: z\r\n",
    "line without colon": GET + b"X\r\n",
    "whole URL": b"GET http://localhost/healthz HTTP/1.1\r\nHost: localhost\r\n",
    "URL of another": b"POST http://evil.example/drain HTTP/1.1\r\nHost: localhost\r\n"
                      b"Authorization: Bearer s3cret-t0ken\r\n",
    "authority": b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n",
    "two arguments": POST.replace(b"off ", b"off?a=1&a=2 "),
}


@pytest.mark.parametrize("request_", UNCLEAR.values(), ids=UNCLEAR)
def test_L20_an_unclear_request_is_refused_and_nothing_behind_it_is_read(doppel, server, tmp_path,
                                                                         request_):
    mirror = with_tcp_admin(doppel, server, token=secret(tmp_path))
    where = tcp_admin(mirror)

    answer = raw(where, request_ + b"\r\n" + SMUGGLED)

    # From 1.0 on libmicrohttpd closes without a word for a NUL.
    assert answer.startswith(b"HTTP/1.1 400 ") or (b"\0" in request_ and answer == b""), answer
    assert b"HTTP/1.1 2" not in answer
    assert not mirror.log(r" (changed|mirroring) ")
    assert ask(where, "/readyz")[0] == 200


@pytest.mark.parametrize("length", [b"Content-Length: %d\r\n" % len(SMUGGLED),
                                    b"Transfer-Encoding: chunked\r\n"])
def test_L20_what_comes_as_a_body_is_not_taken_for_a_request(doppel, server, tmp_path, length):
    mirror = with_tcp_admin(doppel, server, token=secret(tmp_path))

    answer = raw(tcp_admin(mirror), POST + length + b"\r\n" + SMUGGLED)

    assert answer.startswith(b"HTTP/1.1 413 ") and answer.count(b"HTTP/1.1 ") == 1
    assert not mirror.log(r" (changed|mirroring) ")


@pytest.mark.parametrize("request_", [
    GET + b"Host-Of-Others: x\r\nX-Forwarded-For: 10.0.0.1, 10.0.0.2\r\nX-Empty:\r\n",
    GET + b"Accept: */*\r\nAccept: text/plain\r\nCookie: a=b; c\r\nX-Tab: a\tb\r\nX-Latin: \xe9\r\n",
    b"GET /healthz?verbose&a=1&b= HTTP/1.1\r\nHost: localhost\r\n",
    b"GET /healthz? HTTP/1.1\r\nHost: localhost\r\n",
    b"GET /healthz?&=&&a HTTP/1.1\r\nHost: localhost\r\n",
    b"GET /healthz HTTP/1.0\r\n",
    b"\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n",
], ids=["lists", "twice", "query", "empty query", "empty arguments", "1.0", "empty line"])
def test_an_unusual_but_clear_request_is_answered(doppel, server, request_):
    where = tcp_admin(with_tcp_admin(doppel, server))

    assert raw(where, request_ + END).endswith(b"\r\n\r\nok\n")


def test_lines_without_cr_are_answered_or_refused(doppel, server):
    """libmicrohttpd takes them up to 0.9 and refuses them from 1.0 on (RFC 9112, 2.2 allows both)."""
    where = tcp_admin(with_tcp_admin(doppel, server))

    answer = raw(where, b"GET /healthz HTTP/1.1\nHost:localhost\n" + END)

    assert answer.endswith(b"\r\n\r\nok\n") or answer.startswith(b"HTTP/1.1 400 "), answer


# Who scrapes and probes knows doppel by a name.

@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
def test_scrapers_and_probes_may_ask_by_any_name(doppel, server, path):
    where = tcp_admin(with_tcp_admin(doppel, server))

    assert ask(where, path, Host="doppel.monitoring.svc.cluster.local:9901")[0] == 200
    assert ask(where, path, Host="evil.example", Origin="http://other.example")[0] == 403
    assert ask(where, path, "POST", Host="evil.example")[0] == 403
    assert ask(where, "/status", Host="doppel.monitoring.svc.cluster.local:9901")[0] == 403


# Who has ended its side.

def half_closed(where, request):
    """What comes back, to the end, for whoever says no more; the connection was closed by doppel."""
    with socket.create_connection(where, timeout=patient(3)) as connection:     # below the deadline of 5 s
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer


@pytest.mark.parametrize("request_, answers", [
    (GET + b"\r\n", 1), ((GET + b"\r\n") * 3, 3), (GET, 0), (b"GET /hea", 0), (b"", 0)],
    ids=["whole", "three", "no end", "part", "nothing"])
def test_who_has_ended_its_side_is_answered_and_let_go(doppel, server, request_, answers):
    where = tcp_admin(with_tcp_admin(doppel, server))

    assert half_closed(where, request_).count(b"\r\n\r\nok\n") == answers


def test_who_has_ended_its_side_gets_the_whole_page(doppel, server):
    address = server(sink).address
    shadows = [word for number in range(100) for word in ("-d", f"number{number}={address}")]
    where = tcp_admin(with_tcp_admin(doppel, server, "127.0.0.1:0", *shadows))

    answer = half_closed(where, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")

    head, _, page = answer.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(page)}".encode() in head and len(page) > 100_000


# Many at once.

def test_L20_a_burst_of_scrapes_does_not_keep_a_health_check_waiting(doppel, server):
    """The page of two hundred shadows costs milliseconds; sixty of them in one turn cost one page."""
    address = server(sink).address
    shadows = [word for number in range(200) for word in ("-d", f"number{number}={address}")]
    where = tcp_admin(with_tcp_admin(doppel, server, "127.0.0.1:0", *shadows))
    crowd = [socket.create_connection(where, timeout=patient()) for _ in range(60)]
    for one in crowd:
        one.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")

    assert subprocess.run([binary(), "--health", "{}:{}".format(*where)], check=False).returncode == 0
    for one in crowd:
        one.close()

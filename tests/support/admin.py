"""
admin.py — asking the admin endpoint over TCP, politely and byte by byte.
"""
import http.client
import socket

from support.peers import echo
from support.waiting import patient

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"


def with_tcp_admin(doppel, server, address="127.0.0.1:0", *flags, token=None):
    """The closing checks ask over the unix socket, which this one does not have."""
    flags += ("--admin-token-file", str(token)) if token else ()
    mirror = doppel(server(echo), "--admin", address, *flags, admin=False)
    mirror.expect(quiesce=False, books=False)
    return mirror


def tcp_admin(mirror):
    """Where a doppel started with --admin 127.0.0.1:0 answers."""
    address = mirror.wait_log(" admin ")[0].fields["address"]
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def ask(where, path, method="GET", **headers):
    connection = http.client.HTTPConnection(*where, timeout=patient())
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read().decode()
    finally:
        connection.close()


def secret(tmp_path, text="s3cret-t0ken\n", mode=0o600):
    path = tmp_path / "token"
    path.write_text(text)
    path.chmod(mode)
    return path


def raw(where, request):
    """What comes back for these bytes, until the end."""
    with socket.create_connection(where, timeout=patient()) as connection:
        try:
            connection.sendall(request)
        except OSError:
            pass                    # it has been refused already
        return receive_all(connection)


def receive_all(connection):
    answer = b""
    try:
        while part := connection.recv(65536):
            answer += part
    except OSError:
        pass
    return answer

"""
headers.py — PROXY headers as the tests write and read them, apart from what the peers count.

    introduce(client, v1(("10.0.0.9", 5), ("10.0.1.5", 80)))     before the client's own bytes
    server(introduced(echo))                a peer that reads a header first: connection.header, an
                                            Introduction with version, source, destination, values
"""
import ipaddress
import socket
import struct
from dataclasses import dataclass, field

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL, PROXY = 0, 1
IPV4, IPV6, UNIX = 0x11, 0x21, 0x31
ALPN, AUTHORITY, UNIQUE_ID, TLS, MIRRORED, LISTENER = 0x01, 0x02, 0x05, 0x20, 0xE0, 0xE1
TLS_VERSION, TLS_NAME, TLS_CIPHER = 0x21, 0x22, 0x23
SPOKE_TLS, SHOWN_NOW, SHOWN = 1, 2, 4       # bits of a client
MARK = b"doppel-mirrored"


def v1(source, destination):
    family = "TCP6" if ":" in source[0] else "TCP4"
    return f"PROXY {family} {source[0]} {destination[0]} {source[1]} {destination[1]}\r\n".encode()


def tlv(kind, value):
    return struct.pack(">BH", kind, len(value)) + value


def v2(source=None, destination=None, values=b"", command=PROXY):
    if source is None:
        return binary(command, 0, values)
    hosts = [ipaddress.ip_address(host) for host, _ in (source, destination)]
    ports = struct.pack(">HH", source[1], destination[1])
    family = IPV6 if hosts[0].version == 6 else IPV4
    return binary(command, family, hosts[0].packed + hosts[1].packed + ports + values)


def binary(command, family, rest):
    return SIGNATURE + struct.pack(">BBH", 0x20 | command, family, len(rest)) + rest


def introduce(client, header):
    """Not among the bytes that the primary has to get."""
    client.socket.sendall(header)


@dataclass
class Introduction:
    """What a header says."""
    version: int
    source: object = None           # ("10.0.0.9", 51312), a path, or None
    destination: object = None
    values: dict = field(default_factory=dict)


@dataclass
class Secured:
    """What a header says of a client that spoke TLS: its bits, 0 when its certificate was verified, and
    values (version, name, cipher) by their type."""
    bits: int
    verify: int
    values: dict


def secured_of(header):
    bits, verify = struct.unpack(">BI", header.values[TLS][:5])
    return Secured(bits, verify, _read_values(header.values[TLS][5:]))


def introduced(then):
    """A behaviour that reads a header, keeps it, and goes on as then."""
    def behaviour(connection):
        connection.header = read_header(connection.socket)
        then(connection)
    return behaviour


def header_of(server, number=0):
    """The header that the server's connection got; waits until a byte behind it has come, or an end."""
    connection = server.connection(number)
    connection.wait_received(1)
    return connection.header


def read_header(connected):
    """Strictly, and not one byte more."""
    start = _exactly(connected, 6)
    if start == b"PROXY ":
        line = start
        while not line.endswith(b"\r\n"):
            line += _exactly(connected, 1)
        return _read_line(line)
    fixed = start + _exactly(connected, 10)
    assert fixed.startswith(SIGNATURE), f"no header: {fixed!r}"
    command, family, length = struct.unpack(">BBH", fixed[12:])
    assert command == 0x20 | PROXY, hex(command)
    return _read_rest(family, _exactly(connected, length))


def _read_line(line):
    assert len(line) <= 107, line
    _, family, *words = line[:-2].decode("ascii").split(" ")
    if family == "UNKNOWN":
        return Introduction(1)
    source, destination, port, other_port = words
    assert {ipaddress.ip_address(host).version for host in (source, destination)} == {int(family[3:])}, line
    return Introduction(1, (source, int(port)), (destination, int(other_port)))


def _read_rest(family, rest):
    ends = (None, None)
    size = {IPV4: 12, IPV6: 36, UNIX: 216, 0: 0}[family]
    addresses, rest = rest[:size], rest[size:]
    if family in (IPV4, IPV6):
        width = (size - 4) // 2
        kind = socket.AF_INET if family == IPV4 else socket.AF_INET6
        hosts = [socket.inet_ntop(kind, addresses[at:at + width]) for at in (0, width)]
        ends = tuple(zip(hosts, struct.unpack(">HH", addresses[-4:])))
    elif family == UNIX:
        ends = tuple(path.rstrip(b"\0").decode() for path in (addresses[:108], addresses[108:]))
    return Introduction(2, *ends, _read_values(rest))


def _read_values(rest):
    values = {}
    while rest:
        kind, length = struct.unpack(">BH", rest[:3])
        assert kind not in values and len(rest) >= 3 + length, rest
        values[kind], rest = rest[3:3 + length], rest[3 + length:]
    return values


def _exactly(connected, size):
    data = b""
    while len(data) < size:
        piece = connected.recv(size - len(data))
        if not piece:
            raise ConnectionError(f"the end within a header: {data!r}")
        data += piece
    return data

"""
dns.py — a scripted name server on 127.0.0.1, UDP and TCP on one free port, or on the one it is given.

    with NameServer() as dns:
        dns.table["primary.test"] = Name(a=["127.0.0.1"], aaaa=["::1"])
        dns.table["slow.test"] = Name(a=["127.0.0.1"], delay=0.5)
        dns.table["gone.test"] = NX
        conf = dns.resolv_conf(directory)      # for --resolv-conf
        ...
        assert dns.count("primary.test") == 2  # an A and an AAAA question

A name that is not in the table does not exist.  The table may change at any time.  An answer that
is too long for UDP is truncated there and whole over TCP.  Lies go out before the answer:

        dns.table["lied-about.test"] = Name(a=["127.0.0.1"], lies=("id", "question", "source"))
"""

import socket
import struct
import threading
from dataclasses import dataclass, field

from dnslib import AAAA, QTYPE, RCODE, RR, A, DNSHeader, DNSQuestion, DNSRecord

UDP_MOST_BYTES = 512


@dataclass(frozen=True)
class Name:
    """What the server says about one name."""

    a: list = field(default_factory=list)
    aaaa: list = field(default_factory=list)
    ttl: int = 60
    rcode: str = "NOERROR"
    silent: tuple = ()  # the question types, "A" and "AAAA", that get no answer
    broken: tuple = ()  # those that get SERVFAIL
    delay: float = 0.0  # seconds
    tcp: bool = True    # False: over TCP the connection opens and nothing is said
    lies: tuple = ()    # what is sent over UDP before the answer: the keys of LIES


NX = Name(rcode="NXDOMAIN")
SERVFAIL = Name(rcode="SERVFAIL")
SILENT = Name(silent=("A", "AAAA"))


@dataclass(frozen=True)
class Question:
    name: str
    type: str
    over: str  # "udp" or "tcp"


def _answer(request, name, question):
    reply = request.reply(aa=1, ra=1)
    if question.type in name.broken:
        reply.header.rcode = RCODE.SERVFAIL
        return reply
    reply.header.rcode = getattr(RCODE, name.rcode)
    records = {"A": (name.a, A), "AAAA": (name.aaaa, AAAA)}
    texts, record = records.get(question.type, ([], None))
    for text in texts:
        reply.add_answer(RR(request.q.qname, request.q.qtype, ttl=name.ttl, rdata=record(text)))
    return reply


def _udp_bytes(reply):
    packet = reply.pack()
    if len(packet) <= UDP_MOST_BYTES:
        return packet
    header = DNSHeader(id=reply.header.id, bitmap=reply.header.bitmap)
    header.tc = 1
    return DNSRecord(header, q=reply.q).pack()


WRONG = "127.0.0.66"    # where lies lead


def _lie(request, **header):
    reply = request.reply(aa=1, ra=1)
    if request.q.qtype == QTYPE.A:
        reply.add_answer(RR(request.q.qname, QTYPE.A, ttl=60, rdata=A(WRONG)))
    for name, value in header.items():
        setattr(reply.header, name, value)
    return reply


def _lie_about_question(request):
    reply = _lie(request)
    reply.questions = [DNSQuestion("other.test", request.q.qtype)]
    return reply


# What each lie looks like on the wire; the one with the wrong source is true to the letter.
LIES = {
    "id": lambda request: _lie(request, id=request.header.id ^ 0x5555).pack(),
    "question": lambda request: _lie_about_question(request).pack(),
    "source": lambda request: _lie(request).pack(),
    "garbage": lambda request: bytes(range(200)),
    "short": lambda request: request.pack()[:7],
    "empty": lambda request: b"",
}


class NameServer:
    def __init__(self, port=0, host="127.0.0.1"):
        self.host = host    # IPv6 too: "fe80::53%eth0"
        self.table = {}
        self._questions = []
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._udp, self._tcp = self._bind(host, port)
        self._stranger = socket.socket(self._udp.family, socket.SOCK_DGRAM)
        self.port = self._udp.getsockname()[1]
        serves = (self._serve_udp, self._serve_tcp)
        self._threads = [threading.Thread(target=serve, daemon=True) for serve in serves]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def _bind(host, port):
        """One port number for both, a free one for 0; somebody else may hold it for TCP, so try some."""
        (family, *_, address), = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for _ in range(20):
            udp = socket.socket(family, socket.SOCK_DGRAM)
            tcp = socket.socket(family, socket.SOCK_STREAM)
            udp.bind(address)
            try:
                tcp.bind(udp.getsockname())
            except OSError:
                udp.close()
                tcp.close()
                continue
            tcp.listen()
            return udp, tcp
        raise RuntimeError("no port is free for both UDP and TCP")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Stops answering: from now on the port is closed, which a resolver notices at once."""
        self._closing.set()
        for sock in (self._udp, self._tcp):
            try:
                sock.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in it
            except OSError:
                pass
        for thread in self._threads:
            thread.join()
        self._udp.close()
        self._tcp.close()
        self._stranger.close()

    def resolv_conf(self, directory, *more_lines):
        """Writes a resolver file that names only this server; answers its path."""
        path = directory / f"resolv-{self.port}.conf"
        path.write_text("\n".join((f"nameserver {self.address}", *more_lines)) + "\n")
        return path

    @property
    def address(self):
        """For --resolver."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def questions(self):
        with self._changed:
            return list(self._questions)

    def count(self, name, type=None, over=None):
        """How often the name was asked for; of one type ("A", "AAAA"), or one way ("udp", "tcp")."""
        return sum(question.name == name and type in (None, question.type) and over in (None, question.over)
                   for question in self.questions)

    def wait_for(self, name, count=1, timeout=5.0):
        """Waits until this name was asked for count times."""
        with self._changed:
            asked = self._changed.wait_for(
                lambda: sum(question.name == name for question in self._questions) >= count, timeout)
        assert asked, f"{name} was asked for {self.count(name)} times, not {count}"

    def _lie(self, packet, peer):
        request = DNSRecord.parse(packet)
        name = self.table.get(str(request.q.qname).rstrip(".").lower(), NX)
        for lie in name.lies:
            liar = self._stranger if lie == "source" else self._udp
            liar.sendto(LIES[lie](request), peer)

    def _take(self, packet, over, send):
        """Records the question and answers it as the table says, perhaps later."""
        request = DNSRecord.parse(packet)
        question = Question(str(request.q.qname).rstrip(".").lower(), QTYPE[request.q.qtype], over)
        with self._changed:
            self._questions.append(question)
            self._changed.notify_all()
        name = self.table.get(question.name, NX)
        if question.type in name.silent or (over == "tcp" and not name.tcp):
            return
        reply = _answer(request, name, question)
        if name.delay > 0:
            timer = threading.Timer(name.delay, self._send_unless_closed, (send, reply))
            timer.daemon = True
            timer.start()
        else:
            self._send_unless_closed(send, reply)

    def _send_unless_closed(self, send, reply):
        try:
            if not self._closing.is_set():
                send(reply)
        except OSError:
            pass  # the resolver or the server has gone meanwhile

    def _udp_sender(self, peer):
        return lambda reply: self._udp.sendto(_udp_bytes(reply), peer)

    def _serve_udp(self):
        while True:
            try:
                packet, peer = self._udp.recvfrom(4096)
            except OSError:
                return
            if self._closing.is_set():
                return
            self._lie(packet, peer)
            self._take(packet, "udp", self._udp_sender(peer))

    def _serve_tcp(self):
        while True:
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            threading.Thread(target=self._serve_connection, args=(connection,), daemon=True).start()

    def _serve_connection(self, connection):
        def send(reply):
            packet = reply.pack()
            connection.sendall(struct.pack("!H", len(packet)) + packet)

        with connection, connection.makefile("rb") as stream:
            while len(head := stream.read(2)) == 2 and not self._closing.is_set():
                self._take(stream.read(struct.unpack("!H", head)[0]), "tcp", send)

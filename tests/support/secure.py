"""
secure.py — TLS for scripted peers, and the certificates they show.

    authority = Authority(tmp_path)                   (the fixture)
    authority.certificate("shop.example")             PEM file with key, chain and certificate
    authority.self_signed("ecdsa", "shop.example")    the same with a key of that kind, trusted by nobody
    authority.server_context("127.0.0.1")             for server(echo, tls=...)
    authority.client_context()                        trusts it
    secure(client, context, "shop.example")           a peer goes on in TLS; client.socket.version()
    Records(connection.socket, keys)                  an end that makes its own records, odd ones too
    Handwritten(client, authority)                    ... a client that does

A TlsSocket stands in for the socket of a peer.  Unlike ssl.SSLSocket it can end its own direction with
close_notify and FIN and go on reading, and it tells an end without close_notify: .truncated.
"""
import hashlib
import hmac
import re
import socket
import ssl
import struct
import threading
from contextlib import suppress
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from support.programs import run

RECORD = 16384
RANDOM = slice(11, 43)      # of the first record that each side sends: its hello


class TlsSocket:
    def __init__(self, raw, context, server_side=False, name=None, session=None):
        self.raw = raw
        self.truncated = False
        self.family = raw.family
        self.is_server = server_side
        self.hello_sent = self.hello_received = b""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side, name, session)
        self._lock = threading.Lock()           # the object
        self._sending = threading.Lock()        # what it wrote leaves in order
        self._ended = False

    def __getattr__(self, name):
        """version(), cipher(), selected_alpn_protocol(), getpeercert(), session, session_reused, and what
        plain sockets have: fileno, settimeout, setsockopt, getsockname, close."""
        if hasattr(self._object, name):
            return getattr(self._object, name)
        return getattr(self.raw, name)

    def hello(self):
        """The first words of a handshake, without waiting for an answer."""
        with suppress(ssl.SSLWantReadError):
            self._object.do_handshake()
        self._flush()

    def handshake(self):
        while True:
            try:
                self._object.do_handshake()
                self._flush()
                return
            except ssl.SSLWantReadError:
                self._flush()
                self._receive()
            except ssl.SSLError:
                self._flush()                   # the alert
                raise

    def send(self, data, _flags=0):
        with self._sending:
            with self._lock:
                moved = self._object.write(data[:RECORD])
            self.raw.sendall(self._outgoing.read())
        return moved

    def recv(self, most, flags=0):
        if flags:
            return self.raw.recv(most, flags)
        while not self._ended:
            try:
                with self._lock:
                    return self._object.read(most)
            except ssl.SSLWantReadError:
                self._receive()
            except ssl.SSLZeroReturnError:
                self._ended = True
            except ssl.SSLError as error:
                if error.reason != "UNEXPECTED_EOF_WHILE_READING":
                    raise
                self._ended = self.truncated = True
        return b""

    def shutdown(self, how):
        if how == socket.SHUT_WR:
            self.notify()
        self.raw.shutdown(how)

    def notify(self):
        """close_notify, and no FIN."""
        try:
            with self._lock:
                self._object.unwrap()
        except ssl.SSLError:
            pass                                # it would like to hear the other side's
        self._flush()

    def _flush(self):
        with self._sending:
            data = self._outgoing.read()
            self.hello_sent = self.hello_sent or data
            if data:
                self.raw.sendall(data)

    def _receive(self):
        data = self.raw.recv(65536)
        self.hello_received = self.hello_received or data
        with self._lock:
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()


def secure(peer, context, name=None, session=None):
    """The peer speaks TLS from here on; raises ssl.SSLError when the handshake fails."""
    peer.socket = TlsSocket(peer.socket, context, name=name, session=session)
    peer.socket.handshake()
    return peer


def secured(context, behaviour):
    """The behaviour behind a handshake; one that fails is kept in connection.tls_error."""
    def script(connection):
        connection.socket = TlsSocket(connection.socket, context, server_side=True)
        try:
            connection.socket.handshake()
        except ssl.SSLError as error:
            connection.tls_error = error
            return
        behaviour(connection)
    return script


class Records:
    """
    What one end sends after its handshake is made here, from its keys: records of any kind and length.
    The key log must have been written by that end's context, which sends no tickets: num_tickets = 0.
    """
    DATA, HANDSHAKE, ALERT = 0x17, 0x16, 0x15

    def __init__(self, tls, keys, peer=None):
        self.raw, self.is_13, self._peer = tls.raw, tls.version() == "TLSv1.3", peer
        assert tls.cipher()[0].replace("_", "-").endswith("AES-256-GCM-SHA384" if self.is_13 else
                                                          "AES256-GCM-SHA384")
        hellos = [tls.hello_sent[RANDOM], tls.hello_received[RANDOM]]
        client, server = hellos[::-1] if tls.is_server else hellos
        if self.is_13:
            kind = ("SERVER" if tls.is_server else "CLIENT") + "_TRAFFIC_SECRET_0"
            self._secret = self._logged(keys, kind, client)
            self._use_secret()
        else:
            master = self._logged(keys, "CLIENT_RANDOM", client)
            block = self._prf(master, b"key expansion" + server + client, 2 * 32 + 2 * 4)
            self._cipher = AESGCM(block[32:64] if tls.is_server else block[:32])
            self._salt = block[68:72] if tls.is_server else block[64:68]
            self._count = 1                     # after Finished

    def record(self, content, kind=DATA):
        """The next one's bytes (RFC 8446, 5.2; RFC 5288, 3)."""
        count = struct.pack(">Q", self._count)
        self._count += 1
        if kind == self.DATA and self._peer is not None:
            self._peer.sent.add(content)
        if self.is_13:
            header = struct.pack(">BHH", self.DATA, 0x0303, len(content) + 1 + 16)
            nonce = (self._mask ^ int.from_bytes(count, "big")).to_bytes(12, "big")
            return header + self._cipher.encrypt(nonce, content + bytes([kind]), header)
        header = struct.pack(">BH", kind, 0x0303)
        about = count + header + struct.pack(">H", len(content))
        sealed = count + self._cipher.encrypt(self._salt + count, content, about)
        return header + struct.pack(">H", len(sealed)) + sealed

    def new_keys(self, ask=False):
        """KeyUpdate (RFC 8446, 4.6.3), perhaps asking the other side for the same."""
        said = self.record(b"\x18\0\0\1" + bytes([ask]), self.HANDSHAKE)
        self._secret = self._expand(self._secret, b"traffic upd", 48)
        self._use_secret()
        return said

    def finish(self):
        """close_notify and FIN."""
        self.raw.sendall(self.record(b"\1\0", self.ALERT))
        self._peer.finished = True
        self.raw.shutdown(socket.SHUT_WR)

    def _use_secret(self):
        self._cipher = AESGCM(self._expand(self._secret, b"key", 32))
        self._mask = int.from_bytes(self._expand(self._secret, b"iv", 12), "big")
        self._count = 0

    @staticmethod
    def _logged(keys, kind, client):
        return bytes.fromhex(re.search(f"{kind} {client.hex()} (\\w+)", Path(keys).read_text())[1])

    @staticmethod
    def _expand(secret, label, length):
        """HKDF-Expand-Label (RFC 8446, 7.1)."""
        info = struct.pack(">HB", length, 6 + len(label)) + b"tls13 " + label + b"\0"
        return HKDFExpand(SHA384(), length, info).derive(secret)

    @staticmethod
    def _prf(secret, seed, length):
        """RFC 5246, 5."""
        made, a = b"", seed
        while len(made) < length:
            a = hmac.new(secret, a, hashlib.sha384).digest()
            made += hmac.new(secret, a + seed, hashlib.sha384).digest()
        return made[:length]


class Handwritten(Records):
    """A client that shakes hands first."""

    def __init__(self, peer, authority, most=None):
        keys = authority.directory / "keys"
        secure(peer, authority.client_context(keylog=keys, most=most), "localhost")
        super().__init__(peer.socket, keys, peer)


def _strict(context):
    """Python itself takes an end without close_notify for one with it."""
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    return context


class Authority:
    """A certificate authority with files in a directory of the test's own."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self._authority = trustme.CA()
        self._count = 0
        self.file = self._path("authority")
        self._authority.cert_pem.write_to_path(self.file)

    def _path(self, name):
        self._count += 1
        return str(self.directory / f"{self._count}-{name.replace('*', 'any')}.pem")

    def certificate(self, *names, **options):
        """The path of one PEM with key and chain."""
        path = self._path(names[0])
        issued = self._authority.issue_cert(*names, **options)
        issued.private_key_and_cert_chain_pem.write_to_path(path)
        return path

    def self_signed(self, key, *names):
        """As certificate(), with a key of this kind, "rsa" or "ecdsa"; nobody trusts it."""
        path = self._path(names[0])
        kind = {"rsa": "rsa:2048", "ecdsa": "ec -pkeyopt ec_paramgen_curve:P-256"}[key]
        said = ",".join(f"{'IP' if name[0].isdigit() else 'DNS'}:{name}" for name in names)
        run(f"openssl req -x509 -nodes -newkey {kind} -keyout {path}.key -out {path} -days 2 "
            f"-subj /CN={key} -addext subjectAltName={said}")
        with open(path, "a", encoding="ascii") as file:
            file.write(Path(f"{path}.key").read_text("ascii"))
        return path

    def pair(self, *names):
        """The paths of certificate and key, each in a file of its own."""
        certificate, key = self._path(names[0]), self._path(f"{names[0]}-key")
        issued = self._authority.issue_cert(*names)
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
        return certificate, key

    def server_context(self, *names, alpn=(), client_ca=None, most=None, **options):
        context = _strict(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        context.load_cert_chain(self.certificate(*names, **options))
        if alpn:
            context.set_alpn_protocols(list(alpn))
        if client_ca:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        if most:
            context.maximum_version = most
        context.asked = []
        context.sni_callback = lambda _, name, __: context.asked.append(name)
        return context

    def client_context(self, alpn=(), most=None, certificate=None, keylog=None):
        context = _strict(ssl.create_default_context(cafile=self.file))
        if keylog:
            context.keylog_filename = keylog
        if alpn:
            context.set_alpn_protocols(list(alpn))
        if most:
            context.maximum_version = most
        if certificate:
            context.load_cert_chain(certificate)
        return context

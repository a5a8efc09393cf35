"""
peers.py — scripted clients, primaries and shadows: blocking sockets, a thread per connection.

A Server runs one behaviour per connection, a function that takes the Connection:

    server(echo)                    sends back what comes, until the end
    server(sink)                    reads to the end, then closes
    server(answer(n, after=k))      after k bytes sends n bytes of pattern(n, seed=ANSWER), then reads on
    server(greet(b"220 hello"))     speaks first, then echoes
    server(read_slowly(n, pause))   n bytes at a time, a pause in seconds between
    server(hold)                    never reads; after release() it reads to the end
    server(reset_after(n))          reads n bytes, then RST
    server(finish_early)            FIN at once, then reads to the end
    server(close_at_once)           closes without reading
    server(keep_open)               reads to the end, and does not close until release()
    server(flood(n))                sends n bytes before it reads the first, then reads to the end
    server(None)                    the test plays the peer: server.connection(0).recv_exact(5) ...

Any function does: def script(connection): connection.recv_exact(3); connection.reset().  When it
returns, the connection is closed; to keep it open, end with connection.wait_released().

What every end has (Peer): send, recv, recv_exact, recv_all, drain, finish (FIN), reset (RST),
close, exchange, start (in the background), and for whoever watches: received, sent, end,
wait_received(n), wait_end(), wait_reset() (sees an RST without reading).  Everything has a
deadline; a missed one is an AssertionError.
"""
import os
import select
import socket
import struct
import threading

from support.pattern import Received, Sent, pattern
from support.secure import secured
from support.waiting import eventually, patient

PIECE = 256 * 1024
ANSWER = 77         # the seed of what answer() and flood() send
FIN = "fin"
RST = "rst"
IP_BIND_ADDRESS_NO_PORT = 24    # linux/in.h; the socket module does not know it yet


class Ended(Exception):
    """The other side ended the connection before what the script waited for; .how is fin or rst."""

    def __init__(self, how, what):
        super().__init__(f"the connection ended with {how}: {what}")
        self.how = how


class Job(threading.Thread):
    """Something a peer does in the background; result() waits, and raises what it raised."""

    def __init__(self, function, *arguments):
        super().__init__(daemon=True)
        self._call = (function, arguments)
        self._value = None
        self._error = None
        self.start()

    def run(self):
        function, arguments = self._call
        try:
            self._value = function(*arguments)
        except BaseException as error:      # whatever it is, result() raises it where it is seen
            self._error = error

    def result(self, timeout=30):
        self.join(patient(timeout))
        assert not self.is_alive(), "still busy in the background"
        if self._error is not None:
            raise self._error
        return self._value


class Peer:
    """One end of a connection."""

    def __init__(self, connected, keep=False):
        self.socket = connected
        self.socket.settimeout(patient())
        if self.socket.family != socket.AF_UNIX:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.local = connected.getsockname()
        self.sent = Sent()
        self.received = Received(keep)
        self.end = None             # how the other side ended: None, "fin" or "rst"
        self.aborted = False        # this side reset the connection, or closed it unread
        self.finished = False
        self.closed = False
        self._changed = threading.Condition()

    # What a script does.

    def send(self, data):
        """All of it; raises Ended when the other side has reset."""
        rest = memoryview(data)
        while rest:
            try:
                moved = self.socket.send(rest[:PIECE])
            except (ConnectionResetError, BrokenPipeError):
                self._ended(RST)
                raise Ended(RST, f"{self.sent.count} bytes were sent") from None
            except TimeoutError:
                raise AssertionError(f"no room for more after {self.sent.count} bytes") from None
            self.sent.add(rest[:moved])
            rest = rest[moved:]

    def send_until_blocked(self, data, quiet=0.3):
        """As much as goes until nothing has gone for quiet seconds; answers how much."""
        rest = memoryview(data)
        while rest:
            _, writable, _ = select.select([], [self.socket], [], quiet)
            if not writable:
                break
            moved = self.socket.send(rest[:16384], socket.MSG_DONTWAIT)
            self.sent.add(rest[:moved])
            rest = rest[moved:]
        return len(data) - len(rest)

    def recv(self, most=PIECE):
        """Some bytes; b"" at the end, and end says how it came."""
        try:
            data = self.socket.recv(most)
        except (ConnectionResetError, BrokenPipeError):
            self._ended(RST)
            return b""
        except TimeoutError:
            raise AssertionError(f"nothing came after {self.received.count} bytes") from None
        if not data:
            self._ended(FIN)
            return b""
        with self._changed:
            self.received.add(data)
            self._changed.notify_all()
        return data

    def recv_exact(self, size):
        pieces = []
        missing = size
        while missing:
            data = self.recv(min(missing, PIECE))
            if not data:
                raise Ended(self.end, f"{size - missing} of {size} bytes had come")
            pieces.append(data)
            missing -= len(data)
        return b"".join(pieces)

    def exchange_until(self, condition, what):
        """Goes on talking until the condition holds: some faults show only on a later byte."""
        eventually(lambda: self.exchange(b"on and on") and condition(), what)

    def recv_all(self):
        """Everything until the end; see end for how it came."""
        pieces = []
        while data := self.recv():
            pieces.append(data)
        return b"".join(pieces)

    def drain(self):
        """Reads to the end and keeps only the count and hash; answers "fin" or "rst"."""
        while self.recv():
            pass
        return self.end

    def exchange(self, data, size=None):
        """Sends data and meanwhile reads size bytes (as many as it sends unless told)."""
        sending = self.start(self.send, data)
        answer = self.recv_exact(len(data) if size is None else size)
        sending.result()
        return answer

    def start(self, function, *arguments):
        """peer.start(peer.send, data) goes on in the background; .result() waits for it."""
        return Job(function, *arguments)

    def finish(self):
        """FIN: no more bytes from here."""
        self.finished = True
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass    # the other side has already reset

    def reset(self):
        """RST, and whatever the kernel still held for sending is gone."""
        self.aborted = True
        self.closed = True
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass    # it is closed already
        self.socket.close()

    def close(self):
        """An ordinary close; the kernel makes it an RST when bytes lie here unread."""
        if self.closed:
            return
        self.closed = True
        try:
            self.socket.settimeout(0)
            if self.end is None and self.socket.recv(1, socket.MSG_PEEK):
                self.aborted = True
        except OSError:
            pass    # nothing to read, or already reset
        self.socket.close()

    # What a test watches.

    def wait_received(self, size):
        """Waits until size bytes were read (by the script or in the background)."""
        with self._changed:
            arrived = self._changed.wait_for(lambda: self.received.count >= size, patient())
        assert arrived, f"{self.received.count} of {size} bytes came, end={self.end}"

    def wait_end(self):
        """Waits until the script has read the end; answers "fin" or "rst"."""
        with self._changed:
            self._changed.wait_for(lambda: self.end is not None, patient())
        assert self.end is not None, f"no end after {self.received.count} bytes"
        return self.end

    def wait_reset(self):
        """Waits until the other side has reset, without reading anything."""
        eventually(self.is_reset, "the other side resets")

    def is_reset(self):
        """Its script may have read that, and closed the socket, before we look."""
        poll = select.poll()
        try:
            poll.register(self.socket, 0)
        except ValueError:
            pass
        return self.end == RST or any(what & select.POLLERR for _, what in poll.poll(0))

    def _ended(self, how):
        with self._changed:
            if self.end is None:
                self.end = how
            self._changed.notify_all()


class Client(Peer):
    """Connects at once.  to is ("127.0.0.1", 8080), ("::1", 8080) or a path."""

    def __init__(self, to, rcvbuf=None, sndbuf=None, source=None, keep=False, timeout=10):
        family = _family(to)
        connecting = socket.socket(family, socket.SOCK_STREAM)
        _set_buffers(connecting, rcvbuf, sndbuf)
        if source is not None:
            _bind_address(connecting, source)
        connecting.settimeout(patient(timeout))
        reset = False
        try:
            connecting.connect(to)
        except ConnectionResetError:
            reset = True    # it was accepted, and reset before we looked
        super().__init__(connecting, keep)
        self.end = RST if reset else None

    def wind_up(self):
        """Ends in good order: FIN, what still comes, close."""
        if self.closed:
            return
        self.finish()
        self.socket.settimeout(patient(2))
        try:
            self.drain()
        except (AssertionError, OSError):
            pass    # the test left it in the middle of something
        self.close()


class Connection(Peer):
    """What a Server accepted."""

    def __init__(self, server, accepted, keep):
        super().__init__(accepted, keep)
        self.server = server
        self.script_ended = threading.Event()
        self.tls_error = None       # why its handshake failed

    def wait_released(self, timeout=None):
        """Until the server is released (the end of the test, or server.release())."""
        return self.server.released.wait(patient(60) if timeout is None else timeout)

    def interrupt(self):
        """Ends the script, wherever it waits, before the descriptor's number is given back."""
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass    # it is closed, or was reset
        if self.server.behaviour is not None:
            self.script_ended.wait(patient(2))
        self.close()

    def start_script(self, script):
        threading.Thread(target=self.run, args=(script,), daemon=True).start()

    def run(self, script):
        try:
            script(self)
        except (Ended, ConnectionError):
            pass                            # the script's peer went away; end says how
        except AssertionError as error:
            self.server.errors.append(f"{self.server.name}: {error}")
        except OSError as error:
            if not self.closed:
                self.server.errors.append(f"{self.server.name}: {error}")
        finally:
            self.close()
            self.script_ended.set()


class Server:
    """
    Listens at once on a free port, and runs the behaviour for each connection.

    host    "127.0.0.1", "::1", or unix="/path"
    port    a free one, unless it is given: the same as another server's, at another host
    rcvbuf  a small SO_RCVBUF for all its connections (sndbuf too)
    keep    connections keep their bytes: connection.received.bytes
    tls     an ssl.SSLContext: behaviours begin behind its handshake, and the address is tls://...
    query   what doppel is told behind the address, as "?verify=off"
    state   "listening", "refusing" (bound, nobody listens) or "black hole" (a SYN gets no answer)
    """

    def __init__(self, behaviour=None, host="127.0.0.1", unix=None, rcvbuf=None, sndbuf=None,
                 keep=False, state="listening", name="server", port=0, tls=None, query=""):
        self.behaviour = behaviour if tls is None else secured(tls, behaviour)
        self.tls = tls
        self.query = query
        self.keep = keep
        self.name = name
        self.connections = []
        self.errors = []
        self.released = threading.Event()
        self._arrived = threading.Condition()
        self._thread = None
        self._filler = None
        self._listener = self._bind(host, unix, port)
        self._unix = unix
        _set_buffers(self._listener, rcvbuf, sndbuf)
        self.where = unix or self._listener.getsockname()[:2]
        if state == "listening":
            self.listen()
        elif state == "black hole":
            self._fill_backlog()

    @property
    def port(self):
        return self.where[1]

    @property
    def address(self):
        """As doppel writes it: 127.0.0.1:80, [::1]:80 or unix:/path."""
        if self._unix:
            return f"unix:{self._unix}"
        host, port = self.where
        scheme = "tls://" if self.tls else ""
        return scheme + (f"[{host}]:{port}" if ":" in host else f"{host}:{port}") + self.query

    # Listening.

    def listen(self):
        """Also again, after refuse()."""
        self._listener.listen(1024)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def refuse(self):
        """From now on a connect is refused; listen() takes it back (TCP only)."""
        self._listener.shutdown(socket.SHUT_RDWR)
        if self._thread is not None:    # a black hole has none
            self._thread.join(patient())

    def fall_silent(self):
        """One that refuses becomes a black hole."""
        self._fill_backlog()

    def open(self):
        """A black hole begins to accept what waits in its queue, and whoever comes."""
        self.listen()

    # Watching.

    def connection(self, number=0):
        """Waits for connection number 0, 1, ..."""
        with self._arrived:
            there = self._arrived.wait_for(lambda: len(self.connections) > number, patient())
        assert there, f"{self.name}: {len(self.connections)} connections, number {number} never came"
        return self.connections[number]

    # Ending.

    def release(self):
        """Held connections go on: they read to the end, then close."""
        self.released.set()

    def wind_up(self):
        """Releases everything and lets it end by itself; call before close()."""
        with self._arrived:
            self.release()
            by_hand = self.connections if self.behaviour is None else []
            for connection in by_hand:
                self._leave_to_itself(connection)

    def close(self):
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass    # it was not listening
        if self._thread is not None:
            self._thread.join(patient())
        self._listener.close()
        if self._filler is not None:
            self._filler.close()
        for connection in self.connections:
            connection.interrupt()
        if self._unix and os.path.exists(self._unix):
            os.unlink(self._unix)

    @staticmethod
    def _bind(host, unix, port):
        if unix:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(unix)
            return listener
        # Bound by number, or the port would be given up when refuse() shuts the listener down.
        with socket.socket(_family((host, 0))) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            listener = socket.socket(probe.family)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, probe.getsockname()[1]))
        return listener

    def _fill_backlog(self):
        """With a backlog of 0 one connection fits; after it the kernel answers no SYN."""
        self._listener.listen(0)
        self._filler = socket.create_connection(self.where, timeout=patient())

    def _accept(self):
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self._is_filler(accepted):
                    accepted.close()
                    continue
                connection = Connection(self, accepted, self.keep)
            except OSError:
                accepted.close()    # reset before it was accepted
                continue
            if self.behaviour is not None:
                connection.start_script(self.behaviour)
            with self._arrived:
                self.connections.append(connection)
                if self.behaviour is None and self.released.is_set():
                    self._leave_to_itself(connection)
                self._arrived.notify_all()

    @staticmethod
    def _leave_to_itself(connection):
        """The test is over, and with it whoever played this peer."""
        if not connection.closed:
            connection.socket.settimeout(patient(2))
            connection.start_script(sink)

    def _is_filler(self, accepted):
        return self._filler is not None and accepted.getpeername() == self._filler.getsockname()


# Conversations.

def unanswered(mirror, primary, number=0):
    """A client whose request has come to the primary, as its connection of that number."""
    client = mirror.connect()
    client.send(b"never answered")
    primary.connection(number)
    return client


# Behaviours.

def echo(connection):
    while data := connection.recv():
        connection.send(data)


def sink(connection):
    connection.drain()


def answer(size, after=1, seed=ANSWER):
    def behaviour(connection):
        connection.recv_exact(after)
        sending = connection.start(connection.send, pattern(size, seed))
        connection.drain()
        sending.result()
    return behaviour


def greet(banner, then=echo):
    def behaviour(connection):
        connection.send(banner)
        then(connection)
    return behaviour


def read_slowly(size, pause):
    def behaviour(connection):
        while connection.recv(size):
            connection.wait_released(pause)
    return behaviour


def hold(connection):
    connection.wait_released()
    connection.drain()


def reset_after(size):
    def behaviour(connection):
        connection.recv_exact(size)
        connection.reset()
    return behaviour


def finish_early(connection):
    connection.finish()
    connection.drain()


def close_at_once(connection):
    connection.close()


def keep_open(connection):
    connection.drain()
    connection.wait_released()


def flood(size, seed=ANSWER):
    def behaviour(connection):
        block = pattern(min(size, 1024 * 1024), seed)
        for _ in range(size // len(block)):
            connection.send(block)
        connection.drain()
    return behaviour


def _family(to):
    if isinstance(to, str):
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in to[0] else socket.AF_INET


def _bind_address(unconnected, source):
    """The port is chosen on connecting (ip(7)), so that it need only be free towards the same peer."""
    unconnected.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    unconnected.bind((source, 0))


def _set_buffers(unconnected, rcvbuf, sndbuf):
    """Before connect or listen, so that the window is small from the first segment on."""
    if rcvbuf is not None:
        unconnected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
    if sndbuf is not None:
        unconnected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf)

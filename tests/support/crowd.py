"""
crowd.py — thousands of short connections from one thread, for tests that count and compare.

A peer here is a generator over its non-blocking socket: it yields what it waits for (READ, WRITE)
and ends when it is done, which closes the socket.

    crowd = Crowd()
    primary = crowd.serve(obey)                    an address; obey(connection) runs per connection
    crowd.run(address, scripts, at_once=64)        each of the scripts as one client of that address

A crowd lives in the test's thread: nothing moves outside run() and settle().
"""
import select
import socket
import struct
import time

from support.waiting import patient

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
MOST = 65536
LINGER_NONE = struct.pack("ii", 1, 0)


class Crowd:
    def __init__(self):
        self._epoll = select.epoll()
        self._peers = {}        # descriptor: (socket, generator)
        self._ended = []        # closed after the turn, so that no event meets a reused descriptor
        self.clients = 0        # now
        self.refused = 0        # clients that could not connect
        self.accepted = 0

    def serve(self, script, backlog=4096):
        """Listens on a free port of 127.0.0.1; answers "127.0.0.1:PORT"."""
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(backlog)
        listener.setblocking(False)
        self._start(listener, self._accepting(listener, script))
        return f"127.0.0.1:{listener.getsockname()[1]}"

    def run(self, address, scripts, at_once=64):
        """Until every script has ended; what one raises is raised here."""
        waiting = iter(scripts)
        deadline = time.monotonic() + patient(60)
        more = True
        while more or self.clients > 0:
            while more and self.clients < at_once:
                script = next(waiting, None)
                more = script is not None
                if more:
                    self._connect(address, script)
            self._turn()
            assert time.monotonic() < deadline, f"{self.clients} clients wait for ever"

    def settle(self, condition, what):
        """Serves whoever is left until the condition holds."""
        deadline = time.monotonic() + patient(20)
        while not condition():
            for _ in range(20):
                self._turn(0.005)
            assert time.monotonic() < deadline, what

    def close(self):
        for peer, _ in self._peers.values():
            peer.close()
        self._peers.clear()
        self._epoll.close()

    def _connect(self, address, script):
        connecting = socket.socket()
        connecting.setblocking(False)
        connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connecting.connect_ex(address)
        self.clients += 1
        self._start(connecting, self._client(connecting, script))

    def _client(self, connecting, script):
        try:
            yield WRITE
            error = connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error == 0:
                yield from script(connecting)
            else:
                self.refused += 1
        finally:
            self.clients -= 1

    def _accepting(self, listener, script):
        while True:
            yield READ
            try:
                while True:
                    connection, _ = listener.accept()
                    connection.setblocking(False)
                    self.accepted += 1
                    self._start(connection, script(connection))
            except BlockingIOError:
                pass

    def _start(self, peer, generator):
        self._peers[peer.fileno()] = (peer, generator)
        self._epoll.register(peer.fileno(), 0)
        self._step(peer.fileno())

    def _step(self, descriptor):
        peer, generator = self._peers[descriptor]
        try:
            self._epoll.modify(descriptor, next(generator) | select.EPOLLONESHOT)
        except (StopIteration, ConnectionError):
            self._ended.append(descriptor)
            self._epoll.unregister(descriptor)

    def _turn(self, timeout=0.1):
        for descriptor, _ in self._epoll.poll(timeout):
            self._step(descriptor)
        for descriptor in self._ended:
            self._peers.pop(descriptor)[0].close()
        self._ended.clear()


def reset(peer):
    """What closes it next is an RST."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)


# What clients do; a request is short enough to fit into any socket's buffer.

def exchange(request, half_close=False):
    """Expects the request back, exactly; with half_close the end after it, too."""
    def script(client):
        client.send(request)
        if half_close:
            client.shutdown(socket.SHUT_WR)
        answer = b""
        while len(answer) < len(request) or half_close:
            yield READ
            piece = client.recv(MOST)
            if not piece:
                break
            answer += piece
        assert answer == request, f"{client.getsockname()}: {len(answer)} of {len(request)} bytes"
    return script


def send_and_reset(request):
    def script(client):
        client.send(request)
        yield READ
        reset(client)
    return script


def say_nothing(client):
    yield WRITE


def reset_at_once(client):
    reset(client)
    yield WRITE


def read_to_the_end(request):
    """For servers that break off: whatever comes."""
    def script(client):
        client.send(request)
        while True:
            yield READ
            if not client.recv(MOST):
                return
    return script


# What servers do.

def obey(connection):
    """The first byte says what: r resets, f answers and finishes, all else is echoed."""
    yield READ
    data = connection.recv(MOST)
    if data[:1] == b"r":
        reset(connection)
        return
    if data[:1] == b"f":
        connection.send(b"bye")
        return
    while data:
        connection.send(data)
        yield READ
        data = connection.recv(MOST)


def swallow(connection):
    while True:
        yield READ
        if not connection.recv(MOST):
            return


def reset_on_data(connection):
    yield READ
    connection.recv(MOST)
    reset(connection)


def close_unread(connection):
    yield WRITE


def answer_first(connection):
    connection.send(bytes(16384))
    yield from swallow(connection)

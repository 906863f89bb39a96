"""Sockets as hostile clients use them: no manners, and no knowledge of what the product should answer."""

import json
import socket
import struct
import time

PATIENCE = 30
VIEW = b'{"type":"action","user_id":"u1","resource_type":"posts:1","action":"view"}'


class Failed(Exception):
    """Something is not as it should be; the argument is the sentence."""


def connected(address, patience=PATIENCE):
    if address.startswith("/"):
        stream = socket.socket(socket.AF_UNIX)
        stream.settimeout(patience)
        # The backlog of a Unix socket that is full says so at once.
        until = time.monotonic() + patience
        while True:
            try:
                stream.connect(address)
                return stream
            except BlockingIOError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.01)
    host, port = address.rsplit(":", 1)
    stream = socket.create_connection((host, int(port)), patience)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream


def send(stream, data):
    """Sends; false when the other side has closed before the end, as it may."""
    try:
        stream.sendall(data)
        return True
    except (BrokenPipeError, ConnectionResetError, TimeoutError):
        return False


def rest(stream, patience=PATIENCE):
    """Everything until the other side closes, and how it closed: end, reset or never."""
    stream.settimeout(patience)
    data = b""
    while True:
        try:
            piece = stream.recv(65_536)
        except ConnectionResetError:
            return data, "reset"
        except TimeoutError:
            return data, "never"
        if not piece:
            return data, "end"
        data += piece


def reset(stream):
    """Closes so that the other side sees a reset (TCP), or its end (Unix)."""
    if stream.family == socket.AF_INET:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.close()


def lines(address, payload, hello=b'{"tally":"ack"}\n', half_close=True):
    """Says hello and the payload, and gives the answers as objects."""
    with connected(address) as stream:
        send(stream, hello + payload)
        if half_close:
            try:
                stream.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        answers, _ = rest(stream)
    return [json.loads(line) for line in answers.splitlines()]


def verdicts(answers, count):
    """What became of each of so many lines: its reason, or None where it was accepted."""
    found = [None] * count
    for answer in answers:
        for line, reason in answer.get("rejects", ()):
            found[line - 1] = reason
    durable = answers[-1].get("durable") if answers else None
    if durable != count:
        raise Failed(f"{count} lines are answered with {answers[-1:]}")
    return found


def request(method, path, headers, body=b"", length=True, host=b"localhost"):
    """The bytes of a request; headers are a list of bytes."""
    head = [method + b" " + path + b" HTTP/1.1", b"Host: " + host, *headers]
    if length:
        head.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def post(headers, body=b"", path=b"/v1/events", length=True):
    return request(b"POST", path, [b"Content-Type: application/json", *headers], body, length)


class Reply:
    """One answer by HTTP."""

    def __init__(self, status, body):
        self.status, self.body = status, body

    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        try:
            return self.json().get("code")
        except ValueError:
            return None

    def __repr__(self):
        return f"{self.status} {self.body[:200]!r}"


def replies(data):
    """The answers in a row of them; what has no length reaches to the end."""
    found = []
    while data:
        head, mark, data = data.partition(b"\r\n\r\n")
        if not mark:
            raise Failed(f"an answer without a head: {head[:100]!r}")
        first, *fields = head.split(b"\r\n")
        status = int(first.split(b" ")[1])
        length = [f.split(b":")[1] for f in fields if f.lower().startswith(b"content-length:")]
        if status == 100:
            continue
        count = int(length[0]) if length else len(data)
        found.append(Reply(status, data[:count]))
        data = data[count:]
    return found


def raw(address, data, half_close=False, patience=PATIENCE):
    """Sends bytes and gives all answers until the other side closes."""
    with connected(address) as stream:
        send(stream, data)
        if half_close:
            try:
                stream.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        answers, how = rest(stream, patience)
    if how == "never":
        raise Failed(f"{data[:80]!r}... is left open: {answers[:200]!r}")
    return replies(answers)


class Http:
    """A connection for one well-formed request after the other."""

    def __init__(self, address):
        self.stream = connected(address)
        self.file = self.stream.makefile("rb")

    def ask(self, data):
        self.stream.sendall(data)
        status, length = int(self.file.readline().split(b" ")[1]), 0
        while line := self.file.readline().strip().lower():
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return Reply(status, self.file.read(length))

    def close(self):
        self.file.close()
        self.stream.close()

"""The clients of soak.py: each sends events its own way and keeps books of what it was told, or of what it sent.

What the daemon thinks of each line of their text is learnt once, in the beginning, and has to stay so on every door,
whatever else goes on. One more client asks questions.
"""

import gzip
import http.client
import itertools
import json
import os
import random
import socket
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, fields

PATIENCE = 30


class Failed(Exception):
    """Something is not as it should be; the argument is the sentence."""


class Doors(dict):
    """Addresses by door, as the daemon says them when it is ready."""


def connected(address):
    if address.startswith("/"):
        stream = socket.socket(socket.AF_UNIX)
        stream.settimeout(PATIENCE)
        stream.connect(address)
        return stream
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), PATIENCE)


@dataclass
class Book:
    """What the clients of one door sent, and what became of it."""

    lines: int = 0
    told: int = 0
    accepted: int = 0
    rejected: int = 0
    duplicates: int = 0
    datagrams: int = 0


class Books:
    """One book for each door."""

    def __init__(self):
        self.doors, self.sequence, self.lock = defaultdict(Book), 0, threading.Lock()

    def add(self, door, lines, rejected, duplicates=0, told=0, datagrams=0):
        more = Book(lines, told, lines - rejected - duplicates, rejected, duplicates, datagrams)
        with self.lock:
            book = self.doors[door]
            for field in fields(Book):
                setattr(book, field.name, getattr(book, field.name) + getattr(more, field.name))

    def durable(self, sequence):
        with self.lock:
            self.sequence = max(self.sequence, sequence)

    def total(self, without):
        total = Book()
        for door, book in self.doors.items():
            for field in fields(Book) if door not in without else ():
                setattr(total, field.name, getattr(total, field.name) + getattr(book, field.name))
        return total


class Connection:
    """A connection whose lines are answered."""

    def __init__(self, address, **handshake):
        self.socket, self.unread = connected(address), b""
        self.durable = self.rejected = self.duplicates = self.sequence = 0
        self.resume, self.error, self.rejects = None, None, set()
        self.send(json.dumps({"tally": "ack", **handshake}).encode() + b"\n")

    def send(self, data):
        self.socket.sendall(data)

    def read(self, most=65_536, wait=False):
        """Takes the answers that are there, or waits for some; false at the end."""
        try:
            data = self.socket.recv(most, 0 if wait else socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        *lines, self.unread = (self.unread + data).split(b"\n")
        for answer in map(json.loads, lines):
            self.resume = answer.get("resume", self.resume)
            self.error = answer.get("error", answer.get("closing", self.error))
            if "durable" in answer:
                self.durable, self.rejected = answer["durable"], answer["rejected"]
                self.duplicates, self.sequence = answer.get("duplicates", 0), answer["sequence"]
                self.rejects.update(line - 1 for line, _ in answer["rejects"])
        return data != b""

    def finish(self):
        """Says that nothing more comes, and takes every answer."""
        self.socket.shutdown(socket.SHUT_WR)
        while self.read(wait=True):
            pass
        self.close()

    def close(self):
        self.socket.close()


def learn(template, doors, books):
    """Which items the daemon does not take; lines by the Unix socket, frames by TCP."""
    framed = template.framed()
    return tuple(
        judged(text, door, encoding, doors, books)
        for text, door, encoding in ((template, "unix", "json"), (framed, "tcp", "msgpack"))
    )


def judged(text, door, encoding, doors, books):
    bad, step = set(), 1000
    for begin in range(0, len(text.items), step):
        connection = Connection(doors[door], encoding=encoding)
        items = text.cut(begin, min(step, len(text.items) - begin))
        connection.send(b"".join(items))
        connection.finish()
        if connection.durable != len(items) or connection.rejected != len(connection.rejects):
            raise Failed(f"{len(items)} lines by {door} are answered with {vars(connection)}")
        bad.update(begin + line for line in connection.rejects)
        books.add(door, len(items), connection.rejected, connection.duplicates, told=len(items))
    return text.judged(bad)


class Client:
    """Sends at its own rate until told to stop."""

    def __init__(self, doors, books, stop, rate, door, template):
        self.doors, self.books, self.stop, self.door, self.template = doors, books, stop, door, template
        self.rate, self.block, self.due = rate, max(10, int(rate) // 20), time.monotonic()

    def pace(self, count):
        """Waits until as many more are due; what was missed for more than a second is not made up for."""
        self.due = max(self.due + count / self.rate, time.monotonic() - 1)
        time.sleep(max(0.0, self.due - time.monotonic()))

    def goes_on(self, until):
        return not self.stop.is_set() and time.monotonic() < until


class Acknowledged(Client):
    """Connections that last some seconds, every line answered."""

    encoding, reads_slowly = "json", False

    def run(self):
        position = random.randrange(10_000)
        while not self.stop.is_set():
            until = time.monotonic() + random.uniform(3, 20)
            connection = Connection(self.doors[self.door], encoding=self.encoding)
            begin = position
            while self.goes_on(until):
                connection.send(b"".join(self.template.cut(position, self.block)))
                position += self.block
                connection.read(16 if self.reads_slowly else 65_536)
                self.books.durable(connection.sequence)
                self.pace(self.block)
            if self.reads_slowly:
                time.sleep(3)
            connection.finish()
            told = (connection.durable, connection.rejected, connection.duplicates, connection.error)
            wanted = (position - begin, self.template.rejected(begin, position), 0, None)
            if told != wanted:
                raise Failed(f"{self.door}: lines, rejected, duplicates, error are to be {wanted}; answered: {told}")
            self.books.add(self.door, told[0], told[1], told=told[0])


class Framed(Acknowledged):
    """The same in MessagePack."""

    encoding = "msgpack"


class Slow(Acknowledged):
    """The same, and hardly reads its answers."""

    reads_slowly = True


class Producer(Client):
    """One stream of lines over many connections that end in all sorts of ways; it goes on where the daemon says."""

    def run(self):
        sent = acknowledged = 0
        before = None
        while True:
            connection = Connection(self.doors[self.door], producer="soak")
            while connection.resume is None and connection.read(wait=True):
                pass
            if before:
                before.close()
            begin = connection.resume
            if begin is None or not acknowledged <= begin <= sent:
                raise Failed(f"the producer sent {sent} lines, {acknowledged} were durable, and resumes at {begin}")
            sent, until = begin, time.monotonic() + random.uniform(1, 6)
            while self.goes_on(until):
                connection.send(b"".join(self.template.cut(sent, self.block)))
                sent += self.block
                connection.read()
                acknowledged = self.check(connection, begin)
                self.pace(self.block)
            if self.stop.is_set():
                connection.finish()
                break
            before = self.break_off(connection, sent)
        if self.check(connection, begin) != sent:
            raise Failed(f"the producer sent {sent} lines, the last answer is {vars(connection)}")
        self.books.add(self.door, sent, self.template.rejected(0, sent), told=sent)

    def check(self, connection, begin):
        end = begin + connection.durable
        if connection.rejected != self.template.rejected(begin, end) or connection.duplicates or connection.error:
            raise Failed(f"the producer's lines {begin} to {end} are answered with {vars(connection)}")
        self.books.durable(connection.sequence)
        return end

    def break_off(self, connection, sent):
        """Ends a connection rudely; or leaves it to the daemon, by opening the next one while it is open."""
        if random.random() < 0.3:
            return connection
        if random.random() < 0.5:
            connection.send(self.template.cut(sent, 1)[0][:-7])
        connection.close()
        return None


class Passing(Client):
    """Connections that come, leave some lines without wanting answers, and go; and some that only come and go."""

    def run(self):
        for turn in itertools.count():
            if self.stop.is_set():
                return
            door = random.choice(("unix", "tcp"))
            stream = connected(self.doors[door])
            if turn % 10 == 3:
                stream.sendall(b'{"tally":"hello"}\n')
                if b"bad_handshake" not in stream.recv(4096):
                    raise Failed(f"{door}: a bad handshake is not answered so")
            elif turn % 10 != 7:
                self.leave_lines(stream, door)
            stream.close()

    def leave_lines(self, stream, door):
        begin, count = random.randrange(20_000), random.randint(1, 200)
        text = b"".join(self.template.cut(begin, count))
        stream.sendall(text if random.random() < 0.5 else text[:-1])
        self.books.add(door, count, self.template.rejected(begin, begin + count))
        self.pace(count)
        if random.random() < 0.5:
            stream.shutdown(socket.SHUT_WR)
            if stream.recv(1) != b"":
                raise Failed(f"{door}: a connection that wants no answers got one")


class Datagrams(Client):
    """Ten lines a datagram."""

    def run(self):
        host, port = self.doors["udp"].rsplit(":", 1)
        door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        position, count = 0, 10
        while not self.stop.is_set():
            door.sendto(b"".join(self.template.cut(position, count)), (host, int(port)))
            self.books.add("udp", count, self.template.rejected(position, position + count), datagrams=1)
            position += count
            self.pace(count)


class Requests(Client):
    """Lines with event ids by HTTP; some requests are made again, and some are no good."""

    numbers = itertools.count()

    def run(self):
        position = 0
        while not self.stop.is_set():
            connection = http.client.HTTPConnection(self.doors["http"], timeout=60)
            for _ in range(30):
                body = self.body(position)
                rejected = self.template.rejected(position, position + self.block)
                position += self.block
                self.post(connection, body, rejected, again=False)
                while random.random() < 0.15:
                    self.post(connection, body, rejected, again=True)
                self.pace(self.block)
            connection.close()
            self.misbehave()

    def body(self, position):
        prefix = b'{"event_id":"%d-' % next(self.numbers)
        lines = enumerate(self.template.cut(position, self.block))
        return b"".join(prefix + b'%d",' % n + line[1:] if line.startswith(b'{"') else line for n, line in lines)

    def post(self, connection, body, rejected, again):
        wait = random.choice(("durable", "durable", "applied", "accepted"))
        headers = {"Content-Type": "application/x-ndjson"}
        if random.random() < 0.1:
            body, headers["Content-Encoding"] = gzip.compress(body, 1), "gzip"
        while True:
            connection.request("POST", f"/v1/events?wait={wait}", body, headers)
            response = connection.getresponse()
            text = response.read()
            if response.status != 429:
                break
            time.sleep(1)
        answer = json.loads(text)
        good = self.block - rejected
        wanted = (0, rejected, good) if again else (good, rejected, 0)
        if wait == "accepted":
            if (response.status, answer) != (202, {"queued": self.block}):
                raise Failed(f"{self.block} lines by HTTP are answered with {response.status} {answer}")
            self.books.add("http", self.block, rejected, wanted[2])
            return
        told = tuple(answer.get(key) for key in ("accepted", "rejected", "duplicates"))
        if response.status != 200 or told != wanted:
            raise Failed(f"by HTTP accepted, rejected, duplicates are to be {wanted}; {response.status} {text[:500]}")
        self.books.durable(answer["last_sequence"])
        self.books.add("http", self.block, told[1], told[2], told=self.block)

    def misbehave(self):
        """Nothing of a body that does not come whole is taken; a body that is no JSON is one rejected event."""
        stream = connected(self.doors["http"])
        stream.sendall(b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n")
        stream.sendall(b"Content-Length: 90000\r\n\r\n" + b'{"type":"action"}\n' * 100)
        stream.close()
        connection = http.client.HTTPConnection(self.doors["http"], timeout=60)
        for content, status, rejected in (("application/json", 400, 1), ("text/html", 415, 0)):
            connection.request("POST", "/v1/events", b'[{"type":"action"},', {"Content-Type": content})
            response = connection.getresponse()
            answer = json.loads(response.read())
            if (response.status, answer.get("rejected", 0)) != (status, rejected):
                raise Failed(f"half an array as {content} is answered with {response.status} {answer}")
            self.books.add("http", rejected, rejected, told=rejected)
        connection.close()


def all_of_them(doors, books, lines, frames, rate, stop):
    """The clients, with their shares of the rate."""
    shares = (
        (Acknowledged, "unix", lines, 0.34),
        (Producer, "unix", lines, 0.15),
        (Slow, "unix", lines, 0.03),
        (Framed, "tcp", frames, 0.16),
        (Acknowledged, "tcp", lines, 0.08),
        (Requests, "http", lines, 0.06),
        (Requests, "http", lines, 0.06),
        (Datagrams, "udp", lines, 0.1),
        (Passing, None, lines, 0.02),
    )
    return [kind(doors, books, stop, rate * share, door, text) for kind, door, text, share in shares]


class Asker:
    """Asks a query or admin door, over one connection that is made anew from time to time."""

    def __init__(self, address):
        self.address, self.connection, self.asked, self.lock = address, None, 0, threading.Lock()

    def get(self, path, method="GET", besides=()):
        """The answer's body; an error unless it is 200 or one of `besides`."""
        with self.lock:
            if self.asked % 50 == 0:
                if self.connection:
                    self.connection.close()
                self.connection = http.client.HTTPConnection("localhost", timeout=90)
                self.connection.sock = connected(self.address)
            self.asked += 1
            self.connection.request(method, path, headers={"Host": "localhost"})
            response = self.connection.getresponse()
            body = response.read()
        if response.status != 200 and response.status not in besides:
            raise Failed(f"{method} {path} on {os.path.basename(self.address)}: {response.status} {body[:500]}")
        return body

    def json(self, path, method="GET", besides=()):
        return json.loads(self.get(path, method, besides))


VIDEO = "/v1/aggregators/video-actions"
QUESTIONS = (
    "/v1/status",
    f"{VIDEO}?table=posts&rows=20",
    f"{VIDEO}/posts?format=csv&rows=1000",
    "/v1/aggregators/homepage-fetch",
    f"{VIDEO}/posts?format=arrow&rows=1000&skip=100",
    f"{VIDEO}/summary/hot_post",
    "/v1/rejected?rows=50",
    "/v1/batches/last",
    "/v1/aggregators",
    "/v1/plugins",
    "/health",
    "/ready",
    "/openapi.json",
)


def ask_questions(doors, books, stop, counts):
    """A question every 200 ms, on each door in turn. Some want what is durable by then; no answer is older than one before."""
    askers = [Asker(doors[door]) for door in ("query", "query_tcp", "admin")]
    newest = defaultdict(int)
    for turn in itertools.count():
        if stop.wait(0.2):
            return
        asker, path = askers[turn % 3], QUESTIONS[turn // 2 % len(QUESTIONS)]
        wanted = 0
        if turn % 6 == 0:
            wanted = books.sequence
            path = f"{VIDEO}?min_sequence={wanted}&wait=30s"
        body = asker.get(path, besides=(404,) if path == "/v1/batches/last" else ())
        counts["questions"] += 1
        if body.startswith(b'{"aggregator":'):
            answer = json.loads(body)
            name, sequence = answer["aggregator"], answer["as_of_sequence"]
            if sequence < max(wanted, newest[name]) or not answer["complete"]:
                raise Failed(f"{path}: as of {sequence}, after {newest[name]}: {body[:300]}")
            newest[name] = sequence

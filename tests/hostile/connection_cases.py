"""Connections that come, stay and go as they should not: handshakes that are none, resets, silence, and far too many of them."""

import json
import socket
import ssl
import time
from collections import Counter

from cases import accepted, answered, case, ended, refused, rejected, source
from wire import VIEW, Failed, connected, lines, post, raw, replies, reset, rest, send, verdicts

# First lines that are meant as handshakes and are none. What follows them is not taken.
BAD_HANDSHAKES = [
    b'{"tally":"hello"}',
    b'{"tally":1}',
    b'{"tally":null}',
    b'{"tally":["ack"]}',
    b'{"tally":{}}',
    b'{"tally":"ACK"}',
    b'{"tally":""}',
    b'{"tally":"ack","tally":"ack"}',
    b'{"tally":"ack","producer":1}',
    b'{"tally":"ack","producer":""}',
    b'{"tally":"ack","producer":"' + b"p" * 129 + b'"}',
    b'{"tally":"ack","producer":"a\\u0000"}',
    b'{"tally":"ack","producer":"\xc3\xa9"}',
    b'{"tally":"ack","producer":null}',
    b'{"tally":"data","producer":"p"}',
    b'{"tally":"ack","encoding":"xml"}',
    b'{"tally":"ack","encoding":7}',
    b'{"tally":"ack","encoding":"MSGPACK"}',
    b'{"tally":"ack","resume":7}',
    b'{"tally":"ack","Producer":"p"}',
    b'{"tally":"ack","":""}',
    b'{"tally":"ack"',
    b'{"tally":"ack"}}',
    b'{"tally":"ack"} x',
    b"{\"tally\":'ack'}",
    b'{"tally"}',
    b'{"tally":ack}',
    b'{"tally":"ack",}',
    b'{ "tally" : "ack" ',
    b'{"tally":"ack\xff"}',
    b'{"tally":"ack","x":' + b"[" * 200 + b"]" * 200 + b"}",
    b'{"tally":' + b"9" * 400 + b"}",
    b'{"tally":"' + b"a" * 100_000 + b'"}',
    b'{"tally":"ack","token":"t","more":"' + b"m" * 500_000 + b'"}',
]
# First lines that are no handshakes, and what they are.
NO_HANDSHAKES = [
    (b"", None),
    (b"\r", None),
    (b"{}", "missing_type"),
    (b"ack", "invalid_json"),
    (b'"tally"', "not_an_object"),
    (b'["tally","ack"]', "not_an_object"),
    (b'{"Tally":"ack"}', "missing_type"),
    (b'{"tally ":"ack"}', "missing_type"),
    (b'{"hello":"tally"}', "missing_type"),
    (b"\xff", "invalid_utf8"),
    (b"\0", "invalid_json"),
    (b'{"x":1,"tally":"ack"', "invalid_json"),
    (b'{"tally":"' + b"a" * (2 << 20) + b'"}', "line_too_long"),
]


@case("wrong handshakes")
def handshakes(world):
    total, sent = Counter(), 0
    for door in ("unix", "tcp"):
        for hello in BAD_HANDSHAKES:
            answers = lines(world.doors[door], VIEW + b"\n", hello + b"\n")
            if [answer.get("error") for answer in answers] != ["bad_handshake"] or not answers[0]["message"]:
                raise Failed(f"{door}: the handshake {hello[:80]!r} is answered with {answers}")
            total += ended(door, "bad_handshake")
        for hello, reason in NO_HANDSHAKES:
            with connected(world.doors[door]) as stream:
                send(stream, hello + b"\n" + VIEW + b"\n")
                stream.shutdown(socket.SHUT_WR)
                if (said := rest(stream)) != (b"", "end"):
                    raise Failed(f"{door}: {hello[:80]!r} is no handshake, and answered with {said}")
            total += accepted() + (rejected(reason) if reason else Counter()) + ended(door, "finished")
        # One that comes late is a line like any other.
        answers = lines(world.doors[door], VIEW + b'\n{"tally":"ack"}\n{"tally":"hello"}\n' + VIEW + b"\n")
        if verdicts(answers, 4) != [None, "missing_type", "missing_type", None]:
            raise Failed(f"{door}: late handshakes are answered with {answers}")
        total += accepted(2) + rejected("missing_type", 2) + ended(door, "finished")
        sent += len(BAD_HANDSHAKES) + len(NO_HANDSHAKES) + 1
    return sent, total


@case("no newline, half closed, reset")
def ends(world):
    total = Counter()
    for door in ("unix", "tcp"):
        address = world.doors[door]
        # An event without a newline, then the end: it is one.
        verdicts(lines(address, VIEW), 1)
        # Nothing at all, half closed or closed.
        with connected(address) as stream:
            stream.shutdown(socket.SHUT_WR)
            rest(stream)
        connected(address).close()
        # Half a handshake.
        if lines(address, b"", b'{"tally":"a')[0].get("error") != "bad_handshake":
            raise Failed(f"{door}: half a handshake is not answered as one")
        total += accepted() + ended(door, "finished", 3) + ended(door, "bad_handshake")
        # Half a line, then gone. On a Unix socket that is an end like any other, and the line is judged.
        stream = connected(address)
        send(stream, b'{"tally":"ack"}\n' + VIEW + b"\n" + VIEW[:20])
        stream.recv(4096)
        reset(stream)
        total += accepted()
        if door == "tcp":
            total += ended(door, "reset") + source("unfinished_lines", door)
        else:
            total += ended(door, "finished") + rejected("invalid_json")
    # Reset before anything was said.
    for _ in range(50):
        reset(connected(world.doors["tcp"]))
    world.either(ended("tcp", "reset", 50), ended("tcp", "finished", 50))
    return 62, total


@case("answers that nobody reads", full_only=True)
def unread(world):
    """Half a million lines that are none, and not one answer read: what waits stays small, and in the end the connection is closed."""
    count, total = 500_000, Counter()
    stream = connected(world.doors["unix"])
    send(stream, b'{"tally":"ack"}\n')
    for _ in range(count // 1000):
        send(stream, b"x\n" * 1000)
        time.sleep(0.001)
    stream.shutdown(socket.SHUT_WR)
    world.wait_for(source("unread_answers", "unix"), 60)
    stream.close()
    total += rejected("invalid_json", count) + ended("unix", "finished") + source("unread_answers", "unix")
    return count, total


@case("more connections than may be")
def surplus(world):
    """As many as the default limit lets in, and 200 more, of TCP and of HTTP."""
    limit, more, total = 1024, 200, Counter()
    for door in ("tcp", "http"):
        held = [connected(world.doors[door]) for _ in range(limit)]
        world.wait_until(lambda door=door: world.metric(open_connections(door)) == limit)
        told = 0
        for _ in range(more):
            with connected(world.doors[door]) as stream:
                said, _ = rest(stream, 5)
            told += b"too_many_connections" in said
            if said and b"too_many_connections" not in said:
                raise Failed(f"{door}: a connection too many is told {said!r}")
        if told < more // 4:
            raise Failed(f"{door}: of {more} connections too many only {told} were told so")
        # Those that are in are served.
        if door == "tcp":
            send(held[0], b'{"tally":"ack"}\n' + VIEW + b"\n")
            if b'"durable":1' not in held[0].recv(4096):
                raise Failed(f"{door}: a connection within the limit is not served")
            total += accepted() + source("connections_refused", door, more) + ended(door, "finished", limit)
        else:
            send(held[0], post([b"Connection: close"], VIEW))
            if replies(rest(held[0])[0])[0].status != 200:
                raise Failed(f"{door}: a connection within the limit is not served")
            total += (
                accepted()
                + answered(200)
                + refused(door, "too_many_connections", more)
                + source("connections_refused", door, more)
            )
        for stream in held:
            stream.close()
        world.wait_until(lambda door=door: world.metric(open_connections(door)) == 0)
    return 2 * (limit + more), total


def open_connections(door):
    kind, label = ("door", "door") if door == "http" else ("source", "source")
    return f'tally_{kind}_connections{{{label}="{door}"}}'


@case("idle connections, slow ones beside them", daemon="crowd")
def crowd(world):
    """10,000 that say nothing and 1,000 that send a byte a second, of all doors; then all of them go."""
    idle, slow = (3000, 300) if world.quick else (10_000, 1000)
    doors = ("tcp", "http", "unix", "query_tcp")
    begun = {
        "tcp": b'{"tally":"ack"}\n',
        "http": post([], VIEW),
        "unix": VIEW * 2,
        "query_tcp": b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 99,
    }
    held = [connected(world.doors[doors[index % 4]]) for index in range(idle)]
    slowly = [(connected(world.doors[doors[index % 4]]), doors[index % 4]) for index in range(slow)]
    opened = Counter(doors[index % 4] for index in range(idle)) + Counter(door for _, door in slowly)
    for door in ("tcp", "http"):
        world.wait_until(lambda door=door: world.metric(open_connections(door)) == opened[door])
    rounds = 5 if world.quick else 30
    for turn in range(rounds):
        moment = time.monotonic()
        for stream, door in slowly:
            stream.sendall(begun[door][turn : turn + 1])
        time.sleep(max(0.0, 1 - (time.monotonic() - moment)))
    world.note = f"{idle + slow} open, {world.daemon.open_files()} files"
    for stream in held:
        stream.close()
    for stream, _ in slowly:
        stream.close()
    each = Counter(door for _, door in slowly)
    total = ended("tcp", "finished", opened["tcp"])
    if rounds < len(begun["tcp"]):
        total += rejected("invalid_json", each["tcp"])
    # Half an event is judged at the end, and is none; of requests only the beginning came.
    total += ended("unix", "finished", opened["unix"]) + rejected("invalid_json", each["unix"])
    total += refused("http", "unfinished_request", each["http"]) + refused(
        "query_tcp", "unfinished_request", each["query_tcp"]
    )
    return idle + slow, total


@case("tokens wrong or missing", daemon="guarded")
def tokens(world):
    total, sent = Counter(), 0
    wrong = [
        VIEW,
        b'{"tally":"ack"}',
        b'{"tally":"ack","token":""}',
        b'{"tally":"ack","token":"open-sesam"}',
        b'{"tally":"ack","token":"open-sesame "}',
        b'{"tally":"ack","token":1}',
        b"x",
        b"x" * 20_000,
        b"\xff" * 100,
        b'{"tally":"ack","token":"' + b"t" * 10_000 + b'"}',
    ]
    for hello in wrong:
        answers = lines(world.doors["tcp"], VIEW + b"\n", hello + b"\n")
        if [answer.get("error") for answer in answers] != ["unauthorized"]:
            raise Failed(f"the first line {hello[:60]!r} at a door that wants a token is answered with {answers}")
        total += ended("tcp", "unauthorized")
        sent += 1
    # Whether what follows has come by then depends on when.
    world.either(source("unqueued_lines", "tcp", 2 * sent), source("unfinished_lines", "tcp", 2 * sent))
    for header in (
        b"Authorization: Bearer x",
        b"Authorization: Bearer",
        b"Authorization: Basic !!",
        b"X: y",
        b"Authorization: Bearer open-sesame\xff",
        b"authorization: bearer",
    ):
        reply = raw(world.doors["http"], post([header, b"Connection: close"], VIEW))[0]
        if (reply.status, reply.code) != (401, "unauthorized"):
            raise Failed(f"a request with {header!r} is answered with {reply}")
        total += answered(401) + refused("http", "unauthorized")
        sent += 1
    answers = lines(world.doors["tcp"], VIEW + b"\n", b'{"tally":"ack","token":"open-sesame"}\n')
    verdicts(answers, 1)
    return sent + 1, total + accepted() + ended("tcp", "finished")


@case("heads and first lines that do not come", daemon="guarded")
def silence(world):
    """`limits.header_timeout` is 1 s there."""
    total, count = Counter(), 20
    slow = {door: [connected(world.doors[door]) for _ in range(count)] for door in ("http", "tcp", "query_tcp")}
    for beginning in (b"POST /v1", b"/events HTTP/1.1\r\n", b"Host: loc"):
        for door in ("http", "query_tcp"):
            for stream in slow[door]:
                send(stream, beginning)
        time.sleep(0.3)
    for door, streams in slow.items():
        for stream in streams:
            said, how = rest(stream, 20)
            told = b"unauthorized" in said if door == "tcp" else said == b""
            if how == "never" or not told:
                raise Failed(
                    f"{door}: a client that keeps the door waiting is told {said!r} and the connection's end is {how}"
                )
            stream.close()
    total += (
        ended("tcp", "unauthorized", count)
        + refused("http", "header_timeout", count)
        + refused("query_tcp", "header_timeout", count)
    )
    return 3 * count, total


@case("connections that fall silent", daemon="guarded")
def idle(world):
    """`limits.idle_timeout` is 2 s there."""
    count, hello = 20, b'{"tally":"ack","token":"open-sesame"}\n'
    silent = [connected(world.doors["tcp"]) for _ in range(count)]
    kept = [connected(world.doors["http"]) for _ in range(count)]
    for stream in silent:
        send(stream, hello + VIEW + b"\n" + VIEW[:9])
    for stream in kept:
        send(stream, post([b"Authorization: Bearer open-sesame"], VIEW))
    for stream in silent:
        said, how = rest(stream, 20)
        last = json.loads(said.splitlines()[-1]) if said else {}
        if last.get("error") != "idle" or how == "never":
            raise Failed(f"a silent connection is told {said!r} and its end is {how}")
        stream.close()
    for stream in kept:
        said, how = rest(stream, 20)
        if how == "never" or replies(said)[0].status != 200:
            raise Failed(f"a silent HTTP connection is told {said!r} and its end is {how}")
        stream.close()
    total = (
        accepted(2 * count)
        + answered(200, count)
        + ended("tcp", "idle", count)
        + source("unfinished_lines", "tcp", count)
    )
    return 2 * count, total + refused("http", "idle_timeout", count)


@case("TLS that is none", daemon="tls")
def no_tls(world):
    """`limits.header_timeout` is 1 s there, and bounds the handshake."""
    total, beginning = Counter(), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    said = [VIEW + b"\n", post([], VIEW), b"\0" * 1000, b"\xff" * 70_000, beginning + bytes(600), beginning, b""]
    for door in ("tcp", "http"):
        for data in said:
            with connected(world.doors[door]) as stream:
                send(stream, data)
                answer, how = rest(stream, 20)
            if how == "never" or b"durable" in answer or b"HTTP" in answer:
                raise Failed(f"{door}: what is no TLS, {data[:30]!r}, is told {answer!r}, its end is {how}")
        for _ in range(20):
            stream = connected(world.doors[door])
            send(stream, beginning)
            reset(stream)
    count = len(said) + 20
    total += ended("tcp", "tls_failed", count) + refused("http", "tls_failed", count)
    # Who speaks it is served.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(connected(world.doors["tcp"])) as stream:
        stream.sendall(b'{"tally":"ack"}\n' + VIEW + b"\n")
        if b'"durable":1' not in stream.recv(4096):
            raise Failed("tcp: who speaks TLS is not served")
    with context.wrap_socket(connected(world.doors["http"])) as stream:
        stream.sendall(post([b"Connection: close"], VIEW))
        if replies(rest(stream)[0])[0].status != 200:
            raise Failed("http: who speaks TLS is not served")
    # It leaves without a goodbye, which is a reset to TLS.
    world.either(ended("tcp", "reset"), ended("tcp", "finished"))
    world.either(refused("http", "connection_broken"), refused("http", "unfinished_request"))
    return 2 * count + 2, total + accepted(2) + answered(200)

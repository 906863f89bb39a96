"""Lines, frames and datagrams that are no events, by every door; and the JSON conformance corpus."""

import socket
import struct
import time
from collections import Counter

from cases import (
    ACCEPTED,
    accepted,
    answered,
    by_array,
    by_datagrams,
    by_lines_in_requests,
    by_plain_stream,
    by_request,
    by_stream,
    case,
    conformance,
    corpus,
    ended,
    for_arrays,
    for_bodies,
    on_one_line,
    rejected,
    send_datagrams,
    source,
)
from wire import VIEW, Failed, Http, connected, lines, post, request, rest, send, verdicts


@case("corpus of lines, unix")
def corpus_unix(world):
    items = corpus()
    return len(items), by_stream(world.doors["unix"], "unix", items)


@case("corpus of lines, tcp")
def corpus_tcp(world):
    items = corpus()
    return len(items), by_stream(world.doors["tcp"], "tcp", items)


@case("corpus of lines, no answers")
def corpus_plain(world):
    items = corpus()
    total = Counter()
    for door in ("unix", "tcp"):
        # The first line of a connection may be a handshake: these are none.
        total += by_plain_stream(world.doors[door], door, items)
    return 2 * len(items), total


@case("corpus of lines, udp")
def corpus_udp(world):
    items = [item for item in corpus() if 0 < len(item.line) < 65_000]
    return len(items), by_datagrams(world.doors["udp"], items)


@case("corpus of lines, http body")
def corpus_http(world):
    items = for_bodies(corpus())
    return len(items), by_request(world.doors["http"], items)


@case("corpus of lines, http array")
def corpus_array(world):
    items = for_arrays(corpus())
    return len(items), by_array(world.doors["http"], items)


@case("corpus of lines, http lines")
def corpus_http_lines(world):
    items = corpus()
    return len(items), by_lines_in_requests(world.doors["http"], items, 10)


@case("JSON conformance, lines")
def conformance_lines(world):
    sent, total = 0, Counter()
    for field in ("x", "user_id"):
        items = on_one_line(conformance(field))
        for door in ("unix", "tcp"):
            total += by_stream(world.doors[door], door, items)
            sent += len(items)
        total += by_lines_in_requests(world.doors["http"], items)
        sent += len(items)
    return sent, total


@case("JSON conformance, http")
def conformance_http(world):
    sent, total = 0, Counter()
    for field in ("x", "user_id"):
        items = list(conformance(field))
        total += by_request(world.doors["http"], items)
        total += by_array(world.doors["http"], for_arrays(items))
        sent += 2 * len(items)
    return sent, total


@case("JSON conformance, other routes")
def conformance_routes(world):
    """Routes that take JSON apart before it becomes a line: what is no JSON is accepted by none of them."""
    sent, total, client = 0, Counter(), Http(world.doors["http"])
    wrap = {
        b"/activity": lambda d: b'{"activity_type":"play","user_id":"u1","x":' + d + b"}",
        b"/v1/track": lambda d: b'{"event":"play","userId":"u1","properties":{"x":' + d + b"}}",
        b"/v1/batch": lambda d: b'{"batch":[{"type":"track","event":"play","userId":"u1","properties":{"x":'
        + d
        + b'}}],"context":{"y":1}}',
        b"/v1/batch?2": lambda d: b'{"batch":[{"type":"track","event":"play","userId":"u1"}],"context":{"x":'
        + d
        + b"}}",
    }
    for item in conformance("x"):
        document = item.line.split(b',"x":', 1)[1][:-1]
        for path, body in wrap.items():
            reply = client.ask(post([], body(document), path))
            verdict = reply.json()
            reason = verdict["rejects"][0]["reason"] if verdict.get("rejects") else None
            item.check(path.decode(), reason)
            total += answered(reply.status) + accepted(verdict["accepted"])
            total += rejected(reason) if reason else Counter()
            sent += 1
    client.close()
    return sent, total


def frame(data):
    return struct.pack(">I", len(data)) + data


@case("MessagePack that is none")
def messagepack(world):
    good = b"\x84\xa4type\xa6action\xa7user_id\xa2u1\xadresource_type\xa7posts:1\xa6action\xa4view"
    bad = [
        b"",
        b"\xc1",
        b"\x81",
        b"\x81\xa1a",
        b"\x81\xa1a\xc4\x01x",
        b"\x81\x01\x01",
        b"\x81\xa1a\xcb\x7f\xf8" + b"\0" * 6,
        b"\x81\xa1a\xca\x7f\x80\0\0",
        b"\x81\xa1a\xd4\x05\0",
        b"\x81\xa1a\xa1\xff",
        b"\x81\xa1\xff\x01",
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\x81\xa1a" + b"\x91" * 100_000 + b"\x01",
        b"\x81\xa1a\xd6\xff\xff",
        b"\x81\xa1a\xc7\x0c\xff" + b"\xff" * 12,
        good + b"\0",
        b"\x81\xa1a\xc6\xff\xff\xff\xff",
        b"\x81\xc0\x01",
    ]
    total = Counter()
    for door in ("unix", "tcp"):
        hello = b'{"tally":"ack","encoding":"msgpack"}\n'
        payload = b"".join(frame(one) + frame(good) for one in bad) + frame(b"x" * (2 << 20)) + frame(good)
        found = verdicts(lines(world.doors[door], payload, hello), 2 * len(bad) + 2)
        wanted = ["invalid_encoding", None] * len(bad) + ["line_too_long", None]
        if found != wanted:
            wrong = [(bad[i // 2][:20], found[i]) for i in range(2 * len(bad)) if found[i] != wanted[i]]
            raise Failed(f"{door}: frames are answered otherwise: {wrong} {found[-2:]}")
        total += rejected("invalid_encoding", len(bad)) + rejected("line_too_long") + accepted(len(bad) + 1)
        # A frame that announces 4 GiB, and does not come.
        answers = lines(world.doors[door], frame(good) + b"\xff\xff\xff\xff" + b"x" * 100_000, hello)
        verdicts(answers, 1)
        total += accepted() + ended(door, "finished", 2) + source("unfinished_lines", door)
    client = Http(world.doors["http"])
    # Nothing is an empty body there, and two values in a row are two events.
    alone = [one for one in bad if one and not one.startswith(good)]
    for one in alone:
        reply = client.ask(request(b"POST", b"/v1/events", [b"Content-Type: application/msgpack"], one))
        rejects = reply.json()["rejects"]
        # An array is one of events, each on its own.
        if reply.status != 400 or {reject["reason"] for reject in rejects} != {"invalid_encoding"}:
            raise Failed(f"http: the MessagePack {one[:20]!r} is answered with {reply}")
        total += answered(400) + rejected("invalid_encoding", len(rejects)) + accepted(reply.json()["accepted"])
    client.close()
    return 4 * len(bad) + 8 + len(alone), total


@case("datagrams of every size")
def datagrams(world):
    """Empty ones are no lines; the largest one is one line; several lines in one; blank ones."""
    largest = VIEW[:-1] + b',"x":"' + b"x" * (65_507 - len(VIEW) - 7) + b'"}'
    sent = [
        b"",
        VIEW,
        VIEW + b"\n",
        VIEW + b"\n" + VIEW,
        b"\n\n\n",
        b"\0",
        b"\0" * 1000,
        b"\xff" * 100,
        largest,
        VIEW + b"\r\n\r\n" + b"x",
    ]
    send_datagrams(world.doors["udp"], sent)
    return len(sent), accepted(6) + rejected("invalid_json", 3) + rejected("invalid_utf8")


@case("a flood of datagrams")
def flood(world):
    """As fast as one process can, good and bad by turns: each is decided, dropped by the source or dropped by the kernel."""
    host, port = world.doors["udp"].rsplit(":", 1)
    before, data = world.daemon.status()["sources"]["udp"], [VIEW + b"\n" + VIEW, b"{", b"\xff\n{}\n" + b"x" * 1000]
    sent, until = 0, time.monotonic() + (1 if world.quick else 5)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        while time.monotonic() < until:
            for _ in range(50):
                door.sendto(data[sent % 3], (host, int(port)))
                sent += 1
    world.settle_queue()
    after = world.daemon.status()["sources"]["udp"]
    moved = {
        name: after[name] - before[name] for name in ("datagrams", "dropped_lines", "kernel_dropped_datagrams", "lines")
    }
    if moved["datagrams"] + moved["kernel_dropped_datagrams"] != sent:
        raise Failed(f"of {sent} datagrams {moved} are counted")
    counts = world.moved()
    events = sum(count for name, count in counts.items() if name.startswith("tally_events_"))
    dropped = counts['tally_events_dropped_total{reason="queue_full"}']
    if events - dropped != moved["lines"] or dropped != moved["dropped_lines"]:
        raise Failed(f"of {moved} lines {counts} are counted")
    if not moved["kernel_dropped_datagrams"]:
        total = accepted(2 * -(-sent // 3)) + rejected("invalid_json", -(-(sent - 1) // 3))
        if not dropped and counts[ACCEPTED] != total[ACCEPTED]:
            raise Failed(f"none was dropped, and {counts} are counted of {sent} datagrams")
    world.note = (
        f"{moved['kernel_dropped_datagrams']} dropped by the kernel, {moved['dropped_lines']} lines by the source"
    )
    return sent, counts


def trickle(world, door, pause):
    """An event and a handshake a byte at a time."""
    with connected(world.doors[door]) as stream:
        for byte in b'{"tally":"ack"}\n' + VIEW[:12]:
            stream.sendall(bytes([byte]))
            time.sleep(pause)
        stream.sendall(VIEW[12:])
        stream.shutdown(socket.SHUT_WR)
        answer, _ = rest(stream)
    if b'"durable":1' not in answer:
        raise Failed(f"{door}: an event a byte at a time is answered with {answer!r}")
    return accepted() + ended(door, "finished")


@case("a byte every 50 ms")
def slow_bytes(world):
    return 2, trickle(world, "unix", 0.05) + trickle(world, "tcp", 0.05)


@case("a byte a second", full_only=True)
def slower_bytes(world):
    return 1, trickle(world, "tcp", 1)


@case("a line without end")
def endless(world):
    """64 MiB without a newline, then the end, or a reset."""
    mib, total = (16 if world.quick else 64), Counter()
    for door in ("unix", "tcp"):
        with connected(world.doors[door]) as stream:
            send(stream, b'{"tally":"ack"}\n')
            for _ in range(mib):
                send(stream, b"x" * (1 << 20))
            stream.shutdown(socket.SHUT_WR)
            answer, _ = rest(stream)
        if b'"rejects":[[1,"line_too_long"]]' not in answer:
            raise Failed(f"{door}: a line without end is answered with {answer!r}")
        total += rejected("line_too_long") + ended(door, "finished")
    return 2, total

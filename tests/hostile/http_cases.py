"""Requests that are none, that hide another one, and bodies that are not what they say."""

import gzip
import random
import threading
import time
import zlib
from collections import Counter

from cases import accepted, answered, case, refused, rejected
from wire import VIEW, Failed, Http, connected, post, raw, request, reset, send

JSON = b"Content-Type: application/json"
LENGTH = b"Content-Length: %d" % len(VIEW)
TE = b"Transfer-Encoding: chunked"
CHUNKS = b"%x\r\n" % len(VIEW) + VIEW + b"\r\n0\r\n\r\n"
# What would be counted if it were ever taken for a request of its own.
HIDDEN = post([], VIEW)


def head(*fields, first=b"POST /v1/events HTTP/1.1", host=b"Host: localhost"):
    return b"\r\n".join([first, *([host] if host else []), JSON, *fields]) + b"\r\n\r\n"


# Each is one request, in doubt or no request at all, with another one behind it: status, code, and no event of either is taken.
MALFORMED = {
    "both lengths": head(LENGTH, TE) + CHUNKS,
    "both lengths, TE first": head(TE, b"Content-Length: 5") + b"0\r\n\r\n",
    "CL.TE": head(b"Content-Length: 6", TE) + b"0\r\n\r\nG",
    "two equal lengths": head(LENGTH, LENGTH) + VIEW,
    "two lengths": head(LENGTH, b"Content-Length: 3") + VIEW,
    "a list of lengths": head(b"Content-Length: 74, 74") + VIEW,
    "length +": head(b"Content-Length: +74") + VIEW,
    "length -": head(b"Content-Length: -1") + VIEW,
    "length 0x": head(b"Content-Length: 0x4a") + VIEW,
    "length 7 4": head(b"Content-Length: 7 4") + VIEW,
    "no length": head(b"Content-Length:") + VIEW,
    "length of 20 digits": head(b"Content-Length: 18446744073709551690") + VIEW,
    "length of 2^64-1": head(b"Content-Length: 18446744073709551615") + VIEW,
    "length of 30 digits": head(b"Content-Length: " + b"9" * 30) + VIEW,
    "space before the colon": head(b"Content-Length : 74") + VIEW,
    "TE: space before the colon": head(b"Transfer-Encoding : chunked") + CHUNKS,
    "TE: tab before the colon": head(b"Transfer-Encoding\t: chunked") + CHUNKS,
    "TE: xchunked": head(b"Transfer-Encoding: xchunked") + CHUNKS,
    "TE: chunked, identity": head(b"Transfer-Encoding: chunked, identity") + CHUNKS,
    "TE: identity, chunked": head(b"Transfer-Encoding: identity, chunked") + CHUNKS,
    "TE: gzip": head(b"Transfer-Encoding: gzip") + CHUNKS,
    'TE: "chunked"': head(b'Transfer-Encoding: "chunked"') + CHUNKS,
    "TE: chunked;x": head(b"Transfer-Encoding: chunked;x") + CHUNKS,
    "TE: vertical tab": head(b"Transfer-Encoding: \x0bchunked") + CHUNKS,
    "TE twice": head(TE, TE) + CHUNKS,
    "TE twice, two ways": head(TE, b"Transfer-Encoding: identity") + CHUNKS,
    "TE in HTTP/1.0 with a length": head(TE, LENGTH, first=b"POST /v1/events HTTP/1.0") + CHUNKS,
    "folded": head(b"X: a\r\n b", LENGTH) + VIEW,
    "folded TE": head(b"X: a\r\n\tTransfer-Encoding: chunked", LENGTH) + VIEW,
    "folded first header": b"POST /v1/events HTTP/1.1\r\n Host: localhost\r\n\r\n",
    "bare LF": head(LENGTH).replace(b"\r\n", b"\n") + VIEW,
    "bare LF before TE": head(b"X: a\nTransfer-Encoding: chunked") + CHUNKS,
    "bare LF at the end": head(LENGTH)[:-2] + b"\n" + VIEW,
    "bare CR": head(b"X: a\rTransfer-Encoding: chunked", LENGTH) + VIEW,
    "NUL in a header": head(b"X: a\0b", LENGTH) + VIEW,
    "NUL in a name": head(b"X\0: a", LENGTH) + VIEW,
    "a header without a colon": head(b"nothing", LENGTH) + VIEW,
    "a header without a name": head(b": a", LENGTH) + VIEW,
    "a space in a name": head(b"Content Length: 74") + VIEW,
    "two hosts": head(b"Host: evil.example", LENGTH) + VIEW,
    "two hosts, evil first": head(b"Host: localhost", LENGTH, host=b"Host: evil.example") + VIEW,
    "HTTP/0.9": b"GET /v1/events\r\n",
    "HTTP/1.2": head(LENGTH, first=b"POST /v1/events HTTP/1.2") + VIEW,
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "http/1.1": head(LENGTH, first=b"POST /v1/events http/1.1") + VIEW,
    "two spaces": head(LENGTH, first=b"POST  /v1/events HTTP/1.1") + VIEW,
    "no target": head(LENGTH, first=b"POST HTTP/1.1") + VIEW,
    "a space in the target": head(LENGTH, first=b"POST /v1/events x HTTP/1.1") + VIEW,
    "a control character in the target": head(LENGTH, first=b"POST /v1/\x01 HTTP/1.1") + VIEW,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "NUL": bytes(100),
    "an event": VIEW + b"\n",
    "blank lines": b"\r\n" * 40_000,
}
# Requests in doubt within their body: one answer, and the connection is closed.
CUT_BODIES = {
    "chunk size too large": head(TE) + b"fffffffffffffffff\r\n" + VIEW,
    "chunk size of 2^64-1": head(TE) + b"ffffffffffffffff\r\n" + VIEW,
    "chunk size -": head(TE) + b"-1\r\n" + VIEW,
    "chunk size 0x": head(TE) + b"0x4a\r\n" + VIEW + b"\r\n0\r\n\r\n",
    "no chunk size": head(TE) + b"\r\n" + VIEW,
    "chunk size with a bare LF": head(TE) + CHUNKS.replace(b"\r\n", b"\n", 1),
    "chunk longer than its size": head(TE) + b"5\r\n" + VIEW + b"\r\n0\r\n\r\n",
    "chunk with a bare LF behind": head(TE) + b"%x\r\n" % len(VIEW) + VIEW + b"\n0\r\n\r\n",
    "chunk extension with a CR": head(TE) + b"%x;a\rb\r\n" % len(VIEW) + VIEW + b"\r\n0\r\n\r\n",
    "endless chunk extension": head(TE) + b"4a;" + b"x" * 10_000,
    "trailer with a space before its colon": head(TE) + CHUNKS[:-2] + b"X : y\r\n\r\n",
    "trailers without end": head(TE) + CHUNKS[:-2] + b"X: y\r\n" * 20_000,
}
# Requests that are understood and not wanted: status, code, and the reason counted if the door counts one.
UNWANTED = {
    "no host": (head(LENGTH, host=None) + VIEW, 400, "missing_host", "wrong_host"),
    "a foreign host": (head(LENGTH, host=b"Host: evil.example") + VIEW, 403, "host_not_allowed", "wrong_host"),
    "an empty host": (head(LENGTH, host=b"Host:") + VIEW, 403, "host_not_allowed", "wrong_host"),
    "a host that is no name": (head(LENGTH, host=b"Host: \xff\xfe") + VIEW, 403, "host_not_allowed", "wrong_host"),
    "a foreign host in the target": (
        head(LENGTH, first=b"POST http://evil.example/v1/events HTTP/1.1") + VIEW,
        403,
        "host_not_allowed",
        "wrong_host",
    ),
    "a user in the target": (
        head(LENGTH, first=b"POST http://localhost@evil.example/v1/events HTTP/1.1") + VIEW,
        403,
        "host_not_allowed",
        "wrong_host",
    ),
    "another host in the header": (
        head(LENGTH, first=b"POST http://localhost/v1/events HTTP/1.1", host=b"Host: evil.example") + VIEW,
        403,
        "host_not_allowed",
        "wrong_host",
    ),
    "GET": (head(LENGTH, first=b"GET /v1/events HTTP/1.1") + VIEW, 405, "method_not_allowed", None),
    "a method of its own": (head(LENGTH, first=b"EVENTS /v1/events HTTP/1.1") + VIEW, 405, "method_not_allowed", None),
    "CONNECT": (head(LENGTH, first=b"CONNECT localhost:80 HTTP/1.1") + VIEW, 404, "not_found", None),
    "another path": (head(LENGTH, first=b"POST /v1/events/../../etc/passwd HTTP/1.1") + VIEW, 404, "not_found", None),
    "a path of percents": (head(LENGTH, first=b"POST /%2e%2e/%00%ff HTTP/1.1") + VIEW, 404, "not_found", None),
    "wait=forever": (
        head(LENGTH, first=b"POST /v1/events?wait=forever HTTP/1.1") + VIEW,
        400,
        "invalid_parameter",
        None,
    ),
    "form data": (
        request(b"POST", b"/v1/events", [b"Content-Type: application/x-www-form-urlencoded"], VIEW),
        415,
        "unsupported_media_type",
        None,
    ),
    "plain text": (
        request(b"POST", b"/v1/events", [b"Content-Type: text/plain"], VIEW),
        415,
        "unsupported_media_type",
        None,
    ),
    "no type": (request(b"POST", b"/v1/events", [], VIEW), 415, "unsupported_media_type", None),
    "an empty body": (post([]), 400, "empty_body", None),
    "an empty chunked body": (head(TE) + b"0\r\n\r\n", 400, "empty_body", None),
    "a body announced as 1 GiB": (head(b"Content-Length: 1073741824") + VIEW, 413, "body_too_large", None),
    "brotli": (head(b"Content-Encoding: br", LENGTH) + VIEW, 415, "unsupported_encoding", None),
    "gzip twice": (head(b"Content-Encoding: gzip, gzip", LENGTH) + VIEW, 415, "unsupported_encoding", None),
    "no gzip": (head(b"Content-Encoding: gzip", LENGTH) + VIEW, 400, "invalid_gzip", None),
}


@case("HTTP: requests in doubt")
def malformed(world):
    total = Counter()
    for name, data in MALFORMED.items():
        # A good one before it is taken; it and what is behind it are not.
        for before in (b"", HIDDEN):
            answers = raw(world.doors["http"], before + data + HIDDEN)
            found = [(answer.status, answer.code) for answer in answers]
            if found != [(200, None)] * bool(before) + [(400, "malformed_request")]:
                raise Failed(f"{name}: answered with {answers}")
            total += answered(400) + refused("http", "malformed_request")
            total += (accepted() + answered(200)) if before else Counter()
    return 2 * len(MALFORMED), total


@case("HTTP: requests in doubt, at the query door")
def malformed_query(world):
    total = Counter()
    for name, data in MALFORMED.items():
        answers = raw(world.doors["query_tcp"], data.replace(b"POST /v1/events", b"GET /v1/status") + HIDDEN)
        if [(answer.status, answer.code) for answer in answers] != [(400, "malformed_request")]:
            raise Failed(f"{name}: answered with {answers}")
        total += refused("query_tcp", "malformed_request")
    return len(MALFORMED), total


@case("HTTP: chunks in doubt")
def chunks(world):
    total = Counter()
    for name, data in CUT_BODIES.items():
        answers = raw(world.doors["http"], data + HIDDEN)
        if [(answer.status, answer.code) for answer in answers] != [(400, "body_cut_off")]:
            raise Failed(f"{name}: answered with {answers}")
        total += answered(400) + refused("http", "malformed_request")
    return len(CUT_BODIES), total


@case("HTTP: requests not wanted")
def unwanted(world):
    total = Counter()
    for name, (data, status, code, reason) in UNWANTED.items():
        answers = raw(world.doors["http"], data, half_close=True)
        if [(answer.status, answer.code) for answer in answers] != [(status, code)]:
            raise Failed(f"{name}: answered with {answers}")
        total += answered(status) + (refused("http", reason) if reason else Counter())
    return len(UNWANTED), total


@case("HTTP: large heads")
def heads(world):
    total = Counter()
    large = [
        head(b"X: " + b"x" * 70_000, LENGTH),
        head(*[b"X%d: x" % index for index in range(200)], LENGTH),
        head(*[b"X: " + b"x" * 900] * 63, b"Y: " + b"y" * 9000, LENGTH),
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"G" * 100_000,
    ]
    for data in large:
        answers = raw(world.doors["http"], data + VIEW + HIDDEN)
        if [(answer.status, answer.code) for answer in answers] != [(431, "head_too_large")]:
            raise Failed(f"a head of {len(data)} bytes is answered with {answers}")
        total += answered(431) + refused("http", "head_too_large")
    return len(large), total


@case("HTTP: cut off")
def cut_off(world):
    total, address = Counter(), world.doors["http"]
    # A body shorter than it says, then the end: 400, nothing is taken.
    for data in (head(b"Content-Length: 500") + VIEW, head(TE) + b"fff\r\n" + VIEW, head(TE) + b"4"):
        answers = raw(address, data, half_close=True)
        if [(answer.status, answer.code) for answer in answers] != [(400, "body_cut_off")]:
            raise Failed(f"a body cut off is answered with {answers}")
        total += answered(400)
    # Half a head, then the end: nobody to answer.
    for data in (b"P", HIDDEN[:40], head(LENGTH)[:-1]):
        if raw(address, data, half_close=True):
            raise Failed(f"half a head is answered: {data!r}")
        total += refused("http", "unfinished_request")
    # Whole requests, and no more to say: each is answered.
    answers = raw(address, HIDDEN * 3, half_close=True)
    if [answer.status for answer in answers] != [200] * 3:
        raise Failed(f"three requests and the end are answered with {answers}")
    total += accepted(3) + answered(200, 3)
    # Nothing at all.
    if raw(address, b"", half_close=True):
        raise Failed("nothing is answered")
    # Gone in the middle of a body: what is told cannot be heard.
    for _ in range(20):
        stream = connected(address)
        send(stream, head(b"Content-Length: 500") + VIEW)
        time.sleep(0.01)
        reset(stream)
    return 28, total + answered(400, 20) + world.lost(("unfinished_request", "connection_broken"), 20)


@case("HTTP: fine, however odd")
def odd(world):
    """What RFC 9112 allows is answered as if it were plain."""
    address = world.doors["http"]
    fine = [
        b"\r\n\r\n" + HIDDEN,
        head(TE) + b"%x;a=b\r\n" % len(VIEW) + VIEW + b"\r\n0\r\nX: y\r\n\r\n",
        head(b"transfer-encoding:CHUNKED") + b"000%X\r\n" % len(VIEW) + VIEW + b"\r\n00\r\n\r\n",
        head(LENGTH, host=b"hOsT:\t127.0.0.1:1 ") + VIEW,
        head(LENGTH, first=b"POST http://localhost:7/v1/events HTTP/1.1") + VIEW,
        head(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", LENGTH) + VIEW,
        head(b"Expect: 100-continue", LENGTH) + VIEW,
        head(LENGTH, first=b"POST /v1/events HTTP/1.0", host=None) + VIEW,
        head(b"X: \xff\xfe", LENGTH) + VIEW,
        head(TE) + b"".join(b"1\r\n%c\r\n" % byte for byte in VIEW) + b"0\r\n\r\n",
    ]
    for data in fine:
        answers = raw(address, data, half_close=True)
        if [answer.status for answer in answers] != [200]:
            raise Failed(f"{data[:100]!r} is answered with {answers}")
    return len(fine), accepted(len(fine)) + answered(200, len(fine))


def bomb(mib, level=9):
    packer, data = zlib.compressobj(level, zlib.DEFLATED, 31), b" " * (1 << 20)
    return b"".join(packer.compress(data) for _ in range(mib)) + packer.flush()


@case("gzip")
def gzips(world):
    """Bombs, lies and damage. The limit, `limits.body_bytes`, is of what is unpacked."""
    address, total, sent = world.doors["http"], Counter(), 0
    huge = bomb(64 if world.quick else 1024)
    packed = gzip.compress(VIEW)
    noise = random.Random(7).randbytes(1000)
    bodies = [
        ("a bomb", huge, 413, "body_too_large"),
        ("a bomb in pieces", gzip.compress(VIEW) + huge, 413, "body_too_large"),
        ("many members", gzip.compress(b" " * (1 << 20)) * 20, 413, "body_too_large"),
        ("just over the limit", gzip.compress(b" " * (16 << 20) + b"{"), 413, "body_too_large"),
        ("cut off", packed[:-1], 400, "invalid_gzip"),
        ("half", packed[: len(packed) // 2], 400, "invalid_gzip"),
        ("a head alone", packed[:10], 400, "invalid_gzip"),
        ("garbage behind", packed + b"garbage", 400, "invalid_gzip"),
        ("a wrong sum", packed[:-8] + b"\0\0\0\0" + packed[-4:], 400, "invalid_gzip"),
        ("a wrong length", packed[:-4] + b"\xff\xff\xff\xff", 400, "invalid_gzip"),
        ("noise", noise, 400, "invalid_gzip"),
        ("noise with a head", packed[:10] + noise, 400, "invalid_gzip"),
        ("deflate", zlib.compress(VIEW), 400, "invalid_gzip"),
        ("nothing", b"", 400, "invalid_gzip"),
        ("an empty member", gzip.compress(b""), 400, "empty_body"),
    ]
    for name, body, status, code in bodies:
        for length in (True, False):
            framed = (
                body
                if length
                else b"".join(b"%x\r\n" % len(part) + part + b"\r\n" for part in pieces(body)) + b"0\r\n\r\n"
            )
            data = post(
                [b"Content-Encoding: gzip", b"Connection: close", *([] if length else [TE])],
                b"" if not length else body,
                length=length,
            )
            answers = raw(address, data + (b"" if length else framed), patience=60)
            if [(answer.status, answer.code) for answer in answers] != [(status, code)]:
                raise Failed(f"gzip, {name}: answered with {answers}")
            total += answered(status)
            sent += 1
    # Packed twice is no JSON; two members are one body; an event of a line in each member is fine.
    client = Http(address)
    for body, reasons in (
        (gzip.compress(packed), ["invalid_json"]),
        (packed, [None]),
        (gzip.compress(VIEW[:9]) + gzip.compress(VIEW[9:]), [None]),
    ):
        reply = client.ask(post([b"Content-Encoding: gzip"], body))
        found = [reject["reason"] for reject in reply.json()["rejects"]] or [None]
        # What is packed twice is no UTF-8 either, which is found first.
        if found != reasons and found != ["invalid_utf8"]:
            raise Failed(f"gzip: answered with {reply}")
        total += answered(reply.status) + (accepted() if found == [None] else rejected(found[0]))
        sent += 1
    client.close()
    return sent, total


def pieces(body):
    return [body[at : at + 50_000] for at in range(0, len(body), 50_000)]


@case("gzip bombs at once")
def bombs(world):
    """Sixteen at a time: each is answered 413, or 429 for want of room."""
    body, count, answers = bomb(64 if world.quick else 256), 16, []
    data = post([b"Content-Encoding: gzip", b"Connection: close"], body)

    def throw():
        answers.append(raw(world.doors["http"], data, patience=60)[0])

    threads = [threading.Thread(target=throw) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = Counter((answer.status, answer.code) for answer in answers)
    if set(found) - {(413, "body_too_large"), (429, "too_many_bodies")} or found.total() != count:
        raise Failed(f"{count} bombs at once are answered with {found}")
    late = found[(429, "too_many_bodies")]
    world.note = f"{count - late} times 413, {late} times 429"
    turned = Counter({'tally_source_turned_away_requests_total{source="http"}': late}) if late else Counter()
    return count, answered(413, count - late) + (answered(429, late) if late else Counter()) + turned


@case("HTTP: questions that are none")
def questions(world):
    """At the doors for questions: each is answered with a status of 4xx and a code."""
    paths = [
        b"/",
        b"/v1",
        b"/v1/status/x",
        b"/v1/aggregators/none",
        b"/v1/aggregators/video-actions?rows=-1",
        b"/v1/aggregators/video-actions?rows=1e9",
        b"/v1/aggregators/video-actions?rows=99999999999999999999999",
        b"/v1/aggregators/video-actions?min_sequence=x",
        b"/v1/aggregators/video-actions?wait=forever",
        b"/v1/aggregators/video-actions?unknown=1",
        b"/v1/aggregators/video-actions/none",
        b"/v1/aggregators/%ff%00",
        b"/v1/aggregators/" + b"a" * 10_000,
        b"/v1/aggregators/video-actions/posts?format=xml",
        b"/v1/aggregators/video-actions?rows=1&rows=2",
        b"/v1/rejected?rows=x",
        b"/v1/rejected?reason=none",
        b"/v1/../../etc/passwd",
    ]
    for door in ("query_tcp", "query"):
        for path in paths:
            answer = raw(world.doors[door], request(b"GET", path, [b"Connection: close"]))[0]
            if not 400 <= answer.status < 500 or not answer.code:
                raise Failed(f"{door}: {path[:80]!r} is answered with {answer}")
        for method in (b"POST", b"PUT", b"DELETE", b"X"):
            answer = raw(world.doors[door], request(method, b"/v1/status", [b"Connection: close"], VIEW))[0]
            if answer.status != 405:
                raise Failed(f"{door}: {method!r} is answered with {answer}")
    return 2 * (len(paths) + 4), Counter()

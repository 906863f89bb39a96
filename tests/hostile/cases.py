"""What cases are made of: a table of them, what they expect to be counted, and sending lines by every door that takes events."""

import json
import random
import socket
import time
from collections import Counter
from pathlib import Path

from wire import VIEW, Failed, Http, connected, lines, post, request, rest, send, verdicts

HERE = Path(__file__).parent
ACCEPTED = "tally_events_accepted_total"
# Reasons that say that a text is no event whatever its fields mean.
FAULTS = {"invalid_json", "invalid_utf8", "too_deep", "not_an_object"}

CASES = []


class Case:
    """One kind of hostility: a function that is given the world, sends, and returns how much it sent and what is to be counted."""

    def __init__(self, name, daemon, full_only, judge):
        self.name, self.daemon, self.full_only, self.judge = name, daemon, full_only, judge


def case(name, daemon="open", full_only=False):
    def register(judge):
        CASES.append(Case(name, daemon, full_only, judge))
        return judge

    return register


def rejected(reason, count=1):
    return Counter({f'tally_events_rejected_total{{reason="{reason}"}}': count})


def accepted(count=1):
    return Counter({ACCEPTED: count})


def ended(source, reason, count=1):
    return Counter({f'tally_source_connections_ended_total{{source="{source}",reason="{reason}"}}': count})


def source(counter, name, count=1):
    return Counter({f'tally_source_{counter}_total{{source="{name}"}}': count})


def refused(door, reason, count=1):
    return Counter({f'tally_door_refused_total{{door="{door}",reason="{reason}"}}': count})


def answered(status, count=1):
    return Counter({f'tally_door_answers_total{{door="http",status="{status}"}}': count})


def counted(reasons):
    """What verdicts come to: a reason, or None for what was accepted."""
    total = Counter()
    for reason in reasons:
        total += accepted() if reason is None else rejected(reason)
    return total


class Item:
    """A line and the outcomes it may have: reasons, None for accepted."""

    def __init__(self, name, line, allowed):
        self.name, self.line, self.allowed = name, line, allowed

    def check(self, door, found):
        if found not in self.allowed:
            wanted = " or ".join(sorted(str(one or "accepted") for one in self.allowed))
            raise Failed(f"{door}: {self.name} is {found or 'accepted'} and should be {wanted}: {self.line[:120]!r}")


def corpus():
    """The committed lines, and those too large to commit."""
    items = []
    for path in sorted((HERE / "corpus").glob("*/*")):
        outcome = None if path.parent.name == "accepted" else path.parent.name
        for line in path.read_bytes().split(b"\n")[:-1]:
            items.append(Item(f"{path.parent.name}/{path.name}", line, {outcome}))
    for name, outcome, line in generated():
        items.append(Item(name, line, {outcome}))
    return items


def generated():
    """Lines too large to commit: name, outcome, line."""
    head = VIEW[:-1]
    mib = 1 << 20
    exact = head + b',"x":"' + b"x" * (mib - len(head) - 8) + b'"}'
    yield "100,000 arrays", "too_deep", b"[" * 100_000
    yield "100,000 arrays, closed", "too_deep", head + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    yield "100,000 objects", "too_deep", head + b',"x":' + b'{"a":' * 100_000
    yield "100,000 fields", None, head + b"".join(b',"%d":1' % index for index in range(100_000)) + b"}"
    yield "100,000 times the same key", None, head + b',"a":1' * 100_000 + b"}"
    yield "100,000 commas", "invalid_json", head + b"," * 100_000 + b"}"
    yield "an array of 400,000 numbers", None, head + b',"x":[' + b"1," * 400_000 + b"1]}"
    yield "a number of 1,000,000 digits", None, head + b',"x":' + b"9" * 1_000_000 + b"}"
    yield "a string of 300,000 escapes", None, head + b',"x":"' + b"\\n" * 300_000 + b'"}'
    yield "a key of 1,000,000 bytes", None, head + b',"' + b"k" * 1_000_000 + b'":1}'
    yield "1 MiB", None, exact
    yield "1 MiB and a byte", "line_too_long", exact[:-2] + b'x"}'
    yield "1 MiB of zeros", "invalid_json", b"\0" * mib
    yield "4 MiB", "line_too_long", head + b',"x":"' + b"x" * 4 * mib + b'"}'
    yield "4 MiB of zeros", "line_too_long", b"\0" * 4 * mib
    yield "2 MiB that are no UTF-8", "line_too_long", b"\xff" * 2 * mib
    noise = random.Random(20260127)
    for index in range(200):
        line = bytes(noise.randrange(128, 256) for _ in range(noise.randrange(1, 200)))
        yield f"noise {index}", "invalid_utf8", b'{"\xff' + line


def conformance(field):
    """The documents of the JSON corpus as this field of an event."""
    read = field == "user_id"
    documents = [(path.stem, path.read_bytes()) for path in sorted((HERE / "json").glob("*.json"))]
    documents.append(("n_structure_100000_opening_arrays", b"[" * 100_000))
    documents.append(("n_structure_open_array_object", b'[{"":' * 50_000))
    for name, document in documents:
        valid = {"y": True, "n": False}.get(name[0])
        if valid is None:
            valid = name.startswith("i_number") or ("surrogate" in name and is_utf8(document))
        # What a field cannot hold is refused by who reads it: that is no verdict on the JSON.
        allowed = ({None, "refused_by_all"} if read else {None}) if valid else FAULTS
        rest_of_it = b'"resource_type":"posts:1","action":"view","type":"action"'
        user = b"" if read else b'"user_id":"u1",'
        yield Item(name, b"{" + user + rest_of_it + b',"' + field.encode() + b'":' + document + b"}", allowed)


def is_utf8(document):
    try:
        document.decode()
        return True
    except UnicodeDecodeError:
        return False


def on_one_line(items):
    """A newline ends a line: between tokens it becomes the white space that a line can have."""
    return [Item(item.name, item.line.replace(b"\n", b"\t"), item.allowed) for item in items]


def by_stream(address, door, items, hello=b'{"tally":"ack"}\n'):
    """All of them over one connection with answers."""
    answers = lines(address, b"".join(item.line + b"\n" for item in items), hello)
    found = verdicts(answers, len(items))
    for item, reason in zip(items, found):
        item.check(door, reason)
    return counted(found) + ended(door, "finished")


def by_plain_stream(address, door, items):
    """All of them over one connection that wants no answers."""
    with connected(address) as stream:
        send(stream, b"".join(item.line + b"\n" for item in items))
        stream.shutdown(socket.SHUT_WR)
        said, how = rest(stream)
    if (said, how) != (b"", "end"):
        raise Failed(f"{door}: a connection that wants no answers ends with {how} and {said[:100]!r}")
    return expected(items) + ended(door, "finished")


def by_datagrams(address, items):
    """A datagram each."""
    send_datagrams(address, [item.line for item in items])
    return expected(items)


def send_datagrams(address, lines):
    """A datagram each, no faster than the daemon takes them from the kernel."""
    host, port = address.rsplit(":", 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        waiting = 0
        for line in lines:
            waiting += len(line) + 1000
            if waiting > 100_000:
                wait_for_kernel(int(port))
                waiting = 0
            door.sendto(line, (host, int(port)))
    wait_for_kernel(int(port))


def wait_for_kernel(port):
    """Until no datagram waits at this port."""
    until = time.monotonic() + 60
    while True:
        rows = [row.split() for row in Path("/proc/net/udp").read_text().splitlines()[1:]]
        queues = [row[4].split(":")[1] for row in rows if row[1].endswith(f":{port:04X}")]
        if all(int(queue, 16) == 0 for queue in queues):
            return
        if time.monotonic() > until:
            raise Failed("the daemon takes no datagrams")
        time.sleep(0.001)


def expected(items):
    return counted(next(iter(item.allowed)) for item in items)


def by_request(address, items):
    """A request each, over one connection."""
    total, client = Counter(), Http(address)
    for item in items:
        reply = client.ask(post([], item.line))
        total += judged("http", item, reply, 1, 0) + answered(reply.status)
    client.close()
    return total


def by_array(address, items):
    """A request each, between two good events in an array: a text that is no JSON as a whole has no events."""
    total, client = Counter(), Http(address)
    for item in items:
        reply = client.ask(post([], b"[" + VIEW + b"," + item.line + b"," + VIEW + b"]"))
        verdict = reply.json()
        if (verdict["accepted"], verdict["rejected"]) == (0, 1) and verdict["rejects"][0]["reason"] == "invalid_json":
            if not item.allowed & FAULTS:
                raise Failed(f"http array: {item.name} makes the body no JSON: {item.line[:120]!r}")
            total += rejected("invalid_json") + answered(400)
        else:
            total += judged("http array", item, reply, 3, 1) + answered(reply.status)
    client.close()
    return total


def judged(door, item, reply, count, index):
    """One event among `count` in one request."""
    verdict = reply.json()
    reason = verdict["rejects"][0]["reason"] if verdict.get("rejects") else None
    item.check(door, reason)
    wanted = (count - 1 + (reason is None), int(reason is not None))
    found = (verdict["accepted"], verdict["rejected"])
    if found != wanted or (reason and verdict["rejects"][0]["index"] != index):
        raise Failed(f"{door}: {item.name} is answered with {reply}")
    if reply.status != (400 if verdict["accepted"] == 0 and reason else 200):
        raise Failed(f"{door}: {item.name} is answered with {reply}")
    return accepted(verdict["accepted"]) + (rejected(reason) if reason else Counter())


def by_lines_in_requests(address, items, step=100):
    """Many to a request, a line each."""
    total, client = Counter(), Http(address)
    for begin in range(0, len(items), step):
        some = items[begin : begin + step]
        body = b"".join(item.line + b"\n" for item in some)
        headers = [b"Content-Type: application/x-ndjson"]
        reply = client.ask(request(b"POST", b"/v1/events", headers, body))
        found = [None] * len(some)
        for reject in reply.json()["rejects"]:
            found[reject["index"]] = reject["reason"]
        for item, reason in zip(some, found):
            item.check("http lines", reason)
        total += counted(found) + answered(reply.status)
    client.close()
    return total


def balanced(line):
    return line.count(b"[") == line.count(b"]") and line.count(b"{") == line.count(b"}")


def for_bodies(items, longest=12 << 20):
    """Those that mean the same as the body of a request as on a line of their own."""
    return [item for item in items if item.line.strip()[:1] != b"[" and len(item.line) < longest]


def for_arrays(items):
    """Those that mean the same as an element of an array."""
    found = []
    for item in items:
        if item.name == "invalid_json/two_on_a_line":
            continue
        # Before the length of an event or its nesting can be told, the array must be JSON.
        no_json = not balanced(item.line) or (item.allowed == {"line_too_long"} and item.line[:1] != b"{")
        allowed = FAULTS if no_json and None not in item.allowed else item.allowed
        found.append(Item(item.name, item.line, allowed))
    return found


def dump(value):
    return json.dumps(value).encode()

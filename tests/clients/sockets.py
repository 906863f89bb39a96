"""Python's sockets against the Unix, TCP and UDP doors: lines and frames, with and without answers, and resuming."""

import json
import socket
import struct

from doors import DOORS, address, saw, view


def connect(door, hello=None):
    """A connection and its answers, after a first line."""
    sock = socket.socket(socket.AF_UNIX) if door == "unix" else socket.socket()
    sock.settimeout(30)
    sock.connect(DOORS[door] if door == "unix" else address(door))
    if hello is not None:
        sock.sendall(json.dumps({"tally": "ack", **hello}).encode() + b"\n")
    return sock, sock.makefile("rb")


def line(event):
    return json.dumps(event).encode() + b"\n"


def until(answers, durable):
    """The answer that `durable` lines are, and all rejects on the way."""
    rejects = []
    while True:
        answer = json.loads(answers.readline())
        rejects += answer["rejects"]
        if answer["durable"] >= durable:
            return answer, rejects


def msgpack(value):
    """As much of MessagePack as events need."""
    if isinstance(value, dict):
        assert len(value) < 16
        return bytes([0x80 | len(value)]) + b"".join(msgpack(k) + msgpack(v) for k, v in value.items())
    if isinstance(value, int):
        return b"\xd3" + struct.pack(">q", value)
    text = value.encode()
    return b"\xd9" + bytes([len(text)]) + text


def frame(data):
    return struct.pack(">I", len(data)) + data


accepted = rejected = duplicates = 0
for door in ("unix", "tcp"):
    # Lines with answers, in pieces that end anywhere, the last without a newline.
    sock, answers = connect(door, {})
    text = b"".join(line(view(f"{door}{n}", n % 5)) for n in range(1000))
    text += b"nonsense\n\n" + line({"user_id": "x"}) + b"\r\n" + line(view("last", 1))
    for start in range(0, len(text) - 1, 777):
        sock.sendall(text[start : min(start + 777, len(text) - 1)])
    sock.shutdown(socket.SHUT_WR)
    answer, rejects = until(answers, 1005)
    assert (answer["durable"], answer["rejected"]) == (1005, 2), answer
    assert rejects == [[1001, "invalid_json"], [1003, "missing_type"]], rejects
    assert answers.read() == b"", "nothing comes after the last answer"
    accepted, rejected = accepted + 1001, rejected + 2

    # The same ids again.
    sock, answers = connect(door, {})
    sock.sendall(line(view("id", 1, event_id=f"{door}-1")) * 3)
    answer, _ = until(answers, 3)
    assert answer["duplicates"] == 2, answer
    accepted, duplicates = accepted + 1, duplicates + 2
    sock.close()

    # A producer that goes on where it was.
    name = {"producer": f"sockets-{door}"}
    sock, answers = connect(door, name)
    assert json.loads(answers.readline()) == {"resume": 0}
    sock.sendall(line(view("p", 1)) * 10)
    until(answers, 10)
    sock.close()
    sock, answers = connect(door, name)
    assert json.loads(answers.readline()) == {"resume": 10}
    # A second one of this name takes its place.
    second, more = connect(door, name)
    assert json.loads(more.readline()) == {"resume": 10}
    sock.settimeout(30)
    last = answers.readlines()
    assert last and "error" in json.loads(last[-1]), last
    second.sendall(line(view("p", 2)))
    until(more, 1)
    second.close()
    accepted += 11

    # Frames.
    sock, answers = connect(door, {"encoding": "msgpack"})
    good = frame(msgpack(view("m", 3, n=-5)))
    sock.sendall(good + frame(msgpack("text")) + good + frame(b"\xc1") + good)
    answer, rejects = until(answers, 5)
    assert [number for number, _ in rejects] == [2, 4], rejects
    accepted, rejected = accepted + 3, rejected + 2
    sock.close()

    # Without answers: all that is known is that the daemon read to the end.
    sock, answers = connect(door)
    sock.sendall(line(view("silent", 1)) * 100)
    sock.shutdown(socket.SHUT_WR)
    assert answers.read() == b""
    accepted += 100

    # First lines that are meant as a handshake and are none.
    for hello in ({"tally": "hello"}, {"producer": ""}, {"encoding": "xml"}, {"producer": 5}):
        sock, answers = connect(door, hello)
        answer = json.loads(answers.readline())
        assert answer["error"] == "bad_handshake" and answer["message"], (hello, answer)
        assert answers.read() == b"", "the connection is closed"

# Datagrams: one event, several, a wrong one. They are not answered; few of them are not lost on one machine.
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.connect(address("udp"))
for number in range(20):
    udp.send(line(view("udp", number)).rstrip())
udp.send(line(view("udp", 1)) * 10)
udp.send(b"nonsense")
udp.send(b"")
accepted, rejected = accepted + 30, rejected + 1

saw(accepted=accepted, rejected=rejected, duplicates=duplicates)

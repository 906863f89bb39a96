#!/usr/bin/env python3
"""Sends events to Tally over its Unix socket, so that each is counted once, whatever dies on the way.

    python3 producer.py /tmp/tally/tally.sock api-1 < events.ndjson

Every line has a number. Tally remembers by the producer's name how many lines it has decided and says so on each
connection, so the producer goes on behind them: after a lost connection, after a restart of Tally, or of itself, when
it reads the same events again. Needs nothing beyond Python's standard library. Copy it.
"""

import collections
import json
import socket
import sys
import time


class Producer:
    """One connection at a time, under a name that no other producer uses."""

    def __init__(self, path, name, window=1000):
        self.path = path
        self.name = name
        self.window = window  # how many events may wait for their acknowledgement
        self.waiting = collections.deque()  # events that are not acknowledged yet, as lines
        self.decided = 0  # how many lines of this producer Tally has decided, ever
        self.rejects = []  # (number of the line, reason)
        self.connect()
        # A producer that reads the same events again skips so many; one that makes new ones goes on counting from here.
        self.resumed_at = self.decided

    def send(self, event):
        """Sends a dict; waits only when too many are not acknowledged yet."""
        line = json.dumps(event).encode() + b"\n"
        self.waiting.append(line)
        try:
            self.socket.sendall(line)
        except OSError:
            self.reconnect()
        while len(self.waiting) > self.window:
            self.read_answer()

    def flush(self):
        """Returns when everything sent is decided and on disk."""
        while self.waiting:
            self.read_answer()

    def read_answer(self):
        """{"durable":N,"sequence":S,"rejected":R,"rejects":[[line,"reason"],...]}: N lines of this connection are done."""
        try:
            answer = self.answer()
        except OSError:
            return self.reconnect()
        if "error" in answer:  # Such as another producer of this name.
            raise RuntimeError(f"Tally refuses: {answer['message']}")
        if "closing" in answer:
            return self.reconnect()
        self.rejects += [(self.start + line, reason) for line, reason in answer["rejects"]]
        self.drop(self.start + answer["durable"])

    def drop(self, decided):
        """Forgets lines that Tally has decided."""
        while self.waiting and self.decided < decided:
            self.waiting.popleft()
            self.decided += 1

    def connect(self):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(self.path)
        self.answers = self.socket.makefile("rb")
        self.socket.sendall(json.dumps({"tally": "ack", "producer": self.name}).encode() + b"\n")
        answer = self.answer()
        if "resume" not in answer:
            raise ConnectionError(answer.get("message", answer))
        self.start = answer["resume"]  # {"resume":N}: what is sent from here on is line N+1 and so on
        self.drop(self.start)
        self.decided = self.start
        self.socket.sendall(b"".join(self.waiting))

    def answer(self):
        line = self.answers.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError("the connection was closed")
        return json.loads(line)

    def reconnect(self):
        pause = 0.05
        while True:
            self.socket.close()
            try:
                return self.connect()
            except OSError:
                time.sleep(pause)
                pause = min(2 * pause, 5)


def main():
    path, name = sys.argv[1:]
    producer = Producer(path, name)
    for number, line in enumerate(sys.stdin, start=1):
        if number > producer.resumed_at:
            producer.send(json.loads(line))
    producer.flush()
    for number, reason in producer.rejects:
        print(f"line {number}: {reason}", file=sys.stderr)
    print(f"{producer.decided} lines decided in all, {len(producer.rejects)} rejected now")


if __name__ == "__main__":
    main()

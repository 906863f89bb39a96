#!/usr/bin/env python3
"""A well-behaved client in a process of its own: an event every few milliseconds whatever the answers do, each acknowledged.

    bystander.py ADDRESS RATE

A line on standard input, `stop`, ends a stretch: it waits until everything is answered and says on standard output, as JSON, how many
events it has sent in all and how long those of the stretch took until they were durable, counted from when each was due. `go` begins
the next stretch. It ends with its input.
"""

import json
import os
import select
import sys
import time

from wire import VIEW, connected


def main():
    address, rate = sys.argv[1], float(sys.argv[2])
    stream = connected(address)
    stream.sendall(b'{"tally":"ack"}\n')
    file, sent, durable = b"", 0, 0
    due, going = [], False
    times = []
    next_due = 0.0
    while True:
        now = time.monotonic()
        pause = max(0.0, next_due - now) if going else 1.0
        ready, _, _ = select.select([stream, sys.stdin], [], [], pause)
        if stream in ready:
            piece = stream.recv(65_536)
            if not piece:
                print(
                    json.dumps({"error": f"the connection ended after {durable} of {sent} events: {file!r}"}),
                    flush=True,
                )
                return
            file, now = file + piece, time.monotonic()
            *answers, file = file.split(b"\n")
            for answer in map(json.loads, answers):
                if answer.get("rejected") != 0:
                    print(json.dumps({"error": f"answered {answer}"}), flush=True)
                    return
                times.extend(now - moment for moment in due[: answer["durable"] - durable])
                del due[: answer["durable"] - durable]
                durable = answer["durable"]
        if sys.stdin in ready:
            said = os.read(0, 100)
            if not said:
                return
            # Of several words the last one counts.
            going = said.split()[-1] == b"go"
            next_due = time.monotonic()
        now = time.monotonic()
        while going and next_due <= now:
            stream.sendall(VIEW + b"\n")
            due.append(next_due)
            sent, next_due = sent + 1, next_due + 1 / rate
        if not going and next_due and durable == sent:
            times.sort()
            at = lambda part: round(times[min(len(times) - 1, int(part * len(times)))] * 1000, 2) if times else 0.0
            figures = {"sent": sent, "count": len(times), "p50": at(0.5), "p99": at(0.99), "most": at(1.0)}
            print(json.dumps(figures), flush=True)
            times.clear()
            next_due = 0.0


if __name__ == "__main__":
    main()

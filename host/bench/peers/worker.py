"""What workers for peers that are libraries have in common. library.py starts a worker in the peer's own Python. The first line on its
standard input is its settings, each further line the path of a file. For each file it prints `done` once the peer has its numbers, and
then its answer as JSON: turning rows into JSON is not the peer's work.
"""

import json
import os
import sys


def answer_requests(job):
    """`job(settings)` gives a function that takes a path, does the work, and gives a function that gives the answer."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    # Whatever a library prints goes to stderr, so that answers stand alone.
    os.dup2(2, 1)
    run = job(json.loads(sys.stdin.readline()))
    print("ready", file=answers)
    for line in sys.stdin:
        answer = run(line.strip())
        print("done", file=answers)
        print(json.dumps(answer()), file=answers)

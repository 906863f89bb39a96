"""Peers that are libraries: a worker in the peer's own Python reads files by itself and computes. There is no server and no client."""

import json
import subprocess
from pathlib import Path

import packages
from lacks import Lacks
from processes import Failed, end, start

HERE = Path(__file__).parent


class Library:
    """A worker that stays, so that its start is not measured."""

    counts_warm_up = False
    events_divisor = 1
    warm_up = 200_000

    def __init__(self, name, place, environments, folder):
        self.place, self.folder, self.name = place, folder, name
        self.python = packages.python_of(name, environments)

    def __enter__(self):
        self.log = open(self.folder / f"{self.name}.log", "w")
        command = [self.python, "-B", HERE / f"{self.name}_worker.py"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.log, "text": True, "bufsize": 1}
        self.process = start(command, self.place.server, cwd=self.folder, **pipes)
        self.root = self.process.pid
        settings = {"threads": len(self.place.server), "folder": str(self.folder)}
        self._tell(json.dumps(settings))
        self._hear("ready")
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        end(self.process)
        self.log.close()

    def prepare(self, file):
        return file

    def run(self, file):
        self._tell(file)
        self._hear("done")

    def answer(self):
        return json.loads(self._line())

    def version(self):
        return packages.PINNED[self.name].replace("==", " ")

    def _tell(self, line):
        try:
            self.process.stdin.write(f"{line}\n")
        except BrokenPipeError:
            self._hear("an answer")

    def _line(self):
        line = self.process.stdout.readline()
        if not line:
            said = (self.folder / f"{self.name}.log").read_text().strip().splitlines() or ["nothing"]
            errors = [text for text in said if "Exception" in text or "Error" in text]
            raise Failed(f"{self.name} ended and said: {(errors or said)[-1][:300]}")
        return line.strip()

    def _hear(self, expected):
        line = self._line()
        if line != expected:
            raise Failed(f"{self.name} said {line[:100]!r} instead of {expected!r}")


class DuckDb(Library):
    title = "DuckDB"
    how = "`read_json` into a table in memory, then SQL"
    lacks = Lacks(
        durable="no: nothing is acknowledged, the table is in memory",
        answers="no: the file has to be complete, each answer is computed anew",
        users="yes",
        replay="by reading the file again",
        needs="whatever takes the events and writes the file",
    )

    def __init__(self, *arguments):
        super().__init__("duckdb", *arguments)


class ChDb(Library):
    title = "chDB (ClickHouse)"
    how = "`file(…, JSONEachRow)` into a `Memory` table, then SQL"
    lacks = DuckDb.lacks

    def __init__(self, *arguments):
        super().__init__("chdb", *arguments)


class Flink(Library):
    title = "Flink"
    how = "SQL as a stream over a file, mini-batches of 50,000 or 1 s, state on the heap; of posts only the hot one is compared"
    lacks = Lacks(
        durable="no: it has no log of its own, and checkpoints are off here",
        answers="yes, by mini-batch",
        users="yes",
        replay="from a source that keeps the events",
        needs="that source (a broker or files), Java",
    )
    # Java compiles while it runs, and on one core that takes about so many events. It is slower than the others by a multiple.
    events_divisor = 2
    warm_up = 2_000_000

    def __init__(self, *arguments):
        packages.programs("java")
        super().__init__("flink", *arguments)

    def version(self):
        return f"{super().version()}, {packages.version('java', '-version')}"

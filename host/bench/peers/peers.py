#!/usr/bin/env python3
"""Other programs on the same events as Tally: the same numbers, what they cost, and what each leaves out.

    peers.py --tally target/release/tally --plugins target/plugins --folder target/peers [--events N] [--only WORDS] [--runs N]

The job is that of the plugins video-actions and homepage-fetch: counts by action, distinct users exactly, six counters and a score for
each post, the hot post. Each peer does it in its own usual bulk way, once everything has started and a first part has been worked off
outside of the clock. Every answer is held against a count in plain Python; a wrong one is shown as wrong. What cannot be had here is a
row that says why. Python's packages are installed into --folder, Debian's by apt-get when this runs as root.

The main figure is processor seconds for a million events, of all processes of a peer: it says what others that work on the same
machine meanwhile change least. Nothing but Python's standard library.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

import expected
from lacks import HEADINGS
from library import ChDb, DuckDb, Flink
from packages import say
from postgresql_peer import PostgreSql, PostgreSqlTuned
from processes import Failed, PeakMemory, cpu_seconds, end_all, environment
from redis_peer import RedisAlways, RedisEverySecond
from tally_peer import Tally

LIBRARIES = {"duckdb": DuckDb, "chdb": ChDb, "flink": Flink}
SERVERS = {"redis": (RedisEverySecond, RedisAlways), "postgresql": (PostgreSql, PostgreSqlTuned)}


@dataclass
class Place:
    """Cores of what is measured, and of its client."""

    name: str
    server: list
    client: list


def places():
    cores = sorted(os.sched_getaffinity(0))
    one = Place("one core", cores[-1:], cores[-2:-1] or cores[-1:])
    return one, Place(f"{len(cores)} cores", cores, cores)


def rows(arguments, environments):
    """What is measured where: a name, a place, and what makes the peer in a folder of its own."""
    one, every = places()
    tally = lambda place: lambda folder, sockets: Tally(place, arguments.tally, arguments.plugins, folder, sockets)
    server = lambda kind: lambda folder, sockets: kind(one, folder, sockets)
    library = lambda kind, place: lambda folder, _: kind(place, environments, folder)
    return [
        ("tally", one, Tally, tally(one)),
        ("tally", every, Tally, tally(every)),
        *(
            (name, place, kind, library(kind, place))
            for name, kind in LIBRARIES.items()
            for place in (one, every)
        ),
        *((name, one, kind, server(kind)) for name, kinds in SERVERS.items() for kind in kinds),
    ]


class Files:
    """Events in files, by how many, and the independent count of each."""

    def __init__(self, tally, folder):
        self.tally, self.folder, self.counts = tally, folder, {}

    def of(self, events):
        file = self.folder / f"events-{events}.ndjson"
        if not file.exists():
            with open(file, "wb") as out:
                subprocess.run([self.tally, "generate", "--events", str(events)], stdout=out, env=environment(), check=True)
            # Servers may run as somebody else.
            file.chmod(0o644)
        return file

    def count(self, *events):
        if events not in self.counts:
            say(f"counting {' + '.join(f'{number:,}' for number in events)} events in plain Python")
            self.counts[events] = expected.count([self.of(number) for number in events])
        return self.counts[events]


def measure(make, kind, place, files, events, folder):
    """One run of one peer: its figures."""
    scratch = Path(tempfile.mkdtemp(dir=folder))
    sockets = Path(tempfile.mkdtemp(prefix="tally-peers-"))
    for path in (scratch, sockets):
        path.chmod(0o711)
    warm_up = min(kind.warm_up, events)
    try:
        with make(scratch, sockets) as peer:
            peer.run(peer.prepare(files.of(warm_up)))
            peer.answer()
            work = peer.prepare(files.of(events))
            before = cpu_seconds(peer.root)
            with PeakMemory(peer.root) as memory:
                started = time.monotonic()
                client = peer.run(work)
                took = time.monotonic() - started
                getattr(peer, "settle", lambda: None)()
                cpu = cpu_seconds(peer.root) - before
            counted = (warm_up, events) if kind.counts_warm_up else (events,)
            wrong = expected.difference(peer.answer(), files.count(*counted))
            return {
                "peer": peer.title,
                "place": place.name,
                "events": events,
                "events_per_second": events / took,
                "cpu_s_per_million": cpu / events * 1e6,
                "client_cpu_s_per_million": None if client is None else client / events * 1e6,
                "peak_rss_bytes": memory.peak,
                "wrong": wrong,
                "version": peer.version(),
                "how": peer.how,
                "leaves_out": asdict(peer.lacks),
            }
    finally:
        end_all()
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(sockets, ignore_errors=True)


FIGURES = ("events_per_second", "cpu_s_per_million", "client_cpu_s_per_million", "peak_rss_bytes")


def median(runs):
    """One result for all runs; the first wrong answer stays."""
    result = dict(runs[0])
    for name in FIGURES:
        values = [run[name] for run in runs]
        if None not in values:
            result[name], result[f"{name}_spread"] = statistics.median(values), [min(values), max(values)]
    result["wrong"] = next((run["wrong"] for run in runs if run["wrong"]), None)
    return result


def table(results):
    """For people, as Markdown."""
    lines = [
        "| Peer | Where | Events | Events/s | CPU s per million | of its client | Peak memory | Answer |",
        "|---|---|--:|--:|--:|--:|--:|---|",
    ]
    for result in results:
        if "problem" in result:
            lines.append(f"| {result['peer']} | {result['place']} | | | | | | not measured: {result['problem']} |")
            continue
        client = result["client_cpu_s_per_million"]
        cells = [
            result["peer"],
            result["place"],
            f"{result['events']:,}",
            f"{result['events_per_second']:,.0f}",
            f"{result['cpu_s_per_million']:.2f}",
            "" if client is None else f"{client:.2f}",
            f"{result['peak_rss_bytes'] / 2**20:,.0f} MiB",
            f"WRONG: {result['wrong']}" if result["wrong"] else "right",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    told = {result["peer"]: result for result in results if "problem" not in result}
    if not told:
        return "\n".join(lines)
    lines += ["", "| Peer | Version | How |", "|---|---|---|"]
    lines += [f"| {peer} | {result['version']} | {result['how']} |" for peer, result in told.items()]
    lines += ["", f"| What each leaves out | {' | '.join(HEADINGS.values())} |", "|---" * (1 + len(HEADINGS)) + "|"]
    lines += [f"| {peer} | {' | '.join(result['leaves_out'][name] for name in HEADINGS)} |" for peer, result in told.items()]
    return "\n".join(lines)


def arguments():
    parser = argparse.ArgumentParser(prog="cargo xtask bench --peers", description=__doc__.splitlines()[0])
    parser.add_argument("--tally", required=True, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--plugins", required=True, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--folder", required=True, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--events", type=int, default=5_000_000, help="events; slow peers get a half or a fifth of them [5000000]")
    parser.add_argument("--runs", type=int, default=1, help="how often each is measured; medians are shown [1]")
    parser.add_argument("--only", default="", help="peers, with commas: tally, duckdb, chdb, flink, redis, postgresql")
    parser.add_argument("--dir", type=Path, help="where files and data directories are made [below --folder]")
    parser.add_argument("--output", choices=("table", "json"), default="table", help="json is one line per row [table]")
    return parser.parse_args()


def main():
    options = arguments()
    # As Ctrl-C does: what was started ends, and folders go.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("peers: ended by SIGTERM"))
    environments = options.folder.resolve()
    environments.mkdir(parents=True, exist_ok=True)
    every = rows(options, environments)
    only = {name for name in options.only.split(",") if name}
    if unknown := only - {name for name, *_ in every}:
        sys.exit(f"there is no peer {', '.join(sorted(unknown))}")
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=options.dir or environments))
    folder.chmod(0o711)
    results = []
    try:
        files = Files(options.tally, folder)
        for name, place, kind, make in every:
            if only and name not in only:
                continue
            results.append(result_of(place, kind, make, files, folder, options))
            if options.output == "json":
                print(json.dumps(results[-1]), flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if options.output == "table":
        print(table(results))
    sys.exit(1 if any(result.get("wrong") for result in results) else 0)


def result_of(place, kind, make, files, folder, options):
    """All runs of one peer in one place; what keeps it from being measured is a result, too."""
    events = max(options.events // kind.events_divisor, 1)
    runs = []
    try:
        for number in range(options.runs):
            runs.append(measure(make, kind, place, files, events, folder))
            figures = ", ".join(f"{figure} {runs[-1][figure]:,.2f}" for figure in FIGURES if runs[-1][figure] is not None)
            say(f"{runs[-1]['peer']}, {place.name}, run {number + 1}: {figures}, {runs[-1]['wrong'] or 'right'}")
        return median(runs)
    except Failed as failure:
        problem = str(failure)
    except (OSError, subprocess.SubprocessError, ValueError, TypeError, LookupError) as failure:
        traceback.print_exc()
        problem = f"{type(failure).__name__}: {failure}"
    say(f"{kind.title}, {place.name}: {problem}")
    return {"peer": kind.title, "place": place.name, "problem": problem}


if __name__ == "__main__":
    main()

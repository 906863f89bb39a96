#!/usr/bin/env python3
"""Hostile input against a real daemon: every kind by every door where it makes sense, with a well-behaved client beside it.

    hostile.py --tally target/release/tally --plugins target/plugins [--quick] [--only WORDS]

For each case: what it sent is answered or closed with the reason it should be; exactly the counters that should have moved have moved
(all counters of events, refusals and ends are watched); the daemon lives; its memory did not grow by 64 MiB, the peak counted; and the
client beside it is served as before: its 99th percentile is a violation when it is more than twice of what it was before and more than
20 ms, three times in a row (in --quick it is only printed). In the end SIGTERM ends each daemon cleanly and `tally verify` finds every
number as the log has it. The last line is `violations: N`; the exit code is 0 when there are none and every case ran.

Nothing but Python's standard library. Cases are in lines_cases.py, connection_cases.py and http_cases.py, lines in corpus/ and json/.
"""

import argparse
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import cases

# These register their cases.
import connection_cases
import http_cases
import lines_cases
from daemon import Bystander, Daemon
from wire import VIEW, Failed, Http, lines, post

MOST_GROWTH_MIB = 64
# The well-behaved client: events per second, and what of its latency is a violation.
RATE = 200
WORSE, FLOOR_MS, TRIES = 2.0, 20.0, 3
# So few samples have no 99th percentile.
FEWEST = 100
# Seconds for the daemon to count what it has answered.
PATIENCE = 20
# Seconds to wait for counts that may not come.
LATE = 3

CERTIFICATES = Path(__file__).resolve().parents[2] / "host/cli/tests/tls"
SETTINGS = {
    "open": "",
    "guarded": 'limits.header_timeout = "1s"\nlimits.idle_timeout = "2s"\ntcp.token_file = "{folder}/token"\nhttp.token_file = "{folder}/token"\n',
    "tls": 'limits.header_timeout = "1s"\n'
    + "".join(
        f'{door}.tls_cert = "{CERTIFICATES}/cert.pem"\n{door}.tls_key = "{CERTIFICATES}/key.pem"\n'
        for door in ("tcp", "http")
    ),
    "crowd": 'limits.connections = 12000\nlimits.header_timeout = "10m"\n',
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tally", required=True, type=Path, help="the binary")
    parser.add_argument("--plugins", required=True, type=Path, help="folder with video-actions and homepage-fetch")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, and without what takes long")
    parser.add_argument("--only", default="", help="only cases whose name has this in it")
    return parser.parse_args()


class World:
    """A daemon and the client beside it, as cases see them."""

    def __init__(self, daemon, bystander, quick):
        self.daemon, self.bystander, self.quick = daemon, bystander, quick
        self.doors, self.note, self.alternatives = daemon.doors, "", []
        self.before, self.sent_before = Counter(), 0

    def begin(self):
        self.note, self.alternatives = "", []
        self.before, self.sent_before = self.daemon.counts(), self.bystander.sent

    def moved(self):
        """What was counted since the beginning, the client beside it left out while it stands still."""
        now = self.daemon.counts()
        now.subtract(self.before)
        now[cases.ACCEPTED] -= self.bystander.sent - self.sent_before
        return Counter({name: count for name, count in now.items() if count})

    def metric(self, name):
        return self.daemon.metrics().get(name, 0)

    def wait_until(self, done, patience=PATIENCE):
        until = time.monotonic() + patience
        while not done():
            if time.monotonic() > until:
                raise Failed("the daemon does not come to what was waited for")
            time.sleep(0.05)

    def wait_for(self, wanted, patience=PATIENCE):
        self.wait_until(lambda: all(self.moved()[name] >= count for name, count in wanted.items()), patience)

    def settle_queue(self):
        """Waits until everything read is decided; the client beside stands still."""
        self.bystander.stop()
        before = None
        while (
            before != (before := (self.daemon.status()["ledger"]["received"], self.daemon.status()["queue"]["lines"]))
            or before[1]
        ):
            time.sleep(0.3)

    def either(self, *ways):
        """Counts that may fall either way, but come to the same number."""
        self.alternatives.append((Counter(name for way in ways for name in way), next(iter(ways[0].values()))))

    def lost(self, reasons, count):
        """Connections to the HTTP door that went away: how many of them are noticed as what depends on when."""
        self.either(*[cases.refused("http", reason, count) for reason in reasons])
        return Counter()

    def missing(self, wanted):
        """How many of those that may fall either way were not counted yet."""
        moved = self.moved()
        found = sum(moved[name] - wanted[name] for names, _ in self.alternatives for name in names)
        return sum(count for _, count in self.alternatives) - found

    def difference(self, wanted):
        """What was counted otherwise than wanted."""
        moved, problems = self.moved(), []
        for names, count in self.alternatives:
            found = sum(moved.pop(name, 0) - wanted.get(name, 0) for name in names)
            wanted = Counter({name: value for name, value in wanted.items() if name not in names})
            if found > count:
                problems.append(f"{sorted(names)} moved by {found} instead of at most {count}")
        for name in sorted(set(moved) | set(wanted)):
            if moved[name] != wanted[name]:
                problems.append(f"{name} moved by {moved[name]} instead of {wanted[name]}")
        return problems


class Table:
    """What is printed, and the violations."""

    def __init__(self):
        self.violations, self.rows, self.sent = [], 0, 0
        print(
            f"{'case':45} {'sent':>8} {'as expected':>11} {'seconds':>8} {'MiB more':>8} {'p99 before':>10} {'beside':>8}",
            flush=True,
        )

    def row(self, case, sent, problems, seconds, growth, before, beside, note):
        self.rows, self.sent = self.rows + 1, self.sent + sent
        fine = "yes" if not problems else "NO"
        later = f"{beside['p99']:8.1f}" if beside["count"] >= FEWEST else f"{'-':>8}"
        print(
            f"{case.name:45} {sent:8} {fine:>11} {seconds:8.1f} {growth:8.1f} {before['p99']:10.1f} {later}  {note}",
            flush=True,
        )
        for problem in problems:
            self.violation(f"{case.name}: {problem}")

    def violation(self, text):
        self.violations.append(text)
        print(f"  VIOLATION {text}", flush=True)


def warm_up(daemon, kind):
    """What well-behaved clients do, until memory has its usual size: the newest events, `log.tail_bytes`, are kept in it."""
    lines(daemon.doors["unix"], (VIEW + b"\n") * 1_000_000)
    if kind == "tls":
        return
    token = b',"token":"open-sesame"' if kind == "guarded" else b""
    lines(daemon.doors["tcp"], (VIEW + b"\n") * 20_000, b'{"tally":"ack"%s}\n' % token)
    client = Http(daemon.doors["http"])
    for _ in range(20):
        client.ask(post([b"Authorization: Bearer open-sesame"], b"[" + b",".join([VIEW] * 1000) + b"]"))
    client.close()


def run_case(world, case, before, table, base):
    """One case, up to three times where the client beside it waited long."""
    for attempt in range(1, TRIES + 1):
        world.begin()
        world.daemon.forget_peak()
        world.bystander.go()
        began, sent, problems = time.monotonic(), 0, []
        try:
            sent, wanted = case.judge(world)
        except Failed as error:
            problems, wanted = [str(error)], None
        seconds = time.monotonic() - began
        beside = world.bystander.stop()
        if wanted is not None:
            until = time.monotonic() + PATIENCE
            while (problems := world.difference(wanted)) and time.monotonic() < until:
                time.sleep(0.1)
            # What is counted late must not be the next case's.
            until = time.monotonic() + LATE
            while world.missing(wanted) and time.monotonic() < until:
                time.sleep(0.1)
        growth = (world.daemon.memory()[1] - base) / 1024
        if growth >= MOST_GROWTH_MIB:
            problems.append(f"memory grew by {growth:.1f} MiB, {MOST_GROWTH_MIB} are too many")
        slow = beside["count"] >= FEWEST and beside["p99"] > max(WORSE * before["p99"], FLOOR_MS)
        if not slow or problems or world.quick:
            break
        note = f"{world.note} (p99 beside: {beside['p99']} ms, once more)" if attempt < TRIES else world.note
        if attempt < TRIES:
            table.row(case, sent, problems, seconds, growth, before, beside, note)
            before = world.bystander.stretch(3)
    if slow and not world.quick:
        problems.append(
            f"p99 beside it was {before['p99']} ms before and {beside['p99']} ms while, {TRIES} times in a row"
        )
    table.row(case, sent, problems, seconds, growth, before, beside, world.note)


def run_daemon(given, kind, chosen, folder, table):
    daemon = Daemon(given.tally.resolve(), given.plugins, folder / kind, SETTINGS[kind])
    bystander = Bystander(daemon.doors["unix"], RATE)
    try:
        warm_up(daemon, kind)
        before = bystander.stretch(2 if given.quick else 10)
        base = daemon.memory()[0]
        print(
            f"-- a daemon, {kind}: {base / 1024:.1f} MiB; beside it {RATE} events/s, p50 {before['p50']} ms, p99 {before['p99']} ms"
        )
        world = World(daemon, bystander, given.quick)
        for case in chosen:
            run_case(world, case, before, table, base)
            if not given.quick:
                before = bystander.stretch(3)
        check_end(world, table)
        bystander.end()
        daemon.stop()
    except (Failed, OSError, ValueError, KeyError) as error:
        traceback.print_exc()
        table.violation(f"{kind}: {error}\n{(folder / kind / 'daemon.log').read_text()[-2000:]}")
    finally:
        bystander.process.kill()
        daemon.kill()


def check_end(world, table):
    """The whole ledger, and that nothing was logged as a bug."""
    ledger = world.daemon.status()["ledger"]
    rejected, dropped = sum(ledger["rejected"].values()), sum(ledger["dropped"].values())
    print(
        f"   received {ledger['received']} = accepted {ledger['accepted']} + rejected {rejected} + duplicate {ledger['duplicate']} + dropped {dropped}"
    )
    if ledger["received"] != ledger["accepted"] + rejected + ledger["duplicate"] + dropped:
        table.violation(f"the ledger does not balance: {ledger}")
    log = (world.daemon.folder / "daemon.log").read_text()
    if "panicked" in log or "this is a bug" in log:
        table.violation(f"the daemon's log has a bug: {log[-2000:]}")


def main():
    given = arguments()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < 16_000 and not given.quick:
        print(f"violations: 1\nthe limit of open files, {soft}, must be 16,000 at least (ulimit -n)")
        return 1
    folder, table = Path(tempfile.mkdtemp(prefix="tally-hostile-")), Table()
    chosen = [case for case in cases.CASES if given.only in case.name and not (given.quick and case.full_only)]
    for kind in SETTINGS:
        if some := [case for case in chosen if case.daemon == kind]:
            run_daemon(given, kind, some, folder, table)
    if table.rows < len(chosen):
        table.violation(f"only {table.rows} of {len(chosen)} cases ran")
    shutil.rmtree(folder)
    print(f"{len(chosen)} cases, {table.sent} hostile inputs")
    print(f"violations: {len(table.violations)}")
    return 1 if table.violations else 0


if __name__ == "__main__":
    sys.exit(main())

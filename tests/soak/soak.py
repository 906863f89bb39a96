#!/usr/bin/env python3
"""Lets a real daemon work for minutes with everything at once; checks that its books are right and that it does not grow.

All doors take events at the same time: lines with and without answers, a producer whose connections break, MessagePack
frames, HTTP requests of which some are repeated, datagrams, a client that hardly reads its answers, connections that come
and go, malformed lines everywhere. Meanwhile a plugin is replaced by another build of itself every 5 to 10 seconds, the
configuration changes every 7, a question comes every 200 ms and the metrics are read every 5 seconds.

    soak.py --tally target/release/tally --plugins target/plugins --other target/fixtures/video-actions-alt.wasm

In the end every client's own count (what it was told, or what it sent where nothing is told) must equal the daemon's
ledger, the ledgers must balance, memory and open files must not have grown, SIGTERM must end the daemon with 0 and `tally
verify` must find everything equal. Exit code 0 when all of it holds, otherwise 1 and a sentence for each thing that is off.

Nothing but Python's standard library; the clients are in clients.py. Knows the product only from outside.
"""

import argparse
import http.client
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import namedtuple
from pathlib import Path

import clients
from clients import Books, Doors, Failed
from template import Template

# The keys that SIGHUP changes, and the two values each takes in turn. Lines are below or above both `line_bytes`.
CHANGING = {
    "flush": {"events": (100_000, 70_000), "interval": ("3s", "2s")},
    "limits": {
        "line_bytes": ("32KiB", "24KiB"),
        "connections": (512, 256),
        "batch_rows": (16384, 1000),
        "body_bytes": ("16MiB", "8MiB"),
        "rejected_bytes": ("8MiB", "4MiB"),
        "idle_timeout": ("10m", "5m"),
    },
    "query": {"max_staleness": ("1s", "200ms"), "max_rows": (10_000, 9_000)},
}
# Below this the thirds of a run are too short to say anything about memory: caches are still filling.
MINUTES_TO_JUDGE = 5
MOST_GROWTH = 1.10
MOST_MORE_FILES = 10
# Saved state is merged by and by: its size goes up and down, and a little up with the logarithm of the number of cuts.
MOST_MORE_STATE = 1.25
# Seconds for the daemon to do what takes it none.
PATIENCE = 60


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tally", required=True, type=Path, help="the binary")
    parser.add_argument("--plugins", required=True, type=Path, help="folder with video-actions and homepage-fetch")
    parser.add_argument("--other", required=True, type=Path, help="another build of video-actions")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=int, default=30_000, help="events per second, over all doors")
    parser.add_argument("--keep", action="store_true", help="keep the folder and say where it is")
    return parser.parse_args()


def environment():
    """Without what the caller's shell says to `tally`."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TALLY_")}


class Daemon:
    """The process, its folder, and what can be seen of it from outside."""

    def __init__(self, arguments, folder):
        self.tally, self.folder = arguments.tally.resolve(), folder
        self.log, self.config = folder / "daemon.log", folder / "tally.toml"
        (folder / "plugins").mkdir()
        for name in ("video-actions", "homepage-fetch"):
            shutil.copy(arguments.plugins / f"{name}.wasm", folder / "plugins")
        self.builds = [(folder / "plugins/video-actions.wasm").read_bytes(), arguments.other.read_bytes()]
        self.configure(0)
        command = [self.tally, "run", "--config", self.config]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment())
        ready = self.process.stdout.readline().decode()
        if not ready.startswith("tally is ready: "):
            raise Failed(f"the daemon does not become ready: {ready!r}\n{self.log.read_text()}")
        self.doors = Doors(dict(word.split("=", 1) for word in ready.split()[3:]))
        self.admin = clients.Asker(self.doors["admin"])

    def configure(self, turn):
        """Writes the file; the log is kept whole, so that `verify` replays all of it."""
        fixed = f"""data_dir = "{self.folder}/data"
plugins_dir = "{self.folder}/plugins"
unix = {{ path = "{self.folder}/t.sock" }}
tcp = {{ listen = "127.0.0.1:0" }}
udp = {{ listen = "127.0.0.1:0" }}
http = {{ listen = "127.0.0.1:0" }}
log = {{ retain_bytes = "1TiB", retain_age = "30d", tail_bytes = "32MiB" }}
dedupe = {{ ids = 100000 }}
"""
        for section, keys in CHANGING.items():
            fixed += f"[{section}]\n" + "".join(f"{key} = {toml(value[turn % 2])}\n" for key, value in keys.items())
            fixed += 'listen = "127.0.0.1:0"\n' if section == "query" else ""
        replace(self.config, fixed.encode())

    def rss_kib(self):
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        if not found:
            raise Failed(f"the daemon ended by itself with {self.process.wait(PATIENCE)}")
        return int(found[1])

    def open_files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def metrics(self):
        """Every sample by its name and labels."""
        text = self.admin.get("/metrics").decode()
        samples = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in samples}

    def run(self, *command):
        return subprocess.run([self.tally, *command], capture_output=True, text=True, env=environment())


def toml(value):
    return str(value) if isinstance(value, int) else f'"{value}"'


def replace(path, content):
    hidden = path.with_name(f".{path.name}.new")
    hidden.write_bytes(content)
    hidden.rename(path)


def reload_plugins(daemon, stop, counts):
    """Puts the other build in place and waits until it runs; the daemon is told every other time, or has to notice."""
    asker = clients.Asker(daemon.doors["admin"])
    running = lambda: next(p for p in asker.json("/v1/plugins")["plugins"] if p["name"] == "video-actions")
    while not stop.wait(random.uniform(5, 10)):
        before = running()["running_digest"]
        counts["plugins replaced"] += 1
        replace(daemon.folder / "plugins/video-actions.wasm", daemon.builds[counts["plugins replaced"] % 2])
        if counts["plugins replaced"] % 2:
            asker.json("/v1/plugins/reload", method="POST")
        until = time.monotonic() + 30
        while running()["running_digest"] == before:
            if time.monotonic() > until:
                raise Failed(f"a replaced plugin does not run after 30 s: {running()}")
            time.sleep(0.1)


def change_configuration(daemon, stop, counts):
    while not stop.wait(7):
        counts["SIGHUPs"] += 1
        daemon.configure(counts["SIGHUPs"])
        daemon.process.send_signal(signal.SIGHUP)


def watch_metrics(daemon, stop, counts):
    """Counters never go down."""
    before = {}
    while not stop.wait(5):
        now = daemon.metrics()
        counts["metrics read"] += 1
        for name, value in before.items():
            if "_total" in name.split("{")[0] and now.get(name, 0) < value:
                raise Failed(f"the metric {name} went down from {value} to {now.get(name, 0)}")
        before = now


def watch(daemon, seconds, background, asker):
    """Prints a line every 10 seconds until the time is over or something failed; gives a sample of every second."""
    started, samples = time.monotonic(), []
    print("  time   sequence   received   accepted  rejected  duplicate dropped  queue(B) state(MiB)  RSS(MiB) files")
    while (elapsed := time.monotonic() - started) < seconds and not background.problems:
        samples.append(Sample(daemon.rss_kib() / 1024, daemon.open_files(), state(asker.json("/v1/status"))))
        if len(samples) % 10 == 1:
            print_line(elapsed, asker.json("/v1/status"), samples[-1])
        time.sleep(max(0.0, started + len(samples) - time.monotonic()))
    print_line(time.monotonic() - started, asker.json("/v1/status"), samples[-1])
    return samples


Sample = namedtuple("Sample", "memory files state")


def state(status):
    """What the aggregators have saved, in MiB."""
    return sum(aggregator["state_bytes"] for aggregator in status["aggregators"].values()) / 2**20


def print_line(elapsed, status, sample):
    ledger = status["ledger"]
    rejected, dropped = sum(ledger["rejected"].values()), sum(ledger["dropped"].values())
    print(
        f"{elapsed:5.0f}s {status['sequence']:10} {ledger['received']:10} {ledger['accepted']:10} {rejected:9}"
        f" {ledger['duplicate']:10} {dropped:7} {status['queue']['bytes']:9} {sample.state:10.1f} {sample.memory:9.1f}"
        f" {sample.files:5}"
    )


class Background:
    """Threads whose exceptions are kept instead of lost."""

    def __init__(self, problems):
        self.threads, self.problems = [], problems

    def start(self, what, *given):
        def guarded():
            try:
                what(*given)
            except Exception as error:  # pylint: disable=broad-except
                kind = "" if isinstance(error, Failed) else f"{type(error).__name__}: "
                self.problems.append(f"{getattr(what, '__qualname__', what)}: {kind}{error}")

        self.threads.append(threading.Thread(target=guarded, daemon=True))
        self.threads[-1].start()

    def join(self):
        until = time.monotonic() + PATIENCE
        for thread in self.threads:
            thread.join(max(0.1, until - time.monotonic()))
        if any(thread.is_alive() for thread in self.threads):
            self.problems.append(f"a client did not finish within {PATIENCE} s of being told to")


def settled(asker, wanted):
    """The status once as many lines are decided as the clients know of, or 10 seconds later."""
    until = time.monotonic() + 10
    while True:
        status = asker.json("/v1/status")
        if (status["ledger"]["received"] >= wanted and status["queue"]["lines"] == 0) or time.monotonic() > until:
            return status
        time.sleep(0.1)


def compare(daemon, books, asker, problems):
    """The clients' counts against the daemon's, and the daemon's among themselves."""
    status = settled(asker, sum(book.lines for door, book in books.doors.items() if door != "udp"))
    # Every aggregator answers as of the last event.
    for name in status["aggregators"]:
        answer = asker.json(f"/v1/aggregators/{name}?min_sequence={status['sequence']}&wait=60s")
        print(f"{name}: as of {answer['as_of_sequence']}, {answer['summary']}")
        if not answer["complete"]:
            problems.append(f"the aggregator {name} is not complete")
    status = asker.json("/v1/status")
    metrics, ledger = daemon.metrics(), status["ledger"]
    rejected, dropped = sum(ledger["rejected"].values()), sum(ledger["dropped"].values())

    def equal(what, clients_say, daemon_says):
        print(f"  {what}: clients {clients_say}, daemon {daemon_says}")
        if clients_say != daemon_says:
            problems.append(f"{what}: the clients count {clients_say}, the daemon {daemon_says}")

    source = lambda metric, door: int(metrics[f'tally_source_{metric}_total{{source="{door}"}}'])
    # Of datagrams nobody is told anything, and the system may drop some: what came is what the daemon counts.
    udp = books.doors["udp"]
    lost = int(metrics["tally_udp_kernel_dropped_datagrams_total"])
    equal("udp datagrams", udp.datagrams, source("datagrams", "udp") + lost)
    taken = source("lines", "udp")
    udp_is_whole = lost == 0 and source("dropped_lines", "udp") == 0
    if udp_is_whole:
        equal("udp lines", udp.lines, taken)
    elif taken > udp.lines:
        problems.append(f"udp: {udp.lines} lines were sent, {taken} came")
    for door in ("unix", "tcp", "http"):
        book = books.doors[door]
        print(f"  {door}: {book.told} of {book.lines} lines were answered one way or the other")
        equal(f"{door} lines", book.lines, source("lines", door))
    total = books.total(without=() if udp_is_whole else ("udp",))
    more = 0 if udp_is_whole else taken
    equal("lines received", total.lines + more, ledger["received"] - dropped)
    equal("duplicates", total.duplicates, ledger["duplicate"])
    if udp_is_whole:
        equal("accepted", total.accepted, ledger["accepted"])
        equal("rejected", total.rejected, rejected)
    else:
        print(f"  {lost} datagrams and {source('dropped_lines', 'udp')} lines of datagrams were dropped for want of room")
        by_udp = (ledger["accepted"] - total.accepted, rejected - total.rejected)
        if min(by_udp) < 0 or by_udp[0] > udp.accepted or by_udp[1] > udp.rejected or sum(by_udp) != taken:
            problems.append(f"what is left for udp does not add up: {by_udp} of {taken} lines")
    balance(status, ledger, rejected, dropped, problems)


def balance(status, ledger, rejected, dropped, problems):
    parts = ledger["accepted"] + rejected + ledger["duplicate"] + dropped
    print(f"  log: {status['log']}; {status['records_written']} records written")
    print(f"  ledger: received {ledger['received']} = accepted {ledger['accepted']} + rejected {rejected}"
          f" + duplicate {ledger['duplicate']} + dropped {dropped}")
    if ledger["received"] != parts:
        problems.append(f"the ledger does not balance: {ledger}")
    if not ledger["accepted"] == status["sequence"]:
        problems.append(f"{ledger['accepted']} accepted events have sequences up to {status['sequence']}")
    for name, aggregator in status["aggregators"].items():
        own = aggregator["ledger"]
        parts = sum(own[part] for part in ("applied", "not_subscribed", "skipped", "expired", "late_not_applied", "pending"))
        parts += sum(own["refused"].values())
        print(f"  {name}: {own}, {aggregator['memory_bytes']} bytes of memory, {aggregator['state_bytes']} of state")
        if own["accepted"] != parts or own["accepted"] != ledger["accepted"]:
            problems.append(f"the ledger of {name} does not balance with {ledger['accepted']} accepted events: {own}")


def judge_growth(samples, minutes, problems):
    third = len(samples) // 3
    if third == 0:
        return
    parts = [samples[:third], samples[third : 2 * third], samples[2 * third :]]
    memory = [statistics.median(sample.memory for sample in part) for part in parts]
    files = [statistics.median(sample.files for sample in part) for part in parts]
    saved = [max(sample.state for sample in part) for part in parts]
    print(f"memory, median of each third: {memory[0]:.1f}, {memory[1]:.1f}, {memory[2]:.1f} MiB"
          f" ({(memory[2] / memory[1] - 1) * 100:+.1f} % from the second to the last);"
          f" most {max(sample.memory for sample in samples):.1f} MiB")
    print(f"open files, median of each third: {files[0]:.0f}, {files[1]:.0f}, {files[2]:.0f};"
          f" most {max(sample.files for sample in samples)}")
    print(f"saved state, most of each third: {saved[0]:.1f}, {saved[1]:.1f}, {saved[2]:.1f} MiB")
    if files[2] > files[1] + MOST_MORE_FILES:
        problems.append(f"open files grew from {files[1]:.0f} to {files[2]:.0f} from the second third to the last")
    if minutes < MINUTES_TO_JUDGE:
        print(f"growth of memory and of saved state is judged from {MINUTES_TO_JUDGE} minutes on")
        return
    if memory[2] > memory[1] * MOST_GROWTH:
        problems.append(f"memory grew from {memory[1]:.1f} to {memory[2]:.1f} MiB from the second third to the last")
    if saved[2] > saved[1] * MOST_MORE_STATE:
        problems.append(f"saved state grew from {saved[1]:.1f} to {saved[2]:.1f} MiB from the second third to the last")


def judge_log(daemon, counts, problems):
    lines = daemon.log.read_text(errors="replace").splitlines()
    counts["activations"] = sum("activated" in line for line in lines)
    counts["settings changed"] = sum(" changed key=" in line for line in lines)
    wanted = counts["SIGHUPs"] * sum(map(len, CHANGING.values()))
    if counts["settings changed"] != wanted:
        problems.append(f"{counts['SIGHUPs']} SIGHUPs are to change {wanted} settings, not {counts['settings changed']}")
    bad = [line for line in lines if " ERROR " in line or "panicked" in line]
    warnings = sorted({line.split(" WARN ")[1] for line in lines if " WARN " in line})
    print(f"{', '.join(f'{count} {what}' for what, count in counts.items())}; {len(warnings)} different warnings")
    print("".join(f"  {warning}\n" for warning in warnings[:10]), end="")
    problems += [f"the daemon logged: {line}" for line in bad[:10]]


def soak(arguments, folder, problems):
    lines = subprocess.run(
        [arguments.tally, "generate", "--events", "20000", "--seed", "11", "--homepage", "0.1", "--invalid", "0.01"]
        + ["--refused", "0.002", "--unsubscribed", "0.05", "--disorder", "0.05"],
        capture_output=True, check=True, env=environment(),
    ).stdout.splitlines(keepends=True)
    template = Template.of_lines(lines)
    daemon = Daemon(arguments, folder)
    try:
        files_at_rest = daemon.open_files()
        asker, books = clients.Asker(daemon.doors["admin"]), Books()
        background, watchers = Background(problems), Background(problems)
        stop, counts = threading.Event(), {"plugins replaced": 0, "SIGHUPs": 0, "metrics read": 0, "questions": 0}
        lines, frames = clients.learn(template, daemon.doors, books)
        for client in clients.all_of_them(daemon.doors, books, lines, frames, arguments.rate, stop):
            background.start(client.run)
        for watcher in (reload_plugins, change_configuration, watch_metrics):
            watchers.start(watcher, daemon, stop, counts)
        watchers.start(clients.ask_questions, daemon.doors, books, stop, counts)
        samples = watch(daemon, arguments.minutes * 60, background, asker)
        stop.set()
        background.join()
        watchers.join()
        print(f"the sources have stopped; {daemon.open_files()} open files, {files_at_rest} at the start")
        compare(daemon, books, asker, problems)
        judge_growth(samples, arguments.minutes, problems)
        daemon.process.send_signal(signal.SIGTERM)
        code = daemon.process.wait(PATIENCE)
        print(f"SIGTERM: exit code {code}")
        if code != 0:
            problems.append(f"SIGTERM ended the daemon with {code}")
        judge_log(daemon, counts, problems)
    finally:
        if daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()
    verified = daemon.run("verify", "--data-dir", folder / "data")
    print(f"tally verify: {(verified.stdout + verified.stderr).strip()}")
    if verified.returncode != 0:
        problems.append("tally verify found a difference")


def main():
    given = arguments()
    folder = Path(tempfile.mkdtemp(prefix="tally-soak-"))
    problems = []
    try:
        soak(given, folder, problems)
    except (Failed, OSError, http.client.HTTPException) as error:
        problems.append(f"{type(error).__name__}: {error}")
    finally:
        if given.keep or problems:
            print(f"kept {folder}")
        else:
            shutil.rmtree(folder)
    for problem in problems:
        print(f"WRONG: {problem}")
    if not problems:
        print(f"all is well after {given.minutes:g} minutes")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()

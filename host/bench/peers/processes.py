"""Processes that are started here, and what they cost, from /proc. Knows nothing of what they do."""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")

# What was started and perhaps runs.
_started = []


class Failed(Exception):
    """A peer could not be measured; says why."""


def environment():
    """Without what the caller's shell says to `tally` or to PostgreSQL's programs."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("TALLY_", "PG"))}


def start(command, cores, **options):
    """Starts a program that may use these cores only, in a session of its own."""
    place = lambda: os.sched_setaffinity(0, cores)
    words = [str(word) for word in command]
    try:
        process = subprocess.Popen(words, env=environment(), preexec_fn=place, start_new_session=True, **options)
    except OSError as error:
        raise Failed(f"cannot start {command[0]}: {error}") from error
    _started.append(process)
    return process


def finish(process, what):
    """Waits for its end, which must be a success; its processor seconds."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise Failed(f"{what} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def end(process, how=signal.SIGTERM, patience=30):
    """Ends a program that was started here."""
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def end_all():
    """Ends what still runs of all that was started here: what failed while it started, say."""
    while _started:
        process = _started.pop()
        if process.poll() is None:
            process.kill()
            process.wait()


def _stat(pid):
    """Parent and processor ticks of a process, those of its dead children with it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[1]), sum(int(field) for field in fields[11:15])


def family(root):
    """Ids of a process and all below it, with their ticks."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                found[int(entry)] = _stat(entry)
            except (OSError, IndexError, ValueError):
                pass  # It ended meanwhile.
    members, grew = {root}, True
    while grew:
        more = {pid for pid, (parent, _) in found.items() if parent in members} - members
        members |= more
        grew = bool(more)
    return {pid: found[pid][1] for pid in members if pid in found}


def cpu_seconds(root):
    """Processor seconds of a process and all below it, living or dead."""
    return sum(family(root).values()) / TICKS


def _kib(pid, file, name):
    try:
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


class PeakMemory:
    """The most memory of a process and all below it while this is open, in bytes. One process: the kernel's own mark. Several: what
    was seen twice a second, pages that they share counted once."""

    def __init__(self, root):
        self.root, self.peak, self.open = root, 0, threading.Event()
        self.watching = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self.watching.start()
        return self

    def __exit__(self, *_):
        self._look()
        self.open.set()
        self.watching.join()

    def _look(self):
        pids = list(family(self.root))
        if len(pids) == 1:
            kib = _kib(pids[0], "status", "VmHWM:")
        else:
            kib = sum(_kib(pid, "smaps_rollup", "Pss:") for pid in pids)
        self.peak = max(self.peak, kib * 1024)

    def _watch(self):
        while not self.open.wait(0.5):
            self._look()


def until(done, what, patience=120.0, pause=0.02):
    """Waits until something is so; when that was."""
    deadline = time.monotonic() + patience
    while not done():
        if time.monotonic() > deadline:
            raise Failed(f"{what} took more than {patience:.0f} s")
        time.sleep(pause)
    return time.monotonic()

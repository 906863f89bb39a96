"""The daemon as hostile.py sees it: a process, its doors, what it counts and the memory it holds. Knows the product only from outside."""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from wire import Failed, connected

# What counts events, refusals and ends. Anything of it that moves without being expected is a violation.
WATCHED = re.compile(
    r"tally_events_(accepted|rejected|duplicate|dropped)_total"
    r"|tally_source_(connections_(ended|refused)|unfinished_lines|unqueued_lines|unread_answers|turned_away_requests"
    r"|accept_errors|dropped_lines)_total"
    r"|tally_udp_kernel_dropped_datagrams_total"
    r'|tally_door_(refused|panicked_connections|accept_errors)_total\{door="(?!admin)'
    r'|tally_door_answers_total\{door="http"'
)


def environment():
    """Without what the caller's shell says to `tally`."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TALLY_")}


class Daemon:
    """A process with every door open."""

    def __init__(self, tally, plugins, folder, settings=""):
        self.folder, self.tally = folder, tally
        (folder / "plugins").mkdir(parents=True)
        for name in ("video-actions", "homepage-fetch"):
            shutil.copy(plugins / f"{name}.wasm", folder / "plugins")
        (folder / "token").write_text("open-sesame\n")
        (folder / "tally.toml").write_text(f"""data_dir = "{folder}/data"
plugins_dir = "{folder}/plugins"
unix.path = "{folder}/t.sock"
tcp.listen = "127.0.0.1:0"
udp.listen = "127.0.0.1:0"
http.listen = "127.0.0.1:0"
query.listen = "127.0.0.1:0"
logs.level = "error"
{settings.format(folder=folder)}""")
        with (folder / "daemon.log").open("wb") as log:
            command = [tally, "run", "--config", folder / "tally.toml"]
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment())
        ready = self.process.stdout.readline().decode()
        if not ready.startswith("tally is ready: "):
            raise Failed(f"the daemon does not become ready: {ready!r}\n{(folder / 'daemon.log').read_text()}")
        self.doors = dict(word.split("=", 1) for word in ready.split()[3:])
        self.admin = None

    def get(self, path):
        """An answer of the admin door, by a connection that stays."""
        for attempt in (1, 2):
            try:
                if self.admin is None:
                    self.admin = http.client.HTTPConnection("localhost", timeout=60)
                    self.admin.sock = connected(self.doors["admin"])
                self.admin.request("GET", path, headers={"Host": "localhost"})
                return self.admin.getresponse().read()
            except (http.client.HTTPException, OSError):
                self.admin = None
                if attempt == 2 or self.process.poll() is not None:
                    raise Failed(f"the daemon does not answer {path}; exit code {self.process.poll()}") from None
        return b""

    def metrics(self):
        samples = (line.rsplit(" ", 1) for line in self.get("/metrics").decode().splitlines() if line[:1] != "#")
        return {name: float(value) for name, value in samples}

    def counts(self):
        """Watched counters that are not zero."""
        return Counter({name: int(value) for name, value in self.metrics().items() if WATCHED.match(name) and value})

    def status(self):
        return json.loads(self.get("/v1/status"))

    def memory(self):
        """Resident now, and the most since the last `forget_peak`, in KiB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return tuple(int(re.search(rf"{name}:\s+(\d+) kB", text)[1]) for name in ("VmRSS", "VmHWM"))

    def forget_peak(self):
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def open_files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stop(self):
        """A clean end, and every number proved from the log."""
        if self.admin:
            self.admin.close()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        if code != 0:
            raise Failed(f"SIGTERM ends the daemon with {code}")
        verify = [self.tally, "verify", "--data-dir", self.folder / "data"]
        done = subprocess.run(verify, capture_output=True, text=True, env=environment(), check=False)
        if done.returncode != 0:
            raise Failed(f"tally verify: {done.stdout[-500:]}{done.stderr[-500:]}")

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Bystander:
    """See bystander.py."""

    def __init__(self, address, rate):
        command = [sys.executable, "-B", Path(__file__).with_name("bystander.py"), address, str(rate)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.sent = 0

    def go(self):
        self.say("go")

    def stop(self):
        """Figures of the stretch."""
        self.say("stop")
        figures = json.loads(self.process.stdout.readline() or '{"error": "the well-behaved client ended"}')
        if "error" in figures:
            raise Failed(f"the well-behaved client: {figures['error']}")
        self.sent = figures["sent"]
        return figures

    def say(self, word):
        self.process.stdin.write(f"{word}\n".encode())
        self.process.stdin.flush()

    def stretch(self, seconds):
        self.go()
        time.sleep(seconds)
        return self.stop()

    def end(self):
        self.process.stdin.close()
        self.process.wait(10)

"""Tally itself, by its own commands: `tally run` with defaults and `tally send --ack` beside it."""

import http.client
import json
import shutil
import socket
import subprocess

import packages
from expected import ACTIONS
from lacks import Lacks
from processes import Failed, end, finish, start, until

COLUMNS = ("views", "plays", "pauses", "unmutes", "carousel_left", "carousel_right")


class Tally:
    """A daemon that stays; it counts what it was warmed up with, too."""

    title = "Tally"
    how = "`tally run` with defaults, `tally send --ack` over the Unix socket"
    lacks = Lacks(
        durable="yes, by `fdatasync`",
        answers="yes, at most a second old",
        users="by 64-bit hash",
        replay="within the log's retention",
        needs="a plugin for each question: no SQL over events",
    )
    counts_warm_up = True
    events_divisor = 1
    warm_up = 200_000

    def __init__(self, place, tally, plugins, folder, sockets):
        self.place, self.tally, self.plugins, self.folder = place, tally, plugins, folder
        self.socket = sockets / "tally"
        self.sent = 0

    def __enter__(self):
        own = self.folder / "plugins"
        own.mkdir()
        for name in ("video-actions", "homepage-fetch"):
            shutil.copy(self.plugins / f"{name}.wasm", own)
        self.log = open(self.folder / "tally.log", "w")
        command = [self.tally, "run", "--data-dir", self.folder / "data", "--plugins-dir", own, "--unix", self.socket]
        output = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": self.log, "text": True}
        self.process = start([*command, "--log-level", "warn"], self.place.server, **output)
        self.root = self.process.pid
        if not self.process.stdout.readline().startswith("tally is ready"):
            raise Failed(f"tally did not start: {(self.folder / 'tally.log').read_text().strip()[-300:]}")
        return self

    def __exit__(self, *_):
        end(self.process)
        self.log.close()

    def prepare(self, file):
        with open(file, "rb") as lines:
            self.lines = sum(1 for _ in lines)
        return file

    def run(self, file):
        command = [self.tally, "send", file, "--to", f"unix:{self.socket}", "--ack"]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": self.log}
        client = finish(start(command, self.place.client, **quiet), "tally send")
        self.sent += self.lines
        until(self._applied, "applying what was acknowledged", pause=0.005)
        return client

    def settle(self):
        """Records of flushes are written behind; that is work, too."""
        until(lambda: self._ask("/v1/status")["records_behind"] == 0, "writing records")

    def answer(self):
        wait = f"rows=0&min_sequence={self.sent}&wait=60s"
        actions = self._ask(f"/v1/aggregators/video-actions?{wait}")
        homepage = self._ask(f"/v1/aggregators/homepage-fetch?{wait}")
        summary = {**actions["summary"], **homepage["summary"]}
        answer = {action: summary.get(column) for action, column in zip(ACTIONS, COLUMNS)}
        same = ("total_events", "total_visitors", "hot_post_score", "homepage_fetches", "unique_visitors")
        answer |= {name: summary.get(name) for name in same}
        answer["hot_post"] = (summary.get("hot_post") or "").removeprefix("post_")
        answer["posts"] = {row["post_id"]: [row[column] for column in COLUMNS] for row in actions["tables"]["posts"]}
        return answer

    def version(self):
        return packages.version(self.tally, "--version")

    def _applied(self):
        behind, last = 1.0, 0.0
        page = self._get("/metrics").decode()
        lags = [float(line.split()[-1]) for line in page.splitlines() if line.startswith("tally_aggregator_lag_events")]
        behind = max(lags, default=1.0)
        for line in page.splitlines():
            if line.startswith("tally_log_last_sequence "):
                last = float(line.split()[-1])
        return behind == 0 and last >= self.sent

    def _ask(self, path):
        return json.loads(self._get(path))

    def _get(self, path):
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(120)
        connection.sock.connect(f"{self.socket}.query")
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        if answer.status != 200:
            raise Failed(f"tally answered {path} with {answer.status}: {body[:200]}")
        return body

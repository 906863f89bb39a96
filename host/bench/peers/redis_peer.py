"""Redis: a command for each number that an event changes, pipelined by `redis-cli --pipe` from a file that was prepared before, so that
neither parsing nor a slow client is charged to it."""

import json
import socket
import subprocess
from dataclasses import replace

import packages
from expected import ACTIONS, WEIGHTS, answer_of, score
from lacks import Lacks
from processes import Failed, end, finish, start, until

BATCH = 20_000


def command(*words):
    """A command as the protocol has it."""
    return f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)


class Redis:
    """A server that stays. `fsync` is its appendfsync."""

    how = "`HINCRBY`, `SADD`, `HINCRBY`, `ZINCRBY` an event by `redis-cli --pipe`, written before the clock starts"
    counts_warm_up = False
    # Slower than the others by a multiple, and the prepared file is large.
    events_divisor = 5
    warm_up = 200_000

    def __init__(self, place, folder, sockets):
        self.place, self.folder, self.socket = place, folder, sockets / "redis"
        self.server, self.client = packages.programs("redis-server", "redis-cli")

    def __enter__(self):
        self.log = open(self.folder / "redis.log", "w")
        settings = ["--port", "0", "--unixsocket", self.socket, "--dir", self.folder, "--save", "", "--appendonly", "yes"]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": self.log, "stderr": self.log}
        self.process = start([self.server, *settings, "--appendfsync", self.fsync], self.place.server, **quiet)
        self.root = self.process.pid
        until(self._answers, "the start of redis-server", patience=20)
        return self

    def __exit__(self, *_):
        end(self.process)
        self.log.close()

    def prepare(self, file):
        protocol = self.folder / "commands"
        with open(file, "rb") as lines, open(protocol, "w", newline="") as out:
            for line in lines:
                event = json.loads(line)
                user = event["user_id"]
                if event["type"] == "action":
                    action, post = event["action"], event["resource_type"].removeprefix("posts:")
                    text = command("HINCRBY", "totals", action, "1") + command("SADD", "visitors", user)
                    text += command("HINCRBY", f"post:{post}", action, "1")
                    weight = WEIGHTS[ACTIONS.index(action)]
                    if weight:
                        text += command("ZINCRBY", "hot", str(weight), post)
                    out.write(text)
                elif event["type"] == "homepage_fetch":
                    out.write(command("INCR", "fetches") + command("SADD", "fetchers", user))
        self._ask([("FLUSHALL",)])
        return protocol

    def run(self, protocol):
        with open(protocol, "rb") as commands:
            quiet = {"stdin": commands, "stdout": self.log, "stderr": self.log}
            return finish(start([self.client, "-s", self.socket, "--pipe"], self.place.client, **quiet), "redis-cli --pipe")

    def answer(self):
        totals, visitors, fetches, fetchers, keys, top = self._ask(
            [("HGETALL", "totals"), ("SCARD", "visitors"), ("GET", "fetches"), ("SCARD", "fetchers"), ("KEYS", "post:*")]
            + [("ZREVRANGE", "hot", "0", "0", "WITHSCORES")]
        )
        posts = {}
        for first in range(0, len(keys), BATCH):
            some = keys[first : first + BATCH]
            for key, row in zip(some, self._ask([("HGETALL", key) for key in some])):
                posts[key.removeprefix("post:")] = self._by_action(row)
        answer = answer_of(self._by_action(totals), visitors, posts, int(fetches or 0), fetchers)
        # The set does not break ties by views; otherwise what it says is the answer.
        if top and (int(top[1]) != answer["hot_post_score"] or score(posts[top[0]]) != answer["hot_post_score"]):
            answer |= {"hot_post": top[0], "hot_post_score": int(top[1])}
        return answer

    def version(self):
        return packages.version(self.server, "--version").split(" sha=")[0]

    @staticmethod
    def _by_action(row):
        pairs = dict(zip(row[::2], row[1::2]))
        return [int(pairs.get(action, 0)) for action in ACTIONS]

    def _answers(self):
        if self.process.poll() is not None:
            raise Failed(f"redis-server did not start: {(self.folder / 'redis.log').read_text().strip()[-300:]}")
        try:
            return self._ask([("PING",)]) == ["PONG"]
        except OSError:
            return False

    def _ask(self, commands):
        with socket.socket(socket.AF_UNIX) as stream:
            stream.settimeout(120)
            stream.connect(str(self.socket))
            stream.sendall("".join(command(*words) for words in commands).encode())
            reader = stream.makefile("rb")
            return [self._reply(reader) for _ in commands]

    def _reply(self, reader):
        line = reader.readline().decode().strip()
        kind, rest = line[:1], line[1:]
        if kind == "+":
            return rest
        if kind == ":":
            return int(rest)
        if kind == "$":
            return None if rest == "-1" else reader.read(int(rest) + 2)[:-2].decode()
        if kind == "*":
            return [self._reply(reader) for _ in range(int(rest))]
        raise Failed(f"redis answered {line!r}")


class RedisEverySecond(Redis):
    fsync = "everysec"
    title = "Redis, appendfsync everysec"
    lacks = Lacks(
        durable="no: within a second after",
        answers="yes",
        users="yes",
        replay="no: its log has commands, not events",
        needs="a client that parses and sends 4 commands an event",
    )


class RedisAlways(Redis):
    fsync = "always"
    title = "Redis, appendfsync always"
    lacks = replace(RedisEverySecond.lacks, durable="yes, by `fsync`")

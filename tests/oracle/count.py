#!/usr/bin/env python3
"""Counts a file of events the slow, plain way, to be compared with what Tally says of the same file.

Nothing but Python's standard library: it reads each line with `json`, decides whether a daemon that runs `video-actions`
and `homepage-fetch` (default settings and limits, one connection, an empty log) would accept it, and counts. It shares
no code and no tables with Tally or with `tally generate`.

    count.py events.ndjson                              everything
    count.py events.ndjson --from-sequence 101 --to-sequence 200
    count.py events.ndjson --ranges ranges.json         also each range: a JSON list of [first, last] or of records
    count.py events.ndjson --ranges analytics_00001.log (objects with first_sequence and last_sequence), or one a line
    tally generate | count.py -                         from a pipe; *.gz is read too

Sequences are those of accepted events, counted from 1 in the order of the file; ranges include both ends.
"""

import argparse
import gzip
import json
import re
import sys
from array import array
from collections import Counter, defaultdict
from datetime import date

LINE_BYTES = 1 << 20
DEPTH = 64
TYPE_BYTES = 256
WEIGHTS = {"view": 1, "play": 2, "unmute": 1, "pause": -1, "carousel_left": 0, "carousel_right": 0}
COLUMNS = {
    "view": "views",
    "play": "plays",
    "pause": "pauses",
    "unmute": "unmutes",
    "carousel_left": "carousel_left",
    "carousel_right": "carousel_right",
}
ACTIONS = list(WEIGHTS)

# What an accepted event is: an action (its index in ACTIONS), or one of these.
HOMEPAGE, OTHER, UNKNOWN_ACTION, RESOURCE = 10, 11, 12, 13
REFUSED = {UNKNOWN_ACTION: "unknown_action", RESOURCE: "resource"}

RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt]([01]\d|2[0-3]):([0-5]\d):([0-5]\d|60)(?:\.\d+)?(?:[Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)
NUMBERS_ONLY = "a constant that JSON does not have"


class Rejected(Exception):
    """The event is not accepted; the argument is the reason."""


def no_constant(_):
    raise ValueError(NUMBERS_ONLY)


DECODER = json.JSONDecoder(parse_constant=no_constant)
KNOWN_DATES = {}


def is_date(year, month, day):
    key = (year, month, day)
    known = KNOWN_DATES.get(key)
    if known is None:
        try:
            known = date(int(year), int(month), int(day)) is not None
        except ValueError:
            known = False
        KNOWN_DATES[key] = known
    return known


def check_timestamp(event):
    value = event.get("timestamp")
    if value is None:
        return  # absent or null: stamped on arrival
    found = RFC3339.fullmatch(value) if isinstance(value, str) else None
    if not found or not is_date(*found.group(1, 2, 3)):
        raise Rejected("invalid_timestamp")


def depth_of(value):
    deepest = 0
    todo = [(value, 1)]
    while todo:
        value, depth = todo.pop()
        if isinstance(value, (dict, list)):
            deepest = max(deepest, depth)
            inside = value.values() if isinstance(value, dict) else value
            todo.extend((one, depth + 1) for one in inside)
    return deepest


def parse(line):
    """The event of one line without its newline."""
    if len(line) > LINE_BYTES:
        raise Rejected("line_too_long")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        raise Rejected("invalid_utf8") from None
    try:
        text = text.strip(" \t\r\n")
        event, end = DECODER.raw_decode(text)
        if end != len(text):
            raise Rejected("invalid_json")
    except ValueError:
        raise Rejected("invalid_json") from None
    except RecursionError:
        raise Rejected("too_deep") from None
    if line.count(b"[") + line.count(b"{") > DEPTH and depth_of(event) > DEPTH:
        raise Rejected("too_deep")
    if not isinstance(event, dict):
        raise Rejected("not_an_object")
    return event


def text_member(event, name):
    """A required text member; every subscriber of these types needs it, so the event is rejected without it."""
    value = event.get(name)
    if not isinstance(value, str):
        raise Rejected("refused_by_all")
    return value


class Events:
    """The accepted events, three small numbers each."""

    def __init__(self):
        self.kinds = array("B")
        self.users = array("I")
        self.posts = array("I")
        self.user_numbers = {}
        self.post_numbers = {}

    def add(self, kind, user="", post=""):
        users, posts = self.user_numbers, self.post_numbers
        self.kinds.append(kind)
        self.users.append(users.setdefault(user, len(users)))
        self.posts.append(posts.setdefault(post, len(posts)))

    def read(self, line):
        """Adds the event of one line, or raises Rejected."""
        event = parse(line)
        kind = event.get("type")
        if kind is None:
            raise Rejected("missing_type")
        if not isinstance(kind, str) or not 0 < len(kind.encode("utf-8", "replace")) <= TYPE_BYTES:
            raise Rejected("invalid_type")
        check_timestamp(event)
        if kind == "action":
            self.add_action(event)
        elif kind == "homepage_fetch":
            self.add(HOMEPAGE, text_member(event, "user_id"))
        else:
            self.add(OTHER)

    def add_action(self, event):
        user = text_member(event, "user_id")
        resource = text_member(event, "resource_type")
        action = text_member(event, "action")
        if not resource.startswith("posts:") or resource == "posts:":
            self.add(RESOURCE)
        elif action not in WEIGHTS:
            self.add(UNKNOWN_ACTION)
        else:
            self.add(ACTIONS.index(action), user, resource[len("posts:") :])

    def count(self, first, last, rows):
        """What each aggregator says of the events first..last; at most `rows` posts (None for all)."""
        kinds = self.kinds[first - 1 : last]
        actions = Counter(kind for kind in kinds if kind < len(ACTIONS))
        others = Counter(kind for kind in kinds if kind >= len(ACTIONS))
        applied = sum(actions.values())
        fetches = others[HOMEPAGE]
        refused = {reason: others[kind] for kind, reason in REFUSED.items() if others[kind]}
        posts = self.post_rows(first, last)
        return {
            "first_sequence": first,
            "last_sequence": last,
            "accepted": len(kinds),
            "aggregators": {
                "video-actions": {
                    "applied": applied,
                    "refused": refused,
                    "not_subscribed": len(kinds) - applied - sum(refused.values()),
                    "summary": self.video_summary(first, last, actions, posts),
                    "posts": posts if rows is None else posts[:rows],
                    "posts_left_out": 0 if rows is None else max(0, len(posts) - rows),
                },
                "homepage-fetch": {
                    "applied": fetches,
                    "refused": {},
                    "not_subscribed": len(kinds) - fetches,
                    "summary": {
                        "homepage_fetches": fetches,
                        "unique_visitors": self.visitors(first, last, lambda kind: kind == HOMEPAGE),
                    },
                },
            },
        }

    def visitors(self, first, last, wanted):
        pairs = zip(self.kinds[first - 1 : last], self.users[first - 1 : last])
        return len({user for kind, user in pairs if wanted(kind)})

    def video_summary(self, first, last, actions, posts):
        summary = {COLUMNS[action]: actions[index] for index, action in enumerate(ACTIONS)}
        summary["total_events"] = sum(actions.values())
        summary["total_views"] = summary["views"]
        summary["total_visitors"] = self.visitors(first, last, lambda kind: kind < len(ACTIONS))
        if posts:
            summary["hot_post"] = "post_" + posts[0]["post_id"]
            summary["hot_post_score"] = posts[0]["score"]
        return summary

    def post_rows(self, first, last):
        """All posts: by score, then by views, then the smaller id, compared by its bytes."""
        per_post = defaultdict(lambda: [0] * len(ACTIONS))
        for kind, post in zip(self.kinds[first - 1 : last], self.posts[first - 1 : last]):
            if kind < len(ACTIONS):
                per_post[post][kind] += 1
        names = list(self.post_numbers)
        rows = []
        for post, counts in per_post.items():
            row = {COLUMNS[action]: count for action, count in zip(ACTIONS, counts)}
            row["score"] = sum(WEIGHTS[action] * count for action, count in zip(ACTIONS, counts))
            row["post_id"] = names[post]
            rows.append(row)
        rows.sort(key=lambda row: (-row["score"], -row["views"], row["post_id"].encode("utf-8", "replace")))
        return rows


def read_lines(file, events):
    """Reads all lines; returns what happened to those that are no accepted events, and [line, reason] of each rejected."""
    lines = blank = 0
    rejects = []
    for line in file:
        lines += 1
        line = line[:-1] if line.endswith(b"\n") else line
        if not line.strip(b" \t\r"):
            blank += 1
            continue
        try:
            events.read(line)
        except Rejected as rejected:
            rejects.append([lines, str(rejected)])
    return lines, blank, rejects


def read_ranges(path):
    """[first, last] pairs from a JSON list, or from one JSON object a line."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    found = json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in text.splitlines() if line]
    return [
        (one["first_sequence"], one["last_sequence"]) if isinstance(one, dict) else (one[0], one[1]) for one in found
    ]


def open_input(path):
    if path == "-":
        return sys.stdin.buffer
    return gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="events, one a line; - for stdin; *.gz is unpacked")
    parser.add_argument("--from-sequence", type=int, default=1, metavar="S", help="count from this accepted event on")
    parser.add_argument("--to-sequence", type=int, metavar="S", help="count up to this accepted event")
    parser.add_argument("--ranges", metavar="FILE", help="count each of these ranges too")
    parser.add_argument("--rows", type=int, metavar="N", help="posts in the whole count (default: all)")
    parser.add_argument("--range-rows", type=int, default=100, metavar="N", help="posts in each range (default: 100)")
    parser.add_argument("--list-rejects", action="store_true", help="also list [line, reason] of every rejected line")
    options = parser.parse_args()

    events = Events()
    with open_input(options.file) as file:
        lines, blank, rejects = read_lines(file, events)
    accepted = len(events.kinds)
    last = accepted if options.to_sequence is None else min(options.to_sequence, accepted)
    result = {
        "lines": lines,
        "blank": blank,
        "received": lines - blank,
        "accepted": accepted,
        "rejected": {
            "total": len(rejects),
            "reasons": dict(sorted(Counter(reason for _, reason in rejects).items())),
        },
        "count": events.count(options.from_sequence, last, options.rows),
    }
    if options.list_rejects:
        result["rejects"] = rejects
    if options.ranges:
        result["ranges"] = [events.count(first, last, options.range_rows) for first, last in read_ranges(options.ranges)]
    json.dump(result, sys.stdout)
    print()


if __name__ == "__main__":
    main()

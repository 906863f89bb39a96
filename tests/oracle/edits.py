#!/usr/bin/env python3
"""Counts edits of Wikipedia the slow, plain way, to be compared with what `wikipedia-edits` says of the same lines.

Nothing but Python's standard library; shares no code with Tally. Every line must be an edit.

    edits.py edits.ndjson        the summary and all rows of all tables, as a question answers them
    edits.py edits.ndjson.gz     the same
"""

import gzip
import json
import sys
from collections import defaultdict


def rows(key, groups):
    """Most edits first, then by the key's bytes."""
    found = [{key: name, **counts} for name, counts in groups.items()]
    return sorted(found, key=lambda row: (-row["edits"], row[key].encode()))


def main():
    path = sys.argv[1]
    nothing = lambda: {"edits": 0, "added": 0, "deleted": 0, "delta": 0}
    everything, users, robots, anonymous = nothing(), set(), 0, 0
    tables = {key: defaultdict(nothing) for key in ("page", "channel", "countryName")}
    with gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb") as file:
        for line in file:
            edit = json.loads(line)
            groups = [groups[edit[key]] for key, groups in tables.items() if edit[key] is not None]
            for counts in [everything, *groups]:
                counts["edits"] += 1
                for column in ("added", "deleted", "delta"):
                    counts[column] += edit[column]
            users.add(edit["user"])
            robots += edit["isRobot"]
            anonymous += edit["isAnonymous"]
    edits = everything["edits"]
    summary = {
        **everything,
        "unique_users": len(users),
        "robot_edits": robots,
        "robot_share": robots / edits,
        "anonymous_edits": anonymous,
        "anonymous_share": anonymous / edits,
    }
    names = {"page": ("pages", "page"), "channel": ("channels", "channel"), "countryName": ("countries", "country")}
    counted = {names[key][0]: rows(names[key][1], groups) for key, groups in tables.items()}
    json.dump({"summary": summary, "tables": counted}, sys.stdout)
    print()


if __name__ == "__main__":
    main()

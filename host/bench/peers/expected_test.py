"""A wrong answer must be seen as wrong, whichever number it is. Ends with an error when one is not."""

import copy
import json
import tempfile

import expected

LINES = [
    ("action", "a", "posts:7", "play"),
    ("action", "b", "posts:7", "view"),
    ("action", "b", "posts:8", "view"),
    ("homepage_fetch", "c", None, None),
]

with tempfile.NamedTemporaryFile("w", suffix=".ndjson") as file:
    for kind, user, resource, action in LINES:
        print(json.dumps({"type": kind, "user_id": user, "resource_type": resource, "action": action}), file=file)
    file.flush()
    right = expected.count([file.name])
    twice = expected.count([file.name, file.name])

assert (right["total_events"], right["total_visitors"], right["unique_visitors"]) == (3, 2, 1), right
assert (right["hot_post"], right["hot_post_score"], right["posts"]["8"]) == ("7", 3, (1, 0, 0, 0, 0, 0)), right
assert (twice["total_events"], twice["total_visitors"], twice["hot_post_score"]) == (6, 2, 6), twice
assert expected.difference(copy.deepcopy(right), right) is None
# A peer that does not show its posts is compared by the rest.
assert expected.difference({name: value for name, value in right.items() if name != "posts"}, right) is None
for name in right:
    wrong = copy.deepcopy(right)
    wrong[name] = {**right["posts"], "7": (1, 1, 0, 0, 0, 1)} if name == "posts" else "x"
    told = expected.difference(wrong, right)
    assert told and ("post 7" in told if name == "posts" else name in told), (name, told)
missing = {name: value for name, value in right.items() if name != "play"}
assert "play" in expected.difference(missing, right)
assert "post 8" in expected.difference({**right, "posts": {"7": right["posts"]["7"]}}, right)
# Ties go to more views, then to the smaller id.
assert expected.hot({"1": (0, 1, 0, 0, 0, 0), "3": (2, 0, 0, 0, 0, 0), "2": (2, 0, 0, 0, 0, 0)}) == "2"

"""Segment's client for Python against the events door: every kind of call, in turn and in the background, gzip, wrong ones."""

import os
from datetime import datetime, timezone

os.environ["NO_PROXY"] = "*"

import segment.analytics.request as transport
from segment.analytics.client import Client
from segment.analytics.request import APIError, post

from doors import DOORS, saw

HOST = f"http://{DOORS['http']}"
TIME = datetime(2026, 1, 27, 10, 0, 0, tzinfo=timezone.utc)
answers = []
accepted = rejected = duplicates = 0


def remember(response, *_, **__):
    """What the daemon answers, which the client does not look at."""
    answers.append((response.status_code, response.json()))


transport._session.hooks["response"].append(remember)


def seen(a, r=0, d=0):
    """All answers since then, in sum."""
    global accepted, rejected, duplicates
    sums = [sum(answer[key] for _, answer in answers) for key in ("accepted", "rejected", "duplicates")]
    assert sums == [a, r, d], answers
    assert all(answer["success"] == (status == 200) for status, answer in answers), answers
    accepted, rejected, duplicates = accepted + a, rejected + r, duplicates + d
    answers.clear()


# One call at a time: an error is an exception.
for gzip in (False, True):
    client = Client("write-key", host=HOST, sync_mode=True, gzip=gzip, max_retries=0)
    client.identify("u1", {"name": "é", "since": TIME})
    client.track("u1", "Order Completed", {"revenue": 12.5, "items": [1, 2]}, timestamp=TIME)
    client.track(anonymous_id="a1", event="Order Completed")
    client.page("u2", "docs", "Start", {"path": "/start"})
    client.screen("u2", "app", "Home")
    client.group("u2", "g1", {"plan": "free"})
    client.alias("a1", "u1")
    client.track(42, "Numbered", context={"ip": "1.2.3.4"}, integrations={"All": False})
    seen(8)

# In the background, in batches.
failures = []
client = Client("write-key", host=HOST, on_error=lambda error, batch: failures.append(error), upload_size=50, gzip=True)
for number in range(500):
    client.track(f"user-{number % 10}", "Viewed", {"n": number}, message_id=f"m-{number}")
client.shutdown()
assert not failures, failures
seen(500)

# Sent again under the same ids, as the client does when it got no answer.
client = Client("write-key", host=HOST, on_error=lambda error, batch: failures.append(error))
for number in range(100):
    client.track("user-1", "Viewed", message_id=f"m-{number}")
client.track("user-1", "Viewed", message_id="m-500")
client.shutdown()
assert not failures, failures
seen(1, 0, 100)

# Wrong ones: an error for the client when none of a batch is accepted, and it does not try again.
good = {"type": "track", "event": "Viewed", "userId": "u9"}
bad = {"type": "track", "event": "Viewed", "userId": "u9", "timestamp": "yesterday"}
post("write-key", HOST, batch=[good, bad, {"type": ""}, 7])
assert [reject["index"] for reject in answers[0][1]["rejects"]] == [1, 2, 3], answers
seen(1, 3)
try:
    post("write-key", HOST, batch=[bad])
    raise AssertionError("no error")
except APIError as error:
    assert error.status == 400, error
seen(0, 1)
client = Client("write-key", host=HOST, on_error=lambda error, batch: failures.append(error), max_retries=3)
client.queue.put({**bad, "messageId": "bad"})
client.shutdown()
assert [error.status for error in failures] == [400], failures
assert len(answers) == 1, "a request that cannot succeed is not repeated"
seen(0, 1)

# Of a type that an aggregator counts: it finds the user under Segment's name.
client = Client("write-key", host=HOST, on_error=lambda error, batch: failures.append(error))
action = {"type": "action", "resource_type": "posts:1", "action": "play"}
for number in range(10):
    client.queue.put({**action, "userId": f"user-{number % 5}", "messageId": f"action-{number}"})
client.shutdown()
assert len(failures) == 1, failures
seen(10)

saw(accepted=accepted, rejected=rejected, duplicates=duplicates)

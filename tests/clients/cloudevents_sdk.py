"""The CloudEvents SDK against the events door: binary, structured and batched mode, old and new API, wrong events."""

import json
import warnings
from datetime import datetime, timezone

import requests
from cloudevents.core.bindings.http import to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from cloudevents.v1.conversion import to_json
from cloudevents.v1.http import CloudEvent as OldEvent
from cloudevents.v1.http import to_binary as old_to_binary
from cloudevents.v1.http import to_structured as old_to_structured

from doors import DOORS, saw

warnings.simplefilter("ignore", DeprecationWarning)

URL = f"http://{DOORS['http']}/v1/events?wait=applied"
SESSION = requests.Session()
SESSION.trust_env = False
FORMAT = JSONFormat()
TIME = datetime(2026, 1, 27, 10, 0, 0, 123456, tzinfo=timezone.utc)

numbers = iter(range(1_000_000))
accepted = rejected = duplicates = 0


def attributes(**more):
    return {"type": "action", "source": "/web/ü %", "id": f"id {next(numbers)}", "specversion": "1.0", **more}


def event(post, **more):
    data = {"user_id": "é", "resource_type": f"posts:{post}", "action": "view"}
    return CloudEvent({"time": TIME, "datacontenttype": "application/json", **attributes(**more)}, data)


def send(message, a=1, r=0, d=0, status=200):
    """An answer with these counts."""
    global accepted, rejected, duplicates
    headers, body = message if isinstance(message, tuple) else (message.headers, message.body)
    answer = SESSION.post(URL, data=body, headers=headers, timeout=30)
    counts = answer.json()
    got = (answer.status_code, counts.get("accepted"), counts.get("rejected"), counts.get("duplicates"))
    assert got == (status, a, r, d), (headers, body, answer.text)
    accepted, rejected, duplicates = accepted + a, rejected + r, duplicates + d
    return counts


def batch(*events):
    """Batched mode, which the SDK leaves to its users to put together."""
    body = json.dumps([json.loads(FORMAT.write(one)) for one in events])
    return {"Content-Type": "application/cloudevents-batch+json"}, body.encode()


send(to_binary(event(1), FORMAT))
send(to_structured(event(1), FORMAT))
send(batch(event(1), event(2), event(1)), a=3)
# An extension, a subject, a data schema.
send(to_binary(event(1, subject="s", dataschema="https://example.com/s", traceparent="00-ab-cd-01"), FORMAT))
# Without time, and without a content type of its data: that is JSON.
bare = CloudEvent(attributes(), {"user_id": "é", "resource_type": "posts:1", "action": "view"})
send(to_binary(bare, FORMAT))
send(to_structured(bare, FORMAT), a=0, d=1)
# Without data: accepted, though no aggregator can do anything with it.
send(to_binary(CloudEvent(attributes(type="ping")), FORMAT))
send(to_structured(CloudEvent(attributes(type="ping")), FORMAT))

# Source and id together are the event's id, in whatever mode it comes.
same = event(7)
send(to_binary(same, FORMAT))
send(to_binary(same, FORMAT), a=0, d=1)
send(to_structured(same, FORMAT), a=0, d=1)
send(batch(same, event(7, id=same.get_id(), source="/elsewhere")), a=1, d=1)

# The API before.
old = OldEvent(attributes(), {"user_id": "old", "resource_type": "posts:1", "action": "play"})
send(old_to_binary(old))
send(old_to_structured(old), a=0, d=1)
send(({"Content-Type": "application/cloudevents+json"}, to_json(OldEvent(attributes(), old.get_data()))))

# What is wrong.
wrong = to_binary(event(1), FORMAT)
reject = send((wrong.headers | {"ce-time": "yesterday"}, wrong.body), a=0, r=1, status=400)["rejects"][0]
assert (reject["reason"], reject["field"]) == ("invalid_timestamp", "/time"), reject
reject = send((wrong.headers, b"{"), a=0, r=1, status=400)["rejects"][0]
assert reject["reason"] == "invalid_json", reject
structured = json.loads(FORMAT.write(event(1)))
del structured["type"]
media = {"Content-Type": "application/cloudevents+json"}
reject = send((media, json.dumps(structured)), a=0, r=1, status=400)["rejects"][0]
assert (reject["reason"], reject["field"]) == ("missing_type", "/type"), reject
# An array is no structured event; data that is no JSON is not taken.
send((media, b"[]"), a=0, r=1, status=400)
text = CloudEvent({**attributes(), "datacontenttype": "text/plain"}, "text")
answer = SESSION.post(URL, data=b"text", headers=to_binary(text, FORMAT).headers, timeout=30)
assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type"), answer.text

saw(accepted=accepted, rejected=rejected, duplicates=duplicates)

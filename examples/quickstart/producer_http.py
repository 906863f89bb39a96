#!/usr/bin/env python3
"""Sends events to Tally over HTTP, so that each is counted once, whatever dies on the way.

    python3 producer_http.py http://127.0.0.1:7072 < events.ndjson

An event gets an id before it is sent for the first time, unless it has one. So when no answer comes, it is sent again:
Tally knows the ids of the last ten minutes, and counts an event that it has already as a duplicate. Needs nothing beyond
Python's standard library. Copy it.
"""

import itertools
import json
import sys
import time
import urllib.error
import urllib.request
import uuid


def send(url, events, patience=60):
    """Sends a list of dicts as one request; returns the answer, a dict, once they are on disk.

    {"accepted":A,"rejected":R,"duplicates":D,"last_sequence":S,"rejects":[{"index":I,"reason":...},...],...}
    """
    for event in events:
        event.setdefault("event_id", str(uuid.uuid4()))
    body = json.dumps(events).encode()
    headers = {"Content-Type": "application/json"}
    pause, give_up = 0.1, time.monotonic() + patience
    while True:
        request = urllib.request.Request(url + "/v1/events", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            if error.code not in (408, 429, 500, 502, 503, 504):
                answer = json.load(error)
                if "rejects" in answer:
                    return answer  # none of the events is accepted, and each reject says why
                raise RuntimeError(f"Tally refuses: {answer['detail']}") from error
            # Busy (429) or away for a moment (503): it says when to come back.
            pause = float(error.headers.get("Retry-After", pause))
        except OSError:
            pass  # No connection, or none any more: nobody knows whether the events came, so send them again.
        if time.monotonic() + pause > give_up:
            raise TimeoutError(f"Tally took no events for {patience} seconds")
        time.sleep(pause)
        pause = min(2 * pause, 5)


def main():
    url = sys.argv[1]
    events = (json.loads(line) for line in sys.stdin)
    accepted = duplicates = 0
    while batch := list(itertools.islice(events, 500)):
        answer = send(url, batch)
        accepted += answer["accepted"]
        duplicates += answer["duplicates"]
        for reject in answer["rejects"]:
            print(f"{json.dumps(batch[reject['index']])}: {reject['reason']}: {reject['detail']}", file=sys.stderr)
    print(f"{accepted} events accepted, {duplicates} counted before")


if __name__ == "__main__":
    main()

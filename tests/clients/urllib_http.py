"""urllib and http.client against the events door: formats, errors, one connection for many requests, a cut-off body."""

import gzip
import http.client
import json
import socket
import urllib.error
import urllib.request

from doors import DOORS, address, saw, view

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def post(path, body, media="application/json", **headers):
    """Status, headers and answer, as urllib gives them."""
    headers = {"Content-Type": media, **{name.replace("_", "-"): value for name, value in headers.items()}}
    request = urllib.request.Request(f"http://{DOORS['http']}{path}", body, headers)
    try:
        with OPENER.open(request, timeout=30) as response:
            return response.status, response.headers, json.load(response)
    except urllib.error.HTTPError as error:
        assert error.headers["Content-Type"] in ("application/json", "application/problem+json"), error.headers
        return error.code, error.headers, json.load(error)


def js(value):
    return json.dumps(value).encode()


accepted = rejected = duplicates = 0


def check(answer, status, a, r=0, d=0):
    """An answer with these counts."""
    global accepted, rejected, duplicates
    got, _, body = answer
    assert (got, body["accepted"], body["rejected"], body["duplicates"]) == (status, a, r, d), (got, body)
    assert len(body["rejects"]) + body["rejects_left_out"] == r, body
    accepted, rejected, duplicates = accepted + a, rejected + r, duplicates + d
    assert a == 0 or body["last_sequence"] == accepted, body
    return body["rejects"]


def refuse(answer, status, code):
    """A problem, of which nothing was taken."""
    got, headers, body = answer
    assert (got, body["status"], body["code"]) == (status, status, code), (got, body)
    assert headers["Content-Type"] == "application/problem+json", headers
    assert body["detail"] and body["title"], body


# What a request may hold.
check(post("/v1/events", js(view("a", 1))), 200, 1)
check(post("/v1/events", js([view("a", 1), view("b", 2)])), 200, 2)
lines = b"\n".join(js(view("c", n)) for n in range(3))
check(post("/v1/events", lines, "application/x-ndjson"), 200, 3)
check(post("/v1/events", gzip.compress(lines + b"\n\n"), "application/x-ndjson", Content_Encoding="gzip"), 200, 3)
check(post("/v1/events", js(view("é\u2028\U0001f600", "ü")), "application/json; charset=utf-8"), 200, 1)
check(post("/v1/events", b"\xef\xbb\xbf" + js(view("bom", 1))), 400, 0, 1)
check(post("/v1/events?wait=applied", js(view("a", 1))), 200, 1)
status, _, answer = post("/v1/events?wait=accepted", js([view("a", 1)] * 2))
assert (status, answer) == (202, {"queued": 2}), (status, answer)
accepted += 2

# What is wrong is said with its place.
some = js([view("a", 1), {"user_id": "x"}, view("a", 1, timestamp="yesterday"), 7, {"type": 3}])
rejects = check(post("/v1/events", some), 200, 1, 4)
places = [(reject["index"], reject["reason"], reject.get("field")) for reject in rejects]
assert places == [
    (1, "missing_type", "/type"),
    (2, "invalid_timestamp", "/timestamp"),
    (3, "not_an_object", None),
    (4, "invalid_type", "/type"),
], places
check(post("/v1/events", b"nonsense\n" * 3, "application/x-ndjson"), 400, 0, 3)
check(post("/v1/events", b'{"type":"action"'), 400, 0, 1)
check(post("/v1/events", b"[" * 1000 + b"]" * 1000), 400, 0, 1)
check(post("/v1/events", b'{"type":"a","x":' + b"[" * 1000 + b"]" * 1000 + b"}"), 400, 0, 1)

# The same id twice is counted once; all duplicates are no error.
named = js([view("d", 1, event_id="one"), view("d", 2, event_id="two"), view("d", 1, event_id="one")])
check(post("/v1/events", named), 200, 2, 0, 1)
check(post("/v1/events", named), 200, 0, 0, 3)

# The route for activities.
activity = {"activity_type": "login", "user_id": "u", "timestamp": "2026-01-27T10:00:00Z"}
status, _, answer = reply = post("/activity", js(activity))
check(reply, 200, 1)
assert answer["status"] == "ok", answer
del activity["user_id"]
status, _, answer = reply = post("/activity", js(activity))
check(reply, 400, 0, 1)
assert answer["status"] == "error" and answer["rejects"][0]["field"] == "/user_id", answer

# What no request may be.
refuse(post("/v1/events", js(view("x", 1)), "text/plain"), 415, "unsupported_media_type")
refuse(post("/v1/events", b"x", "application/x-www-form-urlencoded"), 415, "unsupported_media_type")
refuse(post("/v1/events", js(view("x", 1)), Content_Encoding="br"), 415, "unsupported_encoding")
refuse(post("/v1/events", b"no gzip", Content_Encoding="gzip"), 400, "invalid_gzip")
refuse(post("/v1/events", gzip.compress(lines)[:-9], "application/x-ndjson", Content_Encoding="gzip"), 400, "invalid_gzip")
refuse(post("/v1/events", b""), 400, "empty_body")
refuse(post("/v1/events?wait=forever", js(view("x", 1))), 400, "invalid_parameter")
refuse(post("/v1/event", js(view("x", 1))), 404, "not_found")
refuse(post("/v1/events", b" " * (20 << 20)), 413, "body_too_large")
refuse(post("/v1/events", gzip.compress(b" " * (20 << 20)), Content_Encoding="gzip"), 413, "body_too_large")
status, _, answer = post("/v1/events", js(view("x", 1)), Host="evil.example")
assert 400 <= status < 500 and answer["code"], (status, answer)

# Many requests over one connection, also after refused ones.
connection = http.client.HTTPConnection(*address("http"), timeout=30)
connection.connect()
sock = connection.sock
for number in range(200):
    media = "text/plain" if number % 50 == 7 else "application/json"
    connection.request("POST", "/v1/events", js(view("keep", number)), {"Content-Type": media})
    response = connection.getresponse()
    response.read()
    assert response.status == (415 if media == "text/plain" else 200), (number, response.status)
    accepted += response.status == 200
    assert connection.sock is sock, f"the connection was closed after request {number}"
# In pieces of unknown length.
pieces = (js(view("piece", n)) + b"\n" for n in range(50))
connection.request("POST", "/v1/events", pieces, {"Content-Type": "application/x-ndjson"}, encode_chunked=True)
response = connection.getresponse()
check((response.status, response.headers, json.load(response)), 200, 50)
connection.close()

# Requests one behind the other without waiting, and a client that goes away in the middle.
body = js(view("pipeline", 1))
head = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
with socket.create_connection(address("http"), timeout=30) as sock:
    sock.sendall((head % len(body) + body) * 10)
    answers = b""
    while answers.count(b"HTTP/1.1 200") < 10:
        part = sock.recv(65536)
        assert part, answers
        answers += part
    accepted += 10
with socket.create_connection(address("http"), timeout=30) as sock:
    sock.sendall(head % (len(body) + 1) + body)
check(post("/v1/events", js(view("a", 1))), 200, 1)

saw(accepted=accepted, rejected=rejected, duplicates=duplicates)

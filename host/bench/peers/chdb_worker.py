"""ClickHouse's engine in this process (chDB): NDJSON by `file(..., JSONEachRow)` into a table in memory, then aggregates. See worker.py
for what it is asked."""

import json

from chdb import session

from expected import ACTIONS, answer_of
from worker import answer_requests


def job(settings):
    threads = settings["threads"]
    ours = session.Session()
    tuned = f" SETTINGS max_threads = {threads}, max_insert_threads = {threads}"
    counts = ", ".join(f"countIf(action = '{action}')" for action in ACTIONS)
    columns = "type String, user_id String, resource_type String, action String"

    def ask(query):
        return [json.loads(row) for row in str(ours.query(query + tuned, "JSONCompactEachRow")).splitlines() if row]

    ours.query("CREATE DATABASE IF NOT EXISTS peers")

    def run(file):
        ours.query("DROP TABLE IF EXISTS peers.event")
        ours.query(f"CREATE TABLE peers.event ({columns}) ENGINE = Memory")
        ours.query(f"INSERT INTO peers.event SELECT * FROM file('{file}', JSONEachRow, '{columns}')" + tuned)
        [totals] = ask(f"SELECT {counts} FROM peers.event WHERE type = 'action'")
        [[visitors, fetchers, fetches]] = ask(
            "SELECT uniqExactIf(user_id, type = 'action'), uniqExactIf(user_id, type = 'homepage_fetch'),"
            " countIf(type = 'homepage_fetch') FROM peers.event"
        )
        rows = ask(f"SELECT substring(resource_type, 7) AS post, {counts} FROM peers.event WHERE type = 'action' GROUP BY post")
        return lambda: answer_of(totals, visitors, {post: counts for post, *counts in rows}, fetches, fetchers)

    return run


answer_requests(job)

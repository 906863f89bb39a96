"""DuckDB in this process: NDJSON by `read_json` into a table in memory, then aggregates. See worker.py for what it is asked."""

import duckdb

from expected import ACTIONS, answer_of
from worker import answer_requests


def job(settings):
    connection = duckdb.connect()
    connection.execute(f"SET threads = {settings['threads']}")
    counts = ", ".join(f"count(*) FILTER (action = '{action}')" for action in ACTIONS)

    def run(file):
        columns = "{type: 'VARCHAR', user_id: 'VARCHAR', resource_type: 'VARCHAR', action: 'VARCHAR'}"
        source = f"read_json('{file}', format = 'newline_delimited', columns = {columns})"
        connection.execute(f"CREATE OR REPLACE TEMP TABLE event AS SELECT * FROM {source}")
        totals = connection.execute(f"SELECT {counts} FROM event WHERE type = 'action'").fetchone()
        visitors, fetchers, fetches = connection.execute(
            "SELECT count(DISTINCT user_id) FILTER (type = 'action'), count(DISTINCT user_id) FILTER (type = 'homepage_fetch'),"
            " count(*) FILTER (type = 'homepage_fetch') FROM event"
        ).fetchone()
        rows = connection.execute(
            f"SELECT substr(resource_type, 7), {counts} FROM event WHERE type = 'action' GROUP BY 1"
        ).fetchall()
        return lambda: answer_of(totals, visitors, {post: counts for post, *counts in rows}, fetches, fetchers)

    return run


answer_requests(job)

"""Flink in one Java process that PyFlink starts (a mini cluster): SQL over NDJSON by the filesystem connector, as a stream, with
mini-batches, so that results change while it runs. See worker.py for what it is asked.

Results go to Flink's own `print` connector, as changes (`+I`, `-U`, `+U`, `-D`): the whole table of posts would be millions of lines,
so only the hot post is printed. Its counters are kept for every post all the same: the hot one is chosen among them.
"""

import os
import re

from expected import ACTIONS
from worker import answer_requests

CHANGE = re.compile(r"^(totals|hot)(?::\d+)?> ([+-][IUD])\[(.*)\]$")

CONFIGURATION = {
    "table.exec.mini-batch.enabled": "true",
    "table.exec.mini-batch.allow-latency": "1 s",
    "table.exec.mini-batch.size": "50000",
    "pipeline.object-reuse": "true",
}


def job(settings):
    # Java inherits this; it prints there.
    prints = settings["folder"] + "/flink.out"
    os.dup2(os.open(prints, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
    from pyflink.table import EnvironmentSettings, TableEnvironment

    table = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    for name, value in {**CONFIGURATION, "parallelism.default": str(settings["threads"])}.items():
        table.get_config().set(name, value)

    def run(file):
        before = os.path.getsize(prints)
        statements(table, file).execute().wait()
        return lambda: answer(prints, before)

    return run


def statements(table, file):
    """Both results as one job. Conditions stand behind the counts: a filter would go into the source, and each result would have a
    source of its own that parses every line again."""
    counts = ", ".join(f"COUNT(*) FILTER (WHERE `action` = '{action}') AS of_{action}" for action in ACTIONS)
    columns = ", ".join(f"of_{action} BIGINT" for action in ACTIONS)
    users = "COUNT(DISTINCT user_id) FILTER (WHERE `type` = '{}')"
    printed = "WITH ('connector' = 'print', 'print-identifier' = '{}')"
    for name in ("event", "totals", "hot"):
        table.execute_sql(f"DROP TABLE IF EXISTS {name}")
    for statement in (
        "CREATE TABLE event (`type` STRING, user_id STRING, resource_type STRING, `action` STRING)"
        f" WITH ('connector' = 'filesystem', 'path' = 'file://{file}', 'format' = 'json')",
        f"CREATE TABLE totals ({columns}, visitors BIGINT, fetches BIGINT, fetchers BIGINT) {printed.format('totals')}",
        f"CREATE TABLE hot (post STRING, score BIGINT, of_view BIGINT) {printed.format('hot')}",
    ):
        table.execute_sql(statement)
    both = table.create_statement_set()
    both.add_insert_sql(
        f"INSERT INTO totals SELECT {counts}, {users.format('action')},"
        f" COUNT(*) FILTER (WHERE `type` = 'homepage_fetch'), {users.format('homepage_fetch')} FROM event"
    )
    both.add_insert_sql(
        "INSERT INTO hot SELECT post, of_view + 2 * of_play + of_unmute - of_pause AS score, of_view FROM"
        f" (SELECT SUBSTRING(resource_type FROM 7) AS post, {counts} FROM event GROUP BY SUBSTRING(resource_type FROM 7)"
        " HAVING COUNT(*) FILTER (WHERE `type` = 'action') > 0) ORDER BY score DESC, of_view DESC, post LIMIT 1"
    )
    return both


def answer(prints, before):
    """What the changes that were printed since then come to."""
    last = {}
    with open(prints) as lines:
        lines.seek(before)
        for line in lines:
            if change := CHANGE.match(line.strip()):
                name, kind, row = change.groups()
                if kind in ("+I", "+U"):
                    last[name] = row.split(", ")
                elif last.get(name) == row.split(", "):
                    del last[name]
    *totals, visitors, fetches, fetchers = (int(number) for number in last.get("totals", []))
    post, score, _ = last.get("hot", (None, 0, 0))
    return {
        "total_events": sum(totals),
        **dict(zip(ACTIONS, totals)),
        "total_visitors": visitors,
        "homepage_fetches": fetches,
        "unique_visitors": fetchers,
        "hot_post": post,
        "hot_post_score": int(score),
    }


answer_requests(job)

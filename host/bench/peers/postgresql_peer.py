"""PostgreSQL: `COPY` of the lines as they are into a table, then aggregates by `INSERT ... SELECT`; every commit is synchronous."""

import os
import pwd
import shutil
import subprocess

import packages
from expected import ACTIONS, answer_of
from lacks import Lacks
from processes import Failed, end, finish, start, until

COUNTS = ", ".join(f"count(*) FILTER (WHERE action = '{action}')" for action in ACTIONS)
COLUMNS = ", ".join(f"{action} bigint" for action in ACTIONS)

TABLES = f"""
DROP TABLE IF EXISTS line, total, post;
CREATE TABLE line (event json);
CREATE TABLE total ({COLUMNS}, visitors bigint, fetches bigint, fetchers bigint);
CREATE TABLE post (post text PRIMARY KEY, {COLUMNS}, score bigint);
"""
# No line has a control character, so these stand for "no quotes, one column".
COPY = r"COPY line FROM STDIN (FORMAT csv, QUOTE e'\x01', DELIMITER e'\x02')"
AGGREGATE = f"""
CREATE TEMP TABLE event AS SELECT parsed.* FROM line,
  json_to_record(event) AS parsed (type text, user_id text, resource_type text, action text);
INSERT INTO total SELECT {COUNTS},
  (SELECT count(*) FROM (SELECT DISTINCT user_id FROM event WHERE type = 'action') AS users),
  count(*) FILTER (WHERE type = 'homepage_fetch'),
  (SELECT count(*) FROM (SELECT DISTINCT user_id FROM event WHERE type = 'homepage_fetch') AS users) FROM event;
INSERT INTO post SELECT post, {", ".join(ACTIONS)}, view + 2 * play + unmute - pause FROM
  (SELECT substr(resource_type, 7), {COUNTS} FROM event WHERE type = 'action' GROUP BY 1) AS counted (post, {", ".join(ACTIONS)});
"""


class PostgreSql:
    """A server that stays."""

    title = "PostgreSQL, defaults"
    how = "`COPY` into a logged table, parsed once into a temporary one, `INSERT … SELECT`"
    settings = {}
    lacks = Lacks(
        durable="yes, at the end of `COPY`",
        answers="no: each answer is computed anew from the table",
        users="yes",
        replay="from the table",
        needs="a client that speaks SQL",
    )
    counts_warm_up = False
    # Slower than the others by a multiple.
    events_divisor = 5
    warm_up = 200_000

    def __init__(self, place, folder, sockets):
        self.place, self.folder, self.sockets = place, folder, sockets / "postgresql"
        self.server, self.initdb, self.psql = packages.programs("postgres", "initdb", "psql")
        # The server refuses to run as root.
        self.user = None
        if os.geteuid() == 0:
            names = [name for name in ("postgres", "nobody") if name in {entry.pw_name for entry in pwd.getpwall()}]
            if not names:
                raise Failed("PostgreSQL does not run as root, and there is no user postgres or nobody")
            self.user = names[0]

    def _settings(self):
        place = {"listen_addresses": "", "unix_socket_directories": self.sockets, "synchronous_commit": "on"}
        settings = place | self.settings
        return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]

    def __enter__(self):
        data = self.folder / "data"
        for folder in (data, self.sockets):
            folder.mkdir()
            folder.chmod(0o700)
            if self.user:
                shutil.chown(folder, self.user)
        self.log = open(self.folder / "postgresql.log", "w")
        self.quiet = {"stdin": subprocess.DEVNULL, "stdout": self.log, "stderr": self.log, "cwd": "/"}
        if self.user:
            self.quiet["user"] = self.user
        every = os.sched_getaffinity(0)
        made = start([self.initdb, "-D", data, "-U", "postgres", "-A", "trust", "--no-locale", "-E", "UTF8"], every, **self.quiet)
        finish(made, "initdb")
        self.process = start([self.server, "-D", data, *self._settings()], self.place.server, **self.quiet)
        self.root = self.process.pid
        until(self._answers, "the start of postgres", patience=60, pause=0.2)
        return self

    def __exit__(self, *_):
        # An immediate end: the folder is removed anyway.
        end(self.process, how=3)
        self.log.close()

    def prepare(self, file):
        self._sql(TABLES)
        return file

    def run(self, file):
        with open(file, "rb") as lines:
            client = self._psql(["-c", COPY], stdin=lines)
        return client + self._sql(AGGREGATE)

    def answer(self):
        [total] = self._rows("TABLE total")
        posts = {row[0]: [int(count) for count in row[1:7]] for row in self._rows("TABLE post")}
        *totals, visitors, fetches, fetchers = (int(number) for number in total)
        answer = answer_of(totals, visitors, posts, fetches, fetchers)
        top = self._rows("SELECT post, score FROM post ORDER BY score DESC, view DESC, post LIMIT 1")
        for post, score in top:
            answer |= {"hot_post": post, "hot_post_score": int(score)}
        return answer

    def version(self):
        return packages.version(self.server, "--version")

    def _command(self, words):
        return [self.psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", self.sockets, "-U", "postgres", "-d", "postgres", *words]

    def _psql(self, words, **options):
        return finish(start(self._command(words), self.place.client, **{**self.quiet, **options}), "psql")

    def _sql(self, text):
        return self._psql([word for statement in text.split(";") if statement.strip() for word in ("-c", statement.strip())])

    def _rows(self, query):
        options = {**self.quiet, "stdout": subprocess.PIPE, "text": True}
        asked = start(self._command(["-A", "-t", "-F", "\t", "-c", query]), self.place.client, **options)
        printed, _ = asked.communicate()
        if asked.returncode != 0:
            raise Failed(f"psql failed: {(self.folder / 'postgresql.log').read_text().strip()[-300:]}")
        return [line.split("\t") for line in printed.splitlines()]

    def _answers(self):
        if self.process.poll() is not None:
            raise Failed(f"postgres did not start: {(self.folder / 'postgresql.log').read_text().strip()[-300:]}")
        asked = start(self._command(["-c", "SELECT 1"]), self.place.client, **{**self.quiet, "stdout": subprocess.DEVNULL})
        return asked.wait() == 0


class PostgreSqlTuned(PostgreSql):
    title = "PostgreSQL, tuned"
    how = PostgreSql.how + "; `shared_buffers` a quarter of memory, `work_mem` 256 MB, `max_wal_size` 16 GB, no JIT"
    settings = {
        "shared_buffers": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') // 4 // 2**20}MB",
        "work_mem": "256MB",
        "jit": "off",
        "max_wal_size": "16GB",
        "checkpoint_timeout": "15min",
    }

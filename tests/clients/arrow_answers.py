"""pyarrow against the query door: an answer as an Arrow stream says what the same answer in JSON and CSV says."""

import csv
import io
import json
import urllib.request

import pyarrow as pa
import pyarrow.csv

from doors import DOORS, saw

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
seen = {}


def get(path, accept):
    request = urllib.request.Request(f"http://{DOORS['query_tcp']}/v1/aggregators{path}", headers={"Accept": accept})
    with OPENER.open(request, timeout=30) as response:
        assert response.headers["Content-Type"].startswith(accept), response.headers
        return response.headers, response.read()


for path in ("/video-actions/posts?rows=0", "/video-actions/summary", "/homepage-fetch/summary", "/video-actions/posts?rows=3&skip=1"):
    _, body = get(path, "application/json")
    answer = json.loads(body)
    headers, body = get(path, "application/vnd.apache.arrow.stream")
    with pa.ipc.open_stream(body) as reader:
        table = reader.read_all()
    table.validate(full=True)
    names = [column["name"] for column in answer["columns"]]
    assert table.column_names == names, (table.schema, names)
    kinds = {"text": pa.string(), "integer": pa.int64(), "float": pa.float64(), "boolean": pa.bool_(), "json": pa.string()}
    for column in answer["columns"]:
        assert table.schema.field(column["name"]).type == kinds[column["kind"]], (column, table.schema)
    rows = [{name: value for name, value in row.items() if value is not None} for row in table.to_pylist()]
    assert rows == answer["rows"], (rows, answer["rows"])
    left_out = int(headers.get("X-Rows-Left-Out", 0))
    assert left_out == answer["rows_left_out"], (left_out, answer)
    headers, body = get(path, "text/csv")
    lines = list(csv.DictReader(io.StringIO(body.decode())))
    assert lines == [{name: str(row.get(name, "")) for name in names} for row in answer["rows"]], lines
    assert pa.csv.read_csv(io.BytesIO(body)).num_rows == table.num_rows
    seen[path] = table.num_rows

saw(rows=seen)

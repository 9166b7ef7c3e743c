"""Reads a lake with DuckDB and pyarrow and prints what it saw as JSON. Usage: independent_reader.py PREFIX"""

import json
import sys

import duckdb
import pyarrow
import pyarrow.dataset
import pyarrow.types

prefix = sys.argv[1]
db = duckdb.connect()
db.execute("SET TimeZone = 'UTC'")


def with_duckdb(dataset, query):
    source = f"read_parquet('{prefix}/{dataset}/*/*.parquet')"
    described = db.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
    rows = db.execute(query.format(source=source)).fetchall()
    return {"types": {name: kind for name, kind, *_ in described}, "rows": rows}


def with_pyarrow(dataset):
    table = pyarrow.dataset.dataset(f"{prefix}/{dataset}", format="parquet", partitioning="hive").to_table()
    types = {field.name: str(field.type) for field in table.schema}
    # Python's datetime has no nanoseconds: times are compared as numbers.
    for i, field in enumerate(table.schema):
        if pyarrow.types.is_timestamp(field.type):
            table = table.set_column(i, field.name, table[field.name].cast(pyarrow.int64()))
    return {"types": types, "rows": table.sort_by("arrival").to_pylist()}


def plain(value):
    return value.hex() if isinstance(value, bytes) else str(value)


records = """SELECT date::VARCHAR, thing, topic, arrival::VARCHAR, shard, "offset", thing_sequence, hex(payload){more}
    FROM {{source}} ORDER BY "offset\""""
scored = """SELECT date::VARCHAR, thing, event_time::VARCHAR, arrival::VARCHAR, position, verdict, warming_seen, warming_needed,
    score, threshold, signals['flow'], cardinality(signals), len(causes), causes[1].signal, causes[1].share,
    causes[1].direction, causes[1].value, causes[1].expected_low, causes[1].expected_high, causes[1].detector,
    known::VARCHAR, known_offset, revision
    FROM {source} ORDER BY position, revision"""

print(
    json.dumps(
        {
            "duckdb": {
                "raw": with_duckdb("raw", records.format(more="")),
                "rejected": with_duckdb("rejected", records.format(more=", reason")),
                "scored": with_duckdb("scored", scored),
                "one_day": db.execute(
                    f"SELECT count(*) FROM read_parquet('{prefix}/raw/*/*.parquet') WHERE date = DATE '2026-11-24'"
                ).fetchone()[0],
            },
            "pyarrow": {dataset: with_pyarrow(dataset) for dataset in ("raw", "rejected", "scored")},
        },
        default=plain,
    )
)

"""Reads a tenant's lake with DuckDB and pyarrow and prints what each of them sees, as one JSON object."""

import json
import sys

import duckdb
import pyarrow.dataset

PREFIX = sys.argv[1]


def with_duckdb():
    def rows(dataset, what, rest=""):
        return duckdb.sql(f"SELECT {what} FROM read_parquet('{PREFIX}/{dataset}/*/*.parquet') {rest}").fetchall()

    rejected = rows("rejected", "DISTINCT payload, reason")
    return {
        **{dataset: rows(dataset, "count(*)")[0][0] for dataset in ("raw", "rejected", "scored")},
        "raw_of": dict(rows("raw", "thing, count(*)", "GROUP BY thing")),
        "payloads": sorted(bytes(payload).hex() for payload, _ in rejected),
        "reasons": [reason for _, reason in rejected],
        "level_sum": rows("scored", "sum(signals['level_m'])")[0][0],
    }


def with_pyarrow():
    def table(dataset):
        return pyarrow.dataset.dataset(f"{PREFIX}/{dataset}", format="parquet", partitioning="hive").to_table()

    tables = {dataset: table(dataset) for dataset in ("raw", "rejected", "scored")}
    things = tables["raw"]["thing"].to_pylist()
    rejected = set(zip(tables["rejected"]["payload"].to_pylist(), tables["rejected"]["reason"].to_pylist()))
    return {
        **{dataset: rows.num_rows for dataset, rows in tables.items()},
        "raw_of": {thing: things.count(thing) for thing in set(things)},
        "payloads": sorted(payload.hex() for payload, _ in rejected),
        "reasons": [reason for _, reason in rejected],
        "level_sum": sum(dict(signals)["level_m"] for signals in tables["scored"]["signals"].to_pylist()),
    }


print(json.dumps({"duckdb": with_duckdb(), "pyarrow": with_pyarrow()}))

"""Asks DuckDB the query of benches/sql.rs on its tables: ROOT QUERY TIMES."""

import glob
import sys

import duckdb

root, query, times = sys.argv[1:]
rounds = [
    f"SELECT {round} AS round, presented, outcome FROM read_parquet({sorted(glob.glob(f'{root}/vote/{round:064x}/votes/*.parquet'))})"
    for round in (1, 2)
]
connection = duckdb.connect()
for _ in range(int(times)):
    rows = connection.execute(query.replace("{votes}", f"({' UNION ALL '.join(rounds)})")).fetchall()
    assert len(rows) == 2, rows
print(rows)

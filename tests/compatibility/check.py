"""Opens the tables that evoq wrote in pyarrow, polars, DuckDB and `datasets`, and checks that all see the same values.

    python -m venv venv && venv/bin/pip install -r requirements.txt
    venv/bin/python check.py PLACE...

A PLACE is a run's root or one artifact. Every row is compared, value by value; aggregates and filters are left to each
engine, so that statistics, dictionaries and page indexes are used; pictures are decoded. What the tables hold is printed on
stdout, as JSON: rows, and for each column its nulls, different values and sum. A fault is one line on stderr, and exit 1.
"""

import io
import json
import math
import os
import sys
import tempfile
from pathlib import Path

os.environ.update(HF_DATASETS_OFFLINE="1", HF_HUB_OFFLINE="1", HF_DATASETS_DISABLE_PROGRESS_BARS="1")

import datasets
import duckdb
import polars
import pyarrow
import pyarrow.compute
import pyarrow.dataset
import pyarrow.parquet
from PIL import Image, ImageOps

READERS = ("pyarrow", "polars", "duckdb", "datasets")


class Fault(Exception):
    """What is wrong with a table, in one line."""


def expect(holds, what):
    if not holds:
        raise Fault(what)


def tables(place):
    """The tables below `place`: name, files in order, and how many rows the manifest states (None in the ledger)."""
    for manifest in sorted(place.rglob("manifest.json")):
        for name, table in sorted(json.loads(manifest.read_text())["tables"].items()):
            yield name, [str(manifest.parent / part["name"]) for part in table["parts"]], table["rows"]
    timings = sorted(place.glob("ledger/timings/*.parquet"))
    if timings:
        yield "timings", [str(file) for file in timings], None
    for file in sorted(place.glob("ledger/*/*.parquet")):
        if file not in timings:
            yield file.stem, [str(file)], None


def check_metadata(name, files):
    """Every file says which table it is, in which version, and what each column means; enumerations are dictionaries."""
    for file in files:
        parquet = pyarrow.parquet.ParquetFile(file)
        arrow = parquet.schema_arrow
        said = {**(arrow.metadata or {}), **parquet.metadata.metadata}
        expect(said.get(b"evoq.table") == name.encode(), f"{file}: evoq.table is {said.get(b'evoq.table')}")
        expect(int(said.get(b"evoq.schema_version", 0)) >= 1, f"{file}: has no evoq.schema_version")
        for field in arrow:
            expect((field.metadata or {}).get(b"evoq.about"), f"{file}: column {field.name} does not say what it means")
            if pyarrow.types.is_dictionary(field.type):
                expect(field.type.value_type == pyarrow.string(), f"{file}: {field.name} is no dictionary of text")


def plain(value):
    """`value` with what equals itself in place of NaN."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


def rows_by(reader, files, cache):
    """All rows of `files` as dictionaries of Python's own values."""
    if reader == "pyarrow":
        rows = pyarrow.parquet.read_table(files).to_pylist()
    elif reader == "polars":
        rows = polars.read_parquet(files).to_dicts()
    elif reader == "duckdb":
        relation = duckdb.read_parquet(files)
        rows = [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()]
    else:
        loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=cache)
        for name, feature in loaded.features.items():
            if isinstance(feature, datasets.Image):
                loaded = loaded.cast_column(name, datasets.Image(decode=False))
        rows = list(loaded)
    return [plain(row) for row in rows]


def is_number(kind):
    return pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind)


def is_scalar(kind):
    """Whether values of the type can be counted and compared."""
    text = pyarrow.types.is_string(kind) or pyarrow.types.is_dictionary(kind)
    return text or is_number(kind) or pyarrow.types.is_boolean(kind)


def summary_of(rows, schema):
    """Nulls, different values and, of numbers, the sum of every countable column."""
    columns = {}
    for field in schema:
        if is_scalar(field.type):
            there = [row[field.name] for row in rows if row[field.name] is not None]
            columns[field.name] = {"nulls": len(rows) - len(there), "distinct": len(set(there))}
            if is_number(field.type):
                columns[field.name]["sum"] = math.fsum(there)
    return columns


def aggregated_by_polars(files, schema):
    columns = {}
    for field in filter(lambda field: is_scalar(field.type), schema):
        column = polars.col(field.name)
        asked = [column.null_count().alias("nulls"), column.drop_nulls().n_unique().alias("distinct")]
        if is_number(field.type):
            asked.append(column.cast(polars.Float64).sum().alias("sum"))
        columns[field.name] = polars.scan_parquet(files).select(asked).collect().to_dicts()[0]
    return columns


def aggregated_by_duckdb(files, schema):
    columns, relation = {}, duckdb.read_parquet(files)
    for field in filter(lambda field: is_scalar(field.type), schema):
        name = f'"{field.name}"'
        asked = f"count(*) - count({name}) AS nulls, count(DISTINCT {name}) AS distinct"
        if is_number(field.type):
            asked += f", coalesce(sum(CAST({name} AS DOUBLE)), 0) AS sum"
        answer = relation.aggregate(asked)
        columns[field.name] = dict(zip(answer.columns, answer.fetchall()[0], strict=True))
    return columns


def check_aggregates(engine, found, expected):
    for column, facts in expected.items():
        for fact, value in facts.items():
            other = found[column][fact]
            same = math.isclose(value, other, rel_tol=1e-9, abs_tol=1e-9) if fact == "sum" else value == other
            expect(same, f"{engine} finds {fact} of {column} to be {other}; it is {value}")


def check_filters(files, rows, schema):
    """How many rows have the last row's value of a column: what an engine finds that skips by statistics and pages."""
    scanned, relation = pyarrow.dataset.dataset(files), duckdb.read_parquet(files)
    for field in schema:
        value = rows[-1][field.name]
        if not is_scalar(field.type) or value is None or value == "NaN":
            continue
        count = sum(row[field.name] == value for row in rows)
        kind = field.type.value_type if pyarrow.types.is_dictionary(field.type) else field.type
        equal = pyarrow.compute.field(field.name) == pyarrow.scalar(value, kind)
        lazy = polars.scan_parquet(files).filter(polars.col(field.name) == value)
        found = {
            "pyarrow": scanned.count_rows(filter=equal),
            "polars": lazy.select(polars.len()).collect().item(),
            "duckdb": len(relation.filter(duckdb.ColumnExpression(field.name) == duckdb.ConstantExpression(value))),
        }
        for engine, other in found.items():
            expect(other == count, f"{engine} finds {other} rows with {field.name} = {value!r}; there are {count}")


def check_pictures(files, rows, cache):
    """The picture column is decoded by `datasets` to the pixels of the stored bytes, upright and of the stated size."""
    loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=cache)
    expect(isinstance(loaded.features["image"], datasets.Image), f"`datasets` takes image for {loaded.features['image']}")
    for stored, row in zip(rows, loaded, strict=True):
        name = stored["image_id"]
        if stored["image"] is None or stored["image"]["bytes"] is None:
            expect(row["image"] is None, f"`datasets` finds a picture in {name}, where there is none")
            continue
        picture = ImageOps.exif_transpose(Image.open(io.BytesIO(stored["image"]["bytes"])))
        expect(row["image"] is not None, f"`datasets` finds no picture in {name}")
        expect(row["image"].mode == picture.mode, f"{name} is {row['image'].mode} in `datasets`; it is {picture.mode}")
        expect(row["image"].tobytes() == picture.tobytes(), f"{name} has other pixels in `datasets`")
        expect(picture.size == (stored["width"], stored["height"]), f"{name} is {picture.size}, not as its row states")


def check(name, files, stated, cache):
    """Checks one table and gives its rows with their summary."""
    check_metadata(name, files)
    schema = pyarrow.parquet.read_schema(files[0])
    rows = rows_by("pyarrow", files, cache)
    expect(stated in (None, len(rows)), f"has {len(rows)} rows; the manifest states {stated}")
    for reader in READERS[1:]:
        # `datasets` takes no file without rows.
        if reader == "datasets" and not rows:
            continue
        others = rows_by(reader, files, cache)
        expect(len(others) == len(rows), f"{reader} finds {len(others)} rows; there are {len(rows)}")
        for number, (row, other) in enumerate(zip(rows, others, strict=True)):
            expect(list(other) == list(row), f"{reader} finds the columns {list(other)}; they are {list(row)}")
            for column in row:
                same = type(other[column]) is type(row[column]) and other[column] == row[column]
                expect(same, f"row {number}: {reader} reads {column} as {other[column]!r:.200}; it is {row[column]!r:.200}")
    facts = summary_of(rows, schema)
    check_aggregates("polars", aggregated_by_polars(files, schema), facts)
    check_aggregates("duckdb", aggregated_by_duckdb(files, schema), facts)
    if rows:
        check_filters(files, rows, schema)
        if name == "images":
            check_pictures(files, rows, cache)
    return rows, schema


def main(places):
    seen, faults = {}, 0
    for place in places:
        found = list(tables(Path(place)))
        if not found:
            print(f"{place}: no table is here; give a run's root or an artifact", file=sys.stderr)
            faults += 1
        for name, files, stated in found:
            with tempfile.TemporaryDirectory() as cache:
                try:
                    rows, schema = check(name, files, stated, cache)
                except Fault as fault:
                    print(f"{Path(files[0]).parent}: table `{name}`: {fault}", file=sys.stderr)
                    faults += 1
                    continue
            known, _ = seen.setdefault(name, ([], schema))
            known.extend(rows)
    held = {name: {"rows": len(rows), "columns": summary_of(rows, schema)} for name, (rows, schema) in seen.items()}
    json.dump(held, sys.stdout, indent=1, sort_keys=True)
    print()
    return 1 if faults else 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1:]))

"""Reads the event files that `evoq-grpo --tensorboard FOLDER` wrote with TensorBoard's own reader, and compares every number
with the table `updates` of the artifact.

    python -m venv .venv && .venv/bin/pip install tensorboard pyarrow
    .venv/bin/python stages/grpo/tests/event_files.py FOLDER ARTIFACT

It also prints the framing of a record by TensorBoard's own writer, which the unit test of `pipeline/stage/src/tensorboard.rs`
states.
"""

import io
import math
import pathlib
import sys

import numpy
import pyarrow.parquet
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer.record_writer import RecordWriter


def main(folder: str, artifact: str) -> None:
    record = io.BytesIO()
    RecordWriter(record).write(b"abc")
    print("record of abc:", record.getvalue().hex())

    events = EventAccumulator(folder, size_guidance={"scalars": 0}).Reload()
    parts = sorted(pathlib.Path(artifact, "updates").glob("*.parquet"))
    updates = [row for part in parts for row in pyarrow.parquet.read_table(part).to_pylist()]
    tags = events.Tags()["scalars"]
    assert "loss" in tags and "reward_mean" in tags, tags
    compared = 0
    for tag in tags:
        expected = {row["update_index"]: row[tag] for row in updates if row[tag] is not None}
        # A training that was killed tells some steps twice, alike.
        found = {}
        for event in events.Scalars(tag):
            assert found.setdefault(event.step, event.value) == event.value, (tag, event)
        assert found.keys() == expected.keys(), (tag, found.keys(), expected.keys())
        for step, value in expected.items():
            assert math.isclose(found[step], numpy.float32(value), rel_tol=0, abs_tol=0), (tag, step, found[step], value)
            compared += 1
    print(f"{compared} numbers of {len(tags)} tags over {len(updates)} steps are those of the table")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""evoq's labelled pairs as training data of verl or EasyR1: a row a picture, in the order of the updates.

    python workflows/trl/export.py --images RUN/distort/…/images --labels RUN/label/…/labels --to verl train.parquet

`--images` and `--labels` are folders of those tables (pictures with pixels). Needs pyarrow alone. Both sides of a pair stand
side by side and no picture twice among the `2 * --pairs-per-update` rows of an update, so with that batch size and without
shuffling a reward function of the whole batch sees every picture's partner: exported_reward.py is one. docs/trainers.md has the
settings.
"""

import argparse
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import tables

PICTURE = pa.struct([pa.field("bytes", pa.binary())])
VERL = tables.columns(
    data_source=tables.TEXT, prompt=pa.list_(pa.struct([pa.field("role", pa.string()), pa.field("content", pa.string())])),
    images=pa.list_(PICTURE), ability=tables.TEXT,
    reward_model=pa.struct([pa.field("style", pa.string()), pa.field("ground_truth", pa.string())]),
    extra_info=pa.struct([pa.field("index", pa.int64()), pa.field("update_index", pa.int64()), pa.field("image_id", pa.string())]),
)
EASYR1 = tables.columns(problem=tables.TEXT, answer=tables.TEXT, images=pa.list_(PICTURE))


def verl(row: dict) -> dict:
    """A row of verl: the question as a chat, the truth and the place of the row beside it."""
    return dict(
        data_source="evoq", prompt=[dict(role="user", content=row["question"])], images=row["images"], ability="image_quality",
        reward_model=dict(style="rule", ground_truth=row["truth"]),
        extra_info={name: row[name] for name in ("index", "update_index", "image_id")})


def easyr1(row: dict) -> dict:
    """A row of EasyR1, by the names that its own configuration has for them."""
    return dict(problem=row["question"], answer=row["truth"], images=row["images"])


FORMATS = {"verl": (verl, VERL), "easyr1": (easyr1, EASYR1)}


def rows(updates: list, files: dict):
    """The pictures in the order of the updates. The truth of a rating is JSON: picture, partner and p*."""
    index = 0
    for update_index, pairs in enumerate(updates):
        for name, partner, preference in tables.pictures_of(pairs):
            truth = dict(image_id=name, partner=partner, preference=preference)
            yield dict(index=index, update_index=update_index, image_id=name, question="<image>" + tables.QUESTION,
                       images=[dict(bytes=files[name])], truth=json.dumps(truth))
            index += 1


def main() -> None:
    """Writes the file."""
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    flags.add_argument("--images", type=Path, required=True, help="folder of the table images, with pixels")
    flags.add_argument("--labels", type=Path, required=True, help="folder of the table labels")
    flags.add_argument("--to", choices=FORMATS, required=True, help="whose format")
    flags.add_argument("--pairs-per-update", type=int, default=32, help="labelled pairs an update [default: 32]")
    flags.add_argument("--seed", type=int, default=1, help="of the order of pairs [default: 1]")
    flags.add_argument("file", type=Path, help="the Parquet file to write")
    given = flags.parse_args()
    updates = tables.updates_of(given.labels, given.pairs_per_update, given.seed)
    files = tables.pixels(given.images, {name for pairs in updates for pair in pairs for name in pair[:2]})
    convert, schema = FORMATS[given.to]
    pq.write_table(pa.Table.from_pylist([convert(row) for row in rows(updates, files)], schema), given.file)
    print(f"{given.file}: {sum(2 * len(pairs) for pairs in updates)} rows for {given.to}; a batch is {2 * given.pairs_per_update} rows")


if __name__ == "__main__":
    main()

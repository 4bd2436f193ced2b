"""evoq's tables for a trainer in Python: labelled pairs and pixels in, `rollouts` and `updates` out. Needs pyarrow alone."""

import random
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

# The question that the built-in policy is asked for a rating: the paper's c_score with its suffix.
QUESTION = (
    "You are doing the image quality assessment task. Here is the question: What is your overall rating on the quality of "
    "this picture? The rating should be a float between 1 and 5, rounded to two decimal places, with 1 representing very "
    "poor quality and 5 representing excellent quality. You FIRST think about the reasoning process as an internal "
    "monologue and then provide the final answer. The reasoning process MUST BE enclosed within <think> </think> tags. "
    "The final answer MUST BE put in \\boxed{ }."
)


def columns(**types) -> pa.Schema:
    """A schema: a column of a type, or of `(type,)` where cells may be null."""
    field = lambda name, it: pa.field(name, it[0] if isinstance(it, tuple) else it, nullable=isinstance(it, tuple))
    return pa.schema([field(name, it) for name, it in types.items()])


TEXT, REAL, COUNT = pa.string(), pa.float64(), pa.uint32()
PARTNER = pa.struct(list(columns(image_id=TEXT, preference=REAL, probability=REAL)))
ROLLOUTS = columns(
    update_index=COUNT, image_id=TEXT, completion=pa.uint16(), reply=TEXT, score=(REAL,), invalid_reason=(TEXT,),
    partners=pa.list_(pa.field("item", PARTNER, nullable=False)), reward=REAL, advantage=REAL, logprob=REAL,
    reference_logprob=REAL, kl=REAL, tokens=COUNT, finish=TEXT,
)
UPDATES = columns(
    update_index=COUNT, loss=REAL, policy_loss=(REAL,), kl=(REAL,), probe_loss=(REAL,), reward_mean=(REAL,),
    reward_std=(REAL,), invalid_rate=(REAL,), zero_spread_groups=(COUNT,), skipped_groups=(COUNT,), clip_share=(REAL,),
    vote_valid_rate=(REAL,), vote_entropy=(REAL,), gradient_norm=REAL, clipped=pa.bool_(), learning_rate=REAL,
    groups=COUNT, completions=COUNT, tokens=pa.uint64(),
)


def pixels(folder: Path, wanted: set) -> dict:
    """The bytes of the picture files of `wanted`, by id.

    Variants must have been stored as pixels (`as: png` at the distort step, or `evoq-distort render`): a recipe has none.
    """
    table = pq.read_table(folder, columns=["image_id", "image"])
    found = {row["image_id"]: (row["image"] or {}).get("bytes") for row in table.to_pylist() if row["image_id"] in wanted}
    for name in sorted(wanted):
        if found.get(name) is None:
            what = "is a recipe" if name in found else "is not there"
            sys.exit(f"error: {folder}: picture {name} {what}; expected its pixels: give the distort step `as: png`")
    return found


def updates_of(folder: Path, per_update: int, seed: int) -> list:
    """The labelled pairs as updates of `per_update` pairs each, in an order drawn under `seed`.

    A pair is (image_a, image_b, p*). No picture stands twice in an update, so a trainer that draws one group of
    completions for each row draws one for each picture, and a picture's partner is one other picture. A pair that shares
    a picture waits for the next update; what does not fill an update at the end is left out and told.
    """
    rows = pq.read_table(folder, columns=["image_a", "image_b", "preference"]).to_pylist()
    waiting = [(it["image_a"], it["image_b"], it["preference"]) for it in rows if it["preference"] is not None]
    unlabelled = len(rows) - len(waiting)
    random.Random(seed).shuffle(waiting)
    updates = []
    while len(chosen := disjoint(waiting, per_update)) == per_update:
        updates.append(chosen)
        waiting = [pair for pair in waiting if pair not in chosen]
    if not updates:
        sys.exit(f"error: {folder}: {len(waiting)} labelled pairs; expected {per_update} without a picture in common: "
                 "label more pairs, or give fewer pairs an update")
    print(f"{len(updates)} updates of {per_update} pairs; left out: {len(waiting)} pairs that fill no further update, "
          f"{unlabelled} without a label", file=sys.stderr)
    return updates


def disjoint(pairs: list, count: int) -> list:
    """The first `count` of `pairs` without a picture in common, or as many as there are."""
    chosen, used = [], set()
    for pair in pairs:
        if len(chosen) < count and used.isdisjoint(pair[:2]):
            chosen.append(pair)
            used.update(pair[:2])
    return chosen


def pictures_of(pairs: list) -> list:
    """Both pictures of each pair, side by side: (image_id, partner, p* seen from the picture)."""
    return [side for a, b, preference in pairs for side in ((a, b, preference), (b, a, 1 - preference))]


def write(folder: Path, name: str, rows: list, schema: pa.Schema) -> None:
    """Writes `rows` as the one file of a table."""
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / f"{name}.parquet")

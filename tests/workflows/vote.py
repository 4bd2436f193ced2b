"""A stage in Python: votes, once in each order, for the variant that is less distorted. It shows the contract, not a judge.

usage: vote.py IMAGES PAIRS VOTES SEED TYPE   (folders; TYPE is the Arrow type of the column `vote`)
"""

import sys

import pyarrow as pa
import pyarrow.parquet as pq

images, pairs, votes, seed, vote_type = sys.argv[1:]
severity = {row["image_id"]: row["severity"] for row in pq.read_table(images, columns=["image_id", "severity"]).to_pylist()}

rows = []
for pair in pq.read_table(pairs).to_pylist():
    a, b = pair["image_a"], pair["image_b"]
    outcome = "a" if severity[a] <= severity[b] else "b"
    for vote, presented in enumerate(["ab", "ba"]):
        rows.append({
            "pair_id": pair["pair_id"], "image_a": a, "image_b": b, "vote": vote, "samples": 2,
            "presented": presented, "outcome": outcome, "invalid_reason": None, "reply": f"{outcome} is less distorted",
            "answer_logprob": 0.0, "tokens": 0, "finish": "stop", "probability_a": None, "probability_b": None,
            "prompt": "", "policy": "vote.py", "min_pixels": None, "max_pixels": None, "seed": int(seed),
        })

text = pa.string()
schema = pa.schema({
    "pair_id": text, "image_a": text, "image_b": text, "vote": pa.type_for_alias(vote_type), "samples": pa.uint16(),
    "presented": text, "outcome": text, "invalid_reason": text, "reply": text, "answer_logprob": pa.float32(),
    "tokens": pa.uint32(), "finish": text, "probability_a": pa.float64(), "probability_b": pa.float64(), "prompt": text,
    "policy": text, "min_pixels": pa.uint64(), "max_pixels": pa.uint64(), "seed": pa.uint64(),
})
pq.write_table(pa.Table.from_pylist(rows, schema), f"{votes}/votes.parquet")

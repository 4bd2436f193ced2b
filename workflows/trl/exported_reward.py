"""The reward of a batch of what export.py wrote, Eq. 2 and 3, for EasyR1's batch reward function. Plain Python.

A batch must hold both pictures of each pair, each with all its completions; a picture whose partner is missing is an error.
EasyR1 loads this file by its path, so the folder must be on PYTHONPATH for `reward`.
"""

import json
from collections import defaultdict

import reward


def rewards(replies: list, truths: list) -> list:
    """The reward of each reply, given the JSON that export.py wrote as the truth of each."""
    truths = [json.loads(truth) for truth in truths]
    scores, rows = defaultdict(list), defaultdict(list)
    for row, (reply, truth) in enumerate(zip(replies, truths, strict=True)):
        scores[truth["image_id"]].append(reward.score(reply)[0])
        rows[truth["image_id"]].append(row)
    found = [0.0] * len(replies)
    for name, places in rows.items():
        truth = truths[places[0]]
        if truth["partner"] not in scores:
            raise ValueError(f"picture {name}: its partner {truth['partner']} is not in the batch; expected both pictures of a pair: "
                             "do not shuffle the rows, and give batches of twice the pairs of an update")
        for row, (_, r) in zip(places, reward.earned(scores[name], scores[truth["partner"]], truth["preference"])):
            found[row] = r
    return found


def compute_score(reward_inputs: list) -> list:
    """The reward of each completion of a batch, as EasyR1 asks for it (`worker.reward.reward_function`)."""
    found = rewards([it["response"] for it in reward_inputs], [it["ground_truth"] for it in reward_inputs])
    return [dict(overall=r) for r in found]

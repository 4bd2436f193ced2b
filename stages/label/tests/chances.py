"""Reference values of what K votes come to, from scipy's binomial distribution.

    python -m venv venv && venv/bin/pip install scipy
    venv/bin/python chances.py > chances.json

A case has the probabilities of a vote for either side where image_a is shown first (ab) and where image_b is (ba), how many
votes are cast and in which orders, and the quorum; its chances are those of a majority for image_a, of a tie, and of one for
image_b, among at least as many valid votes as the quorum asks for.
"""

import itertools
import json
import random

from scipy.stats import binom


def counts(vote, votes):
    """The probability of each (votes for a, votes for b) among `votes` alike: first how many are valid, then for which side."""
    a, b = vote
    for valid in range(votes + 1):
        for for_a in range(valid + 1):
            share = a / (a + b) if a + b else 0.0
            yield for_a, valid - for_a, binom.pmf(valid, votes, a + b) * binom.pmf(for_a, valid, share)


def majority(groups, quorum):
    """The chances of several groups of votes together, each of them (vote, votes)."""
    chances = [0.0, 0.0, 0.0]
    for parts in itertools.product(*(list(counts(*group)) for group in groups)):
        a, b = sum(it[0] for it in parts), sum(it[1] for it in parts)
        chance = 1.0
        for it in parts:
            chance *= it[2]
        if a + b >= quorum:
            chances[0 if a > b else 1 if a == b else 2] += chance
    return [float(it) for it in chances]


def chances(ab, ba, samples, quorum, order):
    if order == "fixed":
        return majority([(ab, samples)], quorum)
    if order == "balanced":
        return majority([(ab, samples - samples // 2), (ba, samples // 2)], quorum)
    if order == "per-vote":
        return majority([([(x + y) / 2 for x, y in zip(ab, ba)], samples)], quorum)
    both = majority([(ab, samples)], quorum), majority([(ba, samples)], quorum)
    return [(x + y) / 2 for x, y in zip(*both)]


draw = random.Random(1)


def vote():
    a, b, invalid = (draw.random() for _ in range(3))
    total = a + b + draw.choice([0.0, 0.1, 1.0]) * invalid
    return [a / total, b / total]


cases = []
for samples, quorum in itertools.product([1, 2, 5, 8, 32], [1, 3, 5]):
    votes = [(vote(), vote()), (vote(), vote())]
    for (ab, ba), order in itertools.product(votes, ["per-vote", "balanced", "per-pair", "fixed"]):
        if order == "balanced" and samples > 8:
            # All combinations of both groups: a few are enough.
            if quorum > 1 or ab is not votes[0][0]:
                continue
        known = {"ab": ab, "ba": ba, "samples": samples, "quorum": quorum, "order": order}
        cases.append({**known, "chances": chances(ab, ba, samples, quorum, order)})
print("[\n" + ",\n".join(json.dumps(it) for it in cases) + "\n]")

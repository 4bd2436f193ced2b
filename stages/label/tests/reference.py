"""Reference values of the report's figures, from the definitions and from the package krippendorff.

    python -m venv venv && venv/bin/pip install numpy krippendorff
    venv/bin/python reference.py > reference.json

A case is a list of pairs, each with its valid votes for either side and how many of them were for the picture shown first.
"""

import json

import krippendorff
import numpy as np

Z = 1.959963984540054


def alpha(sides):
    """Nominal alpha from the matrix of coincidences (Krippendorff, Content Analysis, ch. 12), and by the package."""
    coincidences = np.zeros((2, 2))
    for a, b in sides:
        m = a + b
        if m < 2:
            continue
        counts = np.array([a, b], float)
        coincidences += (np.outer(counts, counts) - np.diag(counts)) / (m - 1)
    totals = coincidences.sum(0)
    n = totals.sum()
    observed = coincidences.sum() - np.trace(coincidences)
    expected = (n**2 - (totals**2).sum()) / (n - 1)
    value = 1 - observed / expected
    packaged = krippendorff.alpha(value_counts=np.array(sides), level_of_measurement="nominal")
    assert abs(value - packaged) < 1e-12, (value, packaged)
    return value


def case(seed, pairs, votes, spread):
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(pairs):
        rate = random.beta(spread, spread)
        valid = int(random.integers(0, votes + 1))
        a = int(random.binomial(valid, rate))
        rows.append([a, valid - a, int(random.binomial(valid, 0.6))])
    sides = [[a, b] for a, b, _ in rows]
    value = alpha(sides)

    comparable = [it for it in sides if sum(it) >= 2]
    n = len(comparable)
    without = np.array([alpha(comparable[:i] + comparable[i + 1 :]) for i in range(n)])
    half = Z * np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())

    valid = np.array([a + b for a, b, _ in rows], float)
    first = np.array([it for _, _, it in rows], float)
    first, valid = first[valid > 0], valid[valid > 0]
    rate = first.sum() / valid.sum()
    # The ratio estimator's variance, clusters of unequal size (Cochran, Sampling Techniques, 6.4).
    size = len(valid)
    error = np.sqrt(size / (size - 1) * ((first - rate * valid) ** 2).sum()) / valid.sum()

    tied, p = len(rows), np.mean([a == b for a, b, _ in rows])
    centre = (p + Z**2 / (2 * tied)) / (1 + Z**2 / tied)
    wilson = Z * np.sqrt(p * (1 - p) / tied + Z**2 / (4 * tied**2)) / (1 + Z**2 / tied)
    return {
        "pairs": rows,
        "alpha": value,
        "alpha_low": value - half,
        "alpha_high": min(value + half, 1.0),
        "first_rate": rate,
        "first_rate_low": max(rate - Z * error, 0.0),
        "first_rate_high": min(rate + Z * error, 1.0),
        "ties_low": max(centre - wilson, 0.0),
        "ties_high": min(centre + wilson, 1.0),
    }


SHAPES = [(20, 8, 1), (30, 6, 0.5), (40, 32, 0.5), (60, 32, 1), (60, 6, 20), (150, 16, 0.5)]
cases = [case(seed, *shape) for seed, shape in enumerate(SHAPES)]
print("[\n" + ",\n".join(json.dumps(it) for it in cases) + "\n]")

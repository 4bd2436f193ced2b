"""Writes correlations.json beside it: small lists with scipy's coefficients, for the unit tests.

python3 correlations.py   (numpy, scipy)
"""

import json
import pathlib

import numpy as np
from scipy import stats

rng = np.random.default_rng(20250925)


def case(name, x, y):
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    return {
        "name": name,
        "x": x.tolist(),
        "y": y.tolist(),
        "plcc": stats.pearsonr(x, y).statistic,
        "srcc": stats.spearmanr(x, y).statistic,
        "krcc": stats.kendalltau(x, y).statistic,
        "rmse": float(np.sqrt(np.mean((x - y) ** 2))),
    }


truth = rng.uniform(1, 5, 30)
severity = 6.0 - np.arange(24) % 6
cases = [
    case("noisy", truth + rng.normal(0, 0.7, 30), truth),
    case("inverted", 6 - truth, truth),
    case("unrelated", rng.uniform(1, 5, 30), truth),
    case("ties on one side", rng.normal(severity, 1.5), severity),
    case("ties on both sides", np.clip(np.round(rng.normal(severity, 1.5)), 1, 5), severity),
    case("two values", np.where(severity > 3, 4.5, 1.5), severity),
    case("three pictures", [2.5, 1.0, 4.0], [3.0, 1.5, 2.0]),
]
text = json.dumps(cases, indent=1, default=float)
pathlib.Path(__file__).with_suffix(".json").write_text(text + "\n")

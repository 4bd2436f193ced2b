"""Writes correlations.json beside it: small lists with scipy's coefficients and fits, for the unit tests.

python3 correlations.py   (numpy, scipy)
"""

import json
import pathlib

import numpy as np
from scipy import optimize, stats

rng = np.random.default_rng(20250925)


def logistic4(x, a, b, c, d):
    return (a - b) / (1 + np.exp(-(x - c) / np.abs(d))) + b


def logistic5(x, b1, b2, b3, b4, b5):
    return b1 * (0.5 - 1 / (1 + np.exp(b2 * (x - b3)))) + b4 * x + b5


def fit(curve, start, x, y):
    """PLCC and RMSE of the fitted scores, and their direction; null where scipy gives up."""
    try:
        found, _ = optimize.curve_fit(curve, x, y, p0=start, ftol=1e-13, xtol=1e-13, maxfev=100_000)
    except (RuntimeError, TypeError):
        return None
    fitted = curve(x, *found)
    return {
        "plcc": stats.pearsonr(fitted, y).statistic,
        "rmse": float(np.sqrt(np.mean((fitted - y) ** 2))),
        "sign": float(np.sign(stats.pearsonr(fitted, x).statistic)),
    }


def fitted_case(name, x, y):
    """A case with a valley of its own: where there are several, which one is found is an accident of the search."""
    start4 = [y.max(), y.min(), x.mean(), x.std() / 4]
    start5 = [10, 0, y.mean(), 0.1, 0.1]
    return case(name, x, y) | {"fit4": fit(logistic4, start4, x, y), "fit5": fit(logistic5, start5, x, y)}


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
bent = 5 / (1 + np.exp(-1.5 * (truth - 3)))
cases = [
    case("noisy", truth + rng.normal(0, 0.7, 30), truth),
    case("inverted", 6 - truth, truth),
    case("unrelated", rng.uniform(1, 5, 30), truth),
    case("ties on one side", rng.normal(severity, 1.5), severity),
    case("ties on both sides", np.clip(np.round(rng.normal(severity, 1.5)), 1, 5), severity),
    case("two values", np.where(severity > 3, 4.5, 1.5), severity),
    fitted_case("a curve", truth, bent + np.linspace(-0.1, 0.1, 30)),
    fitted_case("a curve turned round", 6 - truth, bent + np.linspace(-0.1, 0.1, 30)),
    fitted_case("a curve with noise", truth, bent + np.tile([-0.5, 0.4, 0.1], 10)),
    case("three pictures", [2.5, 1.0, 4.0], [3.0, 1.5, 2.0]),
]
text = json.dumps(cases, indent=1, default=float)
pathlib.Path(__file__).with_suffix(".json").write_text(text + "\n")

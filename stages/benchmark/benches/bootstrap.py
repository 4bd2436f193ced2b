"""Bootstrap intervals with numpy and scipy beside ours, in one run.

python3 bootstrap.py PROGRAM   (numpy, scipy; PROGRAM is the built bench `bootstrap`)

numpy and scipy take 200 resamples of each set; their time is multiplied to the 10,000 that ours takes.
"""

import resource
import subprocess
import sys
import time

import numpy as np
from scipy import stats

SIZES = [2010, 2224, 2982, 1162, 2000, 4640, 3000, 866]
TAKEN, WANTED = 200, 10_000


def cpu(of):
    usage = resource.getrusage(of)
    return usage.ru_utime + usage.ru_stime


def peer():
    rng = np.random.default_rng(1)
    for size in SIZES:
        truth = rng.uniform(1, 5, size)
        scores = np.round(truth + rng.uniform(0, 2, size), 2)
        for _ in range(TAKEN):
            drawn = rng.integers(0, size, size)
            x, y = scores[drawn], truth[drawn]
            stats.pearsonr(x, y)
            stats.spearmanr(x, y)
            stats.kendalltau(x, y)
            np.sqrt(np.mean((x - y) ** 2))


start, before = time.perf_counter(), cpu(resource.RUSAGE_SELF)
peer()
theirs = [(time.perf_counter() - start) * WANTED / TAKEN, (cpu(resource.RUSAGE_SELF) - before) * WANTED / TAKEN]
start = time.perf_counter()
subprocess.run([sys.argv[1]], check=True)
ours = [time.perf_counter() - start, cpu(resource.RUSAGE_CHILDREN)]
for name, mine, other in zip(["wall", "CPU"], ours, theirs):
    print(f"{name}: ours {mine:.2f} s, numpy and scipy {other:.1f} s, {other / mine:.0f} times as much")

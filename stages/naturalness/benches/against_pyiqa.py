"""NIQE and BRISQUE beside pyiqa's and OpenCV's own: the same scores, and what they cost on one thread.

    pip install pyiqa==0.1.16 opencv-contrib-python-headless==5.0.0.93
    cargo build -p evoq-naturalness --bench measures
    python stages/naturalness/benches/against_pyiqa.py compare target/debug/deps/measures-… PARAMS PICTURE…
    python stages/naturalness/benches/against_pyiqa.py reference [PARAMS]
    python stages/naturalness/benches/against_pyiqa.py fit FILE.mat FOLDER

PARAMS is a folder with the releases' parameter files: niqe_modelparameters.mat, brisque_allmodel.libsvm, brisque_allrange,
brisque_model_live.opencv.yml and brisque_range_live.opencv.yml. The model that pyiqa would fetch for BRISQUE is the same
brisque_allmodel, so it is made of that here.

`compare` prints the greatest differences of the scores and the costs, and fails where the score of a textured picture is more
than 1 % away or pyiqa is faster. Where an area is even, the sign of a pixel's distance from its local mean is rounding, and
both measures count signs, so that pyiqa with 32 and with 64 bits differs from itself: a picture is textured where at most 1 in 1,000 of its windows of 7 x 7 pixels is even. BRISQUE's
scale, about 0 to 100, passes through 0: its differences are of the score, or of 10 where that is more. OpenCV cuts its score
to 0..100; pictures at either end are left out of its comparison.
`reference` writes tests/reference.json: the features of generated pictures as pyiqa and OpenCV find them, and, with PARAMS,
their scores.
`fit` compares a file that `evoq-score --method niqe --fit FOLDER --out FILE.mat` wrote with the mean and the covariance of
pyiqa's features of the same sharp blocks.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[variable] = "1"

import cv2
import numpy as np
import torch
from PIL import Image
from pyiqa.archs import brisque_arch, niqe_arch

torch.set_num_threads(1)
cv2.setNumThreads(1)

ROUNDS = 3
CRATE = Path(__file__).parents[1]


def libsvm(path: Path):
    """Coefficients and support vectors of a model."""
    rows = path.read_text().split("SV\n", 1)[1].split("\n")
    rows = [row.split() for row in rows if row.strip()]
    vectors = np.zeros((len(rows), 36))
    for at, row in enumerate(rows):
        for word in row[1:]:
            feature, value = word.split(":")
            vectors[at, int(feature) - 1] = float(value)
    return torch.tensor([float(row[0]) for row in rows]), torch.tensor(vectors, dtype=torch.float32)


class Peers:
    """pyiqa's and OpenCV's measures on the same parameter files."""

    def __init__(self, params: Path):
        self.niqe = niqe_arch.NIQE(pretrained_model_path=str(params / "niqe_modelparameters.mat"))
        with tempfile.NamedTemporaryFile(suffix=".pth") as file:
            torch.save(libsvm(params / "brisque_allmodel.libsvm"), file.name)
            self.brisque = brisque_arch.BRISQUE(pretrained_model_path=file.name)
        self.opencv = cv2.quality.QualityBRISQUE_create(str(params / "brisque_model_live.opencv.yml"), str(params / "brisque_range_live.opencv.yml"))

    def score(self, measure: str, picture):
        pixels, tensor = picture
        with torch.no_grad():
            if measure == "opencv":
                return self.opencv.compute(pixels)[0]
            return float(getattr(self, measure)(tensor))


def prepared(pixels: np.ndarray):
    """A picture as OpenCV and as pyiqa take it."""
    tensor = torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]
    return np.ascontiguousarray(pixels[..., ::-1]), tensor


def even_share(bgr: np.ndarray) -> float:
    """The share of windows of 7 x 7 pixels in which all have one luma."""
    luma = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
    window = np.ones((7, 7), np.uint8)
    return float((cv2.dilate(luma, window) == cv2.erode(luma, window)).mean())


def greatest(what: str, differences: list) -> str:
    shown = ", ".join(f"{d:.1e} ({Path(path).name}: {a:.4f}, {b:.4f})" for d, path, a, b in sorted(differences, reverse=True)[:3])
    median = f", median {np.median([it[0] for it in differences]):.1e}" if differences else ""
    return f"  {len(differences)} {what}{median}: {shown}"


def compare(program: str, params: Path, paths: list[str]) -> bool:
    files = ["niqe_modelparameters.mat", "brisque_allmodel.libsvm", "brisque_allrange", "brisque_model_live.opencv.yml", "brisque_range_live.opencv.yml"]
    command = [program, *(str(params / file) for file in files), str(ROUNDS), *paths]
    lines = [json.loads(line) for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()]
    ours = [line for line in lines if "picture" in line]
    costs = {line["measure"]: line for line in lines if "measure" in line}
    peers = Peers(params)
    pictures = [prepared(np.asarray(Image.open(path).convert("RGB"))) for path in paths]
    textured = [even_share(bgr) <= 0.001 for bgr, _ in pictures]
    good = True
    for measure in ("niqe", "brisque", "opencv"):
        wall = cpu = float("inf")
        for _ in range(ROUNDS):
            clock, processor = time.perf_counter(), time.process_time()
            theirs = [peers.score(measure, picture) for picture in pictures]
            wall, cpu = min(wall, time.perf_counter() - clock), min(cpu, time.process_time() - processor)
        least = 1e-9 if measure == "niqe" else 10
        found = [(abs(line[measure] - score) / max(abs(score), least), line["picture"], line[measure], score) for line, score in zip(ours, theirs)]
        kept = [measure != "opencv" or 0 < score < 100 for score in theirs]
        cost = costs[measure]
        print(f"{measure}: ours {cost['wall']:.3f} s wall {cost['cpu']:.3f} s CPU, theirs {wall:.3f} s wall {cpu:.3f} s CPU: {cpu / cost['cpu']:.1f} times")
        on_textured = [it for it, keep, is_textured in zip(found, kept, textured) if keep and is_textured]
        print(greatest("textured", on_textured))
        print(greatest("with even areas", [it for it, keep, is_textured in zip(found, kept, textured) if keep and not is_textured]))
        good &= max(it[0] for it in on_textured) <= 0.01 and (measure == "opencv" or cost["cpu"] < cpu)
    return good


def noise(x, y, seed):
    """Numbers from 0 to 255 that depend on the place alone, in whole numbers of 32 bits."""
    mask = 0xFFFFFFFF
    mixed = (x * 374761393 + y * 668265263 + seed * 2246822519) & mask
    mixed = ((mixed ^ (mixed >> 13)) * 1274126177) & mask
    return (mixed >> 16) & 255


def generated(width: int, height: int, seed: int, weights, grey: bool) -> np.ndarray:
    """A texture: noise in squares of 1, 2, 4, 8, … pixels, mixed by `weights`; each channel with its own, unless it is grey."""
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    channel = lambda c: sum(weight * noise(x >> level, y >> level, seed * 3 + c) for level, weight in enumerate(weights)) // sum(weights)
    return np.stack([channel(0 if grey else c) for c in range(3)], -1).astype(np.uint8)


# In colour, some lumas lie between two whole numbers, and which of them they are rounded to is a matter of the last bit.
PICTURES = [
    (200, 300, 1, [1, 2, 4, 8], True),
    (301, 211, 2, [8, 1, 1, 1, 4], True),
    (193, 97, 3, [1, 0, 2, 6], True),
    (64, 48, 4, [1, 1, 1, 1], True),
    (230, 310, 5, [2, 2, 3, 6, 6], False),
]


def niqe_features(tensor) -> list:
    """The features of each block, row by row, as pyiqa's niqe has them between its own lines."""
    found = []
    taken = niqe_arch.nancov
    niqe_arch.nancov = lambda features: (found.append(features), taken(features))[1]
    niqe_arch.calculate_niqe(tensor, mu_pris_param=torch.zeros(36), cov_pris_param=torch.eye(36))
    niqe_arch.nancov = taken
    across, down = tensor.shape[3] // 96, tensor.shape[2] // 96
    return found[0][0].reshape(across, down, 36).transpose(0, 1).reshape(-1, 36).tolist()


def reference(params: Path | None) -> None:
    rows = []
    for width, height, seed, weights, grey in PICTURES:
        pixels = generated(width, height, seed, weights, grey)
        picture = prepared(pixels)
        bgr, tensor = picture
        luma = brisque_arch.to_y_channel(tensor, 255.0).double()
        half = brisque_arch.imresize(luma, scale=0.5, antialiasing=True)
        brisque = torch.cat([brisque_arch.natural_scene_statistics(it) for it in (luma, half)], -1)[0].tolist()
        opencv = cv2.quality.QualityBRISQUE_computeFeatures(bgr)[0].tolist()
        row = dict(width=width, height=height, seed=seed, weights=weights, grey=grey, sum=int(pixels.sum()),
                   niqe_features=niqe_features(tensor) if min(width, height) >= 96 else [], brisque_features=brisque, opencv_features=opencv)
        if params:
            peers = Peers(params)
            measures = ["brisque", "opencv"] + (["niqe"] if min(width, height) >= 96 else [])
            row.update({measure: peers.score(measure, picture) for measure in measures})
        rows.append(row)
    text = ",\n".join(json.dumps(row) for row in rows)
    (CRATE / "tests/reference.json").write_text(f"[\n{text}\n]\n")


def fit(file: Path, folder: Path) -> bool:
    from scipy.io import loadmat
    from scipy.ndimage import correlate1d
    window = np.exp(-np.arange(-3, 4) ** 2 / (2 * (7 / 6) ** 2))
    mixed = lambda plane: correlate1d(correlate1d(plane, window / window.sum(), axis=1, mode="nearest"), window / window.sum(), axis=0, mode="nearest")
    blocks = []
    for path in sorted(folder.glob("*.png")):
        tensor = prepared(np.asarray(Image.open(path).convert("RGB")))[1]
        luma = niqe_arch.to_y_channel(tensor, 255)[0, 0].numpy().astype(float)
        down, across = luma.shape[0] // 96, luma.shape[1] // 96
        luma = luma[:down * 96, :across * 96]
        deviations = np.sqrt(np.abs(mixed(luma * luma) - mixed(luma) ** 2))
        sharpness = deviations.reshape(down, 96, across, 96).mean((1, 3)).ravel()
        blocks.append(np.array(niqe_features(tensor))[sharpness > 0.75 * sharpness.max()])
    blocks = np.concatenate(blocks)
    ours = loadmat(file)
    mean, covariance = np.nanmean(blocks, 0), np.cov(blocks[~np.isnan(blocks).any(1)].T)
    off = [np.abs(a - b).max() / np.abs(a).max() for a, b in [(mean, ours["mu_prisparam"][0]), (covariance, ours["cov_prisparam"])]]
    print(f"{len(blocks)} sharp blocks; of the greatest number, the mean is {off[0]:.1e} away and the covariance {off[1]:.1e}")
    return max(off) < 0.01


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["compare", program, params, *pictures]:
            sys.exit(0 if compare(program, Path(params), pictures) else 1)
        case ["reference", *params]:
            reference(Path(params[0]) if params else None)
        case ["fit", file, folder]:
            sys.exit(0 if fit(Path(file), Path(folder)) else 1)
        case _:
            sys.exit(__doc__)

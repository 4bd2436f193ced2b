# /// script
# requires-python = ">=3.10"
# dependencies = ["albumentations==2.0.8", "opencv-python-headless", "numpy", "pillow"]
# ///
"""Times the types that albumentations has as well against it, on one thread each, in one run.

    uv run distortions/benches/against_albumentations.py [PICTURE] [TYPE ...]

or with `pip install albumentations==2.0.8 pillow` and `python`. Without PICTURE, one of 1024x768 pixels is generated.
Calls `cargo bench --workspace --bench distortions` for this crate's times. Both sides: the shortest of many runs.

What is the same operation is judged by what is done to a pixel, at the same parameters:
 - blurs and noises of one kind: same kernel width, deviation, amount; albumentations sums up in lower precision;
 - speckle: its multipliers are uniform, of the same deviation, where this crate's are normal;
 - HSV shifts: by whole levels there, before rounding here;
 - saturation in YCrCb and ColorJitter: both move a pixel from or towards its grey;
 - contrast and ColorJitter: both move a sample from or towards the mean grey;
 - oversharpen and UnsharpMask: its alpha ends at 1, so that is taken at every severity.
No counterpart: jitter, noise in YCrCb and correlated noise, JPEG 2000, gamma of HSV, contrast stretching, saturation in HSV
(added there, multiplied here), and quantisation (Posterize drops bits, Equalize keeps all levels).
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import albumentations as A
import cv2
import numpy as np
from PIL import Image

cv2.setNumThreads(1)


def same(value):
    return (value, value)


def downscale(scale):
    area_and_nearest = {"downscale": cv2.INTER_AREA, "upscale": cv2.INTER_NEAREST}
    return A.Downscale(scale_range=same(scale), interpolation_pair=area_and_nearest, p=1)


def brightness(shift):
    return A.RandomBrightnessContrast(brightness_limit=same(shift), contrast_limit=same(0), p=1)


def value_shift(shift):
    still = {"hue_shift_limit": same(0), "sat_shift_limit": same(0)}
    return A.HueSaturationValue(val_shift_limit=same(round(255 * shift)), **still, p=1)


def jitter(**changed):
    still = {"brightness": same(1), "contrast": same(1), "saturation": same(1), "hue": same(0)}
    return A.ColorJitter(**(still | {name: same(value) for name, value in changed.items()}), p=1)


def gamma(power):
    return A.RandomGamma(gamma_limit=same(100 * power), p=1)


def speckle(deviation):
    half_width = deviation * 3**0.5
    return A.MultiplicativeNoise(multiplier=(1 - half_width, 1 + half_width), per_channel=True, elementwise=True, p=1)


def glass(parameters):
    sigma, shift, rounds = parameters
    return A.GlassBlur(sigma=sigma, max_delta=shift, iterations=rounds, p=1)


# Type: the transform at a parameter, and the parameters at severities 1 to 5.
PAIRS = {
    "blur_gaussian": (lambda s: A.GaussianBlur(blur_limit=same(8 * s + 1), sigma_limit=same(s), p=1), [1, 2, 3, 4, 5]),
    "blur_motion": (lambda taps: A.MotionBlur(blur_limit=same(taps), p=1), [11, 21, 31, 31, 41]),
    "blur_glass": (glass, [(0.7, 1, 1), (0.9, 2, 1), (1.2, 2, 2), (1.4, 3, 2), (1.6, 4, 2)]),
    "blur_lens": (lambda radius: A.Defocus(radius=same(radius), alias_blur=same(0.1), p=1), [2, 3, 4, 6, 8]),
    "blur_zoom": (
        lambda end: A.ZoomBlur(max_factor=same(end), step_factor=same(0.02), p=1),
        [1.03, 1.07, 1.11, 1.15, 1.21],
    ),
    "noise_gaussian_RGB": (lambda s: A.GaussNoise(std_range=same(s), per_channel=True, p=1), [0.05, 0.1, 0.15, 0.2, 0.25]),
    "noise_speckle": (speckle, [0.14, 0.21, 0.28, 0.35, 0.42]),
    "noise_poisson": (lambda factor: A.ShotNoise(scale_range=same(1 / factor), p=1), [80, 60, 40, 25, 15]),
    "noise_impulse": (lambda amount: A.SaltAndPepper(amount=same(amount), p=1), [0.01, 0.03, 0.05, 0.07, 0.1]),
    "compression_jpeg": (lambda quality: A.ImageCompression(quality_range=same(quality), p=1), [25, 18, 12, 8, 5]),
    "brightness_brighten_shfit_RGB": (brightness, [0.1, 0.15, 0.2, 0.27, 0.35]),
    "brightness_darken_shfit_RGB": (brightness, [-0.1, -0.15, -0.2, -0.27, -0.35]),
    "brightness_brighten_shfit_HSV": (value_shift, [0.1, 0.2, 0.3, 0.4, 0.5]),
    "brightness_darken_shfit_HSV": (value_shift, [-0.1, -0.2, -0.3, -0.4, -0.5]),
    "brightness_brighten_gamma_RGB": (gamma, [0.8, 0.7, 0.6, 0.45, 0.3]),
    "brightness_darken_gamma_RGB": (gamma, [1.4, 1.7, 2.1, 2.6, 3.2]),
    "contrast_strengthen_scale": (lambda factor: jitter(contrast=factor), [1.4, 1.7, 2.1, 2.6, 4.0]),
    "contrast_weaken_scale": (lambda factor: jitter(contrast=factor), [0.75, 0.6, 0.45, 0.3, 0.2]),
    "saturate_strengthen_YCrCb": (lambda factor: jitter(saturation=factor), [2, 3, 5, 8, 16]),
    "saturate_weaken_YCrCb": (lambda factor: jitter(saturation=factor), [0.6, 0.4, 0.2, 0.1, 0]),
    "oversharpen": (lambda alpha: A.UnsharpMask(blur_limit=same(5), alpha=same(alpha), threshold=0, p=1), [1] * 5),
    "pixelate": (downscale, [0.5, 0.4, 0.3, 0.25, 0.2]),
}


def generated():
    """A picture with detail at every scale, as photographs have."""
    random = np.random.default_rng(1)
    octaves = [random.integers(0, 256, (side, side, 3), dtype=np.uint8) for side in (4, 8, 16, 32, 64, 128, 256, 512)]
    enlarged = [cv2.resize(octave, (1024, 768), interpolation=cv2.INTER_CUBIC) for octave in octaves]
    return sum(octave.astype(np.float64) / 2**i for i, octave in enumerate(enlarged, 1)).astype(np.uint8)


def shortest(transform, picture):
    """The shortest wall and CPU times of a run, in milliseconds."""
    wall = cpu = float("inf")
    start, runs = time.perf_counter(), 0
    while runs < 3 or time.perf_counter() - start < 0.3:
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        transform(image=picture)
        wall = min(wall, time.perf_counter() - wall_start)
        cpu = min(cpu, time.process_time() - cpu_start)
        runs += 1
    return 1000 * wall, 1000 * cpu


def ours(path, types):
    """Wall and CPU milliseconds by type and severity."""
    command = ["cargo", "bench", "--quiet", "--workspace", "--bench", "distortions", "--", "--picture", path, *types]
    lines = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent).stdout
    rows = [line.split("\t") for line in lines.splitlines()[1:]]
    return {(name, int(severity)): (float(wall), float(cpu)) for name, severity, _, wall, cpu in rows}


def main():
    words = sys.argv[1:]
    types = [word for word in words if word in PAIRS] or list(PAIRS)
    paths = [word for word in words if word not in PAIRS]
    picture = np.array(Image.open(paths[0]).convert("RGB")) if paths else generated()
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        Image.fromarray(picture).save(file.name)
        mine = ours(file.name, types)
    print(f"albumentations {A.__version__}, OpenCV {cv2.__version__}, {picture.shape[1]}x{picture.shape[0]} pixels, one thread")
    print("Milliseconds at severities 1 to 5, and how many times faster in all, by wall and by CPU time")
    slower = []
    for name in types:
        make, parameters = PAIRS[name]
        theirs = [shortest(make(parameter), picture) for parameter in parameters]
        mine_here = [mine[name, severity] for severity in range(1, 6)]
        wall, cpu = (sum(t[i] for t in theirs) / sum(t[i] for t in mine_here) for i in (0, 1))
        if wall < 1 or cpu < 1:
            slower.append(name)
        columns = "  ".join(f"{a[0]:6.2f} /{b[0]:7.2f}" for a, b in zip(mine_here, theirs))
        print(f"{name:30} {columns}   {wall:6.2f} {cpu:6.2f}", flush=True)
    print("Slower: " + (", ".join(slower) or "none"))


main()

"""Writes independent.json: fingerprints of what NumPy 2, SciPy 1 and Pillow 12 make of a generated picture.

An implementation apart from the one in Rust: python independent.py > independent.json
"""

import io
import json
import math

import numpy as np
from PIL import Image, ImageEnhance
from scipy import ndimage

WIDTH, HEIGHT = 59, 46


def picture():
    """Ramps with a texture, a flat corner, and black and white corners; integers only."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.int64)
    texture = (x * x * 7 + y * y * 11 + x * y * 13) % 61
    rgb = np.stack([x * 3 + texture, y * 4 + texture * 2, 255 - x * 2 - y - texture], axis=2)
    rgb[:12, :12] = [40, 130, 200]
    rgb[-8:, :8] = 0
    rgb[-8:, -8:] = 255
    return np.clip(rgb, 0, 255).astype(np.uint8)


def truncated(unit):
    return (np.clip(unit, 0, 1) * unit.dtype.type(255)).astype(np.uint8)


def channels(image, f):
    return np.stack([f(image[:, :, c]) for c in range(3)], axis=2)


def blur_gaussian(image, sigma):
    return truncated(channels(image / 255.0, lambda c: ndimage.gaussian_filter(c, sigma, mode="nearest", truncate=4.0)))


def blur_lens(image, radius):
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = (x * x + y * y <= radius * radius).astype(np.float32)
    disk = (disk / disk.sum()).astype(np.float64)
    return truncated(channels(image / 255.0, lambda c: ndimage.correlate(c, disk, mode="mirror")))


def blur_motion(image, parameters, angle=30.0):
    radius, sigma = parameters
    weights = np.exp(-np.arange(2 * radius + 1) ** 2 / (2.0 * sigma**2))
    weights /= weights.sum()
    rows, columns = np.arange(HEIGHT), np.arange(WIDTH)
    total = np.zeros(image.shape)
    for i, weight in enumerate(weights):
        dy = -math.ceil(i * math.sin(math.radians(angle)) - 0.5)
        dx = -math.ceil(i * math.cos(math.radians(angle)) - 0.5)
        moved = image[np.clip(rows - dy, 0, HEIGHT - 1)][:, np.clip(columns - dx, 0, WIDTH - 1)]
        total += weight * moved
    return np.clip(total, 0, 255).astype(np.uint8)


def compression_jpeg(image, quality):
    coded = io.BytesIO()
    Image.fromarray(image).save(coded, "JPEG", quality=quality)
    return np.array(Image.open(coded))


def shift(image, amount):
    return truncated((image / 255.0).astype(np.float32) + np.float32(amount))


def contrast(image, factor):
    return np.array(ImageEnhance.Contrast(Image.fromarray(image)).enhance(factor))


def saturate_strengthen_ycrcb(image, factor):
    r, g, b = (image[:, :, c].astype(np.int64) for c in range(3))
    down = lambda number: (number + (1 << 13)) >> 14
    y = down(4899 * r + 9617 * g + 1868 * b)
    cr = np.clip(down((r - y) * 11682) + 128, 0, 255)
    cb = np.clip(down((b - y) * 9241) + 128, 0, 255)
    cr, cb = (np.clip((c - 128) * factor + 128, 0, 255) - 128 for c in (cr, cb))
    rgb = [y + down(22987 * cr), y + down(-5636 * cb - 11698 * cr), y + down(29049 * cb)]
    return np.clip(np.stack(rgb, axis=2), 0, 255).astype(np.uint8)


def oversharpen(image, amount):
    binomial = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1])
    sums = channels(image.astype(np.int64), lambda c: ndimage.correlate(c, binomial, mode="mirror"))
    blurred = ((sums + 128) >> 8).astype(np.float32)
    amount = np.float32(amount)
    sharp = (np.float32(1) + amount) * image.astype(np.float32) - amount * blurred
    return np.clip(np.rint(sharp), 0, 255).astype(np.uint8)


def pixelate(image, scale):
    small = Image.fromarray(image).resize((int(WIDTH * scale), int(HEIGHT * scale)), Image.BOX)
    return np.array(small.resize((WIDTH, HEIGHT), Image.NEAREST))


def quantization_median(image, colours):
    quantized = lambda c: Image.fromarray(c).quantize(colours, Image.Quantize.MEDIANCUT).convert("L")
    return channels(image, lambda c: np.array(quantized(np.ascontiguousarray(c))))


SHIFTS = [0.1, 0.15, 0.2, 0.27, 0.35]
TYPES = {
    "blur_gaussian": (blur_gaussian, [1, 2, 3, 4, 5]),
    "blur_motion": (blur_motion, [(5, 3), (10, 5), (15, 7), (15, 9), (20, 12)]),
    "blur_lens": (blur_lens, [2, 3, 4, 6, 8]),
    "compression_jpeg": (compression_jpeg, [25, 18, 12, 8, 5]),
    "brightness_brighten_shfit_RGB": (shift, SHIFTS),
    "brightness_darken_shfit_RGB": (shift, [-shift for shift in SHIFTS]),
    "brightness_darken_gamma_RGB": (lambda image, gamma: truncated((image / 255.0) ** gamma), [1.4, 1.7, 2.1, 2.6, 3.2]),
    "contrast_strengthen_scale": (contrast, [1.4, 1.7, 2.1, 2.6, 4.0]),
    "contrast_weaken_scale": (contrast, [0.75, 0.6, 0.45, 0.3, 0.2]),
    "saturate_strengthen_YCrCb": (saturate_strengthen_ycrcb, [2, 3, 5, 8, 16]),
    "oversharpen": (oversharpen, [2.0, 2.8, 4.0, 6.0, 8.0]),
    "pixelate": (pixelate, [0.5, 0.4, 0.3, 0.25, 0.2]),
    "quantization_median": (quantization_median, [20, 15, 10, 6, 3]),
}
SIZES = [(59, 23), (20, 46), (31, 17), (100, 77), (80, 30), (33, 90)]


def fingerprint(image):
    """FNV-1a of the samples, 64 bits."""
    number = 0xCBF29CE484222325
    for byte in image.tobytes():
        number = ((number ^ byte) * 0x100000001B3) % (1 << 64)
    return f"{number:016x}"


image = picture()
bicubic = lambda size: fingerprint(np.array(Image.fromarray(image).resize(size, Image.BICUBIC)))
found = {
    "picture": fingerprint(image),
    "bicubic": {f"{width}x{height}": bicubic((width, height)) for width, height in SIZES},
    "types": {name: [fingerprint(f(image, p)) for p in parameters] for name, (f, parameters) in TYPES.items()},
}
print(json.dumps(found, indent=1))

"""Writes independent.json: fingerprints of what NumPy, SciPy, scikit-image, OpenCV and Pillow make of generated pictures.

An implementation apart from the one in Rust: python independent.py > independent.json
Same output with NumPy 1.24, SciPy 1.10, scikit-image 0.21, OpenCV 4.9, Pillow 10.2 and with NumPy 2.4, SciPy 1.17,
scikit-image 0.26, OpenCV 5.0, Pillow 12.0, on a CPU with AVX2. Trying 15 classes takes scikit-image a minute.
"""

import io
import json
import math

import cv2
import numpy as np
from PIL import Image, ImageEnhance
from scipy import ndimage
from skimage.filters import threshold_multiotsu


def picture():
    """Ramps with a texture, a flat corner, and black and white corners; integers only."""
    height, width = 46, 59
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    texture = (x * x * 7 + y * y * 11 + x * y * 13) % 61
    rgb = np.stack([x * 3 + texture, y * 4 + texture * 2, 255 - x * 2 - y - texture], axis=2)
    rgb[:12, :12] = [40, 130, 200]
    rgb[-8:, :8] = 0
    rgb[-8:, -8:] = 255
    return np.clip(rgb, 0, 255).astype(np.uint8)


def noise(height, width, channels=3):
    """Bytes of a linear congruential generator."""
    number, samples = 1, []
    for _ in range(height * width * channels):
        number = (number * 1664525 + 1013904223) % (1 << 32)
        samples.append(number >> 24)
    return np.array(samples, np.uint8).reshape(height, width, channels)


def ramps(height, width):
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // (width - 1), y * 255 // (height - 1), (x + y) * 255 // (width + height - 2)], axis=2)


PICTURES = {
    "noise": noise(67, 101),
    "faint": 100 + noise(57, 33) // 32,
    "ramps": ramps(33, 57),
    "grey": np.repeat(noise(64, 33, 1), 3, axis=2),
    "two levels": 85 + noise(48, 64) // 128 * 85,
    "six levels": noise(40, 45) // 51 * 51,
    "flat": np.tile([10, 200, 90], (40, 45, 1)),
    "black": np.zeros((32, 32, 3)),
    "white": np.full((32, 32, 3), 255),
}


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
    height, width = image.shape[:2]
    weights = np.exp(-np.arange(2 * radius + 1) ** 2 / (2.0 * sigma**2))
    weights /= weights.sum()
    rows, columns = np.arange(height), np.arange(width)
    total = np.zeros(image.shape)
    for i, weight in enumerate(weights):
        dy = -math.ceil(i * math.sin(math.radians(angle)) - 0.5)
        dx = -math.ceil(i * math.cos(math.radians(angle)) - 0.5)
        if abs(dy) >= height or abs(dx) >= width:
            break
        moved = image[np.clip(rows - dy, 0, height - 1)][:, np.clip(columns - dx, 0, width - 1)]
        total += weight * moved
    return np.clip(total, 0, 255).astype(np.uint8)


def blur_zoom(image, end):
    image = (image / 255.0).astype(np.float32)
    height, width = image.shape[:2]
    factors = np.arange(1, end, 0.02)
    total = np.zeros_like(image)
    for factor in factors:
        cut = [math.ceil(height / factor), math.ceil(width / factor)]
        top, left = (height - cut[0]) // 2, (width - cut[1]) // 2
        middle = image[top : top + cut[0], left : left + cut[1]]
        total += ndimage.zoom(middle, (factor, factor, 1), order=1)[:height, :width]
    return truncated((image + total) / np.float32(len(factors) + 1))


def compressed(image, name, **options):
    coded = io.BytesIO()
    Image.fromarray(image).save(coded, name, **options)
    return np.array(Image.open(coded))


def compression_jpeg(image, quality):
    return compressed(image, "JPEG", quality=quality)


def compression_jpeg_2000(image, decibels):
    return compressed(image, "JPEG2000", quality_mode="dB", quality_layers=[decibels])


def shift(image, amount):
    return truncated((image / 255.0).astype(np.float32) + np.float32(amount))


def gamma(image, power):
    return truncated((image / 255.0) ** power)


def widened(image):
    """More columns, to a multiple of 32: OpenCV's vector code truncates where its code for the rest of a row rounds."""
    return np.pad(image, ((0, 0), (0, -image.shape[1] % 32), (0, 0)), mode="edge")


def shift_hsv(image, amount):
    hsv = cv2.cvtColor(widened((image / 255.0).astype(np.float32)), cv2.COLOR_RGB2HSV)
    hsv[:, :, 2] += np.float32(amount)
    return truncated(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))[:, : image.shape[1]]


def hsv_mapped(image, channel, f):
    hsv = cv2.cvtColor(widened(image), cv2.COLOR_RGB2HSV)
    hsv[:, :, channel] = f(hsv[:, :, channel])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[:, : image.shape[1]]


def gamma_hsv(image, power):
    return hsv_mapped(image, 2, lambda value: gamma(value, power))


def saturate_hsv(image, factor):
    return hsv_mapped(image, 1, lambda c: np.clip(c.astype(np.float32) * np.float32(factor), 0, 255).astype(np.uint8))


def saturate_ycrcb(image, factor):
    r, g, b = (image[:, :, c].astype(np.int64) for c in range(3))
    down = lambda number: (number + (1 << 13)) >> 14
    y = down(4899 * r + 9617 * g + 1868 * b)
    cr = np.clip(down((r - y) * 11682) + 128, 0, 255)
    cb = np.clip(down((b - y) * 9241) + 128, 0, 255)
    scaled = lambda c: np.clip((c - 128).astype(np.float32) * np.float32(factor) + np.float32(128), 0, 255)
    cr, cb = (scaled(c).astype(np.int64) - 128 for c in (cr, cb))
    rgb = [y + down(22987 * cr), y + down(-5636 * cb - 11698 * cr), y + down(29049 * cb)]
    return np.clip(np.stack(rgb, axis=2), 0, 255).astype(np.uint8)


def contrast(image, factor):
    return np.array(ImageEnhance.Contrast(Image.fromarray(image)).enhance(factor))


def stretch(image, steepness):
    unit = image / 255.0
    return truncated(1.0 / (1 + (unit.mean(axis=(0, 1)) / (unit + 1e-12)) ** steepness))


def oversharpen(image, amount):
    binomial = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1])
    sums = channels(image.astype(np.int64), lambda c: ndimage.correlate(c, binomial, mode="mirror"))
    blurred = ((sums + 128) >> 8).astype(np.float32)
    amount = np.float32(amount)
    sharp = (np.float32(1) + amount) * image.astype(np.float32) - amount * blurred
    return np.clip(np.rint(sharp), 0, 255).astype(np.uint8)


def pixelate(image, scale):
    height, width = image.shape[:2]
    small = Image.fromarray(image).resize((int(width * scale), int(height * scale)), Image.BOX)
    return np.array(small.resize((width, height), Image.NEAREST))


def quantization_otsu(image, classes):
    return channels(image, lambda channel: otsu(channel.astype(np.float32), classes))


def otsu(channel, classes):
    low, high = float(channel.min()), float(channel.max())
    edges = np.linspace(low, high, 31).astype(np.float32)
    classes = min(classes, len(np.unique(np.searchsorted(edges[1:-1], channel, side="right"))))
    if classes == 1:
        return np.full(channel.shape, low, np.uint8)
    # One occupied bin a class is thresholded at the centres of the bins; so says scikit-image for two as well.
    thresholds = threshold_multiotsu(channel, classes=classes, nbins=30)
    return (np.digitize(channel, thresholds) * (high - low) / classes + low).astype(np.uint8)


def quantization_median(image, colours):
    quantized = lambda c: Image.fromarray(c).quantize(colours, Image.Quantize.MEDIANCUT).convert("L")
    return channels(image, lambda c: np.array(quantized(np.ascontiguousarray(c))))


def quantization_hist(image, bins):
    sums = np.histogram(image, bins=bins, range=(0, 255))[0].cumsum()
    lowest = sums[sums > 0].min()
    levels = np.where(sums > 0, (sums - lowest) * 255 / max(sums.max() - lowest, 1), 0).astype(np.uint8)
    return levels[np.round(image / 255 * (bins - 1)).astype(int)]


SHIFTS = [0.1, 0.15, 0.2, 0.27, 0.35]
VALUE_SHIFTS = [0.1, 0.2, 0.3, 0.4, 0.5]
negative = lambda numbers: [-number for number in numbers]
TYPES = {
    "blur_gaussian": (blur_gaussian, [1, 2, 3, 4, 5]),
    "blur_motion": (blur_motion, [(5, 3), (10, 5), (15, 7), (15, 9), (20, 12)]),
    "blur_lens": (blur_lens, [2, 3, 4, 6, 8]),
    "blur_zoom": (blur_zoom, [1.03, 1.06, 1.10, 1.15, 1.21]),
    "compression_jpeg": (compression_jpeg, [25, 18, 12, 8, 5]),
    "compression_jpeg_2000": (compression_jpeg_2000, [29, 27.5, 26, 24.5, 23]),
    "brightness_brighten_shfit_HSV": (shift_hsv, VALUE_SHIFTS),
    "brightness_brighten_shfit_RGB": (shift, SHIFTS),
    "brightness_brighten_gamma_HSV": (gamma_hsv, [0.7, 0.58, 0.47, 0.36, 0.25]),
    "brightness_brighten_gamma_RGB": (gamma, [0.8, 0.7, 0.6, 0.45, 0.3]),
    "brightness_darken_shfit_HSV": (shift_hsv, negative(VALUE_SHIFTS)),
    "brightness_darken_shfit_RGB": (shift, negative(SHIFTS)),
    "brightness_darken_gamma_HSV": (gamma_hsv, [1.5, 1.8, 2.2, 2.7, 3.5]),
    "brightness_darken_gamma_RGB": (gamma, [1.4, 1.7, 2.1, 2.6, 3.2]),
    "contrast_strengthen_scale": (contrast, [1.4, 1.7, 2.1, 2.6, 4.0]),
    "contrast_strengthen_stretch": (stretch, [2.0, 4.0, 6.0, 8.0, 10.0]),
    "contrast_weaken_scale": (contrast, [0.75, 0.6, 0.45, 0.3, 0.2]),
    "contrast_weaken_stretch": (stretch, [1.0, 0.9, 0.8, 0.6, 0.4]),
    "saturate_strengthen_HSV": (saturate_hsv, [3, 6, 12, 20, 64]),
    "saturate_strengthen_YCrCb": (saturate_ycrcb, [2, 3, 5, 8, 16]),
    "saturate_weaken_HSV": (saturate_hsv, [0.7, 0.55, 0.4, 0.2, 0.0]),
    "saturate_weaken_YCrCb": (saturate_ycrcb, [0.6, 0.4, 0.2, 0.1, 0.0]),
    "oversharpen": (oversharpen, [2.0, 2.8, 4.0, 6.0, 8.0]),
    "pixelate": (pixelate, [0.5, 0.4, 0.3, 0.25, 0.2]),
    "quantization_otsu": (quantization_otsu, [15, 11, 8, 5, 3]),
    "quantization_median": (quantization_median, [20, 15, 10, 6, 3]),
    "quantization_hist": (quantization_hist, [24, 16, 8, 6, 4]),
}
# On flat areas the last bit of an exponential decides about a level, and NumPy's differs from version to version.
EVERYWHERE = [name for name in TYPES if name not in ("blur_gaussian", "blur_motion")]
SIZES = [(59, 23), (20, 46), (31, 17), (100, 77), (80, 30), (33, 90)]


def fingerprint(*images):
    """FNV-1a of the samples, 64 bits."""
    number = 0xCBF29CE484222325
    for byte in b"".join(image.tobytes() for image in images):
        number = ((number ^ byte) * 0x100000001B3) % (1 << 64)
    return f"{number:016x}"


def distorted(image, name):
    """The five severities of a type."""
    f, parameters = TYPES[name]
    return [f(image, parameter) for parameter in parameters]


def shuffled(pixels, shift, random):
    """Each pixel overwritten by one near it, from the last row and column backwards."""
    height, width = pixels.shape[:2]
    for y in range(height - shift, shift, -1):
        for x in range(width - shift, shift, -1):
            dx, dy = random.integers(-shift, shift, 2)
            pixels[y, x] = pixels[y + dy, x + dx]


def strengths(image, blurred_by, parameters):
    """The mean PSNR over 20 seeds at each severity, in dB."""
    means = []
    for sigma, shift, rounds in parameters:
        numbers = []
        for seed in range(20):
            random = np.random.default_rng(seed)
            pixels = blurred_by(image / 255.0, sigma)
            for _ in range(rounds):
                shuffled(pixels, shift, random)
            glass = truncated(blurred_by(pixels, sigma))
            numbers.append(10 * math.log10(255**2 / np.mean((glass.astype(float) - image) ** 2)))
        means.append(round(float(np.mean(numbers)), 3))
    return means


image = picture()
bicubic = lambda size: fingerprint(np.array(Image.fromarray(image).resize(size, Image.BICUBIC)))
smooth = lambda units, sigma: channels(units, lambda c: ndimage.gaussian_filter(c, sigma, mode="nearest", truncate=4.0))
others = {name: other.astype(np.uint8) for name, other in PICTURES.items()}
found = {
    "picture": fingerprint(image),
    "bicubic": {f"{width}x{height}": bicubic((width, height)) for width, height in SIZES},
    "types": {name: [fingerprint(made) for made in distorted(image, name)] for name in TYPES},
    "strengths": {
        "blur_glass": strengths(image, smooth, [(0.7, 1, 1), (0.9, 2, 1), (1.2, 2, 2), (1.4, 3, 2), (1.6, 4, 2)]),
        "blur_jitter": strengths(image, lambda units, _: units.copy(), [(0, shift, 1) for shift in range(1, 6)]),
    },
    "pictures": {
        name: {
            "picture": fingerprint(other),
            "types": {type_name: fingerprint(*distorted(other, type_name)) for type_name in EVERYWHERE},
        }
        for name, other in others.items()
    },
}
print(json.dumps(found, indent=1))

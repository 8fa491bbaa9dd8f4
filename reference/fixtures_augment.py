"""Augmented pictures and what torchvision draws for them, for xr-data's tests.

    pip install -r reference/requirements.txt
    python reference/fixtures_augment.py crates/xr-data/tests/fixtures/augment

Made with Pillow 12.3.0 and torchvision 0.26.0, on pictures drawn from a seed.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import functional as F

OUT = Path(sys.argv[1])
DRAWS = 20_000


def picture(width, height, seed):
    """Waves, hard edges and noise, [height, width, 3] levels; a corner is grey and one is black."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    levels = np.stack([128 + 100 * np.sin(x * a + y * b) for a, b in rng.uniform(-0.6, 0.6, (3, 2))], -1)
    levels[height // 4 : height // 2, width // 3 : width // 2] = [255, 0, 0]
    levels[height // 2 :, : width // 5] = [0, 255, 255]
    levels += rng.normal(0, 12, levels.shape)
    levels[: height // 5, : width // 5] = 77
    levels[-height // 5 :, -width // 5 :] = 0
    return Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))


class Cases:
    """What was made of the pictures, by kind."""

    def __init__(self, sources):
        self.sources, self.all = sources, {}
        for name, source in sources.items():
            source.save(OUT / name, optimize=True)

    def add(self, kind, source, numbers, expected):
        cases = self.all.setdefault(kind, [])
        name = f"{kind}-{len(cases):02}.png"
        expected.save(OUT / name, optimize=True)
        cases.append({"source": source, "numbers": numbers, "expected": name})


# -- for fixed numbers -------------------------------------------------------------------------

ADJUST = {
    "brightness": F.adjust_brightness,
    "contrast": F.adjust_contrast,
    "saturation": F.adjust_saturation,
    "hue": F.adjust_hue,
}
STEPS = [
    *([["brightness", x]] for x in (0.0, 0.37, 1.63)),
    *([["contrast", x]] for x in (0.0, 0.55, 1.8)),
    *([["saturation", x]] for x in (0.0, 0.45, 2.2)),
    *([["hue", x]] for x in (-0.5, -0.13, 0.003, 0.07, 0.31, 0.5)),
    [["hue", 0.05], ["contrast", 1.2], ["brightness", 0.8], ["saturation", 1.4]],
    [["saturation", 0.7], ["brightness", 1.3], ["contrast", 0.8], ["hue", -0.08]],
]


def color_jitter(cases):
    for steps in STEPS:
        image = cases.sources["33x21.png"]
        for name, number in steps:
            image = ADJUST[name](image, number)
        cases.add("color_jitter", "33x21.png", steps, image)
    # A photograph's worth of colours: every hue, saturation and value in steps.
    for share in (0.1, -0.1):
        cases.add("color_jitter", "colors.png", [["hue", share]], F.adjust_hue(cases.sources["colors.png"], share))


def rotation(cases):
    for degrees in (-30.0, -7.3, -0.4, 0.0, 2.5, 12.5, 45.0, 90.0, 180.0):
        for source in ("33x21.png", "20x20.png"):
            cases.add("rotation", source, degrees, F.rotate(cases.sources[source], degrees))


def perspective(cases):
    for source, ends in [
        ("33x21.png", [[3, 2], [30, 0], [27, 18], [0, 20]]),
        ("33x21.png", [[8, 5], [24, 5], [32, 20], [0, 20]]),
        ("33x21.png", [[0, 0], [20, 4], [25, 13], [7, 16]]),
        ("20x20.png", [[4, 1], [17, 3], [18, 15], [1, 19]]),
        ("20x20.png", [[0, 0], [19, 0], [10, 10], [0, 19]]),
    ]:
        image = cases.sources[source]
        right, bottom = image.width - 1, image.height - 1
        starts = [[0, 0], [right, 0], [right, bottom], [0, bottom]]
        cases.add("perspective", source, ends, F.perspective(image, starts, ends))


def resized_crop(cases):
    for top, left, height, width, side in [(2, 3, 17, 25, 12), (0, 0, 21, 33, 20), (5, 10, 9, 9, 24)]:
        expected = F.resized_crop(cases.sources["33x21.png"], top, left, height, width, [side, side])
        cases.add("resized_crop", "33x21.png", [top, left, height, width, side], expected)


# -- at random ---------------------------------------------------------------------------------


def deciles(values):
    ordered = sorted(values)
    return [round(float(ordered[min(i * len(ordered) // 10, len(ordered) - 1)]), 4) for i in range(11)]


def drawn():
    torch.manual_seed(0)
    values = {}

    def note(**numbers):
        for name, number in numbers.items():
            values.setdefault(name.replace("_", " "), []).append(number)

    jitter = transforms.ColorJitter(0.4, 0.5, 1.5, 0.1)
    degrees = transforms.RandomRotation(15).degrees
    image = Image.new("RGB", (120, 90))
    for _ in range(DRAWS):
        _, b, c, s, h = jitter.get_params(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
        note(brightness=b, contrast=c, saturation=s, hue=h)
        note(degrees=transforms.RandomRotation.get_params(degrees))
        _, left, height, width = transforms.RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3])
        note(area=width * height / (120 * 90), aspect=math.log(width / height), left=left)
        _, ends = transforms.RandomPerspective.get_params(400, 300, 0.5)
        for corner, (x, y) in zip(("top_left", "top_right", "bottom_right", "bottom_left"), ends):
            note(**{f"{corner}_x": x, f"{corner}_y": y})
    return {name: deciles(of) for name, of in values.items()}


def colors():
    """27 × 9 blocks of one pixel: nine levels of each channel."""
    levels = np.linspace(0, 255, 9).astype(np.uint8)
    red, green, blue = np.meshgrid(levels, levels, levels, indexing="ij")
    return Image.fromarray(np.stack([red, green, blue], -1).reshape(27, 27, 3))


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for old in OUT.iterdir():
        old.unlink()
    cases = Cases({"33x21.png": picture(33, 21, 0), "20x20.png": picture(20, 20, 1), "colors.png": colors()})
    for make in (color_jitter, rotation, perspective, resized_crop):
        make(cases)
    text = json.dumps(cases.all | {"drawn": drawn()}, indent=1)
    (OUT / "cases.json").write_text(text + "\n")


main()

"""Pictures and what Pillow and torchvision make of them, for xr-data's tests.

    pip install -r reference/requirements.txt
    python reference/fixtures_preprocess.py crates/xr-data/tests/fixtures/image

Made with Pillow 12.3.0 and torchvision 0.26.0. Everything is drawn from a seed. Pillow 13 resizes
along the columns first where the height shrinks much more than the width; before, all versions
went along the rows first, and the published weights were trained with those.
"""

import json
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, ImageOps
from torchvision import transforms
from torchvision.transforms import InterpolationMode

OUT = Path(sys.argv[1])


def picture(width, height, seed):
    """Waves, hard edges and noise, [height, width, 3] levels: what filters overshoot on."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [128 + 100 * np.sin(x * a + y * b) for a, b in rng.uniform(-0.6, 0.6, (3, 2))]
    levels = np.stack(waves, -1)
    levels[height // 4 : height // 2, width // 3 : width // 2] = [255, 0, 0]
    levels[height // 2 :, : width // 5] = [0, 255, 255]
    levels += rng.normal(0, 12, levels.shape)
    return np.clip(levels, 0, 255).astype(np.uint8)


def smooth(width, height):
    """Without noise, as photographs are at the scale of a JPEG block."""
    y, x = np.mgrid[0:height, 0:width]
    red, green, blue = x * 255 / width, y * 255 / height, 128 + 100 * np.sin((x + y) / 9)
    return np.stack([red, green, blue], -1).astype(np.uint8)


# -- resizing ----------------------------------------------------------------------------------

MODES = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}


def geometry(resize, interpolation):
    mode = MODES[interpolation]
    if "squash" in resize:
        size = resize["squash"]["size"]
        return transforms.Resize((size, size), mode)
    r = resize["shortest"]
    return transforms.Compose([transforms.Resize(r["size"], mode), transforms.CenterCrop(r["crop"])])


def shortest(size, crop):
    return {"shortest": {"size": size, "crop": crop}}


def squash(size):
    return {"squash": {"size": size}}


RESIZES = {
    "61x47": [shortest(24, 24), shortest(23, 20), shortest(32, 29), shortest(47, 32), squash(24), squash(66)],
    "40x75": [shortest(16, 16), shortest(40, 33), squash(31)],
    "20x13": [shortest(13, 13), shortest(32, 32), shortest(37, 30), squash(20)],
    "1x9": [shortest(8, 8), squash(4)],
    "120x90": [shortest(32, 28), squash(12)],
}


def resizing():
    cases = []
    for seed, (size, resizes) in enumerate(RESIZES.items()):
        width, height = map(int, size.split("x"))
        source = Image.fromarray(picture(width, height, seed))
        source.save(OUT / f"{size}.png", optimize=True)
        for resize in resizes:
            for interpolation in MODES:
                name = f"resized-{len(cases):02}.png"
                geometry(resize, interpolation)(source).save(OUT / name, optimize=True)
                cases.append({"source": f"{size}.png", "resize": resize, "interpolation": interpolation, "expected": name})
    return cases


def normalizing():
    """torchvision's whole chain, as numbers."""
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    source = Image.open(OUT / "61x47.png")
    chain = transforms.Compose([geometry(shortest(8, 7), "bilinear"), transforms.ToTensor(), transforms.Normalize(mean, std)])
    return {"source": "61x47.png", "values": [round(v, 7) for v in chain(source).flatten().tolist()]}


# -- decoding ----------------------------------------------------------------------------------


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png16(path, levels):
    """16 bits a channel, which Pillow reads and doesn't write. levels: [height, width, 3]."""
    height, width, _ = levels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)


def decoding():
    noisy, rgb = Image.fromarray(picture(33, 21, 7)), Image.fromarray(smooth(48, 35))
    alpha = Image.fromarray(np.tile(np.arange(33, dtype=np.uint8) * 7, (21, 1)))
    with_alpha = noisy.copy()
    with_alpha.putalpha(alpha)
    names = ["16-bit.png"]

    def save(image, name, **options):
        image.save(OUT / name, **options)
        names.append(name)

    save(with_alpha, "alpha.png")
    save(with_alpha.convert("LA"), "grey-alpha.png")
    save(noisy.convert("L"), "grey.png")
    save(noisy.convert("1"), "one-bit.png")
    palette = noisy.quantize(16)
    save(palette, "palette.png")
    save(palette, "palette-transparent.png", transparency=3)
    png16(OUT / "16-bit.png", np.random.default_rng(8).integers(0, 65536, (9, 11, 3)))
    save(noisy, "still.gif")
    save(noisy, "lossless.webp", lossless=True)
    save(with_alpha, "lossless-alpha.webp", lossless=True)
    save(noisy, "plain.bmp")
    save(noisy, "lzw.tiff", compression="tiff_lzw")

    save(rgb, "444.jpg", quality=90, subsampling=0)
    save(rgb, "420.jpg", quality=90, subsampling=2)
    save(rgb, "progressive.jpg", quality=90, progressive=True)
    save(rgb.convert("L"), "grey.jpg", quality=90)
    save(rgb.convert("CMYK"), "cmyk.jpg", quality=90)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        save(rgb, f"orientation-{orientation}.jpg", quality=90, subsampling=0, exif=exif)
    exif[0x0112] = 6
    save(noisy, "orientation-6.png", exif=exif)

    for name in names:
        upright = ImageOps.exif_transpose(Image.open(OUT / name)).convert("RGB")
        upright.save(OUT / f"decoded-{name}.png", optimize=True)
    return names


def main():
    assert int(PIL.__version__.split(".")[0]) < 13, "see above"
    OUT.mkdir(parents=True, exist_ok=True)
    for old in OUT.iterdir():
        old.unlink()
    names = decoding()
    cases = {"decode": names, "resize": resizing(), "normalize": normalizing()}
    (OUT / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")


main()

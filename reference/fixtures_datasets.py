"""Four small pictures in each layout that `--data` understands.

    pip install pillow
    python reference/fixtures_datasets.py datasets/fixtures

The captions hold what real ones do: commas, quotes, a picture that is missing. Every file is
small; every folder can be given to `--data`.
"""

import sys
from pathlib import Path

from PIL import Image, ImageDraw

OUT = Path(sys.argv[1])

CAPTIONS = {
    "100_red.jpg": ["A red circle .", 'A circle , "bright" red , on white .'],
    "200_blue.jpg": ["A blue square .", "A square in blue ."],
    "300_green.jpg": ["A green circle .", "Something green and round ."],
    "400_black.jpg": ["A black square .", "A dark box ."],
}
PARTS = {"train": ["100_red.jpg", "200_blue.jpg"], "dev": ["300_green.jpg"], "test": ["400_black.jpg"]}
MISSING = "500_lost.jpg"


def draw(name):
    picture = Image.new("RGB", (40, 32), "white")
    colour = name.split("_")[1].removesuffix(".jpg")
    pen = ImageDraw.Draw(picture)
    shape = pen.ellipse if colour in ("red", "green") else pen.rectangle
    shape((10, 6, 30, 26), fill=colour)
    return picture


def pictures(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name in CAPTIONS:
        draw(name).save(folder / name, quality=90)


def write(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines))


def quoted(caption):
    return '"' + caption.replace('"', '""') + '"' if "," in caption else caption


def published(root):
    pictures(root / "Flicker8k_Dataset")
    rows = [f"{p}#{i}\t{c}" for p, cs in CAPTIONS.items() for i, c in enumerate(cs)]
    write(root / "Flickr8k_text/Flickr8k.token.txt", [*rows, f"{MISSING}.1#0\tNobody saw this ."])
    for part, names in PARTS.items():
        write(root / f"Flickr8k_text/Flickr_8k.{part}Images.txt", names)


def kaggle(root):
    pictures(root / "Images")
    rows = [f"{p},{quoted(c)}" for p, cs in CAPTIONS.items() for c in cs]
    write(root / "captions.txt", ["image,caption", *rows])


def folder(root):
    pictures(root / "photos")
    rows = [f"photos/{p}\t{c}" for p, cs in CAPTIONS.items() for c in cs]
    write(root / "captions.tsv", rows)


def beside(root):
    pictures(root)
    for name, captions in CAPTIONS.items():
        write((root / name).with_suffix(".txt"), captions)


published(OUT / "flickr8k_published")
kaggle(OUT / "flickr8k_kaggle")
folder(OUT / "folder")
beside(OUT / "folder_beside")

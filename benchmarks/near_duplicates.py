"""How many made copies the search for near-duplicates finds, and how many false alarms it raises without them.

    python -m benchmarks.near_duplicates      (needs conformal-clip-data and Debian's dataset-fashion-mnist)

Four sets: 1,400 simulated textile images, scikit-learn's 1,797 digits, 4,000 images of Fashion-MNIST, and 400 crops of
photographs (scikit-learn's two, at random places and scales). Of 100 images of each five copies are made: JPEG of
quality 70, resized to 90 %, brightness 5 % up and 5 % down, and all of these at once (JPEG 70 of the darker picture at
90 %). They come as they lie in the pixel cache, at 224 px.

"false alarms": images listed in the set without copies. The others: how many of the 100 copies of a kind are listed in
one group with their original, when the set is the original images and the copies of that kind. "least" is the
correlation that counts in the set without copies.
"""

from __future__ import annotations

import argparse
import io
import time

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits, load_sample_images

from automl.data import fit
from automl.demo import textile_images
from automl.ranking.near_duplicates import find_near_duplicates
from benchmarks import fashion_mnist

RESOLUTION = 224
SETS = ("textile", "digits", "fashion-mnist", "photographs")
COPIED = 100
KINDS = ("jpeg 70", "resized 90 %", "brighter 5 %", "darker 5 %", "all at once")


def pictures(name: str) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    if name == "textile":
        paths = textile_images()["path"].sample(1400, random_state=0)
        return [Image.open(path).convert("RGB") for path in paths]
    if name == "digits":
        return [Image.fromarray((each * 255 / 16).astype(np.uint8)).convert("RGB") for each in load_digits().images]
    if name == "fashion-mnist":
        pixels, _ = fashion_mnist.load(fashion_mnist.SOURCE, "train")
        return [Image.fromarray(pixels[i]).convert("RGB") for i in rng.permutation(len(pixels))[:4000]]
    photographs, found = load_sample_images().images, []
    for number in range(400):
        photograph = photographs[number % 2]
        side = int(rng.integers(100, 300))
        top, left = (int(rng.integers(0, length - side)) for length in photograph.shape[:2])
        found.append(Image.fromarray(photograph[top : top + side, left : left + side]))
    return found


def copy(picture: Image.Image, kind: str) -> Image.Image:
    smaller = (round(picture.width * 0.9), round(picture.height * 0.9))
    if kind == "jpeg 70":
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=70)
        return Image.open(file).convert("RGB")
    if kind == "resized 90 %":
        return picture.resize(smaller, Image.Resampling.BICUBIC)
    if kind == "all at once":
        return copy(copy(copy(picture, "darker 5 %"), "resized 90 %"), "jpeg 70")
    return ImageEnhance.Brightness(picture).enhance(1.05 if kind == "brighter 5 %" else 0.95)


def prepared(name: str) -> NDArray[np.uint8]:
    """Return pixels ``(n + 500, 224, 224, 3)`` of the images and of the copies of the first 100, kind by kind."""
    found = pictures(name)
    found += [copy(picture, kind) for kind in KINDS for picture in found[:COPIED]]
    return np.stack([np.asarray(fit(each, RESOLUTION, "bicubic", "squash")) for each in found])


def measure(name: str, pixels: NDArray[np.uint8]) -> list[str]:
    """Return a row of the table."""
    n = len(pixels) - COPIED * len(KINDS)
    cells = [f"{name} ({n:,})"]
    named = [str(i) for i in range(len(pixels))]
    for kind in (None, *range(len(KINDS))):
        rows = np.arange(n)
        if kind is not None:
            rows = np.concatenate([rows, n + kind * COPIED + np.arange(COPIED)])
        started = time.perf_counter()
        found = find_near_duplicates(pixels, rows, named, ["train"] * len(named), ["?"] * len(named))
        seconds = time.perf_counter() - started
        assert found is not None
        groups = [{each.row for each in group.images} for group in found.listed]
        if kind is None:
            cells += [f"{seconds:.1f}", f"{found.least:.4f}", str(sum(map(len, groups)))]
        else:
            hits = sum(any({i, n + kind * COPIED + i} <= each for each in groups) for i in range(COPIED))
            cells.append(str(hits))
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    given = parser.parse_args()
    table = Table("set", "seconds", "least", "false alarms", *KINDS)
    for name in given.sets:
        table.add_row(*measure(name, prepared(name)))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()

"""Write images of Debian's package `dataset-fashion-mnist` as PNG class folders, and the same as a CSV manifest.

apt-get install dataset-fashion-mnist
python -m benchmarks.fashion_mnist --images 2000 --out data/fashion-mnist
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.class_folders import write_class_folders

SOURCE = Path("/usr/share/datasets/fashion-mnist")
CLASSES = (
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip


def load(source: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images ``(n, 28, 28) uint8`` and labels ``(n,)`` of the part `train` or `t10k`."""
    pixels = np.frombuffer(gzip.decompress(next(source.rglob(f"{part}-images*.gz")).read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress(next(source.rglob(f"{part}-labels*.gz")).read_bytes()), np.uint8, offset=8)
    return pixels.reshape(-1, 28, 28), labels


def write(out: Path, images: int, *, source: Path = SOURCE, seed: int = 0, skip: int = 0) -> Path:
    """Write `images` random training images, after the first `skip` of those of this seed, below ``out/images`` and
    ``out/manifest.csv``. Returns the folder."""
    pixels, labels = load(source, "train")
    chosen = np.random.default_rng(seed).permutation(len(pixels))[skip : skip + images]
    drawn = ((CLASSES[labels[each]], f"{each:05d}", Image.fromarray(pixels[each])) for each in chosen)
    return write_class_folders(out, drawn)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--source", type=Path, default=SOURCE)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--skip", type=int, default=0, help="images of the same seed that another sample has")
    options = parser.parse_args()
    print(write(options.out, options.images, source=options.source, seed=options.seed, skip=options.skip))

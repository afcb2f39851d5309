"""Images made on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

WHITE = (255, 255, 255)


def picture(seed: int, size: tuple[int, int] = (12, 10)) -> Image.Image:
    """A noise image of (width, height) that differs for every seed."""
    levels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(levels)


def save(image: Image.Image, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def class_folders(root: Path, counts: dict[str, int], *, first_seed: int = 0) -> Path:
    """Write ``root/<label>/<number>.png``, every image another one."""
    seed = first_seed
    for label, count in counts.items():
        for number in range(count):
            save(picture(seed), root / label / f"{number}.png")
            seed += 1
    return root

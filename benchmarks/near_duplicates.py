"""Does the report's search for near-duplicates find copies, and leave different pictures alone?

    python -m benchmarks.near_duplicates       (a minute or two on one core; needs dataset-fashion-mnist)

Of each set 400 different images, and of 40 of them a copy each of several kinds, embedded by EfficientNet-Lite0 at
224 px. Recall is of those pairs; false alarms are pairs of images of which neither is a copy of the other, per 400
images. Several ratios are tried; `automl.ranking.near_duplicates.RATIO` is the one that ships.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance

from automl.backbones import build, find
from automl.backbones.weights import locate
from automl.data import decode, fit
from automl.demo import write_manifest
from automl.ranking.near_duplicates import RATIO, close_pairs
from automl.screening import embed
from automl.training import Normalise, choose_device, choose_precision
from benchmarks.fashion_mnist import write as write_fashion_mnist

IMAGES, COPIED, SIDE = 400, 40, 224
RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)


def saved_again(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(io.BytesIO(file.getvalue())).convert("RGB")


def resized(image: Image.Image, share: float) -> Image.Image:
    return image.resize((round(share * image.width), round(share * image.height)), Image.Resampling.BICUBIC)


def cropped(image: Image.Image, share: float) -> Image.Image:
    width, height = round(share * image.width), round(share * image.height)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG, quality 70": lambda image: saved_again(image, 70),
    "resized to 90 %": lambda image: resized(image, 0.9),
    "brightness + 5 %": lambda image: ImageEnhance.Brightness(image).enhance(1.05),
    "brightness - 5 %": lambda image: ImageEnhance.Brightness(image).enhance(0.95),
    "cropped to 95 %": lambda image: cropped(image, 0.95),
}


def sets(folder: Path) -> dict[str, list[Image.Image]]:
    import pandas as pd
    from sklearn.datasets import load_digits

    rng = np.random.default_rng(0)
    table = pd.read_csv(write_manifest(folder / "textile"))
    root = folder / "textile"
    textile = [root / path for path in rng.permutation(table["path"].to_numpy())[:IMAGES]]
    write_fashion_mnist(folder / "fashion", IMAGES, seed=0)
    fashion = sorted((folder / "fashion").rglob("*.png"))[:IMAGES]
    digits = (load_digits().images[:IMAGES] * 15.9).astype(np.uint8)
    return {
        "textile": [decode(path, background=(255, 255, 255)) for path in textile],
        "Fashion-MNIST": [decode(path, background=(255, 255, 255)) for path in fashion],
        "digits": [Image.fromarray(each).convert("RGB") for each in digits],
    }


def features(images: list[Image.Image]) -> np.ndarray:
    backbone = find("timm/tf_efficientnet_lite0.in1k")
    device, _ = choose_device()
    model = build(backbone, 2, resolution=SIDE, weights=locate(backbone).path).to(device)
    array = np.stack([fit(each, SIDE, backbone.interpolation, "squash") for each in images])
    normalise = Normalise(backbone.mean, backbone.std).to(device)
    rows = np.arange(len(array))
    return embed(model, array, rows, normalise=normalise, precision=choose_precision(device), device=device)


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for name, images in sets(Path(folder)).items():
            copies = [copy(image) for copy in COPIES.values() for image in images[:COPIED]]
            vectors = features([*images, *copies])
            print(f"\n{name}: ratio, false alarms among {IMAGES} different images, recall by kind of copy")
            for ratio in RATIOS:
                alone = len(close_pairs(vectors[:IMAGES], ratio))
                recalls = []
                for number, kind in enumerate(COPIES):
                    own = vectors[IMAGES + number * COPIED : IMAGES + (number + 1) * COPIED]
                    pairs = close_pairs(np.concatenate([vectors[:IMAGES], own]), ratio)
                    hits = {(i, j) for i, j, _, _ in pairs} & {(i, IMAGES + i) for i in range(COPIED)}
                    recalls.append(f"{kind} {len(hits) / COPIED:.2f}")
                mark = "*" if ratio == RATIO else " "
                print(f"  {ratio:.1f}{mark} {alone:4d}   {'  '.join(recalls)}", flush=True)


if __name__ == "__main__":
    main()

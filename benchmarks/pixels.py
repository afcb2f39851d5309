"""Time the pixel cache against decoding in every epoch, with the same images in the same shuffled batches.

    python benchmarks/pixels.py DATA [--images 2000] [--resolution 224] [--batch-size 32] [--epochs 3]

Prints images per second of both, their ratio, and after how many epochs building the cache has paid for itself.
Decoding uses the same functions as the cache with one thread per core; a batch from the cache is a copy of its pixels,
so that they are read and not only mapped. The pixels of both are compared outside the time.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.table import Table

from automl.data import DEFAULT_MAX_PIXELS, Batches, Dataset, Variant, build_cache, decode, fit, open_cache, prepare
from automl.data.decode import in_order

BACKGROUND = (255, 255, 255)


def cached(dataset: Dataset, folder: Path, variant: Variant, batch_size: int) -> Callable[[], Iterator[torch.Tensor]]:
    pixels = open_cache(dataset.table, folder, variant, background=BACKGROUND)
    targets = dataset.table["target"].to_numpy()
    generator = torch.Generator().manual_seed(0)
    batches = Batches(
        pixels, targets, np.arange(len(targets)), batch_size=batch_size, shuffle=True, generator=generator
    )
    return lambda: (images for images, _, _ in batches)


def decoding(dataset: Dataset, variant: Variant, batch_size: int) -> Callable[[], Iterator[torch.Tensor]]:
    paths: list[str] = dataset.table["path"].tolist()
    generator = torch.Generator().manual_seed(0)

    def load(row: int) -> np.ndarray:
        image = decode(paths[row], background=BACKGROUND)
        return fit(image, variant.resolution, variant.interpolation, variant.crop_mode, background=BACKGROUND)

    def epoch() -> Iterator[torch.Tensor]:
        waiting: list[np.ndarray] = []
        for array in in_order(load, torch.randperm(len(paths), generator=generator).tolist()):
            waiting.append(array)
            if len(waiting) == batch_size:
                yield torch.from_numpy(np.stack(waiting)).permute(0, 3, 1, 2)
                waiting = []
        if waiting:
            yield torch.from_numpy(np.stack(waiting)).permute(0, 3, 1, 2)

    return epoch


def seconds_per_epoch(epoch: Callable[[], Iterator[torch.Tensor]], epochs: int) -> tuple[float, int]:
    """Return the least seconds of `epochs` epochs, and a checksum of the pixels of one more."""
    checksum = sum(int(images.sum(dtype=torch.int64)) for images in epoch())
    best = float("inf")
    for _ in range(epochs):
        start = time.monotonic()
        for _ in epoch():
            pass
        best = min(best, time.monotonic() - start)
    return best, checksum


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path, help="folder of class folders, or a manifest")
    parser.add_argument("--images", type=int, default=2000, help="at most so many, drawn at random")
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=3, help="the fastest counts")
    given = parser.parse_args()

    dataset = prepare(given.data, seed=0, validation_fraction=0.15, test_fraction=0.15, background=BACKGROUND)
    table: pd.DataFrame = dataset.table.sample(min(given.images, len(dataset.table)), random_state=0).sort_index()
    dataset = Dataset(table.reset_index(drop=True), dataset.classes, dataset.audit)
    variant = Variant(given.resolution)
    with tempfile.TemporaryDirectory() as name:
        start = time.monotonic()
        build_cache(dataset.table, Path(name), [variant], background=BACKGROUND, max_pixels=DEFAULT_MAX_PIXELS)
        building = time.monotonic() - start
        from_cache, checksum = seconds_per_epoch(cached(dataset, Path(name), variant, given.batch_size), given.epochs)
    from_files, reference = seconds_per_epoch(decoding(dataset, variant, given.batch_size), given.epochs)
    if checksum != reference:
        raise SystemExit(f"the two do not give the same pixels: {checksum} against {reference}")

    count = len(dataset.table)
    table_out = Table(title=f"{count} images at {given.resolution} px, batches of {given.batch_size}")
    for heading in ("pixels from", "seconds per epoch", "images per second"):
        table_out.add_column(heading, justify="left" if heading == "pixels from" else "right")
    table_out.add_row("decoding each epoch", f"{from_files:.2f}", f"{count / from_files:,.0f}")
    table_out.add_row("pixel cache", f"{from_cache:.2f}", f"{count / from_cache:,.0f}")
    console = Console()
    console.print(table_out)
    console.print(f"ratio: {from_files / from_cache:.1f}")
    saved = from_files - from_cache
    paid = f"{building / saved:.1f} epochs" if saved > 0 else "never"
    console.print(f"building the cache: {building:.2f} s once, paid back after {paid}")
    console.print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}"
    )


if __name__ == "__main__":
    main()

"""The winner applied to images: files, folders, and tables with a `path` column."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.special import softmax

from automl.data import decode, fit
from automl.data.decode import in_order, one_line
from automl.data.manifest import IMAGE_SUFFIXES, walk
from automl.errors import DataError, DecodeError, UsageError
from automl.refit.package import ModelPackage, load_package
from automl.spreadsheet import spreadsheet_safe
from automl.training import Normalise, choose_device, choose_precision

__all__ = ["Prediction", "find_images", "format_predictions", "predict"]

BATCH = 64
TABLES = {".csv", ".tsv", ".parquet"}


@dataclass(frozen=True)
class Prediction:
    """An image's label, its probability 0…1, and all probabilities in label order; or why there is none."""

    path: str
    label: str | None
    probability: float | None
    probabilities: tuple[float, ...]
    error: str = ""


def find_images(paths: Sequence[Path]) -> list[Path]:
    """Return the images that files, folders (searched below) and tables name, in order.

    In a folder, images are the files that training takes for one; hidden files are none.

    Raises:
        DataError: A table cannot be read or has no column `path`, or there is no image at all.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(each for each in map(Path, walk(path)) if _looks_like_an_image(each) and each.is_file())
        elif path.suffix.lower() in TABLES:
            found += _from_table(path)
        else:
            found.append(path)
    if not found:
        raise DataError(
            f"no images in {', '.join(map(str, paths))}: expected files, folders or a table with a path column"
        )
    return found


def predict(
    folder: Path, paths: Sequence[Path], *, progress: Callable[[int, int], None] | None = None
) -> tuple[list[Prediction], ModelPackage]:
    """Apply the package in `folder` to images. An unreadable image is a prediction without a label, and says why.

    Raises:
        UsageError: `folder` is not a package.
    """
    model, package = load_package(folder)
    device, _ = choose_device()
    precision = choose_precision(device)
    model.to(device)
    if precision.channels_last:
        model.to(memory_format=torch.channels_last)
    normalise = Normalise(package.mean, package.std).to(device)
    results: list[Prediction] = []
    for batch, images in _batches(paths, package):
        readable = [image for image in images if isinstance(image, np.ndarray)]
        probabilities: Iterator[np.ndarray] = iter(())
        if readable:
            tensor = torch.from_numpy(np.stack(readable)).permute(0, 3, 1, 2).to(device)
            with (
                torch.inference_mode(),
                torch.autocast(device.type, precision.autocast, enabled=precision.autocast is not None),
            ):
                logits = model(normalise(tensor)).float().cpu().numpy()
            probabilities = iter(softmax(logits.astype(np.float64), axis=1))
        for path, image in zip(batch, images, strict=True):
            if isinstance(image, str):
                results.append(Prediction(str(path), None, None, (), image))
                continue
            row = next(probabilities)
            best = int(row.argmax())
            results.append(Prediction(str(path), package.labels[best], float(row[best]), tuple(map(float, row))))
        if progress is not None:
            progress(len(results), len(paths))
    return results, package


def format_predictions(predictions: Sequence[Prediction], labels: Sequence[str], style: str) -> str:
    """Return predictions as ``table``, ``json`` or ``csv`` text.

    Raises:
        UsageError: There is no such style.
    """
    if style == "json":
        return json.dumps(
            [
                {
                    "path": each.path,
                    "label": each.label,
                    "probability": each.probability,
                    "probabilities": dict(zip(labels, each.probabilities, strict=False)),
                    **({"error": each.error} if each.error else {}),
                }
                for each in predictions
            ],
            indent=2,
        )
    if style == "csv":
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        head = ["path", "label", "probability", *(f"p({label})" for label in labels), "error"]
        writer.writerow(map(spreadsheet_safe, head))
        for each in predictions:
            row = each.probabilities or [""] * len(labels)
            cells = [each.path, each.label or "", each.probability or "", *row, each.error]
            writer.writerow(map(spreadsheet_safe, cells))
        return stream.getvalue().rstrip("\n")
    if style == "table":
        paths = [one_line(each.path) for each in predictions]
        width = max(map(len, paths), default=4)
        told = [
            f"unreadable: {each.error}" if each.label is None else f"{one_line(each.label)}  {each.probability:.3f}"
            for each in predictions
        ]
        return "\n".join(f"{path:<{width}}  {what}" for path, what in zip(paths, told, strict=True))
    raise UsageError(f'unknown format "{style}": expected table, json or csv')


def _looks_like_an_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _batches(paths: Sequence[Path], package: ModelPackage) -> Iterator[tuple[list[Path], list[np.ndarray | str]]]:
    def read(index: int) -> np.ndarray | str:
        try:
            image = decode(paths[index], background=package.background, max_pixels=package.max_pixels)
        except DecodeError as error:
            return str(error)
        return fit(
            image,
            package.resolution,
            package.interpolation,  # type: ignore[arg-type]
            package.crop_mode,  # type: ignore[arg-type]
            background=package.background,
        )

    images: list[np.ndarray | str] = []
    start = 0
    for image in in_order(read, range(len(paths))):
        images.append(image)
        if len(images) == BATCH or start + len(images) == len(paths):
            yield list(paths[start : start + len(images)]), images
            start += len(images)
            images = []


def _from_table(path: Path) -> list[Path]:
    try:
        if path.suffix.lower() == ".parquet":
            table = pd.read_parquet(path)
        else:
            table = pd.read_csv(
                path, sep="\t" if path.suffix.lower() == ".tsv" else ",", dtype=str, keep_default_na=False
            )
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read table {path}: {error}") from error
    if "path" not in table.columns:
        raise DataError(f"table {path} has no column named path: found {', '.join(map(str, table.columns))}")
    return [path.parent / each for each in table["path"].astype(str)]

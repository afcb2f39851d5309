"""Open every image once, before anything is trained, and write down what was found.

`inspect` reads, hashes and decodes; `quarantine_unreadable` and `resolve_duplicates` decide what is left out; `Audit`
is the record of it all, kept beside the manifest and printed in the report.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import pandas as pd

from automl.data.decode import Color, decode_bytes, in_order, one_line, read_bytes
from automl.data.manifest import Quarantined
from automl.errors import DataError, DecodeError

__all__ = ["Audit", "Copy", "Duplicates", "inspect", "quarantine_unreadable", "resolve_duplicates", "summarise"]

_PRIORITY = {"test": 0, "validation": 1, "train": 2}
_UNREADABLE: dict[str, object] = {
    "sha256": "",
    "pixels": "",
    "width": 0,
    "height": 0,
    "mode": "",
    "format": "",
    "frames_ignored": False,
}


class Copy(TypedDict):
    """One of several files with the same picture. `split` is where it was given to be ("" when nobody said)."""

    path: str
    split: str
    kept: bool


class Duplicates(TypedDict):
    """Files of one label with the same pixels."""

    label: str
    across_splits: bool
    copies: list[Copy]


@dataclass(frozen=True)
class Audit:
    """What was found in a dataset, in plain JSON types.

    `counts` has the usable images by label and split; `splits` says of each split whether it was "given" or "drawn";
    `skipped` counts the files that were not looked at by suffix; `sizes` has width and height as [least, median, most].
    """

    source: str
    layout: str
    images: int
    counts: dict[str, dict[str, int]]
    splits: dict[str, str]
    quarantined: list[Quarantined]
    duplicates: list[Duplicates]
    skipped: dict[str, int]
    sizes: dict[str, list[int]]
    modes: dict[str, int]
    formats: dict[str, int]
    warnings: list[str]

    @property
    def side(self) -> float:
        """Pixels: the geometric mean of the median width and height."""
        return math.sqrt(self.sizes["width"][1] * self.sizes["height"][1])

    @property
    def removed_duplicates(self) -> int:
        """Copies left out because the same picture is in a split of higher priority (test, validation, train)."""
        return sum(not copy["kept"] for group in self.duplicates for copy in group["copies"])

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Audit:
        """Read what `to_json` wrote; keys of a later version are ignored.

        Raises:
            DataError: It is not an audit.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            return cls(**{field.name: values[field.name] for field in dataclasses.fields(cls)})
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"not an audit file: {error}; run the audit again") from error


def inspect(
    rows: pd.DataFrame,
    *,
    background: Color,
    max_pixels: int,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Return `rows` with what opening each image gave, one read and one decode per path.

    The new columns are sha256 (of the file), pixels (hash of size and decoded RGB), width, height, mode, format,
    frames_ignored and reason ("" where the image is usable).
    """
    paths = list(dict.fromkeys(rows["path"]))

    def look(number: int) -> dict[str, object]:
        try:
            content = read_bytes(paths[number])
            decoded = decode_bytes(content, background=background, max_pixels=max_pixels)
        except DecodeError as error:
            return {**_UNREADABLE, "reason": str(error)}
        width, height = decoded.size
        digest = hashlib.sha256(f"{width}x{height}".encode())
        digest.update(np.asarray(decoded.image).data)
        return {
            "sha256": hashlib.sha256(content).hexdigest(),
            "pixels": digest.hexdigest(),
            "width": width,
            "height": height,
            "mode": decoded.mode,
            "format": decoded.format,
            "frames_ignored": decoded.frames_ignored,
            "reason": "",
        }

    found = []
    for done, one in enumerate(in_order(look, range(len(paths)), workers=workers), start=1):
        found.append(one)
        if progress is not None:
            progress(done, len(paths))
    looked = pd.DataFrame(found, index=pd.Index(paths, dtype="str"), columns=[*_UNREADABLE, "reason"])
    return pd.concat([rows, looked.loc[rows["path"]].set_index(rows.index)], axis=1)


def quarantine_unreadable(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[Quarantined]]:
    """Split `rows` into the usable ones and the list of the others with their reasons."""
    broken = rows["reason"] != ""
    listed = [_quarantined(row, str(row.reason)) for row in rows[broken].itertuples()]
    return rows[~broken], listed


def resolve_duplicates(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[Quarantined], list[Duplicates]]:
    """Find files with the same pixels, and decide which stay.

    * Under different labels: nobody can say which is right, so all copies are quarantined.
    * In different splits: the copy in test stays, else the one in validation; copies in lower splits go.
    * In the same split, or where no split is given: all stay. The split that we draw keeps them on one side.

    Returns:
        The rows that stay, the quarantined ones, and every group of copies.
    """
    leave: set[int] = set()
    quarantined: list[Quarantined] = []
    duplicates: list[Duplicates] = []
    for _, same in rows[rows.duplicated("pixels", keep=False)].groupby("pixels", sort=True):
        same = same.sort_values(["label", "path", "split"])
        labels = sorted(set(same["label"]))
        if len(labels) > 1:
            reason = "the same picture under the labels " + ", ".join(f'"{one_line(label)}"' for label in labels)
            quarantined += [_quarantined(row, reason) for row in same.itertuples()]
            leave.update(same.index)
            continue
        best = min(same["split"], key=lambda split: _PRIORITY.get(split, 3))
        leave.update(same.index[same["split"] != best])
        copies: list[Copy] = [
            {"path": str(row.path), "split": str(row.split), "kept": row.split == best} for row in same.itertuples()
        ]
        across = same["split"].nunique() > 1
        duplicates.append({"label": labels[0], "across_splits": across, "copies": copies})
    return rows.drop(index=list(leave)), quarantined, duplicates


def summarise(rows: pd.DataFrame, duplicates: list[Duplicates]) -> tuple[dict[str, Any], list[str]]:
    """Return the audit's sizes, modes and formats, and what of it deserves a warning."""
    sizes = {
        side: [int(rows[side].min()), int(rows[side].median()), int(rows[side].max())] for side in ("width", "height")
    }
    modes, formats = Counter(rows["mode"].tolist()), Counter(rows["format"].tolist())
    warnings = []
    removed = sum(not copy["kept"] for group in duplicates for copy in group["copies"])
    if removed:
        warnings.append(
            f"{removed} copies of images in another split were left out (the copy in test stays, then validation)"
        )
    within = sum(sum(copy["kept"] for copy in group["copies"]) - 1 for group in duplicates)
    if within:
        warnings.append(f"{within} images are exact copies of another one of the same split and label; all were kept")
    unscaled = modes["I"] + modes["F"]
    if unscaled:
        warnings.append(
            f"{unscaled} images have 32-bit grey levels without a stated white; "
            "it was taken from each image's largest value (1, 255 or 65535)"
        )
    frames = int(rows["frames_ignored"].sum())
    if frames:
        warnings.append(f"{frames} images have several frames or pages; only the first is used")
    spanning = _groups_across_splits(rows)
    if spanning:
        warnings.append(
            f"{len(spanning)} groups have images in more than one of the given splits "
            f"(leakage; first: {spanning[0]!r}); splits were kept as given"
        )
    return {"sizes": sizes, "modes": dict(sorted(modes.items())), "formats": dict(sorted(formats.items()))}, warnings


def _groups_across_splits(rows: pd.DataFrame) -> list[str]:
    grouped = rows[rows["group"] != ""]
    splits = grouped.groupby("group", sort=True)["split"].nunique()
    return [str(name) for name in splits.index[splits > 1]]


def _quarantined(row: Any, reason: str) -> Quarantined:
    return {"path": str(row.path), "label": str(row.label), "reason": reason}

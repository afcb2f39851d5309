"""Labelled images: from a folder or table to splits, an audit and a cache of pixels that trials share.

What flows through this room:

    prepare      source → Dataset (manifest → audit → duplicates → splits)
    build_cache  Dataset → one file of pixels per variant, every image decoded once
    open_cache   → memory map
    Batches      → tensors

Only `decode` opens images.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from automl.data.audit import Audit, inspect, quarantine_unreadable, resolve_duplicates, summarise
from automl.data.changes import changes
from automl.data.decode import DEFAULT_MAX_PIXELS, Color, decode, fit, one_line
from automl.data.loader import Batches
from automl.data.manifest import SPLITS, Quarantined, read_manifest
from automl.data.pixels import Variant, build_cache, open_cache
from automl.data.split import assign_splits, redraw, units_of
from automl.errors import DataError
from automl.paths import write_atomic

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "SPLITS",
    "Audit",
    "Batches",
    "Dataset",
    "Variant",
    "build_cache",
    "changes",
    "decode",
    "fit",
    "open_cache",
    "prepare",
]

logger = logging.getLogger(__name__)

_COLUMNS = ["path", "sha256", "label", "target", "split", "group"]
_ORDER = ["sha256", "label", "path", "split", "group"]
_CLASSES_KEY = b"automl.classes"


@dataclass(frozen=True)
class Dataset:
    """The usable images of a source.

    `table` has one row per image with the columns path (absolute), sha256, label, target (index into `classes`), split
    and group, in canonical order: by sha256, then label. So a folder and a table of the same images are one dataset.
    """

    table: pd.DataFrame
    classes: tuple[str, ...]
    audit: Audit

    @property
    def fingerprint(self) -> str:
        """Hex digest of content, label and split of all images, whatever their paths."""
        digest = hashlib.sha256()
        for record in self.table[["sha256", "label", "split"]].itertuples(index=False, name=None):
            digest.update(json.dumps(record).encode() + b"\n")
        return digest.hexdigest()

    def rows(self, split: str) -> npt.NDArray[np.int64]:
        """Row numbers of ``train``, ``validation`` or ``test``, ascending."""
        if split not in SPLITS:
            raise ValueError(f'unknown split "{split}": expected {", ".join(SPLITS)}')
        return np.flatnonzero((self.table["split"] == split).to_numpy()).astype(np.int64)

    def redrawn(self, seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Row numbers of another division of train + validation into the two, drawn as the first one was. A validation
        split that was given stays: whoever gave it may have meant something by it.

        Raises:
            DataError: There is no other division that keeps groups and copies together.
        """
        if self.audit.splits.get("validation") == "given":
            return self.rows("train"), self.rows("validation")
        rows = self._with_pixels(self.table[self.table["split"] != "test"])
        drawn = redraw(rows, seed=seed)
        numbers = rows.index.to_numpy(np.int64)
        return numbers[~drawn], numbers[drawn]

    def units(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64] | None:
        """Number the sets of `rows` ``(n,)`` that must stay together, those of one group and exact copies; None where
        every image stands alone."""
        units = units_of(self._with_pixels(self.table.iloc[rows]))
        numbers = np.unique(units, return_inverse=True)[1].astype(np.int64)
        return numbers if numbers.max(initial=-1) + 1 < len(rows) else None

    def _with_pixels(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return `rows` of the table with a column pixels, alike in exact copies."""
        copies = {copy["path"]: number for number, each in enumerate(self.audit.duplicates) for copy in each["copies"]}
        return rows.assign(pixels=[str(copies.get(path, path)) for path in rows["path"]])

    def save(self, manifest_path: Path, audit_path: Path) -> None:
        """Write the table as parquet (with the classes in its metadata) and the audit as JSON, each atomically."""
        table = pa.Table.from_pandas(self.table, preserve_index=False)
        metadata = {**(table.schema.metadata or {}), _CLASSES_KEY: json.dumps(self.classes).encode()}
        buffer = io.BytesIO()
        pq.write_table(table.replace_schema_metadata(metadata), buffer)
        write_atomic(audit_path, self.audit.to_json())
        write_atomic(manifest_path, buffer.getvalue())

    @classmethod
    def load(cls, manifest_path: Path, audit_path: Path) -> Dataset:
        """Read what `save` wrote.

        Raises:
            DataError: A file is missing or is not what `save` writes.
        """
        try:
            table = pq.read_table(manifest_path)
            classes = tuple(json.loads(table.schema.metadata[_CLASSES_KEY]))
            frame = table.to_pandas()[_COLUMNS]
            audit = Audit.from_json(audit_path.read_text("utf-8"))
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            reason = " ".join(str(error).split())
            raise DataError(f"cannot read dataset {manifest_path}: {reason}; run the audit again") from error
        return cls(frame.astype({name: "str" for name in _COLUMNS if name != "target"}), classes, audit)


def prepare(
    source: Path,
    *,
    seed: int,
    validation_fraction: float,
    test_fraction: float,
    background: Color,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Audit the images that `source` names and divide them into train, validation and test.

    Args:
        background: RGB colour that transparent parts are composited on.
        max_pixels: Larger images are quarantined.
        workers: Threads that open images; 0 for one per usable core.
        progress: Called with (images opened, images) after each.

    Raises:
        DataError: No dataset comes of it; the message says why and what to do.
    """
    found = read_manifest(source)
    looked = inspect(found.rows, background=background, max_pixels=max_pixels, workers=workers, progress=progress)
    usable, unreadable = quarantine_unreadable(looked)
    rows, conflicting, duplicates = resolve_duplicates(usable)
    quarantined = found.quarantined + unreadable + conflicting
    if rows.empty:
        first = quarantined[0]
        example = f"{one_line(first['path'])}: {first['reason']}"
        hint = "; relative paths start at the manifest's folder" if found.layout == "manifest" else ""
        raise DataError(
            f"none of the {len(quarantined)} images of {one_line(source)} is usable; first: {example}{hint}"
        )
    _refuse_lost_splits(found.rows, rows, quarantined)
    rows = rows.sort_values(_ORDER, ignore_index=True)
    facts, warnings = summarise(rows, duplicates)
    classes = sorted({*found.rows["label"], *(entry["label"] for entry in found.quarantined if entry["label"])})
    rows["split"], origins, notes = assign_splits(
        rows, classes, seed=seed, validation_fraction=validation_fraction, test_fraction=test_fraction
    )
    rows["target"] = rows["label"].map({label: number for number, label in enumerate(classes)}).astype("int64")
    if quarantined:
        warnings.insert(0, f"{len(quarantined)} images cannot be used and were quarantined")
    audit = Audit(
        source=str(source),
        layout=found.layout,
        images=len(rows),
        counts=_counts(rows, classes),
        splits=origins,
        quarantined=quarantined,
        duplicates=duplicates,
        skipped=dict(sorted(found.skipped.items())),
        warnings=found.warnings + warnings + notes,
        **facts,
    )
    for line in audit.warnings:
        logger.info("audit: %s", line)
    return Dataset(rows[_COLUMNS], tuple(classes), audit)


def _refuse_lost_splits(named: pd.DataFrame, usable: pd.DataFrame, quarantined: list[Quarantined]) -> None:
    """A given split of which nothing is left must not be drawn from the training images instead."""
    lost = sorted(set(named["split"]) - set(usable["split"]) - {""})
    if not lost:
        return
    paths = set(named["path"][named["split"].isin(lost)])
    why = next((f"{one_line(each['path'])}: {each['reason']}" for each in quarantined if each["path"] in paths), None)
    raise DataError(
        f"no image of the given {' and '.join(lost)} split is left; "
        + (f"first: {why}" if why else "each has the same pixels as an image of another split")
    )


def _counts(rows: pd.DataFrame, classes: list[str]) -> dict[str, dict[str, int]]:
    counts = rows.groupby(["label", "split"]).size()
    return {label: {name: int(counts.get((label, name), 0)) for name in SPLITS} for label in classes}

"""Find out which images a source names, and under which label, split and group.

A source is one of

* a folder of class folders: ``cat/…``, ``dog/…``, searched at any depth below each class folder;
* a folder of split folders of class folders: ``train/cat/…``, ``test/cat/…`` (``val``, ``valid``, ``validation``);
* a table ``.csv``, ``.tsv`` or ``.parquet`` with columns ``path`` and ``label``, optionally ``split`` and ``group``;
  relative paths start at the table's own folder.

No image is opened here. What is left out is counted (`Manifest.skipped`) or listed (`Manifest.quarantined`).
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import pandas as pd

from automl.errors import DataError, did_you_mean

__all__ = ["IMAGE_SUFFIXES", "SPLITS", "Manifest", "Quarantined", "read_manifest", "walk"]

SPLITS = ("train", "validation", "test")
_SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
# fmt: off
IMAGE_SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpx", ".avif",
))
_UNSUPPORTED = frozenset((
    ".heic", ".heif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".psd", ".svg", ".tga", ".exr", ".ico", ".dcm",
))
# fmt: on
_COLUMNS = ("path", "label", "split", "group")


class Quarantined(TypedDict):
    """An image that is left out, and why."""

    path: str
    label: str
    reason: str


@dataclass
class Manifest:
    """What a source lists.

    `rows` has the string columns path (absolute), label, split and group ("" when not given).
    """

    rows: pd.DataFrame
    layout: str
    quarantined: list[Quarantined] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)

    def quarantine(self, path: str, label: str, reason: str) -> None:
        self.quarantined.append({"path": _printable(path), "label": _printable(label), "reason": reason})


def read_manifest(source: Path) -> Manifest:
    """List the images that `source` names.

    Raises:
        DataError: It does not exist, cannot be listed, has no class folders or columns, or unknown split names.
    """
    source = Path(os.path.abspath(source))
    if not source.exists():
        raise DataError(f"no such file or folder: {source}")
    found = _read_folder(source) if source.is_dir() else _read_table(source)
    if found.rows.empty and not found.quarantined:
        looked_for = "images in class folders" if source.is_dir() else "rows"
        hint = f" ({_summary(found.skipped)} skipped)" if found.skipped else ""
        raise DataError(f"no images in {source}: expected {looked_for}{hint}")
    unsupported = {suffix: count for suffix, count in found.skipped.items() if suffix in _UNSUPPORTED}
    if unsupported:
        found.warnings.append(f"image files that cannot be read were skipped ({_summary(unsupported)}): convert them")
    repeated = found.rows.duplicated(["path", "label", "split"])
    if repeated.any():
        found.warnings.append(f"{int(repeated.sum())} rows repeat an earlier row and were counted once")
        found.rows = found.rows[~repeated].reset_index(drop=True)
    return found


def _read_folder(source: Path) -> Manifest:
    folders, loose = _list(source)
    splits = {name: _SPLIT_WORDS[name.lower()] for name in folders if name.lower() in _SPLIT_WORDS}
    rows: list[tuple[str, str, str, str]] = []
    given = set(splits.values())
    by_split = len(given) > 1 or 0 < len(splits) == len(folders)  # "train" may be a class beside "bus" and "plane"
    found = Manifest(_frame([]), "split folders" if by_split else "class folders")
    _skip_loose(found, source, loose)
    if not by_split:
        _add_classes(found, rows, source, folders, "")
    for name in folders if by_split else []:
        if name in splits:
            classes, loose = _list(source / name)
            _skip_loose(found, source / name, loose)
            _add_classes(found, rows, source / name, classes, splits[name])
            continue
        files = list(walk(source / name))
        if any(_suffix(file) in IMAGE_SUFFIXES for file in files):
            raise DataError(
                f'{source} has split folders ({", ".join(sorted(splits))}) and beside them "{name}" with images'
                f"{did_you_mean(name.lower(), _SPLIT_WORDS)}; expected only train, val and test"
            )
        found.skipped.update(_suffix(file) for file in files)
    found.rows = _frame(rows)
    return found


def _add_classes(
    found: Manifest, rows: list[tuple[str, str, str, str]], folder: Path, names: Iterable[str], split: str
) -> None:
    for name in names:
        label = unicodedata.normalize("NFC", name)  # macOS writes é as two characters
        before = len(rows) + len(found.quarantined)
        for file in walk(folder / name):
            suffix = _suffix(file)
            if suffix not in IMAGE_SUFFIXES:
                found.skipped[suffix] += 1
            elif not _is_text(file):
                found.quarantine(file, label, "the path is not valid UTF-8: rename it")
            else:
                rows.append((file, label, split, ""))
        if len(rows) + len(found.quarantined) == before:
            found.warnings.append(f"class folder without images ignored: {_printable(str(folder / name))}")


def _skip_loose(found: Manifest, folder: Path, names: Iterable[str]) -> None:
    for name in names:
        if _suffix(name) in IMAGE_SUFFIXES:
            found.quarantine(str(folder / name), "", "not inside a class folder")
        else:
            found.skipped[_suffix(name)] += 1


def _list(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of the folders and of the files in `folder`, sorted; a link counts as what it leads to."""
    folders, files = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if _leads_to_a_folder(entry):
                    folders.append(entry.name)
                else:
                    files.append(entry.name)
    except OSError as error:
        raise DataError(f"cannot list folder {folder}: {error.strerror or error}") from error
    hidden = [name for name in folders if name.startswith(".")]
    return sorted(set(folders) - set(hidden)), sorted(files)


def _leads_to_a_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself; reading it as an image will say so
        return False


def walk(folder: Path) -> Iterator[str]:
    """Yield all files below `folder`, following links, but every folder only once whatever leads to it.

    Raises:
        DataError: A folder cannot be listed.
    """
    waiting, seen = [folder], set[tuple[int, int]]()
    while waiting:
        here = waiting.pop()
        try:
            status = os.stat(here)
        except OSError as error:
            raise DataError(f"cannot list folder {here}: {error.strerror or error}") from error
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        folders, files = _list(here)
        yield from (str(here / name) for name in files)
        waiting += [here / name for name in reversed(folders)]


def _read_table(source: Path) -> Manifest:
    suffix = source.suffix.lower()
    try:
        if suffix == ".parquet":
            table = pd.read_parquet(source, dtype_backend="numpy_nullable")
        elif suffix in (".csv", ".tsv"):
            separator = "\t" if suffix == ".tsv" else ","
            table = pd.read_csv(source, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
        else:
            raise DataError(f"cannot use {source} as data: expected a folder, or a .csv, .tsv or .parquet manifest")
    except DataError:
        raise
    except Exception as error:  # pandas and pyarrow have no common base for "this file is not what it says"
        raise DataError(f"cannot read manifest {source}: {' '.join(str(error).split())}") from error
    if not isinstance(table.index, pd.RangeIndex):
        raise DataError(f"cannot read manifest {source}: rows have more fields than the header")
    table.columns = [str(name).strip().lower() for name in table.columns]
    missing = [name for name in ("path", "label") if list(table.columns).count(name) != 1]
    if missing:
        hints = "".join(f" ({name}{did_you_mean(name, table.columns)})" for name in missing)
        raise DataError(
            f"manifest {source} needs exactly one column each of path and label, "
            f"has: {', '.join(table.columns)}{hints if '?' in hints else ''}"
        )
    found = Manifest(_frame([]), "manifest")
    ignored = [name for name in table.columns if name not in _COLUMNS]
    if ignored:
        found.warnings.append(f"manifest columns not used: {', '.join(ignored)}")
    columns = {name: _text(table[name]) if name in table.columns else [""] * len(table) for name in _COLUMNS}
    columns["split"] = _splits(source, columns["split"])
    rows = []
    records = zip(columns["path"], columns["label"], columns["split"], columns["group"], strict=True)
    for number, (path, label, split, group) in enumerate(records, start=1):
        absolute = os.path.abspath(source.parent / path)
        if not path:
            found.quarantine("", label, f"row {number} has no path")
        elif not label:
            found.quarantine(absolute, "", f"row {number} has no label")
        else:
            rows.append((absolute, unicodedata.normalize("NFC", label), split, group))
    found.rows = _frame(rows)
    return found


def _splits(source: Path, words: list[str]) -> list[str]:
    unknown = sorted({word for word in words if word and word.lower() not in _SPLIT_WORDS})
    if unknown:
        listed = ", ".join(f'"{word}"{did_you_mean(word.lower(), _SPLIT_WORDS)}' for word in unknown[:5])
        raise DataError(f"manifest {source} has unknown split names {listed}; expected train, validation (val) or test")
    blank = [number for number, word in enumerate(words, start=1) if not word]
    if 0 < len(blank) < len(words):
        raise DataError(
            f"manifest {source} names the split of some rows but not of {len(blank)} others "
            f"(first: row {blank[0]}); fill the split column or leave it out"
        )
    return [_SPLIT_WORDS[word.lower()] if word else "" for word in words]


def _text(column: pd.Series) -> list[str]:
    return ["" if pd.api.types.is_scalar(value) and pd.isna(value) else str(value).strip() for value in column.tolist()]


def _frame(rows: list[tuple[str, str, str, str]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(_COLUMNS), dtype="str")


def _suffix(name: str) -> str:
    base = os.path.basename(name)
    return "hidden" if base.startswith(".") else os.path.splitext(base)[1].lower() or "no suffix"


def _is_text(path: str) -> bool:
    return path == _printable(path)


def _printable(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode()


def _summary(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {suffix}" for suffix, count in sorted(counts.items()))

"""What has become of the images of a data set since it was prepared."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from automl.data.manifest import read_manifest
from automl.errors import DataError

if TYPE_CHECKING:
    from automl.data import Dataset

__all__ = ["changes"]

NAMED = 3


def changes(source: Path, dataset: Dataset, *, since: float) -> list[str]:
    """Return how the images that `source` names now differ from those of `dataset`, one sentence part per kind of
    difference; an empty list if they do not, or if `source` is no longer there to be looked at.

    Of the files only those are read that were written after `since` (seconds since 1970).
    """
    if not source.exists():
        return []
    try:
        rows = read_manifest(source).rows
    except DataError as error:
        return [str(error)]
    now, table = dict(zip(rows["path"], rows["label"], strict=True)), dataset.table
    known = {
        path: (label, digest)
        for path, label, digest in zip(table["path"], table["label"], table["sha256"], strict=True)
    }
    aside = {each["path"] for each in dataset.audit.quarantined}
    aside |= {copy["path"] for each in dataset.audit.duplicates for copy in each["copies"]}
    gone = {path: None for path in known if path not in now or not Path(path).exists()}
    there = [path for path in known if path not in gone]
    found = {
        "gone": list(gone),
        "added": [path for path in now if path not in known and path not in aside],
        "of another label": [path for path in there if now[path] != known[path][0]],
        "changed": [path for path in there if _is_newer(path, since) and _digest(path) != known[path][1]],
    }
    return [_counted(what, paths) for what, paths in found.items() if paths]


def _is_newer(path: str, since: float) -> bool:
    status = Path(path).stat()
    return max(status.st_mtime, status.st_ctime) > since


def _digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _counted(what: str, paths: list[str]) -> str:
    more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    return f"{len(paths)} {'image is' if len(paths) == 1 else 'images are'} {what} ({', '.join(paths[:NAMED])}{more})"

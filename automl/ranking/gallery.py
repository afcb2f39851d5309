"""Thumbnails of images, by row of the manifest, made once however often the page shows them."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from automl.errors import AutoMLError

__all__ = ["THUMBNAIL", "Gallery", "data_url", "file_link"]

THUMBNAIL = 160


class Gallery:
    """Pictures as ``data:`` URLs by row number; a picture that cannot be read is counted in `unshown`."""

    def __init__(self, load: Callable[[int], Image.Image] | None) -> None:
        self._load = load
        self.pictures: dict[int, str] = {}
        self.unshown: set[int] = set()

    def add(self, rows: Iterable[int], longest: int = THUMBNAIL) -> None:
        """Read the pictures of `rows` that are not there yet."""
        for row in rows:
            if self._load is None or row in self.pictures or row in self.unshown:
                continue
            try:
                self.pictures[row] = data_url(self._load(row), longest)
            except (OSError, AutoMLError, LookupError, ValueError):
                self.unshown.add(row)

    def missing(self, rows: Iterable[int]) -> int:
        """Return how many of `rows` could not be read."""
        return len(self.unshown.intersection(rows))


def data_url(picture: Image.Image, longest: int) -> str:
    """Return a JPEG of `picture`, its longer side at most `longest` pixels, as a ``data:`` URL."""
    small = picture.convert("RGB")
    small.thumbnail((longest, longest))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def file_link(path: str, page_folder: Path | None = None) -> str:
    """Return a link to a file that a page opened from a disk can follow, "" for a path that is not absolute.

    Where the file and the folder of the page lie below a common folder, the link is relative, so that both can be
    moved together; else it is a ``file:`` URL.
    """
    if not Path(path).is_absolute():
        return ""
    if page_folder is None or Path(path).parts[:2] != page_folder.absolute().parts[:2]:
        return Path(path).as_uri()
    return quote(os.path.relpath(path, page_folder.absolute()))

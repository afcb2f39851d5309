"""Decode once: a dataset's images, resized, in one memory-mapped file per variant that all trials share.

``<folder>/<key>-<R>-<interpolation>-<crop>.npy`` is a plain NumPy file ``(N, R, R, 3) uint8``; row i is the table's row
i. The key is a hash of the images' content and of the background, so the same images under other names use the same
file.

A file is built under the name ``….npy.part`` beside ``….progress``, the number of leading rows that are safely on disk.
A killed build goes on from there; the final name appears only when every row is written and synced.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from filelock import FileLock

from automl.data.decode import Color, CropMode, Interpolation, decode_bytes, fit, in_order, one_line, read_bytes
from automl.errors import DataError, DecodeError, OutputError
from automl.paths import make_folder, write_atomic

__all__ = ["Variant", "build_cache", "cache_path", "open_cache"]

_VERSION = 1  # raise it when `decode` or `fit` give other pixels
_SYNC_EVERY = 256  # rows; what a killed build may have to repeat


@dataclass(frozen=True)
class Variant:
    """One way to make images square; see `automl.data.decode.fit`."""

    resolution: int
    interpolation: Interpolation = "bicubic"
    crop_mode: CropMode = "squash"


@dataclass
class _File:
    """A cache file under construction. `done` leading rows are on disk."""

    path: Path
    variant: Variant
    rows: int
    descriptor: int = -1
    done: int = 0
    offset: int = 0

    @property
    def part(self) -> Path:
        return self.path.with_name(self.path.name + ".part")

    @property
    def progress(self) -> Path:
        return self.path.with_suffix(".progress")

    @property
    def row_bytes(self) -> int:
        return self.variant.resolution**2 * 3

    def complete(self) -> bool:
        """Whether the file is there with all of its bytes."""
        try:
            return self.path.stat().st_size == len(_header(self._shape)) + self.rows * self.row_bytes
        except FileNotFoundError:
            return False

    @property
    def _shape(self) -> tuple[int, ...]:
        return (self.rows, self.variant.resolution, self.variant.resolution, 3)

    def open(self) -> None:
        header = _header(self._shape)
        self.offset = len(header)
        size = self.offset + self.rows * self.row_bytes
        with self._disk_errors():
            self.descriptor = os.open(self.part, os.O_RDWR | os.O_CREAT, 0o666)
            same = os.fstat(self.descriptor).st_size == size and os.pread(self.descriptor, len(header), 0) == header
            self.done = self._read_progress() if same else 0
            if not same:
                self.progress.unlink(missing_ok=True)
                os.ftruncate(self.descriptor, 0)
                _reserve(self.descriptor, size)
                self._write(header, 0)

    def write(self, row: int, pixels: npt.NDArray[np.uint8]) -> None:
        with self._disk_errors():
            self._write(pixels.tobytes(), self.offset + row * self.row_bytes)

    def sync(self, done: int) -> None:
        if done > self.done:
            with self._disk_errors():
                os.fsync(self.descriptor)
            write_atomic(self.progress, str(done))
            self.done = done

    def finish(self) -> None:
        self.close()
        with self._disk_errors():
            os.replace(self.part, self.path)
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
            self.progress.unlink(missing_ok=True)

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _write(self, content: bytes, offset: int) -> None:
        view = memoryview(content)
        while view:
            written = os.pwrite(self.descriptor, view, offset)
            view, offset = view[written:], offset + written

    def _read_progress(self) -> int:
        try:
            return min(self.rows, max(0, int(self.progress.read_text())))
        except (OSError, ValueError):
            return 0

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"cannot write the pixel cache {self.path} ({self.offset + self.rows * self.row_bytes} bytes wanted): "
                f"{error.strerror or error}; "
                "free space, choose another folder, or search fewer resolutions"
            ) from error


def cache_path(table: pd.DataFrame, folder: Path, variant: Variant, *, background: Color) -> Path:
    """Return the file of `variant` in the cache of `table`'s images."""
    digest = hashlib.sha256(f"{_VERSION} {tuple(int(level) for level in background)}\n".encode())
    digest.update("\n".join(table["sha256"]).encode())
    name = f"{digest.hexdigest()[:16]}-{variant.resolution}-{variant.interpolation}-{variant.crop_mode}.npy"
    return folder / name


def build_cache(
    table: pd.DataFrame,
    folder: Path,
    variants: Sequence[Variant],
    *,
    background: Color,
    max_pixels: int,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Decode every image of `table` once and write it in all `variants` that `folder` does not have yet.

    **Concurrency**: one process builds at a time; others wait, then find the files complete.

    **Interruption**: after a kill at any moment, the next call goes on after the last rows synced (every 256 rows).

    Args:
        progress: Called with (images done, images); starts above 0 when resuming, is not called when nothing is left.

    Raises:
        DataError: An image is gone or has changed since the audit.
        OutputError: The folder cannot be written or the disk is full; names the file and the bytes wanted.
    """
    make_folder(folder)
    wanted = {cache_path(table, folder, variant, background=background): variant for variant in variants}
    with FileLock(folder / ".lock"):
        files = [_File(path, variant, len(table)) for path, variant in wanted.items()]
        files = [file for file in files if not file.complete()]
        try:
            for file in files:
                file.open()
            if files:
                _fill(table, files, background=background, max_pixels=max_pixels, workers=workers, progress=progress)
            for file in files:
                file.finish()
        finally:
            for file in files:
                file.close()


def open_cache(table: pd.DataFrame, folder: Path, variant: Variant, *, background: Color) -> np.memmap:
    """Map the pixels of `table`'s images, ``(N, R, R, 3) uint8``, read-only. Row i is the table's row i.

    Raises:
        DataError: `build_cache` has not finished this variant.
    """
    path = cache_path(table, folder, variant, background=background)
    try:
        pixels = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise DataError(f"no pixel cache at {path}: {error}; build it first") from error
    expected = (len(table), variant.resolution, variant.resolution, 3)
    if not isinstance(pixels, np.memmap) or pixels.shape != expected or pixels.dtype != np.uint8:
        raise DataError(f"{path} is not the pixel cache of {expected} uint8: delete it and build it again")
    return pixels


def _fill(
    table: pd.DataFrame,
    files: list[_File],
    *,
    background: Color,
    max_pixels: int,
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    paths, hashes = table["path"].tolist(), table["sha256"].tolist()

    def convert(row: int) -> None:
        try:
            content = read_bytes(paths[row])
            if hashlib.sha256(content).hexdigest() != hashes[row]:
                raise DecodeError("the file has changed")
            image = decode_bytes(content, background=background, max_pixels=max_pixels).image
        except DecodeError as error:
            raise DataError(f"{one_line(paths[row])} is no longer what the audit saw: {error}; start again") from error
        for file in files:
            if row >= file.done:
                options = file.variant
                file.write(
                    row, fit(image, options.resolution, options.interpolation, options.crop_mode, background=background)
                )

    done = start = min(file.done for file in files)
    try:
        # closing: after an interrupt, no thread may still write when the files are closed
        with contextlib.closing(in_order(convert, range(start, len(table)), workers=workers)) as converted:
            for done, _ in enumerate(converted, start=start + 1):
                if done % _SYNC_EVERY == 0:
                    for file in files:
                        file.sync(done)
                if progress is not None:
                    progress(done, len(table))
    finally:
        for file in files:
            file.sync(done)


def _header(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def _reserve(descriptor: int, size: int) -> None:
    """Take the space now, so that a full disk is found before the work and not in the middle of it."""
    try:
        os.posix_fallocate(descriptor, 0, size)
    except (AttributeError, OSError) as error:  # macOS has no such call, some file systems refuse it
        if getattr(error, "errno", errno.ENOSYS) not in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
            raise
        os.ftruncate(descriptor, size)

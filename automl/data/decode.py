"""Open an image: the only place in the project that does.

Every image becomes 8-bit RGB, upright and without transparency, in one documented way:

* formats: those of `FORMATS`, recognised by content, never by suffix;
* EXIF orientation is applied;
* transparency (alpha channels, palettes and colour keys alike) is composited on a stated background;
* 16-bit grey is rescaled by its bit depth (40000 of 65535 becomes 156, not 255);
* 32-bit integer and float grey have no depth that says what white is: white is the smallest of 1 (floats only),
  255, 65535 and 2^31 - 1 (integers only) that the image does not exceed; negative or non-finite values are refused;
* CMYK, YCbCr, HSV, palette and bilevel images are converted by Pillow;
* of several frames the first counts.

Importing this module lifts Pillow's process-wide size warning (``Image.MAX_IMAGE_PIXELS``), because a warning can
neither be an error per call nor be caught safely in threads; `decode` enforces `max_pixels` before any pixel is read.
"""

from __future__ import annotations

import io
import os
import stat
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from automl.errors import DecodeError

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "FORMATS",
    "Color",
    "CropMode",
    "Decoded",
    "Interpolation",
    "decode",
    "decode_bytes",
    "fit",
    "in_order",
    "one_line",
    "read_bytes",
]

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
DEFAULT_MAX_PIXELS = 89_000_000  # where Pillow begins to warn
MAX_BYTES = 2**30  # of a file; its pixels are limited by themselves

Color = tuple[int, int, int]
Interpolation = Literal["bilinear", "bicubic"]
CropMode = Literal["squash", "center", "border"]
T = TypeVar("T")

Image.MAX_IMAGE_PIXELS = None

_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_WHITE_IS_ZERO = 258, 262, 0


@dataclass(frozen=True)
class Decoded:
    """An image as RGB, with what its file said before the conversion. `size` is (width, height), upright."""

    image: Image.Image
    format: str
    mode: str
    size: tuple[int, int]
    frames_ignored: bool


def decode(path: Path | str, *, background: Color, max_pixels: int = DEFAULT_MAX_PIXELS) -> Image.Image:
    """Read the image at `path` as upright 8-bit RGB.

    Args:
        background: RGB colour, 0 to 255 each, that transparent parts are composited on.
        max_pixels: Largest width times height that is decoded.

    Raises:
        DecodeError: It is missing, not an image of a known format, broken, or larger than `max_pixels`.
    """
    try:
        return decode_bytes(read_bytes(path), background=background, max_pixels=max_pixels).image
    except DecodeError as error:
        raise DecodeError(f"cannot read image {one_line(path)}: {error}") from error


def read_bytes(path: Path | str) -> bytes:
    """Return the content of a regular file.

    Raises:
        DecodeError: With the reason alone (``file not found``), for a list that has the path already.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # a named pipe would be waited on for ever
            raise DecodeError("a folder, not a file" if stat.S_ISDIR(status.st_mode) else "not a regular file")
        if status.st_size > MAX_BYTES:
            raise DecodeError(f"{status.st_size} bytes, more than the limit of {MAX_BYTES}")
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise DecodeError("file not found") from None
    except DecodeError:
        raise
    except OSError as error:
        raise DecodeError((error.strerror or str(error)).lower()) from error
    except ValueError as error:  # a null byte in the path
        raise DecodeError(f"not a path: {error}") from error


def decode_bytes(content: bytes, *, background: Color, max_pixels: int = DEFAULT_MAX_PIXELS) -> Decoded:
    """Decode the content of an image file, as `decode` does.

    Raises:
        DecodeError: With the reason alone, for a list that has the path already.
    """
    if not content:
        raise DecodeError("empty file")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise DecodeError(f"{width} x {height} pixels, more than the limit of {max_pixels} (data.max_pixels)")
            file_format, mode = image.format or "", image.mode
            frames_ignored = _has_more_frames(image)
            white, inverted = _white(image), _inverted(image)
            ImageOps.exif_transpose(image, in_place=True)
            size = image.size
            rgb = _flatten(_to_8_bit(image, white, inverted), background)
    except (DecodeError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise DecodeError(f"not an image of a known format ({', '.join(FORMATS)})") from None
    except Exception as error:  # Pillow's readers raise whatever a broken file makes them stumble over
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DecodeError(f"broken image: {reason}") from error
    return Decoded(rgb, file_format, mode, size, frames_ignored)


def fit(
    image: Image.Image,
    resolution: int,
    interpolation: Interpolation,
    crop_mode: CropMode,
    *,
    background: Color = (0, 0, 0),
) -> npt.NDArray[np.uint8]:
    """Resize an RGB image to a square, ``(resolution, resolution, 3) uint8``.

    `crop_mode` has timm's words: ``squash`` both sides to `resolution`, ``center`` the shorter side and cut the rest
    off, ``border`` the longer side and pad with `background`. ``squash`` equals timm's own transform bit for bit.
    """
    resample, (width, height) = _RESAMPLING[interpolation], image.size
    square = (resolution, resolution)
    if crop_mode == "squash":
        fitted = image.resize(square, resample)
    elif crop_mode == "center":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        fitted = image.resize(square, resample, box=(left, top, left + side, top + side))
    elif crop_mode == "border":
        scale = resolution / max(width, height)
        inner = (max(1, round(width * scale)), max(1, round(height * scale)))
        fitted = Image.new("RGB", square, background)
        fitted.paste(image.resize(inner, resample), ((resolution - inner[0]) // 2, (resolution - inner[1]) // 2))
    else:
        raise ValueError(f'unknown crop mode "{crop_mode}": expected squash, center or border')
    return np.array(fitted, dtype=np.uint8)


def one_line(name: object) -> str:
    """Return a path or label for a message, with line breaks and the like as escapes."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(name))


def in_order(function: Callable[[int], T], rows: Sequence[int], *, workers: int = 0) -> Generator[T, None, None]:
    """Yield ``function(row)`` for every row, in order, computed by `workers` threads (0: one per usable core).

    Threads suffice, as Pillow and hashlib release the interpreter lock. Only a few rows are in flight at a time.
    """
    count = workers or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    pending: deque[Future[T]] = deque()
    with ThreadPoolExecutor(count, thread_name_prefix="decode") as pool:
        try:
            for row in rows:
                pending.append(pool.submit(function, row))
                if len(pending) >= 4 * count:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _has_more_frames(image: Image.Image) -> bool:
    if image.format not in ("GIF", "PNG", "WEBP", "TIFF", "AVIF"):  # a phone's MPO holds previews, not frames
        return False
    try:
        more = bool(getattr(image, "is_animated", False))
    except Exception:  # the second frame is broken, which is no fault of the first
        more = True
    image.seek(0)
    return more


def _white(image: Image.Image) -> int | None:
    """Return the value of white where the file's format fixes it."""
    if image.mode.startswith("I;16"):
        bits = getattr(image, "tag_v2", {}).get(_TIFF_BITS, (16,))
        return int((1 << int(bits[0] if isinstance(bits, tuple) else bits)) - 1)
    if image.mode == "I" and image.format in ("PNG", "PPM"):
        return 65535
    return None


def _inverted(image: Image.Image) -> bool:
    return getattr(image, "tag_v2", {}).get(_TIFF_PHOTOMETRIC) == _TIFF_WHITE_IS_ZERO


def _to_8_bit(image: Image.Image, white: int | None, inverted: bool) -> Image.Image:
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise DecodeError("values that are not finite: expected grey levels from 0 up")
    low, high = float(values.min()), float(values.max())
    if low < 0:
        raise DecodeError(f"negative values (down to {low:g}): expected grey levels from 0 up")
    if white is None:
        scales = (1, 255, 65535) if image.mode == "F" else (255, 65535, 2**31 - 1)
        white = next((scale for scale in scales if high <= scale), None)
        if white is None:
            raise DecodeError(f"values up to {high:g}: expected grey levels from 0 to 1, 255 or 65535")
    levels = np.round(values * (255 / white)).clip(0, 255).astype(np.uint8)
    grey = Image.fromarray(255 - levels if inverted else levels)
    key = image.info.get("transparency")
    if isinstance(key, int):  # a grey level that means transparent; convert() would compare it with 8-bit levels
        grey.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return grey


def _flatten(image: Image.Image, background: Color) -> Image.Image:
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        canvas = Image.new("RGBA", rgba.size, (*background, 255))
        return Image.alpha_composite(canvas, rgba).convert("RGB")
    return image.convert("RGB")

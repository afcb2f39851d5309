from __future__ import annotations

import contextlib
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from automl.data.decode import FORMATS, decode, decode_bytes, fit, in_order
from automl.errors import DecodeError
from tests.images import WHITE, picture, save


def pixels(image: Image.Image) -> list[object]:
    return np.asarray(image).tolist()


def opened(image: Image.Image, path: Path, background: tuple[int, int, int] = WHITE) -> Image.Image:
    result = decode(save(image, path), background=background)
    assert result.mode == "RGB"
    return result


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm"])
def test_a_lossless_image_keeps_its_pixels(tmp_path: Path, suffix: str) -> None:
    image = picture(1)
    assert pixels(opened(image, tmp_path / f"a.{suffix}")) == pixels(image)


@pytest.mark.parametrize("suffix", ["jpg", "webp", "gif", "jp2"])
def test_a_lossy_image_is_near(tmp_path: Path, suffix: str) -> None:
    image = Image.new("RGB", (16, 16), (200, 100, 50))
    assert np.abs(np.asarray(opened(image, tmp_path / f"a.{suffix}")).astype(int) - (200, 100, 50)).max() <= 12


def test_the_content_decides_not_the_suffix(tmp_path: Path) -> None:
    path = tmp_path / "really_png.jpg"
    picture(1).save(path, format="PNG")
    assert pixels(decode(path, background=WHITE)) == pixels(picture(1))


def test_16_bit_grey_is_rescaled_by_its_depth(tmp_path: Path) -> None:
    values = np.array([[0, 257, 40000, 65535]], dtype=np.uint16)
    for name in ("a.png", "a.tif"):
        assert pixels(opened(Image.fromarray(values), tmp_path / name).getchannel(0)) == [[0, 1, 156, 255]]


def test_a_grey_map_of_16_bits_is_rescaled(tmp_path: Path) -> None:
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5 2 1 65535\n" + struct.pack(">HH", 40000, 65535))
    assert pixels(decode(path, background=WHITE).getchannel(0)) == [[156, 255]]


def png(width: int, height: int, bits: int, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return a grey PNG put together by hand, for what Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


def test_a_grey_level_that_means_transparent_in_16_bits_is_composited() -> None:
    content = png(2, 1, 16, b"\0" + struct.pack(">HH", 40000, 20000), (b"tRNS", struct.pack(">H", 40000)))
    assert pixels(decode_bytes(content, background=(1, 2, 3)).image) == [[[1, 2, 3], [78, 78, 78]]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[0.0, 0.5, 1.0]], [[0, 128, 255]]),
        ([[0.0, 100.0, 255.0]], [[0, 100, 255]]),
        ([[0.0, 25700.0, 65535.0]], [[0, 100, 255]]),
    ],
)
def test_float_grey_is_rescaled_to_the_smallest_usual_white(
    tmp_path: Path, values: list[list[float]], expected: list[list[int]]
) -> None:
    image = Image.fromarray(np.array(values, dtype=np.float32))
    assert pixels(opened(image, tmp_path / "a.tif").getchannel(0)) == expected


@pytest.mark.parametrize(("value", "reason"), [(-1.0, "negative"), (float("nan"), "not finite"), (1e9, "up to 1e")])
def test_float_grey_without_a_meaning_is_refused(tmp_path: Path, value: float, reason: str) -> None:
    path = save(Image.fromarray(np.array([[0.0, value]], dtype=np.float32)), tmp_path / "a.tif")
    with pytest.raises(DecodeError, match=reason):
        decode(path, background=WHITE)


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_alpha_is_composited_on_the_background(tmp_path: Path, suffix: str) -> None:
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (255, 0, 0, 0))
    path = tmp_path / f"a.{suffix}"
    image.save(path, **({"lossless": True} if suffix == "webp" else {}))
    assert pixels(decode(path, background=(10, 20, 30))) == [[[255, 0, 0], [10, 20, 30]]]


def test_half_transparent_grey_is_mixed_with_the_background(tmp_path: Path) -> None:
    image = opened(Image.new("LA", (1, 1), (0, 128)), tmp_path / "a.png", background=(200, 100, 0))
    assert np.abs(np.asarray(image)[0, 0].astype(int) - (100, 50, 0)).max() <= 1


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_a_transparent_palette_entry_is_composited(tmp_path: Path, suffix: str) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.putpixel((1, 0), 1)
    path = tmp_path / f"a.{suffix}"
    image.save(path, transparency=0)
    assert pixels(decode(path, background=(1, 2, 3))) == [[[1, 2, 3], [255, 0, 0]]]


def test_a_transparent_colour_is_composited(tmp_path: Path) -> None:
    image = Image.new("RGB", (2, 1), (9, 9, 9))
    image.putpixel((1, 0), (255, 0, 0))
    path = tmp_path / "a.png"
    image.save(path, transparency=(9, 9, 9))
    assert pixels(decode(path, background=(1, 2, 3))) == [[[1, 2, 3], [255, 0, 0]]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_other_modes_become_what_pillow_shows(tmp_path: Path, mode: str) -> None:
    image = picture(3).convert(mode)
    assert pixels(opened(image, tmp_path / "a.tif")) == pixels(image.convert("RGB"))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    upright = Image.new("RGB", (32, 16), "black")
    upright.paste((255, 255, 255), (0, 0, 16, 8))  # the upper left quarter
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    stored.save(path, exif=exif)
    result = decode(path, background=WHITE)
    assert result.size == (32, 16)
    assert np.abs(np.asarray(result).astype(int) - np.asarray(upright)).max() < 40
    assert decode_bytes(path.read_bytes(), background=WHITE).size == (32, 16)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_the_first_frame_counts_and_the_others_are_noticed(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    path = tmp_path / f"a.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    decoded = decode_bytes(path.read_bytes(), background=WHITE)
    assert decoded.frames_ignored
    red, _, blue = np.asarray(decoded.image)[0, 0]
    assert red > 200
    assert blue < 50


def test_too_many_pixels_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png(40000, 40000, 8, b""))
    with pytest.raises(DecodeError, match="40000 x 40000 pixels, more than the limit of 1000000"):
        decode(path, background=WHITE, max_pixels=10**6)


def test_an_image_of_just_the_limit_is_read(tmp_path: Path) -> None:
    assert decode(save(picture(1, (10, 10)), tmp_path / "a.png"), background=WHITE, max_pixels=100).size == (10, 10)


def test_what_is_no_image_says_why_in_one_line(tmp_path: Path) -> None:
    whole = save(picture(1, (200, 200)), tmp_path / "whole.jpg").read_bytes()
    icon = io.BytesIO()
    picture(1, (16, 16)).save(icon, format="ICO")
    files = {"empty": b"", "text": b"hello", "icon": icon.getvalue(), "half": whole[: len(whole) // 2]}
    reasons = {
        "empty": "empty file",
        "text": "known format",
        "icon": "known format",
        "half": "broken image: .*truncated",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DecodeError, match=reasons[name]) as caught:
            decode(tmp_path / name, background=WHITE)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)
    with pytest.raises(DecodeError, match="file not found"):
        decode(tmp_path / "absent.png", background=WHITE)
    with pytest.raises(DecodeError, match="a folder"):
        decode(tmp_path, background=WHITE)


def test_a_named_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DecodeError, match="not a regular file"):
        decode(tmp_path / "pipe.png", background=WHITE)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "bmp", "tif", "jp2", "ppm"])
def test_no_damage_gets_past_decode_error(tmp_path: Path, suffix: str) -> None:
    content = bytearray(save(picture(5, (24, 24)), tmp_path / f"a.{suffix}").read_bytes())
    generator = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(content)
        for position in generator.integers(0, len(content), 6):
            damaged[position] = generator.integers(0, 256)
        with contextlib.suppress(DecodeError):
            assert decode_bytes(bytes(damaged), background=WHITE, max_pixels=10**6).image.mode == "RGB"


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_squash_equals_the_transform_that_timm_uses(interpolation: str) -> None:
    image = picture(2, (60, 35))
    expected = Resize((24, 24), InterpolationMode(interpolation))(image)
    assert pixels(fit(image, 24, interpolation, "squash")) == pixels(expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(60, 30), (30, 60), (45, 45)])
def test_center_equals_resize_and_centre_crop(size: tuple[int, int]) -> None:
    image = picture(2, size).resize((size[0] * 4, size[1] * 4), Image.Resampling.BICUBIC)  # smooth
    expected = Compose([Resize(60, InterpolationMode.BICUBIC), CenterCrop(60)])(image)
    result = fit(image, 60, "bicubic", "center")
    assert np.abs(result.astype(int) - np.asarray(expected)).max() <= 2


def test_border_shows_the_whole_image_on_the_background() -> None:
    result = fit(Image.new("RGB", (40, 10), "red"), 20, "bilinear", "border", background=(7, 8, 9))
    inside = (result == (255, 0, 0)).all(axis=2)
    assert inside.sum() == 20 * 5
    assert inside[7:12].all()
    assert (result[~inside] == (7, 8, 9)).all()


def test_border_of_an_extreme_shape_keeps_a_line() -> None:
    result = fit(Image.new("RGB", (4000, 1), "red"), 16, "bicubic", "border")
    assert (result == (255, 0, 0)).all(axis=2).sum() == 16


def test_fit_refuses_an_unknown_crop_mode() -> None:
    with pytest.raises(ValueError, match='unknown crop mode "middle"'):
        fit(picture(1), 8, "bilinear", "middle")  # type: ignore[arg-type]


def test_in_order_keeps_the_order_and_raises_what_was_raised() -> None:
    assert list(in_order(lambda row: row * row, range(100), workers=4)) == [row * row for row in range(100)]
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda row: 1 // (50 - row), range(100), workers=4))


def test_every_format_is_known_to_pillow() -> None:
    Image.init()
    assert set(FORMATS) <= set(Image.OPEN)

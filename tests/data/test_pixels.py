from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from automl.data import Dataset, Variant, build_cache, decode, fit, open_cache, prepare
from automl.data import pixels as pixels_module
from automl.data.pixels import cache_path
from automl.errors import DataError, OutputError
from tests.images import WHITE, class_folders, picture, save

LIMIT = 10**6
SMALL = Variant(8, "bilinear", "squash")
LARGE = Variant(16, "bicubic", "border")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    folder = class_folders(tmp_path / "data", {"cat": 12, "dog": 12})
    return prepare(folder, seed=0, validation_fraction=0.2, test_fraction=0.2, background=WHITE, workers=2)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that the cache reads, in the order of reading."""
    paths: list[str] = []
    read = pixels_module.read_bytes

    def note(path: Path | str) -> bytes:
        paths.append(str(path))
        return read(path)

    monkeypatch.setattr(pixels_module, "read_bytes", note)
    return paths


def build(dataset: Dataset, folder: Path, *variants: Variant, **options: object) -> list[tuple[int, int]]:
    seen: list[tuple[int, int]] = []
    progress = options.pop("progress", lambda done, total: seen.append((done, total)))
    build_cache(
        dataset.table, folder, variants, background=WHITE, max_pixels=LIMIT, workers=2, progress=progress, **options
    )  # type: ignore[arg-type]
    return seen


def expected(dataset: Dataset, variant: Variant) -> np.ndarray:
    images = [decode(path, background=WHITE, max_pixels=LIMIT) for path in dataset.table["path"]]
    options = (variant.resolution, variant.interpolation, variant.crop_mode)
    return np.stack([fit(image, *options, background=WHITE) for image in images])


def test_row_i_is_table_row_i_in_every_variant(dataset: Dataset, tmp_path: Path) -> None:
    seen = build(dataset, tmp_path / "pixels", SMALL, LARGE)
    for variant in (SMALL, LARGE):
        pixels = open_cache(dataset.table, tmp_path / "pixels", variant, background=WHITE)
        assert isinstance(pixels, np.memmap)
        assert not pixels.flags.writeable
        np.testing.assert_array_equal(pixels, expected(dataset, variant))
    assert seen == [(done, 24) for done in range(1, 25)]


def test_one_decode_serves_all_variants_and_later_calls_none(
    dataset: Dataset, tmp_path: Path, decoded: list[str]
) -> None:
    build(dataset, tmp_path, SMALL, LARGE, SMALL)
    assert sorted(decoded) == sorted(dataset.table["path"])
    decoded.clear()
    assert build(dataset, tmp_path, LARGE, SMALL) == []
    assert decoded == []


def test_the_same_images_elsewhere_use_the_same_file(dataset: Dataset, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    copy = prepare(tmp_path / "copy", seed=5, validation_fraction=0.2, test_fraction=0.2, background=WHITE)
    path = cache_path(dataset.table, tmp_path, SMALL, background=WHITE)
    assert cache_path(copy.table, tmp_path, SMALL, background=WHITE) == path
    assert cache_path(dataset.table[1:], tmp_path, SMALL, background=WHITE) != path
    assert cache_path(dataset.table, tmp_path, SMALL, background=(0, 0, 0)) != path


def test_an_interrupted_build_goes_on_where_it_was(
    dataset: Dataset, tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(dataset, tmp_path / "pixels", SMALL, progress=interrupt)
    with pytest.raises(DataError, match="build it first"):
        open_cache(dataset.table, tmp_path / "pixels", SMALL, background=WHITE)
    decoded.clear()
    seen = build(dataset, tmp_path / "pixels", SMALL)
    assert seen[0] == (11, 24)
    assert sorted(decoded) == sorted(dataset.table["path"][10:])
    pixels = open_cache(dataset.table, tmp_path / "pixels", SMALL, background=WHITE)
    np.testing.assert_array_equal(pixels, expected(dataset, SMALL))


def test_a_variant_that_joins_later_fills_only_what_is_missing(dataset: Dataset, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(dataset, tmp_path, SMALL, progress=interrupt)
    build(dataset, tmp_path, SMALL, LARGE)
    for variant in (SMALL, LARGE):
        pixels = open_cache(dataset.table, tmp_path, variant, background=WHITE)
        np.testing.assert_array_equal(pixels, expected(dataset, variant))


def test_a_build_that_was_killed_goes_on(dataset: Dataset, tmp_path: Path, decoded: list[str]) -> None:
    table, folder = tmp_path / "table.parquet", tmp_path / "pixels"
    dataset.table.to_parquet(table)
    script = f"""
import os, signal, pandas as pd
from pathlib import Path
from automl.data import Variant, build_cache, pixels
pixels._SYNC_EVERY = 4
def die(done, total):
    if done == 10:
        os.kill(os.getpid(), signal.SIGKILL)
build_cache(pd.read_parquet({str(table)!r}), Path({str(folder)!r}), [Variant(8, "bilinear", "squash")],
            background=(255, 255, 255), max_pixels=10**6, workers=2, progress=die)
"""
    root = Path(__file__).parents[2]
    killed = subprocess.run([sys.executable, "-c", script], cwd=root, check=False)
    assert killed.returncode == -signal.SIGKILL
    seen = build(dataset, folder, SMALL)
    assert seen[0] == (9, 24)
    assert sorted(decoded) == sorted(dataset.table["path"][8:])
    pixels = open_cache(dataset.table, folder, SMALL, background=WHITE)
    np.testing.assert_array_equal(pixels, expected(dataset, SMALL))
    assert [path.suffix for path in folder.iterdir() if path.name != ".lock"] == [".npy"]


@pytest.mark.parametrize("damage", [b"", b"short", b"\0" * 5000])
def test_a_part_of_another_kind_is_started_again(dataset: Dataset, tmp_path: Path, damage: bytes) -> None:
    path = cache_path(dataset.table, tmp_path, SMALL, background=WHITE)
    path.with_name(path.name + ".part").write_bytes(damage)
    path.with_suffix(".progress").write_text("20")
    assert build(dataset, tmp_path, SMALL)[0] == (1, 24)
    np.testing.assert_array_equal(
        open_cache(dataset.table, tmp_path, SMALL, background=WHITE), expected(dataset, SMALL)
    )


def test_two_builders_decode_once(dataset: Dataset, tmp_path: Path, decoded: list[str]) -> None:
    threads = [threading.Thread(target=build, args=(dataset, tmp_path / "pixels", SMALL)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(decoded) == sorted(dataset.table["path"])
    np.testing.assert_array_equal(
        open_cache(dataset.table, tmp_path / "pixels", SMALL, background=WHITE), expected(dataset, SMALL)
    )


def test_an_image_that_changed_or_went_since_the_audit_is_an_error(dataset: Dataset, tmp_path: Path) -> None:
    save(picture(500), Path(dataset.table["path"][3]))
    with pytest.raises(DataError, match="no longer what the audit saw: the file has changed"):
        build(dataset, tmp_path / "pixels", SMALL)
    os.unlink(dataset.table["path"][3])
    with pytest.raises(DataError, match="file not found"):
        build(dataset, tmp_path / "pixels", SMALL)


@pytest.mark.parametrize("call", ["posix_fallocate", "pwrite", "fsync"])
def test_a_full_disk_names_the_file_and_the_bytes(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    wanted = 24 * 8 * 8 * 3 + 128  # with NumPy's header
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(OutputError, match=rf"\.npy \({wanted} bytes wanted\): No space left") as caught:
            build(dataset, tmp_path / "pixels", SMALL)
    assert "\n" not in str(caught.value)
    build(dataset, tmp_path / "pixels", SMALL)
    np.testing.assert_array_equal(
        open_cache(dataset.table, tmp_path / "pixels", SMALL, background=WHITE), expected(dataset, SMALL)
    )


def test_a_file_system_without_reservation_still_works(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    build(dataset, tmp_path / "pixels", SMALL)
    np.testing.assert_array_equal(
        open_cache(dataset.table, tmp_path / "pixels", SMALL, background=WHITE), expected(dataset, SMALL)
    )


def test_a_folder_that_cannot_be_made_is_an_error(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write to"):
        build(dataset, tmp_path / "file" / "pixels", SMALL)


def test_a_foreign_file_under_the_name_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    path = cache_path(dataset.table, tmp_path, SMALL, background=WHITE)
    np.save(path, np.zeros((2, 2)))
    with pytest.raises(DataError, match="is not the pixel cache"):
        open_cache(dataset.table, tmp_path, SMALL, background=WHITE)
    path.write_bytes(b"nonsense")
    with pytest.raises(DataError, match="no pixel cache"):
        open_cache(dataset.table, tmp_path, SMALL, background=WHITE)


def test_transparent_parts_have_the_background(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "data", {"cat": 3, "dog": 3})
    image = picture(50).convert("RGBA")
    image.putalpha(0)
    path = save(image, folder / "cat" / "clear.png")
    blue = (0, 0, 255)
    dataset = prepare(folder, seed=0, validation_fraction=0.3, test_fraction=0.3, background=blue)
    build_cache(dataset.table, tmp_path / "pixels", [SMALL], background=blue, max_pixels=LIMIT)
    row = int(np.flatnonzero(dataset.table["path"] == str(path))[0])
    pixels = open_cache(dataset.table, tmp_path / "pixels", SMALL, background=blue)
    assert (pixels[row] == blue).all()


def test_a_table_of_no_images_is_an_empty_cache(tmp_path: Path, dataset: Dataset) -> None:
    empty = dataset.table[:0]
    build_cache(empty, tmp_path, [SMALL], background=WHITE, max_pixels=LIMIT)
    assert open_cache(empty, tmp_path, SMALL, background=WHITE).shape == (0, 8, 8, 3)


def test_a_file_that_lost_its_end_is_built_again(dataset: Dataset, tmp_path: Path) -> None:
    build(dataset, tmp_path, SMALL)
    path = cache_path(dataset.table, tmp_path, SMALL, background=WHITE)
    path.write_bytes(path.read_bytes()[:-1000])
    build(dataset, tmp_path, SMALL)
    pixels = open_cache(dataset.table, tmp_path, SMALL, background=WHITE)
    np.testing.assert_array_equal(pixels, expected(dataset, SMALL))

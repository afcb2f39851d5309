"""What resuming notices of the images it began with."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from automl.data import Dataset, changes, prepare
from tests.small import coloured


@pytest.fixture
def images(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    coloured(root, 12)
    first = sorted((root / "red").iterdir())[0]
    shutil.copy(first, root / "red" / "copy.png")
    (root / "red" / "torn.png").write_bytes(b"nothing")
    return root


def prepared(images: Path) -> tuple[Dataset, float]:
    for path in images.rglob("*.png"):
        os.utime(path, (1.0, 1.0))
    dataset = prepare(images, seed=0, validation_fraction=0.2, test_fraction=0.2, background=(0, 0, 0))
    time.sleep(0.05)  # files have the time of the kernel's last tick
    return dataset, time.time()


def test_nothing_has_changed(images: Path) -> None:
    dataset, since = prepared(images)
    assert changes(images, dataset, since=since) == []
    for path in images.rglob("*.png"):
        path.touch()
    assert changes(images, dataset, since=since) == []


def test_images_come_go_and_change(images: Path) -> None:
    dataset, since = prepared(images)
    usable = sorted(dataset.table["path"])
    Path(usable[0]).unlink()
    Path(usable[1]).write_bytes(Path(usable[2]).read_bytes())
    shutil.copy(usable[3], images / "red" / "new.png")
    found = changes(images, dataset, since=since)
    assert found == [
        f"1 image is gone ({usable[0]})",
        f"1 image is added ({images / 'red' / 'new.png'})",
        f"1 image is changed ({usable[1]})",
    ]


def test_many_are_counted_and_some_named(images: Path) -> None:
    dataset, since = prepared(images)
    for path in sorted(dataset.table["path"])[:5]:
        Path(path).unlink()
    (found,) = changes(images, dataset, since=since)
    assert found.startswith("5 images are gone (")
    assert found.endswith(" and 2 more)")


def test_other_labels_of_a_table(images: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    rows = [f"{path},{path.parent.name}" for path in sorted(images.rglob("*.png")) if path.name != "torn.png"]
    table.write_text("path,label\n" + "\n".join(rows) + "\n")
    dataset = prepare(table, seed=0, validation_fraction=0.2, test_fraction=0.2, background=(0, 0, 0))
    assert changes(table, dataset, since=time.time()) == []
    last = rows[-1].split(",")[0]
    table.write_text("path,label\n" + "\n".join([*rows[:-1], f"{last},other"]) + "\n")
    assert changes(table, dataset, since=time.time()) == [f"1 image is of another label ({last})"]


def test_images_that_are_no_longer_there_at_all_cannot_be_compared(images: Path) -> None:
    dataset, since = prepared(images)
    shutil.rmtree(images)
    assert changes(images, dataset, since=since) == []

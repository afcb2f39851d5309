"""Studies and pages that the tests of the ranking read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from automl.paths import StudyFolder
from automl.ranking import report
from automl.ranking.embedding_map import Embedding
from tests.ranking.html import Page
from tests.ranking.study import BACKBONES, HOSTILE, Synthetic, train_again, write_study
from tests.ranking.test_lessons import FOUND

LABELS = (*HOSTILE, " of two words ", "x" * 70, "Ärmel", "7", *(f"class {i}" for i in range(8, 20)))


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., Synthetic]:
    """Return `write_study` below a fresh folder, with the study itself in memory, which is quicker."""

    def make(name: str = "textile", **options: Any) -> Synthetic:
        return write_study(tmp_path / "runs" / name, on_disk=False, **options)

    return make


@pytest.fixture(scope="session")
def textile(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    """The finished study of 15 trials; tests only read it."""
    return write_study(tmp_path_factory.mktemp("runs") / "textile")


def picture(row: int) -> Image.Image:
    """A picture of every second image."""
    if row % 2:
        raise OSError("gone")
    return Image.new("RGBA", (500, 300), (row % 255, 0, 0, 255))


def features(folder: StudyFolder) -> Embedding:
    """Features of the training and validation images in which the classes lie apart, but for five odd images."""
    table = pd.read_parquet(folder.manifest)
    rows = np.flatnonzero(table["split"] != "test")
    classes = table["target"].to_numpy()[rows]
    count = classes.max() + 1
    classes[::150] = (classes[::150] + 1) % count
    rng = np.random.default_rng(5)
    vectors = 2 * rng.normal(size=(count, 64))[classes] + rng.normal(size=(len(rows), 64))
    return Embedding(BACKBONES[0], 224, vectors.astype(np.float32), rows)


def pixels(folder: StudyFolder) -> np.ndarray:
    """Noise of 40 px for every image; of some, another one has the same, brighter and with a little noise of its own:
    three within the training split, and one in training and validation under two labels."""
    table = pd.read_parquet(folder.manifest)
    rng = np.random.default_rng(6)
    found = rng.integers(0, 200, (len(table), 40, 40, 3)).astype(np.uint8)
    train, validation = (np.flatnonzero(table["split"] == name) for name in ("train", "validation"))
    other = next(row for row in train[::-1] if table["target"][row] != table["target"][validation[0]])
    for one, two in (*zip(train[:6:2], train[1:6:2], strict=True), (validation[0], other)):
        found[two] = np.clip(1.05 * found[one] + rng.integers(-2, 3, (40, 40, 3)), 0, 255)
    return found


@pytest.fixture(scope="session")
def written(textile: Synthetic, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the finished study, with everything that a report can have; its other files lie beside it."""
    return report.write(
        textile.folder,
        tmp_path_factory.mktemp("reports"),
        study=textile.study,
        contact_sheets={"rand & <b>": Image.new("RGB", (3000, 100))},
        load_thumbnail=picture,
        load_embedding=lambda trial: features(textile.folder),
        load_pixels=lambda: pixels(textile.folder),
    )


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a study of 20 classes, whose best were trained again, and that knew of earlier ones."""
    made = write_study(tmp_path_factory.mktemp("runs") / "large", trials=75, labels=LABELS, groups=True)
    done = sorted((each for each in made.study.trials if each.value is not None), key=lambda each: -each.value)
    train_again(made, [each.number for each in done[:4]])
    made.study.set_user_attr("warm_start", FOUND.to_dict())
    (made.folder.model / "metrics.json").unlink()
    return report.write(
        made.folder,
        tmp_path_factory.mktemp("reports"),
        study=made.study,
        load_thumbnail=picture,
        load_embedding=lambda trial: features(made.folder),
    )


@pytest.fixture(scope="session")
def page(written: Path) -> Page:
    return Page(written.read_text("utf-8"))

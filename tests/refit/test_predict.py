from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from automl.errors import DataError, UsageError
from automl.refit import Prediction, find_images, format_predictions, predict
from automl.search.trial import load_dataset
from tests.images import picture, save
from tests.refit.conftest import Refitted

PREDICTIONS = [
    Prediction("a,b.png", "red", 0.75, (0.25, 0.75)),
    Prediction("torn.png", None, None, (), "cut short"),
]


def test_images_come_from_files_folders_and_tables_in_order(tmp_path: Path) -> None:
    for name in ("b/2.PNG", "b/1.jpg", "b/below/3.png", "a.png"):
        save(picture(0), tmp_path / name)
    (tmp_path / "b" / "notes.txt").write_text("no image")
    pd.DataFrame({"path": ["a.png", str(tmp_path / "b" / "1.jpg")], "label": ["x", "y"]}).to_csv(
        tmp_path / "table.csv", index=False
    )
    found = find_images([tmp_path / "b", tmp_path / "table.csv", tmp_path / "a.png"])
    names = [str(path.relative_to(tmp_path)) for path in found]
    assert names == ["b/1.jpg", "b/2.PNG", "b/below/3.png", "a.png", "b/1.jpg", "a.png"]


@pytest.mark.parametrize("style", ["tsv", "parquet"])
def test_tables_of_other_kinds(tmp_path: Path, style: str) -> None:
    table = pd.DataFrame({"path": ["1.png", "nan", "007.png"]})
    path = tmp_path / f"table.{style}"
    table.to_csv(path, sep="\t", index=False) if style == "tsv" else table.to_parquet(path)
    assert [each.name for each in find_images([path])] == ["1.png", "nan", "007.png"]


def test_no_images_and_no_path_column_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images in"):
        find_images([tmp_path])
    (tmp_path / "table.csv").write_text("file,label\n1.png,x\n")
    with pytest.raises(DataError, match="no column named path: found file, label"):
        find_images([tmp_path / "table.csv"])
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="cannot read table") as error:
        find_images([tmp_path / "torn.parquet"])
    assert len(str(error.value).splitlines()) == 1


def test_unreadable_images_are_rows_with_the_reason(refitted: Refitted, tmp_path: Path) -> None:
    good = save(picture(1), tmp_path / "good.png")
    torn = tmp_path / "torn.png"
    torn.write_bytes(good.read_bytes()[:60])
    seen: list[tuple[int, int]] = []
    paths = [torn, good, tmp_path / "missing.png"]
    predictions, package = predict(refitted.folder.model, paths, progress=lambda *counts: seen.append(counts))
    assert [each.path for each in predictions] == [str(path) for path in paths]
    assert [each.label is None for each in predictions] == [True, False, True]
    assert all(predictions[index].error for index in (0, 2))
    assert predictions[1].label in package.labels
    assert sum(predictions[1].probabilities) == pytest.approx(1)
    assert predictions[1].probability == max(predictions[1].probabilities)
    assert seen[-1] == (3, 3)


def test_more_images_than_a_batch_stay_in_order(refitted: Refitted) -> None:
    table = load_dataset(refitted.folder).table
    paths = [Path(path) for path in table["path"]] * 2  # 120 of 64 a batch
    together, _ = predict(refitted.folder.model, paths)
    assert [each.path for each in together] == [str(path) for path in paths]
    alone, _ = predict(refitted.folder.model, paths[70:71])
    assert together[70].label == alone[0].label
    assert together[70].probabilities == pytest.approx(alone[0].probabilities, abs=0.01)


def test_what_is_in_an_image_counts_and_not_how_it_is_stored(refitted: Refitted, tmp_path: Path) -> None:
    path = Path(load_dataset(refitted.folder).table["path"].iloc[0])
    image = Image.open(path)
    turned = image.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown rotated by 270 degrees, which undoes the above
    turned.save(tmp_path / "turned.png", exif=exif)
    opaque = image.convert("RGBA")
    opaque.save(tmp_path / "opaque.png")
    predictions, _ = predict(refitted.folder.model, [path, tmp_path / "turned.png", tmp_path / "opaque.png"])
    expected = predictions[0].probabilities
    assert predictions[1].probabilities == pytest.approx(expected, abs=1e-4)
    assert predictions[2].probabilities == pytest.approx(expected, abs=1e-4)


def test_formats() -> None:
    labels = ["blue", "red"]
    rows = json.loads(format_predictions(PREDICTIONS, labels, "json"))
    assert rows == [
        {"path": "a,b.png", "label": "red", "probability": 0.75, "probabilities": {"blue": 0.25, "red": 0.75}},
        {"path": "torn.png", "label": None, "probability": None, "probabilities": {}, "error": "cut short"},
    ]
    table = list(csv.DictReader(io.StringIO(format_predictions(PREDICTIONS, labels, "csv"))))
    assert table == [
        {"path": "a,b.png", "label": "red", "probability": "0.75", "p(blue)": "0.25", "p(red)": "0.75", "error": ""},
        {"path": "torn.png", "label": "", "probability": "", "p(blue)": "", "p(red)": "", "error": "cut short"},
    ]
    lines = format_predictions(PREDICTIONS, labels, "table").splitlines()
    assert lines[0].split() == ["a,b.png", "red", "0.750"]
    assert lines[1].split()[1:] == ["unreadable:", "cut", "short"]
    with pytest.raises(UsageError, match="expected table, json or csv"):
        format_predictions(PREDICTIONS, labels, "xml")


def test_hostile_labels_and_paths_run_nothing_and_break_no_line() -> None:
    hostile = [Prediction("-a\nb.png", "=cmd()", 0.75, (0.25, 0.75))]
    (row,) = csv.DictReader(io.StringIO(format_predictions(hostile, ["-b", "=cmd()"], "csv")))
    assert (row["path"], row["label"]) == ("'-a\nb.png", "'=cmd()")
    assert format_predictions(hostile, ["-b", "=cmd()"], "table").split() == ["-a\\nb.png", "=cmd()", "0.750"]


def test_predictions_do_not_depend_on_order(refitted: Refitted) -> None:
    paths = [Path(path) for path in load_dataset(refitted.folder).table["path"][:5]]
    forward, _ = predict(refitted.folder.model, paths)
    backward, _ = predict(refitted.folder.model, paths[::-1])
    np.testing.assert_allclose(
        [each.probabilities for each in forward], [each.probabilities for each in backward[::-1]], atol=1e-6
    )

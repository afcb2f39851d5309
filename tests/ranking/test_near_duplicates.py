from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance
from sklearn.datasets import load_digits, load_sample_images

from automl.ranking import near_duplicates, report
from automl.ranking.near_duplicates import NearDuplicates, find_near_duplicates
from automl.ranking.report import _near_duplicates
from tests.ranking.html import Page

SIDE = 64


@pytest.fixture(scope="module")
def crops() -> list[Image.Image]:
    """Crops of two photographs, each from another place, without those of the sky."""
    rng, found = np.random.default_rng(0), []
    for photograph in load_sample_images().images:
        for top in range(0, 360, 60):
            for left in range(0, 560, 80):
                side = int(rng.integers(50, 60))
                crop = photograph[top : top + side, left : left + side]
                if crop.std() > 30:
                    found.append(Image.fromarray(crop))
    return found


def jpeg(picture: Image.Image) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=70)
    return Image.open(file).convert("RGB")


def find(pictures: list[Image.Image], **options: Any) -> NearDuplicates:
    array = np.stack([np.asarray(each.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for each in pictures])
    rows = options.pop("rows", np.arange(len(array)))
    names = [f"/{i}.png" for i in range(len(array))]
    splits = options.pop("splits", ["train"] * len(array))
    labels = options.pop("labels", ["a"] * len(array))
    found = find_near_duplicates(array, rows, names, splits, labels, **options)
    assert found is not None
    return found


def groups(found: NearDuplicates) -> set[tuple[int, ...]]:
    return {tuple(each.row for each in group.images) for group in found.listed}


@pytest.mark.parametrize(
    "change",
    [
        jpeg,
        lambda picture: picture.resize((round(0.9 * picture.width), round(0.9 * picture.height))),
        lambda picture: ImageEnhance.Brightness(picture).enhance(1.05),
        lambda picture: ImageEnhance.Brightness(picture).enhance(0.95),
    ],
    ids=["jpeg", "resized", "brighter", "darker"],
)
def test_changed_copies_are_found_and_nothing_else(crops: list[Image.Image], change: Any) -> None:
    assert find(crops).found == 0
    n = len(crops)
    found = find([*crops, *map(change, crops[:20])])
    assert groups(found) == {(i, n + i) for i in range(20)}
    assert found.images == n + 20
    assert (found.across_splits, found.warning) == (0, None)


def test_images_that_are_all_alike_are_not_copies_of_each_other() -> None:
    """Of 600 digits of 8 px the nearest are at 0.98 and more, and not one is there twice."""
    digits = [
        Image.fromarray((16 * each).clip(0, 255).astype(np.uint8)).convert("RGB") for each in load_digits().images
    ]
    found = find(digits[:600])
    assert found.least > 0.99
    assert found.found == 0


def test_what_is_in_train_and_validation_comes_first_with_a_warning(crops: list[Image.Image]) -> None:
    n = len(crops)
    pictures = [*crops, jpeg(crops[3]), crops[4], jpeg(crops[4]), jpeg(crops[5])]
    splits = ["train"] * n + ["train", "validation", "train", "validation"]
    labels = ["a"] * (n + 3) + ["b"]
    found = find(pictures, splits=splits, labels=labels)
    assert groups(found) == {(3, n), (4, n + 1, n + 2), (5, n + 3)}
    assert [each.across_splits for each in found.listed] == [True, True, False]
    assert {each.images[0].row for each in found.listed if each.labels_differ} == {5}
    assert found.across_splits == 2
    assert found.warning is not None
    assert found.warning.startswith("2 pictures are in more than one split as near-duplicates: validation scores are")
    for group in found.listed:
        assert found.least <= group.correlation <= 1 + 1e-6
        for each in group.images:
            assert (each.split, each.label) == (splits[each.row], labels[each.row])


@pytest.mark.parametrize(
    ("of_copies", "scores"),
    [
        (("validation",), "validation scores"),
        (("test",), "test scores"),
        (("validation", "test"), "validation and test scores"),
    ],
)
def test_the_warning_says_which_scores_are_too_good(
    crops: list[Image.Image], of_copies: tuple[str, ...], scores: str
) -> None:
    splits = ["train"] * len(crops) + list(of_copies)
    found = find([*crops, *(jpeg(crops[i]) for i in range(len(of_copies)))], splits=splits)
    assert found.across_splits == len(of_copies)
    assert f": {scores} are better" in str(found.warning)


def test_exact_copies_that_are_known_are_not_listed_again(crops: list[Image.Image]) -> None:
    n = len(crops)
    pictures = [*crops, crops[0], crops[1], jpeg(crops[1])]
    known = [["/0.png", f"/{n}.png"], ["/1.png", f"/{n + 1}.png"]]
    found = find(pictures, copies=known)
    assert groups(found) == {(1, n + 2)}  # of the copies of number 1, one stands for both
    assert len(groups(find(pictures))) == 2


def test_only_the_rows_asked_for_are_looked_at(crops: list[Image.Image]) -> None:
    rows = np.arange(1, len(crops) + 1)
    found = find([*crops, jpeg(crops[0]), jpeg(crops[1])], rows=rows)
    assert (groups(found), found.images) == (set(), len(crops))


def test_of_many_images_a_sample_is_looked_at(crops: list[Image.Image], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "MOST_IMAGES", 50)
    found = find([*crops, *map(jpeg, crops)], seed=1)
    assert found.images == 50
    assert "a random sample" in found.note
    assert found == find([*crops, *map(jpeg, crops)], seed=1)


def test_pictures_of_one_colour_are_not_copies_of_each_other(crops: list[Image.Image]) -> None:
    plain = [Image.new("RGB", (SIDE, SIDE), (level, level, level)) for level in (0, 80, 80, 200)]
    assert find([*crops, *plain]).found == 0


def test_too_few_images_are_not_judged(crops: list[Image.Image]) -> None:
    array = np.stack([np.asarray(each.resize((SIDE, SIDE))) for each in crops[:39]])
    assert find_near_duplicates(array, np.arange(39), ["p"] * 39, ["train"] * 39, ["a"] * 39) is None


def test_the_report_lists_those_that_were_made(written: Path, page: Page, textile: Any) -> None:
    found = json.loads((written.parent / "leaderboard.json").read_text("utf-8"))["near_duplicates"]
    splits = pd.read_parquet(textile.folder.manifest)["split"]
    train, validation = (np.flatnonzero(splits == name).tolist() for name in ("train", "validation"))
    assert (found["found"], found["across_splits"]) == (4, 1)
    first, *rest = ([each["row"] for each in group["images"]] for group in found["listed"])
    assert validation[0] in first
    assert found["listed"][0]["labels_differ"]
    assert sorted(rest) == [train[i : i + 2] for i in (0, 2, 4)]
    assert "1 picture is in more than one split as near-duplicates: validation scores are better" in page.text
    for group in found["listed"]:
        for each in group["images"]:
            assert splits[each["row"]] == each["split"]
            assert each["path"].rpartition("/")[2] in page.text


def test_the_copy_that_was_kept_is_looked_at(make_study: Callable[..., Any], tmp_path: Path) -> None:
    """Of an exact copy in two splits one file was left out; the other may have near-duplicates."""
    made = make_study(trials=1)
    kept = str(pd.read_parquet(made.folder.manifest)["path"][0])
    copies = [{"path": "/0.png", "split": "train", "kept": False}, {"path": kept, "split": "test", "kept": True}]
    made.folder.audit.write_text(
        json.dumps({"duplicates": [{"label": "a", "across_splits": True, "copies": copies}]}), "utf-8"
    )
    rows = pd.read_parquet(made.folder.manifest)
    pixels = np.random.default_rng(0).integers(0, 200, (len(rows), 40, 40, 3)).astype(np.uint8)
    found = _near_duplicates(made.folder, pixels, json.loads(made.folder.audit.read_text("utf-8")))
    assert found is not None
    assert found.images == len(rows)


def test_without_the_pixels_the_report_says_that_nobody_looked(textile: Any, tmp_path: Path) -> None:
    path = report.write(textile.folder, tmp_path, study=textile.study, load_pixels=lambda: None)
    assert "Not looked for: the decoded images are not kept" in Page(path.read_text("utf-8")).text
    assert "near_duplicates" not in json.loads((path.parent / "leaderboard.json").read_text("utf-8"))

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from automl.data import Audit, Dataset, prepare
from automl.errors import DataError
from tests.images import WHITE, class_folders, picture, save


def ready(source: Path, *, seed: int = 0, progress: Callable[[int, int], None] | None = None) -> Dataset:
    return prepare(
        source, seed=seed, validation_fraction=0.2, test_fraction=0.2, background=WHITE, workers=2, progress=progress
    )


def reasons(dataset: Dataset) -> dict[str, str]:
    return {Path(one["path"]).name: one["reason"] for one in dataset.audit.quarantined}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return class_folders(tmp_path / "data", {"cat": 10, "dog": 20})


def test_the_table_is_in_canonical_order_with_the_columns_promised(folder: Path) -> None:
    dataset = ready(folder)
    assert list(dataset.table.columns) == ["path", "sha256", "label", "target", "split", "group"]
    assert dataset.table["sha256"].is_monotonic_increasing
    assert dataset.table["target"].dtype == np.int64
    assert [dataset.classes[target] for target in dataset.table["target"]] == dataset.table["label"].tolist()
    assert dataset.audit.counts == {
        "cat": {"train": 6, "validation": 2, "test": 2},
        "dog": {"train": 12, "validation": 4, "test": 4},
    }
    rows = [dataset.rows(split) for split in ("train", "validation", "test")]
    assert sorted(np.concatenate(rows)) == list(range(30))


def test_a_folder_and_a_shuffled_table_of_copies_are_one_dataset(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    lines = []
    for number, path in enumerate(sorted(folder.rglob("*.png"), reverse=True)):
        shutil.copy(path, moved / f"{number}.bin")
        lines.append(f"moved/{number}.bin,{path.parent.name}")
    (tmp_path / "images.csv").write_text("label_source,path,label\n" + "".join(f"x,{line}\n" for line in lines))
    one, other = ready(folder, seed=3), ready(tmp_path / "images.csv", seed=3)
    columns = ["sha256", "label", "target", "split", "group"]
    pd.testing.assert_frame_equal(one.table[columns], other.table[columns])
    assert one.fingerprint == other.fingerprint
    assert one.fingerprint != ready(folder, seed=4).fingerprint


def test_a_dataset_is_saved_and_loaded_whole(folder: Path, tmp_path: Path) -> None:
    save(picture(0), folder / "cat" / "copy.png")
    dataset = ready(folder)
    dataset.save(tmp_path / "manifest.parquet", tmp_path / "audit.json")
    loaded = Dataset.load(tmp_path / "manifest.parquet", tmp_path / "audit.json")
    pd.testing.assert_frame_equal(loaded.table, dataset.table)
    assert (loaded.classes, loaded.audit, loaded.fingerprint) == (dataset.classes, dataset.audit, dataset.fingerprint)
    assert Audit.from_json(dataset.audit.to_json()) == dataset.audit


def test_what_is_not_a_saved_dataset_is_refused(folder: Path, tmp_path: Path) -> None:
    ready(folder).save(tmp_path / "manifest.parquet", tmp_path / "audit.json")
    with pytest.raises(DataError, match="run the audit again"):
        Dataset.load(tmp_path / "absent.parquet", tmp_path / "audit.json")
    (tmp_path / "audit.json").write_text("{}")
    with pytest.raises(DataError, match="run the audit again"):
        Dataset.load(tmp_path / "manifest.parquet", tmp_path / "audit.json")
    pd.DataFrame({"path": ["a"]}).to_parquet(tmp_path / "manifest.parquet")
    with pytest.raises(DataError, match="cannot read dataset"):
        Dataset.load(tmp_path / "manifest.parquet", tmp_path / "audit.json")


def test_unreadable_files_are_quarantined_with_their_reasons(folder: Path) -> None:
    (folder / "cat" / "broken.jpg").write_bytes(b"\xff\xd8\xff not a jpeg")
    (folder / "cat" / "empty.png").touch()
    (folder / "dog" / "gone.png").symlink_to(folder / "nowhere.png")
    dataset = ready(folder)
    found = reasons(dataset)
    assert set(found) == {"broken.jpg", "empty.png", "gone.png"}
    assert found["empty.png"] == "empty file"
    assert found["gone.png"] == "file not found"
    assert len(dataset.table) == dataset.audit.images == 30
    assert dataset.audit.warnings == ["3 images cannot be used and were quarantined"]


def test_every_file_is_accounted_for(folder: Path) -> None:
    (folder / "cat" / "notes.txt").touch()
    (folder / "cat" / "bad.png").write_bytes(b"bad")
    save(picture(0), folder / "dog" / "conflict.png")
    save(picture(11), folder / "dog" / "copy.png")
    save(picture(99), folder / "loose.png")
    audit = ready(folder).audit
    files = sum(path.is_file() for path in folder.rglob("*"))
    assert audit.images + len(audit.quarantined) + audit.removed_duplicates + sum(audit.skipped.values()) == files
    assert audit.images == sum(sum(by_split.values()) for by_split in audit.counts.values())


def test_copies_of_the_same_bytes_or_pixels_end_on_one_side(folder: Path) -> None:
    original = folder / "dog" / "0.png"
    shutil.copy(original, folder / "dog" / "same_bytes.png")
    save(Image.open(original), folder / "dog" / "same_pixels.bmp")
    for seed in range(8):
        dataset = ready(folder, seed=seed)
        copies = dataset.table[dataset.table["path"].str.contains(r"/dog/(?:0|same_bytes|same_pixels)\.\w+$")]
        assert len(copies) == 3
        assert copies["split"].nunique() == 1
    (group,) = dataset.audit.duplicates
    assert (group["label"], group["across_splits"], len(group["copies"])) == ("dog", False, 3)
    assert any(line.startswith("2 images are exact copies") for line in dataset.audit.warnings)


def test_groups_and_copies_are_units(folder: Path) -> None:
    every = np.arange(len(ready(folder).table))
    assert ready(folder).units(every) is None
    shutil.copy(folder / "dog" / "0.png", folder / "dog" / "copy.png")
    dataset = ready(folder)
    every, paths = np.arange(len(dataset.table)), dataset.table["path"].map(lambda path: Path(path).name)
    one, other = (int(paths.index[paths == name][-1]) for name in ("copy.png", "1.png"))
    units = dataset.units(every)
    assert units is not None
    assert len(set(units)) == len(every) - 1
    assert dataset.units(np.array([one, other])) is None
    grouped = replace(dataset, table=dataset.table.assign(group=["g" if row in (one, other) else "" for row in every]))
    units = grouped.units(every)
    assert units is not None
    assert len(set(units)) == len(every) - 2  # the copy, what it is a copy of, and the other one of its group


def test_the_same_picture_under_two_labels_is_quarantined_altogether(folder: Path) -> None:
    shutil.copy(folder / "cat" / "0.png", folder / "dog" / "not_a_dog.png")
    dataset = ready(folder)
    reason = 'the same picture under the labels "cat", "dog"'
    assert reasons(dataset) == {"0.png": reason, "not_a_dog.png": reason}
    assert str(folder / "cat" / "0.png") not in set(dataset.table["path"])
    assert str(folder / "dog" / "0.png") in set(dataset.table["path"])


def test_copies_across_given_splits_stay_only_in_test_then_validation(tmp_path: Path) -> None:
    class_folders(tmp_path, {f"{split}/{label}": 4 for split in ("train", "val", "test") for label in ("a", "b")})
    everywhere, lower = picture(100), picture(101)
    for split in ("train", "val", "test"):
        save(everywhere, tmp_path / split / "a" / "everywhere.png")
    for split in ("train", "val"):
        save(lower, tmp_path / split / "b" / "lower.png")
    dataset = ready(tmp_path)
    kept = dict(zip(dataset.table["path"], dataset.table["split"], strict=True))
    assert {path: split for path, split in kept.items() if "everywhere" in path or "lower" in path} == {
        str(tmp_path / "test/a/everywhere.png"): "test",
        str(tmp_path / "val/b/lower.png"): "validation",
    }
    assert dataset.audit.removed_duplicates == 3
    assert all(group["across_splits"] for group in dataset.audit.duplicates)
    assert dataset.audit.warnings == [
        "3 copies of images in another split were left out (the copy in test stays, then validation)"
    ]
    assert dataset.audit.splits == {"train": "given", "validation": "given", "test": "given"}


def test_a_table_that_lists_one_file_in_two_splits_does_not_leak(folder: Path, tmp_path: Path) -> None:
    lines = [f"{path},{path.parent.name},train" for path in sorted(folder.rglob("*.png"))]
    lines += [f"{folder}/cat/0.png,cat,test", f"{folder}/dog/0.png,dog,test"]
    (tmp_path / "m.csv").write_text("path,label,split\n" + "\n".join(lines))
    dataset = ready(tmp_path / "m.csv")
    assert not dataset.table["path"].duplicated().any()
    assert dataset.audit.removed_duplicates == 2
    assert (dataset.table["split"] == "test").sum() == 2


def test_a_group_across_given_splits_is_warned_about(folder: Path, tmp_path: Path) -> None:
    paths = sorted(folder.rglob("*.png"))
    splits = ["train", "validation", "test"] * 10
    lines = [
        f"{path},{path.parent.name},{split},{'shared' if number < 3 else number}"
        for number, (path, split) in enumerate(zip(paths, splits, strict=True))
    ]
    (tmp_path / "m.csv").write_text("path,label,split,group\n" + "\n".join(lines))
    assert any("1 groups" in line and "'shared'" in line for line in ready(tmp_path / "m.csv").audit.warnings)


def test_what_was_seen_is_summarised(folder: Path) -> None:
    save(picture(70, (50, 7)), folder / "cat" / "wide.png")
    save(Image.fromarray(np.full((4, 4), 0.5, dtype=np.float32)), folder / "cat" / "float.tif")
    frames = [picture(80), picture(81)]
    frames[0].save(folder / "dog" / "moving.gif", save_all=True, append_images=frames[1:])
    audit = ready(folder).audit
    assert audit.sizes == {"width": [4, 12, 50], "height": [4, 10, 10]}
    assert audit.modes["RGB"] >= 31
    assert audit.modes["F"] == 1
    assert audit.formats["TIFF"] == audit.formats["GIF"] == 1
    assert any("32-bit grey" in line for line in audit.warnings)
    assert any("only the first is used" in line for line in audit.warnings)


def test_progress_counts_every_image_once(folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    ready(folder, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 30) for done in range(1, 31)]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({}, "no images in"),
        ({"cat": 9}, r'only one class \("cat"\)'),
        ({"cat": 9, "dog": 1, "eel": 2}, '"dog" has 1, "eel" has 2; each class needs at least 3'),
    ],
)
def test_a_dataset_that_cannot_be_used_says_why(tmp_path: Path, counts: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        ready(class_folders(tmp_path, counts))
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)


def test_a_table_whose_files_are_all_missing_says_where_paths_start(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,label\na.png,cat\nb.png,dog\n")
    with pytest.raises(DataError, match=r"none of the 2 images .*a\.png: file not found; relative paths start at"):
        ready(tmp_path / "m.csv")


def test_a_folder_of_images_without_class_folders_says_so(tmp_path: Path) -> None:
    save(picture(1), tmp_path / "data" / "a.png")
    with pytest.raises(DataError, match=r"none of the 1 images .*a\.png: not inside a class folder$"):
        ready(tmp_path / "data")


def test_a_dataset_of_nothing_but_conflicts_is_an_error(tmp_path: Path) -> None:
    class_folders(tmp_path, {"cat": 4})
    shutil.copytree(tmp_path / "cat", tmp_path / "dog")
    with pytest.raises(DataError, match=r'none of the 8 images .* under the labels "cat", "dog"'):
        ready(tmp_path)


def test_messages_stay_on_one_line_whatever_the_names_are(tmp_path: Path) -> None:
    class_folders(tmp_path / "da\nta", {"c\nat": 4, "d\r;'og": 1})
    with pytest.raises(DataError, match=r"\\r;'og\" has 1") as caught:
        ready(tmp_path / "da\nta")
    assert len(str(caught.value).splitlines()) == 1


def test_an_unknown_split_is_an_error(folder: Path) -> None:
    with pytest.raises(ValueError, match='unknown split "val"'):
        ready(folder).rows("val")


def test_a_given_split_of_which_nothing_can_be_read_is_not_drawn_anew(folder: Path, tmp_path: Path) -> None:
    paths = sorted(folder.glob("*/*.png"))
    rows = [f"{path},{path.parent.name},train" for path in paths] + [f"{tmp_path}/gone.png,{paths[0].parent.name},test"]
    (tmp_path / "table.csv").write_text("\n".join(["path,label,split", *rows]))
    with pytest.raises(DataError, match=r"no image of the given test split is left; first: .*gone.png: file not found"):
        ready(tmp_path / "table.csv")

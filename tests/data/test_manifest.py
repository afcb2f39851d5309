from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from automl.data.manifest import read_manifest, walk
from automl.errors import DataError
from tests.images import class_folders, picture, save


def listed(source: Path) -> set[tuple[str, str, str]]:
    """Return (path below the source, label, split) of every row."""
    rows = read_manifest(source).rows
    return {(os.path.relpath(row.path, source), row.label, row.split) for row in rows.itertuples()}


def table(tmp_path: Path, text: str, name: str = "images.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_class_folders_are_searched_at_any_depth(tmp_path: Path) -> None:
    class_folders(tmp_path, {"cat": 1, "cat/indoors/sofa": 1, "dog": 1})
    assert listed(tmp_path) == {
        ("cat/0.png", "cat", ""),
        ("cat/indoors/sofa/0.png", "cat", ""),
        ("dog/0.png", "dog", ""),
    }
    assert read_manifest(tmp_path).layout == "class folders"


@pytest.mark.parametrize("word", ["val", "valid", "validation", "Val"])
def test_split_folders_by_any_word_for_validation(tmp_path: Path, word: str) -> None:
    class_folders(tmp_path, {"train/cat": 1, f"{word}/cat": 1, "test/cat/more": 1})
    assert listed(tmp_path) == {
        ("train/cat/0.png", "cat", "train"),
        (f"{word}/cat/0.png", "cat", "validation"),
        ("test/cat/more/0.png", "cat", "test"),
    }


def test_a_class_called_train_is_a_class_among_other_classes(tmp_path: Path) -> None:
    class_folders(tmp_path, {"train": 1, "bus": 1, "plane": 1})
    assert {label for _, label, _ in listed(tmp_path)} == {"train", "bus", "plane"}


def test_split_folders_without_train_are_not_taken_for_classes(tmp_path: Path) -> None:
    class_folders(tmp_path, {"val/cat": 1, "test/cat": 1})
    assert {(label, split) for _, label, split in listed(tmp_path)} == {("cat", "validation"), ("cat", "test")}


def test_images_beside_split_folders_are_not_guessed_about(tmp_path: Path) -> None:
    class_folders(tmp_path, {"train/cat": 1, "test/cat": 1, "tset/cat": 1})
    with pytest.raises(DataError, match='"tset" with images: did you mean "test"'):
        read_manifest(tmp_path)


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    class_folders(tmp_path, {"cat": 1, "dog": 1})
    for name in ("cat/notes.txt", "cat/.hidden.png", "readme.md", "cat/a.heic", "dog/LICENSE"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    save(picture(9), tmp_path / "loose.png")
    save(picture(9), tmp_path / ".cache" / "thumb.png")
    found = read_manifest(tmp_path)
    assert len(found.rows) == 2
    assert found.skipped == {".txt": 1, "hidden": 1, ".md": 1, ".heic": 1, "no suffix": 1}
    assert [(os.path.basename(one["path"]), one["reason"]) for one in found.quarantined] == [
        ("loose.png", "not inside a class folder")
    ]
    assert any("1 .heic" in line for line in found.warnings)
    assert any(line.endswith("empty") for line in found.warnings)


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    class_folders(tmp_path / "store", {"somewhere": 1})
    class_folders(tmp_path / "data", {"dog": 1})
    (tmp_path / "data" / "cat").symlink_to(tmp_path / "store" / "somewhere")
    (tmp_path / "data" / "dog" / "again").symlink_to(tmp_path / "data" / "dog")
    assert listed(tmp_path / "data") == {("cat/0.png", "cat", ""), ("dog/0.png", "dog", "")}


def test_a_name_that_is_not_text_is_quarantined(tmp_path: Path) -> None:
    class_folders(tmp_path, {"cat": 1})
    save(picture(5), tmp_path / "cat" / "b.png").rename(os.fsdecode(os.fsencode(tmp_path / "cat") + b"/\xff.png"))
    found = read_manifest(tmp_path)
    assert len(found.rows) == 1
    assert "not valid UTF-8" in found.quarantined[0]["reason"]
    found.quarantined[0]["path"].encode()


def test_weird_folder_names_are_labels(tmp_path: Path) -> None:
    names = ['a "quoted" one', "semi;colon", "new\nline", "NA", "001", " é"]
    class_folders(tmp_path, dict.fromkeys(names, 1))
    assert {label for _, label, _ in listed(tmp_path)} == set(names)


def test_composed_and_decomposed_letters_are_one_label(tmp_path: Path) -> None:
    class_folders(tmp_path, {"train/caf\u00e9": 1, "test/cafe\u0301": 1})
    assert set(read_manifest(tmp_path).rows["label"]) == {"caf\u00e9"}


def test_a_table_keeps_labels_as_they_are_written(tmp_path: Path) -> None:
    source = table(tmp_path, "Path,label,split,group\na.png,001,train,p1\nsub/b.png,NA,val,\n/c.png,null,test,p2\n")
    rows = read_manifest(source).rows
    assert rows.to_dict("list") == {
        "path": [str(tmp_path / "a.png"), str(tmp_path / "sub/b.png"), "/c.png"],
        "label": ["001", "NA", "null"],
        "split": ["train", "validation", "test"],
        "group": ["p1", "", "p2"],
    }


def test_parquet_and_tsv_say_the_same_as_csv(tmp_path: Path) -> None:
    frame = pd.DataFrame({"path": ["a.png", "b.png"], "label": [3, 12], "group": [7, None]})
    frame.to_parquet(tmp_path / "m.parquet")
    expected = read_manifest(table(tmp_path, "path,label,group\na.png,3,7\nb.png,12,\n")).rows
    tsv = read_manifest(table(tmp_path, "path\tlabel\tgroup\na.png\t3\t7\nb.png\t12\t\n", "m.tsv")).rows
    pd.testing.assert_frame_equal(tsv, expected)
    parquet = read_manifest(tmp_path / "m.parquet").rows
    assert parquet[["path", "label"]].equals(expected[["path", "label"]])


def test_a_byte_order_mark_and_unused_columns_do_no_harm(tmp_path: Path) -> None:
    found = read_manifest(table(tmp_path, "\ufeffpath,label,camera\na.png,cat,x\n"))
    assert found.rows["label"].tolist() == ["cat"]
    assert found.warnings == ["manifest columns not used: camera"]


def test_incomplete_rows_are_quarantined_and_repeated_ones_counted(tmp_path: Path) -> None:
    found = read_manifest(table(tmp_path, "path,label\na.png,cat\n,dog\nb.png,\na.png,cat\nc.png\n"))
    assert found.rows["path"].tolist() == [str(tmp_path / "a.png")]
    assert [one["reason"] for one in found.quarantined] == [
        "row 2 has no path",
        "row 3 has no label",
        "row 5 has no label",
    ]
    assert found.warnings == ["1 rows repeat an earlier row and were counted once"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na.png,cat\n", "needs exactly one column each of path and label, has: file, label"),
        ("path,lable\na.png,cat\n", r'label: did you mean "lable"'),
        ("path,label,label \na.png,cat,dog\n", "exactly one column"),
        ("path;label\na.png;cat\n", "has: path;label"),
        ("path,label\na.png,cat,extra\nb.png,dog,extra\n", "more fields than the header"),
        ("path,label\na.png,cat\nb.png,dog,extra\n", "cannot read manifest"),
        ("", "cannot read manifest"),
        ("path,label\n", "no images in"),
        ("path,label,split\na.png,cat,training\nb.png,dog,tets\n", 'unknown split names "tets": did you mean "test"'),
        ("path,label,split\na.png,cat,train\nb.png,dog,\n", r"not of 1 others \(first: row 2\)"),
    ],
)
def test_a_table_that_cannot_be_used_says_why_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_manifest(table(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_source_that_is_nothing_of_the_kind(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        read_manifest(tmp_path / "absent")
    with pytest.raises(DataError, match=r"expected a folder, or a \.csv"):
        read_manifest(save(picture(1), tmp_path / "a.png"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"expected images in class folders$"):
        read_manifest(tmp_path / "empty")
    (tmp_path / "texts" / "cat").mkdir(parents=True)
    (tmp_path / "texts" / "cat" / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"\(1 \.txt skipped\)"):
        read_manifest(tmp_path / "texts")
    with pytest.raises(DataError, match="cannot read manifest"):
        read_manifest(table(tmp_path, "not parquet", "m.parquet"))


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class_folders(tmp_path, {"cat": 1, "dog/inner": 1})
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "inner":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"cannot list folder .*inner: Permission denied"):
        read_manifest(tmp_path)


def test_a_link_to_itself_is_an_unreadable_file_and_not_the_end(tmp_path: Path) -> None:
    for label in ("a", "b"):
        save(picture(0), tmp_path / label / "1.png")
    (tmp_path / "a" / "loop.png").symlink_to("loop.png")
    assert sorted(Path(path).name for path in read_manifest(tmp_path).rows["path"]) == ["1.png", "1.png", "loop.png"]


def test_folders_that_link_to_each_other_are_walked_once(tmp_path: Path) -> None:
    """Following every path through them would take factorial time."""
    names = [f"{number}" for number in range(9)]
    for name in names:
        save(picture(0), tmp_path / "a" / name / "1.png")
    for name in names:
        for other in names:
            if other != name:
                (tmp_path / "a" / name / f"to-{other}").symlink_to(tmp_path / "a" / other)
    assert len(list(walk(tmp_path / "a"))) == 9


def test_a_deep_folder_is_walked(tmp_path: Path) -> None:
    """Deeper than Python's stack, and so also than what pytest could tidy up."""
    inside = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=inside)
        below = os.open("d", os.O_RDONLY, dir_fd=inside)
        os.close(inside)
        inside = below
    os.close(inside)
    try:
        assert list(walk(tmp_path)) == []
    finally:
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)

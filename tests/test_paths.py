from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from automl import paths
from automl.errors import OutputError
from automl.paths import StudyFolder, make_folder, remove_leftovers, write_atomic


@pytest.fixture
def weird(tmp_path: Path) -> Path:
    """A folder whose name has a space, quotes, a newline and a semicolon."""
    folder = tmp_path / "a b\"c'd\ne;f"
    folder.mkdir()
    return folder


def test_content_is_what_was_given(weird: Path) -> None:
    write_atomic(weird / "a.json", "größe\n")
    write_atomic(weird / "b.bin", b"\0\xff")
    assert (weird / "a.json").read_bytes() == "größe\n".encode()
    assert (weird / "b.bin").read_bytes() == b"\0\xff"
    write_atomic(weird / "a.json", "")
    assert (weird / "a.json").read_bytes() == b""
    assert sorted(path.name for path in weird.iterdir()) == ["a.json", "b.bin"]


def fail_with(code: int) -> Any:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_says_what_did_not_fit(
    weird: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = weird / "last.safetensors"
    write_atomic(path, b"old")
    monkeypatch.setattr(paths.os, call, fail_with(errno.ENOSPC))
    with pytest.raises(OutputError) as caught:
        write_atomic(path, b"n" * 1234)
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert [each.name for each in weird.iterdir()] == [path.name], "the part written must not stay"
    message = str(caught.value)
    assert f"cannot write 1234 bytes to {path}: No space left on device" in message


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write 3 bytes to .*missing/a: No such file or directory"):
        write_atomic(tmp_path / "missing" / "a", b"abc")


def test_the_file_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(paths.os, name, lambda *args, n=name, r=real: (order.append(n), r(*args))[1])
    write_atomic(tmp_path / "a", b"1")
    assert order == ["fsync", "replace", "fsync"]


def test_make_folder_creates_parents_and_leaves_nothing_inside(weird: Path) -> None:
    folder = make_folder(weird / "x" / "y")
    assert folder.is_dir()
    assert list(folder.iterdir()) == []
    assert make_folder(folder) == folder


def test_make_folder_where_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write to .*file/x: Not a directory; choose another folder"):
        make_folder(tmp_path / "file" / "x")


def test_make_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths.tempfile, "TemporaryFile", fail_with(errno.EROFS))
    with pytest.raises(OutputError, match="Read-only file system"):
        make_folder(tmp_path / "x")


def names(folder: Any) -> list[Path]:
    kinds = [name for name, value in vars(type(folder)).items() if isinstance(value, property)]
    return [value for name in kinds if isinstance(value := getattr(folder, name), Path)]


def test_every_file_has_a_name_of_its_own_inside_the_folder(tmp_path: Path) -> None:
    study = StudyFolder(tmp_path / "runs" / "night")
    everything = names(study) + names(study.refit) + names(study.trial(7))
    assert len(set(everything)) == len(everything) > 15
    assert all(path.is_relative_to(study.root) for path in everything)
    assert study.trial(7).spec == study.root / "trials" / "0007" / "spec.json"
    assert study.trial(12345).root.name == "12345"


def test_a_study_is_named_after_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "night").mkdir()
    monkeypatch.chdir(tmp_path / "night")
    assert StudyFolder(Path()).name == "night"
    assert StudyFolder(Path()).report(Path("reports")) == Path("reports/night")


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    trial = StudyFolder(tmp_path).trial(3)
    write_atomic(make_folder(trial.root) / trial.checkpoint.name, b"whole")
    half = trial.checkpoint.with_name(f".{trial.checkpoint.name}.4242.tmp")  # as `write_atomic` names it
    half.write_bytes(b"hal")
    remove_leftovers(tmp_path)
    assert [path.name for path in trial.root.iterdir()] == [trial.checkpoint.name]


def test_predictions_of_many_trials_are_where_one_has_them(weird: Path) -> None:
    folder = StudyFolder(weird)
    of = folder.validation_logits()
    assert [Path(of(number)) for number in (0, 7, 12_345)] == [
        folder.trial(number).validation_logits for number in (0, 7, 12_345)
    ]

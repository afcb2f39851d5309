"""The cache of what trials' predictions come to: used, renewed, and never needed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from automl.paths import StudyFolder
from automl.ranking import scored
from automl.ranking.leaderboard import build
from automl.ranking.scored import load_scored


@pytest.fixture(autouse=True)
def _small_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scored, "WORTH_KEEPING", 3)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the trials whose own files were read."""
    numbers: list[int] = []
    load = scored.load_predictions

    def noted(folder: Any, *args: Any) -> Any:
        numbers.append(int(folder.root.name))
        return load(folder, *args)

    monkeypatch.setattr(scored, "load_predictions", noted)
    return numbers


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "log_loss", "auroc"])
def test_a_second_look_reads_no_trial_and_says_the_same(
    make_study: Callable[..., Any], reads: list[int], metric: str
) -> None:
    made = make_study(metric, trials=5, metric=metric)
    first = build(made.folder, study=made.study)
    assert sorted(reads) == [0, 1, 2, 3, 4]
    reads.clear()
    assert build(made.folder, study=made.study).to_json() == first.to_json()
    assert reads == []


def test_a_trial_that_changed_is_read_again(make_study: Callable[..., Any], reads: list[int]) -> None:
    made = make_study(trials=5)
    build(made.folder, study=made.study)
    file = made.folder.trial(3).validation_logits
    np.savez(file, logits=made.logits[2], targets=made.targets, rows=np.flatnonzero(np.arange(900) % 3 == 0), epoch=6)
    os.utime(file, ns=(1, 1))
    made.folder.trial(1).validation_logits.unlink()
    reads.clear()
    (found,) = load_scored(made.folder, range(5), "accuracy")
    assert reads == [3]
    assert sorted(found.numbers.tolist()) == [0, 2, 3, 4]
    by_number = dict(zip(found.numbers.tolist(), found.scores.tolist(), strict=True))
    assert by_number[3] == by_number[2]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", None])
def test_a_torn_or_foreign_cache_is_made_anew(make_study: Callable[..., Any], content: bytes | None) -> None:
    made = make_study(trials=4)
    first = build(made.folder, study=made.study).to_json()
    path = made.folder.ranking("accuracy")
    whole = path.read_bytes()
    if content is None:
        np.savez(path, numbers=np.arange(4), scores=np.zeros(3))
    else:
        path.write_bytes(content)
    assert build(made.folder, study=made.study).to_json() == first
    assert path.read_bytes() == whole


def test_a_cache_of_another_version_is_made_anew(
    make_study: Callable[..., Any], reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_study(trials=5)
    build(made.folder, study=made.study)
    reads.clear()
    monkeypatch.setattr(scored, "_VERSION", scored._VERSION + 1)
    build(made.folder, study=made.study)
    assert sorted(reads) == [0, 1, 2, 3, 4]


def test_who_only_looks_writes_nothing(make_study: Callable[..., Any]) -> None:
    made = make_study(trials=4)
    before = sorted(made.folder.root.rglob("*"))
    board = build(made.folder, study=made.study, cache=False)
    assert sorted(made.folder.root.rglob("*")) == before
    assert all(row.ci95 for row in board.rows)


def test_a_folder_that_cannot_be_written_is_no_matter(make_study: Callable[..., Any]) -> None:
    made = make_study(trials=4)
    made.folder.ranking("accuracy").parent.write_text("a file where the folder should be")
    assert all(row.ci95 for row in build(made.folder, study=made.study).rows)


def test_other_images_are_kept_apart(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "study")
    for number in range(5):
        folder.trial(number).root.mkdir(parents=True)
        rows = np.arange(20) + 100 * (number == 4)
        np.savez(folder.trial(number).validation_logits, logits=np.eye(20, 2), targets=np.arange(20) % 2, rows=rows)
    for _ in range(2):
        found = load_scored(folder, range(5), "accuracy")
        assert [sorted(each.numbers.tolist()) for each in found] == [[0, 1, 2, 3], [4]]

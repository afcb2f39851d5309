from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from automl.errors import AutoMLError, UsageError
from automl.paths import StudyFolder
from automl.search.earlier import find_studies, good_trials, read_study
from automl.search.lock import driver_lock
from automl.search.storage import load_study
from tests.earlier import FEATURES, content, write_earlier
from tests.small import RESNET

SCORES = [({"learning_rate": rate}, score) for rate, score in ((0.001, 0.5), (0.01, 0.9), (0.1, 0.7), (0.05, 0.9))]


@pytest.fixture
def earlier(tmp_path: Path) -> StudyFolder:
    return write_earlier(tmp_path / "runs" / "a ?#%{}", SCORES)


def new(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "runs" / "new")


def test_a_study_or_a_folder_of_them_is_found_once(earlier: StudyFolder, tmp_path: Path) -> None:
    runs = earlier.root.parent
    write_earlier(runs / "b", SCORES)
    (runs / "b-data").mkdir()
    (runs / "notes.txt").write_text("")
    names = [each.root.name for each in find_studies([runs / "b", runs, runs / ".." / "runs"], new(tmp_path))]
    assert names == ["b", earlier.root.name]
    assert find_studies([], new(tmp_path)) == []


@pytest.mark.parametrize("name", ["missing", "empty", "file"])
def test_a_path_without_a_study_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty" / "plan").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=rf"{name}: no study there"):
        find_studies([tmp_path / name], new(tmp_path))


def test_the_new_study_does_not_learn_from_itself(earlier: StudyFolder) -> None:
    with pytest.raises(UsageError, match="folder of the new study"):
        find_studies([earlier.root / ".." / earlier.root.name], earlier)
    write_earlier(earlier.root.parent / "b", SCORES)
    assert [each.root.name for each in find_studies([earlier.root.parent], earlier)] == ["b"]


def test_the_better_half_is_good_and_the_quicker_of_equals_first(earlier: StudyFolder) -> None:
    found = read_study(earlier)
    assert [each.number for each in found.good] == [1, 3]
    assert (found.metric, found.maximize, found.features) == ("accuracy", True, FEATURES)


@pytest.mark.parametrize(("handed_over", "expected"), [(3, [3, 1]), (1, [1, 3]), (0, [1, 3]), (None, [1, 3])])
def test_what_it_handed_over_comes_first_if_it_is_good(
    earlier: StudyFolder, handed_over: int | None, expected: list[int]
) -> None:
    load_study(earlier).set_user_attr("refitted", handed_over)
    assert [each.number for each in read_study(earlier).good] == expected


@pytest.mark.parametrize(
    ("whole", "chosen", "expected"),
    [
        ([], None, [3, 2]),  # heads end in seconds: of all that trained more, the budget left none
        ([2], None, [2]),
        ([2], 3, [3, 2]),  # what was handed over counts
    ],
)
def test_what_was_cut_short_counts_where_it_is_all_there_is_or_was_handed_over(
    whole: list[int], chosen: int | None, expected: list[int]
) -> None:
    trials = []
    for number, value in enumerate([0.6, 0.7, 0.8, 0.9]):
        head = number < 2
        reason = "complete" if head or number in whole else "truncated"
        made = create_trial(value=value, user_attrs={"reason": reason, "from_embeddings": head})
        made.number = number
        trials.append(made)
    assert [each.number for each in good_trials(trials, maximize=True, chosen=chosen)][: len(expected)] == expected


def test_of_a_log_loss_the_smaller_is_better(tmp_path: Path) -> None:
    assert [each.number for each in read_study(write_earlier(tmp_path / "a", SCORES, metric="log_loss")).good] == [0, 2]


def test_nothing_is_written(earlier: StudyFolder) -> None:
    before = content(earlier)
    read_study(earlier)
    assert content(earlier) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_is_read(earlier: StudyFolder) -> None:
    earlier.root.chmod(0o555)
    try:
        assert read_study(earlier).good
    finally:
        earlier.root.chmod(0o755)


def test_a_study_is_read_while_its_driver_works(earlier: StudyFolder) -> None:
    """What it has told stands in the write-ahead log, which nobody has copied into the database yet."""
    with driver_lock(earlier):
        study = load_study(earlier)
        distributions = study.trials[0].distributions
        for value in (0.95, 0.96):
            trial = study.ask(distributions)
            study.tell(trial, value)
        running = study.ask(distributions)
        before = content(earlier)
        before.pop("study.db-shm")  # where readers of a log register
        assert before["study.db-wal"]
        assert [each.value for each in read_study(earlier).good] == [0.96, 0.95, 0.9]
        after = content(earlier)
        assert {name: after[name] for name in before} == before
        study.tell(running, 0.97)  # the driver goes on
    assert load_study(earlier).best_value == 0.97


def test_an_older_study_is_described_by_its_audit_and_plan(tmp_path: Path) -> None:
    older = write_earlier(tmp_path / "a", SCORES, features=None)
    assert read_study(older).features.images == 40
    assert read_study(older).features.probes == {RESNET: {"knn": 0.8, "linear": 0.9}}
    older.plan.unlink()
    with pytest.raises(AutoMLError, match="what its data are like is not known"):
        read_study(older)


def test_what_is_damaged_is_an_error_with_its_reason(tmp_path: Path) -> None:
    def broken(name: str) -> StudyFolder:
        return write_earlier(tmp_path / name, SCORES)

    torn = broken("torn")
    torn.database.write_bytes(torn.database.read_bytes()[:5000])
    other = broken("other")
    other.database.write_bytes(b"not a database, but long enough to be looked at" * 100)
    tables = broken("tables")
    tables.database.unlink()
    with sqlite3.connect(tables.database) as connection:
        connection.execute("CREATE TABLE t (x)")
    gone = broken("gone")
    gone.database.unlink()
    unconfigured = broken("unconfigured")
    unconfigured.resolved.unlink()
    odd = broken("odd")
    study = load_study(odd)
    study.set_user_attr("dataset_features", {"images": "many"})
    for folder, why in [
        (torn, "cannot read"), (other, "cannot read"), (tables, "cannot read"), (gone, r"expected study\.db"),
        (unconfigured, "cannot read"), (odd, "not known"),
    ]:  # fmt: skip
        with pytest.raises(AutoMLError, match=why) as error:
            read_study(folder)
        assert "\n" not in str(error.value)


def test_there_must_be_something_to_learn_from(tmp_path: Path) -> None:
    empty = write_earlier(tmp_path / "empty", [])
    with pytest.raises(UsageError, match="no trial of it has finished"):
        read_study(empty)
    study = load_study(empty)
    study.add_trial(optuna.trial.create_trial(state=TrialState.PRUNED, value=0.9))
    study.add_trial(optuna.trial.create_trial(state=TrialState.COMPLETE, value=float("inf")))
    with pytest.raises(UsageError, match=r"no trial of it has finished \(2 were begun\)"):
        read_study(empty)
    study.set_user_attr("metric", "cuteness")
    with pytest.raises(UsageError, match="cuteness"):
        read_study(empty)

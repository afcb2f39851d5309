"""Training the best again between the search and the refit, on sixty small images and two tiny backbones."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from automl import confirming, pipeline, resuming
from automl.data import Dataset
from automl.errors import UsageError
from automl.handing_over import best_so_far, resolved
from automl.job import Job
from automl.paths import StudyFolder
from automl.ranking.leaderboard import best_trial
from automl.ranking.ranks import best_of_search
from automl.ranking.status import look, status_lines
from automl.search.budget import Budget
from automl.search.clock import Clock
from automl.search.cluster import Interrupt, Resources
from automl.search.storage import load_study
from tests.small import coloured, random_weights
from tests.test_pipeline import SPACE, Ran, automl

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # of Tune's actors and loggers


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("place")
    coloured(root / "images")
    (root / "space.yaml").write_text(SPACE % random_weights(root / "resnet.safetensors"))
    return root


@pytest.fixture(scope="module", autouse=True)
def on_one_cluster(one_cluster: Resources) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (pipeline, resuming):
            patch.setattr(module, "cluster", lambda *asked: contextlib.nullcontext())
        yield


def search(place: Path, name: str, *options: object, data: str = "images") -> Ran:
    return automl("search", place / data, "--space", place / "space.yaml", "--out", place / "runs" / name,
                  "--reports", place / "reports", "--trials", 7, *options)  # fmt: skip


def kept_of(folder: Path) -> dict[str, Any]:
    kept: dict[str, Any] = load_study(StudyFolder(folder)).user_attrs["confirmation"]
    return kept


@pytest.fixture(scope="module")
def searched(place: Path) -> Ran:
    return search(place, "confirmed", "--repeats", 2)


def test_the_winner_is_chosen_on_new_splits_and_refitted(searched: Ran, place: Path) -> None:
    assert searched.code == 0, searched.err
    folder = StudyFolder(place / "runs" / "confirmed")
    kept = kept_of(folder.root)
    assert len(kept["trials"]) >= 2
    runs = [(each["trial"], each["run"]) for each in kept["done"]]
    assert sorted(runs) == sorted((trial, run) for trial in kept["trials"] for run in (1, 2))
    assert kept["winner"] in kept["trials"]
    assert json.loads((folder.model / "metrics.json").read_text())["trial"] == kept["winner"]
    board = json.loads(automl("leaderboard", folder.root, "--format", "json").out)
    assert board["rows"][0]["trial"] == board["confirmation"]["winner"] == kept["winner"]
    reported = json.loads((place / "reports" / "confirmed" / "leaderboard.json").read_text())
    assert reported["confirmation"] == board["confirmation"]
    assert "to train the best again" in searched.err
    assert f"chosen: trial {kept['winner']}" in searched.err
    stages = load_study(folder).user_attrs["stage_seconds"]
    assert list(stages) == ["audit", "screening", "search", "confirmation", "refit"]


def test_every_run_has_its_own_split_and_every_trial_its_own_seed(searched: Ran, place: Path) -> None:
    folder = StudyFolder(place / "runs" / "confirmed")
    trials, dataset = kept_of(folder.root)["trials"][:2], Dataset.load(folder.manifest, folder.audit)
    seen, seeds = {}, set()
    for run in (1, 2):
        for trial in trials:
            spec = json.loads(folder.confirmation(trial, run).spec.read_text())
            train, validation = dataset.redrawn(_split_seed(run))
            with open(folder.confirmation(trial, run).validation_logits, "rb") as file:
                rows = np.load(file)["rows"]
            assert rows.tolist() == validation.tolist()
            assert not set(train) & set(validation)
            seeds.add(spec["seed"])
            seen[run] = set(rows.tolist())
    assert len(seeds) == 4
    assert seen[1] != seen[2]
    assert not {*seen[1], *seen[2]} & set(dataset.rows("test").tolist())
    assert {*seen[1]} != set(dataset.rows("validation").tolist())


def _split_seed(run: int) -> int:
    return int(np.random.SeedSequence([5, 0, run]).generate_state(1)[0])


def test_killed_in_the_middle_it_goes_on_where_it_was(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    each_task = confirming.each_task

    def killed(function: Any, work: list[Any], *rest: Any, **options: Any) -> Any:
        each_task(function, work[:3], *rest, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(confirming, "each_task", killed)
    ran = search(place, "killed", "--repeats", 2)
    assert ran.code == 130
    folder = place / "runs" / "killed"
    before = kept_of(folder)
    assert len(before["done"]) == 3
    assert "winner" not in before
    assert not (folder / "model" / "package.json").exists()
    begun: list[tuple[int, int]] = []

    def counted(function: Any, work: list[Any], *rest: Any, **options: Any) -> Any:
        begun.extend((each.trial, each.run) for _, each in work)
        return each_task(function, work, *rest, **options)

    monkeypatch.setattr(confirming, "each_task", counted)
    ran = automl("resume", folder, "--reports", place / "reports")
    assert ran.code == 0, ran.err
    after = kept_of(folder)
    assert not {(each["trial"], each["run"]) for each in before["done"]} & set(begun)
    assert len(after["done"]) == 2 * len(after["trials"])
    best = best_trial(load_study(StudyFolder(folder)))
    assert best is not None
    assert best.number == after["winner"]


def test_one_that_cannot_be_trained_again_is_out_and_says_why(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = place / "runs" / "broken"
    run_of = confirming.ConfirmationRun.of
    numbers: list[int] = []

    def without_weights(trial: int, run: int, spec: Any, **options: Any) -> Any:
        numbers.append(trial)
        made = run_of(trial, run, spec, **options)
        if trial == numbers[0]:
            object.__setattr__(made.spec, "weights", str(place / "gone.safetensors"))
        return made

    monkeypatch.setattr(confirming.ConfirmationRun, "of", without_weights)
    ran = search(place, "broken", "--repeats", 1)
    assert ran.code == 0, ran.err
    kept = kept_of(broken)
    assert list(kept["failed"]) == [str(numbers[0])]
    assert "gone.safetensors" in kept["failed"][str(numbers[0])]
    assert f"trial {numbers[0]} could not be trained again" in ran.err
    if len(kept["trials"]) > 2:
        assert kept["winner"] != numbers[0]


@pytest.mark.parametrize("retried", ["succeeds", "is cut off"])
def test_who_failed_is_out_until_a_second_try_succeeds(
    place: Path, monkeypatch: pytest.MonkeyPatch, retried: str
) -> None:
    run_of, each_task = confirming.ConfirmationRun.of, confirming.each_task
    weights: dict[int, Any] = {}
    calls: list[list[int]] = []

    def without_weights(trial: int, run: int, spec: Any, **options: Any) -> Any:
        made = run_of(trial, run, spec, **options)
        weights.setdefault(trial, made.spec.weights)
        if trial == next(iter(weights)):
            object.__setattr__(made.spec, "weights", str(place / "gone.safetensors"))
        return made

    def twice(function: Any, work: list[Any], *rest: Any, **options: Any) -> Any:
        calls.append([each.trial for _, each in work])
        if len(calls) == 2 and retried == "is cut off":
            return [None] * len(work)
        if len(calls) == 2:
            for _, each in work:
                object.__setattr__(each.spec, "weights", weights[each.trial])
        return each_task(function, work, *rest, **options)

    monkeypatch.setattr(confirming.ConfirmationRun, "of", without_weights)
    monkeypatch.setattr(confirming, "each_task", twice)
    folder = place / "runs" / retried.replace(" ", "-")
    assert search(place, folder.name, "--repeats", 1).code == 0
    kept, first = kept_of(folder), next(iter(weights))
    assert calls[1] == [first]
    if retried == "succeeds":
        assert kept["failed"] == {}
        assert {each["trial"] for each in kept["done"]} == set(kept["trials"])
    else:
        assert list(kept["failed"]) == [str(first)]
        assert "gone.safetensors" in kept["failed"][str(first)]


def test_a_validation_split_that_was_given_stays(place: Path) -> None:
    table = []
    for path in sorted((place / "images").glob("*/*.png")):
        split = {0: "validation", 1: "test"}.get(int(path.stem) % 5, "train")
        table.append({"path": str(path), "label": path.parent.name, "split": split})
    pd.DataFrame(table).to_csv(place / "given.csv", index=False)
    ran = search(place, "given", "--repeats", 1, data="given.csv")
    assert ran.code == 0, ran.err
    folder = StudyFolder(place / "runs" / "given")
    dataset = Dataset.load(folder.manifest, folder.audit)
    train, validation = dataset.redrawn(123)
    assert train.tolist() == dataset.rows("train").tolist()
    assert validation.tolist() == dataset.rows("validation").tolist()
    assert kept_of(folder.root)["winner"] is not None


def test_without_repeats_the_best_score_is_chosen_and_resume_can_ask_for_them(searched: Ran, place: Path) -> None:
    ran = search(place, "plain")
    assert ran.code == 0, ran.err
    folder = StudyFolder(place / "runs" / "plain")
    assert "confirmation" not in load_study(folder).user_attrs
    ran = automl("resume", folder.root, "--repeats", 1, "--reports", place / "reports")
    assert ran.code == 0, ran.err
    assert kept_of(folder.root)["winner"] is not None
    shutil.rmtree(folder.root)


def test_what_an_interrupted_one_has_left_is_chosen_from_when_the_time_is_over(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    each_task = confirming.each_task

    def killed(function: Any, work: list[Any], *rest: Any, **options: Any) -> Any:
        first = [each for each in work if each[1].run == 1]
        each_task(function, first, *rest, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(confirming, "each_task", killed)
    folder = StudyFolder(place / "runs" / "late")
    assert search(place, "late", "--repeats", 3).code == 130
    found = look(folder, load_study(folder))
    assert found.again is not None
    assert "not running (cut off while the best were trained again; automl resume goes on)" in status_lines(found)[0]
    assert f"Again    {found.again[0]} of {found.again[1]} trainings of the best on new splits" in status_lines(found)
    monkeypatch.setattr(Clock, "confirmable", lambda clock, trials: ([], 0))
    ran = automl("resume", folder.root, "--reports", place / "reports")
    assert ran.code == 0, ran.err
    kept = kept_of(folder.root)
    assert kept["winner"] in kept["trials"]
    assert {each["run"] for each in kept["done"]} == {1}
    assert json.loads((folder.model / "metrics.json").read_text())["trial"] == kept["winner"]


def test_before_the_refit_the_best_of_the_search_is_applied_where_the_winner_left_no_weights(
    searched: Ran, place: Path
) -> None:
    folder = StudyFolder(place / "runs" / "no-package")
    shutil.copytree(place / "runs" / "confirmed", folder.root)
    shutil.rmtree(folder.model)
    study = load_study(folder)
    kept = kept_of(folder.root)
    first = best_of_search(study)
    assert first is not None
    other = next(number for number in kept["trials"] if number != first.number)
    study.set_user_attr("confirmation", {**kept, "winner": other})
    folder.trial(other).weights.unlink(missing_ok=True)
    assert json.loads((best_so_far(folder) / "metrics.json").read_text())["trial"] == first.number
    folder.trial(first.number).weights.unlink()
    shutil.rmtree(folder.model)
    with pytest.raises(UsageError, match="no model"):
        best_so_far(folder)


def test_a_damaged_package_of_a_finished_search_is_not_replaced(searched: Ran, place: Path) -> None:
    folder = StudyFolder(place / "runs" / "damaged-package")
    shutil.copytree(place / "runs" / "confirmed", folder.root)
    weights = (folder.model / "model.safetensors").read_bytes()
    for damage in ("{}", "torn", None):
        (folder.model / "metrics.json").write_text(damage) if damage else (folder.model / "metrics.json").unlink()
        with pytest.raises(UsageError, match=r"is damaged: metrics\.json .* automl refit"):
            best_so_far(folder)
    assert (folder.model / "model.safetensors").read_bytes() == weights


def test_what_there_is_no_time_to_train_again_is_kept_in_mind_with_its_weights(searched: Ran, place: Path) -> None:
    folder = StudyFolder(place / "runs" / "short of time" / "confirmed")
    shutil.copytree(place / "runs" / "confirmed", folder.root)
    study = load_study(folder)
    other = kept_of(folder.root)["trials"][1]
    rest = [number for number in kept_of(folder.root)["trials"] if number != other]
    assert len(rest) >= 2
    numbered = study.get_trials(deepcopy=False)
    clock = SimpleNamespace(
        confirmable=lambda trials: ([each for each in trials if each.number in rest], 1),
        refits=lambda params: params != numbered[other].params,
        before_refit=lambda trials: 60.0,
    )
    driver = SimpleNamespace(clock=clock, hang_after=lambda params: 60.0, note_spent=lambda: None)
    config = resolved(folder)
    dataset = Dataset.load(folder.manifest, folder.audit)
    job = Job(config, folder, dataset, {}, Budget(600.0), Resources(1, 0.0, 1), False, Interrupt())

    def no_time() -> list[int]:
        confirming.confirm(job, study, driver)  # type: ignore[arg-type]
        found: list[int] = kept_of(folder.root)["no_time"]
        return found

    folder.trial(other).weights.write_bytes(b"its own")
    assert no_time() == []  # it was trained again, by what was done before
    study.set_user_attr("confirmation", {})
    assert no_time() == [other]
    study.set_user_attr("confirmation", {})
    folder.trial(other).weights.unlink()
    assert no_time() == []  # it could not be handed over

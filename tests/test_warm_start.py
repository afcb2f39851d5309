"""Searches that learn from an earlier one, by the command line, on sixty small images and two tiny backbones."""

from __future__ import annotations

import gc
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from automl import pipeline
from automl.paths import StudyFolder
from automl.search.dataset_features import DatasetFeatures
from automl.search.storage import load_study
from tests.earlier import content
from tests.ranking.html import Page
from tests.small import EFFICIENTNET, RESNET, coloured, random_weights
from tests.test_pipeline import SPACE, Ran, automl, on_one_cluster

__all__ = ["on_one_cluster"]

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # of Tune's actors and loggers

TRIALS = 5


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, and a search space in which the learning rate of the earlier study has become a constant."""
    root = tmp_path_factory.mktemp("place")
    coloured(root / "images")
    space = SPACE % random_weights(root / "resnet.safetensors")
    (root / "space.yaml").write_text(space)
    narrow = space.replace("{low: 1.0e-3, high: 1.0e-1, log: true}", "{low: 1.0e-3, high: 1.5e-3, log: true}")
    (root / "narrow.yaml").write_text(narrow)
    return root


def search(place: Path, name: str, *more: object, space: str = "space.yaml", command: str = "search") -> Ran:
    reports = () if command == "plan" else ("--reports", place / "reports", "--trials", TRIALS)
    return automl(
        command, place / "images", "--space", place / space, "--out", place / "runs" / name, *reports, *more
    )  # fmt: skip


@pytest.fixture(scope="module")
def earlier(place: Path, on_one_cluster: None) -> StudyFolder:
    ran = search(place, "earlier")
    assert ran.code == 0, ran.err
    return StudyFolder(place / "runs" / "earlier")


def at_rest(folder: StudyFolder) -> dict[str, bytes]:
    """What is in a study's files once the connections are closed that commands and tests of this process have left to
    be collected: the last to close removes the database's log."""
    gc.collect()
    return content(folder)


@pytest.fixture(scope="module")
def warm(place: Path, earlier: StudyFolder) -> tuple[Ran, StudyFolder, dict[str, bytes]]:
    """A search after the earlier one, and the earlier study's files before it; beside it lies a damaged study."""
    torn = place / "studies" / "torn"
    torn.mkdir(parents=True)
    shutil.copy(earlier.resolved, torn / "resolved.yaml")
    (torn / "study.db").write_bytes(b"torn")
    before = at_rest(earlier)
    ran = search(
        place, "warm", "--warm-start", earlier.root, "--warm-start", place / "studies", "--json", space="narrow.yaml"
    )
    assert ran.code == 0, ran.err
    return ran, StudyFolder(place / "runs" / "warm"), before


def test_a_study_says_what_its_data_are_like(earlier: StudyFolder) -> None:
    found = DatasetFeatures.from_dict(load_study(earlier).user_attrs["dataset_features"])
    assert (found.images, found.classes, found.side, found.channels) == (36, 3, (32.0, 32.0, 32.0), 3)
    assert found.probes.keys() == {RESNET, EFFICIENTNET}
    assert "warm_start" not in load_study(earlier).user_attrs


def test_its_best_configurations_are_tried_after_the_heads(
    warm: tuple[Ran, StudyFolder, dict[str, bytes]], earlier: StudyFolder
) -> None:
    trials = load_study(warm[1]).get_trials()
    planned = [each for each in trials if each.user_attrs["origin"] != "resume"]
    there = load_study(earlier).get_trials()
    tried = [each for each in trials if each.user_attrs["origin"] == "warm start"]
    assert tried
    assert [each.params["freeze_depth"] for each in planned[:2]] == [1.0, 1.0]
    plain = [each.number for each in planned[2:] if each.user_attrs["origin"] == "default"]
    assert max(each.number for each in tried) < min(plain, default=len(trials))
    for each in tried:
        source = each.user_attrs["warm_start"]
        assert source["study"] == str(earlier.root)
        assert there[source["trial"]].value == source["score"]
        assert there[source["trial"]].params["backbone"] == each.params["backbone"]
        assert any(moved.startswith("learning_rate") for moved in source["moved"])


def test_everything_that_shows_the_search_says_what_was_taken_and_what_was_not(
    warm: tuple[Ran, StudyFolder, dict[str, bytes]], place: Path, earlier: StudyFolder
) -> None:
    ran, folder, _ = warm
    torn = str(place / "studies" / "torn")
    told: dict[str, Any] = json.loads(ran.out)["warm_start"]
    assert {each["study"] for each in told["taken"]} == {str(earlier.root)}
    assert [each["study"] for each in told["studies"]] == [str(earlier.root), torn]
    ranked = {row["trial"]: row for row in json.loads(ran.out)["rows"]}
    tried = [each for each in told["taken"] if each["score_here"] is not None]
    assert tried
    for each in tried:
        assert each["score_here"] == ranked[each["trial_here"]]["score"]
    assert f"Warm start: {earlier.root} (distance 0.00): {len(told['taken'])} tried early" in ran.err
    assert f"Warm start: {torn}: not used: cannot read" in ran.err
    board = automl("leaderboard", folder.root).out
    source = f"trial {tried[0]['trial']} of {earlier.root} ("
    assert source in board
    assert f"trial {tried[0]['trial_here']} here, rank" in board
    assert f"Warm start: {torn} is not used" in board
    report = place / "reports" / "warm"
    assert json.loads((report / "leaderboard.json").read_text())["warm_start"] == told
    page = Page((report / "index.html").read_text())
    assert "What earlier searches taught" in page.words
    assert page.sentences["/warm_start/studies/1/study"] == torn
    assert "not used" not in (report / "leaderboard.md").read_text().split("Warm start")[0]


def test_the_earlier_study_is_only_read(warm: tuple[Ran, StudyFolder, dict[str, bytes]], earlier: StudyFolder) -> None:
    assert at_rest(earlier) == warm[2]


def test_to_resume_it_needs_no_earlier_study(
    warm: tuple[Ran, StudyFolder, dict[str, bytes]], earlier: StudyFolder, place: Path
) -> None:
    """Placed last but one: the earlier study moves away for it."""
    away = place / "away"
    earlier.root.rename(away)
    try:
        ran = automl("resume", warm[1].root, "--trials", "+1", "--reports", place / "reports")
        assert ran.code == 0, ran.err
        again = search(place, "again", "--warm-start", earlier.root)
    finally:
        away.rename(earlier.root)
    origins = [each.user_attrs["origin"] for each in load_study(warm[1]).get_trials()]
    assert len(origins) > TRIALS
    assert str(earlier.root) in automl("leaderboard", warm[1].root).out
    assert again.code == 2
    assert "no study there" in again.err
    assert not (place / "runs" / "again").exists()


def test_what_is_no_earlier_study_is_refused_before_anything_starts(place: Path, earlier: StudyFolder) -> None:
    for name, path in (("one", place / "images"), ("two", place / "runs" / "two"), ("three", place / "space.yaml")):
        ran = search(place, name, "--warm-start", path)
        assert ran.code == 2
        assert f"no warm start from {path}" in ran.err
        assert not (place / "runs" / name).exists()


def test_a_plan_says_it_and_a_space_file_may_ask_for_it(place: Path, earlier: StudyFolder) -> None:
    text = (place / "space.yaml").read_text()
    (place / "asks.yaml").write_text(text.replace("search: {", "search: {warm_start: [runs/earlier], "))
    ran = search(place, "planned", command="plan", space="asks.yaml")
    assert ran.code == 0, ran.err
    assert f"Warm start: {earlier.root} (distance 0.00)" in ran.err
    planned = json.loads((place / "runs" / "planned" / "plan.json").read_text())
    assert planned["warm_start"]["taken"][0]["study"] == str(earlier.root)


def test_killed_before_it_could_learn_it_learns_when_it_is_resumed(
    place: Path, earlier: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, screen = StudyFolder(place / "runs" / "killed"), pipeline.screen

    def killed(config: Any, folder: StudyFolder, names: list[str], *rest: Any, **options: Any) -> Any:
        if EFFICIENTNET in names:
            raise KeyboardInterrupt
        return screen(config, folder, names, *rest, **options)

    monkeypatch.setattr(pipeline, "screen", killed)
    assert search(place, "killed", "--warm-start", earlier.root).code == 130
    assert "warm_start" not in load_study(folder).user_attrs
    monkeypatch.undo()
    ran = automl("resume", folder.root, "--reports", place / "reports")
    assert ran.code == 0, ran.err
    trials = load_study(folder).get_trials()
    assert any(each.user_attrs.get("origin") == "warm start" for each in trials)
    told = automl("leaderboard", folder.root).out
    taken = load_study(folder).user_attrs["warm_start"]["taken"]
    heads = [each for each in taken if each["params"].items() >= trials[0].params.items()]
    assert told.count("its turn has not come") <= len(taken) - len(heads) - 1

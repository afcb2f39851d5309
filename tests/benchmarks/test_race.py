"""The race's bookkeeping: which rows are missing, what its figures mean for its targets, and equal search spaces."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pandas as pd
import pytest

from automl.config import find_space, load_config
from benchmarks.race import __main__ as race
from benchmarks.race import measure, results

SCORES = {
    ("automl", 3.0): 0.85,
    ("automl", 8.0): 0.975,
    ("handwritten 224", 3.0): 0.50,
    ("handwritten 224", 8.0): 0.84,
    ("handwritten 128", 3.0): 0.60,
    ("handwritten 128", 8.0): 0.70,
    ("fixed, all trains", 0.0): 0.97,
    ("fixed, 3/4 frozen", 0.0): 0.75,
}


def rows_of(scores: dict[tuple[str, float], float | None], name: str = "textile") -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "set": name, "seed": seed, "contender": contender, "minutes": minutes,
                "test_accuracy": None if score is None else score + (seed - 1) * 0.01, "test_images": 1400,
                "validation": 0.9, "wall_seconds": 60 * minutes + 2, "others_share": 0.02, "model": "lite0",
                "commit": "0a1b2c3",
            }
            for (contender, minutes), score in scores.items()
            for seed in range(3)
        ]
    )  # fmt: skip


def met(scores: dict[tuple[str, float], float | None]) -> list[bool | None]:
    """Of the targets in accuracy."""
    return [verdict.met for verdict in results.judge(rows_of(scores))][:3]


def test_all_targets_are_met_by_the_medians() -> None:
    assert met(SCORES) == [True, True, True]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({("automl", 8.0): 0.969}, [False, False, True]),
        ({("fixed, all trains", 0.0): 0.98}, [True, False, True]),  # no rival of the short target: it searches nothing
        ({("handwritten 128", 8.0): 0.86}, [True, True, False]),
        ({("handwritten 224", 3.0): 0.99}, [True, True, True]),  # rivals are taken at 8 minutes
        ({("automl", 3.0): None}, [True, True, False]),  # handed nothing over
    ],
)
def test_each_target_can_be_missed(changed: dict[tuple[str, float], float | None], expected: list[bool]) -> None:
    assert met({**SCORES, **changed}) == expected


def test_nothing_is_decided_while_a_rival_has_not_run() -> None:
    without = {key: value for key, value in SCORES.items() if key[0] != "handwritten 224"}
    assert met(without) == [True, None, None]
    assert met({("handwritten 224", 8.0): 0.8}) == [None, None, None]


def test_textile_alone_has_a_target_in_figures() -> None:
    verdicts = results.judge(rows_of(SCORES, "fashion-mnist"))
    assert [each.met for each in verdicts[:3]] == [None, True, True]


def test_a_run_that_overdraws_its_budget_is_told() -> None:
    rows = rows_of(SCORES)
    assert [each.met for each in results.judge(rows)[3:]] == [True, True]
    rows.loc[(rows["contender"] == "automl") & (rows["minutes"] == 8.0) & (rows["seed"] == 2), "wall_seconds"] = 490.0
    assert [each.met for each in results.judge(rows)[3:]] == [True, False]


def test_the_table_has_the_median_and_every_seed() -> None:
    table = results.table(rows_of({**SCORES, ("handwritten 128", 3.0): None}))
    line = table[(table["contender"] == "automl") & (table["minutes"] == "8")].iloc[0]
    assert line["test accuracy, median"] == "0.9750"
    assert line["each seed"] == "0.9650, 0.9750, 0.9850"
    nothing = table[(table["contender"] == "handwritten 128") & (table["minutes"] == "3")].iloc[0]
    assert (nothing["test accuracy, median"], nothing["each seed"]) == ("0.0000", "nothing, nothing, nothing")
    assert list(table["contender"])[:2] == ["automl", "automl"]


def test_only_what_is_missing_or_disturbed_runs_again(tmp_path: Path) -> None:
    rows = rows_of(SCORES)
    rows.loc[(rows["contender"] == "automl") & (rows["minutes"] == 8.0) & (rows["seed"] == 1), "others_share"] = 0.3
    rows = rows[(rows["contender"] != "handwritten 128") | (rows["minutes"] != 3.0) | (rows["seed"] != 2)]
    rows.to_csv(tmp_path / "race.csv", index=False)

    def to_run(disturbed: float | None) -> list[str]:
        every = race.jobs(["textile"], [0, 1, 2], ["automl", "peers", "fixed"], [3.0, 8.0])
        return [each.name for each in every if race.missing(each, tmp_path, disturbed)]

    assert to_run(None) == ["textile-2-handwritten-128-8"]
    assert to_run(0.1) == ["textile-1-automl-8", "textile-2-handwritten-128-8"]


def test_a_run_that_is_repeated_replaces_its_curve(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    for seed, seconds in ((0, [10.0, 20.0]), (1, [30.0]), (0, [40.0]), (1, [])):
        key = {"set": "textile", "seed": seed, "contender": "automl", "minutes": 8.0}
        race._replace_curve(path, key, [{**key, "seconds": each, "validation": 0.5} for each in seconds])
    assert pd.read_csv(path)[["seed", "seconds"]].to_numpy().tolist() == [[0, 40.0]]


def test_the_handwritten_search_has_the_choices_of_the_demo() -> None:
    handwritten = pytest.importorskip("benchmarks.peers.handwritten")
    config = load_config(find_space("demo"))
    space = handwritten.SPACE
    assert [f"timm/{name}" for name in space["backbone"].categories] == [each.name for each in config.backbones]
    assert space["freeze"].categories == config.params["freeze_depth"]
    assert space["augmentation"].categories == config.params["augmentation"]
    rate = config.params["learning_rate"]
    assert (space["learning_rate"].lower, space["learning_rate"].upper) == (rate.low, rate.high)
    assert handwritten.FIXED["label_smoothing"] == config.params["label_smoothing"]
    assert handwritten.FIXED["batch_size"] == config.params["batch_size"]
    assert config.training.epochs == handwritten.EPOCHS


def test_the_processor_time_of_a_command_counts_all_below_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_PERIOD", 0.05)
    spin = "import time\nwhile time.process_time() < 1: pass"
    nested = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {spin!r}])\n{spin}\nsys.exit(3)"
    measured = measure.run([sys.executable, "-c", nested], tmp_path / "log", os.environ)
    assert measured.exit_code == 3
    assert 1.5 < measured.own_seconds < 2.5
    assert 0 <= measured.others_share <= 1

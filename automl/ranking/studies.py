"""Studies side by side: are they of the same data, what each found, what each cost, and how their spaces differ."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import optuna

from automl.config import SearchConfig, load_config
from automl.errors import AutoMLError
from automl.paths import StudyFolder
from automl.ranking import leaderboard, words
from automl.ranking.files import load_groups, load_predictions
from automl.ranking.leaderboard import Leaderboard, Row
from automl.ranking.plain import plain
from automl.ranking.statistics import METRICS, Predictions, difference, score
from automl.search.snapshot import snapshot

__all__ = ["Comparison", "PairedDifference", "StudySummary", "compare"]

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class StudySummary:
    """One study in a few values. Scores in its own metric; seconds; None where it is not known. `study` is its name, or
    its folder where another one has the same name.

    `corrected` is what the first is expected to score on new images, the luck of being picked taken off; `backbones`
    has the best score by backbone, `space` every setting of the search space as text.
    """

    run: str
    study: str
    metric: str
    direction: str
    dataset_fingerprint: str | None
    validation_images: int | None
    stop_reason: str | None
    counts: Mapping[str, int]
    best: Row | None
    corrected: float | None
    corrected_ci95: tuple[float, float] | None
    refit_trial: int | None
    test: float | None
    test_ci95: tuple[float, float] | None
    budget_seconds: float | None
    spent_seconds: float | None
    backbones: Mapping[str, float]
    space: Mapping[str, str]


@dataclass(frozen=True)
class PairedDifference:
    """score(first) - score(second) of two studies' winners on the same validation images, with its 95 % interval."""

    first: str
    second: str
    metric: str
    value: float
    ci95: tuple[float, float]
    images: int


@dataclass(frozen=True)
class Comparison:
    """`same_data` is None where a study does not say which data it is of; `space` has the settings that differ."""

    same_data: bool | None
    verdict: str
    studies: tuple[StudySummary, ...]
    differences: tuple[PairedDifference, ...]
    space: Mapping[str, tuple[str, ...]]

    def to_dict(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA_VERSION, **plain(self)}


def compare(runs: Sequence[tuple[StudyFolder, optuna.Study]]) -> Comparison:
    """Compare studies, each given by its folder and itself."""
    summaries, winners = [], []
    for folder, study in runs:
        now = snapshot(study)
        board = leaderboard.build(folder, study=now)
        summaries.append(_summary(folder, now, board))
        best = load_predictions(folder.trial(board.best.trial), load_groups(folder)) if board.best else None
        winners.append(best)
    alike = {name for name, often in Counter(each.study for each in summaries).items() if often > 1}
    summaries = [replace(each, study=each.run) if each.study in alike else each for each in summaries]
    names = dict.fromkeys(name for each in summaries for name in each.space)
    space = {name: tuple(each.space.get(name, "–") for each in summaries) for name in names}
    prints = {each.dataset_fingerprint for each in summaries}
    same = None if None in prints else len(prints) == 1
    return Comparison(
        same_data=same,
        verdict=_verdict(same, summaries),
        studies=tuple(summaries),
        differences=tuple(_differences(summaries, winners)),
        space={name: values for name, values in space.items() if len(set(values)) > 1},
    )


def _counts(board: leaderboard.Leaderboard) -> dict[str, int]:
    """Return how many trials are in each state; proposals that were not begun did not fail."""
    skipped = len(board.failures) - len(board.failed)
    found = {**board.counts, "FAIL": board.counts.get("FAIL", 0) - skipped, "SKIPPED": skipped}
    return {name: n for name, n in found.items() if n}


def _verdict(same: bool | None, summaries: Sequence[StudySummary]) -> str:
    if same is None:
        text = "Whether the data are the same is not known: a study does not say. Compare the scores with care."
    elif same:
        text = "All are of the same data: the same images, labels and splits."
    else:
        text = (
            "The data are not all the same (images, labels or splits differ): scores on different data do not compare."
        )
        alike = _alike(summaries)
        text += "".join(f" Of the same data are {' and '.join(names)}." for names in alike if len(names) > 1)
    metrics = {each.metric for each in summaries}
    names = ", ".join(words.metric_name(each) for each in sorted(metrics))
    return text if len(metrics) == 1 else f"{text} They are ranked by different metrics: {names}."


def _alike(summaries: Sequence[StudySummary]) -> list[list[str]]:
    """Names of the studies by their data, those of one dataset together."""
    names: dict[str | None, list[str]] = {}
    for each in summaries:
        names.setdefault(each.dataset_fingerprint, []).append(each.study)
    return list(names.values())


def _summary(folder: StudyFolder, study: optuna.Study, board: Leaderboard) -> StudySummary:
    attrs, corrected, again = study.user_attrs, board.best_corrected, board.confirmation
    refitted = (board.refit or {}).get("trial")
    expected, expected_ci95 = (corrected.value, corrected.ci95) if corrected else (None, None)
    if again:
        expected, expected_ci95 = again.expected, again.expected_ci95
    spent = attrs.get("spent_seconds") or sum((attrs.get("stage_seconds") or {}).values()) or None
    return StudySummary(
        run=str(folder.root),
        study=board.study,
        metric=board.metric,
        direction=board.direction,
        dataset_fingerprint=attrs.get("dataset_fingerprint"),
        validation_images=board.validation_images,
        stop_reason=board.stop_reason,
        counts=_counts(board),
        best=board.best,
        corrected=expected,
        corrected_ci95=expected_ci95,
        refit_trial=refitted,
        test=words.test_score(board),
        test_ci95=words.test_interval(board),
        budget_seconds=attrs.get("budget_seconds"),
        spent_seconds=spent,
        backbones={name: row.score for name, row in board.best_by_backbone.items()},
        space=_space(folder),
    )


def _space(folder: StudyFolder) -> dict[str, str]:
    """Settings of ``resolved.yaml`` by dotted name; of the run itself only what changes what is searched."""
    try:
        config: SearchConfig = load_config(folder.resolved)
    except AutoMLError:
        return {}
    content = config.model_dump(mode="json", exclude_none=True, exclude={"search": {"storage"}})
    content["backbones"] = ", ".join(words.short(each["name"]) for each in content.get("backbones", []))
    found: dict[str, str] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict) and not {"low", "high"} <= set(value):
            for key, each in value.items():
                walk(f"{prefix}.{key}".strip("."), each)
        elif isinstance(value, dict):
            scale = ", log" if value.get("log") else ""
            found[prefix] = f"{words.compact(value['low'])} to {words.compact(value['high'])}{scale}"
        else:
            found[prefix] = words.compact(value)

    for part in ("backbones", "params", "data", "training", "search"):
        walk(part, content.get(part, {}))
    return found


def _differences(summaries: Sequence[StudySummary], winners: Sequence[Predictions | None]) -> list[PairedDifference]:
    """Compare the winners of every two studies on the validation images, where both saw the same ones."""
    metrics = {each.metric for each in summaries}
    metric = metrics.pop() if len(metrics) == 1 else "accuracy"
    found = []
    for (one, first), (other, second) in itertools.combinations(zip(summaries, winners, strict=True), 2):
        same_data = one.dataset_fingerprint == other.dataset_fingerprint is not None
        if not same_data or metric not in METRICS or first is None or second is None:
            continue
        if not first.same_images(second):
            continue
        limits = difference(metric, first, second, seed=[0, len(first.targets)])
        value = score(metric, first) - score(metric, second)
        images = len(first.targets)
        found.append(PairedDifference(one.study, other.study, metric, value, (limits.low, limits.high), images))
    return found

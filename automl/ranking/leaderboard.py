"""The leaderboard of a study: which configuration is best, how sure that is, and what became of every other trial.

Reads the Optuna study and the files that trials leave, never live objects, so it can be built at any moment: in the
middle of a search, after a crash, or years later from the folder alone. Whatever is missing (predictions, a plan, a
refit) costs its own column and is named in `Leaderboard.notes`; it never stops the build.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from automl.paths import StudyFolder
from automl.ranking import tables, words
from automl.ranking.confirmed import Confirmation
from automl.ranking.confirmed_rows import confirmed_first, not_chosen_by, valid_confirmation, with_search
from automl.ranking.files import load_audit, load_groups, load_json
from automl.ranking.handed_over import with_intervals
from automl.ranking.latency import load_speeds
from automl.ranking.plain import plain
from automl.ranking.ranks import CONFIRMED_RULES, RULES, best_trial, in_order, is_ranked, score_of
from automl.ranking.row import Failure, Row
from automl.ranking.rows import failure, ranked_row
from automl.ranking.scored import Scored, load_scored
from automl.ranking.statistics import METRICS, BestCorrected, larger_is_better
from automl.ranking.sureness import how_sure

__all__ = ["RULES", "SCHEMA_VERSION", "Failure", "Leaderboard", "Row", "best_trial", "build"]

SCHEMA_VERSION = 1
_SAME_SCORE = 1e-4
_RANKED = {"finished": "COMPLETE", "pruned": "PRUNED"}


@dataclass(frozen=True)
class Leaderboard:
    """The ranked trials of a study and everything that was not ranked.

    `metric` is what it is ranked by, `direction` is "maximize" or "minimize", `counts` the number of trials by Optuna's
    state, `ranked` that of the rows that finished and that were pruned (a trial that was resumed has one row),
    `stop_reason` is None while the search runs, `refit` the content of ``model/metrics.json`` or None, `best_corrected`
    the best score of the search less what being picked as the best explains, None without predictions, `confirmation`
    what came of training the best again, None where they were not; `trained_again` says what is known where nothing was
    chosen by it.
    """

    study: str
    metric: str
    direction: str
    stop_reason: str | None
    rows: tuple[Row, ...]
    failures: tuple[Failure, ...]
    refit: Mapping[str, Any] | None
    counts: Mapping[str, int]
    ranked: Mapping[str, int]
    validation_images: int | None
    rules: tuple[str, ...] = RULES
    notes: tuple[str, ...] = ()
    trained_again: tuple[str, ...] = ()
    best_corrected: BestCorrected | None = None
    confirmation: Confirmation | None = None

    @property
    def best(self) -> Row | None:
        return self.rows[0] if self.rows else None

    @property
    def failed(self) -> tuple[Failure, ...]:
        """Those of `failures` that were begun: a proposal for which there was no time did not fail."""
        return tuple(each for each in self.failures if each.reason != "skipped")

    @property
    def best_by_backbone(self) -> dict[str, Row]:
        """The row of each backbone's best trial in the search, finished ones first, in the order of the rows."""
        found: dict[str, Row] = {}
        sign = 1.0 if self.direction == "maximize" else -1.0
        for row in self.rows:
            best = found.setdefault(row.backbone, row)
            if row.state == best.state and sign * row.score > sign * best.score:
                found[row.backbone] = row
        return found

    @property
    def tied(self) -> tuple[Row, ...]:
        """The rows that cannot be told apart from the best, without the best."""
        return tuple(row for row in self.rows[1:] if row.tied_with_best)

    def to_dict(self) -> dict[str, Any]:
        """Return what `to_json` writes: plain types, no NaN or infinity."""
        content: dict[str, Any] = {"schema_version": SCHEMA_VERSION}
        for each in fields(self):
            content[each.name] = getattr(self, each.name)
        for name in ("rows", "failures"):
            content[name] = [{each.name: getattr(row, each.name) for each in fields(row)} for row in content[name]]
        return {name: plain(value) for name, value in content.items()}

    def to_json(self) -> str:
        """Return the contract of DESIGN.md, ``schema_version`` 1 (keys may be added, none removed)."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def to_csv(self) -> str:
        """Return one line per trial, those without a score last; safe to open in a spreadsheet."""
        return tables.to_csv(self)

    def to_markdown(self) -> str:
        """Return the answer, a table, and the rules, for a README or a pull request."""
        return tables.to_markdown(self)


def build(
    folder: StudyFolder,
    *,
    study: optuna.Study,
    metric: str | None = None,
    cache: bool = True,
    confirmation: bool = True,
) -> Leaderboard:
    """Rank the trials of `study`, with intervals from the predictions kept in `folder`; `RULES` says how.

    Args:
        metric: One of `METRICS` to rank by; default: the one that the study optimises. By another one, a trial is
            ranked if its predictions, or this metric of its last epoch, were kept.
        cache: Keep what is computed from many trials' predictions in `folder`, for the next time.
        confirmation: Put first the trials that were trained again, as `Confirmation.rule` says. Ranked by another
            metric than the study's, they are not.

    Raises:
        ValueError: There is no such metric.
    """
    if metric is not None and metric not in METRICS:
        raise ValueError(f'unknown metric "{metric}": expected one of {", ".join(METRICS)}')
    attrs, trials = study.user_attrs, study.get_trials(deepcopy=False)
    objective, seed = str(attrs.get("metric", "accuracy")), int(attrs.get("seed") or 0)
    by, maximize = metric or objective, study.direction == optuna.study.StudyDirection.MAXIMIZE
    larger = maximize if by == objective else larger_is_better(by)
    finished = [trial for trial in trials if trial.state.is_finished()]
    candidates = [trial for trial in finished if is_ranked(trial)]
    scored = load_scored(folder, [each.number for each in candidates], by, cache=cache) if by in METRICS else []
    scores, stale = _scores(candidates, scored, by, objective)
    ranked = in_order(finished, maximize=maximize, score=lambda trial: scores.get(trial.number), larger=larger)
    current = [each.pick(np.flatnonzero(~np.isin(each.numbers, stale))) for each in scored]
    groups = load_groups(folder)
    sure = how_sure(ranked, current, groups, by, larger=larger, seed=seed)
    speeds = load_speeds(folder)
    rows = tuple(
        ranked_row(rank, trial, scores[trial.number], sure, speeds, folder)
        for rank, trial in enumerate(ranked, start=1)
    )
    chosen = valid_confirmation(folder, study, ranked) if confirmation and by == objective else None
    if chosen:
        chosen = with_search(chosen, rows, sure.corrected, larger=larger)
        rows = confirmed_first(rows, chosen, larger=larger)
    unsure = [row.trial for row in rows if row.ci95 is None]
    notes = {
        "No interval, no comparison: trials without readable predictions:": [n for n in unsure if n not in stale],
        "No interval: the predictions kept are not those of the score, trials": [n for n in unsure if n in stale],
        f"Not ranked, since {words.metric_name(by)} was not kept, trials": [
            n.number for n in candidates if n.number not in scores
        ],
    }
    told = [f"{what}: {_list(numbers)}.".replace("trials:", "trials") for what, numbers in notes.items() if numbers]
    if by != objective:
        ranked_by, optimised = words.metric_name(by), words.metric_name(objective)
        told.insert(
            0, f"Ranked by {ranked_by}; the search optimised {optimised}, by which trials were stopped early, too."
        )
    if by not in ("accuracy", "log_loss") and (absent := _absent(folder)):
        told.append(words.capital(_WITHOUT_IMAGES[by.startswith("macro")].format(words.metric_name(by), absent)))
    not_chosen = confirmation and chosen is None and by == objective
    package = load_json(folder.model / "metrics.json")
    refit = None  # of a search that has not ended
    if package is not None and "test" in package:
        refit = with_intervals(folder, package, by, groups)
    if package is None and (folder.model / "metrics.json").exists():
        told.append(
            "model/metrics.json cannot be read, so what was handed over and its test score are not known: "
            f"automl refit {folder.argument} makes it anew."
        )
    if refit is not None and refit.get("note"):
        told.append(f"Of the model that was handed over: {refit['note']}.")
    return Leaderboard(
        study=folder.name,
        metric=by,
        direction="maximize" if larger else "minimize",
        stop_reason=attrs.get("stop_reason"),
        rows=rows,
        failures=tuple(failure(trial, folder) for trial in finished if not is_ranked(trial)),
        refit=refit,
        ranked={name: sum(row.state == state for row in rows) for name, state in _RANKED.items()},
        counts={state.name: sum(trial.state == state for trial in trials) for state in TrialState},
        validation_images=sure.images,
        rules=(*CONFIRMED_RULES, chosen.rule) if chosen else RULES,
        notes=tuple(told),
        trained_again=tuple(not_chosen_by(folder, study, ranked, scores, by)) if not_chosen else (),
        best_corrected=sure.corrected,
        confirmation=chosen,
    )


def _scores(
    trials: Sequence[FrozenTrial], scored: Sequence[Scored], by: str, objective: str
) -> tuple[dict[int, float], list[int]]:
    """Return what each trial is ranked by, and the trials whose predictions are of another epoch than their score.

    The objective's value was told to the study; another metric comes from the predictions, or else from what the trial
    reported with its last epoch.
    """
    measured = {
        n: value for each in scored for n, value in zip(each.numbers.tolist(), each.scores.tolist(), strict=True)
    }
    found: dict[int, float] = {}
    stale = []
    for trial in trials:
        number = trial.number
        told = score_of(trial) if by == objective else (trial.user_attrs.get("metrics") or {}).get(by)
        from_file = measured.get(number)
        if told is not None and from_file is not None and abs(told - from_file) > _SAME_SCORE:
            stale.append(number)
            from_file = None
        value = told if by == objective or from_file is None else from_file
        if value is not None and math.isfinite(value):
            found[number] = value
    return found, stale


_WITHOUT_IMAGES = (
    "{} is the mean over the classes that the validation images have; left out: {}.",
    "{} counts a class without validation images as 0 where a trial predicts it, as scikit-learn does; what that class "
    "is worth is in no interval: {}.",
)


def _absent(folder: StudyFolder) -> str:
    """Name the classes of which there are no validation images."""
    counts = (load_audit(folder) or {}).get("counts", {})
    return _list([label for label, by_split in counts.items() if not by_split.get("validation")])


def _list(numbers: Sequence[Any]) -> str:
    shown = ", ".join(map(str, numbers[:10]))
    return f"{shown} and {len(numbers) - 10} more" if len(numbers) > 10 else shown

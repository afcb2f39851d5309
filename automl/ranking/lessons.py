"""What a search took from earlier studies, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import FrozenTrial

from automl.ranking import words
from automl.search.taken import Considered, LeftOut, WarmStart

if TYPE_CHECKING:
    from automl.ranking.leaderboard import Leaderboard

__all__ = ["Lesson", "Lessons", "lesson_lines", "lessons"]

_LINES = 6


@dataclass(frozen=True)
class Lesson:
    """A configuration of an earlier study: its trial and `score` there (in the `metric` of that study), what of it was
    `moved` into this space, and its trial, rank and score here; None where it has none."""

    study: str
    trial: int
    metric: str
    score: float
    params: Mapping[str, Any]
    moved: tuple[str, ...]
    trial_here: int | None
    rank_here: int | None
    score_here: float | None


@dataclass(frozen=True)
class Lessons:
    """All that is known of a warm start; `studies` are the earlier ones, the nearest first."""

    taken: tuple[Lesson, ...]
    studies: tuple[Considered, ...]
    left_out: tuple[LeftOut, ...]


def lessons(study: optuna.Study, board: Leaderboard) -> Lessons | None:
    """Return what `study` says of its warm start, with the ranks of `board`; None if it had none."""
    kept = study.user_attrs.get("warm_start")
    if not kept:
        return None
    found = WarmStart.from_dict(kept)
    trials = study.get_trials(deepcopy=False)
    attempts: dict[int, list[int]] = {}
    for trial in trials:
        attempts.setdefault(int(trial.user_attrs.get("root", trial.number)), []).append(trial.number)
    here: dict[tuple[str, int], list[int]] = {}
    for trial in trials:
        source = trial.user_attrs.get("warm_start")
        if source:
            here[source["study"], int(source["trial"])] = attempts.get(trial.number, [trial.number])
    rows = {row.trial: row for row in board.rows}
    taken = []
    for each in found.taken:
        numbers = here.get((each.study, each.trial)) or _same(each.params, trials, attempts)
        row = next((rows[number] for number in reversed(numbers) if number in rows), None)
        taken.append(
            Lesson(
                study=each.study, trial=each.trial, metric=each.metric, score=each.score, params=each.params,
                moved=each.moved, trial_here=row.trial if row else max(numbers, default=None),
                rank_here=row.rank if row else None, score_here=row.score if row else None,
            )
        )  # fmt: skip
    return Lessons(tuple(taken), found.studies, found.left_out)


def _same(params: Mapping[str, Any], trials: Sequence[FrozenTrial], attempts: Mapping[int, list[int]]) -> list[int]:
    """Return the attempts at `params` by a trial that was begun for another reason, so that it was not begun again."""
    for trial in trials:
        if trial.params and trial.number in attempts and trial.params.items() <= params.items():
            return attempts[trial.number]
    return []


def lesson_lines(board: Leaderboard, found: Lessons | None) -> list[str]:
    """Return a line for every configuration taken, and for what was not used."""
    if found is None:
        return []
    lines = []
    for each in found.taken:
        source = f"trial {each.trial} of {each.study} ({words.number(each.metric, each.score)} there)"
        moved = f"; moved: {', '.join(each.moved)}" if each.moved else ""
        if each.score_here is not None:
            outcome = (
                f"trial {each.trial_here} here, rank {each.rank_here}, {words.number(board.metric, each.score_here)}"
            )
        elif each.trial_here is not None:
            outcome = f"trial {each.trial_here} here, which has no score"
        else:
            outcome = "not tried: its turn has not come, or no time was left for it"
        lines.append(f"Warm start: {source}: {outcome}{moved}")
    lines += [f"Warm start: {each.study} is not used: {each.why}" for each in found.studies if each.why]
    lines += [
        f"Warm start: trial {each.trial} of {each.study} is not taken: {each.why}" for each in found.left_out[:_LINES]
    ]
    if len(found.left_out) > _LINES:
        lines.append(f"Warm start: {len(found.left_out) - _LINES} more are not taken; leaderboard.json has all")
    return lines

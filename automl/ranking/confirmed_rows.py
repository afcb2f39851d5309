"""What a confirmation does to the rows of a leaderboard, and when it counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import optuna
from optuna.trial import FrozenTrial

from automl.paths import StudyFolder
from automl.ranking import words
from automl.ranking.confirmed import Confirmation, choose
from automl.ranking.ranks import confirmation_of

if TYPE_CHECKING:
    from automl.ranking.leaderboard import Row

__all__ = ["confirmed_first", "cut_short", "valid_confirmation"]


def valid_confirmation(folder: StudyFolder, study: optuna.Study, ranked: Sequence[FrozenTrial]) -> Confirmation | None:
    """Return the confirmation if it is over and is one of what is `ranked` now."""
    kept, numbers = confirmation_of(study), [trial.number for trial in ranked]
    if not numbers or kept.get("winner") not in numbers or numbers[0] not in kept["trials"]:
        return None
    found = choose(folder, study)
    if found is None or all(each.trial != kept["winner"] for each in found.trials):
        return None
    return replace(found, winner=int(kept["winner"]), why=str(kept["why"]))


def cut_short(study: optuna.Study, scores: Mapping[int, float], metric: str) -> list[str]:
    """Say what came of trainings of the best on new splits by which nothing is chosen."""
    done = [each for each in confirmation_of(study).get("done", []) if each["trial"] in scores]
    if not done:
        return []
    if confirmation_of(study).get("winner") is not None:
        return ["What was chosen by training the best again no longer counts: another trial leads here."]
    each_one = (
        f"trial {each['trial']} {words.number(metric, each['score'])} (in the search "
        f"{words.number(metric, scores[each['trial']])})"
        for each in done[:10]
    )
    return [
        f"Training the best again was cut short, so nothing was chosen by it. On new splits: {', '.join(each_one)}."
    ]


def confirmed_first(rows: tuple[Row, ...], found: Confirmation, *, larger: bool) -> tuple[Row, ...]:
    """Return `rows` ranked anew: the winner, then the others that were trained again by their means, then the rest."""
    order = {each.trial: each for each in (found.chosen, *found.trials)}
    by_trial = {row.trial: row for row in rows}
    first = [
        replace(
            by_trial[number],
            tied_with_best=number == found.winner or each.tied,
            behind_best_ci95=None if number == found.winner else _signed(each.behind_best_ci95, larger),
            confirmed_score=each.score,
            confirmed_ci95=each.ci95,
        )
        for number, each in order.items()
        if number in by_trial
    ]
    rest = [row for row in rows if row.trial not in order]
    return tuple(replace(row, rank=rank) for rank, row in enumerate([*first, *rest], start=1))


def _signed(limits: tuple[float, float] | None, larger: bool) -> tuple[float, float] | None:
    """Turn limits of "how much better" into those of a difference of scores."""
    return limits if larger or limits is None else (-limits[1], -limits[0])

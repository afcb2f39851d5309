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
from automl.ranking.statistics import BestCorrected, of_both
from automl.search.lock import driver_of

if TYPE_CHECKING:
    from automl.ranking.leaderboard import Row

__all__ = ["confirmed_first", "not_chosen_by", "valid_confirmation", "with_search"]


def valid_confirmation(folder: StudyFolder, study: optuna.Study, ranked: Sequence[FrozenTrial]) -> Confirmation | None:
    """Return the confirmation if it is over and is one of what is `ranked` now, which may be a part of the study; then
    the winner is chosen among those that are left of it."""
    kept = confirmation_of(study)
    if not ranked or kept.get("winner") is None or ranked[0].number not in kept["trials"]:
        return None
    return choose(folder, study, winner=int(kept["winner"]))


def with_search(
    found: Confirmation, rows: Sequence[Row], corrected: BestCorrected | None, *, larger: bool
) -> Confirmation:
    """Return `found` with what its winner showed in the search, where it was trained again only once.

    Args:
        rows: Of the search, the best first.
        corrected: Of the first of these.
    """
    row = next((each for each in rows if each.trial == found.winner), None)
    if row is None or row.ci95 is None or corrected is None or found.runs != 1:
        return found
    if found.expected is None or found.expected_ci95 is None or not found.chosen.scores:
        return found
    expected, limits = of_both(
        found.expected, found.expected_ci95, row.score, row.ci95, corrected.value, larger=larger
    )  # fmt: skip
    bounded = max(0.0, limits[0]), limits[1]
    return replace(found, expected=expected, expected_ci95=bounded, with_search=True)


def not_chosen_by(
    folder: StudyFolder, study: optuna.Study, ranked: Sequence[FrozenTrial], scores: Mapping[int, float], metric: str
) -> list[str]:
    """Say what came of training the best again, where nothing is chosen by it: not yet, or for good."""
    kept = confirmation_of(study)
    done = [each for each in kept.get("done", []) if each["trial"] in scores]
    if not done:
        return []
    if kept.get("winner") is not None:
        if ranked[0].number in kept["trials"]:
            return ["Only one of the trials that were trained again is among these, so nothing is chosen by that."]
        return [f"Trial {ranked[0].number}, which leads here, is not among those that were trained again."]
    each_one = (
        f"trial {each['trial']} {words.number(metric, each['score'])} (in the search "
        f"{words.number(metric, scores[each['trial']])})"
        for each in done[:10]
    )
    where = "On new splits" if kept.get("redrawn", True) else "With new seeds, on the same validation images"
    state = "Training the best again was cut short, so nothing was chosen by it."
    if driver_of(folder) is not None and study.user_attrs.get("stop_reason") and "over" not in kept:
        wanted = int(kept["runs"]) * len(kept["trials"])
        state = f"The best are being trained again, {len(kept['done'])} of {words.count(wanted, 'run')} done so far."
    return [
        f"{state} {where}: {', '.join(each_one)}. "
        "The intervals of the search are of its images; what another seed or split changes is not in them."
    ]


def confirmed_first(rows: tuple[Row, ...], found: Confirmation, *, larger: bool) -> tuple[Row, ...]:
    """Return `rows` ranked anew: the winner, then the others that were trained again and are tied by their means, then
    what is tied of the rest, then what was trained again and is behind, then the rest.

    The rest were compared with the first of the search only. What is tied with that is tied with the winner as long as
    those two cannot be told apart; where that did not win, how far the rest are behind the winner is not known.
    """
    order = {each.trial: each for each in (found.chosen, *found.trials)}
    by_trial = {row.trial: row for row in rows}
    first = [
        replace(
            by_trial[number],
            tied_with_best=number == found.winner or each.tied,
            behind_best_ci95=None if number == found.winner else _signed(each.behind_best_ci95, larger),
            confirmed_score=each.score if each.scores else None,
            confirmed_ci95=each.ci95 if each.scores else None,
        )
        for number, each in order.items()
        if number in by_trial
    ]
    rest = [row for row in rows if row.trial not in order]
    if rows[0].trial != found.winner:
        still = any(each.trial == rows[0].trial and each.tied for each in found.trials)
        rest = [replace(row, tied_with_best=still and row.tied_with_best, behind_best_ci95=None) for row in rest]
    ordered = sorted([*first, *rest], key=lambda row: (row.trial != found.winner, not row.tied_with_best))
    return tuple(replace(row, rank=rank) for rank, row in enumerate(ordered, start=1))


def _signed(limits: tuple[float, float] | None, larger: bool) -> tuple[float, float] | None:
    """Turn limits of "how much better" into those of a difference of scores."""
    return limits if larger or limits is None else (-limits[1], -limits[0])

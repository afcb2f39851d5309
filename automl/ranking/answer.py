"""The answer: what a leaderboard comes to, in plain sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from automl.ranking import words

if TYPE_CHECKING:
    from automl.ranking.confirmed import Confirmation
    from automl.ranking.leaderboard import Leaderboard, Row
    from automl.ranking.statistics import BestCorrected

__all__ = ["answer"]

FEW_TEST_IMAGES = 100


def answer(board: Leaderboard) -> list[str]:
    """Return the outcome of the search in plain sentences."""
    best = board.best
    if best is None:
        failed = f" {words.count(len(board.failed), 'trial')} ended without a score." if board.failed else ""
        return [f"No trial has a score yet.{failed}"]
    images = f" on {words.count(board.validation_images, 'validation image')}" if board.validation_images else ""
    scored = (
        f"{words.number(board.metric, best.score)} {words.metric_name(board.metric)}{images}"
        + (f", 95 % interval {words.bounds(board.metric, best.ci95)}." if best.ci95 else "; no interval.")
    )  # fmt: skip
    name = f"{words.short(best.backbone)} (trial {best.trial})"
    sentences = [f"{name} leads with {scored}"]
    if board.confirmation is not None:
        sentences = [_confirmed(board, name, board.confirmation), f"In the search it had {scored}"]
    if best.state == "PRUNED":
        sentences.append("No trial has finished: this one was pruned, and its score is that of an early epoch.")
    elif best.ci95:
        sentences.append(_ties(board))
    if board.best_corrected is not None:
        if board.confirmation is None:
            sentences.append(_luck(board.metric, board.best_corrected))
        elif board.confirmation.redrawn:
            sentences.append(_searched(board, board.best_corrected))
    sentences += board.trained_again
    test = words.test_score(board)
    if test is not None:
        refitted = (board.refit or {}).get("trial")
        who = "it" if refitted in (best.trial, None) else f"trial {refitted}"
        on = int((board.refit or {}).get("trained_on") or 0)
        how = _retrained(board) if words.retrained(board) else "Handed over as its trial left it, without a refit"
        if on:
            epochs = words.count(on, "epoch")
            how = f"Trained on for {epochs} with the validation images, there being no time for a refit"
        limits = words.test_interval(board)
        sure = f" (95 % interval {words.bounds(board.metric, limits)})" if limits else ""
        tested = int(((board.refit or {}).get("test") or {}).get("images") or 0)
        those = f"the {words.count(tested, 'test image')}" if tested else "the test images"
        few = " So few say little." if 0 < tested < FEW_TEST_IMAGES else ""
        sentences.append(f"{how}, {who} scored {words.number(board.metric, test)}{sure} on {those}.{few}")
    elif known := (board.refit or {}).get("test"):
        name, low_high = words.metric_name(board.metric), known.get("ci95")
        sure = f" (95 % interval {words.bounds('accuracy', (low_high[0], low_high[1]))})" if low_high else ""
        sentences.append(
            f"{words.capital(name)} of the test images is not known; their accuracy is "
            f"{words.number('accuracy', known.get('accuracy'))}{sure}."
        )
    elif board.refit is None:
        sentences.append("It has not been retrained in full yet, so no test score is known.")
    return sentences


def _retrained(board: Leaderboard) -> str:
    """Say for how long the model was retrained, where there was no time for all of its epochs."""
    refit = board.refit or {}
    row = next((each for each in board.rows if each.trial == refit.get("trial")), None)
    wanted, epochs = (row.spec.get("epochs") if row else None), refit.get("epochs")
    if wanted is None or epochs is None or epochs >= wanted:
        return "Retrained in full"
    return f"Retrained for {epochs} of its {words.count(wanted, 'epoch')}"


def _confirmed(board: Leaderboard, name: str, found: Confirmation) -> str:
    metric, once = board.metric, found.runs == 1
    often = "once" if once else f"{found.runs} times"
    where = ("on a new split" if once else "on new splits") if found.redrawn else "on the same validation images"
    expected = ""
    if found.expected is not None:
        less, what, only = "Less the luck of being chosen by that", "95 % interval", ""
        if found.with_search:
            less = "One run does not show what a seed changes, so with what its score in the search is worth"
            what = "95 % intervals of both together"
        elif once:
            only = ", of the images alone: one run does not show what a seed changes"
        less = less if found.chosen.scores else "By that"
        limits = words.bounds(metric, found.expected_ci95)
        expected = f" {less}, expect {words.number(metric, found.expected)} ({what} {limits}{only}) on new images."
    elif not found.redrawn and board.best_corrected is not None:
        expected = (
            " These images picked it before, so expect less on new ones: of the best score of the search, that picking "
            f"accounts for about {words.difference(metric, board.best_corrected.luck)}."
        )
    if not found.chosen.scores:
        return f"{name} was chosen: {found.why}.{expected}"
    return (
        f"{name} was chosen: trained again {often} {where}, as {len(found.again)} of the best were, it scored "
        f"{words.number(metric, found.chosen.score)} {'there' if once else 'on average'}; {found.why}.{expected}"
    )


def _searched(board: Leaderboard, found: BestCorrected) -> str:
    """What the best score of the search is worth, where others than its trial may have been chosen since."""
    metric, sign = board.metric, 1 if board.direction == "maximize" else -1
    score = words.number(metric, found.value + sign * found.luck)
    return (
        f"The best score of the search, {score}, was picked from {found.trials:,}: less the luck of that it is worth "
        f"{words.number(metric, found.value)} (95 % interval {words.bounds(metric, found.ci95)})."
    )


def _luck(metric: str, found: BestCorrected) -> str:
    expected = f"{words.number(metric, found.value)} (95 % interval {words.bounds(metric, found.ci95)})"
    if found.trials == 1:
        return f"No other trial was compared, so its score owes nothing to picking: expect {expected} on new images."
    picked = f"It was picked as the best of {found.trials:,}"
    if not float(words.difference(metric, found.luck).partition(" ")[0]):
        return f"{picked}, of whose luck nothing could be measured on these images: expect {expected} on new ones."
    luck = words.difference(metric, found.luck)
    return f"{picked}, which accounts for about {luck} of its score: expect {expected} on new images."


def _ties_again(board: Leaderboard, found: Confirmation) -> str:
    """Say what is tied with the winner, of those that were trained again and of the others."""
    others = [each for each in found.again if each.trial != found.winner]
    alike, one = sum(each.tied for each in others), len(others) == 1
    if not alike:
        them = (
            "The other one that was trained again is"
            if one
            else f"All {'others' if found.chosen.scores else len(others)} that were trained again are"
        )
        sentence = f"{them} behind the best mean by more than chance explains."
    else:
        them = "The other one that was trained again"
        them = (
            them
            if one
            else f"Of {len(others)} {'others ' if found.chosen.scores else ''}that were trained again {alike}"
        )
        verb = "is" if alike == 1 else "are"
        sentence = f"{them} {verb} tied: by these runs not to be told apart from the best mean."
    again = {each.trial for each in found.trials}
    rest = [row for row in board.tied if row.trial not in again]
    if rest:
        named = ", ".join(str(row.trial) for row in rest[:5]) + (" and more" if len(rest) > 5 else "")
        sentence += (
            f" {words.count(len(rest), 'trial')} not trained again ({named}) cannot be told apart from the first of "
            "the search either: at most ten are trained again, and as many as there is time for."
        )
    return sentence


def _ties(board: Leaderboard) -> str:
    compared = [row for row in board.rows[1:] if row.behind_best_ci95 is not None]
    tied: tuple[Row, ...] = board.tied
    if board.confirmation is not None:
        return _ties_again(board, board.confirmation)
    if not compared:
        return "No other finished trial could be compared with it."
    if not tied and len(compared) == 1:
        return "The only other finished trial is behind it by more than chance explains."
    if not tied:
        return f"All {words.count(len(compared), 'other finished trial')} are behind it by more than chance explains."
    verb = "is" if len(tied) == 1 else "are"
    sentence = (
        f"{len(tied)} of {words.count(len(compared), 'other finished trial')} {verb} tied with it: "
        "on these images they cannot be told apart."
    )
    timed = [row for row in (*tied, *board.rows[:1]) if row.latency_ms is not None]
    fastest = min(timed, key=lambda row: (row.latency_ms or 0.0, row.rank), default=None)
    if fastest is not None and board.best is not None and (fastest.latency_ms or 0) < (board.best.latency_ms or 0):
        sentence += (
            f" The fastest of them is {words.short(fastest.backbone)} (trial {fastest.trial}): "
            f"{words.milliseconds(fastest.latency_ms)} an image instead of {words.milliseconds(board.best.latency_ms)}."
        )
    return sentence

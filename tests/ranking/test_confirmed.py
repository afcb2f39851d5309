from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from automl.paths import StudyFolder, make_folder
from automl.ranking import leaderboard, report, tables, terminal, words
from automl.ranking.answer import answer
from automl.ranking.confirmed import Confirmation, choose
from automl.ranking.facts import schema
from automl.ranking.ranks import best_trial
from automl.search.lock import driver_lock
from automl.search.snapshot import view
from tests.ranking.html import Page
from tests.ranking.test_numbers import at

RUNS = 3


def predictions(path: Path, right: np.ndarray, rows: np.ndarray) -> None:
    targets = rows % 3
    logits = np.zeros((len(rows), 3), dtype=np.float32)
    logits[np.arange(len(rows)), np.where(right, targets, (targets + 1) % 3)] = 4.0
    make_folder(path.parent)
    buffer = io.BytesIO()
    np.savez(buffer, logits=logits, targets=targets, rows=rows)
    path.write_bytes(buffer.getvalue())


def study_of(
    folder: StudyFolder,
    search: list[float],
    again: list[float],
    latencies: list[float],
    *,
    images: int = 200,
    alike: bool = True,
    devices: list[str] | None = None,
) -> optuna.Study:
    """A study of finished trials that scored `search`, of which the first were trained again with accuracies `again`.

    `alike`: the better ones are right where the worse ones are, and elsewhere, too.
    """
    rng = np.random.default_rng(0)
    make_folder(folder.root)
    study = optuna.create_study(direction="maximize")
    study.set_user_attr("metric", "accuracy")
    attrs: dict[str, Any] = {"reason": "complete", "max_epochs": 4, "epochs": 4, "model_parameters": 1000}
    for number, (value, latency) in enumerate(zip(search, latencies, strict=True)):
        own = {"latency_ms": latency, "spec": {"backbone": "timm/a"}, "device": devices[number] if devices else "cpu"}
        study.add_trial(create_trial(value=value, user_attrs={**attrs, **own}))
        right = np.arange(images) < round(value * images)
        predictions(folder.trial(number).validation_logits, rng.permutation(right), np.arange(images))
    done = []
    for run in range(1, RUNS + 1):
        rows, order = np.sort(rng.choice(1000, images, replace=False)), rng.permutation(images)
        for number, accuracy in enumerate(again):
            right = (order if alike else rng.permutation(images)) < round(accuracy * images)
            predictions(folder.confirmation(number, run).validation_logits, right, rows)
            done.append({"trial": number, "run": run, "score": float(right.mean()), "seconds": 1.0,
                         "train_images": 800, "validation_images": images})  # fmt: skip
    kept: dict[str, Any] = {"trials": list(range(len(again))), "runs": RUNS, "done": done, "failed": {}}
    study.set_user_attr("confirmation", kept)
    return study


def decided(study: optuna.Study, found: Confirmation) -> None:
    kept = study.user_attrs["confirmation"]
    study.set_user_attr("confirmation", {**kept, "winner": found.winner, "why": found.why})


def test_the_best_mean_wins_although_it_was_not_first(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    study = study_of(folder, [0.98, 0.96, 0.94], [0.90, 0.95, 0.85], [5.0, 9.0, 1.0])
    found = choose(folder, study)
    assert found is not None
    assert [each.trial for each in found.trials] == [1, 0, 2]
    assert (found.winner, found.chosen.score, found.runs) == (1, pytest.approx(0.95), RUNS)
    assert found.trials[1].behind_best == pytest.approx(0.05)
    assert not found.trials[2].tied
    low, high = found.expected_ci95 or (1.0, 0.0)
    assert low < 0.95 < high
    assert found.expected == pytest.approx(0.95)  # every run alone would have picked it


def test_the_cheapest_within_a_standard_error_wins_and_says_so(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    study = study_of(folder, [0.96, 0.96, 0.96], [0.95, 0.945, 0.80], [20.0, 5.0, 1.0], alike=False)
    found = choose(folder, study)
    assert found is not None
    assert found.winner == 1
    assert "20.0 ms an image instead of 5.0 ms" in found.why
    assert "trial 0, which is 0.5 points better" in found.why
    assert "within" not in found.rule.partition("Then come")[2]
    assert "no more than one standard error" in found.rule


def test_latencies_of_two_devices_are_not_compared(tmp_path: Path) -> None:
    """A study that went on elsewhere has latencies of both machines."""
    folder = StudyFolder(tmp_path)
    study = study_of(folder, [0.96, 0.96], [0.95, 0.945], [20.0, 5.0], alike=False, devices=["cuda", "cpu"])
    found = choose(folder, study)
    assert found is not None
    assert (found.winner, found.why) == (0, "it has the best mean, and none that is a tenth cheaper is within a "
                                            "standard error of it")  # fmt: skip
    elsewhere = StudyFolder(tmp_path / "one")
    alone = study_of(elsewhere, [0.96, 0.96], [0.95, 0.945], [20.0, 5.0], alike=False, devices=["cpu", "cpu"])
    assert choose(elsewhere, alone).winner == 1  # type: ignore[union-attr]


def test_of_runs_of_unequal_size_every_image_counts_once(tmp_path: Path) -> None:
    """Whole groups go to one side of a split, so one run may have more images: all that is said is of one mean."""
    folder = StudyFolder(tmp_path)
    study = study_of(folder, [0.96, 0.96], [0.9, 0.9], [9.0, 9.0])
    done = []
    for run, images, of_both in ((1, 80, (0.95, 0.85)), (2, 120, (0.80, 0.90))):
        for number, accuracy in enumerate(of_both):
            right = np.arange(images) < round(accuracy * images)
            predictions(folder.confirmation(number, run).validation_logits, right, np.arange(images))
            done.append({"trial": number, "run": run, "score": accuracy, "seconds": 1.0,
                         "train_images": 800, "validation_images": images})  # fmt: skip
    study.set_user_attr("confirmation", {**study.user_attrs["confirmation"], "done": done})
    found = choose(folder, study)
    assert found is not None
    assert (found.winner, found.chosen.score) == (1, pytest.approx(0.88))
    behind = found.trials[1]
    assert (behind.score, behind.behind_best) == (pytest.approx(0.86), pytest.approx(0.02))
    low, high = behind.behind_best_ci95 or (1.0, 1.0)
    assert (low + high) / 2 == pytest.approx(0.02)
    assert "it has the best mean" in found.why


def test_before_it_is_decided_the_search_ranks(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    study = study_of(folder, [0.98, 0.96], [0.90, 0.95], [5.0, 5.0])
    first = best_trial(study)
    assert first is not None
    assert first.number == 0
    board = leaderboard.build(folder, study=study)
    assert board.confirmation is None
    (told,) = board.trained_again
    assert "cut short" in told
    assert "trial 0 90.0 % (in the search 98.0 %)" in told
    assert told in answer(board)  # beside what the search leads one to expect


def test_while_the_best_are_trained_again_it_says_how_far_it_is(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    study = study_of(folder, [0.98, 0.96], [0.90, 0.95], [5.0, 5.0])
    kept = study.user_attrs["confirmation"]
    study.set_user_attr("stop_reason", "trials")
    study.set_user_attr("confirmation", {**kept, "done": kept["done"][:3]})

    def told() -> str:
        (sentence,) = leaderboard.build(folder, study=study).trained_again
        return sentence

    with driver_lock(folder):
        assert "The best are being trained again, 3 of 6 runs done so far." in told()
        assert "cut short" not in told()
        study.set_user_attr("confirmation", {**kept, "done": kept["done"][:3], "over": True})
        assert "cut short, so nothing was chosen by it" in told()
    study.set_user_attr("confirmation", {**kept, "done": kept["done"][:3]})
    assert "cut short" in told()  # its driver was killed


def test_cut_off_in_the_first_run_those_that_had_theirs_are_chosen_from(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    study = study_of(folder, [0.98, 0.96, 0.94], [0.90, 0.95, 0.99], [5.0, 5.0, 5.0])
    kept = study.user_attrs["confirmation"]
    done = [each for each in kept["done"] if each["run"] == 1]
    study.set_user_attr("confirmation", {**kept, "done": done[:2]})
    found = choose(folder, study)
    assert found is not None
    assert ([each.trial for each in found.trials], found.winner, found.runs) == ([1, 0], 1, 1)
    decided(study, found)
    board = leaderboard.build(folder, study=study)
    assert "with what its score in the search is worth, expect" in answer(board)[0]
    assert board.confirmation is not None
    assert found.expected is not None
    assert found.expected_ci95 is not None
    assert board.confirmation.expected_ci95 is not None
    row = next(each for each in board.rows if each.trial == 1)
    assert board.best_corrected is not None
    searched = min(row.score, board.best_corrected.value)
    assert board.confirmation.expected == pytest.approx((found.expected + searched) / 2)
    low, high = board.confirmation.expected_ci95
    assert low < min(found.expected, searched) <= max(found.expected, searched) < high
    assert high - low > found.expected_ci95[1] - found.expected_ci95[0]
    study.set_user_attr("confirmation", {**kept, "done": done[:1]})
    assert choose(folder, study) is None


def test_no_other_is_chosen_in_place_of_the_best_of_the_search_that_was_cut_off(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    study = study_of(folder, [0.98, 0.96, 0.94], [0.90, 0.95, 0.99], [5.0, 5.0, 5.0])
    kept = study.user_attrs["confirmation"]
    others = [each for each in kept["done"] if each["trial"] != 0]
    study.set_user_attr("confirmation", {**kept, "done": others})
    assert choose(folder, study) is None
    first = best_trial(study)
    assert first is not None
    assert first.number == 0
    study.set_user_attr("confirmation", {**kept, "done": others, "failed": {"0": "diverged after 1 epochs"}})
    found = choose(folder, study)
    assert found is not None
    assert (found.winner, [each.trial for each in found.trials]) == (2, [2, 1])


def test_beside_the_confirmed_stands_what_the_best_of_the_search_is_worth(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    study = study_of(folder, [0.98, 0.96, 0.94], [0.90, 0.95], [5.0, 5.0, 5.0])
    found = choose(folder, study)
    assert found is not None
    decided(study, found)
    board = leaderboard.build(folder, study=study)
    assert board.best_corrected is not None
    worth = words.number(board.metric, board.best_corrected.value)
    (told,) = [each for each in answer(board) if each.startswith("The best score of the search")]
    assert told.startswith(
        f"The best score of the search, 98.0 %, was picked from 3: less the luck of that it is worth {worth}"
    )
    assert words.bounds(board.metric, board.best_corrected.ci95) in told
    assert told in tables.to_markdown(board)


def test_of_a_part_of_the_study_the_winner_is_among_what_is_left(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    study = study_of(folder, [0.98, 0.96, 0.94, 0.93], [0.90, 0.95, 0.85], [5.0, 5.0, 5.0, 5.0])
    found = choose(folder, study)
    assert found is not None
    decided(study, found)
    assert found.winner == 1

    def without(*numbers: int) -> leaderboard.Leaderboard:
        return leaderboard.build(folder, study=view(study, [t for t in study.trials if t.number not in numbers]))

    for left_out, winner in ((3, 1), (2, 1), (1, 0)):
        board = without(left_out)
        assert board.confirmation is not None, left_out
        assert board.confirmation.winner == board.rows[0].trial == winner
    board = without(1, 2)
    assert (board.confirmation, board.rows[0].trial) == (None, 0)
    assert "Only one of the trials that were trained again" in board.trained_again[0]


def test_validation_images_that_were_given_are_no_new_split(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    study = study_of(folder, [0.98, 0.96], [0.95, 0.90], [5.0, 5.0])
    study.set_user_attr("confirmation", {**study.user_attrs["confirmation"], "redrawn": False})
    found = choose(folder, study)
    assert found is not None
    assert (found.expected, found.redrawn) == (None, False)
    decided(study, found)
    board = leaderboard.build(folder, study=study)
    first = answer(board)[0]
    assert "on the same validation images" in first
    assert "These images picked it before, so expect less on new ones" in first
    assert "new split" not in first
    assert "on the validation images that were given" in board.rules[-1]
    assert not any(
        "A finished trial is tied with the best" in rule for rule in board.rules
    )  # the winner is what others are tied with
    assert "on the same validation images" in tables.to_markdown(board)


def test_where_another_than_the_first_of_the_search_wins_its_ties_are_not_inherited(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    study = study_of(folder, [0.980, 0.975, 0.975, 0.970], [0.80, 0.95], [5.0, 5.0, 5.0, 5.0])
    assert any(row.tied_with_best for row in leaderboard.build(folder, study=study).rows[2:])
    found = choose(folder, study)
    assert found is not None
    decided(study, found)
    board = leaderboard.build(folder, study=study)
    assert [row.trial for row in board.rows[:2]] == [1, 0]
    assert not any(row.tied_with_best or row.behind_best_ci95 for row in board.rows[2:])
    assert "The other one that was trained again is behind the best mean" in answer(board)[2]
    assert board.best_by_backbone["timm/a"].trial == 0  # by the scores of the search


def test_ties_with_the_first_of_the_search_stay_while_that_is_tied_with_the_winner(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    study = study_of(folder, [0.980, 0.975, 0.975, 0.970], [0.940, 0.945], [5.0, 5.0, 5.0, 5.0], alike=False)
    tied = [row.trial for row in leaderboard.build(folder, study=study).rows[2:] if row.tied_with_best]
    assert tied
    found = choose(folder, study)
    assert found is not None
    assert found.winner == 1
    decided(study, found)
    board = leaderboard.build(folder, study=study)
    assert [row.trial for row in board.rows[2:] if row.tied_with_best] == tied
    assert not any(row.behind_best_ci95 for row in board.rows[2:])


def test_the_winner_of_more_is_expected_to_score_no_more_than_its_own_mean(tmp_path: Path) -> None:
    """A filter leaves the chosen one and a better one that was near enough to a third, which is not there."""
    folder = StudyFolder(tmp_path)
    study = study_of(folder, [0.98, 0.98, 0.97], [0.930, 0.935, 0.940], [5.0, 10.0, 20.0], alike=False)
    kept = study.user_attrs["confirmation"]
    for winner in (0, 1, 2):
        study.set_user_attr("confirmation", {**kept, "winner": winner, "why": "of old"})
        found = leaderboard.build(folder, study=study).confirmation
        assert found is not None
        assert found.winner == winner
        assert found.expected is not None
        assert found.expected <= found.chosen.score
        assert found.why == (choose(folder, study) or found).why or "of which some are not here" in found.why


def test_the_leaderboard_has_the_winner_first_then_the_confirmed(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    study = study_of(folder, [0.96, 0.98, 0.97, 0.5], [0.95, 0.90, 0.85], [5.0, 5.0, 5.0, 5.0])
    found = choose(folder, study)
    assert found is not None
    decided(study, found)
    board = leaderboard.build(folder, study=study)
    assert [(row.rank, row.trial) for row in board.rows] == [(1, 0), (2, 1), (3, 2), (4, 3)]
    assert board.rows[0].behind_best_ci95 is None
    assert board.rows[0].confirmed_score == pytest.approx(0.95)
    assert board.rows[3].confirmed_score is None
    assert (best_trial(study) or study.trials[3]).number == 0
    assert "was chosen: trained again 3 times on new splits, as 3 of the best were" in answer(board)[0]
    assert "expect 95.0 % (95 % interval" in answer(board)[0]
    assert answer(board)[1].startswith("In the search it had 96.0 % accuracy")
    assert "0 (chosen) | 95.0 %" in tables.to_markdown(board)
    assert "95.0 %" in terminal.table(board).splitlines()[2]
    unconfirmed = leaderboard.build(folder, study=study, confirmation=False)
    assert [row.trial for row in unconfirmed.rows] == [1, 2, 0, 3]
    by_another = leaderboard.build(folder, study=study, metric="macro_f1")
    assert by_another.confirmation is None


def test_a_better_trial_since_then_makes_it_void(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    study = study_of(folder, [0.96, 0.98], [0.95, 0.90], [5.0, 5.0])
    found = choose(folder, study)
    assert found is not None
    decided(study, found)
    study.add_trial(create_trial(value=0.99, user_attrs={"reason": "complete", "epochs": 4}))
    first = best_trial(study)
    assert first is not None
    assert first.number == 2
    board = leaderboard.build(folder, study=study)
    assert board.confirmation is None
    assert board.trained_again == ("Trial 2, which leads here, is not among those that were trained again.",)


def test_filters_that_leave_out_the_winner_leave_out_the_confirmation(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    study = study_of(folder, [0.96, 0.98], [0.95, 0.90], [5.0, 5.0])
    found = choose(folder, study)
    assert found is not None
    decided(study, found)
    board = leaderboard.build(folder, study=view(study, study.trials[1:]))
    assert board.confirmation is None
    assert [row.trial for row in board.rows] == [1]


def test_without_predictions_the_best_mean_wins_without_an_interval(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    study = study_of(folder, [0.96, 0.98], [0.95, 0.945], [20.0, 5.0])
    folder.confirmation(0, 2).validation_logits.write_bytes(b"torn")
    found = choose(folder, study)
    assert found is not None
    assert found.winner == 0
    assert found.chosen.ci95 is None
    assert found.expected is None
    assert "the best mean score there. Then" in found.rule


def test_only_runs_that_all_have_count_and_who_failed_is_out(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    study = study_of(folder, [0.96, 0.98, 0.97], [0.95, 0.90, 0.99], [5.0, 5.0, 5.0])
    kept = study.user_attrs["confirmation"]
    done = [each for each in kept["done"] if (each["trial"], each["run"]) not in ((0, 3), (2, 2))]
    study.set_user_attr("confirmation", {**kept, "done": done, "failed": {"2": "diverged after 1 epochs"}})
    found = choose(folder, study)
    assert found is not None
    assert (found.runs, [each.trial for each in found.trials]) == (2, [0, 1])
    assert found.failed == {"2": "diverged after 1 epochs"}
    none_complete = {**kept, "done": [each for each in done if each["trial"] == 0]}
    study.set_user_attr("confirmation", none_complete)
    assert choose(folder, study) is None


def test_what_there_was_no_time_to_train_again_is_chosen_if_it_is_ahead_where_nothing_was_picked(
    tmp_path: Path,
) -> None:
    """The first of the search turns out to be lucky; another that was trained again is chosen, which on the images of
    the search is behind a third."""
    folder = StudyFolder(tmp_path / "run")
    study = study_of(folder, [0.98, 0.90, 0.96], [0.91, 0.93], [5.0, 5.0, 5.0])
    for kept_out, winner in (([], 1), ([2], 2)):
        study.set_user_attr("confirmation", {**study.user_attrs["confirmation"], "no_time": kept_out})
        found = choose(folder, study)
        assert found is not None
        assert found.winner == winner
    assert found.chosen.score == pytest.approx(0.93 + 0.06)
    low, high = found.chosen.ci95 or (0.0, 0.0)
    confirmed = next(each for each in found.trials if each.trial == 1)
    assert confirmed.ci95 is not None
    assert high - low > confirmed.ci95[1] - confirmed.ci95[0]  # two errors
    assert found.expected is not None
    assert found.expected == pytest.approx(0.99, abs=0.02)
    assert "6.0 points better than trial 1" in found.why
    decided(study, found)
    first = best_trial(study)
    assert first is not None
    assert first.number == 2
    board = leaderboard.build(folder, study=study)
    assert [row.trial for row in board.rows] == [2, 1, 0]
    assert board.rows[0].confirmed_score is None
    assert board.confirmation == found
    sentence, *_, tied = answer(board)[:3]
    assert sentence.startswith("a (trial 2) was chosen: there was no time to train it again, but")
    assert "Of 2 that were trained again" in tied
    page = Page(report.write(folder, tmp_path / "reports", study=study).read_text("utf-8"))
    assert "not trained again, for lack of time" in page.text
    assert "Trained again: 2 configurations" in page.text


def test_what_there_was_no_time_to_train_again_is_not_chosen_if_it_is_behind(tmp_path: Path) -> None:
    study = study_of(StudyFolder(tmp_path), [0.98, 0.97, 0.96], [0.91, 0.93], [5.0, 5.0, 5.0])
    study.set_user_attr("confirmation", {**study.user_attrs["confirmation"], "no_time": [2]})
    found = choose(StudyFolder(tmp_path), study)
    assert found is not None
    assert found.winner == 1


def test_a_study_without_one(tmp_path: Path) -> None:
    study = optuna.create_study(direction="maximize")
    assert choose(StudyFolder(tmp_path), study) is None
    assert best_trial(study) is None
    study.add_trial(create_trial(state=TrialState.FAIL))
    assert leaderboard.build(StudyFolder(tmp_path), study=study).rows == ()


def test_the_page_shows_the_numbers_of_the_json(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "run")
    study = study_of(folder, [0.96, 0.98, 0.97], [0.95, 0.94, 0.85], [5.0, 5.0, 5.0], alike=False)
    kept = study.user_attrs["confirmation"]
    study.set_user_attr("confirmation", {**kept, "failed": {"2": "diverged <b>after</b> 1 epochs"}})
    found = choose(folder, study)
    assert found is not None
    decided(study, found)
    page = Page(report.write(folder, tmp_path / "reports", study=study).read_text("utf-8"))
    content = json.loads((tmp_path / "reports" / "run" / "leaderboard.json").read_text("utf-8"))
    jsonschema.validate(content, json.loads(schema()))
    shown = {path: float(value) for value, path, _ in page.numbers}
    confirmed = {path: value for path, value in shown.items() if path.startswith("/confirmation/")}
    assert confirmed == {path: at(content, path) for path in confirmed}
    assert {"/confirmation/expected", "/confirmation/expected_ci95/0", "/confirmation/trials/1/scores/2"} <= set(
        confirmed
    )
    assert page.sentences["/confirmation/why"] == found.why
    assert page.sentences["/confirmation/failed/2"] == "diverged <b>after</b> 1 epochs"

"""How well the seconds of trials were foreseen, in studies that ran: nothing is trained here.

    python -m benchmarks.foreseen runs/demo-1 runs/demo-2    (folders of studies, as the race leaves them)

Of every trial that ran alone to its end or to a rung, the seconds predicted when it started are compared with those it
took (`automl.ranking.costs`). Beside it stands what today's cost model would have predicted (*replayed*): from the
study's plan and the trials that had ended by then. A plan of before 2026-11-25 does not say what a step takes whatever
its images; there, seconds of a resolution without a trial of its own still follow from its pixels alone.

A line per study and kind of trial goes to `results/foreseen.csv`, replacing that of a study of the same name, and
`results/foreseen.md` has the medians. The record is of the race's studies (one resolution), demos, and those of
`benchmarks.warm_start` (`a-`, `b-`; three resolutions).
"""

from __future__ import annotations

import argparse
import copy
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from optuna.trial import FrozenTrial

from automl.data import Dataset
from automl.paths import StudyFolder, write_atomic
from automl.ranking.costs import foreseen
from automl.search.plan import load_plan
from automl.search.planning import cost_model
from automl.search.storage import load_study
from benchmarks.tables import markdown, merge

RESULTS = Path(__file__).parent / "results"


def rows_of(name: str, trials: list[FrozenTrial], again: list[FrozenTrial]) -> list[dict[str, Any]]:
    """Return a row for each kind of trial of the study `name`: all, those past the head, heads, and those past the
    head by resolution.

    Args:
        again: The same trials, of which other seconds are predicted.
    """
    errors = {what: _errors(each) for what, each in (("error", trials), ("replayed", again))}
    return [
        {"study": name, "trials of": kind, "trials": count, "error": error, "replayed": errors["replayed"][kind][1]}
        for kind, (count, error) in errors["error"].items()
    ]


def _errors(trials: list[FrozenTrial]) -> dict[str, tuple[int, float]]:
    """Return the number of trials and the median error of each kind of trial."""
    past = [each for each in trials if not each.user_attrs.get("from_embeddings")]
    heads = [each for each in trials if each.user_attrs.get("from_embeddings")]
    kinds = {"all": trials, "past the head": past, "heads": heads}
    for side in sorted({side_of(each) for each in past}):
        kinds[f"{side} px"] = [each for each in past if side_of(each) == side]
    return {
        kind: (found.trials, round(found.error, 4))
        for kind, several in kinds.items()
        for found in foreseen(several)
        if found.what == "all"
    }


def replayed(folder: StudyFolder, trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Return `trials` with the seconds that today's cost model predicts at their start, having learned from what had
    ended by then."""
    costs = cost_model(load_plan(folder.plan).screened, Dataset.load(folder.manifest, folder.audit))
    known = [
        each for each in trials if each.state.is_finished() and {"spec", "epoch_seconds"} <= each.user_attrs.keys()
    ]
    starts = [(each.datetime_start or datetime.max, 1, each.number) for each in known]
    ends = [(each.datetime_complete or datetime.max, 0, each.number) for each in known]
    found = {each.number: copy.deepcopy(each) for each in trials}
    for _, starting, number in sorted(starts + ends):
        attrs = found[number].user_attrs
        if starting:
            attrs["predicted_seconds"] = [costs.start_seconds(attrs["spec"]), costs.epoch_seconds(attrs["spec"])]
        else:
            costs.learn_from(found[number])
    return list(found.values())


def side_of(trial: FrozenTrial) -> int:
    return int((trial.user_attrs.get("spec") or {}).get("resolution", 0))


def table(rows: pd.DataFrame) -> str:
    """Return medians over studies, and the worst, as Markdown."""
    found = [
        {
            "trials of": kind,
            "studies": len(part),
            "trials": int(part["trials"].sum()),
            "median error, median of the studies": f"{100 * part['error'].median():.1f} %",
            "worst study": f"{100 * part['error'].max():.1f} %",
            "studies within 15 %": int((part["error"] <= 0.15).sum()),
            "replayed": f"{100 * part['replayed'].median():.1f} %",
            "worst study replayed": f"{100 * part['replayed'].max():.1f} %",
            "within 15 % replayed": int((part["replayed"] <= 0.15).sum()),
        }
        for kind, part in rows.groupby("trials of", sort=False)
    ]
    return markdown(pd.DataFrame(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="*", help="folders of studies")
    path = RESULTS / "foreseen.csv"
    for run in parser.parse_args().runs:
        folder = StudyFolder(run.resolve())
        trials = load_study(folder).get_trials()
        made = rows_of(run.name, trials, replayed(folder, trials))
        merge(path, pd.DataFrame(made), ["study", "trials of"])
    text = "# Seconds foreseen\n\n" + table(pd.read_csv(path))
    write_atomic(RESULTS / "foreseen.md", text)
    print(text)


if __name__ == "__main__":
    main()

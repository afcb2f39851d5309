"""How well the seconds of trials were foreseen, in studies that ran: nothing is trained here.

    python -m benchmarks.foreseen runs/demo-1 runs/demo-2    (folders of studies, as the race leaves them)

Of every trial that ran alone to its end or to a rung, the seconds predicted when it started are compared with those it
took (`automl.ranking.costs`). A line per study and kind of trial goes to `results/foreseen.csv`, replacing that of a
study of the same name, and `results/foreseen.md` has the medians. By resolution it shows what becomes of predictions
for sides that were not measured: the screening measures one and scales by pixels. The record is of the race's studies
(one resolution), a demo, and those of `benchmarks.warm_start` (`a-`, `b-`; three resolutions).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
from optuna.trial import FrozenTrial

from automl.paths import StudyFolder, write_atomic
from automl.ranking.costs import foreseen
from automl.search.storage import load_study
from benchmarks.curves.recorded import markdown, merge

RESULTS = Path(__file__).parent / "results"


def rows_of(name: str, trials: list[FrozenTrial]) -> list[dict[str, Any]]:
    """Return a row for each kind of trial of the study `name`: all, those past the head, heads, and those past the
    head by resolution."""
    past = [each for each in trials if not each.user_attrs.get("from_embeddings")]
    heads = [each for each in trials if each.user_attrs.get("from_embeddings")]
    kinds = {"all": trials, "past the head": past, "heads": heads}
    for side in sorted({side_of(each) for each in past}):
        kinds[f"{side} px"] = [each for each in past if side_of(each) == side]
    rows = []
    for kind, several in kinds.items():
        for found in foreseen(several):
            if found.what == "all":
                rows.append({"study": name, "trials of": kind, "trials": found.trials, "error": round(found.error, 4)})
    return rows


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
        }
        for kind, part in rows.groupby("trials of", sort=False)
    ]
    return markdown(pd.DataFrame(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="*", help="folders of studies")
    path = RESULTS / "foreseen.csv"
    known = pd.read_csv(path) if path.exists() else pd.DataFrame()
    for run in parser.parse_args().runs:
        made = rows_of(run.name, load_study(StudyFolder(run.resolve())).get_trials())
        known = merge(path, pd.DataFrame(made), ["study", "trials of"])
    text = "# Seconds foreseen\n\n" + table(known)
    write_atomic(RESULTS / "foreseen.md", text)
    print(text)


if __name__ == "__main__":
    main()

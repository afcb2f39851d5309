"""How alike trials of real studies are in which images they get right: what the simulated worlds assume.

    python -m benchmarks.selection.correlations runs/a runs/b    (folders of studies; a minute)

A trial is right on an image if a normal number of the pair is below a threshold, as in `worlds`. Of two trials that saw
the same validation images, the correlation of these numbers follows from how often both are right (tetrachoric
correlation; K. Pearson, Philosophical Transactions A 195, 1900). Pairs in which one trial has fewer than five mistakes,
or five hits, are left out: they say nothing. A row per study and kind of pair goes to `results/correlations.csv`,
replacing that of a study of the same name.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from optuna.trial import FrozenTrial
from scipy.optimize import brentq
from scipy.special import ndtri
from scipy.stats import multivariate_normal

from automl.paths import StudyFolder
from automl.ranking.files import load_predictions
from automl.search.storage import load_study
from benchmarks.tables import markdown, merge

RESULTS = Path(__file__).parent / "results"
LEAST = 5  # mistakes, and hits, of a trial
MOST = 0.999


def tetrachoric(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Return the correlation of the normal numbers behind two rows of hits, within ±0.999."""
    at = ndtri([one.mean(), other.mean()])
    both = float((one & other).mean())

    def excess(correlation: float) -> float:
        covariance = [[1.0, correlation], [correlation, 1.0]]
        return float(multivariate_normal.cdf(at, mean=[0.0, 0.0], cov=covariance)) - both

    if excess(MOST) <= 0:
        return MOST
    return -MOST if excess(-MOST) >= 0 else float(brentq(excess, -MOST, MOST, xtol=1e-4))


def kind_of(one: FrozenTrial, other: FrozenTrial) -> str:
    """Return the kind of a pair: whether heads on kept features are among it, and whether the backbone is the same."""
    heads = sum(bool(each.user_attrs.get("from_embeddings")) for each in (one, other))
    same = one.params["backbone"] == other.params["backbone"]
    return f"{('both trained past the head', 'one a head', 'two heads')[heads]}, {'one backbone' if same else 'two'}"


def rows_of(root: Path) -> list[dict[str, object]]:
    """Return a row for each kind of pair among the trials of the study in `root`."""
    folder, right = StudyFolder(root), {}
    trials = {
        each.number: each for each in load_study(folder).get_trials() if each.user_attrs.get("reason") == "complete"
    }
    for number in trials:
        found = load_predictions(folder.trial(number))
        if found is not None:
            right[number] = found.rows, found.labels == found.targets
    pairs: dict[str, list[float]] = {}
    for one, other in itertools.combinations(right, 2):
        if not np.array_equal(right[one][0], right[other][0]):
            continue
        hits = right[one][1], right[other][1]
        if all(LEAST <= each.sum() <= len(each) - LEAST for each in hits):
            pairs.setdefault(kind_of(trials[one], trials[other]), []).append(tetrachoric(*hits))
    return [
        {"study": root.name, "pairs of": kind, "pairs": len(found), "median": round(float(np.median(found)), 3)}
        for kind, found in sorted(pairs.items())
    ]


def table(rows: pd.DataFrame) -> str:
    """Return medians over studies as Markdown."""
    found = [
        {
            "pairs of": kind,
            "studies": len(part),
            "pairs": int(part["pairs"].sum()),
            "median of the studies' medians": f"{part['median'].median():.2f}",
            "lowest": f"{part['median'].min():.2f}",
            "highest": f"{part['median'].max():.2f}",
        }
        for kind, part in rows.groupby("pairs of")
    ]
    return markdown(pd.DataFrame(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="*", help="folders of studies")
    path = RESULTS / "correlations.csv"
    known = pd.read_csv(path) if path.exists() else pd.DataFrame()
    for run in parser.parse_args().runs:
        made = rows_of(run.resolve())
        if made:
            known = merge(path, pd.DataFrame(made), ["study", "pairs of"])
    print(table(known))


if __name__ == "__main__":
    main()

"""Real studies, to see whether their leaderboards told the truth.

    python -m benchmarks.real_studies --work data/real-studies       (about an hour and a half on two cores)
    python -m benchmarks.real_studies --only-tables

Simulated textiles at 128 px, Fashion-MNIST and digits at 64 px; of each and for every seed 600 images to train and
validate on and 600 others to test on. `automl search` runs 14 trials over EfficientNet-Lite0 and Lite1, trains the best
again, and refits the winner. Then each of the first ten of the leaderboard is retrained in full and scored on the test
images, as `automl refit --trial N` does it.

Asked is: does the score of the refit on the test images lie in the interval that was reported before? Do the first ten
stand in the order in which they end after the retraining (Kendall's τ)? What is lost by taking the first, and not the
one that is best after the retraining? The test images are a sample, too, so even a perfect interval misses some, and
the best of ten scores on them is partly luck: next to what it is ahead stands what it is ahead on images that did not
pick it (half of the images pick one of the ten, the other half score it; the mean over 200 halvings).

A row per study goes to `results/real-studies.csv`; a study that has one is not run again.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import kendalltau

from automl.handing_over import refit_trial
from automl.paths import StudyFolder, write_atomic
from benchmarks.proxies.sets import images_of
from benchmarks.tables import COMMITS, commit, markdown, merge

RESULTS = Path(__file__).parent / "results"
SIDES = {"textile": 128, "fashion-mnist": 64, "digits": 64}
IMAGES, TESTED, TRIALS, FIRST = 600, 600, 14, 10
SPACE = """
backbones: [timm/tf_efficientnet_lite0.in1k, timm/tf_efficientnet_lite1.in1k]
params:
  freeze_depth: [0.0, 0.5, 0.75, 1.0]
  resolution: {side}
  learning_rate: {{low: 3.0e-4, high: 1.0e-2, log: true}}
  augmentation: [none, light]
  batch_size: 16
training: {{epochs: 4, warmup_epochs: 1}}
search: {{metric: accuracy, budget: 3h, trials: {trials}, repeats: 2}}
"""


def study(name: str, seed: int, work: Path) -> dict[str, Any]:
    """Run one study and retrain its first ten. Returns its row."""
    root = work / f"{name}-{seed}"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    images = images_of(name, work / "images", images=5 * (IMAGES + TESTED)).sample(IMAGES + TESTED, random_state=seed)
    images["split"] = np.repeat(["train", "test"], [IMAGES, TESTED])
    write_atomic(root / "images.csv", images.to_csv(index=False))
    write_atomic(root / "space.yaml", SPACE.format(side=SIDES[name], trials=TRIALS))
    with open(root / "log", "w") as log:
        subprocess.run(
            [
                Path(sys.executable).with_name("automl"), "search", root / "images.csv", "--space", root / "space.yaml",
                "--out", root / "run", "--reports", root / "reports", "--seed", str(seed),
            ],
            stdout=log, stderr=log, check=True,
        )  # fmt: skip
    board = json.loads((root / "reports" / "run" / "leaderboard.json").read_text("utf-8"))
    folder, right = StudyFolder(root / "run"), []
    for row in board["rows"][:FIRST]:
        refit_trial(folder, root / "again", row["trial"])
        with np.load(folder.test_logits) as kept:
            right.append(kept["logits"].argmax(axis=1) == kept["targets"])
    return row_of(board, np.stack(right)) | {"set": name, "seed": seed, "commit": commit()}


def lost_apart(right: NDArray[np.bool_], halvings: int = 200) -> float:
    """Return how much better than the first, on one half of the images, the best on the other half is on average."""
    rng, gains = np.random.default_rng(0), []
    for _ in range(halvings):
        order = rng.permutation(right.shape[1])
        picks, scores = np.array_split(right[:, order], 2, axis=1)
        of_each = scores.mean(axis=1)
        gains.append(of_each[picks.mean(axis=1).argmax()] - of_each[0])
    return float(np.mean(gains))


def row_of(board: dict[str, Any], right: NDArray[np.bool_]) -> dict[str, Any]:
    """Return what is asked of one leaderboard, given of which test images its first trials were right after their
    retraining, ``(trials, images)``."""
    again = right.mean(axis=1)
    first, confirmed, corrected = board["rows"][0], board["confirmation"], board["best_corrected"]
    test = board["refit"]["test"]["accuracy"]
    expected, interval = (
        (confirmed["expected"], confirmed["expected_ci95"]) if confirmed else (corrected["value"], corrected["ci95"])
    )
    scores = [row["score"] for row in board["rows"][: len(again)]]
    return {
        "score": first["score"],
        "score_low": first["ci95"][0],
        "score_high": first["ci95"][1],
        "corrected": corrected["value"],
        "expected": expected,
        "expected_low": interval[0],
        "expected_high": interval[1],
        "confirmed": len(confirmed["trials"]) if confirmed else 0,
        "test": test,
        "inside": interval[0] <= test <= interval[1],
        "tau_rank": kendalltau(-np.arange(len(again)), again).statistic,
        "tau_score": kendalltau(scores, again).statistic,
        "lost": again.max() - again[0],
        "lost_apart": lost_apart(right),
        "tied_of_first": sum(row["tied_with_best"] for row in board["rows"][: len(again)]),
    }


def tables(rows: pd.DataFrame) -> str:
    """Return the answers as Markdown."""
    kinds = [*rows.groupby("set", sort=False), ("all", rows)]
    table = pd.DataFrame(
        [
            {
                "set": name,
                "studies": len(part),
                "test score inside the interval": f"{part['inside'].mean():.2f}",
                "its width (points)": f"{100 * (part['expected_high'] - part['expected_low']).mean():.1f}",
                "expected less test (points)": f"{100 * (part['expected'] - part['test']).mean():+.2f}",
                "score less test (points)": f"{100 * (part['score'] - part['test']).mean():+.2f}",
                "τ of the ranks": f"{part['tau_rank'].mean():.2f}",
                "lost by taking the first (points)": f"{100 * part['lost'].mean():.2f}",
                "on images that picked none": f"{100 * part['lost_apart'].mean():.2f}",
                "tied of the first ten": f"{part['tied_of_first'].mean():.1f}",
            }
            for name, part in kinds
        ]
    )
    commits = rows.get("commit", pd.Series(index=rows.index, dtype=str)).fillna("earlier").value_counts(sort=False)
    studies = ", ".join(f"{count} of {each}" for each, count in commits.items())
    return f"{markdown(table)}\nStudies of the program at commit: {studies}.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("data/real-studies"), help="folder of images and studies")
    parser.add_argument("--sets", nargs="+", choices=list(SIDES), default=list(SIDES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--only-tables", action="store_true")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    path = RESULTS / "real-studies.csv"
    known = pd.read_csv(path, dtype=COMMITS) if path.exists() else pd.DataFrame(columns=["set", "seed"])
    done = set(known[["set", "seed"]].itertuples(index=False, name=None))
    for seed in given.seeds if not given.only_tables else []:
        for name in given.sets:
            if (name, seed) not in done:
                row = study(name, seed, given.work.resolve())
                known = merge(path, pd.DataFrame([row]).round(5), ["set", "seed"])
                logging.info("%s, seed %d: expected %.3f, test %.3f", name, seed, row["expected"], row["test"])
    if len(known):
        write_atomic(RESULTS / "real-studies.md", "# Real studies\n\n" + tables(known))
        print(tables(known))


if __name__ == "__main__":
    main()

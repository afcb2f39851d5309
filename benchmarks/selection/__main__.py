"""Simulated studies: do intervals hold the truth, what is the best score really worth, and is the best among the tied?

    python -m benchmarks.selection            # about 35 minutes on one core; goes on where it was cut off
    python -m benchmarks.selection --quick    # a minute: fewer studies, the same tables

Writes below `benchmarks/selection/results/`: `intervals.csv`, `groups.csv`, `few-groups.csv`, `metrics.csv`,
`confirmation.csv`, `repeats.csv` and `studies.csv` (a row per kind of study, written as it is done; those that are
there already are kept unless `--again`), what they come to as `selection.md`, and charts. Set OMP_NUM_THREADS=1 for
one core.
"""

from __future__ import annotations

import argparse
import itertools
import time
import zlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.selection.charts import charts
from benchmarks.selection.confirmation import of_confirmation, of_repeats
from benchmarks.selection.few_groups import of_ties_in_groups
from benchmarks.selection.intervals import of_accuracy, of_groups, of_metrics
from benchmarks.selection.show import summary
from benchmarks.selection.studies import Cell, run
from benchmarks.selection.worlds import POPULATIONS

RESULTS = Path(__file__).parent / "results"
SIZES = [100, 300, 1000, 5000]
TRIALS = [10, 30, 100, 300, 1000]
CORRELATION = 0.8  # as among real trials, see `worlds`
STUDIES = {  # by images: as many of few trials as make the standard error of a bias about a tenth of a point
    100: {10: 1600, 30: 1400, 100: 1000, 300: 600, 1000: 400},
    300: {10: 800, 30: 600, 100: 480, 300: 300, 1000: 200},
    1000: {10: 200, 30: 150, 100: 120, 300: 80, 1000: 60},
    5000: {10: 180, 30: 150, 100: 120, 300: 90, 1000: 72},
}


def cells(share: float) -> list[Cell]:
    """Every population at every size with the correlation of real trials, and with 0 and 0.5 where 10, 100 or 1,000
    trials see 100 or 1,000 images."""
    found = []
    for population, images, trials in itertools.product(POPULATIONS, SIZES, TRIALS):
        everywhere = images in (100, 1000) and trials in (10, 100, 1000)
        for correlation in (0.0, 0.5, CORRELATION) if everywhere else (CORRELATION,):
            studies = max(10, round(share * STUDIES[images][trials]))
            found.append(Cell(population, trials, images, correlation, studies))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--again", action="store_true", help="keep nothing of earlier results")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started, share = time.perf_counter(), 0.06 if options.quick else 1.0
    options.out.mkdir(parents=True, exist_ok=True)

    def generator(name: object) -> np.random.Generator:
        return np.random.default_rng([options.seed, zlib.crc32(str(name).encode())])

    def table(name: str, make) -> pd.DataFrame:
        path = options.out / f"{name}.csv"
        if options.again or not path.exists():
            make().round(5).to_csv(path, index=False, lineterminator="\n")
        return pd.read_csv(path)

    tables = {
        "intervals": table("intervals", lambda: of_accuracy(SIZES)),
        "groups": table("groups", lambda: of_groups(round(1000 * share) + 40, generator("groups"))),
        "few groups": table("few-groups", lambda: of_ties_in_groups(round(1000 * share) + 40, generator("few groups"))),
        "confirmation": table(
            "confirmation",
            lambda: of_confirmation(
                list(POPULATIONS), [100, 300, 1000], [30, 300], CORRELATION, round(400 * share) + 10, generator
            ),
        ),
        "repeats": table(
            "repeats", lambda: of_repeats(list(POPULATIONS), CORRELATION, round(150 * share) + 5, generator)
        ),
        "metrics": table("metrics", lambda: of_metrics(SIZES, round(1000 * share) + 40, generator("metrics"))),
    }
    path = options.out / "studies.csv"
    rows = [] if options.again or not path.exists() else pd.read_csv(path).to_dict("records")
    done = {tuple(row[name] for name in Cell.__annotations__): row for row in rows}
    rows = []
    for cell in cells(share):
        key = tuple(asdict(cell).values())
        rows.append(done[key] if key in done else run(cell, generator(cell)))
        if key not in done:
            print(f"{time.perf_counter() - started:6.0f} s  {cell}", flush=True)
            known = list({**done, **{tuple(row[name] for name in Cell.__annotations__): row for row in rows}}.values())
            pd.DataFrame(known).to_csv(path, index=False, lineterminator="\n")
    tables["studies"] = pd.DataFrame(rows)
    tables["studies"].to_csv(path, index=False, lineterminator="\n")
    (options.out / "selection.md").write_text(summary(tables, quick=options.quick))
    charts(tables["studies"], options.out)
    print(f"{time.perf_counter() - started:.0f} s in all; see {options.out}")


if __name__ == "__main__":
    main()

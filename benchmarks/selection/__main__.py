"""Simulated studies: do intervals hold the truth, what is the best score really worth, and is the best among the tied?

    python -m benchmarks.selection            # about a quarter of an hour on one core
    python -m benchmarks.selection --quick    # a minute: fewer studies, the same tables

Writes `intervals.csv`, `groups.csv`, `metrics.csv` and `studies.csv`, what they come to as `README.md`, and two charts
below `benchmarks/results/selection/`. Set OMP_NUM_THREADS=1 for one core.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.selection.intervals import of_accuracy, of_groups, of_metrics
from benchmarks.selection.show import charts, summary
from benchmarks.selection.studies import Cell, run
from benchmarks.selection.worlds import POPULATIONS

RESULTS = Path(__file__).parent.parent / "results" / "selection"
SIZES = [100, 300, 1000, 5000]
STUDIES = {  # by images: as many of few trials as make the standard error of a bias about a tenth of a point
    100: {10: 900, 30: 900, 100: 600, 300: 400, 1000: 240},
    300: {10: 400, 30: 300, 100: 240, 300: 150, 1000: 100},
    1000: {10: 200, 30: 150, 100: 120, 300: 80, 1000: 60},
    5000: {10: 60, 30: 50, 100: 40, 300: 30, 1000: 24},
}


def cells(share: float) -> list[Cell]:
    """Every population at every size with correlation 0.5, and with 0 and 0.8 where 10, 100 or 1,000 trials see 100 or
    1,000 images."""
    found = []
    for population, images, trials in itertools.product(POPULATIONS, SIZES, (10, 30, 100, 300, 1000)):
        everywhere = images in (100, 1000) and trials in (10, 100, 1000)
        for correlation in (0.0, 0.5, 0.8) if everywhere else (0.5,):
            studies = max(10, round(share * STUDIES[images][trials]))
            found.append(Cell(population, trials, images, correlation, studies))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started, share = time.perf_counter(), 0.06 if options.quick else 1.0
    seeds = itertools.count(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)

    def generator() -> np.random.Generator:
        return np.random.default_rng([options.seed, next(seeds)])

    tables = {
        "intervals": of_accuracy(SIZES),
        "groups": of_groups(round(1000 * share) + 40, generator()),
        "metrics": of_metrics(SIZES, round(300 * share) + 40, generator()),
    }
    rows = []
    for cell in cells(share):
        rows.append(run(cell, generator()))
        print(f"{time.perf_counter() - started:6.0f} s  {cell}", flush=True)
    tables["studies"] = pd.DataFrame(rows)
    for name, table in tables.items():
        table.round(5).to_csv(options.out / f"{name}.csv", index=False, lineterminator="\n")
    (options.out / "README.md").write_text(summary(tables, quick=options.quick))
    charts(tables["studies"], options.out)
    print(f"{time.perf_counter() - started:.0f} s in all; see {options.out}")


if __name__ == "__main__":
    main()

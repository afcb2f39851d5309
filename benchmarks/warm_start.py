"""How much sooner is a search as good when it may learn from an earlier one? Whole searches by the command line.

    apt-get install dataset-fashion-mnist
    python -m benchmarks.warm_start --work data/warm-start --budget 4m         # 3 seeds, 36 minutes on two cores
    python -m benchmarks.warm_start --work data/from-random --budget 4m --space benchmarks/warm_start_random.yaml

For each seed: a search of Fashion-MNIST A, then of B (other images, none in both) twice with the same budget and seed,
cold and with `--warm-start` A. Seconds count from the start of the command until the end of the first trial whose
validation accuracy is that of the cold search's best, or better. Target of each seed's ratio: at most 0.5.

The first space is of three pretrained backbones, for which the program's defaults are near the best that there is, so
that a cold search is there after one of its first trials; the second of three that begin with random weights, of which
less is known beforehand.

One after the other, so run it on a machine that does nothing else. A search that was interrupted is begun again, one
that is done is not repeated. Writes `results/warm-start.csv` (a row per space and seed) and `results/warm-start.md`
beside this file, or to `--results`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import optuna
import pandas as pd
import psutil

from automl.paths import StudyFolder
from automl.search.storage import load_study
from benchmarks import fashion_mnist
from benchmarks.tables import markdown, merge

SPACE = Path(__file__).with_suffix(".yaml")
TARGET = 0.5


@dataclass(frozen=True)
class Searched:
    """A search that is done: its study, when its command started (seconds since 1970), and the share of the processors
    that others had meanwhile."""

    study: optuna.Study
    started: float
    others: float

    def incumbents(self) -> list[tuple[float, float]]:
        """Seconds and accuracy of every new best trial."""
        done = [
            each for each in self.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
            if each.datetime_complete is not None and each.value is not None
        ]  # fmt: skip
        found: list[tuple[float, float]] = []
        for each in sorted(done, key=lambda each: each.datetime_complete or datetime.max):
            if not found or (each.value or 0.0) > found[-1][1]:
                assert each.datetime_complete is not None
                found.append((each.datetime_complete.timestamp() - self.started, float(each.value or 0.0)))
        return found

    def reaches(self, accuracy: float) -> float:
        """Seconds until `accuracy`; infinite if never."""
        return next((seconds for seconds, value in self.incumbents() if value >= accuracy), math.inf)


def search(
    work: Path, name: str, data: Path, seed: int, space: Path, budget: str, earlier: Path | None = None
) -> Searched:
    """Search `data`, unless that was done."""
    folder, note = StudyFolder(work / "runs" / name), work / f"{name}.json"
    if not note.exists():
        shutil.rmtree(folder.root, ignore_errors=True)
        command = [sys.executable, "-c", "from automl.cli import main; main()", "search", str(data)]
        command += ["--space", str(space), "--budget", budget, "--seed", str(seed), "--out", str(folder.root)]
        command += ["--reports", str(work / "reports")] + (["--warm-start", str(earlier)] if earlier else [])
        started, before = time.time(), psutil.cpu_times()
        clock = time.monotonic()
        with open(work / f"{name}.log", "w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
            own = _cpu_seconds(process)
        if process.returncode:
            raise SystemExit(f"the search {name} ended with {process.returncode}; see {work / name}.log")
        spent, after = time.monotonic() - clock, psutil.cpu_times()
        busy = sum(getattr(after, each) - getattr(before, each) for each in ("user", "system", "nice"))
        others = max(0.0, busy - own) / (spent * (os.cpu_count() or 1))
        note.write_text(json.dumps({"started": started, "seconds": spent, "others": round(others, 3)}))
    facts = json.loads(note.read_text())
    return Searched(load_study(folder), facts["started"], facts["others"])


def _cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """Wait for `process` and return the processor seconds of it and all its children."""
    used: dict[int, float] = {}
    parent = psutil.Process(process.pid)
    while process.poll() is None:
        for each in _family(parent):
            with contextlib.suppress(psutil.Error):
                times = each.cpu_times()
                used[each.pid] = times.user + times.system
        time.sleep(0.5)
    return sum(used.values())


def _family(parent: psutil.Process) -> list[psutil.Process]:
    try:
        return [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return []


def compare(work: Path, seed: int, images: int, space: Path, budget: str) -> dict[str, object]:
    """Run the three searches of a seed. Returns the row of the table."""
    data = {}
    for number, part in enumerate("AB"):
        folder = work / f"{part}-{seed}"
        if not (folder / "manifest.csv").exists():
            fashion_mnist.write(folder, images, seed=seed, skip=number * images)
        data[part] = folder / "images"
    first = search(work, f"a-{seed}", data["A"], seed, space, budget)
    cold = search(work, f"b-cold-{seed}", data["B"], seed, space, budget)
    warm = search(work, f"b-warm-{seed}", data["B"], seed, space, budget, work / "runs" / f"a-{seed}")
    target = cold.incumbents()[-1][1]
    taken = warm.study.user_attrs["warm_start"]
    return {
        "space": space.stem, "seed": seed, "images": images, "budget": budget,
        "distance": taken["studies"][0]["distance"], "taken": len(taken["taken"]),
        "accuracy_a": round(first.incumbents()[-1][1], 4), "accuracy_cold": round(target, 4),
        "accuracy_warm": round(warm.incumbents()[-1][1], 4),
        "cold_seconds": round(cold.reaches(target), 1), "warm_seconds": round(warm.reaches(target), 1),
        "ratio": round(warm.reaches(target) / cold.reaches(target), 3),
        "first_trial_cold": round(cold.incumbents()[0][0], 1), "first_trial_warm": round(warm.incumbents()[0][0], 1),
        "others": max(first.others, cold.others, warm.others),
    }  # fmt: skip


def publish(row: dict[str, object], results: Path) -> None:
    """Write the CSV, with `row` in place of an earlier one of its space and seed, and the Markdown."""
    table = merge(results / "warm-start.csv", pd.DataFrame([row]), ["space", "seed"])
    lines = [
        "# Fashion-MNIST B after Fashion-MNIST A\n",
        "Seconds from the start of the command until the validation accuracy of the cold search's best trial; "
        "`others` is the largest share of the processors that other programs had during one of the three searches.\n",
        markdown(table),
    ]
    for space, some in table.groupby("space", sort=False):
        ratios = [float(each) for each in some["ratio"]]
        median = statistics.median(ratios)
        lines.append(
            f"- `{space}.yaml`: ratio of seconds, warm to cold, median {median:.2f} of {len(ratios)} seeds, "
            f"{sum(each <= TARGET for each in ratios)} of them at most {TARGET}; the target of {TARGET} is "
            f"{'met' if median <= TARGET else 'missed'}."
        )
    (results / "warm-start.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of data and runs")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=800, help="of each of A and B")
    parser.add_argument("--space", type=Path, default=SPACE)
    parser.add_argument("--budget", default="6m")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    for seed in given.seeds:
        row = compare(given.work, seed, given.images, given.space, given.budget)
        print(json.dumps(row), flush=True)
        publish(row, given.results)


if __name__ == "__main__":
    main()

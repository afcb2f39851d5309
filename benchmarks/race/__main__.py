"""Race `automl search` against what people do without it: equal wall-clock time, images, backbones and weights.

    python -m benchmarks.race                        (needs conformal-clip-data, dataset-fashion-mnist and npm)
    python -m benchmarks.race --only peers --sets textile --seeds 0 --minutes 8
    python -m benchmarks.race --again-if-disturbed 10%
    python -m benchmarks.race --smoke --work /tmp/smoke --out /tmp/smoke/results --minutes 1

Contenders: `automl search` (the command, refit included), the script of `benchmarks/peers/handwritten.py` at 224 and at
128 px, and `benchmarks/peers/fixed.py`, which searches nothing, with everything trainable and with three quarters
frozen. Each is started as a command of its own and gets a folder of 600 (textile, drawings) or 2,000 (Fashion-MNIST)
images, whose validation images it sets aside itself. What it hands over is scored here, in one place, on images that it
never saw; the incumbents before that are known by the contender's own validation accuracy. `automl search` insists on a
test split of its own, of one image per class at least; those few images it loses.

The clock starts with the command. The two budgets of `automl search` are two runs, since it plans by its budget. The
handwritten search only stops when its time is over, so that its answer at 3 minutes is its incumbent at 3 minutes of
the run of 8, and one run serves all budgets. What it finds after its budget does not count. The fixed settings have no
budget: their rows have 0 minutes.

Rows go to `race.csv` when a run is done, and a run with all its rows is not repeated: stop it at any time and start it
again. A row has the CPU time that others took meanwhile, which harms the handwritten search most, since Ray gives its
workers the niceness 15 unless told otherwise; `--again-if-disturbed` repeats those in which it was more than the given
share of the cores. The whole race takes about six hours; run nothing else.
"""

from __future__ import annotations

import os

ENVIRONMENT = dict(os.environ)  # for the contenders, before imports of this process set variables of Ray's

import argparse  # noqa: E402
import logging  # noqa: E402
import re  # noqa: E402
import shutil  # noqa: E402
import time  # noqa: E402
from collections.abc import Iterator, Sequence  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import NamedTuple  # noqa: E402

import pandas as pd  # noqa: E402

from benchmarks.race import data, results  # noqa: E402
from benchmarks.race.contenders import (  # noqa: E402
    KINDS,
    Found,
    command_of,
    found_by,
    predict,
    reloaded_validation,
    write_space,
)
from benchmarks.race.measure import run  # noqa: E402
from benchmarks.tables import COMMITS, commit, merge  # noqa: E402

HERE = Path(__file__).parent


class Job(NamedTuple):
    """One command to run. A row is made for each of `budgets`, in minutes."""

    seed: int
    set: str
    contender: str
    budgets: tuple[float, ...]

    @property
    def name(self) -> str:
        return re.sub(r"[^a-z0-9.]+", "-", f"{self.set} {self.seed} {self.contender} {max(self.budgets):g}")


def jobs(sets: list[str], seeds: list[int], kinds: list[str], minutes: list[float]) -> Iterator[Job]:
    for seed in seeds:
        for name in sets:
            for contender, kind in KINDS.items():
                if kind not in kinds:
                    continue
                if kind == "automl":
                    yield from (Job(seed, name, contender, (each,)) for each in sorted(minutes))
                else:
                    budgets = tuple(sorted(minutes)) if kind == "peers" else (results.NO_BUDGET,)
                    yield Job(seed, name, contender, budgets)


def missing(job: Job, out: Path, disturbed: float | None) -> bool:
    """Return whether a row of `job` is missing, or others took more than the share `disturbed` of the cores in it."""
    if not (out / "race.csv").exists():
        return True
    rows = pd.read_csv(out / "race.csv", dtype=COMMITS)
    own = rows[(rows["set"] == job.set) & (rows["seed"] == job.seed) & (rows["contender"] == job.contender)]
    own = own[own["minutes"].isin(job.budgets)]
    if len(own) < len(job.budgets):
        return True
    return disturbed is not None and bool((own["others_share"] > disturbed).any())


def race(job: Job, given: argparse.Namespace) -> None:
    """Run one job, score what it handed over, and write its rows."""
    work = given.work.resolve()
    images = data.prepare(job.set, job.seed, work, divisor=10 if given.smoke else 1)
    weights, space = data.write_weights(work / "weights"), write_space(given.space, work / "space.yaml")
    folder = work / "runs" / job.name
    for leftover in (folder, folder.with_name(folder.name + "-report")):
        shutil.rmtree(leftover, ignore_errors=True)
    folder.parent.mkdir(exist_ok=True)
    command = command_of(
        job.contender, images.folder, folder, minutes=max(job.budgets), seed=job.seed, weights=weights, space=space,
        epochs=given.epochs,
    )  # fmt: skip
    started = time.time()
    measured = run(command, folder.with_name(folder.name + ".log"), ENVIRONMENT)
    found = found_by(job.contender, folder, started, measured.wall_seconds)
    limits = {budget: 60 * budget if KINDS[job.contender] == "peers" else float("inf") for budget in job.budgets}
    lasts = {budget: _last(found, limit) for budget, limit in limits.items()}  # what is handed over
    scores: dict[int, float] = {}
    for number in {last for last in lasts.values() if last is not None and found[last].folder}:
        predicted = predict(job.contender, found[number], images.test)
        right = [label == truth for label, truth in zip(predicted, images.labels, strict=True)]
        scores[number] = round(sum(right) / len(right), 5)
    key = {"set": job.set, "seed": job.seed, "contender": job.contender}
    rows, curve = [], []
    for budget in job.budgets:
        number = lasts[budget]
        last = found[number] if number is not None else None
        reloaded = reloaded_validation(job.contender, last) if last else None
        rows.append(
            {
                **key,
                "minutes": budget,
                "test_accuracy": scores.get(number) if number is not None else None,
                "test_images": len(images.test),
                "validation": round(last.validation, 5) if last else None,
                "validation_reloaded": round(reloaded, 5) if reloaded is not None else None,
                "handed_over_seconds": round(last.seconds, 1) if last else None,
                "wall_seconds": round(measured.wall_seconds, 1),
                "exit_code": measured.exit_code,
                "model": last.what if last else None,
                "cores": os.cpu_count(),
                "own_cpu_seconds": round(measured.own_seconds, 1),
                "load_average": round(measured.load_average, 2),
                "others_share": round(measured.others_share, 4),
                "commit": commit(),
                "date": time.strftime("%Y-%m-%d %H:%M", time.localtime(started)),
            }
        )
    for number, each in enumerate(found):
        curve.append({**key, "minutes": max(job.budgets), "seconds": round(each.seconds, 1),
                      "validation": round(each.validation, 5), "test_accuracy": scores.get(number),
                      "model": each.what})  # fmt: skip
    given.out.mkdir(parents=True, exist_ok=True)
    _replace_curve(given.out / "curves.csv", {**key, "minutes": max(job.budgets)}, curve)
    merge(given.out / "race.csv", pd.DataFrame(rows), results.KEYS)
    results.write(given.out)
    logging.info("%s: %s", job.name, "; ".join(f"{row['minutes']:g} min: test {row['test_accuracy']}" for row in rows))


def _last(found: Sequence[Found], limit: float) -> int | None:
    """Return which of the incumbents `found` is the last one by `limit` seconds."""
    return max((number for number, each in enumerate(found) if each.seconds <= limit), default=None)


def _replace_curve(path: Path, key: dict[str, object], curve: list[dict[str, object]]) -> None:
    columns = [*results.KEYS, "seconds", "validation", "test_accuracy", "model"]
    known = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=columns)
    same = pd.Series(True, index=known.index)
    for name, value in key.items():
        same &= known[name] == value
    parts = [part for part in (known[~same], pd.DataFrame(curve, columns=columns)) if len(part)]
    (pd.concat(parts) if parts else known[~same]).to_csv(path, index=False, lineterminator="\n")


def _share(text: str) -> float:
    return float(text.removesuffix("%")) / 100 if text.endswith("%") else float(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[*dict.fromkeys(KINDS.values()), "tables"], help="default: all")
    parser.add_argument("--sets", nargs="+", choices=list(data.SETS), default=list(data.SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--minutes", nargs="+", type=float, default=[3.0, 8.0])
    parser.add_argument("--work", type=Path, default=Path("data/race"), help="folder for images, weights and runs")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the tables and the plot")
    parser.add_argument(
        "--space", default="demo", help="search space of `automl search`; the rivals have demo's choices"
    )
    parser.add_argument("--epochs", type=int, help="of the rivals' trainings; default: their own")
    parser.add_argument("--again-if-disturbed", type=_share, metavar="SHARE", help="such as 10%%")
    parser.add_argument("--smoke", action="store_true", help="a tenth of the images: does everything work?")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    given.work.mkdir(parents=True, exist_ok=True)
    for job in jobs(given.sets, given.seeds, given.only or list(KINDS.values()), given.minutes):
        if missing(job, given.out, given.again_if_disturbed):
            race(job, given)
    print(results.write(given.out))


if __name__ == "__main__":
    main()

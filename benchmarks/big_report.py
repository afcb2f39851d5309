"""How the leaderboard and the report of a very large study scale: seconds and megabytes, without any training.

Makes a study of 10,000 trials with the attributes and the files that trials leave (predictions of 300 validation
images, curves of 6 epochs), then runs the real commands on it, each in a process of its own as a person would:

    python -m benchmarks.big_report runs/big --trials 10000

Measured are the wall time of `automl leaderboard RUN` (the first, which reads every trial's predictions, and the median
of five more), of the same by the log loss, and of `automl report RUN`, the share of each that the statistics take
(`leaderboard.build`), the size of the page and of the files beside it, and, where Chromium and playwright are
installed, the time from opening the page until its table answers. They go to `results/big-report.csv`.
A study that is there already is used again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial
from sqlalchemy import event

from automl.data import Audit, Dataset
from automl.paths import StudyFolder, write_atomic
from automl.ranking.statistics import METRICS, Predictions, score
from automl.screening import Latency, Speed

RESULTS = Path(__file__).parent / "results" / "big-report.csv"
TRIALS = 10_000
CLASSES = ("nominal", "local", "global", "thin place")
IMAGES, EPOCHS = 300, 6
SIDES = [128, 224, 320]
BACKBONES = tuple(f"timm/backbone_{i:02d}.in1k" for i in range(20))
DISTRIBUTIONS = {
    "backbone": CategoricalDistribution(BACKBONES),
    "freeze_depth": CategoricalDistribution([0.0, 0.5, 0.75, 1.0]),
    "learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
    "layer_decay": FloatDistribution(0.5, 1.0),
    "resolution": CategoricalDistribution(SIDES),
    "augmentation": CategoricalDistribution(["none", "light", "rand"]),
}
RESOLVED = """backbones: [{name: timm/test_resnet.r160_in1k, weights: none}]
params: {freeze_depth: 1.0}
search: {budget: 8h, metric: accuracy}
"""


def speed(milliseconds: float) -> Speed:
    one = Latency(1, milliseconds, 1.1 * milliseconds, 10)
    return Speed("CPU, 2 threads", "float32", one, Latency(8, 7 * milliseconds, 7.5 * milliseconds, 10))


def make(root: Path, trials: int) -> None:
    """Write the study: about 60 % finished, 35 % pruned, 5 % failed."""
    rng = np.random.default_rng(0)
    folder = StudyFolder(root)
    root.mkdir(parents=True)
    targets = rng.choice(len(CLASSES), size=3 * IMAGES, p=[0.4, 0.3, 0.2, 0.1])
    rows = np.arange(IMAGES)
    split = np.repeat(["validation", "train", "test"], IMAGES)
    table = {"path": [f"/data/{i:05d}.png" for i in range(len(targets))], "label": [CLASSES[i] for i in targets]}
    table |= {"sha256": [f"{i:064x}" for i in range(len(targets))], "target": targets, "split": split, "group": ""}
    counts = {
        name: {each: int(((targets == i) & (split == each)).sum()) for each in ("train", "validation", "test")}
        for i, name in enumerate(CLASSES)
    }
    audit = Audit("data", "folder", len(targets), counts, dict.fromkeys(("train", "validation", "test"), "drawn"),
                  [], [], {}, {"width": [224] * 3, "height": [224] * 3}, {"RGB": len(targets)}, {}, [])  # fmt: skip
    Dataset(pd.DataFrame(table), CLASSES, audit).save(folder.manifest, folder.audit)
    folder.plan.write_text(json.dumps({"screening": [
        {"backbone": name, "knn_accuracy": 0.6 + 0.01 * i, "linear_accuracy": 0.62 + 0.01 * i, "included": True,
         "reason": "top by prior", "seconds_per_epoch": 4.0 + i, "resolution": 224,
         "speeds": {str(side): speed(side / 40 + i).to_dict() for side in SIDES}} for i, name in enumerate(BACKBONES)
    ]}))  # fmt: skip
    folder.resolved.write_text(RESOLVED)
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder.database.resolve()}")

    @event.listens_for(storage.engine, "connect")
    def quick(connection: Any, record: object) -> None:  # nobody's work is at stake
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA journal_mode=MEMORY")

    storage.engine.dispose()
    study = optuna.create_study(study_name=folder.name, storage=storage, direction="maximize")
    attrs: dict[str, Any] = {"metric": "accuracy", "seed": 0, "classes": CLASSES, "max_epochs": EPOCHS}
    attrs |= {"budget_seconds": 28800.0, "stop_reason": "budget", "dataset_fingerprint": "b16" * 21 + "a"}
    attrs |= {"stage_seconds": {"audit": 60.0, "screening": 900.0, "search": 27000.0}, "command": "automl search data"}
    for name, value in attrs.items():
        study.set_user_attr(name, value)
    hard = rng.normal(size=(IMAGES, len(CLASSES))).astype(np.float32)
    for number in range(trials):
        study.add_trial(_trial(folder, number, rng, targets[rows], rows, hard))
        if number % 1000 == 999:
            print(f"made {number + 1} trials", file=sys.stderr)


def _trial(
    folder: StudyFolder, number: int, rng: np.random.Generator, targets: np.ndarray, rows: np.ndarray, hard: np.ndarray
) -> optuna.trial.FrozenTrial:
    chance = rng.random()
    reason = "complete" if chance < 0.6 else "pruned" if chance < 0.95 else "crashed"
    params = {
        "backbone": BACKBONES[int(rng.integers(len(BACKBONES)))],
        "freeze_depth": [0.0, 0.5, 0.75, 1.0][int(rng.integers(4))],
        "learning_rate": float(10 ** rng.uniform(-4, -2)),
        "layer_decay": float(rng.uniform(0.5, 1.0)),
        "resolution": SIDES[int(rng.integers(3))],
        "augmentation": ["none", "light", "rand"][int(rng.integers(3))],
    }
    size = BACKBONES.index(params["backbone"])
    skill = 2.2 + 0.06 * size + 0.8 * (params["freeze_depth"] < 1) + 0.3 * rng.normal()
    epochs = {"complete": EPOCHS, "pruned": int(rng.integers(1, 4)), "crashed": 0}[reason]
    spec = {**params, "weights": "/weights/w.safetensors", "optimizer": "adamw", "weight_decay": 0.05, "epochs": EPOCHS}
    spec |= {
        "batch_size": 32,
        "label_smoothing": 0.1,
        "mixup": 0.0,
        "cutmix": 0.0,
        "warmup_epochs": 1.0,
        "seed": number,
    }
    spec |= {"dropout": 0.0, "drop_path": 0.0, "ema_decay": 0.0, "clip_grad": 1.0, "crop_mode": "squash"}
    user: dict[str, Any] = {"spec": spec, "reason": reason, "origin": "sampler", "epochs": epochs, "host": "box"}
    user |= {"max_epochs": EPOCHS, "train_seconds": round((4.0 + size) * epochs * rng.uniform(0.9, 1.2), 3)}
    user |= {"peak_memory_mb": 600.0 + 90 * size, "latency_ms": params["resolution"] / 40 + size, "device": "cpu"}
    user |= {"predicted_seconds": [1.0, 5.0], "predicted_mb": 580.0 + 90 * size}
    user |= {"model_parameters": 1_000_000 * (2 + size), "trainable_parameters": 4000, "dtype": "float32"}
    user |= {"from_embeddings": False, "startup_seconds": 0.7, "epoch_seconds": 5.0}
    values: list[float] = []
    if epochs:
        files = folder.trial(number)
        files.root.mkdir(parents=True)
        lines = []
        for epoch in range(1, epochs + 1):
            logits = hard + rng.normal(size=hard.shape).astype(np.float32)
            logits[rows, targets] += skill * (1 - 0.5**epoch)
            values.append(float((logits.argmax(1) == targets).mean()))
            told = Predictions(logits, targets, rows)
            metrics = {name: score(name, told) for name in METRICS} | {"ece": 0.05}
            lines.append(
                {"epoch": epoch, "train_loss": 1.4 * 0.6**epoch, "learning_rate": 1e-3, "seconds": 5.0 * epoch}
            )
            lines[-1] |= metrics
        files.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
        np.savez(files.validation_logits, logits=logits, targets=targets, rows=rows, epoch=epochs)
        user["metrics"] = metrics
    else:
        user["message"] = "RuntimeError: expected 3 channels, got 4"
    states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "crashed": TrialState.FAIL}
    return create_trial(
        state=states[reason], value=values[-1] if reason == "complete" else None, params=params,
        distributions=DISTRIBUTIONS, user_attrs=user, intermediate_values=dict(enumerate(values, start=1)),
    )  # fmt: skip


CODE = """
import sys, time
import automl.ranking.leaderboard as leaderboard
from automl.cli import main
build = leaderboard.build
def timed(*arguments, **options):
    started = time.perf_counter()
    try:
        return build(*arguments, **options)
    finally:
        print(f"STATISTICS {time.perf_counter() - started}", file=sys.stderr)
leaderboard.build = timed
main()
"""


def timed(*arguments: str) -> tuple[float, float]:
    """Run a command of automl in a process of its own; return its seconds, and those of the statistics."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", CODE, *arguments], capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - started
    statistics = sum(float(line.split()[1]) for line in done.stderr.splitlines() if line.startswith("STATISTICS"))
    return seconds, statistics


def interactive(page: Path) -> float | None:
    """Seconds from opening the page until the second page of its table is shown; None without a browser."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        try:
            view = browser.new_page(viewport={"width": 1280, "height": 800})
            started = time.perf_counter()
            view.goto(page.resolve().as_uri(), wait_until="commit")
            view.wait_for_selector("html[data-ready]")
            view.click("#more")
            view.wait_for_function("document.querySelectorAll('#board > tbody').length > 50")
            return time.perf_counter() - started
        finally:
            browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--reports", type=Path, default=Path("reports"))
    wanted = parser.parse_args()
    if not wanted.root.exists():
        make(wanted.root, wanted.trials)
    root, found = str(wanted.root), []
    for command in (["leaderboard", root], ["leaderboard", root, "--metric", "log_loss"]):
        name = "automl " + " ".join(command).replace(root, "RUN")
        for what, times in ((f"{name}, the first time", 1), (f"{name}, median of five", 5)):
            runs = sorted(timed(*command) for _ in range(times))
            found.append((what, *runs[times // 2], "s"))
    found.append(("automl report RUN", *timed("report", root, "--reports", str(wanted.reports)), "s"))
    folder = StudyFolder(wanted.root).report(wanted.reports)
    found += [(path.name, path.stat().st_size / 1e6, None, "MB") for path in sorted(folder.iterdir())]
    seconds = interactive(folder / "index.html")
    if seconds is not None:
        found.append(("from opening the page until its table answers", seconds, None, "s"))
    table = pd.DataFrame(found, columns=["what", "measured", "of which statistics", "unit"]).round(2)
    print(table.to_string(index=False))
    if wanted.trials == TRIALS:
        write_atomic(RESULTS, table.to_csv(index=False))


if __name__ == "__main__":
    main()

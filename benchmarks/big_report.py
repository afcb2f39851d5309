"""How the leaderboard and the report of a very large study scale: seconds and megabytes, without any training.

Makes a study of 10,000 trials with the files that trials leave (predictions of 300 validation images, curves of 6
epochs), then runs the real commands on it, each in a process of its own as a person would:

    python benchmarks/big_report.py runs/big --trials 10000

Printed are the wall time of `automl leaderboard RUN` and of `automl report RUN` with the share of it that the
statistics take (`leaderboard.build`), the size of the page and of the files beside it, and, where Chromium and
playwright are installed, the time from opening the page until its table answers.
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
from automl.paths import StudyFolder

CLASSES = ("nominal", "local", "global", "thin place")
IMAGES, EPOCHS = 300, 6
BACKBONES = tuple(f"timm/backbone_{i:02d}.in1k" for i in range(20))
DISTRIBUTIONS = {
    "backbone": CategoricalDistribution(BACKBONES),
    "freeze_depth": CategoricalDistribution([0.0, 0.5, 0.75, 1.0]),
    "learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
    "layer_decay": FloatDistribution(0.5, 1.0),
    "resolution": CategoricalDistribution([128, 224, 320]),
    "augmentation": CategoricalDistribution(["none", "light", "rand"]),
}
RESOLVED = """backbones: [{name: timm/test_resnet.r160_in1k, weights: none}]
params: {freeze_depth: 1.0}
search: {budget: 8h, metric: accuracy}
"""


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
         "reason": "top by prior", "seconds_per_epoch": 4.0 + i, "resolution": 224} for i, name in enumerate(BACKBONES)
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
        "resolution": [128, 224, 320][int(rng.integers(3))],
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
    user |= {"peak_memory_mb": 600.0 + 90 * size, "latency_ms": 5 + 1.7 * size + rng.normal() * 0.1, "device": "cpu"}
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
            lines.append({"epoch": epoch, "train_loss": 1.4 * 0.6**epoch, "log_loss": 0.9 * 0.7**epoch})
            lines[-1]["accuracy"] = values[-1]
        files.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
        np.savez(files.validation_logits, logits=logits, targets=targets, rows=rows, epoch=epochs)
        user["metrics"] = {"accuracy": values[-1], "macro_f1": values[-1], "log_loss": lines[-1]["log_loss"]}
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


def timed(*arguments: str) -> str:
    """Run a command of automl in a process of its own; return its seconds, and those of the statistics."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", CODE, *arguments], capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - started
    statistics = sum(float(line.split()[1]) for line in done.stderr.splitlines() if line.startswith("STATISTICS"))
    return f"{seconds:6.1f} s, of which {statistics:.1f} s are the statistics"


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
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--reports", type=Path, default=Path("reports"))
    wanted = parser.parse_args()
    if not wanted.root.exists():
        make(wanted.root, wanted.trials)
    print(f"automl leaderboard   {timed('leaderboard', str(wanted.root))}")
    print(f"automl report        {timed('report', str(wanted.root), '--reports', str(wanted.reports))}")
    folder = StudyFolder(wanted.root).report(wanted.reports)
    for path in sorted(folder.iterdir()):
        print(f"{path.name:20} {path.stat().st_size / 1e6:6.1f} MB")
    seconds = interactive(folder / "index.html")
    print("page interactive     " + ("no browser" if seconds is None else f"{seconds:6.1f} s"))


if __name__ == "__main__":
    main()

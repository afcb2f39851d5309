"""What a trial costs beyond its training: start, report, tell, and the next question, with warm workers.

    python benchmarks/trial_overhead.py --trials 30

Two figures. "no-op": trials that report three epochs and do nothing, so all their time is overhead of Ray, Optuna and
the driver. "start": seconds from a real trial's assignment to its first training step (the model is built, its weights
are read, the pixel cache is opened), as trials of a real study recorded it (--run).
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from PIL import Image
from torch import nn

from automl.config import parse_config
from automl.data import prepare
from automl.paths import StudyFolder
from automl.screening import Cost
from automl.search.budget import Budget, CostModel
from automl.search.cluster import Interrupt, cluster, resources
from automl.search.runner import run_search
from automl.search.searcher import Driver
from automl.search.spec import TrialSpec
from automl.search.storage import create_study, load_study
from automl.search.study import StudyRecord
from automl.space import make_space
from automl.training import Outcome

CONFIG = """
backbones: [{name: timm/test_resnet.r160_in1k, weights: none}]
params:
  learning_rate: {low: 1.0e-4, high: 1.0e-1, log: true}
  freeze_depth: [0.0, 0.5]
training: {epochs: 3}
search: {scheduler: none, budget: 1h}
"""


def no_op(spec: TrialSpec, *_: Any, report: Any, **__: Any) -> Outcome:
    """Report three epochs of an accuracy that depends on the learning rate."""
    for epoch in range(1, 4):
        accuracy = 1 - abs(np.log10(spec.learning_rate) + 2) / 10
        report({"epoch": epoch, "accuracy": accuracy, "seconds": 0.0, "metrics": {"accuracy": accuracy}})
    return Outcome("complete", 3, 0.0, nn.Identity())


def measure(trials: int) -> tuple[float, list[float]]:
    """Return seconds of the whole search without Ray's start, and seconds between the starts of successive trials."""
    with tempfile.TemporaryDirectory() as scratch:
        images = Path(scratch) / "images"
        rng = np.random.default_rng(0)
        for label in "ab":
            (images / label).mkdir(parents=True)
            for number in range(10):
                pixels = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(images / label / f"{number}.png")
        folder = StudyFolder(Path(scratch) / "study")
        folder.root.mkdir()
        dataset = prepare(
            images, seed=0, validation_fraction=0.2, test_fraction=0.2, background=(255, 255, 255), max_pixels=10**6
        )
        dataset.save(folder.manifest, folder.audit)
        config = parse_config(CONFIG, "benchmark")
        config = config.model_copy(update={"search": config.search.model_copy(update={"trials": trials})})
        name = config.backbones[0].name
        sampler = optuna.samplers.TPESampler(seed=0)
        study = create_study(folder, storage=None, direction="maximize", sampler=sampler)
        cost = Cost(1e-4, {0.0: 1e-3, 0.5: 1e-3}, 0.1, 1.0, 100.0, 1000)
        driver = Driver(
            StudyRecord(study),
            folder=folder,
            config=config,
            space=make_space([name], config.params),
            weights={name: "none"},
            defaults=[],
            costs=CostModel({name: cost}, {name: 224}, train_images=12, validation_images=4),
            latency={},
            budget=Budget(3600),
            balanced=False,
            interrupted=Interrupt(),
        )
        with cluster(None):
            share, _ = resources("auto", "auto", "auto")
            started = time.perf_counter()
            run_search(driver, folder, share._replace(concurrency=1), interrupted=Interrupt(), run=no_op)
            seconds = time.perf_counter() - started
        starts = sorted(trial.datetime_start.timestamp() for trial in study.trials if trial.datetime_start)
        assert len(starts) == trials, f"{len(starts)} of {trials} trials ran"
        return seconds, [after - before for before, after in itertools.pairwise(starts)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--run", type=Path, help="a study folder, such as runs/demo")
    options = parser.parse_args()
    seconds, gaps = measure(options.trials)
    warm = gaps[2:]
    print(f"no-op  {options.trials} trials in {seconds:.1f} s, worker start included")
    print(f"no-op  median {statistics.median(warm):.3f} s a trial, 95th percentile {np.percentile(warm, 95):.3f} s")
    if options.run:
        study = load_study(StudyFolder(options.run))
        attrs = [trial.user_attrs for trial in study.trials]
        starts = [each["startup_seconds"] for each in attrs if "startup_seconds" in each]
        print(f"start  median {statistics.median(starts):.3f} s, largest {max(starts):.3f} s over {len(starts)} trials")


if __name__ == "__main__":
    main()

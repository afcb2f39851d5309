"""What a trial costs beyond its training: start, report, tell, and the next question, with warm workers.

    python benchmarks/trial_overhead.py --trials 500 1000 2000

Two figures. "no-op": trials that report three epochs and do nothing, so all their time is overhead of Ray, Optuna and
the driver; one search, looked at after as many trials as asked for. "start": seconds from a real trial's assignment to
its first training step (the model is built, its weights are read, the pixel cache is opened), as trials of a real study
recorded it (--run).
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import itertools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from PIL import Image
from torch import nn

from automl.config import parse_config
from automl.data import prepare
from automl.paths import StudyFolder
from automl.screening import Cost
from automl.search.budget import Budget, CostModel
from automl.search.cluster import Interrupt, cluster, resources
from automl.search.driver import Driver
from automl.search.runner import run_search
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
search: {scheduler: none, budget: 3h, repeats: 0}
"""


def no_op(spec: TrialSpec, *_: Any, report: Any, **__: Any) -> Outcome:
    """Report three epochs of an accuracy that depends on the learning rate."""
    for epoch in range(1, 4):
        accuracy = 1 - abs(np.log10(spec.learning_rate) + 2) / 10
        report({"epoch": epoch, "accuracy": accuracy, "seconds": 0.0, "metrics": {"accuracy": accuracy}})
    return Outcome("complete", 3, 0.0, nn.Identity())


class Seen(NamedTuple):
    """The search after a number of trials: seconds since its start, resident memory of the driver, size of the study's
    files, both in MB."""

    trials: int
    seconds: float
    memory: float
    size: float


class Watched(Driver):
    """Looks at itself after the trials whose numbers are in `marks`."""

    marks: frozenset[int] = frozenset()
    seen: list[Seen]
    started = 0.0

    def finish(self, number: int, *, error: str | None = None) -> None:
        super().finish(number, error=error)
        if number + 1 in self.marks:
            files = self._folder.root.glob(f"{self._folder.database.name}*")
            memory, size = psutil.Process().memory_info().rss, sum(each.stat().st_size for each in files)
            self.seen.append(Seen(number + 1, time.perf_counter() - self.started, memory / 2**20, size / 2**20))


def measure(trials: list[int], profile: Path | None) -> tuple[list[Seen], list[float]]:
    """Return the search as seen after each of `trials`, without Ray's start, and seconds between successive starts."""
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
        config = config.model_copy(update={"search": config.search.model_copy(update={"trials": max(trials)})})
        name = config.backbones[0].name
        study = create_study(folder, storage=None, direction="maximize")
        cost = Cost(1e-4, {0.0: 1e-3, 0.5: 1e-3}, 0.1, 1.0, 100.0, 1000)
        driver = Watched(
            StudyRecord(study),
            folder=folder,
            config=config,
            space=make_space([name], config.params),
            weights={name: "none"},
            defaults=[],
            costs=CostModel({name: cost}, {name: 224}, train_images=12, validation_images=4),
            latency={},
            budget=Budget(config.search.budget),
            balanced=False,
            interrupted=Interrupt(),
        )
        driver.marks, driver.seen = frozenset(trials), []
        with cluster(None), cProfile.Profile() if profile else contextlib.nullcontext() as profiler:
            share, _ = resources("auto", "auto", "auto")
            driver.started = time.perf_counter()
            run_search(driver, folder, share._replace(concurrency=1), interrupted=Interrupt(), run=no_op)
        if profile:
            profiler.dump_stats(profile)
        starts = sorted(trial.datetime_start.timestamp() for trial in study.trials if trial.datetime_start)
        assert len(starts) == max(trials), f"{len(starts)} of {max(trials)} trials ran"
        return driver.seen, [after - before for before, after in itertools.pairwise(starts)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[30])
    parser.add_argument("--run", type=Path, help="a study folder, such as runs/demo")
    parser.add_argument("--profile", type=Path, help="write what the driver's time goes to there (for pstats)")
    options = parser.parse_args()
    seen, gaps = measure(sorted(options.trials), options.profile)
    begun = 2  # the first trials wait for their worker
    for each in seen:
        warm = gaps[begun : each.trials - 1]
        print(
            f"no-op  {each.trials:5d} trials in {each.seconds:6.1f} s; since the line before: median "
            f"{statistics.median(warm):.3f} s a trial, 95th percentile {np.percentile(warm, 95):.3f} s; "
            f"driver {each.memory:.0f} MB, study {each.size:.1f} MB"
        )
        begun = each.trials - 1
    if options.run:
        study = load_study(StudyFolder(options.run))
        attrs = [trial.user_attrs for trial in study.trials]
        starts = [each["startup_seconds"] for each in attrs if "startup_seconds" in each]
        print(f"start  median {statistics.median(starts):.3f} s, largest {max(starts):.3f} s over {len(starts)} trials")


if __name__ == "__main__":
    main()

"""The search that a good engineer writes in a day from the documentation of Ray Tune, Optuna, timm and PyTorch.

    python -m benchmarks.peers.handwritten FOLDER --weights-dir DIR --out OUT --minutes 8 [--resolution 128]

FOLDER holds one folder of images per class. Trials are drawn by `OptunaSearch` (its default, TPE) and stopped early by
`ASHAScheduler` with its defaults; every trial has one core, as Ray gives it by default. What is best on the images set
aside for validation is handed over: each new best checkpoint is kept in OUT/incumbents/NNN with the time at which it
was there, and the last of them is the answer. It knows nothing of the package `automl`.
"""

from __future__ import annotations

import time

STARTED = time.time()  # before the heavy imports, which count like everything else

import argparse  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import ray  # noqa: E402
import torch  # noqa: E402
from ray import tune  # noqa: E402
from ray.tune.schedulers import ASHAScheduler  # noqa: E402
from ray.tune.search.optuna import OptunaSearch  # noqa: E402

from benchmarks.peers.training import FIXED, Incumbents, fit, save  # noqa: E402

SPACE = {
    "backbone": tune.choice([f"tf_efficientnet_lite{size}.in1k" for size in range(3)]),
    "freeze": tune.choice([0.0, 0.5, 0.75, 1.0]),
    "learning_rate": tune.loguniform(3e-4, 1e-2),
    "augmentation": tune.choice(["none", "light"]),
}


EPOCHS = 4  # what eight minutes on two cores have time for


class KeepIncumbents(tune.Callback):
    def __init__(self, incumbents: Incumbents) -> None:
        self.incumbents = incumbents

    def on_checkpoint(self, iteration: int, trials: list, trial: Any, checkpoint: tune.Checkpoint, **info: Any) -> None:
        with checkpoint.as_directory() as folder:
            self.incumbents.offer(Path(folder))


def trainable(config: dict[str, Any], data: Path, weights_dir: Path, seed: int, threads: int) -> None:
    torch.set_num_threads(threads)
    for accuracy, state in fit(config, data, weights_dir, seed):
        with tempfile.TemporaryDirectory() as folder:
            save(Path(folder), state)
            tune.report({"accuracy": accuracy}, checkpoint=tune.Checkpoint.from_directory(folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights-dir", type=Path, required=True, help="holds NAME.safetensors, as timm names them")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of a trial that is not stopped")
    parser.add_argument("--cpus", type=int, default=2, help="cores of this machine to use")
    parser.add_argument("--cpus-per-trial", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)

    incumbents = Incumbents(out)
    ray.init(num_cpus=given.cpus, include_dashboard=False)
    function = tune.with_parameters(
        trainable, data=given.data.resolve(), weights_dir=given.weights_dir.resolve(), seed=given.seed,
        threads=given.cpus_per_trial,
    )  # fmt: skip
    tuner = tune.Tuner(
        tune.with_resources(function, {"cpu": given.cpus_per_trial}),
        param_space={**SPACE, **FIXED, "resolution": given.resolution, "epochs": given.epochs},
        tune_config=tune.TuneConfig(
            metric="accuracy",
            mode="max",
            search_alg=OptunaSearch(seed=given.seed),
            scheduler=ASHAScheduler(),
            num_samples=-1,
            max_concurrent_trials=given.cpus // given.cpus_per_trial,
            time_budget_s=max(1.0, 60 * given.minutes - (time.time() - STARTED)),
            reuse_actors=True,  # the next trial need not import torch again
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(out),
            callbacks=[KeepIncumbents(incumbents)],
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1, checkpoint_score_attribute="accuracy"),
            verbose=1,
        ),
    )
    results = tuner.fit()
    print(f"{len(results)} trials, best validation accuracy {incumbents.best:.4f}")


if __name__ == "__main__":
    main()

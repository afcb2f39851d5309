"""Record full learning curves of many configurations, for replaying schedulers and samplers without training again.

    python -m benchmarks.curves.record textile --work data/curves        (needs conformal-clip-data)
    python -m benchmarks.curves.record fashion-mnist --work data/curves  (needs Debian's dataset-fashion-mnist)

Every configuration of `<set>.yaml` (the sound defaults, then random draws with a fixed seed) is trained in full, alone,
on one thread, and appended to `<set>.csv`: one row per epoch with its validation accuracy and the CPU seconds since the
trial began, and in the row of the last epoch the accuracy on held-out images that nothing was chosen by. CPU seconds of
one thread hardly depend on what else the machine does. A configuration that diverges ends with a row without accuracy.
Stop it at any time: the next call goes on after the last whole configuration.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import torch

from automl.backbones import find
from automl.config import load_config
from automl.data import Batches, Dataset, open_cache
from automl.demo import textile_images
from automl.paths import StudyFolder, TrialFolder, write_atomic
from automl.search.defaults import default_trials
from automl.search.spec import make_spec
from automl.search.trial import prepare_process, run_trial, variant_of
from automl.space import Space, make_space
from automl.stages import audit, decode_once, locate_weights, with_full_names
from automl.training import Normalise, choose_device, choose_precision, predict_logits
from benchmarks.curves.recorded import EPOCHS
from benchmarks.fashion_mnist import write as write_fashion_mnist

HERE = Path(__file__).parent
SIZES = {"train": 450, "validation": 200, "test": 400}
SEED = 20


def images_of(name: str, work: Path) -> pd.DataFrame:
    """Return path and label of enough images of the set `name`."""
    if name == "textile":
        return textile_images()
    write_fashion_mnist(work / name, sum(SIZES.values()))
    table = pd.read_csv(work / name / "manifest.csv")
    return table.assign(path=[str(work / name / each) for each in table["path"]])


def configurations(space: Space, backbones: list[str], count: int) -> list[dict[str, Any]]:
    """Return `count` points of the space: the defaults of a search in its order, then random ones."""
    chosen = default_trials(backbones, space, EPOCHS)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=SEED))
    while len(chosen) < count:
        trial = study.ask(space.distributions)
        study.tell(trial, 0.0)
        chosen.append(trial.params)
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=("textile", "fashion-mnist"))
    parser.add_argument("--work", type=Path, required=True, help="folder for images, pixels and trials")
    parser.add_argument("--configurations", type=int, default=40)
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    prepare_process(1)

    folder = StudyFolder((given.work / f"{given.set}-study").resolve())
    folder.root.mkdir(parents=True, exist_ok=True)
    manifest = folder.root / "images.csv"
    if not manifest.exists():
        images = images_of(given.set, given.work.resolve()).sample(sum(SIZES.values()), random_state=SEED)
        images["split"] = np.repeat(list(SIZES), list(SIZES.values()))
        write_atomic(manifest, images.to_csv(index=False))
    config = with_full_names(load_config(HERE / f"{given.set}.yaml").model_copy(update={"dataset": str(manifest)}))
    names = [each.name for each in config.backbones]
    space, weights = make_space(names, config.params), locate_weights(config, None)
    dataset = audit(config, folder, lambda stage, done, total: None)
    decode_once(config, folder, dataset, space, lambda stage, done, total: None)

    out = HERE / f"{given.set}.csv"
    known = pd.read_csv(out) if out.exists() else pd.DataFrame({"configuration": []})
    for number, params in enumerate(configurations(space, names, given.configurations)):
        if number in set(known["configuration"]):
            continue
        spec = make_spec(params, config=config, space=space, weights=weights, balanced=False, root=number)
        epochs: list[dict[str, Any]] = []
        began = time.process_time()

        def report(facts: dict[str, Any], epochs: list[dict[str, Any]] = epochs, began: float = began) -> None:
            seconds = round(time.process_time() - began, 2)
            epochs.append({key: facts[key] for key in ("epoch", "accuracy", "log_loss")} | {"cpu_seconds": seconds})

        outcome = run_trial(
            spec, folder, TrialFolder(folder.root / "trial"), train_rows=dataset.rows("train"),
            validation_rows=dataset.rows("validation"), keep_checkpoint=False, report=report,
        )  # fmt: skip
        test = None
        if outcome.reason == "complete":
            test = test_accuracy(outcome.model, spec, folder, dataset)
        else:
            seconds = round(time.process_time() - began, 2)
            epochs.append({"epoch": outcome.epochs + 1, "accuracy": None, "log_loss": None, "cpu_seconds": seconds})
        rows = [
            {
                "configuration": number,
                **{name: getattr(spec, name) for name in space.distributions},
                **each,
                "test_accuracy": test if each["epoch"] == spec.epochs else None,
            }
            for each in epochs
        ]
        append(out, rows)
        logging.info("%d %s: %s, test %s", number, json.dumps(params), [each["accuracy"] for each in rows], test)


def test_accuracy(model: torch.nn.Module, spec: Any, folder: StudyFolder, dataset: Dataset) -> float:
    backbone, (device, _) = find(spec.backbone), choose_device()
    variant = variant_of(backbone, spec.resolution, spec.crop_mode)
    array = open_cache(dataset.table, folder.pixels, variant, background=spec.background)
    targets, rows = dataset.table["target"].to_numpy(np.int64), dataset.rows("test")
    logits = predict_logits(
        model, Batches(array, targets, rows, batch_size=64, device=device),
        normalise=Normalise(backbone.mean, backbone.std).to(device), precision=choose_precision(device),
    )  # fmt: skip
    return float((logits.argmax(1) == targets[rows]).mean())


def append(path: Path, rows: list[dict[str, Any]]) -> None:
    """Add whole configurations only: the file is written anew and moved into place."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    if not path.exists():
        writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, (path.read_text() if path.exists() else "") + text.getvalue())


if __name__ == "__main__":
    main()

"""Record what each proxy says of every backbone, and what full fine-tuning then gives.

    python -m benchmarks.proxies.record textile --work data/proxies        (needs conformal-clip-data)
    python -m benchmarks.proxies.record fashion-mnist --work data/proxies  (needs Debian's dataset-fashion-mnist)
    python -m benchmarks.proxies.record digits --work data/proxies

The backbones are those of `<set>.yaml`, on 300 training, 150 validation and 400 test images.

`<set>.csv`: one row per backbone. CPU seconds of everything that a screening may do (embedding at the set's resolution
and at half of it, k-NN and linear probe, `measure_cost`, two looks at trainability) and of one epoch of fine-tuning;
the accuracy of each probe and look, and which images it was right about.

`<set>-runs.csv`: one row per full fine-tuning run, of the program's two sound defaults (everything trainable, three
quarters frozen) with two seeds: accuracy on validation and test, and which of those images were right (validation, then
test, each in the order of the manifest: bits, as hexadecimal digits).

Everything runs alone on one thread. CPU seconds of one thread hardly depend on what else the machine does. Stop at any
time: the next call goes on after the last row.
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from automl.backbones import find
from automl.data import Batches, open_cache
from automl.paths import TrialFolder
from automl.search.spec import TrialSpec
from automl.search.trial import prepare_process, run_trial, variant_of
from automl.training import Normalise, choose_device, choose_precision, predict_logits
from benchmarks.curves.record import append
from benchmarks.proxies.screening import screening_row, to_hex
from benchmarks.proxies.sets import HERE, SETS, Prepared, prepare

DEPTHS = (0.75, 0.0)
SEEDS = (0, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--work", type=Path, required=True, help="folder for images, pixels and trials")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="of the fine-tuning runs")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    prepare_process(1)
    threadpool_limits(1)  # of the libraries of linear algebra, whose idle threads spin
    prepared = prepare(given.set, given.work)
    record_screening(prepared, HERE / f"{given.set}.csv")
    for seed in SEEDS[: given.seeds]:
        record_runs(prepared, HERE / f"{given.set}-runs.csv", seed)


def record_screening(prepared: Prepared, out: Path) -> None:
    """Look at every backbone in each cheap way, one row each."""
    known = set(pd.read_csv(out)["backbone"]) if out.exists() else set()
    for choice in prepared.config.backbones:
        if choice.name not in known:
            row = screening_row(prepared, choice.name)
            append(out, [row])
            logging.info(" ".join(str(value)[:20] for value in row.values()))


def record_runs(prepared: Prepared, out: Path, seed: int) -> None:
    """Fine-tune every backbone in full with each sound default, one row each."""
    known = pd.read_csv(out) if out.exists() else pd.DataFrame(columns=["backbone", "freeze_depth", "seed"])
    done = set(known[["backbone", "freeze_depth", "seed"]].itertuples(index=False, name=None))
    for choice in prepared.config.backbones:
        for depth in DEPTHS:
            if (choice.name, depth, seed) not in done:
                row = _run(prepared, choice.name, depth, seed)
                append(out, [row])
                logging.info(" ".join(str(value)[:40] for value in row.values()))


def _run(prepared: Prepared, backbone: str, depth: float, seed: int) -> dict[str, Any]:
    spec, dataset = prepared.spec(backbone, depth, seed), prepared.dataset
    began = time.process_time()
    outcome = run_trial(
        spec, prepared.folder, TrialFolder(prepared.folder.root / "trial"), train_rows=dataset.rows("train"),
        validation_rows=dataset.rows("validation"), keep_checkpoint=False,
    )  # fmt: skip
    seconds = time.process_time() - began
    validation, test = (correct(outcome.model, spec, prepared, dataset.rows(each)) for each in ("validation", "test"))
    return {
        "backbone": backbone,
        "weights": "none" if spec.weights == "none" else "pretrained",
        "resolution": spec.resolution,
        "freeze_depth": depth,
        "seed": seed,
        "epochs": spec.epochs,
        "outcome": outcome.reason,
        "validation_accuracy": round(float(validation.mean()), 4),
        "test_accuracy": round(float(test.mean()), 4),
        "cpu_seconds": round(seconds, 2),
        "right": to_hex(np.concatenate([validation, test])),
    }


def correct(
    model: torch.nn.Module, spec: TrialSpec, prepared: Prepared, rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Whether `model` is right about each of `rows`."""
    backbone, (device, _) = find(spec.backbone), choose_device()
    variant = variant_of(backbone, spec.resolution, spec.crop_mode)
    array = open_cache(prepared.dataset.table, prepared.folder.pixels, variant, background=spec.background)
    targets = prepared.dataset.table["target"].to_numpy(np.int64)
    logits = predict_logits(
        model, Batches(array, targets, rows, batch_size=64, device=device),
        normalise=Normalise(backbone.mean, backbone.std).to(device), precision=choose_precision(device),
    )  # fmt: skip
    return np.asarray(logits.argmax(1) == targets[rows])


if __name__ == "__main__":
    main()

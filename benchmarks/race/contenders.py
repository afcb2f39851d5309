"""The contenders: how each is started, and what it handed over when."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import optuna

from automl.config import dump_config, find_space, load_config
from automl.paths import StudyFolder, write_atomic
from automl.refit import predict as predict_by_package
from automl.search.storage import load_study
from benchmarks.peers.training import predict as predict_by_peer

KINDS = {
    "automl": "automl",
    "handwritten 224": "peers",
    "handwritten 128": "peers",
    "fixed, all trains": "fixed",
    "fixed, 3/4 frozen": "fixed",
}


class Found(NamedTuple):
    """A model that a contender had.

    seconds: since the command was started.
    validation: its accuracy on the contender's own validation images.
    folder: where the model is; "" where its weights were not kept, so that it cannot be tested.
    what: the model in words.
    """

    seconds: float
    validation: float
    folder: str
    what: str


def command_of(
    contender: str,
    images: Path,
    out: Path,
    *,
    minutes: float,
    seed: int,
    weights: Path,
    space: Path,
    epochs: int | None,
) -> list[str]:
    """Return the command line of `contender`. epochs: of a fixed setting or a trial of the handwritten search, if not
    their own default."""
    if contender == "automl":
        return [
            str(Path(sys.executable).with_name("automl")), "search", str(images), "--space", str(space),
            "--budget", f"{round(60 * minutes)}s", "--seed", str(seed), "--weights-dir", str(weights),
            "--out", str(out), "--reports", str(out.with_name(out.name + "-report")),
        ]  # fmt: skip
    kind, detail = contender.split(maxsplit=1)
    options = ["--weights-dir", str(weights), "--out", str(out), "--seed", str(seed)]
    if epochs is not None:
        options += ["--epochs", str(epochs)]
    if kind == "handwritten":
        module, own = "handwritten", ["--minutes", str(minutes), "--resolution", detail]
    else:
        module, own = "fixed", ["--freeze", "0.75" if "frozen" in detail else "0"]
    return [sys.executable, "-m", f"benchmarks.peers.{module}", str(images), *options, *own]


def write_space(name: str, path: Path) -> Path:
    """Write the search space `name` with the smallest test split there is: the race has test images of its own, and
    `automl search` sets at least one image of each class aside. Returns `path`."""
    config = load_config(find_space(name))
    data = config.data.model_copy(update={"test_fraction": 1e-6})
    write_atomic(path, dump_config(config.model_copy(update={"data": data})))
    return path


def found_by(contender: str, out: Path, started: float, wall: float) -> list[Found]:
    """Return the incumbents of a finished run in `out`, the last of them being what it handed over.

    started: seconds of `time.time` when the command was started; wall: seconds that it took.
    """
    if contender == "automl":
        return _found_by_automl(StudyFolder(out), started, wall)
    log = out / "incumbents.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    found = []
    for line in lines:
        config = json.loads(Path(line["folder"], "config.json").read_text())
        what = (
            f"{config['backbone']} freeze {config['freeze']:g} {config['resolution']} px "
            f"lr {config['learning_rate']:.1e} {config['augmentation']}, epoch {config['epoch']}/{config['epochs']}"
        )
        found.append(Found(line["time"] - started, line["accuracy"], line["folder"], what))
    return found


def _found_by_automl(study: StudyFolder, started: float, wall: float) -> list[Found]:
    if not (study.model / "metrics.json").exists():
        return []
    trials = load_study(study).get_trials(states=[optuna.trial.TrialState.COMPLETE])
    found, best = [], -1.0
    for trial in sorted(trials, key=lambda each: each.datetime_complete or 0):
        if trial.value is not None and trial.value > best and trial.datetime_complete is not None:
            best = trial.value
            found.append(Found(trial.datetime_complete.timestamp() - started, best, "", f"trial {trial.number}"))
    metrics = json.loads((study.model / "metrics.json").read_text())
    spec = json.loads(study.trial(metrics["trial"]).spec.read_text())
    what = (
        f"{spec['backbone'].partition('/')[2]} freeze {spec['freeze_depth']:g} {spec['resolution']} px "
        f"lr {spec['learning_rate']:.1e} {spec['augmentation']}, {metrics['epochs']}/{spec['epochs']} epochs, "
        f"{metrics['train_images']} images"
    )
    return [*found, Found(wall, metrics["validation"]["accuracy"], str(study.model), what)]


def predict(contender: str, model: Found, paths: Sequence[str]) -> list[str | None]:
    """Return the label that `model` gives each image."""
    if contender == "automl":
        return [each.label for each in predict_by_package(Path(model.folder), [Path(each) for each in paths])[0]]
    return list(predict_by_peer(Path(model.folder), paths))


def reloaded_validation(contender: str, model: Found) -> float | None:
    """Return the accuracy of a peer's saved model on its own validation images: what it reported, if all is right."""
    if contender == "automl":
        return None  # the refit has trained on them
    paths = json.loads(Path(model.folder, "config.json").read_text())["validation"]
    predicted = predict(contender, model, paths)
    right = [label == Path(path).parent.name for label, path in zip(predicted, paths, strict=True)]
    return sum(right) / len(right)

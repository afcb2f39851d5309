"""The refit of the winner, as much of it as time, memory and device allow; else the trial's own weights."""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from automl.config import SearchConfig
from automl.errors import NoTrialFinishedError, StorageError, UsageError, last_line
from automl.paths import StudyFolder, write_atomic
from automl.ranking.files import load_json
from automl.refit import RefitSpec, adopt, affordable_epochs, epochs_on, in_words, refit
from automl.search.budget import REFIT_MARGIN
from automl.search.cluster import cluster, each_task, resources
from automl.search.spec import TrialSpec
from automl.search.trial import prepare_process
from automl.training import choose_device, is_out_of_memory

if TYPE_CHECKING:
    import optuna

__all__ = ["adopt_best", "is_whole", "more_epochs", "refit_best"]

logger = logging.getLogger(__name__)

PATIENCE = (
    2  # times the seconds that a refit has (and a minute), after which one on the cluster has not begun, or hangs
)


def refit_best(
    config: SearchConfig,
    folder: StudyFolder,
    trial: optuna.trial.FrozenTrial,
    *,
    seconds: float = math.inf,
    epoch_seconds: float = 0.0,
    foreseen_on: str = "cpu",
    ray_address: str | None = None,
) -> dict[str, Any]:
    """Refit `trial`, or go on with its refit that was interrupted, and say how it scored.

    Where `seconds` do not allow all of its epochs, the weights that it left are trained on, for as many as they do, or
    handed over as they are, where those are too few; if it left none, it is refitted for as many as there is time for.
    So are they handed over where it runs out of memory with half as many images at a time, too.

    Args:
        epoch_seconds: Of its refit, as foreseen for the device `foreseen_on`.
        ray_address: Of the cluster that the trials ran on. Where that has GPUs and this machine has none, one of the
            cluster's takes over; without, the trial's own weights are handed over.

    Raises:
        NoTrialFinishedError: The refit diverged, or there is no memory for it.
    """
    prepare_process(None)
    before = (load_json(folder.model / "metrics.json") or {}).get("test_opened")
    elsewhere, kept = foreseen_on != "cpu" and choose_device()[0].type == "cpu", folder.trial(trial.number).weights
    if elsewhere and ray_address is not None:
        metrics = _refit_on_cluster(config, folder, trial, seconds, epoch_seconds, ray_address=ray_address)
    elif elsewhere and kept.exists():
        no_gpu = "the machine of this command has no GPU to make it on in time"
        metrics = adopt_best(config, folder, trial, note=f"its refit was foreseen on {foreseen_on}, and {no_gpu}")
    else:
        metrics = _refit(config, folder, trial, seconds, epoch_seconds)
    _tell(metrics, opened=metrics["test_opened"] != before)
    return metrics


def _refit_on_cluster(
    config: SearchConfig,
    folder: StudyFolder,
    trial: optuna.trial.FrozenTrial,
    seconds: float,
    epoch_seconds: float,
    *,
    ray_address: str,
) -> dict[str, Any]:
    """Refit on a GPU of the cluster; where that cannot be, hand over the trial's own weights."""
    search, absolute = config.search, StudyFolder(folder.root.resolve())
    needed = max(seconds, trial.user_attrs["spec"]["epochs"] * epoch_seconds)
    work, end = [(config, absolute, trial, seconds, epoch_seconds)], time.monotonic() + 60.0 + PATIENCE * needed
    found: Any = None
    try:
        with cluster(ray_address, search.gpus_per_trial):
            share, _ = resources(search.cpus_per_trial, search.gpus_per_trial, search.concurrency)
            if not share.gpus:
                raise UsageError("the cluster has no GPU")
            logger.info("the refit of trial %d is made on a machine of the cluster", trial.number)
            (found,) = each_task(
                _refit, work, share, done=lambda index, result: None, enough=lambda: time.monotonic() > end
            )
    except (StorageError, UsageError) as error:
        found = error
    if isinstance(found, dict):
        return found
    cause = getattr(found, "cause", found)
    if isinstance(cause, NoTrialFinishedError):
        raise cause
    why = f"ended with: {last_line(cause)}" if cause is not None else "was not over in time"
    if not folder.trial(trial.number).weights.exists():
        raise NoTrialFinishedError(
            f"the refit of trial {trial.number} on the cluster {why}; choose another with: "
            f"automl refit {folder.argument} --trial N"
        )
    return adopt_best(config, folder, trial, note=f"its refit on the cluster {why}")


def _refit(
    config: SearchConfig,
    folder: StudyFolder,
    trial: optuna.trial.FrozenTrial,
    seconds: float,
    epoch_seconds: float,
) -> dict[str, Any]:
    """`refit_best` on the machine of this process."""
    kept = folder.trial(trial.number).weights.exists()
    full = TrialSpec.from_dict(trial.user_attrs["spec"])
    spec, note, on = _interrupted_refit(folder, full), "its refit went on after an interruption", 0
    if spec is None:
        spec, note = affordable_epochs(full, seconds=seconds, epoch_seconds=epoch_seconds)
        if note and kept:
            needed = full.epochs * epoch_seconds
            note = f"a refit takes about {needed:.0f} s, and {max(0.0, seconds):.0f} s of the budget were left"
            on = more_epochs(full, seconds=seconds, epoch_seconds=epoch_seconds)
            if not on:
                return adopt_best(config, folder, trial, note=note)
            spec = full
    if note:
        logger.warning(note)
    if on:
        logger.info("trial %d is trained on, on train + validation, for %d epochs", trial.number, on)
    else:
        logger.info("refit of trial %d on train + validation, %d epochs", trial.number, spec.epochs)

    def tell(facts: dict[str, Any]) -> None:
        logger.info("refit epoch %d/%d: training loss %.4f", facts["epoch"], on or spec.epochs, facts["train_loss"])

    at_once = spec.micro_batch or spec.batch_size
    half = max(1, at_once // 2)
    smaller = f"{half} images at a time, since there was no memory for {at_once}"
    for each, why_so in ((spec, note), (replace(spec, micro_batch=half), "; ".join(filter(None, [note, smaller])))):
        wanted = RefitSpec(trial.number, each, trial.user_attrs.get("metrics", {}), why_so)
        try:
            return refit(wanted, folder, max_pixels=config.data.max_pixels, on=on, report=tell)
        except FloatingPointError as error:
            another = f"choose another with: automl refit {folder.argument} --trial N"
            raise NoTrialFinishedError(f"{error}; {another}") from error
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            why = last_line(error)
        logger.warning(
            "the refit ran out of memory with %d images at a time: %s", each.micro_batch or each.batch_size, why
        )
    if not kept:
        raise NoTrialFinishedError(
            f"the refit of trial {trial.number} ran out of memory twice: {why}; free some, then: "
            f"automl refit {folder.argument} --trial {trial.number}"
        )
    return adopt_best(config, folder, trial, note=f"the refit ran out of memory twice: {why}")


def adopt_best(
    config: SearchConfig,
    folder: StudyFolder,
    trial: optuna.trial.FrozenTrial,
    *,
    note: str,
    open_test: bool = True,
) -> dict[str, Any]:
    """Hand over `trial` with its own weights, and say why. What was handed over so before is not scored again."""
    logger.info("trial %d is handed over with its own weights: %s", trial.number, note)
    there = load_json(folder.model / "metrics.json") or {}
    if open_test and there.get("trial") == trial.number and _is_own(there) and is_whole(folder, trial):
        there["note"] = note
        write_atomic(folder.model / "metrics.json", json.dumps(there, indent=2))
        return there
    attrs = trial.user_attrs
    wanted = RefitSpec(trial.number, TrialSpec.from_dict(attrs["spec"]), attrs.get("metrics", {}), note)
    return adopt(
        wanted,
        folder,
        epochs=attrs["epochs"],
        seconds=attrs["train_seconds"],
        max_pixels=config.data.max_pixels,
        open_test=open_test,
    )


def more_epochs(spec: TrialSpec, *, seconds: float, epoch_seconds: float) -> int:
    """Return for how many epochs a trial is trained on where `seconds` are too few for its refit; 0: not at all.

    Args:
        epoch_seconds: Of its refit, as foreseen.
    """
    return epochs_on(spec, seconds=seconds, epoch_seconds=REFIT_MARGIN * epoch_seconds)


def is_whole(folder: StudyFolder, trial: optuna.trial.FrozenTrial) -> bool:
    """Whether the package, if it is of `trial`, has all its files."""
    head = ["head.safetensors"] if trial.user_attrs["spec"].get("head") == "mlp" else []
    return all((folder.model / name).exists() for name in ["package.json", "model.safetensors", *head])


def _is_own(metrics: dict[str, Any]) -> bool:
    """Whether these are of a trial's own weights, tested."""
    return metrics.get("refitted") is False and not metrics.get("trained_on") and "test" in metrics


def _tell(metrics: dict[str, Any], *, opened: bool) -> None:
    logger.info("%s: %s", "test split opened" if opened else "scored before on the test split", in_words(metrics))
    if metrics["test_opened"] > 1:
        logger.warning(
            "the test split was scored %d times: choosing between models by these scores makes them optimistic",
            metrics["test_opened"],
        )


def _interrupted_refit(folder: StudyFolder, full: TrialSpec) -> TrialSpec | None:
    """The specification of a refit of the same configuration that left a checkpoint, with the epochs it began with."""
    begun = TrialSpec.read(folder.refit.spec)
    if begun is None or not folder.refit.checkpoint.exists():
        return None
    same = replace(begun, epochs=full.epochs, warmup_epochs=full.warmup_epochs).identity == full.identity
    return begun if same else None

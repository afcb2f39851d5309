"""The plan: what was screened, what a trial will cost, how the budget is divided, what is tried first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from automl.config import SearchConfig
from automl.data import Dataset
from automl.errors import NoTrialFinishedError, UsageError
from automl.screening import MAX_IMAGES, Candidate, Choice, Cost, shortlist
from automl.search.budget import CONFIRMED, CostModel
from automl.search.defaults import default_trials, sound_policy
from automl.space import Space

__all__ = ["Plan", "Screened", "cost_model", "load_plan", "make_plan"]


@dataclass(frozen=True)
class Screened:
    """What the screening found for one backbone at its default resolution in the space: cross-validated accuracies of
    the probes with their 95 % intervals, seconds of the embedding, and what it costs."""

    backbone: str
    resolution: int
    knn_accuracy: float
    linear_accuracy: float
    embed_seconds: float
    cost: Cost
    latencies: dict[int, float] = field(default_factory=dict)  # milliseconds of one image, by resolution
    choices: list[dict[str, Any]] = field(default_factory=list)  # device and precision, with the reasons
    knn_ci95: tuple[float, float] | None = None
    linear_ci95: tuple[float, float] | None = None
    prior: float | None = None  # published ImageNet top-1 of the weights, 0…1
    pretrained: bool = True


@dataclass(frozen=True)
class Plan:
    """What the search will do. `choices` are automatic decisions: name, value, reason. `unfinished`: other backbones
    are still to be screened."""

    screened: list[Screened]
    shortlist: list[Choice]
    budget: dict[str, float]
    choices: list[dict[str, Any]]
    warnings: list[str]
    trial_seconds: dict[str, dict[str, float]]
    epoch_seconds: dict[str, float]
    unfinished: bool = False
    warm_start: dict[str, Any] = field(default_factory=dict)  # of `WarmStart.to_dict`; empty without earlier studies

    def check_budget(self) -> None:
        """Refuse a budget that ends before the cheapest trial does.

        Raises:
            NoTrialFinishedError: With the least budget that would do.
        """
        if self.budget["least_seconds"] > self.budget["total_seconds"]:
            raise NoTrialFinishedError(
                f"a budget of {self.budget['total_seconds']:.0f} s is too short for one trial on this machine: "
                f"use at least --budget {self.budget['least_seconds'] * 1.2:.0f}s"
            )

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2)

    @property
    def backbones(self) -> list[str]:
        return [choice.backbone for choice in self.shortlist if choice.included]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON value that the report reads."""
        reasons = {choice.backbone: choice for choice in self.shortlist}
        return {
            "screening": [
                {
                    "backbone": each.backbone,
                    "resolution": each.resolution,
                    "knn_accuracy": each.knn_accuracy,
                    "linear_accuracy": each.linear_accuracy,
                    "knn_ci95": each.knn_ci95,
                    "linear_ci95": each.linear_ci95,
                    "prior": each.prior,
                    "pretrained": each.pretrained,
                    "embed_seconds": each.embed_seconds,
                    "seconds_per_epoch": self.epoch_seconds[each.backbone],
                    "latencies": {str(side): latency for side, latency in each.latencies.items()},
                    "included": reasons[each.backbone].included,
                    "reason": reasons[each.backbone].reason,
                    **each.cost.to_dict(),
                }
                for each in self.screened
            ],
            "budget": self.budget,
            "choices": self.choices,
            "warnings": self.warnings,
            "trial_seconds": self.trial_seconds,
            "epoch_seconds": self.epoch_seconds,
            "unfinished": self.unfinished,
            **({"warm_start": self.warm_start} if self.warm_start else {}),
        }


def cost_model(screened: Sequence[Screened], dataset: Dataset) -> CostModel:
    """Return what trials of the screened backbones cost on `dataset`."""
    train, validation, test = (len(dataset.rows(split)) for split in ("train", "validation", "test"))
    whole = train + validation <= MAX_IMAGES  # else the screening has embedded a sample
    return CostModel(
        {each.backbone: each.cost for each in screened},
        {each.backbone: each.resolution for each in screened},
        train_images=train,
        validation_images=validation,
        test_images=test,
        embedded={(each.backbone, each.resolution) for each in screened if whole and each.pretrained},
        sampled=not whole,
        random=frozenset(each.backbone for each in screened if not each.pretrained),
    )


def make_plan(
    config: SearchConfig,
    dataset: Dataset,
    space: Space,
    screened: list[Screened],
    *,
    seconds_left: float,
    seconds_spent: float,
    choices: list[dict[str, Any]],
    keep: Sequence[str] = (),
    unfinished: bool = False,
    at_once: int = 1,
) -> Plan:
    """Shortlist the screened backbones and divide what is left of the budget.

    Args:
        keep: Backbones that the study has trials of; they stay, in this order, before all others.
        at_once: Trials that run at the same time.
    """
    costs = cost_model(screened, dataset)
    epochs = config.training.epochs
    policy = sound_policy(epochs)
    kinds = {"head only": (1.0, "none"), "mostly frozen": (0.75, policy), "everything": (0.0, policy)}
    seconds: dict[str, dict[str, float]] = {}
    epoch_seconds, reserves, refits, again = {}, {}, {}, {}
    for each in screened:
        sound = space.params(space.nearest({"backbone": each.backbone, "resolution": each.resolution}))
        sound |= {"backbone": each.backbone, "mixup": 0.0, "cutmix": 0.0}
        trials = {kind: {**sound, "freeze_depth": depth, "augmentation": name} for kind, (depth, name) in kinds.items()}
        seconds[each.backbone] = {kind: costs.trial_seconds(params, epochs) for kind, params in trials.items()}
        epoch_seconds[each.backbone] = costs.epoch_seconds(trials["everything"])
        refits[each.backbone] = costs.refit_fits(trials["everything"], epochs, seconds_left)
        reserves[each.backbone] = costs.reserve(trials["everything"], epochs, refit=refits[each.backbone])
        again[each.backbone] = (
            costs.confirmation_seconds(
                CONFIRMED * [trials["everything"]],
                epochs,
                seconds=seconds_left,
                repeats=config.search.repeats,
                at_once=at_once,
            )
            if refits[each.backbone]
            else 0.0
        )
    pinned = {choice.name for choice in config.backbones if choice.pinned}
    decided = shortlist(
        [
            Candidate(
                each.backbone,
                each.knn_accuracy,
                each.linear_accuracy,
                seconds[each.backbone]["everything"],
                prior=each.prior,
                pretrained=each.pretrained,
                pinned=each.backbone in pinned,
            )
            for each in screened
        ],
        search_seconds=seconds_left - min(reserves.values()),
    )
    decided = [
        replace(each, included=True, reason="in the study already")
        if each.backbone in keep and not each.included
        else each
        for each in decided
    ]
    kept = [choice.backbone for choice in decided if choice.included]
    tried = [space.params({**each}) for each in default_trials(kept, space, epochs)]
    least = min(costs.trial_seconds(each, epochs) + costs.reserve(each, epochs, refit=False) for each in tried)
    reserve = min(reserves[each] for each in kept)
    confirming = min((again[each] for each in kept if again[each]), default=0.0)
    choices = [*choices, _trained_again(confirming, config.search.repeats)]
    choices.append(_handed_over([each for each in kept if refits[each]], kept))
    cheapest_past_head = min(each["mostly frozen"] for each in seconds.values())
    warnings = []
    if seconds_left < cheapest_past_head + reserve:
        warnings.append(
            f"the budget is too short to train anything past the head: the cheapest such trial takes about "
            f"{cheapest_past_head:.0f} s, and {max(0.0, seconds_left - reserve):.0f} s are left"
        )
    typical = sorted(seconds[each]["everything"] for each in kept)[len(kept) // 2]
    return Plan(
        screened=screened,
        shortlist=decided,
        budget={
            "total_seconds": seconds_left + seconds_spent,
            "screening_seconds": seconds_spent,
            "search_seconds": max(0.0, seconds_left - confirming - reserve),
            "confirmation_seconds": confirming,
            "refit_seconds": reserve,
            "least_seconds": seconds_spent + least,
            "trials_per_hour": 3600 / typical,
        },
        choices=choices,
        warnings=warnings,
        trial_seconds=seconds,
        epoch_seconds=epoch_seconds,
        unfinished=unfinished,
    )


def _trained_again(seconds: float, repeats: int) -> dict[str, Any]:
    """Say whether the best configurations are trained again before one is chosen."""
    if seconds:
        value, reason = (
            "the best configurations",
            f"on new splits, up to {repeats} times each, as long as there is time",
        )
    elif repeats:
        value, reason = "only what is cheap", "three whole trials more would take over a fifth of the time"
    else:
        value, reason = "none", "repeats: 0 in the config"
    return {"name": "train again", "value": value, "reason": reason}


def _handed_over(refitted: list[str], kept: list[str]) -> dict[str, Any]:
    """Say what the winner will be: retrained on train + validation, or as its trial left it."""
    if len(refitted) == len(kept):
        return {"name": "hand over", "value": "refit", "reason": "there is time for a whole trial and its refit"}
    if not refitted:
        reason = "a whole trial and its refit do not fit the budget"
        return {"name": "hand over", "value": "own weights of the best trial", "reason": reason}
    reason = f"a whole trial and its refit fit the budget with {', '.join(refitted)} only"
    return {"name": "hand over", "value": "refit, or own weights of the best trial", "reason": reason}


def load_plan(path: Path) -> Plan:
    """Read what `Plan.to_json` wrote.

    Raises:
        UsageError: It is not there, or damaged.
    """
    try:
        return _parsed(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"{type(error).__name__} {error}" if isinstance(error, KeyError | TypeError) else error
        raise UsageError(f"cannot read the plan {path}: {what}; start a new study with --out") from error


def _parsed(value: dict[str, Any]) -> Plan:
    names = {each.name for each in fields(Cost)}
    return Plan(
        screened=[
            Screened(
                each["backbone"], each["resolution"], each["knn_accuracy"], each["linear_accuracy"],
                each["embed_seconds"], Cost.from_dict({key: entry for key, entry in each.items() if key in names}),
                {int(side): latency for side, latency in each["latencies"].items()},
                knn_ci95=_pair(each.get("knn_ci95")), linear_ci95=_pair(each.get("linear_ci95")),
                prior=each.get("prior"), pretrained=each.get("pretrained", True),
            )
            for each in value["screening"]
        ],
        shortlist=[Choice(each["backbone"], each["included"], each["reason"]) for each in value["screening"]],
        budget=value["budget"],
        choices=value["choices"],
        warnings=value["warnings"],
        trial_seconds=value["trial_seconds"],
        epoch_seconds=value["epoch_seconds"],
        unfinished=value.get("unfinished", False),
        warm_start=value.get("warm_start", {}),
    )  # fmt: skip


def _pair(value: Any) -> tuple[float, float] | None:
    return None if value is None else (value[0], value[1])

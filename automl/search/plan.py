"""The plan as a value and as JSON: what was screened, what a trial costs, how the budget is divided.

How it is made is in `planning.py`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from automl.errors import NoTrialFinishedError, UsageError
from automl.screening import Choice, Cost, Speed

__all__ = ["Plan", "Screened", "load_plan"]


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
    speeds: dict[int, Speed] = field(default_factory=dict)  # by resolution
    choices: list[dict[str, Any]] = field(default_factory=list)  # device and precision, with the reasons
    knn_ci95: tuple[float, float] | None = None
    linear_ci95: tuple[float, float] | None = None
    prior: float | None = None  # published ImageNet top-1 of the weights, 0…1
    pretrained: bool = True


@dataclass(frozen=True)
class Plan:
    """What the search will do.

    shortlist: a choice for each of `screened`, in that order.
    unscreened: backbones that could not be screened, or for which there was no time.
    order: the shortlisted backbones as their sound configurations are tried.
    choices: automatic decisions: name, value, reason.
    trial_seconds: predicted for a whole trial, by backbone and what trains; what the space does not have is left out.
    unfinished: other backbones are still to be screened.
    memory_share: part of a device's memory that a trial can have.
    """

    screened: list[Screened]
    shortlist: list[Choice]
    budget: dict[str, float]
    choices: list[dict[str, Any]]
    warnings: list[str]
    trial_seconds: dict[str, dict[str, float]]
    epoch_seconds: dict[str, float]
    unscreened: list[Choice] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    unfinished: bool = False
    warm_start: dict[str, Any] = field(default_factory=dict)  # of `WarmStart.to_dict`; empty without earlier studies
    memory_share: float = 1.0

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
                    "speeds": {str(side): speed.to_dict() for side, speed in each.speeds.items()},
                    "included": reasons[each.backbone].included,
                    "reason": reasons[each.backbone].reason,
                    "place": reasons[each.backbone].place,
                    **each.cost.to_dict(),
                }
                for each in self.screened
            ],
            "unscreened": [{"backbone": each.backbone, "reason": each.reason} for each in self.unscreened],
            "order": self.order,
            "budget": self.budget,
            "choices": self.choices,
            "warnings": self.warnings,
            "trial_seconds": self.trial_seconds,
            "epoch_seconds": self.epoch_seconds,
            "unfinished": self.unfinished,
            "memory_share": self.memory_share,
            **({"warm_start": self.warm_start} if self.warm_start else {}),
        }


def load_plan(path: Path) -> Plan:
    """Read what `Plan.to_json` wrote.

    Raises:
        UsageError: It is not there, or damaged.
    """
    try:
        return _parsed(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        what = f"{type(error).__name__} {error}" if isinstance(error, KeyError | TypeError) else error
        raise UsageError(f"cannot read the plan {path}: {what}; start a new study with --out") from error


def _parsed(value: dict[str, Any]) -> Plan:
    names = {each.name for each in fields(Cost)}
    return Plan(
        screened=[
            Screened(
                each["backbone"], each["resolution"], each["knn_accuracy"], each["linear_accuracy"],
                each["embed_seconds"], Cost.from_dict({key: entry for key, entry in each.items() if key in names}),
                {int(side): Speed.from_dict(speed) for side, speed in each.get("speeds", {}).items()},
                knn_ci95=_pair(each.get("knn_ci95")), linear_ci95=_pair(each.get("linear_ci95")),
                prior=each.get("prior"), pretrained=each.get("pretrained", True),
            )
            for each in value["screening"]
        ],
        shortlist=[
            Choice(each["backbone"], each["included"], each["reason"], each.get("place", 0))
            for each in value["screening"]
        ],
        budget=value["budget"],
        choices=value["choices"],
        warnings=value["warnings"],
        trial_seconds=value["trial_seconds"],
        epoch_seconds=value["epoch_seconds"],
        unscreened=[Choice(each["backbone"], False, each["reason"]) for each in value.get("unscreened", [])],
        order=list(value.get("order", [each["backbone"] for each in value["screening"] if each["included"]])),
        unfinished=value.get("unfinished", False),
        warm_start=value.get("warm_start", {}),
        memory_share=value.get("memory_share", 1.0),
    )  # fmt: skip


def _pair(value: Any) -> tuple[float, float] | None:
    return None if value is None else (value[0], value[1])

"""What is taken from earlier studies, as values that the study and the plan keep; `warm_start.learn` makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Considered", "LeftOut", "Taken", "WarmStart"]


@dataclass(frozen=True)
class Taken:
    """A configuration to try: `params` are complete, in the new space; `moved` says what differs from the trial, whose
    `score` is in the `metric` of its study."""

    study: str
    trial: int
    metric: str
    score: float
    params: dict[str, Any]
    moved: tuple[str, ...] = ()

    @property
    def attrs(self) -> dict[str, Any]:
        """User attributes of the trial that tries it."""
        source = {"study": self.study, "trial": self.trial, "metric": self.metric, "score": self.score}
        return {"origin": "warm start", "warm_start": {**source, "moved": list(self.moved)}}


@dataclass(frozen=True)
class Considered:
    """An earlier study: how far its data are from these, in all and by feature (None: it could not be read), how many
    of its configurations are taken, and why none or no more (empty where there is nothing to say)."""

    study: str
    distance: float | None
    differences: dict[str, float]
    taken: int
    why: str


@dataclass(frozen=True)
class LeftOut:
    """A good configuration of an earlier study that is not taken."""

    study: str
    trial: int
    why: str


@dataclass(frozen=True)
class WarmStart:
    """Studies in the order of their distance, those that could not be used last."""

    taken: tuple[Taken, ...] = ()
    studies: tuple[Considered, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> WarmStart:
        """Read what `to_dict` gave; an empty object is a search that was given no earlier studies."""
        return cls(
            tuple(Taken(**{**each, "moved": tuple(each["moved"])}) for each in value.get("taken", ())),
            tuple(Considered(**each) for each in value.get("studies", ())),
            tuple(LeftOut(**each) for each in value.get("left_out", ())),
        )

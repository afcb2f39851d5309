"""SearchConfig and its parts: the values of a search space file, validated by pydantic, frozen."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    field_validator,
    model_validator,
)

__all__ = [
    "METRICS",
    "BackboneChoice",
    "DataConfig",
    "Range",
    "RunConfig",
    "SearchConfig",
    "TrainingConfig",
    "metric_name",
    "parse_duration",
]

Metric = Literal["accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "log_loss", "auroc"]
METRICS: tuple[str, ...] = get_args(Metric)


def metric_name(metric: str) -> str:
    """Return ``macro F1`` for ``macro_f1``."""
    return metric.replace("_", " ").replace("f1", "F1").replace("auroc", "AUROC")


_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(value: str | float) -> float:
    """Return seconds for ``8h``, ``90m``, ``1h30m``, ``45s`` or a plain number of seconds.

    Raises:
        ValueError: It is none of these, or not above zero.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    else:
        text = str(value).strip().lower().removeprefix("+")
        parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
        if parts and "".join(number + unit for number, unit in parts) == text:
            seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
        elif re.fullmatch(r"\d+(\.\d+)?", text):
            seconds = float(text)
        else:
            raise ValueError(f'not a duration: given "{value}"; write for example 8h, 90m, 1h30m or 45s')
    if not 0 < seconds < float("inf"):
        raise ValueError(f"a duration must be above zero: given {value}")
    return seconds


Duration = Annotated[float, BeforeValidator(parse_duration, json_schema_input_type=str | float)]


class _Strict(BaseModel):
    # No unknown keys, no conversions: `epochs: true` is a mistake and not one epoch.
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, strict=True)


class BackboneChoice(_Strict):
    """A backbone by name, and where its weights are (None looks them up, `none` starts from random)."""

    name: str
    weights: Literal["none"] | Annotated[Path, Strict(False)] | None = Field(None, union_mode="left_to_right")
    pinned: bool = Field(False, description="searched whatever the screening shows of it")


class Range(_Strict):
    """An interval to sample from, ends included."""

    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)
    log: bool = False
    step: float | None = Field(None, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low must be below high: given low={self.low:g} high={self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"a log range must start above zero: given low={self.low:g}")
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other")
        if self.step is not None:
            low, high, step = (Decimal(str(number)) for number in (self.low, self.high, self.step))
            if (high - low) % step:
                raise ValueError(f"step must divide high - low: given {step} and {high - low}")
        return self


class TrainingConfig(_Strict):
    """What every trial of a study shares."""

    epochs: int = Field(8, ge=1, le=10_000)
    warmup_epochs: float = Field(1.0, ge=0)
    ema_decay: float = Field(0.0, ge=0, lt=1, description="decay per step of averaged weights; 0 is off")
    class_weights: Literal["auto", "balanced", "none"] = "auto"
    micro_batch: int | None = Field(
        None, ge=1, description="images per forward pass; gradients are accumulated up to batch_size; null: all of them"
    )
    clip_grad: float | None = Field(1.0, gt=0)

    @model_validator(mode="after")
    def _warm_up_ends(self) -> TrainingConfig:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs must be below epochs: given {self.warmup_epochs:g} of {self.epochs}")
        return self


class RunConfig(_Strict):
    """How the search is run: objective, budget, early stopping, resources."""

    metric: Metric = "accuracy"
    trials: int | None = Field(None, ge=1, description="stop after this many trials; none: until the budget ends")
    budget: Duration = 3600.0
    scheduler: Literal["asha", "none"] = Field("asha", description="early stopping; none: every trial runs in full")
    grace_epochs: int = Field(1, ge=1, description="epochs until a trial is first compared with others of its kind")
    reduction: int = Field(3, ge=2, description="of so many trials at a rung one goes on; the others pause")
    seed: int = Field(0, ge=0, lt=2**32)
    concurrency: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    cpus_per_trial: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    gpus_per_trial: Annotated[float, Field(ge=0)] | Literal["auto"] = "auto"
    max_retries: int = Field(2, ge=0)
    patience: int | None = Field(
        None, ge=1, description="stop as converged after this many trials without a better one; null: never"
    )
    hang_after: Duration | Literal["auto"] = Field(
        "auto", union_mode="left_to_right", description="a trial that reports nothing for this long is ended and tried "
        "once more; auto: two minutes and ten times what its next epoch should take"
    )  # fmt: skip
    repeats: int = Field(
        3, ge=0, le=100, description="how often each of the best configurations is trained again, on new splits, "
        "before one is chosen, as far as a fifth of the budget pays for it; 0: the best score is chosen"
    )  # fmt: skip
    max_failures: int = Field(5, ge=1, description="stop after this many failures in a row")
    storage: str | None = Field(None, description="RDB URL of the Optuna storage; default: SQLite in the study folder")
    warm_start: list[Annotated[Path, Strict(False)]] = Field(
        default_factory=list, description="earlier studies to learn from: study folders, or folders of them"
    )


class DataConfig(_Strict):
    """How images are read and split."""

    validation_fraction: float = Field(0.15, gt=0, lt=1)
    test_fraction: float = Field(0.15, gt=0, lt=1)
    crop_mode: Literal["squash", "center", "border"] = "squash"
    background: Annotated[tuple[int, int, int], Strict(False)] = (255, 255, 255)
    max_pixels: int = Field(89_000_000, ge=1)

    @field_validator("background")
    @classmethod
    def _bytes(cls, value: tuple[int, int, int]) -> tuple[int, int, int]:
        if not all(0 <= channel <= 255 for channel in value):
            raise ValueError(f"each channel must be 0 to 255: given {list(value)}")
        return value

    @model_validator(mode="after")
    def _leaves_training(self) -> DataConfig:
        if self.validation_fraction + self.test_fraction >= 0.95:
            raise ValueError("validation_fraction + test_fraction must leave at least 5 % to train on")
        return self


Choices = list[Any]


class SearchConfig(_Strict):
    """A search space and how to search it."""

    description: str = ""
    dataset: str | None = Field(None, description="the DATA of the command line; written into resolved.yaml")
    backbones: list[BackboneChoice] = Field(min_length=1)
    params: dict[str, Range | Choices | int | float | str] = Field(default_factory=dict)
    training: TrainingConfig = TrainingConfig()
    search: RunConfig = RunConfig()
    data: DataConfig = DataConfig()

    @field_validator("backbones", mode="before", json_schema_input_type=list[str | BackboneChoice])
    @classmethod
    def _names(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return [{"name": entry} if isinstance(entry, str) else entry for entry in value]

    @field_validator("backbones")
    @classmethod
    def _distinct(cls, value: list[BackboneChoice]) -> list[BackboneChoice]:
        names = [choice.name for choice in value]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"listed more than once: {', '.join(repeated)}")
        return value

    @field_validator("params")
    @classmethod
    def _pairs(cls, value: dict[str, Any]) -> dict[str, Any]:
        mixed = any(_numbers(value.get(name, 0))[-1:] > [0] for name in ("mixup", "cutmix"))
        if mixed and any(size % 2 for size in _numbers(value.get("batch_size", 2))):
            raise ValueError("mixup and cutmix mix pairs of images: batch_size must be even (of a range, step too)")
        return value


def _numbers(value: Range | Choices | float | str) -> list[float]:
    """The numbers that decide what `value` can be, in ascending order; of a range also its step."""
    if isinstance(value, Range):
        return sorted([value.step or 1.0, value.low, value.high])
    return sorted(item for item in (value if isinstance(value, list) else [value]) if isinstance(item, (int, float)))

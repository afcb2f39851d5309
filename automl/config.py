"""SearchConfig: a strict YAML 1.2 file, validated whole, every mistake reported at once with file and line.

A search space file and the `resolved.yaml` of a study are the same format: the second is the first with every
default and command-line option filled in, so `automl search --space runs/NAME/resolved.yaml` repeats a study.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError

from automl.errors import ConfigError, did_you_mean

__all__ = [
    "AUGMENTATIONS",
    "METRICS",
    "PARAMETERS",
    "BackboneChoice",
    "DataConfig",
    "Parameter",
    "Range",
    "RunConfig",
    "SearchConfig",
    "TrainingConfig",
    "dump_config",
    "load_config",
    "parse_config",
    "parse_duration",
]

Metric = Literal["accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "log_loss"]
METRICS: tuple[str, ...] = get_args(Metric)
AUGMENTATIONS = ("none", "light", "affine", "trivial", "rand", "augmix", "three")


class Parameter(NamedTuple):
    """One hyperparameter of a trial: its type, the value when the space is silent, and what it may be.

    A default of None means: the backbone's own sound default (`backbones.default_params`).
    """

    kind: type
    default: Any
    doc: str
    low: float = 0.0
    high: float = 1.0
    choices: tuple[str, ...] = ()


PARAMETERS: dict[str, Parameter] = {
    "freeze_depth": Parameter(
        float, 0.0, "fraction of the backbone's stages that is frozen (0 everything trains, 1 head only)"
    ),
    "resolution": Parameter(int, 224, "side of the square input, in pixels", 28, 1024),
    "learning_rate": Parameter(float, None, "peak learning rate of the head and the last stage", 1e-8, 1.0),
    "layer_decay": Parameter(float, None, "factor on the learning rate per stage below the head", 0.01, 1.0),
    "weight_decay": Parameter(float, None, "decoupled weight decay; never on norms and biases", 0.0, 1.0),
    "augmentation": Parameter(str, "light", "augmentation policy of the training images", choices=AUGMENTATIONS),
    "magnitude": Parameter(int, 9, "strength of the `rand` policy", 0, 30),
    "label_smoothing": Parameter(float, 0.1, "probability mass spread over the other classes", 0.0, 0.9),
    "mixup": Parameter(float, 0.0, "alpha of mixup, 0 is off", 0.0, 10.0),
    "cutmix": Parameter(float, 0.0, "alpha of cutmix, 0 is off", 0.0, 10.0),
    "optimizer": Parameter(str, "adamw", "optimizer", choices=("adamw", "sgd")),
    "batch_size": Parameter(int, 32, "images per optimizer step", 2, 65536),
    "head": Parameter(str, "linear", "linear, or an MLP of 1024 ReLU units", choices=("linear", "mlp")),
    "dropout": Parameter(float, 0.0, "dropout in front of the last linear layer", 0.0, 0.9),
    "drop_path": Parameter(float, 0.0, "stochastic depth, where the backbone has it", 0.0, 0.9),
}

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
            raise ValueError(f'"{value}" is not a duration; write for example 8h, 90m, 1h30m or 45s')
    if not 0 < seconds < float("inf"):
        raise ValueError(f"a duration must be above zero: given {value}")
    return seconds


Duration = Annotated[float, BeforeValidator(parse_duration)]


class _Strict(BaseModel):
    """No unknown keys, no conversions: `epochs: true` is a mistake and not one epoch."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, strict=True)


class BackboneChoice(_Strict):
    """A backbone by name, and where its weights are (None looks them up, `none` starts from random)."""

    name: str
    weights: Literal["none"] | Annotated[Path, Strict(False)] | None = Field(None, union_mode="left_to_right")


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
        steps = (self.high - self.low) / (self.step or 1)
        if self.step is not None and abs(steps - round(steps)) > 1e-8:
            raise ValueError(f"step must divide high - low: given {self.step:g} and {self.high - self.low:g}")
        return self


class TrainingConfig(_Strict):
    """What every trial of a study shares."""

    epochs: int = Field(8, ge=1, le=10_000)
    warmup_epochs: float = Field(1.0, ge=0)
    ema_decay: float = Field(0.98, ge=0, lt=1, description="0 is off")
    class_weights: Literal["auto", "balanced", "none"] = "auto"
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
    scheduler: Literal["asha", "none"] = "asha"
    grace_epochs: int = Field(2, ge=1)
    reduction: int = Field(3, ge=2)
    seed: int = Field(0, ge=0, lt=2**32)
    concurrency: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    cpus_per_trial: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    gpus_per_trial: Annotated[float, Field(ge=0)] | Literal["auto"] = "auto"
    max_retries: int = Field(2, ge=0)
    max_failures: int = Field(5, ge=1, description="stop after this many failures in a row")
    storage: str | None = Field(None, description="RDB URL of the Optuna storage; default: SQLite in the study folder")


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

    @field_validator("backbones", mode="before")
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


def load_config(path: Path) -> SearchConfig:
    """Read and validate a search space file.

    Raises:
        ConfigError: Every mistake in the file, one line each, as ``file:line: what and what instead``.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read search space {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not a UTF-8 text file: {error.reason} at byte {error.start}") from error
    return parse_config(text, str(path))


def parse_config(text: str, source: str) -> SearchConfig:
    """Validate YAML `text`; `source` is the name that error messages carry. Raises: as `load_config`."""
    try:
        document = YAML(typ="rt").load(text)
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(
            f"{source}:{line}: {str(error.problem).split(' with value')[0]}; remove one of the two"
        ) from error
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ConfigError(f"{source}:{line}: not valid YAML: {problem}") from error
    except RecursionError as error:
        raise ConfigError(f"{source}:1: nested too deeply") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{source}:1: expected keys such as backbones: and params:, found {type(document).__name__}")
    problems: list[tuple[int, str]] = _check_params(document.get("params"), document)
    config: SearchConfig | None = None
    try:
        config = SearchConfig.model_validate(_plain(document))
    except ValidationError as error:
        seen = set()
        checked = {text.split(":")[0] for _, text in problems}
        for item in error.errors():
            location = _meaningful(item["loc"])
            if location not in seen and ".".join(map(str, location[:2])) not in checked:
                seen.add(location)
                problems.append((_line(document, location), _explain(item, location)))
    if problems or config is None:
        raise ConfigError(f"{source}:{line}: {problem}" for line, problem in sorted(problems))
    return config


def dump_config(config: SearchConfig) -> str:
    """Return `config` as YAML that `parse_config` reads back to an equal value."""
    stream = io.StringIO()
    yaml = YAML(typ="safe")
    yaml.default_flow_style = None
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(config.model_dump(mode="json"), stream)
    return stream.getvalue()


def _check_params(params: Any, document: Any) -> list[tuple[int, str]]:
    """Check each hyperparameter's name, type and bounds; pydantic knows only the outer shape."""
    problems = []
    for name, value in (params or {}).items() if isinstance(params, dict) else ():
        line = _line(document, ("params", name))
        if name not in PARAMETERS:
            hint = did_you_mean(str(name), PARAMETERS) or f"; expected one of {', '.join(PARAMETERS)}"
            problems.append((line, f'params.{name}: unknown hyperparameter "{name}"{hint}'))
            continue
        parameter = PARAMETERS[name]
        if isinstance(value, dict):
            if parameter.kind is str:
                problems.append((line, f"params.{name}: expected one of {', '.join(parameter.choices)}, not a range"))
                continue
            values = [value[key] for key in ("low", "high") if key in value]
            step = value.get("step")
            if parameter.kind is int and isinstance(step, float) and not step.is_integer():
                problems.append((line, f"params.{name}: step must be a whole number, given {step:g}"))
        else:
            values = list(value) if isinstance(value, list) else [value]
            if not values:
                problems.append((line, f"params.{name}: the list of choices is empty"))
        wrong = [problem for item in values if (problem := _value_problem(parameter, item))]
        problems += [(line, f"params.{name}: {problem}") for problem in wrong]
        if isinstance(value, list) and not wrong and len({parameter.kind(item) for item in value}) < len(value):
            problems.append((line, f"params.{name}: a choice is listed twice: {[*value]}"))
    if not problems and isinstance(params, dict) and _is_mixed(params) and not _is_even(params.get("batch_size", 2)):
        line = _line(document, ("params", "batch_size"))
        problems.append((line, "params.batch_size: mixup and cutmix mix pairs of images, so it must be even"))
    return problems


def _is_mixed(params: dict[str, Any]) -> bool:
    return any(_largest(params.get(name, 0)) > 0 for name in ("mixup", "cutmix"))


def _largest(value: Any) -> Any:
    return value.get("high", 0) if isinstance(value, dict) else max(value) if isinstance(value, list) else value


def _is_even(value: Any) -> bool:
    if isinstance(value, dict):
        value = [value.get("low", 2), value.get("step") or (0 if value.get("log") is None else 1)]
    return all(item % 2 == 0 for item in (value if isinstance(value, list) else [value]))


def _value_problem(parameter: Parameter, value: Any) -> str | None:
    if parameter.kind is str:
        if value not in parameter.choices:
            expected = ", ".join(parameter.choices)
            return f'expected one of {expected}, given "{value}"{did_you_mean(str(value), parameter.choices)}'
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return f"expected a number, given {value!r}"
    if parameter.kind is int and not float(value).is_integer():
        return f"expected a whole number, given {value}"
    if not parameter.low <= value <= parameter.high:
        return f"must be {parameter.low:g} to {parameter.high:g}, given {value:g}"
    return None


def _plain(node: Any) -> Any:
    """Strip ruamel's position-carrying types."""
    if isinstance(node, dict):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node


def _meaningful(location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Drop the union branch names that pydantic appends, such as ``Range`` or ``list[any]``."""
    if location[:1] == ("params",):
        kept = location[:2]
        return (*kept, location[3]) if len(location) > 3 and location[2] == "Range" else kept
    if location[:1] == ("backbones",) and len(location) > 3:
        return location[:3]
    if location[:1] == ("search",) and len(location) > 2:
        return location[:2]
    return location


def _line(document: Any, location: tuple[int | str, ...]) -> int:
    node, line = document, 1
    for part in location:
        try:
            line = (node.lc.item(part) if isinstance(part, int) else node.lc.key(part))[0] + 1
            node = node[part]
        except (AttributeError, KeyError, IndexError, TypeError):
            break
    return line


def _explain(item: Any, location: tuple[int | str, ...]) -> str:
    where = ".".join(str(part) for part in location) or "the file"
    if item["type"] == "extra_forbidden":
        key = str(location[-1])
        return f'{where}: unknown key "{key}"{did_you_mean(key, _known_keys(location[:-1]))}'
    if item["type"] == "missing":
        return f"{where}: this key is required"
    message = item["msg"].removeprefix("Value error, ")
    given = "" if isinstance(item["input"], (dict, list)) or "given" in message else f", given {item['input']!r}"
    return f"{where}: {message}{given}"


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    models: dict[str, type[BaseModel]] = {
        "training": TrainingConfig,
        "search": RunConfig,
        "data": DataConfig,
        "backbones": BackboneChoice,
        "params": Range,
    }
    model = models.get(str(location[0]), SearchConfig) if location else SearchConfig
    return list(model.model_fields)

"""Adding to the search space of a study that has trials: what may change, and everything that may not."""

from __future__ import annotations

from typing import Any

from automl.config.models import BackboneChoice, Range, SearchConfig
from automl.config.parameters import PARAMETERS
from automl.errors import ConfigError

__all__ = ["extended"]


def extended(old: SearchConfig, new: SearchConfig) -> SearchConfig:
    """Return `old` with the backbones and choices that `new` adds, after its own.

    Lists may grow (a single value is a list of one) and the ends of a range may move. Whatever else trials share must
    stay, or the trials of before and after could not be compared. Both configs have full backbone names.

    Raises:
        ConfigError: One line for each thing that differs and may not.
    """
    problems: list[str] = []
    names = [each.name for each in new.backbones]
    problems += [
        f"backbones: the study has {each.name}, which the new space lacks"
        for each in old.backbones
        if each.name not in names
    ]
    params: dict[str, Any] = {}
    for name in sorted({*old.params, *new.params}):
        default = PARAMETERS[name].default
        before, after = old.params.get(name, default), new.params.get(name, default)
        params[name] = _joined(name, before, after, problems)
    for part in ("training", "data"):
        mine, theirs = getattr(old, part).model_dump(), getattr(new, part).model_dump()
        problems += [
            f"{part}.{key}: {mine[key]} in the study, {theirs[key]} in the new space"
            for key in mine
            if mine[key] != theirs[key]
        ]
    if new.search.metric != old.search.metric:
        problems.append(f"search.metric: {old.search.metric} in the study, {new.search.metric} in the new space")
    if problems:
        raise ConfigError([*problems, "a study goes on only in a space that holds all of its trials; start a new one"])
    known = {each.name for each in old.backbones}
    added: list[BackboneChoice] = [each for each in new.backbones if each.name not in known]
    kept = {name: value for name, value in params.items() if value is not None}
    return old.model_copy(update={"backbones": [*old.backbones, *added], "params": kept})


def _joined(name: str, before: Any, after: Any, problems: list[str]) -> Any:
    if before == after:
        return before
    if isinstance(before, Range) != isinstance(after, Range) or before is None or after is None:
        problems.append(f"params.{name}: {_shown(before)} in the study, {_shown(after)} in the new space")
        return before
    if isinstance(before, Range):
        if (before.log, before.step) != (after.log, after.step):
            problems.append(f"params.{name}: log and step of a range must stay as they are in the study")
        return after
    mine, theirs = (value if isinstance(value, list) else [value] for value in (before, after))
    lacking = [value for value in mine if value not in theirs]
    if lacking:
        problems.append(f"params.{name}: the study has {_shown(lacking)}, which the new space lacks")
    return [*mine, *(value for value in theirs if value not in mine)]


def _shown(value: Any) -> str:
    if isinstance(value, Range):
        return f"a range from {value.low:g} to {value.high:g}"
    if value is None:
        return "each backbone's own default"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

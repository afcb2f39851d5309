"""Search space files: strict YAML 1.2 in, every mistake reported at once with file and line; and out again."""

from __future__ import annotations

import io
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError

from automl.config.models import BackboneChoice, DataConfig, Range, RunConfig, SearchConfig, TrainingConfig
from automl.config.parameters import PARAMETERS, Parameter
from automl.errors import ConfigError, did_you_mean

__all__ = ["dump_config", "load_config", "parse_config", "schema"]

Location = tuple[int | str, ...]

_QUOTED = re.compile("'([^']+)'")


def load_config(path: Path) -> SearchConfig:
    """Read and validate a search space file. Relative paths of weights and earlier studies in it start at its folder.

    Raises:
        ConfigError: Every mistake in the file, one line each, as ``file:line: what and what instead``.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read search space {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not a UTF-8 text file: {error.reason} at byte {error.start}") from error
    config = parse_config(text, str(path))
    beside = path.absolute().parent
    choices = [
        each.model_copy(update={"weights": beside / each.weights}) if isinstance(each.weights, Path) else each
        for each in config.backbones
    ]
    earlier = [beside / each for each in config.search.warm_start]
    search = config.search.model_copy(update={"warm_start": earlier})
    return config.model_copy(update={"backbones": choices, "search": search})


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
        found = "nothing" if document is None else "a list" if isinstance(document, list) else "a text"
        raise ConfigError(f"{source}:1: expected keys such as backbones: and params:, found {found}")
    problems: list[tuple[int, str]] = _check_params(document.get("params"), document)
    config: SearchConfig | None = None
    try:
        config = SearchConfig.model_validate(_plain(document))
    except ValidationError as error:
        checked = {text.split(":")[0] for _, text in problems}
        by_location: dict[Location, list[Any]] = defaultdict(list)
        for item in error.errors():
            location = _meaningful(item["loc"])
            if location is not None and ".".join(map(str, location[:2])) not in checked:
                by_location[location].append(item)
        problems += [(_line(document, location), _explain(items, location)) for location, items in by_location.items()]
    if problems or config is None:
        raise ConfigError(f"{source}:{line}: {problem}" for line, problem in sorted(problems))
    return config


def dump_config(config: SearchConfig) -> str:
    """Return `config` as YAML that `parse_config` reads back to an equal value."""
    stream = io.StringIO()
    yaml = YAML(typ="safe")
    yaml.default_flow_style = None
    yaml.representer.add_representer(str, _represent_str)
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(config.model_dump(mode="json"), stream)
    return stream.getvalue()


def _represent_str(representer: Any, text: str) -> Any:
    return representer.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


def schema() -> str:
    """Return the JSON Schema of a search space file, for editors: what ``search_spaces/schema.json`` holds."""
    whole = SearchConfig.model_json_schema()
    _describe_parameters(whole["properties"]["params"])
    return json.dumps(whole, indent=2) + "\n"


def _describe_parameters(schema: dict[str, Any]) -> None:
    """Put every hyperparameter into the JSON Schema of `params`; its bounds are checked when the file is read."""
    schema["additionalProperties"] = False
    schema["properties"] = {}
    for name, parameter in PARAMETERS.items():
        value: dict[str, Any] = {"type": {int: "integer", float: "number", str: "string"}[parameter.kind]}
        if parameter.kind is str:
            value["enum"] = list(parameter.choices)
        forms = [value, {"type": "array", "items": value, "minItems": 1}]
        if parameter.kind is not str:
            value |= {"minimum": parameter.low, "maximum": parameter.high}
            forms.append({"$ref": "#/$defs/Range"})
        schema["properties"][name] = {"description": parameter.doc, "anyOf": forms}


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
            if name == "resolution" and step is None:  # each value is a cache of all pixels
                problems.append((line, "params.resolution: a range needs a step, such as 32"))
        else:
            values = list(value) if isinstance(value, list) else [value]
            if not values:
                problems.append((line, f"params.{name}: the list of choices is empty"))
        wrong = [problem for item in values if (problem := _value_problem(parameter, item))]
        problems += [(line, f"params.{name}: {problem}") for problem in wrong]
        if isinstance(value, list) and not wrong and len({parameter.kind(item) for item in value}) < len(value):
            problems.append((line, f"params.{name}: a choice is listed twice: {[*value]}"))
    return problems


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


def _meaningful(location: Location) -> Location | None:
    """Drop the union branch names that pydantic appends, such as ``Range`` or ``list[any]``; None for a branch that
    was not meant (what gets here of `params` is a range: `_check_params` refuses everything else)."""
    if location[:1] == ("params",) and len(location) > 2:
        return (*location[:2], *location[3:]) if "Range" in str(location[2]) else None
    if location[:1] == ("backbones",):
        return location[:3]
    if location[:1] == ("search",):
        return location[:2]
    return location


def _line(document: Any, location: Location) -> int:
    node, line = document, 1
    for part in location:
        try:
            line = (node.lc.item(part) if isinstance(part, int) else node.lc.key(part))[0] + 1
            node = node[part]
        except (AttributeError, KeyError, IndexError, TypeError):
            break
    return line


def _explain(items: list[Any], location: Location) -> str:
    """Say in one line what is wrong at `location`: one error, or one for each branch of a union."""
    where = ".".join(str(part) for part in location) or "the file"
    kind, given = items[0]["type"], items[0]["input"]
    if kind == "extra_forbidden":
        known = _known_keys(location[:-1])
        key = str(location[-1])
        return f'{where}: unknown key "{key}"' + (did_you_mean(key, known) or f"; expected one of {', '.join(known)}")
    if kind == "missing":
        return f"{where}: this {'value' if isinstance(location[-1], int) else 'key'} is required"
    if kind == "model_type":
        return f"{where}: expected {{{', '.join(f'{key}: …' for key in _known_keys(location))}}}, given {given!r}"
    messages = [item["msg"].removeprefix("Value error, ").removeprefix("Input should be ") for item in items]
    message = " or ".join(dict.fromkeys(messages))
    if items[0]["msg"].startswith("Input should be "):
        message = f"must be {message}"
    if not isinstance(given, (dict, list)) and "given" not in message:
        message += f", given {given!r}"
    words = [word for item in items if item["type"] == "literal_error" for word in _QUOTED.findall(item["msg"])]
    return f"{where}: {message}{did_you_mean(str(given), words)}"


def _known_keys(location: Location) -> list[str]:
    models: dict[str, type[BaseModel]] = {
        "training": TrainingConfig,
        "search": RunConfig,
        "data": DataConfig,
        "backbones": BackboneChoice,
        "params": Range,
    }
    model = models.get(str(location[0]), SearchConfig) if location else SearchConfig
    return list(model.model_fields)

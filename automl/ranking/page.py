"""Renders the report's page: templates that read the report's JSON through pointers, so that every number that is shown
carries its exact value and its JSON Pointer in ``leaderboard.json``: ``<data value="0.9867" data-at="/rows/0/score">``.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from automl.ranking import words
from automl.ranking.gallery import file_link
from automl.ranking.plain import At

__all__ = ["render"]


def render(metric: str, context: Mapping[str, Any], folder: Path) -> str:
    """Return the page of a study that is ranked by `metric`, to be written into `folder`."""
    return _environment(metric, folder).get_template("report.html").render(**context)


def _environment(metric: str, folder: Path) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("automl.ranking"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    formats: dict[str, Callable[[Any], str]] = {
        "score": functools.partial(words.number, metric),
        "gap": functools.partial(words.difference, metric),
        "share": functools.partial(words.number, "accuracy"),
        "loss": functools.partial(words.number, "log_loss"),
        "seconds": words.duration,
        "milliseconds": words.milliseconds,
        "big": words.integer,
        "megabytes": words.megabytes,
        "count": lambda value: "–" if value is None else f"{value:,}",
        "signed": lambda value: "–" if value is None else f"{value:+.2f}".replace("-", "−"),
        "value": words.compact,
    }
    environment.filters |= {name: functools.partial(_number, text) for name, text in formats.items()}
    environment.filters |= {"bounds": functools.partial(_bounds, metric), "recall_bounds": _recall_bounds}
    environment.filters |= {"named_bounds": lambda at, name: _bounds(name, at)}
    environment.filters |= {"named": lambda at, name: _number(functools.partial(words.number, name), at)}
    environment.filters |= {
        "breakable": _breakable,
        "tight": _tight,
        "file_link": lambda at: file_link(str(at), folder),
    }
    environment.filters |= {"total": lambda counts: sum(counts.values()), "script_json": _script_json}
    environment.globals |= {"words": words, "include_raw": _raw}
    return environment


def _number(text: Callable[[Any], str], at: At) -> Markup:
    """A number as a person reads it, with its exact value and its place in the JSON."""
    if at.raw is None:
        return Markup("–")
    if isinstance(at.raw, str | bool | list | dict):
        return escape(words.compact(at.raw))
    return Markup('<data value="{}" data-at="{}">{}</data>').format(
        repr(at.raw), at.path, text(at.raw).replace(" ", "\u00a0")
    )


def _bounds(metric: str, limits: At) -> Markup:
    """An interval: ``93.6 – 97.9 %``."""
    if not limits:
        return Markup("–")
    percent = words.bounds(metric, (limits.raw[0], limits.raw[1])).endswith(" %")
    low, high = (
        _number(lambda value: words.number(metric, value).removesuffix(" %"), limit) for limit in (limits[0], limits[1])
    )
    return Markup("{} – {}{}").format(low, high, "\u00a0%" if percent else "")


def _recall_bounds(limits: At) -> Markup:
    return _bounds("accuracy", limits)


def _script_json(value: Any) -> Markup:
    """JSON that cannot end the script element that it stands in."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _raw(name: str) -> Markup:
    """A file of ours, or plotly.js, that goes into the page as it is."""
    if name == "plotly.min.js":
        return Markup((importlib.resources.files("plotly") / "package_data" / name).read_text("utf-8"))
    return Markup((importlib.resources.files("automl.ranking") / "templates" / name).read_text("utf-8"))


def _breakable(name: Any) -> Markup:
    """A name that a narrow screen may break after its separators."""
    return Markup(re.sub(r"([._/])", r"\1<wbr>", str(escape(str(name)))))


def _tight(sentence: Any) -> str:
    """A sentence whose units stay with their numbers."""
    return re.sub(r"(?<=\d) (?=(%|ms|s|min|h|px|MB)\b|%)", "\u00a0", str(sentence))

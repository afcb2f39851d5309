"""Plain JSON types: what is written to files, and pointers into it that remember where a value stands."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

__all__ = ["At", "dump", "plain"]


def plain(value: Any) -> Any:
    """Return dataclasses as objects and numbers as Python's; NaN and infinities become None."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.generic):
        return value.item()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    return [plain(each) for each in value]


def dump(content: Mapping[str, Any]) -> str:
    """Return a JSON object of plain types with a line per key and per element of a list of objects."""
    return "{\n" + ",\n".join(f"{json.dumps(key)}: {_lines(value)}" for key, value in content.items()) + "\n}\n"


def _lines(value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        return "[\n " + ",\n ".join(map(_line, value)) + "\n]"
    return _line(value)


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


class At:
    """A value inside a JSON document, and its JSON Pointer (RFC 6901): ``At(document).rows[0].score`` is at
    ``/rows/0/score``.

    What is not there is an `At` of None, which is false, has no elements, and reads as an empty text.
    """

    __slots__ = ("path", "raw")

    def __init__(self, raw: Any, path: str = "") -> None:
        self.raw = raw
        self.path = path

    def __getattr__(self, name: str) -> At:
        if name.startswith("__"):  # a protocol that somebody asks for, not a key
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, key: str | int) -> At:
        try:
            value = self.raw[key]
        except (KeyError, IndexError, TypeError):
            value = None
        name = str(key).replace("~", "~0").replace("/", "~1")
        return At(value, f"{self.path}/{name}")

    def __iter__(self) -> Iterator[At]:
        return (self[i] for i in range(len(self)))

    def pairs(self) -> list[tuple[str, At]]:
        """The entries of an object, in order."""
        return [(key, self[key]) for key in self.raw or ()]

    def __len__(self) -> int:
        return len(self.raw) if isinstance(self.raw, list | dict | str) else 0

    def __bool__(self) -> bool:
        return bool(self.raw)

    def __str__(self) -> str:
        return "" if self.raw is None else str(self.raw)

    def __eq__(self, other: object) -> bool:
        return bool(self.raw == (other.raw if isinstance(other, At) else other))

    def __hash__(self) -> int:
        return hash((self.path, str(self.raw)))

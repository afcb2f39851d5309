"""Everything that the report says, as values: `leaderboard.json`, and the schema that describes it.

The page prints nothing that is not in here, so whoever reads the JSON knows what the reader of the page knows, but for
what it computes of two trials that a reader puts side by side.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import optuna

from automl.paths import StudyFolder
from automl.ranking.answer import answer
from automl.ranking.embedding_map import EmbeddingMap
from automl.ranking.files import load_json
from automl.ranking.fronts import Front, fronts
from automl.ranking.leaderboard import SCHEMA_VERSION, Leaderboard
from automl.ranking.lessons import Lessons, lessons
from automl.ranking.limits import Limits, Within
from automl.ranking.near_duplicates import NearDuplicates
from automl.ranking.plain import dump, plain
from automl.ranking.suspects import Suspects
from automl.ranking.why import Why, why
from automl.ranking.winner import Winner
from automl.search.storage import shown_url

__all__ = ["SCHEMA_FILE", "Facts", "collect", "content", "schema", "to_json"]

SCHEMA_FILE = "leaderboard.schema.json"
_SEARCH = ("command", "seed", "dataset_fingerprint", "version", "max_epochs")


@dataclass(frozen=True)
class Facts:
    """What is known beyond the leaderboard itself.

    `answer` is the outcome in sentences; `excluded` trials exceed the `limits`; `plan` has the budget, the automatic
    choices and the warnings of the plan, `search` what repeats the search, `warm_start` what was taken from earlier
    studies (None: none were given). `curves` has [epoch, score] by trial number.
    The rest is None where it was not asked for (in the terminal) or cannot be known.
    """

    answer: tuple[str, ...]
    limits: Limits
    excluded: int
    fronts: tuple[Front, ...]
    why: Why
    plan: Mapping[str, Any]
    search: Mapping[str, Any]
    warm_start: Lessons | None = None
    curves: Mapping[int, tuple[tuple[int, float | None], ...]] | None = None
    winner: Winner | None = None
    embedding_map: EmbeddingMap | None = None
    audit: Mapping[str, Any] | None = None
    suspects: Suspects | None = None
    near_duplicates: NearDuplicates | None = None
    written: str | None = None


def collect(
    folder: StudyFolder,
    study: optuna.Study,
    board: Leaderboard,
    within: Within | None = None,
    *,
    backbones_shown: int | None = None,
) -> Facts:
    """Return the facts that cost no more than reading the study: those of the terminal.

    Args:
        study: Of the trials that keep `within` limits.
        backbones_shown: As in `why`.
    """
    plan, within = load_json(folder.plan) or {}, within or Within(Limits(), study)
    none_left = board.best is None and within.excluded > 0
    return Facts(
        answer=(within.nothing_left(),) if none_left else tuple(answer(board)),
        limits=within.limits,
        excluded=within.excluded,
        fronts=fronts(board),
        why=why(folder, study, board, whole=within.whole, backbones_shown=backbones_shown),
        plan={name: plan[name] for name in ("budget", "choices", "warnings") if plan.get(name)},
        search=_search(study.user_attrs),
        warm_start=lessons(study, board),
    )


def _search(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what repeats the search; without the password of its storage, which earlier versions kept."""
    found = {name: attrs[name] for name in _SEARCH if attrs.get(name) is not None}
    if "command" in found:
        found["command"] = " ".join(map(shown_url, str(found["command"]).split(" ")))
    return found


def content(board: Leaderboard, facts: Facts) -> dict[str, Any]:
    """Return what `to_json` writes: the contract of DESIGN.md, and beside its keys those of `Facts`."""
    found = {each.name: plain(getattr(facts, each.name)) for each in fields(facts)}
    return {
        "$schema": SCHEMA_FILE,
        **board.to_dict(),
        **{name: value for name, value in found.items() if value is not None},
    }


def to_json(board: Leaderboard, facts: Facts) -> str:
    """Return ``leaderboard.json``, described by `schema`; a number that is not finite is written as null."""
    return dump(content(board, facts))


def schema() -> str:
    """Return the JSON Schema (draft 2020-12) of ``leaderboard.json``, made from the classes that it is written from."""
    from pydantic import TypeAdapter  # takes a while to import

    parts = [TypeAdapter(each).json_schema(mode="serialization") for each in (Leaderboard, Facts)]
    properties: dict[str, Any] = {"$schema": {"type": "string"}, "schema_version": {"const": SCHEMA_VERSION}}
    for part in parts:
        properties |= part["properties"]
    described = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Leaderboard of a study",
        "description": "Keys may be added, none removed. Seconds, milliseconds, MB (2**20 bytes); shares are 0 to 1.",
        "type": "object",
        "required": ["schema_version", *parts[0]["properties"]],
        "properties": properties,
        "$defs": {name: each for part in parts for name, each in part.get("$defs", {}).items()},
    }
    return json.dumps(_with_null(described), indent=1, ensure_ascii=False) + "\n"


def _with_null(value: Any) -> Any:
    """Let every number be null: that is what one that is not finite becomes."""
    if isinstance(value, list):
        return [_with_null(each) for each in value]
    if not isinstance(value, dict):
        return value
    found = {key: _with_null(each) for key, each in value.items()}
    return found | {"type": ["number", "null"]} if found.get("type") == "number" else found

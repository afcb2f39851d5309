"""A study for those who only look at it (the leaderboard, the report, the status): all its trials in one read.

Optuna's own reader makes an object of its mapper for every stored attribute: 8 s for 10,000 trials of a search, 0.7 s
here (`benchmarks/big_report.py`, two CPU cores). What is read are the same tables, column by column, into the same
`FrozenTrial`; a test holds the two against each other.
"""

from __future__ import annotations

import copy
import functools
import gc
import json
import sqlite3
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, unquote

import optuna
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages._rdb.models import (
    TrialIntermediateValueModel,
    TrialModel,
    TrialParamModel,
    TrialSystemAttributeModel,
    TrialUserAttributeModel,
    TrialValueModel,
)
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, select
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from automl.errors import AutoMLError, StorageError, UsageError
from automl.paths import StudyFolder
from automl.search.lock import driver_of
from automl.search.storage import damage, load_study, storage_kept

__all__ = ["StudyView", "open_to_read", "snapshot", "uncollected", "view"]


def open_to_read(folder: StudyFolder, *, storage: str | None = None) -> optuna.Study:
    """Open an existing study so that its own database cannot be written: it may lie on a full or a read-only disk.

    A SQLite file in WAL mode that nobody has open has no ``-wal`` beside it, or an empty one; a reader would create
    that, and leave it behind, unless it is told that the file does not change
    (https://www.sqlite.org/wal.html#read_only_databases). So what is opened while nobody drives the study must be
    opened again to see what a later driver writes.

    Raises:
        UsageError: There is none in `folder`.
        StorageError: The storage cannot be read.
    """
    if storage is not None or not folder.database.exists():
        return load_study(folder, storage=storage)
    wal = folder.database.with_name(f"{folder.database.name}-wal")
    at_rest = driver_of(folder) is None and not (wal.exists() and wal.stat().st_size)
    query = {"uri": "true", "mode": "ro", **({"immutable": "1"} if at_rest else {})}
    url = URL.create("sqlite", database=f"file:{quote(str(folder.database.resolve()))}", query=query)
    with _readable(folder.database):
        try:
            opened = optuna.storages.RDBStorage(url.render_as_string(), skip_table_creation=True)
            (name,) = optuna.get_all_study_names(opened)[:1] or [folder.name]
            return optuna.load_study(storage=opened, study_name=name)
        except KeyError:
            raise UsageError(f"no study in {folder.database}; start one with automl search") from None


@contextmanager
def _readable(database: Path) -> Iterator[None]:
    """Turn whatever comes of a database that cannot be read into a StorageError."""
    try:
        yield
    except AutoMLError:
        raise
    except (SQLAlchemyError, sqlite3.Error, optuna.exceptions.StorageInternalError, RuntimeError, ValueError) as error:
        first = str(error.__cause__ or error).strip().partition("\n")[0]
        advice = "bring back a copy of it, or look at one in a folder that can be written and has space"
        raise StorageError(f"cannot read {database}: {damage(error) or f'{first}; {advice}'}") from error


class StudyView:
    """A study whose trials are those given: what it was at one moment, or a part of it. Everything else is the study's.

    Only for reading; the trials are shared and must not be changed.
    """

    def __init__(self, study: optuna.Study, trials: Iterable[FrozenTrial]) -> None:
        self._study = study
        self._trials = list(trials)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    @property
    def trials(self) -> list[FrozenTrial]:
        return self.get_trials()

    def get_trials(self, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        """As `optuna.Study.get_trials`."""
        trials = [trial for trial in self._trials if states is None or trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials


def view(study: optuna.Study, trials: Iterable[FrozenTrial]) -> optuna.Study:
    """Return `study` with only these trials, to be read wherever a study is."""
    return cast(optuna.Study, StudyView(study, trials))


def snapshot(study: optuna.Study) -> optuna.Study:
    """Return `study` as it is now, its trials read at once; a study in memory is returned as it is.

    Raises:
        StorageError: The storage cannot be read.
    """
    storage = study._storage
    if isinstance(storage, optuna.storages._CachedStorage):
        storage = storage._backend
    if not isinstance(storage, optuna.storages.RDBStorage):
        return study
    kept = storage_kept(str(storage.url))
    if storage.engine.dialect.name == "sqlite":
        kept = _readable(Path(unquote(str(storage.engine.url.database).removeprefix("file:"))))
    with uncollected(), kept, storage.engine.connect() as connection:
        return view(study, _read(connection, study._study_id))


@contextmanager
def uncollected() -> Iterator[None]:
    """Make many new objects, none of them garbage, without a search for garbage among them: 0.2 s of 10,000 trials."""
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()


def _read(connection: Connection, study_id: int) -> list[FrozenTrial]:
    of_study = TrialModel.study_id == study_id

    def rows(model: Any, *columns: Any) -> Iterable[Any]:
        query = select(model.trial_id, *columns).join(TrialModel, TrialModel.trial_id == model.trial_id)
        return connection.execute(query.where(of_study).order_by(model.__table__.primary_key.columns[0])).all()

    values: defaultdict[int, dict[int, float]] = defaultdict(dict)
    for trial, objective, value, kind in rows(
        TrialValueModel, TrialValueModel.objective, TrialValueModel.value, TrialValueModel.value_type
    ):
        values[trial][objective] = TrialValueModel.stored_repr_to_value(value, kind)
    curves: defaultdict[int, dict[int, float]] = defaultdict(dict)
    told = TrialIntermediateValueModel
    for trial, step, value, kind in rows(told, told.step, told.intermediate_value, told.intermediate_value_type):
        curves[trial][step] = told.stored_repr_to_intermediate_value(value, kind)
    params: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    distributions: defaultdict[int, dict[str, BaseDistribution]] = defaultdict(dict)
    asked = TrialParamModel
    for trial, name, value, described in rows(asked, asked.param_name, asked.param_value, asked.distribution_json):
        distributions[trial][name] = distribution = _distribution(described)
        params[trial][name] = distribution.to_external_repr(value)
    user, system = (
        _attributes(rows(model, model.key, model.value_json))
        for model in (TrialUserAttributeModel, TrialSystemAttributeModel)
    )
    columns = (TrialModel._datetime_start_utc, TrialModel._datetime_complete_utc)
    query = select(TrialModel.trial_id, TrialModel.number, TrialModel.state, *columns)
    return [
        FrozenTrial(
            number=number, state=state, value=None, values=_listed(values.get(trial)), trial_id=trial,
            datetime_start=_local(start), datetime_complete=_local(end), params=params[trial],
            distributions=distributions[trial], user_attrs=user[trial], system_attrs=system[trial],
            intermediate_values=curves[trial],
        )
        for trial, number, state, start, end in connection.execute(query.where(of_study).order_by(TrialModel.trial_id))
    ]  # fmt: skip


@functools.lru_cache(maxsize=256)
def _distribution(described: str) -> BaseDistribution:
    return json_to_distribution(described)


def _attributes(rows: Iterable[Any]) -> defaultdict[int, dict[str, Any]]:
    found: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    for trial, key, value in rows:
        found[trial][key] = _decode(value)[0]
    return found


_decode = json.JSONDecoder().raw_decode  # what json.loads does, less its search for white space


def _listed(values: dict[int, float] | None) -> list[float] | None:
    return [values[objective] for objective in sorted(values)] if values else None


def _local(moment: datetime | None) -> datetime | None:
    """Optuna stores UTC and hands out local time, both without saying so."""
    return None if moment is None else moment.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)

"""Where the study lives: opening its database, holding it for one driver, outliving a database server that is away."""

from __future__ import annotations

import functools
import logging
import re
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Literal, ParamSpec, TypeVar

import optuna
from optuna.distributions import CategoricalDistribution, distribution_to_json
from optuna.storages._rdb.models import TrialModel, TrialParamModel
from sqlalchemy import event, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_exponential

from automl.errors import StorageError, UsageError
from automl.paths import StudyFolder
from automl.space import Space

__all__ = [
    "check_storage",
    "create_study",
    "damage",
    "extend_choices",
    "load_study",
    "patient",
    "reaching",
    "shown_url",
    "storage_kept",
    "storage_url",
]

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 300.0  # how long a database server may be away in the middle of a search
_BROKEN = (SQLAlchemyError, optuna.exceptions.StorageInternalError)  # the latter where Optuna was writing

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def storage_url(folder: StudyFolder, storage: str | None) -> str:
    """Return the URL of the study's storage: `storage`, or SQLite in the study folder."""
    if storage is not None:
        return storage
    return URL.create("sqlite", database=str(folder.database.resolve())).render_as_string()


def check_storage(folder: StudyFolder, storage: str | None) -> None:
    """Reach `storage` before anything costs time; the study folder's own needs no look.

    Raises:
        StorageError: It cannot be reached.
        UsageError: It has a study of this name, of another folder.
    """
    if storage is not None:
        with reaching(storage):
            opened = _open(storage)
            if folder.name in optuna.get_all_study_names(opened):
                _refuse_others(optuna.load_study(storage=opened, study_name=folder.name), folder)


def _refuse_others(study: optuna.Study, folder: StudyFolder) -> None:
    """Raise unless `study` is what a driver that was killed before the first trial left of a search in `folder`."""
    of = study.user_attrs.get("folder")
    if study.get_trials(deepcopy=False) or (of != _place(folder) and study.user_attrs):
        raise UsageError(
            f"the storage has a study {folder.name} already, of {of or 'another folder'}; choose another --out"
        )


def _place(folder: StudyFolder) -> str:
    return f"{socket.gethostname()}:{folder.root.resolve()}"


def create_study(
    folder: StudyFolder, *, storage: str | None, direction: Literal["minimize", "maximize"]
) -> optuna.Study:
    """Create the study, in WAL mode where it is SQLite, so that readers never block the driver.

    Raises:
        UsageError: It exists already, with trials or of another folder.
        StorageError: The storage cannot be reached.
    """
    url = storage_url(folder, storage)
    with reaching(url):
        parts = make_url(url)
        if parts.get_backend_name() == "sqlite" and parts.database:
            with closing(sqlite3.connect(parts.database)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
        opened = _open(url)
        if folder.name in optuna.get_all_study_names(opened):
            _refuse_others(optuna.load_study(storage=opened, study_name=folder.name), folder)
            optuna.delete_study(storage=opened, study_name=folder.name)
        study = optuna.create_study(storage=opened, study_name=folder.name, direction=direction)
        study.set_user_attr("folder", _place(folder))
        return study


def load_study(folder: StudyFolder, *, storage: str | None = None) -> optuna.Study:
    """Open an existing study.

    Raises:
        UsageError: There is none in `folder`.
        StorageError: The storage cannot be reached.
    """
    url = storage_url(folder, storage)
    if storage is None and not folder.database.exists():
        raise UsageError(
            f"no study in {folder.root}: expected {folder.database.name} there; bring it back, or start anew with "
            f"automl search in another --out"
        )
    with reaching(url):
        opened, name = _open(url), folder.name
        if storage is None:  # the only one in its file, under the name that its folder had
            name = next(iter(optuna.get_all_study_names(opened)), name)
        try:
            return optuna.load_study(storage=opened, study_name=name)
        except KeyError:
            raise UsageError(f"no study named {name} in {shown_url(url)}; start one with automl search") from None


def extend_choices(study: optuna.Study, space: Space) -> None:
    """Let the trials of `study` be trials in `space`, whose lists of choices have grown at their ends, or have not.

    Optuna stores a choice by its place in the list and refuses a list that has changed, so the lists that were stored
    with the trials are replaced, in one transaction. What was constant, and is now the first of several choices, is
    added to every trial.

    The study must be loaded anew afterwards.
    """
    storage = study._storage
    if isinstance(storage, optuna.storages._CachedStorage):
        storage = storage._backend
    assert isinstance(storage, optuna.storages.RDBStorage)
    begun = any("spec" in each.user_attrs for each in study.get_trials(deepcopy=False))
    with Session(storage.engine) as session, session.begin():
        ids = set(session.scalars(select(TrialModel.trial_id).where(TrialModel.study_id == study._study_id)).all())
        for name, distribution in space.distributions.items():
            if not isinstance(distribution, CategoricalDistribution):
                continue
            described = distribution_to_json(distribution)
            stored = session.scalars(
                select(TrialParamModel).where(TrialParamModel.trial_id.in_(ids), TrialParamModel.param_name == name)
            ).all()
            for row in stored:
                if row.distribution_json != described:
                    row.distribution_json = described
            if begun and not stored:  # a trial that was begun lacks nothing that was varied
                session.add_all(
                    TrialParamModel(trial_id=each, param_name=name, param_value=0.0, distribution_json=described)
                    for each in ids
                )


@contextmanager
def storage_kept(url: str) -> Iterator[None]:
    """Turn the loss of the storage in the middle of a search into a StorageError."""
    try:
        yield
    except _BROKEN as error:
        first = str(error).strip().splitlines()[0]
        raise StorageError(f"lost study storage {shown_url(url)}: {_remedy(error, first)}") from error


def patient(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Call `function` again when the connection to the database broke off, for `PATIENCE_SECONDS`.

    It must do no harm twice: the connection may have broken after the database took the change.
    """

    @functools.wraps(function)
    def repeated(*arguments: Parameters.args, **options: Parameters.kwargs) -> Result:
        return _retrying(_broke_off)(function, *arguments, **options)

    return repeated


def _retrying(condition: Callable[[BaseException], bool]) -> Retrying:
    def tell(state: RetryCallState) -> None:
        if state.attempt_number == 3:  # shorter ones nobody need know of
            logger.warning("the study's database is away; waiting up to %.0f s for it", PATIENCE_SECONDS)

    return Retrying(
        retry=retry_if_exception(condition), stop=stop_after_delay(PATIENCE_SECONDS),
        wait=wait_exponential(multiplier=0.1, max=5), before_sleep=tell, reraise=True,
    )  # fmt: skip


def _broke_off(error: BaseException | None) -> bool:
    """Whether a lost connection is behind `error`: Optuna may try another query on it first, which fails too."""
    while error is not None:
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            return True
        error = error.__cause__ or error.__context__
    return False


def _open(url: str) -> optuna.storages.RDBStorage:
    """Open the storage at `url`; a server that is not there now is an error, one that goes away later is waited for.

    SQLite commits without waiting for the disk at each (it is in WAL mode): the study outlives the death of any
    process, and a power cut costs at most its last moments.
    """
    storage = optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
    if make_url(url).get_backend_name() == "sqlite":

        @event.listens_for(storage.engine, "connect")
        def configure(connection: sqlite3.Connection, record: object) -> None:
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("PRAGMA busy_timeout=60000")

    else:

        @event.listens_for(storage.engine, "do_connect")
        def connect(dialect: Any, record: object, arguments: Any, parameters: Any) -> Any:
            away = dialect.loaded_dbapi.OperationalError
            return _retrying(lambda error: isinstance(error, away))(dialect.connect, *arguments, **parameters)

    storage.engine.dispose()  # what is connected already is not so configured
    return storage


def _remedy(error: Exception, first: str) -> str:
    cause = str(error.__cause__ or error)
    if "disk is full" in cause or "disk I/O error" in cause or "No space left" in cause:
        return "the disk is full; free space, then go on with automl resume (or search again if nothing was begun)"
    if isinstance(error, ArgumentError | ImportError):
        return f"{first}; correct --storage (search.storage in the space), or install its driver"
    return damage(error) or f"{first}; go on with automl resume when it is there"


def damage(error: Exception) -> str | None:
    """Say that the file is damaged and what to do, where that is what `error` means."""
    cause = str(error.__cause__ or error)
    if "malformed" in cause or "not a database" in cause:
        return "the file is damaged; bring back a copy of it, or start anew in another --out"
    return None


def shown_url(url: str) -> str:
    """The URL without user and password; what is none, as it is."""
    scheme, _, rest = url.rpartition("://")
    shown = f"{scheme}://{rest.split('@')[-1]}" if scheme else rest
    return re.sub(r"(?<=[?&])(user|\w*password)=[^&'\"]*", r"\1=***", shown) if scheme else shown


@contextmanager
def reaching(url: str) -> Iterator[None]:
    try:
        yield
    except (*_BROKEN, sqlite3.Error, ImportError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise StorageError(f"cannot use study storage {shown_url(url)}: {_remedy(error, first)}") from error

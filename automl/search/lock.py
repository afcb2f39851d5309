"""Who drives a study: one process at a time, known by host and number."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

import psutil
from filelock import FileLock, Timeout
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from automl.errors import OutputError, StorageError
from automl.paths import StudyFolder, write_atomic
from automl.search.storage import reaching, shown_url

__all__ = ["DriverProcess", "driver_lock", "driver_of"]

_HOLDER = """
SELECT application_name FROM pg_stat_activity JOIN pg_locks USING (pid)
WHERE locktype = 'advisory' AND granted AND ((classid::bigint << 32) | objid::bigint) = :key
"""


class DriverProcess(NamedTuple):
    """Who drives a study: process and host, and since when (seconds since 1970)."""

    pid: int
    host: str
    since: float

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def driver_of(folder: StudyFolder) -> DriverProcess | None:
    """Return who drives the study now, or None. On another host a driver that was killed is still named."""
    try:
        found = DriverProcess(**json.loads(folder.driver.read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return None if found.host == socket.gethostname() and not psutil.pid_exists(found.pid) else found


@contextmanager
def driver_lock(folder: StudyFolder, storage: str | None = None) -> Iterator[None]:
    """Hold the study for this process: its folder, and on a PostgreSQL server its name, since folders can be copied.

    Raises:
        StorageError: Another driver holds it; the message names its host and process.
        OutputError: The folder cannot be written.
    """
    lock = FileLock(folder.lock)
    me = DriverProcess(os.getpid(), socket.gethostname(), time.time())
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = driver_of(folder) or "another process"
        raise StorageError(f"study {folder.root} is in use by {who}; wait for it or stop it first") from None
    except OSError as error:
        raise OutputError(f"cannot write to {folder.lock}: {error.strerror or error}") from error
    try:
        with _held_on_server(storage, folder.name, str(me)):
            write_atomic(folder.driver, json.dumps(me._asdict()))
            yield
    finally:
        folder.driver.unlink(missing_ok=True)
        lock.release()


@contextmanager
def _held_on_server(storage: str | None, name: str, me: str) -> Iterator[None]:
    """Hold an advisory lock of PostgreSQL while the connection lasts; a server that is restarted forgets it."""
    if storage is None or make_url(storage).get_backend_name() != "postgresql":
        yield
        return
    key = {"key": int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)}
    with reaching(storage):
        engine = create_engine(storage, poolclass=NullPool, connect_args={"application_name": f"automl, {me}"})
        connection = engine.connect()
    try:
        with reaching(storage):
            if not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), key):
                who = connection.scalar(text(_HOLDER), key) or "another driver"
                raise StorageError(
                    f"study {name} in {shown_url(storage)} is in use by {who}; wait for it or stop it first"
                )
            connection.commit()  # the lock is the session's, not the transaction's
        yield
    finally:
        with suppress(SQLAlchemyError):  # the server may have gone
            connection.close()

"""A foreign program: Python's own `sqlite3` in a process of its own, writing and reading database files by plain SQL.

Never in our process: two SQLite libraries on one file in one process break each other's locks (and closing any file
handle of ours on a database does as well, so bytes of files are read over there too).

    foreign.run(path, "INSERT …", ("UPDATE … WHERE id = ?", "c1"))      one commit
    foreign.rows(path, "SELECT …")
"""

from __future__ import annotations

import atexit
import pickle
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import psycopg

from schema.dialects import pg_connection

_PROGRAM = r"""
import pickle, sqlite3, sys

open_ = {}

def connection(path, name):
    if (path, name) not in open_:
        made = sqlite3.connect(path, isolation_level=None, timeout=30)
        made.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        open_[path, name] = made
    return open_[path, name]

def run(path, name, statements, commit):
    made = connection(path, name)
    rows = []
    if commit:
        made.execute("BEGIN IMMEDIATE")
    try:
        for sql, values in statements:
            if values and isinstance(values[0], list):
                made.executemany(sql, values[0])
            else:
                rows = made.execute(sql, values).fetchall()
        if commit:
            made.execute("COMMIT")
    except BaseException:
        if made.in_transaction and commit:
            made.execute("ROLLBACK")
        raise
    finally:
        if name is None:
            open_.pop((path, name)).close()
    return rows

def close(path, name):
    if (path, name) in open_:
        open_.pop((path, name)).close()

def read(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""

calls = {"run": run, "read": read, "close": close, "version": lambda: sqlite3.sqlite_version}
while True:
    try:
        call, arguments = pickle.load(sys.stdin.buffer)
    except EOFError:
        break
    try:
        answer = (True, calls[call](*arguments))
    except Exception as error:
        answer = (False, f"{type(error).__name__}: {error}")
    pickle.dump(answer, sys.stdout.buffer)
    sys.stdout.buffer.flush()
"""


class Failed(Exception):
    """The foreign program's statement failed; it rolled back."""


@cache
def _process() -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-I", "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    atexit.register(_stop, process)
    return process


def _stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.wait(10)
    process.stdout.close()


def _call(name: str, *arguments: Any) -> Any:
    process = _process()
    assert process.stdin is not None
    assert process.stdout is not None
    pickle.dump((name, arguments), process.stdin)
    process.stdin.flush()
    done, answer = pickle.load(process.stdout)
    if not done:
        raise Failed(answer)
    return answer


def run(path: Path | str, *statements: Any, connection: str | None = None, commit: bool = True) -> list[Any]:
    """Run statements, each `sql`, `(sql, value, …)` or `(sql, [row, …])`, in one commit; return the rows of the last.

    `connection` names one that stays open between calls (`close` ends it); with commit=False transactions are the caller's.
    """
    pairs = [(entry, ()) if isinstance(entry, str) else (entry[0], tuple(entry[1:])) for entry in statements]
    if isinstance(path, str):
        return _elsewhere(path, [(in_words(sql), values) for sql, values in pairs])
    return _call("run", str(path), connection, pairs, commit)  # type: ignore[no-any-return]


def rows(path: Path | str, sql: str, *values: Any) -> list[Any]:
    """Return the rows of one query. TEXT that is not UTF-8 comes with surrogate escapes."""
    return run(path, (sql, *values), commit=False)


def in_words(sql: str) -> str:
    """Return a statement that leaves alone what is there already, as both databases say it."""
    return f"{sql.replace('INSERT OR IGNORE', 'INSERT')} ON CONFLICT DO NOTHING" if sql.startswith("INSERT OR IGNORE") else sql


def _elsewhere(url: str, pairs: Sequence[tuple[str, Any]]) -> list[Any]:
    """Run statements on a PostgreSQL database, in one commit."""
    connection = pg_connection.connect(url)
    try:
        connection.execute("BEGIN")
        found: list[Any] = []
        for sql, values in pairs:
            if values and isinstance(values[0], list):
                connection.executemany(sql, values[0])
            else:
                found = connection.execute(sql, values).fetchall()
        connection.commit()
    except psycopg.Error as error:
        raise Failed(f"{type(error).__name__}: {error}") from error
    finally:
        connection.close()
    return found


def columns(path: Path | str, table: str) -> dict[str, tuple[str, bool, Any]]:
    """Return the columns of a table: the type, in SQLite's words, whether it may not be NULL, and the default."""
    if not isinstance(path, str):
        return {row[1]: (row[2], bool(row[3]), row[4]) for row in rows(path, f"PRAGMA table_info({table})")}
    sql = (
        "SELECT column_name, data_type, is_nullable, column_default FROM information_schema.columns WHERE table_name = ?"
        " AND table_schema = 'public' ORDER BY ordinal_position"
    )
    found = rows(path, sql, table)
    return {name: (_SQLITE_TYPES[kind], nullable == "NO", default) for name, kind, nullable, default in found}


_SQLITE_TYPES = {"text": "TEXT", "bigint": "INTEGER", "double precision": "REAL", "bytea": "BLOB"}


def unique_keys(path: Path | str, table: str) -> int:
    """Return how many UNIQUE keys a table has besides the number of its rows, and foreign keys count as a failure."""
    if not isinstance(path, str):
        assert not rows(path, f"PRAGMA foreign_key_list({table})")
        return len([row for row in rows(path, f"PRAGMA index_list({table})") if row[2]])
    kinds = [kind for (kind,) in rows(path, "SELECT contype::text FROM pg_constraint WHERE conrelid = CAST(? AS text)::regclass", table)]
    assert "f" not in kinds
    return len([kind for kind in kinds if kind in ("p", "u")]) - 1


def close(path: Path, connection: str) -> None:
    """Close a connection that was kept open."""
    _call("close", str(path), connection)


def read_bytes(*paths: Path) -> bytes:
    """Return the bytes of files, one after the other; a missing one has none."""
    return b"".join(_call("read", str(path)) for path in paths)


def version() -> str:
    """Return which SQLite the foreign program has."""
    return str(_call("version"))

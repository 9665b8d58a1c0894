"""Opening the centre's database: who serves it has it alone before anything in it changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from schema.console import Terminal
from schema.lock import HomeBusy, exclusive
from schema.registry import Schema, load
from server import home as home_of
from server.database import create
from server.opening import alone
from sync.errors import NotJoined
from tests.skew.test_upgrade import contents


def test_a_server_that_runs_keeps_its_file_as_it_opened_it(tmp_path: Path) -> None:
    """A newer program's `run` on a home that is served ends, and must not upgrade the file before it does."""
    newer = load()
    older, file = Schema(newer.tables[:-1], newer.version), tmp_path / home_of.DATABASE
    create(file, older).close()
    before, terminal = contents(file), Terminal(tmp_path, False, "server")
    with exclusive(tmp_path / home_of.LOCK, "serving"), pytest.raises(HomeBusy, match="running on this home"), alone(terminal):
        pass
    assert contents(file) == before
    with alone(terminal):
        assert newer.tables[-1].name in contents(file)


def test_where_no_server_is_none_is_locked(tmp_path: Path) -> None:
    with pytest.raises(NotJoined, match="no server here yet"), alone(Terminal(tmp_path / "home", False, "server")):
        pass
    assert not (tmp_path / "home").exists()

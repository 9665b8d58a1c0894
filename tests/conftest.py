"""Fixtures for all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import databases
from tests.world import World


def pytest_configure(config: pytest.Config) -> None:
    """On PostgreSQL, take it from tests as on SQLite that they leave a database they are done with to the garbage collector."""
    if databases.is_postgres():
        config.addinivalue_line("filterwarnings", "ignore::pytest.PytestUnraisableExceptionWarning")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out, on PostgreSQL, what is about files, or about values that only SQLite lets a program write."""
    if databases.is_postgres():
        for item in items:
            for mark in item.iter_markers("sqlite_centre"):
                item.add_marker(pytest.mark.skip(reason=f"the centre is PostgreSQL: {mark.args[0]}"))


@pytest.fixture
def on_postgres(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the test run on PostgreSQL, whatever the others run on."""
    monkeypatch.setenv(databases.VARIABLE, os.environ.get(databases.VARIABLE) or "postgres")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Return a server without nodes yet."""
    made = World(tmp_path)
    yield made
    made.close()

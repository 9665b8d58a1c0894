"""An export is a copy to keep: it is on the disk when the command says so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from schema.exporting import write_new


def test_an_export_is_durable_and_so_is_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[int, int]] = []
    sync = os.fsync

    def watched(descriptor: int) -> None:
        found = os.fstat(descriptor)
        synced.append((found.st_ino, found.st_size if os.path.isfile(path) and os.path.samestat(found, path.stat()) else 0))
        sync(descriptor)

    path = tmp_path / "held.json"
    monkeypatch.setattr(os, "fsync", watched)
    assert write_new(path, {"held": iter([{"a": 1}])}) == {"held": 1}
    assert synced == [(path.stat().st_ino, path.stat().st_size), (tmp_path.stat().st_ino, 0)]

"""Which peers can run here, and what is said of the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import peers, report
from bench.figures import Measured
from bench.workload import SALE, sales
from tests.bench import peers_folder


def test_all_are_ready_where_everything_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(peers.MODULES, raising=False)
    monkeypatch.setenv("PATH", peers_folder.path_with_node(tmp_path / "bin"))
    peers_folder.make(tmp_path / "peers")
    ready, left_out = peers.find(tmp_path / "peers")
    assert ([each.peer for each in ready], left_out) == (list(peers.PEERS), {})
    assert peers.versions(ready) == {"node": "v20.0.0", "pouchdb": "1.2.3", "rxdb": "1.2.3"}


def test_packages_may_lie_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", peers_folder.path_with_node(tmp_path / "bin"))
    peers_folder.make(tmp_path / "peers")
    peers_folder.install(tmp_path / "elsewhere")
    monkeypatch.setenv(peers.MODULES, str(tmp_path / "elsewhere"))
    ready, _ = peers.find(tmp_path / "peers")
    assert {each.modules for each in ready} == {tmp_path / "elsewhere"}


def test_without_a_folder_all_are_left_out_for_one_reason() -> None:
    ready, left_out = peers.find(None)
    assert ready == []
    assert report.left_out(left_out) == "PouchDB leveldb, RxDB memory (no folder with their scripts was named)"


def test_without_node_js_they_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peers_folder.make(tmp_path / "peers")
    monkeypatch.setenv("PATH", str(tmp_path))
    _, left_out = peers.find(tmp_path / "peers")
    assert report.left_out(left_out) == "PouchDB leveldb, RxDB memory (Node.js is not installed)"


def test_one_whose_packages_are_missing_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(peers.MODULES, raising=False)
    monkeypatch.setenv("PATH", peers_folder.path_with_node(tmp_path / "bin"))
    peers_folder.make(tmp_path / "peers")
    (tmp_path / "peers" / "node_modules" / "rxjs" / "package.json").unlink()
    (tmp_path / "peers" / "peers" / "pouchdb" / "run.mjs").unlink()
    ready, left_out = peers.find(tmp_path / "peers")
    assert ready == []
    assert left_out["PouchDB leveldb"].startswith("there is no peers/pouchdb/run.mjs in ")
    assert left_out["RxDB memory"].startswith("rxjs not in ")


def test_they_get_our_receipts_with_all_their_values(tmp_path: Path) -> None:
    rows = sales(3)
    peers.export(tmp_path / "data", rows)
    found = [json.loads(line) for line in (tmp_path / "data" / "sale.ndjson").read_text(encoding="utf-8").splitlines()]
    assert [tuple(each.values()) for each in found] == rows
    assert list(found[0])[:-1] == list(SALE[:-1])
    assert list(found[0])[-1] == "qty"


def test_a_script_that_prints_no_figures_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = peers_folder.path_with_node(tmp_path / "bin")
    monkeypatch.setenv("PATH", path)
    peers_folder.make(tmp_path / "peers")
    (tmp_path / "bin" / "node").write_text("#!/bin/sh\necho '{}'\n", encoding="utf-8")
    ready, _ = peers.find(tmp_path / "peers")
    peers.export(tmp_path / "data", sales(1))
    measured = Measured()
    peers.peer_round(ready[0], tmp_path / "data", 1, measured)
    assert list(measured.left_out) == ["PouchDB leveldb"]
    assert measured.figures == {}

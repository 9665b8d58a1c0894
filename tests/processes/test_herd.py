"""Many nodes at once, each over a connection of its own, at a real server: all are served, none is sent away, each sale is there once."""

from __future__ import annotations

from pathlib import Path

from sqlcipher3 import dbapi2

from bench import herd, server

NODES = 150


def test_many_nodes_arrive_at_once_and_none_is_sent_away(tmp_path: Path) -> None:
    """With more than 64 waiting they were told to come back, again and again, and a thousand took minutes."""
    with server.running(tmp_path / "centre") as centre:
        found = herd.run(centre.url, centre.invite_all(herd.scopes(NODES)))
        assert found.turned_away == 0
        assert len(found.seconds) == NODES
        file = dbapi2.connect(f"file:{centre.path}?mode=ro", uri=True)
        try:
            assert file.execute("SELECT COUNT(*), COUNT(DISTINCT branch_id) FROM sale").fetchone() == (NODES * herd.SALES_EACH, NODES)
        finally:
            file.close()

"""The feed of a PostgreSQL centre while many programs write to it. The whole of it: scripts/torture.py feed --rows 1000000."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.faults import feed


@pytest.mark.usefixtures("on_postgres")
def test_readers_under_many_writers_are_told_every_row_once(tmp_path: Path) -> None:
    """Rows whose numbers lay between those of one commit, and that had been journaled before it, were told a second time. Found by
    this: 1,298 of 34,323. The control shows that commits do come out of the order of their numbers.
    """
    under = feed.run(tmp_path, 1, 4_000, writers=8)
    assert under.committed >= 4_000
    assert under.aborted > 0
    assert under.readers.pop("control")["missed"] > 0
    for name, found in under.readers.items():
        assert +found == Counter(), name

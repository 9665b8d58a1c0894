"""While a node heals: people see their rows, and a healing that is cut goes on."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from sync.errors import Diverged
from tests.healing.copies import copy_of, put_back_centre
from tests.healing.stories import CLIENT, at_centre, settled, three
from tests.healing.stories import world as world  # a fixture
from tests.world import ReplyLost, World


@pytest.mark.covers("P-7.27")
def test_people_see_their_rows_all_the_while(world: World) -> None:
    n1, n2, _ = three(world)
    copy = copy_of(world.database.path)
    n1.sql(CLIENT, "c2")
    n1.sync()
    n2.sync()
    put_back_centre(world, copy)
    seen_by_people: list[list[Any]] = []

    def look(kind: str) -> None:
        seen_by_people.append(n2.sql("SELECT id FROM client ORDER BY id"))
        if kind == "pull" and n2.database.state().healing and len(seen_by_people) < 9:
            raise Diverged  # as if the answer were lost

    n2.link.before = look
    for _ in range(3):
        n2.sync()
    assert {tuple(rows) for rows in seen_by_people} == {(("c1",), ("c2",))}
    n2.link.before = lambda _kind: None
    assert settled(world)
    assert n2.sql("SELECT id FROM client ORDER BY id") == [("c1",), ("c2",)]


def test_a_healing_that_is_cut_at_any_request_goes_on(world: World) -> None:
    n1, n2, n3 = three(world)
    copy = copy_of(world.database.path)
    for turn in range(3):
        n1.sql(CLIENT, f"d{turn}")
        n1.sql("UPDATE client SET points = COALESCE(points, 0) + 1 WHERE id = 'c1'")
        n1.sync()
        n2.sync()
        n2.sql("UPDATE client SET points = COALESCE(points, 0) + 10 WHERE id = 'c1'")
        n2.sync()
    put_back_centre(world, copy)

    class Cut(Exception):
        pass

    for entry in (n2, n1, n3):
        done = False
        for at in range(60):
            asked = 0

            def count(_kind: str, at: int = at) -> None:
                nonlocal asked
                asked += 1
                if asked == 2 + at % 3:
                    raise Cut

            entry.link.before = count
            entry.link.lose = ["push"] if at % 2 else ["offer"]
            with suppress(Cut, ReplyLost):
                entry.sync()
                done = True
                break
        entry.link.before, entry.link.lose = (lambda _kind: None), []
        assert done or entry.sync() is not None
    assert settled(world)
    assert at_centre(world, "points") == 33
    assert world.sql("SELECT COUNT(*) FROM client") == [(4,)]

"""The oracle's own mistakes: what it may not hold against the engine, and what it must."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from sync.change import Edit, Insert, Op, Update
from tests.simulation.causes import Write
from tests.simulation.final import Final
from tests.simulation.history import History
from tests.simulation.network import Wire, exchange
from tests.simulation.oracle import read
from tests.simulation.world import Violation, pool, seeded


@pytest.fixture
def world() -> Iterator[History]:
    pool(None)
    with seeded(Random(1)):
        made = History(1, trace=False, tables=())
        yield made
        made.close()


def test_a_refused_decision_for_an_earlier_value_replaces_nothing(world: History) -> None:
    """A row typed by two: `w1` stands, `w2` is on record. Who decides for `w2` has seen `w1`; who typed `w2` first had not.

    Found by seed 60001679: the office refused the decision, and `w1` stands rightly.
    """
    first, stands = Write("client", ("c1",), "name", "w2"), Write("client", ("c1",), "name", "w1")
    before = read(world.centre, world.schema)
    world.centre.execute("INSERT INTO client (id, branch, name, points) VALUES ('c1', 'A', 'w1', 0)")
    world.judge.centre_wrote(before, read(world.centre, world.schema))
    exchange(world, world.join("k2", Wire, "branch:A"), "sync")
    world.observe()
    typed: Op = Insert("client", ("c1",), {"id": "c1", "branch": "A", "name": "w2"})
    decision: Op = Update("client", ("c1",), [Edit("name", ("name",), ("w1",), ("w2",), 1, 1, 0)])
    world.causes.seen[first].add(stands)
    final = Final(world.judge)
    with pytest.raises(Violation, match="an older value stands"):
        final._no_older_value_stands([typed, decision], [])
    world.judge.taken.add(first)
    with pytest.raises(Violation, match="an older value stands"):
        final._no_older_value_stands([typed, decision], [])
    final._no_older_value_stands([typed], [decision])


def test_a_value_on_record_again_whose_row_is_gone_stands_beside_nothing(world: History) -> None:
    """The other side of a conflict comes again after a restore, and the row is not there (PROTOCOL P-7.32). Found by seed 120000344."""
    world.judge._fair("client", ("c1",), ["low"], [(3,), None], "restored", "theirs", False)
    with pytest.raises(Violation, match="open"):
        world.judge._fair("client", ("c1",), ["low"], [(3,), (4,)], "restored", "theirs", True)

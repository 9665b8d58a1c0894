"""What central programs write by plain SQL travels like anything else (PROTOCOL.md §6.6)."""

from __future__ import annotations

from tests.world import World


def test_rows_written_before_a_node_is_invited_reach_it(world: World) -> None:
    """Inviting journals a version of its own; it must not take central rows as seen."""
    world.sql("INSERT INTO product (id, name) VALUES ('p1', 'Чай')")
    assert world.node("k2", "branch:LON").sync().pulled == 1
    world.sql("INSERT INTO product (id, name) VALUES ('p2', 'Кава')")
    world.rescope("k2", "branch:PAR")
    assert world.nodes["k2"].sync().pulled == 1
    assert world.agree()


def test_a_parent_written_at_the_centre_releases_what_waits_for_it(world: World) -> None:
    k2 = world.node("k2", "branch:LON", "owner:e1")
    k2.sql("INSERT INTO deal (id, contact_id, owner_id) VALUES ('d1', 'c1', 'e1')")
    assert k2.sync().verdicts["held"] == 1
    world.sql("INSERT INTO contact (id, kind, name, branch_id) VALUES ('c1', 'person', 'Анна', 'LON')")
    k2.sync()
    assert not k2.held()
    assert world.sql("SELECT id FROM deal") == [("d1",)]
    assert world.agree()

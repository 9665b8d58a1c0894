"""Upgrades of a PostgreSQL centre in place, beside other programs and what they have laid on our tables."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from server.database import Database
from server.service import Service
from sync.errors import CannotUpgrade
from tests.server.test_postgres import world as world  # a fixture
from tests.simulation.later import later_schema
from tests.world import Node, World

Program = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def till(world: World) -> Node:
    node = world.node("till", "branch:A")
    node.sql("INSERT INTO client (id, branch, name, high) VALUES ('c1', 'A', 'Олена', 8)")
    node.sync()
    return node


@pytest.fixture
def office(world: World) -> Iterator[Program]:
    with closing(psycopg.connect(str(world.database.path), autocommit=True)) as connection:
        yield connection


def upgrade(world: World) -> None:
    """Stop the server's program and start one with the newer declaration."""
    place = world.database.path
    world.database.close()
    world.database = Database(place, later_schema())
    world.service = Service(world.database)


def test_what_other_programs_laid_on_a_column_whose_type_changes_stays(world: World, till: Node, office: Program) -> None:
    office.execute("CREATE INDEX theirs ON client (high)")
    office.execute("ALTER TABLE client ADD COLUMN boss text UNIQUE")
    office.execute("ALTER TABLE client ADD FOREIGN KEY (boss) REFERENCES client (boss) DEFERRABLE INITIALLY DEFERRED")
    office.execute("UPDATE client SET boss = 'c1'")
    office.execute("CREATE TABLE seen (id text)")
    office.execute(
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.seen VALUES (NEW.id); RETURN NULL; END $$"
    )
    office.execute("CREATE TRIGGER theirs AFTER UPDATE ON client FOR EACH ROW EXECUTE FUNCTION note()")
    office.execute("CREATE TRIGGER asleep AFTER UPDATE ON client FOR EACH ROW EXECUTE FUNCTION note()")
    office.execute("ALTER TABLE client DISABLE TRIGGER asleep")
    upgrade(world)
    assert office.execute("SELECT id, high FROM client").fetchall() == [("c1", 4.0)]
    assert office.execute("SELECT indexdef LIKE '%(high)' FROM pg_indexes WHERE indexname = 'theirs'").fetchall() == [(True,)]
    assert office.execute("SELECT id FROM seen").fetchall() == [], "no row has changed for their trigger"
    sql = "SELECT tgname::text, tgenabled::text FROM pg_trigger WHERE tgname IN ('theirs', 'asleep') ORDER BY 1"
    assert office.execute(sql).fetchall() == [("asleep", "D"), ("theirs", "O")]
    office.execute("UPDATE client SET high = 4.5 WHERE id = 'c1'")
    assert office.execute("SELECT id FROM seen").fetchall() == [("c1",)]
    till.sync()
    assert till.sql("SELECT high FROM client") == [(9,)], "an older till shows whole numbers"


@pytest.mark.parametrize(
    ("laid", "gone"),
    [
        ("CREATE VIEW theirs AS SELECT id, high FROM client", "DROP VIEW theirs"),
        (
            "CREATE TRIGGER theirs AFTER UPDATE OF high ON client FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            "DROP TRIGGER theirs ON client",
        ),
        ("CREATE UNIQUE INDEX theirs ON client (floor(high))", "DROP INDEX theirs"),  # 8 and 9 become 4 and 4.5
        ("ALTER TABLE client ADD CONSTRAINT theirs CHECK (high IS NOT NULL)", "ALTER TABLE client DROP CONSTRAINT theirs"),
    ],
    ids=["view", "trigger", "unique", "check"],
)
def test_what_stands_in_the_way_of_a_new_type_is_named_and_nothing_is_changed(
    world: World, till: Node, office: Program, laid: str, gone: str
) -> None:
    till.sql("INSERT INTO client (id, branch, high) VALUES ('c2', 'A', 9)")
    till.sync()
    office.execute(laid)  # type: ignore[call-overload]
    with pytest.raises(CannotUpgrade, match=r"(?s)Another program's .*theirs.*Drop it first") as caught:
        upgrade(world)
    assert caught.value.kept.startswith("The database is as it was")
    assert office.execute("SELECT high FROM client ORDER BY id").fetchall() == [(8,), (9,)]
    office.execute(gone)  # type: ignore[call-overload]
    world.database = Database(world.database.path, later_schema())
    assert office.execute("SELECT high FROM client ORDER BY id").fetchall() == [(4.0,), (4.5,)]


def test_an_upgrade_waits_for_a_program_that_is_at_work_and_journals_what_it_wrote(world: World, till: Node, office: Program) -> None:
    """Begun beside it, on an older snapshot, the upgrade would have lost what the row held before."""
    with closing(psycopg.connect(str(world.database.path))) as program:
        program.execute("UPDATE client SET high = 10, memo = 'late' WHERE id = 'c1'")
        upgrading = threading.Thread(target=upgrade, args=(world,))
        upgrading.start()
        waits = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'client'::regclass"
        while upgrading.is_alive() and not office.execute(waits).fetchone():
            pass
        assert upgrading.is_alive()
        program.commit()
        upgrading.join()
    assert office.execute("SELECT high, remarks FROM client").fetchall() == [(5.0, "late")]
    till.sync()
    assert till.sql("SELECT high, memo FROM client") == [(10, "late")]

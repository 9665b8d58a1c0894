"""Processes that die and disks that fill up, one by one: what the simulator draws by chance is gone through in order here."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from sqlcipher3 import dbapi2

from node.cycle import Cycle
from node.database import Database
from node.report import Report
from tests.simulation import mishaps
from tests.simulation.disk import Process, Session, SimulatedSqlite
from tests.simulation.history import History
from tests.simulation.network import Wire, exchange
from tests.simulation.oracle import read
from tests.simulation.world import Station, is_healing, pool, seeded
from tests.world import ReplyLost


@pytest.fixture
def world() -> Iterator[History]:
    pool(None)
    with seeded(Random(1)):
        made = History(1, trace=False, tables=())
        yield made
        made.close()


def _write(world: History, station: Station, sql: str, *values: object) -> None:
    """Let a program write, and the judge know."""
    before = station.view()
    station.program.execute(sql, values)
    station.typed |= world.record(before, station.view(), station.gone)


def _central(world: History, sql: str, *values: object) -> None:
    before = read(world.centre, world.schema)
    world.centre.execute(sql, values)
    after = read(world.centre, world.schema)
    world.record(before, after, {})
    world.judge.centre_wrote(before, after)


def _some_work(world: History) -> tuple[Station, Station]:
    """Return two nodes of one branch with work to push and work to pull, a conflict and a removal among it."""
    k2, l3 = world.join("k2", Wire, "branch:A"), world.join("l3", Wire, "branch:A", "branch:B")
    for name in ("c1", "c2"):
        _central(world, "INSERT INTO client (id, branch, name, points) VALUES (?, 'A', ?, 1)", name, f"w{name}")
    for station in (k2, l3):
        exchange(world, station, "sync")
    for station, text in ((l3, "l"), (k2, "k")):
        _write(world, station, "UPDATE client SET name = ?, points = points + 1 WHERE id = 'c1'", f"w{text}")
        station.program.execute("BEGIN")
        station.program.execute("INSERT INTO receipt (id, branch, total) VALUES (?, 'A', 5)", (f"S{text}",))
        station.program.execute("INSERT INTO receipt_line (id, receipt_id, amount) VALUES (?, ?, 5)", (f"L{text}", f"S{text}"))
        station.program.execute("COMMIT")
        world.judge.sold.append((f"S{text}", "A", None, 5))
    _write(world, l3, "UPDATE client SET branch = 'B' WHERE id = 'c2'")
    exchange(world, l3, "sync")
    return k2, l3


@pytest.mark.parametrize("whose", ["node", "server"])
def test_a_process_may_die_before_any_of_its_statements(whose: str) -> None:
    """The whole exchange once per statement: afterwards everything is as if nothing had happened."""
    pool(None)
    for number in itertools.count(1):
        with seeded(Random(1)):
            world = History(1, trace=False, tables=())
            k2, l3 = _some_work(world)
            process = k2.process if whose == "node" else world.process
            mishaps._die_at(process, number)
            exchange(world, k2, "sync", rows=2)
            process.hook = None
            died = process.dead
            for station in (k2, l3, k2):
                exchange(world, station, "sync")
                assert station.node.unsynced() == 0
            assert world.centre.execute("SELECT points FROM client WHERE id = 'c1'").fetchone() == (3,)
            assert world.centre.execute("SELECT COUNT(*) FROM receipt_line").fetchone() == (2,)
            world.judge.final()
            world.close()
        if not died:
            assert number > 50
            return


def _full_at(process: Process, statement: str) -> list[str]:
    """Let the disk be full at every statement of a kind; return those that failed."""
    failed: list[str] = []

    def hook(_session: Session, sql: str) -> None:
        if sql.startswith(statement):
            failed.append(sql)
            raise dbapi2.OperationalError("database or disk is full")

    process.hook = hook
    return failed


@pytest.mark.parametrize("whose", ["node", "server"])
def test_a_commit_that_fails_leaves_no_transaction_open(world: History, whose: str) -> None:
    """Found by the simulator: after a commit on a full disk every later one said 'within a transaction', until a restart."""
    k2, _ = _some_work(world)
    process = k2.process if whose == "node" else world.process
    failed = _full_at(process, "COMMIT")
    world.full.add(process)
    exchange(world, k2, "sync")
    assert failed
    process.hook = None
    exchange(world, k2, "sync")
    assert k2.node.unsynced() == 0
    assert k2.node.verify()


def test_a_node_whose_disk_is_full_goes_on_when_there_is_room(world: History) -> None:
    """The real thing: SQLite may not take one page more."""
    k2, _ = _some_work(world)
    connection = k2.node.database.connection
    long = "я" * 20_000
    _write(world, k2, "UPDATE client SET memo = ? WHERE id = 'c1'", long)
    connection.execute("VACUUM")
    connection.execute(f"PRAGMA max_page_count={connection.execute('PRAGMA page_count').fetchone()[0]}")
    with pytest.raises(dbapi2.OperationalError, match="full"):
        Cycle(k2.node.database, k2.node.link).push(Report())
    assert k2.program.execute("SELECT memo FROM client WHERE id = 'c1'").fetchone() == (long,)
    connection.execute("PRAGMA max_page_count=1073741823")
    exchange(world, k2, "sync")
    assert world.centre.execute("SELECT memo FROM client WHERE id = 'c1'").fetchone() == (long,)


def test_a_second_process_that_moves_the_cursor_between_two_pages_stops_the_first(world: History) -> None:
    """Found by the simulator (base,copy 4): the first asked for a page of before, and the centre called its request malformed."""
    k2, _ = _some_work(world)
    for number in range(12):
        _central(world, "INSERT INTO visit (id, client_id) VALUES (?, 'c1')", f"filler{number}")
    pages = 0

    def staged(session: Session, sql: str) -> None:
        nonlocal pages
        pages += sql.startswith("INSERT INTO _stage")
        if pages == 1 and sql.startswith("SELECT node") and not session.in_transaction:
            pages += 1
            exchange(world, k2, "sync")

    k2.process.hook = staged
    Cycle(k2.node.database, k2.node.link, rows=2).sync()
    assert pages > 1
    world.check(k2, "after two processes")


def test_a_read_keeps_its_temporary_tables(world: History) -> None:
    """Undoing them made SQLite read the whole schema again after every pull, and compile every statement anew."""
    with world.database.reading() as store:
        store.connection.execute("CREATE TEMP TABLE _kept (x)")
    with world.database.reading() as store:
        assert store.connection.execute("SELECT COUNT(*) FROM temp._kept").fetchone() == (0,)
    with pytest.raises(ZeroDivisionError), world.database.reading() as store:
        raise ZeroDivisionError
    with world.database.reading() as store:
        assert store.connection.in_transaction


def test_a_second_process_that_pushes_while_the_first_gathers_its_push(world: History) -> None:
    """Found by the simulator (base,disk,clock,copy 16): a segment was gone between the list of them and its reading."""
    k2, _ = _some_work(world)
    second = Process("second", k2.process.clock_ms)
    listed = 0

    def gathered(_session: Session, sql: str) -> None:
        nonlocal listed
        if "FROM _segment WHERE seq = ?" in sql and k2.process is process:
            listed += 1
            if listed == 1:
                database = Database(k2.file.path, world.schema, second.clock_ms, SimulatedSqlite(k2.file, second))
                exchange(world, k2, "sync", database=database)
                database.close()

    process = k2.process
    process.hook = gathered
    Cycle(k2.node.database, k2.node.link).sync()
    assert listed
    world.check(k2, "after two processes")
    assert k2.node.unsynced() == 0


def test_what_is_written_while_everything_is_taken_anew_is_not_missing_afterwards(world: History) -> None:
    """Found by the simulator (base,disk,clock,copy,restore 10031): it was pushed under the incarnation that takes everything
    anew, so the centre kept it back as an echo, and the node had just cleared its rows away.
    """
    k2, l3 = _some_work(world)
    exchange(world, k2, "sync")
    mishaps.keep_centre(world, k2)
    _write(world, l3, "UPDATE client SET claim = 'wx' WHERE id = 'c1'")
    for station in (l3, k2):
        exchange(world, station, "sync")
    mishaps.put_back_centre(world, k2)
    _write(world, k2, "UPDATE client SET high = 1234567 WHERE id = 'c1'")
    wire: Any = k2.node.link
    pull, wire.pull = wire.pull, _lost  # everything but the page arrives
    exchange(world, k2, "sync")
    assert is_healing(k2)
    _write(world, k2, "INSERT INTO client_label (client_id, label) VALUES ('c1', 'new')")
    exchange(world, k2, "push")
    exchange(world, k2, "sync")
    wire.pull = pull
    for station in (k2, l3, k2):
        exchange(world, station, "sync")
    assert ("c1", "new") in k2.view()["client_label"]
    assert k2.node.unsynced() == 0
    world.judge.final()


def _lost(_request: object) -> None:
    raise ReplyLost("pull")


def test_a_restored_centre_does_not_continue_pages_of_its_lost_history(world: History) -> None:
    """Found by the simulator (base,restore 68 and 69): nobody had noticed the restore yet, and the staged pages of before were
    gone on with: a node's own write was settled by a page that did not know it, or every sync failed as malformed.
    """
    k2, l3 = _some_work(world)
    exchange(world, k2, "sync")
    mishaps.keep_centre(world, k2)
    for number in range(12):
        _write(world, l3, "INSERT INTO visit (id, client_id) VALUES (?, 'c1')", f"V{number}")
    exchange(world, l3, "sync")
    wire: Any = k2.node.link
    pull = wire.pull

    def once(request: object) -> object:
        wire.pull = _lost
        return pull(request)

    wire.pull = once
    exchange(world, k2, "pull", rows=2)
    wire.pull = pull
    assert k2.program.execute("SELECT COUNT(*) FROM _stage").fetchone() == (1,)
    mishaps.put_back_centre(world, k2)
    _write(world, k2, "UPDATE client SET claim = 'wy' WHERE id = 'c1'")
    for station in (k2, l3, k2):
        exchange(world, station, "sync")
    assert k2.view()["client"]["c1",]["claim"] == "wy"
    world.judge.final()

"""A laptop comes back after its lease, when the centre no longer knows what was deleted: it shows what it works on, takes everything
anew, and all ends as if the centre had forgotten nothing (RULES §2 a).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from node.centre import page
from node.cycle import Cycle
from node.report import Report
from server import backup, horizon, journal
from server.compacting import Compacted, Compactor
from server.horizon import DAY_MS, Policy
from sync import box
from sync.digest import BEGINNING, content_digest, version_point_of
from sync.errors import Malformed, TooLate
from sync.messages import Offered, OfferRequest
from sync.wire import pack
from tests.world import Node, ReplyLost, World

CONTACT = "INSERT INTO contact (id, kind, name, branch_id) VALUES (?, 'person', ?, ?)"
ACTIVITY = "INSERT INTO activity (id, contact_id, type, topic) VALUES (?, ?, 'call', ?)"
SALE = "INSERT INTO sale (id, number, kind, branch_id, sold_ms, currency, total_minor) VALUES (?, 'n', 'sale', 'LON', 1, 'GBP', ?)"


def compact(world: World, *, days: int = 400) -> Compacted:
    """Let time pass and a backup be made; then let go of what may go."""
    world.clock.now += days * DAY_MS
    backup.backup(world.database, world.folder / f"backup-{world.clock.now}", world.clock.read())
    return Compactor(world.database, portion=2).run(world.clock.now + 91 * DAY_MS)


def began(world: World) -> tuple[Node, Node]:
    """A laptop and an office that know the same: contacts a … h, an activity with each."""
    laptop, office = world.node("laptop", "branch:LON"), world.node("office", "branch:LON")
    for key in "abcdefgh":
        office.sql(CONTACT, key, f"name {key}", "LON")
        office.sql(ACTIVITY, f"at {key}", key, "first")
    world.settle(2)
    return laptop, office


def away(laptop: Node, office: Node) -> None:
    """What both do in the meantime."""
    office.sql("DELETE FROM contact WHERE id IN ('a', 'b', 'c', 'd')")
    office.sql("UPDATE contact SET phone = 'theirs' WHERE id = 'e'")
    office.sync()
    laptop.sql("UPDATE contact SET phone = 'mine' WHERE id = 'a'")  # was deleted: the edit wins
    laptop.sql(ACTIVITY, "new", "b", "typed on the laptop")  # its contact was deleted: it comes back
    laptop.sql("DELETE FROM contact WHERE id = 'c'")  # was deleted as well
    laptop.sql("UPDATE contact SET phone = 'mine' WHERE id = 'e'")  # was changed: both values are kept
    laptop.sql("UPDATE contact SET phone = 'mine' WHERE id = 'f'")
    laptop.sql("DELETE FROM contact WHERE id = 'g'")
    laptop.sql(SALE, "s1", 500)


def contents(sql: Any) -> dict[str, list[Any]]:
    return {
        "contact": sorted(sql("SELECT id, name, phone FROM contact"), key=str),
        "activity": sorted(sql("SELECT id, contact_id, topic FROM activity"), key=str),
        "sale": sorted(sql("SELECT id, total_minor FROM sale")),
    }


def on_record(world: World) -> list[Any]:
    return sorted(world.sql("SELECT tbl, key, columns, rule, winner FROM _conflict"), key=str)


def outcome(folder: Path, *, is_compacted: bool) -> tuple[Any, ...]:
    """Return what becomes of it all."""
    folder.mkdir()
    with alone(folder) as world:
        laptop, office = began(world)
        away(laptop, office)
        if is_compacted:
            assert compact(world).version > 0
        report = laptop.sync()
        assert report.taken_anew == is_compacted
        world.settle()
        assert world.agree()
        assert laptop.unsynced() == 0
        assert contents(laptop.sql) == contents(world.sql) == contents(office.sql)
        return contents(world.sql), on_record(world), report.verdicts, laptop.held()


@contextmanager
def alone(folder: Path) -> Iterator[World]:
    made = World(folder)
    yield made
    made.close()


@pytest.mark.covers("P-8.26", "P-8.27")
def test_it_ends_as_if_nothing_had_been_forgotten(tmp_path: Path) -> None:
    forgotten, remembered = outcome(tmp_path / "forgotten", is_compacted=True), outcome(tmp_path / "remembered", is_compacted=False)
    assert forgotten == remembered
    assert ("a", "name a", "mine") in forgotten[0]["contact"]
    assert ("new", "b", "typed on the laptop") in forgotten[0]["activity"]
    assert not {"c", "d", "g"} & {key for key, *_ in forgotten[0]["contact"]}


def test_what_a_late_node_has_and_nobody_worked_on_goes(world: World) -> None:
    laptop, office = began(world)
    office.sql("DELETE FROM contact WHERE id = 'a'")
    office.sync()
    compact(world)
    assert laptop.sync().taken_anew
    assert laptop.sql("SELECT id FROM contact WHERE id = 'a'") == []
    world.settle()
    assert world.agree()
    assert not laptop.sync().taken_anew


@pytest.mark.covers("P-8.25")
def test_only_a_whole_exchange_takes_a_late_node_in(world: World) -> None:
    laptop, office = began(world)
    away(laptop, office)
    compact(world)
    cycle = Cycle(laptop.database, laptop.link)
    with pytest.raises(TooLate):
        cycle.push(Report())
    with pytest.raises(TooLate):
        cycle.pull(Report())
    assert world.sql("SELECT phone FROM contact WHERE id = 'e'") == [("theirs",)]
    assert world.sql("SELECT COUNT(*) FROM sale") == [(0,)]


@pytest.mark.parametrize("lost", ["offer", "push", "pull"])
def test_a_late_node_goes_on_after_any_reply_is_lost(world: World, lost: str) -> None:
    laptop, office = began(world)
    away(laptop, office)
    compact(world)
    laptop.link.lose = [lost, lost]
    for _ in range(2):
        with pytest.raises(ReplyLost):
            laptop.sync(rows=3)
    laptop.sync(rows=3)
    world.settle()
    assert world.agree()
    assert contents(laptop.sql) == contents(world.sql)
    assert ("a", "name a", "mine") in contents(world.sql)["contact"]
    assert contents(world.sql)["sale"] == [("s1", 500)]


@pytest.mark.parametrize("kind", ["offer", "push", "pull"])
def test_a_child_that_is_typed_meanwhile_brings_back_its_parent(world: World, kind: str) -> None:
    laptop, office = began(world)
    away(laptop, office)
    compact(world)
    seen: list[str] = []

    def typed(asked: str) -> None:
        if asked == kind and not seen:
            laptop.sql(ACTIVITY, "typed", "d", "meanwhile")
            seen.append(asked)

    laptop.link.before = typed
    laptop.sync()
    world.settle()
    assert laptop.held() == []
    assert ("typed", "d", "meanwhile") in contents(world.sql)["activity"]
    assert world.sql("SELECT id FROM contact WHERE id = 'd'") == [("d",)]
    assert world.agree()


@pytest.mark.covers("P-8.25")
def test_who_stays_away_again_shows_its_rows_again(world: World) -> None:
    laptop, office = began(world)
    away(laptop, office)
    compact(world)
    laptop.link.lose = ["push"]
    laptop.link.before = lambda kind: _fail() if kind == "push" and laptop.database.state().recalled else None
    with pytest.raises(ConnectionError):
        laptop.sync()
    laptop.link.lose, laptop.link.before = [], lambda _kind: None
    office.sync()
    office.sync()
    compact(world)
    assert laptop.sync().taken_anew
    world.settle()
    assert laptop.held() == []
    assert ("a", "name a", "mine") in contents(world.sql)["contact"]
    assert ("new", "b", "typed on the laptop") in contents(world.sql)["activity"]
    assert world.agree()


def _fail() -> None:
    raise ConnectionError


@pytest.mark.covers("P-8.26")
@pytest.mark.parametrize("head", [0, 1])
def test_only_a_late_node_can_show_rows_and_only_as_of_its_cursor(world: World, head: int) -> None:
    laptop, office = began(world)
    office.sql("DELETE FROM contact WHERE id = 'a'")
    world.settle(2)
    compact(world)
    laptop.sync()
    laptop.sync()
    state = laptop.database.state()
    at = state.cursor.number if head == 0 else 1
    table = world.schema.by_name["contact"]
    row = [{"id": "forged", "kind": "person", "name": "x", "branch_id": "LON"}.get(name) for name in table.names]
    made = msgspec.structs.replace(page(laptop.database.store, state, table, [row]), head=at)
    offered = Offered(at, box.close(state.box_key, pack(made)))
    request = OfferRequest(1, state.epoch, state.incarnation, state.cursor, state.highest, (offered,))
    if head == 0:
        assert world.service.offer(laptop.link.identity, request, world.clock.read()).filled == 0
    else:
        with pytest.raises(Malformed):
            world.service.offer(laptop.link.identity, request, world.clock.read())
    assert world.sql("SELECT key FROM _tombstone WHERE key = 'forged'") == []


def test_a_new_node_that_sells_before_its_first_sync_is_not_late(world: World) -> None:
    laptop, office = began(world)
    office.sql("DELETE FROM contact WHERE id = 'a'")
    world.settle(2)
    compact(world)
    fresh = world.node("fresh", "branch:LON")
    fresh.sql(SALE, "s1", 7)
    assert not fresh.sync().taken_anew
    laptop.sync()
    world.settle()
    assert world.agree()


@pytest.mark.covers("P-8.24")
def test_the_chain_can_be_followed_through_what_is_forgotten(world: World) -> None:
    laptop, office = began(world)
    away(laptop, office)
    compact(world)
    point, digests = BEGINNING, 0
    for kind, body, at_ms, digest in world.sql("SELECT kind, body, at_ms, digest FROM _journal ORDER BY ver"):
        is_digest = len(body) == journal.DIGEST_BYTES
        digests += is_digest
        point = version_point_of(point, bytes(body) if is_digest else content_digest(kind, bytes(body)), at_ms)
        assert point.digest == bytes(digest)
    assert digests > 0


@pytest.mark.parametrize("kind", ["offer", "push", "pull"])
@pytest.mark.parametrize("row", ["d", "h"])
@pytest.mark.covers("P-8.28")
def test_what_is_typed_meanwhile_is_kept(world: World, kind: str, row: str) -> None:
    laptop, office = began(world)
    away(laptop, office)
    compact(world)
    seen: list[str] = []

    def typed(asked: str) -> None:
        if asked == kind and not seen:
            laptop.sql("UPDATE contact SET phone = 'meanwhile' WHERE id = ?", row)
            seen.append(asked)

    laptop.link.before = typed
    laptop.sync()
    world.settle()
    assert world.sql("SELECT phone FROM contact WHERE id = ?", row) == [("meanwhile",)]
    assert world.agree()
    assert laptop.held() == []


def test_the_centre_waits_for_every_node_within_its_lease(world: World) -> None:
    laptop, office = began(world)
    office.sql("DELETE FROM contact WHERE id = 'a'")
    office.sync()
    office.sync()
    with world.database.reading() as store:
        (settled,) = store.connection.execute("SELECT settled FROM _node WHERE name = 'laptop'").fetchone()
    done = compact(world, days=1)
    assert (done.version, done.waiting.reason, done.waiting.node) == (settled, "node", "laptop")
    assert not laptop.sync().taken_anew
    assert world.agree()
    done = Compactor(world.database).run(world.clock.now + 200 * DAY_MS)
    assert done.version > settled
    assert world.sql("SELECT COUNT(*) FROM _tombstone") == [(0,)]
    assert not laptop.sync().taken_anew
    assert world.agree()


def test_a_node_with_work_under_way_is_waited_for_where_it_was_before(world: World) -> None:
    laptop, office = began(world)
    with world.database.reading() as store:
        before = store.connection.execute("SELECT settled FROM _node WHERE name = 'laptop'").fetchone()[0]
    laptop.sql(ACTIVITY, "orphan", "nobody", "its contact never comes")
    laptop.sync()
    assert [each["code"] for each in laptop.held()] == ["parent"]
    for _ in range(3):
        office.sql("UPDATE contact SET phone = phone || '1' WHERE id = 'b'")
        office.sync()
        laptop.sync()
    done = compact(world, days=1)
    assert done.waiting.node == "laptop"
    assert done.version == before < journal_head(world)
    kept = world.sql("SELECT LENGTH(body) FROM _journal j JOIN _held h ON h.segment = j.segment")
    assert [size > journal.DIGEST_BYTES for (size,) in kept] == [True]


def journal_head(world: World) -> int:
    with world.database.reading() as store:
        return journal.head(store).number


def test_held_work_can_be_approved_after_all_else_is_forgotten(world: World) -> None:
    laptop, office = began(world)
    laptop.sql(ACTIVITY, "orphan", "late", "its contact comes later")
    laptop.sync()
    compact(world)
    office.sql(CONTACT, "late", "comes at last", "LON")
    world.settle()
    assert ("orphan", "late", "its contact comes later") in contents(office.sql)["activity"]
    assert laptop.held() == []
    assert world.agree()


def test_nothing_is_forgotten_that_no_backup_holds(world: World) -> None:
    began(world)
    late = world.clock.now + 1_000 * DAY_MS
    done = Compactor(world.database).run(late)
    assert (done.version, done.waiting.reason) == (0, "backup")
    with world.database.writing() as store:
        horizon.set_policy(store, Policy(forget=90, lease=180, unbacked=365))
    done = Compactor(world.database).run(late)
    assert done.version == journal_head(world)
    with world.database.reading() as store:
        assert journal.covered(store) == done.version, "nodes keep it for a restore no longer either"


def test_nothing_young_is_forgotten(world: World) -> None:
    began(world)
    backup.backup(world.database, world.folder / "backup", world.clock.read())
    done = Compactor(world.database).run(world.clock.read())
    assert (done.version, done.waiting.reason) == (0, "age")


def test_a_node_that_joins_afterwards_gets_everything(world: World) -> None:
    _, office = began(world)
    office.sql("DELETE FROM contact WHERE id = 'a'")
    office.sql("UPDATE contact SET branch_id = 'PAR' WHERE id = 'b'")
    office.sql("UPDATE contact SET phone = '1' WHERE id = 'c'")
    office.sql("UPDATE contact SET phone = '2' WHERE id = 'c'")
    office.sql(SALE, "s1", 7)
    world.settle(2)
    done = compact(world)
    assert min(done.images, done.lines, done.bodies) > 0
    for name, scope in (("london", "branch:LON"), ("paris", "branch:PAR")):
        world.node(name, scope).sync()
    world.rescope("paris", "branch:PAR", "branch:LON")
    world.nodes["paris"].sync()
    assert contents(world.nodes["london"].sql) == contents(office.sql)
    assert contents(world.nodes["paris"].sql) == contents(world.sql)
    world.settle()
    assert world.agree()


@pytest.mark.covers("P-8.24")
def test_a_segment_that_comes_again_is_known_by_its_digest(world: World) -> None:
    laptop, _ = began(world)
    laptop.sql(SALE, "s1", 7)
    laptop.link.lose = ["push"]
    with pytest.raises(ReplyLost):
        laptop.sync()
    compact(world)
    laptop.sync()
    world.settle()
    assert contents(world.sql)["sale"] == [("s1", 7)]
    assert world.agree()


def test_a_second_pass_finds_nothing(world: World) -> None:
    laptop, office = began(world)
    away(laptop, office)
    compact(world)
    laptop.sync()
    world.settle()
    again = Compactor(world.database).sweep(horizon.Waiting(0, "age"))
    assert (again.images, again.lines, again.bodies) == (0, 0, 0)

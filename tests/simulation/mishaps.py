"""What happens to processes, disks, clocks and files. Each is one step of a history; each leaves the world fit to go on.

base     a process dies before one of its statements, and starts again from what its file holds; so does a server
disk     the disk is full from some write on, until there is room again
clock    a clock jumps by up to twenty years
copy     a node's file is put back to an older copy of itself; a copy is used beside it; two processes sync one file
restore  the centre's file is put back to an older copy of itself
growth   the centre lets go of what is over, and some nodes were away for longer than their lease
schema   the centre's program, and every node's in its own time, is replaced by one with a newer declaration (upgrades.py)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import node.database
from server import backup, horizon, nodes
from server.compacting import Compactor
from server.database import Place
from server.horizon import DAY_MS, DAYS_MAX, Policy
from tests.simulation.disk import Crash, Process, Session
from tests.simulation.lives import Life, Work
from tests.simulation.network import Wire, exchange
from tests.simulation.skew import declared
from tests.simulation.upgrades import dropped, newer_centre, newer_node, somebody
from tests.simulation.world import Station, Violation
from tests.world import Node

if TYPE_CHECKING:
    from tests.simulation.history import History

FAULTS = ("base", "disk", "clock", "copy", "restore", "schema", "growth")
YEARS_20_MS = 20 * 365 * 24 * 3600 * 1000
STATEMENTS_MAX = 400
"""A sync of the simulator's size runs a few hundred statements on either side."""
STATIONS_MAX = 5
_WRITES = ("INSERT", "UPDATE", "DELETE", "CREATE")

Step = Callable[["History", Station], None]


def mishaps(faults: frozenset[str]) -> list[tuple[Step, float]]:
    """Return what may happen, and how likely each is in a step."""
    found: list[tuple[Step, float, str]] = [
        (crash, 0.05, "base"),
        (crash_writing, 0.015, "base"),
        (restart_server, 0.01, "base"),
        (fill_disk, 0.03, "disk"),
        (wrong_clock, 0.02, "clock"),
        (keep_copy, 0.03, "copy"),
        (put_back, 0.03, "copy"),
        (clone, 0.02, "copy"),
        (two_processes, 0.03, "copy"),
        (keep_centre, 0.05, "restore"),
        (put_back_centre, 0.05, "restore"),
        (somebody, 0.1, "schema"),
        (forget, 0.04, "growth"),
        (roll, 0.03, "growth"),
    ]
    return [(step, chance) for step, chance, fault in found if fault in faults]


def _some_number(world: History) -> int:
    """Return a number up to STATEMENTS_MAX, small ones as often as large ones."""
    return int(math.exp(world.random.uniform(0, math.log(STATEMENTS_MAX))))


# --- processes die -------------------------------------------------------------------------------------------------------


def _die_at(process: Process, number: int) -> None:
    last = process.statements + number

    def hook(_session: Session, _sql: str) -> None:
        if process.statements >= last:
            process.die()

    process.hook = hook


def crash(world: History, station: Station) -> None:
    """Run an exchange in which the node's or the server's process dies before one of its statements."""
    whose = world.random.choice(["node", "server"])
    process = station.process if whose == "node" else world.process
    number = _some_number(world)
    world.say(f"-- the {whose} dies at statement", number)
    _die_at(process, number)
    exchange(world, station, world.random.choice(["push", "pull", "sync", "sync"]), world.random.choice([10_000, 2]))
    if not process.dead:
        process.hook = None
        world.counts["crash not reached"] += 1
        return
    world.counts[f"crash of the {whose}"] += 1
    if world.random.random() < 0.3:
        tear(world, station if whose == "node" else None)


def crash_writing(world: History, station: Station) -> None:
    """Let our own code die in the middle of a transaction: nothing of it may be there."""
    _die_at(station.process, world.random.randrange(1, 40))
    before = station.view()
    try:
        world.user_writes(station, ours=True)
    except Crash:
        world.open_node(station)
        world.counts["crash while writing"] += 1
        if station.view() != before:
            raise Violation(f"{station.name} died while writing, and half of it is there") from None
    station.process.hook = None


def tear(world: History, station: Station | None) -> None:
    """Cut the power: a station's machine, or the server's, goes on with what lies in file and log."""
    world.counts["power cut"] += 1
    if station is None:
        world.file.tear()
        world.open_server()
    else:
        station.file.tear()
        world.open_node(station)
        world.check(station, "after a power cut")


def restart_server(world: History, _station: Station) -> None:
    """Stop the server's process and start it again."""
    world.counts["server restarted"] += 1
    world.database.close()
    world.open_server()


# --- disk and clock --------------------------------------------------------------------------------------------------------


def fill_disk(world: History, station: Station) -> None:
    """Let a disk be full from the n-th write on, run an exchange, and make room again."""
    whose = world.random.choice(["node", "server"])
    process = station.process if whose == "node" else world.process
    last = world.random.choice([1, 2, 3, 5, 10, 20, 50])
    written, dirty = 0, False

    def hook(session: Session, sql: str) -> None:
        nonlocal written, dirty
        writes = sql.lstrip().startswith(_WRITES)
        if writes or (sql == "COMMIT" and dirty):  # the end of a reading needs no room
            written, dirty = written + 1, writes
            if written >= last:
                world.full.add(process)
                raise session.fail(world.random.random() < 0.5)

    world.say(f"-- the {whose}'s disk is full at write", last)
    process.hook = hook
    exchange(world, station, world.random.choice(["push", "pull", "sync", "sync"]), world.random.choice([10_000, 2]))
    process.hook = None
    if process in world.full:
        world.full.remove(process)
        world.counts[f"disk of the {whose} full"] += 1
        exchange(world, station, "sync")  # there is room again


def wrong_clock(world: History, station: Station) -> None:
    """Set a node's clock, or the server's, years away."""
    jump = world.random.choice([0, -YEARS_20_MS, YEARS_20_MS, world.random.randrange(-YEARS_20_MS, YEARS_20_MS)])
    if world.random.random() < 0.3:
        world.server_skew = jump
        world.counts["server clock wrong"] += 1
        world.say("the server's clock", jump)
    else:
        station.node.skew[0] = jump
        world.counts["node clock years wrong"] += 1
        world.say(station.name, "clock", jump)


# --- copies of nodes -------------------------------------------------------------------------------------------------------


@dataclass
class Kept:
    """A copy of a node's file, and what the simulator knew of it then."""

    path: Path
    version: int  # of its declared tables
    told: int
    works: list[Work]
    sealed: int
    gone: dict[Any, set[Any]]
    typed: set[Any]
    dropped: set[Any]  # values in columns that the newest program has no more, or that stood there before it came


def _copy_of(world: History, station: Station) -> Kept:
    """Copy a node's file while nothing is under way. What programs wrote is sealed first (RULES §2 c)."""
    world.check(station, "before a copy")
    if station.has_changes:
        exchange(world, station, "push", cut=1)
        world.check(station, "before a copy")
    path = world.copy_of("copy", station.program)
    works, gone, typed = list(station.works), dict(station.gone), set(station.typed)
    return Kept(path, station.file.version, station.told, works, station.sealed, gone, typed, station.dropped | dropped(world, station))


def keep_copy(world: History, station: Station) -> None:
    """Make a backup of a node's file."""
    world.say("-- copy of", station.name)
    world.kept.setdefault(station.name, []).append(_copy_of(world, station))


def put_back(world: History, station: Station) -> None:
    """Put an older copy in the place of a node's file."""
    kept = world.kept.get(station.name)
    if not kept:
        return
    old = world.random.choice(kept)
    world.say("--", station.name, "is put back to a copy")
    world.harvest(station)
    world.copied = True
    world.counts["node put back"] += 1
    _write_off(world, station, old)
    before, had = station.view(), station.dropped
    station.node.database.close()
    station.told, station.dropped = old.told, set(old.dropped)
    if old.version < station.version:
        station.file = newer_node(world, station, old.path)
    else:
        station.file.replace(old.path)
    station.works, station.sealed, station.gone, station.typed = list(old.works), old.sealed, dict(old.gone), set(old.typed)
    station.point_seen = None
    world.open_node(station)
    world.judge.node_put_back(before, had)
    world.check(station, "put back")


def _write_off(world: History, station: Station, old: Kept) -> None:
    """Note what was on the overwritten disk and nowhere else."""
    others = [other for other in world.stations if other is not station]
    elsewhere = {(work.segment, work.index) for other in others for work in other.works} | {(w.segment, w.index) for w in old.works}
    lost = [work for work in station.works if (work.segment, work.index) not in elsewhere and work.segment not in world.life.journal]
    world.beyond_recovery.update((work.segment, work.index) for work in lost)
    world.beyond_recovery.update(station.typed - old.typed)
    world.counts["work lost with a disk"] += len(lost)


def clone(world: History, station: Station) -> None:
    """Copy a node's whole disk; both go on as the same node."""
    if len(world.stations) >= STATIONS_MAX:
        return
    kept = _copy_of(world, station)
    name = f"{station.name}'{len(world.stations)}"
    world.say("-- clone", name)
    world.counts["node cloned"] += 1
    world.copied = True
    file, skew = world.take_copy("node", kept.path, kept.version), [station.node.skew[0]]
    process = Process(name, lambda: world.clock.read(skew[0]))
    database = node.database.Database(file.path, declared(station.version), process.clock_ms, file.dialect(process))
    made = world.add_station(Node(name, database, Wire(world, station.node.link.identity), skew), file, process, station.origin)
    made.version, made.told = station.version, station.told
    made.works, made.sealed, made.gone, made.typed, made.dropped = kept.works, kept.sealed, kept.gone, kept.typed, kept.dropped
    world.check(made, "cloned")


def two_processes(world: History, station: Station) -> None:
    """Let a second process sync the same file, between two statements of the first."""
    last, done = station.process.statements + _some_number(world), False
    second = Process(f"second at {station.name}", station.process.clock_ms)

    def hook(session: Session, _sql: str) -> None:
        nonlocal done
        if done or station.process.statements < last or session.in_transaction:
            return
        done = True
        world.counts["second process"] += 1
        world.say("  a second process syncs", station.name)
        wire: Any = station.node.link
        kept = (wire.odds, wire.page, wire.meanwhile)
        database = node.database.Database(station.file.path, declared(station.version), second.clock_ms, station.file.dialect(second))
        exchange(world, station, "sync", database=database)
        database.close()
        wire.odds, wire.page, wire.meanwhile = kept

    station.process.hook = hook
    exchange(world, station, "sync", world.random.choice([10_000, 2]))
    station.process.hook = None


# --- copies of the centre ----------------------------------------------------------------------------------------------------


@dataclass
class KeptCentre:
    """A copy of the centre's file, and what the simulator knew of it then."""

    path: Path
    is_backup: bool  # made by the engine
    version: int  # of its declared tables
    head: int
    life: Life
    central_typed: set[Any]
    added: dict[Any, int]
    judged: set[bytes]


def keep_centre(world: History, _station: Station) -> None:
    """Make a backup of the centre's file; what central programs wrote is in its journal."""
    _keep_centre(world, announced=world.random.random() < 0.4)


def _keep_centre(world: History, *, announced: bool) -> None:
    judge = world.judge
    world.service.absorb(world.server_time())
    if announced:  # the engine's own backup, which tells nodes what they need not keep any longer
        path = world.new_path("centre")
        backup.backup(world.database, path, world.server_time())
        world.kept_centres.clear()  # nobody goes back behind it
        world.counts["centre backed up"] += 1
    else:
        path = world.copy_of("centre", world.centre)
    world.observe()
    world.say("-- backup" if announced else "-- copy", "of the centre at", world.head)
    judged = judge.judged | judge.conflict_ids
    kept = KeptCentre(
        path, announced, world.file.version, world.head, world.life.copy(), set(judge.central_typed), dict(judge.added), judged
    )
    world.kept_centres.append(kept)


def forget(world: History, _station: Station) -> None:
    """Let the centre let go of what is over, as on a day on which some nodes were silent for longer than their lease."""
    if world.random.random() < 0.7:
        _keep_centre(world, announced=True)
    heard = "SELECT COALESCE(last_pull_ms, joined_ms) FROM _node WHERE joined_ms IS NOT NULL"
    since = world.random.choice([row[0] for row in world.centre.execute(heard).fetchall()]) + world.random.choice([0, 1])
    with world.database.writing() as store:
        horizon.set_policy(store, Policy(forget=0, lease=1))
    done = Compactor(world.database, portion=world.random.choice([1, 3, 1_000])).run(since + DAY_MS)
    world.observe()
    world.say("-- the centre forgets what was up to", done.version, "and waits for", done.waiting.reason, done.waiting.node)
    world.counts["centre forgot"] += bool(done.images or done.lines or done.bodies)
    world.counts["deleted rows forgotten"] += done.images


def roll(world: History, station: Station) -> None:
    """Let a node keep only some of its receipts from now on: those of no day, nearly all, or all."""
    days = world.random.choice([10, DAYS_MAX, 0])
    with world.database.writing() as store:
        nodes.keep(store, station.origin, days)
    world.say("--", station.origin, "keeps", days, "days")
    world.counts["window set"] += 1


def put_back_centre(world: History, _station: Station) -> None:
    """Put an older copy in the place of the centre's file; nobody says so."""
    if not world.kept_centres:
        return
    kept = world.random.choice(world.kept_centres)
    world.say("-- the centre is put back to", kept.head, "from", world.head)
    world.counts["centre put back"] += 1
    world.restored = True
    world.judge.centre_put_back(kept)
    world.database.close()
    told = world.random.random() < 0.3 and (kept.is_backup or world.is_file)
    if told or (kept.is_backup and not world.is_file):  # the engine's own restore; told: the operator says so
        world.counts["centre restored, and said so"] += told

        def restore(place: Place) -> None:
            done = backup.restore(kept.path, place, declared(world.version), world.server_time(), new_epoch=told)
            if done.aside is not None:
                done.aside.unlink()

        world.file.restored_from(restore)
        world.file.version = world.version
    elif kept.version < world.version:
        world.file = newer_centre(world, kept.path)
    else:
        world.file.replace(kept.path)
    world.life, world.head = kept.life.copy(), kept.head
    world.lives.append(world.life)
    world.open_server()
    world.observe()

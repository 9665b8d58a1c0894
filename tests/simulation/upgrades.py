"""Programs are replaced by newer ones: the centre's, and every node's in its own time, now and then before the centre's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import node.database
import server.database
from tests.simulation import skew
from tests.simulation.disk import Crash, Process, SimulatedSqlite
from tests.simulation.world import Station, Violation

if TYPE_CHECKING:
    from tests.simulation.history import History

DEATHS = 0.3
"""How many upgrades die before one of their statements, and are begun again."""
STATEMENTS_MAX = 150


def upgrade_centre(world: History) -> None:
    """Stop the centre and start one of a newer program on the same file."""
    if world.version == skew.NEWEST:
        return
    world.say("-- the centre is upgraded")
    world.database.close()
    world.file.forget()
    world.version = skew.NEWEST
    if world.random.random() < DEATHS:
        process = _dying(world, "server", world.process)
        before = world.centre_rows()
        try:
            schema = skew.declared(skew.NEWEST)
            server.database.Database(world.file.path, schema, SimulatedSqlite(world.file, process), clock_ms=world.server_time).close()
        except Crash:
            world.counts["crash while the centre is upgraded"] += 1
            world.file.bury(process)
            if world.centre_rows() != before:
                raise Violation("the centre died while it was upgraded, and half of it is there") from None
    world.open_server()
    world.counts["centre upgraded"] += 1
    world.observe()


def upgrade_node(world: History, station: Station) -> None:
    """Stop a node's program and start a newer one on the same file, whatever waits in it."""
    if station.version == skew.NEWEST:
        return
    world.say("--", station.name, "is upgraded")
    world.harvest(station)
    _count(world, station)
    stood = world.judge.standing_in([station.view()])
    station.node.database.close()
    station.file.forget()
    station.version = skew.NEWEST
    if world.random.random() < DEATHS:
        process = _dying(world, station.name, station.process)
        before = station.view()
        try:
            schema = skew.declared(skew.NEWEST)
            node.database.Database(station.file.path, schema, process.clock_ms, SimulatedSqlite(station.file, process)).close()
        except Crash:
            world.counts["crash while a node is upgraded"] += 1
            station.file.bury(process)
            if station.view() != before:
                raise Violation(f"{station.name} died while it was upgraded, and half of it is there") from None
    world.open_node(station)
    station.dropped |= {write for write in stood if not skew.knows(station.version, write.table, write.cell)}
    if station.has_changes:
        raise Violation(f"{station.name} was upgraded, and something is not sealed")
    world.check(station, "upgraded")
    if world.random.random() < 0.5:
        world.user_writes(station)  # before it has been told what is new


def _dying(world: History, name: str, like: Process) -> Process:
    process = Process(name, like.clock_ms)
    last = world.random.randrange(1, STATEMENTS_MAX)

    def hook(_session: object, _sql: str) -> None:
        if process.statements >= last:
            process.die()

    process.hook = hook
    return process


def _count(world: History, station: Station) -> None:
    counts, unsent = world.counts, bool(station.node.unsynced())
    counts["node upgraded"] += 1
    counts["node upgraded with work that is not sealed"] += station.has_changes
    counts["node upgraded with unsent work"] += unsent
    counts["node upgraded with held work"] += any(each["verdict"] == "held" for each in station.node.held())
    counts["node upgraded before the centre"] += world.version == skew.FIRST


def somebody(world: History, station: Station) -> None:
    """Upgrade the centre, or a node that has not been yet."""
    if world.random.random() < 0.4:
        upgrade_centre(world)
    else:
        upgrade_node(world, next((other for other in [station, *world.stations] if other.version == skew.FIRST), station))


def the_rest(world: History) -> None:
    """Upgrade most of what is not, before all comes to rest. Work of newer nodes would wait for an older centre for ever."""
    if world.random.random() < 0.9:
        upgrade_centre(world)
    for station in world.stations:
        if world.random.random() < 0.7:
            upgrade_node(world, station)


def note_talk(world: History, station: Station) -> None:
    """Count an exchange between different versions."""
    if station.version < world.version:
        world.counts["old node synced with newer centre"] += 1
    elif station.version > world.version:
        world.counts["newer node synced with older centre"] += 1

"""Programs are replaced by newer ones: the centre's, and every node's in its own time, now and then before the centre's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import node.database
import server.database
from tests.simulation import skew
from tests.simulation.causes import Write
from tests.simulation.disk import Crash, File, Process
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
    path, before = world.copy_of("centre", world.centre), skew.plain_rows(world.centre, skew.FIRST, centre=True)
    world.database.close()
    world.version = skew.NEWEST

    def dies(file: File) -> None:
        process = _dying(world, "server", world.process)
        try:
            _open_centre(world, file, process)
        except Crash:
            world.counts["crash while the centre is upgraded"] += 1
            file.bury(process)
            if skew.plain_rows(file.connect(Process("look", process.clock_ms)), file.version, centre=True) != before:
                raise Violation("the centre died while it was upgraded, and half of it is there") from None

    world.file = newer_centre(world, path, dies if world.random.random() < DEATHS else None)
    world.open_server()
    world.counts["centre upgraded"] += 1
    world.observe()


def newer_centre(world: History, source: Path, first: Callable[[File], None] | None = None) -> File:
    """Return what the newest program makes of a copy of an older centre's file; `first` is done to it before."""

    def upgrade(file: File) -> None:
        if first is not None:
            first(file)
        _open_centre(world, file, Process("server", world.clock.read))

    return world.take_copy("server", source, skew.FIRST, upgrade)


def _open_centre(world: History, file: File, process: Process) -> None:
    schema = skew.declared(skew.NEWEST)
    server.database.Database(file.path, schema, file.dialect(process), clock_ms=world.server_time).close()


def upgrade_node(world: History, station: Station) -> None:
    """Stop a node's program and start a newer one on the same file, whatever waits in it."""
    if station.version == skew.NEWEST:
        return
    world.say("--", station.name, "is upgraded")
    world.harvest(station)
    _count(world, station)
    path, before = world.copy_of("node", station.program), station.view()
    station.dropped |= dropped(world, station)
    station.node.database.close()
    station.version = skew.NEWEST

    def dies(file: File) -> None:
        process = _dying(world, station.name, station.process)
        try:
            _open_node(file, process)
        except Crash:
            world.counts["crash while a node is upgraded"] += 1
            file.bury(process)
            if skew.plain_rows(file.connect(Process("look", process.clock_ms)), file.version) != before:
                raise Violation(f"{station.name} died while it was upgraded, and half of it is there") from None

    station.file = newer_node(world, station, path, dies if world.random.random() < DEATHS else None)
    world.open_node(station)
    if station.has_changes:
        raise Violation(f"{station.name} was upgraded, and something is not sealed")
    world.check(station, "upgraded")
    if world.random.random() < 0.5:
        world.user_writes(station)  # before it has been told what is new


def newer_node(world: History, station: Station, source: Path, first: Callable[[File], None] | None = None) -> File:
    """Return what the newest program makes of a copy of an older node's file; `first` is done to it before."""

    def upgrade(file: File) -> None:
        if first is not None:
            first(file)
        _open_node(file, Process(station.name, station.process.clock_ms))

    return world.take_copy("node", source, skew.FIRST, upgrade)


def dropped(world: History, station: Station) -> set[Write]:
    """Return the values that stand in columns which the newest program has no more."""
    return {write for write in world.judge.standing_in([station.view()]) if not skew.knows(skew.NEWEST, write.table, write.cell)}


def _open_node(file: File, process: Process) -> None:
    node.database.Database(file.path, skew.declared(skew.NEWEST), process.clock_ms, file.dialect(process)).close()


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

"""The commands `outpost node backup`, `outpost node restore` and, for when the centre was restored, `outpost node rejoin`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from node import backup as backups
from node import identity, joining, series
from node.joining import DATABASE, LOCK
from node.opening import opened
from schema.console import Home, Json, at, moment, now_ms, progress, say
from schema.lock import exclusive
from schema.registry import load

BUSY = "An exchange of this node is under way. Try again when it is done."


def backup(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it; a file that is not there yet.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Copy this node's database into FILE, for your eyes only, while programs go on writing, and check the copy."""
    terminal = at(ctx, home, as_json)
    with opened(terminal) as database, progress("copying") as bar:
        made = backups.backup(database, file, bar)

    def tell() -> None:
        say(f"Backed up to {file} ({made.bytes:,} bytes); the copy was opened and is whole.")
        if made.only_here:
            say(f"In it, and nowhere but here: {made.only_here.words()}. Send what can be sent: outpost node sync")
        say("The node's key (node.key) is not in it: keep that apart.")

    terminal.show({"file": str(file), "bytes": made.bytes, "unsynced": made.unsynced}, tell)


def restore(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A backup that `outpost node backup` made.")],
    anyway: Annotated[bool, typer.Option("--anyway", help="Also over unsent work, a damaged file, another node's; all is kept.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Put a backup in the place of this node's database, which no program may have open. The old one is set aside, not deleted."""
    terminal = at(ctx, home, as_json)
    with exclusive(terminal.home / LOCK, BUSY):
        done = backups.restore(file, terminal.home / DATABASE, load(), now_ms, anyway=anyway)

    def tell() -> None:
        as_of = "that had not synced yet" if done.as_of_ms is None else f"that had last synced {moment(done.as_of_ms)}"
        say(f"Restored {done.name} to a copy {as_of}.")
        if done.aside is not None:
            say(f"The database that was here is kept as {done.aside}.")
        say("What was sent since comes back with the next sync: outpost node sync")
        say(f"Receipts get numbers of a series of their own from here on, <till>.{done.series}: those given since the copy are not known.")
        if not (terminal.home / identity.FILE).exists():
            say(
                f"The node's key ({identity.FILE}) is not here. If it is lost, ask the central office for an invitation under another name."
            )
            say("With that, before you sync: outpost node rejoin CODE")

    document = {
        "node": done.name,
        "as_of_ms": done.as_of_ms,
        "series": done.series,
        "aside": None if done.aside is None else str(done.aside),
    }
    terminal.show(document, tell)


def rejoin(
    ctx: typer.Context,
    code: Annotated[str, typer.Argument(metavar="CODE", help="The one-time code that `outpost server invite` printed.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Join the centre again with everything here: it was restored to before this node joined, or this node's key is lost."""
    terminal = at(ctx, home, as_json)
    with exclusive(terminal.home / LOCK, BUSY), opened(terminal) as database:
        joining.rejoin(terminal.home, database, code)
        state, letters = database.state(), series.own(database.store)

    def tell() -> None:
        say(f"Joined {state.url} again as {state.name}; everything here was kept. Next: outpost node sync")
        if letters:
            say(f"Receipts get numbers of a series of their own from here on, <till>.{letters}: another copy may go on with the old one.")

    terminal.show({"node": state.name, "id": state.node, "url": state.url, "series": letters}, tell)

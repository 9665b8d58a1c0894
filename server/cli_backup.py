"""The commands `outpost server backup` and `outpost server restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from schema.console import Home, Json, at, now_ms, progress, say
from schema.lock import exclusive
from schema.registry import load
from server import backup as backups
from server import home as home_of
from server.opening import opened

NAMES_SHOWN = 50

BUSY = "A server is running on this home. Stop it first: a database that is being served cannot be replaced."


def backup(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it; a file that is not there yet.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Copy the centre's database into FILE while it serves, check the copy, and tell nodes that it covers what they sent."""
    terminal = at(ctx, home, as_json)
    with opened(terminal) as database, progress("copying") as bar:
        made = backups.backup(database, file, now_ms(), bar)

    def tell() -> None:
        say(f"Backed up to {file} ({made.bytes:,} bytes); the copy was opened and its history is whole up to version {made.version}.")
        say("Nodes now need not keep what it covers: store it where a fire here does not reach it.")

    terminal.show({"file": str(file), "bytes": made.bytes, "version": made.version}, tell)


def restore(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A backup that `outpost server backup` made.")],
    new_epoch: Annotated[
        bool, typer.Option("--new-epoch", help="Say at once that history was lost. Otherwise the first node that remembers more tells.")
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Put a backup in the place of the centre's database, which no program may have open. The old one is set aside, not deleted."""
    terminal = at(ctx, home, as_json)
    with exclusive(terminal.home / home_of.LOCK, BUSY):
        done = backups.restore(file, home_of.place(terminal.home), load(), now_ms(), new_epoch=new_epoch)

    def tell() -> None:
        say(f"Restored to version {done.version} (history {done.epoch}).")
        if done.aside is not None:
            say(f"The database that was here is kept as {done.aside}.")
        say("Start it: outpost server run. Every node that syncs offers again what this backup does not have.")
        say("Nodes that joined after the backup are not known here any more: invite them again.")
        _tell_revocations(done)

    document = {
        "version": done.version,
        "epoch": done.epoch,
        "aside": None if done.aside is None else str(done.aside),
        "admitted": done.admitted,
        "revoked_again": done.revoked_again,
        "is_record_of_revocations_here": done.is_record_here,
    }
    terminal.show(document, tell)


def _tell_revocations(done: backups.Restored) -> None:
    """Say whom the restored centre lets in: a backup of before a revocation knows nothing of it."""
    if done.revoked_again:
        say(f"Revoked since the backup, and kept out still: {_listed(done.revoked_again)}.")
    if done.admitted and not done.is_record_here:
        say("Which nodes were revoked since the backup is not known here: the file that keeps it did not lie beside the database.")
        say("Revoke again, before you start, whichever of these must not sync: outpost server revoke NAME")
    if done.admitted:
        say(f"May sync: {_listed(done.admitted)}.")


def _listed(names: list[str]) -> str:
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more (outpost server nodes)" if more > 0 else "")

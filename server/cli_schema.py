"""`outpost server schema` and `outpost server schema preview`: which version of the tables the centre and its nodes have.

Both read the file as it is and change nothing; every other command brings an older file up to date when it opens it.
"""

from __future__ import annotations

import typer

from schema.console import Home, Json, Part, Terminal, at, count, moment, say, table
from schema.registry import load
from server import home as home_of
from server.preview import Preview, Touched, preview

app = typer.Typer(cls=Part, add_completion=False, invoke_without_command=True)


def found(terminal: Terminal) -> Preview:
    """Return what the declaration of this program means for the centre and its nodes."""
    return preview(home_of.existing(terminal.home), load())


@app.callback()
def schema(ctx: typer.Context, home: Home = None, as_json: Json = False) -> None:
    """Show which version of the tables the centre has, and each node as it last told."""
    ctx.obj = terminal = at(ctx, home, as_json)
    if ctx.invoked_subcommand is not None:
        return
    now = found(terminal)

    def tell() -> None:
        say(f"The centre's tables are of version {now.stored}; this program's are of version {now.declared}.")
        _tell_unconverted(now)
        if not now.nodes:
            say("No nodes yet.")
            return
        rows = [(each.name, _version(each), moment(each.last_seen_ms), _told(each)) for each in now.nodes]
        table({"Node": "left", "Version": "right", "Last seen": "left", "Unsynced": "right"}, rows)
        say("Version and unsynced are what each node told last. What a change touches: outpost server schema preview")

    terminal.show(now.document(), tell)


@app.command("preview")
def preview_(ctx: typer.Context, home: Home = None, as_json: Json = False) -> None:
    """Say what this program's tables would change at the centre, and which nodes it touches. Changes nothing."""
    terminal = at(ctx, home, as_json)
    now = found(terminal)
    terminal.show(now.document(), lambda: _tell_preview(now))


def _tell_preview(now: Preview) -> None:
    if now.stored == now.declared:
        say(f"The centre's tables are of version {now.stored}, as this program's: nothing would change there.")
    else:
        say(f"The centre's tables would go from version {now.stored} to {now.declared}:")
        for change in now.changes:
            say(f"  {change}")
    _tell_unconverted(now)
    touched = [each for each in now.nodes if each.changes]
    if not touched:
        say("All nodes have these tables already." if now.nodes else "No nodes yet.")
        return
    say(f"{count(len(touched), 'node')} of {len(now.nodes)} would be older than the centre. They go on working and syncing:")
    for each in touched:
        say(f"  {each.name}: version {_version(each)}, last seen {moment(each.last_seen_ms)}, unsynced {_told(each)}")
        for change in each.changes:
            say(f"    {change}")
    say("Unsynced is what each node told last. Work of a node that is ahead of the centre is held until the centre is upgraded.")


def _tell_unconverted(now: Preview) -> None:
    if now.unconverted:
        say(f"{count(now.unconverted, 'value')} did not convert when a column changed its type; kept as they were.")


def _version(each: Touched) -> str:
    return "not told" if each.version is None else str(each.version)


def _told(each: Touched) -> str:
    return "not told" if each.unsynced is None else f"{each.unsynced:,}"

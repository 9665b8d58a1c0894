"""`outpost node held`: what waits, why, since when, what hangs on it; correcting it, taking it back, keeping a copy."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from node import held
from node.opening import opened
from schema import held_console
from schema.console import Home, Json, at, moment, say, shown

app = typer.Typer(no_args_is_help=False)

Identity = Annotated[str, typer.Argument(metavar="ID", help="The id in `outpost node held`, or enough of its beginning.")]


@app.callback(invoke_without_command=True)
def list_(
    ctx: typer.Context,
    withdrawn: held_console.Withdrawn = False,
    limit: held_console.Limit = held_console.LISTED,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List work of this node that is held or was refused: why, since when, and what can be done. None of it is lost."""
    terminal = at(ctx, home, as_json)
    ctx.obj = terminal
    if ctx.invoked_subcommand is not None:
        return
    with opened(terminal) as database:
        found, more = held.listed(database.store, limit, withdrawn)
    terminal.show(found, lambda: _tell(found, withdrawn))
    held_console.tell_more(more)


def _tell(found: list[dict[str, Any]], is_withdrawn: bool) -> None:
    held_console.tell_all(
        found, lambda each: (each["id"], each["verdict"], each["code"]), _tell_one, "withdrawn" if is_withdrawn else "held"
    )
    if not found:
        return
    if is_withdrawn:
        say("It is kept on this node, and not applied. A copy for elsewhere: outpost node held export FILE")
        return
    where = "on this node" if any(each["table"] for each in found) else "at the centre"
    say(f"It is kept {where}; the rest of your work is not held up by it. Details: outpost node held --json")


def _tell_one(rows: list[dict[str, Any]]) -> None:
    """Tell one transaction: its rows, why it waits, and what can be done."""
    first = rows[0]
    say(f"{first['id']}  {first['verdict']} since {moment(first['at_ms'])}")
    held_console.tell_rows(rows, _row)
    held_console.tell_dependants(first)
    if first["on_its_way"]:
        say(f"  Your {first['on_its_way']} goes with the next sync, or is being judged.")
    held_console.tell_advice(first)


def _row(each: dict[str, Any]) -> str:
    if each["table"] is None:
        return "It is not on this computer: it was typed before the disk was put back, or on a copy of it."
    return held_console.row_words(each)


@app.command()
def correct(
    ctx: typer.Context,
    identity: Identity,
    changes: Annotated[list[str], typer.Option("--set", metavar="COLUMN=VALUE", help="What to write instead; repeat it for more.")],
    row: Annotated[str | None, typer.Option("--row", metavar="TABLE:KEY", help="Which row, if it has several.", show_default=False)] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Correct held or refused work and send it again in its own place; the original is kept. Plain SQL does the same."""
    terminal = at(ctx, home, as_json)
    with opened(terminal) as database:
        done = held.correct(database, identity, changes, row)
    written = "; ".join(f"{name} is {shown(value)}" for name, value in done["values"].items())
    words = f"Corrected {done['table']} {shown(done['key'])}: {written}. The original is kept. Send: outpost node sync"
    terminal.show(done, lambda: say(words))


@app.command()
def withdraw(ctx: typer.Context, identity: Identity, home: Home = None, as_json: Json = False) -> None:
    """Take held or refused work back: it is kept and listed with --withdrawn, and is not applied."""
    terminal = at(ctx, home, as_json)
    with opened(terminal) as database:
        done = held.withdraw(database, identity)
    kept = " and kept (outpost node held --withdrawn)" if done["here"] else "; the central office keeps it"
    later = " It stays in view until the centre has taken it back. Send: outpost node sync" if done["at_centre"] else ""
    terminal.show(done, lambda: say(f"{done['id']} is withdrawn{kept}.{later}"))


@app.command()
def export(ctx: typer.Context, path: held_console.NewFile, home: Home = None, as_json: Json = False) -> None:
    """Write everything held, refused and withdrawn to a file, values and all."""
    terminal = at(ctx, home, as_json)
    with opened(terminal) as database:
        held_console.export(terminal, path, held.export(database.store))

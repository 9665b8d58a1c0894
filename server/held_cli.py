"""`outpost server held`: what waits, why, since when, and what the central office can do about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from schema import held_console
from schema.capture import Store
from schema.console import Home, Json, Terminal, at, moment, now_ms, say
from server import held, held_list, ingest
from server.opening import opened
from sync.errors import BadValue, NoSuch
from sync.values import INT_MAX

app = typer.Typer(no_args_is_help=False)

Number = Annotated[int, typer.Argument(metavar="ID", min=1, max=INT_MAX, help="The number in `outpost server held`.")]


@app.callback(invoke_without_command=True)
def list_(
    ctx: typer.Context,
    withdrawn: held_console.Withdrawn = False,
    refused: Annotated[bool, typer.Option("--refused", help="List what was refused instead.")] = False,
    limit: held_console.Limit = held_console.LISTED,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List work that is held: why, since when, what hangs on it, and what can be done."""
    terminal = at(ctx, home, as_json)
    ctx.obj = terminal
    if ctx.invoked_subcommand is not None:
        return
    if withdrawn and refused:
        raise BadValue("--withdrawn and --refused are two lists; ask for one of them.")
    which = "withdrawn" if withdrawn else "refused" if refused else "held"
    with opened(terminal) as database, database.reading() as store:
        found = _LISTS[which](store, limit)
        more = held_list.count(store, which) - limit
    terminal.show(found, lambda: _tell(found, which))
    held_console.tell_more(more)


_LISTS = {"held": held_list.listing, "withdrawn": held_list.withdrawn, "refused": held_list.refused}


def _tell(found: list[dict[str, Any]], which: str) -> None:
    held_console.tell_all(found, lambda each: (each["id"], each["transaction"]), tell_one, which)
    if found and which == "held":
        say("What is refused or withdrawn stays on its node. Details: outpost server held --json")


def tell_one(rows: list[dict[str, Any]]) -> None:
    """Tell one transaction: whose it is, its rows, why it waits, and what can be done."""
    first = rows[0]
    whose = f"{first['node']}, which is revoked" if first["revoked"] else first["node"]
    there = f" ({first['transaction']} there)" if first["transaction"] != first["id"] else ""
    say(f"{first['id']}  of {whose}{there}, {_since(first)}")
    held_console.tell_rows(rows, lambda row: held_console.row_words(row) if row["table"] else "no rows of its own")
    if first["verdict"] != "held":
        say()
        return
    if first["approved"]:
        say("  It is approved, and still waits.")
    if first["waits_for"]:
        say(f"  First to be decided: {', '.join(map(str, first['waits_for']))}")
    held_console.tell_dependants(first)
    if first["handed"]:
        say(f"  Handed to {first['handed']['to']}{': ' + first['handed']['note'] if first['handed']['note'] else ''}")
    held_console.tell_advice(first)


def _since(first: dict[str, Any]) -> str:
    if "at_ms" in first:  # withdrawn: it had been held before
        return f"{first['verdict']} {moment(first['at_ms'])}, had been held since {moment(first['since_ms'])}"
    return f"{first['verdict']} since {moment(first['since_ms'])}"


@app.command()
def hand(
    ctx: typer.Context,
    held_id: Number,
    to: Annotated[str, typer.Option("--to", metavar="NAME", help="A person, or a node.")],
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="What they should know.")] = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Say who looks after held work: shown here and on its node."""
    terminal = at(ctx, home, as_json)
    document = _done(terminal, held_id, lambda store: ingest.hand_over(store, held_id, to, note, now_ms()))
    terminal.show(document, lambda: say(f"{held_id} is handed to {to}. Its node hears of it at its next sync."))


@app.command()
def withdraw(
    ctx: typer.Context,
    held_id: Number,
    why: Annotated[str, typer.Option("--note", metavar="TEXT", help="Why; its node is told.")] = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Take held work back for its node: kept, listed with --withdrawn, not applied."""
    terminal = at(ctx, home, as_json)
    document = _done(terminal, held_id, lambda store: ingest.withdraw(store, held_id, why, now_ms()))
    words = f"{held_id} is withdrawn. It is kept here and on its node, which hears of it at its next sync. Still held: {document['held']}."
    terminal.show(document, lambda: say(words))


def _done(terminal: Terminal, held_id: int, act: Callable[[Store], bool]) -> dict[str, Any]:
    with opened(terminal) as database, database.writing() as store:
        if not act(store):
            raise NoSuch(f"There is no held work {held_id}. See: outpost server held")
        left = held.by_id(store, held_id)
        document = {"id": held_id, "waiting": left is not None, "held": held_list.count(store)}
        return document | ({"work": held_list.one(store, left)} if left else {})


@app.command()
def export(ctx: typer.Context, path: held_console.NewFile, home: Home = None, as_json: Json = False) -> None:
    """Write everything held, withdrawn and refused to a file, values and all."""
    terminal = at(ctx, home, as_json)
    with opened(terminal) as database, database.reading() as store:
        held_console.export(terminal, path, held_list.export(store))

"""What `outpost node held` and `outpost server held` share: options, what is said of each transaction, and the export."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer

from schema import advice
from schema.console import Terminal, count, say, shown
from schema.exporting import write_new
from sync.values import INT_MAX

ROWS_SHOWN = 10
"""Rows of one transaction, and others that wait for it, that people are shown; all are in the JSON form."""

_WRITTEN_CHARS = 120

Row = dict[str, Any]

Withdrawn = Annotated[bool, typer.Option("--withdrawn", help="List what was taken back instead.")]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, max=INT_MAX, help="How many transactions to list, the oldest first.")]
NewFile = Annotated[Path, typer.Argument(metavar="FILE", help="A new file; JSON.")]

LISTED = 1_000
"""How many transactions are listed if nobody says."""


_NOTHING = {"held": "Nothing is held.", "withdrawn": "Nothing was withdrawn.", "refused": "Nothing was refused."}


def tell_all(found: Sequence[Row], by: Callable[[Row], object], tell_one: Callable[[list[Row]], None], which: str) -> None:
    """Tell a listing (`held`, `withdrawn` or `refused` work), transaction by transaction."""
    if not found:
        say(_NOTHING[which])
    for _, rows in groupby(found, key=by):
        tell_one(list(rows))


def tell_more(more: int) -> None:
    """Say, on standard error too, where a listing was cut; programs see it there."""
    if more > 0:
        typer.echo(f"{count(more, 'more transaction')} not listed here. All: --limit N, or: held export FILE", err=True)


def tell_rows(rows: Sequence[Row], line: Callable[[Row], str]) -> None:
    """Tell the first rows of a transaction, and why it waits."""
    for each in rows[:ROWS_SHOWN]:
        say(f"    {line(each)}")
    if len(rows) > ROWS_SHOWN:
        say(f"    and {count(len(rows) - ROWS_SHOWN, 'more row')}")
    say(f"  Why: {rows[0]['why']} ({rows[0]['reason']})")


def row_words(each: Row) -> str:
    """Return which row held work is about and what it writes there, the beginning of it; all of it is in the JSON form."""
    values = ", ".join(f"{name} {shown(value)}" for name, value in each["values"].items() if value is not None and name != "id")
    written = f"{each['change']} {values[:_WRITTEN_CHARS]}{'…' if len(values) > _WRITTEN_CHARS else ''}".strip()
    return f"{each['table']} {shown(each['key'])}: {written}"


def tell_dependants(first: Row) -> None:
    """Tell what waits for a transaction, the first of it."""
    if first["dependants"]:
        more = len(first["dependants"]) - ROWS_SHOWN
        say(f"  Waiting for it: {', '.join(map(str, first['dependants'][:ROWS_SHOWN]))}{f' and {more} more' if more > 0 else ''}")


def tell_advice(first: Row) -> None:
    """Tell what can be done."""
    advice.tell(first["can"], say)
    say()


def export(terminal: Terminal, path: Path, document: Mapping[str, object]) -> None:
    """Write an export to a new file and tell how much it was. Raises CommandFailed."""
    counts = write_new(path, document)
    lists = {name: number for name, number in counts.items() if name in _NOTHING}
    terminal.show({"file": str(path), **lists}, lambda: say(f"Wrote {count(sum(lists.values()), 'row')} to {path}."))

"""The `outpost server` command: the centre — nodes and their scopes, held work, the consolidated view.

Every command works while `run` serves in another process: SQLite orders the writers, and each change of ours is one
transaction. What is done lives in the modules beside this one; the documents printed with --json are the program's
interface: README's section on commands lists them.
"""

from __future__ import annotations

import enum
from dataclasses import asdict
from typing import Annotated, Any

import typer

from schema import advice
from schema.console import (
    Home,
    Json,
    Part,
    ScopeOption,
    Terminal,
    at,
    begin,
    count,
    moment,
    now_ms,
    progress,
    say,
    shown,
    shown_import,
    table,
)
from schema.importer import options
from server import cli_backup, cli_compact, cli_schema, cli_serve, held, held_cli, held_list, ingest, journal, nodes, report
from server import conflicts as conflict_list
from server.horizon import DAYS_MAX
from server.importing import import_reference
from server.opening import opened
from server.report import By
from server.words import completeness, money, quantity
from sync.errors import NoSuch

app = typer.Typer(cls=Part, no_args_is_help=True, add_completion=False)
app.add_typer(held_cli.app, name="held")
app.add_typer(cli_schema.app, name="schema")


KeepDays = Annotated[
    int | None,
    typer.Option(
        "--keep-days",
        metavar="DAYS",
        min=0,
        max=DAYS_MAX,
        help="Keep only sales of so many days on that node; older ones stay at the centre. 0: all. Left out: as it was, all for a new one.",
    ),
]


class Subject(enum.StrEnum):
    """What a report is about."""

    sales = "sales"


@app.callback()
def root(ctx: typer.Context, home: Home = None, as_json: Json = False) -> None:
    """The central office's server: it takes what nodes send, decides by policy, and shows one view of it all."""
    begin(ctx, "server", home, as_json)


# --- the server -------------------------------------------------------------------------------------------------------


app.command()(cli_serve.init)
app.command()(cli_serve.run)


@app.command("import")
def import_(
    ctx: typer.Context,
    mapping: options.Mapping,
    paths: options.Paths,
    branch: options.Branch = None,
    dry_run: options.DryRun = False,
    bring_back: options.BringBack = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Bring reference tables in from files: branches, products, prices, employees. Nodes import the rest."""
    terminal = at(ctx, home, as_json)
    with opened(terminal) as database, progress("importing") as bar:
        found = import_reference(
            database, mapping, paths, branch=branch, dry_run=dry_run, bring_back=bring_back, clock_ms=now_ms, progress=bar
        )
    terminal.show(found, lambda: shown_import(found))


# --- nodes ------------------------------------------------------------------------------------------------------------


@app.command()
def invite(
    ctx: typer.Context,
    name: Annotated[str, typer.Option("--name", help="What the node is called.")],
    scope: ScopeOption,
    keep_days: KeepDays = None,
    again: Annotated[
        bool, typer.Option("--again", help="Also if a node of this name has joined and was never heard of since: the code takes its place.")
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Invite a node: print a code that it can join with once."""
    terminal = at(ctx, home, as_json)
    with opened(terminal) as database, database.writing() as store:
        is_again = nodes.is_invited(store, name)
        code = nodes.invite(store, name, scope, now_ms(), again=again)
        if keep_days is not None:
            nodes.keep(store, name, keep_days)
        entry = _entry(nodes.listing(store), name)

    def tell() -> None:
        say(f"Invitation for {name} ({_shown_scope(entry)}), good once, for a week:")
        say(f"  {code}")
        if is_again:
            say("The code printed for it before is good no more.")
        say("On that machine: outpost node join URL CODE")

    found = {"code": code, "name": name, "scope": entry["scope"], "keep_days": entry["keep_days"], "replaces_code": is_again}
    terminal.show(found, tell)


@app.command("nodes")
def nodes_(ctx: typer.Context, home: Home = None, as_json: Json = False) -> None:
    """Show how each node is doing, as it last told."""
    terminal = at(ctx, home, as_json)
    with opened(terminal) as database, database.reading() as store:
        found: list[dict[str, Any]] = nodes.listing(store)
        backup = journal.newest_backup(store)

    def tell() -> None:
        if not found:
            say("No nodes yet. Invite one: outpost server invite --name NAME --scope branch:ID")
            return
        columns = {"Node": "left", "Last push": "left", "Last pull": "left", "Unsynced": "right", "Conflicts": "right", "Held": "right"}
        table({**columns, "State": "left", "Scope": "left"}, [_node_line(each) for each in found])
        say("Unsynced is what each node told at its last exchange.")
        say(_backup_line(backup, max(each["uncovered"] for each in found)))
        if any(each["differing"] for each in found):
            say("Rows that are not as here: on that node, outpost node verify names them, outpost node verify --repair mends them.")

    terminal.show(found, tell)


def _node_line(each: dict[str, Any]) -> tuple[object, ...]:
    state = "revoked" if each["revoked"] else "joined" if each["joined_ms"] is not None else "invited"
    if each["differing"]:
        state = f"{state}, {count(each['differing'], 'row')} not as here"
    told = "—" if each["unsynced"] is None else f"{each['unsynced']:,}"
    when = (moment(each["last_push_ms"]), moment(each["last_pull_ms"]))
    return (each["name"], *when, told, each["conflicts"], each["held"], state, _shown_scope(each))


def _shown_scope(each: dict[str, Any]) -> str:
    window = f" (sales of {count(each['keep_days'], 'day')})" if each["keep_days"] else ""
    return f"{', '.join(each['scope'])}{window}"


def _backup_line(backup: tuple[int, int] | None, uncovered: int) -> str:
    kept = f"nodes keep up to {count(uncovered, 'version')} in case of a restore. Make one: outpost server backup FILE"
    if backup is None:
        none = "No backup was made yet, or none since this was restored"
        return f"{none}; {kept}" if uncovered else f"{none}. Make one: outpost server backup FILE"
    made = f"The newest backup covers everything up to version {backup[0]}, {moment(backup[1])}"
    return f"{made}; {kept}" if uncovered else f"{made}."


def _entry(listing: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(each for each in listing if each["name"] == name)


@app.command()
def rescope(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    scope: Annotated[
        list[str] | None, typer.Option("--scope", metavar="KEY", help="What it sees from now on: branch:ID or owner:ID; may be repeated.")
    ] = None,
    keep_days: KeepDays = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Change what a node is entitled to: from its next sync on it gets what is new and gives up what is not."""
    if not scope and keep_days is None:
        raise typer.BadParameter(
            "Say what changes: all that it sees from now on, the days it keeps, or both.", param_hint="--scope / --keep-days"
        )
    terminal = at(ctx, home, as_json)
    with opened(terminal) as database, database.writing() as store:
        before = nodes.scope_of(store, name)
        nodes.require_not_revoked(store, name)
        if scope:
            nodes.rescope(store, name, scope, now_ms())
        if keep_days is not None:
            nodes.keep(store, name, keep_days)
        entry = _entry(nodes.listing(store), name)
    gone = sorted(before - set(entry["scope"]))

    def tell() -> None:
        no_more = f", and no longer to {', '.join(gone)}: those rows leave it, and stay here" if gone else ""
        say(f"{name} is entitled to {_shown_scope(entry)}{no_more}. Its next sync brings and removes the difference.")

    terminal.show(entry, tell)


@app.command()
def revoke(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Refuse a node from now on. What it sent stays; what it holds is not wiped by this."""
    terminal = at(ctx, home, as_json)
    with opened(terminal) as database, database.writing() as store:
        nodes.revoke(store, name, now_ms())
        entry = _entry(nodes.listing(store), name)

    def tell() -> None:
        say(f"{name} is revoked: from its next request on it is refused. {_last_told(entry)}")
        say("This does not wipe that machine. Invited anew under another name, it can send what it has: outpost node rejoin CODE")

    terminal.show(entry, tell)


def _last_told(entry: dict[str, Any]) -> str:
    """Say what is known of work that a node has not sent."""
    if entry["joined_ms"] is None:
        return "It had not joined; its invitation is void."
    if entry["unsynced"] is None:
        return "It has never synced: what was recorded on it is only there."
    told = count(entry["unsynced"], "transaction") if entry["unsynced"] else "nothing"
    return f"At its last exchange it had {told} unsent; what was recorded on it since is only there."


app.command()(cli_backup.backup)
app.command()(cli_backup.restore)
app.command()(cli_compact.compact)


# --- conflicts and held work ------------------------------------------------------------------------------------------


@app.command()
def conflicts(
    ctx: typer.Context,
    only_open: Annotated[bool, typer.Option("--open", help="Only those that wait for a decision.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List concurrent changes of all nodes, with both values."""
    terminal = at(ctx, home, as_json)
    with opened(terminal) as database, database.reading() as store:
        found: list[dict[str, Any]] = conflict_list.listing(store, only_open)

    def tell() -> None:
        if not found:
            say("No conflicts.")
            return
        table(dict.fromkeys(("Id", "Row", "Column", "Was", "Came", "Stood", "State"), "left"), [_conflict_line(each) for each in found])
        say("A node that took part decides: outpost node resolve ID --take mine | --take theirs | --value TEXT")

    terminal.show(found, tell)


def _conflict_line(each: dict[str, Any]) -> tuple[str, ...]:
    cells = ("(deleted)" if each["column"] is None and each[side] is None else shown(each[side]) for side in ("base", "mine", "theirs"))
    column = "whole row" if each["column"] is None else shown(each["column"])
    state = "open" if each["open"] else "decided"
    return (each["id"][:8], f"{each['table']} {shown(each['key'])}", column, *cells, f"{state}: {each['why']}")


@app.command()
def approve(
    ctx: typer.Context,
    held_id: held_cli.Number,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Let held work in although a rule held it."""
    _decide(at(ctx, home, as_json), held_id, True)


@app.command()
def refuse(
    ctx: typer.Context,
    held_id: held_cli.Number,
    why: Annotated[str, typer.Option("--note", metavar="TEXT", help="Why; its node is told.")] = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Put held work aside; it stays on its node, marked as refused, and is listed by held --refused."""
    _decide(at(ctx, home, as_json), held_id, False, why)


def _decide(terminal: Terminal, held_id: int, is_approved: bool, why: str = "") -> None:
    with opened(terminal) as database, database.writing() as store:
        before = held.by_id(store, held_id)
        if before is None or not ingest.decide(store, held_id, is_approved, now_ms(), why):
            raise NoSuch(f"There is no held work {held_id}. See: outpost server held")
        still = held.by_id(store, held_id)
        left = len(held.waiting(store))
        work: dict[str, Any] | None = held_list.one(store, still) if still else None
        became = held_list.became(store, before)
    document = {"id": held_id, "approved": is_approved, "waiting": work is not None, "held": left, "work": work, **became}

    def tell() -> None:
        if work is None:
            say(f"{held_id} {_outcome(is_approved, became)} The node hears of it at its next sync. Still held: {left}.")
            return
        first = f" First to be decided: {', '.join(map(str, work['waits_for']))}." if work["waits_for"] else ""
        say(f"{held_id} is approved, and still waits. {work['why']} ({work['reason']}){first}")
        advice.tell(work["can"], say)

    terminal.show(document, tell)


def _outcome(is_approved: bool, became: dict[str, str]) -> str:
    """Say what a decision made of work that waits no longer: what was approved may have been refused by a rule all the same."""
    if not is_approved:
        return "is refused."
    if became["verdict"] in ("refused", "withdrawn"):
        kept = f"It is kept: outpost server held --{became['verdict']}"
        return f"was approved, but could not go in and is {became['verdict']}: {became['reason']}. {kept}."
    return "is approved and in."


# --- the consolidated view --------------------------------------------------------------------------------------------


@app.command("report")
def report_(
    ctx: typer.Context,
    subject: Annotated[Subject, typer.Argument(metavar="sales", help="What to report on.")],
    by: Annotated[By, typer.Option("--by", help="What to group by.")] = By.branch,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show the consolidated view: sales of all branches, and how complete it is."""
    terminal = at(ctx, home, as_json)
    with opened(terminal) as database, database.reading() as store:
        found = report.sales(store, by)
        fresh = report.freshness(nodes.listing(store))

    def tell() -> None:
        say(f"Sales by {by.value}, {completeness(fresh)}.")
        columns = {by.value.capitalize(): "left", "Name": "left", "Receipts": "right", "Returns": "right", "Lines": "right"}
        if by.value in ("month", "region"):
            del columns["Name"]
        table({**columns, "Quantity": "right", "Total": "right", "": "left"}, [_sales_line(each, "Name" in columns) for each in found])

    terminal.show({"sales": [each.document() for each in found], "complete": asdict(fresh)}, tell)


def _sales_line(each: report.Totals, is_named: bool) -> tuple[object, ...]:
    head = (shown(each.key), *((shown(each.name),) if is_named else ()))
    sums = (f"{each.receipts:,}", f"{each.returns:,}", f"{each.lines:,}", quantity(each.qty_milli))
    return (*head, *sums, money(each.total_minor, each.currency), each.currency)

"""The `outpost node` command: a replica that works without a network and syncs when there is one.

    join ─► (any program writes to node.db) ─► sync ─► conflicts ─► resolve ─► sync

Each command opens the node's database, does one thing and prints it; what it does lives in the modules beside this one.
The documents printed with --json are the program's interface: README's section on commands lists them.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Annotated, Any

import typer

from node import aside, cli_backup, first, held_cli, identity, outbox, proof, verdicts, withheld
from node import conflicts as conflict_list
from node.cli_healed import tell_healed
from node.cli_verify import tell_proof, tell_verify
from node.cycle import Cycle
from node.database import Database
from node.joining import DATABASE, LOCK
from node.joining import join as join_server
from node.kept import kept, tell_kept
from node.opening import opened
from node.report import Report as SyncReport
from node.transport import HttpExchange
from node.verify import verify as verify_node
from node.verify import verify_and_repair
from node.writer import ImportTarget
from schema.console import (
    CommandFailed,
    Home,
    Json,
    Part,
    Terminal,
    at,
    begin,
    count,
    in_words,
    moment,
    now_ms,
    progress,
    progress_of,
    say,
    shown,
    shown_import,
    table,
)
from schema.declare import Kind
from schema.importer import options
from schema.importer.mapping import load_mapping
from schema.importer.run import run_import
from schema.lock import exclusive
from schema.registry import load
from sync.errors import Offline, WorldError

WAIT_SECONDS, WAIT_SECONDS_MAX = 30.0, 86_400
BUSY = "Another exchange of this node is under way. It sends everything recorded so far; try again when it is done."
STEPS = {
    "prepare": ("the centre is putting all rows into a file", "rows", 1),
    "file": ("receiving the file", "MB", 1 << 20),
    "push": ("sending", "transactions", 1),
    "pull": ("receiving", "rows", 1),
}
"""How the steps of joining and of an exchange are shown: title, unit, and how many make one of it."""

app = typer.Typer(cls=Part, no_args_is_help=True, add_completion=False)
app.add_typer(held_cli.app, name="held")


class Side(enum.StrEnum):
    """Whose value a decision takes."""

    mine = "mine"
    theirs = "theirs"


@app.callback()
def root(ctx: typer.Context, home: Home = None, as_json: Json = False) -> None:
    """A replica that works without a network and syncs when there is one."""
    begin(ctx, "node", home, as_json)


@contextmanager
def connected(terminal: Terminal, database: Database, wait_seconds: float = WAIT_SECONDS) -> Iterator[HttpExchange]:
    """Have the node's exchange with its server to ourselves while the block runs. Raises HomeBusy."""
    state = database.state()
    with (
        exclusive(terminal.home / LOCK, BUSY, wait_seconds=wait_seconds),
        HttpExchange(state.url, state.node, identity.load(terminal.home)) as exchange,
    ):
        yield exchange


def seal(database: Database) -> None:
    """Seal what any program has written, so that it is counted."""
    if database.has_changes():
        with database.writing() as store:
            outbox.seal(store, now_ms())


# --- joining and syncing ----------------------------------------------------------------------------------------------


@app.command()
def join(
    ctx: typer.Context,
    url: Annotated[str, typer.Argument(metavar="URL", help="Address of the server, e.g. https://sync.example.com")],
    code: Annotated[str, typer.Argument(metavar="CODE", help="The one-time code that `outpost server invite` printed.")],
    plain: Annotated[bool, typer.Option("--plain", help="An ordinary SQLite file, not encrypted; the only form so far.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make this folder a node of the server at URL. Safe to repeat when the answer was lost."""
    terminal = at(ctx, home, as_json)
    with (
        exclusive(terminal.home / LOCK, BUSY, wait_seconds=WAIT_SECONDS),
        progress_of("joining", STEPS) as on_progress,
        closing(join_server(terminal.home, url, code, load(), now_ms, on_progress)) as database,
    ):
        state, rows = database.state(), first.rows_here(database)
    document = {"node": state.name, "id": state.node, "url": state.url, "database": str(terminal.home / DATABASE), "encrypted": False}
    document |= {"rows": rows}

    def tell() -> None:
        say(f"Joined {state.url} as {state.name}.")
        if rows:
            say(f"{count(rows, 'row')} came as a file, those of the centre's version {state.cursor.number}; later ones come with a sync.")
        else:
            say("What the centre has comes with the first sync.")
        say(f"Its database is {terminal.home / DATABASE}, an ordinary SQLite file: any program may write to it, with or without a network.")
        say("Next: outpost node sync")

    terminal.show(document, tell)


def _seconds(given: float) -> float:
    """Return a number of seconds; "nan" is neither less nor more than any bound."""
    if not 0 <= given <= WAIT_SECONDS_MAX:
        raise typer.BadParameter(f"give 0 to {WAIT_SECONDS_MAX:,} seconds")
    return given


@app.command()
def sync(
    ctx: typer.Context,
    wait: Annotated[
        float, typer.Option("--wait", callback=_seconds, help="Seconds to wait for another exchange of this node to end.")
    ] = WAIT_SECONDS,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Send what was recorded here, receive what changed elsewhere."""
    terminal = at(ctx, home, as_json)
    with opened(terminal) as database:
        report = exchanged(terminal, database, wait)
        seal(database)
        state, (unsynced, open_conflicts, held) = database.state(), verdicts.counts(database.store)
        proven, refused, here = proof.standing(database.store), aside.counted(database.store), withheld.counted(database.store)
    document = {**report.document(state.cursor.number, unsynced), "conflicts": open_conflicts, "held": held, "as_of_ms": state.as_of_ms}
    document |= {"refused": refused, "withheld": here, **proven.document()}
    terminal.show(document, lambda: tell_sync(document, tell_proof(proven, now_ms(), unsynced, held)))


def exchanged(terminal: Terminal, database: Database, wait_seconds: float) -> SyncReport:
    """Run one exchange. When the server cannot be reached, say what waits here."""
    try:
        with connected(terminal, database, wait_seconds) as exchange, progress_of("syncing", STEPS) as tell:
            return Cycle(database, exchange, progress=tell, waits=True).sync()
    except WorldError as error:
        seal(database)
        unsynced, here = verdicts.counts(database.store)[0], withheld.counted(database.store)
        waits = (
            f"{count(unsynced, 'transaction')} {'waits' if unsynced == 1 else 'wait'} to be sent"
            if unsynced
            else "nothing waits to be sent"
        )
        waits += f"; {only_here(here)}" if here else ""
        if isinstance(error, Offline):
            message = f"{error.message} Everything recorded here is safe; {waits}. Go on working and sync again when there is a connection."
        else:
            message = f"{in_words(error)} Here, {waits}."
        raise CommandFailed(error.code, message, retry=True) from error


def tell_sync(document: dict[str, Any], compared: str) -> None:
    """Tell people what an exchange moved and what needs them."""
    said = ", ".join(f"{number} {name}" for name, number in document["verdicts"].items() if number)
    say(f"Sent {count(document['pushed'], 'transaction')}{f' ({said})' if said else ''}.")
    gone = f"; {count(document['removed'], 'row')} deleted elsewhere or no longer for this node" if document["removed"] else ""
    gone += (
        f"; {count(document['rolled'], 'row')} older than what this node keeps left it, and stay at the centre"
        if document["rolled"]
        else ""
    )
    say(f"Received {count(document['pulled'], 'row')}{gone}.")
    tell_late(**document["late"])
    tell_healed(document)
    if document["unsynced"]:
        say(f"{count(document['unsynced'], 'transaction')} recorded meanwhile: they go with the next sync.")
    if document["new_conflicts"]:
        say(f"{count(document['new_conflicts'], 'conflict')} new on record: both values, and why one stands. See: outpost node conflicts")
    needs_people(document["conflicts"], document["held"], document["refused"] - document["late"]["refused"], document["withheld"])
    waits = document["unsynced"] or document["conflicts"] or document["held"] or document["refused"]
    say(compared if waits or not document["identical"] else f"All synced, {moment(document['as_of_ms'])}.")


def tell_late(refused: int, withdrawn: int, let_in: int) -> None:
    """Say what became, at the central office, of work that had waited there."""
    if let_in:
        say(f"{count(let_in, 'transaction')} that had been held {'is' if let_in == 1 else 'are'} in at the central office now.")
    if refused:
        it_is, it_has = ("it is", "It has") if refused == 1 else ("they are", "They have")
        say(f"The central office refused {count(refused, 'transaction')}; {it_is} kept on this node: outpost node held")
        say(f"{it_has} left this node's tables; there you see why, and can correct and send again.")
    if withdrawn:
        was, it_is = ("was", "it is") if withdrawn == 1 else ("were", "they are")
        say(f"{count(withdrawn, 'transaction')} {was} taken back and left this node's tables; {it_is} kept: outpost node held --withdrawn")


def only_here(number: int) -> str:
    """Return in words that work is on this disk and nowhere else."""
    waits, it_is = ("waits", "it is") if number == 1 else ("wait", "they are")
    return f"{count(number, 'transaction')} {waits} on this computer only, for {it_is} too long or too many rows to be sent"


def needs_people(open_conflicts: int, held: int, refused: int, here: int) -> None:
    """Say what waits for a person; `here`: how much of what is held has never left this computer."""
    if open_conflicts:
        say(f"{count(open_conflicts, 'conflict')} to decide; both values are kept. See: outpost node conflicts")
    if here:
        say(f"{only_here(here)}. The central office does not have {'it' if here == 1 else 'them'}. See: outpost node held")
    if held > here:
        say(f"{count(held - here, 'transaction')} held by the central office, kept here and visible. See: outpost node held")
    if refused:
        words = (
            "is not in the tables: refused, or put aside by a repair. It is kept"
            if refused == 1
            else ("are not in the tables: refused, or put aside by a repair. They are kept")
        )
        say(f"{count(refused, 'transaction')} {words}. See: outpost node held")


@app.command()
def status(ctx: typer.Context, home: Home = None, as_json: Json = False) -> None:
    """Show how this node is doing. Needs no network."""
    terminal = at(ctx, home, as_json)
    with opened(terminal) as database:
        seal(database)
        state, (unsynced, open_conflicts, held) = database.state(), verdicts.counts(database.store)
        proven, kept_here = proof.standing(database.store), kept(database.store)
        refused, here = aside.counted(database.store), withheld.counted(database.store)
    document = {
        "node": state.name,
        "id": state.node,
        "url": state.url,
        "cursor": state.cursor.number,
        "unsynced": unsynced,
        "conflicts": open_conflicts,
        "held": held,
        "refused": refused,
        "withheld": here,
        "as_of_ms": state.as_of_ms,
        "window_from_ms": state.edge or None,
        **proven.document(),
        **kept_here.document(),
    }

    def tell() -> None:
        begun = f"rows of version {state.cursor.number} as they came with joining" if state.cursor.number else "no data received yet"
        as_of = begun if state.as_of_ms is None else f"data as of {moment(state.as_of_ms)}"
        say(f"{state.name}: {as_of}; unsynced {unsynced}, conflicts {open_conflicts}, held {held}, refused {refused}.")
        say(tell_proof(proven, now_ms(), unsynced, held))
        if state.edge:
            say(f"Of sales it keeps those from {moment(state.edge)} on; older ones are at the centre.")
        if kept_here.bytes:
            say(tell_kept(kept_here))
        if unsynced:
            say(f"{count(unsynced, 'transaction')} recorded here and safe. Send: outpost node sync")
        needs_people(open_conflicts, held, refused, here)

    terminal.show(document, tell)


@app.command()
def verify(
    ctx: typer.Context,
    repair: Annotated[bool, typer.Option("--repair", help="Mend the rows that differ; nothing typed here is thrown away.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Prove that this node holds exactly the centre's rows in its scope, besides its own unsent work; name the rows that differ."""
    terminal = at(ctx, home, as_json)
    with opened(terminal) as database, connected(terminal, database) as exchange:
        found = verify_and_repair(database, exchange) if repair else verify_node(database, exchange)

    terminal.show(found, lambda: tell_verify(found))
    if not found["equal"]:
        raise typer.Exit(1)


# --- conflicts and held work ------------------------------------------------------------------------------------------


@app.command()
def conflicts(
    ctx: typer.Context,
    only_open: Annotated[bool, typer.Option("--open", help="Only those that wait for a decision.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List concurrent changes that this node took part in, with both values."""
    terminal = at(ctx, home, as_json)
    with opened(terminal) as database:
        found: list[dict[str, Any]] = [each for each in conflict_list.listing(database.store) if each["open"] or not only_open]

    def tell() -> None:
        if not found:
            say("No conflicts.")
            return
        columns = dict.fromkeys(("Id", "Row", "Column", "Was", "Mine", "Theirs", "State"), "left")
        table(columns, [_conflict_line(each) for each in found])
        say("Decide: outpost node resolve ID --take mine | --take theirs | --value TEXT. A decision can be changed by a later one.")

    terminal.show(found, tell)


def _conflict_line(each: dict[str, Any]) -> tuple[str, ...]:
    state = "open" if each["open"] else "your decision waits to be sent" if each["deciding"] else f"{each['winner']} stands"
    if each["why"].startswith("decided") and ": " in each["why"]:  # for neither side's value
        state = "on record"
    cells = ("(deleted)" if each["column"] is None and each[side] is None else shown(each[side]) for side in ("base", "mine", "theirs"))
    column = "whole row" if each["column"] is None else shown(each["column"])
    return (each["id"][:8], f"{each['table']} {shown(each['key'])}", column, *cells, f"{state}: {each['why']}")


@app.command()
def resolve(
    ctx: typer.Context,
    conflict: Annotated[str, typer.Argument(metavar="ID", help="The conflict's id, or enough of its beginning.")],
    take: Annotated[Side | None, typer.Option("--take", help="Take one side's value.", show_default=False)] = None,
    value: Annotated[
        list[str] | None, typer.Option("--value", help="Take another value; once for each column of a group.", show_default=False)
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Decide a conflict. The decision is an ordinary change: it syncs, and can be changed again."""
    terminal = at(ctx, home, as_json)
    if (take is None) == (not value):
        raise typer.BadParameter("Say either --take mine, --take theirs or --value TEXT.", param_hint="--take / --value")
    with opened(terminal) as database:
        decision = conflict_list.Take(None if take is None else take.value, tuple(value or ()))
        done: dict[str, Any] = conflict_list.resolve(database, conflict, decision)

    def tell() -> None:
        written = done["value"]
        what = "the row is deleted" if written is None else "; ".join(f"{name} is {shown(each)}" for name, each in written.items())
        say(f"Decided for {done['table']} {shown(done['key'])}: {what}. Both values stay on record. Send: outpost node sync")

    terminal.show(done, tell)


app.command()(cli_backup.backup)
app.command()(cli_backup.restore)
app.command()(cli_backup.rejoin)


# --- import -----------------------------------------------------------------------------------------------------------


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
    """Bring files into this node: all but reference tables, which the centre imports from the same files."""
    terminal = at(ctx, home, as_json)
    with opened(terminal) as database, progress("importing") as bar:
        known = database.schema.by_name
        report = run_import(
            ImportTarget(database),
            load_mapping(mapping),
            paths,
            writes=lambda name: name in known and known[name].kind is not Kind.REFERENCE,
            branch=branch,
            dry_run=dry_run,
            bring_back=bring_back,
            progress=bar,
        ).as_json()
    terminal.show(report, lambda: shown_import(report))

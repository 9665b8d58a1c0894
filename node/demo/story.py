"""`outpost demo`: a server and three nodes in a temporary folder live through a working day in under a minute.

Offline they sell and edit the same contact; then they sync, a conflict is decided, a reply is cut after the commit and
nothing doubles; the centre prints its consolidated view, and at the end everyone proves to hold the same rows. The
server is the real program in its own process; the nodes are the node's real code over loopback HTTP.
"""

from __future__ import annotations

import secrets
import tempfile
import time
import webbrowser
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table as Grid

from node import conflicts as conflict_list
from node import identity, verdicts
from node.conflicts import Take
from node.cycle import Cycle
from node.database import Database, create
from node.demo import data
from node.demo.server import ServerProcess
from node.report import Report as SyncReport
from node.transport import HttpExchange, join
from node.verify import verify
from node.writer import transaction
from schema.registry import load
from sync.errors import Offline
from sync.limits import PROTOCOL_VERSIONS
from sync.messages import JoinRequest, PushReply, PushRequest

app = typer.Typer(add_completion=False, help="Watch a server and three nodes work offline, sync and agree.")

RECEIPTS = {"Kyiv": 60, "London": 60, "Olena's laptop": 12}
SCOPES = {"Kyiv": ["branch:KYV"], "London": ["branch:LON"], "Olena's laptop": ["branch:KYV", "owner:olena"]}
BRANCH = {"Kyiv": "KYV", "London": "LON", "Olena's laptop": "KYV"}


class CutExchange(HttpExchange):
    """A link that breaks once: the centre gets the push and commits it, its reply never arrives."""

    cut_next = False

    def push(self, request: PushRequest) -> PushReply:
        """Send; lose the reply if the link is to break."""
        reply = super().push(request)
        if self.cut_next:
            self.cut_next = False
            raise Offline("The connection broke before the reply came.")
        return reply


class DemoNode:
    """One node of the demo."""

    def __init__(self, home: Path, name: str, url: str, code: str, stack: ExitStack) -> None:
        key, incarnation = identity.create(home), secrets.token_bytes(16)
        reply = join(url, JoinRequest(PROTOCOL_VERSIONS, code, identity.public_bytes(key), incarnation))
        self.name = name
        self.database: Database = create(
            home / "node.db",
            load(),
            lambda: time.time_ns() // 1_000_000,
            node=reply.node,
            name=reply.name,
            url=url,
            epoch=reply.epoch,
            incarnation=incarnation,
            box_key=reply.box_key,
        )
        stack.callback(self.database.close)
        self.link = stack.enter_context(CutExchange(url, reply.node, key))

    def sync(self) -> SyncReport:
        """Run one exchange."""
        return Cycle(self.database, self.link).sync()

    def contact(self, column: str) -> Any:
        """Return a column of the contact the story is about."""
        row = self.database.connection.execute(f"SELECT {column} FROM contact WHERE id = ?", (data.CONTACT,)).fetchone()
        return row[0] if row else None

    def edit(self, **values: object) -> None:
        """Change that contact."""
        with transaction(self.database) as tx:
            tx.update("contact", (data.CONTACT,), values)

    def unsynced(self) -> int:
        """Return the transactions that wait."""
        Cycle(self.database, self.link).seal()
        return verdicts.counts(self.database.store)[0]


@app.callback(invoke_without_command=True)
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the server running afterwards, with its page open to look at.")] = False,
) -> None:
    """Show a working day: offline sales, a conflict, a cut reply, one consolidated view, everyone equal."""
    console = Console(highlight=False, soft_wrap=True)
    started = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="outpost-demo-", ignore_cleanup_errors=True)))
        story = Story(console, folder, stack)
        equal = story.run()
        console.print(
            f"  ({time.monotonic() - started:.0f} s, all of it in {folder}; it is removed now)" if not keep else f"  (in {folder})"
        )
        if keep:
            story.keep()
    raise typer.Exit(0 if equal else 1)


class Story:
    """The demo, step by step."""

    def __init__(self, console: Console, folder: Path, stack: ExitStack) -> None:
        self.console, self.folder, self.stack, self.step_number = console, folder, stack, 0

    def run(self) -> bool:
        """Tell it all; return whether everyone holds the same rows at the end."""
        self.open()
        self.offline()
        self.first_sync()
        self.conflict()
        self.cut_reply()
        self.consolidated()
        return self.proof()

    def title(self, text: str) -> None:
        """Begin a step."""
        self.step_number += 1
        self.console.print(f"\n[bold]{self.step_number}. {text}[/bold]")

    def say(self, text: str) -> None:
        """Tell one thing."""
        self.console.print(f"   {text}")

    def open(self) -> None:
        """Start the server, write its reference data, join three nodes."""
        self.title("A central server, two branches and a laptop")
        self.server = ServerProcess(self.folder / "server")
        self.stack.callback(self.server.stop)
        data.reference(self.folder / "server" / "server.db")
        self.nodes: dict[str, DemoNode] = {}
        for name, scope in SCOPES.items():
            code = self.server.invite(name, scope)
            self.nodes[name] = DemoNode(self.folder / data.slug(name), name, self.server.url, code, self.stack)
            self.nodes[name].sync()
            self.say(f"{name} joined with a one-time code; it holds {', '.join(scope)}")
        self.kyiv, self.london, self.laptop = self.nodes.values()
        with transaction(self.kyiv.database) as tx:
            data.contacts(tx, "KYV", 40)
        with transaction(self.london.database) as tx:
            data.contacts(tx, "LON", 40)
        for node in self.nodes.values():
            node.sync()
        self.kyiv.sync()

    def offline(self) -> None:
        """Sell and edit with no network."""
        self.title("Offline: everybody works, nobody waits for a network")
        for name, node in self.nodes.items():
            data.sell(node.database, BRANCH[name], data.till(name), RECEIPTS[name])
            self.say(f"{name}: {RECEIPTS[name]} receipts with lines, payments and stock, durable before they print")
        self.kyiv.edit(phone="+380 44 111 22 33", city="Київ", street="Хрещатик 1", note="Kyiv: wants delivery on Fridays")
        self.laptop.edit(phone="+380 50 777 88 99", email="olha@example.ua", note="Olena: call before noon")
        self.say(f"Kyiv and Olena both edit {data.CONTACT_NAME}: phone, address, e-mail, note")
        for name, node in self.nodes.items():
            self.say(f"[dim]● OFFLINE · {name} · unsynced {node.unsynced()}[/dim]")

    def first_sync(self) -> None:
        """Sync everyone."""
        self.title("Back online: each node syncs once")
        for name, node in self.nodes.items():
            report = node.sync()
            words = ", ".join(f"{count} {verdict}" for verdict, count in report.verdicts.items() if count)
            self.say(f"{name}: sent {report.pushed} transactions ({words}), received {report.pulled} rows")
        self.kyiv.sync()

    def conflict(self) -> None:
        """Show the merge and the conflict, and decide it."""
        self.title("The same contact, edited in two places")
        self.say(f"merged by themselves: street {self.laptop.contact('street')!r} (Kyiv) and e-mail {self.kyiv.contact('email')!r} (Olena)")
        grid = Grid("field", "was", "Kyiv", "Olena", "rule", "stands")
        for entry in conflict_list.listing(self.laptop.database.store):
            stands = entry["mine"] if entry["winner"] == "mine" else entry["theirs"]
            values = (entry["base"], entry["theirs"], entry["mine"], entry["rule"])
            grid.add_row(str(entry["column"]), *(str(value or "–") for value in values), f"{stands}{'  (open)' if entry['open'] else ''}")
        self.console.print(grid)
        note = next(entry for entry in conflict_list.listing(self.laptop.database.store) if entry["rule"] == "ask")
        conflict_list.resolve(self.laptop.database, str(note["id"]), Take("mine"))
        self.laptop.sync()
        self.kyiv.sync()
        why = next(entry["why"] for entry in conflict_list.listing(self.kyiv.database.store) if entry["rule"] == "ask")
        self.say(f"Olena decides for her note; in Kyiv it now says {self.kyiv.contact('note')!r} ({why})")

    def cut_reply(self) -> None:
        """Cut a reply after the commit."""
        self.title("A reply is lost after the centre has committed")
        data.sell(self.london.database, "LON", "T1", 5)
        before = self.server.receipts()
        self.london.link.cut_next = True
        try:
            self.london.sync()
        except Offline as error:
            self.say(f"London sends 5 receipts; {error.message.lower()} To London they are unsynced: {self.london.unsynced()}")
        report = self.london.sync()
        after = self.server.receipts()
        self.say(f"London syncs again, sends {report.pushed} anew: at the centre {before} + 5 = {after} receipts, none doubled")

    def consolidated(self) -> None:
        """Print the centre's view."""
        self.title("The centre's consolidated view")
        for node in self.nodes.values():
            node.sync()
        grid = Grid("branch", "currency", "receipts", "returns", "lines", "total")
        for row in self.server.sales():
            total = f"{row['total_minor'] / 100:,.2f}"
            grid.add_row(row["name"], row["currency"], str(row["receipts"]), str(row["returns"]), str(row["lines"]), total)
        self.console.print(grid)

    def proof(self) -> bool:
        """Compare digests of everything, everywhere."""
        self.title("Proof")
        equal, rows = True, 0
        for node in self.nodes.values():
            result: Any = verify(node.database, node.link)
            equal = equal and bool(result["equal"])
            rows += sum(entry["rows"] for entry in result["tables"].values())
        if equal:
            same = "[bold green]Every node and the server hold the same rows[/bold green]"
            self.console.print(f"   {same} ({rows:,} compared, nothing lost, nothing doubled).")
        else:
            self.console.print("   [bold red]A node and the server differ.[/bold red] This must not happen; please report it.")
        return equal

    def keep(self) -> None:
        """Leave everything running until the person has seen enough."""
        self.console.print(f"\nThe server is running; its page: {self.server.url}\nPress Ctrl-C to end and remove everything.")
        webbrowser.open(self.server.url)
        try:
            self.server.wait()
        except KeyboardInterrupt:
            self.console.print("Ended.")

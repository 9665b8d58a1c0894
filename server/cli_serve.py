"""The commands `outpost server init` and `outpost server run`."""

from __future__ import annotations

import logging
import secrets
import socket
import sys
from contextlib import closing
from functools import partial
from typing import Annotated

import typer

from schema.console import CommandFailed, Home, Json, Terminal, as_text, at, count, say
from schema.registry import load
from server import home as home_of
from server import journal, nodes
from server.database import named
from server.opening import alone, opened


def init(
    ctx: typer.Context,
    database: Annotated[
        str | None,
        typer.Option("--database", metavar="URL", help="A file, or postgresql://user@host/name.", show_default="server.db in its home"),
    ] = None,
    existing: Annotated[
        bool, typer.Option("--existing", help="Also if there is a server in that database: this machine then serves it too.")
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Create the server's database."""
    terminal = at(ctx, home, as_json)
    place = home_of.initialise(terminal.home, database, load(), existing=existing)

    def tell() -> None:
        say(f"{'The centre of this home' if existing else 'A new centre'}: {named(place)}{_standing(terminal) if existing else ''}")
        say("Next: outpost server run, and for each node: outpost server invite --name NAME --scope branch:ID")

    terminal.show({"database": named(place)}, tell)


def _standing(terminal: Terminal) -> str:
    """Return how far a centre is: whoever meant another database sees that this one is empty."""
    with opened(terminal) as database, database.reading() as store:
        joined = len(nodes.listing(store))
        return f" ({count(joined, 'node')}, version {journal.head(store).number})"


def run(
    ctx: typer.Context,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8470,
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=64, help="Processes that serve; as many as there are processors is a good number.")
    ] = 1,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Serve nodes, and the console's page on this machine, until stopped (Ctrl-C or SIGTERM)."""
    from server import running, serve  # the web stack is loaded by this command only
    from server import workers as crew

    if workers > 1 and sys.platform == "win32":
        raise CommandFailed("server.workers", "On Windows a server is one process. Leave --workers out, or serve from Linux.")
    terminal = at(ctx, home, as_json)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    ready = (lambda url: print(as_text({"url": url}), flush=True)) if terminal.as_json else serve.say_ready
    with alone(terminal), closing(_listener(host, port)) as listener:
        running.forget_nonces(terminal.home)
        work = partial(running.serve_home, home=terminal.home, life=secrets.token_bytes(16))
        if workers == 1:
            work(listener, ready)
        else:
            crew.run(work, listener, workers, ready=ready)


def _listener(host: str, port: int) -> socket.socket:
    from server import serve

    try:
        return serve.listen(host, port)
    except OSError as error:
        message = f"Cannot listen on {host} port {port}: {error.strerror or error}. Give another with --host and --port."
        raise CommandFailed("net.listen", message) from error

"""Warmed: a process that has imported the program and built its command line, so that a fork of it begins with its work.

    warm()                       once, in the process that will fork; opens no database, starts no thread
    outpost(["node", "sync"])    in the fork: what schema.cli.main does, on the command line that was built before

Nothing of what a command does is done beforehand: only modules are imported, declarations read and options parsed into
objects. What a command imports late is named here, for else each fork imports (and may compile) it again; a test sees to it
that nothing is missing.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from functools import cache
from importlib import import_module, metadata
from typing import Any

from schema import cli
from schema.registry import load

PARTS = ("node", "server")
LATE = (
    "anyio._backends._asyncio",
    "anyio.streams.memory",
    "anyio.streams.tls",
    "certifi",
    "cryptography.hazmat.backends.openssl.backend",
    "encodings.idna",
    "httpcore._sync.http11",
    "importlib.readers",
    "importlib.resources.readers",
    "node.upgrade",
    "schema.migrations.m0001_marks",
    "schema.migrations.m0002_versions",
    "schema.migrations.m0003_horizon",
    "server.app",
    "server.console.pages",
    "server.nonces",
    "server.serve",
    "server.upgrade",
    "typer._adapters",
    "typer._click.decorators",
    "uvicorn.lifespan.off",
    "uvicorn.loops.asyncio",
)
"""What commands import when they come to it."""


@cache
def _program() -> cli.Outpost:
    program = cli.program(part for part in metadata.entry_points(group=cli.GROUP) if part.name in PARTS)
    built = {name: program.get_command(None, name) for name in PARTS}
    for command in (program, *built.values()):
        _prepare(command)
    program.get_command = lambda ctx, name: built.get(name)  # type: ignore[method-assign]
    return program


def _prepare(command: Any) -> None:
    """Let Typer make what converts each option's text, which it does when an option is first used."""
    for param in command.params:
        param.get_runtime_param()
    for part in getattr(command, "commands", {}).values():
        _prepare(part)


def warm() -> None:
    """Import everything and build the command line; what is there then is not looked at by any fork's collector."""
    for name in LATE:
        import_module(name)
    load().at(0), load().centre.at(0)
    _program()
    gc.collect()
    gc.freeze()


def outpost(arguments: Sequence[str]) -> int:
    """Run a command of the program and return its exit status."""
    cli.collect_rarely()
    return cli.run(_program(), arguments)

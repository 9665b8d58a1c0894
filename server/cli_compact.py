"""The command `outpost server compact`."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated, Any

import typer

from schema.console import Home, Json, at, count, now_ms, progress_of, say
from server import horizon, journal
from server.compacting import Compacted, Compactor
from server.horizon import Policy, Waiting
from server.opening import opened
from sync.errors import BadValue

_STEPS = {
    "images": ("forgetting deleted rows", "rows", 1),
    "lines": ("tidying the index of changes", "lines", 1),
    "bodies": ("shortening the journal", "entries", 1),
}


def compact(
    ctx: typer.Context,
    keep: Annotated[
        int | None, typer.Option("--keep-days", help="From now on keep what is over for so many days (90 unless set).", min=0)
    ] = None,
    lease: Annotated[
        int | None, typer.Option("--lease-days", help="From now on wait for a silent node for so many days (180 unless set).", min=1)
    ] = None,
    unbacked: Annotated[
        str | None,
        typer.Option(
            "--unbacked-days",
            help="From now on let nodes and centre forget what is so many days old though no backup holds it; never: only what one does.",
        ),
    ] = None,
    only_look: Annotated[bool, typer.Option("--look", help="Only say how far it could go, and what it waits for.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Let go of what no node needs any more: deleted rows, old changes, what the journal holds twice. A server that runs does it hourly."""
    terminal = at(ctx, home, as_json)
    now = now_ms()
    with opened(terminal) as database:
        if not only_look or (keep, lease, unbacked) != (None, None, None):
            with database.writing() as store:
                horizon.set_policy(store, _changed(horizon.policy(store), keep, lease, unbacked))
        if only_look:
            with database.reading() as store:
                done = Compacted(journal.horizon(store), 0, 0, 0, horizon.wait(store, now))
        else:
            with progress_of("compacting", _STEPS) as bar:
                done = Compactor(database, lambda step, number: bar(step, number, 0)).run(now)
        with database.reading() as store:
            policy, head = horizon.policy(store), journal.head(store).number
    document: dict[str, Any] = {"horizon": done.version, "head": head, "images": done.images, "lines": done.lines, "bodies": done.bodies}
    document |= {"waits_for": asdict(done.waiting), "policy": asdict(policy)}

    def tell() -> None:
        if not only_look:
            gone = f"{count(done.images, 'deleted row')}, {count(done.lines, 'line')} of the index, {count(done.bodies, 'body', 'bodies')}"
            say(f"Let go of {gone} of the journal. The room is used again; the file does not shrink.")
        say(_reach(done.waiting, done.version, head, policy))

    terminal.show(document, tell)


def _changed(policy: Policy, keep: int | None, lease: int | None, unbacked: str | None) -> Policy:
    if keep is not None:
        policy = replace(policy, keep=keep)
    if lease is not None:
        policy = replace(policy, lease=lease)
    if unbacked is None:
        return policy
    if unbacked != "never" and not unbacked.isdecimal():
        raise BadValue(f"--unbacked-days is a number of days, or never; not '{unbacked}'.")
    return replace(policy, unbacked=None if unbacked == "never" else int(unbacked))


def _reach(waiting: Waiting, version: int, head: int, policy: Policy) -> str:
    """Say how far the centre has forgotten, and what it waits for."""
    far = f"Of {count(head, 'version')} what is over is forgotten up to version {version}"
    far += f", and could be up to {waiting.version}" if waiting.version > version else ""
    why = {
        "age": f"what is younger than {count(policy.keep, 'day')} is kept",
        "backup": "what no backup holds is kept: outpost server backup FILE",
        "node": f"{waiting.node} has not caught up, or has work under way; it is waited for until it was silent for"
        f" {count(policy.lease, 'day')}",
    }
    return f"{far}; {why[waiting.reason]}."

"""The command `outpost server compact`."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated

import typer

from schema.console import Home, Json, at, count, now_ms, progress_of, say
from server import horizon, journal
from server.compacting import Compacted, Compactor
from server.database import Database
from server.horizon import Policy, Waiting
from server.opening import opened
from sync.errors import BadValue

_STEPS = {
    "images": ("forgetting deleted rows", "rows", 1),
    "lines": ("tidying the index of changes", "lines", 1),
    "bodies": ("shortening the journal", "entries", 1),
}


Forget = Annotated[
    int | None,
    typer.Option(
        "--forget-days",
        metavar="DAYS",
        min=0,
        max=horizon.DAYS_MAX,
        help="From now on forget what has been over for so many days (90 unless set).",
    ),
]
Lease = Annotated[
    int | None,
    typer.Option(
        "--lease-days",
        metavar="DAYS",
        min=1,
        max=horizon.DAYS_MAX,
        help="From now on wait for a silent node for so many days (180 unless set).",
    ),
]
Unbacked = Annotated[
    str | None,
    typer.Option(
        "--unbacked-days",
        metavar="DAYS|never",
        help="From now on forget, here and on nodes, what is so many days old though no backup holds it: a restore may lose it. never"
        " (unless set): only what a backup holds.",
    ),
]


def compact(
    ctx: typer.Context,
    forget: Forget = None,
    lease: Lease = None,
    unbacked: Unbacked = None,
    only_look: Annotated[
        bool, typer.Option("--look", help="Only say how far it could go, with these days if any are given, and what it waits for.")
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Let go of what no node needs any more: deleted rows, old changes, what the journal holds twice. A server that runs does it hourly."""
    terminal = at(ctx, home, as_json)
    now = now_ms()
    with opened(terminal) as database:
        with database.reading() as store:
            had, head = horizon.policy(store), journal.head(store).number
            policy = horizon.checked(_changed(had, forget, lease, unbacked))
            looked = Compacted(journal.horizon(store), 0, 0, 0, horizon.wait(store, now, policy))
        if not only_look and policy != had:
            with database.writing() as store:
                horizon.set_policy(store, policy)
        done = looked if only_look else _compacted(database, now)
    gone = None if only_look else {"images": done.images, "lines": done.lines, "bodies": done.bodies}
    document = {"horizon": done.version, "head": head, "gone": gone, "waits_for": asdict(done.waiting), "policy": asdict(policy)}

    def tell() -> None:
        if not only_look:
            say(_gone(done))
        say(_reach(done.waiting, done.version, head))
        say(f"{'With these days' if only_look and policy != had else 'As it is set'}: {_policy(policy)}")
        if only_look and policy != had:
            say("Nothing was changed: leave out --look.")

    terminal.show(document, tell)


def _compacted(database: Database, now: int) -> Compacted:
    with progress_of("compacting", _STEPS) as bar:
        return Compactor(database, lambda step, number: bar(step, number, 0)).run(now)


def _changed(policy: Policy, forget: int | None, lease: int | None, unbacked: str | None) -> Policy:
    policy = policy if forget is None else replace(policy, forget=forget)
    policy = policy if lease is None else replace(policy, lease=lease)
    if unbacked is None:
        return policy
    if unbacked != "never" and not (unbacked.isascii() and unbacked.isdecimal()):
        raise BadValue(f"--unbacked-days is a number of days, or never; not '{unbacked}'.")
    return replace(policy, unbacked=None if unbacked == "never" else int(unbacked))


def _gone(done: Compacted) -> str:
    if not (done.images or done.lines or done.bodies):
        return "Nothing was to be let go of."
    gone = f"{count(done.images, 'deleted row')}, {count(done.lines, 'line')} of the index, {count(done.bodies, 'body', 'bodies')}"
    return f"Let go of {gone} of the journal. The room is used again; the file does not shrink."


def _reach(waiting: Waiting, version: int, head: int) -> str:
    """Say how far the centre has forgotten, and what it waits for."""
    far = f"What was over at version {version} of {head} is forgotten" if version else "Nothing is forgotten yet"
    far += f", and what was at version {waiting.version} may be" if waiting.version > version else ""
    why = {
        "age": "The rest is too young.",
        "backup": "The rest is in no backup: outpost server backup FILE",
        "node": f"The rest waits for {waiting.node}: it told of that version last (a sync tells of the one before), or has work under way.",
        "nothing": "There is no more.",
    }
    return f"{far}. {why[waiting.reason]}"


def _policy(policy: Policy) -> str:
    """Say what the centre keeps, and for how long."""
    days = f"what is over is kept for {count(policy.forget, 'day')}, and for a node until it was silent for {count(policy.lease, 'day')}"
    if policy.unbacked is None:
        return f"{days}; what no backup holds is kept."
    older = f"what is {count(policy.unbacked, 'day')} old is forgotten though no backup holds it, and a restore may lose it"
    return f"{days}; {older} (--unbacked-days never ends that)."

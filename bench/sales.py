"""Receipts: inserted plainly and captured, pushed, pulled by another node. One round of each."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import local, machine, node, server
from bench.figures import ON_POSTGRES, Measured
from bench.postgres import database
from bench.sizes import Sizes
from bench.workload import BRANCH, Row

Insert = Callable[[], float]


def sales_round(home: Path, rows: Sequence[Row], number: int, sizes: Sizes, measured: Measured) -> None:
    """Insert plainly and captured, push what was captured, pull it into a fresh node. `rows`: `sizes.sales`, and `sizes.small` more."""
    home.mkdir(parents=True)
    many, few = rows[: sizes.sales], rows[sizes.sales :]
    with server.running(home / "server") as centre:
        codes = centre.invite_all({name: [f"branch:{BRANCH}"] for name in ("till", "shop", "other")})
        _insert_small(home, node.join_only(home / "shop", centre.url, codes[1]), many, number, sizes, measured)
        with node.Node(home / "till", centre.url, codes[0]) as till:
            _insert(home, till, many, number, measured)
            measured.settings = measured.settings or till.run(node.settings)
            _push(till, centre, len(many), measured)
            _storage(home, till, centre, measured)
            _push_small(till, few, measured)
        with node.Node(home / "other", centre.url, codes[2]) as other:
            _pull(other, centre, len(rows), measured)
    for way in ("push", "pull"):
        measured.add_ratio(f"{way}, part of a plain insert", f"{way}, rows/s", "plain insert, rows/s")
    shutil.rmtree(home)


def postgres_round(home: Path, postgres: str, rows: Sequence[Row], measured: Measured) -> None:
    """Push sales to a centre on PostgreSQL, and pull them into a fresh node. What the database itself costs is not in a processor's
    figure.
    """
    home.mkdir(parents=True)
    with database(postgres) as url, server.running(home / "server", url) as centre:
        codes = centre.invite_all({name: [f"branch:{BRANCH}"] for name in ("till", "other")})
        with node.Node(home / "till", centre.url, codes[0]) as till:
            local.insert_sales(till.path, rows)
            _push(till, centre, len(rows), measured, ON_POSTGRES)
        with node.Node(home / "other", centre.url, codes[1]) as other:
            _pull(other, centre, len(rows), measured, ON_POSTGRES)
    for way in ("push", "pull"):
        measured.add_ratio(f"{ON_POSTGRES}{way}, times as fast as with a file", f"{ON_POSTGRES}{way}, rows/s", f"{way}, rows/s")
    shutil.rmtree(home)


def _insert(home: Path, till: node.Node, rows: Sequence[Row], number: int, measured: Measured) -> None:
    """Insert in one commit each."""
    captured, plain = _in_turn(number, lambda: local.insert_sales(till.path, rows), lambda: local.plain(home / "plain.db", rows))
    measured.add("plain insert, rows/s", len(rows) / plain)
    measured.add("captured insert, rows/s", len(rows) / captured)
    measured.add("captured insert, times plain", captured / plain)


def _insert_small(home: Path, shop: Path, rows: Sequence[Row], number: int, sizes: Sizes, measured: Measured) -> None:
    """Insert in commits of few rows."""
    captured, plain = _in_turn(
        number,
        lambda: local.insert_sales(shop, rows, sizes.small),
        lambda: local.plain(home / "plain-small.db", rows, sizes.small),
    )
    name = f"in commits of {sizes.small:,}"
    measured.add(f"plain insert {name}, rows/s", len(rows) / plain)
    measured.add(f"captured insert {name}, rows/s", len(rows) / captured)
    measured.add(f"captured insert {name}, times plain", captured / plain)


def _in_turn(number: int, captured: Insert, plain: Insert) -> tuple[float, float]:
    """Return the seconds of both; in odd rounds the captured one goes first."""
    if number % 2:
        first = captured()
        return first, plain()
    first = plain()
    return captured(), first


def _push(till: node.Node, centre: server.Server, count: int, measured: Measured, where: str = "") -> None:
    cpu = machine.cpu_seconds(centre.pid)
    moved = till.run(node.push)
    assert moved.pushed == count, f"{moved.pushed} of {count} pushed"
    measured.add(where + "push, rows/s", count / moved.seconds)
    measured.add(where + "push, µs a row: node's processor", moved.cpu / count * 1e6)
    measured.add(where + "push, µs a row: server's processor", (machine.cpu_seconds(centre.pid) - cpu) / count * 1e6)
    measured.add(where + "push, bytes a row", moved.sent / count)
    till.run(node.pull)
    measured.add(where + "memory, MB: node after push", till.run(machine.peak_mb))
    measured.add(where + "memory, MB: server after push", machine.peak_mb(centre.pid))
    idle = till.run(node.idle)
    measured.add(where + "nothing to do, ms", idle.ms)
    measured.add(where + "nothing to do, bytes", idle.bytes)
    measured.add(where + "nothing to do, bytes without HTTP's headers", idle.body_bytes)


def _storage(home: Path, till: node.Node, centre: server.Server, measured: Measured) -> None:
    """Compare the files once everything is acknowledged, the plain one's with the same rows and no more; and again once a backup of the
    centre covers it: until then a node keeps, compressed, what a restored centre might lack.
    """
    found, plain = till.run(node.stored), (home / "plain.db").stat().st_size
    measured.add("node's file, times plain", found.file / plain)
    measured.add("node's file without its free pages, times plain", found.used / plain)
    centre.back_up()
    till.run(node.pull)
    measured.add("node's file once a backup covers it, times plain", till.run(node.stored).used / plain)


def _push_small(till: node.Node, rows: Sequence[Row], measured: Measured) -> None:
    local.insert_sales(till.path, rows)
    moved = till.run(node.push)
    assert moved.pushed == len(rows), f"{moved.pushed} of {len(rows)} pushed"
    measured.add(f"push of {len(rows):,}, ms", moved.seconds * 1000)
    measured.add(f"push of {len(rows):,}, bytes a row", moved.sent / len(rows))


def _pull(other: node.Node, centre: server.Server, count: int, measured: Measured, where: str = "") -> None:
    cpu = machine.cpu_seconds(centre.pid)
    moved = other.run(node.pull)
    assert moved.pulled == count == other.run(node.count, "sale"), f"{moved.pulled} of {count} pulled"
    measured.add(where + "pull, rows/s", count / moved.seconds)
    measured.add(where + "pull, µs a row: node's processor", moved.cpu / count * 1e6)
    measured.add(where + "pull, µs a row: server's processor", (machine.cpu_seconds(centre.pid) - cpu) / count * 1e6)
    measured.add(where + "pull, bytes a row", moved.received / count)
    measured.add(where + "memory, MB: node after pull", moved.peak_mb)
    measured.add(where + "memory, MB: server after pull", machine.peak_mb(centre.pid))

"""What people and programs at the centre do while requests come in: they write, move and delete rows, give and take scopes, and
decide on held work. Each value they write has a mark of its own (tests/fuzz/sight.py).
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from server import ingest
from tests.fuzz.centre import Centre

BRANCHES = ("LON", "EDI", "SEC", "VLT")
OWNERS = ("e0", "e1", "e2", "e8", "e9", None)
"""Nobody is ever given e8 or the branch VLT; e9 and SEC now and then."""

GIVEN = ("branch:LON", "branch:EDI", "branch:SEC", "owner:e0", "owner:e2", "owner:e9")
LOOKS = 60
"""Held work that is decided on in one go."""


def fill(centre: Centre) -> None:
    """Write what everybody begins with: of every table with a scope some rows in every branch."""
    centre.office.execute("BEGIN IMMEDIATE")
    for branch in BRANCHES:
        centre.office.execute(
            "INSERT INTO branch (id, name) VALUES (?, ?)",
            (
                branch,
                branch,
            ),
        )
        for number in range(4):
            client = _contact(centre, branch, f"{branch}-c{number}", f"e{number % 3}" if number and branch in ("LON", "EDI") else None)
            _below(centre, client, branch, f"{branch}-{number}")
    centre.office.execute("COMMIT")
    centre.sight.look()


def act(centre: Centre, number: int) -> Counter[str]:
    """Do one thing that somebody at the centre may do, and count what; `number` makes names new."""
    done = _act(centre, number)
    centre.world.service.absorb(centre.world.clock.read())
    centre.sight.look()
    return done


def _act(centre: Centre, number: int) -> Counter[str]:
    match centre.random.randrange(8):
        case 0:
            branch = centre.random.choice(BRANCHES)
            centre.office.execute("BEGIN IMMEDIATE")
            client = _contact(centre, branch, f"{branch}-n{number}", centre.random.choice(OWNERS))
            _below(centre, client, branch, f"{branch}-n{number}")
            centre.office.execute("COMMIT")
        case 1 | 2:
            _write_again(centre)
        case 3:
            _move(centre)
        case 4:
            table = centre.random.choice(("contact", "deal", "task", "sale"))
            for key in _some(centre, table):
                centre.office.execute(f'DELETE FROM "{table}" WHERE id = ?', (key,))
        case 5:
            who = centre.random.choice(centre.attackers)
            home = "branch:LON" if who is centre.attackers[0] else "branch:EDI"
            more = centre.random.sample(GIVEN, centre.random.choice((0, 0, 1, 2)))
            centre.rescope(who, home, *more)
        case _:
            return decide(centre)
    return Counter({"times the centre wrote, moved, deleted, gave or took": 1})


def decide(centre: Centre) -> Counter[str]:
    """Let a third of the held work pass that something but its form stands against, refuse the rest, and count both."""
    done = Counter[str]()
    for number, (held, code) in enumerate(centre.all("SELECT id, code FROM _held ORDER BY id LIMIT ?", LOOKS)):
        approve = number % 3 == 0 and code in ("right", "key", "reference", "immutable", "depends")
        with centre.world.database.writing() as store:
            if ingest.decide(store, held, approve, centre.world.clock.read()):
                done["held work let pass" if approve else "held work refused"] += 1
    centre.sight.look()
    return done


# --- rows ------------------------------------------------------------------------------------------------------------------


def _contact(centre: Centre, branch: str, key: str, owner: str | None) -> str:
    mark = centre.sight.mark("contact", key)
    _insert(centre, "contact", id=key, kind="person", name=mark, branch_id=branch, owner_id=owner, note=mark, city=mark)
    return key


def _below(centre: Centre, client: str, branch: str, name: str) -> None:
    """Write a row of every other kind, as far as it can hold a mark."""
    mark, when = centre.sight.mark, 1_760_000_000_000
    _insert(centre, "contact_tag", contact_id=client, tag=mark("contact_tag", client))
    _insert(centre, "activity", id=f"{name}-a", contact_id=client, topic=mark("activity", f"{name}-a"))
    _insert(centre, "deal", id=f"{name}-d", contact_id=client, owner_id=centre.random.choice(OWNERS), title=mark("deal", f"{name}-d"))
    event = {"id": f"{name}-e", "deal_id": f"{name}-d", "entered_ms": when}
    _insert(centre, "stage_event", **event, stage_id=mark("stage_event", f"{name}-e"))
    _insert(centre, "task", id=f"{name}-t", contact_id=client, owner_id=centre.random.choice(OWNERS), title=mark("task", f"{name}-t"))
    sale = {"id": f"{name}-s", "kind": "sale", "sold_ms": when, "currency": "GBP", "total_minor": 1000, "branch_id": branch}
    _insert(centre, "sale", **sale, number=mark("sale", f"{name}-s"))
    line = {"id": f"{name}-l", "sale_id": f"{name}-s", "qty_milli": 1000, "unit_price_e4": 10_000, "amount_minor": 1000}
    _insert(centre, "sale_line", **line, name=mark("sale_line", f"{name}-l"))
    _insert(centre, "payment", id=f"{name}-p", sale_id=f"{name}-s", amount_minor=1000, method=mark("payment", f"{name}-p"))


TEXTS = {"contact": ("name", "note", "city"), "deal": ("title",), "activity": ("topic",), "task": ("title",), "sale": ("number",)}


def _write_again(centre: Centre) -> None:
    table = centre.random.choice(list(TEXTS))
    for key in _some(centre, table):
        column = centre.random.choice(TEXTS[table])
        centre.office.execute(
            f'UPDATE "{table}" SET "{column}" = ? WHERE id = ?',
            (
                centre.sight.mark(table, key),
                key,
            ),
        )


def _move(centre: Centre) -> None:
    """Put a row into another branch, into another's hands, or under another parent."""
    random = centre.random
    match random.randrange(4):
        case 0:
            change: tuple[str, str, Any] = ("contact", "branch_id", random.choice(BRANCHES))
        case 1:
            change = (random.choice(("contact", "deal", "task")), "owner_id", random.choice(OWNERS))
        case 2:
            change = (random.choice(("deal", "activity", "task")), "contact_id", (_some(centre, "contact") or [None])[0])
        case _:
            change = ("sale", "branch_id", random.choice(BRANCHES))
    table, column, value = change
    for key in _some(centre, table):
        centre.office.execute(
            f'UPDATE "{table}" SET "{column}" = ? WHERE id = ?',
            (
                value,
                key,
            ),
        )


def _some(centre: Centre, table: str) -> list[str]:
    """Return the id of a marked row, if there is one left."""
    ids = [key[0] for name, key in centre.sight.places if name == table]
    living = [key for key in centre.random.sample(ids, min(5, len(ids))) if centre.all(f'SELECT 1 FROM "{table}" WHERE id = ?', key)]
    return living[:1]


def _insert(centre: Centre, table: str, **values: Any) -> None:
    names, marks = ", ".join(values), ", ".join("?" * len(values))
    centre.office.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(values.values()))

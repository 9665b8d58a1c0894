"""Receipt numbers, `<branch>-<till>-<seq>`: given in the sale's own transaction, never twice, without a gap on one till."""

from __future__ import annotations

from schema.capture import Store
from schema.dialects.base import Connection
from sync.errors import BadValue

_TABLE, _COLUMN = "sale", "number"

_NOBODY = ("", "")
"""The till that stands for a doubt: no till is called so."""


def next_number(connection: Connection, branch: str, till: str) -> str:
    """Return the next number of a till. Raises BadValue."""
    if not branch or not till or "-" in till:
        raise BadValue("A receipt number needs a branch and a till; a till's name has no '-'.")
    row = connection.execute(
        "INSERT INTO _series (branch, till, last) VALUES (?, ?, 1) ON CONFLICT (branch, till) DO UPDATE SET last = last + 1 RETURNING last",
        (branch, till),
    ).fetchone()
    return f"{branch}-{till}-{row[0]:06d}"


def doubt(store: Store) -> None:
    """Remember that sales may come back with numbers that are to be given here: a new history began. A pull may be cut before it."""
    store.connection.execute("INSERT OR IGNORE INTO _series (branch, till, last) VALUES (?, ?, 0)", _NOBODY)


def catch_up(store: Store) -> None:
    """Let no number be given again that a sale has: the database was put back to an older copy, and the sales came back.

    Reads every sale; does nothing where there is no doubt.
    """
    if not store.connection.execute("DELETE FROM _series WHERE (branch, till) = (?, ?) RETURNING 1", _NOBODY).fetchall():
        return
    if _TABLE not in store.schema.by_name:
        return
    highest: dict[tuple[str, str], int] = {}
    for (number,) in store.connection.execute(f"SELECT {_COLUMN} FROM {_TABLE} WHERE typeof({_COLUMN}) = 'text'"):
        branch, _, rest = str(number).rpartition("-")
        branch, _, till = branch.rpartition("-")
        if branch and till and rest.isascii() and rest.isdecimal() and len(rest) < 16:
            highest[branch, till] = max(highest.get((branch, till), 0), int(rest))
    store.connection.executemany(
        "UPDATE _series SET last = MAX(last, ?) WHERE branch = ? AND till = ?", [(last, *place) for place, last in highest.items()]
    )
    # a till that was first used after the copy was made; others' tills of the branch do no harm here
    store.connection.executemany(
        "INSERT OR IGNORE INTO _series (branch, till, last) VALUES (?, ?, ?)", [(*place, last) for place, last in highest.items()]
    )

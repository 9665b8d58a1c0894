"""Receipt numbers, `<branch>-<till>-<seq>`: given in the sale's own transaction, never twice. A sale that fails gives its number back.

Before a number is given, the sales that came to this disk since the last one are looked at, whoever wrote them: pulled, imported,
typed by another program. So a new computer goes on above what the till it replaces had sent, once it has synced.

A number is on paper the moment it is given. What this disk knows cannot tell all of them, once it was put back to an older copy or is
not the only one of its kind: sales since the copy may lie unsent on a disk that is gone, be held or refused at the centre, where no
pull brings them from, or be made right now by the other copy. None of that ends with a pull. So such a database closes the series it
had, for good, and goes on in another: `<branch>-<till>.<XXXX>-<seq>`, with letters that nobody else drew. It does so
  - in the copy that `outpost node restore` puts back, before that takes its place;
  - when the centre shows that its history of this node is another one (PROTOCOL.md P-7.5): another copy went on under its name;
  - when it joins again under another name (`outpost node rejoin`), for the other copy may go on with the plain series.
A restore of the centre is no reason: what this disk gave, it knows.
"""

from __future__ import annotations

import secrets

from schema.capture import Store
from schema.dialects.base import ROW_ID
from sync.errors import BadValue

_TABLE, _COLUMN = "sale", "number"

_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
"""32 of them, none that is read as another."""

_OWN_LETTERS = 4

_LOOK_ROWS = 5_000
"""Sales that are looked at at a time."""

LOOK_ROWS_MAX = 100_000
"""Sales that one exchange looks at. What a first sync brought beyond that is looked at by the next ones, or before a number is given."""

_DIGITS_MAX = 15


def next_number(store: Store, branch: str, till: str) -> str:
    """Return the next number of a till. Raises BadValue."""
    if not branch or not till or "-" in till:
        raise BadValue("A receipt number needs a branch and a till; a till's name has no '-'.")
    catch_up(store)
    letters = own(store)
    series = f"{till}.{letters}" if letters else till
    row = store.connection.execute(
        "INSERT INTO _series (branch, till, last) VALUES (?, ?, 1) ON CONFLICT (branch, till) DO UPDATE SET last = last + 1 RETURNING last",
        (branch, series),
    ).fetchone()
    return f"{branch}-{series}-{row[0]:06d}"


def own(store: Store) -> str | None:
    """Return the letters that this database's numbers carry, None while they are plain."""
    row = store.connection.execute("SELECT own FROM _numbering WHERE id = 1").fetchone()
    return None if row is None else row[0]


def close(store: Store) -> str:
    """Close every series this database has given numbers of, and return the letters that its numbers carry from here on."""
    letters = "".join(_LETTERS[byte % len(_LETTERS)] for byte in secrets.token_bytes(_OWN_LETTERS))
    store.connection.execute(
        "INSERT INTO _numbering (id, seen, own) VALUES (1, 0, ?) ON CONFLICT (id) DO UPDATE SET own = excluded.own", (letters,)
    )
    return letters


def before_removal(store: Store, table: str) -> None:
    """Look at all sales here before some of them leave: their numbers stay given."""
    if table == _TABLE:
        catch_up(store)


def catch_up(store: Store, rows_max: int | None = None) -> None:
    """Let no number be given that a sale on this disk has: looks at those with row numbers above the last one looked at, at `rows_max`
    of them or a few more.

    From the beginning where the last one is gone: another program may have begun the numbering of rows anew.
    """
    table = store.schema.by_name.get(_TABLE)
    if table is None or _COLUMN not in table.position:
        return
    row = store.connection.execute("SELECT seen FROM _numbering WHERE id = 1").fetchone()
    highest = store.connection.execute(f"SELECT COALESCE(MAX({ROW_ID}), 0) FROM {_TABLE}").fetchone()[0]
    seen, looked = row[0] if row is not None and row[0] <= highest else 0, 0
    sql = f"SELECT {ROW_ID}, CAST({_COLUMN} AS BLOB) FROM {_TABLE} WHERE {ROW_ID} > ? ORDER BY {ROW_ID} LIMIT ?"
    while rows := store.connection.execute(sql, (seen, _LOOK_ROWS)).fetchall():
        _go_above(store, [number for _, number in rows if number is not None])
        seen, looked = rows[-1][0], looked + len(rows)
        if rows_max is not None and looked >= rows_max:
            break
    if row is None or seen != row[0]:
        store.connection.execute(
            "INSERT INTO _numbering (id, seen) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET seen = excluded.seen", (seen,)
        )


def _go_above(store: Store, numbers: list[bytes]) -> None:
    """Let every series go on above these numbers; others' tills of the branch do no harm here."""
    highest: dict[tuple[str, str], int] = {}
    for number in numbers:
        branch, _, rest = number.decode(errors="replace").rpartition("-")  # what is no valid text is no number of ours
        branch, _, till = branch.rpartition("-")
        if branch and till and rest.isascii() and rest.isdecimal() and len(rest) <= _DIGITS_MAX:
            highest[branch, till] = max(highest.get((branch, till), 0), int(rest))
    store.connection.executemany(
        "INSERT INTO _series (branch, till, last) VALUES (?, ?, ?) ON CONFLICT (branch, till) DO UPDATE SET last = excluded.last"
        " WHERE excluded.last > last",
        [(*place, last) for place, last in highest.items()],
    )

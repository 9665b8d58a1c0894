"""What exists on this disk and nowhere else: what would be out of sight if another database took this one's place.

Used by node/backup.py. Each kind is explained where it comes from.
"""

from __future__ import annotations

from dataclasses import dataclass

from node import unreadable, verdicts, withheld
from node.aside import BY_REPAIR
from schema.capture import Store
from schema.console import count


@dataclass(frozen=True, slots=True)
class OnlyHere:
    """How much of each kind there is: transactions of this node, and rows."""

    unsent: int = 0  # transactions that the centre has not acknowledged
    withheld: int = 0  # transactions too long or too large for any message (node/withheld.py)
    unreadable: int = 0  # transactions that the centre could not read (node/unreadable.py)
    aside: int = 0  # rows as they were before a repair (node/repair.py)
    lost: int = 0  # rows of others that a restored centre lost and does not have again yet (node/healing.py)

    @property
    def transactions(self) -> int:
        """Return how many transactions the centre does not have."""
        return self.unsent + self.withheld + self.unreadable

    def __bool__(self) -> bool:
        return bool(self.transactions or self.aside or self.lost)

    def words(self) -> str:
        """Return it in words: each kind that there is."""
        kinds = (
            (self.unsent, "transaction", "never sent"),
            (self.withheld, "transaction", "too long or too large to be sent"),
            (self.unreadable, "transaction", "that the centre could not read"),
            (self.aside, "row", "that a repair put aside"),
            (self.lost, "row", "of others that the restored centre does not have again yet"),
        )
        return ", ".join(f"{count(number, noun)} {what}" for number, noun, what in kinds if number)


def look(store: Store) -> OnlyHere:
    """Return what is on this disk only, of what is sealed."""
    return OnlyHere(
        unsent=verdicts.counts(store)[0],
        withheld=withheld.counted(store),
        unreadable=_number(store, "SELECT COUNT(*) FROM _txn WHERE version = ? AND verdict = 'held'", unreadable.ASIDE),
        aside=_number(store, "SELECT COUNT(*) FROM _quarantine WHERE code = ?", BY_REPAIR),
        lost=_number(store, "SELECT COALESCE(SUM(rows), 0) FROM _kept_page WHERE lost IN (1, 2) AND offered IS NULL"),
    )


def _number(store: Store, sql: str, *values: object) -> int:
    return int(store.connection.execute(sql, values).fetchone()[0])

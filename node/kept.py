"""How much this node keeps in case the centre is restored from a backup (node/retained.py), and what lets it forget that."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from node.database import read_state
from schema.capture import Store
from schema.console import count

ADVISE_BYTES = 100_000_000
"""From here on a node whose centre never announced a backup says what to do about it."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Own settled work and pages pulled that no backup of the centre covers, as this node heard."""

    segments: int
    pages: int
    bytes: int
    covered: int  # version of the newest backup heard of; 0: none was announced yet

    def document(self) -> dict[str, object]:
        """Return it for programs."""
        return {"kept": asdict(self)}


def kept(store: Store) -> Kept:
    """Return how much is kept. Lengths of boxes are read without the boxes."""
    sql = "SELECT COUNT(*), COALESCE(SUM(LENGTH(box)), 0) FROM {}"
    (segments, of_segments), (pages, of_pages) = (
        store.connection.execute(sql.format(name)).fetchone() for name in ("_retained", "_kept_page")
    )
    return Kept(segments, pages, of_segments + of_pages, read_state(store.connection).covered)


def tell_kept(found: Kept) -> str:
    """Return it in words, with what to do if it grows without an end."""
    if found.covered:
        heard = f"the newest backup it told of covers everything up to version {found.covered}"
    else:
        heard = "it has told of no backup yet"
    said = (
        f"Kept in case the centre is restored: {count(found.segments, 'segment')} sent and {count(found.pages, 'page')} received,"
        f" {found.bytes / 1_000_000:,.1f} MB; {heard}."
    )
    if not found.covered and found.bytes > ADVISE_BYTES:
        said += " This grows until the central office makes a backup: outpost server backup FILE"
    return said

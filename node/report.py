"""What one exchange with the centre moved, and what it noticed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from node import healing, settling
from sync.messages import VerdictName


@dataclass(slots=True)
class Report:
    """What one exchange moved."""

    pushed: int = 0
    pulled: int = 0
    removed: int = 0
    rolled: int = 0  # rows that are older than what this node keeps: they left it, and are at the centre
    conflicts: int = 0
    late: dict[str, int] = field(default_factory=lambda: settling.Settled().document())  # what became of work that had waited
    verdicts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(get_args(VerdictName), 0))
    new_history: bool = False
    new_series: str | None = None  # letters that receipt numbers carry from here on (node/series.py)
    came_back: int = 0  # transactions of this node, pushed by a life of it that is not in this database
    lost: healing.Lost | None = None
    too_large: int = 0  # rows that a restored centre may lack, and that no request can carry
    unread: int = 0  # pages that a restored centre may lack, with something in them that it does not know yet
    taken_anew: bool = False  # it had been away for longer than the centre keeps what was deleted, and took everything anew
    differing: int | None = None  # rows that differ from the centre's; None: not known

    def document(self, cursor: int, unsynced: int) -> dict[str, object]:
        """Return the report as `outpost node sync --json` prints it."""
        counts = {"pushed": self.pushed, "pulled": self.pulled, "removed": self.removed, "rolled": self.rolled, "verdicts": self.verdicts}
        healed: dict[str, object] = {"new_history": self.new_history, "came_back": self.came_back, "centre_restored": None}
        healed["new_series"] = self.new_series
        if self.lost is not None:
            healed["centre_restored"] = {"last_synced_ms": self.lost.as_of_ms, "offered_again": self.lost.transactions}
        healed |= {"taken_anew": self.taken_anew, "too_large_to_offer": self.too_large, "pages_not_read_yet": self.unread}
        counts |= {"late": self.late}
        return {**counts, "new_conflicts": self.conflicts, "cursor": cursor, "unsynced": unsynced, **healed, "differing": self.differing}

"""Report: what an import did, or in a dry run would do; the JSON that the command prints."""

from dataclasses import dataclass, field
from typing import Literal

REJECTED_LISTED_MAX = 10_000  # the count goes on
KINDS = ("new", "same", "differs", "deleted")

Kind = Literal["new", "same", "differs", "deleted"]
"""What became of a row: written; there, and the same; there, and left as it is; brought by an earlier import, and gone since."""


@dataclass(slots=True)
class ImportReport:
    """Rows by table, rejections by line, and counts worth knowing."""

    mapping: str
    branch: str | None
    dry_run: bool
    files: dict[str, int] = field(default_factory=dict)  # name → good lines
    rows: dict[str, dict[str, int]] = field(default_factory=dict)  # table → how many, by Kind
    rejected: list[dict[str, str | int]] = field(default_factory=list)  # file, line, reason
    rejected_count: int = 0
    left: list[dict[str, str | int]] = field(default_factory=list)  # what differs and what is gone: file, line, reason
    left_count: int = 0
    notes: dict[str, int] = field(default_factory=dict)

    def reject(self, file: str, line: int, reason: str) -> None:
        """Note that a line, or the document it belongs to, was left out."""
        self.rejected_count += 1
        if len(self.rejected) < REJECTED_LISTED_MAX:
            self.rejected.append({"file": file, "line": line, "reason": reason})

    def leave(self, file: str, line: int, reason: str) -> None:
        """Note that a row was left as it is, or left out because it is gone since."""
        self.left_count += 1
        if not self.is_full:
            self.left.append({"file": file, "line": line, "reason": reason})

    @property
    def is_full(self) -> bool:
        """Tell whether nothing more is listed of what was left, or rejected: a reason need not be made any more."""
        return max(len(self.left), len(self.rejected)) >= REJECTED_LISTED_MAX

    def count(self, table: str, kind: Kind, rows: int = 1) -> None:
        """Add to what became of a table's rows."""
        self.rows.setdefault(table, dict.fromkeys(KINDS, 0))[kind] += rows

    def as_json(self) -> dict[str, object]:
        """Return what the command prints with --json."""
        return {
            "mapping": self.mapping,
            "branch": self.branch,
            "dry_run": self.dry_run,
            "files": self.files,
            "rows": self.rows,
            "rejected": self.rejected,
            "rejected_count": self.rejected_count,
            "left": self.left,
            "left_count": self.left_count,
            "notes": self.notes,
        }

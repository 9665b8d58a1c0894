"""Report: what an import did, or in a dry run would do; the JSON that the command prints."""

from dataclasses import dataclass, field

REJECTED_LISTED_MAX = 10_000  # the count goes on


@dataclass(slots=True)
class ImportReport:
    """Rows by table, rejections by line, and counts worth knowing."""

    mapping: str
    branch: str | None
    dry_run: bool
    files: dict[str, int] = field(default_factory=dict)  # name → good lines
    rows: dict[str, dict[str, int]] = field(default_factory=dict)  # table → new, same
    rejected: list[dict[str, str | int]] = field(default_factory=list)  # file, line, reason
    rejected_count: int = 0
    notes: dict[str, int] = field(default_factory=dict)

    def reject(self, file: str, line: int, reason: str) -> None:
        """Note that a line, or the document it belongs to, was left out."""
        self.rejected_count += 1
        if len(self.rejected) < REJECTED_LISTED_MAX:
            self.rejected.append({"file": file, "line": line, "reason": reason})

    def count(self, table: str, kind: str, rows: int = 1) -> None:
        """Add to a table's `new` or `same`."""
        self.rows.setdefault(table, {"new": 0, "same": 0})[kind] += rows

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
            "notes": self.notes,
        }

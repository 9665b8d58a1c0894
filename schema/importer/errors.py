"""What can stop an import as a whole. A bad line or sale never does: it is rejected in the report and the rest goes in.

ImportFailed
├── MappingInvalid      the mapping's author: the TOML says something that cannot be done
├── SourceUnreadable    the user or the environment: a file is missing, damaged or of another kind
├── BranchUnknown       the user: --branch names none of the branches there are
└── ImportCut           the environment: a newer program took the database over while rows went in

None of them is worth a retry without a change. What was committed before stays; the same import again brings the rest.
"""

from collections.abc import Mapping


class ImportFailed(Exception):
    """The import could not be done. The text says what is wrong where, and what to do."""

    code = "import.failed"
    retry = False


class MappingInvalid(ImportFailed):
    """A mapping cannot be used. The text is `file: key: reason`."""

    code = "import.mapping"


class SourceUnreadable(ImportFailed):
    """A file cannot be read at all: absent, damaged, empty, of another format, or without the columns it needs."""

    code = "import.source"


class BranchUnknown(ImportFailed):
    """The branch asked for is none of the source's. The text lists those there are."""

    code = "import.branch"


class ImportCut(ImportFailed):
    """A newer program has brought the database up to date while rows went in: what was committed is in, the rest is not."""

    code = "import.cut"

    def __init__(self, written: Mapping[str, int]) -> None:
        rows = ", ".join(f"{count:,} of {table}" for table, count in written.items() if count) or "none"
        super().__init__(
            f"A newer Outpost has brought this database up to date while the import was running. Rows that are in: {rows}; the rest is"
            " not. Run the same import again, with the newer program: it brings the rest."
        )


class ValueRejected(ValueError):
    """One cell or value cannot be used. The line it stands in is rejected with this reason, the import goes on."""

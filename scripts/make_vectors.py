"""Write the test vectors of PROTOCOL.md §12 into tests/vectors/, and what test_wire_is_frozen.py compares.

    python scripts/make_vectors.py             the vectors (but signature.json, whose signature bases are written by hand)
    python scripts/make_vectors.py --freeze    the hashes of messages and tables as well, after a deliberate change

Inputs and what must come of them stand side by side in tests/vectors/making; tests/contract/test_vectors.py runs the files.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from schema.registry import load  # noqa: E402
from sync.limits import PROTOCOL_VERSIONS  # noqa: E402
from tests.vectors.making import VECTORS  # noqa: E402
from tests.vectors.making.frozen import message_digest, shape_digest, table_digest  # noqa: E402

FOLDER = ROOT / "tests" / "vectors"
FROZEN = ROOT / "tests" / "contract" / "frozen.json"


def freeze() -> None:
    """Write the hashes of the current versions, those of earlier schema versions kept."""
    known = json.loads(FROZEN.read_text(encoding="utf-8")) if FROZEN.exists() else {"messages": {}, "tables": {}}
    known["messages"][str(PROTOCOL_VERSIONS[-1])] = message_digest()
    known["tables"][str(load(()).version)] = table_digest(load(()))
    known.setdefault("shapes", {})[str(load(()).version)] = shape_digest(load(()))
    write(FROZEN, known)


def write(path: Path, document: object) -> None:
    """Write JSON, one vector a line where they are short."""
    path.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """Write the files."""
    parser = argparse.ArgumentParser(description="Write the test vectors.")
    parser.add_argument("--freeze", action="store_true", help="write the hashes of messages and tables as well")
    if parser.parse_args(arguments).freeze:
        freeze()
    FOLDER.mkdir(exist_ok=True)
    for name, make in VECTORS.items():
        write(FOLDER / name, make())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

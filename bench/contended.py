"""Pushing edits of contacts, every second of which another node has changed meanwhile, against the same push that stands in nobody's way.

    other changes ½ of ½ ─► mine changes all, not having heard ─► other changes the second ½ of ½ ─► mine pushes: contended
    the same, but mine pulls before it changes anything                                          ─► mine pushes: uncontended

So half of the contended edits win by the rule `latest`, and half lose and must be told back.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Protocol

from bench import local, node, server
from bench.workload import BRANCH, contacts

EDITED = 5_000
"""Contacts changed in one push."""
CONTENDED = f"push of {EDITED:,} edits, contended, times as fast as not"

Ids = list[str]


class Figures(Protocol):
    """Where figures go."""

    def add(self, name: str, value: float) -> None:
        """Add one round's figure."""


def contended_rounds(home: Path, rounds: int, measured: Figures, where: str = "", url: str | None = None) -> None:
    """Measure both pushes `rounds` times, the one or the other first, and the ratio of each round."""
    home.mkdir(parents=True)
    (rows,) = contacts(2 * EDITED)
    with server.running(home / "server", url) as centre:
        codes = [centre.invite(name, f"branch:{BRANCH}") for name in ("mine", "other")]
        with node.Node(home / "mine", centre.url, codes[0]) as mine, node.Node(home / "other", centre.url, codes[1]) as other:
            local.insert_contacts(mine.path, rows)
            mine.run(node.sync)
            ids = [row[0] for row in rows]
            for number in range(rounds):
                random.Random(number).shuffle(ids)
                seconds = {}
                for is_contended in (True, False) if number % 2 else (False, True):
                    seconds[is_contended] = _pushed(mine, other, ids[:EDITED], f"{number}{is_contended}", is_contended=is_contended)
                name = f"{where}push of {EDITED:,} edits"
                measured.add(f"{name}, rows/s: none contended", EDITED / seconds[False])
                measured.add(f"{name}, rows/s: every second one contended", EDITED / seconds[True])
                measured.add(where + CONTENDED, seconds[False] / seconds[True])
    shutil.rmtree(home)


def _pushed(mine: node.Node, other: node.Node, ids: Ids, phone: str, *, is_contended: bool) -> float:
    """Change all these contacts on one node and every second of them on the other; return the seconds that the first one's push takes."""
    other.run(node.sync)
    mine.run(node.sync)
    if is_contended:
        local.change_phones(other.path, ids[::4], f"{phone}-earlier-")
        local.change_phones(mine.path, ids, f"{phone}-mine-")
        local.change_phones(other.path, ids[2::4], f"{phone}-later-")
    else:
        local.change_phones(other.path, ids[::2], f"{phone}-earlier-")
    other.run(node.sync)
    if not is_contended:
        mine.run(node.sync)
        local.change_phones(mine.path, ids, f"{phone}-mine-")
    pushed = mine.run(node.push)
    assert pushed.pushed == len(ids), f"{pushed.pushed} pushed of {len(ids)}"
    mine.run(node.sync)
    other.run(node.sync)
    return pushed.seconds

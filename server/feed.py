"""The feed: what changed after a node's cursor, in its scope, minus its own echo, one bounded page at a time.

A pull sweeps the change index from the cursor (low) to the version that was the head when the sweep began (high), in
fixed steps: one per table and scope. What happens meanwhile is the next sweep's. The pull is complete with the page
whose reading finds no newer version; only then does the node apply any of it, so it never shows half a transaction.

    steps of a sweep (server/sweep.py): every table under every scope (server/telling.py); then segments, verdicts, conflicts ─► a page

A position is (sweep, step, version, row, what is owed of the row): where to go on.
Spec: PROTOCOL.md §8; RULES H2–H5, H18.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from schema.capture import Store
from server import journal, scopes
from server.draft import Draft
from server.notices import Notices
from server.skew import View
from server.sweep import Step, Sweep
from server.telling import BEGIN, Stop, Teller
from server.touched import PLACES_MAX
from server.touched import places as touched_places
from sync.errors import Malformed
from sync.limits import PAGE_ROWS, PAGE_ROWS_MAX
from sync.messages import Position


class Feed:
    """One node's view of one snapshot."""

    def __init__(self, store: Store, node: int, inc: int, cursor: int, view: View, afresh: frozenset[str] = frozenset()) -> None:
        self.store, self.node, self.inc, self.cursor, self.view, self.afresh = store, node, inc, cursor, view, afresh
        self.head = journal.head(store)
        self.scope = scopes.entitled(store, node)

    def page(self, position: Position | None, rows: int) -> tuple[Draft, Position | None]:
        """Fill one page from a position on; return it and where to go on, None when complete."""
        draft = Draft(max(1, min(rows or PAGE_ROWS, PAGE_ROWS_MAX // 2)))
        low, high, number, start = self._start(position)
        while True:
            stopped = self._sweep(draft, low, high, number, start)
            if stopped is not None:
                step, version, row, owed = stopped
                return draft, Position(low, high, step, version, row, self._steps, owed, self.view.edge)
            if high == self.head.number:
                return draft, None
            low, high, number, start = high, self.head.number, 0, BEGIN

    @property
    def _steps(self) -> int:
        """Return what tells the steps of a sweep from those of another declaration."""
        return int(self.store.schema.digest[:8], 16)

    def _start(self, position: Position | None) -> tuple[int, int, int, Stop]:
        if position is None:
            return self.cursor, self.head.number, 0, BEGIN
        if not self.cursor <= position.low <= position.high <= self.head.number:
            raise Malformed("this position does not lie between the cursor and the centre's version")
        if position.plan != self._steps:  # the centre was upgraded meanwhile: its steps have other numbers now
            return position.low, position.high, 0, BEGIN
        return position.low, position.high, position.step, (position.version, position.row, position.owed)

    def _sweep(self, draft: Draft, low: int, high: int, first: int, start: Stop) -> tuple[int, int, int, int] | None:
        """Run the steps of a sweep; return (step, version, row, owed) where the page was full, or None at the end."""
        if low == high and not (self.afresh and low == self.cursor):
            return None
        number, sweep = 0, Sweep(self.store, self.node, self.cursor, low, high, self.scope, self.afresh)
        teller = Teller(self.view, sweep, self.node, self.scope, self.inc, self.cursor, self.head.number)
        plan = sweep.steps()
        while steps := list(islice(plan, PLACES_MAX)):
            for step, is_due in zip(steps, self._due(steps, low, high, first - number), strict=True):
                if number >= first and is_due:
                    stopped = teller.tell(draft, step, low, high, start if number == first else BEGIN)
                    if stopped is not None:
                        return (number, *stopped)
                number += 1
        notices = Notices(self.store, self.node, self.inc, self.scope)
        for told in (notices.segments, notices.verdicts, notices.conflicts):
            if number >= first:
                begin = (max(low + 1, start[0]), max(0, start[1])) if number == first else (low + 1, 0)
                place = told(draft, *begin, high)
                if place is not None:
                    return (number, *place, 0)
            number += 1
        return None

    def _due(self, steps: Sequence[Step], low: int, high: int, first: int) -> list[bool]:
        """Tell of each step whether it is the node's and there may be anything to tell; `first`: the place of the one that a page goes
        on with, of which something may be owed.
        """
        mine = {*self.scope, scopes.node_scope(self.node)}
        known = [self.view.table(step.table.name) is not None and (step.mode == "lost" or step.scope in mine) for step in steps]
        places = [(self.store.numbers[step.table.name], step.scope) for step in steps]
        # steps of other modes tell lines from before the sweep too
        wanted = [(place, step.mode == "kept") for place, step, is_known in zip(places, steps, known, strict=True) if is_known]
        touched = touched_places(self.store, wanted, low, high)
        return [is_known and (at == first or place in touched) for at, (place, is_known) in enumerate(zip(places, known, strict=True))]

"""One exchange with the centre: seal, push what is sealed, pull what changed, apply it in one commit.

Every step is durable before the next begins, so an exchange can be cut anywhere and the next one goes on from there:
an acknowledged segment is not sent again, a page that was staged is not asked for again. Spec: PROTOCOL.md §6–§8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby
from operator import attrgetter

from node import first, healing, offering, outbox, proof, recalling, retained, series, staging, unreadable, verdicts
from node.apply import Applied, apply, check_page, page_rows
from node.database import OFFERING, RELOAD, Database, State, hear, read_state
from node.fetching import Progress
from node.narrow import Narrowing
from node.report import Report
from node.transport import Exchange
from schema.capture import Store
from sync.errors import (
    BadReply,
    Diverged,
    Forked,
    Gap,
    Malformed,
    MalformedBlock,
    Moved,
    Stale,
    TooLarge,
    TooLate,
    UnknownIncarnation,
    WorldError,
)
from sync.limits import (
    ADOPTED_MAX,
    EXCHANGE_RETRIES_MAX,
    PAGE_ROWS,
    PAGES_MAX,
    PROTOCOL_VERSIONS,
    PUSH_BYTES,
    PUSH_SEGMENTS_MAX,
    PUSH_TRANSACTIONS,
    SEGMENT_ROWS,
)
from sync.messages import (
    HealRequest,
    Page,
    Parent,
    Point,
    Position,
    PullRequest,
    PushReply,
    PushRequest,
    Sealed,
    Told,
)

_END = 1 << 62

PORTION_ROWS = 2 * SEGMENT_ROWS
"""Rows of a large backlog that are sealed at a time."""


class Cycle:
    """Exchanges of one node with one centre."""

    def __init__(
        self, database: Database, exchange: Exchange, *, rows: int = PAGE_ROWS, progress: Progress | None = None, waits: bool = False
    ) -> None:
        """`waits`: a first one for a file that the centre is making, rather than pull page by page."""
        self.database, self.exchange, self.rows, self._waits = database, exchange, rows, waits
        self.progress: Progress = progress or (lambda _step, _done, _total: None)
        self._segments_max = PUSH_SEGMENTS_MAX  # in a push

    def sync(self) -> Report:
        """Run a whole exchange. Raises what the exchange raises; what was done until then stays done."""
        report = Report()
        for attempt in range(EXCHANGE_RETRIES_MAX):
            try:
                offered = offering.offer(self.database, self.exchange)
                report.too_large, report.unread = report.too_large + offered.too_large, report.unread + offered.unread
                self._begin(report)
                self.push(report)
                self._reload(report)
                reloading = self.database.state().healing == RELOAD
                applied = self.pull(report)
                if self.database.state().afresh:  # its window was widened: what rolls comes with another pull
                    applied = self.pull(report)
                if not applied.is_proven:
                    self._verify(report)
                if reloading:
                    self.push(report)  # what had to wait until now
                report.differing = proof.standing(self.database.store).differing
                return report
            except (Forked, Gap, UnknownIncarnation):
                if attempt == EXCHANGE_RETRIES_MAX - 1:
                    raise
                with self.database.writing() as store:
                    report.new_series = healing.forked(store)
                report.new_history = True
            except Diverged:
                if attempt == EXCHANGE_RETRIES_MAX - 1:
                    raise
                self._heal(report)
            except TooLate:
                if attempt == EXCHANGE_RETRIES_MAX - 1:
                    raise
                report.unread += recalling.recall(self.database, self.exchange)
                report.taken_anew = True
            except Stale:
                with self.database.writing() as store:
                    staging.discard(store)
                if attempt == EXCHANGE_RETRIES_MAX - 1:
                    raise
        return report

    # --- the centre was restored ---------------------------------------------------------------------------------------------

    def _heal(self, report: Report) -> None:
        """Ask a restored centre what it still has, and count the rest as not sent, unless another process has done so meanwhile."""
        state = self.database.state()
        points = healing.remembered(self.database.store)
        reply = self.exchange.heal(HealRequest(PROTOCOL_VERSIONS[-1], state.epoch, state.incarnation, points))
        with self.database.writing() as store:
            if _life(self.database.state()) == _life(state):
                report.lost = healing.begin(store, reply) or report.lost

    def _reload(self, report: Report) -> None:
        """Turn to taking the centre's rows anew, once it has everything this node can offer."""
        if self.database.state().healing == OFFERING:
            with self.database.writing() as store:
                healing.reload(store)
            self.push(report)  # at least a word under the new incarnation: the centre must know it before it is asked

    def _begin(self, report: Report) -> None:
        """Take all there is as a file, where this node holds nothing and has sent nothing yet, and the centre has one."""
        taken = first.pull(self.database, self.exchange, self.progress, waits=self._waits)
        if taken is not None:
            self._count(report, taken)

    # --- push --------------------------------------------------------------------------------------------------------------

    def push(self, report: Report) -> None:
        """Seal and send everything. Of a large backlog one portion is sealed while the centre works on the one before."""
        self._segments_max = PUSH_SEGMENTS_MAX
        more, done = self._seal_portion(), 0
        with ThreadPoolExecutor(1, "outpost-push") as sender:  # no thread until something is given to it
            while more:
                request = self._push_request()
                if request is None:  # all of the portion waits here, withheld
                    more = self._seal_portion()
                    continue
                sending = sender.submit(self.exchange.push, request)
                more = self._seal_portion()  # the database stays with this thread
                done += self._finish(request, sending.result, report)
                self.progress("push", done, 0)
        total = done + verdicts.counts(self.database.store)[0]
        while (request := self._push_request()) is not None:
            done += self._finish(request, partial(self.exchange.push, request), report)
            self.progress("push", done, total)

    def _finish(self, request: PushRequest, reply: Callable[[], PushReply], report: Report) -> int:
        """Take the reply to a push. A segment that the centre cannot read stays here, in sight; the next push goes on without it.
        Where nobody says which of several it is, they go one by one.
        """
        try:
            found = reply()
        except (Malformed, MalformedBlock, TooLarge) as error:
            if unreadable.is_any_of(error, len(request.segments)):
                self._segments_max = 1
                return 0
            index = unreadable.culprit(error, len(request.segments))
            if index is None:
                raise
            with self.database.writing() as store:
                unreadable.set_aside(store, request.segments[index].digest, error.message, self.database.clock_ms())
            return 0
        return self._acknowledge(request, found, report)

    def _seal_portion(self) -> bool:
        """Seal what was written, or some of it; tell whether more waits."""
        if not self.database.has_changes():
            return False
        with self.database.writing() as store:
            return outbox.seal_portion(store, self.database.clock_ms(), PORTION_ROWS)

    def seal(self) -> int:
        """Seal what any program has written."""
        if not self.database.has_changes():
            return 0
        with self.database.writing() as store:
            return outbox.seal(store, self.database.clock_ms())

    def _push_request(self) -> PushRequest | None:
        with self.database.reading() as store:  # another process of this node may be at it too
            return self._request_of(store)

    def _request_of(self, store: Store) -> PushRequest | None:
        state = read_state(store.connection)
        # what is pushed while everything is taken anew would count as our echo and be missing afterwards
        is_recalled = state.healing == OFFERING and state.recalled > 0
        until = state.recalled if is_recalled else _END
        segments = list(_batch(store, self._segments_max, until)) if state.healing != RELOAD else []
        if not segments and state.registered:
            return None
        adopted = store.connection.execute("SELECT segment FROM _adopted LIMIT ?", (ADOPTED_MAX,)).fetchall()
        return PushRequest(
            protocol=PROTOCOL_VERSIONS[-1],
            epoch=state.epoch,
            incarnation=state.incarnation,
            parent=Parent(state.parent, state.parent_last) if state.parent is not None else None,
            cursor=state.cursor,
            highest=state.highest,
            before=state.acked,
            segments=tuple(segments),
            adopted=tuple(row[0] for row in adopted),
            clock_ms=self.database.clock_ms(),
            told=self._told(),
            recalled=state.shown if is_recalled else -1,
        )

    def _told(self) -> Told:
        differing = proof.standing(self.database.store).differing
        return Told(*verdicts.counts(self.database.store), differing or 0)

    def _acknowledge(self, request: PushRequest, reply: PushReply, report: Report) -> int:
        now_ms = self.database.clock_ms()
        with self.database.writing() as store:
            offering.require_life(read_state(store.connection), request)
            parts = {row[0] for row in store.connection.execute("SELECT id FROM _segment WHERE part = 1").fetchall()}
            store.connection.executemany("DELETE FROM _adopted WHERE segment = ?", [(segment,) for segment in request.adopted])
            store.connection.execute("UPDATE _node SET registered = 1 WHERE id = 1")
            for verdict in reply.verdicts:
                verdicts.acknowledge(store, verdict, now_ms)
            _check_answered(store, request)
            hear(store, reply.head)
        pushed = 0
        for verdict in reply.verdicts:
            if verdict.segment in parts:
                continue  # its transaction is counted with the last part
            pushed += verdict.transactions
            for exception in verdict.exceptions:
                report.verdicts[exception.verdict] += 1
            report.verdicts["accepted"] += verdict.transactions - len(verdict.exceptions)
        report.pushed += pushed
        return pushed

    # --- pull --------------------------------------------------------------------------------------------------------------

    def pull(self, report: Report) -> Applied:
        """Fetch every page, keep each before asking for the next, apply them all in one commit."""
        single, number = self._stage_all(report)
        now_ms = self.database.clock_ms()
        with self.database.writing() as store:
            staging.require_own(store, number)
            if single is not None:
                self._take_down(store, single, report)
            applied = apply(store, [(single, None)] if single is not None else staging.pages(store), now_ms)
            series.catch_up(store, series.LOOK_ROWS_MAX)
            staging.discard(store)
            store.connection.execute("UPDATE _node SET erase = 1 WHERE id = 1 AND ?", (applied.removed + applied.rolled > 0,))
        self.database.erase()
        self._count(report, applied)
        return applied

    @staticmethod
    def _count(report: Report, applied: Applied) -> None:
        report.pulled += applied.rows
        report.removed += applied.removed
        report.rolled += applied.rolled
        report.conflicts += applied.conflicts
        for name, number in applied.settled.document().items():
            report.late[name] += number

    def _verify(self, report: Report) -> None:
        """Compare everything, since the proof at the end of the pull was none. What is exchanged stays exchanged if that cannot be."""
        for _ in range(EXCHANGE_RETRIES_MAX):
            try:
                found = Narrowing(self.database, self.exchange)
                found.run()
            except Moved:
                if self.pull(report).is_proven:
                    return
                continue
            except WorldError:
                return
            proof.note_found(found, self.database.clock_ms())
            return

    def _stage_all(self, report: Report) -> tuple[Page | None, int]:
        """Fetch pages until the pull is complete; return the number of the last that is staged. A pull of one page is returned."""
        begun = self.database.state()
        position, number = staging.resume(self.database)
        rows = 0
        for _ in range(PAGES_MAX):
            state = self.database.state()
            if (state.incarnation, state.epoch, state.begin) != (begun.incarnation, begun.epoch, begun.begin):
                raise Stale("another process of this node has moved on meanwhile")
            request = self._pull_request(state, position)
            page = self.exchange.pull(request)
            if page.after != position:
                raise Stale("the page answers another question")
            _require_no_older(request, page)
            rows += page_rows(page)
            if page.position is None and position is None:
                return page, number
            with self.database.writing() as store:
                staging.require_own(store, number)
                self._take_down(store, page, report)
                # the next request proves it: a centre restored meanwhile must not go on with verdicts or pages of another life
                hear(store, page.to)
                number = staging.keep(store, page)
            self.progress("pull", rows, 0)
            if page.position is None:
                return None, number
            if page.position == position:
                raise Stale("the centre's pages do not move on")
            position = page.position
        raise Stale(f"a pull of more than {PAGES_MAX} pages")

    def _take_down(self, store: Store, page: Page, report: Report) -> None:
        """Note what a page says of this node's own work. Raises what `check_page` raises."""
        check_page(store, read_state(store.connection), page)
        for entry in page.segments:
            if not verdicts.accepted(store, entry, self.database.clock_ms()) and report.new_history:
                report.came_back += entry.transactions
        for segment, late in groupby(page.verdicts, key=attrgetter("segment")):
            verdicts.note_verdicts(store, segment, late, self.database.clock_ms())

    def _pull_request(self, state: State, position: Position | None) -> PullRequest:
        version = PROTOCOL_VERSIONS[-1]
        store = self.database.store
        return PullRequest(
            protocol=version,
            epoch=state.epoch,
            incarnation=state.incarnation,
            cursor=state.begin,
            highest=state.highest,
            position=position,
            rows=self.rows,
            told=self._told(),
            schema=store.schema.version,
            afresh=tuple(state.afresh),
            anew=state.healing == RELOAD,
            edge=0 if state.healing == RELOAD else state.edge,
        )


def _batch(store: Store, segments_max: int, until: int) -> Iterator[Sealed]:
    """Yield the oldest segments with a number below `until` that are not acknowledged, up to one push."""
    sql = "SELECT seq, LENGTH(body), transactions FROM _segment WHERE version IS NULL AND seq < ? ORDER BY seq LIMIT ?"
    rows = store.connection.execute(sql, (until, segments_max)).fetchall()
    size, works = 0, 0
    for number, (seq, length, transactions) in enumerate(rows):
        size, works = size + length, works + transactions
        if number and (size > PUSH_BYTES or works > PUSH_TRANSACTIONS):
            return
        sql = "SELECT body, digest, again, boxed FROM _segment WHERE seq = ?"
        body, digest, again, boxed = store.connection.execute(sql, (seq,)).fetchone()
        yield Sealed(body, digest, retained.message_of(again, bool(boxed)))


def _require_no_older(request: PullRequest, page: Page) -> None:
    """Check that a page is not from before what was heard when it was asked for: it may be of a life of the centre that is over, and a
    cursor in one life beside a highest point in another would heal for ever. Raises Stale.
    """
    is_behind = request.position is None and page.head < request.highest.number
    if is_behind or (page.to.number == request.highest.number and page.to != request.highest):
        raise Stale("the page is older than what the centre has told since")


def _check_answered(store: Store, request: PushRequest) -> None:
    """Check that a reply told what became of every segment: what is still unsent would be sent for ever. Raises BadReply."""
    oldest = store.connection.execute("SELECT digest FROM _segment WHERE version IS NULL ORDER BY seq LIMIT 1").fetchone()
    if oldest is not None and oldest[0] in {segment.digest for segment in request.segments}:
        raise BadReply("The server's answer does not say what became of all that was sent.")


def _life(state: State) -> tuple[int, bytes, Point, Point]:
    """Return what healing begins from."""
    return state.epoch, state.incarnation, state.cursor, state.highest

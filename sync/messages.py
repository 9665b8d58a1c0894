"""Messages of the protocol: what node and server say to each other, as typed structures.

Encoded as msgpack arrays (fields in the order written here), the whole compressed with zstd. Typed decoding is the first
line of defence: whatever decodes has the right shape; bounds and meaning are checked by the step that reads it.
Spec: PROTOCOL.md §4 (messages) and §5 (segments). A test hashes these definitions: changing one means a new protocol
version.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from sync.columns import Column
from sync.limits import (
    ADOPTED_MAX,
    MILLIS_MAX,
    PAGE_ROWS_MAX,
    PAGE_SEGMENTS_MAX,
    POINTS_MAX,
    PROTOCOLS_MAX,
    PUSH_SEGMENTS_MAX,
    SEGMENT_BLOCKS_MAX,
    SEGMENT_ROWS_MAX,
    TABLES_MAX,
    VERIFY_RANGES_MAX,
)

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Version = Annotated[int, msgspec.Meta(ge=-1, le=2**62)]
Millis = Annotated[int, msgspec.Meta(ge=-MILLIS_MAX, le=MILLIS_MAX)]
Id16 = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Digest = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Words = Annotated[str, msgspec.Meta(max_length=2000)]
VerdictName = Literal["accepted", "merged", "ask", "held", "refused", "withdrawn"]

# Lists: their length is read and compared with the bound before memory is taken for their elements.
Blocks = msgspec.Meta(max_length=SEGMENT_BLOCKS_MAX)
Tables = msgspec.Meta(max_length=TABLES_MAX)
Notices = msgspec.Meta(max_length=PAGE_ROWS_MAX)
Ranges = msgspec.Meta(max_length=VERIFY_RANGES_MAX)
Columns = Annotated[tuple[Column, ...], Tables]
Names = Annotated[tuple[Name, ...], Tables]


class Message(msgspec.Struct, frozen=True, array_like=True):
    """A structure on the wire."""


class Point(Message, frozen=True):
    """A place in a hash chain: its number and the digest there. (0, 32 zero bytes) is the beginning."""

    number: Version
    digest: Digest


class Told(Message, frozen=True):
    """What a node tells about itself with every exchange, for the centre's board of nodes."""

    unsynced: Count
    conflicts: Count
    held: Count
    differing: Count  # rows known to differ from the centre's


class Values(Message, frozen=True):
    """A few values of any types: a key, the columns of a cell, a row."""

    count: Count
    column: Column


# --- segments: a node's sealed work (§5) ------------------------------------------------------------------------------


class Inserts(Message, frozen=True):
    """New rows of one table. `base` and `since` are -1 but on top of an own pending delete (RULES H10)."""

    table: Name
    columns: Names
    count: Count
    transaction: Column  # index of the row's transaction in the segment
    base: Column
    since: Column
    values: Columns  # one per entry of `columns`


class Updates(Message, frozen=True):
    """Changed cells of one kind: one column, or one group of columns that is decided as one (RULES H17)."""

    table: Name
    cell: Name
    columns: Names
    count: Count
    transaction: Column
    base: Column  # version the writer had seen (RULES H8)
    since: Column  # own sequence of the oldest own change it rests on (RULES H8)
    wall: Column  # node's clock, ms
    key: Columns
    old: Columns  # one per entry of `columns`
    new: Columns


class Deletes(Message, frozen=True):
    """Deleted rows of one table."""

    table: Name
    count: Count
    transaction: Column
    base: Column
    since: Column
    key: Columns


class Decision(Message, frozen=True):
    """A transaction of the segment that settles a conflict."""

    transaction: Count
    conflict: Id16


class Withdrawal(Message, frozen=True):
    """A transaction of the segment that takes back held work of the same node, or takes its place (`replaced`)."""

    transaction: Count
    segment: Id16  # with `index` the name of the work that is taken back
    index: Count
    replaced: bool  # its changes go on, in this transaction; else they are given up


class Segment(Message, frozen=True):
    """Consecutive transactions of one node, sealed once. Its id and a transaction's index name the transaction."""

    id: Id16
    schema: Count
    first: Count  # own sequence number of its first transaction
    transactions: Count
    part: Literal[0, 1, 2]  # 0 whole; 1 one transaction, more parts follow; 2 its last part
    wall: Column  # per transaction: node's clock when it was made, ms
    base: Column  # per transaction: the node's cursor when it was made
    decisions: Annotated[tuple[Decision, ...], msgspec.Meta(max_length=SEGMENT_ROWS_MAX)]
    deletes: Annotated[tuple[Deletes, ...], Blocks]
    inserts: Annotated[tuple[Inserts, ...], Blocks]
    updates: Annotated[tuple[Updates, ...], Blocks]
    withdrawals: Annotated[tuple[Withdrawal, ...], msgspec.Meta(max_length=SEGMENT_ROWS_MAX)]


# --- push (§6) --------------------------------------------------------------------------------------------------------


class Exceptional(Message, frozen=True):
    """A transaction of a segment that was not plainly accepted."""

    transaction: Count
    verdict: VerdictName
    version: Version
    code: Words
    reason: Words


class Again(Message, frozen=True):
    """What a segment brings that the server had before it was restored, or that was sealed before that (RULES H14)."""

    version: Version  # at which the lost history had journaled it; -1: it never had
    floor: Version  # what both histories share; no change of it has seen more
    boxed: bool  # the body is a box (sync/box.py)
    exceptions: Annotated[tuple[Exceptional, ...], msgspec.Meta(max_length=SEGMENT_ROWS_MAX)]  # what had become of it


class Sealed(Message, frozen=True):
    """A segment as it is signed, chained, journaled: its compressed bytes and the chain's digest after it."""

    body: bytes
    digest: Digest
    again: Again | None


class Parent(Message, frozen=True):
    """Where a new incarnation left its parent: the parent's id and the last point both share."""

    incarnation: Id16
    last: Point


class PushRequest(Message, frozen=True):
    """Node → server: consecutive segments. Sending it twice is harmless."""

    protocol: Count
    epoch: Count
    incarnation: Id16
    parent: Parent | None
    cursor: Point
    highest: Point  # the highest point of the server's chain the node ever heard of (RULES H12)
    before: Point  # of the node's own chain, before the first segment
    segments: Annotated[tuple[Sealed, ...], msgspec.Meta(max_length=PUSH_SEGMENTS_MAX)]
    # own segments whose verdict came through another incarnation (RULES H7)
    adopted: Annotated[tuple[Id16, ...], msgspec.Meta(max_length=ADOPTED_MAX)]
    clock_ms: Millis  # the node's clock now; the server corrects stamps by the difference
    told: Told
    recalled: Version = -1  # the rows that this work is about were offered, at this version of the server's at least (§8.6)


class SegmentVerdict(Message, frozen=True):
    """What became of one segment: accepted at `version`, but for the exceptions."""

    segment: Id16
    version: Version
    transactions: Count
    exceptions: Annotated[tuple[Exceptional, ...], msgspec.Meta(max_length=SEGMENT_ROWS_MAX)]
    body: bytes | None  # of a boxed segment with work that is held or was refused: the node shows it again


class PushReply(Message, frozen=True):
    """Server → node, after the commit."""

    epoch: Count
    head: Point
    verdicts: Annotated[tuple[SegmentVerdict, ...], msgspec.Meta(max_length=PUSH_SEGMENTS_MAX)]


# --- pull (§8) --------------------------------------------------------------------------------------------------------


class Position(Message, frozen=True):
    """Where the next page begins. Opaque to the node; the server checks it and trusts it with nothing."""

    low: Version
    high: Version
    step: Count  # table and scope, in the server's order
    version: Version
    row: Version
    plan: Count = 0  # of which steps: the centre's tables may have changed since
    owed: Count = 0  # of the row, where the page was full in the middle of what goes with it
    edge: Millis = 0  # of the window that the whole pull is told in (§8.7)


class PullRequest(Message, frozen=True):
    """Node → server: what changed after my cursor, in my scope?"""

    protocol: Count
    epoch: Count
    incarnation: Id16
    cursor: Point
    highest: Point
    position: Position | None
    rows: Count  # rows wanted per page
    told: Told
    schema: Count = 1  # version of the declaration the node has
    afresh: Names = ()  # tables to tell from the beginning: the node has more of their columns than when it pulled them
    anew: bool = False  # the node lets go of all rows it has, and takes what this pull tells in their place
    edge: Millis = 0  # of the node's window: it has what rolls from then on (§8.7); 0: it has no window


class Rows(Message, frozen=True):
    """The newest state of rows of one table."""

    table: Name
    columns: Names
    count: Count
    values: Columns


class SealedRows(Message, frozen=True):
    """The rows of a segment of another node, as it was pushed: nothing but new documents and events (P-8.16)."""

    count: Count
    body: bytes


class Removals(Message, frozen=True):
    """Rows that were deleted or left the node's scope."""

    table: Name
    count: Count
    key: Columns


class ConflictNotice(Message, frozen=True):
    """A conflict the node took part in, told from the node's side."""

    id: Id16
    version: Version
    table: Name
    key: Values
    columns: Names  # empty: the whole row (a delete against an edit)
    base: Values | None
    mine: Values | None  # None: deleted
    theirs: Values | None
    rule: Name
    winner: Literal["mine", "theirs"]
    open: bool
    mine_by: Words
    theirs_by: Words
    at_ms: Millis
    why: Words


class LateVerdict(Message, frozen=True):
    """A verdict that came after the push: released, decided, refused."""

    segment: Id16
    transaction: Count
    verdict: VerdictName
    version: Version
    code: Words
    reason: Words


class Accepted(Message, frozen=True):
    """A segment of this node the journal holds: the acknowledgement again, for one whose reply was lost.

    `seq` is its place in the chain of the incarnation that asks, 0 if it came through another one (RULES H7).
    """

    segment: Id16
    version: Version
    transactions: Count
    seq: Count


class TableDigest(Message, frozen=True):
    """Number of rows of a table and the digest of them in the order of their keys (P-9.12)."""

    table: Name
    rows: Count
    digest: Digest
    columns: Names = ()  # those that were compared; none: all of the version


class Proof(Message, frozen=True):
    """What the centre holds of everything that a pull, or this node itself, changed (P-8.17)."""

    tables: Annotated[tuple[TableDigest, ...], Tables]
    whole: Annotated[tuple[Id16, ...], Notices]  # segments whose rows are not summed: all are there as they were pushed


class Page(Message, frozen=True):
    """Server → node: one page of the feed. Staged until the last one, then applied in one commit (§8.4)."""

    epoch: Count
    incarnation: Id16
    since: Version  # the cursor it starts from
    head: Version  # the server's version when it was read (RULES H4b)
    to: Point  # where the cursor goes when `position` is None
    chain: Point  # the server's end of this incarnation's own chain (RULES H5)
    position: Position | None
    rows: Annotated[tuple[Rows, ...], Tables]
    sealed: Annotated[tuple[SealedRows, ...], msgspec.Meta(max_length=PAGE_SEGMENTS_MAX)]
    removals: Annotated[tuple[Removals, ...], Tables]  # rows that left the scope
    deaths: Annotated[tuple[Removals, ...], Tables]  # rows that were deleted
    conflicts: Annotated[tuple[ConflictNotice, ...], Notices]
    segments: Annotated[tuple[Accepted, ...], Notices]
    verdicts: Annotated[tuple[LateVerdict, ...], Notices]
    points: Annotated[tuple[Point, ...], Notices]  # of the backups in (since, to] (RULES H13)
    covered: Version  # a backup that the centre can be restored from holds everything up to here
    proof: Proof | None  # on the last page, where it costs no more than what changed
    schema: Count = 1  # version of the declaration that its rows are in: the older one of both sides
    after: Position | None = None  # where it begins: that of the request
    life: Id16 = bytes(16)  # drawn by the server when it started: pages of one life are of one history
    afresh: Names = ()  # those of the request: a node that was upgraded since asks for more
    edge: Millis = 0  # of the node's window from here on (§8.7)


# --- after a restore (§7.7) ---------------------------------------------------------------------------------------------


class HealRequest(Message, frozen=True):
    """Node → server: these points of your history I remember; which do you still have?"""

    protocol: Count
    epoch: Count
    incarnation: Id16
    points: Annotated[tuple[Point, ...], msgspec.Meta(max_length=POINTS_MAX)]


class HealReply(Message, frozen=True):
    """Server → node: the newest of these points, and where my history and yours end now."""

    epoch: Count
    shared: Point
    head: Point
    chain: Point  # the end of this incarnation's chain; the beginning if it is not known


class Offered(Message, frozen=True):
    """A page as the node pulled it from the lost history, in a box."""

    version: Version  # its head
    box: bytes


class OfferRequest(Message, frozen=True):
    """Node → server: pages of the lost history, oldest first (RULES H15), or of rows that its work is about (§8.6)."""

    protocol: Count
    epoch: Count
    incarnation: Id16
    cursor: Point
    highest: Point
    pages: Annotated[tuple[Offered, ...], msgspec.Meta(max_length=PUSH_SEGMENTS_MAX)]


class OfferReply(Message, frozen=True):
    """Server → node, after the commit."""

    head: Point
    filled: Count  # rows the server never had
    recorded: Count  # values put on record beside what stands
    unread: Annotated[tuple[Count, ...], msgspec.Meta(max_length=PUSH_SEGMENTS_MAX)] = ()  # pages of which some could not be read, by place


# --- the first pull as a file (§8.5) ---------------------------------------------------------------------------------


class Snapshot(Message, frozen=True):
    """A file that holds all rows of a scope at one version, made once for all nodes that have this scope."""

    name: Digest  # SHA-256 of its bytes as they travel
    at: Point  # the version whose rows it holds
    bytes: Count  # as it travels
    expanded: Count  # bytes of the database file in it
    rows: Count
    edge: Millis = 0  # of the window of the nodes it is for


class SnapshotRequest(Message, frozen=True):
    """Node → server: I hold nothing yet; give me all of it as a file, or the rest of the one I have begun."""

    protocol: Count
    epoch: Count
    incarnation: Id16
    highest: Point
    schema: Count  # version of the declaration the node has
    name: Digest | None  # of a file it has begun
    have: Count  # bytes of it that it has


class SnapshotReply(Message, frozen=True):
    """Server → node: bytes of a file from `offset` on; or how far one is that is being made; or neither: pull."""

    snapshot: Snapshot | None
    offset: Count  # where the part begins: at what the node has of this file, or at 0
    part: bytes
    made: Count  # rows of a file that is being made
    of: Count  # of about so many; 0: none is
    points: Annotated[tuple[Point, ...], msgspec.Meta(max_length=POINTS_MAX)] = ()  # of the newest backups up to its version


# --- joining and verifying (§9) ---------------------------------------------------------------------------------------


class JoinRequest(Message, frozen=True):
    """Newcomer → server: an invitation code and the public key made on the node."""

    protocols: Annotated[tuple[Count, ...], msgspec.Meta(max_length=PROTOCOLS_MAX)]
    code: Name
    public_key: Digest
    incarnation: Id16


class JoinReply(Message, frozen=True):
    """Server → node: who you are."""

    protocol: Count
    node: Name
    name: Name
    epoch: Count
    schema: Count
    box_key: Digest  # X25519, 32 bytes (sync/box.py)


class KeyRange(Message, frozen=True):
    """Rows of a table in the order of their keys: low < key <= high. None: from the beginning, to the end."""

    table: Name
    low: Values | None
    high: Values | None
    rows: Count  # 0: one digest of all of them; else the first so many, each by itself


class Wanted(Message, frozen=True):
    """Rows of one table, by key."""

    table: Name
    count: Count
    key: Columns


class Compared(Message, frozen=True):
    """Columns of a table that can be compared, key first."""

    table: Name
    columns: Names


class VerifyRequest(Message, frozen=True):
    """Node → server: what do you hold in my scope (§9.3)? Neither ranges nor rows asked for: digests of all tables."""

    protocol: Count
    epoch: Count
    incarnation: Id16
    cursor: Point
    ranges: Annotated[tuple[KeyRange, ...], Ranges]  # they follow each other
    wanted: Wanted | None
    schema: Count = 1  # version of the declaration the node has
    only: Annotated[tuple[Compared, ...], Tables] = ()  # tables of which it has only these columns
    edge: Millis = 0  # of its window


class RangeDigest(Message, frozen=True):
    """Number of rows of a range and their digest; where they were asked for one by one, the key and digest of each."""

    rows: Count
    digest: Digest
    key: Columns
    digests: bytes  # 32 bytes a row


FOUND, ELSEWHERE, UNKNOWN, LARGE = range(4)
"""What the centre says of a row that was wanted: it is among the rows; it is, or was, but not in the node's scope; there
never was one; it is larger than a page holds."""


class Found(Message, frozen=True):
    """What became of the first of the rows that were wanted, and those of them that are there, in that order."""

    states: bytes  # FOUND, ELSEWHERE, UNKNOWN or LARGE for each
    rows: Rows


class VerifyReply(Message, frozen=True):
    """Server → node: digests of the node's scope at `version`, or what was asked for."""

    version: Version
    tables: Annotated[tuple[TableDigest, ...], Tables]
    ranges: Annotated[tuple[RangeDigest, ...], Ranges]
    found: Found | None
    schema: Count = 1  # version of the declaration that is compared: the older one of both sides

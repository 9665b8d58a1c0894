"""Bounds of the protocol, one place. Spec: PROTOCOL.md §3; a test compares the table there with these values.

Every message, list, page and string a peer can send is bounded by one of these. They are the same on both sides, so a
well-behaved sender never meets them.
"""

from __future__ import annotations

from typing import Final

PROTOCOL_VERSIONS: Final = (1,)
"""Versions this code speaks, newest last."""

BODY_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bytes of a request body as received."""

MESSAGE_BYTES_MAX: Final = 64 * 1024 * 1024
"""Bytes of any one message or segment once decompressed."""

REPLY_BYTES_MAX: Final = 64 * 1024 * 1024
"""Bytes of a reply's body as received."""

JOIN_BYTES_MAX: Final = 16 * 1024
"""Bytes of a request to join, as received and once decompressed; it is the one body that anybody may send."""

HEADER_BYTES_MAX: Final = 16 * 1024
"""Bytes of all headers of one request."""

SEGMENT_ROWS_MAX: Final = 50_000
"""Changed rows (inserts, deletes, changed cells) in one segment."""

SEGMENT_ROWS: Final = 10_000
"""Rows a node aims at per segment."""

SEGMENT_BLOCKS_MAX: Final = 4_000
"""Blocks of one kind (inserts, updates, deletes) in one segment."""

SEGMENT_VALUES_MAX: Final = 12_000_000
"""Values in one segment: of each block, its columns times its rows. NULLs take a byte each column on the wire, however many."""

SEGMENT_COLUMNS_MAX: Final = 100_000
"""Columns in one segment, of all its blocks together."""

SEGMENT_PARTS_MAX: Final = 1_000
"""Segments one transaction may be spread over."""

PUSH_SEGMENTS_MAX: Final = 64
"""Segments in one push."""

ADOPTED_MAX: Final = 10_000
"""Adopted segments named in one push."""

PUSH_BYTES: Final = 4 * 1024 * 1024
"""Bytes of segments a node aims at per push."""

PUSH_TRANSACTIONS: Final = 200_000
"""Transactions a node aims at per push: each may need a line in the reply."""

REASONS_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bytes of all reasons in a reply to a push."""

PAGE_ROWS: Final = 10_000
"""Rows and removals a server aims at per page."""

PAGE_ROWS_MAX: Final = 60_000
"""Rows and removals a node accepts in one page."""

PAGE_SEGMENTS_MAX: Final = 64
"""Whole segments in one page."""

PAGE_NOTICES_MAX: Final = 5_000
"""Conflict notices, and verdicts, in one page."""

VERIFY_RANGES_MAX: Final = 64
"""Ranges of keys in one request to verify."""

VERIFY_ROWS_MAX: Final = 10_000
"""Rows that one request to verify may ask for, by range or by key."""

PAGES_MAX: Final = 100_000
"""Pages of one pull."""

SNAPSHOT_PART_BYTES: Final = 4 * 1024 * 1024
"""Bytes of a snapshot in one reply."""

SNAPSHOT_PARTS_MAX: Final = 100_000
"""Parts of one snapshot that a node asks for, those included that tell how far the server is with making it."""

POINTS_MAX: Final = 1_000
"""Points of the server's history that a node remembers, and shows after a restore."""

COLUMN_LIST_MAX: Final = 100_000
"""Texts, blobs or other values listed in one column; more than a block has rows."""

VALUE_BYTES_MAX: Final = 1024 * 1024
"""Bytes of one text (as UTF-8) or blob in a segment."""

ROW_BYTES_MAX: Final = 48 * 1024 * 1024
"""Bytes of all texts and blobs of one row in a page."""

KEY_BYTES_MAX: Final = 512
"""Bytes of one key column the centre accepts; work with a longer one is held, not refused."""

NAME_BYTES_MAX: Final = 200
"""Bytes of a node's name, a scope key, a table's or a column's name (on the wire, `Name`: characters)."""

SCOPES_MAX: Final = 10_000
"""Scope keys one node may be entitled to."""

TABLES_MAX: Final = 500
"""Tables, and columns of one table."""

KEY_COLUMNS_MAX: Final = 100
"""Columns of one key; a declaration with more is refused, a message is not."""

PROTOCOLS_MAX: Final = 100
"""Protocol versions a newcomer names."""

MILLIS_MAX: Final = 2**53
"""Milliseconds from 1970, either way, that a clock may show: sums of a few of them stay within 64 bits."""

NONCE_LIFE_MS: Final = 5 * 60 * 1000
"""How long a nonce may wait for its request."""

INVITATION_LIFE_MS: Final = 7 * 24 * 3600 * 1000
"""How long an invitation code is good for."""

BODY_SECONDS_MAX: Final = 120.0
"""How long one request body may take to arrive."""

BODY_IDLE_SECONDS_MAX: Final = 20.0
"""How long a request body may pause."""

EXCHANGE_RETRIES_MAX: Final = 5
"""Times one exchange starts a step again (nonce, fork, moved) before it gives up."""

"""Replies: the media types of the HTTP surface, and the problem document (RFC 9457) of an error. Spec: PROTOCOL.md §10."""

from __future__ import annotations

import logging
import secrets
from typing import Final

import msgspec
from starlette.datastructures import MutableHeaders
from starlette.responses import Response

from sync.errors import DatabaseAway, Internal, NewerFile, OutpostError

MEDIA: Final = "application/vnd.outpost.v1+msgpack+zstd"
JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
NONCE_HEADER: Final = "Outpost-Nonce"
SAFE_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
"""What keeps caches from keeping, and browsers from guessing. Messages of the protocol go without: no browser guesses at their media type,
no cache keeps an answer to a POST that does not ask for it, and a sync with nothing to do is to cost little.
"""

log = logging.getLogger("outpost.server")


def make_safe(headers: MutableHeaders) -> None:
    """Add the safe headers to those of a reply, unless it is a message of the protocol."""
    if headers.get("content-type") != MEDIA:
        for name, value in SAFE_HEADERS.items():
            headers.setdefault(name, value)


def problem_response(error: Exception) -> Response:
    """Return the problem document of the error; one that is not of our tree is logged and said to be ours. So is a database
    that a newer program, or one with other tables, has opened: nodes try again, once somebody has started this server anew.
    """
    if isinstance(error, DatabaseAway):  # where it lies, and whose it is, is for the log alone
        log.warning("%s", error)
        error = DatabaseAway()
    if not isinstance(error, OutpostError) or isinstance(error, NewerFile):
        incident = secrets.token_hex(4)
        log.error("incident %s", incident, exc_info=error)
        error = Internal(incident=incident)
    return Response(msgspec.json.encode(error.document()), status_code=error.status, media_type=PROBLEM)

"""Replies: the media types of the HTTP surface, and the problem document (RFC 9457) of an error. Spec: PROTOCOL.md §10."""

from __future__ import annotations

import logging
import secrets
from typing import Final

import msgspec
from starlette.responses import Response

from sync.errors import DatabaseAway, Internal, NewerFile, OutpostError

MEDIA: Final = "application/vnd.outpost.v1+msgpack+zstd"
JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
NONCE_HEADER: Final = "Outpost-Nonce"
SAFE_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

log = logging.getLogger("outpost.server")


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

"""Errors of the engine: one tree, split by whose fault it is, each with a stable code.

    OutpostError
    ├─ PeerError      the other side sent something we must not act on; nothing of it was kept
    ├─ UsError        our own store or programme is not in a state to go on
    └─ WorldError     the network, the disk or the clock; trying again may help

Every error carries what a person needs: `code` (stable, for programs), `message` (what happened), `kept` (what became
of the work) and `todo` (what to do next). `status` is the HTTP status when it travels as an RFC 9457 problem
document. Spec: PROTOCOL.md §10, which lists every code; a test compares the two lists.
"""

from __future__ import annotations

from typing import ClassVar, TypeVar

E = TypeVar("E", bound=Exception)


class OutpostError(Exception):
    """Root of the tree. Subclasses fix `code`; instances add the message."""

    code: ClassVar[str] = "outpost.error"
    status: ClassVar[int] = 500
    retry: ClassVar[bool] = False
    kept: ClassVar[str] = "Nothing was changed."
    todo: ClassVar[str] = ""

    def __init__(self, message: str = "", **extra: object) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().split("\n", 1)[0])
        self.extra = extra

    @property
    def message(self) -> str:
        """Return what happened, one or two sentences."""
        return str(self)

    def document(self) -> dict[str, object]:
        """Return the RFC 9457 problem document: JSON-able, with the stable `code`."""
        return {
            "type": f"urn:outpost:problem:{self.code}",
            "title": (type(self).__doc__ or self.code).strip().split("\n", 1)[0],
            "status": self.status,
            "detail": self.message,
            "code": self.code,
            "retry": self.retry,
            "kept": self.kept,
            "todo": self.todo,
            **self.extra,
        }


def without_frames(error: E) -> E:
    """Return an error that is kept for a while without the frames that it came through: they hold what was in memory there, a message of
    many megabytes perhaps. One that is not of our tree keeps them, for the log.
    """
    if isinstance(error, OutpostError):
        error.__traceback__ = error.__context__ = error.__cause__ = None
    return error


class PeerError(OutpostError):
    """The other side sent something that cannot be accepted."""

    code = "peer.error"
    status = 400


class UsError(OutpostError):
    """This store is not in a state to go on."""

    code = "us.error"
    status = 500


class WorldError(OutpostError):
    """Network, disk or clock got in the way."""

    code = "world.error"
    status = 503
    retry = True
    kept = "Everything recorded here is safe and will be sent later."
    todo = "Try again when the connection is back."


# --- the wire -------------------------------------------------------------------------------------------------------


class Malformed(PeerError):
    """The message is not well formed."""

    code = "wire.malformed"


class MalformedBlock(PeerError):
    """A block of rows is not well formed."""

    code = "wire.column"


class TooLarge(PeerError):
    """The message is larger than the protocol allows."""

    code = "wire.too_large"
    status = 413


class UnsupportedMedia(PeerError):
    """The body is in a form this server does not read."""

    code = "wire.media"
    status = 415


class UnknownProtocol(PeerError):
    """The two sides share no protocol version."""

    code = "protocol.unknown"
    status = 400
    todo = "Update the older side; work goes on offline until then."


class UnknownTable(PeerError):
    """The message names a table or column this side does not have."""

    code = "schema.unknown"
    status = 409
    todo = "Update the older side; work goes on offline until then."


class NotFound(PeerError):
    """There is nothing at this address."""

    code = "http.not_found"
    status = 404


class MethodNotAllowed(PeerError):
    """This address does not take that method."""

    code = "http.method"
    status = 405


class TooSlow(PeerError):
    """The body did not arrive in time."""

    code = "http.timeout"
    status = 408
    retry = True


class DatabaseAway(WorldError):
    """The centre's database cannot be reached, or went away: asking again tells what became of the request."""

    code = "server.database"
    kept = "Nothing is lost, and nothing is done twice."
    todo = "Try again in a moment."


class DatabaseFull(WorldError):
    """The disk of the centre's database is full, or cannot be written: nothing of the request was taken."""

    code = "server.disk"
    kept = "Nothing is lost; what waits to be sent stays here."
    todo = "The central office makes room; then try again."


class TooBusy(PeerError):
    """The server has as many requests as it can take."""

    code = "http.busy"
    status = 503
    retry = True


class HeadersTooLarge(PeerError):
    """The request's headers are larger than the protocol allows."""

    code = "http.headers"
    status = 431


class Internal(WorldError):
    """The server ran into an error of its own."""

    code = "server.internal"
    status = 500
    todo = "Try again later; if it stays, tell the central office: the details are in the server's log."


# --- who is calling -------------------------------------------------------------------------------------------------


class Unsigned(PeerError):
    """The request is not signed, or its signature headers are malformed."""

    code = "auth.unsigned"
    status = 401


class BadSignature(PeerError):
    """The signature does not match the request."""

    code = "auth.signature"
    status = 401
    todo = (
        "If this machine's key (node.key) was lost or replaced, ask the central office for an invitation under another name, then:"
        " outpost node rejoin CODE"
    )


class UnknownNode(PeerError):
    """No node with this id has joined this server."""

    code = "auth.unknown_node"
    status = 401
    kept = "Everything recorded here is safe."
    todo = "If the centre was restored from a backup, let it invite this machine again, then: outpost node rejoin CODE"


class BadNonce(PeerError):
    """The nonce is unknown, was used already, or has expired."""

    code = "auth.nonce"
    status = 401
    retry = True


class Revoked(PeerError):
    """This node has been revoked by the centre."""

    code = "auth.revoked"
    status = 403
    kept = "Everything recorded on this node stays on it, unsent work too."
    todo = "Ask the central office: with a new invitation, outpost node rejoin CODE joins again with all of it and sends what is unsent."


class BadInvitation(PeerError):
    """The invitation code is unknown, was used already, or has expired."""

    code = "join.code"
    status = 403
    todo = "Ask the central office for a new code."


# --- histories ------------------------------------------------------------------------------------------------------


class Forked(PeerError):
    """The server holds another history of this node than the node itself.

    A restored backup or a copied disk. Nothing of the request is kept under the old history; the node opens a new
    incarnation and sends the same work again. Source: PROTOCOL.md §7.3.
    """

    code = "history.forked"
    status = 409
    kept = "Everything recorded here is safe."
    todo = "Sync: it puts that right by itself. outpost node sync"


class Gap(PeerError):
    """The node's segments do not follow on from what the server holds of its history."""

    code = "history.gap"
    status = 409
    kept = "Everything recorded here is safe."
    todo = "Sync: it puts that right by itself. outpost node sync"


class Diverged(PeerError):
    """The server's history is not the one this node remembers: the server was restored from a backup."""

    code = "history.diverged"
    status = 409
    kept = "Everything recorded here is safe."
    todo = "Sync: what the centre lost is sent again by itself. outpost node sync"


class TooLate(PeerError):
    """The node was away for longer than the server keeps what was deleted, or left a scope."""

    code = "history.late"
    status = 409
    kept = "Everything recorded here is safe."
    todo = "Sync: this node then shows the centre what it works on, and takes everything anew. outpost node sync"


class UnknownIncarnation(PeerError):
    """The request names an incarnation that belongs to no history of this node."""

    code = "history.incarnation"
    status = 409
    kept = "Everything recorded here is safe."
    todo = "Sync: it puts that right by itself. outpost node sync"


class Moved(PeerError):
    """The server has moved on since the version asked about."""

    code = "verify.moved"
    status = 409
    retry = True


# --- here -----------------------------------------------------------------------------------------------------------


class NotJoined(UsError):
    """There is no database here yet."""

    code = "home.empty"
    status = 404


class AlreadyThere(UsError):
    """There is a database here already."""

    code = "home.taken"
    status = 409


class NewerFile(UsError):
    """This database was written by a newer program than this one."""

    code = "home.newer"
    status = 409
    kept = "The database was not touched; everything in it is safe."
    todo = "Update this program, then go on."


class Overtaken(NewerFile):
    """Another program has brought this database up to date, or to other tables, while this one was running."""

    code = "home.overtaken"
    kept = "What was committed before is safe; nothing was written since."
    todo = "Start this program again."


class OtherTables(UsError):
    """This database has tables that this program does not declare."""

    code = "home.tables"
    status = 409
    kept = "Nothing was changed; what is in the database is safe."
    todo = "Set OUTPOST_TABLES to the folder with their declaration, then start it again."


class CannotUpgrade(UsError):
    """This database cannot be brought up to this program's version."""

    code = "home.upgrade"
    status = 409
    kept = "The database is as it was; everything in it is safe, and the program before this one goes on with it."
    todo = "Put right what the message names, then open it again."


class Altered(CannotUpgrade):
    """Another program has altered the tables of this database."""

    code = "home.altered"
    kept = "Nothing was changed; what is in the file is safe."
    todo = "Undo that, or restore a backup, then open it again."


class NotEqual(UsError):
    """Node and centre do not hold the same rows."""

    code = "verify.not_equal"
    status = 409


class NoSuch(UsError):
    """There is no such thing."""

    code = "usage.unknown"
    status = 404


class BadValue(UsError):
    """The value cannot be used here."""

    code = "usage.value"
    status = 400


class Offline(WorldError):
    """The server cannot be reached."""

    code = "net.offline"


class Stale(WorldError):
    """The pages answer another state of this node than its present one; they were discarded."""

    code = "pull.stale"
    todo = "Sync again."


class BadReply(WorldError):
    """The server's answer could not be read."""

    code = "net.reply"

"""Advice: held work in a salesman's words — why it waits, and what can be done about it, case by case.

The protocol's codes (PROTOCOL.md §6.2) are for programs; node and server show these words beside the reason the centre gave.
Each piece of advice names what it does (`do`, for programs), the command, and a sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

WHY: Final = {
    "schema": "The centre does not know this table or column yet.",
    "text": "A text has characters that are not valid; it was written by a program with another alphabet.",
    "null": "Something that must be filled in is missing.",
    "type": "A value is not of the kind its column takes.",
    "reference": "Only the central office changes this; it has it as your proposal.",
    "immutable": "What was recorded once is not changed.",
    "depends": "It builds on other work that waits.",
    "parent": "What it belongs to has not reached the centre yet.",
    "row": "The centre never had the row that it changes.",
    "right": "It belongs to a branch or owner this node does not write for.",
    "key": "Its id is taken already by something else.",
    "check": "A rule of the central office's own database refuses it.",
    "long": "A value, or a row, is too long to be sent.",
    "large": "It is too much for one transaction.",
    "gone": "What it builds on was refused or withdrawn.",
    "refused": "The central office refused it.",
    "withdrawn": "It was taken back.",
    "verify": "A repair put the centre's row in its place.",
    "replaced": "A correction has taken its place.",
}
"""Why work waits, by code."""

_WAIT: Final = {
    "schema": "wait until the centre is updated: it goes in by itself then",
    "depends": "decide or correct what it builds on: it goes in by itself then",
    "parent": "wait: it goes in by itself when that arrives, from this node or another",
    "row": "wait: it goes in by itself if that row arrives",
    "right": "wait, if the row is about to come to this node: it goes in by itself then",
    "key": "wait, if the other one is about to move or go: it is tried again by itself then",
}

_CORRECT: Final = {
    "text": "type the text again",
    "null": "fill in what is missing",
    "type": "write a value of the right kind",
    "right": "give it to a branch or owner you write for",
    "key": "give it another id",
    "check": "write what that rule allows",
    "long": "shorten it: it is sent by itself then",
    "parent": "put it under something the centre has",
    "immutable": "take the change back and record a correction, such as a return, as something new",
    "refused": "correct what the office did not like and send it again",
    "gone": "put it under something the centre has and send it again",
    "withdrawn": "send it again, corrected",
    "verify": "type it again, if it was right",
}

_APPROVE: Final = ("reference", "immutable", "right", "key")
"""Codes an approval lets pass; of `key` only for what can change."""

Advice = dict[str, str]


def for_node(identity: str, code: str, verdict: str) -> list[Advice]:
    """Return what the people of a node can do about held, refused or withdrawn work."""
    found = _waits(code) if verdict == "held" else []
    if code in _CORRECT and code != "immutable":
        found.append(_advice("correct", f"outpost node held correct {identity} --set COLUMN=VALUE", _CORRECT[code]))
    if verdict == "refused":
        found.append(
            _advice("withdraw", f"outpost node held withdraw {identity}", "take it off this list; it is kept, and can be exported")
        )
    if verdict != "held":
        return found
    if code == "immutable":
        found.append(_advice("withdraw", f"outpost node held withdraw {identity}", _CORRECT[code]))
    else:
        found.append(_advice("withdraw", f"outpost node held withdraw {identity}", "take it back; it is kept, and can be exported"))
    if code in _APPROVE:
        found.append(_advice("ask", "", "ask the central office to approve it"))
    if code in ("right", "schema", "large", "check"):
        words = {
            "check": "to change that rule, or to let it in",
            "right": "to give this node the right",
            "schema": "to update the centre",
            "large": "for help: it stays here, whole",
        }
        found.append(_advice("ask", "", f"ask the central office {words[code]}"))
    return found


def elsewhere(identity: str) -> list[Advice]:
    """Return what the people of a node can do about held work that the centre has and their disk has not."""
    return [
        _advice("ask", "", "ask the central office, which has it whole: it can approve it or hand it on"),
        _advice("withdraw", f"outpost node held withdraw {identity}", "take it back; the centre keeps it"),
    ]


def for_centre(held: int, code: str, approved: bool, revoked: bool) -> list[Advice]:
    """Return what the central office can do about held work."""
    found = _waits(code)
    if not approved and code in _APPROVE:
        found.append(_advice("approve", f"outpost server approve {held}", "let it in although a rule holds it"))
    if not approved and code in ("depends", "parent", "row"):
        found.append(_advice("approve", f"outpost server approve {held}", "let it in as soon as what it waits for is there"))
    if code == "check":  # approved or not: no cause of ours tells that another program's rule has changed
        found.append(_advice("approve", f"outpost server approve {held}", "try it again, after the trigger, index or check lets it pass"))
    if code == "right" and not revoked:
        found.append(
            _advice("rescope", "outpost server rescope NAME --scope …", "give the node the right; name all its scopes, those it has too")
        )
    if not revoked:
        found.append(_advice("ask", "", "ask its node to correct it, or hand it to somebody who can"))
    found.append(_advice("hand", f"outpost server held hand {held} --to NAME --note TEXT", "say who looks after it"))
    found.append(_advice("refuse", f"outpost server refuse {held} --note TEXT", "put it aside on its node, with the reason"))
    found.append(_advice("withdraw", f"outpost server held withdraw {held}", "take it back for its node; it is kept, and can be exported"))
    return found


def _waits(code: str) -> list[Advice]:
    return [_advice("wait", "", _WAIT[code])] if code in _WAIT else []


def _advice(do: str, command: str, words: str) -> Advice:
    return {"do": do, "command": command, "words": words}


def tell(advice: list[Advice], say: Callable[[str], None]) -> None:
    """Tell people what can be done, a line each."""
    for number, each in enumerate(advice):
        command = f": {each['command']}" if each["command"] else ""
        say(f"  {'You can' if number == 0 else '     or'} {each['words']}{command}")

"""What `outpost node sync` says of copies and restores that it noticed."""

from __future__ import annotations

from typing import Any

from schema.console import count, moment, say


def tell_healed(document: dict[str, Any]) -> None:
    """Say what was noticed of copies and restores, and what came of it."""
    if document["new_history"]:
        say("This database had been restored from a copy, or a copy of it is in use; it goes on under a new history. Nothing doubled.")
        if document["new_series"]:
            say(f"Its receipts get numbers of a series of their own from here on, <till>.{document['new_series']}.")
        say("If a copy is in use on another computer: sync that, then give it an invitation of its own (outpost node rejoin CODE there).")
    if document["came_back"]:
        say(f"{count(document['came_back'], 'transaction')} it had sent, and did not have here, came back from the centre.")
    restored = document["centre_restored"]
    if restored is not None:
        as_of = "" if restored["last_synced_ms"] is None else f" This node had last synced {moment(restored['last_synced_ms'])}."
        say(f"The centre went back to an earlier state: a backup was put back, or a copy of its database that lagged took over.{as_of}")
        again = restored["offered_again"]
        sent = f"{count(again, 'transaction')} of this node that it may have lost {'was' if again == 1 else 'were'} sent again"
        say(f"{sent if again else 'It had lost nothing of this node'}. What others had sent, and it had lost, was offered again too.")
        say("Where nobody can tell which of two values is later, the centre's stands, and the other is on record.")
    if document["taken_anew"]:
        say("This node had been away for longer than the centre keeps what was deleted, so it took everything anew.")
        say("Its own work was kept and sent.")
    if document["pages_not_read_yet"]:
        say("Not all of it could be read there: the centre's program lacks tables or columns of it. Is OUTPOST_TABLES set there as it was?")
        say("What could not be read is kept here, and offered again with the next syncs.")
    if document["too_large_to_offer"]:
        rows = count(document["too_large_to_offer"], "row")
        say(f"The centre may have lost {rows} too large for any message, which therefore cannot be offered again.")
        say("This node keeps that, sealed for the centre. Record it at the central office again, in smaller parts.")

"""What the commands of node/cli.py say of how this node compares with the centre."""

from __future__ import annotations

from typing import Any

from node.proof import Standing
from schema.console import count, moment, say, shown, table


def tell_proof(proven: Standing, now: int, unsynced: int = 0, held: int = 0) -> str:
    """Return what is known of this node against the centre, besides transactions that are unsent or held."""
    at = None if proven.proven_ms is None else moment(proven.proven_ms)
    if at is not None and at[:10] == moment(now)[:10]:
        at = at[11:16]  # today
    if proven.is_proven:
        waits = " and ".join(f"{count(number, 'transaction')} {what}" for number, what in ((unsynced, "unsent"), (held, "held")) if number)
        besides = f"; {waits} {'is' if unsynced + held == 1 else 'are'} not part of that" if waits else ""
        return f"What was exchanged agrees with the centre as of {at}{besides}."
    if proven.differing:
        differ = "differs" if proven.differing == 1 else "differ"
        return f"{count(proven.differing, 'row')} {differ} from the centre, run: outpost node verify --repair"
    return "Not proven identical to the centre yet." if at is None else f"Not proven identical to the centre since {at}."


def tell_verify(found: dict[str, Any]) -> None:
    """Say what a comparison found, after what a repair changed, if there was one."""
    repaired = found.get("repaired")
    if repaired is not None:
        tell_repair(repaired)
    if found["equal"]:
        rows = sum(each["rows"] for each in found["tables"].values())
        besides = f", besides {count(found['held'], 'held transaction')} (outpost node held)" if found["held"] else ""
        at_centre = f"the same as at the centre at version {found['version']}"
        say(f"Equal: {count(rows, 'row')} in {len(found['tables'])} tables, {at_centre}{besides}.")
        return
    say(
        f"Not equal at version {found['version']}: {count(found['differing'], 'row')} {'differs' if found['differing'] == 1 else 'differ'}."
    )
    lines = [(each["table"], shown(each["key"]), each["what"], ", ".join(each.get("columns", ()))) for each in found["rows"]]
    table(dict.fromkeys(("Table", "Key", "What", "Columns"), "left"), lines)
    if found["differing"] > len(lines):
        say(f"… and {count(found['differing'] - len(lines), 'row')} more.")
    if repaired is None:
        say("Nothing was changed. Mend it: outpost node verify --repair")
    else:
        say("What is left could not be mended. Tell the central office.")


def tell_repair(done: dict[str, Any]) -> None:
    """Say what a repair changed."""
    if not done["rows"]:
        say("Nothing had to be mended.")
        return
    lines = [(each["table"], shown(each["key"]), each["what"], ", ".join(each["done"])) for each in done["rows"]]
    table(dict.fromkeys(("Table", "Key", "Was", "Done"), "left"), lines)
    if done["total"] > len(lines):
        say(f"… and {count(done['total'] - len(lines), 'row')} more.")
    if done["mended"]:
        say(f"{count(done['mended'], 'row')} fetched from the centre.")
    if done["put_aside"]:
        say(f"{count(done['put_aside'], 'row')} as they were here put aside, none thrown away. See: outpost node held")
    if done["offered"]:
        say(f"{count(done['offered'], 'row')} that no sync had seen: sent as new work with the next one. Send: outpost node sync")

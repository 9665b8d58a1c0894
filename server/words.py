"""Words: figures of the centre as people read them, the same in the terminal and on the console's pages."""

from __future__ import annotations

from typing import Final

from schema.console import count, moment
from server.report import Freshness

MINOR_DIGITS: Final = {
    **dict.fromkeys(
        ("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"), 0
    ),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    **dict.fromkeys(("CLF", "UYW"), 4),
}
"""Digits after the decimal point where there are not two (ISO 4217)."""


def money(minor: int, currency: str) -> str:
    """Return an amount in major units, without its currency."""
    return decimal(minor, MINOR_DIGITS.get(currency, 2))


def quantity(milli: int) -> str:
    """Return a quantity with as many digits after the point as it needs."""
    return decimal(milli, 3).rstrip("0").rstrip(".")


def decimal(number: int, digits: int) -> str:
    """Return a whole number of small units with a point and thousands set apart, by whole numbers alone."""
    whole, rest = divmod(abs(number), 10**digits)
    sign = "−" if number < 0 else ""
    return f"{sign}{whole:,}{f'.{rest:0{digits}d}' if digits else ''}"


def completeness(fresh: Freshness, whole: bool = True) -> str:
    """Return how complete figures are: 'complete to … for 4 of 5 nodes'; `whole` names the others and says why."""
    if not fresh.nodes:
        return "no node has joined yet"
    nodes = f"{fresh.complete} of {count(fresh.nodes, 'node')}"
    first = (
        f"complete to {moment(fresh.complete_to_ms)} for {nodes}"
        if fresh.complete
        else f"complete for none of {count(fresh.nodes, 'node')}"
    )
    if not whole:
        return first
    behind = [
        f"{each.name}: {count(each.unsynced, 'transaction')} unsent when last heard"
        if each.unsynced
        else f"{each.name}: {'never heard of' if each.last_ms is None else f'silent since {moment(each.last_ms)}'}"
        for each in fresh.behind
    ]
    held = [f"{count(fresh.held, 'held transaction')} not in it (outpost server held)"] if fresh.held else []
    return "; ".join([first, *behind, *held])

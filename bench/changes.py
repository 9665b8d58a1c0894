"""Small changes on a large base: few of many contacts are changed on one node, pushed, and pulled by another."""

from __future__ import annotations

import random
from collections.abc import Sequence

from bench import local, machine, node
from bench.figures import Measured
from bench.pair import Pair
from bench.workload import contacts


def change_round(bases: Sequence[Pair], changed: int, number: int, measured: Measured) -> None:
    """Change as many contacts of each base, neighbours and scattered ones, and insert as many new ones, base after base.

    What is compared with the smallest base is so of the same minute.
    """
    for pair in bases if number % 2 else reversed(bases):
        _changes(pair, changed, number, measured)
    small, *larger = (_name(pair, changed) for pair in bases)
    for name in larger:
        for how in ("neighbours", "scattered"):
            for what in ("push", "pull", "plain UPDATE"):
                as_small = f"{small}, {how}, {what} ms"
                measured.add_ratio(f"{name}, {how}, {what}: times that on {len(bases[0].ids):,}", f"{name}, {how}, {what} ms", as_small)


def memory(pair: Pair, measured: Measured) -> None:
    """Add the most memory that the processes of a base ever held."""
    measured.add(f"memory, MB: node with {len(pair.ids):,} contacts", pair.mine.run(machine.peak_mb))
    measured.add(f"memory, MB: server with {len(pair.ids):,} contacts", machine.peak_mb(pair.centre.pid))


def _name(pair: Pair, changed: int) -> str:
    return f"change of {changed:,} on {len(pair.ids):,}"


def _changes(pair: Pair, changed: int, number: int, measured: Measured) -> None:
    rng, base = random.Random(f"{len(pair.ids)} {number}"), len(pair.ids)
    low = rng.randrange(max(1, base - changed))
    choices = {"neighbours": pair.ids[low : low + changed], "scattered": rng.sample(pair.ids, min(changed, base))}
    for how in sorted(choices, reverse=bool(number % 2)):
        name = f"{_name(pair, changed)}, {how}"
        _change(pair, choices[how], f"{number}-{how}-", name, measured)
    (new,) = contacts(changed, changed, seed=base + number)
    local.insert_contacts(pair.mine.path, new)
    _exchange(pair, changed, f"{changed:,} new beside {base:,}", measured)
    memory(pair, measured)


def _change(pair: Pair, ids: Sequence[str], phone: str, name: str, measured: Measured) -> None:
    """Change one column of each, here and in an ordinary table."""
    local.change_phones(pair.mine.path, ids, phone)
    sent = _exchange(pair, len(ids), name, measured)
    measured.add(f"{name}, bytes a changed cell", sent / len(ids))
    measured.add(f"{name}, plain UPDATE ms", local.change_phones(pair.plain, ids, phone) * 1000)
    for way in ("push", "pull"):
        measured.add_ratio(f"{name}, {way}: times a plain UPDATE", f"{name}, {way} ms", f"{name}, plain UPDATE ms")


def _exchange(pair: Pair, count: int, name: str, measured: Measured) -> int:
    """Push what was written to so many contacts, pull it into the other node, and return the bytes that were sent."""
    pushed = pair.mine.run(node.push)
    pulled = pair.other.run(node.pull)
    assert pushed.pushed == pulled.pulled == count, f"{pushed.pushed} pushed, {pulled.pulled} pulled of {count}"
    measured.add(f"{name}, push ms", pushed.seconds * 1000)
    measured.add(f"{name}, pull ms", pulled.seconds * 1000)
    pair.settle()
    return pushed.sent

"""Every decoder, fed with spoiled input: it reads it or refuses it with an error of ours, soon, and in bounded memory.

A short run; `python3 scripts/fuzz.py decoders` runs for as long as one likes. The rule this checks is P-3.1.
"""

from __future__ import annotations

import json
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from sync import messages, wire
from sync.messages import Message, Segment
from tests.fuzz import corpus
from tests.fuzz.bombs import costly
from tests.fuzz.decoders import MESSAGES, all_targets
from tests.fuzz.mutate import Mutator
from tests.fuzz.run import Tally, run_seed

ROOT = Path(__file__).parents[2]
CASES = 150


def test_whatever_comes_is_read_or_refused(tmp_path: Path) -> None:
    weighted = [target for target in all_targets(tmp_path) for _ in range(target.share)]
    tally = Tally()
    for seed in range(len(weighted)):
        run_seed(weighted, seed, tally, CASES)
    assert not tally.findings, "\n\n".join(tally.findings[:5])
    never_read = {target.name for target in weighted} - tally.read.keys()
    assert not never_read, f"spoiled beyond use: {never_read}"
    assert len(tally.refused) > 10


def test_a_decoder_that_raises_something_else_is_found(tmp_path: Path) -> None:
    """The fuzzer itself: a decoder that lets an error of Python out, and one that does not give back what it read."""
    target = next(target for target in all_targets(tmp_path) if target.name == "column")
    tally = Tally()
    run_seed([type(target)("broken", 1, target.case, lambda case: case[1].decode("ascii"), target.allowed)], 1, tally, 20)
    assert any("UnicodeDecodeError" in finding for finding in tally.findings)


def test_every_message_is_spoiled_with_every_part_it_may_have() -> None:
    """A message or a part of one that is new comes into the vectors (scripts/make_vectors.py), and with that in here."""
    declared = {each for each in vars(messages).values() if isinstance(each, type) and issubclass(each, Message)} - {Message}
    met = set[type]()
    for type_, plains in corpus.plains().items():
        for plain in plains:
            _meet(wire.decode(type_, plain), met)
    assert {each.__name__ for each in declared - met} == set()
    parts = {each for type_ in declared for field in msgspec.structs.fields(type_) for each in _named(field.type)}
    assert declared - parts - {Segment} == set(MESSAGES)


def _meet(value: object, met: set[type]) -> None:
    if isinstance(value, Message):
        met.add(type(value))
        for name in value.__struct_fields__:
            _meet(getattr(value, name), met)
    elif isinstance(value, tuple | list):
        for each in value:
            _meet(each, met)


def _named(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type) and issubclass(annotation, Message):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from _named(inner)


def test_same_seed_same_cases(tmp_path: Path) -> None:
    for target in all_targets(tmp_path)[:20]:
        one, other = (
            [target.case(Mutator(Random(7), target.pool)) for _ in range(10)],
            [target.case(Mutator(Random(7), target.pool)) for _ in range(10)],
        )
        assert repr(one) == repr(other)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measures memory of a process as Linux tells it")
def test_a_small_input_does_not_ask_for_much() -> None:
    done = subprocess.run([sys.executable, "-m", "tests.fuzz.bombs"], cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=120)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) > 10
    assert not list(filter(costly, found))

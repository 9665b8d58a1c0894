"""Errors: stable codes, each once; problem documents that say what happened and what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import msgspec
import pytest

from sync import errors
from sync.columns import MalformedColumn
from sync.errors import BadNonce, Internal, Malformed, MalformedBlock, OutpostError, PeerError, UnknownProtocol, UsError, WorldError


def tree(root: type[OutpostError] = OutpostError) -> Iterator[type[OutpostError]]:
    yield root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


EVERY = pytest.mark.parametrize("error", list(tree()), ids=lambda error: error.__name__)


def test_no_code_means_two_things() -> None:
    codes = [error.code for error in tree()]
    assert sorted(set(codes)) == sorted(codes)


@pytest.mark.covers("P-10.2")
@EVERY
def test_a_problem_document_says_everything(error: type[OutpostError]) -> None:
    document = error("It went wrong.").document()
    assert document == json.loads(msgspec.json.encode(document))
    assert (document["code"], document["type"]) == (error.code, f"urn:outpost:problem:{error.code}")
    assert (document["status"], document["retry"], document["detail"]) == (error.status, error.retry, "It went wrong.")
    assert all(isinstance(document[member], str) for member in ("title", "kept", "todo"))
    assert str(document["title"]).endswith(".")
    assert document["kept"]


@EVERY
def test_a_code_and_a_status_have_their_form(error: type[OutpostError]) -> None:
    assert re.fullmatch(r"[a-z]+\.[a-z_]+", error.code)
    assert 400 <= error.status <= 599
    assert error().message == (error.__doc__ or "").strip().split("\n", 1)[0]


def test_the_tree_is_split_by_whose_fault_it_is() -> None:
    assert {error for error in tree() if error.__base__ is OutpostError} == {PeerError, UsError, WorldError}
    assert not PeerError.retry
    assert WorldError.retry
    assert Internal().retry
    assert BadNonce.retry


def test_an_error_can_carry_more() -> None:
    assert UnknownProtocol(supported=[1]).document()["supported"] == [1]
    assert Malformed("Why.").message == "Why."


def test_a_malformed_column_has_the_code_of_a_malformed_block() -> None:
    assert MalformedColumn.code == MalformedBlock.code
    assert MalformedColumn.retry is MalformedBlock.retry is False


def test_a_subclass_without_words_says_its_code() -> None:
    class Wordless(PeerError):
        code = "test.wordless"

    Wordless.__doc__ = None
    assert Wordless("x").document()["title"] == "test.wordless"
    assert Wordless().message == ""

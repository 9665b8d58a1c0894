"""Messages: bounds on every number, text and list, checked before anything is made of them."""

from __future__ import annotations

import tracemalloc
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
import pytest

from sync.errors import Malformed
from sync.messages import Message, Point, PushRequest
from sync.wire import decode
from tests.vectors.making.frozen import every_message
from tests.vectors.making.messages import valid_messages

DIGEST = bytes(32)


def lists(hint: Any) -> list[Any]:
    """Every tuple type within a type, as (annotated or bare)."""
    if get_origin(hint) is Annotated:
        return [hint] if get_origin(get_args(hint)[0]) is tuple else []
    if get_origin(hint) is tuple:
        return [hint]
    return [found for arm in get_args(hint) for found in lists(arm)]


@pytest.mark.covers("P-3.2")
@pytest.mark.parametrize("message", every_message(), ids=lambda message: message.__name__)
def test_every_list_has_a_bound(message: type[Message]) -> None:
    for name, hint in get_type_hints(message, include_extras=True).items():
        for found in lists(hint):
            assert get_origin(found) is Annotated, f"{message.__name__}.{name}"
            assert get_args(found)[1].max_length is not None


@pytest.mark.covers("P-3.2")
def test_a_long_list_takes_no_memory() -> None:
    elements = 5_000_000
    body = msgspec.msgpack.encode([1, 1, bytes(16), None, [0, DIGEST], [0, DIGEST], [0, DIGEST]])
    body = b"\x9b" + body[1:] + b"\x90" + b"\xdd" + elements.to_bytes(4, "big") + b"\xe0" * elements
    tracemalloc.start()
    try:
        with pytest.raises(Malformed):
            decode(PushRequest, body)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.covers("P-4.5")
@pytest.mark.parametrize(
    ("number", "digest"),
    [
        pytest.param(-2, DIGEST, id="version-too-small"),
        pytest.param(2**62 + 1, DIGEST, id="version-too-great"),
        pytest.param(1.0, DIGEST, id="float"),
        pytest.param(True, DIGEST, id="bool"),
        pytest.param("1", DIGEST, id="text"),
        pytest.param(None, DIGEST, id="null"),
        pytest.param(1, DIGEST[1:], id="digest-too-short"),
        pytest.param(1, DIGEST + b"\0", id="digest-too-long"),
        pytest.param(1, "0" * 32, id="digest-as-text"),
    ],
)
def test_a_point_out_of_bounds(number: Any, digest: Any) -> None:
    with pytest.raises(Malformed):
        decode(Point, msgspec.msgpack.encode([number, digest]))


@pytest.mark.parametrize(("name", "message"), valid_messages(), ids=lambda value: value if isinstance(value, str) else "")
def test_messages_are_values(name: str, message: Message) -> None:
    assert decode(type(message), msgspec.msgpack.encode(message)) == message
    with pytest.raises(AttributeError):
        setattr(message, message.__struct_fields__[0], 1)

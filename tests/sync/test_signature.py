"""Signatures of requests: the vectors another implementation could use, and what they cannot say."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sync import signature
from sync.errors import BadSignature, BadValue, OutpostError

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "signature.json").read_text())
PRIVATE_KEY = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(VECTORS["private_key"]))
PUBLIC_KEY = bytes.fromhex(VECTORS["public_key"])
MEDIA = "application/vnd.outpost.v1+msgpack+zstd"
NONCE = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"


def accept(request: dict[str, Any], public_key: bytes = PUBLIC_KEY) -> signature.Claim:
    claim = signature.read((name, value) for name, value in request["headers"])
    signature.check(claim, public_key, request["method"], request["path"], base64.b64decode(request["body"]))
    return claim


@pytest.mark.parametrize("request_", VECTORS["valid"], ids=lambda vector: vector["name"])
def test_a_valid_request_is_accepted(request_: dict[str, Any]) -> None:
    claim = accept(request_)
    assert (claim.node, claim.nonce) == (request_["node"], request_["nonce"])


@pytest.mark.parametrize("request_", VECTORS["valid"], ids=lambda vector: vector["name"])
@pytest.mark.covers("P-9.3", "P-9.7")
def test_signing_gives_exactly_the_headers_of_the_vector(request_: dict[str, Any]) -> None:
    body = base64.b64decode(request_["body"])
    headers = signature.sign(PRIVATE_KEY, request_["method"], request_["path"], body, MEDIA, request_["node"], request_["nonce"])
    assert list(map(list, headers.items())) == request_["headers"][:5]


@pytest.mark.parametrize("request_", VECTORS["valid"], ids=lambda vector: vector["name"])
@pytest.mark.covers("P-9.4")
def test_what_is_signed_is_the_signature_base_of_the_vector(request_: dict[str, Any]) -> None:
    """The vectors' bases were written out by hand; Ed25519 is deterministic, so their signature is the header's."""
    signed = base64.b64encode(PRIVATE_KEY.sign(request_["base"].encode())).decode()
    assert ["Signature", f"outpost=:{signed}:"] in request_["headers"]


@pytest.mark.parametrize("request_", VECTORS["invalid"], ids=lambda vector: vector["name"])
def test_an_invalid_request_is_refused_with_its_code(request_: dict[str, Any]) -> None:
    with pytest.raises(OutpostError) as refusal:
        accept(request_)
    assert refusal.value.code == request_["error"]


def test_a_stored_key_that_is_no_key_accepts_nothing() -> None:
    with pytest.raises(BadSignature):
        accept(VECTORS["valid"][0], public_key=b"\1" * 31)


@pytest.mark.parametrize("bit", range(0, 64 * 8, 37))
def test_any_bit_of_the_signature_counts(bit: int) -> None:
    request = json.loads(json.dumps(VECTORS["valid"][0]))
    raw = bytearray(base64.b64decode(request["headers"][4][1][len("outpost=:") : -1]))
    raw[bit // 8] ^= 1 << bit % 8
    request["headers"][4][1] = f"outpost=:{base64.b64encode(raw).decode()}:"
    with pytest.raises(BadSignature):
        accept(request)


@pytest.mark.parametrize(
    ("node", "nonce", "media"),
    [
        pytest.param('n1"', NONCE, MEDIA, id="node-with-quotation-mark"),
        pytest.param("n1\nx: y", NONCE, MEDIA, id="node-with-line-break"),
        pytest.param("n1", "short", MEDIA, id="nonce-too-short"),
        pytest.param("n1", NONCE, "text/plain; a=b", id="media-with-parameter"),
    ],
)
def test_what_has_no_room_in_the_profile_is_not_signed(node: str, nonce: str, media: str) -> None:
    with pytest.raises(BadValue):
        signature.sign(PRIVATE_KEY, "POST", "/v1/push", b"", media, node, nonce)

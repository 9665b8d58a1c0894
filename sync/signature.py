"""Signature: who sent this request, and that nobody altered it.

HTTP message signatures (RFC 9421) in one fixed profile, with the body bound in by Content-Digest (RFC 9530):

    outpost-node: n1
    content-digest: sha-256=:…:
    signature-input: outpost=("@method" "@path" "content-digest" "content-type" "outpost-node")\
;keyid="n1";alg="ed25519";nonce="…"
    signature: outpost=:…:

    sign() ─► headers ══► read() ─► Claim ─► the node's key is looked up, the body read ─► check() ─► the nonce is spent

Freshness is the server's nonce alone (RULES §4): no `created`, because a laptop's clock may be a year off. Proxies
rewrite the authority, so it is not covered, and "@path" is the path below the server's base address. Signed requests
have no query. The parser takes exactly this form and no other, each header exactly once.
Spec: PROTOCOL.md §9.1; vectors in tests/vectors/signature.json.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sync.errors import BadSignature, BadValue, Unsigned

NODE: Final = re.compile(r"[A-Za-z0-9._~:-]{1,200}")
"""A node's id in a header."""

NONCE: Final = re.compile(r"[A-Za-z0-9_-]{16,128}")
MEDIA: Final = re.compile(r"[A-Za-z0-9.+/_-]{1,100}")
DIGEST: Final = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):")
SIGNATURE: Final = re.compile(r"outpost=:([A-Za-z0-9+/]{86}==):")
COVERED: Final = '("@method" "@path" "content-digest" "content-type" "outpost-node")'
INPUT: Final = re.compile(rf'outpost=({re.escape(COVERED)};keyid="({NODE.pattern})";alg="ed25519";nonce="({NONCE.pattern})")')
HEADERS: Final = ("content-digest", "content-type", "outpost-node", "signature-input", "signature")


class Claim(msgspec.Struct, frozen=True):
    """What the headers of a request claim, well formed but not yet believed."""

    node: str
    nonce: str
    content_type: str
    digest: bytes  # SHA-256 the body must have
    signature: bytes
    lines: tuple[str, ...]  # of the signature base below "@method" and "@path"


def sign(private_key: Ed25519PrivateKey, method: str, path: str, body: bytes, content_type: str, node: str, nonce: str) -> dict[str, str]:
    """Return the headers that sign this request, Content-Type and Outpost-Node among them.

    `path` is the path below the server's base address, without a query. Raises BadValue for a node id, nonce or content
    type that the profile has no room for.
    """
    if not (NODE.fullmatch(node) and NONCE.fullmatch(nonce) and MEDIA.fullmatch(content_type)):
        raise BadValue("The node's id, the nonce or the content type cannot be written in a signature.")
    digest = f"sha-256=:{_base64(hashlib.sha256(body).digest())}:"
    params = f'{COVERED};keyid="{node}";alg="ed25519";nonce="{nonce}"'
    signature = private_key.sign(_base(method, path, _lines(digest, content_type, node, params)))
    return {
        "Content-Type": content_type,
        "Content-Digest": digest,
        "Outpost-Node": node,
        "Signature-Input": f"outpost={params}",
        "Signature": f"outpost=:{_base64(signature)}:",
    }


def read(headers: Iterable[tuple[str, str]]) -> Claim:
    """Return what a request's headers claim; names in any case, other headers ignored. Raises Unsigned."""
    found: dict[str, str] = {}
    for name, value in headers:
        if (key := name.lower()) in HEADERS:
            if key in found:
                raise Unsigned(f"The header {key} comes twice.")
            found[key] = value
    if missing := [name for name in HEADERS if name not in found]:
        raise Unsigned(f"The request has no header {missing[0]}.")
    parts = INPUT.fullmatch(found["signature-input"])
    if parts is None or parts[2] != found["outpost-node"]:
        raise Unsigned("The header signature-input is not of the form this protocol uses.")
    if not MEDIA.fullmatch(found["content-type"]):
        raise Unsigned("The header content-type is not of the form this protocol uses.")
    return Claim(
        node=parts[2],
        nonce=parts[3],
        content_type=found["content-type"],
        digest=_bytes(DIGEST, "content-digest", found),
        signature=_bytes(SIGNATURE, "signature", found),
        lines=_lines(found["content-digest"], found["content-type"], parts[2], parts[1]),
    )


def check(claim: Claim, public_key: bytes, method: str, path: str, body: bytes) -> None:
    """Return if the claim is true of this request: body digest and signature match. Raises BadSignature.

    `public_key` is the 32 bytes stored for the claimed node.
    """
    if hashlib.sha256(body).digest() != claim.digest:
        raise BadSignature("The body is not the one that was signed.")
    try:
        key = Ed25519PublicKey.from_public_bytes(public_key)
        key.verify(claim.signature, _base(method, path, claim.lines))
    except (InvalidSignature, ValueError):
        raise BadSignature from None


def _lines(digest: str, content_type: str, node: str, params: str) -> tuple[str, ...]:
    return (
        f'"content-digest": {digest}',
        f'"content-type": {content_type}',
        f'"outpost-node": {node}',
        f'"@signature-params": {params}',
    )


def _base(method: str, path: str, lines: tuple[str, ...]) -> bytes:
    """Return the signature base of RFC 9421 §2.5."""
    return "\n".join((f'"@method": {method}', f'"@path": {path}', *lines)).encode()


def _bytes(form: re.Pattern[str], name: str, found: dict[str, str]) -> bytes:
    """Return the bytes of a base64 header, which has exactly one spelling."""
    match = form.fullmatch(found[name])
    if match is None or _base64(data := base64.b64decode(match[1])) != match[1]:
        raise Unsigned(f"The header {name} is not of the form this protocol uses.")
    return data


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()

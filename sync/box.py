"""Boxes: bytes that only the centre can open. What a node keeps to offer again after a restore may have left its scope,
and what leaves its scope must not be readable on its disk (RULES §4, H11).

A box is: ephemeral X25519 public key (32) ‖ ChaCha20-Poly1305 of the content, under the key that HKDF-SHA256 derives from
both sides' secret. Every box has a key of its own, so the nonce is zero. Spec: PROTOCOL.md §7.7.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sync.errors import Malformed

KEY_BYTES: Final = 32
OVERHEAD_BYTES: Final = KEY_BYTES + 16
_NONCE: Final = bytes(12)
_INFO: Final = b"outpost/box/1"


def new_key() -> bytes:
    """Return a private key, 32 bytes."""
    return X25519PrivateKey.generate().private_bytes_raw()


def public_key(private: bytes) -> bytes:
    """Return the public half of a private key, 32 bytes."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def close(public: bytes, content: bytes) -> bytes:
    """Return content in a box that only the owner of the private key opens."""
    ephemeral = X25519PrivateKey.generate()
    mine = ephemeral.public_key().public_bytes_raw()
    return mine + _cipher(ephemeral.exchange(X25519PublicKey.from_public_bytes(public)), mine + public).encrypt(_NONCE, content, None)


def open_box(private: bytes, box: bytes) -> bytes:
    """Return what is in a box. Raises Malformed for one that was not closed for this key."""
    theirs, own = box[:KEY_BYTES], X25519PrivateKey.from_private_bytes(private)
    try:
        secret = own.exchange(X25519PublicKey.from_public_bytes(theirs))
        return _cipher(secret, theirs + own.public_key().public_bytes_raw()).decrypt(_NONCE, box[KEY_BYTES:], None)
    except (InvalidTag, ValueError) as error:
        raise Malformed("a box was not closed for this centre") from error


def _cipher(secret: bytes, keys: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(HKDF(SHA256(), 32, keys, _INFO).derive(secret))

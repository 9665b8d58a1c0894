"""The vectors of boxes (PROTOCOL.md §7.7), made step by step beside sync/box.py, whose ephemeral key nobody can choose."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

OWNER, EPHEMERAL = bytes(range(32)), bytes(range(32, 64))
CONTENTS = (b"", b"one", bytes(range(256)))


def box_vectors() -> dict[str, Any]:
    """Return the vectors of [P-7.21]."""
    boxes = [(content, _closed(content)) for content in CONTENTS]
    spoiled = boxes[1][1]
    broken = {
        "a byte of the content": spoiled[:-1] + bytes([spoiled[-1] ^ 1]),
        "a byte of the key": bytes([spoiled[0] ^ 1]) + spoiled[1:],
        "too short": spoiled[:40],
        "empty": b"",
    }
    return {
        "about": "Boxes for the owner of a private X25519 key. An encoder draws an ephemeral key for each; these show theirs.",
        "private": OWNER.hex(),
        "public": _public(OWNER).hex(),
        "valid": [{"ephemeral": EPHEMERAL.hex(), "content": content.hex(), "box": box.hex()} for content, box in boxes],
        "invalid": [{"name": name, "box": box.hex(), "error": "wire.malformed"} for name, box in broken.items()],
    }


def _public(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def _closed(content: bytes) -> bytes:
    ephemeral, keys = X25519PrivateKey.from_private_bytes(EPHEMERAL), _public(EPHEMERAL) + _public(OWNER)
    secret = ephemeral.exchange(X25519PrivateKey.from_private_bytes(OWNER).public_key())
    key = HKDF(algorithm=SHA256(), length=32, salt=keys, info=b"outpost/box/1").derive(secret)
    return _public(EPHEMERAL) + ChaCha20Poly1305(key).encrypt(bytes(12), content, None)

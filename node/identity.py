"""Identity: the node's private key, in a file of its own beside the database, readable by its owner only.

Kept outside the database so that a copied or restored database alone is not the node (ENGINE §8).
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from sync.errors import NotJoined

FILE = "node.key"


def create(home: Path) -> Ed25519PrivateKey:
    """Return the key in a home, making one if there is none: joining again after a lost reply shows the same key."""
    path = home / FILE
    if path.exists():
        return load(home)
    home.mkdir(parents=True, exist_ok=True)
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    return key


def load(home: Path) -> Ed25519PrivateKey:
    """Return the key in a home. Raises NotJoined."""
    try:
        key = load_pem_private_key((home / FILE).read_bytes(), None)
    except FileNotFoundError:
        raise NotJoined(f"The node's key is missing ({home / FILE}).") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise NotJoined(f"The node's key is not an Ed25519 key ({home / FILE}).")
    return key


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """Return the public half, 32 bytes."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

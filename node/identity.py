"""Identity: the node's private key, in a file of its own beside the database, readable by its owner only.

Kept outside the database so that a copied or restored database alone is not the node (ENGINE §8).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from schema.files import write_whole
from sync.errors import UsError

FILE: Final = "node.key"
_ANOTHER: Final = "ask the central office for an invitation under another name, then: outpost node rejoin CODE. All work here stays."


class NoKey(UsError):
    """The node's key is missing or cannot be used."""

    code = "home.key"
    status = 409


class DamagedKey(NoKey):
    """The node's key cannot be read."""


def create(home: Path, *, instead_of_damaged: bool = False) -> Ed25519PrivateKey:
    """Return the key in a home, making one if there is none: joining again after a lost reply shows the same key.

    `instead_of_damaged`: also where there is one that cannot be read. Raises DamagedKey.
    """
    if (home / FILE).exists():
        try:
            return load(home)
        except DamagedKey:
            if not instead_of_damaged:
                raise
    home.mkdir(parents=True, exist_ok=True)
    key = Ed25519PrivateKey.generate()
    write_whole(home / FILE, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii"))
    return key


def load(home: Path) -> Ed25519PrivateKey:
    """Return the key in a home. Raises NoKey, DamagedKey."""
    path = home / FILE
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except FileNotFoundError:
        raise NoKey(f"The node's key is missing ({path}). If you have it, put it back. If not: {_ANOTHER}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _damaged(path) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _damaged(path)
    return key


def _damaged(path: Path) -> DamagedKey:
    return DamagedKey(f"The node's key ({path}) is damaged. Put the right one in its place, or move it away. In that case: {_ANOTHER}")


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """Return the public half, 32 bytes."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

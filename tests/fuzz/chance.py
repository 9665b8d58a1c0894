"""Chance from a seed, in our own code too: what `secrets` draws, and the keys of boxes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from types import SimpleNamespace
from unittest.mock import patch

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from sync import box


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let everything that is drawn at random in this process follow from a seed while the block runs."""
    random = Random(f"chance {seed}")  # not the stream that requests are drawn from
    of_bytes = X25519PrivateKey.from_private_bytes
    keys = SimpleNamespace(generate=lambda: of_bytes(random.randbytes(32)), from_private_bytes=of_bytes)
    with (
        patch.object(secrets, "token_bytes", random.randbytes),
        patch.object(secrets, "choice", random.choice),
        patch.object(secrets, "token_urlsafe", lambda size: random.randbytes(size).hex()[: size * 4 // 3]),
        patch.object(box, "X25519PrivateKey", keys),
        patch.object(os, "urandom", random.randbytes),
    ):
        yield

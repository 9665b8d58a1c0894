"""Chance from a seed, in our own code too: what `secrets` draws, and the keys of boxes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from unittest.mock import patch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let everything that is drawn at random in this process follow from a seed while the block runs."""
    random = Random(seed)
    with (
        patch.object(secrets, "token_bytes", random.randbytes),
        patch.object(secrets, "choice", random.choice),
        patch.object(secrets, "token_urlsafe", lambda size: random.randbytes(size).hex()[: size * 4 // 3]),
        patch.object(os, "urandom", random.randbytes),
    ):
        yield

"""Processes of the benchmark's own that work for it: one each for a node and for the herd."""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from types import FrameType


def worker() -> ProcessPoolExecutor:
    """Return an executor of one fresh process. Ctrl-C, which a terminal sends to all of them, ends it without a word."""
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=_end_quietly)


def _end_quietly() -> None:
    signal.signal(signal.SIGINT, _end)
    signal.signal(signal.SIGTERM, _end)


def _end(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)

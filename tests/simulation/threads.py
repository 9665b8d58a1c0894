"""Threads of the engine, run in one thread and in an order that the seed draws."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any


class _Later:
    """A call that somebody else makes: at once, or when its result is asked for. Both are orders that threads may take."""

    def __init__(self, call: Callable[[], Any], at_once: bool) -> None:
        self._call, self._done, self._result = call, False, None
        self._error: BaseException | None = None
        if at_once:
            self._run()

    def _run(self) -> None:
        self._done = True
        try:
            self._result = self._call()
        except BaseException as error:
            self._error = error

    def result(self) -> Any:
        if not self._done:
            self._run()
        if self._error is not None:
            raise self._error
        return self._result


class OneThread:
    """What a ThreadPoolExecutor does, in one thread and in an order that the seed draws."""

    random = Random(0)

    def __init__(self, *_arguments: object) -> None: ...

    def __enter__(self) -> OneThread:
        return self

    def __exit__(self, *_error: object) -> None: ...

    def submit(self, call: Callable[..., Any], *arguments: Any) -> _Later:
        return _Later(lambda: call(*arguments), self.random.random() < 0.5)

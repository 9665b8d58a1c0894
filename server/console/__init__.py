"""Console: the centre's own pages, rendered on the server."""

from __future__ import annotations

from collections.abc import Callable

from starlette.routing import BaseRoute

from server.database import Database


def routes(database: Database, clock_ms: Callable[[], int]) -> list[BaseRoute]:
    """Return the console's pages."""
    return []

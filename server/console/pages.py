"""Pages: the console's routes. Each reads one snapshot, renders a template and sends it with a policy that forbids the rest."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import jinja2
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from schema.console import moment, plain
from server.console import figures, guard, picture
from server.database import Database
from server.replies import problem_response
from server.words import completeness, money, quantity
from sync.errors import NotFound

FOLDER: Final = Path(__file__).parent
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
STATIC: Final = {"console.css": "text/css", "icon.svg": "image/svg+xml"}


def routes(database: Database, clock_ms: Callable[[], int]) -> list[BaseRoute]:
    """Return the console's pages, for create_app(extra_routes=…)."""
    templates = _environment()

    def first(request: Request) -> Response:
        with database.reading() as store:
            found = figures.read(store, clock_ms())
        page = templates.get_template("first.html").render(figures=found, limits=figures, picture=picture)
        return Response(page, media_type="text/html")

    def static(request: Request) -> Response:
        name = request.scope["path"].removeprefix("/console/")
        return Response((FOLDER / "static" / name).read_bytes(), media_type=STATIC[name])

    return [
        Route("/", _guarded(first), methods=["GET"]),
        *(Route(f"/console/{name}", _guarded(static), methods=["GET"]) for name in STATIC),
    ]


def _guarded(page: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """Return the page for browsers on this machine only. It is called in a worker thread."""

    def guarded(request: Request) -> Response:
        try:
            guard.require_this_machine(request)
        except NotFound as error:
            return problem_response(error)
        response = page(request)
        response.headers.update(HEADERS)
        return response

    return guarded


def _environment() -> jinja2.Environment:
    """Return the templates, with everything escaped that is not markup of their own."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    made.filters |= {"moment": moment, "iso": _iso, "ago": figures.ago, "money": money, "quantity": quantity, "amount": figures.amount}
    made.globals |= {"completeness": completeness, "zone": _zone}
    return made


def _finalize(value: Any) -> Any:
    """Take from other programs' texts what could steer how a page reads; numbers and markup stay."""
    return plain(value) if type(value) is str else value


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")


def _zone(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000).astimezone().strftime("UTC%z")

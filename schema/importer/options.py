"""The options of `outpost node import` and `outpost server import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Mapping = Annotated[str, typer.Argument(metavar="MAPPING", help="A mapping's name (online_retail, northwind) or a TOML file.")]
Paths = Annotated[list[Path], typer.Argument(metavar="PATH…", help="Files or folders; .gz too.")]
Branch = Annotated[str | None, typer.Option("--branch", help="Only this branch's rows.", show_default=False)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would happen; write nothing.")]
BringBack = Annotated[bool, typer.Option("--bring-back", help="Also what an earlier import brought and was deleted since.")]

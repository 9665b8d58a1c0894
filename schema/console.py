"""Console: what the commands of node and server share — where home is, one JSON document or plain words, what went wrong.

    outpost node --home N sync --json ─► root callback ─► at(ctx, …) ─► Terminal ─► the command ─► Terminal.show
                                                                                      │ any error
                                                    {"error": …} ◄─ schema/cli.run ◄─ Part.invoke puts it into words

`--home` and `--json` are taken before the subcommand and after it. With --json standard output gets exactly one
document; progress goes to standard error, and only when that is a terminal. People get plain lines and tables, in which
nothing that came from another program can steer the terminal.

Errors (they travel to schema/cli.run, which needs `code` and `retry`):

    CommandFailed    any error of our trees, with its words for people: what happened, what was kept, what to do
    HomeUnusable     environment: disk full, no permission; HomeDamaged: a damaged file
"""

from __future__ import annotations

import json
import math
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, get_type_hints

import platformdirs
import typer
from typer.core import TyperGroup

from schema.dialects.base import DISK_ERRORS
from schema.lock import HomeBusy
from sync.errors import BadValue, OutpostError, UsError, WorldError
from sync.values import RawText, is_clean

HOME_VARIABLE: Final = "OUTPOST_HOME"
_TEXT: Final = (str, str | None)
_TEXTS: Final = (list[str], list[str] | None)
"""How commands declare what is text: one, and any number of them."""

WIDTH_WITHOUT_TERMINAL: Final = 160
"""Columns of a table that goes to a file or a pipe."""

HOME_HELP = "Folder of its database and keys; by default OUTPOST_HOME, else this system's usual place."
JSON_HELP = "Print exactly one JSON document, for programs."

Home = Annotated[Path | None, typer.Option("--home", help=HOME_HELP, show_default=False)]
Json = Annotated[bool, typer.Option("--json", help=JSON_HELP)]
ScopeOption = Annotated[list[str], typer.Option("--scope", help="A scope key such as branch:LON or owner:e17; repeat it for more.")]

_named_home: ContextVar[tuple[str, Path] | None] = ContextVar("_named_home", default=None)
"""The part that runs and the home it was called with by --home: the commands it suggests carry it too."""

_LINES_SHOWN = 20
_BUSY = frozenset({5, 6})  # SQLITE_BUSY, LOCKED
_DAMAGED = frozenset({11, 26})  # CORRUPT, NOTADB


class CommandFailed(Exception):
    """A command could not be done. The text says what happened, what was kept and what to do next."""

    def __init__(self, code: str, message: str, *, retry: bool = False) -> None:
        super().__init__(message)
        self.code, self.retry = code, retry


class HomeUnusable(WorldError):
    """The home's files cannot be used."""

    code = "home.unusable"
    retry = False
    kept = "What was committed before is safe."
    todo = "Look at the disk's space and the folder's permissions, then try again."


class NoFolder(HomeUnusable):
    """A folder is not there."""

    kept = "Nothing was changed."
    todo = "Make it, or name another, then try again."


class HomeDamaged(HomeUnusable):
    """The home's database is damaged."""

    kept = ""
    todo = "The damaged file is kept aside then."


class Part(TyperGroup):
    """The group of one part's commands: puts every error of ours into words."""

    def invoke(self, ctx: Any) -> Any:
        """Carry out the command."""
        before = _named_home.set(None)
        try:
            return super().invoke(ctx)
        except OutpostError as error:
            raise CommandFailed(error.code, with_home(in_words(error)), retry=error.retry) from error
        except Exception as error:
            translated = _environment(error, ctx)
            if translated is None:
                raise
            raise CommandFailed(translated.code, with_home(in_words(translated)), retry=translated.retry) from error
        finally:
            _named_home.reset(before)


def with_home(text: str) -> str:
    """Return a text with the home this command was called with in the commands that it suggests."""
    named = _named_home.get()
    if named is None:
        return text
    part, home = named
    typed = shlex.quote(str(home)) if os.name == "posix" else f'"{home}"'
    return text.replace(f"outpost {part} ", f"outpost {part} --home {typed} ")


def in_words(error: OutpostError) -> str:
    """Return what happened, what was kept, what to do next."""
    kept = "" if isinstance(error, UsError) else error.kept
    return " ".join(part for part in (_sentence(error.message), kept, error.todo) if part)


def _sentence(text: str) -> str:
    return text if not text or text[-1] in ".!?" else f"{text}."


def _environment(error: Exception, ctx: Any) -> OutpostError | None:
    """Return the error of ours that an error of the database or the disk stands for, or None if it is our mistake."""
    if type(error).__module__.startswith(("sqlcipher3", "sqlite3")):
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _BUSY:
            return HomeBusy("Another program kept the database to itself for too long. Nothing was changed; try again.")
        if code in _DAMAGED:
            part, home = _named_home.get() or (ctx.obj.part, ctx.obj.home)
            return HomeDamaged(f"The database in {home} is damaged: {error}. Restore a backup: outpost {part} restore FILE")
        return HomeUnusable(f"The database cannot be used: {error}.") if code in DISK_ERRORS else None
    if isinstance(error, FileNotFoundError) and error.filename and not (folder := Path(os.fsdecode(error.filename)).parent).is_dir():
        return NoFolder(f"There is no folder {folder}.")
    if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
        return HomeUnusable(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}.")
    return None


@dataclass(frozen=True, slots=True)
class Terminal:
    """Who asked: where the home is, and whether a program reads the answer."""

    home: Path
    as_json: bool
    part: str

    def show(self, document: object, tell: Callable[[], None]) -> None:
        """Print the document for programs, or tell people."""
        if self.as_json:
            print(as_text(_runnable(document)).encode(errors="backslashreplace").decode(), flush=True)  # a path may be of any bytes
        else:
            tell()


def usual_home(part: str) -> Path:
    """Return where a part lives when nobody says: OUTPOST_HOME, else the platform's folder for data."""
    named = os.environ.get(HOME_VARIABLE)
    return Path(named) if named else platformdirs.user_data_path("outpost", appauthor=False) / part


def begin(ctx: typer.Context, part: str, home: Path | None, as_json: bool) -> None:
    """Take what was said before the subcommand."""
    _named_home.set((part, home) if home else None)
    ctx.obj = Terminal(home or usual_home(part), as_json, part)


def at(ctx: typer.Context, home: Path | None, as_json: bool) -> Terminal:
    """Return the terminal, with what was said after the subcommand. Raises BadValue for text that no database could hold."""
    _require_text(ctx)
    before: Terminal = ctx.obj
    if home:
        _named_home.set((before.part, home))
    return Terminal(home or before.home, as_json or before.as_json, before.part)


def _require_text(ctx: typer.Context) -> None:
    """Refuse bytes that are not UTF-8 where a text is meant; a path may be made of any."""
    declared = get_type_hints(ctx.command.callback)
    for name, given in ctx.params.items():
        texts = given if declared.get(name) in _TEXTS else [given] if declared.get(name) in _TEXT else None
        if not all(map(is_clean, filter(None, texts or ()))):
            raise BadValue(f"{given!a} is not text in UTF-8. Nothing was changed. Set the terminal to UTF-8 and type it again.")


def now_ms() -> int:
    """Return the time, milliseconds UTC."""
    return time.time_ns() // 1_000_000


# --- for programs -----------------------------------------------------------------------------------------------------


def as_text(document: object) -> str:
    """Return a document as JSON on one line, in characters that standard output has."""
    unicode = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "").startswith("utf")
    try:
        return json.dumps(document, ensure_ascii=not unicode, allow_nan=False, default=_plain)
    except ValueError:  # an infinite number of a foreign program, for which JSON has no word
        return json.dumps(_finite(document), ensure_ascii=not unicode, allow_nan=False, default=_plain)


def _runnable(document: object) -> object:
    """Return a document whose suggested commands (`command`) carry the home this one was called with."""
    if _named_home.get() is None:
        return document
    if isinstance(document, Mapping):
        return {
            name: with_home(each) if name == "command" and isinstance(each, str) else _runnable(each) for name, each in document.items()
        }
    return [_runnable(each) for each in document] if isinstance(document, list | tuple) else document


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, RawText):
        return value.raw.decode("utf-8", "replace")
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} in a document")


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value


# --- for people -------------------------------------------------------------------------------------------------------


def say(text: str = "") -> None:
    """Print a line; commands it suggests carry the home this one was called with."""
    print(printable(with_home(text)))


def plain(value: object) -> str:
    """Return a value as text of visible characters and line breaks; what could steer a reader's device becomes a space."""
    text = "" if value is None else str(value)
    return "".join(char if char.isprintable() or char == "\n" else " " for char in text)


def printable(value: object) -> str:
    """Return a value as text without what could steer a terminal; the encoding of the terminal loses what it lacks."""
    text = plain(value)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def table(columns: Mapping[str, str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table. `columns`: heading → "left" or "right"."""
    from rich import box  # not at the top: a command that prints JSON does not pay for it
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    plain_box = box.SIMPLE_HEAD if printable("─") == "─" else box.ASCII2
    drawn = Table(box=plain_box, pad_edge=False, header_style="bold")
    for name, side in columns.items():
        drawn.add_column(name, justify="right" if side == "right" else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(printable(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL, highlight=False).print(drawn)


def count(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: 1 row, 2 rows."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def moment(ms: int | None) -> str:
    """Return an instant in this machine's own time, or 'never'."""
    if ms is None:
        return "never"
    try:
        return datetime.fromtimestamp(ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return f"{ms} ms"


def shown(value: object) -> str:
    """Return a cell's value for people: nothing is told apart from an empty text."""
    if value is None:
        return "—"
    if isinstance(value, list | tuple):
        return ", ".join(shown(part) for part in value)
    return "''" if value == "" else printable(value)


def shown_import(report: Mapping[str, Any]) -> None:
    """Tell what an import did, or would do."""
    would = "Nothing was written; this is what would happen." if report["dry_run"] else "Done."
    say(f"Import with the mapping {report['mapping']}{' for branch ' + report['branch'] if report['branch'] else ''}. {would}")
    kinds = {"new": "new", "same": "there already", "differs": "there, but differs", "deleted": "gone since"}
    told = [kind for kind in kinds if kind in ("new", "same") or any(numbers[kind] for numbers in report["rows"].values())]
    table(
        {"Table": "left", **{kinds[kind]: "right" for kind in told}},
        [(name, *(f"{numbers[kind]:,}" for kind in told)) for name, numbers in report["rows"].items()],
    )
    for name, number in report["notes"].items():
        say(f"{name.replace('_', ' ')}: {number:,}")
    if report["left_count"]:
        say(f"{count(report['left_count'], 'row')} left as they are here, or left out because they are gone since. The first of them:")
        _listed_lines(report["left"])
    if report["rejected_count"]:
        say(f"{count(report['rejected_count'], 'line')} left out; everything else went in. The first of them:")
        _listed_lines(report["rejected"])
        say("All of them: the same command with --json. Mend the file and import it again: what is there already stays as it is.")


def _listed_lines(lines: Sequence[Mapping[str, Any]]) -> None:
    columns = {"File": "left", "Line": "right", "Why": "left"}
    table(columns, [(each["file"], each["line"], each["reason"]) for each in lines[:_LINES_SHOWN]])


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on standard error while the block runs, if that is a terminal. The block calls (done, of how many; 0: unknown)."""
    with progress_of(title, {"": (title, "", 1)}) as told:
        yield lambda done, total: told("", done, total)


@contextmanager
def progress_of(title: str, steps: Mapping[str, tuple[str, str, int]]) -> Iterator[Callable[[str, int, int], None]]:
    """Show such a bar of one step after the other, a title before the first. The block calls (step, done, of how many; 0: unknown).

    `steps`: of each its title, the unit that is shown, and how many of what the block counts make one of it.
    """
    if not sys.stderr.isatty():
        yield lambda _step, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task, last = bar.add_task(title, total=None, rate=""), ""

        def tell(step: str, done: int, total: int) -> None:
            nonlocal last
            name, unit, many = steps[step]
            if step != last:
                bar.reset(task, description=name, total=None)
                last = step
            speed = bar.tasks[0].speed
            rate = f"{speed:,.0f} {unit}/s" if unit and speed else unit
            bar.update(task, completed=done // many, total=total // many or None, rate=rate)

        yield tell

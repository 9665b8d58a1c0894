"""The `outpost` command: one program made of parts that do not know each other.

A part is a Typer app (`node`, `server`, `demo`) announced as an entry point of the group `outpost.commands`. The part
named on the command line is loaded, the others are not, so `outpost node status` never pays for the server's web
stack, and no import statement crosses the layers. `outpost --help` loads all, for their first lines.

    outpost node sync --json ─► main ─► run ─► Outpost.get_command("node") ─► node.cli:app

Every failure ends in `run`: for people one line on standard error; with --json one document on standard output,
{"error": {"code": ..., "message": ...}}. Exit status 0 done, 1 could not be done, 2 wrong usage. A command returns
None or raises `typer.Exit(status)` after it has printed its own document. Ctrl-C ends it with 130.

Errors:

    CommandUnavailable   environment: a part is announced but cannot be loaded
"""

import gc
import json
import os
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from typing import Annotated, Any, Protocol

import typer
from typer.core import TyperGroup

GROUP = "outpost.commands"
DISTRIBUTION = "outpost-sync"
ABOUT = "Record sales and contacts without a network; sync them when there is one."

DONE, FAILED, WRONG_USAGE, STOPPED = 0, 1, 2, 130


class Part(Protocol):
    """What is used of an entry point: `importlib.metadata.EntryPoint`, or a stand-in in tests."""

    @property
    def name(self) -> str:
        """Return the word that selects the part."""

    @property
    def value(self) -> str:
        """Return where its app is, as `module:attribute`."""

    def load(self) -> Any:
        """Import the module and return the Typer app."""


class Command(Protocol):
    """What is used of a command made by Typer."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> Any:
        """Parse the arguments and carry them out."""


class CommandUnavailable(Exception):
    """A part of the program is announced but cannot be loaded: a broken or partial installation."""

    code = "cli.unavailable"
    retry = False


class Outpost(TyperGroup):
    """The root group: knows its parts by name and loads one when it is asked for."""

    parts: Mapping[str, Part]

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all parts; loads none."""
        return list(self.parts)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the part as a command, None if there is none of that name; one that is broken says so when run."""
        part = self.parts.get(cmd_name)
        return None if part is None else loaded(part)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program with the given arguments, by default the process's own; return the exit status."""
    collect_rarely()
    return run(program(metadata.entry_points(group=GROUP)), sys.argv[1:] if arguments is None else arguments)


def collect_rarely() -> None:
    """Let the cyclic collector look after 50,000 new objects, not 700. Rows make no cycles; it took a tenth of every exchange."""
    gc.set_threshold(50_000, 20, 20)


def program(parts: Iterable[Part]) -> Outpost:
    """Return the root command over the given parts, in the order of their names."""
    app = typer.Typer(
        cls=Outpost,
        name="outpost",
        help=ABOUT,
        add_completion=False,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(root)
    group = typer.main.get_group(app)
    assert isinstance(group, Outpost)
    group.parts = {part.name: part for part in sorted(parts, key=lambda part: part.name)}
    return group


def run(command: Command, arguments: Sequence[str], name: str = "outpost") -> int:
    """Carry out a command and return its exit status; every failure is told here, and only here.

    An error of our own trees (it has a `code` and a `retry`) is told by its message. Any other is our mistake: its
    traceback goes to standard error.
    """
    as_json = "--json" in arguments
    try:
        status = command.main(args=list(arguments), prog_name=name, standalone_mode=False)
    except typer.Abort:
        return tell("cli.aborted", "Stopped before anything was done.", as_json)
    except BrokenPipeError:  # whoever read the output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:
        if hasattr(error, "format_message"):  # Typer's usage errors; their base class has no public name
            return wrong_usage(error, as_json)
        code = getattr(error, "code", None)
        if isinstance(code, str) and hasattr(error, "retry"):
            return tell(code, str(error), as_json)
        traceback.print_exc()
        return tell("cli.internal", f"{type(error).__name__}: {error}", as_json)
    if status == STOPPED:  # Ctrl-C, as Typer returns it
        tell("cli.stopped", "Stopped; nothing is lost.", as_json)
    return status if type(status) is int else DONE


def print_version(wanted: bool) -> None:
    """Print the program's name and version, then end."""
    if wanted:
        typer.echo(f"outpost {metadata.version(DISTRIBUTION)}")
        raise typer.Exit


def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", callback=print_version, is_eager=True)] = False,
) -> None:
    """Take the options of the root itself; its help text is ABOUT."""


def loaded(part: Part) -> Any:
    """Return the part as a command ready to run, or one that fails with the reason why it cannot be loaded."""
    try:
        command: Any = typer.main.get_command(part.load())
    except Exception as error:  # its modules may fail in any way; the other parts, and --help, must go on
        return unavailable(part, error)
    command.name = part.name
    command.params = [param for param in command.params if param.name not in ("install_completion", "show_completion")]
    return command


def unavailable(part: Part, error: Exception) -> Any:
    """Return a command that takes any arguments and fails with the reason."""
    reason = f"{type(error).__name__}: {error}"
    app = typer.Typer(add_completion=False)

    @app.command(
        part.name,
        help=f"(cannot be loaded: {reason})",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    def fail() -> None:
        raise CommandUnavailable(
            f"The command '{part.name}' ({part.value}) cannot be loaded: {reason}. Nothing was done. "
            f"Install {DISTRIBUTION} again, with its dependencies."
        ) from error

    return typer.main.get_command(app)


def wrong_usage(error: Any, as_json: bool) -> int:
    """Tell what was wrong with the command line, the way Typer words it; return its exit status."""
    if as_json:
        tell("cli.usage", error.format_message() or "A command is missing.", as_json)
    else:
        error.show()
    return int(error.exit_code)


def tell(code: str, message: str, as_json: bool) -> int:
    """Tell a failure to a person or to a program; return the exit status for it."""
    message = message.encode(errors="backslashreplace").decode()  # it may name what was typed, of any bytes
    if as_json:
        print(json.dumps({"error": {"code": code, "message": message}}, ensure_ascii=False))
    else:
        print(f"outpost: {message}", file=sys.stderr)
    return WRONG_USAGE if code.startswith("usage.") else FAILED


if __name__ == "__main__":
    sys.exit(main())

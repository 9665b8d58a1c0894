"""The command's root: one part is loaded, failures are told once, exit statuses mean what they say."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

import pytest
import typer

from schema.cli import main, program, run


@dataclass
class FakePart:
    """An entry point that remembers whether it was loaded."""

    name: str
    make: Callable[[], object]
    value: str = "somewhere.cli:app"
    loads: list[str] = field(default_factory=list)

    def load(self) -> object:
        self.loads.append(self.name)
        return self.make()


class Offline(Exception):
    code = "node.offline"
    retry = True


def make_node() -> typer.Typer:
    app = typer.Typer(help="A replica at work.")

    @app.command()
    def sync(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
        raise Offline("The server does not answer. Nothing is lost; try again later.")

    @app.command()
    def status(home: str = "here", as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
        print(json.dumps({"home": home}))

    @app.command()
    def verify(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
        print(json.dumps({"equal": False}))
        raise typer.Exit(1)

    @app.command()
    def resolve(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
        raise typer.Abort

    @app.command()
    def stumble(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
        raise ZeroDivisionError("our mistake")

    @app.command()
    def last(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
        raise KeyboardInterrupt

    return app


def make_demo() -> typer.Typer:
    app = typer.Typer()

    @app.command()
    def demo(keep: bool = False) -> None:
        """Show it all in a minute."""
        print(f"keep {keep}")

    return app


def make_broken() -> typer.Typer:
    raise ModuleNotFoundError("No module named 'starlette'")


@pytest.fixture
def parts() -> dict[str, FakePart]:
    made = [FakePart("node", make_node), FakePart("demo", make_demo), FakePart("server", make_broken)]
    return {part.name: part for part in made}


@pytest.fixture
def outpost(parts: dict[str, FakePart]) -> Callable[[str], int]:
    return lambda line: run(program(parts.values()), line.split())


def error_of(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """The one JSON document on standard output."""
    error: dict[str, str] = json.loads(capsys.readouterr().out)["error"]
    return error


def test_only_the_named_part_is_loaded(
    parts: dict[str, FakePart], outpost: Callable[[str], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert outpost("node status --home there") == 0
    assert capsys.readouterr().out == '{"home": "there"}\n'
    assert [name for part in parts.values() for name in part.loads] == ["node"]


def test_a_part_of_one_command_is_that_command(outpost: Callable[[str], int], capsys: pytest.CaptureFixture[str]) -> None:
    assert outpost("demo --keep") == 0
    assert capsys.readouterr().out == "keep True\n"


def test_help_names_every_part_even_a_broken_one(outpost: Callable[[str], int], capsys: pytest.CaptureFixture[str]) -> None:
    assert outpost("--help") == 0
    told = capsys.readouterr().out
    assert "A replica at work." in told
    assert "Show it all in a minute." in told
    assert "cannot be loaded" in told


def test_the_help_of_a_part_has_no_completion_options(outpost: Callable[[str], int], capsys: pytest.CaptureFixture[str]) -> None:
    assert outpost("node --help") == 0
    assert "completion" not in capsys.readouterr().out


def test_a_broken_part_says_why_and_what_to_do(outpost: Callable[[str], int], capsys: pytest.CaptureFixture[str]) -> None:
    assert outpost("server --home S run") == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert "'server'" in told.err
    assert "No module named 'starlette'" in told.err
    assert "Install" in told.err
    assert outpost("server run --json") == 1
    assert error_of(capsys)["code"] == "cli.unavailable"


@pytest.mark.parametrize("line", ["nothing", "node nothing", "node status --nothing", "--nothing"])
def test_wrong_usage_is_2(line: str, outpost: Callable[[str], int], capsys: pytest.CaptureFixture[str]) -> None:
    assert outpost(line) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "nothing" in told.err
    assert outpost(f"{line} --json") == 2
    assert error_of(capsys)["code"] == "cli.usage"


def test_no_arguments_show_the_help(outpost: Callable[[str], int], capsys: pytest.CaptureFixture[str]) -> None:
    assert outpost("") == 2
    assert "Usage" in capsys.readouterr().out


def test_an_error_of_our_own_is_told_by_its_message(outpost: Callable[[str], int], capsys: pytest.CaptureFixture[str]) -> None:
    assert outpost("node sync") == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == "outpost: The server does not answer. Nothing is lost; try again later.\n"
    assert outpost("node sync --json") == 1
    assert error_of(capsys) == {
        "code": "node.offline",
        "message": "The server does not answer. Nothing is lost; try again later.",
    }


def test_a_command_that_printed_its_own_document_sets_the_status(outpost: Callable[[str], int], capsys: pytest.CaptureFixture[str]) -> None:
    assert outpost("node verify --json") == 1
    assert json.loads(capsys.readouterr().out) == {"equal": False}


def test_giving_up_a_question_is_told(outpost: Callable[[str], int], capsys: pytest.CaptureFixture[str]) -> None:
    assert outpost("node resolve --json") == 1
    assert error_of(capsys)["code"] == "cli.aborted"


def test_ctrl_c_is_told_and_ends_with_130(outpost: Callable[[str], int], capsys: pytest.CaptureFixture[str]) -> None:
    assert outpost("node last") == 130
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "outpost: Stopped; nothing is lost.\n")
    assert outpost("node last --json") == 130
    assert error_of(capsys) == {"code": "cli.stopped", "message": "Stopped; nothing is lost."}


def test_our_own_mistake_shows_its_traceback_and_still_answers(outpost: Callable[[str], int], capsys: pytest.CaptureFixture[str]) -> None:
    assert outpost("node stumble --json") == 1
    told = capsys.readouterr()
    assert json.loads(told.out)["error"] == {"code": "cli.internal", "message": "ZeroDivisionError: our mistake"}
    assert "Traceback" in told.err


def test_version_is_the_distribution_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "outpost 0.1.0\n"


def test_the_root_loads_neither_node_nor_server() -> None:
    """In a process of its own: what the other tests have imported does not count."""
    probe = "import sys, schema.cli; schema.cli.main(['--version']); print(*sys.modules, sep='\\n')"
    seen = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert not {"node", "server", "starlette", "httpx", "sqlmodel"} & set(seen.stdout.split())

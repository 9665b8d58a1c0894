"""What the commands of node and server share: documents are JSON whatever is in them, locks are given back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from schema.console import CommandFailed, Home, Json, Part, as_text, at, begin, in_words, moment, plain, say, shown
from schema.lock import HomeBusy, exclusive
from sync.errors import NotJoined, Offline, Revoked
from sync.values import RawText


@pytest.mark.parametrize(
    ("value", "written"),
    [
        pytest.param(2**63 - 1, 2**63 - 1, id="large"),
        pytest.param(float("inf"), "inf", id="infinite"),
        pytest.param([float("nan")], ["nan"], id="not-a-number"),
        pytest.param({"a": b"\x00\xff"}, {"a": "00ff"}, id="bytes"),
        pytest.param(RawText(b"\xc3("), "\ufffd(", id="not-utf-8"),
        pytest.param("Ґанок 😀\n", "Ґанок 😀\n", id="text"),
    ],
)
def test_a_document_is_json(value: object, written: object) -> None:
    text = as_text(value)
    assert "\n" not in text
    assert json.loads(text, parse_constant=pytest.fail) == written


def test_nothing_steers_the_terminal() -> None:
    assert plain("a\x1b[31m\rb\u202ec\x07") == "a [31m b c "
    assert shown(None) != shown("") != shown("None")


def test_errors_are_told_with_what_was_kept_and_what_to_do() -> None:
    assert in_words(Revoked("Revoked")) == f"Revoked. {Revoked.kept} {Revoked.todo}"
    assert in_words(Offline("Away")) == f"Away. {Offline.kept} {Offline.todo}"
    assert in_words(NotJoined("No node here.")) == "No node here."


def make_part() -> Any:
    app = typer.Typer(cls=Part)

    @app.callback()
    def root(ctx: typer.Context, home: Home = None, as_json: Json = False) -> None:
        begin(ctx, "node", home, as_json)

    @app.command()
    def status(ctx: typer.Context, home: Home = None, as_json: Json = False) -> None:
        at(ctx, home, as_json)
        say("Send: outpost node sync, or outpost server run")

    @app.command()
    def sync(ctx: typer.Context) -> None:
        raise NotJoined("First: outpost node join URL CODE")

    return typer.main.get_command(app)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["status"], "Send: outpost node sync, or outpost server run\n"),
        (["--home", "a b", "status"], "Send: outpost node --home 'a b' sync, or outpost server run\n"),
        (["--home", "a", "status", "--home", "b"], "Send: outpost node --home b sync, or outpost server run\n"),
    ],
)
def test_commands_that_are_suggested_carry_the_home(line: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    make_part().main(line, standalone_mode=False)
    assert capsys.readouterr().out == said
    say("outpost node sync")
    assert capsys.readouterr().out == "outpost node sync\n", "it ends with the command"


def test_a_failure_suggests_with_the_home_too() -> None:
    with pytest.raises(CommandFailed, match="outpost node --home there join"):
        make_part().main(["--home", "there", "sync"], standalone_mode=False)


def test_moments_no_calendar_has() -> None:
    assert moment(None) == "never"
    assert moment(10**18) == f"{10**18} ms"


def test_a_lock_is_held_by_one_and_given_back(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with exclusive(path, "first"), pytest.raises(HomeBusy, match="second"), exclusive(path, "second"):
        pass
    with exclusive(path, "third"):
        pass


def test_a_lock_dies_with_its_holder(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from schema.lock import exclusive\n"
        "with exclusive(Path(sys.argv[1]), ''):\n    print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "lock")]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(HomeBusy), exclusive(tmp_path / "lock", "busy"):
            pass
        process.kill()
        process.wait()
        with exclusive(tmp_path / "lock", "free", wait_seconds=5):
            pass

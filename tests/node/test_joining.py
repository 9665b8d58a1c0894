"""Joining again after a join whose reply was lost: over real HTTP, with a centre that is there and a reply that is not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from node.database import Database
from node.joining import ATTEMPTS_MAX, JOINING, join
from server import nodes
from server.app import create_app
from server.nonces import SqliteNonces
from server.serve import in_background
from sync.errors import AlreadyThere, BadInvitation, Offline, OutpostError, UnknownIncarnation
from sync.messages import JoinRequest
from tests.world import World


class Swallow:
    """Between the centre and the network."""

    def __init__(self, app: Any, centre: Centre) -> None:
        self.app, self.centre = app, centre

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def nowhere(_message: Any) -> None:
            pass

        is_lost, self.centre.lose = self.centre.lose > 0, max(0, self.centre.lose - 1)
        await self.app(scope, receive, nowhere if is_lost else send)


class Centre:
    """A centre behind HTTP, whose next replies can be swallowed on their way."""

    def __init__(self, world: World) -> None:
        self.world, self.url, self.lose = world, "", 0
        self.nonces = SqliteNonces(world.folder / "nonces.db")
        self.app = create_app(world.service, self.nonces, clock_ms=world.clock.read)
        self.app.add_middleware(Swallow, centre=self)

    def invite(self, name: str, *, again: bool = False) -> str:
        with self.world.database.writing() as store:
            return nodes.invite(store, name, ["branch:LON"], self.world.clock.read(), again=again)

    def join(self, home: str, code: str, url: str | None = None) -> Database:
        return join(self.world.folder / home, url or self.url, code, self.world.schema, self.world.clock.read)


@pytest.fixture
def centre(world: World) -> Iterator[Centre]:
    found = Centre(world)
    with in_background(found.app) as found.url:
        yield found
    found.nonces.close()


@pytest.mark.covers("P-9.9")
def test_whoever_joins_again_may_spell_the_address_otherwise(centre: Centre) -> None:
    code = centre.invite("lisbon")
    centre.lose = 1
    for url in (centre.url, "http://127.0.0.1:9"):
        with pytest.raises(OutpostError):
            centre.join("home", code, url)
    database = centre.join("home", f" {code.lower()}", f"{centre.url}/")
    assert database.state().name == "lisbon"
    assert not (centre.world.folder / "home" / JOINING).exists()
    database.close()
    with pytest.raises(AlreadyThere):
        centre.join("home", code)


@pytest.mark.covers("P-9.9")
def test_whoever_joins_again_may_have_tried_other_codes_in_between(centre: Centre) -> None:
    code = centre.invite("lisbon")
    centre.lose = 1
    for tried in (code, *(f"WRONG-{number}" for number in range(ATTEMPTS_MAX - 1))):
        with pytest.raises(OutpostError):
            centre.join("home", tried)
    centre.join("home", code).close()


def test_attempts_without_an_end_leave_a_small_file(centre: Centre) -> None:
    for number in range(2 * ATTEMPTS_MAX):
        with pytest.raises(BadInvitation):
            centre.join("home", f"WRONG-{number}")
    assert (centre.world.folder / "home" / JOINING).stat().st_size < 200 * ATTEMPTS_MAX


@pytest.mark.parametrize("left", ["", "{", "[]", '{"asked": "x", "incarnation": "00"}', '{"attempts": [{"asked": 1}]}'])
def test_what_is_left_of_another_attempt_stops_no_join(centre: Centre, left: str) -> None:
    home = centre.world.folder / "home"
    home.mkdir()
    (home / JOINING).write_text(left)
    centre.join("home", centre.invite("lisbon")).close()


@pytest.mark.covers("P-9.17")
def test_a_name_under_which_nobody_came_is_invited_again(centre: Centre) -> None:
    """The reply was lost, and the folder with it."""
    code = centre.invite("lisbon")
    centre.lose = 1
    with pytest.raises(OutpostError):
        centre.join("gone", code)
    with pytest.raises(BadInvitation):
        centre.join("new", code)
    with pytest.raises(AlreadyThere, match=r"never heard of since.*--again"):
        centre.invite("lisbon")
    database = centre.join("new", centre.invite("lisbon", again=True))
    assert database.state().name == "lisbon"
    assert centre.world.sql("SELECT id, name FROM _node") == [(database.state().node, "lisbon")]
    database.close()


@pytest.mark.covers("P-9.17")
def test_a_name_of_a_node_that_was_heard_of_is_not_invited_again(centre: Centre) -> None:
    centre.world.node("lisbon", "branch:LON").sync()
    with pytest.raises(AlreadyThere, match="There is a node named lisbon already"):
        centre.invite("lisbon", again=True)


@pytest.mark.covers("P-9.17")
def test_who_had_joined_after_all_is_not_known_any_more(centre: Centre) -> None:
    first = centre.join("first", centre.invite("lisbon"))
    node = first.state().node
    first.close()
    centre.join("second", centre.invite("lisbon", again=True)).close()
    with pytest.raises(OutpostError) as found:
        centre.world.service.key_of(node)
    assert found.value.code == "auth.unknown_node"


@pytest.mark.covers("P-9.9", "P-7.2")
def test_an_incarnation_that_is_there_already_joins_nobody(centre: Centre) -> None:
    """The code stays good: nothing was changed."""
    centre.join("first", centre.invite("lisbon")).close()
    ((taken,),) = centre.world.sql("SELECT id FROM _incarnation")
    code = centre.invite("porto")
    with pytest.raises(UnknownIncarnation):
        centre.world.service.join(JoinRequest((1,), code, bytes(32), taken), centre.world.clock.read())
    centre.join("second", code).close()


def test_a_node_whose_first_pull_is_under_way_was_heard_of(world: World) -> None:
    for number in range(30):
        world.sql("INSERT INTO contact (id, kind, name, branch_id) VALUES (?, 'person', 'Ann', 'LON')", f"c{number}")
    lisbon, asked = world.node("lisbon", "branch:LON"), list[str]()

    def cut(kind: str) -> None:
        asked.append(kind)
        if asked.count("pull") == 3:
            raise Offline("The connection broke.")

    lisbon.link.before = cut
    with pytest.raises(Offline):
        lisbon.sync(rows=5)
    with world.database.writing() as store, pytest.raises(AlreadyThere):
        nodes.invite(store, "lisbon", ["branch:LON"], world.clock.read(), again=True)
    lisbon.link.before = lambda _kind: None
    lisbon.sync(rows=5)
    assert world.agree()

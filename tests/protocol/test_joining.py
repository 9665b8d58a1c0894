"""Joining and verifying (PROTOCOL.md §9), between a real node and a real server."""

from __future__ import annotations

import os
from typing import Any

import pytest

from node import healing
from server import journal, nodes
from sync.errors import BadInvitation, Moved, Revoked
from sync.limits import INVITATION_LIFE_MS
from sync.messages import JoinRequest, VerifyRequest
from tests.protocol.stories import k2 as k2  # fixtures
from tests.protocol.stories import pair as pair
from tests.protocol.stories import push_request, sale, sealed
from tests.world import START_MS, Node, World


@pytest.mark.covers("P-9.8", "P-9.9", "P-7.1", "P-11.1")
def test_an_invitation_is_good_once_for_a_while(world: World) -> None:
    with world.database.writing() as store:
        code = nodes.invite(store, "n", ("branch:LON",), START_MS)
        late = nodes.invite(store, "m", ("branch:LON",), START_MS)
    key, incarnation = os.urandom(32), os.urandom(16)

    def join(code: str, key: bytes, incarnation: bytes, now: int = START_MS) -> Any:
        return world.service.join(JoinRequest((1, 99), code, key, incarnation), now)

    first = join(f"  {code.lower()} ", key, incarnation)
    assert first.protocol == 1
    assert join(code, key, incarnation) == first
    for wrong in (
        (code, os.urandom(32), incarnation, START_MS),
        (code, key, os.urandom(16), START_MS),
        ("AAAA", key, incarnation, START_MS),
    ):
        with pytest.raises(BadInvitation):
            join(*wrong)
    with pytest.raises(BadInvitation):
        join(late, os.urandom(32), os.urandom(16), START_MS + INVITATION_LIFE_MS + 1)


@pytest.mark.covers("P-9.10")
def test_a_revoked_node_is_told_so_and_what_it_sent_stays(world: World, k2: Node) -> None:
    k2.write(sale("s1"))
    k2.sync()
    with world.database.writing() as store:
        nodes.revoke(store, "k2", START_MS)
    with pytest.raises(Revoked):
        world.service.key_of(k2.link.identity)
    assert world.sql("SELECT COUNT(*) FROM sale") == [(1,)]


@pytest.mark.covers("P-9.11", "P-9.13")
def test_verify_compares_at_the_cursor_and_leaves_own_pending_work_out(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    k2.sql("UPDATE contact SET phone = '1'")
    k2.write(sale("s1"))
    assert k2.verify()
    l3.sql("UPDATE contact SET email = '2'")
    l3.sync()
    state = k2.database.state()
    with pytest.raises(Moved):
        k2.link.verify(VerifyRequest(1, 1, state.incarnation, state.cursor, (), None))
    assert k2.verify()
    assert k2.unsynced() == 2


@pytest.mark.covers("P-9.11", "P-1.4")
def test_verify_tells_a_difference(world: World, pair: tuple[Node, Node]) -> None:
    k2, _ = pair
    k2.sql("UPDATE _state SET applying = 1")
    k2.sql("UPDATE contact SET phone = 'tampered'")
    k2.sql("UPDATE _state SET applying = 0")
    assert not k2.verify()


def test_the_journal_keeps_the_bytes_that_were_sealed(world: World, k2: Node) -> None:
    k2.write(sale("s1"))
    (body,) = (entry.body for entry in push_request(k2).segments)
    k2.sync()
    with world.database.reading() as store:
        assert journal.head(store).number > 0
        assert store.connection.execute("SELECT body FROM _journal WHERE kind = 'segment'").fetchall() == [(body,)]


def test_a_new_history_resends_what_is_unsent(world: World, k2: Node) -> None:
    k2.write(sale("s1"))
    sealed(k2)
    with k2.database.writing() as store:
        healing.new_incarnation(store)
    assert k2.sync().pushed == 1
    assert world.agree()

"""Three nodes behind the fault proxy: every fault, of a push and of a pull, changes nothing in the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.checks import acknowledged, at_rest, quieten
from tests.faults.processes import Centre, NodeHome, Starter
from tests.faults.proxy import FAULTS, Link, Proxy

PUSH, PULL = 1, 2
"""Places of requests in an exchange with something to send; the first asks for a nonce."""

LOUD = {"drop", "lost_reply", "bad_gateway", "half_open", "reorder", "cut_request", "cut_reply"}
"""Faults that an exchange cannot get past; it says so and the next one goes on."""


class Office:
    """A centre, three nodes and what they have acknowledged."""

    def __init__(self, folder: Path, starter: Starter, proxy_of: Proxy, centre: Centre) -> None:
        self.folder, self.starter, self.proxy, self.centre = folder, starter, proxy_of, centre
        self.links: list[Link] = [proxy_of.link(name) for name in ("one", "two", "three")]
        self.nodes = [centre.node(link.name, "branch:LON", port=link.port) for link in self.links]
        self.written = 0
        self.said: list[str] = []

    def write(self, node: NodeHome, count: int = 5) -> None:
        """Write some transactions."""
        running = self.starter.start(node.home, node.name, self.written, count, 1, call="foreign_write")
        self.written += count
        assert self.starter.wait(running) == 0
        self.said.append(running.said())

    def sync(self, node: NodeHome) -> tuple[int, str]:
        """Sync; return the status and the code of an error."""
        status, said = self.starter.run("node", "--home", node.home, "sync")
        return status, said["error"]["code"] if status else ""

    def rest(self) -> None:
        """Come to rest and check every promise."""
        self.proxy.heal()
        assert not any(link.plan for link in self.links)
        quieten(self.starter, self.nodes)
        at_rest(self.starter, self.centre, self.nodes, acknowledged(*self.said))


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    tmp_path = tmp_path_factory.mktemp("office")
    starter = Starter(tmp_path)
    centre = Centre(starter, tmp_path)
    with Proxy(centre.port, seed=1) as proxy:
        yield Office(tmp_path, starter, proxy, centre)
    centre.kill()
    starter.close()


def test_every_fault_of_a_push_and_of_a_pull_changes_nothing_in_the_end(office: Office) -> None:
    for number, fault in enumerate(FAULTS):
        for place in (PUSH, PULL):
            node, link = office.nodes[(number + place) % 3], office.links[(number + place) % 3]
            office.write(node)
            link.plan.extend([*[None] * place, fault])
            status, code = office.sync(node)
            assert link.counts[fault] > 0
            assert (status, code) in ({(1, "net.offline"), (1, "net.reply")} if fault in LOUD else {(0, "")}), (fault, place)
            link.plan.clear()
    office.rest()


def test_a_502_after_the_server_committed_is_no_second_sale(office: Office) -> None:
    node, link = office.nodes[0], office.links[0]
    office.write(node)
    link.plan.extend([None, "bad_gateway"])
    assert office.sync(node) == (1, "net.reply")
    assert office.starter.ok("server", "--home", office.centre.home, "report", "sales")["sales"], (
        "the centre has them, the node does not know"
    )
    assert office.starter.ok("node", "--home", node.home, "status")["unsynced"] > 0
    office.rest()


def test_a_late_request_after_a_newer_one_changes_nothing(office: Office) -> None:
    node, link = office.nodes[0], office.links[0]
    office.write(node)
    link.plan.extend([None, "reorder"])
    assert office.sync(node)[0] == 1
    office.write(node)
    assert office.sync(node) == (0, ""), "and the first push has come after the second"
    assert not link.late
    office.rest()


def test_a_partition_holds_one_node_up_and_no_other(office: Office) -> None:
    alone, others = office.nodes[0], office.nodes[1:]
    office.links[0].cut()
    for node in office.nodes:
        office.write(node)
    assert office.sync(alone) == (1, "net.offline")
    for node in others:
        assert office.sync(node) == (0, "")
    office.write(alone)
    office.links[0].mend()
    assert office.sync(alone) == (0, "")
    office.rest()

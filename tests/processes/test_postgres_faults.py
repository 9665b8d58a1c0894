"""A centre on PostgreSQL while that, the line to it, or its own processes fail. At length: scripts/torture.py kills, failover, rivals."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx
import psycopg
import pytest

from tests import foreign
from tests.faults import cluster as clusters
from tests.faults import failover, pg_kills, rivals
from tests.faults.checks import acknowledged, at_rest, quieten
from tests.faults.cluster import Cluster, until
from tests.faults.kills import SCOPE
from tests.faults.pg_proxy import SILENCE, PgProxy
from tests.faults.processes import Centre, NodeHome, Starter, kill_at_once

pytestmark = pytest.mark.skipif(clusters.why_not() is not None, reason=str(clusters.why_not()))

ASK_AGAIN = "asking again tells what became of the request"


@dataclass
class Scene:
    """A centre behind a proxy, and a till."""

    starter: Starter
    cluster: Cluster
    proxy: PgProxy
    centre: Centre
    url: str
    said: list[str]

    def write(self, node: NodeHome, count: int = 10) -> None:
        """Write transactions on a node."""
        running = self.starter.start(node.home, node.name, len(self.said) * 1000, count, 1, call="foreign_write")
        assert self.starter.wait(running) == 0
        self.said.append(running.said())

    def sync(self, node: NodeHome) -> str:
        """Exchange; return what an error says, '' for none."""
        status, said = self.starter.run("node", "--home", node.home, "sync")
        assert status in (0, 1)
        return str(said["error"]["message"]) if status else ""

    def has_work(self) -> bool:
        """Tell whether the centre has anything that was sent."""
        return bool(foreign.rows(self.url, "SELECT 1 FROM sale LIMIT 1"))

    def rest(self, *nodes: NodeHome) -> None:
        """Demand that everything acknowledged is everywhere, once."""
        quieten(self.starter, nodes)
        at_rest(self.starter, self.centre, nodes, acknowledged(*self.said))


@contextmanager
def staged(server: Cluster, folder: Path, *, more: int = 0, workers: int = 1, settings: str = "") -> Iterator[Scene]:
    """Give a centre on a database of its own."""
    name = server.database(f"centre_{abs(hash(folder))}")
    with closing(Starter(folder)) as starter, PgProxy(server.port) as proxy:
        place = f"{server.url(name, port=proxy.port)}{f'?options={quote(settings)}' if settings else ''}"
        with closing(Centre(starter, folder, more=more, place=place, workers=workers)) as centre:
            yield Scene(starter, server, proxy, centre, server.url(name), [])


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    with clusters.scratch() as folder:
        made = Cluster.made(folder / "data", max_connections="30", superuser_reserved_connections="0", deadlock_timeout="50ms")
        try:
            yield made
        finally:
            made.remove()


@pytest.fixture
def scene(server: Cluster, tmp_path: Path) -> Iterator[Scene]:
    with staged(server, tmp_path) as made:
        yield made


@pytest.fixture
def till(scene: Scene) -> NodeHome:
    return scene.centre.node("till", SCOPE)


# --- around COMMIT ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("point", "is_taken"), [("before", False), ("at", True), ("after", True)])
def test_a_push_whose_line_is_cut_around_its_commit_is_taken_once(scene: Scene, till: NodeHome, point: str, is_taken: bool) -> None:
    """Nobody can tell the node which it was; it asks again, and everything is there once."""
    scene.write(till)
    strike = scene.proxy.arm(point, 1)
    assert ASK_AGAIN in scene.sync(till)
    assert strike.struck.is_set()
    if is_taken:
        until(scene.has_work, "PostgreSQL carries the commit out")
    else:
        assert not scene.has_work()
    assert scene.sync(till) == ""
    scene.rest(till)


def test_a_server_that_falls_silent_in_its_turn_does_not_hold_up_the_others(server: Cluster, tmp_path: Path) -> None:
    """Its line is dead and nobody says so: PostgreSQL ends its turn, here after a second, and whoever waits for it goes on."""
    with staged(server, tmp_path, more=1, settings="-c idle_in_transaction_session_timeout=1000") as scene:
        one, other = (scene.centre.node(name, SCOPE, port=each.port) for name, each in zip("ab", scene.centre.servers, strict=True))
        scene.write(one)
        scene.write(other)
        strike = scene.proxy.arm(SILENCE, 1)
        silent = scene.starter.start("node", "--home", one.home, "sync", "--json")
        assert strike.struck.wait(30)
        assert scene.sync(other) == ""
        assert scene.starter.kill(silent) < 0
        scene.centre.kill()
        scene.proxy.cut()
        scene.centre.start()
        scene.rest(one, other)


def test_killed_on_postgres(tmp_path: Path) -> None:
    life = pg_kills.run(tmp_path / "life", seed=1, kills=5)
    assert life.kills() == 5
    assert len(life.acknowledged()) > 100


# --- others at the same database -----------------------------------------------------------------------------------------------


def test_the_engine_does_its_work_again_after_a_deadlock(scene: Scene, till: NodeHome) -> None:
    """A program takes the rows of two contacts in one order, the engine in the other: the engine is the victim, and nobody notices."""
    keys = ("c1", "c2")
    new = "INSERT INTO contact (id, kind, name, branch_id) VALUES (?, 'person', 'Ann', 'LON')"
    foreign.run(till.path, *((new, key) for key in keys))
    assert scene.sync(till) == ""
    for held, wanted in (keys, keys[::-1]):
        foreign.run(till.path, *(("UPDATE contact SET phone = ? WHERE id = ?", f"till {held}", key) for key in keys))
        with psycopg.connect(scene.url) as office, ThreadPoolExecutor(1) as pool:
            office.execute("SET deadlock_timeout = '1min'")  # the engine finds it first
            office.execute("UPDATE contact SET note = %s WHERE id = %s", (held, held))
            syncing = pool.submit(scene.sync, till)
            until(lambda: _waits(scene), "the engine waits for the program's row")
            office.execute("UPDATE contact SET note = %s WHERE id = %s", (held, wanted))
            office.commit()
            assert syncing.result(60) == ""
    database = scene.url.rpartition("/")[2]
    until(lambda: scene.cluster.value(f"SELECT deadlocks FROM pg_stat_database WHERE datname = '{database}'") >= 1, "it is counted")
    assert foreign.rows(scene.url, "SELECT phone, note FROM contact") == [("till c2", "c2")] * 2
    scene.rest(till)


def _waits(scene: Scene) -> bool:
    sql = "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = '%s'"
    return bool(scene.cluster.value(sql % scene.url.rpartition("/")[2]))


def test_programs_in_the_way_at_every_level_of_isolation(tmp_path: Path) -> None:
    counts = rivals.run(tmp_path / "rivals", seed=1, exchanges=1)
    assert counts["rows of programs"] > 0
    assert counts["exchanges"] >= 2


def test_without_a_free_connection_nothing_is_lost_and_it_goes_on_by_itself(scene: Scene, till: NodeHome) -> None:
    scene.write(till)
    scene.proxy.cut()
    taken = _all_connections(scene.url)
    try:
        assert ASK_AGAIN in scene.sync(till)
        status, said = scene.starter.run("server", "--home", scene.centre.home, "nodes")
        assert (status, said["error"]["code"]) == (1, "server.database")
        assert "too many clients" in said["error"]["message"]
    finally:
        for each in taken:
            each.close()
    until(lambda: scene.sync(till) == "", "PostgreSQL has let the others go")
    scene.rest(till)


def _all_connections(url: str) -> list[psycopg.Connection]:
    """Take every connection that PostgreSQL has to give, up to a hundred."""
    taken: list[psycopg.Connection] = []
    with suppress(psycopg.OperationalError):
        while len(taken) < 100:
            taken.append(psycopg.connect(url))
    assert len(taken) < 100
    return taken


# --- PostgreSQL itself ----------------------------------------------------------------------------------------------------------


def test_what_is_acknowledged_outlives_a_crash_of_a_database_that_waits_for_no_disk(tmp_path: Path) -> None:
    """Somebody has set it so that commits are written later. Ours are not: what a node was told is taken does not go back."""
    with failover.relay(tmp_path / "relay", synchronous_commit="off", wal_writer_delay="10s") as found:
        till, _, _ = found.life.nodes
        for _ in range(2):
            found.life.write(till)
            found.sync(till)
            before = found.sales()
            found.primary.stop("immediate")
            found.primary.start()
            assert found.sales() == before
            assert found.sync(till)["centre_restored"] is None
        assert found.epoch() == 1


def test_workers_that_die_while_the_database_is_away_come_back_with_it(server: Cluster, tmp_path: Path) -> None:
    """And say in one line of the log why they cannot serve (the starter takes a traceback for a failure)."""
    with clusters.scratch() as folder:
        own = Cluster.made(folder / "data")
        with staged(own, tmp_path, workers=2) as scene:
            till = scene.centre.node("till", SCOPE)
            scene.write(till)
            own.stop()
            for pid in scene.centre.worker_pids():
                kill_at_once(pid)
            assert scene.centre.running is not None
            log = scene.centre.running.err
            until(lambda: "cannot serve: The database" in log.read_text(encoding="utf-8"), "a worker says why")
            own.start()
            until(lambda: scene.sync(till) == "", "a worker serves")
            scene.rest(till)
        own.remove()


# --- fail-over --------------------------------------------------------------------------------------------------------------------


def test_a_replica_that_lags_takes_over_and_nothing_is_lost(tmp_path: Path) -> None:
    found = failover.run(tmp_path / "relay", seed=1, rounds=1)
    assert found.counts["sales acknowledged that the replica lacked"] > 0
    assert found.counts["exchanges that healed"] > 0
    assert found.history == 2


def test_a_replica_that_lags_behind_a_backup_takes_over_and_nothing_is_lost(tmp_path: Path) -> None:
    """Nodes have let go of what the backup covers; the rows themselves, which are still on them, come back."""
    with failover.relay(tmp_path / "relay") as found:
        life = found.life
        standby = found.primary.standby(found.place / "replica")
        standby.lag()
        life.write(life.nodes[0])
        found.sync(life.nodes[0])
        found.back_up(1)
        before = found.sales()
        found.end_primary("killed")
        found.take_over(standby)
        assert found.sales() < before
        quieten(life.starter, life.nodes)
        at_rest(life.starter, life.centre, life.nodes, life.acknowledged())
        assert found.sales() == before


def test_a_synchronous_replica_takes_over_and_no_history_goes_back(tmp_path: Path) -> None:
    assert failover.run(tmp_path / "relay", seed=1, rounds=1, synchronous=True).history == 1


def test_a_push_waits_for_a_synchronous_replica_that_is_away(tmp_path: Path) -> None:
    """And is answered when that is back; who pulls meanwhile, or asks after the server's health, does not wait."""
    with failover.relay(tmp_path / "relay") as found:
        life, till = found.life, found.life.nodes[0]
        standby = found.primary.standby(found.place / "replica", "replica")
        found.primary.execute("ALTER SYSTEM SET synchronous_standby_names = 'replica'")
        found.primary.execute("SELECT pg_reload_conf()")
        standby.stop("fast")
        life.write(till)
        syncing = life.starter.start("node", "--home", till.home, "sync", "--json")
        waiting = "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        until(lambda: found.primary.value(waiting) > 0, "the push waits")
        assert httpx.get(f"http://127.0.0.1:{life.centre.port}/v1/health").status_code == 200
        assert not syncing.said()
        standby.start()
        assert life.starter.wait(syncing) == 0
        assert found.epoch() == 1
        standby.remove()


def test_a_replica_that_is_not_promoted_yet_is_told_from_a_centre(tmp_path: Path) -> None:
    """Servers that are sent there say so, to nodes and operators, and serve as soon as it takes writes; they need not be started anew."""
    with failover.relay(tmp_path / "relay") as found:
        life, starter = found.life, found.life.starter
        till, health = life.nodes[0], f"http://127.0.0.1:{life.centre.port}/v1/health"
        life.write(till)
        found.sync(till)
        standby = found.primary.standby(found.place / "replica")
        found.primary.kill()
        found.proxy.upstream = standby.port
        found.proxy.cut()
        life.write(till)
        status, said = starter.run("node", "--home", till.home, "sync")
        assert (status, ASK_AGAIN in said["error"]["message"]) == (1, True)
        assert httpx.get(health).status_code == 503
        status, said = starter.run("server", "--home", life.centre.home, "nodes")
        assert (status, said["error"]["code"]) == (1, "server.database")
        assert "this is a replica, which takes no writes. Promote it" in said["error"]["message"]
        found.take_over(standby)
        assert found.sync(till)["centre_restored"] is None
        assert httpx.get(health).status_code == 200


def test_a_url_that_names_both_servers_follows_a_fail_over(tmp_path: Path) -> None:
    """No address has to move: the driver asks both, and takes the one that takes writes."""
    with clusters.scratch() as folder, closing(Starter(tmp_path)) as starter, PgProxy(0) as unused:
        primary = Cluster.made(folder / "primary")
        name, standby = primary.database(), primary.standby(folder / "standby")
        hosts = f"127.0.0.1:{standby.port},127.0.0.1:{primary.port}"
        place = f"postgresql://postgres@{hosts}/{name}?target_session_attrs=read-write"
        with closing(Centre(starter, tmp_path, place=place)) as centre:
            till = centre.node("till", SCOPE)
            scene = Scene(starter, primary, unused, centre, place, [])
            scene.write(till)
            assert scene.sync(till) == ""
            standby.catch_up(primary)
            primary.kill()
            scene.write(till)
            assert ASK_AGAIN in scene.sync(till)
            standby.promote()
            assert scene.sync(till) == ""
            scene.rest(till)
        primary.remove()
        standby.remove()


def test_a_fail_over_is_told_in_words_and_a_newcomer_that_it_forgot_comes_back(tmp_path: Path) -> None:
    """The log of the server says how far the history went back; a node that joined since is invited again, and brings its work."""
    with failover.relay(tmp_path / "relay") as found:
        life, starter = found.life, found.life.starter
        life.write(life.nodes[0])
        found.sync(life.nodes[0])
        standby = found.primary.standby(found.place / "replica")
        standby.lag()
        newcomer = life.centre.node("newcomer", SCOPE)
        life.nodes.append(newcomer)
        for node in (newcomer, life.nodes[1]):
            life.write(node)
            found.sync(node)
        found.end_primary("killed")
        found.take_over(standby)
        status, said = starter.run("node", "--home", newcomer.home, "sync")
        assert (status, said["error"]["code"]) == (1, "auth.unknown_node")
        assert "rejoin CODE" in said["error"]["message"]
        assert found.sync(life.nodes[1])["centre_restored"] is not None
        assert life.centre.running is not None
        log = life.centre.running.err.read_text(encoding="utf-8")
        assert "history went back" in log
        starter.ok("node", "--home", newcomer.home, "rejoin", life.centre.invite("newcomer", SCOPE))
        quieten(starter, life.nodes)
        at_rest(starter, life.centre, life.nodes, life.acknowledged())

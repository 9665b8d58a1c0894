"""What only PostgreSQL does: commits out of the order of their rows, programs that hold rows while the engine wants them, and several
servers on one database.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from schema.console import Terminal
from schema.dialects.postgres import Postgres
from server import backup, home, moving
from server.database import Database, named
from server.opening import opened
from server.service import Service
from sync.errors import AlreadyThere, BadValue, DatabaseAway, NewerFile, NotJoined
from tests import databases
from tests.simulation.schema import simulated_schema
from tests.world import Node, World

CLIENT = "INSERT INTO client (id, branch, name) VALUES (%s, 'A', %s)"
NAMES = "SELECT id, name FROM client ORDER BY id"


@pytest.fixture
def world(tmp_path: Path, on_postgres: None) -> Iterator[World]:
    made = World(tmp_path, simulated_schema())
    yield made
    made.close()


@pytest.fixture
def till(world: World) -> Node:
    return world.node("till", "branch:A")


def program(world: World) -> psycopg.Connection[tuple[object, ...]]:
    """A central program in the middle of a transaction."""
    return psycopg.connect(str(world.database.path))


@pytest.mark.covers("P-6.34")
def test_rows_of_a_commit_that_comes_late_are_not_missed(world: World, till: Node) -> None:
    """The first row has the lower number and is committed last: a cursor over numbers would have passed it."""
    with program(world) as slow, program(world) as quick:
        slow.execute(CLIENT, ("c1", "slow"))
        quick.execute(CLIENT, ("c2", "quick"))
        quick.commit()
        till.sync()
        assert till.sql(NAMES) == [("c2", "quick")]
        slow.commit()
    till.sync()
    assert till.sql(NAMES) == [("c1", "slow"), ("c2", "quick")]
    assert world.agree()


def test_a_program_that_holds_a_row_which_a_node_has_changed(world: World, till: Node) -> None:
    """The push waits, finds that what it had read is older, and does its work again: both values are on record, one stands."""
    till.sql("INSERT INTO client (id, branch, name) VALUES ('c1', 'A', 'Ann')")
    till.sync()
    with program(world) as office, ThreadPoolExecutor(1) as pool:
        office.execute("UPDATE client SET name = 'of the office' WHERE id = 'c1'")
        till.sql("UPDATE client SET name = 'of the till', credit = 'good' WHERE id = 'c1'")
        pushed = pool.submit(till.sync)
        waits_for_a_lock(world)
        office.commit()
        assert pushed.result(30).verdicts["merged"] == 1
    assert world.sql("SELECT credit FROM client") == [("good",)]
    [(mine, theirs)] = [(each["mine"], each["theirs"]) for each in till.conflicts()]
    assert (mine, theirs) == ("of the till", "of the office")
    world.settle(1)
    assert world.agree()


CASES = [
    ("client", "(id, branch, name) VALUES ('k1', 'A', '{}')", "merged"),
    ("receipt", "(id, branch, owner, day, total) VALUES ('k1', 'A', '{}', '2026-01-01', 5)", "held"),
]


@pytest.mark.parametrize(("table", "row", "verdict"), CASES, ids=[case[0] for case in CASES])
def test_a_program_that_brings_a_row_under_the_key_of_a_node_s(world: World, till: Node, table: str, row: str, verdict: str) -> None:
    """Neither sees the other's before both are there: the node's is judged by what stands then, and is not held for ever."""
    with program(world) as office, ThreadPoolExecutor(1) as pool:
        office.execute(f"INSERT INTO {table} {row.format('of the office')}")
        till.sql(f"INSERT INTO {table} {row.format('of the till')}")
        pushed = pool.submit(till.sync)
        waits_for_a_lock(world)
        office.commit()
        assert pushed.result(30).verdicts[verdict] == 1
    assert "check" not in [entry["code"] for entry in till.held()]
    world.settle(1)
    assert world.agree()


def waits_for_a_lock(world: World) -> None:
    """Return as soon as somebody waits for a lock in the centre's database."""
    sql = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with program(world) as looking:
        looking.autocommit = True
        for _ in range(100_000):
            if looking.execute(sql).fetchone():
                return
    raise AssertionError("nobody came to wait")


def test_what_a_program_does_to_rows_is_captured_however_it_does_it(world: World, till: Node) -> None:
    with program(world) as office:
        for name in ("c1", "c2", "c3", "c4"):
            office.execute(CLIENT, (name, "Ann"))
        office.commit()
        till.sync()
        office.execute("INSERT INTO client (id, branch, name) VALUES ('c1', 'A', 'x') ON CONFLICT (id) DO UPDATE SET name = 'upserted'")
        office.execute("UPDATE client SET id = 'c5' WHERE id = 'c2'")
        office.execute("DELETE FROM client WHERE id = 'c3'")
        office.execute(CLIENT, ("c3", "of another life"))
        office.execute("DELETE FROM client WHERE id = 'c4'")
        office.execute("SAVEPOINT s")
        office.execute(CLIENT, ("c6", "rolled back"))
        office.execute("ROLLBACK TO s")
        office.commit()
        till.sync()
        assert till.sql(NAMES) == [("c1", "upserted"), ("c3", "of another life"), ("c5", "Ann")]
        assert world.agree()
        office.execute("TRUNCATE client")
        office.execute(CLIENT, ("c7", "after"))
        office.commit()
    till.sync()
    assert till.sql(NAMES) == [("c7", "after")]
    assert world.agree()


@pytest.mark.covers("P-6.1")
def test_several_servers_on_one_database_give_versions_without_a_gap(world: World) -> None:
    """Each node pushes through a server of its own, all at once, while a program writes; nothing is lost, and all agree."""
    tills = [world.node(f"till{number}", "branch:A") for number in range(4)]
    servers = [Database(world.database.path, world.schema) for _ in tills]
    begin = threading.Barrier(len(tills) + 1)

    def sell(till: Node, database: Database) -> None:
        till.link.world = Behind(world, Service(database))  # type: ignore[assignment]
        begin.wait(10)
        for turn in range(10):
            till.sql("INSERT INTO receipt (id, branch, day, total) VALUES (?, 'A', '2026-01-01', 1)", f"{till.name}-{turn}")
            till.sync()

    def write() -> None:
        begin.wait(10)
        with program(world) as office:
            for turn in range(40):
                office.execute(CLIENT, (f"office-{turn}", "Ann"))
                office.commit()

    with ThreadPoolExecutor(len(tills) + 1) as pool:
        for done in [pool.submit(write), *(pool.submit(sell, *pair) for pair in zip(tills, servers, strict=True))]:
            done.result(120)
    for till in tills:
        till.link.world = world
    for database in servers:
        database.close()
    world.settle(2)
    assert world.sql("SELECT COUNT(*), MAX(ver), COUNT(DISTINCT ver) FROM _journal")[0][0] == world.service.health()["version"]
    assert world.sql("SELECT COUNT(*) FROM receipt") == [(40,)]
    assert world.sql("SELECT COUNT(*) FROM client") == [(40,)]
    assert world.agree()


class Behind:
    """A world as one of several servers serves it."""

    def __init__(self, world: World, service: Service) -> None:
        self.service, self.clock, self.schema = service, world.clock, world.schema


def test_a_server_goes_on_when_its_connections_were_cut(world: World, till: Node) -> None:
    """Idle ones are made anew and nobody notices: the database was restarted, say."""
    till.sql("INSERT INTO client (id, branch, name) VALUES ('c1', 'A', 'Ann')")
    till.sync()
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with program(world) as office:
        office.execute(f"SELECT pg_terminate_backend(pid, 10000) {others}")
    till.sql("UPDATE client SET name = 'Ben'")
    assert till.sync().pushed == 1
    assert world.sql("SELECT name FROM client") == [("Ben",)]
    assert world.agree()


def test_a_push_whose_connection_is_cut_in_the_middle_is_taken_once(world: World, till: Node) -> None:
    """The node hears nothing of it and sends it again."""
    till.sql("INSERT INTO receipt (id, branch, day, total) VALUES ('r1', 'A', '2026-01-01', 5)")
    with program(world) as office:
        office.execute("LOCK TABLE receipt IN ACCESS EXCLUSIVE MODE")
        with ThreadPoolExecutor(1) as pool:
            pushed = pool.submit(till.sync)
            waits_for_a_lock(world)
            with program(world) as other:
                other.execute("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            with pytest.raises(DatabaseAway):
                pushed.result(30)
    till.sync()
    assert world.sql("SELECT COUNT(*) FROM receipt") == [(1,)]
    assert (till.unsynced(), world.agree()) == (0, True)


def test_a_session_of_ours_is_patient_and_durable_unless_its_url_says_otherwise(world: World) -> None:
    """A turn whose server is gone ends after minutes, not after the hours that PostgreSQL would wait; what is committed is on disk."""

    def found(url: str, *names: str) -> list[str]:
        with closing(Postgres().open(url)) as connection:
            return [connection.execute(f"SHOW {name}").fetchone()[0] for name in names]

    url = str(world.database.path)
    world.sql(f"ALTER DATABASE {databases.name_of(url)} SET synchronous_commit = off")
    assert found(url, "idle_in_transaction_session_timeout", "synchronous_commit", "lock_timeout") == ["5min", "local", "30s"]
    mark = "&" if "?" in url else "?"
    chosen = f"{url}{mark}options=-c%20idle_in_transaction_session_timeout%3D7s%20-c%20synchronous_commit%3Dremote_apply"
    assert found(chosen, "idle_in_transaction_session_timeout", "synchronous_commit") == ["7s", "remote_apply"]


# --- as a server's home knows it ---------------------------------------------------------------------------------------------


def test_a_backup_is_a_file_and_goes_back_into_an_empty_database(world: World, till: Node) -> None:
    till.sql("INSERT INTO receipt (id, branch, day, total) VALUES ('r1', 'A', '2026-01-01', 5)")
    till.sync()
    file = world.folder / "saved.db"
    made = backup.backup(world.database, file, world.clock.read())
    till.sql("INSERT INTO receipt (id, branch, day, total) VALUES ('r2', 'A', '2026-01-01', 7)")
    till.sync()
    with pytest.raises(AlreadyThere, match="tables in this database already"):
        backup.restore(file, world.database.path, world.schema, world.clock.read())
    world.database.close()
    lost, world_place = world.database.path, databases.new()
    restored = backup.restore(file, world_place, world.schema, world.clock.read())
    assert restored.version == made.version
    world.database = Database(world_place, world.schema)
    world.service = Service(world.database)
    databases.drop(lost)
    world.settle()
    assert world.sql("SELECT id FROM receipt ORDER BY id") == [("r1",), ("r2",)]
    assert world.agree()


def test_a_home_names_its_database_and_hides_its_password(tmp_path: Path, world: World) -> None:
    url = databases.new()
    assert home.initialise(tmp_path / "home", url, world.schema) == url
    with closing(home.open_database(tmp_path / "home", world.schema)) as database:
        assert database.path == url
    with pytest.raises(AlreadyThere, match="There is a server"):
        home.initialise(tmp_path / "home", url, world.schema)
    with pytest.raises(AlreadyThere, match="There is a server here already"):
        home.initialise(tmp_path / "other", url, world.schema)
    assert not (tmp_path / "other" / home.ELSEWHERE).exists()
    with closing(psycopg.connect(url, autocommit=True)) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
        with pytest.raises(NotJoined, match="no server here yet"):
            home.require_there(tmp_path / "home")
        connection.execute("CREATE TABLE theirs (id bigint)")
    with pytest.raises(AlreadyThere, match="another database"):
        home.initialise(tmp_path / "other", url, world.schema)
    databases.drop(url)
    with pytest.raises(DatabaseAway) as caught:
        home.open_database(tmp_path / "home", world.schema)
    assert "does not exist" in str(caught.value)
    secret = "postgresql://clerk:s3cret@127.0.0.1:1/books"
    with pytest.raises(DatabaseAway) as caught:
        home.initialise(tmp_path / "third", secret, world.schema)
    assert "s3cret" not in str(caught.value)
    assert "postgresql://127.0.0.1:1/books" in str(caught.value)


# --- what the first review of it found ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["", " USING ERRCODE = 'MY001'"])
def test_a_trigger_that_refuses_a_row_stops_no_node_whatever_its_code(world: World, till: Node, code: str) -> None:
    body = f"BEGIN RAISE EXCEPTION ''not today''{code.replace(chr(39), chr(39) * 2)}; END"
    world.sql(f"CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS '{body}'")
    world.sql("CREATE TRIGGER no BEFORE INSERT ON visit FOR EACH ROW EXECUTE FUNCTION no()")
    till.sql("INSERT INTO visit (id, topic) VALUES ('v1', 'x')")
    till.sql("INSERT INTO client (id, branch, name) VALUES ('c1', 'A', 'Ann')")
    till.sql("INSERT INTO visit (id, client_id, topic) VALUES ('v2', 'c1', 'x')")
    till.sync()
    assert ("v2", "check") in [(entry["key"], entry["code"]) for entry in till.held()]
    assert world.sql("SELECT id FROM client") == [("c1",)]


def test_a_key_of_a_program_s_own_table_is_a_rule_like_any_other(world: World, till: Node) -> None:
    world.sql("CREATE TABLE audit (id bigint PRIMARY KEY)")
    world.sql("INSERT INTO audit VALUES (1)")
    body = "BEGIN INSERT INTO audit VALUES (1); RETURN NEW; END"
    world.sql(f"CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS '{body}'")
    world.sql("CREATE TRIGGER note BEFORE INSERT ON client FOR EACH ROW EXECUTE FUNCTION note()")
    till.sql("INSERT INTO client (id, branch, name) VALUES ('c1', 'A', 'Ann')")
    till.sync()
    assert [entry["code"] for entry in till.held()] == ["check"]


def test_odd_values_of_a_program_and_its_settings_stop_nobody(world: World, till: Node) -> None:
    """NaN is no number, as in SQLite; a text may begin with what we mark our own with; how a session shows blobs is its own affair."""
    with program(world) as office:
        office.execute("INSERT INTO client (id, branch, name) VALUES ('c1', 'A', %s)", ("\uffffabc",))
        office.commit()
        till.sync()
        assert till.sql("SELECT name FROM client") == [("\uffffabc",)]
        assert world.agree()
        office.execute("SET bytea_output = 'escape'")
        office.execute("UPDATE client SET name = 'Ann', high = 1")
        office.commit()
    till.sync()
    till.sql("UPDATE client SET name = ? WHERE id = 'c1'", "\uffff1x")
    world.settle(2)
    assert world.agree()


def test_opening_the_database_waits_for_no_program(world: World) -> None:
    with program(world) as office:
        office.execute(CLIENT, ("c1", "open"))
        with program(world) as looking:
            looking.execute("SET lock_timeout = 1")
            Database(world.database.path, world.schema).close()
        office.commit()


def test_what_a_program_wrote_beside_a_backup_goes_along(world: World, till: Node, tmp_path: Path) -> None:
    """New rows lie above the mark of a file, and not in its log: moved as they are they would never travel."""
    file = tmp_path / "file.db"
    with world.database.reading() as store:
        moving.copy_into(store, file, world.schema)
    with closing(Database(file, world.schema)) as database, database.writing() as store:
        store.connection.execute("INSERT INTO client (id, branch, name) VALUES ('c1', 'A', 'beside')")
    url = databases.new()
    with closing(Database(file, world.schema)) as database, database.reading() as store, pytest.raises(BadValue, match="just written"):
        moving.copy_into(store, url, world.schema)
    backup.restore(file, url, world.schema, world.clock.read())
    with closing(Database(url, world.schema)) as database, database.reading() as store:
        assert store.connection.execute("SELECT kind FROM _journal ORDER BY ver DESC LIMIT 1").fetchone() == ("central",)
    databases.drop(url)


@pytest.mark.parametrize(
    "url",
    ["postgresql://u:s3cret@h/db", "postgresql:///db?password=s3cret", "postgresql://u:s3/cret@h/db", "postgresql://u:s3cret@[::1/db"],
)
def test_no_message_names_a_password(url: str, tmp_path: Path) -> None:
    assert "s3" not in named(url)
    with pytest.raises((DatabaseAway, BadValue)) as caught:
        home.initialise(tmp_path, url, simulated_schema())
    assert "s3" not in str(caught.value)


def test_an_init_that_was_cut_before_it_made_anything_is_finished(tmp_path: Path, world: World) -> None:
    url = databases.new()
    with closing(psycopg.connect(url, autocommit=True)) as connection:
        connection.execute("CREATE TABLE _lock ()")
    assert home.initialise(tmp_path, url, world.schema) == url
    databases.drop(url)


@pytest.mark.covers("P-7.24")
def test_all_servers_of_a_database_read_in_one_life_until_a_copy_may_have_been_put_back(world: World, tmp_path: Path) -> None:
    def life(database: Database) -> bytes:
        with database.reading() as store:
            return database.life(store)

    with closing(Database(world.database.path, world.schema)) as other:
        assert life(other) == life(world.database)
        with closing(psycopg.connect(str(world.database.path), autocommit=True)) as connection:
            before = life(other)
            connection.execute("VACUUM _server")
            assert life(other) == before
            connection.execute("CREATE TABLE dumped AS SELECT * FROM _server")
            connection.execute("TRUNCATE _server")
            connection.execute("INSERT INTO _server SELECT * FROM dumped")
        assert life(other) == life(world.database) != before


def test_a_command_that_meets_a_program_on_a_row_says_so(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.opening.load", lambda: world.schema)
    terminal = Terminal(tmp_path / "home", False, "server")
    home.initialise(terminal.home, str(world.database.path), world.schema, existing=True)
    world.sql("INSERT INTO client (id, branch, name) VALUES ('c1', 'A', 'Олена')")

    def change_while(meanwhile: Callable[[], None]) -> None:
        with opened(terminal) as database, database.writing() as store:
            meanwhile()
            store.connection.execute("UPDATE client SET name = 'ours' WHERE id = 'c1'")

    def theirs() -> None:
        with program(world) as other:
            other.execute("UPDATE client SET name = 'theirs' WHERE id = 'c1'")

    with pytest.raises(DatabaseAway, match="Another program wrote"):
        change_while(theirs)
    assert world.sql("SELECT name FROM client") == [("theirs",)]
    with pytest.raises(DatabaseAway, match="went away"):
        change_while(lambda: databases.cut(world.database.path))


def test_an_init_that_did_not_finish_gives_way_to_another_database(world: World, tmp_path: Path) -> None:
    """It may have been killed while a wrong address kept it waiting."""
    (tmp_path / home.ELSEWHERE).write_text('{"url": "postgresql://x@127.0.0.1:1/y", "finished": false}', encoding="utf-8")
    url = databases.new()
    assert home.initialise(tmp_path, url, world.schema) == url
    databases.drop(url)


def test_what_is_almost_an_address_is_no_file_and_shows_no_password(tmp_path: Path) -> None:
    for wrong in ("postgresql:/bob:S3cret@127.0.0.1/x", "postgres:bob:S3cret@x", "sqlite:/tmp/x"):
        with pytest.raises(BadValue, match="is no database") as caught:
            home.initialise(tmp_path / "home", wrong, simulated_schema())
        assert "S3cret" not in str(caught.value)
    assert not (tmp_path / "home").exists()


def test_a_file_has_one_home(tmp_path: Path) -> None:
    schema = simulated_schema()
    home.initialise(tmp_path / "one", None, schema)
    with pytest.raises(AlreadyThere, match="A file has one home"):
        home.initialise(tmp_path / "two", str(tmp_path / "one" / "server.db"), schema, existing=True)
    assert home.initialise(tmp_path / "one", None, schema, existing=True) == tmp_path / "one" / "server.db"


def test_an_older_program_is_refused_before_anybody_waits_for_it(world: World) -> None:
    """A report under way would keep it, and it everybody else, waiting."""
    with program(world) as report, closing(psycopg.connect(str(world.database.path), autocommit=True)) as office:
        report.execute("SELECT COUNT(*) FROM client")
        office.execute("UPDATE _bookkeeping SET schema = schema + 1")
        with pytest.raises(NewerFile):
            Database(world.database.path, world.schema)
        office.execute("UPDATE _bookkeeping SET schema = schema - 1")

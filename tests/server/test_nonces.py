"""Nonces: once given, once taken, for a while, in bounded space."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlcipher3 import dbapi2 as sqlite

from server.database import Place
from server.nonces import ISSUE_MAX, NONCES_MAX, PRUNED_MAX, WAIT_MS, Nonces, SqliteNonces
from server.shared_nonces import PostgresNonces
from sync.errors import BadNonce
from sync.limits import NONCE_LIFE_MS
from sync.signature import NONCE
from tests import databases
from tests.simulation.schema import simulated_schema

NOW_MS = 1_760_000_000_000
YEAR_MS = 365 * 24 * 3600 * 1000


class Kept:
    """Where nonces are kept: a file, or a PostgreSQL database."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def nonces(self, nonces_max: int = NONCES_MAX) -> SqliteNonces | PostgresNonces:
        """Return another process's view of them."""
        kind: type[Any] = SqliteNonces if isinstance(self.place, Path) else PostgresNonces
        made: SqliteNonces | PostgresNonces = kind(self.place, nonces_max=nonces_max)
        return made

    def outstanding(self) -> int:
        """Return how many there are."""
        if isinstance(self.place, Path):
            with closing(sqlite.connect(self.place)) as file:
                return int(file.execute("SELECT count(*) FROM nonce").fetchone()[0])
        with psycopg.connect(self.place) as connection:
            ((count,),) = connection.execute("SELECT count(*) FROM _nonce").fetchall()
            return int(count)


def spend(nonces: Nonces, nonce: str, now_ms: int) -> None:
    """Use a nonce up, alone. Raises BadNonce."""
    [(is_good, fresh)] = nonces.renew([nonce], now_ms)
    assert NONCE.fullmatch(fresh)
    if not is_good:
        raise BadNonce


@pytest.fixture(params=["file", "postgres"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    if request.param == "file":
        yield Kept(tmp_path / "nonces.db")
        return
    request.getfixturevalue("on_postgres")
    with closing(databases.centre(tmp_path, simulated_schema())) as database:
        place = database.path
    yield Kept(place)
    databases.drop(place)


@pytest.fixture
def nonces(kept: Kept) -> Iterator[SqliteNonces | PostgresNonces]:
    with closing(kept.nonces()) as made:
        yield made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "nonces.db"


@pytest.fixture
def in_file(path: Path) -> Iterator[SqliteNonces]:
    with closing(SqliteNonces(path)) as made:
        yield made


def test_nonces_used_up_together_are_used_up_one_after_the_other(nonces: Nonces) -> None:
    first, second = nonces.issue(NOW_MS, 2)
    found = nonces.renew([first, "unknown" * 3, second, first], NOW_MS)
    assert [is_good for is_good, _ in found] == [True, False, True, False]
    assert len({fresh for _, fresh in found}) == 4
    assert [is_good for is_good, _ in nonces.renew([fresh for _, fresh in found], NOW_MS)] == [True] * 4


def test_a_nonce_is_good_once(nonces: Nonces) -> None:
    [nonce] = nonces.issue(NOW_MS)
    spend(nonces, nonce, NOW_MS + 1000)
    with pytest.raises(BadNonce):
        spend(nonces, nonce, NOW_MS + 1000)


def test_nonces_differ_and_fit_a_signature(nonces: Nonces) -> None:
    given = [nonce for _ in range(20) for nonce in nonces.issue(NOW_MS, ISSUE_MAX)]
    assert len(set(given)) == 20 * ISSUE_MAX
    assert all(len(nonce) == 20 and NONCE.fullmatch(nonce) for nonce in given)


@pytest.mark.parametrize("nonce", ["", "x", "A" * 32, "A" * 10_000, "' OR 1=1 --", "\0", "й"])
def test_what_was_never_given_is_refused(nonces: Nonces, nonce: str) -> None:
    nonces.issue(NOW_MS)
    with pytest.raises(BadNonce):
        spend(nonces, nonce, NOW_MS)


@pytest.mark.parametrize(
    ("later_ms", "good"),
    [
        pytest.param(0, True, id="at-once"),
        pytest.param(NONCE_LIFE_MS - 1, True, id="just-in-time"),
        pytest.param(NONCE_LIFE_MS, False, id="expired"),
        pytest.param(YEAR_MS, False, id="a-year-later"),
        pytest.param(-WAIT_MS, True, id="of-a-request-that-waited"),
        pytest.param(-WAIT_MS - 1, False, id="the-clock-was-put-back"),
    ],
)
def test_a_nonce_lives_for_a_while(nonces: Nonces, later_ms: int, good: bool) -> None:
    [nonce] = nonces.issue(NOW_MS)
    if good:
        spend(nonces, nonce, NOW_MS + later_ms)
    else:
        with pytest.raises(BadNonce):
            spend(nonces, nonce, NOW_MS + later_ms)


def test_a_request_that_waited_takes_no_nonce_from_another(nonces: Nonces) -> None:
    """It read the clock a moment before the other, and comes a moment after it. Found by a swarm: nodes were refused twice."""
    [fresh] = nonces.issue(NOW_MS)
    nonces.issue(NOW_MS - 1)
    spend(nonces, fresh, NOW_MS)


@pytest.mark.parametrize("count", [0, -1, ISSUE_MAX + 1])
def test_a_count_out_of_bounds_is_our_mistake(nonces: Nonces, count: int) -> None:
    with pytest.raises(ValueError, match="count"):
        nonces.issue(NOW_MS, count)


def test_of_many_threads_one_gets_the_nonce(nonces: Nonces) -> None:
    [nonce] = nonces.issue(NOW_MS)
    gate = threading.Barrier(16)

    def take(_: int) -> bool:
        gate.wait()
        try:
            spend(nonces, nonce, NOW_MS)
        except BadNonce:
            return False
        return True

    with ThreadPoolExecutor(16) as threads:
        assert sum(threads.map(take, range(16))) == 1


def test_threads_do_not_disturb_each_other(nonces: Nonces) -> None:
    def use(_: int) -> None:
        for _ in range(50):
            first, second = nonces.issue(NOW_MS, 2)
            spend(nonces, second, NOW_MS)
            spend(nonces, first, NOW_MS)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(use, range(8)))


def test_two_processes_may_share_the_file(path: Path, in_file: SqliteNonces) -> None:
    """As far as SQLite goes: two connections, one of them opened later, which forgets what was given before."""
    [early] = in_file.issue(NOW_MS)
    other = SqliteNonces(path)
    [late] = in_file.issue(NOW_MS)
    spend(other, late, NOW_MS)
    with pytest.raises(BadNonce):
        spend(in_file, late, NOW_MS)
    with pytest.raises(BadNonce):
        spend(in_file, early, NOW_MS)
    other.close()


def test_expired_nonces_go_a_few_at_a_time(kept: Kept, nonces: Nonces) -> None:
    for _ in range(10):
        nonces.issue(NOW_MS, ISSUE_MAX)
    assert kept.outstanding() == 10 * ISSUE_MAX
    nonces.issue(NOW_MS + NONCE_LIFE_MS)
    assert kept.outstanding() == 10 * ISSUE_MAX - PRUNED_MAX + 1
    for _ in range(10):
        nonces.issue(NOW_MS + NONCE_LIFE_MS)
    assert kept.outstanding() == 11


def test_nonces_of_a_clock_since_put_back_go_too(kept: Kept, nonces: Nonces) -> None:
    nonces.issue(NOW_MS + YEAR_MS, ISSUE_MAX)
    nonces.issue(NOW_MS)
    assert kept.outstanding() == 1


def test_beyond_the_bound_the_oldest_give_way(kept: Kept) -> None:
    nonces = kept.nonces(100)
    given = [nonce for _ in range(130) for nonce in nonces.issue(NOW_MS)]
    assert kept.outstanding() == 100
    found = nonces.renew([given[29], given[30], given[-1]], NOW_MS)
    assert [is_good for is_good, _ in found] == [False, True, True]
    nonces.close()


def test_spent_nonces_make_no_room_for_more_than_the_bound(kept: Kept) -> None:
    nonces = kept.nonces(100)
    for _ in range(5):
        for nonce in nonces.issue(NOW_MS, 60)[:30]:
            spend(nonces, nonce, NOW_MS)
        assert kept.outstanding() <= 100
    nonces.close()


def test_a_server_that_starts_forgets_earlier_nonces(path: Path, in_file: SqliteNonces) -> None:
    """With synchronous=OFF a power cut may bring back nonces that were spent."""
    [nonce] = in_file.issue(NOW_MS)
    in_file.close()
    again = SqliteNonces(path)
    with pytest.raises(BadNonce):
        spend(again, nonce, NOW_MS)
    again.close()


@pytest.mark.parametrize("junk", [b"not a database at all" * 500, b"SQLite format 3\0" + b"\xff" * 8000], ids=["text", "torn"])
def test_a_corrupt_file_is_made_anew(path: Path, junk: bytes) -> None:
    path.write_bytes(junk)
    nonces = SqliteNonces(path)
    [nonce] = nonces.issue(NOW_MS)
    spend(nonces, nonce, NOW_MS)
    nonces.close()


def test_a_file_that_is_corrupted_under_way_is_made_anew(path: Path, in_file: SqliteNonces) -> None:
    [nonce] = in_file.issue(NOW_MS)
    other = sqlite.connect(path, isolation_level=None)
    other.execute("UPDATE nonce SET expires_ms = expires_ms + 1")  # so that what is in memory is not trusted
    other.close()
    damage(path)
    with pytest.raises(BadNonce):
        spend(in_file, nonce, NOW_MS)
    [fresh] = in_file.issue(NOW_MS)
    spend(in_file, fresh, NOW_MS)


def damage(path: Path) -> None:
    """Overwrite all but the first page's header, and the log, as a broken disk would."""
    for file in (path, path.with_name(path.name + "-wal")):
        if file.exists() and (size := file.stat().st_size) > 100:
            with file.open("r+b") as writer:
                writer.seek(100)
                writer.write(b"\xff" * (size - 100))


def test_another_trouble_is_not_taken_for_corruption(path: Path, in_file: SqliteNonces) -> None:
    """A missing table is our own mistake; nothing is deleted for it."""
    db = sqlite.connect(path)
    db.execute("DROP TABLE nonce")
    db.close()
    with pytest.raises(sqlite.OperationalError):
        in_file.issue(NOW_MS)
    assert path.exists()


@pytest.mark.parametrize("kept", ["postgres"], indirect=True)
def test_many_processes_share_a_database_of_nonces(kept: Kept, nonces: Nonces) -> None:
    """What one gives out another takes, once, whoever comes first; one that starts forgets nothing of theirs."""
    with closing(kept.nonces()) as other, closing(kept.nonces()) as third:
        given = nonces.issue(NOW_MS, ISSUE_MAX)

        def take(by: Nonces, nonce: str) -> bool:
            try:
                spend(by, nonce, NOW_MS)
            except BadNonce:
                return False
            return True

        with ThreadPoolExecutor(3) as threads:
            taken = [list(threads.map(take, (nonces, other, third), (nonce,) * 3)) for nonce in given]
        assert all(sum(each) == 1 for each in taken)
        assert kept.outstanding() == 3 * ISSUE_MAX, "each who asked was given another"


@pytest.mark.parametrize("kept", ["postgres"], indirect=True)
def test_nonces_of_a_dump_that_was_read_back_are_good_no_more(kept: Kept, nonces: Nonces) -> None:
    """Those in it may have been spent since."""
    [nonce] = nonces.issue(NOW_MS)
    with psycopg.connect(kept.place) as connection:
        connection.execute("CREATE TABLE dumped AS SELECT * FROM _nonce")
        connection.execute("DROP TABLE _nonce")
        connection.execute("CREATE UNLOGGED TABLE _nonce (LIKE dumped)")
        connection.execute("INSERT INTO _nonce SELECT * FROM dumped")
    assert kept.outstanding() == 1
    with pytest.raises(BadNonce):
        spend(nonces, nonce, NOW_MS)


@pytest.mark.parametrize("kept", ["postgres"], indirect=True)
def test_a_connection_that_was_cut_is_made_anew(kept: Kept, nonces: Nonces) -> None:
    [nonce] = nonces.issue(NOW_MS)
    databases.cut(kept.place)
    spend(nonces, nonce, NOW_MS)

"""Rivals: central programs that take the engine's rows in any order, at every level of isolation, while nodes push and pull.

    programs ──plain SQL, locks held for a moment──► PostgreSQL ◄──turns── server ◄── nodes, again and again

Whoever PostgreSQL picks as the victim of a deadlock, or of a conflict of snapshots, must come out whole: a program is told and does
its work again, the engine does so unseen or answers that asking again tells. What anybody was told is committed is there, once.
"""

from __future__ import annotations

import json
import random
import shutil
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import psycopg
from psycopg import IsolationLevel

from tests import foreign
from tests.faults.blows import Known
from tests.faults.checks import at_rest, demand, quieten
from tests.faults.cluster import Cluster, scratch
from tests.faults.kills import SCOPE, Life
from tests.faults.pg_kills import UNKNOWN
from tests.faults.processes import Centre, NodeHome, Starter
from tests.faults.workload import BRANCH, SHARED, own_contact

PROGRAMS: Final = 4
HOLD_SECONDS: Final = 0.03
"""How long at most a program holds rows between two statements."""

ROUND_SECONDS_MAX: Final = 120.0
LEVELS: Final = (IsolationLevel.READ_COMMITTED, IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE)
_NEW: Final = "INSERT INTO contact (id, kind, name, branch_id, note) VALUES (%s, 'person', %s, %s, %s)"


def run(folder: Path, seed: int, exchanges: int) -> Counter[str]:
    """Let nodes exchange so many times each among programs. Raises Broken when a promise is broken; the folder then holds all files."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    starter = Starter(folder)
    try:
        with scratch() as place:
            cluster = Cluster.made(place / "data", deadlock_timeout="20ms")
            centre = Centre(starter, folder, place=cluster.url(cluster.database()), workers=2)
            try:
                nodes = [centre.node(name, SCOPE) for name in ("till", "laptop")]
                life = Life(seed, starter, centre, nodes, Known(folder, random.Random(seed)))
                return _lived(life, cluster, exchanges)
            finally:
                centre.kill()
                shutil.copy(cluster.folder / "log", folder / "postgresql.log")
                cluster.remove()
    finally:
        starter.close()


def _lived(life: Life, cluster: Cluster, exchanges: int) -> Counter[str]:
    for node in life.nodes:  # the rows that all of them want are there
        life.write(node)
    quieten(life.starter, life.nodes)
    wanted = [SHARED, *(own_contact(node.name) for node in life.nodes)]
    done, counts, kept = threading.Event(), Counter[str](), set[str]()
    url = str(life.centre.path)
    with ThreadPoolExecutor(PROGRAMS) as pool:
        work = [pool.submit(_program, url, f"{life.seed}-{number}", wanted, done) for number in range(PROGRAMS)]
        try:
            for _ in range(exchanges):
                counts.update(_exchanged(life))
        finally:
            done.set()
        for each in work:
            committed, told = each.result()
            kept |= committed
            counts.update(told)
    counts["deadlocks, by PostgreSQL's count"] = cluster.value("SELECT SUM(deadlocks)::int FROM pg_stat_database")
    quieten(life.starter, life.nodes)
    at_rest(life.starter, life.centre, life.nodes, _sales(life))
    there = {row[0] for row in foreign.rows(url, "SELECT id FROM contact")}
    demand(kept <= there, f"what a program had committed is gone: {sorted(kept - there)[:3]}")
    made = {key for key in there if key.startswith("office-")}
    demand(made <= kept, f"what a program was refused is there: {sorted(made - kept)[:3]}")
    counts["rows of programs"] = len(kept)
    return counts


def _sales(life: Life) -> set[str]:
    """Return what writers acknowledged that programs do not edit."""
    return {line for line in life.acknowledged() if line.startswith("sale ")}


def _exchanged(life: Life) -> Counter[str]:
    """Let every node write and exchange, all at once; an exchange that is told to ask again does, until it is through."""
    counts, deadline = Counter[str](), time.monotonic() + ROUND_SECONDS_MAX
    for node in life.nodes:
        life.write(node)
    waiting: list[NodeHome] = list(life.nodes)
    while waiting:
        demand(time.monotonic() < deadline, f"{[node.name for node in waiting]} cannot exchange while programs are at work: stuck")
        running = [(node, life.starter.start("node", "--home", node.home, "sync", "--json")) for node in waiting]
        waiting = []
        for node, sync in running:
            counts["exchanges"] += 1
            if life.starter.wait(sync) != 0:
                code = json.loads(sync.said())["error"]["code"]
                demand(code in UNKNOWN, f"a sync among programs says {sync.said()}")
                counts["exchanges told to ask again"] += 1
                waiting.append(node)
    return counts


def _program(url: str, name: str, wanted: list[str], done: threading.Event) -> tuple[set[str], Counter[str]]:
    """Write until told to end; return the keys of the rows that were committed, and how often PostgreSQL refused."""
    chance, kept, told = random.Random(name), set[str](), Counter[str]()
    with psycopg.connect(url) as connection:
        number = 0
        while not done.is_set():
            number += 1
            connection.isolation_level = chance.choice(LEVELS)
            key = f"office-{name}-{number}"
            try:
                connection.execute(_NEW, (key, key, BRANCH, name))
                for contact in chance.sample(wanted, chance.randint(1, len(wanted))):
                    connection.execute("UPDATE contact SET note = %s WHERE id = %s", (f"{name} {number}", contact))
                    done.wait(chance.uniform(0, HOLD_SECONDS))
                connection.commit()
            except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected) as error:
                connection.rollback()
                told[f"programs told of a {type(error).__name__}"] += 1
                continue
            kept.add(key)
    return kept, told

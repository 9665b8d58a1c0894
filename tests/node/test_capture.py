"""Capture: whatever any program does by plain SQL, the centre ends with the node's rows; nothing twice, nothing echoed."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from node.cycle import Cycle
from tests import foreign
from tests.world import Node, World

TABLES = ("contact", "contact_tag", "activity", "task", "deal", "sale", "sale_line", "payment", "stock_move")
KIND = "kind, name, branch_id"
ANN = "'person', 'Ann', 'LON'"


@pytest.fixture
def node(world: World) -> Node:
    return world.node("k2", "branch:LON", "owner:e1")


def rows(world: World, path: Path, table: str) -> list[str]:
    columns = ", ".join(world.schema.by_name[table].names)
    return sorted(map(repr, foreign.rows(path, f"SELECT {columns} FROM {table}")))


def assert_same(world: World, node: Node) -> None:
    for table in TABLES:
        assert rows(world, node.database.path, table) == rows(world, world.database.path, table), table
    assert node.held() == []
    assert node.verify()


# --- one statement after the other ---------------------------------------------------------------------------------------

BEFORE = [
    f"INSERT INTO contact (id, {KIND}) VALUES ('c1', {ANN}), ('c2', {ANN}), ('c3', {ANN})",
    "INSERT INTO contact_tag (contact_id, tag) VALUES ('c1', 'vip'), ('c2', 'vip')",
    "INSERT INTO task (id, owner_id, title) VALUES ('t1', 'e1', 'call')",
]

# statements, each list one commit, before the next exchange; and how many transactions that makes
CASES: dict[str, tuple[list[list[str]], int]] = {
    "an update": ([["UPDATE contact SET phone = '1' WHERE id = 'c1'"]], 1),
    "an update and back": ([["UPDATE contact SET phone = '1'"], ["UPDATE contact SET phone = NULL"]], 0),
    "an update to the same value": ([["UPDATE contact SET name = 'Ann'"]], 0),
    "several updates of one row": ([["UPDATE contact SET phone = '1' WHERE id = 'c1'"], ["UPDATE contact SET phone = '2', note = 'n'"]], 3),
    "an insert and its deletion": ([[f"INSERT INTO contact (id, {KIND}) VALUES ('x', {ANN})"], ["DELETE FROM contact WHERE id = 'x'"]], 0),
    "a deletion of the newest, and another new one": (
        [["DELETE FROM contact WHERE id = 'c3'"], [f"INSERT INTO contact (id, {KIND}) VALUES ('c4', {ANN})"]],
        2,
    ),
    "a deletion of all and a new one": ([["DELETE FROM task"], ["INSERT INTO task (id, owner_id) VALUES ('t2', 'e1')"]], 2),
    "a deletion and the same again": (
        [["DELETE FROM contact_tag WHERE contact_id = 'c1'", "INSERT INTO contact_tag (contact_id, tag) VALUES ('c1', 'vip')"]],
        1,
    ),
    "replace": ([[f"INSERT OR REPLACE INTO contact (id, {KIND}, phone) VALUES ('c1', {ANN}, '1')"]], 1),
    "replace with the same": ([[f"INSERT OR REPLACE INTO contact (id, {KIND}) VALUES ('c1', {ANN})"]], 0),
    "replace twice": ([[f"REPLACE INTO contact (id, {KIND}, phone) VALUES ('c1', {ANN}, '{i}')"] for i in (1, 2)], 1),
    "replace, then update": (
        [[f"REPLACE INTO contact (id, {KIND}, phone) VALUES ('c1', {ANN}, '1')"], ["UPDATE contact SET phone = '2', note = 'n'"]],
        3,
    ),
    "update, then replace": (
        [["UPDATE contact SET note = 'n' WHERE id = 'c1'"], [f"REPLACE INTO contact (id, {KIND}, phone) VALUES ('c1', {ANN}, '1')"]],
        1,
    ),
    "replace, then delete": ([[f"REPLACE INTO contact (id, {KIND}) VALUES ('c1', {ANN})"], ["DELETE FROM contact WHERE id = 'c1'"]], 1),
    "delete, then replace": (
        [["DELETE FROM contact WHERE id = 'c1'"], [f"REPLACE INTO contact (id, {KIND}, phone) VALUES ('c1', {ANN}, '1')"]],
        1,
    ),
    "ignore": ([[f"INSERT OR IGNORE INTO contact (id, {KIND}) VALUES ('c1', 'person', 'Eve', 'LON')"]], 0),
    "upsert": ([[f"INSERT INTO contact (id, {KIND}) VALUES ('c1', {ANN}), ('n', {ANN}) ON CONFLICT (id) DO UPDATE SET phone = '1'"]], 2),
    "upsert that does nothing": ([[f"INSERT INTO contact (id, {KIND}) VALUES ('c1', {ANN}) ON CONFLICT DO NOTHING"]], 0),
    "a key change": ([["UPDATE contact SET id = 'c9' WHERE id = 'c3'"]], 1),
    "a key change and back": ([["UPDATE contact SET id = 'c9' WHERE id = 'c3'"], ["UPDATE contact SET id = 'c3' WHERE id = 'c9'"]], 0),
    "a key change and an edit": (
        [["UPDATE contact SET id = 'c9', phone = '1' WHERE id = 'c3'", "UPDATE contact SET note = 'n' WHERE id = 'c9'"]],
        1,
    ),
    "two keys change places": (
        [
            [
                "UPDATE contact SET id = 'tmp', phone = 'was c1' WHERE id = 'c1'",
                "UPDATE contact SET id = 'c1' WHERE id = 'c2'",
                "UPDATE contact SET id = 'c2' WHERE id = 'tmp'",
            ]
        ],
        1,
    ),
    "a key change onto another row": ([["UPDATE OR REPLACE contact SET id = 'c2' WHERE id = 'c3'"]], 1),
    "an edit, then a key change onto the row": (
        [["UPDATE contact SET phone = '7' WHERE id = 'c2'", "UPDATE OR REPLACE contact SET id = 'c2' WHERE id = 'c3'"]],
        1,
    ),
    "a key change that is ignored": ([["UPDATE OR IGNORE contact SET id = 'c2' WHERE id = 'c3'"]], 0),
    "a tag's key change": ([["UPDATE contact_tag SET tag = 'new' WHERE contact_id = 'c1'"]], 1),
    "a tag replaced by itself": ([["REPLACE INTO contact_tag (contact_id, tag) VALUES ('c1', 'vip')"]], 0),
    "a whole table": ([["DELETE FROM task"]], 1),
    "truncation of a table with children": ([["DELETE FROM contact"]], 3),
    "a copy": ([["INSERT INTO contact (id, kind, name, branch_id) SELECT id || '+', kind, name, branch_id FROM contact"]], 3),
    "with a common table expression": (
        [["WITH n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 5) INSERT INTO task (id, owner_id) SELECT i, 'e1' FROM n"]],
        5,
    ),
    "returning": (
        [["INSERT INTO task (id, owner_id) VALUES ('r', 'e1') RETURNING id"], ["UPDATE task SET title = 'x' RETURNING title"]],
        2,
    ),
    "update from": ([["UPDATE contact SET note = t.title FROM task t WHERE contact.id = 'c1'"]], 1),
}


@pytest.mark.parametrize("case", CASES)
def test_the_centre_ends_with_the_rows_of_the_node(world: World, node: Node, case: str) -> None:
    commits, transactions = CASES[case]
    foreign.run(node.database.path, *BEFORE)
    node.sync()
    for statements in commits:
        foreign.run(node.database.path, *statements)
    report = node.sync()
    assert report.pushed == report.verdicts["accepted"] == transactions
    node.sync()
    assert_same(world, node)
    again = node.sync()
    assert (again.pushed, again.pulled, again.removed) == (0, 0, 0)


def test_what_was_rolled_back_was_never_there(world: World, node: Node) -> None:
    path = node.database.path
    foreign.run(path, *BEFORE)
    node.sync()
    mess = ["DELETE FROM contact", f"INSERT INTO contact (id, {KIND}) VALUES ('x', {ANN})", "UPDATE task SET title = 'x'"]
    for end in (["ROLLBACK"], ["ROLLBACK TO s", "RELEASE s", "COMMIT"]):
        foreign.run(path, "BEGIN", "SAVEPOINT s", *mess, *end, commit=False)
        with pytest.raises(foreign.Failed):
            foreign.run(path, *mess, "INSERT INTO no_such_table VALUES (1)")
        report = node.sync()
        assert (report.pushed, report.pulled) == (0, 0)
    assert_same(world, node)


def test_numbers_of_rolled_back_and_deleted_rows_are_not_taken_for_seen(world: World, node: Node) -> None:
    """AUTOINCREMENT's memory is rolled back too: the next row gets the same number, and is new."""
    path = node.database.path
    for i in range(3):
        foreign.run(path, "BEGIN", "INSERT INTO task (id, owner_id) VALUES ('no', 'e1')", "ROLLBACK", commit=False)
        foreign.run(path, f"INSERT INTO task (id, owner_id) VALUES ('t{i}', 'e1')", f"DELETE FROM task WHERE id = 't{i - 1}'")
        node.sync()
        assert_same(world, node)


def test_an_open_transaction_of_another_program_is_not_seen(world: World, node: Node) -> None:
    path = node.database.path
    foreign.run(path, "BEGIN", "INSERT INTO task (id, owner_id) VALUES ('t1', 'e1')", connection="slow", commit=False)
    assert foreign.rows(world.database.path, "SELECT * FROM task") == []
    assert node.database.has_changes() is False
    foreign.run(path, "COMMIT", connection="slow", commit=False)
    foreign.close(path, "slow")
    assert node.sync().pushed == 1
    assert_same(world, node)


def test_rows_that_came_from_the_centre_are_not_captured(world: World, node: Node) -> None:
    other = world.node("l3", "branch:LON", "owner:e1")
    foreign.run(node.database.path, *BEFORE)
    node.sync()
    report = other.sync()
    assert (report.pulled, report.pushed) == (6, 0)
    assert not other.database.has_changes()
    assert other.sync().pushed == 0


# --- random histories ----------------------------------------------------------------------------------------------------


class Program:
    """A foreign program that does anything plain SQL can do; two connections, many statements a commit, some rolled back."""

    def __init__(self, path: Path, chance: random.Random) -> None:
        self.path, self.chance, self.fresh = path, chance, 0
        self.new: list[str] = []  # documents that no exchange has seen yet: those may still be changed
        self.does: list[Callable[[], list[str]]] = [
            self.insert, self.insert, self.sale, self.sale, self.update, self.update, self.back, self.delete, self.newest,
            self.replace, self.upsert, self.rename, self.usurp, self.tag, self.child, self.undo_sale,
        ]  # fmt: skip

    def key(self) -> str:
        return f"'c{self.chance.randrange(12)}'"

    def word(self) -> str:
        return self.chance.choice(["'a'", "'b'", "'й'", "NULL", "''", "'1'"])

    def column(self) -> str:
        return self.chance.choice(["phone", "email", "city", "street", "note", "credit_limit_minor"])

    def insert(self) -> list[str]:
        return [f"INSERT OR IGNORE INTO contact (id, {KIND}) VALUES ({self.key()}, {ANN})"]

    def update(self) -> list[str]:
        condition = self.chance.choice([f"id = {self.key()}", f"id > {self.key()}", "1"])
        column = self.column()
        return [f"UPDATE contact SET {column} = {'7' if column.startswith('credit') else self.word()} WHERE {condition}"]

    def back(self) -> list[str]:
        return ["UPDATE contact SET name = name || '!'", "UPDATE contact SET name = substr(name, 1, length(name) - 1)"]

    def delete(self) -> list[str]:
        return [f"DELETE FROM {self.chance.choice(['contact', 'contact', 'activity', 'deal'])} WHERE id = {self.key()}"]

    def newest(self) -> list[str]:
        table = self.chance.choice(["contact", "task", "deal"])
        return [f"DELETE FROM {table} WHERE _rid = (SELECT MAX(_rid) FROM {table})"]

    def replace(self) -> list[str]:
        return [f"INSERT OR REPLACE INTO contact (id, {KIND}, phone) VALUES ({self.key()}, {ANN}, {self.word()})"]

    def upsert(self) -> list[str]:
        return [f"INSERT INTO contact (id, {KIND}) VALUES ({self.key()}, {ANN}) ON CONFLICT (id) DO UPDATE SET email = {self.word()}"]

    def rename(self) -> list[str]:
        return [f"UPDATE OR IGNORE contact SET id = {self.key()} WHERE id = {self.key()}"]

    def usurp(self) -> list[str]:
        return [f"UPDATE OR REPLACE contact SET id = {self.key()} WHERE id = {self.key()}"]

    def tag(self) -> list[str]:
        verb = self.chance.choice(["INSERT OR IGNORE", "INSERT OR REPLACE"])
        known = f"SELECT id, {self.chance.choice(['1', '2'])} FROM contact WHERE id = {self.key()}"
        add = f"{verb} INTO contact_tag (contact_id, tag) {known}"
        return [self.chance.choice([add, f"DELETE FROM contact_tag WHERE contact_id = {self.key()}"])]

    def child(self) -> list[str]:
        if self.chance.random() < 0.5:
            add = f"INSERT OR REPLACE INTO activity (id, contact_id, topic) SELECT {self.key()}, id, phone"
        else:
            add = f"INSERT OR REPLACE INTO deal (id, contact_id, title, owner_id) SELECT {self.key()}, id, phone, owner_id"
        return [f"{add} FROM contact WHERE id = {self.key()}"]

    def sale(self) -> list[str]:
        self.fresh += 1
        key = f"s{self.fresh}"
        self.new.append(key)
        statements = [
            "INSERT INTO sale (id, number, kind, branch_id, sold_ms, currency, total_minor) "
            f"VALUES ('{key}', 'n', 'sale', 'LON', 1, 'GBP', {self.fresh})",
            *(
                f"INSERT INTO sale_line (id, sale_id, qty_milli, unit_price_e4, amount_minor) VALUES ('{key}-{i}', '{key}', {i}, 1, {i})"
                for i in range(self.chance.randrange(4))
            ),
            f"INSERT INTO payment (id, sale_id, method, amount_minor) VALUES ('{key}', '{key}', 'cash', {self.fresh})",
            "INSERT INTO stock_move (id, product_id, branch_id, qty_milli, reason, sale_id, moved_ms)"
            f" VALUES ('{key}', 'p', 'LON', -1, 'sale', {self.chance.choice(['NULL', repr(key)])}, 1)",
        ]
        self.chance.shuffle(statements)
        return statements

    def undo_sale(self) -> list[str]:
        if not self.new:
            return []
        key = self.chance.choice(self.new)
        change = [f"UPDATE sale SET total_minor = total_minor + 1 WHERE id = '{key}'"]
        again = [
            f"INSERT OR REPLACE INTO sale_line (id, sale_id, qty_milli, unit_price_e4, amount_minor) VALUES ('{key}-0', '{key}', 5, 5, 5)"
        ]
        gone = [
            f"DELETE FROM {table} WHERE {column} = '{key}'"
            for table, column in (("sale", "id"), ("sale_line", "sale_id"), ("payment", "sale_id"))
        ]
        choice = self.chance.choice([change, again, gone])
        if choice is gone:
            self.new.remove(key)
        if choice is again and foreign.rows(self.path, "SELECT 1 FROM sale WHERE id = ?", key) == []:
            return []
        return choice

    def commit(self) -> None:
        """Write one commit, or roll it back, over one of two connections that stay open."""
        new = list(self.new)
        statements = [sql for _ in range(self.chance.randrange(1, 5)) for sql in self.chance.choice(self.does)()]
        end = "COMMIT" if self.chance.random() < 0.85 else "ROLLBACK"
        if end == "ROLLBACK":
            self.new = new
        connection = self.chance.choice(["one", "two"])
        foreign.run(self.path, "BEGIN IMMEDIATE", *statements, end, connection=connection, commit=False)

    def close(self) -> None:
        for connection in ("one", "two"):
            foreign.close(self.path, connection)


@pytest.mark.parametrize("seed", range(8))
def test_random_histories_of_plain_sql(world: World, node: Node, seed: int) -> None:
    chance = random.Random(seed)
    program = Program(node.database.path, chance)
    other = world.node("l3", "branch:LON", "owner:e1")
    for _ in range(8):
        for _ in range(chance.randrange(1, 5)):
            program.commit()
            if chance.random() < 0.3:
                Cycle(node.database, node.link).seal()  # an exchange that was cut before it sent anything
                program.new.clear()
        program.new.clear()
        first = node.sync()
        assert sum(first.verdicts.values()) == first.pushed
        second = node.sync()
        assert second.pushed == 0, "nothing is captured twice"
        assert_same(world, node)
    program.close()
    other.sync()
    assert_same(world, other)

"""Every kind of table under every form of scope: each node holds just what the declaration says, and verify says so too.

What a row's scope keys are is spelled in the fast path of a push, in the feed, in rights, in what the centre journals and in
verify. Here a few lines of Python, slow and obvious, say it once more, from the declaration and the centre's rows alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from sqlmodel import Field

from schema.declare import By, Everyone, Kind, ScopeRule, Sync, Synced, Through
from schema.registry import Schema, build
from tests.world import Node, World

Scope = tuple[ScopeRule, ...]
Row = dict[str, Any]

PARENTS: dict[str, Scope] = {
    "one": (By("branch", "branch_id"),),
    "two": (By("branch", "branch_id"),),
    "all": (Everyone(),),
    "under": (Through("all", "all_id"),),
}
FORMS: dict[str, Scope] = {
    "everyone": (Everyone(),),
    "by": (By("branch", "branch_id"),),
    "two_by": (By("branch", "branch_id"), By("branch", "other_id")),
    "by_and_everyone": (By("branch", "branch_id"), Everyone()),
    "under_by": (Through("one", "one_id"),),
    "under_everyone": (Through("all", "all_id"),),
    "two_under_everyone": (Through("under", "under_id"),),
    "loose_under_by_and_by": (Through("one", "one_id", owned=False), By("owner", "branch_id")),
    "loose_under_everyone_and_by": (Through("all", "all_id", owned=False), By("owner", "branch_id")),
    "two_parents": (Through("one", "one_id", owned=False), Through("two", "two_id", owned=False)),
    "one_parent_twice": (Through("one", "one_id", owned=False), Through("one", "next_id", owned=False)),
}
COLUMNS = ("id", "branch_id", "other_id", "one_id", "next_id", "two_id", "all_id", "under_id", "words")
SCOPES = {"a": ("branch:A", "owner:A"), "b": ("branch:B", "owner:B")}


def declare(kind: Kind, name: str, scope: Scope) -> type[Synced]:
    """Declare a table; names begin with the kind, as all classes share one registry."""
    keys = COLUMNS if kind is Kind.SET and name in FORMS else COLUMNS[:1]
    rules = tuple(Through(f"{kind}_{rule.table}", rule.column, rule.owned) if isinstance(rule, Through) else rule for rule in scope)
    above = Kind.DOCUMENT if kind in (Kind.DOCUMENT, Kind.EVENT) else Kind.RECORD
    members: dict[str, Any] = {column: Field(primary_key=True) if column in keys else None for column in COLUMNS}
    members["__annotations__"] = {"sync": ClassVar[Sync], **{column: str if column in keys else str | None for column in COLUMNS}}
    members |= {"sync": Sync(kind if name in FORMS else above, rules), "__tablename__": f"{kind}_{name}", "__module__": __name__}
    return type(Synced)(f"{kind}_{name}", (Synced,), members, table=True)  # type: ignore[no-any-return]


SCHEMAS: dict[Kind, Schema] = {kind: build([declare(kind, *each) for each in (PARENTS | FORMS).items()]) for kind in Kind}


@dataclass(frozen=True)
class Stage:
    """A world with one table of a kind for each form of scope, and their parents."""

    world: World
    kind: Kind

    def rows(self) -> dict[str, list[Row]]:
        """Return the centre's rows."""
        sql = f"SELECT {', '.join(COLUMNS)} FROM {self.kind}_{{}}"
        with self.world.database.reading() as store:
            found = {table: store.connection.execute(sql.format(table)).fetchall() for table in PARENTS | FORMS}
        return {table: [dict(zip(COLUMNS, row, strict=True)) for row in rows] for table, rows in found.items()}

    def keys(self, rows: dict[str, list[Row]], scope: Scope, row: Row) -> set[str]:
        """Return a row's scope keys, as PROTOCOL.md §2.2 has them."""
        found = set[str]()
        for rule in scope:
            if isinstance(rule, Everyone):
                found.add("*")
            elif isinstance(rule, By):
                found |= {f"{rule.prefix}:{row[rule.column]}"} if row[rule.column] is not None else set()
            else:
                for parent in rows[rule.table]:
                    found |= self.keys(rows, PARENTS[rule.table], parent) if parent["id"] == row[rule.column] else set()
        return found

    def run(self, who: Node | World, statement: str, *values: object) -> None:
        """Write to every table under test in one go, as any program would."""
        connection = who.database.dialect.open(who.database.path)
        connection.execute("BEGIN")
        for form in FORMS:
            connection.execute(statement.format(f"{self.kind}_{form}"), values)
        connection.execute("COMMIT")
        connection.close()

    def insert(self, who: Node | World, identity: str, branch: str, other: str, *, under: bool = True) -> None:
        """Insert a row into every table under test; with `under` false it names no parent, where it need not."""
        parents: tuple[str | None, ...] = (f"one{branch}", f"one{other}", f"two{other}", "allA", "underA")
        if not under and self.kind is not Kind.SET:
            parents = (None,) * len(parents)
        row = (identity, branch, other, *parents, "1")
        self.run(who, f"INSERT INTO {{}} ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(row))})", *row)

    def central(self, statement: str) -> None:
        """Let the centre change every table under test, and both nodes hear of it."""
        self.run(self.world, statement)
        self.sync()

    def sync(self) -> None:
        for name in SCOPES:
            self.world.node(name).sync()

    def check(self, name: str, *scope: str) -> None:
        """Compare what a node holds with what the declaration says; of reference tables its own are proposals, held and in sight."""
        node = self.world.node(name)
        own = {"a1", "a2"} if self.kind is Kind.REFERENCE and name == "a" else set[str]()
        assert len(node.held()) == len(own) * len(FORMS)
        rows = self.rows()
        for form, rules in FORMS.items():
            wanted = {row["id"] for row in rows[form] if not self.keys(rows, rules, row).isdisjoint({"*", *scope})} | own
            assert {row[0] for row in node.sql(f"SELECT id FROM {self.kind}_{form}")} == wanted, (name, form)
        assert node.compared()["equal"], name


@pytest.fixture(params=list(Kind))
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    world = World(tmp_path, SCHEMAS[request.param])
    stage = Stage(world, request.param)
    for name, scope in SCOPES.items():
        world.node(name, *scope).sync()
    for branch in "AB":
        for table in PARENTS:
            sql = f"INSERT INTO {stage.kind}_{table} (id, branch_id, all_id) VALUES (?, ?, ?)"
            world.sql(sql, f"{table}{branch}", branch, f"all{branch}")
    stage.sync()
    yield stage
    world.close()


@pytest.mark.covers("P-2.5", "P-8.2")
def test_each_node_holds_what_the_declaration_says(stage: Stage) -> None:
    world = stage.world
    stage.insert(world.node("a"), "a1", "A", "A")
    stage.insert(world.node("a"), "a2", "A", "B")
    stage.sync()
    for identity, branch, other in (("c1", "A", "A"), ("c2", "A", "B"), ("c3", "B", "B"), ("c4", "B", "A")):
        stage.insert(world, identity, branch, other)
    stage.insert(world, "c0", "A", "B", under=False)
    stage.sync()
    if stage.kind is not Kind.SET:
        stage.central("UPDATE {} SET words = '2' WHERE id IN ('c1', 'c2')")
        stage.central("UPDATE {} SET branch_id = 'B', one_id = 'oneB' WHERE id = 'a1'")
    stage.central("DELETE FROM {} WHERE id = 'c4'")
    world.sql(f"UPDATE {stage.kind}_one SET branch_id = 'B' WHERE id = 'oneA'")
    stage.sync()
    stage.insert(world, "c5", "A", "A")  # after rows were edited and moved: the feed looks at each row of a run
    stage.sync()
    for name, scope in SCOPES.items():
        stage.check(name, *scope)
    world.rescope("b", *SCOPES["a"])
    world.node("b").sync()
    world.node("late", *SCOPES["a"]).sync()
    for name in ("b", "late"):
        stage.check(name, *SCOPES["a"])

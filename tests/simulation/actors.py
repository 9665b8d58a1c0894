"""What people and programs type: random statements of plain SQL that make sense in what they see.

One `Typist` types one transaction: it remembers which rows it has used, so that every transaction says one thing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any

from tests.simulation.oracle import Key, Rows

Statement = tuple[str, list[Any]]

BRANCHES, OWNERS = "ABC", ("o1", "o2")
TABLE_SETS = {
    "all": (),
    "records": ("client", "visit", "errand", "remark", "client_label", "ware"),
    "documents": ("receipt", "receipt_line", "stock", "ware"),
    "client": ("client",),
}
"""For `--table-set`: which tables a history may write; none named: all."""


class Fresh:
    """Values that are used once: texts w1, w2, … and numbers that end in the same counts."""

    def __init__(self, random: Random) -> None:
        self.random, self.count = random, 0

    def number(self) -> int:
        """Return the next count."""
        self.count += 1
        return self.count

    def text(self) -> str:
        """Return a text never used before, or now and then a common one."""
        return "same" if self.random.random() < 0.07 else f"w{self.number()}"

    def size(self) -> int:
        """Return a number of random size never used before, or now and then a common one."""
        return self.random.randrange(3) if self.random.random() < 0.07 else self.random.randrange(1, 1000) * 100_000 + self.number()


class Typist:
    """Types one transaction into what is in view."""

    def __init__(
        self, fresh: Fresh, view: Rows, scope: frozenset[str], tables: Sequence[str] = (), today: str = "", ended: Iterable[str] = ()
    ) -> None:
        self.today = today
        self.before = sorted(ended)  # keys of clients that somebody deleted: they may be used again
        self.random, self.fresh, self.view, self.tables = fresh.random, fresh, view, tables
        self.branches = sorted(key[7:] for key in scope if key.startswith("branch:"))
        self.owners = sorted(key[6:] for key in scope if key.startswith("owner:"))
        self.used: set[tuple[str, Key]] = set()
        self.ended: set[tuple[str, Key]] = set()  # rows whose life ends here, even if another begins
        self.statements: list[Statement] = []

    def type(self, count: int) -> list[Statement]:
        """Return the statements of a transaction that says up to `count` things."""
        for _ in range(count):
            ways, weights = zip(
                *((way, weight) for way, weight, table in self._ways() if not self.tables or table in self.tables), strict=True
            )
            self.random.choices(ways, weights)[0]()
        return self.statements

    def _ways(self) -> list[tuple[Callable[[], None], float, str]]:
        return [
            (self.new_client, 2.5, "client"),
            (self.edit_client, 12, "client"),
            (self.move_client, 1.5, "client"),
            (self.delete_client, 1.5, "client"),
            (self.replace_client, 1, "client"),
            (self.client_again, 0.7, "client"),
            (self.rename_client, 0.3, "client"),
            (self.new_visit, 3, "visit"),
            (self.edit_visit, 3, "visit"),
            (self.delete_visit, 1, "visit"),
            (self.new_errand, 2, "errand"),
            (self.edit_errand, 2, "errand"),
            (self.delete_errand, 0.7, "errand"),
            (self.new_remark, 1.5, "remark"),
            (self.label, 2.5, "client_label"),
            (self.new_receipt, 3, "receipt"),
            (self.new_stock, 1.5, "stock"),
            (self.forbidden, 0.5, "ware"),
        ]

    # --- helpers ---------------------------------------------------------------------------------------------------

    def say(self, sql: str, *values: Any) -> None:
        self.statements.append((sql, list(values)))

    def insert(self, table: str, values: dict[str, Any], verb: str = "INSERT") -> None:
        self.say(f"{verb} INTO {table} ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})", *values.values())

    def pick(self, table: str) -> Key | None:
        """Return a row in view that this transaction has not used yet, and use it."""
        free = [key for key in sorted(self.view[table]) if (table, key) not in self.used]
        if not free:
            return None
        key = self.random.choice(free)
        self.used.add((table, key))
        return key

    def use(self, table: str, key: str) -> bool:
        """Use a key; False if it is in view or used already."""
        if (key,) in self.view[table] or (table, (key,)) in self.used:
            return False
        self.used.add((table, (key,)))
        return True

    def branch(self) -> str | None:
        """Return a branch, nearly always one of the writer's own."""
        if self.branches and self.random.random() < 0.95:
            return self.random.choice(self.branches)
        return self.random.choice([*BRANCHES, None]) if not self.owners or self.random.random() < 0.3 else None

    def owner(self) -> str | None:
        """Return an owner or none."""
        if not self.branches and self.owners and self.random.random() < 0.95:
            return self.random.choice(self.owners)
        return self.random.choice([*OWNERS, None, None])

    def other(self, table: str, none: float = 0.0) -> str | None:
        """Return the id of a row in view to hang something under, or None."""
        keys = [key[0] for key in sorted(self.view[table]) if (table, key) not in self.used]
        return self.random.choice(keys) if keys and self.random.random() >= none else None

    def labels(self, text: str | None) -> str:
        now = set(json.loads(text)) if text else set()
        now ^= {self.random.choice("abcd")}
        return json.dumps(sorted(now), separators=(",", ":"))

    # --- records ---------------------------------------------------------------------------------------------------

    def _client(self) -> dict[str, Any]:
        fresh, random = self.fresh, self.random
        return {
            "branch": self.branch(),
            "owner": self.owner(),
            **{name: fresh.text() for name in ("name", "claim", "credit", "memo", "street", "city")},
            **{name: fresh.size() for name in ("high", "low")},
            "points": random.choice([None, 0, random.randrange(50)]),
            "labels": json.dumps(sorted(random.sample("abcd", random.randrange(3))), separators=(",", ":")),
        }

    def new_client(self) -> None:
        key = f"C{self.random.choice('xyz')}" if self.random.random() < 0.3 else f"C{self.fresh.number()}"
        if self.before and self.random.random() < 0.5:
            key = self.random.choice(self.before)
        if not self.use("client", key):
            return
        values = {"id": key, **self._client()}
        for name in [name for name in values if name not in ("id", "branch", "owner") and self.random.random() < 0.1]:
            del values[name]
        self.insert("client", values)
        if self.random.random() < 0.3:
            self.insert("visit", {"id": f"V{self.fresh.number()}", "client_id": key, "topic": self.fresh.text(), "minutes": 1})
        if self.random.random() < 0.3:
            label = self.random.choice("vw")
            if (key, label) not in self.view["client_label"]:  # one of an earlier life of the key may lie there still
                self.insert("client_label", {"client_id": key, "label": label})

    def edit_client(self) -> None:
        key = self.pick("client")
        if key is None:
            return
        row, changed = self.view["client"][key], {}
        cells = ["name", "claim", "credit", "memo", "high", "low", "points", "labels", "address"]
        for cell in self.random.sample(cells, self.random.choice([1, 1, 2, 3])):
            match cell:
                case "points":
                    changed["points"] = (row["points"] or 0) + self.random.choice([-3, -1, 1, 1, 5])
                case "labels":
                    changed["labels"] = self.labels(row["labels"])
                case "high" | "low":
                    changed[cell] = self.fresh.size()
                case "address":
                    changed[self.random.choice(["street", "city"])] = self.fresh.text()
                case _:
                    changed[cell] = self.fresh.text() if self.random.random() < 0.95 else None
        self._set("client", key, changed)

    def _set(self, table: str, key: Key, changed: dict[str, Any]) -> None:
        if changed:
            self.say(f"UPDATE {table} SET {', '.join(f'{name} = ?' for name in changed)} WHERE id = ?", *changed.values(), key[0])

    def move_client(self) -> None:
        key = self.pick("client")
        if key is not None:
            to = {"branch": self.random.choice(BRANCHES)} if self.random.random() < 0.7 else {"owner": self.random.choice([*OWNERS, None])}
            self._set("client", key, {**to, **({"name": self.fresh.text()} if self.random.random() < 0.3 else {})})

    def delete_client(self) -> None:
        key = self.pick("client")
        if key is None:
            return
        if self.random.random() < 0.5:  # with all its children; else a trigger-less program leaves them lying
            for child, column in (("visit", "client_id"), ("client_label", "client_id")):
                self.say(f"DELETE FROM {child} WHERE {column} = ?", key[0])
        self.say("DELETE FROM client WHERE id = ?", key[0])

    def replace_client(self) -> None:
        key = self.pick("client")
        if key is not None:
            self.insert("client", {**self.view["client"][key], "name": self.fresh.text()}, "INSERT OR REPLACE")

    def client_again(self) -> None:
        key = self.pick("client")
        if key is not None:
            self.ended.add(("client", key))
            self.say("DELETE FROM client WHERE id = ?", key[0])
            self.insert("client", {"id": key[0], **self._client(), "branch": self.view["client"][key]["branch"]})

    def rename_client(self) -> None:
        key = self.pick("client")
        if key is not None:
            self.say("UPDATE client SET id = ? WHERE id = ?", f"C{self.fresh.number()}", key[0])

    def new_visit(self) -> None:
        ended = self.before and self.random.random() < 0.04  # in another window, somebody had deleted that client
        parent = self.random.choice(self.before) if ended else self.other("client", 0.03)
        key = f"V{self.random.choice('xy')}" if self.random.random() < 0.1 else f"V{self.fresh.number()}"
        if self.use("visit", key):
            self.insert("visit", {"id": key, "client_id": parent, "topic": self.fresh.text(), "minutes": self.random.randrange(9)})

    def edit_visit(self) -> None:
        key = self.pick("visit")
        if key is None:
            return
        changed: dict[str, Any] = {}
        for cell in self.random.sample(["topic", "minutes", "client_id"], self.random.choice([1, 1, 2])):
            match cell:
                case "topic":
                    changed["topic"] = self.fresh.text()
                case "minutes":
                    changed["minutes"] = (self.view["visit"][key]["minutes"] or 0) + self.random.choice([-2, 1, 3])
                case "client_id" if (parent := self.other("client")) is not None:
                    changed["client_id"] = parent
        self._set("visit", key, changed)

    def delete_visit(self) -> None:
        if (key := self.pick("visit")) is not None:
            self.say("DELETE FROM visit WHERE id = ?", key[0])

    def new_errand(self) -> None:
        parent = self.other("client", 0.4)
        owner = self.random.choice(self.owners) if self.owners and parent is None and self.random.random() < 0.9 else self.owner()
        if parent is None and not self.owners and self.random.random() < 0.9:
            return
        self.insert(
            "errand",
            {"id": f"E{self.fresh.number()}", "client_id": parent, "owner": owner, "title": self.fresh.text()},
        )

    def edit_errand(self) -> None:
        if (key := self.pick("errand")) is not None:
            way = self.random.random()
            change = (
                {"client_id": self.other("client", 0.3)}
                if way < 0.25
                else {"owner": self.owner()}
                if way < 0.4
                else {"title": self.fresh.text()}
            )
            self._set("errand", key, change)

    def delete_errand(self) -> None:
        if (key := self.pick("errand")) is not None:
            self.say("DELETE FROM errand WHERE id = ?", key[0])

    def new_remark(self) -> None:
        if (parent := self.other("visit")) is not None:
            self.insert("remark", {"id": f"M{self.fresh.number()}", "visit_id": parent, "text": self.fresh.text()})

    def label(self) -> None:
        parent = self.other("client")
        if parent is None:
            return
        key = (parent, self.random.choice("vwx"))
        if ("client_label", key) in self.used:
            return
        self.used.add(("client_label", key))
        if key in self.view["client_label"]:
            self.say("DELETE FROM client_label WHERE client_id = ? AND label = ?", *key)
        else:
            self.insert("client_label", dict(zip(("client_id", "label"), key, strict=True)))

    # --- documents and events ----------------------------------------------------------------------------------------

    def new_receipt(self) -> None:
        key = f"S{self.random.choice('pq')}" if self.random.random() < 0.1 else f"S{self.fresh.number()}"
        if not self.use("receipt", key):
            return
        amounts = [self.random.randrange(1, 500) for _ in range(self.random.choice([1, 2, 2, 3]))]
        branch = self.branch()
        self.insert("receipt", {"id": key, "branch": branch, "owner": self.owner(), "day": self.today, "total": sum(amounts)})
        for amount in amounts:
            self.insert("receipt_line", {"id": f"L{self.fresh.number()}", "receipt_id": key, "amount": amount})
        if branch and self.random.random() < 0.3:
            self.insert("stock", {"id": f"K{self.fresh.number()}", "branch": branch, "quantity": -1, "receipt_id": key})

    def new_stock(self) -> None:
        self.insert("stock", {"id": f"K{self.fresh.number()}", "branch": self.branch(), "quantity": self.random.randrange(-5, 9)})

    # --- what a node may not do ------------------------------------------------------------------------------------------

    def forbidden(self) -> None:
        way = self.random.random()
        if way < 0.3:
            self.insert("ware", {"id": f"W{self.fresh.number()}", "name": self.fresh.text()})
        elif way < 0.5 and (key := self.pick("ware")) is not None:
            self._set("ware", key, {"name": self.fresh.text()})
        elif way < 0.7 and (key := self.pick("receipt")) is not None:
            self._set("receipt", key, {"total": self.random.randrange(500)})
        elif way < 0.8 and (key := self.pick("stock")) is not None:
            self.say("DELETE FROM stock WHERE id = ?", key[0])
        else:
            self.insert(
                "client", {"id": f"C{self.fresh.number()}", **self._client(), "branch": self.random.choice(BRANCHES), "owner": None}
            )

"""The demo's people, goods and receipts: invented, the same every time."""

from __future__ import annotations

import random
from pathlib import Path

from node.database import Database
from node.writer import Transaction, transaction
from schema.dialects.sqlite import Sqlite

CONTACT, CONTACT_NAME = "contact-olha", "Ольга Ковальчук"
DAY_MS = 86_400_000

_FIRST = (
    "Олена",
    "Іван",
    "Марія",
    "Тарас",
    "Софія",
    "Максим",
    "Anna",
    "James",
    "Chloë",
    "Zoë",
    "Oliver",
    "Siân",
    "Юлія",
    "Пётр",
    "Мирослава",
)
_LAST = (
    "Шевченко",
    "Бондаренко",
    "Ткачук",
    "Лисенко",
    "O’Connor",
    "Smith",
    "Brontë",
    "Müller",
    "Соловьёв",
    "Д’Артаньян",
    "Jones",
    "Їжакевич",
)
_GOODS = (
    ("TEA-1", "Чай чорний 100 г", 5250),
    ("TEA-2", "Earl Grey 250 g", 11900),
    ("CUP-1", "Чашка «Весна»", 18500),
    ("CAKE", "Медовик", 42000),
)
_BRANCHES = (("KYV", "Київ", "Ukraine", "UAH"), ("LON", "London", "England", "GBP"))
_CURRENCY = {branch[0]: branch[3] for branch in _BRANCHES}


def slug(name: str) -> str:
    """Return a folder name for a node."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name.lower())


def till(name: str) -> str:
    """Return the till a node of the demo sells at."""
    return "L1" if "laptop" in name else "T1"


def reference(server: Path) -> None:
    """Write branches, people, goods and prices at the centre, by plain SQL as any central program may."""
    connection = Sqlite().open(server)
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO branch (id, name, region) VALUES (?, ?, ?)", [branch[:3] for branch in _BRANCHES])
    connection.execute("INSERT INTO employee (id, name, branch_id, role) VALUES ('olena', 'Олена Шевченко', 'KYV', 'rep')")
    connection.executemany("INSERT INTO product (id, sku, name) VALUES (?, ?, ?)", [(sku, sku, name) for sku, name, _ in _GOODS])
    connection.executemany(
        "INSERT INTO price (id, product_id, branch_id, valid_from_ms, currency, amount_e4) VALUES (?, ?, ?, 0, ?, ?)",
        [(f"{sku}-{b}", sku, b, money, minor * 100) for sku, _, minor in _GOODS for b, money in _CURRENCY.items()],
    )
    connection.commit()
    connection.close()


def contacts(tx: Transaction, branch: str, count: int) -> None:
    """Insert contacts of a branch; the one the story is about is Kyiv's and Olena's."""
    chance = random.Random(branch)
    for _ in range(count):
        name = f"{chance.choice(_FIRST)} {chance.choice(_LAST)}"
        tx.insert("contact", {"id": tx.new_id(), "kind": "person", "name": name, "branch_id": branch, "phone": _phone(chance)})
        tx.announce()
    if branch == "KYV":
        values = {"id": CONTACT, "kind": "person", "name": CONTACT_NAME, "branch_id": branch, "owner_id": "olena"}
        tx.insert("contact", {**values, "phone": "044 000 00 00", "city": "Львів"})
        tx.insert("contact_tag", {"contact_id": CONTACT, "tag": "постійний клієнт"})


def _phone(chance: random.Random) -> str:
    return f"+380 {chance.randrange(39, 99)} {chance.randrange(100, 999)} {chance.randrange(10, 99)} {chance.randrange(10, 99)}"


def sell(database: Database, branch: str, till_name: str, count: int) -> None:
    """Record receipts, each one transaction: sale, lines, payment, stock. Every twelfth is a return."""
    chance = random.Random(f"{branch}{till_name}{count}")
    for index in range(count):
        with transaction(database) as tx:
            _receipt(tx, database.clock_ms() - chance.randrange(90) * DAY_MS, branch, till_name, chance, -1 if index % 12 == 11 else 1)


def _receipt(tx: Transaction, sold_ms: int, branch: str, till_name: str, chance: random.Random, sign: int) -> None:
    sale, money = tx.new_id(), _CURRENCY[branch]
    bought = [(sku, name, minor, chance.randrange(1, 4)) for sku, name, minor in chance.sample(_GOODS, chance.randrange(1, 4))]
    total = sign * sum(minor * pieces for _, _, minor, pieces in bought)
    values = {"id": sale, "number": tx.receipt_number(branch, till_name), "kind": "sale" if sign > 0 else "return", "branch_id": branch}
    tx.insert("sale", {**values, "till": till_name, "sold_ms": sold_ms, "currency": money, "total_minor": total})
    for sku, name, minor, pieces in bought:
        quantity, amount = sign * pieces * 1000, sign * minor * pieces
        line = {"id": tx.new_id(), "sale_id": sale, "product_id": sku, "name": name, "qty_milli": quantity}
        tx.insert("sale_line", {**line, "unit_price_e4": minor * 100, "amount_minor": amount})
        move = {"id": tx.new_id(), "product_id": sku, "branch_id": branch, "qty_milli": -quantity, "reason": values["kind"]}
        tx.insert("stock_move", {**move, "sale_id": sale, "moved_ms": sold_ms})
    tx.insert("payment", {"id": tx.new_id(), "sale_id": sale, "method": "card", "amount_minor": total})

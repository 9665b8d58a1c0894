"""The rows that are measured: receipts of one busy branch, and contacts. The same seed gives the same rows everywhere.

A receipt fills all of `sale` but `original_sale_id`: UUIDv7 ids in the order of time, three tills, eight employees, three
of five receipts with one of 5,000 customers, amounts at random. About 200 bytes of values a row.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

from sync.ids import uuid7

SEED = 20_261_121
BEGIN_MS = 1_760_000_000_000
BRANCH = "LON"
TILLS = 3
EMPLOYEES = 8
CUSTOMERS = 5_000

Row = tuple[Any, ...]

SALE = (
    "id",
    "number",
    "kind",
    "branch_id",
    "till",
    "employee_id",
    "contact_id",
    "original_sale_id",
    "sold_ms",
    "business_date",
    "currency",
    "total_minor",
    "tax_minor",
    "discount_minor",
)
CONTACT = ("id", "kind", "name", "phone", "email", "street", "postcode", "city", "country", "owner_id", "branch_id", "created_ms")

FIRST = ("Asha", "Bilal", "Chidi", "Dilnoza", "Eleni", "Farouk", "Grace", "Hamid", "Анна", "Иван", "Мария", "Пётр")
LAST = ("Abebe", "Banda", "Castro", "Diallo", "Espinoza", "Fofana", "Gupta", "Haddad", "Иванова", "Ковальчук", "Петров")
CITIES = ("London", "Leeds", "Bristol", "Glasgow", "Cardiff", "Belfast")


def sales(count: int, seed: int = SEED) -> list[Row]:
    """Return `count` receipts, as tuples in the order of SALE."""
    rng = random.Random(seed)
    customers = [uuid7(BEGIN_MS - rng.randrange(10**10), rng.randbytes(10)) for _ in range(CUSTOMERS)]
    rows: list[Row] = []
    at = BEGIN_MS
    for index in range(count):
        at += rng.randrange(20_000)
        till, total = rng.randrange(TILLS), rng.randrange(50, 250_00)
        rows.append(
            (
                uuid7(at, rng.randbytes(10)),
                f"{BRANCH}-t{till}-{index:06d}",
                "sale" if rng.randrange(50) else "return",
                BRANCH,
                f"t{till}",
                f"e{rng.randrange(EMPLOYEES)}",
                rng.choice(customers) if rng.randrange(5) < 3 else None,
                None,
                at,
                time.strftime("%Y-%m-%d", time.gmtime(at / 1000)),
                "GBP",
                total,
                total // 6,
                0 if rng.randrange(10) else total // 20,
            )
        )
    return rows


def contacts(count: int, size: int = 20_000, seed: int = SEED + 1) -> Iterator[list[Row]]:
    """Yield contacts in portions, as tuples in the order of CONTACT."""
    rng = random.Random(seed)
    for low in range(0, count, size):
        yield [_contact(rng, index) for index in range(low, min(low + size, count))]


def _contact(rng: random.Random, index: int) -> Row:
    first, last = rng.choice(FIRST), rng.choice(LAST)
    at = BEGIN_MS + index * 1000
    return (
        uuid7(at, rng.randbytes(10)),
        "person",
        f"{first} {last}",
        f"+44{rng.randrange(10**9):09d}",
        f"c{index}@mail.example",
        f"{rng.randrange(1, 300)} High Street",
        f"N{rng.randrange(1, 20)} {rng.randrange(10)}AB",
        rng.choice(CITIES),
        "GB",
        f"e{rng.randrange(EMPLOYEES)}",
        BRANCH,
        at,
    )

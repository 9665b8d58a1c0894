"""What the centre must say of the public data, computed straight from the CSV files.

Nothing of the importer is used, and the ways differ on purpose: everything is held in memory, columns are taken by
name, money is rounded with whole numbers of the product's own scale.
"""

import csv
import gzip
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
ONLINE_RETAIL = DATA / "online_retail" / "online_retail.csv.gz"
NORTHWIND = DATA / "northwind"

BRANCHES = {"United Kingdom": "UK", "Germany": "DE", "France": "FR", "EIRE": "IE"}


@dataclass
class Totals:
    """What the report of sales says of one branch."""

    receipts: int = 0
    returns: int = 0
    lines: int = 0
    qty_milli: int = 0
    total_minor: int = 0


@dataclass
class _Invoice:
    branch: str
    is_return: bool
    lines: list[tuple[Decimal, int]] = field(default_factory=list)  # quantity, amount in minor units


def online_retail_expected(path: Path) -> dict[str, Totals]:
    """Return the totals by branch id; the branches are country groups."""
    invoices: dict[str, _Invoice] = {}
    for row in _rows(path):
        number = row["InvoiceNo"]
        if number not in invoices:
            invoices[number] = _Invoice(BRANCHES.get(row["Country"], "XX"), number[0] == "C")
        quantity = Decimal(row["Quantity"])
        invoices[number].lines.append((quantity, cents(quantity, Decimal(row["UnitPrice"]))))
    return _by_branch(invoices.values())


def online_retail_contacts(path: Path) -> dict[str, str]:
    """Return contact id → branch id of the customer's first country."""
    first: dict[str, tuple[str, str]] = {}
    for row in _rows(path):
        code = row["CustomerID"]
        if code:
            seen = (row["InvoiceDate"], BRANCHES.get(row["Country"], "XX"))
            first[code] = min(first.get(code, seen), seen, key=lambda one: one[0])
    return {code[: code.index(".")]: branch for code, (_, branch) in first.items()}


def northwind_expected(folder: Path) -> dict[str, Totals]:
    """Return the totals by branch id, which is the region's; freight is a line of quantity 1."""
    region = {row["TerritoryID"]: row["RegionID"] for row in _rows(folder / "Territories.csv")}
    of_employee = {row["EmployeeID"]: region[row["TerritoryID"]] for row in reversed(list(_rows(folder / "EmployeeTerritories.csv")))}
    invoices = {}
    for row in _rows(folder / "Orders.csv"):
        freight = (Decimal(1), cents(Decimal(row["Freight"])))
        invoices[row["OrderID"]] = _Invoice(of_employee[row["EmployeeID"]], False, [freight])
    for row in _rows(folder / "OrderDetails.csv"):
        quantity = Decimal(row["Quantity"])
        net = cents(quantity, Decimal(row["UnitPrice"]), 1 - Decimal(row["Discount"]))
        invoices[row["OrderID"]].lines.append((quantity, net))
    return _by_branch(invoices.values())


def cents(*factors: Decimal) -> int:
    """Return the product in hundredths, half away from zero, by whole numbers alone."""
    mantissa, exponent = 100, 0
    for factor in factors:
        sign, digits, scale = factor.as_tuple()
        assert isinstance(scale, int)
        mantissa *= int("".join(map(str, digits))) * (-1 if sign else 1)
        exponent += scale
    if exponent >= 0:
        return mantissa * int("1" + "0" * exponent)
    unit: int = 10**-exponent
    rounded = (2 * abs(mantissa) + unit) // (2 * unit)
    return -rounded if mantissa < 0 else rounded


def _by_branch(invoices: Iterable[_Invoice]) -> dict[str, Totals]:
    totals: defaultdict[str, Totals] = defaultdict(Totals)
    for invoice in invoices:
        branch = totals[invoice.branch]
        branch.returns += invoice.is_return
        branch.receipts += not invoice.is_return
        branch.lines += len(invoice.lines)
        branch.qty_milli += int(sum(quantity for quantity, _ in invoice.lines) * 1000)
        branch.total_minor += sum(amount for _, amount in invoice.lines)
    return dict(totals)


def _rows(path: Path) -> Iterator[dict[str, str]]:
    packed = path.suffix == ".gz"
    with gzip.open(path, "rt", encoding="utf-8") if packed else path.open(encoding="utf-8", newline="") as stream:
        yield from csv.DictReader(stream)

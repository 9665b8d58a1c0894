"""The Northwind mapping on small folders made here: lookups over files, freight, documents of several files."""

from pathlib import Path

import pytest

from schema.importer.mapping import load_mapping
from schema.importer.report import ImportReport
from schema.importer.run import run_import
from tests.schema.importer.local import LocalTarget, everything

CUSTOMERS = "CustomerID,CompanyName,ContactName,ContactTitle,Address,City,PostalCode,Country,Phone"
ORDERS = "OrderID,CustomerID,EmployeeID,OrderDate,Freight"
DETAILS = "OrderID,ProductID,UnitPrice,Quantity,Discount"
FOLDER = {
    "Region.csv": ["RegionID,RegionDescription", "1,Eastern   ", "2,Western"],
    "Territories.csv": ["TerritoryID,RegionID", "01581,1", "98004,2"],
    "EmployeeTerritories.csv": ["EmployeeID,TerritoryID", "5,01581", "6,98004"],
    "Employees.csv": ["EmployeeID,LastName,FirstName,Title", "5,Buchanan,Steven,Manager", "6,Suyama,Michael,NULL"],
    "Categories.csv": ["CategoryID,CategoryName", "1,Beverages"],
    "Products.csv": ["ProductID,ProductName,CategoryID,UnitPrice", "11,Queso,1,21", "42,Mee,,9.8"],
    "Customers.csv": [
        CUSTOMERS,
        "VINET,Vins et alcools,Paul Henriot,Owner,Abbaye,Reims,51100,France,1",
        "PARIS,Paris,,,,,,,",
    ],
    "Orders.csv": [ORDERS, "10248,VINET,6,7/5/1996,32.38", "10249,VINET,5,7/4/1996,0.005"],
    "OrderDetails.csv": [DETAILS, "10248,11,14,12,0", "10249,42,9.8,10,0.15", "10248,42,9.8,10,0"],
}


def imported(
    folder: Path, target: LocalTarget, branch: str | None = None, changes: dict[str, list[str] | None] | None = None
) -> ImportReport:
    for name, lines in (FOLDER | {f"{key}.csv": value for key, value in (changes or {}).items()}).items():
        if lines is not None:
            (folder / name).write_text("\n".join([*lines, ""]), encoding="utf-8")
    return run_import(target, load_mapping("northwind"), [folder], writes=everything, branch=branch)


@pytest.fixture
def target(tmp_path: Path) -> LocalTarget:
    return LocalTarget(tmp_path / "target.db")


def test_a_sale_has_its_details_and_freight(tmp_path: Path, target: LocalTarget) -> None:
    assert imported(tmp_path, target).rejected == []
    assert target.rows("SELECT id, branch_id, employee_id, contact_id, business_date, currency, total_minor FROM sale ORDER BY id") == [
        ("NW-10248", "2", "6", "VINET", "1996-07-05", "USD", 16_800 + 9_800 + 3_238),
        ("NW-10249", "1", "5", "VINET", "1996-07-04", "USD", 8_330 + 1),
    ]
    assert target.rows(
        "SELECT id, name, qty_milli, unit_price_e4, discount_e4, amount_minor FROM sale_line WHERE sale_id = 'NW-10249'"
    ) == [
        ("NW-10249-42", "Mee", 10_000, 98_000, 1_500, 8_330),
        ("NW-10249-freight", "freight", 1_000, 50, None, 1),
    ]


def test_reference_rows_and_contacts(tmp_path: Path, target: LocalTarget) -> None:
    report = imported(tmp_path, target)
    assert target.rows("SELECT id, name, region FROM branch") == [
        ("1", "Eastern", "Eastern"),
        ("2", "Western", "Western"),
    ]
    assert target.rows("SELECT id, name, branch_id, role FROM employee") == [
        ("5", "Steven Buchanan", "1", "Manager"),
        ("6", "Michael Suyama", "2", None),
    ]
    assert target.rows("SELECT id, name, category FROM product") == [("11", "Queso", "Beverages"), ("42", "Mee", None)]
    assert target.rows("SELECT product_id, currency, amount_e4, valid_from_ms FROM price") == [
        ("11", "USD", 210_000, 0),
        ("42", "USD", 98_000, 0),
    ]
    assert target.rows("SELECT id, kind, name, organisation_id, branch_id FROM contact ORDER BY id") == [
        ("PARIS", "organisation", "Paris", None, None),
        ("VINET", "organisation", "Vins et alcools", None, "1"),  # of its first order by date
        ("VINET-person", "person", "Paul Henriot", "VINET", "1"),
    ]
    assert report.notes == {"contact_without_branch": 1, "customers_in_two_branches": 1}


def test_a_branch_takes_its_own_only(tmp_path: Path, target: LocalTarget) -> None:
    report = imported(tmp_path, target, "2")
    assert target.rows("SELECT id, contact_id FROM sale") == [("NW-10248", "VINET")]
    assert target.rows("SELECT id FROM contact") == []
    assert report.notes["contact_of_another_branch"] == 1
    assert report.notes["contact_without_branch"] == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"OrderDetails": None}, "it has no sale_line: no file orderdetails.csv was given"),
        ({"OrderDetails": [DETAILS, "10249,42,9.8,10,0"]}, "it has no sale_line in details"),
        (
            {"OrderDetails": [*FOLDER["OrderDetails.csv"], "10248,1,1,1,15"]},
            "line 5 of OrderDetails.csv, which belongs",
        ),
        ({"Orders": [*FOLDER["Orders.csv"], "10248,VINET,6,7/5/1996,1"]}, "it stands 2 times in Orders.csv"),
        ({"Orders": [ORDERS, "10248,VINET,9,7/5/1996,32.38"]}, "its branch_id is empty"),
        ({"Orders": [ORDERS]}, "there is no orders line for it"),
    ],
)
def test_an_order_that_is_not_whole_stays_out(
    tmp_path: Path, target: LocalTarget, changes: dict[str, list[str] | None], reason: str
) -> None:
    report = imported(tmp_path, target, changes=changes)
    assert target.rows("SELECT id FROM sale WHERE id = 'NW-10248'") == []
    assert target.rows("SELECT id FROM sale_line WHERE sale_id = 'NW-10248'") == []
    assert any(f"sale 10248 is left out whole: {reason}" in str(each["reason"]) for each in report.rejected)


def test_one_product_twice_in_an_order_is_two_lines(tmp_path: Path, target: LocalTarget) -> None:
    details = [DETAILS, "10248,11,14,12,0", "10248,11,14,12,0"]
    orders = [ORDERS, "10248,VINET,6,7/5/1996,NULL"]
    imported(tmp_path, target, changes={"OrderDetails": details, "Orders": orders})
    assert target.rows("SELECT id FROM sale_line") == [("NW-10248-11",), ("NW-10248-11-2",)]
    assert target.rows("SELECT total_minor FROM sale") == [(33_600,)]

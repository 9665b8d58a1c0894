from pathlib import Path

import pytest

from schema.importer.errors import SourceUnreadable
from schema.importer.locate import display_names, locate
from schema.importer.mapping import load_mapping

RETAIL, NORTHWIND = load_mapping("online_retail"), load_mapping("northwind")


def touched(folder: Path, *names: str) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / name for name in names]
    for path in paths:
        path.touch()
    return paths


def test_a_folders_files_have_roles_by_name_whatever_the_case(tmp_path: Path) -> None:
    orders, details, _ = touched(tmp_path, "ORDERS.CSV", "OrderDetails.csv.gz", "readme.txt")
    found = {role: files for role, files in locate(NORTHWIND, [tmp_path]).items() if files}
    assert found == {"orders": [orders], "details": [details]}


def test_the_only_role_takes_a_file_of_any_name(tmp_path: Path) -> None:
    (path,) = touched(tmp_path, "export.txt")
    assert locate(RETAIL, [path]) == {"lines": [path]}


def test_one_file_given_twice_is_read_once(tmp_path: Path) -> None:
    first, second = touched(tmp_path, "a.csv", "b.csv")
    assert locate(RETAIL, [second, tmp_path, tmp_path / "." / "b.csv"]) == {"lines": [second, first]}


@pytest.mark.parametrize(
    ("names", "given", "reason"),
    [
        ([], "none.csv", "no such file"),
        (["what.csv"], "what.csv", "fits no file of the mapping northwind: region.csv"),
        ([], "", "no file of the mapping northwind found"),
        (["orders.csv", "orders.csv.gz"], "", "orders.csv is there as well"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, names: list[str], given: str, reason: str) -> None:
    touched(tmp_path, *names)
    with pytest.raises(SourceUnreadable, match=reason):
        locate(NORTHWIND, [tmp_path / given])


def test_files_are_called_by_their_names_unless_two_have_one(tmp_path: Path) -> None:
    a, b = *touched(tmp_path, "x.csv"), *touched(tmp_path / "sub", "x.csv")
    (c,) = touched(tmp_path, "y.csv")
    assert display_names([a, b, c]) == {a: str(a), b: str(b), c: "y.csv"}

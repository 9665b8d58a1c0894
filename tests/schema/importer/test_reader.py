import gzip
from pathlib import Path

import pytest

from schema.importer.errors import SourceUnreadable
from schema.importer.reader import Record, Rejection, open_source

ROWS = [["Код", "Имя", "Цена"], ["а-1", "Ёлка", "1,50"], ["b-2", "naïve — тест", "2"]]


def written(folder: Path, content: bytes, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


def joined(delimiter: str, end: str = "\r\n") -> str:
    quoted = [[f'"{cell}"' if delimiter in cell else cell for cell in row] for row in ROWS]
    return "".join(delimiter.join(row) + end for row in quoted)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_every_form_reads_the_same(tmp_path: Path, delimiter: str, end: str, encoding: str, name: str) -> None:
    source = open_source(written(tmp_path, joined(delimiter, end).encode(encoding), name))
    assert source.header == tuple(ROWS[0])
    assert list(source.records()) == [Record(2, ROWS[1]), Record(3, ROWS[2])]


def test_windows_1251_is_found_out(tmp_path: Path) -> None:
    text = "Имя;Город\r\nСидоров;Тамбов\r\n"
    source = open_source(written(tmp_path, text.encode("cp1251")))
    assert list(source.records()) == [Record(2, ["Сидоров", "Тамбов"])]


def test_a_named_encoding_and_delimiter_are_taken(tmp_path: Path) -> None:
    path = written(tmp_path, "a,b|c\nя,1|2\n".encode("cp866"))
    source = open_source(path, encoding="cp866", delimiter="|")
    assert source.header == ("a,b", "c")
    assert list(source.records()) == [Record(2, ["я,1", "2"])]


def test_one_broken_byte_does_not_turn_utf8_into_another_encoding(tmp_path: Path) -> None:
    content = "имя,город\nАнна,Львов\nОлег,Киев\n".encode() + b"bad\xff,x\n" + "Яна,Одеса\n".encode()
    rows = list(open_source(written(tmp_path, content)).records())
    assert rows[2] == Rejection(4, "bytes that are not utf-8", ("bad\udcff", "x"))
    assert [row.cells[0] for row in rows if isinstance(row, Record)] == ["Анна", "Олег", "Яна"]


def test_a_byte_that_windows_1251_lacks_is_rejected(tmp_path: Path) -> None:
    rows = list(open_source(written(tmp_path, b"a,b\n\xc0\xe9,1\n\x98,2\n")).records())
    assert rows[0] == Record(2, ["Ай", "1"])
    assert isinstance(rows[1], Rejection)
    assert rows[1].reason == "bytes that are not cp1251"


def test_nul_is_rejected(tmp_path: Path) -> None:
    rows = list(open_source(written(tmp_path, b"a,b\n1\x00,2\n3,4\n")).records())
    assert rows == [Rejection(2, "NUL character", ("1\0", "2")), Record(3, ["3", "4"])]


def test_line_numbers_count_line_breaks_inside_quotes(tmp_path: Path) -> None:
    content = b'a,b\r\n"x\r\ny",1\r\nz\r\n"say ""so""",2\r\n'
    rows = list(open_source(written(tmp_path, content)).records())
    assert rows == [
        Record(2, ["x\r\ny", "1"], ('"x\r\n', 'y",1\r\n')),
        Rejection(4, "too few fields: 1 instead of 2", ("z",)),
        Record(5, ['say "so"', "2"]),
    ]


def test_too_many_fields_keep_their_cells(tmp_path: Path) -> None:
    assert list(open_source(written(tmp_path, b"a,b\n1,2,3\n")).records()) == [
        Rejection(2, "too many fields: 3 instead of 2", ("1", "2", "3"))
    ]


def test_blank_lines_are_no_rows(tmp_path: Path) -> None:
    assert list(open_source(written(tmp_path, b"a,b\n\n1,2\n,\n\n")).records()) == [Record(3, ["1", "2"])]


def test_an_open_quote_is_bounded_and_the_rest_goes_on(tmp_path: Path) -> None:
    filler = b"".join(b"%07d,x\n" % number for number in range(20_000))
    rows = list(open_source(written(tmp_path, b'a,b\n1,2\n"open,3\n' + filler)).records())
    assert rows[0] == Record(2, ["1", "2"])
    assert isinstance(rows[1], Rejection)
    assert rows[1].line == 3
    assert "quote left open" in rows[1].reason
    assert rows[-1] == Record(20_003, ["0019999", "x"])


def test_a_long_cell_is_read(tmp_path: Path) -> None:
    photo = "0x" + "A" * 43_000
    assert list(open_source(written(tmp_path, f"a,b\n1,{photo}\n".encode())).records()) == [Record(2, ["1", photo])]


def test_names_are_stripped_and_rows_come_as_dicts(tmp_path: Path) -> None:
    path = written(tmp_path, "Фамилия; Имя\nГолубев; Иосиф\nx\n".encode("utf-8-sig"))
    rows = list(open_source(path).rows())
    assert rows[0] == (path, 2, {"Фамилия": "Голубев", "Имя": "Иосиф"})
    assert isinstance(rows[1], Rejection)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("t.csv", b"", "empty"),
        ("t.csv", "имя\n".encode("utf-16"), "UTF-16"),
        ("t.csv", b"a,b\n" + b"x" * 3_000_000, "longer than"),
    ],
)
def test_what_is_no_csv_is_said_to_be_none(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    with pytest.raises(SourceUnreadable, match=reason):
        open_source(written(tmp_path, content, name))


@pytest.mark.parametrize("content", [b"not gzip", gzip.compress(b"a,b\n1,2\n" * 1000)[:40]], ids=["no gzip", "cut"])
def test_a_damaged_gz_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(content)
    with pytest.raises(SourceUnreadable, match="cannot be read"):
        open_source(path)


def test_an_unknown_encoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadable, match="no encoding is named 'klingon'"):
        open_source(written(tmp_path, b"a\n1\n"), encoding="klingon")


def test_a_quote_that_is_never_closed_names_the_lines_it_took(tmp_path: Path) -> None:
    path = tmp_path / "open.csv"
    path.write_text('id,name\n1,good\n2,"open\n3,swallowed\n4,too\n', encoding="utf-8")
    found = list(open_source(path).records())
    assert [record.cells for record in found if isinstance(record, Record)] == [["1", "good"]]
    assert [(each.line, each.reason) for each in found if isinstance(each, Rejection)] == [
        (3, "a quote that is opened here is never closed (lines 3 to 5)")
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "cp1251"])
def test_text_behind_a_closing_quote_is_refused_and_the_lines_it_took_come_with_it(tmp_path: Path, delimiter: str, encoding: str) -> None:
    lines = ["к,имя", "1,good", '2,"5 дюймов', "3,swallowed", '4,"свет', "5,good"]
    path = written(tmp_path, "".join(f"{line}\n" for line in lines).replace(",", delimiter).encode(encoding))
    first, rejected, last = open_source(path).records()
    assert isinstance(rejected, Rejection)
    assert (first.line, rejected.line, last.line) == (2, 3, 6)
    assert "behind a closing quote (lines 3 to 5)" in rejected.reason
    assert rejected.texts == tuple(f"{line}\n".replace(",", delimiter) for line in lines[2:5])


def test_a_row_without_an_end_is_bounded(tmp_path: Path) -> None:
    rows = "".join(f'"{number:07d}\n",' for number in range(900_000))
    with pytest.raises(SourceUnreadable, match=r"t\.csv: one row has more than 8,388,608 characters, in .* A quote left open\?"):
        list(open_source(written(tmp_path, ("a,b\n" + rows).encode())).records())

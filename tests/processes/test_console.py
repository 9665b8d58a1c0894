"""The centre's first page: for this machine only, nothing from elsewhere, every text escaped, every figure dated."""

from __future__ import annotations

import http.client
import re
from html.parser import HTMLParser

import pytest

from tests.processes.conftest import Centre, foreign

EVIL = """<script>alert(1)</script>"'&Ґанок"""
POLICY = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def get(centre: Centre, path: str = "/", **headers: str) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", centre.port, timeout=30)
    try:
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        reply = connection.getresponse()
        return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read().decode()
    finally:
        connection.close()


class Page(HTMLParser):
    """What the tests ask of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


@pytest.fixture(scope="module")
def busy(centre: Centre) -> Centre:
    """A centre with sales of branches whose names are trouble, in two currencies, and nodes in every state."""
    script: list[tuple[str, list[object]]] = [("INSERT INTO branch (id, name, region) VALUES (?, ?, ?)", ["X1", EVIL, "r"])]
    for number in range(9):
        branch, currency = ("X1", "UAH") if number % 2 else (f"<i>{number}</i>", "JPY")
        head = "INSERT INTO sale (id, number, kind, branch_id, sold_ms, currency, total_minor) VALUES (?,?,?,?,?,?,?)"
        script.append(
            (head, [f"s{number}", "n", "sale", branch, 1_760_000_000_000 + number * 86_400_000 * 31, currency, 100_000 * number - 50_000])
        )
        line = "INSERT INTO sale_line (id, sale_id, qty_milli, unit_price_e4, amount_minor) VALUES (?,?,?,?,?)"
        script.append((line, [f"l{number}", f"s{number}", 2_500, 1, 1]))
    for identity, sold_ms in (("long-ago", -(10**16)), ("far-ahead", 10**16), ("next-century", 4_102_444_800_000)):
        script.append((head, [identity, "n", "return", "X1", sold_ms, "UAH", -(2**62)]))
    foreign(centre.home / "server.db", *script)
    centre.invite("invited <b>", "branch:X1")
    centre.node(f"{EVIL[:20]}", "branch:X1").sync()
    centre.node("never-synced", "branch:X1")
    centre.node("revoked-one", "branch:X1")
    centre.ok("revoke", "revoked-one")
    return centre


def test_an_empty_centre_is_friendly(centre: Centre) -> None:
    """Runs first, while nothing is there."""
    status, _, body = get(centre)
    assert status == 200
    assert "No nodes yet. Invite the first one" in Page(body).text
    assert "No sales have come in yet" in Page(body).text


def test_the_page_shows_sales_and_nodes(busy: Centre) -> None:
    status, headers, body = get(busy)
    page = Page(body)
    assert status == 200
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert len(body.encode()) < 200_000
    assert EVIL in page.text, "escaped, so that it reads as it is"
    for state in ("up to date", "joined, never synced", "revoked", "invited, not joined yet"):
        assert state in page.text
    assert len(re.findall("omplete to .{19} for 1 of 2 nodes", page.text)) >= 3, "every figure says how fresh it is"
    assert "never-synced: never heard of" in page.text
    assert "250,000 JPY" not in page.text
    assert "−" in page.text


def test_nothing_of_a_name_becomes_markup(busy: Centre) -> None:
    page = Page(get(busy)[2])
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "i", "b", "style", "iframe", "object", "form"})
    assert not [attributes for _, attributes in page.tags if any(name.startswith("on") or name == "style" for name in attributes)]


def test_nothing_comes_from_elsewhere(busy: Centre) -> None:
    _, headers, body = get(busy)
    assert headers["content-security-policy"] == POLICY
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    addresses = [value for _, attributes in Page(body).tags for name, value in attributes.items() if name in ("src", "href")]
    assert set(addresses) == {"/console/console.css", "/console/icon.svg"}
    for address in set(addresses):
        status, found, asset = get(busy, str(address))
        assert (status, found["content-security-policy"]) == (200, POLICY)
        assert "http" not in asset.replace("http://www.w3.org/2000/svg", "")


def test_the_page_can_be_read_aloud(busy: Centre) -> None:
    """Headings of tables, names of pictures and regions, a language."""
    page = Page(get(busy)[2])
    assert ("html", {"lang": "en"}) in page.tags
    assert all(attributes.get("scope") in ("col", "row") for tag, attributes in page.tags if tag == "th")
    tables = [tag for tag, _ in page.tags if tag in ("table", "caption")]
    assert tables.count("table") == tables.count("caption") >= 3
    pictures = [attributes for tag, attributes in page.tags if tag == "svg" and attributes.get("role") == "img"]
    identities = {attributes.get("id") for _, attributes in page.tags}
    assert pictures
    assert all(set((attributes["aria-labelledby"] or "").split()) <= identities for attributes in pictures)
    assert [tag for tag, _ in page.tags].count("h1") == 1


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Host": "evil.example"}, id="foreign-name"),
        pytest.param({"Host": "evil.example:8470"}, id="foreign-name-and-port"),
        pytest.param({"Host": "127.0.0.1.evil.example"}, id="looks-like-ours"),
        pytest.param({"Host": ""}, id="no-name"),
        pytest.param({"X_Forwarded_For": "203.0.113.7"}, id="through-a-proxy"),
        pytest.param({"Forwarded": "for=203.0.113.7"}, id="through-a-proxy-by-the-book"),
    ],
)
@pytest.mark.parametrize("path", ["/", "/console/console.css"])
def test_only_for_this_machine(path: str, headers: dict[str, str], busy: Centre) -> None:
    status, found, body = get(busy, path, **headers)
    assert status == 404
    assert found["content-type"] == "application/problem+json"
    assert "http.not_found" in body


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8470"])
def test_names_of_this_machine(host: str, busy: Centre) -> None:
    assert get(busy, "/", Host=host)[0] == 200


def test_nothing_else_is_served(busy: Centre) -> None:
    for path in ("/console", "/console/", "/console/../cli.py", "/console/templates/first.html", "/server.db"):
        assert get(busy, path)[0] == 404

"""Some hundred requests, most of them spoiled, against a real centre. `python3 scripts/fuzz.py endpoints` sends more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import office
from tests.fuzz.cases import Cases
from tests.fuzz.centre import Answer, Asked, Centre
from tests.fuzz.chance import seeded
from tests.fuzz.endpoints import Findings, _check, run_seed

EVERYTHING = frozenset({"*", *(f"branch:{name}" for name in office.BRANCHES), *(f"owner:{name}" for name in office.OWNERS)})


def test_no_request_makes_the_centre_fail(tmp_path: Path) -> None:
    findings = Findings()
    run_seed(tmp_path, 1, findings, 300)
    assert not findings.findings, "\n\n".join(findings.findings[:5])
    assert findings.facts["centres where honest nodes agreed"] == 1
    assert findings.verdicts["accepted"]
    assert findings.verdicts["held"]
    assert len(findings.replies) > 10


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Answer(500, {"content-type": "application/problem+json"}, b'{"code":"server.internal","status":500}'), id="fails"),
        pytest.param(Answer(400, {"content-type": "text/plain"}, b"no"), id="plain-text"),
        pytest.param(Answer(400, {"content-type": "application/problem+json"}, b'{"code":"no.such","status":400}'), id="unknown-code"),
    ],
)
def test_a_bad_answer_is_found(answer: Answer) -> None:
    with pytest.raises(AssertionError):
        _check(Asked("POST", "/v1/nonce", []), answer, Findings())


@pytest.mark.parametrize(
    ("target", "broken", "found", "first"),
    [
        pytest.param("server.feed.scopes.entitled", lambda *_: EVERYTHING, "it shows what is not", 1, id="pull-without-scope"),
        pytest.param("server.merging.incoming.Incoming.is_strange", lambda *_: False, "was changed", 1, id="update-without-right"),
        pytest.param("server.conflicts._in_scope", lambda *_: True, "it shows what is not", 4, id="conflicts-without-scope"),
    ],
)
def test_a_scope_check_that_is_switched_off_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, broken: object, found: str, first: int
) -> None:
    """`first`: a seed from which on it soon shows; conflicts on rows that left a scope are rare."""
    monkeypatch.setattr(target, broken)
    findings = Findings()
    for seed in range(first, first + 3):
        run_seed(tmp_path, seed, findings, 300)
        if any(found in each for each in findings.findings):
            return
    pytest.fail(f"not found: {findings.findings[:3]}")


def test_same_seed_same_requests(tmp_path: Path) -> None:
    """But for the times that SQL itself reads off the clock where a central program writes: digests follow from them, and by a byte how
    well a request is compressed.
    """
    told = []
    for turn in ("one", "other"):
        with seeded(7):
            centre = Centre(tmp_path / turn, 7)
            try:
                office.fill(centre)
                cases = Cases(centre)
                asked = []
                for number in range(60):
                    if number % 15 == 14:
                        office.act(centre, number)
                    kind, request = cases.next()
                    asked.append((kind, request.path, centre.ask(request).status))
                told.append(asked)
            finally:
                centre.close()
    assert told[0] == told[1]


@pytest.mark.parametrize("then", ["stays", "approved"])
def test_what_a_node_may_have_seen(tmp_path: Path, then: str) -> None:
    """The oracle itself: a row is anybody's from the moment it is in a scope of theirs, and what was written before they lost it."""
    centre = Centre(tmp_path, 1)
    try:
        office.fill(centre)
        london, edinburgh = centre.attackers
        ((first,),) = centre.all("SELECT name FROM contact WHERE id = 'VLT-c1'")
        assert centre.sight.foreign(london.identity, first.encode()) == {first}
        if then == "approved":
            centre.office.execute("UPDATE contact SET branch_id = 'LON' WHERE id = 'VLT-c1'")
            done = centre.sight.look()
            assert "('contact', ('VLT-c1',)) came into a scope" in done
            assert "('activity', ('VLT-1-a',)) came into a scope" in done
            assert not centre.sight.foreign(london.identity, first.encode())
        centre.office.execute("UPDATE contact SET branch_id = 'VLT' WHERE id = 'VLT-c1'")
        later = centre.sight.mark("contact", "VLT-c1")
        centre.sight.look()
        assert centre.sight.foreign(london.identity, later.encode()) == {later}
        assert centre.sight.foreign(edinburgh.identity, first.encode()) == {first}
        assert centre.sight.foreign(None, first.encode()) == {first}
    finally:
        centre.close()


def test_a_refusal_that_commits_is_found(tmp_path: Path) -> None:
    """What `changes` looks at moves with every commit, and only then."""
    centre = Centre(tmp_path, 1)
    try:
        before = centre.changes()
        Cases(centre).next()
        assert centre.changes() == before
        centre.world.sql("UPDATE branch SET region = 'x' WHERE id = 'LON'")
        assert centre.changes() != before
    finally:
        centre.close()

"""Some hundred requests, most of them spoiled, against a real centre. `python3 scripts/fuzz.py endpoints` sends more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.cases import Cases
from tests.fuzz.centre import Answer, Asked, Centre
from tests.fuzz.endpoints import Findings, _check, run_seed


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
        pytest.param(Answer(200, {"content-type": "application/json"}, b'"top secret of branch SEC"'), id="tells-secrets"),
    ],
)
def test_a_bad_answer_is_found(answer: Answer) -> None:
    with pytest.raises(AssertionError):
        _check(Asked("POST", "/v1/nonce", []), answer, Findings())


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

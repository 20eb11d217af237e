"""Error answers: which status goes with which code, and that one names what it is about."""

import json
import re
from pathlib import Path

import pytest

from receiver.problems import STATUS, Code, Problem
from tests.receiver.service import Service, problem

HTTP_PAGE = Path(__file__).resolve().parents[2] / "docs" / "http.md"


def test_every_code_has_its_status() -> None:
    """All twelve, as the enumeration is documented."""
    assert STATUS == {
        "AUTH_REQUIRED": 401,
        "AUTH_INVALID": 401,
        "PERMISSION_DENIED": 403,
        "TENANT_IDENTITY_UNVERIFIED": 403,
        "NOT_FOUND": 404,
        "VALIDATION_ERROR": 400,
        "CONFLICT": 409,
        "PAYLOAD_TOO_LARGE": 413,
        "RATE_LIMIT_EXCEEDED": 429,
        "QUOTA_EXCEEDED": 429,
        "SERVICE_UNAVAILABLE": 503,
        "INTERNAL_ERROR": 500,
    }
    assert set(STATUS) == set(Code)
    assert len(Code) == 12


def test_the_page_has_every_code_with_its_status() -> None:
    """Once each, and no other."""
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([0-9]{3}) \|", HTTP_PAGE.read_text(), re.MULTILINE)

    assert sorted((str(code), str(status)) for code, status in STATUS.items()) == sorted(rows)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "VALIDATION_ERROR"),
        (401, "AUTH_REQUIRED"),
        (403, "PERMISSION_DENIED"),
        (404, "NOT_FOUND"),
        (405, "VALIDATION_ERROR"),
        (408, "VALIDATION_ERROR"),
        (409, "CONFLICT"),
        (413, "PAYLOAD_TOO_LARGE"),
        (429, "RATE_LIMIT_EXCEEDED"),
        (431, "VALIDATION_ERROR"),
        (500, "INTERNAL_ERROR"),
        (502, "INTERNAL_ERROR"),
        (503, "SERVICE_UNAVAILABLE"),
    ],
)
def test_an_answer_that_names_no_code_has_that_of_its_status(status: int, code: str) -> None:
    """And one that does not belong to any code has the general one."""
    assert json.loads(Problem(status, "why").body)["code"] == code


def test_an_answer_in_full() -> None:
    """With the code it names, and the wait in both units."""
    answer = Problem(429, "why", Code.QUOTA_EXCEEDED, {"name": "value"}, retry_after=5)

    assert json.loads(answer.body) == {
        "type": "about:blank",
        "title": "Too Many Requests",
        "status": 429,
        "detail": "why",
        "code": "QUOTA_EXCEEDED",
        "details": {"name": "value"},
        "retry_after_ms": 5000,
    }
    assert answer.headers == {"cache-control": "no-store", "retry-after": "5"}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/log/proofs/consistency", "old_size"),
        ("/v1/log/proofs/consistency?new_size=1", "old_size"),
        ("/v1/log/proofs/consistency?old_size=", "old_size"),
        ("/v1/log/proofs/consistency?old_size=1.0", "old_size"),
        ("/v1/log/proofs/consistency?old_size=0&new_size=1e0", "new_size"),
        ("/v1/log/proofs/inclusion?index=1.0", "index"),
        ("/v1/log/proofs/inclusion?index=-0", "index"),
        ("/v1/log/proofs/inclusion?index=0&size=01", "size"),
        ("/v1/events?limit=1.0", "limit"),
    ],
)
def test_a_parameter_that_is_missing_or_no_integer_is_named(service: Service, path: str, name: str) -> None:
    """In the details, and in the sentence."""
    answer = service.client.get(path, headers=service.key())

    assert (answer.status_code, problem(answer)["code"]) == (400, "VALIDATION_ERROR")
    assert list(answer.json()["details"]) == [name]
    assert answer.json()["detail"].startswith(f"{name} is ")

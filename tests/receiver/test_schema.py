"""The schema at `/schema`: valid OpenAPI, and true of the service that gives it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from tests.receiver.service import Service, problem

HTTP_PAGE = Path(__file__).resolve().parents[2] / "docs" / "http.md"

OPERATIONS = {
    "receiveDelivery": ("POST", "/webhooks/{source}"),
    "relay": ("POST", "/relay/{source}/{path}"),
    "listSources": ("GET", "/v1/sources"),
    "addSource": ("POST", "/v1/sources"),
    "getSource": ("GET", "/v1/sources/{source_id}"),
    "changeSource": ("PATCH", "/v1/sources/{source_id}"),
    "rotateSecret": ("POST", "/v1/sources/{source_id}/secrets"),
    "setCredential": ("PUT", "/v1/sources/{source_id}/credential"),
    "removeCredential": ("DELETE", "/v1/sources/{source_id}/credential"),
    "listSubscriptions": ("GET", "/v1/subscriptions"),
    "addSubscription": ("POST", "/v1/subscriptions"),
    "getSubscription": ("GET", "/v1/subscriptions/{subscription_id}"),
    "changeSubscription": ("PATCH", "/v1/subscriptions/{subscription_id}"),
    "removeSubscription": ("DELETE", "/v1/subscriptions/{subscription_id}"),
    "replaySubscription": ("POST", "/v1/subscriptions/{subscription_id}/replay"),
    "erase": ("POST", "/v1/erasures"),
    "listErasures": ("GET", "/v1/erasures"),
    "getErasure": ("GET", "/v1/erasures/{erasure_id}"),
    "listHolds": ("GET", "/v1/holds"),
    "placeHold": ("POST", "/v1/holds"),
    "getHold": ("GET", "/v1/holds/{hold_id}"),
    "releaseHold": ("POST", "/v1/holds/{hold_id}/release"),
    "listEvents": ("GET", "/v1/events"),
    "getEvent": ("GET", "/v1/events/{event_id}"),
    "getEvidence": ("GET", "/v1/events/{event_id}/evidence"),
    "listQuarantine": ("GET", "/v1/quarantine"),
    "getQuarantined": ("GET", "/v1/quarantine/{quarantine_id}"),
    "reprocess": ("POST", "/v1/quarantine/{quarantine_id}/reprocess"),
    "listAttempts": ("GET", "/v1/attempts"),
    "getAttempt": ("GET", "/v1/attempts/{attempt_id}"),
    "getItem": ("GET", "/v1/items/{provider}/{item_type}/{item_id}"),
    "listGaps": ("GET", "/v1/gaps"),
    "getGap": ("GET", "/v1/gaps/{gap_id}"),
    "listIssuerLogs": ("GET", "/v1/issuer-logs"),
    "getIssuerLog": ("GET", "/v1/issuer-logs/{log_id}"),
    "getFork": ("GET", "/v1/issuer-logs/{log_id}/fork"),
    "proveInclusion": ("GET", "/v1/log/proofs/inclusion"),
    "proveConsistency": ("GET", "/v1/log/proofs/consistency"),
    "listExports": ("GET", "/v1/exports"),
    "askForExport": ("POST", "/v1/exports"),
    "getExport": ("GET", "/v1/exports/{export_id}"),
    "downloadExport": ("GET", "/v1/exports/{export_id}/download"),
    "readLog": ("GET", "/log/{tenant_name}/{resource}"),
    "isLive": ("GET", "/health/live"),
    "isReady": ("GET", "/health/ready"),
    "readMetrics": ("GET", "/metrics"),
}


@pytest.fixture(scope="module")
def schema(service: Service) -> dict[str, Any]:
    """The document."""
    answer = service.client.get("/schema/openapi.json")
    assert answer.status_code == 200
    return answer.json()


def operations(schema: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every operation, as method, path and itself."""
    for path, item in schema["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def inside(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in it."""
    if isinstance(value, dict):
        found = cast("dict[str, Any]", value)
        yield found
        for member in found.values():
            yield from inside(member)
    elif isinstance(value, list):
        for item in cast("list[Any]", value):
            yield from inside(item)


def resolve(schema: dict[str, Any], reference: str) -> Any:
    """What a local reference points to."""
    assert reference.startswith("#/"), reference
    found: Any = schema
    for name in reference[2:].split("/"):
        found = found[name.replace("~1", "/").replace("~0", "~")]
    return found


def test_it_is_served_where_one_looks_for_it(service: Service) -> None:
    """At /schema and as openapi.json; it loads nothing from elsewhere."""
    answer = service.client.get("/schema")

    assert answer.status_code == 200
    assert "http://" not in answer.text
    assert "https://" not in answer.text


def test_what_it_is_of(schema: dict[str, Any]) -> None:
    """Version, title, and the members that OpenAPI demands."""
    assert schema["openapi"].startswith("3.1.")
    assert schema["info"]["title"] == "Rescind"
    assert schema["info"]["version"]


def test_every_operation_is_there(schema: dict[str, Any]) -> None:
    """Under an id of its own; those that are not yet are not promised."""
    found = [(operation["operationId"], (method, path)) for method, path, operation in operations(schema)]

    assert len(found) == len(dict(found))
    assert dict(found) == OPERATIONS


def test_the_page_lists_every_operation() -> None:
    """With its method and path, and nothing else but the schema itself and what HTTP gives along with a GET."""
    listed = set(listed_on_the_page())

    assert {(method, shown(path)) for method, path in OPERATIONS.values()} == listed - {
        ("HEAD", "/log/{}/{}"),
        ("HEAD", "/v1/exports/{}/download"),
        ("GET", "/schema"),
    }


def listed_on_the_page() -> Iterator[tuple[str, str]]:
    """Method and path of the routes in the page's first table."""
    table = HTTP_PAGE.read_text().partition("| route |")[2].partition("\n\n")[0]
    for row in table.splitlines()[2:]:
        methods: list[str] = []
        for words in map(str.split, re.findall("`([^`]+)`", row.split("|")[1])):
            if words[0].isupper():
                methods.append(words[0])
            if words[-1].startswith("/"):
                yield from ((method, shown(words[-1])) for method in methods)


def shown(path: str) -> str:
    """A path, whatever its parameters are called, and the rest of it where that is one."""
    return re.sub(r"{\w+}|…", "{}", path)


def test_every_reference_leads_somewhere(schema: dict[str, Any]) -> None:
    """Within the document."""
    references = [one["$ref"] for one in inside(schema) if "$ref" in one]

    assert references
    for reference in references:
        assert isinstance(resolve(schema, reference), dict)


def test_every_parameter_of_a_path_is_declared(schema: dict[str, Any]) -> None:
    """And is required; no parameter is declared twice."""
    for _, path, operation in operations(schema):
        declared = [(one["in"], one["name"]) for one in operation.get("parameters", [])]
        assert len(declared) == len(set(declared))
        required = {one["name"] for one in operation.get("parameters", []) if one["in"] == "path" and one["required"]}
        assert required == set(re.findall(r"{(\w+)}", path))
        for parameter in operation.get("parameters", []):
            assert "schema" in parameter


def test_every_operation_says_what_it_answers(schema: dict[str, Any]) -> None:
    """Each with a description; errors with the one shape of all problems."""
    for _, _, operation in operations(schema):
        assert operation["summary"]
        assert operation["tags"]
        assert {"200", "201", "202"} & operation["responses"].keys()
        for status, response in operation["responses"].items():
            assert re.fullmatch("[1-5][0-9]{2}", status)
            assert response["description"]
            if int(status) < 400:
                continue
            (media_type,) = response["content"]
            if (operation["operationId"], status) == ("isReady", "503"):
                continue  # an answer, which says what is not ready
            shape = resolve(schema, response["content"][media_type]["schema"]["$ref"])
            assert media_type == "application/problem+json"
            assert sorted(shape["properties"]) == [
                "code",
                "detail",
                "details",
                "retry_after_ms",
                "status",
                "title",
                "type",
            ]


def test_a_body_has_its_members_and_no_others(schema: dict[str, Any]) -> None:
    """Those that it must have are among them."""
    bodies = {
        operation["operationId"]: operation["requestBody"]["content"]["application/json"]["schema"]
        for _, path, operation in operations(schema)
        if "requestBody" in operation and path.startswith("/v1/")
    }

    assert bodies["addSource"]["required"] == ["name", "provider"]
    assert bodies["rotateSecret"]["properties"]["overlap_seconds"]["default"] == 86_400
    assert "enabled" in bodies["changeSource"]["properties"]
    for shape in bodies.values():
        assert shape["additionalProperties"] is False
        assert set(shape["required"]) <= set(shape["properties"])


def test_every_schema_names_its_required_members(schema: dict[str, Any]) -> None:
    """Which are among its properties."""
    shapes = [one for one in inside(schema["components"]["schemas"]) if "properties" in one]

    assert shapes
    for shape in shapes:
        assert set(shape.get("required", [])) <= set(shape["properties"])


def test_it_says_how_to_authenticate(schema: dict[str, Any]) -> None:
    """By a key as a bearer token, but in a header of its own for the relay, wherever one is needed and nowhere else."""
    schemes = schema["components"]["securitySchemes"]
    assert schemes["key"] == {"type": "http", "scheme": "bearer"}
    assert schemes["relay_key"] == {"type": "apiKey", "name": "x-rescind-key", "in": "header"}
    for _, path, operation in operations(schema):
        named = [list(one) for one in operation.get("security", [])]
        needed = {"v1": [["key"]], "relay": [["relay_key"]]}
        assert named == needed.get(path.split("/")[1], []), path


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/nope", 404),
        ("GET", "/v1", 404),
        ("GET", "/webhooks", 404),
        ("POST", "/webhooks/", 404),
        ("POST", "/webhooks/a/b", 404),
        ("POST", "/webhooks2abc", 404),
        ("GET", "/v1/events/a/b/c", 404),
        ("GET", "/%00", 404),
        ("GET", "/%ff%fe", 404),
        ("POST", "/v1/events", 405),
        ("DELETE", "/health/live", 405),
        ("PUT", "/metrics", 405),
        ("TRACE", "/health/live", 405),
        ("GET", "/schema/swagger", 404),
    ],
)
def test_what_is_not_there_is_a_problem(service: Service, method: str, path: str, status: int) -> None:
    """Of the one shape, and not cached; 405 says which methods there are."""
    answer = service.client.request(method, path, headers=service.key())

    members = problem(answer)
    assert (answer.status_code, answer.headers["cache-control"]) == (status, "no-store")
    assert members["code"] == ("NOT_FOUND" if status == 404 else "VALIDATION_ERROR")
    if status == 405:
        assert answer.headers["allow"]


def test_a_fault_of_ours_gives_nothing_away(service: Service) -> None:
    """500 in the one shape, without a word of what went wrong inside."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service.records, "guard", None)
        answer = service.client.get("/health/ready")

    assert (answer.status_code, problem(answer)["code"]) == (500, "INTERNAL_ERROR")
    assert answer.json()["detail"] == "This is a fault of ours, and it was logged"
    assert "Traceback" not in answer.text

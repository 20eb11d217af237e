"""An export that is there: asked for over HTTP, and made by the running service."""

import time

from tests.receiver.service import Service

PATIENCE = 120.0  # seconds: a process is begun for each, and others may be before it
PERIOD = {"since": "2026-07-01T00:00:00Z", "until": "2026-10-01T00:00:00Z"}


def exported(service: Service, tenant: str = "default", **asked: object) -> str:
    """The id of an export that is completed: of a period in which nothing was logged, unless one is given."""
    key = service.key("export", tenant)
    answer = service.client.post("/v1/exports", json={**PERIOD, **asked}, headers=key)
    assert answer.status_code == 202, answer.text
    until_completed(service, key, answer.json()["id"])
    return str(answer.json()["id"])


def until_completed(service: Service, key: dict[str, str], export_id: str) -> None:
    """Wait until an export has its file."""
    deadline = time.monotonic() + PATIENCE
    while (state := service.client.get(f"/v1/exports/{export_id}", headers=key).json()["state"]) != "completed":
        assert time.monotonic() < deadline, f"export {export_id} is {state}"
        time.sleep(0.05)

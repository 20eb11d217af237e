"""Whole HTTP requests, made ready in a file: distinct Truthlocks deliveries of 1 KiB, signed, all of one length."""

import base64
import hmac
import time
import uuid
from pathlib import Path

BODY = 1024
RECORD = 1500  # bytes of a request: its headers are filled up to that


def write_requests(file: Path, number: int, path: str, secret: str) -> None:
    """Write that many requests, each of RECORD bytes, to be sent within the replay window."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    now = str(int(time.time()))
    with file.open("wb") as out:
        for _ in range(number):
            out.write(make_request(path, key, now))


def make_request(path: str, key: bytes, now: str) -> bytes:
    """One request, signed with the key for that time (text, Unix seconds)."""
    receipt = uuid.uuid4()
    start = (
        f'{{"event_type":"receipt.revoked","receipt_id":"{receipt}","receipt_type":"payment_receipt",'
        f'"tenant_id":"7b1c2f4e-0d3a-4a53-9a3b-0f0a3f6f1f10","revoked_at":"2026-11-20T08:59:58Z","note":"'
    ).encode()
    body = start + b"x" * (BODY - len(start) - 2) + b'"}'
    message_id = f"msg_{receipt.hex}"
    mac = hmac.digest(key, f"{message_id}.{now}.".encode() + body, "sha256")
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {BODY}\r\n"
        f"webhook-id: {message_id}\r\nwebhook-timestamp: {now}\r\n"
        f"webhook-signature: v1,{base64.b64encode(mac).decode()}\r\nX-Fill: "
    ).encode()
    return head + b"x" * (RECORD - BODY - len(head) - 4) + b"\r\n\r\n" + body

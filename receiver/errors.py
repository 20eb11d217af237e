"""Exceptions to answers, mapped in this one place."""

import logging
from collections.abc import Callable
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from receiver.problems import CONTENT_TYPE, Problem
from translog.errors import NotPublished

RETRY_AFTER = 5

_log = logging.getLogger(__name__)


def _answer(problem: Problem, extra: dict[str, str] | None = None) -> Response[bytes]:
    return Response(
        problem.body, status_code=problem.status, media_type=CONTENT_TYPE, headers={**problem.headers, **(extra or {})}
    )


def _problem(_: Request[Any, Any, Any], error: Problem) -> Response[bytes]:
    return _answer(error)


def _validation(_: Request[Any, Any, Any], error: ValidationException) -> Response[bytes]:
    details: dict[str, str] = {}
    for one in error.extra if isinstance(error.extra, list) else ():
        details[str(one.get("key", "request"))] = str(one.get("message", ""))
    named = "; ".join(f"{name}: {message}" for name, message in details.items())
    return _answer(Problem(400, named or error.detail, details=details))


def _http(_: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    detail = {
        404: "There is nothing at this path. /schema lists what there is",
        405: "This path does not take this method",
    }.get(error.status_code, error.detail)
    kept = {name: value for name, value in (error.headers or {}).items() if name.lower() == "allow"}
    return _answer(Problem(error.status_code, detail), kept)


def _not_published(_: Request[Any, Any, Any], error: NotPublished) -> Response[bytes]:
    return _answer(Problem(404, str(error)))


def _out_of_reach(_: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    _log.error("the database is out of reach: %s", type(error).__name__)
    return _answer(Problem(503, "The database is out of reach. Try again", retry_after=RETRY_AFTER))


def _unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _answer(Problem(500, "This is a fault of ours, and it was logged"))


EXCEPTION_HANDLERS: dict[int | type[Exception], Callable[[Request[Any, Any, Any], Any], Response[bytes]]] = {
    Problem: _problem,
    ValidationException: _validation,
    HTTPException: _http,
    NotPublished: _not_published,
    OperationalError: _out_of_reach,
    InterfaceError: _out_of_reach,
    PoolTimeoutError: _out_of_reach,
    Exception: _unexpected,
}

"""The application: what there is, wired together, and nothing else."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from litestar import Litestar, Response, Router
from litestar.datastructures import MutableScopeHeaders, State
from litestar.di import Provide
from litestar.exceptions import NotFoundException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.types import Message, Scope
from sqlalchemy.exc import SQLAlchemyError

from receiver.access import provide_tenant
from receiver.assurance.routes import SubscriptionsController
from receiver.assurance.service import Assurance
from receiver.audit.attempts import AttemptsController
from receiver.audit.events import EventsController
from receiver.audit.gaps import GapsController
from receiver.audit.issuer_logs import IssuerLogsController
from receiver.audit.proofs import ProofsController
from receiver.audit.quarantine import QuarantineController
from receiver.audit.tiles import TilesController
from receiver.background import every
from receiver.erasure.due import Due
from receiver.erasure.hold_routes import HoldsController
from receiver.erasure.routes import ErasuresController
from receiver.errors import EXCEPTION_HANDLERS
from receiver.exports.checked import Checked
from receiver.exports.making import Maker
from receiver.exports.routes import ExportsController
from receiver.health import HealthController, unless_closed
from receiver.intake.hotpath import HotPath
from receiver.intake.reprocessing import ReprocessingController
from receiver.intake.routes import webhook_route
from receiver.intake.service import Intake
from receiver.intake.sources import SourcesController
from receiver.intake.tallies import Tallies
from receiver.metrics import Metrics
from receiver.publishing import Publisher
from receiver.records.apikeys import Uses
from receiver.records.opening import Records
from receiver.records.persons import catch_up_all
from receiver.records.probes import sweep_probes
from receiver.relay.calls import KEY_HEADER
from receiver.relay.routes import relay_routes
from receiver.relay.service import Relay

SOURCES_EVERY = 0.5
WAL_EVERY = 0.1
USES_EVERY = 5.0
PERSONS_EVERY = 5.0
ERASING_EVERY = 5.0
THREADS = 16


def create_app(records: Records) -> HotPath:
    """The service over opened records, an ASGI application: the framework's, with the hot path before it.

    Its lifespan begins and ends all that runs in the background.
    """
    metrics = Metrics()
    intake = Intake(records, metrics)
    publisher = Publisher(records, metrics, halt=intake.recorder.halt)
    tallies = Tallies(records, intake.endpoints)
    uses = Uses(records)
    relay = Relay(records, intake.recorder, metrics)
    assurance = Assurance(records, metrics, tallies.process_id)
    maker = Maker(records, tallies.process_id)
    due = Due(records)

    @contextlib.asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncGenerator[None]:
        # Enough for those that wait for a database that is locked, and for those that go on reading meanwhile.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "worker"))
        await intake.endpoints.refresh()
        await tallies.start()
        await publisher.publish()
        intake.recorder.start()
        relay.start()
        assurance.start()
        maker.start()
        background = [
            asyncio.create_task(publisher.run()),
            asyncio.create_task(tallies.run()),
            asyncio.create_task(every(SOURCES_EVERY, intake.endpoints.refresh)),
            asyncio.create_task(every(SOURCES_EVERY, lambda: asyncio.to_thread(records.reload))),
            asyncio.create_task(every(SOURCES_EVERY, lambda: asyncio.to_thread(sweep_probes, records))),
            asyncio.create_task(every(USES_EVERY, lambda: asyncio.to_thread(uses.note))),
            asyncio.create_task(every(PERSONS_EVERY, lambda: asyncio.to_thread(catch_up_all, records))),
            asyncio.create_task(every(ERASING_EVERY, lambda: asyncio.to_thread(due.turn))),
            asyncio.create_task(every(WAL_EVERY, lambda: asyncio.to_thread(records.database.checkpoint_wal))),
        ]
        # What is here now stays: the collector need not look at it again while deliveries come in.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        try:
            yield
        finally:
            due.stop()
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await maker.stop()
            await assurance.stop()
            await relay.stop()
            await intake.recorder.stop()
            await tallies.stop()
            with contextlib.suppress(SQLAlchemyError):
                await asyncio.to_thread(uses.note)
            await publisher.publish()

    app = Litestar(
        route_handlers=[
            webhook_route(intake),
            *relay_routes(),
            SourcesController,
            EventsController,
            QuarantineController,
            AttemptsController,
            SubscriptionsController,
            ErasuresController,
            HoldsController,
            GapsController,
            IssuerLogsController,
            ReprocessingController,
            ExportsController,
            ProofsController,
            TilesController,
            HealthController,
        ],
        before_send=[_tell_all_methods],
        dependencies={"tenant": Provide(provide_tenant)},
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=[lifespan],
        state=State(
            {
                "records": records,
                "publisher": publisher,
                "intake": intake,
                "relay": relay,
                "assurance": assurance,
                "metrics": metrics,
                "uses": uses,
                "checked": Checked(),
            },
        ),
        openapi_config=OpenAPIConfig(
            title="Rescind",
            version=version("rescind"),
            openapi_router=Router(
                "/schema",
                route_handlers=[],
                guards=[unless_closed],
                include_in_schema=False,
                after_request=_as_every_404,
            ),
            render_plugins=[JsonRenderPlugin()],
            components=Components(
                security_schemes={
                    "key": SecurityScheme(type="http", scheme="bearer"),
                    "relay_key": SecurityScheme(type="apiKey", name=KEY_HEADER, security_scheme_in="header"),
                }
            ),
        ),
        request_max_body_size=records.settings.max_body,
        logging_config=None,
        debug=False,
    )
    return HotPath(app, intake)


async def _tell_all_methods(message: Message, scope: Scope) -> None:
    """To OPTIONS the framework answers with the methods of a path's first handler, and leaves out those of others.

    Those that are not in the schema are there to refuse.
    """
    if scope["type"] != "http" or scope["method"] != "OPTIONS" or message["type"] != "http.response.start":
        return
    if message["status"] == HTTPStatus.NO_CONTENT:
        app, path = scope["litestar_app"], scope["path_template"]
        handlers = next(route.route_handlers for route in app.routes if route.path_format == path)
        shown = [one for one in handlers if one.resolve_include_in_schema()] or handlers
        methods = {"OPTIONS"}.union(*(one.http_methods for one in shown))
        MutableScopeHeaders.from_message(message)["allow"] = ", ".join(sorted(methods))


async def _as_every_404(response: Response[Any]) -> Response[Any]:
    """The framework has a page of its own for what is not there under /schema."""
    if response.status_code == HTTPStatus.NOT_FOUND:
        raise NotFoundException
    return response

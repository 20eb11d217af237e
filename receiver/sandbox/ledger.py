"""What all issuers of the sandbox stand on: things with a state, and acts that change them.

    with ledger.act(NAME) as act:
        badge = act.get("badge", earned_id)
        act.put("badge", earned_id, {**badge, "isActive": False})
        act.tell(Entry(event="BADGE_REVOKE", …))
        act.notify(body)

An act is one transaction: the new states, the entry in the sandbox's own transparency log, and the notice that is owed
to whoever asked for notices. A crash leaves all of it or nothing. What is to happen a moment later (`later`) and what
was answered under an idempotency key (`remember`) are part of it as well.

The sandbox's log has no guard: it has to be able to misbehave, so that it can be seen that this is noticed
(`receiver.sandbox.misbehaving`).
"""

import json
import secrets
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias

import sqlalchemy as sa

from receiver.events import format_time, new_id
from receiver.records.engine import Database
from receiver.records.opening import RecordsError
from receiver.records.vault import KEY_FILE
from translog import canonical, store
from translog.log import Log
from translog.merkle import EMPTY_ROOT
from translog.note import SigningKey
from translog.store import SqlStore, create_log

Data: TypeAlias = dict[str, Any]
"""A thing's state: whatever JSON can hold."""

DATABASE = "sandbox.db"

_OF_A_RECEIVER = ("rescind.db", KEY_FILE)
"""Files by which a receiver's data folder is known."""

_metadata = sa.MetaData()

_things = sa.Table(
    "things",
    _metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("data", sa.Text, nullable=False),  # JSON
    sa.UniqueConstraint("provider", "kind", "id"),
)

_answers = sa.Table(
    "answers",
    _metadata,
    sa.Column("provider", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("request", sa.Text, nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("answer", sa.Text, nullable=False),  # JSON
)

_steps = sa.Table(
    "steps",
    _metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("thing", sa.Text, nullable=False),
    sa.Column("due_at", sa.Text, nullable=False, index=True),
)

_notices = sa.Table(
    "notices",
    _metadata,
    sa.Column("id", sa.Text, primary_key=True),  # in the order in which they came about
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("owed", sa.Boolean, nullable=False),  # somebody was to be told, and was not yet
)

_keys = sa.Table("keys", _metadata, sa.Column("private_key", sa.Text, primary_key=True))


class NotASandboxError(RecordsError):
    """The folder is a receiver's: the sandbox's credentials are public, and it has no business there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An entry of the sandbox's log: one act, in the words that are the same for all issuers."""

    account: str | None
    amount: str | None
    effect: str
    event: str
    """`RECEIPT_REVOKE` and the like."""
    item_type: str
    item_id: str
    operation: str
    """The id of the act, as the receiver's event of it has it."""
    quantity: str | None


@dataclass(frozen=True, slots=True)
class Remembered:
    """What was answered under an idempotency key: to which request (any text that tells it from others), and what."""

    request: str
    status: int
    answer: Data


@dataclass(frozen=True, slots=True)
class Step:
    """Something of an issuer that is due."""

    id: str
    provider: str
    kind: str
    thing: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A body that an issuer owes to whoever asked for its notices."""

    id: str
    provider: str
    body: bytes


class Books:
    """One issuer's things, to read."""

    def __init__(self, tx: sa.Connection, provider: str) -> None:
        self.tx = tx
        self.provider = provider

    def get(self, kind: str, thing_id: str) -> Data | None:
        """A thing's state, or None if there is none of that kind and id."""
        query = sa.select(_things.c.data).where(self._is(kind), _things.c.id == thing_id)
        data = self.tx.execute(query).scalar_one_or_none()
        return None if data is None else json.loads(data)

    def all(self, kind: str) -> list[Data]:
        """Every thing of a kind, oldest first."""
        query = sa.select(_things.c.data).where(self._is(kind)).order_by(_things.c.number)
        return [json.loads(data) for data in self.tx.execute(query).scalars()]

    def _is(self, kind: str) -> sa.ColumnElement[bool]:
        return sa.and_(_things.c.provider == self.provider, _things.c.kind == kind)


class Act(Books):
    """One issuer's things, to change in one transaction; `now` is its time."""

    def __init__(self, tx: sa.Connection, provider: str, now: datetime, *, owes: bool) -> None:
        super().__init__(tx, provider)
        self.now = now
        self._owes = owes
        self.notices = 0
        self.entries: list[bytes] = []

    def put(self, kind: str, thing_id: str, data: Mapping[str, Any]) -> None:
        """Keep a thing's state, new or changed."""
        text = json.dumps(data)
        here = sa.update(_things).where(self._is(kind), _things.c.id == thing_id)
        if self.tx.execute(here.values(data=text)).rowcount == 0:
            self.tx.execute(sa.insert(_things).values(provider=self.provider, kind=kind, id=thing_id, data=text))

    def tell(self, entry: Entry) -> None:
        """Have the act's end append that to the log."""
        leaf = {
            "account": entry.account,
            "amount": entry.amount,
            "at": format_time(self.now),
            "effect": entry.effect,
            "event": entry.event,
            "item": {"id": entry.item_id, "type": entry.item_type},
            "operation": entry.operation,
            "provider": self.provider,
            "quantity": entry.quantity,
        }
        self.entries.append(canonical.encode(leaf))

    def notify(self, body: bytes) -> None:
        """Keep a notice, which is delivered if anybody is to be told of this issuer's."""
        values = {"id": new_id(), "provider": self.provider, "body": body, "owed": self._owes}
        self.tx.execute(sa.insert(_notices).values(**values))
        self.notices += 1

    def later(self, kind: str, thing_id: str, seconds: float) -> None:
        """Have the issuer go on with a thing after so many seconds."""
        due_at = format_time(self.now + timedelta(seconds=seconds))
        values = {"id": new_id(), "provider": self.provider, "kind": kind, "thing": thing_id, "due_at": due_at}
        self.tx.execute(sa.insert(_steps).values(**values))

    def done(self, step: Step) -> bool:
        """Take a step off the list, which is made within this act; False if it is not there any more.

        What is due is read before the act, and in between it may have been forgotten with everything else.
        """
        return self.tx.execute(sa.delete(_steps).where(_steps.c.id == step.id)).rowcount == 1

    def recall(self, key: str) -> Remembered | None:
        """What was answered under that idempotency key."""
        query = sa.select(_answers).where(_answers.c.provider == self.provider, _answers.c.key == key)
        row = self.tx.execute(query).one_or_none()
        return None if row is None else Remembered(row.request, row.status, json.loads(row.answer))

    def remember(self, key: str, remembered: Remembered) -> None:
        """Keep what is answered under an idempotency key."""
        self.tx.execute(
            sa.insert(_answers).values(
                provider=self.provider,
                key=key,
                request=remembered.request,
                status=remembered.status,
                answer=json.dumps(remembered.answer),
            )
        )

    def is_new(self) -> bool:
        """Whether this issuer has nothing yet, not even its fixtures."""
        return self.tx.execute(sa.select(_things.c.number).where(_things.c.provider == self.provider)).first() is None

    def forget_all(self) -> None:
        """Leave nothing of this issuer but what it told: its entries in the log, which goes on, and what it owes."""
        for table in (_things, _answers, _steps):
            self.tx.execute(sa.delete(table).where(table.c.provider == self.provider))


class Ledger:
    """The sandbox's database and log. `told` are the issuers whose notices somebody is to be told of."""

    def __init__(self, database: Database, log: Log, told: frozenset[str]) -> None:
        self._database = database
        self.log = log
        self.log_is_down = False
        self._told = told
        self._withheld: Counter[str] = Counter()
        self._publishing = Lock()

    @classmethod
    def open(cls, folder: Path, told: frozenset[str] = frozenset()) -> "Ledger":
        """Open the sandbox of that folder, made there with a log and a key of its own if it is new.

        Raises NotASandboxError, with nothing made, if the folder is a receiver's.
        """
        for name in _OF_A_RECEIVER:
            if (folder / name).exists():
                raise NotASandboxError(
                    f"{folder} is a receiver's data folder ({name} is in it): name another by --data"
                )
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        database = Database(f"sqlite:///{folder / DATABASE}")
        tables = [store.logs, store.entries, store.tiles, store.published, store.checkpoints, store.leaf_buckets]
        with database.write() as tx:
            store.metadata.create_all(tx, tables=tables)
            _metadata.create_all(tx)
            text = tx.execute(sa.select(_keys.c.private_key)).scalar_one_or_none()
            if text is None:
                text = str(SigningKey.generate(f"sandbox.invalid/{secrets.token_hex(8)}/log"))
                tx.execute(sa.insert(_keys).values(private_key=text))
                create_log(tx, SigningKey.parse(text).name, EMPTY_ROOT)
            log_id = tx.execute(sa.select(store.logs.c.id)).scalar_one()
        key = SigningKey.parse(text)
        log = Log(key.name, key, SqlStore(database, database.dialect, log_id), None)
        log.publish()
        log.refresh()
        return cls(database, log, told)

    def close(self) -> None:
        """Close the database."""
        self._database.dispose()

    @contextmanager
    def read(self, provider: str) -> Generator[Books]:
        """An issuer's things, to read."""
        with self._database.read() as tx:
            yield Books(tx, provider)

    @contextmanager
    def act(self, provider: str) -> Generator[Act]:
        """An issuer's things, to change. Durable once the block is left; nothing of it if it is left by an error."""
        with self._database.write() as tx:
            head = self.log.lock(tx)
            now = datetime.now(UTC)
            withheld = self._withheld[provider] > 0
            act = Act(tx, provider, now, owes=provider in self._told and not withheld)
            yield act
            if act.entries:
                head = self.log.append(tx, act.entries, max(format_time(now), head.logged_at)).head
            log = self.log
        log.confirm(head)
        if withheld:
            self._withheld[provider] -= min(act.notices, self._withheld[provider])

    def withhold(self, provider: str, notices: int) -> None:
        """Have so many of an issuer's next notices never delivered."""
        self._withheld[provider] = notices

    def fork(self) -> int | None:
        """Have the log show another history from now on, in which its last entry is of another item.

        The index of that entry, or None if there is none to exchange. Both histories are signed by the same key.
        """
        # Not while a checkpoint is being signed: one of the former history would be signed after it.
        with self._publishing, self._database.write() as tx:
            head = self.log.lock(tx)
            if head.size == 0:
                return None
            told = list(self.log.store.entries(tx, 0, head.size))
            last = json.loads(told[-1])
            told[-1] = canonical.encode({**last, "item": {**last["item"], "id": new_id()}, "operation": new_id()})
            log_id = tx.execute(sa.select(store.logs.c.id)).scalar_one()
            for table in (store.entries, store.tiles, store.published, store.checkpoints, store.leaf_buckets):
                tx.execute(sa.delete(table))
            tx.execute(sa.update(store.logs).values(size=0, root=EMPTY_ROOT, logged_at=""))
            key = SigningKey.parse(tx.execute(sa.select(_keys.c.private_key)).scalar_one())
            log = Log(key.name, key, SqlStore(self._database, self._database.dialect, log_id), None)
            log.lock(tx)
            grown = log.append(tx, told, head.logged_at).head
            self.log = log  # whoever acts next waits for this transaction, and then sees the new one
        log.confirm(grown)
        self.publish()
        return head.size - 1

    def publish(self) -> None:
        """Sign a checkpoint of what is in the log, if there is anything new."""
        with self._publishing:
            self.log.publish()
            self.log.refresh()

    def due(self) -> list[Step]:
        """The steps whose time has come, in order."""
        query = sa.select(_steps).where(_steps.c.due_at <= format_time(datetime.now(UTC))).order_by(_steps.c.due_at)
        with self._database.read() as tx:
            return [Step(row.id, row.provider, row.kind, row.thing) for row in tx.execute(query)]

    def owed(self, after: str = "") -> list[Notice]:
        """The notices that are owed to whoever is told now, oldest first; only those `after` the notice of that id.

        Ids are made under the log's lock, so whoever asks for what is after the last one given misses none.
        """
        told = _notices.c.provider.in_(self._told)
        query = sa.select(_notices).where(_notices.c.owed, told, _notices.c.id > after).order_by(_notices.c.id)
        with self._database.read() as tx:
            return [Notice(row.id, row.provider, row.body) for row in tx.execute(query)]

    def delivered(self, notice_id: str) -> None:
        """Note that a notice was taken: it is owed no more."""
        with self._database.write() as tx:
            tx.execute(sa.update(_notices).where(_notices.c.id == notice_id).values(owed=False))

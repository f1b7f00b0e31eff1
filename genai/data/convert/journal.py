"""What makes a conversion go on after a kill: a plan and one record for every finished part, beside the output.

Everything lies below `OUT/.convert/` until the data sets are whole. A part's record is written after its shards, in one
piece, so that a part is whole or absent; a part that was cut off is converted again, into shards of the same names.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from genai.data.convert.parts import PartResult
from genai.errors import GenaiError, UsageError
from genai.storage import ObjectStore, open_store
from genai.storage.atomic import is_alive
from genai.storage.locks import exclusive, lock_file

FOLDER = ".convert"
_PLAN = f"{FOLDER}/plan.json"
_LOCK = f"{FOLDER}/lock.json"
_RENEWED_EVERY_S = 20.0
_GIVEN_UP_AFTER_S = 120.0
_SETTLES_IN_S = 0.3
_DECIDING = ("format_version", "settings", "sources")
_NEW_PLACE = "choose another --out, or remove this one first"


def identity_of(plan: Mapping[str, Any]) -> str:
    """sha256 of a plan, or of the plan in a lineage: conversions of the same identity give the same bytes."""
    deciding = {key: plan.get(key) for key in _DECIDING}
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


class Journal:
    """Plan and finished parts of the conversion into `out`.

    Args:
        out: the folder or bucket.
        plan: the settings and inputs, as plain values.
    """

    def __init__(self, out: str, plan: Mapping[str, Any]) -> None:
        self._out = out
        self._store = open_store(out)
        self._plan = json.loads(json.dumps(plan))

    def begin(self) -> dict[int, PartResult]:
        """Write the plan, or find the one of a conversion that was cut off, with the parts that it finished.

        Raises:
            UsageError: see `check`.
        """
        if not self.check():
            self._write(_PLAN, self._plan)
            return {}
        keys = [info.key for info in self._store.list(f"{FOLDER}/part-")]
        results = [PartResult.from_json(json.loads(self._store.read(key)), key) for key in keys]
        return {result.index: result for result in results}

    def check(self) -> bool:
        """Whether this conversion was begun before.

        Raises:
            UsageError: the place holds something else, or a conversion of other inputs or settings.
        """
        if self._store.stat(_PLAN) is not None:
            refuse_other(self._plan, json.loads(self._store.read(_PLAN)), self._out)
            return True
        keys = [info.key for info in self._store.list() if not info.key.startswith(f"{FOLDER}/")]
        if keys:
            raise UsageError(f"there is something already: {keys[0]}", where=self._out, fix=_NEW_PLACE)
        return False

    def record(self, result: PartResult) -> None:
        """Note that a part is done."""
        self._write(f"{FOLDER}/part-{result.index:05d}.json", result.to_json())

    def remove(self) -> None:
        """Forget all: the data sets are whole."""
        for info in self._store.list(f"{FOLDER}/part-"):
            self._store.delete(info.key)
        self._store.delete(_PLAN)
        if (folder := self._store.local_path(_PLAN)) is not None and folder.parent.is_dir():
            folder.parent.rmdir()

    def _write(self, key: str, value: Mapping[str, Any]) -> None:
        self._store.write(key, json.dumps(value, ensure_ascii=False).encode())


def refuse_other(plan: Mapping[str, Any], there: Mapping[str, Any], out: str) -> None:
    """See that the plan of what is in `out` is this one.

    Raises:
        UsageError: it is not; names what differs.
    """
    if identity_of(plan) != identity_of(there):
        message = f"it holds a conversion of other {_difference(plan, there)}"
        raise UsageError(message, where=out, fix=_NEW_PLACE)


def _difference(plan: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    settings, others = plan["settings"], there.get("settings", {})
    for key, value in settings.items():
        if others.get(key) != value:
            return f"settings: {key} was {_short(others.get(key))}, now it is {_short(value)}"
    names = {source["name"]: source for source in there.get("sources", ())}
    for source in plan["sources"]:
        if source["name"] not in names:
            return f"inputs: {source['name']} is new"
        if names[source["name"]] != source:
            return f"inputs: {source['name']} has changed since"
    return "inputs"


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) < 40 else f"{text[:20]}..."


@contextmanager
def only_writer(out: str) -> Iterator[None]:
    """Be the only conversion into `out`: by a lock of the kernel in a folder, by a marker that is renewed in a bucket.

    Raises:
        GenaiError: another one is at work there.
    """
    store = open_store(out)
    root = store.local_path("")
    with ExitStack() as stack:
        if root is None:
            stack.enter_context(_marked(store))
        else:
            try:
                stack.enter_context(exclusive(root, timeout_s=0))
            except GenaiError as error:
                raise _taken(out, "another process") from error
            stack.callback(lock_file(root).unlink, missing_ok=True)
        store.sweep()
        yield


@contextmanager
def _marked(store: ObjectStore) -> Iterator[None]:
    token = secrets.token_hex(8)
    _refuse_live(store)
    _mark(store, token)
    time.sleep(_SETTLES_IN_S)
    # Of two that came at the same moment, the one whose marker stayed goes on.
    if json.loads(store.read(_LOCK))["token"] != token:
        raise _taken(store.url, "another process")
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(_RENEWED_EVERY_S):
            _mark(store, token)

    thread = threading.Thread(target=renew, name="convert-marker", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        store.delete(_LOCK)


def _refuse_live(store: ObjectStore) -> None:
    info = store.stat(_LOCK)
    if info is None:
        return
    holder = json.loads(store.read(_LOCK))
    here = holder["host"] == socket.gethostname()
    if here and not is_alive(holder["pid"]):
        return
    if time.time() - info.modified < _GIVEN_UP_AFTER_S:
        raise _taken(store.url, f"process {holder['pid']} on {holder['host']}")


def _mark(store: ObjectStore, token: str) -> None:
    holder = {"token": token, "host": socket.gethostname(), "pid": os.getpid()}
    store.write(_LOCK, json.dumps(holder).encode())


def _taken(out: str, who: str) -> GenaiError:
    return GenaiError(f"{who} is converting into it", where=out, fix="wait until it is done, or choose another --out")

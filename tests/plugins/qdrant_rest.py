"""What `engine: qdrant` asks of a server, answered over real HTTP by the client's own local mode.

`python qdrant_rest.py PORT [KEY]` serves it. What a real server does with graphs and shards it cannot show: for that
the contract suite runs against the server that QDRANT_URL names.
"""

from __future__ import annotations

import json
import sys
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from qdrant_client import QdrantClient, models

_CLIENT = QdrantClient(":memory:", force_disable_check_same_thread=True)
_LOCK = threading.Lock()
_INDEXES: dict[str, dict[str, Any]] = {}
"""Collection -> key -> index over the payload, which the local mode does not keep."""
_SHARDS: dict[str, dict[str, set[str]]] = {}
"""Collection with shards of its own making -> name of a shard -> the points in it; the local mode has none."""


def answer(method: str, path: list[str], body: Any) -> Any:
    """The result of a request.

    Raises:
        KeyError: there is no such collection.
    """
    match method, path:
        case "GET", ["collections"]:
            return _CLIENT.get_collections()
        case "GET", ["aliases"]:
            return _CLIENT.get_aliases()
        case "POST", ["collections", "aliases"]:
            actions = models.ChangeAliasesOperation.model_validate(body).actions
            return _CLIENT.update_collection_aliases(actions)
        case "GET", ["collections", name, "exists"]:
            return {"exists": _CLIENT.collection_exists(name)}
        case "PUT", ["collections", name]:
            wanted = models.CreateCollection.model_validate(body)
            _INDEXES[name] = {}
            _SHARDS.pop(name, None)
            if wanted.sharding_method == models.ShardingMethod.CUSTOM:
                _SHARDS[name] = {}
            return _CLIENT.create_collection(
                name, vectors_config=wanted.vectors, sparse_vectors_config=wanted.sparse_vectors
            )
        case _, ["collections", name, *_] if not _CLIENT.collection_exists(name):
            raise KeyError(f"Not found: Collection `{name}` doesn't exist!")
        case _, ["collections", name, *rest]:
            return _answer_about(name, method, rest, body)
    raise NotImplementedError(f"{method} {path}")


def _answer_about(name: str, method: str, path: list[str], body: Any) -> Any:
    match method, path:
        case "DELETE", []:
            return _CLIENT.delete_collection(name)
        case "GET", []:
            schema = {key: models.PayloadIndexInfo(data_type=kind, points=0) for key, kind in _INDEXES[name].items()}
            return _CLIENT.get_collection(name).model_copy(update={"payload_schema": schema})
        case "PUT", ["index"]:
            _INDEXES[name][body["field_name"]] = body["field_schema"]["type"]
            return models.UpdateResult(operation_id=0, status=models.UpdateStatus.COMPLETED)
        case "DELETE", ["index", key]:
            del _INDEXES[name][key]
            return models.UpdateResult(operation_id=0, status=models.UpdateStatus.COMPLETED)
        case "GET", ["shards"]:
            return {"shard_keys": [{"key": key} for key in _SHARDS[name]]}
        case "PUT", ["shards"]:
            if body["shard_key"] in _SHARDS[name]:
                raise ValueError(f"Sharding key {body['shard_key']} already exists for collection {name}")
            _SHARDS[name][body["shard_key"]] = set()
            return True
        case "PUT", ["points"]:
            points = models.PointsList.model_validate(body).points
            if name in _SHARDS:
                _put(name, str(body["shard_key"]), {str(point.id) for point in points})
            return _CLIENT.upsert(name, points)
        case "POST", ["points", "delete"]:
            wanted = models.PointIdsList.model_validate(body)
            wanted = wanted if name not in _SHARDS else _taken(name, body, wanted)
            if not wanted.points:  # which a server takes, and the local mode does not
                return models.UpdateResult(operation_id=0, status=models.UpdateStatus.COMPLETED)
            return _CLIENT.delete(name, wanted)
        case "POST", ["points", "count"]:
            return _CLIENT.count(name, count_filter=models.CountRequest.model_validate(body).filter)
        case "POST", ["points", "scroll"]:
            wanted = models.ScrollRequest.model_validate(body)
            points, offset = _CLIENT.scroll(name, limit=wanted.limit or 10, offset=wanted.offset, with_payload=False)
            return models.ScrollResult(points=points, next_page_offset=offset)
        case "POST", ["points", "query", "batch"]:
            requests = models.QueryRequestBatch.model_validate(body).searches
            return _CLIENT.query_batch_points(name, [_asked(name, item) for item in requests])
    raise NotImplementedError(f"{method} {path}")


def _put(name: str, shard: str, ids: set[str]) -> None:
    """Note where points go; on a server a point that is in two shards would be found twice."""
    shards = _SHARDS[name]
    twice = {each for key, there in shards.items() if key != shard for each in there & ids}
    if shard not in shards or twice:
        raise ValueError(f"Shard key {shard} not found" if shard not in shards else f"{twice} are in other shards too")
    shards[shard] |= ids


def _taken(name: str, body: Any, wanted: models.PointIdsList) -> models.PointIdsList:
    """Of the points to be deleted those that are in the shards which are asked; all shards where none is named."""
    shards = _SHARDS[name]
    named = body.get("shard_key") or list(shards)
    ids = {str(each) for each in wanted.points}
    found = {each for key in ([named] if isinstance(named, str) else named) for each in shards[key] & ids}
    for there in shards.values():
        there -= found
    return models.PointIdsList(points=sorted(found))


def _asked(name: str, item: models.QueryRequest) -> models.QueryRequest:
    """A query in the words of the local mode: without a graph, a shard as a condition on the ids."""
    conditions = []
    if item.shard_key is not None:
        if item.shard_key not in _SHARDS[name]:
            raise ValueError(f"Shard key {item.shard_key} not found")
        conditions = [models.HasIdCondition(has_id=sorted(_SHARDS[name][str(item.shard_key)]))]
    filter = models.Filter(must=[*conditions, *([item.filter] if item.filter else [])]) if conditions else item.filter
    return item.model_copy(update={"params": None, "shard_key": None, "filter": filter})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    key: str | None = None

    def _handle(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"null")
        if self.key is not None and self.headers.get("api-key") != self.key:
            return self._send(401, {"status": {"error": "Invalid API key or JWT"}})
        try:
            with _LOCK:
                result = answer(self.command, urlsplit(self.path).path.strip("/").split("/"), body)
        except KeyError as error:
            return self._send(404, {"status": {"error": error.args[0]}})
        except Exception as error:
            return self._send(400, {"status": {"error": repr(error)}})
        return self._send(200, {"result": _plain(result), "status": "ok", "time": 0.0})

    do_GET = do_PUT = do_POST = do_DELETE = _handle

    def _send(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _plain(result: Any) -> Any:
    if isinstance(result, list):
        return [_plain(item) for item in result]
    return result.model_dump(mode="json") if hasattr(result, "model_dump") else result


def main(port: int, key: str | None) -> None:
    """Serve until the process is ended."""
    warnings.simplefilter("ignore")
    _Handler.key = key
    ThreadingHTTPServer(("127.0.0.1", port), _Handler).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)

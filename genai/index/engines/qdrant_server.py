"""Asks a Qdrant server, patiently, and says in one line what went wrong."""

from __future__ import annotations

import math
import time
import warnings
from typing import TYPE_CHECKING, Any

from genai.config.index import QdrantConfig
from genai.config.secrets import resolve
from genai.errors import CredentialsError, DataError, GenaiError, MissingExtraError

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

_PAUSES_S = (0.5, 1.0, 2.0)
"""Between attempts, when the server does not answer or is busy; all that is asked of it can be asked twice."""


class Server:
    """One client, connected when it is first asked."""

    def __init__(self, config: QdrantConfig) -> None:
        self._config = config
        self._client: QdrantClient | None = None
        self.is_local = not config.url.startswith(("http://", "https://"))

    def ask(self, method: str, *arguments: Any, **settings: Any) -> Any:
        """What a method of the client gives, tried again a few times while nobody answers.

        Raises:
            CredentialsError: the key is missing or refused.
            GenaiError: the server cannot be reached, or refuses the request.
        """
        from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

        for pause_s in (*_PAUSES_S, None):
            try:
                return getattr(self._connect(), method)(*arguments, **settings)
            except ResponseHandlingException as error:
                if pause_s is None:
                    raise GenaiError(
                        f"the Qdrant server cannot be reached: {error.source}",
                        where=self._config.url,
                        fix="see whether it runs, and whether engine.url is right",
                    ) from error
            except ValueError as error:  # of local mode
                if not self.is_local or "not found" not in str(error):
                    raise
                raise self.gone(str(error)) from error
            except UnexpectedResponse as error:
                if pause_s is None or error.status_code not in (429, 500, 502, 503, 504):
                    raise self._explained(error) from error
            time.sleep(pause_s)
        raise AssertionError("the last attempt returns or raises")

    def gone(self, reason: str) -> DataError:
        """The error to raise when a collection is not there (any more)."""
        return DataError(
            reason,
            where=self._config.url,
            fix="`genai index rebuild NAME` makes it anew from the ledger, without embedding anything",
        )

    def _connect(self) -> QdrantClient:
        from qdrant_client import QdrantClient

        if self._client is None:
            url, key = self._config.url, self._config.api_key
            if url == ":memory:":
                self._client = QdrantClient(":memory:", force_disable_check_same_thread=True)
            elif self.is_local:
                self._client = self._open_folder(url)
            else:
                with warnings.catch_warnings(action="ignore"):  # that a key travels over http, to this machine say
                    self._client = QdrantClient(
                        url=url,
                        api_key=None if key is None else resolve(key),
                        timeout=math.ceil(self._config.timeout_s),
                        check_compatibility=False,
                    )
        return self._client

    def _open_folder(self, path: str) -> QdrantClient:
        from qdrant_client import QdrantClient

        try:
            return QdrantClient(path=path, force_disable_check_same_thread=True)
        except RuntimeError as error:
            raise GenaiError(
                "another process has this folder of the client's local mode open",
                where=path,
                fix="use engine qdrant_edge, or a server, when several processes are to search",
            ) from error
        except ModuleNotFoundError as error:
            raise MissingExtraError("portalocker", extra="qdrant", needed_for="a local folder of Qdrant") from error

    def _explained(self, error: Any) -> GenaiError:
        if error.status_code in (401, 403):
            return CredentialsError(
                "the Qdrant server refuses the key" if self._config.api_key else "the Qdrant server wants a key",
                where=self._config.url,
                fix="set engine.api_key to env:NAME or file:PATH",
            )
        try:
            said = error.structured()["status"]["error"]
        except (ValueError, KeyError, TypeError):
            said = error.reason_phrase
        if error.status_code == 404:
            return self.gone(said)
        return GenaiError(f"the Qdrant server answers {error.status_code}: {said}", where=self._config.url)

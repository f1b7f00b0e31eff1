from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import pytest

from genai.errors import CredentialsError, GenaiError, MissingExtraError
from genai.storage import fsspec_store, open_store
from genai.storage.bucket_errors import Fault
from genai.storage.upload_journal import Begun, Content, open_journal

pytestmark = pytest.mark.integration
MIB = 1 << 20


def test_an_absent_extra_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs.core", None)
    with pytest.raises(MissingExtraError, match=r"gs://b/x needs the package 'gcsfs'.*genai-foundry\[gcs\]"):
        open_store("gs://b/x")


@pytest.fixture
def no_emulator(gcs_environment: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))


@pytest.mark.parametrize("content", [None, "{}", "no JSON"])
def test_credentials_that_cannot_be_read_name_the_variable(
    content: str | None, no_emulator: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "key.json"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    with pytest.raises(
        CredentialsError, match=r"there are no credentials.*set GOOGLE_APPLICATION_CREDENTIALS"
    ) as caught:
        open_store("gs://b/x")
    assert caught.value.exit_code == 4


def test_what_the_server_says_is_understood(gcs_bucket: str) -> None:
    import aiohttp
    from gcsfs.retry import HttpError, NonRetryableError

    bucket = open_store(gcs_bucket)._bucket  # type: ignore[attr-defined]
    for error, anonymous, signed in [
        (HttpError({"code": 401, "message": "Anonymous caller"}), Fault.NO_CREDENTIALS, Fault.WRONG_CREDENTIALS),
        (OSError("Forbidden: b/x\nno storage.objects.get"), Fault.NO_CREDENTIALS, Fault.FORBIDDEN),
        (HttpError({"code": 503, "message": "busy"}), Fault.BROKEN, Fault.BROKEN),
        (HttpError({"code": 429, "message": "slow down"}), Fault.BROKEN, Fault.BROKEN),
        (HttpError({"code": 400, "message": "bad"}), Fault.OTHER, Fault.OTHER),
        (ValueError("Bad Request: b/x\ninvalid bucket name"), Fault.OTHER, Fault.OTHER),
        (aiohttp.ServerDisconnectedError(), Fault.BROKEN, Fault.BROKEN),
        (NonRetryableError("refresh"), Fault.WRONG_CREDENTIALS, Fault.WRONG_CREDENTIALS),
        (FileExistsError("412"), Fault.CHANGED, Fault.CHANGED),
        (ValueError("of ours"), None, None),
    ]:
        bucket._fs.credentials.credentials = None
        assert bucket.fault(error) is anonymous, error
        bucket._fs.credentials.credentials = object()
        assert bucket.fault(error) is signed, error


def test_refused_credentials_end_with_exit_code_4(gcs_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from gcsfs.retry import HttpError

    store = open_store(gcs_bucket)
    refused = HttpError({"code": 401, "message": "Invalid Credentials"})

    def refuse(*_: object, **__: object) -> None:
        raise refused

    monkeypatch.setattr(store._bucket, "head", refuse)  # type: ignore[attr-defined]
    with pytest.raises(CredentialsError, match=rf"{gcs_bucket}/key: there are no credentials.*Invalid Credentials"):
        store.stat("key")


def test_a_service_account_s_key_is_taken(no_emulator: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The token is asked for where the key says; here nobody listens."""
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    account = {"type": "service_account", "client_email": "a@b.c", "private_key": pem, "project_id": "p"}
    (tmp_path / "key.json").write_text(json.dumps({**account, "token_uri": "http://127.0.0.1:9/token"}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    with pytest.raises(GenaiError, match=r"storage.googleapis.com does not answer"):
        open_store("gs://b/x").stat("key")


@pytest.mark.parametrize("what", ["the session is gone", "a part is there that was not heard of"])
def test_an_upload_that_cannot_go_on_begins_anew(
    what: str, gcs_bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fsspec_store, "PART_BYTES", MIB)
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path / "cache"))
    data = os.urandom(3 * MIB)
    (tmp_path / "source").write_bytes(data)
    content = Content(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data), part_bytes=MIB)
    store = open_store(gcs_bucket)
    bucket, name = store._bucket, store._name("large")  # type: ignore[attr-defined]
    if what == "the session is gone":
        session = f"{bucket.endpoint()}/upload/resumable/gone"
    else:
        session = bucket._begin(name, content)
        for start in (0, MIB):
            bucket._send_part(session, data[start : start + MIB], start, len(data))
    target = f"{bucket.endpoint()}/{bucket.name}/{name}"
    with open_journal(target) as journal:
        journal.note(Begun(upload=session, content=content, sent_bytes=MIB))
    store.upload("large", tmp_path / "source")
    assert store.read("large") == data
    with open_journal(target) as journal:
        assert journal.begun() is None

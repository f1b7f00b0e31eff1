from __future__ import annotations

import base64
import sys

import pytest
from bucket_servers import azure_settings

from genai.errors import CredentialsError, DataError, GenaiError, MissingExtraError, UsageError
from genai.storage import open_store
from genai.storage.azure import _account, _fault_of_answer
from genai.storage.bucket_errors import Fault


def test_an_absent_extra_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "adlfs", None)
    with pytest.raises(MissingExtraError, match=r"az://c/x needs the package 'adlfs'.*genai-foundry\[azure\]"):
        open_store("az://c/x")


@pytest.mark.parametrize(
    ("environ", "account"),
    [
        ({"AZURE_STORAGE_CONNECTION_STRING": "x", "AZURE_STORAGE_ACCOUNT_NAME": "y"}, {}),
        ({"AZURE_STORAGE_ACCOUNT_NAME": "mine"}, {"account_name": "mine"}),
        ({"AZURE_STORAGE_ACCOUNT": "mine"}, {"account_name": "mine"}),
        (
            {"AZURE_STORAGE_ACCOUNT_URL": "https://mine.blob.core.chinacloudapi.cn/"},
            {"account_name": "mine", "account_host": "mine.blob.core.chinacloudapi.cn"},
        ),
    ],
)
def test_the_account_comes_from_the_environment(environ: dict[str, str], account: dict[str, str]) -> None:
    assert _account(environ, "az://c") == account


def test_without_an_account_the_variables_are_named() -> None:
    with pytest.raises(
        CredentialsError, match=r"no storage account is named.*AZURE_STORAGE_CONNECTION_STRING"
    ) as caught:
        _account({}, "az://c")
    assert caught.value.exit_code == 4
    with pytest.raises(UsageError, match=r"'http://127.0.0.1:1/x', which is no https:// URL"):
        _account({"AZURE_STORAGE_ACCOUNT_URL": "http://127.0.0.1:1/x"}, "az://c")


@pytest.mark.parametrize(
    ("status", "code", "fault"),
    [
        (404, "ContainerNotFound", Fault.NO_BUCKET),
        (404, "BlobNotFound", Fault.ABSENT),
        (401, "NoAuthenticationInformation", Fault.NO_CREDENTIALS),
        (403, "AuthenticationFailed", Fault.WRONG_CREDENTIALS),
        (403, "AuthorizationPermissionMismatch", Fault.FORBIDDEN),
        (412, "ConditionNotMet", Fault.CHANGED),
        (400, "Md5Mismatch", Fault.DAMAGED),
        (503, "ServerBusy", Fault.BROKEN),
        (429, "", Fault.BROKEN),
        (400, "InvalidResourceName", Fault.OTHER),
    ],
)
def test_what_the_server_says_is_understood(status: int, code: str, fault: Fault) -> None:
    assert _fault_of_answer(status, code) is fault


@pytest.mark.integration
def test_a_wrong_key_is_refused(azure_container: str, azure_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Azurite says AuthorizationFailure, where Azure says AuthenticationFailed."""
    wrong = base64.b64encode(b"wrong" * 12).decode()
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azure_settings(azure_server, key=wrong))
    for attempt in (
        lambda: open_store(azure_container).list(),
        lambda: open_store(azure_container).stat("key"),
        lambda: open_store(azure_container).write("key", b""),
    ):
        with pytest.raises(CredentialsError, match="access denied") as caught:
            attempt()
        assert "\n" not in str(caught.value)


@pytest.mark.integration
def test_a_setting_that_is_no_connection_string_is_named(
    azure_environment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "nonsense")
    with pytest.raises(GenaiError, match=r"the Azure settings cannot be used: .*onnection string"):
        open_store("az://container")


@pytest.mark.integration
def test_a_folder_of_an_account_that_has_real_ones_is_no_object(azure_container: str) -> None:
    store = open_store(azure_container)
    bucket = store._bucket  # type: ignore[attr-defined]
    bucket._wait(bucket._blob("folder").upload_blob(b"", metadata={"hdi_isfolder": "true"}))
    bucket.write("console/", b"", "")
    store.write("folder/key", b"x")
    assert [info.key for info in store.list()] == ["folder/key"]


@pytest.mark.integration
def test_an_interrupted_upload_is_no_object(azure_container: str) -> None:
    store = open_store(azure_container)
    bucket = store._bucket  # type: ignore[attr-defined]
    bucket._wait(bucket._blob("key").stage_block("AAAA", b"x"))
    assert store.list() == []
    assert store.stat("key") is None
    with pytest.raises(DataError, match="no object 'key'"):
        store.read("key")

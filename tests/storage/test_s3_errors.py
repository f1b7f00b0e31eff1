from __future__ import annotations

import pytest
from botocore import exceptions

from genai.errors import CredentialsError, DataError, GenaiError
from genai.storage.s3_errors import explain, is_absent, is_transient


class Store:
    url = "s3://my-data/models"

    def endpoint(self) -> str:
        return "https://s3.example.org"

    def bucket_names(self) -> list[str]:
        return ["mydata", "other"]

    def nearby_keys(self, key: str) -> list[str]:
        return ["weights.safetensors"]


def said_by_server(code: str, status: int = 400) -> exceptions.ClientError:
    answer = {"Error": {"Code": code, "Message": "message"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return exceptions.ClientError(answer, "GetObject")


REFUSED = [
    (exceptions.NoCredentialsError(), CredentialsError, "there are no credentials", "AWS_ACCESS_KEY_ID"),
    (
        exceptions.PartialCredentialsError(provider="env", cred_var="aws_secret_access_key"),
        CredentialsError,
        "AWS_SECRET_ACCESS_KEY is missing",
        "set AWS_SECRET_ACCESS_KEY",
    ),
    (said_by_server("InvalidAccessKeyId", 403), CredentialsError, "were refused", "AWS_PROFILE"),
    (said_by_server("ExpiredToken"), CredentialsError, "have expired", "AWS_ACCESS_KEY_ID"),
    (said_by_server("403", 403), CredentialsError, "access denied", "ask for the right"),
    (said_by_server("NoSuchBucket", 404), DataError, "there is no bucket 'my-data'", "did you mean 'mydata'?"),
    (said_by_server("NoSuchKey", 404), DataError, "no object 'weight.safetensors'", "'weights.safetensors'"),
    (said_by_server("PermanentRedirect", 301), GenaiError, "another region", "AWS_REGION"),
    (said_by_server("NotImplemented", 501), GenaiError, "does not take", "AWS_REQUEST_CHECKSUM_CALCULATION"),
    (said_by_server("MissingContentLength", 411), GenaiError, "does not take", "AWS_REQUEST_CHECKSUM_CALCULATION"),
    (said_by_server("PreconditionFailed", 412), DataError, "was changed by somebody", "try again"),
    (said_by_server("EntityTooLarge"), GenaiError, "https://s3.example.org refused: .*EntityTooLarge", ""),
    (
        exceptions.EndpointConnectionError(endpoint_url="https://s3.example.org"),
        GenaiError,
        "https://s3.example.org does not answer",
        "AWS_ENDPOINT_URL",
    ),
    (exceptions.SSLError(endpoint_url="x", error="self-signed"), GenaiError, "no trusted certificate", "AWS_CA_BUNDLE"),
    (exceptions.ProxyConnectionError(proxy_url="http://p"), GenaiError, "the proxy cannot be reached", "HTTPS_PROXY"),
    (exceptions.FlexibleChecksumError(error_msg="crc32"), DataError, "damaged on its way", "try again"),
]


@pytest.mark.parametrize(("error", "kind", "message", "fix"), REFUSED)
def test_every_fault_says_what_where_and_what_to_do(
    error: Exception, kind: type[GenaiError], message: str, fix: str
) -> None:
    explained = explain(error, Store(), "weight.safetensors")
    with pytest.raises(kind, match=message):
        raise explained
    assert type(explained) is kind
    assert fix in (explained.fix or "")
    assert "s3://my-data/models" in str(explained)
    assert "\n" not in str(explained)


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (exceptions.EndpointConnectionError(endpoint_url="x"), True),
        (exceptions.ReadTimeoutError(endpoint_url="x"), True),
        (exceptions.ConnectionClosedError(endpoint_url="x"), True),
        (exceptions.IncompleteReadError(actual_bytes=1, expected_bytes=2), True),
        (said_by_server("SlowDown", 503), True),
        (said_by_server("anything", 500), True),
        (exceptions.SSLError(endpoint_url="x", error="y"), False),
        (exceptions.NoCredentialsError(), False),
        (said_by_server("AccessDenied", 403), False),
        (said_by_server("NoSuchKey", 404), False),
    ],
)
def test_what_may_go_well_later(error: Exception, transient: bool) -> None:
    assert is_transient(error) is transient


def test_a_missing_object_is_told_from_a_missing_bucket() -> None:
    assert is_absent(said_by_server("404", 404))
    assert not is_absent(said_by_server("NoSuchBucket", 404))

from __future__ import annotations

import pytest

from genai.errors import CredentialsError, DataError, GenaiError
from genai.storage.bucket_errors import Fault, Hints, about, one_line

HINTS = Hints(credentials="set THE_KEY", endpoint="THE_ENDPOINT")


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        (Fault.NO_CREDENTIALS, CredentialsError, r"gs://b/k: there are no credentials: said \(set THE_KEY\)"),
        (Fault.WRONG_CREDENTIALS, CredentialsError, r"the credentials were refused \(said\) \(set THE_KEY\)"),
        (Fault.FORBIDDEN, CredentialsError, r"access denied \(said\) \(ask for the right to do this, or set THE_KEY\)"),
        (
            Fault.UNREACHABLE,
            GenaiError,
            r"http://e does not answer: said \(see THE_ENDPOINT, the network and HTTPS_PROXY",
        ),
        (Fault.BROKEN, GenaiError, "http://e does not answer: said"),
        (Fault.UNTRUSTED, GenaiError, r"http://e shows no trusted certificate: said \(set SSL_CERT_FILE\)"),
        (Fault.CHANGED, DataError, r"the object was changed by somebody while it was read \(try again\)"),
        (Fault.DAMAGED, DataError, "the content was damaged on its way: said"),
        (Fault.OTHER, GenaiError, "gs://b/k: http://e refused: said"),
    ],
)
def test_every_fault_says_what_where_and_what_to_do(fault: Fault, kind: type[GenaiError], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        raise about(fault, "said", where="gs://b/k", endpoint="http://e", hints=HINTS)
    assert type(caught.value) is kind
    assert fault.transient is (fault in (Fault.UNREACHABLE, Fault.BROKEN))


def test_a_page_of_text_becomes_one_line() -> None:
    assert one_line(ValueError("a\n  b\n")) == "a b"
    assert one_line(ValueError()) == "ValueError"
    assert one_line(ValueError("x" * 1000)) == "x" * 300 + "..."

from __future__ import annotations

from pathlib import Path

from genai.storage.checksums import sha256_of, sha256_of_chunks

# FIPS 180-2, appendix B.1: the digest of "abc"
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_of_a_file_and_of_pieces(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc") == sha256_of_chunks([b"a", b"", b"bc"]) == ABC

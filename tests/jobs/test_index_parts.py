from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from index_jobs import make_word_model, write_job, write_table

from genai.config.embedding import EmbeddingConfig
from genai.config.index import IndexConfig
from genai.config.loading import load
from genai.errors import DataError, UsageError
from genai.index.ledger import Ledger
from genai.jobs import index, index_parts


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Ledger]:
    """Opens the ledger of a built index `rooms` in the current folder."""
    monkeypatch.chdir(tmp_path)
    make_word_model(tmp_path / "model")
    write_table(tmp_path / "table")
    write_job(tmp_path / "rooms.yaml", variables={"k": 3}, search={"k": "${variables.k}"})
    index.run(load("rooms.yaml", IndexConfig))
    return lambda: index_parts.open_ledger("rooms", "indexes", read_only=False)


def test_the_job_file_is_kept_unresolved_and_read_with_the_encoder_that_answers(ledger: Callable[[], Ledger]) -> None:
    with ledger() as opened:
        noted = yaml.safe_load((opened.folder / "config.yaml").read_text())
        assert noted["search"]["k"] == "${variables.k}"
        with opened.transaction() as connection:
            connection.execute("""UPDATE generations SET embedding = '{"model": "other", "api_key": "env:KEY"}'""")
        config = index_parts.read_config(opened)
        assert (config.search.k, config.embedding.model) == (3, "other")
        index_parts.write_embedding(opened)
        noted = yaml.safe_load((opened.folder / "config.yaml").read_text())
        assert noted["embedding"] == {"model": "other", "api_key": "env:KEY"}
        assert noted["search"]["k"] == "${variables.k}"


def test_an_index_that_was_moved_is_known_by_its_new_place(ledger: Callable[[], Ledger], tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "indexes" / "rooms").rename(tmp_path / "elsewhere" / "halls")
    with index_parts.open_index("halls", tmp_path / "elsewhere") as opened:
        assert (opened.config.name, opened.config.indexes_dir) == ("halls", str(tmp_path / "elsewhere"))
        assert opened.search(["gutter"], k=1)[0][0].key == "4"


def test_an_index_without_its_job_file(ledger: Callable[[], Ledger]) -> None:
    with ledger() as opened:
        (opened.folder / "config.yaml").unlink()
        with pytest.raises(DataError, match="did not get to its end"):
            index_parts.read_config(opened)


def test_code_of_a_model_runs_only_when_the_command_line_allows_it(ledger: Callable[[], Ledger]) -> None:
    config = load("rooms.yaml", IndexConfig).config
    wanted = EmbeddingConfig(model="./model", trust_remote_code=True)
    with pytest.raises(UsageError, match="runs Python that comes with the model") as caught:
        index_parts.encoder_opener(config, allow_code=False)(wanted)
    assert "--allow-code" in str(caught.value)
    assert index_parts.encoder_opener(config, allow_code=True)(wanted).dimension == 256


def test_the_name_of_an_index_is_one_part_of_a_path() -> None:
    for name in ("../x", "a/b", "", ".hidden"):
        with pytest.raises(UsageError, match="name for an index"):
            index_parts.folder_of(name, "indexes")

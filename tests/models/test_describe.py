import json
from pathlib import Path

import pytest

from genai.errors import DataError, UsageError
from genai.models.describe import count_parameters, describe, licence_of
from genai.models.pull import model_folder
from genai.models.references import ResolvedModel


def make_model(folder: Path, **config: object) -> Path:
    folder.mkdir(parents=True)
    values = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "max_position_embeddings": 512, **config}
    (folder / "config.json").write_text(json.dumps(values))
    header = {
        "a": {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]},
        "b": {"dtype": "F32", "shape": [5], "data_offsets": [48, 68]},
        "__metadata__": {"format": "pt"},
    }
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(68))
    return folder


def test_a_folder(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "mine", dtype="bfloat16")
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: mit\n---\n# Mine\nlicense: none\n")
    about = describe(str(folder))
    assert (about.architecture, about.parameters, about.context_length) == ("LlamaForCausalLM", 17, 512)
    assert (about.licence, about.dtype, about.path) == ("mit", "bfloat16", folder)
    assert set(about.files) == {"README.md", "config.json", "model.safetensors"}
    assert all(len(file["sha256"]) == 64 for file in about.files.values())


def test_a_gallery_model_is_described_without_being_pulled() -> None:
    about = describe("gallery:smollm2-135m-instruct")
    assert about.path is None
    assert about.parameters == 134_515_008
    assert "Q4_1" in str(about.note)
    assert about == describe("smollm2-135m-instruct") or about.reference == "gallery:smollm2-135m-instruct"


def test_a_pulled_gallery_model_says_where_it_came_from() -> None:
    folder = make_model(model_folder("smollm2-135m-instruct"))
    record = {"name": "x", "source": "package p==1", "note": "less", "files": {"config.json": {"size_bytes": 1}}}
    (folder / "genai-source.json").write_text(json.dumps(record))
    about = describe("gallery:smollm2-135m-instruct")
    assert (about.source, about.note, about.path) == ("package p==1", "less", folder)
    assert about.parameters == 134_515_008


def test_what_is_not_there() -> None:
    with pytest.raises(UsageError):
        describe("gallery:smollm")
    with pytest.raises(UsageError):
        describe("./nowhere")


def test_licence_of_the_gallery_wins(tmp_path: Path) -> None:
    resolved = ResolvedModel(reference="hf:x", kind="hub", path=tmp_path, hub_id="meta-llama/Llama-3.2-1B-Instruct")
    assert licence_of(resolved) == "llama3.2"
    assert licence_of(ResolvedModel(reference="x", kind="folder", path=tmp_path)) is None


@pytest.mark.parametrize("content", [b"", b"\x08", b"\xff" * 100, b"\x02\0\0\0\0\0\0\0[]"])
def test_damaged_weights(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(DataError, match="no intact safetensors file"):
        count_parameters(tmp_path)


def test_no_weights(tmp_path: Path) -> None:
    assert count_parameters(tmp_path) is None

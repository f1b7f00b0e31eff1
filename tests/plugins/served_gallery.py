"""`genai serve` with what users have: SmolLM2 and a LoRA adapter, MiniLM, and a small index."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from genai_servers import GenaiServer, serving

from genai.models.quiet import quiet_peft
from genai.models.references import resolve_model

MODEL, ENCODER = "gallery:smollm2-135m-instruct", "gallery:all-minilm-l6-v2"
KEY, OTHER_KEY = "key-of-the-web-app-1", "key-of-another-app-2"
ROWS = [
    {"id": "screed", "text": "The screed under the tiles is sixty millimetres thick.", "topic": "floors"},
    {"id": "gutter", "text": "A gutter needs a slope of three millimetres a metre.", "topic": "roofs"},
    {"id": "invoice", "text": "The invoice is due within thirty days.", "topic": "money"},
]


@contextmanager
def serving_gallery(folder: Path, **engine: Any) -> Iterator[GenaiServer]:
    """`chat` with its adapter `lora`, `minilm` and the index `docs` of ROWS, for two apps, of which `other` may ask
    `lora` alone.
    """
    make_lora(folder / "lora")
    make_index(folder, ENCODER, {"topic": "keyword"})
    model = {"type": "model", "model": MODEL, "adapters": {"lora": "./lora"}, "engine": {"precision": "fp32", **engine}}
    config = {
        "listen": {"port": 0},
        "num_threads": 1,
        "indexes_dir": "./indexes",
        "apps": {"web": {"key": "env:WEB_KEY"}, "other": {"key": "env:OTHER_KEY", "routes": ["lora"]}},
        "endpoints": {
            "chat": model,
            "minilm": {"type": "encoder", "embedding": {"model": ENCODER}},
            "docs": {"type": "index", "index": "docs", "writable": True},
        },
    }
    (folder / "serve.yaml").write_text(json.dumps(config))
    with serving(folder, "serve.yaml", env={"WEB_KEY": KEY, "OTHER_KEY": OTHER_KEY}) as server:
        put = server.ask("/v1/indexes/docs/upsert", {"rows": ROWS}, key=KEY)
        assert put.status == 200, put
        yield server


def make_lora(folder: Path) -> Path:
    """A LoRA adapter for SmolLM2 with an effect that shows."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    config = LoraConfig(r=8, lora_alpha=32, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    with quiet_peft(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by an old name
        model = AutoModelForCausalLM.from_pretrained(resolve_model(MODEL).path)
        get_peft_model(model, config).save_pretrained(folder)
    return folder


def make_index(folder: Path, encoder: str, columns: Mapping[str, str]) -> None:
    """A direct index `docs` below `folder`/indexes that holds nothing yet, as `genai index` makes it."""
    config = {
        "name": "docs",
        "indexes_dir": "./indexes",
        "source": {"direct": True, "metadata": dict(columns)},
        "embedding": {"model": encoder},
    }
    (folder / "index.yaml").write_text(json.dumps(config))
    code = "import sys; from genai_cli.main import main; sys.exit(main())"
    subprocess.run([sys.executable, "-c", code, "index", "index.yaml"], cwd=folder, check=True, capture_output=True)

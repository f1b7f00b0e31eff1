"""`genai serve` with everything it has: a model with an adapter, an encoder, an index, keys, two workers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

KEY, TOKEN = "key-of-the-soaking-app", "token-of-the-soaking-operator"
MODEL, ENCODER = "gallery:smollm2-135m-instruct", "gallery:all-minilm-l6-v2"
MAX_MODEL_LEN = 512

_PATIENCE_S = 180.0
_GENAI = [sys.executable, "-c", "import sys; from genai_cli.main import main; sys.exit(main())"]
_INDEX = {
    "name": "docs",
    "indexes_dir": "./indexes",
    "source": {"direct": True, "metadata": {"topic": "keyword", "number": "integer"}},
    "embedding": {"model": ENCODER},
}
_SERVE = {
    "listen": {"port": 0, "workers": 2},
    "num_threads": 1,
    "indexes_dir": "./indexes",
    "apps": {"soak": {"key": "env:SOAK_KEY"}},
    "admin": {"token": "env:SOAK_TOKEN", "port": 0},
    "access_log": {"path": "access.jsonl"},
    "endpoints": {
        "chat": {
            "type": "model",
            "model": MODEL,
            "adapters": {"lora": "./lora"},
            # a cache that is too small for all of them, so that answers have to give way to others
            "engine": {"max_num_seqs": 12, "max_model_len": MAX_MODEL_LEN, "kv_cache": "20mb"},
        },
        "minilm": {"type": "encoder", "embedding": {"model": ENCODER}},
        "docs": {"type": "index", "index": "docs", "writable": True},
    },
}


class Server:
    """The processes of one `genai serve`."""

    def __init__(self, folder: Path, process: subprocess.Popen[str]) -> None:
        self._folder = folder
        self.process = process
        self.url = self._told(r"ready after .*: (http://\S+)/v1 answers")
        self._admin_url = self._told(r"operator's port: (http://\S+)")

    @property
    def said(self) -> str:
        """Its standard error so far."""
        return (self._folder / "serve.log").read_text(encoding="utf-8")

    def status(self) -> dict[str, Any]:
        """What the operator is told."""
        return self.order("status")

    def order(self, path: str, body: Any = None) -> dict[str, Any]:
        """Ask the operator's port; POST where there is a body."""
        headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._admin_url}/admin/{path}", data=data, headers=headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def processes(self) -> dict[str, psutil.Process]:
        """The first process and those below it, by what they are."""
        first = psutil.Process(self.process.pid)
        found = {"serve": first}
        for child in first.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                module = next((word for word in child.cmdline() if word.startswith("genai.jobs.")), "helper")
                found[f"{module.rpartition('.')[2]} {child.pid}"] = child
        return found

    def stop(self) -> int:
        """SIGTERM; gives the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_PATIENCE_S)

    def _told(self, pattern: str) -> str:
        deadline = time.monotonic() + _PATIENCE_S
        while (found := re.search(pattern, self.said)) is None:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the server did not start:\n{self.said}")
            time.sleep(0.1)
        return found[1]


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A server in that folder for as long as the block lasts."""
    environment = {**os.environ, "SOAK_KEY": KEY, "SOAK_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"}
    _prepare(folder)
    with (folder / "serve.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [*_GENAI, "serve", "serve.yaml"], cwd=folder, env=environment, stdout=log, stderr=log, text=True
        )
    try:
        yield Server(folder, process)
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(children, timeout=10)
        for child in alive:
            child.kill()


def _prepare(folder: Path) -> None:
    for name, config in (("index.yaml", _INDEX), ("serve.yaml", _SERVE)):
        (folder / name).write_text(json.dumps(config), encoding="utf-8")
    subprocess.run([*_GENAI, "index", "index.yaml", "--quiet"], cwd=folder, check=True, stdout=sys.stderr)
    for seed, name in enumerate(("lora", "other")):
        make_adapter(folder / name, seed)


def make_adapter(folder: Path, seed: int) -> None:
    """A LoRA adapter with weights drawn at random."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoConfig

    from genai.models.references import resolve_model

    resolved = resolve_model(MODEL)
    config, rank = AutoConfig.from_pretrained(resolved.path), 8
    generator = torch.Generator().manual_seed(seed)
    width, tensors = config.hidden_size, {}
    for layer in range(config.num_hidden_layers):
        module = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        tensors[f"{module}.lora_A.weight"] = torch.randn(rank, width, generator=generator) / width
        tensors[f"{module}.lora_B.weight"] = torch.randn(width, rank, generator=generator)
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    told = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(resolved.path),
        "target_modules": ["q_proj"],
        "r": rank,
        "lora_alpha": 2 * rank,
    }
    (folder / "adapter_config.json").write_text(json.dumps(told), encoding="utf-8")

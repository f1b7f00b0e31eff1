"""llm-foundry's files: which of its keys are ours as they are, and what becomes of the others, one by one.

Those of training stand here, those of `scripts/eval` in `foundry_eval`.

A key that is not in this table is either a key of the job's config class, with the same meaning, or unknown. Keys that
only steer how a run is watched or fed have no effect and say so; keys that would change the result are translated, or
refused with the reason. docs/llm-foundry.md is written from this table and `foundry_keys`.
"""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from genai.config.foundry_answers import Answer, Settled, no_effect, refused, translated
from genai.config.foundry_eval import ANSWERS as EVAL_ANSWERS
from genai.config.foundry_eval import ICL_JOBS, settle_models
from genai.config.tree import Key, Node, dotted, find, graft, plain
from genai.errors import Problem

# --- translations -----------------------------------------------------------------------------------------------------


def _epochs(value: Any) -> dict[str, Any] | None:
    """A bare number is a number of epochs to Composer; of the length of a run that would be too much to guess."""
    return {"eval_interval": f"{value}ep"} if isinstance(value, int) and not isinstance(value, bool) else None


def _flash_attention(value: Any) -> dict[str, Any]:
    return {"attn_implementation": "flash_attention_2"} if value is True else {}


def _compile(value: Any) -> dict[str, Any]:
    return {} if value is None else {"compile": True}


def _all_batches(value: Any) -> dict[str, Any] | None:
    return {} if value == -1 else None


_ONLY_FINETUNE = ("finetune",)
_ONLY_PRETRAIN = ("pretrain",)
_MPT: dict[str, Any] = {"jobs": _ONLY_PRETRAIN, "model": "mpt_causal_lm"}
_TRANSLATED = (
    translated("a bare number counts epochs: 1 is 1ep", "eval_interval", _epochs),
    translated("true becomes attn_implementation: flash_attention_2", "model.use_flash_attention_2", _flash_attention),
    translated(
        "becomes model.adapter", "model.pretrained_lora_id_or_path", lambda v: {"adapter": v}, jobs=_ONLY_FINETUNE
    ),
    translated(
        "true becomes model.quantization: {bits: 8}",
        "model.load_in_8bit",
        lambda value: {"quantization": {"bits": 8}} if value else {},
        jobs=_ONLY_FINETUNE,
    ),
    translated("becomes compile: true; torch's own settings hold", "compile_config", _compile),
    translated(
        "becomes callbacks.loss_spike: {action: stop}",
        "callbacks.kill_loss_spike",
        lambda value: {"loss_spike": {"action": "stop"}},
    ),
    translated(
        "null is the default, no tasks", "icl_tasks", lambda value: {} if value is None else None, jobs=ICL_JOBS
    ),
    translated("-1, all batches, is the default", "eval_subset_num_batches", _all_batches, jobs=_ONLY_PRETRAIN),
)

# --- without effect ---------------------------------------------------------------------------------------------------

_NO_EFFECT = (
    *no_effect(
        "progress goes to stderr; --quiet and --debug change how much",
        *("progress_bar", "log_to_console", "console_log_interval", "python_log_level"),
    ),
    *no_effect("the config is always saved in the run directory", "log_config", "metadata", "flatten_metadata"),
    *no_effect(
        "it is always logged",
        *("callbacks.speed_monitor", "callbacks.lr_monitor", "callbacks.memory_monitor", "callbacks.runtime_estimator"),
        *("callbacks.system_metrics_monitor", "callbacks.optimizer_monitor"),
    ),
    *no_effect("environment.json is always written", "callbacks.env_logging"),
    *no_effect("callbacks.nan_guard is always on", "callbacks.nan_monitor"),
    *no_effect("the model is exported at the end of the run", "callbacks.hf_checkpointer"),
    *no_effect("memory is planned before the run", "callbacks.memory_snapshot", "callbacks.oom_observer"),
    *no_effect("talk to the result: genai models chat runs:RUN", "callbacks.generate_callback"),
    *no_effect(
        "it only watches, and is not there",
        *("callbacks.fdiff_metrics", "callbacks.eval_output_logging", "callbacks.mbmoe_tok_per_expert"),
        "callbacks.loss_perp_v_len",
    ),
    *no_effect("Python's own collection of garbage holds", "callbacks.scheduled_gc"),
    *no_effect("a checkpoint is read by any number of devices", "callbacks.mono_checkpoint_saver"),
    *no_effect("evaluation is done by the job itself", "callbacks.async_eval"),
    *no_effect("SIGTERM saves a checkpoint and stops: let the scheduler send it", "callbacks.run_timeout"),
    *no_effect("metrics.jsonl is always written", "loggers.inmemory", "loggers.inmemory_logger", "loggers.mosaicml"),
    *no_effect(
        "rows are tokenised once and read from memory-mapped files",
        *("*_loader.num_workers", "*_loader.pin_memory", "*_loader.prefetch_factor", "*_loader.persistent_workers"),
        "*_loader.timeout",
        jobs=_ONLY_FINETUNE,
    ),
    *no_effect(
        "a thread of the process reads ahead",
        *("*_loader.num_workers", "*_loader.pin_memory", "*_loader.prefetch_factor", "*_loader.persistent_workers"),
        "*_loader.timeout",
        jobs=_ONLY_PRETRAIN,
    ),
    *no_effect(
        "batches are as long as their longest row",
        *("*_loader.dataset.allow_pad_trimming", "*_loader.dataset.pad_to_longest"),
        jobs=_ONLY_FINETUNE,
    ),
    *no_effect(
        "rows are filled best-fit over a bounded pool",
        "*_loader.dataset.max_leftover_bins_to_keep",
        jobs=_ONLY_FINETUNE,
    ),
    *no_effect("only data formats that hold no code are read", "*_loader.dataset.safe_load", jobs=_ONLY_FINETUNE),
    *no_effect("the tokenizer knows it", "*_loader.dataset.eos_token_id", jobs=_ONLY_FINETUNE),
    *no_effect(
        "the documents of a row are told apart by the token between them alone",
        *("*_loader.dataset.eos_token_id", "*_loader.dataset.bos_token_id"),
        jobs=_ONLY_PRETRAIN,
    ),
    *no_effect(
        "a request is repeated until the store's own deadline",
        *("*_loader.dataset.download_retry", "*_loader.dataset.streams.*.download_retry"),
        *("*_loader.dataset.download_timeout", "*_loader.dataset.streams.*.download_timeout"),
    ),
    *no_effect(
        "shards are kept as they came",
        *("*_loader.dataset.keep_zip", "*_loader.dataset.streams.*.keep_zip"),
    ),
    *no_effect(
        "the order is the same for any number of nodes, ranks and workers",
        *("*_loader.dataset.num_canonical_nodes", "*_loader.dataset.partition_algo", "*_loader.dataset.batch_size"),
    ),
    *no_effect(
        "all rows are read before training",
        *("*_loader.dataset.predownload", "*_loader.dataset.cache_limit", "*_loader.dataset.shuffle_algo"),
        "*_loader.dataset.shuffle_block_size",
        jobs=_ONLY_FINETUNE,
    ),
    *no_effect("the shards' index names it", "*_loader.dataset.token_encoding_type", jobs=_ONLY_PRETRAIN),
    *no_effect("weights are read straight to where they are needed", "model.init_device"),
    *no_effect("the environment variable HF_TOKEN is used", "model.use_auth_token"),
    *no_effect("an adapter is saved alone, and merged at the end", "model.should_save_peft_only"),
    *no_effect("the embedding grows where the tokenizer is larger", "model.allow_embedding_resizing"),
    *no_effect("loss and perplexity are what is measured", "model.use_train_metrics"),
    *no_effect("the loss has one implementation", "model.loss_fn", jobs=_ONLY_PRETRAIN),
    *no_effect(
        "transformers' MPT has one implementation",
        *("model.norm_type", "model.fc_type", "model.use_cache", "model.use_pad_tok_in_ffn"),
        "model.attn_config.fused_qkv",
        jobs=_ONLY_PRETRAIN,
    ),
    *no_effect("load_path always takes the weights only", "load_weights_only"),
    *no_effect("a run goes on or refuses; --run-name starts another", "save_overwrite"),
    *no_effect("checkpoints have names of their own", "save_filename", "save_latest_filename"),
    *no_effect("checkpoints and, at the end, the model are written", "only_hf_checkpoint", "only_composer_checkpoint"),
    *no_effect("a resume finds its place in the data at once", "spin_dataloaders"),
    *no_effect("PyTorch's own default holds", "expandable_segments", "max_split_size_mb", "cuda_load_lazy"),
    *no_effect("ranks wait for one another as long as rank 0 may need", "dist_timeout"),
    *no_effect(
        "FSDP2 decides it for itself",
        *("fsdp_config.auto_wrap", "fsdp_config.flatten_parameters", "fsdp_config.sharded_ckpt_prefix_dir"),
        *("fsdp_config.te_checkpoint_wrapper", "fsdp_config.te_shard_fp8_weight", "fsdp_config.*_prefetch_limit"),
    ),
    *no_effect("it is only there to be referred to, which variables is for", "global_seed", "dataset"),
    *no_effect("tasks read as many tokens as the rows have", "icl_seq_len", "icl_max_seq_len"),
)

# --- refused ----------------------------------------------------------------------------------------------------------

_REFUSED = (
    *refused(
        "averages over tasks are made by `genai eval`, not while training",
        "remove it, and evaluate the finished model",
        *("eval_gauntlet", "eval_gauntlet_str"),
        harmless=(None,),
    ),
    *refused("tasks stand in the job file itself", "write them out, as icl_tasks", "icl_tasks_str", harmless=(None,)),
    *refused(
        "rows are counted, not batches",
        "write limit in each of icl_tasks",
        "icl_subset_num_batches",
        harmless=(None, -1),
    ),
    *refused("there is one evaluation set", "keep one, as eval_loader", "eval_loaders"),
    *refused("a job file runs no Python", "remove it", "code_paths", harmless=(None, [])),
    *refused("there is no profiler", "remove it", "profiler", harmless=(None,)),
    *refused("it has another name", "write parallel: {tensor_parallel_degree: 2}", "tp_config", harmless=(None, {})),
    *refused(
        "a job file runs no Python",
        "remove it",
        *("fsdp_config.load_planner", "fsdp_config.save_planner"),
        harmless=(None,),
    ),
    *refused(
        "shards are spread over all ranks, or with HYBRID_SHARD over those of a machine",
        "set fsdp_config.sharding_strategy",
        "fsdp_config.data_parallel_*_degree",
        harmless=(None, -1),
    ),
    *refused("it follows from the batch sizes", "write device_train_microbatch_size", "device_train_grad_accum"),
    *refused("the batch is that of all devices", "write global_train_batch_size", "device_train_batch_size"),
    *refused("devices are counted, not written", "use --nproc", "n_gpus"),
    *refused(
        "a loss is always a mean over the tokens of the whole batch",
        "remove it",
        "accumulate_train_batch_on_tokens",
        harmless=(True,),
    ),
    *refused(
        "evaluation takes all rows",
        "write eval_loader.dataset.max_rows",
        "eval_subset_num_batches",
        jobs=_ONLY_FINETUNE,
        harmless=(-1,),
    ),
    *refused(
        "an epoch takes all rows",
        "write train_loader.dataset.max_rows",
        "train_subset_num_batches",
        jobs=_ONLY_FINETUNE,
        harmless=(-1,),
    ),
    *refused(
        "an epoch takes all samples",
        "write train_loader.dataset.epoch_size",
        "train_subset_num_batches",
        jobs=_ONLY_PRETRAIN,
        harmless=(-1,),
    ),
    *refused(
        "a checkpoint holds all that a resume needs",
        "remove it; the model is exported at the end",
        *("save_weights_only", "save_ignore_keys"),
        harmless=(False, None),
    ),
    *refused("all weights must fit", "remove it", "load_strict_model_weights", harmless=(True,)),
    *refused("all weights must fit", "remove it", "load_ignore_keys", harmless=(None,)),
    *refused(
        "loss and perplexity are what is measured", "remove it", "model.additional_*_metrics", harmless=(None, [])
    ),
    *refused("patience has another name", "write callbacks.early_stopping: {patience: 3}", "callbacks.early_stopper"),
    *refused("the learning rate has one course", "see scheduler", "callbacks.global_lr_scaling"),
    *refused("all layers are trained", "train an adapter: genai finetune", "callbacks.layer_freezing"),
    *refused(
        "a run has one data set from its beginning to its end",
        "run one job after the other, with load_path",
        *("callbacks.curriculum_learning", "callbacks.dataset_swap"),
    ),
    *refused("weights are taken at the beginning", "write load_path", "callbacks.load_checkpoint"),
    *refused(
        "training takes the optimizer's steps and the model as they are",
        "remove it, or choose another model",
        *("algorithms.alibi", "algorithms.gated_linear_units", "algorithms.low_precision_layernorm"),
    ),
    *refused("a warm-up has the length that is written", "remove it", "scheduler.scale_warmup", harmless=(False,)),
    *refused(
        "there is no inv_sqrt_with_warmup",
        "take scheduler.name: wsd, which can be gone on with as well",
        *("scheduler.t_scale", "scheduler.t_cooldown", "scheduler.alpha_f_*"),
    ),
    *refused("an adapter is trained by genai finetune", "remove it", "model.peft_config", jobs=_ONLY_PRETRAIN),
    *refused(
        "an adapter is trained by genai finetune",
        "remove it",
        "model.pretrained_lora_id_or_path",
        jobs=_ONLY_PRETRAIN,
        harmless=(None,),
    ),
    *refused(
        "quantised weights cannot be trained", "remove it", "model.load_in_8bit", jobs=_ONLY_PRETRAIN, harmless=(False,)
    ),
    *refused(
        "a job file runs no Python",
        "name the columns: format and columns",
        "*_loader.dataset.preprocessing_fn",
        jobs=_ONLY_FINETUNE,
    ),
    *refused(
        "every row of every stream comes once an epoch",
        "remove it",
        *("*_loader.dataset.streams.*.proportion", "*_loader.dataset.streams.*.repeat"),
        *("*_loader.dataset.streams.*.choose", "*_loader.dataset.epoch_size"),
        jobs=_ONLY_FINETUNE,
        harmless=(None,),
    ),
    *refused(
        "it is said once for all streams",
        "write it beside streams",
        "*_loader.dataset.streams.*.validate_hash",
        harmless=(None,),
    ),
    *refused(
        "samples are drawn evenly over a stream's shards",
        "remove it",
        "*_loader.dataset.sampling_method",
        jobs=_ONLY_PRETRAIN,
        harmless=("balanced",),
    ),
    *refused(
        "samples are drawn evenly over a stream's shards",
        "remove it",
        "*_loader.dataset.sampling_granularity",
        jobs=_ONLY_PRETRAIN,
        harmless=(1,),
    ),
    *refused(
        "streams are mixed sample by sample",
        "remove it",
        "*_loader.dataset.batching_method",
        jobs=_ONLY_PRETRAIN,
        harmless=("random",),
    ),
    *refused(
        "no two devices get the same samples",
        "remove it",
        "*_loader.dataset.replication",
        jobs=_ONLY_PRETRAIN,
        harmless=(None, 1),
    ),
    *refused(
        "shards that hold pickles are never read",
        "remove it",
        "*_loader.dataset.allow_unsafe_types",
        jobs=_ONLY_PRETRAIN,
        harmless=(False,),
    ),
    *refused(
        "a job file runs no Python",
        "remove it",
        *("*_loader.dataset.stream_name", "*_loader.dataset.stream_config"),
        jobs=_ONLY_PRETRAIN,
        harmless=("stream", None, {}),
    ),
    *refused(
        "pretraining reads shards of tokens",
        "genai data convert makes them",
        *("*_loader.dataset.hf_name", "*_loader.dataset.preprocessing_fn"),
        jobs=_ONLY_PRETRAIN,
    ),
    *refused(
        "transformers' MPT does not have it",
        "remove it, or take model.name: llama",
        *("model.ffn_config", "model.block_overrides", "model.init_config", "model.attn_config.rope_*"),
        *("model.attn_config.kv_n_heads", "model.attn_config.kv_dim", "model.attn_config.attn_temperature_tuning"),
        *("model.attn_config.attn_logit_softcapping", "model.final_logit_softcapping", "model.head_dim"),
        harmless=(None, {}),
        **_MPT,
    ),
    *refused(
        "transformers' MPT does not have it",
        "remove it, or take model.name: llama",
        *("model.attn_config.qk_gn", "model.attn_config.nope", "model.attention_bias"),
        harmless=(None, False),
        **_MPT,
    ),
    *refused("attention goes over the whole row", "remove it", "*.sliding_window_size", harmless=(-1,), **_MPT),
    *refused("the embedding's gradient is not scaled", "remove it", "model.embedding_fraction", harmless=(1,), **_MPT),
)

ANSWERS: tuple[Answer, ...] = (*_TRANSLATED, *_NO_EFFECT, *_REFUSED, *EVAL_ANSWERS)
"""For a key the first one that fits it counts."""

UNKNOWN_NAMES: dict[str, tuple[str, ...]] = {
    "there is no such model: genai trains causal language models": (
        *("hf_t5", "contrastive_lm", "finetune_embedding_model", "contrastive_pairs"),
    ),
    "take decoupled_lionw": ("clip_lion", "adalr_lion"),
    "an optimizer that does nothing trains nothing": ("no_op",),
    "take wsd, which can be gone on with as well": ("inv_sqrt_with_warmup",),
    "take norm": ("adaptive",),
    "take amp_bf16": ("amp_fp16", "amp_fp8"),
}
"""Why a word of `foundry_keys.NAMES` is not taken -> the words."""


def answer_for(path: str, job: str, *, model: str | None = None) -> Answer | None:
    """What becomes of a dotted key that is no key of ours; None where nothing is known of it.

    Args:
        path: the key.
        job: `finetune`, `pretrain` or `eval`.
        model: the job's model.name.
    """
    fits = (answer for answer in ANSWERS if job in answer.jobs and answer.model in (None, model))
    return next((answer for answer in fits if fnmatchcase(path, answer.key)), None)


def settle(tree: Node, job: str) -> tuple[Node, list[Settled]]:
    """Answer all keys of a job file that are llm-foundry's alone.

    Returns:
        the tree without them and with what they were translated to; and what was answered, in the order of the file.
    """
    if job == "eval":
        tree, of_models = settle_models(tree)
        rest, settled = _settle(tree, (), job, None)
        return rest, [*of_models, *settled]
    named = find(tree, ("model", "name"))
    model = named.value if named is not None and isinstance(named.value, str) else None
    return _settle(tree, (), job, model)


def set_aside(tree: Node, *, job: str) -> tuple[Node, list[Problem], list[Problem]]:
    """Take out of a job file the keys that only llm-foundry knows.

    Returns:
        the rest of the tree, the refused keys, and the ones passed over or translated.
    """
    rest, settled = settle(tree, job)
    refusals = [each.problem for each in settled if each.answer.does == "refused"]
    return rest, refusals, [each.problem for each in settled if each.answer.does != "refused"]


def _settle(tree: Node, key: Key, job: str, model: str | None) -> tuple[Node, list[Settled]]:
    if isinstance(tree.value, list):
        items = [_settle(node, (*key, number), job, model) for number, node in enumerate(tree.value)]
        return replace(tree, value=[item for item, _ in items]), [each for _, found in items for each in found]
    if not isinstance(tree.value, dict):
        return tree, []
    kept: dict[str, Node] = {}
    settled: list[Settled] = []
    for name, node in tree.value.items():
        path = (*key, name)
        answer = answer_for(dotted(path), job, model=model)
        replacement = answer.becomes(plain(node)) if answer is not None and answer.becomes is not None else {}
        if answer is None or replacement is None:
            kept[name], below = _settle(node, path, job, model)
            settled += below
        elif answer.does == "refused" and plain(node) in answer.harmless:
            continue
        else:
            kept |= {new: graft(value, node.origin) for new, value in replacement.items() if new not in tree.value}
            if name in replacement:
                kept[name] = graft(replacement[name], node.origin)
            if replacement or answer.does != "translated":
                settled.append(Settled(key=path, node=node, answer=answer, replacement=replacement))
    return replace(tree, value=kept), settled

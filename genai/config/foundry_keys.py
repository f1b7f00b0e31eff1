"""Every key of llm-foundry's training files (0.22.0), block by block; `foundry` says what becomes of each.

Source: `TrainConfig` in llmfoundry/utils/config_utils.py, the constructors that its blocks are handed to, and
Composer's `FSDPConfig`.
"""

from __future__ import annotations

KEYS: dict[str, tuple[str, ...]] = {
    "The job": (
        *("variables", "run_name", "seed", "max_seq_len", "max_duration", "global_train_batch_size"),
        *("device_train_batch_size", "device_train_microbatch_size", "device_train_grad_accum"),
        *("train_subset_num_batches", "precision", "code_paths", "n_gpus"),
        *("accumulate_train_batch_on_tokens", "spin_dataloaders", "compile_config", "profiler"),
    ),
    "Evaluation": (
        *("eval_interval", "eval_first", "eval_loader", "eval_loaders", "eval_subset_num_batches"),
        *("device_eval_batch_size", "icl_tasks", "icl_tasks_str", "icl_seq_len", "icl_subset_num_batches"),
        *("eval_gauntlet", "eval_gauntlet_str"),
    ),
    "Model": (
        *("model", "model.name", "model.pretrained_model_name_or_path", "model.pretrained", "model.config_overrides"),
        *("model.trust_remote_code", "model.attn_implementation", "model.use_flash_attention_2"),
        *("model.init_device", "model.use_auth_token", "model.load_in_8bit", "model.pretrained_lora_id_or_path"),
        *("model.should_save_peft_only", "model.allow_embedding_resizing", "model.use_train_metrics"),
        *("model.additional_train_metrics", "model.additional_eval_metrics"),
        *("model.peft_config", "model.peft_config.peft_type", "model.peft_config.task_type", "model.peft_config.r"),
        *("model.peft_config.lora_alpha", "model.peft_config.lora_dropout", "model.peft_config.target_modules"),
    ),
    "Model: mpt_causal_lm": (
        *("model.d_model", "model.n_heads", "model.n_layers", "model.head_dim", "model.expansion_ratio"),
        *("model.max_seq_len", "model.vocab_size", "model.resid_pdrop", "model.emb_pdrop", "model.learned_pos_emb"),
        *("model.no_bias", "model.attention_bias", "model.embedding_fraction", "model.norm_type", "model.norm_eps"),
        *("model.use_cache", "model.init_config", "model.fc_type", "model.ffn_config", "model.loss_fn"),
        *("model.tie_word_embeddings", "model.use_pad_tok_in_ffn", "model.block_overrides", "model.logit_scale"),
        *("model.final_logit_softcapping", "model.attn_config", "model.attn_config.attn_type"),
        *("model.attn_config.attn_impl", "model.attn_config.attn_pdrop", "model.attn_config.qk_ln"),
        *("model.attn_config.qk_gn", "model.attn_config.fused_qkv", "model.attn_config.clip_qkv"),
        *("model.attn_config.softmax_scale", "model.attn_config.attn_uses_sequence_id"),
        *("model.attn_config.sliding_window_size", "model.attn_config.attn_logit_softcapping"),
        *("model.attn_config.alibi", "model.attn_config.alibi_bias_max", "model.attn_config.rope"),
        *("model.attn_config.rope_theta", "model.attn_config.rope_impl", "model.attn_config.rope_dail_config"),
        *("model.attn_config.rope_hf_config", "model.attn_config.kv_n_heads", "model.attn_config.kv_dim"),
        *("model.attn_config.nope", "model.attn_config.attn_temperature_tuning"),
    ),
    "Tokenizer": ("tokenizer", "tokenizer.name", "tokenizer.kwargs"),
    "Loader": (
        *("train_loader", "train_loader.name", "train_loader.dataset", "train_loader.drop_last"),
        *("train_loader.num_workers", "train_loader.pin_memory", "train_loader.prefetch_factor"),
        *("train_loader.persistent_workers", "train_loader.timeout"),
    ),
    "Loader: text": (
        *("train_loader.dataset.local", "train_loader.dataset.remote", "train_loader.dataset.split"),
        *("train_loader.dataset.streams", "train_loader.dataset.streams.NAME.local"),
        *("train_loader.dataset.streams.NAME.remote", "train_loader.dataset.streams.NAME.split"),
        *("train_loader.dataset.streams.NAME.proportion", "train_loader.dataset.streams.NAME.repeat"),
        *("train_loader.dataset.streams.NAME.choose", "train_loader.dataset.streams.NAME.download_retry"),
        *("train_loader.dataset.streams.NAME.download_timeout", "train_loader.dataset.streams.NAME.validate_hash"),
        "train_loader.dataset.streams.NAME.keep_zip",
        *("train_loader.dataset.max_seq_len", "train_loader.dataset.shuffle", "train_loader.dataset.shuffle_seed"),
        *("train_loader.dataset.shuffle_algo", "train_loader.dataset.shuffle_block_size"),
        *("train_loader.dataset.epoch_size", "train_loader.dataset.predownload", "train_loader.dataset.cache_limit"),
        *("train_loader.dataset.validate_hash", "train_loader.dataset.num_canonical_nodes"),
        *("train_loader.dataset.partition_algo", "train_loader.dataset.sampling_method"),
        *("train_loader.dataset.sampling_granularity", "train_loader.dataset.batching_method"),
        *("train_loader.dataset.batch_size", "train_loader.dataset.replication"),
        *("train_loader.dataset.download_retry", "train_loader.dataset.download_timeout"),
        *("train_loader.dataset.keep_zip", "train_loader.dataset.allow_unsafe_types"),
        *("train_loader.dataset.token_encoding_type", "train_loader.dataset.stream_name"),
        *("train_loader.dataset.stream_config", "train_loader.dataset.eos_token_id"),
        "train_loader.dataset.bos_token_id",
    ),
    "Loader: finetuning": (
        *("train_loader.dataset.hf_name", "train_loader.dataset.hf_kwargs", "train_loader.dataset.safe_load"),
        *("train_loader.dataset.preprocessing_fn", "train_loader.dataset.packing_ratio"),
        *("train_loader.dataset.max_leftover_bins_to_keep", "train_loader.dataset.decoder_only_format"),
        *("train_loader.dataset.allow_pad_trimming", "train_loader.dataset.pad_to_longest"),
        *("train_loader.dataset.target_prompts", "train_loader.dataset.target_responses"),
    ),
    "Optimizer and schedule": (
        *("optimizer", "optimizer.name", "optimizer.lr", "optimizer.betas", "optimizer.eps", "optimizer.weight_decay"),
        *("scheduler", "scheduler.name", "scheduler.t_warmup", "scheduler.t_max", "scheduler.alpha_f"),
        *("scheduler.scale_warmup", "scheduler.t_scale", "scheduler.t_cooldown", "scheduler.alpha_f_decay"),
        *("scheduler.alpha_f_cooldown", "algorithms", "algorithms.gradient_clipping"),
        *("algorithms.gradient_clipping.clipping_type", "algorithms.gradient_clipping.clipping_threshold"),
        *("algorithms.alibi", "algorithms.gated_linear_units", "algorithms.low_precision_layernorm"),
    ),
    "Callbacks": (
        *("callbacks", "callbacks.speed_monitor", "callbacks.lr_monitor", "callbacks.memory_monitor"),
        *("callbacks.runtime_estimator", "callbacks.system_metrics_monitor", "callbacks.memory_snapshot"),
        *("callbacks.optimizer_monitor", "callbacks.generate_callback", "callbacks.early_stopper"),
        *("callbacks.fdiff_metrics", "callbacks.hf_checkpointer", "callbacks.global_lr_scaling"),
        *("callbacks.layer_freezing", "callbacks.mono_checkpoint_saver", "callbacks.scheduled_gc"),
        *("callbacks.oom_observer", "callbacks.eval_output_logging", "callbacks.mbmoe_tok_per_expert"),
        *("callbacks.run_timeout", "callbacks.loss_perp_v_len", "callbacks.env_logging", "callbacks.nan_monitor"),
        *("callbacks.kill_loss_spike", "callbacks.load_checkpoint", "callbacks.async_eval"),
        *("callbacks.curriculum_learning", "callbacks.dataset_swap"),
    ),
    "Logging": (
        *("loggers", "loggers.wandb", "loggers.tensorboard", "loggers.mlflow", "loggers.inmemory"),
        *("loggers.inmemory_logger", "loggers.mosaicml", "progress_bar", "log_to_console", "console_log_interval"),
        *("python_log_level", "log_config", "metadata", "flatten_metadata"),
    ),
    "Checkpoints": (
        *("save_folder", "save_interval", "save_num_checkpoints_to_keep", "save_overwrite", "save_weights_only"),
        *("save_filename", "save_latest_filename", "save_ignore_keys", "only_hf_checkpoint"),
        *("only_composer_checkpoint", "autoresume", "load_path", "load_weights_only", "load_strict_model_weights"),
        "load_ignore_keys",
    ),
    "Many devices": (
        *("dist_timeout", "max_split_size_mb", "expandable_segments", "cuda_load_lazy", "tp_config", "fsdp_config"),
        *("fsdp_config.sharding_strategy", "fsdp_config.mixed_precision", "fsdp_config.activation_checkpointing"),
        *("fsdp_config.activation_checkpointing_reentrant", "fsdp_config.activation_cpu_offload"),
        *("fsdp_config.cpu_offload", "fsdp_config.limit_all_gathers", "fsdp_config.state_dict_type"),
        *("fsdp_config.sync_module_states", "fsdp_config.backward_prefetch", "fsdp_config.forward_prefetch"),
        *("fsdp_config.use_orig_params", "fsdp_config.verbose", "fsdp_config.auto_wrap"),
        *("fsdp_config.keep_low_precision_grads", "fsdp_config.load_monolith_rank0_only"),
        *("fsdp_config.load_planner", "fsdp_config.save_planner", "fsdp_config.sharded_ckpt_prefix_dir"),
        *("fsdp_config.data_parallel_shard_degree", "fsdp_config.data_parallel_replicate_degree"),
        *("fsdp_config.te_checkpoint_wrapper", "fsdp_config.te_shard_fp8_weight"),
    ),
}
"""Title of a block -> its keys."""

NAMES: dict[str, tuple[str, ...]] = {
    "model.name": ("mpt_causal_lm", "hf_causal_lm", "hf_t5", "contrastive_lm", "finetune_embedding_model"),
    "train_loader.name": ("text", "finetuning", "contrastive_pairs"),
    "optimizer.name": ("decoupled_adamw", "decoupled_lionw", "clip_lion", "adalr_lion", "no_op"),
    "scheduler.name": (
        *("constant_with_warmup", "cosine_with_warmup", "linear_decay_with_warmup", "inv_sqrt_with_warmup"),
    ),
    "algorithms.gradient_clipping.clipping_type": ("norm", "value", "adaptive"),
    "precision": ("fp32", "amp_bf16", "amp_fp16", "amp_fp8"),
}
"""Key -> the words that llm-foundry knows for it."""

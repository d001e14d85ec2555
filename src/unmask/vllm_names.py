"""Names of other libraries: those that mean the same here, and what to give in place of the others.

An argument of vLLM without a counterpart is accepted where its value asks for what happens anyway, so that
calls can be pasted; any other value is refused with what to give instead, never dropped.
"""

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

# Fields of `SamplingParams`, and names of other libraries for the same or the nearest one.
_NAMES_OF = {
    "max_tokens": ("max_new_tokens", "max_length", "gen_length"),
    "denoising_steps": ("steps", "num_steps", "diffusion_steps"),
    "block_size": ("block_length",),
    "guidance": ("cfg_scale",),
    "strategy": ("remasking", "remasking_strategy"),
    "threshold": ("dynamic_threshold", "confidence_threshold"),
    "temperature": ("do_sample",),
    "n": ("num_return_sequences",),
    "stop": ("stop_strings",),
    "stop_token_ids": ("eos_token_id",),
}
OTHER_NAMES = {name: field for field, names in _NAMES_OF.items() for name in names}

# The values that are accepted, and what to do in place of others. `None` is always accepted.
Rows = Mapping[str, tuple[tuple[Any, ...], str]]
PENALTY = "the tokens of a denoising step are drawn at once, so none is penalized for another"
RESTRICT = "regex and json_schema restrict what is written"
SAMPLING: Rows = {
    "presence_penalty": ((0,), f"{PENALTY}; give 0"),
    "frequency_penalty": ((0,), f"{PENALTY}; give 0"),
    "repetition_penalty": ((1,), f"{PENALTY}; give 1"),
    "logprobs": (
        (0,),
        "only the written tokens have log-probabilities, which every result holds; give 0",
    ),
    "prompt_logprobs": ((), "the prompt is read, not scored; leave it out"),
    "best_of": ((1,), "give n, and choose by cumulative_logprob"),
    "use_beam_search": ((False,), "there are no beams; leave it out"),
    "length_penalty": ((1,), "there are no beams; leave it out"),
    "early_stopping": ((False,), "there are no beams; leave it out"),
    "detokenize": ((True,), "every result has a text; leave it out"),
    "skip_special_tokens": ((True,), "llm.pieces(token_ids) has the special tokens; give True"),
    "spaces_between_special_tokens": ((True, False), ""),
    "include_stop_str_in_output": ((False,), "token_ids hold the stop text; give False"),
    "logits_processors": (([],), f"{RESTRICT}; leave it out"),
    "logit_bias": (({},), f"{RESTRICT}; leave it out"),
    "allowed_token_ids": ((), f"{RESTRICT}; leave it out"),
    "bad_words": (([],), f"{RESTRICT}; leave it out"),
    "structured_outputs": ((), "give regex or json_schema"),
    "guided_decoding": ((), "give regex or json_schema"),
    "truncate_prompt_tokens": ((), "prompts are never cut; give a shorter one"),
    "output_kind": ((), "llm.stream and llm.stream_canvas return parts of a response"),
    "extra_args": (({},), "leave it out"),
}
RANKS = "an LLM has one device; `unmask generate --nproc N` uses several"
LOADING: Rows = {
    "tokenizer": ((), "the tokenizer is that of the model's directory"),
    "tokenizer_mode": (("auto",), "the tokenizer is that of the model's directory; give auto"),
    "skip_tokenizer_init": ((False,), "a directory without tokenizer files takes token ids"),
    # It permits code of a checkpoint, which is never run.
    "trust_remote_code": ((True, False), ""),
    "tensor_parallel_size": ((1,), RANKS),
    "pipeline_parallel_size": ((1,), RANKS),
    "data_parallel_size": ((1,), RANKS),
    "quantization": ((), "weights are loaded in dtype"),
    "load_format": (("auto", "safetensors"), "weights are safetensors; give auto"),
    "revision": ((), "give the directory of that revision as model"),
    "tokenizer_revision": ((), "give the directory of that revision as model"),
    "seed": ((0,), "give SamplingParams(seed=...)"),
    "gpu_memory_utilization": ((), "give params=EngineParams(cache_tokens=...)"),
    "max_model_len": ((), "the model's own length holds; give SamplingParams(max_tokens=...)"),
    "max_num_seqs": ((), "give params=EngineParams(max_sequences=...)"),
    "max_num_batched_tokens": ((), "give params=EngineParams(row_budget=...)"),
    "enable_prefix_caching": ((True,), "give params=EngineParams(shares_prefixes=False)"),
    "enable_chunked_prefill": ((True,), "prompts are fed in chunks of row_budget"),
    "enforce_eager": ((False,), "give params=EngineParams(uses_graphs=False)"),
    "kv_cache_dtype": (("auto",), "keys and values have the format of the model; give auto"),
    "block_size": ((), "give SamplingParams(block_size=...), which is a diffusion block"),
    "swap_space": ((), "requests that lose their pages are fed again; leave it out"),
    "cpu_offload_gb": ((0,), "weights stay on the device; give 0"),
    "enable_lora": ((False,), "merge the adapter into the model; leave it out"),
    "disable_log_stats": ((True, False), ""),
    "runner": (("auto", "generate"), "give generate"),
    "task": (("auto", "generate"), "give generate"),
}
WRITING: Rows = {
    "use_tqdm": ((False,), "there is no progress bar; give False"),
    "lora_request": ((), "merge the adapter into the model; leave it out"),
    "priority": ((), "requests run in the order of the prompts; leave it out"),
    "prompt_token_ids": ((), "give token ids as prompts"),
    "tokenization_kwargs": (({},), "leave it out"),
}
CHATTING: Rows = {
    **{name: WRITING[name] for name in ("use_tqdm", "lora_request")},
    "chat_template": ((), "the template is that of the model's directory"),
    "chat_template_content_format": (("auto",), "give auto"),
    "chat_template_kwargs": (({},), "the template takes the messages alone; leave it out"),
    "add_generation_prompt": ((True,), "the assistant's turn always begins; give True"),
    "continue_final_message": ((False,), "llm.generate continues a text; give False"),
    "tools": (([],), "calls of tools are not implemented; describe them in a message"),
    "mm_processor_kwargs": (({},), "leave it out"),
}


def is_without_effect(name: str, value: Any, rows: Rows, call: str = "") -> bool:
    """Return whether a row has the name, and its value asks for what happens anyway.

    Raises:
        ValueError: the value asks for something else.
    """
    if name not in rows:
        return False
    accepted, instead = rows[name]
    if value is not None and value not in accepted:
        raise ValueError(f"{call}{name} = {value!r:.80}: {instead}")
    return True


def nearest(name: str, names: Collection[str]) -> str:
    """Return the name that one of another library or a misspelt one means; empty if there is none."""
    near = get_close_matches(OTHER_NAMES.get(name, name), names, 1)
    return near[0] if near else ""


def sampling_fields(given: Mapping[str, Any], fields: Collection[str]) -> dict[str, Any]:
    """Return the fields of `SamplingParams` that arguments of vLLM mean.

    Raises:
        ValueError: as `is_without_effect`.
        TypeError: a name is unknown; names the nearest one.
    """
    own = {name: value for name, value in given.items() if name in fields}
    others = {name: value for name, value in given.items() if name not in fields}
    if own.get("stop", ()) is None:
        del own["stop"]
    ignores = others.pop("ignore_eos", None)
    if ignores not in (None, False, True):
        raise ValueError(f"ignore_eos = {ignores!r:.80}: must be True or False")
    if ignores and own.get("stop_token_ids") is None:
        own["stop_token_ids"] = ()
    for name, value in others.items():
        if not is_without_effect(name, value, SAMPLING):
            near = nearest(name, [*fields, "ignore_eos", *SAMPLING])
            meant = f"did you mean {near}?" if near else "help(SamplingParams) lists them"
            raise TypeError(f"SamplingParams has no {name}; {meant}")
    return own

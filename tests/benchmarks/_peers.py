"""The same model in several runtimes, each as `generate(prompts, new_tokens, seed)`: ids in, as many new ids out.

All sample at temperature 0.8 from the 50 most probable tokens. GPT-2's format, which the others read, has no bias on
the head: they add none, which spares them work; only onnxruntime has it. No runtime is told to end a text
before its length.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

CHECKPOINT = Path(__file__).resolve().parents[2] / "checkpoints" / "shakespeare"
TEMPERATURE, TOP_K = 0.8, 50
Generate = Callable[[list[list[int]], int, int], None]


def make_peer(name: str, variant: str, threads: int) -> Generate:
    """A runtime by name, warm; ModuleNotFoundError where it is not installed."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["OMP_NUM_THREADS"] = str(threads)
    peers: dict[str, Callable[[str, int], Generate]] = {
        "engine": _engine,
        "uncached": _uncached,
        "transformers": _transformers,
        "ctranslate2": _ctranslate2,
        "llama.cpp": _llama_cpp,
        "onnxruntime": _onnxruntime,
        "floor": _floor,
    }
    return peers[name](variant, threads)


def _load() -> Any:
    from gpt import load_checkpoint

    return load_checkpoint(CHECKPOINT).model.eval()


def _engine(variant: str, threads: int) -> Generate:
    """The engine in its background thread, read as a backend reads it."""
    from gpt.engine import Engine

    compiled, int8 = variant == "compiled", variant == "int8"
    engine = Engine(_load(), num_threads=threads, max_streams=64, compiled=compiled, int8=int8)

    def generate(prompts: list[list[int]], new_tokens: int, seed: int) -> None:
        streams = [engine.submit(prompt, None, new_tokens, seed + n) for n, prompt in enumerate(prompts)]
        assert all(len(list(stream)) == new_tokens for stream in streams)

    return generate


def _floor(variant: str, threads: int) -> Generate:
    """No model: for each token, as many bytes as the compiled path's weights have, read once, and nothing else."""
    import torch

    torch.set_num_threads(threads)
    model = _load()
    tables = model.token_embedding.weight.numel() + model.position_embedding.weight.numel()
    weights = torch.ones((model.num_parameters() - tables) * 2 // 4)  # at half precision, read as float32

    def generate(prompts: list[list[int]], new_tokens: int, seed: int) -> None:
        for _ in range(new_tokens):
            weights.sum()

    return generate


def _uncached(variant: str, threads: int) -> Generate:
    """The whole text through the model for every token, a softmax over all columns, a draw: nanoGPT's `generate`."""
    import torch

    torch.set_num_threads(threads)
    model = _load()

    @torch.inference_mode()
    def generate(prompts: list[list[int]], new_tokens: int, seed: int) -> None:
        torch.manual_seed(seed)
        ids = torch.tensor(prompts)
        for _ in range(new_tokens):
            window = ids[:, -model.config.sequence_dim :]
            logits = model.head(model.hidden_states(window)[:, -1]) / TEMPERATURE
            top = logits.topk(TOP_K).values
            logits[logits < top[:, -1:]] = -torch.inf
            ids = torch.cat((ids, torch.multinomial(logits.softmax(-1), 1)), dim=1)

    return generate


def _gpt2(model: Any) -> Any:
    """transformers' GPT-2 with the model's weights, all but the head's bias."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    config = model.config
    theirs = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=config.vocab_dim,
            n_positions=config.sequence_dim,
            n_embd=config.embed_dim,
            n_head=config.num_heads,
            n_layer=config.num_layers,
            activation_function="gelu",
            layer_norm_epsilon=config.layer_norm_eps,
            tie_word_embeddings=False,
            eos_token_id=None,
            bos_token_id=None,
            pad_token_id=0,
        )
    ).eval()
    weights = {
        "transformer.wte.weight": model.token_embedding.weight,
        "transformer.wpe.weight": model.position_embedding.weight,
        "transformer.ln_f.weight": model.norm.weight,
        "transformer.ln_f.bias": model.norm.bias,
        "lm_head.weight": model.head.weight,
    }
    for number, block in enumerate(model.blocks):
        at = f"transformer.h.{number}."
        weights |= {
            at + "ln_1.weight": block.norm1.weight,
            at + "ln_1.bias": block.norm1.bias,
            at + "ln_2.weight": block.norm2.weight,
            at + "ln_2.bias": block.norm2.bias,
            at + "attn.c_attn.weight": block.self_attn.in_proj_weight.t(),
            at + "attn.c_attn.bias": torch.zeros(3 * config.embed_dim),
            at + "attn.c_proj.weight": block.self_attn.out_proj.weight.t(),
            at + "attn.c_proj.bias": block.self_attn.out_proj.bias,
            at + "mlp.c_fc.weight": block.linear1.weight.t(),
            at + "mlp.c_fc.bias": block.linear1.bias,
            at + "mlp.c_proj.weight": block.linear2.weight.t(),
            at + "mlp.c_proj.bias": block.linear2.bias,
        }
    theirs.load_state_dict(weights, strict=True)
    with torch.no_grad():
        ids = torch.arange(config.sequence_dim)[None]
        torch.testing.assert_close(theirs(ids).logits + model.head.bias, model(ids), rtol=1e-4, atol=1e-4)
    return theirs


def _transformers(variant: str, threads: int) -> Generate:
    import torch

    torch.set_num_threads(threads)
    theirs = _gpt2(_load())

    @torch.inference_mode()
    def generate(prompts: list[list[int]], new_tokens: int, seed: int) -> None:
        torch.manual_seed(seed)
        ids = torch.tensor(prompts)
        output = theirs.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            temperature=TEMPERATURE,
            top_k=TOP_K,
            use_cache=True,
            max_new_tokens=new_tokens,
        )
        assert output.shape[1] == ids.shape[1] + new_tokens

    return generate


def _ctranslate2(variant: str, threads: int) -> Generate:
    """variant: float32 or int8, of the weights and the products; "int8, workers": each thread has its own batch."""
    import ctranslate2
    import tokenizers
    from transformers import PreTrainedTokenizerFast

    compute_type, _, apart = variant.partition(", ")
    workers = threads if apart else 1
    theirs = _gpt2(_load())
    words = {f"t{number}": number for number in range(theirs.config.vocab_size)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="t0"))
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, bos_token="t0", eos_token="t0", unk_token="t0"
        ).save_pretrained(folder)
        converted = Path(folder) / "converted"
        ctranslate2.converters.TransformersConverter(folder).convert(str(converted))
        generator = ctranslate2.Generator(
            str(converted), compute_type=compute_type, inter_threads=workers, intra_threads=threads // workers
        )

    def generate(prompts: list[list[int]], new_tokens: int, seed: int) -> None:
        ctranslate2.set_random_seed(seed)
        results = generator.generate_batch(
            [[f"t{token}" for token in prompt] for prompt in prompts],
            max_batch_size=-(-len(prompts) // workers),
            min_length=new_tokens,
            max_length=new_tokens,
            sampling_topk=TOP_K,
            sampling_temperature=TEMPERATURE,
            include_prompt_in_result=False,
            end_token=[],
        )
        assert all(len(result.sequences_ids[0]) == new_tokens for result in results)

    return generate


def _onnxruntime(variant: str, threads: int) -> Generate:
    """variant: float32 or int8, of the matrices; the draw among the most probable tokens is numpy's."""
    import numpy as np

    from tests.benchmarks._onnxruntime import OnnxStream

    stream = OnnxStream(_load(), TOP_K, threads, quantised=variant == "int8")

    def generate(prompts: list[list[int]], new_tokens: int, seed: int) -> None:
        [prompt] = prompts
        draws = np.random.default_rng(seed)

        def choose(logits: np.ndarray, top: np.ndarray) -> int:
            weights = np.exp((logits - logits[0]) / TEMPERATURE).cumsum()
            return int(top[np.searchsorted(weights, draws.random() * weights[-1])])

        stream.write(prompt, new_tokens, choose)

    return generate


def _llama_cpp(variant: str, threads: int) -> Generate:
    """variant: f32 or f16, of the matrices; sampling by its own chain: top-k, temperature, draw."""
    import ctypes

    import llama_cpp as lib

    folder = tempfile.mkdtemp()
    path = _write_gguf(_load(), Path(folder) / "model.gguf", half=variant == "f16")
    lib.llama_backend_init()
    quiet = lib.llama_log_callback(lambda level, text, data: None)
    lib.llama_log_set(quiet, ctypes.c_void_p(0))
    model = lib.llama_model_load_from_file(str(path).encode(), lib.llama_model_default_params())
    assert model
    params = lib.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_threads, params.n_threads_batch = 100, 100, threads, threads
    context = lib.llama_init_from_model(model, params)
    assert context

    def generate(prompts: list[list[int]], new_tokens: int, seed: int) -> None:
        [prompt] = prompts
        lib.llama_memory_clear(lib.llama_get_memory(context), True)
        chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        for sampler in (
            lib.llama_sampler_init_top_k(TOP_K),
            lib.llama_sampler_init_temp(TEMPERATURE),
            lib.llama_sampler_init_dist(seed),
        ):
            lib.llama_sampler_chain_add(chain, sampler)
        tokens = (lib.llama_token * len(prompt))(*prompt)
        for _ in range(new_tokens):
            assert lib.llama_decode(context, lib.llama_batch_get_one(tokens, len(tokens))) == 0
            tokens = (lib.llama_token * 1)(lib.llama_sampler_sample(chain, context, -1))
        lib.llama_sampler_free(chain)

    generate.quiet = quiet  # type: ignore[attr-defined]
    return generate


def _write_gguf(model: Any, path: Path, *, half: bool) -> Path:
    import gguf
    import numpy as np
    import torch

    config = model.config
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_context_length(config.sequence_dim)
    writer.add_embedding_length(config.embed_dim)
    writer.add_feed_forward_length(4 * config.embed_dim)
    writer.add_block_count(config.num_layers)
    writer.add_head_count(config.num_heads)
    writer.add_layer_norm_eps(config.layer_norm_eps)
    writer.add_vocab_size(config.vocab_dim)
    writer.add_tokenizer_model("no_vocab")

    def add(name: str, tensor: Any) -> None:
        array = tensor.detach().contiguous().numpy()
        matrix = array.ndim > 1 and "position" not in name
        writer.add_tensor(name, array.astype(np.float16 if half and matrix else np.float32))

    add("token_embd.weight", model.token_embedding.weight)
    add("position_embd.weight", model.position_embedding.weight)
    add("output_norm.weight", model.norm.weight)
    add("output_norm.bias", model.norm.bias)
    add("output.weight", model.head.weight)
    for number, block in enumerate(model.blocks):
        at = f"blk.{number}."
        for name, part in (
            ("attn_norm", block.norm1),
            ("ffn_norm", block.norm2),
            ("attn_output", block.self_attn.out_proj),
            ("ffn_up", block.linear1),
            ("ffn_down", block.linear2),
        ):
            add(f"{at}{name}.weight", part.weight)
            add(f"{at}{name}.bias", part.bias)
        add(f"{at}attn_qkv.weight", block.self_attn.in_proj_weight)
        add(f"{at}attn_qkv.bias", torch.zeros(3 * config.embed_dim))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path

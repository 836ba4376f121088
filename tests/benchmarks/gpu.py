"""Decoding on a GPU, all of it in one call: one stream, many streams, prefill, beside transformers and a compiled loop.

Compared, same sizes and random weights, greedy, in turn in one process: the engine with its steps recorded as CUDA
graphs, the engine launching kernel by kernel, transformers with its dynamic cache, transformers with a static cache and
`torch.compile`, and a plain loop over our own model's step with a static cache under `torch.compile`, the way of
gpt-fast. The floor is the time in which the weights and the cache can be read once, at the bandwidth that a copy of
256 MB reaches here. With bfloat16, how far its logits are from float32's and how many greedy tokens agree is printed.
`--device cpu --model tiny` runs the same code without a GPU, and measures nothing of interest.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.benchmarks._record import Record

if TYPE_CHECKING:
    import torch

    from gpt.model import GPT

SIZES: dict[str, dict[str, Any]] = {
    "shakespeare": {"vocab_dim": 50257, "sequence_dim": 100, "embed_dim": 78, "num_heads": 13, "num_layers": 4},
    "gpt2": {"vocab_dim": 50257, "sequence_dim": 1024, "embed_dim": 768, "num_heads": 12, "num_layers": 12},
    "tiny": {"vocab_dim": 300, "sequence_dim": 32, "embed_dim": 32, "num_heads": 2, "num_layers": 2},
}
PROMPT_TOKENS = 10
BYTES_COPIED = 2**28
QUICK = ("--rounds", "2", "--streams", "1", "16")


def run(arguments: list[str], record: Record) -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", choices=SIZES, default="gpt2", help="its sizes (%(default)s)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="bfloat16")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4, 16, 64, 256], metavar="N")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="texts of each (%(default)s)")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu (%(default)s)")
    options = parser.parse_args(arguments)
    import torch

    from gpt.device import choose_device
    from gpt.errors import ConfigError

    try:
        device = choose_device(options.device)
    except ConfigError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        sys.exit(1)
    dtype = getattr(torch, options.dtype)
    reference = _model(options.model).to(device)
    model = _model(options.model).to(device, dtype)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
    print(f"{name}, torch {torch.__version__}, {options.model}, {options.dtype}")
    if dtype != torch.float32:
        _compare_types(model, reference, device)
    bandwidth = _bandwidth(device)
    print(f"bandwidth of a copy: {bandwidth / 1e9:.0f} GB/s")
    new_tokens = model.config.sequence_dim - PROMPT_TOKENS - 1
    for streams in options.streams:
        print(f"\n{streams} streams, {PROMPT_TOKENS} tokens read and {new_tokens} written each")
        print(f"{'':<38} tokens/s  of the floor")
        floor = bandwidth / _bytes_a_step(model, streams, PROMPT_TOKENS + new_tokens // 2) * streams
        for title, make in _ways(streams, device).items():
            generate = make(model, streams, new_tokens)
            rates = [streams * new_tokens / each for each in _seconds(generate, options.rounds, device)]
            rate = statistics.median(rates)
            print(f"{title:<38} {rate:8.0f}  {rate / floor:12.0%}", flush=True)
            record.row(f"{name}: {options.model}, {streams} streams", title, "tokens/s", rates, floor=floor)
    _prefill(model, device, options.rounds, record)


def _model(size: str) -> GPT:
    import torch

    from gpt import GPT, GPTConfig

    torch.manual_seed(0)
    return GPT.from_config(GPTConfig(**SIZES[size], dropout=0.0)).eval()


def _ways(streams: int, device: torch.device) -> dict[str, Callable[[GPT, int, int], Callable[[], None]]]:
    ways: dict[str, Callable[[GPT, int, int], Callable[[], None]]] = {
        "engine, CUDA graphs": lambda *given: _engine(*given, graphs=True),
        "engine, kernel by kernel": lambda *given: _engine(*given, graphs=False),
        "transformers, dynamic cache": lambda *given: _transformers(*given, static=False),
        "transformers, static cache, compiled": lambda *given: _transformers(*given, static=True),
        "a compiled loop, as gpt-fast's": _compiled_loop,
    }
    if device.type == "cpu":  # nothing to record, and a compiler that may be missing
        return {title: ways[title] for title in ("engine, kernel by kernel", "transformers, dynamic cache")}
    return ways


def _engine(model: GPT, streams: int, new_tokens: int, *, graphs: bool) -> Callable[[], None]:
    from gpt.engine import Engine
    from gpt.sampling import SamplingParams
    from gpt.torch_rows import TorchRows

    engine = Engine(model, max_streams=streams, prefill_tokens=4096, background=False, compiled=False)
    if not graphs and isinstance(engine._batch._rows, TorchRows):
        engine._batch._rows._graph = None
    greedy = SamplingParams(temperature=0)

    def generate() -> None:
        for number in range(streams):
            engine.submit([1 + number] * PROMPT_TOKENS, greedy, new_tokens)
        while engine.step():
            pass

    return generate


def _transformers(model: GPT, streams: int, new_tokens: int, *, static: bool) -> Callable[[], None]:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    config, weight = model.config, model.head.weight
    theirs: Any = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=config.vocab_dim,
            n_positions=config.sequence_dim,
            n_embd=config.embed_dim,
            n_head=config.num_heads,
            n_layer=config.num_layers,
            tie_word_embeddings=False,
            eos_token_id=None,
            bos_token_id=None,
            pad_token_id=0,
        )
    )
    theirs = theirs.to(weight.device, weight.dtype).eval()
    ids = torch.ones(streams, PROMPT_TOKENS, dtype=torch.int64, device=weight.device)
    options: dict[str, Any] = {"cache_implementation": "static"} if static else {}

    @torch.inference_mode()
    def generate() -> None:
        theirs.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=new_tokens, **options)

    return generate


def _compiled_loop(model: GPT, streams: int, new_tokens: int) -> Callable[[], None]:
    import torch

    from gpt.decode_step import decode_step
    from gpt.kv_cache import KVCache
    from gpt.static_cache import StaticCache

    weight = model.head.weight
    cache = KVCache.from_config(model.config, streams, dtype=weight.dtype, device=weight.device)
    places = torch.zeros(streams, dtype=torch.int64, device=weight.device)
    step, static = decode_step(model), StaticCache(*cache.tensors, places)

    @torch.compile(mode="reduce-overhead", fullgraph=True)
    def next_ids(ids: torch.Tensor) -> torch.Tensor:
        return model.head(step(ids, static)[:, -1]).argmax(-1, keepdim=True)

    prompt = torch.ones(streams, PROMPT_TOKENS, dtype=torch.int64, device=weight.device)

    @torch.inference_mode()
    def generate() -> None:
        for row in range(streams):
            cache.truncate(row)
        ids = model.head(model.hidden_states(prompt, cache)[:, -1]).argmax(-1, keepdim=True)
        places.fill_(PROMPT_TOKENS)
        for _ in range(new_tokens - 1):
            ids = next_ids(ids).clone()
            places.add_(1)

    return generate


def _seconds(work: Callable[[], None], rounds: int, device: torch.device) -> list[float]:
    """Seconds of each call, after two that warm up."""
    import torch

    seconds = []
    for _ in range(rounds + 2):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return seconds[2:]


def _bandwidth(device: torch.device) -> float:
    """Bytes read a second, by a copy, which reads and writes."""
    import torch

    source = torch.zeros(BYTES_COPIED, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def copy() -> None:
        target.copy_(source)

    return 2 * BYTES_COPIED / statistics.median(_seconds(copy, 9, device))


def _bytes_a_step(model: GPT, streams: int, length: int) -> int:
    """The weights but for the embedding, of which rows are looked up, and the cache of every stream."""
    size, config = model.head.weight.element_size(), model.config
    weights = (model.num_parameters() - model.token_embedding.weight.numel()) * size
    return weights + 2 * config.num_layers * streams * config.embed_dim * length * size


def _compare_types(model: GPT, reference: GPT, device: torch.device) -> None:
    import torch

    config = model.config
    ids = torch.randint(config.vocab_dim, (8, config.sequence_dim), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact, logits = reference(ids.to(device)), model(ids.to(device)).float()
    away = (logits - exact).abs().max().item()
    same = (logits.argmax(-1) == exact.argmax(-1)).float().mean().item()
    print(f"logits at most {away:.4f} from float32's, which are up to {exact.abs().max():.2f}")
    print(f"greedy tokens that agree with float32's: {same:.1%}")


def _prefill(model: GPT, device: torch.device, rounds: int, record: Record) -> None:
    import torch

    config = model.config
    print(f"\nprefill of {config.sequence_dim} tokens")
    for batch in (1, 8):
        ids = torch.ones(batch, config.sequence_dim, dtype=torch.int64, device=device)

        @torch.inference_mode()
        def read(ids: torch.Tensor = ids) -> None:
            model.hidden_states(ids)

        rates = [batch * config.sequence_dim / each for each in _seconds(read, rounds, device)]
        print(f"{batch} at once: {statistics.median(rates):.0f} tokens/s")
        record.row(f"prefill of {config.sequence_dim} tokens", f"{batch} at once", "tokens/s", rates)


if __name__ == "__main__":
    run(sys.argv[1:], Record())

"""Engine: many requests at once over one model; ids in, ids out.

Prefill reads a prompt into a row of a KVCache; decode then advances every row by one token in one batched forward.
Requests join and leave between steps; the rows in use stay together at the front, those that decode before those
that still read, so a step always works on slices of the cache.

**Past the context.** A prompt longer than sequence_dim is read from its last sequence_dim tokens on. When a row is
full, the last half of the context (sequence_dim // 2 tokens, the newest among them) is read again into the emptied
row, and the text goes on from there: positions cannot slide, and one reading every half context is cheaper than
one at every token. The last token then sees between half a context and a whole one.

**Two paths.** PyTorch advances the rows on every device. On a CPU at float32 a second path, compiled by numba, takes
over as soon as it is ready, in the midst of texts too: another process compiles it, which takes 20 seconds once on a
machine; after that it is loaded from the disk. Where it cannot run, `path` says why, and PyTorch goes on.

**What a seed repeats.** Each request draws from a generator of its own, one number a token, so what runs beside it
cannot change its draws. On the compiled path nor can it change a bit of its logits: a row is computed in the same
order whatever the number of rows and threads. On the PyTorch path, and between the two, logits can differ in the last
digits, because products add up in another order; a draw turns out differently only where it falls within that
rounding of the border between two tokens, which one draw in about a million does, and a greedy choice only between
logits that are equal up to rounding.
"""

from __future__ import annotations

import atexit
import logging
import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch

from gpt.batch import Batch, Sequence, failing
from gpt.compiler import compile_elsewhere
from gpt.errors import BackendClosedError, ConfigError, QueueFullError, RequestError
from gpt.extend import extend
from gpt.generation import Generation
from gpt.model import GPT
from gpt.sampling import SamplingParams, Uniforms

if TYPE_CHECKING:
    from gpt.compiled_rows import CompiledRows

_log = logging.getLogger(__name__)

SMALL_MODEL = 32_000_000
"""Parameters below which torch decodes with one CPU thread: each operation is then too short to share."""

SMALL_TEAM = 2
"""Threads of the compiled path for such a model; it is the memory's speed that more would wait for."""


class Engine:
    """Serves many requests over one model, a step at a time.

    Args:
        model: put in evaluation mode and otherwise left as it is; its device and dtype are the engine's.
        max_streams: requests that generate at once, so rows of the cache (see KVCache for its memory).
        max_queue: requests that may wait for a row.
        prefill_tokens: tokens of prompts read in one step; with more, a prompt is in sooner and the others wait longer.
        num_threads: threads on a CPU. None means torch's own number; for models below 32 million parameters two on
            the compiled path and one of torch's (a second gave them a quarter more on idle cores, and made them five
            times as slow on busy ones). torch's is set, for the whole process, when the background thread starts.
        background: run the steps in a thread of the engine's own, from the first request on; otherwise whoever made
            the engine calls `step`.
        compiled: True waits here for the compiled path, False never takes it; None lets it get ready meanwhile, where
            the engine has a background thread.
        int8: wait for the compiled path and let it multiply 8-bit whole numbers: faster, near the same text but not it.

    Attributes:
        path: "compiled", "compiled, int8", or "PyTorch" and why.

    Raises:
        RequestError: an argument is below 1 (max_queue: below 0).
        ConfigError: compiled or int8 is True and the path cannot run here; the message says why.
    """

    def __init__(
        self,
        model: GPT,
        *,
        max_streams: int = 16,
        max_queue: int = 64,
        prefill_tokens: int = 128,
        num_threads: int | None = None,
        background: bool = True,
        compiled: bool | None = None,
        int8: bool = False,
    ) -> None:
        for name, value, low in (
            ("max_streams", max_streams, 1),
            ("max_queue", max_queue, 0),
            ("prefill_tokens", prefill_tokens, 1),
            ("num_threads", 1 if num_threads is None else num_threads, 1),
        ):
            if value < low:
                raise RequestError(f"{name} is {value}; give a whole number of at least {low}")
        self.max_streams, self.max_queue = max_streams, max_queue
        small, on_cpu = model.num_parameters() < SMALL_MODEL, model.head.weight.device.type == "cpu"
        self._num_threads = 1 if num_threads is None and on_cpu and small else num_threads
        self._team = num_threads or (min(SMALL_TEAM, torch.get_num_threads()) if small else torch.get_num_threads())
        self._vocab_dim = model.config.vocab_dim
        self._batch = Batch(model.eval(), max_streams, prefill_tokens)
        self._prefill_tokens = prefill_tokens
        self._waiting: deque[Sequence] = deque()
        self._background = background
        self._thread: threading.Thread | None = None
        self._closed = False
        self._changed = threading.Condition()  # guards who runs and who waits, _thread, _compiled and _closed
        self._compiled: CompiledRows | None = None  # ready, and not yet taken
        self.path, self._int8 = "PyTorch", int8
        if int8 and compiled is False:
            raise ConfigError("int8 is True and compiled False; only the compiled path has int8: leave compiled out")
        if compiled or int8:
            self._get_ready(model)
            if self._compiled is None:
                raise ConfigError(f"the compiled path cannot run here: {self.path.removeprefix('PyTorch: ')}")
            self._adopt()
        elif compiled is None and background:
            self.path = "PyTorch: the compiled path is getting ready"
            # No daemon: what ends in the midst of loading compiled code takes the process down.
            threading.Thread(target=self._get_ready, args=(model, compile_elsewhere), name="gpt-compile").start()

    @property
    def active(self) -> int:
        """Requests that have a row now."""
        return len(self._batch.sequences)

    @property
    def waiting(self) -> int:
        """Requests that wait for a row."""
        with self._changed:
            return sum(not sequence.generation.ended for sequence in self._waiting)

    def submit(
        self,
        ids: Iterable[int],
        params: SamplingParams | None = None,
        max_new_tokens: int = 200,
        seed: int | None = None,
        logprobs: int | None = None,
    ) -> Generation:
        """Queue a request; its tokens come out of the Generation.

        Args:
            ids: the prompt, at least one token.
            params: None means SamplingParams' defaults.
            max_new_tokens: tokens to generate.
            seed: 0 to 2**63 - 1, of which torch's generator on a CPU reads the lowest 32 bits; None draws one.
            logprobs: None for no log-probabilities; n gives each token's and those of the n most probable.

        Raises:
            RequestError: an argument is out of range.
            QueueFullError: max_streams requests run and max_queue wait.
            BackendClosedError: the engine was closed.
        """
        sequence = self._sequence(ids, params or SamplingParams(), max_new_tokens, seed, logprobs)
        with self._changed:
            if self._closed:
                raise BackendClosedError("this model was closed; send the request again to use the current one")
            running, waiting = (
                sum(not sequence.generation.ended for sequence in part)
                for part in (self._batch.sequences, self._waiting)
            )
            if running + waiting >= self.max_streams + self.max_queue:
                raise QueueFullError(
                    f"{running} requests are running and {waiting} are waiting, which is all this backend takes "
                    f"(max_streams {self.max_streams}, max_queue {self.max_queue}); try again in a moment"
                )
            self._waiting.append(sequence)
            if self._background and self._thread is None:
                self._thread = threading.Thread(target=self._run, name="gpt-engine", daemon=True)
                self._thread.start()
                # A thread that is inside torch while the interpreter goes away takes the process down.
                atexit.register(self.close)
            self._changed.notify_all()
        return sequence.generation

    def close(self) -> None:
        """Stop the background thread after its step; fail the open generations. Closing twice is fine."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
            atexit.unregister(self.close)
        with self._changed:
            open_sequences = [*self._batch.sequences, *self._waiting]
            self._waiting.clear()
        for sequence in open_sequences:
            if not sequence.generation.ended:
                sequence.generation.fail(BackendClosedError("this model was closed before the text was complete"))
        self._batch.close()
        if self._compiled is not None:
            self._compiled.close()

    def step(self) -> bool:
        """Let requests in and out, advance each sequence by one token, hand the tokens over.

        On the compiled path by a few tokens, within two milliseconds, where nobody waits.

        An exception fails the requests whose work raised it, and no others. For one thread at a time: the background
        thread's, where there is one.

        Returns:
            whether any work is left.
        """
        with self._changed:
            self._batch.leave()
            self._adopt()
            while self._waiting and self.active < self.max_streams:
                sequence = self._waiting.popleft()
                if not sequence.generation.ended:
                    self._batch.join(sequence)
            alone = not self._waiting
        # What is not already the failure of one request must not leave the others waiting for ever.
        with torch.inference_mode(), failing(self._batch.sequences):
            advanced = self._batch.forward(alone)
            if advanced is not None:
                extend(advanced)
        with self._changed:
            self._batch.leave()
            return bool(self.active or self._waiting)

    def _run(self) -> None:
        """The background thread: steps while there is work."""
        if self._num_threads is not None:
            torch.set_num_threads(self._num_threads)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self.active or self._waiting)
                if self._closed:
                    return
            self.step()

    def _sequence(
        self, ids: Iterable[int], params: SamplingParams, max_new_tokens: int, seed: int | None, logprobs: int | None
    ) -> Sequence:
        """The request's state, its arguments checked."""
        vocab_dim = self._vocab_dim
        ids = list(ids)
        if not ids:
            raise RequestError("the prompt has no tokens; give at least one to continue from")
        if min(ids) < 0 or max(ids) >= vocab_dim:
            raise RequestError(
                f"the prompt has ids from {min(ids)} to {max(ids)}; the model knows 0 to {vocab_dim - 1}"
            )
        if max_new_tokens < 1:
            raise RequestError(f"max_new_tokens is {max_new_tokens}; give a whole number of at least 1")
        if logprobs is not None and logprobs < 0:
            raise RequestError(f"logprobs is {logprobs}; give None or a whole number of at least 0")
        if seed is None:
            seed = secrets.randbelow(2**32)
        if not 0 <= seed < 2**63:
            raise RequestError(f"seed is {seed}; give a whole number from 0 to 2**63 - 1")
        return Sequence(
            generation=Generation(seed, len(ids)),
            params=params,
            uniforms=Uniforms(torch.Generator().manual_seed(seed)),
            logprobs=None if logprobs is None else min(logprobs, vocab_dim),
            ids=ids,
            unread=ids[-self._batch.capacity :],
            remaining=max_new_tokens,
            seen=dict.fromkeys(ids, 0) if params.penalises else None,
        )

    def _adopt(self) -> None:
        """Take the compiled path if it got ready."""
        if self._compiled is not None:
            self._batch.adopt(self._compiled)
            self._compiled, self.path = None, "compiled, int8" if self._int8 else "compiled"

    def _get_ready(self, model: GPT, prepare: Callable[[], bool] = lambda: True) -> None:
        """Get the compiled path ready once all is prepared, or say in `path` why it cannot be."""
        weight = model.head.weight
        if weight.device.type != "cpu" or weight.dtype != torch.float32:
            self.path = "PyTorch: the compiled path is for a CPU at float32"
            return
        try:
            if not prepare() or self._closed:
                return
            from gpt.compiled_rows import CompiledRows

            rows = CompiledRows(model, self.max_streams, self._prefill_tokens, self._team, self._int8)
            rows.warm_up()
        except Exception as error:  # whatever numba, its cache or this machine may come up with
            self.path = f"PyTorch: the compiled path did not get ready ({error})"
            _log.warning(self.path)
            return
        with self._changed:
            if not self._closed:
                self._compiled = rows
                return
        rows.close()

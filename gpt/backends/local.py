"""LocalBackend: completions from a checkpoint on this machine, text to ids and back around the engine."""

from __future__ import annotations

import codecs
import threading
from collections.abc import Generator
from pathlib import Path

from gpt.backends.text_decoder import TextDecoder
from gpt.checkpoint import Checkpoint, load_checkpoint
from gpt.completion import (
    MAX_SCORED_TOKENS,
    Alternative,
    BackendInfo,
    CompletionChunk,
    CompletionRequest,
    ScoredToken,
    TokenLogprob,
)
from gpt.device import choose_device
from gpt.engine import Engine
from gpt.errors import BackendClosedError, RequestError
from gpt.generation import GeneratedToken, Generation
from gpt.scoring import score_tokens


class LocalBackend:
    """Serves completions of one checkpoint, and scores prompts; a ScoringBackend.

    Args:
        checkpoint: a loaded one.
        name: what `info` calls it.
        max_streams, max_queue, num_threads, int8: the Engine's.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        name: str = "",
        max_streams: int = 16,
        max_queue: int = 64,
        num_threads: int | None = None,
        int8: bool = False,
    ) -> None:
        self._tokenizer = checkpoint.tokenizer
        self._model = checkpoint.model
        self._scoring = threading.Lock()  # one batch of windows at a time, whatever the number of prompts
        self._closed = False
        self._engine = Engine(
            checkpoint.model, max_streams=max_streams, max_queue=max_queue, num_threads=num_threads, int8=int8
        )
        self._info = BackendInfo(
            kind="local",
            name=name,
            device=str(checkpoint.model.head.weight.device),
            parameters=checkpoint.model.num_parameters(),
            sequence_dim=checkpoint.config.sequence_dim,
            nats_per_character=tuple(checkpoint.record.nats_per_character.items()),
        )

    @classmethod
    def from_checkpoint(
        cls,
        folder: Path | str,
        device: str = "cpu",
        max_streams: int = 16,
        max_queue: int = 64,
        num_threads: int | None = None,
        int8: bool = False,
    ) -> LocalBackend:
        """A backend over the checkpoint in `folder`, called by its name (a run's best checkpoint by the run's).

        Args:
            folder: the checkpoint.
            device: "cpu", "cuda", "cuda:1", ..., or "auto" for a GPU where torch finds one.
            max_streams, max_queue, num_threads, int8: the Engine's.

        Raises:
            CheckpointError: the folder or a file of it is missing, damaged or does not match the others.
            ConfigError: the device is not there, or cannot multiply at int8.
        """
        folder = Path(folder).resolve()
        return cls(
            load_checkpoint(folder, choose_device(device)),
            name=folder.parent.name if folder.name == "best" else folder.name,
            max_streams=max_streams,
            max_queue=max_queue,
            num_threads=num_threads,
            int8=int8,
        )

    def stream(self, request: CompletionRequest) -> Generator[CompletionChunk, None, None]:
        """Queue the request at once; yield its chunks, as CompletionBackend says.

        Raises:
            RequestError, UnknownCharacterError, QueueFullError, BackendClosedError: at once, before the first chunk.
        """
        generation = self._engine.submit(
            self._prompt_ids(request), request.sampling_params(), request.max_new_tokens, request.seed, request.logprobs
        )
        chunks = self._chunks(request, generation)
        next(chunks)
        return chunks

    def score(self, request: CompletionRequest) -> Generator[tuple[ScoredToken, ...], None, None]:
        """Yield the prompt's tokens with their log-probabilities, as ScoringBackend says.

        Raises:
            RequestError, UnknownCharacterError: at once, before the first tokens.
            BackendClosedError: the backend was closed.
        """
        ids = self._prompt_ids(request)
        if len(ids) > MAX_SCORED_TOKENS:
            raise RequestError(f"prompt has {len(ids):,} tokens; at most {MAX_SCORED_TOKENS:,} are scored at once")
        vocab_dim = self._tokenizer.vocab_dim
        if max(ids) >= vocab_dim:
            raise RequestError(f"prompt has the token {max(ids)}; this model knows 0 to {vocab_dim - 1}")
        return self._scored(ids, request.logprobs or 0)

    def info(self) -> BackendInfo:
        """What this backend is."""
        return self._info

    def close(self) -> None:
        """Stop the engine; streams under way end with BackendClosedError. Closing twice is fine."""
        self._closed = True
        self._engine.close()

    def _prompt_ids(self, request: CompletionRequest) -> list[int]:
        ids = self._tokenizer.encode(request.prompt) if request.prompt_ids is None else list(request.prompt_ids)
        if not ids:
            raise RequestError(f"prompt is {request.prompt!r}, which has no tokens; type something to continue from")
        return ids

    def _scored(self, ids: list[int], count: int) -> Generator[tuple[ScoredToken, ...], None, None]:
        utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        offset, done = 0, 0

        def scored(logprob: float | None, alternatives: tuple[Alternative, ...] = ()) -> ScoredToken:
            nonlocal offset, done
            token = ScoredToken(ids[done], self._tokenizer.decode([ids[done]]), offset, logprob, alternatives)
            offset += len(utf8.decode(self._tokenizer.decode_bytes([ids[done]])))
            done += 1
            return token

        yield (scored(None),)
        batches = score_tokens(self._model, ids, count)
        while done < len(ids):
            with self._scoring:
                if self._closed:
                    raise BackendClosedError("this model was closed; send the request again to use the current one")
                scores = next(batches)
            yield tuple(scored(logprob, self._alternatives(found)) for logprob, found in scores)

    def _chunks(self, request: CompletionRequest, generation: Generation) -> Generator[CompletionChunk, None, None]:
        """One chunk that `stream` takes, then the request's.

        The first one starts the generator: closing it, or forgetting it, before its first real chunk then frees
        the request's place too.
        """
        decoder = TextDecoder(self._tokenizer.decode_bytes, request.stop)
        waiting: list[GeneratedToken] = []
        try:
            yield CompletionChunk("")
            for token in generation:
                waiting.append(token)
                text, count = decoder.push(token.token_id)
                last = decoder.stopped or token.finish_reason is not None
                if last and not decoder.stopped:
                    rest, rest_count = decoder.finish()
                    text, count = text + rest, count + rest_count
                if count:
                    yield CompletionChunk(
                        text=text,
                        token_ids=tuple(token.token_id for token in waiting[:count]),
                        logprobs=tuple(self._logprob(token) for token in waiting[:count] if token.logprob is not None),
                        finish_reason=("stop" if decoder.stopped else "length") if last else None,
                        seed=generation.seed,
                        prompt_tokens=generation.prompt_tokens,
                    )
                    del waiting[:count]
                if last:
                    return
        finally:
            generation.cancel()

    def _logprob(self, token: GeneratedToken) -> TokenLogprob:
        assert token.logprob is not None
        text = self._tokenizer.decode([token.token_id])
        return TokenLogprob(token.token_id, text, token.logprob, self._alternatives(token.alternatives))

    def _alternatives(self, found: tuple[tuple[int, float], ...]) -> tuple[Alternative, ...]:
        decode = self._tokenizer.decode
        return tuple(Alternative(token_id, decode([token_id]), logprob) for token_id, logprob in found)

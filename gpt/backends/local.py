"""LocalBackend: completions from a checkpoint on this machine, text to ids and back around the engine."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

from gpt.backends.text_decoder import TextDecoder
from gpt.checkpoint import Checkpoint, load_checkpoint
from gpt.completion import Alternative, BackendInfo, CompletionChunk, CompletionRequest, TokenLogprob
from gpt.device import choose_device
from gpt.engine import Engine
from gpt.errors import RequestError
from gpt.generation import GeneratedToken, Generation


class LocalBackend:
    """Serves completions of one checkpoint; a CompletionBackend.

    Args:
        checkpoint: a loaded one.
        name: what `info` calls it.
        max_streams, max_queue, num_threads: the Engine's.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        name: str = "",
        max_streams: int = 16,
        max_queue: int = 64,
        num_threads: int | None = None,
    ) -> None:
        self._tokenizer = checkpoint.tokenizer
        self._engine = Engine(checkpoint.model, max_streams=max_streams, max_queue=max_queue, num_threads=num_threads)
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
    ) -> LocalBackend:
        """A backend over the checkpoint in `folder`, called by its name (a run's best checkpoint by the run's).

        Args:
            folder: the checkpoint.
            device: "cpu", "cuda", "cuda:1", ..., or "auto" for a GPU where torch finds one.
            max_streams: the Engine's.
            max_queue: the Engine's.
            num_threads: the Engine's.

        Raises:
            CheckpointError: the folder or a file of it is missing, damaged or does not match the others.
            ConfigError: the device is not there.
        """
        folder = Path(folder).resolve()
        return cls(
            load_checkpoint(folder, choose_device(device)),
            name=folder.parent.name if folder.name == "best" else folder.name,
            max_streams=max_streams,
            max_queue=max_queue,
            num_threads=num_threads,
        )

    def stream(self, request: CompletionRequest) -> Generator[CompletionChunk, None, None]:
        """Queue the request at once; yield its chunks, as CompletionBackend says.

        Raises:
            RequestError, UnknownCharacterError, QueueFullError, BackendClosedError: at once, before the first chunk.
        """
        ids = self._tokenizer.encode(request.prompt)
        if not ids:
            raise RequestError(f"prompt is {request.prompt!r}, which has no tokens; type something to continue from")
        generation = self._engine.submit(
            ids, request.sampling_params(), request.max_new_tokens, request.seed, request.logprobs
        )
        chunks = self._chunks(request, generation)
        next(chunks)
        return chunks

    def info(self) -> BackendInfo:
        """What this backend is."""
        return self._info

    def close(self) -> None:
        """Stop the engine; streams under way end with BackendClosedError. Closing twice is fine."""
        self._engine.close()

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
        decode = self._tokenizer.decode
        assert token.logprob is not None
        return TokenLogprob(
            token.token_id,
            decode([token.token_id]),
            token.logprob,
            tuple(Alternative(token_id, decode([token_id]), logprob) for token_id, logprob in token.alternatives),
        )

"""Two models, or one with two settings, write the same prompt, side by side and at once."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator, Sequence

from gpt.completion import CompletionBackend, CompletionRequest
from gpt.errors import GPTError
from gpt.ui.run import BROKEN
from gpt.ui.stream import INTERVAL_S, write
from gpt.ui.transcript import Transcript

logger = logging.getLogger(__name__)


def write_both(
    backends: Sequence[CompletionBackend], requests: Sequence[CompletionRequest], transcripts: Sequence[Transcript]
) -> Generator[list[str], None, None]:
    """Yield the transcripts' values as the completions make them grow, about every INTERVAL_S.

    A completion that fails says so in its own transcript, and the other goes on. Closing this ends both.
    """
    with contextlib.ExitStack() as stack:
        # None waits for longer than a step, so that one which waits or loads does not hold up the other.
        writers = [
            stack.enter_context(contextlib.closing(write(backend, request, transcript, idle_s=INTERVAL_S)))
            for backend, request, transcript in zip(backends, requests, transcripts, strict=True)
        ]
        under_way = list(range(len(writers)))
        while under_way:
            for number in list(under_way):
                try:
                    next(writers[number])
                except StopIteration:
                    under_way.remove(number)
                except GPTError as error:
                    words = str(error)
                    transcripts[number].add_note(words[:1].upper() + words[1:])
                    under_way.remove(number)
                except Exception:
                    logger.exception("a compared text failed")
                    transcripts[number].add_note(BROKEN)
                    under_way.remove(number)
            yield [transcript.value for transcript in transcripts]

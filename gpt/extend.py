"""Extending: each sequence's next token, chosen where the forward did not, and handed over."""

from __future__ import annotations

from torch import Tensor

from gpt.batch import Advanced, Sequence, failing
from gpt.generation import GeneratedToken
from gpt.logprobs import Score, logprobs
from gpt.sampling import Candidates, candidates, draw, penalise


def extend(advanced: Advanced) -> None:
    """Choose each sequence's next token where it is not drawn yet, and hand it over."""
    sequences, logits, drawn, _ = advanced
    for step, tokens in enumerate(drawn.tolist()):
        with failing(sequences):
            found = _candidates(sequences, logits, tokens)
            for row, sequence in enumerate(sequences):
                with failing([sequence]):
                    if tokens[row] < 0:
                        tokens[row] = draw(found[row], sequence.params, sequence.uniforms)
                    elif sequence.params.temperature:
                        sequence.uniforms.take()
                    sequence.ids.append(tokens[row])
                    sequence.remaining -= 1
                    if sequence.seen is not None:
                        sequence.seen[tokens[row]] = sequence.seen.get(tokens[row], 0) + 1
            _deliver(advanced, step)


def _candidates(sequences: list[Sequence], logits: Tensor, tokens: list[int]) -> dict[int, Candidates]:
    """By row, what can be drawn in those rows that have no token yet."""
    rows = [row for row, token in enumerate(tokens) if token < 0]
    if not rows:
        return {}
    waiting = sequences if len(rows) == len(sequences) else [sequences[row] for row in rows]
    penalised = _penalised(logits if len(rows) == len(sequences) else logits[rows], waiting)
    found = candidates(penalised, [sequence.params for sequence in waiting])
    return dict(zip(rows, found, strict=True))


def _penalised(logits: Tensor, sequences: list[Sequence]) -> Tensor:
    """The logits with the penalties of those requests that have any; the raw ones stay as they are."""
    if any(sequence.seen is not None for sequence in sequences):
        logits = logits.clone()
        for row, sequence in enumerate(sequences):
            if sequence.seen is not None:
                logits[row] = penalise(logits[row], sequence.params, sequence.seen)
    return logits


def _deliver(advanced: Advanced, step: int) -> None:
    """Hand over each sequence's newest token, with log-probabilities where they were asked for."""
    scores = _scores(advanced, step)
    for row, sequence in enumerate(advanced.sequences):
        if not sequence.failed:
            logprob, alternatives = scores.get(row, (None, ()))
            token = GeneratedToken(sequence.ids[-1], logprob, alternatives, None if sequence.remaining else "length")
            sequence.generation.deliver(token)


def _scores(advanced: Advanced, step: int) -> dict[int, Score]:
    """By row, the newest token's score, of the rows that asked for one."""
    sequences, logits, drawn, known = advanced
    scores: dict[int, Score] = {}
    unknown = {}
    for row, sequence in enumerate(sequences):
        if sequence.logprobs is None or sequence.failed:
            continue
        if known is None or sequence.logprobs > known.ids.shape[-1]:
            unknown[row] = sequence
        else:
            later = None if drawn[step, row] >= 0 else float(logits[row, sequence.ids[-1]])
            scores[row] = known.score(step, row, sequence.logprobs, later)
    if unknown:
        found = logprobs(
            logits if len(unknown) == len(sequences) else logits[list(unknown)],
            [sequence.ids[-1] for sequence in unknown.values()],
            [sequence.logprobs or 0 for sequence in unknown.values()],
        )
        scores |= zip(unknown, found, strict=True)
    return scores

"""The transcript: the lines that a token view shows."""

from __future__ import annotations

import json
import math

import pytest

from gpt.completion import Alternative, CompletionChunk, TokenLogprob
from gpt.errors import RequestError
from gpt.ui.transcript import Transcript


def token(text: str, logprob: float = -1.0) -> TokenLogprob:
    return TokenLogprob(1, text, logprob, (Alternative(1, text, logprob), Alternative(2, " other", -2.5)))


def chunk(text: str, *tokens: TokenLogprob) -> CompletionChunk:
    return CompletionChunk(text, tuple(range(len(tokens))), tokens)


def pieces(*chunks: CompletionChunk) -> list[tuple[str, float | None, int]]:
    transcript = Transcript()
    for one in chunks:
        transcript.add_chunk(one)
    return [(piece.text, piece.logprob, piece.tokens) for piece in transcript.pieces()]


def test_value_only_grows_and_reads_back() -> None:
    transcript = Transcript()
    values = [transcript.value]
    for step in (
        lambda: transcript.add_speaker("ROMEO", visitor=True),
        lambda: transcript.add_plain('Ay me!\nO \u2028 <b> "q" \\'),
        lambda: transcript.add_speaker("JULIET", visitor=False),
        lambda: transcript.add_seed(2**60),
        lambda: transcript.add_chunk(chunk(" soft", token(" soft"))),
        lambda: transcript.add_stats(12.34),
        lambda: transcript.add_end("stop"),
    ):
        step()
        assert transcript.value.startswith(values[-1])
        values.append(transcript.value)
    assert Transcript(transcript.value).value == transcript.value
    assert all(json.loads(line) for line in transcript.value.split("\n")[:-1])


def test_a_tokenizer_is_read_back() -> None:
    transcript = Transcript()
    assert transcript.tokenizer() == ""
    transcript.add_chunk(chunk(" soft", token(" soft")))
    transcript.add_tokenizer("bpe 1")
    assert Transcript(transcript.value).tokenizer() == "bpe 1"


def test_value_never_has_a_tag() -> None:
    transcript = Transcript()
    transcript.add_plain("<script>alert(1)</script>")
    assert "<" not in transcript.value
    assert Transcript(transcript.value).prompt() == "<script>alert(1)</script>"


@pytest.mark.parametrize(
    "value",
    [
        "no json",
        "[1,2]",
        '["a",0,[],1,5]',
        '["a",0,[["b"]],1]',
        '["a","0",[],1]',
        '{"plain":3}',
        '{"other":"x"}',
        "7",
        "{}",
    ],
)
def test_a_value_that_no_transcript_wrote_is_refused(value: str) -> None:
    with pytest.raises(RequestError, match="press Clear"):
        Transcript(value + "\n")


def test_a_chunk_becomes_its_tokens() -> None:
    assert pieces(chunk(" two words", token(" two", -0.5), token(" words", -1.5))) == [
        (" two", -0.5, 1),
        (" words", -1.5, 1),
    ]


def test_tokens_that_share_a_character_become_one_piece() -> None:
    assert pieces(chunk("\N{SNOWMAN}!", token("\ufffd", -0.5), token("\ufffd", -1.0), token("!", -0.25))) == [
        ("\N{SNOWMAN}!", -1.75, 3)
    ]


def test_tokens_cut_by_a_stop_string_keep_what_is_left() -> None:
    cut = CompletionChunk("end.", (1, 2, 3), (token("end"), token(".\n"), token("\nROM")), "stop")
    assert pieces(cut) == [("end", -1.0, 1), (".", -1.0, 1)]


def test_a_chunk_without_logprobs_is_shown_untinted() -> None:
    assert pieces(CompletionChunk("words", (1, 2))) == [("words", None, 2)]
    assert pieces(CompletionChunk("", (), (), "stop")) == []


def test_infinite_logprobs_stay_json() -> None:
    transcript = Transcript()
    transcript.add_chunk(chunk("x", token("x", -math.inf)))
    assert next(transcript.pieces()).logprob == -99.0
    transcript.add_stats(None)
    assert "Infinity" not in transcript.value


def test_stats_are_the_perplexity_of_the_chosen_tokens() -> None:
    transcript = Transcript()
    transcript.add_chunk(chunk("ab", token("a", -1.0), token("b", -3.0)))
    transcript.add_stats(10.04)
    assert json.loads(transcript.value.split("\n")[-2]) == {"stats": [2, 10.0, round(math.exp(2), 2)]}
    empty = Transcript()
    empty.add_stats(None)
    assert json.loads(empty.value) == {"stats": [0, None, None]}


def test_prompt_is_the_text_as_shown() -> None:
    transcript = Transcript()
    transcript.add_plain("ROMEO:\n")
    transcript.add_seed(1)
    transcript.add_chunk(chunk("Ay me", token("Ay"), token(" me")))
    transcript.add_stats(1.0)
    assert transcript.prompt() == "ROMEO:\nAy me"


def test_prompt_of_a_conversation_is_a_play() -> None:
    transcript = Transcript()
    transcript.add_speaker("ROMEO", visitor=True)
    transcript.add_plain("Who?")
    transcript.add_speaker("JULIET", visitor=False)  # stopped before a word: no turn of the play
    transcript.add_speaker("ROMEO", visitor=True)
    transcript.add_plain("Who is it?")
    transcript.add_speaker("Nurse", visitor=False)
    transcript.add_chunk(chunk("I.\n", token("I.\n")))
    transcript.add_speaker("ROMEO", visitor=True)
    transcript.add_plain("Thou?")
    transcript.add_speaker("Nurse", visitor=False)
    assert transcript.prompt() == "ROMEO:\nWho?\n\nROMEO:\nWho is it?\n\nNurse:\nI.\n\nROMEO:\nThou?\n\nNurse:\n"


def test_branch_cuts_the_tail_and_takes_the_alternative() -> None:
    transcript = Transcript()
    transcript.add_plain("O ")
    transcript.add_seed(1)
    transcript.add_chunk(chunk("abc", token("a"), token("b"), token("c")))
    transcript.add_stats(1.0)
    transcript.add_end("length")
    branched = transcript.branch(1, 1)
    assert branched.prompt() == "O a other"
    assert [(piece.text, piece.logprob) for piece in branched.pieces()] == [("a", -1.0), (" other", -2.5)]
    assert "seed" not in branched.value and "stats" not in branched.value and "end" not in branched.value
    assert transcript.prompt() == "O abc"


def test_branch_of_an_earlier_answer_drops_the_later_turns() -> None:
    transcript = Transcript()
    for answer in ("one", "two"):
        transcript.add_speaker("ROMEO", visitor=True)
        transcript.add_plain("Who?")
        transcript.add_speaker("JULIET", visitor=False)
        transcript.add_chunk(chunk(answer, token(answer)))
    assert transcript.branch(0, 1).prompt() == "ROMEO:\nWho?\n\nJULIET:\n other"
    assert transcript.branch(1, 1).prompt() == "ROMEO:\nWho?\n\nJULIET:\none\n\nROMEO:\nWho?\n\nJULIET:\n other"


@pytest.mark.parametrize(("number", "alternative"), [(3, 0), (-1, 0), (0, 2), (0, -1)])
def test_branch_at_what_is_not_there_is_refused(number: int, alternative: int) -> None:
    transcript = Transcript()
    transcript.add_chunk(chunk("ab", token("a"), token("b")))
    with pytest.raises(RequestError, match="no longer on the page"):
        transcript.branch(number, alternative)

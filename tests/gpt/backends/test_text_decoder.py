"""Whatever the tokens cut, the pieces joined are the text up to the stop string, and none shows what comes later."""

import random

import pytest

from gpt.backends.text_decoder import TextDecoder

TEXT = "aab—abc € näïve 😀😀ab\n\nROMEO: 愛 ab\N{COMBINING ACUTE ACCENT}c"


def expected_text(data, stop):
    """The text up to the stop string that is complete first, found character by character; and whether there is one."""
    text = data.decode("utf-8", errors="replace")
    for end in range(1, len(text) + 1):
        found = [s for s in stop if text[:end].endswith(s)]
        if found:
            return text[: end - max(map(len, found))], True
    return text, False


def decode(tokens, stop):
    """Push all tokens: the pieces as (text, tokens), and the decoder."""
    decoder = TextDecoder(lambda ids: b"".join(tokens[i] for i in ids), stop)
    pieces, pushed = [], 0
    for number in range(len(tokens)):
        text, count = decoder.push(number)
        pushed += 1
        if count:
            pieces.append((text, tokens[number + 1 - pushed :][:count]))
            pushed -= count
        if decoder.stopped:
            assert not pushed
            return pieces, decoder
    text, count = decoder.finish()
    assert count == pushed
    pieces.append((text, tokens[len(tokens) - count :]))
    return pieces, decoder


def cut(data, random_):
    """The bytes in tokens of one to five bytes, wherever that falls."""
    tokens = []
    while data:
        length = random_.randint(1, 5)
        tokens.append(data[:length])
        data = data[length:]
    return tokens


def check(data, tokens, stop):
    text, stopped = expected_text(data, stop)
    pieces, decoder = decode(tokens, stop)
    assert "".join(piece for piece, _ in pieces) == text
    assert decoder.stopped == stopped
    given = [token for _, tokens_ in pieces for token in tokens_]
    assert given == tokens[: len(given)] and (stopped or given == tokens)
    for piece, tokens_ in pieces[:-1]:
        assert piece == b"".join(tokens_).decode("utf-8", errors="replace") != ""


@pytest.mark.parametrize("seed", range(20))
def test_pieces_joined_are_the_text_for_every_stop_string_and_every_cut(seed):
    random_ = random.Random(seed)
    data = TEXT.encode()
    for start in range(len(TEXT)):
        for end in range(start + 1, min(len(TEXT), start + 6) + 1):
            check(data, cut(data, random_), [TEXT[start:end]])


@pytest.mark.parametrize("seed", range(20))
def test_several_stop_strings_end_the_text_at_the_one_complete_first(seed):
    random_ = random.Random(seed)
    for _ in range(100):
        text = "".join(random_.choices("ab—", k=20))
        stop = ["".join(random_.choices("ab—", k=random_.randint(1, 6))) for _ in range(random_.randint(1, 4))]
        check(text.encode(), cut(text.encode(), random_), stop)


@pytest.mark.parametrize("seed", range(20))
def test_bytes_that_are_no_utf8_become_replacement_characters_as_in_one_go(seed):
    random_ = random.Random(seed)
    for _ in range(100):
        data = bytes(random_.choices([0x61, 0x80, 0xBF, 0xC3, 0xA9, 0xE2, 0x82, 0xAC, 0xF0, 0x9F, 0xFF], k=24))
        check(data, cut(data, random_), random_.choice([[], ["a"], ["é€"], ["\ufffd\ufffd"]]))


def test_no_part_of_a_character_is_shown():
    euro = "€".encode()
    decoder = TextDecoder(lambda ids: bytes(euro[i] for i in ids))
    assert [decoder.push(i) for i in range(3)] == [("", 0), ("", 0), ("€", 3)]


def test_an_unfinished_character_at_the_end_is_replaced():
    pieces, _ = decode([b"a", b"\xe2", b"\x82"], [])
    assert pieces == [("a", [b"a"]), ("\ufffd", [b"\xe2", b"\x82"])]


def test_every_token_that_needs_not_wait_is_given_at_once():
    tokens = [bytes([byte]) for byte in b"to be or not"]
    pieces, _ = decode(tokens, ["\nROMEO", "quest"])
    assert pieces == [(token.decode(), [token]) for token in tokens] + [("", [])]


def test_text_held_for_a_stop_string_is_released_when_it_is_none():
    pieces, _ = decode([b"x", b"RO", b"ME", b"ROS"], ["ROMEO"])
    assert pieces == [("x", [b"x"]), ("ROMEROS", [b"RO", b"ME", b"ROS"]), ("", [])]


def test_only_the_tokens_from_a_possible_stop_string_on_are_held():
    pieces, _ = decode([b"ab", b"c", b"d", b"x"], ["cdy"])
    assert pieces == [("ab", [b"ab"]), ("cdx", [b"c", b"d", b"x"]), ("", [])]


def test_a_stop_string_inside_a_token_cuts_it():
    pieces, decoder = decode([b"a", b"bc\nde"], ["\n"])
    assert pieces == [("a", [b"a"]), ("bc", [b"bc\nde"])] and decoder.stopped


def test_a_stop_string_at_the_very_beginning_leaves_nothing():
    pieces, decoder = decode([b"st", b"op"], ["stop"])
    assert pieces == [("", [b"st", b"op"])] and decoder.stopped

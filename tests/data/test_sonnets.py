"""The bundled sonnets are complete and keep to their one plain format."""

from pathlib import Path

import pytest

SONNETS = Path(__file__).resolve().parents[2] / "data" / "sonnets.txt"

# A sonnet has fourteen lines; two of Shakespeare's do not.
ODD_LENGTHS = {99: 15, 126: 12}


@pytest.fixture(scope="module")
def raw():
    return SONNETS.read_bytes()


@pytest.fixture(scope="module")
def poems(raw):
    """Each poem as (heading, list of lines), in file order."""
    blocks = raw.decode("ascii").removesuffix("\n").split("\n\n")
    return [(lines[0], lines[1:]) for lines in (b.split("\n") for b in blocks)]


def test_plain_ascii_with_unix_line_ends(raw):
    assert raw.isascii()
    assert all(byte == 10 or 32 <= byte < 127 for byte in raw)


def test_ends_with_one_newline(raw):
    assert raw.endswith(b"\n")
    assert not raw.endswith(b"\n\n")


def test_no_space_at_either_end_of_a_line(raw):
    for number, line in enumerate(raw.decode("ascii").split("\n"), start=1):
        assert line == line.strip(), f"line {number}"


def test_poems_are_numbered_in_order(poems):
    assert [heading for heading, _ in poems] == [str(n) for n in range(1, 155)]


def test_each_poem_has_its_number_of_lines(poems):
    for number, (_, lines) in enumerate(poems, start=1):
        assert len(lines) == ODD_LENGTHS.get(number, 14), f"poem {number}"


def test_line_totals(raw, poems):
    assert sum(len(lines) for _, lines in poems) == 2155
    assert raw.count(b"\n") == 2155 + 154 + 153


def test_every_poem_line_holds_words(poems):
    for number, (_, lines) in enumerate(poems, start=1):
        for line in lines:
            assert any(c.isalpha() for c in line), f"poem {number}: {line!r}"
            assert not any(c.isdigit() for c in line), f"poem {number}: {line!r}"


def test_no_line_repeats_inside_a_poem(poems):
    for number, (_, lines) in enumerate(poems, start=1):
        assert len(set(lines)) == len(lines), f"poem {number}"


def test_only_poems_36_and_96_share_lines(poems):
    """Those two end in the same couplet; any other repeat is a slip."""
    first_seen: dict[str, int] = {}
    shared = []
    for number, (_, lines) in enumerate(poems, start=1):
        for line in lines:
            if line in first_seen:
                shared.append((first_seen[line], number, line))
            first_seen.setdefault(line, number)
    assert shared == [(36, 96, line) for line in poems[35][1][-2:]]


@pytest.mark.parametrize(
    "number, first, last",
    [
        (
            1,
            "From fairest creatures we desire increase,",
            "To eat the world's due, by the grave and thee.",
        ),
        (
            18,
            "Shall I compare thee to a summer's day?",
            "So long lives this, and this gives life to thee.",
        ),
        (
            29,
            "When, in disgrace with fortune and men's eyes,",
            "That then I scorn to change my state with kings.",
        ),
        (
            73,
            "That time of year thou mayst in me behold",
            "To love that well which thou must leave ere long.",
        ),
        (
            99,
            "The forward violet thus did I chide:",
            "But sweet or colour it had stol'n from thee.",
        ),
        (
            116,
            "Let me not to the marriage of true minds",
            "I never writ, nor no man ever lov'd.",
        ),
        (
            126,
            "O thou, my lovely boy, who in thy power",
            "And her quietus is to render thee.",
        ),
        (
            130,
            "My mistress' eyes are nothing like the sun;",
            "As any she belied with false compare.",
        ),
        (
            154,
            "The little Love-god lying once asleep",
            "Love's fire heats water, water cools not love.",
        ),
    ],
)
def test_known_first_and_last_lines(poems, number, first, last):
    lines = poems[number - 1][1]
    assert lines[0] == first
    assert lines[-1] == last

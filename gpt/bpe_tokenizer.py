"""BPETokenizer: a byte-pair encoding over characters, trained on the corpus at hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from gpt.errors import TokenizerError
from gpt.vocabulary import check_characters, check_ids, splitter, write_description

# How a text is cut before tokens merge: words with the space before them, runs of line breaks, and every other
# character alone. Together the pieces are the whole text.
SPLIT_PATTERN = r" ?[\p{L}\p{M}']+|\n+|[\s\S]"


class BPETokenizer:
    """Byte-pair encoding over characters (Sennrich et al. 2016), trained and run by Hugging Face's tokenizers.

    Nothing is normalised, added or dropped: `decode(encode(text)) == text` for every text of known characters.

    Args:
        vocabulary: each token's text, in the order of their ids; its single characters are the known ones.
        merges: the pairs of tokens that become one, the first learnt first.
        split_pattern: regular expression that cuts a text into the pieces within which tokens merge.

    Raises:
        TokenizerError: these do not make a tokenizer.
    """

    kind = "bpe"

    def __init__(
        self, vocabulary: Sequence[str], merges: Sequence[Sequence[str]], split_pattern: str = SPLIT_PATTERN
    ) -> None:
        import tokenizers

        ids = {token: token_id for token_id, token in enumerate(vocabulary)}
        if not ids or len(ids) != len(vocabulary):
            raise TokenizerError("the vocabulary of the trained BPE is empty or has a token twice; train it again")
        pairs = [(left, right) for left, right in merges]
        try:
            self._tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=ids, merges=pairs))
            self._tokenizer.pre_tokenizer = splitter(split_pattern)
        except Exception as error:  # the library raises nothing narrower
            raise TokenizerError(f"the trained BPE's merges or pattern are wrong ({error}); train it again") from error
        self._vocabulary = list(vocabulary)
        self._merges = pairs
        self._split_pattern = split_pattern
        self._characters = {token for token in vocabulary if len(token) == 1}
        self.vocab_dim = len(vocabulary)

    @classmethod
    def train(cls, text: str, vocab_dim: int, alphabet: str = "") -> BPETokenizer:
        """Learn a vocabulary of `vocab_dim` tokens from `text`: its characters, sorted, then the commonest merges.

        The same text gives the same tokenizer. A pair must occur twice to be merged. The characters of `alphabet`
        get tokens too, though nothing else is learnt from it.

        Raises:
            TokenizerError: vocab_dim is under the number of distinct characters, or over what the text can fill.
        """
        import tokenizers

        characters = sorted(set(text) | set(alphabet))
        if vocab_dim < len(characters):
            raise TokenizerError(
                f"vocab_dim is {vocab_dim}, but the text has {len(characters)} distinct characters, each of which "
                f"needs a token; give at least {len(characters)}"
            )
        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
        tokenizer.pre_tokenizer = splitter(SPLIT_PATTERN)
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=vocab_dim,
            min_frequency=2,
            show_progress=False,
            special_tokens=[],
            initial_alphabet=characters,
        )
        tokenizer.train_from_iterator([text], trainer)
        model = json.loads(tokenizer.to_str())["model"]
        vocabulary = sorted(model["vocab"], key=model["vocab"].__getitem__)
        if len(vocabulary) < vocab_dim:
            raise TokenizerError(
                f"vocab_dim is {vocab_dim}, but this text of {len(text):,} characters gives at most {len(vocabulary)} "
                "tokens; give fewer, or a longer text"
            )
        return cls(vocabulary, model["merges"])

    def encode(self, text: str) -> list[int]:
        """The ids of `text`; UnknownCharacterError at the first character that is not known."""
        if not self._characters.issuperset(text):  # the library would drop what it does not know
            check_characters(text, self._characters)
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """The tokens of `ids`, joined."""
        check_ids(ids, self.vocab_dim)
        return "".join([self._vocabulary[token_id] for token_id in ids])

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The tokens of `ids`, joined, in UTF-8."""
        return self.decode(ids).encode()

    def merge_rules(self) -> list[tuple[int, int, int]]:
        """The ids of a left and a right token and of the one that they become, the first learnt first."""
        ids = {token: token_id for token_id, token in enumerate(self._vocabulary)}
        return [(ids[left], ids[right], ids[left + right]) for left, right in self._merges]

    def unmerged(self, text: str) -> tuple[list[int], list[int]]:
        """The ids of the text's characters, and how many of them each piece has within which tokens merge."""
        check_characters(text, self._characters)
        ids = {token: token_id for token_id, token in enumerate(self._vocabulary) if len(token) == 1}
        pieces = splitter(self._split_pattern).pre_tokenize_str(text)
        return [ids[character] for character in text], [end - start for _, (start, end) in pieces]

    def save(self, folder: Path) -> None:
        """Write tokenizer.json."""
        write_description(
            folder,
            {
                "kind": self.kind,
                "vocab_dim": self.vocab_dim,
                "split_pattern": self._split_pattern,
                "vocabulary": self._vocabulary,
                "merges": self._merges,
            },
        )

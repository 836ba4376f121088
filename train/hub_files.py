"""The texts in a data set's files, read piece by piece, so that a file need not fit in memory."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gpt.errors import CorpusError

SUFFIXES = (".txt", ".jsonl", ".parquet")
FIELD = "text"
BLOCK_BYTES = 1 << 20
ROWS = 1000
# Between two documents, as between two paragraphs; a text is one sequence here, whatever the tokenizer.
BETWEEN = "\n\n"


def read_pieces(paths: list[tuple[str, Path]], on_file: Callable[[Path], None] | None = None) -> Iterator[str]:
    """The documents of some files, one after another, BETWEEN between two, in pieces as they come.

    Line ends become one line feed, and a byte order mark is left out, as in every corpus.

    Args:
        paths: what each file is called in an error, with its name's end, and where it is.
        on_file: told each file when it was read.

    Raises:
        CorpusError: a file is no text, or its texts cannot be told from its other fields.
    """
    first = True
    for called, path in paths:
        read = _READERS[Path(called).suffix.lower()]
        for document in read(called, path):
            if not first:
                yield BETWEEN
            first = False
            yield from _checked(document, called)
        if on_file is not None:
            on_file(path)


def _checked(document: Iterator[str], called: str) -> Iterator[str]:
    """The pieces with one kind of line end; CorpusError where they are no text."""
    pending = ""  # a carriage return whose line feed may stand in the next piece
    for piece in document:
        if "\0" in piece:
            raise CorpusError(f"{called} is not a text: it has a null byte; choose another data set")
        piece = pending + piece
        pending = "\r" if piece.endswith("\r") else ""
        piece = piece.removesuffix("\r") if pending else piece
        piece = piece.replace("\r\n", "\n").replace("\r", "\n")
        # JSON can hold half a character, which no encoding knows.
        yield piece if piece.isascii() else piece.encode("utf-8", "replace").decode()
    if pending:
        yield "\n"


def _read_text(called: str, path: Path) -> Iterator[Iterator[str]]:
    """A text file is one document."""

    def pieces() -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        with path.open("rb") as file:
            try:
                while block := file.read(BLOCK_BYTES):
                    yield decoder.decode(block)
                yield decoder.decode(b"", final=True)
            except UnicodeDecodeError as error:
                raise CorpusError(f"{called} is not UTF-8 ({error.reason}); choose another data set") from error

    yield pieces()


def _read_lines(called: str, path: Path) -> Iterator[Iterator[str]]:
    """A file of JSON lines has a document a line: a string, or an object with one."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row: Any = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise CorpusError(
                    f"line {number:,} of {called} is not JSON ({error}); choose another data set"
                ) from error
            if isinstance(row, dict):
                row = row[_field({name for name, value in row.items() if isinstance(value, str)}, called)]
            if not isinstance(row, str):
                raise CorpusError(
                    f"line {number:,} of {called} is {type(row).__name__}; a text, or an object with one, is needed"
                )
            yield iter([row])


def _read_table(called: str, path: Path) -> Iterator[Iterator[str]]:
    """A Parquet file has a document a row."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise CorpusError(
            f"{called} is a Parquet file, and reading those needs one more package: "
            "pip install -r requirements-parquet.txt"
        ) from error
    try:
        with parquet.ParquetFile(path) as table:
            kinds = {column.name: column.type for column in table.schema_arrow}
            texts = (pyarrow.types.is_string, pyarrow.types.is_large_string)
            column = _field({name for name, kind in kinds.items() if any(is_text(kind) for is_text in texts)}, called)
            for batch in table.iter_batches(batch_size=ROWS, columns=[column]):
                for document in batch.column(0).to_pylist():
                    if document is not None:
                        yield iter([document])
    except (pyarrow.ArrowException, OSError) as error:
        raise CorpusError(f"{called} cannot be read as Parquet ({error}); choose another data set") from error


def _field(names: set[str], called: str) -> str:
    """Which of the fields that hold texts is the document."""
    if FIELD in names:
        return FIELD
    if len(names) == 1:
        return next(iter(names))
    some = ", ".join(sorted(names)[:8]) or "none that is a text"
    raise CorpusError(
        f"{called} has no field {FIELD!r}, and not one text alone ({some}): which is to be learnt cannot be told; "
        "choose another data set"
    )


_READERS: dict[str, Callable[[str, Path], Iterator[Iterator[str]]]] = {
    ".txt": _read_text,
    ".jsonl": _read_lines,
    ".parquet": _read_table,
}

"""HubName: a data set of the Hugging Face Hub, as `--data` names it.

hf:OWNER/NAME             the whole data set, as it is now
hf:OWNER/NAME/FOLDER      a folder of it, or one file
hf:OWNER/NAME@REVISION    as it was at a branch, tag or commit; with a folder, behind the folder
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from gpt.errors import CorpusError

PREFIX = "hf:"
COMMIT = re.compile(r"[0-9a-f]{40}")
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_NAME = re.compile(rf"hf:({_PART}(?:/{_PART})?)((?:/[A-Za-z0-9._ =-]+)*)(?:@([A-Za-z0-9][A-Za-z0-9._/-]*))?")


@dataclass(frozen=True)
class HubName:
    """A data set of the Hub.

    Attributes:
        repository: OWNER/NAME, or NAME alone.
        folder: of it; empty for all.
        revision: a branch, tag or commit; empty for the newest.
    """

    repository: str
    folder: str = ""
    revision: str = ""

    @classmethod
    def parse(cls, data: str) -> HubName:
        """What `--data` says; CorpusError if it is no such name."""
        found = _NAME.fullmatch(data)
        if found is None or ".." in data:
            raise CorpusError(
                f"the corpus {data} is no name of a data set; give hf:OWNER/NAME, with /FOLDER or @REVISION behind it "
                "if need be"
            )
        repository, folder, revision = found.groups()
        return cls(repository, folder.strip("/"), revision or "")

    def at(self, commit: str) -> HubName:
        """The same at a commit."""
        return replace(self, revision=commit)

    @property
    def is_pinned(self) -> bool:
        """Whether it names one commit, so that it means the same for ever."""
        return COMMIT.fullmatch(self.revision) is not None

    @property
    def slug(self) -> str:
        """A folder's name for it."""
        whole = "--".join([*self.repository.split("/"), *(part for part in self.folder.split("/") if part)])
        return f"{whole}@{self.revision[:12]}"

    def __str__(self) -> str:
        folder = f"/{self.folder}" if self.folder else ""
        return f"{PREFIX}{self.repository}{folder}" + (f"@{self.revision}" if self.revision else "")


def is_hub_name(data: str) -> bool:
    """Whether `--data` names a data set of the Hub."""
    return data.startswith(PREFIX)

"""Message: one turn of a conversation, as the interface's bodies hold it; fields as in `gpt.api.schema`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictStr

NO_TOOLS = "the models here call no tools"
Nothing = Annotated[list[Any], Field(max_length=0)] | None


class Part(BaseModel):
    """A piece of a message."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text"] = Field(description='"text"; the models here read no images, sounds or files')
    text: StrictStr = Field(description="a text")


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "developer", "user", "assistant"] = Field(
        description='"system", "developer", "user" or "assistant"'
    )
    # Before the content, which is null where there are calls: these are then what is told of.
    refusal: Literal[""] | None = Field(None, description='null or ""; the models here refuse nothing')
    annotations: Nothing = Field(None, description="null or []; the models here cite nothing")
    audio: None = Field(None, description="null; the models here hear and make no sound")
    tool_calls: Nothing = Field(None, description=f"null or []; {NO_TOOLS}")
    tool_call_id: None = Field(None, description=f"null; {NO_TOOLS}")
    function_call: None = Field(None, description=f"null; {NO_TOOLS}")
    parsed: None = Field(None, description="null; the models here fill in no schema")
    content: StrictStr | list[Part] = Field(
        description='a text, or a list of parts such as {"type": "text", "text": "Who calls?"}'
    )
    name: StrictStr | None = Field(None, description="the name of the character who speaks, or leave it out")

    def words(self) -> str:
        """The message's text."""
        return self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)

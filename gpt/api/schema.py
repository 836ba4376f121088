"""What the interface's bodies hold: OpenAI's names and types, with the ranges of this project's backends.

A field that only asks for what is done anyway may be sent: then its type allows no other value.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from gpt.completion import MAX_LOGPROBS, MAX_NEW_TOKENS, CompletionRequest
from gpt.sampling import MAX_PENALTY, MAX_REPETITION_PENALTY, MAX_TEMPERATURE

MAX_CHOICES = 32
MAX_STOP_STRINGS = 4
CHAT_TOKENS = 200

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Token = Annotated[int, Field(strict=True, ge=0, lt=2**31)]
Text = Annotated[StrictStr, Field(min_length=1)]
Tokens = Annotated[list[Token], Field(min_length=1)]
Penalty = Annotated[Number, Field(ge=-MAX_PENALTY, le=MAX_PENALTY)]
NewTokens = Annotated[StrictInt, Field(ge=0, le=MAX_NEW_TOKENS)]
Nothing = Annotated[list[Any], Field(max_length=0)] | None


class StreamOptions(BaseModel):
    """How a stream ends."""

    model_config = ConfigDict(extra="forbid")

    include_usage: StrictBool | None = None
    include_obfuscation: Literal[False] | None = None


class Body(BaseModel):
    """What both interfaces have."""

    model_config = ConfigDict(extra="forbid")

    model: StrictStr | None = Field(None, description="the live checkpoint's name; left out, whichever is live")
    n: Annotated[StrictInt, Field(ge=1, le=MAX_CHOICES)] | None = Field(None, description="texts a prompt")
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[Number, Field(ge=0, le=MAX_TEMPERATURE)] | None = Field(None, description="1 if left out")
    top_p: Annotated[Number, Field(gt=0, le=1)] | None = None
    seed: Annotated[StrictInt, Field(ge=0, lt=2**63)] | None = None
    stop: Text | Annotated[list[Text], Field(max_length=MAX_STOP_STRINGS)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    top_k: Annotated[StrictInt, Field(ge=0)] | None = Field(None, description="0, all tokens, if left out")
    min_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[Number, Field(gt=0, le=MAX_REPETITION_PENALTY)] | None = None
    user: StrictStr | None = None
    logit_bias: Annotated[dict[str, Any], Field(max_length=0)] | None = None

    def request(self, choice: int, **fields: Any) -> CompletionRequest:
        """The request for one of a prompt's n texts, whose seeds are seed, seed + 1, and so on.

        Raises:
            RequestError: a field is out of range.
        """
        names = ("top_p", "presence_penalty", "frequency_penalty", "min_p", "repetition_penalty")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        return CompletionRequest(
            temperature=1.0 if self.temperature is None else self.temperature,
            top_k=self.top_k or 0,
            seed=None if self.seed is None else (self.seed + choice) % 2**63,
            **given,
            **fields,
        )

    def stop_strings(self) -> tuple[str, ...]:
        """The stop strings, however they were given."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class CompletionBody(Body):
    """The body of /v1/completions."""

    prompt: (
        Text
        | Tokens
        | Annotated[list[Text], Field(min_length=1, max_length=MAX_CHOICES)]
        | Annotated[list[Tokens], Field(min_length=1, max_length=MAX_CHOICES)]
    ) = Field(description="a text, texts, tokens, or lists of tokens")
    max_tokens: NewTokens | None = Field(None, description="16 if left out")
    echo: StrictBool | None = Field(None, description="give the prompt before its continuation")
    logprobs: Annotated[StrictInt, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    best_of: StrictInt | None = Field(None, description="only as many as n")
    suffix: Literal[""] | None = None

    def prompts(self) -> list[dict[str, Any]]:
        """Each prompt as CompletionRequest's field."""
        if isinstance(self.prompt, str):
            return [{"prompt": self.prompt}]
        if isinstance(self.prompt[0], int):
            return [{"prompt": "", "prompt_ids": self.prompt}]
        return [{"prompt": one} if isinstance(one, str) else {"prompt": "", "prompt_ids": one} for one in self.prompt]


class Part(BaseModel):
    """A piece of a message."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]
    text: StrictStr


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "developer", "user", "assistant"]
    content: StrictStr | list[Part]
    name: StrictStr | None = Field(None, description="the character who speaks")
    refusal: None = None

    def words(self) -> str:
        """The message's text."""
        return self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)


class ChatBody(Body):
    """The body of /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_tokens: Annotated[NewTokens, Field(ge=1)] | None = Field(None, description=f"{CHAT_TOKENS} if left out")
    max_completion_tokens: Annotated[NewTokens, Field(ge=1)] | None = Field(None, description="max_tokens' new name")
    logprobs: StrictBool | None = None
    top_logprobs: Annotated[StrictInt, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    tools: Nothing = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: StrictBool | None = None
    store: Literal[False] | None = None
    metadata: Annotated[dict[str, Any], Field(max_length=0)] | None = None

"""What the interface's bodies hold: OpenAI's names and types, with the ranges of this project's backends.

A field that only asks for what is done anyway may be sent: then its type allows no other value. Each field's
description says what may be given, and follows "give" in what is said of a wrong value (`gpt.api.complaint`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    model_validator,
)

from gpt.api.complaint import complaint
from gpt.api.message import NO_TOOLS, Message, Nothing
from gpt.completion import MAX_LOGPROBS, MAX_NEW_TOKENS, CompletionRequest
from gpt.sampling import MAX_PENALTY, MAX_REPETITION_PENALTY, MAX_TEMPERATURE

MAX_CHOICES = 32
MAX_STOP_STRINGS = 4
COMPLETION_TOKENS = 16
CHAT_TOKENS = 200

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Token = Annotated[int, Field(strict=True, ge=0, lt=2**31)]
Text = Annotated[StrictStr, Field(min_length=1)]
Tokens = Annotated[list[Token], Field(min_length=1)]
Penalty = Annotated[Number, Field(ge=-MAX_PENALTY, le=MAX_PENALTY)]
SPEECH = f"a whole number from 1 to {MAX_NEW_TOKENS}, or leave it out for {CHAT_TOKENS}"
NewTokens = Annotated[StrictInt, Field(ge=0, le=MAX_NEW_TOKENS)]
PENALTY = f"a number from {-MAX_PENALTY:g} to {MAX_PENALTY:g}; 0 is off"


class StreamOptions(BaseModel):
    """How a stream ends."""

    model_config = ConfigDict(extra="forbid")

    include_usage: StrictBool | None = Field(
        None, description="true for a last event with the tokens it took, or false"
    )
    include_obfuscation: Literal[False] | None = Field(None, description="false; events are sent as they are here")


class Body(BaseModel):
    """What both interfaces have."""

    model_config = ConfigDict(extra="forbid")

    model: StrictStr | None = Field(None, description="the live checkpoint's name, or leave it out")
    n: Annotated[StrictInt, Field(ge=1, le=MAX_CHOICES)] | None = Field(
        None, description=f"a whole number from 1 to {MAX_CHOICES}, how many texts a prompt gets"
    )
    stream: StrictBool | None = Field(None, description="true for events while the text is made, or false")
    stream_options: StreamOptions | None = Field(None, description='null, or an object such as {"include_usage": true}')
    temperature: Annotated[Number, Field(ge=0, le=MAX_TEMPERATURE)] | None = Field(
        None, description=f"a number from 0 to {MAX_TEMPERATURE:g}, or leave it out for 1"
    )
    top_p: Annotated[Number, Field(gt=0, le=1)] | None = Field(
        None, description="a number above 0, up to 1, which is off"
    )
    seed: Annotated[StrictInt, Field(ge=0, lt=2**63)] | None = Field(
        None, description="a whole number from 0 to 2^63 - 1, or leave it out for another text each time"
    )
    stop: Text | Annotated[list[Text], Field(max_length=MAX_STOP_STRINGS)] | None = Field(
        None, description=f"a text or a list of up to {MAX_STOP_STRINGS} texts, none of them empty"
    )
    presence_penalty: Penalty | None = Field(None, description=PENALTY)
    frequency_penalty: Penalty | None = Field(None, description=PENALTY)
    top_k: Annotated[StrictInt, Field(ge=0)] | None = Field(
        None, description="a whole number from 0, which keeps all tokens"
    )
    min_p: Annotated[Number, Field(ge=0, le=1)] | None = Field(None, description="a number from 0, which is off, to 1")
    repetition_penalty: Annotated[Number, Field(gt=0, le=MAX_REPETITION_PENALTY)] | None = Field(
        None, description=f"a number above 0, up to {MAX_REPETITION_PENALTY:g}; 1 is off"
    )
    user: StrictStr | None = Field(None, description="a text, which changes nothing here")
    logit_bias: Annotated[dict[str, Any], Field(max_length=0)] | None = Field(
        None, description="null or {}; single tokens cannot be made more or less probable here"
    )

    service_tier: Literal["auto", "default"] | None = Field(
        None, description='"auto" or "default"; there is one way to be served here'
    )
    store: Literal[False] | None = Field(None, description="false; texts are not stored here")
    metadata: Annotated[dict[str, Any], Field(max_length=0)] | None = Field(
        None, description="null or {}; texts are not stored here, so nothing would be labelled"
    )
    prompt_cache_key: StrictStr | None = Field(None, description="a text, which changes nothing here")
    prompt_cache_retention: None = Field(None, description="null; no prompts are kept between requests here")
    prompt_cache_options: None = Field(None, description="null; no prompts are kept between requests here")
    safety_identifier: StrictStr | None = Field(None, description="a text, which changes nothing here")

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, body: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Read the body.

        Raises:
            Refusal: it is no such body; in the project's words instead of pydantic's.
        """
        try:
            return handler(body)
        except ValidationError as error:
            raise complaint(error, cls, body) from error

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
    ) = Field(
        description=f"a text that is not empty, its tokens as whole numbers, or a list of up to {MAX_CHOICES} of either"
    )
    max_tokens: NewTokens | None = Field(
        None, description=f"a whole number from 0 to {MAX_NEW_TOKENS}, or leave it out for {COMPLETION_TOKENS}"
    )
    echo: StrictBool | None = Field(None, description="true for the prompt before its continuation, or false")
    logprobs: Annotated[StrictInt, Field(ge=0, le=MAX_LOGPROBS)] | None = Field(
        None, description=f"a whole number from 0 to {MAX_LOGPROBS}, how many alternatives each token gets, or null"
    )
    best_of: StrictInt | None = Field(None, description="the same number as n; there is no choosing among texts here")
    suffix: Literal[""] | None = Field(None, description='null or ""; text is only written at the end here')

    def prompts(self) -> list[dict[str, Any]]:
        """Each prompt as CompletionRequest's field."""
        if isinstance(self.prompt, str):
            return [{"prompt": self.prompt}]
        if isinstance(self.prompt[0], int):
            return [{"prompt": "", "prompt_ids": self.prompt}]
        return [{"prompt": one} if isinstance(one, str) else {"prompt": "", "prompt_ids": one} for one in self.prompt]


class TextFormat(BaseModel):
    """The one format of an answer."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text"] = Field(description='"text"; the models here cannot be held to JSON or a schema')


class ChatBody(Body):
    """The body of /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1)] = Field(
        description='messages such as {"role": "user", "content": "Who calls?"}, at least one, in a list'
    )
    max_tokens: Annotated[NewTokens, Field(ge=1)] | None = Field(None, description=SPEECH)
    max_completion_tokens: Annotated[NewTokens, Field(ge=1)] | None = Field(None, description=SPEECH)
    logprobs: StrictBool | None = Field(None, description="true for each token's log-probability, or false")
    top_logprobs: Annotated[StrictInt, Field(ge=0, le=MAX_LOGPROBS)] | None = Field(
        None, description=f"a whole number from 0 to {MAX_LOGPROBS}, how many alternatives each token gets"
    )
    response_format: TextFormat | None = Field(None, description='null or {"type": "text"}')
    modalities: list[Literal["text"]] | None = Field(
        None, description='null or ["text"]; nothing but text is made here'
    )
    audio: None = Field(None, description="null; nothing but text is made here")
    prediction: None = Field(None, description="null; a predicted text does not speed up this server")
    reasoning_effort: Literal["none"] | None = Field(None, description='null or "none"; the models here do not reason')
    verbosity: Literal["medium"] | None = Field(None, description='null or "medium"; use max_tokens for shorter texts')
    web_search_options: None = Field(None, description="null; the models here search nothing")
    moderation: None = Field(None, description="null; nothing is moderated here")
    tools: Nothing = Field(None, description=f"null or []; {NO_TOOLS}")
    tool_choice: Literal["none", "auto"] | None = Field(None, description=f'"none" or "auto"; {NO_TOOLS}')
    parallel_tool_calls: StrictBool | None = Field(
        None, description=f"true or false, which changes nothing; {NO_TOOLS}"
    )
    functions: Nothing = Field(None, description=f"null or []; {NO_TOOLS}")
    function_call: Literal["none", "auto"] | None = Field(None, description=f'"none" or "auto"; {NO_TOOLS}')

"""The interface as its users' clients see it: the openai package, LangChain, and plain HTTP."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
import torch

from gpt.backends.local import LocalBackend
from tests.fake_backend import FakeBackend
from tests.fake_page import save_random_checkpoint
from tests.gpt.api.serving import MODEL, ask, serving_api
from tests.gpt.vertex.serving import eventually


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBackend]:
    torch.manual_seed(0)
    backend = LocalBackend.from_checkpoint(save_random_checkpoint(tmp_path_factory.mktemp("api") / MODEL))
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def address(local: LocalBackend) -> Iterator[str]:
    with serving_api(local) as given:
        yield given


@pytest.fixture
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"http://{address}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_the_live_model_is_listed_and_another_is_not_found(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError) as caught:
        client.completions.create(model="gpt-9", prompt="a")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_a_stream_joins_to_the_same_text(client: openai.OpenAI) -> None:
    whole = client.completions.create(model=MODEL, prompt="ROMEO:", seed=3, max_tokens=20, n=2, logprobs=2)
    assert whole.usage and (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (6, 40)
    texts, last = ["", ""], None
    for chunk in client.completions.create(
        model=MODEL, prompt="ROMEO:", seed=3, max_tokens=20, n=2, stream=True, stream_options={"include_usage": True}
    ):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
        last = chunk
    assert texts == [choice.text for choice in whole.choices] and texts[0] != texts[1]
    assert last and last.usage == whole.usage and last.choices == []


def test_each_of_n_texts_is_that_of_the_next_seed(client: openai.OpenAI) -> None:
    both = client.completions.create(model=MODEL, prompt="A", seed=7, n=2).choices
    alone = [client.completions.create(model=MODEL, prompt="A", seed=seed).choices[0].text for seed in (7, 8)]
    assert [choice.text for choice in both] == alone and len(alone[0]) == 16


def test_the_extensions_reach_the_sampling(client: openai.OpenAI) -> None:
    greedy = client.completions.create(model=MODEL, prompt="A", temperature=0).choices[0].text
    for fields in ({"top_k": 1}, {"min_p": 1}):
        assert client.completions.create(model=MODEL, prompt="A", extra_body=fields).choices[0].text == greedy
    changed = client.completions.create(model=MODEL, prompt="A", temperature=0, extra_body={"repetition_penalty": 9})
    assert changed.choices[0].text != greedy


def test_a_stop_string_ends_the_text(client: openai.OpenAI) -> None:
    text = client.completions.create(model=MODEL, prompt="A", seed=1, max_tokens=20).choices[0].text
    choice = client.completions.create(model=MODEL, prompt="A", seed=1, max_tokens=20, stop=text[8:10], logprobs=0)
    assert choice.choices[0].finish_reason == "stop"
    assert choice.choices[0].text == text[: text.index(text[8:10])]
    assert choice.choices[0].logprobs and "".join(choice.choices[0].logprobs.tokens or []) == choice.choices[0].text


def test_echo_scores_a_prompt_as_text_and_as_tokens(client: openai.OpenAI, local: LocalBackend) -> None:
    text = "What light through yonder window breaks? " * 4  # past the context of 64
    ids = local._tokenizer.encode(text)
    answer = client.completions.create(
        model=MODEL, prompt=[ids, ids[:3]], echo=True, logprobs=1, max_tokens=0, temperature=0
    )
    as_text = client.completions.create(model=MODEL, prompt=text, echo=True, logprobs=1, max_tokens=1)
    given = answer.choices[0].logprobs
    assert given and answer.choices[0].text == text and answer.choices[1].text == text[:3]
    assert given.token_logprobs and given.token_logprobs[0] is None and given.top_logprobs
    assert given.top_logprobs[0] is None and len(given.top_logprobs) == len(ids)
    assert given.text_offset == list(range(len(ids)))
    other = as_text.choices[0].logprobs
    assert other and other.token_logprobs and len(other.token_logprobs) == len(ids) + 1
    assert other.token_logprobs[: len(ids)] == given.token_logprobs
    logits = local._model(torch.tensor([ids[:20]])).log_softmax(-1)[0].detach()
    expected = [float(logits[place, ids[place + 1]]) for place in range(19)]
    assert given.token_logprobs[1:20] == pytest.approx(expected, abs=1e-4)


def test_echo_log_probabilities_sum_to_what_evaluation_finds(client: openai.OpenAI, local: LocalBackend) -> None:
    from train.metrics import window_nats

    text = "But soft! What light through yonder window breaks? It is the east, and Juliet is the sun. " * 3
    ids = local._tokenizer.encode(text)
    logprobs = client.completions.create(model=MODEL, prompt=ids, echo=True, logprobs=0, max_tokens=0).choices[0]
    assert logprobs.logprobs and logprobs.logprobs.token_logprobs
    nats = window_nats(local._model, torch.tensor(ids), 32)
    assert -sum(logprobs.logprobs.token_logprobs[1:]) == pytest.approx(nats, abs=1e-3)


def test_chat_is_the_dialogue_as_a_play(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "system", "content": "Verona."},
            {"role": "user", "name": "NURSE", "content": "Who calls?\n\nYou?"},
        ],
        seed=4,
        max_tokens=12,
        logprobs=True,
        top_logprobs=2,
    )
    same = client.completions.create(
        model=MODEL, prompt="Verona.\n\nNURSE:\nWho calls?\nYou?\n\nJULIET:\n", seed=4, max_tokens=12, stop="\n\n"
    )
    choice = answer.choices[0]
    assert (choice.message.role, choice.message.content) == ("assistant", same.choices[0].text)
    assert choice.logprobs and choice.logprobs.content
    assert {len(token.top_logprobs) for token in choice.logprobs.content} == {2}
    assert "".join(token.token for token in choice.logprobs.content) == choice.message.content


def test_a_body_that_is_no_json_is_refused_with_the_routes_own_example(address: str) -> None:
    for path, name in (("/v1/completions", "prompt"), ("/v1/chat/completions", "messages")):
        message = ask(address, path, b"{").content["error"]["message"]
        assert message.startswith(f'the body is no JSON; send an object such as {{"{name}": ')


@pytest.mark.parametrize("dumped", [True, False])
def test_an_answer_that_was_streamed_is_fed_back(client: openai.OpenAI, dumped: bool) -> None:
    question: Any = {"role": "user", "content": "Who calls?"}
    with client.chat.completions.stream(model=MODEL, messages=[question], seed=4, max_tokens=12, stop=["a"]) as stream:
        for _ in stream:
            pass
    message = stream.current_completion_snapshot.choices[0].message
    assert not dumped or "parsed" in message.model_dump()
    fed: Any = message.model_dump() if dumped else message
    assert client.chat.completions.create(model=MODEL, messages=[question, fed, question], max_tokens=3).choices


@pytest.mark.parametrize("dumped", [True, False])
def test_an_answer_is_fed_back_as_the_client_has_it(client: openai.OpenAI, dumped: bool) -> None:
    question: Any = {"role": "user", "content": "Who calls?"}
    message = client.chat.completions.create(model=MODEL, messages=[question], seed=4, max_tokens=12).choices[0].message
    fed: Any = message.model_dump() if dumped else message
    assert not dumped or {"tool_calls", "function_call", "audio", "annotations", "refusal"} <= set(fed)
    answer = client.chat.completions.create(model=MODEL, messages=[question, fed, question], seed=4, max_tokens=12)
    by_hand: Any = [question, {"role": "assistant", "content": message.content}, question]
    same = client.chat.completions.create(model=MODEL, messages=by_hand, seed=4, max_tokens=12)
    assert answer.choices[0].message.content == same.choices[0].message.content
    for name in ("tool_calls", "annotations"):
        again: Any = {"role": "assistant", "content": message.content, name: []}
        assert client.chat.completions.create(model=MODEL, messages=[question, again, question], max_tokens=1).choices
    with pytest.raises(openai.BadRequestError, match=r"messages\[1\]\.tool_calls is ") as caught:
        calls: Any = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function"}]}
        client.chat.completions.create(model=MODEL, messages=[question, calls])
    assert caught.value.param == "messages[1].tool_calls"


def test_langchain_talks_and_streams(address: str) -> None:
    from langchain_openai import ChatOpenAI
    from pydantic import SecretStr

    chat = ChatOpenAI(model=MODEL, base_url=f"http://{address}/v1", api_key=SecretStr("none"), seed=5, max_retries=0)
    text = chat.invoke("Who is there?").content
    assert text and "".join(str(chunk.content) for chunk in chat.stream("Who is there?")) == text


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 11}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"max_tokens": 10**6}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"n": 20, "prompt": ["a", "b"]}, "n"),
        ({"best_of": 3}, "best_of"),
        ({"suffix": "x"}, "suffix"),
        ({"logit_bias": {"1": 2}}, "logit_bias"),
        ({"unknown": 1}, "unknown"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [10**6]}, "prompt"),
        ({"prompt": "\N{SNOWMAN}"}, "prompt"),
        ({"prompt": "\ud800"}, "prompt"),
        ({"stream_options": {}}, "stream_options"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(address: str, fields: dict[str, object], param: str) -> None:
    answer = ask(address, "/v1/completions", {"prompt": "a", **fields})
    error = answer.content["error"]
    assert (answer.status, error["type"], error["param"]) == (400, "invalid_request_error", param), error
    assert set(error) == {"message", "type", "param", "code"} and error["message"].startswith(("the ", param))


@pytest.mark.parametrize("body", [b"{", b"[]", b"null", b'{"prompt": "a", "temperature": NaN}', b"\xff"])
def test_a_body_that_is_none_is_refused(address: str, body: bytes) -> None:
    answer = ask(address, "/v1/completions", body)
    assert answer.status == 400 and answer.content["error"]["message"]


NEUTRAL: dict[str, list[object]] = {
    "n": [None, 1],
    "stop": [None, []],
    "user": [None, "me"],
    "logit_bias": [None, {}],
    "stream_options": [None],
    "service_tier": [None, "auto", "default"],
    "store": [None, False],
    "metadata": [None, {}],
    "prompt_cache_key": [None, "mine"],
    "safety_identifier": [None, "mine"],
    "seed": [None],
    "model": [None],
}
NEUTRAL_IN_CHAT: dict[str, list[object]] = {
    "response_format": [None, {"type": "text"}],
    "modalities": [None, ["text"]],
    "audio": [None],
    "prediction": [None],
    "reasoning_effort": [None, "none"],
    "verbosity": [None, "medium"],
    "web_search_options": [None],
    "moderation": [None],
    "tools": [None, []],
    "tool_choice": [None, "none", "auto"],
    "parallel_tool_calls": [None, True, False],
    "functions": [None, []],
    "function_call": [None, "none", "auto"],
    "logprobs": [None, False],
    "top_logprobs": [None],
    "max_completion_tokens": [None],
}
NEUTRAL_IN_COMPLETIONS: dict[str, list[object]] = {
    "best_of": [None, 1],
    "suffix": [None, ""],
    "echo": [None, False],
    "logprobs": [None],
}


@pytest.mark.parametrize(
    ("path", "body", "neutral"),
    [
        ("/v1/completions", {"prompt": "a", "max_tokens": 1}, NEUTRAL | NEUTRAL_IN_COMPLETIONS),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1},
            NEUTRAL | NEUTRAL_IN_CHAT,
        ),
    ],
)
def test_neutral_values_are_accepted(
    address: str, path: str, body: dict[str, object], neutral: dict[str, list[object]]
) -> None:
    for place in range(max(map(len, neutral.values()))):
        fields = {name: values[min(place, len(values) - 1)] for name, values in neutral.items()}
        answer = ask(address, path, {**body, **fields})
        assert answer.status == 200, answer.content


def test_other_methods_and_paths_are_error_objects(address: str) -> None:
    assert ask(address, "/v1/completions").status == 405
    answer = ask(address, "/v1/embeddings", {})
    assert answer.status == 404 and "POST /v1/completions" in answer.content["error"]["message"]


def test_clients_beyond_the_queue_are_refused_in_words_and_none_is_lost() -> None:
    fake = FakeBackend(delay_s=0.01)
    with serving_api(fake, max_running=4, max_waiting=20) as address, ThreadPoolExecutor(64) as pool:
        body = {"prompt": "a", "max_tokens": 30}
        answers = list(pool.map(lambda _: ask(address, "/v1/completions", body), range(64)))
        assert {answer.status for answer in answers} == {200, 429}
        refused = [answer for answer in answers if answer.status == 429]
        assert len(answers) - len(refused) >= 24 and len(refused) >= 10
        assert all(answer.headers["retry-after"] == "1" for answer in refused)
        assert {answer.content["error"]["type"] for answer in refused} == {"rate_limit_error"}
        assert ask(address, "/v1/completions", body).status == 200
        figures = ask(address, "/metrics").content
        assert f'gpt_requests_total{{route="/completions",status="429"}} {len(refused):.1f}' in figures
        assert "gpt_requests_running 0.0" in figures and "gpt_requests_waiting 0.0" in figures


@pytest.mark.parametrize("stream", [True, False])
def test_a_dropped_connection_ends_its_work_and_frees_its_place(stream: bool) -> None:
    fake = FakeBackend(delay_s=0.01)
    with serving_api(fake, max_running=1, max_waiting=1) as address:
        for _ in range(2):
            with contextlib.closing(http.client.HTTPConnection(address, timeout=30)) as connection:
                body = json.dumps({"prompt": "a", "max_tokens": 4000, "stream": stream})
                connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
                eventually(lambda: fake.active == 1)
                if stream:
                    connection.getresponse().read(10)
            eventually(lambda: fake.active == 0)
        assert ask(address, "/v1/completions", {"prompt": "a"}).status == 200


def test_an_error_in_a_stream_is_its_last_event() -> None:
    fake = FakeBackend()
    fake.fail_after = 3
    with serving_api(fake) as address, openai.OpenAI(base_url=f"http://{address}/v1", api_key="none") as client:
        stream = client.completions.create(model=MODEL, prompt="a", stream=True)
        with pytest.raises(openai.APIError, match="the backend was closed"):
            list(stream)


def test_a_backend_that_cannot_score_says_so() -> None:
    with serving_api(FakeBackend()) as address:
        answer = ask(address, "/v1/completions", {"prompt": "a", "echo": True, "logprobs": 1})
        assert answer.status == 400 and "choose a checkpoint of this machine" in answer.content["error"]["message"]
        assert ask(address, "/v1/completions", {"prompt": "a", "echo": True}).content["choices"][0]["text"][0] == "a"


@pytest.mark.parametrize(
    ("messages", "place", "character"),
    [
        ([{"role": "system", "content": "A play."}, {"role": "user", "content": "Who\n\ncalls ☃?"}], "1].content", "☃"),
        ([{"role": "user", "content": [{"type": "text", "text": "é"}]}], "0].content", "é"),
        ([{"role": "user", "content": "Hi."}, {"role": "user", "content": "Ho.", "name": "ŒDIPUS"}], "1].name", "Œ"),
    ],
)
def test_a_character_that_no_token_has_is_told_by_its_message(
    client: openai.OpenAI, messages: Any, place: str, character: str
) -> None:
    """Its place in the play that is made of the messages would say nothing to who sent them."""
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model=MODEL, messages=messages, stream=stream)
        assert caught.value.param == f"messages[{place}"
        assert f"messages[{place} has {character!r} (U+{ord(character):04X})" in caught.value.message

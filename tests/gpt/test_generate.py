"""python -m gpt.generate as a shell sees it: what it prints where, and its exit status."""

import os
import re
import signal
import subprocess
import sys

import pytest
import torch

from gpt.character_tokenizer import CharacterTokenizer
from gpt.checkpoint import save_checkpoint
from gpt.config import GPTConfig
from gpt.generate import build_parser, main
from gpt.model import GPT

ALPHABET = "abcdefgh \né"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    torch.manual_seed(0)
    model = GPT.from_config(GPTConfig(vocab_dim=len(ALPHABET), sequence_dim=16, embed_dim=8, num_heads=2, num_layers=1))
    save_checkpoint(folder, model, CharacterTokenizer(ALPHABET))
    return folder


def arguments(checkpoint, *more):
    return ["--checkpoint", str(checkpoint), "--prompt", "abc é", "--seed", "1", "--max-new-tokens", "40", *more]


def start(checkpoint, *more, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "gpt.generate", *arguments(checkpoint, *more)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def test_the_text_goes_to_standard_output_and_the_figures_to_standard_error(checkpoint, capsys):
    assert main(arguments(checkpoint)) == 0
    first = capsys.readouterr()
    assert first.out.startswith("abc é") and len(first.out) == 5 + 40 + 1 and first.out.endswith("\n")
    assert re.fullmatch(r"40 tokens in \d+\.\d\d s, \d+ tokens/s, seed 1\n", first.err)
    assert main(arguments(checkpoint)) == 0
    assert capsys.readouterr().out == first.out


def test_a_drawn_seed_is_reported_and_repeats_the_text(checkpoint, capsys):
    options = ["--checkpoint", str(checkpoint), "--prompt", "abc", "--max-new-tokens", "40"]
    main(options)
    text, figures = capsys.readouterr()
    main([*options, "--seed", figures.split()[-1]])
    assert capsys.readouterr().out == text


def test_stop_strings_end_the_text(checkpoint, capsys):
    main(arguments(checkpoint))
    completion = capsys.readouterr().out[5:-1]
    main(arguments(checkpoint, "--stop", "zzz", "--stop", completion[20:23]))
    assert capsys.readouterr().out[5:-1] == completion[: completion.index(completion[20:23])]


def test_every_option_reaches_the_request(checkpoint, monkeypatch, capsys):
    requests = []

    def stream(self, request):
        requests.append(request)
        return iter(())

    monkeypatch.setattr("gpt.backends.local.LocalBackend.stream", stream)
    fields = {
        "temperature": 1.5,
        "top_k": 7,
        "top_p": 0.9,
        "min_p": 0.1,
        "repetition_penalty": 1.2,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
    }
    options = [text for name, value in fields.items() for text in ("--" + name.replace("_", "-"), str(value))]
    assert main(arguments(checkpoint, *options, "--stop", "a", "--stop", "b", "--threads", "1", "--device", "cpu")) == 0
    [request] = requests
    assert {name: getattr(request, name) for name in fields} == fields
    assert (request.prompt, request.seed, request.max_new_tokens, request.stop) == ("abc é", 1, 40, ("a", "b"))


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--temperature", "-1"], 2, "temperature is -1.0; give a number from 0 to 10"),
        (["--prompt", ""], 2, "prompt is empty; type at least one character"),
        (["--prompt", "xyz"], 2, "'x'"),
        (["--device", "abacus"], 2, "device is 'abacus'; choose auto, cpu, cuda or cuda:N"),
        (["--threads", "0"], 2, "num_threads is 0; give a whole number of at least 1"),
        (["--checkpoint", "/nowhere"], 1, "/nowhere"),
    ],
)
def test_a_failure_is_one_sentence_and_an_exit_status(checkpoint, capsys, options, status, message):
    assert main(arguments(checkpoint, *options)) == status
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("python -m gpt.generate: error: ") and message in err and err.count("\n") == 1


def test_an_option_that_is_no_number_leaves_with_2(checkpoint, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments(checkpoint, "--top-k", "many"))
    assert caught.value.code == 2


def test_help_gives_ranges_and_defaults_without_waiting_for_torch():
    code = "import sys, gpt.generate as g; g.build_parser().format_help(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    text = build_parser().format_help()
    assert "0 to 10" in text and "(0.8)" in text and "(50)" in text and "%(" not in text


def test_the_text_streams_and_ctrl_c_ends_it_cleanly(checkpoint):
    process = start(checkpoint, "--max-new-tokens", "4096")
    assert process.stdout.read(20).startswith("abc é".encode()) and process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and err.strip() == b""


def test_a_reader_that_goes_away_ends_it_without_a_traceback(checkpoint):
    process = start(checkpoint, "--max-new-tokens", "4096")
    assert process.stdout.read(8)
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(30) == 141 and err == b""


def test_a_terminal_without_the_characters_gets_question_marks(checkpoint):
    process = start(checkpoint, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0 and out.startswith(b"abc ?")

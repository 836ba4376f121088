"""The header's words about what serves the page."""

from __future__ import annotations

from gpt.completion import BackendInfo
from gpt.ui.header import pills


def test_pills_say_what_serves() -> None:
    html = pills(BackendInfo("local", "laptop", "cpu", 1_049_728, 64, (("block", 1.4338), ("sliding", 1.418))))
    for text in ("This machine", ">cpu<", "1.05M parameters", "1.418 nats/char"):
        assert text in html


def test_pills_leave_out_what_is_unknown() -> None:
    html = pills(BackendInfo("vertex", "endpoint"))
    assert "Vertex AI" in html
    assert html.count("<span") == 1


def test_pills_say_where_a_backend_elsewhere_is() -> None:
    html = pills(BackendInfo("predictor", "laptop", "127.0.0.1:8080", 1_049_728))
    assert ">Predictor<" in html and ">127.0.0.1:8080<" in html


def test_pills_are_text_and_never_markup() -> None:
    assert "<i>" not in pills(BackendInfo("<i>", "x", device="<i>"))

"""A fuzzer takes the description at its word: whatever it sends is answered or refused, and never a server error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gpt.backends.local import LocalBackend
from tests.fake_page import save_random_checkpoint
from tests.gpt.api.serving import serving_api


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nothing_that_a_fuzzer_sends_is_a_server_error(tmp_path: Path) -> None:
    backend = LocalBackend.from_checkpoint(save_random_checkpoint(tmp_path / "tiny"))
    try:
        with serving_api(backend) as address:
            base = f"http://{address}/v1"
            command = [str(Path(sys.executable).parent / "schemathesis"), "run", f"{base}/openapi.json", "--url", base]
            limits = ["--max-examples", "30", "--checks", "not_a_server_error", "--seed", "1", "--no-color"]
            done = subprocess.run([*command, *limits], cwd=tmp_path, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
            assert "Tested: 4" in done.stdout
    finally:
        backend.close()

"""A serving container of a few lines, where a test is about what surrounds it: health, and one kind of answer.

python plain_container.py           answers every instance with a text
python plain_container.py 500       refuses every prediction with this status
python plain_container.py broken    ends before it is healthy
"""

from __future__ import annotations

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BEHAVIOUR = sys.argv[1] if len(sys.argv) > 1 else ""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.answer(200 if self.path == os.environ["AIP_HEALTH_ROUTE"] else 404, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        predictions = [{"text": os.environ["AIP_STORAGE_URI"], "instance": instance} for instance in body["instances"]]
        self.answer(int(BEHAVIOUR or 200), {"predictions": predictions})

    def answer(self, status: int, content: object) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


if __name__ == "__main__":
    if BEHAVIOUR == "broken":
        sys.exit("no model can be loaded")
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["AIP_HTTP_PORT"])), Handler).serve_forever()

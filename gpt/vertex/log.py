"""The predictor's log: one JSON object a line on standard output, in the fields that Cloud Logging reads."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any


class JsonFormatter(logging.Formatter):
    """A record as a line of JSON: severity, message, time, and what `extra={"fields": {...}}` adds."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        message = record.getMessage()
        if record.exc_info:
            message = f"{message}\n{self.formatException(record.exc_info)}"
        fields: dict[str, Any] = getattr(record, "fields", {})
        time = datetime.fromtimestamp(record.created, UTC).isoformat()
        return json.dumps({"severity": record.levelname, "message": message, "time": time, **fields})


def log_as_json() -> None:
    """Send every logger's records to standard output as JSON, and nothing anywhere else."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # Each request has a line of the project's own; from uvicorn only what goes wrong is of interest.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)

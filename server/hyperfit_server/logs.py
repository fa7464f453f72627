"""The log: one JSON object a line, on standard error."""

import json
import logging
import sys
import time
from typing import Any

from .calls import Call

log = logging.getLogger("hyperfit_server")


class JsonLines(logging.Formatter):
    """A record as JSON: time (UTC), level, message, what was given as `extra={"fields": {...}}`, a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Render a record."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {"time": f"{moment}.{record.msecs:03.0f}Z", "level": record.levelname.lower()}
        line["message"] = record.getMessage()
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logging(level: str) -> None:
    """Write the log to standard error as JSON lines: this server's and its engine's, and warnings of all others."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    for name in ("hyperfit_server", "hyperfit_eval"):
        logging.getLogger(name).setLevel(level.upper())


def log_call(call: Call, seconds: float, client: str | None) -> None:
    """One line for one request: never its text, unless that was asked for, and never its headers."""
    fields: dict[str, Any] = {
        "request_id": call.request_id,
        "route": call.route,
        "status": call.status,
        "seconds": round(seconds, 4),
        "client": client,
    }
    if call.blocking is not None:
        fields |= {
            "prompt_tokens": call.prompt_tokens,
            "generated_tokens": call.new_tokens,
            "blocking": call.blocking,
            "blocked_tokens": call.blocked_tokens,
            "queue_seconds": round(max(call.queue_seconds, default=0.0), 4),
        }
    if call.first_token_seconds is not None:
        fields["first_token_seconds"] = round(call.first_token_seconds, 4)
    if call.cancelled:
        fields["cancelled"] = True
    if call.error:
        fields["error"] = call.error
    if call.texts:
        fields["texts"] = [{"prompt": prompt, "generated": text} for prompt, text in call.texts]
    log.info("request", extra={"fields": fields})

"""How the coordinator's look-alike answers: JSON as Go writes it, errors in their one shape."""

from __future__ import annotations

import hmac
import json

from werkzeug.wrappers import Request, Response


def bearer_is(request: Request, key: str) -> bool:
    """Compare the token in constant time; the scheme's case does not matter."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    token = token.strip()
    if not key or not token or scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(token.encode(), key.encode())


def error(status: int, kind: str, message: str) -> Response:
    """A refusal; `code` repeats the type since May."""
    return answer(status, {"error": {"type": kind, "message": message, "code": kind}})


def answer(status: int, value: object) -> Response:
    """One compact line, escaped as Go escapes: installers read it with sed."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for mark in "&<>\u2028\u2029":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return Response(text + "\n", status, content_type="application/json")

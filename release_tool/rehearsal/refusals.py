"""What look-alikes of services over HTTP share: a handler answers, or raises what it answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from werkzeug.wrappers import Request, Response

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class RefusedError(Exception):
    """The request ends here, with this response."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


def application(answer: Callable[[Request], Response]) -> WSGIApplication:
    """The application of a handler that may raise `RefusedError` wherever it is."""

    def answered(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        try:
            response = answer(request)
        except RefusedError as refused:
            response = refused.response
        return response(environ, start_response)

    return answered

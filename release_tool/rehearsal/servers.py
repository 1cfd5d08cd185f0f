"""A threaded WSGI server on loopback that keeps its port and says nothing."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from werkzeug.exceptions import ClientDisconnected
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from release_tool.rehearsal.wire import Wire

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

LOOPBACK = "127.0.0.1"
# A peer that stops in the middle of a request must not hold its thread for ever.
_SOCKET_SECONDS = 150
# How long a stop may take to be noticed.
_POLL_SECONDS = 0.05
_HOLD_SECONDS = 10.0


class QuietHandler(WSGIRequestHandler):
    """Werkzeug's handler without its access log, and without `100 Continue`.

    R2 never answers `Expect: 100-continue`, so neither does anything here: a client that waits
    for it is seen waiting.
    """

    timeout = _SOCKET_SECONDS

    def handle(self) -> None:
        """Handle a request; of a connection that was cut, what is left is not worth a word."""
        with contextlib.suppress(OSError):
            super().handle()

    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002
        """Say nothing: the environment's own journals tell what happened."""

    def handle_expect_100(self) -> bool:
        del self.headers["Expect"]
        return True


class ContinuingHandler(QuietHandler):
    """One that answers `Expect: 100-continue`, as AWS does.

    Werkzeug sends the line itself before it asks the application; the standard library must not
    send another.
    """

    def handle_expect_100(self) -> bool:
        return True


class Server:
    """One WSGI application on 127.0.0.1.

    Args:
        application: what answers.
        port: the port that it had before; another one is taken where that is busy. 0 for any.
        handler: werkzeug's request handler.
        touched: called at each request, for the idle clock.
        name: what rules of the wire call it.
        wire: what may go wrong between it and its clients; nothing, where there is none.
    """

    def __init__(
        self,
        application: WSGIApplication,
        *,
        port: int = 0,
        handler: type[WSGIRequestHandler] = QuietHandler,
        touched: Callable[[], None] = lambda: None,
        name: str = "",
        wire: Wire | None = None,
    ) -> None:
        def tell(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            touched()
            try:
                if wire is None:
                    return application(environ, start_response)
                return wire.pass_on(name, application, environ, start_response)
            except ClientDisconnected as problem:
                # Who leaves in the middle of a body is no failure of the server.
                raise ConnectionAbortedError from problem

        self._application = tell
        self._handler = handler
        self._socket = _bind(port)
        self.port: int = self._socket.getsockname()[1]
        self._server, self._thread = self._made()
        self._changing = threading.Lock()
        self._ended = False
        self._parted: Callable[[], None] = lambda: None
        if wire is not None:
            wire.join(name, self)
            self._parted = partial(wire.part, name)

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`, without a slash behind it."""
        return f"http://{LOOPBACK}:{self.port}"

    def start(self) -> None:
        """Answer requests from now on, in threads of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Take no further request and free the port."""
        with self._changing:
            self._ended = True
            self._parted()
            self._close()

    def cease(self) -> None:
        """Refuse connections; the port stays ours, so that nobody else answers there."""
        with self._changing:
            if self._ended:
                return
            self._close()
            self._socket = _held(self.port)

    def resume(self) -> None:
        """Listen again after `cease`."""
        with self._changing:
            if self._ended:
                return
            self._socket.listen()
            self._server, self._thread = self._made()
            self._thread.start()

    def _made(self) -> tuple[BaseWSGIServer, threading.Thread]:
        server = make_server(
            LOOPBACK,
            self.port,
            self._application,
            threaded=True,
            request_handler=self._handler,
            fd=self._socket.fileno(),
        )
        thread = threading.Thread(
            target=server.serve_forever,
            args=(_POLL_SECONDS,),
            name=f"port {self.port}",
            daemon=True,
        )
        return server, thread

    def _close(self) -> None:
        if self._thread.is_alive():
            # Else its wait for the next connection goes on for a while; not every system ends it.
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._server.shutdown()
        self._server.server_close()
        self._socket.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def drop_connection(environ: dict[str, Any]) -> None:
    """Cut the client off without an answer, as a dying server or network does."""
    connection: socket.socket = environ["werkzeug.socket"]
    connection.shutdown(socket.SHUT_RDWR)


def _held(port: int) -> socket.socket:
    """A socket that has the port and does not listen."""
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    deadline = time.monotonic() + _HOLD_SECONDS
    while True:
        try:
            held.bind((LOOPBACK, port))
        except OSError:
            # The kernel lets go of what listened a moment after it was closed.
            if time.monotonic() > deadline:
                held.close()
                raise
            time.sleep(_POLL_SECONDS)
        else:
            return held


def _bind(port: int) -> socket.socket:
    # Bound here and handed over, since werkzeug ends the process where a port is busy.
    try:
        return socket.create_server((LOOPBACK, port))
    except OSError:
        if port == 0:
            raise
        return socket.create_server((LOOPBACK, 0))

"""Python runs this in a process of the tool that a test starts: it reports what leaves there.

Each report is one line that `ast.literal_eval` reads, appended to the file that the environment
names. Nothing is imported that every Python has not imported already: some tests count modules.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_REPORT = os.environ.pop("RELEASE_TOOL_WATCH", "")
_HOOKS = os.path.dirname(os.path.abspath(__file__))
_WRITING = os.O_WRONLY | os.O_RDWR
_SPAWNS = {"subprocess.Popen": (1, 3), "os.posix_spawn": (1, 2), "os.exec": (1, 2)}


def _path(named: str | bytes) -> str:
    try:
        return os.path.abspath(os.fsdecode(named))
    except (TypeError, ValueError, OSError):
        return ""


def _by_the_tool() -> str:
    """Whether the nearest code that is ours belongs to the tool, and not to a test."""
    frame = sys._getframe(2)
    while True:
        name = str(frame.f_globals.get("__name__"))
        if name.startswith("tests") and not name.startswith("tests.canary."):
            return ""
        if name.startswith("release_tool"):
            return name
        if frame.f_back is None:
            return ""
        frame = frame.f_back


# Quoted, for `typing` is one of the modules that tests count.
def observed(event: str, arguments: "tuple[Any, ...]") -> tuple[str, str, object] | None:
    """What an event of the interpreter tells of secrets: `(kind, module, what)`, or None."""
    if event == "open":
        path, _, flags = arguments
        if isinstance(path, int) or path is None:
            return None
        if (flags or 0) & _WRITING:
            module = _by_the_tool()
            return ("file", module, _path(path)) if module else None
        kept = "/environment/secrets/" in os.fsdecode(path)
        return ("secret", "", _path(path)) if kept else None
    if event in ("os.rename", "os.link"):
        module = _by_the_tool()
        return ("file", module, _path(arguments[1])) if module else None
    if event in ("os.mkdir", "os.symlink"):
        module = _by_the_tool()
        named = arguments[:2] if event == "os.symlink" else arguments[:1]
        return ("name", module, "\n".join(map(os.fsdecode, named))) if module else None
    if event in _SPAWNS:
        module = _by_the_tool()
        if not module:
            return None
        words, environ = (arguments[place] for place in _SPAWNS[event])
        given = os.environ if environ is None else environ
        pairs = given.items() if hasattr(given, "items") else ()
        return ("spawn", module, (_texts(words), [_texts(pair) for pair in pairs]))
    return None


def _texts(words: "str | bytes | list[str] | tuple[str, str]") -> list[str]:
    if isinstance(words, (str, bytes)):
        return [os.fsdecode(words)]
    return [os.fsdecode(word) for word in words]


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    # Its own report is a file that it writes, too.
    if arguments and arguments[0] == _REPORT:
        return
    try:
        found = observed(event, arguments)
        if found is None:
            return
        line = (repr(found) + "\n").encode("utf-8", "surrogatepass")
        descriptor = os.open(_REPORT, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
    except Exception:
        return


if _REPORT:
    sys.path[:] = [place for place in sys.path if place != _HOOKS]
    sys.addaudithook(_hook)

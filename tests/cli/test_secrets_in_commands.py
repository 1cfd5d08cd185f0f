"""A canary in every secret setting, and none of them in what any command says, whatever fails."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from release_tool import config, credentials, data, errors
from release_tool.cli import main
from release_tool.cli.console import RunConsole
from release_tool.cli.session import Session
from release_tool.credentials import Setting
from release_tool.services import covering
from tests import scripted_server
from tests.canary.plugin import Watch
from tests.scripted_server import Reply, Request, ScriptedServer
from tests.services import test_notary_token as token_parts

SECRET = tuple(setting for setting in credentials.SETTINGS if setting.secret)
PASSWORD = " canary pass\"word %41 \\ 'é\n0123456789 "


def _canary(setting: Setting) -> str:
    """A value that such a setting may have, with every character that is awkward somewhere."""
    odd = f"canary-{setting.name}'\"<%41>\\$0123456789"
    match setting.kind:
        case "p8":
            return token_parts.pem(ec.generate_private_key(ec.SECP256R1())).decode()
        case "base64":
            return base64.b64encode(b"\x30" + odd.encode()).decode()
        case "text":
            return PASSWORD
        case _:
            return odd


def _given(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a job of dev, in GitHub Actions."""
    found = {}
    for setting in SECRET:
        prefix = "DEV_" if setting.per_environment else ""
        found[f"{prefix}{setting.name}"] = _canary(setting)
    exact = {
        "APPLE_API_KEY_ID": "CANARY2X9R4HXF34",
        "APPLE_API_ISSUER_ID": "ca9a91e5-1111-4000-8000-0123456789ab",
    }
    return found | exact | {"GITHUB_ACTIONS": "true"} | dict(more or {})


def _leaks(text: str, environ: Mapping[str, str]) -> list[str]:
    return [
        name
        for name, value in environ.items()
        if name.endswith(tuple(setting.name for setting in SECRET))
        and any(form in text for form in covering.spellings(value.strip()))
    ]


@pytest.fixture
def echo() -> Iterator[ScriptedServer]:
    """A service that refuses everything, and tells all that it was sent."""

    def answer(request: Request) -> Reply:
        said = f"no: {dict(request.headers)} {request.body[:2000]!r}"
        body = json.dumps({"error": {"type": "unauthorized", "message": said}, "message": said})
        location = {"Location": f"/login?{request.headers.get('authorization', '')}"}
        status = (401, 403, 302, 400, 500)[len(server.requests) % 5]
        return Reply(status, body.encode(), location)

    with scripted_server.running() as server:
        server.says(answer)
        yield server


@pytest.fixture
def release(tmp_path: Path, echo: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A release file of which everything leads to that service, on any host."""
    monkeypatch.chdir(tmp_path)
    text = data.release_file().read_text()
    text = text.replace("signer: codesign", "signer: portable")
    text = text.replace("http://timestamp.apple.com/ts01", f"{echo.url}/ts01")
    path = tmp_path / "canary.yaml"
    path.write_text(text)
    return path


def _said(argv: list[str], environ: Mapping[str, str]) -> tuple[int, str]:
    out = io.StringIO()
    code = main.invoke(argv, Session(dict(environ), out=out, err=out))
    return code, out.getvalue()


def _addresses(url: str) -> dict[str, str]:
    return {
        "DEV_R2_ENDPOINT": url,
        "DEV_R2_PUBLIC_URL": f"{url}/public",
        "DEV_R2_BUCKET": "releases",
        "DEV_COORDINATOR_URL": url,
        "NOTARY_URL": url,
        "TICKET_URL": url,
        "GITHUB_API_URL": url,
        "GITHUB_UPLOADS_URL": url,
    }


COMMANDS = [
    ("plan", "--env", "dev", "--version", "0.5.0"),
    ("doctor", "--env", "dev"),
    ("status", "dist/dev/0.5.0"),
    ("run", "--env", "dev", "--version", "0.5.0", "--only", "register"),
    ("run", "--env", "dev", "--version", "0.5.0", "--until", "profile"),
    ("run", "--env", "dev", "--version", "0.5.0", "--dry-run"),
]


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: " ".join(words[:1] + words[5:]))
def test_no_command_says_a_secret(
    command: tuple[str, ...], as_json: bool, release: Path, echo: ScriptedServer
) -> None:
    """Every secret setting holds a canary; plan, doctor, status and run name settings only."""
    environ = _given(_addresses(echo.url))
    config_file = () if command[0] == "status" else ("--config", str(release))
    argv = [*command, *config_file, *(["--json"] if as_json else [])]
    _, text = _said(argv, environ)
    assert text
    assert _leaks(text, environ) == []


@pytest.mark.parametrize("setting", SECRET, ids=lambda setting: setting.name)
@pytest.mark.parametrize("command", ["plan", "doctor"])
def test_a_value_of_the_wrong_kind_is_told_without_it(
    command: str, setting: Setting, release: Path
) -> None:
    """A password in the place of a key, a key in the place of a file: named, and not shown."""
    prefix = "DEV_" if setting.per_environment else ""
    wrong = {f"{prefix}{setting.name}": "canary of\nanother kind-0123456789"}
    environ = _given(wrong)
    argv = [command, "--env", "dev", "--config", str(release)]
    _, text = _said(argv + (["--version", "0.5.0"] if command == "plan" else []), environ)
    # A password fits nothing or its file: the file is named.
    assert setting.name in text or setting.kind == "text"
    assert _leaks(text, environ) == []


BUGS: tuple[Callable[[str], Exception], ...] = (
    lambda value: ValueError(f"Invalid header value {value.encode()!r}"),
    lambda value: KeyError(value),
    lambda value: RuntimeError(json.dumps({"headers": {"authorization": value}})),
    lambda value: errors.RemoteRefusedError("refused", observed=value, details=[value]),
    lambda value: errors.HostError(f"cannot use {value}", subject=value, hint=value),
)


@pytest.mark.parametrize("setting", SECRET, ids=lambda setting: setting.name)
@pytest.mark.parametrize("as_json", [False, True])
def test_neither_a_bug_nor_an_error_prints_a_secret(
    setting: Setting, as_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a library put into a text is covered last, in tracebacks and annotations too."""
    environ = _given()
    value = next(value for name, value in environ.items() if name.endswith(setting.name))
    for bug in BUGS:
        problem = bug(value)

        def fail(*_: object, problem: Exception = problem, **__: object) -> None:
            if isinstance(problem, errors.ReleaseError):
                raise problem
            raise RuntimeError(f"while handling {value}") from problem

        monkeypatch.setattr(config, "resolve", fail)
        argv = ["plan", "--env", "dev", *(["--json"] if as_json else [])]
        code, text = _said(argv, environ)
        assert code in (errors.EXIT_BUG, 3, 7)
        assert covering.COVER in text
        assert _leaks(text, environ) == []


def test_what_a_run_notes_shows_no_secret() -> None:
    """Notes of retries and lines of failed stages go through the same cover."""
    environ, out = _given(), io.StringIO()
    console = RunConsole(Session(environ, out=out, err=out))
    for name, value in environ.items():
        reporter = console.reporter("publish")
        reporter.note(f"trying again in 3 s: {value}")
        console.failed("publish", errors.TransientError(f"{name} {value.strip()}"))
    assert "trying again" in out.getvalue()
    assert _leaks(out.getvalue(), environ) == []


def test_a_short_value_garbles_nothing() -> None:
    """A password of one letter cannot be covered: the text would be lost, and tells nothing."""
    text = "release-tool: a password of one letter"
    assert credentials.covered(text, {"APPLE_CERTIFICATE_PASSWORD": "a"}) == text


def test_every_secret_setting_is_watched(
    request: pytest.FixtureRequest, release: Path, echo: ScriptedServer
) -> None:
    """One resolved release is enough for the watch over the suite to know every secret by name."""
    watch = request.config.pluginmanager.get_plugin("canary")
    assert isinstance(watch, Watch)
    watch.needles.names.clear()
    environ = _given(_addresses(echo.url))
    _said(["plan", "--env", "dev", "--version", "0.5.0", "--config", str(release)], environ)
    assert {setting.name for setting in SECRET} <= {
        name.removeprefix("DEV_") for name in watch.needles.names
    }

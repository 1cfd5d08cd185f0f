"""Credentials: which name wins, everything missing at once, and secrets that nothing shows."""

from __future__ import annotations

import ast
import base64
import copy
import dataclasses
import io
import json
import logging
import pickle
import re
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.traceback import Traceback

import release_tool
from release_tool import credentials, errors
from release_tool.cli.session import Session
from release_tool.credentials import Credentials, Lookup, Secret

VALUE = "hunter2-hunter2"
BY_NAME = {setting.name: setting for setting in credentials.SETTINGS}

WRITERS: list[Callable[[Secret], str]] = [
    repr,
    str,
    "{}".format,
    lambda secret: f"{secret!r:>40} {secret:^40}",
    lambda secret: "%s %r" % (secret, secret),  # noqa: UP031 - the old way must not show it either
    lambda secret: json.dumps({"key": secret}, default=str),
    lambda secret: repr(dir(secret)),
    lambda secret: repr([secret, {"a": secret}]),
    lambda secret: repr(Credentials(secrets={"RELEASE_KEY": secret})),
    lambda secret: repr(credentials.Found(variable="RELEASE_KEY", value=secret)),
    lambda secret: repr(Lookup(values={"RELEASE_KEY": secret.reveal()})),
]


@pytest.mark.parametrize("write", WRITERS)
def test_no_way_of_writing_shows_a_secret(write: Callable[[Secret], str]) -> None:
    """Printing, formatting and holding a secret shows its name at most."""
    assert VALUE not in write(Secret("RELEASE_KEY", VALUE))


def test_only_reveal_gives_the_value() -> None:
    """The one call that needs the value gets it."""
    assert Secret("RELEASE_KEY", VALUE).reveal() == VALUE
    assert f"{Secret('RELEASE_KEY', VALUE)}" == "<secret RELEASE_KEY>"


SERIALIZERS: list[Callable[[Secret], object]] = [
    pickle.dumps,
    lambda secret: pickle.dumps([secret], protocol=0),
    json.dumps,
    copy.copy,
    copy.deepcopy,
    vars,
    hash,
    lambda secret: secret.__getstate__(),
    lambda secret: dataclasses.asdict(credentials.Found(variable="X", value=secret)),
    yaml.safe_dump,
]


@pytest.mark.parametrize("serialize", SERIALIZERS)
def test_a_secret_is_not_serialized(serialize: Callable[[Secret], object]) -> None:
    """Pickle, JSON, YAML and copies refuse it."""
    with pytest.raises((TypeError, yaml.YAMLError)) as caught:
        serialize(Secret("RELEASE_KEY", VALUE))
    assert VALUE not in str(caught.value)


def test_a_log_shows_the_name(caplog: pytest.LogCaptureFixture) -> None:
    """A secret that reaches a log line is named there."""
    logging.getLogger("release").warning("key %s", Secret("RELEASE_KEY", VALUE))
    assert "<secret RELEASE_KEY>" in caplog.text
    assert VALUE not in caplog.text


def test_a_traceback_with_locals_shows_no_secret() -> None:
    """Even a report that prints every local variable has only the names."""
    secret = Secret("PROVISIONING_PROFILE_BASE64", VALUE + "%")
    shown = io.StringIO()
    with pytest.raises(errors.CredentialError) as caught:
        secret.decoded()
    problem = caught.value
    lines = traceback.TracebackException.from_exception(problem, capture_locals=True).format()
    assert VALUE not in "".join(lines)
    assert VALUE not in json.dumps(problem.as_json())
    report = Traceback.from_exception(
        type(problem), problem, problem.__traceback__, show_locals=True
    )
    Console(file=shown, width=200).print(report)
    assert "PROVISIONING_PROFILE_BASE64" in shown.getvalue()
    assert VALUE not in shown.getvalue()


_HOLDS = re.compile(r"environ$|secret|password|session_token|p12|private_key|identity$")
_TEXTS = ("str", "bytes", "bytes | None", "str | None", "Mapping[str, str]")


def _fields() -> Iterator[tuple[str, str, str]]:
    """Class and name, type and default of every field that the tool declares."""
    for path in Path(release_tool.__file__).parent.rglob("*.py"):
        for owner in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(owner, ast.ClassDef):
                for line in owner.body:
                    if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                        default = ast.unparse(line.value) if line.value else ""
                        yield (
                            f"{owner.name}.{line.target.id}",
                            ast.unparse(line.annotation),
                            default,
                        )


def test_no_repr_shows_what_may_be_a_secret() -> None:
    """A field that holds a secret as text, or an environment with many, is left out of reprs."""
    shown = {
        name
        for name, kind, default in _fields()
        if _HOLDS.search(name.partition(".")[2]) and kind in _TEXTS and "repr=False" not in default
    }
    # A name in the keychain.
    assert shown == {"Product.signing_identity"}
    assert "of-the-job" not in repr(Session({"RELEASE_KEY": "of-the-job"}))


@given(st.binary(max_size=200))
def test_base64_comes_back_as_bytes(data: bytes) -> None:
    """Wrapped or not, what was encoded is decoded."""
    assert Secret("P12", base64.encodebytes(data).decode()).decoded() == data


DEV = {"prefix": "DEV_"}
PROD = {"prefix": "PROD_", "legacy_fallback": True}
WINNERS = [
    (DEV, {"DEV_RELEASE_KEY": "a"}, "DEV_RELEASE_KEY"),
    (DEV, {"RELEASE_KEY": "a"}, None),
    (DEV, {"PROD_RELEASE_KEY": "a"}, None),
    (DEV, {"DEV_RELEASE_KEY": "", "RELEASE_KEY": "a"}, None),
    (PROD, {"PROD_RELEASE_KEY": "a", "RELEASE_KEY": "b"}, "PROD_RELEASE_KEY"),
    (PROD, {"PROD_RELEASE_KEY": "", "RELEASE_KEY": "b"}, "RELEASE_KEY"),
    (PROD, {"PROD_RELEASE_KEY": " \t\n", "RELEASE_KEY": "b"}, "RELEASE_KEY"),
    (PROD, {"RELEASE_KEY": " "}, None),
    (PROD, {"DEV_RELEASE_KEY": "a"}, None),
    (PROD, {}, None),
]


@pytest.mark.parametrize(("rule", "values", "winner"), WINNERS)
@pytest.mark.parametrize("name", credentials.SEVEN)
def test_which_name_wins(
    rule: dict[str, object], values: dict[str, str], winner: str | None, name: str
) -> None:
    """For each of the seven: the prefix first, the bare name for prod only, empty is unset."""
    renamed = {key.replace("RELEASE_KEY", name): value for key, value in values.items()}
    lookup = Lookup(values=renamed, **rule)  # type: ignore[arg-type] # a table of keywords
    found = credentials.find(BY_NAME[name], lookup)
    assert (found.variable if found else None) == (
        winner.replace("RELEASE_KEY", name) if winner else None
    )


def test_there_are_seven_settings_and_three_secrets() -> None:
    """The table is the contract's."""
    assert sorted(credentials.SEVEN) == [
        "COORDINATOR_URL",
        "R2_ACCESS_KEY_ID",
        "R2_BUCKET",
        "R2_ENDPOINT",
        "R2_PUBLIC_URL",
        "R2_SECRET_ACCESS_KEY",
        "RELEASE_KEY",
    ]
    assert {name for name in credentials.SEVEN if BY_NAME[name].secret} == {
        "R2_ACCESS_KEY_ID",
        "R2_SECRET_ACCESS_KEY",
        "RELEASE_KEY",
    }


def test_the_legacy_name_is_told_and_never_its_value() -> None:
    """The notice names both keys."""
    lookup = Lookup(values={"RELEASE_KEY": VALUE}, prefix="PROD_", legacy_fallback=True)
    found = credentials.find(BY_NAME["RELEASE_KEY"], lookup)
    assert found is not None
    notice = credentials.legacy_notice(BY_NAME["RELEASE_KEY"], lookup, found)
    assert "PROD_RELEASE_KEY" in notice
    assert "RELEASE_KEY serves" in notice
    assert VALUE not in notice


@pytest.mark.parametrize("name", ["APPLE_CERTIFICATE_P12", "APPLE_CERTIFICATE_PASSWORD"])
def test_apple_settings_are_shared(name: str) -> None:
    """They have no prefix in any environment."""
    lookup = Lookup(values={f"DEV_{name}": "a"}, prefix="DEV_")
    assert credentials.find(BY_NAME[name], lookup) is None
    assert credentials.names(BY_NAME[name], lookup) == (name,)


def test_space_around_a_key_goes_and_in_a_password_stays() -> None:
    """A pasted key loses its line end; a password is taken as it is."""
    lookup = Lookup(values={"RELEASE_KEY": f" {VALUE}\n", "APPLE_CERTIFICATE_PASSWORD": " a b "})
    key = credentials.find(BY_NAME["RELEASE_KEY"], lookup)
    password = credentials.find(BY_NAME["APPLE_CERTIFICATE_PASSWORD"], lookup)
    assert key is not None
    assert password is not None
    assert key.value.reveal() == VALUE
    assert password.value.reveal() == " a b "


def _missing(*names: str) -> Credentials:
    lookup = Lookup(values={}, prefix="DEV_")
    return Credentials(
        secrets={}, missing=tuple(credentials.missing(BY_NAME[name], lookup) for name in names)
    )


def test_all_missing_settings_are_named_at_once() -> None:
    """One error, exit 4, with every name."""
    with pytest.raises(errors.CredentialError) as caught:
        _missing(*credentials.SEVEN).require()
    assert caught.value.exit_code == 4
    text = "\n".join(caught.value.lines())
    assert all(f"DEV_{name}" in text for name in credentials.SEVEN)
    assert len(caught.value.details) == 7


def test_a_stage_asks_only_for_what_it_needs() -> None:
    """What no stage of the run needs, and what a flag replaces, is not asked for."""
    everything = _missing(*(name for name in BY_NAME if not BY_NAME[name].optional))
    everything.require(["assemble", "archive", "smoke"])
    everything.require(["profile"], supplied=["PROVISIONING_PROFILE_BASE64"])
    lacking = [entry.name for entry in everything.lacking(["register"])]
    assert lacking == ["R2_PUBLIC_URL", "COORDINATOR_URL", "RELEASE_KEY"]
    with pytest.raises(errors.CredentialError, match="1 setting is missing"):
        everything.secret("RELEASE_KEY")


FAULTS = [
    ("COORDINATOR_URL", "http://api.example.com", "in the clear"),
    ("COORDINATOR_URL", "https://user:hunter2-hunter2@api.example.com", "credentials"),
    ("COORDINATOR_URL", "https://api.example.com/?token=hunter2-hunter2", "query"),
    ("COORDINATOR_URL", "https://api.example.com/#hunter2-hunter2", "fragment"),
    ("R2_PUBLIC_URL", "ftp://hunter2-hunter2", "not absolute"),
    ("R2_ENDPOINT", "api.example.com", "not absolute"),
    ("R2_BUCKET", "Hunter2-hunter2/x", "bucket"),
    ("RELEASE_KEY", "hunter2-hunter2\nX-Other: 1", "one line"),
    ("R2_SECRET_ACCESS_KEY", "hunter2-hunter2 ü", "one line"),
    ("APPLE_CERTIFICATE_P12", "hunter2-hunter2!", "base64"),
    ("APPLE_API_KEY_P8", "hunter2-hunter2", ".p8 file"),
    ("APPLE_API_KEY_P8", "-----BEGIN CERTIFICATE-----\nhunter2-hunter2", ".p8 file"),
    ("APPLE_API_KEY_P8", "aHVudGVyMi1odW50ZXIy", ".p8 file"),
    ("APPLE_API_KEY_ID", "hunter2 hunter2", "one line"),
]


@pytest.mark.parametrize(("name", "value", "reason"), FAULTS)
def test_a_value_that_cannot_be_right_is_told_without_it(
    name: str, value: str, reason: str
) -> None:
    """The reason names the variable that won and never shows what it holds."""
    lookup = Lookup(values={name: value})
    found = credentials.find(BY_NAME[name], lookup)
    assert found is not None
    fault = credentials.fault(BY_NAME[name], found)
    assert reason in fault
    assert name in fault
    assert "unter2" not in fault


P8 = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\n-----END PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("COORDINATOR_URL", "https://api.dev.darkbloom.xyz"),
        ("R2_PUBLIC_URL", "https://cdn.example.com/a/prefix/"),
        ("R2_ENDPOINT", "http://127.0.0.1:9000"),
        ("R2_ENDPOINT", "http://[::1]:9000"),
        ("R2_BUCKET", "d-inf-app-dev"),
        ("RELEASE_KEY", "abc/+=123"),
        ("APPLE_API_KEY_P8", P8),
        ("APPLE_API_KEY_P8", base64.encodebytes(P8.encode()).decode()),
        ("APPLE_API_KEY_P8", f"\n{P8}\n"),
    ],
)
def test_good_values_pass(name: str, value: str) -> None:
    """Plain http is for this machine only; everything else is as the contract has it."""
    found = credentials.find(BY_NAME[name], Lookup(values={name: value}))
    assert found is not None
    assert credentials.fault(BY_NAME[name], found) == ""


def test_an_api_key_comes_as_text_or_as_its_base64() -> None:
    """Both spellings give the bytes of the file."""
    encoded = base64.encodebytes(P8.encode()).decode()
    for value in (P8, encoded):
        assert credentials.p8(Secret("APPLE_API_KEY_P8", value)) == P8.encode()


NOTARY_ROUTES = [
    (True, {"APPLE_ID": "a@b.c", "APPLE_APP_PASSWORD": "p"}, credentials.API_KEY),
    (False, {"APPLE_ID": "a@b.c", "APPLE_APP_PASSWORD": "p"}, ()),
    (True, {"APPLE_ID": "a@b.c", "APPLE_APP_PASSWORD": " "}, ()),
    (True, {"APPLE_ID": "a@b.c", "APPLE_APP_PASSWORD": "p", "APPLE_API_KEY_ID": "k"}, ()),
    (True, {}, ()),
]


@pytest.mark.parametrize(("on_a_mac", "values", "replaced"), NOTARY_ROUTES)
def test_todays_secrets_serve_on_a_mac_without_a_key(
    on_a_mac: bool, values: dict[str, str], replaced: tuple[str, ...]
) -> None:
    """An Apple id with its password replaces a whole missing key, on a Mac and nowhere else."""
    assert credentials.replaced_by_notarytool(values, on_a_mac=on_a_mac) == replaced


def test_a_missing_api_key_is_explained() -> None:
    """Exit 4 says how to make a key, and that today's secrets serve on a Mac only."""
    with pytest.raises(errors.CredentialError) as caught:
        _missing(*credentials.API_KEY).require(["notarize"])
    text = "\n".join(caught.value.lines())
    assert "Team Keys, role Developer" in text
    assert "APPLE_APP_PASSWORD serves on a Mac only" in text


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=20)))
def test_a_child_gets_no_setting(environ: dict[str, str]) -> None:
    """Only names of the allow-list pass, whatever else there is."""
    secret = {f"{prefix}{name}": VALUE for prefix in ("", "PROD_") for name in BY_NAME}
    kept = credentials.scrubbed({**environ, **secret, "PATH": "/bin", "HTTPS_PROXY": VALUE})
    assert kept["PATH"] == "/bin"
    assert VALUE not in kept.values()
    assert not set(kept) & {"GITHUB_TOKEN", "PYTHONPATH", "LD_PRELOAD", "DYLD_INSERT_LIBRARIES"}


def test_pip_gets_its_settings_and_no_secret() -> None:
    """The child that downloads sees index and proxy settings, and none of ours."""
    environ = {
        "PATH": "/bin",
        "PIP_CERT": "/ca.pem",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "DEV_RELEASE_KEY": "k",
        "APPLE_CERTIFICATE_P12": "p",
    }
    assert set(credentials.for_pip(environ)) == {"PATH", "PIP_CERT", "HTTPS_PROXY"}

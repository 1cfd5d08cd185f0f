"""Leaks that the watch must see, one in each channel, and what it must let pass.

Read by `test_canary.py`, which runs it as a session of its own. `tool` is code of the tool:
the watch asks a function's module for its name.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from release_tool.cli.session import Session
from release_tool.credentials import Secret
from release_tool.services import chat, http_client, proxies

Private = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
VALUE = 'planted-canary"é/+0123456789'
FILE = base64.b64encode(os.urandom(1200)).decode()
KEY = ed25519.Ed25519PrivateKey.generate()
TOOL: dict[str, Any] = {"__name__": "release_tool.planted"}
exec(
    """
import os, subprocess, pathlib, sys
def write(path, text): pathlib.Path(path).write_text(text)
def rename(one, other): os.rename(one, other)
def start(words, env): return subprocess.run(words, env=env, capture_output=True).stdout
def write_bytes(path, octets): pathlib.Path(path).write_bytes(octets)
def folder(path): pathlib.Path(path).mkdir()
def link(path, target): pathlib.Path(path).symlink_to(target)
""",
    TOOL,
)
write, rename, start = TOOL["write"], TOOL["rename"], TOOL["start"]
write_bytes, folder, link = TOOL["write_bytes"], TOOL["folder"], TOOL["link"]
CHILD = """
import os, subprocess, sys
code = "import subprocess, pathlib\\ndef start(words, env): subprocess.run(words, env=env)\\n"
code += "def write(path, text): pathlib.Path(path).write_text(text)\\n"
tool = {"__name__": "release_tool.planted"}
exec(code, tool)
"""


@pytest.fixture(autouse=True)
def secret() -> str:
    return Secret("RELEASE_KEY", VALUE).reveal()


def child(code: str, *words: str) -> None:
    subprocess.run([sys.executable, "-c", CHILD + code, *words], check=True, capture_output=True)


def test_leak_standard_output(secret: str) -> None:
    print("key", secret)


def test_leak_standard_error(secret: str) -> None:
    print("key", secret, file=sys.stderr)


def test_leak_captured_output(secret: str, capsys: pytest.CaptureFixture[str]) -> None:
    print("key", secret)
    capsys.readouterr()


def test_leak_output_of_a_command(secret: str) -> None:
    print(secret, file=Session({}, out=io.StringIO()).out)


def test_leak_log(secret: str) -> None:
    logging.getLogger("release").warning("key %s", secret)


def test_leak_json(secret: str) -> None:
    print(json.dumps({"key": secret}))


def test_leak_hex(secret: str) -> None:
    print(secret.encode().hex())


def test_leak_json_of_another_encoder(secret: str) -> None:
    print(json.dumps({"key": secret}).replace("+", "\\u002b").replace("/", "\\/"))


def test_leak_page(secret: str) -> None:
    print("".join(f"&#{ord(mark)};" for mark in secret))


@pytest.mark.parametrize("before", ["", "x", "xy"])
def test_leak_base64(secret: str, before: str) -> None:
    print(base64.b64encode(f"{before}{secret}xyz".encode()).decode())


def test_leak_output_of_a_child(secret: str) -> None:
    child("")
    subprocess.run(
        [sys.executable, "-c", "import sys; print(sys.argv[1])", secret], capture_output=True
    )


def test_leak_token_of_a_request() -> None:
    try:
        http_client.exchange(
            "GET",
            "http://127.0.0.1:1",
            seconds=1,
            limit_bytes=1,
            headers={"Authorization": "Bearer minted-for-one-request-0123"},
        )
    except Exception:
        print("minted-for-one-request-0123")


def test_leak_file_of_the_tool(secret: str, tmp_path: Path) -> None:
    write(tmp_path / "record.json", secret)


def test_leak_renamed_file(secret: str, tmp_path: Path) -> None:
    (tmp_path / "scratch").write_text(secret)
    rename(tmp_path / "scratch", tmp_path / "record.json")


def test_leak_temporary_file(secret: str) -> None:
    write(Path(tempfile.mkdtemp()) / "left", secret)


def test_leak_behind_much_else(secret: str, tmp_path: Path) -> None:
    write(tmp_path / "provider.log", "x" * 3_000_000 + secret)


def test_leak_packed_file(secret: str, tmp_path: Path) -> None:
    write_bytes(
        tmp_path / "handoff.tar.gz", gzip.compress(b"first") + gzip.compress(VALUE.encode())
    )


def test_leak_name_of_a_file(tmp_path: Path) -> None:
    Secret("RELEASE_KEY", "planted-name-0123456789").reveal()
    write(tmp_path / "planted-name-0123456789", "nothing")


def test_leak_name_of_a_folder(tmp_path: Path) -> None:
    Secret("RELEASE_KEY", "planted-name-0123456789").reveal()
    folder(tmp_path / "planted-name-0123456789")


def test_leak_name_of_a_link(tmp_path: Path) -> None:
    Secret("RELEASE_KEY", "planted-name-0123456789").reveal()
    link(tmp_path / "link", "planted-name-0123456789")


def test_leak_short_secret() -> None:
    print(Secret("APPLE_API_KEY_ID", "2X9R4HXF34").reveal())


def test_leak_token_of_the_provider() -> None:
    print(chat.Endpoint(port=1, token="of-the-provider-0123").token)


def test_leak_password_of_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:of-the-proxy-0123@127.0.0.1:9")
    print(proxies.passwords())


def test_leak_part_of_a_file_in_base64() -> None:
    print(Secret("APPLE_CERTIFICATE_P12", FILE).reveal()[200:400])


def test_leak_decoded_file(tmp_path: Path) -> None:
    write_bytes(tmp_path / "identity.p12", Secret("APPLE_CERTIFICATE_P12", FILE).decoded())


@pytest.mark.parametrize("private", [ec.generate_private_key(ec.SECP256R1()), KEY])
def test_leak_key_that_was_read(private: Private, tmp_path: Path) -> None:
    made = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    Secret("APPLE_API_KEY_P8", made.decode()).reveal()
    der = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    write_bytes(tmp_path / "key.der", der)


def test_leak_number_of_a_key() -> None:
    made = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    Secret("PROVENANCE_KEY", base64.b64encode(made * 3).decode()).reveal()
    print(KEY.private_bytes_raw().hex())


def test_leak_arguments(secret: str) -> None:
    start(["/bin/true", "--password", secret], {})


def test_leak_environment(secret: str) -> None:
    start(["/bin/true"], {"KEY": secret})


def test_leak_whole_environment() -> None:
    start(["/bin/true"], None)


def test_leak_variable_of_a_setting(tmp_path: Path) -> None:
    print(Session({"PROD_ADMIN_KEY": "of-the-environment-0123"}).environ)


def test_leak_arguments_inside_a_process_of_the_tool(secret: str) -> None:
    child("tool['start'](['/bin/true', sys.argv[1]], {})", secret)


def test_leak_environment_inside_a_process_of_the_tool() -> None:
    child("tool['start'](['/bin/true'], None)")


def test_leak_file_inside_a_process_of_the_tool(secret: str, tmp_path: Path) -> None:
    child("tool['write'](sys.argv[1], sys.argv[2])", str(tmp_path / "record"), secret)


def test_leak_secret_of_the_embedded_environment(tmp_path: Path) -> None:
    folder = tmp_path / "environment" / "secrets"
    folder.mkdir(parents=True)
    (folder / "release-key").write_text("of-the-embedded-environment-0123")
    print((folder / "release-key").read_text())


def test_clean_use(secret: str, tmp_path: Path) -> None:
    print("key", Secret("RELEASE_KEY", secret))
    write(tmp_path / "record.json", "nothing of it")
    start(["/bin/true"], {"PATH": "/usr/bin"})
    child("tool['start'](['/bin/true'], {})")


def test_clean_file_of_a_test(secret: str, tmp_path: Path) -> None:
    (tmp_path / "key.p8").write_text(secret)


def test_clean_setting_that_is_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    print(Secret("R2_BUCKET", "darkbloom-releases").reveal())


def test_clean_inherited_by_what_a_test_starts() -> None:
    subprocess.run(["/bin/true"], env=dict(os.environ))

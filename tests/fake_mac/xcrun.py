"""Stands in for `/usr/bin/xcrun`: stapler and notarytool."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from tests.fake_mac.play import Stage

_ID = "2efe2717-52ef-43a5-96dc-0797e4ca1041"
_HISTORY = 100


def answer(stage: Stage, argv: list[str]) -> None:
    """One start."""
    stage.record(argv)
    if argv[:3] == ["stapler", "validate", "-v"] and len(argv) == 4:
        _validate(stage, Path(argv[3]))
    elif argv[:1] == ["notarytool"] and len(argv) > 1:
        _notarytool(stage, argv[1], argv[2:])
    else:
        stage.usage(argv)


def _validate(stage: Stage, app: Path) -> None:
    stage.fault("stapler")
    sys.stdout.write(f"Processing: {app}\n")
    if not (app / "Contents/CodeResources").exists():
        sys.stdout.write(f"{app.name} does not have a ticket stapled to it.\n")
        stage.leave(65)
    sys.stdout.write("The validate action worked!\n")


def _notarytool(stage: Stage, command: str, words: list[str]) -> None:
    if command == "store-credentials":
        _store(stage, words)
        return
    options, rest = _options(stage, words)
    if options.get("--output-format") != "json" or "--password" in options:
        stage.usage(words)
    stage.fault(f"notarytool {command}")
    _require_profile(stage, options)
    if command == "submit":
        _submit(stage, rest)
    elif command == "info":
        _say({**_found(stage, rest[0]), "message": "Successfully received submission info"})
    elif command == "history":
        known = list(stage.state.get("submissions", {}).values())
        _say({"history": known[:_HISTORY], "message": "Successfully received submission history"})
    elif command == "log":
        _log(stage, rest)
    else:
        stage.usage(words)


def _options(stage: Stage, words: list[str]) -> tuple[dict[str, str], list[str]]:
    valued = {"--keychain-profile", "--keychain", "--output-format"}
    found: dict[str, str] = {}
    rest: list[str] = []
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if word in valued and waiting:
            found[word] = waiting.pop(0)
        elif word == "--no-progress":
            found[word] = ""
        elif word.startswith("-"):
            stage.usage(words)
        else:
            rest.append(word)
    return found, rest


def _require_profile(stage: Stage, options: dict[str, str]) -> None:
    name = options.get("--keychain-profile", "")
    keychain = stage.state["keychains"].get(options.get("--keychain", ""), {})
    if not keychain.get("unlocked") or name not in keychain.get("profiles", {}):
        stage.leave(69, f"Error: No Keychain password item found for profile: {name}")


def _store(stage: Stage, words: list[str]) -> None:
    """Ask for the password on the terminal, as getpass does, and nowhere else."""
    name, *rest = words
    options = dict(zip(rest[::2], rest[1::2], strict=True))
    if set(options) != {"--apple-id", "--team-id", "--keychain"}:
        stage.usage(words)
    stage.fault("notarytool store-credentials")
    sys.stdout.write(
        "\nThis process stores your credentials securely in the Keychain. You reference these"
        " credentials later using a profile name.\n\n"
    )
    sys.stdout.flush()
    password = _prompt(f"App-specific password for {options['--apple-id']}: ")
    sys.stdout.write("Validating your credentials...\n")
    if password != stage.state.get("app_password"):
        stage.leave(
            69,
            "Error: HTTP status code: 401. Invalid credentials. Username or password is incorrect."
            " Use the app-specific password generated at appleid.apple.com. Ensure that all"
            " authentication arguments are correct.",
        )
    sys.stdout.write("Success. Credentials validated.\nCredentials saved to Keychain.\n")
    keychain = stage.state["keychains"][options["--keychain"]]
    keychain["profiles"][name] = {"id": options["--apple-id"], "team": options["--team-id"]}


def _prompt(text: str) -> str:
    """From the controlling terminal, its echo off, what was typed before thrown away."""
    import termios

    terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    attributes = termios.tcgetattr(terminal)
    attributes[3] &= ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSAFLUSH, attributes)
    os.write(terminal, text.encode())
    typed = b""
    while not typed.endswith(b"\n"):
        typed += os.read(terminal, 1024)
    os.write(terminal, b"\n")
    return typed.decode().rstrip("\n")


def _submit(stage: Stage, rest: list[str]) -> None:
    (path,) = rest
    if not Path(path).is_file():
        stage.leave(66, f"Error: {path} does not exist")
    import hashlib

    known = stage.state.setdefault("submissions", {})
    known[_ID] = {
        "createdDate": "2026-11-26T20:00:00.123Z",
        "id": _ID,
        "name": Path(path).name,
        "status": "In Progress",
    }
    stage.state["submitted_sha256"] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    sys.stderr.write("Conducting pre-submission checks and initiating connection…\n")
    _say({"message": "Successfully uploaded file", "id": _ID, "path": path})


def _found(stage: Stage, number: str) -> dict[str, str]:
    known = stage.state.get("submissions", {}).get(number)
    if known is None:
        stage.leave(69, "Error: Submission does not exist or does not belong to your team.")
    assert isinstance(known, dict)
    return known


def _log(stage: Stage, rest: list[str]) -> None:
    number, path = rest
    submission = _found(stage, number)
    if submission["status"] == "In Progress":
        stage.leave(69, "Submission log is not yet available or submissionId does not exist")
    log = {"jobId": number, "status": submission["status"], "issues": None}
    Path(path).write_text(json.dumps(log))
    sys.stdout.write(
        f"Successfully downloaded submission log\n  id: {number}\n  location: {path}\n"
    )


def _say(document: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")

"""Stands in for `/usr/bin/security`: keychains, their search list, identities."""

from __future__ import annotations

import os
import sys

from tests.fake_mac.play import Stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Commands that may stand in the arguments, since they carry no secret.
_OPEN = ("list-keychains", "find-identity")


def answer(stage: Stage, argv: list[str]) -> None:
    """One start: a command in the arguments, or lines on standard input after `-i`."""
    if argv == ["-i"]:
        sys.stdout.write("security> ")
        for line in sys.stdin:
            _one(stage, split(line))
            sys.stdout.write("security> ")
        return
    if not argv or argv[0] not in _OPEN:
        stage.usage(argv)
    _one(stage, argv)


def split(line: str) -> list[str]:
    """As security.c splits a line: quotes of two kinds, a backslash before any character."""
    words: list[str] = []
    word: list[str] | None = None
    quote = ""
    escaped = False
    for char in line:
        if word is None:
            if char.isspace():
                continue
            word = []
            if char in "\"'":
                quote = char
                continue
        if escaped:
            word.append(char)
            escaped = False
        elif char == "\\":
            escaped = True
        elif (quote and char == quote) or (not quote and char.isspace()):
            words.append("".join(word))
            word, quote = None, ""
        else:
            word.append(char)
    return words if word is None else [*words, "".join(word)]


def _one(stage: Stage, words: list[str]) -> None:
    stage.record(words)
    if not words:
        return
    stage.fault(f"security {words[0]}")
    command = _COMMANDS.get(words[0])
    if command is None:
        stage.usage(words)
    command(stage, words[1:])
    stage.save()


def _options(
    stage: Stage, words: list[str], flags: str, valued: str
) -> tuple[dict[str, Any], list[str]]:
    """Getopt's way: single letters, those of `valued` with a value; `-T` may come again."""
    found: dict[str, Any] = {}
    rest = list(words)
    while rest and rest[0].startswith("-"):
        letter = rest.pop(0)[1:]
        if letter in valued and rest:
            found.setdefault(letter, []).append(rest.pop(0))
        elif letter in flags:
            found[letter] = True
        else:
            stage.usage(words)
    return found, rest


def _keychain(stage: Stage, path: str) -> dict[str, Any]:
    found = stage.state["keychains"].get(path)
    if found is None:
        stage.leave(
            50, f"security: SecKeychainOpen {path}: The specified keychain could not be found."
        )
    assert isinstance(found, dict)
    return found


def _create(stage: Stage, words: list[str]) -> None:
    options, (path,) = _options(stage, words, "", "p")
    if path in stage.state["keychains"]:
        stage.leave(
            48, f"security: SecKeychainCreate {path}: A keychain with the same name exists."
        )
    (password,) = options["p"]
    if len(password) < 32 or not path.startswith("/"):
        stage.usage(words)
    with open(path, "wb") as made:
        made.write(b"kych")
    stage.state["keychains"][path] = {
        "password": password,
        "timeout": True,
        "unlocked": False,
        "partitions": "",
        "identities": [],
        "profiles": {},
    }


def _settings(stage: Stage, words: list[str]) -> None:
    if len(words) != 1:
        stage.usage(words)
    _keychain(stage, words[0])["timeout"] = False


def _unlock(stage: Stage, words: list[str]) -> None:
    options, (path,) = _options(stage, words, "", "p")
    keychain = _keychain(stage, path)
    if options["p"] != [keychain["password"]]:
        stage.leave(
            51,
            "security: SecKeychainUnlock: The user name or passphrase you entered is not correct.",
        )
    keychain["unlocked"] = True


def _import(stage: Stage, words: list[str]) -> None:
    source = words[0]
    options, rest = _options(stage, words[1:], "x", "kfPT")
    if rest or options["f"] != ["pkcs12"] or not options.get("x"):
        stage.usage(words)
    if os.stat(source).st_mode & 0o077:
        stage.usage([*words, "others can read the file"])
    keychain = _keychain(stage, options["k"][0])
    if not keychain["unlocked"]:
        stage.leave(51, "security: SecKeychainItemImport: User interaction is not allowed.")
    with open(source, "rb") as p12:
        data = p12.read()
    keychain["identities"].append(_identity(stage, data, options["P"][0]))
    keychain["trusted"] = options["T"]
    for name, content in (("p12", data), ("password", options["P"][0].encode())):
        with open(f"{stage.folder}/imported.{name}", "wb") as kept:
            kept.write(content)
    sys.stdout.write("1 identity imported.\n")


def _identity(stage: Stage, data: bytes, password: str) -> list[str]:
    import hashlib

    expected = stage.state["known"]
    digest = hashlib.sha256(data + password.encode()).hexdigest()
    known = expected.get(digest) or expected.get("any")
    if known:
        return list(known)
    stage.with_packages()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.serialization import pkcs12
    from cryptography.x509.oid import NameOID

    from release_tool.apple import pkcs12 as outer

    if set(outer.read(data).algorithms) != {"Triple DES with SHA-1"}:
        stage.leave(1, "security: SecKeychainItemImport: Unknown format in import.")
    try:
        loaded = pkcs12.load_pkcs12(data, password.encode())
    except ValueError:
        stage.leave(
            1,
            "security: SecKeychainItemImport: MAC verification failed during PKCS12 import"
            " (wrong password?)",
        )
    if loaded.cert is None or loaded.key is None:
        stage.leave(1, "security: SecKeychainItemImport: One or more parameters were not valid.")
    certificate = loaded.cert.certificate
    sha1 = hashlib.sha1(certificate.public_bytes(serialization.Encoding.DER))
    name = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    return [sha1.hexdigest().upper(), str(name)]


def _partitions(stage: Stage, words: list[str]) -> None:
    options, (path,) = _options(stage, words, "s", "Sk")
    keychain = _keychain(stage, path)
    if options["k"] != [keychain["password"]] or not options.get("s"):
        stage.leave(51, "security: SecKeychainItemSetAccessWithPassword: not correct.")
    keychain["partitions"] = options["S"][0]
    sys.stdout.write('keychain: "…"\nversion: 512\nclass: 0x00000010\nattributes:\n')


def _list(stage: Stage, words: list[str]) -> None:
    if words[:2] != ["-d", "user"]:
        stage.usage(words)
    if words[2:3] == ["-s"]:
        stage.state["search"] = words[3:]
    elif words[2:]:
        stage.usage(words)
    else:
        for entry in stage.state["search"]:
            escaped = entry.replace("\\", "\\\\").replace('"', '\\"')
            sys.stdout.write(f'    "{escaped}"\n')


def _find(stage: Stage, words: list[str]) -> None:
    if words[:3] != ["-v", "-p", "codesigning"] or len(words) > 4:
        stage.usage(words)
    places = words[3:] or stage.state["search"]
    if words[3:]:
        _keychain(stage, words[3])
    known = stage.state["keychains"]
    found = [one for place in places for one in known.get(place, {}).get("identities", ())]
    for number, (sha1, name) in enumerate(found, 1):
        sys.stdout.write(f'  {number}) {sha1} "{name}"\n')
    sys.stdout.write(f"     {len(found)} valid identities found\n")


def _delete(stage: Stage, words: list[str]) -> None:
    (path,) = words
    _keychain(stage, path)
    del stage.state["keychains"][path]
    stage.state["search"] = [entry for entry in stage.state["search"] if entry != path]
    os.unlink(path)


_COMMANDS = {
    "create-keychain": _create,
    "set-keychain-settings": _settings,
    "unlock-keychain": _unlock,
    "import": _import,
    "set-key-partition-list": _partitions,
    "list-keychains": _list,
    "find-identity": _find,
    "delete-keychain": _delete,
}

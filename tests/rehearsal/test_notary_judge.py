"""What the look-alike notary finds in an upload, and how it survives hostile ones.

It judges with our own readers, so this proves its wording and its wiring, not Apple's rules.
"""

from __future__ import annotations

import hashlib
import io
import plistlib
import stat
import struct
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import pytest

from release_tool.apple import macho
from release_tool.apple.certificates import Trust
from release_tool.rehearsal import notary_judge, notary_zip
from release_tool.rehearsal.authority import Authority
from release_tool.rehearsal.notary_judge import Judge, Upload
from release_tool.rehearsal.notary_store import Verdict
from release_tool.rehearsal.ticket_signer import TicketSigner
from tests import macho_samples, signed_release
from tests.rehearsal import notary_samples
from tests.rehearsal.notary_client import zipped

APP = "Darkbloom.app/"
MAIN = f"{APP}Contents/MacOS/darkbloom"
ENCLAVE = f"{APP}Contents/MacOS/darkbloom-enclave"


@lru_cache
def strangers() -> Trust:
    """The roots of another authority."""
    return signed_release.trust_of(Authority.create(signed_release.TEAM))


def judged(
    archive: bytes, folder: Path, *, declared: str | None = None, trust: Trust | None = None
) -> Verdict:
    """The verdict on an archive called `a.zip`; nothing of it is left behind."""
    path, scratch = folder / "a.zip", folder / "scratch"
    path.write_bytes(archive)
    scratch.mkdir(exist_ok=True)
    actual = hashlib.sha256(archive).hexdigest()
    upload = Upload(archive=path, name="a.zip", declared_sha256=declared or actual, sha256=actual)
    release = signed_release.made()
    verdict = Judge(trust or release.trust, scratch).judge(upload, now=release.now)
    assert not list(scratch.iterdir())
    return verdict


def app(changed: Mapping[str, bytes | None] | None = None) -> dict[str, bytes]:
    """The signed app's files, some changed or (None) left out."""
    release = signed_release.made()
    files = {path: data for path, data in release.files.items() if path.startswith(APP)}
    merged: dict[str, bytes | None] = {**files, **(changed or {})}
    return {path: data for path, data in merged.items() if data is not None}


def issues(verdict: Verdict) -> list[tuple[str, str, str | None]]:
    assert verdict.status == "Invalid"
    assert verdict.code == 4000
    assert not verdict.contents
    return [(item.message, item.path, item.architecture) for item in verdict.issues]


def changed_byte(data: bytes, offset: int) -> bytes:
    return data[:offset] + bytes([data[offset] ^ 1]) + data[offset + 1 :]


def with_old_sdk(code: bytes) -> bytes:
    """A Mach-O whose build version names SDK 10.8."""
    (found,) = macho.parse(code)
    command = next(item for item in found.commands if item.command == 0x32)
    data = bytearray(code)
    struct.pack_into("<I", data, command.offset + 16, macho.packed_version("10.8"))
    return bytes(data)


@lru_cache
def tool(kind: str) -> bytes:
    """A tool with one thing wrong."""
    code = macho_samples.thin()
    match kind:
        case "good":
            return notary_samples.signed(code)
        case "unsigned":
            return macho_samples.unsigned()
        case "ad-hoc":
            return notary_samples.signed(code, adhoc=True)
        case "no timestamp":
            return notary_samples.signed(code, timestamped=False)
        case "not hardened":
            return notary_samples.signed(code, hardened=False)
        case "debuggable":
            return notary_samples.signed(code, claims={notary_samples.TASK_ALLOW: True})
        case "not debuggable":
            return notary_samples.signed(code, claims={notary_samples.TASK_ALLOW: False})
        case "old SDK":
            return notary_samples.signed(with_old_sdk(code))
        case "changed page":
            return changed_byte(tool("good"), 0x1000)
    raise AssertionError(kind)


COMPLAINTS = {
    "good": [],
    "not debuggable": [],
    "unsigned": [notary_judge.UNSIGNED],
    "ad-hoc": [notary_judge.NOT_DEVELOPER_ID, notary_judge.NO_TIMESTAMP],
    "no timestamp": [notary_judge.NO_TIMESTAMP],
    "not hardened": [notary_judge.NOT_HARDENED],
    "debuggable": [notary_judge.DEBUGGABLE],
    "old SDK": [notary_judge.OLD_SDK],
    "changed page": [notary_judge.BAD_SIGNATURE],
}


@pytest.mark.parametrize("kind", COMPLAINTS)
def test_each_requirement_has_its_message(tmp_path: Path, kind: str) -> None:
    """One thing wrong gives that one issue, wherever in the zip the code lies."""
    verdict = judged(zipped({"deep/in/a/folder/data.bin": tool(kind)}), tmp_path)
    if not COMPLAINTS[kind]:
        assert (verdict.status, verdict.code) == ("Accepted", 0)
        assert [(code.path, code.arch) for code in verdict.contents] == [
            ("a.zip/deep/in/a/folder/data.bin", "arm64")
        ]
        return
    where = "a.zip/deep/in/a/folder/data.bin"
    assert issues(verdict) == [(message, where, "arm64") for message in COMPLAINTS[kind]]


def test_all_issues_come_at_once(tmp_path: Path) -> None:
    """Of every file, slice and kind; good code beside them does not help."""
    wrong = notary_samples.signed(macho_samples.universal(), timestamped=False, hardened=False)
    files = {"a": tool("good"), "b": wrong, "c": tool("unsigned")}
    found = issues(judged(zipped(files), tmp_path))
    messages = (notary_judge.NO_TIMESTAMP, notary_judge.NOT_HARDENED)
    assert found == [
        *((message, "a.zip/b", arch) for arch in ("x86_64", "arm64") for message in messages),
        (notary_judge.UNSIGNED, "a.zip/c", "arm64"),
    ]


def test_a_stranger_is_no_developer(tmp_path: Path) -> None:
    """Whole chains that end in another root count for nothing, the timestamp's neither."""
    found = issues(judged(zipped({"tool": tool("good")}), tmp_path, trust=strangers()))
    messages = (notary_judge.NOT_DEVELOPER_ID, notary_judge.NO_TIMESTAMP)
    assert found == [(message, "a.zip/tool", "arm64") for message in messages]
    found = issues(judged(zipped(app()), tmp_path, trust=strangers()))
    assert found == [
        (message, f"a.zip/{path}", "arm64") for path in (MAIN, ENCLAVE) for message in messages
    ]


def test_one_bad_slice_is_named(tmp_path: Path) -> None:
    """The other slice of the file is not blamed."""
    whole = notary_samples.signed(macho_samples.universal())
    (arm,) = (code for code in macho.parse(whole) if code.arch == "arm64")
    found = issues(judged(zipped({"tool": changed_byte(whole, arm.offset + 0x1000)}), tmp_path))
    assert found == [(notary_judge.BAD_SIGNATURE, "a.zip/tool", "arm64")]


@pytest.mark.parametrize("whose", ["its own", "another's", "damaged"])
def test_a_stapled_ticket_is_no_matter_of_the_notary(tmp_path: Path, whose: str) -> None:
    """An app may come again, with whatever ticket it has."""
    first = judged(zipped(app()), tmp_path)
    cdhashes = [bytes.fromhex(code.cdhash) for code in first.contents]
    signer = TicketSigner(signed_release.look_alike())
    ticket = signer.issue(
        cdhashes if whose == "its own" else [bytes(20)], signed_release.made().now
    )
    content = b"damaged" if whose == "damaged" else ticket
    again = judged(zipped(app({f"{APP}Contents/CodeResources": content})), tmp_path)
    assert (again.status, again.contents) == ("Accepted", first.contents)


def test_the_app_is_accepted_with_its_code(tmp_path: Path) -> None:
    """The bundle stands in the contents under its own name, with its executable's cdhash."""
    release = signed_release.made()
    verdict = judged(zipped(app(), release.modes), tmp_path)
    assert verdict.status == "Accepted"
    found = {code.path: code.cdhash for code in verdict.contents}
    assert set(found) == {f"a.zip/{APP}".rstrip("/"), f"a.zip/{MAIN}", f"a.zip/{ENCLAVE}"}
    assert found[f"a.zip/{MAIN}"] == found[f"a.zip/{APP}".rstrip("/")] != found[f"a.zip/{ENCLAVE}"]


def plist_of(**changed: str) -> bytes:
    info = plistlib.loads(app()[f"{APP}Contents/Info.plist"])
    return plistlib.dumps(info | changed)


@pytest.mark.parametrize(
    "changed",
    [
        {f"{APP}Contents/Info.plist": "version"},
        {f"{APP}Contents/Resources/extra.txt": "added"},
        {f"{APP}Contents/MacOS/mlx.metallib": "changed"},
        {f"{APP}Contents/MacOS/mlx.metallib": None},
        {f"{APP}Contents/_CodeSignature/CodeResources": None},
    ],
)
def test_a_broken_seal_is_an_invalid_signature(
    tmp_path: Path, changed: dict[str, str | None]
) -> None:
    """What the main executable or its seal hashes was changed, added or taken away."""
    contents = {
        path: plist_of(CFBundleVersion="9")
        if path.endswith("Info.plist")
        else value.encode()
        if value is not None
        else None
        for path, value in changed.items()
    }
    found = issues(judged(zipped(app(contents)), tmp_path))
    assert found == [(notary_judge.BAD_SIGNATURE, f"a.zip/{MAIN}", "arm64")]


def test_unsigned_code_inside_an_app_is_found(tmp_path: Path) -> None:
    """By its magic, in a place for data: and it breaks the seal as well."""
    path = f"{APP}Contents/Resources/plugin"
    found = issues(judged(zipped(app({path: tool("unsigned")})), tmp_path))
    assert (notary_judge.UNSIGNED, f"a.zip/{path}", "arm64") in found
    assert (notary_judge.BAD_SIGNATURE, f"a.zip/{MAIN}", "arm64") in found


def test_archives_inside_are_opened(tmp_path: Path) -> None:
    """To a depth; an issue in there is told with the whole way to it."""
    inner = zipped({"tool": tool("good"), "bad": tool("unsigned")})
    assert issues(judged(zipped({"data.bin": zipped({"inner.zip": inner})}), tmp_path)) == [
        (notary_judge.UNSIGNED, "a.zip/data.bin/inner.zip/bad", "arm64")
    ]
    good = zipped({"inner.zip": zipped({"tool": tool("good")})})
    assert [code.path for code in judged(good, tmp_path).contents] == ["a.zip/inner.zip/tool"]
    deep = issues(judged(zipped({"c": zipped({"b": good})}), tmp_path))
    assert [(message.partition(":")[2], path) for message, path, _ in deep] == [
        (" archives are nested too deeply.", "a.zip/c/b/inner.zip")
    ]
    many = zipped({str(number): zipped({"a": b""}) for number in range(21)})
    assert "21 archives" in issues(judged(many, tmp_path))[0][0]


def test_other_bytes_than_declared(tmp_path: Path) -> None:
    """The upload is not opened."""
    found = issues(judged(zipped(app()), tmp_path, declared="0" * 64))
    assert found == [(notary_judge.OTHER_BYTES, "a.zip", None)]


@pytest.mark.parametrize(
    "files", [{}, {"readme.txt": b"hello"}, {"A.class": b"\xca\xfe\xba\xbe\0\0\0\x34"}]
)
def test_nothing_to_notarize(tmp_path: Path, files: dict[str, bytes]) -> None:
    """No code, or only a Java class, which shares a magic."""
    found = issues(judged(zipped(files), tmp_path))
    assert found == [(notary_judge.NO_CODE, "a.zip", None)]


@pytest.mark.parametrize("head", ["feedface", "cefaedfe", "feedfacf", "cafebabe00000002"])
def test_code_that_cannot_be_read_is_invalid(tmp_path: Path, head: str) -> None:
    """Whatever begins like a Mach-O of any width and order is judged as one."""
    found = issues(judged(zipped({"a": bytes.fromhex(head) + bytes(60)}), tmp_path))
    assert found
    assert {item[1] for item in found} == {"a.zip/a"}


def member(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def archive_of(*members: tuple[zipfile.ZipInfo, bytes]) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for info, content in members:
            archive.writestr(info, content)
    return whole.getvalue()


LINK = stat.S_IFLNK | 0o755
HOSTILE: dict[str, bytes] = {
    "no zip": b"koly" * 200,
    "empty": b"",
    "cut off": zipped({"a": b"x" * 5000})[:-30],
    "upwards": archive_of((member("../a"), b"x")),
    "inner dots": archive_of((member("a/./b"), b"x")),
    "absolute": archive_of((member("/etc/a"), b"x")),
    "backslash": archive_of((member("a\\b"), b"x")),
    "long name": archive_of((member("a" * 1025), b"x")),
    "file as folder": archive_of((member("a"), b"x"), (member("a/b"), b"x")),
    "link as folder": archive_of((member("a", LINK), b"/tmp"), (member("a/b"), b"x")),
    "link over file": archive_of((member("a"), b"x"), (member("a/", LINK), b"b")),
    "long link": archive_of((member("a", LINK), b"x" * 1025)),
    "pipe": archive_of((member("a", stat.S_IFIFO | 0o644), b"")),
    "device": archive_of((member("a", stat.S_IFBLK | 0o644), b"")),
    "changed content": zipped({"a": b"x" * 5000})[:40] + bytes(4) + zipped({"a": b"x" * 5000})[44:],
    "one name twice": zipped({"aa": b"x", "bb": b"x"}).replace(b"bb", b"aa"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_zip_is_refused(tmp_path: Path, name: str) -> None:
    """With one issue on the archive, and nothing was written outside of the scratch folder."""
    (found,) = issues(judged(HOSTILE[name], tmp_path))
    assert found[1:] == ("a.zip", None)
    assert found[0].startswith("The archive could not be unpacked")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "scratch"]


def test_links_are_kept_and_never_followed(tmp_path: Path) -> None:
    """A link to code outside is no code of the archive."""
    (tmp_path / "outside").write_bytes(tool("unsigned"))
    links = {"out": str(tmp_path / "outside"), "up": "../../outside", "in": "tool"}
    verdict = judged(zipped({"tool": tool("good")}, links=links), tmp_path)
    assert [code.path for code in verdict.contents] == ["a.zip/tool"]


def test_bombs_are_refused_before_they_are_inflated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By number of members, by whole size, and by density."""
    many = zipped({str(number): b"" for number in range(20)})
    dense = zipped({"zeros": bytes(1_000_000)})
    monkeypatch.setattr(notary_zip, "MOST_MEMBERS", 19)
    assert "20 members" in issues(judged(many, tmp_path))[0][0]
    monkeypatch.setattr(notary_zip, "_DENSE_BYTES", 999_999)
    assert "beyond belief" in issues(judged(dense, tmp_path))[0][0]
    monkeypatch.setattr(notary_zip, "MOST_BYTES", 999_999)
    assert "bytes when unpacked" in issues(judged(dense, tmp_path))[0][0]


def test_a_member_longer_than_it_says_is_refused(tmp_path: Path) -> None:
    """The size in the directory is the most that is inflated."""
    whole = bytearray(zipped({"a": bytes(200_000)}))
    for magic, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        struct.pack_into("<I", whole, whole.index(magic) + offset, 1000)
    (found,) = issues(judged(bytes(whole), tmp_path))
    assert found[0].startswith("The archive could not be unpacked")


def test_utf8_names_without_the_flag(tmp_path: Path) -> None:
    """As macOS's own archiver writes them: bytes are UTF-8, the flag is not set."""
    name = "Größe"
    raw = name.encode()
    whole = zipped({"G" * len(raw): tool("good")}).replace(b"G" * len(raw), raw)
    verdict = judged(whole, tmp_path)
    assert [code.path for code in verdict.contents] == [f"a.zip/{name}"]

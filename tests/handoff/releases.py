"""Small releases on disk, with a ledger, and handoffs that say what they should not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from release_tool.files.archive_reader import ArchiveReader
from release_tool.files.archive_writer import ArchiveWriter
from release_tool.files.members import Member
from release_tool.handoff import packing, unpacking
from release_tool.ledger import Ledger, Record
from release_tool.plan import ReleasePlan
from release_tool.values import SealedFile, digest_of
from tests.fake_mac import attributes

READS = ("version", "source.commit", "product", "endpoints")
ARCHIVE = "bundle.tar.gz"
SIGNATURE = {"com.apple.cs.CodeDirectory": b"\xfa\xde\x0c\x02 directory\0\n", "com.apple.cs.X": b""}
CANARY = b"canary-of-every-secret"


@dataclass(frozen=True)
class Release:
    """One workspace and the plan that made it."""

    root: Path
    plan: ReleasePlan

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.root / "ledger")

    def append(self, stage: str, kind: str = "record", **facts: object) -> Record:
        return self.ledger.append(
            Record.model_validate(
                {
                    "number": 0,
                    "previous": "",
                    "kind": kind,
                    "stage": stage,
                    "at": "2026-11-24T00:00:00+00:00",
                    "host": {"system": "linux"},
                    "tool": "test",
                    "plan_digest": self.plan.part_digest(READS),
                    "plan_part": self.plan.part(READS),
                }
                | facts
            )
        )

    def file(self, stage: str, path: str, content: bytes, needs: Iterable[str] = ()) -> None:
        """A stage whose output is one file."""
        (self.root / path).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        self.append(stage, value={"path": path}, outputs={path: digest}, inputs=self._inputs(needs))

    def tree(self, stage: str, root: str, needs: Iterable[str] = (), word: str = "") -> None:
        """A stage whose output is an app with a link and a signature in extended attributes."""
        contents = self.root / root / "App.app" / "Contents"
        (contents / "MacOS").mkdir(parents=True, exist_ok=True)
        for name, mode in (("Info.plist", 0o644), ("MacOS/app", 0o755), ("MacOS/lib", 0o600)):
            (contents / name).write_text(f"{root} {name} {word}")
            (contents / name).chmod(mode)
        (contents / "MacOS" / "big").write_bytes(root.encode() * 4_000)
        attributes.put(contents / "MacOS" / "lib", SIGNATURE)
        if not (contents / "link").is_symlink():
            (contents / "link").symlink_to("MacOS/app")
        files = [self._sealed(path, self.root / root) for path in sorted(contents.rglob("*"))]
        sealed = [one for one in files if one is not None]
        self.append(
            stage,
            value={"root": root, "files": [one.model_dump(mode="json") for one in sealed]},
            outputs={f"{root}/{one.path}": one.sha256 for one in sealed},
            inputs=self._inputs(needs),
        )

    def _inputs(self, needs: Iterable[str]) -> dict[str, str]:
        found = {need: self.ledger.newest(need) for need in needs}
        return {need: digest_of(record.value) for need, record in found.items() if record}

    def _sealed(self, path: Path, root: Path) -> SealedFile | None:
        if path.is_dir():
            return None
        content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
        return SealedFile(
            path=path.relative_to(root).as_posix(),
            mode=path.lstat().st_mode & 0o777,
            size=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            link=path.is_symlink(),
        )

    def pack(self, destination: Path) -> str:
        """Pack it; gives the head."""
        return packing.pack(
            self.root,
            destination,
            environment=self.plan.environment.name,
            version=self.plan.version,
            source_commit=self.plan.source.commit,
        ).manifest.head

    def unpack(
        self, archive: Path, root: Path, expect: str = "", *, continued: bool = False
    ) -> Release:
        """Unpack a handoff with this plan elsewhere."""
        head = expect or self.ledger.head
        unpacking.unpack(archive, root, self.plan, expect=head, continued=continued)
        return replace(self, root=root)


def signed(root: Path, plan: ReleasePlan) -> Release:
    """A release up to its signature, among things that no handoff may carry."""
    made = Release(root, plan)
    root.mkdir(parents=True)
    made.file("profile", "embedded.provisionprofile", b"profile")
    made.tree("assemble", "assembled", ["profile"])
    made.tree("sign", "signed", ["assemble"])
    for name in (".notary/upload.json", "run.keychain-db", "signed/identity.p12", "ledger/.note"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(CANARY)
    return made


def carried_on(release: Release) -> None:
    """Further: a submission that was handed in and broke off, then the archive."""
    release.append("notarize", "intent", value={"action": "submit", "facts": {}})
    release.append("notarize", "failure", value={"message": "pending"})
    release.file("archive", ARCHIVE, b"archive" * 10_000, ["sign"])


Members = list[tuple[Member, bytes]]


def members_of(archive: Path) -> Members:
    """Everything that an archive holds."""
    with archive.open("rb") as source:
        reader = ArchiveReader(source, links=True)
        return [(member, b"".join(reader.content())) for member in reader.members()]


def forged(archive: Path, change: Callable[[Members], Members]) -> None:
    """Write an archive again, with other members."""
    found = change(members_of(archive))
    with (
        archive.open("wb") as target,
        ArchiveWriter(lambda data: _write(target.write, data), date=0, signatures=True) as writer,
    ):
        for member, content in found:
            size = len(content) if member.kind == "file" else 0
            writer.add(replace(member, size=size), [content])
        writer.close()


def _write(write: Callable[[bytes], int], data: bytes) -> None:
    write(data)


def state(root: Path) -> Mapping[str, object]:
    """Everything of a workspace that a handoff may touch."""
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_file() and path.name != ".lock":
            mode = path.stat().st_mode & 0o777
            found[name] = (mode, path.read_bytes(), attributes.of(path))
    return found


def named(release: Release) -> Mapping[str, object]:
    """The part of a workspace's state that a handoff carries."""
    strays = (".notary", "run.keychain-db", "signed/identity.p12", "ledger/.note")
    whole = state(release.root)
    return {path: what for path, what in whole.items() if not path.startswith(strays)}

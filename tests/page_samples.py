"""Ledgers of releases in every state, made of values: what a page is written from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import JsonValue

from release_tool import values
from release_tool.ledger import Ledger, Record
from release_tool.stages import speed
from tests import smoke_samples

COMMIT = "3f2a91c0" * 5
TEAM = "SLDQ2GJ6TL"
LINUX = {"system": "linux", "release": "6.8.0", "machine": "x86_64", "python": "3.12.4"}
MAC = {"system": "macos", "release": "15.1", "machine": "arm64", "python": "3.12.4"}
M4 = values.Host(
    system="macos", release="15.1", machine="arm64", chip="Apple M4", memory_bytes=2**34
)
PRODUCT: dict[str, JsonValue] = {"name": "Darkbloom", "team_id": TEAM, "platform": "macos-arm64"}
ENDPOINTS: dict[str, JsonValue] = {
    "endpoints.r2_endpoint": "https://account.r2.example",
    "endpoints.r2_bucket": "d-inf-app-prod",
    "endpoints.coordinator_url": "https://api.darkbloom.example",
}
HOSTILE = (
    "</code></td></table><script>alert(1)</script><img src=x onerror=alert(2)>"
    " \"'><svg onload=alert(3)> @everyone #1 https://evil.example/?q=1 www.evil.example"
    " [x](javascript:alert(4)) ![y](https://evil.example/z.png) `**b**` | a | b |"
    " \u202egnp.exe\u2066 \u200b\x1b[31m {{ page }} {% raw %} &lt;b&gt; \u05d0\u05d1\u05d2"
)
LONG = "w" * 3000


def sha(mark: str) -> str:
    """A digest of one repeated digit."""
    return mark * 64


@dataclass
class Release:
    """Writes the records of a release one after another, as the pipeline does."""

    folder: Path
    version: str = "0.5.0"
    environment: str = "prod"
    trust: str = "Apple"
    text: str = ""
    """Stands in every field that somebody else may fill; empty for plain words."""
    endpoints: Mapping[str, JsonValue] = field(default_factory=lambda: dict(ENDPOINTS))
    smoke_kind: str = "bundle"
    first_token: float = 0.084
    growth: int = 0
    """Bytes that the executable has more than usual."""
    _found: dict[str, values.Value] = field(default_factory=dict)
    _hour: int = 0

    @property
    def workspace(self) -> Path:
        return self.folder / self.environment / self.version

    def up_to(self, last: str) -> Release:
        """Record every stage up to one of them."""
        for name in MADE:
            self.record(name, MADE[name](self))
            if name == last:
                break
        return self

    def record(self, stage: str, value: values.Value, seconds: float = 1.5) -> None:
        """A stage ended well."""
        inputs: dict[str, JsonValue] = {
            need: self._found[need].digest() for need in NEEDS.get(stage, ())
        }
        self._found[stage] = value
        self.append(
            kind="record",
            stage=stage,
            value=value.model_dump(mode="json"),
            inputs=inputs,
            outputs=dict(value.outputs()),
            seconds=seconds,
            notes=[self.said("a note")],
        )

    def fail(self, stage: str, kind: str = "VerificationError", **facts: JsonValue) -> None:
        """A stage ended badly."""
        value: JsonValue = {
            "ok": False,
            "error": kind,
            "exit_code": 8 if kind == "PendingError" else 6,
            "message": self.said("the answer differs from the reference"),
            "subject": self.said("prompt 2"),
            "expected": self.said("Paris"),
            "observed": self.said("London"),
            "details": [self.said("token 3 differs"), self.said("token 4 differs")],
            "hint": self.said("compare the two transcripts"),
            **facts,
        }
        self.append(kind="failure", stage=stage, value=value, seconds=4.2)

    def intend(self, stage: str, action: str, **facts: JsonValue) -> None:
        """A request is about to be sent."""
        self.append(kind="intent", stage=stage, value={"action": action, "facts": facts})

    def append(self, **facts: JsonValue) -> None:
        """One more record."""
        self._hour += 1
        ledger = Ledger(self.workspace / "ledger")
        plain: dict[str, JsonValue] = {
            "number": 0,
            "previous": "",
            "at": f"2026-11-24T{self._hour:02}:10:00+00:00",
            "host": {name: self.said(text) for name, text in LINUX.items()},
            "tool": "release-tool 0.1.0",
            "plan_part": {
                "version": self.version,
                "environment.name": self.environment,
                "product": PRODUCT,
                "source.commit": COMMIT,
                **self.endpoints,
            },
        }
        with ledger.lock():
            ledger.append(Record.model_validate(plain | facts))

    def said(self, plain: str) -> str:
        """A text that somebody else may fill."""
        return self.text or plain


def _profile(release: Release) -> values.VerifiedProfile:
    observed = f"{release.trust}: Provisioning Profile Signing < WWDR G5 < Apple Root CA"
    return values.VerifiedProfile(
        path="embedded.provisionprofile",
        sha256=sha("1"),
        name=release.said("Darkbloom Direct"),
        uuid="b10ba73a-1bd9-4d4b-87df-0354f518c4ad",
        team_id=TEAM,
        expires="2027-01-20T00:00:00+00:00",
        days_left=57,
        app_ids=(f"{TEAM}.io.darkbloom.provider",),
        access_groups=(f"{TEAM}.*",),
        entitlements={
            "com.apple.application-identifier": f"{TEAM}.io.darkbloom.provider",
            "keychain-access-groups": [f"{TEAM}.*"],
        },
        certificates=(sha("2"),),
        checks=(
            values.CheckOutcome(name="signature", outcome="passed", observed=observed),
            values.CheckOutcome(name="team", outcome="passed", expected=TEAM, observed=TEAM),
            values.CheckOutcome(
                name="access groups", outcome="not_checked", hint=release.said("name one")
            ),
        ),
        expiries=(
            values.Expiry(
                what="profile",
                name=release.said("Darkbloom Direct"),
                ends="2027-01-20T00:00:00+00:00",
                todo=release.said("renew the profile on the developer portal"),
            ),
        ),
    )


def _files(release: Release, *, signed: bool) -> tuple[values.SealedFile, ...]:
    contents = "Darkbloom.app/Contents"
    rows = [
        (f"{contents}/Info.plist", 0o644, 1_204, "3"),
        (f"{contents}/MacOS/darkbloom", 0o755, 31_204_112 + release.growth, "4"),
        (f"{contents}/MacOS/darkbloom-enclave", 0o755, 412_880, "5"),
        (f"{contents}/MacOS/mlx.metallib", 0o644, 107_400_000, "6"),
        (f"{contents}/embedded.provisionprofile", 0o644, 11_096, "1"),
    ]
    if signed:
        rows.append((f"{contents}/_CodeSignature/CodeResources", 0o644, 2_904, "7"))
    if release.text:
        name = release.text.replace("/", "\u2215")
        rows.append((f"{contents}/Resources/{name}/{LONG}.txt", 0o644, 12, "8"))
    return tuple(
        values.SealedFile(path=path, mode=mode, size=size, sha256=sha(mark))
        for path, mode, size, mark in rows
    )


def _assembled(release: Release) -> values.AssembledBundle:
    return values.AssembledBundle(
        root="assembled",
        app="Darkbloom.app",
        files=_files(release, signed=False),
        source_commit=COMMIT,
        test_outcome="passed",
        binaries=tuple(
            values.BuiltBinary(
                name=name,
                sha256=sha("4"),
                version=release.version,
                version_proof="found",
                minos="14.0.0",
                sdk="15.0.0",
            )
            for name in ("darkbloom", "darkbloom-enclave")
        ),
        metallib_sha256=sha("6"),
        metallib_origin="wheel",
        entitlements={},
    )


def _code(release: Release) -> tuple[values.CodeObject, ...]:
    claimed: dict[str, JsonValue] = {
        "com.apple.application-identifier": f"{TEAM}.io.darkbloom.provider",
        "com.apple.security.network.client": True,
        "keychain-access-groups": [f"{TEAM}.io.darkbloom.provider"],
    }
    if release.text:
        claimed[release.text] = release.text
    made = (
        ("Darkbloom.app", "io.darkbloom.provider", "a", claimed),
        ("Darkbloom.app/Contents/MacOS/darkbloom-enclave", "io.darkbloom.enclave", "b", None),
    )
    return tuple(
        values.CodeObject(
            path=path,
            identifier=release.said(identifier),
            team_id=TEAM,
            cdhash=mark * 40,
            code_directory_sha256=sha(mark),
            flags=0x10000,
            entitlements=claims,
            requirement=release.said(f'identifier "{identifier}" and anchor apple generic'),
            signed_at="2026-11-24T03:02:11+00:00",
            unsigned_sha256=sha("9"),
        )
        for path, identifier, mark, claims in made
    )


def _signed(release: Release) -> values.SignedBundle:
    name = f"Developer ID Application: Eigen Labs, Inc. ({TEAM})"
    return values.SignedBundle(
        root="signed",
        app="Darkbloom.app",
        files=_files(release, signed=True),
        code=_code(release),
        signer="codesign",
        certificate_sha256=sha("2"),
        certificate_name=release.said(name),
        sealed_files=3,
        expiries=(
            values.Expiry(
                what="signing certificate",
                name=release.said(name),
                ends="2031-11-24T22:46:24+00:00",
                todo="make a new certificate",
            ),
            values.Expiry(
                what="timestamp CA",
                name="Apple Timestamp Certification Authority",
                ends="2026-10-01T00:00:00+00:00",
                todo="nothing to set",
            ),
        ),
    )


def _notarized(release: Release) -> values.Notarization:
    return values.Notarization(
        submission_id="0b5c2f6e-4fb1-4d8e-9f0e-5b2e7a9c10e1",
        name=f"Darkbloom-{release.version}-d.zip",
        archive_sha256=sha("d"),
        archive_size=78_000_000,
        log="notarization.json",
        log_sha256=sha("e"),
        cdhashes=("a" * 40, "b" * 40),
        extra_cdhashes=0,
        issues=(),
        route="api",
    )


def _stapled(release: Release) -> values.StapledBundle:
    signed = _signed(release).model_dump() | {"root": "stapled", "expiries": ()}
    return values.StapledBundle.model_validate(
        signed
        | {
            "ticket_sha256": sha("c"),
            "ticket_issued": "2026-11-24T04:09:36+00:00",
            "ticket_checks": (
                values.CheckOutcome(name="ticket signature", outcome="passed", observed="Apple"),
            ),
            "macos_verdicts": {
                "spctl": release.said("accepted, Notarized Developer ID"),
                "stapler": "The validate action worked!",
            },
        }
    )


def _archived(release: Release) -> values.ReleaseArchive:
    flat = (
        ("bin/darkbloom", 31_204_112 + release.growth, "4"),
        ("bin/mlx.metallib", 107_400_000, "6"),
    )
    members = (
        *_files(release, signed=True),
        *(
            values.SealedFile(path=path, mode=0o755, size=size, sha256=sha(mark))
            for path, size, mark in flat
        ),
    )
    return values.ReleaseArchive(
        path="darkbloom-bundle-macos-arm64.tar.gz",
        sha256=sha("f"),
        size=78_900_000 + release.growth // 3,
        tar_sha256=sha("0"),
        binary_sha256=sha("4"),
        enclave_sha256=sha("5"),
        metallib_sha256=sha("6"),
        cdhash="a" * 40,
        code_directory_sha256=sha("a"),
        source_commit=COMMIT,
        test_outcome="passed",
        members=members,
    )


def _smoked(release: Release) -> values.SmokeEvidence:
    plain = smoke_samples.evidence(
        archive_sha256=sha("f"), binary_sha256=sha("4"), version=release.version
    )
    first = release.first_token
    prompts = tuple(
        plain.prompts[0].model_copy(
            update={
                "prompt": release.said(f"question {number}"),
                "first_token_seconds": first * (1 + number / 10),
                "decode_tokens_per_second": 112.4 - number,
                "reference_first_token_seconds": first,
                "reference_decode_tokens_per_second": 120.0,
            }
        )
        for number in range(3)
    )
    rounds = tuple(
        one.model_copy(update={"answers": answers, "reference": answers})
        for one in plain.rounds
        for answers in [
            tuple(
                answer.model_copy(
                    update={
                        "first_token_seconds": first * one.at_once * (1 + number / 5),
                        "decode_tokens_per_second": 110.0 / one.at_once - number,
                    }
                )
                for number, answer in enumerate(one.answers)
            )
        ]
    )
    return plain.model_copy(
        update={
            "kind": release.smoke_kind,
            "host": M4.model_copy(update={"chip": release.said(M4.chip)}),
            "model": release.said("mlx-community/Qwen3-0.6B-8bit"),
            "reference": "mlx-lm 0.32.2",
            "test_outcome": "passed",
            "prompts": prompts,
            "rounds": rounds,
            "figures": speed.of(prompts, rounds),
            "thresholds": (
                values.CheckOutcome(
                    name="ttft:p95:b1<=150ms",
                    outcome="passed",
                    expected="<= 150 ms",
                    observed="101 ms",
                ),
                values.CheckOutcome(
                    name="decode_ratio:p50:b1>=0.5",
                    outcome="passed",
                    expected=">= 0.500",
                    observed="0.93",
                ),
            ),
            "macos_verdicts": {"codesign": release.said("valid on disk")},
        }
    )


def _published(release: Release) -> values.PublishedRelease:
    key = f"releases/v{release.version}/darkbloom-bundle-macos-arm64.tar.gz"
    host = "http://127.0.0.1:4000" if release.trust != "Apple" else "https://dl.darkbloom.example"
    return values.PublishedRelease(
        archive_sha256=sha("f"), size=78_900_000, key=key, url=f"{host}/{key}", created=True
    )


def _registered(release: Release) -> values.RegisteredRelease:
    return values.RegisteredRelease(
        version=release.version,
        platform="macos-arm64",
        backend="mlx-swift",
        binary_hash=sha("4"),
        bundle_hash=sha("f"),
        metallib_hash=sha("6"),
        url=_published(release).url,
        status=release.said("release_registered"),
        checks=(
            values.CheckOutcome(
                name="routable capacity",
                outcome="not_checked",
                hint=release.said("the coordinator did not tell it before"),
            ),
        ),
    )


def _promoted(release: Release) -> values.PromotedRelease:
    return values.PromotedRelease(
        version=release.version,
        outcome="promoted",
        latest_version=release.version,
        aliases=("releases/latest/darkbloom-bundle-macos-arm64.tar.gz",),
        pointer="releases/latest/release.json",
    )


def _on_github(release: Release) -> values.GitHubRelease:
    return values.GitHubRelease(
        tag=f"v{release.version}",
        id=5,
        page=release.said(f"https://github.example/darkbloom/releases/tag/v{release.version}"),
        outcome="published",
        assets=(
            values.ReleasedAsset(
                name=release.said("darkbloom-bundle-macos-arm64.tar.gz"),
                size=78_900_000,
                sha256=sha("f"),
            ),
        ),
        latest=True,
        immutable=True,
        notes="release-notes.md",
        notes_sha256=sha("0"),
    )


MADE = {
    "profile": _profile,
    "assemble": _assembled,
    "sign": _signed,
    "notarize": _notarized,
    "staple": _stapled,
    "archive": _archived,
    "smoke": _smoked,
    "publish": _published,
    "register": _registered,
    "promote": _promoted,
    "github": _on_github,
}
NEEDS = {
    "assemble": ("profile",),
    "sign": ("assemble",),
    "notarize": ("sign",),
    "staple": ("sign", "notarize"),
    "archive": ("staple", "assemble"),
    "smoke": ("archive",),
    "publish": ("archive", "smoke"),
    "register": ("publish", "archive"),
    "promote": ("publish", "register"),
    "github": ("archive", "smoke", "promote"),
    "tombstone": ("verify",),
    "deactivate": ("tombstone",),
    "point": ("verify", "deactivate"),
}


def good(folder: Path, version: str = "0.5.0") -> Path:
    """A release that went its whole way, and the one before it."""
    Release(folder, version="0.4.9", first_token=0.079).up_to("github")
    return Release(folder, version=version, growth=1_200_000).up_to("github").workspace


def failed(folder: Path) -> Path:
    """A release that was refused at the smoke run, twice."""
    release = Release(folder).up_to("archive")
    release.fail("smoke", kind="TransientError", message="the provider did not start in time")
    release.fail("smoke")
    return release.workspace


def under_way(folder: Path) -> Path:
    """A release that waits for the notary."""
    release = Release(folder).up_to("sign")
    release.intend("notarize", "submit", sha256=sha("d"))
    release.intend("notarize", "submitted", submission_id="0b5c2f6e")
    release.fail(
        "notarize",
        kind="PendingError",
        message="Apple is still at work on submission 0b5c2f6e",
        details=[],
        subject="",
        expected="",
        observed="",
        hint="run again: it goes on waiting",
    )
    return release.workspace


def withdrawn(folder: Path, *, until: str = "point", text: str = "") -> Path:
    """A release that users do not get any more, and the rollback that saw to it."""
    good(folder, "0.5.0")
    bad = Release(folder, version="0.5.1").up_to("github").workspace
    roll_back(folder, until=until, text=text)
    return bad


def withdrawn_in_hostile_words(folder: Path) -> Path:
    """Whoever withdrew it had a name and a reason full of markup."""
    return withdrawn(folder, text=HOSTILE)


def roll_back(
    folder: Path,
    *,
    to: str = "0.5.0",
    bad: tuple[str, ...] = ("0.5.1",),
    until: str = "point",
    text: str = "",
) -> Path:
    """One run of a rollback, in the ledger of the environment's rollbacks."""
    key = f"releases/v{to}/darkbloom-bundle-macos-arm64.tar.gz"
    run = Release(folder, version="rollback", text=text)
    run.endpoints = {**ENDPOINTS, "version": to}
    made: dict[str, values.Value] = {
        "verify": values.RollbackTarget(
            version=to,
            platform="macos-arm64",
            key=key,
            url=f"https://dl.darkbloom.example/{key}",
            sha256=sha("f"),
            size=78_900_000,
            checks=86,
        ),
        "tombstone": values.Withdrawn(
            tombstones=tuple(
                values.Withdrawal(
                    version=one,
                    key=f"releases/v{one}/tombstone.json",
                    sha256=sha("f"),
                    outcome="written",
                    at="2026-11-24T02:10:00+00:00",
                    by=run.said("night shift"),
                    reason=run.said("does not start on macOS 14"),
                )
                for one in bad
            )
        ),
        "deactivate": values.Deactivated(
            releases=tuple(
                values.DeactivatedRelease(version=one, outcome="deactivated") for one in bad
            )
        ),
        "point": values.RolledBack(
            version=to,
            instead_of=bad,
            pointer="releases/latest/release.json",
            aliases=("releases/latest/darkbloom-bundle-macos-arm64.tar.gz",),
        ),
    }
    for name, value in made.items():
        run.record(name, value)
        if name == until:
            break
    return run.workspace


def hostile(folder: Path) -> Path:
    """A release of which every text that somebody else may fill is full of markup."""
    release = Release(folder, text=HOSTILE).up_to("register")
    release.fail("promote", details=[HOSTILE, LONG])
    return release.workspace


def rehearsed(folder: Path) -> Path:
    """A release that look-alikes carried."""
    here: dict[str, JsonValue] = {
        name: "http://127.0.0.1:4000" for name in ENDPOINTS if name != "endpoints.r2_bucket"
    }
    release = Release(
        folder,
        environment="rehearsal",
        trust="the rehearsal's authority",
        smoke_kind="stand-in",
        endpoints=here,
    )
    return release.up_to("github").workspace

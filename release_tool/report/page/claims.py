"""What is claimed of a release, and what proves each claim."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from release_tool import values
from release_tool.report.page.told import Told
from release_tool.report.page.world import Who, World
from release_tool.report.summary import counted

Proof = Literal["real data", "Apple's tool", "this tool", "look-alike", "not checked"]
MEANINGS: dict[Proof, str] = {
    "real data": "bytes or answers of the real party, verified by this tool",
    "Apple's tool": "said by a tool of Apple's, on a Mac",
    "this tool": "read back by this tool from what it made; nobody else looked",
    "look-alike": "a stand-in answered: it proves the wiring only",
    "not checked": "nothing in the records proves it",
}
_MAC_TOOLS = ("codesign", "spctl", "stapler")
_MOST_CHECKS = 400


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim."""

    text: str
    proof: Proof
    by: str
    """What was seen, and of whom."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """The recorded checks of one stage."""

    stage: str
    rows: tuple[values.CheckOutcome, ...]
    left_out: int

    @property
    def tally(self) -> str:
        """How many passed, and how many did not by their outcome."""
        return ", ".join(
            f"{count} {outcome.replace('_', ' ')}"
            for outcome in ("passed", "failed", "not_checked", "unprotected")
            if (count := sum(one.outcome == outcome for one in self.rows))
        )


def of(told: Told, world: World) -> tuple[Claim, ...]:
    """The claims that a release makes with what it has recorded so far, in the order of stages."""
    return tuple(_claims(told, world))


def checks(told: Told) -> tuple[Checked, ...]:
    """Every recorded check, by stage; what did not pass comes first."""
    found: list[Checked] = []
    for stage, rows in _checks(told):
        ranked = sorted(rows, key=lambda one: one.outcome == "passed")
        if ranked:
            left = max(len(ranked) - _MOST_CHECKS, 0)
            found.append(Checked(stage=stage, rows=tuple(ranked[:_MOST_CHECKS]), left_out=left))
    return tuple(found)


def _checks(told: Told) -> Iterator[tuple[str, Sequence[values.CheckOutcome]]]:
    if profile := told.get("profile", values.VerifiedProfile):
        yield "profile", profile.checks
    if stapled := told.get("staple", values.StapledBundle):
        yield "ticket", stapled.ticket_checks
    if smoke := told.get("smoke", values.SmokeEvidence):
        yield "smoke run", smoke.checks
        yield "thresholds", smoke.thresholds
        yield "needs of the bundle", smoke.needs
        yield "installer", smoke.install
    if registered := told.get("register", values.RegisteredRelease):
        yield "after the registration", registered.checks


def _claims(told: Told, world: World) -> Iterator[Claim]:
    yield from _of_build(told, world)
    yield from _of_apple(told, world)
    yield from _of_archive(told)
    yield from _of_services(told, world)
    yield from _of_rollback(told, world)


def _by(who: Who, text: str) -> tuple[Proof, str]:
    match who:
        case "real":
            return "real data", text
        case "look-alike":
            return "look-alike", text
        case _:
            return "this tool", f"{text}; who answered is not recorded"


def _claim(text: str, proof: tuple[Proof, str]) -> Claim:
    return Claim(text=text, proof=proof[0], by=proof[1])


def _of_build(told: Told, world: World) -> Iterator[Claim]:
    if profile := told.get("profile", values.VerifiedProfile):
        passed = sum(one.outcome == "passed" for one in profile.checks)
        yield _claim(
            "The profile authorizes what is signed",
            _by(world.apple, f"its signature and chain, {passed} of {len(profile.checks)} checks"),
        )
    if assembled := told.get("assemble", values.AssembledBundle):
        told_by = f"the build says {assembled.test_outcome}; they are not repeated here"
        yield _claim("The tests of the source passed", ("not checked", told_by))
        yield from map(_version, assembled.binaries)


def _version(binary: values.BuiltBinary) -> Claim:
    text = f"{binary.name} is version {binary.version}"
    match binary.version_proof:
        case "ran":
            return _claim(text, ("this tool", "the assembling host executed it"))
        case "found":
            return _claim(text, ("this tool", "found in the file; the smoke run asks it"))
        case _:
            return _claim(text, ("not checked", "it does not tell its version"))


def _of_apple(told: Told, world: World) -> Iterator[Claim]:
    if signed := told.get("sign", values.SignedBundle):
        how = "Apple's codesign" if signed.signer == "codesign" else "the portable signer"
        text = f"signed by {how}, every code object read back from disk"
        yield _claim("The signature says what was meant", ("this tool", text))
        if all(code.signed_at for code in signed.code):
            text = f"{counted(len(signed.code), 'timestamp token')} verified"
            yield _claim("The signature is timestamped", _by(world.apple, text))
    if notarized := told.get("notarize", values.Notarization):
        text = f"accepted {notarized.submission_id}; the log names our digest and every cdhash"
        yield _claim("The notary accepted exactly these bytes", _by(world.apple, text))
    if stapled := told.get("staple", values.StapledBundle):
        passed = sum(one.outcome == "passed" for one in stapled.ticket_checks)
        text = f"verified offline, {passed} of {len(stapled.ticket_checks)} checks"
        yield _claim("The ticket covers every slice", _by(world.apple, text))
    if told.get("staple", values.StapledBundle) or told.get("smoke", values.SmokeEvidence):
        yield _claim("macOS lets it run", _mac(told, world))


def _mac(told: Told, world: World) -> tuple[Proof, str]:
    """What codesign, spctl and stapler said; of a look-alike's app they prove nothing."""
    said: dict[str, str] = {}
    if stapled := told.get("staple", values.StapledBundle):
        said |= stapled.macos_verdicts
    if smoke := told.get("smoke", values.SmokeEvidence):
        said |= smoke.macos_verdicts
    if not said:
        return "not checked", f"{', '.join(_MAC_TOOLS)} were not asked: no Mac took part"
    text = "; ".join(f"{name}: {verdict}" for name, verdict in said.items())
    return ("look-alike" if world.apple == "look-alike" else "Apple's tool"), text


def _of_archive(told: Told) -> Iterator[Claim]:
    if archive := told.get("archive", values.ReleaseArchive):
        text = f"{archive.path} reopened, unpacked and verified from the seal down"
        yield _claim("The archive holds what was signed", ("this tool", text))
    smoke = told.get("smoke", values.SmokeEvidence)
    if smoke is None:
        return
    agree = sum(one.agrees for one in smoke.prompts)
    seen = f"{agree} of {len(smoke.prompts)} prompts agree with {smoke.reference}"
    if smoke.kind == "bundle":
        chip = smoke.host.chip or smoke.host.machine
        proof: tuple[Proof, str] = "real data", f"its own executable on {chip}, {seen}"
    else:
        proof = "look-alike", f"a stand-in answered in its place, {seen}"
    yield _claim("What ships starts, answers and agrees", proof)
    if smoke.install:
        passed = sum(one.outcome == "passed" for one in smoke.install)
        text = f"{passed} of {len(smoke.install)} trials of the installer, on {smoke.host.system}"
        yield _claim("The installer installs it", ("this tool", text))


def _of_services(told: Told, world: World) -> Iterator[Claim]:
    if told.get("publish", values.PublishedRelease):
        text = "downloaded again from the public address, the same digest"
        yield _claim("Users download these bytes", _by(world.store, text))
    published = told.get("publish", values.PublishedRelease)
    if published and published.documents:
        text = (
            f"{', '.join(one.name for one in published.documents)}: signed with the release's key"
        )
        yield _claim("How it was made can be verified", ("this tool", text))
    if registered := told.get("register", values.RegisteredRelease):
        text = f"{registered.status}, and it echoed every digest that was sent"
        yield _claim("The coordinator knows these bytes", _by(world.coordinator, text))
        for one in registered.checks:
            if one.outcome == "not_checked":
                yield _claim(one.name.capitalize(), ("not checked", one.hint))
    if promoted := told.get("promote", values.PromotedRelease):
        text = f"the coordinator answered {promoted.latest_version}"
        yield _claim("The coordinator serves it as latest", _by(world.coordinator, text))
    if released := told.get("github", values.GitHubRelease):
        text = f"{counted(len(released.assets), 'asset')} downloaded again, the same digests"
        yield _claim("GitHub's release holds these bytes", _by(world.github, text))


def _of_rollback(told: Told, world: World) -> Iterator[Claim]:
    if target := told.get("verify", values.RollbackTarget):
        text = f"downloaded and verified from the seal down, {target.checks} checks"
        yield _claim(f"Users can go back to {target.version}", _by(world.store, text))
    if pointed := told.get("point", values.RolledBack):
        text = f"the coordinator answered {pointed.version}, and the aliases hold its bytes"
        yield _claim(f"Users get {pointed.version}", _by(world.coordinator, text))

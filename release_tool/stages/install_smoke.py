"""Install smoke: the project's installer, as users run it, with the archive that will ship.

A coordinator on loopback serves the candidate; each trial has a home of its own. An installation
must succeed on an empty home, over a previous version and over itself; it must change nothing when
the download is not what was released; and it may be killed anywhere (`install_kills`).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from release_tool import layout
from release_tool.apple import checks, release
from release_tool.apple.checks import Check
from release_tool.files import archive_reader
from release_tool.plan import ReleasePlan
from release_tool.services import candidate_server
from release_tool.services.candidate_server import Manner
from release_tool.services.child import Finished
from release_tool.stages import install_home, install_kills, installer_file
from release_tool.stages.install_home import UNCHANGED, USERS_FILE
from release_tool.stages.install_trial import Candidate, Trial, compare, not_tried
from release_tool.values import ReleaseArchive

SURE = (
    *("fresh", "twice", "over a previous version"),
    *("a changed download", "a cut download", "no release"),
    *("killed before the download", "killed amid the download", *install_kills.INTERRUPTED),
    *("after two kills", "after two late kills"),
)
"""Trials that every installer passes that users may run; others depend on this host's speed."""
_CHANGELOG = 'It said "url":"http://127.0.0.1:1/", and\nmore on another line'
_NO_TRACE = "no trace outside of the home and TMPDIR"


def judge(candidate: Candidate) -> list[Check]:
    """Try the installer in every way; each outcome is named.

    Raises:
        UsageError: the plan's installer cannot be read.
        VerificationError: it is no installer, or does not end.
        HostError: no process can be started here.
    """
    content = installer_file.read(candidate.plan)
    row = row_of(candidate.plan, candidate.archive)
    before = install_home.traces(candidate.outside)
    candidate.scratch.mkdir()
    with candidate_server.serving(candidate.file, row) as server:
        filled = content.replace(installer_file.PLACEHOLDER.encode(), server.url.encode())
        script = candidate.scratch / "install.sh"
        script.write_bytes(filled)
        trial = Trial(candidate, server, script)
        found = [
            *_installs(trial),
            *updates(trial),
            *_refuses(trial),
            *install_kills.by_the_clock(trial),
            *install_kills.at_commands(trial),
        ]
    after = install_home.traces(candidate.outside)
    found.append(
        checks.compare(
            "installer",
            expected=_NO_TRACE,
            observed=install_home.difference(before, after) or _NO_TRACE,
            subject="outside",
            hint="let it work below ~ and in mktemp -d only",
        )
    )
    return found


def row_of(plan: ReleasePlan, archive: ReleaseArchive) -> dict[str, object]:
    """What the coordinator will say of this release."""
    return {
        "version": plan.version,
        "platform": plan.product.platform,
        "backend": plan.product.backend,
        "binary_hash": archive.binary_sha256,
        "bundle_hash": archive.sha256,
        "metallib_hash": archive.metallib_sha256,
        # Installers read this with sed: text of a tag may look like a field.
        "changelog": _CHANGELOG,
        "active": True,
    }


def _installs(trial: Trial) -> Iterator[Check]:
    """On an empty home, once more, and over a previous version."""
    home = trial.home()
    yield from trial.installed("fresh", home, trial.run(home))
    yield from trial.installed("twice", home, trial.run(home))
    home, name = trial.home_of_a_previous_version(), "over a previous version"
    yield from trial.installed(name, home, trial.run(home))
    kept = (install_home.root(home) / USERS_FILE).is_file()
    yield compare(name, "the user's file", "kept", "kept" if kept else "gone")
    if not trial.layout.is_app:
        yield from _refuses_to_hide_an_app(trial)


def _refuses_to_hide_an_app(trial: Trial) -> Iterator[Check]:
    """Flat files are older than every app: who has one keeps it, and what leads to it."""
    home, name = trial.home(), "over an installed app"
    root = install_home.root(home)
    app = f"{trial.candidate.plan.product.name}.app"
    for program in layout.flat_names(trial.candidate.plan):
        install_home.write(root / app / "Contents/MacOS" / program, "of a later version")
        link = root / release.FLAT / program
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(f"../{app}/Contents/MacOS/{program}")
    before = install_home.listing(root)
    yield _refused(name, trial.run(home))
    after = install_home.changed(before, install_home.listing(root))
    yield compare(name, "what stood there", UNCHANGED, after)


def updates(trial: Trial) -> Iterator[Check]:
    """Over the release that users have, as it was unpacked there."""
    before = trial.candidate.before
    if before is None:
        why = "no earlier published archive is at hand"
        yield not_tried("over the release before", trial.app, why)
        return
    name = f"over the release before, {before.version}"
    home = trial.home()
    root = install_home.root(home)
    root.mkdir()
    plan = trial.candidate.plan
    limits = archive_reader.Limits(
        compressed_bytes=plan.limits.archive_bytes,
        member_bytes=plan.limits.member_bytes,
        members=plan.limits.members,
    )
    # macOS's tar, which packs what codesign signed, writes extended attributes as sidecars.
    sidecars = plan.environment.signer == "portable"
    found = archive_reader.unpack(before.file, root, limits=limits, sidecars=sidecars)
    if found.sha256 != before.sha256:
        yield compare(name, before.file.name, before.sha256, found.sha256)
        return
    install_home.write(root / USERS_FILE, "the user's")
    yield from trial.installed(name, home, trial.run(home))
    kept = (root / USERS_FILE).is_file()
    yield compare(name, "the user's file", "kept", "kept" if kept else "gone")
    shutil.rmtree(home, ignore_errors=True)


def _refuses(trial: Trial) -> Iterator[Check]:
    """What is not what was released changes nothing."""
    manners: dict[Manner, str] = {
        "changed": "a changed download",
        "cut": "a cut download",
        "none": "no release",
    }
    for manner, name in manners.items():
        home = trial.home_of_a_previous_version()
        before = trial.state(home)
        trial.server.manner = manner
        ended = trial.run(home)
        trial.server.manner = "whole"
        yield _refused(name, ended)
        after = install_home.changed(before, trial.state(home))
        yield compare(name, "what stood there", UNCHANGED, after)


def _refused(name: str, ended: Finished) -> Check:
    refused = "refused" if ended.ending.status > 0 else str(ended.ending)
    return compare(name, "exit code", "refused", refused)

"""What signing an app would do, told without doing it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from release_tool.apple import code_directory, code_resources, entitlements, facts
from release_tool.apple.code_resources import Census
from release_tool.files.tree import DiskTree
from release_tool.services.portable_signer import Planned


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewedCode:
    """One code object, and as what it would be signed."""

    path: str
    """Relative to the app."""
    bundle: str | None
    """The bundle whose main executable it is, empty for the app; None for a bare file."""
    identifier: str
    architectures: tuple[str, ...]
    """Empty for a file that is no Mach-O, which only codesign signs."""
    flags: tuple[str, ...]
    entitlements: Mapping[str, object] | None = field(repr=False)
    """None for code that gets none."""
    seal: Census | None
    """Of the bundle; None for a bare file."""

    def as_json(self) -> dict[str, object]:
        """All of it under the names that `--json` shows."""
        seal = self.seal
        return {
            "path": self.path,
            "bundle": self.bundle,
            "identifier": self.identifier,
            "architectures": list(self.architectures),
            "flags": list(self.flags),
            "entitlements": facts.plain(self.entitlements),
            "seal": seal
            and {
                "entries": seal.entries,
                "code": seal.code,
                "links": seal.links,
                "resources": seal.resources,
                "data_in_code_places": list(seal.data_in_code_places),
            },
        }


def of(root: Path, planned: Sequence[Planned]) -> tuple[PreviewedCode, ...]:
    """Tell what is planned for a bundle, inside out.

    Args:
        root: the bundle.
        planned: of `portable_signer.plan_bundle`.

    Raises:
        FormatError: entitlements are no property list.
    """
    return tuple(_previewed(root, one) for one in planned)


def no_code(path: str, identifier: str) -> PreviewedCode:
    """A file in a code place that is no Mach-O: codesign signs it in its extended attributes."""
    return PreviewedCode(
        path=path,
        bundle=None,
        identifier=identifier,
        architectures=(),
        flags=facts.flag_names(code_directory.RUNTIME),
        entitlements=None,
        seal=None,
    )


def _previewed(root: Path, planned: Planned) -> PreviewedCode:
    code, executable = planned.code, planned.executable
    bundle = code.bundle
    claims = executable.entitlements
    return PreviewedCode(
        path=code.path,
        bundle=None if bundle is None else bundle.root,
        identifier=executable.identifier,
        architectures=tuple(one.arch for one in code.slices),
        flags=facts.flag_names(planned.flags),
        entitlements=None if claims is None else entitlements.parse_xml(claims),
        seal=None
        if bundle is None
        else code_resources.count(
            DiskTree(root / bundle.contents),
            main_executable=code.path.removeprefix(bundle.prefix),
            resources=bundle.layout.resources,
        ),
    )

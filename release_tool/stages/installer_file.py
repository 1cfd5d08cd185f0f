"""The installer that users run: the project's own file, or the template rendered from the plan."""

from __future__ import annotations

from pathlib import Path

import jinja2

from release_tool import data, errors, layout
from release_tool.plan import ReleasePlan

TEMPLATE = "install.sh.j2"
PLACEHOLDER = "__DARKBLOOM_COORD_URL__"
"""The coordinator puts its own address in its place when it serves the installer."""
FOLDER = ".darkbloom"
"""In the user's home: where the app and `bin/` stand, and where updates look for them."""
LEGACY_NAMES = {"darkbloom-enclave": "eigeninference-enclave"}
"""Links of old services, by the program that they lead to."""
# The longest that is known has 77 KB.
_MAX_BYTES = 1024 * 1024


def read(plan: ReleasePlan) -> bytes:
    """The installer that the plan names; without one, the rendered template.

    Raises:
        UsageError: there is no such file.
        VerificationError: it lacks the placeholder, or is far too large.
    """
    if not plan.smoke.installer:
        return render(plan).encode()
    path = Path(plan.smoke.installer)
    try:
        with path.open("rb") as source:
            content = source.read(_MAX_BYTES + 1)
    except OSError as problem:
        raise errors.UsageError(
            "the installer cannot be read",
            subject=str(path),
            observed=problem.strerror or "",
            hint="smoke.installer in release.yaml names it, from the current folder",
        ) from problem
    if len(content) > _MAX_BYTES:
        raise errors.VerificationError(
            "is no installer", subject=str(path), expected=f"at most {_MAX_BYTES} bytes"
        )
    _require_placeholder(content, str(path))
    return content


def render(plan: ReleasePlan) -> str:
    """The smallest installer that keeps the contract of May."""
    bundle = plan.bundle
    flat, places = layout.flat_names(plan), layout.of(plan)
    metallib = bundle.metallib.name if bundle.metallib else ""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(data.templates_folder()),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - a shell script: every value is a name of the plan
    )
    return environment.get_template(TEMPLATE).render(
        name=plan.product.name,
        is_app=places.is_app,
        top=places.top,
        what="app" if places.is_app else "folder",
        programs=f"{places.top}/{places.executables}".rstrip("/"),
        programs_alone=[one for one in flat if one != metallib],
        folder=FOLDER,
        placeholder=PLACEHOLDER,
        platform=plan.product.platform,
        bundle_id=plan.product.bundle_id,
        team_id=plan.product.team_id,
        architecture=plan.product.architecture,
        minimum_macos=plan.product.minimum_macos,
        archive_bytes=plan.limits.archive_bytes,
        main_executable=bundle.main_executable,
        metallib=metallib,
        metallib_is_flat=bundle.metallib is not None and bundle.metallib.flat_copy,
        flat_copies=flat,
        legacy_names=[(old, new) for new, old in LEGACY_NAMES.items() if new in flat],
        # No host but a Mac has Apple's tools, and none of them trusts a look-alike.
        for_macos=plan.environment.trust == "apple",
    )


def _require_placeholder(content: bytes, subject: str) -> None:
    if PLACEHOLDER.encode() not in content:
        raise errors.VerificationError(
            "an address is written into the installer",
            subject=subject,
            expected=PLACEHOLDER,
            observed="not in it",
            hint="put the placeholder back: the coordinator that serves it fills it in",
        )

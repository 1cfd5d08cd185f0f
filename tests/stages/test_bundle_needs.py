"""What a bundle needs to run on a user's Mac, judged on the unpacked archive."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from release_tool.apple import metal_functions
from release_tool.apple.capabilities import FOLDER
from release_tool.apple.checks import Check
from release_tool.plan import ReleasePlan
from release_tool.rehearsal import samples
from release_tool.stages import bundle_needs
from tests import built, linked_macho, macho_samples, signed_release
from tests.signed_release import APP, ENCLAVE, MAIN, METALLIB
from tests.stages.release_parts import changed

HELPER = "Contents/Helpers/darkbloom-fan-helper"
KERNEL = "Contents/Resources/kit_Core.bundle/pagedattention.metal"
FAN, PAGED = "darkbloom-fan-helper-v1", "engine_v2_kv_backend"
OCTOBER = {
    "helpers": [
        {
            "name": "darkbloom-fan-helper",
            "role": "helper",
            "identifier": "io.darkbloom.fan-helper",
        }
    ],
    "capability_markers": [
        {
            "name": "paged-kernel-v1",
            "code_string": PAGED,
            "needs": ["Resources/kit_Core.bundle/pagedattention.metal"],
        },
        {
            "name": "fan-helper-v1",
            "code_string": FAN,
            "needs": ["Helpers/darkbloom-fan-helper"],
        },
        {"name": "app-attest-callback-v1", "code_string": "app-attest-callback-v1"},
    ],
}


@pytest.fixture
def plan(plan: ReleasePlan) -> ReleasePlan:
    functions = {"functions": ["gemv", "rope"]}
    assert plan.bundle.metallib
    wanted = plan.bundle.metallib.model_dump(mode="json") | functions
    return changed(plan, bundle={"metallib": wanted})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return signed_release.made().write(tmp_path / "unpacked")


def failed(plan: ReleasePlan, root: Path) -> list[Check]:
    return [check for check in bundle_needs.judge(plan, root) if check.outcome == "failed"]


def passed(found: Iterable[Check]) -> set[tuple[str, str]]:
    return {(check.name, check.subject) for check in found if check.outcome == "passed"}


def put(root: Path, path: str, content: bytes, mode: int = 0o644) -> None:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    target.chmod(mode)


def october(root: Path) -> None:
    """Make the release one of October: markers, a resource bundle, a helper."""
    main = built.holding(PAGED, FAN)
    put(root, f"{APP}/{MAIN}", main, 0o755)
    put(root, "bin/darkbloom", main, 0o755)
    helper = signed_release.made().files[f"{APP}/{ENCLAVE}"]
    put(root, f"{APP}/{HELPER}", helper, 0o755)
    put(root, f"{APP}/{KERNEL}", b"kernel")
    for name in ("paged-kernel-v1", "fan-helper-v1"):
        put(root, f"{APP}/{FOLDER}/{name}", b"1")


def test_a_signed_release_has_all_that_it_needs(plan: ReleasePlan, root: Path) -> None:
    """Every subject is named, none fails, and the evidence stays short."""
    found = bundle_needs.judge(plan, root)
    assert [check for check in found if check.outcome != "passed"] == []
    assert {check.name for check in found} == {
        "Metal functions",
        "Metal function",
        "Metal target",
        "minimum macOS of the code",
        "resources",
        "linked library",
        "search path",
        "team of the code",
        "flat copy",
    }
    assert len(found) < 40
    assert set(bundle_needs.named(plan)) <= passed(found)


def break_metallib(root: Path) -> None:
    for path in (f"{APP}/{METALLIB}", "bin/mlx.metallib"):
        put(root, path, metal_functions.library({"gemv_float": b"x"}, minimum="26.2"))


def flip_module(root: Path) -> None:
    for path in (f"{APP}/{METALLIB}", "bin/mlx.metallib"):
        data = (root / path).read_bytes()
        put(root, path, data.replace(b"no rope_float32", b"no rope_float33"))


def newer_code(root: Path) -> None:
    for path in (f"{APP}/{ENCLAVE}", "bin/darkbloom-enclave"):
        put(root, path, linked_macho.build(minos="15.0"), 0o755)


def lost_library(root: Path) -> None:
    for path in (f"{APP}/{ENCLAVE}", "bin/darkbloom-enclave"):
        put(root, path, linked_macho.build(libraries=["@rpath/libpart.dylib"]), 0o755)


def opens_a_bundle(root: Path) -> None:
    for path in (f"{APP}/{MAIN}", "bin/darkbloom"):
        put(root, path, built.holding("/b/kit_Core.bundle", "kit_Core.bundle"), 0o755)


def without_main(root: Path) -> None:
    (root / APP / MAIN).unlink()


TAMPERINGS: list[tuple[Callable[[Path], None], set[str]]] = [
    (break_metallib, {"Metal function", "Metal target"}),
    (flip_module, {"Metal functions"}),
    (newer_code, {"minimum macOS of the code", "team of the code"}),
    (lost_library, {"linked library", "team of the code"}),
    (opens_a_bundle, {"resource bundle", "team of the code"}),
    (without_main, {"file"}),
    (lambda root: (root / APP / METALLIB).unlink(), {"file"}),
    (lambda root: (root / "bin/darkbloom").unlink(), {"flat copy"}),
    (lambda root: put(root, "bin/mlx.metallib", samples.metallib()), {"flat copy"}),
    (
        lambda root: put(root, f"{APP}/Contents/Resources/a", macho_samples.universal()),
        {"resources", "team of the code"},
    ),
    (lambda root: put(root, f"{APP}/{FOLDER}/paged-kernel-v1", b"1"), {"capability marker"}),
]


@pytest.mark.parametrize(("tamper", "names"), TAMPERINGS)
def test_each_tampering_is_named(
    plan: ReleasePlan, root: Path, tamper: Callable[[Path], None], names: set[str]
) -> None:
    """What lacks, or is another, fails by its own check, with a file and a next step."""
    tamper(root)
    wrong = failed(plan, root)
    assert names <= {check.name for check in wrong}
    assert {check.name for check in wrong} <= names | {"linked library", "search path"}
    for check in wrong:
        assert check.subject
        assert check.expected
        assert check.observed


def test_a_link_in_place_of_a_flat_copy_is_refused(plan: ReleasePlan, root: Path) -> None:
    """The coordinator reads `bin/darkbloom` as a regular file."""
    (root / "bin/darkbloom").unlink()
    (root / "bin/darkbloom").symlink_to(f"../{APP}/{MAIN}")
    assert [(check.name, check.observed) for check in failed(plan, root)] == [
        ("flat copy", "a symlink")
    ]


def test_a_release_of_october_is_judged_by_its_data(plan: ReleasePlan, root: Path) -> None:
    """Markers, resource bundle and helper: all there, and the marker without code stays away."""
    october(root)
    wanted = {"not_built_in": ["localhost:8080"]}
    asked = changed(plan, bundle=OCTOBER, environment=wanted)
    wrong = failed(asked, root)
    # The main executable carries the linker's signature here: it has no team.
    assert {check.name for check in wrong} == {"team of the code"}
    # Everything that a later stage looks for in the evidence was judged under that name.
    named = set(bundle_needs.named(asked))
    assert named - passed(bundle_needs.judge(asked, root)) == {
        ("team of the code", f"{APP}/{MAIN}")
    }
    assert {"not built in", "helper", "capability marker"} <= {name for name, _ in named}


@pytest.mark.parametrize(
    ("tamper", "name", "observed"),
    [
        (
            lambda root: (root / APP / FOLDER / "fan-helper-v1").unlink(),
            "capability marker",
            "none",
        ),
        (
            lambda root: put(root, f"{APP}/{FOLDER}/app-attest-callback-v1", b"1"),
            "capability marker",
            "a file with 1",
        ),
        (lambda root: (root / APP / KERNEL).unlink(), "what a capability needs", "none"),
        (lambda root: (root / APP / HELPER).chmod(0o775), "helper", "a file of mode 0775"),
        (lambda root: (root / APP / HELPER).unlink(), "helper", "nothing"),
        (lambda root: put(root, "bin/darkbloom-fan-helper", b"x"), "helper under bin/", "one"),
    ],
)
def test_what_october_adds_is_held_to_its_rules(
    plan: ReleasePlan, root: Path, tamper: Callable[[Path], None], name: str, observed: str
) -> None:
    """Each rule of the installers in the field, broken once."""
    october(root)
    tamper(root)
    wrong = failed(changed(plan, bundle=OCTOBER), root)
    assert (name, observed) in [(check.name, check.observed) for check in wrong]


def test_a_build_for_a_developers_machine_is_refused(plan: ReleasePlan, root: Path) -> None:
    """The release of May that asked `localhost:8080`, judged on what would ship."""
    of_prod = changed(
        plan,
        environment={"built_in": ["api.darkbloom.dev"], "not_built_in": ["localhost:8080"]},
    )
    put(root, f"{APP}/{MAIN}", built.holding("http://localhost:8080"), 0o755)
    found = {check.name: check for check in failed(of_prod, root)}
    assert {(name, found[name].subject) for name in ("built in", "not built in")} <= set(
        bundle_needs.named(of_prod)
    )
    assert found["built in"].observed == "nowhere in it"
    assert found["not built in"].observed == "http://localhost:8080"


def test_a_release_that_is_none_is_refused(plan: ReleasePlan, tmp_path: Path) -> None:
    """An empty folder fails by name, and raises nothing else."""
    assert {check.name for check in failed(plan, tmp_path)} == {"file"}

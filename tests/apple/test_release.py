"""A whole release under judgement: what holds, and what each changed byte does."""

from __future__ import annotations

import plistlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from release_tool.apple import (
    certificates,
    checks,
    cms,
    cms_normal_form,
    code_resources,
    der,
    macho,
    policy,
    release,
    superblob,
    verification,
)
from release_tool.apple.checks import Check
from release_tool.apple.facts import BundleFacts
from release_tool.apple.policy import Meant, MeantCode
from release_tool.apple.tree import Subtree, in_memory
from release_tool.apple.verification import BundleFiles
from release_tool.files.tree import DiskTree
from release_tool.rehearsal import certificate_parts
from release_tool.services import portable_signer
from tests import signed_release
from tests.signed_release import APP, CLAIMS, ENCLAVE, ENCLAVE_CLAIMS, MAIN, METALLIB, TEAM

_UNSIGNED = 0xA1
SEAL = f"{APP}/Contents/_CodeSignature/CodeResources"
INFO = f"{APP}/Contents/Info.plist"
FILES = [
    INFO,
    f"{APP}/{MAIN}",
    f"{APP}/{ENCLAVE}",
    f"{APP}/{METALLIB}",
    SEAL,
    f"{APP}/Contents/embedded.provisionprofile",
    "bin/darkbloom",
    "bin/darkbloom-enclave",
    "bin/mlx.metallib",
]


def failed(found: tuple[Check, ...] | list[Check]) -> list[Check]:
    return [check for check in found if check.outcome == "failed"]


def judged(changed: dict[str, bytes] | None = None, *, strict: bool = True) -> list[Check]:
    made = signed_release.made()
    return failed(release.verify(made.tree(changed), judge=made.judge(strict=strict)).checks)


def facts() -> BundleFacts:
    made = signed_release.made()
    found = release.verify(made.tree(), judge=made.judge()).facts
    assert found is not None
    return found


def flipped(content: bytes, position: int, mask: int) -> bytes:
    changed = bytearray(content)
    changed[position] ^= mask
    return bytes(changed)


def positions(content: bytes) -> Iterator[int]:
    """The first and last bytes, each page's edges, and some spread between."""
    chosen = {0, 1, 2, 3, len(content) - 1, len(content) - 2}
    chosen |= {edge for page in range(0, len(content), 16384) for edge in (page, page + 16383)}
    chosen |= {number * 7919 % len(content) for number in range(1, 13)}
    return (position for position in sorted(chosen) if 0 <= position < len(content))


def named(found: list[Check], path: str) -> bool:
    return any(path in f"{check.subject} {check.expected} {check.observed}" for check in found)


def test_our_release_holds() -> None:
    """What the writer made verifies strictly, with no byte open and nothing left unchecked."""
    made = signed_release.made()
    report = release.verify(made.tree(), judge=made.judge())
    assert sorted(made.files) == sorted(FILES)
    assert failed(report.checks) == []
    assert {check.outcome for check in report.checks} == {"passed"}
    assert set(report.flat_copies) == {"darkbloom", "darkbloom-enclave", "mlx.metallib"}
    assert facts().data_in_code_places == (METALLIB,)


def test_on_disk_it_is_judged_alike(tmp_path: Path) -> None:
    """The same files on disk give the same checks as in memory."""
    made = signed_release.made()
    tree = DiskTree(made.write(tmp_path))
    on_disk = release.verify(tree, judge=made.judge()).checks
    assert on_disk == release.verify(made.tree(), judge=made.judge()).checks


@pytest.mark.parametrize("path", FILES)
def test_every_changed_byte_of_a_file_is_refused_by_name(path: str) -> None:
    """Sampled bytes of every unpacked file: each change fails and names the file."""
    content = signed_release.made().files[path]
    for position in positions(content):
        found = judged({path: flipped(content, position, 1 + position % 255)})
        assert found, f"{path} at {position}"
        assert named(found, path), f"{path} at {position}: {found[0]}"


def test_every_byte_of_a_signature_counts() -> None:
    """Throughout the signature's room, padding included, no changed byte passes as ours."""
    made = signed_release.made()
    content = made.files[f"{APP}/{MAIN}"]
    offset, size = macho.parse(content)[0].signature or (0, 0)
    bundle = BundleFiles(info_plist=made.files[INFO], code_resources=made.files[SEAL])
    judge = made.judge()
    assert checks.all_hold(verification.verify(content, judge=judge, bundle=bundle).checks)
    for position in range(offset, offset + size, 37):
        changed = flipped(content, position, 1 + position % 255)
        report = verification.verify(changed, judge=judge, bundle=bundle)
        assert failed(report.checks), position - offset


@pytest.mark.slow
def test_every_single_byte_of_a_signature_counts() -> None:
    """The same for each byte of the signature and three changes of it."""
    made = signed_release.made()
    content = made.files[f"{APP}/{MAIN}"]
    offset, size = macho.parse(content)[0].signature or (0, 0)
    bundle = BundleFiles(info_plist=made.files[INFO], code_resources=made.files[SEAL])
    judge = made.judge()
    for position in range(offset, offset + size):
        for mask in (0x01, 0x80, 1 + position % 255):
            changed = flipped(content, position, mask)
            report = verification.verify(changed, judge=judge, bundle=bundle)
            assert failed(report.checks), (position - offset, mask)


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("extra", b"x"),
        ("bin/extra", b"x"),
        (f"{APP}/extra", b"x"),
        (f"{APP}/Contents/extra", b"x"),
        (f"{APP}/Contents/PkgInfo", b"APPL????"),
        (f"{APP}/Contents/CodeResources", b"s8ch"),
        (f"{APP}/Contents/_CodeSignature/extra", b"x"),
        (f"{APP}/Contents/MacOS/.DS_Store", b"x"),
    ],
)
def test_an_added_file_is_refused_by_name(path: str, content: bytes) -> None:
    """Nothing may lie anywhere that we did not put there, sealed or not."""
    assert named(judged({path: content}), path)


@pytest.mark.parametrize("path", FILES)
def test_a_missing_file_is_refused(path: str) -> None:
    """Each file's absence is found, but a flat copy's that nobody asked for."""
    made = signed_release.made()
    files = {name: content for name, content in made.files.items() if name != path}
    report = release.verify(
        in_memory(files, modes=made.modes),
        judge=made.judge(),
        flat_copies=("darkbloom", "darkbloom-enclave", "mlx.metallib"),
    )
    assert failed(report.checks)


def test_links_and_modes_of_flat_copies_are_judged() -> None:
    """A flat copy is a regular file with the same right to run."""
    made = signed_release.made()
    modes = {**made.modes, "bin/darkbloom": 0o644}
    found = failed(release.verify(in_memory(made.files, modes=modes), judge=made.judge()).checks)
    assert {check.subject for check in found} == {"bin/darkbloom"}
    files = {name: content for name, content in made.files.items() if name != "bin/darkbloom"}
    linked = in_memory(files, modes=made.modes, links={"bin/darkbloom": f"../{APP}/{MAIN}"})
    assert named(failed(release.verify(linked, judge=made.judge()).checks), "bin/darkbloom")


@pytest.mark.parametrize(
    ("path", "mode", "holds"),
    [
        (MAIN, 0o644, False),
        (MAIN, 0o744, False),
        (MAIN, 0o775, False),
        (MAIN, 0o777, False),
        (MAIN, 0o4755, False),
        (MAIN, 0o700, True),
        (MAIN, 0o750, True),
        (METALLIB, 0o755, False),
        (METALLIB, 0o666, False),
        (METALLIB, 0o1644, False),
        (METALLIB, 0o444, False),
        (METALLIB, 0o600, True),
        ("Contents/Info.plist", 0o664, False),
    ],
)
def test_modes_of_our_own_are_those_of_our_writer(path: str, mode: int, holds: bool) -> None:
    """In the app and its flat copy alike: only what a umask takes away may differ."""
    made = signed_release.made()
    flat = f"bin/{path.rpartition('/')[2]}"
    modes = {**made.modes, f"{APP}/{path}": mode}
    if flat in made.files:
        modes[flat] = mode
    tree = in_memory(made.files, modes=modes)
    found = failed(release.verify(tree, judge=made.judge()).checks)
    assert ([check.subject for check in found] == []) is holds
    assert holds or named(found, f"{APP}/{path}")
    foreign = failed(release.verify(tree, judge=made.judge(strict=False)).checks)
    assert bool(foreign) is (path == MAIN and not mode & 0o100)


def test_another_root_refuses_everything_signed() -> None:
    """Under Apple's roots the look-alike's code, timestamps and profile are refused."""
    made = signed_release.made()
    judge = verification.Judge(trust=certificates.apple_trust(), now=made.now, strict=True)
    names = {check.name for check in failed(release.verify(made.tree(), judge=judge).checks)}
    assert {"certificate chain", "timestamp", "designated requirement"} <= names
    assert "profile signature" in names


def test_open_bytes_of_others_are_listed_not_refused() -> None:
    """Padding, surplus certificates and unsigned attributes in foreign code are unprotected."""
    made = signed_release.made()
    content = made.files[f"{APP}/{ENCLAVE}"]
    judge = made.judge(strict=False)
    padded = content[:-1] + b"\x01"
    for changed, name in (
        (padded, "padding"),
        (_with_cms(content, _surplus_certificate), "surplus certificates"),
        (_with_cms(content, _unsigned_attribute), "unsigned attributes"),
        (
            _with_cms(content, _in_token(_surplus_certificate)),
            "surplus certificates in the timestamp",
        ),
        (
            _with_cms(content, _in_token(_unsigned_attribute)),
            "unsigned attributes in the timestamp",
        ),
    ):
        found = verification.verify(changed, judge=judge).checks
        assert failed(found) == []
        assert name in {check.name for check in found if check.outcome == "unprotected"}
        assert failed(verification.verify(changed, judge=made.judge()).checks)


def test_a_lone_flat_copy_is_bound_to_a_bundle() -> None:
    """The main executable alone holds, but its bundle's hashes are not checked."""
    made = signed_release.made()
    report = verification.verify(made.files["bin/darkbloom"], judge=made.judge())
    assert failed(report.checks) == []
    unasked = [check for check in report.checks if check.outcome == "not_checked"]
    assert [check.name for check in unasked] == ["Info.plist hash", "resource seal hash"]
    assert all("bound to a bundle" in check.hint for check in unasked)


def _with_cms(content: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """The same code with a changed CMS in the same room."""
    (code,) = macho.parse(content)
    offset, size = code.signature or (0, 0)
    blob = superblob.parse(content[offset : offset + size])
    old = blob.get(superblob.SLOT_CMS) or b""
    new = change(superblob.unwrap(old, superblob.MAGIC_WRAPPER))
    blobs = [
        (slot, superblob.wrap(superblob.MAGIC_WRAPPER, new) if slot == superblob.SLOT_CMS else raw)
        for slot, raw in blob.blobs
    ]
    signature = superblob.encode(blobs)
    assert len(signature) <= size
    return content[:offset] + signature.ljust(size, b"\0")


def _rebuilt(
    content: bytes,
    *,
    holders: tuple[bytes, ...] = (),
    unsigned: tuple[bytes, ...] = (),
    keep: bool = True,
) -> bytes:
    """A CMS with more certificates and unsigned attributes; `keep` the unsigned ones there."""
    signed_data = der.as_sequence(der.parse(content))[1].children[0]
    version, digests, encapsulated, there, signers = der.as_sequence(signed_data)
    (signer,) = der.as_set(signers)
    fields = list(der.as_sequence(signer))
    old: tuple[bytes, ...] = ()
    if fields[-1].raw[0] == _UNSIGNED:
        old = tuple(node.raw for node in fields.pop().children)
    new = (*old, *unsigned) if keep else unsigned
    open_part = (der.encode(_UNSIGNED, *new),) if new else ()
    body = der.sequence(
        version.raw,
        digests.raw,
        encapsulated.raw,
        der.encode(0xA0, *(node.raw for node in there.children), *holders),
        der.set_as_given(der.sequence(*(node.raw for node in fields), *open_part)),
    )
    return der.sequence(der.oid(cms.SIGNED_DATA), der.context(0, body))


def _surplus_certificate(content: bytes) -> bytes:
    role = certificate_parts.TIMESTAMP_SIGNER
    other = signed_release.look_alike().certificate(role)
    return _rebuilt(content, holders=(other.public_bytes(Encoding.DER),))


def _unsigned_attribute(content: bytes) -> bytes:
    return _rebuilt(content, unsigned=(cms.attribute("1.2.3.4", der.integer(1)),))


def _in_token(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """The change, made to the timestamp token inside a code signature's CMS."""

    def within(content: bytes) -> bytes:
        (values,) = cms.parse(content).signers[0].unsigned.values()
        token = der.parse(change(values[0].raw))
        stamped = cms.attribute(cms.TIMESTAMP_TOKEN, token.raw)
        return _rebuilt(content, unsigned=(stamped,), keep=False)

    return within


def test_the_normal_form_is_what_the_signer_writes() -> None:
    """Two writers that know nothing of each other agree on every byte around the signature."""
    for path in (MAIN, ENCLAVE):
        content = signed_release.made().files[f"{APP}/{path}"]
        (code,) = macho.parse(content)
        room = code.signature_bytes
        assert room is not None
        blob = superblob.parse(room).get(superblob.SLOT_CMS) or b""
        raw = superblob.unwrap(blob, superblob.MAGIC_WRAPPER)
        chain = next(
            item.certificates for report in facts().code.values() for item in report.slices
        )
        assert cms_normal_form.code_signature(cms.parse(raw), chain) == raw


def meant(**changes: object) -> Meant:
    code = {
        MAIN: MeantCode(identifier=signed_release.BUNDLE_ID, entitlements=CLAIMS),
        ENCLAVE: MeantCode(identifier=signed_release.ENCLAVE_ID, entitlements=ENCLAVE_CLAIMS),
    }
    return Meant(**{"team_id": TEAM, "code": code, **changes})  # type: ignore[arg-type]


def test_what_was_meant_was_signed() -> None:
    """Team, identifiers, flags, entitlements and timestamps agree role by role."""
    assert failed(policy.compare(facts(), meant())) == []


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"team_id": "OTHERTEAM1"}, {"team"}),
        ({"team_id": None}, {"team", "flags"}),
        ({"certificate_sha256": "0" * 64}, {"signing certificate"}),
        ({"arch": "x86_64"}, {"architecture"}),
        (
            {"code": {MAIN: MeantCode(identifier="a")}},
            {"code objects", "identifier", "bundle identifier", "entitlements as meant"},
        ),
        (
            {
                "code": {
                    MAIN: MeantCode(identifier=signed_release.BUNDLE_ID, entitlements=CLAIMS),
                    ENCLAVE: MeantCode(identifier=signed_release.ENCLAVE_ID),
                }
            },
            {"entitlements as meant"},
        ),
    ],
)
def test_what_was_not_meant_is_named(changes: dict[str, object], names: set[str]) -> None:
    """Each difference between what was meant and what was read is a failed check."""
    assert {check.name for check in failed(policy.compare(facts(), meant(**changes)))} == names


def test_launch_needs_the_profile() -> None:
    """Without a profile, or with another one, macOS would kill the provider: each reason."""
    found = failed(policy.launch(facts(), None))
    assert [check.name for check in found] == ["embedded profile"]
    grants = policy.Grants(
        team_ids=("OTHERTEAM1",),
        entitlements={"keychain-access-groups": ["OTHERTEAM1.*"]},
        certificates=("0" * 64,),
    )
    names = [check.name for check in failed(policy.launch(facts(), grants))]
    assert names == [
        "entitlement granted",
        "entitlement granted",
        "entitlement granted",
        "team of the profile",
        "certificate in the profile",
    ]


def test_a_helper_with_restricted_entitlements_is_killed(tmp_path: Path) -> None:
    """A bare helper that claims what only a profile can grant is refused."""
    app = signed_release.assemble(tmp_path)
    signed_release.sign(app, enclave_claims=CLAIMS)
    made = signed_release.made()
    found = failed(release.verify_app(DiskTree(app), judge=made.judge(), path=APP).checks)
    assert {(check.name, check.subject) for check in found} == {
        ("restricted entitlements", f"{APP}/{ENCLAVE}")
    }


def test_debuggable_code_is_refused(tmp_path: Path) -> None:
    """`get-task-allow` in a signed executable is refused."""
    app = signed_release.assemble(tmp_path)
    signed_release.sign(
        app, enclave_claims={**ENCLAVE_CLAIMS, "com.apple.security.get-task-allow": True}
    )
    made = signed_release.made()
    found = failed(release.verify_app(DiskTree(app), judge=made.judge(), path=APP).checks)
    assert {check.name for check in found} == {"get-task-allow"}


def test_ad_hoc_code_holds_but_nobody_signed_it(tmp_path: Path) -> None:
    """An ad-hoc app is whole, and its signature is listed as unprotected."""
    app = signed_release.assemble(tmp_path)
    signed_release.sign(app, claims=ENCLAVE_CLAIMS, adhoc=True)
    made = signed_release.made()
    found = release.verify_app(DiskTree(app), judge=made.judge(), path=APP).checks
    assert failed(found) == []
    signatures = [check.outcome for check in found if check.name == "signature"]
    assert signatures == ["unprotected", "unprotected"]
    assert [check.outcome for check in found if check.name == "nested requirement"] == ["passed"]


def test_a_seal_that_names_other_nested_code_is_refused(tmp_path: Path) -> None:
    """Nested code signed anew after the app breaks the app, by cdhash."""
    made = signed_release.made()
    app = made.write(tmp_path) / APP
    portable_signer.sign_file(
        app / ENCLAVE,
        identifier=signed_release.ENCLAVE_ID,
        entitlements=plistlib.dumps({}),
        authority=signed_release.signing_authority(),
    )
    found = failed(release.verify_app(DiskTree(app), judge=made.judge(), path=APP).checks)
    assert [(check.name, check.subject) for check in found] == [
        ("nested cdhash", f"{APP}/{ENCLAVE}")
    ]


def test_a_release_without_timestamps_is_not_ours(tmp_path: Path) -> None:
    """A timestamp that was left out or taken off is refused in our own work."""
    app = signed_release.assemble(tmp_path)
    signed_release.sign(app, timestamped=False)
    made = signed_release.made()
    tree = DiskTree(app)
    found = failed(release.verify_app(tree, judge=made.judge(), path=APP).checks)
    assert {check.name for check in found} == {"timestamped"}
    report = release.verify_app(tree, judge=made.judge(strict=False), path=APP)
    assert failed(report.checks) == []
    assert "timestamp" in {check.name for check in report.checks if check.outcome == "unprotected"}


def test_code_signed_in_extended_attributes_is_refused() -> None:
    """A seal that names a data file as signed code cannot be proved after transport."""
    made = signed_release.made()
    contents = Subtree(tree=made.tree(), prefix=f"{APP}/Contents")
    nested = code_resources.NestedCode(cdhash=bytes(20), requirement_text="always")
    main, library = MAIN.removeprefix("Contents/"), METALLIB.removeprefix("Contents/")
    enclave = ENCLAVE.removeprefix("Contents/")
    seal = code_resources.build(contents, {library: nested, enclave: nested}, main_executable=main)
    found = judged({SEAL: seal}, strict=False)
    assert any(
        check.subject == f"{APP}/{METALLIB}" and "extended attributes" in check.observed
        for check in found
    )


@given(
    path=st.sampled_from(FILES[:6]),
    cut=st.integers(0, 80_000),
    splice=st.binary(max_size=40),
    keep=st.booleans(),
)
def test_no_wreck_escapes_as_another_error(path: str, cut: int, splice: bytes, keep: bool) -> None:
    """A file cut, or overwritten in the middle, is judged to the end in both modes."""
    made = signed_release.made()
    content = made.files[path]
    at = cut % (len(content) + 1)
    changed = content[:at] + splice + (content[at + len(splice) :] if keep else b"")
    for strict in (True, False):
        report = release.verify(made.tree({path: changed}), judge=made.judge(strict=strict))
        if strict:
            assert changed == content or failed(report.checks)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"A.app/Contents/Info.plist": b"not a plist", "bin/x": b""},
        {"A.app/Contents/Info.plist": plistlib.dumps({}), "bin/x": b""},
        {
            "A.app/Contents/Info.plist": plistlib.dumps({"CFBundleExecutable": "../../x"}),
            "bin/x": b"",
        },
        {
            "A.app/Contents/Info.plist": plistlib.dumps({"CFBundleExecutable": "x"}),
            "A.app/Contents/MacOS/x": b"\xcf\xfa\xed\xfe",
            "A.app/Contents/_CodeSignature/CodeResources": b"<plist/>",
            "bin/x": b"",
        },
        {"A.app/x": b"", "B.app/x": b"", "bin/x": b""},
    ],
)
def test_wrecks_are_refused_without_a_traceback(files: dict[str, bytes]) -> None:
    """Folders that only look like a release end in failed checks."""
    made = signed_release.made()
    assert failed(release.verify(in_memory(files), judge=made.judge()).checks)

"""`release-tool verify-profile`: what it prints, how it exits, and what it does not load."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from release_tool.cli import profile_answer
from release_tool.cli.main import invoke
from release_tool.cli.session import Session
from release_tool.rehearsal import profiles
from release_tool.rehearsal.authority import Authority
from release_tool.rehearsal.profiles import Wish

TEAM = "SLDQ2GJ6TL"
ASKED = [
    *("--team-id", TEAM, "--bundle-id", "io.darkbloom.provider"),
    *("--access-group", f"{TEAM}.io.darkbloom.provider"),
]


class Files:
    """A look-alike profile with its roots and its signing certificate."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority.create(TEAM)
        self.data = self.make()
        self.profile = folder / "direct.provisionprofile"
        self.profile.write_bytes(self.data)
        self.roots = folder / "roots.pem"
        self.roots.write_bytes(self.authority.trust_pem())
        self.leaf = folder / "leaf.pem"
        self.leaf.write_bytes(self.authority.developer_id.public_bytes(serialization.Encoding.PEM))

    def make(self, **wish: object) -> bytes:
        wanted = {"team_id": TEAM, "bundle_id": "io.darkbloom.provider", **wish}
        return profiles.make(self.authority, Wish(**wanted))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("profile"))


def run(*arguments: object, environ: dict[str, str] | None = None) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    session = Session(environ or {}, out=out, err=err)
    code = invoke(["verify-profile", *map(str, arguments)], session)
    return code, out.getvalue(), err.getvalue()


def test_a_good_profile_exits_0_with_every_check(files: Files) -> None:
    """All that was asked passes, each on a line, and nothing goes to standard error."""
    code, out, err = run(files.profile, *ASKED, "--certificate", files.leaf, "--trust", files.roots)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith(f"{files.profile}: holds")
    assert lines[0].endswith("Developer ID")
    names = ("signature", "inner profile", "kind", "platform", "debugging", "team", "app id")
    for name in (*names, "access groups", "certificate", "expiry"):
        assert any(line.startswith(f"  passed   {name:<13} ") for line in lines), name
    assert "  not checked            entitlements" in out


def test_without_its_roots_a_look_alike_is_refused(files: Files) -> None:
    """Apple's roots alone refuse the same profile, exit 6."""
    code, out, _err = run(files.profile)
    assert code == 6
    assert "do not ship" in out.splitlines()[0]
    assert "failed   signature" in out
    assert out.endswith("exit 6\n")


def test_refusals_show_expected_and_observed(files: Files) -> None:
    """A wrong app id is told with both sides and the next step."""
    code, out, _err = run(files.profile, "--bundle-id", "io.darkbloom.cli", "--trust", files.roots)
    assert code == 6
    assert (
        f"  failed   app id        expected {TEAM}.io.darkbloom.cli, "
        f"the profile grants {TEAM}.io.darkbloom.provider\n" in out
    )
    assert "make a profile for the App ID" in out


def test_json_has_the_documented_shape(files: Files) -> None:
    """`--json` prints one document: verdict, facts and every check with all its fields."""
    code, out, err = run(files.profile, "--trust", files.roots, "--json", *ASKED)
    document = json.loads(out)
    assert (code, err, document["ok"], document["authentic"]) == (0, "", True, True)
    facts = document["profile"]
    assert facts["team_id"] == TEAM
    assert facts["kind"] == "developer-id"
    assert facts["platforms"] == ["OSX"]
    assert facts["app_ids"] == [f"{TEAM}.io.darkbloom.provider"]
    assert facts["access_groups"] == [f"{TEAM}.*"]
    assert facts.keys() >= {"name", "uuid", "created", "expires", "certificates"}
    assert len(facts["certificates"][0]["sha256"]) == 64
    for check in document["checks"]:
        assert check.keys() >= {"name", "outcome", "expected", "observed", "hint"}
    outcomes = {check["name"]: check["outcome"] for check in document["checks"]}
    assert outcomes["certificate"] == "not_checked"
    assert outcomes["team"] == "passed"


def test_json_of_a_refusal_exits_6(files: Files) -> None:
    """A refused profile still prints its document."""
    code, out, _err = run(files.profile, "--json")
    document = json.loads(out)
    assert (code, document["ok"], document["authentic"]) == (6, False, False)


def test_base64_comes_from_a_variable(files: Files) -> None:
    """CI keeps the profile as base64 in a variable, often with a newline behind it."""
    environ = {"PROVISIONING_PROFILE_BASE64": base64.b64encode(files.data).decode() + "\n"}
    name = "PROVISIONING_PROFILE_BASE64"
    code, out, _err = run("--base64-env", name, "--trust", files.roots, environ=environ)
    assert code == 0
    assert out.startswith(f"${name}: holds")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "name one profile"),
        (["-", "--base64-env", "X"], "name one profile"),
        (["/no/such/file"], "cannot be read"),
        (["/"], "cannot be read"),
        (["x\0y"], "cannot be read"),
        (["-", "--team-id", ""], "--team-id is empty"),
        (["-", "--bundle-id", " "], "--bundle-id is empty"),
        (["-", "--access-group", ""], "--access-group is empty"),
        (["-", "--certificate", "/no/such/file"], "cannot be read"),
        (["-", "--min-days", "-1"], "not in the range"),
        (["-", "--teem-id", "X"], "--team-id"),
    ],
)
def test_usage_errors_exit_2(arguments: list[str], reason: str) -> None:
    """A wrong command line is told in one line, exit 2, nothing on standard output."""
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert reason in err


@pytest.mark.parametrize("environ", [{}, {"NAME": " "}])
def test_an_unset_variable_is_a_missing_credential(environ: dict[str, str]) -> None:
    """It exits 4, as every missing credential does, with the next step."""
    code, out, err = run("--base64-env", "NAME", environ=environ)
    assert (code, out) == (4, "")
    assert "NAME is unset or empty" in err
    assert "set NAME to the profile as base64 text" in err


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"\x30\x80", b"\x30\x82\xff\xff", b"aGVsbG8=", b"\x30\x80" * 90_000]
)
def test_other_bytes_exit_6_in_one_line_with_a_next_step(tmp_path: Path, data: bytes) -> None:
    """What is no profile gets one clear line, what to give and exit 6, never a traceback."""
    path = tmp_path / "some.provisionprofile"
    path.write_bytes(data)
    code, out, err = run(path)
    assert (code, out) == (6, "")
    assert err.startswith(f"release-tool: {path}: not a provisioning profile")
    wanted = "  give the .provisionprofile as the portal made it, as PEM or as base64 text"
    assert err.splitlines()[1:] == [wanted, "exit 6"]


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    """A file of any size costs no more memory than the cap."""
    path = tmp_path / "huge.provisionprofile"
    with path.open("wb") as stream:
        stream.truncate(1 << 40)
    code, _out, err = run(path)
    assert code == 6
    assert "more than 8 MB" in err or "empty" in err


def test_a_certificate_file_may_hold_its_chain(files: Files, tmp_path: Path) -> None:
    """The leaf is found beside its authority; a file without a leaf is refused."""
    chain = tmp_path / "chain.pem"
    chain.write_bytes(files.roots.read_bytes() + files.leaf.read_bytes())
    assert run(files.profile, "--certificate", chain, "--trust", files.roots)[0] == 0
    code, _out, err = run(files.profile, "--certificate", files.roots, "--trust", files.roots)
    assert code == 6
    assert "one signing certificate" in err


def test_foreign_text_cannot_move_the_cursor(files: Files, tmp_path: Path) -> None:
    """Control characters in a profile's name reach no terminal."""
    path = tmp_path / "p"
    path.write_bytes(
        files.make(granted={"com.apple.application-identifier": "\x7f\u202e" + "x" * 900})
    )
    _code, out, _err = run(path, *ASKED, "--trust", files.roots)
    assert not set(out) & {"\x1b", "\x7f", "\u202e"}
    assert max(map(len, out.splitlines())) < 700


@pytest.mark.parametrize("wrap", [bytes, base64.b64encode])
def test_standard_input_is_read(files: Files, wrap: type[bytes]) -> None:
    """`-` takes DER and base64 from a pipe, in a process that loads none of the heavy libraries."""
    program = (
        "import sys\n"
        "from release_tool.cli.main import invoke\n"
        "from release_tool.cli.session import Session\n"
        "code = invoke(['verify-profile', *sys.argv[1:]], Session({}))\n"
        "heavy = {'pydantic', 'rich', 'boto3', 'requests', 'cryptography.x509', 'yaml'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "-", "--trust", str(files.roots)],
        input=wrap(files.data),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"standard input: holds")


@pytest.mark.parametrize(
    ("arguments", "request_"),
    [
        ("p", {"profile": "p"}),
        ("--json p", {"profile": "p", "as_json": True}),
        (
            "p --team-id T --trust a --trust b",
            {"profile": "p", "team_id": "T", "trust": ("a", "b")},
        ),
        (
            "--access-group g --access-group h p --certificate c --bundle-id b",
            {"profile": "p", "access_group": ("g", "h"), "certificate": "c", "bundle_id": "b"},
        ),
        ("--base64-env NAME", {"base64_env": "NAME"}),
        ("", {}),
        ("-", None),
        ("p q", None),
        ("--help", None),
        ("p --team-id", None),
        ("p --team-id=T", None),
        ("p --team-id T --team-id U", None),
        ("p --min-days 3", None),
        ("p --unknown x", None),
        ("-- p", None),
    ],
)
def test_plain_calls_are_read_as_click_reads_them(
    arguments: str, request_: dict[str, object] | None
) -> None:
    """The short way takes the plainest forms only and leaves every other to the whole program."""
    expected = None if request_ is None else profile_answer.Request(**request_)  # type: ignore[arg-type]
    assert profile_answer.plain(arguments.split()) == expected


def test_the_short_way_says_the_same_as_the_whole_program(files: Files) -> None:
    """Both ways print the same bytes and exit alike; only the long one loads click."""
    program = (
        "import sys\n"
        "from release_tool.cli import entry\n"
        "try:\n"
        "    entry.main()\n"
        "finally:\n"
        "    print('click' in sys.modules, file=sys.stderr)\n"
    )
    for arguments in ([], ["--team-id", "AAAAAAAAAA"], ["--json"]):
        words = [str(files.profile), "--trust", str(files.roots), *arguments]
        done = subprocess.run(
            [sys.executable, "-c", program, "verify-profile", *words],
            capture_output=True,
            check=False,
            timeout=60,
        )
        code, out, _err = run(*words)
        assert (done.returncode, done.stdout.decode()) == (code, out)
        assert done.stderr == b"False\n"


@pytest.mark.parametrize("words", [["/no/such/file"], [], ["--help"], ["/dev/null"]])
def test_errors_and_help_come_from_the_whole_program(words: list[str]) -> None:
    """What the short way cannot answer is told once, by the program that tells all errors."""
    done = subprocess.run(
        [sys.executable, "-m", "release_tool.cli.entry", "verify-profile", *words],
        capture_output=True,
        check=False,
        timeout=60,
    )
    code, out, err = run(*words)
    assert done.returncode == code
    assert done.stderr.decode() == err
    assert out in ("", done.stdout.decode())


def test_github_gets_one_annotation_with_every_reason(files: Files) -> None:
    """Under GitHub Actions a refusal is annotated; with --json the document stays alone."""
    words = [files.profile, "--trust", files.roots, "--team-id", "AAAAAAAAAA"]
    environ = {"GITHUB_ACTIONS": "true"}
    code, out, _err = run(*words, environ=environ)
    assert code == 6
    annotations = [line for line in out.splitlines() if line.startswith("::error ")]
    assert len(annotations) == 1
    assert "%0Ateam: expected AAAAAAAAAA, found SLDQ2GJ6TL" in annotations[0]
    assert json.loads(run(*words, "--json", environ=environ)[1])["ok"] is False
    assert "::error" not in run(files.profile, "--trust", files.roots, environ=environ)[1]

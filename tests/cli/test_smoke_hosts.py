"""A release that must be smoked on two kinds of hosts, through the command line."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from release_tool.cli import main
from release_tool.cli.session import Session
from release_tool.ledger import Ledger
from release_tool.rehearsal import environment
from release_tool.services import host as this_host
from release_tool.values import Host
from tests.cli.test_handoff_command import Machines

ROOT = Path(__file__).resolve().parents[2]
OLD = Host(system="linux", release="1", machine="x86_64", chip="Look-alike M1")
NEW = Host(system="linux", release="2", machine="x86_64", chip="Look-alike M4")


class Hosts(Machines):
    """Machines whose release.yaml asks for two chips, in the rehearsal too."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        document = yaml.safe_load((ROOT / "release.yaml").read_text())
        document["smoke"] |= {
            "require": [{"name": "oldest", "chip": "M1"}, {"name": "newest", "chip": "M4"}],
            "prompts": ["What is the capital of France?"],
            "concurrency": [1],
            "max_tokens": 4,
            "long_tokens": 4,
        }
        document["environments"]["rehearsal"]["lanes"] = "required"
        self.config = folder / "release.yaml"
        self.config.write_text(yaml.safe_dump(document))

    def say(self, job: str, *argv: str) -> tuple[int, str, str]:
        """A command with the release.yaml and the model of this release."""
        told = () if "pack" in argv else ("--model", str(self.folder / "model"))
        return self.call(job, *argv, "--config", str(self.config), *told)

    def call_plain(self, *argv: str) -> tuple[int, str, str]:
        """A command that takes no plan."""
        out, err = io.StringIO(), io.StringIO()
        code = main.invoke(list(argv), Session({}, out=out, err=err))
        return code, out.getvalue(), err.getvalue()

    def pack(self, job: str) -> tuple[str, str]:
        """What a job hands on, and its head."""
        file = str(self.folder / f"{job}.tar.gz")
        code, out, err = self.say(job, "handoff", "pack", file, "--json")
        assert code == 0, err
        return file, json.loads(out)["head"]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    made = Hosts(tmp_path_factory.mktemp("hosts"))
    yield made
    living = environment.attach(made.state)
    if living is not None:
        living.stop()


def be(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine says that it is that host."""
    monkeypatch.setattr(this_host, "describe", lambda: host)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_matrix_fills_the_lanes_and_a_missing_one_stops_publishing(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One host's record alone publishes nothing, and what fills the lane is said."""
    metallib = ("--metallib", str(hosts.folder / "lib.metallib"))
    code, _, err = hosts.say("archive", "run", "--until", "archive", *metallib)
    assert code == 0, err
    file, head = hosts.pack("archive")
    packs = []
    for job, host in (("old", OLD), ("new", NEW)):
        be(host, monkeypatch)
        assert hosts.say(job, "handoff", "unpack", file, "--expect", head)[0] == 0
        code, _, err = hosts.say(job, "run", "--only", "smoke")
        assert code == 0, err
        packs.append(hosts.pack(job))
    code, _, err = hosts.say("new", "run", "--until", "publish")
    assert code == 6
    assert "lane oldest: expected a record of M1" in err
    assert "release-tool run --env rehearsal --version 0.5.0 --only smoke" in err
    code, out, _ = hosts.call_plain("status", str(hosts.workspace("new")))
    assert code == 0
    assert "lane oldest: missing, M1" in out
    assert "lane newest: done, linux 2, Look-alike M4" in out

    argv = [word for _, one in packs for word in ("--expect", one)]
    code, out, err = hosts.say("merge", "handoff", "merge", *(one for one, _ in packs), *argv)
    assert code == 0, err
    assert "linux 2, Look-alike M4" in out
    code, _, err = hosts.say("merge", "run", "--until", "promote", "--yes")
    assert code == 0, err
    records = Ledger(hosts.workspace("merge") / "ledger").records
    done = [one.stage for one in records if one.kind == "record"]
    assert done[-5:] == ["smoke", "smoke", "publish", "register", "promote"]
    relied = next(one for one in records if one.stage == "publish").inputs
    assert [name for name in relied if name.startswith("smoke of ")] == [
        "smoke of linux-1-x86_64-look-alike-m1"
    ]
    found = json.loads(hosts.call_plain("status", str(hosts.workspace("merge")), "--json")[1])
    assert [(one["lane"], bool(one["host"])) for one in found[0]["lanes"]] == [
        ("oldest", True),
        ("newest", True),
    ]


def test_heads_and_files_go_in_pairs(hosts: Hosts) -> None:
    """One head too few, or no head at all, is exit 2 before anything is read."""
    file = hosts.folder / "some.tar.gz"
    file.write_bytes(b"")
    for argv in ((str(file), str(file), "--expect", "a" * 64), (str(file), "--expect", "latest")):
        code, _, err = hosts.say("idle", "handoff", "merge", *argv)
        assert code == 2
        assert "head" in err
    assert not hosts.workspace("idle").exists()

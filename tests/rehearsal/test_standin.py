"""The stand-in provider, and the service that runs it: one living provider for most tests."""

from __future__ import annotations

import dataclasses
import http.client
import json
import os
import plistlib
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType

import pytest

from release_tool import errors
from release_tool.rehearsal import samples, standin, standin_engine, tiny_model
from release_tool.services import (
    child,
    hub_cache,
    provider,
    provider_command,
    provider_start,
    reference,
)
from release_tool.services.chat import Question
from release_tool.services.provider import Provider
from release_tool.services.provider_contract import OCTOBER
from release_tool.services.reference import Prompt
from tests import smoke_parts

pytest.importorskip("mlx_lm", reason="the extra `smoke` is not installed")
START_SECONDS = 60
STARTED = {"add_generation_prompt": True}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.make(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def living(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    home = tmp_path_factory.mktemp("home")
    with provider.serve(
        smoke_parts.stand_in(), model=str(model), home=home, start_seconds=START_SECONDS
    ) as made:
        yield made


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def question(prompt: str = "What is the capital of France?") -> Question:
    return Question(model="tiny", prompt=prompt, max_tokens=12)


def post(living: Provider, body: bytes, **headers: str) -> tuple[int, dict[str, object]]:
    """A raw request, as a client might get it wrong."""
    connection = http.client.HTTPConnection("127.0.0.1", living.port, timeout=10)
    try:
        kind = headers.get("kind", "application/json")
        path = headers.get("path", "/v1/chat/completions")
        connection.request("POST", path, body=body, headers={"Content-Type": kind})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_plain_streamed_and_reference_agree(living: Provider, model: Path, home: Path) -> None:
    """The stand-in says, in both ways, what mlx-lm says in its own process."""
    asked = question()
    plain = living.complete(asked, seconds=30)
    streamed = living.stream(asked, seconds=30)
    prompts = [Prompt(prompt=asked.prompt, max_tokens=12)]
    with reference.generating(model, prompts, home=home) as pending:
        found = pending.result(seconds=60)
    (expected,) = found.texts
    assert plain.text == streamed.text == expected.text
    assert plain.tokens == streamed.tokens == expected.tokens == 12
    assert 0 < streamed.first_token_seconds < 30
    assert streamed.decode_tokens_per_second > 0
    assert expected.decode_tokens_per_second > 0
    assert found.version


def test_another_prompt_gets_another_answer(living: Provider) -> None:
    """The answer depends on the prompt, so a comparison can fail."""
    assert living.complete(question("a"), seconds=30).text != (
        living.complete(question("b"), seconds=30).text
    )


def test_it_presents_itself_as_a_stand_in(
    living: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Health, models and log say that no provider runs here; the model has its own name."""
    monkeypatch.setattr(provider, "_DEATH_SECONDS", 0.2)
    assert living.version.endswith("-stand-in")
    assert living.model("org/tiny") == living.model("/models/tiny") == "tiny"
    with pytest.raises(errors.VerificationError, match="serves another model"):
        living.model("something")
    assert any("no Darkbloom code runs here" in line for line in living.log)
    connection = http.client.HTTPConnection("127.0.0.1", living.port, timeout=10)
    connection.request("GET", "/health")
    response = connection.getresponse()
    assert json.loads(response.read())["provider"] == "stand-in"
    connection.close()


def test_answers_at_once_are_those_of_one_at_a_time(living: Provider) -> None:
    """Four streams are answered side by side, each as if it were alone."""
    prompts = ("a", "b", "c", "d")
    alone = [living.complete(question(one), seconds=30).text for one in prompts]
    with ThreadPoolExecutor(max_workers=4) as pool:
        together = list(pool.map(lambda one: living.stream(question(one), seconds=30), prompts))
    assert [one.text for one in together] == alone
    assert len(set(alone)) == 4


def test_a_cancelled_stream_frees_the_engine(living: Provider) -> None:
    """Who hangs up is noticed, and the next question gets its whole answer."""
    expected = living.complete(question(), seconds=30)
    long = Question(model="tiny", prompt="What is the capital of France?", max_tokens=400)
    living.cancel(long, seconds=30)
    assert living.complete(question(), seconds=30).text == expected.text
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if any("a stream was cancelled" in line for line in living.log):
            return
        time.sleep(0.05)
    raise AssertionError(living.log)


def test_a_prompt_that_is_asked_again_is_not_read_again(model: Path) -> None:
    """What was read is kept for some prompts, and the answer is mlx-lm's own each time."""
    engine = standin_engine.Engine(model)
    prompts = [f"Tell me of {number} ships." for number in range(standin_engine.KEPT_PROMPTS + 2)]
    read = []
    for prompt in (*prompts, prompts[-1]):
        job = standin_engine.Job(messages=[{"role": "user", "content": prompt}], max_tokens=8)
        said = "".join(piece.text for piece in engine._generate(job))
        tokens = engine._tokenizer.apply_chat_template(list(job.messages), **STARTED)
        found = engine._library.stream_generate(
            engine._model, engine._tokenizer, tokens, max_tokens=8
        )
        assert said == "".join(piece.text for piece in found)
        read.append(next(reversed(engine.kept.values())))
    assert len(engine.kept) == standin_engine.KEPT_PROMPTS
    assert read[-1] is read[-2]
    assert read[-1] is not read[0]


def test_an_idle_engine_ends_when_it_is_told_to_on_a_busy_machine(model: Path) -> None:
    """A signal that is handled later than the engine meant to wait ends it all the same.

    As for a process that gets no processor for a moment just then. Nobody has to wake it.
    """
    engine = standin_engine.Engine(model)
    stop, woken = threading.Event(), threading.Event()

    def late(number: int, frame: FrameType | None) -> None:
        del number, frame
        time.sleep(5 * standin_engine.IDLE_SECONDS)
        stop.set()

    def wake() -> None:
        woken.set()
        engine.ask([{"role": "user", "content": "Wake up."}], max_tokens=1)

    main = threading.get_ident()
    told = threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGUSR1))
    waker = threading.Timer(20, wake)
    before = signal.signal(signal.SIGUSR1, late)
    try:
        told.start()
        waker.start()
        engine.run(stop)
    finally:
        waker.cancel()
        told.join()
        signal.signal(signal.SIGUSR1, before)
    assert not woken.is_set()


def test_a_large_body_is_refused_before_it_is_read(living: Provider) -> None:
    """64 MiB are answered by 413 while they are sent, and the next question is answered."""
    body = json.dumps(GOOD).encode() + b" " * 64 * 1024 * 1024
    refusal = living.refusal(body, content_type="application/json", seconds=30)
    assert refusal.status == 413
    assert living.complete(question(), seconds=30).tokens == 12


def test_its_manners_are_those_of_a_guest(living: Provider) -> None:
    """It listens on loopback only, and its PID file holds its own number."""
    assert {check.outcome for check in living.manners()} <= {"passed", "not_checked"}
    assert len(living.manners()) == 2


def test_october_wants_its_key(model: Path, home: Path) -> None:
    """A provider of October answers who has the key of its private file, and nobody else."""
    command = dataclasses.replace(
        smoke_parts.stand_in(),
        contract=OCTOBER,
        authorization="token",
        environment={
            **smoke_parts.stand_in().environment,
            provider_command.STAND_IN_CONTRACT: OCTOBER.name,
        },
    )
    with provider.serve(command, model=str(model), home=home, start_seconds=START_SECONDS) as made:
        assert made.wants_key
        assert made.complete(question(), seconds=30).tokens == 12
        body = question().body(stream=False)
        refusal = made.refusal(body, content_type="application/json", seconds=10, key="none")
        assert refusal.status == 401
        assert [check.name for check in made.manners()][-1] == "key file is private"
        assert {check.outcome for check in made.manners()} == {"passed"}
        token = (home / ".darkbloom" / "local_token").read_text().strip()
        assert token not in repr(made._endpoint)
    assert token not in made.record
    assert not (home / ".darkbloom" / "local.json").exists()


def test_may_knows_no_words_of_october(home: Path) -> None:
    """`runtime-smoke` and `--no-auth` are usage errors there: exit 64, as its parser's."""
    for words in (["runtime-smoke"], ["start", "--local", "--no-auth", "--port", "1"]):
        done = provider_start.start(smoke_parts.stand_in(), words, home=home, seconds=60)
        assert done.ending.status == 64


GOOD = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"messages": []}, 400),
        ({"messages": [{"role": "user"}]}, 400),
        ({"messages": "hi"}, 400),
        ({"max_tokens": 0}, 400),
        ({"max_tokens": True}, 400),
        ({"max_tokens": 10**9}, 400),
        ({"temperature": 1}, 400),
        ({"model": "another"}, 404),
        ({}, 200),
    ],
)
def test_a_malformed_question_is_refused(
    change: dict[str, object], status: int, living: Provider
) -> None:
    """What a provider refuses is a 4xx with an error in it, and the next question is answered."""
    observed, document = post(living, json.dumps({**GOOD, **change}).encode())
    assert observed == status
    assert ("error" in document) == (status != 200)


def test_what_is_no_json_is_refused(living: Provider) -> None:
    """Another content type is 415; bytes, depth and shapes that are no question are 400."""
    body = json.dumps(GOOD).encode()
    assert post(living, body, kind="text/plain")[0] == 415
    assert post(living, body, kind="application/json; charset=utf-8")[0] == 200
    assert post(living, body, path="/v1/completions")[0] == 404
    for bad in (b"{", b"[" * 100_000, b"[]", b"\xff"):
        assert post(living, bad)[0] == 400


def test_it_knows_its_own_home_only(model: Path, home: Path) -> None:
    """It writes its number where DARKBLOOM_PID_FILE says, and its group is gone afterwards."""
    with provider.serve(
        smoke_parts.stand_in(), model=str(model), home=home, start_seconds=START_SECONDS
    ) as made:
        number = int((home / "provider.pid").read_text())
        assert number in smoke_parts.living(made.group)
    assert smoke_parts.group_is_gone(made.group)
    assert not (home / "provider.pid").exists()


def test_a_provider_that_leaves_orphans_is_ended_whole(model: Path, home: Path) -> None:
    """A provider and its child that both ignore TERM are gone at the end, after an error too."""
    groups = []

    def interrupted() -> None:
        with provider.serve(
            smoke_parts.stand_in("--fault", "orphan"),
            model=str(model),
            home=home,
            start_seconds=START_SECONDS,
            grace_seconds=0.2,
        ) as made:
            groups.append(made.group)
            assert len(smoke_parts.living(made.group)) >= 3
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert smoke_parts.group_is_gone(groups[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("crash", "ended while it answered"),
        ("hang-answer", "did not answer"),
        ("mute", "counts no tokens"),
        ("stream-error", "answers an error"),
    ],
)
def test_a_provider_that_fails_is_named(fault: str, expected: str, model: Path, home: Path) -> None:
    """Each way to fail in an answer is told apart, with the death by signal where there is one."""
    with (
        pytest.raises(errors.VerificationError, match=expected) as caught,
        provider.serve(
            smoke_parts.stand_in("--fault", fault),
            model=str(model),
            home=home,
            start_seconds=START_SECONDS,
        ) as made,
    ):
        made.stream(question(), seconds=1.5 if fault == "hang-answer" else 30)
    if fault == "crash":
        assert caught.value.observed == "killed by SIGKILL"
    assert smoke_parts.group_is_gone(made.group)


def serve_and_fail(fault: str, home: Path, seconds: float) -> errors.VerificationError:
    def served() -> None:
        with provider.serve(
            smoke_parts.stand_in("--fault", fault), model="m", home=home, start_seconds=seconds
        ):
            pass

    with pytest.raises(errors.VerificationError) as caught:
        served()
    return caught.value


def test_a_provider_that_does_not_start_is_named(home: Path) -> None:
    """An early end is told with its exit code and its log, and secrets are not in that."""
    error = serve_and_fail("exit", home, START_SECONDS)
    assert (error.message, error.observed) == ("ended before it answered", "exit code 1")
    assert any("no engine for this model" in line for line in error.details)
    assert not any("not-a-real-secret" in line for line in error.details)


def test_a_provider_that_never_listens_is_ended(home: Path) -> None:
    """The time to start is bounded."""
    start = time.monotonic()
    assert "did not answer /health in time" in serve_and_fail("hang", home, 0.5).message
    assert time.monotonic() - start < 10


def test_a_taken_port_is_left_for_another(
    model: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where another process took the port first, the provider is started again on another."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        ports = iter([port, provider.free_port()])
        monkeypatch.setattr(provider, "free_port", lambda: next(ports))
        with provider.serve(
            smoke_parts.stand_in(), model=str(model), home=home, start_seconds=START_SECONDS
        ) as made:
            assert made.port != port
            assert made.complete(question(), seconds=30).tokens == 12


def test_the_version_is_that_of_the_executable(home: Path) -> None:
    """`--version` tells what the sample carries in whose place it answers."""
    samples.materialize(home / "Contents" / "MacOS", "0.5.0-dev.7")
    told = {provider_command.STAND_IN_FOR: str(home / "Contents" / "MacOS" / "darkbloom")}
    command = smoke_parts.stand_in()
    command = provider_command.ProviderCommand(
        argv=command.argv, kind="stand-in", environment={**command.environment, **told}
    )
    assert provider_start.ask_version(command, home=home) == "0.5.0-dev.7"
    assert standin.EXECUTABLE == provider_command.STAND_IN_FOR


def test_the_version_of_a_foreign_executable_comes_from_its_app(tmp_path: Path) -> None:
    """An executable that is no sample has the version of its Info.plist."""
    folder = tmp_path / "A.app" / "Contents" / "MacOS"
    folder.mkdir(parents=True)
    (folder / "darkbloom").write_bytes(b"\xcf\xfa\xed\xfe")
    assert standin.version_of(str(folder / "darkbloom")).endswith("-stand-in")
    info = plistlib.dumps({"CFBundleShortVersionString": "1.2.3"})
    (folder.parent / "Info.plist").write_bytes(info)
    assert standin.version_of(str(folder / "darkbloom")) == "1.2.3"
    (folder.parent / "Info.plist").write_bytes(b"no plist")
    assert standin.version_of(str(folder / "darkbloom")).endswith("-stand-in")


def test_a_version_that_never_comes_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hanging or unknown `--version` is one error."""
    monkeypatch.setattr(provider_start, "VERSION_SECONDS", 0.3)
    with pytest.raises(errors.VerificationError, match="did not end"):
        provider_start.ask_version(smoke_parts.stand_in("--fault", "version-hangs"), home=home)
    monkeypatch.setattr(provider_start, "VERSION_SECONDS", 60.0)
    killed = provider_command.ProviderCommand(
        argv=("/bin/sh", "-c", "kill -KILL $$"), kind="bundle"
    )
    with pytest.raises(errors.VerificationError) as caught:
        provider_start.ask_version(killed, home=home)
    assert caught.value.observed == "killed by SIGKILL"
    assert "AMFI" in caught.value.hint


def test_a_missing_model_is_named(home: Path, tmp_path: Path) -> None:
    """A folder without a model gives no reference, and the error says why."""
    with (
        reference.generating(tmp_path, [Prompt(prompt="hi", max_tokens=2)], home=home) as pending,
        pytest.raises(errors.HostError, match="no reference here") as caught,
    ):
        pending.result(seconds=60)
    assert "FileNotFoundError" in caught.value.observed


def test_a_reference_that_dies_is_named(model: Path, home: Path) -> None:
    """A reference whose process is killed says how it ended, and none is left."""
    with reference.generating(model, [Prompt(prompt="hi", max_tokens=2)], home=home) as pending:
        os.killpg(pending.group, signal.SIGKILL)
        with pytest.raises(errors.HostError) as caught:
            pending.result(seconds=60)
    assert caught.value.observed == "killed by SIGKILL"


def test_without_mlx_lm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of a host without mlx-lm names what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(errors.HostError) as caught:
        reference.require()
    assert "`smoke`" in caught.value.hint


def test_a_model_is_found_in_the_hubs_cache_and_shown_in_another_home(
    model: Path, tmp_path: Path
) -> None:
    """What is shown in a home is found there again, with the same digest."""
    home = tmp_path / "home"
    name = hub_cache.show(model, model="org/tiny", digest=hub_cache.digest(model), home=home)
    cache = hub_cache.cache_folder(home)
    assert name == "org/tiny"
    found = hub_cache.find("org/tiny", revision="", hub=cache)
    assert hub_cache.digest(found) == hub_cache.digest(model)
    assert hub_cache.find("org/tiny", revision=hub_cache.digest(model)[:40], hub=cache) == found
    assert not found.is_symlink()
    assert found.is_relative_to(home)
    assert all(path.is_symlink() for path in found.iterdir())
    assert hub_cache.find(str(model), revision="", hub=cache) == model.resolve()
    assert (
        hub_cache.show(model, model=str(model), digest="0" * 64, home=tmp_path / "b")
        == "local/tiny"
    )
    with pytest.raises(errors.HostError, match="lacks the model"):
        hub_cache.find("org/other", revision="", hub=cache)
    for wrong in ("../../etc", "a/b/c", "", "org/.."):
        with pytest.raises(errors.UsageError):
            hub_cache.find(wrong, revision="", hub=cache)


def test_the_child_of_the_service_holds_no_secret(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider's environment holds the names of its small world, and nothing of ours."""
    monkeypatch.setenv("R2_SECRET_ACCESS_KEY", "s3cret")
    script = provider_command.ProviderCommand(
        argv=("/bin/sh", "-c", "env; echo 1.0"), kind="bundle"
    )
    environment = provider_command.environment(script, home)
    done = child.run([*script.argv, "--version"], environment=environment, folder=home, seconds=20)
    assert done is not None
    assert "s3cret" not in done.stdout
    assert f"DARKBLOOM_PID_FILE={home / 'provider.pid'}" in done.stdout
    assert "DARKBLOOM_NO_UPDATE_CHECK=1" in done.stdout
    assert f"HOME={home}" in done.stdout

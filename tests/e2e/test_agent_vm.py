"""tenon-init as PID 1 of a real box, spoken to directly: what it cannot show on a plain host."""

import signal

import pytest

import wire
from wire import pb


def test_it_is_configured(agent_vm, conn):
    assert conn.hello.configured
    assert conn.hello.boot.configured_ns > conn.hello.boot.listening_ns > conn.hello.boot.init_ns > 0
    with pytest.raises(wire.WireError) as e:
        conn.configure()
    assert e.value.code == pb.CODE_ALREADY_EXISTS


@pytest.mark.parametrize("argv, code", [(["true"], 0), (["sh", "-c", "exit 7"], 7)])
def test_exit_codes(conn, argv, code):
    x = conn.run(*argv)
    assert (x.exit.code, x.exit.signal) == (code, 0)


def test_both_channels_and_stdin(conn):
    x = conn.run("sh", "-c", "cat; echo err >&2", stdin=b"in" * 100_000)
    assert (x.stdout, x.stderr) == (b"in" * 100_000, b"err\n")


def test_the_root_is_the_image_with_a_writable_layer(conn):
    x = conn.run("sh", "-c", "hostname; echo kept > /etc/mark; cat /etc/mark; awk '$2 == \"/\" {print $3}' /proc/mounts")
    assert x.stdout == b"box\nkept\noverlay\n"


def test_kill_reaches_what_has_left_the_session(conn):
    x = conn.started(conn.start("sh", "-c", "setsid sh -c 'echo $$; exec sleep 600' & echo started; wait"))
    conn.wait(lambda: x.stdout.count(b"\n") == 2)
    conn.signal(x, signal.SIGKILL, pb.TARGET_ALL)
    conn.finish(x)
    conn.wait(x.drained)  # EOF: nobody holds the pipe any more
    assert x.exit.signal == signal.SIGKILL

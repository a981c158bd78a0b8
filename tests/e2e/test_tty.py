"""Terminals in a real box, over REST, the WebSocket and the command line."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest

from client import error_of

ROOT = Path(__file__).resolve().parents[2]
TENON = ROOT / "build/bin/tenon"
SHOW_SIZE = "trap 'stty size; exit 7' WINCH; stty size; while :; do sleep 0.1; done"


def wait_for(attached, pattern):
    """Output of the terminal until the pattern has come."""
    got = b""
    while not re.search(pattern, got):
        kind, value = attached.next()
        assert kind == "out", (kind, value, got)  # a terminal has one channel
        got += value
    return got


def test_output_is_one_channel_and_the_exit_code_is_true(client, box):
    script = "test -t 0 && test -t 1 && test -t 2 && echo three; echo to err >&2; exit 5"
    out, err, end = client.exec(box, "sh", "-c", script, tty=True).collect()
    assert out == b"three\r\nto err\r\n" and err == b"" and end["exit_code"] == 5


def test_without_tty_there_is_none(client, box):
    assert client.run(box, "sh", "-c", "test -t 0 || test -t 1 || test -t 2")[2]["exit_code"] == 1


def test_initial_size_and_resize_over_rest(client, box):
    x = client.exec(box, "sh", "-c", SHOW_SIZE, tty=True, rows=33, cols=101)
    ws = x.attach()
    wait_for(ws, rb"33 101\r\n")
    assert client.post(x.path + "/resize", json={"cols": 120, "rows": 40}).status_code == 204
    wait_for(ws, rb"40 120\r\n")
    *_, texts, code = ws.collect()
    assert texts == [{"type": "exit", "exit_code": 7}] and code == 1000


def test_resize_over_the_websocket(client, box):
    x = client.exec(box, "sh", "-c", SHOW_SIZE, tty=True)
    ws = x.attach()
    wait_for(ws, rb"24 80\r\n")
    ws.control(type="resize", cols=50, rows=20)
    wait_for(ws, rb"20 50\r\n")
    ws.collect()


def test_resize_without_a_terminal_is_refused(client, box):
    x = client.exec(box, "sleep", "60")
    e = error_of(r := client.post(x.path + "/resize", json={"cols": 80, "rows": 24}))
    assert r.status_code == 409 and e["code"] == "invalid_state" and "no terminal" in e["message"]
    x.kill()


def test_typing_and_end_of_file(client, box):
    ws = client.exec(box, "cat", tty=True).attach()
    ws.send("grüß\n".encode())
    assert wait_for(ws, rb"(?s)gr.*gr.*\n").count("grüß\r\n".encode()) == 2  # echoed, then said
    ws.control(type="stdin_eof")
    *_, texts, _ = ws.collect()
    assert texts[-1]["exit_code"] == 0


def test_control_c_is_for_the_foreground(client, box):
    ws = client.exec(box, "sh", "-c", "trap 'echo caught; exit 3' INT; echo ready; while :; do sleep 0.1; done",
                     tty=True).attach()
    wait_for(ws, b"ready")
    ws.send(b"\x03")
    wait_for(ws, b"caught")
    *_, texts, _ = ws.collect()
    assert texts[-1]["exit_code"] == 3


def test_code_points_are_never_split(client, box):
    """BoxLite #665: each frame is decoded by itself."""
    script = r"i=0; while [ $i -lt 300 ]; do printf '\342'; printf '\202'; printf '\254'; i=$((i+1)); done"
    ws = client.exec(box, "sh", "-c", script, tty=True).attach()
    text = ""
    while True:
        kind, value = ws.next()
        if kind != "out":
            break
        text += value.decode()  # raises if a frame ends inside one
    assert text == "€" * 300


@pytest.mark.parametrize("signal", ["TERM", "SIGTERM", 15])
def test_signals_by_name_and_number(client, box, signal):
    x = client.exec(box, "sh", "-c", "echo ready; exec sleep 60", tty=True)
    ws = x.attach()
    wait_for(ws, b"ready")
    assert x.signal(signal).status_code == 204
    *_, texts, _ = ws.collect()
    assert texts[-1]["exit_code"] == -15


# ---- the command line ----


class Terminal:
    """tenon on a terminal of its own."""

    def __init__(self, daemon, *args, rows=30, cols=90):
        self.master, slave = pty.openpty()
        self.size(rows, cols)
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.process = subprocess.Popen(
            [str(TENON), "--host", daemon.url, *args], stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            env=dict(os.environ, TERM="xterm"), preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.got = b""

    def size(self, rows, cols):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def type(self, data):
        os.write(self.master, data)

    def wait_for(self, pattern, seconds=60):
        end = time.monotonic() + seconds
        os.set_blocking(self.master, False)
        while not re.search(pattern, self.got):
            assert time.monotonic() < end, self.got
            try:
                self.got += os.read(self.master, 65536)
            except BlockingIOError:
                time.sleep(0.01)

    def end(self):
        code = self.process.wait(60)
        after = termios.tcgetattr(self.slave)
        os.close(self.slave)
        os.close(self.master)
        assert after == self.before  # as it was, however it ended
        return code


def test_cli_exec_it(daemon, box):
    t = Terminal(daemon, "exec", "-it", box, "sh", "-c", "echo $TERM; stty size; read x; echo got $x; exit 4")
    t.wait_for(rb"xterm\r\n30 90\r\n")
    assert not termios.tcgetattr(t.slave)[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
    t.type(b"word\r")
    t.wait_for(rb"got word\r\n")
    assert t.end() == 4


def test_cli_follows_the_size(daemon, box):
    t = Terminal(daemon, "exec", "-it", box, "sh", "-c", SHOW_SIZE)
    t.wait_for(rb"30 90\r\n")
    t.size(44, 111)
    t.wait_for(rb"44 111\r\n")
    assert t.end() == 7


def test_cli_restores_the_terminal_when_it_is_given_up(daemon, box):
    t = Terminal(daemon, "exec", "-it", box, "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done")
    t.wait_for(b"ready")
    for _ in range(3):
        t.process.terminate()
        time.sleep(0.2)  # two of the same signal that are pending are one
    assert t.end() == 125


def test_cli_wants_a_terminal_for_it(daemon, box):
    r = subprocess.run([str(TENON), "--host", daemon.url, "exec", "-it", box, "true"], stdin=subprocess.DEVNULL,
                       capture_output=True, timeout=60)
    assert r.returncode == 125 and b"terminal" in r.stderr

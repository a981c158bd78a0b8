"""tenon-init on this machine, beside us instead of in a VM: the same binary on a unix socket."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from stat import S_ISSOCK

import wire
from bulk import Bulk

BINARY = Path(os.environ.get("TENON_INIT", wire.TOP / "build/guest/tenon-init"))


LIBC = ctypes.CDLL(None)
RT_SIGACTION, PIDFD_GETFD = 13, 438


def ignore_signals():
    """The worst parent: every signal ignored. By the system call, since libc keeps 32 and 33 for itself."""
    ignore = (ctypes.c_uint64 * 4)(signal.SIG_IGN)
    for signo in range(1, 65):
        LIBC.syscall(RT_SIGACTION, signo, ignore, None, 8)


class Agent:
    def __init__(self, prepare=ignore_signals):
        """prepare: runs in the agent before its execve."""
        self.folder = Path(tempfile.mkdtemp(prefix="tenon-agent-"))
        self.socket = self.folder / "agent.sock"
        self.log = open(self.folder / "log", "wb")
        self.process = subprocess.Popen([BINARY, "--listen", f"unix:{self.socket}"], stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=self.log, preexec_fn=prepare)
        self.conn = None

    @property
    def pid(self):
        return self.process.pid

    def dial(self, **kw):
        """A new main connection, which fences the one before."""
        self.conn = wire.Conn(wire.connect_unix(self.socket), **kw)
        return self.conn

    def configured(self, **kw):
        conn = self.dial()
        if not conn.hello.configured:
            conn.configure(**kw)
        return conn

    def bulk(self, epoch=None, **kw):
        """A bulk connection beside the main one."""
        return Bulk(wire.connect_unix(self.socket), self.conn.epoch if epoch is None else epoch, **kw)

    def raw(self):
        """A connection that has said nothing yet."""
        return wire.Conn(wire.connect_unix(self.socket), hello=False)

    def alive(self):
        return self.process.poll() is None

    def fds(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def memory(self, field="VmRSS"):
        """KiB."""
        for line in open(f"/proc/{self.pid}/status"):
            if line.startswith(field + ":"):
                return int(line.split()[1])
        raise KeyError(field)

    def cpu_ticks(self):
        fields = open(f"/proc/{self.pid}/stat").read().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def children(self):
        """Pids whose parent it is, zombies too."""
        found = []
        for entry in os.listdir("/proc"):
            try:
                stat = open(f"/proc/{entry}/stat").read() if entry.isdigit() else ""
            except (FileNotFoundError, ProcessLookupError):
                continue
            if stat and int(stat.rpartition(")")[2].split()[1]) == self.pid:
                found.append(int(entry))
        return found

    def cut(self):
        """Shuts its connections down from its own side."""
        process = os.pidfd_open(self.pid)
        for name in os.listdir(f"/proc/{self.pid}/fd"):
            fd = LIBC.syscall(PIDFD_GETFD, process, int(name), 0)
            if fd < 0:
                continue
            if not S_ISSOCK(os.fstat(fd).st_mode):
                os.close(fd)
                continue
            with socket.socket(fileno=fd) as s:
                if not s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    s.shutdown(socket.SHUT_RDWR)
        os.close(process)

    def end(self):
        for pid in self.children():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.kill()
        self.process.wait(10)
        self.log.close()
        shutil.rmtree(self.folder)


MB = 1 << 20


def code_of(error):
    """The name of the code that a caught wire.WireError carries."""
    return wire.pb.Code.Name(error.value.code)


def attach_again(agent, x):
    """x, on a new connection."""
    conn = agent.dial()
    conn.attach(x)
    return conn


def eventually(condition, seconds=10.0):
    """Waits for something outside any connection, such as a process to be gone."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)

"""Ends what a bench leaves behind, however it ended.
usage: keeper.py …run.py's arguments…

run.py starts this, and this the bench, which is run.py again. tenond and tenon-vmm outlive whoever started them and lead
sessions of their own, so neither a process group nor a signal to the children reaches all of them. But the kernel gives
every orphan below here to this process (PR_SET_CHILD_SUBREAPER): what it finds below itself is what the bench started.
It sweeps when the bench has ended, when run.py has ended, even by SIGKILL (PR_SET_PDEATHSIG), and on SIGINT or SIGTERM.
It leads a session of its own and has another name, so that what was meant for the bench does not hit it.

Folders are told to it, through a pipe, before they are made."""

import ctypes
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
TELL = "TENON_BENCH_KEEPER"  # the pipe's descriptor, for the bench
ENDING = (signal.SIGINT, signal.SIGTERM)


def prctl(option, value):
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def die_with(parent, signo):
    prctl(PR_SET_PDEATHSIG, signo)
    if os.getppid() != parent:  # it was faster
        os.kill(os.getpid(), signo)


# ---- on run.py's side ----


def run_below_a_keeper(arguments):
    """The bench, in a process of its own; its exit status."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    me = os.getpid()
    keeper = subprocess.Popen([sys.executable, "-B", __file__, *arguments], start_new_session=True,
                              preexec_fn=lambda: die_with(me, signal.SIGTERM))
    for signo in ENDING:
        signal.signal(signo, lambda signo, _: keeper.send_signal(signo))
    status = keeper.wait()
    if status < 0:  # killed itself: its orphans have come here
        sweep([])
    return status if status >= 0 else 128 - status


def tell_folders():
    """In the bench: each temporary folder is told to the keeper first."""
    told = int(os.environ.pop(TELL))
    os.set_inheritable(told, False)

    def mkdtemp(suffix=None, prefix=None, dir=None):
        path = Path(dir or tempfile.gettempdir(), f"{prefix or 'tmp'}{secrets.token_hex(4)}{suffix or ''}")
        os.write(told, os.fsencode(path) + b"\0")
        path.mkdir(0o700)
        return str(path)

    tempfile.mkdtemp = mkdtemp


# ---- on the keeper's side ----


def descendants():
    """Pids of what lives below this process."""
    parents = {}
    for entry in os.listdir("/proc"):
        try:
            stat = Path("/proc", entry, "stat").read_text() if entry.isdigit() else ""
        except OSError:
            continue
        if stat:
            state, parent = stat.rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(entry)] = int(parent)
    found, below = [], {os.getpid()}
    while below:
        below = {p for p, parent in parents.items() if parent in below}
        found += below
    return found


def reap():
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def sweep(folders, patience=30):
    """Until nothing lives below and no folder is left: how many processes and folders there were."""
    ended, end = set(), time.monotonic() + patience
    while time.monotonic() < end:
        alive = descendants()
        for pid in alive:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        ended.update(alive)
        reap()
        if not alive:
            break
        time.sleep(0.02)
    left = [f for f in folders if os.path.lexists(f)]
    for folder in left:
        shutil.rmtree(folder, ignore_errors=True)
    return len(ended), len(left)


def main():
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    me, (heard, told) = os.getpid(), os.pipe()
    os.set_inheritable(told, True)
    bench = subprocess.Popen([sys.executable, "-B", Path(__file__).with_name("run.py"), *sys.argv[1:]], close_fds=False,
                             env=dict(os.environ, **{TELL: str(told)}), preexec_fn=lambda: die_with(me, signal.SIGKILL))
    os.close(told)
    # All the rest follows from the bench's end. Before this line there is nothing to sweep.
    for signo in ENDING:
        signal.signal(signo, lambda *_: bench.kill())
    names = bytearray()
    while piece := os.read(heard, 65536):
        names += piece
    status = bench.wait()
    processes, folders = sweep([os.fsdecode(f) for f in bytes(names).split(b"\0") if f])
    if processes or folders:
        print(f"bench: ended {processes} processes and removed {folders} folders that were left behind", file=sys.stderr)
    sys.exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main()

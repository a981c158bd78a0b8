"""How busy a process was: what must not spin is measured by it."""

import os
import time


def used(pid):
    """Seconds of processor since it began, of all its threads."""
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def used_within(pid, seconds):
    before = used(pid)
    time.sleep(seconds)
    return used(pid) - before

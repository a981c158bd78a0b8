"""`make bench`: every row, the report, build/bench.json.
usage: run.py [--quick] [GROUP …]     --quick: few and short turns, to see that all rows run"""

import argparse
import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path

import keeper
from harness import TOP, Report

import report as paper
import peers_rows
import rows
import scale

GROUPS = {"turns": rows.run, "boot": scale.boot, "sizes": scale.sizes, "first": scale.first_output,
          "rest": scale.rest_rate, "idle": scale.idle_agents, "growth": scale.growth, "vms": scale.real_boxes,
          "peers": peers_rows.run}


def machine():
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    return {"cpu": cpu, "cpus": os.cpu_count(), "kernel": platform.release(), "at": time.strftime("%Y-%m-%d %H:%M")}


def main():
    parser = argparse.ArgumentParser(description="figures, beside their floors")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("groups", nargs="*", choices=[[], *GROUPS], default=[])
    options = parser.parse_args()
    if keeper.TELL not in os.environ:
        sys.exit(keeper.run_below_a_keeper(sys.argv[1:]))
    keeper.tell_folders()
    bench(options)


def bench(options):
    report = Report()
    report.machine = machine() | {"quick": options.quick}
    report.files = Path(tempfile.mkdtemp(prefix="tenon-bench-files-", dir="/dev/shm"))
    os.environ["TMPDIR"] = tempfile.tempdir = str(report.files)  # for scripts and their mktemp
    try:
        for name in options.groups or GROUPS:
            try:
                GROUPS[name](report, options.quick)
            except Exception as e:  # noqa: BLE001
                report.fact("bench", name, "", lambda e=e: rows.fail(e))
            # After each: a bench that is killed has left what it knew.
            paper.write(report, TOP / "build/bench", TOP / "build/bench.json")
    finally:
        shutil.rmtree(report.files)
    missed = [f for f in report.figures if f.failed or f.holds() is False]
    print(f"{len(report.figures)} rows, {len(missed)} missed or not taken: build/bench/report.md, build/bench.json")


if __name__ == "__main__":
    main()

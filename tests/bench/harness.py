"""How a figure is taken: two things do the same in turns (A B A B …), so that a machine which is slow or busy is so to
both. What counts is the ratio of each pair of turns; its median and quartiles are printed, every sample is kept."""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
BIN = TOP / "build/bench/bin"
MIB = 1 << 20

sys.path[:0] = [str(TOP / "tests/e2e"), str(TOP / "tests/agent")]


class Failed(Exception):
    """A row that could not be taken, and why."""


def samples(program, *args, printer="/bin/floor", timeout=300):
    """What one run of a load program took, in ns each. printer: floor's path where the commands run."""
    command = [str(BIN / program), *map(str, args)]
    env = dict(os.environ, BENCH_PRINTER=str(printer))
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=env)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command[:6])}: {done.stderr.strip()[-300:]}")
    return [int(line) for line in done.stdout.split()]


def quartiles(values):
    ordered = sorted(values)
    if len(ordered) < 3:
        return ordered[0], statistics.median(ordered), ordered[-1]
    low, middle, high = statistics.quantiles(ordered, n=4, method="inclusive")
    return low, middle, high


class Figure:
    """One line of the report."""

    def __init__(self, place, name, unit, goal=None, best="low", note=""):
        self.place, self.name, self.unit, self.goal, self.best, self.note = place, name, unit, goal, best, note
        self.ours, self.floor = [], []  # a list of samples for each turn
        self.ratios = []
        self.failed = None

    def holds(self):
        """Whether the goal holds; None where there is none to hold or nothing was measured."""
        value = self.value()
        if self.goal is None or value is None:
            return None
        return value <= self.goal if self.best == "low" else value >= self.goal

    def value(self):
        """What the goal is about: the ratio, or the figure itself where nothing stands beside it."""
        if self.ratios:
            return statistics.median(self.ratios)
        return statistics.median(self.all(self.ours)) if self.ours else None

    @staticmethod
    def all(turns):
        return [x for turn in turns for x in turn]

    def record(self):
        return {k: v for k, v in vars(self).items()} | {"value": self.value(), "holds": self.holds()}


def in_turns(figure, ours, floor, rounds, scale):
    """ours and floor: functions that return ns; scale turns ns into the figure's unit. The first turn of each only
    warms things up."""
    for n in range(rounds + 1):
        a, b = [scale(x) for x in ours()], [scale(x) for x in floor()]
        if n == 0:
            continue
        figure.ours.append(a)
        figure.floor.append(b)
        figure.ratios.append(statistics.median(a) / statistics.median(b))


def microseconds(ns):
    return ns / 1000


def milliseconds(ns):
    return ns / 1e6


def rate(n):
    """ns for n bytes as MiB/s."""
    return lambda ns: n / MIB / (ns / 1e9)


class Report:
    """Collects figures; prints each when it is there."""

    def __init__(self):
        self.figures, self.curves, self.began = [], {}, time.monotonic()

    def add(self, figure):
        self.figures.append(figure)
        print(f"{time.monotonic() - self.began:6.0f} s  {figure.place:12} {figure.name:44} {describe(figure)}",
              flush=True)
        return figure

    def take(self, figure, measure):
        """measure(figure) fills it in. What fails is said in the report and does not end the bench."""
        try:
            measure(figure)
        except Exception as e:  # noqa: BLE001
            figure.failed = f"{type(e).__name__}: {e}".replace("\n", " ")[:400]
        return self.add(figure)

    def fact(self, place, name, unit, value, **kw):
        def measure(figure):
            v = value() if callable(value) else value
            figure.ours.append(v if isinstance(v, list) else [v])
        return self.take(Figure(place, name, unit, **kw), measure)


def number(x):
    return f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.1f}" if abs(x) >= 10 else f"{x:.2f}"


def target(f):
    """The goal, as the report prints it."""
    if f.goal is None:
        return ""
    return ("≤ " if f.best == "low" else "≥ ") + (f"{f.goal:,.0f}" if f.goal >= 1000 else f"{f.goal:.4g}")


def describe(f):
    if f.failed:
        return f"not taken: {f.failed}"
    verdict = {None: "", True: "  holds", False: "  MISSED"}[f.holds()]
    goal = "" if f.goal is None else f"  goal {target(f)}"
    if not f.ratios:
        return f"{number(f.value())} {f.unit}{goal}{verdict}"
    low, middle, high = quartiles(f.ratios)
    ours, floor = (statistics.median(f.all(t)) for t in (f.ours, f.floor))
    return f"{middle:.2f} × ({low:.2f}–{high:.2f})  {number(ours)} / {number(floor)} {f.unit}{goal}{verdict}"

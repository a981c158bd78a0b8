"""What runs in turns with its floor, and the goal of each."""

import io
import os
import tarfile
from dataclasses import dataclass

from harness import MIB, Figure, in_turns, microseconds, milliseconds, rate
from places import GuestLink, GuestRest, PlainLink, PlainRest

SMALL_FILES = 10000
STREAMS = 3  # in one turn: of a single one the threads' places on two processors make too much


@dataclass
class Row:
    """One thing that both sides do. `{data}` and `{files}` in the arguments are folders of the place and of this
    machine; lists differ where the floor has another word for it."""
    name: str
    ours: list
    floor: list
    count: int  # operations in one turn
    size: int = 0  # bytes of one: the figure is a rate; else it is a time
    goal: float = None
    goal_guest: float = None  # where the guest's differs: None is the same
    relayed: str = ""  # the floor is reached through a TCP relay: "bare", or one of those that keep what passes
    unpacks: bool = False  # leaves something behind in {data}
    note: str = ""


def output(big, quick):
    """Bytes that a command prints."""
    return big // 2 if quick else big


def link_rows(big, quick):
    out = str(output(big, quick))
    tars = 1
    return [
        Row("ping", ["echo"], ["echo"], 200, note="20 bytes and an answer; no goal of its own"),
        Row("exec of true", ["exec"], ["exec"], 100, goal=1.25),
        Row("stdout", ["stdout", out], ["stdout", out], STREAMS, size=int(out), goal=0.9),
        Row("file in", ["write", "{data}/w", "{files}/big"], ["write", "{data}/x", "{files}/big"], tars, size=big,
            unpacks=True),
        Row("tar in, one file", ["tarin", "{data}/t", "{files}/big.tar"], ["write", "{data}/x", "{files}/big"], tars,
            size=big, goal=0.85, unpacks=True, note="beside a bare copy of the file"),
        Row("tar out, one file", ["tarout", "{data}/big.1"], ["read", "{data}/big.1"], tars, size=big, goal=0.85,
            note="beside a bare copy of the file"),
        Row("tar in, 10,000 files", ["tarin", "{data}/t", "{files}/small.tar"],
            ["tarin", "{data}/x", "{files}/small.tar"], tars, goal=1 / 0.85, unpacks=True, note="beside tar"),
        Row("tar out, 10,000 files", ["tarout", "{data}/small.1"], ["tarout", "{data}/small.1"], tars, goal=1 / 0.85,
            note="beside tar"),
    ]


def rest_rows(big, quick):
    out = str(output(big, quick))
    return [
        Row("REST: exec of true, whole", ["wait"], ["exec"], 100, goal=1.6, note="POST …/exec?wait=true"),
        Row("REST: exec of true, started", ["post"], ["exec"], 100, note="POST …/exec"),
        Row("REST: stdout, WebSocket", ["ws", out], ["stdout", out], STREAMS, size=int(out), goal=0.75, relayed="bare"),
        Row("REST: stdout, beside a relay with files", ["ws", out], ["stdout", out], STREAMS, size=int(out),
            relayed="filed", note="written and sent out of files of 4 MiB, the oldest deleted, as tenond's log has them"),
        Row("REST: stdout, beside the least that keeps it", ["ws", out], ["stdout", out], STREAMS, size=int(out),
            relayed="least", note="the files behind an agent, with credit, written by a second thread (least.c)"),
        Row("REST: stdout, events", ["sse", out], ["stdout", out], 1, size=int(out), relayed="bare",
            note="base64: four bytes for three"),
        Row("REST: tar in, one file", ["put", "{data}/t", "{files}/big.tar"], ["write", "{data}/x", "{files}/big"], 1,
            size=big, goal=0.85, relayed="bare", unpacks=True),
        Row("REST: tar in, 10,000 files", ["put", "{data}/t/", "{files}/small.tar"],
            ["tarin", "{data}/x", "{files}/small.tar"], 1, goal=1 / 0.85, relayed="bare", unpacks=True),
        Row("REST: tar out, one file", ["get", "{data}/big"], ["read", "{data}/big.1"], 1, size=big, goal=0.85,
            relayed="bare"),
        Row("REST: tar out, 10,000 files", ["get", "{data}/small"], ["tarout", "{data}/small.1"], 1, goal=1 / 0.85,
            relayed="bare"),
    ]


def make_files(folder, big):
    """big, big.tar and small.tar, the same bytes each time."""
    block = bytes(range(256)) * 4096
    with open(folder / "big", "wb") as f:
        for _ in range(big // len(block)):
            f.write(block)
    with tarfile.open(folder / "big.tar", "w") as tar:
        tar.add(folder / "big", "big")
    with tarfile.open(folder / "small.tar", "w") as tar:
        for n in range(100):
            tar.addfile(directory(f"d{n}"))
            for i in range(SMALL_FILES // 100):
                info = tarfile.TarInfo(f"d{n}/f{i}")
                info.size = 100 + i
                tar.addfile(info, io.BytesIO(block[:info.size]))


def directory(name):
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, 0o755
    return info


def measure(report, place, row, ours, floor, rounds):
    figure = Figure(place.name, row.name, "MiB/s" if row.size else "ms" if row.unpacks or row.goal == 1 / 0.85 else "µs",
                    goal=row.goal, best="high" if row.size else "low", note=row.note)
    scale = rate(row.size) if row.size else milliseconds if figure.unit == "ms" else microseconds
    words = {"data": place.data, "files": report.files}

    def run(side, args):
        if row.unpacks:
            place.clean()
        return side(row.count, *[a.format(**words) for a in args])

    report.take(figure, lambda f: in_turns(f, lambda: run(ours, row.ours),
                                           lambda: run(floor, row.floor), rounds, scale))


def plain_agent(report, place, rounds):
    """What of an execution in a box is the cgroup and the namespace it is born into."""
    figure = Figure(place.name, "exec of true, agent not PID 1", "µs", note="no cgroup, no namespace; the rest is the same")
    report.take(figure, lambda f: in_turns(f, lambda: place.load_plain(100, "exec"),
                                           lambda: place.load("floor", 100, "exec"), rounds, microseconds))


KINDS = {"filed": ("a relay with files", "no tenond and no agent in it: what is left of 1 is what files take"),
         "least": ("the least that keeps it", "what the promise costs: the limit of stdout through REST, as far as we know")}


def relays(report, place, rounds, size):
    """What a durable log costs, without tenond."""
    for kind, (name, note) in KINDS.items():
        if kind not in place.relay_ports:
            continue
        figure = Figure(place.name, f"REST: stdout, {name} beside the bare one", "MiB/s", best="high", note=note)
        report.take(figure, lambda f, kind=kind: in_turns(
            f, lambda: place.floor(STREAMS, "stdout", size, relayed=kind),
            lambda: place.floor(STREAMS, "stdout", size, relayed="bare"), rounds, rate(size)))


def prepare_out(place, report, floor):
    """{data}/big.1 and {data}/small.1, for the rows that fetch them: load numbers what it makes."""
    place.clean()
    floor(1, "write", place.data / "big", report.files / "big")
    floor(1, "tarin", place.data / "small", report.files / "small.tar")


def measure_all(report, place, rows, ours, floor, rounds):
    """floor(row): the floor as that row reaches it."""
    prepared = False
    for row in rows:
        if "tar out" in row.name and not prepared:
            prepare_out(place, report, floor(row))
        prepared = "tar out" in row.name
        measure(report, place, row, ours, floor(row), rounds)


def link(report, place, rounds, big, quick):
    if isinstance(place, GuestLink):
        plain_agent(report, place, rounds)

    def floor(_):
        return lambda *a: place.load("floor", *a)

    measure_all(report, place, link_rows(big, quick), lambda *a: place.load("agent", *a), floor, rounds)


def rest(report, place, rounds, big, quick):
    def floor(row):
        return lambda *a: place.floor(*a, relayed=row.relayed)

    rows = [row for row in rest_rows(big, quick) if not row.relayed or row.relayed in place.relay_ports]
    measure_all(report, place, rows, place.rest, floor, rounds)
    relays(report, place, rounds, output(big, quick))


def run(report, quick):
    rounds = 2 if quick else 7
    for make, rows, big in ((PlainLink, link, 256 * MIB), (PlainRest, rest, 256 * MIB),
                            (GuestLink, link, 64 * MIB), (GuestRest, rest, 64 * MIB)):
        big = min(big, 16 * MIB) if quick else big
        make_files(report.files, big)
        try:
            place = make()
        except Exception as e:  # noqa: BLE001
            report.fact(make.name, f"all rows of {make.__name__}", "", lambda e=e: fail(e))
            continue
        with place:
            try:
                rows(report, place, rounds, big, quick)
            except Exception as e:  # noqa: BLE001
                report.fact(make.name, f"the rest of {make.__name__}", "", lambda e=e: fail(e))


def fail(e):
    raise e

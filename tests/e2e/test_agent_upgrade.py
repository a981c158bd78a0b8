"""PID 1 of a real box becomes another program. What a plain host cannot show: namespace, cgroups, orphans, the end."""

import signal
import tempfile

import pytest

import wire
from vmm import TOP, AgentVm, make_upper
from wire import pb

from agent import eventually
from bulk import bulk_pb

PROGRAM = (TOP / "build/guest/tenon-init").read_bytes()


def upgraded(vm, program=PROGRAM):
    before = vm.conn
    with vm.bulk() as b:
        assert b.put(program, upgrade=bulk_pb.Upgrade(size=len(program))) == len(program)
    with pytest.raises(wire.Closed):
        before.settle(10)
    return vm.connect()


def test_pid_1_is_upgraded_while_programs_run_and_then_powers_off():
    newer = PROGRAM.replace(b"tenon 0.1.0\0", b"tenon 9.8.7\0")
    with tempfile.TemporaryDirectory() as folder:
        vm = AgentVm(make_upper(folder))
        try:
            conn = vm.configured().conn
            first = conn.hello
            counter = conn.started(conn.start("sh", "-c", "seq 1 200000; cat; exit 6", stdin=b"in", eof=False))
            escaped = conn.start("sh", "-c", "setsid sh -c 'trap \"\" TERM; echo up; sleep 600' & wait")
            sleeper = conn.started(conn.start("sleep", "600"))
            ended = conn.finish(conn.start("sh", "-c", "echo kept >/mark; exit 5"))
            conn.run("sh", "-c", "mkfifo /go; for i in 1 2 3 4 5 6 7 8; do (read x </go &) >/dev/null 2>&1; done")
            conn.wait(lambda: escaped.stdout == b"up\n")

            with vm.bulk() as b, pytest.raises(wire.WireError) as e:  # what is no agent leaves us be
                b.put(PROGRAM[:5000], upgrade=bulk_pb.Upgrade(size=5000))
            assert e.value.error.stage == "self-test" and conn.ping()

            for program in (newer, PROGRAM, newer):
                conn = upgraded(vm, program)
            assert conn.hello.version == "tenon 9.8.7" and conn.hello.configured
            assert conn.hello.boot_id == first.boot_id
            assert conn.hello.boot.init_ns == first.boot.init_ns
            assert {row.id for row in conn.list()} == {counter.id, escaped.id, sleeper.id, ended.id}

            conn.attach(ended)
            assert ended.exit.code == 5
            conn.attach(counter)
            counter.stdin_eof = True
            conn.feed(counter)
            conn.finish(counter)
            assert counter.stdout == b"".join(b"%d\n" % i for i in range(1, 200001)) + b"in"
            assert counter.exit.code == 6

            # The box's own root, host name and control group, for new programs as for those from before.
            x = conn.run("sh", "-c", "hostname; cat /mark; awk '$2 == \"/\" {print $3}' /proc/mounts; cat /proc/1/comm")
            assert x.stdout == b"box\nkept\noverlay\ntenon-init\n"
            where = conn.run("cat", "/proc/self/cgroup", f"/proc/{sleeper.state.pid}/cgroup", "/proc/1/cgroup").stdout
            mine, before, agents = where.split()
            assert mine.startswith(b"0::/box/e") and before.startswith(b"0::/box/e") and mine != before
            assert agents == b"0::/agent"
            conn.attach(escaped)
            conn.signal(escaped, signal.SIGKILL, pb.TARGET_ALL)
            conn.wait(escaped.drained)
            conn.attach(sleeper)
            conn.signal(sleeper, signal.SIGTERM)
            assert conn.finish(sleeper).exit.signal == signal.SIGTERM

            # Orphans of before are reaped by the program of now.
            orphans = "cat /proc/[0-9]*/stat 2>/dev/null | grep -c '(sh) . 1 ' || true"
            assert conn.run("sh", "-c", f"{orphans}; echo >/go").stdout.split()[0] == b"9"  # they, and this shell
            eventually(lambda: conn.run("sh", "-c", orphans).stdout == b"1\n")
            for x in (counter, escaped, sleeper, ended):
                conn.ack(x)
            assert not conn.list()

            pss = conn.run("awk", "/^Pss:/ {print $2}", "/proc/1/smaps_rollup").stdout
            assert int(pss) <= 700  # KiB; the program is a copy in memory now, and counts as its own

            conn.call(shutdown=pb.Shutdown())
            assert vm.ended()["reason"] == "guest_shutdown"
        finally:
            vm.close()


def test_what_was_used_before_stays_apart(agent_vm):
    """The next execution's figures do not begin with what its cgroup had counted under the old program."""
    conn = agent_vm.connect()
    big = conn.run("sh", "-c", "head -c 24000000 /dev/zero | tail -c 24000000 >/dev/null")
    conn = upgraded(agent_vm)
    x = conn.started(conn.start("sleep", "60"))
    with agent_vm.bulk() as b:
        use, = b.call(metrics=bulk_pb.GetMetrics(exec_id=x.id)).metrics.execs
    assert use.memory_peak_bytes < 8 << 20
    assert use.user_us + use.system_us < (big.exit.rusage.user_us + big.exit.rusage.system_us) / 2
    conn.signal(x, signal.SIGKILL)
    conn.finish(x)
    conn.ack(x)

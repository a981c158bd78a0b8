"""What goes in one packet: each wakes the host, and in a VM the guest as well. The counts are the least of some tries,
since a busy machine may part what is together."""

import errno
import os
import time

from agent import Agent
from wire import STDERR, STDOUT, pb


class Counting:
    """A socket that counts how often something came."""

    def __init__(self, sock):
        self.sock, self.reads = sock, 0

    def __getattr__(self, name):
        return getattr(self.sock, name)

    def recv(self, n):
        self.reads += 1
        return self.sock.recv(n)


def least_reads(agent, *argv, tries=20, **kw):
    conn = agent.configured()
    conn.sock = counting = Counting(conn.sock)
    counts = []
    for _ in range(tries):
        before = counting.reads
        x = conn.start(*argv, **kw)
        conn.wait(x.drained)
        counts.append(counting.reads - before)
        conn.ack(x)
    return min(counts)


def test_the_ends_of_the_outputs_go_with_the_exit(own_agent):
    script = "exec >&- 2>&-; sleep 0.002"  # that long a process may well take to exit
    assert least_reads(own_agent, "sh", "-c", script) == 2  # the answer, and the rest


def test_a_late_answer_goes_with_the_exit(own_agent):
    assert least_reads(own_agent, "true", answer_late=True) == 1
    assert least_reads(own_agent, "echo", "x", answer_late=True) <= 2  # with the output; the exit may come behind it


def test_the_answer_to_an_acknowledgement_goes_with_the_next_command(own_agent):
    conn = own_agent.configured()
    conn.sock = counting = Counting(conn.sock)
    counts = []
    last = conn.finish(conn.start("true", answer_late=True))
    for _ in range(20):
        before = counting.reads
        acked = conn.open(pb.Request(exec_ack=pb.ExecAck(id=last.id, answer_late=True)))
        last = conn.start("true", answer_late=True)
        conn.wait(last.drained)
        assert not conn.replies.pop(acked).HasField("error")
        counts.append(counting.reads - before)
    assert min(counts) == 1
    conn.call(timeout=5, exec_ack=pb.ExecAck(id=last.id, answer_late=True))  # and comes if there is none


def test_a_late_answer_is_told_all_the_same(own_agent):
    conn = own_agent.configured()
    x = conn.start("sleep", "60", answer_late=True)
    before = time.monotonic()
    conn.started(x, timeout=5)
    assert time.monotonic() - before < 5 and x.exit is None


def test_a_late_answer_may_be_a_failure(own_agent):
    conn = own_agent.configured()
    x = conn.start("/nowhere", answer_late=True)
    conn.wait(lambda: x.failed is not None)
    assert x.failed.stage == "execve"


def test_a_kill_before_a_late_answer_ends_a_program_that_had_started(own_agent, tmp_path):
    """Whether it had is looked up then: not before."""
    conn = own_agent.configured()
    for n in range(200):
        x = conn.start("sh", "-c", f"echo > {tmp_path}/{n}; sleep 60", answer_late=True)
        while conn.outbox:
            conn.pump(time.monotonic() + 5)
        while n % 2 and not (tmp_path / str(n)).exists():  # it runs, and nothing has been said yet
            time.sleep(0.0005)
        conn.signal(x, 9, pb.TARGET_ALL)
        conn.wait(lambda x=x: x.exit is not None or x.failed is not None)
        if x.failed:
            assert n % 2 == 0 and x.failed.errnum == errno.ECANCELED
        else:
            assert x.exit.signal == 9
            conn.ack(x)


def test_output_does_not_wait_for_a_late_answer(own_agent):
    conn = own_agent.configured()
    waits = []
    for _ in range(20):
        before = time.monotonic()
        x = conn.start("sh", "-c", "echo x; sleep 60", answer_late=True)
        conn.wait(lambda x=x: x.out[STDOUT])
        waits.append(time.monotonic() - before)
        conn.signal(x, 9, pb.TARGET_ALL)
        conn.wait(x.drained)
        conn.ack(x)
    assert min(waits) < 0.009  # the time that the answer may wait


def test_an_output_that_ends_early_is_told_while_the_process_runs(own_agent):
    conn = own_agent.configured()
    x = conn.started(conn.start("sh", "-c", "exec >&- 2>&-; sleep 60"))
    conn.wait(lambda: len(x.eof) == 2, timeout=5)
    assert x.exit is None and x.eof == {STDOUT: 0, STDERR: 0}


def test_a_link_that_is_lost_before_a_late_answer(own_agent):
    """Nothing is held back for a connection that is gone: the next one attaches and has it all."""
    conn = own_agent.configured()
    x = conn.start("sh", "-c", "echo here; exec >&- 2>&-; sleep 0.2; exit 3", answer_late=True)
    while conn.outbox:
        conn.pump(time.monotonic() + 5)
    time.sleep(0.004)
    conn.close()
    conn = own_agent.dial()
    conn.attach(x)
    conn.wait(x.drained, timeout=5)
    assert x.exit.code == 3 and bytes(x.out[STDOUT]) == b"here\n"


def test_a_child_gets_no_groups_and_no_capabilities_by_inheritance():
    """What the agent need not change it leaves; what it has it takes away."""
    def with_groups():
        os.setgroups([1, 4242])

    a = Agent(prepare=with_groups)
    try:
        conn = a.configured()
        x = conn.run("sh", "-c", "id -G; grep CapInh /proc/self/status; readlink /proc/self/fd/0")
        assert x.stdout == b"0\nCapInh:\t0000000000000000\n/dev/null\n"
    finally:
        a.end()


def test_credit_is_asked_for_when_half_a_ring_waits(own_agent):
    """Once, and only of a host that knows the flag; one that gives none until then gets all the same."""
    for features, size, wants in ((2, 20_000, 0), (2, 40_000, 1), (2, 200_000, 1), (0, 40_000, 0)):
        conn = own_agent.dial(features=features)
        if not conn.hello.configured:
            conn.configure()
        x = conn.start("head", "-c", str(size), "/dev/zero", limit=None, first_limit=1 << 20)
        conn.wait(x.done)
        assert len(x.stdout) == size and x.wants == wants, (features, size)
        conn.grant(x, STDOUT, 1 << 20)
        conn.wait(x.drained)
        conn.ack(x)

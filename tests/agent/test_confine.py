"""What a process is given beyond its pipes: user, limits, capabilities, filters (EXEC.md)."""

import ctypes
import errno
import os
import resource
import shutil
import signal
import tempfile

import pytest

import agent as agents
import wire
from agent import Agent, eventually
from wire import pb

ALL = (1 << 64) - 1
CHOWN, KILL, SETPCAP, SYS_ADMIN = 0, 5, 8, 21
DOCKER = 0xa80425fb
INFINITY = (1 << 64) - 1
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 4096, 16384, 1 << 18

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")


def status(conn, *fields, **kw):
    """Those of /proc/self/status, as numbers."""
    x = conn.run("cat", "/proc/self/status", **kw)
    assert x.exit.code == 0, x.stderr
    lines = dict(line.split(":", 1) for line in x.stdout.decode().splitlines())
    return [int(lines[f], 16 if f.startswith("Cap") else 10) for f in fields]


def python(conn, script, **kw):
    """Lines that a script prints in an execution of its own."""
    x = conn.run("/usr/bin/python3", "-S", "-c", script, **kw)
    assert x.exit.code == 0, x.stderr
    return x.stdout.decode().splitlines()


def refused(conn, *argv, **kw):
    with pytest.raises(wire.WireError) as e:
        conn.run(*(argv or ("true",)), **kw)
    return e.value.error


BOUNDING = int(next(line for line in open("/proc/self/status") if line.startswith("CapBnd")).split()[1], 16)


# ---- user ----


class Files:
    """A box's /etc/passwd and /etc/group, for one agent alone: bound over this machine's in a namespace of its own."""

    def __init__(self, folder):
        self.passwd, self.group = folder / "passwd", folder / "group"
        self.passwd.write_text("")
        self.group.write_text("")

    def bind(self):
        """In the agent, before its execve."""
        def check(r):
            if r != 0:
                raise OSError(ctypes.get_errno(), "mount")
        check(LIBC.unshare(CLONE_NEWNS))
        check(LIBC.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))
        check(LIBC.mount(bytes(self.passwd), b"/etc/passwd", None, MS_BIND, None))
        check(LIBC.mount(bytes(self.group), b"/etc/group", None, MS_BIND, None))
        agents.ignore_signals()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return Files(tmp_path_factory.mktemp("etc"))


@pytest.fixture(scope="module")
def boxed(files):
    a = Agent(prepare=files.bind)
    a.configured()
    yield a
    a.end()


@pytest.fixture
def named(files, boxed):
    """A connection to an agent whose box has some users."""
    files.passwd.write_text("root:x:0:0:root:/root:/bin/sh\nweb:x:1001:1002::/srv/web:/bin/sh\n"
                            "1001:x:7:7::/seven:/bin/sh\nbroken:x\nbare:x:1003:1003")
    files.group.write_text("root:x:0:\nweb:x:1002:\nstaff:x:1050:bare,web\nstaff2:x:1050:web\nadm:x:1004:webx\nlog:x:1005:web")
    c = boxed.dial()
    yield c
    boxed.dial().clear()


WHO = ("/usr/bin/python3", "-S", "-c",
       "import os; print(*os.getresuid(), *os.getresgid(), sorted(os.getgroups()), os.environ['HOME'])")


@pytest.mark.parametrize("user, expected", [
    (b"", "0 0 0 0 0 0 [] /root"),
    (b"root", "0 0 0 0 0 0 [0] /root"),
    (b"web", "1001 1001 1001 1002 1002 1002 [1002, 1005, 1050] /srv/web"),
    (b"web:", "1001 1001 1001 1002 1002 1002 [1002, 1005, 1050] /srv/web"),
    (b"1001", "1001 1001 1001 1002 1002 1002 [1002, 1005, 1050] /srv/web"),  # digits are a number, not a name
    (b"web:staff", "1001 1001 1001 1050 1050 1050 [1050] /srv/web"),
    (b"web:9", "1001 1001 1001 9 9 9 [9] /srv/web"),
    (b":staff", "0 0 0 1050 1050 1050 [1050] /root"),
    (b"4000", "4000 4000 4000 0 0 0 [0] /"),
    (b"4000:web", "4000 4000 4000 1002 1002 1002 [1002] /"),
    (b"3000000000:4294967294", "3000000000 3000000000 3000000000 4294967294 4294967294 4294967294 [4294967294] /"),
    (b"bare", "1003 1003 1003 1003 1003 1003 [1003, 1050] /"),
])
def test_who_it_is(named, user, expected):
    x = named.run(*WHO, user=user)
    assert (x.stdout.decode().strip(), x.stderr) == (expected, b"")


@pytest.mark.parametrize("user, message", [
    (b"nobody-here", 'user "nobody-here": no such user'), (b"broken", 'user "broken": no such user'),
    (b"web:nothing", 'user "web:nothing": no such group'), (b"-1", 'user "-1": no such user')])
def test_an_unknown_user_is_named(named, user, message):
    error = refused(named, user=user)
    assert (error.code, error.stage, error.errnum) == (pb.CODE_EXEC_FAILED, "user", errno.ENOENT)
    assert message in error.message
    assert not named.list()


@pytest.mark.parametrize("user", [b"a:b:c", b"4294967295", b"0:4294967295", b"a\0b", b"a" * 257])
def test_what_is_no_user(conn, user):
    error = refused(conn, user=user)
    assert (error.code, error.field) == (pb.CODE_INVALID_ARGUMENT, "exec.user")


def test_home_that_is_there_stays(named):
    assert named.run("printenv", "HOME", user=b"web", env=[b"HOME=/elsewhere"]).stdout == b"/elsewhere\n"
    assert named.run("printenv", "HOME", user=b"web", env=[b"HOME="]).stdout == b"\n"


def test_more_groups_than_a_process_is_given(named, files):
    files.group.write_text("".join(f"g{i}:x:{5000 + i}:web\n" for i in range(255)))
    assert len(named.run("id", "-G", user=b"web").stdout.split()) == 256
    files.group.write_text("".join(f"g{i}:x:{5000 + i}:web\n" for i in range(256)))
    error = refused(named, user=b"web")
    assert (error.stage, error.errnum) == ("user", errno.E2BIG) and "256" in error.message


def test_a_long_file_and_one_that_never_ends(named, files):
    files.group.write_text("big:x:6000:" + ",".join(f"user{i}" for i in range(200_000)) + ",web\n")
    assert named.run("id", "-G", user=b"web").stdout == b"1002 6000\n"
    with open(files.group, "w") as f:
        f.truncate(1 << 30)  # zeros
    error = refused(named, user=b"web")
    assert (error.stage, error.errnum) == ("user", errno.EFBIG)
    with open(files.group, "w") as f:
        f.truncate(0)


def test_a_user_may_open_its_output_again(conn):
    x = conn.run("sh", "-c", "echo out > /dev/stdout; echo err > /dev/stderr; cat /dev/stdin", user=b"65534", stdin=b"in")
    assert (x.stdout, x.stderr, x.exit.code) == (b"out\nin", b"err\n", 0)


def test_dev_null_stays_roots(conn):
    assert conn.run("cat", user=b"65534").exit.code == 0
    assert os.stat("/dev/null").st_uid == 0


def test_cwd_is_entered_before_the_user_changes(conn, tmp_path):
    tmp_path.chmod(0o700)
    x = conn.run("sh", "-c", "pwd", user=b"65534", cwd=bytes(tmp_path))
    assert x.exit.code == 0, x.stderr


@pytest.fixture
def hung_files(tmp_path):
    """An agent whose box has a FIFO for /etc/passwd."""
    files = Files(tmp_path)
    files.passwd.unlink()
    os.mkfifo(files.passwd)
    a = Agent(prepare=files.bind)
    yield a
    a.end()


def test_a_fifo_for_passwd_delays_that_start_alone(hung_files):
    conn = hung_files.configured()
    late, killed = conn.start("true", user=b"web"), conn.start("true", user=b"web")
    for _ in range(20):
        assert conn.run("true").exit.code == 0
    assert not late.failed and not killed.failed
    conn.signal(killed, signal.SIGKILL, pb.TARGET_ALL)
    conn.wait(lambda: killed.failed, 2)
    assert (killed.failed.code, killed.failed.stage, killed.failed.errnum) == (pb.CODE_EXEC_FAILED, "user", errno.ECANCELED)
    conn.wait(lambda: late.failed, 12)
    assert (late.failed.code, late.failed.stage, late.failed.errnum) == (pb.CODE_TIMEOUT, "user", errno.ETIMEDOUT)
    assert not conn.list()


# ---- limits ----


def test_rlimits(conn):
    given = [pb.Rlimit(resource=resource.RLIMIT_NOFILE, soft=77, hard=88),
             pb.Rlimit(resource=resource.RLIMIT_CORE, soft=0, hard=0),
             pb.Rlimit(resource=resource.RLIMIT_STACK, soft=1 << 20, hard=1 << 30)]
    lines = python(conn, "import resource as r\nfor n in r.RLIMIT_NOFILE, r.RLIMIT_CORE, r.RLIMIT_STACK: print(*r.getrlimit(n))",
                   rlimits=given)
    assert lines == ["77 88", "0 0", f"{1 << 20} {1 << 30}"]


def test_unlimited(conn):
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard != resource.RLIM_INFINITY:
        pytest.skip("this machine limits the address space")
    lines = python(conn, "import resource as r; print(*r.getrlimit(r.RLIMIT_AS))",
                   rlimits=[pb.Rlimit(resource=resource.RLIMIT_AS, soft=1 << 40, hard=INFINITY)])
    assert lines == [f"{1 << 40} -1"]


@pytest.mark.parametrize("rlimits", [
    [pb.Rlimit(resource=16, soft=1, hard=1)], [pb.Rlimit(resource=7, soft=2, hard=1)],
    [pb.Rlimit(resource=7, soft=1, hard=1), pb.Rlimit(resource=7, soft=1, hard=1)]])
def test_bad_rlimits(conn, rlimits):
    error = refused(conn, rlimits=rlimits)
    assert (error.code, error.field) == (pb.CODE_INVALID_ARGUMENT, "exec.rlimits")


def test_a_limit_that_the_kernel_refuses(conn):
    error = refused(conn, rlimits=[pb.Rlimit(resource=resource.RLIMIT_NOFILE, soft=1, hard=1 << 40)])
    assert (error.code, error.stage, error.errnum) == (pb.CODE_EXEC_FAILED, "rlimit", errno.EPERM)


def test_nice_and_oom_score(conn, agent):
    script = "import os; print(os.nice(0), open('/proc/self/oom_score_adj').read().strip())"
    before = open(f"/proc/{agent.pid}/oom_score_adj").read()
    assert python(conn, script) == ["0 0"]
    assert python(conn, script, nice=7, oom_score_adj=1000) == ["7 1000"]
    assert python(conn, script) == ["0 0"]
    assert open(f"/proc/{agent.pid}/oom_score_adj").read() == before


@pytest.mark.parametrize("kw, field", [(dict(nice=20), "exec.nice"), (dict(nice=-21), "exec.nice"),
                                       (dict(oom_score_adj=1001), "exec.oom_score_adj"),
                                       (dict(oom_score_adj=-1001), "exec.oom_score_adj")])
def test_scores_out_of_range(conn, kw, field):
    error = refused(conn, **kw)
    assert (error.code, error.field) == (pb.CODE_INVALID_ARGUMENT, field)


def score_of(pid):
    return int(open(f"/proc/{pid}/oom_score_adj").read())


def test_one_childs_score_is_not_anothers(hung_files):
    """The kernel sets the score of all who share a memory, and until execve children share the agent's."""
    conn = hung_files.configured()
    waiting = conn.start("true", user=b"web")
    conn.ping()
    pid, = hung_files.children()
    for score in (900, 0, 450):
        x = conn.started(conn.start("sleep", "60", oom_score_adj=score))
        assert (score_of(x.state.pid), score_of(pid), score_of(hung_files.pid)) == (score, 0, 0)
    conn.signal(waiting, signal.SIGKILL, pb.TARGET_ALL)
    conn.wait(lambda: waiting.failed)
    conn.clear()


def test_an_agents_own_scores_and_groups_are_not_its_childrens():
    def prepare():
        open("/proc/self/oom_score_adj", "w").write("300")
        os.setgroups([7, 8])
        os.nice(3)
        agents.ignore_signals()
    a = Agent(prepare=prepare)
    try:
        conn = a.configured()
        script = "import os; print(os.nice(0), open('/proc/self/oom_score_adj').read().strip(), os.getgroups())"
        assert python(conn, script) == ["0 0 []"]
        assert open(f"/proc/{a.pid}/oom_score_adj").read().strip() == "300"
    finally:
        a.end()


@pytest.mark.parametrize("field", ["memory_max", "memory_high", "pids_max", "cpu_quota_us", "cpu_weight"])
def test_without_cgroups_resources_are_an_error(conn, field):
    error = refused(conn, resources=pb.Resources(**{field: 5000}))
    assert (error.code, error.field) == (pb.CODE_UNSUPPORTED, f"exec.resources.{field}")


# ---- capabilities ----

CAPS = "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"


def test_by_default_all_there_are(conn):
    assert status(conn, *CAPS) == [0, BOUNDING, BOUNDING, BOUNDING, 0]


@pytest.mark.parametrize("kw, expected", [
    (dict(cap_drop=1 << SETPCAP), BOUNDING & ~(1 << SETPCAP)),  # the one that dropping takes
    (dict(cap_drop=ALL), 0),
    (dict(cap_drop=ALL, cap_add=1 << CHOWN | 1 << 63), 1 << CHOWN),
    (dict(preset=pb.PRESET_DEVELOPMENT), BOUNDING),
    (dict(preset=pb.PRESET_STANDARD), DOCKER & BOUNDING),
    (dict(preset=pb.PRESET_STANDARD, cap_drop=ALL, cap_add=1 << KILL), 1 << KILL),
    (dict(preset=pb.PRESET_STANDARD, cap_add=1 << SYS_ADMIN), (DOCKER | 1 << SYS_ADMIN) & BOUNDING),
    (dict(preset=pb.PRESET_STANDARD, cap_add=ALL), BOUNDING),
])
def test_capabilities_of_root(conn, kw, expected):
    assert status(conn, *CAPS, **kw) == [0, expected, expected, expected, 0]


@pytest.mark.parametrize("kw, bounding", [(dict(), BOUNDING), (dict(preset=pb.PRESET_STANDARD), DOCKER & BOUNDING),
                                          (dict(preset=pb.PRESET_STANDARD, no_new_privs=True), DOCKER & BOUNDING),
                                          (dict(cap_drop=ALL), 0)])
def test_another_user_has_none_in_effect(conn, kw, bounding):
    assert status(conn, *CAPS, user=b"65534", **kw) == [0, 0, 0, bounding, 0]


def test_what_the_agent_inherited_is_not_passed_on():
    """root keeps inheritable capabilities through execve, whatever the bounding set."""
    def prepare():
        head, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        assert LIBC.syscall(125, head, data) == 0  # capget: effective, permitted, inheritable; low, then high
        data[2], data[5] = data[1], data[4]
        assert LIBC.syscall(126, head, data) == 0
        agents.ignore_signals()
    a = Agent(prepare=prepare)
    try:
        conn = a.configured()
        assert status(conn, *CAPS, cap_drop=ALL) == [0, 0, 0, 0, 0]
    finally:
        a.end()


def test_an_unknown_preset(conn):
    error = refused(conn, preset=4)
    assert (error.code, error.field) == (pb.CODE_UNSUPPORTED, "exec.preset")


# ---- filters ----


def rules(*syscalls, default=pb.SECCOMP_ALLOW, **kw):
    return pb.Seccomp(rules=pb.SeccompRules(default_action=default, syscalls=syscalls, **kw))


def rule(*names, action=pb.SECCOMP_ERRNO, **kw):
    return pb.SeccompSyscalls(names=[n.encode() for n in names], action=action, **kw)


DEFAULT = pb.Seccomp(default_profile=pb.SeccompDefault())
CALL = """import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def call(*a):
    return 0 if libc.syscall(*a) >= 0 else ctypes.get_errno()
"""


@pytest.mark.parametrize("user", [b"", b"65534"])
@pytest.mark.parametrize("no_new_privs", [False, True])
def test_the_default_filter(conn, user, no_new_privs):
    script = CALL + """
libc.prctl(38, 1, 0, 0, 0) if os.getuid() else None
print(call(9999), call(435), call(165, None, None, None, 0, None), call(272, 0x10000000), call(41, 40, 1, 0), call(135, 0x1))
print(os.fork() and os.wait()[1])
"""
    lines = python(conn, script, user=user, no_new_privs=no_new_privs, seccomp=DEFAULT, cap_drop=ALL)
    # clone3 is ENOSYS (glibc falls back on clone), mount, unshare, AF_VSOCK and an odd personality EPERM.
    assert lines[0].split() == [str(e) for e in (errno.ENOSYS, errno.ENOSYS, *[errno.EPERM] * 4)]
    assert lines[-1] == "0"
    assert status(conn, "Seccomp", "NoNewPrivs", user=user, no_new_privs=no_new_privs, seccomp=DEFAULT) == [2, no_new_privs]


def test_the_default_filter_widens_with_capabilities(conn):
    script = CALL + "print(call(165, None, None, None, 0, None), call(161, b'/nowhere'))"
    assert python(conn, script, seccomp=DEFAULT) == [f"{errno.EFAULT} {errno.ENOENT}"]
    assert python(conn, script, preset=pb.PRESET_STANDARD) == [f"{errno.EPERM} {errno.ENOENT}"]  # chroot is docker's
    assert python(conn, script, seccomp=DEFAULT, cap_drop=ALL) == [f"{errno.EPERM} {errno.EPERM}"]


def test_no_filter_unless_asked(conn):
    assert status(conn, "Seccomp", "NoNewPrivs") == [0, 0]
    unconfined = pb.Seccomp(unconfined=pb.SeccompUnconfined())
    assert status(conn, "Seccomp", preset=pb.PRESET_STANDARD, seccomp=unconfined) == [0]
    assert status(conn, "NoNewPrivs", no_new_privs=True) == [1]


def test_setuid_programs_gain_nothing_with_no_new_privs(conn):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        program = shutil.copy("/usr/bin/id", folder)
        os.chmod(program, 0o4755)
        assert conn.run(program, "-u", user=b"65534").stdout == b"0\n"
        assert conn.run(program, "-u", user=b"65534", no_new_privs=True).stdout == b"65534\n"


def test_rules(conn):
    script = CALL + "print(call(39), call(83, b'/', 0), call(135, 5), call(135, 6))"
    args = [pb.SeccompArg(index=0, value=5, op=pb.SECCOMP_EQ)]
    given = rules(rule("mkdir", "no_such_call", errnum=77), rule("personality", args=args))
    assert python(conn, script, seccomp=given) == [f"0 77 {errno.EPERM} 0"]


def test_a_call_that_kills(conn):
    x = conn.run("mkdir", "/tmp", seccomp=rules(rule("mkdir", "mkdirat", action=pb.SECCOMP_KILL_PROCESS)))
    assert x.exit.signal == signal.SIGSYS


def test_a_filter_that_denies_execve_and_even_the_exit(conn):
    error = refused(conn, seccomp=rules(rule("execve", errnum=99)))
    assert (error.code, error.stage, error.errnum) == (pb.CODE_EXEC_FAILED, "execve", 99)
    error = refused(conn, seccomp=rules(default=pb.SECCOMP_ERRNO))
    assert (error.code, error.stage, error.errnum) == (pb.CODE_EXEC_FAILED, "execve", errno.EPERM)
    conn.wait(lambda: not conn.list())


@pytest.mark.parametrize("seccomp, code, field", [
    (pb.Seccomp(), pb.CODE_INVALID_ARGUMENT, "exec.seccomp"),
    (rules(default=9), pb.CODE_UNSUPPORTED, "exec.seccomp.rules.default_action"),
    (rules(rule("read", action=9)), pb.CODE_UNSUPPORTED, "exec.seccomp.rules.syscalls.action"),
    (rules(architectures=[9]), pb.CODE_UNSUPPORTED, "exec.seccomp.rules.architectures"),
    (rules(rule("read", args=[pb.SeccompArg(op=9)])), pb.CODE_UNSUPPORTED, "exec.seccomp.rules.syscalls.args.op"),
    (rules(rule("read", args=[pb.SeccompArg(index=6)])), pb.CODE_INVALID_ARGUMENT, "exec.seccomp.rules.syscalls.args.index"),
    (rules(rule()), pb.CODE_INVALID_ARGUMENT, "exec.seccomp.rules.syscalls.names"),
    (rules(*[rule(*["read"] * 100)] * 41), pb.CODE_RESOURCE_EXHAUSTED, "exec.seccomp.rules.syscalls"),
])
def test_bad_filters_name_the_field(conn, seccomp, code, field):
    error = refused(conn, seccomp=seccomp)
    assert (error.code, error.field) == (code, field)


def giant(n=2500):
    """Much work for libseccomp, and more than Linux takes in the end."""
    return rules(*[rule("socket", args=[pb.SeccompArg(index=0, value=2 * i + 1, value_two=1, op=pb.SECCOMP_MASKED_EQ)])
                   for i in range(n)])


def test_a_filter_that_cannot_be(conn):
    error = refused(conn, seccomp=giant())
    assert (error.code, error.stage, error.errnum) == (pb.CODE_EXEC_FAILED, "filter", errno.E2BIG)
    assert "4096" in error.message


def test_many_wait_for_one_filter(own_agent):
    conn = own_agent.configured()
    xs = [conn.start("grep", "Seccomp:", "/proc/self/status", seccomp=DEFAULT) for _ in range(50)]
    for x in xs:
        assert conn.finish(x).stdout == b"Seccomp:\t2\n"
        conn.ack(x)


def test_more_filters_than_are_kept(conn):
    for round_ in range(2):
        for i in range(1, 13):
            x = conn.run("mkdir", "/tmp", seccomp=rules(rule("mkdir", "mkdirat", errnum=i)))
            assert os.strerror(i).encode() in x.stderr


def builder_of(agent):
    """The worker that builds a filter: unlike a child that waits for one it has the agent's own stdout."""
    for pid in agent.children():
        try:
            if os.readlink(f"/proc/{pid}/fd/1") == os.readlink(f"/proc/{agent.pid}/fd/1"):
                return pid
        except OSError:
            pass
    return None


@pytest.fixture
def hung_build(own_agent):
    conn = own_agent.configured()
    x = conn.start("true", seccomp=giant())
    conn.ping()
    pid = builder_of(own_agent)
    assert pid, "the filter was built before it could be stopped"
    os.kill(pid, signal.SIGSTOP)
    return conn, x


def test_a_hung_build_delays_those_alone_who_want_it(hung_build):
    conn, x = hung_build
    other = conn.start("true", seccomp=giant())
    for _ in range(20):
        assert conn.run("true", seccomp=DEFAULT).exit.code == 0
    assert not x.failed and not other.failed
    conn.signal(other, signal.SIGKILL, pb.TARGET_ALL)
    conn.wait(lambda: other.failed, 2)
    assert (other.failed.stage, other.failed.errnum) == ("filter", errno.ECANCELED)
    conn.wait(lambda: x.failed, 8)
    assert (x.failed.code, x.failed.stage, x.failed.errnum) == (pb.CODE_EXEC_FAILED, "filter", errno.ETIMEDOUT)
    assert not conn.list()


def test_a_builder_that_dies(own_agent):
    conn = own_agent.configured()
    x = conn.start("true", seccomp=giant())
    conn.ping()
    pid = builder_of(own_agent)
    assert pid
    os.kill(pid, signal.SIGKILL)
    conn.wait(lambda: x.failed, 5)
    assert (x.failed.stage, x.failed.errnum) == ("filter", errno.ECHILD)
    assert conn.run("true", seccomp=DEFAULT).exit.code == 0


def test_killed_while_it_waits_for_its_filter(own_agent):
    """Each round's filter is a new one: the kill comes before it, with it, or after it."""
    conn = own_agent.configured()
    for i in range(1, 301):
        x = conn.start("sleep", "60", seccomp=rules(rule("mkdir", errnum=i)))
        if i % 3 == 0:
            conn.settle(i % 7 / 1000)
        conn.signal(x, signal.SIGKILL, pb.TARGET_ALL)
        conn.wait(lambda: x.failed or x.exit)
        if x.failed:
            assert (x.failed.code, x.failed.errnum) == (pb.CODE_EXEC_FAILED, errno.ECANCELED)
        else:
            assert x.exit.signal == signal.SIGKILL
            conn.wait(x.drained)
            conn.ack(x)
    eventually(lambda: not own_agent.children())
    assert not conn.list()


def test_filters_cost_the_agent_nothing_that_stays(own_agent):
    conn = own_agent.configured()
    for _ in range(20):
        conn.run("true", seccomp=DEFAULT, user=b"65534")
    fds, memory = own_agent.fds(), own_agent.memory()
    for i in range(200):
        conn.run("true", seccomp=DEFAULT if i % 2 else rules(rule("mkdir", errnum=1 + i % 20)), user=b"65534")
    assert own_agent.fds() == fds
    assert own_agent.memory() - memory < 512

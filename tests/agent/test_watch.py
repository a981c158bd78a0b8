"""Changes of files, told as they happen."""

import errno
import os
import threading

import pytest

import wire
from agent import code_of, eventually
from bulk import bulk_pb
from files import at, failure
from wire import EVENT

CREATED, WRITTEN, REMOVED, RENAMED, ATTRIBUTES, OVERFLOW = range(6)


class Watcher:
    def __init__(self, agent, path, beneath=b"", **kw):
        self.b = agent.bulk()
        self.b.call(watch=dict(at=at(path, beneath), **kw))

    def next(self):
        e = bulk_pb.BulkEvent.FromString(self.b.message(EVENT)).change
        return (e.kind, e.name, e.to) if e.kind == RENAMED else (e.kind, e.name)

    def take(self, n):
        return [self.next() for _ in range(n)]

    def until(self, wanted):
        seen = []
        while wanted not in seen:
            seen.append(self.next())
        return seen


@pytest.fixture
def watch(agent, conn):
    open_ = []

    def start(*args, **kw):
        open_.append(Watcher(agent, *args, **kw))
        return open_[-1]

    yield start
    for w in open_:
        w.b.close()
    eventually(lambda: not agent.children())


def write(path, data=b"x"):
    with open(path, "wb") as f:
        f.write(data)


def test_what_happens_in_a_folder(watch, top):
    os.makedirs(top + b"/w/sub")
    w = watch(top + b"/w")
    write(top + b"/w/new\nline\xff")
    os.chmod(top + b"/w/new\nline\xff", 0o600)
    os.rename(top + b"/w/new\nline\xff", top + b"/w/b")
    os.mkdir(top + b"/w/d")
    write(top + b"/w/sub/not told")
    os.unlink(top + b"/w/b")
    assert w.take(6) == [(CREATED, b"new\nline\xff"), (WRITTEN, b"new\nline\xff"), (ATTRIBUTES, b"new\nline\xff"),
                         (RENAMED, b"new\nline\xff", b"b"), (CREATED, b"d"), (REMOVED, b"b")]


def test_renames_in_and_out(watch, top):
    os.mkdir(top + b"/w")
    w = watch(top + b"/w")
    write(top + b"/f")
    os.rename(top + b"/f", top + b"/w/f")
    os.rename(top + b"/w/f", top + b"/g")
    assert w.take(2) == [(CREATED, b"f"), (REMOVED, b"f")]  # the second without another event to end its waiting
    os.rename(top + b"/g", top + b"/w/g")
    os.rename(top + b"/w/g", top + b"/h")
    os.mkdir(top + b"/w/d")
    assert w.take(3) == [(CREATED, b"g"), (REMOVED, b"g"), (CREATED, b"d")]


def test_a_tree_and_what_grows_in_it(watch, top):
    os.makedirs(top + b"/w/a/b")
    w = watch(top + b"/w", recursive=True)
    write(top + b"/w/a/b/f")
    assert w.take(2) == [(CREATED, b"a/b/f"), (WRITTEN, b"a/b/f")]
    os.makedirs(top + b"/w/c/d/e")
    write(top + b"/w/c/d/e/f")
    seen = w.until((CREATED, b"c/d/e/f"))
    assert {(CREATED, b"c"), (CREATED, b"c/d"), (CREATED, b"c/d/e")} <= set(seen)
    os.makedirs(top + b"/full/x")
    write(top + b"/full/x/f")
    os.rename(top + b"/full", top + b"/w/full")  # what it brings along is told
    assert (CREATED, b"full/x") in w.until((CREATED, b"full/x/f"))
    os.rename(top + b"/w/full", top + b"/w/moved")
    w.until((RENAMED, b"full", b"moved"))
    write(top + b"/w/moved/x/g")
    w.until((WRITTEN, b"moved/x/g"))


def test_nothing_made_in_a_new_folder_is_missed(watch, top):
    os.mkdir(top + b"/w")
    w = watch(top + b"/w", recursive=True)
    names = {b"%d/%d/%d" % (i, j, k) for i in range(20) for j in range(3) for k in range(3)}

    def make():
        for name in names:
            os.makedirs(top + b"/w/" + os.path.dirname(name), exist_ok=True)
            write(top + b"/w/" + name)

    thread = threading.Thread(target=make)
    thread.start()
    seen = set()
    while not names <= seen:
        kind, name = w.next()
        if kind == CREATED:
            seen.add(name)
    thread.join()


def test_a_file_and_its_end(watch, top):
    write(top + b"/f")
    w = watch(top + b"/f")
    write(top + b"/f", b"again")
    assert w.next() == (WRITTEN, b"")
    os.unlink(top + b"/f")
    assert w.take(2) == [(ATTRIBUTES, b""), (REMOVED, b"")]


def test_too_much_at_once_says_so(watch, top):
    limit = int(open("/proc/sys/fs/inotify/max_queued_events").read())
    if limit > 20000:
        pytest.skip("a longer queue than is worth filling")
    os.mkdir(top + b"/w")
    w = watch(top + b"/w")
    write(top + b"/w/a")
    for i in range(limit * 4):  # our socket takes some before the queue fills
        os.chmod(top + b"/w/a", 0o600)
        os.chmod(top + b"/w", 0o700)
    w.until((OVERFLOW, b""))


def test_it_ends_when_the_host_has_had_enough(watch, agent, conn, top):
    w = watch(top)
    w.b.give_up()
    with pytest.raises(wire.WireError) as e:
        w.next()
    assert code_of(e) == "CODE_DETACHED"
    w.b.call(stat=dict(at=at(top)))
    w = watch(top)
    w.b.request(stat=dict(at=at(top)))  # nothing else is asked meanwhile
    with pytest.raises(wire.Closed):
        w.next()


def test_links_and_what_is_not_there(watch, agent, conn, top):
    os.makedirs(top + b"/w/real")
    os.symlink("real", top + b"/w/link")
    os.symlink(top, top + b"/w/out")
    w = watch(b"link", beneath=top + b"/w")
    write(top + b"/w/real/f")
    assert w.next() == (CREATED, b"f")
    with agent.bulk() as b:
        assert failure(b.call, watch=dict(at=at(b"out", top + b"/w"))).errnum == errno.EXDEV
        assert failure(b.call, watch=dict(at=at(top + b"/none"))).errnum == errno.ENOENT


def test_64_watches_cost_nothing_in_the_end(own_agent, top):
    conn = own_agent.configured()
    fds = own_agent.fds()
    watches = [Watcher(own_agent, top, recursive=True) for _ in range(64)]
    write(top + b"/f")
    assert all(w.next() == (CREATED, b"f") for w in watches)
    for w in watches:
        w.b.close()
    eventually(lambda: not own_agent.children() and own_agent.fds() == fds)
    assert conn.ping()

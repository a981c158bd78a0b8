"""Programs of a few instructions, for x86-64: what an agent may be sent in place of a newer one."""

import struct

BASE = 0x400000
HEAD = 64 + 56


def program(code, data=b""):
    """A static ELF file that runs `code`, with `data` right behind it."""
    size = HEAD + len(code) + len(data)
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, BASE + HEAD, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, BASE, BASE, size, size, 0x1000)
    return header + segment + code + data


def call(number, *args):
    """A system call: mov into rax, rdi, rsi, rdx; syscall."""
    loads = b"".join(op + struct.pack("<Q", value) for op, value in
                     zip((b"\x48\xb8", b"\x48\xbf", b"\x48\xbe", b"\x48\xba"), (number, *args)))
    return loads + b"\x0f\x05"


def ends(status):
    return program(call(60, status))


def hangs():
    return program(call(34) + b"\xeb\xfe")  # pause, and should it return, on the spot


def says(text, status, times=1):
    """Writes to stderr, that many times."""
    code_len = len(call(1, 2, 0, 0) + call(60, 0)) + 10 + 5
    write = call(1, 2, BASE + HEAD + code_len, len(text))
    again = b"\x48\xff\xcb\x75" + struct.pack("b", -len(write) - 5)  # dec rbx; jnz
    count = b"\x48\xbb" + struct.pack("<Q", times)
    return program(count + write + again + call(60, status), text)

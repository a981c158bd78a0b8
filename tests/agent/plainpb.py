"""Protobuf without its classes: for what must not be believed because it was made of the same .proto, and for peers whose
.proto we do not have. Numbers and bytes alone."""


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, str):
        value = value.encode()
    return varint(number << 3 | 2) + varint(len(value)) + value


def fields(data):
    """(number, value) of each field of a message, in its order."""
    at = 0

    def take():
        nonlocal at
        n = shift = 0
        while True:
            byte = data[at]
            at += 1
            n |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return n

    while at < len(data):
        key = take()
        assert key & 7 in (0, 2), f"field {key >> 3} is neither number nor bytes"
        value = take()
        if key & 7 == 2:
            at += value
            value = data[at - value : at]
        yield key >> 3, value

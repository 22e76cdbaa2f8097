"""Event files that TensorBoard reads, by its own writer: tensorboard alone, without TensorFlow."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .base import EDGES, Array, Writer, package

_FLUSH = 10  # seconds after which what was written is on the disk


class TensorBoardWriter(Writer):
    """Writes a Monitor's records as event files into a folder; `tensorboard --logdir` shows them.

    Needs the package tensorboard; FlowError says how to install it.
    """

    def __init__(self, folder: str | Path):
        what, proto = "TensorBoardWriter", "tensorboard.compat.proto"
        files = "tensorboard.summary.writer.event_file_writer"
        self._event = package(what, f"{proto}.event_pb2", "tensorboard").Event
        self._summary = package(what, f"{proto}.summary_pb2", "tensorboard")
        self._tensor = package(what, f"{proto}.tensor_pb2", "tensorboard").TensorProto
        self._string = package(what, f"{proto}.types_pb2", "tensorboard").DT_STRING
        make = package(what, files, "tensorboard").EventFileWriter
        self._files: Any = make(str(folder), flush_secs=_FLUSH)

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        one = self._summary.Summary.Value
        self._add(step, [one(tag=name, simple_value=x) for name, x in values.items()])

    def histogram(self, step: int, name: str, counts: Array) -> None:
        there = np.flatnonzero(counts)
        if not there.size:
            return
        kept = slice(there[0], there[-1] + 1)
        edges, counts = EDGES[there[0] : there[-1] + 2], counts[kept]
        middle = (edges[1:] + edges[:-1]) / 2
        proto = self._summary.HistogramProto(
            min=edges[0], max=edges[-1], num=counts.sum(), sum=counts @ middle,
            sum_squares=counts @ middle**2,
            # what is below the first limit is told by a bucket of its own
            bucket_limit=edges.tolist(), bucket=[0, *counts.tolist()],
        )  # fmt: skip
        self._add(step, [self._summary.Summary.Value(tag=name, histo=proto)])

    def words(self, step: int, name: str, text: str) -> None:
        plugin = self._summary.SummaryMetadata.PluginData(plugin_name="text")
        value = self._summary.Summary.Value(
            tag=name,
            metadata=self._summary.SummaryMetadata(plugin_data=plugin),
            tensor=self._tensor(dtype=self._string, string_val=[text.encode()]),
        )
        self._add(step, [value])

    def image(self, step: int, name: str, png: bytes) -> None:
        width, height = (int.from_bytes(png[i : i + 4], "big") for i in (16, 20))
        image = self._summary.Summary.Image(
            encoded_image_string=png, width=width, height=height, colorspace=4
        )
        self._add(step, [self._summary.Summary.Value(tag=name, image=image)])

    def _add(self, step: int, values: list[Any]) -> None:
        summary = self._summary.Summary(value=values)
        self._files.add_event(self._event(wall_time=time.time(), step=step, summary=summary))

    def close(self) -> None:
        self._files.close()

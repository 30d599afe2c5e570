"""TensorBoard's event files: one small method for each thing that can be put into one."""

from __future__ import annotations

import io
import itertools
import os
import re
import socket
import time
import warnings
import wave
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dltrain.contracts.metric import Scores, Sound
from dltrain.contracts.task import Task
from dltrain.files import open_within

VERSION = "brain.Event:2"
"""Of the format, which is the first event's only word."""
BUCKETS = 50
THRESHOLDS = 127
BOXES = 24
"""Of a graph, at most, before one is opened."""
MODULE = re.compile(r"\w+\[[^/]+\]")
_NUMBERS = itertools.count()


class EventFile:
    """A new event file in ``folder``, in which each event is at once.

    Not by TensorBoard's own writer: its thread would print a traceback of a disk that is full, and
    lose what comes after it. Here that is an :class:`OSError` of the call that writes.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        # As TensorBoard names them: it reads in the order of the names.
        parts = f"{time.time():010.0f}", socket.gethostname(), os.getpid(), next(_NUMBERS)
        name = ".".join(("events.out.tfevents", *map(str, parts)))
        self._records = RecordWriter(open_within(folder, name, "ab"))
        self.close = self._records.close
        self._add(Event(wall_time=time.time(), file_version=VERSION))

    def _add(self, event: Any) -> None:
        self._records.write(event.SerializeToString())
        self._records.flush()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """All of ``values`` at ``step``, as one event."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._summary(step, [Summary.Value(tag=t, simple_value=v) for t, v in values.items()])

    def text(self, tag: str, step: int, markdown: str) -> None:
        """Text that TensorBoard renders."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.text.metadata import create_summary_metadata
        from tensorboard.util.tensor_util import make_tensor_proto

        metadata = create_summary_metadata(display_name="", description="")
        tensor = make_tensor_proto(markdown)
        self._summary(step, [Summary.Value(tag=tag, metadata=metadata, tensor=tensor)])

    def image(self, tag: str, step: int, png: bytes) -> None:
        """An image."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        # A PNG file has its width and height at bytes 16 and 20, most significant first.
        width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
        image = Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=png)
        self._summary(step, [Summary.Value(tag=tag, image=image)])

    def sound(self, tag: str, step: int, sound: Sound) -> None:
        """A sound that TensorBoard plays."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        content = io.BytesIO()
        with wave.open(content, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(sound.rate)
            file.writeframes(sound.samples.cpu().numpy().astype("<i2").tobytes())
        audio = Summary.Audio(
            sample_rate=sound.rate,
            num_channels=1,
            length_frames=len(sound.samples),
            encoded_audio_string=content.getvalue(),
            content_type="audio/wav",
        )
        self._summary(step, [Summary.Value(tag=tag, audio=audio)])

    def histogram(self, tag: str, step: int, values: Tensor) -> None:
        """How often each size of ``values``, of any shape, occurs; all are finite."""
        from tensorboard.plugins.histogram.summary_v2 import histogram_pb

        summary = histogram_pb(tag, values.detach().float().cpu().numpy(), buckets=BUCKETS)
        self._summary(step, summary.value)

    def precision_recall(self, tag: str, step: int, scores: Scores) -> None:
        """Precision against recall at ``THRESHOLDS`` thresholds from 0 to 1."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.pr_curve.metadata import create_summary_metadata
        from tensorboard.util.tensor_util import make_tensor_proto

        metadata = create_summary_metadata("", "", THRESHOLDS)
        tensor = make_tensor_proto(_precision_recall(scores).float().numpy())
        self._summary(step, [Summary.Value(tag=tag, metadata=metadata, tensor=tensor)])

    def layout(self, charts: Mapping[str, Sequence[str]]) -> None:
        """The page of custom charts: several scalars, by their tags, in each."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.custom_scalar import layout_pb2, metadata
        from tensorboard.util.tensor_util import make_tensor_proto

        lines = [
            layout_pb2.Chart(
                title=title,
                multiline=layout_pb2.MultilineChartContent(tag=[f"^{re.escape(t)}$" for t in tags]),
            )
            for title, tags in charts.items()
        ]
        category = layout_pb2.Category(title="training and validation", chart=lines)
        layout = layout_pb2.Layout(category=[category])
        value = Summary.Value(
            tag=metadata.CONFIG_SUMMARY_TAG,
            metadata=metadata.create_summary_metadata(),
            tensor=make_tensor_proto(layout.SerializeToString()),
        )
        self._summary(0, [value])

    def session_start(self, hyper_parameters: Mapping[str, bool | float | str]) -> None:
        """One row of the HParams tab.

        No list of all its columns is written: TensorBoard would take the first run's list for
        every run, and without one it shows whatever any run has.
        """
        from tensorboard.plugins.hparams.metadata import SESSION_START_INFO_TAG
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo

        info = SessionStartInfo(start_time_secs=time.time())
        for name, value in hyper_parameters.items():
            if isinstance(value, bool):
                info.hparams[name].bool_value = value
            elif isinstance(value, str):
                info.hparams[name].string_value = value
            else:
                info.hparams[name].number_value = value
        self._session(SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=info))

    def session_end(self, status: str) -> None:
        """How the run ended: ``finished``, ``interrupted`` or ``failed``."""
        from tensorboard.plugins.hparams import api_pb2
        from tensorboard.plugins.hparams.metadata import SESSION_END_INFO_TAG
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo

        statuses = {"finished": api_pb2.STATUS_SUCCESS, "failed": api_pb2.STATUS_FAILURE}
        info = SessionEndInfo(
            status=statuses.get(status, api_pb2.STATUS_UNKNOWN), end_time_secs=time.time()
        )
        self._session(SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=info))

    def graph(self, task: Task, batch: Mapping[str, Tensor]) -> None:
        """The operations of ``task.forward`` on ``batch``, in a box for each layer.

        Boxes are named as in the run's table of layers; ``forward`` has what the network does
        itself. With more than ``BOXES`` layers, they are those of the parts that have them.
        """
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.graph_pb2 import GraphDef
        from torch.utils.tensorboard._pytorch_graph import parse

        columns = tuple(batch.values())
        forward = _Forward(task, list(batch)).eval()
        with torch.no_grad(), warnings.catch_warnings():
            # Tracing warns of every Python branch on a shape; the graph is only to be looked at.
            warnings.simplefilter("ignore")
            trace = torch.jit.trace(forward, columns, check_trace=False)
        torch._C._jit_pass_inline(trace.graph)
        # Each output is a node of its own, with no tuple of them beside the network.
        torch._C._jit_pass_lower_all_tuples(trace.graph)
        definition = GraphDef(node=parse(trace.graph, trace, columns))
        for node in definition.node:
            node.name = _without_wrapper(node.name, task)
            node.input[:] = [_without_wrapper(name, task) for name in node.input]
        names = _unpacked([node.name for node in definition.node])
        for node in definition.node:
            node.name = names[node.name]
            node.input[:] = [names.get(name, name) for name in node.input]
        self._add(Event(wall_time=time.time(), graph_def=definition.SerializeToString()))

    def begin(self, step: int) -> None:
        """A run begins here (step 0), or again: events read before, from ``step`` on, are void."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        log = SessionLog(status=SessionLog.START)
        self._add(Event(wall_time=time.time(), step=step, session_log=log))

    def _session(self, tag: str, content: Any) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams.metadata import NULL_TENSOR, create_summary_metadata

        metadata = create_summary_metadata(content)
        self._summary(0, [Summary.Value(tag=tag, metadata=metadata, tensor=NULL_TENSOR)])

    def _summary(self, step: int, values: Iterable[Any]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary(value=values)
        self._add(Event(wall_time=time.time(), step=step, summary=summary))


def _precision_recall(scores: Scores) -> Tensor:
    """(6, thresholds): true and false positives and negatives, precision, recall."""
    probability, positive = scores.probability.double().nan_to_num(), scores.positive
    places = (probability * (THRESHOLDS - 1)).long().clamp(0, THRESHOLDS - 1)
    above = [
        torch.bincount(places[which], minlength=THRESHOLDS).double().flip(0).cumsum(0).flip(0)
        for which in (positive, ~positive)
    ]
    true, false = above
    missed, left = true[0] - true, false[0] - false
    precision = true / (true + false).clamp_min(1)
    # Where nothing is taken for the class, nothing is taken wrongly.
    precision = precision.where(true + false > 0, 1.0)
    return torch.stack((true, false, left, missed, precision, true / true[0].clamp_min(1)))


class _Forward(nn.Module):
    """``task.forward`` as the function of tensors that tracing asks for."""

    def __init__(self, task: Task, columns: list[str]) -> None:
        super().__init__()
        self.task, self._columns = task, columns

    def forward(self, *columns: Tensor) -> Tensor | tuple[Tensor, ...]:
        outputs = tuple(self.task.forward(dict(zip(self._columns, columns, strict=True))).values())
        # A tuple of one would be a node of its own.
        return outputs[0] if len(outputs) == 1 else outputs


def _unpacked(names: Sequence[str]) -> dict[str, str]:
    """A name for each node, with as many boxes side by side as can be seen at once.

    A part that does something itself is one box, with its own parts in it.
    """
    places = {name: _modules(name) for name in names}
    acting = {parts for parts, rest in places.values() if len(rest) == 1}
    for depth in range(max(len(parts) for parts, _ in places.values()), 1, -1):
        found = {name: _in_box(*place, acting, depth) for name, place in places.items()}
        if len({name.partition("/")[0] for name in found.values()}) <= BOXES:
            return found
    return {name: name for name in names}


def _modules(name: str) -> tuple[tuple[str, ...], list[str]]:
    """The modules that a node lies in, from the network down, and the rest of its name.

    A list of modules is in the names of their parameters, but not in those of their operations.
    """
    *scopes, operation = name.split("/")
    modules = tuple(itertools.takewhile(MODULE.fullmatch, scopes))
    parts = [one for one in modules if not one.startswith(("ModuleList[", "ModuleDict["))]
    return tuple(parts), [*scopes[len(modules) :], operation]


def _in_box(
    parts: tuple[str, ...], rest: Sequence[str], acting: Collection[tuple[str, ...]], depth: int
) -> str:
    """A node's name, where the modules down to the first that acts, or to ``depth``, are one."""
    if len(parts) < 2:
        # The input or the output; or what the task or a network does itself.
        owner = parts[0].partition("[")[0] if parts else "task"
        return "/".join(rest if len(rest) > 1 and not parts else [f"forward ({owner})", *rest])
    ends = (end for end in range(2, len(parts) + 1) if parts[:end] in acting)
    end = min(next(ends, len(parts)), depth)
    kind = parts[end - 1].partition("[")[0]
    place = ".".join(part.partition("[")[2].removesuffix("]") for part in parts[1:end])
    return "/".join([f"{place} ({kind})", *parts[end:], *rest])


def _without_wrapper(node: str, task: Task) -> str:
    """The name without :class:`_Forward` and the task, in which everything would be boxed twice."""
    return node.removeprefix("_Forward/").removeprefix(f"{type(task).__name__}[task]/")

"""TensorBoard's event files: one small method for each thing that can be put into one."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dltrain.contracts.task import Task

FLUSH_SECONDS = 5
QUEUE = 1_000
BUCKETS = 50


class EventFile:
    """A new event file in ``folder``; a thread of its own writes it."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(str(folder), QUEUE, FLUSH_SECONDS)
        self.flush, self.close = self._writer.flush, self._writer.close

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

    def histogram(self, tag: str, step: int, values: Tensor) -> None:
        """How often each size of ``values``, of any shape, occurs; all are finite."""
        from tensorboard.plugins.histogram.summary_v2 import histogram_pb

        summary = histogram_pb(tag, values.detach().float().cpu().numpy(), buckets=BUCKETS)
        self._summary(step, summary.value)

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
        """The operations of ``task.forward`` on ``batch``."""
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
        self._writer.add_event(
            Event(wall_time=time.time(), graph_def=definition.SerializeToString())
        )

    def begin(self, step: int) -> None:
        """A run begins here (step 0), or again: events read before, from ``step`` on, are void."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        log = SessionLog(status=SessionLog.START)
        self._writer.add_event(Event(wall_time=time.time(), step=step, session_log=log))

    def _session(self, tag: str, content: Any) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams.metadata import NULL_TENSOR, create_summary_metadata

        metadata = create_summary_metadata(content)
        self._summary(0, [Summary.Value(tag=tag, metadata=metadata, tensor=NULL_TENSOR)])

    def _summary(self, step: int, values: Iterable[Any]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary(value=values)
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))


class _Forward(nn.Module):
    """``task.forward`` as the function of tensors that tracing asks for."""

    def __init__(self, task: Task, columns: list[str]) -> None:
        super().__init__()
        self.task, self._columns = task, columns

    def forward(self, *columns: Tensor) -> Tensor | tuple[Tensor, ...]:
        outputs = tuple(self.task.forward(dict(zip(self._columns, columns, strict=True))).values())
        # A tuple of one would be a node of its own.
        return outputs[0] if len(outputs) == 1 else outputs


def _without_wrapper(node: str, task: Task) -> str:
    """The name without :class:`_Forward` and the task, in which everything would be boxed twice."""
    return node.removeprefix("_Forward/").removeprefix(f"{type(task).__name__}[task]/")

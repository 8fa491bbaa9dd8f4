"""Writes a file of scalars with TensorBoard's own messages and writer: two records of a log.

    python reference/fixtures_events.py

makes crates/xr-train/tests/fixtures/events.tfevents.
"""

from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

FILE = Path(__file__).parent.parent / "crates/xr-train/tests/fixtures/events.tfevents"

STEP = {
    "step/loss": 1.5,
    "step/lr": 0.001,
    "step/steps per second": 8.0,
    "step/temperature": 0.07,
    "step/gradient norm": 5.0,
    "step/gradient norm image": 3.0,
    "step/gradient norm text": 4.0,
    "step/info_nce": 2.5,
}
EPOCH = {
    "epoch/loss": 1.25,
    "epoch/chance loss": 4.75,
    "epoch/lr": 0.0005,
    "epoch/steps per second": 7.5,
    "epoch/share of time waiting for data": 0.125,
    "validation/loss": 2.0,
    "epoch/info_nce": 2.25,
    "validation/R@5": 0.5,
    "diagnostics/image cosine": 0.25,
}


def event(seconds, scalars):
    values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
    return Event(wall_time=seconds, step=300, summary=Summary(value=values))


def main():
    with FILE.open("wb") as file:
        writer = RecordWriter(file)
        events = [
            Event(wall_time=1.5e9, file_version="brain.Event:2"),
            event(1.5e9 + 0.25, STEP),
            event(1.5e9 + 0.5, EPOCH),
        ]
        for each in events:
            writer.write(each.SerializeToString())
        writer.flush()


if __name__ == "__main__":
    main()

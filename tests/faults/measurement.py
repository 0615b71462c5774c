"""Faults of the measurement: the figures are not those of the work, or are held against those of something else."""

from __future__ import annotations

import dataclasses
import json
import shutil

from speedgate.results.run import Outcome
from tests.faults.registry import fakes, measures, refused
from tests.support.baseline_samples import store


@measures(because="a round followed 1 images of its process")
def no_warm_up(worker, patch):
    """The first round is measured right after the image that compiles."""
    patch.setattr("speedgate.measure.rounds.Measurement.warm_up", lambda measurement: measurement.plan.rounds)


@measures(because="a round followed 1 images of its process")
def cold_process(worker, patch):
    """The process has made no image before its warm-up: that one compiles, and the first round warms up."""
    worker.images = 0


@measures(because="the device is not synchronised around a round")
def missing_synchronise(worker, patch):
    """The clock is read when the work has been handed to the device, not when it is done."""
    worker.closing = False


@measures(because="work is done outside of the clock")
def work_outside_of_the_clock(worker, patch):
    """A third of an image is made after the clock was read."""
    worker.after_s = worker.image_s / 2


@measures(because="does not count its images")
def worker_that_does_not_count(worker, patch):
    """A worker does not say how many images it has made, so that nobody can tell a reused round."""
    worker.counts = False


@fakes("measurement", Outcome.INVALID, "int8", because="a reused round")
def round_reused():
    """Every round hands over the first one's seconds without making an image."""
    return {"images": 7}


@fakes("measurement", Outcome.INVALID, "fp32", because="-0.25 s for a round: not a duration")
def clock_running_backwards():
    """A round ends before it began."""
    return {"seconds": -0.25}


@fakes("measurement", Outcome.INVALID, "bf16", because="0.0 s for a round: not a duration")
def clock_standing_still():
    """A round takes no time."""
    return {"seconds": 0.0}


@fakes("measurement", Outcome.INVALID, "sdpa", because="nan s for a round: not a duration")
def seconds_undefined():
    """A round's seconds are not a number."""
    return {"seconds": float("nan")}


@fakes("measurement", Outcome.INVALID, "compile", because="a peak of 0 bytes: not a size")
def peak_not_read():
    """The allocator's peak reads zero."""
    return {"bigger": 0.0}


@fakes(
    "measurement", Outcome.INVALID, "int8", because="0x40", answers={"nvmlDeviceGetCurrentClocksEventReasons": [0x40]}
)
def throttled_gpu():
    """The GPU lowers its clocks because it is hot, in every round."""
    return {}


@fakes(
    "measurement",
    Outcome.INVALID,
    "int8",
    because="1 other process on the GPU",
    answers={"nvmlDeviceGetComputeRunningProcesses_v3": [[{"pid": 1}, {"pid": 2}]]},
)
def gpu_shared():
    """Another process works on the GPU."""
    return {}


@refused(because="that run is of nvidia-h100")
def baseline_of_another_gpu(folder):
    """`--benchmark-compare` names a file that was recorded on another GPU."""
    return [f"--benchmark-compare={_h100(folder).relative_to(folder.parent)}"]


@refused(because="gpu_key: expected 'nvidia-a100-sxm4-80gb-400w', found 'nvidia-h100'")
def baseline_in_the_wrong_folder(folder):
    """A file of another GPU was copied into this one's folder."""
    shutil.copy(_h100(folder), _own(folder) / "0009_copied.json")
    return []


@refused(because="seconds")
def baseline_edited(folder):
    """A second in a baseline was edited into one that no clock measures."""
    path = max(_own(folder).glob("0*.json"))
    document = json.loads(path.read_text())
    document["benchmarks"][0]["extra_info"]["speedgate"]["run"]["processes"][0]["seconds"][0] *= -1
    path.write_text(json.dumps(document))
    return []


def _own(folder):
    return folder / "nvidia-a100-sxm4-80gb-400w"


def _h100(folder):
    return store(folder, "0001_recorded.json", gpu_key="nvidia-h100")


@dataclasses.dataclass
class Device:
    """A worker whose device works on its own, in a time that passes for nobody else: `now_s` is this process's clock.

    `call` does what a built case's `generate` does; `closing` is the synchronisation at its end.
    """

    image_s: float = 0.5
    launch_s: float = 0.01
    after_s: float = 0.0
    images: int = 1
    closing: bool = True
    counts: bool = True
    now_s: float = 0.0
    done_s: float = 0.0

    def call(self, operation, **keywords):
        """An image's seconds, with the device synchronised on both sides of it."""
        self._synchronise()
        started_s = self.now_s
        self.now_s += self.launch_s
        self.done_s = self.now_s + self.image_s
        if self.closing:
            self._synchronise()
        seconds = self.now_s - started_s
        self.now_s += self.after_s
        self.images += 1
        return {"seconds": seconds, "peak_bytes": 1, "images": self.images if self.counts else None}

    def close(self):
        """Nothing is held."""

    def _synchronise(self):
        self.now_s = max(self.now_s, self.done_s)

"""Faults of the measurement: the figures are not those of the work, or are compared with those of something else."""

from __future__ import annotations

import dataclasses
import json
import shutil

from fixtures.faults.registry import measurement_fault, refused_baseline, session_fault
from speedgate.results.run import Outcome
from tests.support.baseline_samples import store_file


@measurement_fault(reason="a round came after 1 images of its process")
def no_warm_up(worker, patch):
    """The first round is measured right after the image that compiles."""
    patch.setattr("speedgate.measure.rounds.Measurement.warm_up", lambda measurement: measurement.plan.rounds)


@measurement_fault(reason="a round came after 1 images of its process")
def cold_process(worker, patch):
    """The process has made no image before its warm-up, so the warm-up compiles and the first round warms up."""
    worker.images = 0


@measurement_fault(reason="the device is not synchronised around a round")
def missing_synchronise(worker, patch):
    """The clock is read when the device has received the work, before the work is done."""
    worker.synchronises = False


@measurement_fault(reason="work is done outside of the clock")
def work_outside_of_the_clock(worker, patch):
    """A third of an image is made after the clock was read."""
    worker.after_s = worker.image_s / 2


@measurement_fault(reason="does not count its images")
def worker_that_does_not_count(worker, patch):
    """A worker does not report how many images it has made, so a reused round would go unnoticed."""
    worker.counts_images = False


@session_fault("measurement", Outcome.INVALID, "int8", reason="a reused round")
def round_reused():
    """Every round reports the first round's seconds without making an image."""
    return {"images": 7}


@session_fault("measurement", Outcome.INVALID, "fp32", reason="-0.25 s for a round: not a duration")
def clock_running_backwards():
    """A round ends before it began."""
    return {"seconds": -0.25}


@session_fault("measurement", Outcome.INVALID, "bf16", reason="0.0 s for a round: not a duration")
def clock_standing_still():
    """A round takes no time."""
    return {"seconds": 0.0}


@session_fault("measurement", Outcome.INVALID, "sdpa", reason="nan s for a round: not a duration")
def seconds_undefined():
    """A round's seconds are not a number."""
    return {"seconds": float("nan")}


@session_fault("measurement", Outcome.INVALID, "compile", reason="a peak of 0 bytes: not a size")
def peak_not_read():
    """The allocator's peak reads zero."""
    return {"bigger": 0.0}


@session_fault(
    "measurement", Outcome.INVALID, "int8", reason="0x40", answers={"nvmlDeviceGetCurrentClocksEventReasons": [0x40]}
)
def throttled_gpu():
    """The GPU lowers its clocks because it is hot, in every round."""
    return {}


@session_fault(
    "measurement",
    Outcome.INVALID,
    "int8",
    reason="1 other process on the GPU",
    answers={"nvmlDeviceGetComputeRunningProcesses_v3": [[{"pid": 1}, {"pid": 2}]]},
)
def gpu_shared():
    """Another process works on the GPU."""
    return {}


@refused_baseline(reason="that run is of nvidia-h100")
def baseline_of_another_gpu(folder):
    """`--benchmark-compare` names a file that was recorded on another GPU."""
    return [f"--benchmark-compare={_h100(folder).relative_to(folder.parent)}"]


@refused_baseline(reason="gpu_key: expected 'nvidia-a100-sxm4-80gb-400w', found 'nvidia-h100'")
def baseline_in_the_wrong_folder(folder):
    """A file of another GPU was copied into this one's folder."""
    shutil.copy(_h100(folder), _a100(folder) / "0009_copied.json")
    return []


@refused_baseline(reason="seconds")
def baseline_edited(folder):
    """The seconds of a round in a baseline were edited to a negative number."""
    path = max(_a100(folder).glob("0*.json"))
    document = json.loads(path.read_text())
    document["benchmarks"][0]["extra_info"]["speedgate"]["run"]["processes"][0]["seconds"][0] *= -1
    path.write_text(json.dumps(document))
    return []


def _a100(folder):
    return folder / "nvidia-a100-sxm4-80gb-400w"


def _h100(folder):
    return store_file(folder, "0001_recorded.json", gpu_key="nvidia-h100")


@dataclasses.dataclass
class Device:
    """Simulate a worker with an asynchronous device: `now_s` is the clock, `done_s` the time when the device's work is done.

    `call` does the same as a built case's `generate`; `synchronises` is False to leave out the synchronisation at its end.
    """

    pid = None
    image_s: float = 0.5
    launch_s: float = 0.01
    after_s: float = 0.0
    images: int = 1
    synchronises: bool = True
    counts_images: bool = True
    now_s: float = 0.0
    done_s: float = 0.0

    def call(self, operation, **keywords):
        """Return an image's seconds, with the device synchronised before and after it."""
        self._synchronise()
        started_s = self.now_s
        self.now_s += self.launch_s
        self.done_s = self.now_s + self.image_s
        if self.synchronises:
            self._synchronise()
        seconds = self.now_s - started_s
        self.now_s += self.after_s
        self.images += 1
        return {"seconds": seconds, "peak_bytes": 1, "images": self.images if self.counts_images else None}

    def close(self):
        """Do nothing: no resource is held."""

    def _synchronise(self):
        self.now_s = max(self.now_s, self.done_s)

"""Make histories with a known step and with hostile texts, and sites of them, for the tests of the site."""

import datetime
import hashlib
import json
import random
import re

from speedgate.history.machine import CaseDrift, machine_series
from speedgate.history.site.write import replace_folder, write_site
from speedgate.history.trend import LATENCY, ChangeKind, Series, SeriesPoint, TrendChange

STAGES = ("fp32", "bf16", "sdpa", "compile", "fused_qkv", "int8")
SPEED = (7.362, 4.626, 3.315, 2.538, 2.523, 2.429)
GPUS = ("nvidia-a100-sxm4-80gb-400w", "nvidia-h200-141gb-700w")
STEP_AT, STEP = 0.6, 1.06
HOSTILE = '<img src=x onerror="window.pwned=1">\'"&</script><script>window.pwned=1</script>'
AT = "2026-11-21T19:00:00+00:00"
START = datetime.datetime(2026, 1, 1, 4, 0, tzinfo=datetime.UTC)


def point(index, *, base_s, random_, **changes):
    """Make a run of eight processes around `base_s`, with versions that change over time; all cases share its commit."""
    fields = {
        "run_id": f"{index:06x}{random_.getrandbits(232):058x}",
        "measured_at": (START + datetime.timedelta(hours=8 * index)).isoformat(),
        "commit": hashlib.sha1(str(index).encode(), usedforsecurity=False).hexdigest(),
        "process_medians_s": tuple(base_s * random_.gauss(1, 0.006) for _ in range(8)),
        "peak_bytes": int(10.2e9 * random_.gauss(1, 0.001)),
        "ssim": 0.9985 + random_.gauss(0, 0.0002),
        "first_image_s": 31 * random_.gauss(1, 0.03),
        "compile_s": 27 * random_.gauss(1, 0.03),
        "cache": "cold cache",
        "fingerprint": "ba5a874d8893",
        "outcome": "SLOWER" if index % 97 == 96 else "PASS",
        "versions": {
            "torch": f"2.13.0.dev{20260101 + index // 30}",
            "torch_git": f"{index // 30:040x}",
            "diffusers": "0.42.1" if index > 400 else "0.41.0",
            "torchao": "0.18.0",
            "python": "3.11.7",
        },
    }
    return SeriesPoint(**{**fields, **changes})


def series(case_key, *, gpu_key=GPUS[0], runs=40, base_s=2.5, step=True, **changes):
    """Make a case whose latency rises by `STEP` after the share `STEP_AT` of its runs."""
    random_ = random.Random(f"{gpu_key} {case_key}")  # noqa: S311 - noise, no secret
    after = int(runs * STEP_AT)
    points = tuple(
        point(i, base_s=base_s * (STEP if step and i >= after else 1), random_=random_, **changes) for i in range(runs)
    )
    return Series(gpu_key=gpu_key, case_key=case_key, points=points)


def ladder(pipeline="sdxl", *, gpu_key=GPUS[0], runs=40, workload="1024px-30steps-b1"):
    """Yield a case for each stage, with different latencies."""
    for stage, base_s in zip(STAGES, SPEED, strict=True):
        yield series(f"{pipeline}/{stage}/{workload}", gpu_key=gpu_key, runs=runs, base_s=base_s, step=stage == "int8")


def changes(series):
    """Return the known step as a trend would report it."""
    after = int(len(series.points) * STEP_AT)
    if "/int8/" not in series.case_key:
        return []
    where = {"before": after - 1, "run": after, "after": min(after + 1, len(series.points) - 1)}
    return [
        TrendChange(metric=LATENCY, kind=ChangeKind.STEP, ratio=STEP, low=1.055, high=1.065, p_value=0.0005, **where)
    ]


def machine(*drifts):
    """Make the series of the first machine with one session a day, from three confirmed cases each."""
    return machine_series(
        CaseDrift(
            gpu_key=GPUS[0],
            measured_at=(START + datetime.timedelta(days=day)).isoformat(),
            commit=None,
            baseline="baselines/0002.json",
            drift=drift,
        )
        for day, drift in enumerate(drifts)
        for _ in range(3)
    )


def write(target, series, **options):
    """Write the site of these series as `speedgate site` does."""
    options = {"changes": changes, "generated_at": AT, "stages": STAGES, **options}
    with replace_folder(target) as made:
        return write_site(made, series, **options)


def data(target, name):
    """Read the document in a script of `data/`."""
    text = (target / "data" / f"{name}.js").read_text(encoding="ascii")
    name_in_file, document = re.fullmatch(r'speedgate\.receive\("([^"]+)",(.*)\);\n', text).groups()
    assert name_in_file == name
    return json.loads(document)

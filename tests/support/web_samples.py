"""Reports for the tests of HTML pages: a ladder with everything in it, and one in which every text is hostile."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from speedgate.report.html import pictures
from speedgate.report.html.view import Report, ReportCase
from speedgate.results.run import Outcome, Run, Verdict
from tests.support.baseline_samples import KEY, make_baseline, make_run

GIB = 2**30
STAGES = {"fp32": 7.4, "bf16": 4.6, "sdpa": 3.3, "compile": 2.5, "int8": 3.2}
# If one of these were read as anything but text, a test would see it: in an element, an attribute, a script, a style, a template
# or the label of a chart. `boom` sets a variable of the page.
HOSTILE = (
    '"><img src=x onerror=boom()><script>boom()</script>',
    "</style></script></title></pre><script>window.hacked=1</script>",
    "' onmouseover='boom()' style='position:fixed;inset:0' x='",
    "javascript:boom()//{{ 7 * 7 }}{% raw %}<svg/onload=boom()>&lt;b&gt;",
    "\u202e<b>right to left</b>\x1b[31m",
)


def as_visible(text: str) -> str:
    """Return what a reader sees of a text: "?" for each control and direction character."""
    return text.replace("\u202e", "?").replace("\x1b", "?")


def case_key(stage: str) -> str:
    """Return the case key of a stage of the sample ladder."""
    return f"sdxl/{stage}/1024px-30steps-b1"


def make_case(stage: str, latency_s: float = 1.0, *, outcome: Outcome = Outcome.PASS, **changes: Any) -> ReportCase:
    """Make a measured case with one verdict, a published and a recorded baseline."""
    key = case_key(stage)
    run = ladder_run(key, stage, latency_s)
    verdict = Verdict(case_key=key, claim="latency", outcome=outcome, sentence=f"{latency_s} s against 1 s")
    figures = {
        "published": msgspec.structs.replace(
            make_baseline(latency_s * 0.95, source="published"), case_key=key, peak_bytes=9 * GIB
        ),
        "recorded": msgspec.structs.replace(
            make_baseline(latency_s, latency_s * 1.01), case_key=key, peak_bytes=8 * GIB
        ),
    }
    fields = {"case_key": key, "run": run, "verdicts": (verdict,), "baselines": figures, **changes}
    return ReportCase(**fields)


def ladder_run(key: str, stage: str, latency_s: float) -> Run:
    """Make a run of three processes that lie 1 % apart, with a warm cache if the stage is `compile`."""
    names = list(STAGES)
    hits = int(stage == "compile")
    run = make_run(key, medians_s=[latency_s * factor for factor in (0.99, 1.0, 1.01)], peak_bytes=(7 * GIB,) * 3)
    start = msgspec.structs.replace(run.cold_start, cache_hits=hits, cache_misses=0)
    return msgspec.structs.replace(
        run,
        recipe={"stages": names[: names.index(stage) + 1] if stage in names else [stage]},
        cold_start=start,
        processes=tuple(msgspec.structs.replace(process, cold_start=start) for process in run.processes),
        components_s={"text encoders": 0.1, "denoiser": latency_s * 0.8, "vae decode": 0.2},
        parity={"ssim": 0.9987},
    )


def case_images(*keys: str, side_px: int = 32) -> dict[str, pictures.CaseImage]:
    """Make an image of each case. The first is the reference of all, and each later one differs in a larger corner."""
    waves = np.sin(
        np.linspace(0, 9, side_px)[:, None, None] * np.linspace(0.5, 1, side_px)[None, :, None] * np.array([1, 2, 3])
    )
    images = {}
    for number, key in enumerate(keys):
        image = (0.5 + 0.4 * waves).astype(np.float32)
        image[: 4 * number, : 4 * number] = 0.5
        images[key] = pictures.CaseImage(image=image, reference=keys[0])
    return images


def make_report(*cases: ReportCase, **changes: Any) -> Report:
    """Make the report of these cases, or of a whole ladder in which int8 got slower."""
    pictures_by_case = pictures.make_pictures(case_images(*(case_key(stage) for stage in sorted(STAGES))))
    ladder = tuple(
        make_case(
            stage,
            latency_s,
            outcome=Outcome.SLOWER if stage == "int8" else Outcome.PASS,
            pictures=pictures_by_case[case_key(stage)],
        )
        for stage, latency_s in STAGES.items()
    )
    fields = {
        "gpu_key": KEY,
        "machine": {"key": KEY, "name": "NVIDIA A100-SXM4-80GB"},
        "health": {"load_1min": 0.1, "throttled": None},
        "cases": cases or ladder,
        "made_by": {"command": "pytest bench --report report.html", "speedgate": "0.1.0"},
        **changes,
    }
    return Report(**fields)


def hostile_report() -> Report:
    """Make a report in which every text of a run, a file or a command line is hostile."""
    cases = [_hostile_case(text) for text in HOSTILE]
    facts = {text: text for text in HOSTILE}
    return make_report(
        *cases,
        gpu_key=HOSTILE[0],
        machine=facts,
        health=facts,
        made_by=facts | {"command": HOSTILE[1]},
        remarks=HOSTILE,
    )


def _hostile_case(text: str) -> ReportCase:
    key = f"{text.replace('/', '')}/{text.replace('/', '')}/{text.replace('/', '')}"
    run = msgspec.structs.replace(
        make_run(key),
        environment={text: text},
        recipe={"stages": [text], text: text},
        structure={text: text},
        counts={text: text},
        components_s={text: 1.0},
        fingerprint=text,
    )
    verdicts = tuple(Verdict(case_key=key, claim=text, outcome=outcome, sentence=text) for outcome in Outcome)
    (made,) = pictures.make_pictures(case_images(key)).values()
    figures = {"recorded": msgspec.structs.replace(make_baseline(2.4, 2.5), path=f"b/{text}.json")}
    return ReportCase(case_key=key, run=run, verdicts=verdicts, pictures=made, baselines=figures)

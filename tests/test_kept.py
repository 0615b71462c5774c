"""What a case made, kept for a recording that goes on: it comes back as it was, or the case is looked at again."""

import dataclasses

import numpy as np
import pytest

from fixtures import kept, parity
from fixtures.case_key import Case
from fixtures.lab import Lab
from speedgate.web import pictures
from tests.baseline_samples import make_run
from tests.test_recording_again import session as recording


@pytest.fixture
def session(tmp_path):
    return recording(tmp_path)


@pytest.fixture
def conditions(session):
    return session.conditions_of(make_run())


def made(*, precise=None, side_px=4):
    """What a case of two parts made."""
    draw = np.random.default_rng(3)

    def array(*shape):
        return draw.standard_normal(shape).astype(np.float32)

    return parity.Output(
        image=array(side_px, side_px, 3),
        steps=(array(2, 2, 4, 2, 2), array(2, 2, 3, 1, 1)),
        decoded=array(1, 3, 4, 4),
        earlier=(array(2, 2, 3),),
        precise=precise,
    )


def same(one, other):
    """Whether two outputs hold the same arrays, in the same order."""
    sides = [(output.image, output.decoded, *output.steps, *output.earlier) for output in (one, other)]
    return all(np.array_equal(*pair) and pair[0].dtype == pair[1].dtype for pair in zip(*sides, strict=True))


def test_what_was_made_comes_back(session, conditions):
    """Every array as it was: parity judges by the same figures."""
    output = made()
    kept.keep(session, conditions, output)

    found = kept.kept(session, conditions)

    assert same(found, output) and found.precise is None


def test_what_is_precise_outlives_the_rest(session, conditions):
    """Once a case was compared, what others are compared with stays: denoiser and decoder, without images."""
    output = made(precise=made())
    kept.keep(session, conditions, output)
    kept.drop(session, conditions)

    found = kept.kept(session, conditions)

    assert found.image.size == 0
    assert np.array_equal(found.precise.decoded, output.precise.decoded)
    assert all(np.array_equal(*pair) for pair in zip(found.precise.steps, output.precise.steps, strict=True))


def test_a_case_without_a_kept_image_has_no_picture(session, conditions, tmp_path):
    """The report has those of the others: an image that was dropped is none, of no pixel."""
    kept.keep(session, conditions, made(precise=made()))
    kept.drop(session, conditions)
    one, other = (Case(pipeline="sdxl", size="tiny", stage=stage) for stage in ("fp32", "bf16"))
    lab = Lab(session=session, progress=None, weights={}, factory="", logs=tmp_path)
    lab.outputs = {one: kept.kept(session, conditions), other: made(side_px=8)}

    lab.save_images()

    assert list(pictures.made(session.looks)) == [other.key]


def test_what_was_made_otherwise_does_not_count(session, conditions):
    """Other code, versions or weights, and a file that is broken or gone: the case is looked at again."""
    kept.keep(session, conditions, made())
    other = dataclasses.replace(conditions, source="1" * 64)

    assert kept.kept(session, other) is None
    (path,) = session.root.rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-7])
    assert kept.kept(session, conditions) is None
    kept.drop(session, conditions)
    assert kept.kept(session, conditions) is None


def test_figures_come_back_from_a_record():
    """A figure that was no number is none again, and is within no band."""
    figures = parity.Parity(
        ssim=0.99,
        step_error=0.1,
        reference_step_error=0.1,
        step_gain=float("nan"),
        decoder_error=0.1,
        reference_decoder_error=0.1,
        decoder_gain=1.0,
    )

    found = parity.from_kept(dataclasses.asdict(figures) | {"step_gain": None})

    assert repr(found) == repr(figures)
    assert parity.judge("a/b/c", found, band=(0.9, 1.0), factor=2.0).outcome == "DIFFERENT"

"""The pictures of a report: maps that show faults and nothing else, at any size, and the files that store them."""

import io

import numpy as np
import pytest
from PIL import Image

from speedgate.report.html import pictures, view
from speedgate.results.json_io import write_json
from tests.support.web_samples import case_images


def pixels(png):
    """Decode an image file to an array [h, w, 3] of 0..255."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def pair(side_px=64, *, fault=(slice(0), slice(0)), by=0.2):
    """Make the pictures of a case that differs from its reference by `by` in `fault`."""
    reference = np.random.default_rng(0).random((side_px, side_px, 3)).astype(np.float32) * 0.5
    image = reference.copy()
    image[fault] += by
    pictures_by_case = pictures.make_pictures(
        {"a": pictures.CaseImage(image=image, reference="b"), "b": pictures.CaseImage(image=reference, reference="b")}
    )
    return pictures_by_case["a"]


def test_a_fault_is_bright_where_it_is_and_the_rest_is_black():
    """Both maps are bright inside a changed square and black far from it, and black all over for two equal images."""
    same, faulty = pair(), pair(fault=(slice(8, 20), slice(8, 20)), by=np.linspace(0, 0.5, 12)[:, None, None])

    assert pixels(same.difference).max() == pixels(same.similarity).max() == 0
    for png in (faulty.difference, faulty.similarity):
        assert pixels(png)[10:18, 10:18].max(axis=-1).mean() > 150
        assert pixels(png)[40:, 40:].max() == 0


def test_the_difference_is_times_ten():
    """A difference of 0.02 is shown as 0.2 of full brightness."""
    assert pixels(pair(fault=(slice(None), slice(None)), by=0.02).difference).mean() == pytest.approx(0.2 * 255, abs=1)


def test_a_fault_of_one_pixel_is_not_averaged_away(monkeypatch):
    """A large image is reduced, and a pixel of a map is the worst of those that it stands for."""
    monkeypatch.setattr(pictures, "LONGEST_PX", 64)
    faulty = pair(150, fault=(70, 70))

    assert max(pixels(faulty.image).shape) <= 64
    assert pixels(faulty.difference).max() == 255
    assert faulty.width_px == 150


def test_nan_is_as_bright_as_can_be():
    """The map of a case that makes NaN is all in the brightest colour, and not black."""
    assert pixels(pair(fault=(slice(None), slice(None)), by=np.nan).similarity).min() > 100


def test_no_reference_no_maps():
    """Without an image of the reference there are no maps."""
    (alone,) = pictures.make_pictures({"a": next(iter(case_images("b").values()))}).values()

    assert alone.difference is None
    assert pixels(alone.image).shape == (32, 32, 3)


def save(folder):
    """Save the pictures of two cases with one result, as a session does; the assets and the results."""
    files = {"case.json": b"{}"}
    assets = view.ReportAssets(
        results=view.file_digests(files),
        made_by={"command": "pytest"},
        remarks=("busy",),
        pictures=pictures.make_pictures(case_images("a", "b")),
    )
    view.save_assets(assets, folder)
    return assets, files


def test_assets_are_read_back(tmp_path):
    """Pictures, command and remarks are the same after writing and reading; with other results than theirs they do not count."""
    assets, files = save(tmp_path)

    assert view.load_assets(tmp_path, files) == assets
    assert view.load_assets(tmp_path, files | {"other.json": b"{}"}) is not None
    for folder, others in ((tmp_path / "elsewhere", files), (tmp_path, files | {"case.json": b"{ }"}), (tmp_path, {})):
        assert view.load_assets(folder, others) is None


@pytest.mark.parametrize("index", [[], {"results": {"case.json": "00"}, "made_by": {}, "remarks": [], "pictures": 1}])
def test_a_broken_index_is_one_error(tmp_path, index):
    """An index that is not ours is refused, and the error names it."""
    write_json(tmp_path / view.ASSETS_FOLDER / view.ASSETS_INDEX, index)

    with pytest.raises(ValueError, match=r"index\.json: expected results, made_by"):
        view.load_assets(tmp_path, {"case.json": b"{}"})


@pytest.mark.parametrize("entry", [{}, 1, {"number": "../../x", "reference": "b", "width_px": 1, "kinds": ["image"]}])
def test_a_hostile_entry_names_no_file(tmp_path, entry):
    """File names are made from numbers and never read from the index, so it cannot name another file."""
    _, files = save(tmp_path)
    write_json(
        tmp_path / view.ASSETS_FOLDER / view.ASSETS_INDEX,
        {"results": view.file_digests(files), "made_by": {}, "remarks": [], "pictures": {"a": entry}},
    )

    with pytest.raises(ValueError, match="pictures: a: expected a number"):
        view.load_assets(tmp_path, files)


def test_a_link_is_not_followed(tmp_path):
    """Neither a picture nor its folder may be a symbolic link."""
    _, files = save(tmp_path / "run")
    picture = tmp_path / "run" / view.ASSETS_FOLDER / "000-image.png"
    picture.unlink()
    picture.symlink_to("/etc/hostname")
    with pytest.raises(OSError, match="symbolic links"):
        view.load_assets(tmp_path / "run", files)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / view.ASSETS_FOLDER).symlink_to(tmp_path / "run" / view.ASSETS_FOLDER)

    with pytest.raises(ValueError, match="a link"):
        view.load_assets(tmp_path / "other", files)

"""One rig for all faults, so that every stage is built and every session run once."""

import pytest

from tests.faults.rig import Rig


@pytest.fixture(scope="session")
def rig(build, look, tmp_path_factory):
    """Makes a change and has it judged."""
    return Rig(build, look, tmp_path_factory.mktemp("faults"))

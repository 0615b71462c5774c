"""One rig for all faults, so that every stage is built once and every session runs once."""

import pytest

from tests.faults.rig import Rig


@pytest.fixture(scope="session")
def rig(build, make_output, tmp_path_factory):
    """Apply changes and have them judged."""
    return Rig(build, make_output, tmp_path_factory.mktemp("faults"))

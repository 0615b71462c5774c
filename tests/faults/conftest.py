"""One rig for all faults, so that every stage is built once."""

import functools

import pytest

from tests.faults.rig import Rig


@pytest.fixture(scope="session")
def session_rig(build, make_output, tmp_path_factory):
    return Rig(build, make_output, tmp_path_factory.mktemp("faults"))


@pytest.fixture
def rig(session_rig, request):
    """Apply changes and have them judged."""
    session_rig.bench = functools.partial(request.getfixturevalue, "bench")
    return session_rig

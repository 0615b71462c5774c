"""No case of the baselines is lost."""

import pytest


def test_coverage(coverage, gate):
    """Every case that this machine's baselines hold is one of the suite's and, unless it was left out by name, measured."""
    if not gate.baselines:
        pytest.skip(f"no stored baseline is compared with on {gate.machine.key}")

    red = [verdict for verdict in gate.missing(**vars(coverage)) if not gate.accepts(verdict)]

    assert not red, red

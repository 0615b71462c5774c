"""No case of the baselines is missing."""


def test_coverage(coverage, gate):
    """Every case of this machine's baselines is in the suite, and is measured unless the command leaves it out."""
    if not gate.baselines:
        gate.cannot_judge("coverage", "no baseline", f"none of {gate.machine.key} is used in this session")

    for verdict in gate.missing(suite_keys=coverage.suite_keys, required_keys=coverage.required_keys):
        gate.check(verdict)

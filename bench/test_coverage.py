"""No case of the baselines is missing."""


def test_coverage(coverage, gate):
    """Every stored or published case of this machine is in the suite, and measured unless the command leaves it out."""
    verdicts = gate.missing(suite_keys=coverage.suite_keys, required_keys=coverage.required_keys, loops=coverage.loops)

    for verdict in verdicts:
        gate.check(verdict)
    if gate.is_live:
        gate.cannot_judge(None, "coverage", "live comparison", "no baseline is used")
    if not gate.baselines:
        gate.cannot_judge(
            None, "coverage", "no baseline", f"this session compares with no baseline of {gate.machine.key}"
        )

"""Each component is compiled once, as one graph, without host synchronisation after the first step."""


def test_compile(case, gate):
    """Each compiled component is one graph; no graph break, recompile or CUDA-graph skip; no host sync after the first step."""
    observed = case.counts()
    expected = case.spec.expected_counts(case.start().structure, device=gate.machine.device)
    if expected is None:
        gate.cannot_judge(
            case.key, "compile", "no graphs were counted", f"nothing is expected of {case.key} on {gate.machine.device}"
        )

    verdict = gate.facts(case.key, "compile", expected=expected, observed=observed)

    gate.check(verdict)

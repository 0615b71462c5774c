"""Compilation happens once, as a whole, and leaves no synchronisation behind."""

import pytest


def test_compile(case, gate):
    """One graph a compiled component; no break, recompile or CUDA-graph skip; no host sync inside a denoising step."""
    observed = case.counts()
    expected = case.spec.expected_counts(case.start().structure, device=gate.machine.device)
    if expected is None:
        pytest.skip(f"the graphs of {case.key} were never counted on {gate.machine.device}")

    verdict = gate.facts(case.key, "compile", expected=expected, observed=observed)

    gate.check(verdict)

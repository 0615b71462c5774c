"""Compilation happens once, as a whole, and leaves no synchronisation behind."""


def test_compile(case, gate):
    """One graph a compiled component; no break, recompile or CUDA-graph skip; no host sync inside a denoising step."""
    observed = case.counts()

    verdict = gate.facts(case.key, "compile", expected=case.expected_counts(), observed=observed)

    assert gate.accepts(verdict), verdict.sentence

"""Verdicts: pure functions of a run, a baseline and a policy."""

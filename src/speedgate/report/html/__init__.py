"""The HTML report: one file without scripts."""

"""Tests of ourselves: CPU only, fake clocks, stored samples, injected faults."""

"""Tests of `gpu_code`."""

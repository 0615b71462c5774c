"""Tests of `history/site`."""

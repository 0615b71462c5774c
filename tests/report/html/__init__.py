"""Tests of `report/html`."""

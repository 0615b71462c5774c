"""Stored expectations of each machine, and how they may change."""

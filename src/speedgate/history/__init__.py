"""Runs over time: database, exchange, trend and site."""

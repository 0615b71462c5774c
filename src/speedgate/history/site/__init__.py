"""The static site that shows a history."""

"""A static website that shows a history."""

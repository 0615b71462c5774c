"""Reports for people: terminal, Markdown and one HTML file."""

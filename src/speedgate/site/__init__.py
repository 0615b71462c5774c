"""A static site from the history: files that any web server, or a browser alone, shows. It measures and decides nothing."""

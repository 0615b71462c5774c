"""What people look at in a browser: the shell of a page, its charts, and the report of a run."""

"""One module for each migration. Never edit a released migration: add another one."""

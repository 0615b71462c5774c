"""Table of contents: the plugins that the suite is made of."""

pytest_plugins = ["speedgate.plugin.hooks", "fixtures.plugin", "pytester"]

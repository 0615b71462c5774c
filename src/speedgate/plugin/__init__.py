"""The pytest plugin: options, hooks, the runner, and the session's state."""

pytest_plugins = ["speedgate.plugin.hooks"]

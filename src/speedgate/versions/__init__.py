"""Other versions of packages: pins, overlay environments, bump and bisect."""

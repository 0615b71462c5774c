"""Workers, rounds, the machine and its health."""

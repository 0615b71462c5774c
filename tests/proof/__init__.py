"""The gate run against itself and beside the rules of other tools, on simulated series whose true change is known."""

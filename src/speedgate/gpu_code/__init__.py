"""The code that a compiled stage would run on a GPU: targets, lowering without one, comparison and the least seconds."""

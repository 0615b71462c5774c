"""Records of a result and their form on disk. Imports no other package of speedgate."""

"""A history of runs over commits and machines, in SQLite or PostgreSQL. (`speedgate.history` is of package versions.)"""

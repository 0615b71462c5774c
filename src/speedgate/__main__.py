"""`python -m speedgate`: the `speedgate` command, where its script is not on the path."""

from speedgate.cli import main

raise SystemExit(main())

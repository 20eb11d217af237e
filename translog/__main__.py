"""`python -m translog` is the `translog` command."""

from translog.cli import main

if __name__ == "__main__":
    raise SystemExit(main())

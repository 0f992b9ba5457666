"""``python -m safeeraser`` is the ``safeeraser`` command."""

from safeeraser.cli import main

if __name__ == "__main__":
    raise SystemExit(main())

"""`python -m stile_cli` is `stile`."""

from stile_cli.main import main

if __name__ == "__main__":
    main()

"""`python -m unmask` is `unmask`."""

from unmask.cli.main import main

# Worker processes import this module again; only the first one is the command.
if __name__ == "__main__":
    main()

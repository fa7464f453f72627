"""`python -m hyperfit_eval`: the same as `hyperfit`."""

from .cli.main import main

if __name__ == "__main__":
    main()

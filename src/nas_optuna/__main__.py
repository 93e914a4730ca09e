"""``python -m nas_optuna``."""

from nas_optuna.cli import main

if __name__ == "__main__":
    main()

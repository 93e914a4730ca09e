"""``python -m nas_optuna.export``: carry a trained network away."""

from nas_optuna.cli import export_main

if __name__ == "__main__":
    export_main()

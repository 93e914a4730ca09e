"""``python -m nas_optuna.dashboard``: look at a study in the browser."""

from nas_optuna.cli import dashboard_main

if __name__ == "__main__":
    dashboard_main()

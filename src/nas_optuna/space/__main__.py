"""``python -m nas_optuna.space``: look at a search space."""

from nas_optuna.cli import survey_main

if __name__ == "__main__":
    survey_main()

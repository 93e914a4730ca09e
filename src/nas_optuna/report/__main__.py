"""``python -m nas_optuna.report``: say what a study found."""

from nas_optuna.cli import report_main

if __name__ == "__main__":
    report_main()

"""``python -m nas_optuna.doctor``: say what is wrong with a study, and mend it on request."""

from nas_optuna.cli import doctor_main

if __name__ == "__main__":
    doctor_main()

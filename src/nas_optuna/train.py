"""``python -m nas_optuna.train``: train networks of a finished study to the end."""

from nas_optuna.cli import train_main

if __name__ == "__main__":
    train_main()

"""``python -m nas_optuna.worker``: join a running study with nothing but its address."""

from nas_optuna.cli import worker_main

if __name__ == "__main__":
    worker_main()

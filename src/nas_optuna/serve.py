"""``python -m nas_optuna.serve``: stand before a database and answer many workers, by gRPC."""

from nas_optuna.cli import serve_main

if __name__ == "__main__":
    serve_main()

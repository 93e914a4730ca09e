"""The third of the three parts of neural architecture search: what a network is worth."""

import lazy_loader

# pruners and curves serve any Optuna study, and need no torch
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

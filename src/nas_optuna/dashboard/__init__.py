"""optuna-dashboard as the window of a study: a note, figures, and the command that opens it."""

import lazy_loader

# a command of this package shows its help, or what is wrong with its words, before torch is imported
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

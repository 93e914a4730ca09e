"""What becomes of a trained network: files that other tools read, and predictions."""

import lazy_loader

# a command of this package shows its help, or what is wrong with its words, before torch is imported
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

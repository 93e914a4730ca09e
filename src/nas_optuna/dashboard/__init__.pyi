from .fresh import Fresh as Fresh

"""User attributes of a trial that more than one part of the package reads."""

# learning curve of a trial in a study with several objectives: value by step, as a string
CURVE = "curve"
# validation losses of a trial at the steps at which pruners decide: loss by step, as a string
LOSSES = "losses"
# the study's values that were known before the training, None in the place of the one that has the curve
KNOWN_VALUES = "known_values"
# number of the stopped trial whose training this one takes up
PROMOTES = "promotes"
# number of the trial whose weights this one began with, and how like its network is to that one's
INHERITS, LIKENESS = "inherits", "likeness"
# number of the trial that was cut off and is tried again
RETRY_OF = "retry_of"
# counts up while a process works on the trial
LEASE = "lease"
# what a trial has of the budget: it asks for a part, or holds one
CLAIM = "claim"
# names of the trial's parameters that its others make void, as the layer of a block that is not there
VOID = "void"

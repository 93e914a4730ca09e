"""Reads a study of ours with plain Optuna: give the search's folder."""

import sys

import optuna

folder = sys.argv[1] if len(sys.argv) > 1 else "runs/digits-resconv_small-accuracy-auto-curves-seed0"
study = optuna.load_study(study_name=None, storage=f"sqlite:///{folder}/study.db")
complete = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
print(f"{study.study_name}: {len(study.trials)} trials, {len(complete)} trained to the end")
for trial in sorted(complete, key=lambda trial: trial.values[0], reverse=True)[:3]:
    attributes = trial.user_attrs
    print(f"{trial.values[0]:.4f}  {attributes['macs']:,} MACs  {attributes['network']}")
    print(f"        curve {list(trial.intermediate_values.values())}")
for trial in study.best_trials:
    print(f"best: trial {trial.number} with {trial.params}")

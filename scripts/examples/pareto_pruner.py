"""Pruning with two objectives, accuracy and MACs, in a loop of one's own."""

import optuna
import torch
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy

from nas_optuna.estimation import LearningCurve, ParetoPruner

digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32).flatten(1) / 16  # (N, 64)
labels = torch.tensor(digits.target)


def objective(trial: optuna.Trial) -> tuple[float, int]:
    width = trial.suggest_int("width", 2, 128, log=True)
    rate = trial.suggest_float("rate", 1e-5, 1e-1, log=True)
    macs = 64 * width + width * 10
    network = torch.nn.Sequential(torch.nn.Linear(64, width), torch.nn.ReLU(), torch.nn.Linear(width, 10))
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    curve = LearningCurve(trial, values=(None, macs))  # None: the objective that has the curve
    for epoch in range(1, 9):
        for batch in torch.randperm(1400).split(128):
            optimizer.zero_grad()
            cross_entropy(network(images[batch]), labels[batch]).backward()
            optimizer.step()
        logits = network(images[1400:]).detach()
        accuracy = float((logits.argmax(dim=1) == labels[1400:]).float().mean())
        curve.report(accuracy, epoch, loss=float(cross_entropy(logits, labels[1400:])))
        if curve.should_prune():
            raise optuna.TrialPruned
    return accuracy, macs


optuna.logging.set_verbosity(optuna.logging.WARNING)
study = optuna.create_study(directions=["maximize", "minimize"], pruner=ParetoPruner())
study.optimize(objective, n_trials=50)
print(f"{sum(trial.state.name == 'PRUNED' for trial in study.trials)} of 50 stopped early; the front:")
for trial in sorted(study.best_trials, key=lambda trial: trial.values[1]):
    print(f"{trial.values[0]:.4f}  {trial.values[1]:.0f} MACs  {trial.params}")

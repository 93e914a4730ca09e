"""Our space and our sampler in a plain Optuna study, with a training of one's own."""

import optuna
import torch
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy

from nas_optuna.space import Network, Stages
from nas_optuna.strategy import PredictorSampler

digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16  # (N, 1, 8, 8) in [0, 1]
labels = torch.tensor(digits.target)
space = Stages(
    stem={"width": 8, "kernel": 3, "stride": 1},
    stages={
        "stage1": {"depth": "1..2", "width": "8..24 by 8", "stride": 1},
        "stage2": {"depth": "1..2", "width": "16..48 by 16", "stride": 2},
    },
    block={"layer": ["conv", "dwsep"], "kernel": [3, 5], "residual": [True, False]},
)


def objective(trial: optuna.Trial) -> float:
    network = Network(space(trial), classes=10, mean=[0.3], std=[0.4])
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for batch in torch.randperm(1400).split(64):
        optimizer.zero_grad()
        cross_entropy(network(images[batch]), labels[batch]).backward()
        optimizer.step()
    network.eval()
    with torch.inference_mode():
        return float((network(images[1400:]).argmax(dim=1) == labels[1400:]).float().mean())


optuna.logging.set_verbosity(optuna.logging.WARNING)
study = optuna.create_study(direction="maximize", sampler=PredictorSampler(seed=0))
study.optimize(objective, n_trials=10)
print(f"{study.best_value:.4f} with {space.at(study.best_params).canonical()}")

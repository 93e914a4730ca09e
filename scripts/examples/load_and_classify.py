"""Loads the network that a search of the digits trained, and classifies some: give the search's folder."""

import sys

import torch
from sklearn.datasets import load_digits

import nas_optuna

folder = sys.argv[1] if len(sys.argv) > 1 else "runs/digits-resconv_small-accuracy-auto-curves-seed0"
network = nas_optuna.load(folder)
digits = load_digits()
images = torch.tensor(digits.images[:8], dtype=torch.float32)[:, None] / 16  # (N, 1, 8, 8) in [0, 1]
with torch.inference_mode():
    probabilities = network(images).softmax(dim=1)  # it normalises its input itself
print(f"{network.architecture}: inputs {network.input_shape}, classes {', '.join(network.classes)}")
for label, row in zip(digits.target[:8], probabilities, strict=True):
    best = int(row.argmax())
    print(f"{label} is taken for {network.classes[best]} with probability {row[best]:.3f}")

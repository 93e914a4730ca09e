"""What temperature does to what a teacher says, and that cross entropy is entropy plus divergence."""

import torch

from nas_optuna.estimation import cross_entropy, entropy, kl_divergence

CLASSES = ("cat", "dog", "deer", "ship")
teacher = torch.tensor([[6.0, 4.0, 2.0, -2.0]])  # logits of one image, (N, C)
student = torch.tensor([[2.0, 1.0, 1.5, 0.0]])

print(f"temperature  {'  '.join(f'{name:>6}' for name in CLASSES)}  entropy + divergence = cross entropy")
for temperature in (1, 2, 4, 8):
    told = (teacher / temperature).softmax(dim=1)
    unsure, far = entropy(told), kl_divergence(student / temperature, told)
    both = cross_entropy(student / temperature, told)
    assert torch.isclose(unsure + far, both)
    shares = "  ".join(f"{share:6.4f}" for share in told[0])
    print(f"{temperature:>11}  {shares}  {unsure:7.4f} + {far:10.4f} = {both:6.4f}")
label = torch.tensor([0])
certain = torch.nn.functional.one_hot(label, len(CLASSES)).float()
print(f"the label    entropy {abs(entropy(certain)):.4f}, divergence {kl_divergence(student, certain):.4f}")
print(f"             cross entropy {cross_entropy(student, label):.4f}")

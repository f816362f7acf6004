import torch

from mmprep.models.layers.purifier import Purifier


def test_behaviour_is_gated_elementwise_by_features() -> None:
    purifier = Purifier(3, 2)
    weight, bias = [[1.0, 0.0, 2.0], [0.0, -1.0, 0.0]], [0.5, 1.0]
    purifier.load_state_dict({"gate.weight": torch.tensor(weight), "gate.bias": torch.tensor(bias)})
    behaviour, features = torch.tensor([[4.0, -6.0]]), torch.tensor([[1.5, 1.0, -1.0]])
    # Both gates are sigmoid(0): 1.5 - 2 + 0.5, and -1 + 1.
    torch.testing.assert_close(purifier(behaviour, features), torch.tensor([[2.0, -3.0]]))


def test_gate_that_is_wide_open_lets_behaviour_through() -> None:
    purifier = Purifier(3, 2)
    torch.nn.init.constant_(purifier.gate.bias, 100.0)
    behaviour = torch.randn(5, 2)
    torch.testing.assert_close(purifier(behaviour, torch.randn(5, 3)), behaviour)

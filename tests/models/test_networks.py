import numpy as np
import pytest
import torch

from models.networks.base import NETWORKS

STOCKS, LOOKBACK, CHANNELS = 9, 11, 3
NAMES = NETWORKS.names()


def make(name, depth=1, lookback=LOOKBACK):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NETWORKS[name](CHANNELS, lookback, hidden=8, depth=depth, dropout=0.0).eval()


def windows(lookback=LOOKBACK, seed=1):
    """Ranks and a mask with gaps; the day itself always has a row."""
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.standard_normal((STOCKS, lookback, CHANNELS)).astype(np.float32))
    mask = torch.from_numpy(rng.random((STOCKS, lookback)) < 0.8)
    mask[:, -1] = True
    return x, mask


def test_the_six():
    assert NAMES == ("cross", "dlinear", "gru", "patch", "tcn", "tsmixer")


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("name", NAMES)
class TestEveryNetwork:
    def test_one_finite_score_a_stock(self, name, depth):
        for lookback in (1, 3, 10, LOOKBACK):
            scores = make(name, depth, lookback)(*windows(lookback))
            assert scores.shape == (STOCKS,)
            assert torch.isfinite(scores).all()
            assert len(scores.unique()) == STOCKS

    def test_permuting_the_stocks_permutes_the_scores(self, name, depth):
        network, (x, mask) = make(name, depth), windows()
        order = torch.from_numpy(np.random.default_rng(2).permutation(STOCKS))
        with torch.no_grad():
            torch.testing.assert_close(network(x[order], mask[order]), network(x, mask)[order], atol=1e-6, rtol=1e-5)

    def test_values_without_a_row_do_not_matter(self, name, depth):
        network, (x, mask) = make(name, depth), windows()
        other = torch.where(mask.unsqueeze(-1), x, torch.full_like(x, 77.0))
        with torch.no_grad():
            assert torch.equal(network(other, mask), network(x, mask))

    def test_gradients_reach_every_parameter_and_every_session(self, name, depth):
        network, (x, mask) = make(name, depth), windows()
        x.requires_grad_()
        (network(x, mask) ** 2).sum().backward()
        for parameter, weight in network.named_parameters():
            assert weight.grad is not None, parameter
            assert weight.grad.abs().sum() > 0, parameter
        assert (x.grad.abs().sum(dim=(0, 2)) > 0).all()
        assert not x.grad[~mask].any()

    def test_who_reads_whom(self, name, depth):
        """Only a network that says so reads other stocks' windows, and then it reads every one."""
        network, (x, mask) = make(name, depth), windows()
        reads = torch.zeros(STOCKS, STOCKS, dtype=torch.bool)
        for stock in range(STOCKS):
            at = x.clone().requires_grad_()
            network(at, mask)[stock].backward()
            reads[stock] = at.grad.abs().sum(dim=(1, 2)) > 0
        assert reads.diagonal().all()
        assert network.attends == (name == "cross")
        assert torch.equal(reads, torch.ones_like(reads) if network.attends else torch.eye(STOCKS, dtype=torch.bool))


def test_the_convolutions_are_those_of_the_dense_network():
    """The pyramid against dilated causal convolutions computed at every session and read at the last."""
    network, (x, _) = make("tcn"), windows()
    width, out = 3, torch.nn.functional.pad(x, (0, 0, network.pyramid.padding, 0)).transpose(1, 2)
    for level, layer in enumerate(network.pyramid.levels):
        dilation = width**level
        kernel = layer.first.weight.reshape(8, width, -1).transpose(1, 2)
        padded = torch.nn.functional.pad(out, ((width - 1) * dilation, 0))
        wide = torch.relu(torch.nn.functional.conv1d(padded, kernel, layer.first.bias, dilation=dilation))
        out = wide + layer.skip(out.transpose(1, 2)).transpose(1, 2)
    expected = network.head(out[..., -1]).squeeze(-1)
    torch.testing.assert_close(network(x, torch.ones(x.shape[:2])), expected, atol=1e-5, rtol=1e-5)


def test_a_moving_average_repeats_the_first_session():
    series = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])
    trend = series @ make("dlinear", lookback=6).average
    torch.testing.assert_close(trend, torch.tensor([[1.0, 1.2, 1.6, 2.2, 3.0, 4.0]]))

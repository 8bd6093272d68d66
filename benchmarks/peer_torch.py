"""The networks of cpu_peers.py in PyTorch; ResNet-50 has modules arranged to match this package's parameter names."""

import contextlib
import json

import numpy as np
import peer_efficientnet
import torch
from torch import nn

BLOCKS_AND_CHANNELS = ((3, 256), (4, 512), (6, 1024), (3, 2048))


def conv(in_channels, channels, kernel_size, stride=1):
    return nn.Conv2d(in_channels, channels, kernel_size, stride, kernel_size // 2, bias=False)


class BatchNormReLU(nn.BatchNorm2d):
    def forward(self, x):
        return nn.functional.relu(super().forward(x), inplace=True)


class Bottleneck(nn.Module):
    def __init__(self, in_channels, channels, stride):
        super().__init__()
        width = channels // 4
        self.body = nn.Sequential(
            conv(in_channels, width, 1),
            BatchNormReLU(width),
            conv(width, width, 3, stride),
            BatchNormReLU(width),
            conv(width, channels, 1),
        )
        self.bn_add_relu = nn.BatchNorm2d(channels)
        self.downsample = nn.Identity()
        if in_channels != channels:
            self.downsample = nn.Sequential(conv(in_channels, channels, 1, stride), nn.BatchNorm2d(channels))

    def forward(self, x):
        return nn.functional.relu(self.bn_add_relu(self.body(x)) + self.downsample(x), inplace=True)


class ResNet50(nn.Module):
    def __init__(self):
        super().__init__()
        features = [conv(3, 64, 7, 2), BatchNormReLU(64), nn.MaxPool2d(3, 2, 1)]
        in_channels = 64
        for stage, (num_blocks, channels) in enumerate(BLOCKS_AND_CHANNELS):
            blocks = []
            for index in range(num_blocks):
                blocks.append(Bottleneck(in_channels, channels, 2 if index == 0 and stage > 0 else 1))
                in_channels = channels
            features.append(nn.Sequential(*blocks))
        self.features = nn.Sequential(*features, nn.AdaptiveAvgPool2d(1))
        self.output = nn.Linear(in_channels, 1000)

    def forward(self, x):
        return self.output(self.features(x).flatten(1))


NETWORKS = {
    'resnetv15': ResNet50,
    'efficientnet_b0': peer_efficientnet.efficientnet_b0,
    'efficientnet_lite0': peer_efficientnet.efficientnet_lite0,
}


def load_network(folder):
    """Return the network that `network.json` names, with the weights of `network.npz`."""
    net = NETWORKS[json.loads((folder / 'network.json').read_text())['arch']]()
    arrays = np.load(folder / 'network.npz')
    state = net.state_dict()
    for name, array in arrays.items():
        state[name.replace('gamma', 'weight').replace('beta', 'bias')] = torch.from_numpy(array)
    net.load_state_dict(state)
    return net


def with_format(net, images, channels_last):
    """Return the network and the images in the memory format in which a peer computes."""
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return net.to(memory_format=memory_format), torch.from_numpy(images).contiguous(memory_format=memory_format)


def precision(bfloat16):
    """Return the context in which a peer computes."""
    return torch.autocast('cpu', torch.bfloat16) if bfloat16 else contextlib.nullcontext()


def inference(folder, images, channels_last=True, form='eager', bfloat16=False):
    """Return a function that computes logits. `form` is 'eager', 'frozen' (TorchScript) or 'compiled' (inductor)."""
    net, images = with_format(load_network(folder).eval(), images, channels_last)
    if form == 'frozen':
        with torch.no_grad(), precision(bfloat16):
            net = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(net, images, check_trace=False)))
    if form == 'compiled':
        torch._inductor.config.freezing = True
        net = torch.compile(net)

    def step():
        with torch.inference_mode(), precision(bfloat16):
            return net(images).float().numpy()

    return step


def training(folder, images, channels_last=True, form='eager', bfloat16=False):
    """Return (a function that trains for one step, the logits in inference mode before training)."""
    net, images = with_format(load_network(folder).eval(), images, channels_last)
    with torch.no_grad(), precision(bfloat16):
        logits = net(images).float().numpy()
    labels = torch.arange(len(images))
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.875, weight_decay=1 / 32768, fused=True)
    compute = torch.compile(net.train()) if form == 'compiled' else net.train()

    def step():
        optimizer.zero_grad()
        with precision(bfloat16):
            loss = criterion(compute(images), labels)
        loss.backward()
        optimizer.step()

    return step, logits


def export(folder, path):
    """Write the network as ONNX, for any batch size."""
    images = torch.zeros(2, 3, 224, 224)
    torch.onnx.export(
        load_network(folder).eval(),
        (images,),
        path,
        input_names=['images'],
        output_names=['logits'],
        dynamic_shapes=({0: torch.export.Dim('batch')},),
        external_data=False,
    )

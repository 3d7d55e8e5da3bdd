"""A digital linear layer drives several devices at once (Fig. 4i-l of the paper)."""

import numpy as np
import torch

from pnn_utils.networks.chain import Network
from pnn_utils.parts import Into, Pool, Standardise, divisor, linear, windows
from pnn_utils.pat import Physical
from pnn_utils.systems.base import check_choice, check_whole, ends

# Mean and root mean square deviation of clipped controls, in the range from 0 to 1.
MIDDLE, SPREAD = 0.6, 0.3
REACH = 3.5  # standard deviations that fill the range from its middle up, where nothing is clipped


class Hybrid(Network):
    """A linear layer sets all controls of several devices (Fig. 4i-l); light does the rest.

    devices, models : as many devices, all with the same dimensions, as differentiable models
    bound : how z = linear(x) comes into the controls' range. "clip": over its root mean square a
        row, scaled, shifted, clipped. "linear": each control standardised (in training by the
        batch's constants) and so small that next to none is clipped. "sigmoid": as it says.
    readout : "linear": trainable, of all standardised readings. "parts": a `Pool` of as many equal
        parts as classes.
    """

    def __init__(self, devices, models, n_inputs, n_classes, generator, *, bound="clip",
                 readout="linear", mode="pat"):
        super().__init__()
        sizes = {(d.input_dim, d.param_dim, d.output_dim) for d in devices}
        if len(devices) != len(models) or len(sizes) != 1:
            raise ValueError(f"there are {len(devices)} devices and {len(models)} models; "
                             "expected as many, at least one, all of the same dimensions")
        self.split, outputs = devices[0].input_dim, len(devices) * devices[0].output_dim
        check_whole(1, outputs, n_classes=n_classes)
        check_choice("bound", bound, "clip", "linear", "sigmoid")
        check_choice("readout", readout, "linear", "parts")
        ranges = [np.hstack([ends("input_range", d.input_range, d.input_dim),
                             ends("param_range", d.param_range, d.param_dim)]) for d in devices]
        self.bound, self.into = bound, Into(*np.stack(ranges, 1))
        controls = len(devices) * (self.split + devices[0].param_dim)
        self.feed, self.even = linear(n_inputs, controls, generator), Standardise(controls, True)
        self.layers = torch.nn.ModuleList(
            Physical(device, model, mode) for device, model in zip(devices, models, strict=True))
        if readout == "parts":
            self.readout = Pool(windows(outputs, n_classes))
        else:
            self.readout = torch.nn.Sequential(Standardise(outputs),
                                               linear(outputs, n_classes, generator, 1 / 3))

    def controls(self, x):
        """Return the controls, shape (rows, devices, input_dim + param_dim)."""
        z = self.feed(x)
        if self.bound == "sigmoid":
            u = torch.sigmoid(2 * z + 1)
        elif self.bound == "linear":
            u = MIDDLE + (1 - MIDDLE) / REACH * self.even(z)
        else:
            u = MIDDLE + SPREAD * z / divisor(z.square().mean(1, keepdim=True)).sqrt()
        return self.into(u.unflatten(1, (len(self.layers), -1)))  # clips what is outside

    def outputs(self, x):
        """Return what all devices gave, shape (rows, devices * output_dim)."""
        data, theta = self.controls(x).tensor_split([self.split], 2)
        return torch.cat([layer(data[:, n].contiguous(), theta[:, n].contiguous())
                          for n, layer in enumerate(self.layers)], 1)

    def forward(self, x):
        """Return logits, shape (rows, n_classes), for inputs of shape (rows, n_inputs)."""
        return self.readout(self.outputs(x))

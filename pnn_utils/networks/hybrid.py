"""A digital linear layer drives several SHG devices at once (Fig. 4i-l of the paper): light does the rest."""

import math

import torch

from pnn_utils.pat import MODES, check_rows, physics_aware
from pnn_utils.systems.base import check_whole

MIDDLE, SPREAD = 0.6, 0.3  # of the controls of one image: mean and root mean square deviation, in the range from 0 to 1


class Channel(torch.nn.Module):
    """A device of which the network sets every control, data and parameters alike.

    Parameters
    ----------
    device : callable
        ``device(x, theta)``.
    twin : callable
        Its differentiable model.
    mode : {"pat", "in_silico", "device"}
    """

    def __init__(self, device, twin, mode="pat"):
        super().__init__()
        # A tuple is not a Module: the twin's weights are not the network's.
        self._parts, self.mode = (device, twin), mode

    def forward(self, x, theta):
        device, twin = self._parts
        if self.mode == "in_silico":
            return twin(x, theta)
        with torch.set_grad_enabled(self.mode == "pat" and torch.is_grad_enabled()):
            return physics_aware(device, twin)(x, theta)


class HybridNetwork(torch.nn.Module):
    """Linear layer -> range of the controls -> one pass through each device -> linear readout.

    Parameters
    ----------
    devices, twins : sequence
        As many devices, all with the same dimensions, as differentiable models.
    n_inputs, n_classes : int
    generator : torch.Generator
        Source of the initial parameters.
    bound : {"clip", "largest", "sigmoid"}
        How the linear layer's numbers come into the range of the controls. "clip": an image's numbers are divided by their
        root mean square, scaled, shifted, and clipped. "largest": they are divided by the largest of them, so that none is
        clipped and the digital part is linear but for one factor per image. "sigmoid": the logistic function.
    readout : {"linear", "parts"}
        "linear": a trainable linear map of all outputs, standardised. "parts": nothing trainable; the outputs are cut into `n_classes`
        equal parts, whose sums, standardised, are the logits up to one trainable factor.
    mode : {"pat", "in_silico", "device"}

    Raises
    ------
    TypeError
        If a number is none.
    ValueError
        If `bound`, `readout` or `mode` is unknown, there are not as many twins as devices, no devices, or more classes than outputs.
    """

    def __init__(self, devices, twins, n_inputs, n_classes, generator, bound="clip", readout="linear", mode="pat"):
        super().__init__()
        for name, value, known in (("bound", bound, ("clip", "largest", "sigmoid")), ("readout", readout, ("linear", "parts")), ("mode", mode, MODES)):
            if value not in known:
                raise ValueError(f"{name} is {value!r}; expected one of {', '.join(map(repr, known))}")
        if len(devices) != len(twins):
            raise ValueError(f"there are {len(devices)} devices and {len(twins)} twins; expected as many")
        if not len(devices):
            raise ValueError("there are no devices; expected at least one")
        check_whole(1, n_inputs=n_inputs)
        check_whole(1, len(devices) * devices[0].output_dim, n_classes=n_classes)
        self.bound, self.split = bound, devices[0].input_dim
        controls, outputs = self.split + devices[0].param_dim, len(devices) * devices[0].output_dim
        self.low, self.high = devices[0].input_range
        self.feed = torch.nn.Linear(n_inputs, len(devices) * controls)
        torch.nn.init.normal_(self.feed.weight, std=1 / math.sqrt(n_inputs), generator=generator)
        torch.nn.init.zeros_(self.feed.bias)
        self.layers = torch.nn.ModuleList(Channel(device, twin, mode) for device, twin in zip(devices, twins, strict=True))
        self.readout = None
        if readout == "linear":
            self.readout = torch.nn.Linear(outputs, n_classes)
            bound_weights = math.sqrt(1 / outputs)
            torch.nn.init.uniform_(self.readout.weight, -bound_weights, bound_weights, generator=generator)
            torch.nn.init.zeros_(self.readout.bias)
            width = outputs
        else:
            part = torch.arange(outputs) * n_classes // outputs
            self.register_buffer("parts", torch.nn.functional.one_hot(part, n_classes).float(), persistent=False)
            self.factor, width = torch.nn.Parameter(torch.tensor(1.0)), n_classes
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("sd", torch.ones(width))

    def set_mode(self, mode):
        """Set the mode of every device and return the network."""
        for layer in self.layers:
            layer.mode = mode
        return self

    def controls(self, images):
        """Return the controls, shape (rows, devices, controls of one device), for images of shape (rows, n_inputs).

        Raises
        ------
        TypeError, ValueError
            If the images are not of the network's dtype or shape.
        """
        check_rows("images", images, self.feed.in_features, self.feed.weight.dtype)
        z = self.feed(images).view(len(images), len(self.layers), self.feed.out_features // len(self.layers))
        if self.bound == "sigmoid":
            u = torch.sigmoid(2 * z + 1)
        elif self.bound == "largest":
            u = (1 + z / z.abs().amax((1, 2), keepdim=True).clamp_min(1e-6)) / 2
        else:
            u = (MIDDLE + SPREAD * z / z.square().mean((1, 2), keepdim=True).sqrt().clamp_min(1e-6)).clamp(0, 1)
        return self.low + (self.high - self.low) * u

    def outputs(self, images):
        """Return what all devices gave, shape (rows, devices * output_dim)."""
        u = self.controls(images)
        return torch.cat([layer(u[:, n, :self.split].contiguous(), u[:, n, self.split:].contiguous()) for n, layer in enumerate(self.layers)], 1)

    @torch.no_grad()
    def calibrate(self, images):
        """Measure the constants that standardise the outputs (or their parts), with the present parameters.

        Parameters
        ----------
        images : torch.Tensor, shape (n, n_inputs)
            Training inputs; each device makes n passes.
        """
        values = self.outputs(images) if self.readout is not None else self.outputs(images) @ self.parts
        self.mean.copy_(values.mean(0))
        self.sd.copy_(values.std(0).clamp_min(1e-6))

    def forward(self, images):
        """Return logits, shape (rows, n_classes), for images of shape (rows, n_inputs).

        Raises
        ------
        TypeError, ValueError
            If the images are not of the network's dtype or shape, or not finite, so that a device refuses its controls.
        """
        outputs = self.outputs(images)
        if self.readout is not None:
            return self.readout((outputs - self.mean) / self.sd)
        return self.factor * (outputs @ self.parts - self.mean) / self.sd

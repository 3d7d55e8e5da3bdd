# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Physics-aware training on one page: when it works, and where it stops
#
# **The claim** (Wright, Onodera et al., *Nature* 601, 549, 2022): a physical device can be trained
# with the gradient of a *wrong* model of it, as long as that gradient points within 90 degrees of
# the device's own. Below, a spot of light is steered by two knobs, so that the whole training fits
# on a map and the angle can be measured at every step.
#
# Physics-aware training (PAT) is twelve lines: forward, what the device measured; backward, the
# model's Jacobian, transposed, at the device's inputs.

# %%
import torch


class PhysicsAware(torch.autograd.Function):
    @staticmethod
    def forward(ctx, device, model, *inputs):
        ctx.model = model
        ctx.save_for_backward(*inputs)
        arrays = [x.detach().numpy() for x in inputs]
        return torch.from_numpy(device(*arrays))

    @staticmethod
    def backward(ctx, grad_y):
        _, pull_back = torch.func.vjp(ctx.model, *ctx.saved_tensors)
        return None, None, *pull_back(grad_y)


# %% [markdown]
# ## A device, and a model that is wrong
#
#                                              camera (mm)
#     laser ----> mirror 1 ----> mirror 2 ---->  |    x  target (2, 2)
#                 knob 1         knob 2          |  o    spot
#
# The device: a turn of knob 1 moves the spot 1 mm to the right, a turn of knob 2 moves it 3 mm up;
# the camera's reading is noisy. Training sees numbers go in and numbers come out. The model knows
# the knobs, but has the camera turned by $\varphi$: that is its error.

# %%
import numpy as np

GAIN = np.array([1.0, 3.0])  # mm a turn
rng = np.random.default_rng(0)


def device(knobs, noise=0.01):
    device.passes += knobs.size // 2
    return GAIN * knobs + rng.normal(0, noise, knobs.shape)


device.passes = 0


# %%
def turned(degrees):
    """The model with the camera turned clockwise by an angle, or by one for each row of knobs."""
    phi = torch.deg2rad(torch.as_tensor(degrees, dtype=torch.float64))

    def model(knobs):
        right, up = (torch.tensor(GAIN) * knobs).unbind(-1)
        return torch.stack([right * phi.cos() + up * phi.sin(),
                            up * phi.cos() - right * phi.sin()], -1)

    return model


# %% [markdown]
# One step's gradient of the loss $L=\frac12|y-\text{target}|^2$ (mm²), where $y$ is the spot.

# %%
target = torch.tensor([2.0, 2.0], dtype=torch.float64)  # mm
knobs = torch.zeros(2, dtype=torch.float64, requires_grad=True)

spot = PhysicsAware.apply(device, turned(30), knobs)
loss = 0.5 * (spot - target).square().sum()
loss.backward()
print("spot", spot.detach().numpy(), "mm, loss", loss.item(), "mm²")
print("PAT's gradient", knobs.grad.numpy(), "mm² a turn; the device's own, without noise:",
      -GAIN * target.numpy())

# %% [markdown]
# ## The package has the careful one
#
# `physics_aware(device, model)` of `pnn_utils.pat` is the same idea with its corners closed. It
# gives the same gradient; where the twelve lines fail, or give a number that means nothing, it
# works or says no.

# %%
from functools import partial

from pnn_utils.pat import physics_aware

pats = {"twelve lines": lambda device, model: partial(PhysicsAware.apply, device, model),
        "package": physics_aware}
for name, pat in pats.items():
    rng = np.random.default_rng(1)  # the same noise for both
    loss = 0.5 * (pat(device, turned(30))(knobs) - target).square().sum()
    print(f"{name:12}", torch.autograd.grad(loss, knobs)[0].numpy())


# %%
def ask_overwriting(pat):
    knobs = torch.ones(2)
    pat(lambda x: np.multiply(x, 0, out=x), turned(30))(knobs)
    return f"knobs changed from 1, 1 to {knobs.tolist()}"


def ask_curvature(pat):
    f = pat(lambda x: x**2, lambda x: 1.5 * x**2)
    return torch.autograd.functional.hessian(lambda x: f(x).sum(), torch.ones(1)).item()


corners = {
    "the device overwrites its input": ask_overwriting,
    "second derivative (device 2, model 3)": ask_curvature,
    "keyword argument": lambda pat: pat(device, turned(30))(knobs=torch.ones(2)),
    "vmap over two starts": lambda pat: torch.vmap(pat(device, turned(30)))(torch.ones(2, 2))}
for corner, ask in corners.items():
    print(corner)
    for name, pat in pats.items():
        try:
            answer = str(ask(pat)).replace("\n       ", "")
        except (RuntimeError, TypeError, ValueError) as error:
            answer = f"{type(error).__name__}: {str(error)[:60]}"
        print(f"    {name:13} {answer}")

# %% [markdown]
# ## Training, and the angle at every step
#
# PAT is compared with training *in silico*: the model both ways, no device. Each row of `knobs` is
# a training run of its own, so all model errors and repetitions are trained at once; these
# defaults take seconds and are also the full setting.

# %% tags=["parameters"]
profile = "quick"
errors = [2.5 * i for i in range(39)]  # camera turned in the model (degrees), until PAT fails
shown = [30.0, 70.0]  # of these, the two on the map
n_runs = 5  # repetitions, each with noise of its own
steps = 400
learning_rate = 0.02
depths = [1, 5, 10, 20]  # of the paper's own toy, at the end

# %%
import matplotlib.pyplot as plt
from IPython.display import Markdown, display

from pnn_utils.report.figures import COLOURS, save_figure, use_house_style
from pnn_utils.report.metrics import Cost, summary, write_metrics

cost = Cost()
use_house_style()
plt.rcParams.update({"font.size": 11, "axes.titlesize": 11})


# %%
def train(spot, rows):
    """Plain gradient descent from zero; returns the knobs at every step, (steps + 1, rows, 2)."""
    knobs = torch.zeros(rows, 2, dtype=torch.float64, requires_grad=True)
    path = [knobs.detach().numpy().copy()]
    for _ in range(steps):
        loss = 0.5 * (spot(knobs) - target).square().sum()
        gradient, = torch.autograd.grad(loss, knobs)
        knobs.data -= learning_rate * gradient
        path.append(knobs.detach().numpy().copy())
    return np.array(path)


# %%
rng = np.random.default_rng(2)
every_error = np.repeat(errors, n_runs)
model = turned(every_error)
paths = {"pat": train(physics_aware(device, model), len(every_error)),
         "in_silico": train(model, len(every_error))}

# %% [markdown]
# The device has no derivative to ask for, but it has two knobs: turn each a little both ways, and
# four readings give its gradient. (With a million knobs that is two million readings a step, which
# is why PAT exists.) To look, and only to look, we switch the simulated noise off.


# %%
def look(path, model):
    """The device's loss, its gradient, and PAT's, at every place of a path."""
    residual = device(path, noise=0) - target.numpy()
    slopes = [device(path + turn, noise=0) - device(path - turn, noise=0)
              for turn in 0.5 * np.eye(2)]
    own = np.stack([(slope * residual).sum(-1) for slope in slopes], -1)
    _, pull = torch.func.vjp(model, torch.from_numpy(path))
    return 0.5 * (residual**2).sum(-1), own, pull(torch.from_numpy(residual))[0].numpy()


def angle_between(a, b):
    """In degrees, of vectors along the last axis."""
    cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    return np.degrees(np.arccos(cosine.clip(-1, 1)))


# %%
losses, own, of_pat = look(paths["pat"], model)
ARRIVED = 0.005  # mm²: the spot is 0.1 mm from its target, ten times the noise
on_the_way = losses > ARRIVED
angles = np.where(on_the_way, angle_between(own, of_pat), np.nan)
climbs = (np.diff(losses, axis=0) > 0) & on_the_way[:-1]
for error in shown:
    run = errors.index(error) * n_runs  # the first of its repetitions
    wide, climb = angles[:-1, run] > 90, climbs[:, run]
    print(f"model error {error:.0f} degrees: {on_the_way[:, run].sum()} steps on the way, angles "
          f"from {np.nanmin(angles[:, run]):.0f} to {np.nanmax(angles[:, run]):.0f} degrees\n"
          f"    above 90 in {wide.sum()} steps: the loss rises in {(wide & climb).sum()} of "
          f"them; in the others it rises {(~wide & climb).sum()} times")
    if climb.any():
        loss, first = losses[:, run], climb.argmax()
        print(f"    it falls from {loss[0]:.2f} to {loss[first]:.2f} mm², climbs to "
              f"{loss[first:].max():.2f} and ends at {loss[-1]:.6f}")


# %%
def draw_map(axes, error):
    """Both losses over the two knobs, and the ways down."""
    run = errors.index(error) * n_runs
    grid = np.stack(np.meshgrid(np.linspace(-1.7, 2.9, 120), np.linspace(-0.3, 1.9, 80)), -1)
    away = {"device": device(grid, noise=0) - target.numpy(),
            "model": (turned(error)(torch.from_numpy(grid)) - target).numpy()}
    for part, miss in away.items():
        axes.contour(grid[..., 0], grid[..., 1], 0.5 * (miss**2).sum(-1), colors=COLOURS[part],
                     levels=[0.125, 1, 3, 6], linewidths=0.8, alpha=0.6)
    for name, path in paths.items():
        axes.plot(*path[:, run].T, color=COLOURS[name], linewidth=2.2)
        axes.plot(*path[-1, run], "o", color=COLOURS[name], markersize=8)
    axes.plot(*paths["pat"][:-1, run][climbs[:, run]].T, "k.", markersize=5)
    axes.set(aspect="equal", xlabel="knob 1 (turns)", ylabel="knob 2 (turns)",
             title=f"model error {error:.0f}°")


# %%
fig, axes = plt.subplots(2, 2, figsize=(8.4, 5.4), width_ratios=[1.5, 1])
for (left, right), error in zip(axes, shown, strict=True):
    draw_map(left, error)
    run = errors.index(error) * n_runs
    right.plot(angles[:-1, run], color=COLOURS["pat"], linewidth=2.2)
    right.plot(np.where(climbs[:, run], angles[:-1, run], np.nan), "k.", markersize=5)
    right.axhline(90, color="0.4", linestyle=":")
    right.set(xlim=(0, 150), ylim=(0, 150), yticks=[0, 45, 90, 135], xlabel="step",
              ylabel="angle between\nthe gradients (°)")
for panel, name, x, y, colour in ((0, "PAT", 2.14, 0.62, "pat"),
                                  (0, "in silico", -0.5, 1.0, "in_silico"),
                                  (1, "device's loss", 1.25, -0.02, "device"),
                                  (1, "model's loss", -1.65, 1.45, "model")):
    axes[panel, 0].text(x, y, name, color=COLOURS[colour], weight="bold")
axes[1, 1].text(90, 108, "black: the\nloss rises", weight="bold")
save_figure(fig, "01_toy", "angle")
plt.show()

# %% [markdown]
# Left: the losses of the device (blue) and of the model (orange) as contours over the knobs, with
# the paths of training; a dot is where a path ends. In silico training descends the model's loss
# into the model's minimum, wherever that lies on the device. PAT ends in the device's minimum in
# both maps.
#
# Right: the angle between the device's own gradient and PAT's. To first order a step of size
# $\eta$ changes the loss by $-\eta\,|g_\text{device}|\,|g_\text{PAT}|\cos(\text{angle})$: down
# below 90 degrees, up above. The printed counts say so of every step, except for those below 90
# degrees that are too long for first order. At a model error of 70 degrees PAT climbs on its way,
# and arrives all the same: after each climb the angle is below 90 degrees again.
#
# Below 90 degrees a small step is sure to go down; beyond, nothing is promised. Where does PAT
# stop working?

# %%
ends = {name: look(path[-1], model)[0].reshape(-1, n_runs) for name, path in paths.items()}
final = {name: loss.mean(1) for name, loss in ends.items()}
largest = np.nanmax(angles, 0).reshape(-1, n_runs)
grid, start = np.array(errors), losses[0, 0]
safe, lost = grid[largest.mean(1) < 90].max(), grid[final["pat"] > ARRIVED].min()
closed_form = 2 * (target**2).sum().item() * np.sin(np.radians(grid / 2)) ** 2
print(f"PAT's angle stays below 90 degrees up to a model error of {safe} degrees\n"
      f"PAT climbs on the way and arrives up to {grid[grid < lost].max()} degrees\n"
      f"PAT ends worse than it began ({start:.2f} mm²) from {grid[final['pat'] > start].min()} "
      f"degrees\n"
      f"in silico training ends worse than it began from {grid[final['in_silico'] > start].min()} "
      f"degrees\n    and differs from its closed form by at most "
      f"{abs(final['in_silico'] - closed_form).max():.3f} mm²")
for error in (0, *shown):
    i = errors.index(error)
    print(f"final loss at {error:.0f} degrees: PAT {final['pat'][i]:.7f}, "
          f"in silico {final['in_silico'][i]:.7f} mm²")

# %%
fig, (top, bottom) = plt.subplots(2, 1, figsize=(7, 5.4), sharex=True)
top.plot(errors, ends["pat"], ".", color=COLOURS["pat"])
for name, label in (("pat", "PAT"), ("in_silico", "in silico")):
    top.plot(errors, final[name], color=COLOURS[name], label=label, linewidth=2.2)
top.axhline(start, color="0.4", linestyle=":", label="before training")
top.set(yscale="log", ylabel="final loss (mm²)", ylim=(1e-8, 1e7))
top.legend(loc="upper left", ncols=3)
bottom.plot(errors, largest.mean(1), ".-", color=COLOURS["pat"], linewidth=2.2)
bottom.axhline(90, color="0.4", linestyle=":")
bottom.set(xlabel="model error: camera turned by (degrees)", ylabel="largest angle (degrees)",
           xlim=(0, grid.max()), ylim=(0, 160), yticks=[0, 45, 90, 135])
for axes in (top, bottom):
    axes.axvspan(safe, lost, color="0.92")
    axes.axvspan(lost, grid.max(), color="0.8")
for x, text in ((safe / 2, "always downhill"), ((safe + lost) / 2, "climbs, still arrives"),
                ((lost + grid.max()) / 2, "fails")):
    bottom.text(x, 8, text, ha="center", weight="bold")
save_figure(fig, "01_toy", "sweep")
plt.show()

# %% [markdown]
# Dots are single runs, lines their means. White: the angle stays below 90 degrees, and only noise
# is left of the loss. Light grey: the path climbs, and is still a spiral inward. Dark grey: 400
# steps are not enough, and from 90 degrees on the spiral leads outward.
#
# In silico training has no such edge. It ends $2\,|\text{target}|\sin(\varphi/2)$ away from the
# target, the closed form of the comparison above: without model error it is as good as PAT, and
# free of noise, but every small error is a loss.
#
# This device is linear, which is kind: its loss has one minimum. A device with more of them may
# keep the path after a climb, so aim for the white range. For a device of your own
# `pnn_utils.twin.gradient_quality` measures the cosine of the angle from noisy readings.

# %% [markdown]
# ## The paper's own toy: the error grows with depth
#
# Above, model and device were asked at the same place. In a deep network in silico training is
# wrong about the place as well. The Supplement (section I.A-B) sends $x_0=1$ through
# $f(x)=2x^\theta$ $n$ times, $\theta=1.1$, and its model $f_m(x)=2.01x^\theta$ is wrong by half a
# per cent. The relative errors ("gaps") have closed forms:
#
# | gap | what is compared with the truth | closed form |
# |---|---|---|
# | forward | the model's output | $1.005^{S} - 1,\quad S=(\theta^n-1)/(\theta-1)$ |
# | in silico | its $dx_n/dx_0$, at the model's own states | $1.005^{S} - 1$ |
# | PAT | the model's slopes at the **measured** states, multiplied | $1.005^{n} - 1$ |

# %%
def power(factor):
    """A pass through the system, or through its model; for arrays and tensors."""
    return lambda x, exponent: factor * x**exponent


ways = {"truth": physics_aware(power(2.0), power(2.0)),  # a perfect model
        "pat": physics_aware(power(2.0), power(2.01)), "in_silico": power(2.01)}


def through(f, depth, x, exponent):
    for _ in range(depth):
        x = f(x, exponent)
    return x


# %%
def gaps_at(depth):
    """Forward, in silico and PAT gap, as fractions of the true value."""
    x = torch.ones((), dtype=torch.float64, requires_grad=True)
    y = {name: through(f, depth, x, 1.1) for name, f in ways.items()}
    slope = {name: torch.autograd.grad(output, x)[0].item() for name, output in y.items()}
    return [y["in_silico"].item() / y["truth"].item() - 1,
            slope["in_silico"] / slope["truth"] - 1, slope["pat"] / slope["truth"] - 1]


rows = [gaps_at(depth) for depth in depths]
drift = [1.005 ** ((1.1**n - 1) / 0.1) - 1 for n in depths]
closed = np.array([drift, drift, [1.005**n - 1 for n in depths]]).T
assert abs(np.array(rows) - closed).max() < 1e-12, "gaps differ from the closed forms"

# %% [markdown]
# Then the Supplement trains the exponent of ten layers, so that 1 becomes $10^5$: loss
# $(x_{10}-10^5)^2$, 150 steps of gradient descent.


# %%
def train_exponent(f):
    """Return how far the trained exponent brings device and model from 1e5, as fractions."""
    exponent = torch.tensor([1.1], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.SGD([exponent], lr=1e-15)
    for _ in range(150):
        optimiser.zero_grad()
        (through(f, 10, torch.ones_like(exponent.data), exponent) - 1e5).square().sum().backward()
        optimiser.step()
    trained = torch.ones_like(exponent.data), exponent.detach()
    return [abs(through(ways[name], 10, *trained).item() / 1e5 - 1)
            for name in ("truth", "in_silico")]


far = {"pat": train_exponent(ways["pat"])[0]}
far["in_silico"], far["in_silico_on_model"] = train_exponent(ways["in_silico"])

# %%
results = {name: {"relative_error": summary([value])} for name, value in far.items()}
gaps = dict(zip(["forward", "in_silico", "pat"], map(list, zip(*rows, strict=True)), strict=True))
beam = {f"{error:g}": {"largest_angle": summary(angle), "final_loss": summary(loss)}
        for error, angle, loss in zip(errors, largest, ends["pat"], strict=True) if error in shown}
write_metrics("01_toy", profile, results, cost=cost.read(device.passes),
              data={"name": "none: one number and its target", "sha256": ""},
              gaps={"n": list(depths), **gaps}, beam=beam,
              sweep={"error": errors, "largest_angle": largest.mean(1).tolist(),
                     **{name: loss.tolist() for name, loss in final.items()}})

# %%
PAPER = {1: "0.50 / 0.50 / 0.50", 5: "3.09 / 3.09 / 2.53",
         10: "8.27 / 8.27 / 5.11", 20: "33.06 / 33.06 / 10.49"}
table = ["| | paper | here |", "|---|---|---|"]
for depth, row in zip(depths, rows, strict=True):
    here = " / ".join(f"{100 * gap:.2f}" for gap in row)
    table.append(f"| gaps at n = {depth}: forward / in silico / PAT (%) "
                 f"| {PAPER.get(depth, 'not given')} | {here} |")
for name, label, paper in (("pat", "PAT", "reaches it"), ("in_silico", "in silico", "settles off"),
                           ("in_silico_on_model", "in silico, on its model", "")):
    table.append(f"| distance from the target, {label} | {paper} | {100 * far[name]:.2g} % |")
display(Markdown("\n".join(table)))

# %% [markdown]
# "Paper" is what the authors' two functions give; their training curve has no numbers. In silico
# the gap grows exponentially with depth, PAT's by half a per cent a layer: it starts every layer
# from the measured state. Next: [02_shg_vowels](02_shg_vowels.ipynb), five passes through light.

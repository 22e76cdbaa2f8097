"""minigrad's recurrent layers, ready to run on the problems of inputs.py."""

import inputs
import minigrad_cells

import minigrad as mg

MODE = "fused"  # of every layer measured here
LAYERS = {"rnn": mg.nn.RNN, "lstm": mg.nn.LSTM, "gru": mg.nn.GRU}
CELLS = {"own_lstm": minigrad_cells.OwnLSTM, "peephole": minigrad_cells.PeepholeLSTM}


def make(cell, bidirectional=False, **sizes):
    """(layer, its input as a Tensor)."""
    xs, weights = inputs.sequence(cell, **sizes, bidirectional=bidirectional)
    features, hidden = sizes["inputs"], sizes["hidden"]
    if cell in LAYERS:
        net = LAYERS[cell](features, hidden, bidirectional=bidirectional, mode=MODE)
    else:
        net = mg.nn.Recurrent(lambda size: CELLS[cell](size, hidden), features, mode=MODE)
        weights = {f"{name}_l0": array for name, array in weights.items()}
    net.load_state_dict(weights)
    return net, mg.tensor(xs)


def layer(
    cell, forward=False, record=False, bidirectional=False, jitted=False, ragged=False, **sizes
):
    """A training step of a layer, or its forward pass alone; `record` watches the gradient flow."""
    net, xs = make(cell, bidirectional, **sizes)
    lengths = inputs.lengths(sizes["batch"], sizes["steps"]) if ragged else None
    if forward:

        def run():
            with mg.no_grad():
                return net(xs)[0]

        return run, lambda ys: {"loss": (ys.numpy() ** 2).sum()}

    xs.requires_grad = True

    def step():
        net.zero_grad()
        xs.grad = None
        loss = (net(xs, lengths=lengths)[0] ** 2).sum()
        loss.backward()
        return loss

    def recorded():
        with mg.flow.record():
            return step()

    def collect(loss):
        named = net.named_parameters()
        if cell in CELLS:  # a weight is called by its name in the cell
            named = ((name.removesuffix("_l0"), p) for name, p in named)
        gradients = {name: p.grad.numpy() for name, p in named}
        return gradients | {"xs": xs.grad.numpy(), "loss": loss.numpy()}

    step = mg.jit(step) if jitted else step
    return recorded if record else step, collect

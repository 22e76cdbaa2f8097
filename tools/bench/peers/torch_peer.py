"""PyTorch's side, in any interpreter that has torch and NumPy."""

import inputs
import torch
import worker

WARM_UPS = 3  # torch.jit.script watches the first calls, then compiles


def chain(op):
    x, factor, offset, weight, g = (torch.from_numpy(array) for array in inputs.chain())
    leaves = [x.requires_grad_(), factor.requires_grad_(), offset, weight.requires_grad_()]
    leaves[2].requires_grad_()
    step = {
        "tanh": lambda y: torch.tanh(y),
        "add": lambda y: y + offset,
        "multiply": lambda y: y * factor,
        "matmul": lambda y: y @ weight,
    }[op]

    def run():
        for leaf in leaves:
            leaf.grad = None
        y = x
        for _ in range(inputs.CHAIN):
            y = step(y)
        y.backward(g)
        return y

    return run, lambda y: {"y": y.detach().numpy(), "dx": x.grad.numpy()}


def layer(cell, forward=False, script=False, bidirectional=False, **sizes):
    """A training step of a layer, or its forward pass alone."""
    xs, weights = inputs.sequence(cell, **sizes, bidirectional=bidirectional)
    xs = torch.from_numpy(xs)
    weights = {name: torch.from_numpy(array) for name, array in weights.items()}
    if cell == "peephole":
        import torch_cells

        # To torch.nn's layout; the gradients go back.
        weights = {n: a.T.contiguous() if a.ndim == 2 else a for n, a in weights.items()}
        parameters = {name: torch.nn.Parameter(array) for name, array in weights.items()}
        function = torch_cells.scripted_peephole if script else torch_cells.peephole

        def output():
            return function(xs, **parameters)

    else:
        net = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell]
        net = net(sizes["inputs"], sizes["hidden"], bidirectional=bidirectional)
        net.load_state_dict(weights)
        parameters = dict(net.named_parameters())

        def output():
            return net(xs)[0]

    if forward:

        @torch.no_grad()
        def run():
            return output()

        def collect(ys):
            return {"loss": (ys**2).sum().numpy()}

    else:
        xs.requires_grad_()

        def run():
            for leaf in (xs, *parameters.values()):
                leaf.grad = None
            loss = (output() ** 2).sum()
            loss.backward()
            return loss

        def collect(loss):
            gradients = {name: p.grad.numpy() for name, p in parameters.items()}
            if cell == "peephole":
                gradients = {name: g.T for name, g in gradients.items()}
            return gradients | {"xs": xs.grad.numpy(), "loss": loss.detach().numpy()}

    for _ in range(WARM_UPS if script else 0):
        run()
    return run, collect


if __name__ == "__main__":
    torch.set_num_threads(worker.threads())
    worker.serve({"chain": chain, "layer": layer})

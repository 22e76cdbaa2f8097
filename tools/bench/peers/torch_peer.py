"""PyTorch's side, in any interpreter that has torch and NumPy."""

import inputs
import torch
import worker


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


def layer(cell, **sizes):
    xs, weights = inputs.sequence(cell, **sizes)
    net = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell]
    net = net(sizes["inputs"], sizes["hidden"])
    net.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    xs = torch.from_numpy(xs).requires_grad_()

    def run():
        net.zero_grad()
        xs.grad = None
        loss = (net(xs)[0] ** 2).sum()
        loss.backward()
        return loss

    def collect(loss):
        gradients = {name: p.grad.numpy() for name, p in net.named_parameters()}
        return gradients | {"xs": xs.grad.numpy(), "loss": loss.detach().numpy()}

    return run, collect


if __name__ == "__main__":
    torch.set_num_threads(worker.threads())
    worker.serve({"chain": chain, "layer": layer})

"""Writes one forward and backward pass of each network, as PyTorch computes it, as safetensors fixtures.

    python3 make_network_golden.py OUT_DIR

One file for each kind: bert4rec, gsasrec, esasrec, hstu, gru4rec. The networks are written here from their papers with
torch's own modules (layer_norm, MultiheadAttention's arithmetic, GRU) and share no code with Riffle. Weights are
drawn at random and large, so that every branch is used; the arithmetic is float64, rounded to float32 when written.

    weight.NAME, grad.NAME        parameters under Riffle's names, and the gradients of the loss by them
    batch.tokens, batch.offsets   int32, the sequences one after the other
    batch.targets                 int32, the right item for each row that has a loss
    batch.rows                    int32, those rows
    batch.times, batch.next       int32 seconds (hstu)
    out.hidden                    [T, d]
    out.loss                      [1], the mean over the targets

The loss is cross-entropy over all items.
"""
import math
import pathlib
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

D, HEADS, BLOCKS, INNER, L, N, LENGTHS = 8, 2, 2, 12, 9, 17, [1, 5, 9, 4]


class Net:
    def __init__(self, seed):
        self.g = torch.Generator().manual_seed(seed)
        self.p = {}

    def make(self, name, *shape, gain=False):
        x = torch.randn(shape, generator=self.g, dtype=torch.float32) * 0.3 + (1.0 if gain else 0.0)
        self.p[name] = x.double().requires_grad_()

    def linear(self, name, inputs, outputs, bias=True):
        self.make(f"{name}.weight", outputs, inputs)
        if bias:
            self.make(f"{name}.bias", outputs)

    def norm(self, name):
        self.make(f"{name}.weight", D, gain=True)
        self.make(f"{name}.bias", D)

    def lin(self, name, x):
        return F.linear(x, self.p[f"{name}.weight"], self.p.get(f"{name}.bias"))

    def ln(self, name, x, eps=1e-5):
        return F.layer_norm(x, (D,), self.p[f"{name}.weight"], self.p[f"{name}.bias"], eps)

    def attention(self, qkv, causal):
        n = qkv.shape[0]
        q, k, v = (z.view(n, HEADS, D // HEADS).transpose(0, 1) for z in qkv.chunk(3, -1))
        s = q @ k.transpose(1, 2) / math.sqrt(D // HEADS)
        if causal:
            s = s.masked_fill(torch.ones(n, n, dtype=torch.bool).triu(1), -math.inf)
        return (s.softmax(-1) @ v).transpose(0, 1).reshape(n, D)

    def embed(self, tokens):
        n = len(tokens)
        return self.p["item.weight"][tokens] + self.p["pos.weight"][L - n :]


class Transformer(Net):
    def __init__(self, seed, both_ways=False, separate=False):
        super().__init__(seed)
        self.both_ways = both_ways
        self.make("item.weight", N + both_ways, D)
        if separate:
            self.make("output.weight", N, D)
        self.make("pos.weight", L, D)
        for i in range(BLOCKS):
            self.norm(f"blocks.{i}.ln1")
            self.linear(f"blocks.{i}.qkv", D, 3 * D)
            self.linear(f"blocks.{i}.o", D, D)
            self.norm(f"blocks.{i}.ln2")
            self.linear(f"blocks.{i}.f1", D, INNER)
            self.linear(f"blocks.{i}.f2", INNER, D)
        self.norm("ln")

    def hidden(self, tokens, times, nexts):
        x = self.embed(tokens)
        for i in range(BLOCKS):
            b = f"blocks.{i}"
            x = x + self.lin(f"{b}.o", self.attention(self.lin(f"{b}.qkv", self.ln(f"{b}.ln1", x)), not self.both_ways))
            x = x + self.lin(f"{b}.f2", F.gelu(self.lin(f"{b}.f1", self.ln(f"{b}.ln2", x))))
        return self.ln("ln", x)


class Gated(Net):
    def __init__(self, seed):
        super().__init__(seed)
        self.make("item.weight", N, D)
        self.make("pos.weight", L, D)
        for i in range(BLOCKS):
            self.norm(f"blocks.{i}.ln1")
            self.linear(f"blocks.{i}.qkv", D, 3 * D)
            self.linear(f"blocks.{i}.o", D, D)
            self.linear(f"blocks.{i}.gate1", D, D)
            self.norm(f"blocks.{i}.ln2")
            self.linear(f"blocks.{i}.f1", D, 2 * INNER, bias=False)
            self.linear(f"blocks.{i}.f2", INNER, D, bias=False)
            self.linear(f"blocks.{i}.gate2", D, D)

    def hidden(self, tokens, times, nexts):
        x = self.embed(tokens)
        for i in range(BLOCKS):
            b = f"blocks.{i}"
            a = self.lin(f"{b}.o", self.attention(self.lin(f"{b}.qkv", self.ln(f"{b}.ln1", x)), True))
            x = x + torch.sigmoid(self.lin(f"{b}.gate1", x)) * a
            left, right = self.lin(f"{b}.f1", self.ln(f"{b}.ln2", x)).chunk(2, -1)
            x = x + torch.sigmoid(self.lin(f"{b}.gate2", x)) * self.lin(f"{b}.f2", F.silu(left) * right)
        return x


class HSTU(Net):
    temperature = 0.25

    def __init__(self, seed):
        super().__init__(seed)
        self.make("item.weight", N, D)
        self.make("pos.weight", L, D)
        for i in range(BLOCKS):
            self.norm(f"layers.{i}.ln1")
            self.linear(f"layers.{i}.uqkv", D, 4 * D)
            self.make(f"layers.{i}.position_bias", L)
            self.make(f"layers.{i}.time_bias", 128)
            self.norm(f"layers.{i}.ln2")
            self.linear(f"layers.{i}.o", D, D)

    def hidden(self, tokens, times, nexts):
        x = self.embed(tokens)
        n = len(tokens)
        places = torch.arange(n)
        back = places[:, None] - places[None, :]
        seconds = (nexts[:, None] - times[None, :]).abs().clamp(min=1).double()
        bucket = (seconds.log() / 0.301).floor().long().clamp(max=127)
        for i in range(BLOCKS):
            b = f"layers.{i}"
            u, q, k, v = F.silu(self.lin(f"{b}.uqkv", self.ln(f"{b}.ln1", x, 1e-6))).chunk(4, -1)
            q, k, v = (z.view(n, HEADS, D // HEADS).transpose(0, 1) for z in (q, k, v))
            s = q @ k.transpose(1, 2) + self.p[f"{b}.position_bias"][L - 1 - back.clamp(min=0)] + self.p[f"{b}.time_bias"][bucket]
            a = F.silu(s) / L * (back >= 0)
            y = (a @ v).transpose(0, 1).reshape(n, D)
            x = x + self.lin(f"{b}.o", self.ln(f"{b}.ln2", y, 1e-6) * u)
        return F.normalize(x, dim=-1) / self.temperature

    def outputs(self):
        return F.normalize(self.p["item.weight"], dim=-1)


class GRU(Net):
    def __init__(self, seed):
        super().__init__(seed)
        self.make("item.weight", N, D)
        for i in range(BLOCKS):
            self.linear(f"gru.{i}.input", D if i == 0 else INNER, 3 * INNER)
            self.linear(f"gru.{i}.state", INNER, 3 * INNER)
        self.linear("out", INNER, D)

    def hidden(self, tokens, times, nexts):
        weights = []
        for i in range(BLOCKS):
            a, b = f"gru.{i}.input", f"gru.{i}.state"
            weights += [self.p[f"{a}.weight"], self.p[f"{b}.weight"], self.p[f"{a}.bias"], self.p[f"{b}.bias"]]
        x = self.p["item.weight"][tokens][:, None]
        y, _ = torch.gru(x, torch.zeros(BLOCKS, 1, INNER, dtype=torch.float64), weights, True, BLOCKS, 0.0, False, False, False)
        return self.lin("out", y[:, 0])


def main():
    folder = pathlib.Path(sys.argv[1])
    kinds = {
        "bert4rec": Transformer(1, both_ways=True), "gsasrec": Transformer(2, separate=True), "esasrec": Gated(3),
        "hstu": HSTU(4), "gru4rec": GRU(5),
    }
    for kind, net in kinds.items():
        g = torch.Generator().manual_seed(9)
        tokens, offsets, targets, rows, all_times, all_nexts, hidden = [], [0], [], [], [], [], []
        for length in LENGTHS:
            ids = torch.randint(0, N, (length + 1,), generator=g)
            times = torch.randint(0, 4_000_000, (length + 1,), generator=g).cumsum(0)
            inputs = ids[:-1].clone()
            if kind == "bert4rec":
                at = [t for t in range(length) if t % 3 == 1 or t == length - 1]
                targets += ids[:-1][at].tolist()
                inputs[at] = N
            else:
                at = range(length)
                targets += ids[1:].tolist()
            rows += [len(tokens) + t for t in at]
            tokens += inputs.tolist()
            offsets.append(len(tokens))
            all_times += times[:-1].tolist()
            all_nexts += times[1:].tolist()
            hidden.append(net.hidden(inputs, times[:-1], times[1:]))
        hidden = torch.cat(hidden)
        y = torch.tensor(targets)
        if kind == "hstu":
            table = net.outputs()
        else:
            table = net.p.get("output.weight", net.p["item.weight"])[:N]
        chosen = hidden[torch.tensor(rows)]
        loss = F.cross_entropy(chosen @ table.T, y)
        loss.backward()
        out = {f"weight.{n}": p.detach().float() for n, p in net.p.items()}
        out |= {f"grad.{n}": p.grad.float() for n, p in net.p.items()}
        out["out.hidden"] = hidden.detach().float()
        out["out.loss"] = loss.detach().float()[None]
        for name, values in [("tokens", tokens), ("offsets", offsets), ("targets", targets), ("rows", rows),
                             ("times", all_times), ("next", all_nexts)]:
            out[f"batch.{name}"] = torch.tensor(values, dtype=torch.int32)
        meta = {"model": "network", "version": "1", "network": kind, "items": N, "width": D, "heads": HEADS, "blocks": BLOCKS, "inner_width": INNER,
                "max_seq_length": L, "activation": "gelu", "norm_epsilon": 1e-6 if kind == "hstu" else 1e-5,
                "separate_output": str(kind == "gsasrec").lower(), "times": str(kind == "hstu").lower(),
                "temperature": HSTU.temperature, "torch": torch.__version__}
        save_file({n: t.contiguous() for n, t in out.items()}, folder / f"{kind}.safetensors", {k: str(v) for k, v in meta.items()})
        print(f"{kind}: {len(out)} tensors, loss {loss.item():.6f}")


main()

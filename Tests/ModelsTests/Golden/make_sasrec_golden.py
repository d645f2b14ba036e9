"""Writes one SASRec training step of the PyTorch baseline as a safetensors fixture.

    python3 make_sasrec_golden.py BASELINES_DIR OUT.safetensors [options]

BASELINES_DIR holds `sasrec.py` (and the `common.py` that it imports). Its classes are used unchanged; two
things are done around them:

* The program keeps a padding row, `item.weight[0] = 0`, and lets it take part in the softmax. Riffle has no
  padding row, so the loss here is the cross-entropy over rows 1 and up: `F.cross_entropy(h @ W[1:].T, y - 1)`.
  The fixture leaves row 0 out of every tensor and counts tokens from 0.
* Weights are drawn in float32; the arithmetic runs in float64 (`--dtype float32` to change it) and is rounded
  to float32 when written, so that the fixture holds the true values and not one library's rounding.

What is in the file:

    weight.NAME   parameters before the step, by their name in the state dict; item.weight without row 0
    grad.NAME     gradient of the loss at those parameters
    after.NAME    parameters after one Adam step (lr 1e-3, betas 0.9 and 0.98, eps 1e-8, no weight decay)
    batch.tokens, batch.targets   int32 [T], the sequences one after the other, 0-based
    batch.offsets                 int32 [B + 1], where each sequence starts, and T
    out.hidden    [T, d], hidden states after the last LayerNorm, before the step
    out.loss      [1], mean over the T positions, before the step
    out.losses    [10], the loss before each of ten Adam steps on the same batch; the first is out.loss

A sequence of n tokens uses the last n rows of pos.weight (maxlen - n, ..., maxlen - 1).

The gradient of the key third of `qkv.bias` (rows d to 2 d) is zero in exact arithmetic: it adds the same number
to every score of a softmax. Rounding makes it tiny noise, which Adam divides by its own size, so `after` can
differ there by up to the learning rate without any mistake. Nothing else depends on those numbers.
"""
import argparse
import pathlib
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file


def load_program(folder):
    """The baseline's names, from its own source; only the call of main() in the last line is left out."""
    folder = pathlib.Path(folder)
    sys.path.insert(0, str(folder))
    source = (folder / "sasrec.py").read_text().rstrip()
    assert source.endswith("\nmain()"), "sasrec.py no longer ends with a call of main()"
    names = {"__name__": "sasrec"}
    exec(compile(source.removesuffix("main()"), "sasrec.py", "exec"), names)
    return names


def main():
    ap = argparse.ArgumentParser(description="Writes one SASRec training step as a safetensors fixture.")
    ap.add_argument("baselines")
    ap.add_argument("out")
    ap.add_argument("--d", type=int, default=16)
    ap.add_argument("--heads", type=int, default=2)
    ap.add_argument("--blocks", type=int, default=2)
    ap.add_argument("--mult", type=int, default=4)
    ap.add_argument("--act", default="gelu", choices=["gelu", "relu"])
    ap.add_argument("--maxlen", type=int, default=12)
    ap.add_argument("--n-items", type=int, default=37)
    ap.add_argument("--lengths", default="1,5,12,7")
    ap.add_argument("--seed", type=int, default=7)
    ap.add_argument("--dtype", default="float64", choices=["float32", "float64"])
    a = ap.parse_args()

    torch.set_num_threads(1)
    program = load_program(a.baselines)
    model = program["SASRec"](a.n_items, a.d, a.maxlen, a.blocks, a.heads, a.mult, 0.0, a.act)

    # Large weights, so that no gradient is lost in rounding and every branch (GELU's tails, ReLU's zeros) is used.
    generator = torch.Generator().manual_seed(a.seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.2)
            if name.endswith("weight") and name.split(".")[-2].startswith("ln"):
                p.add_(1.0)
        model.item.weight[0].zero_()
    lengths = [int(n) for n in a.lengths.split(",")]
    assert max(lengths) <= a.maxlen
    n = torch.tensor(lengths)
    ids = [torch.randint(1, a.n_items + 1, (k + 1,), generator=generator) for k in lengths]
    x = torch.zeros(len(lengths), max(lengths), dtype=torch.long)
    y = torch.zeros_like(x)
    for row, s in enumerate(ids):
        x[row, : len(s) - 1], y[row, : len(s) - 1] = s[:-1], s[1:]
    real = y > 0

    model = model.to(getattr(torch, a.dtype)).train()
    tensors = {}

    def keep(prefix, named):
        for name, t in named:
            t = t.detach()
            tensors[f"{prefix}.{name}"] = (t[1:] if name == "item.weight" else t).to(torch.float32).clone().contiguous()

    keep("weight", model.named_parameters())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.98))
    losses = []
    for step in range(10):
        hidden = model(x, n)
        loss = F.cross_entropy(hidden[real] @ model.item.weight[1:].T, y[real] - 1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        losses.append(loss.item())
        if step == 0:
            keep("grad", ((name, p.grad) for name, p in model.named_parameters()))
            tensors["out.hidden"] = hidden[real].detach().to(torch.float32).contiguous()
        optimizer.step()
        if step == 0:
            keep("after", model.named_parameters())
    tensors["out.loss"] = torch.tensor(losses[:1], dtype=torch.float32)
    tensors["out.losses"] = torch.tensor(losses, dtype=torch.float32)
    tensors["batch.tokens"] = (x[real] - 1).to(torch.int32)
    tensors["batch.targets"] = (y[real] - 1).to(torch.int32)
    tensors["batch.offsets"] = torch.tensor([sum(lengths[:k]) for k in range(len(lengths) + 1)], dtype=torch.int32)

    options = " ".join(
        f"--{k.replace('_', '-')} {getattr(a, k)}"
        for k in ("d", "heads", "blocks", "mult", "act", "maxlen", "n_items", "lengths", "seed", "dtype"))
    metadata = {k: str(getattr(a, k)) for k in ("d", "heads", "blocks", "mult", "act", "maxlen", "n_items", "seed", "dtype")}
    metadata["lr"], metadata["betas"], metadata["eps"] = "0.001", "0.9,0.98", "1e-08"
    metadata["torch"] = torch.__version__
    metadata["command"] = f"python3 make_sasrec_golden.py BASELINES_DIR {pathlib.Path(a.out).name} {options}"
    save_file(tensors, a.out, metadata)
    print(f"{a.out}: {len(tensors)} tensors, loss {losses[0]:.6f}, after ten steps {losses[-1]:.6f}")


main()

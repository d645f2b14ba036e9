"""Makes the vectors of the search benchmark: `search_data.py FOLDER ROWS NOISE`.

Unit vectors of 64 floats around 2,000 centres, which lie around 50 greater ones. Noise 0.6 makes clear
clusters, 1.6 clusters that run into each other. Writes rows.f32, queries.f32 (to be measured with),
sample.f32 (to choose the probes of a partition with) and the filters mask-SHARE.u64.
"""
import sys

import numpy as np

WIDTH = 64
SHARES = ["1", "0.1", "0.01", "0.001"]


def main(folder, rows, noise):
    random = np.random.default_rng(7)
    greater = random.standard_normal((50, WIDTH), dtype=np.float32)
    centres = random.standard_normal((2000, WIDTH), dtype=np.float32) * np.float32(0.7)
    centres += greater[np.arange(2000) % 50]

    def draw(count, seed):
        random = np.random.default_rng(seed)
        out = np.empty((count, WIDTH), dtype=np.float32)
        for start in range(0, count, 100_000):
            here = min(100_000, count - start)
            part = random.standard_normal((here, WIDTH), dtype=np.float32) * np.float32(noise)
            part += centres[random.integers(0, 2000, here)]
            part /= np.linalg.norm(part, axis=1, keepdims=True)
            out[start:start + here] = part
        return out

    draw(rows, 1).tofile(f"{folder}/rows.f32")
    draw(256, 2).tofile(f"{folder}/queries.f32")
    draw(256, 3).tofile(f"{folder}/sample.f32")
    for share in SHARES:
        allowed = np.zeros((rows + 63) // 64 * 64, dtype=bool)
        allowed[:rows] = np.random.default_rng(4).random(rows) < float(share)
        np.packbits(allowed, bitorder="little").tofile(f"{folder}/mask-{share}.u64")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))

"""Where the heads of a fresh small transformer look before it has learned anything.

Drawn at random, every token looks at all 352 alike, and what the driving half tells of a place is a 352nd of what
arrives there: the embedded teacher paid it no heed for 40,000 samples (`docs/LOG.md`). A few heads of each layer
therefore begin with a place to look at, which learning is free to change:

    0, 1    the same place and time in the other half: the figure's skeleton
    2       the place itself, and those around it
    3       the same place at all times: the reference, where the background stays

Rotary embeddings turn queries and keys by their places (Su et al. 2021), so that constant parts of both, their biases,
make a score that depends on the distance d of the two places alone; the one at distance d0 is the greatest:

    score(d) = (w b)^2 / (rms^2 sqrt(head_dim)) * sum over frequencies f of cos(f (d - d0))
"""

import torch
from diffusers import WanTransformer3DModel

_BIAS = 3.0  # beside parts that depend on the token, of deviation 1
_GAIN = 2.0  # of the norm's weights: makes the greatest of eight neighbours count three times the next
_FASTEST = 2  # frequencies of each axis: slower ones do not tell neighbours apart


@torch.no_grad()
def look_across(transformer: WanTransformer3DModel, columns: int) -> None:
    """Let heads of every layer begin with a place to look at.

    Args:
        transformer: Fresh; of at least 4 heads.
        columns: Tokens from a place to the same place of the other half: the width of a half.
    """
    dim = transformer.config.attention_head_dim
    rows = dim // 6  # frequencies of height and of width; the rest are of time (`WanRotaryPosEmbed`)
    first = {"time": 0, "height": dim // 2 - 2 * rows, "width": dim // 2 - rows}
    count = {"time": first["height"], "height": rows, "width": rows}
    for head, distances in enumerate(
        (
            {"time": 0, "height": 0, "width": columns},
            {"time": 0, "height": 0, "width": columns},
            {"time": 0, "height": 0, "width": 0},
            {"height": 0, "width": 0},
        )
    ):
        for axis, distance in distances.items():
            for number in range(_FASTEST):
                frequency = 10000.0 ** (-number / count[axis])
                pair = head * dim + 2 * (first[axis] + number)
                _point(transformer, pair, -frequency * distance)


def _point(transformer: WanTransformer3DModel, pair: int, angle: float) -> None:
    """Give queries a constant part, and keys the same one turned by `angle`, in the two channels from `pair` on."""
    turned = torch.tensor([angle]).cos().item(), torch.tensor([angle]).sin().item()
    for block in transformer.blocks:
        attention = block.attn1
        attention.to_q.bias[pair] = _BIAS
        attention.to_k.bias[pair], attention.to_k.bias[pair + 1] = _BIAS * turned[0], _BIAS * turned[1]
        for norm in (attention.norm_q, attention.norm_k):
            norm.weight[pair : pair + 2] = _GAIN

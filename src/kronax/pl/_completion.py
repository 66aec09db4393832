"""What the plots of a completed tensor read."""

from typing import Any

from mudata import MuData

from kronax._data import keys, objects
from kronax._data import tensor as tensors
from kronax._data.measured import description


def completion_of(mdata: MuData, part: str) -> dict[str, Any]:
    """Return the description of a completion that has this part."""
    tensors.check(mdata)
    objects.key_in(keys.COMPLETION, mdata.uns, "mdata.uns", "Run kx.tl.complete_tensor first.")
    found = description(mdata)
    if not found:
        msg = f"`mdata.uns[{keys.COMPLETION!r}]` is not a result of kx.tl.complete_tensor. Run that first."
        raise KeyError(msg)
    if part not in found:
        able = "'mf', 'cp' or 'attention_cp'" if part == "held_out_loss" else "'cp' or 'attention_cp'"
        msg = f"The completion by method {found['method']!r} has no `{part}`. Run kx.tl.complete_tensor with method={able}."
        raise KeyError(msg)
    return found

"""What the plots of a completed tensor read."""

from typing import Any

from mudata import MuData

from kronax import _keys, _validate


def completion_of(mdata: MuData, part: str) -> dict[str, Any]:
    """Give the description of a completion that has this part."""
    _validate.key_in(_keys.COMPLETION, mdata.uns, "mdata.uns", "Run kx.tl.complete_tensor first.")
    found = mdata.uns[_keys.COMPLETION]
    if part not in found:
        msg = (
            f"The completion by method {found['method']!r} has no `{part}`. Run kx.tl.complete_tensor with "
            "method='cp' or 'attention_cp'."
        )
        raise KeyError(msg)
    return found

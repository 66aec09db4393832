"""Names of the methods of tensor completion, by themselves: the command line knows them without loading the methods."""

from typing import Literal

MethodName = Literal[
    "kronecker", "mean_1d", "mean_2d", "dnpp", "falrtc", "halrtc", "silrtc", "mf", "cp", "attention_cp"
]

"""The paper's experiments, one file for each of its tables and figures, and analyses beyond it.

Each is one function, Plan -> Step, that can be called alone.
"""

from collections.abc import Callable

from ..plan import Plan
from ..steps import Step
from .beyond_calibration import calibration
from .beyond_decoding import decoding
from .beyond_dimensions import dimensions
from .beyond_fluency import fluency
from .beyond_memorization import memorization
from .beyond_ranks import ranks
from .beyond_seeds import seeds
from .beyond_sharpening import sharpening
from .figure1 import figure1
from .figure2 import figure2
from .figure3 import figure3
from .figure4 import figure4
from .figure5 import figure5_left, figure5_right
from .figure6 import pictures
from .figure9 import figure9
from .table1 import table1
from .table2 import table2
from .table3 import table3
from .table4 import table4
from .table5 import table5
from .table6 import table6
from .table7 import table7
from .table8 import table8

EXPERIMENTS: dict[str, Callable[[Plan], Step]] = {
    "table1": table1,
    "table2": table2,
    "figure3": figure3,
    "figure2": figure2,
    "table3": table3,
    "figure4": figure4,
    "figure5_left": figure5_left,
    "figure5_right": figure5_right,
    "table4": table4,
    "table5": table5,
    "table6": table6,
    "table7": table7,
    "table8": table8,
    "figure9": figure9,
    "pictures": pictures,
    "fluency": fluency,
    "sharpening": sharpening,
    "ranks": ranks,
    "dimensions": dimensions,
    "calibration": calibration,
    "decoding": decoding,
    "memorization": memorization,
    "seeds": seeds,
    "figure1": figure1,
}
"""In the order of the report."""

ALIASES = {
    "figure5": ["figure5_left", "figure5_right"],
    "figure6": ["pictures"],
    "figure10": ["pictures"],
    "figure11": ["pictures"],
}

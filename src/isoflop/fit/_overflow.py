"""How fits treat numbers that leave double precision: they become infinite or NaN in silence, and are checked where they come out.

A resample, or a run with a loss of 1e300, may take squares and exponentials there. Such a row determines no law: it is left out and counted, or the fit is
refused in words. A warning of NumPy would speak of arrays to people who gave runs.
"""

import numpy as np

unwarned = np.errstate(over="ignore", divide="ignore", invalid="ignore")

"""Gradient-boosted trees by xgboost, on encoded columns. Source: Chen and Guestrin, KDD 2016."""

from collections.abc import Mapping

import numpy as np

from mlops_core.data.examples import Examples
from mlops_core.data.features import FeatureSpec, Floats
from mlops_core.ports import Fitted, Task

"""All scenarios, by theme: a new module of them is named here."""

import scenarios_boot
import scenarios_power
import scenarios_use
from scenario import EVERY

THEMES = (scenarios_boot, scenarios_use, scenarios_power)
__all__ = ["EVERY"]

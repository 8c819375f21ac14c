"""All scenarios, by theme: a new module of them is named here."""

import scenarios_boot
import scenarios_clock
import scenarios_power
import scenarios_readme
import scenarios_renewal
import scenarios_secrets
import scenarios_suspend
import scenarios_system
import scenarios_target
import scenarios_use
import scenarios_year
from scenario import EVERY

THEMES = (
    scenarios_boot,
    scenarios_use,
    scenarios_target,
    scenarios_system,
    scenarios_clock,
    scenarios_secrets,
    scenarios_power,
    scenarios_renewal,
    scenarios_suspend,
    scenarios_year,
    scenarios_readme,
)
__all__ = ["EVERY"]

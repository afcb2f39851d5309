"""The search: one Optuna study, asked and told by one driver, whose trials run on Ray Tune.

Ray reads its environment when it is imported, so it is set here: nothing is reported to anyone, Tune leaves
signals, logs and its own checkpoints alone, and a trial that is given no GPU sees none.
"""

from __future__ import annotations

import os

os.environ.update(
    RAY_USAGE_STATS_ENABLED="0",
    RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="1",
    TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",
    TUNE_DISABLE_SIGINT_HANDLER="1",
    TUNE_WARN_THRESHOLD_S="30",
    TUNE_GLOBAL_CHECKPOINT_S="100000",
    RAY_AIR_NEW_OUTPUT="0",
    RAY_worker_niceness="0",  # at Ray's 15, any other process starves the trials, and with them the budget
)

"""The allowed values of the objective's settings; settings read them without importing torch."""

CLDICE_SCHEDULES = ("fixed", "ramp", "adaptive")
TARGET_SKELETONS = ("hard", "soft")

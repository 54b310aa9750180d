"""From stored scores to figures: per-class metrics, calibration, intervals and significance."""

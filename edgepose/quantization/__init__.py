"""INT8: calibration, ranges, Q/DQ graphs and the search for what stays in float."""

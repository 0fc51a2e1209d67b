"""Metrics: functions of features, predictions or images."""

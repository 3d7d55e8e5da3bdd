"""Voltage: a ringing circuit loaded by a transistor."""

"""Exports: bundles of a period's events that verify offline; how they are asked for, made and given out."""

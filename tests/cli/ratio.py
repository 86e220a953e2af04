"""Fails when the parameters of a device of the second plan are more than `most` of those of the first."""
import json
import sys

one, two = (max(device["parameters"] for device in json.load(open(path))["devices"]) for path in sys.argv[1:3])
most = float(sys.argv[3])
print(f"a device holds {'at most' if two <= most * one else 'more than'} {most} of the parameters")
sys.exit(two > most * one)

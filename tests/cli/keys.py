"""Prints the shape of a plan: keys and types, the first entry of each list, and its length."""
import json
import sys


def show(value, depth):
    if isinstance(value, dict):
        print("{")
        for key in value:
            print("  " * (depth + 1) + key, end=": ")
            show(value[key], depth + 1)
        print("  " * depth + "}")
    elif isinstance(value, list):
        print(f"{len(value)} of ", end="")
        show(value[0], depth) if value else print("nothing")
    else:
        print({int: "number", float: "number", str: "text"}[type(value)])


show(json.load(open(sys.argv[1])), 0)
